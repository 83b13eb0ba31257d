"""A discriminator over the plane: its scores, and where it would send a particle from every place."""

from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics._checks import as_whole
from dynamics._plain import named_fields
from dynamics._printing import described_fields
from dynamics.distributions import Sample
from dynamics.function_space.kernel_gan import RetrainedKernelGAN
from dynamics.game import Players

if TYPE_CHECKING:
    import xarray as xr


class Landscape(NamedTuple):
    """Scores and velocities over a grid of the plane.

    Attributes:
        x, y: coordinates, shapes (k,) and (k,).
        scores: shape (k, k), rows along y.
        velocities: minus the slope of what a fake sample there pays, shape (k, k, 2).
    """

    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray
    velocities: np.ndarray

    describe = described_fields
    to_dict = named_fields

    def to_xarray(self) -> "xr.Dataset":
        """Scores and velocities along the axes `y` and `x`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {"score": (("y", "x"), self.scores), "velocity": (("y", "x", "component"), self.velocities)}
        return xr.Dataset(variables, {"x": self.x, "y": self.y, "component": ["x", "y"]})


def landscape(game: RetrainedKernelGAN, players: Players, *, count: int = 41, room: float = 0.25) -> Landscape:
    """The discriminator trained against these particles, over a square that holds data and fake samples.

    Args:
        game: of points in the plane.
        players: the generator.
        count: places along each axis.
        room: how much is left free around, in shares of the square.

    Returns:
        scores and velocities on the grid, shapes (k, k) and (k, k, 2), for `dynamics.plots.particles`.

    Raises:
        ValueError: points that are not of the plane, or fewer than two places.
    """
    count = as_whole("count", count, minimum=2)
    fake = game.samples(players)
    if fake.shape[1:] != (2,):
        raise ValueError(f"the points have shape {fake.shape[1:]}; expected (2,), a landscape is one of the plane")
    both = np.concatenate([np.asarray(game.data), np.asarray(fake)])
    middle, half = (both.max(axis=0) + both.min(axis=0)) / 2, (0.5 + room) * np.ptp(both, axis=0).max()
    x, y = (np.linspace(centre - half, centre + half, count) for centre in middle)
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scores, velocities = _over(game, players, jnp.asarray(places, fake.dtype))
    shape = (count, count)
    return Landscape(x, y, np.asarray(scores).reshape(shape), np.asarray(velocities).reshape(*shape, 2))


@eqx.filter_jit
def _over(game: RetrainedKernelGAN, players: Players, places: Array) -> tuple[Array, Array]:
    critic = game.discriminator(players)
    real = Sample(critic.at(game.data.astype(places.dtype)))

    def paid(points: Array) -> tuple[Array, Array]:
        scores = critic.at(points)
        each = jax.vmap(lambda score: game.objective.generator(real, Sample(score[None])))(scores)
        return jnp.sum(each), scores

    slopes, scores = jax.grad(paid, has_aux=True)(places)
    return scores, -slopes
