"""Kernels against quadrature, Monte Carlo and finite networks; gradients where there are none."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from dynamics.function_space import kernels
from dynamics.function_space.kernels import (
    EmpiricalTangent,
    Erf,
    Gaussian,
    NetworkGaussianProcess,
    NeuralTangent,
    ReLU,
    Sine,
    Sum,
    wide_network,
)
from dynamics.function_space.kernels.activations import Shares, angle, arc, inverse_root
from dynamics.networks import from_equinox

A, B, C = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([-1.0, 2.0])
POINTS = np.array([A, B, C])


@pytest.mark.parametrize(
    "kernel, expected",
    [
        (NeuralTangent(3), {"AA": 2.5, "BB": 2.5, "BC": 2.4837693118, "CC": 3.5}),
        (
            NeuralTangent(3, Erf()),
            {"AA": 1.7906542495, "AB": 1.4574330383, "AC": 1.1980026071, "BC": 1.6281328391, "CC": 1.8988165176},
        ),
        (
            NeuralTangent(3, bias_scale=0.0),
            {"AA": 0.25, "AB": 0.0662742567, "AC": 0.1068475470, "BC": 0.4130917131, "CC": 1.25},
        ),
    ],
    ids=["relu", "erf", "relu without bias"],
)
def test_values_of_the_literature(kernel, expected):
    """Of three hidden layers, no bias of the output: made with another program (FACTS 5)."""
    matrix = np.asarray(kernel.matrix(POINTS))
    for pair, value in expected.items():
        row, column = ("ABC".index(letter) for letter in pair)
        np.testing.assert_allclose(matrix[row, column], value, atol=1e-10, rtol=0)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(kernel.diagonal(POINTS), np.diag(matrix), rtol=1e-14)


def moments_by_quadrature(activation, slope, covariance):
    """E f(u) g(v) for f = g = the activation, and for its derivative, under a Gaussian pair."""
    (a, c), (_, b) = covariance
    theta = math.acos(np.clip(c / math.sqrt(a * b), -1, 1))

    def polar(f, power):
        # (u, v) = r (sqrt(a) cos t, sqrt(b) cos(t - theta)); f is homogeneous: the radius integrates to 2 or 1.
        def ray(t):
            return f(math.sqrt(a) * math.cos(t)) * f(math.sqrt(b) * math.cos(t - theta))

        kinks = sorted(
            {k % (2 * math.pi) for k in (math.pi / 2, -math.pi / 2, math.pi / 2 + theta, theta - math.pi / 2)}
        )
        ends = [0.0, *kinks, 2 * math.pi]
        total = sum(scipy.integrate.quad(ray, *pair, epsabs=1e-13)[0] for pair in zip(ends[:-1], ends[1:], strict=True))
        return power * total / (2 * math.pi)

    if activation is None:  # leaky ReLU
        return polar(lambda u: u if u > 0 else slope * u, 2), polar(lambda u: 1.0 if u > 0 else slope, 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    u = math.sqrt(a) * nodes[:, None]
    v = math.sqrt(b) * (math.cos(theta) * nodes[:, None] + math.sin(theta) * nodes[None])
    function, derivative = activation
    return tuple(float(weights @ (f(u) * f(v)) @ weights) for f in (function, derivative))


def reference(x, y, activation, slope=0.0, depth=2, weight=1.0, bias=1.0, output_bias=False):
    """The recursion of the tangent kernel in plain NumPy."""
    covariance = np.array([[weight**2 * p @ q / len(x) + bias**2 for q in (x, y)] for p in (x, y)])
    tangent = covariance[0, 1]
    for layer in range(depth):
        after, slopes = np.zeros((2, 2)), 0.0
        for i in range(2):
            for j in range(2):
                pair = np.array([[covariance[i, i], covariance[i, j]], [covariance[i, j], covariance[j, j]]])
                value, derivative = moments_by_quadrature(activation, slope, pair)
                after[i, j] = weight**2 * value
                slopes = derivative if (i, j) == (0, 1) else slopes
        covariance = after + (bias**2 if layer < depth - 1 or output_bias else 0)
        tangent = covariance[0, 1] + weight**2 * tangent * slopes
    return covariance[0, 1], tangent


ERF = (scipy.special.erf, lambda u: 2 / math.sqrt(math.pi) * np.exp(-np.square(u)))
WAVE = (lambda u: 1.2 * np.sin(0.7 * u + 0.4), lambda u: 0.84 * np.cos(0.7 * u + 0.4))


@pytest.mark.parametrize(
    "activation, known, slope, tolerance",
    [
        (ReLU(), None, 0.0, 1e-10),
        (ReLU(0.3), None, 0.3, 1e-10),
        (ReLU(-1.0), None, -1.0, 1e-10),
        (Erf(), ERF, 0.0, 1e-9),
        (Sine(0.7, 0.4, 1.2), WAVE, 0.0, 1e-10),
    ],
    ids=["relu", "leaky", "absolute value", "erf", "sine"],
)
def test_recursions_against_quadrature(activation, known, slope, tolerance):
    x, y = np.array([0.7, -0.4, 1.1]), np.array([-0.2, 0.9, 0.5])
    options = dict(weight=1.3, bias=0.6, depth=2, output_bias=True)
    process, tangent = reference(x, y, known, slope, **options)
    arguments = 2, activation, 1.3, 0.6, True
    np.testing.assert_allclose(NetworkGaussianProcess(*arguments)(x, y), process, rtol=tolerance)
    np.testing.assert_allclose(NeuralTangent(*arguments)(x, y), tangent, rtol=tolerance)
    without = reference(x, y, known, slope, **(options | {"output_bias": False}))
    np.testing.assert_allclose(NeuralTangent(*arguments[:-1])(x, y), without[1], rtol=tolerance)


def test_the_gaussian_kernel_is_a_process_of_waves():
    wave = Sine(math.sqrt(2 * 0.5), math.pi / 4, math.sqrt(2.0))  # gamma = 0.5
    kernel = NetworkGaussianProcess(1, wave, bias_scale=0.0)
    distances = ((POINTS[:, None] - POINTS) ** 2).sum(-1)
    np.testing.assert_allclose(kernel.matrix(POINTS), np.exp(-0.5 * distances / 2), rtol=1e-13)
    # exp(-gamma |x - y|^2 / d) with d = 2 is a bandwidth of sqrt(d / (2 gamma)).
    np.testing.assert_allclose(Gaussian(math.sqrt(2.0)).matrix(POINTS), np.exp(-0.5 * distances / 2), rtol=1e-14)


@pytest.mark.slow_cases("0.001", "1e-12")
@pytest.mark.parametrize("apart", [1e-3, 1e-7, 1e-12])
def test_nearby_points_lose_no_digits(apart):
    """From a, b and c alone an angle of 1e-8 and less drowns in rounding, and the kernel is wrong by 1e-8."""
    x = np.array([0.3, -0.8])
    y = x + apart * np.array([0.6, 0.8])
    with mpmath.workdps(60):
        x_, y_ = ([mpmath.mpf(float(value)) for value in point] for point in (x, y))
        a, b, c = (sum(p * q for p, q in zip(*pair)) / 2 + 1 for pair in ((x_, x_), (y_, y_), (x_, y_)))
        theta = tangent = c
        for layer in range(2):
            theta = mpmath.acos(c / mpmath.sqrt(a * b))
            scale = mpmath.sqrt(a * b) / (2 * mpmath.pi)
            shift = 1 if layer == 0 else 0
            c = scale * (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)) + shift
            a, b = a / 2 + shift, b / 2 + shift
            tangent = c + tangent * (mpmath.pi - theta) / (2 * mpmath.pi)
        below = float(tangent - NeuralTangent(2)(x, x).item())
    value = NeuralTangent(2)(x, y) - NeuralTangent(2)(x, x)
    np.testing.assert_allclose(float(value), below, atol=2e-15, rtol=1e-7)
    assert below < -0.05 * apart or apart < 1e-6  # the kink: it falls with the distance itself, not with its square


KERNELS = {
    "relu": NeuralTangent(2),
    "relu without bias": NeuralTangent(1, bias_scale=0.0),
    "leaky": NeuralTangent(1, ReLU(0.2), 1.4, 0.5, True),
    "relu process": NetworkGaussianProcess(1, bias_scale=0.0),
    "erf": NeuralTangent(2, Erf(), 1.2, 0.0),
    "sine": NeuralTangent(2, Sine(1.3, 0.4), bias_scale=0.0),
    "sum": Sum(Gaussian(0.7), NeuralTangent(1), weights=(2.0, 0.5)),
}


@pytest.mark.slow_cases("relu", "relu process", "sine", "sum", "erf")
@pytest.mark.parametrize("name", KERNELS)
def test_no_gradient_is_lost_where_points_meet(name):
    """Coincident, parallel, opposite and zero points, and some that are next to these."""
    kernel, x, zero = KERNELS[name], np.array([0.6, -1.1]), np.zeros(2)
    pairs = [(x, x), (x, 2 * x), (x, -x), (zero, x), (x, zero), (zero, zero), (x, -3 * x), (x, x + 1e-16)]
    pairs += [(x, x + 1e-9), (1e-180 * x, x), (1e-80 * x, x), (1e60 * x, x)]
    first, second = (np.array(points) for points in zip(*pairs, strict=True))

    def everything(x, y):
        return kernel(x, y), jax.grad(kernel, (0, 1))(x, y), jax.hessian(kernel, (0, 1))(x, y)

    for leaf in jax.tree.leaves(jax.jit(jax.vmap(everything))(first, second)):
        assert np.isfinite(leaf).all()


@pytest.mark.slow_cases("relu", "relu process", "sine", "sum", "erf", "relu without bias", "leaky")
@pytest.mark.parametrize("name", KERNELS)
def test_gradients_by_difference_quotients(name):
    kernel, h = KERNELS[name], 1e-5
    x, y = np.array([0.6, -1.1]), np.array([-0.4, 0.9])
    gradient = jax.jit(jax.grad(kernel))
    steps = h * np.eye(2)
    quotients = [(kernel(x + step, y) - kernel(x - step, y)) / (2 * h) for step in steps]
    np.testing.assert_allclose(gradient(x, y), quotients, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(jax.grad(kernel, 1)(y, x), quotients, rtol=1e-8, atol=1e-10)  # symmetric
    second = [(gradient(x + step, y) - gradient(x - step, y)) / (2 * h) for step in steps]
    np.testing.assert_allclose(jax.jacfwd(gradient)(x, y), second, rtol=1e-7, atol=1e-9)


def test_what_is_smooth_keeps_its_gradient_at_the_origin():
    """A guard that drops the whole gradient would be finite and wrong."""
    y = np.array([-0.4, 0.9])
    for kernel in (NeuralTangent(2), NeuralTangent(2, Erf(), bias_scale=0.0), NeuralTangent(2, Sine(), bias_scale=0.0)):
        quotients = [(kernel(step, y) - kernel(-step, y)) / 2e-5 for step in 1e-5 * np.eye(2)]
        np.testing.assert_allclose(jax.grad(kernel)(np.zeros(2), y), quotients, rtol=1e-8)


@pytest.mark.parametrize("dtype, accuracy", [(np.float64, 5e-15), (np.float32, 1e-6)])
def test_angles_to_all_digits(dtype, accuracy):
    theta = np.concatenate([np.linspace(1e-3, np.pi - 1e-3, 1001), 10.0 ** -np.arange(3, 15)])
    shares = Shares(*((function(theta / 2) ** 2).astype(dtype) for function in (np.sin, np.cos)))
    shown = theta > np.finfo(dtype).eps * 3  # what is below rounding is 0
    np.testing.assert_allclose(arc(shares)[0][shown], theta[shown], rtol=accuracy)
    np.testing.assert_allclose(arc(Shares(*shares[::-1]))[0], np.pi - theta, atol=accuracy)
    moment = 2 / np.pi * (np.sin(theta) + (np.pi / 2 - theta) * np.cos(theta))  # of E|uv|
    np.testing.assert_allclose(arc(shares)[1], (1 - moment) / 2, atol=accuracy)
    np.testing.assert_allclose(angle(np.sin(theta).astype(dtype), np.abs(np.cos(theta)).astype(dtype)),
                               np.minimum(theta, np.pi - theta), atol=accuracy)  # fmt: skip
    np.testing.assert_allclose(angle(-(shares.sine**0.5), shares.cosine**0.5), -theta / 2, rtol=2 * accuracy)
    for pair, expected in (((0.0, 1.0), 0), ((1.0, 0.0), np.pi), ((0.0, 0.0), 0)):
        assert float(arc(Shares(*map(dtype, pair)))[0]) == dtype(expected)


@pytest.mark.slow_cases("0.72", "0.499999999", "0.3", "1e-05")
@pytest.mark.parametrize("share", [0.3, 0.5 - 1e-9, 0.72, 1e-5])
def test_rules_of_derivatives_are_those_of_the_values(share):
    """Against plain automatic differentiation of the textbook's formulas, first and second derivatives."""

    def plain(share):
        theta = jnp.arccos(1 - 2 * share)
        moment = 2 / jnp.pi * (jnp.sin(theta) + (jnp.pi / 2 - theta) * jnp.cos(theta))
        return jnp.stack([theta, (1 - moment) / 2])

    def ours(share):
        return jnp.stack(arc(Shares(share, 1 - share)))

    for ruled, textbook in ((jax.jacfwd(ours), jax.jacfwd(plain)), (jax.hessian(ours), jax.hessian(plain))):
        np.testing.assert_allclose(ruled(share), textbook(share), rtol=1e-6)
    np.testing.assert_allclose(jax.jacrev(ours)(share), jax.jacfwd(plain)(share), rtol=1e-9, atol=1e-15)
    tangent = jax.jacfwd(lambda t: angle(jnp.sin(t), jnp.cos(t)))  # the angle itself
    np.testing.assert_allclose([tangent(share), tangent(-share)], [1, 1], rtol=1e-14)
    np.testing.assert_allclose(jax.grad(inverse_root)(share), -0.5 * share**-1.5, rtol=1e-14)


