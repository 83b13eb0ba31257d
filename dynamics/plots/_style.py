"""The look of every picture, in one place: colours that colour-blind readers can tell apart, marks, sizes of text.

Figures are built without pyplot, so that nothing global (backend, settings, open windows) is touched.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation

BLUE, GOLD, VERMILLION, GREY = "#2C7FB8", "#F0C541", "#D1495B", "#B4B4B4"
GREEN, PURPLE = "#6CC183", "#5A189A"  # light and dark, as no hue tells them from vermillion and blue for everybody
INK, FAINT, PAPER = "#22262B", "#D9DCE0", "#FFFFFF"

OUTCOMES = {
    "converged": BLUE,
    "cycling": GOLD,
    "diverged": VERMILLION,
    "undecided": GREY,
    "chaotic": PURPLE,
    "stalled": GREEN,
    "power_law": "#5FD3F3",
    "not_a_number": INK,
}
OUTCOME_MARKS = {
    "converged": "o",
    "cycling": "s",
    "diverged": "X",
    "undecided": "D",
    "chaotic": "*",
    "stalled": "v",
    "power_law": "p",
    "not_a_number": "P",
}
VERDICTS = {"stable": BLUE, "unstable": VERMILLION, "marginal": GOLD, "neutral": GREEN}
VERDICT_MARKS = {"stable": "o", "unstable": "x", "marginal": "_", "neutral": "+"}
AGREEMENTS = {
    "agrees": "as predicted",
    "untested": "untested",
    "explained": "differs, explained",
    "unexplained": "differs, unexplained",
}
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, "#F0A030", INK, "#9CCBEA", "#8C5A12")
LINES = ("-", "--", "-.", ":")

TITLE, HEADING, LABEL, TICK = 12.0, 10.0, 9.0, 8.0
DPI = 130


class Picture(Figure):
    """A matplotlib figure that draws itself with Agg and shows itself in a notebook."""

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
        FigureCanvasAgg(self)
        self.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.04)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a file, in the format that the name ends with; the folder is created where needed.

    Args:
        figure: of matplotlib.
        path: of the file.

    Returns:
        the path.

    Raises:
        ValueError: the name ends with no format that matplotlib writes.
    """
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in formats:
        raise ValueError(f"path is {str(path)!r}; expected a name that ends with one of .{', .'.join(sorted(formats))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor=PAPER)
    return path


def plain(text: Any) -> str:
    """Text that is drawn letter by letter: dollar signs start no formula."""
    return str(text).replace("$", r"\$")


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """The title of the whole picture, with a line below that says what is seen."""
    # A blank second line keeps the room; the subtitle is hung into it, smaller.
    top = figure.suptitle(
        plain(title) + ("\n " * (1 + subtitle.count("\n")) if subtitle else ""), fontsize=TITLE, color=INK
    )
    if subtitle:
        below = Annotation(
            plain(subtitle), (0.5, 0), xycoords=top, ha="center", va="bottom", fontsize=LABEL, color="#5B6770"
        )
        below.set_in_layout(False)
        figure.add_artist(below)


def dress(axes: Axes, title: str = "", x: str = "", y: str = "", grid: bool = True, left: bool = False) -> None:
    """Title, labels, thin grey frame and a faint grid."""
    if title:
        axes.set_title(plain(title), fontsize=HEADING, color=INK, pad=6, loc="left" if left else "center")
    axes.set_xlabel(plain(x), fontsize=LABEL, color=INK)
    axes.set_ylabel(plain(y), fontsize=LABEL, color=INK)
    axes.tick_params(which="both", labelsize=TICK, labelcolor=INK, color="#9AA0A6", length=3)
    axes.tick_params(which="minor", length=1.5)
    for spine in axes.spines.values():
        spine.set_color("#9AA0A6")
        spine.set_linewidth(0.7)
    if grid:
        axes.grid(True, color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def legend_below(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    """One legend for the whole picture, under it."""
    if handles:
        columns = columns or min(len(handles), max(2, int(figure.get_figwidth() // 1.7)))
        figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=columns,
            fontsize=TICK,
            frameon=False,
            labelcolor=INK,
            handletextpad=0.5,
            columnspacing=1.4,
        )


def patch(label: str, colour: str, edge: str | None = None) -> Patch:
    """A legend entry: a coloured square."""
    return Patch(facecolor=colour, edgecolor=edge or colour, label=plain(label))


def mark(label: str, marker: str, colour: str = INK, filled: bool = True, size: float = 6) -> Line2D:
    """A legend entry: a marker."""
    face = colour if filled else "none"
    return Line2D(
        [], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=size, label=plain(label)
    )


def line(label: str, colour: str, style: Any = "-", width: float = 1.4) -> Line2D:
    """A legend entry: a line."""
    return Line2D([], [], color=colour, linestyle=style, linewidth=width, label=plain(label))


def grid_of_panels(count: int, columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels, at most `columns` wide."""
    columns = max(1, min(columns, count))
    return -(-count // columns), columns


def note(axes: Axes, text: str) -> None:
    """A remark in the lower right corner of a panel."""
    axes.text(
        0.98,
        0.02,
        plain(text),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=TICK - 1,
        color="#5B6770",
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 1.5},
    )


def padded(values: Any, share: float = 0.08, least: float = 1e-6) -> tuple[float, float]:
    """Limits that hold all finite values, with room around them."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = max((high - low) * share, least, 1e-3 * max(abs(low), abs(high)))
    return low - room, high + room


def unique(values: Iterable[Any]) -> list[Any]:
    """The values without repetition, in the order of their first appearance."""
    return list(dict.fromkeys(values))


def is_geometric(values: np.ndarray) -> bool:
    """True when positive values spread over more than a factor of ten are more evenly spaced in their logarithm."""
    values = np.asarray(values, float)
    if len(values) < 3 or values.min() <= 0 or values.max() / values.min() < 10:
        return False
    return float(np.std(np.diff(np.log(values)))) / float(np.ptp(np.log(values))) < float(
        np.std(np.diff(values))
    ) / float(np.ptp(values))
