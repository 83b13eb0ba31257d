"""Samples as rows of numbers in float64."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dynamics._checks import described

BLOCK = 1024  # rows of a matrix of pairs that are in memory at a time


def as_features(values: Any, name: str, least: int = 1) -> np.ndarray:
    """Samples of any shape (n, ...) as an array of shape (n, d) in float64.

    Raises:
        TypeError: no array of real numbers.
        ValueError: too few samples, or a number that is not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} is {described(values)}; expected an array of real numbers")
    if array.ndim < 1 or len(array) < least or not array.size:
        raise ValueError(f"{name} is {described(array)}; expected at least {least} samples along the first axis")
    rows = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        count = int((~np.isfinite(rows).all(axis=1)).sum())
        raise ValueError(f"{name} has {count} samples of {len(rows)} that are not finite; expected finite numbers")
    return rows


def blocks(count: int) -> Iterator[slice]:
    """Slices that cover so many rows."""
    for begin in range(0, count, BLOCK):
        yield slice(begin, begin + BLOCK)
