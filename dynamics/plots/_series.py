"""Players over time, a column for each method: where noise keeps them, and how long they take."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots import _style as style
from dynamics.plots._trajectory import shown

_WIDTH, _HEIGHT = 2.5, 1.7  # of a panel
_OUTSIDE = 50.0  # a run that leaves by so many times the way from its start is cut off


def series(result: Any) -> Figure:
    """The coordinates of the players over the steps of runs from one start: a row for each, a column for each method.

    Rows have one scale. The thin line is the equilibrium; the number in a panel is the standard deviation over the
    second half of the run.

    Args:
        result: a `dynamics.studies.results.Series`, one of `Results.series`.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    rows, columns = len(result.names), len(result.methods)
    figure = style.Picture(max(_WIDTH * columns + 0.7, 5.0), _HEIGHT * rows + 1.1)
    panels = figure.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")
    spreads = result.spreads()
    kinds = set(result.kinds)
    for column, (method, kind, times, values) in enumerate(
        zip(result.methods, result.kinds, result.times, result.values, strict=True)
    ):
        for row, name in enumerate(result.names):
            axes = panels[row, column]
            centre = float(result.equilibrium[row])
            way = _OUTSIDE * max(abs(float(values[0, row]) - centre), 1e-3)
            line = shown(np.asarray(values[:, row], float))
            line = np.where(np.abs(line - centre) <= way, line, np.nan)
            axes.plot(times, line, color=style.SERIES[0], linewidth=0.6, rasterized=len(times) > 2000)
            axes.axhline(centre, color=style.INK, linewidth=0.6)
            title = (method if len(kinds) == 1 else f"{method} ({kind})") if row == 0 else ""
            bottom = ("step" if kind == "map" else "time") if row == rows - 1 else ""
            style.dress(axes, title, bottom, name if column == 0 else "")
            spread = float(spreads[column, row])
            text = f"sd {spread:.2g}" if np.isfinite(line).all() and np.isfinite(spread) else "runs away"
            style.note(axes, text)
    noise = "exact expectations" if result.seed is None else f"one run each, with noise, seed {result.seed}"
    left_out = f"; {result.left_out} more numbers left out" if result.left_out else ""
    style.heading(figure, result.title, f"{noise}; sd: standard deviation over the second half{left_out}")
    return figure
