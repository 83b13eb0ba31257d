"""The Jacobian of the exact map that is iterated, or of the flow, on the whole state."""

import enum
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics.analysis.stability.rest import COUNTS, FEW_COUNTS, Rest, above_zero, rest_state
from dynamics.compiler.derivatives import coarsest_epsilon, evaluate, released, rules
from dynamics.compiler.switches import short_gaps
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, ShiftedGradients
from dynamics.updates.base import State, Update
from dynamics.updates.rounded import unrounded

PROBES = 8
AXES = 16  # of the players, along which a program with switches is probed as well
POWER_STEPS = 30
SWITCHES = 5  # next to a point whose sides are looked at one by one
LARGEST_CURVATURE = 128  # numbers in a state whose switches' curvature is computed whole
WHOLE = 512  # columns of a Jacobian, and points, up to which all are computed at once
CHUNK = 64  # so many at a time beyond
CLOSER = 10  # distances at which `probe_closely` looks beyond the first


class Smoothness(enum.IntEnum):
    """How smooth a method is at a point, as a number, as in `predicted_smoothness`; see `dynamics.analysis.Stability`.

    `none` is for a point that was not judged.
    """

    none = -1
    smooth = 0
    stiff = 1
    kinked = 2
    discontinuous = 3
    not_differentiable = 4
    inconsistent = 5

    @property
    def label(self) -> str:
        """The text of reports."""
        return self.name.replace("_", " ")

    @classmethod
    def of(cls, label: str) -> "Smoothness":
        """The member with this text."""
        return cls[label.replace(" ", "_")]


class Linearisation(NamedTuple):
    """A map or flow near a point.

    Attributes:
        jacobian: of the map, or of the flow's field, on the players and the floating part of the memory; what a loss
            holds fixed varies, see `dynamics.compiler.derivatives.released`.
        defect: `map(state) - state`, or the flow's field, by coordinate.
        residual: the game's field at the players, by coordinate.
        game_jacobian: of the game's field, at the players.
        kinks: how far one-sided difference quotients disagree, at a step and at a sixteenth of it, by coordinate and in
            units of what rounding explains.
        errors: how far central difference quotients disagree with the Jacobian, likewise.
        rounding: what is a unit of `kinks` and `errors`, by coordinate.
        switching: number of switches between smooth pieces that are at the point or next to it, see
            `dynamics.compiler.switches`; 0 where there are none, -1 where the program has none at all.
        epsilon: of the coarsest arithmetic between the state and its image.
        position: the floating part of the state.
        rests: whether the memory is at rest and steps do not depend on their number: see `rest.py`.
        fading: whether the memory counts steps or sums up weights, and is held at the limit of that.
    """

    jacobian: Float[Array, "n n"]
    defect: Float[Array, " n"]
    residual: Float[Array, " m"]
    game_jacobian: Float[Array, "m m"]
    kinks: Float[Array, "2 n"]
    errors: Float[Array, "2 n"]
    rounding: Float[Array, " n"]
    switching: Array
    epsilon: Array
    position: Float[Array, " n"]
    rests: Array
    fading: Array


class Closely(NamedTuple):
    """Difference quotients ever closer to a point, each row at a sixteenth of the distance of the one before.

    Attributes:
        kinks, errors, rounding: as in `Linearisation`, but `kinks` and `errors` in the units of the state.
    """

    kinks: Float[Array, "lengths n"]
    errors: Float[Array, "lengths n"]
    rounding: Float[Array, "lengths n"]


