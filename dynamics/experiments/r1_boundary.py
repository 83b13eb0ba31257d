"""The largest stable rate of a GAN of digits with R1, from the spectrum, beside trainings that fail."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Complex

import dynamics.data as data
import dynamics.distributions as distributions
from dynamics._checks import as_whole
from dynamics._progress import Shown
from dynamics.analysis.stability.leading import Leading
from dynamics.analysis.stability.verdict import stability
from dynamics.experiments.comparison import SEED, mean_and_error
from dynamics.experiments.spectral_study import SpectralStudy, players_at
from dynamics.game import Players
from dynamics.gan import GAN
from dynamics.networks.architectures import fully_connected
from dynamics.objectives import NonSaturating
from dynamics.penalties import R1
from dynamics.simulation import simulate
from dynamics.updates import Simultaneous

if TYPE_CHECKING:
    import xarray as xr

LATENT = 8
PIXELS = 64
WEIGHTS = (0.1, 30.0)  # of R1, lowest and highest
RATES = (0.02, 2.0)  # lowest and highest; the first training is at the lowest
LARGE = 1e3  # a rate at which the eigenvalues of largest modulus are those of the steepest directions
LEADING = 6
FAILED = 2.0  # times the loss of a discriminator that knows nothing, with its penalty: from there it has failed
CONTINUED, FRESH = "failed_from_the_reached_state", "failed_from_the_start"


def r1_boundary(
    *, seeds: int = 5, weights: int = 5, rates: int = 9, steps: int = 2000, probe: int = 300, width: int = 16,
    batch_size: int = 64,
) -> SpectralStudy:  # fmt: skip
    r"""R1 and the stability of a GAN of digits: the largest rate from the spectrum beside trainings that fail.

    Simultaneous gradient steps on minibatches, fully connected networks. For every weight of R1 a training at the
    lowest rate; at the state that it reaches, the eigenvalues $\mu$ of the field's Jacobian that are largest in
    modulus, for all images and 256 latents. The step with the rate h has the eigenvalues $1 + h\mu$: one with
    $\mathrm{Re}\,\mu < 0$ leaves the unit circle at $h = -2\,\mathrm{Re}\,\mu / |\mu|^2$, and the least of these rates
    is the prediction. Then trainings at each rate, from this state and from the start: those fail whose players are not
    finite, or whose discriminator has a loss of twice that of a discriminator that knows nothing. Needs the extra
    `data`.

    With the defaults the prediction bounds what fails from one side alone. None of 103 trainings below the predicted
    rate fails, and 50 of 122 above it do: the lowest rate that fails is 4.5 times the predicted one (3.2 to 6.4). A
    step that is unstable at the state that was reached is no training that fails. More R1 allows larger rates up to a
    weight near 7, and smaller ones at 30.
    Source: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, ICML 2018: R1 makes the
    flow stable, and the step with it up to a rate that the spectrum tells.

    Args:
        seeds: trainings of each kind.
        weights: of R1, from 0.1 to 30, equally spaced in their logarithm.
        rates: from 0.02 to 2, likewise.
        steps: of the first training.
        probe: steps of the trainings that may fail.
        width: units in the hidden layer of both networks.
        batch_size: images in a batch.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a number is out of bounds.

    >>> r1_boundary(weights=3).axes
    ('weight', 'rate')
    """
    settings = dict(locals())
    sizes = {name: as_whole(name, value) for name, value in settings.items()}
    grid = np.geomspace(*WEIGHTS, sizes["weights"]), np.geomspace(*RATES, sizes["rates"])
    return SpectralStudy(
        name="r1-boundary",
        title="R1 and the largest stable rate of a GAN of digits",
        compute=partial(_compute, sizes, *grid),
        axes=("weight", "rate"),
        measures=("predicted_failure", CONTINUED, FRESH),
        shares=("predicted_failure", CONTINUED, FRESH),
        findings=findings,
        about=(
            f"Non-saturating GAN of fully connected networks (tanh, one hidden layer of {width} units) on the digits "
            f"of scikit-learn, batches of {batch_size}, simultaneous gradient steps with the same rate for both "
            f"players. First {steps} steps at the rate {RATES[0]:g}, then {probe} steps at each rate. predicted "
            f"failure: the rate is above the one at which, at the state reached, one of the {LEADING} eigenvalues of "
            "largest modulus leaves the unit circle. A training has failed if its players are not finite, or its "
            f"discriminator's loss with the penalty is beyond {FAILED:g} x 2 ln 2 at its end."
        ),
        settings=settings,
    )


def gan(seed: Array, weight: Any, width: int, batch_size: int) -> tuple[GAN, Players]:
    """The GAN of digits with R1, and its random start."""
    first, second = jax.random.split(seed)
    options = {"width": width, "depth": 1, "activation": jax.nn.tanh}
    generator, theta = fully_connected(LATENT, PIXELS, key=first, **options)
    discriminator, psi = fully_connected(PIXELS, None, key=second, **options)
    real = distributions.Points(data.digits().values.reshape(-1, PIXELS), batch_size)
    latent = distributions.normal(np.zeros(LATENT), 1.0, batch_size=batch_size)
    return GAN(generator, discriminator, real, latent, NonSaturating(), R1(weight)), (theta, psi)


def largest_stable_rate(values: Complex[np.ndarray, " k"]) -> float:
    r"""The least rate at which $1 + h\mu$ leaves the unit circle, of the eigenvalues with a negative real part.

    Infinite where there is none: those with a positive real part are outside at any rate, and grow at theirs.

    >>> round(largest_stable_rate(np.array([-4.0, -1 + 3j, -1 - 3j, 0.1])), 6)
    0.2
    """
    falling = values[np.real(values) < 0]
    return float(np.min(-2 * np.real(falling) / np.abs(falling) ** 2, initial=np.inf))


def _compute(sizes: dict[str, int], weights: np.ndarray, rates: np.ndarray, progress: Any) -> "xr.Dataset":
    import xarray as xr

    shape = {"width": sizes["width"], "batch_size": sizes["batch_size"]}
    keys = jax.random.split(jax.random.key(0), sizes["seeds"])
    fixed = distributions.Points(jax.random.normal(jax.random.key(1), (256, LATENT)))
    images = distributions.Points(data.digits().values.reshape(-1, PIXELS))
    ideal = float(NonSaturating().ideal_discriminator_loss)

    def exact(weight: Any) -> GAN:
        """The game on all images and fixed latents."""
        drawn, _ = gan(keys[0], weight, **shape)
        return GAN(drawn.generator, drawn.discriminator, images, fixed, drawn.objective, drawn.penalty)

    def train(weight: Any, rate: Any, key: Array, start: Players | None, steps: int) -> Players:
        game, fresh = gan(key, weight, **shape)
        update = Simultaneous(optax.sgd(rate), optax.sgd(rate))
        batches = jax.random.fold_in(key, 0 if start is None else 1)
        options: dict[str, Any] = {"save_every": "last", "classify": False, "key": batches}
        return simulate(game, update, fresh if start is None else start, steps=steps, **options).final

    def failed(weight: Any, players: Players) -> Array:
        loss = exact(weight).losses(players)[1]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(players)]).all()
        return ~(finite & (loss <= FAILED * ideal))

    def probed(weight: Any, rate: Any, key: Array, start: Players | None) -> Array:
        return failed(weight, train(weight, rate, key, start, sizes["probe"]))

    def over(function: Any, *axes: Any) -> Any:
        for axis in reversed(axes):
            function = jax.vmap(function, axis)
        return jax.jit(function)

    seeds = jnp.arange(len(keys))
    heavy, fast = jnp.asarray(weights, float), jnp.asarray(rates, float)
    with Shown(progress, 3 + len(weights), label="r1-boundary", unit="part") as show:
        first = over(
            lambda weight, seed: train(weight, RATES[0], keys[seed], None, sizes["steps"]), (0, None), (None, 0)
        )
        reached = first(heavy, seeds)
        show(1, "trained")
        predicted, lost = np.full((len(weights), len(keys)), np.nan), np.zeros((len(weights), len(keys)), bool)
        spectra = np.full((len(weights), len(keys), LEADING), complex("nan"))
        for row, weight in enumerate(weights):
            for seed in range(len(keys)):
                players = players_at(reached, (row, seed))
                lost[row, seed] = bool(failed(weight, players))
                if not lost[row, seed]:
                    values = _steepest(exact(weight), players)
                    spectra[row, seed, : len(values)] = values[:LEADING]
                    predicted[row, seed] = largest_stable_rate(values)
            show(2 + row, f"spectra at the weight {weight:.3g}")
        places = (0, None, None, 0), (None, 0, None, None), (None, None, 0, 0)
        again = over(
            lambda weight, rate, seed, start: probed(weight, rate, keys[seed], start), *places
        )(heavy, fast, seeds, reached)  # fmt: skip
        show(2 + len(weights), "continued")
        fresh = over(
            lambda weight, rate, seed: probed(weight, rate, keys[seed], None), *(place[:3] for place in places)
        )(heavy, fast, seeds)  # fmt: skip
        show(3 + len(weights), "from the start")
    dims = ("weight", "rate", SEED)
    beyond = np.where(np.isnan(predicted[:, None]), np.nan, rates[:, None] > predicted[:, None])
    return xr.Dataset(
        {
            "predicted": (("weight", SEED), predicted),
            "lost": (("weight", SEED), lost.astype(float)),
            "eigenvalues": (("weight", SEED, "eigenvalue"), spectra),
            "predicted_failure": (dims, beyond),
            CONTINUED: (dims, np.asarray(again, float)),
            FRESH: (dims, np.asarray(fresh, float)),
        },
        {"weight": weights, "rate": rates},
    )


def _steepest(game: GAN, players: Players) -> Complex[np.ndarray, " k"]:
    """The eigenvalues of the field's Jacobian that are largest in modulus."""
    update = Simultaneous(optax.sgd(LARGE), optax.sgd(LARGE))
    leading = Leading(LEADING, bound=0, conditions=False)
    report = stability(game, update, update.init(game, players), leading=leading)
    return (np.asarray(report.eigenvalues) - 1) / LARGE


