"""Real and fake samples counted in the same bins: divergences of the shares, and bins that differ."""

from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.special
from jaxtyping import PRNGKeyArray

from dynamics._checks import as_whole, described
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.metrics._features import blocks
from dynamics.metrics.reference import Reference, as_reference

ROUNDS = 100  # of k-means, at most


class HistogramDivergences(NamedTuple):
    r"""How far two histograms p (real) and q (fake) are apart.

    Attributes:
        kullback_leibler: $\sum p\log(p/q)$ in nats; infinite where q lacks something.
        reverse: $\sum q\log(q/p)$.
        jensen_shannon: the mean of those of p and q from $(p+q)/2$, at most log 2.
        total_variation: $\frac12\sum|p-q|$, at most 1.
    """

    kullback_leibler: float
    reverse: float
    jensen_shannon: float
    total_variation: float

    describe = described_fields
    to_dict = named_fields


def histogram_divergences(real: Any, fake: Any, smoothing: float = 0.0) -> HistogramDivergences:
    """Divergences of two histograms over the same bins: modes, classes, or cells of the plane.

    Counts of modes: `mode_coverage(...).assigned`, with smoothing 1 as in the code of Welfert, Otstot, Kurri, Sankar,
    (alpha_D, alpha_G)-GANs, 2023; of classes: `label_coverage(...).counts`; of scalars and points of the plane:
    `numpy.histogram`, `numpy.histogram2d`.

    Args:
        real, fake: counts or shares, of equal shapes, >= 0 and not all 0.
        smoothing: what is added to every count, >= 0: without, an empty bin makes a divergence infinite.

    Raises:
        ValueError: no such counts, or shapes that differ.

    >>> divergences = histogram_divergences([2, 2, 0], [1, 0, 1])
    >>> divergences.total_variation, divergences.kullback_leibler
    (0.5, inf)
    """
    smoothing = float(smoothing)
    if not 0 <= smoothing < np.inf:
        raise ValueError(f"smoothing is {smoothing}; expected a finite number >= 0")
    p, q = _shares(real, "real", smoothing), _shares(fake, "fake", smoothing)
    if p.shape != q.shape:
        raise ValueError(f"real has shape {p.shape} and fake {q.shape}; expected the same bins")
    middle = (p + q) / 2
    return HistogramDivergences(
        _divergence(p, q),
        _divergence(q, p),
        (_divergence(p, middle) + _divergence(q, middle)) / 2,
        float(np.abs(p - q).sum() / 2),
    )


class DifferentBins(NamedTuple):
    """Bins whose shares of real and fake samples differ by more than chance.

    Attributes:
        different: how many of them.
        share: of all bins; about the level of significance where both are samples of the same.
        jensen_shannon: divergence of the two histograms, in nats.
        real, fake: samples in each bin, those with the most real ones first.
    """

    different: int
    share: float
    jensen_shannon: float
    real: np.ndarray
    fake: np.ndarray

    describe = described_fields
    to_dict = named_fields


def different_bins(
    real: Any, fake: Any, key: PRNGKeyArray, *, bins: int = 100, significance: float = 0.05
) -> DifferentBins:
    r"""The number of statistically different bins (NDB), and the divergence of the histograms.

    Bins are the cells of the centres that k-means finds in the real samples (begun by k-means++, at most 100 rounds). A
    bin differs where the shares p of n real and q of m fake samples have
    $|p-q| > z_{1-\alpha/2}\sqrt{P(1-P)(1/n+1/m)}$, P the share of both together. Real samples that made the bins are
    counted in them, as in the source.
    Source: Richardson and Weiss, On GANs and GMMs, 2018, section 3 (100 bins, alpha = 0.05).

    Args:
        real, fake: samples or features, shape (n, ...) and (m, ...), all axes but the first being flattened. A
            `Reference` as real: its bins are computed once.
        key: random key of the first centres.
        bins: number of bins, at most n.
        significance: alpha, > 0 and < 1.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: samples of different sizes, fewer real samples than bins, or a number out of bounds.

    >>> real, fake = [0.0, 0.1, 0.2, 9.0, 9.1, 9.2], [0.0] * 50 + [9.0]
    >>> bins = different_bins(real, fake, jax.random.key(0), bins=2)
    >>> bins.different, bins.real.tolist(), sorted(bins.fake.tolist())
    (2, [3, 3], [1, 50])
    """
    bins = as_whole("bins", bins)
    if not 0 < significance < 1:
        raise ValueError(f"significance is {significance}; expected a number > 0 and < 1")
    reference, fake = as_reference(real, fake)
    if len(reference) < bins:
        raise ValueError(f"real has {len(reference)} samples for {bins} bins; expected at least as many")
    seed = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
    centres, of_real = reference.once(("bins", bins, seed), lambda: _bins(reference, bins, seed))
    of_fake = np.bincount(_nearest(fake, centres)[0], minlength=bins)
    n, m = of_real.sum(), of_fake.sum()
    pooled = (of_real + of_fake) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    differ = np.abs(of_real / n - of_fake / m) > scipy.special.ndtri(1 - significance / 2) * error
    divergence = histogram_divergences(of_real, of_fake).jensen_shannon
    return DifferentBins(int(differ.sum()), float(differ.mean()), divergence, of_real, of_fake)


def _bins(reference: Reference, count: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Centres by k-means, and how many samples are nearest to each, most first."""
    rows, random = reference.features, np.random.default_rng(seed)
    centres = rows[[random.integers(len(rows))]]
    squared = _nearest(rows, centres)[1]
    while len(centres) < count:
        total = squared.sum()
        shares = squared / total if total > 0 else np.full(len(rows), 1 / len(rows))
        centres = np.concatenate([centres, rows[[random.choice(len(rows), p=shares)]]])
        squared = np.minimum(squared, _nearest(rows, centres[-1:])[1])
    labels = _nearest(rows, centres)[0]
    for _ in range(ROUNDS):
        counts = np.bincount(labels, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        before, labels = labels, _nearest(rows, centres)[0]
        if np.array_equal(before, labels):
            break
    counts = np.bincount(labels, minlength=count)
    order = np.argsort(-counts, kind="stable")
    return centres[order], counts[order]


def _nearest(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of every row, and its squared distance."""
    labels, squared = np.empty(len(rows), int), np.empty(len(rows))
    for part in blocks(len(rows)):
        distances = np.stack([((rows[part] - centre) ** 2).sum(axis=1) for centre in centres], axis=1)
        labels[part], squared[part] = distances.argmin(axis=1), distances.min(axis=1)
    return labels, squared


def _shares(counts: Any, name: str, smoothing: float) -> np.ndarray:
    array = np.asarray(counts)
    real = array.dtype.kind in "biuf" and array.size > 0
    if not (real and np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError(f"{name} is {described(array)}; expected counts or shares >= 0, not all of them 0")
    array = array.astype(np.float64) + smoothing
    return array / array.sum()


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence of shares, in nats; infinite where the second lacks something."""
    there = p > 0
    with np.errstate(divide="ignore"):
        return float((p[there] * np.log(p[there] / q[there])).sum())
