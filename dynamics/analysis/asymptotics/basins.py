"""Basins of attraction: from which starts training ends where."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
import scipy.spatial
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._keys import Keys, for_batches
from dynamics._plain import plain
from dynamics._printing import Described
from dynamics._progress import Shown
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.stability.notes import Verdict
from dynamics.analysis.stability.verdict import stability
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.outcomes import Outcome
from dynamics.simulation import simulate
from dynamics.updates.base import Update

if TYPE_CHECKING:
    import xarray as xr

LIMIT = 1e6  # that of `simulate`
LAPS = 2  # times round a periodic coordinate after which a run is rotating
WITHOUT_END = ("cycling", "rotating", "diverged", "chaotic", "stalled", "power_law", "not_a_number", "undecided")


@dataclasses.dataclass(frozen=True)
class Basins(Described):
    """From which starts a method ends where.

    Attributes:
        labels: the destination of every start, an index into `names`. On a grid `labels[i, j]` belongs to the i-th
            value of the first and the j-th of the second coordinate.
        names: of the destinations.
        kinds: "target", "found" (where runs came to rest that is no target), "rotating" (round and round a periodic
            coordinate), or the name of an outcome without destination: "cycling", "diverged", "chaotic", "stalled",
            "power_law", "not_a_number" or "undecided".
        fractions: share of the starts.
        errors: standard errors of the shares as estimates of volumes, for random starts; NaN on a grid.
        counts: numbers of starts.
        destinations: the players there; `None` for the kinds without one.
        axes: the coordinates of the grid; empty for random starts.
        axis_names: of the coordinates.
        starts: the coordinates of every start, flattened in the order of the labels.
        ends: all parameters at the end of every run, likewise.
        marks: points of interest in the same coordinates, with the label of each; -1 for an unstable equilibrium.
        steps: number of steps of an update, or the time of a flow.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    fractions: np.ndarray
    errors: np.ndarray
    counts: np.ndarray
    destinations: tuple[Players | None, ...]
    axes: tuple[np.ndarray, ...]
    axis_names: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    marks: tuple[tuple[tuple[float, ...], int], ...]
    steps: int | float

    def describe(self) -> str:
        """The result as text."""
        shape = " x ".join(str(len(axis)) for axis in self.axes)
        where = f"a grid of {shape} starts" if self.axes else f"{self.labels.size} random starts"
        lines = [f"{where}, {self.steps:g} {'steps' if isinstance(self.steps, int) else 'units of time'}"]
        for index in np.argsort(-self.counts, kind="stable"):
            error = self.errors[index]
            plus = f" +- {100 * error:.2g} %" if np.isfinite(error) else ""
            suffix = ", found" if self.kinds[index] == "found" else ""
            lines.append(
                f"{100 * self.fractions[index]:6.2f} %{plus} {self.names[index]} ({self.counts[index]}{suffix})"
            )
        return "\n".join(lines)

    def to_xarray(self) -> xr.Dataset:
        """Where every start ends, as an `xarray.Dataset`: along the axes of the grid, or along `start`.

        `destination` is an index into the names of the attribute `destinations`, `end` the parameters at the end.
        """
        import xarray as xr

        grid = [axis.size for axis in self.axes]
        names = list(self.axis_names) if self.axes else ["start"]
        variables: dict[str, Any] = {
            "destination": (names, self.labels),
            "end": ([*names, "parameter"], np.reshape(self.ends, (*(grid or [len(self.ends)]), -1))),
        }
        if not self.axes:
            variables["position"] = (["start", "coordinate"], self.starts)
        coordinates: dict[str, Any] = dict(zip(names, self.axes, strict=True)) if self.axes else {}
        return xr.Dataset(variables, coordinates, {"destinations": list(self.names), "steps": self.steps})

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON, without the end of every single run."""
        skip = {"ends", "destinations", "starts"}
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in skip}
        ends = [None if end is None else [np.asarray(x) for x in jax.tree.leaves(end)] for end in self.destinations]
        return plain({**data, "destinations": ends, "starts": None if self.axes else self.starts})


def basins(
    game: Game,
    method: Update | AbstractFlow,
    low: Any,
    high: Any,
    *,
    points: int | tuple[int, int] = 101,
    steps: int | None = None,
    until: float | None = None,
    targets: Sequence[Any] | Mapping[str, Any] | None = None,
    tolerance: float = 1e-3,
    plane: Sequence[Any] | None = None,
    random: int | None = None,
    key: PRNGKeyArray | None = None,
    period: Any = None,
    minibatch_key: PRNGKeyArray | None = None,
    chunk: int = 4096,
    progress: bool = False,
    **options: Any,
) -> Basins:
    """Where runs end that start all over a box.

    A run that ends within `tolerance` of a target belongs to it, unless it goes round at constant amplitude; a run that
    has come to rest elsewhere belongs to a destination that is found: the ends of such runs, those near each other
    taken together. All other runs are rotating, or cycling, diverged, chaotic, stalled, not a number or undecided (see
    `dynamics.Outcome`). Of a game that goes on changing far from its targets one should look at a few runs before
    believing a picture.

    Args:
        game: the game.
        method: an update (with `steps`) or a flow (with `until`).
        low, high: the box, two tuples of players, where a number for a player stands for all its numbers; or, with
            `plane`, a number for each direction.
        points: starts along each coordinate of the grid, both ends of the box included.
        steps, until: length of the runs.
        targets: where runs may end, tuples of players, with names if it is a dictionary; default those of the game's
            known equilibria that are not unstable for the method.
        tolerance: distance within which two ends are the same.
        plane: `(origin, direction)` or `(origin, first direction, second direction)`, tuples of players: starts are the
            origin plus multiples of the directions. A game of more than two parameters has no grid without.
        random: so many random starts, uniform in the box, instead of a grid; then the fractions estimate volumes.
        key: of the random starts.
        period: of periodic coordinates, one number for all or a tuple of players, `None` for a player without period;
            ends are compared modulo it.
        minibatch_key: for minibatches; run i uses `fold_in(minibatch_key, i)`. `None`: exact expectations.
        chunk: number of runs at a time. It decides about memory and not about the result.
        progress: show a progress bar.
        options: passed to `dynamics.simulate`: `limit`, or for flows `solver`, `dt0`, `max_steps`.

    Raises:
        TypeError: the method is no update and no flow.
        ValueError: an empty box, more than two coordinates for a grid, random starts without a key, or a number out of
            bounds.

    >>> import dynamics as dy
    >>> game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 4 / 4 - p[0] ** 2 / 2,), [(1.0,), (-1.0,), (0.0,)])
    >>> result = basins(game, dy.flows.Flow(), (-2.0,), (3.0,), points=50, until=40.0)
    >>> result.names, result.counts.tolist()
    (('(1)', '(-1)'), [30, 20])
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    chunk = as_whole("chunk", chunk)
    random = None if random is None else as_whole("random", random)
    steps = None if steps is None else as_whole("steps", steps)
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; expected a positive number")
    box = _box(game, low, high, plane)
    axes: tuple[np.ndarray, ...] = ()
    if random is not None:
        if key is None:
            raise ValueError("random starts need random numbers; pass key=jax.random.key(0)")
        unit = jax.random.uniform(key, (random, len(box.low)), jnp.result_type(float))
        coordinates = box.low + (box.high - box.low) * np.asarray(unit, float)
    else:
        axes = _grid(box, points)
        coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    periods = _periods(period, box.template)
    goals = _targets(game, method, targets, box.template, minibatch_key)
    starts = box.origin + coordinates @ box.directions
    # At rest shall mean at rest compared with the distance at which two ends are told apart.
    settled = min(1e-3, tolerance / (4 * float(np.linalg.norm((box.high - box.low) @ np.abs(box.directions)))))
    outcomes, ends, residuals = _run_all(
        (game, method, box.template), starts, chunk, minibatch_key, steps, until, settled, progress, options
    )
    limit = options.get("limit", LIMIT)
    kinds, places, names, labels = _assign(outcomes, starts, ends, residuals, goals, periods, tolerance, limit)
    counts = np.bincount(labels, minlength=len(names))
    fractions = counts / len(labels)
    unravel = box.unravel
    marks = [(point, index) for index, point in enumerate(places) if point is not None]
    marks += [(point, -1) for point in goals.unstable]
    marks = {box_place: index for point, index in marks for box_place in box.positions(point, periods)}
    return Basins(
        labels=labels.reshape([len(axis) for axis in axes]) if axes else labels,
        names=names,
        kinds=kinds,
        fractions=fractions,
        errors=np.full(len(counts), np.nan) if axes else np.sqrt(fractions * (1 - fractions) / len(labels)),
        counts=counts,
        destinations=tuple(None if point is None else unravel(point) for point in places),
        axes=axes,
        axis_names=box.names,
        starts=coordinates,
        ends=ends,
        marks=tuple(marks.items()),
        steps=float(until) if steps is None else steps,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Box:
    """The box of starts: its sides in the free coordinates, and what these mean for the players."""

    template: Players
    low: np.ndarray
    high: np.ndarray
    origin: np.ndarray
    directions: np.ndarray  # a row for every coordinate
    names: tuple[str, ...]
    whole: bool  # the coordinates are all the parameters

    def unravel(self, flat: np.ndarray) -> Players:
        """A vector as players."""
        vector, unravel = ravel_pytree(self.template)
        return jax.device_get(unravel(jnp.asarray(flat, vector.dtype)))

    def positions(self, point: np.ndarray, periods: np.ndarray) -> list[tuple[float, ...]]:
        """The coordinates of a point and of its copies, as far as they are in the box."""
        if not self.whole:
            place, *_ = np.linalg.lstsq(self.directions.T, point - self.origin, rcond=None)
            off = np.linalg.norm(self.origin + place @ self.directions - point)
            return [tuple(place.tolist())] if off <= 1e-6 * (1 + np.linalg.norm(point)) and self._holds(place) else []
        if len(point) > 2:
            return []
        copies = []
        for value, low, high, length in zip(point, self.low, self.high, periods, strict=True):
            if np.isfinite(length):
                first, last = math.ceil((low - value) / length - 1e-9), math.floor((high - value) / length + 1e-9)
                copies.append([value + lap * length for lap in range(first, last + 1)])
            else:
                copies.append([value])
        return [
            tuple(float(x) + 0.0 for x in place) for place in itertools.product(*copies) if self._holds(np.array(place))
        ]

    def _holds(self, place: np.ndarray) -> bool:
        room = 1e-6 * (self.high - self.low)
        return bool(np.all((place >= self.low - room) & (place <= self.high + room)))


def _box(game: Game, low: Any, high: Any, plane: Sequence[Any] | None) -> _Box:
    if plane is None:
        lower, upper = as_players(low, "low"), as_players(high, "high")
        if len(lower) != len(upper) or not lower:
            raise ValueError(f"low has {len(lower)} players and high {len(upper)}; expected the same number")
        known = game.equilibria()
        template = as_players(known[0], "equilibria") if known and len(known[0]) == len(lower) else None
        if template is None:
            template = tuple(b if _is_number(a) else a for a, b in zip(lower, upper, strict=True))
        template = _trees.cast(template, _trees.float_dtype((lower, upper)))
        sides = [_spread(side, template, name) for side, name in ((lower, "low"), (upper, "high"))]
        size = len(sides[0])
        origin, directions, names = np.zeros(size), np.eye(size), _parameter_names(template)
    else:
        if not isinstance(plane, (tuple, list)) or len(plane) not in (2, 3):
            raise ValueError("plane is (origin, direction) or (origin, first direction, second direction)")
        template = as_players(plane[0], "plane[0]")
        rows = [_spread(as_players(point, "plane"), template, "plane") for point in plane]
        origin, directions = rows[0], np.stack(rows[1:])
        if np.linalg.matrix_rank(directions) < len(directions):
            raise ValueError("the directions of the plane are zero or parallel; expected independent ones")
        sides = [np.broadcast_to(np.asarray(side, float), len(directions)) for side in (low, high)]
        names = ("first direction", "second direction")[: len(directions)]
    if not (np.all(np.isfinite(sides)) and np.all(sides[0] < sides[1])):
        raise ValueError(f"the box goes from {low} to {high}; expected finite low < high in every coordinate")
    return _Box(template, *sides, origin, directions, names, plane is None)


def _is_number(player: Any) -> bool:
    return eqx.is_array(player) and player.ndim == 0


def _spread(value: Sequence[Any], template: Players, name: str) -> np.ndarray:
    """Players, or a number for some of them, as one vector."""
    if len(value) != len(template):
        raise ValueError(f"{name} has {len(value)} players; expected {len(template)}")
    parts = []
    for index, (parameters, like) in enumerate(zip(value, template, strict=True)):
        if jax.tree.structure(parameters) == jax.tree.structure(0) and jnp.ndim(parameters) == 0:
            parameters = jax.tree.map(lambda leaf, parameters=parameters: jnp.full_like(leaf, parameters), like)
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (parameters, like)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"player {index} of {name} has shapes {shapes[0]}; expected {shapes[1]}, or a number")
        parts.append(np.asarray(ravel_pytree(parameters)[0], float))
    return np.concatenate(parts)