def linearise(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    *,
    gradient_noise: tuple[Array, ...] | None = None,
    limit: bool = True,
    directed: bool = False,
    rest: Rest | None = None,
    counts: int = COUNTS,
) -> Linearisation:
    """Linearise the method at the players, its memory at rest there; traceable.

    Args:
        game, method, players, key: as in `dynamics.stability`.
        gradient_noise: standard deviation of noise in the gradients, one per player: the memory rests where it keeps it
            on average, and the map is the mean over noise of either sign.
        limit: take memory that rests at 0 as the limit from above. Adam's memory of squared gradients is under a square
            root, which has no derivative at 0; the map has one in the limit.
        directed: probe along axes and to the sides of switches at the point, too, as a closer look would.
        rest: of the method, where it is known.
        counts: as in `dynamics.analysis.stability.rest.rest_state`.

    Returns:
        Jacobian, defect and what probes saw; of the state's n numbers, in the order of `ravel_pytree`.
    """
    point = _Point(game, method, players, key, gradient_noise, limit, rest, counts)
    flat, directions = point.flat, jnp.asarray(probe_directions(point.is_player), point.flat.dtype)
    switching, active = point.switching(directions)
    if directed and active is not None:
        directions = jnp.concatenate([directions, point.toward(active, directions[0])])
    # The columns of the Jacobian and the values at the probes in one batch: one copy of the map to compile. The probes
    # move players, also those that a wrapping update keeps in its memory; other memory follows, and parts of it (a mean
    # square) must not be negative.
    lengths = probe_steps(point.epsilon)
    shifts = point.shifts(directions, lengths)
    values, columns = _in_chunks(point.function, flat, shifts)
    value, jacobian, values = values[0], columns[: flat.size].T, values[flat.size :]
    kinks, errors, rounding = point.disagreements(value, jacobian, directions, lengths, values)
    rounding = rounding[-1]
    flat_players, unravel_players = ravel_pytree(players)

    def field(vector: Array) -> Array:
        return ravel_pytree(point.game.field(unravel_players(vector), key))[0]

    at_players, slopes = _in_chunks(released(field), flat_players, jnp.zeros((0, flat_players.size)))
    return Linearisation(
        jacobian,
        value - flat if isinstance(method, Update) else value,
        at_players[0],
        slopes.T,
        kinks / rounding,
        errors / rounding,
        rounding,
        switching,
        jnp.asarray(point.epsilon, flat.dtype),
        flat,
        point.rest.rests,
        point.rest.fading,
    )


def _in_chunks(function: Callable[[Array], Array], flat: Array, shifts: Array) -> tuple[Array, Array]:
    """Values and derivatives of a function: at a point along every axis, and at shifted points; one copy to compile."""
    count = flat.size + len(shifts)

    def one(index: Array) -> tuple[Array, Array]:
        axis = jnp.zeros_like(flat).at[index].set(1, mode="drop")
        shift = jnp.where(index < flat.size, 0, shifts[index - flat.size]) if len(shifts) else 0
        return jax.jvp(function, (flat + shift,), (axis,))

    if count <= WHOLE:
        return jax.vmap(one)(jnp.arange(count))
    full = -(-count // CHUNK) * CHUNK  # a remainder would be a second copy
    values, columns = jax.lax.map(one, jnp.arange(full), batch_size=CHUNK)
    return values[:count], columns[:count]


def probe_closely(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    jacobian: Array | np.ndarray,
    directions: Float[Array | np.ndarray, "k n"],
    key: PRNGKeyArray | None = None,
    *,
    gradient_noise: tuple[Array, ...] | None = None,
    limit: bool = True,
    directed: bool = False,
    rest: Rest | None = None,
) -> Closely:
    """Compare the map with a Jacobian of it along directions, closer and closer to the point; traceable.

    Where something that is not linear lies near the point, but not at it, the closer ones agree. Arguments as in
    `linearise`.
    """
    point = _Point(game, method, players, key, gradient_noise, limit, rest)
    first, second = probe_steps(point.epsilon)
    lengths = (first, *(second / 16.0**number for number in range(CLOSER)))
    directions = jnp.where(point.is_player, directions, 0)
    random = jnp.asarray(probe_directions(point.is_player), point.flat.dtype)
    directions = jnp.concatenate([random, directions])
    active = point.switching(random)[1] if directed else None
    if active is not None:
        directions = jnp.concatenate([directions, point.toward(active, random[0])])
    values = jax.vmap(point.function)(point.flat + point.shifts(directions, lengths))
    value = point.function(point.flat)
    kinks, errors, rounding = point.disagreements(value, jacobian, directions, lengths, values)
    return Closely(kinks, errors, rounding)


def _curvature_ends(
    gap: Callable[[Array], Array], at: Float[Array, " n"], is_player: np.ndarray, start: Float[Array, " n"]
) -> tuple[Float[Array, "2 n"], Float[Array, " 2"]]:
    """Unit vectors of players along which a gap bends most to either side, and its curvature along them.

    Of up to `LARGEST_CURVATURE` players' numbers from the whole Hessian. Beyond that by the power method from `start`:
    the end of the larger modulus, then, shifted by its curvature, the other one.
    """
    curve = jax.linearize(jax.grad(gap), at)[1]
    players = np.flatnonzero(is_player)
    if len(players) <= LARGEST_CURVATURE:
        basis = jnp.eye(at.size, dtype=at.dtype)[players]
        values, vectors = jnp.linalg.eigh(jax.vmap(curve)(basis)[:, players])
        ends = np.array([0, -1])
        return vectors[:, ends].T @ basis, values[ends]
    allowed = jnp.asarray(is_player, at.dtype)
    ends, shift = [], jnp.zeros((), at.dtype)
    for _ in range(2):

        def iterate(_, vector: Array, shift: Array = shift) -> Array:
            vector = allowed * curve(vector) - shift * vector
            return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)

        ends.append(jax.lax.fori_loop(0, POWER_STEPS, iterate, start))
        shift = ends[-1] @ curve(ends[-1])
    return jnp.stack(ends), jnp.stack([end @ curve(end) for end in ends])


