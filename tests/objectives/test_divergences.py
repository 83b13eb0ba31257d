"""What the best discriminator of every pointwise objective measures, and what the generator goes downhill on."""

import functools
import inspect

import hypothesis
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from hypothesis import strategies as st

from dynamics import catalogue, objectives
from dynamics.objectives import FGAN, AlphaLoss, LeastSquares, Pointwise

POINTS = 4


def divergence(f):
    """The sum of q f(p/q), for f with f(1) = 0."""
    return lambda p, q: np.sum(q * f(p / q))


def kl(p, q):
    return np.sum(p * np.log(p / q))


def jsd(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def triangular(p, q):
    return np.sum((p - q) ** 2 / (p + q))


def hellinger(p, q):
    return np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)


def variation(p, q):
    return np.abs(p - q).sum() / 2


def neyman(p, q):
    return np.sum((p - q) ** 2 / p)


def pearson(p, q):
    return neyman(q, p)


def spherical(p, q):
    return np.sum(np.hypot(p, q)) - np.sqrt(2)


def arimoto(alpha):
    """2 JSD at 1, the squared Hellinger distance at 1/2."""

    def value(p, q):
        total = (p**alpha + q**alpha) ** (1 / alpha)
        return alpha / (alpha - 1) * (total.sum() - 2 ** (1 / alpha))

    return value


def reversed_kl(p, q):
    return kl(q, p)


def non_saturating_hellinger(p, q):
    return 2 / 3 * (np.sum(q**1.5 / np.sqrt(p)) - 1)


def nothing(p, q):
    return 0.0


def times(factor, function):
    return lambda p, q: factor * function(p, q)


def towards_the_mixture(p, q):
    return 2 * kl(p, (p + q) / 2) - triangular(p, q) / 4


def first_gan(p, q):
    return kl(q, p) - 2 * jsd(p, q)


