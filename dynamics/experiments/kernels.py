"""How close particles come to the data against discriminators of infinite width: kernels x objectives."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import dynamics.data as datasets
import dynamics.distributions as distributions
import dynamics.function_space as function_space
import dynamics.metrics as metrics
import dynamics.objectives as objectives
from dynamics._checks import as_whole
from dynamics._names import nearest
from dynamics.data.shapes import OUTLINES
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
JITTER = 0.05  # of the line's source, so that seeds differ, and around shapes
TITLES = {"gaussians": "eight Gaussians", "line": "five numbers", "digits": "digits", "moons": "two moons"}


def kernels(
    *,
    seeds: int = 10,
    steps: int = 200,
    points: int = 40,
    speed: float = 1.0,
    time: float = 1.0,
    data: str = "gaussians",
    start: str = "gaussian",
) -> Comparison:
    """Particles against discriminators of infinite width, five kernels by four objectives, in minutes.

    At every step a discriminator is trained anew for some time, in the space of its kernel (in closed form, or as an
    ODE), and the particles move along what it says: `RetrainedKernelGAN`. Kernels: of three hidden layers with ReLU,
    the same without bias, erf, sine, and the Gaussian one of bandwidth sqrt(2) (gamma = 1/2). Objectives: Wasserstein
    (the kernel's maximum mean discrepancy), least squares (targets -1 and 1; the generator's 0), minimax, hinge. Of
    every training the exact Wasserstein distance W2 to the data, that in units of the distance at the start, and the
    energy distance.

    From one density to another, drawn anew for every seed: by default from a Gaussian to eight Gaussians on a circle.
    The authors have 500 points on each side, a circle of radius 5 and 50,000 steps, and report Sinkhorn divergences
    that are not repeated here; points, circle and time are smaller.
    Source: Franceschi, de Bezenac, Ayed, Chen, Lamprier, Gallinari, A Neural Tangent Kernel Perspective of GANs, 2022,
    section 6, with the authors' code.

    Args:
        seeds: trainings of each kind.
        steps: of the particles.
        points: particles, and as many data; a multiple of 8 for eight Gaussians. The line has 5.
        speed: of a particle: by how much it moves per step, over the slope of what it pays.
        time: how long a discriminator is trained.
        data: "gaussians"; a shape of `dynamics.data.shape` ("circle", "cross", "heart", "moons", "spiral", "square",
            "star"); "digits", images of 64 pixels (needs the extra `data`); "line", five numbers.
        start: of the particles: "gaussian", or a shape; on the line, five other numbers.

    Raises:
        ValueError: a number is out of bounds, or there are no such data.
        ImportError: digits without scikit-learn.

    >>> len(kernels().variants)
    20
    """
    settings = dict(locals())
    for name in ("speed", "time"):
        if not 0 < settings[name] < np.inf:
            raise ValueError(f"{name} is {settings[name]}; expected a finite number > 0")
    points = as_whole("points", points)
    if data == "gaussians" and points % MODES:
        raise ValueError(f"points is {points}; expected a multiple of {MODES}, e.g. {MODES * (1 + points // MODES)}")
    draw = _drawing(data, start, points)
    count = len(SOURCE) if data == "line" else points

    def made(
        time: Any, seed: Any, kernel: Kernel, objective: objectives.Objective
    ) -> tuple[Game, Simultaneous, Players]:
        real, fake = draw(seed)
        game = function_space.RetrainedKernelGAN(kernel, real, objective, time)
        return game, Simultaneous(sgd(speed * count)), (fake,)

    variants = {
        f"{one}, {other}": partial(made, kernel=kernel, objective=objective)
        for other, objective in _objectives().items()
        for one, kernel in _kernels().items()
    }
    return Comparison(
        name="kernels",
        title=f"Particles on their way to {TITLES.get(data, f'a {data}')}",
        variants=variants,
        axes={"time": np.array([time])},
        seeds=seeds,
        steps=steps,
        key=None,
        measures=_measures,
        shares=(),
        findings=findings,
        settings=settings,
        illustrated=None if data in ("digits", "line") else next(iter(variants)),
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


def _drawing(data: str, start: str, points: int) -> Callable[[Any], tuple[Array, Array]]:
    """Given a random key, draws the data and where the particles start.

    Raises:
        ValueError: there is no such density.
    """
    for name, value, others in (("data", data, ("gaussians", "digits", "line")), ("start", start, ("gaussian",))):
        if value not in (*others, *OUTLINES):
            raise ValueError(f"{name} is {value!r}{nearest(str(value), (*others, *OUTLINES))}")
    if data == "line":
        return _on_the_line
    images = jnp.reshape(datasets.digits().values, (-1, 64)) if data == "digits" else None
    if images is not None and start != "gaussian":
        raise ValueError(f"start is {start!r}, a shape of the plane; expected 'gaussian' for digits")

    def draw(seed: Any) -> tuple[Array, Array]:
        first, second = jax.random.split(seed)
        if images is not None:
            real = images[jax.random.choice(first, len(images), (points,), replace=False)]
            return real, jnp.mean(images, axis=0) + jax.random.normal(second, real.shape) / 2
        real = _ring(first, points) if data == "gaussians" else _along(data, first, points)
        if start == "gaussian":
            return real, jax.random.normal(second, (points, 2)) / 2
        return real, _along(start, second, points)

    return draw


def _ring(key: Any, points: int) -> Array:
    """Equally many points around every centre."""
    centres = distributions.ring(MODES, RADIUS).means[jnp.arange(points) % MODES]
    return centres + SPREAD * jax.random.normal(key, (points, 2))


def _along(name: str, key: Any, points: int) -> Array:
    return datasets.shape(key, points, name=name, scale=RADIUS, std=JITTER).values


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