def function_at_rest(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    *,
    gradient_noise: tuple[Array, ...] | None = None,
    rest: Rest | None = None,
) -> tuple[Callable[[Array], Array], Float[Array, " n"], np.ndarray]:
    """The map or field on vectors, the state at rest as one, and which of its coordinates are players.

    Derivatives of the function are those of its values. It is traced once for all games and methods that differ in
    numbers alone. Arguments as in `linearise`.
    """
    dtype = _trees.float_dtype(players)
    exact_game, exact_method = _trees.cast((game, method), dtype)
    at_rest = (
        rest_state(exact_game, exact_method, players, key, _trees.cast(gradient_noise, dtype)) if rest is None else rest
    )
    flat, _ = on_vectors(at_rest.of(exact_method), at_rest.state, key)

    def function(vector: Array) -> Array:
        return _values_at_rest(game, method, players, key, gradient_noise, at_rest, vector)

    return function, flat, player_coordinates(at_rest.state)


@eqx.filter_jit
def _values_at_rest(game, method, players, key, gradient_noise, rest, vector: Array) -> Array:
    return _Point(game, method, players, key, gradient_noise, False, rest).function(vector)


def _within_cones(one: Array, other: Array, value: Array, other_value: Array, random: Array) -> Float[Array, "6 n"]:
    """Directions beside two ends of a gap's curvature, to the same side of it: what jumps may vanish along the ends.

    Half of the way to the edge of the cone around an end: towards the other end, away from it, and anywhere.

    Args:
        one, other: unit vectors.
        value, other_value: the curvature along them.
        random: any unit vector.
    """
    largest = 1 / jnp.finfo(one.dtype).eps
    sizes = [jnp.maximum(jnp.abs(number), jnp.finfo(one.dtype).tiny) for number in (value, other_value)]
    around_one, around_other = (jnp.minimum(jnp.sqrt(sizes[a] / sizes[b]), largest) / 2 for a, b in ((0, 1), (1, 0)))
    return jnp.stack(
        [
            one + around_one * other,
            one - around_one * other,
            one + jnp.minimum(1, around_one) * random,
            other + around_other * one,
            other - around_other * one,
            other + jnp.minimum(1, around_other) * random,
        ]
    )


