"""Noise: directions, stochastic differential equations, and stationary covariances against closed forms and chains."""

import json

import asymmetric
import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import scipy.linalg

import dynamics as dy
from dynamics import optimisers
from dynamics.directions import Consensus, Noisy
from dynamics.flows import Flow, GapAwareFlow, NoisyFlow
from dynamics.updates import Alternating, Averaged, Simultaneous

RATES = (0.2, 0.3)
MATRIX = np.array([[1.0, 2.0], [-1.5, 0.6]])  # bilinear, with a penalty on the second player
GAME = dy.games.Quadratic(MATRIX)


def vectorised(jacobian, noise):
    """The solution of C = J C J' + Q by its n^2 linear equations."""
    n = len(noise)
    return np.linalg.solve(np.eye(n * n) - np.kron(jacobian, jacobian), noise.ravel()).reshape(n, n)


def vectorised_flow(jacobian, noise):
    """The solution of J C + C J' + Q = 0."""
    n = len(noise)
    operator = np.kron(jacobian, np.eye(n)) + np.kron(np.eye(n), jacobian)
    return np.linalg.solve(operator, -noise.ravel()).reshape(n, n)


def assert_drawn_from(chains, covariance, errors=5):
    """The second moments of independent Gaussian chains within so many standard errors."""
    count = chains.shape[1]
    found = np.cov(chains)
    variances = np.diag(covariance)
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / count)
    assert np.all(abs(found - covariance) < errors * error), (found - covariance) / error


@eqx.filter_jit
def evaluate(direction, game, players, key=None):
    return direction(game, players, key)


def test_the_noise_of_a_direction_is_independent_and_of_the_given_scale():
    game, point = asymmetric.make(2), asymmetric.start(2)
    direction = Noisy(Consensus(0.3), (0.2, 3.0))
    exact = asymmetric.ByHand(2).consensus(asymmetric.flat(point), 0.3)
    asymmetric.same(evaluate(direction, game, point), exact)
    quiet = dy.Game.from_losses(lambda players, key=None: game.losses(players))  # no noise but the direction's
    keys = jax.random.split(jax.random.key(1), 20_000)
    draws = eqx.filter_vmap(evaluate, in_axes=(None, None, None, 0))(direction, quiet, point, keys)
    noise = jax.vmap(lambda one: jax.flatten_util.ravel_pytree(one)[0])(draws) - exact
    stds = np.repeat([0.2, 3.0], asymmetric.SIZES[2])
    assert np.all(abs(np.mean(noise, axis=0)) < 5 * stds / np.sqrt(20_000))
    assert_drawn_from(np.asarray(noise).T, np.diag(stds**2))


def test_the_direction_without_noise_gets_a_key_of_its_own():
    game, point = asymmetric.make(2), asymmetric.start(2)
    found = evaluate(Noisy(scale=0.0), game, point, jax.random.key(3))
    asymmetric.same(found, asymmetric.flat(game.field(point, jax.random.split(jax.random.key(3))[0])))


def test_an_autoregression_of_first_order():
    """x+ = x + h (-a x + s n): variance h s^2 / (a (2 - h a))."""
    scales, rows = (0.5, 0.2), np.array([1.0, 3.0])
    update = Simultaneous(*map(optimisers.sgd, RATES), direction=Noisy(scale=scales))
    spread = dy.stationary_covariance(dy.games.Quadratic(np.diag(rows)), update)
    expected = np.array(RATES) * np.square(scales) / (rows * (2 - np.array(RATES) * rows))
    assert np.all(abs(np.diag(spread.matrix) - expected) < 5 * np.diag(spread.error))
    np.testing.assert_allclose(np.diag(spread.error) / expected, np.sqrt(2 / 4096), rtol=0.6)
    assert abs(spread.matrix[0, 1]) < 5 * spread.error[0, 1]
    np.testing.assert_allclose(np.array(spread.stds) ** 2, np.diag(spread.matrix), rtol=1e-12)
    assert spread.draws == 4096 and spread.kind == "map" and not spread.notes
    assert "standard deviations of player 1: 0.06" in spread.describe()
    assert "from 4096 draws of the noise; relative error about 0.01" in spread.describe()