@pytest.mark.slow_cases("False")
@pytest.mark.parametrize("antisymmetric", [False, True])
@pytest.mark.slow
def test_networks_of_finite_width_come_close(antisymmetric):
    """A factor of 2, a missing bias or another order of layers would differ by far more than 1/sqrt(width)."""
    kernel = NeuralTangent(2, ReLU(0.2), 1.2, 0.7, True)
    function, parameters = wide_network(kernel, 2, width=400, key=jax.random.key(3), antisymmetric=antisymmetric)
    empirical = EmpiricalTangent(function, parameters)
    whole = np.asarray(empirical.matrix(POINTS))
    np.testing.assert_allclose(whole, kernel.matrix(POINTS), rtol=0.15)
    np.testing.assert_allclose(empirical.matrix(POINTS, POINTS[:2], chunk=2), whole[:, :2], rtol=1e-12)
    if antisymmetric:
        assert [float(function(parameters, point)) for point in POINTS] == [0, 0, 0]


@pytest.mark.slow
def test_processes_of_random_networks():
    """The covariance of many random networks at their start."""
    kernel = NetworkGaussianProcess(2, Erf(), 1.5, 0.4, True)

    def scores(key):
        function, parameters = wide_network(kernel, 2, width=32, key=key)
        return jax.vmap(lambda point: function(parameters, point))(jnp.asarray(POINTS))

    values = np.asarray(jax.jit(jax.vmap(scores))(jax.random.split(jax.random.key(0), 2000)))
    np.testing.assert_allclose(values.T @ values / len(values), kernel.matrix(POINTS), atol=0.12)