def switch_directions(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    *,
    gradient_noise: tuple[Array, ...] | None = None,
    limit: bool = True,
    rest: Rest | None = None,
) -> Float[Array, "k n"]:
    """Directions that lead to either side of the switches next to a point, one by one and several at once; traceable.

    Along the slopes of the gaps of up to `SWITCHES` switches, and in the order of their distances; along the ends of
    their curvature where the slopes vanish, and along sums of the slopes with all combinations of signs. Beside each of
    these goes another one to the same side: what jumps from side to side may vanish along the very axis of a side.
    """
    point = _Point(game, method, players, key, gradient_noise, limit, rest)
    distances, flat = point.distances, point.flat
    here = distances(flat)
    shift = probe_steps(point.epsilon)[1] * point.reach * jnp.asarray(probe_directions(point.is_player), flat.dtype)
    moved = jnp.max(jnp.abs(jax.vmap(distances)(flat + shift) - here), axis=0, initial=0)
    ratio = jnp.where(jnp.isfinite(here), jnp.abs(here) / jnp.maximum(moved, jnp.finfo(flat.dtype).tiny), jnp.inf)
    nearest = jnp.argsort(ratio)[:SWITCHES]
    allowed = jnp.asarray(point.is_player, flat.dtype)

    def gap(vector: Array, number: Array) -> Array:
        return distances(vector)[number].astype(vector.dtype)

    slopes = jax.lax.map(lambda number: allowed * jax.grad(gap)(flat, number), nearest)
    slopes = slopes / jnp.maximum(jnp.linalg.norm(slopes, axis=1, keepdims=True), jnp.finfo(flat.dtype).tiny)
    signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=SWITCHES - 1)])
    # Into the cell of the pieces with these signs: where slopes are independent, a solution of slopes @ d = signs.
    cells = jnp.asarray(signs[:, : len(nearest)], flat.dtype) @ jnp.linalg.pinv(slopes, rtol=1e-6).T
    random = np.random.default_rng(11).standard_normal((len(nearest) + len(cells) + 1, flat.size))
    beside = allowed * jnp.asarray(random, flat.dtype)
    beside = beside / jnp.maximum(jnp.linalg.norm(beside, axis=1, keepdims=True), jnp.finfo(flat.dtype).tiny)
    inside = jnp.concatenate([slopes, cells])  # along which unit slopes rise by 1; half of that is left beside them
    ends = [slopes, cells, jnp.where(jnp.any(inside != 0, axis=1, keepdims=True), inside + beside[:-1] / 2, 0)]

    def along_curvature(number: Array) -> Array:
        pair, values = _curvature_ends(lambda vector: gap(vector, number), flat, point.is_player, beside[-1])
        return jnp.concatenate([pair, _within_cones(*pair, *values, beside[-1])])

    ends.append(jax.lax.map(along_curvature, nearest).reshape(-1, flat.size))
    return jnp.concatenate(ends)


def derivative_rules(
    game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None
) -> set[str]:
    """Names of functions in the game and in the method that bring derivative rules of their own."""

    def run(players: Players) -> PyTree:
        state = method.init(game, players)
        moved = (
            method.step(game, state, key) if isinstance(method, Update) else method.field(game, jnp.zeros(()), state)
        )
        return eqx.filter(moved, eqx.is_array), game.losses(players, key)

    return rules(jax.make_jaxpr(run)(players).jaxpr)


