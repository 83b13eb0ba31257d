"""The ladder from densities down to networks in half precision: one data set, one objective, a floor at a time."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import dynamics.distributions as distributions
from dynamics._checks import as_whole
from dynamics._printing import Titled
from dynamics._progress import Shown
from dynamics.compiler.derivatives import released
from dynamics.directions import Natural
from dynamics.experiments.survey import blurred, jensen_shannon
from dynamics.function_space import DensityGAN, Graph, NestedDensityGAN, Transport, Weighted
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.objectives import NonSaturating
from dynamics.penalties import R1
from dynamics.simulation import simulate
from dynamics.updates import Alternating, Rounded, Simultaneous, Update

if TYPE_CHECKING:
    import xarray as xr

MEANS, SPREAD, START = (
    (-1.0, 1.0),
    0.5,
    (1.0, 0.6),
)  # of the data's two Gaussians, and mean and spread of the first model
EDGE, POINTS, KNOTS = 3.0, 49, 33  # of the grid of densities and functions, one less than that of splines
REAL = 480  # points of the data that particles meet
FINE = 241  # points at which blurred densities are compared
BLUR = 0.2  # of both distributions, to compare samples with densities
UNIFORM = 0.1  # mass of it in the geometry of the functions that particles meet
SAVES = 40
FLOORS = (
    "densities, best discriminator",
    "densities and functions",
    "particles and functions",
    "networks",
    "networks, minibatches",
    "networks, bfloat16",
    "networks, bfloat16, stochastic",
)
IN_TIME = 3  # so many of them are flows, followed in small steps of time
ROUNDING = 1e-9  # of the largest eigenvalue: below it a real part is 0


@dataclasses.dataclass(frozen=True)
class Ladder(Titled):
    """One data set and one objective on every floor between function space and finite precision.

    Attributes:
        name, title: what to call it, short and as a sentence.
        gamma: weight of R1, on all floors where there is a discriminator to be penalised.
        step, time: of the floors without parameters, integrated by Euler's method.
        particles: number of particles, and of latents of the generator network.
        width: units of the hidden layer of both networks.
        rate, steps: of alternating Adam on the networks, whose rate falls to 0 along a cosine.
        batch: points of a minibatch.
        seeds: starts of the networks.
        settings: the arguments that made it, by name.
    """

    name: str
    title: str
    gamma: float
    step: float
    time: float
    particles: int
    width: int
    rate: float
    steps: int
    batch: int
    seeds: int
    settings: Mapping[str, Any]

    def run(self, store: str | os.PathLike | None = None, progress: Any = False) -> "xr.Dataset":
        """Compute all floors, in double precision; in about two minutes, so that nothing is kept in a store.

        Args:
            store: nothing is kept there.
            progress: as for `dynamics.sweep`, a floor at a time.

        Returns:
            a dataset over `floor`: `divergence` (Jensen-Shannon, both sides blurred; over `seed` and `save`, with the
            `time` or the number of steps of every save in `position`), `eigenvalues` of the field's Jacobian (padded
            with NaN; at the equilibrium where it is known, else at the end of the first seed's run), `abscissa` of
            those that are not 0, `rate` (the slope of the logarithm of the divergence over the last third of what is
            above the floor), and the blurred `density` at the end over `point`.
        """
        import xarray as xr

        del store
        rows = []
        with jax.enable_x64(True), Shown(progress, len(FLOORS), label=self.name, unit="floor") as show:
            floors = _Floors(self)
            for number, name in enumerate(FLOORS):
                rows.append(floors.row(number))
                show(number + 1, name)
            points, data = np.asarray(floors.points), np.asarray(floors.data)
        largest = max(len(row["eigenvalues"]) for row in rows)
        for row in rows:
            row["eigenvalues"] = np.pad(
                row["eigenvalues"], (0, largest - len(row["eigenvalues"])), constant_values=np.nan
            )
        axes = {
            "divergence": ("seed", "save"),
            "position": ("save",),
            "eigenvalues": ("eigenvalue",),
            "abscissa": (),
            "rate": (),
            "density": ("point",),
            "variables": (),
        }
        columns = {name: (("floor", *of), np.stack([row[name] for row in rows])) for name, of in axes.items()}
        columns["data"] = (("point",), data)
        return xr.Dataset(columns, {"floor": list(FLOORS), "point": points})


def ladder(
    *,
    gamma: float = 1.0,
    step: float = 0.004,
    time: float = 40.0,
    particles: int = 64,
    width: int = 16,
    rate: float = 0.004,
    steps: int = 6000,
    batch: int = 64,
    seeds: int = 4,
) -> Ladder:
    """From densities to networks in bfloat16 with one objective on one data set, in two minutes on two cores.

    Data are two Gaussians of equal weight on the line, the first model is a Gaussian around one of them, and the
    objective is the non-saturating one, with R1. Floors: densities against the best discriminator of all; densities
    and any function, both moving; particles and any function; two small networks; with minibatches; in bfloat16 to the
    nearest; with stochastic rounding. Down to the particles both players move as flows in the geometries of transport
    and of L2 of the data, where the spectrum is that of an operator; networks are trained by alternating Adam.
    Source of the idea of floors: Goodfellow, NIPS 2016 Tutorial, 2017, section 5 (theory in function space, practice
    in parameters).

    Args:
        gamma: weight of R1.
        step, time: of the flows, by Euler's method.
        particles: of the third floor, and latents of the networks.
        width: units of the hidden layers.
        rate, steps: of Adam; the rate falls to 0 along a cosine.
        batch: points of a minibatch.
        seeds: starts of the networks.

    Raises:
        ValueError: a number is out of bounds.

    >>> ladder(seeds=2).seeds
    2
    """
    settings = dict(locals())
    for name in ("gamma", "step", "time", "rate"):
        if not 0 < settings[name] < np.inf:
            raise ValueError(f"{name} is {settings[name]!r}; expected a finite number > 0")
    for name in ("particles", "width", "steps", "batch", "seeds"):
        settings[name] = as_whole(name, settings[name])
    if step > time:
        raise ValueError(f"step is {step:g} and time is {time:g}; expected a step that is no longer than the time")
    title = "The ladder: one GAN from densities to networks in half precision"
    return Ladder(name="ladder", title=title, settings=settings, **settings)


class _Floors:
    """The games of the ladder, and what comes out of each."""

    def __init__(self, ladder: Ladder):
        self.ladder = ladder
        self.grid = jnp.linspace(-EDGE, EDGE, POINTS)
        self.points = jnp.linspace(-EDGE - 1, EDGE + 1, FINE)
        self.objective = NonSaturating()
        masses = sum(_normal(self.grid, mean, SPREAD) for mean in MEANS)
        self.density_game = DensityGAN.on_line(masses, self.grid, self.objective, r1=ladder.gamma)
        self.transport = Transport(Graph.line(np.asarray(self.grid)), self.density_game.data)
        self.data = sum(_normal(self.points, mean, np.hypot(SPREAD, BLUR)) for mean in MEANS) / len(MEANS)
        self.source = distributions.GaussianMixture(np.array(MEANS)[:, None], SPREAD, 12, ladder.batch)
        self.first = jnp.asarray(_quantiles(ladder.particles, *START))
        self.latents = jnp.asarray(_quantiles(ladder.particles, 0.0, 1.0))[:, None]

    def row(self, number: int) -> dict[str, Any]:
        """Everything about one floor."""
        if number < IN_TIME:
            row = (self.nested, self.functions, self.particles)[number]()
            count = max(1, round(self.ladder.time / self.ladder.step))
            row["position"] = self.ladder.step * _saved(count)
        else:
            row = self.networks(number)
            row["position"] = _saved(self.ladder.steps).astype(float)
        models, data = row.pop("models"), row.pop("data", self.data)  # over seeds, saves and points
        # As many on all floors, however many steps there are.
        chosen = np.round(np.linspace(0, models.shape[1] - 1, SAVES + 1)).astype(int)
        models, row["position"] = models[:, chosen], row["position"][chosen]
        row["divergence"] = np.asarray(jensen_shannon(data, models, self.points[1] - self.points[0]))
        row["density"] = np.asarray(models[0, -1])
        row["variables"] = len(row["eigenvalues"])
        size = np.max(np.abs(row["eigenvalues"]))
        real = row["eigenvalues"].real
        row["abscissa"] = np.max(real[np.abs(row["eigenvalues"]) > ROUNDING * size])
        row["rate"] = _slope(row["position"], row["divergence"].mean(axis=0))
        if len(row["divergence"]) == 1:
            row["divergence"] = np.repeat(row["divergence"], self.ladder.seeds, axis=0)
        return row

    def nested(self) -> dict[str, Any]:
        game = NestedDensityGAN(self.density_game)
        return self._density_floor(game, Natural(self.transport), (self._logits(),))

    def functions(self) -> dict[str, Any]:
        game = self.density_game
        direction = Natural(self.transport, Weighted(game.data))
        return self._density_floor(game, direction, (self._logits(), jnp.zeros(POINTS)))

    def _logits(self) -> Array:
        logits = -jnp.square((self.grid - START[0]) / START[1]) / 2
        return logits - jnp.mean(logits)

    def _density_floor(self, game: Game, direction: Natural, start: Players) -> dict[str, Any]:
        run = self._follow(game, direction, start)
        (point, *_) = game.equilibria()
        kernel = _normal(self.points[:, None], self.grid, BLUR)
        models = jax.nn.softmax(run[0], axis=-1) @ kernel.T
        data = kernel @ self.density_game.data
        return {"models": models[None], "data": data, "eigenvalues": _spectrum(game, direction, point)}

    def _follow(self, game: Game, direction: Natural, start: Players) -> Players:
        count = max(1, round(self.ladder.time / self.ladder.step))
        update = Simultaneous(*(optax.sgd(self.ladder.step) for _ in start), direction=direction)
        return simulate(game, update, start, steps=count, save_every=_every(count), classify=False).players

    def particles(self) -> dict[str, Any]:
        """Positions of particles, and a cubic spline."""
        knots, many = jnp.linspace(-EDGE - 1, EDGE + 1, KNOTS), len(self.first)
        spacing = knots[1] - knots[0]

        def score(coefficients: Array, point: Array) -> Array:
            return coefficients @ _spline((point - knots) / spacing)

        def place(positions: Array, latent: Array) -> Array:
            return positions @ latent

        data = jnp.asarray(np.concatenate([_quantiles(REAL // 2, mean, SPREAD) for mean in MEANS]))
        game = GAN(place, score, data, jnp.eye(many), self.objective, R1(self.ladder.gamma))
        basis = jax.vmap(lambda point: _spline((point - knots) / spacing))(data)
        # The geometry of L2 of the data on splines, and of a little uniform mass: there are particles without data.
        everywhere = jax.vmap(lambda point: _spline((point - knots) / spacing))(knots)
        gram = basis.T @ basis / REAL + UNIFORM / KNOTS * everywhere.T @ everywhere
        factor = jax.scipy.linalg.cho_factor(gram)
        direction = Natural(lambda x, v: many * v, lambda c, v: jax.scipy.linalg.cho_solve(factor, v))
        run = self._follow(game, direction, (self.first, jnp.zeros(KNOTS)))
        end = jax.tree.map(lambda leaf: leaf[-1], run)
        models = blurred(self.points, run[0])
        return {"models": models[None], "eigenvalues": _spectrum(game, direction, end)}

    def networks(self, number: int) -> dict[str, Any]:
        ladder = self.ladder
        adam = optax.adam(optax.cosine_decay_schedule(ladder.rate, ladder.steps), b1=0.5, b2=0.99)
        update: Update = Alternating(adam, adam)
        if number == 5:
            update = Rounded(update, "bfloat16", memory=None)
        if number == 6:
            update = Rounded(update, "bfloat16", memory=None, rounding="stochastic", exact=True)
        options: dict[str, Any] = {"width": ladder.width, "depth": 1, "activation": jax.nn.tanh}
        generator, _ = fully_connected(1, 1, key=jax.random.key(0), **options)
        discriminator, _ = fully_connected(1, None, key=jax.random.key(0), **options)
        exact = GAN(generator, discriminator, self.source, self.latents, self.objective, R1(ladder.gamma))
        drawn = distributions.normal(jnp.zeros(1), 1.0, 12, ladder.batch)
        sampled = GAN(generator, discriminator, self.source, drawn, self.objective, R1(ladder.gamma))

        def train(seed: Array) -> tuple[Array, Players]:
            first, second = jax.random.split(jax.random.key(seed))
            start = tuple(
                fully_connected(1, outputs, key=key, **options)[1] for outputs, key in ((1, first), (None, second))
            )
            key = jax.random.fold_in(jax.random.key(17), seed) if number in (4, 6) else None
            keeping: dict[str, Any] = {"save_every": _every(ladder.steps), "classify": False, "key": key}
            run = simulate(sampled if number == 4 else exact, update, start, steps=ladder.steps, **keeping)
            points = jax.vmap(lambda player: jax.vmap(lambda z: generator(player, z))(self.latents))(run.players[0])
            return points[..., 0], jax.tree.map(lambda leaf: leaf[-1], run.players)

        samples, ends = jax.jit(jax.vmap(train))(jnp.arange(ladder.seeds))
        # With exact expectations on all floors: what is left of the field at the end is noise and rounding.
        spectrum = _spectrum(exact, Natural(), jax.tree.map(lambda leaf: leaf[0], ends))
        return {"models": blurred(self.points, samples), "eigenvalues": spectrum}


def _spectrum(game: Game, direction: Natural, players: Players) -> np.ndarray:
    """Eigenvalues of the Jacobian of a direction, by descending real part."""
    flat, unravel = ravel_pytree(players)

    def field(vector: Array) -> Array:
        return ravel_pytree(direction(game, unravel(vector)))[0]

    values = np.linalg.eigvals(np.asarray(jax.jit(jax.jacfwd(released(field)))(flat)))
    return values[np.lexsort((-values.imag, -values.real))].astype(complex)


def _spline(x: Array) -> Array:
    """The cubic B-spline with knots at the whole numbers, around 0."""
    x = jnp.abs(x)
    near, far = 2 / 3 - x**2 + x**3 / 2, (2 - jnp.minimum(x, 2)) ** 3 / 6
    return jnp.where(x < 1, near, far)


def _normal(x: Array, mean: Any, std: Any) -> Array:
    return jnp.exp(-jnp.square((x - mean) / std) / 2) / (std * jnp.sqrt(2 * jnp.pi))


def _quantiles(count: int, mean: float, std: float) -> np.ndarray:
    """Points of equal probability under a Gaussian."""
    return mean + std * scipy.special.ndtri((np.arange(count) + 0.5) / count)


def _every(steps: int) -> int:
    return max(1, steps // SAVES)


def _saved(steps: int) -> np.ndarray:
    return np.arange(0, steps + 1, _every(steps))


def _slope(position: np.ndarray, divergence: np.ndarray) -> float:
    """The slope of the logarithm of what has fallen, over the later half of it; NaN where less than a tenth has."""
    values = np.asarray(divergence)
    last = values[-max(1, len(values) // 8) :].mean()
    above = np.flatnonzero(values > 2 * last)
    if values[0] < 10 * last or len(above) < 4:
        return float("nan")
    used = above[len(above) // 2 :]
    return float(np.polyfit(position[used], np.log(values[used] - last / 2), 1)[0])


def findings(ladder: Ladder, dataset: "xr.Dataset") -> list[str]:
    """What the numbers say, as sentences."""
    ends = dict(zip(FLOORS, reached(dataset), strict=True))
    abscissas, rates = (dict(zip(FLOORS, dataset[name].values, strict=True)) for name in ("abscissa", "rate"))
    sentences = []
    for name in FLOORS[:2]:
        sentences.append(
            f"{name}: the slowest mode decays at {abscissas[name]:.3g} per unit of time, so that the divergence should "
            f"fall at {2 * abscissas[name]:.3g}; it falls at {rates[name]:.3g}, to {ends[name]:.2g}"
        )
    densities, particles, networks = ends[FLOORS[1]], ends[FLOORS[2]], ends[FLOORS[3]]
    sentences.append(
        f"from densities to {ladder.particles} particles the floor rises from {densities:.2g} to {particles:.2g}: as "
        "many points are no density, and along their relative positions nothing pulls, eigenvalues near 0"
    )
    growing = int(np.sum(np.real(dataset["eigenvalues"].sel(floor=FLOORS[3]).values) > 1e-3))
    sentences.append(
        f"from functions to parameters: {networks:.2g} after {ladder.steps} steps of Adam, "
        + (
            f"and {growing} eigenvalues of the field there have real parts above 0.001"
            if growing
            else "and no eigenvalue of the field there has a real part above 0.001"
        )
    )
    below = f"minibatches of {ladder.batch}", "weights in bfloat16, to the nearest", "weights in bfloat16, stochastic"
    of_networks = _by_seed(dataset)[3]
    for name, what, values in zip(FLOORS[4:], below, _by_seed(dataset)[4:], strict=True):
        said = "which overlaps with the networks above"
        if values.min() > of_networks.max():
            said = "more than any of the networks above"
        elif values.max() < of_networks.min():
            said = "less than any of the networks above"
        sentences.append(
            f"{what}: {ends[name]:.2g}, from {values.min():.2g} to {values.max():.2g} over the seeds, {said} "
            f"({of_networks.min():.2g} to {of_networks.max():.2g})"
        )
    return sentences


def reached(dataset: "xr.Dataset") -> np.ndarray:
    """The divergence at the end of every floor: geometric mean over the seeds and the last eighth of what is saved."""
    return np.exp(np.mean(np.log(_by_seed(dataset)), axis=1))


def _by_seed(dataset: "xr.Dataset") -> np.ndarray:
    values = dataset["divergence"].transpose("floor", "seed", "save").values
    last = values[..., -max(1, values.shape[-1] // 8) :]
    return np.exp(np.mean(np.log(np.maximum(last, 1e-12)), axis=2))