def findings(dataset: "xr.Dataset") -> list[str]:
    """What the numbers say: the predicted rates, and how well they tell which trainings fail."""
    lines = []
    predicted = dataset["predicted"].transpose("weight", SEED).values
    for weight, row in zip(dataset["weight"].values, predicted, strict=True):
        mean, low, high = np.exp(mean_and_error(np.log(row[np.isfinite(row)])))
        lines.append(
            f"R1({weight:.3g}): the spectrum allows rates up to {mean:.3g} ({low:.3g} to {high:.3g}), in the "
            "geometric mean."
        )
    lost = int(dataset["lost"].sum())
    if lost:
        lines.append(f"{lost} of {dataset['lost'].size} first trainings fail already, and have no prediction.")
    beyond = dataset["predicted_failure"].transpose("weight", "rate", SEED).values
    known = np.isfinite(beyond)
    for name, said in ((CONTINUED, "continued from this state"), (FRESH, "from the start")):
        failed = dataset[name].transpose("weight", "rate", SEED).values
        right, low, high = mean_and_error((failed == beyond)[known].astype(float), share=True)
        above, below = failed[known & (beyond == 1)], failed[known & (beyond == 0)]
        lines.append(
            f"{said}: {int(above.sum())} of {above.size} trainings above the predicted rate fail, and "
            f"{int(below.sum())} of {below.size} below it; the prediction is right for {right:.0%} ({low:.0%} to "
            f"{high:.0%})."
        )
        ratios = _ratios(dataset["rate"].values, failed, predicted)
        if ratios.size > 1:
            middle, low, high = np.exp(mean_and_error(np.log(ratios)))
            lines.append(
                f"{said}: the lowest rate that fails is {middle:.2f} times the predicted one ({low:.2f} to "
                f"{high:.2f}), between neighbours of the grid, where {ratios.size} of {predicted.size} have both."
            )
    return lines


def _ratios(rates: np.ndarray, failed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The rate, midway between the last that does not fail and the first that does, over the predicted one."""
    ratios = []
    for row, seed in np.argwhere(np.isfinite(predicted)):
        fails = np.flatnonzero(failed[row, :, seed])
        if fails.size and fails[0] > 0:
            ratios.append(np.sqrt(rates[fails[0] - 1] * rates[fails[0]]) / predicted[row, seed])
    return np.array(ratios)