def _parameter_names(template: Players) -> tuple[str, ...]:
    names = []
    for index, player in enumerate(template):
        size = _trees.size(player)
        names += [f"player {index}" + (f", parameter {i}" if size > 1 else "") for i in range(size)]
    return tuple(names)


def _grid(box: _Box, points: Any) -> tuple[np.ndarray, ...]:
    if len(box.low) > 2:
        raise ValueError(
            f"the game has {len(box.low)} parameters, too many for a grid; pass plane=(origin, first direction, second "
            "direction), or random=10_000 and a key"
        )
    counts = list(points) if isinstance(points, (tuple, list)) else [points] * len(box.low)
    if len(counts) != len(box.low):
        raise ValueError(f"points is {points!r}; expected a whole number >= 2, or one for each of {len(box.low)} axes")
    counts = [as_whole("points", count, 2) for count in counts]
    return tuple(np.linspace(*side) for side in zip(box.low, box.high, counts, strict=True))


def _periods(period: Any, template: Players) -> np.ndarray:
    """The period of every parameter, infinite without one."""
    if period is None:
        period = math.inf
    several = isinstance(period, (tuple, list))
    players = period if several else [period] * len(template)
    periods = _spread([math.inf if length is None else length for length in players], template, "period")
    if not np.all(periods > 0):
        raise ValueError(f"period is {period}; expected positive numbers, or None for a player without period")
    return periods


