"""What is computed for a chunk of cells: the same wherever it is computed, in this process or in another one."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import jax
import numpy as np

from dynamics import _locks
from dynamics.analysis.normal_forms.expansion import Task
from dynamics.analysis.stability.boundary import UNIT_CIRCLE, Boundary, boundary_of
from dynamics.analysis.stability.builds import Source
from dynamics.analysis.stability.linearisation import Closely, Linearisation
from dynamics.analysis.stability.periods import find_period
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.verdict import stability_task
from dynamics.compiler import fallback
from dynamics.ensembles import tables
from dynamics.ensembles.cells import (
    LinearisedCells,
    Recipe,
    decide_cells,
    linear_blocks,
    probe_cells,
    reach_along,
    run_chunk,
)
from dynamics.ensembles.designs import Cells
from dynamics.ensembles.players import Variable, columns_of
from dynamics.ensembles.prediction import Predictions, judge
from dynamics.game import as_players
from dynamics.recurrence import most_steps

PLAIN = "without the compiler"  # among what a `Work` knows to be compiled: the compiler has failed

Values = dict[str, np.ndarray]
LOOKS = 16  # parts of a block in which cells get a second look: mostly there are few, and each takes its time
PERIODS = 8  # different periods that the methods of a sweep's chunk are judged by


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some cells, with whole blocks around them.

    Attributes:
        number: of the chunk.
        begin, end: its cells, counted from the sweep's first one.
        selection: which of the cells below are those of the chunk.
        indices: numbers of the cells of its blocks, from which they draw their random keys.
        values: of the axes at these cells.
    """

    number: int
    begin: int
    end: int
    selection: slice
    indices: np.ndarray
    values: Values


