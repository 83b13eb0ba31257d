"""What a survey of objectives is: one trio of small GANs, played under every objective.

An objective alone changes from game to game, and a game's program depends on it. `Chosen` is an objective that holds
many and plays the one whose number it is given: so one compiled program per question serves all of them, and two
minutes are enough for fifty. All expectations are exact, all numbers in double precision.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

import dynamics.distributions as distributions
from dynamics._compiling import quick_jit
from dynamics._printing import Titled
from dynamics._progress import Shown
from dynamics.analysis.stability.eigenvalues import largest_euler_step
from dynamics.distributions import Sample, as_sample
from dynamics.games import HermiteGAN
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.objectives import Objective
from dynamics.penalties import R1
from dynamics.schedules import gap_aware
from dynamics.simulation import simulate
from dynamics.updates import Alternating

if TYPE_CHECKING:
    import xarray as xr

# Data N(0.5, 0.8^2) and a model that starts as N(0, 1), in units of the data: a pair that tells all divergences apart.
START = -0.5 / 0.8, 1 / 0.8
MEANS, SPREAD = (-1.0, 1.0), 0.2  # of the mixture
BLUR = 0.2  # standard deviation of what both distributions of the mixture are blurred with, to compare densities
NODES, LATENTS = 20, 32
FINE, POINTS = 449, (129, 81)  # of the grids on which densities are compared: once, and along Gaussian and mixture
SPANS = 14.0, 12.0  # half widths: so far for Neyman's divergence, which looks at tails
SAVES = 20
NEUTRAL = 1e-9  # of the largest eigenvalue: below it a real part is rounding
RATES = ("fixed", "gap-aware")
BOUNDS = np.array([[1.0, 1.0], [0.1, 2.0]])  # of the factor of the discriminator's rate, least and largest
GAMES = ("Dirac", "Gaussian")
PENALTIES = ("none", "R1")
STEPS = np.geomspace(1e-3, 1e2, 400)  # among which the longest stable one is sought


class Entry(NamedTuple):
    """An objective and the family that it is shown with."""

    objective: Objective
    family: str


class Chosen(Objective):
    """One objective of many, by its number, which no program depends on.

    Args:
        index: which one, from 0.
        objectives: all of them.
    """

    index: Array
    objectives: tuple[Objective, ...]

    def _of_all(self, member: Callable[[Objective], Callable], *arguments: Any) -> Array:
        dtype = jnp.result_type(float)

        def branch(call: Callable) -> Callable:
            return lambda *given: jnp.asarray(call(*given), dtype)

        return jax.lax.switch(self.index, [branch(member(each)) for each in self.objectives], *arguments)

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._of_all(lambda each: each.discriminator, as_sample(real), as_sample(fake))

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._of_all(lambda each: each.generator, as_sample(real), as_sample(fake))

    @property
    def ideal_discriminator_loss(self) -> Array:
        return self._of_all(lambda each: lambda: each.ideal_discriminator_loss)

    @property
    def ideal_score(self) -> Array:
        return self._of_all(lambda each: lambda: each.ideal_score)

    @property
    def divergence(self) -> str:
        return ""

    def divergence_value(self, p: Any, q: Any, weights: Any = None, points: Any = None) -> Array:
        return self._of_all(lambda each: each.divergence_value, p, q, weights, points)

    def descended_divergence(self, p: Any, q: Any, weights: Any = None) -> Array:
        return self._of_all(lambda each: each.descended_divergence, p, q, weights)

    def generator_weight(self, ratio: Any) -> Array:
        return self._of_all(lambda each: each.generator_weight, ratio)


@dataclasses.dataclass(frozen=True)
class Survey(Titled):
    """Objectives under the same three GANs: what is known of each, spectra at the equilibrium, and two trainings.

    Attributes:
        name, title: what to call it, short and as a sentence.
        entries: the objectives by name.
        left_out: objectives of the catalogue that are not among them, with the reason.
        gamma: weight of R1 on the Dirac-GAN and on the Gaussian GAN.
        step: of alternating gradient descent on the Gaussian GAN, for both players.
        steps: of it.
        mixture_rate, mixture_steps, mixture_gamma: of alternating Adam on the mixture, and the weight of R1 there.
        width: units of the hidden layer of both networks.
        seeds: starts of the networks.
        findings: from the dataset, what the numbers say, as sentences.
        settings: the arguments that made it, by name.
    """

    name: str
    title: str
    entries: Mapping[str, Entry]
    left_out: Mapping[str, str]
    gamma: float
    step: float
    steps: int
    mixture_rate: float
    mixture_steps: int
    mixture_gamma: float
    width: int
    seeds: int
    findings: Callable[["Survey", "xr.Dataset"], list[str]]
    settings: Mapping[str, Any]

    def run(self, store: str | os.PathLike | None = None, progress: Any = False) -> "xr.Dataset":
        """Compute all of it; in a minute or two, so that nothing is kept in a store.

        Args:
            store: nothing is kept there.
            progress: as for `dynamics.sweep`, an objective at a time.

        Returns:
            a dataset over `objective` of what is known (`ideal_loss`, `reference_divergence`, `reference_descended`,
            `weight` over `ratio`),
            of the Jacobians' `eigenvalues_*` and longest stable steps (`simultaneous`, `alternating`, over `game` and
            `penalty`; NaN where an eigenvalue is 0, 0 where no step is stable), and of the divergences along both
            trainings: the objective's (on the mixture of the first seed alone), and Jensen-Shannon for all.
        """
        import xarray as xr

        del store
        names, families = list(self.entries), [entry.family for entry in self.entries.values()]
        with jax.enable_x64(True):
            programs, rows = _Programs(self), []
            with Shown(progress, len(names), label=self.name, unit="objective") as show:
                for number, name in enumerate(names):
                    rows.append(programs.row(number))
                    show(number + 1, name)
        columns = {name: (("objective", *axes), np.stack([row[name] for row in rows])) for name, axes in AXES.items()}
        coordinates = {
            "objective": names,
            "family": ("objective", families),
            "ratio": RATIOS,
            "game": list(GAMES),
            "penalty": list(PENALTIES),
            "rate": list(RATES),
            "gaussian_step": programs.saves(self.steps),
            "mixture_step": programs.saves(self.mixture_steps),
        }
        return xr.Dataset(columns, coordinates)


RATIOS = np.geomspace(1e-4, 1e4, 161)
AXES = {
    "ideal_loss": (),
    "reference_divergence": (),
    "reference_descended": (),
    "weight": ("ratio",),
    "eigenvalues_dirac": ("penalty", "eigenvalue_dirac"),
    "eigenvalues_gaussian": ("penalty", "eigenvalue_gaussian"),
    "simultaneous": ("game", "penalty"),
    "alternating": ("game", "penalty"),
    "gaussian_radius": (),
    "gaussian_divergence": ("gaussian_step",),
    "gaussian_jensen_shannon": ("gaussian_step",),
    "mixture_divergence": ("rate", "mixture_step"),
    "mixture_jensen_shannon": ("rate", "seed", "mixture_step"),
}


class _Programs:
    """The compiled programs of a survey, each of which takes an objective's number."""

    def __init__(self, survey: Survey):
        self.survey = survey
        self.objectives = tuple(entry.objective for entry in survey.entries.values())
        # Created within double precision: the caller's may be float32.
        self.objectives = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, float) if eqx.is_inexact_array(leaf) else leaf, self.objectives
        )
        self.known = quick_jit(self._known)
        self.jacobian = quick_jit(self._jacobian)
        self.train_gaussian = quick_jit(self._train_gaussian)
        self.train_mixture = jax.jit(jax.vmap(self._train_mixture, (None, None, 0, 0)))
        self.divergences = quick_jit(self._divergences)

    def saves(self, steps: int) -> np.ndarray:
        """The steps that are saved."""
        return np.arange(0, steps + 1, max(1, steps // SAVES))

    def row(self, number: int) -> dict[str, Any]:
        """Everything about one objective."""
        index = jnp.asarray(number)
        ratios = jnp.asarray(RATIOS)
        (ideal, weight, *values), (_, _, *narrower) = (self.known(index, ratios, jnp.asarray(span)) for span in SPANS)
        divergence, descended = map(_limit, values, narrower)
        row: dict[str, Any] = {"ideal_loss": np.asarray(ideal), "weight": np.asarray(weight)}
        row |= {"reference_divergence": divergence, "reference_descended": descended}
        row |= self._steps(index)
        row |= self._gaussian_training(index)
        return row | self._mixture_training(index, float(ideal))

    def _chosen(self, index: Array) -> Chosen:
        return Chosen(index, self.objectives)

    def _known(self, index: Array, ratios: Array, span: Array) -> tuple[Array, ...]:
        objective = self._chosen(index)
        points, weights, data = _gaussian_grid(FINE, span)
        model = _density(points, *START)
        reference = objective.divergence_value(data, model, weights, points)
        descended = objective.descended_divergence(data, model, weights)
        return objective.ideal_discriminator_loss, objective.generator_weight(ratios), reference, descended

    def _jacobian(self, index: Array, gamma: Array, std: Array) -> Array:
        """That of the field at the equilibrium; with data and latents without spread the Dirac-GAN is among it."""
        game = gaussian_gan(self._chosen(index), gamma, std)
        flat, unravel = ravel_pytree((jnp.zeros(2), jnp.zeros(2)))

        def column(direction: Array) -> Array:
            return jax.jvp(lambda vector: ravel_pytree(game.field(unravel(vector)))[0], (flat,), (direction,))[1]

        # A loop, not `jax.vmap`: fifty branches take long to be traced once more.
        return jax.lax.map(column, jnp.eye(len(flat))).T

    def _steps(self, index: Array) -> dict[str, Any]:
        eigenvalues: dict[str, list] = {game: [] for game in GAMES}
        longest = {"simultaneous": np.zeros((2, 2)), "alternating": np.zeros((2, 2))}
        radius = np.nan
        for column, gamma in enumerate((0.0, self.survey.gamma)):
            for line, std in enumerate((0.0, 1.0)):
                matrix = np.asarray(self.jacobian(index, jnp.asarray(gamma), jnp.asarray(std)))
                matrix = matrix[::2, ::2] if std == 0 else matrix  # shift, and slope of the score
                eigenvalues[GAMES[line]].append(spectrum(matrix))
                longest["simultaneous"][line, column] = longest_simultaneous(matrix)
                longest["alternating"][line, column] = longest_alternating(matrix)
                radius = alternating_radius(matrix, self.survey.step)
        named = {f"eigenvalues_{game.lower()}": np.stack(values) for game, values in eigenvalues.items()}
        return {**longest, **named, "gaussian_radius": radius}  # of the last one: Gaussian, with R1

    def _train_gaussian(self, index: Array) -> Array:
        survey = self.survey
        game = gaussian_gan(self._chosen(index), survey.gamma)
        sgd = optax.sgd(survey.step)
        start = jnp.stack([jnp.asarray(START[0]), jnp.asarray(START[1] - 1)]), jnp.zeros(2)
        every = max(1, survey.steps // SAVES)
        run = simulate(game, Alternating(sgd, sgd), start, steps=survey.steps, save_every=every, classify=False)
        return run.players[0]

    def _gaussian_training(self, index: Array) -> dict[str, Any]:
        thetas = self.train_gaussian(index)
        points, weights, data = _gaussian_grid()
        models = _density(points, thetas[:, :1], 1 + thetas[:, 1:])
        divergences = self.divergences(index, data, models, weights, points)
        common = jensen_shannon(data, models, weights)
        return {"gaussian_divergence": np.asarray(divergences), "gaussian_jensen_shannon": np.asarray(common)}

    def _train_mixture(self, index: Array, ideal: Array, bounds: Array, seed: Array) -> Array:
        survey = self.survey
        first, second = jax.random.split(jax.random.key(seed))
        options: dict[str, Any] = {"width": survey.width, "depth": 1, "activation": jax.nn.tanh}
        generator, theta = fully_connected(1, 1, key=first, **options)
        score, psi = fully_connected(1, None, key=second, **options)
        data = distributions.GaussianMixture(np.array(MEANS)[:, None], SPREAD, 8)
        latents = distributions.Points(_latents())
        objective = self._chosen(index)
        game = GAN(
            generator, _Shifted(score, objective.ideal_score), data, latents, objective, R1(survey.mixture_gamma)
        )
        adam = optax.adam(survey.mixture_rate, b1=0.5, b2=0.99)
        # A tenth of the ideal loss, as in the paper, and 0.1 where it is 0.
        width = jnp.where(ideal == 0, 0.1, 0.1 * jnp.abs(ideal))
        scheduled = optax.chain(adam, gap_aware(ideal, bounds[0], bounds[1], width, width))
        every = max(1, survey.mixture_steps // SAVES)
        update, options = Alternating(adam, scheduled), {"save_every": every, "classify": False}
        run = simulate(game, update, (theta, psi), steps=survey.mixture_steps, **options)
        return jax.vmap(lambda player: jax.vmap(lambda z: generator(player, z))(_latents()))(run.players[0])[..., 0]

    def _mixture_training(self, index: Array, ideal: float) -> dict[str, Any]:
        survey = self.survey
        bounds, seeds = np.repeat(BOUNDS, survey.seeds, axis=0), np.tile(np.arange(survey.seeds), len(RATES))
        samples = self.train_mixture(index, jnp.asarray(ideal), jnp.asarray(bounds), jnp.asarray(seeds))
        points, weights, data = _mixture_grid()
        models = blurred(points, samples).reshape(len(RATES), survey.seeds, samples.shape[1], -1)
        first = models[:, 0]  # of one seed alone: some divergences are the ends of long iterations
        divergences = self.divergences(index, data, first.reshape(-1, len(points)), weights, points)
        return {
            "mixture_divergence": np.asarray(divergences).reshape(first.shape[:2]),
            "mixture_jensen_shannon": np.asarray(jensen_shannon(data, models, weights)),
        }

    def _divergences(self, index: Array, data: Array, models: Array, weights: Array, points: Array) -> Array:
        objective = self._chosen(index)
        return jax.lax.map(lambda model: objective.divergence_value(data, model, weights, points), models)


class _Shifted(eqx.Module):
    """A discriminator whose score starts near the ideal one, which no objective has at the same place."""

    score: Callable[[PyTree, Array], Array]
    constant: Array

    def __call__(self, parameters: PyTree, point: Array) -> Array:
        return self.constant + self.score(parameters, point)


def gaussian_gan(objective: Objective, gamma: Any, std: Any = 1.0) -> HermiteGAN:
    """Data and latents N(0, std^2), a generator of a shift and a scale, a critic of degree 2, R1."""
    return HermiteGAN(2, objective, R1(gamma), std, NODES)


def _latents() -> Array:
    """Points of equal probability under N(0, 1), shape (n, 1)."""
    return jnp.asarray(scipy.special.ndtri((np.arange(LATENTS) + 0.5) / LATENTS))[:, None]


def _limit(wide: Any, narrow: Any) -> np.ndarray:
    """An integral over all numbers, from those over two intervals: infinite where it goes on growing."""
    return np.where(np.abs(wide - narrow) > 1e-3 * np.abs(wide), np.inf, wide)


def _density(points: Array, mean: Any, std: Any) -> Array:
    return jnp.exp(-(((points - mean) / std) ** 2) / 2) / (jnp.abs(std) * jnp.sqrt(2 * jnp.pi))


def _gaussian_grid(count: int = POINTS[0], span: Any = SPANS[0]) -> tuple[Array, Array, Array]:
    """Points, weights of the trapezoidal rule on them, and the data's density there."""
    points = span * jnp.linspace(-1.0, 1.0, count)
    return points, jnp.full(count, points[1] - points[0]), _density(points, 0.0, 1.0)


def _mixture_grid() -> tuple[Array, Array, Array]:
    points = jnp.linspace(-4.0, 4.0, POINTS[1])
    spread = jnp.hypot(SPREAD, BLUR)
    density = sum(_density(points, mean, spread) for mean in MEANS) / len(MEANS)
    return points, jnp.full(POINTS[1], points[1] - points[0]), jnp.asarray(density)


@jax.jit
def blurred(points: Array, samples: Array) -> Array:
    """Densities of samples along the last axis, with Gaussian noise added."""
    return jnp.mean(_density(points[:, None], samples[..., None, :], BLUR), axis=-1)


@jax.jit
def jensen_shannon(p: Array, q: Array, weights: Array) -> Array:
    """Jensen-Shannon divergences of densities along the last axis, in nats; never negative by rounding."""
    middle = (p + q) / 2

    def relative(density: Array) -> Array:
        here = density > 0
        terms = jnp.where(here, density, 0) * jnp.log(jnp.where(here, density / jnp.where(here, middle, 1), 1))
        return jnp.sum(weights * terms, axis=-1)

    return jnp.maximum((relative(p) + relative(q)) / 2, 0)


def spectrum(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues, with what is rounding set to 0, by descending real and then imaginary part."""
    values = np.linalg.eigvals(matrix)
    small = NEUTRAL * max(np.abs(values).max(), NEUTRAL)
    real, imaginary = (np.where(np.abs(part) < small, 0, part) for part in (np.real(values), np.imag(values)))
    return (real + 1j * imaginary)[np.lexsort((-imaginary, -real))]


def longest_simultaneous(matrix: np.ndarray) -> float:
    """The longest stable step of simultaneous gradient descent; 0: none is, NaN: an eigenvalue is 0.

    >>> round(longest_simultaneous(np.array([[0.0, -0.5], [0.5, -0.3]])), 6)  # Dirac-GAN with R1: 4 gamma
    1.2
    """
    values = spectrum(matrix)
    return float("nan") if np.any(values == 0) else largest_euler_step(values)


def alternating_radius(matrix: np.ndarray, step: float) -> float:
    """The spectral radius of alternating gradient descent, the first half of the players' numbers first.

    Args:
        matrix: the field's Jacobian.
        step: of both players.
    """
    half = len(matrix) // 2
    first, second = (np.eye(len(matrix)) for _ in range(2))
    first[:half] += step * matrix[:half]
    second[half:] += step * matrix[half:]
    return float(np.abs(np.linalg.eigvals(second @ first)).max())


def longest_alternating(matrix: np.ndarray) -> float:
    """Up to which step alternating gradient descent is stable; 0: not even for short ones, NaN: an eigenvalue is 0.

    >>> round(longest_alternating(np.array([[0.0, -0.5], [0.5, -0.3]])), 6)  # Dirac-GAN: 4 (sqrt(gamma^2 + 1) - gamma)
    2.976123
    """
    if np.any(spectrum(matrix) == 0):
        return float("nan")

    def stable(step: float) -> bool:
        return alternating_radius(matrix, step) < 1 - 1e-10

    unstable = [number for number, step in enumerate(STEPS) if not stable(step)]
    if not unstable:
        return float("inf")
    if unstable[0] == 0:
        return 0.0
    low, high = STEPS[unstable[0] - 1], STEPS[unstable[0]]
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return float(low)


def names_of(entries: Mapping[str, Entry], family: str) -> Sequence[str]:
    """Those of a family."""
    return [name for name, entry in entries.items() if entry.family == family]
