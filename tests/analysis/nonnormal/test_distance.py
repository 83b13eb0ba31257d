"""The distance to instability against a certified search along the boundary."""

import numpy as np
import pytest
from nonnormal_matrices import KINDS, certified_distance, stable

from dynamics.analysis import distance_to_instability


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed, size", [(0, 2), (1, 3), (2, 5), (3, 8)])
def test_random_matrices_by_a_certified_search(kind, seed, size):
    matrix = stable(seed, size, kind)
    distance = distance_to_instability(matrix, kind=kind)
    np.testing.assert_allclose(distance.distance, certified_distance(matrix, kind), rtol=2e-5)
    # The perturbation does what it says.
    np.testing.assert_allclose(np.linalg.norm(distance.perturbation, 2), distance.distance, rtol=1e-9)
    moved = np.linalg.eigvals(matrix + distance.perturbation)
    assert np.min(np.abs(moved - distance.point)) < 1e-6
