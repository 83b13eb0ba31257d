"""Sweeps in single precision, of which the cells that double precision might decide otherwise are done again.

Which ones is a fixed point: cells that look doubtful in single precision, and then, for as long as there are any, the
neighbours of cells that double precision has changed, and cells next to one of another kind. It depends on the numbers
alone, so that a sweep that was interrupted finds the same cells again.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.spatial

from dynamics.ensembles.designs import Axis, Cells
from dynamics.ensembles.prediction import Predicted
from dynamics.outcomes import Outcome

if TYPE_CHECKING:
    import xarray as xr

MARGIN = 1e-4  # distance of an eigenvalue from the boundary, in relation to its size, that is doubtful
ONE_IN = 64  # cells that are done again to see whether the precision matters where nothing tells
LARGEST_LIMIT = 1e15  # beyond which a norm may overflow in single precision and not in double
WIDEST = 4  # cells by which a region grows in a round
FEWEST = 2048  # cells in a chunk


@dataclasses.dataclass(frozen=True)
class Picked(Cells):
    """Some cells of another sweep, side by side.

    Attributes:
        start_keys: the numbers of their starts, or `None`.
    """

    start_keys: np.ndarray | None = None

    @classmethod
    def of(cls, cells: Cells, numbers: np.ndarray) -> "Picked":
        """The cells with these numbers."""
        values = cells.at(numbers)
        axes = {
            name: axis if axis.values.ndim == 0 else Axis(values[name], axis.is_seed, axis.attributes)
            for name, axis in cells.axes.items()
        }
        return cls(axes, ("cell",), (len(numbers),), None, f"some of: {cells.design}", values.get("start_key"))

    def at(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The value of every axis at the cells with these numbers; the number of the start as `start_key`."""
        columns = super().at(indices)
        return columns if self.start_keys is None else columns | {"start_key": self.start_keys[indices]}


# Who is next to whom


class Grid:
    """Cells on a grid: next to each other along axes of numbers, not along those of seeds or starts."""

    def __init__(self, cells: Cells):
        self.shape = cells.shape
        numeric = [name in cells.axes and not cells.axes[name].is_seed for name in cells.dims]
        self.along = [axis for axis, is_numeric in enumerate(numeric) if is_numeric and cells.shape[axis] > 1]

    def differ(self, labels: np.ndarray) -> np.ndarray:
        """Cells with another label than a neighbour."""
        labels = labels.reshape(self.shape)
        differing = np.zeros(self.shape, bool)
        for axis in self.along:
            ahead, behind = _shifted(axis)
            change = labels[ahead] != labels[behind]
            differing[ahead] |= change
            differing[behind] |= change
        return differing.ravel()

    def spread(self, chosen: np.ndarray) -> np.ndarray:
        """These cells and their neighbours, diagonals included."""
        spread = chosen.reshape(self.shape).copy()
        for axis in self.along:
            ahead, behind = _shifted(axis)
            before = spread.copy()
            spread[ahead] |= before[behind]
            spread[behind] |= before[ahead]
        return spread.ravel()

    def sample(self) -> np.ndarray:
        """Cells spread evenly over the grid, one in `ONE_IN`."""
        if not self.along:
            return np.arange(np.prod(self.shape, dtype=int)) % ONE_IN == 0
        stride = max(2, round(ONE_IN ** (1 / len(self.along))))
        sampled = np.ones(self.shape, bool)
        for axis in self.along:
            place = np.arange(self.shape[axis])
            chosen = place % stride == min(stride, self.shape[axis]) // 2
            sampled &= chosen.reshape([-1 if other == axis else 1 for other in range(len(self.shape))])
        return sampled.ravel()


