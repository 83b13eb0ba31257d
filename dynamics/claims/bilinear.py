"""Bilinear games: every method's eigenvalues in closed form, one singular value at a time."""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.claims.base import claim
from dynamics.claims.measures import agree, radius, same_sign
from dynamics.claims.strategies import matrices_with_singular_values, numbers
from dynamics.games import Bilinear
from dynamics.optimisers import sgd
from dynamics.updates import Extragradient, Simultaneous

GIDEL = "Gidel et al., A Variational Inequality Perspective on Generative Adversarial Networks, 2019"
MATRICES = matrices_with_singular_values(0.25, 4.0)
SQUARE = matrices_with_singular_values(0.25, 4.0, ((1, 1), (2, 2)))


def largest(matrix):
    """The largest singular value."""
    return jnp.max(jnp.linalg.svd(matrix, compute_uv=False))


def smallest(matrix):
    """The smallest singular value."""
    return jnp.min(jnp.linalg.svd(matrix, compute_uv=False))


@claim(
    "bilinear/simultaneous",
    r"Simultaneous gradient descent diverges on every bilinear game, whatever the rates: its radius is "
    r"$\sqrt{1 + h_1 h_2 \sigma_{max}^2} > 1$.",
    source=f"{GIDEL}, proposition 1; eigenvalues by hand",
    kind="theorem",
    domain=dict(matrix=MATRICES, first=numbers(0.01, 2), second=numbers(0.01, 2)),
    because="The step matrix is I plus a skew one (after scaling the players), whose eigenvalues are 1 +- i s.",
)
def simultaneous(matrix, first, second):
    found = radius(Bilinear(matrix), Simultaneous(sgd(first), sgd(second)))
    return agree(found, jnp.sqrt(1 + first * second * largest(matrix) ** 2))


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
    source="Korpelevich 1976; Zhang and Yu, Convergence of Gradient Methods on Bilinear Zero-Sum Games, 2020",
    kind="theorem",
    hypotheses="the look-ahead is as long as the step",
    domain=dict(matrix=SQUARE, rate=numbers(0.01, 2), look_ahead=st.just(1.0)),
    because="Per singular value the eigenvalues are 1 - s^2 +- i s.",
)
def extragradient(matrix, rate, look_ahead):
    update = Extragradient(sgd(rate), sgd(rate), extrapolation=look_ahead * rate)
    return same_sign(1 - rate * largest(matrix), 1 - radius(Bilinear(matrix), update))


extragradient.without(
    "other-look-ahead",
    "the look-ahead is as long as the step",
    because="With a look-ahead g and a step h the game of singular value 1 is stable iff h (1 + g^2) < 2 g.",
    look_ahead=numbers(0.25, 4),
)
