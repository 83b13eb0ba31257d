"""Where samples come from: weighted points for exact expectations, random draws when a key is given."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_arrays, check_finite, check_number, check_whole, described
from dynamics._memory import check_memory, counted
from dynamics._printing import Printed


class Sample(eqx.Module):
    """Points with weights: an empirical measure, or the nodes of a quadrature.

    Attributes:
        values: a pytree of arrays with a leading axis of n points.
        weights: shape (n,), summing to one; `None` means 1/n each.
    """

    values: PyTree
    weights: Array | None = None

    def each(self, function: Callable) -> "Sample":
        """Apply a function of one point to every point; weights are kept."""
        if self.count == 1:  # an axis of length 1 would keep the compiler from merging equal terms
            point = jax.tree.map(lambda leaf: jnp.squeeze(leaf, 0), self.values)
            return Sample(jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), function(point)), self.weights)
        return Sample(jax.vmap(function)(self.values), self.weights)

    def mean(self, function: Callable | None = None) -> Array:
        """The expectation of `function(point)`; of the points themselves without a function.

        >>> float(Sample(jnp.asarray([1.0, 3.0]), jnp.asarray([0.25, 0.75])).mean())
        2.5
        """
        if function is not None:
            return self.each(function).mean()
        values = self.values
        if self.weights is None:
            return jnp.squeeze(values, 0) if self.count == 1 else jnp.mean(values, axis=0)
        weights = self.weights.reshape((-1,) + (1,) * (values.ndim - 1))
        return jnp.sum(weights * values, axis=0)  # no matrix product: those are not exact on every device

    @property
    def count(self) -> int:
        """Number of points."""
        return jax.tree.leaves(self.values)[0].shape[0]

    def product(self, other: "Sample", function: Callable[[Any, Any], Any]) -> "Sample":
        """All pairs of points of two independent samples, joined by a function of one point of each."""
        pairs = jax.vmap(lambda a: jax.vmap(lambda b: function(a, b))(other.values))(self.values)
        values = jax.tree.map(lambda leaf: leaf.reshape((self.count * other.count, *leaf.shape[2:])), pairs)
        if self.weights is None and other.weights is None:
            return Sample(values)
        first = 1.0 / self.count if self.weights is None else self.weights[:, None]
        second = 1.0 / other.count if other.weights is None else other.weights[None, :]
        return Sample(values, jnp.broadcast_to(first * second, (self.count, other.count)).ravel())


def as_sample(values: "Sample | Array") -> Sample:
    """Equal weights for a plain array of shape (n, ...).

    Args:
        values: points with a leading axis, or a `Sample`, which stays as it is.

    >>> as_sample(jnp.asarray([1.0, 3.0])).mean(jnp.square).item()
    5.0
    """
    return values if isinstance(values, Sample) else Sample(jnp.atleast_1d(values))


class Distribution(Printed):
    """A probability distribution: weighted points for `key=None`, a random batch for a key."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        """Points to take expectations over.

        Args:
            key: random key of a batch of independent points; `None`: weighted points for the exact
                expectation.
            count: number of points of the batch, without weights; `None`: the distribution's own batch size.
        """


class PointMass(Distribution):
    """All mass in one point, a number, an array, a list of numbers or a pytree of these.

    >>> float(PointMass(2.0).sample().mean())
    2.0
    """

    point: PyTree = eqx.field(converter=lambda point: _as_tree(point, as_leaf))

    def __check_init__(self):
        check_finite(self.point, "PointMass.point")

    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        many = 1 if key is None or count is None else count
        return Sample(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (many, *leaf.shape)), self.point))


class Points(Distribution):
    """A data set: all of it for `key=None`, a minibatch drawn with replacement for a key.

    Args:
        points: array of shape (n, ...), or a pytree of such arrays.
        batch_size: number of points in a minibatch; `None`: always the full data set.
    """

    points: PyTree
    batch_size: int | None = eqx.field(static=True)

    def __init__(self, points: PyTree, batch_size: int | None = None):
        check_arrays(_as_tree(points, lambda leaf: leaf), "Points.points is", "arrays of real numbers")
        self.points = _as_tree(points, jnp.asarray)
        self.batch_size = batch_size

    def __check_init__(self):
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(self.points)}
        if len(sizes) != 1 or () in sizes or (0,) in sizes:
            raise ValueError(
                f"the points have leading axes {sorted(sizes)}; expected one common, non-empty axis of points"
            )
        check_finite(self.points, "Points.points")
        if self.batch_size is not None:
            check_whole(self, "batch_size")

    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        batch = self.batch_size if count is None else count
        if key is None or batch is None:
            return Sample(self.points)
        rows = jax.random.randint(key, (batch,), 0, jax.tree.leaves(self.points)[0].shape[0])
        return Sample(jax.tree.map(lambda leaf: leaf[rows], self.points))


class GaussianMixture(Distribution):
    r"""Equally weighted Gaussians of one standard deviation, $\frac1k\sum_i N(\mu_i, s^2 I)$.

    With a key: `batch_size` random draws. Without: Gauss-Hermite quadrature, `nodes` per dimension, exact for
    polynomials of degree `2 nodes - 1` in each coordinate.

    Args:
        means: shape (k,) for scalars, (k, d) for vectors.
        std: standard deviation s, >= 0.
        nodes: quadrature nodes per dimension.
        batch_size: number of random draws.
    """

    means: Array = eqx.field(converter=lambda means: as_leaf(means) * 1.0)
    std: Array = eqx.field(converter=as_leaf)
    nodes: int = eqx.field(static=True, default=5)
    batch_size: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        if jnp.ndim(self.means) not in (1, 2):
            raise ValueError(
                f"GaussianMixture.means has shape {jnp.shape(self.means)}; expected (k,) for k numbers or "
                "(k, d) for k vectors. For one Gaussian use dynamics.distributions.normal."
            )
        check_finite(self.means, "GaussianMixture.means")
        check_number(self, "std", minimum=0)
        check_whole(self, "nodes")
        check_memory(f"a quadrature rule of {counted(self.nodes)} nodes", self.nodes**2, 8, "expected fewer nodes")
        check_whole(self, "batch_size")

    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        shape = self.means.shape[1:]
        dtype = self.means.dtype
        if key is not None:
            which, noise = jax.random.split(key)
            batch = self.batch_size if count is None else count
            rows = jax.random.randint(which, (batch,), 0, self.means.shape[0])
            return Sample(self.means[rows] + self.std * jax.random.normal(noise, (batch, *shape), dtype))
        dimension = math.prod(shape)
        total = self.nodes**dimension * self.means.shape[0]
        if total > 100_000:
            raise ValueError(
                f"quadrature with {self.nodes} nodes in each of {dimension} dimensions needs {total} points; "
                "use fewer nodes, or pass a key to draw samples"
            )
        points, weights = np.polynomial.hermite_e.hermegauss(self.nodes)
        grid = np.array(list(itertools.product(points, repeat=dimension))).reshape(-1, *shape)
        rows = itertools.product(weights / weights.sum(), repeat=dimension)
        weight = np.array([math.prod(row) for row in rows]) / self.means.shape[0]
        values = self.means[:, None] + self.std * jnp.asarray(grid, dtype)
        return Sample(values.reshape(-1, *shape), jnp.asarray(np.tile(weight, self.means.shape[0]), dtype))


class Sampler(Distribution):
    """Random draws only: any function from a key to an array of shape (n, ...) of independent points."""

    function: Callable[[PRNGKeyArray], PyTree]

    def sample(self, key: PRNGKeyArray | None = None, count: int | None = None) -> Sample:
        if key is None:
            raise ValueError(
                "this distribution can only be sampled and key=None asks for an exact expectation; "
                "pass key=jax.random.key(0), or use Points for a fixed data set"
            )
        first = self.function(key)
        what = "arrays of real numbers with one common leading axis of points"
        check_arrays(first, "the function that draws samples returned", what)
        axes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(first)}
        if len(axes) != 1 or () in axes:
            raise ValueError(f"the function that draws samples returned {described(first)}; expected {what}")
        if count is None:
            return Sample(first)
        batch = axes.pop()[0]
        draws = jax.vmap(self.function)(jax.random.split(key, -(-count // batch)))
        return Sample(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], draws))


def normal(mean: Any = 0.0, std: Any = 1.0, nodes: int = 20, batch_size: int = 256) -> GaussianMixture:
    """One Gaussian N(mean, std^2 I); `mean` is a number or a vector.

    Args:
        mean: a number (points of shape (1,)) or a vector of shape (d,).
        std: of every coordinate, > 0.
        nodes: of the quadrature rule along each axis, for exact expectations.
        batch_size: points that are drawn for a key.

    >>> round(float(normal(1.0, 2.0).sample().mean(jnp.square)), 4)  # 1 + 2^2
    5.0
    """
    return GaussianMixture(as_leaf(mean)[None], std, nodes, batch_size)


def ring(
    modes: int = 8, radius: float = 1.0, std: float = 0.01, nodes: int = 3, batch_size: int = 256
) -> GaussianMixture:
    """Gaussians at `modes` equally spaced points of a circle in the plane, angles 2 pi k / modes.

    Args:
        modes: number of Gaussians, of equal weights.
        radius: of the circle.
        std: of every Gaussian along both axes.
        nodes: of the quadrature rule along each axis, for exact expectations; 1: the means alone.
        batch_size: points that are drawn for a key.

    >>> sample = ring(4, nodes=1).sample()
    >>> sample.values.shape
    (4, 2)
    """
    angles = 2 * np.pi * np.arange(modes) / modes
    means = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return GaussianMixture(means, std, nodes, batch_size)


def as_distribution(source: Any, name: str) -> Distribution:
    """A distribution as it is, an array as a data set, a function of a key as a sampler.

    Args:
        source: what is to be a distribution.
        name: of the argument, for the message of an error.

    Raises:
        TypeError: it is nothing of the kind; a single number is none.

    >>> as_distribution([[0.0, 1.0], [2.0, 3.0]], 'data').sample().values.shape
    (2, 2)
    """
    if isinstance(source, Distribution):
        return source
    if callable(source):
        return Sampler(jax.tree_util.Partial(source) if jax.tree_util.all_leaves([source]) else source)
    if isinstance(source, (list, np.ndarray, jax.Array)) and np.ndim(source) >= 1:
        return Points(source)
    raise TypeError(
        f"{name} is {source!r}; expected a Distribution, an array of points with a leading axis, or a "
        "function of a key. For a single point use dynamics.distributions.PointMass."
    )


def _as_tree(tree: PyTree, convert: Callable) -> PyTree:
    """Convert the leaves of a pytree; a list is an array and not a tree of numbers."""
    return jax.tree.map(convert, np.asarray(tree) if isinstance(tree, list) else tree)
