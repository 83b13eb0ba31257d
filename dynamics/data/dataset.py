"""What a data set is."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dynamics._checks import as_leaf, check_arrays, check_finite, check_number, described
from dynamics._printing import Printed
from dynamics.distributions import Points


class DataSet(Printed):
    """Points with what is known about them.

    Args:
        values: the points, an array or a pytree of arrays with a common leading axis of n points.
        labels: the mode or class of every point, whole numbers of shape (n,), or `None`.
        centres: the centre of every mode, shape (modes, ...), or `None`.
        spread: the standard deviation around the centres, >= 0, or `None`.
        name: what to call it.
        modes: number of modes or classes, or `None`.

    Raises:
        TypeError: the values are no arrays of real numbers.
        ValueError: axes that do not fit, or a number that is not finite.

    >>> DataSet(jnp.zeros((4, 2)), name="zeros").count
    4
    """

    values: PyTree
    labels: Array | None = None
    centres: Array | None = None
    spread: Array | None = eqx.field(default=None, converter=lambda value: None if value is None else as_leaf(value))
    name: str = eqx.field(static=True, default="data")
    modes: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        count = leading_axis(self.values, "DataSet.values")
        if self.labels is not None:
            if jnp.shape(self.labels) != (count,) or not jnp.issubdtype(jnp.result_type(self.labels), jnp.integer):
                raise ValueError(
                    f"DataSet.labels is {described(self.labels)}; expected whole numbers of shape ({count},), one "
                    "label per point"
                )
        if self.spread is not None:
            check_number(self, "spread", minimum=0)

    @property
    def count(self) -> int:
        """Number of points."""
        return jax.tree.leaves(self.values)[0].shape[0]

    def points(self, batch_size: int | None = None) -> Points:
        """The values as a distribution, for a `GAN`: all of them for no key, a batch with replacement for a key."""
        return Points(self.values, batch_size)


def leading_axis(values: PyTree, label: str) -> int:
    """The number of points of a pytree of arrays.

    Raises:
        TypeError: no arrays of real numbers.
        ValueError: no common leading axis of at least one point, or a number that is not finite.
    """
    check_arrays(values, f"{label} is", "arrays of real numbers with a common leading axis of points")
    axes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(values)}
    if len(axes) != 1 or () in axes or (0,) in axes:
        raise ValueError(f"{label} has leading axes {sorted(axes)}; expected one common, non-empty axis of points")
    check_finite(values, label)
    return axes.pop()[0]
