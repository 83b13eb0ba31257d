"""Running a study: cells of equal structure share one compiled program, prediction and simulation side by side.

This is not the engine of sweeps (`dynamics.ensembles.running`), because what takes the time differs. A sweep is one
`build` over axes: one program, traced once, runs over up to 10^6 cells, whose numbers are rows of arrays, and is made
machine code. The cells of a study are of many games and methods: hundreds of programs of a few cells each, of which
nearly all the time is compiling. They are therefore compiled quickly, several at a time in threads, flows first; a cell
is a record with a judgement in words, and portraits are results as well, which have no place among a sweep's arrays.
What is the same is shared: files with checksums and the lock of the folder (`dynamics.ensembles.store`), what a worker
must have in common with this process (`dynamics.ensembles.workers`), and the lock for tracing (`dynamics._locks`).
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dynamics
import dynamics.catalogue as catalogue
from dynamics import _locks, _trees
from dynamics._compiling import compile_quickly
from dynamics._names import nearest
from dynamics._progress import Progress
from dynamics.analysis import EquilibriumError, Stability, find_equilibrium
from dynamics.analysis.planar import field_on_grid
from dynamics.analysis.stability.linearisation import Linearisation, linearise
from dynamics.analysis.stability.rest import FEW_COUNTS
from dynamics.analysis.stability.verdict import stability_of
from dynamics.ensembles.workers import WorkerError, current_settings, same_settings
from dynamics.flows import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import FunctionGame, Game, Losses, Players, as_players
from dynamics.outcomes import Outcome
from dynamics.simulation import simulate
from dynamics.studies.agreement import CellEvidence, judge
from dynamics.studies.building import blamed, build, nearby
from dynamics.studies.kept import Kept
from dynamics.studies.results import Cell, Judged, Portrait, Results, label, player_names
from dynamics.studies.schema import CellSpecification, Study, StudyError
from dynamics.updates import Update
from dynamics.updates.rounded import is_drawn

NEARBY = 1e-3  # distance from the equilibrium of the second, local run of every cell
NEIGHBOURHOOD = 0.05  # distance from it beyond which the local run has left
CHUNK = 4096  # cells per compiled call
MOST_POINTS = 10_000  # of a trajectory in a portrait
FLOW_POINTS = 4_000  # likewise of a flow; few would be polygons
MOST_PORTRAITS, MOST_PATHS = 6, 6  # of a study that does not say which; paths in each
MIXED = 16  # cells up to which different games share a program: each game is then computed for every cell


@dataclasses.dataclass(frozen=True)
class _Job:
    """A cell ready to run."""

    recipe: CellSpecification
    game: Game
    method: Update | AbstractFlow
    start: Players
    equilibrium: Players
    near: Players


def prepare(study: Study) -> list[_Job]:
    """Build every cell of a study; all bad input shows here, before anything runs.

    Raises:
        StudyError: a cell cannot be built, or its start does not fit its game.
    """
    jobs = []
    points: dict[int, tuple[Players, Players]] = {}
    fitting: set[tuple[int, int]] = set()
    for recipe in study.recipes:
        game, method, start = build(recipe)  # equal data gives one and the same object
        if id(start) not in points:
            with blamed(recipe.where[0]):
                equilibrium = _equilibrium(game, start, recipe)
            expected, got = (jax.tree.map(jnp.shape, players) for players in (equilibrium, start))
            if expected != got:
                raise StudyError(f"{recipe.where[0]}.start: has shapes {got}; {recipe.game} expects {expected}")
            with blamed(f"{recipe.where[0]}.start"):
                points[id(start)] = equilibrium, nearby(start, equilibrium, NEARBY)
        if (id(method), len(start)) not in fitting:
            with blamed(recipe.where[1]):
                method.init(game, start)
            fitting.add((id(method), len(start)))
        jobs.append(_Job(recipe, game, method, start, *points[id(start)]))
    return jobs


def _equilibrium(game: Game, start: Players, recipe: CellSpecification) -> Players:
    if game.equilibria():
        return as_players(game.equilibria()[0])
    try:
        return find_equilibrium(game, start).players
    except EquilibriumError as error:
        raise StudyError(f"{recipe.where[0]}: {error}") from error


def execute(
    study: Study,
    progress: Progress | None = None,
    *,
    executor: concurrent.futures.Executor | None = None,
    devices: int | None = None,
    store: str | os.PathLike | None = None,
    resume: bool = True,
    plugins: Sequence[str] = (),
) -> Results:
    """Run all cells of a study: stability at the equilibrium, a run from the start, a run from close by.

    Cells whose method and start have the same structure are stacked and run by one compiled program, several programs
    at a time. The numbers depend neither on who computes a batch nor on how often the run was interrupted.

    Args:
        study: from `load`.
        progress: called with the number of cells done, their total, and what became of them.
        executor: workers that compute the batches; by default threads of this process, one per core.
        devices: number of JAX's devices that share the batches, in this process; by default the first one has all.
        store: folder to which every batch is committed when it is done; what is in it is not computed again.
        resume: whether to go on with unfinished work in the store, or to refuse it.
        plugins: modules that the study needs, for the workers and for the store.

    Returns:
        the results; the time taken is among them unless there is a store, with which it may span several runs.

    Raises:
        StudyError: a cell cannot be built, or the store cannot be used.
        dynamics.ensembles.WorkerError: the workers are gone; what is done is in the store.
    """
    began = time.perf_counter()
    jobs = prepare(study)
    requests = _portrait_requests(study, jobs)
    batches = _chunks(jobs)
    kept = contextlib.nullcontext()
    if store is not None:
        kept = Kept(store, study, batches, len(requests), plugins, resume)
    with kept, _workers(study, jobs, requests, executor, devices, plugins) as submit:
        cells, portraits = _gathered(study, jobs, batches, len(requests), submit, store is not None and kept, progress)
    seconds = {} if store is not None else {"seconds": round(time.perf_counter() - began, 1)}
    return Results(
        name=study.name,
        title=study.data["title"],
        cells=tuple(cells),
        portraits=portraits,
        settings=study.data,
        provenance={
            "version": dynamics.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
            "dtype": str(jnp.result_type(float)),
            "seed": study.data["seed"],
            "platform": jax.default_backend(),
            "machine": platform.machine(),
            **seconds,
        },
        draw=tuple(study.data["draw"]),
    )


def _gathered(study, jobs, batches, count: int, submit, kept: Kept | bool, progress) -> tuple[list, list]:
    """The cells and the portraits: what is kept already, and what is submitted."""
    cells: list[Cell | None] = [None] * len(jobs)
    portraits: list[Portrait | None] = [None] * count
    done, total = 0, len(jobs)
    futures: dict[concurrent.futures.Future, tuple[str, int]] = {}

    def enter(number: int, computed: Sequence[Cell]) -> None:
        nonlocal done
        for index, cell in zip(batches[number], computed, strict=True):
            cells[index] = cell
        done += len(computed)

    def outcomes() -> str:
        counts = collections.Counter(cell.outcome for cell in cells if cell is not None)
        return ", ".join(f"{counts[outcome.name]} {outcome.name}" for outcome in Outcome if counts[outcome.name])

    for number in range(len(batches)):
        stored = kept.cells(number) if kept else None
        if stored is None:
            futures[submit("cells", batches[number])] = "cells", number
        else:
            enter(number, stored)
    for number in range(count):
        portraits[number] = kept.portrait(number) if kept else None
        if portraits[number] is None:
            futures[submit("portrait", number)] = "portrait", number
    if done and progress is not None:
        progress(done, total, outcomes())

    def collect(future: concurrent.futures.Future) -> None:
        kind, number = futures.pop(future)
        result = future.result()
        if kind == "portrait":
            portraits[number] = kept.add_portrait(number, result) if kept else result
            return
        enter(number, kept.add_cells(number, result) if kept else result)
        if progress is not None:
            progress(done, total, outcomes())

    try:
        for future in concurrent.futures.as_completed(list(futures)):
            collect(future)
    except concurrent.futures.BrokenExecutor as error:
        for future in [f for f in futures if f.done() and f.exception() is None]:
            collect(future)
        where = (
            "they are in the store, and the same command with --resume goes on from there" if kept else "they are lost"
        )
        raise WorkerError(f"a worker is gone ({error}); {done} of {total} cells are done; {where}") from error
    return cells, portraits


@contextlib.contextmanager
def _workers(study, jobs, requests, executor, devices, plugins) -> Iterator[Callable]:
    """Who computes: gives a function that submits a batch of cells, or a portrait by its number."""
    if executor is not None:
        sent = pickle.dumps((study, tuple(plugins)))
        settings = current_settings()
        futures = []

        def submit(kind: str, which: Any) -> concurrent.futures.Future:
            futures.append(executor.submit(_computed_there, sent, settings, kind, which))
            return futures[-1]

        try:
            yield submit
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return
    places = [None] if devices is None else jax.local_devices()[:devices]
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(os.cpu_count() or 1, len(places))) as pool:
        numbers = itertools.count()

        def submit(kind: str, which: Any) -> concurrent.futures.Future:
            return pool.submit(_computed, study, jobs, requests, places[next(numbers) % len(places)], kind, which)

        try:
            yield submit
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _computed(study: Study, jobs: list[_Job], requests: list, device: jax.Device | None, kind: str, which: Any) -> Any:
    """A batch of cells, or a portrait."""
    with _locks.tracing, contextlib.nullcontext() if device is None else jax.default_device(device):
        if kind == "portrait":
            return _portrait(study, *requests[which])
        return _run_chunk(study, [jobs[index] for index in which])


@functools.lru_cache(maxsize=2)
def _prepared(sent: bytes) -> tuple[Study, list[_Job], list]:
    study, plugins = pickle.loads(sent)
    catalogue.plug_in(plugins)
    jobs = prepare(study)
    return study, jobs, _portrait_requests(study, jobs)


def _computed_there(sent: bytes, settings: dict[str, Any], kind: str, which: Any) -> Any:
    """Likewise, in a worker."""
    with same_settings(settings):
        return _computed(*_prepared(sent), None, kind, which)


def stabilities(study: Study) -> list[Judged]:
    """The stability of every cell, without simulating; cells share programs as in `execute`."""
    jobs = prepare(study)
    verdicts: list[Judged | None] = [None] * len(jobs)
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = {pool.submit(_locked, _judge_chunk, [jobs[i] for i in indices]): indices for indices in _chunks(jobs)}
        try:
            for future in concurrent.futures.as_completed(futures):
                for index, judged in zip(futures[future], future.result(), strict=True):
                    verdicts[index] = judged
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return verdicts


def _chunks(jobs: Sequence[_Job]) -> list[list[int]]:
    """Numbers of the cells of every compiled call."""
    chunks = [group[first : first + CHUNK] for group in _groups(jobs) for first in range(0, len(group), CHUNK)]
    # Flows take longest to compile: they go first, so that the end is not one core waiting for the other.
    return sorted(chunks, key=lambda indices: isinstance(jobs[indices[0]].method, Update))


def _groups(jobs: Sequence[_Job]) -> list[list[int]]:
    """Numbers of the cells that share a program: equal structure of method and start, and of the game where many."""
    groups: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(_structure((job.method, job.start)), []).append(index)
    parts = []
    for members in groups.values():
        games: dict[Any, list[int]] = {}
        for index in members:
            games.setdefault(_structure(jobs[index].game), []).append(index)
        parts += [members] if len(members) <= MIXED else list(games.values())
    return parts


def _structure(tree: Any) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    leaves, treedef = jax.tree.flatten(rest)
    return treedef, tuple(leaves), tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays))


class _OneGameOf(Game):
    """One of several games with the same players, by its number: most of a program is its method, not its game."""

    games: tuple[Game, ...]
    number: jax.Array

    def losses(self, players: Players, key: jax.Array | None = None) -> Losses:
        branches = [lambda point, game=game: tuple(game.losses(point, key)) for game in self.games]
        return jax.lax.switch(self.number, branches, players)

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game, players = FunctionGame.example()
        return cls((game,), jnp.asarray(0, jnp.int32)), players


def _alike(games: Sequence[Game]) -> list[Game]:
    """The same games, such that all are of one structure."""
    kinds: dict[Any, Game] = {}
    for game in games:
        kinds.setdefault(_structure(game), game)
    if len(kinds) == 1:
        return list(games)
    numbers = {kind: number for number, kind in enumerate(kinds)}
    some = list(kinds.values())

    def one_of(game: Game) -> Game:
        number = numbers[_structure(game)]
        return _OneGameOf((*some[:number], game, *some[number + 1 :]), jnp.asarray(number, jnp.int32))

    return [one_of(game) for game in games]


def _stack(trees: Sequence[Any]) -> Any:
    def join(*leaves):
        return jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves])) if eqx.is_array(leaves[0]) else leaves[0]

    return jax.tree.map(join, *trees)


def _run(function: Callable, *arguments: Any) -> Any:
    """Trace, compile and call a function; the caller holds the lock, which is free while this compiles and computes."""
    lowered = jax.jit(function).lower(*arguments)
    _locks.tracing.release()
    try:
        return jax.device_get(compile_quickly(lowered)(*arguments))
    finally:
        _locks.tracing.acquire()


def _locked(function: Callable, *arguments: Any) -> Any:
    with _locks.tracing:
        return function(*arguments)


def _run_chunk(study: Study, jobs: list[_Job]) -> list[Cell]:
    with blamed(_cells_of(jobs)):
        far, close, linear = _program(jobs, study.data)
    return [_cell(study, job, *_row((far, close, linear), row)) for row, job in enumerate(jobs)]


def _judge_chunk(jobs: list[_Job]) -> list[Judged]:
    with blamed(_cells_of(jobs)):
        linear = _program(jobs, None)
    return [
        Judged(job.recipe, job.game, job.method, _stability(job, _row(linear, row))) for row, job in enumerate(jobs)
    ]


def _cells_of(jobs: Sequence[_Job]) -> str:
    return label(jobs[0].recipe) + (f" and {len(jobs) - 1} more cells" if len(jobs) > 1 else "")


def _row(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row], tree)


def _stability(job: _Job, linear: Linearisation) -> Stability:
    return stability_of(linear, job.game, job.method, job.equilibrium)


def _program(jobs: list[_Job], settings: dict[str, Any] | None) -> Any:
    """All cells of one structure at once: far run, close run, linearisation; without settings the last one alone.

    Most of a study's time goes into compiling, and its programs run for milliseconds: they are compiled quickly.
    """
    games = _alike([job.game for job in jobs])
    cases = [(game, job.method, job.start, job.near, job.equilibrium) for game, job in zip(games, jobs, strict=True)]
    *both, start, near, equilibrium = _stack(cases)
    arrays, rest = eqx.partition(tuple(both), eqx.is_array)

    def judge_one(arrays, equilibrium):
        return linearise(*eqx.combine(arrays, rest), equilibrium, limit=False, counts=FEW_COUNTS)

    def run_one(arrays, start, limit, speed):
        game, method = eqx.combine(arrays, rest)
        length = _length(method, settings)
        if isinstance(method, AbstractFlow) and not isinstance(method, NoisyFlow):
            # A field that jumps makes an adaptive solver chatter: its steps do not get shorter than this, but short
            # enough for the fastest eigenvalue.
            until = length["until"]
            shortest = until * jnp.clip(1 / (until * speed + 1e-9), 1 / 7000, 1 / 2000)
            controller = diffrax.PIDController(rtol=1e-10, atol=1e-11, dtmin=shortest, force_dtmin=True)
            length |= {"dt0": until / 1000, "stepsize_controller": controller, "max_steps": 8000}
        run = simulate(game, method, start, save_every="last", limit=limit, **length)
        return _Ending(run.outcome, run.rate, run.period, run.exponent, run.residual, run.final)

    def program(arrays, start, near, equilibrium):
        linear = jax.vmap(judge_one)(arrays, equilibrium)
        if settings is None:
            return linear
        # Far and close runs are one batch: a batch of batches takes longer to trace.
        size = jnp.maximum(1, jax.vmap(_trees.norm)(near))
        limits = jnp.concatenate([jnp.full_like(size, 1e6), NEIGHBOURHOOD / size])
        speed = jnp.nan_to_num(jnp.linalg.norm(linear.jacobian, axis=(1, 2)))
        twice, starts, speeds = (
            jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *pair)
            for pair in ((arrays, arrays), (start, near), (speed, speed))
        )
        runs = jax.vmap(run_one)(twice, starts, limits, speeds)
        return *(jax.tree.map(lambda leaf, i=i: jnp.split(leaf, 2)[i], runs) for i in (0, 1)), linear

    return _run(program, arrays, start, near, equilibrium)


def _length(method: Update | AbstractFlow, settings: dict[str, Any]) -> dict[str, Any]:
    """How long a study's runs are, as arguments of `simulate`."""
    if isinstance(method, Update):
        key = jax.random.key(settings["seed"]) if is_drawn(method) else None
        return {"steps": settings["steps"], "key": key}
    until = settings["until"]
    if isinstance(method, NoisyFlow):
        return {"until": until, "dt0": until / 4000, "key": jax.random.key(settings["seed"])}
    return {"until": until}


