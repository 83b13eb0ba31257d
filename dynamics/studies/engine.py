"""Running a study: cells of equal structure share one compiled program, prediction and simulation side by side.

This is not the engine of sweeps (`dynamics.ensembles.running`), because what takes the time differs. A sweep is one
`build` over axes: one program, traced once, runs over up to 10^6 cells, whose numbers are rows of arrays, and is made
machine code. The cells of a study are of many games and methods: hundreds of programs of a few cells each, of which
nearly all the time is compiling. They are therefore compiled quickly, several at a time in threads, flows first; a cell
is a record with a judgement in words, and pictures are results as well, which have no place among a sweep's arrays.
What is the same is shared: files with checksums and the lock of the folder (`dynamics.ensembles.store`), what a worker
must have in common with this process (`dynamics.ensembles.workers`), and the lock for tracing (`dynamics._locks`).
"""

import collections
import concurrent.futures
import contextlib
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

import dynamics
import dynamics.catalogue as catalogue
from dynamics import _locks, _trees
from dynamics._progress import Progress
from dynamics.analysis import Stability
from dynamics.analysis.stability.linearisation import Linearisation, linearise
from dynamics.analysis.stability.rest import FEW_COUNTS
from dynamics.analysis.stability.verdict import stability_of
from dynamics.ensembles.workers import WorkerError, current_settings, same_settings
from dynamics.flows import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import FunctionGame, Game, Losses, Players
from dynamics.outcomes import Outcome
from dynamics.simulation import simulate
from dynamics.studies import figures
from dynamics.studies.agreement import CellEvidence, judge
from dynamics.studies.building import blamed
from dynamics.studies.jobs import NEARBY, Job, computed, jobs_of, length_of, stacked, structure_of
from dynamics.studies.kept import Kept
from dynamics.studies.results import Cell, Judged, Results, label
from dynamics.studies.schema import Study
from dynamics.updates import Update

MOST_STEPS = 100_000  # of a flow: as many as a stiff one takes
NEIGHBOURHOOD = 0.05  # distance from it beyond which the local run has left
CHUNK = 4096  # cells per compiled call
MIXED = 16  # cells up to which different games share a program: each game is then computed for every cell


