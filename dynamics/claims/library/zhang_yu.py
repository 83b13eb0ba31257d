r"""Zhang and Yu's conditions on bilinear games: four methods, moves at once (Jacobi) or in turns (Gauss-Seidel).

The coefficients are the paper's and may have either sign: $x^+ = x - \alpha A y + \beta_1 A y^-$ and
$y^+ = y + \alpha A^\top x - \beta_2 A^\top x^-$ for optimism, so that the library's `optimistic` has the rate
$\alpha - \beta$ and the strength $\beta$; for extragradient $\beta_1 = \alpha_2\gamma_1$ and
$\beta_2 = \alpha_1\gamma_2$ with the look-aheads $\gamma$. Rates of unequal size are the same game
with other units of the players.
"""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import below, epsilon, radius
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import ZHANG_YU, decides
from dynamics.games import Bilinear
from dynamics.optimisers import momentum, optimistic, sgd
from dynamics.strategies import matrices_with_singular_values, numbers, signed
from dynamics.updates import Alternating, Extragradient, Simultaneous

MATRICES = matrices_with_singular_values(0.25, 1.0, ((1, 1), (2, 2)))
EITHER = signed(0.1, 3)
MAYBE = st.one_of(st.just(0.0), EITHER)
MODEST = st.one_of(st.just(0.0), signed(0.05, 1.25))
POSITIVE = st.one_of(st.just(0.0), numbers(0.05, 3))
OPPOSITE = dict(matrix=matrices_with_singular_values(0.75, 1.0, ((1, 1),)), alpha=numbers(2.75, 3.75))
COEFFICIENTS = dict(matrix=MATRICES, ratio=numbers(0.5, 2), alpha=EITHER, first=MAYBE, second=MAYBE)
GAMES = dict(matrix=MATRICES, first_rate=EITHER, second_rate=EITHER)
SMALL = dict(first_rate=numbers(0.1, 2), second_rate=numbers(0.1, 2), first=numbers(0, 2), second=numbers(0, 2))


def rounding():
    """How far a radius of 1 may be from 1, as eigenvalues meet there."""
    return 10 * epsilon() ** 0.5


def squares(matrix):
    """The squared singular values."""
    return jnp.linalg.svd(matrix, compute_uv=False) ** 2


def least(*margins):
    """The smallest of the margins of several inequalities, over all singular values."""
    return jnp.min(jnp.stack([jnp.min(margin) for margin in margins]))


def optimists(alpha, first, second, ratio):
    """Both players' optimisers; those of the second have rates smaller by the ratio, and coefficients to match."""
    return optimistic(ratio * (alpha - first), strength=ratio * first), optimistic(
        (alpha - second) / ratio, strength=second / ratio
    )


def three_conditions(matrix, alpha, first, second):
    """The smallest margin of the three conditions for optimism in turns; whether the paper has more was not read."""
    square = squares(matrix)
    turned = (alpha * first * square + 1) * (alpha * second * square + 1) - (1 + first * second * square) ** 2
    return least((alpha - first) * (alpha - second), 4 - (alpha + first) * (alpha + second) * square, turned)


@claim(
    "zhang-yu/gradient",
    "Gradient descent converges on no bilinear game, neither with moves at once nor in turns, whatever the rates and "
    "their signs.",
    source=ZHANG_YU,
    kind="theorem",
    domain=GAMES,
    because="With moves at once the determinant is 1 + p (p = h_1 h_2 sigma^2), with the trace 2; in turns it is 1.",
)
def gradient(matrix, first_rate, second_rate):
    optimisers = sgd(first_rate), sgd(second_rate)
    jacobi, gauss_seidel = (radius(Bilinear(matrix), kind(*optimisers)) for kind in (Simultaneous, Alternating))
    return below(1, jnp.minimum(jacobi, gauss_seidel), rounding())


def extragradient_radius(matrix, first_rate, second_rate, first, second, order):
    """The radius of extragradient with the two look-aheads."""
    update = Extragradient(sgd(first_rate), sgd(second_rate), extrapolation=(first, second), order=order)
    return radius(Bilinear(matrix), update)


