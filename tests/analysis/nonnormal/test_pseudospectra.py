"""Pseudospectra against eigenvalues of perturbed matrices and singular values."""

import numpy as np
import pytest
from nonnormal_matrices import KINDS, smallest, stable

import dynamics as dy


@pytest.mark.slow_cases("flow")
@pytest.mark.parametrize("kind", KINDS)
def test_pseudospectra_hold_the_perturbed_eigenvalues(kind):
    matrix, epsilon = stable(4, 4, kind), 0.05
    result = dy.pseudospectrum(matrix, -2 - 1j, 1 + 2j, 31, epsilons=(epsilon,), kind=kind)
    assert (result.real[0], result.real[-1], result.imaginary[0], result.imaginary[-1]) == (-2, 1, -1, 2)
    z = result.real + 1j * result.imaginary[:, None]
    np.testing.assert_allclose(result.smallest, smallest(matrix, z), atol=1e-13)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 4, 4)) + 1j * rng.normal(size=(4000, 4, 4))
    noise *= epsilon / np.linalg.norm(noise, 2, axis=(1, 2))[:, None, None]
    values = np.linalg.eigvals(matrix + noise)
    largest = values.real.max() if kind == "flow" else np.abs(values).max()
    assert largest <= result.reach[0] <= largest + 0.5
    # A fine grid: the outermost point where the smallest singular value is below epsilon.
    x, y = np.linspace(-1, 3, 401), np.linspace(0, 4, 401)
    inside = (x + 1j * y[:, None])[smallest(matrix, x + 1j * y[:, None]) <= epsilon]
    outermost = inside.real.max() if kind == "flow" else np.abs(inside).max()
    np.testing.assert_allclose(result.reach[0], outermost, atol=0.015)


def test_large_matrices_go_by_lanczos_iterations():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(34, 34)) / np.sqrt(34) - 1.5 * np.eye(34) + 0.3 * np.eye(34, k=1)
    result = dy.pseudospectrum(matrix, points=9, epsilons=(0.1,), kind="flow")
    z = result.real + 1j * result.imaginary[:, None]
    np.testing.assert_allclose(result.smallest, smallest(matrix, z), rtol=1e-3)
