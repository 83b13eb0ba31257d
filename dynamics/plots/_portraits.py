"""Planar games: the vector field, trajectories over it, and the equilibrium."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.plots import _style as style
from dynamics.studies.results import Portrait, Results

MOST_PANELS = 30
TURNS = 6  # of a path around the equilibrium that are drawn in full, as is the last one; those between are faint


def phase_portraits(results: Results) -> Figure:
    """One panel per portrait of a study: field, trajectories, equilibrium.

    Args:
        results: what `dynamics.studies.execute` returned.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: the study has no portraits.
    """
    if not results.portraits:
        raise ValueError(f"the study {results.name!r} has no portraits; only games of two scalars have them")
    shown = results.portraits[:MOST_PANELS]
    rows, columns = style.grid_of_panels(len(shown), 2 if len(shown) == 4 else 3)
    figure = style.Picture(max(3.7 * columns, 5.5), 1.3 + 3.85 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = _colours(shown, style.unique(cell.method for cell in results.cells))
    for axes, portrait in zip(panels, shown, strict=False):
        _draw(axes, portrait, colours)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    left_out = len(results.portraits) - len(shown)
    remark = f"; {left_out} more left out" if left_out else ""
    style.heading(
        figure, results.title or results.name, f"the game's vector field and trajectories of the methods{remark}"
    )
    style.legend_below(figure, _legend(colours))
    return figure


def phase_portrait(portrait: Portrait) -> Figure:
    """A planar game's vector field as streamlines, trajectories over it, and the equilibrium.

    Args:
        portrait: one of `Results.portraits`.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    figure = style.Picture(6.0, 6.2)
    colours = _colours((portrait,))
    _draw(figure.add_subplot(), portrait, colours, titled=False)
    style.heading(figure, portrait.title)
    style.legend_below(figure, _legend(colours), columns=3)
    return figure


def _colours(portraits: Sequence[Portrait], methods: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """A colour and a line style per label: a method has one colour, as in the other pictures; flows are dashed."""
    labels = style.unique(label for portrait in portraits for label, _ in portrait.trajectories)
    places = {name: i for i, name in enumerate(style.unique([*methods, *map(_method, labels)]))}
    size = len(style.SERIES)
    looks = {}
    for label in labels:
        cycle, place = divmod(places[_method(label)], size)
        dashes = style.LINES[(2 * cycle + label.endswith(" (flow)")) % len(style.LINES)]
        looks[label] = (style.SERIES[place], dashes)
    return looks


def _method(label: str) -> str:
    """The method of a trajectory, as map or as flow."""
    return label.removesuffix(" (map)").removesuffix(" (flow)")


def _stretches(points: np.ndarray, centre: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """A path in parts that are drawn in full or faint: many turns would be a disc over the equilibrium."""
    angles = np.unwrap(np.arctan2(*(points - centre).T[::-1]))
    turns = np.abs(angles - angles[0]) / (2 * np.pi)
    if turns[-1] <= TURNS + 2:
        return [(points, True)]
    first, last = int(np.argmax(turns > TURNS)), int(np.argmax(turns > turns[-1] - 1))
    return [(points[: first + 1], True), (points[first : last + 1], False), (points[last:], True)]


def _draw(axes: Axes, portrait: Portrait, colours: dict[str, tuple[str, str]], titled: bool = True) -> None:
    x, y = np.asarray(portrait.x, float), np.asarray(portrait.y, float)
    u, v = (np.ma.masked_invalid(np.asarray(part, float)) for part in (portrait.u, portrait.v))
    if np.ptp(np.diff(x)) <= 1e-6 * np.ptp(x) and np.ptp(np.diff(y)) <= 1e-6 * np.ptp(y):
        axes.streamplot(x, y, u, v, color="#B9C0C7", linewidth=0.7, density=1.0, arrowsize=0.7, zorder=1)
    else:
        length = np.ma.hypot(u, v)
        length = np.ma.where(length > 0, length, 1.0)
        axes.quiver(x, y, u / length, v / length, color="#B9C0C7", pivot="mid", width=0.004, zorder=1)
    for label, points in portrait.trajectories:
        colour, dashes = colours[label]
        points = np.asarray(points, float)
        points = points[np.cumprod(np.isfinite(points).all(axis=1)).astype(bool)]
        if not len(points):
            continue
        # What lies far outside would only make the renderer stumble.
        far = 50 * max(np.ptp(x), np.ptp(y))
        points = np.clip(points, [x[0] - far, y[0] - far], [x[-1] + far, y[-1] + far])
        for part, full in _stretches(points, np.asarray(portrait.equilibrium, float)):
            faint: dict[str, Any] = {"linewidth": 0.5, "alpha": 0.22}
            look = {"linestyle": dashes, "linewidth": 1.1, "zorder": 3} if full else faint
            axes.plot(*part.T, color=colour, **look)
        axes.plot(*points[0], marker="o", color=style.PAPER, markeredgecolor=colour, markersize=5, zorder=4)
        axes.plot(*points[-1], marker="o", color=colour, markeredgecolor=style.PAPER, markersize=4.5, zorder=4)
    axes.plot(
        *np.asarray(portrait.equilibrium, float),
        marker="*",
        color=style.INK,
        markeredgecolor=style.PAPER,
        markersize=12,
        zorder=5,
    )
    style.dress(axes, portrait.title if titled else "", *portrait.names, grid=False)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    if 0.5 < np.ptp(x) / np.ptp(y) < 2:
        axes.set_aspect("equal")


def _legend(colours: dict[str, tuple[str, str]]) -> list:
    handles = [style.line(label, colour, dashes) for label, (colour, dashes) in colours.items()]
    start = style.mark("start", "o", style.INK, filled=False, size=5)
    return [*handles, start, style.mark("end", "o", size=5), style.mark("equilibrium", "*", size=10)]
