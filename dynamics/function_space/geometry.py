r"""Geometries of densities and of functions on points: what makes a gradient a direction, see `directions.Natural`.

A density is held as logits $\theta$, $q = \mathrm{softmax}(\theta)$. A direction in logits, $v = -\nabla_\theta L$,
tells the slope of L in the probabilities up to a constant: $v_i/q_i = -(\partial L/\partial q_i - \sum_j q_j\,\partial
L/\partial q_j)$. A slope is taken as 0 where a probability is 0 in the arithmetic at hand.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynamics._checks import Numbers, as_leaf, check_finite, check_kind, is_concrete
from dynamics.scalars import decayed


class Graph(eqx.Module):
    """Points and which of them are neighbours, for gradients by differences.

    Attributes:
        ends: the numbers of the two points of every edge, shape (2, e).
        lengths: of the edges, shape (e,).
        count: number of points.

    >>> Graph.line([0.0, 0.5, 1.0]).slopes(jnp.asarray([1.0, 2.0, 0.0])).tolist()
    [2.0, -4.0]
    """

    ends: Int[Array, "2 e"]
    lengths: Float[Array, " e"]
    count: int = eqx.field(static=True)

    @classmethod
    def line(cls, points: Numbers) -> "Graph":
        """Equally spaced points of a line in ascending order, shape (n,), n >= 2; neighbours are joined.

        Raises:
            ValueError: the points are not such.
        """
        x = np.asarray(points, float)
        gaps = np.diff(x)
        if x.ndim != 1 or x.size < 2 or not np.all(gaps > 0) or np.ptp(gaps) > 1e-4 * gaps.mean():
            raise ValueError(
                f"the points are {np.array2string(x, threshold=6)}; expected two or more equally spaced numbers in "
                "ascending order, e.g. jnp.linspace(-4, 4, 129)"
            )
        spacing = (x[-1] - x[0]) / (x.size - 1)
        numbers = jnp.arange(x.size, dtype=jnp.int32)
        return cls(jnp.stack([numbers[:-1], numbers[1:]]), jnp.full(x.size - 1, spacing), x.size)

    @classmethod
    def plane(cls, x: Numbers, y: Numbers) -> "Graph":
        """The grid of equally spaced x and y, its points in the order of `jnp.meshgrid(x, y, indexing="ij")`.

        Raises:
            ValueError: x or y are not equally spaced in ascending order.

        >>> Graph.plane([0.0, 1.0], [0.0, 1.0, 2.0]).count
        6
        """
        first, second = cls.line(x), cls.line(y)
        numbers = jnp.arange(first.count * second.count, dtype=jnp.int32).reshape(first.count, second.count)
        down, across = [numbers[:-1].ravel(), numbers[1:].ravel()], [numbers[:, :-1].ravel(), numbers[:, 1:].ravel()]
        lengths = [jnp.repeat(first.lengths, second.count), jnp.tile(second.lengths, first.count)]
        return cls(
            jnp.concatenate([jnp.stack(down), jnp.stack(across)], axis=1), jnp.concatenate(lengths), numbers.size
        )

    def slopes(self, values: Float[Array, " n"]) -> Float[Array, " e"]:
        """Differences of neighbours over their distance."""
        return (values[self.ends[1]] - values[self.ends[0]]) / self.lengths.astype(values.dtype)

    def on_edges(self, masses: Float[Array, " n"]) -> Float[Array, " e"]:
        """The mean mass of the ends of every edge."""
        return (masses[self.ends[0]] + masses[self.ends[1]]) / 2

    def energy(self, values: Float[Array, " n"], masses: Float[Array, " n"]) -> Array:
        r"""$\sum_{\text{edges}} m_e\,(\text{slope})^2$, the mean squared gradient where points have these masses.

        >>> float(Graph.line([0.0, 0.5, 1.0]).energy(jnp.asarray([1.0, 2.0, 0.0]), jnp.asarray([0.25, 0.5, 0.25])))
        7.5
        """
        return jnp.sum(self.on_edges(masses).astype(values.dtype) * jnp.square(self.slopes(values)))


class FisherRao(eqx.Module):
    r"""The geometry of Fisher and Rao on densities that are held as logits: $\dot q_i = q_i\,(u_i - \sum_j q_j u_j)$.

    Here u is minus the slope of the loss in the probabilities; the replicator equation, $\dot\theta = u$ up to a
    constant. In steps it is entropic mirror descent (multiplicative weights): a step h of gradient descent along
    `Natural(FisherRao(), ...)` multiplies $q_i$ by $e^{h u_i}$ and normalises.
    Source: Amari, Natural Gradient Works Efficiently in Learning, 1998; as mirror descent: Beck, Teboulle, Mirror
    Descent and Nonlinear Projected Subgradient Methods, 2003, section 5.

    >>> direction = FisherRao()(jnp.log(jnp.asarray([0.25, 0.75])), jnp.asarray([0.375, -0.375]))
    >>> [round(float(u), 6) for u in direction]
    [1.5, -0.5]
    """

    def __call__(self, parameters: Float[Array, " n"], direction: Float[Array, " n"]) -> Float[Array, " n"]:
        return _slope(parameters, direction)


class Transport(eqx.Module):
    r"""The Wasserstein geometry on densities over a graph, held as logits: mass moves along edges only.

    $\dot q_i = \sum_{j\sim i} \kappa_{ij}\,\Lambda(\rho_i, \rho_j)\,(u_i - u_j)$ with $\rho = q/\pi$ for the base
    measure $\pi$, $\kappa_{ij} = (\pi_i + \pi_j)/(2\ell_{ij}^2)$, the logarithmic mean $\Lambda(a, b) = (a-b)/(\log a
    - \log b)$, and u minus the slope of the loss in the probabilities. On a fine grid that is $\dot q = \nabla\cdot(q
    \nabla\,\delta L/\delta q)$, the motion of particles downhill. With it the gradient flow of $KL(q\,\|\,\pi)$ is
    exactly the Markov chain $\dot q_i = \sum_j \kappa_{ij}(\rho_j - \rho_i)$, the Fokker-Planck equation. Mass enters
    points that have none at an infinite rate of the logarithm: directions overflow where a probability does.
    Source: Maas, Gradient Flows of the Entropy for Finite Markov Chains, 2011, theorem 4.7; on the continuum: Jordan,
    Kinderlehrer, Otto, The Variational Formulation of the Fokker-Planck Equation, 1998.

    Args:
        graph: of the points.
        base: the base measure, positive, shape (n,); `None`: equal masses.

    Raises:
        ValueError: the base measure is not one positive number per point.
    """

    graph: Graph
    base: Array

    def __init__(self, graph: Graph, base: Any = None):
        self.graph = graph
        check_kind(self, "graph", Graph, "Graph.line(jnp.linspace(-4, 4, 129))")
        self.base = jnp.full(graph.count, 1 / graph.count) if base is None else as_leaf(base)

    def __check_init__(self):
        _check_positive(self.base, (self.graph.count,), "Transport.base")

    def __call__(self, parameters: Float[Array, " n"], direction: Float[Array, " n"]) -> Float[Array, " n"]:
        if parameters.shape != (self.graph.count,):
            raise ValueError(f"the logits have shape {parameters.shape}; expected {(self.graph.count,)}, of the graph")
        dtype, (first, second) = parameters.dtype, self.graph.ends
        base = self.base.astype(dtype)
        log_density, slope = parameters - jnp.log(base), _slope(parameters, direction)
        # With Lambda(a, b) / a = (exp(l) - 1) / l, l = log(b / a), no probability is ever divided by.
        rise = log_density[second] - log_density[first]
        rate = self.graph.on_edges(base) * self.graph.slopes(slope) / self.graph.lengths.astype(dtype)
        out = jnp.zeros_like(parameters).at[first].add(-rate * decayed(1.0, -rise))
        return out.at[second].add(rate * decayed(1.0, rise)) / base


class Weighted(eqx.Module):
    r"""The geometry of $L^2(w)$ on functions that are held as values at points: $d_i = v_i / w_i$.

    With the weights of a quadrature, or the data's probabilities, a functional gradient: it does not depend on how
    many points there are.

    Args:
        weights: positive, shape (n,); values may have further axes.

    Raises:
        ValueError: the weights are not positive numbers along one axis; when called, not one per value.

    >>> Weighted([0.5, 0.25])(jnp.zeros(2), jnp.asarray([1.0, -1.0])).tolist()
    [2.0, -4.0]
    """

    weights: Array = eqx.field(converter=as_leaf)

    def __check_init__(self):
        _check_positive(self.weights, jnp.shape(self.weights)[:1], "Weighted.weights")

    def __call__(self, parameters: Float[Array, "n ..."], direction: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        if direction.shape[:1] != self.weights.shape:
            raise ValueError(
                f"Weighted.weights has shape {self.weights.shape}, the values have shape {direction.shape}; expected "
                "one weight per value"
            )
        return direction / self.weights.astype(direction.dtype).reshape((-1,) + (1,) * (direction.ndim - 1))


def _slope(logits: Array, direction: Array) -> Array:
    """Minus the slope of the loss in the probabilities, with mean 0; 0 where a probability is."""
    probabilities = jax.nn.softmax(logits)
    positive = probabilities > 0
    return jnp.where(positive, direction / jnp.where(positive, probabilities, 1), 0)


def _check_positive(weights: Any, shape: tuple[int, ...], label: str) -> None:
    if jnp.ndim(weights) != 1 or jnp.shape(weights) != shape or not jnp.size(weights):
        expected = f"{shape}, one per point" if len(shape) == 1 else "(n,)"
        raise ValueError(f"{label} has shape {jnp.shape(weights)}; expected {expected}")
    check_finite(weights, label)
    if is_concrete(weights) and not np.all(np.asarray(weights) > 0):
        raise ValueError(f"{label} has the entry {np.min(np.asarray(weights)):g}; expected positive numbers")
