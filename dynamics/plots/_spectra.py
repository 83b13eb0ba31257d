"""Eigenvalues where they decide: against the unit circle for maps, against the imaginary axis for flows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynamics.analysis.stability.boundary import Boundary
from dynamics.plots import _plane as plane
from dynamics.plots import _style as style
from dynamics.studies.results import Results

MOST_GAMES = 30
SHAPES = ("o", "s", "^", "D")  # after all colours, the next one
FILLED: dict[str, Any] = {"stable": "full", "unstable": "none", "marginal": "bottom", "neutral": "left"}
_OF_VERDICTS = "#8A9097"  # of the marks in the legend that are no method's
ROOM_IN_INSET = 0.15  # half the width of an inset, in units of the plane
CROWDED = 12  # from so many eigenvalues within the inset there is one


def spectra(results: Results) -> Figure:
    """The eigenvalues of all cells: panels of maps and of flows for each game, a colour for each method.

    Filled marks are those of stable cells. Shaded is where eigenvalues of a stable method lie. A panel leaves out
    eigenvalues far from the others, and says so; where many lie beside the point that separates growth from decay (1
    for maps, 0 for flows), an inset shows its neighbourhood.

    Args:
        results: what `dynamics.studies.execute` returned.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    games = style.unique(cell.game for cell in results.cells)
    methods = style.unique(cell.method for cell in results.cells)
    marks = {
        name: (style.SERIES[i % len(style.SERIES)], SHAPES[i // len(style.SERIES) % len(SHAPES)])
        for i, name in enumerate(methods)
    }
    shown = games[:MOST_GAMES]
    boundaries = results.boundaries()
    rows, columns = style.grid_of_panels(len(shown), 2 if len(boundaries) > 1 else 3)
    columns *= len(boundaries)
    figure = style.Picture(max(3.2 * columns, 6.0), 1.6 + 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    pairs = [(game, boundary) for game in shown for boundary in boundaries]
    for (game, boundary), axes in zip(pairs, panels, strict=False):
        cells = [cell for cell in results.cells if cell.game == game and cell.boundary == boundary]
        if not cells:
            axes.set_axis_off()
            continue
        _draw(axes, boundary, [(cell.eigenvalues, cell.predicted, *marks[cell.method]) for cell in cells], inset=True)
        style.dress(axes, f"{game}: {boundary.kind}s", "real part", "imaginary part")
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    left_out = len(games) - len(shown)
    remark = f"; {left_out} more games left out" if left_out else ""
    style.heading(figure, results.title, f"eigenvalues at the equilibrium, by method{remark}")
    handles = [style.mark(name, shape, colour) for name, (colour, shape) in marks.items()]
    verdicts = {cell.predicted for cell in results.cells}
    handles += [_verdict_entry(name) for name in FILLED if name in verdicts]
    style.legend_below(figure, [*handles, *_plane_entries(boundaries)], columns=max(3, columns + columns // 2))
    return figure


def spectrum(report: Any) -> Figure:
    """The eigenvalues of one stability report, coloured by its verdict.

    Args:
        report: a `dynamics.analysis.Stability`.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    figure = style.Picture(6.0, 6.0)
    axes = figure.add_subplot()
    verdict = str(report.verdict)
    _draw(axes, report.boundary, [(report.eigenvalues, verdict, style.VERDICTS[verdict], "o")], size=6)
    style.dress(axes, "", "real part", "imaginary part")
    name, value = report.boundary.bound_name, report.boundary.bound_of(report)
    style.heading(
        figure, f"Spectrum of the {report.kind}: {report.verdict}", f"{name} {value:.6g}, rate {report.rate:.4g}"
    )
    entries = [style.mark(verdict, "o", style.VERDICTS[verdict]), *_plane_entries([report.boundary])]
    style.legend_below(figure, entries, columns=3)
    return figure


# Eigenvalues, the verdict on them, colour and shape of their marks.
Marked = tuple[np.ndarray, str, str, str]


def _draw(axes: Axes, boundary: Boundary, sets: Sequence[Marked], size: float = 4.2, inset: bool = False) -> None:
    values: Any = np.concatenate([np.asarray(entry[0], complex).ravel() for entry in sets] or [np.zeros(0, complex)])
    finite = values[np.isfinite(values)]
    near = _near(finite, boundary)
    plane.window(axes, finite[near], boundary, 0.12)
    _marks(axes, boundary, sets, size)
    remarks = []
    if outside := int(np.sum(~near)):
        remarks.append(f"{outside} outside the window")
    if missing := len(values) - len(finite):
        remarks.append(f"{missing} not finite")
    if remarks:
        style.note(axes, ", ".join(remarks))
    if inset:
        _inset(axes, boundary, sets, finite[near])


def _marks(axes: Axes, boundary: Boundary, sets: Sequence[Marked], size: float) -> None:
    """The stable side, the boundary, and the eigenvalues, in a window that is set."""
    plane.shade_stable_side(axes, boundary)
    plane.draw_boundary(axes, boundary, style.INK, 1.0, 2)
    for eigenvalues, verdict, colour, shape in sets:
        points: Any = np.asarray(eigenvalues, complex).ravel()
        points = points[np.isfinite(points) & (np.abs(points) <= 1e6 * max(1, plane.size(axes)))]
        mark: dict[str, Any] = {
            "marker": shape,
            "markersize": size,
            "fillstyle": FILLED[verdict],
            "markerfacecoloralt": style.PAPER,
        }
        axes.plot(
            points.real, points.imag, linestyle="", color=colour, markeredgewidth=0.9, alpha=0.9, zorder=3, **mark
        )


def _inset(axes: Axes, boundary: Boundary, sets: Sequence[Marked], values: Any) -> None:
    """The neighbourhood of the point between growth and decay, in a free corner, where many eigenvalues are there."""
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    half = min(ROOM_IN_INSET, (high - low) / 8)
    beside = np.maximum(np.abs(values.real - boundary.neutral), np.abs(values.imag)) < half
    if beside.sum() < CROWDED:
        return
    across, up = (values.real - low) / (high - low), (values.imag - bottom) / (top - bottom)
    for x, y in ((0.03, 0.57), (0.03, 0.03), (0.57, 0.57), (0.57, 0.03)):
        if not ((across > x - 0.03) & (across < x + 0.43) & (up > y - 0.03) & (up < y + 0.43)).any():
            break
    else:
        return
    closer = axes.inset_axes((x, y, 0.4, 0.4))
    closer.set_xlim(boundary.neutral - half, boundary.neutral + half)
    closer.set_ylim(-half, half)
    closer.set_aspect("equal")
    _marks(closer, boundary, sets, 3.2)
    closer.tick_params(labelbottom=False, labelleft=False, length=0)
    for spine in closer.spines.values():
        spine.set_color(style.INK)
        spine.set_linewidth(0.6)
    axes.indicate_inset_zoom(closer, edgecolor=style.INK, linewidth=0.6, alpha=0.8)
    closer.text(
        0.03, 0.97, f"around {boundary.neutral:g}", transform=closer.transAxes, fontsize=style.TICK - 1, va="top"
    )


def _near(values: np.ndarray, boundary: Boundary) -> np.ndarray:
    """Which eigenvalues are shown: all, unless a few lie more than four times as far out as nine tenths of them."""
    if not len(values):
        return np.zeros(0, bool)
    far = np.abs(values)
    bound = 4 * float(np.percentile(far, 90))
    return far <= max(bound, 1.5 * boundary.neutral)


def _verdict_entry(name: str) -> Line2D:
    """A verdict in a legend: how the marks of its cells are filled."""
    entry = style.mark(name, "o", _OF_VERDICTS)
    entry.set_fillstyle(FILLED[name])
    entry.set_markerfacecolor(_OF_VERDICTS)
    entry.set_markerfacecoloralt(style.PAPER)
    return entry


def _plane_entries(boundaries: Sequence[Boundary]) -> list:
    """The boundary and the stable side in a legend."""
    name = " or ".join(boundary.name for boundary in boundaries)
    return [style.line(name, style.INK, width=1.0), plane.stable_side_entry()]