def test_empirical_kernels_by_hand():
    """One hidden layer of an equinox network, the gradients written out."""
    module = eqx.nn.MLP(2, "scalar", 5, 1, jnp.tanh, key=jax.random.key(1))
    network, parameters = from_equinox(module)
    kernel = EmpiricalTangent(network, parameters)
    first, last = module.layers

    def gradient(x):
        hidden = np.tanh(first.weight @ x + first.bias)
        back = np.asarray(last.weight).ravel() * (1 - hidden**2)
        return np.concatenate([np.outer(back, x).ravel(), back, hidden, [1.0]])

    gradients = np.stack([gradient(point) for point in POINTS])
    np.testing.assert_allclose(kernel.matrix(POINTS), gradients @ gradients.T, rtol=1e-12)
    np.testing.assert_allclose(kernel(A, C), gradients[0] @ gradients[2], rtol=1e-12)


@pytest.mark.slow
def test_empirical_kernels_of_flax():
    linen = pytest.importorskip("flax.linen")
    from dynamics.networks import from_linen

    module = linen.Dense(1)
    variables = module.init(jax.random.key(0), jnp.asarray(POINTS))
    kernel = EmpiricalTangent(*from_linen(module, variables))
    np.testing.assert_allclose(kernel.matrix(POINTS), POINTS @ POINTS.T + 1, rtol=1e-12)  # weights and a bias


