"""Sweeps: one variable over two axes as a map, over one as lines, over axes that were drawn at random as points."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap, LogNorm, Normalize, TwoSlopeNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.tri import TriAnalyzer, Triangulation

from dynamics._names import nearest
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.plots import _style as style

MOST_PANELS = 12
MOST_PIXELS = 1200  # along an axis: more than a panel has
MOST_TRIANGLES = 50_000  # points between which the boundary is interpolated

_NOTHING, _HATCH = "#E9EBEE", "#AEB4BB"  # where there is no value; where nothing was computed
_NOT_DONE = "not_done"
_CATEGORIES = {
    **style.OUTCOMES,
    **style.VERDICTS,
    "smooth": style.BLUE,
    "stiff": style.GOLD,
    "kinked": style.VERMILLION,
    "discontinuous": style.PURPLE,
    "not_differentiable": style.INK,
    "none": style.GREY,
}
_DIVERGING = LinearSegmentedColormap.from_list("rates", [style.BLUE, "#F7F7F7", style.VERMILLION])
_SEQUENTIAL = colormaps["viridis"]
_RATES = ("outcome", "simulated_rate", "predicted_rate", "predicted_verdict")
_BOUNDARIES = {"predicted_radius": 1.0, "predicted_abscissa": 0.0}
_SEEDS = "(seed of a random key)"
_RESERVED = ("outcome", "simulated_rate", "predicted_rate", "predicted_verdict", *_BOUNDARIES)


def chart(
    dataset: Any,
    x: str | None = None,
    y: str | None = None,
    variable: str | None = None,
    boundary: bool = True,
    title: str | None = None,
    **selection: float,
) -> Figure:
    """A variable of a sweep over two of its axes, with the predicted boundary of stability.

    Outcomes, verdicts and smoothness are drawn in their colours, rates around 0 in two hues, other numbers on a scale.
    Cells that are not done are hatched: the store of a sweep that still runs can be drawn. Over one axis rates are
    drawn as lines, predicted beside simulated; axes side by side (designs other than "grid") give points. Outcomes of
    several starts, or of several seeds, are drawn as shares, a panel per outcome.

    Args:
        dataset: what `dynamics.sweep` or `dynamics.stability_chart` returns, or `xarray.open_zarr` of a store.
        x, y: names of axes; by default the first two that have several values.
        variable: what is drawn: any variable, measures included. Default: "outcome", or, of a chart of stability,
            "predicted_verdict".
        boundary: draw where the predicted radius is 1 (updates) or the abscissa 0 (flows), where these are known.
        title: of the picture.
        selection: values of further axes, by name: the nearest one is taken, which the picture tells. An axis that is
            not selected gives a panel per value, up to twelve panels.

    Raises:
        TypeError: the dataset is none.
        ValueError: a name is unknown, or there are too many panels.

    >>> import dynamics as dy
    >>> def build(rate, weight):
    ...     sgd = dy.optimisers.sgd(rate)
    ...     return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
    >>> cells = dy.stability_chart(build, {"rate": [0.1, 2.0, 4.5], "weight": [0.3, 1.0, 2.0]})
    >>> figure = chart(cells, x="weight", y="rate")
    """
    if not all(hasattr(dataset, name) for name in ("data_vars", "coords", "isel", "sizes")):
        raise TypeError(f"the dataset is a {type(dataset).__name__}; expected what dynamics.sweep returns")
    if variable is None:
        variable = "outcome" if "outcome" in dataset.data_vars else "predicted_verdict"
    _check_names(dataset, variable, x, y)
    kept = [name for name in dict.fromkeys((variable, *_RESERVED)) if name in dataset.data_vars]
    dataset, remarks = _selected(dataset[kept], selection)
    shown = dataset[variable]
    if shown.dtype.kind not in "biuf":
        raise ValueError(f"variable {variable!r} has dtype {shown.dtype}; expected real numbers")
    x, y = _axes_of(dataset, shown, x, y)
    axis_names = {x, y, "cell"}
    if variable.startswith("predicted_") and "start" in shown.dims and "start" not in axis_names:
        dataset = dataset.isel(start=0, drop=True)  # a prediction is the same for all starts
        shown = dataset[variable]
    others = [name for name in shown.dims if name not in axis_names and shown.sizes[name] > 1]
    samples = [name for name in others if name == "start" or _is_seed(dataset, name)]
    if y is not None and not _categories(shown):  # numbers are not averaged here
        samples = []
    panels = _panels(dataset, [name for name in others if name not in samples])
    remarks += [
        _value_text(dataset, name, 0) for name in shown.dims if name not in axis_names and shown.sizes[name] == 1
    ]
    picture = _Picture(dataset, shown, variable, x, y, samples, boundary)
    figure = picture.lines(panels) if y is None else picture.maps(panels)
    style.heading(
        figure, title or _title(dataset, variable, y is None), _subtitle(dataset, shown, axis_names, samples, remarks)
    )
    return figure


# What is drawn over what


def _check_names(dataset: Any, variable: str, x: Any, y: Any) -> None:
    if variable not in dataset.data_vars:
        raise ValueError(f"there is no variable {variable!r}{nearest(str(variable), map(str, dataset.data_vars))}")
    for which, name in (("x", x), ("y", y)):
        if name is None:
            continue
        if not isinstance(name, str):
            raise ValueError(
                f"{which} is {name!r}; expected the name of an axis. To select a value of an axis that is called "
                f"{which}, pass dataset.sel({which}=[{name!r}], method='nearest')"
            )
        known = [str(dim) for dim in dict.fromkeys((*dataset.coords, *dataset[variable].dims)) if dim != "cell"]
        if name not in known:
            raise ValueError(f"{which} is {name!r}; there is no such axis{nearest(name, known)}")
        if name in dataset.coords and dataset[name].ndim == 0:
            raise ValueError(f"{which} is {name!r}, which is constant; choose an axis with several values")
    if x is not None and x == y:
        raise ValueError(f"x and y are both {x!r}; choose two different axes")


def _selected(dataset: Any, selection: dict[str, Any]) -> tuple[Any, list[str]]:
    """The dataset at the nearest values, and what to tell about them."""
    remarks = []
    for name, value in selection.items():
        if name not in dataset.dims or name == "cell":
            if name in dataset.coords:
                where = "is constant" if dataset[name].ndim == 0 else "goes along with others in every cell"
                raise ValueError(f"{name}={value!r}: the axis {name!r} {where}; there is nothing to select")
            known = [str(dim) for dim in dataset.dims if dim != "cell"]
            raise ValueError(f"{name}={value!r}: there is no axis {name!r}{nearest(name, known)}")
        if isinstance(value, (str, bytes)) or np.ndim(value) or not np.isfinite(value):
            raise ValueError(f"{name}={value!r}; expected one number, a value of this axis")
        place = int(np.argmin(np.abs(_coordinate(dataset, name) - float(value))))
        remarks.append(_value_text(dataset, name, place))
        dataset = dataset.isel({name: place}, drop=True)
    return dataset, remarks


def _axes_of(dataset: Any, shown: Any, x: str | None, y: str | None) -> tuple[str, str | None]:
    """The names of both axes; the second is `None` where there is one only."""
    if "cell" in shown.dims:
        along = [str(name) for name in dataset.coords if dataset[name].dims == ("cell",)]
    else:
        along = [str(name) for name in shown.dims]
    for name in (x, y):
        if name is not None and name not in along:
            where = "it was selected, or the variable does not depend on it"
            raise ValueError(f"{name!r} is no axis of what is drawn: {where}; there are {', '.join(along) or 'none'}")
    several = [name for name in along if np.unique(_coordinate(dataset, name)).size > 1]
    usual = [name for name in several if name != "start" and name in dataset.coords and not _is_seed(dataset, name)]
    free = [name for name in usual if name not in (x, y)] or [n for n in several if n not in (x, y) and not usual]
    if x is None:
        if not free and y is None:
            raise ValueError("no axis has several values; there is nothing to draw")
        x, *free = free or [y]
        y = None if x == y else y
    if y is None and free:
        y = free[0]
    return x, y


def _panels(dataset: Any, names: list[str]) -> list[tuple[dict[str, int], str]]:
    """Places and headings of all panels."""
    sizes = [dataset.sizes[name] for name in names]
    if np.prod(sizes, dtype=float) > MOST_PANELS:
        longest = names[int(np.argmax(sizes))]
        example = f"{longest}={_coordinate(dataset, longest)[0]:.4g}"
        raise ValueError(
            f"{' x '.join(map(str, sizes))} values of {', '.join(names)} are more than {MOST_PANELS} panels; select a "
            f"value, e.g. {example}, or choose other axes as x and y"
        )
    panels = []
    for places in itertools.product(*map(range, sizes)):
        text = ", ".join(_value_text(dataset, name, place) for name, place in zip(names, places, strict=True))
        panels.append((dict(zip(names, places, strict=True)), text))
    return panels


def _coordinate(dataset: Any, name: str) -> np.ndarray:
    values = dataset[name].values if name in dataset.coords else np.arange(dataset.sizes[name])
    return np.asarray(values, float).ravel()


def _is_seed(dataset: Any, name: str) -> bool:
    return name in dataset.coords and str(dataset[name].attrs.get("long_name", "")).endswith(_SEEDS)


def _value_text(dataset: Any, name: str, place: int) -> str:
    return f"{name} = {_coordinate(dataset, name)[place]:.4g}"


def _label(dataset: Any, name: str, text: str = "") -> str:
    attributes = dataset[name].attrs if name in dataset.variables else {}
    units = attributes.get("units")
    return (text or str(attributes.get("long_name", name))) + (f" ({units})" if units and units != "1" else "")


def _categories(shown: Any) -> dict[int, str]:
    """Names of the numbers of a variable that counts kinds of things."""
    values, meanings = shown.attrs.get("flag_values"), shown.attrs.get("flag_meanings")
    if values is None or meanings is None:
        return {}
    return dict(zip([int(value) for value in np.ravel(values)], str(meanings).split(), strict=False))


def _title(dataset: Any, variable: str, over_one: bool) -> str:
    if over_one and variable in _RATES:
        return "Simulated and predicted rate" if "simulated_rate" in dataset else "Predicted rate"
    return "Outcomes" if variable == "outcome" else variable[:1].upper() + variable[1:].replace("_", " ")


def _subtitle(dataset: Any, shown: Any, axis_names: set, samples: list[str], remarks: list[str]) -> str:
    sizes = [f"{shown.sizes[name]:,}" for name in shown.dims if name in axis_names]
    text, over_one = [" x ".join(sizes) + " cells"], len(axis_names - {None, "cell"}) == 1
    settings = dataset.attrs.get("settings", "{}")
    settings = json.loads(settings) if isinstance(settings, str) else {}
    if settings.get("steps"):
        text[0] += f", {settings['steps']:,} steps each"
    elif settings.get("until"):
        text[0] += f", until time {settings['until']:g}"
    if samples:
        counts = " x ".join(f"{shown.sizes[name]:,} {'seeds' if name != 'start' else 'starts'}" for name in samples)
        text.append(f"{counts} each" if over_one else f"shares of {counts}")
    named_already = shown.name == "outcome" or over_one and shown.name in _RATES
    long = "" if named_already else str(shown.attrs.get("long_name", ""))
    lines = long, "; ".join(text), ", ".join(remarks)
    return "\n".join(line for line in lines if line)


# How it is drawn


class _Scale:
    """Where the values of an axis lie: in order, with borders halfway between them, in the logarithm where they are
    spaced so."""

    def __init__(self, values: np.ndarray):
        self.order = np.argsort(values, kind="stable")
        self.points = values[self.order]
        self.logarithmic = style.is_geometric(self.points)
        at = np.log(self.points) if self.logarithmic else self.points
        if len(at) == 1:
            half = abs(at[0]) / 10 or 0.5
            edges = np.array([at[0] - half, at[0] + half])
        else:
            middle = (at[:-1] + at[1:]) / 2
            edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
        self.limits = tuple(np.exp(edges[[0, -1]]) if self.logarithmic else edges[[0, -1]])
        widths = np.diff(edges)
        # Cells of unlike width, or more of them than pixels: every pixel's cell.
        if len(at) > MOST_PIXELS or np.ptp(widths) > 1e-3 * np.mean(widths):
            pixels = np.linspace(edges[0], edges[-1], 2 * MOST_PIXELS + 1)[1::2]
            self.order = self.order[np.clip(np.searchsorted(edges, pixels, side="right") - 1, 0, len(at) - 1)]

    def set(self, set_scale: Any, set_limits: Any) -> None:
        if self.logarithmic:
            set_scale("log")
        set_limits(*self.limits)


class _Picture:
    """All panels of one variable, with common colours."""

    def __init__(self, dataset: Any, shown: Any, variable: str, x: str, y: str | None, samples: list, boundary: bool):
        self.dataset, self.variable, self.x, self.y, self.samples = dataset, variable, x, y, samples
        self.kinds, self.label = _categories(shown), _label(dataset, variable, variable.replace("_", " "))
        self.scattered = "cell" in shown.dims
        self.present: set[str] = set()  # names of what the legend has to explain
        self.scale = None if self.kinds else _colours(variable, np.asarray(shown.values))
        level = next((name for name in _BOUNDARIES if name in dataset.data_vars), None)
        self.level = level if boundary else None

    def maps(self, panels: list[tuple[dict[str, int], str]]) -> Figure:
        """Colours over two axes."""
        if self.samples:
            values = np.unique(self.dataset[self.variable].values)
            shares = [(number, name) for number, name in self.kinds.items() if number in values and name != _NOT_DONE]
            panels = [(places, (*share, text)) for places, text in panels for share in shares]
            if not panels:
                raise ValueError(f"no cell of {self.variable!r} is done yet")
        if len(panels) > MOST_PANELS:
            raise ValueError(f"{len(panels)} panels are more than {MOST_PANELS}; select values of some axes")
        figure, grid = _figure(len(panels), 7.4, 5.9)
        for axes, (places, text) in zip(grid, panels, strict=False):
            dataset = self.dataset.isel(places)
            share = None
            if self.samples:
                number, name, more = text
                share, text = (number, name), name.replace("_", " ") + (f", {more}" if more else "")
            draw = self._points if self.scattered else self._map
            scale = draw(axes, dataset, share)
            style.dress(axes, text, _label(dataset, self.x), _label(dataset, self.y), grid=False)
            if scale is not None:
                self._bar(figure, [axes], scale, share)
        if self.scale is not None and self.scale[1] is not None:
            self._bar(figure, list(grid[: len(panels)]), self.scale, None)
        style.legend_below(figure, self._legend(panels))
        return figure

    def _bar(self, figure: Figure, axes: list, scale: tuple, share: Any) -> None:
        mapped, extend = scale
        single = axes[0] if len(axes) == 1 else axes
        bar = figure.colorbar(mapped, ax=single, extend=extend, pad=0.02, aspect=30)
        if share is None:
            bar.set_label(style.plain(self.label), fontsize=style.LABEL)
        else:
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        if isinstance(mapped.norm, TwoSlopeNorm):  # of unlike halves
            bar.set_ticks(_halves(mapped.norm))
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        bar.ax.tick_params(labelsize=style.TICK)
        bar.outline.set_linewidth(0.5)

    def _map(self, axes: Axes, dataset: Any, share: Any) -> Any:
        horizontal, vertical = (_Scale(_coordinate(dataset, name)) for name in (self.x, self.y))
        shown = dataset[self.variable].transpose(self.y, self.x, ...)
        # One image in the coordinates of the panel: cells are as wide as they look, whatever the scale.
        pick = np.ix_(vertical.order, horizontal.order)
        done = dataset["outcome"].transpose(self.y, self.x, ...).values[pick] >= 0 if "outcome" in dataset else None
        if done is not None and done.ndim > 2:
            done = done.any(axis=tuple(range(2, done.ndim)))
        colours, scale = self._colour(np.asarray(shown.values)[pick], done, share)
        if not colours[..., 3].all():
            self._hatch(axes)
        axes.imshow(
            colours,
            extent=(0, 1, 0, 1),
            transform=axes.transAxes,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            zorder=0.5,
        )
        horizontal.set(axes.set_xscale, axes.set_xlim)
        vertical.set(axes.set_yscale, axes.set_ylim)
        if self.level is not None and set(dataset[self.level].dims) >= {self.x, self.y}:
            at = dataset.isel({name: 0 for name in dataset[self.level].dims if name not in (self.x, self.y)})
            field = _field(at, self.level, (self.y, self.x))
            order = (np.argsort(_coordinate(dataset, name), kind="stable") for name in (self.y, self.x))
            field = field[np.ix_(*order)]
            if min(field.shape) > 1 and field.min() < 0 < field.max():
                self._bound(axes.contour(horizontal.points, vertical.points, field, levels=[0.0], **_LINE))
        return scale

    def _points(self, axes: Axes, dataset: Any, share: Any) -> Any:
        x, y = (_coordinate(dataset, name) for name in (self.x, self.y))
        shown = dataset[self.variable].transpose("cell", ...)
        done = dataset["outcome"].transpose("cell", ...).values >= 0 if "outcome" in dataset else None
        if done is not None and done.ndim > 1:
            done = done.any(axis=tuple(range(1, done.ndim)))
        colours, scale = self._colour(np.asarray(shown.values), done, share)
        size = float(np.clip(9000 / max(len(x), 1), 2, 40))
        here = colours[:, 3] > 0
        if not here.all():
            self.present.add(_NOT_DONE)
            axes.scatter(x[~here], y[~here], s=size, facecolor="none", edgecolor=_HATCH, linewidths=0.6)
        edge: dict[str, Any] = (
            dict(linewidths=0) if scale is None and self.kinds else dict(linewidths=0.3, edgecolors="#9AA0A6")
        )
        axes.scatter(x[here], y[here], s=size, c=colours[here] / 255, zorder=2, **edge)
        for values, set_scale, set_limits in ((x, axes.set_xscale, axes.set_xlim), (y, axes.set_yscale, axes.set_ylim)):
            if style.is_geometric(np.sort(values)):
                set_scale("log")
                set_limits(values.min() / 1.1, values.max() * 1.1)
            else:
                set_limits(*style.padded(values, 0.03))
        self._bound_between(axes, dataset, x, y)
        return scale

    def _bound_between(self, axes: Axes, dataset: Any, x: np.ndarray, y: np.ndarray) -> None:
        """The boundary between points in the plane, where only the two axes drawn differ."""
        along = [str(name) for name in dataset.coords if dataset[name].dims == ("cell",)]
        varied = {name for name in along if np.unique(_coordinate(dataset, name)).size > 1}
        if self.level is None or varied != {self.x, self.y} or not 16 <= len(x) <= MOST_TRIANGLES:
            return
        at = dataset.isel({name: 0 for name in dataset[self.level].dims if name != "cell"})
        field = _field(at, self.level, ("cell",))
        known = ~np.ma.getmaskarray(field)
        if known.sum() < 16 or not field.min() < 0 < field.max():
            return
        places = []
        for values in (x[known], y[known]):
            at = np.log(values) if style.is_geometric(np.sort(values)) else values
            places.append((at - at.min()) / np.ptp(at))
        if np.linalg.matrix_rank(np.stack(places) - np.mean(places, axis=1, keepdims=True), tol=1e-6) < 2:
            return
        between = Triangulation(*places)
        # Slivers at the border join points far apart.
        mask = TriAnalyzer(between).get_flat_tri_mask(0.1)
        between = Triangulation(x[known], y[known], between.triangles, mask)
        self._bound(axes.tricontour(between, field.compressed(), levels=[0.0], **_LINE))

    def _colour(self, values: np.ndarray, done: np.ndarray | None, share: Any) -> tuple[np.ndarray, Any]:
        """Colours of cells, red, green, blue, alpha from 0 to 255; transparent where nothing was computed."""
        if share is not None:
            number, name = share
            axes = tuple(range(done.ndim if done is not None else 2, values.ndim))
            counted = np.sum(values >= 0 if self.variable == "outcome" else np.ones_like(values, bool), axis=axes)
            part = np.sum(values == number, axis=axes) / np.maximum(counted, 1)
            tint = LinearSegmentedColormap.from_list(name, ["#F7F7F7", _CATEGORIES.get(name, style.INK)])
            mapped = ScalarMappable(Normalize(0, 1), tint)
            colours, scale = mapped.to_rgba(part, bytes=True), (mapped, "neither")
            done = counted > 0
        elif self.kinds:
            numbers = sorted(self.kinds)
            table = np.zeros((numbers[-1] - numbers[0] + 1, 4), np.uint8)
            for number, name in self.kinds.items():
                colour = (0, 0, 0, 0) if name == _NOT_DONE else to_rgba(_CATEGORIES.get(name, style.INK))
                table[number - numbers[0]] = np.round(255 * np.array(colour))
            counts = np.bincount((values.astype(np.intp) - numbers[0]).ravel(), minlength=len(table))
            self.present |= {name for number, name in self.kinds.items() if counts[number - numbers[0]]}
            colours, scale = table[values.astype(np.intp) - numbers[0]], None
        else:
            known = np.isfinite(values)
            colours, scale = self.scale[0].to_rgba(np.ma.masked_array(values, ~known), bytes=True), None
            colours = np.where(np.isinf(values)[..., None], self.scale[0].to_rgba(values, bytes=True), colours)
            colours[np.isnan(values)] = np.round(255 * np.array(to_rgba(_NOTHING)))
            if np.any(np.isnan(values) & (True if done is None else done)):
                self.present.add("no value")
        if done is not None:
            colours = np.where(done[..., None], colours, 0).astype(np.uint8)
            if not done.all():
                self.present.add(_NOT_DONE)
        return colours, scale

    def _hatch(self, axes: Axes) -> None:
        axes.add_patch(
            Rectangle(
                (0, 0),
                1,
                1,
                transform=axes.transAxes,
                facecolor=style.PAPER,
                edgecolor=_HATCH,
                hatch="////",
                linewidth=0,
                zorder=0.1,
            )
        )

    def _bound(self, lines: Any) -> None:
        lines.set_path_effects([patheffects.Stroke(linewidth=3.2, foreground=style.PAPER), patheffects.Normal()])
        self.present.add("boundary")

    def _legend(self, panels: Sequence) -> list:
        handles: list[Any] = []
        if not self.samples or self.y is None:
            names = dict.fromkeys([*self.kinds.values(), *style.OUTCOMES])
            shares = self._shares()
            handles = [
                style.patch(name.replace("_", " ") + shares.get(name, ""), _CATEGORIES.get(name, style.INK))
                for name in names
                if name in self.present and name != _NOT_DONE
            ]
        if "no value" in self.present:
            handles.append(style.patch("no value", _NOTHING, _HATCH))
        if _NOT_DONE in self.present:
            face: dict[str, Any] = dict(
                facecolor=style.PAPER, edgecolor=_HATCH, hatch="" if self.scattered else "/////", linewidth=0.6
            )
            handles.append(Patch(label="not done yet", **face))
        if "boundary" in self.present:
            handles.append(style.line("predicted stability boundary", style.INK, width=1.5))
        return handles

    def _shares(self) -> dict[str, str]:
        """How many of the cells that are done are of which kind."""
        values = self.dataset[self.variable].values
        counts = {name: np.sum(values == number) for number, name in self.kinds.items() if name != _NOT_DONE}
        total = max(1, sum(counts.values()))
        return {name: f", {_percent(count / total)}" for name, count in counts.items()}

    # Over one axis

    def lines(self, panels: list[tuple[dict[str, int], str]]) -> Figure:
        """Numbers over one axis: marks for what was simulated, a line for what was predicted."""
        figure, grid = _figure(len(panels), 7.4, 4.6)
        handles: dict[str, Any] = {}
        for axes, (places, text) in zip(grid, panels, strict=False):
            dataset = self.dataset.isel(places)
            drawn = self._rates(axes, dataset) if self.variable in _RATES else self._values(axes, dataset)
            handles |= drawn
            scale = _Scale(np.unique(_coordinate(dataset, self.x)))
            scale.set(axes.set_xscale, axes.set_xlim)
            style.dress(axes, text, _label(dataset, self.x), self._vertical(dataset))
        style.legend_below(figure, list(handles.values()))
        return figure

    def _vertical(self, dataset: Any) -> str:
        if self.variable not in _RATES:
            return self.label
        return f"rate per {boundary_of(dataset.attrs.get('kind', 'map')).unit}"

    def _column(self, dataset: Any, name: str) -> np.ndarray:
        """A variable over the axis, in its order; further dimensions second."""
        variable = dataset[name].transpose("cell" if self.scattered else self.x, ...)
        values = np.asarray(variable.values)
        return values.reshape(len(values), -1)[np.argsort(_coordinate(dataset, self.x), kind="stable")]

    def _rates(self, axes: Axes, dataset: Any) -> dict[str, Any]:
        x = np.sort(_coordinate(dataset, self.x))
        axes.axhline(0, color="#9AA0A6", linewidth=0.8)
        handles: dict[str, Any] = {}
        if "predicted_rate" in dataset:
            predicted = self._column(dataset, "predicted_rate")
            axes.plot(x, np.where(np.isfinite(predicted), predicted, np.nan), color=style.INK, linewidth=1.4, zorder=3)
            handles["predicted"] = style.line("predicted rate", style.INK)
        if "simulated_rate" in dataset:
            handles |= self._marks(axes, dataset, x, self._column(dataset, "simulated_rate"), "simulated, ")
        elif "predicted_verdict" in dataset:
            verdicts = self._column(dataset, "predicted_verdict")
            for number, name in _categories(dataset["predicted_verdict"]).items():
                chosen = (verdicts == number) & np.isfinite(predicted)
                if chosen.any():
                    at = np.broadcast_to(x[:, None], chosen.shape)[chosen]
                    colour = _CATEGORIES.get(name, style.INK)
                    axes.scatter(at, predicted[chosen], s=_mark_size(len(x)), color=colour, zorder=4)
                    handles[name] = style.mark(name, "o", colour, size=5)
        return handles

    def _values(self, axes: Axes, dataset: Any) -> dict[str, Any]:
        x, values = np.sort(_coordinate(dataset, self.x)), self._column(dataset, self.variable).astype(float)
        known = values[np.isfinite(values)]
        if self.kinds:
            axes.set_yticks(list(self.kinds), [name.replace("_", " ") for name in self.kinds.values()])
        elif known.size and known.min() > 0 and known.max() > 1e3 * known.min():
            axes.set_yscale("log")
        if self.variable.startswith("predicted_"):
            axes.plot(x, np.where(np.isfinite(values), values, np.nan), color=style.INK, linewidth=1.4)
            if self.variable in _BOUNDARIES:
                axes.axhline(_BOUNDARIES[self.variable], color="#9AA0A6", linewidth=0.8)
                return {"boundary": style.line("stability boundary", "#9AA0A6", width=0.8)}
            return {}
        return self._marks(axes, dataset, x, values, "")

    def _marks(self, axes: Axes, dataset: Any, x: np.ndarray, values: np.ndarray, prefix: str) -> dict[str, Any]:
        """A mark per cell, shaped and coloured by its outcome."""
        size, handles = _mark_size(len(x)), {}
        places = np.broadcast_to(x[:, None], values.shape)
        if "outcome" not in dataset or self._column(dataset, "outcome").shape != values.shape:
            axes.scatter(places, values, s=size, color=style.BLUE, linewidths=0)
            return handles
        outcomes = self._column(dataset, "outcome")
        for number, name in _categories(dataset["outcome"]).items():
            chosen = (outcomes == number) & np.isfinite(values)
            if name in style.OUTCOMES and chosen.any():
                marker, colour = style.OUTCOME_MARKS[name], style.OUTCOMES[name]
                axes.scatter(places[chosen], values[chosen], s=size, marker=marker, color=colour, linewidths=0)
                handles[name] = style.mark(prefix + name, marker, colour, size=5)
        undone = (outcomes < 0).all(axis=1)
        for begin, end in _runs(undone):
            edges = [x[begin] if begin == 0 else (x[begin - 1] + x[begin]) / 2]
            edges.append(x[end] if end == len(x) - 1 else (x[end] + x[end + 1]) / 2)
            axes.axvspan(*edges, facecolor="none", edgecolor=_HATCH, hatch="////", linewidth=0, zorder=0.1)
            handles[_NOT_DONE] = Patch(label="not done yet", facecolor="none", edgecolor=_HATCH, hatch="/////")
        return handles


_LINE: dict[str, Any] = dict(colors=[style.INK], linewidths=1.5, zorder=3)


def _figure(count: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A picture with so many panels: one large one, or rows of up to three."""
    rows, columns = style.grid_of_panels(count, 2 if count in (2, 4) else 3)
    if count > 1:
        width, height = 1.2 + 3.9 * columns, 1.5 + 3.3 * rows
    figure = style.Picture(width, height)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid


