"""Results of claims as a table, as data, and as a folder with a report and pictures."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dynamics import __version__
from dynamics._files import put_in_place
from dynamics._text import printable
from dynamics.claims.base import registered
from dynamics.claims.search import Result

DATA, REPORT, PICTURES = "claims.json", "report.md", "counterexamples"

VERDICTS = ("holds", "refuted", "undecided", "broken")


def ordered(results: Sequence[Result]) -> list[Result]:
    """The results in the order of the catalogue."""
    places = {identifier: place for place, identifier in enumerate(registered())}
    return sorted(results, key=lambda result: places[result.claim.identifier])


def to_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A list of plain objects, one per claim, in the order of the catalogue; see `Result.to_dict`."""
    return [result.to_dict() for result in ordered(results)]


def table(results: Sequence[Result]) -> Any:
    """A rich table: claim, source, kind, examples tried, smallest margin, verdict."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("claim", "source", "kind"):
        table.add_column(title, overflow="fold")
    table.add_column("examples", justify="right")
    table.add_column("smallest margin", justify="right")
    table.add_column("verdict")
    for result in ordered(results):
        claim = result.claim
        verdict = result.verdict if result.as_expected else f"{result.verdict}, expected {claim.verdict}"
        margin = f"{result.margin:.3g}"
        cells = (claim.identifier, _short(claim.source), _kind(result), str(result.examples), margin, verdict)
        table.add_row(*map(Text, cells))  # brackets in them are no markup
    return table


SHOWN = 12  # counterexamples at a terminal


def counterexamples(results: Sequence[Result]) -> str:
    """The counterexamples as lines; of many claims only those that were not expected, and how many are left out."""
    refuted = [result for result in ordered(results) if result.counterexample is not None or result.error]
    shown = refuted if len(refuted) <= SHOWN else [result for result in refuted if not result.as_expected]
    lines = [f"{r.claim.identifier}: {r.counterexample_text or f'the check failed: {r.error}'}" for r in shown]
    left = len(refuted) - len(shown)
    return "\n".join([*lines, *([f"{left} expected counterexamples are in the report."] if left else [])])


def summary(results: Sequence[Result]) -> str:
    """One line: how many claims, how many held, were refuted, and were not what they announced."""
    count = {verdict: sum(r.verdict == verdict for r in results) for verdict in VERDICTS}
    wrong = [result.claim.identifier for result in ordered(results) if not result.as_expected]
    claims, hold = ("claim" if len(results) == 1 else "claims"), ("holds" if count["holds"] == 1 else "hold")
    are = "is" if count["refuted"] == 1 else "are"
    text = f"{len(results)} {claims}: {count['holds']} {hold}, {count['refuted']} {are} refuted"
    for verdict in VERDICTS[2:]:
        if count[verdict]:
            text += f", {count[verdict]} {verdict}"
    examples = sum(result.examples for result in results)
    return f"{text}; {examples} examples; {len(wrong)} not as expected" + (f": {', '.join(wrong)}" if wrong else "")


def markdown(results: Sequence[Result], command: str | None = None, pictures: Sequence[str] = ()) -> str:
    """The report: a summary, what was not as expected, and every claim with its verdict, explained."""
    results = ordered(results)
    lines = ["# Claims", "", summary(results) + ".", ""]
    wrong = [result for result in results if not result.as_expected]
    if wrong:
        lines += ["## Not as expected", ""]
        for result in wrong:
            lines += [*_entry(result, pictures), ""]
    lines += ["## Table", "", "| claim | kind | examples | smallest margin | verdict |", "|---|---|---:|---:|---|"]
    for result in results:
        name = result.claim.identifier
        lines.append(f"| {name} | {_kind(result)} | {result.examples} | {result.margin:.3g} | {result.verdict} |")
    topic = None
    for result in results:
        if result.claim.identifier.split("/")[0] != topic:
            topic = result.claim.identifier.split("/")[0]
            lines += ["", f"## {topic.replace('-', ' ').capitalize()}"]
        lines += ["", *_entry(result, pictures)]
    seeds = sorted({result.seed for result in results})
    lines += [
        "",
        "## How this was made",
        "",
        f"dynamics {__version__}, JAX {jax.__version__}, NumPy {np.__version__}, Python {platform.python_version()}; "
        f"double precision, seed {', '.join(map(str, seeds))}.",
    ]
    if command:
        lines += ["", f"`{command}`"]
    lines += [
        "",
        "A margin is positive where a claim holds; a search that finds no counterexample is no proof. A twin is a "
        "theorem without one of its hypotheses: it must be refuted. Pictures show the margin over each number of a "
        "counterexample, the others kept.",
        "",
    ]
    # What a claim says may be anybody's.
    return "\n".join(printable(line) for text in lines for line in text.split("\n"))


def write(
    results: Sequence[Result],
    folder: str | Path,
    command: str | None = None,
    problems: list[tuple[str, Exception]] | None = None,
) -> list[Path]:
    """Write the data, a picture of every counterexample and the report into a folder; what is there is replaced.

    Args:
        command: what was typed, for the report.
        problems: gets the pictures that could not be drawn, with the exceptions; without it the first exception is
            raised when all else is done.
    """
    from dynamics import plots

    folder = Path(folder)
    written, pictures = [write_data(results, folder)], []
    failed: list[tuple[str, Exception]] = []
    for result in ordered(results):
        if not result.slices:
            continue
        name = _picture(result)
        try:
            written.append(plots.save(plots.counterexample(result), folder / name))
            pictures.append(name)
        except Exception as error:
            failed.append((name, error))
    report = folder / REPORT
    report.write_text(markdown(results, command, pictures), encoding="utf-8", errors="backslashreplace")
    if problems is not None:
        problems += failed
    elif failed:
        raise failed[0][1]
    return [*written, report]


def write_data(results: Sequence[Result], folder: str | Path) -> Path:
    """Write the data of the results so far, in one move: a reader never sees half of it."""
    path, text = Path(folder) / DATA, json.dumps(to_json(results), indent=1, allow_nan=False) + "\n"
    put_in_place(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return path


def _picture(result: Result) -> str:
    """Where the picture of a counterexample is, within the folder of the report."""
    return f"{PICTURES}/{result.claim.identifier.replace('/', '--')}.png"


def _kind(result: Result) -> str:
    return "twin" if result.claim.parent else str(result.claim.kind)


def _short(source: str) -> str:
    """The first source without its title, as far as a table has room."""
    first = source.split(";")[0]
    return first if len(first) <= 40 else first[:39].rstrip(" ,") + "…"


def _entry(result: Result, pictures: Sequence[str]) -> list[str]:
    claim = result.claim
    expected = "" if result.as_expected else f" (expected: {claim.verdict})"
    lines = [
        f"### {claim.identifier}",
        "",
        f"{claim.statement}",
        "",
        f"*{_kind(result).capitalize()}.* Source: {claim.source}.",
    ]
    if claim.hypotheses and claim.parent is None:
        lines.append(f"Assumed: {claim.hypotheses}.")
    if claim.unshown:
        lines.append(f"Not shown to be needed: {claim.unshown}")
    lines += [
        "",
        f"**{result.verdict}**{expected}, {result.examples} examples, smallest margin {result.margin:.3g}. "
        f"{claim.because}",
    ]
    if result.counterexample is not None:
        lines += ["", result.counterexample_text]
    if result.error:
        lines += ["", f"The check failed: {result.error}"]
    name = _picture(result)
    if name in pictures:
        lines += ["", f"![margins around the counterexample]({name})"]
    return lines
