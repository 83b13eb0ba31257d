from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from dynamics._checks import check_arrays, described
from dynamics.function_space.kernels.base import Kernel
from dynamics.game import as_callable
from dynamics.networks.network import Network


class EmpiricalTangent(Kernel):
    r"""The tangent kernel of any network at its parameters, $\nabla_\theta f(x)\cdot\nabla_\theta f(y)$.

    By automatic differentiation. `matrix(..., chunk=c)` holds the gradients at 2 c points at a time, c^2 products of
    them being one product of matrices; without `chunk`, those at all points.
    Source: Jacot, Gabriel, Hongler, Neural Tangent Kernel, 2018, section 4.

    Args:
        function: function `(parameters, point) -> score`, such as `dynamics.split_module` returns; or a
            `dynamics.networks.Network` (`from_equinox`, `from_linen`, `from_nnx`, `from_haiku`), in inference mode with
            its variables. One number per point, of shape () or (1,).
        parameters: theta, a pytree of arrays.

    Raises:
        TypeError: no function, or parameters that are no arrays.
        ValueError: the network returns several numbers.

    >>> kernel = EmpiricalTangent(lambda w, x: w @ x, jnp.asarray([1.0, 2.0]))
    >>> float(kernel(jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 4.0])))  # x . y for a linear network
    11.0
    """

    function: Callable[[PyTree, Array], Array] | Network
    parameters: PyTree

    def __init__(self, function: Callable[[PyTree, Array], Array] | Network, parameters: PyTree):
        check_arrays(parameters, "parameters is", "a pytree of arrays of real numbers")
        self.function = function if isinstance(function, Network) else as_callable(function, "function")
        self.parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf) * 1.0, parameters)

    def score(self, parameters: PyTree, point: ArrayLike) -> Float[Array, ""]:
        """What the network returns for one point, a scalar."""
        function: Any = self.function
        if isinstance(function, Network):
            value = function.evaluate(parameters, function.variables, point)
        else:
            value = function(parameters, point)
        if jnp.size(value) != 1:
            raise ValueError(
                f"the network returned {described(value)}; expected one number, as a tangent kernel of several outputs "
                "is a matrix: take one of them, or their sum"
            )
        return jnp.reshape(value, ())

    def of_point(self, point: Array) -> Array:
        gradient = jax.grad(self.score)(self.parameters, point)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])

    def of_pair(self, one: Array, two: Array) -> Float[Array, ""]:
        return jnp.dot(one, two)
