"""GANs whose discriminator is a function in the space of a kernel: particles or a network against a wide network."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_kind, check_number, is_concrete
from dynamics.distributions import Sample
from dynamics.function_space.kernel_flows import trained_discriminator
from dynamics.function_space.kernel_functions import KernelFunction
from dynamics.function_space.kernels.activations import Erf
from dynamics.function_space.kernels.base import Kernel, as_points, check_same_points
from dynamics.function_space.kernels.fully_connected import NeuralTangent
from dynamics.game import Game, Losses, Players, as_callable, as_players
from dynamics.gan import GAN
from dynamics.objectives import Objective, Wasserstein
from dynamics.penalties import R1, Penalty
from dynamics.penalties.base import check_stateless

SMALLEST = 1e-10  # of the largest eigenvalue of a Gram matrix; what is below counts as 0


class Generator(eqx.Module):
    """Where the fake samples come from: particles, which are the player itself, or a network of some latents.

    Attributes:
        function: function `(parameters, latent) -> sample` of one latent; `None`: particles.
        latents: shape (n, ...).
    """

    function: Callable[[PyTree, Array], Array] | None
    latents: Array | None

    def __init__(self, function: Callable[[PyTree, Array], Array] | None = None, latents: ArrayLike | None = None):
        self.function = None if function is None else as_callable(function, "generator")
        self.latents = None if latents is None else as_points(latents, "latents")

    def __check_init__(self):
        if (self.function is None) != (self.latents is None):
            raise ValueError(
                "a generator and its latents belong together; expected both, or neither for particles: got "
                f"generator={self.function!r} and latents={self.latents!r}"
            )

    def __call__(self, player: PyTree, data: Array) -> Array:
        """Fake samples, shape (n, ...), of the shape of the data's."""
        if self.function is not None:
            player = jax.vmap(lambda latent: self.function(player, latent))(self.latents)  # pyright: ignore
        fake = as_points(player, "player 0")
        check_same_points(fake, data, "the generator", "data")
        return fake


class RetrainedKernelGAN(Game):
    r"""One player: a generator against a discriminator that is trained anew, for a time t, at every step.

    The discriminator is `trained_discriminator`, a wide network after gradient flow from $f_0$ = `start`; it is held
    fixed for the generator's gradient, as in GAN training, so that the field of particles $x_i$ is
    $-\frac1n\nabla c(f_t)(x_i)$, c being what the generator pays for a score, and that of a network the same, smoothed
    by the network's own tangent kernel (`velocity`). `dynamics.stability` has what is held fixed vary.

    With `Wasserstein` the field of particles is that of descent on $\frac t2\mathrm{MMD}^2$, for any kernel, as long as
    no particle is where the kernel has a kink: the Wasserstein gradient flow of that discrepancy, up to the factor 1/n.
    Source: Franceschi, de Bezenac, Ayed, Chen, Lamprier, Gallinari, A Neural Tangent Kernel Perspective of GANs, 2022,
    propositions 3 to 5; Arbel, Korba, Salim, Gretton, Maximum Mean Discrepancy Gradient Flow, 2019 (the flow).

    Args:
        kernel: of the discriminator.
        data: real samples, shape (m, ...).
        objective: what the players are paid; default `Wasserstein`.
        time: t, >= 0, how long the discriminator is trained.
        start: f_0, the constant score it is trained from; `None`: the objective's ideal score.
        generator, latents: function `(parameters, latent) -> sample` of one latent and latents of shape (n, ...), both
            fixed; `None`: the player is the particles, shape (n, ...).
        closed_form: as for `trained_discriminator`.

    Raises:
        TypeError: no kernel or no objective.
        ValueError: a number is out of bounds.

    >>> from dynamics.function_space.kernels import Gaussian
    >>> game = RetrainedKernelGAN(Gaussian(1.0), jnp.asarray([[0.0]]), time=2.0)
    >>> round(float(game.field((jnp.asarray([[1.0]]),))[0][0, 0]), 6)  # -2 exp(-1/2): towards the data
    -1.213061
    """

    kernel: Kernel
    data: Float[Array, "m ..."]
    objective: Objective
    time: Float[Array, ""]
    start: Float[Array, ""]
    generator: Generator
    closed_form: bool = eqx.field(static=True)

    def __init__(
        self,
        kernel: Kernel,
        data: ArrayLike,
        objective: Objective | None = None,
        time: ArrayLike = 1.0,
        *,
        start: ArrayLike | None = None,
        generator: Callable[[PyTree, Array], Array] | None = None,
        latents: ArrayLike | None = None,
        closed_form: bool = True,
    ):
        self.kernel = kernel
        self.data = as_points(data, "data")
        self.objective = Wasserstein() if objective is None else objective
        check_kind(self, "objective", Objective, "dynamics.objectives.Wasserstein()")
        self.time = as_leaf(time)
        self.start = as_leaf(self.objective.ideal_score if start is None else start)
        self.generator = Generator(generator, latents)
        self.closed_form = bool(closed_form)

    def __check_init__(self):
        _check_kernel(self)
        check_number(self, "time", minimum=0)
        check_number(self, "start")

    def samples(self, players: Players) -> Float[Array, "n ..."]:
        """The fake samples."""
        return self.generator(players[0], self.data)

    def discriminator(self, players: Players) -> KernelFunction:
        """The discriminator, trained against the fake samples of these players."""
        fake = self.samples(players)
        data = self.data.astype(fake.dtype)
        return trained_discriminator(
            self.kernel, self.objective, data, fake, self.time, start=self.start, closed_form=self.closed_form
        )

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 1:
            raise ValueError(f"RetrainedKernelGAN is a game of one player, the generator; got {len(players)}")
        fake = self.samples(players)
        critic = self.discriminator(jax.lax.stop_gradient(players))
        return (self.objective.generator(Sample(critic.at(self.data.astype(fake.dtype))), Sample(critic.at(fake))),)

    def velocity(self, players: Players) -> Float[Array, "n ..."]:
        r"""How the fake samples move along the field: $\dot g(z_i) = \sum_j \Theta_g(z_i, z_j)\,v_j$ for a network.

        $v_j = -\frac1n\nabla c(f_t)(g(z_j))$ is what particles would do, and $\Theta_g$ the tangent kernel of the
        generator, a matrix for every pair of latents; for particles it is the identity.
        """
        return jax.jvp(lambda player: self.generator(player, self.data), players, self.field(players))[1]

    def equilibria(self) -> tuple[Players, ...]:
        """Particles at the data, one each, where the discriminator starts at the objective's ideal score."""
        return _at_the_data(self, self.start, ())

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        data = jnp.asarray([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.3]])
        return cls(NeuralTangent(1, Erf()), data, time=2.0), (data + jnp.asarray([0.2, -0.1]),)


