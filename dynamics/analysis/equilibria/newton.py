"""Finding equilibria, and recognising manifolds of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._plain import plain_fields
from dynamics._printing import Described, pretty
from dynamics.analysis.equilibria.precision import as_point
from dynamics.compiler.derivatives import released
from dynamics.game import Game, Players


class EquilibriumError(ValueError):
    """No equilibrium was found, or a point is none."""


@dataclasses.dataclass(frozen=True)
class Equilibrium(Described):
    """An equilibrium with its certificate.

    Attributes:
        players: the point.
        residual: norm of the field there.
        distance: how far it is from the start.
        condition: condition number of the Jacobian of the field; infinite on a manifold of equilibria.
        steps: Newton steps taken.
    """

    players: Players
    residual: float
    distance: float
    condition: float
    steps: int

    def describe(self) -> str:
        """The point with its certificate, as text."""
        alone = f"condition {self.condition:.3g}" if np.isfinite(self.condition) else "on a manifold of equilibria"
        return f"equilibrium {pretty(self.players)}: residual {self.residual:.3g}, {alone}"

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; what is not finite is `None`."""
        return plain_fields(self, players=[np.asarray(leaf) for leaf in jax.tree.leaves(self.players)])


def find_equilibrium(
    game: Game, start: Any, *, tolerance: float | None = None, max_steps: int = 100, key: PRNGKeyArray | None = None
) -> Equilibrium:
    r"""Solve $v(x) = 0$ by Newton's method from a start, with a certificate.

    Where the Jacobian is singular the step is the shortest least-squares solution, so that a point of a manifold of
    equilibria is found as well. Newton's method finds equilibria of every kind, stable or not.

    Args:
        game: the game.
        start: a tuple of players.
        tolerance: largest accepted norm of the field, relative to `1 + |Dv|`; default 1e-12, in float32 1e-5.
        max_steps: largest number of Newton steps.
        key: for a game that can only be sampled: the batch is frozen.

    Raises:
        EquilibriumError: no convergence; the message shows the residual at the end and what to try.

    >>> from dynamics.games import DiracGAN
    >>> bool(abs(find_equilibrium(DiracGAN(), (0.5, 0.25)).players[0]) < 1e-6)
    True
    """
    players = as_point(start, "start")
    dtype = _trees.float_dtype(players)
    game = _trees.cast(game, dtype)
    tolerance = default_tolerance(dtype) if tolerance is None else float(tolerance)
    result = search(game, players, key, max_steps, jnp.asarray(tolerance, dtype))
    if not result.accepted:
        raise EquilibriumError(
            f"{no_equilibrium(result, players)}, wanted {tolerance:.3g}. Try a start nearer to the equilibrium (the "
            "end of a simulation that converges, say), more max_steps, or a larger tolerance."
        )
    residual = float(result.residual)
    return Equilibrium(result.players, residual, float(result.distance), float(result.condition), int(result.steps))


class Search(NamedTuple):
    """Where Newton's method ended, with the certificate of `Equilibrium`; all are arrays.

    Attributes:
        players: the point.
        accepted: whether it passes for an equilibrium.
        residuals: norm of every player's part of the field there, shape (players,).
        residual, distance, condition, steps: as in `Equilibrium`.
    """

    players: Players
    accepted: Array
    residuals: Float[Array, " players"]
    residual: Array
    distance: Array
    condition: Array
    steps: Array


def default_tolerance(dtype: Any) -> float:
    """The largest accepted norm of the field, relative to `1 + |Dv|`."""
    return 1e-12 if dtype == jnp.float64 else 1e-5


