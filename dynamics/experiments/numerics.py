"""Eigenvalues along the training of a ring GAN under simultaneous, alternating and consensus updates."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Complex

import dynamics.distributions as distributions
import dynamics.metrics as metrics
from dynamics import _trees
from dynamics._checks import as_whole
from dynamics._compiling import cheap_jit
from dynamics._progress import Shown
from dynamics.analysis.stability.linearisation import jacobian_of
from dynamics.directions import Consensus
from dynamics.experiments.comparison import SEED, VARIANT, mean_and_error
from dynamics.experiments.spectral_study import SpectralStudy, players_at
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.objectives import NonSaturating
from dynamics.simulation import simulate
from dynamics.training import generate
from dynamics.updates import Alternating, Simultaneous
from dynamics.updates.base import Update

if TYPE_CHECKING:
    import xarray as xr

LATENT = 2
MODES, SPREAD = 8, 0.05
NODES, LATENT_NODES = 2, 8  # per dimension, of each Gaussian of the data and of the latents
TIMES = 5  # at which spectra are taken, the start and the end among them
SAMPLES = 1000
SMALL = 1e-4  # of the largest |eigenvalue - 1|: below it an eigenvalue is 1, of float32 networks
ROTATING = 0.01  # of |eigenvalue - 1|: an imaginary part beyond it
OUTSIDE = 1e-5  # beyond the unit circle, in float32
STEP = "step"
UPDATES = ("simultaneous", "alternating", "consensus")
SHARED = "at_simultaneous"  # ending of measures at the states of the simultaneous training
MEASURES = ("radius", "outside", "complex_share", "rotation", "slow_rotation", "steepest")


def numerics(
    *, seeds: int = 10, steps: int = 4000, width: int = 8, rate: float = 0.1, consensus: float = 1.0
) -> SpectralStudy:
    r"""Eigenvalues along the training of a ring GAN: simultaneous, alternating and consensus steps, in minutes.

    Plain gradient steps on exact expectations with the non-saturating loss, so that the step has one Jacobian $J$ at
    every state, and no memory. At five times of every training: all eigenvalues $\lambda$ of $J$; with
    $\mu = \lambda - 1$ the share of those that are complex, and how far they are from the real axis. Once at the
    states that each update reaches by itself, and once for all updates at the states of the simultaneous one, where
    they differ by nothing but the update.

    With the defaults, where the numbers agree with the paper: along the simultaneous training the share of complex
    eigenvalues grows from 11 % to 51 %, and at the end |Im| is 2.9 times |Re| at the pair with the largest imaginary
    part; at the same states the consensus step has 0.8 in place of it, on a curve to the left of the axis. Where they
    do not: no update has all its eigenvalues inside of the unit circle while it trains, consensus leaves as many
    outside as the simultaneous step at the same states (45 % and 46 %; the difference is between -2.2 and 0.4 with
    95 %), and no difference in modes is seen at the end. What it costs: with one seed of ten its step reaches a radius
    of 2.5 on the way, in a direction steeper than any that the simultaneous training meets; it takes smaller rates.
    Source: Mescheder, Nowozin, Geiger, The Numerics of GANs, NeurIPS 2017: section 3 (eigenvalues of small real and
    large imaginary part), section 4 (consensus optimisation moves them to the left).

    Args:
        seeds: trainings of each update.
        steps: of every training.
        width: units in each of the two hidden layers of both networks.
        rate: of both players.
        consensus: weight of half the squared norm of the field.

    Raises:
        ValueError: a number is out of bounds.

    >>> numerics().axes
    ('variant', 'step')
    """
    settings = dict(locals())
    seeds, steps = as_whole("seeds", seeds), as_whole("steps", steps)
    if steps % (TIMES - 1):
        raise ValueError(f"steps is {steps}; expected a multiple of {TIMES - 1}, e.g. 4000")
    sgd = optax.sgd(rate)
    updates: dict[str, Update] = {
        "simultaneous": Simultaneous(sgd, sgd),
        "alternating": Alternating(sgd, sgd),
        "consensus": Simultaneous(sgd, sgd, direction=Consensus(consensus)),
    }
    return SpectralStudy(
        name="numerics",
        title="Eigenvalues along the training of a ring GAN",
        compute=partial(_compute, updates, seeds, steps, as_whole("width", width)),
        axes=(VARIANT, STEP),
        measures=(*MEASURES, *(f"{name}_{SHARED}" for name in ("outside", "rotation")), "modes", "high_quality"),
        shares=(),
        findings=findings,
        about=(
            f"Non-saturating GAN of fully connected networks (tanh, two hidden layers of {width} units) on a ring of "
            f"{MODES} Gaussians of standard deviation {SPREAD}, exact expectations on quadrature nodes, plain gradient "
            f"steps of {rate:g} for both players; the weight of consensus is {consensus:g}. λ are the eigenvalues of "
            "the step's Jacobian, μ = λ - 1, those with |μ| below 1e-4 of the largest left out of all but the radius. "
            "radius: the largest |λ|. outside: share with |λ| > 1. complex share: share with |Im μ| > 0.01 |μ|. "
            "rotation: |Im μ| / |μ| of the μ with the largest imaginary part (0 on the real axis, 1 on the imaginary "
            "one). slow rotation: the 90 % quantile of |Im μ| / |μ| over the complex ones. steepest: the least Re μ. "
            "at simultaneous: of this update's step at the states of the simultaneous training."
        ),
        settings=settings,
    )


def gan(seed: Array, width: int) -> tuple[GAN, Players]:
    """The ring GAN, with exact expectations on nodes, and its random start."""
    first, second = jax.random.split(seed)
    options = {"width": width, "activation": jax.nn.tanh}
    generator, theta = fully_connected(LATENT, 2, key=first, **options)
    discriminator, psi = fully_connected(2, None, key=second, **options)
    data = distributions.GaussianMixture(distributions.ring(MODES).means, SPREAD, NODES)
    latent = distributions.normal(np.zeros(LATENT), 1.0, nodes=LATENT_NODES)
    return GAN(generator, discriminator, data, latent, NonSaturating()), (theta, psi)


def _compute(updates: dict[str, Update], seeds: int, steps: int, width: int, progress: Any) -> "xr.Dataset":
    import xarray as xr

    game, _ = gan(jax.random.key(0), width)
    keys = jax.random.split(jax.random.key(0), seeds)
    names = [*MEASURES, *(f"{name}_{SHARED}" for name in MEASURES), "modes", "high_quality"]
    columns = {name: np.full((len(updates), TIMES, seeds), np.nan) for name in names}
    spectra, reached = [], {}
    with Shown(progress, 2 * len(updates) * seeds, label="numerics", unit="training") as show:
        done = 0
        for variant, (name, update) in enumerate(updates.items()):

            @jax.jit
            @jax.vmap
            def train(key: Array, update: Update = update) -> Players:
                options: dict[str, Any] = {"save_every": steps // (TIMES - 1), "classify": False}
                return simulate(game, update, gan(key, width)[1], steps=steps, **options).players

            reached[name] = jax.device_get(train(keys))
            done += seeds
            show(done, f"{name}: trained")
            for seed in range(seeds):
                for time in range(TIMES):
                    players, others = (players_at(reached[where], (seed, time)) for where in (name, UPDATES[0]))
                    values = eigenvalues(game, update, players)
                    spectra.append(values)
                    numbers = measures(values)
                    shared = numbers if name == UPDATES[0] else measures(eigenvalues(game, update, others))
                    numbers |= {f"{measure}_{SHARED}": value for measure, value in shared.items()}
                    for measure, value in (numbers | _coverage(game, players)).items():
                        columns[measure][variant, time, seed] = value
                done += 1
                show(done, f"{name}: spectra of seed {seed}")
    size = len(spectra[0])
    dims = (VARIANT, STEP, SEED)
    eigen = np.array(spectra).reshape(len(updates), seeds, TIMES, size).transpose(0, 2, 1, 3)
    return xr.Dataset(
        {"eigenvalues": ((*dims, "eigenvalue"), eigen)} | {name: (dims, column) for name, column in columns.items()},
        {VARIANT: list(updates), STEP: steps // (TIMES - 1) * np.arange(TIMES)},
    )


def eigenvalues(game: Game, update: Update, players: Players) -> Complex[np.ndarray, " n"]:
    """The eigenvalues of the step's Jacobian at the players; NaN where it is not finite."""
    jacobian = np.asarray(_jacobian(game, update, players), np.float64)
    if not np.isfinite(jacobian).all():
        return np.full(len(jacobian), complex("nan"))
    return np.linalg.eigvals(jacobian)


