"""Which of the two gradient penalties a relativistic GAN needs, beside a GAN that is not relativistic."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import optax

import dynamics.distributions as distributions
import dynamics.objectives as objectives
import dynamics.penalties as penalties
from dynamics._keys import key_of
from dynamics.experiments.comparison import CONFIDENCE, SEED, VARIANT, Comparison, mean_and_error
from dynamics.experiments.gap_aware import MODES, SPREAD, coverage, small_gan
from dynamics.experiments.survey import Chosen
from dynamics.game import Game, Players
from dynamics.updates import Alternating

if TYPE_CHECKING:
    import xarray as xr

LOWEST, HIGHEST = 0.01, 1.0  # weights of the penalties
LOSSES = {
    "relativistic": objectives.RelativisticPaired(all_pairs=False),
    "non-saturating": objectives.NonSaturating(),
}
PENALTIES = {"none": (0.0, 0.0), "R1": (1.0, 0.0), "R2": (0.0, 1.0), "R1 and R2": (1.0, 1.0)}  # times the weight


def r3gan(
    *, seeds: int = 10, weights: int = 3, steps: int = 3000, width: int = 32, batch_size: int = 64, rate: float = 3e-3
) -> Comparison:
    """R1 alone, R2 alone, both and none, with a relativistic and a plain loss, on a ring of eight Gaussians.

    The theorem of R3GAN says that one of the penalties is enough close to the equilibrium; in its experiments on images
    R1 alone fails with either loss, at all weights from 0.1 to 100. Here: how many trainings end with numbers that are
    not finite; how many succeed (all modes, and half of the samples within three standard deviations of a centre); how
    many modes they cover. Alternating Adam with b1 = 0, the discriminator first, as in the paper's code. Under five
    minutes of one core, one of them compiling: loss and penalties are numbers of one program.

    The ring does not tell the penalties apart as the images do. As it is, and with `rate=1e-2`, no training of 240 ends
    with numbers that are not finite, R1 alone at the weight 0.01 succeeds with every seed, under either loss, and both
    penalties help in no comparison with one, and harm in one; what costs success is a large weight at a large rate.
    Source: Huang, Gokaslan, Kuleshov, Tompkin, The GAN is dead; long live the GAN!, NeurIPS 2024, table 1 and
    appendix C.

    Args:
        seeds: trainings of each kind.
        weights: of the penalties, from 0.01 to 1, equally spaced in their logarithm.
        steps: of both players.
        width: units in each of the two hidden layers of both networks.
        batch_size: points in a batch.
        rate: of both players.

    Raises:
        ValueError: a number is out of bounds.

    >>> len(r3gan().variants)
    8
    """
    settings = dict(locals())
    data = distributions.ring(MODES, std=SPREAD, batch_size=batch_size)

    def trained(weight: Any, seed: Any, loss: Any, real: Any, fake: Any) -> tuple[Game, Alternating, Players]:
        # Which loss, and which penalties, are numbers: of eight kinds of GAN one program is compiled and not eight,
        # which takes as long as training one of them. A penalty of weight 0 adds 0 to the gradient.
        objective = Chosen(jnp.asarray(loss, int), tuple(LOSSES.values()))
        added = penalties.Sum(penalties.R1(real * weight), penalties.R2(fake * weight))
        game, players = small_gan(seed, data, objective, added, width=width, batch_size=batch_size)
        adam = optax.adam(rate, b1=0.0, b2=0.99)
        return game, Alternating(adam, adam, order=(1, 0)), players

    numbers = {
        f"{loss}, {penalty}": {"loss": float(number), "real": real, "fake": fake}
        for number, loss in enumerate(LOSSES)
        for penalty, (real, fake) in PENALTIES.items()
    }
    return Comparison(
        name="r3gan",
        title="One gradient penalty or two, relativistic or not",
        variants=dict.fromkeys(numbers, trained),
        axes={"weight": np.geomspace(LOWEST, HIGHEST, weights)},
        seeds=seeds,
        steps=steps,
        key=key_of(0),
        measures=partial(coverage, centres=data.means),
        shares=("failed", "success"),
        findings=findings,
        settings=settings,
        numbers=numbers,
    )


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say: successes of each kind, and what one penalty does beside two, seed by seed."""
    lines, success = [], {}
    for name in map(str, dataset[VARIANT].values):
        chosen = dataset.sel(variant=name)
        success[name] = chosen["success"].transpose("weight", SEED).values
        modes = chosen["modes"].transpose("weight", SEED).values
        if name.endswith("none"):  # the weight is of nothing: the same networks with other batches
            share, low, high = mean_and_error(success[name].ravel(), share=True)
            said = f"{share:.0%} ({low:.0%} to {high:.0%}) of {success[name].size} trainings succeed"
        else:
            shares = zip(chosen["weight"].values, *mean_and_error(success[name], share=True), strict=True)
            each = ", ".join(f"{share:.0%} ({low:.0%} to {high:.0%}) at {w:.2g}" for w, share, low, high in shares)
            said = f"of {success[name].shape[1]} trainings succeed, by weight, {each}"
        lines.append(f"{name}: {said}; {modes.mean():.1f} modes on average.")
    pairs = [
        (loss, other, success[f"{loss}, R1 and R2"] - success[f"{loss}, {other}"])
        for loss in LOSSES
        for other in ("R1", "R2")
        if {f"{loss}, R1 and R2", f"{loss}, {other}"} <= set(success)
    ]
    for loss, other, differences in pairs:
        # Trainings of one seed begin with the same networks, and count once; all intervals are to hold together.
        confidence = 1 - (1 - CONFIDENCE) / len(pairs)
        mean, low, high = mean_and_error(differences.mean(axis=0), confidence=confidence)
        said = "both help" if low > 0 else "both harm" if high < 0 else "no difference can be seen"
        lines.append(
            f"{loss}, share of success with both penalties less that with {other} alone, mean over the weights seed by "
            f"seed: {mean:.2f} (between {low:.2f} and {high:.2f}, all such lines together with 95 %): {said}."
        )
    return lines