class KernelGAN(Game):
    r"""Two players: a generator, and a discriminator in the space of a kernel that both move at the same time.

    $f(x) = f_0 + \sum_j \beta_j\,e_j(x)$ with an orthonormal basis e of the functions that the kernel's sections
    $k(\cdot, p_i)$ at some points span, and with `derivatives` $\partial_p k(\cdot, p_i)$ as well. Gradient flow on
    $\beta$ is the gradient flow of a wide network, projected onto these functions. Particles at the data and constant
    scores are an equilibrium, and with the data as points and `derivatives` the functions hold all that the linear
    part of the flow of a wide network against particles can reach: its spectrum is that of the game, without any
    approximation. For `Wasserstein` with a penalty R1 of weight $\gamma$ and n particles: with the eigenvalues g of
    the matrix $\partial_x\partial_y k(y_i, y_j)$, two each,
    $\mu^2 + \frac{\gamma g}{n}\mu + \frac{g}{n^2} = 0$, and 0 for every direction of functions with gradient 0 at all
    data. The kernel has to be smooth at the points for that: that of a ReLU network is not, and without `derivatives`
    its frequencies grow with ever more points.

    The basis is made when the game is; a kernel with other numbers needs another game.
    Source: the kernel's view of Franceschi, de Bezenac, Ayed, Chen, Lamprier, Gallinari, 2022; the linear part at the
    equilibrium is ours.

    Args:
        kernel: of the discriminator.
        data: real samples, shape (m, d), or (m,) for numbers.
        objective: what the players are paid; default `Wasserstein`.
        penalty: a regulariser that keeps nothing, or `None`.
        points: p, of the samples' shape; `None`: the data.
        derivatives: whether derivatives of the kernel at the points are among the functions.
        start: f_0; `None`: the objective's ideal score.
        generator, latents: as for `RetrainedKernelGAN`.

    Raises:
        TypeError: no kernel, objective or penalty, or a penalty that keeps values.
        ValueError: points of another shape, or the kernel has no derivatives at the points (ReLU).

    >>> game, players = KernelGAN.example()
    >>> [player.shape for player in players], len(game.equilibria())
    ([(3, 2), (9,)], 1)
    """

    kernel: Kernel
    data: Float[Array, "m ..."]
    objective: Objective
    penalty: Penalty | None
    points: Float[Array, "p ..."]
    basis: Float[Array, "features r"]
    start: Float[Array, ""]
    generator: Generator
    derivatives: bool = eqx.field(static=True)

    def __init__(
        self,
        kernel: Kernel,
        data: ArrayLike,
        objective: Objective | None = None,
        penalty: Penalty | None = None,
        *,
        points: ArrayLike | None = None,
        derivatives: bool = False,
        start: ArrayLike | None = None,
        generator: Callable[[PyTree, Array], Array] | None = None,
        latents: ArrayLike | None = None,
    ):
        self.kernel = kernel
        _check_kernel(self)
        self.data = as_points(data, "data")
        self.objective = Wasserstein() if objective is None else objective
        self.penalty = penalty
        check_kind(self, "objective", Objective, "dynamics.objectives.Wasserstein()")
        self.points = self.data if points is None else as_points(points, "points")
        check_same_points(self.points, self.data, "points", "data")
        self.derivatives = bool(derivatives)
        self.start = as_leaf(self.objective.ideal_score if start is None else start)
        self.generator = Generator(generator, latents)
        self.basis = _orthonormal(kernel, self.points, self.derivatives)

    def __check_init__(self):
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")
        check_stateless(self)
        check_number(self, "start")

    def score(self, coefficients: Array, x: ArrayLike) -> Float[Array, ""]:
        """The discriminator with these coefficients at one point."""
        sections = _sections(self.kernel, self.points.astype(coefficients.dtype), self.derivatives, x)
        return self.start + jnp.sum(sections * (self.basis @ coefficients))

    def samples(self, players: Players) -> Float[Array, "n ..."]:
        """The fake samples."""
        return self.generator(players[0], self.data)

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        if len(players) != 2:
            raise ValueError(f"KernelGAN is a game of two players, generator and discriminator; got {len(players)}")
        fake = self.samples(players)
        real, points = self.data.astype(fake.dtype), self.points.astype(fake.dtype)
        # Sections all in one go, sums apart: so they cancel to the last bit where particles are at the data. What the
        # large coefficients of small sections make of rounding would keep the players from resting there.
        both = jnp.concatenate([real, fake])
        sections = jax.vmap(lambda point: _sections(self.kernel, points, self.derivatives, point))(both)
        function = self.basis @ players[1]
        on_real, on_fake = (
            Sample(self.start + jnp.sum(rows * function, axis=1)) for rows in jnp.split(sections, [len(real)])
        )
        gan = GAN(_nothing, self.score, self.data, self.data, self.objective, self.penalty)
        return gan.losses_of_scores(players, (Sample(real), Sample(fake)), (on_real, on_fake), key)

    def equilibria(self) -> tuple[Players, ...]:
        """Particles at the data, one each, and a constant score, where it is the objective's ideal one."""
        return _at_the_data(self, self.start, (jnp.zeros(self.basis.shape[1], self.data.dtype),))

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        data = jnp.asarray([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.3]])
        game = cls(NeuralTangent(1, Erf()), data, penalty=R1(2.0), derivatives=True)
        return game, (data + jnp.asarray([0.2, -0.1]), jnp.linspace(-0.2, 0.3, game.basis.shape[1]))


