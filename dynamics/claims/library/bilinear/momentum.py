"""Bilinear games: heavy ball, Nesterov's and negative momentum."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import agree, below, epsilon, every, jacobian, radius
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import (
    NEGATIVE,
    RATES,
    SQUARE,
    ZHANG_YU,
    decides,
    largest,
    rates_of,
    smallest,
)
from dynamics.games import Bilinear
from dynamics.optimisers import momentum, nesterov
from dynamics.strategies import arrays, numbers
from dynamics.updates import Alternating, Simultaneous
from dynamics.updates.base import replace


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
    computed, other = powers(one, two), powers(two, one)
    return every(*(agree(a, b) for a, b in zip(computed, other)))


@claim(
    "bilinear/negative-momentum",
    r"With momentum -1/2 for one player and none for the other, in turns, the squared radius is at most "
    r"$\max\{1/2,\ 1 - h^2\sigma_{min}^2/16\}$ as long as $h\sigma_{max} \le 1$ ($h^2 = h_1 h_2$ for unequal rates).",
    source=f"{NEGATIVE}, its theorem on alternating updates (not read; taken with one momentum of 0)",
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
    because="With -1/2 for both the eigenvalue -1 is reached at s = 1; this is how the theorem is often repeated.",
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
