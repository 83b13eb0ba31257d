"""Spectral normalisation of plain functions: steps against NumPy, the spectrum against difference quotients of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.networks import spectrally_normalised
from dynamics.objectives import Wasserstein
from dynamics.optimisers import sgd
from dynamics.updates import Simultaneous
from dynamics.updates.with_variables import for_game

KEY = jax.random.key(0)
RATES = 0.3, 0.2
WEIGHT = np.array([[1.5, 0.2], [-0.4, 0.7], [0.3, 0.6]])
TARGET = np.array([0.3, -0.2])
ALONG = np.array([0.5, -1.0, 0.8])


def critic(psi, x):
    return jnp.asarray(ALONG) @ (psi["w"] @ x) + psi["b"] @ x


def make():
    parameters = {"b": jnp.zeros(2), "w": jnp.asarray(WEIGHT)}
    network = spectrally_normalised(critic, parameters, KEY)
    target, zero = (dy.distributions.PointMass(jnp.asarray(point)) for point in (TARGET, np.zeros(2)))
    return dy.GAN(lambda t, z: t + z, network, target, zero, Wasserstein()), parameters


def unit(vector):
    return vector / np.linalg.norm(vector)


def step_by_hand(theta, w, b, u):
    """One simultaneous step: the losses at the players, u after the real batch, then after the fake one."""

    def score_and_slopes(u, x):
        v = unit(w.T @ u)
        u = unit(w @ v)
        sigma = u @ w @ v
        value = ALONG @ w @ x / sigma
        return u, ALONG @ w / sigma + b, np.outer(ALONG, x) / sigma - value / sigma * np.outer(u, v)

    u, _, on_real = score_and_slopes(u, TARGET)
    u, by_point, on_fake = score_and_slopes(u, theta)
    new_theta = theta + RATES[0] * by_point
    return new_theta, w + RATES[1] * (on_real - on_fake), b + RATES[1] * (TARGET - theta), u


def test_steps_are_those_of_numpy():
    game, parameters = make()
    update = for_game(game, Simultaneous(*map(sgd, RATES)))
    state = update.init(game, (jnp.asarray([0.7, 0.4]), parameters))
    (u,) = jax.tree.leaves(state.memory.variables)
    by_hand = np.array([0.7, 0.4]), WEIGHT, np.zeros(2), np.asarray(u)
    step = eqx.filter_jit(update.step)
    for _ in range(4):
        state, by_hand = step(game, state), step_by_hand(*by_hand)
    theta, psi = state.players
    for computed, expected in zip((theta, psi["w"], psi["b"], *jax.tree.leaves(state.memory.variables)), by_hand):
        np.testing.assert_allclose(computed, expected, rtol=1e-9)


@pytest.mark.slow
def test_the_spectrum_is_that_of_the_map():
    """With theta at the target, and b that cancels the score's slope, an equilibrium."""
    game, parameters = make()
    exact = np.linalg.svd(WEIGHT, compute_uv=False)
    psi = parameters | {"b": jnp.asarray(-ALONG @ WEIGHT / exact[0])}
    report = dy.stability(game, Simultaneous(*map(sgd, RATES)), (jnp.asarray(TARGET), psi))
    left = np.linalg.svd(WEIGHT)[0][:, 0]
    rest = np.concatenate([TARGET, WEIGHT.ravel(), -ALONG @ WEIGHT / exact[0], left])

    def step(z):
        return np.concatenate([np.ravel(x) for x in step_by_hand(z[:2], z[2:8].reshape(3, 2), z[8:10], z[10:])])

    np.testing.assert_allclose(step(rest), rest, atol=1e-12)
    quotients = np.stack([(step(rest + 1e-6 * e) - step(rest - 1e-6 * e)) / 2e-6 for e in np.eye(13)], axis=1)
    expected = np.sort(np.abs(np.linalg.eigvals(quotients)))
    np.testing.assert_allclose(np.sort(np.abs(report.eigenvalues)), expected, atol=1e-6)
    assert report.verdict == "unstable"  # it turns outwards, slowly


def test_inference_and_the_choice_of_matrices():
    parameters = {
        "first": jnp.asarray(WEIGHT),
        "second": jnp.asarray(np.arange(12.0).reshape(2, 3, 2)),
        "b": jnp.ones(3),
    }

    def function(psi, x):
        return psi["second"], psi["first"] @ x, psi["b"]

    network = spectrally_normalised(function, parameters, KEY)
    variables = network.variables
    assert [u.shape for u in variables] == [(3,), (2,)]  # the order of the leaves of a dictionary is alphabetical
    for _ in range(60):
        _, variables = network.apply(parameters, variables, jnp.zeros((1, 2)), None)
    second, first, b = network.evaluate(parameters, variables, jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(first, WEIGHT @ [1, 2] / np.linalg.norm(WEIGHT, 2), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(np.reshape(second, (2, 6)), 2), 1, rtol=1e-10)
    np.testing.assert_array_equal(b, np.ones(3))
    one = spectrally_normalised(function, parameters, KEY, where=lambda psi: psi["first"])
    assert [u.shape for u in one.variables] == [(3,)]
    np.testing.assert_array_equal(one.evaluate(parameters, one.variables, jnp.ones(2))[0], parameters["second"])


def test_what_cannot_be_normalised():
    with pytest.raises(ValueError, match=r"leaves of shapes \[\(3,\)\]; expected one or more matrices"):
        spectrally_normalised(lambda w, x: w @ x, jnp.ones(3), KEY)
    with pytest.raises(ValueError, match="expected one or more matrices"):
        spectrally_normalised(critic, make()[1], KEY, where=lambda psi: psi["b"])
    with pytest.raises(TypeError, match="function"):
        spectrally_normalised(lambda w: w, jnp.eye(2), KEY)