def test_known_noise_on_a_game_that_turns():
    """J = (1 - h m) I + h s R with a rotation R by a right angle: C = q I / (1 - (1 - h m)^2 - (h s)^2)."""
    m, s, h, q = 0.5, 2.0, 0.1, 0.03
    game, update = dy.games.Quadratic([[m, s], [-s, m]]), Simultaneous(optimisers.sgd(h), optimisers.sgd(h))
    spread = dy.stationary_covariance(game, update, noise=q * np.eye(2))
    np.testing.assert_allclose(spread.matrix, q / (1 - (1 - h * m) ** 2 - (h * s) ** 2) * np.eye(2), atol=1e-14)
    assert not spread.error.any() and spread.draws == 0
    flow = dy.stationary_covariance(game, NoisyFlow(Flow(), q**0.5))
    np.testing.assert_allclose(flow.matrix, q / (2 * m) * np.eye(2), atol=1e-14)
    np.testing.assert_allclose(flow.noise, q * np.eye(2), rtol=1e-12)
    given = dy.stationary_covariance(game, Flow(), noise=q * np.eye(2))
    np.testing.assert_allclose(given.matrix, flow.matrix, rtol=1e-12)


def test_players_of_unequal_sizes():
    matrix = np.array([[1.0, 0.2, 2.0, -0.5], [0.2, 0.7, 1.0, 0.3], [-1.0, -0.5, 0.8, 0.1], [0.3, -0.2, 0.1, 1.2]])
    game = dy.games.Quadratic([[matrix[:2, :2], matrix[:2, 2:3]], [matrix[2:3, :2], matrix[2:3, 2:3]]])
    flow = NoisyFlow(Flow(rates=(1.0, 2.0)), (0.1, 0.4))
    spread = dy.stationary_covariance(game, flow)
    jacobian = -np.diag([1.0, 1.0, 2.0]) @ matrix[:3, :3]
    expected = vectorised_flow(jacobian, np.diag([0.01, 0.01, 0.16]))
    np.testing.assert_allclose(spread.matrix, expected, rtol=1e-10)
    np.testing.assert_allclose(spread.blocks[0][1], expected[:2, 2:], rtol=1e-10)
    np.testing.assert_allclose(spread.stds[0], np.sqrt(np.diag(expected))[:2], rtol=1e-10)
    assert spread.stds[1].shape == (1,)


def test_the_memory_of_a_flow_has_no_noise_of_its_own():
    game = dy.Game.from_losses(lambda z, key=None: (z[0] ** 2 / 2, z[1] ** 2 + z[1] / 5), [(0.0, -0.1)])
    flow = NoisyFlow(GapAwareFlow(-0.01, 2.0), 0.3)
    spread = dy.stationary_covariance(game, flow)
    assert spread.matrix.shape == (3, 3)
    np.testing.assert_allclose(np.diag(spread.noise), [0.09, 0.09, 0.0], rtol=1e-12)


def test_noise_of_small_steps_is_that_of_the_flow():
    """Gradient noise s in steps h r corresponds to a diffusion r s sqrt(h); the difference falls like h."""
    rates, s, differences = np.array([1.0, 2.0]), 0.4, []
    for h in (1e-2, 1e-3):
        update = Simultaneous(*(optimisers.sgd(h * rate) for rate in rates))
        spread = dy.stationary_covariance(GAME, update, noise=np.diag((h * rates * s) ** 2))
        flow = dy.stationary_covariance(GAME, NoisyFlow(Flow(rates=rates), rates * s * h**0.5))
        differences.append(np.linalg.norm(spread.matrix - flow.matrix) / np.linalg.norm(flow.matrix))
    np.testing.assert_allclose(differences[0] / differences[1], 10, rtol=0.1)
    assert differences[1] < 5e-3


def test_momentum_is_an_autoregression_of_second_order():
    """Variance h s^2 (1 + b) / ((1 - b) a (2 (1 + b) - h a)), the memory's Jacobian included."""
    h, a, s, b = 0.2, 1.5, 0.3, 0.6
    update = Simultaneous(optimisers.momentum(h, b), optimisers.sgd(h), direction=Noisy(scale=s))
    spread = dy.stationary_covariance(dy.games.Quadratic(np.diag([a, 1.0])), update, samples=2048)
    expected = h * s**2 * (1 + b) / ((1 - b) * a * (2 * (1 + b) - h * a))
    assert spread.matrix.shape == (3, 3) and spread.error[0, 0] < 0.1 * expected
    assert abs(spread.matrix[0, 0] - expected) < 5 * spread.error[0, 0]


CHAINS = 2000


