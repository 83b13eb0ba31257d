from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample
from dynamics.game import Game, Losses, Players, as_callable, as_players, check_scalar
from dynamics.gan import GAN, Keys
from dynamics.networks.network import Network
from dynamics.objectives import Minimax


class VEEGAN(Game):
    r"""A GAN of pairs of a latent and a sample, with a reconstructor that makes latents of samples.

    Three players. The discriminator tells pairs (F(x), x) of data from pairs (z, G(z)) of the model by logistic
    regression; the generator raises the scores of its pairs, and generator and reconstructor both make F(G(z)) like z:
    $L_D = E\,s(-D(F(x), x)) + E\,s(D(z, G(z)))$, $L_G = -E\,D(z, G(z)) + \lambda E\|z-F(G(z))\|^2$,
    $L_F = \lambda E\|z-F(G(z))\|^2$ with s the softplus and scores high on real pairs; in the paper they are high on
    those of the model. The best score is $\log p(x) p_F(z|x) - \log p(z) p_G(x|z)$, so that the generator's loss
    bounds the cross-entropy of the reconstructed latents. Latents that are lost when modes collapse cannot be
    reconstructed. The reconstructor is not paid for what the discriminator sees. With `key=None` expectations are
    exact, with a key over batches. `dynamics.training.generate` draws from the generator.
    Source: Srivastava, Valkov, Russell, Gutmann, Sutton, VEEGAN: Reducing Mode Collapse in GANs using Implicit
    Variational Learning, 2017, the estimates and the algorithm, with the authors' page.

    Args:
        generator: function `(parameters, latent) -> sample`.
        discriminator: function `(parameters, (latent, sample)) -> score` of one pair.
        reconstructor: function `(parameters, sample) -> latent`.
        data, latent: as for `GAN`.
        weight: lambda, >= 0; 1 in the paper.
        equilibria: known equilibria, a sequence of tuples of three players.

    Raises:
        TypeError: the generator or the discriminator is a network with state.
        ValueError: the weight is negative or not finite, or a reconstruction has another shape than the latent.

    >>> game, players = VEEGAN.example()
    >>> [round(float(loss), 4) for loss in game.losses(players)]
    [0.1153, 1.4299, 0.182]
    """

    parts: GAN
    reconstructor: Callable[[PyTree, PyTree], PyTree]
    weight: Array
    known: tuple[Players, ...]

    def __init__(
        self,
        generator: Callable[[PyTree, PyTree], PyTree],
        discriminator: Callable[[PyTree, PyTree], Array],
        reconstructor: Callable[[PyTree, PyTree], PyTree],
        data: Any,
        latent: Any,
        weight: Any = 1.0,
        equilibria: Sequence[Players] = (),
    ):
        self.parts = GAN(generator, discriminator, data, latent, Minimax())
        self.reconstructor = as_callable(reconstructor, "reconstructor")
        self.weight = as_leaf(weight)
        self.known = tuple(as_players(point, "equilibria") for point in equilibria)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        for name in ("generator", "discriminator"):
            if isinstance(getattr(self.parts, name), Network):
                raise TypeError(
                    f"VEEGAN.{name} is a network with state; expected a function of parameters and one point"
                )

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 3:
            raise ValueError(
                f"VEEGAN has three players, generator, discriminator and reconstructor; got {len(players)}"
            )
        generator, discriminator, reconstructor = players
        keys, dtype = Keys.of(key), _trees.float_dtype(players)
        real = _trees.cast(self.parts.data.sample(keys.data), dtype)
        latent = _trees.cast(self.parts.latent.sample(keys.latent), dtype)

        generate = cast(Callable[[PyTree, PyTree], PyTree], self.parts.generator)
        discriminate = cast(Callable[[PyTree, PyTree], Array], self.parts.discriminator)

        def score(point: PyTree, sample: PyTree) -> Array:
            value = discriminate(discriminator, (point, sample))
            check_scalar(value, "the discriminator returned")
            return value

        def of_model(point: PyTree) -> tuple[Array, Array]:
            sample = generate(generator, point)
            again = self.reconstructor(reconstructor, sample)
            _check_shapes(again, point)
            gap, _ = ravel_pytree(jax.tree.map(jnp.subtract, point, again))
            return score(point, sample), jnp.sum(jnp.square(gap))

        scores = real.each(lambda sample: score(self.reconstructor(reconstructor, sample), sample))
        pairs = latent.each(of_model)
        fake, gaps = (Sample(values, pairs.weights) for values in pairs.values)
        lost = self.weight * gaps.mean()
        return lost - fake.mean(), self.parts.objective.discriminator(scores, fake), lost

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        points = jnp.asarray([-1.0, 0.2, 1.5])

        def discriminator(weights: Array, pair: tuple[Array, Array]) -> Array:
            return weights[0] * pair[0] + weights[1] * pair[1]

        game = cls(lambda t, z: t[0] + t[1] * z, discriminator, lambda f, x: f * x, points, points - 0.4)
        return game, as_players(([0.3, 0.8], [0.1, 0.5], 0.9))


def _check_shapes(again: PyTree, point: PyTree) -> None:
    got, expected = (jax.tree.map(jnp.shape, tree) for tree in (again, point))
    if got != expected:
        raise ValueError(
            f"the reconstructor returned latents of shapes {got}; expected {expected}, those of the latents"
        )
