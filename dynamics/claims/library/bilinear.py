"""Bilinear games: every method's eigenvalues in closed form, one singular value at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import (
    agree,
    below,
    difference,
    eigenvalues,
    end,
    epsilon,
    every,
    field_jacobian,
    jacobian,
    norm,
    path,
    radius,
    same_sign,
    same_spectrum,
)
from dynamics.claims.base import claim
from dynamics.directions import (
    LOLA,
    CompetitiveGradient,
    Consensus,
    CrossingTheCurl,
    HamiltonianDescent,
    PolicyPrediction,
    SymplecticAdjustment,
    Unrolled,
)
from dynamics.flows import Flow
from dynamics.game import Game
from dynamics.games import Bilinear, LinearWasserstein, Quadratic
from dynamics.optimisers import momentum, nesterov, optimistic, sgd
from dynamics.strategies import arrays, matrices_with_singular_values, numbers
from dynamics.updates import (
    ODEGAN,
    Alternating,
    Averaged,
    Extragradient,
    Lookahead,
    PastExtrapolation,
    ProximalPoint,
    RungeKutta,
    Simultaneous,
)
from dynamics.updates.base import State, replace

GIDEL = "Gidel et al., A Variational Inequality Perspective on Generative Adversarial Networks, 2019"
NEGATIVE = "Gidel et al., Negative Momentum for Improved Game Dynamics, 2019"
ZHANG_YU = "Zhang and Yu, Convergence of Gradient Methods on Bilinear Zero-Sum Games, 2020"
QIN = "Qin et al., Training Generative Adversarial Networks by Solving Ordinary Differential Equations, 2020"
MATRICES = matrices_with_singular_values(0.25, 4.0)
ROW = matrices_with_singular_values(0.25, 4.0, ((1, 2),))
SQUARE = matrices_with_singular_values(0.25, 4.0, ((1, 1), (2, 2)))
WIDE = matrices_with_singular_values(0.25, 4.0, ((2, 3),))
PAIR = matrices_with_singular_values(0.25, 4.0, ((2, 2),))
RATES = dict(first=numbers(0.01, 2), second=numbers(0.01, 2))


def largest(matrix):
    """The largest singular value."""
    return jnp.max(jnp.linalg.svd(matrix, compute_uv=False))


def smallest(matrix):
    """The smallest singular value."""
    return jnp.min(jnp.linalg.svd(matrix, compute_uv=False))


def couplings(matrix):
    """The singular values, and 0 for the directions that a matrix that is not square leaves uncoupled."""
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return values if matrix.shape[0] == matrix.shape[1] else jnp.append(values, 0.0)


def both(middle, half):
    """The numbers `middle +- half`."""
    return jnp.concatenate([middle + half, middle - half])


def root(values):
    """The complex square root of real numbers."""
    return jnp.sqrt(values + 0j)


def decides(predicted, found):
    """Margin of "the radius is below 1 exactly where the prediction is positive"; where that is 0 it must not be."""
    on_boundary = jnp.abs(predicted) < 1e4 * epsilon()
    return jnp.where(on_boundary, below(1, found, 1e3 * epsilon() ** 0.5), same_sign(predicted, 1 - found))


def rates_of(matrix, product, ratio):
    """Two rates with a ratio whose product is so large that `product` is h1 h2 sigma_max^2."""
    middle = jnp.sqrt(product) / largest(matrix)
    return middle * jnp.sqrt(ratio), middle / jnp.sqrt(ratio)


@claim(
    "bilinear/flow",
    r"The flow with rates $r_1, r_2$ keeps $\|x\|^2/r_1 + \|y\|^2/r_2$ on every bilinear game: eigenvalues "
    r"$\pm i\sqrt{r_1 r_2}\,\sigma$.",
    source="by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, x=arrays((2,)), y=arrays((3,))),
    because="The Jacobian is skew after scaling the players by the square roots of their rates.",
)
def flow(matrix, first, second, x, y):
    game, flow = Bilinear(matrix), Flow(rates=(first, second))
    turning = jnp.sqrt(first * second) * couplings(matrix) * 1j
    (dx, dy), scale = flow.field(game, 0.0, State((x, y), ())).players, 1 + (x @ x + y @ y) * largest(matrix)
    change = x @ dx / first + y @ dy / second
    return every(same_spectrum(eigenvalues(game, flow), both(0, turning)), agree(change, 0, scale=scale))


@claim(
    "bilinear/simultaneous",
    r"Simultaneous gradient descent diverges on every bilinear game, whatever the rates: its radius is "
    r"$\sqrt{1 + h_1 h_2 \sigma_{max}^2} > 1$.",
    source=f"{GIDEL}, on bilinear games; eigenvalues by hand",
    kind="theorem",
    domain=dict(matrix=MATRICES, **RATES),
    because="The step matrix is I plus a skew one (after scaling the players), whose eigenvalues are 1 +- i s.",
)
def simultaneous(matrix, first, second):
    found = radius(Bilinear(matrix), Simultaneous(sgd(first), sgd(second)))
    return agree(found, jnp.sqrt(1 + first * second * largest(matrix) ** 2))


@claim(
    "bilinear/alternating-eigenvalues",
    r"Alternating gradient descent has the eigenvalues $1 - s^2/2 \pm i s\sqrt{1 - s^2/4}$ with "
    r"$s = \sqrt{h_1 h_2}\,\sigma$.",
    source=f"{GIDEL}; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=MATRICES, **RATES),
    because="The step matrix has the determinant 1 and the trace 2 - s^2, whatever the ratio of the rates.",
)
def alternating_eigenvalues(matrix, first, second):
    s = jnp.sqrt(first * second) * couplings(matrix)
    found = eigenvalues(Bilinear(matrix), Alternating(sgd(first), sgd(second)))
    return same_spectrum(found, both(1 - s**2 / 2, s * root(s**2 / 4 - 1)))


@claim(
    "bilinear/alternating",
    r"Alternating gradient descent neither converges nor diverges on a bilinear game: all its eigenvalues lie on the "
    r"unit circle if $h_1 h_2\sigma_{max}^2 < 4$.",
    source=f"{GIDEL}; eigenvalues by hand",
    kind="theorem",
    hypotheses="h1 h2 sigma_max^2 < 4",
    domain=dict(matrix=MATRICES, product=numbers(0.01, 3.96), ratio=numbers(0.25, 4)),
    because="The determinant is 1 and the trace 2 - h1 h2 sigma^2 between -2 and 2: conjugate pairs of modulus 1.",
)
def alternating(matrix, product, ratio):
    first, second = rates_of(matrix, product, ratio)
    found = eigenvalues(Bilinear(matrix), Alternating(sgd(first), sgd(second)))
    return agree(jnp.abs(found), jnp.ones(found.shape), 10 * epsilon() ** 0.5)


alternating.without(
    "larger-steps",
    "h1 h2 sigma_max^2 < 4",
    because="Beyond 4 the trace is below -2: two real eigenvalues of product 1, one of them below -1.",
    product=numbers(4.25, 8),
)


@claim(
    "bilinear/alternating-invariant",
    r"Alternating gradient descent with x first keeps $\|x\|^2/h_1 + \|y\|^2/h_2 - x^\top A y$ on every bilinear game "
    r"$x^\top A y$; for scalars and equal rates $x^2 + y^2 - s\,xy$.",
    source="by hand; for scalars e.g. Bailey, Gidel, Piliouras, Finite Regret and Cycles with Fixed Step-Size, 2020",
    kind="closed form",
    hypotheses="x moves first",
    domain=dict(matrix=arrays((2, 3), size=2.0), **RATES, x=arrays((2,)), y=arrays((3,)), order=st.just((0, 1))),
    because="The move of x takes |x|^2/h1 - (x, Ay) to |x+|^2/h1 + (x+, Ay); the move of y takes |y|^2/h2 + (x+, Ay) "
    "to |y+|^2/h2 - (x+, Ay+).",
)
def alternating_invariant(matrix, first, second, x, y, order):
    xs, ys = path(Bilinear(matrix), Alternating(sgd(first), sgd(second), order=order), (x, y), 8)
    squares = jnp.sum(xs**2, axis=1) / first + jnp.sum(ys**2, axis=1) / second
    kept = squares - jnp.einsum("ti,ij,tj->t", xs, matrix, ys)
    return agree(kept, jnp.full(9, kept[0]), scale=1 + jnp.max(squares))


alternating_invariant.without(
    "other-order",
    "x moves first",
    because="With y first the sign of the last term is the other one.",
    order=st.just((1, 0)),
)


@claim(
    "bilinear/alternating-angle",
    r"Alternating gradient descent goes round by $\omega = 2\arcsin(s/2)$ a step, $s = \sqrt{h_1 h_2}\,\sigma < 2$: "
    r"$x_t\sin\omega = x_1\sin t\omega - x_0\sin(t-1)\omega$, likewise y.",
    source="by hand",
    kind="closed form",
    domain=dict(
        coupling=numbers(0.25, 4), product=numbers(0.01, 3.9), ratio=numbers(0.25, 4), start=arrays((2,), size=2.0)
    ),
    because="The eigenvalues are exp(+- i omega), as 1 - s^2/2 = cos(omega).",
)
def alternating_angle(coupling, product, ratio, start):
    first, second = rates_of(coupling[None, None], product, ratio)
    run = jnp.stack(path(Bilinear(coupling), Alternating(sgd(first), sgd(second)), (start[0], start[1]), 40))
    angle, time = 2 * jnp.arcsin(jnp.sqrt(product) / 2), jnp.arange(41)
    expected = run[:, 1:2] * jnp.sin(time * angle) - run[:, :1] * jnp.sin((time - 1) * angle)
    return agree(run * jnp.sin(angle), expected)


@claim(
    "bilinear/alternating-average",
    r"The uniform average of alternating gradient descent approaches the equilibrium like 1/t if "
    r"$h_1 h_2\sigma_{max}^2 < 4$ and A is invertible: with the invariant Q, "
    r"$Q(\bar z_t) \le 4\,Q(z_0)/(h_1 h_2\sigma_{min}^2 (t+1)^2)$.",
    source=f"{GIDEL}; the constant by hand",
    kind="theorem",
    hypotheses="the uniform average is looked at",
    domain=dict(
        matrix=PAIR,
        product=numbers(0.25, 3.9),
        ratio=numbers(0.25, 4),
        x=arrays((2,)),
        y=arrays((2,)),
        averaged=st.just(True),
    ),
    because="The sum of t + 1 iterates is (I - M)^-1 (z_0 - M^(t+1) z_0): M keeps Q, and |1 - exp(i omega)| = s.",
)
def alternating_average(matrix, product, ratio, x, y, averaged):
    first, second = rates_of(matrix, product, ratio)
    update = Alternating(sgd(first), sgd(second))
    xs, ys = path(Bilinear(matrix), Averaged(update) if averaged else update, (x, y), 100)
    squares = jnp.sum(xs**2, axis=1) / first + jnp.sum(ys**2, axis=1) / second
    energy = squares - jnp.einsum("ti,ij,tj->t", xs, matrix, ys)
    bound = 4 * energy[0] / (first * second * smallest(matrix) ** 2 * (1 + jnp.arange(101)) ** 2)
    return below(energy, bound, 1e4 * epsilon() * (1 + squares[0]))


alternating_average.without(
    "last-iterate",
    "the uniform average is looked at",
    because="The iterates themselves stay on their ellipse.",
    averaged=st.just(False),
)


@claim(
    "bilinear/proximal-point",
    r"The proximal point method has the eigenvalues $1/(1 \pm i s)$, $s = \sqrt{h_1 h_2}\,\sigma$: every pair "
    r"shrinks by $1/\sqrt{1 + s^2}$, however long the step.",
    source="Rockafellar, Monotone operators and the proximal point algorithm, 1976; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=ROW, first=numbers(0.01, 20), second=numbers(0.01, 20)),
    because="The step matrix is the inverse of I minus a skew one (after scaling the players).",
)
def proximal_point(matrix, first, second):
    s = jnp.sqrt(first * second) * couplings(matrix)
    found = eigenvalues(Bilinear(matrix), ProximalPoint((first, second)))
    return same_spectrum(found, 1 / both(1, 1j * s))


@claim(
    "bilinear/proximal-step",
    r"A step of the proximal point method ends at the point whose own field leads back: $z^+ - h\,v(z^+) = z$.",
    source="Martinet 1970; Rockafellar, Monotone operators and the proximal point algorithm, 1976",
    kind="closed form",
    domain=dict(matrix=ROW, first=numbers(0.01, 20), second=numbers(0.01, 20), x=arrays((1,)), y=arrays((2,))),
    because="It is the definition of the step, which Newton's method solves.",
)
def proximal_step(matrix, first, second, x, y):
    game = Bilinear(matrix)
    found = end(game, ProximalPoint((first, second)), (x, y), steps=1)
    one, two = game.field(found)
    back = found[0] - first * one, found[1] - second * two
    size = 1 + norm((x, y)) * (1 + (first + second) * largest(matrix))
    return 1 - difference(back, (x, y)) / (1e4 * epsilon() * size)


@claim(
    "bilinear/competitive-gradient",
    r"Competitive gradient descent is the proximal point method on a bilinear game: eigenvalues $1/(1 \pm i s)$, "
    r"$s = \sqrt{h_1 h_2}\,\sigma$, for every step.",
    source="Schaefer, Anandkumar, Competitive Gradient Descent, 2019",
    kind="closed form",
    domain=dict(matrix=ROW, first=numbers(0.01, 20), second=numbers(0.01, 20)),
    because="The local bilinear game whose equilibrium is played is the game itself.",
)
def competitive_gradient(matrix, first, second):
    s = jnp.sqrt(first * second) * couplings(matrix)
    direction = CompetitiveGradient((first, second), solver="dense")
    found = eigenvalues(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=direction))
    return same_spectrum(found, 1 / both(1, 1j * s))


@claim(
    "bilinear/extragradient-radius",
    r"Extragradient with one rate h has the radius $\max_\sigma \sqrt{1 - s^2 + s^4}$ with $s = h\sigma$.",
    source="Korpelevich 1976; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, rate=numbers(0.01, 2)),
    because="Per singular value the eigenvalues are 1 - s^2 +- i s.",
)
def extragradient_radius(matrix, rate):
    s = rate * jnp.linalg.svd(matrix, compute_uv=False)
    found = radius(Bilinear(matrix), Extragradient(sgd(rate), sgd(rate), extrapolation=rate))
    return agree(found, jnp.max(jnp.sqrt(1 - s**2 + s**4)))


@claim(
    "bilinear/extragradient",
    r"Extragradient with one rate h converges on a bilinear game of full rank if and only if $h\sigma_{max} < 1$.",
    source=f"Korpelevich 1976; {ZHANG_YU}",
    kind="theorem",
    hypotheses="the look-ahead is as long as the step",
    domain=dict(matrix=SQUARE, rate=numbers(0.01, 2), look_ahead=st.just(1.0)),
    because="Per singular value the eigenvalues are 1 - s^2 +- i s.",
)
def extragradient(matrix, rate, look_ahead):
    update = Extragradient(sgd(rate), sgd(rate), extrapolation=look_ahead * rate)
    return decides(1 - rate * largest(matrix), radius(Bilinear(matrix), update))


extragradient.without(
    "other-look-ahead",
    "the look-ahead is as long as the step",
    because="With a look-ahead g and a step h the game of singular value 1 is stable iff h (1 + g^2) < 2 g.",
    look_ahead=numbers(0.25, 4),
)


@claim(
    "bilinear/extragradient-two-steps",
    r"Extragradient with steps $h_i$ and look-aheads $c\,h_i$ converges on a bilinear game of full rank if and only if "
    r"$1 + c^2 h_1 h_2\sigma_{max}^2 < 2c$; for one step $\eta$, one look-ahead $\gamma$ and $\sigma = 1$: "
    r"$\eta(1 + \gamma^2) < 2\gamma$.",
    source=f"{ZHANG_YU}; eigenvalues by hand",
    kind="theorem",
    domain=dict(matrix=SQUARE, **RATES, look_ahead=numbers(0.25, 4)),
    because="The eigenvalues are 1 - c s^2 +- i s: a look-ahead of half the step or less is not enough for any step.",
)
def extragradient_two_steps(matrix, first, second, look_ahead):
    ahead = (look_ahead * first, look_ahead * second)
    found = radius(Bilinear(matrix), Extragradient(sgd(first), sgd(second), extrapolation=ahead))
    return decides(2 * look_ahead - 1 - look_ahead**2 * first * second * largest(matrix) ** 2, found)


@claim(
    "bilinear/extragradient-best",
    r"Extragradient with one rate contracts by $\sqrt3/2$ at best, at $h\sigma = 1/\sqrt2$.",
    source="by hand",
    kind="closed form",
    domain=dict(coupling=numbers(0.25, 4), rate=numbers(0.01, 2)),
    because="1 - s^2 + s^4 is smallest at s^2 = 1/2.",
)
def extragradient_best(coupling, rate):
    def found(rate):
        return radius(Bilinear(coupling), Extragradient(sgd(rate), sgd(rate), extrapolation=rate))

    best = jnp.sqrt(3.0) / 2
    return every(below(best, found(rate)), agree(found(1 / (jnp.sqrt(2.0) * coupling)), best))


@claim(
    "bilinear/extragradient-in-turns",
    r"Extragradient in turns (Gauss-Seidel) with one rate h has the eigenvalues of "
    r"$\lambda^2 - (2 - 3s^2)\lambda + (1 - s^2)^2$, $s = h\sigma$; it converges if and only if $s < 1$.",
    source=f"{ZHANG_YU}; eigenvalues by hand",
    kind="theorem",
    domain=dict(matrix=SQUARE, rate=numbers(0.01, 2)),
    because="1 + det + trace is (1 - s^2)(4 - s^2), and the determinant (1 - s^2)^2 is below 1 for s^2 < 2.",
)
def extragradient_in_turns(matrix, rate):
    s = rate * jnp.linalg.svd(matrix, compute_uv=False)
    update = Extragradient(sgd(rate), sgd(rate), extrapolation=rate, order=(0, 1))
    found = eigenvalues(Bilinear(matrix), update)
    expected = both(1 - 1.5 * s**2, s * root(5 * s**2 / 4 - 1))
    return every(same_spectrum(found, expected), decides(1 - jnp.max(s), jnp.max(jnp.abs(found))))


@claim(
    "bilinear/optimistic-radius",
    r"Optimistic gradient descent has, per $s = \sqrt{h_1 h_2}\,\sigma$, the radius "
    r"$\sqrt{(1 + \sqrt{1 - 4s^2})/2}$ for $s \le 1/2$ and $\sqrt{1/4 + (s + \sqrt{4s^2 - 1}/2)^2}$ above.",
    source="Daskalakis et al., Training GANs with Optimism, 2018; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, **RATES),
    because="The eigenvalues are the roots of w^2 - (1 - 2 i s) w - i s and their conjugates.",
)
def optimistic_radius(matrix, first, second):
    s = jnp.sqrt(first * second) * jnp.linalg.svd(matrix, compute_uv=False)
    inside, outside = jnp.sqrt(jnp.maximum(1 - 4 * s**2, 0)), jnp.sqrt(jnp.maximum(4 * s**2 - 1, 0))
    expected = jnp.where(s <= 0.5, jnp.sqrt((1 + inside) / 2), jnp.sqrt(0.25 + (s + outside / 2) ** 2))
    found = radius(Bilinear(matrix), Simultaneous(optimistic(first), optimistic(second)))
    return agree(found, jnp.max(expected), 10 * epsilon() ** 0.5)


@claim(
    "bilinear/optimistic",
    r"Optimistic gradient descent converges on a bilinear game of full rank if and only if "
    r"$\sqrt{h_1 h_2}\,\sigma_{max} < 1/\sqrt3$.",
    source="Daskalakis et al., Training GANs with Optimism, 2018; the threshold by hand",
    kind="theorem",
    hypotheses="the last change of the direction counts as much as the direction",
    domain=dict(matrix=SQUARE, **RATES, strength=st.just(1.0)),
    because="At s = 1/sqrt(3) the larger root of w^2 - (1 - 2 i s) w - i s has modulus 1.",
)
def optimistic_converges(matrix, first, second, strength):
    update = Simultaneous(*(optimistic(rate, strength=strength * rate) for rate in (first, second)))
    found = radius(Bilinear(matrix), update)
    return decides(1 / jnp.sqrt(3.0) - jnp.sqrt(first * second) * largest(matrix), found)


optimistic_converges.without(
    "other-strength",
    "the last change of the direction counts as much as the direction",
    because="With half the strength or less small steps diverge; with more the largest stable step is another one.",
    strength=numbers(0.25, 4),
)


@claim(
    "bilinear/optimistic-best",
    r"Optimistic gradient descent contracts by $1/\sqrt2$ at best, at $\sqrt{h_1 h_2}\,\sigma = 1/2$.",
    source="by hand",
    kind="closed form",
    domain=dict(coupling=numbers(0.25, 4), **RATES),
    because="Both roots have the modulus 1/sqrt(2) where they meet; on either side one of them is larger.",
)
def optimistic_best(coupling, first, second):
    def found(first, second):
        return radius(Bilinear(coupling), Simultaneous(optimistic(first), optimistic(second)))

    best, rounding = 1 / jnp.sqrt(2.0), 10 * epsilon() ** 0.5
    at_best = found(first, 1 / (4 * coupling**2 * first))
    return every(below(best, found(first, second), rounding), agree(at_best, best, rounding))


@claim(
    "bilinear/optimistic-up-to-one",
    r"Optimistic mirror descent converges on $\ell_1 = w_1 w_2$, $\ell_2 = -w_1 w_2$ for rates from 0.3 up to 1.2.",
    source="Balduzzi et al., Differentiable Game Mechanics, JMLR 2019, section 4.2, as its figure reads",
    kind="refuted",
    domain=dict(rate=numbers(0.3, 1.2)),
    because="With singular value 1 it diverges above 1/sqrt(3) = 0.577; the range of the figure is that of 1/2.",
)
def optimistic_up_to_one(rate):
    return 1 - radius(Bilinear(1.0), Simultaneous(optimistic(rate), optimistic(rate)))


@claim(
    "bilinear/optimistic-up-to-one-at-half",
    r"Optimistic mirror descent converges on $\ell_1 = w_1 w_2/2$, $\ell_2 = -w_1 w_2/2$ for rates from 0.3 up to "
    r"1.15, best at 1.",
    source="by hand",
    kind="theorem",
    domain=dict(rate=numbers(0.3, 1.15)),
    because="The threshold is 2/sqrt(3) = 1.1547, the best rate 1.",
)
def optimistic_up_to_one_at_half(rate):
    def found(rate):
        return radius(Bilinear(0.5), Simultaneous(optimistic(rate), optimistic(rate)))

    return every(1 - found(rate), below(found(1.0), found(rate), 10 * epsilon() ** 0.5))


@claim(
    "bilinear/extrapolation-from-the-past",
    r"The look-ahead points of extrapolation from the past are the iterates of optimistic gradient descent, on any "
    r"bilinear game from any start: $w_t = 2x_t - x_{t-1}$ follows $w_{t+1} = w_t + 2h\,d(w_t) - h\,d(w_{t-1})$.",
    source=f"{GIDEL}, section 3.3; Popov 1980",
    kind="theorem",
    hypotheses="the look-ahead is as long as the step; the missing direction of the first step is 0 in both",
    domain=dict(
        matrix=arrays((2, 3), size=2.0),
        **RATES,
        x=arrays((2,)),
        y=arrays((3,)),
        look_ahead=st.just(1.0),
        start=st.just("zero"),
    ),
    because="The step from x_t to x_(t+1) is h d(w_t), which is also the next look-ahead.",
)
def extrapolation_from_the_past(matrix, first, second, x, y, look_ahead, start):
    game, ahead = Bilinear(matrix), (look_ahead * first, look_ahead * second)
    past = path(game, PastExtrapolation(sgd(first), sgd(second), extrapolation=ahead), (x, y), 10)
    other = path(game, Simultaneous(optimistic(first, start), optimistic(second, start)), (x, y), 10)
    return every(*(agree(2 * a[1:] - a[:-1], b[1:]) for a, b in zip(past, other)))


extrapolation_from_the_past.without(
    "other-look-ahead",
    "the look-ahead is as long as the step",
    because="With another look-ahead 2 x_t - x_(t-1) is not the point where the direction is taken.",
    look_ahead=numbers(0.25, 4),
)
extrapolation_from_the_past.without(
    "other-first-step",
    "the missing direction of the first step is 0 in both",
    because="Optimism that starts with a plain step has a first step of half the length.",
    start=st.just("current"),
)


@claim(
    "bilinear/optimistic-first-step",
    r"Optimistic gradient descent in the published form $-2h\,g_t + h\,g_{t-1}$ with $g_{-1} = 0$ starts with a step "
    r"of twice the length of a gradient step.",
    source="Berard et al., A Closer Look at the Optimization Landscapes of GANs, 2020, authors' code",
    kind="closed form",
    domain=dict(matrix=arrays((2, 3), size=2.0), **RATES, x=arrays((2,)), y=arrays((3,))),
    because="The missing previous gradient is 0 and takes nothing off.",
)
def optimistic_first_step(matrix, first, second, x, y):
    game, start = Bilinear(matrix), (x, y)
    plain = path(game, Simultaneous(sgd(first), sgd(second)), start, 1)
    other = path(game, Simultaneous(optimistic(first, "zero"), optimistic(second, "zero")), start, 1)
    return every(*(agree(b[1] - b[0], 2 * (a[1] - a[0])) for a, b in zip(plain, other)))


@claim(
    "bilinear/optimistic-in-turns",
    r"Optimistic gradient descent in turns (Gauss-Seidel) converges on a bilinear game of full rank if and only if "
    r"$\sqrt{h_1 h_2}\,\sigma_{max} < 2/3$.",
    source=f"{ZHANG_YU}; the threshold by hand",
    kind="theorem",
    domain=dict(matrix=SQUARE, **RATES),
    because="The cubic w (w - 1)^2 + s^2 (2 w - 1)^2 has the root -1 at s = 2/3, and it is the first one to leave.",
)
def optimistic_in_turns(matrix, first, second):
    found = radius(Bilinear(matrix), Alternating(optimistic(first), optimistic(second)))
    return decides(2 / 3 - jnp.sqrt(first * second) * largest(matrix), found)


@claim(
    "bilinear/heavy-ball",
    r"Heavy ball with simultaneous moves converges on no bilinear game, whatever the rates and the two momentum "
    r"coefficients, negative ones included.",
    source=f"{NEGATIVE}; {ZHANG_YU}",
    kind="theorem",
    hypotheses="the players move at once",
    domain=dict(matrix=SQUARE, **RATES, coefficients=arrays((2,), size=1.5), in_turns=st.just(False)),
    because="(w - 1)^2 (w - b1)(w - b2) + s^2 w^2 has always a root outside the unit disc.",
)
def heavy_ball(matrix, first, second, coefficients, in_turns):
    optimisers = momentum(first, coefficients[0]), momentum(second, coefficients[1])
    update = Alternating(*optimisers) if in_turns else Simultaneous(*optimisers)
    return below(1, radius(Bilinear(matrix), update), 10 * epsilon() ** 0.5)


heavy_ball.without(
    "in-turns",
    "the players move at once",
    because="In turns negative momentum converges.",
    in_turns=st.just(True),
)


@claim(
    "bilinear/nesterov",
    r"Nesterov's momentum with simultaneous moves converges on no bilinear game, whatever the rates and the two "
    r"coefficients between -2 and 2.",
    source="in analogy to heavy ball; no proof known to us",
    kind="conjecture",
    domain=dict(matrix=SQUARE, **RATES, coefficients=arrays((2,), size=2.0)),
    because="(w - 1)^2 (w - b1)(w - b2) + s^2 ((1 + b1) w - b1)((1 + b2) w - b2) had a root outside in 200,000 draws.",
)
def nesterov_diverges(matrix, first, second, coefficients):
    update = Simultaneous(nesterov(first, coefficients[0]), nesterov(second, coefficients[1]))
    return below(1, radius(Bilinear(matrix), update), 10 * epsilon() ** 0.5)


@claim(
    "bilinear/heavy-ball-in-turns",
    r"Heavy ball in turns with one coefficient $-1 < \beta < 0$ for both players converges on a bilinear game of full "
    r"rank if and only if $\sqrt{h_1 h_2}\,\sigma_{max} < 2(1 + \beta)$.",
    source=f"{NEGATIVE}; the threshold by hand",
    kind="theorem",
    hypotheses="the coefficient is negative",
    domain=dict(matrix=SQUARE, **RATES, coefficient=numbers(-0.95, -0.1)),
    because="(w - 1)^2 (w - b)^2 + s^2 w^3 has the root -1 at s = 2 (1 + b); for smaller s all roots are inside.",
)
def heavy_ball_in_turns(matrix, first, second, coefficient):
    update = Alternating(momentum(first, coefficient), momentum(second, coefficient))
    s = jnp.sqrt(first * second) * largest(matrix)
    return decides(2 * (1 + coefficient) - s, radius(Bilinear(matrix), update))


heavy_ball_in_turns.without(
    "positive-momentum",
    "the coefficient is negative",
    because="With positive momentum every step diverges.",
    coefficient=numbers(0.05, 0.95),
)


@claim(
    "bilinear/heavy-ball-of-one",
    r"Heavy ball in turns with $-1 < \beta < 0$ for one player and none for the other converges on a bilinear game of "
    r"full rank if and only if $\sqrt{h_1 h_2}\,\sigma_{max} < 2\sqrt{1 + \beta}$, whichever player has it.",
    source=f"{NEGATIVE}; the threshold by hand",
    kind="theorem",
    hypotheses="the coefficient is negative",
    domain=dict(matrix=SQUARE, **RATES, coefficient=numbers(-0.95, -0.1), player=st.sampled_from([0, 1])),
    because="w (w - 1)^2 (w - b) + s^2 w^3 has the root -1 at s^2 = 4 (1 + b); for smaller s all roots are inside.",
)
def heavy_ball_of_one(matrix, first, second, coefficient, player):
    coefficients = replace((0.0, 0.0), player, coefficient)
    update = Alternating(*(momentum(rate, own) for rate, own in zip((first, second), coefficients)))
    s = jnp.sqrt(first * second) * largest(matrix)
    return decides(2 * jnp.sqrt(1 + coefficient) - s, radius(Bilinear(matrix), update))


heavy_ball_of_one.without(
    "positive-momentum",
    "the coefficient is negative",
    because="With positive momentum every step diverges.",
    coefficient=numbers(0.05, 0.95),
)


@claim(
    "bilinear/heavy-ball-symmetry",
    r"Heavy ball in turns has the same eigenvalues when the two players change their momentum coefficients: those of "
    r"$(\lambda - 1)^2(\lambda - \beta_1)(\lambda - \beta_2) + s^2\lambda^3$.",
    source="by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, **RATES, coefficients=arrays((2,), size=1.5)),
    because="The polynomial is symmetric in the coefficients; compared are the traces of the powers of the Jacobian.",
)
def heavy_ball_symmetry(matrix, first, second, coefficients):
    def powers(one, two):
        step = jacobian(Bilinear(matrix), Alternating(momentum(first, one), momentum(second, two)))
        return jnp.stack([jnp.trace(jnp.linalg.matrix_power(step, k)) for k in range(1, len(step) + 1)])

    one, two = coefficients
    found, other = powers(one, two), powers(two, one)
    return every(*(agree(a, b) for a, b in zip(found, other)))


@claim(
    "bilinear/negative-momentum",
    r"With momentum -1/2 for one player and none for the other, in turns, the squared radius is at most "
    r"$\max\{1/2,\ 1 - h^2\sigma_{min}^2/16\}$ as long as $h\sigma_{max} \le 1$ ($h^2 = h_1 h_2$ for unequal rates).",
    source=f"{NEGATIVE}, its theorem on alternating updates (as remembered, with one momentum of 0)",
    kind="theorem",
    hypotheses="only one player has momentum; h sigma_max <= 1",
    domain=dict(
        matrix=SQUARE,
        product=numbers(0.01, 1),
        ratio=numbers(0.25, 4),
        coefficients=st.sampled_from([np.array([-0.5, 0.0]), np.array([0.0, -0.5])]),
    ),
    because="w (w - 1)^2 (w + 1/2) + s^2 w^3; the true squared radius is even 1 - 2 s^2/9 + ... for small s.",
)
def negative_momentum(matrix, product, ratio, coefficients):
    first, second = rates_of(matrix, product, ratio)
    update = Alternating(momentum(first, coefficients[0]), momentum(second, coefficients[1]))
    s = jnp.sqrt(first * second) * smallest(matrix)
    return below(radius(Bilinear(matrix), update) ** 2, jnp.maximum(0.5, 1 - s**2 / 16), 10 * epsilon() ** 0.5)


negative_momentum.without(
    "both-players",
    "only one player has momentum",
    because="With -1/2 for both the eigenvalue -1 is reached at s = 1; this is how the theorem is often remembered.",
    coefficients=st.just(np.array([-0.5, -0.5])),
)
negative_momentum.without(
    "larger-steps",
    "h sigma_max <= 1",
    because="The bound fails from s = 1.37 on, and from sqrt(2) on the method diverges.",
    product=numbers(1.5, 4),
)


@claim(
    "bilinear/negative-momentum-sharper",
    r"With momentum -1/2 for one player and none for the other, in turns, the squared radius is even at most "
    r"$1 - \frac29 h^2\sigma_{min}^2$ as long as $h\sigma_{max} \le 1$.",
    source="by experiment",
    kind="conjecture",
    domain=dict(matrix=SQUARE, product=numbers(0.01, 1), ratio=numbers(0.25, 4)),
    because="The expansion at small s is 1 - 2 s^2/9 + ..., and the true value was below it for 1,000 values of s.",
)
def negative_momentum_sharper(matrix, product, ratio):
    first, second = rates_of(matrix, product, ratio)
    update = Alternating(momentum(first, -0.5), momentum(second, 0.0))
    s = jnp.sqrt(first * second) * smallest(matrix)
    return below(radius(Bilinear(matrix), update) ** 2, 1 - 2 * s**2 / 9, 10 * epsilon() ** 0.5)


@claim(
    "bilinear/momentum-small-steps",
    r"Heavy ball in turns has for small steps the squared radius $1 + s^2\,(\beta_1 + \beta_2 - 2\beta_1\beta_2) / "
    r"((1 - \beta_1)(1 - \beta_2))^2 + O(s^4)$.",
    source="by hand",
    kind="closed form",
    domain=dict(coupling=numbers(0.25, 4), ratio=numbers(0.25, 4), coefficients=arrays((2,), size=0.5)),
    because="Perturbation of the double root 1 of (w - 1)^2 (w - b1)(w - b2) + s^2 w^3.",
)
def momentum_small_steps(coupling, ratio, coefficients):
    step = 1e-3
    first, second = step * jnp.sqrt(ratio) / coupling, step / jnp.sqrt(ratio) / coupling
    update = Alternating(momentum(first, coefficients[0]), momentum(second, coefficients[1]))
    one, two = coefficients
    expected = (one + two - 2 * one * two) / ((1 - one) * (1 - two)) ** 2
    return agree((radius(Bilinear(coupling), update) ** 2 - 1) / step**2, expected, 1e-3)


@claim(
    "bilinear/runge-kutta",
    r"A Runge-Kutta step of all players together with stages as many as its order p has the eigenvalues "
    r"$\sum_{k \le p} (\pm i s)^k/k!$, $s = \sqrt{r_1 r_2}\,\sigma$; their moduli are $\sqrt{1 + s^4/4}$ for p = 2 and "
    r"$\sqrt{1 - s^6/72 + s^8/576}$ for p = 4.",
    source="Butcher, Numerical Methods for Ordinary Differential Equations, 2016",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, method=st.sampled_from(["heun", "midpoint", "rk4"])),
    because="With as many stages as its order the stability function is the truncated exponential.",
)
def runge_kutta(matrix, first, second, method):
    s = jnp.sqrt(first * second) * couplings(matrix)
    found = eigenvalues(Bilinear(matrix), RungeKutta((first, second), method=method))
    if method == "rk4":
        expected, modulus = both(1 - s**2 / 2 + s**4 / 24, 1j * (s - s**3 / 6)), 1 - s**6 / 72 + s**8 / 576
    else:
        expected, modulus = both(1 - s**2 / 2, 1j * s), 1 + s**4 / 4
    found_radius = jnp.max(jnp.abs(found))
    return every(same_spectrum(found, expected), agree(found_radius, jnp.sqrt(jnp.max(modulus))))


@claim(
    "bilinear/runge-kutta-4",
    r"The classical Runge-Kutta step of order 4 converges on a bilinear game of full rank if and only if "
    r"$\sqrt{r_1 r_2}\,\sigma_{max} < 2\sqrt2$.",
    source="Butcher, Numerical Methods for Ordinary Differential Equations, 2016",
    kind="theorem",
    hypotheses="the method is of order 4",
    domain=dict(matrix=SQUARE, first=numbers(0.25, 2), second=numbers(0.25, 2), method=st.just("rk4")),
    because="1 - s^6/72 + s^8/576 < 1 iff s^2 < 8.",
)
def runge_kutta_4(matrix, first, second, method):
    s = jnp.sqrt(first * second) * jnp.linalg.svd(matrix, compute_uv=False)
    found = radius(Bilinear(matrix), RungeKutta((first, second), method=method))
    return same_sign(2 * jnp.sqrt(2.0) - jnp.max(s), 1 - found, 1e4 * epsilon())


runge_kutta_4.without(
    "order-2",
    "the method is of order 4",
    because="Steps of order 2 have the modulus sqrt(1 + s^4/4) and diverge however small they are.",
    method=st.sampled_from(["heun", "midpoint"]),
)


def frozen_step(game, rates, players, method="rk4"):
    """Every player after a Runge-Kutta step of its own, with the opponents held at their old values."""

    def own(player):
        def losses(point, key=None):
            return game.losses(replace(players, player, point[player]), key)

        return RungeKutta(rates, method).step(Game.from_losses(losses), State(players, ())).players[player]

    return tuple(own(player) for player in range(len(players)))


def frozen_jacobian(game, rates, weight=0.0):
    """The Jacobian of `frozen_step` at 0, with the penalty of `ODEGAN` in the step of the second player."""
    (x, y) = game.equilibria()[0]

    def step(flat):
        players = flat[: x.size].reshape(x.shape), flat[x.size :].reshape(y.shape)
        one, two = frozen_step(game, rates, players)
        penalty = jax.grad(lambda own: jnp.sum(game.field((players[0], own))[0] ** 2))(players[1])
        return jnp.concatenate([jnp.ravel(one), jnp.ravel(two - rates[1] * weight * penalty)])

    return jax.jacfwd(step)(jnp.zeros(x.size + y.size, x.dtype))


@claim(
    "bilinear/frozen-runge-kutta",
    r"Steps of order 4 of each player with the opponent frozen, as in the published ODE-GAN demonstration, have the "
    r"stability of a method of order 4: the modulus $\sqrt{1 - s^6/72 + s^8/576}$.",
    source=f"published demonstration of {QIN}",
    kind="refuted",
    domain=dict(coupling=numbers(0.25, 4), **RATES),
    because="With the opponent frozen a player's gradient is constant along its step, which is then a step of Euler.",
)
def frozen_runge_kutta(coupling, first, second):
    s = jnp.sqrt(first * second) * coupling
    found = jnp.max(jnp.abs(jnp.linalg.eigvals(frozen_jacobian(Bilinear(coupling), (first, second)))))
    return agree(found, jnp.sqrt(1 - s**6 / 72 + s**8 / 576), 1e-6)


@claim(
    "bilinear/frozen-runge-kutta-is-euler",
    r"Runge-Kutta steps of each player with the opponent frozen are simultaneous gradient descent on a bilinear game.",
    source="by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES),
    because="With the opponent frozen a player's gradient is constant along its step; all weights add up to 1.",
)
def frozen_runge_kutta_is_euler(matrix, first, second):
    game = Bilinear(matrix)
    return agree(frozen_jacobian(game, (first, second)), jacobian(game, Simultaneous(sgd(first), sgd(second))))


@claim(
    "bilinear/ode-gan",
    r"ODE-GAN with weight $\lambda$ has, with $c = 1 - s^2/2 + s^4/24$ and $d = s - s^3/6$, the eigenvalues of "
    r"$[[c, -d], [d, c - 2 h_2\lambda\sigma^2]]$ for $s = \sqrt{h_1 h_2}\,\sigma$.",
    source=QIN,
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, weight=numbers(0, 2)),
    because="The penalty is taken at the old point, without the factor 1/2, and only the discriminator pays it.",
)
def ode_gan(matrix, first, second, weight):
    sigma = couplings(matrix)
    s, pull = jnp.sqrt(first * second) * sigma, second * weight * sigma**2
    found = eigenvalues(Bilinear(matrix), ODEGAN((first, second), weight))
    expected = both(1 - s**2 / 2 + s**4 / 24 - pull, root(pull**2 - (s - s**3 / 6) ** 2))
    return same_spectrum(found, expected)


@claim(
    "bilinear/ode-gan-frozen",
    r"The published ODE-GAN demonstration (opponent frozen, penalty of weight $\lambda$ for the discriminator) "
    r"converges on a bilinear game of full rank if and only if $\lambda > h_1/2$ and, for every $\sigma$, "
    r"$4 - 4 h_2\lambda\sigma^2 + h_1 h_2\sigma^2 > 0$.",
    source=f"published demonstration of {QIN}; threshold by hand",
    kind="theorem",
    hypotheses="the opponent is frozen during a step",
    domain=dict(matrix=SQUARE, **RATES, weight=numbers(0, 2), frozen=st.just(True)),
    because="The map is [[1, -h_1 sigma], [h_2 sigma, 1 - 2 h_2 lambda sigma^2]]: Euler with the penalty.",
)
def ode_gan_frozen(matrix, first, second, weight, frozen):
    game, rates = Bilinear(matrix), (first, second)
    step = frozen_jacobian(game, rates, weight) if frozen else jacobian(game, ODEGAN(rates, weight))
    bound = 4 - second * (4 * weight - first) * largest(matrix) ** 2
    found = jnp.max(jnp.abs(jnp.linalg.eigvals(step)))
    return decides(jnp.minimum(2 * weight - first, bound), found)


ode_gan_frozen.without(
    "joint-step",
    "the opponent is frozen during a step",
    because="The joint step of the paper is stable with much smaller weights, as Runge-Kutta alone contracts.",
    frozen=st.just(False),
)


@claim(
    "bilinear/consensus-flow",
    r"The flows of consensus optimisation and of symplectic gradient adjustment with weight $\gamma$ have the "
    r"eigenvalues $-\gamma\sigma^2 \pm i\sigma$ on a bilinear game.",
    source="Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017; Balduzzi et al. 2018",
    kind="closed form",
    domain=dict(matrix=WIDE, weight=numbers(0, 4)),
    because="A - gamma A'A with a skew A; without diagonal blocks both adjustments are the same.",
)
def consensus_flow(matrix, weight):
    sigma = couplings(matrix)
    expected = both(-weight * sigma**2, 1j * sigma)
    found = [eigenvalues(Bilinear(matrix), Flow(way)) for way in (Consensus(weight), SymplecticAdjustment(weight))]
    return every(*(same_spectrum(values, expected) for values in found))


@claim(
    "bilinear/consensus-steps",
    r"Steps of length h along consensus optimisation with weight $\gamma$, and along the symplectic adjustment, "
    r"converge on a bilinear game of full rank if and only if $h < 2\gamma/(1 + \gamma^2\sigma_{max}^2)$.",
    source="Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, lemma 4; threshold by hand",
    kind="theorem",
    hypotheses="one rate for both players",
    domain=dict(matrix=PAIR, rate=numbers(0.01, 2), ratio=st.just(1.0), weight=numbers(0, 4)),
    because="|1 + h w|^2 < 1 for w = -gamma sigma^2 +- i sigma.",
)
def consensus_steps(matrix, rate, ratio, weight):
    margin = 2 * weight - rate * (1 + weight**2 * largest(matrix) ** 2)
    ways = Consensus(weight), SymplecticAdjustment(weight)
    updates = [Simultaneous(sgd(rate), sgd(ratio * rate), direction=way) for way in ways]
    return every(*(decides(margin, radius(Bilinear(matrix), update)) for update in updates))


consensus_steps.without(
    "unequal-rates",
    "one rate for both players",
    because="With another rate for the second player the bound is another one.",
    ratio=numbers(0.25, 4),
)


@claim(
    "bilinear/opponent-shaping",
    r"LookAhead with weight $\alpha$ and steps h has the eigenvalues $1 - h\alpha\sigma^2 \pm ih\sigma$, and LOLA "
    r"$1 - 2h\alpha\sigma^2 \pm ih\sigma$; for two rates with $m = (h_1 + h_2)/2$, $g = (h_1 - h_2)/2$: "
    r"$1 - mc \pm \sqrt{g^2c^2 - h_1h_2\sigma^2}$ with $c = \alpha\sigma^2$ and $c = 2\alpha\sigma^2$.",
    source="Letcher et al., Stable Opponent Shaping in Differentiable Games, 2019; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, weight=numbers(0, 2)),
    because="On a bilinear game the shaping term of LOLA is once more the term of LookAhead.",
)
def opponent_shaping(matrix, first, second, weight):
    sigma, middle, gap = couplings(matrix), (first + second) / 2, (first - second) / 2

    def margin(direction, pull):
        found = eigenvalues(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=direction))
        return same_spectrum(found, both(1 - middle * pull, root((gap * pull) ** 2 - first * second * sigma**2)))

    return every(margin(PolicyPrediction(weight), weight * sigma**2), margin(LOLA(weight), 2 * weight * sigma**2))


@claim(
    "bilinear/lookahead",
    r"Lookahead of k steps with weight $\alpha$ turns every eigenvalue $\mu$ of an update without memory into "
    r"$1 - \alpha + \alpha\mu^k$: $\mu = 1 \pm i s$ for gradient descent, $s = \sqrt{h_1 h_2}\,\sigma$; for "
    r"alternating descent $\mu = 1 - s^2/2 \pm is\sqrt{1 - s^2/4}$.",
    source="Chavdarova et al., Taming GANs with Lookahead-Minmax, 2021; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, weight=numbers(0, 1), count=st.sampled_from([2, 5])),
    because="The cycle is a polynomial of the inner map.",
)
def lookahead(matrix, first, second, weight, count):
    s = jnp.sqrt(first * second) * couplings(matrix)

    def margin(inner, expected):
        found = eigenvalues(Bilinear(matrix), Lookahead(inner(sgd(first), sgd(second)), count, weight))
        return same_spectrum(found, 1 - weight + weight * expected**count)

    return every(margin(Simultaneous, both(1, 1j * s)), margin(Alternating, both(1 - s**2 / 2, s * root(s**2 / 4 - 1))))


@claim(
    "bilinear/lookahead-of-two-steps",
    r"Lookahead of two simultaneous gradient steps with weight $\alpha$ converges on a bilinear game of full rank if "
    r"and only if $\alpha(4 + s^2) < 2$ for $s = \sqrt{h_1 h_2}\,\sigma_{max}$.",
    source="by hand",
    kind="theorem",
    domain=dict(matrix=SQUARE, first=numbers(0.1, 2), second=numbers(0.1, 2), weight=numbers(0.1, 1)),
    because="The squared modulus of 1 - a + a (1 + i s)^2 is 1 + a s^2 (a (4 + s^2) - 2).",
)
def lookahead_of_two_steps(matrix, first, second, weight):
    found = radius(Bilinear(matrix), Lookahead(Simultaneous(sgd(first), sgd(second)), 2, weight))
    return decides(2 - weight * (4 + first * second * largest(matrix) ** 2), found)


@claim(
    "bilinear/lookahead-half-of-two-steps",
    r"Lookahead of two simultaneous gradient steps with weight 1/2 converges on no bilinear game, whatever the rates.",
    source="by hand",
    kind="theorem",
    hypotheses="two steps; weight 1/2; simultaneous steps",
    domain=dict(matrix=SQUARE, **RATES, weight=st.just(0.5), count=st.just(2), inner=st.just("simultaneous")),
    because="1/2 + (1 + i s)^2/2 has the squared modulus 1 + s^4/4.",
)
def lookahead_half_of_two_steps(matrix, first, second, weight, count, inner):
    kinds = {"simultaneous": Simultaneous, "alternating": Alternating}
    return below(1, radius(Bilinear(matrix), Lookahead(kinds[inner](sgd(first), sgd(second)), count, weight)))


lookahead_half_of_two_steps.without(
    "five-steps",
    "two steps",
    because="With the usual five steps short ones converge: the factor is 0.65 at s = 1/2.",
    count=st.just(5),
)
lookahead_half_of_two_steps.without(
    "smaller-weight",
    "weight 1/2",
    because="A weight below 2/(4 + s^2) converges.",
    weight=numbers(0.01, 0.45),
)
lookahead_half_of_two_steps.without(
    "alternating",
    "simultaneous steps",
    because="Alternating steps stay on the unit circle, and the mean of two of its points lies inside.",
    inner=st.just("alternating"),
)


@claim(
    "bilinear/crossing-the-curl",
    r"Steps along the crossed curl, and likewise along Hamiltonian descent, shrink every player on its own by "
    r"$1 - h_i\sigma^2$, without turning.",
    source="Gemp and Mahadevan 2018; Abernethy, Lai, Wibisono 2019",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES),
    because="With a skew A both directions have the Jacobian -A'A, which couples nobody with anybody else.",
)
def crossing_the_curl(matrix, first, second):
    sigma = couplings(matrix)
    expected = jnp.concatenate([1 - first * sigma**2, 1 - second * sigma**2])
    updates = [
        Simultaneous(sgd(first), sgd(second), direction=way) for way in (CrossingTheCurl(), HamiltonianDescent())
    ]
    return every(*(same_spectrum(eigenvalues(Bilinear(matrix), update), expected) for update in updates))


@claim(
    "bilinear/unrolled",
    r"Unrolling K inner steps $\eta$ of the second player converges on a bilinear game of full rank if and only if "
    r"$2K\eta > h_2$ and $4 - 4K h_1\eta\sigma_{max}^2 + h_1 h_2\sigma_{max}^2 > 0$; with $\eta = h_1 = h_2$: "
    r"$h\sigma_{max} < 2/\sqrt{4K - 1}$.",
    source="Metz et al., Unrolled Generative Adversarial Networks, 2017; threshold by hand",
    kind="theorem",
    hypotheses="the gradient goes through the inner steps",
    domain=dict(matrix=PAIR, **RATES, inner=numbers(0.01, 1), count=st.sampled_from([1, 2, 5]), through=st.just(True)),
    because="The map is [[1 - 2 K h_1 eta sigma^2, -h_1 sigma], [h_2 sigma, 1]].",
)
def unrolled(matrix, first, second, inner, count, through):
    way = Unrolled(count, inner, higher_order=through)
    found = radius(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=way))
    bound = 4 - first * (4 * count * inner - second) * largest(matrix) ** 2
    return decides(jnp.minimum(2 * count * inner - second, bound), found)


unrolled.without(
    "held-fixed",
    "the gradient goes through the inner steps",
    because="Without it the look-ahead counts once, not twice: [[1 - K h_1 eta sigma^2, ...], ...].",
    through=st.just(False),
)


@claim(
    "bilinear/mean-gan",
    r"The Wasserstein GAN that learns a mean, $G(z) = z + \theta$, $D(x) = \langle w, x\rangle$, is the bilinear game "
    r"$-\langle \theta - \mu, w\rangle$: every run is one of that game, shifted by $\mu$, and the flow has the "
    r"eigenvalues $\pm i$.",
    source="Daskalakis et al., Training GANs with Optimism, 2018, section 2",
    kind="closed form",
    domain=dict(mean=arrays((2,)), x=arrays((2,)), y=arrays((2,)), **RATES),
    because="The value is the mean of the critic on the data minus its mean on the samples, (w, mu) - (w, theta).",
)
def mean_gan(mean, x, y, first, second):
    game, update = LinearWasserstein(mean), Alternating(sgd(first), sgd(second))
    thetas, ws = path(game, update, (x, y), 8)
    others, same = path(Bilinear(-jnp.eye(2)), update, (x - mean, y), 8)
    turning = same_spectrum(eigenvalues(game, Flow()), jnp.array([1j, -1j]))
    return every(turning, agree(thetas - mean, others), agree(ws, same))


@claim(
    "bilinear/two-by-two",
    r"A linear map of the plane converges if and only if $|\det| < 1$ and $|\mathrm{tr}| < 1 + \det$.",
    source="Jury's criterion for degree 2",
    kind="theorem",
    domain=dict(matrix=arrays((2, 2)), **RATES),
    because="The three inequalities say that the characteristic polynomial has no root on or beyond the unit circle.",
)
def two_by_two(matrix, first, second):
    ((a, b), (c, d)) = matrix
    found = radius(Quadratic([[a, b], [c, d]]), Simultaneous(sgd(first), sgd(second)), (0.0, 0.0))
    trace, det = 2 - first * a - second * d, (1 - first * a) * (1 - second * d) - first * second * b * c
    return decides(jnp.minimum(1 - jnp.abs(det), 1 + det - jnp.abs(trace)), found)


def linear_fields():
    """Matrices of three rows, the first two of one player, most of them stable."""

    def build(matrix):
        matrix[1, 0] = matrix[0, 1]  # a player's own block is a Hessian
        return matrix + 2 * np.eye(3)

    return arrays((3, 3), size=2.0).map(build)


@claim(
    "bilinear/fixed-point-lemma",
    r"On a linear field with Jacobian A, $z + h\,v(z)$ converges if and only if all eigenvalues $\lambda$ of A have a "
    r"negative real part and $h < 2|\mathrm{Re}\,\lambda|/|\lambda|^2$.",
    source="Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, lemma 4",
    kind="theorem",
    hypotheses="one rate for all players",
    domain=dict(hessian=linear_fields(), rate=numbers(0.01, 2), ratio=st.just(1.0)),
    because="|1 + h w|^2 = 1 + 2 h Re w + h^2 |w|^2.",
)
def fixed_point_lemma(hessian, rate, ratio):
    h = hessian
    game, point = Quadratic([[h[:2, :2], h[:2, 2:]], [h[2:, :2], h[2:, 2:]]]), (jnp.zeros(2), jnp.zeros(1))
    values = jnp.linalg.eigvals(field_jacobian(game, point))
    predicted = jnp.min(-2 * values.real - rate * jnp.abs(values) ** 2)
    return decides(predicted, radius(game, Simultaneous(sgd(rate), sgd(ratio * rate)), point))


fixed_point_lemma.without(
    "unequal-rates",
    "one rate for all players",
    because="Unequal rates are another field, diag(h) v, with other eigenvalues.",
    ratio=numbers(0.25, 4),
)
