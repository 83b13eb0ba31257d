"""Beyond eigenvalues: pseudospectra, growth before decay, and the paths of eigenvalues over a parameter."""

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from dynamics.analysis.stability.boundary import KINDS, boundary_of
from dynamics.plots import _plane as plane
from dynamics.plots import _style as style

_SHADES = LinearSegmentedColormap.from_list("nearness", ["#08306B", "#2C7FB8", "#9CCBE3", "#EAF3F9", "#FFFFFF"])
_PATH = LinearSegmentedColormap.from_list("path", ["#2C7FB8", "#8E5EA2", "#D1495B", "#E08E2B"])
_MOST_DECADES = 8


def pseudospectra(result: Any) -> Figure:
    """How near to an eigenvalue every point of the plane is: contours of the smallest singular value of z - J.

    The contour at -2 encloses the eigenvalues of all matrices within 0.01 of the Jacobian. Where a contour leaves the
    stable side, so small a change of the Jacobian can make it unstable.

    Args:
        result: a `dynamics.analysis.Pseudospectrum`.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.
    """
    figure = style.Picture(7.0, 6.2)
    axes = figure.add_subplot()
    levels = np.log10(np.maximum(np.asarray(result.smallest, float), 1e-300))
    bottom, top = np.percentile(levels, [0.5, 100.0])
    top = 0.5 * np.ceil(2 * top)
    bottom = min(max(0.5 * np.floor(2 * bottom), top - _MOST_DECADES), top - 1.0)
    steps = np.linspace(bottom, top, 1 + round((4 if top - bottom < 3 else 2) * (top - bottom)))
    filled = axes.contourf(result.real, result.imaginary, levels, levels=steps, cmap=_SHADES, extend="min")
    axes.contour(result.real, result.imaginary, levels, levels=steps, colors="#5B6770", linewidths=0.4, linestyles="-")
    values = np.asarray(result.eigenvalues)
    axes.scatter(
        np.real(values),
        np.imag(values),
        s=26,
        color=style.GOLD,
        edgecolor=style.INK,
        linewidths=0.7,
        zorder=5,
        clip_on=True,
    )
    axes.set_xlim(result.real[0], result.real[-1])
    axes.set_ylim(result.imaginary[0], result.imaginary[-1])
    axes.set_aspect("equal")
    boundary = boundary_of(result.kind)
    plane.draw_boundary(axes, boundary, style.VERMILLION, 1.4, 4)
    style.dress(axes, "", "real part", "imaginary part", grid=False)
    bar = figure.colorbar(filled, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("log10 of the smallest singular value", fontsize=style.LABEL, color=style.INK)
    bar.ax.tick_params(labelsize=style.TICK, labelcolor=style.INK)
    lines = [f"distance to instability {result.distance:.4g}"]
    if len(result.epsilons):
        size, reach = result.epsilons[-1], result.reach[-1]
        lines.append(f"{boundary.bound_name} up to {reach:.4g} for perturbations up to {size:g}")
    style.heading(figure, f"Pseudospectra of the {result.kind}", "; ".join(lines))
    dots = style.mark("eigenvalues", "o", style.GOLD)
    dots.set_markeredgecolor(style.INK)
    style.legend_below(figure, [dots, style.line(boundary.name, style.VERMILLION)])
    return figure


def transient(growth: Any) -> Figure:
    """The norm of powers or exponentials of the Jacobian over time: growth first, then decay.

    Args:
        growth: a `dynamics.analysis.Growth`.

    Returns:
        the figure; a notebook shows it, and `dynamics.plots.save` writes it to a file.

    Raises:
        ValueError: the growth has no bound, so that there is nothing to draw.
    """
    if not np.isfinite(growth.growth):
        raise ValueError("the growth has no bound; expected the result of transient_growth for a stable Jacobian")
    figure = style.Picture(7.0, 4.6)
    axes = figure.add_subplot()
    boundary = boundary_of(growth.kind)
    few = boundary.discrete and len(growth.times) <= 80
    look = {"marker": "o", "markersize": 3.2} if few else {}
    norms = np.where(growth.norms > 1e-300, growth.norms, np.nan)
    axes.plot(growth.times, norms, color=style.SERIES[0], linewidth=1.4, zorder=3, **look)
    axes.axhline(1.0, color=style.INK, linewidth=0.8)
    low, high = float(np.nanmin(norms)), max(float(growth.growth), 1.0)
    handles = [style.line("largest length of a perturbation that began with length 1", style.SERIES[0])]
    if np.isfinite(growth.rate):
        axes.plot(
            growth.times, np.exp(np.clip(growth.rate * growth.times, -600, 600)), color=style.GREY, linestyle="--"
        )
        handles.append(style.line("what the eigenvalues alone say", style.GREY, "--"))
    if growth.time:
        axes.plot(
            growth.time, growth.growth, "o", color=style.VERMILLION, markeredgecolor=style.INK, markersize=7, zorder=4
        )
        handles.append(style.mark("largest growth", "o", style.VERMILLION))
    axes.set_yscale("log")
    numbers = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(numbers)
    axes.yaxis.set_minor_formatter(numbers if high < 10 * low else NullFormatter())
    axes.set_ylim(max(min(low, 0.5), 1e-4) * 0.8, high * 1.6)
    axes.set_xlim(0, float(growth.times[-1]) or 1.0)
    style.dress(axes, "", boundary.symbol, "largest length")
    when = boundary.when(growth.time, digits=4)
    title = f"Transient growth {growth.growth:.4g} {when}" if growth.time else "No transient growth"
    slopes = f"slope {growth.slope:.4g} at the start, {growth.rate:.4g} per {boundary.unit} in the long run"
    style.heading(figure, title, slopes)
    style.legend_below(figure, handles)
    return figure


def eigenvalue_path(
    parameters: Any, eigenvalues: Any, kind: str, name: str = "parameter", *, title: str | None = None
) -> Figure:
    """The paths of eigenvalues over a parameter, coloured by it, against the stability boundary.

    Args:
        parameters: the samples.
        eigenvalues: one row per sample, a column per eigenvalue, as `dynamics.analysis.spectrum_path` has them.
        kind: "map" or "flow".
        name: of the parameter.
        title: of the picture; by default it says what is seen.

    Raises:
        ValueError: the shapes do not fit, or the kind is neither.

    >>> figure = eigenvalue_path([0.0, 1.0], [[-1 + 1j, -1 - 1j], [1 + 1j, 1 - 1j]], "flow", "rate")
    >>> figure.axes[0].get_xlabel()
    'real part'
    """
    parameters, eigenvalues = np.asarray(parameters, float), np.asarray(eigenvalues, complex)
    if parameters.ndim != 1 or eigenvalues.ndim != 2 or len(parameters) != len(eigenvalues):
        raise ValueError(
            f"parameters has shape {parameters.shape} and eigenvalues {eigenvalues.shape}; "
            "expected (samples,) and (samples, number)"
        )
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected 'map' or 'flow'")
    figure = style.Picture(7.0, 6.4)
    axes = figure.add_subplot()
    boundary = boundary_of(kind)
    plane.window(axes, eigenvalues[np.isfinite(eigenvalues)], boundary, 0.1)
    plane.shade_stable_side(axes, boundary)
    plane.draw_boundary(axes, boundary, style.INK, 1.4, 2)
    shown = None
    for column in eigenvalues.T:
        axes.plot(column.real, column.imag, color=style.FAINT, linewidth=0.8, zorder=2)
        shown = axes.scatter(column.real, column.imag, c=parameters, cmap=_PATH, s=9, linewidths=0, zorder=3)
    ends = ((0, style.PAPER, "o"), (-1, style.INK, "s"))
    handles = []
    for row, face, marker in ends:
        axes.scatter(
            eigenvalues[row].real,
            eigenvalues[row].imag,
            s=28,
            color=face,
            marker=marker,
            edgecolor=style.INK,
            linewidths=0.9,
            zorder=4,
        )
        entry = style.mark(f"{name} {parameters[row]:.4g}", marker, style.INK)
        entry.set_markerfacecolor(face)
        handles.append(entry)
    style.dress(axes, "", "real part", "imaginary part")
    if shown is not None:
        bar = figure.colorbar(shown, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label(style.plain(name), fontsize=style.LABEL, color=style.INK)
        bar.ax.tick_params(labelsize=style.TICK, labelcolor=style.INK)
    style.heading(
        figure,
        f"Eigenvalues of the {kind} over {name}" if title is None else title,
        f"{eigenvalues.shape[1]} eigenvalues, {name} from {parameters[0]:.4g} to {parameters[-1]:.4g}",
    )
    handles += [style.line(boundary.name, style.INK), plane.stable_side_entry()]
    style.legend_below(figure, handles)
    return figure
