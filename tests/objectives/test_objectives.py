"""What the players are paid, against plain NumPy and against the divergences of the papers."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import strategies as st

from dynamics import catalogue
from dynamics.distributions import Sample
from dynamics.objectives import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    return scipy.special.expit(x)


# (objective, discriminator's and generator's loss per real and per fake score, and their derivatives)
TARGETS = (-0.7, 1.2, 0.4)
FORMULAS = {
    "minimax": (
        Minimax(),
        (lambda r: softplus(-r), softplus, lambda f: -softplus(f)),
        (lambda r: -sigmoid(-r), sigmoid, lambda f: -sigmoid(f)),
    ),
    "non-saturating": (
        NonSaturating(),
        (lambda r: softplus(-r), softplus, lambda f: softplus(-f)),
        (lambda r: -sigmoid(-r), sigmoid, lambda f: -sigmoid(-f)),
    ),
    "least squares": (
        LeastSquares(*TARGETS),
        (
            lambda r: (r - TARGETS[1]) ** 2 / 2,
            lambda f: (f - TARGETS[0]) ** 2 / 2,
            lambda f: (f - TARGETS[2]) ** 2 / 2,
        ),
        (lambda r: r - TARGETS[1], lambda f: f - TARGETS[0], lambda f: f - TARGETS[2]),
    ),
    "wasserstein": (
        Wasserstein(),
        (lambda r: -r, lambda f: f, lambda f: -f),
        (lambda r: -np.ones_like(r), np.ones_like, lambda f: -np.ones_like(f)),
    ),
    "hinge": (
        Hinge(),
        (lambda r: np.maximum(0, 1 - r), lambda f: np.maximum(0, 1 + f), lambda f: -f),
        (lambda r: -1.0 * (r < 1), lambda f: 1.0 * (f > -1), lambda f: -np.ones_like(f)),
    ),
}
numbers = st.tuples(*[st.floats(-60, 60)] * 3).map(np.array)  # of one size, so that nothing compiles twice
weights = st.tuples(*[st.floats(0.01, 1)] * 3).map(np.array).map(lambda values: values / values.sum())


@functools.cache
def compiled(name):
    """Both losses and their derivatives with respect to real and fake scores."""
    objective = FORMULAS[name][0]

    def both(r, f, p, q):
        samples = Sample(r, p), Sample(f, q)
        return objective.discriminator(*samples), objective.generator(*samples)

    return jax.jit(lambda r, f, p, q: (both(r, f, p, q), jax.jacrev(both, (0, 1))(r, f, p, q)))


@pytest.mark.parametrize("name", FORMULAS)
@hypothesis.given(r=numbers, f=numbers, p=weights, q=weights)
def test_losses_and_their_gradients(name, r, f, p, q):
    hypothesis.assume(np.all(np.abs(np.abs(np.concatenate([r, f])) - 1) > 1e-6))  # the kinks of the hinge
    _, losses, slopes = FORMULAS[name]
    values, ((d_real, d_fake), (g_real, g_fake)) = compiled(name)(r, f, p, q)
    np.testing.assert_allclose(values[0], p @ losses[0](r) + q @ losses[1](f), 1e-13, 1e-13)
    np.testing.assert_allclose(values[1], q @ losses[2](f), 1e-13, 1e-13)
    np.testing.assert_allclose(d_real, p * slopes[0](r), 1e-13)
    np.testing.assert_allclose(d_fake, q * slopes[1](f), 1e-13)
    np.testing.assert_allclose(g_fake, q * slopes[2](f), 1e-13)
    np.testing.assert_array_equal(g_real, 0)


@pytest.mark.parametrize("name", FORMULAS)
def test_plain_arrays_of_different_lengths(name):
    objective, losses, _ = FORMULAS[name]
    r, f = np.array([0.3, -2.0, 5.0]), np.array([-0.4, 1.7])
    expected = losses[0](r).mean() + losses[1](f).mean()
    np.testing.assert_allclose(objective.discriminator(jnp.asarray(r), jnp.asarray(f)), expected, 1e-14)
    np.testing.assert_allclose(objective.generator(jnp.asarray(r), jnp.asarray(f)), losses[2](f).mean(), 1e-14)


def test_every_objective_has_formulas_here():
    assert set(catalogue.members("objectives").values()) == {type(row[0]) for row in FORMULAS.values()}


@pytest.mark.parametrize("name", FORMULAS)
def test_weights_count_repetitions(name):
    objective = FORMULAS[name][0]
    once = jnp.asarray([0.3, -1.4])
    many = jnp.repeat(once, jnp.asarray([1, 3]), total_repeat_length=4)
    sample = Sample(once, jnp.asarray([0.25, 0.75]))
    for loss in (objective.discriminator, objective.generator):
        np.testing.assert_allclose(loss(sample, sample), loss(many, many), 1e-14)


CASES = [member() for member in catalogue.members("objectives").values()]
CASES += [LeastSquares(0.0, 1.0, 1.0), LeastSquares(*TARGETS)]


@pytest.mark.parametrize("objective", CASES, ids=lambda objective: type(objective).__name__)
def test_ideal_discriminator_loss_is_the_least_loss_of_a_constant_score(objective):
    def loss(score):
        return float(objective.discriminator(jnp.full(1, score), jnp.full(1, score)))

    least = min(
        scipy.optimize.minimize_scalar(loss, bounds=(centre - 2, centre + 2), method="bounded").fun
        for centre in (-4.0, -1.0, 1.0, 4.0)
    )
    ideal = objective.ideal_discriminator_loss
    assert ideal.shape == () and jnp.issubdtype(ideal.dtype, jnp.floating)
    np.testing.assert_allclose(ideal, least, atol=1e-9)
    np.testing.assert_allclose(loss(float(objective.ideal_score)), ideal, atol=1e-14)


@pytest.mark.parametrize(
    "objective, ideal",
    [
        (Minimax(), np.log(4)),
        (NonSaturating(), np.log(4)),
        (LeastSquares(), 1.0),
        (LeastSquares(0, 1, 1), 0.25),
        (Wasserstein(), 0.0),
        (Hinge(), 2.0),
    ],
)
def test_published_ideal_losses(objective, ideal):
    np.testing.assert_allclose(objective.ideal_discriminator_loss, ideal, rtol=1e-15)


NODES = np.linspace(-14, 14, 4001)


def normal(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def integral(values, density):
    """A sample whose mean is the integral against a density on the line (the trapezoidal rule)."""
    return Sample(jnp.asarray(values), jnp.asarray(density * (NODES[1] - NODES[0])))


@pytest.mark.parametrize(
    # Derivative of 2 JSD, and of KL(model, data) - 2 JSD: Goodfellow et al. 2014; Arjovsky and Bottou 2017.
    "objective, slope",
    [(Minimax(), 0.251121407), (NonSaturating(), 0.548878593)],
)
def test_generator_slope_against_the_optimal_discriminator(objective, slope):
    z = jnp.asarray(NODES)
    weights = jnp.asarray(normal(NODES, 0, 1) * (NODES[1] - NODES[0]))

    def score(x):  # log(p / q) for p = N(0, 1), q = N(0.8, 1.3^2)
        return -(x**2) / 2 + ((x - 0.8) / 1.3) ** 2 / 2 + jnp.log(1.3)

    def loss(mean):
        return objective.generator(Sample(score(z), weights), Sample(score(mean + 1.3 * z), weights))

    np.testing.assert_allclose(jax.grad(loss)(0.8), slope, rtol=1e-8)


def test_losses_at_the_optimal_discriminator_are_divergences():
    p, q = normal(NODES, 1, 1), normal(NODES, 0, 1)
    jsd, triangular, variation = 0.1114214822, 0.4081085313, 0.3829249225
    ratio = NODES - 0.5  # log(p / q)

    def losses(objective, score):
        real, fake = integral(score, p), integral(score, q)
        return float(objective.discriminator(real, fake)), float(objective.generator(real, fake))

    for objective in (Minimax(), NonSaturating()):
        np.testing.assert_allclose(losses(objective, ratio)[0], np.log(4) - 2 * jsd, rtol=1e-9)
    # Mao et al. 2017, equation 9: with the term of the real samples added, Pearson's divergence.
    optimal = (p - q) / (p + q)
    generator = LeastSquares(-1, 1, 0).generator
    total = 2 * (generator(None, integral(optimal, q)) + generator(None, integral(optimal, p)))
    np.testing.assert_allclose(total, triangular, rtol=1e-9)
    # Lim and Ye 2017: the hinge loss is 2 - 2 TV at the sign of p - q.
    np.testing.assert_allclose(losses(Hinge(), np.sign(ratio))[0], 2 - 2 * variation, atol=1e-5)
    # One-Lipschitz critic of a translation: W1 is the distance of the means.
    np.testing.assert_allclose(losses(Wasserstein(), NODES)[0], -1, rtol=1e-9)


@pytest.mark.parametrize("target", [np.nan, np.inf, [0.0, 1.0]])
def test_a_target_is_one_finite_number(target):
    with pytest.raises(ValueError, match=r"LeastSquares\.b (is|has shape) .*expected"):
        LeastSquares(0.0, target, 1.0)


def test_changing_a_target_does_not_retrace():
    traces = 0

    @jax.jit
    def loss(objective, scores):
        nonlocal traces
        traces += 1
        return objective.discriminator(scores, scores)

    for a in (-1, 0.0, np.float32(0.5), np.float64(2)):
        loss(LeastSquares(a, 1.0, 1), jnp.ones(3))
    assert traces == 1
