"""The predictions of a study on their own: a table for the terminal, the full examination, plain data."""

import math
from collections.abc import Sequence
from typing import Any

from jax.flatten_util import ravel_pytree

from dynamics._plain import plain
from dynamics.analysis import Classification, EquilibriumError, TimescaleThreshold, Verdict, classify
from dynamics.analysis import timescale_threshold as threshold_of
from dynamics.analysis.examination import examine_report
from dynamics.analysis.nonnormal.growth import transient_growth
from dynamics.studies.results import Judged

MOST_ROWS = 60  # of a Jacobian whose powers are looked at for a table
_COLOURS = {"stable": "blue", "unstable": "red", "marginal": "yellow", "neutral": "green"}


def text(cells: Sequence[Judged], *, detail: bool) -> str:
    """Every cell in full: the examination, or the report alone."""
    return "\n\n".join(f"{cell.label}\n{_described(cell, detail)}" for cell in cells)


def to_json(name: str, cells: Sequence[Judged], *, detail: bool) -> dict[str, Any]:
    """Every cell as plain data; with `detail` the whole examination."""
    entries = []
    for cell in cells:
        examination = _examined(cell) if detail else None
        entries.append({"label": cell.label, **(cell.stability if examination is None else examination).to_dict()})
    return plain({"study": name, "cells": entries})


def table(cells: Sequence[Judged]) -> Any:
    """What `rich` prints: for every game what kind of equilibrium the point is and tau*, below it a row per method."""
    import rich.box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    width = max(len(_method(cell)) for cell in cells)
    parts: list[Any] = []
    for group in _by_game(cells):
        grid = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        grid.add_column("method", min_width=min(width, 48))
        grid.add_column("verdict", min_width=8)
        extents = dict.fromkeys(cell.stability.boundary.bound_name for cell in group)
        for name, least in ((" or ".join(extents), 18), ("margin", 9), ("rate", 11), ("rotation", 9), ("growth", 8)):
            grid.add_column(name, justify="right", min_width=least)
        for cell in group:
            report = cell.stability
            extent = report.boundary.bound_of(report)
            verdict = Text(str(report.verdict), style=_COLOURS[str(report.verdict)])
            numbers = ((extent, 8), (report.margin, 3), (report.rate, 5), (report.rotation, 5))
            # What is not told from 0 is shown as 0, and so is -0.
            least = report.error if math.isfinite(report.error) else 0.0
            shown = (f"{0.0 if abs(number) <= least else number:.{digits}g}" for number, digits in numbers)
            grid.add_row(Text(_method(cell)), verdict, *shown, _growth(cell))
        parts += [Text(_heading(group[0]), style="bold"), grid]
    return Group(*parts)


def remarks(cells: Sequence[Judged]) -> list[str]:
    """What the numbers of the table mean, and the notes of its cells, each once."""
    return [
        "tau*: the gradient flow is stable for every larger ratio of player 1's rate to player 0's; - where none is.",
        "growth: the largest factor by which a disturbance grows before it decays; - where the point is not stable.",
        *dict.fromkeys(note for cell in cells for note in cell.stability.notes),
    ]


def _described(cell: Judged, detail: bool) -> str:
    examination = _examined(cell) if detail else None
    return (cell.stability if examination is None else examination).describe()


def _examined(cell: Judged) -> Any:
    try:
        return examine_report(cell.game, cell.stability)
    except EquilibriumError:  # of the method alone: the rest of an examination is about equilibria
        return None


def _method(cell: Judged) -> str:
    axes = "".join(f" / {name}={value:.6g}" for name, value in cell.recipe.axes.items())
    return f"{cell.recipe.method} / {cell.recipe.kind}{axes}"


def _by_game(cells: Sequence[Judged]) -> list[list[Judged]]:
    """Cells of one game, one and the same point, and equal labels."""
    groups: dict[Any, list[Judged]] = {}
    for cell in cells:
        recipe, point = cell.recipe, ravel_pytree(cell.stability.players)[0]
        key = (recipe.game, recipe.objective, recipe.penalty, id(cell.game), point.tobytes())
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _heading(cell: Judged) -> str:
    recipe, at = cell.recipe, cell.stability.players
    name = " / ".join(part for part in (recipe.game, recipe.objective, recipe.penalty) if part)
    kind: Classification | None = None
    threshold: TimescaleThreshold | None = None
    try:
        kind = classify(cell.game, at=at)
        threshold = threshold_of(cell.game, at=at) if len(at) > 1 else None
    except EquilibriumError:
        pass
    known = threshold is not None and math.isfinite(threshold.value)
    return f"{name}: {'-' if kind is None else kind.kind}; tau* {f'{threshold.value:.6g}' if known else '-'}"


def _growth(cell: Judged) -> str:
    report = cell.stability
    if (
        report.verdict is not Verdict.stable
        or report.order != 1
        or report.period != 1
        or report.manifold_dimension
        or len(report.jacobian) > MOST_ROWS
    ):
        return "-"
    return f"{transient_growth(report).growth:.4g}"
