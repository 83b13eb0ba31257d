"""Bilinear games: extragradient."""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import agree, below, eigenvalues, end, every, norm, radius, same_spectrum
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import RATES, SQUARE, ZHANG_YU, both, decides, largest, root
from dynamics.games import Bilinear
from dynamics.optimisers import sgd
from dynamics.strategies import numbers
from dynamics.updates import Extragradient


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
    computed = radius(Bilinear(matrix), Extragradient(sgd(rate), sgd(rate), extrapolation=rate))
    return agree(computed, jnp.max(jnp.sqrt(1 - s**2 + s**4)))


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
    "bilinear/extragradient-last-iterate",
    r"Over all games $\sigma xy$ with $0 < \sigma \le 1$ and starts at distance 1 the last iterate of extragradient "
    r"with one rate $h \le 1/2$ has a field of norm $e^{-1/2}/(h\sqrt T)$ after T steps, up to a share of 1/T: like"
    r" $T^{-1/2}$, and no faster, at $\sigma = 1/(h\sqrt T)$.",
    source="Golowich, Pattathil, Daskalakis, Ozdaglar, Last Iterate is Slower than Averaged Iterate in Smooth"
    " Convex-Concave Saddle Point Problems, 2020 (the order); the constant by hand",
    kind="theorem",
    domain=dict(
        coupling=numbers(0.02, 1),
        rate=numbers(0.25, 0.5),
        angle=numbers(0, 6),
        steps=st.sampled_from([100, 400]),
    ),
    because="The norm is sigma (1 - s^2 + s^4)^(T/2), s = h sigma, about sigma exp(-T s^2/2), largest at s^2 = 1/T.",
)
def extragradient_last_iterate(coupling, rate, angle, steps):
    update = Extragradient(sgd(rate), sgd(rate), extrapolation=rate)
    start = (jnp.cos(angle), jnp.sin(angle))

    def scaled(coupling):
        game = Bilinear(coupling)
        return norm(game.field(end(game, update, start, steps))) * rate * steps**0.5

    worst, constant = scaled(1 / (rate * steps**0.5)), jnp.exp(-0.5)
    return every(agree(worst, constant, tolerance=1 / steps), below(scaled(coupling), constant * (1 + 1 / steps)))


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
    computed = radius(Bilinear(matrix), Extragradient(sgd(first), sgd(second), extrapolation=ahead))
    return decides(2 * look_ahead - 1 - look_ahead**2 * first * second * largest(matrix) ** 2, computed)


@claim(
    "bilinear/extragradient-best",
    r"Extragradient with one rate contracts by $\sqrt3/2$ at best, at $h\sigma = 1/\sqrt2$.",
    source="by hand",
    kind="closed form",
    domain=dict(coupling=numbers(0.25, 4), rate=numbers(0.01, 2)),
    because="1 - s^2 + s^4 is smallest at s^2 = 1/2.",
)
def extragradient_best(coupling, rate):
    def computed(rate):
        return radius(Bilinear(coupling), Extragradient(sgd(rate), sgd(rate), extrapolation=rate))

    best = jnp.sqrt(3.0) / 2
    return every(below(best, computed(rate)), agree(computed(1 / (jnp.sqrt(2.0) * coupling)), best))


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
    computed = eigenvalues(Bilinear(matrix), update)
    expected = both(1 - 1.5 * s**2, s * root(5 * s**2 / 4 - 1))
    return every(same_spectrum(computed, expected), decides(1 - jnp.max(s), jnp.max(jnp.abs(computed))))