class _Point:
    """A map or flow at a point: the state as a vector, the function of it, and what rounding makes of its values."""

    def __init__(self, game, method, players, key, gradient_noise, limit, rest=None, counts=FEW_COUNTS):
        dtype = _trees.float_dtype(players)
        self.game, method = _trees.cast((game, method), dtype)
        if rest is None:
            rest = rest_state(self.game, method, players, key, _trees.cast(gradient_noise, dtype), counts)
        self.game = rest.at(self.game)
        self.rest, state, method = rest, rest.state, rest.of(method)
        if limit:
            state = State(state.players, jax.tree.map(above_zero, state.memory))
        self.is_player = player_coordinates(state)
        self.flat, self.moved = on_vectors(method, state, key)
        self.noise = None if gradient_noise is None else (players, gradient_noise)
        self.program = jax.make_jaxpr(self._values)(self.flat)
        self.epsilon = max(coarsest_epsilon(self.program.jaxpr), float(jnp.finfo(self.flat.dtype).eps))
        # A shift by far less than a coordinate's rounding would show nothing.
        self.reach = 1 + jnp.sqrt(jnp.abs(self.flat))

    def _values(self, vector: Array) -> Array:
        if self.noise is None:
            return self.moved(self.game, vector)
        ahead, back = (self.moved(ShiftedGradients(self.game, *self.noise, sign), vector) for sign in (1, -1))
        return (ahead + back) / 2

    def function(self, vector: Array) -> Array:
        """The map, or the flow's field, on vectors; its derivative is that of the values."""
        return evaluate(self.program.jaxpr, self.program.consts, (vector,))[0]

    @functools.cached_property
    def distances(self) -> Callable[[Array], Array]:
        """How far each switch of the map is from switching, see `compiler.switches.gaps`; a short program."""
        return short_gaps(self.function, self.flat)

    def shifts(self, directions: Array, lengths: Sequence[float]) -> Array:
        """Ahead and back along the directions, by length, and at last by so little that only rounding is seen."""
        tiny = 64 * self.epsilon * self.reach * directions
        return jnp.concatenate(
            [*(sign * length * self.reach * directions for length in lengths for sign in (1, -1)), tiny]
        )

    def disagreements(
        self, value: Array, jacobian: Array, directions: Array, lengths: Sequence[float], values: Array
    ) -> tuple[Array, Array, Array]:
        """By length and coordinate: kinks, errors of the Jacobian, and rounding, from the values at the shifts."""
        probed = values.reshape(2 * len(lengths) + 1, directions.shape[0], self.flat.size)
        expected = (self.reach * directions) @ jacobian.T
        tiny = 64 * self.epsilon * self.reach * directions
        noise = jnp.max(jnp.abs(probed[-1] - value - tiny @ jacobian.T), axis=0, initial=0)
        noise = noise_of_values(noise, value, jnp.abs(jacobian) @ jnp.abs(self.flat), self.epsilon)
        kinks, errors, rounding = [], [], []
        for index, length in enumerate(lengths):
            ahead, back = probed[2 * index], probed[2 * index + 1]
            right, left = (ahead - value) / length, (value - back) / length
            kinks.append(jnp.max(jnp.abs(right - left), axis=0, initial=0))
            errors.append(jnp.max(jnp.abs((right + left) / 2 - expected), axis=0, initial=0))
            rounding.append(noise_of_slopes(noise, length, jnp.abs(jacobian) @ self.reach, self.epsilon))
        return jnp.stack(kinks), jnp.stack(errors), jnp.stack(rounding)

    def switching(self, directions: Array) -> tuple[Array, Array | None]:
        """The number of switches that may switch within the distance of the probes, and which; -1 without any."""
        distances = self.distances
        if jax.eval_shape(distances, self.flat).size == 0:
            return jnp.asarray(-1), None
        shifts = probe_steps(self.epsilon)[1] * self.reach * jnp.concatenate([directions, -directions])
        here = distances(self.flat)
        moved = jnp.max(jnp.abs(jax.vmap(distances)(self.flat + shifts) - here), axis=0, initial=0)
        active = (jnp.abs(here) <= 2 * moved) & jnp.isfinite(here)
        return jnp.sum(active), active

    def toward(self, active: Array, start: Array) -> Array:
        """Directions along which switches at the point switch: axes of the players, slope and curvature of the gaps.

        Of the sum of the gaps with random weights: its slope, and the two ends of its curvature. Where the slope
        vanishes the pieces are cones, which may be thin.
        """
        distances, count = self.distances, active.size
        weights = jnp.where(active, np.random.default_rng(2).uniform(0.5, 1.5, count), 0).astype(self.flat.dtype)
        allowed = jnp.asarray(self.is_player, self.flat.dtype)

        def total(vector: Array) -> Array:
            return jnp.sum(jnp.where(active, weights * distances(vector).astype(vector.dtype), 0))

        slope = allowed * jax.grad(total)(self.flat)
        ends, values = _curvature_ends(total, self.flat, self.is_player, start)
        axes = np.eye(self.flat.size)[self.is_player][:AXES].astype(self.flat.dtype)
        random = allowed * jnp.asarray(np.random.default_rng(11).standard_normal(self.flat.size), self.flat.dtype)
        random = random / jnp.maximum(jnp.linalg.norm(random), jnp.finfo(random.dtype).tiny)
        cones = _within_cones(*ends, *values, random)
        beside = slope + jnp.linalg.norm(slope) * random / 2
        along = jnp.concatenate([axes, jnp.stack([slope, beside]), ends, cones])
        lengths = jnp.linalg.norm(along, axis=1, keepdims=True)
        return jnp.where((lengths > 0) & jnp.isfinite(lengths), along / jnp.where(lengths > 0, lengths, 1), 0)


