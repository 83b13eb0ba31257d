"""What the nearest neighbours of samples say: precision and recall, density and coverage, a divergence."""

from typing import Any, NamedTuple

import numpy as np

from dynamics._checks import as_whole
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.metrics._features import blocks
from dynamics.metrics.reference import Reference, as_reference


class PrecisionRecall(NamedTuple):
    """Share of fake samples that might be real, and share of real samples that might be fake."""

    precision: float
    recall: float

    describe = described_fields
    to_dict = named_fields


class DensityCoverage(NamedTuple):
    """How many real neighbourhoods a fake sample lies in, over k; and the share of them with a fake sample in."""

    density: float
    coverage: float

    describe = described_fields
    to_dict = named_fields


def precision_recall(real: Any, fake: Any, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall: which samples lie in the other set's manifold.

    The manifold of a set is the union of the balls around its points that contain their k nearest neighbours there.
    Precision is the share of fake samples in the real manifold, recall that of real samples in the fake manifold.
    Source: Kynkaanniemi, Karras, Laine, Lehtinen, Aila, Improved Precision and Recall Metric for Assessing Generative
    Models, 2019, eqs. 1-2 (k = 3 there).

    Args:
        real, fake: features, shape (n, ...) and (m, ...), all axes but the first being flattened. A `Reference` as
            real.
        neighbours: k, less than the number of samples of each.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: features of different sizes, too few samples, or a number that is not finite.

    >>> precision_recall([0.0, 1.0, 2.0, 10.0], [0.5, 1.5], neighbours=1)
    PrecisionRecall(precision=1.0, recall=0.75)
    """
    neighbours = as_whole("neighbours", neighbours)
    reference, fake = as_reference(real, fake, neighbours + 1)
    real = reference.features
    precision = _times_inside(fake, real, _radii_of_real(reference, neighbours)) > 0
    recall = _times_inside(real, fake, _radii(fake, neighbours)) > 0
    return PrecisionRecall(float(precision.mean()), float(recall.mean()))


def density_coverage(real: Any, fake: Any, neighbours: int = 5) -> DensityCoverage:
    r"""Density and coverage: how densely fake samples lie among the real ones, and how many of those are met.

    The neighbourhood of a real sample is the ball that contains its k nearest real neighbours. Density is the mean
    number of neighbourhoods that a fake sample lies in, over k: 1 on average for samples of the data, and without an
    upper bound. Coverage is the share of neighbourhoods with a fake sample in: for m samples of the data beside n real
    ones $1 - \prod_{i=1}^k\frac{n-i}{n+m-i}$ on average. Unlike recall, nothing depends on outliers among the fakes.
    Source: Naeem, Oh, Uh, Choi, Yoo, Reliable Fidelity and Diversity Metrics for Generative Models, 2020 (k = 5
    there). Their code leaves out samples on the border of a ball.

    Args:
        real, fake: features, shape (n, ...) and (m, ...), all axes but the first being flattened. A `Reference` as
            real.
        neighbours: k, less than the number of real samples.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: features of different sizes, too few samples, or a number that is not finite.

    >>> density_coverage([0.0, 1.0, 2.0, 10.0], [0.5, 1.5], neighbours=1)
    DensityCoverage(density=2.0, coverage=0.75)
    """
    neighbours = as_whole("neighbours", neighbours)
    reference, fake = as_reference(real, fake)
    if len(reference) <= neighbours:
        raise ValueError(f"real has {len(reference)} samples; expected more than the {neighbours} neighbours")
    radii = _radii_of_real(reference, neighbours)
    inside = _times_inside(fake, reference.features, radii)
    nearest = np.concatenate(
        [_squared_distances(reference.features[part], fake).min(axis=1) for part in blocks(len(reference))]
    )
    return DensityCoverage(float(inside.mean() / neighbours), float((nearest <= radii).mean()))


def neighbour_divergence(real: Any, fake: Any, neighbours: int = 5) -> float:
    r"""Kullback-Leibler divergence KL(real, fake) of densities, from distances to nearest neighbours, in nats.

    $\frac dn\sum_i\log\frac{\nu_k(x_i)}{\rho_k(x_i)} + \log\frac{m}{n-1}$ with the distances of real samples to
    their k-th neighbour among the fake and among the other real ones, d numbers per sample: it tends to the divergence
    as there are more samples, and may be negative: minus infinity where k fake samples lie on a real one. For the
    reverse divergence exchange the two.
    Source: Wang, Kulkarni, Verdu, Divergence Estimation for Multidimensional Densities via k-Nearest-Neighbor
    Distances, 2009.

    Args:
        real, fake: samples, shape (n, ...) and (m, ...), all axes but the first being flattened. A `Reference` as real.
        neighbours: k, less than the number of real, at most that of fake samples.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: samples of different sizes, too few or equal ones, or a number that is not finite.

    >>> round(neighbour_divergence([0.0, 1.0, 2.0], [0.5, 1.5, 2.5], neighbours=1), 4)  # log(1/2) + log(3/2)
    -0.2877
    """
    neighbours = as_whole("neighbours", neighbours)
    reference, fake = as_reference(real, fake, neighbours)
    real = reference.features
    if len(real) <= neighbours:
        raise ValueError(f"real has {len(real)} samples; expected more than the {neighbours} neighbours")
    within = _radii_of_real(reference, neighbours)
    if (within == 0).any():
        raise ValueError(
            f"real has {int((within == 0).sum())} samples with {neighbours} others at the same place, so that it has "
            "no density; drop duplicates, or use more neighbours"
        )
    across = np.empty(len(real))
    for part in blocks(len(real)):
        squared = _squared_distances(real[part], fake)
        across[part] = np.partition(squared, neighbours - 1, axis=1)[:, neighbours - 1]
    with np.errstate(divide="ignore"):
        logarithms = np.log(across / within) / 2  # of squared distances
    return float(real.shape[1] * logarithms.mean() + np.log(len(fake) / (len(real) - 1)))


def _radii_of_real(reference: Reference, neighbours: int) -> np.ndarray:
    return reference.once(("radii", neighbours), lambda: _radii(reference.features, neighbours))


def _radii(support: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of every point to its k-th neighbour."""
    radii = np.empty(len(support))
    for part in blocks(len(support)):
        # The first of the sorted distances is that of the point to itself.
        radii[part] = np.partition(_squared_distances(support[part], support), neighbours, axis=1)[:, neighbours]
    return radii


def _times_inside(points: np.ndarray, support: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """In how many of the balls around the support each point lies."""
    parts = [(_squared_distances(points[part], support) <= radii).sum(axis=1) for part in blocks(len(points))]
    return np.concatenate(parts)


def _squared_distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of all pairs; exact zeros where points are equal, which a formula with inner products does not give."""
    return np.stack([((two - point) ** 2).sum(axis=1) for point in one])