# (objective; the discriminator's divergence, the generator's; the weight of its gradient as a function of the ratio)
SAME = None  # the generator's is the discriminator's
CASES = {
    "minimax": (objectives.Minimax(), times(2, jsd), SAME, lambda r: r / (1 + r)),
    "non-saturating": (objectives.NonSaturating(), times(2, jsd), first_gan, lambda r: 1 / (1 + r)),
    "squares": (
        LeastSquares(0, 1, 1),
        times(1 / 8, triangular),
        times(0.5, towards_the_mixture),
        lambda r: r / (1 + r) ** 3,
    ),
    "squares, c between": (LeastSquares(), times(1 / 2, triangular), ..., lambda r: 2 * r * (1 - r) / (1 + r) ** 3),
    "zero-sum squares": (
        LeastSquares(-0.5, 1, zero_sum=True),
        times(2.25 / 8, triangular),
        SAME,
        lambda r: 2.25 * r**2 / (1 + r) ** 3,
    ),
    "hinge": (objectives.Hinge(), times(2, variation), nothing, np.zeros_like),
    "Brier": (objectives.Brier(), times(1 / 4, triangular), SAME, lambda r: 2 * r**2 / (1 + r) ** 3),
    "Brier, NS": (
        objectives.Brier(False),
        times(1 / 4, triangular),
        towards_the_mixture,
        lambda r: 2 * r / (1 + r) ** 3,
    ),
    "exponential": (objectives.Exponential(), hellinger, SAME, lambda r: np.sqrt(r) / 2),
    "exponential, NS": (
        objectives.Exponential(False),
        hellinger,
        non_saturating_hellinger,
        lambda r: 1 / (2 * np.sqrt(r)),
    ),
    "misclassification": (objectives.Misclassification(), variation, nothing, np.zeros_like),
    "spherical": (objectives.Spherical(), spherical, SAME, lambda r: r**2 / (1 + r**2) ** 1.5),
    "spherical, NS": (objectives.Spherical(False), spherical, ..., lambda r: r / (1 + r**2) ** 1.5),
    "PGAN": (
        objectives.PGAN(1.5, -0.5, 0.5),
        times(1, triangular),
        times(4, towards_the_mixture),
        lambda r: 8 * r / (1 + r) ** 3,
    ),
    "KL": (objectives.KL(), kl, SAME, lambda r: r),
    "KL, NS": (objectives.KL(False), kl, reversed_kl, np.ones_like),
    "reverse KL": (objectives.ReverseKL(), reversed_kl, SAME, np.ones_like),
    "reverse KL, NS": (objectives.ReverseKL(False), reversed_kl, times(0.5, neyman), lambda r: 1 / r),
    "Pearson": (objectives.Pearson(), pearson, SAME, lambda r: 2 * r**2),
    "Pearson, NS": (objectives.Pearson(False), pearson, times(2, kl), lambda r: 2 * r),
    "Neyman": (objectives.Neyman(), neyman, SAME, lambda r: 2 / r),
    "Neyman, NS": (
        objectives.Neyman(False),
        neyman,
        lambda p, q: (np.sum(q**3 / p**2) - 1) / 3,
        lambda r: 2 / r**2,
    ),
    "Hellinger": (objectives.SquaredHellinger(), hellinger, SAME, lambda r: np.sqrt(r) / 2),
    "Hellinger, NS": (
        objectives.SquaredHellinger(False),
        hellinger,
        non_saturating_hellinger,
        lambda r: 1 / (2 * np.sqrt(r)),
    ),
    "JSD": (objectives.JensenShannon(), jsd, SAME, lambda r: r / (1 + r) / 2),
    "JSD, NS": (objectives.JensenShannon(False), jsd, times(0.5, first_gan), lambda r: 1 / (1 + r) / 2),
    "2 JSD": (objectives.JensenShannon(doubled=True), times(2, jsd), SAME, lambda r: r / (1 + r)),
    "TV": (objectives.TotalVariation(), variation, nothing, np.zeros_like),
    "TV, NS": (objectives.TotalVariation(False), variation, nothing, np.zeros_like),
    "any f": (FGAN(), kl, SAME, lambda r: r),
    "another f, NS": (
        FGAN(lambda u: u**3 / 3 - u, False),
        divergence(lambda u: (u**3 - 1) / 3),
        times(1, pearson),
        lambda r: 2 * r**2,
    ),
    "alpha 1/2": (AlphaLoss(0.5, 0.5), hellinger, SAME, lambda r: np.sqrt(r) / 2),
    "alpha 1": (AlphaLoss(), times(2, jsd), SAME, lambda r: r / (1 + r)),
    "alpha 3": (AlphaLoss(3.0, 3.0), arimoto(3.0), SAME, lambda r: 3 * r**3 / (1 + r**3) ** (5 / 3)),
    "alphas .6, 2": (AlphaLoss(0.6, 2.0), arimoto(0.6), ..., lambda r: 0.6 * r**0.6 / (1 + r**0.6) ** 1.5),
    "alphas 1.5, .7, NS": (
        AlphaLoss(1.5, 0.7, False),
        arimoto(1.5),
        ...,
        lambda r: 1.5 / (1 + r**1.5) * (1 + r**-1.5) ** (3 / 7),
    ),
}


# One of each kind of formula; all of them are in the slow tests.
FEW = [
    "non-saturating",
    "squares, c between",
    "hinge",
    "Brier, NS",
    "reverse KL, NS",
    "Pearson",
    "any f",
    "alphas .6, 2",
]


@functools.cache
def program(every):
    """Of the cases, for two distributions on a few points, what the tests below look at."""

    def facts(objective, p, q, shift):
        scores = objective.optimal_score(p, q)
        loss = jnp.sum(p * objective.real_loss(scores + shift) + q * objective.fake_loss(scores + shift))
        return {
            "value": objective.divergence_value(p, q),
            "exchanged": objective.divergence_value(q, p),
            "equal": objective.divergence_value(p, p),
            "by other scores": objective.ideal_discriminator_loss - loss,
            "ratio": objective.density_ratio(scores),
            "weight": objective.generator_weight(p / q),
            "descended": objective.descended_divergence(p, q),
            "gradient": jax.grad(objective.descended_divergence, 1)(p, q),
            "paid": objective.generator_loss(scores),
        }

    def everything(p, q, shift):
        return {name: facts(CASES[name][0], p, q, shift) for name in (CASES if every else FEW)}

    return jax.jit(everything)


