"""The public face of sweeps."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._names import nearest
from dynamics.analysis.linearisation import Linearisation
from dynamics.analysis.report import Stability, equilibrium_of, stability_of
from dynamics.ensembles import tables
from dynamics.ensembles.cells import (
    FLOW_SAMPLES,
    Built,
    Recipe,
    check_arguments,
    chunk_of,
    lanes_of,
    reach_along,
    run_chunk,
    samples_of,
)
from dynamics.ensembles.designs import Cells, Design, resolve
from dynamics.ensembles.prediction import judge
from dynamics.ensembles.store import Store, fingerprint
from dynamics.flows.noisy import NoisyFlow
from dynamics.simulation import Measure, start_state
from dynamics.updates.base import Update

if TYPE_CHECKING:
    import xarray as xr

LARGEST_STATE = 256  # beyond which a Jacobian per cell is no longer small
FLOW_OPTIONS = ("solver", "stepsize_controller", "dt0", "max_steps", "adjoint")
Progress = Callable[[int, int, str], None]


class SweepInterrupted(KeyboardInterrupt):
    """Raised when a sweep is interrupted; what is done is not lost.

    Attributes:
        partial: the dataset, with outcome -1 (`not_done`) and NaN in the cells that are not done.
        done, total: numbers of cells.
    """

    def __init__(self, partial: "xr.Dataset", done: int, total: int):
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
    tolerance: float = 1e-3,
    limit: float = 1e6,
    chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: Any = None,
    store: str | os.PathLike | None = None,
    progress: bool | Progress = False,
    **options: Any,
) -> "xr.Dataset":
    """Simulate a method on a game for all values of named axes, and predict each outcome from the eigenvalues.

    `build` is traced once, and one compiled program serves all cells, also those of another sweep with the same
    `build`, number of steps, precision and chunk. A cell that blows up disturbs nobody. Every cell's numbers are the
    same to the bit however the sweep is cut into chunks.

    Args:
        build: function of numbers, called with the axes' names as keywords, that returns
            `(game, update or flow, players)`. It is traced: use jax.numpy inside. At the door it is also called with
            plain numbers, at the first cell and at the least and the largest value of every axis.
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
            with `jax.random.fold_in(key, i)`. `None`: exact expectations.
        predict: linearise at the game's first known equilibrium.
        tolerance, limit: as in `dynamics.simulate`.
        chunk: number of cells at a time, rounded up to full blocks (of 256, or fewer large games); it decides about
            memory and not about the result. `None`: as many as memory allows, at most 65,536.
        devices: which share every chunk; by default all local ones, as `jax.local_devices()` lists them. The numbers do
            not depend on how many there are. A CPU is one device, unless `jax_num_cpu_devices` is set.
        dtype: float32 or float64, of the axes, the game, the method and the players; `None`: as `build` makes them from
            axes of JAX's default precision.
        store: path of a folder in zarr format to which every chunk is committed when it is done; see below.
        progress: show a bar with the cells done, their rate, the time left and the outcomes so far; or a function of
            cells done, their total and a text.
        options: for flows, as in `dynamics.simulate`: solver, stepsize_controller, dt0, max_steps, adjoint.

    Returns:
        a dataset with the variables

        * `outcome` (see `dynamics.Outcome`), `simulated_rate`, `period`, `residual`: as `dynamics.simulate` finds them
          with `save_every="last"`, or, where the number of steps has no divisor from 64 to 128, with `steps // 64`;
        * `player_0`, `player_1`, ...: the players at the end, a variable per leaf;
        * `steps_to_tolerance`: when the distance to the end has fallen for good below `tolerance` times its largest
          value; NaN unless converged. It is interpolated between samples, of which updates have 64 to 128 and flows
          512: the attribute `resolution` is the time between two, a bound on its error;
        * `predicted_verdict`, `predicted_smoothness`, `predicted_rate`, `predicted_radius` (updates) or
          `predicted_abscissa` (flows): as `dynamics.stability`, except that at a kink pieces are not judged: there the
          verdict is `none`. Left out when no equilibrium is known; the attribute `prediction` says why.
        * the measures.

        Attributes hold versions, precision, key and settings.

    With `store="run.zarr"` nothing is lost. A chunk that is done is on the disk, whole, before the next one begins;
    after a crash, a full disk or `kill -9` the same call goes on from there, and ends with the bits of an undisturbed
    sweep (and of one without a store) on the same kind of processor. When all is done it returns at once. Memory is
    bounded by the chunk: the dataset reads what is looked at from the folder, `.load()` all of it. A store keeps the
    chunks it was begun with, whatever `chunk` is. `xarray.open_zarr("run.zarr")` opens it at any time, also while the
    sweep runs: cells that are not done have outcome -1, and NaN; where there is an outcome, all else is there as well.
    One process at a time writes to a store. The store of another sweep (axes, settings, `build`, key, precision,
    versions of dynamics, JAX and NumPy) is refused with the difference: take another name, or delete the folder. What
    `build` and the measures compute is compared as a program with its numbers; what a callback to Python computes
    cannot be seen.

    Raises:
        TypeError: `build` is no function, or returns something else.
        ValueError: a number is out of bounds, an axis is no list of finite numbers, names do not fit, or the store
            belongs to another sweep.
        dynamics.ensembles.StoreError: the store cannot be written, e.g. because the disk is full, or another process
            writes to it. What is in it is kept.
        SweepInterrupted: on the interrupt key, with the cells that are done.

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
    recipe = _recipe(build, cells, steps, until, measures, key, predict, (tolerance, limit), dtype, options)
    extremes = [recipe.built(_as_arguments(values, cells, dtype)) for values in cells.extremes()]
    parts = extremes[0]
    state = start_state(*parts)
    is_map = isinstance(parts[1], Update)
    _check_duration(is_map, steps, until, key, options, isinstance(parts[1], NoisyFlow))
    reason = _why_no_prediction(parts, state) if predict else "not asked for"
    if reason:
        recipe = _without_prediction(recipe)
    used = _devices(devices)
    lanes = lanes_of(recipe, parts, cells.count, used[0].platform)
    chunk = None if chunk is None else as_whole("chunk", chunk)
    size = chunk_of(recipe, parts, cells.count, lanes, chunk, len(used))
    kind = "map" if is_map else "flow"
    resolution = steps // samples_of(steps) if is_map else float(until) / (FLOW_SAMPLES - 1)
    names = tables.player_names(parts[2])
    described = tables.described(kind, resolution) | {name: {"long_name": label} for name, label in names}
    settings = {
        "design": cells.design,
        "steps" if is_map else "until": steps if is_map else float(until),
        "tolerance": float(tolerance),
        "limit": float(limit),
        "chunk": size,
        "lanes": lanes,
        "starts": starts,
        "options": {name: repr(value) for name, value in options.items()},
    }
    number = _trees.float_dtype(parts[2])
    attributes = tables.provenance(settings, number, key)
    attributes |= {"kind": kind, "prediction": reason or "eigenvalues at the game's first known equilibrium"}
    if store is None:
        table = tables.Table(cells, {}, described)
        begins = range(0, cells.count, size)
        todo = [(number, begin, min(begin + size, cells.count)) for number, begin in enumerate(begins)]
        opened, keep = contextlib.nullcontext(), lambda _, rows: table.add(rows)
    else:
        about = {"build": _name_of(build), "measures": [name for name, _ in recipe.measures]}
        trace = partial(_traced, recipe, cells, names, kind, dtype, lanes, used[:1])
        opened = table = Store(store, cells, lanes, size, attributes, described, about, trace)
        # Every device gets the same number of blocks, and at least two.
        size = max(2, -(-table.blocks // len(used))) * len(used) * lanes
        todo, keep = table.parts(), table.add
    with opened, _shown(progress, cells.count, table.done) as show:
        try:
            for number, begin, end in todo:
                # Blocks are counted from the first cell, whatever the chunks. The last ones are filled up with copies
                # of the last cell, so that one program serves all.
                first = begin // lanes * lanes
                indices = np.minimum(np.arange(first, first + size), cells.count - 1)
                values = _as_arguments(cells.at(indices), cells, dtype)
                blocks = {name: array.reshape(-1, lanes) for name, array in values.items()}
                with jax.default_device(used[0]):
                    ran = run_chunk(recipe, blocks, indices.astype(np.uint32).reshape(-1, lanes), used)
                found = jax.device_get(ran)
                own = slice(begin - first, end - first)
                found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[own], found)  # noqa: B023
                keep(number, _rows(recipe, cells, found, indices[own], names, kind, dtype, lanes))
                show(table.done, table.counts())
        except KeyboardInterrupt as error:
            raise SweepInterrupted(table.dataset(attributes), table.done, cells.count) from error
    return table.dataset(attributes)


def _name_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}" if hasattr(function, "__qualname__") else repr(function)