def _shifted(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    whole = (slice(None),) * axis
    return (*whole, slice(1, None)), (*whole, slice(None, -1))


class Scattered:
    """Cells anywhere: next to the nearest ones, by the ranks of their values along every axis."""

    def __init__(self, cells: Cells):
        self.starts = cells.starts or 1
        count = cells.shape[0]
        columns = [axis.values for axis in cells.axes.values() if axis.values.ndim and not axis.is_seed]
        ranks = [np.unique(values, return_inverse=True)[1] for values in columns]
        points = np.stack([rank / max(1, rank.max()) for rank in ranks if rank.max() > 0] or [np.zeros(count)], axis=1)
        self.along = [axis for axis, rank in enumerate(ranks) if rank.max() > 0]
        nearest = min(count, 2 * points.shape[1] + 3)
        self.near = scipy.spatial.KDTree(points).query(points, nearest)[1].reshape(count, -1)

    def differ(self, labels: np.ndarray) -> np.ndarray:
        """Cells with another label than a neighbour."""
        labels = labels.reshape(-1, self.starts)
        differing = np.zeros(labels.shape, bool)
        for column in self.near.T:
            change = labels != labels[column]
            differing |= change
            np.logical_or.at(differing, column, change)
        return differing.ravel()

    def spread(self, chosen: np.ndarray) -> np.ndarray:
        """These cells and their neighbours."""
        chosen = chosen.reshape(-1, self.starts)
        spread = chosen.copy()
        for column in self.near.T:
            spread |= chosen[column]
            np.logical_or.at(spread, column, chosen)
        return spread.ravel()

    def sample(self) -> np.ndarray:
        """One cell in `ONE_IN`."""
        return np.arange(len(self.near) * self.starts) // self.starts % ONE_IN == 0


# What is doubtful


class Search:
    """Which cells are to be done again.

    Args:
        cells: all of them.
        single: what single precision has found.
        duration: number of steps, or final time.
        tolerance, limit: as for `dynamics.simulate`.
    """

    def __init__(self, cells: Cells, single: "xr.Dataset", duration: float, tolerance: float, limit: float):
        self.nearby = Scattered(cells) if "cell" in cells.dims else Grid(cells)
        self.first = _labels(single)
        self.known = self.first.copy()
        self.refined = np.zeros(cells.count, bool)
        self.rounds = 0
        doubtful = _doubtful(single, duration, tolerance, limit)
        self.wanted = doubtful | self.nearby.differ(self.first) | self.nearby.sample()

    def left(self) -> np.ndarray:
        """Numbers of the cells that are still to be done again."""
        return np.flatnonzero(self.wanted & ~self.refined)

    def add(self, numbers: np.ndarray, double: "xr.Dataset") -> None:
        """Take what double precision has found in these cells, and look who else is in doubt now."""
        labels = _labels(double)
        done = labels >= 0
        numbers = numbers[done]
        self.known[numbers], self.refined[numbers] = labels[done], True
        changed = np.zeros_like(self.refined)
        changed[numbers] = self.known[numbers] != self.first[numbers]
        self.wanted |= self.nearby.differ(self.known)
        self.rounds += 1
        wider = changed
        for _ in range(min(self.rounds, WIDEST)):  # ever further, so that a large region takes few rounds
            wider = self.nearby.spread(wider)
        self.wanted |= wider
        if not self.nearby.along:  # there is nobody next to anybody: all that looked the same are in doubt
            self.wanted |= np.isin(self.first, self.first[changed])


def _labels(dataset: "xr.Dataset") -> np.ndarray:
    """One number for outcome and predicted verdict; negative where there is none yet."""
    outcome = dataset["outcome"].values.ravel().astype(int)
    verdict = dataset["predicted_verdict"].values.ravel().astype(int) if "predicted_verdict" in dataset else -1
    return np.where(outcome >= 0, 8 * outcome + verdict + 1, -1)


def _doubtful(single: "xr.Dataset", duration: float, tolerance: float, limit: float) -> np.ndarray:
    """Cells that rounding in single precision may have decided."""
    outcome = single["outcome"].values.ravel()
    converged, cycling, diverged = (outcome == kind for kind in (Outcome.converged, Outcome.cycling, Outcome.diverged))
    # Steps that move nothing in single precision may move something in double precision, and so on.
    doubtful = np.isin(outcome, (Outcome.undecided, Outcome.stalled, Outcome.not_a_number))
    if limit > LARGEST_LIMIT:
        doubtful |= diverged
    if "predicted_verdict" not in single:
        # Nothing tells a cycle of the game from one of its rounding.
        return doubtful | cycling | (outcome == Outcome.chaotic)
    verdict = single["predicted_verdict"].values.ravel()
    change = single["predicted_rate"].values.ravel() * duration
    doubtful |= verdict == Predicted.marginal
    # The runs contradict the eigenvalues: a cycle around a stable point may be one between neighbouring numbers, and
    # an unstable point that attracts may be one from which rounding has not yet driven away.
    doubtful |= np.isin(outcome, (Outcome.cycling, Outcome.chaotic)) & (verdict != Predicted.unstable) | converged & (
        verdict == Predicted.unstable
    )
    with np.errstate(invalid="ignore"):
        # Nothing was decided by the linear part, or it converged faster than that allows: rest at the rounding's level.
        doubtful |= np.abs(change) < np.maximum(1, MARGIN * duration)
        doubtful |= converged & (verdict == Predicted.stable) & (change > 1.5 * np.log(tolerance))
    return doubtful


# What is put together


def merged(cells: Cells, single: "xr.Dataset", parts: list[tuple[np.ndarray, "xr.Dataset"]], types: Any) -> dict:
    """All variables as arrays with a leading axis of cells: those of single precision, and over them the others.

    Args:
        cells: all of them.
        single: what single precision has found.
        parts: numbers of cells, and what double precision has found in them.
        types: of the variables, by name.
    """
    columns: dict[str, np.ndarray] = {}
    for name in single.data_vars:
        values = single[name].values
        values = values.reshape(cells.count, *values.shape[len(cells.shape) :])
        columns[str(name)] = values.astype(types[name])
    columns["refined"] = np.zeros(cells.count, bool)
    for numbers, double in parts:
        done = double["outcome"].values >= 0
        for name in double.data_vars:
            columns[str(name)][numbers[done]] = double[name].values[done]
        columns["refined"][numbers[done]] = True
    return columns


def chunk_size(count: int, largest: int, lanes: int, devices: int) -> int:
    """Number of cells in a chunk of those that are done again, of a sweep of so many: one program for all rounds."""
    wanted = min(largest, max(FEWEST, 1 << (count // 64).bit_length()))
    return max(2, -(-wanted // (lanes * devices))) * lanes * devices