def masses(values):
    values = np.array(values)
    return values / values.sum()


distributions = st.tuples(*[st.floats(0.02, 1)] * POINTS).map(masses)
shifts = st.tuples(*[st.floats(-2, 2)] * POINTS).map(np.array)
SKEWED = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.2, 0.1, 0.3, 0.4])


def test_every_pointwise_objective_is_here():
    members = {cls for cls in catalogue.members("objectives").values() if issubclass(cls, Pointwise)}
    assert members == {type(case[0]) for case in CASES.values()}


@pytest.mark.slow_cases("all")
@pytest.mark.parametrize("every", [False, True], ids=["few", "all"])
@hypothesis.given(p=distributions, q=distributions, shift=shifts)
@hypothesis.example(*SKEWED, np.zeros(POINTS))
@pytest.mark.slow
def test_the_best_discriminator_measures_a_divergence(every, p, q, shift):
    for name, facts in program(every)(p, q, shift).items():
        objective, value, _, _ = CASES[name]
        np.testing.assert_allclose(facts["value"], value(p, q), 1e-9, 1e-12, err_msg=name)
        assert facts["value"] >= -1e-13 and abs(facts["equal"]) < 1e-13, name
        # No other scores gain as much: a lower bound, tight at the best ones.
        assert facts["by other scores"] <= facts["value"] + 1e-12, name
        if objective.properties.symmetric:
            np.testing.assert_allclose(facts["exchanged"], facts["value"], 1e-9, 1e-12, err_msg=name)
        ratio = p / q if objective.properties.strictly_proper else np.full(POINTS, np.nan)
        np.testing.assert_allclose(facts["ratio"], ratio, 1e-9, err_msg=name)


@pytest.mark.slow_cases("all", "few")
@pytest.mark.parametrize("every", [False, True], ids=["few", "all"])
@hypothesis.given(p=distributions, q=distributions)
@hypothesis.example(*SKEWED)
def test_the_generator_goes_downhill_on_a_divergence(every, p, q):
    for name, facts in program(every)(p, q, np.zeros(POINTS)).items():
        _, value, descended, weight = CASES[name]
        np.testing.assert_allclose(facts["weight"], weight(p / q), 1e-9, 1e-13, err_msg=name)
        if descended is not ...:
            expected = (value if descended is SAME else descended)(p, q)
            np.testing.assert_allclose(facts["descended"], expected, 1e-8, 1e-11, err_msg=name)
        if descended is nothing:
            continue  # the best score jumps, and so does what is paid for it
        # With the best scores held fixed, moving mass from point to point changes both alike.
        difference = facts["gradient"] - facts["paid"]
        np.testing.assert_allclose(
            difference - difference[0], 0, 0, 1e-8 * (1 + np.abs(facts["paid"]).max()), err_msg=name
        )


@pytest.mark.parametrize("name", CASES)
def test_single_values(name):
    """Of every case, on one pair of distributions: without a program of its own."""
    objective, value, _, _ = CASES[name]
    p, q = SKEWED
    np.testing.assert_allclose(objective.divergence_value(p, q), value(p, q), 1e-12)
    if objective.properties.symmetric is not None:
        assert objective.properties.symmetric == (abs(value(p, q) - value(q, p)) < 0.1)


