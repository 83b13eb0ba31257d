"""Adam and its relatives at an equilibrium, where the memory of squared gradients vanishes (REFERENCES 4.19)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.updates import Alternating, Simultaneous

GAME = dy.games.DiracGAN(penalty=dy.penalties.R1(1.0))  # the flow has the double eigenvalue -1/2
RATE = 1e-3


def twice(optimiser):
    return Simultaneous(optimiser, optimiser)


@pytest.mark.slow_cases("0.0-1e-08-0.0-49999.0", "0.0-0.0001-0.0-4.0")
@pytest.mark.parametrize(
    "b1, eps, eps_root, radius",
    [
        (0.0, 1e-8, 0.0, 49999.0),
        (0.0, 1e-4, 0.0, 4.0),
        (0.0, 2e-4, 0.0, 1.5),
        (0.0, 3e-4, 0.0, 0.999),
        (0.5, 1e-8, 0.0, 24998.5),
        (0.5, 1e-4, 0.0, 0.999),
        (0.9, 1e-8, 0.0, 4998.1),
        (0.5, 1e-8, 1e-16, 12498.5),
        (0.5, 1e-8, 1e-8, 0.999),
    ],
)
def test_published_radii(b1, eps, eps_root, radius):
    report = dy.stability(GAME, twice(optimisers.adam(RATE, b1, 0.999, eps, eps_root)))
    np.testing.assert_allclose(report.radius, radius, rtol=1e-7)
    assert report.verdict == ("stable" if radius < 1 else "unstable")
    assert any("learning rate / eps" in note for note in report.notes) == (eps_root == 0)


@pytest.mark.slow
def test_the_smallest_stable_eps_is_a_quarter_of_the_rate():
    def build(eps):
        return GAME, twice(optimisers.adam(RATE, 0.0, 0.999, eps))

    np.testing.assert_allclose(dy.critical(build, 1e-4, 1e-3).value, RATE / 4, rtol=1e-6)


def spectrum_by_hand(jacobian, rate, b1, b2, eps, noise=0.0):
    """m <- b1 m + (1 - b1) g, x <- x - h m / (sqrt(v) + eps), v <- b2 v + (1 - b2) g^2, the mean over g +- noise."""
    identity, step = np.eye(len(jacobian)), rate / (noise + eps)
    below = np.hstack([(1 - b1) * jacobian, b1 * identity])
    above = np.hstack([identity, np.zeros_like(identity)]) + step * below
    above[:, : len(jacobian)] -= step * (1 - b1) * (1 - b2) * noise / (noise + eps) * jacobian
    return np.linalg.eigvals(np.vstack([above, below]))


ASYMMETRIC = dy.games.Quadratic(
    [[np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[2.0, 0.4, 0.0], [0.0, 1.0, -0.7]])],
     [np.array([[-1.0, 0.2], [0.3, -0.8], [0.0, 0.5]]), np.diag([0.6, 0.9, 0.2])]]
)  # fmt: skip
JACOBIAN = -np.block(
    [[np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[2.0, 0.4, 0.0], [0.0, 1.0, -0.7]])],
     [np.array([[-1.0, 0.2], [0.3, -0.8], [0.0, 0.5]]), np.diag([0.6, 0.9, 0.2])]]
)  # fmt: skip


def same_spectrum(found, expected, tolerance=1e-7):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for value in expected:
        nearest = int(np.argmin(np.abs(np.array(found) - value)))
        assert abs(found.pop(nearest) - value) < tolerance * (1 + abs(value))


@pytest.mark.slow_cases("0.01-None", "0.003-0.2")
@pytest.mark.parametrize("eps, noise", [(0.01, None), (0.003, 0.2), (1e-8, 0.05)])
def test_whole_spectrum_on_an_asymmetric_game(eps, noise):
    """Without noise the step is rate / eps, with noise of standard deviation s about rate / (s + eps)."""
    b1, b2 = 0.6, 0.99
    report = dy.stability(ASYMMETRIC, twice(optimisers.adam(RATE, b1, b2, eps)), gradient_noise=noise)
    expected = [*spectrum_by_hand(JACOBIAN, RATE, b1, b2, eps, noise or 0.0), *[b2] * 5]
    same_spectrum(report.eigenvalues, expected)


@pytest.mark.slow
def test_noise_per_player_and_alternating_turns():
    """Effective steps per player; the second player sees the first one's move."""
    noise, b2 = (0.1, 0.4), 0.9
    update = Alternating(*[optimisers.adam(RATE, 0.0, b2, 1e-8)] * 2)
    report = dy.stability(GAME, update, gradient_noise=noise)
    first, second = (RATE / (s + 1e-8) * (1 - (1 - b2) * s / (s + 1e-8)) for s in noise)
    jacobian = np.array([[0.0, -0.5], [0.5, -1.0]])
    one = np.eye(2) + np.array([[first], [0.0]]) * jacobian
    two = np.eye(2) + np.array([[0.0], [second]]) * jacobian
    # The first player's noisy step shifts the second one's gradient a little: a term of the order of the squared rate.
    same_spectrum(report.eigenvalues, [*np.linalg.eigvals(two @ one), b2, b2, 0.0, 0.0], 20 * RATE**2)