def prepare(study: Study) -> list[Job]:
    """Build every cell of a study; all bad input shows here, before anything runs.

    Raises:
        StudyError: a cell cannot be built, or its start does not fit its game.
    """
    return jobs_of(study.recipes)


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
    requests = figures.requests(study, jobs)
    batches = _chunks(jobs)
    kept = contextlib.nullcontext()
    if store is not None:
        kept = Kept(store, study, batches, len(requests), plugins, resume)
    with kept, _workers(study, jobs, requests, executor, devices, plugins) as submit:
        cells, drawn = _gathered(study, jobs, batches, len(requests), submit, store is not None and kept, progress)
    seconds = {} if store is not None else {"seconds": round(time.perf_counter() - began, 1)}
    return Results(
        name=study.name,
        title=study.data["title"],
        cells=tuple(cells),
        **figures.by_kind(drawn),
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
    """The cells and what pictures show: what is kept already, and what is submitted."""
    cells: list[Cell | None] = [None] * len(jobs)
    drawn: list[Any] = [None] * count
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
        drawn[number] = kept.figure(number) if kept else None
        if drawn[number] is None:
            futures[submit("figure", number)] = "figure", number
    if done and progress is not None:
        progress(done, total, outcomes())

    def collect(future: concurrent.futures.Future) -> None:
        kind, number = futures.pop(future)
        result = future.result()
        if kind == "figure":
            drawn[number] = kept.add_figure(number, result) if kept else result
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
    return cells, drawn


@contextlib.contextmanager
def _workers(study, jobs, requests, executor, devices, plugins) -> Iterator[Callable]:
    """Who computes: gives a function that submits a batch of cells, or what a picture shows by its number."""
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


def _computed(study: Study, jobs: list[Job], requests: list, device: jax.Device | None, kind: str, which: Any) -> Any:
    """A batch of cells, or what a picture shows."""
    with _locks.tracing, contextlib.nullcontext() if device is None else jax.default_device(device):
        if kind == "figure":
            return figures.figure(study, requests[which])
        return _run_chunk(study, [jobs[index] for index in which])


@functools.lru_cache(maxsize=2)
def _prepared(sent: bytes) -> tuple[Study, list[Job], list]:
    study, plugins = pickle.loads(sent)
    catalogue.plug_in(plugins)
    jobs = prepare(study)
    return study, jobs, figures.requests(study, jobs)


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


def _chunks(jobs: Sequence[Job]) -> list[list[int]]:
    """Numbers of the cells of every compiled call."""
    chunks = [group[first : first + CHUNK] for group in _groups(jobs) for first in range(0, len(group), CHUNK)]
    # Flows take longest to compile: they go first, so that the end is not one core waiting for the other.
    return sorted(chunks, key=lambda indices: isinstance(jobs[indices[0]].method, Update))


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Numbers of the cells that share a program: equal structure of method and start, and of the game where many."""
    groups: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(structure_of((job.method, job.start)), []).append(index)
    parts = []
    for members in groups.values():
        games: dict[Any, list[int]] = {}
        for index in members:
            games.setdefault(structure_of(jobs[index].game), []).append(index)
        parts += [members] if len(members) <= MIXED else list(games.values())
    return parts


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
        kinds.setdefault(structure_of(game), game)
    if len(kinds) == 1:
        return list(games)
    numbers = {kind: number for number, kind in enumerate(kinds)}
    some = list(kinds.values())

    def one_of(game: Game) -> Game:
        number = numbers[structure_of(game)]
        return _OneGameOf((*some[:number], game, *some[number + 1 :]), jnp.asarray(number, jnp.int32))

    return [one_of(game) for game in games]


def _locked(function: Callable, *arguments: Any) -> Any:
    with _locks.tracing:
        return function(*arguments)


def _run_chunk(study: Study, jobs: list[Job]) -> list[Cell]:
    with blamed(_cells_of(jobs)):
        far, close, linear = _program(jobs, study.data)
    return [_cell(study, job, *_row((far, close, linear), row)) for row, job in enumerate(jobs)]


def _judge_chunk(jobs: list[Job]) -> list[Judged]:
    with blamed(_cells_of(jobs)):
        linear = _program(jobs, None)
    return [
        Judged(job.recipe, job.game, job.method, _stability(job, _row(linear, row))) for row, job in enumerate(jobs)
    ]


def _cells_of(jobs: Sequence[Job]) -> str:
    return label(jobs[0].recipe) + (f" and {len(jobs) - 1} more cells" if len(jobs) > 1 else "")


def _row(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row], tree)


def _stability(job: Job, linear: Linearisation) -> Stability:
    return stability_of(linear, job.game, job.method, job.equilibrium)


def _program(jobs: list[Job], settings: dict[str, Any] | None) -> Any:
    """All cells of one structure at once: far run, close run, linearisation; without settings the last one alone.

    Most of a study's time goes into compiling, and its programs run for milliseconds: they are compiled quickly.
    """
    games = _alike([job.game for job in jobs])
    cases = [(game, job.method, job.start, job.near, job.equilibrium) for game, job in zip(games, jobs, strict=True)]
    *both, start, near, equilibrium = stacked(cases)
    arrays, rest = eqx.partition(tuple(both), eqx.is_array)

    def judge_one(arrays, equilibrium):
        return linearise(*eqx.combine(arrays, rest), equilibrium, limit=False, counts=FEW_COUNTS)

    def run_one(arrays, start, limit, speed, switching):
        game, method = eqx.combine(arrays, rest)
        length = length_of(method, settings)
        if isinstance(method, AbstractFlow) and not isinstance(method, NoisyFlow):
            # A field that jumps makes an adaptive solver chatter: its steps do not get shorter than this, but short
            # enough for the fastest eigenvalue, and at a smooth point for one ten times as fast on the way there.
            until = length["until"]
            shortest = jnp.minimum(1 / (speed + 1e-9), until / 2000) * jnp.where(switching > 0, 1, 0.1)
            controller = diffrax.PIDController(rtol=1e-10, atol=1e-11, dtmin=shortest, force_dtmin=True)
            length |= {"dt0": until / 1000, "stepsize_controller": controller, "max_steps": MOST_STEPS}
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
        twice, starts, speeds, switching = (
            jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *pair)
            for pair in ((arrays, arrays), (start, near), (speed, speed), (linear.switching, linear.switching))
        )
        runs = jax.vmap(run_one)(twice, starts, limits, speeds, switching)
        return *(jax.tree.map(lambda leaf, i=i: jnp.split(leaf, 2)[i], runs) for i in (0, 1)), linear

    return computed(program, arrays, start, near, equilibrium)


class _Ending(eqx.Module):
    outcome: jax.Array
    rate: jax.Array
    period: jax.Array
    exponent: jax.Array
    residual: jax.Array
    final: Players


def _cell(study: Study, job: Job, far: _Ending, close: _Ending, linear: Linearisation) -> Cell:
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