@claim(
    "zhang-yu/extragradient",
    r"Extragradient with moves at once converges on a bilinear game of full rank if and only if, for every $\sigma$, "
    r"$|\beta_1\sigma^2 + \beta_2\sigma^2 - 2| < 1 + d$ and $d < 1$ with "
    r"$d = (1 - \beta_1\sigma^2)(1 - \beta_2\sigma^2) + \alpha_1\alpha_2\sigma^2$.",
    source=ZHANG_YU,
    kind="theorem",
    hypotheses="moves at once",
    domain=dict(**GAMES, first=MAYBE, second=MAYBE, order=st.none()),
    because="Jury's criterion for trace and determinant of the map of one pair.",
)
def extragradient(matrix, first_rate, second_rate, first, second, order):
    square, one, two = squares(matrix), second_rate * first, first_rate * second
    det = (1 - one * square) * (1 - two * square) + first_rate * second_rate * square
    predicted = least(1 + det - jnp.abs((one + two) * square - 2), 1 - det)
    return decides(predicted, extragradient_radius(matrix, first_rate, second_rate, first, second, order))


extragradient.without(
    "in-turns",
    "moves at once",
    because="In turns the coupling acts within a step, and the conditions are other ones.",
    order=st.just((0, 1)),
    **SMALL,
)


@claim(
    "zhang-yu/extragradient-gauss-seidel",
    r"Extragradient in turns converges on a bilinear game of full rank if and only if, for every $\sigma$, "
    r"$|(\beta_1 + \beta_2 + \alpha_1\alpha_2)\sigma^2 - 2| < 1 + d$ and $d < 1$ with "
    r"$d = (1 - \beta_1\sigma^2)(1 - \beta_2\sigma^2)$.",
    source=ZHANG_YU,
    kind="theorem",
    hypotheses="in turns",
    domain=dict(**GAMES, first=MAYBE, second=MAYBE, order=st.just((0, 1))),
    because="Jury's criterion for trace and determinant of the map of one pair.",
)
def extragradient_gauss_seidel(matrix, first_rate, second_rate, first, second, order):
    square, one, two = squares(matrix), second_rate * first, first_rate * second
    det = (1 - one * square) * (1 - two * square)
    trace = 2 - (one + two + first_rate * second_rate) * square
    predicted = least(1 + det - jnp.abs(trace), 1 - det)
    return decides(predicted, extragradient_radius(matrix, first_rate, second_rate, first, second, order))


extragradient_gauss_seidel.without(
    "at-once",
    "in turns",
    because="With moves at once the coupling is part of the determinant, not of the trace.",
    order=st.none(),
    **SMALL,
)


@claim(
    "zhang-yu/optimistic",
    r"Optimistic gradient descent with moves at once converges on a bilinear game of full rank if and only if, for "
    r"every $\sigma$, $|\beta_1\beta_2\sigma^2| < 1$, $(\alpha - \beta_1)(\alpha - \beta_2) > 0$, "
    r"$4 + (\alpha + \beta_1)(\alpha + \beta_2)\sigma^2 > 0$ and "
    r"$\alpha^2(\beta_1^2\sigma^2 + 1)(\beta_2^2\sigma^2 + 1) < "
    r"(\beta_1\beta_2\sigma^2 + 1)(2\alpha(\beta_1 + \beta_2) + \beta_1\beta_2(\beta_1\beta_2\sigma^2 - 3))$.",
    source=ZHANG_YU,
    kind="theorem",
    hypotheses="moves at once",
    domain=dict(**COEFFICIENTS, in_turns=st.just(False)),
    because="Schur's criterion for w^2 (w - 1)^2 + sigma^2 (alpha w - beta_1)(alpha w - beta_2).",
)
def optimistic_at_once(matrix, ratio, alpha, first, second, in_turns):
    square, product = squares(matrix), first * second
    left = alpha**2 * (first**2 * square + 1) * (second**2 * square + 1)
    right = (product * square + 1) * (2 * alpha * (first + second) + product * (product * square - 3))
    predicted = least(
        1 - jnp.abs(product * square),
        (alpha - first) * (alpha - second),
        4 + (alpha + first) * (alpha + second) * square,
        right - left,
    )
    kind = Alternating if in_turns else Simultaneous
    return decides(predicted, radius(Bilinear(matrix), kind(*optimists(alpha, first, second, ratio))))


