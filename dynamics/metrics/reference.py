"""Real samples, with what metrics need of them alone."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

from dynamics._checks import described
from dynamics.metrics._features import as_features

T = TypeVar("T")


class Reference:
    """Real samples that many sets of fake samples are compared with: what metrics need of them is computed once.

    Features, moments, distances to neighbours, sums of a kernel. Every metric takes one in place of real samples, with
    the same result.

    Args:
        values: the samples, shape (n, ...).
        features: a function that makes features of samples, shape (n, width), which is called when they are first
            needed; `None`: the samples themselves.

    Raises:
        TypeError: no array of real numbers, or no function.
        ValueError: no samples, or numbers that are not finite.

    >>> from dynamics import metrics
    >>> real = Reference([[0.0], [2.0]])
    >>> [metrics.frechet_distance(real, fake) for fake in ([[3.0], [5.0]], [[0.0], [2.0]])]
    [9.0, 0.0]
    """

    def __init__(self, values: Any, features: Callable[[np.ndarray], Any] | None = None):
        if features is not None and not callable(features):
            raise TypeError(f"features is {features!r}; expected a function of samples")
        self.values = np.asarray(values)
        as_features(self.values, "values")
        self._function = features
        self._held: dict[Hashable, Any] = {}

    def features_of(self, values: Any) -> np.ndarray:
        """Features of any samples by the same function, shape (n, width), float64."""
        return as_features(values if self._function is None else self._function(np.asarray(values)), "features")

    @property
    def features(self) -> np.ndarray:
        """Those of the real samples."""
        return self.once("features", lambda: self.features_of(self.values))

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """What a function returns, which is called the first time that this name is asked for."""
        if name not in self._held:
            self._held[name] = compute()
        return self._held[name]

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return f"Reference({described(self.values)})"


def as_reference(real: Any, fake: Any, least: int = 1) -> tuple[Reference, np.ndarray]:
    """Real samples as a `Reference`, and fake ones as rows of numbers.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: samples of different shapes, too few of them, or numbers that are not finite.
    """
    rows = as_features(real.features if isinstance(real, Reference) else real, "real", least)
    others = as_features(fake, "fake", least)
    if rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"real has {rows.shape[1]} numbers per sample and fake {others.shape[1]}; expected the same features "
            "of both"
        )
    return real if isinstance(real, Reference) else Reference(rows), others


def as_pair(real: Any, fake: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Real and fake samples as rows of numbers; see `as_reference` for what is raised."""
    reference, others = as_reference(real, fake, least)
    return reference.features, others
