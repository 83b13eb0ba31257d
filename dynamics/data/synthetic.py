"""Mixtures of Gaussians: their modes are known, so that it can be counted how many of them a generator has."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import dynamics.distributions as distributions
from dynamics._checks import Numbers, as_leaf, as_whole, is_concrete
from dynamics._memory import check_memory, counted
from dynamics.data.dataset import DataSet


def ring(
    key: PRNGKeyArray, size: int = 25_600, *, modes: int = 8, radius: Numbers = 1.0, std: Numbers = 0.02
) -> DataSet:
    r"""Gaussians of standard deviation `std` on a circle in the plane, at angles $2\pi k / $`modes`.

    Source: Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2017, section 3.1.

    Args:
        key: random key of the draws.
        size: number of points, each from a mode drawn uniformly.
        modes: number of Gaussians.
        radius: of the circle.
        std: standard deviation of each Gaussian, >= 0.

    Returns:
        values of shape (size, 2), the mode of each point, and the centres.

    Raises:
        ValueError: a size is no positive whole number, or a number is out of bounds.

    >>> ring(jax.random.key(0), 100, modes=5).centres.shape
    (5, 2)
    """
    modes = as_whole("modes", modes)
    return _around(key, size, distributions.ring(modes, float(positive("radius", radius))).means, std, "ring")


def grid(
    key: PRNGKeyArray, size: int = 25_600, *, side: int = 5, spacing: Numbers = 0.5, std: Numbers = 0.0125
) -> DataSet:
    """Gaussians on a square grid around the origin: `side` x `side` modes, 25 by default.

    The published grid has the spacing 2 and the standard deviation 0.05; this is the same one, scaled to [-1, 1].
    Source: Srivastava, Valkov, Russell, Gutmann, Sutton, VEEGAN, 2017, section 4.1; Dumoulin et al., Adversarially
    Learned Inference, 2017.

    Args:
        key: random key of the draws.
        size: number of points, each from a mode drawn uniformly.
        side: modes along each axis.
        spacing: distance of neighbouring modes, > 0.
        std: standard deviation of each Gaussian, >= 0.

    Returns:
        values of shape (size, 2), the mode of each point, and the centres.

    Raises:
        ValueError: a size is no positive whole number, or a number is out of bounds.

    >>> grid(jax.random.key(0), 100).modes
    25
    """
    places = np.arange(as_whole("side", side)) - (side - 1) / 2
    centres = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    return _around(key, size, positive("spacing", spacing) * jnp.asarray(centres), std, "grid")


def mixture(
    key: PRNGKeyArray,
    size: int = 10_000,
    *,
    means: Numbers = (-2.0, 0.0, 3.0),
    std: Numbers = 0.3,
    weights: Numbers | None = None,
) -> DataSet:
    """Gaussians on the line.

    Args:
        key: random key of the draws.
        size: number of points.
        means: of the Gaussians, shape (modes,).
        std: their common standard deviation, >= 0.
        weights: how much of the data each of them makes, in any unit; `None`: all the same.

    Returns:
        values of shape (size,), the mode of each point, and the centres.

    Raises:
        ValueError: the means are no vector, the weights do not fit or none is positive, or a number is out of bounds.

    >>> mixture(jax.random.key(0), 100, weights=(1.0, 0.0, 0.0)).labels.max().item()
    0
    """
    centres = jnp.asarray(means) * 1.0
    if centres.ndim != 1 or not centres.size:
        raise ValueError(f"means is {means!r}; expected one number per mode, e.g. (-2.0, 0.0, 3.0)")
    shares = None
    if weights is not None:
        shares = np.asarray(weights, float)
        if shares.shape != centres.shape or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
            raise ValueError(f"weights is {weights!r}; expected {centres.size} numbers >= 0, not all of them 0")
    return _around(key, size, centres, std, "mixture", shares)


def _around(
    key: PRNGKeyArray, size: int, centres: Array, std: Numbers, name: str, weights: np.ndarray | None = None
) -> DataSet:
    """Points around centres, each of a mode that is drawn at random."""
    size, modes = as_whole("size", size), len(centres)
    check_memory(f"{counted(size)} points", size, 8 * max(1, centres[0].size), "expected fewer")
    which, noise = jax.random.split(key)
    if weights is None:
        labels = jax.random.randint(which, (size,), 0, modes)
    else:
        labels = jax.random.choice(which, modes, (size,), p=jnp.asarray(weights / weights.sum()))
    spread = jnp.asarray(std, centres.dtype)
    values = centres[labels] + spread * jax.random.normal(noise, (size, *centres.shape[1:]), centres.dtype)
    return DataSet(values, labels, centres, spread, name, modes)


def positive(name: str, value: Numbers) -> Array:
    """A number > 0 as an array; `ValueError` for any other."""
    leaf = as_leaf(value)
    if leaf.shape != () or (is_concrete(leaf) and not 0 < float(leaf) < np.inf):
        raise ValueError(f"{name} is {value}; expected a finite number > 0")
    return leaf