optimistic_at_once.without(
    "in-turns",
    "moves at once",
    because="In turns the polynomial is w (w - 1)^2 + ..., of degree 3, with other conditions.",
    in_turns=st.just(True),
    alpha=numbers(0.5, 2),
    first=numbers(0, 1),
    second=numbers(0, 1),
)


@claim(
    "zhang-yu/optimistic-gauss-seidel",
    r"Optimistic gradient descent in turns converges on a bilinear game of full rank if and only if, for every "
    r"$\sigma$, $(\alpha - \beta_1)(\alpha - \beta_2) > 0$, $(\alpha + \beta_1)(\alpha + \beta_2)\sigma^2 < 4$, "
    r"$(\alpha\beta_1\sigma^2 + 1)(\alpha\beta_2\sigma^2 + 1) > (1 + \beta_1\beta_2\sigma^2)^2$ and "
    r"$|\beta_1\beta_2\sigma^2| < 1$.",
    source=f"Schur's criterion by hand; the first three conditions {ZHANG_YU}",
    kind="theorem",
    domain=COEFFICIENTS,
    because="Schur's criterion for w (w - 1)^2 + sigma^2 (alpha w - beta_1)(alpha w - beta_2).",
)
def optimistic_gauss_seidel(matrix, ratio, alpha, first, second):
    fourth = 1 - jnp.max(jnp.abs(first * second * squares(matrix)))
    predicted = jnp.minimum(three_conditions(matrix, alpha, first, second), fourth)
    return decides(predicted, radius(Bilinear(matrix), Alternating(*optimists(alpha, first, second, ratio))))


@claim(
    "zhang-yu/optimistic-gauss-seidel-as-remembered",
    r"Optimistic gradient descent in turns converges on a bilinear game of full rank if and only if, for every "
    r"$\sigma$, $(\alpha - \beta_1)(\alpha - \beta_2) > 0$, $(\alpha + \beta_1)(\alpha + \beta_2)\sigma^2 < 4$ and "
    r"$(\alpha\beta_1\sigma^2 + 1)(\alpha\beta_2\sigma^2 + 1) > (1 + \beta_1\beta_2\sigma^2)^2$.",
    source=f"after {ZHANG_YU} (not read: the printed statement may have more conditions)",
    kind="refuted",
    domain=dict(**OPPOSITE, ratio=numbers(0.5, 2), first=numbers(-2.25, -0.5), second=numbers(-2.25, -0.5)),
    because="With both betas of the other sign the product of the roots, beta_1 beta_2 sigma^2, may exceed 1.",
)
def optimistic_as_remembered(matrix, ratio, alpha, first, second):
    predicted = three_conditions(matrix, alpha, first, second)
    return decides(predicted, radius(Bilinear(matrix), Alternating(*optimists(alpha, first, second, ratio))))


@claim(
    "zhang-yu/optimistic-gauss-seidel-same-sign",
    r"With $\alpha\beta_i \ge 0$ three conditions decide optimistic gradient descent in turns, for every $\sigma$: "
    r"$(\alpha - \beta_1)(\alpha - \beta_2) > 0$, $(\alpha + \beta_1)(\alpha + \beta_2)\sigma^2 < 4$ and "
    r"$(\alpha\beta_1\sigma^2 + 1)(\alpha\beta_2\sigma^2 + 1) > (1 + \beta_1\beta_2\sigma^2)^2$.",
    source=f"by hand, after {ZHANG_YU}",
    kind="theorem",
    hypotheses="no beta has the sign opposite to alpha's",
    domain=dict(matrix=MATRICES, ratio=numbers(0.5, 2), alpha=numbers(0.1, 3), first=POSITIVE, second=POSITIVE),
    because="The fourth condition, |beta_1 beta_2 sigma^2| < 1, then follows from the three.",
)
def optimistic_same_sign(matrix, ratio, alpha, first, second):
    predicted = three_conditions(matrix, alpha, first, second)
    return decides(predicted, radius(Bilinear(matrix), Alternating(*optimists(alpha, first, second, ratio))))


