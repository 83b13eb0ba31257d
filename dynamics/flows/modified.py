import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number, check_whole, is_concrete
from dynamics.compiler.derivatives import released
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, ShiftedGradients, as_callable
from dynamics.optimisers import sgd
from dynamics.updates import Alternating, ProximalPoint
from dynamics.updates.base import COUNTER_LIMIT, State, Update


class ModifiedFlow(AbstractFlow):
    r"""The flow that an update really follows, up to a power of its step: backward error analysis.

    $\dot x = c_1(x) + h\,c_2(x) + \dots + h^p\,c_{p+1}(x)$, such that time h of the flow is one step of the update up
    to $O(h^{p+2})$, and a fixed time of it many steps up to $O(h^{p+1})$. With $p = 0$ it is the plain flow, with
    $p = 1$ it holds the drift of Rosca et al. The coefficients are those of the logarithm of the map: with the orbit
    $x_0 = x, x_1, \dots$ of the update with step $\epsilon$,
    $\sum_{m=1}^{p+1}\frac{(-1)^{m+1}}m\Delta^m x_0 = \sum_{k=1}^{p+1}\epsilon^k c_k(x) + O(\epsilon^{p+2})$, and they
    are read off by differentiating p + 1 times in $\epsilon$ at 0, by automatic differentiation. The series is
    asymptotic: for a given step there is an order beyond which further terms do not help.

    An update with memory (momentum, the optimistic method, Adam) follows a flow of the players once its memory has
    forgotten the start and lies on a slow manifold, where it changes as slowly as the players do. It is found order by
    order in $\epsilon$ from $\Delta^n m = O(\epsilon^n)$ along the orbit: with the memory's own step S,
    $m \leftarrow m - (\partial_m S - I)^{-n}\Delta^n m$ for n = 2, ..., p + 1 from the rest at $\epsilon = 0$ gains an
    order each time. The matrix is a dense one of the size of the memory. Step counters are held at their limit.

    Source: Hairer, Lubich, Wanner, Geometric Numerical Integration, 2006, chapter IX; Rosca et al., Discretization
    Drift in Two-Player Games, 2021, theorems 3.1 and 3.2, here in common time for unequal rates; for the slow
    manifold Gear, Kaper, Kevrekidis, Zagaris, Projecting to a Slow Manifold, 2005.

    Args:
        build: function from the step to an update, for instance `lambda h: Simultaneous(sgd(h), sgd(2 * h))`. Every
            rate is in proportion to the step, so that the update with step 0 moves nobody. The update needs p + 1
            exact derivatives. Other numbers in it are constants of the compiled program, unless the function is a
            module that holds them.
        step: h, > 0.
        order: p, >= 0. Every order takes several times as long to compile as the one before.

    Raises:
        TypeError: `build` is no function, or returns no update.
        ValueError: a number is out of bounds; the update with step 0 moves the players (here, or with other gradients),
            or its memory does not settle while the players stand still; an order above 0 for `ProximalPoint`.

    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> flow = ModifiedFlow(lambda h: Simultaneous(sgd(h), sgd(h)), 0.5)
    >>> state = flow.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in flow.field(Bilinear(1.0), jnp.asarray(0.0), state).players]
    [-1.75, 1.5]
    """

    build: Callable[[Array], Update]
    step: Array
    order: int = eqx.field(static=True)

    def __init__(self, build: Callable[[Array], Update], step: Any, order: int = 1):
        self.build = as_callable(build, "build")
        self.step = as_leaf(step)
        self.order = order

    def __check_init__(self):
        check_number(self, "step", above=0)
        check_whole(self, "order", 0)

    def init(self, game: Game, players: Players) -> State:
        moved, tilted, unsettled = _defects(self, game, players)
        if is_concrete((moved, tilted, unsettled)):
            tolerance = float(jnp.finfo(moved.dtype).eps) ** 0.5
            if not float(unsettled) <= tolerance:
                raise ValueError(
                    f"the memory of the update does not settle while the players stand still (defect "
                    f"{float(unsettled):.3g}); expected one that forgets. Without a slow manifold of the memory there "
                    "is no flow of the players alone."
                )
            if not float(moved) <= tolerance or float(tilted) > tolerance:
                how = f"{float(moved):.3g}" if not float(moved) <= tolerance else f"{float(tilted):.3g} per gradient"
                raise ValueError(
                    f"the update with step 0 moves the players by {how}, relative to their size; expected "
                    "an update that then stands still. Scale every rate with the step, e.g. "
                    "lambda h: Simultaneous(sgd(h), sgd(2 * h))."
                )
        return State(players, ())

    def field(self, game: Game, time: Array, state: State) -> State:
        terms = self.terms(game, state.players)
        total = terms[-1]
        for term in reversed(terms[:-1]):
            total = _trees.add_scaled(term, self.step, total)
        return State(total, ())

    def terms(self, game: Game, players: Players) -> tuple[Players, ...]:
        r"""The coefficients $c_1, \dots, c_{p+1}$ at the players, each a tuple of the shape of `players`.

        They do not depend on the step; $c_1$ is the plain flow. They are not a number where the update with step 0
        moves the players.
        """
        return _terms(self, game, players)

    @classmethod
    def example(cls, players: int = 2) -> AbstractFlow:
        return cls(_Descent(players), 0.1)


