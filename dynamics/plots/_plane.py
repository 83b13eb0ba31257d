"""The complex plane with the boundary of stability, for every picture of eigenvalues."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dynamics.analysis.stability.boundary import Boundary
from dynamics.plots import _style as style

_STABLE = "#EAF3F9"


def window(axes: Axes, values: np.ndarray, boundary: Boundary, room: float) -> None:
    """Limits with equal scales that hold the eigenvalues, the boundary beside them, and a share of `room` around."""
    x = style.padded([*np.real(values), boundary.neutral], room)
    y = style.padded([*np.imag(values), 0.0], room)
    side = max(x[1] - x[0], y[1] - y[0], 1e-3)
    for (low, high), set_limits in ((x, axes.set_xlim), (y, axes.set_ylim)):
        set_limits((low + high - side) / 2, (low + high + side) / 2)
    axes.set_aspect("equal")


def draw_boundary(axes: Axes, boundary: Boundary, colour: str, width: float, zorder: float) -> None:
    """The boundary as a line through the window, whose limits must be set."""
    points = boundary.outline(size(axes))
    axes.plot(np.real(points), np.imag(points), color=colour, linewidth=width, zorder=zorder)


def shade_stable_side(axes: Axes, boundary: Boundary) -> None:
    """A shade where eigenvalues decay, in the window, whose limits must be set."""
    corners = boundary.stable_side(size(axes))
    axes.fill(np.real(corners), np.imag(corners), facecolor=_STABLE, edgecolor="none", zorder=0)


def stable_side_entry() -> Any:
    """The shade's entry in a legend."""
    return style.patch("stable side", _STABLE, style.FAINT)


def size(axes: Axes) -> float:
    """A length beyond which nothing in a window lies."""
    return 2 * float(np.max(np.abs([*axes.get_xlim(), *axes.get_ylim()])))