def jacobian_of(
    game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None
) -> Float[Array, "n n"]:
    """The Jacobian of the map or of the flow's field alone, as in `linearise` but without its probes; traceable.

    NaN where the memory of the method does not come to rest, or its steps depend on their number.
    """
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    rest = rest_state(game, method, players, key, counts=FEW_COUNTS)
    state = State(rest.state.players, jax.tree.map(above_zero, rest.state.memory))
    flat, moved = on_vectors(rest.of(method), state, key)
    return jnp.where(rest.rests, jax.jacfwd(released(lambda vector: moved(game, vector)))(flat), jnp.nan)


def on_vectors(
    method: Update | AbstractFlow, state: State, key: PRNGKeyArray | None
) -> tuple[Array, Callable[[Game, Array], Array]]:
    """The floating part of a state as a vector, and the map or the flow's field as a function of game and vector.

    Without the rounding of an update in finite precision, whose derivative says nothing.
    """
    method = unrounded(method)
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
def moved_memory(
    game: Game,
    update: Update,
    players: Players,
    key: PRNGKeyArray | None,
    gradient_noise: tuple[Array, ...] | None,
    rest: Rest,
    directions: Float[Array | np.ndarray, "k n"],
) -> Float[Array, " k"]:
    """How far one step moves the rest state whose memory was shifted by each of the directions, relative to the shift.

    The directions are on the floating part of the state, the noise as in `linearise`. A memory such as a running
    maximum stays wherever it is put.
    """
    dtype = _trees.float_dtype(players)
    game, update, noise = _trees.cast((game, update, gradient_noise), dtype)
    flat, moved = on_vectors(rest.of(update), rest.state, key)
    length = jnp.asarray(1e-3, dtype)
    games = [game] if noise is None else [ShiftedGradients(game, players, noise, sign) for sign in (1, -1)]

    def change(start: Array) -> Array:
        return sum(moved(shifted, start) for shifted in games) / len(games) - start

    return jax.vmap(lambda direction: jnp.linalg.norm(change(flat + length * direction) - change(flat)) / length)(
        directions
    )


@eqx.filter_jit
def one_sided_jacobians(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None,
    directions: Float[Array | np.ndarray, "k n"],
    gradient_noise: tuple[Array, ...] | None = None,
    rest: Rest | None = None,
) -> Float[Array, "k n n"]:
    """The Jacobian a little way from the rest state along each direction of the floating state, extrapolated to it.

    Of a map that is smooth on each of several cones around the point they are the Jacobians of the pieces.
    """
    point = _Point(game, method, players, key, gradient_noise, False, rest)
    length = probe_steps(point.epsilon)[1] * point.reach
    jacobian = jax.jacfwd(point.function)
    near, far = (jax.vmap(jacobian)(point.flat + part * length * directions) for part in (0.5, 1.0))
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


def probe_directions(is_player: np.ndarray) -> np.ndarray:
    directions = np.random.default_rng(0).standard_normal((PROBES, len(is_player)))
    directions = np.where(is_player, directions, 0)
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)


def probe_steps(epsilon: float) -> tuple[float, float]:
    step = epsilon ** (1 / 3)
    return 16 * step, step


def is_finite(jacobian: np.ndarray | Array) -> bool:
    """Whether all entries of a Jacobian are finite."""
    return bool(np.all(np.isfinite(jacobian)))


def without_limit(jacobian: np.ndarray | Array) -> bool:
    """Whether a Jacobian taken at memory that was moved off 0 shows the distance of that move: it has no limit."""
    return not np.all(np.abs(jacobian) < float(np.finfo(jacobian.dtype).max) ** 0.3)


