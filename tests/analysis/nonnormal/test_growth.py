"""Transient growth against norms of powers and exponentials: how large, when, and in which direction."""

import numpy as np
import pytest
import scipy.linalg
from nonnormal_matrices import KINDS, spectral_norms, stable

import dynamics as dy


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed, size", [(0, 2), (1, 3), (2, 5), (3, 8)])
def test_random_matrices_by_norms_over_time(kind, seed, size):
    matrix = stable(seed, size, kind)
    growth = dy.transient_growth(matrix, kind=kind)
    times = np.linspace(0, 40, 4001) if kind == "flow" else np.arange(200)
    brute = spectral_norms(matrix, kind, times).max()
    assert brute <= growth.growth * (1 + 1e-9) and growth.growth <= brute * 1.001
    assert growth.growth <= growth.bound <= 1.5 * growth.growth
    power = (
        scipy.linalg.expm(growth.time * matrix) if kind == "flow" else np.linalg.matrix_power(matrix, int(growth.time))
    )
    np.testing.assert_allclose(np.linalg.norm(growth.initial), 1, rtol=1e-12)
    np.testing.assert_allclose(power @ growth.initial, growth.final, atol=1e-9 * growth.growth)
    np.testing.assert_allclose(np.linalg.norm(growth.final), growth.growth, rtol=1e-9)
    np.testing.assert_allclose(growth.norms, spectral_norms(matrix, kind, growth.times), rtol=1e-6)
