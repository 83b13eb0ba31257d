"""Every objective at the equilibrium of the Dirac-GAN, where all follows from two derivatives at score 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics import catalogue, objectives
from dynamics.games import DiracGAN
from dynamics.penalties import R1

E = np.exp(-1)
# Derivatives at score 0 of what the generator and of what the discriminator pays for a fake sample, and the second one
# of the latter: slopes h' and b', curvature b''.
SLOPES = {
    "Minimax": (-1 / 2, 1 / 2, 1 / 4),
    "NonSaturating": (-1 / 2, 1 / 2, 1 / 4),
    "LeastSquares": (0, 1, 1),  # c = 0: no push at the equilibrium
    "Wasserstein": (-1, 1, 0),
    "Hinge": (-1, 1, 0),
    "Brier": (-1 / 4, 1 / 4, 1 / 8),
    "Exponential": (-1 / 2, 1 / 2, 1 / 4),
    "Misclassification": (0, 0, 0),
    "Spherical": (-(2**-1.5), 2**-1.5, 2**-2.5),
    "AlphaLoss": (-1 / 2, 1 / 2, 1 / 4),
    "KL": (-E, E, E),  # its ideal score is 1, which a score without a bias never has
    "ReverseKL": (-1, 1, 0),
    "Pearson": (-1, 1, 1 / 2),
    "Neyman": (-1, 1, -1 / 2),
    "SquaredHellinger": (-1, 1, 1),
    "JensenShannon": (-1 / 4, 1 / 4, 1 / 8),
    "TotalVariation": (-1 / 2, 1 / 2, 0),
    "FGAN": (-1, 1, 1),
    "RelativisticPaired": (-1 / 2, 1 / 2, 1 / 4),
    "RelativisticAverage": (-1, 1, 1 / 2),
    "RelativisticCentred": (-1 / 2, 1 / 2, 1 / 8),
    "GaussianMMD": (0, 0, -2),
    "RationalQuadraticMMD": (0, 0, -10),
    "EnergyDistance": (0, 0, 0),
    "MDGAN": (0, 0, 4.4514),  # half way between its corners
    "PGAN": (-1, 1, 1),
}


FEW = ["LeastSquares", "Brier", "KL", "Neyman", "RelativisticPaired", "RelativisticCentred"]  # all in the slow tests


@functools.cache
def fields(every):
    """The field of objectives, and its Jacobian: one program."""

    def everything(point):
        computed = {}
        for name in SLOPES if every else FEW:
            game = DiracGAN(getattr(objectives, name)())

            def field(z, game=game):
                return jnp.stack(game.field((z[0], z[1])))

            computed[name] = field(point), jax.jacfwd(field)(point)
        return computed

    return jax.jit(everything)


def test_every_objective_is_here():
    assert set(SLOPES) == set(catalogue.members("objectives"))


@pytest.mark.slow_cases("few", "all")
@pytest.mark.parametrize("every", [False, True], ids=["few", "all"])
def test_the_origin_is_an_equilibrium_that_nothing_damps(every):
    for name, (field, jacobian) in fields(every)(jnp.zeros(2)).items():
        push, pull, _ = SLOPES[name]
        np.testing.assert_array_equal(field, 0, err_msg=name)
        np.testing.assert_allclose(jacobian, [[0, push], [pull, 0]], atol=1e-15, err_msg=name)


@pytest.mark.slow_cases("all", "few")
@pytest.mark.parametrize("every", [False, True], ids=["few", "all"])
def test_away_from_the_origin_the_discriminator_is_damped_by_its_own_curvature(every):
    """At psi = 0 the field's slope along psi is -theta^2 b''(0)."""
    theta = 0.5
    for name, (_, jacobian) in fields(every)(jnp.asarray([theta, 0.0])).items():
        if name == "EnergyDistance":
            continue  # a kink
        np.testing.assert_allclose(jacobian[1, 1], -(theta**2) * SLOPES[name][2], 1e-4, 1e-14, err_msg=name)


WEIGHT = 0.3
SLOW = [name for name in SLOPES if name != "RelativisticPaired"]


@pytest.mark.slow_cases("RelativisticPaired")
@pytest.mark.slow_cases(*SLOW)
@pytest.mark.parametrize("name", SLOPES)
def test_verdicts_at_the_equilibrium(name):
    push, pull, _ = SLOPES[name]
    game = DiracGAN(getattr(objectives, name)(), R1(WEIGHT))
    report = dy.stability(game, dy.flows.Flow())
    if push:
        root = np.sqrt(complex(WEIGHT**2 / 4 + push * pull))
        expected = np.sort_complex([-WEIGHT / 2 - root, -WEIGHT / 2 + root])
        np.testing.assert_allclose(np.sort_complex(report.eigenvalues), expected, atol=1e-12)
        assert report.verdict == "stable"
    else:  # no push: theta is neutral, and linear terms do not decide
        np.testing.assert_allclose(np.sort(np.real(report.eigenvalues)), [-WEIGHT, 0], atol=1e-12)
        assert report.verdict in ("neutral", "marginal", "stable")
