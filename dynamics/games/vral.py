from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number, check_whole
from dynamics.distributions import Sample, normal
from dynamics.game import Game, Losses, Players, as_callable, as_players
from dynamics.gan import GAN, Keys
from dynamics.objectives import NonSaturating
from dynamics.scalars import half_square


class VRAL(Game):
    r"""Variance regularising adversarial learning: two meta-discriminators keep the discriminator's outputs spread out.

    Four players. F tells draws of $N(\mu_f, 1)$ from the discriminator's outputs for fakes, R draws of $N(\mu_r, 1)$
    from those for real samples, both by logistic regression; the discriminator fools both, and the generator wants its
    samples to be scored $\mu_r$:
    $L_G = \tfrac12 E(D(G(z)) - \mu_r)^2$, $L_D = E\,s(-F(D(G(z)))) + E\,s(-R(D(x)))$,
    $L_F = E\,s(-F(v_f)) + E\,s(F(D(G(z))))$, $L_R = E\,s(-R(v_r)) + E\,s(R(D(x)))$ with s the softplus and draws $v_f$,
    $v_r$. With `key=None` expectations are exact, those of the draws by Gauss-Hermite quadrature; with a key they are
    over batches. No equilibrium is known: if model and data agree, so do the two laws of the outputs, and the two
    targets cannot both be met.
    Source: Grewal, Hjelm, Bengio, Variance Regularizing Adversarial Learning, 2017 (its authors call it superseded), in
    the form of the first author's code, where the meta-discriminators act on a whole batch; here on one output.

    Args:
        generator, discriminator, data, latent: as for `GAN`.
        meta: function `(parameters, output) -> score` of one output of the discriminator, for F and for R.
        mean_real, mean_fake: $\mu_r$ and $\mu_f$; those of the code.
        nodes: of the quadrature.
        batch_size: number of draws for a key.

    Raises:
        ValueError: a mean is not finite, or a size is no whole number >= 1.

    >>> game, players = VRAL.example()
    >>> [round(float(loss), 4) for loss in game.losses(players)]
    [0.4775, 1.3863, 1.3863, 1.3863]
    """

    parts: GAN
    meta: Callable[[PyTree, Array], Array]
    mean_real: Array
    mean_fake: Array
    nodes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        generator: Callable[[PyTree, PyTree], PyTree],
        discriminator: Callable[[PyTree, PyTree], Array],
        data: Any,
        latent: Any,
        meta: Callable[[PyTree, Array], Array],
        mean_real: float | Array = 1.0,
        mean_fake: float | Array = -1.0,
        nodes: int = 20,
        batch_size: int = 64,
    ):
        self.parts = GAN(generator, discriminator, data, latent, NonSaturating())
        self.meta = as_callable(meta, "meta")
        self.mean_real, self.mean_fake = as_leaf(mean_real), as_leaf(mean_fake)
        self.nodes, self.batch_size = nodes, batch_size

    def __check_init__(self):
        for name in ("mean_real", "mean_fake"):
            check_number(self, name)
        for name in ("nodes", "batch_size"):
            check_whole(self, name)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 4:
            raise ValueError(f"VRAL has four players, generator, discriminator, F and R; got {len(players)}")
        generator, discriminator, for_fake, for_real = players
        keys = Keys.of(key)
        real, fake = self.parts.scores((generator, discriminator), key)
        objective = self.parts.objective

        def against(parameters: PyTree, outputs: Sample, mean: Array, key: PRNGKeyArray | None) -> tuple[Array, Array]:
            """The loss of a meta-discriminator, and what the discriminator pays for it."""
            draws = _trees.cast(normal(mean, 1.0, self.nodes, self.batch_size).sample(key), outputs.values.dtype)
            scores = [some.each(lambda output: self.meta(parameters, output)) for some in (draws, outputs)]
            return objective.discriminator(*scores), objective.generator(*scores)

        loss_of_f, on_fake = against(for_fake, fake, self.mean_fake, keys.noise_on_fake)
        loss_of_r, on_real = against(for_real, real, self.mean_real, keys.noise_on_real)
        on_generator = fake.mean(lambda output: half_square(output - self.mean_real))
        return on_generator, on_fake + on_real, loss_of_f, loss_of_r

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        def meta(weights: Array, output: Array) -> Array:
            return weights[0] + weights[1] * output + weights[2] * output**2

        points = jnp.asarray([-1.0, 0.2, 1.5])
        game = cls(lambda t, z: z + t, lambda w, x: w[0] + w[1] * x, points, points - 0.4, meta, nodes=5)
        return game, as_players((0.3, [0.1, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]))
