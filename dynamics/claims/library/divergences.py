"""Objectives and divergences: what the best discriminator measures, and what the generator goes downhill on."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import dynamics.objectives as objectives
from dynamics.checks.measures import agree, every
from dynamics.claims.base import claim
from dynamics.distributions import Sample
from dynamics.objectives import (
    AlphaLoss,
    LeastSquares,
    RelativisticAverage,
    RelativisticCentred,
    RelativisticPaired,
)
from dynamics.strategies import numbers, several

NOWOZIN = "Nowozin, Cseke, Tomioka, f-GAN, 2016"
RELATIVISTIC = "Jolicoeur-Martineau, On Relativistic f-Divergences, 2020"
MASSES = several(numbers(0.25, 2), 4).map(lambda values: np.asarray(values) / sum(values))
PAIR = dict(data=MASSES, model=MASSES)


def triangular(p, q):
    return jnp.sum(jnp.square(p - q) / (p + q))


def kl(p, q):
    return jnp.sum(p * jnp.log(p / q))


def jsd(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def level(values):
    """Less their mean: a constant added to what is paid at every point moves no mass."""
    return values - jnp.mean(values)


def is_downhill_on(divergence, objective, p, q):
    """Whether moving mass changes the divergence as it changes what the generator pays for fixed best scores."""
    gradient = jax.grad(divergence, 1)(p, q)
    paid = jax.vmap(lambda score: objective.generator(score[None], score[None]))(objective.optimal_score(p, q))
    return agree(level(gradient), level(paid))


def best_is_stationary(objective, p, q):
    scores = objective.optimal_score(p, q)
    slope = jax.grad(lambda scores: objective.discriminator(Sample(scores, p), Sample(scores, q)))(scores)
    return agree(slope, jnp.zeros_like(slope))


@claim(
    "divergences/relativistic-squares",
    r"With squares the divergences of the relativistic discriminators in pairs, against the average and against the "
    r"centre are $4\Delta/(2+\Delta)$, $8\Delta/(2+3\Delta)$ and $\Delta$, where $\Delta = \sum (p-q)^2/(p+q)$.",
    source=f"{RELATIVISTIC}, for the definitions; the closed forms are ours",
    kind="closed form",
    domain=PAIR,
    because="All best scores are multiples of (p - q)/(p + q), by 2/(2 + D), 4/(2 + 3 D) and 1.",
)
def relativistic_squares(data, model):
    delta = triangular(data, model)
    expected = (4 * delta / (2 + delta), 8 * delta / (2 + 3 * delta), delta)
    kinds = [kind("squares") for kind in (RelativisticPaired, RelativisticAverage, RelativisticCentred)]
    values = [kind.divergence_value(data, model) for kind in kinds]
    return every(
        *(agree(value, closed) for value, closed in zip(values, expected, strict=True)),
        *(best_is_stationary(kind, data, model) for kind in kinds),
    )


@claim(
    "divergences/relativistic-softplus",
    r"The relativistic GAN in pairs measures twice the Jensen-Shannon divergence between a pair of a real and a fake "
    r"sample and the same pair in the other order; its best score is $\log(p/q)$.",
    source=f"{RELATIVISTIC}, for the definition; the closed form is ours",
    kind="closed form",
    domain=PAIR,
    because="It is logistic regression of the order of a pair, whose log-odds are C(x) - C(y).",
)
def relativistic_softplus(data, model):
    objective = RelativisticPaired()
    pairs = data[:, None] * model
    best = agree(objective.optimal_score(data, model), jnp.log(data / model))
    value = agree(objective.divergence_value(data, model), 2 * jsd(pairs, pairs.T))
    return every(best, value, best_is_stationary(objective, data, model))


DESCENDED = {
    "KL": lambda p, q: kl(q, p),
    "ReverseKL": lambda p, q: jnp.sum(jnp.square(p - q) / p) / 2,
    "Pearson": lambda p, q: 2 * kl(p, q),
    "SquaredHellinger": lambda p, q: 2 / 3 * jnp.sum(q**1.5 / jnp.sqrt(p)),
    "JensenShannon": lambda p, q: kl(q, p) / 2 - jsd(p, q),
}


@claim(
    "divergences/non-saturating",
    r"A non-saturating f-GAN goes downhill on another divergence, with $f''(u)/u$ in place of $f''$: KL(model, data) "
    r"for KL, half of Neyman's chi-squared for the reverse KL, 2 KL(data, model) for Pearson, "
    r"$\frac23\int q^{3/2} p^{-1/2}$ for the squared Hellinger distance, KL(model, data)/2 - JSD for JSD.",
    source="Shannon, Properties of f-Divergences and f-GAN Training, 2020; Arjovsky and Bottou 2017 for the last",
    kind="closed form",
    domain=dict(**PAIR, name=st.sampled_from(list(DESCENDED))),
    because="For fixed scores the generator's gradient is that of -E T at T = f'(p/q), whose slope is -f''(p/q).",
)
def non_saturating(data, model, name):
    return is_downhill_on(DESCENDED[name], getattr(objectives, name)(saturating=False), data, model)


@claim(
    "divergences/non-saturating-is-the-same",
    "The non-saturating generator has stronger gradients, and goes downhill on the Jensen-Shannon divergence as well.",
    source="Folklore",
    kind="refuted",
    domain=PAIR,
    because="It goes downhill on KL(model, data) - 2 JSD(data, model), which is unbounded and not symmetric.",
)
def non_saturating_is_the_same(data, model):
    # Up to any factor: the gradients are compared as directions.
    objective = objectives.NonSaturating()
    gradient = level(jax.grad(jsd, 1)(data, model))
    paid = level(jax.vmap(lambda score: objective.generator(score[None], score[None]))(jnp.log(data / model)))
    lengths = jnp.linalg.norm(gradient) * jnp.linalg.norm(paid)
    return agree(jnp.sum(gradient * paid), lengths)


@claim(
    "divergences/least-squares-generator",
    r"With b - c = 1 and b - a = 2 the generator of a least squares GAN goes downhill on Pearson's chi-squared of "
    r"data + model against 2 model, as its loss against the best discriminator, with the term of the data, is that.",
    source="Mao et al., Least Squares Generative Adversarial Networks, 2017, read as a statement on training",
    kind="refuted",
    domain=dict(data=MASSES, model=MASSES, target=numbers(-1, 1)),
    because="That is its value; its gradient holds the discriminator fixed, and sends fakes to the score c from both "
    "sides: where the score is above c it is the opposite of the divergence's.",
)
def least_squares_generator(data, model, target):
    # Twice the loss with the term of the data is the divergence; that term has no gradient.
    objective = LeastSquares(target - 1, target + 1, target)
    return is_downhill_on(lambda p, q: triangular(p, q) / 2, objective, data, model)


@claim(
    "divergences/pearson-row",
    r"The f-divergence of $f = (u-1)^2$ is $\int (p-q)^2/p$.",
    source="Often printed tables of f-divergences",
    kind="refuted",
    domain=PAIR,
    because="It is the integral over q: the one over p is Neyman's, of f = (1-u)^2/u.",
)
def pearson_row(data, model):
    return agree(objectives.Pearson().divergence_value(data, model), jnp.sum(jnp.square(data - model) / data))


@claim(
    "divergences/reverse-kl-row",
    "The best output of an f-GAN for the reverse Kullback-Leibler divergence is -p/q.",
    source="Often printed tables of f-divergences",
    kind="refuted",
    domain=PAIR,
    because="f'(u) = -1/u at u = p/q is -q/p.",
)
def reverse_kl_row(data, model):
    objective = objectives.ReverseKL()
    return agree(objective.output(objective.optimal_score(data, model)), -data / model)


@claim(
    "divergences/two-alphas",
    r"The value of a saturating $(\alpha_D, \alpha_G)$-GAN against the best discriminator is least, "
    r"$\frac{\alpha_G}{\alpha_G-1}(2^{1/\alpha_G}-2)$, where model and data agree, if $\alpha_D \le 1$ and "
    r"$\alpha_G > \alpha_D/(\alpha_D+1)$, or $\alpha_D > 1$ and $\alpha_D/2 < \alpha_G \le \alpha_D$.",
    source="Welfert, Otstot, Kurri, Sankar, (alpha_D, alpha_G)-GANs, 2023",
    kind="closed form",
    domain=dict(**PAIR, first=numbers(0.25, 4), share=numbers(0.125, 0.875)),
    because="Its f is strictly convex there, and symmetric; above alpha_G = alpha_D > 1 it is convex for ratios near 1 "
    "only.",
)
def two_alphas(data, model, first, share):
    lower = jnp.where(first <= 1, first / (first + 1), first / 2)
    upper = jnp.where(first <= 1, lower + 4, first)
    objective = AlphaLoss(first, lower + share * (upper - lower))
    value = objective.value_divergence(data, model)
    exchanged = objective.value_divergence(model, data)
    valid = jnp.where(objective.is_valid, 1.0, -1.0)
    return every(valid, agree(value, exchanged), value + 1e-6)