@eqx.filter_jit
def search(
    game: Game, start: Players, key: PRNGKeyArray | None = None, max_steps: int = 100, tolerance: Any = None
) -> Search:
    """`find_equilibrium` for players and a game of one dtype, traceable: a failure is data."""
    dtype = _trees.float_dtype(start)
    tolerance = default_tolerance(dtype) if tolerance is None else tolerance
    point, steps, field, jacobian = newton_method(game, start, key, max_steps, until_small=True)
    left, singular, right = jnp.linalg.svd(jacobian)
    # Where the field fades away towards infinity it is small too, but Newton's method still wants to go far.
    used = singular > singular_rounding(field.size, dtype) * singular[0]
    step = right.T @ jnp.where(used, left.T @ field / jnp.where(used, singular, 1), 0)
    near = jnp.linalg.norm(step) <= tolerance**0.5 * (1 + _trees.norm(point))
    floor = singular[0] * field.size * float(jnp.finfo(dtype).eps)
    sizes = [_trees.size(player) for player in start]
    parts = jnp.split(field, np.cumsum(sizes)[:-1])
    residual = jnp.linalg.norm(field)
    return Search(
        point,
        (residual <= tolerance * (1 + singular[0])) & near,
        jnp.stack([jnp.linalg.norm(part) for part in parts]),
        residual,
        _trees.norm(jax.tree.map(jnp.subtract, point, start)),
        jnp.where(singular[-1] > floor, singular[0] / singular[-1], jnp.inf),
        steps,
    )


def no_equilibrium(result: Search, start: Players) -> str:
    """What a search that failed found, for messages."""
    by_player = ", ".join(f"{float(residual):.3g}" for residual in result.residuals)
    return (
        f"Newton's method found no equilibrium from {players_text(start)} in {int(result.steps)} steps: the field has "
        f"norm {float(result.residual):.3g} at {players_text(result.players)} (by player: {by_player})"
    )


@eqx.filter_jit
def newton_method(
    game: Game, players: Players, key: PRNGKeyArray | None, max_steps: int, until_small: bool = False
) -> tuple[Players, Array, Array, Array]:
    """Where Newton's method ends, after how many steps, the field and its Jacobian there.

    Args:
        game, players, key, max_steps: as in `find_equilibrium`.
        until_small: end when a step is so small that the next one is rounding, whatever the size of the field is.
            Otherwise all starts get about as many steps, up to the last digit of a degenerate equilibrium.
    """
    flat, unravel = ravel_pytree(players)

    free = released(lambda vector: ravel_pytree(game.field(unravel(vector), key))[0])

    def field(vector, _):
        return free(vector)

    epsilon = float(jnp.finfo(flat.dtype).eps)
    # The solver measures steps and values of the field with one tolerance. Values in tiny units are always small, and
    # Newton's steps do not depend on units.
    unit = float(jnp.finfo(flat.dtype).tiny) ** 0.375 if until_small else 1.0
    tolerances = (1024 * epsilon, 1024 * epsilon) if until_small else (4 * epsilon, epsilon)
    solver = optx.Newton(*tolerances, linear_solver=lx.SVD(singular_rounding(flat.size, flat.dtype)))
    solution = optx.root_find(
        lambda vector, _: unit * field(vector, None), solver, flat, max_steps=max_steps, throw=False
    )
    end = solution.value
    return unravel(end), solution.stats["num_steps"], field(end, None), jax.jacfwd(field)(end, None)


