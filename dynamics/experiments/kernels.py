"""How close particles come to the data against discriminators of infinite width: kernels x objectives."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import dynamics.distributions as distributions
import dynamics.function_space as function_space
import dynamics.metrics as metrics
import dynamics.objectives as objectives
from dynamics._checks import as_whole
from dynamics.experiments.comparison import VARIANT, Comparison, mean_and_error
from dynamics.function_space.kernels import Erf, Gaussian, Kernel, NeuralTangent, ReLU, Sine
from dynamics.game import Game, Players
from dynamics.optimisers import sgd
from dynamics.updates import Simultaneous

if TYPE_CHECKING:
    import xarray as xr

MODES, RADIUS, SPREAD = 8, 2.0, 0.2
# Franceschi et al., 2022, with the authors' code.
SOURCE = 1.5 * np.array([-1.2, -1.34, -0.8, -0.7, -0.3])
TARGET = 1.5 * np.array([0.6, 1.0, 1.23, 1.32, 0.2])
JITTER = 0.05  # of the line's source, so that seeds differ


def kernels(
    *,
    seeds: int = 10,
    steps: int = 200,
    points: int = 40,
    speed: float = 1.0,
    time: float = 1.0,
    line: bool = False,
) -> Comparison:
    """Particles against discriminators of infinite width, five kernels by four objectives, in minutes.

    At every step a discriminator is trained anew for some time, in the space of its kernel (in closed form, or as an
    ODE), and the particles move along what it says: `RetrainedKernelGAN`. Kernels: of three hidden layers with ReLU,
    the same without bias, erf, sine, and the Gaussian one of bandwidth sqrt(2) (gamma = 1/2). Objectives: Wasserstein
    (the kernel's maximum mean discrepancy), least squares (targets -1 and 1; the generator's 0), minimax, hinge. Of
    every training the exact Wasserstein distance W2 to the data, that in units of the distance at the start, and the
    energy distance. With five seeds it took nine minutes of CPU time.

    From a Gaussian to eight Gaussians on a circle, drawn anew for every seed; with `line`, from five numbers to five
    others. The authors have 500 points on each side, a circle of radius 5 and 50,000 steps, and report Sinkhorn
    divergences that are not repeated here; points, circle and time are smaller.
    Source: Franceschi, de Bezenac, Ayed, Chen, Lamprier, Gallinari, A Neural Tangent Kernel Perspective of GANs, 2022,
    section 6, with the authors' code.

    Args:
        seeds: trainings of each kind.
        steps: of the particles.
        points: particles, and as many data; a multiple of 8. The line has 5.
        speed: of a particle: by how much it moves per step, over the slope of what it pays.
        time: how long a discriminator is trained.
        line: the numbers in place of the circle.

    Raises:
        ValueError: a number is out of bounds.

    >>> len(kernels().variants)
    20
    """
    settings = dict(locals())
    for name in ("speed", "time"):
        if not 0 < settings[name] < np.inf:
            raise ValueError(f"{name} is {settings[name]}; expected a finite number > 0")
    if as_whole("points", points) % MODES:
        raise ValueError(f"points is {points}; expected a multiple of {MODES}, e.g. {MODES * (1 + points // MODES)}")
    count = len(SOURCE) if line else points

    def trained(
        time: Any, seed: Any, kernel: Kernel, objective: objectives.Objective
    ) -> tuple[Game, Simultaneous, Players]:
        data, start = _on_the_line(seed) if line else _on_the_circle(seed, points)
        closed = not isinstance(objective, objectives.LeastSquares)  # eigenvalues at every step would take longer
        game = function_space.RetrainedKernelGAN(kernel, data, objective, time, closed_form=closed)
        return game, Simultaneous(sgd(speed * count)), (start,)

    variants = {
        f"{one}, {other}": partial(trained, kernel=kernel, objective=objective)
        for other, objective in _objectives().items()
        for one, kernel in _kernels().items()
    }
    return Comparison(
        name="kernels",
        title="Particles on a line" if line else "Particles on their way to eight Gaussians",
        variants=variants,
        axes={"time": np.array([time])},
        seeds=seeds,
        steps=steps,
        key=None,
        measures=_measures,
        shares=(),
        findings=findings,
        settings=settings,
    )


def _kernels() -> dict[str, Kernel]:
    return {
        "ReLU": NeuralTangent(3, ReLU()),
        "ReLU without bias": NeuralTangent(3, ReLU(), bias_scale=0.0),
        "erf": NeuralTangent(3, Erf()),
        "sine": NeuralTangent(3, Sine()),
        "Gaussian": Gaussian(math.sqrt(2.0)),
    }


def _objectives() -> dict[str, objectives.Objective]:
    return {
        "Wasserstein": objectives.Wasserstein(),
        "least squares": objectives.LeastSquares(),
        "minimax": objectives.Minimax(),
        "hinge": objectives.Hinge(),
    }


def _on_the_circle(seed: Any, points: int) -> tuple[Array, Array]:
    """Equally many data around every centre, and particles from N(0, 1/4)."""
    first, second = jax.random.split(seed)
    centres = distributions.ring(MODES, RADIUS).means[jnp.arange(points) % MODES]
    return centres + SPREAD * jax.random.normal(first, (points, 2)), jax.random.normal(second, (points, 2)) / 2


def _on_the_line(seed: Any) -> tuple[Array, Array]:
    moved = jnp.asarray(SOURCE) + JITTER * jax.random.normal(seed, SOURCE.shape)
    return jnp.asarray(TARGET)[:, None] * 1.0, moved[:, None]


def _measures(game: Game, start: Players, players: Players) -> dict[str, float]:
    assert isinstance(game, function_space.RetrainedKernelGAN)
    data, before, after = (np.asarray(points, float) for points in (game.data, start[0], players[0]))
    if not np.isfinite(after).all():
        return {"wasserstein": np.nan, "share_left": np.nan, "energy": np.nan}
    distance = metrics.wasserstein_distance(data, after, 2)
    return {
        "wasserstein": distance,
        "share_left": distance / metrics.wasserstein_distance(data, before, 2),
        "energy": metrics.energy_distance(data, after),
    }


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say: the distances of every objective, nearest first, and differences that the bars allow."""
    lines, names = [], list(map(str, dataset[VARIANT].values))
    for objective in dict.fromkeys(name.split(", ")[1] for name in names):
        ends = {}
        for name in names:
            kernel, other = name.split(", ")
            if other == objective:
                left = dataset["share_left"].sel(variant=name).values.ravel()
                ends[kernel] = (*map(float, mean_and_error(left)), int(np.isnan(left).sum()))
        order = sorted(ends, key=lambda kernel: ends[kernel][0] if np.isfinite(ends[kernel][0]) else np.inf)
        said = [_said(kernel, *ends[kernel]) for kernel in order]
        lines.append(f"{objective}, share of W2 that is left: {'; '.join(said)}.")
        apart = [f"{more} from {less}" for more in order for less in order if ends[more][2] < ends[less][1]]
        text = "; ".join(apart) if apart else "none"
        lines.append(f"{objective}: closer, with intervals of 95 % that do not overlap: {text}.")
    return lines


def _said(kernel: str, mean: float, low: float, high: float, lost: int) -> str:
    text = f"{kernel} {mean:.1%} ({low:.1%} to {high:.1%})" if np.isfinite(mean) else f"{kernel} -"
    return text + (f", {lost} not finite" if lost else "")
