"""What became of every cell beside what was predicted: a table in colours, a map over two axes, a line over one."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.path import Path

from dynamics.analysis.stability.boundary import KINDS
from dynamics.plots import _style as style
from dynamics.studies.results import Cell, Results

MOST_ROWS = 600  # a taller picture than this no viewer opens
MOST_PANELS = 24

# The upper right corner of a cell, of one size in points whatever the cell's.
CORNER = {"marker": Path([(0, 0), (-1, 0), (0, -1), (0, 0)], closed=True), "markersize": 15, "markeredgewidth": 0}

CORNERS = {"untested": "#7A7F85", "explained": style.INK}  # colours of triangles; cells as predicted have none
_MARKS = {"untested": ("o", 9), "explained": (".", 8), "unexplained": ("X", 22)}  # in maps, with their sizes

_NAMES = list(style.OUTCOMES)
_RATES = LinearSegmentedColormap.from_list("rates", [style.BLUE, "#F7F7F7", style.VERMILLION])


def outcome_chart(results: Results) -> Figure:
    """Outcomes in colour with the predicted verdicts as marks.

    A study without numeric axes gives a table: a row per game, objective and penalty, a column per method and kind.
    With one axis it gives lines, measured rates on predicted ones. With two axes it gives maps of outcome and measured
    rate over the axes, with the predicted stability boundary; axes beyond the second give a panel per value.

    Args:
        results: what `dynamics.studies.execute` returned.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    axes = style.unique(name for cell in results.cells for name in cell.axes)
    if not axes:
        return _table(results)
    return _lines(results, axes[0]) if len(axes) == 1 else _maps(results, axes)


def _row_label(cell: Cell) -> str:
    return ", ".join(part for part in (cell.objective, cell.penalty) if part) or "as it is"


def _table(results: Results) -> Figure:
    cells = results.cells
    columns = _ordered_columns(cells)
    edges = _column_edges(columns)
    rows: list[tuple[str, str] | None] = []
    headings = {}
    for game in style.unique(cell.game for cell in cells):
        headings[len(rows)] = game
        rows += [None, *style.unique((game, _row_label(c)) for c in cells if c.game == game)]
    left_out = max(0, len(rows) - MOST_ROWS)
    rows = rows[:MOST_ROWS]
    place = {row: i for i, row in enumerate(rows) if row is not None}

    shade = np.full((len(rows), len(columns)), np.nan)
    verdicts: dict[str, list[tuple[float, int]]] = {name: [] for name in style.VERDICTS}
    corners: dict[str, list[tuple[float, float]]] = {"untested": [], "explained": []}
    frames = []
    for cell in cells:
        if (row := place.get((cell.game, _row_label(cell)))) is None:
            continue
        column = columns.index((cell.method, cell.kind))
        left, right = edges[column : column + 2]
        shade[row, column] = _NAMES.index(cell.outcome)
        verdicts[cell.predicted].append(((left + right) / 2, row))
        if cell.agreement in corners:
            corners[cell.agreement].append((right, row - 0.5))
        elif cell.agreement == "unexplained":
            frames.append(Rectangle((left + 0.07, row - 0.4), right - left - 0.14, 0.8))

    figure = style.Picture(2.6 + 0.56 * max(edges[-1], 8), 2.0 + 0.235 * len(rows))
    axes = figure.add_subplot()
    tints = ListedColormap([_tint(colour) for colour in style.OUTCOMES.values()])
    axes.pcolormesh(
        edges,
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(shade),
        cmap=tints,
        vmin=-0.5,
        vmax=len(_NAMES) - 0.5,
        edgecolors=style.PAPER,
        linewidth=1.2,
    )
    for name, points in verdicts.items():
        if points:
            x, y = np.array(points, float).T
            face = {"color": style.INK} if name != "stable" else {"facecolor": style.INK, "edgecolor": style.INK}
            axes.scatter(x, y, marker=style.VERDICT_MARKS[name], s=17, linewidths=1.3, **face)
    for agreement, places in corners.items():
        if places:
            look = {"color": CORNERS[agreement], "linestyle": "", "clip_on": False}
            axes.plot(*zip(*places, strict=True), **CORNER, **look)
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=style.INK, linewidth=2.2))
    style.dress(axes, x="method, as map and as flow", y="objective and penalty, by game", grid=False)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _label_columns(axes, columns, edges)
    ticks = list(place.values())
    axes.set_yticks(ticks, [style.plain(rows[i][1]) for i in ticks])
    axes.tick_params(axis="y", length=0, labelsize=style.TICK)
    for row, game in headings.items():
        if row < len(rows):
            box = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.5}
            where = {"fontsize": style.LABEL, "fontweight": "bold", "va": "center", "color": style.INK, "bbox": box}
            axes.text(0.05, row + 0.12, style.plain(game), **where)
    for spine in axes.spines.values():
        spine.set_visible(False)
    subtitle = results.describe()
    if left_out:
        subtitle += f"\nthe last {left_out} rows do not fit and are left out"
    style.heading(figure, results.title or results.name, subtitle)
    style.legend_below(figure, _table_legend(results), columns=5)
    return figure