def vanishes(
    field: np.ndarray | Array,
    jacobian: np.ndarray | Array,
    position: np.ndarray,
    epsilon: float,
    accuracy: float,
    rounding: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Which coordinates of a field pass for 0, and what each may be at most; for one point or a batch of them.

    A coordinate passes if a move of the point by its `accuracy` makes up for it,
    $|v_i|\le a\sum_j|J_{ij}|(1+|x_j|)$, and if Newton's step, the shortest one where J is singular, moves no coordinate
    farther than that. So every coordinate is measured by its own curvature, and a large or stiff one hides no other.

    Args:
        field: v, shape (..., n).
        jacobian: J, shape (..., n, n).
        position: x, shape (..., n).
        epsilon: of the arithmetic.
        accuracy: a, relative to 1 + |x|, to which the position is known.
        rounding: what rounding alone makes of v.
    """
    field, jacobian, position = (np.asarray(array, float) for array in (field, jacobian, position))
    size = 1 + np.abs(position)
    with np.errstate(all="ignore"):
        rows = (np.abs(jacobian) @ size[..., None])[..., 0]
        rows = np.where(np.isfinite(rows), rows, size)
        floor = 8 * epsilon * rows + rounding
        allowed = accuracy * rows + floor
        passes = np.abs(field) <= allowed
        # Where the curvature fades away, as that of x^6 does, Newton's method ends a little way off: its step in the
        # coordinate alone is small still, and the field is rounding beside the largest curvature.
        curvature = np.abs(np.diagonal(jacobian, axis1=-2, axis2=-1))
        largest = np.max(np.abs(jacobian), axis=(-2, -1), initial=0)[..., None]
        faded = (rows <= 64 * field.shape[-1] * epsilon * largest) & (np.abs(field) <= 1e-3 * curvature * size)
        passes |= faded & (np.abs(field) <= epsilon * largest)
        doubtful = np.all(passes, axis=-1) & np.any(np.abs(field) > floor, axis=-1)
        doubtful &= np.all(np.isfinite(jacobian), axis=(-2, -1))
        if np.any(doubtful):
            # In units of the rows and of the positions, so that one large coordinate makes no other look singular.
            row, unit = rows[doubtful], size[doubtful]
            row = np.where(row > 0, row, 1)
            scaled = jacobian[doubtful] * unit[:, None, :] / row[:, :, None]
            value, least = field[doubtful] / row, floor[doubtful] / row
            inverse = np.linalg.pinv(scaled, rcond=64 * field.shape[-1] * epsilon)
            step = (inverse @ value[..., None])[..., 0]
            left = np.abs(value - (scaled @ step[..., None])[..., 0])  # what no step makes up for: curvature, rounding
            passes[doubtful] &= left <= accuracy**2 + least
            most = 8 * accuracy + (np.abs(inverse) @ least[..., None])[..., 0]
            passes[doubtful] &= np.abs(step) <= most
    return passes, allowed


def newton_step(jacobian: np.ndarray, field: np.ndarray) -> float:
    """Length of the next step of Newton's method, infinite where there is none."""
    if not (np.all(np.isfinite(jacobian)) and np.all(np.isfinite(field))):
        return float("inf")
    rounding = singular_rounding(len(field), jacobian.dtype)
    return float(np.linalg.norm(np.linalg.pinv(jacobian, rcond=rounding) @ field))


def accuracy_of(players: PyTree) -> float:
    """To what part of 1 + |x| the coordinates of a point are known: the root of the coarsest machine epsilon."""
    epsilons = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(players)]
    return max(epsilons, default=float(np.finfo(float).eps)) ** 0.5


def singular_rounding(size: int, dtype: Any) -> float:
    """Singular values below this fraction of the largest are rounding: along them Newton's method does not step."""
    return 64 * size * float(np.finfo(dtype).eps)


def eigenvalue_rounding(size: int, dtype: Any) -> float:
    """Eigenvalues below this fraction of the norm are rounding: of the entries, and of the eigenvalues, in float64."""
    return max(0.5, size / 64) * float(np.finfo(dtype).eps) + float(np.finfo(float).eps)


def stays_on_manifold(moved: np.ndarray, fields: np.ndarray, epsilon: float, scale: Any, allowed: Any) -> Any:
    """Whether points that were put aside in directions of the null space are, after Newton's method, on a manifold.

    Args:
        moved: where the farthest one ends, relative to its distance, shape (..., numbers).
        fields: norms of the field at the ends, relative to the distances, shape (..., 4): very near, at a quarter, at
            half and at the whole of the farthest distance.
        epsilon: of the type of numbers.
        scale, allowed: largest singular value, and which ones count as none.
    """
    near, quarter, half, far = np.moveaxis(np.asarray(fields, float), -1, 0)
    # On a manifold the field is rounding everywhere; one that grows like a power of the distance, however small its
    # factor, is none.
    grows = (far > allowed / 16) & (far > 3 * half)
    with np.errstate(all="ignore"):
        power = np.abs(np.log2(far / half) - np.log2(half / quarter)) < 0.05
    grows |= (quarter > 0) & (far > 2.5 * half) & (half > 2.5 * quarter) & power
    return (near <= epsilon**0.75 * scale) & (far <= allowed) & ~grows & (np.linalg.norm(moved, axis=-1) < 2)


