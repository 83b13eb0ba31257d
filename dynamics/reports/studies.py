"""Results of a study as text, as a table for the terminal, as plain data, and as a folder of files."""

import collections
import contextlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dynamics._files import aside, put_in_place
from dynamics._text import printable
from dynamics.studies.results import BasinsOfCell, Cell, EigenvaluesOfCell, Results, Series

PICTURES = {
    "outcomes": "What became of every cell",
    "portraits": "Vector fields and trajectories",
    "spectra": "Eigenvalues",
    "rates": "Predicted against measured rates",
}
# Of tables of a study, each with a picture: `basins.png`, `basins-2.png`, ...
FIGURES = {
    "series": "Players over time",
    "basins": "Basins of attraction",
    "eigenvalues": "Eigenvalues over a number",
}
FILES = ("report.md", "results.json", "results.nc", "study.toml", *(f"{name}.png" for name in PICTURES))

_NUMBERED = re.compile(rf"({'|'.join(FIGURES)})(-\d+)?\.png")

MOST_COLUMNS = 12  # methods beside each other in a table; more of them are its rows
MOST_LISTED = 200  # cells of one explanation that the report lists one by one

_LETTERS = {
    "converged": "C",
    "cycling": "O",
    "diverged": "D",
    "undecided": "?",
    "chaotic": "X",
    "stalled": "S",
    "power_law": "P",
    "not_a_number": "N",
}
_ORDER = list(_LETTERS)
_FLAGS = {"agrees": "", "untested": "~", "explained": "*", "unexplained": "!"}
_STYLES = {
    "converged": "blue",
    "cycling": "yellow",
    "diverged": "red",
    "undecided": "dim",
    "chaotic": "magenta",
    "stalled": "green",
    "power_law": "cyan",
    "not_a_number": "reverse",
}


def table(results: Results) -> Any:
    """A `rich` table for the terminal: a row per game, objective and penalty, a column per method; or the other way
    round where there are many methods.

    An entry holds the outcomes as map and as flow; with numeric axes it counts them. The caption says what the letters
    mean.
    """
    import rich.box
    from rich.table import Table
    from rich.text import Text

    cells = results.cells
    kinds = [boundary.kind for boundary in results.boundaries()]
    methods = _unique(cell.method for cell in cells)
    seen = {cell.outcome for cell in cells}
    meaning = ", ".join(f"{letter} {name.replace('_', ' ')}" for name, letter in _LETTERS.items() if name in seen)
    both = f"{' / '.join(kinds)}: {meaning}"
    caption = f"{both}; "
    if results.counts()["untested"]:
        caption += f"{_FLAGS['untested']} untested: nothing is predicted, or the run is too short to show it; "
    caption += f"{_FLAGS['explained']} differs from the prediction and is explained, "
    caption += f"{_FLAGS['unexplained']} differs without explanation"
    grid = Table(
        title=Text(results.title or results.name),
        caption=Text(caption),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )

    def entry(cells_of_row: Sequence[Cell], method: str) -> Any:
        text = Text()
        for kind in kinds:
            if text:
                text.append("/", style="dim")
            _letters(text, [cell for cell in cells_of_row if cell.method == method and cell.kind == kind])
        return text

    games = {game: _by(rows, _objective_and_penalty) for game, rows in _by(cells, lambda cell: cell.game).items()}
    if len(methods) > MOST_COLUMNS:
        grid.add_column(Text("method"), no_wrap=True)
        for game, lines in games.items():
            for label in lines:
                grid.add_column(Text(", ".join(part for part in (game, label) if part)), justify="center")
        for method in methods:
            grid.add_row(
                Text(method),
                *(entry(cells_of_row, method) for lines in games.values() for cells_of_row in lines.values()),
            )
        return grid
    grid.add_column(Text("objective, penalty"), no_wrap=True)
    for method in methods:
        grid.add_column(Text(method), justify="center", overflow="fold")
    for i, (game, lines) in enumerate(games.items()):
        if i:
            grid.add_section()
        if "" not in lines:
            grid.add_row(Text(game, style="bold"))
        for label, cells_of_row in lines.items():
            entries = (entry(cells_of_row, method) for method in methods)
            grid.add_row(Text(f"  {label}") if label else Text(game, style="bold"), *entries)
    return grid


def _objective_and_penalty(cell: Cell) -> str:
    return ", ".join(part for part in (cell.objective, cell.penalty) if part)