@pytest.mark.parametrize("name", CASES)
def test_bounded_divergences_are_those_of_distributions_without_overlap(name):
    objective, value, _, _ = CASES[name]
    near = np.array([1 - 1e-9, 1e-9])
    apart = float(objective.divergence_value(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    close = float(objective.divergence_value(near, near[::-1]))
    if objective.properties.bounded is None:
        return
    assert objective.properties.bounded == np.isfinite(apart), name
    assert abs(close - apart) < 1e-3 if objective.properties.bounded else close > 10
    if objective.properties.bounded:
        np.testing.assert_allclose(close, value(near, near[::-1]), 1e-9)


# FACTS on pairs of Gaussians: a mirror image like N(1, 1) against N(0, 1) cannot tell KL from reverse KL.
GAUSSIANS = {
    "KL": (0.1681435513, 0.5),
    "reverse KL": (0.2534189487, 0.5),
    "Pearson": (0.2881727365, 1.7182818285),
    "Neyman": (1.9536830351, 1.7182818285),
    "Hellinger": (0.0984085931, 0.2350061948),
    "2 JSD": (0.0934841258, 0.2228429644),
    "JSD": (0.0467420629, 0.1114214822),
    "TV": (0.2347479110, 0.3829249225),
    "misclassification": (0.2347479110, 0.3829249225),
    "Brier": (0.1732251761 / 4, 0.5 - 0.3979728672),
    "exponential": (0.0984085931, 2 - 1.7649938052),
    "minimax": (0.0934841258, np.log(4) - 1.1634513968),
    "hinge": (2 * 0.2347479110, 2 * 0.3829249225),
    "spherical": (None, 1.5464693366 - np.sqrt(2)),
    "alpha 1/2": (0.0984085931, 0.2350061948),
}
NODES = np.linspace(-14, 14, 8001)


def density(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("name", GAUSSIANS)
def test_published_divergences_of_gaussians(name):
    objective = CASES[name][0]
    for printed, (mean, std) in zip(GAUSSIANS[name], ((0.5, 0.8), (1.0, 1.0)), strict=True):
        if printed is None:
            continue
        p, q = density(NODES, mean, std), density(NODES, 0, 1)
        computed = objective.divergence_value(p, q, np.full(NODES.size, NODES[1] - NODES[0]))
        # The trapezoidal rule loses digits where the densities cross and the loss has a kink.
        np.testing.assert_allclose(
            computed, printed, atol=3e-6 if name in ("TV", "misclassification", "hinge") else 2e-10
        )


@pytest.mark.slow
def test_divergence_of_what_the_first_generator_goes_downhill_on():
    p, q = density(NODES, 0.5, 0.8), density(NODES, 0, 1)
    weights = np.full(NODES.size, NODES[1] - NODES[0])
    descended = objectives.NonSaturating().descended_divergence(p, q, weights)
    np.testing.assert_allclose(descended, 0.1599348229, atol=2e-9)
    total, _ = scipy.integrate.quad(
        lambda x: density(x, 0, 1) * np.log((density(x, 0, 1) + density(x, 0.5, 0.8)) / 2 / density(x, 0.5, 0.8)), -9, 9
    )
    mixture = scipy.integrate.quad(
        lambda x: (
            (density(x, 0, 1) + density(x, 0.5, 0.8))
            * np.log((density(x, 0, 1) + density(x, 0.5, 0.8)) / 2 / density(x, 0.5, 0.8))
        ),
        -9,
        9,
    )[0]
    np.testing.assert_allclose(descended, mixture, atol=2e-9)  # 2 KL((data + model)/2, data)
    assert abs(descended - total) > 0.01  # the value of the loss is another one


# ---------------------------------------------------------------- f-GAN

NAMED = [cls for cls in catalogue.members("objectives").values() if issubclass(cls, type(FGAN()).__mro__[1])]


@pytest.mark.parametrize("cls", [cls for cls in NAMED if cls is not FGAN], ids=lambda cls: cls.__name__)
def test_conjugates_are_suprema(cls):
    objective = cls()
    for score in (-1.7, -0.4, 0.0, 0.6, 2.3):
        output = float(objective.output(jnp.asarray(score)))

        def negative(log_ratio, output=output):
            ratio = np.exp(log_ratio)
            return float(objective.function(ratio)) - ratio * output

        grid = np.linspace(-6, 6, 25)
        values = [negative(t) for t in grid]
        start = grid[np.argmin(values)]
        best = scipy.optimize.minimize_scalar(negative, bounds=(start - 0.5, start + 0.5), method="bounded")
        np.testing.assert_allclose(objective.conjugate(jnp.asarray(score)), -best.fun, atol=2e-6, err_msg=str(score))


@pytest.mark.parametrize("cls", [cls for cls in NAMED if cls is not FGAN], ids=lambda cls: cls.__name__)
def test_outputs_are_the_derivative_of_f_at_the_ratio(cls):
    p, q = SKEWED
    objective = cls()
    slopes = jax.vmap(jax.grad(objective.function))(p / q)
    np.testing.assert_allclose(objective.output(objective.optimal_score(p, q)), slopes, 1e-12, 1e-15)
    np.testing.assert_allclose(objective.ideal_discriminator_loss, -objective.function(1.0), atol=1e-15)


@pytest.mark.slow_cases("KL", "ReverseKL", "Pearson", "Neyman", "JensenShannon")
@pytest.mark.parametrize(
    "cls", [cls for cls in NAMED if cls not in (FGAN, objectives.TotalVariation)], ids=lambda cls: cls.__name__
)
@pytest.mark.slow
def test_a_function_alone_gives_the_same_divergence(cls):
    p, q = SKEWED
    for saturating in (True, False):
        named = cls(saturating)
        alone = FGAN(lambda u, named=named: named.function(u) + 3 * (u - 1), saturating)
        np.testing.assert_allclose(alone.divergence_value(p, q), named.divergence_value(p, q), 1e-12)
        np.testing.assert_allclose(alone.descended_divergence(p, q), named.descended_divergence(p, q), 1e-12)
        np.testing.assert_allclose(alone.optimal_score(p, q), np.log(p / q), 1e-15)


ACTIVATIONS = {
    "KL": lambda v: v,
    "ReverseKL": lambda v: -jnp.exp(-v),
    "Pearson": lambda v: v,
    "SquaredHellinger": lambda v: 1 - jnp.exp(-v),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_output_activation_of_ones_own(name):
    """The conjugate by bisection is the published one, with two derivatives."""
    named = getattr(objectives, name)()
    alone = FGAN(named.function, activation=ACTIVATIONS[name])
    scores = np.array([-1.6, -0.3, 0.0, 0.8, 3.0])

    def derivatives(objective):
        slope = jax.grad(objective.fake_loss)
        return [jax.vmap(f)(scores) for f in (objective.fake_loss, slope, jax.grad(slope))]

    computed, expected = (derivatives(objective) for objective in (alone, named))
    np.testing.assert_allclose(computed, expected, 1e-10, 1e-12)
    p, q = SKEWED
    np.testing.assert_allclose(alone.optimal_score(p, q), named.optimal_score(p, q), 1e-12, 1e-12)
    np.testing.assert_allclose(alone.density_ratio(alone.optimal_score(p, q)), p / q, 1e-9)
    np.testing.assert_allclose(alone.divergence_value(p, q), named.divergence_value(p, q), 1e-12)
    np.testing.assert_allclose(alone.generator_weight(p / q), named.generator_weight(p / q), 1e-9)


def test_where_no_ratio_has_an_output_the_supremum_is_at_the_end():
    chi_squared = FGAN(lambda u: (u - 1) ** 2, activation=lambda v: v)
    np.testing.assert_allclose(chi_squared.conjugate(jnp.asarray([-5.0, -2.5])), -1, 1e-12)  # at the ratio 0
    np.testing.assert_allclose(jax.vmap(jax.grad(chi_squared.conjugate))(jnp.asarray([-5.0, -2.5])), 0, atol=1e-30)


def test_the_row_gan_is_the_minimax_objective():
    row = FGAN(lambda u: u * jnp.log(u) - (u + 1) * jnp.log(u + 1))
    real, fake = jnp.asarray([0.3, -2.0]), jnp.asarray([1.1, 0.2, -0.7])
    for loss in ("discriminator", "generator"):
        of_row, of_minimax = (getattr(objective, loss)(real, fake) for objective in (row, objectives.Minimax()))
        np.testing.assert_allclose(of_row, of_minimax, 1e-13)
    np.testing.assert_allclose(float(row.function(jnp.asarray(1.0))), -np.log(4), 1e-15)


@pytest.mark.slow
def test_the_weights_of_fakes_that_the_discriminator_sees_through():
    """At r = 0.01 vanishing gradients are one line: minimax, (1/2, 1) saturating, non-saturating."""
    weights = [
        objective.generator_weight(0.01)
        for objective in (objectives.Minimax(), AlphaLoss(0.5, 1.0), objectives.NonSaturating())
    ]
    np.testing.assert_allclose(weights, [0.0099, 0.0455, 0.99], atol=1e-4)
    values = objectives.KL().generator_weight(np.geomspace(1e-12, 1e12, 7))
    np.testing.assert_allclose(values, np.geomspace(1e-12, 1e12, 7), 1e-12)


# ---------------------------------------------------------------- alpha-loss


def published(first, second, saturating):
    """f of the generator's value against the best discriminator: Welfert et al. 2023, theorems 2 and 4."""
    power = 1 - 1 / second
    if saturating:
        return lambda u: ((u ** (first * power + 1) + 1) / (u**first + 1) ** power - 2 ** (1 / second)) / power
    return lambda u: (2 ** (1 / second - 1) - u ** (first * power) / (u**first + 1) ** power) / power


alphas = st.floats(0.2, 4).filter(lambda alpha: abs(alpha - 1) > 0.05)


@functools.cache
def values_of_alpha(saturating):
    return jax.jit(lambda first, second, p, q: AlphaLoss(first, second, saturating).value_divergence(p, q))


@pytest.mark.parametrize("saturating", [True, False])
@hypothesis.given(first=alphas, second=alphas, p=distributions, q=distributions)
def test_the_generators_value_of_two_alphas(saturating, first, second, p, q):
    value = values_of_alpha(saturating)(first, second, p, q)
    expected = divergence(published(first, second, saturating))(p, q)
    np.testing.assert_allclose(value, expected, 1e-8, 1e-10)
    if AlphaLoss(first, second, saturating).is_valid:
        assert value >= -1e-12


def test_limits_of_alpha():
    p, q = SKEWED
    one = AlphaLoss(0.8, 1.0)
    limit = divergence(lambda u: 0.8 * u * np.log(u) - (u + 1) * np.log(1 + u**0.8) + 2 * np.log(2))
    np.testing.assert_allclose(one.value_divergence(p, q), limit(p, q), 1e-12)
    limit = divergence(lambda u: np.log((1 + u**0.8) / (2 * u**0.8)))
    np.testing.assert_allclose(AlphaLoss(0.8, 1.0, False).value_divergence(p, q), limit(p, q), 1e-12)
    for near in (1 - 1e-9, 1 + 1e-9):  # no digits are lost next to 1
        np.testing.assert_allclose(AlphaLoss(near, near).value_divergence(p, q), 2 * jsd(p, q), 1e-8)
    infinite = AlphaLoss(np.inf, np.inf)
    np.testing.assert_allclose(infinite.divergence_value(p, q), variation(p, q), 1e-14)
    np.testing.assert_allclose(infinite.value_divergence(p, q), variation(p, q), 1e-14)
    assert infinite.properties.strictly_proper is False and np.isnan(infinite.density_ratio(0.3))


def convex(first, second, saturating):
    """Whether f'' is positive at ratios from e^-12 to e^12, in 40 digits."""
    f = published(mpmath.mpf(first), mpmath.mpf(second), saturating)

    def of_log(t):
        return f(mpmath.exp(t))

    with mpmath.workdps(40):  # u^2 f''(u) = g'' - g' for g(t) = f(e^t)
        return all(mpmath.diff(of_log, t, 2) - mpmath.diff(of_log, t) > 0 for t in range(-12, 13))


@pytest.mark.parametrize(
    "first, second, saturating, valid",
    [
        (0.5, 0.5 / 1.5 * 1.1, True, True),
        (0.5, 0.5 / 1.5 * 0.9, True, False),
        (0.5, 5.0, True, True),
        (3.0, 1.65, True, True),
        (3.0, 1.35, True, False),
        (3.0, 3.0, True, True),
        (3.0, 3.5, True, False),
        (1.5, 10.0, True, False),
        (1.9, 1.9, False, True),
        (2.2, 2.2, False, False),
        (4.0, 1.25, False, True),
        (4.0, 1.45, False, False),
        (0.6, 8.0, False, True),
    ],
)
def test_where_two_alphas_are_valid(first, second, saturating, valid):
    assert bool(AlphaLoss(first, second, saturating).is_valid) is valid
    assert convex(first, second, saturating) is valid


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, [1.0, 2.0]])
def test_an_alpha_is_a_positive_number(bad):
    with pytest.raises(ValueError, match=r"AlphaLoss\.alpha_generator is .*expected one number > 0, or infinity"):
        AlphaLoss(1.0, bad)


# ---------------------------------------------------------------- float32


@pytest.mark.slow
def test_nothing_is_lost_far_out_in_float32():
    """Losses and their derivatives at 0 and at +-100 are those of float64, rounded; infinite where too large."""
    points = np.array([-100.0, -20.0, 0.0, 20.0, 100.0])

    def everything(scores):
        computed = {}
        for name, (objective, *_) in CASES.items():
            if type(objective) is not FGAN:
                losses = (objective.real_loss, objective.fake_loss, objective.generator_loss)
                computed[name] = [f(scores) for f in losses] + [jax.vmap(jax.grad(f))(scores) for f in losses]
        return computed

    exact, rounded = (jax.jit(everything)(jnp.asarray(points, dtype)) for dtype in (jnp.float64, jnp.float32))
    for name, rows in exact.items():
        for row, (truth, value) in enumerate(zip(rows, rounded[name], strict=True)):
            assert value.dtype == jnp.float32, name
            with np.errstate(over="ignore", under="ignore"):
                truth = np.asarray(truth).astype(np.float32)
            truth = np.where(np.abs(truth) < np.finfo(np.float32).tiny, 0, truth)
            np.testing.assert_allclose(value, truth, 3e-5, 1e-37, err_msg=f"{name}, {row}")


def discrete(kind, random, count=5):
    """Two lists of probabilities: alike, of all magnitudes, with zeros, disjoint or nearly so."""
    p, q = random.dirichlet(np.ones(count)), random.dirichlet(np.ones(count))
    if kind == "all magnitudes":
        p, q = 10 ** random.uniform(-8, 0, count), 10 ** random.uniform(-8, 0, count)
    if kind == "zeros":
        p, q = (
            mass * (random.random(count) < 0.6) + [0.1 * at, 0.1 * (1 - at), 0, 0, 0] for at, mass in ((1, p), (0, q))
        )
    if kind == "disjoint":
        p[:2], q[2:] = 0, 0
    if kind == "nearly disjoint":
        p[:2], q[2:] = 1e-9 * p[:2], 1e-9 * q[2:]
    return p / p.sum(), q / q.sum()


@pytest.mark.slow
@pytest.mark.parametrize("saturating", [True, False])
@pytest.mark.parametrize("name", sorted(catalogue.members("objectives")))
def test_no_number_is_missing_for_any_pair_of_discrete_densities(name, saturating):
    cls = getattr(objectives, name)
    if "saturating" not in inspect.signature(cls).parameters:
        if not saturating:
            pytest.skip("one generator's loss")
        objective = cls()
    else:
        objective = cls(saturating=saturating)
    # Distances of points decide, and no ratio of densities is told.
    by_distance = name in ("Wasserstein", "GaussianMMD", "RationalQuadraticMMD", "EnergyDistance")
    relativistic = name.startswith("Relativistic")
    ratio = objective.properties.strictly_proper

    @jax.jit
    def everything(p, q):
        points = jnp.arange(5.0, dtype=p.dtype)
        values = {"divergence": objective.divergence_value(p, q, points=points)}
        values["exchanged"] = objective.divergence_value(q, p, points=points)
        if not by_distance:
            scores = values["scores"] = objective.optimal_score(p, q)
            if ratio:
                values["ratio"] = objective.density_ratio(scores)
            if not relativistic:
                values["weight"] = objective.generator_weight(p / q)
                values["descended"] = objective.descended_divergence(p, q)
        return values

    random = np.random.default_rng(0)
    for kind in ("alike", "all magnitudes", "zeros", "disjoint", "nearly disjoint"):
        for _ in range(8):
            p, q = discrete(kind, random)
            present = (p > 0) | (q > 0)
            for dtype in (np.float64, np.float32):
                computed = {k: np.asarray(v) for k, v in everything(p.astype(dtype), q.astype(dtype)).items()}
                for key, values in computed.items():
                    values = values[present] if values.shape == (5,) else values
                    assert not np.isnan(values).any(), (kind, dtype, key, p, q)
                value, exchanged = computed["divergence"], computed["exchanged"]
                accuracy = 1e-4 if dtype == np.float32 else 1e-7
                assert value > -accuracy
                if objective.properties.symmetric:
                    np.testing.assert_allclose(value, exchanged, accuracy, accuracy)
                if objective.properties.bounded:
                    assert np.isfinite(value)
                if ratio and dtype == np.float64:
                    with np.errstate(divide="ignore"):
                        expected = p[present] / q[present]
                    told = expected < 1e10 if name == "MDGAN" else present[present]  # its losses add 1e-8
                    np.testing.assert_allclose(computed["ratio"][present][told], expected[told], 1e-5, 1e-9)


def test_what_the_generator_goes_downhill_on_where_data_or_model_are_alone():
    p, q, ends = np.array([0.3, 0.7, 0.0]), np.array([0.2, 0.0, 0.8]), np.array([0.0, np.inf])
    root = FGAN(lambda u: jnp.square(jnp.sqrt(u) - 1))
    zero_sum = {"minimax": objectives.Minimax(), "alpha": AlphaLoss(0.3, 0.3), "root": root}

    @jax.jit
    def everything(p, q, ends):
        computed = {
            key: (each.divergence_value(p, q), each.descended_divergence(p, q)) for key, each in zero_sum.items()
        }
        for each in (objectives.KL(), FGAN(), objectives.ReverseKL()):
            computed[type(each).__name__] = each.divergence_value(p, q), each.descended_divergence(p, q)
        reverse = objectives.ReverseKL().descended_divergence(p[:2] / jnp.sum(p[:2]), q[:2] / jnp.sum(q[:2]))
        weighing = objectives.Exponential(), objectives.NonSaturating(), objectives.ReverseKL()
        return computed, reverse, [each.generator_weight(ends) for each in weighing]

    computed, reverse, weights = everything(p, q, ends)
    for key in zero_sum:
        np.testing.assert_allclose(*computed[key], 1e-9, err_msg=key)
    np.testing.assert_allclose(computed["root"][0], hellinger(p, q), 1e-12)
    for key in ("KL", "FGAN", "ReverseKL"):
        assert np.isposinf(computed[key]).all()
    # f = -log u is infinite where there are no data, not where the model has nothing.
    np.testing.assert_allclose(reverse, -np.log(0.3), rtol=1e-10)
    np.testing.assert_array_equal(weights, [[0, np.inf], [1, 0], [1, 1]])
