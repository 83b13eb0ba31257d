"""Kernel objectives: closed forms for Gaussians, unbiased estimates, SciPy's distances, and features in a GAN."""

import itertools

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

import dynamics as dy
from dynamics.distributions import Sample, normal
from dynamics.objectives import EnergyDistance, GaussianMMD, RationalQuadraticMMD, Wasserstein
from dynamics.penalties import R1, OnWitness

BANDWIDTHS = (0.5, 2.0)


def kernels(objective, x, y):
    """The kernel of all pairs of rows, in NumPy."""
    distance = np.linalg.norm(np.atleast_2d(x)[:, None] - np.atleast_2d(y)[None], axis=-1)
    if isinstance(objective, GaussianMMD):
        return sum(np.exp(-(distance**2) / (2 * width**2)) for width in np.asarray(objective.bandwidths))
    if isinstance(objective, RationalQuadraticMMD):
        return sum((1 + distance**2 / (2 * a)) ** -a for a in np.asarray(objective.exponents))
    return -distance


def discrepancy(objective, x, p, y, q):
    return p @ kernels(objective, x, x) @ p + q @ kernels(objective, y, y) @ q - 2 * p @ kernels(objective, x, y) @ q


OBJECTIVES = [GaussianMMD(BANDWIDTHS), RationalQuadraticMMD(), EnergyDistance()]
vectors = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=3).map(np.array)
masses = st.tuples(*[st.floats(0.05, 1)] * 3).map(lambda v: np.array(v) / np.sum(v))
values = jax.jit(lambda x, p, y, q: [objective.value(Sample(x, p), Sample(y, q)) for objective in OBJECTIVES])


@hypothesis.given(x=vectors, y=vectors, p=masses, q=masses)
def test_values_of_vectors(x, y, p, q):
    for objective, value in zip(OBJECTIVES, values(x, p, y, q), strict=True):
        np.testing.assert_allclose(value, discrepancy(objective, x, p, y, q), 1e-10, 1e-12)
        assert value >= -1e-12


@pytest.mark.slow_cases("GaussianMMD", "RationalQuadraticMMD")
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_the_players_are_paid_the_opposite(objective):
    x, y = jnp.asarray([0.3, 1.0]), jnp.asarray([-0.4, 2.0, 0.1])
    assert objective.generator(x, y) == -objective.discriminator(x, y) == objective.value(x, y) > 0
    weighted = Sample(x, jnp.full(2, 0.5)), Sample(y, jnp.full(3, 1 / 3))
    np.testing.assert_allclose(objective.value(*weighted), objective.value(x, y), 1e-13)


def test_gaussians_in_closed_form():
    """E k(X, Y) = l (l^2 + s1^2 + s2^2)^(-1/2) exp(-(m1 - m2)^2 / (2 (l^2 + s1^2 + s2^2)))."""
    (m1, s1), (m2, s2) = (0.5, 0.8), (-0.3, 1.2)

    def expected(a, b, distance):
        total = [width**2 + a**2 + b**2 for width in BANDWIDTHS]
        return sum(w / np.sqrt(v) * np.exp(-(distance**2) / (2 * v)) for w, v in zip(BANDWIDTHS, total, strict=True))

    closed = expected(s1, s1, 0) + expected(s2, s2, 0) - 2 * expected(s1, s2, m1 - m2)
    value = GaussianMMD(BANDWIDTHS).value(normal(m1, s1, 60).sample(), normal(m2, s2, 60).sample())
    np.testing.assert_allclose(value, closed, 1e-6)  # the narrow kernel needs many nodes
    nodes = np.linspace(-9, 9, 401)
    p, q = (np.exp(-(((nodes - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi)) for m, s in ((m1, s1), (m2, s2)))
    grid = GaussianMMD(BANDWIDTHS).divergence_value(p, q, np.full(401, nodes[1] - nodes[0]), nodes)
    np.testing.assert_allclose(grid, closed, 1e-12)


@pytest.mark.slow_cases("GaussianMMD", "RationalQuadraticMMD")
@pytest.mark.parametrize("cls", [GaussianMMD, RationalQuadraticMMD, EnergyDistance], ids=lambda cls: cls.__name__)
@pytest.mark.slow
def test_the_unbiased_estimate_has_no_bias(cls):
    """The mean over all samples of three and of two points that two distributions can give."""
    objective, biased = cls(unbiased=True), cls()
    x, y = np.array([0.0, 1.0, 2.5]), np.array([0.5, 2.0])
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.4])
    first, second = (np.array(list(itertools.product(range(k), repeat=n))) for k, n in ((3, 3), (2, 2)))
    chances = np.outer(p[first].prod(1), q[second].prod(1))

    def mean(objective):
        pairs = jax.vmap(lambda r: jax.vmap(lambda f: objective.value(r, f))(jnp.asarray(y)[second]))
        return np.sum(chances * pairs(jnp.asarray(x)[first]))

    truth = discrepancy(objective, x[:, None], p, y[:, None], q)
    np.testing.assert_allclose(mean(objective), truth, 1e-12)
    assert mean(biased) > truth + 0.1
    with pytest.raises(ValueError, match="needs pairs of different points, and a sample has 1"):
        objective.value(x[:1], y)