def _traced(recipe: Recipe, cells: Cells, names, kind, dtype, lanes, devices) -> tuple[str, dict[str, Any]]:
    """Fingerprint of what two blocks compute, and the types and shapes of their variables; nothing is compiled."""
    shape = (2, lanes)
    values = _as_arguments(cells.at(np.zeros(1, int)), cells, dtype)
    values = {name: jax.ShapeDtypeStruct(shape, value.dtype) for name, value in values.items()}
    indices = jax.ShapeDtypeStruct(shape, np.uint32)
    jaxpr, found, _ = eqx.filter_make_jaxpr(run_chunk)(recipe, values, indices, devices)
    shown = {name: part for name, part in found.items() if name != "linear"}
    rows = _rows(recipe, cells, shown, None, names, kind, dtype, lanes)
    if "linear" in found:
        reach = "predicted_radius" if kind == "map" else "predicted_abscissa"
        predicted = dict(predicted_verdict=np.int8, predicted_smoothness=np.int8, predicted_rate=float) | {reach: float}
        rows |= {name: jax.ShapeDtypeStruct(shape, np.dtype(one)) for name, one in predicted.items()}
    return fingerprint(jaxpr, recipe), rows


def _recipe(build, cells: Cells, steps, until, measures, key, predict, thresholds, dtype, options) -> Recipe:
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
        if name in tables.RESERVED or name.startswith("player_") or (name in measures and name in cells.axes):
            raise ValueError(
                f"{name!r} is the name of a variable of the result as well; call the axis or measure another"
            )
    number = jnp.result_type(float) if dtype is None else dtype
    return Recipe(
        build=build,
        seeds=tuple(name for name, axis in cells.axes.items() if axis.is_seed),
        dtype=dtype,
        steps=steps,
        until=None if until is None else np.asarray(until, number),
        key=key,
        thresholds=tuple(np.asarray(float(value), number) for value in thresholds),
        measures=tuple(measures.items()),
        options={name: np.asarray(value, number) if name == "dt0" else value for name, value in options.items()},
        predict=bool(predict),
        starts=None if cells.starts is None else jax.random.key(0),
    )


