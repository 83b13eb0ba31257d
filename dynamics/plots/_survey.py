"""Pictures of a survey of objectives: weights of the generator's gradient, divergences along training, two rates."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots._style import (
    FAINT,
    INK,
    LABEL,
    SERIES,
    TICK,
    Picture,
    dress,
    grid_of_panels,
    heading,
    legend_below,
    line,
    plain,
    unique,
)

LEAST = 1e-8  # of a divergence in a picture
RATE_COLOURS = {"fixed": SERIES[1], "gap-aware": SERIES[0]}


def _legend_under(axes: Any, *, down: float, **options: Any) -> None:
    """The legend of one panel, under it."""
    place = dict(loc="upper center", bbox_to_anchor=(0.5, -down))
    axes.legend(**place, frameon=False, labelcolor=INK, handlelength=1.8, **options)


def survey_weights(dataset: Any, *, title: str = "Weight of the generator's gradient", subtitle: str = "") -> Figure:
    """The generator's weight against the density ratio, a panel per family of objectives.

    Args:
        dataset: what `dynamics.experiments.Survey.run` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    weight = dataset["weight"].transpose("objective", "ratio").values
    shown = np.isfinite(weight).all(axis=1) & (weight != 0).any(axis=1)
    families = unique(dataset["family"].values[shown])
    down, across = grid_of_panels(len(families), 3)
    figure = Picture(3.9 * across, 3.8 * down + 0.6)
    for place, family in enumerate(families):
        axes = figure.add_subplot(down, across, place + 1)
        dress(axes, family, "density ratio r = data / model", "weight" if place % across == 0 else "")
        for number, row in enumerate(np.flatnonzero(shown & (dataset["family"].values == family))):
            style, label = _style(number), str(dataset["objective"].values[row])
            values, ratio = weight[row], dataset["ratio"].values
            axes.plot(ratio, np.where(values > 0, values, np.nan), label=plain(label), linewidth=1.5, **style)
            if (values < 0).any():
                below: dict[str, Any] = {**style, "linestyle": ":"}
                axes.plot(ratio, np.where(values < 0, -values, np.nan), label=f"{label}, negative", lw=1.5, **below)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1e-6, 1e6)
        axes.axvline(1, color="#9AA0A6", linewidth=0.8)
        _legend_under(axes, down=0.2, ncols=2, fontsize=TICK - 1)
    heading(figure, title, subtitle)
    return figure


def survey_divergences(dataset: Any, *, title: str = "Divergence along training", subtitle: str = "") -> Figure:
    """Divergences along both trainings, a column per family of objectives.

    Args:
        dataset: what `dynamics.experiments.Survey.run` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    families = unique(dataset["family"].values)
    mixture = dataset["mixture_jensen_shannon"].sel(rate="fixed").mean("seed")
    rows = (
        ("Gaussian GAN,\nits divergence", "gaussian_step", dataset["gaussian_divergence"]),
        ("Gaussian GAN,\nJensen-Shannon", "gaussian_step", dataset["gaussian_jensen_shannon"]),
        ("mixture,\nits divergence", "mixture_step", dataset["mixture_divergence"].sel(rate="fixed")),
        ("mixture,\nJensen-Shannon", "mixture_step", mixture),
    )
    figure = Picture(2.5 * len(families), 2.0 * len(rows) + 1.6)
    panels = figure.subplots(len(rows), len(families), squeeze=False, sharex="row", sharey="row")
    for column, family in enumerate(families):
        members = np.flatnonzero(dataset["family"].values == family)
        for down, (label, axis, values) in enumerate(rows):
            axes = panels[down, column]
            dress(axes, family if down == 0 else "", "step", label if column == 0 else "")
            for number, member in enumerate(members):
                line_of = values.transpose("objective", axis).values[member]
                axes.plot(dataset[axis].values, np.maximum(line_of, LEAST), linewidth=1.3, **_style(number))
            axes.set_yscale("log")
            axes.set_ylim(*((LEAST, 30) if "Gaussian" in label else (1e-3, 30)))
        names = [str(dataset["objective"].values[member]) for member in members]
        handles = [line(name, _style(n)["color"], _style(n)["linestyle"]) for n, name in enumerate(names)]
        _legend_under(panels[-1, column], down=0.28, handles=handles, fontsize=TICK - 1.5)
    heading(figure, title, subtitle)
    return figure


def survey_rates(dataset: Any, *, title: str = "Gap-aware and fixed rates", subtitle: str = "") -> Figure:
    """Jensen-Shannon divergence at the end of the training on the mixture, of every seed, a row per objective.

    Args:
        dataset: what `dynamics.experiments.Survey.run` returned.
        title, subtitle: above the picture.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    ends = dataset["mixture_jensen_shannon"].isel(mixture_step=-1).transpose("objective", "rate", "seed").values
    names = [str(name) for name in dataset["objective"].values]
    figure = Picture(7.0, 0.21 * len(names) + 1.5)
    axes = figure.add_subplot()
    dress(axes, "", "Jensen-Shannon divergence at the end, every seed; bars: geometric mean")
    rows = np.arange(len(names))[::-1]
    for number, rate in enumerate(map(str, dataset["rate"].values)):
        shift, colour = 0.16 - 0.32 * number, RATE_COLOURS.get(rate, SERIES[number])
        for row, values in zip(rows, ends[:, number], strict=True):
            values = np.maximum(values[np.isfinite(values)], LEAST)
            axes.plot(values, np.full(values.size, row + shift), "o", color=colour, markersize=2.6, alpha=0.55)
            if values.size:
                middle = np.exp(np.log(values).mean())
                axes.plot([middle, middle], [row + shift - 0.16, row + shift + 0.16], color=colour, linewidth=2)
    families = dataset["family"].values
    for edge in np.flatnonzero(families[1:] != families[:-1]):
        axes.axhline(rows[edge] - 0.5, color=FAINT, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_yticks(rows, names, fontsize=LABEL - 1.5)
    axes.set_ylim(-0.7, len(names) - 0.3)
    legend_below(figure, [line(rate, colour, width=2) for rate, colour in RATE_COLOURS.items()])
    heading(figure, title, subtitle)
    return figure


def _style(number: int) -> dict[str, Any]:
    return {"color": SERIES[number % len(SERIES)], "linestyle": ("-", "--")[number // len(SERIES) % 2]}