def _field(dataset: Any, level: str, dims: tuple[str, ...]) -> np.ma.MaskedArray:
    """What is 0 on the boundary, negative where stable; unknown where the prediction is."""
    field = np.asarray(dataset[level].transpose(*dims).values, float) - _BOUNDARIES[level]
    if "predicted_verdict" in dataset:
        verdict = dataset["predicted_verdict"]
        between = [number for number, name in _categories(verdict).items() if name in ("marginal", "neutral")]
        # Where eigenvalues are on the boundary in a whole region rounding makes no boundaries.
        flat = np.isin(verdict.transpose(*dims).values, between) & (np.abs(field) < 1e-6)
        flat |= np.abs(field) < 1e-13
        field = np.where(flat, 0, field)
    return np.ma.masked_invalid(np.clip(field, -1e3, 1e3))


def _colours(name: str, values: np.ndarray) -> tuple[ScalarMappable, str | None]:
    """A scale for numbers, and at which of its ends it is cut off; `None`: there are no numbers."""
    flat = values.ravel()[:: max(1, values.size // 200_000)].astype(float)
    known = flat[np.isfinite(flat)]
    if not known.size:
        return ScalarMappable(Normalize(0, 1), _SEQUENTIAL), None
    low, high = (float(value) for value in np.percentile(known, [1, 99]))
    least, most = float(known.min()), float(known.max())
    if name == "predicted_radius" and low < 1 < high:
        return ScalarMappable(TwoSlopeNorm(1, low, high), _DIVERGING), _cut(least, most, low, high - low)
    centre = _BOUNDARIES.get(name, 0.0)
    if name in _BOUNDARIES or name.endswith("rate") or least < 0 < most:
        spread = float(np.percentile(np.abs(known - centre), 95)) or float(np.max(np.abs(known - centre))) or 1.0
        return ScalarMappable(CenteredNorm(centre, spread), _DIVERGING), _cut(least, most, centre - spread, spread)
    positive = known[known > 0]
    if least >= 0 and positive.size and np.percentile(positive, 99) > 1e3 * np.percentile(positive, 1):
        low, high = (float(value) for value in np.percentile(positive, [1, 99]))
        low = max(low, 1e-18 * high)  # what has decayed for long fills no scale
        ends = _cut(np.log(float(positive.min())), np.log(most), np.log(low), np.log(high / low))
        return ScalarMappable(LogNorm(low, high, clip=True), _SEQUENTIAL), ends
    if not high > low:
        low, high = least, most
    room = 0.5 * (abs(low) or 1) if not high > low else 0.0
    return ScalarMappable(Normalize(low - room, high + room), _SEQUENTIAL), _cut(least, most, low, high - low)


def _halves(norm: TwoSlopeNorm) -> np.ndarray:
    below, above = (
        MaxNLocator(4).tick_values(*ends) for ends in ((norm.vmin, norm.vcenter), (norm.vcenter, norm.vmax))
    )
    ticks = np.concatenate([below[below < norm.vcenter], [norm.vcenter], above[above > norm.vcenter]])
    return ticks[(ticks >= norm.vmin) & (ticks <= norm.vmax)]


def _cut(least: float, most: float, low: float, width: float) -> str:
    below, above = least < low - 1e-9 * abs(width), most > low + width * (1 + 1e-9)
    return "both" if below and above else "min" if below else "max" if above else "neither"


def _runs(chosen: np.ndarray) -> Iterable[tuple[int, int]]:
    """First and last places of what stands together."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True)


def _mark_size(count: int) -> float:
    return float(np.clip(4000 / max(count, 1), 3, 24))


def _percent(fraction: float) -> str:
    percent = 100 * float(fraction)
    return f"{percent:.1f} %" if percent >= 0.1 or percent == 0 else f"{percent:.1g} %"
