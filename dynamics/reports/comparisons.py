"""Results of a comparison as sentences, as plain data, and as a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamics._plain import plain
from dynamics.experiments.comparison import VARIANT, Comparison
from dynamics.reports._folder import about, how_to_repeat, listed, writer

if TYPE_CHECKING:
    import xarray as xr

PICTURE, PARTICLES, MOTION, CELLS = "comparison.png", "particles.png", "particles.gif", "cells"
FILES = ("results.json", "report.md", PICTURE)


def to_json(comparison: Comparison, dataset: "xr.Dataset") -> dict[str, Any]:
    """Settings, findings, and every measure of every training; what is not finite becomes `None`."""
    names = [VARIANT, *comparison.axes, "seed"]
    return plain(
        {
            **about(comparison),
            "axes": {name: dataset[name].values.tolist() for name in names},
            "measures": {str(name): column.transpose(*names).values for name, column in dataset.data_vars.items()},
            "findings": comparison.findings(dataset),
        }
    )


def summary(comparison: Comparison, dataset: "xr.Dataset") -> str:
    """What the numbers say, a line each."""
    return listed(comparison.title, comparison.findings(dataset))


def markdown(comparison: Comparison, dataset: "xr.Dataset", command: str | None = None) -> str:
    """The report: what the numbers say, the means with their intervals, how to do it again."""
    means = comparison.means(dataset)
    names = [str(name) for name in means.data_vars if f"{name}_low" in means]
    heads = [VARIANT, *comparison.axes, *(name.replace("_", " ") for name in names)]
    lines = [f"# {comparison.title}", "", *(f"- {line}" for line in comparison.findings(dataset)), ""]
    lines += [f"![Means]({PICTURE})", ""]
    if comparison.illustrated is not None:
        said = f"of {comparison.illustrated}, the first seed"
        lines += [
            f"![The way {said}, and the discriminator at its end]({PARTICLES})",
            "",
            f"![The same {said}]({MOTION})",
            "",
        ]
    lines += ["## Means", ""]
    lines += [
        f"Of {comparison.seeds} seeds and {comparison.steps} steps each; in brackets the interval of 95 % of the mean "
        "(Student's t, and Wilson's score for shares).",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    stacked = means.stack(cell=(VARIANT, *comparison.axes))
    for number in range(stacked.sizes["cell"]):
        cell = stacked.isel(cell=number)
        shown = [str(cell[VARIANT].item()), *(f"{float(cell[axis]):.3g}" for axis in comparison.axes)]
        ends = ((float(cell[name]), float(cell[name + "_low"]), float(cell[name + "_high"])) for name in names)
        shown += [f"{mean:.3g} ({low:.3g} to {high:.3g})" for mean, low, high in ends]
        lines.append("| " + " | ".join(shown) + " |")
    lines += how_to_repeat(comparison.settings, command or f"dynamics run {comparison.name}")
    return "\n".join(lines) + "\n"


def _draw(comparison: Comparison, dataset: "xr.Dataset", name: str, path: Path) -> None:
    from dynamics import plots

    if name != PICTURE:
        _draw_illustration(comparison, name, path)
        return
    said = f"means of {comparison.seeds} seeds and their intervals of 95 %"
    axis = next(iter(comparison.axes))
    means, published = comparison.means(dataset), comparison.published
    options = {"title": comparison.title, "subtitle": said, "published": published}
    plots.save(plots.comparison(means, axis=axis, **options), path)


def _draw_illustration(comparison: Comparison, name: str, path: Path) -> None:
    from dynamics import plots
    from dynamics.function_space import RetrainedKernelGAN, landscape

    game, run = comparison.illustration()
    assert isinstance(game, RetrainedKernelGAN)
    options: dict[str, Any] = {"title": comparison.title, "subtitle": f"{comparison.illustrated}, first seed"}
    if name == PARTICLES:
        ground = landscape(game, run.final)
        plots.save(plots.particles(run.players[0], game.data, ground, **options), path)
    else:
        plots.animate(run, data=game.data, **options).save(path)


def pictures(comparison: Comparison) -> tuple[str, ...]:
    """Names of the files with pictures."""
    return (PICTURE,) if comparison.illustrated is None else (PICTURE, PARTICLES, MOTION)


write = writer(to_json, markdown, _draw, pictures)