def _devices(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    used = tuple(jax.local_devices() if devices is None else devices)
    if not used or not all(isinstance(device, jax.Device) for device in used) or len(set(used)) < len(used):
        raise ValueError(f"devices is {devices!r}; expected different devices, for instance of jax.local_devices()")
    if len({device.platform for device in used}) > 1:
        raise ValueError(f"devices are of {sorted({device.platform for device in used})}; expected one platform")
    return used


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array):
        return False
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key.shape == () if typed else key.dtype == jnp.uint32 and key.ndim == 1


def _check_duration(is_map: bool, steps, until, key, options, noisy: bool) -> None:
    if is_map and steps is None:
        raise ValueError(f"build returns an update, which takes steps=..., not until={until}")
    if not is_map and until is None:
        raise ValueError(f"build returns a flow, which takes until=..., not steps={steps}")
    if is_map and options:
        raise ValueError(f"{', '.join(options)}: for flows only, and build returns an update; leave it out")
    if noisy and (key is None or options.get("dt0") is None):
        raise ValueError("build returns a NoisyFlow; pass key=jax.random.key(0) and dt0=..., the length of its steps")
    if not is_map and not noisy and key is not None:
        raise ValueError("a flow follows exact expectations; leave key=None, or build an update or a NoisyFlow")
    dt0 = options.get("dt0")
    if dt0 is not None and not 0 < float(dt0) < np.inf:
        raise ValueError(f"dt0 is {dt0}; expected a positive time")


