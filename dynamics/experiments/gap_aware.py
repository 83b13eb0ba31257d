"""Gap-aware and fixed rates of the discriminator, over a grid of base rates."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

import dynamics.distributions as distributions
import dynamics.metrics as metrics
import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics._keys import key_of
from dynamics.experiments.comparison import CONFIDENCE, SEED, VARIANT, Comparison, mean_and_error
from dynamics.game import Game, Players
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.schedules import gap_aware as gap_aware_rate
from dynamics.training import generate
from dynamics.updates import Simultaneous

if TYPE_CHECKING:
    import xarray as xr

LATENT = 2
SAMPLES = 1024
SPREAD = 0.05  # standard deviation around the centres
MODES = 8
GOOD = 0.5  # share of samples near a centre, with all modes, that makes a training a success
LOWEST, HIGHEST = 1e-4, 3e-2  # base rates


def gap_aware(
    *, seeds: int = 10, rates: int = 6, steps: int = 3000, width: int = 32, batch_size: int = 64
) -> Comparison:
    """Gap-aware scheduling against fixed rates on a ring of eight Gaussians, in a few minutes on two cores.

    Simultaneous Adam (b1 = 0.5) and the non-saturating loss, as in the paper's code: the base rate is that of both
    players, and the schedule changes the discriminator's. How many trainings have a gradient that is not finite or
    players that leave every bound; how many succeed: all modes, and half of the samples within three standard
    deviations of a centre; and how many base rates, drawn from the grid at random, one has to try for a success with
    95 %.
    Source: Hazimeh and Ponomareva, Mind the (optimality) Gap, AISTATS 2023, section 5, on images.

    Args:
        seeds: trainings of each kind.
        rates: base rates, from 1e-4 to 3e-2, equally spaced in their logarithm.
        steps: of every training.
        width: units in each of the two hidden layers of both networks.
        batch_size: points in a batch.

    Raises:
        ValueError: a number is out of bounds.

    >>> list(gap_aware(rates=3).variants)
    ['fixed', 'gap-aware']
    """
    settings = dict(locals())
    ideal = float(objectives.NonSaturating().ideal_discriminator_loss)
    data = distributions.ring(MODES, std=SPREAD, batch_size=batch_size)

    def trained(rate: Any, seed: Any, scheduled: bool) -> tuple[Game, Simultaneous, Players]:
        game, players = small_gan(seed, data, objectives.NonSaturating(), width=width, batch_size=batch_size)
        adam = optax.adam(rate, b1=0.5)
        return game, Simultaneous(adam, optax.chain(adam, gap_aware_rate(ideal)) if scheduled else adam), players

    return Comparison(
        name="gap-aware",
        title="Gap-aware and fixed rates on a ring of Gaussians",
        variants={name: partial(trained, scheduled=name == "gap-aware") for name in ("fixed", "gap-aware")},
        axes={"rate": np.geomspace(LOWEST, HIGHEST, rates)},
        seeds=seeds,
        steps=steps,
        key=key_of(0),
        measures=partial(coverage, centres=data.means),
        shares=("failed", "success"),
        findings=findings,
        settings=settings,
    )


def small_gan(
    seed: Any,
    data: distributions.GaussianMixture,
    objective: objectives.Objective,
    penalty: penalties.Penalty | None = None,
    *,
    width: int,
    batch_size: int,
) -> tuple[Game, Players]:
    """A GAN of fully connected networks with two hidden layers, for data in the plane, and its random start."""
    first, second = jax.random.split(seed)
    generator, theta = fully_connected(LATENT, 2, width=width, key=first)
    discriminator, psi = fully_connected(2, None, width=width, key=second)
    latent = distributions.normal(np.zeros(LATENT), 1.0, batch_size=batch_size)
    return GAN(generator, discriminator, data, latent, objective, penalty), (theta, psi)


def coverage(game: Game, start: Players, players: Players, *, centres: Any) -> dict[str, float]:
    """Whether numbers are not finite, whether the training is a success, modes covered, and the share of good samples.

    Args:
        game, start, players: as of every measure of a comparison.
        centres: of the modes, shape (modes, dimension).
    """
    del start
    samples = np.asarray(generate(game, players, jax.random.key(0), SAMPLES))
    finite = bool(np.isfinite(samples).all())
    covered = metrics.mode_coverage(samples if finite else np.zeros((1, 2)), centres, SPREAD, least=20)
    success = finite and covered.modes == len(centres) and covered.high_quality >= GOOD
    return {
        "failed": float(not finite),
        "success": float(success),
        "modes": float(covered.modes if finite else 0),
        "high_quality": float(covered.high_quality if finite else 0),
    }


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say of both schedules: successes, tries that are needed, the best rate."""
    lines = []
    for name in dataset[VARIANT].values:
        chosen = dataset.sel(variant=name)
        success = chosen["success"].transpose("rate", SEED).values
        mean, low, high = mean_and_error(success.ravel(), share=True)
        best = int(np.argmax(success.mean(axis=1)))
        line = f"{name}: {int(success.sum())} of {success.size} trainings succeed"
        line += f" ({mean:.0%}, between {low:.0%} and {high:.0%} with 95 %)"
        if 0 < mean < 1:
            tries = max(1.0, np.log(0.05) / np.log1p(-mean))
            line += f"; a success with 95 % takes {tries:.1f} trainings at rates of the grid drawn at random"
        if mean > 0:
            line += f"; the best rate is {float(chosen['rate'][best]):.2g} ({success[best].mean():.0%})"
        lines.append(f"{line}; {int(chosen['failed'].sum())} end with numbers that are not finite.")
    pairs = dataset.transpose(VARIANT, "rate", SEED)
    measures = ("success", "modes", "high_quality")
    for name in measures:
        fixed, scheduled = pairs[name].values
        # Trainings of one seed begin with the same networks, and count once; all intervals are to hold together.
        confidence = 1 - (1 - CONFIDENCE) / len(measures)
        mean, low, high = mean_and_error((scheduled - fixed).mean(axis=0), confidence=confidence)
        said = "the schedule helps" if low > 0 else "the schedule harms" if high < 0 else "no difference can be seen"
        shown = name.replace("_", " ")
        lines.append(
            f"{shown}, gap-aware less fixed, mean over the rates seed by seed: {mean:.3g} (between {low:.3g} and "
            f"{high:.3g}, the three together with 95 %): {said} on this grid."
        )
    return lines
