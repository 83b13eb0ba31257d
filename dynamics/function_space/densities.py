"""GANs whose generator is a density and whose discriminator is any function: no parameters, no samples."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics._checks import Numbers, as_leaf, check_finite, check_kind, check_number, check_whole, is_concrete
from dynamics._names import nearest
from dynamics.distributions import Sample
from dynamics.function_space.geometry import Graph
from dynamics.game import Game, Losses, Players
from dynamics.objectives import NonSaturating, Objective, Pointwise, Wasserstein

Inside = Literal["discriminator", "generator"]


class DensityGAN(Game):
    r"""A GAN in function space: the generator is a distribution on n points, the discriminator any function on them.

    Players: the generator's logits $\theta$, $q = \mathrm{softmax}(\theta)$, and the discriminator's scores C at the
    points, both of shape (n,). $L_0 = $ `objective.generator` and $L_1 = $ `objective.discriminator`, of the scores
    weighted by data p and model q, plus $\frac{\gamma_1}{2}\sum m_e(p)\,(\text{slope of C})^2$ over the edges of the
    graph for the discriminator, and the like with $\gamma_2$ and q: R1 and R2 by differences. With equal masses on a
    grid p and q are densities, up to the factor of its spacing.

    Geometries (`dynamics.function_space`): `directions.Natural(FisherRao(), Weighted(game.data))` is mirror descent
    for the generator and a functional gradient for the discriminator; `Transport(graph, game.data)` moves mass as
    particles move.

    Equilibrium: q = p with the ideal score everywhere, where that is finite and p is positive; a constant added to the
    logits changes nothing. There, with $\kappa = a''+b''$ and $c = h'b'$ of a pointwise objective's functions at the
    ideal score and $\lambda_k$ the eigenvalues of the graph's Dirichlet form in $L^2(p)$, the eigenvalues of the flow
    in the geometries `Transport(graph, p)` and `Weighted(p)` are the roots of $\mu^2 + (\kappa + \gamma\lambda_k)\mu
    - c\lambda_k = 0$ (with $\gamma = \gamma_1 + \gamma_2$), those in `FisherRao()` of $\mu^2 + (\kappa +
    \gamma\lambda_k)\mu - c = 0$, for all k > 0. For N(0, 1) on a fine grid $\lambda_k = k$: `games.HermiteGAN`.
    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 4, whose proofs are in this space; Nowozin,
    Cseke, Tomioka, f-GAN, 2016. The spectra are ours.

    Args:
        data: masses of the points, not negative; normalised here. Shape (n,).
        objective: what the players are paid; default non-saturating.
        graph: which points are neighbours, for `r1` and `r2`.
        r1, r2: weights of the gradient penalties, >= 0, or `None`.
        points: positions of the points, shape (n,) or (n, d), for divergences that need distances.
        batch_size: number of real and of fake points that a key draws; fake ones count by the ratio of q to what they
            were drawn from, so that gradients are those of the expectation on average. `None`: a key changes nothing.

    Raises:
        ValueError: masses that are negative, not finite or all zero; a penalty without a graph, or another number of
            points.

    >>> from dynamics.objectives import Minimax
    >>> game = DensityGAN([0.25, 0.75], Minimax())
    >>> game.field((jnp.zeros(2), jnp.zeros(2)))[1].tolist()
    [-0.125, 0.125]
    """

    data: Array
    objective: Objective
    graph: Graph | None
    r1: Array | None
    r2: Array | None
    points: Array | None
    batch_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        data: Numbers,
        objective: Objective | None = None,
        graph: Graph | None = None,
        r1: Any = None,
        r2: Any = None,
        points: Any = None,
        batch_size: int | None = None,
    ):
        masses = as_leaf(data)
        _check_masses(masses)
        self.data = masses / jnp.sum(masses)
        self.objective = NonSaturating() if objective is None else objective
        self.graph = graph
        self.r1 = None if r1 is None else as_leaf(r1)
        self.r2 = None if r2 is None else as_leaf(r2)
        self.points = None if points is None else as_leaf(points)
        self.batch_size = batch_size

    def __check_init__(self):
        check_kind(self, "objective", Objective, "dynamics.objectives.NonSaturating()")
        check_kind(self, "graph", Graph, "dynamics.function_space.Graph.line(points)")
        for name in ("r1", "r2"):
            if getattr(self, name) is None:
                continue
            check_number(self, name, minimum=0)
            if self.graph is None:
                raise ValueError(
                    f"DensityGAN.{name} is a penalty on slopes and needs graph=..., e.g. Graph.line(points)"
                )
        if self.graph is not None and self.graph.count != self.data.size:
            raise ValueError(f"DensityGAN.graph has {self.graph.count} points; expected {self.data.size}, as in data")
        if self.points is not None and jnp.shape(self.points)[:1] != self.data.shape:
            raise ValueError(f"DensityGAN.points has shape {self.points.shape}; expected {self.data.size} points")
        if self.batch_size is not None:
            check_whole(self, "batch_size")

    @classmethod
    def on_line(cls, density: Any, points: Numbers, objective: Objective | None = None, **options: Any) -> "DensityGAN":
        """The game on equally spaced points of a line.

        Args:
            density: of the data, a function of the array of points, or its values there; need not be normalised.
            points: shape (n,), ascending.
            objective: as above.
            options: `r1`, `r2`, `batch_size`.
        """
        x = as_leaf(points)
        values: Any = density(x) if callable(density) else density
        return cls(values, objective, Graph.line(np.asarray(points, float)), points=x, **options)

    def probabilities(self, players: Players) -> Float[Array, " n"]:
        """The model's probabilities q."""
        logits = players[0]
        if jnp.shape(logits) != self.data.shape:
            raise ValueError(f"the logits have shape {jnp.shape(logits)}; expected {self.data.shape}, as the data")
        return jax.nn.softmax(logits)

    def samples(self, players: Players, key: PRNGKeyArray | None = None) -> tuple[Array, Array]:
        """Weights of real and of fake points: p and q, or those of a random batch; of the dtype of the logits."""
        q = self.probabilities(players)
        p = self.data.astype(q.dtype)
        if key is None or self.batch_size is None:
            return p, q
        of_real, of_fake = jax.random.split(key)
        real = _drawn(of_real, p, self.batch_size)
        held = jax.lax.stop_gradient(q)
        drawn = _drawn(of_fake, held, self.batch_size)
        return real, jnp.where(held > 0, q * (drawn / jnp.where(held > 0, held, 1)), 0)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 2:
            raise ValueError(f"DensityGAN has two players, logits and scores; got {len(players)}")
        real, fake = self.samples(players, key)
        scores = players[1]
        if jnp.shape(scores)[:1] != self.data.shape:
            raise ValueError(f"the scores have shape {jnp.shape(scores)}; expected {self.data.size} of them")
        generator, discriminator = self.losses_of_scores(scores, real, fake)
        return generator, discriminator + self.penalty(scores, real, fake)

    def losses_of_scores(self, scores: Array, real: Array, fake: Array) -> Losses:
        """What the objective pays for scores of points with these weights, without penalties."""
        of_real, of_fake = Sample(scores, real), Sample(scores, fake)
        return self.objective.generator(of_real, of_fake), self.objective.discriminator(of_real, of_fake)

    def penalty(self, scores: Array, real: Array, fake: Array) -> Array:
        """What R1 and R2 add to the discriminator's loss."""
        total = jnp.zeros((), scores.dtype)
        for weight, masses in ((self.r1, real), (self.r2, fake)):
            if weight is not None and self.graph is not None:
                total = total + weight / 2 * self.graph.energy(scores, masses)
        return total

    def optimal_scores(self, players: Players) -> Array:
        """The best discriminator's scores against the model, of all functions and without penalties."""
        q = self.probabilities(players)
        return self.objective.optimal_score(self.data.astype(q.dtype), q)

    def divergence(self, players: Players) -> Array:
        """The objective's divergence of data and model: by how much the best discriminator is below the ideal loss."""
        q = self.probabilities(players)
        return self.objective.divergence_value(self.data.astype(q.dtype), q, points=self.points)

    def descended_divergence(self, players: Players) -> Array:
        """What the generator goes downhill on where the discriminator is always the best, see `Objective`."""
        q = self.probabilities(players)
        return self.objective.descended_divergence(self.data.astype(q.dtype), q)

    def equilibria(self) -> tuple[Players, ...]:
        ideal = self.objective.ideal_score
        known = is_concrete((self.data, ideal))
        if known and not (np.all(np.asarray(self.data) > 0) and np.all(np.isfinite(np.asarray(ideal)))):
            return ()
        logits = jnp.log(self.data)
        scores = jnp.broadcast_to(jnp.asarray(ideal, logits.dtype), self.data.shape + jnp.shape(ideal))
        return ((logits - jnp.mean(logits), scores),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game = cls.on_line([0.1, 0.3, 0.2, 0.15, 0.25], np.linspace(-1.0, 1.0, 5), r1=0.2)
        return game, (jnp.asarray([0.5, -0.2, 0.1, 0.0, 0.3]), jnp.asarray([0.1, 0.4, -0.3, 0.2, 0.0]))


class NestedDensityGAN(Game):
    r"""A density GAN with one player alone, while the other one gives its best response at every step.

    `inside="discriminator"`: the player is the generator's logits, and the discriminator is the best one of all
    functions, held fixed for the generator's gradient; the generator goes downhill on `descended_divergence`, which
    for a saturating objective is the divergence itself. In the geometries `FisherRao` and `Transport` every
    f-divergence then falls, for every objective whose `generator_weight` w is nowhere negative, since the slopes of all
    of them are decreasing functions of p/q; along the plain gradient in logits only the descended one does. At q = p
    the n - 1 eigenvalues other than 0 are $-w(1)$ in `FisherRao()`, and $-w(1)\,\lambda_k$ in `Transport(graph, p)`.

    `inside="generator"`: the player is the discriminator's scores, and the generator puts all its mass on the point
    that pays it best (the first one on ties). The two loops in this order find no distribution: the generator jumps
    from point to point, and it is its average over time that approaches the data while the scores settle.
    Source: Goodfellow et al., 2014, proposition 2; Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative Adversarial
    Networks, 2017, section 2; Goodfellow, NIPS 2016 Tutorial, 2017, section 5.1.1. All f-divergences at once: ours.

    Args:
        game: the game of two players. Its penalties count for the discriminator as a player only.
        inside: who is optimised inside.

    Raises:
        ValueError: the objective does not know its best score (Wasserstein, MMD, relativistic hinge), or the loss of
            the generator inside is no mean over fake points; `inside` is unknown.

    >>> from dynamics.objectives import Minimax
    >>> game = NestedDensityGAN(DensityGAN([0.5, 0.25, 0.25], Minimax()))
    >>> [round(float(v), 4) for v in game.field((jnp.log(jnp.asarray([0.25, 0.25, 0.5])),))[0]]
    [0.112, 0.0106, -0.1226]
    """

    game: DensityGAN
    inside: Inside = eqx.field(static=True, default="discriminator")

    def __check_init__(self):
        check_kind(self, "game", DensityGAN, "DensityGAN([0.25, 0.75])")
        if self.inside not in ("discriminator", "generator"):
            hint = nearest(str(self.inside), ("discriminator", "generator"))
            raise ValueError(f"NestedDensityGAN.inside is {self.inside!r}{hint}")
        name = type(self.game.objective).__name__
        if self.inside == "generator" and not isinstance(self.game.objective, (Pointwise, Wasserstein)):
            raise ValueError(
                f"the generator's loss of {name} is no mean over fake points, so that its best response is no single "
                "point; expected a pointwise objective, e.g. dynamics.objectives.Minimax()"
            )
        if self.inside == "discriminator":
            best = self.game.objective.optimal_score(jnp.asarray([0.25, 0.75]), jnp.asarray([0.5, 0.5]))
            if is_concrete(best) and np.any(np.isnan(np.asarray(best))):
                raise ValueError(
                    f"{name} does not know its best score of all functions; expected an objective that does, e.g. "
                    "dynamics.objectives.Minimax()"
                )

    def players(self, players: Players) -> Players:
        """Logits and scores of the game of two, the best response among them; the generator's as probabilities."""
        (player,) = players
        if self.inside == "discriminator":
            return player, jax.lax.stop_gradient(self.game.optimal_scores((player, None)))
        return self.best_generator(player), player

    def best_generator(self, scores: Float[Array, " n"]) -> Float[Array, " n"]:
        """The probabilities that pay the generator most against these scores: all on one point."""
        real = self.game.data.astype(scores.dtype)

        def paid(fake: Array) -> Array:
            return self.game.losses_of_scores(scores, real, fake)[0]

        return jax.nn.one_hot(jnp.argmin(jax.grad(paid)(real)), scores.size, dtype=scores.dtype)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 1:
            raise ValueError(f"NestedDensityGAN has one player; got {len(players)}")
        first, scores = self.players(players)
        if self.inside == "discriminator":
            real, fake = self.game.samples((first, scores), key)
            return (self.game.losses_of_scores(scores, real, fake)[0],)
        real, fake = self.game.data.astype(scores.dtype), jax.lax.stop_gradient(first)
        return (self.game.losses_of_scores(scores, real, fake)[1] + self.game.penalty(scores, real, fake),)

    def equilibria(self) -> tuple[Players, ...]:
        if self.inside == "generator":  # the best response jumps there
            return ()
        return tuple((logits,) for logits, _ in self.game.equilibria())

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game = DensityGAN.on_line([0.1, 0.3, 0.2, 0.15, 0.25], np.linspace(-1.0, 1.0, 5))
        return cls(game), (jnp.asarray([0.5, -0.2, 0.1, 0.0, 0.3]),)


def _drawn(key: PRNGKeyArray, probabilities: Array, count: int) -> Array:
    """Relative frequencies of independent draws."""
    rows = jax.random.categorical(key, jnp.log(probabilities), shape=(count,))
    return jnp.zeros_like(probabilities).at[rows].add(1 / count)


def _check_masses(masses: Any) -> None:
    if jnp.ndim(masses) != 1 or not jnp.size(masses):
        raise ValueError(f"DensityGAN.data has shape {jnp.shape(masses)}; expected (n,), a mass for every point")
    check_finite(masses, "DensityGAN.data")
    if is_concrete(masses):
        values = np.asarray(masses)
        if np.any(values < 0) or not np.any(values > 0):
            raise ValueError(
                f"DensityGAN.data has masses from {values.min():g} to {values.max():g}; expected numbers >= 0, not all "
                "of them 0"
            )
