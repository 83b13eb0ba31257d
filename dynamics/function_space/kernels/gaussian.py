import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics._checks import as_leaf, check_number
from dynamics.function_space.kernels.base import Kernel


class Gaussian(Kernel):
    r"""The Gaussian kernel, or radial basis function: $\exp(-\|x-y\|^2/(2 l^2))$.

    Args:
        bandwidth: l, > 0.

    Raises:
        ValueError: the bandwidth is not positive or not finite.

    >>> round(float(Gaussian(2.0)(jnp.zeros(2), jnp.asarray([2.0, 2.0]))), 9)  # exp(-8 / 8)
    0.367879441
    """

    bandwidth: Array = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check_number(self, "bandwidth", above=0)

    def of_point(self, point: Array) -> Array:
        return jnp.ravel(point) / self.bandwidth

    def of_pair(self, one: Array, two: Array) -> Float[Array, ""]:
        return jnp.exp(-jnp.sum(jnp.square(one - two)) / 2)
