"""Runs of several methods over the field of a game of two numbers, or in the plane in which larger games move most."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.analysis.planar import KINDS, PlanarField, planar_field
from dynamics.outcomes import Outcome
from dynamics.plots import _style as style
from dynamics.studies.results import player_names

MARKS: dict[str, str] = dict(zip(KINDS, ("*", "P", "D", "x"), strict=True))
ARROWS = 3  # along a path
FIELD = "#B9C0C7"


def portrait(
    game: Any,
    runs: Mapping[str, Any],
    *,
    window: tuple[tuple[float, float], tuple[float, float]] | None = None,
    names: tuple[str, str] | None = None,
    title: str = "",
    key: PRNGKeyArray | None = None,
    axes: Axes | None = None,
) -> Figure:
    """The paths of runs: over the field, nullclines and equilibria of a game of two numbers, else projected.

    Of a game of more numbers the plane is drawn in which the runs move most (the first two principal directions of all
    their points), and of each axis its share of the variance. Runs of updates are solid lines, those of flows dashed;
    a name has one colour in all panels of a figure and in all figures with the same names in the same order.

    Args:
        game: the game, whose field is evaluated on a grid.
        runs: `dynamics.Run`s of one game each, saved along the way, by the name of the method.
        window: `((x_low, x_high), (y_low, y_high))`; default around the paths. Games of two numbers only.
        names: of the axes; default the players.
        title: of the picture; default the class of the game.
        key: for a game that can only be sampled.
        axes: those to draw into, one of several panels of a figure; without title and legend.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file. With `axes` the one that these
        are of.

    Raises:
        ValueError: there is no run, a run is a batch or has saved its end only, or a window for a larger game.

    `portrait(game, dynamics.compare(game, methods, start).runs)` draws what was compared.
    """
    if not runs:
        raise ValueError("runs is empty; expected runs by the name of their method, e.g. {'alternating': run}")
    paths = {name: _path(name, run) for name, run in runs.items()}
    figure = style.Picture(6.2, 6.6) if axes is None else None
    axes = figure.add_subplot() if figure is not None else axes
    assert axes is not None
    handles: list[Any] = []
    if next(iter(paths.values())).shape[1] == 2:
        window = window or _window(list(paths.values()), _settled(runs, paths))
        field = planar_field(game, next(iter(runs.values())).final, window, key=key)
        labels = names or player_names(game)
        handles += _draw_field(axes, field, labels)
        axes.set_xlim(*window[0])
        axes.set_ylim(*window[1])
        subtitle = "the field, where each of its components vanishes, and the paths of the methods"
    else:
        if window is not None:
            raise ValueError("a window is for games of two numbers; larger ones are drawn where the runs move most")
        paths, shares = _projected(paths, _settled(runs, paths))
        labels = names or tuple(f"principal direction {i} ({share:.0%} of the variance)" for i, share in shares)
        subtitle = "the paths of the methods, in the plane in which they move most"
    for number, (name, path) in enumerate(paths.items()):
        handles.append(_draw_path(axes, path, number, name, _is_flow(runs[name])))
    style.dress(axes, "", *labels, grid=False)
    if 0.5 < np.ptp(axes.get_xlim()) / np.ptp(axes.get_ylim()) < 2:
        axes.set_aspect("equal")
    if figure is None:
        whole = axes.get_figure(root=True)
        assert whole is not None
        return whole
    style.heading(figure, title or type(game).__name__, subtitle)
    ends = [style.mark("start", "o", style.INK, filled=False, size=5), style.mark("end", "o", size=5)]
    style.legend_below(figure, [*handles, *ends], columns=3)
    return figure


def _is_flow(run: Any) -> bool:
    return np.issubdtype(np.asarray(run.reached).dtype, np.floating)


def _path(name: str, run: Any) -> np.ndarray:
    """Finite points of a run, shape (saved, numbers)."""
    if np.ndim(run.outcome):
        raise ValueError(f"the run of {name!r} is a batch of shape {np.shape(run.outcome)}; expected one run")
    if len(run.steps) < 2:
        raise ValueError(f"the run of {name!r} saved its end only; simulate with save_every=1, or another number")
    leaves = jax.tree.leaves(run.players)
    points = np.concatenate([np.asarray(leaf, float).reshape(len(leaf), -1) for leaf in leaves], axis=1)
    return points[np.cumprod((np.abs(points) < 1e30).all(axis=1)).astype(bool)]


def _settled(runs: Mapping[str, Any], paths: Mapping[str, np.ndarray]) -> float:
    """The largest number on the paths that come to rest or go round: all of these are to be seen."""
    kept = (Outcome.converged, Outcome.cycling)
    return max(
        (float(np.abs(path).max()) for name, path in paths.items() if int(runs[name].outcome) in kept), default=0
    )


def _window(paths: list[np.ndarray], settled: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Around the paths."""
    near = _near(paths, settled)
    half = 0.55 * max(np.ptp(near, axis=0).max(), 1e-3)
    middle = (near.min(axis=0) + near.max(axis=0)) / 2
    (x_low, y_low), (x_high, y_high) = (middle - half).tolist(), (middle + half).tolist()
    return (x_low, x_high), (y_low, y_high)


