"""Transient growth: how far a perturbation can grow before it decays, when, and which one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.nonnormal.matrices import UNBOUNDED, boundedness, outermost, square_matrix, without_neutral
from dynamics.analysis.nonnormal.maximum import refined_maximum
from dynamics.analysis.nonnormal.numerical_range import numerical_abscissa
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.report import Stability

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class Growth(Described, PlainFields):
    """How far a perturbation of length 1 can grow before it decays.

    Attributes:
        kind: "map" or "flow".
        growth: the largest norm of a power or an exponential of the Jacobian; infinite when there is no bound.
        bound: a bound that it is certain not to exceed; equal to it for most maps.
        time: the number of steps, or the time, at which it is reached.
        initial: the perturbation of length 1 that grows most, on players and memory.
        final: where it has gone at that time.
        rate: log contraction per step, or abscissa: the slope of the logarithm of the norm in the long run.
        slope: the same at the start: numerical abscissa for a flow, log of the Jacobian's norm for a map.
        times, norms: the norm over time, from the start until it has come down to 1 or below.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    growth: float
    bound: float
    time: float
    initial: np.ndarray
    final: np.ndarray
    rate: float
    slope: float
    times: np.ndarray
    norms: np.ndarray
    notes: tuple[str, ...]

    def to_xarray(self) -> xr.Dataset:
        """The norm along the axis `time`, as an `xarray.Dataset`."""
        import xarray as xr

        return xr.Dataset({"norm": ("time", self.norms)}, {"time": self.times}, {"kind": self.kind})

    def describe(self) -> str:
        """The result as text."""
        if not np.isfinite(self.growth):
            first = UNBOUNDED
        elif self.time == 0:
            first = "no transient growth: every perturbation shrinks from the start"
        else:
            when = boundary_of(self.kind).when(self.time)
            first = f"transient growth {self.growth:.6g} {when} (at most {self.bound:.6g})"
        return "\n".join([first, f"rate {self.slope:.6g} at the start, {self.rate:.6g} in the long run", *self.notes])


_MARGINAL = (
    "Eigenvalues on the stability boundary never decay: the norm is searched over a finite time, and the bound holds "
    "there only."
)


def transient_growth(report: Stability | ArrayLike, *, kind: str | None = None) -> Growth:
    r"""The largest $\|J^k\|$ (maps) or $\|e^{tJ}\|$ (flows), when it is reached, and by which perturbation.

    Once a power or an exponential has norm 1 or less, all later norms are below the largest before. For a flow the time
    until then is sampled and the largest samples are refined; `bound` follows from the largest slopes in between.
    Source: Trefethen and Embree, Spectra and Pseudospectra, 2005, chapters 14 and 16.

    Args:
        report: of `dynamics.stability`, or a matrix of shape (n, n).
        kind: "map" or "flow", with a matrix.

    Raises:
        ValueError: no square matrix of finite numbers, or the kind is missing with a matrix.
        TypeError: it has other than real numbers.

    >>> result = transient_growth([[0.5, 10.0], [0.0, 0.5]], kind="map")
    >>> int(result.time), round(result.growth, 3)
    (1, 10.025)
    """
    report, boundary, basis = without_neutral(report, kind)
    matrix, kind = square_matrix(report), boundary.kind
    with np.errstate(divide="ignore"):
        rate = float(boundary.rate(boundary.outward(outermost(matrix, boundary))))
        slope = boundary.initial_rate(matrix)
    side = boundedness(report, boundary)
    if side == "unstable":
        nothing, ends = np.full(len(basis), np.nan), np.array([0.0])
        return Growth(kind, np.inf, np.inf, np.inf, nothing, nothing, rate, slope, ends, ends + 1, ())
    if boundary.discrete:
        time, bound, times, norms = _growth_of_map(matrix, side)
    else:
        time, bound, times, norms = _growth_of_flow(matrix, rate, slope, numerical_abscissa(-matrix), side)
    left, values, right = np.linalg.svd(boundary.propagator(matrix, time))
    notes = () if side == "stable" else (_MARGINAL,)
    growth = float(values[0]) if time else 1.0
    initial, final = basis @ right[0], basis @ (values[0] * left[:, 0])
    return Growth(kind, growth, max(bound, growth), time, initial, final, rate, slope, times, norms, notes)


def _norms(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrices, 2, axis=(-2, -1))


_AT_MOST_ONE = 1 + 1e-12