class _Descent(eqx.Module):
    """Alternating descent with unequal rates, for the catalogue."""

    players: int = eqx.field(static=True)

    def __call__(self, step: Array) -> Update:
        return Alternating(*(sgd((1 + player) * step) for player in range(self.players)))


@eqx.filter_jit
def _terms(flow: ModifiedFlow, game: Game, players: Players) -> tuple[Players, ...]:
    # Compiled on its own, as the field of a game is; and inside, no number is one that can be looked at.
    zero = _zero(flow, players)
    memory = _Memory(flow, game, players, zero)
    flat, unravel = ravel_pytree(players)

    def logarithm(step: Array) -> Array:
        update = _update(flow, step)
        state = State(players, memory.at(update, flow.order))
        total = jnp.zeros_like(flat)
        for j in range(1, flow.order + 2):
            state = update.step(game, state)
            # The alternating sum of all differences, collected by points of the orbit.
            weight = (-1) ** (j + 1) * math.comb(flow.order + 1, j) / j
            total = total + weight * (ravel_pytree(state.players)[0] - flat)
        return total

    nothing, *derivatives = _derivatives(logarithm, flow.order + 1, zero)
    tilted, _ = _motion(flow, _tilted(game, players), players)
    moves = (jnp.max(jnp.abs(nothing), initial=0) > _tolerance(flat)) | (tilted > jnp.finfo(flat.dtype).eps ** 0.5)
    return tuple(
        unravel(jnp.where(moves, jnp.nan, derivative / math.factorial(k)))
        for k, derivative in enumerate(derivatives, start=1)
    )


@eqx.filter_jit
def _defects(flow: ModifiedFlow, game: Game, players: Players) -> tuple[Array, Array, Array]:
    """How far the update with step 0 moves the players, as it is and with gradients moved by 1, and its memory."""
    moved, unsettled = _motion(flow, game, players)
    return moved, _motion(flow, _tilted(game, players), players)[0], unsettled


def _tilted(game: Game, players: Players) -> Game:
    return ShiftedGradients(game, players, (1,) * len(players))


def _motion(flow: ModifiedFlow, game: Game, players: Players) -> tuple[Array, Array]:
    """How far the update with step 0 moves the players, and the memory that ought to rest; relative."""
    zero = _zero(flow, players)
    memory = _Memory(flow, game, players, zero)
    after, new = memory.advance(_update(flow, zero), players, memory.rest)
    before = ravel_pytree(players)[0]
    moved = jnp.max(jnp.abs(ravel_pytree(after)[0] - before), initial=0) / (1 + jnp.max(jnp.abs(before), initial=0))
    gap = jnp.max(jnp.abs(new - memory.rest), initial=0) / (1 + jnp.max(jnp.abs(new), initial=0))
    return moved, gap.astype(moved.dtype)


