"""What the players are paid, against plain NumPy and against the divergences of the papers."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st

from dynamics import catalogue, objectives
from dynamics.distributions import Sample
from dynamics.objectives import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    return scipy.special.expit(x)


def of_generator(losses, saturating):
    """A generator that is paid with the discriminator's functions."""
    real, fake = losses
    return lambda f: -fake(f) if saturating else real(f)


def two_sided(objective, losses, slopes):
    return objective, *((*pair, of_generator(pair, objective.saturating)) for pair in (losses, slopes))


def alpha_loss(alpha):
    """The alpha-loss of the probability sigmoid(t), and its derivative with respect to t."""
    power = 1 - 1 / alpha
    return (
        lambda t: -np.expm1(-power * softplus(-t)) / power,
        lambda t: -np.exp(-power * softplus(-t)) * sigmoid(-t),
    )


# (objective, discriminator's and generator's loss per real and per fake score, and their derivatives)
TARGETS = (-0.7, 1.2, 0.4)
SMALL, LARGE = alpha_loss(0.6), alpha_loss(3.0)
exp, log = np.exp, np.log
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
    "zero-sum squares": (
        LeastSquares(*TARGETS, zero_sum=True),
        (
            lambda r: (r - TARGETS[1]) ** 2 / 2,
            lambda f: (f - TARGETS[0]) ** 2 / 2,
            lambda f: -((f - TARGETS[0]) ** 2) / 2,
        ),
        (lambda r: r - TARGETS[1], lambda f: f - TARGETS[0], lambda f: TARGETS[0] - f),
    ),
    "Brier": two_sided(
        objectives.Brier(),
        (lambda r: sigmoid(-r) ** 2, lambda f: sigmoid(f) ** 2),
        (lambda r: -2 * sigmoid(-r) ** 2 * sigmoid(r), lambda f: 2 * sigmoid(f) ** 2 * sigmoid(-f)),
    ),
    "exponential": two_sided(
        objectives.Exponential(saturating=False),
        (lambda r: exp(-r / 2), lambda f: exp(f / 2)),
        (lambda r: -exp(-r / 2) / 2, lambda f: exp(f / 2) / 2),
    ),
    "misclassification": two_sided(
        objectives.Misclassification(),
        (lambda r: 1.0 * (r <= 0), lambda f: 1.0 * (f > 0)),
        (np.zeros_like, np.zeros_like),
    ),
    "spherical": two_sided(
        objectives.Spherical(saturating=False),
        (lambda r: -np.sqrt(sigmoid(2 * r)), lambda f: -np.sqrt(sigmoid(-2 * f))),
        (lambda r: -np.sqrt(sigmoid(2 * r)) * sigmoid(-2 * r), lambda f: np.sqrt(sigmoid(-2 * f)) * sigmoid(2 * f)),
    ),
    "alpha": (
        objectives.AlphaLoss(0.6, 3.0),
        (SMALL[0], lambda f: SMALL[0](-f), lambda f: -LARGE[0](-f)),
        (SMALL[1], lambda f: -SMALL[1](-f), lambda f: LARGE[1](-f)),
    ),
    "non-saturating alpha": (
        objectives.AlphaLoss(3.0, 0.6, saturating=False),
        (LARGE[0], lambda f: LARGE[0](-f), SMALL[0]),
        (LARGE[1], lambda f: -LARGE[1](-f), SMALL[1]),
    ),
    "KL": two_sided(
        objectives.KL(),
        (lambda r: -r, lambda f: exp(f - 1)),
        (lambda r: -np.ones_like(r), lambda f: exp(f - 1)),
    ),
    "reverse KL": two_sided(
        objectives.ReverseKL(saturating=False),
        (lambda r: exp(-r), lambda f: f - 1),
        (lambda r: -exp(-r), np.ones_like),
    ),
    "Pearson": two_sided(
        objectives.Pearson(),
        (lambda r: -r, lambda f: f**2 / 4 + f),
        (lambda r: -np.ones_like(r), lambda f: f / 2 + 1),
    ),
    "Neyman": two_sided(
        objectives.Neyman(saturating=False),
        (lambda r: exp(-r) - 1, lambda f: 2 - 2 * exp(-f / 2)),
        (lambda r: -exp(-r), lambda f: exp(-f / 2)),
    ),
    "Hellinger": two_sided(
        objectives.SquaredHellinger(),
        (lambda r: exp(-r) - 1, lambda f: exp(f) - 1),
        (lambda r: -exp(-r), exp),
    ),
    "Jensen-Shannon": two_sided(
        objectives.JensenShannon(),
        (lambda r: (softplus(-r) - log(2)) / 2, lambda f: (softplus(f) - log(2)) / 2),
        (lambda r: -sigmoid(-r) / 2, lambda f: sigmoid(f) / 2),
    ),
    "total variation": two_sided(
        objectives.TotalVariation(),
        (lambda r: -np.tanh(r) / 2, lambda f: np.tanh(f) / 2),
        (lambda r: -1 / (2 * np.cosh(r) ** 2), lambda f: 1 / (2 * np.cosh(f) ** 2)),
    ),
    "PGAN": (
        objectives.PGAN(1.5, -0.5, 0.7),
        tuple(lambda t, m=m: ((t - m) ** 2 / 0.7 + log(2 * np.pi * 0.7)) / 2 for m in (1.5, -0.5, 1.5)),
        tuple(lambda t, m=m: (t - m) / 0.7 for m in (1.5, -0.5, 1.5)),
    ),
    "any f": two_sided(  # f = u log u, whose output is 1 + log u
        objectives.FGAN(),
        (lambda r: -1 - r, exp),
        (lambda r: -np.ones_like(r), exp),
    ),
}
# Of one size, so that nothing compiles twice; machine code takes subnormal numbers for 0.
numbers = st.tuples(*[st.floats(-60, 60, allow_subnormal=False)] * 3).map(np.array)
weights = st.tuples(*[st.floats(0.01, 1)] * 3).map(np.array).map(lambda values: values / values.sum())


