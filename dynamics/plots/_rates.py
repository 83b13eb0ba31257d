"""Predicted against measured rates."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.plots import _style as style
from dynamics.studies.results import Cell, Results

_MARKS = {"agrees": "o", "untested": "s", "explained": "^", "unexplained": "X"}


def rates(results: Results) -> Figure:
    """Measured rate over predicted rate, maps and flows apart, with the diagonal on which the two are equal.

    Colour is the outcome, shape whether it agrees with the prediction. Cells without a finite rate are counted, not
    drawn. The scale is logarithmic away from 0 where the predicted rates spread widely.

    Args:
        results: what `dynamics.studies.execute` returned.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    boundaries = results.boundaries()
    figure = style.Picture(max(4.9 * len(boundaries), 6.0), 6.0)
    for axes, boundary in zip(figure.subplots(1, len(boundaries), squeeze=False).ravel(), boundaries, strict=True):
        _draw(axes, [cell for cell in results.cells if cell.boundary == boundary])
        unit = boundary.unit
        style.dress(axes, f"{boundary.kind}s", f"predicted rate per {unit}", f"measured rate per {unit}")
    style.heading(figure, results.title or results.name, "rates of contraction (negative) and growth (positive)")
    outcomes = {cell.outcome for cell in results.cells}
    handles = [
        style.patch(name.replace("_", " "), colour) for name, colour in style.OUTCOMES.items() if name in outcomes
    ]
    agreements = {cell.agreement for cell in results.cells}
    handles += [style.mark(style.AGREEMENTS[name], m, filled=False) for name, m in _MARKS.items() if name in agreements]
    style.legend_below(figure, [*handles, style.line("measured = predicted", style.INK, width=0.9)], columns=4)
    return figure


def _draw(axes: Axes, cells: list[Cell]) -> None:
    points = np.array([(cell.predicted_rate, cell.rate) for cell in cells], float).reshape(-1, 2)
    drawn = np.isfinite(points).all(axis=1)
    threshold = _threshold(np.abs(points[drawn, 0]))
    if threshold is not None:
        for set_scale in (axes.set_xscale, axes.set_yscale):
            set_scale("symlog", linthresh=threshold, linscale=0.6)
    low, high = _limits(points[drawn], threshold)
    axes.plot([low, high], [low, high], color=style.INK, linewidth=0.9, zorder=1)
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.INK, linewidth=0.6, linestyle=":", zorder=1)
    for agreement, marker in _MARKS.items():
        for outcome, colour in style.OUTCOMES.items():
            chosen = drawn & np.array([c.agreement == agreement and c.outcome == outcome for c in cells], bool)
            axes.scatter(
                *points[chosen].T,
                marker=marker,
                s=46 if agreement == "unexplained" else 24,
                facecolor=colour,
                edgecolor=style.INK,
                linewidths=0.4 if agreement == "agrees" else 0.8,
                alpha=0.85,
                zorder=3 if agreement == "agrees" else 4,
            )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    if threshold is not None:
        _few_ticks(axes, low, high, threshold)
    if left_out := int(np.sum(~drawn)):
        style.note(axes, f"{left_out} of {len(cells)} cells have no finite rate")


def _threshold(sizes: np.ndarray) -> float | None:
    """Where a logarithmic scale begins, or `None` where a plain one will do.

    Decided by the predicted rates: a measured one beside a predicted 0 is noise of any size.
    """
    sizes = sizes[sizes > 1e-9 * max(sizes, default=0.0)]
    if not sizes.size or sizes.max() <= 30 * np.percentile(sizes, 20):
        return None
    return 10.0 ** np.floor(np.log10(max(float(np.percentile(sizes, 5)), 1e-6 * float(sizes.max()))))


def _limits(points: np.ndarray, threshold: float | None) -> tuple[float, float]:
    if threshold is None:
        return style.padded([*points.ravel(), 0.0])
    low, high = float(min(points.min(), 0)), float(max(points.max(), 0))
    return min(1.6 * low, -threshold), max(1.6 * high, threshold)


def _few_ticks(axes: Axes, low: float, high: float, threshold: float) -> None:
    """Powers of ten on either side of 0, thinned so that they do not run into each other."""
    first = int(round(np.log10(threshold)))
    ticks = [0.0]
    for sign, end in ((-1, -low), (1, high)):
        last = int(np.floor(np.log10(end))) if end >= threshold else first - 1
        stride = max(1, -(-(last - first + 1) // 4))
        ticks += [sign * 10.0**power for power in range(last, first - 1, -stride)]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(sorted(ticks))
        axis.set_minor_locator(_nothing())


def _nothing():
    from matplotlib.ticker import NullLocator

    return NullLocator()