def _letters(entry: Any, cells: Sequence[Cell]) -> None:
    """Append a letter per outcome, with the number of cells where there are several."""
    if not cells:
        entry.append("-", style="dim")
    tally = collections.Counter((cell.outcome, _FLAGS[cell.agreement]) for cell in cells)
    for i, ((outcome, flag), count) in enumerate(sorted(tally.items(), key=lambda item: _ORDER.index(item[0][0]))):
        number = f"{' ' if i else ''}{count}" if len(cells) > 1 else ""
        entry.append(f"{number}{_LETTERS[outcome]}", style=_STYLES[outcome])
        entry.append(flag, style="bold red" if flag == "!" else "bold")


def markdown(results: Results, command: str | None = None, pictures: Sequence[str] | None = None) -> str:
    """The report: what was asked, what came out, every disagreement with its explanation, how to do it again.

    Args:
        command: what was typed; by default a run of the resolved study.
        pictures: names of those that there are; by default all that are asked for.
    """
    untested, explained = (_groups(results, agreement) for agreement in ("untested", "explained"))
    numbers = {explanation: i for i, explanation in enumerate([*untested, *explained], 1)}
    parts = [
        f"# {_escaped(results.title or results.name)}",
        _summary(results),
        _asked(results),
        _pictures(results, _drawn(results) if pictures is None else pictures),
        _tables(results, numbers),
        _numbered("Untested", untested, numbers) if untested else "",
        _numbered("Disagreements that are explained", explained, numbers),
        _unexplained(results),
        _again(results, command),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(results: Results) -> str:
    counts = results.counts()
    lines = [results.describe(), ""]
    outcomes = _unique(cell.outcome for cell in results.cells)
    order = [name for name in _LETTERS if name in outcomes]
    lines += ["| predicted | " + " | ".join(order) + " | cells |", "|---|" + "--:|" * (len(order) + 1)]
    for verdict in ("stable", "unstable", "neutral", "marginal"):
        with_verdict = [cell for cell in results.cells if cell.predicted == verdict]
        if with_verdict:
            row = [str(sum(cell.outcome == name for cell in with_verdict)) for name in order]
            lines.append(f"| {verdict} | " + " | ".join(row) + f" | {len(with_verdict)} |")
    if counts["unexplained"]:
        lines += ["", "**The unexplained disagreements are listed [below](#disagreements-without-explanation).**"]
    return "\n".join(lines)


def _asked(results: Results) -> str:
    lines = ["## What was asked", ""]
    for name, plural in (
        ("game", "games"),
        ("objective", "objectives"),
        ("penalty", "penalties"),
        ("method", "methods"),
        ("kind", "kinds"),
    ):
        values = [value for value in _unique(getattr(cell, name) for cell in results.cells) if value]
        if values:
            lines.append(f"- {plural}: {', '.join(_escaped(value) for value in values)}")
    for name in _unique(name for cell in results.cells for name in cell.axes):
        values = sorted({cell.axes[name] for cell in results.cells if name in cell.axes})
        lines.append(f"- {_escaped(name)}: {len(values)} values from {values[0]:.6g} to {values[-1]:.6g}")
    for name, value in results.settings.items():
        if isinstance(value, (bool, int, float)):
            lines.append(f"- {_escaped(name)}: {value}")
    lines += [
        "",
        "Predicted is the verdict from the eigenvalues of the exact map's Jacobian, or the flow's, at the equilibrium; "
        "simulated is what became of a run from the study's start. The measured rate is that of a run from near the "
        "equilibrium, where the eigenvalues ought to rule. The whole study, with every default filled in, is in "
        "`study.toml`.",
    ]
    if _is_rounded(results.settings):
        lines += ["", "Predictions are those without rounding: in finite precision runs may stall, or stay on a floor."]
    return "\n".join(lines)


def _is_rounded(data: Any) -> bool:
    """Whether a table of the study is an update in finite precision."""
    if isinstance(data, dict):
        return data.get("name") == "Rounded" or any(map(_is_rounded, data.values()))
    return isinstance(data, (list, tuple)) and any(map(_is_rounded, data))


def _pictures(results: Results, drawn: Sequence[str]) -> str:
    """The pictures, and below those that have numbers what these are."""
    if not drawn:
        return ""
    blocks = [f"![{PICTURES[name]}]({name}.png)" for name in drawn if name in PICTURES]
    for name, figure in results.figures().items():
        if name in drawn:
            title, *lines = figure.describe().splitlines()
            about = [f"### {FIGURES[figure.file]}", _escaped(title), f"![{FIGURES[figure.file]}]({name}.png)"]
            blocks += ["\n\n".join(about), "\n".join(f"- {_escaped(line)}" for line in lines)]
    return "## Pictures\n\n" + "\n\n".join(blocks)


def _drawn(results: Results) -> list[str]:
    """The pictures that are asked for and for which there is something to draw."""
    cells = [name for name in PICTURES if name in results.draw and (results.portraits or name != "portraits")]
    return [*cells, *results.figures()]


def _tables(results: Results, numbers: dict[tuple[str, str], int]) -> str:
    lines = [
        "## Every cell",
        "",
        "Predicted → simulated. ✓ as predicted; untested (n): nothing is predicted, or the run is too short to show "
        "it; (n): it differs. Why, is said below under the number. **!** differs without explanation.",
    ]
    for game, rows in _by(results.cells, lambda cell: cell.game).items():
        methods = _unique(cell.method for cell in rows)
        lines += ["", f"### {_escaped(game)}", ""]
        heads = [
            name
            for name, wanted in (
                ("objective", any(c.objective for c in rows)),
                ("penalty", any(c.penalty for c in rows)),
                ("kind", True),
            )
            if wanted
        ]
        groups = list(_by(rows, lambda cell: (cell.objective, cell.penalty, cell.kind)).values())
        names = [[_escaped(getattr(group[0], name)) for name in heads] for group in groups]
        entries = [[_entry([c for c in group if c.method == m], numbers) for m in methods] for group in groups]
        labels = [_escaped(method) for method in methods]
        if len(methods) > MOST_COLUMNS:
            names, labels = [[method] for method in labels], [", ".join(filter(None, group)) for group in names]
            heads = ["method"]
            entries = list(zip(*entries, strict=True))
        lines += ["| " + " | ".join([*heads, *labels]) + " |", "|" + "---|" * (len(heads) + len(labels))]
        lines += ["| " + " | ".join([*group, *texts]) + " |" for group, texts in zip(names, entries, strict=True)]
    return "\n".join(lines)


def _entry(cells: Sequence[Cell], numbers: dict[tuple[str, str], int]) -> str:
    texts = collections.Counter()
    for cell in cells:
        text = f"{cell.predicted} → {cell.outcome}"
        if cell.agreement == "agrees":
            texts[f"{text} ✓"] += 1
        elif (cell.agreement, cell.explanation) in numbers:
            untested = "untested " if cell.agreement == "untested" else ""
            texts[f"{text} {untested}({numbers[cell.agreement, cell.explanation]})"] += 1
        else:
            texts[f"**{text} !**"] += 1
    return "<br>".join(text if len(cells) == 1 else f"{count} × {text}" for text, count in texts.items())


def _groups(results: Results, agreement: str) -> dict[tuple[str, str], list[Cell]]:
    """The cells with an agreement, by it and their explanations, the largest group first."""
    cells = [cell for cell in results.cells if cell.agreement == agreement]
    groups = _by(cells, lambda cell: (cell.agreement, cell.explanation))
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _numbered(title: str, groups: dict[tuple[str, str], list[Cell]], numbers: dict[tuple[str, str], int]) -> str:
    lines = [f"## {title}", ""]
    if not groups:
        return "\n".join([*lines, "There are none."])
    for (agreement, explanation), cells in groups.items():
        number = numbers[agreement, explanation]
        lines += [f"### Explanation {number}", "", _escaped(explanation) or "(no words given)", "", *_listed(cells), ""]
    return "\n".join(lines[:-1])


def _unexplained(results: Results) -> str:
    cells = [cell for cell in results.cells if cell.agreement == "unexplained"]
    lines = ["## Disagreements without explanation", ""]
    if not cells:
        return "\n".join(
            [*lines, "There are none: every cell came out as predicted, is untested, or is explained above."]
        )
    hints = any(cell.explanation for cell in cells)
    return "\n".join([*lines, f"{len(cells)} of {len(results.cells)} cells.", "", *_listed(cells, hints)])


def _listed(cells: Sequence[Cell], hints: bool = False) -> list[str]:
    last = (" remark |", "---|") if hints else ("", "")
    lines = [
        "| cell | predicted | rate | simulated | rate |" + last[0],
        "|---|---|--:|---|--:|" + last[1],
    ]
    for cell in cells[:MOST_LISTED]:
        row = (
            f"| {_escaped(cell.label)} | {cell.predicted} | {_number(cell.predicted_rate)} "
            f"| {cell.outcome} | {_number(cell.rate)} |"
        )
        lines.append(row + (f" {_escaped(cell.explanation)} |" if hints else ""))
    if len(cells) > MOST_LISTED:
        lines += ["", f"and {len(cells) - MOST_LISTED} more; all cells are in `results.json` and `results.nc`."]
    return lines


def _again(results: Results, command: str | None) -> str:
    precision = " --precision 32" if "32" in str(results.provenance.get("dtype", "")) else " --precision 64"
    lines = ["## Provenance", ""]
    lines += [f"- {_escaped(name)}: {_escaped(value)}" for name, value in results.provenance.items()]
    lines += [
        "",
        "The same numbers come from",
        "",
        "```bash",
        command or f"dynamics run study.toml{precision}",
        "```",
        "",
    ]
    if command:
        lines += [
            f"or, without any built-in study, from `dynamics run study.toml{precision}` with the `study.toml` "
            "beside this file.",
            "",
        ]
    lines += [
        "`results.nc` holds every cell for `xarray.open_dataset`, `results.json` the same for everything else.",
    ]
    return "\n".join(lines)


def write(
    results: Results,
    directory: str | Path,
    study: str | None = None,
    command: str | None = None,
    problems: list[tuple[str, Exception]] | None = None,
) -> list[Path]:
    """Write the data, the pictures asked for and the report into a folder, which is made where needed.

    The numbers come first, `study.toml` and `results.json` together, and are on the disk before anything is drawn. Then
    files of an earlier run are removed, and every further file is written and put in place on its own; one that fails
    does not keep the others from being written. Files of other names stay.

    Args:
        study: text of the resolved study, for `study.toml`.
        command: what was typed, for the report.
        problems: gets the names of the files that could not be written, with the exceptions; without it the first
            exception is raised when all else is done.

    Returns:
        the files written.

    Raises:
        OSError: the numbers cannot be written; everything is as it was.
    """
    directory = Path(directory)
    numbers = {} if study is None else {"study.toml": study}
    numbers["results.json"] = json.dumps(results.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    written = _put_numbers(numbers, directory)
    failed: list[tuple[str, Exception]] = []

    def put(name: str, make: Callable[[Path], Any]) -> None:
        try:
            put_in_place(directory / name, make)
            written.append(directory / name)
        except Exception as error:
            failed.append((name, error))

    put("results.nc", lambda path: results.to_xarray().to_netcdf(path, engine="h5netcdf"))
    for name in _drawn(results):
        put(f"{name}.png", partial(_draw, results, name))
    drawn = [name for name in _drawn(results) if directory / f"{name}.png" in written]
    put("report.md", lambda path: _write_text(path, markdown(results, command, drawn)))
    if problems is not None:
        problems += failed
    elif failed:
        raise failed[0][1]
    return written


def _draw(results: Results, name: str, path: Path) -> None:
    from dynamics import plots

    draw = {
        "outcomes": plots.outcome_chart,
        "portraits": plots.phase_portraits,
        "spectra": plots.spectra,
        "rates": plots.rates,
    }
    figure = results.figures().get(name)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of letters that the font has not got
        plots.save(draw[name](results) if figure is None else _figure(figure), path)


def _figure(figure: Series | BasinsOfCell | EigenvaluesOfCell) -> Any:
    from dynamics import plots

    if isinstance(figure, Series):
        return plots.series(figure)
    if isinstance(figure, BasinsOfCell):
        return plots.basins(figure.basins, f"Basins of attraction: {figure.title}")
    path = figure.path
    return plots.eigenvalue_path(path.parameters, path.eigenvalues, path.kind, figure.name, title=figure.title)


def _put_numbers(texts: dict[str, str], directory: Path) -> list[Path]:
    """Write texts into a folder, all or none of them, and remove what an earlier run has left there."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    ours = all((directory / name).is_file() for name in ("results.json", "study.toml"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in texts.items():
                _write_text(aside(directory / name), text)
            for name in texts:
                os.replace(aside(directory / name), directory / name)
        finally:
            for name in texts:
                aside(directory / name).unlink(missing_ok=True)
    except BaseException:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise
    if ours:
        numbered = [path.name for path in directory.iterdir() if _NUMBERED.fullmatch(path.name)]
        for name in (*FILES, *numbered):
            if name not in texts:
                (directory / name).unlink(missing_ok=True)
    return [directory / name for name in texts]


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _by(cells: Iterable[Cell], key: Any) -> dict[Any, list[Cell]]:
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups


def _number(value: float) -> str:
    """Four digits; rounding errors count as 0."""
    return f"{value if abs(value) > 1e-12 else 0:.4g}" if math.isfinite(value) else "-"


def _escaped(value: Any) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", printable(" ".join(str(value).split())))