@functools.cache
def compiled():
    """Of every objective both losses, and their derivatives with respect to real and fake scores: one program."""

    def both(objective, r, f, p, q):
        samples = Sample(r, p), Sample(f, q)
        return objective.discriminator(*samples), objective.generator(*samples)

    def everything(r, f, p, q):
        return {
            name: (both(row[0], r, f, p, q), jax.jacrev(functools.partial(both, row[0]), (0, 1))(r, f, p, q))
            for name, row in FORMULAS.items()
        }

    return jax.jit(everything)


@hypothesis.given(r=numbers, f=numbers, p=weights, q=weights)
def test_losses_and_their_gradients(r, f, p, q):
    hypothesis.assume(np.all(np.abs(np.abs(np.concatenate([r, f])) - 1) > 1e-6))  # the kinks of the hinge
    for name, (values, ((d_real, d_fake), (g_real, g_fake))) in compiled()(r, f, p, q).items():
        _, losses, slopes = FORMULAS[name]
        # Tails keep their digits; a slope that crosses zero has an absolute error there.
        tiny = 1e-14 if name in ("Pearson", "PGAN", "least squares", "zero-sum squares") else 1e-300

        def same(value, expected, least, name=name):
            np.testing.assert_allclose(value, expected, 1e-13, least, err_msg=name)

        same(values[0], p @ losses[0](r) + q @ losses[1](f), 1e-13)
        same(values[1], q @ losses[2](f), 1e-13)
        same(d_real, p * slopes[0](r), tiny)
        same(d_fake, q * slopes[1](f), tiny)
        same(g_fake, q * slopes[2](f), tiny)
        np.testing.assert_array_equal(g_real, 0, err_msg=name)


@pytest.mark.parametrize("name", FORMULAS)
def test_plain_arrays_of_different_lengths(name):
    objective, losses, _ = FORMULAS[name]
    r, f = np.array([0.3, -2.0, 5.0]), np.array([-0.4, 1.7])
    expected = losses[0](r).mean() + losses[1](f).mean()
    np.testing.assert_allclose(objective.discriminator(jnp.asarray(r), jnp.asarray(f)), expected, 1e-14)
    np.testing.assert_allclose(objective.generator(jnp.asarray(r), jnp.asarray(f)), losses[2](f).mean(), 1e-14)


