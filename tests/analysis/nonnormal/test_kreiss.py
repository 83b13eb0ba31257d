"""The Kreiss constant against quotients on a grid, and its theorem."""

import numpy as np
import pytest
from nonnormal_matrices import KINDS, smallest, stable

import dynamics as dy
from dynamics.analysis import distance_to_instability


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed, size", [(0, 2), (1, 3), (2, 5), (3, 8)])
def test_random_matrices_by_quotients_on_a_grid(kind, seed, size):
    matrix = stable(seed, size, kind)
    distance = distance_to_instability(matrix, kind=kind).distance
    # Quotients on a fine grid come close to the Kreiss constant from below.
    kreiss = dy.kreiss_constant(matrix, kind=kind)
    x = np.geomspace(distance, 1e2, 150)
    y = np.linspace(0, 1.2 * np.linalg.norm(matrix, 2), 400) if kind == "flow" else np.linspace(0, np.pi, 400)
    points = x[:, None] + 1j * y if kind == "flow" else (1 + x[:, None]) * np.exp(1j * y)
    brute = np.max(x / smallest(matrix, points).min(axis=1))
    assert brute <= kreiss.constant * (1 + 1e-9) and kreiss.constant <= 1.01 * brute
    assert kreiss.constant <= kreiss.upper <= 1.02 * kreiss.constant
    if np.isfinite(kreiss.point):
        x = kreiss.point.real if kind == "flow" else abs(kreiss.point) - 1
        np.testing.assert_allclose(x / smallest(matrix, kreiss.point), kreiss.constant, rtol=1e-7)
    # The matrix theorem of Kreiss.
    growth = dy.transient_growth(matrix, kind=kind).growth
    assert kreiss.constant <= growth * (1 + 1e-9) <= np.e * size * kreiss.constant