# From numbers of equilibria and directions from them, (rows, directions, n): what `ends_along` returns, by row.
Reach = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def manifold_dimension(
    game: Game, players: Players, jacobian: np.ndarray | Array, key: PRNGKeyArray | None = None
) -> int:
    """Dimension of the manifold of equilibria through an equilibrium; 0 when it is isolated."""

    def reach_along(_: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved, fields = _ends_along(game, players, jnp.asarray(directions[0]), key)
        return np.asarray(moved)[None], np.asarray(fields)[None]

    return int(manifold_dimensions(np.asarray(jacobian)[None], reach_along)[0])


def manifold_dimensions(jacobians: np.ndarray, reach_along: Reach) -> np.ndarray:
    """Dimensions of the manifolds of equilibria through some equilibria, shape (rows,); 0 for an isolated one.

    From the point a little way along every direction of the null space of the Jacobian of the field, Newton's method
    finds another equilibrium, or falls back to the first: the independent displacements that stay are counted.

    Args:
        jacobians: of the fields, shape (rows, n, n); where one is not finite there is no manifold.
        reach_along: see `Reach`; only asked about rows with a null space.
    """
    count, size, _ = jacobians.shape
    dtype = jacobians.dtype
    epsilon = float(np.finfo(dtype).eps)
    usable = np.isfinite(jacobians).all(axis=(1, 2))
    dimension = np.zeros(count, int)
    singular = np.linalg.svd(np.where(usable[:, None, None], jacobians, 0), compute_uv=False)
    scale = np.where(singular[:, 0] > 0, singular[:, 0], 1).astype(float)
    allowed = singular_rounding(size, dtype) * scale
    chosen = np.flatnonzero(usable & (singular[:, -1] <= allowed))
    if not len(chosen):
        return dimension
    scale, allowed = scale[chosen, None], allowed[chosen, None]
    _, singular, directions = np.linalg.svd(jacobians[chosen])
    null = singular <= allowed
    most = int(null.sum(axis=1).max())
    null, directions = null[:, -most:], directions[:, -most:]
    moved, fields = reach_along(chosen, directions)
    on_it = null & stays_on_manifold(moved, fields, epsilon, scale, allowed)
    # A direction may be a mixture: only its part along the manifold stays.
    stayed = np.einsum("cji,cki->ckj", directions, moved)
    stayed = np.where(on_it[:, :, None] & null[:, None, :], stayed, 0)
    counted = np.sum(np.linalg.svd(stayed, compute_uv=False) > 0.5, axis=1)
    # Eigenvalues that rounding alone does not explain belong to a slow direction, not to a manifold.
    sizes = np.sort(np.abs(np.linalg.eigvals(jacobians[chosen].astype(float))), axis=1)
    explained = eigenvalue_rounding(size, dtype) * np.linalg.norm(jacobians[chosen], axis=(1, 2))
    small = (sizes <= explained[:, None]) | (np.arange(size) >= counted[:, None])
    dimension[chosen] = np.where(small.all(axis=1), counted, 0)
    return dimension


def ends_along(
    game: Game, players: Players, directions: Float[Array | np.ndarray, "k n"], key: PRNGKeyArray | None = None
) -> tuple[Float[Array, "k n"], Float[Array, "k 4"]]:
    """Where Newton's method ends from points along directions from an equilibrium; traceable.

    Returns:
        how far it ends from the equilibrium, in units of the longest of four lengths, shape (directions, n), and the
        norm of the field there, for every length and in its units, shape (directions, 4).
    """
    flat, unravel = ravel_pytree(players)
    # Long enough for high powers, which fade near the point, to be told from nothing.
    lengths = jnp.asarray([float(jnp.finfo(flat.dtype).eps) ** 0.125, 0.025, 0.05, 0.1], flat.dtype)
    lengths = (1 + jnp.linalg.norm(flat)) * lengths

    def reached(direction: Array, length: Array) -> tuple[Array, Array]:
        end, _, field, _ = newton_method(game, unravel(flat + length * direction), key, 50)
        return (ravel_pytree(end)[0] - flat) / length, jnp.linalg.norm(field) / length

    def along(direction: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda length: reached(direction, length))(lengths)

    moved, fields = jax.vmap(along)(directions.astype(flat.dtype))
    return moved[:, -1], fields


_ends_along = eqx.filter_jit(ends_along)


def players_text(players: Players) -> str:
    """The first few numbers of a point, for messages."""
    flat = np.asarray(ravel_pytree(players)[0])
    shown = ", ".join(f"{value:.4g}" for value in flat[:6])
    return f"({shown}{', ...' if flat.size > 6 else ''})"