def _ordered_columns(cells: tuple[Cell, ...]) -> list[tuple[str, str]]:
    methods = style.unique(cell.method for cell in cells)
    used = {(cell.method, cell.kind) for cell in cells}
    return [(method, kind) for method in methods for kind in KINDS if (method, kind) in used]


def _column_edges(columns: list[tuple[str, str]]) -> np.ndarray:
    """Borders of the columns, in widths of one; wider where a method's name needs it."""
    count: dict[str, int] = {}
    for method, _ in columns:
        count[method] = count.get(method, 0) + 1
    longest = {method: max(map(len, method.replace("-", "- ").split() or [""])) for method in count}
    widths = [max(1.0, (longest[method] + 1.5) / (8.2 * count[method])) for method, _ in columns]
    return np.concatenate([[0.0], np.cumsum(widths)])


def _label_columns(axes: Axes, columns: list[tuple[str, str]], edges: np.ndarray) -> None:
    """The kinds as ticks, above them the methods, and a thin line between methods."""
    axes.set_xticks((edges[:-1] + edges[1:]) / 2, [kind for _, kind in columns])
    axes.tick_params(axis="x", length=0, labelsize=style.TICK - 0.5, labeltop=True, labelbottom=True)
    spans: dict[str, tuple[float, float]] = {}
    for (method, _), left, right in zip(columns, edges, edges[1:], strict=False):
        spans[method] = (spans.get(method, (left, right))[0], right)
    upper = axes.secondary_xaxis("top")
    names = [_wrapped(method, int(8.2 * (right - left))) for method, (left, right) in spans.items()]
    upper.set_xticks([(left + right) / 2 for left, right in spans.values()], names)
    upper.tick_params(length=0, pad=15, labelsize=style.TICK, labelcolor=style.INK)
    upper.spines["top"].set_visible(False)
    for left, _ in list(spans.values())[1:]:
        axes.axvline(left, color="#9AA0A6", linewidth=0.7)


def _wrapped(text: str, width: int) -> str:
    """Broken at spaces, and after hyphens, where it is too wide for its columns."""
    lines = [""]
    for word in text.replace("-", "- ").split():
        joint = "" if not lines[-1] or lines[-1].endswith("-") else " "
        if lines[-1] and len(lines[-1] + joint + word) > width:
            lines.append(word)
        else:
            lines[-1] += joint + word
    return style.plain("\n".join(lines))


def _tint(colour: str, share: float = 0.68) -> tuple[float, ...]:
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def _table_legend(results: Results) -> list:
    seen = {cell.outcome for cell in results.cells}
    outcomes = [
        style.patch(name.replace("_", " "), _tint(colour)) for name, colour in style.OUTCOMES.items() if name in seen
    ]
    predicted = {cell.predicted for cell in results.cells}
    marks = style.VERDICT_MARKS.items()
    verdicts = [style.mark(f"predicted {name}", marker) for name, marker in marks if name in predicted]
    frame = style.patch(style.AGREEMENTS["unexplained"], "none", style.INK)
    frame.set_linewidth(2.2)
    counts = results.counts()
    corners = [
        style.mark(style.AGREEMENTS[name], (3, 0, -45), CORNERS[name], size=7) for name in CORNERS if counts[name]
    ]
    return [*outcomes, *verdicts, *corners, *([frame] if counts["unexplained"] else [])]


