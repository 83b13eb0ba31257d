"""How many of the modes of a data set samples have, and how evenly."""

from typing import Any, NamedTuple

import numpy as np

from dynamics._checks import as_whole, described
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.metrics._features import blocks
from dynamics.metrics.reference import as_pair


class ModeCoverage(NamedTuple):
    """What samples have of the modes of a mixture of Gaussians.

    Attributes:
        modes: number of modes with at least `least` samples of high quality.
        high_quality: share of the samples that are near a centre.
        divergence: Kullback-Leibler divergence of the modes of these samples from equal shares, in nats; infinite
            where there are none.
        counts: samples of high quality of each mode.
        assigned: all samples by their nearest centre, of high quality or not.
    """

    modes: int
    high_quality: float
    divergence: float
    counts: np.ndarray
    assigned: np.ndarray

    describe = described_fields
    to_dict = named_fields


def mode_coverage(samples: Any, centres: Any, spread: Any, *, within: float = 3.0, least: int = 1) -> ModeCoverage:
    """Modes covered, and the share of samples of high quality: at most `within` standard deviations from a centre.

    With the defaults the rule of VEEGAN and PacGAN, who draw 2,500 samples, and of the (alpha_D, alpha_G)-GANs, who
    draw 25,000 and call a run on the ring a success with 8 modes, a failure with none: a single sample covers a mode,
    so that numbers are comparable for equal numbers of samples alone. Of exact samples of a mixture in the plane
    1 - exp(-9/2) = 98.9 % are of high quality.
    Source: Srivastava, Valkov, Russell, Gutmann, Sutton, VEEGAN, 2017, section 4.1; Lin, Khetan, Fanti, Oh, PacGAN,
    2018, with the authors' code; Welfert, Otstot, Kurri, Sankar, (alpha_D, alpha_G)-GANs, 2023, with the authors' code.

    Args:
        samples: shape (n, ...).
        centres: shape (modes, ...).
        spread: standard deviation around a centre, > 0.
        within: how many of these.
        least: samples of high quality that make a mode covered.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: shapes that do not fit, a number out of bounds or not finite.

    >>> coverage = mode_coverage([0.0, 0.1, 5.0, 9.0], centres=[0.0, 5.0, 20.0], spread=0.1)
    >>> coverage.modes, coverage.high_quality, coverage.counts.tolist()
    (2, 0.75, [2, 1, 0])
    """
    least = as_whole("least", least)
    points, means = as_pair(samples, centres)
    spread, within = float(spread), float(within)
    for name, value in (("spread", spread), ("within", within)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}; expected a finite number > 0")
    counts, assigned = np.zeros((2, len(means)), int)
    for part in blocks(len(points)):
        distances = np.linalg.norm(points[part, None] - means, axis=2)
        nearest = distances.argmin(axis=1)
        good = distances.min(axis=1) <= within * spread
        counts += np.bincount(nearest[good], minlength=len(means))
        assigned += np.bincount(nearest, minlength=len(means))
    covered = int((counts >= least).sum())
    divergence = _divergence(counts, np.ones(len(means)))
    return ModeCoverage(covered, float(counts.sum() / len(points)), divergence, counts, assigned)


class LabelCoverage(NamedTuple):
    """What samples have of the classes of a data set.

    Attributes:
        modes: number of classes with at least one sample.
        divergence: Kullback-Leibler divergence of the samples' classes from those of the data, in nats.
        counts: samples of each class.
    """

    modes: int
    divergence: float
    counts: np.ndarray

    describe = described_fields
    to_dict = named_fields


def label_coverage(labels: Any, modes: int, reference: Any = None) -> LabelCoverage:
    r"""Classes that occur among labels, and how far their shares are from the data's, $\sum_k p_k \log(p_k / q_k)$.

    The measures of stacked MNIST. Source: Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative Adversarial Networks,
    2017, section 3.3.1.

    Args:
        labels: the classes of samples by a classifier, whole numbers from 0 to `modes` - 1, shape (n,).
        modes: number of classes.
        reference: labels of real samples; `None`: all classes are equally likely.

    Raises:
        ValueError: a label is no such number, or there are none.

    >>> coverage = label_coverage([0, 0, 2, 2], 4)
    >>> coverage.modes, round(coverage.divergence, 4)  # log 2
    (2, 0.6931)
    """
    modes = as_whole("modes", modes)
    counts = _counted(labels, modes, "labels")
    real = np.ones(modes) if reference is None else _counted(reference, modes, "reference")
    return LabelCoverage(int((counts > 0).sum()), _divergence(counts, real), counts)


def _counted(labels: Any, modes: int, name: str) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= modes:
        raise ValueError(f"{name} is {described(array)}; expected whole numbers from 0 to {modes - 1}, shape (n,)")
    return np.bincount(array, minlength=modes)


def _divergence(counts: np.ndarray, reference: np.ndarray) -> float:
    """Of shares from those of a reference; infinite where there is nothing, or the reference has nothing."""
    if not counts.any():
        return float("inf")
    shares, real = counts / counts.sum(), reference / reference.sum()
    there = shares > 0
    with np.errstate(divide="ignore"):
        return float((shares[there] * np.log(shares[there] / real[there])).sum())
