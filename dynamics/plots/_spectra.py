"""Eigenvalues where they decide: against the unit circle for maps, against the imaginary axis for flows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.analysis.stability.boundary import Boundary
from dynamics.plots import _plane as plane
from dynamics.plots import _style as style
from dynamics.studies.results import Results

MOST_GAMES = 30


def spectra(results: Results) -> Figure:
    """The eigenvalues of all cells: a row per game, maps on the left, flows on the right, coloured by verdict.

    Shaded is where eigenvalues of a stable method lie. A panel leaves out eigenvalues far from the others, and says so.

    Args:
        results: what `dynamics.studies.execute` returned.
    """
    games = style.unique(cell.game for cell in results.cells)
    shown = games[:MOST_GAMES]
    boundaries = results.boundaries()
    figure = style.Picture(max(3.8 * len(boundaries), 6.0), 1.4 + 3.4 * len(shown))
    grid = figure.subplots(len(shown), len(boundaries), squeeze=False)
    for game, row in zip(shown, grid, strict=True):
        for boundary, axes in zip(boundaries, row, strict=True):
            cells = [cell for cell in results.cells if cell.game == game and cell.boundary == boundary]
            if not cells:
                axes.set_axis_off()
                continue
            _draw(axes, boundary, [(cell.eigenvalues, cell.predicted) for cell in cells])
            style.dress(axes, f"{game}: {boundary.kind}s", "real part", "imaginary part")
    left_out = len(games) - len(shown)
    remark = f"; {left_out} more games left out" if left_out else ""
    style.heading(
        figure, results.title, f"eigenvalues at the equilibrium, coloured by the verdict on their cell{remark}"
    )
    style.legend_below(figure, _legend(boundaries), columns=5)
    return figure


def spectrum(report: Any) -> Figure:
    """The eigenvalues of one stability report, coloured by its verdict.

    Args:
        report: a `dynamics.analysis.Stability`.
    """
    figure = style.Picture(6.0, 6.0)
    axes = figure.add_subplot()
    _draw(axes, report.boundary, [(report.eigenvalues, str(report.verdict))], size=34)
    style.dress(axes, "", "real part", "imaginary part")
    name, value = report.boundary.bound_name, report.boundary.bound_of(report)
    style.heading(
        figure, f"Spectrum of the {report.kind}: {report.verdict}", f"{name} {value:.6g}, rate {report.rate:.4g}"
    )
    style.legend_below(figure, _legend([report.boundary], [str(report.verdict)]), columns=3)
    return figure


def _draw(axes: Axes, boundary: Boundary, sets: Sequence[tuple[np.ndarray, str]], size: float = 17) -> None:
    values = np.concatenate([np.asarray(v, complex).ravel() for v, _ in sets] or [np.zeros(0, complex)])
    verdicts = np.array([name for v, name in sets for _ in range(np.size(v))], dtype=str)
    finite = np.isfinite(values)
    missing = int(np.sum(~finite))
    values, verdicts = values[finite], verdicts[finite]
    near = _near(values, boundary)
    plane.window(axes, values[near], boundary, 0.12)
    plane.shade_stable_side(axes, boundary)
    plane.draw_boundary(axes, boundary, style.INK, 1.0, 2)
    for name in ("stable", "neutral", "marginal", "unstable"):
        chosen = near & (verdicts == name)
        axes.scatter(
            np.real(values[chosen]),
            np.imag(values[chosen]),
            s=size,
            color=style.VERDICTS[name],
            edgecolor=style.INK,
            linewidths=0.4,
            alpha=0.85,
            zorder=3,
        )
    remarks = []
    if outside := int(np.sum(~near)):
        remarks.append(f"{outside} outside the window")
    if missing:
        remarks.append(f"{missing} not finite")
    if remarks:
        style.note(axes, ", ".join(remarks))


def _near(values: np.ndarray, boundary: Boundary) -> np.ndarray:
    """Which eigenvalues are shown: all, unless a few lie more than four times as far out as nine tenths of them."""
    if not len(values):
        return np.zeros(0, bool)
    far = np.abs(values)
    bound = 4 * float(np.percentile(far, 90))
    return far <= max(bound, 1.5 * boundary.neutral)


def _legend(boundaries: Sequence[Boundary], verdicts: Sequence[str] = tuple(style.VERDICTS)) -> list:
    handles = []
    for name in verdicts:
        entry = style.mark(name, "o", style.VERDICTS[name])
        entry.set_markeredgecolor(style.INK)
        entry.set_markeredgewidth(0.4)
        handles.append(entry)
    handles.append(style.line(" or ".join(boundary.name for boundary in boundaries), style.INK, width=1.0))
    handles.append(plane.stable_side_entry())
    return handles
