"""What the pictures of a study show, besides its cells: portraits, time series, basins, eigenvalues over a number.

Each is asked for by a table of the study, of a cell or several of one game; with numeric axes, at their first values.
`requests` looks at all tables before anything runs, `figure` computes what one of them shows.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from dynamics import _trees
from dynamics._names import nearest
from dynamics._text import shown
from dynamics.analysis import EquilibriumError, SpectrumPath
from dynamics.analysis import basins as basins_of
from dynamics.analysis.bifurcation.path import matched
from dynamics.analysis.equilibria.newton import accuracy_of
from dynamics.analysis.planar import field_on_grid
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.fixed_point import check_fixed_point, not_an_equilibrium, residual_vanishes
from dynamics.analysis.stability.linearisation import linearise
from dynamics.analysis.stability.rest import FEW_COUNTS
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Players
from dynamics.simulation import simulate
from dynamics.studies.building import blamed
from dynamics.studies.jobs import Job, computed, jobs_of, length_of, stacked, structure_of
from dynamics.studies.results import BasinsOfCell, EigenvaluesOfCell, Portrait, Series, label, player_names
from dynamics.studies.schema import Study, StudyError, values_along, varied
from dynamics.updates import Update

MOST_POINTS = 10_000  # of a trajectory in a portrait
FLOW_POINTS = 4_000  # likewise of a flow; few would be polygons
SERIES_POINTS = 5_000  # of a line over time
MOST_COORDINATES = 6  # of the players that are drawn over time
MOST_PORTRAITS, MOST_PATHS = 6, 6  # of a study that does not say which; paths in each


@dataclasses.dataclass(frozen=True)
class Request:
    """A picture that a study asks for.

    Attributes:
        kind: the name of the table: "portrait", "series", "basins" or "eigenvalues".
        where: its path, for messages.
        title: what it is of.
        jobs: the cells.
        table: of the study, as data.
    """

    kind: str
    where: str
    title: str
    jobs: list[Job]
    table: dict[str, Any]


def requests(study: Study, jobs: Sequence[Job]) -> list[Request]:
    """All pictures that the study asks for.

    Raises:
        StudyError: a picture is of none of the cells, or cannot be drawn of them.
    """
    asked = []
    if "portraits" in study.data["draw"]:
        tables = _tables(study, "portrait")
        asked += [_portrait_of(where, table, jobs) for where, table in tables] or _portraits_of_all(jobs)
    for kind, check in (("series", None), ("basins", _check_basins), ("eigenvalues", _check_eigenvalues)):
        for where, table in _tables(study, kind):
            request = Request(kind, where, _title(table), _chosen(where, table, jobs), table)
            if check is not None:
                check(study, request)
            asked.append(request)
    return asked


def figure(study: Study, request: Request) -> Any:
    """What a picture shows; the caller holds the lock for tracing."""
    return _COMPUTED[request.kind](study, request)


def by_kind(drawn: Iterable[Any]) -> dict[str, tuple[Any, ...]]:
    """What pictures show, as the fields of `Results`."""
    drawn = list(drawn)
    fields = {"portraits": Portrait, "series": Series, "basins": BasinsOfCell, "eigenvalues": EigenvaluesOfCell}
    return {name: tuple(entry for entry in drawn if isinstance(entry, cls)) for name, cls in fields.items()}


def _tables(study: Study, kind: str) -> list[tuple[str, dict[str, Any]]]:
    tables = study.data[kind]
    if isinstance(tables, dict):
        return [(kind, tables)]
    return [(f"{kind}.{index}", table) for index, table in enumerate(tables)]


def _title(table: dict[str, Any]) -> str:
    return " / ".join(str(table[key]) for key in ("game", "objective", "penalty") if table.get(key))


def _chosen(where: str, table: dict[str, Any], jobs: Sequence[Job]) -> list[Job]:
    """The cells that a table names: one for each of its methods, at the first values of the axes."""
    chosen = [job for job in jobs if not job.recipe.axes or job.recipe.axes == jobs[0].recipe.axes]
    for key in ("game", "objective", "penalty", "kind"):
        if key in table:
            names = {getattr(job.recipe, key) for job in chosen}
            if table[key] not in names:
                raise StudyError(f"{where}.{key}: got {table[key]!r}{nearest(str(table[key]), names)}")
            chosen = [job for job in chosen if getattr(job.recipe, key) == table[key]]
    key, methods = ("methods", table["methods"]) if "methods" in table else ("method", [table["method"]])
    picked = []
    for method in methods:
        matching = [job for job in chosen if job.recipe.method == method]
        if not matching:
            known = {job.recipe.method for job in chosen}
            raise StudyError(f"{where}.{key}: got {method!r}{nearest(str(method), known)}")
        picked.append(matching[0])
    return picked


# Portraits


def _is_planar(job: Job) -> bool:
    return sum(_trees.size(player) for player in job.start) == 2


def _portrait_of(where: str, table: dict[str, Any], jobs: Sequence[Job]) -> Request:
    picked = _chosen(where, table, jobs)
    if not _is_planar(picked[0]):
        raise StudyError(f"{where}.game: {table['game']!r} is not planar; expected a game of two numbers")
    return Request("portrait", where, _title(table), picked, table)


def _portraits_of_all(jobs: Sequence[Job]) -> list[Request]:
    """Where a study does not say which: a portrait of every planar game, of the first cell of each method."""
    groups: dict[tuple[Any, ...], dict[str, Job]] = {}
    for job in jobs:
        if _is_planar(job):
            recipe = job.recipe
            methods = groups.setdefault((recipe.game, recipe.objective, recipe.penalty), {})
            if len(methods) < MOST_PATHS:
                methods.setdefault(recipe.method, job)
    chosen = list(groups.items())[:MOST_PORTRAITS]
    titles = (" / ".join(map(str, filter(None, names))) for names, _ in chosen)
    return [
        Request("portrait", "portrait", title, list(methods.values()), {})
        for title, (_, methods) in zip(titles, chosen, strict=True)
    ]


def _window(paths: Sequence[np.ndarray], centre: np.ndarray) -> float:
    """Half the width of a window around the equilibrium that holds the starts and the paths that do not run away."""
    distances = [np.max(np.abs(path - centre), axis=1) for path in paths if len(path)]
    least = 1.6 * max(float(distance[0]) for distance in distances)
    staying = [float(distance.max()) for distance in distances if distance.max() <= 2 * least]
    return max([least, *(1.06 * far for far in staying)])


def _portrait(study: Study, request: Request) -> Portrait:
    jobs = request.jobs
    centre, unravel = ravel_pytree(jobs[0].equilibrium)
    centre = np.asarray(centre)
    trajectories = []
    for job in jobs:

        def path(start: Players, job: Job = job) -> jax.Array:
            length = length_of(job.method, study.data)
            if "steps" in length:
                length["save_every"] = -(-length["steps"] // MOST_POINTS)
            else:
                length["save_every"] = length["until"] / FLOW_POINTS
            run = simulate(job.game, job.method, start, classify=False, **length)
            return jax.vmap(lambda players: ravel_pytree(players)[0])(run.players)

        with blamed(label(job.recipe)):
            points = np.asarray(computed(path, job.start))
        trajectories.append((f"{job.recipe.method} ({job.recipe.kind})", points[np.all(np.isfinite(points), axis=1)]))
    half_width = float(request.table.get("half_width", 0.0)) or _window([path for _, path in trajectories], centre)
    x, y = (np.linspace(c - half_width, c + half_width, 25) for c in centre)
    vectors = np.asarray(
        computed(field_on_grid(jobs[0].game, unravel), jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1), centre.dtype))
    )
    names = player_names(jobs[0].game)
    return Portrait(request.title, x, y, vectors[..., 0], vectors[..., 1], tuple(trajectories), centre, names)


# Time series


def _series(study: Study, request: Request) -> Series:
    seed = request.table.get("seed")
    times, lines = [], []
    for job in request.jobs:

        def path(start: Players, job: Job = job) -> tuple[jax.Array, jax.Array]:
            length = length_of(job.method, study.data)
            if seed is not None and (isinstance(job.method, Update) or "key" in length):
                length["key"] = jax.random.key(seed)
            if "steps" in length:
                length["save_every"] = -(-length["steps"] // SERIES_POINTS)
            else:
                length["save_every"] = length["until"] / SERIES_POINTS
            run = simulate(job.game, job.method, start, classify=False, **length)
            flat = jax.vmap(lambda players: ravel_pytree(players)[0][:MOST_COORDINATES])(run.players)
            return run.steps, flat

        with blamed(label(job.recipe)):
            steps, values = computed(path, job.start)
        times.append(np.asarray(steps))
        lines.append(np.asarray(values))
    first = request.jobs[0]
    return Series(
        title=request.title,
        methods=tuple(job.recipe.method for job in request.jobs),
        kinds=tuple(job.recipe.kind for job in request.jobs),
        names=_coordinates(first),
        left_out=max(0, sum(_trees.size(player) for player in first.start) - MOST_COORDINATES),
        times=tuple(times),
        values=tuple(lines),
        equilibrium=np.asarray(ravel_pytree(first.equilibrium)[0])[:MOST_COORDINATES],
        seed=seed,
    )


def _coordinates(job: Job) -> tuple[str, ...]:
    """What the numbers of the players are called, the first few."""
    if _is_planar(job) and len(job.start) == 2:
        return player_names(job.game)
    names = []
    for index, player in enumerate(job.start):
        size = _trees.size(player)
        names += [f"player {index}" + (f"[{place}]" if size > 1 else "") for place in range(size)]
    return tuple(names[:MOST_COORDINATES])


# Basins


def _box_side(value: Any, start: Players) -> tuple[Any, ...]:
    if not isinstance(value, list):
        return tuple(float(value) for _ in start)
    return tuple(np.asarray(entry, float) if isinstance(entry, list) else float(entry) for entry in value)


def _check_basins(study: Study, request: Request) -> None:
    del study
    job = request.jobs[0]
    size = sum(_trees.size(player) for player in job.start)
    if size > 2:
        raise StudyError(
            f"{request.where}.game: {request.table['game']!r} has {size} numbers; expected a game of one or two, as "
            "every start is a point of the picture"
        )
    for key in ("low", "high", "period"):
        value = request.table.get(key)
        if isinstance(value, list) and len(value) != len(job.start):
            raise StudyError(
                f"{request.where}.{key}: got {shown(value)}; expected a number, or one for each of the "
                f"{len(job.start)} players"
            )
    if isinstance(job.method, NoisyFlow):
        raise StudyError(
            f"{request.where}.method: {job.recipe.method!r} is a NoisyFlow, whose runs end nowhere; expected one "
            "without noise"
        )


def _basins(study: Study, request: Request) -> BasinsOfCell:
    job, table = request.jobs[0], request.table
    length = length_of(job.method, study.data)
    key = length.pop("key", None)
    period = table.get("period")
    if isinstance(period, list):
        period = tuple(None if entry == "none" else entry for entry in period)
    with blamed(request.where):
        result = basins_of(
            job.game,
            job.method,
            _box_side(table["low"], job.start),
            _box_side(table["high"], job.start),
            points=table.get("points", 101),
            period=period,
            minibatch_key=key,
            **length,
        )
    names = _coordinates(job)
    result = dataclasses.replace(result, axis_names=names, ends=np.zeros((0, len(names))), starts=result.starts[:0])
    return BasinsOfCell(f"{request.title}: {job.recipe.method} ({job.recipe.kind})", result)


# Eigenvalues over a number


def _check_eigenvalues(study: Study, request: Request) -> None:
    job, path = request.jobs[0], request.table["over"]
    parameters = values_along(request.where, request.table)
    both = [varied(study, job.recipe, request.where, path, value) for value in (parameters[0], parameters[-1])]
    data = [(recipe.game_data, recipe.method_data) for recipe in both]
    if data[0] == data[1]:
        raise StudyError(
            f"{request.where}.over: {path!r} is no number of {job.recipe.game!r} or {job.recipe.method!r}; expected "
            "one of the game or method that the picture is of"
        )
    structures = {structure_of((job.game, job.method)) for job in jobs_of(both)}
    if len(structures) > 1:
        raise StudyError(
            f"{request.where}.over: {path!r} makes other programs of the game or method, and not other numbers in one; "
            "expected a number such as a learning rate or a weight"
        )


def _eigenvalues(study: Study, request: Request) -> EigenvaluesOfCell:
    recipe, path = request.jobs[0].recipe, request.table["over"]
    parameters = values_along(request.where, request.table)
    jobs = jobs_of(varied(study, recipe, request.where, path, value) for value in parameters)
    *both, equilibria = stacked([(job.game, job.method, job.equilibrium) for job in jobs])
    arrays, rest = eqx.partition(tuple(both), eqx.is_array)

    def linearised(arrays: Any, equilibrium: Players) -> Any:
        game, method = eqx.combine(arrays, rest)
        linear = linearise(game, method, equilibrium, counts=FEW_COUNTS)
        return linear._replace(kinks=None, errors=None, rounding=None, switching=None)

    with blamed(request.where):
        rows = computed(jax.vmap(linearised), arrays, equilibria)
        for index, (job, parameter) in enumerate(zip(jobs, parameters, strict=True)):
            _check_row(f"at {path} = {parameter:.6g}", jax.tree.map(lambda leaf, index=index: leaf[index], rows), job)
        eigenvalues = matched(np.linalg.eigvals(np.asarray(rows.jacobian, float)).astype(complex))
    boundary = boundary_of(jobs[0].method)
    points = np.stack([np.asarray(ravel_pytree(job.equilibrium)[0]) for job in jobs])
    result = SpectrumPath(boundary.kind, np.asarray(parameters), eigenvalues, boundary.bound(eigenvalues), points)
    called = request.table.get("label", path)
    return EigenvaluesOfCell(f"{request.title}: {recipe.method} ({recipe.kind})", called, result)


def _check_row(where: str, linear: Any, job: Job) -> None:
    """Raise where the point is no equilibrium, or no single Jacobian describes the method."""
    if not linear.rests:
        raise ValueError(f"{where} the steps of the method depend on their number for ever; no Jacobian describes them")
    if not np.all(np.isfinite(linear.jacobian)):
        raise ValueError(f"{where} the Jacobian is not finite")
    accuracy = accuracy_of(job.equilibrium)
    passes, allowed = residual_vanishes(linear, job.equilibrium, accuracy)
    if not np.all(passes):
        raise EquilibriumError(f"{where} {not_an_equilibrium(linear, job.equilibrium, passes, allowed)}")
    try:
        check_fixed_point(linear, job.method, job.equilibrium, accuracy)
    except EquilibriumError as error:
        raise EquilibriumError(f"{where} {error}") from None


_COMPUTED = {"portrait": _portrait, "series": _series, "basins": _basins, "eigenvalues": _eigenvalues}