def _why_no_prediction(parts: Built, state: Any) -> str:
    """Why there are no eigenvalues, or nothing."""
    game, method, _ = parts
    known = game.equilibria()
    if not known:
        return f"none: {type(game).__name__} knows none of its equilibria"
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating))
    if size > LARGEST_STATE:
        return f"none: {size} numbers in players and memory, more than {LARGEST_STATE}"
    try:
        if isinstance(method, Update):
            jax.eval_shape(lambda state: method.step(game, state, None).players, state)
        else:
            jax.eval_shape(lambda players: game.field(players, None), state.players)
    except Exception as error:  # whatever a game without exact expectations raises
        return f"none: the game has no exact expectations ({error})"
    return ""


def _without_prediction(recipe: Recipe) -> Recipe:
    fields = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
    return Recipe(**fields | {"predict": False})


def _as_arguments(values: Mapping[str, Any], cells: Cells, dtype: Any) -> dict[str, np.ndarray]:
    """Numbers of the axes in the precision in which `build` gets them; seeds and starts as whole numbers."""
    usual = jnp.result_type(float)

    def one(name: str, value: Any) -> np.ndarray:
        if name == "start_key" or cells.axes[name].is_seed:
            return np.asarray(value, np.uint32)
        own = np.asarray(value).dtype
        kind = dtype if dtype is not None else own if own in (np.float32, np.float64) else usual
        return np.asarray(value, jax.dtypes.canonicalize_dtype(kind))

    return {name: one(name, value) for name, value in values.items()}


def _rows(
    recipe: Recipe, cells: Cells, found: dict[str, Any], indices, names, kind, dtype, lanes
) -> dict[str, np.ndarray]:
    """The variables of the cells of a chunk."""
    rows = {name: found[name] for name in ("outcome", "period", "residual", "steps_to_tolerance")}
    rows["simulated_rate"] = found["rate"]
    leaves = jax.tree.leaves(found["final"])
    rows |= {name: leaf for (name, _), leaf in zip(names, leaves, strict=True)}
    for name, value in found["measures"].items():
        rows |= dict(zip(tables.measured(name, value), jax.tree.leaves(value), strict=True))
    if "linear" in found:
        linear = Linearisation(**found["linear"])

        def arguments(rows: np.ndarray) -> dict[str, np.ndarray]:
            return _as_arguments(cells.at(indices[rows]), cells, dtype)

        def along(rows: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = []
            for begin in range(0, len(rows), lanes):
                block = np.minimum(np.arange(begin, begin + lanes), len(rows) - 1)
                ends = jax.device_get(reach_along(recipe, arguments(rows[block]), directions[block]))
                found.append([leaf[: len(rows) - begin] for leaf in ends])
            moved, fields = zip(*found, strict=True)
            return np.concatenate(moved), np.concatenate(fields)

        def one_by_one(row: int) -> Stability:
            game, method, _ = recipe.built({name: column[0] for name, column in arguments(np.array([row])).items()})
            own = Linearisation(*(leaf[row] for leaf in linear))
            if found["vanishing"][row]:
                own = own._replace(jacobian=np.full_like(own.jacobian, np.nan))
            return stability_of(own, game, method, equilibrium_of(game), require_equilibrium=True)

        judged = judge(linear, found["vanishing"], found["size"], kind, along, one_by_one)
        rows["predicted_verdict"], rows["predicted_smoothness"] = judged.verdict, judged.smoothness
        rows["predicted_rate"] = judged.rate
        rows["predicted_radius" if kind == "map" else "predicted_abscissa"] = judged.reach
    return rows


class _shown:
    """Shows how far a sweep is: as a bar, by calling a function, or not at all."""

    def __init__(self, progress: bool | Progress, total: int, done: int = 0):
        self.progress, self.total = progress, total
        disable = callable(progress) or not progress
        self.bar = tqdm.tqdm(total=total, initial=done, unit="cell", desc="sweep", disable=disable)

    def __enter__(self) -> Callable[[int, str], None]:
        return self.show

    def __exit__(self, *_) -> None:
        self.bar.close()

    def show(self, done: int, text: str) -> None:
        if callable(self.progress):
            self.progress(done, self.total, text)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)
