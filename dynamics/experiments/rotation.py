"""Spectra and path angles of a small GAN, for several objectives and updates."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import dynamics.distributions as distributions
import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics._compiling import cheap_jit
from dynamics.analysis.asymptotics.path_angle import path_angle
from dynamics.checks.measures import field_jacobian
from dynamics.experiments.comparison import SEED, VARIANT, Comparison, mean_and_error
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.updates import Alternating, Extragradient, Simultaneous
from dynamics.updates.base import Update

if TYPE_CHECKING:
    import xarray as xr

MEANS, SPREAD = (-1.0, 1.0), 0.2
NODES = 8  # of each Gaussian, in the expectations
ROTATING = 0.01  # of an eigenvalue's modulus: an imaginary part beyond it
SMALL = 1e-4  # of the largest modulus: below it an eigenvalue is rounding, of float32 networks


def rotation(*, seeds: int = 10, steps: int = 4000, width: int = 8, rate: float = 0.05) -> Comparison:
    """Rotation around where a GAN of a one-dimensional mixture is trained to, in a few minutes on two cores.

    Three losses (minimax, non-saturating, Wasserstein with gradient penalty) under three updates (simultaneous,
    alternating, extragradient) of plain gradient steps on exact expectations. At the end: the share of eigenvalues of
    the field's Jacobian that are not real, the largest imaginary part beside the real part of the same eigenvalue,
    whether the generator's own Hessian has a negative eigenvalue (then the point is no local minimum of its loss, and
    no Nash equilibrium), and the bump and the attraction of the path angle from the start to the end.
    Source: Berard, Gidel, Almahairi, Vincent, Lacoste-Julien, A Closer Look at the Optimization Landscapes of
    Generative Adversarial Networks, ICLR 2020, sections 4 and 5.

    Args:
        seeds: trainings of each kind.
        steps: of every training.
        width: units in the hidden layer of both networks.
        rate: of both players.

    Raises:
        ValueError: a number is out of bounds.

    >>> len(rotation().variants)
    9
    """
    settings = dict(locals())
    data = distributions.GaussianMixture(np.array(MEANS)[:, None], SPREAD, NODES)
    latent = distributions.normal(np.zeros(1), 1.0, nodes=NODES)
    losses = {
        "minimax": (objectives.Minimax(), None),
        "non-saturating": (objectives.NonSaturating(), None),
        "Wasserstein": (objectives.Wasserstein(), penalties.WGANGP(1.0)),
    }
    updates: dict[str, Callable[[Any], Update]] = {
        "simultaneous": lambda rate: Simultaneous(optax.sgd(rate), optax.sgd(rate)),
        "alternating": lambda rate: Alternating(optax.sgd(rate), optax.sgd(rate)),
        "extragradient": lambda rate: Extragradient(optax.sgd(rate), optax.sgd(rate), extrapolation=rate),
    }

    def trained(rate: Any, seed: Any, loss: str, update: str) -> tuple[Game, Update, Players]:
        first, second = jax.random.split(seed)
        generator, theta = fully_connected(1, 1, width=width, depth=1, activation=jax.nn.tanh, key=first)
        discriminator, psi = fully_connected(1, None, width=width, depth=1, activation=jax.nn.tanh, key=second)
        game = GAN(generator, discriminator, data, latent, *losses[loss])
        return game, updates[update](rate), (theta, psi)

    return Comparison(
        name="rotation",
        title="Rotation in a GAN of a one-dimensional mixture",
        variants={
            f"{loss}, {update}": partial(trained, loss=loss, update=update) for loss in losses for update in updates
        },
        axes={"rate": np.array([rate])},
        seeds=seeds,
        steps=steps,
        key=None,
        measures=measures,
        shares=("no_minimum",),
        findings=findings,
        settings=settings,
    )


def measures(game: Game, start: Players, players: Players) -> dict[str, float]:
    """Eigenvalues of the field's Jacobian at the end, the generator's Hessian, and the path angle."""
    jacobian = np.asarray(_jacobian(game, players), np.float64)
    if not np.isfinite(jacobian).all():
        names = ("imaginary_share", "rotation", "no_minimum", "bump", "attraction")
        return dict.fromkeys(names, float("nan"))
    eigenvalues = np.linalg.eigvals(jacobian)
    large = np.abs(eigenvalues) > SMALL * np.abs(eigenvalues).max()
    turning = large & (np.abs(eigenvalues.imag) > ROTATING * np.abs(eigenvalues))
    foremost = eigenvalues[np.argmax(np.abs(eigenvalues.imag))]
    count = ravel_pytree(players[0])[0].size
    block = jacobian[:count, :count]
    curvatures = np.linalg.eigvalsh((block + block.T) / 2)
    angle = path_angle(game, start, players)
    return {
        "imaginary_share": float(turning.sum() / large.sum()),
        "rotation": float(np.abs(foremost.imag) / np.abs(foremost)),
        "no_minimum": float(curvatures[0] < -SMALL * np.abs(curvatures).max()),
        "bump": angle.bump,
        "attraction": angle.attraction,
    }


@cheap_jit
def _jacobian(game: Game, players: Players) -> Array:
    return field_jacobian(game, players)


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say of every loss: rotation, and whether the generator is at a minimum of its loss."""
    lines = []
    for name in dataset[VARIANT].values:
        chosen = dataset.sel(variant=name)
        share, low, high = mean_and_error(chosen["no_minimum"].transpose("rate", SEED).values.ravel(), share=True)
        turning, least, most = mean_and_error(chosen["rotation"].transpose("rate", SEED).values.ravel())
        lines.append(
            f"{name}: |Im| / |eigenvalue| of the one with the largest imaginary part is {turning:.2f} ({least:.2f} to "
            f"{most:.2f}); the generator is at no minimum of its loss in {share:.0%} ({low:.0%} to {high:.0%})."
        )
    return lines