optimistic_same_sign.without(
    "opposite-signs",
    "no beta has the sign opposite to alpha's",
    because="With both betas of the other sign the product of the roots, beta_1 beta_2 sigma^2, may exceed 1.",
    **OPPOSITE,
    first=numbers(-2.25, -0.5),
    second=numbers(-2.25, -0.5),
)


@claim(
    "zhang-yu/momentum",
    "Heavy ball with moves at once converges on no bilinear game, whatever the rates and coefficients and their signs.",
    source=ZHANG_YU,
    kind="theorem",
    hypotheses="moves at once",
    domain=dict(**GAMES, first=MAYBE, second=MAYBE, in_turns=st.just(False)),
    because="Schur's criterion for (w - 1)^2 (w - beta_1)(w - beta_2) + alpha^2 sigma^2 w^2 has no solution.",
)
def momentum_at_once(matrix, first_rate, second_rate, first, second, in_turns):
    kind = Alternating if in_turns else Simultaneous
    computed = radius(Bilinear(matrix), kind(momentum(first_rate, first), momentum(second_rate, second)))
    return below(1, computed, rounding())


momentum_at_once.without(
    "in-turns",
    "moves at once",
    because="In turns momentum converges, with at least one negative coefficient.",
    in_turns=st.just(True),
    first=numbers(-0.9, 0),
    second=numbers(-0.9, 0),
)


@claim(
    "zhang-yu/momentum-gauss-seidel",
    r"Heavy ball in turns converges on a bilinear game of full rank if and only if, for every $\sigma$ and with "
    r"$p = \alpha^2\sigma^2$, $|\beta_1\beta_2| < 1$, $|\beta_1 + \beta_2 + 2 - p| < \beta_1\beta_2 + 3$, "
    r"$4(\beta_1 + 1)(\beta_2 + 1) > p$ and "
    r"$p\beta_1\beta_2 < (1 - \beta_1\beta_2)(2\beta_1\beta_2 - \beta_1 - \beta_2)$.",
    source=ZHANG_YU,
    kind="theorem",
    domain={**COEFFICIENTS, "first": MODEST, "second": MODEST},
    because="Schur's criterion for (w - 1)^2 (w - beta_1)(w - beta_2) + p w^3.",
)
def momentum_gauss_seidel(matrix, ratio, alpha, first, second):
    p, product, total = alpha**2 * squares(matrix), first * second, first + second
    predicted = least(
        1 - jnp.abs(product),
        product + 3 - jnp.abs(total + 2 - p),
        4 * (first + 1) * (second + 1) - p,
        (1 - product) * (2 * product - total) - p * product,
    )
    update = Alternating(momentum(ratio * alpha, first), momentum(alpha / ratio, second))
    return decides(predicted, radius(Bilinear(matrix), update))


@claim(
    "zhang-yu/negative-momentum",
    "Heavy ball in turns converges on a bilinear game only if at least one of the two coefficients is negative.",
    source=ZHANG_YU,
    kind="theorem",
    hypotheses="neither coefficient is negative",
    domain=dict(**GAMES, first=numbers(0, 2), second=numbers(0, 2)),
    because="With both >= 0 and a product below 1, 2 beta_1 beta_2 <= beta_1 + beta_2: the last condition fails.",
)
def negative_momentum(matrix, first_rate, second_rate, first, second):
    update = Alternating(momentum(first_rate, first), momentum(second_rate, second))
    return below(1, radius(Bilinear(matrix), update), rounding())


negative_momentum.without(
    "one-negative",
    "neither coefficient is negative",
    because="A negative coefficient of one player alone converges.",
    first_rate=numbers(0.1, 2),
    second_rate=numbers(0.1, 2),
    first=numbers(-0.9, -0.1),
    second=numbers(0, 0.1),
)