@pytest.mark.slow
def test_sums_and_sets():
    kernel = Gaussian(0.7) + NeuralTangent(1, Erf())
    expected = Gaussian(0.7).matrix(POINTS, POINTS[:2]) + NeuralTangent(1, Erf()).matrix(POINTS, POINTS[:2])
    np.testing.assert_allclose(kernel.matrix(POINTS, POINTS[:2]), expected, rtol=1e-14)
    np.testing.assert_allclose(kernel.matrix(POINTS, POINTS[:2], chunk=2), expected, rtol=1e-14)
    weighted = Sum(Gaussian(0.7), Gaussian(1.5), weights=(2.0, 0.5))(A, C)
    np.testing.assert_allclose(weighted, 2 * np.exp(-8 / 0.98) + 0.5 * np.exp(-8 / 4.5), rtol=1e-14)
    scalars = NeuralTangent(2).matrix(jnp.asarray([0.5, -1.0]))  # points of shape ()
    np.testing.assert_allclose(scalars, NeuralTangent(2).matrix(jnp.asarray([[0.5], [-1.0]])), rtol=1e-15)
    images = NeuralTangent(1).matrix(jnp.arange(8.0).reshape(2, 2, 2))
    np.testing.assert_allclose(images, NeuralTangent(1).matrix(jnp.arange(8.0).reshape(2, 4)), rtol=1e-15)