class _Goals(list):
    """Names and points of the targets, and the unstable equilibria besides."""

    unstable: list[np.ndarray]


def _targets(game, method, targets, template: Players, key) -> _Goals:
    goals = _Goals()
    goals.unstable = []
    given: list[tuple[str | None, Any]]
    if targets is not None:
        given = list(targets.items()) if isinstance(targets, Mapping) else [(None, point) for point in targets]
    else:
        given = []
        for point in game.equilibria():
            point = _trees.cast(as_players(point, "equilibria"), _trees.float_dtype(template))
            try:
                unstable = stability(game, method, at=point, key=key).verdict is Verdict.unstable
            except EquilibriumError:
                continue
            if unstable:
                goals.unstable.append(_spread(point, template, "an equilibrium"))
            else:
                given.append((None, point))
    for index, (name, point) in enumerate(given):
        flat = _spread(as_players(point, "targets"), template, "a target")
        goals.append((str(name) if name is not None else _place(flat, f"target {index + 1}"), flat))
    return goals


def _place(point: np.ndarray, otherwise: str) -> str:
    """A point by its coordinates, if these are few."""
    if len(point) > 3:
        return otherwise
    return "(" + ", ".join(f"{value:.4g}" for value in np.round(point, 9) + 0.0) + ")"


