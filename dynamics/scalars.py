r"""The scalar functions that losses are made of, exact to the last digits with their first two derivatives.

Automatic differentiation of the usual formula of softplus leaves several exponentials and logarithms in a
gradient; here the derivative rule of each function is written in terms of the others, so that a gradient
costs one exponential, $e^{-|x|}$, and no tail is lost to rounding: $\sigma(-x)$ is never computed as
$1-\sigma(x)$.

All functions act elementwise on arrays of any shape and keep the floating dtype.
"""

import math

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike


def _decay(x: Array) -> Array:
    # exp(-|x|), written such that the compiler sees the same exponential for x and for -x.
    return jnp.exp(jnp.minimum(x, -x))


@jax.custom_jvp
def sigmoid(x: ArrayLike) -> Array:
    r"""Logistic function $\sigma(x) = 1/(1+e^{-x})$ with full relative accuracy in both tails.

    The derivative is $\sigma'(x) = \sigma(x)\,\sigma(-x)$, again accurate in both tails.

    >>> float(sigmoid(0.0))
    0.5
    """
    x = jnp.asarray(x)
    decay = _decay(x)
    large = 1 / (1 + decay)  # of |x|; one division serves both x and -x
    return jnp.where(x >= 0, large, decay * large)


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
    r"""Logarithm of the logistic function, $\log\sigma(x) = -\log(1+e^{-x})$, with derivative $\sigma(-x)$.

    Args:
        x: any shape.

    Returns:
        the same shape.

    >>> float(log_sigmoid(-800.0))
    -800.0
    """
    return -softplus(-jnp.asarray(x))


@jax.custom_jvp
def half_square(x: ArrayLike) -> Array:
    r"""Half a square, $x^2/2$, with derivative $x$: not $2x$ times a half, two operations per step of a game.

    >>> float(half_square(3.0)), float(jax.grad(half_square)(3.0))
    (4.5, 3.0)
    """
    return jnp.square(jnp.asarray(x)) / 2


@half_square.defjvp
def _half_square_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return half_square(x), dx * x


def relu(x: ArrayLike) -> Array:
    r"""Positive part $\max(x, 0)$; the derivative at the kink is 0.

    Args:
        x: any shape.

    Returns:
        the same shape.

    >>> float(jax.grad(relu)(0.0)), float(jax.grad(relu)(2.0))
    (0.0, 1.0)
    """
    return jax.nn.relu(jnp.asarray(x))


def safe_norm(x: ArrayLike) -> Array:
    r"""Euclidean norm $\|x\|_2$ of all entries of an array; the derivative at 0 is 0 instead of not-a-number.

    Squares neither overflow nor underflow: entries are divided by the largest first.

    Args:
        x: any shape.

    Returns:
        a scalar.

    >>> float(jax.grad(safe_norm)(0.0)), float(jax.grad(safe_norm)(-3.0))
    (0.0, -1.0)
    """
    return _norm(jnp.asarray(x))


@jax.custom_jvp
def _norm(x: Array) -> Array:
    if x.size <= 1:
        return jnp.sum(jnp.abs(x))
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    return scale * jnp.sqrt(jnp.sum(jnp.square(x / scale)))


@_norm.defjvp
def _norm_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _norm(x), jnp.sum(_direction(x) * dx)


@jax.custom_jvp
def _direction(x: Array) -> Array:
    norm = _norm(x)
    return jnp.sign(x) if x.size <= 1 else x / jnp.where(norm == 0, 1, norm)


@_direction.defjvp
def _direction_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    norm, direction = _norm(x), _direction(x)
    if x.size <= 1:
        return direction, jnp.zeros_like(dx)
    change = (dx - direction * jnp.sum(direction * dx)) / jnp.where(norm == 0, 1, norm)
    return direction, jnp.where(norm == 0, 0, change)


@jax.custom_jvp
def decayed(x: ArrayLike, rate: ArrayLike) -> Array:
    r"""$\int_0^x e^{-\kappa u}\,du = (1-e^{-\kappa x})/\kappa$ for a rate $\kappa$ of either sign; x itself at rate 0.

    With derivative $e^{-\kappa x}$ with respect to x: no difference of numbers that are nearly the same, at any rate.

    >>> float(decayed(2.0, 0.0)), round(float(decayed(2.0, 1.0)), 6)
    (2.0, 0.864665)
    """
    x, rate = jnp.asarray(x), jnp.asarray(rate)
    still = rate == 0
    return jnp.where(still, x, -jnp.expm1(-rate * x) / jnp.where(still, 1, rate))


def _decayed_jvp(primals, tangents):
    (x, rate), (dx, drate) = primals, tangents
    value = decayed(x, rate)
    tangent = jnp.zeros_like(value)
    # An exponential that overflows must not meet the zero of what does not change.
    if not isinstance(dx, SymbolicZero):
        tangent = tangent + dx * jnp.exp(-rate * x)
    if not isinstance(drate, SymbolicZero):
        tangent = tangent - drate * jnp.square(x) * _first_moment(rate * x)
    return value, tangent


decayed.defjvp(_decayed_jvp, symbolic_zeros=True)


def _first_moment(y: Array) -> Array:
    r"""$\int_0^1 u\,e^{-yu}\,du$, by its series where the closed form is a small difference."""
    near = jnp.abs(y) < 1
    small, large = jnp.where(near, y, 0), jnp.where(near, 1, y)
    coefficients = [(-1) ** k / (math.factorial(k) * (k + 2)) for k in range(20)]
    series = jnp.polyval(jnp.asarray(coefficients[::-1], jnp.result_type(y)), small)
    return jnp.where(near, series, (1 - jnp.exp(-large) * (1 + large)) / jnp.square(large))
