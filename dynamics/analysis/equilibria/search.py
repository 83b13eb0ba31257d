"""All equilibria of a game within a box."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import scipy.sparse.csgraph
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics.analysis.equilibria.newton import Equilibrium, newton_step, singular_rounding
from dynamics.analysis.equilibria.precision import as_point
from dynamics.compiler.derivatives import released
from dynamics.game import Game, Players

SEARCH_STEPS = 64  # Levenberg-Marquardt steps on the deflated field
POLISH_STEPS = 32  # Newton steps on the field itself
ROUNDS = 32  # of deflation, at most
CORNERS = 6  # players' numbers up to which the corners of the box are starts too


def find_equilibria(
    game: Game,
    box: tuple[Any, Any],
    *,
    starts: int = 256,
    key: PRNGKeyArray | None = None,
    tolerance: float | None = None,
    separation: float | None = None,
) -> tuple[Equilibrium, ...]:
    r"""Search a box for all equilibria, of every kind, by Newton's method from many starts with deflation.

    From quasi-random starts, the centre and (in few dimensions) the corners, all at once, the field v is brought to
    zero by damped steps and polished by Newton's method on v. Then the same is done with the deflated field
    $v(x)\prod_r(|x-r|^{-2}+1)$, r the equilibria known so far and distances in units of the box, which leads away
    from them, until a round brings nothing new (Farrell, Birkisson, Funke, Deflation Techniques for Finding Distinct
    Solutions of Nonlinear Partial Differential Equations, 2015). This is a search, not a proof: an equilibrium with a
    small basin of attraction can be missed; more starts find more.

    Where the Jacobian is singular, equilibria between which a path of equilibria was found count as one: of every
    connected manifold one point is returned, the found one that is nearest to the centre of the box, with infinite
    condition. A strongly curved manifold may be represented by more than one.

    With mixed strategies the field of a matrix game does not vanish at its equilibria, which are held on the simplex:
    there all Nash equilibria within the box are returned, pure and mixed, by enumeration; see
    `dynamics.games.MatrixGame.nash_equilibria`. Their residual is what the players could gain, added
    up. With logits the search finds the equilibria in which all actions are played; the
    others lie at infinity.

    Args:
        game: the game.
        box: `(low, high)`, two tuples of players. A number for a player stands for all numbers of that player, whose
            shape then comes from the other side, or from the game's known equilibria, or else it is a scalar.
        starts: number of quasi-random starts.
        key: shifts the starts; for a game that can only be sampled it freezes the batch as well. `None`: the starts are
            always the same.
        tolerance: largest accepted norm of the field, relative to `1 + |Dv|`; default 1e-12, in float32 1e-5.
        separation: distance, in units of the box, below which two equilibria are the same; default the square root of
            the rounding unit. Where the Jacobian is ill-conditioned a larger distance applies.

    Returns:
        the equilibria sorted by their coordinates, each with its certificate; `distance` is that from the start that
        led to it, `steps` the number of all steps from there.

    Raises:
        ValueError: the box is no pair, its two sides have different shapes, or low is not below high everywhere.
        TypeError: an entry of the box is no number.

    >>> from dynamics.games import SpuriousAttractor
    >>> [round(float(point.players[1]), 4) for point in find_equilibria(SpuriousAttractor(), ((-5, -5), (5, 5)))]
    [3.4142, 0.5858, 0.0]
    """
    low, high = _sides(game, box)
    if getattr(game, "strategies", None) == "mixed" and hasattr(game, "nash_equilibria"):
        return _of_matrix_game(game, low, high)
    template = low
    low, high = (np.asarray(ravel_pytree(side)[0]) for side in (low, high))
    starts = as_whole("starts", starts)
    _check(low, high, tolerance, separation)
    dtype = low.dtype
    game = _trees.cast(game, dtype)
    rounding = float(np.finfo(dtype).eps)
    if tolerance is None:
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
    if separation is None:
        separation = rounding**0.5
    first = _starts(len(low), starts, key).astype(dtype)
    search = _Search(game, template, low, high, first, key, float(tolerance), float(separation))
    points = _merged(search, search.from_starts(first, []))
    for _ in range(ROUNDS):
        before = len(points)
        points = _merged(search, points + search.from_starts(first, _representatives(search, points)))
        if len(_representatives(search, points)) == len(_representatives(search, points[:before])):
            break
    inside = [point for point in _representatives(search, points) if search.contains(point)]
    # Rounded, so that equal coordinates are equal.
    inside.sort(key=lambda point: tuple(np.round(point.position, 6) + 0.0))
    return tuple(search.certified(point) for point in inside)


def _of_matrix_game(game: Any, low: Players, high: Players) -> tuple[Equilibrium, ...]:
    """The Nash equilibria within a box of mixed strategies."""
    known = game.nash_equilibria()
    for player, (side, point) in enumerate(zip(low, known[0], strict=True)):
        if jnp.shape(side) not in ((), point.shape):
            raise ValueError(f"player {player} of the box has shape {jnp.shape(side)}; this game has {point.shape}")
    dtype = _trees.float_dtype(low)
    inside = []
    for point, gap in zip(known, known.gaps, strict=True):
        if not all(bool(jnp.all((p >= a) & (p <= b))) for p, a, b in zip(point, low, high, strict=True)):
            continue
        flat, unravel = ravel_pytree(point)
        jacobian = jax.jacfwd(lambda vector, to=unravel: ravel_pytree(game.field(to(vector)))[0])(flat)
        singular = np.linalg.svd(np.asarray(jacobian), compute_uv=False)
        floor = singular_rounding(len(singular), singular.dtype) * singular[0]
        condition = float(singular[0] / singular[-1]) if singular[-1] > floor else float("inf")
        inside.append(Equilibrium(_trees.cast(point, dtype), gap, 0.0, condition, 0))
    return tuple(inside)


@dataclasses.dataclass(eq=False)
class _Point:
    """A point at which the field vanishes; `position` is in units of the box."""

    position: np.ndarray
    start: np.ndarray
    residual: float
    singular: np.ndarray  # singular values of the Jacobian
    scaled: np.ndarray  # those in units of the box, relative to the largest rows at the starts
    steps: int
    manifold: int = -1  # equal for points with a path of equilibria between them; negative for isolated points


class _Search:
    """The game in units of the box, and what a point must fulfil."""

    def __init__(self, game, template, low, high, first, key, tolerance, separation):
        self.game, self.template, self.low, self.width = game, template, low, high - low
        self.key, self.tolerance, self.separation = key, tolerance, separation
        self.rounding = float(np.finfo(low.dtype).eps)
        self.reach = 1 + np.max(np.maximum(abs(low), abs(high)) / self.width)
        rows = np.asarray(_rows(game, template, first, low, self.width, key))
        rows = np.max(np.where(np.isfinite(rows), rows, 0), axis=0)
        self.rows = np.where(rows > 0, rows, 1).astype(low.dtype)

    def from_starts(self, starts: np.ndarray, known: list[_Point]) -> list[_Point]:
        """The equilibria to which the starts lead, the known ones deflated."""
        roots = np.zeros((max(32, 1 << len(known).bit_length()), len(self.low)), self.low.dtype)
        roots[: len(known)] = [point.position for point in known] or roots[:0]
        mask = np.arange(len(roots)) < len(known)
        ends = _search(self.game, self.template, starts, roots, mask, self.low, self.width, self.rows, self.key)
        return [point for point in self.points(starts, *ends) if self.is_near(point)]

    def points(self, starts, ends, steps, fields, jacobians) -> list[_Point]:
        """Those of the ends at which the field vanishes."""
        starts, ends, steps, fields, jacobians = (np.asarray(x) for x in (starts, ends, steps, fields, jacobians))
        finite = np.isfinite(ends).all(1) & np.isfinite(fields).all(1) & np.isfinite(jacobians).all((1, 2))
        starts, ends, steps, fields, jacobians = (x[finite] for x in (starts, ends, steps, fields, jacobians))
        singular = np.linalg.svd(jacobians, compute_uv=False)
        scaled = np.linalg.svd(jacobians * self.width / self.rows[:, None], compute_uv=False)
        residuals = np.linalg.norm(fields, axis=1)
        lengths = np.array([newton_step(*system) for system in zip(jacobians, fields, strict=True)])
        sizes = np.linalg.norm(self.low + self.width * ends, axis=1)
        # Where the field fades away it is small too, but Newton's method still wants to go far.
        good = (residuals <= self.tolerance * (1 + singular[:, 0])) & (lengths <= self.tolerance**0.5 * (1 + sizes))
        return [
            _Point(ends[i], starts[i], float(residuals[i]), singular[i], scaled[i], int(steps[i]))
            for i in np.flatnonzero(good)
        ]

    def is_near(self, point: _Point) -> bool:
        """Within the box or near it; deflated too, lest the starts go on leading there."""
        return bool(np.all(np.abs(point.position - 0.5) <= 1))

    def contains(self, point: _Point) -> bool:
        slack = 16 * self.rounding * self.reach
        return bool(np.all((point.position >= -slack) & (point.position <= 1 + slack)))

    def is_degenerate(self, point: _Point) -> bool:
        return bool(point.scaled[-1] <= self.tolerance**0.4)

    def error(self, point: _Point) -> float:
        """Distance within which rounding leaves the point undetermined."""
        return 16 * self.rounding * self.reach * point.scaled[0] / max(point.scaled[-1], self.rounding**0.5)

    def certified(self, point: _Point) -> Equilibrium:
        unravel = ravel_pytree(self.template)[1]
        players, start = self.low + self.width * point.position, self.low + self.width * point.start
        floor = singular_rounding(len(self.low), self.low.dtype) * point.singular[0]
        condition = float(point.singular[0] / point.singular[-1]) if point.singular[-1] > floor else float("inf")
        distance = float(np.linalg.norm(players - start))
        return Equilibrium(unravel(jnp.asarray(players)), point.residual, distance, condition, point.steps)


def _merged(search: _Search, points: list[_Point]) -> list[_Point]:
    """Leave out duplicates, later ones first, and mark points that lie on a common manifold."""
    kept: list[_Point] = []
    for point in points:
        gaps = np.array([np.max(np.abs(point.position - other.position)) for other in kept])
        if not len(kept) or np.min(gaps) > max(search.separation, search.error(point)):
            kept.append(point)
    degenerate = [point for point in kept if search.is_degenerate(point)]
    if len(degenerate) > 1:
        for point, label in zip(degenerate, _labels(search, degenerate), strict=True):
            point.manifold = int(label)
    return kept


def _labels(search: _Search, points: list[_Point]) -> np.ndarray:
    """Number the sets of points that are connected by equilibria: neighbours whose middle is, or is near, another."""
    positions = np.array([point.position for point in points])
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    tree = scipy.sparse.csgraph.minimum_spanning_tree(gaps).tocoo()
    middles = (positions[tree.row] + positions[tree.col]) / 2
    padded = np.concatenate([middles, np.repeat(middles[:1], -len(middles) % 256, axis=0)])
    near = np.zeros(len(padded), bool)
    for chunk in np.split(np.arange(len(padded)), len(padded) // 256):
        exact, polished = _polish(
            search.game, search.template, padded[chunk], search.low, search.width, search.rows, search.key
        )
        index = np.arange(256, dtype=positions.dtype)[:, None] * np.ones(positions.shape[1], positions.dtype)
        for ends in (exact, polished):  # the starts carry the numbers of the middles along
            for point in search.points(index, *ends):
                number = int(point.start[0])
                moved = np.linalg.norm(point.position - padded[chunk[number]])
                edge = min(chunk[number], len(middles) - 1)
                # Along a manifold Newton's method drifts by what rounding leaves open.
                allowed = max(gaps[tree.row[edge], tree.col[edge]] / 4, search.rounding**0.25)
                near[chunk[number]] |= moved <= allowed
    joined = near[: len(middles)]
    graph = scipy.sparse.coo_array(
        (np.ones(joined.sum()), (tree.row[joined], tree.col[joined])), shape=(len(points), len(points))
    )
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _representatives(search: _Search, points: list[_Point]) -> list[_Point]:
    """The isolated points, and one point of every manifold."""
    groups: dict[int, list[_Point]] = {}
    for point in points:
        if point.manifold >= 0:
            groups.setdefault(point.manifold, []).append(point)
    chosen = [point for point in points if point.manifold < 0]
    for members in groups.values():
        inside = [point for point in members if search.contains(point)] or members
        positions = np.array([point.position for point in inside])
        if np.max(np.ptp(positions, axis=0)) < search.rounding**0.25:  # one degenerate point, found inexactly
            chosen.append(min(inside, key=lambda point: point.residual))
        else:
            chosen.append(min(inside, key=lambda point: float(np.linalg.norm(point.position - 0.5))))
    return chosen


def _starts(dimension: int, count: int, key: PRNGKeyArray | None) -> np.ndarray:
    """Starts in the unit cube: the centre, corners, and Sobol's points shifted off their regular places."""
    from scipy.stats.qmc import Sobol  # takes a quarter of a second

    if key is None:
        shift = np.modf(np.arange(1, dimension + 1) * (5**0.5 - 1) / 2)[0]
    else:
        shift = np.asarray(jax.random.uniform(key, (dimension,)))
    sobol = Sobol(dimension, scramble=False)
    spread = (sobol.random_base2(max(count - 1, 1).bit_length())[:count] + shift) % 1
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=dimension))) if dimension <= CORNERS else spread[:0]
    return np.concatenate([np.full((1, dimension), 0.5), corners, spread])


