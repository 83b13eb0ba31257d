"""What the claims on bilinear games share: sources, matrices, and arithmetic on singular values."""

import jax.numpy as jnp

from dynamics.checks.measures import below, epsilon, same_sign
from dynamics.strategies import matrices_with_singular_values, numbers

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


def decides(predicted, computed):
    """Margin of "the radius is below 1 exactly where the prediction is positive"; where that is 0 it must not be."""
    on_boundary = jnp.abs(predicted) < 1e4 * epsilon()
    return jnp.where(on_boundary, below(1, computed, 1e3 * epsilon() ** 0.5), same_sign(predicted, 1 - computed))


def rates_of(matrix, product, ratio):
    """Two rates with a ratio whose product is so large that `product` is h1 h2 sigma_max^2."""
    middle = jnp.sqrt(product) / largest(matrix)
    return middle * jnp.sqrt(ratio), middle / jnp.sqrt(ratio)
