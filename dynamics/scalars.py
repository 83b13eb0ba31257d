r"""The scalar functions that losses are made of, exact to the last digits with their first two derivatives.

Automatic differentiation of the usual formula of softplus leaves several exponentials and logarithms in a gradient;
here the derivative rule of each function is written in terms of the others, so that a gradient costs one exponential,
$e^{-|x|}$, and no tail is lost to rounding: $\sigma(-x)$ is never computed as $1-\sigma(x)$.

All functions act elementwise on arrays of any shape and keep the floating dtype.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike


def _decay(x: Array) -> Array:

    return jnp.exp(-jnp.abs(x))


@jax.custom_jvp
def sigmoid(x: ArrayLike) -> Array:
    r"""Logistic function $\sigma(x) = 1/(1+e^{-x})$ with full relative accuracy in both tails.

    The derivative is $\sigma'(x) = \sigma(x)\,\sigma(-x)$, again accurate in both tails.

    >>> float(sigmoid(0.0))
    0.5
    """
    x = jnp.asarray(x)
    decay = _decay(x)
    return jnp.where(x >= 0, 1, decay) / (1 + decay)


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return sigmoid(x), dx * (sigmoid(x) * sigmoid(-x))


@jax.custom_jvp
def softplus(x: ArrayLike) -> Array:
    r"""Softplus $\log(1+e^x) = \max(x,0) + \log(1+e^{-|x|})$, with derivative $\sigma(x)$.

    >>> float(softplus(0.0)) == float(jnp.log(2.0))
    True
    """
    x = jnp.asarray(x)
    return jnp.maximum(x, 0) + jnp.log1p(_decay(x))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return softplus(x), dx * sigmoid(x)


def log_sigmoid(x: ArrayLike) -> Array:
    r"""Logarithm of the logistic function, $\log\sigma(x) = -\mathrm{softplus}(-x)$, with derivative $\sigma(-x)$.

    >>> float(log_sigmoid(-800.0))
    -800.0
    """
    return -softplus(-jnp.asarray(x))


def relu(x: ArrayLike) -> Array:
    r"""Positive part $\max(x, 0)$; the derivative at the kink is 0.

    >>> float(jax.grad(relu)(0.0)), float(jax.grad(relu)(2.0))
    (0.0, 1.0)
    """
    return jax.nn.relu(jnp.asarray(x))


def safe_norm(x: ArrayLike) -> Array:
    r"""Euclidean norm $\|x\|_2$ of all entries of an array; the derivative at 0 is 0 instead of not-a-number.

    >>> float(jax.grad(safe_norm)(0.0)), float(jax.grad(safe_norm)(-3.0))
    (0.0, -1.0)
    """
    x = jnp.asarray(x)
    if x.size == 1:
        return jnp.sum(jnp.abs(x))
    squared = jnp.sum(jnp.square(x))
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)