@hypothesis.given(x=st.tuples(*[st.floats(-5, 5)] * 3), y=st.tuples(*[st.floats(-5, 5)] * 3), p=masses, q=masses)
def test_energy_and_wasserstein_distance_on_the_line(x, y, p, q):
    points = np.array([*x, *y])
    real, fake = np.concatenate([p, np.zeros(3)]), np.concatenate([np.zeros(3), q])
    energy = EnergyDistance().divergence_value(real, fake, None, points)
    np.testing.assert_allclose(energy, scipy.stats.energy_distance(x, y, p, q) ** 2, 1e-8, 1e-10)
    transport = Wasserstein().divergence_value(real, fake, None, points)
    np.testing.assert_allclose(transport, scipy.stats.wasserstein_distance(x, y, p, q), 1e-8, 1e-10)


def test_parallel_lines():
    """Of two point masses W1 is their distance, and all f-divergences are the same constant until they meet."""
    for theta in (0.1, 1.0):
        points, real, fake = np.array([0.0, theta]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
        np.testing.assert_allclose(Wasserstein().divergence_value(real, fake, None, points), theta, 1e-14)
        np.testing.assert_allclose(dy.objectives.JensenShannon().divergence_value(real, fake), np.log(2), 1e-14)
        assert np.isinf(dy.objectives.KL().divergence_value(real, fake))
        assert np.isinf(dy.objectives.ReverseKL().divergence_value(real, fake))
        np.testing.assert_allclose(dy.objectives.TotalVariation().divergence_value(real, fake), 1.0)


def test_without_points_the_value_is_not_known():
    half = np.array([0.5, 0.5])
    for objective in (*OBJECTIVES, Wasserstein()):
        assert np.isnan(objective.divergence_value(half, half))
        assert np.isnan(objective.optimal_score(half, half)).all() and np.isnan(objective.density_ratio(half)).all()
        assert np.isnan(objective.generator_weight(half)).all() and np.isnan(objective.descended_divergence(half, half))


def test_the_witness_is_a_critic_whose_means_differ_by_the_discrepancy():
    x, y = jnp.asarray([[0.3, 1.0], [2.0, 0.0]]), jnp.asarray([[0.0, -1.0], [1.0, 1.5], [0.2, 0.1]])
    objective = EnergyDistance()
    on_real, on_fake = (np.mean([objective.witness(point, x, y) for point in points]) for points in (x, y))
    np.testing.assert_allclose(on_real - on_fake, objective.value(x, y), 1e-13)


@pytest.mark.slow
def test_features_in_a_gan():
    data, latent = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), np.array([[1.0], [-0.5]])

    def generator(theta, z):
        return jnp.stack([theta * z[0], z[0] + theta])

    def features(psi, x):
        return jnp.stack([psi[0] * x[0], jnp.tanh(psi[1] * x[1]), x[0] * x[1]])

    objective = GaussianMMD((1.0, 3.0))
    gan = dy.GAN(generator, features, data, latent, objective)
    theta, psi = jnp.asarray(0.7), jnp.asarray([0.4, -1.1])

    def loss(theta, psi):
        x, y = (
            np.stack([psi[0] * s[:, 0], np.tanh(psi[1] * s[:, 1]), s[:, 0] * s[:, 1]], 1)
            for s in (data, np.stack([theta * latent[:, 0], latent[:, 0] + theta], 1))
        )
        return discrepancy(objective, x, np.full(3, 1 / 3), y, np.full(2, 1 / 2))

    np.testing.assert_allclose(gan.losses((theta, psi)), [loss(0.7, psi), -loss(0.7, psi)], 1e-12)
    field = gan.field((theta, psi))
    steps = 1e-6 * np.eye(2)
    np.testing.assert_allclose(field[0], -(loss(0.7 + 1e-6, psi) - loss(0.7 - 1e-6, psi)) / 2e-6, 1e-7)
    np.testing.assert_allclose(field[1], [(loss(0.7, psi + s) - loss(0.7, psi - s)) / 2e-6 for s in steps], 1e-7, 1e-9)

    # A fixed kernel: the samples themselves, and a discriminator without a say.
    fixed = dy.GAN(generator, lambda psi, x: x, data, latent, objective)
    np.testing.assert_allclose(fixed.field((theta, psi))[1], 0)
    with pytest.raises(ValueError, match="the discriminator returned .*expected an array of features"):
        dy.GAN(generator, lambda psi, x: (x, x), data, latent, objective).field((theta, psi))