@dataclasses.dataclass(frozen=True)
class Work:
    """What all chunks of a sweep have in common.

    Attributes:
        recipe: how a cell is built and run.
        players: the variables of the players.
        kind: "map" or "flow".
        lanes: number of cells in a block.
        blocks: number of blocks in which the cells of any chunk lie.
        compiled: what needs no tracing any more: numbers of cells, and devices. And what has been said of the compiler.
    """

    recipe: Recipe
    players: tuple[Variable, ...]
    kind: str
    lanes: int
    blocks: int
    compiled: set[Any] = dataclasses.field(default_factory=set, compare=False)

    def chunks(
        self, cells: Cells, parts: Iterable[tuple[int, int, int]], numbers: np.ndarray | None = None
    ) -> Iterator[Chunk]:
        """The chunks with these numbers, first cells and ends.

        Blocks are counted from the first cell, whatever the chunks: a cell has the same neighbours in every chunk.

        Args:
            cells: all of them.
            parts: number, first cell and the one after the last.
            numbers: of the cells, where they are some of those of a larger sweep.
        """
        for number, begin, end in parts:
            first = begin // self.lanes * self.lanes
            last = -(-end // self.lanes) * self.lanes
            indices = np.minimum(np.arange(first, last), cells.count - 1)
            values = as_arguments(cells.at(indices), cells, self.recipe.dtype)
            real = slice(begin - first, end - first)
            indices = indices if numbers is None else numbers[indices]
            yield Chunk(number, begin, end, real, indices.astype(np.uint32), values)

    def rows(self, chunk: Chunk, devices: tuple[jax.Device, ...]) -> Values:
        """The variables of the cells of a chunk, by name, in this process.

        Every device gets the same number of blocks, and at least two, whatever the chunk: one program serves all. They
        are filled up with copies of the last cell.
        """
        size = max(2, -(-self.blocks // len(devices))) * len(devices) * self.lanes
        values, indices = chunk.values, chunk.indices
        if len(indices) < size:
            filled = np.minimum(np.arange(size), len(indices) - 1)
            values, indices = {name: column[filled] for name, column in values.items()}, indices[filled]
        trial = self.recipe.trial is not None
        results = self._ran(self.recipe.shortened() if trial else self.recipe, values, indices, devices)
        results = jax.tree.map(lambda leaf: leaf[chunk.selection], results)
        if trial:
            self._run_on(results, np.arange(size)[chunk.selection], values, indices, devices)
        return self.variables(results, {name: column[chunk.selection] for name, column in chunk.values.items()})

    def _ran(
        self,
        recipe: Recipe,
        values: Values,
        indices: np.ndarray,
        devices: tuple[jax.Device, ...],
        count: int | None = None,
    ) -> dict[str, Any]:
        """What `run_chunk` finds, cell by cell, on this machine."""
        blocks = {name: column.reshape(-1, self.lanes) for name, column in values.items()}

        def computed(recipe: Recipe) -> dict[str, Any]:
            kind = len(indices), devices, count is None, recipe.compiled
            with jax.default_device(devices[0]):
                with contextlib.nullcontext() if kind in self.compiled else _locks.tracing:
                    ran = run_chunk(recipe, blocks, indices.reshape(-1, self.lanes), devices, count)
                self.compiled.add(kind)
                doubt = ran.pop("doubt", None)
                results = _fetched(ran, devices)
                # What a second look needs is most of what there is, and mostly nobody is in doubt.
                if doubt is None or not np.asarray(doubt[0].doubt).any():
                    return results
                return results | {"doubt": jax.device_get(doubt)}

        results = self._compiled_or_not(computed, recipe)
        results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)
        doubt = results.pop("doubt", None)
        if doubt is not None:
            self._decide(recipe, results, doubt, values, indices, devices[0])
        return results

    def _decide(
        self,
        recipe: Recipe,
        results: dict[str, Any],
        doubt: Any,
        values: Values,
        indices: np.ndarray,
        device: jax.Device,
    ) -> None:
        """Look a second time at cells whose outcome is in doubt, some of them at a time: one program for all."""
        open_ = np.flatnonzero(doubt[0].doubt)
        if not len(open_):
            return
        # A block takes as long as its longest look: those of about one length together.
        open_ = open_[np.argsort(np.asarray(most_steps(doubt[1]))[open_], kind="stable")]
        results |= {name: np.array(results[name]) for name in ("outcome", "period")}
        size = -(-self.lanes // LOOKS)
        for begin in range(0, len(open_), size):
            rows = open_[np.minimum(np.arange(begin, begin + size), len(open_) - 1)]
            given = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (values, indices, *doubt))
            kind = "in doubt", recipe.duration, device
            lock = contextlib.nullcontext() if kind in self.compiled else _locks.tracing
            with jax.default_device(device), lock:
                outcome, period = jax.device_get(decide_cells(recipe, *given))
            self.compiled.add(kind)
            results["outcome"][rows], results["period"][rows] = outcome, period

    def _compiled_or_not(self, computed: Callable[[Recipe], Any], recipe: Recipe) -> Any:
        """What a function of the recipe returns; if it fails with the compiler of sweeps, without it."""
        if PLAIN in self.compiled or not recipe.compiled:
            return computed(recipe.changed(compiled=False))
        with fallback.reported_once(self.compiled):
            try:
                return computed(recipe)
            except Exception as error:
                problem = error
            # What is not the compiler's fault, such as an error of the caller's function, is raised again here.
            results = computed(recipe.changed(compiled=False))
            self.compiled.add(PLAIN)
            fallback.report(problem)
            return results

    def _run_on(
        self,
        results: dict[str, Any],
        rows: np.ndarray,
        values: Values,
        indices: np.ndarray,
        devices: tuple[jax.Device, ...],
    ) -> None:
        """Run those that a trial has not settled to the end, side by side, and put what is found in its place."""
        open_ = np.flatnonzero(~results["settled"])
        short, whole = self.recipe.shortened().duration, self.recipe.duration
        results["duration"] = np.where(results["settled"], short, whole)
        if not len(open_):
            return
        size, count = len(indices), -(-len(open_) // (self.lanes * len(devices)))
        share = size // len(devices)
        places = np.concatenate([device * share + np.arange(count * self.lanes) for device in range(len(devices))])
        chosen = np.full(size, rows[open_[-1]])
        chosen[places[: len(open_)]] = rows[open_]
        values_of_chosen = {name: column[chosen] for name, column in values.items()}
        more = self._ran(self.recipe.continued(), values_of_chosen, indices[chosen], devices, count)

        def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
            old = np.array(old)
            old[open_] = new[places[: len(open_)]]
            return old

        results |= jax.tree.map(put, {name: results[name] for name in more}, more)

    def variables(self, results: dict[str, Any], values: Values) -> Values:
        """The variables of cells with these values from what `run_chunk` has found."""
        rows = {name: results[name] for name in ("outcome", "period", "residual", "steps_to_tolerance")}
        rows["simulated_rate"] = results["rate"]
        of_players = columns_of(self.players, results["final"], np.ndim(results["outcome"]))
        rows |= {variable.name: column for variable, column in zip(self.players, of_players, strict=True)}
        for name, value in results["measures"].items():
            rows |= dict(zip(tables.measured(name, value), jax.tree.leaves(value), strict=True))
        if "predicted" in results:
            cells = LinearisedCells(**results["predicted"])
            if values:
                rows |= self._predicted(cells, values)
            if self.recipe.source is Source.search:
                rows |= tables.certificate(cells.equilibria, self.players)
        if self.recipe.trial is not None:
            rows["duration"] = results["duration"]
        return rows

    @property
    def _bound_name(self) -> str:
        return f"predicted_{boundary_of(self.kind).bound_name}"

    def _predicted(self, cells: LinearisedCells, values: Values) -> Values:
        judged = judge_cells(self.recipe, cells, boundary_of(self.kind), values, self.lanes)
        return {
            "predicted_verdict": judged.verdict,
            "predicted_smoothness": judged.smoothness,
            "predicted_rate": judged.rate,
            self._bound_name: judged.reach,
        }

    def shapes(self, results: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Types and shapes of the variables, (blocks, lanes, ...), from those of what `run_chunk` finds."""
        shape = results["outcome"].shape
        duration = jax.ShapeDtypeStruct(shape, np.asarray(self.recipe.duration).dtype)
        rows = self.variables(results | {"duration": duration}, {})
        if "predicted" in results:
            types = dict(predicted_verdict=np.int8, predicted_smoothness=np.int8, predicted_rate=float)
            types[self._bound_name] = float
            rows |= {name: jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for name, dtype in types.items()}
        return rows


def _fetched(tree: Any, devices: tuple[jax.Device, ...]) -> Any:
    """Arrays of JAX as NumPy's; on a CPU they are looked at where they lie."""
    if devices[0].platform != "cpu":
        return jax.device_get(tree)  # copies all of them at the same time
    return jax.tree.map(np.asarray, tree)


def judge_cells(recipe: Recipe, cells: LinearisedCells, boundary: Boundary, values: Values, lanes: int) -> Predictions:
    """`prediction.judge` for cells of a recipe.

    Args:
        recipe: how one is built.
        cells: linearised.
        boundary: the unit circle for updates, the imaginary axis for flows.
        values: of the axes, one per cell.
        lanes: number of cells that are looked at together.
    """

    def along(rows: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends, count = [], directions.shape[1]
        padded = 1 << (count - 1).bit_length()  # few numbers of directions, few programs
        directions = np.concatenate([directions, np.repeat(directions[:, -1:], padded - count, axis=1)], axis=1)
        for begin in range(0, len(rows), lanes):
            block = np.minimum(np.arange(begin, begin + lanes), len(rows) - 1)
            given = {name: column[rows[block]] for name, column in values.items()}
            points = jax.tree.map(lambda leaf, block=block: leaf[rows[block]], cells.equilibria.players)
            with _locks.tracing:
                reached = reach_along(recipe, given, points, directions[block])
            ends.append([leaf[: len(rows) - begin, :count] for leaf in jax.device_get(reached)])
        moved, fields = zip(*ends, strict=True)
        return np.concatenate(moved), np.concatenate(fields)

    def closer(rows: np.ndarray, jacobians: np.ndarray) -> Closely:
        parts = []
        for limit in (False, True):
            chosen = np.flatnonzero(cells.vanishing[rows] == limit)
            for begin in range(0, len(chosen), lanes):
                block = chosen[np.minimum(np.arange(begin, begin + lanes), len(chosen) - 1)]
                given = {name: column[rows[block]] for name, column in values.items()}
                points = jax.tree.map(lambda leaf, block=block: leaf[rows[block]], cells.equilibria.players)
                with _locks.tracing:
                    closely = jax.device_get(probe_cells(recipe, given, points, jacobians[block], limit))
                parts.append((chosen[begin : begin + lanes], closely))
        order = np.argsort(np.concatenate([places for places, _ in parts]))
        columns = zip(*[[leaf[: len(places)] for leaf in closely] for places, closely in parts], strict=True)
        return Closely(*(np.concatenate(column)[order] for column in columns))

    def one_by_one(row: int) -> Task[Stability]:
        linear = Linearisation(*(leaf[row] for leaf in cells.linear))
        if cells.vanishing[row]:
            linear = linear._replace(jacobian=np.full_like(linear.jacobian, np.nan))
        game, method, _ = recipe.built({name: column[row] for name, column in values.items()})
        method = recipe.over_period(method)
        players = as_players(jax.tree.map(lambda leaf: leaf[row], cells.equilibria.players))
        task = stability_task(linear, game, method, players, require_equilibrium=True, order=recipe.order)
        return (yield from task)

    given = cells.linear, cells.vanishing, cells.points, boundary, along, closer, one_by_one
    predictions = judge(*given, period=recipe.period, higher=recipe.order == "auto")
    if boundary.discrete and recipe.period == 1:
        _judge_periods(recipe, cells, values, lanes, predictions)
    return predictions


def _judge_periods(
    recipe: Recipe, cells: LinearisedCells, values: Values, lanes: int, predictions: Predictions
) -> None:
    """Judge the cells whose method does not come to rest by its period, as far as it has one, and enter the results.

    The period is that of one of the cells; those for which it is none are looked at again, with that of one of them.
    """
    left = np.flatnonzero(~np.asarray(cells.linear.rests))
    for _ in range(PERIODS):
        if not len(left):
            return
        first = {name: column[left[0]] for name, column in values.items()}
        with _locks.tracing:
            game, method, _ = recipe.built(first)
            point = jax.tree.map(lambda leaf, row=left[0]: leaf[row], cells.equilibria.players)
            period = find_period(game, method, as_players(point)) if cells.equilibria.accepted[left[0]] else None
        if period is None or period.steps <= 1:
            left = left[1:]
            continue
        repeated = recipe.changed(period=period.steps, period_start=period.start)
        values_of_left = {name: column[left] for name, column in values.items()}
        filled = np.minimum(np.arange(-(-len(left) // lanes) * lanes), len(left) - 1)
        with _locks.tracing:
            blocks = linear_blocks(
                repeated, {name: column[filled].reshape(-1, lanes) for name, column in values_of_left.items()}
            )
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(blocks))
        again = jax.tree.map(itemgetter(slice(len(left))), flat)
        judged = judge_cells(repeated, again, UNIT_CIRCLE, values_of_left, lanes)
        for whole, part in zip(predictions, judged, strict=True):
            whole[left] = part
        left = left[1:][~again.linear.rests[1:]]


def as_arguments(values: Mapping[str, Any], cells: Cells, dtype: Any) -> Values:
    """Numbers of the axes in the precision in which `build` gets them; seeds and starts as whole numbers."""
    usual = jax.numpy.result_type(float)

    def as_argument(name: str, value: Any) -> np.ndarray:
        if name == "start_key" or cells.axes[name].is_seed:
            return np.asarray(value, np.uint32)
        its_dtype = np.asarray(value).dtype
        kind = dtype if dtype is not None else its_dtype if its_dtype in (np.float32, np.float64) else usual
        return np.asarray(value, jax.dtypes.canonicalize_dtype(kind))

    return {name: as_argument(name, value) for name, value in values.items()}
