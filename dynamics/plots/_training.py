"""Pictures of a training: samples, and losses and metrics over its steps."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics._checks import described
from dynamics.plots._style import (
    BLUE,
    GREY,
    INK,
    SERIES,
    VERMILLION,
    Picture,
    dress,
    grid_of_panels,
    heading,
    legend_below,
    line,
    mark,
    padded,
)

SMALL = 4.0  # size of a point


def samples(
    fake: Any, real: Any = None, *, centres: Any = None, rows: int = 8, title: str = "Samples", subtitle: str = ""
) -> Figure:
    """Generated samples: points of the plane over real ones, or a grid of images beside a grid of real ones.

    Args:
        fake: shape (n, 2) for points; (n, channels, height, width) with 1 or 3 channels from -1 to 1 for images.
        real: likewise, or `None`.
        centres: of the modes, shape (modes, 2), or `None`; of points only.
        rows: of a grid of images, which has as many columns.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: samples of another shape.
    """
    arrays = [np.asarray(values) for values in (fake, real) if values is not None]
    for array in arrays:
        points, images = array.ndim == 2 and array.shape[1] == 2, array.ndim == 4 and array.shape[1] in (1, 3)
        if not (points or images) or array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"samples are {described(array)}; expected points, shape (n, 2), or images with 1 or 3 channels, shape "
                "(n, channels, height, width), real and fake alike"
            )
    return _points(arrays, centres, title, subtitle) if arrays[0].ndim == 2 else _images(arrays, rows, title, subtitle)


def _points(arrays: list[np.ndarray], centres: Any, title: str, subtitle: str) -> Figure:
    figure = Picture(5.2, 5.6)
    axes = figure.add_subplot()
    dress(axes)
    shown = arrays[-1] if len(arrays) > 1 else arrays[0]
    handles = []
    if len(arrays) > 1:
        axes.scatter(*arrays[1].T, s=SMALL, color=GREY, linewidths=0)
        handles.append(mark("real", "o", GREY, size=4))
    axes.scatter(*arrays[0].T, s=SMALL, color=BLUE, alpha=0.5, linewidths=0)
    handles.append(mark("generated", "o", BLUE, size=4))
    if centres is not None:
        places = np.asarray(centres)
        axes.scatter(*places.T, s=40, marker="+", color=VERMILLION, linewidths=1.2)
        handles.append(mark("centres of the modes", "+", VERMILLION))
        shown = np.concatenate([shown, places])
    axes.set_xlim(*padded(shown[:, 0], 0.25))
    axes.set_ylim(*padded(shown[:, 1], 0.25))
    axes.set_aspect("equal", adjustable="box")
    legend_below(figure, handles)
    heading(figure, title, subtitle)
    return figure


def _images(arrays: list[np.ndarray], rows: int, title: str, subtitle: str) -> Figure:
    figure = Picture(4.2 * len(arrays), 4.9)
    for place, (array, name) in enumerate(zip(arrays, ("generated", "real"))):
        axes = figure.add_subplot(1, len(arrays), place + 1)
        axes.imshow(_tiled(array, rows), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(name, fontsize=9, color=INK)
    heading(figure, title, subtitle)
    return figure


def _tiled(images: np.ndarray, rows: int) -> np.ndarray:
    """A square of images with a pixel of room between them, values from 0 to 1; colours last where there are any."""
    count = min(len(images), rows * rows)
    _, channels, height, width = images.shape
    canvas = np.zeros((rows * (height + 1) + 1, rows * (width + 1) + 1, channels))
    for place in range(count):
        down, across = (place // rows) * (height + 1) + 1, (place % rows) * (width + 1) + 1
        pixels = np.clip((images[place] + 1) / 2, 0, 1)
        canvas[down : down + height, across : across + width] = np.moveaxis(pixels, 0, -1)
    return canvas[..., 0] if channels == 1 else canvas


def training(result: Any, *, title: str = "Training", subtitle: str = "") -> Figure:
    """Losses and metrics over the steps of a `Training`, a panel for the losses and one for every metric.

    Args:
        result: what `dynamics.train` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    panels = 1 + len(result.metrics)
    down, across = grid_of_panels(panels, 4)
    figure = Picture(2.9 * across + 0.4, 2.3 * down + 0.9)
    axes = figure.add_subplot(down, across, 1)
    dress(axes, "losses", "step")
    handles = []
    for player, losses in enumerate(result.losses.T):
        colour = SERIES[player % len(SERIES)]
        axes.plot(result.steps, losses, color=colour, linewidth=1.2)
        handles.append(line(f"loss of player {player}", colour))
    for place, (name, series) in enumerate(result.metrics.items()):
        axes = figure.add_subplot(down, across, place + 2)
        dress(axes, name.replace(".", ": ").replace("_", " "), "step")
        axes.plot(result.steps, series, color=INK, linewidth=1.2)
        known = series[np.isfinite(series)]
        if known.size and known.min() > 0 and known.max() > 50 * known.min():
            axes.set_yscale("log")
        elif known.size and not known.any():
            axes.set_ylim(0, 1)  # around 0 there would be a scale of negative shares and counts
    legend_below(figure, handles)
    heading(figure, title, subtitle)
    return figure
