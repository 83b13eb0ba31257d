"""The Dirac-GAN: data at 0, model at theta, score of x proportional to psi x; what makes it converge, and how fast."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics.checks.measures import (
    abscissa,
    agree,
    below,
    eigenvalues,
    end,
    every,
    jacobian,
    norm,
    path,
    radius,
    same_sign,
    same_spectrum,
    when,
)
from dynamics.claims.base import claim
from dynamics.directions import Consensus
from dynamics.flows import Flow
from dynamics.game import Game, as_players
from dynamics.games import DiracGAN
from dynamics.objectives import Wasserstein
from dynamics.optimisers import sgd
from dynamics.penalties import WGANGP
from dynamics.schedules import Every
from dynamics.strategies import arrays, numbers, signed
from dynamics.updates import Alternating, Clip, Lookahead, RungeKutta, Scheduled, Simultaneous

MESCHEDER = "Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018"
BY_HAND = f"{MESCHEDER}, Dirac-GAN; the bound by hand, from the eigenvalues"
RATES = dict(first=numbers(0.25, 4), second=numbers(0.25, 4))
WEIGHT = numbers(0.05, 4)
POINT = arrays((2,))
START = st.builds(lambda theta, psi: np.asarray([theta, psi]), signed(0.5, 2), signed(0.5, 2))


def slope(t):
    """f'(t) for f(t) = -log(1 + e^-t)."""
    return jax.nn.sigmoid(-t)


def bend(t):
    """f''(t)."""
    return -jax.nn.sigmoid(t) * jax.nn.sigmoid(-t)


def pair(middle, square):
    """The numbers middle +- sqrt(square)."""
    root = jnp.sqrt(jnp.asarray(square, complex))
    return jnp.stack([middle + root, middle - root])


def gan(objective="Minimax", penalty=None, weight=1.0):
    """The library's Dirac-GAN, by the names of an objective and of a penalty."""
    return DiracGAN(getattr(objectives, objective)(), None if penalty is None else getattr(penalties, penalty)(weight))


def discriminant(matrix):
    """Of a 2 by 2 matrix: positive for two real eigenvalues, negative for a complex pair."""
    return jnp.trace(matrix) ** 2 - 4 * jnp.linalg.det(matrix)


# The fields and their spectra


@claim(
    "dirac-gan/fields",
    r"The fields are $(-\psi f'(\theta\psi), \theta f'(\theta\psi))$ for the minimax objective,"
    r" $(-\psi f'(-\theta\psi), \theta f'(\theta\psi))$ for the non-saturating and $(-\psi, \theta)$ for the"
    r" Wasserstein objective, with $f(t) = -\log(1+e^{-t})$.",
    source=f"{MESCHEDER}, definition 2.1",
    kind="closed form",
    domain=dict(point=POINT, objective=st.sampled_from(["Minimax", "NonSaturating", "Wasserstein"])),
    because="The score of the fake sample is -psi theta, that of the real one is 0.",
)
def fields(point, objective):
    theta, psi = point
    on_generator, on_discriminator = {
        "Minimax": (slope(theta * psi), slope(theta * psi)),
        "NonSaturating": (slope(-theta * psi), slope(theta * psi)),
        "Wasserstein": (1.0, 1.0),
    }[objective]
    computed = gan(objective).field((theta, psi))
    return agree(jnp.stack(computed), jnp.stack([-psi * on_generator, theta * on_discriminator]))


@claim(
    "dirac-gan/eigenvalues",
    r"At the equilibrium the flow with rates $r_1, r_2$ has the eigenvalues $\pm i\sqrt{r_1 r_2}\,f'(0)$: modulus"
    r" $\sqrt{r_1 r_2}/2$ for the minimax and the non-saturating objective, $\sqrt{r_1 r_2}$ for the Wasserstein one.",
    source=MESCHEDER,
    kind="closed form",
    domain=dict(objective=st.sampled_from(["Minimax", "NonSaturating", "Wasserstein"]), **RATES),
    because="The second derivatives of a player's own loss vanish where the other player is 0.",
)
def spectrum(objective, first, second):
    coupling = 1.0 if objective == "Wasserstein" else 0.5
    expected = pair(0.0, -first * second * coupling**2)
    return same_spectrum(eigenvalues(gan(objective), Flow(rates=(first, second))), expected)


