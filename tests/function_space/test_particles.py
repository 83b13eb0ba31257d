"""Particles against SciPy, how many equilibria there are and of which kind, and mixtures that restore one."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import dynamics as dy
from dynamics.compiler.derivatives import released
from dynamics.function_space import DensityGAN, ParticleGAN, sampled_game

DATA = np.array([-2.0, 0.3, 2.2])
PLACES = np.array([-1.4, 0.1, 0.5])


def mixture(centres, std):
    return lambda x: np.mean(scipy.stats.norm.pdf(np.asarray(x)[..., None], centres, std), axis=-1)


@pytest.mark.slow
def test_divergence_and_field_by_quadrature():
    std, x = 0.6, np.linspace(-9, 9, 40_001)
    game = ParticleGAN(DATA, std, dy.objectives.NonSaturating(), nodes=60)
    p, q = mixture(DATA, std)(x), mixture(PLACES, std)(x)
    js = np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), x)
    players = (jnp.asarray(PLACES),)
    np.testing.assert_allclose(game.divergence(players), js, rtol=1e-6)
    score = np.log(p / q)
    slope = np.gradient(np.log1p(np.exp(-score)), x, edge_order=2)
    expected = [-np.trapezoid(scipy.stats.norm.pdf(x, place, std) * slope, x) / 3 for place in PLACES]
    np.testing.assert_allclose(game.field(players)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("dtype, far", [(np.float64, 500.0), (np.float32, 50.0)])
def test_a_particle_far_from_all_data_is_sent_back(dtype, far):
    """Along grad log(p/q), which between two Gaussians k standard deviations s apart is k / s, at full weight."""
    game = ParticleGAN(np.array([0.0]), 0.1, nodes=6)
    field = game.field((jnp.asarray([far / 10], dtype),))[0]
    np.testing.assert_allclose(field, [-far / 0.1], rtol=1e-4)


@pytest.mark.slow
def test_a_zero_sum_game_goes_downhill_on_the_blurred_divergence():
    game = ParticleGAN(np.stack([DATA, DATA[::-1] / 2], axis=1), 0.7, dy.objectives.Minimax(), nodes=16)
    players = (jnp.asarray(np.random.default_rng(0).normal(size=(2, 2))),)
    np.testing.assert_allclose(game.field(players)[0], -jax.grad(game.divergence)(players)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_all_arrangements_are_equilibria_and_few_of_them_are_the_best():
    """n^n of them, n! the best: 27 and 6; and the spectrum of each.

    k of n particles on one point of n move together at the rate w(r) / (n s^2), r = 1/k, and apart at none in the
    linear part: to first order their mixture does not change.
    """
    std, game = 0.3, ParticleGAN(3 * DATA, 0.3)

    def judged(particles):
        return game.field((particles,))[0], jax.jacobian(released(lambda x: game.field((x,))[0]))(particles)

    places = game.arrangements(3)
    fields, jacobians = map(np.asarray, jax.jit(jax.vmap(judged))(places))
    divergences = np.asarray(jax.jit(jax.vmap(lambda x: game.divergence((x,))))(places))
    assert np.max(np.abs(fields)) < 1e-9
    seen = {}
    for row, jacobian, divergence in zip(itertools.product(range(3), repeat=3), jacobians, divergences, strict=True):
        counts = np.bincount(row, minlength=3)
        together = [-1 / (1 + 1 / k) / (3 * std**2) for k in counts[counts > 0]]
        expected = np.sort([0.0] * (3 - len(together)) + together)
        np.testing.assert_allclose(np.sort(np.linalg.eigvals(jacobian).real), expected, atol=1e-6)
        p, q = np.full(3, 1 / 3), counts / 3
        js = sum(a * math.log(2 * a / (a + b)) + (b * math.log(2 * b / (a + b)) if b else 0) for a, b in zip(p, q))
        np.testing.assert_allclose(divergence, js, rtol=1e-6, atol=1e-9)
        seen[tuple(sorted(counts))] = seen.get(tuple(sorted(counts)), 0) + 1
    assert seen == {(1, 1, 1): 6, (0, 1, 2): 18, (0, 0, 3): 3}


@pytest.mark.slow
def test_a_wider_blur_takes_stability_from_the_worse_ones():
    """With two points: both particles on one of them is stable for a small blur only."""
    stable = []
    for std in (0.2, 1.5):
        game = ParticleGAN([-1.0, 1.0], std, nodes=30)
        update = dy.updates.Simultaneous(optax.sgd(0.5 * std**2))
        start = (jnp.asarray([0.9, 1.05]),)
        end = dy.simulate(game, update, start, steps=4_000, save_every="last", classify=False).final[0]
        stable.append(np.sort(end))
    np.testing.assert_allclose(stable[0], [1, 1], atol=0.01)
    np.testing.assert_allclose(stable[1], [-1, 1], atol=1e-2)


def matching(patterns):
    """Data on the outer two of three points; a generator of one point, discriminators that say c or -c of each."""
    game = DensityGAN([0.5, 0.0, 0.5], dy.objectives.Minimax())
    pure = [np.log(np.eye(3)[k] + 1e-12) for k in range(3)]
    return sampled_game(game, pure, [2.0 * np.array(pattern) for pattern in patterns])


def test_mixtures_restore_an_equilibrium_that_pure_strategies_lack():
    """Every point is found out by some discriminator; the mixture that is the data is found out by none."""
    game = matching(list(itertools.product((-1.0, 1.0), repeat=3)))
    first, second = np.asarray(game.first), np.asarray(game.second)
    np.testing.assert_allclose(np.ptp(first + second, axis=0), 0, atol=1e-9)  # but for E_real, a zero-sum game
    best = first == first.max(axis=0), second == second.max(axis=1, keepdims=True)
    pure = np.argwhere(best[0] & best[1]).tolist()
    assert not pure
    equilibria = game.nash_equilibria()
    assert len(equilibria) >= 1
    for x, _ in equilibria:
        np.testing.assert_allclose(x, [0.5, 0, 0.5], atol=1e-9)
    # Fictitious play on the samples finds it as well (Robinson 1951), and its gap falls.
    run = dy.simulate(game, dy.updates.FictitiousPlay(), (jnp.eye(3)[1], jnp.eye(8)[0]), steps=20_000, classify=False)
    gaps = np.asarray(jax.vmap(game.duality_gap)(run.players))[[200, 20_000]]
    assert gaps[1] < 0.02 < gaps[0] and gaps[1] < gaps[0] / 4
    np.testing.assert_allclose(run.final[0], [0.5, 0, 0.5], atol=0.02)


def test_two_copies_of_a_generator_of_one_point_have_an_equilibrium():
    """A critic of degree 2 asks for mean 0 and variance 1: one point cannot have both, two with weights can."""

    def score(psi, x):
        return psi[0] * x + psi[1] * (x**2 - 1)

    game = dy.GAN(
        lambda theta, z: theta + z,
        score,
        jnp.asarray([-1.0, 1.0]),
        dy.distributions.PointMass(0.0),
        dy.objectives.Wasserstein(),
    )
    thetas = jnp.linspace(-3, 3, 61)
    norms = jax.vmap(lambda t: jnp.linalg.norm(game.field((t, jnp.zeros(2)))[1]))(thetas)
    assert norms.min() > 0.8
    mixed = dy.games.MixtureGame(game, (2, 1), regulariser=0.0)
    players = mixed.mixed([-1.0, 1.0], [jnp.zeros(2)])
    assert all(np.max(np.abs(leaf)) < 1e-15 for leaf in jax.tree.leaves(mixed.field(players)))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: ParticleGAN([[[0.0]]], 0.1), ValueError, r"data has shape \(1, 1, 1\)"),
        (lambda: ParticleGAN(DATA, 0.0), ValueError, "std is 0"),
        (lambda: ParticleGAN(DATA, 0.1, dy.objectives.Wasserstein()), TypeError, "expected a Pointwise"),
        (lambda: ParticleGAN(DATA, 0.1).field((jnp.zeros((3, 2)),)), ValueError, r"shape \(3, 2\); expected \(m,\)"),
        (lambda: ParticleGAN(DATA, 0.1).arrangements(11), ValueError, "177,147 arrangements"),
        (lambda: sampled_game(dy.games.Bilinear(1.0), [], [1.0]), ValueError, "0 and 1 strategies"),
    ],
)
def test_bad_input(build, error, message):
    with pytest.raises(error, match=message):
        build()
