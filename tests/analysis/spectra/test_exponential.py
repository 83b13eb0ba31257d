"""The exponential of a matrix by products, rightmost eigenvalues by it, and the bound on real parts."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from dynamics.analysis.spectra import bounds
from dynamics.analysis.spectra.bounds import abscissa_bound
from dynamics.analysis.spectra.exponential import (
    TRUNCATION,
    Box,
    Exponential,
    exponential,
    longest_series,
    rightmost,
    series_for,
)
from dynamics.analysis.spectra.krylov import krylov_schur
from dynamics.analysis.spectra.operators import Matrix

KEY = jax.random.key(0)
SIZE = 80


def strip(seed, planted=(), condition=1.0):
    """A matrix whose eigenvalues turn at frequencies up to 2 and decay at rates of .05 to .2, but for the planted."""
    random = np.random.default_rng(seed)
    turning, decay = random.uniform(0, 2, SIZE // 2), random.uniform(0.05, 0.2, SIZE // 2)
    for place, value in enumerate(planted):
        decay[place], turning[place] = -value.real, value.imag
    blocks = [np.array([[-a, -b], [b, -a]]) for a, b in zip(decay, turning, strict=True)]
    left, right = (np.linalg.qr(random.standard_normal((SIZE, SIZE)))[0] for _ in range(2))
    change = left * np.geomspace(1, condition, SIZE) @ right
    values = np.concatenate([-decay + 1j * turning, -decay - 1j * turning])
    return change @ scipy.linalg.block_diag(*blocks) @ np.linalg.inv(change), values


@pytest.mark.parametrize(
    "box", [Box(-0.1, 0.02, 2.0), Box(-50.0, 0.0, 3.0), Box(-1.0, 1.0, 1.0), Box(-1e-9, 0.0, 3.0), Box(-2.0, 1.0, 1e-9)]
)
def test_a_series_is_the_exponential_all_over_its_box(box):
    series = longest_series(box, 80)
    assert series.degree <= 80 and series.sign == (1 if box.height > box.width else -1)
    real, imaginary = np.linspace(box.left, box.right, 9), np.linspace(-box.height, box.height, 9)
    places = real[:, None] + 1j * imaginary
    x = (places - series.centre) / series.focus
    before, last = np.ones_like(x), x
    total = series.coefficients[0] + series.coefficients[1] * x
    for number in series.coefficients[2:]:
        before, last = last, 2 * x * last + series.sign * before
        total = total + number * last
    np.testing.assert_allclose(total, np.exp(series.time * (places - box.right)), atol=1.01 * TRUNCATION)
    assert series.time * max(box.height, box.width) > 10


@pytest.mark.parametrize("box", [Box(-0.1, 0.02, 2.0), Box(-50.0, 0.0, 3.0)])
def test_what_is_cut_off_is_bounded_in_any_ellipse(box):
    """With a hundred digits: the series against the exponential on ellipses that are much larger than its own."""
    series = longest_series(box, 40)
    for rho in (1.2, 2.0, 6.0):
        shift = 1 if series.sign > 0 else -1
        angles = np.exp(1j * np.linspace(0, np.pi, 7))
        places = series.centre + series.focus * (rho * angles - shift / (rho * angles)) / 2
        worst = 0.0
        for place in places:
            x = mpmath.mpc(place - series.centre) / series.focus
            before, last = mpmath.mpf(1), x
            total = mpmath.mpf(series.coefficients[0]) + mpmath.mpf(series.coefficients[1]) * x
            for number in series.coefficients[2:]:
                before, last = last, 2 * x * last + series.sign * before
                total += mpmath.mpf(number) * last
            exact = mpmath.exp(mpmath.mpf(series.time) * (mpmath.mpc(place) - series.right))
            worst = max(worst, float(abs(total - exact)))
        tail, size = series.tail(rho), np.sum(np.abs(series.coefficients) * rho ** np.arange(series.degree + 1))
        assert worst <= tail + 1e-13 * size
        assert tail <= max(100 * worst, 1e-4)


def test_the_exponential_of_a_matrix_and_of_its_transpose():
    matrix = strip(1, condition=5.0)[0][:30, :30]
    values = np.linalg.eigvals(matrix)
    series = longest_series(Box.around(values), 60)
    operator = Exponential.of(Matrix(matrix), series)
    expected = scipy.linalg.expm(series.time * (matrix - series.right * np.eye(30)))
    np.testing.assert_allclose(operator.as_matrix(), expected, atol=1e-4)
    np.testing.assert_allclose(operator.transposed().as_matrix(), expected.T, atol=1e-4)
    assert np.max(np.abs(expected - expected.T)) > 0.01
    assert series_for(Box(-1.0, 1.0, 1.0), 1e6) is None
    with pytest.raises(ValueError, match="finite size"):
        longest_series(Box(0.0, 0.0, 0.0), 10)


PLANTED = (-0.01 + 0.3j, -0.015 + 1.1j, -0.02 + 1.7j)


@pytest.mark.slow
def test_a_box_that_is_too_small_is_seen():
    """Its series favours the ends of the strip, with residuals that do not show it."""
    matrix, _ = strip(2, PLANTED)
    operator, series, _ = exponential(Matrix(matrix), Box(-0.2, 0.0, 1.2), key=KEY, degree=60)
    expected = scipy.linalg.expm(series.time * (matrix - series.right * np.eye(SIZE)))
    np.testing.assert_allclose(operator.as_matrix(), expected, atol=1e-2 * np.max(np.abs(expected)))


@pytest.mark.slow_cases("float64-10.0")
@pytest.mark.parametrize("dtype, condition", [(np.float64, 10.0), (np.float32, 1.0)])
@pytest.mark.slow_cases("float32-1.0")
def test_the_slow_modes_of_a_strip_are_found(dtype, condition):
    matrix, values = strip(3, PLANTED, condition)
    operator = Matrix(matrix.astype(dtype))
    probe = krylov_schur(operator, 6, np.real, key=KEY, basis=30, products=30, verify=False)
    pairs = rightmost(operator, 6, Box.around(probe.seen), probe.norm, key=KEY)
    assert np.all(pairs.converged) and pairs.products < 4000
    expected = values[np.argsort(-values.real)][:6]
    tolerance = 1e-6 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(np.sort_complex(pairs.values), np.sort_complex(expected), atol=tolerance)
    images = pairs.vectors @ matrix.T
    residuals = np.linalg.norm(images - pairs.values[:, None] * pairs.vectors, axis=1)
    np.testing.assert_allclose(residuals, pairs.residuals, atol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.slow_cases(
    "(-0.001+0.05j)-box0", "(0.001+1.9j)-box0", "(0.001+3.5j)-box1", "(0.001+1.9j)-box1", "None-box1", "None-box0"
)
@pytest.mark.parametrize("box", [Box(-0.25, 0.05, 2.2), Box(-0.1, -0.05, 1.0)])
@pytest.mark.parametrize("fast", [None, 1e-3 + 1.9j, 1e-3 + 3.5j, -1e-3 + 0.05j])
def test_the_bound_holds_whatever_the_box_was(fast, box):
    """A direction that expands may turn faster than anything that the box knows of."""
    for seed in range(3):
        matrix, values = strip(seed, () if fast is None else (fast,), 10.0**seed)
        bound = abscissa_bound(Matrix(matrix), box, key=jax.random.key(seed), products=1500)
        assert np.max(values.real) <= bound.value
        if fast is None or fast.imag < 3:
            assert bound.value < np.max(values.real) + 0.1
        assert bound.growth <= np.max(values.real) + 1e-3 * 10.0**seed


@pytest.mark.slow
def test_the_bound_on_all_others():
    matrix, values = strip(4, PLANTED, 3.0)
    operator, box = Matrix(matrix), Box(-0.25, 0.05, 2.2)
    known = rightmost(operator, 6, box, 3.0, key=KEY, tolerance=1e-10)
    box = Box(-0.25, 0.0, 2.1)
    bound = abscissa_bound(operator, box, key=KEY, without=known.basis, products=3000)
    others = np.sort(values.real)[::-1][6]
    assert others <= bound.value < others + 0.02 and bound.growth < -0.045
    missed = abscissa_bound(operator, box, key=KEY, without=known.basis[:2], products=3000)
    assert missed.growth > -0.02  # one of them is not taken out, and shows
    early = abscissa_bound(operator, box, key=KEY, without=known.basis, products=3000, below=0.0)
    assert early.products < bound.products and early.value < 0
    everything = abscissa_bound(Matrix(-np.eye(2)), box, key=KEY, without=np.eye(2))
    assert everything.value == -np.inf


@pytest.mark.parametrize("matrix", [-np.eye(SIZE), np.zeros((SIZE, SIZE)), np.diag(np.ones(SIZE - 1), 1)])
def test_the_bound_of_special_matrices(matrix):
    true = np.max(np.diag(matrix))
    bound = abscissa_bound(Matrix(matrix), Box.around(np.diag(matrix) + 1e-3), key=KEY, products=1000)
    assert true <= bound.value < true + 1.2


def test_how_probable_a_failure_is():
    """A start has a component of less than the allowed size along a direction with at most that probability."""
    for delta in (0.5, 0.1, 1e-2):
        size = np.exp(-bounds._constant(delta**3, 3))
        probability = 2 * scipy.stats.norm.cdf(size) - 1
        assert 0.6 * delta < probability <= delta


def test_series_of_one_program():
    """Another series, another degree: other numbers."""
    operator = Matrix(jnp.asarray(strip(5)[0]))
    matrices = [
        Exponential.of(operator, longest_series(Box(-0.25, 0.05, height), degree)).as_matrix()
        for height, degree in ((2.2, 40), (3.0, 70))
    ]
    assert np.max(np.abs(matrices[0] - matrices[1])) > 0.05
