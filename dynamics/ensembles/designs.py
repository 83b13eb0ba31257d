"""Which cells a sweep has: named axes, and how they are combined."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics._checks import as_whole
from dynamics._memory import check_memory, counted

Design = str | tuple[Any, ...]

CELL_BYTES = 26  # of the result of a cell, at the least
FEWER = "give shorter axes, or do them part by part"
DESIGNS = 'design="grid", "zip", ("random", n), ("sobol", n), or either of the last two with a seed, ("random", n, 1)'


@dataclasses.dataclass(frozen=True)
class Seeds:
    """An axis of random keys, made by `seeds`: its coordinate holds the seeds."""

    values: tuple[int, ...]


def seeds(values: int | Sequence[int]) -> Seeds:
    """An axis for which `build` gets a random key per value: the threefry key of the seed, `jax.random.key(seed)`.

    Args:
        values: the seeds, or their number: then they are 0, 1, 2, ...

    Raises:
        ValueError: not whole numbers from 0 to 2^32 - 1, or none at all.

    >>> seeds(3)
    Seeds(values=(0, 1, 2))
    """
    if isinstance(values, (int, np.integer)):
        values = range(as_whole("seeds", values))
    numbers = tuple(as_whole("a seed", value, 0) for value in np.asarray(values).tolist())
    if not numbers or max(numbers) >= 2**32:
        raise ValueError(
            f"seeds got {values!r}; expected one or more whole numbers from 0 to 2^32 - 1, or their number"
        )
    return Seeds(numbers)


@dataclasses.dataclass(frozen=True)
class Interval:
    """An axis of numbers drawn from an interval, made by `uniform` or `log_uniform`."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, fractions: np.ndarray) -> np.ndarray:
        """The numbers below which these fractions of the distribution lie."""
        low, high = (np.log(self.low), np.log(self.high)) if self.logarithmic else (self.low, self.high)
        values = low + (high - low) * fractions
        return np.clip(np.exp(values), self.low, self.high) if self.logarithmic else values


def uniform(low: float, high: float) -> Interval:
    """An axis for the designs ("random", n) and ("sobol", n): numbers spread evenly over an interval.

    Args:
        low, high: the ends, finite.

    Raises:
        ValueError: not finite, or not low < high.

    >>> uniform(0, 1)
    Interval(low=0.0, high=1.0, logarithmic=False)
    """
    low, high = float(low), float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"uniform({low:g}, {high:g}); expected finite low < high")
    return Interval(low, high)


def log_uniform(low: float, high: float) -> Interval:
    """Likewise, with logarithms that are spread evenly.

    Args:
        low, high: the ends, finite and positive.

    Raises:
        ValueError: not finite, or not 0 < low < high.

    >>> log_uniform(0.01, 1)
    Interval(low=0.01, high=1.0, logarithmic=True)
    """
    low, high = float(low), float(high)
    if not 0 < low < high < np.inf:
        raise ValueError(f"log_uniform({low:g}, {high:g}); expected finite 0 < low < high")
    return Interval(low, high, True)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis as it was resolved.

    Attributes:
        values: what the coordinate shows, of no dimension for a constant, else of one.
        is_seed: whether `build` gets a random key instead of the number.
        attributes: units and the like.
    """

    values: np.ndarray
    is_seed: bool
    attributes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cells:
    """All cells of a sweep, numbered from 0, the last dimension fastest.

    Attributes:
        axes: by name.
        dims, shape: the dimensions.
        starts: number of starts per cell; `None`: no such dimension.
        design: as it was asked for, as text.
    """

    axes: dict[str, Axis]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    starts: int | None
    design: str

    @property
    def count(self) -> int:
        """Number of cells, starts included."""
        return math.prod(self.shape)

    def at(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The value of every axis at the cells with these numbers; the number of the start as `start_key`."""
        places = dict(zip(self.dims, np.unravel_index(indices, self.shape), strict=True)) if self.dims else {}
        columns = {}
        for name, axis in self.axes.items():
            place = places.get("cell" if "cell" in self.dims else name)
            constant = axis.values.ndim == 0
            columns[name] = np.broadcast_to(axis.values, len(indices)) if constant else axis.values[place]
        if self.starts is not None:
            columns["start_key"] = places["start"]
        return columns

    def extremes(self) -> list[dict[str, Any]]:
        """The first cell, all axes at their least value, all at their largest: where bounds are broken first."""
        first = {name: values[0] for name, values in self.at(np.zeros(1, int)).items()}
        corners = [first]
        for pick in (np.min, np.max):
            corner = first | {name: pick(axis.values) for name, axis in self.axes.items() if not axis.is_seed}
            if corner not in corners:
                corners.append(corner)
        return corners


