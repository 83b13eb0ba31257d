"""One class for every GAN: generator x discriminator x data x latent x objective x penalty."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import check_arrays, check_kind, described
from dynamics.distributions import Distribution, Sample, as_distribution, ring
from dynamics.game import Game, Losses, Players, StatefulGame, as_callable, as_losses, as_players, check_scalar
from dynamics.networks.network import Network
from dynamics.networks.splitting import SplitModule as SplitModule
from dynamics.networks.splitting import split_module as split_module
from dynamics.objectives import NonSaturating, Objective
from dynamics.penalties import R1, Penalty
from dynamics.penalties.base import replace_stateful, stateful


class Keys(NamedTuple):
    """The random keys of one computation of a GAN's losses, each `None` without a key.

    Attributes:
        data, latent: of the batches.
        noise_on_real, noise_on_fake: of the instance noise.
        penalty: the penalty's.
        generator, on_real, on_fake: of a `Network`, for the generator, and for the discriminator on either batch.
    """

    data: PRNGKeyArray | None = None
    latent: PRNGKeyArray | None = None
    noise_on_real: PRNGKeyArray | None = None
    noise_on_fake: PRNGKeyArray | None = None
    penalty: PRNGKeyArray | None = None
    generator: PRNGKeyArray | None = None
    on_real: PRNGKeyArray | None = None
    on_fake: PRNGKeyArray | None = None

    @classmethod
    def of(cls, key: PRNGKeyArray | None) -> "Keys":
        """The keys that are made of one."""
        if key is None:
            return cls()
        draw, penalise = jax.random.split(key)
        data, latent, on_real, on_fake = jax.random.split(draw, 4)
        return cls(data, latent, on_real, on_fake, penalise, *jax.random.split(jax.random.fold_in(key, 2), 3))


class GAN(StatefulGame):
    r"""A generative adversarial network as a game; generator is player 0, discriminator player 1.

    Losses: $L_0 = $ `objective.generator`$(C(x), C(G(z)))$ and $L_1 = $ `objective.discriminator`$(C(x),
    C(G(z)))$, plus what the penalty adds to each, with raw scores $C$ that are high on real samples.

    Args:
        generator: function `(parameters, latent) -> fake`, of *one* latent point; it is vmapped here. Or a
            `dynamics.networks.Network`, which gets the whole batch.
        discriminator: function `(parameters, sample) -> score`, of *one* sample, returning a scalar. Or a
            `dynamics.networks.Network`, which returns a score for every point, shape (n,) or (n, 1). For an objective
            that takes vectors (the MMDs) a score is an array of features of any shape.
        data: where real samples come from: a `Distribution`, an array with a leading axis (a data set), or a
            function of a key that returns a batch.
        latent: where latents come from, likewise.
        objective: what the players are paid.
        penalty: a regulariser, or `None`; several: `dynamics.penalties.Sum`. What it keeps from step to step, such as
            the averages of `LeCam`, is kept as the networks' variables are.
        noise: instance noise, a `Distribution` of the samples' shape added to real and to fake samples.
        equilibria: known equilibria, a sequence of tuples of players.

    With `key=None` losses are expectations over all points of data, latent and noise; with a key, over a
    random batch, the same for both players.

    Networks with BatchNorm, spectral normalisation, Dropout: losses are computed in training mode, with variables that
    go through the networks in this order, as in the loop of a DCGAN: the generator on the batch of latents, then the
    discriminator on the real batch, then on the fake batch; every computation of the losses, whoever moves, counts as
    such a pass (`advanced`). Penalties, and `samples`, are computed point by point in inference mode, with the
    variables from before the step. Weights of points count in the losses; a network sees all points of a batch alike.
    A network that draws random numbers needs a key; `dynamics.gan.Keys.of(key)` tells which key goes where.

    >>> import jax.numpy as jnp
    >>> from dynamics.distributions import PointMass
    >>> gan = GAN(lambda t, z: t + z, lambda w, x: w * x, jnp.asarray([2.0]), PointMass(0.0))
    >>> [round(float(v), 3) for v in gan.field((jnp.asarray(1.0), jnp.asarray(1.0)))]
    [0.269, -0.493]
    """

    generator: Callable[[PyTree, PyTree], PyTree] | Network
    discriminator: Callable[[PyTree, PyTree], Array] | Network
    data: Distribution
    latent: Distribution
    objective: Objective
    penalty: Penalty | None
    noise: Distribution | None
    known: tuple[Players, ...]
    kept: tuple[PyTree, PyTree]

    def __init__(
        self,
        generator: Callable[[PyTree, PyTree], PyTree] | Network,
        discriminator: Callable[[PyTree, PyTree], Array] | Network,
        data: Any,
        latent: Any,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        noise: Distribution | None = None,
        equilibria: Sequence[Players] = (),
    ):
        self.generator = generator if isinstance(generator, Network) else as_callable(generator, "generator")
        self.discriminator = (
            discriminator if isinstance(discriminator, Network) else as_callable(discriminator, "discriminator")
        )
        self.kept = _variables(generator), _variables(discriminator)
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

    @property
    def variables(self) -> tuple[PyTree, ...]:
        """Those of generator and discriminator, `()` where it is no network, and of penalties that keep something."""
        return *self.kept, *(penalty.variables for penalty in stateful(self.penalty))

    def samples(self, players: Players, key: PRNGKeyArray | None = None) -> tuple[Sample, Sample]:
        """Real and fake samples with instance noise, in the players' dtype; of a network, in inference mode."""
        generator = self.generator
        if isinstance(generator, Network):

            def generate(latent: Sample) -> Sample:
                return latent.each(lambda point: generator.evaluate(players[0], self.variables[0], point))
        else:

            def generate(latent: Sample) -> Sample:
                return _generated(generator, players[0], latent)

        return self._samples(players, Keys.of(key), generate)

    def _samples(self, players: Players, keys: Keys, generate: Callable[[Sample], Sample]) -> tuple[Sample, Sample]:
        if len(players) != 2:
            raise ValueError(f"a GAN has two players, generator and discriminator; got {len(players)}")
        dtype = _trees.float_dtype(players)
        real = _trees.cast(self.data.sample(keys.data), dtype)
        latent = _trees.cast(self.latent.sample(keys.latent), dtype)
        fake = generate(latent)
        _check_samples(fake.values)
        of_real, of_fake = (_one_shape(sample) for sample in (real, fake))
        if of_real != of_fake:
            raise ValueError(
                f"the generator returned points of shapes {of_fake}, the data have points of shapes {of_real}; "
                "expected the same"
            )
        if self.noise is not None:
            real = _trees.cast(_add_noise(real, self.noise, keys.noise_on_real), dtype)
            fake = _trees.cast(_add_noise(fake, self.noise, keys.noise_on_fake), dtype)
        return real, fake

    def _pass(self, players: Players, keys: Keys) -> tuple[tuple[Sample, Sample], tuple[Sample, Sample], tuple]:
        """Samples and scores in training mode, and the variables afterwards."""
        after, of_discriminator = [self.variables[0]], self.variables[1]
        generator, discriminator = self.generator, self.discriminator

        def generate(latent: Sample) -> Sample:
            if not isinstance(generator, Network):
                return _generated(generator, players[0], latent)
            fake, after[0] = _applied(
                "generator", generator, players[0], self.variables[0], latent.values, keys.generator
            )
            return Sample(fake, latent.weights)

        samples, scores = self._samples(players, keys, generate), []
        for sample, key in zip(samples, (keys.on_real, keys.on_fake), strict=True):
            if isinstance(discriminator, Network):
                values, of_discriminator = _applied(
                    "discriminator", discriminator, players[1], of_discriminator, sample.values, key
                )
                scores.append(Sample(self._as_scores(values, (sample.count,)), sample.weights))
            else:
                scores.append(sample.each(lambda point: self._score(players[1], point)))
        return samples, (scores[0], scores[1]), (after[0], of_discriminator)

    def _score(self, parameters: PyTree, point: PyTree) -> Array:
        """The score of one point; of a network, in inference mode."""
        if isinstance(self.discriminator, Network):
            return self._as_scores(self.discriminator.evaluate(parameters, self.variables[1], point), ())
        value = _called("discriminator", self.discriminator, parameters, point)
        if self.objective.takes_vectors:
            return self._as_scores(value, ())
        check_scalar(value, "the discriminator returned")
        return value

    def _as_scores(self, values: Any, shape: tuple[int, ...]) -> Array:
        """Scores of this shape, one for each point; of any shape per point where the objective takes vectors."""
        return (_as_features if self.objective.takes_vectors else _as_scores)(values, shape)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        keys = Keys.of(key)
        samples, scores, _ = self._pass(players, keys)
        return self.losses_of_scores(players, samples, scores, keys.penalty)

    def scores(self, players: Players, key: PRNGKeyArray | None = None) -> tuple[Sample, Sample]:
        """The discriminator's scores of the real and of the fake samples, those that the losses are made of."""
        return self._pass(players, Keys.of(key))[1]

    def with_variables(self, variables: PyTree) -> "GAN":
        of_networks, of_penalties = tuple(variables[:2]), iter(variables[2:])
        penalty = replace_stateful(self.penalty, lambda penalty: penalty.with_variables(next(of_penalties)))
        gan = eqx.tree_at(lambda gan: gan.kept, self, of_networks)
        return gan if penalty is None else eqx.tree_at(lambda gan: gan.penalty, gan, penalty)

    def advanced(self, players: Players, key: PRNGKeyArray | None = None) -> "GAN":
        _, scores, of_networks = self._pass(players, Keys.of(key))
        of_penalties = [penalty.advanced(*scores).variables for penalty in stateful(self.penalty)]
        return self.with_variables((*of_networks, *of_penalties))

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
            score = self._score if isinstance(self.discriminator, Network) else self.discriminator
            terms = self.penalty(score, self.objective, players, *samples, key)
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