@pytest.mark.slow
def test_many_chains_have_the_covariance():
    """Alternating, momentum, unequal rates and inner steps."""
    update = Alternating(
        optimisers.momentum(0.1, 0.5), optimisers.sgd(0.15), repeats=(1, 2), direction=Noisy(scale=(0.3, 0.5))
    )

    def chain(key):
        return dy.simulate(GAME, update, (0.0, 0.0), steps=250, key=key, save_every="last", classify=False).final

    spread = dy.stationary_covariance(GAME, update, samples=16_384, key=jax.random.key(5))
    chains = np.stack(jax.vmap(chain)(jax.random.split(jax.random.key(0), CHAINS)))
    assert_drawn_from(chains, spread.matrix[:2, :2])


@pytest.fixture(scope="module")
def paths():
    """A function that returns players of many paths at three times; one program for all its calls."""

    def run(scale, start):
        def path(key):
            options = dict(until=5.0, dt0=1 / 16, save_every=2.5, key=key, classify=False)
            return dy.simulate(GAME, NoisyFlow(Flow(rates=(1.0, 1.5)), scale), start, **options).players

        return np.stack(jax.vmap(path)(jax.random.split(jax.random.key(0), 1000)))

    return run


TURNING = -np.diag([1.0, 1.5]) @ MATRIX


@pytest.mark.slow
def test_many_paths_of_the_stochastic_differential_equation_have_the_covariance(paths):
    spread = dy.stationary_covariance(GAME, NoisyFlow(Flow(rates=(1.0, 1.5)), (0.3, 0.5)))
    np.testing.assert_allclose(spread.matrix, vectorised_flow(TURNING, np.diag([0.09, 0.25])), rtol=1e-10)
    found = paths((0.3, 0.5), (0.0, 0.0))
    assert not found[:, :, 0].any()
    assert_drawn_from(found[:, :, 2], spread.matrix)
    # The covariance after half the time has grown to C - e^{Jt} C e^{J't}.
    decay = scipy.linalg.expm(2.5 * TURNING)
    assert_drawn_from(found[:, :, 1], spread.matrix - decay @ spread.matrix @ decay.T)


@pytest.mark.slow
def test_a_noisy_flow_without_noise_is_the_flow(paths):
    found = paths((0.0, 0.0), (1.0, -1.0))
    assert np.ptp(found, axis=1).max() < 1e-12
    for time, point in zip((0.0, 2.5, 5.0), found[:, 0].T):
        np.testing.assert_allclose(point, scipy.linalg.expm(TURNING * time) @ [1.0, -1.0], atol=4e-3)


def test_minibatches_of_a_linear_gan():
    """The mean of a batch of B has variance std^2 / B, of data and of fakes; the noise is additive."""
    std, batch, h, weight = 0.7, 8, 0.1, 0.4
    game = dy.games.LinearWasserstein(1.5, penalty=dy.penalties.R1(weight), std=std, batch_size=batch)
    update = Simultaneous(optimisers.sgd(h), optimisers.sgd(h))
    spread = dy.stationary_covariance(game, update)
    jacobian = np.eye(2) + h * np.array([[0.0, 1.0], [-1.0, -weight]])
    expected = vectorised(jacobian, np.diag([0.0, h**2 * 2 * std**2 / batch]))
    assert np.all(abs(spread.matrix - expected) < 5 * spread.error + 1e-12)
    np.testing.assert_allclose(spread.matrix, expected, rtol=0.1, atol=0.1 * np.abs(expected).max())


@pytest.mark.slow
def test_minibatches_of_instance_noise():
    game = dy.games.DiracGAN(noise=0.5, penalty=dy.penalties.R1(1.0), batch_size=64, nodes=8)
    update = Alternating(optimisers.sgd(0.3), optimisers.sgd(0.2))

    def chain(key):
        return dy.simulate(game, update, (0.0, 0.0), steps=150, key=key, save_every="last", classify=False).final

    spread = dy.stationary_covariance(game, update, samples=16_384)
    chains = np.stack(jax.vmap(chain)(jax.random.split(jax.random.key(0), 1000)))
    assert_drawn_from(chains, spread.matrix)


def test_stability_looks_at_the_flow_without_noise():
    noisy, plain = (dy.stability(GAME, flow) for flow in (NoisyFlow(Flow(), 0.3), Flow()))
    np.testing.assert_array_equal(noisy.eigenvalues, plain.eigenvalues)
    assert noisy.verdict == plain.verdict == "stable"


