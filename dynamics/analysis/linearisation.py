"""The Jacobian of the exact map that is iterated, or of the flow, on the whole state."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics.analysis.rest import ShiftedGradients, above_zero, rest_state
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update

PROBES = 8


class Linearisation(NamedTuple):
    """A map or flow near a point.

    Attributes:
        jacobian: of the map, or of the flow's field, on the players and the floating part of the memory.
        defect: norm of `map(state) - state`, or of the flow's field.
        residual: norm of the game's field at the players.
        game_jacobian: of the game's field, at the players.
        kinks: how far one-sided difference quotients disagree, at a step and at a sixteenth of it, by coordinate and in
            units of what rounding explains.
        errors: how far central difference quotients disagree with the Jacobian, likewise.
    """

    jacobian: Float[Array, "n n"]
    defect: Array
    residual: Array
    game_jacobian: Float[Array, "m m"]
    kinks: Float[Array, "2 n"]
    errors: Float[Array, "2 n"]


def linearise(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    *,
    gradient_noise: tuple[Array, ...] | None = None,
    limit: bool = True,
) -> Linearisation:
    """Linearise the method at the players, its memory at rest there; traceable.

    Args:
        game, method, players, key: as in `dynamics.stability`.
        gradient_noise: standard deviation of noise in the gradients, one per player: the memory rests where it keeps it
            on average, and the map is the mean over noise of either sign.
        limit: take memory that rests at 0 as the limit from above. Adam's memory of squared gradients is under a square
            root, which has no derivative at 0; the map has one in the limit.
    """
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    state = rest_state(game, method, players, key, _trees.cast(gradient_noise, dtype))
    if limit:
        state = State(state.players, jax.tree.map(above_zero, state.memory))
    flat, moved = _on_vectors(method, state, key)

    def function(vector: Array) -> Array:
        if gradient_noise is None:
            return moved(game, vector)
        ahead, back = (moved(ShiftedGradients(game, players, gradient_noise, sign), vector) for sign in (1, -1))
        return (ahead + back) / 2

    flat_players, unravel_players = ravel_pytree(players)

    def field(vector: Array) -> Array:
        return ravel_pytree(game.field(unravel_players(vector), key))[0]

    # The columns of the Jacobian and the values at the probes in one batch: one copy of the map to compile. The probes
    # move players, also those that a wrapping update keeps in its memory; other memory follows, and parts of it (a mean
    # square) must not be negative.
    is_player = player_coordinates(state)
    directions = jnp.asarray(_probe_directions(is_player), dtype)
    reach = 1 + jnp.sqrt(jnp.abs(flat))  # a shift by far less than a coordinate's rounding would show nothing
    lengths = _probe_steps(dtype)
    epsilon = float(jnp.finfo(dtype).eps)
    tiny = 64 * epsilon * reach * directions  # so small that what is not linear there is rounding
    shifts = jnp.concatenate([*(sign * length * reach * directions for length in lengths for sign in (1, -1)), tiny])
    points = jnp.concatenate([jnp.broadcast_to(flat, (flat.size, flat.size)), flat + shifts])
    tangents = jnp.concatenate([jnp.eye(flat.size, dtype=dtype), jnp.zeros_like(shifts)])
    values, columns = jax.vmap(lambda point, tangent: jax.jvp(function, (point,), (tangent,)))(points, tangents)
    value, jacobian = values[0], columns[: flat.size].T
    probed = values[flat.size :].reshape(2 * len(lengths) + 1, directions.shape[0], flat.size)
    expected = (reach * directions) @ jacobian.T
    # What rounding makes of a value and of a difference quotient, coordinate by coordinate; a jump is no rounding.
    noise = jnp.max(jnp.abs(probed[-1] - value - tiny @ jacobian.T), axis=0, initial=0)
    noise = jnp.minimum(8 * noise, epsilon**0.75 * (1 + jnp.abs(value)))
    noise = noise + 64 * epsilon * (jnp.abs(value) + jnp.abs(jacobian) @ jnp.abs(flat))
    rounding = 64 * epsilon * (jnp.abs(jacobian) @ reach) + noise / lengths[-1]
    rounding = jnp.maximum(rounding, jnp.finfo(dtype).tiny)
    kinks, errors = [], []
    for index, length in enumerate(lengths):
        ahead, back = probed[2 * index], probed[2 * index + 1]
        right, left = (ahead - value) / length, (value - back) / length
        kinks.append(jnp.max(jnp.abs(right - left) / rounding, axis=0, initial=0))
        errors.append(jnp.max(jnp.abs((right + left) / 2 - expected) / rounding, axis=0, initial=0))
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


def jacobian_of(
    game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None
) -> Float[Array, "n n"]:
    """The Jacobian of the map or of the flow's field alone, as in `linearise` but without its probes; traceable."""
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    state = rest_state(game, method, players, key)
    flat, moved = _on_vectors(method, State(state.players, jax.tree.map(above_zero, state.memory)), key)
    return jax.jacfwd(lambda vector: moved(game, vector))(flat)


