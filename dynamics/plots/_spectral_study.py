"""Pictures of studies of spectra: clouds of eigenvalues along training, and failures beside predicted boundaries."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots import _style as style
from dynamics.plots._style import INK, SERIES, Picture, dress, heading, legend_below, line, note

FAR = 4.0  # times the 98 % quantile: what lies further out is left out of the window, and counted


def eigenvalue_clouds(dataset: Any, *, title: str = "Eigenvalues along training", subtitle: str = "") -> Figure:
    """The eigenvalues of a step, all seeds on top of each other: a row per update, a column per time of training.

    The window is the same in all panels; the axes are those of the eigenvalue less 1, so that the unit circle passes
    through the origin. A panel says how many of its eigenvalues, those near 1 left out, lie outside of the
    circle, and how many of all outside of the window.

    Args:
        dataset: with `eigenvalues` over `variant`, `step`, `seed` and `eigenvalue`, and the share `outside`.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    values = dataset["eigenvalues"].transpose("variant", "step", "seed", "eigenvalue").values - 1
    names, steps = [str(name) for name in dataset["variant"].values], dataset["step"].values
    outside = dataset["outside"].mean("seed").transpose("variant", "step").values
    finite = values[np.isfinite(values)]
    far = FAR * np.quantile(np.abs(finite), 0.98) if finite.size else 1.0
    near = finite[np.abs(finite) <= far]
    left, right = style.padded([*near.real, 0.0])
    low, high = style.padded([*near.imag, 0.0])
    figure = Picture(2.1 * len(steps) + 0.6, 2.1 * len(names) + 1.0)
    panels = figure.subplots(len(names), len(steps), squeeze=False, sharex=True, sharey=True)
    # The unit circle about -1, as exact in a narrow window as in a wide one.
    heights = np.linspace(max(low, -1.0), min(high, 1.0), 401)
    rim = -(heights**2) / (1 + np.sqrt(1 - heights**2))
    for row, (name, colour) in enumerate(zip(names, SERIES)):
        for column, step in enumerate(steps):
            axes, points = panels[row, column], values[row, column].ravel()
            dress(
                axes,
                f"step {step}" if row == 0 else "",
                "Re λ - 1" if row == len(names) - 1 else "",
                f"{name}\nIm λ" if column == 0 else "",
            )
            axes.fill_betweenx(heights, left, rim, color="#EAF3F9", linewidth=0, zorder=0)
            axes.plot(rim, heights, color=INK, linewidth=0.9, zorder=2)
            axes.plot(points.real, points.imag, ".", color=colour, markersize=2.5, alpha=0.35, zorder=3, mew=0)
            axes.set_xlim(left, right)
            axes.set_ylim(low, high)
            there = points[np.isfinite(points)]
            said = [f"{outside[row, column]:.0%} outside"] if there.size else ["not finite"]
            if hidden := int(np.sum((there.real < left) | (there.real > right) | (np.abs(there.imag) > high))):
                said.append(f"{hidden} not shown")
            note(axes, ", ".join(said))
    legend_below(figure, [line("unit circle", INK, width=0.9), style.patch("stable side", "#EAF3F9", style.FAINT)])
    heading(figure, title, subtitle)
    return figure


def failures(dataset: Any, *, title: str = "Failures of training", subtitle: str = "") -> Figure:
    """Shares of trainings that fail over weight of the penalty and rate, and the largest rates that spectra predict.

    A panel for each variable whose name starts with `failed_`.

    Args:
        dataset: with such variables over `weight`, `rate` and `seed`, and `predicted` over `weight` and `seed`.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    names = [str(name) for name in dataset.data_vars if str(name).startswith("failed_")]
    weights, rates = dataset["weight"].values, dataset["rate"].values
    figure = Picture(4.4 * len(names) + 0.8, 4.4)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    edges = [_edges(values) for values in (weights, rates)]
    predicted = dataset["predicted"].transpose("seed", "weight").values
    shades = None
    for axes, name in zip(panels, names, strict=True):
        share = dataset[name].mean("seed").transpose("rate", "weight").values
        dress(axes, name.removeprefix("failed_").replace("_", " "), "weight of R1", "", grid=False)
        shades = axes.pcolormesh(*edges, share, cmap="Oranges", vmin=0, vmax=1, linewidth=0)
        for row in predicted:
            axes.plot(weights, row, color=SERIES[0], linewidth=0.8, alpha=0.6)
        axes.plot(weights, np.median(predicted, axis=0), color=INK, linewidth=1.6, marker="o", markersize=3.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*edges[0][[0, -1]])
        axes.set_ylim(*edges[1][[0, -1]])
    panels[0].set_ylabel("rate of both players", fontsize=style.LABEL, color=INK)
    assert shades is not None
    bar = figure.colorbar(shades, ax=list(panels), pad=0.01)
    bar.set_label("share of trainings that fail", fontsize=style.LABEL, color=INK)
    bar.ax.tick_params(labelsize=style.TICK)
    legend_below(
        figure, [line("predicted, each seed", SERIES[0], width=0.8), line("predicted, median", INK, width=1.6)]
    )
    heading(figure, title, subtitle)
    return figure


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of cells around values that are spaced in their logarithm."""
    logs = np.log(values)
    middles = (logs[1:] + logs[:-1]) / 2 if len(logs) > 1 else np.zeros(0)
    first = middles[0] - logs[0] if len(middles) else 0.5
    last = logs[-1] - middles[-1] if len(middles) else 0.5
    return np.exp([logs[0] - first, *middles, logs[-1] + last])
