"""Networks of finite width whose tangent kernel is, in the limit of large width, that of a kernel in closed form."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_whole
from dynamics.function_space.kernels.fully_connected import FullyConnected

Layers = tuple[dict[str, Array], ...]


class WideNetwork(eqx.Module):
    r"""A fully connected network in the NTK parameterisation, as a function `(parameters, point) -> score`.

    The network of `FullyConnected`: weights and biases are drawn from N(0, 1), and the scales stand before them. With
    `antisymmetric` it is $(f_{\theta_1} - f_{\theta_2})/\sqrt2$ of two networks that start at the same parameters: it
    starts at 0 exactly, with the tangent kernel of one of them.
    Source: Zhang, Xu, Luo, Ma, A Type of Generalization Error Induced by Initialization in Deep Neural Networks, 2020
    (antisymmetric initialisation).

    Attributes:
        kernel: depth, activation, scales and biases.
        antisymmetric: whether it is the difference of two.
    """

    kernel: FullyConnected
    antisymmetric: bool = eqx.field(static=True, default=False)

    def __call__(self, parameters: PyTree, point: Array) -> Array:
        if not self.antisymmetric:
            return self._score(parameters, point)
        first, second = parameters
        return (self._score(first, point) - self._score(second, point)) / math.sqrt(2)

    def _score(self, layers: Layers, point: Array) -> Array:
        kernel, values = self.kernel, jnp.ravel(jnp.asarray(point))
        for number, layer in enumerate(layers):
            if number:
                values = kernel.activation(values)
            values = kernel.weight_scale / math.sqrt(values.size) * (layer["weight"] @ values)
            if "bias" in layer:
                values = values + kernel.bias_scale * layer["bias"]
        return values[0]


def wide_network(
    kernel: FullyConnected, inputs: int, *, width: int, key: PRNGKeyArray, antisymmetric: bool = False
) -> tuple[WideNetwork, PyTree]:
    r"""A network of finite width and its random parameters, whose tangent kernel tends to a kernel in closed form.

    The error of the tangent kernel at the start is of the order of $1/\sqrt{\text{width}}$.
    Source: Jacot, Gabriel, Hongler, Neural Tangent Kernel, 2018, theorem 1.

    Args:
        kernel: a `NeuralTangent` or `NetworkGaussianProcess`.
        inputs: numbers in a point.
        width: units in each hidden layer.
        key: random key of the parameters.
        antisymmetric: the difference of two such networks, 0 at the start.

    Returns:
        `(function, parameters)`, fit for `dynamics.GAN` and `EmpiricalTangent`.

    Raises:
        TypeError: the kernel is of another kind.
        ValueError: a size is no positive whole number.

    >>> from dynamics.function_space.kernels import NeuralTangent
    >>> function, parameters = wide_network(NeuralTangent(2), 3, width=8, key=jax.random.key(0), antisymmetric=True)
    >>> float(function(parameters, jnp.ones(3)))
    0.0
    """
    if not isinstance(kernel, FullyConnected):
        raise TypeError(f"kernel is {kernel!r}; expected a NeuralTangent or a NetworkGaussianProcess")
    sizes = [as_whole("inputs", inputs), *[as_whole("width", width)] * kernel.depth, 1]
    layers = []
    for number, (before, after) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        first, second = jax.random.split(jax.random.fold_in(key, number))
        layer = {"weight": jax.random.normal(first, (after, before))}
        if number < kernel.depth or kernel.output_bias:
            layer["bias"] = jax.random.normal(second, (after,))
        layers.append(layer)
    parameters = tuple(layers)
    # Copies, so that nobody hands the same array to two players or donates it twice.
    both = (parameters, jax.tree.map(jnp.copy, parameters)) if antisymmetric else parameters
    return WideNetwork(kernel, antisymmetric), both
