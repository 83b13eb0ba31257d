"""One run over time: players and losses, and the plane for a game of two scalars."""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from dynamics.outcomes import Outcome
from dynamics.plots import _style as style

MOST_LINES = 12


def trajectory(run: Any) -> Figure:
    """The players and their losses over the saved steps; for two scalar players also their path in the plane.

    Of large players the first dozen of coordinates are drawn.

    Args:
        run: a `dynamics.Run` of one game, saved along the way.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: this is a batch of runs, or nothing but the end was saved.
    """
    check_one_run(run)
    steps = np.asarray(run.steps)
    named = coordinates(run.players)
    planar = len(named) == 2
    figure = style.Picture(10.0 if planar else 7.0, 5.6)
    grid = figure.add_gridspec(2, 2 if planar else 1, width_ratios=[1.15, 1] if planar else None)
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    name = "step" if np.issubdtype(steps.dtype, np.integer) else "time"
    for i, (label, values) in enumerate(named[:MOST_LINES]):
        upper.plot(steps, shown(values), label=style.plain(label), **look(i))
    if len(named) > MOST_LINES:
        style.note(upper, f"{MOST_LINES} of {len(named)} coordinates")
    for i, loss in enumerate(run.losses):
        lower.plot(steps, shown(np.asarray(loss)), label=f"loss {i}", **look(i))
    style.dress(upper, "players", "", "coordinates", left=True)
    style.dress(lower, "losses", name, "loss", left=True)
    _legend(upper, len(named))
    _legend(lower, len(run.losses))
    if planar:
        _plane(figure.add_subplot(grid[:, 1]), named)
    outcome = Outcome(int(run.outcome))
    rate = f", rate {float(run.rate):.4g} per {'step' if name == 'step' else 'unit of time'}"
    style.heading(figure, f"Outcome: {outcome.name.replace('_', ' ')}", f"{name}s {steps[0]:g} to {steps[-1]:g}{rate}")
    return figure


def check_one_run(run: Any) -> None:
    """Raise `ValueError` unless this is one run, saved along the way."""
    if np.ndim(run.outcome):
        raise ValueError(
            f"run is a batch of shape {np.shape(run.outcome)}; expected one run, "
            "e.g. jax.tree.map(lambda leaf: leaf[0], run)"
        )
    if len(run.steps) < 2:
        raise ValueError("the run saved its end only; simulate with save_every=1 (or another number) to draw it")


def _legend(axes: Any, count: int) -> None:
    """Beside the title, or to the right when there are many entries."""
    where = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.99), "ncols": count, "borderaxespad": 0.2}
    if count > 4:
        where = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend(fontsize=style.TICK, frameon=False, labelcolor=style.INK, **where)


def look(i: int) -> dict[str, Any]:
    """Colour and style of the i-th line."""
    size = len(style.SERIES)
    return {
        "color": style.SERIES[i % size],
        "linestyle": style.LINES[(i // size) % len(style.LINES)],
        "linewidth": 1.2,
    }


def shown(values: np.ndarray) -> np.ndarray:
    """Without what a renderer cannot draw."""
    return np.where(np.abs(values) < 1e30, values, np.nan)


def coordinates(players: Any) -> list[tuple[str, np.ndarray]]:
    """Every coordinate over time with its name."""
    result = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(players):
        flat = np.asarray(leaf).reshape(len(leaf), -1)
        first, *rest = path
        name = f"player {getattr(first, 'idx', first)}{jax.tree_util.keystr(tuple(rest))}"
        for i in range(flat.shape[1]):
            result.append((name if flat.shape[1] == 1 else f"{name}[{i}]", flat[:, i]))
    return result


def _plane(axes: Any, named: list[tuple[str, np.ndarray]]) -> None:
    (x_name, x), (y_name, y) = named
    x, y = shown(x), shown(y)
    axes.plot(x, y, color=style.SERIES[0], linewidth=1.0, label="path")
    ends = {"start": (0, style.PAPER), "end": (-1, style.SERIES[0])}
    for label, (i, face) in ends.items():
        axes.plot(
            x[i], y[i], linestyle="", marker="o", markersize=6, color=face, markeredgecolor=style.SERIES[0], label=label
        )
    style.dress(axes, "plane", x_name, y_name, left=True)
    # An end at infinity leaves no room for a scale.
    if np.isfinite(x).all() and np.isfinite(y).all() and 0.4 < (np.ptp(x) + 1e-300) / (np.ptp(y) + 1e-300) < 2.5:
        axes.set_aspect("equal", adjustable="datalim")
    _legend(axes, 3)
