"""What is computed for a chunk of cells: the same wherever it is computed, in this process or in another one."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from dynamics.analysis.linearisation import Linearisation
from dynamics.analysis.report import Stability, equilibrium_of, stability_of
from dynamics.ensembles import tables
from dynamics.ensembles.cells import Recipe, reach_along, run_chunk
from dynamics.ensembles.designs import Cells
from dynamics.ensembles.prediction import judge

# JAX traces functions on one thread at a time only: threads share its caches. What is compiled already runs freely.
_tracing = threading.RLock()

Values = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some cells, with whole blocks around them.

    Attributes:
        number: of the chunk.
        begin, end: its cells, counted from the sweep's first one.
        own: which of the cells below are its own.
        indices: numbers of the cells of its blocks, from which they draw their random keys.
        values: of the axes at these cells.
    """

    number: int
    begin: int
    end: int
    own: slice
    indices: np.ndarray
    values: Values


@dataclasses.dataclass(frozen=True)
class Work:
    """What all chunks of a sweep have in common.

    Attributes:
        recipe: how a cell is built and run.
        names: of the variables of the players' leaves.
        kind: "map" or "flow".
        lanes: number of cells in a block.
        blocks: number of blocks in which the cells of any chunk lie.
        compiled: what needs no tracing any more: numbers of cells, and devices.
    """

    recipe: Recipe
    names: tuple[str, ...]
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
            own = slice(begin - first, end - first)
            indices = indices if numbers is None else numbers[indices]
            yield Chunk(number, begin, end, own, indices.astype(np.uint32), values)

    def rows(self, chunk: Chunk, devices: tuple[jax.Device, ...]) -> Values:
        """The variables of the cells of a chunk, by name, in this process.

        Every device gets the same number of blocks, and at least two, whatever the chunk: one program serves all. They
        are filled up with copies of the last cell.
        """
        size = max(2, -(-self.blocks // len(devices))) * len(devices) * self.lanes
        filled = np.minimum(np.arange(size), len(chunk.indices) - 1)
        values = {name: column[filled].reshape(-1, self.lanes) for name, column in chunk.values.items()}
        with jax.default_device(devices[0]):
            with contextlib.nullcontext() if (size, devices) in self.compiled else _tracing:
                ran = run_chunk(self.recipe, values, chunk.indices[filled].reshape(-1, self.lanes), devices)
            self.compiled.add((size, devices))
            found = jax.device_get(ran)
            found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[chunk.own], found)
            return self.variables(found, {name: column[chunk.own] for name, column in chunk.values.items()})

    def variables(self, found: dict[str, Any], values: Values) -> Values:
        """The variables of cells with these values from what `run_chunk` has found."""
        rows = {name: found[name] for name in ("outcome", "period", "residual", "steps_to_tolerance")}
        rows["simulated_rate"] = found["rate"]
        rows |= dict(zip(self.names, jax.tree.leaves(found["final"]), strict=True))
        for name, value in found["measures"].items():
            rows |= dict(zip(tables.measured(name, value), jax.tree.leaves(value), strict=True))
        if "linear" in found:
            rows |= self._predicted(found, values)
        return rows

    def _predicted(self, found: dict[str, Any], values: Values) -> Values:
        linear, lanes = Linearisation(**found["linear"]), self.lanes

        def along(rows: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ends = []
            for begin in range(0, len(rows), lanes):
                block = np.minimum(np.arange(begin, begin + lanes), len(rows) - 1)
                given = {name: column[rows[block]] for name, column in values.items()}
                with _tracing:
                    reached = reach_along(self.recipe, given, directions[block])
                ends.append([leaf[: len(rows) - begin] for leaf in jax.device_get(reached)])
            moved, fields = zip(*ends, strict=True)
            return np.concatenate(moved), np.concatenate(fields)

        def one_by_one(row: int) -> Stability:
            own = Linearisation(*(leaf[row] for leaf in linear))
            if found["vanishing"][row]:
                own = own._replace(jacobian=np.full_like(own.jacobian, np.nan))
            with _tracing:
                game, method, _ = self.recipe.built({name: column[row] for name, column in values.items()})
                return stability_of(own, game, method, equilibrium_of(game), require_equilibrium=True)

        judged = judge(linear, found["vanishing"], found["size"], self.kind, along, one_by_one)
        return {
            "predicted_verdict": judged.verdict,
            "predicted_smoothness": judged.smoothness,
            "predicted_rate": judged.rate,
            "predicted_radius" if self.kind == "map" else "predicted_abscissa": judged.reach,
        }

    def shapes(self, found: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Types and shapes of the variables, (blocks, lanes, ...), from those of what `run_chunk` finds."""
        rows = self.variables({name: part for name, part in found.items() if name != "linear"}, {})
        if "linear" in found:
            reach = "predicted_radius" if self.kind == "map" else "predicted_abscissa"
            types = dict(
                predicted_verdict=np.int8, predicted_smoothness=np.int8, predicted_rate=float, **{reach: float}
            )
            shape = found["outcome"].shape
            rows |= {name: jax.ShapeDtypeStruct(shape, np.dtype(one)) for name, one in types.items()}
        return rows


def as_arguments(values: Values, cells: Cells, dtype: Any) -> Values:
    """Numbers of the axes in the precision in which `build` gets them; seeds and starts as whole numbers."""
    usual = jax.numpy.result_type(float)

    def one(name: str, value: Any) -> np.ndarray:
        if name == "start_key" or cells.axes[name].is_seed:
            return np.asarray(value, np.uint32)
        own = np.asarray(value).dtype
        kind = dtype if dtype is not None else own if own in (np.float32, np.float64) else usual
        return np.asarray(value, jax.dtypes.canonicalize_dtype(kind))

    return {name: one(name, value) for name, value in values.items()}
