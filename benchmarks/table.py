"""Print the tables of a result of cpu.py; with --write, put them into README.md between their markers.

python benchmarks/table.py benchmarks/results/RESULT.json [--write]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
NAMES = {
    "non_saturating": "Dirac-GAN", "minimax": "Dirac-GAN, minimax", "wasserstein": "Dirac-GAN, Wasserstein",
    "least_squares": "Dirac-GAN, least squares", "hinge": "Dirac-GAN, hinge", "quadratic": "10+10 quadratic",
    "coupled": "10+10 with tanh", "lorenz": "Lorenz",
}  # fmt: skip
C_END, C_OUTCOME, SWEEP = "C, end", "C, outcome", "sweep"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    options = parser.parse_args()
    text = table(json.loads(options.result.read_text()), options.result.name)
    print(text)
    if options.write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def table(result: dict[str, Any], source: str) -> str:
    """Tables in Markdown, one or two for every section that was measured."""
    machine, versions, settings = result["machine"], result["versions"], result["settings"]
    load = f"{settings['load_before'][0]:.1f} before, {settings['load_after'][0]:.1f} after"
    lines = [
        f"From `results/{source}`, {result['date'][:10]}: {machine.get('Model name', 'unknown processor')} (family "
        f"{machine.get('CPU family', '?')}, model {machine.get('Model', '?')}), {machine.get('CPU(s)', '?')} cores; "
        f"JAX {versions['jax']}, diffrax {versions['diffrax']}, NumPy {versions['numpy']}, PyTorch "
        f"{versions['torch']}, {versions['compiler']}. Load {load}; medians of up to {settings['repeats']} timings; "
        f"{result.get('total_seconds', 0) / 60:.0f} minutes in all.",
    ]
    for failure in result.get("failures", []):
        lines += ["", f"Failed: {failure}"]
    for title, part in PARTS.items():
        rows = [row for row in result["rows"] if row["section"] == title]
        if rows:
            heading, make = part
            lines += ["", f"### {heading}", "", *make(rows)]
    return "\n".join(lines)


def grid(head: list[str], body: list[list[Any]]) -> list[str]:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in cells) + " |" for cells in body]


def name(row: Row) -> str:
    """Of the game."""
    return NAMES.get(row["game"], row["game"])


def groups(rows: list[Row], *keys: str) -> list[dict[str, Row]]:
    """Rows that belong together, by rival."""
    found: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), {})[row["rival"]] = row
    return list(found.values())


def time_of(row: Row | None, unit: str = "ns", digits: int = 3) -> str:
    """Nanoseconds, with the error in parentheses."""
    return "-" if row is None else f"{row[unit]:.{digits}g} ({row['error']:.0e})"


def times(row: Row | None, other: Row | None) -> str:
    """How many times as long."""
    return "-" if row is None or other is None else f"{row['ns'] / other['ns']:.3g}x"


def usual(rows: list[Row], first: list[tuple[str, Callable[[Row], Any]]], more: tuple[str, ...] = ()) -> list[str]:
    """C, the sweep and its ratios; the others as multiples of the sweep."""
    rivals = [rival for rival in dict.fromkeys(row["rival"] for row in rows) if rival not in (C_END, C_OUTCOME, SWEEP)]
    head = [title for title, _ in first] + ["C, end, ns", "C, outcome, ns", "sweep, ns", "to C, end", "to C, outcome"]
    head += [f"{rival}, to sweep" for rival in rivals] + [*more, "compile, s", "memory, MB"]
    body = []
    for found in (
        groups(rows, "game", "method", "precision", "games", "steps", "cores") if not rivals else _merged(rows)
    ):
        sweep, end, outcome = (found.get(rival) for rival in (SWEEP, C_END, C_OUTCOME))
        about = sweep or next(iter(found.values()))
        cells = [make(about) for _, make in first] + [time_of(end), time_of(outcome), time_of(sweep)]
        cells += [times(sweep, end), times(sweep, outcome)]
        for rival in rivals:
            row = found.get(rival)
            cells.append("-" if row is None else f"{times(row, sweep)} ({row['error']:.0e})")
        cells += [about.get(key.replace(" ", "_"), "-") for key in more]
        body.append([*cells, f"{about['compile_seconds']:.1f}", f"{about['peak_memory_mb']:.0f}"])
    return grid(head, body)


def _merged(rows: list[Row]) -> list[dict[str, Row]]:
    """Likewise where rivals make other numbers of steps, or have fewer games."""
    return groups(rows, "game", "method", "precision", "cores")


def _cores(rows: list[Row]) -> list[str]:
    """With the wall time of one core over that of all."""
    for found in groups([row for row in rows if row["rival"] == SWEEP], "game", "precision"):
        same = [row for row in rows if row["rival"] == SWEEP and _same(row, found[SWEEP])]
        alone = next((row for row in same if row["cores"] == 1), None)
        for row in same:
            if alone and row["cores"] > 1:
                row["speedup"] = f"{alone['wall_seconds'] / row['wall_seconds']:.2f}"
    return usual(rows, [GAME, PRECISION, CORES], ("speedup",))


def _same(row: Row, other: Row) -> bool:
    return (row["game"], row["precision"]) == (other["game"], other["precision"])


GAME = ("game", name)
METHOD = ("method", lambda row: row["method"])
PRECISION = ("type", lambda row: row["precision"])
GAMES = ("games", lambda row: f"{row['games']:,}")
STEPS = ("steps", lambda row: f"{row['steps']:,}")
CORES = ("cores", lambda row: row["cores"])


def _methods(rows: list[Row]) -> list[str]:
    head = ["game", "type", "method", "C, end, ns", "C, outcome, ns", "sweep, ns", "to C, end", "to C, outcome"]
    head += ["evaluations", "to implied", "compile, s"]
    body = []
    for found in groups(rows, "game", "method", "precision"):
        end, outcome, sweep = (found[rival] for rival in (C_END, C_OUTCOME, SWEEP))
        cells = [name(sweep), sweep["precision"], sweep["method"], time_of(end), time_of(outcome), time_of(sweep)]
        cells += [times(sweep, end), times(sweep, outcome), sweep["evaluations"], f"{sweep['ratio_to_implied']:.2f}x"]
        body.append([*cells, f"{sweep['compile_seconds']:.1f}"])
    return grid(head, body)


def _others(rows: list[Row]) -> list[str]:
    rivals = list(dict.fromkeys(row["rival"] for row in rows))
    body = []
    for found in groups(rows, "game", "precision"):
        by_games: dict[int, dict[str, Row]] = {}
        for row in rows:
            if (row["game"], row["precision"]) == (found[C_END]["game"], found[C_END]["precision"]):
                by_games.setdefault(row["games"], {})[row["rival"]] = row
        for games, own in by_games.items():
            cells = [name(own[C_END]), own[C_END]["precision"], f"{games:,}", time_of(own[C_END])]
            for rival in rivals[1:]:
                row = own.get(rival)
                cells.append("-" if row is None else f"{times(row, own[C_END])} ({row['error']:.0e})")
            body.append(cells)
    return grid(["game", "type", "games", "C, end, ns", *rivals[1:]], body)


def _lorenz(rows: list[Row]) -> list[str]:
    rivals = list(dict.fromkeys(row["rival"] for row in rows))
    body = []
    for found in groups(rows, "games", "cores"):
        about = next(iter(found.values()))
        body.append([f"{about['games']:,}", about["cores"], *(time_of(found.get(r), "milliseconds") for r in rivals)])
    return grid(["N", "cores", *(f"{rival}, ms" for rival in rivals)], body)


def _early(rows: list[Row]) -> list[str]:
    body = []
    for row in rows:
        if "failure" in row:
            body.append([row["rival"], "-", row["failure"], "-", "-"])
            continue
        share = f"{100 * row['of_full_run']:.1f} %" if "of_full_run" in row else "100 %"
        settled = f"{100 * row['settled_within_5_percent']:.0f} %"
        body.append([row["rival"], f"{row['cpu_seconds']:.2f}", share, settled, row.get("outcomes_differ", "-")])
    return grid(["", "CPU time, s", "of the full run", "settled within 5 % of the steps", "outcomes that differ"], body)


def _outcomes(rows: list[Row]) -> list[str]:
    body = []
    for row in rows:
        counts = " / ".join(map(str, row["counts"]))
        body.append([name(row), row["method"], row["precision"], f"{row['games']:,}", row["differ"], counts])
    return grid(["game", "method", "type", "games", "differ", "converged / cycling / diverged / undecided"], body)


def _eigenvalues(rows: list[Row]) -> list[str]:
    (row,) = rows
    cells = [f"{row['cells']:,}", f"{row['wall_seconds']:.3f}", f"{row['compile_seconds']:.1f}"]
    cells += [f"{row['us_per_cell']:.3f}", f"{row['us_per_eigvals']:.2f}"]
    return grid(["cells", "wall time, s", "compile, s", "CPU time per cell, us", "batched eigvals, us"], [cells])


PARTS: dict[str, tuple[str, Callable[[list[Row]], list[str]]]] = {
    "planar": ("Planar games, one core", lambda rows: usual(rows, [GAME, PRECISION])),
    "methods": ("Other methods, one core", _methods),
    "matrix": ("Games of 10 + 10 numbers, a matrix each, one core", lambda rows: usual(rows, [GAME, PRECISION])),
    "flows": ("Flows with steps of a fixed length, one core", lambda rows: usual(rows, [GAME, METHOD, PRECISION])),
    "lorenz": ("The published Lorenz ensemble: Tsit5, 1000 steps, f32", _lorenz),
    "scaling": ("From 1 to 10^6 games and from 10^3 to 10^6 steps", lambda rows: usual(rows, [GAMES, STEPS, CORES])),
    "cores": ("One core and all", _cores),
    "early": ("Early exit: 95 % of the cells converge within 5 % of the steps", _early),
    "others": ("Others, one core, as multiples of C", _others),
    "eigenvalues": ("Charts of stability in closed form", _eigenvalues),
    "outcomes": ("Random games: outcomes of C and of the library", _outcomes),
}


if __name__ == "__main__":
    main()
