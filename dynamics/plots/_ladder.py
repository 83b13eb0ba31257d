"""Pictures of the ladder: divergences along training, spectra beside each other, densities at the end."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots._style import (
    FAINT,
    GREY,
    INK,
    LABEL,
    SERIES,
    Picture,
    dress,
    grid_of_panels,
    heading,
    legend_below,
    line,
)

LEAST = 1e-8  # of a divergence in a picture
REAL, IMAGINARY = (-3.2, 0.6), (-1.6, 1.6)  # what is shown of the plane


def ladder_divergences(
    dataset: Any, *, flows: int, title: str = "Divergence along training", subtitle: str = ""
) -> Figure:
    """Jensen-Shannon divergence of every floor: over time where nothing has parameters, over steps of the networks.

    Args:
        dataset: what `dynamics.experiments.Ladder.run` returned.
        flows: how many floors, from the top, are followed in time.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    figure = Picture(9.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    names, handles = [str(name) for name in dataset["floor"].values], []
    values = np.maximum(dataset["divergence"].transpose("floor", "seed", "save").values, LEAST)
    for axes, head, label in zip(panels, ("function space", "parameters"), ("time", "step of Adam"), strict=True):
        dress(axes, head, label, "Jensen-Shannon divergence" if head == "function space" else "")
        axes.set_yscale("log")
    for number, name in enumerate(names):
        axes, colour = panels[int(number >= flows)], SERIES[number]
        position = dataset["position"].values[number]
        if number >= flows:
            for row in values[number]:
                axes.plot(position, row, color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(position, np.exp(np.log(values[number]).mean(axis=0)), color=colour, linewidth=1.8)
        handles.append(line(name, colour, width=2))
    legend_below(figure, handles, columns=3)
    heading(figure, title, subtitle)
    return figure


def ladder_spectra(dataset: Any, *, title: str = "Spectra, floor by floor", subtitle: str = "") -> Figure:
    """Eigenvalues of every floor in the complex plane; how many lie outside of what is shown is said above each.

    Args:
        dataset: what `dynamics.experiments.Ladder.run` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    names = [str(name) for name in dataset["floor"].values]
    down, across = grid_of_panels(len(names), 4)
    figure = Picture(3.1 * across, 2.9 * down + 0.6)
    for number, name in enumerate(names):
        values = dataset["eigenvalues"].transpose("floor", "eigenvalue").values[number]
        values = values[np.isfinite(values)]
        x, y = values.real, values.imag
        inside = (x > REAL[0]) & (x < REAL[1]) & (np.abs(y) < IMAGINARY[1])
        axes = figure.add_subplot(down, across, number + 1)
        left, up = number % across == 0, number + across >= len(names)
        dress(axes, name, "real part" if up else "", "imaginary part" if left else "")
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.plot(x[inside], y[inside], "o", color=SERIES[number], markersize=3.2, alpha=0.75, markeredgewidth=0)
        axes.set_xlim(*REAL)
        axes.set_ylim(*IMAGINARY)
        said = f"{len(values)} eigenvalues" + (f", {np.sum(~inside)} outside" if np.any(~inside) else "")
        axes.text(0.03, 0.97, said, transform=axes.transAxes, fontsize=LABEL - 1.5, color=INK, va="top")
    heading(figure, title, subtitle)
    return figure


def ladder_densities(dataset: Any, *, title: str = "Model and data at the end", subtitle: str = "") -> Figure:
    """The blurred density of every floor at the end, of the first seed, over that of the data.

    Args:
        dataset: what `dynamics.experiments.Ladder.run` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    names, points = [str(name) for name in dataset["floor"].values], dataset["point"].values
    down, across = grid_of_panels(len(names), 4)
    figure = Picture(3.1 * across, 2.3 * down + 0.6)
    for number, name in enumerate(names):
        axes = figure.add_subplot(down, across, number + 1)
        dress(axes, name, "x" if number + across >= len(names) else "", "density" if number % across == 0 else "")
        axes.fill_between(points, dataset["data"].values, color=FAINT, linewidth=0)
        axes.plot(points, dataset["density"].values[number], color=SERIES[number], linewidth=1.6)
        axes.set_ylim(0, 1.6 * float(dataset["data"].max()))
    heading(figure, title, subtitle)
    return figure