def _run_all(parts, starts, chunk: int, key, steps, until, settled: float, progress: bool, options):
    """Outcome, end and residual of every run."""
    dtype = _trees.float_dtype(parts[2])
    chunk = min(chunk, len(starts))
    until = None if until is None else jnp.asarray(until, dtype)
    thresholds = jnp.asarray(settled, dtype)
    results = []
    with Shown(progress, len(starts), label="basins", unit="run") as show:
        for begin in range(0, len(starts), chunk):
            # The last chunk is filled up, so that one program serves all.
            index = np.minimum(np.arange(begin, begin + chunk), len(starts) - 1)
            keys = None if key is None else _keys(for_batches(key), jnp.asarray(index))
            computed = _ends(*parts, jnp.asarray(starts[index], dtype), keys, until, thresholds, steps, options)
            results.append([np.asarray(values)[: len(starts) - begin] for values in jax.device_get(computed)])
            show(min(begin + chunk, len(starts)), "")
    return [np.concatenate(column) for column in zip(*results, strict=True)]


def _keys(key: PRNGKeyArray, index: Array) -> Keys:
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


@eqx.filter_jit
def _ends(game, method, template, starts: Float[Array, "runs n"], keys, until, settled, steps, options):
    _, unravel = ravel_pytree(template)

    def run(start: Array, key: PRNGKeyArray | None) -> tuple[Array, Array, Array]:
        run = simulate(
            game,
            method,
            unravel(start),
            steps=steps,
            until=until,
            save_every="last",
            key=key,
            tolerance=settled,
            **options,
        )
        return run.outcome, ravel_pytree(run.final)[0], run.residual

    return jax.vmap(run)(starts, keys)


