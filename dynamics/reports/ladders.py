"""Results of the ladder as sentences, as plain data, and as a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynamics._plain import plain
from dynamics.experiments.ladder import BLUR, FLOORS, IN_TIME, MEANS, SPREAD, START, Ladder, findings, reached
from dynamics.reports._folder import about, how_to_repeat, listed, writer

if TYPE_CHECKING:
    import xarray as xr

DIVERGENCES, SPECTRA, DENSITIES = "divergences.png", "spectra.png", "densities.png"
FILES = ("results.json", "report.md", DIVERGENCES, SPECTRA, DENSITIES)
GAINED = {
    FLOORS[0]: "a proof: every f-divergence falls, one real spectrum, no rotation",
    FLOORS[1]: "a game of two that R1 damps, with the spectrum of an operator; lost: the divergence may rise",
    FLOORS[2]: "samples; lost: densities between them, a unique equilibrium",
    FLOORS[3]: "a generator for any latent, few numbers; lost: convexity in q and in the score, the closed form",
    FLOORS[4]: "steps that cost little; lost: the point of rest",
    FLOORS[5]: "half the memory; lost: steps below half the distance of neighbours",
    FLOORS[6]: "small steps on average; lost: rest, and the same result without a key",
}


def to_json(ladder: Ladder, dataset: "xr.Dataset") -> dict[str, Any]:
    """Settings, findings and all numbers; complex numbers as pairs, `None` for what is not finite."""
    return plain(
        {
            **about(ladder),
            "axes": {str(name): column.values.tolist() for name, column in dataset.coords.items()},
            "values": {str(name): column.values for name, column in dataset.data_vars.items()},
            "findings": findings(ladder, dataset),
        }
    )


def summary(ladder: Ladder, dataset: "xr.Dataset") -> str:
    """What the numbers say, a line each."""
    return listed(ladder.title, findings(ladder, dataset))


def markdown(ladder: Ladder, dataset: "xr.Dataset", command: str | None = None) -> str:
    """The report: what the numbers say, three pictures, a table, how to do it again."""
    lines = [f"# {ladder.title}", "", *(f"- {line}" for line in findings(ladder, dataset)), ""]
    lines += [
        f"Data: Gaussians around {MEANS[0]:g} and {MEANS[1]:g} with standard deviation {SPREAD:g}; the models of the "
        f"floors without networks start as N({START[0]:g}, {START[1]:g}²). Objective: non-saturating, with "
        f"R1({ladder.gamma:g}). Flows by Euler steps of {ladder.step:g}, in the geometries of transport and of L2 of "
        f"the data; networks by alternating Adam at {ladder.rate:g}, falling to 0. Divergences are Jensen-Shannon's of "
        f"both sides blurred by {BLUR:g}.",
        "",
        f"![Divergence along training]({DIVERGENCES})",
        "",
        f"![Spectra, floor by floor]({SPECTRA})",
        "",
        f"![Model and data at the end]({DENSITIES})",
        "",
        "| floor | numbers | divergence reached | largest real part but 0 | slope of its logarithm | what it brings |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, (name, value) in enumerate(zip(FLOORS, reached(dataset), strict=True)):
        row = dataset.isel(floor=number)
        slope, unit = float(row["rate"]), "time" if number < IN_TIME else "step"
        said = f"{slope:.3g} per {unit}" if np.isfinite(slope) else "-"
        cells = (name, str(int(row["variables"])), f"{value:.2g}", f"{float(row['abscissa']):.3g}", said, GAINED[name])
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Spectra are those of the field's Jacobian: at the equilibrium for densities, at the end of the run of the "
        "first seed for particles and networks, with exact expectations, in full precision, along the plain gradient "
        "of networks (not Adam's step). A divergence falls at twice the rate of its slowest mode. Slopes are fitted "
        "over the later half of what is above the level that is reached; a dash: too little has fallen.",
    ]
    lines += how_to_repeat(ladder.settings, command or f"dynamics run {ladder.name}")
    return "\n".join(lines) + "\n"


def _draw(ladder: Ladder, dataset: "xr.Dataset", name: str, path: Path) -> None:
    from dynamics import plots

    if name == DIVERGENCES:
        said = f"both sides blurred by {BLUR:g}; networks: {ladder.seeds} seeds, thick: geometric mean"
        plots.save(plots.ladder_divergences(dataset, flows=IN_TIME, subtitle=said), path)
    elif name == SPECTRA:
        said = "of the field: at the equilibrium for densities, at the end of a run for particles and networks"
        plots.save(plots.ladder_spectra(dataset, subtitle=said), path)
    else:
        plots.save(plots.ladder_densities(dataset, subtitle="first seed; grey: the data"), path)


write = writer(to_json, markdown, _draw, (DIVERGENCES, SPECTRA, DENSITIES))