def _near(paths: list[np.ndarray], settled: float) -> np.ndarray:
    """All points; of paths that run away, those within ten times the size of the starts."""
    reach = max(settled, 10 * max(1e-3, float(np.abs([path[0] for path in paths]).max())))
    return np.concatenate([path[(np.abs(path) <= reach).all(axis=1)] for path in paths])


def _projected(paths: dict[str, np.ndarray], settled: float) -> tuple[dict[str, np.ndarray], list[tuple[int, float]]]:
    """The paths on the two first principal directions, and the share of the variance of each."""
    points = _near(list(paths.values()), settled)
    centre = points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(points - centre, full_matrices=False)
    shares = sizes[:2] ** 2 / max(float(np.sum(sizes**2)), 1e-300)
    projected = {name: (path - centre) @ directions[:2].T for name, path in paths.items()}
    return projected, [(i + 1, float(share)) for i, share in enumerate(shares)]


def _draw_field(axes: Axes, field: PlanarField, names: tuple[str, ...]) -> list[Any]:
    u, v = (np.ma.masked_invalid(part) for part in (field.u, field.v))
    axes.streamplot(field.x, field.y, u, v, color=FIELD, linewidth=0.7, density=1.1, arrowsize=0.7, zorder=1)
    handles = []
    for part, dashes, name in ((u, ":", names[0]), (v, (0, (1, 4)), names[1])):
        if part.count() and part.min() < 0 < part.max():
            axes.contour(field.x, field.y, part, [0.0], colors="#7A8690", linestyles=[dashes], linewidths=1.0, zorder=2)
            handles.append(style.line(f"{name} at rest", "#7A8690", dashes, 1.0))
    for (x, y), kind in zip(field.equilibria, field.kinds, strict=True):
        plain = MARKS[kind] == "x"
        axes.plot(
            x, y, MARKS[kind], color=style.INK, markersize=11 if MARKS[kind] == "*" else 8,
            markeredgecolor=style.INK if plain else style.PAPER, zorder=6,
        )  # fmt: skip
    return handles + [style.mark(kind, MARKS[kind], size=8) for kind in style.unique(field.kinds)]


def _draw_path(axes: Axes, path: np.ndarray, number: int, name: str, flow: bool) -> Any:
    colour = style.SERIES[number % len(style.SERIES)]
    dashes = "--" if flow else "-"
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    inside = ((path >= low - 50 * (high - low)) & (path <= high + 50 * (high - low))).all(axis=1)
    path = path[np.cumprod(inside).astype(bool)]  # what lies far outside would only make the renderer stumble
    axes.plot(*path.T, color=colour, linestyle=dashes, linewidth=1.2, zorder=3)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    for share in np.linspace(0, 1, ARROWS + 2)[1:-1]:
        place = int(np.searchsorted(lengths, share * lengths[-1]))
        if 0 < place < len(path) and lengths[-1] > 0:
            arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
            axes.annotate("", path[place], path[place - 1], arrowprops=arrow, zorder=4)
    axes.plot(*path[0], marker="o", color=style.PAPER, markeredgecolor=colour, markersize=5.5, zorder=5)
    axes.plot(*path[-1], marker="o", color=colour, markeredgecolor=style.PAPER, markersize=5, zorder=5)
    return style.line(name, colour, dashes)
