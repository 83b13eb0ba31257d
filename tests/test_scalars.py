"""The scalar functions against arbitrary precision, and what the compiler makes of a step built from them."""

import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from dynamics.games import DiracGAN
from dynamics.penalties import R1
from dynamics.scalars import decayed, half_square, log_sigmoid, relu, safe_norm, sigmoid, softplus

mpmath.mp.dps = 60
ULPS = 4
FUNCTIONS = {
    # name: (function, its value and its first two derivatives in arbitrary precision)
    "softplus": (
        softplus,
        lambda x: mpmath.log1p(mpmath.exp(x)),
        lambda x: 1 / (1 + mpmath.exp(-x)),
        lambda x: 1 / ((1 + mpmath.exp(-x)) * (1 + mpmath.exp(x))),
    ),
    "log_sigmoid": (
        log_sigmoid,
        lambda x: -mpmath.log1p(mpmath.exp(-x)),
        lambda x: 1 / (1 + mpmath.exp(x)),
        lambda x: -1 / ((1 + mpmath.exp(-x)) * (1 + mpmath.exp(x))),
    ),
    "sigmoid": (
        sigmoid,
        lambda x: 1 / (1 + mpmath.exp(-x)),
        lambda x: 1 / ((1 + mpmath.exp(-x)) * (1 + mpmath.exp(x))),
        lambda x: -mpmath.tanh(x / 2) / ((1 + mpmath.exp(-x)) * (1 + mpmath.exp(x))),
    ),
}
LARGEST = {"float32": 86.0, "float64": 700.0}


def grid(dtype):
    sizes = np.concatenate([np.geomspace(1e-30, LARGEST[dtype], 160), np.linspace(0.1, 40, 80)])
    return np.concatenate([-sizes, [0.0], sizes]).astype(dtype)


def derivatives(function, mode):
    derivative = jax.grad if mode == "reverse" else jax.jacfwd
    return function, derivative(function), derivative(derivative(function))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_two_derivatives_keep_full_relative_accuracy(name, dtype, mode):
    function, *truths = FUNCTIONS[name]
    points = grid(dtype)
    for order, (computed, truth) in enumerate(zip(derivatives(function, mode), truths)):
        values = np.asarray(jax.jit(jax.vmap(computed))(points))
        assert values.dtype == dtype
        exact = [truth(mpmath.mpf(float(x))) for x in points]
        errors = np.array([float(abs(mpmath.mpf(float(v)) - e)) for v, e in zip(values, exact)])
        sizes = np.array([float(abs(e)) for e in exact])
        # sigmoid'' is a product with a difference that crosses zero at 0: there the error is an absolute one.
        scale = np.maximum(sizes, 0.25 * np.exp(-np.abs(points.astype(float)))) if order == 2 else sizes
        smallest = np.finfo(dtype).tiny
        worst = np.max(np.where(sizes > smallest, errors / np.maximum(scale, smallest), 0))
        assert worst <= ULPS * np.finfo(dtype).eps, (order, points[np.argmax(errors / scale)], worst)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "function, at_minus, at_plus",
    [
        (softplus, (0, 0, 0), (None, 1, 0)),
        (log_sigmoid, (None, 1, 0), (0, 0, 0)),
        (sigmoid, (0, 0, 0), (1, 0, 0)),
    ],
)
def test_nothing_overflows_far_out(function, at_minus, at_plus, dtype):
    sizes = np.array([1e4, 1e30, np.inf])
    for computed, *expected in zip(derivatives(function, "reverse"), at_minus, at_plus):
        values = np.asarray(jax.jit(jax.vmap(computed))(np.concatenate([-sizes, sizes]).astype(dtype)))
        for side, wanted in zip((values[:3], values[3:]), expected):
            if wanted is None:  # the function is the identity there, or its opposite
                np.testing.assert_allclose(np.abs(side), sizes, rtol=1e-6)
            else:
                np.testing.assert_array_equal(side, wanted)


def test_not_a_number_is_not_hidden():
    for function in (softplus, log_sigmoid, sigmoid, half_square, relu, safe_norm):
        assert np.isnan(function(jnp.nan))


def at_zero(function):
    return [float(value) for value in jax.jit(lambda x: [f(x) for f in derivatives(function, "forward")])(0.0)]


def test_values_at_zero():
    assert float(softplus(0.0)) == float(np.log(2.0))
    assert at_zero(sigmoid) == [0.5, 0.25, 0.0]
    assert at_zero(relu) == [0.0, 0.0, 0.0]
    assert at_zero(safe_norm) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_dtype_is_kept(dtype):
    x = jnp.asarray([-2.0, 3.0], dtype)
    for function in (softplus, log_sigmoid, sigmoid, half_square, relu, safe_norm):
        assert jax.eval_shape(function, x).dtype == dtype
        assert jax.eval_shape(jax.grad(lambda y, f=function: f(y).sum()), x).dtype == dtype


