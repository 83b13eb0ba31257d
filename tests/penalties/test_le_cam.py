"""LeCam with moving averages: memory of the update, against plain loops, and the spectrum against a matrix by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.distributions import normal
from dynamics.objectives import Wasserstein
from dynamics.optimisers import sgd
from dynamics.penalties import R1, LeCam, Scaled, Sum
from dynamics.updates import Alternating, Scheduled, Simultaneous
from dynamics.updates.with_variables import for_game

WEIGHT, DECAY, RATES = 0.3, 0.8, (0.05, 0.07)
DATA, LATENT = np.array([1.0, -0.4, 2.0]), np.array([0.5, 1.5])


def quadratic(penalty, data=DATA, latent=LATENT):
    """G(z) = a z, C(x) = w x^2."""
    return dy.GAN(lambda a, z: a * z, lambda w, x: w * x**2, data, latent, Wasserstein(), penalty)


def by_hand(steps, alternating, decay=DECAY, weight=lambda t: WEIGHT, gamma=0.0):
    """Players and averages of a loop; both players' computations of the losses go on with the averages."""
    a, w, averages = 0.9, 0.6, np.zeros(2)
    for t in range(steps):

        def moved(averages, a, w):
            return decay * averages + (1 - decay) * w * np.array([(DATA**2).mean(), a**2 * (LATENT**2).mean()])

        def slope(a, w, anchors, weight):
            x, y = DATA**2, (a * LATENT) ** 2
            drawn = 2 * ((w * x - anchors[1]) * x).mean() + 2 * ((w * y - anchors[0]) * y).mean()
            return y.mean() - x.mean() + weight * drawn + 4 * gamma * w * x.mean()

        new = a + RATES[0] * 2 * w * a * (LATENT**2).mean()
        if alternating:
            averages = moved(averages, a, w)
        seen = new if alternating else a
        anchors = moved(averages, seen, w)
        w = w - RATES[1] * slope(seen, w, anchors, weight(t))
        a, averages = new, anchors
    return a, w, averages


@eqx.filter_jit
def run(game, update, steps):
    update = for_game(game, update)
    begin = update.init(game, (jnp.asarray(0.9), jnp.asarray(0.6)))
    return jax.lax.scan(lambda state, _: (update.step(game, state), None), begin, length=steps)[0]


@pytest.mark.parametrize("alternating", [False, True])
def test_players_and_averages_are_those_of_a_plain_loop(alternating):
    scheme = Alternating if alternating else Simultaneous
    state = run(quadratic(LeCam(WEIGHT, DECAY)), scheme(*map(sgd, RATES)), 6)
    a, w, averages = by_hand(6, alternating)
    np.testing.assert_allclose(state.players, (a, w), rtol=1e-12)
    np.testing.assert_allclose(jax.tree.leaves(state.memory.variables), averages, rtol=1e-12)


def test_within_other_penalties_and_with_a_weight_that_depends_on_the_step():
    penalty = Sum(R1(0.1), Scaled(LeCam(2 * WEIGHT, DECAY), 0.5))
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    update = Scheduled(
        Simultaneous(*map(sgd, RATES)), schedule, lambda game, update: game.penalty.penalties[1].penalty.weight
    )
    state = run(quadratic(penalty), update, 6)
    a, w, averages = by_hand(6, False, weight=lambda t: WEIGHT * max(0.0, 1 - t / 4), gamma=0.1)
    np.testing.assert_allclose(state.players, (a, w), rtol=1e-12)
    np.testing.assert_allclose(jax.tree.leaves(state.memory.variables), averages, rtol=1e-12)


def test_without_a_decay_nothing_is_kept():
    game, still = quadratic(LeCam(WEIGHT)), quadratic(LeCam(WEIGHT, 0.0))
    assert jax.tree.leaves(game.variables) == [] and len(jax.tree.leaves(still.variables)) == 2
    one, other = (run(game, Simultaneous(*map(sgd, RATES)), 5) for game in (game, still))
    np.testing.assert_allclose(one.players, other.players, rtol=1e-14)
    a, w, _ = by_hand(5, False, decay=0.0)
    np.testing.assert_allclose(one.players, (a, w), rtol=1e-12)


@pytest.mark.slow
def test_the_averages_are_in_the_spectrum():
    """At (s, 0), Gaussian data: w pulls at both averages, and they at it."""
    s, h = 1.2, 0.1
    game = quadratic(LeCam(WEIGHT, DECAY), normal(0.0, s, nodes=5), normal(0.0, 1.0, nodes=5))
    at = (jnp.asarray(s), jnp.asarray(0.0))
    report = dy.stability(game, Simultaneous(sgd(h), sgd(h)), at)
    push = 2 * WEIGHT * h
    matrix = np.array(
        [
            [1, 2 * h * s, 0, 0],
            [-2 * h * s, 1 - push * (6 * s**4 - 2 * (1 - DECAY) * s**4), push * DECAY * s**2, push * DECAY * s**2],
            [0, (1 - DECAY) * s**2, DECAY, 0],
            [0, (1 - DECAY) * s**2, 0, DECAY],
        ]
    )
    expected = np.sort_complex(np.linalg.eigvals(matrix))
    np.testing.assert_allclose(np.sort_complex(np.asarray(report.eigenvalues)), expected, rtol=1e-9)
    assert report.verdict == ("stable" if np.abs(expected).max() < 1 else "unstable")


@pytest.mark.slow_cases("<lambda>3")
@pytest.mark.parametrize(
    "game",
    [
        lambda penalty: dy.games.DiracGAN(penalty=penalty),
        lambda penalty: dy.games.LinearWasserstein(1.0, penalty=penalty),
        lambda penalty: dy.games.Covariance(1.0, penalty=penalty),
        lambda penalty: dy.games.RingGAN(jax.random.key(0), width=2, penalty=penalty),
    ],
)
def test_games_that_keep_nothing_refuse_it(game):
    assert game(LeCam(0.1)).penalty is not None
    with pytest.raises(TypeError, match="penalty has LeCam, which keeps values .* expected one that keeps nothing"):
        game(Sum(R1(0.1), LeCam(0.1, 0.9)))


def test_a_decay_out_of_bounds():
    with pytest.raises(ValueError, match="LeCam.decay is 1; expected a finite number >= 0 and < 1"):
        LeCam(0.1, 1.0)