def _nothing(parameters: PyTree, latent: Array) -> Array:
    raise NotImplementedError  # the samples are known when scores are


def _check_kernel(game: RetrainedKernelGAN | KernelGAN) -> None:
    if not isinstance(game.kernel, Kernel):
        raise TypeError(
            f"{type(game).__name__}.kernel is {game.kernel!r}; expected a Kernel, e.g. "
            "dynamics.function_space.kernels.NeuralTangent()"
        )


def _at_the_data(game: Any, start: Array, others: tuple[Array, ...]) -> tuple[Players, ...]:
    if game.generator.function is not None or not is_concrete(start):
        return ()
    if not np.allclose(float(start), float(game.objective.ideal_score), rtol=1e-6, atol=1e-12):
        return ()
    return (as_players((game.data, *others)),)


def _sections(kernel: Kernel, points: Array, derivatives: bool, x: ArrayLike) -> Array:
    """The kernel's sections at the points, and their derivatives, as functions of x: shape (features,)."""
    if not derivatives:
        return jax.vmap(lambda point: kernel(x, point))(points)
    values, gradients = jax.vmap(jax.value_and_grad(lambda point: kernel(x, point)))(points)
    return jnp.concatenate([values, gradients.ravel()])


@eqx.filter_jit
def _gram(kernel: Kernel, points: Array, derivatives: bool) -> Array:
    """Inner products of the sections, shape (features, features)."""

    def rows(point: Array) -> Array:
        return _sections(kernel, points, derivatives, point)

    values = jax.vmap(rows)(points)
    if not derivatives:
        return values
    slopes = jax.vmap(jax.jacfwd(rows))(points)  # (p, features, ...)
    return jnp.concatenate([values, jnp.moveaxis(slopes, 1, -1).reshape(-1, values.shape[1])])


def _orthonormal(kernel: Kernel, points: Array, derivatives: bool) -> Array:
    """Coefficients of an orthonormal basis of the span of the sections, shape (features, r)."""
    gram = _gram(kernel, points, derivatives)
    values, vectors = jnp.linalg.eigh((gram + gram.T) / 2)
    least = values[-1] * max(SMALLEST, 4 * len(values) * float(jnp.finfo(values.dtype).eps))
    if is_concrete(values):
        if derivatives and float(values[0]) < -float(least):
            raise ValueError(
                f"the kernel {type(kernel).__name__} has no derivatives at the points: the products of its sections "
                f"and their derivatives have the eigenvalue {float(values[0]):.3g}, which is negative. That of a "
                "network with ReLU has a kink there; expected a smooth one (Erf, Sine), or derivatives=False"
            )
        kept = np.asarray(values > least)
        values, vectors = values[kept], vectors[:, kept]
        return vectors / jnp.sqrt(values)
    return jnp.where(values > least, vectors / jnp.sqrt(jnp.where(values > least, values, 1)), 0)
