"""How far networks of finite width are from their limit: tangent kernels, and the discriminators that they learn."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from dynamics._checks import as_whole
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.distributions import Sample
from dynamics.flows import Flow
from dynamics.function_space.kernel_flows import trained_discriminator
from dynamics.function_space.kernels.base import as_points
from dynamics.function_space.kernels.empirical import EmpiricalTangent
from dynamics.function_space.kernels.fully_connected import NeuralTangent
from dynamics.function_space.kernels.wide_networks import WideNetwork, wide_network
from dynamics.game import Game, Losses, Players
from dynamics.objectives import Objective, Wasserstein
from dynamics.simulation import simulate

if TYPE_CHECKING:
    import xarray as xr


class WidthErrors(NamedTuple):
    """Errors of networks of several widths against the limit.

    Attributes:
        widths: shape (w,).
        errors: relative to the limit, in the Frobenius or Euclidean norm, shape (w, seeds).
        slope: of the logarithm of the root mean squared error over that of the width, by least squares; -1/2 in theory.
        standard_error: of the slope, from the seeds.
    """

    widths: np.ndarray
    errors: np.ndarray
    slope: float
    standard_error: float

    describe = described_fields
    to_dict = named_fields

    def to_xarray(self) -> "xr.Dataset":
        """The errors along the axes `width` and `seed`, as an `xarray.Dataset`; the slope is in its attributes."""
        import xarray as xr

        numbers = {"slope": self.slope, "standard_error": self.standard_error}
        return xr.Dataset({"error": (("width", "seed"), self.errors)}, {"width": self.widths}, numbers)


def kernel_width_errors(
    kernel: NeuralTangent,
    points: ArrayLike,
    widths: Sequence[int],
    *,
    seeds: int = 4,
    key: PRNGKeyArray,
    chunk: int | None = 1,
) -> WidthErrors:
    r"""The error of tangent kernels of random networks of finite width against their limit, at their start.

    $\|\Theta_n - \Theta\|_F/\|\Theta\|_F$ on a set of points, of the order of $1/\sqrt n$. The antisymmetric start
    has the same kernel as one of its halves.
    Source: Jacot, Gabriel, Hongler, Neural Tangent Kernel, 2018, theorem 1 (the limit); the rate is that of a mean of n
    terms.

    Args:
        kernel: the limit.
        points: shape (n, ...).
        widths: units of every hidden layer, increasing, two or more.
        seeds: networks of each width.
        key: random key.
        chunk: gradients at so many points at a time; a network of 3 layers of 4,096 units has 34 million parameters.

    Returns:
        errors, shape (widths, seeds), their slope over the width on logarithmic scales, and its standard error.

    Raises:
        ValueError: fewer than two widths, or a number is no positive whole number.
    """
    points = as_points(points, "points")
    exact = np.asarray(kernel.matrix(points))

    def error(width: int, key: PRNGKeyArray) -> float:
        network, parameters = wide_network(kernel, points[0].size, width=width, key=key)
        parameters = jax.tree.map(lambda leaf: leaf.astype(points.dtype), parameters)
        matrix = EmpiricalTangent(network, parameters).matrix(points, chunk=chunk)
        return float(np.linalg.norm(np.asarray(matrix) - exact) / np.linalg.norm(exact))

    return _errors(error, widths, seeds, key)


def discriminator_width_errors(
    kernel: NeuralTangent,
    real: ArrayLike,
    fake: ArrayLike,
    places: ArrayLike,
    widths: Sequence[int],
    *,
    objective: Objective | None = None,
    time: float = 1.0,
    seeds: int = 4,
    key: PRNGKeyArray,
) -> WidthErrors:
    r"""The error of discriminators of finite width, trained by gradient flow, against the limit in closed form.

    $\|f_t - f_t^\infty\|/\|f_t^\infty - f_0\|$ at some places, for networks that start at 0 (antisymmetric) and real
    and fake samples that stay; all parameters are trained, by `dynamics.simulate`.

    Args:
        kernel: the limit.
        real, fake: samples, shape (m, ...) and (n, ...).
        places: where scores are compared, shape (k, ...).
        widths: units of every hidden layer, increasing, two or more.
        objective: what the discriminator minimises; default `Wasserstein`.
        time: how long it is trained.
        seeds: networks of each width.
        key: random key.

    Returns:
        errors, shape (widths, seeds), their slope over the width on logarithmic scales, and its standard error.

    Raises:
        ValueError: fewer than two widths, or a number is no positive whole number.
    """
    objective = Wasserstein() if objective is None else objective
    real, fake, places = (as_points(p, name) for p, name in ((real, "real"), (fake, "fake"), (places, "places")))
    exact = np.asarray(trained_discriminator(kernel, objective, real, fake, time).at(places))

    def error(width: int, key: PRNGKeyArray) -> float:
        network, parameters = wide_network(kernel, places[0].size, width=width, key=key, antisymmetric=True)
        parameters = jax.tree.map(lambda leaf: leaf.astype(places.dtype), parameters)
        game = NetworkTraining(network, objective, real, fake)
        controller = diffrax.PIDController(rtol=1e-6, atol=1e-6)
        run = simulate(
            game, Flow(), (parameters,), until=time, save_every="last", classify=False, stepsize_controller=controller
        )
        scores = np.asarray(_scores(network, run.final[0], places))
        return float(np.linalg.norm(scores - exact) / np.linalg.norm(exact))

    return _errors(error, widths, seeds, key)


class NetworkTraining(Game):
    """One player: a discriminator's parameters, against samples that stay.

    Args:
        network: function `(parameters, point) -> score`.
        objective: what it minimises.
        real, fake: samples, shape (m, ...) and (n, ...).
    """

    network: WideNetwork
    objective: Objective
    real: Float[Array, "m ..."]
    fake: Float[Array, "n ..."]

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        scores = (Sample(_scores(self.network, players[0], points)) for points in (self.real, self.fake))
        return (self.objective.discriminator(*scores),)

    def equilibria(self) -> tuple[Players, ...]:
        return ()

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        network, parameters = wide_network(NeuralTangent(1), 2, width=3, key=jax.random.key(0))
        return cls(network, Wasserstein(), jnp.ones((2, 2)), jnp.zeros((3, 2))), (parameters,)


@eqx.filter_jit
def _scores(network: WideNetwork, parameters: PyTree, points: Array) -> Array:
    return jax.vmap(lambda point: network(parameters, point))(points)


def _errors(
    error: Callable[[int, PRNGKeyArray], float], widths: Sequence[int], seeds: int, key: PRNGKeyArray
) -> WidthErrors:
    """Errors of every width and seed, and the slope of their logarithms."""
    sizes = [as_whole("widths", width) for width in widths]
    if len(set(sizes)) < 2:
        raise ValueError(f"widths is {list(widths)}; expected two different ones or more, e.g. (32, 128, 512)")
    seeds = as_whole("seeds", seeds)
    errors = np.array(
        [
            [error(width, jax.random.fold_in(jax.random.fold_in(key, width), seed)) for seed in range(seeds)]
            for width in sizes
        ]
    )
    logs = np.log(np.asarray(sizes, float))
    centred = logs - logs.mean()

    def slope(squares: np.ndarray) -> float:
        return float(centred @ np.log(squares) / 2 / (centred @ centred))

    whole = slope((errors**2).mean(axis=1))
    if seeds == 1:
        return WidthErrors(np.asarray(sizes), errors, whole, float("nan"))
    # By leaving out one seed at a time.
    rest = np.array([slope((np.delete(errors, seed, axis=1) ** 2).mean(axis=1)) for seed in range(seeds)])
    deviation = float(np.sqrt((seeds - 1) / seeds * ((rest - rest.mean()) ** 2).sum()))
    return WidthErrors(np.asarray(sizes), errors, whole, deviation)
