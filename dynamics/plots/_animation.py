"""One run in motion: players, losses and eigenvalues, as a GIF or, where ffmpeg is, an MP4."""

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.figure import Figure

from dynamics.analysis.stability.boundary import boundary_of
from dynamics.plots import _plane as plane
from dynamics.plots import _style as style
from dynamics.plots._trajectory import MOST_LINES, check_one_run, coordinates, look, shown

WRITERS = {".gif": PillowWriter, ".mp4": FFMpegWriter}
PIXELS = 90  # per inch: a GIF holds every picture
TAIL = 25  # frames over which the way of a particle fades


class Animation:
    """A figure that changes from frame to frame; `save` writes it, a notebook shows it.

    Attributes:
        figure: the figure, at the frame that was drawn last.
        frames: how many there are.
        rate: frames per second.
    """

    def __init__(self, figure: Figure, draw: Callable[[int], None], frames: int, rate: float):
        self.figure, self.frames, self.rate = figure, frames, rate
        self._draw = draw
        self.show(frames - 1)

    def __repr__(self) -> str:
        return f"Animation of {self.frames:,} frames, {self.rate:g} a second; save(path) writes it, .gif or .mp4"

    def show(self, frame: int) -> Figure:
        """The figure at one frame.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= frame < self.frames:
            raise IndexError(f"frame is {frame}; expected 0 to {self.frames - 1}")
        self._draw(frame)
        return self.figure

    def save(self, path: str | Path) -> Path:
        """Write it to a file ending in .gif or .mp4; the folder is created where needed.

        Raises:
            ValueError: the name ends with something else, or ffmpeg, which writes .mp4, is not there.
        """
        path = Path(path)
        kind = WRITERS.get(path.suffix)
        if kind is None:
            raise ValueError(f"path is {str(path)!r}; expected a name that ends with one of {', '.join(WRITERS)}")
        if not kind.isAvailable():
            raise ValueError(f"path is {str(path)!r}, and ffmpeg is not there; install it, or write a .gif")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # panels that stay where they are
        writer = kind(fps=self.rate)
        with writer.saving(self.figure, str(path), PIXELS):
            for frame in range(self.frames):
                self._draw(frame)
                writer.grab_frame(facecolor=style.PAPER)
        return path

    def _repr_html_(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            data = self.save(Path(folder) / "animation.gif").read_bytes()
        return f'<img src="data:image/gif;base64,{base64.b64encode(data).decode()}">'


def animate(
    run: Any,
    *,
    data: Any = None,
    eigenvalues: Any = None,
    frames: int = 60,
    seconds: float = 6.0,
    title: str = "",
    subtitle: str = "",
) -> Animation:
    """A run in motion: what the players do, their losses so far, and eigenvalues where they are given.

    Two scalars move in their plane, points of the plane (a first player of shape (n, 2)) as a cloud over the data,
    anything else as lines over time.

    Args:
        run: a `dynamics.Run` of one game, saved along the way; or positions of points alone, shape (times, n, 2).
        data: points that particles are on their way to, shape (m, 2).
        eigenvalues: at every saved step, complex, shape (saves, k): those of a map (drawn with the unit circle) for a
            run in steps, of a flow (with the imaginary axis) for one in time.
        frames: how many, evenly spaced over the saves.
        seconds: how long it takes.
        title, subtitle: above the picture.

    Raises:
        ValueError: a batch of runs, nothing but the end was saved, or arrays of other shapes.

    >>> import dynamics as dy
    >>> import optax
    >>> update = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.1))
    >>> run = dy.simulate(dy.games.Bilinear(), update, (1.0, 0.5), steps=9)
    >>> animate(run, frames=3).frames
    3
    """
    if frames < 2 or not 0 < seconds < np.inf:
        raise ValueError(f"frames is {frames} and seconds {seconds}; expected 2 or more, and a number > 0")
    points = _points(run)
    if hasattr(run, "players"):
        check_one_run(run)
        steps = np.asarray(run.steps)
        losses = [np.asarray(loss) for loss in run.losses]
    else:
        assert points is not None  # positions are points of the plane
        steps, losses = np.arange(len(points)), []
    integer = np.issubdtype(steps.dtype, np.integer)
    name = "step" if integer else "time"
    at = np.unique(np.linspace(0, len(steps) - 1, min(frames, len(steps))).round().astype(int))
    spectrum = None if eigenvalues is None else np.asarray(eigenvalues)
    if spectrum is not None and (spectrum.ndim != 2 or len(spectrum) != len(steps)):
        raise ValueError(f"eigenvalues has shape {spectrum.shape}; expected ({len(steps)}, k), a row per saved step")
    right = bool(losses) + (spectrum is not None)
    figure = style.Picture(10.0 if right else 5.6, 5.2)
    grid = figure.add_gridspec(max(right, 1), 1 + bool(right))
    left = figure.add_subplot(grid[:, 0])
    draws = [_cloud(left, points, data) if points is not None else _numbers(left, run, steps, name)]
    if losses:
        draws.append(_losses(figure.add_subplot(grid[0, 1]), steps, losses, name))
    if spectrum is not None:
        draws.append(_spectrum(figure.add_subplot(grid[right - 1, 1]), spectrum, integer))
    counter = left.text(0.02, 0.98, "", transform=left.transAxes, va="top", fontsize=style.LABEL, color=style.INK)
    style.heading(figure, title or "A run in motion", subtitle)

    def draw(frame: int) -> None:
        for one in draws:
            one(at[frame])
        counter.set_text(f"{name} {steps[at[frame]]:,g}" if integer else f"{name} {steps[at[frame]]:.4g}")

    return Animation(figure, draw, len(at), len(at) / seconds)


def _points(run: Any) -> np.ndarray | None:
    """Positions of points of the plane over time, where that is what the first player is."""
    if not hasattr(run, "players"):
        points = np.asarray(run, float)
        if points.ndim != 3 or points.shape[2] != 2 or len(points) < 2:
            raise ValueError(f"run has shape {points.shape}; expected a Run, or positions of shape (times, n, 2)")
        return points
    first = run.players[0]
    return np.asarray(first, float) if np.ndim(first) == 3 and np.shape(first)[2] == 2 else None


def _cloud(axes: Any, points: np.ndarray, data: Any) -> Callable[[int], None]:
    points = shown(points)
    style.dress(axes, "", "x", "y")
    every = points.reshape(-1, 2)
    if data is not None:
        data = np.asarray(data, float)
        if data.ndim != 2 or data.shape[1] != 2:
            raise ValueError(f"data has shape {data.shape}; expected (m, 2)")
        axes.plot(*data.T, "x", color=style.SERIES[1], markersize=5, label="data")
        every = np.concatenate([every, data])
    (ways,) = axes.plot([], [], color=style.INK, linewidth=0.5, alpha=0.4)
    (cloud,) = axes.plot([], [], "o", color=style.SERIES[0], markersize=4, label="particles")
    axes.set_xlim(style.padded(every[:, 0]))
    axes.set_ylim(style.padded(every[:, 1]))
    axes.set_aspect("equal")
    axes.legend(fontsize=style.TICK, frameon=False, labelcolor=style.INK, loc="upper right")

    def draw(save: int) -> None:
        cloud.set_data(*points[save].T)
        tail = points[max(0, save - TAIL) : save + 1]
        gap = np.full((1, *tail.shape[1:]), np.nan)  # between the ways of two particles
        ways.set_data(*np.moveaxis(np.concatenate([tail, gap]), 1, 0).reshape(-1, 2).T)

    return draw


def _numbers(axes: Any, run: Any, steps: np.ndarray, name: str) -> Callable[[int], None]:
    named = [(label, shown(values)) for label, values in coordinates(run.players)]
    if len(named) == 2:
        (x_name, x), (y_name, y) = named
        style.dress(axes, "", x_name, y_name)
        axes.plot(x, y, color=style.FAINT, linewidth=0.8)
        axes.plot(x[:1], y[:1], "o", color=style.PAPER, markeredgecolor=style.SERIES[0], markersize=6)
        (way,) = axes.plot([], [], color=style.SERIES[0], linewidth=1.1)
        (now,) = axes.plot([], [], "o", color=style.SERIES[0], markersize=6)
        axes.set_xlim(style.padded(x))
        axes.set_ylim(style.padded(y))

        def draw(save: int) -> None:
            way.set_data(x[: save + 1], y[: save + 1])
            now.set_data(x[save : save + 1], y[save : save + 1])

        return draw
    style.dress(axes, "players", name, "coordinates", left=True)
    return _lines(axes, steps, [values for _, values in named[:MOST_LINES]])


def _losses(axes: Any, steps: np.ndarray, losses: list[np.ndarray], name: str) -> Callable[[int], None]:
    style.dress(axes, "losses", name, "loss", left=True)
    draw = _lines(axes, steps, [shown(loss) for loss in losses], [f"loss {i}" for i in range(len(losses))])
    axes.legend(fontsize=style.TICK, frameon=False, labelcolor=style.INK, ncols=len(losses), loc="upper right")
    return draw


def _lines(
    axes: Any, steps: np.ndarray, rows: list[np.ndarray], labels: list[str] | None = None
) -> Callable[[int], None]:
    lines = [axes.plot([], [], label=None if labels is None else labels[i], **look(i))[0] for i in range(len(rows))]
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(style.padded(np.stack(rows)))

    def draw(save: int) -> None:
        for one, row in zip(lines, rows, strict=True):
            one.set_data(steps[: save + 1], row[: save + 1])

    return draw


def _spectrum(axes: Any, spectrum: np.ndarray, discrete: bool) -> Callable[[int], None]:
    boundary = boundary_of("map" if discrete else "flow")
    real, imaginary = (shown(part) for part in (np.real(spectrum), np.imag(spectrum)))
    finite = np.isfinite(real) & np.isfinite(imaginary)
    plane.window(axes, real[finite] + 1j * imaginary[finite], boundary, 0.15)
    plane.shade_stable_side(axes, boundary)
    plane.draw_boundary(axes, boundary, style.INK, 0.9, 2)
    style.dress(axes, "eigenvalues", "real part", "imaginary part", left=True)
    (now,) = axes.plot([], [], "o", color=style.VERMILLION, markersize=5, zorder=3)

    def draw(save: int) -> None:
        now.set_data(real[save], imaginary[save])

    return draw