def test_half_square():
    x = jnp.asarray([-3.0, -0.5, 0.0, 1e-200, 2.0, 1e200])
    np.testing.assert_array_equal(half_square(x), x**2 / 2)
    np.testing.assert_array_equal(jax.vmap(jax.grad(half_square))(x), x)
    np.testing.assert_array_equal(jax.vmap(jax.grad(jax.grad(half_square)))(x), np.ones(6))
    assert str(jax.make_jaxpr(jax.grad(half_square))(1.0)).count("mul") <= 1


def test_relu():
    x = jnp.asarray([-np.inf, -1e30, -1.0, 1e-300, 2.0, 1e30, np.inf])
    np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu))(x), [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(jax.vmap(jax.grad(jax.grad(relu)))(x), np.zeros(7))


@pytest.mark.parametrize("derivative", [jax.jacrev, jax.jacfwd])
def test_safe_norm_and_its_derivatives_at_every_scale(derivative):
    function = jax.jit(lambda x: (safe_norm(x), derivative(safe_norm)(x), derivative(derivative(safe_norm))(x)))
    unit = np.array([3.0, -4.0, 12.0]) / 13
    for scale in (1e-200, 1e-30, 1.0, 1e30, 1e200):
        norm, first, second = function(13 * scale * unit)
        np.testing.assert_allclose(norm, 13 * scale, rtol=1e-15)
        np.testing.assert_allclose(first, unit, rtol=1e-15)
        np.testing.assert_allclose(second * (13 * scale), np.eye(3) - np.outer(unit, unit), atol=1e-15)


def test_safe_norm_where_it_has_no_derivative():
    for zero in (jnp.zeros(()), jnp.zeros(1), jnp.zeros(4), jnp.zeros((2, 3))):
        assert float(safe_norm(zero)) == 0
        np.testing.assert_array_equal(jax.grad(safe_norm)(zero), zero)
    assert float(safe_norm(jnp.asarray([jnp.inf, 1.0]))) == np.inf
    assert float(safe_norm(jnp.zeros(0))) == 0


def test_safe_norm_of_a_batch():
    x = np.random.default_rng(0).normal(size=(7, 3))
    norms = np.sqrt((x**2).sum(1))
    np.testing.assert_allclose(jax.jit(jax.vmap(safe_norm))(x), norms, rtol=1e-15)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(safe_norm)))(x), x / norms[:, None], rtol=1e-15)


def operations(function, *arguments):
    """How often each operation occurs in the optimised module."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    names = re.findall(r"^\s*(?:ROOT )?%\S+ = \S+ ([a-z0-9-]+)\(", text, re.MULTILINE)
    return {name: names.count(name) for name in names}


def dirac_step(weight, players):
    velocity = DiracGAN(penalty=R1(weight)).field(players)
    return tuple(x + 0.1 * v for x, v in zip(players, velocity))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_simultaneous_step_costs_one_exponential(dtype):
    games = jnp.ones(1000, dtype)
    count = operations(jax.vmap(dirac_step), games, (games, games))
    assert count["exponential"] == 1
    assert count["divide"] <= 2
    for name in ("log", "log-plus-one", "power", "tanh", "logistic", "convert", "reduce", "dot", "while"):
        assert name not in count


def test_a_function_of_minus_x_shares_the_exponential_of_x():
    x = jnp.linspace(-1.0, 1.0, 100)
    both = operations(lambda x, y: (sigmoid(x * y) * y, sigmoid(-(x * y)) * x), x, x)
    assert both["exponential"] == 1


def test_decayed_and_its_derivatives_next_to_the_rate_0():
    """The integral of exp(-rate u) from 0 to x; first and second derivatives with respect to both."""
    x, rate = (part.ravel() for part in np.meshgrid([1e-6, 0.3, 5.0, 60.0], [-1.5, -0.02, -1e-9, 0.0, 1e-9, 0.4, 1.0]))

    def exact(order, power):
        """Of the integral of u^power exp(-rate u), or of what is integrated."""
        terms = []
        for a, r in zip(map(mpmath.mpf, map(float, x)), map(mpmath.mpf, map(float, rate)), strict=True):
            inner = lambda u, r=r: (-u) ** power * mpmath.exp(-r * u)  # noqa: E731
            terms.append(float(inner(a) if order else mpmath.quad(inner, [0, a / 4, a])))
        return np.array(terms)

    mpmath_digits = mpmath.mp.dps
    mpmath.mp.dps = 25
    try:
        slope = jax.grad(decayed, 1)
        cases = [
            (decayed, exact(0, 0)),
            (jax.grad(decayed, 0), exact(1, 0)),
            (slope, exact(0, 1)),
            (jax.grad(slope, 0), exact(1, 1)),
            (jax.grad(slope, 1), exact(0, 2)),
        ]
        for function, truth in cases:
            np.testing.assert_allclose(jax.jit(jax.vmap(function))(x, rate), truth, 1e-12, 1e-15)
    finally:
        mpmath.mp.dps = mpmath_digits
    # What does not change costs nothing: an infinite exponential meets no zero.
    assert jax.grad(lambda x: decayed(x, -3.0))(300.0) == np.inf
    assert decayed(np.float32(2), 0.5).dtype == np.float32
