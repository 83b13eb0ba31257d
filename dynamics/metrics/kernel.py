"""The distance of two sets of samples in the space of a polynomial kernel."""

from typing import Any, NamedTuple

import numpy as np

from dynamics._checks import as_whole
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.metrics._features import blocks
from dynamics.metrics.reference import as_reference


class KernelDistance(NamedTuple):
    """An unbiased estimate, which may be negative, and its standard error."""

    value: float
    standard_error: float

    describe = described_fields
    to_dict = named_fields


def kernel_distance(
    real: Any, fake: Any, *, degree: int = 3, scale: float | None = None, offset: float = 1.0
) -> KernelDistance:
    r"""Squared maximum mean discrepancy for the kernel $(x \cdot y / $`scale`$ + $`offset`$)^{\text{degree}}$: the KID.

    The unbiased estimate from all pairs, which unlike the Fréchet distance does not depend on how many samples there
    are, on average. Its standard error is the two-sample jackknife, over real and over fake samples. In float64.
    Source: Binkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, 2018, section 4 (the distance); Arvesen,
    Jackknifing U-Statistics, 1969 (the error).

    Args:
        real, fake: features, shape (n, ...) and (m, ...), all axes but the first being flattened; n, m >= 3. A
            `Reference` as real.
        degree: of the kernel, a whole number >= 1.
        scale: what the inner product is divided by, > 0; `None`: the number of features.
        offset: what is added, >= 0.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: features of different sizes, fewer than three samples, or a number out of bounds.

    >>> value, error = kernel_distance([0.0, 1.0, 2.0], [5.0, 6.0, 7.0], degree=1)
    >>> round(value, 9)  # a kernel of degree 1 sees the means alone: 5^2 minus the variances of the two means
    24.333333333
    """
    degree = as_whole("degree", degree)
    reference, fake = as_reference(real, fake, 3)
    real = reference.features
    scale = float(real.shape[1]) if scale is None else float(scale)
    if not 0 < scale < np.inf:
        raise ValueError(f"scale is {scale}; expected a finite number > 0")
    if not 0 <= offset < np.inf:
        raise ValueError(f"offset is {offset}; expected a finite number >= 0")

    def sums(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the kernel over the second, and over the first argument."""
        rows, columns = np.empty(len(one)), np.zeros(len(two))
        for part in blocks(len(one)):
            values = (one[part] @ two.T / scale + offset) ** degree
            rows[part] = values.sum(axis=1)
            columns += values.sum(axis=0)
        return rows, columns

    def inner(one: np.ndarray) -> np.ndarray:
        """Sums over all others."""
        return sums(one, one)[0] - ((one**2).sum(axis=1) / scale + offset) ** degree

    n, m = len(real), len(fake)
    of_real, of_fake = reference.once(("kernel", degree, scale, offset), lambda: inner(real)), inner(fake)
    cross_real, cross_fake = sums(real, fake)
    within, other, between = of_real.sum(), of_fake.sum(), cross_real.sum()
    value = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between / (n * m)

    def variance(count: int, others: int, rows: np.ndarray, cross: np.ndarray) -> float:
        """Of the estimates that leave one sample out; what all of them share is left out as well."""
        left = (rows.sum() - 2 * rows) / ((count - 1) * (count - 2))
        left = left - 2 * (between - cross) / ((count - 1) * others)
        return float((count - 1) / count * ((left - left.mean()) ** 2).sum())

    total = variance(n, m, of_real, cross_real) + variance(m, n, of_fake, cross_fake)
    return KernelDistance(float(value), float(np.sqrt(total)))