def smoothness(
    kinks: np.ndarray | Array, errors: np.ndarray | Array, finite: np.ndarray | np.bool | bool
) -> np.ndarray:
    """What difference quotients at two distances say, one name per point; see `closer_smoothness` for more distances.

    Of a smooth map both disagreements shrink in proportion to the step, or faster; at a kink the one-sided slopes stay
    apart; at a jump difference quotients grow like one over the step; a map with a scale far below the step differs
    from its Jacobian at every step taken. Every coordinate is judged by itself, beside its own rounding.

    Args:
        kinks, errors: of `Linearisation`, shape (..., 2, n).
        finite: whether all entries of the Jacobians are, shape (...).

    Returns:
        `smooth`, `kinked`, `discontinuous`, `stiff` or `not differentiable`, shape (...).
    """
    coarse, fine = np.moveaxis(np.asarray(kinks), -2, 0)
    wrong, still_wrong = np.moveaxis(np.asarray(errors), -2, 0)
    with np.errstate(all="ignore"):
        jumps = np.any((fine > 1) & (fine > 4 * coarse), axis=-1)
        jumps |= np.any((still_wrong > 1) & (still_wrong > 4 * wrong), axis=-1)
        kinked = np.any((fine > 1) & (fine > coarse / 4), axis=-1)
        stiff = np.any((still_wrong > 1) & (still_wrong > wrong / 4), axis=-1)
    names = ("not differentiable", "discontinuous", "kinked", "stiff")
    return np.select([~np.asarray(finite), jumps, kinked, stiff], names, "smooth")


def noise_of_values(seen: Array, value: Array, terms: Array, epsilon: float) -> Array:
    """What rounding makes of values of a map, by coordinate: of what was seen next to the point no more than a jump.

    `seen` is the largest change over a shift of 64 epsilon that the Jacobian does not explain, `terms` the sum of
    |J_ij x_j| over j. Elementwise, and traceable.
    """
    return jnp.minimum(8 * seen, epsilon**0.75 * (1 + jnp.abs(value))) + 64 * epsilon * (jnp.abs(value) + terms)


def noise_of_slopes(noise: Array, length: float, terms: Array, epsilon: float) -> Array:
    """What rounding makes of difference quotients over a length, from the noise of values and |J_ij reach_j| over j."""
    return jnp.maximum(64 * epsilon * terms + noise / length, jnp.finfo(noise.dtype).tiny)


def settles(coarse: Any, fine: Any, rounding: Any = 1) -> Any:
    """Whether a disagreement of difference quotients is rounding, or shrinks with the distance from `coarse` to `fine`.

    What does not shows a jump, a kink or a stiff scale. Elementwise, and traceable.
    """
    return (fine <= rounding) | (4 * fine <= coarse)


def closer_smoothness(closely: Closely, name: str, switches: bool) -> str:
    """The verdict on smoothness after a closer look at a point that is not smooth at the distances of `linearise`.

    Where difference quotients come to agree with each other and with the Jacobian at distances at which what was seen
    farther away would show, the Jacobian holds within them: `stiff`, and `smooth` where nothing was seen. Where they
    never agree, a kink or a jump stays one, and anything else is `inconsistent`: the Jacobian is not that of the map.
    `switches` says that there are switches between pieces at the point.
    """
    kinks, errors, rounding = (np.asarray(leaf, float) for leaf in closely)
    with np.errstate(all="ignore"):
        both = np.stack([kinks, errors])
        agrees = np.all(settles(both[:, :-1], both[:, 1:], rounding[1:]), axis=0)
        seen = ~agrees[0]
        visible = both.max(axis=0)[:2].min(axis=0) > 4 * rounding[1:]
    if not np.any(seen):
        return "smooth"
    # The closest pair of distances at which the disagreement would still be seen decides.
    last = np.where(visible.any(axis=0), len(visible) - 1 - np.argmax(visible[::-1], axis=0), 0)
    if np.all(agrees[last, np.arange(len(last))] | ~seen):
        return "stiff"
    if name in ("kinked", "discontinuous"):
        return name
    return "kinked" if switches else "inconsistent"  # a kink that is the same to both sides, as in x |x|
