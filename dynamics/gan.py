"""One class for every GAN: generator x discriminator x data x latent x objective x penalty."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import check_arrays, check_kind, check_no_memory
from dynamics.distributions import Distribution, Sample, as_distribution, ring
from dynamics.game import Game, Losses, Players, as_callable, as_losses, as_players, check_scalar
from dynamics.objectives import NonSaturating, Objective
from dynamics.penalties import R1, Penalty


class GAN(Game):
    r"""A generative adversarial network as a game; generator is player 0, discriminator player 1.

    Losses: $L_0 = $ `objective.generator`$(C(x), C(G(z)))$ and $L_1 = $ `objective.discriminator`$(C(x),
    C(G(z)))$, plus what the penalty adds to each, with raw scores $C$ that are high on real samples.

    Args:
        generator: function `(parameters, latent) -> fake`, of *one* latent point; it is vmapped here.
        discriminator: function `(parameters, sample) -> score`, of *one* sample, returning a scalar.
        data: where real samples come from: a `Distribution`, an array with a leading axis (a data set), or a
            function of a key that returns a batch.
        latent: where latents come from, likewise.
        objective: what the players are paid.
        penalty: a regulariser, or `None`; several: `dynamics.penalties.Sum`.
        noise: instance noise, a `Distribution` of the samples' shape added to real and to fake samples.
        equilibria: known equilibria, a sequence of tuples of players.

    With `key=None` losses are expectations over all points of data, latent and noise; with a key, over a
    random batch, the same for both players.

    >>> import jax.numpy as jnp
    >>> from dynamics.distributions import PointMass
    >>> gan = GAN(lambda t, z: t + z, lambda w, x: w * x, jnp.asarray([2.0]), PointMass(0.0))
    >>> [round(float(v), 3) for v in gan.field((jnp.asarray(1.0), jnp.asarray(1.0)))]
    [0.269, -0.493]
    """

    generator: Callable[[PyTree, PyTree], PyTree]
    discriminator: Callable[[PyTree, PyTree], Array]
    data: Distribution
    latent: Distribution
    objective: Objective
    penalty: Penalty | None
    noise: Distribution | None
    known: tuple[Players, ...]

    def __init__(
        self,
        generator: Callable[[PyTree, PyTree], PyTree],
        discriminator: Callable[[PyTree, PyTree], Array],
        data: Any,
        latent: Any,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        noise: Distribution | None = None,
        equilibria: Sequence[Players] = (),
    ):
        self.generator = as_callable(generator, "generator")
        self.discriminator = as_callable(discriminator, "discriminator")
        self.data = as_distribution(data, "data")
        self.latent = as_distribution(latent, "latent")
        self.objective = NonSaturating() if objective is None else objective
        self.penalty = penalty
        self.noise = noise
        self.known = tuple(as_players(point, "equilibria") for point in equilibria)

    def __check_init__(self):
        check_kind(self, "objective", Objective, "dynamics.objectives.NonSaturating()")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_kind(self, "noise", Distribution, "dynamics.distributions.normal(0.0, 0.5)")

    def samples(self, players: Players, key: PRNGKeyArray | None = None) -> tuple[Sample, Sample]:
        """Real and fake samples with instance noise, in the players' dtype."""
        if len(players) != 2:
            raise ValueError(f"a GAN has two players, generator and discriminator; got {len(players)}")
        dtype = _trees.float_dtype(players)
        keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        real = _trees.cast(self.data.sample(keys[0]), dtype)
        latent = _trees.cast(self.latent.sample(keys[1]), dtype)
        fake = latent.each(lambda point: self._generated(players[0], point))
        of_real, of_fake = (_one_shape(sample) for sample in (real, fake))
        if of_real != of_fake:
            raise ValueError(
                f"the generator returned points of shapes {of_fake}, the data have points of shapes {of_real}; "
                "expected the same"
            )
        if self.noise is not None:
            real = _trees.cast(_add_noise(real, self.noise, keys[2]), dtype)
            fake = _trees.cast(_add_noise(fake, self.noise, keys[3]), dtype)
        return real, fake

    def _generated(self, parameters: PyTree, point: PyTree) -> PyTree:
        value = _called("generator", self.generator, parameters, point)
        check_arrays(value, "the generator returned", "a sample, an array of real numbers or a pytree of these")
        return value

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        draw, penalise = (None, None) if key is None else jax.random.split(key)
        real, fake = self.samples(players, draw)

        def score(point: PyTree) -> Array:
            value = _called("discriminator", self.discriminator, players[1], point)
            check_scalar(value, "the discriminator returned")
            return value

        return self.losses_of_scores(players, (real, fake), (real.each(score), fake.each(score)), penalise)

    def losses_of_scores(
        self,
        players: Players,
        samples: tuple[Sample, Sample],
        scores: tuple[Sample, Sample],
        key: PRNGKeyArray | None = None,
    ) -> Losses:
        """The losses for known scores of the real and the fake samples; the key is the penalty's."""
        generator, discriminator = self.objective.generator(*scores), self.objective.discriminator(*scores)
        if self.penalty is not None:
            terms = self.penalty(self.discriminator, self.objective, players, *samples, key)
            on_generator, on_discriminator = as_losses(terms, 2, type(self.penalty).__name__)
            generator, discriminator = generator + on_generator, discriminator + on_discriminator
        return generator, discriminator

    def equilibria(self) -> tuple[Players, ...]:
        return self.known

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        keys = jax.random.split(jax.random.key(0), 3)
        generator, start = split_module(eqx.nn.MLP(2, 2, 3, 1, key=keys[0]))
        discriminator, other = split_module(eqx.nn.MLP(2, "scalar", 4, 1, jax.nn.tanh, key=keys[1]))
        latent = jax.random.normal(keys[2], (5, 2))
        game = cls(generator, discriminator, ring(3, nodes=1), latent, NonSaturating(), R1(0.1))
        return game, (start, other)


