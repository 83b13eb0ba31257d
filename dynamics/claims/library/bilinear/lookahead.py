"""Bilinear games: lookahead, and fixed points of steps between old and new."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import below, eigenvalues, every, field_jacobian, radius, same_spectrum
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import RATES, SQUARE, WIDE, both, couplings, decides, largest, root
from dynamics.games import Bilinear, Quadratic
from dynamics.optimisers import sgd
from dynamics.strategies import arrays, numbers
from dynamics.updates import Alternating, Lookahead, Simultaneous


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
        computed = eigenvalues(Bilinear(matrix), Lookahead(inner(sgd(first), sgd(second)), count, weight))
        return same_spectrum(computed, 1 - weight + weight * expected**count)

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
    computed = radius(Bilinear(matrix), Lookahead(Simultaneous(sgd(first), sgd(second)), 2, weight))
    return decides(2 - weight * (4 + first * second * largest(matrix) ** 2), computed)


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