def _assign(outcomes, starts, ends, residuals, goals: _Goals, periods, tolerance: float, limit: float):
    """Kinds, places and names of the destinations, and the label of every run."""
    with np.errstate(invalid="ignore", over="ignore"):
        travelled = ends - starts
        inside = np.linalg.norm(travelled, axis=1) <= limit * np.maximum(1, np.linalg.norm(starts, axis=1))
        laps = np.max(np.abs(travelled) / periods, axis=1)
        distances = np.array([np.linalg.norm(_difference(ends, goal, periods), axis=1) for _, goal in goals])
    labels = np.full(len(ends), -1)
    steady = inside & ~np.isin(outcomes, (Outcome.cycling, Outcome.chaotic))
    if len(goals):
        nearest = np.argmin(np.where(np.isnan(distances), np.inf, distances), axis=0)
        near = steady & (distances[nearest, np.arange(len(ends))] <= tolerance)
        labels[near] = nearest[near]
    kinds, names, places = ["target"] * len(goals), [name for name, _ in goals], [goal for _, goal in goals]
    rest = np.flatnonzero(steady & (labels < 0) & (outcomes == Outcome.converged))
    members = _clusters(ends[rest], tolerance, periods)
    for group in sorted(members, key=lambda group: (-len(group), group[0])):
        index = rest[group]
        place = ends[index[np.argmin(residuals[index])]]
        unstable = [goal for goal in goals.unstable if np.linalg.norm(_difference(place, goal, periods)) <= tolerance]
        place = unstable[0] if unstable else _reduced(place, periods, tolerance)
        labels[index] = len(names)
        kinds.append("found")
        name = _place(place, f"end {len(names) - len(goals) + 1}")
        names.append(f"{name}, unstable" if unstable else name)  # a start right on it, or on its stable manifold
        places.append(place)
    # Angles that keep growing are no divergence.
    grown = (outcomes == Outcome.diverged) & ~np.isfinite(periods).all()
    fate = np.select(
        [
            outcomes == Outcome.not_a_number,
            ~inside,
            outcomes == Outcome.cycling,
            laps >= LAPS,
            grown,
            outcomes == Outcome.chaotic,
            outcomes == Outcome.stalled,
            outcomes == Outcome.power_law,
        ],
        ["not_a_number", "diverged", "cycling", "rotating", "diverged", "chaotic", "stalled", "power_law"],
        "undecided",
    )
    for kind in WITHOUT_END:
        chosen = (labels < 0) & (fate == kind)
        if chosen.any():
            labels[chosen] = len(names)
            kinds.append(kind)
            names.append(kind)
            places.append(None)
    for index, name in enumerate(names):
        if name in names[:index]:
            names[index] = f"{name}, {names[:index].count(name) + 1}"
    return tuple(kinds), places, tuple(names), labels


def _difference(points: np.ndarray, other: Any, periods: np.ndarray) -> np.ndarray:
    """The shortest difference modulo the periods."""
    difference = points - other
    periodic = np.isfinite(periods)
    lengths = np.where(periodic, periods, 1)
    return np.where(periodic, difference - lengths * np.round(difference / lengths), difference)


def _reduced(point: np.ndarray, periods: np.ndarray, tolerance: float) -> np.ndarray:
    """The point within half a period of 0, and at plus half a period rather than minus."""
    point = _difference(point, 0, periods)
    return np.where(point <= tolerance - periods / 2, point + periods, point)


def _clusters(points: np.ndarray, tolerance: float, periods: np.ndarray) -> list[np.ndarray]:
    """Indices of points that hang together by distances of about the tolerance."""
    if not len(points):
        return []
    periodic = np.isfinite(periods)
    lengths = np.where(periodic, periods, 1)
    points = np.where(periodic, np.mod(points, lengths), points)
    points = np.where(periodic & (points >= lengths), 0, points)  # rounding of np.mod
    # First cells of that size, as thousands of ends may agree and their pairs would be millions.
    cells = np.floor(points * (math.sqrt(points.shape[1]) / tolerance))
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    # Shifted, as a tree with some periodic coordinates wants all of them to be positive.
    corner = np.where(periodic, 0, points.min(axis=0))
    tree = scipy.spatial.cKDTree(points[first] - corner, boxsize=np.where(periodic, lengths, 0))
    pairs = tree.query_pairs(3 * tolerance, output_type="ndarray")
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(len(first),) * 2)
    component = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][cell.ravel()]
    return [np.flatnonzero(component == number) for number in np.unique(component)]
