"""The Gaussian GAN in Hermite polynomials against its exact spectrum and SciPy's polynomials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import dynamics as dy
from dynamics.analysis import Leading
from dynamics.games import HermiteGAN
from dynamics.games.hermite_gan import hermite


def jacobian_of(game):
    size = game.degree

    def field(z):
        return jnp.concatenate(game.field((z[:size], z[size:])))

    return np.asarray(jax.jit(jax.jacobian(field))(jnp.zeros(2 * size)))


def blocks(degree, gamma, kappa, generator, fake):
    """The Jacobian of the field from h', b' and a'' + b'' at the ideal score."""
    k = np.arange(1, degree + 1)
    coupling = np.diag(np.sqrt(k))
    return np.block(
        [[np.zeros((degree, degree)), -generator * coupling], [-fake * coupling, -np.diag(kappa + gamma * k)]]
    )


@pytest.mark.parametrize("count", [2, 7, 30])
def test_polynomials_against_scipy(count):
    points = np.linspace(-4, 5, 13)
    values = jax.vmap(lambda x: hermite(x, count))(points)
    expected = [scipy.special.eval_hermitenorm(k, points) / np.sqrt(scipy.special.factorial(k)) for k in range(count)]
    np.testing.assert_allclose(values, np.stack(expected, axis=1), rtol=1e-11, atol=1e-11)


@pytest.mark.slow_cases("objective1-0.0--1.0-1.0")
@pytest.mark.parametrize(
    "objective, kappa, generator, fake",
    [
        (dy.objectives.NonSaturating(), 0.5, -0.5, 0.5),
        (dy.objectives.Wasserstein(), 0.0, -1.0, 1.0),
        (dy.objectives.LeastSquares(0.0, 1.0, 1.5), 2.0, -1.0, 0.5),
    ],
)
def test_every_degree_is_a_game_of_two_numbers(objective, kappa, generator, fake):
    degree, gamma = 12, 0.3
    jacobian = jacobian_of(HermiteGAN(degree, objective, dy.penalties.R1(gamma)))
    expected = blocks(degree, gamma, kappa, generator, fake)
    np.testing.assert_allclose(jacobian, expected, atol=2e-13)
    k = np.arange(1, degree + 1)
    discriminant = np.sqrt(((kappa + gamma * k) ** 2 / 4 + generator * fake * k).astype(complex))
    roots = np.concatenate([-(kappa + gamma * k) / 2 + sign * discriminant for sign in (1, -1)])
    distances = np.abs(np.linalg.eigvals(jacobian)[:, None] - roots)
    assert distances.min(axis=0).max() < 1e-6 and distances.min(axis=1).max() < 1e-6


def test_degree_one_is_the_dirac_gan_with_spread():
    """A shift and a slope: with data and latents in one point it is the Dirac-GAN, up to the sign of the score."""
    game = HermiteGAN(1, penalty=dy.penalties.R1(0.3), std=0.0)
    theta, psi = jnp.asarray([0.7]), jnp.asarray([-0.4])
    field = game.field((theta, psi))
    dirac = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)).field((theta[0], -psi[0]))
    np.testing.assert_allclose([field[0][0], -field[1][0]], dirac, rtol=1e-13)


@pytest.mark.slow
def test_hundreds_of_degrees_by_products_alone():
    gamma, degree = 0.3, 200
    game = HermiteGAN(degree, penalty=dy.penalties.R1(gamma))
    flow = dy.flows.Flow()
    report = dy.stability(game, flow, leading=Leading(6, products=4_000))
    k = np.arange(1, degree + 1)
    discriminant = np.sqrt(((0.5 + gamma * k) ** 2 / 4 - k / 4).astype(complex))
    roots = np.concatenate([-(0.5 + gamma * k) / 2 + sign * discriminant for sign in (1, -1)])
    assert report.size == 400 and report.verdict != "unstable"
    assert np.max(np.min(np.abs(report.eigenvalues[:6, None] - roots), axis=1)) < 1e-8
    assert abs(report.eigenvalues[0].real - roots.real.max()) < 1e-8


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: HermiteGAN(0), "degree is 0; expected a whole number >= 1"),
        (lambda: HermiteGAN(257), "degree is 257; expected a whole number from 1 to 256"),
        (lambda: HermiteGAN(2, std=-1.0), "std is -1"),
        (lambda: HermiteGAN(2).field((jnp.zeros(2), jnp.zeros(3))), r"psi has shape \(3,\); expected \(2,\)"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