@cheap_jit
def _jacobian(game: Game, update: Update, players: Players) -> Array:
    dtype = _trees.float_dtype(players)
    game, update = _trees.cast((game, update), dtype)
    return jacobian_of(game, update, players)


def measures(values: Complex[np.ndarray, " n"]) -> dict[str, float]:
    """What the eigenvalues of a step say of growth and rotation; NaN of what is not finite.

    >>> {name: round(value, 2) for name, value in measures(np.array([1.0, 0.9 + 0.3j, 0.9 - 0.3j, 0.5])).items()}
    {'radius': 1.0, 'outside': 0.0, 'complex_share': 0.67, 'rotation': 0.95, 'slow_rotation': 0.95, 'steepest': -0.5}
    """
    if not np.isfinite(values).all():
        return dict.fromkeys(MEASURES, float("nan"))
    moves = values - 1
    large = np.abs(moves) > SMALL * np.abs(moves).max()
    moves, far = moves[large], np.abs(values[large]) > 1 + OUTSIDE
    rotation = np.abs(np.imag(moves)) / np.abs(moves)
    rotates = rotation > ROTATING
    return {
        "radius": float(np.abs(values).max()),
        "outside": float(far.mean()),
        "complex_share": float(rotates.mean()),
        "rotation": float(rotation[np.argmax(np.abs(np.imag(moves)))]),
        "slow_rotation": float(np.quantile(rotation[rotates], 0.9)) if rotates.any() else 0.0,
        "steepest": float(np.real(moves).min()),
    }


