"""Generators without parameters: particles against the best discriminator, and games over sampled strategies."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics._checks import Numbers, as_leaf, check_finite, check_kind, check_number, check_whole
from dynamics._memory import check_memory, counted
from dynamics.distributions import GaussianMixture
from dynamics.game import Game, Losses, Players, as_losses, as_players
from dynamics.games import MatrixGame
from dynamics.games.matrix_game import Strategies
from dynamics.objectives import NonSaturating, Pointwise
from dynamics.objectives.base import slope

MOST = 100_000  # ways to put particles on points


class ParticleGAN(Game):
    r"""A generator of m free particles against the best discriminator of all functions, both sides blurred.

    One player, the positions $x_i$, shape (m,) or (m, d). Data and model are mixtures of N(., s^2 I) around the data
    points and around the particles; the discriminator is the best one of all functions for these two densities p and
    q, held fixed for the gradient: $L = \frac1m\sum_i E\,h(C^*(x_i + s\xi))$. Particles move along
    $-w(r)\nabla\log r$, r = p/q, averaged over the blur; for a saturating objective they go downhill on the blurred
    divergence, a Wasserstein gradient flow.

    Points of rest: where the blur is small beside the distances of the data, particles rest on data points in whatever
    numbers, since none can leave one for another downhill: of the $n^n$ arrangements of n particles on n points only
    n! are the best. Such equilibria are mode collapse that no step size and no other discriminator cures. There, k of m
    particles on one of n points move together with the eigenvalue $-w(r)/(m s^2)$, r = m/(nk), and apart with 0: to
    first order the mixture stays the same, and higher orders bring them back slowly. A wider blur (instance noise) lets
    particles see other modes, and the worse equilibria lose their stability.
    Sources: Unterthiner et al., Coulomb GANs, 2018, appendix A1 (mode collapse in local Nash equilibria); Sun, Fang,
    Schwing, Towards a Better Global Loss Landscape of GANs, 2020 (the count, without blur); instance noise: Arjovsky
    and Bottou, Towards Principled Methods for Training Generative Adversarial Networks, 2017.

    Args:
        data: the data points, shape (n,) or (n, d).
        std: s, the standard deviation of the blur, > 0.
        objective: a pointwise one that knows its best score; default non-saturating.
        nodes: of the Gauss-Hermite quadrature of the blur, in each dimension.

    Where the ratio of densities would overflow (particles about 35 standard deviations away from all data, 12 in
    float32) losses go on linearly in its logarithm, which is what those of bounded weight do.

    Raises:
        ValueError: the data are no finite points, or the blur is not positive.
        TypeError: the objective is not pointwise.

    >>> game = ParticleGAN([-1.0, 1.0], 0.3)
    >>> bool(game.divergence((jnp.asarray([-1.0, 1.0]),)) < 1e-12 < game.divergence((jnp.asarray([1.0, 1.0]),)))
    True
    """

    data: Array
    std: Array
    objective: Pointwise
    nodes: int = eqx.field(static=True)

    def __init__(self, data: Numbers, std: Any, objective: Pointwise | None = None, nodes: int = 12):
        self.data = as_leaf(data)
        self.std = as_leaf(std)
        self.objective = NonSaturating() if objective is None else objective
        self.nodes = nodes

    def __check_init__(self):
        if jnp.ndim(self.data) not in (1, 2) or not jnp.size(self.data):
            raise ValueError(f"ParticleGAN.data has shape {jnp.shape(self.data)}; expected (n,) or (n, d)")
        check_finite(self.data, "ParticleGAN.data")
        check_number(self, "std", above=0)
        check_kind(self, "objective", Pointwise, "dynamics.objectives.NonSaturating()")
        check_whole(self, "nodes")

    def log_density(self, points: Float[Array, "..."], centres: Array) -> Array:
        """Of the mixture around some centres, at one point, without the factor that all share."""
        squares = jnp.square((points - centres) / self.std.astype(centres.dtype))
        distances = squares if squares.ndim == 1 else jnp.sum(squares, axis=1)
        return jax.nn.logsumexp(-distances / 2) - jnp.log(jnp.asarray(len(centres), centres.dtype))

    def log_ratio(self, point: Float[Array, "..."], particles: Array) -> Array:
        """The logarithm of p/q at a point."""
        return self.log_density(point, self.data.astype(particles.dtype)) - self.log_density(point, particles)

    def _paid(self, loss: Callable[[Array], Array], point: Array, particles: Array) -> Array:
        """What is paid for the best discriminator's score of a point; extended linearly where p/q would overflow."""
        ratio = self.log_ratio(point, particles)
        bound = 0.9 * jnp.log(jnp.finfo(ratio.dtype).max)
        inside = jnp.clip(ratio, -bound, bound)

        def paid(ratio: Array) -> Array:
            return loss(self.objective.optimal_score(jnp.exp(ratio / 2), jnp.exp(-ratio / 2)))

        return paid(inside) + slope(paid, inside) * (ratio - inside)

    def _blurred(self, centres: Array) -> Any:
        return GaussianMixture(centres, self.std.astype(centres.dtype), self.nodes).sample()

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        particles = self._particles(players)
        held = jax.lax.stop_gradient(particles)

        generator_loss = self.objective.generator_loss
        return (self._blurred(particles).mean(lambda point: self._paid(generator_loss, point, held)),)

    def divergence(self, players: Players) -> Array:
        """The objective's divergence of the blurred data and the blurred particles."""
        particles = self._particles(players)

        def scored(loss: Any) -> Any:
            return lambda point: self._paid(loss, point, particles)

        on_real = self._blurred(self.data.astype(particles.dtype)).mean(scored(self.objective.real_loss))
        on_fake = self._blurred(particles).mean(scored(self.objective.fake_loss))
        return self.objective.ideal_discriminator_loss - on_real - on_fake

    def arrangements(self, count: int) -> Float[Array, "k m ..."]:
        """All ways to put so many particles on the data points, n^m of them; where most rest for a small blur.

        Raises:
            ValueError: there are more than 10^5.
        """
        total = len(self.data) ** count
        if total > MOST:
            raise ValueError(f"there are {counted(total)} arrangements; expected at most {counted(MOST)}")
        return self.data[jnp.asarray(list(itertools.product(range(len(self.data)), repeat=count)))]

    def _particles(self, players: Players) -> Array:
        if len(players) != 1:
            raise ValueError(f"ParticleGAN has one player, the positions; got {len(players)}")
        shape = jnp.shape(players[0])
        if len(shape) != self.data.ndim or shape[1:] != self.data.shape[1:] or 0 in shape:
            expected = "(m,)" if self.data.ndim == 1 else f"(m, {self.data.shape[1]})"
            raise ValueError(f"the particles have shape {shape}; expected {expected}")
        return players[0]

    def equilibria(self) -> tuple[Players, ...]:
        return ((self.data,),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls([-1.0, 0.5, 1.0], 0.4), (jnp.asarray([-0.6, 0.2, 1.3]),)


def sampled_game(
    game: Game,
    first: Sequence[PyTree],
    second: Sequence[PyTree],
    strategies: Strategies = "mixed",
    key: PRNGKeyArray | None = None,
) -> MatrixGame:
    """The matrix game in which two players of a game choose among samples of their parameters.

    Where no pair of pure strategies is an equilibrium, mixtures of them are: `nash_equilibria()` has all of a small
    game, `updates.FictitiousPlay` learns one of a large zero-sum game.
    Source: Arora, Ge, Liang, Ma, Zhang, Generalization and Equilibrium in Generative Adversarial Nets, 2017, section 4.

    Args:
        game: of two players.
        first, second: what they choose from, parameters of one structure each.
        strategies: as in `games.MatrixGame`.
        key: of the game's batch.

    Raises:
        ValueError: a player has nothing to choose from, or so many pairs do not fit into memory.

    >>> from dynamics.games import Bilinear
    >>> sampled_game(Bilinear(2.0), [-1.0, 1.0], [0.5, 1.0, 3.0]).first.tolist()
    [[1.0, 2.0, 6.0], [-1.0, -2.0, -6.0]]
    """
    if not len(first) or not len(second):
        raise ValueError(f"the players have {len(first)} and {len(second)} strategies; expected some for each")
    check_memory(f"a game of {len(first)} x {len(second)} strategies", len(first) * len(second), 16, "sample fewer")
    stacked = [jax.tree.map(lambda *rows: jnp.stack(rows), *as_players(tuple(several))) for several in (first, second)]

    def losses(one: PyTree, other: PyTree) -> Losses:
        return as_losses(game.losses((one, other), key), 2, type(game).__name__)

    @jax.jit
    def pairs(rows: PyTree, columns: PyTree) -> Losses:
        return jax.lax.map(lambda one: jax.vmap(lambda other: losses(one, other))(columns), rows)

    of_first, of_second = pairs(*stacked)
    return MatrixGame(-of_first, -of_second, strategies)
