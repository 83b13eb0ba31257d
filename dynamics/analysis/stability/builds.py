"""What a `build` function returns, and the equilibrium at which its method is analysed: one rule for all who take one.

`build` makes of numbers a game, an update or flow, and, if it likes, a start. The equilibrium is

1. the one that `at=` names: players, or a function of the same numbers that returns them;
2. else, of those that the game knows, the one nearest to the start, without a start the first; but a start that lies on
   another equilibrium, or right beside one, means that one;
3. else the one that Newton's method finds from the start, as `find_equilibrium` does.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dynamics import _trees
from dynamics._compiling import filter_jit_quickly
from dynamics.analysis.equilibria.newton import EquilibriumError, Search, accuracy_of, no_equilibrium, search
from dynamics.analysis.equilibria.precision import as_point
from dynamics.analysis.stability.fixed_point import check_fixed_point, not_an_equilibrium, residual_vanishes
from dynamics.analysis.stability.linearisation import Linearisation, linearise
from dynamics.analysis.stability.periods import Period
from dynamics.analysis.stability.rest import FEW_COUNTS, Repeated
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players, check_numbers
from dynamics.updates.base import COUNTER_LIMIT, Update
from dynamics.updates.with_variables import for_game

BESIDE = 0.05  # how far from an equilibrium, beside the distance to the known ones, a start still means it


class Source(enum.StrEnum):
    """Where the equilibrium comes from."""

    named = "named"  # by `at=`
    known = "known"  # by the game
    search = "search"  # by Newton's method from the start


def parts_of(built: Any) -> tuple[Game, Update | AbstractFlow, Players | None]:
    """Game, method and start, or `None`, of what `build` returned.

    Raises:
        TypeError: it is something else.
    """
    game, method, start = _typed(built)
    return game, for_game(game, method), None if start is None else as_players(start, "the start")


def check_parts(built: Any) -> None:
    """Raise what `parts_of` raises.

    Args:
        built: what `build` returned.

    Raises:
        TypeError: it is something else than it should be.
        ValueError: the start holds NaN or an infinity.
    """
    game, method, start = _typed(built)
    for_game(game, method)
    if start is not None:
        check_numbers(start, "the start")


def _typed(built: Any) -> tuple[Game, Update | AbstractFlow, Any]:
    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise TypeError(f"build returned {built!r}; expected (game, method) or (game, method, start)")
    game, method = built[:2]
    if not isinstance(game, Game):
        raise TypeError(f"the first thing build returned is {game!r}; expected a game")
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(
            f"the second thing build returned is {method!r}; expected an update (dynamics.updates) or a flow "
            "(dynamics.flows)"
        )
    return game, method, None if len(built) == 2 else built[2]


def source_of(built: Iterable[tuple[Game, Players | None]], at: Any) -> Source:
    """Where the equilibrium comes from, decided at some of the numbers, all known.

    Args:
        built: game and start at these numbers.
        at: as the caller gave it.

    Raises:
        EquilibriumError: nowhere: the game knows no equilibrium, and there is neither a start nor `at`.
    """
    if at is not None:
        return Source.named
    built = list(built)
    if all(_means_another(game, start) if game.equilibria() else start is not None for game, start in built):
        return Source.search
    for game, start in built:
        if not game.equilibria() and start is None:
            raise EquilibriumError(_UNKNOWN.format(name=type(game).__name__))
    return Source.known


def equilibrium_for(game: Game, start: Players | None, at: Players | None, source: Source) -> Search:
    """The equilibrium at which a method is analysed; traceable, a failed search is data.

    What was named or is known is accepted as it is: who linearises there looks whether it is an equilibrium.
    """
    known = () if at is not None or source is Source.search else game.equilibria()
    if at is None and not known:
        if start is None:
            raise EquilibriumError(_UNKNOWN.format(name=type(game).__name__))
        return search(_trees.cast(game, _trees.float_dtype(start)), start)
    if at is not None and start is not None:
        _like(game, start, _trees.size(at))
    players = at if at is not None else _nearest(game, known, start)
    dtype = _trees.float_dtype(players)
    nothing = jnp.zeros((), dtype)
    nothings = jnp.zeros(len(players), dtype)
    return Search(players, jnp.asarray(True), nothings, nothing, nothing, nothing, jnp.asarray(0))


def _nearest(game: Game, known: Sequence[Players], start: Players | None) -> Players:
    points = [as_players(point, "equilibria") for point in known]
    if start is None or len(points) == 1:
        return points[0]
    flat, unravel = jnp.stack([ravel_pytree(point)[0] for point in points]), ravel_pytree(points[0])[1]
    return unravel(flat[jnp.argmin(jnp.linalg.norm(flat - _like(game, start, flat.shape[1]), axis=1))])


def _like(game: Game, start: Players, size: int) -> Array:
    flat = ravel_pytree(start)[0]
    if flat.size != size:
        raise ValueError(
            f"the start has {flat.size} numbers, and an equilibrium of {type(game).__name__} has {size}; expected "
            "as many"
        )
    return flat


def _means_another(game: Game, start: Players | None) -> bool:
    """Whether a start lies on, or right beside, an equilibrium that is none of the known ones."""
    if start is None:
        return False
    points = np.stack([np.asarray(ravel_pytree(as_players(point))[0], float) for point in game.equilibria()])
    flat = np.asarray(_like(game, start, points.shape[1]))
    distance = float(np.min(np.linalg.norm(points - flat, axis=1)))
    if not distance > 0:
        return False
    game = _trees.cast(game, flat.dtype)
    directions = np.random.default_rng(0).standard_normal((3, flat.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Beside an equilibrium the field is far smaller than further off. Only then is it worth to look for one.
    around = np.concatenate([np.zeros((1, flat.size)), 0.1 * distance * directions])
    try:
        here, *there = np.asarray(_field_norms(game, start, np.asarray(flat + around, flat.dtype)))
        if not here <= 2 * BESIDE * max(there):
            return False
    except Exception:  # whatever a game without exact expectations raises
        return False
    result = search(game, start)
    return bool(result.accepted) and float(result.distance) <= BESIDE * distance


@filter_jit_quickly
def _field_norms(game: Game, like: Players, vectors: Float[Array, "points n"]) -> Float[Array, " points"]:
    """Norms of the field at players like these."""
    unravel = ravel_pytree(like)[1]
    return jax.lax.map(lambda vector: _trees.norm(game.field(unravel(vector))), vectors)


class Linearised(NamedTuple):
    """A method linearised at an equilibrium, without the probes that look for kinks."""

    linear: Linearisation
    equilibrium: Search


class Analysed(eqx.Module):
    """A `build` function and the equilibrium at which to look at what it returns.

    Attributes:
        build: the caller's function.
        at: the caller's players or function, or `None`.
        by_name: names of the numbers, where build takes them by name.
        source: where the equilibrium comes from.
        period: steps of an update that are looked at as one: those after which it repeats.
        period_start: the number of a step from which on they are.
    """

    build: Callable[..., tuple]
    at: Any
    by_name: tuple[str, ...] | None = eqx.field(static=True, default=None)
    source: Source = eqx.field(static=True, default=Source.known)
    period: int = eqx.field(static=True, default=1)
    period_start: int = eqx.field(static=True, default=COUNTER_LIMIT)

    @classmethod
    def of(
        cls, build: Callable[..., tuple], at: Any, samples: Sequence[Sequence[float] | np.ndarray], by_name: Any = None
    ) -> "Analysed":
        """Decide from samples of the numbers where the equilibrium comes from.

        Raises:
            TypeError: build returned something else than it should.
            EquilibriumError: no equilibrium is known, and there is neither a start nor `at`.
        """
        at = at if at is None or callable(at) else as_point(at, "at")
        some = cls(build, at, None if by_name is None else tuple(by_name))
        parts = [some.parts(*_numbers(sample)) for sample in samples]
        return dataclasses.replace(some, source=source_of([(game, start) for game, _, start in parts], at))

    def _call(self, function: Callable[..., Any], numbers: Sequence[Any]) -> Any:
        if self.by_name is None:
            return function(*numbers)
        return function(**dict(zip(self.by_name, numbers, strict=True)))

    def parts(self, *numbers: Any) -> tuple[Game, Update | AbstractFlow, Players | None]:
        """Game, method and start."""
        return parts_of(self._call(self.build, numbers))

    def resolved(self, *numbers: Any) -> tuple[Game, Update | AbstractFlow, Search]:
        """Game and method, in the dtype of the players, and the equilibrium; traceable."""
        game, method, start = self.parts(*numbers)
        at = self._call(self.at, numbers) if callable(self.at) else self.at
        equilibrium = equilibrium_for(game, start, None if at is None else as_point(at, "at"), self.source)
        game, method = _trees.cast((game, method), _trees.float_dtype(equilibrium.players))
        return game, Repeated(method, self.period, self.period_start) if self.period > 1 else method, equilibrium

    def over(self, period: Period) -> "Analysed":
        """The same, with this period of the method."""
        return dataclasses.replace(self, period=period.steps, period_start=period.start)

    def at_numbers(self, numbers: Sequence[float] | np.ndarray | Array) -> tuple[Game, Update | AbstractFlow, Players]:
        """Game, method and the equilibrium at known numbers.

        Raises:
            EquilibriumError: Newton's method found none.
        """
        converted = _numbers(numbers)
        game, method, equilibrium = self.resolved(*converted)
        if not equilibrium.accepted:
            raise EquilibriumError(self._failed(converted, equilibrium))
        return game, method, equilibrium.players

    def linearised(self, *numbers: Any) -> Linearised:
        """The method linearised at the equilibrium; traceable."""
        game, method, equilibrium = self.resolved(*numbers)
        linear = linearise(game, method, equilibrium.players, counts=FEW_COUNTS)
        # A method that does not come to rest has no Jacobian.
        linear = linear._replace(jacobian=jnp.where(linear.rests, linear.jacobian, jnp.nan))
        return Linearised(linear._replace(kinks=None, errors=None, rounding=None, switching=None), equilibrium)

    def check(self, linearised: Linearised, numbers: Sequence[float], method: Update | AbstractFlow) -> None:
        """Raise where there is no equilibrium.

        Raises:
            EquilibriumError: the point is none, or Newton's method found none; the message says at which numbers.
        """
        if not linearised.equilibrium.accepted:
            raise EquilibriumError(self._failed(numbers, linearised.equilibrium))
        if not np.all(np.isfinite(linearised.linear.jacobian)):
            return
        linear, players = linearised.linear, linearised.equilibrium.players
        accuracy = accuracy_of(players)
        passes, allowed = residual_vanishes(linear, players, accuracy)
        if not np.all(passes):
            raise EquilibriumError(f"at {self.shown(numbers)} {not_an_equilibrium(linear, players, passes, allowed)}")
        try:
            check_fixed_point(linear, method, players, accuracy)
        except EquilibriumError as error:
            raise EquilibriumError(f"at {self.shown(numbers)} {error}") from None

    def shown(self, numbers: Sequence[float] | Array) -> str:
        """The numbers in a message."""
        if self.by_name is None:
            return ", ".join(f"{float(number):.6g}" for number in numbers)
        return ", ".join(f"{name} = {float(number):.6g}" for name, number in zip(self.by_name, numbers, strict=True))

    def _failed(self, numbers: Sequence[float] | Array, result: Search) -> str:
        start = self.parts(*_numbers(numbers))[2]
        return (
            f"at {self.shown(numbers)} {no_equilibrium(result, start)}. Let build return a start nearer to the "
            "equilibrium, or name it with at=, players or a function of the same numbers."
        )


@eqx.filter_jit
def linearised_at(analysed: Analysed, numbers: Float[Array, "samples parameters"]) -> Linearised:
    """The method linearised at every row of numbers, in one program; arrays with a leading axis."""
    return jax.vmap(lambda row: analysed.linearised(*row))(numbers)


def row_of(rows: Any, index: int) -> Any:
    """One row of what `linearised_at` returns, on this machine."""
    return jax.tree.map(lambda leaf: leaf[index], rows)


def _numbers(values: Sequence[float] | np.ndarray | Array) -> Array:
    return jnp.asarray(values, jnp.result_type(float))


_UNKNOWN = (
    "{name} knows none of its equilibria, and build returns no start from which to look for one; return "
    "(game, method, start), or pass at=, players or a function of the same numbers as build"
)
