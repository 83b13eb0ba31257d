"""Kernels of many pairs: machine code against the plain programs, in values, gradients and their derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.compiler.batch import interpreter
from dynamics.compiler.fallback import CompilerWarning
from dynamics.function_space import KernelFunction, kernels
from dynamics.function_space.kernel_flows import SPACES, decaying_integral
from dynamics.function_space.kernels import pairs

RANDOM = np.random.default_rng(5)
ROWS, COLUMNS = RANDOM.normal(size=(105, 2)), RANDOM.normal(size=(128, 2))
COLUMNS[:20] = ROWS[:20]  # kinks
WEIGHTS = RANDOM.normal(size=128)
KERNELS = {
    "relu": kernels.NeuralTangent(2, kernels.ReLU(0.2), 1.3, 0.6, True),
    "without bias": kernels.NeuralTangent(2, bias_scale=0.0),
    "erf": kernels.NeuralTangent(2, kernels.Erf(), 1.2),
    "sine": kernels.NetworkGaussianProcess(2, kernels.Sine(0.7, 0.4)),
    "sum": kernels.Sum(kernels.Gaussian(0.7), kernels.NeuralTangent(1), weights=(2.0, 0.5)),
}


@pytest.mark.slow_cases("relu", "without bias", "erf", "sine")
@pytest.mark.parametrize("name", KERNELS)
def test_machine_code_has_the_numbers_of_the_plain_program(name, caplog):
    kernel, rows, columns = KERNELS[name], jnp.asarray(ROWS), jnp.asarray(COLUMNS)
    assert pairs._is_worth_it(kernel, rows, columns)
    with caplog.at_level("INFO", logger="dynamics.compiler"):
        matrix = jax.jit(pairs.matrix)(kernel, rows, columns)
        function = KernelFunction(kernel, columns, WEIGHTS, 0.3)
        values, pullback = jax.vjp(jax.jit(lambda rows: function.at(rows)), rows)
    assert "left to XLA" not in caplog.text and "machine code" in caplog.text
    plain = pairs._plain_matrix(kernel, rows, columns)
    np.testing.assert_allclose(matrix, plain, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(values, 0.3 + plain @ WEIGHTS, rtol=1e-10, atol=1e-12)
    gradients = jax.vmap(jax.grad(lambda x: jnp.sum(WEIGHTS * jax.vmap(lambda y: kernel(x, y))(columns))))(rows)
    np.testing.assert_allclose(pullback(jnp.ones(105))[0], gradients, rtol=1e-10, atol=1e-11)


def test_gradients_can_be_differentiated_again():
    """Along the rows twice, and along what else the sum depends on."""
    rows, columns = jnp.asarray(ROWS), jnp.asarray(COLUMNS)
    kernel = kernels.Gaussian(1.1)

    def total(kernel, rows, columns, weights):
        return jnp.sum(jnp.sin(KernelFunction(kernel, columns, weights).at(rows)))

    def plain(kernel, rows, columns, weights):
        return jnp.sum(jnp.sin(pairs._plain_matrix(kernel, rows, columns) @ weights))

    arguments, changes = (kernel, rows, columns, jnp.asarray(WEIGHTS)), []
    for leaf in jax.tree.leaves(arguments):
        changes.append(jnp.asarray(np.cos(np.arange(leaf.size)).reshape(leaf.shape)))
    changes = jax.tree.unflatten(jax.tree.structure(arguments), changes)
    ours, expected = (
        jax.jit(lambda *a, f=f: eqx.filter_jvp(jax.grad(f, (0, 1, 2, 3)), a, changes)) for f in (total, plain)
    )
    for one, other in zip(*(jax.tree.leaves(f(*arguments)) for f in (ours, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_batches_single_precision_and_symmetry():
    kernel, rows, columns = KERNELS["sum"], jnp.asarray(ROWS, jnp.float32), jnp.asarray(COLUMNS, jnp.float32)
    function = jax.jit(
        jax.vmap(
            lambda shift: jax.grad(
                lambda rows: KernelFunction(kernel, columns, WEIGHTS.astype(np.float32)).at(rows).sum()
            )(rows + shift)
        )
    )
    shifts = jnp.asarray([0.0, 0.5], jnp.float32)
    for shift, gradients in zip(shifts, function(shifts), strict=True):
        assert gradients.dtype == jnp.float32
        double = KernelFunction(kernel, COLUMNS, WEIGHTS)
        exact = jax.vmap(jax.grad(double))(jnp.asarray(rows + shift, float))
        # Where points meet in one precision and not in the other, the kink of ReLU turns its gradient.
        apart = np.abs(np.asarray(rows + shift)[:, None] - COLUMNS).max(-1).min(1) > 1e-3
        np.testing.assert_allclose(gradients[apart], exact[apart], atol=2e-4)
    many = jnp.asarray(RANDOM.normal(size=(pairs.ROW_BLOCKS * pairs.TILE + 3, 2)))
    matrix = np.asarray(kernels.Gaussian(0.8).matrix(many))
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix, kernels.Gaussian(0.8).matrix(many, many), rtol=1e-14)


def test_without_the_compiler(monkeypatch):
    kernel, rows, columns = kernels.Gaussian(0.9), jnp.asarray(ROWS), jnp.asarray(COLUMNS)
    expected = pairs._plain_matrix(kernel, rows, columns)

    def broken(*_, **__):
        raise RuntimeError("another version")

    with monkeypatch.context() as changed:
        changed.setattr(interpreter, "batch_last_axis", broken)
        with pytest.warns(CompilerWarning, match="another version"):
            np.testing.assert_allclose(jax.jit(pairs.matrix)(kernel, rows, columns), expected, rtol=1e-14)
    monkeypatch.setenv("DYNAMICS_COMPILER", "off")
    assert not pairs._is_worth_it(kernel, rows, columns)
    np.testing.assert_allclose(pairs.matrix(kernel, rows, columns), expected, rtol=1e-14)


@pytest.mark.slow_cases("40.0", "0.3", "100000.0")
@pytest.mark.parametrize("time", [0.3, 40.0, 1e5])
def test_integrals_in_krylov_spaces(time):
    """Against all eigenvalues; the largest time is beyond what the spaces reach, and is seen to be."""
    points = RANDOM.normal(size=(4 * SPACES[1], 2))
    matrix, vector = np.asarray(kernels.NeuralTangent(2).matrix(points)) / len(points), RANDOM.normal(size=len(points))
    values, basis = np.linalg.eigh(matrix)
    values = np.maximum(values, 1e-300)
    exact = basis @ (-np.expm1(-time * values) / values * (basis.T @ vector))
    both = jax.jit(jax.vmap(decaying_integral, (None, None, 0)))(matrix, time, np.stack([vector, 0 * vector]))
    np.testing.assert_allclose(matrix @ both[0], matrix @ exact, atol=1e-12 * max(1, time * 1e-3))
    np.testing.assert_allclose(both[0], exact, atol=1e-12 * time)
    assert (both[1] == 0).all()
