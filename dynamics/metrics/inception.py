"""The inception score, of the class probabilities of samples."""

from typing import Any, NamedTuple

import numpy as np

from dynamics._checks import as_whole, described
from dynamics._plain import named_fields
from dynamics._printing import described_fields


class InceptionScore(NamedTuple):
    """Mean over splits of the samples, and standard deviation among these."""

    value: float
    deviation: float

    describe = described_fields
    to_dict = named_fields


def inception_score(probabilities: Any, splits: int = 10) -> InceptionScore:
    r"""How sure a classifier is of each sample, and how evenly samples are among the classes.

    $\exp E_x\,\mathrm{KL}(p(y|x)\,\|\,p(y))$, $p(y) = E_x p(y|x)$: from 1, where all samples look alike, to the number
    of classes, where each is of one class and all classes are equally frequent. Nothing is compared with data, and a
    single sample of each class has the highest score. As published it is the mean over 10 splits of the samples in
    their order, with p(y) that of the split.
    Source: Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, Improved Techniques for Training GANs, 2016, section
    4, with the authors' code.

    Args:
        probabilities: of the classes for each sample, shape (n, classes), not negative, every row adding up to 1.
        splits: number of parts, at most n.

    Raises:
        ValueError: no such probabilities, or too few samples.

    >>> inception_score([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], splits=2)
    InceptionScore(value=2.0, deviation=0.0)
    """
    splits = as_whole("splits", splits)
    rows = np.asarray(probabilities, np.float64)
    wrong = rows.ndim != 2 or not rows.size or not np.isfinite(rows).all() or (rows < 0).any()
    if wrong or not np.allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-4):
        raise ValueError(
            f"probabilities is {described(rows)}; expected numbers >= 0 of shape (n, classes), every row adding up "
            "to 1, e.g. jax.nn.softmax of a classifier's scores"
        )
    if len(rows) < splits:
        raise ValueError(f"{len(rows)} samples for {splits} splits; expected at least one for each")
    rows = rows / rows.sum(axis=1, keepdims=True)
    edges = np.arange(splits + 1) * len(rows) // splits
    scores = [np.exp(_information(rows[begin:end])) for begin, end in zip(edges, edges[1:])]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _information(rows: np.ndarray) -> float:
    """Mutual information of sample and class, in nats."""
    return _entropy(rows.mean(axis=0)) - float(np.mean([_entropy(row) for row in rows]))


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
