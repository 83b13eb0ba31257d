from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._checks import check_kind
from dynamics._names import nearest
from dynamics.game import Game, Players, variables_of, with_variables
from dynamics.optimisers import sgd
from dynamics.updates.alternating import Alternating
from dynamics.updates.base import State, ThreadedUpdate, Update, threaded_step
from dynamics.updates.formats import Format as Format
from dynamics.updates.formats import as_format, round_to, with_arithmetic

Rounding = Literal["nearest", "stochastic"]


class Rounded(ThreadedUpdate):
    r"""An update in finite precision: $x^+ = R(F(x))$, with every number of the state rounded to a format.

    What is rounded: the players, each to its own format, and the floating part of the memory (momenta, mean squares) to
    the format of `memory`, once at the start and after every step. With `arithmetic` also the result of every operation
    within a step, that of the gradients included, to the nearest number of that format; sums and matrix products are
    added up in full and rounded once. What is not rounded: the numbers of game and method (data, rates, running means),
    and, without `arithmetic`, everything inside a step. Weights in bfloat16 are `Rounded(update, "bfloat16")`, mixed
    precision with master weights in float32 is `Rounded(update, "float32", arithmetic="bfloat16")`.

    Formats are simulated: players must be of a finer type than they are, float64 for "float32", whose operations are
    then correctly rounded.

    Rounding is constant between its jumps. Its derivative here is that of the identity, and the analysis (`stability`,
    `critical`, predictions of sweeps) judges the map without rounding, and says so; what rounding adds to that is a
    floor, `dynamics.rounding_floor`, and steps that move nothing: to the nearest, a step below half the distance of
    neighbours does, the run is `stalled`. Stochastic rounding moves with the probability that is right on average.
    Sources: Higham and Pranesh, Simulating Low Precision Floating-Point Arithmetic, 2019; stochastic rounding for
    training: Gupta, Agrawal, Gopalakrishnan, Narayanan, Deep Learning with Limited Numerical Precision, 2015.

    Args:
        inner_update: the update in full precision.
        formats: of the players, one for all or one each: "bfloat16", "float16", "float32", "float64", a number of
            significand bits (with the exponents of float64), or a `Format`; numbers may be traced.
        arithmetic: the format of operations, or `None`.
        memory: the format of the memory; `None`: it is left as it is. Default: the format of the first player.
        rounding: of the state, "nearest", ties to even, or "stochastic", which needs a key in every step.
        exact: the inner update gets no key: it takes exact expectations, and the key is for rounding alone.

    Raises:
        ValueError: no format, an unknown one, or an unknown way of rounding; when called, neither one format nor one
            per player, or stochastic rounding without a key.
        TypeError: the inner update is none.

    >>> import jax.numpy as jnp, optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = Rounded(Simultaneous(optax.sgd(0.0009), optax.sgd(0.25)), "bfloat16")
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]  # 0.9982 is nearer to 1 than to 1 - 1/256
    [1.0, 2.25]
    """

    inner_update: Update
    formats: tuple[Format, ...]
    arithmetic: Format | None
    memory: Format | None
    rounding: Rounding = eqx.field(static=True)
    exact: bool = eqx.field(static=True)

    def __init__(
        self,
        inner_update: Update,
        *formats: Any,
        arithmetic: Any = None,
        memory: Any = "as players",
        rounding: Rounding = "nearest",
        exact: bool = False,
    ):
        if not formats:
            raise ValueError('Rounded has no format; expected one for all players or one each, e.g. "bfloat16"')
        self.inner_update = inner_update
        self.formats = tuple(map(as_format, formats))
        self.arithmetic = None if arithmetic is None else as_format(arithmetic)
        same = isinstance(memory, str) and memory == "as players"
        self.memory = self.formats[0] if same else None if memory is None else as_format(memory)
        self.rounding = rounding
        self.exact = exact

    def __check_init__(self):
        check_kind(self, "inner_update", Update, "Simultaneous(optax.sgd(0.1), optax.sgd(0.1))")
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(
                f"Rounded.rounding is {self.rounding!r}{nearest(str(self.rounding), ('nearest', 'stochastic'))}"
            )

    def init(self, game: Game, players: Players) -> State:
        state = self.inner_update.init(game, self._rounded_players(players, None))
        return State(state.players, self._rounded_memory(state.memory, None))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        return self.threaded_step(game, state, key)[0]

    def threaded_step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> tuple[State, Game]:
        rounding = None
        if self.rounding == "stochastic":
            if key is None:
                raise ValueError(
                    "stochastic rounding needs a key; pass key=jax.random.key(0), or use rounding='nearest'"
                )
            rounding = jax.random.fold_in(key, 1)
        inner_key = None if self.exact else key

        def step(players: Players, memory: PyTree) -> tuple[Players, PyTree, PyTree]:
            after, moved = threaded_step(self.inner_update, game, State(players, memory), inner_key)
            return after.players, after.memory, variables_of(moved)

        if self.arithmetic is not None:
            step = with_arithmetic(step, self.arithmetic)
        players, memory, variables = step(state.players, state.memory)
        of_players, of_memory = (None, None) if rounding is None else jax.random.split(rounding)
        after = State(self._rounded_players(players, of_players), self._rounded_memory(memory, of_memory))
        return after, with_variables(game, variables)

    def _rounded_players(self, players: Players, key: PRNGKeyArray | None) -> Players:
        if len(self.formats) not in (1, len(players)):
            raise ValueError(
                f"Rounded has {len(self.formats)} formats for {len(players)} players; expected one, or one per player"
            )
        formats = self.formats * len(players) if len(self.formats) == 1 else self.formats
        return tuple(
            _rounded(parameters, format, None if key is None else jax.random.fold_in(key, player))
            for player, (parameters, format) in enumerate(zip(players, formats, strict=True))
        )

    def _rounded_memory(self, memory: PyTree, key: PRNGKeyArray | None) -> PyTree:
        if self.memory is None:
            return memory
        return _rounded(memory, self.memory, key)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        rates = (0.1 / (1 + player) for player in range(players))
        return cls(Alternating(*(sgd(rate) for rate in rates)), "float64", memory=None)


def _all_rounded(method: Any) -> list[Rounded]:
    nodes = jax.tree.leaves(method, is_leaf=lambda node: isinstance(node, Rounded))
    return [node for node in nodes if isinstance(node, Rounded)]


def is_rounded(method: Any) -> bool:
    """Whether an update in finite precision is part of a method."""
    return bool(_all_rounded(method))


def is_drawn(method: Any) -> bool:
    """Whether a part of a method rounds at random, and needs a key."""
    return any(node.rounding == "stochastic" or is_drawn(node.inner_update) for node in _all_rounded(method))


def unrounded(method: Any) -> Any:
    """A method with all its updates in full precision."""
    return jax.tree.map(
        lambda node: unrounded(node.inner_update) if isinstance(node, Rounded) else node,
        method,
        is_leaf=lambda node: isinstance(node, Rounded),
    )


def _rounded(tree: PyTree, format: Format, key: PRNGKeyArray | None) -> PyTree:
    """The floating leaves of a tree rounded, each with draws of its own."""
    leaves, structure = jax.tree.flatten(tree)

    def one(number: int, leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf):
            return leaf
        return round_to(leaf, format, None if key is None else jax.random.fold_in(key, number)).astype(leaf.dtype)

    return jax.tree.unflatten(structure, [one(number, leaf) for number, leaf in enumerate(leaves)])
