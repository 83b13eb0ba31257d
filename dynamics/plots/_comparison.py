"""Pictures of comparisons: means with error bars over a setting, a line per variant."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots._style import (
    SERIES,
    Picture,
    dress,
    grid_of_panels,
    heading,
    is_geometric,
    legend_below,
    line,
    mark,
)

LEAST_BAR = 1e-12  # of an error bar: matplotlib refuses what rounding makes negative
BESIDE = 0.02  # of variants: a share of the axis, of a logarithm where it is one


def comparison(
    means: Any,
    *,
    axis: str,
    title: str = "Comparison",
    subtitle: str = "",
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Means of every measure over a setting, with their intervals: a panel per measure, a line per variant.

    Of a single value of the setting: a row per variant in place of a line, with published values beside.

    Args:
        means: what `dynamics.experiments.Comparison.means` returned.
        axis: the setting that is drawn to the right; the first value of any other one is shown.
        title, subtitle: above the picture.
        published: values from the literature, by measure and variant.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: the means are not over such a setting.
    """
    if axis not in means.dims:
        raise ValueError(f"axis is {axis!r}; expected one of {', '.join(map(str, means.dims))}")
    means = means.isel({name: 0 for name in means.dims if name not in ("variant", axis)})
    names = [str(name) for name in means.data_vars if f"{name}_low" in means]
    if means.sizes[axis] == 1:
        return _rows(means.isel({axis: 0}), names, title, subtitle, published or {})
    down, across = grid_of_panels(len(names), 4)
    figure = Picture(2.9 * across + 0.4, 2.3 * down + 0.9)
    values = means[axis].values
    geometric, variants = is_geometric(values), means.sizes["variant"]
    for place, name in enumerate(names):
        axes = figure.add_subplot(down, across, place + 1)
        dress(axes, name.replace("_", " "), axis)
        for number, variant in enumerate(means["variant"].values):
            mean, low, high = (
                means[name + end].sel(variant=variant).transpose(axis).values for end in ("", "_low", "_high")
            )
            bars = np.maximum(np.stack([mean - low, high - mean]), LEAST_BAR)
            colour = SERIES[number % len(SERIES)]
            # Side by side: of two that are equal one would hide the other.
            beside = (number - (variants - 1) / 2) * BESIDE
            at = values * np.exp(beside) if geometric else values + beside * np.ptp(values)
            axes.errorbar(at, mean, bars, color=colour, linewidth=1.4, elinewidth=0.9, capsize=2.5, marker="o", ms=3)
        if geometric:
            axes.set_xscale("log")
    handles = [line(str(variant), SERIES[n % len(SERIES)]) for n, variant in enumerate(means["variant"].values)]
    legend_below(figure, handles)
    heading(figure, title, subtitle)
    return figure


def _rows(
    means: Any, names: list[str], title: str, subtitle: str, published: Mapping[str, Mapping[str, float]]
) -> Figure:
    """A panel per measure, a row per variant."""
    variants = [str(variant) for variant in means["variant"].values]
    rows = np.arange(len(variants))[::-1]
    figure = Picture(2.2 * len(names) + 1.8, 0.3 * len(variants) + 1.5)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        dress(axes, name.replace("_", " "))
        mean, low, high = (means[name + end].transpose("variant").values for end in ("", "_low", "_high"))
        bars = np.maximum(np.stack([mean - low, high - mean]), LEAST_BAR)
        axes.errorbar(mean, rows, xerr=bars, color=SERIES[0], linestyle="", elinewidth=1.2, capsize=3, marker="o", ms=4)
        known = published.get(name, {})
        places = [(known[variant], row) for variant, row in zip(variants, rows, strict=True) if variant in known]
        if places:
            axes.plot(*zip(*places, strict=True), "D", color=SERIES[1], markerfacecolor="none", markersize=6)
        axes.set_yticks(rows, variants)
        axes.set_ylim(-0.6, len(variants) - 0.4)
    if published:
        handles = [mark("here, 95 %", "o", SERIES[0]), mark("published", "D", SERIES[1], filled=False)]
        legend_below(figure, handles)
    heading(figure, title, subtitle)
    return figure
