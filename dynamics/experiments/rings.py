"""Modes of a ring of Gaussians that GANs of several objectives cover, beside published shares."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

import dynamics.distributions as distributions
import dynamics.metrics as metrics
import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics._keys import key_of
from dynamics.experiments.comparison import SEED, VARIANT, Comparison, mean_and_error
from dynamics.game import Game, Players
from dynamics.games import VEEGAN
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.training import generate
from dynamics.updates import Alternating

if TYPE_CHECKING:
    import xarray as xr

LATENT = 2
SAMPLES, FEW = 25_000, 2_500  # generated; of the (alpha_D, alpha_G)-GANs, and of VEEGAN and PacGAN
PACKED = 2  # samples that one score is of
RING_MODES, RING_SPREAD = 8, 0.01
GRID_SIDE, GRID_SPACING, GRID_SPREAD = 5, 0.5, 0.0125
SATURATING, OTHER = "saturating", "non-saturating"
# Welfert, Otstot, Kurri, Sankar, 2023, table I and figure 2, of 200 seeds; the ring alone.
PUBLISHED = {
    "success": {
        f"{SATURATING} (1, 1)": 0.47,
        f"{SATURATING} (0.5, 1)": 0.80,
        f"{SATURATING} (0.3, 1)": 0.87,
        f"{OTHER} (1, 1)": 0.22,
        f"{OTHER} (0.5, 1.2)": 0.45,
        "least squares": 0.325,
    },
    "failure": {
        f"{SATURATING} (1, 1)": 0.30,
        f"{SATURATING} (0.5, 1)": 0.05,
        f"{SATURATING} (0.3, 1)": 0.02,
        f"{OTHER} (1, 1)": 0.0,
        f"{OTHER} (0.5, 1.2)": 0.0,
        "least squares": 0.0,
    },
}


class Variant(NamedTuple):
    """An objective, a penalty, critic steps per step, samples of one score, whether there is a reconstructor."""

    objective: objectives.Objective
    penalty: penalties.Penalty | None = None
    critic_steps: int = 1
    packed: int = 1
    reconstructed: bool = False


def rings(
    *,
    seeds: int = 10,
    steps: int = 2000,
    rate: float = 1e-3,
    momentum: float = 0.9,
    width: int = 32,
    depth: int = 3,
    batch_size: int = 128,
    grid: bool = False,
) -> Comparison:
    """How many modes of a ring of eight Gaussians GANs of ten kinds cover, in some minutes on two cores.

    (alpha_D, alpha_G)-GANs, saturating and not; least squares; Wasserstein with gradient penalty and five critic steps;
    relativistic in pairs with R1 and R2 (R3GAN); two samples to a score (PacGAN); scores of samples with their latents,
    and a third network that reconstructs these (VEEGAN). Alternating Adam, the discriminator first.
    A run is a success where 25,000 samples cover all modes, a failure where they cover none; a mode is covered
    where one sample is within three standard deviations of its centre. `modes_of_few` is of 2,500 samples, as VEEGAN
    and PacGAN count.

    The published runs have networks of 200 and 400 units in four layers, 156,000 steps at the rate 1e-4, and 200 seeds:
    these are smaller, shorter, and steeper. What comes out depends on the setting more than on the objective: with
    momentum 0.5, two hidden layers and 3,000 steps 89 of 90 trainings succeed. With `grid`, 25 Gaussians on a square
    grid, for which no shares are published.
    Source: Welfert, Otstot, Kurri, Sankar, (alpha_D, alpha_G)-GANs, 2023, with the authors' code; Lin, Khetan, Fanti,
    Oh, PacGAN, 2018; Gulrajani et al., 2017; Huang, Gokaslan, Kuleshov, Tompkin, 2024; Srivastava et al., 2017.

    Args:
        seeds: trainings of each kind.
        steps: of every generator.
        rate: of both players.
        momentum: Adam's b1, 0.9 in the authors' code.
        width, depth: units and number of the hidden layers of both networks.
        batch_size: points in a batch.
        grid: the grid in place of the ring.

    Raises:
        ValueError: a number is out of bounds.

    >>> len(rings().variants)
    10
    """
    settings = dict(locals())
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; expected a number in [0, 1), e.g. 0.9")
    data, spread = _data(grid, batch_size)

    def reconstructed(rate: Any, seed: Any) -> tuple[Game, Alternating, Players]:
        keys = jax.random.split(seed, 3)
        generator, theta = fully_connected(LATENT, 2, width=width, depth=depth, key=keys[0])
        leaky = partial(jax.nn.leaky_relu, negative_slope=0.2)
        of_both, psi = fully_connected(LATENT + 2, None, width=width, depth=depth, activation=leaky, key=keys[1])
        reconstructor, phi = fully_connected(2, LATENT, width=width, depth=depth, key=keys[2])
        latent = distributions.normal(np.zeros(LATENT), 1.0, batch_size=batch_size)
        game = VEEGAN(generator, _OfPair(of_both), reconstructor, data, latent)
        adam = optax.adam(rate, b1=momentum, b2=0.99)
        return game, Alternating(adam, adam, adam, order=(1, 0, 2)), (theta, psi, phi)

    def trained(rate: Any, seed: Any, variant: Variant) -> tuple[Game, Alternating, Players]:
        if variant.reconstructed:
            return reconstructed(rate, seed)
        first, second = jax.random.split(seed)
        count = variant.packed
        generator, theta = fully_connected(LATENT, 2, width=width, depth=depth, key=first)
        leaky = partial(jax.nn.leaky_relu, negative_slope=0.2)
        discriminator, psi = fully_connected(2 * count, None, width=width, depth=depth, activation=leaky, key=second)
        real = data if count == 1 else distributions.Sampler(_Packs(data, count, batch_size))
        latent = distributions.normal(np.zeros(LATENT * count), 1.0, batch_size=batch_size)
        many = generator if count == 1 else _Together(generator, count)
        game = GAN(many, discriminator, real, latent, variant.objective, variant.penalty)
        adam = optax.adam(rate, b1=momentum, b2=0.99)
        return game, Alternating(adam, adam, order=(1, 0), repeats=(1, variant.critic_steps)), (theta, psi)

    def measures(game: Game, start: Players, players: Players) -> dict[str, float]:
        del start
        samples = np.asarray(generate(game, players, key_of(0), SAMPLES)).reshape(-1, 2)[:SAMPLES]
        samples = samples[np.isfinite(samples).all(axis=1)]
        if not len(samples):
            return {"success": 0.0, "failure": 1.0, "modes": 0.0, "modes_of_few": 0.0, "high_quality": 0.0}
        covered = metrics.mode_coverage(samples, data.means, spread)
        few = metrics.mode_coverage(samples[:FEW], data.means, spread)
        return {
            "success": float(covered.modes == len(data.means)),
            "failure": float(covered.modes == 0),
            "modes": float(covered.modes),
            "modes_of_few": float(few.modes),
            "high_quality": float(covered.high_quality),
        }

    return Comparison(
        name="rings",
        title="Modes of a grid of Gaussians" if grid else "Modes of a ring of Gaussians",
        variants={name: partial(trained, variant=variant) for name, variant in variants().items()},
        axes={"rate": np.array([rate])},
        seeds=seeds,
        steps=steps,
        key=key_of(0),
        measures=measures,
        shares=("success", "failure"),
        findings=partial(findings, published={} if grid else PUBLISHED, by_chance=_by_chance(data.means, spread)),
        settings=settings,
        published={} if grid else PUBLISHED,
    )


def variants() -> dict[str, Variant]:
    """What is compared, by name."""
    return {
        **{f"{SATURATING} ({alpha:g}, 1)": Variant(objectives.AlphaLoss(alpha, 1.0)) for alpha in (1.0, 0.5, 0.3)},
        f"{OTHER} (1, 1)": Variant(objectives.AlphaLoss(1.0, 1.0, saturating=False)),
        f"{OTHER} (0.5, 1.2)": Variant(objectives.AlphaLoss(0.5, 1.2, saturating=False)),
        f"{OTHER} (1, 1), packed": Variant(objectives.AlphaLoss(1.0, 1.0, saturating=False), packed=PACKED),
        "least squares": Variant(objectives.LeastSquares(0.0, 1.0, 1.0)),
        "Wasserstein, GP": Variant(objectives.Wasserstein(), penalties.WGANGP(0.1), critic_steps=5),
        "R3GAN": Variant(
            objectives.RelativisticPaired(all_pairs=False), penalties.Sum(penalties.R1(0.1), penalties.R2(0.1))
        ),
        "VEEGAN": Variant(objectives.Minimax(), reconstructed=True),
    }


def _data(grid: bool, batch_size: int) -> tuple[distributions.GaussianMixture, float]:
    """The distribution, and the standard deviation around its centres."""
    if not grid:
        return distributions.ring(RING_MODES, std=RING_SPREAD, batch_size=batch_size), RING_SPREAD
    places = GRID_SPACING * (np.arange(GRID_SIDE) - (GRID_SIDE - 1) / 2)
    centres = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    return distributions.GaussianMixture(centres, GRID_SPREAD, batch_size=batch_size), GRID_SPREAD


def _by_chance(centres: Any, spread: float) -> float:
    """The share of samples within three standard deviations of a centre if they are spread evenly over their square."""
    sides = np.ptp(np.asarray(centres), axis=0)
    return float(len(centres) * np.pi * (3 * spread) ** 2 / np.prod(sides))


def findings(dataset: "xr.Dataset", published: Any = PUBLISHED, by_chance: float = 0.0) -> list[str]:
    """What the numbers say: shares with their intervals, published ones beside, and differences that the bars allow.

    Args:
        dataset: of the comparison.
        published: shares by measure and variant.
        by_chance: share of good samples of a model that knows nothing of the modes; with so many samples it covers all
            of them, so that a success tells little where no more are good than twice that.
    """
    lines, ends, spread_out = [], {}, []
    for name in map(str, dataset[VARIANT].values):
        chosen = dataset.sel(variant=name)
        said = []
        for measure in ("success", "failure"):
            share, low, high = _share(chosen, measure)
            text = f"{measure} {share:.0%} ({low:.0%} to {high:.0%})"
            known = published.get(measure, {}).get(name)
            if known is not None:
                text += f", published {known:.3g}, {'within' if low <= known <= high else 'outside of'} the interval"
            said.append(text)
        ends[name] = _share(chosen, "success")
        modes, _, _ = mean_and_error(chosen["modes"].values.ravel())
        good, _, _ = mean_and_error(chosen["high_quality"].values.ravel())
        lines.append(f"{name}: {'; '.join(said)}; {modes:.1f} modes and {good:.0%} of the samples near one on average.")
        if ends[name][0] > 0 and good < 2 * by_chance:
            spread_out.append(name)
    if spread_out:
        lines.append(
            f"Of samples spread evenly over the square of the centres {by_chance:.1%} would be near one, and 25,000 "
            "would cover every mode: a success with fewer than twice as many says little, as of "
            f"{'; '.join(spread_out)}."
        )
    known = [(measure, name) for measure, shares in published.items() for name in shares if name in ends]
    if known:
        outside = 0
        for measure, name in known:
            _, low, high = _share(dataset.sel(variant=name), measure)
            outside += not low <= published[measure][name] <= high
        lines.append(
            f"{outside} of {len(known)} published shares, of longer trainings of larger networks, lie outside of the "
            "intervals of 95 %."
        )
    apart = [
        f"{more} over {less}" for more, (_, low, _) in ends.items() for less, (_, _, high) in ends.items() if low > high
    ]
    lines.append(
        "Shares of success whose intervals of 95 % do not overlap: " + ("; ".join(apart) if apart else "none") + "."
    )
    return lines


def _share(chosen: "xr.Dataset", measure: str) -> tuple[float, float, float]:
    mean, low, high = mean_and_error(chosen[measure].transpose("rate", SEED).values.ravel(), share=True)
    return float(mean), float(low), float(high)


class _Packs(NamedTuple):
    """Draws of several points at once, in one vector; a function of a key."""

    data: distributions.GaussianMixture
    packed: int
    batch_size: int

    def __call__(self, key: Array) -> Array:
        points = self.data.sample(key, self.packed * self.batch_size).values
        return jnp.reshape(points, (self.batch_size, -1))


class _OfPair(NamedTuple):
    """A discriminator of one vector, of a latent and a sample."""

    discriminator: Callable[[PyTree, Array], Array]

    def __call__(self, parameters: PyTree, pair: tuple[Array, Array]) -> Array:
        return self.discriminator(parameters, jnp.concatenate(pair))


class _Together(NamedTuple):
    """A generator that makes several points of several latents, in one vector."""

    generator: Callable[[PyTree, Array], Array]
    packed: int

    def __call__(self, parameters: PyTree, latents: Array) -> Array:
        parts = jnp.reshape(latents, (self.packed, -1))
        return jnp.ravel(jax.vmap(self.generator, (None, 0))(parameters, parts))