def test_what_noise_there_is_not_and_what_shifts_the_mean():
    update = Simultaneous(*map(optimisers.sgd, RATES))
    quiet = dy.stationary_covariance(GAME, update, samples=64)
    assert not quiet.matrix.any() and "has no noise" in quiet.describe()
    data = json.loads(json.dumps(quiet.to_dict(), allow_nan=False))
    assert data["stds"] == [0.0, 0.0] and data["draws"] == 64 and len(data["blocks"][0]) == 2
    adam = Simultaneous(*(optimisers.adam(0.1, b2=0.9, eps_root=0.5) for _ in range(2)), direction=Noisy(scale=0.1))
    spread = dy.stationary_covariance(dy.games.Quadratic(np.eye(2)), adam, samples=2048)
    assert "weak noise only" in spread.describe()


UNSTABLE = dy.games.Bilinear(1.0)
EULER = Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.1), direction=Noisy())
KEY = jax.random.key(0)
AMSGRAD = dy.Optimiser(optax.amsgrad, 0.2, b1=0.0, eps=2.0)


@pytest.mark.slow_cases(
    "<lambda>-ValueError-stays where it is put in 2", "<lambda>-ValueError-noise has no linear response"
)
@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Noisy(scale=-1.0), ValueError, "Noisy.scale has the entry -1; expected finite numbers >= 0"),
        (lambda: NoisyFlow(Flow(), (0.1, np.nan)), ValueError, "NoisyFlow.scale has the entry nan"),
        (lambda: Noisy(scale=[[1.0]]), ValueError, "an entry of shape"),
        (lambda: NoisyFlow(EULER, 0.1), TypeError, "expected a flow"),
        (lambda: NoisyFlow(NoisyFlow(Flow(), 0.1), 0.1), ValueError, "add the two variances"),
        (
            lambda: Noisy(scale=(1.0, 2.0, 3.0))(GAME, dy.game.as_players((0.0, 0.0)), KEY),
            ValueError,
            "3 scales for 2 players",
        ),
        (lambda: dy.simulate(GAME, NoisyFlow(Flow(), (0.1,)), (0.0, 0.0), until=1.0), ValueError, "1 scales for 2"),
        (lambda: dy.simulate(GAME, NoisyFlow(Flow(), 0.1), (0.0, 0.0), until=1.0), ValueError, "pass key="),
        (lambda: dy.simulate(GAME, NoisyFlow(Flow(), 0.1), (0.0, 0.0), until=1.0, key=KEY), ValueError, "pass dt0="),
        (
            lambda: dy.simulate(GAME, NoisyFlow(Flow(), 0.1), (0.0, 0.0), until=1.0, key=KEY, dt0=0.0),
            ValueError,
            "dt0 is 0.0; expected a positive time",
        ),
        (lambda: dy.stationary_covariance(UNSTABLE, EULER), ValueError, "the point is unstable .*no stationary"),
        (
            lambda: dy.stationary_covariance(UNSTABLE, NoisyFlow(Flow(), 1.0)),
            ValueError,
            "the linear part at the point is marginal",
        ),
        (
            lambda: dy.stationary_covariance(dy.games.Quadratic(np.diag([1.0, 0.0])), EULER),
            ValueError,
            "a manifold of equilibria of dimension 1",
        ),
        (
            lambda: dy.stationary_covariance(GAME, Simultaneous(*(optimisers.adam(0.1) for _ in range(2)))),
            ValueError,
            "noise has no linear response",
        ),
        (
            lambda: dy.stationary_covariance(GAME, Simultaneous(AMSGRAD, AMSGRAD)),
            ValueError,
            "stays where it is put in 2",
        ),
        (lambda: dy.stationary_covariance(GAME, Averaged(EULER)), ValueError, "weights in the memory fade"),
        (lambda: dy.stationary_covariance(GAME, Flow()), ValueError, "Flow has no noise; wrap it"),
        (lambda: dy.stationary_covariance(GAME, Flow(), noise=np.eye(3)), ValueError, r"expected \(2, 2\)"),
        (lambda: dy.stationary_covariance(GAME, Flow(), noise=np.triu(np.ones((2, 2)))), ValueError, "not symmetric"),
        (lambda: dy.stationary_covariance(GAME, Flow(), noise=-np.eye(2)), ValueError, "has the eigenvalue -1"),
        (
            lambda: dy.stationary_covariance(GAME, Simultaneous(*map(optimisers.sgd, RATES)), samples=1),
            ValueError,
            "64",
        ),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