class SplitModule(eqx.Module):
    """A module without its parameters, as a function `(parameters, *arguments, **keywords)`; made by `split_module`."""

    fixed: PyTree
    static: PyTree = eqx.field(static=True)

    def __call__(self, parameters: PyTree, *arguments: Any, **keywords: Any) -> PyTree:
        return eqx.combine(parameters, self.fixed, self.static)(*arguments, **keywords)


def split_module(module: PyTree) -> tuple[SplitModule, PyTree]:
    """Split a callable module into a function of its parameters and the parameters, fit to be a player.

    Args:
        module: an equinox module, or any callable pytree.

    Returns:
        `(function, parameters)` with `function(parameters, *arguments) == module(*arguments)`, keywords such as
        `key` likewise; the parameters
        are the module's floating arrays, everything else is part of the function.

    Raises:
        TypeError: it is no function, or a layer keeps values from call to call (`BatchNorm`, `SpectralNorm`, whatever
            holds an `equinox.nn.StateIndex`): they are no parameters. Layers that ask for a key are fine.

    >>> function, parameters = split_module(eqx.nn.Linear(2, 1, key=jax.random.key(0)))
    >>> function(parameters, jnp.ones(2)).shape
    (1,)
    """
    if not callable(module):
        raise TypeError(f"module is {module!r}; expected a function that is a pytree, such as equinox.nn.MLP(...)")
    check_no_memory(module, "module")
    parameters, rest = eqx.partition(module, eqx.is_inexact_array)
    fixed, static = eqx.partition(rest, eqx.is_array)
    return SplitModule(fixed, static), parameters


def _called(name: str, network: Callable, parameters: PyTree, point: PyTree) -> Any:
    """What a network returns for one point; where it fails, the message has the shapes."""
    try:
        return network(parameters, point)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        shapes = ", ".join(str(jax.tree.map(jnp.shape, tree)) for tree in (parameters, point))
        raise ValueError(
            f"the {name} fails for parameters and one point of shapes {shapes}: {error}. It gets one point at a time"
        ) from error


def _one_shape(sample: Sample) -> PyTree:
    """Shapes of one point."""
    return jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], sample.values)


def _add_noise(samples: Sample, noise: Distribution, key: PRNGKeyArray | None) -> Sample:
    if key is None:
        return samples.product(noise.sample(), lambda point, shift: jax.tree.map(jnp.add, point, shift))
    shifts = noise.sample(key, samples.count)
    return Sample(jax.tree.map(jnp.add, samples.values, shifts.values), samples.weights)