def resolve(axes: Any, design: Design, starts: int | None) -> Cells:
    """Check the axes and combine them.

    Raises:
        TypeError: the axes are no mapping.
        ValueError: an axis or the design is none, or there are more cells than can be counted or kept in memory.
    """
    if not isinstance(axes, Mapping):
        raise TypeError(f"axes is {axes!r}; expected a mapping from names to values, e.g. {{'rate': rates}}")
    kind, count, seed = _parse(design)
    for name in axes:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"an axis is called {name!r}; expected the name of an argument of build")
        if name in ("cell", "start_key") or (name == "start" and starts is not None):
            raise ValueError(f"an axis is called {name!r}, a name that the result needs; rename the argument of build")
    drawn = [name for name, axis in axes.items() if isinstance(axis, Interval)]
    if drawn and count is None:
        raise ValueError(f'axis {drawn[0]!r} is an interval; use design=("random", n) or ("sobol", n), or give values')
    if count is not None and not drawn:
        raise ValueError(f"design={design!r} draws nothing; give an axis as dynamics.ensembles.uniform(low, high)")
    if count is not None:
        each = 8 * len(axes) + 16 * len(drawn)
        check_memory(f"design={design!r}, {counted(count)} cells,", count, each, "expected fewer of them")
    fractions = {} if count is None else dict(zip(drawn, _fractions(kind, count, seed, len(drawn)).T, strict=True))
    resolved = {
        name: Axis(axis.at(fractions[name]), False, {}) if name in fractions else _axis(name, axis)
        for name, axis in axes.items()
    }
    lengths = {name: len(axis.values) for name, axis in resolved.items() if axis.values.ndim}
    if kind == "grid":
        dims, shape = tuple(lengths), tuple(lengths.values())
    else:
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ValueError(f'the axes have lengths {shown}; design="{kind}" needs equal ones, design="grid" does not')
        dims, shape = ("cell",), (next(iter(lengths.values()), 1),)
    if starts is not None:
        dims, shape = (*dims, "start"), (*shape, starts)
    if math.prod(shape) >= 2**63:
        check_memory(f"a grid of {counted(math.prod(shape))} cells", math.prod(shape), CELL_BYTES, FEWER)
    text = kind if count is None else f"{kind}, {count} cells, seed {seed}"
    return Cells(resolved, dims, shape, starts, text)


def _parse(design: Design) -> tuple[str, int | None, int]:
    if design in ("grid", "zip"):
        return str(design), None, 0
    if isinstance(design, (tuple, list)) and len(design) in (2, 3) and design[0] in ("random", "sobol"):
        seed = as_whole("the design's seed", design[2], 0) if len(design) == 3 else 0
        return design[0], as_whole("the design's number of cells", design[1]), seed
    raise ValueError(f"design is {design!r}; expected {DESIGNS}")


def _fractions(kind: str, count: int, seed: int, columns: int) -> np.ndarray:
    """Points of the unit cube, shape (count, columns); more of them begin with the same ones."""
    random = np.random.default_rng(seed)
    if kind == "random":
        return random.random((count, columns))
    from scipy.stats.qmc import Sobol  # takes a quarter of a second

    # A random shift of all binary digits keeps what makes the points even.
    bits = 30
    if columns > Sobol.MAXDIM or count > 2**bits:
        raise ValueError(f"{count} points in {columns} dimensions are too many for design=('sobol', n)")
    points = Sobol(columns, scramble=False, bits=bits).random_base2(int(count - 1).bit_length())[:count]
    digits = (points * 2**bits).astype(np.int64) ^ random.integers(2**bits, size=columns)
    return (digits + 0.5) / 2**bits


def _axis(name: str, axis: Any) -> Axis:
    if isinstance(axis, Seeds):
        return Axis(np.asarray(axis.values), True, {"long_name": f"{name} (seed of a random key)"})
    attributes = {key: value for key, value in (getattr(axis, "attrs", None) or {}).items() if isinstance(value, str)}
    if not isinstance(axis, np.ndarray) and hasattr(axis, "dtype") and jnp.issubdtype(axis.dtype, jax.dtypes.prng_key):
        raise ValueError(f"axis {name!r} holds random keys; use dynamics.ensembles.seeds(n)")
    try:
        values = np.asarray(axis)
    except ValueError as error:
        raise ValueError(f"axis {name!r} is {axis!r}; expected numbers in one dimension: {error}") from error
    if values.dtype.kind not in "iuf":
        # bfloat16 and the like are no kinds of NumPy's
        raise ValueError(
            f"axis {name!r} has dtype {values.dtype}; expected real numbers, e.g. numpy.linspace(0, 1, 50)"
        )
    if values.ndim > 1:
        raise ValueError(
            f"axis {name!r} has shape {values.shape}; expected one dimension. Ravel it, or make an axis per dimension."
        )
    if values.size == 0:
        raise ValueError(f"axis {name!r} is empty; expected at least one value")
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"axis {name!r} holds {values[wrong].ravel()[0]} ({wrong.sum()} of {values.size} values are not finite); "
            "expected finite numbers"
        )
    return Axis(values, False, attributes)