@pytest.mark.slow_cases("amsgrad", "adamw", "bare", "rmsprop")
@pytest.mark.parametrize(
    "optimiser",
    [
        optimisers.rmsprop(0.01, 0.9, 1e-4),
        dy.Optimiser(optax.amsgrad, 0.01, b1=0.5, eps=1e-2),
        dy.Optimiser(optax.adamw, 0.01, b1=0.5, eps=1e-2, weight_decay=0.0),
        optax.adam(0.01, eps=1e-2),
    ],
    ids=["rmsprop", "amsgrad", "adamw", "bare"],
)
def test_relatives_have_a_finite_spectrum_that_the_map_confirms(optimiser):
    """Far inside the region where squared gradients vanish beside eps the run contracts as predicted."""
    report = dy.stability(GAME, twice(optimiser))
    assert np.all(np.isfinite(report.eigenvalues)) and report.verdict == "stable"
    run = dy.simulate(GAME, twice(optimiser), (1e-7, -2e-7), steps=30, save_every=10)
    matrix = np.asarray(report.jacobian)
    state = np.concatenate([[1e-7, -2e-7], np.zeros(len(matrix) - 2)])
    # The bias correction of Adam's first steps is no part of the limit: amsgrad and adam start at a rate of their own.
    if isinstance(optimiser, dy.Optimiser) and optimiser.factory is optax.rmsprop:
        for _ in range(30):
            state = matrix @ state
        np.testing.assert_allclose([run.final[0], run.final[1]], state[:2], rtol=1e-4)
    else:
        assert float(jnp.hypot(*run.final)) < np.hypot(*state[:2])


@pytest.mark.slow
def test_float32():
    optimiser = optimisers.adam(RATE, 0.5, 0.999, 1e-8)
    zero = np.zeros((), np.float32)
    report = dy.stability(GAME, twice(optimiser), at=(zero, zero))
    np.testing.assert_allclose(report.radius, 24998.5, rtol=1e-4)
    assert report.verdict == "unstable"


def test_full_batch_adam_leaves_the_equilibrium_and_a_large_eps_stays():
    start = (1e-6, 1e-6)
    small = dy.simulate(GAME, twice(optimisers.adam(RATE, 0.0, 0.999, 1e-8)), start, steps=2000, save_every="last")
    large = dy.simulate(GAME, twice(optimisers.adam(RATE, 0.0, 0.999, 1e-3)), start, steps=2000, save_every="last")
    distances = [float(jnp.hypot(*run.final)) for run in (small, large)]
    assert distances[0] > 1e-5 and distances[1] < 1e-8


def test_noise_that_is_none():
    flow = dy.flows.Flow()
    with pytest.raises(ValueError, match="gradient_noise is for updates"):
        dy.stability(GAME, flow, gradient_noise=0.1)
    with pytest.raises(ValueError, match="has 3 rates for 2 players"):
        dy.stability(GAME, twice(optimisers.adam(RATE)), gradient_noise=(0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="the rate -1"):
        dy.stability(GAME, twice(optimisers.adam(RATE)), gradient_noise=-1.0)


def test_changed_noise_compiles_nothing():
    update, lookups = twice(optimisers.adam(0.1, 0.5, 0.5, 1e-8)), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: lookups.append(event) if "backend_compile" in event else None
    )
    radii = [dy.stability(GAME, update, gradient_noise=noise).radius for noise in (0.1, 0.2)]
    before = len(lookups)
    radii.append(dy.stability(GAME, update, gradient_noise=0.3).radius)
    assert len(lookups) == before and len(set(radii)) == 3