def test_every_objective_has_formulas_here():
    others = {cls for cls in catalogue.members("objectives").values() if not issubclass(cls, objectives.Pointwise)}
    pointwise = {type(row[0]) for row in FORMULAS.values()}
    assert set(catalogue.members("objectives").values()) == pointwise | others
    assert others - pointwise == {getattr(objectives, name) for name in COMPARING_SAMPLES}


# Whose losses are no means of functions of single scores: test_relativistic.py, test_mmd.py, test_mixture_density.py.
COMPARING_SAMPLES = [
    *("RelativisticPaired", "RelativisticAverage", "RelativisticCentred"),
    *("GaussianMMD", "RationalQuadraticMMD", "EnergyDistance"),
    "MDGAN",
]


@pytest.mark.slow_cases("Jensen-Shannon", "PGAN", "total variation", "Neyman")
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


@pytest.mark.slow_cases("AlphaLoss")
@pytest.mark.slow_cases(*COMPARING_SAMPLES[1:], "Exponential", "ReverseKL", "Neyman", "SquaredHellinger", "FGAN")
@pytest.mark.parametrize("objective", CASES, ids=lambda objective: type(objective).__name__)
def test_ideal_discriminator_loss_is_the_least_loss_of_a_constant_score(objective):
    def loss(score):
        return objective.discriminator(jnp.full(1, score), jnp.full(1, score))

    constants = np.linspace(-6, 6, 1201)  # among them all ideal scores, to within 1/200
    values = jax.vmap(loss)(constants)
    ideal, at = objective.ideal_discriminator_loss, objective.ideal_score
    assert ideal.shape == () and jnp.issubdtype(ideal.dtype, jnp.floating)
    np.testing.assert_allclose(loss(at), ideal, atol=1e-14)
    assert ideal <= values.min() + 1e-14 and values.min() < ideal + 5e-5


@pytest.mark.parametrize(
    "objective, ideal",
    [
        (Minimax(), np.log(4)),
        (NonSaturating(), np.log(4)),
        (LeastSquares(), 1.0),
        (LeastSquares(0, 1, 1), 0.25),
        (Wasserstein(), 0.0),
        (Hinge(), 2.0),
        (LeastSquares(0, 1, 1, zero_sum=True), 0.25),
        (objectives.Brier(), 0.5),
        (objectives.Exponential(), 2.0),
        (objectives.Misclassification(), 1.0),
        (objectives.Spherical(), -np.sqrt(2)),
        (objectives.AlphaLoss(0.5), 2.0),
        (objectives.AlphaLoss(1.0), np.log(4)),
        (objectives.AlphaLoss(np.inf), 1.0),
        *((getattr(objectives, name)(), 0.0) for name in ("KL", "ReverseKL", "Pearson", "Neyman", "SquaredHellinger")),
        *((getattr(objectives, name)(), 0.0) for name in ("JensenShannon", "TotalVariation", *COMPARING_SAMPLES[3:6])),
        (objectives.FGAN(lambda u: u * jnp.log(u) - (u + 1) * jnp.log(u + 1)), np.log(4)),
        (objectives.RelativisticPaired(), np.log(2)),
        (objectives.RelativisticPaired("squares"), 1.0),
        (objectives.RelativisticPaired("hinge"), 1.0),
        (objectives.RelativisticAverage(), 2 * np.log(2)),
        (objectives.RelativisticAverage("squares"), 2.0),
        (objectives.RelativisticCentred("hinge"), 2.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_published_ideal_losses(objective, ideal):
    np.testing.assert_allclose(objective.ideal_discriminator_loss, ideal, rtol=1e-15)


@pytest.mark.parametrize("alpha, printed", [(0.2, 7.5), (0.3, 3.462586), (0.9, 1.441075), (2.0, 1.171573)])
def test_ideal_losses_of_alpha(alpha, printed):
    ideal = objectives.AlphaLoss(alpha).ideal_discriminator_loss
    np.testing.assert_allclose(ideal, alpha / (alpha - 1) * (2 - 2 ** (1 / alpha)), rtol=1e-13)
    assert abs(ideal - printed) < 5e-7


NODES = np.linspace(-14, 14, 4001)


def normal(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def integral(values, density):
    """A sample whose mean is the integral against a density on the line (the trapezoidal rule)."""
    return Sample(jnp.asarray(values), jnp.asarray(density * (NODES[1] - NODES[0])))


@pytest.mark.slow_cases("objective0-0.251121407")
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