class _Ending(eqx.Module):
    outcome: jax.Array
    rate: jax.Array
    period: jax.Array
    exponent: jax.Array
    residual: jax.Array
    final: Players


def _cell(study: Study, job: _Job, far: _Ending, close: _Ending, linear: Linearisation) -> Cell:
    report = _stability(job, linear)
    length = study.data["steps" if isinstance(job.method, Update) else "until"]
    outcome = Outcome(int(far.outcome)).name
    distance = _distance(far.final, job.equilibrium)
    agreement, explanation = judge(
        CellEvidence(
            stability=report,
            noisy=isinstance(job.method, NoisyFlow),
            defect=float(np.linalg.norm(linear.defect)),
            outcome=outcome,
            rate=float(far.rate),
            exponent=float(far.exponent),
            distance=distance,
            start=_distance(job.start, job.equilibrium),
            near_outcome=Outcome(int(close.outcome)).name,
            near_rate=float(close.rate),
            near_distance=_distance(close.final, job.equilibrium),
            near_start=NEARBY,
            length=length,
        )
    )
    return Cell(
        game=job.recipe.game,
        objective=job.recipe.objective,
        penalty=job.recipe.penalty,
        method=job.recipe.method,
        kind=job.recipe.kind,
        axes=job.recipe.axes,
        predicted=str(report.verdict),
        predicted_rate=report.rate,
        rotation=report.rotation,
        extent=report.boundary.bound_of(report),
        eigenvalues=report.eigenvalues,
        smoothness=report.smoothness,
        manifold_dimension=report.manifold_dimension,
        outcome=outcome,
        rate=float(close.rate),
        period=float(far.period),
        exponent=float(far.exponent),
        residual=float(far.residual),
        distance=distance,
        steps=float(length),
        agreement=agreement,
        explanation=explanation,
    )