def _field(game: Game, template: Players, low: Array, width: Array, key: PRNGKeyArray | None):
    """The field as a function of a position in units of the box."""
    unravel = ravel_pytree(template)[1]
    return released(lambda position: ravel_pytree(game.field(unravel(low + width * position), key))[0])


@eqx.filter_jit
def _rows(game, template, starts, low, width, key):
    """Norms of the rows of the Jacobian at the starts."""
    jacobian = jax.jacfwd(_field(game, template, low, width, key))
    return jax.vmap(lambda start: jnp.linalg.norm(jacobian(start), axis=1))(starts)


def _newton(field, position, rows):
    epsilon = float(jnp.finfo(position.dtype).eps)
    solver = optx.Newton(
        rtol=4 * epsilon, atol=epsilon, linear_solver=lx.SVD(singular_rounding(position.size, position.dtype))
    )
    return optx.root_find(lambda x, _: field(x) / rows, solver, position, max_steps=POLISH_STEPS, throw=False)


@eqx.filter_jit
def _search(game, template, starts, roots, mask, low, width, rows, key):
    """Ends of the search from every start: positions, numbers of steps, fields and Jacobians."""
    field = _field(game, template, low, width, key)
    epsilon = float(jnp.finfo(starts.dtype).eps)
    solver = optx.LevenbergMarquardt(rtol=epsilon**0.5, atol=epsilon**0.5)

    def deflated(position, _):
        position = position.astype(starts.dtype)
        squares = jnp.sum((position - roots) ** 2, axis=1) + epsilon**2  # a start may be a root
        away = jnp.prod(jnp.where(mask, 1 / squares + 1, 1)) * field(position) / rows
        return away.astype(float)

    def root_from(start):
        # The solver's damping has the default precision, whatever that of the start is.
        rough = optx.root_find(deflated, solver, start.astype(float), max_steps=SEARCH_STEPS, throw=False)
        fine = _newton(field, rough.value.astype(start.dtype), rows)
        steps = rough.stats["num_steps"] + fine.stats["num_steps"]
        return fine.value, steps, field(fine.value), jax.jacfwd(field)(fine.value) / width

    return jax.vmap(root_from)(starts)