def _called(name: str, network: Callable, parameters: PyTree, point: PyTree) -> Any:
    """What a network returns for one point; where it fails, the message has the shapes."""
    try:
        return network(parameters, point)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        shapes = ", ".join(str(jax.tree.map(jnp.shape, tree)) for tree in (parameters, point))
        raise ValueError(
            f"the {name} fails for parameters and one point of shapes {shapes}: {error}. It gets one point at a time"
        ) from error


def _generated(generator: Callable, parameters: PyTree, latent: Sample) -> Sample:
    """The generator's samples, point by point."""

    def one(point: PyTree) -> PyTree:
        value = _called("generator", generator, parameters, point)
        _check_samples(value)  # before `jax.vmap` complains
        return value

    return latent.each(one)


def _check_samples(values: PyTree) -> None:
    check_arrays(values, "the generator returned", "a sample, an array of real numbers or a pytree of these")


def _variables(network: Any) -> PyTree:
    return jax.tree.map(jnp.asarray, network.variables) if isinstance(network, Network) else ()


def _applied(
    name: str, network: Network, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
) -> tuple[PyTree, PyTree]:
    """What a network returns for a batch in training mode, and its variables, of the same kind as before."""
    try:
        outputs, new = network.apply(parameters, variables, batch, key)
    except Exception as error:  # whatever another library raises
        if key is None and _works(network, parameters, variables, batch):
            raise ValueError(
                f"the {name} draws random numbers (Dropout, for instance), and key=None asks for exact expectations; "
                "pass key=jax.random.key(0)"
            ) from error
        shapes = ", ".join(str([jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (parameters, batch))
        raise ValueError(
            f"the {name} fails for parameters and a batch of shapes {shapes}: {error}. It gets a whole batch at a time"
        ) from error
    if _shapes(variables) != _shapes(new):
        raise ValueError(
            f"the {name} had variables of structure and shapes {_shapes(variables)}, and has {_shapes(new)} after a "
            "batch; expected the same"
        )
    return outputs, jax.tree.map(lambda leaf, old: jax.lax.convert_element_type(leaf, old.dtype), new, variables)


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]


def _works(network: Network, parameters: PyTree, variables: PyTree, batch: PyTree) -> bool:
    """Whether a network can be applied with a key."""
    try:
        eqx.filter_eval_shape(network.apply, parameters, variables, batch, jax.random.key(0))
    except Exception:
        return False
    return True


def _as_scores(values: Any, shape: tuple[int, ...]) -> Array:
    """Scores of this shape, from an array that may have another axis of one score."""
    arrays = isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jnp.floating)
    if not arrays or values.shape not in (shape, (*shape, 1)):
        expected = "a scalar" if not shape else f"one score per point, of shape {shape} or {(*shape, 1)}"
        raise ValueError(f"the discriminator returned {described(values)}; expected {expected}, of floating type")
    return values.reshape(shape)


def _as_features(values: Any, shape: tuple[int, ...]) -> Array:
    """An array of features, of any shape for each point."""
    arrays = isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jnp.floating)
    if not arrays or values.shape[: len(shape)] != shape:
        expected = "an array of features" + (f" for each of {shape[0]} points" if shape else "")
        raise ValueError(f"the discriminator returned {described(values)}; expected {expected}, of floating type")
    return values


def _one_shape(sample: Sample) -> PyTree:
    """Shapes of one point."""
    return jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], sample.values)


def _add_noise(samples: Sample, noise: Distribution, key: PRNGKeyArray | None) -> Sample:
    if key is None:
        return samples.product(noise.sample(), lambda point, shift: jax.tree.map(jnp.add, point, shift))
    shifts = noise.sample(key, samples.count)
    return Sample(jax.tree.map(jnp.add, samples.values, shifts.values), samples.weights)
