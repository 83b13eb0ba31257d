"""Numerical abscissa and radius against closed forms and points of the numerical range."""

import numpy as np
import pytest
import scipy.linalg
from nonnormal_matrices import KINDS, stable

import dynamics as dy


def test_the_numerical_radius_of_a_nilpotent_block():
    for size in (2, 3, 7):
        np.testing.assert_allclose(dy.numerical_radius(np.eye(size, k=1)), np.cos(np.pi / (size + 1)), rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numerical_range_by_brute_force(kind):
    matrix = stable(7, 4, kind)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 4)) + 1j * rng.normal(size=(200_000, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    points = np.einsum("ki,ij,kj->k", x.conj(), matrix, x)
    assert points.real.max() <= dy.numerical_abscissa(matrix) <= points.real.max() + 0.3
    assert np.abs(points).max() <= dy.numerical_radius(matrix) <= np.abs(points).max() + 0.3
    rotated = np.exp(1j * np.linspace(0, 2 * np.pi, 20_001))[:, None, None] * matrix
    fine = np.linalg.eigvalsh((rotated + rotated.conj().swapaxes(1, 2)) / 2).max()
    np.testing.assert_allclose(dy.numerical_radius(matrix), fine, rtol=1e-6)
    # The slope of the norm at the start.
    if kind == "flow":
        slope = (np.linalg.norm(scipy.linalg.expm(1e-6 * matrix), 2) - 1) / 1e-6
        np.testing.assert_allclose(dy.numerical_abscissa(matrix), slope, rtol=1e-4)