def _on_vectors(
    method: Update | AbstractFlow, state: State, key: PRNGKeyArray | None
) -> tuple[Array, Callable[[Game, Array], Array]]:
    """The floating part of a state as a vector, and the map or the flow's field as a function of game and vector."""
    floating, other = eqx.partition(state, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(floating)

    def moved(game: Game, vector: Array) -> Array:
        point = eqx.combine(unravel(vector), other)
        new = (
            method.step(game, point, key)
            if isinstance(method, Update)
            else method.field(game, jnp.zeros((), vector.dtype), point)
        )
        return ravel_pytree(eqx.filter(new, eqx.is_inexact_array))[0]

    return flat, moved


@eqx.filter_jit
def moved_memory(game, update, players, key, gradient_noise, directions: Float[Array, "k n"]) -> Float[Array, " k"]:
    """How far one step moves the rest state whose memory was shifted by each of the directions, relative to the shift.

    The directions are on the floating part of the state. A memory such as a running maximum stays wherever it is put.
    """
    dtype = _trees.float_dtype(players)
    game, update = _trees.cast((game, update), dtype)
    state = rest_state(game, update, players, key, _trees.cast(gradient_noise, dtype))
    flat, moved = _on_vectors(update, state, key)
    length = jnp.asarray(1e-3, dtype)

    def defect(direction: Array) -> Array:
        start = flat + length * direction
        return jnp.linalg.norm(moved(game, start) - start) / length

    return jax.vmap(defect)(directions)


@eqx.filter_jit
def one_sided_jacobians(game, method, players, key, directions: Float[Array, "k n"]) -> Float[Array, "k n n"]:
    """The Jacobian a little way from the rest state along each direction of the floating state, extrapolated to it.

    Of a map that is smooth on each of several cones around the point they are the Jacobians of the pieces.
    """
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    state = rest_state(game, method, players, key)
    flat, moved = _on_vectors(method, state, key)
    length = _probe_steps(dtype)[0] * (1 + jnp.sqrt(jnp.abs(flat)))
    jacobian = jax.jacfwd(lambda vector: moved(game, vector))
    near, far = (jax.vmap(jacobian)(flat + part * length * directions) for part in (0.5, 1.0))
    return 2 * near - far


def player_coordinates(state: State) -> np.ndarray:
    """Which coordinates of the floating part of a state are players, its own or those of a state in its memory."""

    def mark(tree: PyTree, value: bool) -> PyTree:
        return jax.tree.map(lambda leaf: np.full(jnp.shape(leaf), value), eqx.filter(tree, eqx.is_inexact_array))

    def marks(tree: PyTree) -> PyTree:
        if isinstance(tree, State):
            return State(mark(tree.players, True), marks(tree.memory))
        inner = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, State))
        if not any(isinstance(node, State) for node in inner):
            return mark(tree, False)
        return jax.tree.map(
            lambda node: marks(node) if isinstance(node, State) else mark(node, False),
            tree,
            is_leaf=lambda node: isinstance(node, State),
        )

    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(marks(state))]
    return np.concatenate(leaves).astype(bool) if leaves else np.zeros(0, bool)


def _probe_directions(is_player: np.ndarray) -> np.ndarray:
    directions = np.random.default_rng(0).standard_normal((PROBES, len(is_player)))
    directions = np.where(is_player, directions, 0)
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)


def _probe_steps(dtype) -> tuple[float, float]:
    step = float(jnp.finfo(dtype).eps) ** (1 / 3)
    return 16 * step, step


def is_finite(jacobian: np.ndarray) -> bool:
    """Whether all entries of a Jacobian are finite."""
    return bool(np.all(np.isfinite(jacobian)))


def without_limit(jacobian: np.ndarray) -> bool:
    """Whether a Jacobian taken at memory that was moved off 0 shows the distance of that move: it has no limit."""
    return not np.all(np.abs(jacobian) < float(np.finfo(jacobian.dtype).max) ** 0.3)


def is_smooth(linearisation: Linearisation) -> str:
    """`smooth`, `kinked`, `discontinuous` or `stiff` (the Jacobian holds in a tiny neighbourhood only).

    Of a smooth map both disagreements shrink in proportion to the step, or faster; at a kink the one-sided slopes stay
    apart; at a jump difference quotients grow like one over the step; a map with a scale far below the step differs
    from its Jacobian at every step taken. Every coordinate is judged by itself, beside its own rounding.
    """
    (coarse, fine), (wrong, still_wrong) = np.asarray(linearisation.kinks), np.asarray(linearisation.errors)
    if not is_finite(linearisation.jacobian):
        return "not differentiable"
    if np.any((fine > 1) & (fine > 4 * coarse)) or np.any((still_wrong > 1) & (still_wrong > 4 * wrong)):
        return "discontinuous"
    if np.any((fine > 1) & (fine > coarse / 4)):
        return "kinked"
    if np.any((still_wrong > 1) & (still_wrong > wrong / 4)):
        return "stiff"
    return "smooth"
