"""The largest value of a function of one number, from samples and a search around the best of them."""

from collections.abc import Callable

import numpy as np
import scipy.optimize


def refined_maximum(function: Callable[[float], float], places: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The best of a sampled function, refined around its largest local maxima; where and how much."""
    inner = np.concatenate([[-np.inf], values, [-np.inf]])
    peaks = np.flatnonzero((inner[1:-1] >= inner[:-2]) & (inner[1:-1] >= inner[2:]))
    peaks = peaks[np.argsort(-values[peaks], kind="stable")][:6]
    at, best = float(places[peaks[0]]), float(values[peaks[0]])
    for peak in peaks:
        ends = float(places[max(peak - 1, 0)]), float(places[min(peak + 1, len(places) - 1)])
        search = scipy.optimize.minimize_scalar(
            lambda t: -function(t), bounds=ends, method="bounded", options={"xatol": 1e-9 * (ends[1] - ends[0])}
        )
        if -search.fun > best:
            at, best = float(search.x), float(-search.fun)
    return at, best