@claim(
    "dirac-gan/simultaneous",
    r"Simultaneous gradient descent on the Dirac-GAN without a penalty is unstable for every pair of rates: its radius"
    r" is $\sqrt{1 + h_1 h_2 f'(0)^2}$.",
    source=MESCHEDER,
    kind="theorem",
    domain=dict(objective=st.sampled_from(["Minimax", "NonSaturating"]), **RATES),
    because="A step along a pair +- i f'(0) of imaginary eigenvalues lengthens what it turns.",
)
def simultaneous(objective, first, second):
    computed = radius(gan(objective), Simultaneous(sgd(first), sgd(second)))
    return agree(computed, jnp.sqrt(1 + first * second / 4))


@claim(
    "dirac-gan/inner-steps",
    r"With $n_G$ generator and $n_D$ discriminator steps in turn, $A = f'(0)\sqrt{n_G n_D h_1 h_2}$, the eigenvalues"
    r" are on the unit circle if and only if $A \le 2$; beyond, the radius is $A^2/2 - 1 + \sqrt{(A^2/2 - 1)^2 - 1}$.",
    source=MESCHEDER,
    kind="theorem",
    domain=dict(repeats=st.sampled_from([(1, 1), (2, 5)]), **RATES),
    because="Inner steps of one player add up at the equilibrium; the determinant is 1 and the trace 2 - A^2.",
)
def inner_steps(repeats, first, second):
    speed = repeats[0] * repeats[1] * first * second / 4
    beyond = jnp.maximum(speed / 2 - 1, 1)
    computed = radius(gan("NonSaturating"), Alternating(sgd(first), sgd(second), repeats=repeats))
    return agree(computed, beyond + jnp.sqrt(beyond**2 - 1), tolerance=1e-6)


# Along the flow


def invariant(players, first, second):
    """The squared distance from the equilibrium in which the rates are one."""
    theta, psi = players
    return theta**2 / first + psi**2 / second


@claim(
    "dirac-gan/conserved",
    r"The minimax flow with rates $r_1, r_2$ conserves $\theta^2/r_1 + \psi^2/r_2$: it neither converges nor diverges.",
    source=MESCHEDER,
    kind="theorem",
    hypotheses="the minimax objective; infinitely short steps",
    domain=dict(start=arrays((2,), size=2), objective=st.just("Minimax"), **RATES),
    because="Both players move with the same factor f'(theta psi), in opposite senses.",
)
def conserved(start, objective, first, second):
    update = RungeKutta((0.02 * first, 0.02 * second), "rk4")
    along = invariant(path(gan(objective), update, tuple(start), 400), first, second)
    return agree(along, jnp.full_like(along, along[0]), tolerance=1e-5)


conserved.without(
    "non-saturating",
    "the minimax objective",
    because="The non-saturating flow moves inwards, slowly: the generator's factor is f'(-theta psi).",
    objective=st.just("NonSaturating"),
)


def conserved_by_steps(start, objective, first, second):
    update = Simultaneous(sgd(0.04 * first), sgd(0.04 * second))
    along = invariant(path(gan(objective), update, tuple(start), 100), first, second)
    return agree(along, jnp.full_like(along, along[0]), tolerance=1e-5)


conserved.without(
    "steps",
    "infinitely short steps",
    because="Every simultaneous step of finite length moves outwards.",
    check=conserved_by_steps,
)


@claim(
    "dirac-gan/non-saturating-distance",
    r"Along the non-saturating flow $\frac{d}{dt}(\theta^2 + \psi^2) = -2\theta\psi\tanh(\theta\psi/2) \le 0$.",
    source=f"{MESCHEDER}; by hand",
    kind="closed form",
    domain=dict(point=POINT),
    because="f'(t) - f'(-t) = -tanh(t/2).",
)
def non_saturating_distance(point):
    theta, psi = point
    v = gan("NonSaturating").field((theta, psi))
    computed = 2 * (theta * v[0] + psi * v[1])
    return every(agree(computed, -2 * theta * psi * jnp.tanh(theta * psi / 2)), below(computed, 0.0))


