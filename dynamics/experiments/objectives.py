"""Every objective of the catalogue under the same three small GANs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

import dynamics.catalogue as catalogue
import dynamics.objectives as objectives
from dynamics._checks import as_whole
from dynamics.experiments.comparison import mean_and_error
from dynamics.experiments.survey import RATIOS, Entry, Survey

if TYPE_CHECKING:
    import xarray as xr

LEFT_OUT = {
    "FGAN": "its divergence is that of whatever f it is given; without one it is KL, which is here",
}
ZERO_SUM, OTHER, SCORES, MARGINS = "f-divergences", "non-saturating", "scoring rules", "squares and margins"
ALPHAS, DISTANCES, RELATIVE, MORE = "two alphas", "kernels and Wasserstein", "relativistic", "others"
FALLEN = 1e-3  # of the divergence at the start: below it a training of the Gaussian GAN has arrived


def objectives_survey(
    *,
    gamma: float = 0.3,
    step: float = 0.2,
    steps: int = 400,
    mixture_rate: float = 0.02,
    mixture_steps: int = 1000,
    mixture_gamma: float = 0.1,
    width: int = 8,
    seeds: int = 5,
) -> Survey:
    """Every objective on the Dirac-GAN, a Gaussian GAN and a one-dimensional mixture, in two minutes on two cores.

    Of each: the ideal loss of the discriminator; its divergence of N(0.5, 0.8^2) from N(0, 1); the weight of the
    generator's gradient against the density ratio; eigenvalues at the equilibrium of the Dirac-GAN and of a Gaussian
    GAN (critic of degree 2, generator of a shift and a scale), with and without R1, and the longest stable steps of
    simultaneous and of alternating gradient descent; the divergence while the Gaussian GAN is trained by alternating
    gradient descent, and while small networks are trained by alternating Adam on a mixture of two Gaussians, with a
    fixed rate and with gap-aware scheduling. The discriminator's score is the ideal one where its parameters are 0.
    Source of the spectra: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge?, 2018, for
    the Dirac-GAN; those of the Gaussian GAN and the closed form for any objective are ours.

    Args:
        gamma: weight of R1 on the Dirac-GAN and on the Gaussian GAN.
        step: of alternating gradient descent on the Gaussian GAN.
        steps: of it.
        mixture_rate: of Adam on the mixture, for both players; the schedule changes the discriminator's.
        mixture_steps: of it.
        mixture_gamma: weight of R1 on the mixture.
        width: units in the hidden layer of both networks.
        seeds: starts of the networks.

    Raises:
        ValueError: a number is out of bounds.

    >>> len(objectives_survey().entries)
    45
    """
    settings = dict(locals())
    for name in ("gamma", "step", "mixture_rate", "mixture_gamma"):
        if not 0 < settings[name] < np.inf:
            raise ValueError(f"{name} is {settings[name]}; expected a finite number > 0")
    for name in ("steps", "mixture_steps", "width", "seeds"):
        as_whole(name, settings[name])
    return Survey(
        name="objectives",
        title="Objectives of GANs as dynamics",
        entries=entries(),
        left_out=LEFT_OUT,
        findings=findings,
        settings=settings,
        **settings,
    )


def entries() -> Mapping[str, Entry]:
    """Objectives by name, by family; what else the catalogue has comes last, as it is by default."""
    o = objectives
    families: dict[str, dict[str, objectives.Objective]] = {
        ZERO_SUM: {
            "Minimax": o.Minimax(),
            "KL": o.KL(),
            "ReverseKL": o.ReverseKL(),
            "Pearson": o.Pearson(),
            "Neyman": o.Neyman(),
            "SquaredHellinger": o.SquaredHellinger(),
            "JensenShannon": o.JensenShannon(),
            "TotalVariation": o.TotalVariation(),
        },
        OTHER: {
            "NonSaturating": o.NonSaturating(),
            "KL NS": o.KL(saturating=False),
            "ReverseKL NS": o.ReverseKL(saturating=False),
            "Pearson NS": o.Pearson(saturating=False),
            "Neyman NS": o.Neyman(saturating=False),
            "SquaredHellinger NS": o.SquaredHellinger(saturating=False),
            "JensenShannon NS": o.JensenShannon(saturating=False),
        },
        SCORES: {
            "Brier": o.Brier(),
            "Brier NS": o.Brier(saturating=False),
            "Exponential": o.Exponential(),
            "Spherical": o.Spherical(),
            "Spherical NS": o.Spherical(saturating=False),
            "Misclassification": o.Misclassification(),
        },
        MARGINS: {
            "LeastSquares": o.LeastSquares(),
            "LeastSquares(0, 1, 1)": o.LeastSquares(0.0, 1.0, 1.0),
            "LeastSquares zero-sum": o.LeastSquares(zero_sum=True),
            "Hinge": o.Hinge(),
            "MDGAN": o.MDGAN(),
            "PGAN": o.PGAN(),
        },
        ALPHAS: {
            "AlphaLoss": o.AlphaLoss(),
            "AlphaLoss(0.3, 1)": o.AlphaLoss(0.3, 1.0),
            "AlphaLoss(0.5, 1)": o.AlphaLoss(0.5, 1.0),
            "AlphaLoss(0.5, 0.5)": o.AlphaLoss(0.5, 0.5),
            "AlphaLoss(2, 2)": o.AlphaLoss(2.0, 2.0),
            "AlphaLoss(0.5, 1.2) NS": o.AlphaLoss(0.5, 1.2, saturating=False),
        },
        DISTANCES: {
            "Wasserstein": o.Wasserstein(),
            "GaussianMMD": o.GaussianMMD(),
            "RationalQuadraticMMD": o.RationalQuadraticMMD(),
            "EnergyDistance": o.EnergyDistance(),
        },
        RELATIVE: {
            "RelativisticPaired": o.RelativisticPaired(),
            "RelativisticPaired zero-sum": o.RelativisticPaired(saturating=True),
            "RelativisticPaired squares": o.RelativisticPaired("squares"),
            "RelativisticPaired hinge": o.RelativisticPaired("hinge"),
            "RelativisticAverage": o.RelativisticAverage(),
            "RelativisticAverage squares": o.RelativisticAverage("squares"),
            "RelativisticCentred": o.RelativisticCentred(),
            "RelativisticCentred squares": o.RelativisticCentred("squares"),
        },
    }
    result = {name: Entry(one, family) for family, members in families.items() for name, one in members.items()}
    covered = {type(entry.objective).__name__ for entry in result.values()} | set(LEFT_OUT)
    new = {name: cls for name, cls in catalogue.members("objectives").items() if name not in covered}
    return result | {name: Entry(cls(), MORE) for name, cls in new.items()}


def findings(survey: Survey, dataset: "xr.Dataset") -> list[str]:
    """What the numbers say, of all objectives together."""
    return [*_of_weights(dataset), *_of_spectra(dataset), *_of_training(survey, dataset), *_of_rates(dataset)]


def _named(dataset: "xr.Dataset", chosen: np.ndarray) -> str:
    names = [str(name) for name, here in zip(dataset["objective"].values, chosen, strict=True) if here]
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def _of_weights(dataset: "xr.Dataset") -> list[str]:
    weight = dataset["weight"].transpose("objective", "ratio").values
    near = [int(np.argmin(np.abs(np.log(RATIOS / r)))) for r in (0.01, 1.0)]
    low, middle = np.abs(weight[:, near[0]]), np.abs(weight[:, near[1]])
    known = np.isfinite(low) & np.isfinite(middle) & (middle > 0)
    share = np.divide(low, middle, out=np.full_like(low, np.nan), where=known)
    nothing = np.isfinite(middle) & np.all(weight == 0, axis=1)
    negative = np.nanmin(np.where(np.isfinite(weight), weight, np.inf), axis=1) < 0
    return [
        "The weight of the generator's gradient where fakes are a hundred times too frequent (r = 0.01), beside that "
        f"at r = 1, is below a tenth, a vanishing gradient, for {_named(dataset, known & (share < 0.1))}.",
        f"It is more than ten times as large, an exploding one, for {_named(dataset, known & (share > 10))}.",
        f"It is 0 for all ratios, so that an ideal discriminator says nothing, for {_named(dataset, nothing)}.",
        f"It is negative somewhere (fakes that look too good are pushed back) for {_named(dataset, negative)}.",
    ]


def _of_spectra(dataset: "xr.Dataset") -> list[str]:
    lines = []
    without = dataset["alternating"].sel(penalty="none")
    for game in ("Dirac", "Gaussian"):
        steps = without.sel(game=game).values
        moves = np.isfinite(steps)
        lines.append(
            f"{game} GAN without a penalty: {int((moves & (steps > 0)).sum())} of {int(moves.sum())} objectives "
            "without a neutral direction have stable steps of alternating descent."
        )
        penalised = dataset.sel(penalty="R1", game=game)
        both = np.isfinite(penalised["simultaneous"].values)
        gain = penalised["alternating"].values[both] / penalised["simultaneous"].values[both]
        lines.append(
            f"{game} GAN with R1: the longest step of alternating descent is {np.nanmin(gain):.2g} to "
            f"{np.nanmax(gain):.2g} times that of simultaneous descent (median {np.nanmedian(gain):.2g})."
        )
    neutral = ~np.isfinite(dataset["alternating"].sel(penalty="R1", game="Gaussian").values)
    lines.append(f"An eigenvalue 0 with R1, so that the linear part does not decide: {_named(dataset, neutral)}.")
    return lines


def arrived(dataset: "xr.Dataset") -> np.ndarray:
    """Which trainings of the Gaussian GAN end with a thousandth of the Jensen-Shannon divergence of the start."""
    common = dataset["gaussian_jensen_shannon"].transpose("objective", "gaussian_step").values
    return common[:, -1] < FALLEN * common[:, 0]


def _of_training(survey: Survey, dataset: "xr.Dataset") -> list[str]:
    radius = dataset["gaussian_radius"].values
    there = arrived(dataset)
    fast = radius**survey.steps < FALLEN**0.5  # the divergence is quadratic in the distance
    decided = np.isfinite(dataset["alternating"].sel(penalty="R1", game="Gaussian").values)
    return [
        f"Gaussian GAN, {survey.steps} steps of {survey.step:g} with R1: {int(there.sum())} of {there.size} end with "
        f"less than a thousandth of the Jensen-Shannon divergence of the start; the eigenvalues say so of "
        f"{int((fast & decided).sum())}, and both agree on {int((fast & decided == there).sum())}.",
        f"They differ for {_named(dataset, fast & decided != there)}.",
    ]


def _of_rates(dataset: "xr.Dataset") -> list[str]:
    ends = dataset["mixture_jensen_shannon"].transpose("objective", "rate", "seed", "mixture_step").values[..., -1]
    log_ratio = np.log(ends[:, 1] / ends[:, 0])
    _, low, high = mean_and_error(log_ratio)
    # All objectives share the starts: a seed is what is drawn independently.
    overall, least, most = mean_and_error(np.nanmean(log_ratio, axis=0))
    said = "lower" if most < 0 else "higher" if least > 0 else "no difference can be seen"
    return [
        "Mixture, Jensen-Shannon divergence at the end, gap-aware beside fixed, with 95 % each: "
        f"{_named(dataset, high < 0)} lower, {_named(dataset, low > 0)} higher; of {len(low)} intervals about "
        f"{len(low) / 20:.0f} leave out the truth by chance.",
        f"Over all objectives the ratio is {np.exp(overall):.2f} ({np.exp(least):.2f} to {np.exp(most):.2f}, over the "
        f"seeds): {said}.",
    ]