@eqx.filter_jit
def _polish(game, template, middles, low, width, rows, key):
    """The same for points as they are, and after Newton's method."""
    field = _field(game, template, low, width, key)

    def at(position, steps):
        return position, steps, field(position), jax.jacfwd(field)(position) / width

    def polished(middle):
        fine = _newton(field, middle, rows)
        return at(middle, 0 * fine.stats["num_steps"]), at(fine.value, fine.stats["num_steps"])

    return jax.vmap(polished)(middles)


def _sides(game: Game, box: Any) -> tuple[Players, Players]:
    """The two sides of the box as players of the same shapes."""
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        raise ValueError(f"box is {box!r}; expected a pair (low, high) of tuples of players, e.g. ((-2, -2), (2, 2))")
    low, high = as_point(box[0], "box[0]"), as_point(box[1], "box[1]")
    if len(low) != len(high) or not low:
        raise ValueError(
            f"box has {len(low)} players below and {len(high)} above; expected the same number, one or more"
        )
    known = game.equilibria()
    shapes = known[0] if known and len(known[0]) == len(low) else (jnp.zeros(()),) * len(low)
    pairs = [_player(i, *sides) for i, sides in enumerate(zip(low, high, shapes, strict=True))]
    dtype = _trees.float_dtype(pairs)
    begin, end = (tuple(_trees.cast(pair[side], dtype) for pair in pairs) for side in (0, 1))
    return begin, end


def _player(index: int, low: Any, high: Any, shape: Any) -> tuple[Any, Any]:
    def is_number(side):
        return eqx.is_array(side) and side.ndim == 0

    like = shape if is_number(low) and is_number(high) else high if is_number(low) else low
    sides = [
        jax.tree.map(lambda leaf, s=s: jnp.full_like(leaf, s, dtype=s.dtype), like) if is_number(s) else s
        for s in (low, high)
    ]
    described = [jax.tree.map(jnp.shape, side) for side in sides]
    if described[0] != described[1]:
        raise ValueError(
            f"player {index} of the box has shapes {described[0]} below and {described[1]} above; expected the same, "
            "or a number on one side"
        )
    return sides[0], sides[1]


def _check(low: np.ndarray, high: np.ndarray, tolerance: float | None, separation: float | None) -> None:
    wrong = np.flatnonzero(~(low < high))
    if len(wrong):
        raise ValueError(
            f"box goes from {low[wrong[0]]:g} to {high[wrong[0]]:g} in coordinate {wrong[0]}; expected low < high"
        )
    for name, value in (("tolerance", tolerance), ("separation", separation)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} is {value!r}; expected a number > 0 and < 1, or None")
