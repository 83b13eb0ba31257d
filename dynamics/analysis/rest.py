"""The memory of a method at rest, while the players stay where they are."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics.compiler.derivatives import released
from dynamics.flows.base import AbstractFlow
from dynamics.game import FunctionGame, Game, Losses, Players
from dynamics.updates.base import State, Update

COUNTER_LIMIT = 2**30  # where step counters are held: every bias correction and decay has run its course
SETTLING_STEPS = 20_000


def rest_state(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    gradient_noise: tuple[Array, ...] | None = None,
) -> State:
    """The state whose memory is at rest while the players stay where they are; counters are held at their limit.

    The memory of an update is run until it no longer changes; that of a flow is solved for by Newton's method. With
    gradient noise of standard deviation s the gradients alternate between +s and -s around their value, which leaves
    averages of gradients where they are and adds s^2 to averages of their squares: the mean of a memory under noise.
    """
    state = method.init(game, players)
    floating, _ = eqx.partition(state.memory, eqx.is_inexact_array)
    if not jax.tree.leaves(state.memory):
        return state
    if isinstance(method, AbstractFlow):
        return State(players, _rest_of_flow(game, method, players, floating, state.memory))

    def step(memory: PyTree, sign: int) -> PyTree:
        shaken = game if gradient_noise is None else ShiftedGradients(game, players, gradient_noise, sign)
        return method.step(shaken, State(players, memory), key).memory

    def advance(memory: PyTree) -> PyTree:
        return step(memory, 1) if gradient_noise is None else step(step(memory, 1), -1)

    stride = 1 if gradient_noise is None else 2

    def settle(carry):
        # One copy of the step serves all phases: three real steps settle flags such as "is this the first step" and
        # show which integers count steps; these are then held at their limit. Moving averages approach their rest
        # geometrically: Aitken's formula on the next three finds it at once, and the rest of the loop refines it.
        index, _, memory, before = carry
        new = advance(memory)

        def leaf(new: Array, now: Array, before: Array) -> Array:
            if jnp.issubdtype(jnp.result_type(new), jnp.integer):
                counts = (new - now == stride) & (now - before == stride)
                limit = jnp.where(counts, jnp.asarray(COUNTER_LIMIT, jnp.result_type(new)), new)
                return jnp.where(index < 2, new, jnp.where(index == 2, limit, now))
            if not jnp.issubdtype(jnp.result_type(new), jnp.floating):
                return new
            change, bend = new - now, (new - now) - (now - before)
            clear = (index == 5) & (jnp.abs(bend) > 1e3 * jnp.finfo(new.dtype).eps * jnp.abs(new))
            return new - jnp.where(clear, change**2 / jnp.where(clear, bend, 1), 0)

        new = jax.tree.map(leaf, new, memory, before)
        gaps = [
            jnp.max(jnp.abs(a - b) - 2 * jnp.finfo(a.dtype).eps * jnp.abs(a), initial=-1)
            for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(memory), strict=True)
            if jnp.issubdtype(jnp.result_type(a), jnp.floating)
        ]
        moved = jnp.any(jnp.stack(gaps) > jnp.finfo(jnp.float32).tiny) if gaps else jnp.asarray(False)
        return index + 1, moved | (index < 6), new, memory

    def moving(carry):
        index, changed, *_ = carry
        return changed & (index < SETTLING_STEPS)

    memory = jax.tree.map(jnp.asarray, state.memory)
    start = (jnp.asarray(0), jnp.asarray(True), memory, memory)
    memory = jax.lax.while_loop(moving, settle, start)[2]
    if gradient_noise is not None:
        between = step(memory, 1)
        floats = jnp.floating
        memory = jax.tree.map(
            lambda a, b: (a + b) / 2 if jnp.issubdtype(jnp.result_type(a), floats) else a, memory, between
        )
    return State(players, memory)


class ShiftedGradients(Game):
    """A game whose gradients are moved by a constant of either sign; at the point itself the losses are the same."""

    game: Game
    point: Players
    noise: tuple[Array, ...]
    sign: int = eqx.field(static=True)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        def pull(player: int) -> Array:
            moved = jax.tree.map(lambda a, b: jnp.sum(a - b), players[player], self.point[player])
            return self.sign * self.noise[player] * sum(jax.tree.leaves(moved))

        return tuple(loss + pull(player) for player, loss in enumerate(self.game.losses(players, key)))

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game, players = FunctionGame.example()
        return cls(game, players, (jnp.asarray(0.1),) * len(players), 1), players


def above_zero(leaf: Array) -> Array:
    if not eqx.is_inexact_array(leaf):
        return leaf
    smallest = 2.0**20 * float(jnp.finfo(leaf.dtype).tiny)  # its square root vanishes beside any eps in use
    return jnp.where(leaf == 0, jnp.asarray(smallest, leaf.dtype), leaf)


def _rest_of_flow(game, flow, players, floating, memory) -> PyTree:
    flat, unravel = ravel_pytree(floating)
    _, other = eqx.partition(memory, eqx.is_inexact_array)

    def rate(vector: Array) -> Array:
        state = State(players, eqx.combine(unravel(vector), other))
        change = flow.field(game, jnp.zeros(()), state).memory
        return ravel_pytree(eqx.filter(change, eqx.is_inexact_array))[0]

    def newton(_, vector):
        return vector - jnp.linalg.lstsq(jax.jacfwd(released(rate))(vector), rate(vector))[0]

    return eqx.combine(unravel(jax.lax.fori_loop(0, 10, newton, flat)), other)