def _coverage(game: GAN, players: Players) -> dict[str, float]:
    samples = np.asarray(generate(game, players, jax.random.key(0), SAMPLES))
    if not np.isfinite(samples).all():
        return {"modes": 0.0, "high_quality": 0.0}
    covered = metrics.mode_coverage(samples, distributions.ring(MODES).means, SPREAD, least=10)
    return {"modes": float(covered.modes), "high_quality": float(covered.high_quality)}


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say of every update, and which statements of the paper they support."""
    last, first = dataset.isel({STEP: -1}), dataset.isel({STEP: 0})
    plain, lines = UPDATES[0], []

    def interval(values: Any, digits: str = ".2f") -> str:
        mean, low, high = mean_and_error(np.asarray(values, float).ravel())
        return f"{mean:{digits}} ({low:{digits}} to {high:{digits}})"

    for name in map(str, dataset[VARIANT].values):
        end = last.sel({VARIANT: name})
        lines.append(
            f"{name}, at the end: radius {interval(end['radius'], '.4f')}; {interval(100 * end['outside'], '.0f')} % "
            f"of the eigenvalues outside of the unit circle, {interval(100 * end['complex_share'], '.0f')} % complex; "
            f"|Im|/|Re| = {turning(end['rotation']):.2f} where the imaginary part is largest (geometric mean); "
            f"{interval(end['modes'], '.1f')} modes, {interval(100 * end['high_quality'], '.0f')} % of the samples "
            "near one."
        )
    growth = (last["complex_share"] - first["complex_share"]).sel({VARIANT: plain})
    lines.append(_compared(f"share of complex eigenvalues, {plain}, end less start", growth, "it grows", "it falls"))
    for name in UPDATES[1:]:
        for measure, said, more, less in (
            ("rotation", "|Im|/|μ| of the largest imaginary part", "it rotates more", "it rotates less"),
            ("outside", "share outside of the unit circle", "more are outside", "fewer are outside"),
        ):
            at = last[f"{measure}_{SHARED}"]
            difference = at.sel({VARIANT: name}) - at.sel({VARIANT: plain})
            where = f"{said}, {name} less {plain}, both at the last states of {plain}"
            lines.append(_compared(where, difference, more, less))
        for measure in ("modes", "high_quality"):
            difference = last[measure].sel({VARIANT: name}) - last[measure].sel({VARIANT: plain})
            what = f"{measure.replace('_', ' ')}, {name} less {plain}, after as many steps"
            lines.append(_compared(what, difference, "better", "worse"))
    return lines


def turning(rotation: Any) -> float:
    """The geometric mean of |Im| / |Re|, from |Im| / |eigenvalue|.

    >>> round(turning([0.6, 0.6]), 6)
    0.75
    """
    values = np.asarray(rotation, float).ravel()
    values = np.clip(values[np.isfinite(values)], 1e-12, 1 - 1e-12)
    return float(np.exp(np.mean(np.log(values) - np.log1p(-(values**2)) / 2)))


def _compared(what: str, difference: Any, more: str, less: str) -> str:
    mean, low, high = mean_and_error(np.asarray(difference, float).ravel())
    said = more if low > 0 else less if high < 0 else "no difference can be seen"
    return f"{what}, of pairs with one seed: {mean:.3g} (between {low:.3g} and {high:.3g} with 95 %): {said}."