def _panel_name(cell: Cell, others: list[str]) -> str:
    parts = [cell.game, cell.objective, cell.penalty, cell.method, cell.kind]
    parts += [f"{_short(name)} = {cell.axes[name]:.4g}" for name in others if name in cell.axes]
    return ", ".join(part for part in parts if part)


def _short(name: str) -> str:
    """The last two parts of a path."""
    return ".".join(name.split(".")[-2:])


def _edges(values: np.ndarray) -> np.ndarray:
    """Borders between values; halfway, in the logarithm where the values are spaced so."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    logs = style.is_geometric(values)
    points = np.log(values) if logs else values
    middle = (points[:-1] + points[1:]) / 2
    edges = np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
    return np.exp(edges) if logs else edges


def _maps(results: Results, names: list[str]) -> Figure:
    first, second, *others = names
    panels: dict[str, list[Cell]] = {}
    for cell in results.cells:
        panels.setdefault(_panel_name(cell, others), []).append(cell)
    left_out = max(0, len(panels) - MOST_PANELS)
    shown = list(panels.items())[:MOST_PANELS]
    figure = style.Picture(9.0, 1.3 + 3.4 * len(shown))
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (title, cells), (left, right) in zip(shown, grid, strict=True):
        _map(figure, left, right, title, cells, first, second)
    subtitle = "left the outcome, right the measured rate; line: predicted stability boundary"
    style.heading(
        figure, results.title or results.name, subtitle + (f"; {left_out} more panels left out" if left_out else "")
    )
    seen = {cell.outcome for cell in results.cells}
    handles = [
        style.patch(name.replace("_", " "), _tint(colour)) for name, colour in style.OUTCOMES.items() if name in seen
    ]
    handles += [style.line("predicted boundary", style.INK)]
    counts = results.counts()
    handles += [
        style.mark(style.AGREEMENTS[name], marker, size=5, filled=name != "untested")
        for name, (marker, _) in _MARKS.items()
        if counts[name]
    ]
    style.legend_below(figure, handles, columns=4)
    return figure


def _map(figure: Figure, left: Axes, right: Axes, title: str, cells: list[Cell], first: str, second: str) -> None:
    xs = np.array(sorted({cell.axes.get(first, np.nan) for cell in cells}))
    ys = np.array(sorted({cell.axes.get(second, np.nan) for cell in cells}))
    shape = (len(ys), len(xs))
    outcome, rate, predicted = (np.full(shape, np.nan) for _ in range(3))
    marks: dict[str, list[tuple[float, float]]] = {name: [] for name in _MARKS}
    for cell in cells:
        x, y = cell.axes.get(first, np.nan), cell.axes.get(second, np.nan)
        spot = np.searchsorted(ys, y), np.searchsorted(xs, x)
        outcome[spot], rate[spot], predicted[spot] = _NAMES.index(cell.outcome), cell.rate, cell.predicted_rate
        if cell.agreement in marks:
            marks[cell.agreement].append((x, y))
    edges = _edges(xs), _edges(ys)
    tints = ListedColormap([_tint(colour) for colour in style.OUTCOMES.values()])
    left.pcolormesh(*edges, np.ma.masked_invalid(outcome), cmap=tints, vmin=-0.5, vmax=len(_NAMES) - 0.5)
    rate = np.ma.masked_invalid(rate)
    spread = float(np.percentile(np.abs(rate.compressed()), 95)) if rate.count() else 1.0
    mesh = right.pcolormesh(*edges, rate, cmap=_RATES, norm=CenteredNorm(0, spread or 1.0))
    bar = figure.colorbar(mesh, ax=right, extend="both", pad=0.02)
    bar.set_label("measured rate", fontsize=style.LABEL)
    bar.ax.tick_params(labelsize=style.TICK)
    bar.outline.set_linewidth(0.5)
    for axes in (left, right):
        if min(shape) > 1 and np.nanmin(predicted) < 0 < np.nanmax(predicted):
            finite = np.ma.masked_invalid(np.clip(predicted, -1e3, 1e3))
            axes.contour(xs, ys, finite, levels=[0.0], colors=[style.INK], linewidths=1.5)
        for set_scale, values in ((axes.set_xscale, xs), (axes.set_yscale, ys)):
            if style.is_geometric(values):
                set_scale("log")
        style.dress(axes, x=first, y=second, grid=False)
    left.set_title(style.plain(title), fontsize=style.HEADING, color=style.INK)
    right.set_title("measured rate", fontsize=style.HEADING, color=style.INK)
    for name, (marker, size) in _MARKS.items():
        if marks[name]:
            x, y = np.array(marks[name]).T
            face = "none" if name == "untested" else style.INK
            left.scatter(x, y, marker=marker, s=size, facecolor=face, edgecolor=style.INK, linewidths=0.4)


def _lines(results: Results, name: str) -> Figure:
    panels: dict[str, list[Cell]] = {}
    for cell in results.cells:
        parts = (cell.game, cell.objective, cell.penalty, cell.kind)
        panels.setdefault(", ".join(part for part in parts if part), []).append(cell)
    left_out = max(0, len(panels) - MOST_PANELS)
    shown = list(panels.items())[:MOST_PANELS]
    rows, columns = style.grid_of_panels(len(shown), 2)
    figure = style.Picture(2.2 + 4.6 * columns if columns > 1 else 7.0, 1.4 + 3.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    methods = style.unique(cell.method for cell in results.cells)
    for axes, (title, cells) in zip(grid, shown, strict=False):
        _line_panel(axes, cells, name, methods)
        style.dress(axes, title, name, f"rate per {cells[0].boundary.unit}")
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    subtitle = "lines: predicted rate; marks: measured rate, shaped by outcome; negative contracts"
    style.heading(
        figure, results.title or results.name, subtitle + (f"; {left_out} more panels left out" if left_out else "")
    )
    handles = [style.line(m, style.SERIES[i % len(style.SERIES)]) for i, m in enumerate(methods)]
    used = {cell.outcome for cell in results.cells}
    handles += [
        style.mark(text, m, style.INK, filled=text != "undecided")
        for text, m in style.OUTCOME_MARKS.items()
        if text in used
    ]
    if any(cell.agreement == "unexplained" for cell in results.cells):
        handles.append(style.mark("differs, unexplained", "o", filled=False, size=11))
    style.legend_below(figure, handles, columns=4)
    return figure


def _line_panel(axes: Axes, cells: list[Cell], name: str, methods: list[str]) -> None:
    axes.axhline(0, color=style.INK, linewidth=0.8)
    for i, method in enumerate(methods):
        of_method = sorted((c for c in cells if c.method == method), key=lambda c: c.axes.get(name, np.nan))
        if not of_method:
            continue
        colour = style.SERIES[i % len(style.SERIES)]
        x = np.array([c.axes.get(name, np.nan) for c in of_method])
        axes.plot(x, [c.predicted_rate for c in of_method], color=colour, linewidth=1.4)
        for outcome, marker in style.OUTCOME_MARKS.items():
            chosen = np.array([c.outcome == outcome for c in of_method])
            if chosen.any():
                measured = np.array([c.rate for c in of_method])
                face = "none" if outcome == "undecided" else colour
                axes.scatter(x[chosen], measured[chosen], marker=marker, s=24, facecolor=face, edgecolor=colour)
        odd = [c for c in of_method if c.agreement == "unexplained" and np.isfinite(c.rate)]
        if odd:
            at = [c.axes.get(name, np.nan) for c in odd]
            axes.scatter(at, [c.rate for c in odd], s=120, facecolor="none", edgecolor=style.INK, linewidths=1.4)
    values = np.array(sorted({c.axes.get(name, np.nan) for c in cells}))
    if style.is_geometric(values):
        axes.set_xscale("log")
