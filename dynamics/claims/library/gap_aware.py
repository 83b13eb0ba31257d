"""Objectives and the gap-aware schedule: the ideal loss, the multiplier of the rate, and what it leaves as it is."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import dynamics.objectives as objectives
from dynamics.checks.measures import (
    agree,
    below,
    eigenvalues,
    end,
    every,
    radius,
    same_spectrum,
)
from dynamics.claims.base import claim
from dynamics.distributions import Sample
from dynamics.games import DiracGAN
from dynamics.objectives import LeastSquares
from dynamics.optimisers import gap_aware_sgd, sgd
from dynamics.penalties import R1
from dynamics.schedules import gap_multiplier
from dynamics.strategies import numbers, several, signed
from dynamics.updates import Alternating, Simultaneous

HAZIMEH = "Hazimeh and Ponomareva, Mind the (optimality) Gap: A Gap-Aware Learning Rate Scheduler, AISTATS 2023"
CODE = f"{HAZIMEH}, with the authors' notebook"
IDEAL = float(2 * np.log(2))
LOSS = numbers(0, 4)
SHAPE = dict(minimum=numbers(0.05, 1), maximum=numbers(1, 4), below_by=numbers(0.05, 1), above_by=numbers(0.05, 1))
PAID = st.sampled_from(["Minimax", "LeastSquares", "Hinge", "Wasserstein"])
WEIGHTS = several(numbers(0.5, 2), 4).map(lambda weights: np.asarray(weights) / sum(weights))
SCORES = several(numbers(-4, 4), 4).map(np.asarray)
RATES = dict(first=numbers(0.05, 1), second=numbers(0.05, 1), weight=numbers(0.05, 2), decay=numbers(0, 0.95))


def by_hand(loss, ideal, minimum, maximum, width_below, width_above):
    """The two functions of the paper, as printed."""
    gap = jnp.abs(loss - ideal)
    f = jnp.clip(maximum ** (gap / width_above), 1, maximum)
    h = jnp.clip(minimum ** (gap / width_below), minimum, 1)
    return jnp.where(loss > ideal, f, h)


# The multiplier


@claim(
    "gap-aware/multiplier",
    r"Above the ideal loss, by x, the discriminator's rate is multiplied by $\mathrm{clip}(f_{max}^{x/x_{max}}, 1,"
    r" f_{max})$, below it by $\mathrm{clip}(h_{min}^{x/x_{min}}, h_{min}, 1)$.",
    source=CODE,
    kind="closed form",
    domain=dict(loss=LOSS, ideal=numbers(0.25, 4), **SHAPE),
    because="The library clips the exponents instead of the powers, which is the same.",
)
def multiplier(loss, ideal, minimum, maximum, below_by, above_by):
    computed = gap_multiplier(loss, ideal, minimum, maximum, below_by, above_by)
    return agree(computed, by_hand(loss, ideal, minimum, maximum, below_by, above_by))


@claim(
    "gap-aware/shape",
    r"The multiplier is within $[h_{min}, f_{max}]$, grows with the loss, and is 1 at the ideal loss, continuously.",
    source=CODE,
    kind="theorem",
    domain=dict(loss=LOSS, more=numbers(0, 2), ideal=numbers(0.25, 4), **SHAPE),
    because="Both exponents are 0 there, and both functions are monotone.",
)
def shape(loss, more, ideal, minimum, maximum, below_by, above_by):
    def factor(value):
        return gap_multiplier(value, ideal, minimum, maximum, below_by, above_by)

    within = every(below(minimum, factor(loss)), below(factor(loss), maximum))
    around = jnp.stack([factor(ideal * (1 + 1e-9)), factor(ideal), factor(ideal * (1 - 1e-9))])
    return every(within, below(factor(loss), factor(loss + more)), agree(around, jnp.ones(3), tolerance=1e-6))


@claim(
    "gap-aware/tenth",
    "By default the discriminator's rate doubles when its loss is a tenth or more above the ideal loss, and falls to a"
    " tenth when it is a tenth or more below.",
    source=CODE,
    kind="closed form",
    domain=dict(ideal=numbers(0.25, 4), share=numbers(0.1, 1)),
    because="Both widths are a tenth of the ideal loss, the extreme factors are 2 and 1/10.",
)
def tenth(ideal, share):
    computed = [gap_multiplier(ideal * (1 + sign * share), ideal) for sign in (1, -1)]
    return agree(jnp.stack(computed), jnp.asarray([2.0, 0.1]))


@claim(
    "gap-aware/printed-values",
    "With the ideal loss log 4 and the default widths the losses 1.2, 1.3, 1.4, 1.45 and 1.6 give the factors 0.1,"
    " 0.238516136, 1.070930819, 1.375102391 and 2.",
    source=CODE,
    kind="closed form",
    domain=dict(
        pair=st.sampled_from([(1.2, 0.1), (1.3, 0.238516136), (1.4, 1.070930819), (1.45, 1.375102391), (1.6, 2.0)]).map(
            np.asarray
        )
    ),
    because="The functions of the paper to nine digits; 0.238516138 for 1.3 comes from rounding.",
)
def printed_values(pair):
    return agree(gap_multiplier(pair[0], IDEAL), pair[1], tolerance=1e-9)


@claim(
    "gap-aware/default-widths",
    "The default widths, a tenth of the ideal loss, suit every objective: a gap of a thousandth changes the rate by"
    " less than a twentieth.",
    source=f"{HAZIMEH}: the defaults",
    kind="refuted",
    domain=dict(thousandths=signed(0.125, 1), objective=PAID),
    because="The ideal loss of the Wasserstein objective is 0, its tenth no width: every gap, however small, doubles"
    " the rate or cuts it to a tenth. The schedule itself refuses an ideal loss of 0 without absolute widths.",
)
def default_widths(thousandths, objective):
    ideal = getattr(objectives, objective)().ideal_discriminator_loss
    return gentle(gap_multiplier(ideal + thousandths / 1000, ideal))


@claim(
    "gap-aware/absolute-widths",
    "With widths of a tenth, not of the ideal loss but of 1, a gap of a thousandth changes the rate by less than a"
    " twentieth for every objective.",
    source="By hand: the defaults corrected",
    kind="closed form",
    domain=dict(thousandths=signed(0.125, 1), objective=PAID),
    because="2^(1/100) is 1.007, and 0.1^(1/100) is 0.977.",
)
def absolute_widths(thousandths, objective):
    ideal = getattr(objectives, objective)().ideal_discriminator_loss
    return gentle(gap_multiplier(ideal + thousandths / 1000, ideal, width_below=0.1, width_above=0.1))


def gentle(factor):
    """Margin of a factor that differs from 1 by less than a twentieth."""
    return 0.05 - jnp.abs(factor - 1)


# The schedule in a run


def run_by_hand(start, steps, first, second, weight, decay, early=True, turns=False):
    """Gap-aware steps on the non-saturating Dirac-GAN with R1; `early`: the average is updated before it is used."""
    game = DiracGAN(penalty=R1(weight))
    theta, psi, average = start[0], start[1], jnp.asarray(IDEAL)
    for _ in range(steps):
        v, loss = game.field((theta, psi)), game.losses((theta, psi))[1]
        moved = theta + first * v[0]
        if turns:
            v, loss = game.field((moved, psi)), game.losses((moved, psi))[1]
        new = decay * average + (1 - decay) * loss
        factor = by_hand(new if early else average, IDEAL, 0.1, 2.0, 0.1 * IDEAL, 0.1 * IDEAL)
        theta, psi, average = moved, psi + second * factor * v[1], new
    return theta, psi


START = several(numbers(-3, 3), 2).map(np.asarray)


@claim(
    "gap-aware/average",
    r"Before each of its steps the average is updated, $L \leftarrow \rho L + (1 - \rho) L_D$ from V* on, with the"
    r" discriminator's loss where its direction is taken; then its rate is multiplied. The generator's rate is not.",
    source=CODE,
    kind="closed form",
    hypotheses="the average is updated before it is used",
    domain=dict(start=START, turns=st.booleans(), **RATES),
    because="The algorithm of the paper, written out for two steps.",
)
def average(start, turns, first, second, weight, decay):
    return along_average(start, turns, first, second, weight, decay, early=True)


def along_average(start, turns, first, second, weight, decay, early):
    update = (Alternating if turns else Simultaneous)(sgd(first), gap_aware_sgd(second, IDEAL, decay=decay))
    computed = end(DiracGAN(penalty=R1(weight)), update, tuple(start), 2)
    return agree(jnp.stack(computed), jnp.stack(run_by_hand(start, 2, first, second, weight, decay, early, turns)))


average.without(
    "late",
    "the average is updated before it is used",
    because="Used first and updated then, the average would lag by a step: the first step would be a plain one.",
    check=lambda **example: along_average(**example, early=False),
)


@claim(
    "gap-aware/equilibria",
    r"The schedule neither adds nor removes equilibria: each of its steps is the plain step with the discriminator's"
    r" part multiplied by a factor in $[h_{min}, f_{max}]$.",
    source=f"{HAZIMEH}; by hand",
    kind="theorem",
    domain=dict(start=START, **RATES),
    because="A positive factor vanishes nowhere.",
)
def equilibria(start, first, second, weight, decay):
    game = DiracGAN(penalty=R1(weight))
    field = game.field(tuple(start))
    theta, psi = end(game, Simultaneous(sgd(first), gap_aware_sgd(second, IDEAL, decay=decay)), tuple(start), 1)
    step, plain = psi - start[1], second * field[1]
    bounds = every(below(0.1 * plain**2, step * plain), below(step * plain, 2 * plain**2))
    return every(agree(theta - start[0], first * field[0]), bounds)


@claim(
    "gap-aware/local-spectrum",
    r"At an equilibrium where the discriminator's loss is the ideal one, the gap-aware step has the spectrum of the"
    r" plain step, and besides the decay $\rho$ of its average.",
    source="By hand: the kink of the multiplier at the ideal loss is multiplied by a field that vanishes",
    kind="theorem",
    hypotheses="the schedule knows the ideal loss",
    domain=dict(ideal=st.just(IDEAL), **RATES),
    because="The derivative of factor times field is the factor, 1, times that of the field.",
)
def local_spectrum(ideal, first, second, weight, decay):
    game = DiracGAN(penalty=R1(weight))
    computed = eigenvalues(game, Simultaneous(sgd(first), gap_aware_sgd(second, ideal, decay=decay)))
    return same_spectrum(computed, jnp.append(plain(first, second, weight), decay), tolerance=1e-6)


def plain(first, second, weight):
    """The eigenvalues of plain simultaneous steps, by hand."""
    root = jnp.sqrt((second * weight) ** 2 / 4 - first * second / 4 + 0j)
    return 1 - second * weight / 2 + jnp.stack([root, -root])


local_spectrum.without(
    "other-ideal-loss",
    "the schedule knows the ideal loss",
    because="With another V* the rate is multiplied at the equilibrium as well, for ever.",
    ideal=numbers(1, 2),
)


@claim(
    "gap-aware/wrong-ideal-loss",
    "With a wrong ideal loss V* the gap-aware step has, at the equilibrium, the spectrum of the plain step with the"
    " discriminator's rate times the multiplier of log 4 against V*.",
    source="By hand",
    kind="closed form",
    domain=dict(ideal=numbers(1, 2), **RATES),
    because="The average settles at the loss at the equilibrium, log 4.",
)
def wrong_ideal_loss(ideal, first, second, weight, decay):
    game = DiracGAN(penalty=R1(weight))
    computed = eigenvalues(game, Simultaneous(sgd(first), gap_aware_sgd(second, ideal, decay=decay)))
    factor = by_hand(IDEAL, ideal, 0.1, 2.0, 0.1 * ideal, 0.1 * ideal)
    return same_spectrum(computed, jnp.append(plain(first, factor * second, weight), decay), tolerance=1e-6)


@claim(
    "gap-aware/stabilises",
    "Gap-aware scheduling makes the Dirac-GAN without a penalty locally stable.",
    source="Folklore",
    kind="refuted",
    domain=dict(first=RATES["first"], second=RATES["second"], decay=RATES["decay"]),
    because="Its spectrum at the equilibrium is that of plain descent: 1 +- i sqrt(h1 h2)/2, outside the circle.",
)
def stabilises(first, second, decay):
    return 1 - radius(DiracGAN(), Simultaneous(sgd(first), gap_aware_sgd(second, IDEAL, decay=decay)))


# The ideal loss


def paid(objective, low=-1.0, high=1.0):
    """An objective by its name; the targets are those of least squares."""
    return LeastSquares(low, high, low) if objective == "LeastSquares" else getattr(objectives, objective)()


@claim(
    "gap-aware/ideal-loss",
    r"When model and data agree, no discriminator's loss is below the objective's ideal loss V*: log 4 for the minimax"
    r" and the non-saturating objective, $(b - a)^2/4$ for least squares with targets a, b, 2 for the hinge, 0 for the"
    r" Wasserstein loss.",
    source=f"{HAZIMEH}, log 4; the others by minimising at every point",
    kind="theorem",
    hypotheses="model and data agree",
    domain=dict(
        scores=SCORES,
        weights=WEIGHTS,
        model=st.just(np.zeros(4)),
        objective=st.sampled_from(["NonSaturating", "LeastSquares", "Hinge", "Wasserstein"]),
        low=numbers(-2, 2),
        high=numbers(-2, 2),
    ),
    because="At every point the loss is weight times a convex function of the score.",
)
def ideal_loss(scores, weights, model, objective, low, high):
    # The model's weights are those of the data plus `model`.
    payment = paid(objective, low, high)
    loss = payment.discriminator(Sample(scores, weights), Sample(scores, weights + model))
    return below(payment.ideal_discriminator_loss, loss)


ideal_loss.without(
    "model-is-not-data",
    "model and data agree",
    because="Where the model differs, a score that is high where it has too little mass does better.",
    weights=st.just(np.full(4, 0.25)),
    model=numbers(0.125, 0.25).map(lambda moved: np.asarray([-moved, 0.0, 0.0, moved])),
)


@claim(
    "gap-aware/ideal-score",
    r"The ideal loss is reached by a constant score: 0, and $(a + b)/2$ for least squares with targets a, b.",
    source="By hand",
    kind="closed form",
    domain=dict(
        weights=WEIGHTS,
        objective=st.sampled_from(["Minimax", "LeastSquares", "Hinge", "Wasserstein"]),
        low=numbers(-2, 2),
        high=numbers(-2, 2),
    ),
    because="The minimum at every point is reached at the same score.",
)
def ideal_score(weights, objective, low, high):
    payment = paid(objective, low, high)
    sample = Sample(jnp.full(4, payment.ideal_score), weights)
    expected = {"Minimax": jnp.log(4.0), "LeastSquares": (high - low) ** 2 / 4, "Hinge": 2.0, "Wasserstein": 0.0}
    computed = payment.discriminator(sample, sample)
    return every(agree(computed, expected[objective]), agree(computed, payment.ideal_discriminator_loss))


@claim(
    "gap-aware/best-scores",
    r"Where the data have the density p and the model q, the discriminator's loss is least at the score $\log(p/q)$ "
    r"for the minimax and the non-saturating objective, at $(bp + aq)/(p + q)$ for least squares with targets a, b.",
    source="Goodfellow et al., Generative Adversarial Nets, 2014, proposition 1; Mao et al., Least Squares GAN, 2017",
    kind="closed form",
    domain=dict(
        data=WEIGHTS,
        model=WEIGHTS,
        objective=st.sampled_from(["LeastSquares", "Minimax", "NonSaturating"]),
        low=numbers(-2, 2),
        high=numbers(-2, 2),
    ),
    because="The loss is a sum over points, convex in each score, and its slope vanishes there.",
)
def best_scores(data, model, objective, low, high):
    payment = paid(objective, low, high)
    best = (high * data + low * model) / (data + model) if objective == "LeastSquares" else jnp.log(data / model)
    slope = jax.grad(lambda scores: payment.discriminator(Sample(scores, data), Sample(scores, model)))(best)
    return agree(slope, jnp.zeros_like(slope))


@claim(
    "gap-aware/least-squares-targets",
    "The ideal loss of a least squares objective is 1/2, whatever its two targets are.",
    source="Folklore: the value for the targets 0 and 1 and a loss without the factors 1/2",
    kind="refuted",
    domain=dict(low=numbers(-2, 2), width=numbers(0.25, 2)),
    because="It is (b - a)^2/4 with the factors 1/2 of the library, (b - a)^2/2 without: 1/2 for 0 and 1, 2 for +-1.",
)
def least_squares_targets(low, width):
    return agree(LeastSquares(low, low + width, low).ideal_discriminator_loss, 0.5)