class _Memory:
    """The floating memory of the update near the players: at rest for step 0, and on the slow manifold."""

    def __init__(self, flow: ModifiedFlow, game: Game, players: Players, zero: Array):
        self.game, self.players = game, players
        standing = _update(flow, zero)
        memory = _settle_flags(standing, game, players)
        floating, self.other = eqx.partition(memory, eqx.is_inexact_array)
        self.rest, self.unravel = ravel_pytree(floating)
        self.inverse: Float[Array, "n n"] = jnp.zeros((self.rest.size,) * 2, self.rest.dtype)
        if not self.rest.size:
            return

        def change(vector: Array) -> Array:
            return self.advance(standing, players, vector)[1] - vector

        for _ in range(2):  # Newton's method: the memory is a linear recursion, or linear in one part after the other
            self.inverse = -jnp.linalg.inv(jax.jacfwd(released(change))(self.rest))
            self.rest = self.rest + self.inverse @ change(self.rest)

    def advance(self, update: Update, players: Players, vector: Array) -> tuple[Players, Array]:
        """One step of players and floating memory."""
        state = State(players, eqx.combine(self.unravel(vector), self.other))
        after = update.step(self.game, state)
        return after.players, ravel_pytree(eqx.filter(after.memory, eqx.is_inexact_array))[0]

    def at(self, update: Update, order: int) -> PyTree:
        """The memory on the slow manifold over the players, up to an error of this order + 1 in the step."""
        memory = self.rest
        for n in range(2, order + 2 if memory.size else 2):
            # Off the manifold by an error e the difference is (S' - I)^n e, to leading order in the step.
            difference = self._difference(update, memory, n)
            memory = memory - (-1) ** n * jnp.linalg.matrix_power(self.inverse, n) @ difference
        return eqx.combine(self.unravel(memory), self.other)

    def _difference(self, update: Update, memory: Array, n: int) -> Array:
        """The n-th forward difference of the floating memory along the orbit."""
        players, total = self.players, (-1) ** n * memory
        for j in range(1, n + 1):
            players, memory = self.advance(update, players, memory)
            total = total + (-1) ** (n - j) * math.comb(n, j) * memory
        return total


def _settle_flags(update: Update, game: Game, players: Players) -> PyTree:
    """The memory after a few steps, which settle flags such as "is this the first step"; counters at their limit."""
    memory = jax.tree.map(jnp.asarray, update.init(game, players).memory)
    if all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(memory)):
        return memory
    seen = [memory]
    for _ in range(3):
        seen.append(update.step(game, State(players, seen[-1])).memory)

    def leaf(before: Array, now: Array, new: Array) -> Array:
        if not jnp.issubdtype(jnp.result_type(new), jnp.integer):
            return new
        counts = (new - now == 1) & (now - before == 1)
        return jnp.where(counts, jnp.asarray(COUNTER_LIMIT, jnp.result_type(new)), new)

    return jax.tree.map(leaf, *seen[1:])


def _update(flow: ModifiedFlow, step: Array) -> Update:
    update = flow.build(step)
    if not isinstance(update, Update):
        raise TypeError(f"build returned {update!r}; expected an update, e.g. Simultaneous(sgd(h), sgd(2 * h))")
    if isinstance(update, ProximalPoint) and flow.order > 0:
        raise ValueError(
            f"order is {flow.order}, but of ProximalPoint only the first derivative is exact, which is the order 0; "
            "use order=0, or an explicit update"
        )
    return update


def _zero(flow: ModifiedFlow, players: Players) -> Array:
    return (0 * flow.step).astype(_trees.float_dtype(players))


def _tolerance(flat: Array) -> Array:
    return jnp.finfo(flat.dtype).eps ** 0.5 * (1 + jnp.max(jnp.abs(flat), initial=0))


def _derivatives(function: Callable[[Array], Array], order: int, at: Array) -> tuple[Array, ...]:
    """The function and its derivatives up to an order, at a number."""

    def differentiated(lower: Callable[[Array], tuple[Array, ...]]) -> Callable[[Array], tuple[Array, ...]]:
        def both(number: Array) -> tuple[Array, ...]:
            values, slopes = jax.jvp(lower, (number,), (jnp.ones_like(number),))
            return (*values, slopes[-1])

        return both

    def lifted(number: Array) -> tuple[Array, ...]:
        return (released(function)(number),)

    derivatives: Callable[[Array], tuple[Array, ...]] = lifted
    for _ in range(order):
        derivatives = differentiated(derivatives)
    return derivatives(at)
