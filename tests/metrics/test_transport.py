"""Transport and energy distances, against SciPy, all permutations, NumPy and closed forms; metrics in JAX."""

import importlib.util
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from dynamics import metrics
from dynamics.metrics import batched


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
def test_the_distance_of_scalars_is_that_of_scipy(seed, n, m):
    random = np.random.default_rng(seed)
    real, fake = random.normal(size=n), np.round(1 + random.normal(size=m), 1)
    expected = scipy.stats.wasserstein_distance(real, fake)
    assert metrics.wasserstein_distance(real, fake) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("power", [2, 3])
def test_powers_of_scalars_by_a_linear_program(power):
    random = np.random.default_rng(power)
    real, fake = random.normal(size=4), random.normal(size=6)
    costs = np.abs(real[:, None] - fake) ** power
    rows = np.kron(np.eye(4), np.ones(6)), np.kron(np.ones(4), np.eye(6))
    marginals = np.concatenate([np.full(4, 1 / 4), np.full(6, 1 / 6)])
    best = scipy.optimize.linprog(costs.ravel(), A_eq=np.concatenate(rows), b_eq=marginals)
    assert metrics.wasserstein_distance(real, fake, power) == pytest.approx(best.fun ** (1 / power), rel=1e-8)


@pytest.mark.parametrize("power", [1, 2])
def test_the_distance_of_vectors_is_that_of_the_best_permutation(power):
    random = np.random.default_rng(3)
    real, fake = random.normal(size=(5, 2)), random.normal(size=(5, 2))
    costs = np.linalg.norm(real[:, None] - fake, axis=2) ** power
    best = min(np.mean([costs[i, j] for i, j in enumerate(order)]) for order in itertools.permutations(range(5)))
    assert metrics.wasserstein_distance(real, fake, power) == pytest.approx(best ** (1 / power), rel=1e-12)


def test_the_distance_of_a_shift_is_its_length():
    rows = np.random.default_rng(4).normal(size=(50, 3))
    for power in (1, 2):
        assert metrics.wasserstein_distance(rows, rows + [3.0, 0.0, 4.0], power) == pytest.approx(5)
        assert metrics.wasserstein_distance(rows[:, 0], rows[:, 0] - 2, power) == pytest.approx(2)


def test_quantiles_of_gaussians_have_their_distance():
    """W_2^2 = (m - m')^2 + (s - s')^2, which the Frechet distance has, too."""
    quantiles = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    result = metrics.wasserstein_distance(1 + 2 * quantiles, 0.5 * quantiles - 1, 2)
    assert result == pytest.approx(np.sqrt(4 + 1.5**2), rel=1e-3)


def test_energy_distance_is_the_square_of_that_of_scipy():
    random = np.random.default_rng(5)
    real, fake = random.normal(size=30), 1 + random.normal(size=20)
    expected = scipy.stats.energy_distance(real, fake) ** 2
    assert metrics.energy_distance(real, fake) == pytest.approx(expected, rel=1e-10)


def test_energy_distance_of_vectors_by_loops():
    random = np.random.default_rng(6)
    real, fake = random.normal(size=(6, 2)), 1 + random.normal(size=(5, 2))

    def mean(pairs):
        return np.mean([np.linalg.norm(x - y) for x, y in pairs])

    cross = 2 * mean(itertools.product(real, fake))
    biased = cross - mean(itertools.product(real, real)) - mean(itertools.product(fake, fake))
    unbiased = cross - mean(itertools.permutations(real, 2)) - mean(itertools.permutations(fake, 2))
    assert metrics.energy_distance(real, fake) == pytest.approx(biased, rel=1e-12)
    assert metrics.energy_distance(real, fake, unbiased=True) == pytest.approx(unbiased, rel=1e-12)


def test_unbiased_energy_distance_of_gaussians():
    """E|X - Y| = s sqrt(2 / pi) exp(-m^2 / 2s^2) + m erf(m / (s sqrt 2)) with X - Y ~ N(m, s^2)."""

    def mean(m, s):
        return s * np.sqrt(2 / np.pi) * np.exp(-(m**2) / (2 * s**2)) + m * scipy.special.erf(m / (s * np.sqrt(2)))

    random = np.random.default_rng(7)
    exact = 2 * mean(0.7, np.sqrt(1 + 1.2**2)) - mean(0, np.sqrt(2)) - mean(0, 1.2 * np.sqrt(2))
    values = [
        metrics.energy_distance(random.normal(size=50), 0.7 + 1.2 * random.normal(size=40), unbiased=True)
        for _ in range(300)
    ]
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / np.sqrt(300)


# Sinkhorn divergence

has_ott = importlib.util.find_spec("ott") is not None


def slow_sinkhorn(real, fake, epsilon):
    """Entropic costs by alternating projections of the potentials."""

    def cost(x, y):
        costs, n, m = ((x[:, None] - y) ** 2).sum(-1), len(x), len(y)
        f, g = np.zeros(n), np.zeros(m)
        for _ in range(20_000):
            f = -epsilon * (scipy.special.logsumexp((g - costs) / epsilon, axis=1) - np.log(m))
            g = -epsilon * (scipy.special.logsumexp((f[:, None] - costs) / epsilon, axis=0) - np.log(n))
        return f.mean() + g.mean()

    return cost(real, fake) - (cost(real, real) + cost(fake, fake)) / 2


