"""Precision and recall by nearest neighbours."""

from typing import Any, NamedTuple

import numpy as np

from dynamics._checks import as_whole
from dynamics.metrics._features import as_pair, blocks


class PrecisionRecall(NamedTuple):
    """Share of fake samples that might be real, and share of real samples that might be fake."""

    precision: float
    recall: float


def precision_recall(real: Any, fake: Any, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall: which samples lie in the other set's manifold.

    The manifold of a set is the union of the balls around its points that contain their k nearest neighbours there.
    Precision is the share of fake samples in the real manifold, recall that of real samples in the fake manifold.
    Source: Kynkaanniemi, Karras, Laine, Lehtinen, Aila, Improved Precision and Recall Metric for Assessing Generative
    Models, 2019, eqs. 1-2 (k = 3 there).

    Args:
        real, fake: features, shape (n, ...) and (m, ...), all axes but the first being flattened.
        neighbours: k, less than the number of samples of each.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: features of different sizes, too few samples, or a number that is not finite.

    >>> precision_recall([0.0, 1.0, 2.0, 10.0], [0.5, 1.5], neighbours=1)
    PrecisionRecall(precision=1.0, recall=0.75)
    """
    neighbours = as_whole("neighbours", neighbours)
    real, fake = as_pair(real, fake, neighbours + 1)
    return PrecisionRecall(_share_inside(fake, real, neighbours), _share_inside(real, fake, neighbours))


def _share_inside(points: np.ndarray, support: np.ndarray, neighbours: int) -> float:
    """Share of points within the balls around the support."""
    radii = np.empty(len(support))
    for part in blocks(len(support)):
        # The first of the sorted distances is that of the point to itself.
        radii[part] = np.partition(_squared_distances(support[part], support), neighbours, axis=1)[:, neighbours]
    inside = 0
    for part in blocks(len(points)):
        inside += int((_squared_distances(points[part], support) <= radii).any(axis=1).sum())
    return inside / len(points)


def _squared_distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of all pairs; exact zeros where points are equal, which a formula with inner products does not give."""
    return np.stack([((two - point) ** 2).sum(axis=1) for point in one])
