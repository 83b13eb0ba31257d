"""The public face of sweeps."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics._checks import as_whole
from dynamics._functions import comparable
from dynamics._keys import for_batches, key_of
from dynamics._memory import check_memory, counted
from dynamics._names import nearest
from dynamics._progress import Progress, Shown
from dynamics.analysis.stability.builds import Source, source_of
from dynamics.compiler import fallback
from dynamics.compiler.fingerprints import fingerprint, hash_of
from dynamics.compiler.jaxprs import largest_array
from dynamics.ensembles import refinement, tables
from dynamics.ensembles.cells import (
    FLOW_SAMPLES,
    Built,
    Recipe,
    check_arguments,
    chunk_of,
    lanes_of,
    run_chunk,
    samples_of,
)
from dynamics.ensembles.designs import CELL_BYTES, FEWER, Cells, Design, resolve
from dynamics.ensembles.fixed_step import whole_steps
from dynamics.ensembles.kinds import Kind
from dynamics.ensembles.players import Variable
from dynamics.ensembles.store import Store, StoreError, check_installed
from dynamics.ensembles.work import Chunk, Values, Work, as_arguments
from dynamics.ensembles.workers import Remote, WorkerError, check_executor, workers_of
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, as_players
from dynamics.simulation import Measure
from dynamics.updates.base import State, Update

if TYPE_CHECKING:
    import xarray as xr

TRIAL = 20  # the first of so many parts of the run tells whether a cell is settled
LARGEST_ARRAY = 512  # numbers in a game's step beyond which games of arrays, side by side, are slower than `jax.vmap`
SHORTEST_TRIED = 1024  # steps of a run that is worth a trial
LARGEST_STATE = 256  # beyond which a Jacobian per cell is no longer small
LARGEST_SEARCH = 32  # numbers of the players beyond which Newton's method per cell takes longer than most runs
FLOW_OPTIONS = ("solver", "stepsize_controller", "dt0", "max_steps", "adjoint")
CHUNKS_PER_WORKER = 4  # by default, so that nobody waits long for the slowest


class SweepInterrupted(KeyboardInterrupt):
    """Raised when a sweep is interrupted; what is done is not lost.

    Attributes:
        partial: the dataset, with outcome -1 (`not_done`) and NaN in the cells that are not done.
        done, total: numbers of cells.
    """

    def __init__(self, partial: xr.Dataset, done: int, total: int):
        super().__init__(f"{done} of {total} cells are done; they are in the attribute `partial` of this exception")
        self.partial, self.done, self.total = partial, done, total


def sweep(
    build: Callable[..., Built],
    axes: Mapping[str, Any],
    steps: int | None = None,
    until: float | None = None,
    *,
    design: Design = "grid",
    starts: int | None = None,
    measures: Mapping[str, Measure] | None = None,
    key: PRNGKeyArray | None = None,
    predict: bool = True,
    order: Literal["auto", "linear"] = "linear",
    at: Any = None,
    tolerance: float = 1e-3,
    limit: float = 1e6,
    chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: Any = None,
    store: str | os.PathLike | None = None,
    executor: concurrent.futures.Executor | None = None,
    stop_early: bool = False,
    refine: str | None = None,
    progress: bool | Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Simulate a method on a game for all values of named axes, and predict each outcome from the eigenvalues.

    `build` is traced once, and one compiled program serves all cells, also those of another sweep with the same
    `build`, number of steps, precision and chunk. A cell that blows up disturbs nobody. Every cell's numbers are the
    same to the bit however the sweep is cut into chunks.

    Args:
        build: function of numbers, called with the axes' names as keywords, that returns
            `(game, update or flow, start)`. It is traced: use jax.numpy inside. The checks also call it with plain
            numbers, at the first cell and at the least and the largest value of every axis.
        axes: for every argument its values, an array of one dimension, or one number for a constant. Attributes of an
            `xarray.DataArray` (units, long_name) are kept. `dynamics.ensembles.seeds(n)` gives `build` random keys,
            `dynamics.ensembles.uniform(low, high)` and `log_uniform` are for the designs that draw.
        steps: number of steps of an update.
        until: final time of a flow.
        design: "grid": all combinations, a dimension per axis. "zip": axes of equal length side by side, one dimension
            `cell`. ("random", n) or ("sobol", n): n cells, random or evenly spread, other axes zipped with them;
            a third entry is the seed, by default 0.
        starts: so many starts per cell, a further dimension `start`: `build` gets `start_key`, from which it draws the
            players; start i has `jax.random.fold_in(jax.random.key(0), i)` in every cell.
        measures: functions `(game, players) -> pytree of arrays`, taken at the end, by name.
        key: for minibatches and noisy flows; cell i (counted with the last dimension fastest, starts included) runs
            with `jax.random.fold_in(key, i)`. `None`: exact expectations. Keys of the generators rbg and
            unsafe_rbg, whose numbers depend on the batch, are exchanged for threefry keys made of them.
        predict: linearise at the equilibrium that the game knows, of several the one nearest to the start; where it
            knows none, at the one that Newton's method finds from the start, as `dynamics.analysis.find_equilibrium`
            does. See `dynamics.analysis.stability.builds`. A warning says why where nothing can be predicted.
        order: of predictions. With "auto", cells with eigenvalues on the boundary are judged by terms of higher order,
            as in `dynamics.stability`: some hundredths of a second each. Otherwise they are marginal.
        at: the equilibrium instead, a tuple of players, or a function of the same numbers as `build` that returns one.
        tolerance, limit: as in `dynamics.simulate`.
        chunk: number of cells at a time, rounded up to full blocks (of 256, or fewer large games); it decides about
            memory and not about the result. `None`: as many as memory allows, at most 65,536.
        devices: which share every chunk; by default all local ones, as `jax.local_devices()` lists them. The numbers do
            not depend on how many there are. A CPU is one device, unless `jax_num_cpu_devices` is set.
        dtype: float32 or float64, of the axes, the game, the method and the players; `None`: as `build` makes them from
            axes of JAX's default precision.
        store: path of a folder in zarr format to which every chunk is committed when it is done; see below.
        executor: workers that compute the chunks: any `concurrent.futures.Executor`, for instance
            `dynamics.ensembles.local_workers(n)`, processes of this machine, or `client.get_executor()` of a Dask
            client, which reaches others. `None`: this process computes them. See `dynamics/ensembles/README.md`.
        stop_early: run all cells for a twentieth of the duration first, and to the end only those that have neither
            converged by then nor left for good, further than `limit`; see below.
        refine: "boundary": see below. `None`: every cell in the one precision.
        progress: show cells done, their rate, the time left and the outcomes so far: a bar in terminals and notebooks,
            a line now and then in logs; or call a function of cells done, their total and a text.
        options: for flows, as in `dynamics.simulate`: solver, stepsize_controller, dt0, max_steps, adjoint.

    Returns:
        a dataset with the variables

        * `outcome` (see `dynamics.Outcome`), `simulated_rate`, `period`, `residual`: as `dynamics.simulate` finds them
          with `save_every="last"`, or, where the number of steps has no divisor from 64 to 128, with `steps // 64`;
        * `player_0`, `player_1`, ...: the players at the end, a variable per leaf; of a network, which has more than
          two, one variable with all of them end to end, see `dynamics.ensembles.players_of`;
        * `steps_to_tolerance`: when the distance to the end has fallen for good below `tolerance` times its largest
          value; NaN unless converged. It is interpolated between samples, of which updates have 64 to 128 and flows
          512: the attribute `resolution` is the time between two, a bound on its error;
        * `predicted_verdict`, `predicted_smoothness`, `predicted_rate`, `predicted_radius` (updates) or
          `predicted_abscissa` (flows): as `dynamics.stability`, except that at a kink pieces are not judged: there the
          verdict is `none`, as it is where no equilibrium was found. The attribute `prediction` says where equilibria
          come from, or why predictions are left out;
        * `equilibrium_0`, ..., `equilibrium_residual`, `equilibrium_distance` (from the start),
          `equilibrium_condition`, `equilibrium_steps`, where equilibria were searched: as in
          `dynamics.analysis.Equilibrium`, and where Newton's method ended if it found none; the point is NaN then.
          After some dozens of steps it has wandered, and rounding decides where it ends;
        * the measures.

        Attributes hold versions, precision, key and settings.

    With `store="run.zarr"` nothing is lost. A chunk that is done is on the disk, whole, before the next one begins;
    after a crash, a full disk or `kill -9` the same call goes on from there, and ends with the bits of an undisturbed
    sweep (and of one without a store) on the same kind of processor. When all is done it returns at once. Memory is
    bounded by the chunk: the dataset reads what is looked at from the folder, `.load()` all of it. A store keeps the
    chunks it was begun with, whatever `chunk` is. `xarray.open_zarr("run.zarr")` opens it at any time, also while the
    sweep runs: cells that are not done have outcome -1, and NaN; where there is an outcome, all else is there as well.
    One process at a time writes to a store. The same call checks every file of it: chunks and coordinates that are
    missing or damaged are made again, metadata that were changed are an error that names the file, and nothing is
    deleted. `xarray.open_zarr` finds damaged numbers as well, but not files that are missing or exchanged. The store of
    another sweep (axes, settings, `build`, key, precision, versions of dynamics, JAX and NumPy) is refused with the
    difference: take another name, or delete the folder. What `build` and the measures compute is compared as a program
    with its numbers; what a callback to Python computes cannot be seen.

    With `executor=` whole chunks go to workers, and the numbers are the same to the bit as without it, whatever the
    number of workers, on the same kind of processor. `build` travels as it is, also when it was defined in a notebook;
    workers use this process's precision and need the same versions of dynamics, JAX, NumPy and Python. Each computes on
    all devices that it has. A chunk that is lost with its worker is tried again once where the executor lives on.

    With `stop_early=True` a cell that has converged, by the rules of `dynamics.simulate`, within a twentieth of the
    steps, or of the time, has the numbers of that shorter run; the variable `duration` tells which they are. The other
    cells have those of the whole run. Of a chart in which most cells settle soon it saves nine tenths. Runs of less
    than 1,024 steps are not shortened. A cell that would later leave what it has come to rest at is not found out.

    A flow with `stepsize_controller=diffrax.ConstantStepSize()`, an explicit Runge-Kutta solver and `dt0`, of which
    `until` is a multiple, takes the same steps as with diffrax, in the fast loop of updates: its outcome is decided
    from every step, and a cell that diverges goes on to infinity instead of stopping at `limit`.

    With `refine="boundary"` all cells are computed in float32, and again in float64 where that might decide otherwise:
    next to a cell of another outcome or predicted verdict; where the outcome is undecided, the verdict marginal, or the
    two contradict each other; where an eigenvalue is closer to the boundary than the run can tell; and in one cell of
    64, spread evenly, to see whether precision matters where nothing tells. From cells that change it goes on to their
    neighbours, until none changes. Neighbours are those along axes of numbers; in designs other than grids, the nearest
    ones. The variable `refined` tells which cells were done again; the others hold what float32 has found. With a store
    the chart in float32 can be opened meanwhile as `run.zarr/single`. It pays where float64 is much slower, as on
    many GPUs; on a CPU it saves little or nothing. It needs memory for the whole result.

    Raises:
        TypeError: `build` is no function, or returns something else; or it cannot be sent to workers.
        ValueError: a number is out of bounds, an axis is no list of finite numbers, names do not fit, the store belongs
            to another sweep, or there are more cells than can be kept in memory; the message says how much it takes.
        dynamics.ensembles.StoreError: the store cannot be written, e.g. because the disk is full, or another process
            writes to it; or its metadata are damaged. What is in it is kept.
        SweepInterrupted: on the interrupt key, with the cells that are done.
        dynamics.ensembles.WorkerError: the workers of the executor are gone, with the cells that are done.
        ImportError: a package is missing that `store=` or `executor=` needs; the message names the extra.

    >>> import dynamics as dy
    >>> def build(rate, weight):
    ...     sgd = dy.optimisers.sgd(rate)
    ...     return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
    >>> chart = sweep(build, {"rate": [0.1, 0.5, 4.5], "weight": [0.3, 2.0]}, steps=1_000)
    >>> chart.outcome.values.tolist()  # 0 converged, 1 cycling, 2 diverged
    [[0, 0], [0, 0], [2, 2]]
    >>> chart.predicted_verdict.sel(weight=0.3).values.tolist()  # 0 stable, 1 unstable, 2 marginal
    [0, 0, 1]
    """
    starts = None if starts is None else as_whole("starts", starts)
    cells = resolve(axes, design, starts)
    check_arguments(build, [*cells.axes, *(["start_key"] if starts is not None else [])])
    if executor is not None:
        check_executor(executor)
    if store is not None:
        check_installed()
    if cells.count >= 2**32:  # the numbers of cells are of 32 bits
        if store is None:
            _check_size(cells, CELL_BYTES)
        raise ValueError(f"there are {counted(cells.count)} cells; expected fewer than 2^32. {FEWER.capitalize()}")
    used = _devices(devices, executor)
    chunk = None if chunk is None else as_whole("chunk", chunk)

    def planned(dtype: Any, like: Plan | None = None) -> Plan:
        recipe = recipe_of(
            build, cells, steps, until, measures, key, predict, (tolerance, limit), dtype, options, at, order
        )
        recipe = recipe.changed(trial=TRIAL) if stop_early else recipe
        return _planned(recipe, cells, used, chunk, executor, (tolerance, limit), options, store is None, like)

    if refine is None:
        return carry_out(planned(dtype), store, progress, executor)
    _check_refine(refine, dtype, cells, measures)
    double = planned(np.float64)
    return _refined(planned(np.float32, double), double, store, progress, executor)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep whose arguments were checked.

    Attributes:
        cells: which ones.
        recipe: how one is built and run.
        players: their variables.
        kind: "map" or "flow".
        lanes: number of cells in a block.
        size: number of cells in a chunk; a store may make it another.
        devices: which share a chunk, in this process.
        attributes: of the dataset.
        described: attributes of its variables.
    """

    cells: Cells
    recipe: Recipe
    players: tuple[Variable, ...]
    kind: str
    lanes: int
    size: int
    devices: tuple[jax.Device, ...]
    attributes: dict[str, Any]
    described: dict[str, dict[str, Any]]

    def work(self, blocks: int) -> Work:
        """What its chunks have in common, when the cells of any lie in so many blocks."""
        return Work(self.recipe, self.players, self.kind, self.lanes, blocks)

    def traced(self) -> tuple[str, dict[str, Any]]:
        """Fingerprint of what two blocks compute, and the types and shapes of their variables; nothing is compiled."""
        shape = (2, self.lanes)
        values = as_arguments(self.cells.at(np.zeros(1, int)), self.cells, self.recipe.dtype)
        values = {name: jax.ShapeDtypeStruct(shape, value.dtype) for name, value in values.items()}
        indices = jax.ShapeDtypeStruct(shape, np.uint32)

        def traced(recipe: Recipe) -> tuple[Any, Any]:
            return eqx.filter_make_jaxpr(run_chunk)(recipe, values, indices, self.devices[:1])[:2]

        try:
            jaxpr, shapes = traced(self.recipe)
        except Exception:
            if not self.recipe.compiled:
                raise
            jaxpr, shapes = traced(self.recipe.changed(compiled=False))  # as it will be run, with a warning
        return fingerprint(jaxpr, self.recipe), self.work(2).shapes(shapes)


def _check_size(cells: Cells, each: float) -> None:
    """Raise `ValueError` where the result has no room in memory."""
    check_memory(f"a sweep of {counted(cells.count)} cells", cells.count, each, f"{FEWER}, or use store=")


def _planned(
    recipe: Recipe,
    cells: Cells,
    devices,
    chunk: int | None,
    executor,
    thresholds,
    options,
    in_memory: bool,
    like: Plan | None,
) -> Plan:
    """The plan of a sweep, or of the same sweep in another precision, which predicts at the same equilibria."""
    steps, until = recipe.steps, recipe.until
    first, *others = [as_arguments(values, cells, recipe.dtype) for values in cells.extremes()]
    extremes = [recipe.built(first)]
    for values in others:  # for the checks of the caller's components
        if recipe.predict:
            extremes.append(recipe.built(values))
        else:
            recipe.check_built(values)
    game, method, start = extremes[0]
    if start is None:
        raise ValueError(
            "build returned (game, method), and there is no start to simulate from; return (game, method, start)"
        )
    kind = Kind.of(game, method, start, recipe.key)
    is_map = kind.boundary == "map"
    _check_duration(is_map, steps, until, recipe.key, options, kind.is_noisy)
    if like is not None:
        recipe = recipe.changed(predict=like.recipe.predict, source=like.recipe.source)
        prediction = like.attributes["prediction"]
    elif recipe.predict:
        recipe, prediction = _with_source(recipe, extremes, cells, kind)
    else:
        prediction = "not asked for"
    changes: dict[str, Any] = {}
    fixed = None
    if not is_map and not kind.is_noisy:
        fixed = changes["fixed_steps"] = whole_steps(until, recipe.options)
    if (steps if is_map else fixed or SHORTEST_TRIED) < SHORTEST_TRIED:
        changes["trial"] = None
    if in_memory:
        _check_size(cells, CELL_BYTES + kind.sizes[0] * kind.dtype.itemsize)
    if recipe.compiled and devices[0].platform == "cpu":
        changes["compiled"] = kind.once(_largest_array, game, method, kind.state, recipe.key) <= LARGEST_ARRAY
    recipe = recipe.changed(**changes)
    lanes = lanes_of(recipe, *kind.sizes, cells.count, devices[0].platform)
    size = chunk_of(recipe, *kind.sizes, cells.count, lanes, chunk, len(devices))
    if executor is not None and chunk is None:
        share = -(-cells.count // (CHUNKS_PER_WORKER * (workers_of(executor) or CHUNKS_PER_WORKER)))
        size = min(size, chunk_of(recipe, *kind.sizes, cells.count, lanes, share, len(devices)))
    counted = steps if is_map else fixed
    resolution = float(until) / (FLOW_SAMPLES - 1) if counted is None else counted // samples_of(counted)
    resolution = resolution if is_map or fixed is None else resolution * float(until) / fixed
    tolerance, limit = (float(value) for value in thresholds)
    settings = {
        "design": cells.design,
        "steps" if is_map else "until": steps if is_map else float(until),
        "tolerance": tolerance,
        "limit": limit,
        "chunk": size,
        "lanes": lanes,
        "starts": cells.starts,
        "trial": recipe.trial,
        "compiler": "on" if recipe.compiled else "off",
        **({} if recipe.order == "linear" else {"order": recipe.order}),
        "options": {name: repr(value) for name, value in options.items()},
    }
    attributes = tables.provenance(settings, kind.dtype, recipe.key)
    attributes |= {"kind": kind.boundary, "prediction": prediction}
    described = kind.attributes(resolution)
    return Plan(cells, recipe, kind.players, kind.boundary, lanes, size, devices, attributes, described)


def carry_out(
    plan: Plan,
    store: str | os.PathLike | None = None,
    progress: bool | Progress = False,
    executor: concurrent.futures.Executor | None = None,
    label: str = "sweep",
    numbers: np.ndarray | None = None,
) -> xr.Dataset:
    """Compute what is not done of a sweep.

    Args:
        plan: the sweep.
        store, progress, executor: as for `sweep`.
        label: what the progress is called.
        numbers: of the cells, where they are some of those of a larger sweep.

    Raises:
        SweepInterrupted, WorkerError, StoreError: as `sweep`.
    """
    cells, lanes = plan.cells, plan.lanes
    if store is None:
        table: Any = tables.Table(cells, {}, plan.described)
        begins = range(0, cells.count, plan.size)
        parts: Any = [(number, begin, min(begin + plan.size, cells.count)) for number, begin in enumerate(begins)]
        opened, blocks = contextlib.nullcontext(), plan.size // lanes

        def keep(chunk: Chunk, rows: Values) -> None:
            table.add(chunk.begin, rows)

    else:
        table = _store_of(plan, store, plan.traced)
        opened, blocks, parts = table, table.blocks, table.parts()

        def keep(chunk: Chunk, rows: Values) -> None:
            table.add(chunk.number, rows)

    work = plan.work(blocks)
    chunks = work.chunks(cells, parts, numbers)
    source = Local(work, chunks, plan.devices) if executor is None else Remote(executor, work, chunks, plan.devices)

    def keep_the_rest() -> None:
        for chunk, rows in source.stop():
            keep(chunk, rows)

    with opened, Shown(progress, cells.count, table.done, label) as show:
        try:
            for chunk, rows in source:
                keep(chunk, rows)
                show(table.done, table.counts())
        except KeyboardInterrupt as error:
            keep_the_rest()
            raise SweepInterrupted(table.dataset(plan.attributes), table.done, cells.count) from error
        except WorkerError as error:
            keep_the_rest()
            partial = table.dataset(plan.attributes)
            raise WorkerError(error.what, partial, table.done, cells.count, store) from error.__cause__
        except StoreError:
            [*source.stop()]
            raise
        except BaseException:
            keep_the_rest()
            raise
    return table.dataset(plan.attributes)


def _store_of(plan: Plan, store: str | os.PathLike, traced: Callable) -> Store:
    about = {"build": _name_of(plan.recipe.build), "measures": [name for name, _ in plan.recipe.measures]}
    return Store(store, plan.cells, plan.lanes, plan.size, plan.attributes, plan.described, about, traced)


def _check_refine(refine: Any, dtype: Any, cells: Cells, measures: Any) -> None:
    if refine != "boundary":
        raise ValueError(f'refine is {refine!r}; expected None or "boundary"')
    if not jax.config.jax_enable_x64:
        raise ValueError(
            'refine="boundary" needs float64, which JAX has switched off; set jax.config\'s jax_enable_x64 to True'
        )
    if dtype is not None and np.dtype(dtype) != np.float64:
        raise ValueError(f'dtype is {np.dtype(dtype)}, and refine="boundary" uses float32 and float64; leave dtype out')
    if "refined" in (*cells.axes, *(measures or {})):
        raise ValueError("'refined' is the name of a variable of the result as well; call the axis or measure another")


def _refined(single: Plan, double: Plan, store, progress, executor) -> xr.Dataset:
    """A sweep in single precision, of which the doubtful cells are done again in double precision."""
    cells = double.cells
    settings = json.loads(double.attributes["settings"])
    duration = float(settings["steps"] if "steps" in settings else settings["until"])
    attributes = double.attributes | {"settings": json.dumps(settings | {"refine": "boundary"})}
    described = double.described | {"refined": {"long_name": "whether the cell was done again in double precision"}}
    double = dataclasses.replace(double, attributes=attributes, described=described)

    def traced() -> tuple[str, dict[str, Any]]:
        digest, shapes = double.traced()
        return digest, shapes | {"refined": jax.ShapeDtypeStruct((2, double.lanes), np.dtype(bool))}

    def run(plan: Plan, name: str, label: str, numbers: np.ndarray | None = None) -> xr.Dataset:
        path = None if store is None else os.path.join(store, name)
        return carry_out(plan, path, progress, executor, label, numbers)

    whole = None if store is None else _store_of(double, store, traced)
    if whole is not None and whole.done == cells.count:
        with whole:
            return whole.dataset()
    parts: list[tuple[np.ndarray, Any]] = []

    def columns() -> dict[str, np.ndarray]:
        """What there is, in the types of double precision; tracing for them takes as long as a small sweep."""
        known = parts[0][1].data_vars if parts else traced()[1]
        return refinement.merged(cells, first, parts, {name: variable.dtype for name, variable in known.items()})

    numbers, first, search = None, None, None
    with contextlib.nullcontext() if whole is None else whole:
        try:
            first = run(single, "single", "sweep in single precision")
            search = refinement.Search(cells, first, duration, settings["tolerance"], settings["limit"])
            size = refinement.chunk_size(cells.count, double.size, double.lanes, len(double.devices))
            while len(numbers := search.left()):
                settings_of_round = json.dumps(settings | {"cells": hash_of(numbers), "chunk": size})
                picked = dataclasses.replace(
                    double,
                    cells=refinement.Picked.of(cells, numbers),
                    size=size,
                    attributes=attributes | {"settings": settings_of_round},
                )
                again = run(picked, f"double-{len(parts)}", f"round {len(parts) + 1} in double precision", numbers)
                parts.append((numbers, again))
                search.add(numbers, again)
        except (SweepInterrupted, WorkerError) as error:
            # What double precision has not looked at is there in single precision.
            if first is None:
                first, done = error.partial, error.done
            else:
                parts.append((numbers, error.partial))
                done = cells.count - len(numbers) + error.done
            partial = tables.Table(cells, columns(), described).dataset(attributes)
            if isinstance(error, SweepInterrupted):
                raise SweepInterrupted(partial, done, cells.count) from error
            raise WorkerError(error.what, partial, done, cells.count, store) from error.__cause__
        merged = columns()
        if whole is None:
            return tables.Table(cells, merged, described).dataset(attributes)
        for number, begin, end in whole.parts():
            whole.add(number, {name: values[begin:end] for name, values in merged.items()})
    return whole.dataset()


@dataclasses.dataclass(frozen=True)
class Local:
    """Chunks that this process computes, one after the other."""

    work: Work
    chunks: Iterator[Chunk]
    devices: tuple[jax.Device, ...]

    def __iter__(self) -> Iterator[tuple[Chunk, Values]]:
        for chunk in self.chunks:
            yield chunk, self.work.rows(chunk, self.devices)

    def stop(self) -> tuple[()]:
        """Nothing else is under way."""
        return ()


def _name_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}" if hasattr(function, "__qualname__") else repr(function)


def recipe_of(
    build: Callable[..., Built],
    cells: Cells,
    steps: int | None,
    until: float | None,
    measures: Mapping[str, Measure] | None,
    key: PRNGKeyArray | None,
    predict: bool,
    thresholds: tuple[float, float],
    dtype: Any,
    options: Mapping[str, Any],
    at: Any = None,
    order: str = "linear",
) -> Recipe:
    """What all cells have in common, of the arguments of `sweep`, checked.

    Raises:
        ValueError: one of them is not what is expected.
    """
    if order not in ("auto", "linear"):
        raise ValueError(f'order is {order!r}; expected "auto" or "linear"')
    if (steps is None) == (until is None):
        raise ValueError(f"got steps={steps} and until={until}; expected steps for an update, or until for a flow")
    steps = None if steps is None else as_whole("steps", steps)
    if until is not None and not 0 < float(until) < np.inf:
        raise ValueError(f"until is {until}; expected a positive time")
    for name, value in zip(("tolerance", "limit"), thresholds, strict=True):
        if not 0 < float(value) < np.inf:
            raise ValueError(f"{name} is {value}; expected a positive number")
    for name in options:
        if name not in FLOW_OPTIONS:
            raise ValueError(f"{name!r} is no option of a sweep{nearest(name, FLOW_OPTIONS)}")
    if dtype is not None:
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype is {dtype}; expected float32 or float64")
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise ValueError("dtype is float64, which JAX has switched off; set jax.config's jax_enable_x64 to True")
    if key is not None and not _is_key(key):
        raise ValueError(f"key is {key!r}; expected a random key, e.g. jax.random.key(0)")
    measures = dict(measures or {})
    for name in (*measures, *cells.axes):
        reserved = name in tables.RESERVED or tables.PLAYER.match(name)
        if reserved or (name in measures and name in cells.axes):
            raise ValueError(
                f"{name!r} is the name of a variable of the result as well; call the axis or measure another"
            )
    number = jnp.result_type(float) if dtype is None else dtype
    return Recipe(
        build=comparable(build),
        seeds=tuple(name for name, axis in cells.axes.items() if axis.is_seed),
        dtype=dtype,
        steps=steps,
        until=None if until is None else np.asarray(until, number),
        key=None if key is None else for_batches(key),
        thresholds=tuple(np.asarray(float(value), number) for value in thresholds),
        measures=tuple((name, comparable(measure)) for name, measure in measures.items()),
        options={name: np.asarray(value, number) if name == "dt0" else value for name, value in options.items()},
        predict=bool(predict),
        starts=None if cells.starts is None else key_of(0),
        compiled=fallback.is_wanted(),
        at=at if at is None or callable(at) else as_players(at, "at"),
        order=order,
    )


def _devices(devices: Sequence[jax.Device] | None, executor: Any) -> tuple[jax.Device, ...]:
    elsewhere = executor is not None and not isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    if elsewhere and devices is not None:
        raise ValueError(
            "devices are those of this process, and executor computes in others, each on all that it has; leave one out"
        )
    used = tuple(jax.local_devices() if devices is None else devices)
    if not used or not all(isinstance(device, jax.Device) for device in used) or len(set(used)) < len(used):
        raise ValueError(f"devices is {devices!r}; expected different devices, for instance of jax.local_devices()")
    if len({device.platform for device in used}) > 1:
        raise ValueError(f"devices are of {sorted({device.platform for device in used})}; expected one platform")
    return used[:1] if elsewhere else used


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array):
        return False
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key.shape == () if typed else key.dtype == jnp.uint32 and key.ndim == 1


def _check_duration(is_map: bool, steps, until, key, options, noisy: bool) -> None:
    if is_map and steps is None:
        raise ValueError(f"build returns an update, which takes steps=..., not until={until}")
    if not is_map and until is None:
        raise ValueError(f"build returns a flow, which takes until=..., not steps={steps}")
    if is_map and steps >= 2**31:
        raise ValueError(f"steps is {counted(steps)}; expected fewer than 2^31")
    if is_map and options:
        raise ValueError(f"{', '.join(options)}: for flows only, and build returns an update; leave it out")
    if noisy and (key is None or options.get("dt0") is None):
        raise ValueError("build returns a NoisyFlow; pass key=jax.random.key(0) and dt0=..., the length of its steps")
    if not is_map and not noisy and key is not None:
        raise ValueError("a flow follows exact expectations; leave key=None, or build an update or a NoisyFlow")
    dt0 = options.get("dt0")
    if dt0 is not None and not 0 < float(dt0) < np.inf:
        raise ValueError(f"dt0 is {dt0}; expected a positive time")


def _with_source(recipe: Recipe, extremes: list[Built], cells: Cells, kind: Kind) -> tuple[Recipe, str]:
    """The recipe with where equilibria come from, and that as text; without predictions where there can be none."""
    game, method, _ = parts = extremes[0]
    # Traced once for all sweeps of a kind; what a message says of the numbers is of these.
    reason = kind.once(why_no_prediction, game, method, kind.state) and why_no_prediction(game, method, kind.state)
    if not reason:
        recipe = recipe.changed(source=source_of([(game, start) for game, _, start in extremes], recipe.at))
        size = kind.sizes[0]
        if recipe.source is Source.search and size > LARGEST_SEARCH:
            reason = (
                f"{type(game).__name__} knows none of its equilibria, and {size} numbers of the players, more than "
                f"{LARGEST_SEARCH}, are too many to look for one in every cell; at= names it"
            )
        if recipe.source is Source.search and kind.dtype not in (np.float32, np.float64):
            reason = "an equilibrium can be found only in float32 and float64"
    if reason:
        warnings.warn(
            f"predictions are left out: {reason}. predict=False says that this is meant, and warns of nothing.",
            stacklevel=5,
        )
        return recipe.changed(predict=False), f"none: {reason}"
    if recipe.source is Source.named:
        recipe.named(as_arguments(cells.extremes()[0], cells, recipe.dtype))  # an error at the call
    return recipe, predicted_at(recipe, parts)


def _largest_array(game: Game, method: Update | AbstractFlow, state: State, key: PRNGKeyArray | None) -> int:
    """Numbers in the largest array of a step of one game, as it is traced."""
    if isinstance(method, Update):
        step = jax.make_jaxpr(lambda state: method.step(game, state, key))(state)
    else:
        step = jax.make_jaxpr(lambda state: method.field(game, jnp.zeros(()), state))(state)
    return largest_array(step.jaxpr)


def why_no_prediction(game: Game, method: Any, state: Any) -> str:
    """Why there can be no eigenvalues, or nothing; of the state only types and shapes count."""
    size = sum(leaf.size for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating))
    if size > LARGEST_STATE:
        return f"{size} numbers in players and memory, more than {LARGEST_STATE}"
    try:
        if isinstance(method, Update):
            jax.eval_shape(lambda state: method.step(game, state, None).players, state)
        else:
            jax.eval_shape(lambda players: game.field(players, None), state.players)
    except Exception as error:  # whatever a game without exact expectations raises
        return f"the game has no exact expectations ({error})"
    return ""


def predicted_at(recipe: Recipe, parts: Built) -> str:
    """Where equilibria come from, as an attribute says it."""
    game, _, start = parts
    if recipe.source is Source.named:
        return "eigenvalues at the equilibrium that at= names"
    if recipe.source is Source.search:
        return "eigenvalues at the equilibrium that Newton's method finds from the start"
    nearest_one = start is not None and len(game.equilibria()) > 1
    return f"eigenvalues at the game's {'nearest' if nearest_one else 'first'} known equilibrium"
