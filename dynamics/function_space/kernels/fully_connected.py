"""Kernels of fully connected networks of infinite width: the neural tangent kernel, and the Gaussian process."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dynamics._checks import as_leaf, check_kind, check_number, check_whole
from dynamics.function_space.kernels.activations import Activation, ReLU
from dynamics.function_space.kernels.base import Kernel


class FullyConnected(Kernel):
    r"""A kernel of a fully connected network whose hidden layers are infinitely wide.

    Layers $h_1 = \frac{\sigma_w}{\sqrt d}W_1 x + \sigma_b b_1$, $h_{l+1} = \frac{\sigma_w}{\sqrt{n}}W_{l+1}\phi(h_l) +
    \sigma_b b_{l+1}$ with weights and biases drawn from N(0, 1) (the NTK parameterisation), d numbers in a point, n
    units in a layer, and a scalar output. The covariance of a layer at two points, and the tangent kernel of the
    network up to it:
    $\Sigma_1 = \sigma_w^2\,x\cdot y/d + \sigma_b^2$, $\Theta_1 = \Sigma_1$;
    $\Sigma_{l+1} = \sigma_w^2 E\phi\phi + \sigma_b^2$, $\Theta_{l+1} = \Sigma_{l+1} + \sigma_w^2\Theta_l E\phi'\phi'$.
    """

    depth: int = eqx.field(static=True, default=3)
    activation: Activation = eqx.field(default_factory=ReLU)
    weight_scale: Array = eqx.field(converter=as_leaf, default=1.0)
    bias_scale: Array = eqx.field(converter=as_leaf, default=1.0)
    output_bias: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_whole(self, "depth")
        if not isinstance(self.activation, Activation):
            check_kind(self, "activation", Activation, "dynamics.function_space.kernels.ReLU()")
            raise TypeError(f"{type(self).__name__}.activation is None; expected an Activation, e.g. ReLU()")
        check_number(self, "weight_scale", minimum=0)
        check_number(self, "bias_scale", minimum=0)
        if not isinstance(self.output_bias, bool):
            raise TypeError(f"{type(self).__name__}.output_bias is {self.output_bias!r}; expected True or False")

    def of_point(self, point: Array) -> tuple[PyTree, ...]:
        """What the activation needs of the point at every layer, and at the output."""
        scale = self.weight_scale / jnp.sqrt(jnp.asarray(point.size, point.dtype))
        # The bias as one more coordinate: no point is at the origin then, and all is smooth there.
        constant = jnp.reshape(self.bias_scale, 1).astype(point.dtype)
        layers = [self.activation.first(jnp.concatenate([scale * jnp.ravel(point), constant]))]
        for layer in range(self.depth):
            layers.append(self.activation.after(layers[-1], *self._variances(layer)))
        return tuple(layers)

    def _variances(self, layer: int) -> tuple[Array, Array | None]:
        """Of weights and biases after a hidden layer; `None` where there are no biases."""
        biased = layer < self.depth - 1 or self.output_bias
        return jnp.square(self.weight_scale), jnp.square(self.bias_scale) if biased else None

    def _output(self, one: tuple[PyTree, ...], two: tuple[PyTree, ...]) -> tuple[Array, Array]:
        """The covariance of the output at two points, and the tangent kernel."""
        pair = self.activation.meet(one[0], two[0])
        product = tangent = self.activation.product(pair, one[0], two[0])
        for layer in range(self.depth):
            weight, bias = self._variances(layer)
            layers = (one[layer], two[layer]), (one[layer + 1], two[layer + 1])
            pair, slopes = self.activation.propagate(pair, *layers, weight, bias)
            product = self.activation.product(pair, *layers[1])
            tangent = product + weight * tangent * slopes
        return product, tangent


class NeuralTangent(FullyConnected):
    r"""The neural tangent kernel: gradient flow on the parameters of an infinitely wide network is a flow of functions
    along it.

    $\Theta(x, y) = \lim \nabla_\theta f(x)\cdot\nabla_\theta f(y)$ of the network of `FullyConnected`, which stays what
    it is at the start while the network is trained: $\dot f = -\Theta(\cdot, X)\,\partial L/\partial f(X)$.

    With ReLU it has a kink where x = y, $\Theta \approx \Theta(x,x) - \text{const}\,\|x-y\|$ across, and without bias
    also at the origin and along rays: what is made of $\Theta(\cdot, x_i)$ is not differentiable at the points $x_i$,
    where the gradient here is that of the smooth rest. With `Erf` and `Sine` it is smooth.
    Source: Jacot, Gabriel, Hongler, Neural Tangent Kernel, 2018, proposition 1 and theorem 1.

    Args:
        depth: number of hidden layers, >= 1.
        activation: of the hidden layers, `ReLU()`, `ReLU(slope)`, `Erf()`, `Sine()`.
        weight_scale: sigma_w, >= 0.
        bias_scale: sigma_b, >= 0; 0: no biases.
        output_bias: whether the output has a bias as well.

    Raises:
        TypeError: the activation is none.
        ValueError: a number is out of bounds.

    >>> kernel = NeuralTangent(depth=3)
    >>> float(kernel(jnp.asarray([1.0, 0.0]), jnp.asarray([1.0, 0.0])))
    2.5
    >>> kernel.matrix(jnp.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])).shape
    (3, 3)
    """

    def of_pair(self, one: tuple[PyTree, ...], two: tuple[PyTree, ...]) -> Float[Array, ""]:
        return self._output(one, two)[1]


class NetworkGaussianProcess(FullyConnected):
    r"""The covariance of an infinitely wide network at its random start, a Gaussian process (NNGP).

    $\Sigma(x, y) = E f(x) f(y)$ for the network of `FullyConnected`. With ReLU it has a kink at the origin without
    bias, and its second derivatives have one where x = y.
    Source: Lee, Bahri, Novak, Schoenholz, Pennington, Sohl-Dickstein, Deep Neural Networks as Gaussian Processes, 2018,
    equations 4 and 5.

    Args:
        depth: number of hidden layers, >= 1.
        activation: of the hidden layers.
        weight_scale: sigma_w, >= 0.
        bias_scale: sigma_b, >= 0; 0: no biases.
        output_bias: whether the output has a bias as well.

    Raises:
        TypeError: the activation is none.
        ValueError: a number is out of bounds.

    >>> import math
    >>> from dynamics.function_space.kernels import Sine
    >>> wave = Sine(frequency=1.0, phase=math.pi / 4, amplitude=math.sqrt(2.0))
    >>> kernel = NetworkGaussianProcess(1, wave, bias_scale=0.0)
    >>> round(float(kernel(jnp.zeros(2), jnp.ones(2))), 9) == round(math.exp(-0.5), 9)  # exp(-|x - y|^2 / (2 d))
    True
    """

    def of_pair(self, one: tuple[PyTree, ...], two: tuple[PyTree, ...]) -> Float[Array, ""]:
        return self._output(one, two)[0]