def distances(start, steps):
    """The squared distances from the equilibrium at half and at the whole time, of the non-saturating flow."""
    half = end(gan("NonSaturating"), RungeKutta(0.5, "rk4"), tuple(start), steps // 2)
    whole = end(gan("NonSaturating"), RungeKutta(0.5, "rk4"), half, steps - steps // 2)
    return norm(half) ** 2, norm(whole) ** 2


@claim(
    "dirac-gan/non-saturating-rate",
    r"The non-saturating flow converges like $\theta^2 + \psi^2 \approx 8/t$.",
    source="By hand: the derivative of the squared distance averaged over a turn; radii of 0.387, 0.278, 0.198 at times"
    " 50, 100, 200 from (1, 1)",
    kind="closed form",
    domain=dict(start=START),
    because="Close to 0 the squared distance S has the derivative -(theta psi)^2, on average -S^2/8.",
)
def non_saturating_rate(start):
    half, whole = distances(start, 2000)
    return agree(1 / whole - 1 / half, 500 / 8, tolerance=0.01)


@claim(
    "dirac-gan/non-saturating-is-geometric",
    "The non-saturating Dirac-GAN converges at a geometric rate: it gets ten times closer between the times 500 and"
    " 1000.",
    source="Folklore: it converges, so that it is thought to be stable",
    kind="refuted",
    domain=dict(start=START),
    because="Its eigenvalues are imaginary; it converges like 8/t in the squared distance.",
)
def non_saturating_is_geometric(start):
    half, whole = distances(start, 2000)
    return below(jnp.sqrt(whole), jnp.sqrt(half) / 10)


# Gradient penalties


@claim(
    "dirac-gan/gradient-penalty",
    r"With R1 or R2 of weight $\gamma$ and rates $r_1, r_2$ the flow has the eigenvalues $-r_2\gamma/2 \pm"
    r" \sqrt{r_2^2\gamma^2/4 - r_1 r_2 f'(0)^2}$.",
    source=MESCHEDER,
    kind="closed form",
    domain=dict(kinds=st.sampled_from([("NonSaturating", "R1"), ("Minimax", "R2")]), weight=WEIGHT, **RATES),
    because="Both penalties are gamma/2 psi^2, a damping of the discriminator.",
)
def gradient_penalty(kinds, weight, first, second):
    expected = pair(-second * weight / 2, second**2 * weight**2 / 4 - first * second / 4)
    return same_spectrum(eigenvalues(gan(*kinds, weight), Flow(rates=(first, second))), expected)


@claim(
    "dirac-gan/published-weight",
    r"A weight w of the gradient penalty in the published code is the weight $\gamma = w$ of the paper: the eigenvalues"
    r" of the code's loss $w\,E\|\nabla D\|^2$ are $-w/2 \pm \sqrt{w^2/4 - f'(0)^2}$.",
    source="Public code of Mescheder, Geiger, Nowozin 2018 (reg_param)",
    kind="refuted",
    domain=dict(weight=WEIGHT),
    because="The code leaves out the factor 1/2: its weight 10 is 20 in the paper.",
)
def published_weight(weight):
    def losses(players, key=None):
        on_generator, on_discriminator = gan("NonSaturating").losses(players)
        return on_generator, on_discriminator + weight * players[1] ** 2

    game = Game.from_losses(losses, [(0.0, 0.0)])
    return same_spectrum(eigenvalues(game, Flow()), pair(-weight / 2, weight**2 / 4 - 1 / 4))


@claim(
    "dirac-gan/wasserstein-penalty",
    r"The Wasserstein Dirac-GAN with R1 has the eigenvalues $-\gamma/2 \pm \sqrt{\gamma^2/4 - 1}$.",
    source=f"{MESCHEDER}; by hand",
    kind="closed form",
    domain=dict(weight=WEIGHT, penalty=st.sampled_from(["R1", "R2"])),
    because="As with the minimax objective, with f'(0) = 1.",
)
def wasserstein_penalty(weight, penalty):
    computed = eigenvalues(gan("Wasserstein", penalty, weight), Flow())
    return same_spectrum(computed, pair(-weight / 2, weight**2 / 4 - 1))


@claim(
    "dirac-gan/critical-weight",
    r"Under R1 the Dirac-GAN turns if and only if $\gamma < 2 f'(0) = 1$.",
    source=MESCHEDER,
    kind="theorem",
    domain=dict(weight=WEIGHT, objective=st.sampled_from(["Minimax", "NonSaturating"])),
    because="The discriminant of the Jacobian is gamma^2 - 1.",
)
def critical_weight(weight, objective):
    return same_sign(weight - 1, discriminant(jacobian(gan(objective, "R1", weight), Flow())))


@claim(
    "dirac-gan/best-weight",
    r"No weight of R1 makes the flow of the Dirac-GAN contract faster than $e^{-t/2}$; $\gamma = 1$ reaches it.",
    source=MESCHEDER,
    kind="theorem",
    domain=dict(weight=WEIGHT),
    because="The slower eigenvalue is -gamma/2 up to 1 and grows beyond.",
)
def best_weight(weight):
    reached = agree(abscissa(gan("Minimax", "R1", 1.0), Flow()), -0.5, tolerance=1e-6)
    return every(below(-0.5, abscissa(gan("Minimax", "R1", weight), Flow()), 1e-6), reached)


@claim(
    "dirac-gan/stronger-is-faster",
    "The stronger the gradient penalty, the faster the flow of the Dirac-GAN converges.",
    source="Folklore",
    kind="refuted",
    domain=dict(weight=WEIGHT, more=numbers(0.25, 4)),
    because="Beyond gamma = 1 the slower eigenvalue -gamma/2 + sqrt(gamma^2/4 - 1/4) grows towards 0.",
)
def stronger_is_faster(weight, more):
    weak, strong = (abscissa(gan("Minimax", "R1", gamma), Flow()) for gamma in (weight, weight + more))
    return below(strong, weak)


@claim(
    "dirac-gan/discriminator-speed",
    r"With R1 and the discriminator sped up by $\tau$ the eigenvalues are $-\frac12(\tau\gamma \mp"
    r" \sqrt{\tau^2\gamma^2 - \tau})$: stable for every ratio, and real if and only if $\tau \ge 1/\gamma^2$.",
    source="Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale Separation,"
    " 2021, Dirac-GAN",
    kind="closed form",
    domain=dict(weight=WEIGHT, ratio=numbers(0.05, 20)),
    because="The Jacobian is [[0, -1/2], [tau/2, -tau gamma]].",
)
def discriminator_speed(weight, ratio):
    matrix = jacobian(gan("NonSaturating", "R1", weight), Flow(rates=(1.0, ratio)))
    expected = pair(-ratio * weight / 2, (ratio**2 * weight**2 - ratio) / 4)
    computed = jnp.linalg.eigvals(matrix)
    turning = same_sign(ratio * weight**2 - 1, discriminant(matrix) / ratio)
    return every(same_spectrum(computed, expected), turning, -jnp.max(computed.real))


@claim(
    "dirac-gan/instance-noise",
    r"Instance noise $N(0, s^2)$ on data and model gives the eigenvalues $f''(0)s^2 \pm \sqrt{f''(0)^2 s^4 - f'(0)^2} ="
    r" -s^2/4 \pm \sqrt{s^4/16 - 1/4}$.",
    source=MESCHEDER,
    kind="closed form",
    domain=dict(noise=numbers(0.05, 3), objective=st.sampled_from(["Minimax", "NonSaturating"])),
    because="The noise gives the discriminator's loss the curvature -2 f''(0) s^2 at the equilibrium.",
)
def instance_noise(noise, objective):
    game = DiracGAN(getattr(objectives, objective)(), noise=noise, nodes=4)
    return same_spectrum(eigenvalues(game, Flow()), pair(-(noise**2) / 4, noise**4 / 16 - 1 / 4))


# Steps


@claim(
    "dirac-gan/simultaneous-step",
    r"Simultaneous steps of length h with R1 are stable if and only if $h < \gamma/f'(0)^2 = 4\gamma$ for"
    r" $\gamma \le 1$ and $h < 2/(\gamma/2 + \sqrt{\gamma^2/4 - 1/4})$ beyond.",
    source=BY_HAND,
    kind="theorem",
    domain=dict(weight=numbers(0.05, 3), rate=numbers(0.05, 6)),
    because="h < 2 |Re z| / |z|^2 for every eigenvalue z of the flow.",
)
def simultaneous_step(weight, rate):
    root = jnp.sqrt(jnp.maximum(weight**2 - 1, 0)) / 2
    bound = jnp.where(weight <= 1, 4 * weight, 2 / (weight / 2 + root))
    game = gan("NonSaturating", "R1", weight)
    return same_sign(bound - rate, 1 - radius(game, Simultaneous(sgd(rate), sgd(rate))))


@claim(
    "dirac-gan/simultaneous-steps",
    r"Simultaneous steps of lengths $h_1, h_2$ with R1 are stable if and only if $h_1 < 4\gamma$ and"
    r" $h_2 (2\gamma - h_1/4) < 4$.",
    source=BY_HAND,
    kind="theorem",
    domain=dict(weight=numbers(0.05, 3), first=numbers(0.05, 6), second=numbers(0.05, 6)),
    because="Jury's criterion: determinant 1 - h2 gamma + h1 h2/4 and trace 2 - h2 gamma.",
)
def simultaneous_steps(weight, first, second):
    slack = jnp.minimum(4 * weight - first, 4 - second * (2 * weight - first / 4))
    return same_sign(slack, 1 - radius(gan("Minimax", "R1", weight), Simultaneous(sgd(first), sgd(second))))


@claim(
    "dirac-gan/alternating-step",
    r"Alternating steps of length h with R1, generator first, are stable if and only if $h\gamma < 2$ and"
    r" $h < 4(\sqrt{\gamma^2 + 1} - \gamma)$.",
    source=BY_HAND,
    kind="theorem",
    domain=dict(weight=numbers(0.05, 3), rate=numbers(0.05, 6)),
    because="Jury's criterion: determinant 1 - h gamma and trace 2 - h gamma - h^2/4.",
)
def alternating_step(weight, rate):
    bound = jnp.minimum(2 / weight, 4 * (jnp.sqrt(weight**2 + 1) - weight))
    game = gan("NonSaturating", "R1", weight)
    return same_sign(bound - rate, 1 - radius(game, Alternating(sgd(rate), sgd(rate))))


@claim(
    "dirac-gan/stable-for-every-step",
    "R1 makes gradient descent on the Dirac-GAN stable, whatever the step.",
    source="Folklore: the theorem of Mescheder et al. is on steps that are short enough",
    kind="refuted",
    domain=dict(weight=WEIGHT, rate=numbers(0.05, 6), moves=st.sampled_from(["together", "in turns"])),
    because="Steps longer than the bound diverge; for simultaneous ones it is 4 gamma for small weights.",
)
def stable_for_every_step(weight, rate, moves):
    update = (Simultaneous if moves == "together" else Alternating)(sgd(rate), sgd(rate))
    return 1 - radius(gan("NonSaturating", "R1", weight), update)


# Lazy penalties: k times the weight, at every k-th step alone


def cycle_radius(game, update, steps):
    """The radius of so many steps from the first one on, per step, at the equilibrium of two numbers."""
    cycle = Lookahead(update, steps=steps, weight=1.0)

    def after(point):
        return jnp.stack(cycle.step(game, cycle.init(game, (point[0], point[1]))).players)

    return jnp.max(jnp.abs(jnp.linalg.eigvals(jax.jacfwd(after)(jnp.zeros(2))))) ** (1 / steps)


def lazy_radius(weight, rate, steps, moves="together"):
    update = (Simultaneous if moves == "together" else Alternating)(sgd(rate), sgd(rate))
    return cycle_radius(gan("NonSaturating", "R1", weight), Scheduled(update, Every(steps)), steps)


@claim(
    "dirac-gan/lazy-penalty",
    r"Lazy R1, of weight $k\gamma$ at every k-th simultaneous step of length h, is stable if and only if the product of"
    r" the k Jacobians has eigenvalues within the unit circle: with $\rho e^{i\varphi} = 1 + ih/2$, its determinant is"
    r" $d = \rho^{2k-2}(\rho^2 - hk\gamma)$, its trace $t = 2\rho^k\cos k\varphi - hk\gamma\rho^{k-1}"
    r"\cos(k-1)\varphi$, and it is stable if and only if $|d| < 1$ and $|t| < 1 + d$.",
    source="By hand, for the lazy regularisation of Karras et al., Analyzing and Improving the Image Quality of"
    " StyleGAN, 2020; 0.450 is the largest stable step for gamma = 1 and k = 4",
    kind="theorem",
    domain=dict(weight=numbers(0.05, 3), rate=numbers(0.02, 2), interval=st.sampled_from([2, 4, 7])),
    because="A step without penalty is rho times a rotation by phi; the lazy one takes h k gamma from its last entry.",
)
def lazy_penalty(weight, rate, interval):
    length, angle = jnp.sqrt(1 + rate**2 / 4), jnp.arctan(rate / 2)
    pull = rate * interval * weight
    determinant = length ** (2 * interval - 2) * (length**2 - pull)
    across = pull * length ** (interval - 1) * jnp.cos((interval - 1) * angle)
    trace = 2 * length**interval * jnp.cos(interval * angle) - across
    slack = jnp.minimum(1 - jnp.abs(determinant), 1 + determinant - jnp.abs(trace))
    return same_sign(slack, 1 - lazy_radius(weight, rate, interval))


@claim(
    "dirac-gan/lazy-is-as-stable",
    "Where R1 at every step is stable, R1 of k times the weight at every k-th step is.",
    source="Folklore: the mean of the weight is the same",
    kind="refuted",
    domain=dict(
        weight=numbers(0.05, 3),
        rate=numbers(0.02, 2),
        interval=st.sampled_from([2, 4]),
        moves=st.sampled_from(["together", "in turns"]),
    ),
    because="A single step by h k gamma must not overshoot: about h < 2/(k gamma), for gamma = 1 and k = 4 below 0.450"
    " instead of 4.",
)
def lazy_is_as_stable(weight, rate, interval, moves):
    plain, lazy = (lazy_radius(weight, rate, steps, moves) for steps in (1, interval))
    return when(plain < 1, 1 - lazy)


@claim(
    "dirac-gan/lazy-for-short-steps",
    r"Lazy R1 with $hk\gamma < 1$ and $hk < \gamma$ is stable, as R1 at every step is.",
    source="By hand",
    kind="theorem",
    domain=dict(weight=numbers(0.05, 3), part=numbers(0.05, 0.99), interval=st.sampled_from([2, 4, 7])),
    because="To first order in h a cycle of k steps is a step of length hk with the weight gamma; its determinant is"
    " below 1 where (1 + h^2/4)^(k-1) (1 + h^2/4 - h k gamma) is.",
)
def lazy_for_short_steps(weight, part, interval):
    rate = part * jnp.minimum(1 / weight, weight) / interval
    return 1 - lazy_radius(weight, rate, interval)


@claim(
    "dirac-gan/lazy-windows",
    "Where lazy R1 with alternating steps is stable, it is stable with every shorter step.",
    source="Folklore: shorter steps are safer, as they are with R1 at every step",
    kind="refuted",
    domain=dict(
        weight=numbers(0.05, 0.5), rate=numbers(0.5, 3), share=numbers(0.5, 1), interval=st.sampled_from([2, 4])
    ),
    because="There are windows of stability: for k = 2 and gamma = 0.3 steps below 1.87, and those from 2.83 to 2.97.",
)
def lazy_windows(weight, rate, share, interval):
    long, short = (lazy_radius(weight, step, interval, "in turns") for step in (rate, share * rate))
    return when(long < 1 - 1e-6, 1 - short)


# Consensus optimisation


def half_square_gradient(theta, psi, factor=1.0):
    """The gradient of half the squared minimax field; published code has a factor 1/2 on the terms of f' f''."""
    a, b, square = slope(theta * psi), bend(theta * psi), theta**2 + psi**2
    return jnp.stack([theta * a**2 + factor * psi * square * a * b, psi * a**2 + factor * theta * square * a * b])


def consensus_by_hand(point, weight, factor=1.0):
    theta, psi = point
    field = jnp.stack([-psi * slope(theta * psi), theta * slope(theta * psi)])
    return field - weight * half_square_gradient(theta, psi, factor)


@claim(
    "dirac-gan/consensus",
    r"Consensus optimisation on the minimax Dirac-GAN follows $v - \gamma(\theta a^2 + \psi S a b, \psi a^2 +"
    r" \theta S a b)$ with $a = f'(\theta\psi)$, $b = f''(\theta\psi)$, $S = \theta^2 + \psi^2$.",
    source="Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, equation 11; by hand",
    kind="closed form",
    domain=dict(point=POINT, weight=WEIGHT),
    because="Half the squared field is S a^2 / 2.",
)
def consensus(point, weight):
    computed = jnp.stack(Consensus(weight)(gan("Minimax"), tuple(point)))
    return agree(computed, consensus_by_hand(point, weight))


@claim(
    "dirac-gan/published-consensus",
    r"Consensus optimisation as printed in published code, with $\frac12\psi S a b$ and $\frac12\theta S a b$, follows"
    r" the gradient of half the squared field.",
    source="Public code of Mescheder, Geiger, Nowozin 2018 (GAN_Consensus)",
    kind="refuted",
    domain=dict(point=POINT, weight=WEIGHT),
    because="The derivative of S a^2/2 has the terms psi S a b and theta S a b; the code halves them.",
)
def published_consensus(point, weight):
    computed = jnp.stack(Consensus(weight)(gan("Minimax"), tuple(point)))
    return agree(computed, consensus_by_hand(point, weight, 0.5))


@claim(
    "dirac-gan/published-consensus-at-equilibrium",
    "At the equilibrium consensus optimisation as printed in published code has the same Jacobian as consensus itself.",
    source="Public code of Mescheder, Geiger, Nowozin 2018 (GAN_Consensus); by hand",
    kind="closed form",
    domain=dict(weight=WEIGHT),
    because="The terms that are halved are of third order.",
)
def published_consensus_at_equilibrium(weight):
    printed = jax.jacfwd(lambda point: consensus_by_hand(point, weight, 0.5))(jnp.zeros(2))
    return agree(jacobian(gan("Minimax"), Flow(Consensus(weight))), printed)


@claim(
    "dirac-gan/consensus-eigenvalues",
    r"Consensus optimisation has the eigenvalues $-\gamma f'(0)^2 \pm i f'(0)$.",
    source=f"{MESCHEDER}; by hand",
    kind="closed form",
    domain=dict(weight=WEIGHT, objective=st.sampled_from(["Minimax", "NonSaturating", "Wasserstein"])),
    because="A - gamma A^T A with A = f'(0) [[0, -1], [1, 0]].",
)
def consensus_eigenvalues(weight, objective):
    coupling = 1.0 if objective == "Wasserstein" else 0.5
    computed = eigenvalues(gan(objective), Flow(Consensus(weight)))
    return same_spectrum(computed, pair(-weight * coupling**2, -(coupling**2)), tolerance=1e-10)


# What does not converge


@claim(
    "dirac-gan/wgan-gp-field",
    r"With the two-sided penalty $\lambda(|\psi| - g_0)^2$ of WGAN-GP the field is $(-\psi, \theta - 2\lambda\,"
    r"\mathrm{sign}(\psi)(|\psi| - g_0))$.",
    source=f"{MESCHEDER}; Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3",
    kind="closed form",
    domain=dict(theta=numbers(-4, 4), psi=signed(0.125, 4), weight=WEIGHT, target=numbers(0.25, 2)),
    because="The gradient of the score is -psi at every point.",
)
def wgan_gp_field(theta, psi, weight, target):
    computed = DiracGAN(Wasserstein(), WGANGP(weight, target)).field((theta, psi))
    return agree(jnp.stack(computed), jnp.stack([-psi, theta - 2 * weight * jnp.sign(psi) * (jnp.abs(psi) - target)]))


@claim(
    "dirac-gan/wgan-gp",
    r"WGAN-GP does not converge to the equilibrium: of any three successive steps one ends at a distance (in the"
    r" largest coordinate) of at least $2h\lambda g_0/(2 + h + 2h\lambda)$.",
    source=f"{MESCHEDER}: no convergence with a fixed number of steps and fixed rates; the bound by hand",
    kind="theorem",
    domain=dict(
        start=START,
        weight=numbers(0.25, 2),
        target=numbers(0.25, 2),
        rate=numbers(0.05, 0.25),
        moves=st.sampled_from(["together", "in turns"]),
    ),
    because="The field jumps at psi = 0: where |psi| is small the penalty pushes it away by 2 h lambda (g_0 - |psi|).",
)
def wgan_gp(start, weight, target, rate, moves):
    update = (Simultaneous if moves == "together" else Alternating)(sgd(rate), sgd(rate))
    theta, psi = path(DiracGAN(Wasserstein(), WGANGP(weight, target)), update, tuple(start), 400)
    distance = jnp.maximum(jnp.abs(theta), jnp.abs(psi))
    three = jnp.maximum(jnp.maximum(distance[2:], distance[1:-1]), distance[:-2])
    least = jnp.min(jnp.where(jnp.isfinite(three), three, jnp.inf))
    return when(jnp.min(distance) > 0, below(2 * rate * weight * target / (2 + rate + 2 * rate * weight), least))


@claim(
    "dirac-gan/wgan-gp-converges",
    "The gradient penalty of WGAN-GP makes the Dirac-GAN converge: after 1000 steps it is within a hundredth of the"
    " equilibrium.",
    source="Folklore",
    kind="refuted",
    domain=dict(start=START, weight=numbers(0.25, 2), rate=numbers(0.05, 0.25)),
    because="The field jumps at psi = 0: runs end on a cycle, or, for lambda >= 1, near theta = +-2 lambda.",
)
def wgan_gp_converges(start, weight, rate):
    game = DiracGAN(Wasserstein(), WGANGP(weight, 1.0))
    return below(norm(end(game, Alternating(sgd(rate), sgd(rate)), tuple(start), 1000)), 0.01)


@claim(
    "dirac-gan/clipping",
    r"The Wasserstein Dirac-GAN with weights clipped to [-c, c] does not converge: the square $\theta^2/h_1 +"
    r" \psi^2/h_2$ (for steps in turns, less $\theta\psi$) never falls below the smaller of its first value and"
    r" $c^2/h_2$ (in turns $c^2(1/h_2 - h_1/4)$).",
    source=f"{MESCHEDER}: no convergence with a fixed number of steps and fixed rates; the bound by hand",
    kind="theorem",
    domain=dict(
        start=START,
        bound=numbers(0.25, 2),
        first=numbers(0.05, 1),
        second=numbers(0.05, 1),
        moves=st.sampled_from(["together", "in turns"]),
    ),
    because="Simultaneous steps enlarge the square, steps in turns keep it; a step that is clipped ends at |psi| = c.",
)
def clipping(start, bound, first, second, moves):
    turns = moves == "in turns"
    update = (Alternating if turns else Simultaneous)(sgd(first), sgd(second), projections=(None, Clip(bound)))
    theta, psi = path(DiracGAN(Wasserstein()), update, tuple(start), 400)
    square = theta**2 / first + psi**2 / second - (theta * psi if turns else 0)
    least = jnp.minimum(square[0], bound**2 * (1 / second - (first / 4 if turns else 0)))
    return every(below(least, jnp.min(square), 1e-9 * (1 + square[0])), below(jnp.abs(psi[1:]), bound))


@claim(
    "dirac-gan/clipping-converges",
    "Clipping the discriminator's weights makes the Wasserstein Dirac-GAN converge: after 1000 steps it is closer to"
    " the equilibrium than at the start.",
    source="Folklore",
    kind="refuted",
    domain=dict(start=START, bound=numbers(0.25, 2), rate=numbers(0.05, 0.5)),
    because="Inside the bounds simultaneous steps turn outwards; the run ends on a cycle that touches the bound.",
)
def clipping_converges(start, bound, rate):
    update = Simultaneous(sgd(rate), sgd(rate), projections=(None, Clip(bound)))
    return below(norm(end(DiracGAN(Wasserstein()), update, tuple(start), 1000)), norm(as_players(tuple(start))))
