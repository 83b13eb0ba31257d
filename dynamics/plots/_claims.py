"""Counterexamples: the margin of a claim over each of their numbers."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from dynamics.plots import _style as style

if TYPE_CHECKING:  # who draws anything else need not wait for all claims
    from dynamics.claims.search import Result

MOST = 6  # panels


def counterexample(result: "Result") -> Figure:
    """The margin of a claim over each number of its counterexample, the others kept; below 0 the claim is refuted.

    At most six numbers are shown, those first that make the margin change its sign, and none that does not matter.
    The scale of the margin is logarithmic away from 0 where margins differ by orders of magnitude.

    Args:
        result: what `dynamics.claims.search` returned.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: the result has no slices; they come from `search(claim, slices=True)` of a refuted claim.
    """
    if not result.slices:
        raise ValueError(
            f"the result of {result.claim.identifier} has no slices; expected that of a refuted claim, from "
            "search(claim, slices=True)"
        )

    def interest(name: str) -> int:
        margins = result.slices[name].margins
        finite = margins[np.isfinite(margins)]
        signs = bool((margins < 0).any() and (margins >= 0).any())
        return 2 if signs else int(finite.size > 0 and np.ptp(finite) > 1e-3 * np.max(np.abs(finite)))

    names = sorted(result.slices, key=interest, reverse=True)
    names = [name for name in names if interest(name)][:MOST] or names[:1]
    rows, columns = style.grid_of_panels(len(names), 3)
    figure = style.Picture(max(3.4 * columns, 6.4), 2.7 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.ravel(), names):
        values, margins, value = result.slices[name]
        decided = np.isfinite(margins)
        shown = np.where(decided, margins, np.nan)
        axes.plot(values, shown, color=style.BLUE, linewidth=1.4)
        axes.plot(values, np.where(shown < 0, shown, np.nan), color=style.VERMILLION, linewidth=1.8)
        axes.axhline(0, color=style.INK, linewidth=0.7)
        axes.plot(value, result.counterexample_margin, marker="X", color=style.INK, markersize=7)
        sizes = np.abs(margins[decided & (margins != 0)])
        if sizes.size and sizes.max() > 100 * np.median(sizes):
            axes.set_yscale("symlog", linthresh=float(10.0 ** np.floor(np.log10(np.median(sizes)))))
        style.dress(axes, "", name, "margin")
    style.heading(figure, result.claim.identifier, "margin around the counterexample; negative: refuted")
    handles = [
        style.line("holds", style.BLUE),
        style.line("refuted", style.VERMILLION),
        style.mark("counterexample", "X"),
    ]
    style.legend_below(figure, handles, columns=3)
    return figure