def _distance(players: Players, other: Players) -> float:
    with np.errstate(over="ignore", invalid="ignore"):  # players that are not finite, or close to the largest number
        gap = jax.tree.map(lambda a, b: np.asarray(a, float) - np.asarray(b, float), players, other)
        return math.sqrt(sum(float(np.sum(leaf**2)) for leaf in jax.tree.leaves(gap)))


def _portrait_requests(study: Study, jobs: list[_Job]) -> list[tuple[str, list[_Job], float]]:
    if "portraits" not in study.data["draw"]:
        return []
    tables = study.data["portrait"]
    tables = [tables] if isinstance(tables, dict) else tables
    if not tables:
        return _portraits_of_all(jobs)
    requests = []
    for index, table in enumerate(tables):
        chosen = [job for job in jobs if not job.recipe.axes or job.recipe.axes == jobs[0].recipe.axes]
        for key in ("game", "objective", "penalty", "kind"):
            if key in table:
                names = {getattr(job.recipe, key) for job in chosen}
                if table[key] not in names:
                    raise StudyError(f"portrait.{index}.{key}: got {table[key]!r}{nearest(str(table[key]), names)}")
                chosen = [job for job in chosen if getattr(job.recipe, key) == table[key]]
        picked = []
        for method in table["methods"]:
            matching = [job for job in chosen if job.recipe.method == method]
            if not matching:
                known = {job.recipe.method for job in chosen}
                raise StudyError(f"portrait.{index}.methods: got {method!r}{nearest(str(method), known)}")
            picked.append(matching[0])
        if sum(_trees.size(player) for player in picked[0].start) != 2:
            raise StudyError(f"portrait.{index}.game: {table['game']!r} is not planar; expected a game of two numbers")
        half_width = float(table.get("half_width", 0.0))
        title = " / ".join(str(table[key]) for key in ("game", "objective", "penalty") if table.get(key))
        requests.append((title, picked, half_width))
    return requests


