"""The norms of the powers and exponentials of a matrix over time, and the largest of them."""

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.optimize


def refined(function: Callable[[float], float], places: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The best of a sampled function, refined around its largest local maxima; where and how much."""
    inner = np.concatenate([[-np.inf], values, [-np.inf]])
    peaks = np.flatnonzero((inner[1:-1] >= inner[:-2]) & (inner[1:-1] >= inner[2:]))
    peaks = peaks[np.argsort(-values[peaks], kind="stable")][:6]
    at, best = float(places[peaks[0]]), float(values[peaks[0]])
    for peak in peaks:
        ends = float(places[max(peak - 1, 0)]), float(places[min(peak + 1, len(places) - 1)])
        found = scipy.optimize.minimize_scalar(
            lambda t: -function(t), bounds=ends, method="bounded", options={"xatol": 1e-9 * (ends[1] - ends[0])}
        )
        if -found.fun > best:
            at, best = float(found.x), float(-found.fun)
    return at, best


def _norms(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrices, 2, axis=(-2, -1))


_AT_MOST_ONE = 1 + 1e-12


def growth_of_flow(
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
    if norm > _AT_MOST_ONE or side == "marginal":  # turns for ever
        turning = np.abs(np.linalg.eigvals(matrix).imag)
        slowest = np.min(turning[turning > 1e-6 * scale], initial=scale)
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
    time, _ = refined(lambda t: float(_norms(scipy.linalg.expm(t * matrix))), every[order], values[order])
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


def growth_of_map(matrix: np.ndarray, side: str) -> tuple[float, float, np.ndarray, np.ndarray]:
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
