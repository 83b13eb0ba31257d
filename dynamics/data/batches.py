"""Batches without replacement, whose place is one whole number."""

import collections
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_whole, is_concrete
from dynamics._printing import Printed
from dynamics.data.dataset import DataSet, leading_axis


class Batches(Printed):
    """A data set in batches, each point once in an epoch.

    Epoch e takes the points in the order of `jax.random.permutation(fold_in(key, e), n)`, cut into batches; points that
    do not fill a batch are left out of the epoch, others in each one. Batch t depends on the key and on t only: a
    training that knows at which step it is goes on with the same batches.

    Args:
        data: a `DataSet`, whose values are taken, or arrays with a common leading axis of points, e.g.
            `(data.values, data.labels)`. Arrays of NumPy stay where they are, and batches go to the device.
        size: points in a batch.
        key: random key of the order.

    Raises:
        TypeError: the data are no arrays of real numbers.
        ValueError: the size is no whole number from 1 to the number of points, or the arrays do not fit.

    >>> batches = Batches(jnp.arange(10), 3, jax.random.key(0))
    >>> epoch = jnp.concatenate([batches.at(step) for step in range(batches.per_epoch)])
    >>> len(set(epoch.tolist()))
    9
    """

    values: PyTree
    key: PRNGKeyArray
    size: int = eqx.field(static=True)

    def __init__(self, data: DataSet | PyTree, size: int, key: PRNGKeyArray):
        self.values = data.values if isinstance(data, DataSet) else data
        self.size = as_whole("size", size)
        self.key = key

    def __check_init__(self):
        count = leading_axis(self.values, "Batches.values")
        if self.size > count:
            raise ValueError(f"Batches.size is {self.size}, and there are {count} points; expected a smaller batch")

    @property
    def count(self) -> int:
        """Number of points in the data set."""
        return jax.tree.leaves(self.values)[0].shape[0]

    @property
    def per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self.count // self.size

    def order(self, epoch: Any) -> Array:
        """The order of the points in an epoch, shape (n,)."""
        return jax.random.permutation(jax.random.fold_in(self.key, epoch), self.count)

    def rows(self, order: Array, step: Any) -> Array:
        """Which points batch `step` has, shape (size,), given the order of its epoch."""
        return jax.lax.dynamic_slice_in_dim(order, step % self.per_epoch * self.size, self.size)

    def at(self, step: Any) -> PyTree:
        """Batch number `step`, counted from 0 through all epochs; a pure function, also under `jax.jit`.

        Raises:
            ValueError: the step is negative, where that can be seen.
        """
        if is_concrete(step):
            as_whole("step", step if isinstance(step, int) else np.asarray(step)[()], 0)
        rows = self.rows(self.order(step // self.per_epoch), step)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], self.values)

    def __iter__(self) -> Iterator[PyTree]:
        """All batches from the first, epoch after epoch, without end; see `iterate`."""
        return self.iterate()

    def iterate(self, start: int = 0, stop: int | None = None, *, prefetch: int = 0) -> Iterator[PyTree]:
        """The batches `start`, `start + 1`, ... up to and without `stop`.

        Args:
            start: the first batch; a loop that was interrupted before batch t goes on from `start=t`.
            stop: where to end; `None`: never.
            prefetch: batches to hand to the device ahead of their use.

        Raises:
            ValueError: a number is negative.

        >>> batches = Batches(jnp.arange(6), 2, jax.random.key(0))
        >>> sum(int(batch.sum()) for batch in batches.iterate(3, 6))  # the second epoch
        15
        """
        start, prefetch = as_whole("start", start, 0), as_whole("prefetch", prefetch, 0)
        return self._iterate(start, None if stop is None else as_whole("stop", stop, 0), prefetch)

    def _iterate(self, start: int, stop: int | None, prefetch: int) -> Iterator[PyTree]:
        waiting: collections.deque[PyTree] = collections.deque()
        step, epoch, order = start, -1, np.empty(0, int)
        while True:
            while len(waiting) <= prefetch and (stop is None or step < stop):
                if step // self.per_epoch != epoch:
                    epoch = step // self.per_epoch
                    order = np.asarray(self.order(epoch))
                begin = step % self.per_epoch * self.size
                rows = order[begin : begin + self.size]
                waiting.append(jax.device_put(jax.tree.map(lambda leaf, rows=rows: leaf[rows], self.values)))
                step += 1
            if not waiting:
                return
            yield waiting.popleft()
