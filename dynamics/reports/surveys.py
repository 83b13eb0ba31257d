"""Results of a survey of objectives as sentences, as plain data, and as a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynamics._plain import plain
from dynamics.experiments.survey import BLUR, RATIOS, Survey
from dynamics.reports._folder import about, how_to_repeat, listed, writer

if TYPE_CHECKING:
    import xarray as xr

WEIGHTS, DIVERGENCES, RATES = "weights.png", "divergences.png", "rates.png"
ROUNDING = 1e-12  # of a divergence: below it there is nothing to be read
FILES = ("results.json", "report.md", WEIGHTS, DIVERGENCES, RATES)


def to_json(survey: Survey, dataset: "xr.Dataset") -> dict[str, Any]:
    """Settings, findings and all numbers; complex numbers as pairs, `None` for what is not finite."""
    axes = {str(name): column.values.tolist() for name, column in dataset.coords.items()}
    return plain(
        {
            **about(survey),
            "axes": axes,
            "values": {str(name): column.values for name, column in dataset.data_vars.items()},
            "left_out": dict(survey.left_out),
            "findings": survey.findings(survey, dataset),
        }
    )


def summary(survey: Survey, dataset: "xr.Dataset") -> str:
    """What the numbers say, a line each."""
    return listed(survey.title, survey.findings(survey, dataset))


def markdown(survey: Survey, dataset: "xr.Dataset", command: str | None = None) -> str:
    """The report: what the numbers say, three pictures, two tables, how to do it again."""
    lines = [f"# {survey.title}", "", *(f"- {line}" for line in survey.findings(survey, dataset)), ""]
    lines += [f"![Weight of the generator's gradient]({WEIGHTS})", ""]
    lines += [f"![Divergence along training]({DIVERGENCES})", "", f"![Gap-aware and fixed rates]({RATES})", ""]
    lines += ["## What is known of each", ""]
    lines += [
        "The divergence in words (NS: non-saturating). For data N(0.5, 0.8²) and a model N(0, 1), distances in units "
        "of 0.8: by how much the best discriminator is below the ideal loss, and the divergence that the generator "
        "goes downhill on while that discriminator is held fixed (numbers within 1e-4). The ideal loss of the "
        "discriminator; the weight of the generator's gradient where the ratio of data to model is 0.01, 1 and 100. A "
        "dash: not known, or no function of the ratio alone.",
        "",
        *_table(
            ("objective", "divergence", "gain", "descended", "ideal loss", "w(0.01)", "w(1)", "w(100)"),
            [
                (str(row["objective"].item()), survey.entries[str(row["objective"].item())].objective.divergence)
                + (_number(row["reference_divergence"], 4), _number(row["reference_descended"], 4))
                + (_number(row["ideal_loss"], 5),)
                + tuple(_number(row["weight"].values[_nearest(ratio)], 3) for ratio in (0.01, 1.0, 100.0))
                for row in _rows(dataset)
            ],
        ),
        "",
        "## At the equilibrium, and along training",
        "",
        f"Eigenvalues of the field's Jacobian: of the Dirac-GAN with R1({survey.gamma:g}), and of the Gaussian GAN "
        "without a penalty. Longest stable steps, of simultaneous and of alternating gradient descent (generator "
        f"first), with R1({survey.gamma:g}): 0 where none is stable, a dash where an eigenvalue is 0. Jensen-Shannon "
        f"divergence at the end: of the Gaussian GAN after {survey.steps} alternating steps of {survey.step:g} with "
        f"R1({survey.gamma:g}), and of the mixture, blurred by {BLUR:g}, after {survey.mixture_steps} steps of "
        f"alternating Adam at {survey.mixture_rate:g} with R1({survey.mixture_gamma:g}), the geometric mean of "
        f"{survey.seeds} seeds.",
        "",
        *_table(
            ("objective", "Dirac: eigenvalues", "longest steps", "Gaussian: eigenvalues", "longest steps")
            + ("Gaussian at the end", "mixture, fixed", "mixture, gap-aware"),
            [
                (str(row["objective"].item()), _complex(row["eigenvalues_dirac"].sel(penalty="R1").values))
                + (_pair(row, "Dirac"), _complex(row["eigenvalues_gaussian"].sel(penalty="none").values))
                + (_pair(row, "Gaussian"), _number(row["gaussian_jensen_shannon"].values[-1], 2))
                + tuple(_number(_geometric(row, rate), 2) for rate in dataset["rate"].values)
                for row in _rows(dataset)
            ],
        ),
    ]
    lines += ["", "Left out: " + "; ".join(f"{name} ({why})" for name, why in survey.left_out.items()) + "."]
    lines += how_to_repeat(survey.settings, command or f"dynamics run {survey.name}")
    return "\n".join(lines) + "\n"


def _draw(survey: Survey, dataset: "xr.Dataset", name: str, path: Path) -> None:
    from dynamics import plots

    if name == WEIGHTS:
        said = "a fake sample moves the generator's loss by -weight x the gradient of log r, for the best discriminator"
        plots.save(plots.survey_weights(dataset, subtitle=said), path)
    elif name == DIVERGENCES:
        said = (
            "Gaussian GAN: alternating descent with R1, shown down to 1e-8; mixture: Adam, Jensen-Shannon the mean of "
            f"{survey.seeds} seeds, its divergence of the first"
        )
        plots.save(plots.survey_divergences(dataset, subtitle=said), path)
    else:
        said = f"small networks on a mixture, {survey.seeds} seeds"
        plots.save(plots.survey_rates(dataset, subtitle=said), path)


write = writer(to_json, markdown, _draw, (WEIGHTS, DIVERGENCES, RATES))


def _rows(dataset: "xr.Dataset") -> list["xr.Dataset"]:
    return [dataset.isel(objective=number) for number in range(dataset.sizes["objective"])]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = (heads, ("---",) * len(heads), *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines]


def _nearest(ratio: float) -> int:
    return int(np.argmin(np.abs(np.log(RATIOS / ratio))))


def _number(value: Any, digits: int) -> str:
    number = float(value)
    if np.isinf(number):
        return "infinite"
    if 0 < abs(number) < ROUNDING:
        return f"< {ROUNDING:g}"
    return f"{number + 0.0:.{digits}g}" if np.isfinite(number) else "-"


def _pair(row: "xr.Dataset", game: str) -> str:
    chosen = row.sel(game=game, penalty="R1")
    return ", ".join(_number(chosen[name], 3) for name in ("simultaneous", "alternating"))


def _geometric(row: "xr.Dataset", rate: str) -> float:
    return float(np.exp(np.log(row["mixture_jensen_shannon"].sel(rate=rate).values[:, -1]).mean()))


def _complex(values: np.ndarray) -> str:
    """Eigenvalues as text, conjugate pairs as one.

    >>> _complex(np.array([-0.5 + 1j, -0.5 - 1j, -2.0 + 0j]))
    '-0.5 ± 1i, -2'
    """
    texts = []
    for value in values:
        real = f"{value.real + 0.0:.3g}"
        if value.imag > 0:
            texts.append(f"{'' if value.real == 0 else real + ' '}± {value.imag:.3g}i")
        elif value.imag == 0:
            texts.append(real)
    return ", ".join(texts)