def _portraits_of_all(jobs: list[_Job]) -> list[tuple[str, list[_Job], float]]:
    """Where a study does not say which: a portrait of every planar game, of the first cell of each method."""
    groups: dict[tuple[Any, ...], dict[str, _Job]] = {}
    for job in jobs:
        if sum(_trees.size(player) for player in job.start) == 2:
            recipe = job.recipe
            methods = groups.setdefault((recipe.game, recipe.objective, recipe.penalty), {})
            if len(methods) < MOST_PATHS:
                methods.setdefault(recipe.method, job)
    chosen = list(groups.items())[:MOST_PORTRAITS]
    return [(" / ".join(map(str, filter(None, names))), list(methods.values()), 0.0) for names, methods in chosen]


def _reach(paths: Sequence[np.ndarray], centre: np.ndarray) -> float:
    """Half the width of a window around the equilibrium that holds the starts and the paths that do not run away."""
    distances = [np.max(np.abs(path - centre), axis=1) for path in paths if len(path)]
    least = 1.6 * max(float(distance[0]) for distance in distances)
    staying = [float(distance.max()) for distance in distances if distance.max() <= 2 * least]
    return max([least, *(1.06 * far for far in staying)])


def _portrait(study: Study, title: str, jobs: list[_Job], half_width: float) -> Portrait:
    centre, unravel = ravel_pytree(jobs[0].equilibrium)
    centre = np.asarray(centre)
    trajectories = []
    for job in jobs:

        def path(start: Players, job: _Job = job) -> jax.Array:
            length = _length(job.method, study.data)
            if "steps" in length:
                length["save_every"] = -(-length["steps"] // MOST_POINTS)
            else:
                length["save_every"] = length["until"] / FLOW_POINTS
            run = simulate(job.game, job.method, start, classify=False, **length)
            return jax.vmap(lambda players: ravel_pytree(players)[0])(run.players)

        with blamed(label(job.recipe)):
            points = np.asarray(_run(path, job.start))
        trajectories.append((f"{job.recipe.method} ({job.recipe.kind})", points[np.all(np.isfinite(points), axis=1)]))
    reach = half_width or _reach([path for _, path in trajectories], centre)
    x, y = (np.linspace(c - reach, c + reach, 25) for c in centre)
    vectors = np.asarray(
        _run(field_on_grid(jobs[0].game, unravel), jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1), centre.dtype))
    )
    names = player_names(jobs[0].game)
    return Portrait(title, x, y, vectors[..., 0], vectors[..., 1], tuple(trajectories), centre, names)