def _growth_of_flow(
    matrix: np.ndarray, rate: float, slope: float, fall: float, side: str
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """When the norm of exp(tJ) is largest, a bound of it, and the times and norms to show.

    `rate` is the largest real part of an eigenvalue; the logarithm of the norm rises at most by `slope` and falls at
    most by `fall` per time, the numerical abscissas of J and -J.
    """
    matrix = matrix.astype(float)
    scale = float(np.linalg.norm(matrix, 2))
    if scale == 0:
        return 0.0, 1.0, np.array([0.0, 1.0]), np.ones(2)
    horizon = 1 / (8 * scale)
    power = scipy.linalg.expm(horizon * matrix)
    while (norm := float(_norms(power))) > _AT_MOST_ONE and horizon * scale < 1e12:
        power, horizon = power @ power, 2 * horizon
    if norm > _AT_MOST_ONE or side == "marginal":  # rotates for ever
        frequencies = np.abs(np.linalg.eigvals(matrix).imag)
        slowest = np.min(frequencies[frequencies > 1e-6 * scale], initial=scale)
        horizon = 20 * 2 * np.pi / float(slowest)
    horizon = max(horizon, min(3 / abs(rate), 500 / scale) if rate else 0.0)
    count = 2048 if len(matrix) <= 64 else 512
    times = np.linspace(0, horizon, count + 1)
    norms = _uniform(matrix, horizon / count, count)
    if slope <= 1e-13 * scale:
        return 0.0, 1.0, times, norms
    gap = horizon / count
    logs = np.log(np.maximum(norms, 1e-300))
    rise = np.clip((logs[1:] - logs[:-1] + fall * gap) / max(slope + fall, 1e-300), 0, gap)
    bound = float(np.exp(min(np.max(logs[:-1] + slope * rise), 700)))
    # A peak far before the end of a slow decay falls between the samples: as many again for every doubling of time.
    octaves = np.arange(np.log2(max(horizon * scale, 1)) + 4)
    early = horizon * 2.0 ** -octaves[:, None] * np.linspace(0.5, 1, 32, endpoint=False)
    early = early.ravel() if gap * scale > 0.05 else np.zeros(0)
    every = np.concatenate([times, early])
    values = np.concatenate([norms, _norms(scipy.linalg.expm(early[:, None, None] * matrix)) if len(early) else early])
    order = np.argsort(every, kind="stable")
    time, _ = refined_maximum(lambda t: float(_norms(scipy.linalg.expm(t * matrix))), every[order], values[order])
    return time, bound, times, norms


def _uniform(matrix: np.ndarray, gap: float, count: int) -> np.ndarray:
    step, power, norms = scipy.linalg.expm(gap * matrix), np.eye(len(matrix)), []
    powers = []
    for _ in range(count + 1):
        powers.append(power)
        power = power @ step
        if len(powers) == 256:
            norms.append(_norms(np.array(powers)))
            powers = []
    return np.concatenate([*norms, _norms(np.array(powers))])


def _growth_of_map(matrix: np.ndarray, side: str) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The same of the powers of J."""
    matrix = matrix.astype(float)
    most = 4096 if len(matrix) <= 64 else 1024
    power, norms = np.eye(len(matrix)), [1.0]
    while len(norms) <= most and (len(norms) < 16 or np.min(norms[1:]) > _AT_MOST_ONE):
        power = power @ matrix
        norms.append(float(_norms(power)))
    best, bound = int(np.argmax(norms)), float(np.max(norms))
    if norms[best] <= _AT_MOST_ONE:
        best = 0
    times, shown = np.arange(len(norms), dtype=float), np.array(norms)
    if np.min(norms[1:]) > _AT_MOST_ONE:
        # A slow decay: samples at distances that double, and what the first steps can add in between.
        gap, steps, largest = most // 32, most, bound
        while float(_norms(power)) > _AT_MOST_ONE and steps < 2**40:
            jump = np.linalg.matrix_power(matrix, gap)
            for _ in range(32):
                steps, power = steps + gap, power @ jump
                norm = float(_norms(power))
                if norm > largest:
                    largest, best = norm, steps
            gap *= 2
            if side == "marginal" and steps > 2**20:
                break
        within = bound if gap <= 2 * most else np.inf
        bound = largest * within
        while best > most and gap > 1:
            gap = -(-gap // 8)
            near = np.unique(np.clip(best + gap * np.arange(-9, 10), 0, None))
            best = int(near[np.argmax([_norms(np.linalg.matrix_power(matrix, int(k))) for k in near])])
    return float(best), bound, times, shown
