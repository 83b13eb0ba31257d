"""Bilinear games: directions that look at the others' second derivatives."""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import eigenvalues, every, radius, same_spectrum
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import PAIR, RATES, WIDE, both, couplings, decides, largest, root
from dynamics.directions import (
    LOLA,
    Consensus,
    CrossingTheCurl,
    HamiltonianDescent,
    PolicyPrediction,
    SymplecticAdjustment,
    Unrolled,
)
from dynamics.flows import Flow
from dynamics.games import Bilinear
from dynamics.optimisers import sgd
from dynamics.strategies import numbers
from dynamics.updates import Simultaneous


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
    computed = [eigenvalues(Bilinear(matrix), Flow(way)) for way in (Consensus(weight), SymplecticAdjustment(weight))]
    return every(*(same_spectrum(values, expected) for values in computed))


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
        computed = eigenvalues(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=direction))
        return same_spectrum(computed, both(1 - middle * pull, root((gap * pull) ** 2 - first * second * sigma**2)))

    return every(margin(PolicyPrediction(weight), weight * sigma**2), margin(LOLA(weight), 2 * weight * sigma**2))


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
    computed = radius(Bilinear(matrix), Simultaneous(sgd(first), sgd(second), direction=way))
    bound = 4 - first * (4 * count * inner - second) * largest(matrix) ** 2
    return decides(jnp.minimum(2 * count * inner - second, bound), computed)


unrolled.without(
    "held-fixed",
    "the gradient goes through the inner steps",
    because="Without it the look-ahead counts once, not twice: [[1 - K h_1 eta sigma^2, ...], ...].",
    through=st.just(False),
)