@pytest.mark.skipif(not has_ott, reason="ott-jax is not installed")
@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")
@pytest.mark.slow
def test_sinkhorn_divergence_is_that_of_numpy_and_has_both_limits():
    random = np.random.default_rng(8)
    real, fake = random.normal(size=(7, 2)), [1.0, 0.5] + random.normal(size=(7, 2))
    for epsilon in (0.3, 2.0):
        result = metrics.sinkhorn_divergence(real, fake, epsilon)
        assert result == pytest.approx(slow_sinkhorn(real, fake, epsilon), rel=1e-4)
    means = np.sum((real.mean(0) - fake.mean(0)) ** 2)
    assert metrics.sinkhorn_divergence(real, fake, 1e5) == pytest.approx(means, rel=1e-3)
    assert metrics.sinkhorn_divergence(real, fake, 0.05, iterations=100_000) == pytest.approx(
        metrics.wasserstein_distance(real, fake, 2) ** 2, rel=0.05
    )
    assert metrics.sinkhorn_divergence(real, real, 0.3) == pytest.approx(0, abs=1e-6)
    assert metrics.sinkhorn_divergence(real, fake[:4], 0.3) > 0  # unequal numbers
    with pytest.raises(RuntimeError, match="not converged within 10 iterations; use a larger epsilon"):
        metrics.sinkhorn_divergence(real, fake, 1e-3, iterations=10)


def test_without_ott_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ott", None)
    message = 'sinkhorn_divergence needs ott, which is not installed; pip install "dynamics\\[transport\\]"'
    with pytest.raises(ImportError, match=message):
        metrics.sinkhorn_divergence([0.0], [1.0], 0.1)


# In JAX


def sets():
    random = np.random.default_rng(9)
    real = random.normal(size=(3, 12, 2))
    return real, [0.5, -0.2] + 1.3 * random.normal(size=(3, 9, 2))


PAIRS = {
    "frechet": (batched.frechet_distance, metrics.frechet_distance),
    "kernel": (batched.kernel_distance, lambda real, fake: metrics.kernel_distance(real, fake).value),
    "energy": (batched.energy_distance, metrics.energy_distance),
}


@pytest.mark.slow_cases("energy")
@pytest.mark.parametrize("name", PAIRS)
def test_many_sets_at_once_are_what_each_is_alone(name):
    function, alone = PAIRS[name]
    real, fake = sets()
    expected = [alone(a, b) for a, b in zip(real, fake)]
    together = jax.jit(function)
    np.testing.assert_allclose(together(real, fake), expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(real, fake), expected, rtol=1e-9)
    shared = [alone(real[0], b) for b in fake]
    np.testing.assert_allclose(together(real[0], fake), shared, rtol=1e-9)  # one set against many
    single = together(jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=2e-4, atol=1e-4)


def test_scalars_and_modes_of_many_sets():
    real, fake = (rows[..., 0] for rows in sets())
    for power in (1, 2):
        expected = [metrics.wasserstein_distance(a, b, power) for a, b in zip(real[:, :9], fake)]
        np.testing.assert_allclose(batched.wasserstein_distance(real[:, :9], fake, power), expected, rtol=1e-12)
    rows, centres = sets()[0], np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    result = jax.jit(batched.mode_coverage)(rows, centres, 0.3)
    expected = [metrics.mode_coverage(part, centres, 0.3)[:2] for part in rows]
    np.testing.assert_allclose(np.transpose(result), expected)
    often = batched.mode_coverage(rows, centres, 0.3, within=4.0, least=4)
    expected = [metrics.mode_coverage(part, centres, 0.3, within=4.0, least=4)[:2] for part in rows]
    np.testing.assert_allclose(np.transpose(often), expected)


@pytest.mark.slow
def test_they_are_measures_of_a_simulation():
    def energy(game, players):
        return batched.energy_distance(*(sample.values for sample in game.samples(players)))

    game, start = dy.GAN.example()
    update = dy.updates.Simultaneous(dy.optimisers.sgd(0.1), dy.optimisers.sgd(0.2))
    run = dy.simulate(game, update, start, steps=3, measures={"energy": energy}, classify=False)
    expected = [
        metrics.energy_distance(*(sample.values for sample in game.samples(players))) for players in (start, run.final)
    ]
    np.testing.assert_allclose(run.measures["energy"][jnp.asarray([0, -1])], expected, rtol=1e-10)


def test_they_have_derivatives():
    """Of a shift of all samples: the Frechet distance is its square, the energy distance has a finite slope at 0."""
    rows = sets()[0][0]

    def shifted(function):
        return jax.jit(jax.grad(lambda step: function(rows, rows + step)))

    np.testing.assert_allclose(shifted(batched.frechet_distance)(jnp.asarray([0.3, -0.4])), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(shifted(batched.energy_distance)(jnp.zeros(2)), [0, 0], atol=1e-12)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: metrics.wasserstein_distance(np.eye(2), np.eye(2)[:1]),
            "real has 2 samples and fake 1; expected equa",
        ),
        (lambda: metrics.wasserstein_distance([0.0], [0.0], power=0), "power is 0"),
        (lambda: metrics.energy_distance([0.0], [0.0, 1.0], unbiased=True), "expected at least 2 samples"),
        (lambda: metrics.sinkhorn_divergence([0.0], [0.0], 0.0), "epsilon is 0.0; expected a finite number > 0"),
        (
            lambda: batched.frechet_distance(np.zeros(3), np.zeros((3, 1))),
            r"real has shape \(3,\); expected \(..., n, d",
        ),
        (lambda: batched.energy_distance(np.eye(3), np.eye(2)), "real has 3 numbers per sample and fake 2"),
        (lambda: batched.wasserstein_distance(np.zeros(3), np.zeros(2)), "expected equally many scalars"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
