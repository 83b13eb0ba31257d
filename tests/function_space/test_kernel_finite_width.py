"""Networks of finite width against their limit: the error falls as one over the root of the width."""

import jax
import numpy as np
import pytest

from dynamics.function_space import discriminator_width_errors, kernel_width_errors, kernels
from dynamics.objectives import LeastSquares

POINTS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])


@pytest.mark.slow
def test_small_widths_come_closer():
    """Eight times the width is about three times closer."""
    result = kernel_width_errors(
        kernels.NeuralTangent(1, kernels.Erf()), POINTS, (16, 128), seeds=12, key=jax.random.key(0), chunk=None
    )
    assert result.errors.shape == (2, 12) and -0.75 < result.slope < -0.3
    assert abs(result.slope + 0.5) < 3 * result.standard_error
    with pytest.raises(ValueError, match="two different ones"):
        kernel_width_errors(kernels.NeuralTangent(1), POINTS, (16,), key=jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("activation", [kernels.ReLU(), kernels.Erf()], ids=["relu", "erf"])
def test_kernels_from_32_to_4096_units(activation):
    result = kernel_width_errors(
        kernels.NeuralTangent(2, activation), POINTS, 2 ** np.arange(5, 13, dtype=int), seeds=6, key=jax.random.key(1)
    )
    assert abs(result.slope + 0.5) < max(3 * result.standard_error, 0.05), result
    assert np.sqrt((result.errors[-1] ** 2).mean()) < 0.07


@pytest.mark.slow
def test_discriminators_of_finite_width():
    random = np.random.default_rng(0)
    real, fake, places = random.normal(size=(4, 2)) + 1, random.normal(size=(3, 2)), random.normal(size=(6, 2))
    result = discriminator_width_errors(
        kernels.NeuralTangent(1),
        real,
        fake,
        places,
        (32, 128, 512, 2048),
        objective=LeastSquares(),
        time=2.0,
        seeds=6,
        key=jax.random.key(2),
    )
    assert abs(result.slope + 0.5) < max(3 * result.standard_error, 0.1), result
    assert np.sqrt((result.errors[-1] ** 2).mean()) < 0.05
