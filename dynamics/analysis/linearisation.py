"""The Jacobian of the exact map that is iterated, or of the flow, on the whole state."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update

COUNTER_LIMIT = 2**30  # where step counters are held: every bias correction and decay has run its course
SETTLING_STEPS = 20_000
PROBES = 8


class Linearisation(NamedTuple):
    """A map or flow near a point.

    Attributes:
        jacobian: of the map, or of the flow's field, on the players and the floating part of the memory.
        defect: norm of `map(state) - state`, or of the flow's field.
        residual: norm of the game's field at the players.
        game_jacobian: of the game's field, at the players.
        kinks: how far one-sided difference quotients disagree, at a step and at a sixteenth of it.
        errors: how far central difference quotients disagree with the Jacobian, at the same two steps.
    """

    jacobian: Float[Array, "n n"]
    defect: Array
    residual: Array
    game_jacobian: Float[Array, "m m"]
    kinks: Float[Array, "2"]
    errors: Float[Array, "2"]


def linearise(
    game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None
) -> Linearisation:
    """Linearise the method at the players, its memory at rest there; traceable."""
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    state = rest_state(game, method, players, key)
    floating, other = eqx.partition(state, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(floating)

    def function(vector: Array) -> Array:
        point = eqx.combine(unravel(vector), other)
        moved = (
            method.step(game, point, key)
            if isinstance(method, Update)
            else method.field(game, jnp.zeros((), dtype), point)
        )
        return ravel_pytree(eqx.filter(moved, eqx.is_inexact_array))[0]

    flat_players, unravel_players = ravel_pytree(players)

    def field(vector: Array) -> Array:
        return ravel_pytree(game.field(unravel_players(vector), key))[0]

    # The columns of the Jacobian and the values at the probes in one batch: one copy of the map to compile.
    # The probes move the players only: the memory follows, and parts of it (a mean square) must not be negative.
    directions = jnp.asarray(_probe_directions(flat_players.size), dtype)
    directions = jnp.pad(directions, ((0, 0), (0, flat.size - flat_players.size)))
    lengths = [step * (1 + jnp.max(jnp.abs(flat_players), initial=0)) for step in _probe_steps(dtype)]
    shifts = jnp.concatenate([sign * length * directions for length in lengths for sign in (1, -1)])
    points = jnp.concatenate([jnp.broadcast_to(flat, (flat.size, flat.size)), flat + shifts])
    tangents = jnp.concatenate([jnp.eye(flat.size, dtype=dtype), jnp.zeros_like(shifts)])
    values, columns = jax.vmap(lambda point, tangent: jax.jvp(function, (point,), (tangent,)))(points, tangents)
    value, jacobian = values[0], columns[: flat.size].T
    probed = values[flat.size :].reshape(len(lengths), 2, directions.shape[0], flat.size)
    kinks, errors = [], []
    for length, (ahead, back) in zip(lengths, probed, strict=True):
        right, left = (ahead - value) / length, (value - back) / length
        kinks.append(jnp.max(jnp.linalg.norm(right - left, axis=1)))
        errors.append(jnp.max(jnp.linalg.norm((right + left) / 2 - directions @ jacobian.T, axis=1)))
    at_players, slopes = jax.vmap(lambda tangent: jax.jvp(field, (flat_players,), (tangent,)))(
        jnp.eye(flat_players.size, dtype=dtype)
    )
    return Linearisation(
        jacobian,
        jnp.linalg.norm(value - flat if isinstance(method, Update) else value),
        jnp.linalg.norm(at_players[0]),
        slopes.T,
        jnp.stack(kinks),
        jnp.stack(errors),
    )


def rest_state(game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None) -> State:
    """The state whose memory is at rest while the players stay where they are; counters are held at their limit.

    The memory of an update is run until it no longer changes; that of a flow is solved for by Newton's method.
    """
    state = method.init(game, players)
    floating, _ = eqx.partition(state.memory, eqx.is_inexact_array)
    if not jax.tree.leaves(state.memory):
        return state
    if isinstance(method, AbstractFlow):
        return State(players, _rest_of_flow(game, method, players, floating, state.memory))

    def step(memory: PyTree) -> PyTree:
        return method.step(game, State(players, memory), key).memory

    def settle(carry):
        # One copy of the step serves all phases: three real steps settle flags such as "is this the first step" and
        # show which integers count steps; these are then held at their limit. Moving averages approach their rest
        # geometrically: Aitken's formula on the next three finds it at once, and the rest of the loop refines it.
        index, _, memory, before = carry
        new = method.step(game, State(players, memory), key).memory

        def leaf(new: Array, now: Array, before: Array) -> Array:
            if jnp.issubdtype(jnp.result_type(new), jnp.integer):
                counts = (new - now == 1) & (now - before == 1)
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
    return State(players, jax.lax.while_loop(moving, settle, start)[2])


def _rest_of_flow(game, flow, players, floating, memory) -> PyTree:
    flat, unravel = ravel_pytree(floating)
    _, other = eqx.partition(memory, eqx.is_inexact_array)

    def rate(vector: Array) -> Array:
        state = State(players, eqx.combine(unravel(vector), other))
        change = flow.field(game, jnp.zeros(()), state).memory
        return ravel_pytree(eqx.filter(change, eqx.is_inexact_array))[0]

    def newton(_, vector):
        return vector - jnp.linalg.lstsq(jax.jacfwd(rate)(vector), rate(vector))[0]

    return eqx.combine(unravel(jax.lax.fori_loop(0, 10, newton, flat)), other)


def _probe_directions(size: int) -> np.ndarray:
    directions = np.random.default_rng(0).standard_normal((PROBES, size))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _probe_steps(dtype) -> tuple[float, float]:
    step = float(jnp.finfo(dtype).eps) ** (1 / 3)
    return 16 * step, step


def is_smooth(linearisation: Linearisation) -> str:
    """`smooth`, `kinked`, `discontinuous` or `stiff` (the Jacobian holds in a tiny neighbourhood only).

    Of a smooth map both disagreements shrink in proportion to the step, or faster; at a kink the one-sided slopes stay
    apart; at a jump difference quotients grow like one over the step; a map with a scale far below the step differs
    from its Jacobian at every step taken.
    """
    size = 1 + float(np.linalg.norm(linearisation.jacobian))
    rounding = 1e-4 if linearisation.jacobian.dtype == np.float64 else 2e-2
    (coarse, fine), (wrong, still_wrong) = np.asarray(linearisation.kinks), np.asarray(linearisation.errors)
    if not np.all(np.isfinite(linearisation.jacobian)):
        return "not differentiable"
    if max(fine, still_wrong) > rounding * size and (fine > 4 * coarse or still_wrong > 4 * wrong):
        return "discontinuous"
    if fine > rounding * size and fine > coarse / 4:
        return "kinked"
    if still_wrong > rounding * size and still_wrong > wrong / 4:
        return "stiff"
    return "smooth"
