"""Arrays of one game or of a batch, with their signs: what the rules of `batch/` compute with."""

import itertools
from typing import Any, NamedTuple

import numpy as np


class BatchArray:
    """An array of one game, or of all of them in its last axis.

    `constant` is the number that fills it, where one is known; `origin` the array that it is a reshaping of; `multiple`
    the array and the number whose product it is.
    """

    __slots__ = ("array", "batched", "constant", "multiple", "origin", "serial")
    serials = itertools.count()

    def __init__(self, array: Any, batched: bool, constant: Any = None, origin: "BatchArray | None" = None):
        self.array, self.batched, self.constant, self.origin = array, batched, constant, origin
        self.multiple: tuple[BatchArray, Any] | None = None
        self.serial = next(BatchArray.serials)  # of operands in either order the older one comes first

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one game."""
        return np.shape(self.array)[:-1] if self.batched else np.shape(self.array)

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def is_known_scalar(self) -> bool:
        """Whether it is a real number that is known when the program is traced."""
        return self.constant is not None and np.issubdtype(self.dtype, np.floating) and self.shape == ()


class SignedArray(NamedTuple):
    """An array and its sign, which is carried along until somebody needs it."""

    unsigned: BatchArray
    negative: bool = False

    def negated(self) -> "SignedArray":
        return SignedArray(self.unsigned, not self.negative)

    def fits(self, other: "SignedArray") -> bool:
        """Whether the result of an operation of both has the shape of the other one."""
        return np.broadcast_shapes(self.unsigned.shape, other.unsigned.shape) == other.unsigned.shape

    def equals(self, number: float) -> bool:
        """Whether it is known to be this number everywhere."""
        constant = self.unsigned.constant
        return constant is not None and bool(constant == (-number if self.negative else number))