@pytest.mark.parametrize(
    "bad, message", [((1.0, -2.0), "expected numbers > 0"), ((), "one or several"), (np.nan, "nan")]
)
def test_bandwidths_are_positive_numbers(bad, message):
    with pytest.raises(ValueError, match=rf"GaussianMMD\.bandwidths.*{message}"):
        GaussianMMD(bad)


def test_the_energy_distance_has_a_gradient_at_equal_points():
    gradient = jax.grad(lambda y: EnergyDistance().value(jnp.asarray([[0.0, 1.0]]), y))(jnp.asarray([[0.0, 1.0]]))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.slow
def test_penalties_on_the_witness_function():
    """R1 on it against differences of NumPy; where features are vectors, they have no gradient of their own."""
    data, latent = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), np.array([[1.0, 0.2], [-0.5, 1.3]])
    psi, theta = np.array([0.4, -1.1]), 0.7

    def features(psi, x):
        return jnp.stack([psi[0] * x[0], jnp.tanh(psi[1] * x[1]), x[0] * x[1]])

    objective, penalty = EnergyDistance(), R1(0.6)
    gan = dy.GAN(lambda t, z: t * z, features, data, latent, objective, OnWitness(penalty))
    players = jnp.asarray(theta), jnp.asarray(psi)
    plain = dy.GAN(lambda t, z: t * z, features, data, latent, objective)

    def of(x):
        return np.stack([psi[0] * x[:, 0], np.tanh(psi[1] * x[:, 1]), x[:, 0] * x[:, 1]], 1)

    def witness(x):
        return kernels(objective, of(x), of(data)).mean(1) - kernels(objective, of(x), of(theta * latent)).mean(1)

    # At a real point the distance to itself has a kink, whose slope counts as 0: the mean of both sides.
    steps = 1e-5 * np.eye(2)
    slopes = np.stack([(witness(data + step) - witness(data - step)) / 2e-5 for step in steps])
    added = gan.losses(players)[1] - plain.losses(players)[1]
    np.testing.assert_allclose(added, 0.3 * (slopes**2).sum(0).mean(), 1e-5)
    assert gan.losses(players)[0] == plain.losses(players)[0]
    with pytest.raises(
        TypeError, match="OnWitness needs a kernel objective, which has a witness function; got Minimax"
    ):
        dy.games.DiracGAN(dy.objectives.Minimax(), OnWitness()).field((1.0, 1.0))
    with pytest.raises(TypeError, match="OnWitness.penalty is None; expected a Penalty"):
        OnWitness(None)


@pytest.mark.slow
def test_a_network_may_return_features():
    network, parameters = dy.networks.from_equinox(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)))
    function, same = dy.split_module(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)))
    data, latent = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), np.array([[1.0, 0.2], [-0.5, 1.3]])
    for penalty in (None, OnWitness(R1(0.3))):
        gans = [dy.GAN(lambda t, z: t * z, one, data, latent, GaussianMMD(), penalty) for one in (network, function)]
        losses = [gan.losses((jnp.asarray(0.7), start)) for gan, start in zip(gans, (parameters, same), strict=True)]
        np.testing.assert_allclose(*losses, 1e-12)
    with pytest.raises(ValueError, match=r"expected one score per point, of shape \(3,\) or \(3, 1\)"):
        dy.GAN(lambda t, z: t * z, network, data, latent).losses((jnp.asarray(0.7), parameters))