@pytest.mark.slow_cases("relu", "relu process", "sine", "sum")
@pytest.mark.parametrize("name", KERNELS)
def test_single_precision(name):
    kernel = KERNELS[name]
    points = np.array([A, B, C, 1e-4 * A, A + 1e-4 * B], np.float32)
    matrix = kernel.matrix(points)
    assert matrix.dtype == jnp.float32
    exact = kernel.matrix(points.astype(float))
    np.testing.assert_allclose(matrix, exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: NeuralTangent(0), ValueError, "depth is 0"),
        (lambda: NeuralTangent(2, jnp.tanh), TypeError, "activation is .*; expected a"),
        (lambda: NeuralTangent(2, None), TypeError, "expected an? Activation"),
        (lambda: NeuralTangent(2, bias_scale=-1.0), ValueError, "bias_scale is -1"),
        (lambda: NeuralTangent(2, output_bias=1), TypeError, "expected True or False"),
        (lambda: Gaussian(0.0), ValueError, "bandwidth is 0"),
        (lambda: Sum(), ValueError, "no kernels"),
        (lambda: Sum(jnp.tanh), TypeError, "expected a Kernel"),
        (lambda: Sum(Gaussian(), weights=(1.0, 2.0)), ValueError, "2 weights for 1 kernels"),
        (lambda: Sum(Gaussian(), weights=(-1.0,)), ValueError, "weight -1"),
        (lambda: Gaussian()(A, np.zeros(3)), ValueError, r"shapes \(2,\) and \(3,\)"),
        (lambda: Gaussian().matrix(POINTS, np.zeros((2, 3))), ValueError, "expected the same"),
        (lambda: Gaussian().matrix(1.0), ValueError, "along the first axis"),
        (lambda: Gaussian().matrix(POINTS, chunk=0), ValueError, "chunk is 0"),
        (lambda: EmpiricalTangent(lambda w, x: w * x, jnp.ones(2))(A, B), ValueError, "expected one number"),
        (lambda: EmpiricalTangent(3, jnp.ones(2)), TypeError, "expected a function"),
        (lambda: wide_network(Gaussian(), 2, width=3, key=jax.random.key(0)), TypeError, "NeuralTangent"),
        (lambda: ReLU(np.inf), ValueError, "slope is inf"),
        (lambda: Sine(phase=np.nan), ValueError, "phase is nan"),
    ],
)
def test_what_is_wrong_is_said(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_numbers_are_leaves():
    count = 0

    @jax.jit
    def value(kernel, x, y):
        nonlocal count
        count += 1
        return kernel(x, y)

    values = [float(value(NeuralTangent(2, bias_scale=scale), A, C)) for scale in (0.5, 0.6)]
    assert count == 1 and values[0] < values[1]
    assert {type(KERNELS[name]).__name__ for name in KERNELS} <= set(dir(kernels))
