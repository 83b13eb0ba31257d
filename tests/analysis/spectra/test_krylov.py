"""Leading eigenvalues of matrices with known spectra, and bounds on all others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from compilations import compiled

from dynamics.analysis.spectra.bounds import radius_bound
from dynamics.analysis.spectra.krylov import krylov_schur
from dynamics.analysis.spectra.operators import FunctionOperator, Matrix, Scaled

KEY = jax.random.key(3)


def similar(matrix, condition, seed=0):
    """The matrix in coordinates with an eigenvector basis of about this condition."""
    random, size = np.random.default_rng(seed), len(matrix)
    left, right = (np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(2))
    change = left * np.geomspace(1, condition, size) @ right
    return change @ matrix @ np.linalg.inv(change)


def gaussian_gan(degree, gamma):
    r"""The field of a Gaussian GAN in function space (WGAN, R1), $\mu^2 + \gamma k\mu + k = 0$, and its spectrum."""
    matrix, values = np.zeros((2 * degree, 2 * degree)), []
    for k in range(1, degree + 1):
        matrix[2 * k - 2 : 2 * k, 2 * k - 2 : 2 * k] = [[0, -np.sqrt(k)], [np.sqrt(k), -gamma * k]]
        values += list(np.roots([1, gamma * k, k]))
    return matrix, np.array(values)


def matched(values, truth, errors):
    """Every value that was computed is an eigenvalue, within its error, and none of the true ones is used twice."""
    left = list(truth)
    for value, error in zip(values, errors, strict=True):
        nearest = int(np.argmin(np.abs(np.array(left) - value)))
        assert abs(left.pop(nearest) - value) <= error, (value, error)


@pytest.mark.slow_cases(
    "float32-1000.0", "float64-10.0", "float32-10.0", "float32-1.0", "float64-1.0", "float64-1000.0"
)
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_gaussian_gan_of_any_degree(condition, dtype):
    matrix, truth = gaussian_gan(60, 0.3)
    operator = Matrix(jnp.asarray(similar(matrix, condition), dtype))
    pairs = krylov_schur(operator, 6, lambda values: values.real, key=KEY)
    # A simple eigenvalue is wrong by its condition times the residual; that of a similarity bounds all of these.
    bound = np.linalg.cond(np.linalg.eig(matrix)[1]) * condition
    rounding = 8 * float(jnp.finfo(dtype).eps) * np.linalg.norm(similar(matrix, condition), 2)
    assert np.all(pairs.converged) and len(pairs.values) == 6
    matched(pairs.values, truth, bound * (pairs.residuals + rounding))
    best = np.sort(truth.real)[::-1][:6]
    np.testing.assert_allclose(
        np.sort(pairs.values.real)[::-1], best, atol=bound * (np.max(pairs.residuals) + rounding)
    )


@pytest.mark.slow
def test_slow_pairs_at_all_frequencies_of_an_operator_that_is_no_matrix():
    size, pairs = 2000, 5
    frequencies = np.linspace(0.2, 1.9, pairs)
    rates = np.concatenate([-0.001 * np.arange(1, pairs + 1), -np.linspace(0.5, 1.5, size // 2 - pairs)])
    turning = np.concatenate([frequencies, np.linspace(0, 2, size // 2 - pairs)])

    def multiply(parameters, vector):
        real, imaginary = parameters
        a, b = jax.scipy.fft.dct(vector, norm="ortho").reshape(2, -1)
        return jax.scipy.fft.idct(jnp.concatenate([real * a - imaginary * b, imaginary * a + real * b]), norm="ortho")

    operator = FunctionOperator(multiply, (jnp.asarray(rates), jnp.asarray(turning)), size, jnp.float64)
    vector = np.random.default_rng(0).standard_normal(size)
    a, b = scipy.fft.dct(vector, norm="ortho").reshape(2, -1)
    expected = scipy.fft.idct(np.concatenate([rates * a - turning * b, turning * a + rates * b]), norm="ortho")
    np.testing.assert_allclose(operator @ vector, expected, atol=1e-12)
    leading = krylov_schur(operator, 2 * pairs, lambda values: values.real, key=KEY)
    truth = np.concatenate([rates + 1j * turning, rates - 1j * turning])
    matched(leading.values, truth, leading.residuals + 1e-12)
    np.testing.assert_allclose(np.sort(leading.values.real), np.sort(np.repeat(rates[:pairs], 2)), atol=1e-9)


@pytest.mark.slow
def test_a_planted_unstable_pair_among_values_near_one():
    random = np.random.default_rng(1)
    block = 1.001 * np.array([[np.cos(1.3), -np.sin(1.3)], [np.sin(1.3), np.cos(1.3)]])
    matrix = np.zeros((402, 402))
    matrix[:2, :2], matrix[2:, 2:] = block, np.diag(1 - 1e-3 * random.uniform(1, 20, 400))
    change = np.linalg.qr(random.standard_normal((402, 402)))[0]
    scales = 2.0 ** random.integers(-3, 4, 402)
    matrix = (change @ matrix @ change.T) * scales / scales[:, None]
    shifted = Scaled(Matrix(jnp.asarray(matrix)), jnp.asarray(1 / scales), 1.0)
    pairs = krylov_schur(shifted, 3, lambda values: np.abs(1 + values), key=KEY)
    largest = pairs.values[:2] + 1
    np.testing.assert_allclose(np.sort_complex(largest), np.sort_complex(1.001 * np.exp([1.3j, -1.3j])), atol=1e-10)


@pytest.mark.slow_cases("matrix3-1", "matrix0-3", "matrix1-3")
@pytest.mark.parametrize("matrix, count", [(np.zeros((9, 9)), 3), (np.eye(7), 3), (np.eye(2), 5), (3 * np.eye(1), 1)])
def test_multiple_eigenvalues_come_more_than_once(matrix, count):
    pairs = krylov_schur(Matrix(matrix), count, np.abs, key=KEY)
    expected = min(count, len(matrix))
    np.testing.assert_allclose(pairs.values, matrix[0, 0] * np.ones(expected), atol=1e-12)
    np.testing.assert_allclose(pairs.basis @ pairs.basis.T, np.eye(expected), atol=1e-12)


def test_no_pair_is_parted():
    turning = np.kron(np.diag([1.0, 0.9, 0.8, 0.7]), np.array([[0.6, -0.8], [0.8, 0.6]]))
    pairs = krylov_schur(Matrix(similar(turning, 5.0)), 3, np.abs, key=KEY)
    assert len(pairs.values) == 4
    np.testing.assert_allclose(np.abs(pairs.values), [1, 1, 0.9, 0.9], atol=1e-9)


def test_what_is_not_finite_is_said():
    with pytest.raises(FloatingPointError, match="not finite"):
        krylov_schur(Matrix(np.full((4, 4), np.nan)), 2, np.abs, key=KEY)


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_one(seed):
    """Over normal and far from normal matrices, all of the spectrum or what an invariant subspace leaves of it."""
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((40, 40)) / 7 + (
        5 * np.triu(random.standard_normal((40, 40)), 1) if seed % 2 else 0
    )
    values = np.linalg.eigvals(matrix)
    operator = Matrix(matrix)
    bound = radius_bound(operator, key=jax.random.key(seed), products=400)
    assert np.max(np.abs(values)) <= bound.value < 1.25 * np.max(np.abs(values)) + 0.02
    pairs = krylov_schur(operator, 4, np.abs, key=KEY, basis=30)
    others = np.sort(np.abs(values))[::-1][len(pairs.values) :]
    rest = radius_bound(operator, key=jax.random.key(seed), without=pairs.basis, products=400)
    assert others[0] - 1e-9 <= rest.value < 1.3 * others[0] + 0.02


def test_the_bound_of_a_defective_matrix_and_of_a_nilpotent_one():
    jordan = 0.9 * np.eye(12) + np.diag(np.ones(11), 1)
    assert 0.9 <= radius_bound(Matrix(jordan), key=KEY, products=3000).value < 0.95
    assert radius_bound(Matrix(np.diag(np.ones(5), 1)), key=KEY, products=100).value == 0


@pytest.mark.slow
def test_compiled_quickly_it_is_the_same():
    matrix, truth = gaussian_gan(40, 0.3)
    operator = Matrix(jnp.asarray(similar(matrix, 10.0)))
    values = krylov_schur(operator, 4, lambda values: values.real, key=KEY, quickly=True).values
    matched(values, truth, np.full(len(values), 1e-7))
    contracting = Matrix(operator.entries / (2 * np.abs(truth).max()))
    bounds = [radius_bound(contracting, key=KEY, products=100, quickly=quickly).value for quickly in (False, True)]
    np.testing.assert_allclose(bounds[1], bounds[0], rtol=1e-9)
    assert bounds[1] >= 0.5


def test_another_matrix_compiles_nothing():
    first, second = (Matrix(similar(np.diag(np.linspace(0, 1, 30)), 3.0, seed)) for seed in range(2))
    krylov_schur(first, 2, np.abs, key=KEY)
    with compiled() as programs:
        krylov_schur(second, 2, np.abs, key=jax.random.key(8))
    assert programs.count == 0
