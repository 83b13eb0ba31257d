"""Particles on their way to the data, over the landscape of the discriminator."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots._style import FAINT, INK, SERIES, Picture, dress, heading, legend_below, line, mark

MOST_ARROWS = 21  # along an axis


def particles(
    paths: Any,
    data: Any,
    landscape: Any = None,
    *,
    times: Any = None,
    title: str = "Particles",
    subtitle: str = "",
) -> Figure:
    """Paths of particles and the data; in the plane, over scores and velocities of a discriminator.

    Args:
        paths: positions at every time, shape (times, n, 2); (times, n) or (times, n, 1) for numbers, which are drawn
            over time.
        data: shape (m, 2), (m,) or (m, 1).
        landscape: what `dynamics.function_space.landscape` returned; `None`: none.
        times: shape (times,), for numbers; `None`: how many were saved before.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: points that are neither numbers nor of the plane.
    """
    paths, data = np.asarray(paths, float), np.asarray(data, float)
    if paths.ndim == 2:
        paths = paths[..., None]
    if data.ndim == 1:
        data = data[:, None]
    if paths.ndim != 3 or paths.shape[2] not in (1, 2) or data.shape[1:] != paths.shape[2:]:
        raise ValueError(
            f"paths has shape {paths.shape} and data {data.shape}; expected (times, n, 2) and (m, 2), or numbers"
        )
    paths = np.where(np.abs(paths) < 1e30, paths, np.nan)
    planar = paths.shape[2] == 2
    figure = Picture(6.4, 6.6) if planar else Picture(7.0, 4.4)
    axes = figure.add_subplot()
    if planar:
        if landscape is not None:
            _background(figure, axes, landscape)
        dress(axes, grid=landscape is None)
        axes.plot(*np.moveaxis(paths, 2, 0), color=INK, linewidth=0.6, alpha=0.5)
        axes.plot(*data.T, "x", color=SERIES[1], markersize=6)
        axes.plot(*paths[0].T, "o", color=FAINT, markeredgecolor=INK, markersize=3.5)
        axes.plot(*paths[-1].T, "o", color=SERIES[0], markersize=4.5)
        axes.set_aspect("equal")
        if landscape is not None:
            axes.set_xlim(landscape.x[0], landscape.x[-1])
            axes.set_ylim(landscape.y[0], landscape.y[-1])
    else:
        at = np.arange(len(paths)) if times is None else np.asarray(times, float)
        dress(axes, x="saves" if times is None else "time", y="position", left=True)
        for value in data[:, 0]:
            axes.axhline(value, color=SERIES[1], linewidth=0.9, linestyle="--")
        axes.plot(at, paths[..., 0], color=SERIES[0], linewidth=1.2)
    handles = [line("data", SERIES[1], "--"), line("particles", SERIES[0])]
    if planar:
        handles = [
            mark("data", "x", SERIES[1]),
            mark("particles at the start", "o", INK, filled=False, size=4),
            mark("and at the end", "o", SERIES[0], size=5),
        ]
    legend_below(figure, handles)
    heading(figure, title, subtitle)
    return figure


def _background(figure: Figure, axes: Any, landscape: Any) -> None:
    """Scores as colours, symmetric about their mean, and velocities as arrows of one length."""
    middle = landscape.scores.mean()
    most = max(np.abs(landscape.scores - middle).max(), 1e-12)
    image = axes.imshow(
        landscape.scores,
        extent=(landscape.x[0], landscape.x[-1], landscape.y[0], landscape.y[-1]),
        origin="lower",
        interpolation="bilinear",
        cmap="PuOr_r",
        vmin=middle - most,
        vmax=middle + most,
        alpha=0.75,
    )
    bar = figure.colorbar(image, ax=axes, shrink=0.75)
    bar.set_label("score (high: looks real)", color=INK, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    every = -(-len(landscape.x) // MOST_ARROWS)
    x, y, arrows = landscape.x[::every], landscape.y[::every], landscape.velocities[::every, ::every]
    lengths = np.linalg.norm(arrows, axis=-1, keepdims=True)
    arrows = arrows / np.where(lengths > 0, lengths, 1)
    axes.quiver(x, y, *np.moveaxis(arrows, -1, 0), color=INK, alpha=0.35, scale=34, width=0.0022)
