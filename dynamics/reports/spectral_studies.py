"""Results of a study of spectra as sentences, as plain data, and as a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamics._plain import plain
from dynamics.experiments.spectral_study import SpectralStudy
from dynamics.reports._folder import about, how_to_repeat, listed, writer

if TYPE_CHECKING:
    import xarray as xr

EIGENVALUES, COURSE, FAILURES = "eigenvalues.png", "course.png", "failures.png"
PICTURES = {
    "numerics": {EIGENVALUES: "Eigenvalues of the step, all seeds", COURSE: "Means along the training"},
    "r1-boundary": {FAILURES: "Failures, and the predicted largest rates"},
}
NUMBERS = ("results.json", "report.md")


def to_json(study: SpectralStudy, dataset: "xr.Dataset") -> dict[str, Any]:
    """Settings, findings and all numbers; complex numbers as pairs, `None` for what is not finite."""
    return plain(
        {
            **about(study),
            "axes": {str(name): column.values.tolist() for name, column in dataset.coords.items()},
            "values": {
                str(name): {"axes": list(map(str, column.dims)), "values": column.values}
                for name, column in dataset.data_vars.items()
            },
            "findings": study.findings(dataset),
        }
    )


def summary(study: SpectralStudy, dataset: "xr.Dataset") -> str:
    """What the numbers say, a line each."""
    return listed(study.title, study.findings(dataset))


def markdown(study: SpectralStudy, dataset: "xr.Dataset", command: str | None = None) -> str:
    """The report: what the numbers say, pictures, the means with their intervals, how to do it again."""
    lines = [f"# {study.title}", "", *(f"- {line}" for line in study.findings(dataset)), "", study.about, ""]
    for name, said in PICTURES[study.name].items():
        lines += [f"![{said}]({name})", ""]
    means = study.means(dataset)
    heads = [*study.axes, *(name.replace("_", " ") for name in study.measures)]
    lines += [
        "## Means",
        "",
        f"Of {dataset.sizes['seed']} seeds; in brackets the interval of 95 % of the mean (Student's t, and Wilson's "
        "score for shares).",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    stacked = means.stack(cell=study.axes)
    for number in range(stacked.sizes["cell"]):
        cell = stacked.isel(cell=number)
        shown = [_number(cell[axis].item()) for axis in study.axes]
        for name in study.measures:
            mean, low, high = (float(cell[name + end]) for end in ("", "_low", "_high"))
            shown.append(f"{mean:.3g} ({low:.3g} to {high:.3g})")
        lines.append("| " + " | ".join(shown) + " |")
    lines += how_to_repeat(study.settings, command or f"dynamics run {study.name}")
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _draw(study: SpectralStudy, dataset: "xr.Dataset", name: str, path: Path) -> None:
    from dynamics import plots

    seeds = dataset.sizes["seed"]
    if name == EIGENVALUES:
        figure = plots.eigenvalue_clouds(
            dataset, title=study.title, subtitle=f"of the step's Jacobian, {seeds} seeds in every panel"
        )
    elif name == COURSE:
        said = f"means of {seeds} seeds and their intervals of 95 %"
        figure = plots.comparison(study.means(dataset), axis="step", title=study.title, subtitle=said)
    else:
        said = f"share of {seeds} seeds that fail; lines: where the spectrum says that the step becomes unstable"
        figure = plots.failures(dataset, title=study.title, subtitle=said)
    plots.save(figure, path)


def pictures(study: SpectralStudy) -> tuple[str, ...]:
    """Names of the files with pictures."""
    return tuple(PICTURES[study.name])


write = writer(to_json, markdown, _draw, pictures)
