"""Bilinear games: the proximal point method and competitive gradient descent."""

import jax.numpy as jnp

from dynamics.checks.measures import difference, eigenvalues, end, epsilon, norm, same_spectrum
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import ROW, both, couplings, largest
from dynamics.directions import CompetitiveGradient
from dynamics.games import Bilinear
from dynamics.optimisers import sgd
from dynamics.strategies import arrays, numbers
from dynamics.updates import ProximalPoint, Simultaneous


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
    computed = eigenvalues(Bilinear(matrix), ProximalPoint((first, second)))
    return same_spectrum(computed, 1 / both(1, 1j * s))


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
    computed = end(game, ProximalPoint((first, second)), (x, y), steps=1)
    one, two = game.field(computed)
    back = computed[0] - first * one, computed[1] - second * two
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
    computed = eigenvalues(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=direction))
    return same_spectrum(computed, 1 / both(1, 1j * s))
