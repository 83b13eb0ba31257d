"""Basins of attraction: every start in the colour of where it ends."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dynamics.plots import _style as style

_ENDS = ("#2C7FB8", "#A8DDB5", "#8E5EA2", "#E08E2B", "#56B4E9", "#5B6770")  # of unlike lightness
_WITHOUT_END = {
    "cycling": style.OUTCOMES["cycling"],
    "rotating": "#A6761D",
    "diverged": style.OUTCOMES["diverged"],
    **{name: style.OUTCOMES[name] for name in ("chaotic", "stalled", "power_law", "not_a_number", "undecided")},
}
_MOST_ENTRIES = 12  # in the legend


def basins(result: Any, title: str = "Basins of attraction") -> Figure:
    """From which starts a method ends where, with the share of every destination.

    A grid in the plane is drawn as a map, a grid on a line as a strip, random starts as bars with the standard errors
    of the shares.

    Args:
        result: a `dynamics.analysis.Basins`.
        title: of the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    colours = _colours(result.kinds)
    length = f"{result.steps:,} steps" if isinstance(result.steps, int) else f"time {result.steps:g}"
    if not len(result.axes):
        return _bars(result, colours, title, length)
    flat = len(result.axes) == 1
    x = result.axes[0]
    y = np.array([0.0, 1.0]) if flat else result.axes[1]
    labels = result.labels[None, :] if flat else result.labels.T
    equal = not flat and 0.5 < np.ptp(x) / np.ptp(y) < 2
    figure = style.Picture(7.2, 2.6 if flat else 1.6 + 5.2 * min(np.ptp(y) / np.ptp(x), 1.2) if equal else 6.8)
    axes = figure.add_subplot()
    scale = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    # Every start is the middle of its cell.
    edges = [_edges(x), y if flat else _edges(y)]
    axes.pcolormesh(*edges, labels, cmap=ListedColormap(colours), norm=scale, rasterized=True, alpha=0.85, linewidth=0)
    _marks(axes, result, colours, flat)
    style.dress(axes, "", result.axis_names[0], "" if flat else result.axis_names[1], grid=False)
    if flat:
        axes.set_yticks([])
    elif equal:
        axes.set_aspect("equal")
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(edges[1][0], edges[1][-1])
    shape = " x ".join(str(len(axis)) for axis in result.axes)
    style.heading(figure, title, f"where runs end after {length}, by their start; a grid of {shape} starts")
    style.legend_below(figure, _legend(result, colours), columns=3)
    return figure


def _colours(kinds: tuple[str, ...]) -> list[str]:
    ends = [index for index, kind in enumerate(kinds) if kind not in _WITHOUT_END]
    return [
        _ENDS[ends.index(index) % len(_ENDS)] if index in ends else _WITHOUT_END[kind]
        for index, kind in enumerate(kinds)
    ]


def _edges(values: np.ndarray) -> np.ndarray:
    half = (values[1] - values[0]) / 2
    return np.append(values - half, values[-1] + half)


def _marks(axes: Axes, result: Any, colours: list[str], flat: bool) -> None:
    for place, label in result.marks:
        at = (place[0], 0.5) if flat else place
        if label < 0:
            look = dict(
                marker="o", markersize=7, markerfacecolor="none", markeredgecolor=style.INK, markeredgewidth=1.4
            )
        else:
            look = dict(marker="*", markersize=14, markerfacecolor=colours[label], markeredgecolor=style.PAPER)
            axes.plot(*at, marker="*", markersize=17, color=style.INK, linestyle="", zorder=5, clip_on=False)
        axes.plot(*at, linestyle="", zorder=6, clip_on=False, **look)


def _legend(result: Any, colours: list[str]) -> list:
    order = np.argsort(-np.asarray(result.counts), kind="stable")
    entries = [
        style.patch(f"{result.names[index]}: {_share(result.fractions[index])}", colours[index])
        for index in order[:_MOST_ENTRIES]
    ]
    if len(order) > _MOST_ENTRIES:
        rest = sum(result.fractions[index] for index in order[_MOST_ENTRIES:])
        entries.append(style.patch(f"{len(order) - _MOST_ENTRIES} more: {_share(rest)}", style.PAPER, style.INK))
    if not len(result.axes):
        return entries
    if any(label >= 0 for _, label in result.marks):
        entries.append(style.mark("destination", "*", size=10))
    if any(label < 0 for _, label in result.marks):
        entries.append(style.mark("unstable equilibrium", "o", filled=False))
    return entries


def _share(fraction: float) -> str:
    percent = 100 * float(fraction)
    return f"{percent:.1f} %" if percent >= 0.1 or percent == 0 else f"{percent:.1g} %"


def _bars(result: Any, colours: list[str], title: str, length: str) -> Figure:
    order = np.argsort(-np.asarray(result.counts), kind="stable")[:_MOST_ENTRIES]
    figure = style.Picture(7.2, 1.9 + 0.38 * len(order))
    axes = figure.add_subplot()
    heights = np.arange(len(order))[::-1]
    axes.barh(heights, result.fractions[order], color=[colours[index] for index in order], height=0.65, zorder=2)
    axes.errorbar(
        result.fractions[order],
        heights,
        xerr=result.errors[order],
        linestyle="",
        color=style.INK,
        elinewidth=1,
        capsize=2.5,
        zorder=3,
    )
    axes.set_yticks(heights, [style.plain(result.names[index]) for index in order])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlim(left=0)
    style.dress(axes, "", "share of the starts, with its standard error", "destination")
    axes.grid(False, axis="y")
    style.heading(figure, title, f"where runs end after {length}; {result.labels.size:,} random starts")
    style.legend_below(figure, _legend(result, colours), columns=3)
    return figure
