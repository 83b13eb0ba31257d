"""What a study finds out: one record per cell, and pictures' worth of data for some of them."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dynamics._deprecations import renamed_method
from dynamics._plain import plain, plain_fields
from dynamics._printing import Described
from dynamics.analysis.stability.boundary import KINDS, Boundary, boundary_of

if TYPE_CHECKING:
    import xarray as xr

    from dynamics.analysis import Basins, SpectrumPath, Stability
    from dynamics.flows import AbstractFlow
    from dynamics.game import Game
    from dynamics.studies.schema import CellSpecification
    from dynamics.updates import Update

AGREEMENTS = ("agrees", "untested", "explained", "unexplained")  # see `Cell.agreement`


def label(cell: Any) -> str:
    """Game, objective, penalty, method, kind and axes of a cell, or of the recipe of one, in one line."""
    parts = [cell.game, cell.objective, cell.penalty, cell.method, cell.kind]
    parts += [f"{name}={value:.6g}" for name, value in cell.axes.items()]
    return " / ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of game, method and axes, predicted and simulated.

    Attributes:
        game: label of the game.
        objective, penalty: labels; "" where the game has none.
        method: label of the method.
        kind: "map" or "flow".
        axes: values of the study's numeric axes, by path.
        predicted: "stable", "unstable", "neutral" or "marginal".
        predicted_rate: log contraction per step or unit of time; negative when stable.
        rotation: angle per step or unit of time.
        extent: radius (map) or abscissa (flow).
        eigenvalues: complex, outermost first.
        smoothness: as in `dynamics.analysis.Stability`.
        manifold_dimension: of the manifold of equilibria through the point.
        outcome: the name of a `dynamics.Outcome`.
        rate: measured.
        period: measured, NaN unless cycling.
        exponent: p of a distance that shrinks like t^-p, measured; NaN unless the outcome is `power_law`.
        residual: norm of the field at the end.
        distance: from the end to the equilibrium.
        steps: steps, or time, simulated.
        agreement: "agrees"; "untested" where nothing is predicted, or the run is too short to show it; "explained" or
            "unexplained" where prediction and simulation differ.
        explanation: why prediction and simulation differ, or what they agree on; a sentence.
    """

    game: str
    objective: str
    penalty: str
    method: str
    kind: str
    axes: dict[str, float]
    predicted: str
    predicted_rate: float
    rotation: float
    extent: float
    eigenvalues: np.ndarray
    smoothness: str
    manifold_dimension: int
    outcome: str
    rate: float
    period: float
    exponent: float
    residual: float
    distance: float
    steps: float
    agreement: str
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Label and fields as plain Python data, ready for JSON; complex numbers are pairs, NaN is `None`."""
        return {"label": self.label, **plain_fields(self)}

    @property
    def boundary(self) -> Boundary:
        """The boundary of stability that belongs to its kind."""
        return boundary_of(self.kind)

    @property
    def label(self) -> str:
        """Game, objective, penalty, method and kind in one line."""
        return label(self)


@dataclasses.dataclass(frozen=True)
class Judged(Described):
    """A cell with its prediction alone.

    Attributes:
        recipe: its labels and its data.
        game, method: what was judged.
        stability: the prediction; `stability.players` is the point.
    """

    recipe: "CellSpecification"
    game: "Game"
    method: "Update | AbstractFlow"
    stability: "Stability"

    @property
    def label(self) -> str:
        """Game, objective, penalty, method and kind in one line."""
        return label(self.recipe)

    def describe(self) -> str:
        """What the cell is, and the report on it."""
        return f"{self.label}: {self.stability.describe()}"

    def to_dict(self) -> dict[str, Any]:
        """The label and the report as plain Python data, ready for JSON."""
        return {"cell": self.label, **self.stability.to_dict()}


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A planar game's vector field on a grid and trajectories over it.

    Attributes:
        title: what it shows.
        x, y: grid coordinates, shapes (n,) and (m,).
        u, v: components of the game's field on the grid, shape (m, n).
        trajectories: `(label, points)` with points of shape (saved, 2).
        equilibrium: the point, shape (2,).
        names: what the axes are called.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    trajectories: tuple[tuple[str, np.ndarray], ...]
    equilibrium: np.ndarray
    names: tuple[str, str] = ("player 0", "player 1")


@dataclasses.dataclass(frozen=True)
class Series(Described):
    """Players over time, of several methods from one start, with noise or without.

    Attributes:
        title: what it shows.
        methods: labels, one per run.
        kinds: "map" or "flow", likewise.
        names: of the coordinates that are drawn.
        left_out: number of those that are not.
        times: steps or times of every run, shapes (saved,).
        values: the coordinates of every run, shapes (saved, coordinates).
        equilibrium: the coordinates of the equilibrium.
        seed: of the random key of the runs; `None` for exact expectations.
    """

    title: str
    methods: tuple[str, ...]
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    left_out: int
    times: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]
    equilibrium: np.ndarray
    seed: int | None

    @property
    def file(self) -> str:
        """How its pictures are called."""
        return "series"

    def spreads(self) -> np.ndarray:
        """Standard deviations over the second half of every run, shape (runs, coordinates)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.stack([np.std(values[len(values) // 2 :], axis=0) for values in self.values])

    def describe(self) -> str:
        """How far every coordinate still moves in the second half of every run."""
        names = [f"{method} ({kind})" for method, kind in zip(self.methods, self.kinds, strict=True)]
        rows = [
            f"{name}: {', '.join(f'{one} {spread:.3g}' for one, spread in zip(self.names, spreads, strict=True))}"
            for name, spreads in zip(names, self.spreads(), strict=True)
        ]
        noise = "without noise" if self.seed is None else f"with noise, seed {self.seed}"
        return "\n".join([f"{self.title}, {noise}; standard deviations over the second half of the run", *rows])

    def to_dict(self) -> dict[str, Any]:
        """Labels and standard deviations as plain Python data, ready for JSON, without the runs themselves."""
        data = {name: getattr(self, name) for name in ("title", "methods", "kinds", "names", "seed")}
        return plain({**data, "standard_deviations": self.spreads()})


@dataclasses.dataclass(frozen=True)
class BasinsOfCell(Described):
    """Where runs of a cell end, by their start.

    Attributes:
        title: the cell.
        basins: a `dynamics.analysis.Basins`, without the ends of the single runs.
    """

    title: str
    basins: "Basins"

    @property
    def file(self) -> str:
        """How its pictures are called."""
        return "basins"

    def describe(self) -> str:
        """The share of every destination."""
        return f"{self.title}\n{self.basins.describe()}"

    def to_dict(self) -> dict[str, Any]:
        """The shares as plain Python data, ready for JSON, without the destination of every single start."""
        data = {name: getattr(self.basins, name) for name in ("names", "kinds", "counts", "fractions")}
        return plain({"title": self.title, **data})


@dataclasses.dataclass(frozen=True)
class EigenvaluesOfCell(Described):
    """The eigenvalues of a cell over one of its numbers.

    Attributes:
        title: the cell.
        name: what the number is called, or its path in the study.
        path: a `dynamics.analysis.SpectrumPath`.
    """

    title: str
    name: str
    path: "SpectrumPath"

    @property
    def file(self) -> str:
        """How its pictures are called."""
        return "eigenvalues"

    def crossings(self) -> list[float]:
        """Where radius or abscissa crosses the boundary of stability, by linear interpolation."""
        boundary = boundary_of(self.path.kind)
        # What rounding leaves of a reach on the boundary is no side of it.
        gap = np.asarray(self.path.reach, float) - boundary.neutral
        gap = np.where(np.abs(gap) < 1e-9, 0.0, gap)
        sides = np.sign(gap)
        places = np.flatnonzero(sides[:-1] * sides[1:] < 0)
        x = self.path.parameters
        return [float(x[i] - gap[i] * (x[i + 1] - x[i]) / (gap[i + 1] - gap[i])) for i in places]

    def describe(self) -> str:
        """From where to where, and where the boundary of stability is crossed."""
        crossings = ", ".join(f"{value:.4g}" for value in self.crossings())
        name = boundary_of(self.path.kind).bound_name
        crossed = f"the {name} crosses the boundary at {crossings}" if crossings else f"the {name} crosses no boundary"
        return f"{self.title}, over {self.name}\n{self.path.describe()}; {crossed}"

    def to_dict(self) -> dict[str, Any]:
        """Samples, reach, eigenvalues and crossings as plain Python data; complex numbers are pairs."""
        data = {name: getattr(self.path, name) for name in ("kind", "parameters", "reach", "eigenvalues")}
        return plain({"title": self.title, "name": self.name, **data, "crossings": self.crossings()})


# What players of two numbers are called in pictures, by the class of the game.
PLAYER_NAMES = {"GAN": ("generator", "discriminator"), "DiracGAN": ("theta, generator", "psi, discriminator")}


def player_names(game: Any) -> tuple[str, str]:
    """What the axes of a picture of a game of two numbers are called."""
    return PLAYER_NAMES.get(type(game).__name__, ("player 0", "player 1"))


@dataclasses.dataclass(frozen=True)
class Results(Described):
    """Everything a study found out.

    Attributes:
        name, title: of the study.
        cells: one record per cell.
        portraits: for the planar games that the study asks pictures of.
        settings: the resolved study, plain data.
        provenance: version, dtype, seed, platform, time taken: plain data.
        draw: the pictures asked for.
        series, basins, eigenvalues: what further pictures show, in the order of the study.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    portraits: tuple[Portrait, ...]
    settings: dict[str, Any]
    provenance: dict[str, Any]
    draw: tuple[str, ...]
    series: tuple[Series, ...] = ()
    basins: tuple[BasinsOfCell, ...] = ()
    eigenvalues: tuple[EigenvaluesOfCell, ...] = ()

    def figures(self) -> dict[str, Series | BasinsOfCell | EigenvaluesOfCell]:
        """What further pictures show, by the names of their files: `basins`, `basins-2`, ..."""
        named = {}
        for several in (self.series, self.basins, self.eigenvalues):
            for number, one in enumerate(several, 1):
                named[one.file if number == 1 else f"{one.file}-{number}"] = one
        return named

    def boundaries(self) -> list[Boundary]:
        """The boundaries of stability of the kinds of methods among the cells, that of maps first."""
        return [boundary for boundary in KINDS.values() if any(cell.boundary == boundary for cell in self.cells)]

    def counts(self) -> dict[str, int]:
        """How many cells agree, are untested, are explained, or are not."""
        return {name: sum(cell.agreement == name for cell in self.cells) for name in AGREEMENTS}

    def describe(self) -> str:
        """How many cells turned out as predicted, in a sentence."""
        counts = self.counts()
        parts = [f"{counts['agrees']} as predicted"]
        if counts["untested"]:
            parts.append(f"{counts['untested']} untested")
        explained, unexplained = counts["explained"], counts["unexplained"]
        parts.append("1 differs and is explained" if explained == 1 else f"{explained} differ and are explained")
        differ = "DIFFERS" if unexplained == 1 else "DIFFER"
        parts.append(
            f"{unexplained} {differ} WITHOUT EXPLANATION" if unexplained else "none differs without explanation"
        )
        return f"{len(self.cells)} cells: {', '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """Cells, settings and provenance as plain Python data, ready for JSON; what is not finite is `None`."""
        results = {"name": self.name, "title": self.title, "counts": self.counts(), "cells": self.cells}
        results |= {
            name: [one.to_dict() for one in getattr(self, name)] for name in ("series", "basins", "eigenvalues")
        }
        return plain({**results, "settings": self.settings, "provenance": self.provenance})

    def to_xarray(self) -> "xr.Dataset":
        """The cells as an `xarray.Dataset` with one dimension `cell`, a coordinate per label and axis, units in
        attributes and the provenance in the dataset's attributes."""
        import json

        import xarray as xr

        text = ("game", "objective", "penalty", "method", "kind")
        facts = ("predicted", "outcome", "smoothness", "agreement", "explanation")
        numbers = {
            "predicted_rate": "per step or unit of time",
            "rotation": "radians per step or unit of time",
            "extent": "radius (map) or abscissa (flow)",
            "manifold_dimension": "1",
            "rate": "per step or unit of time",
            "period": "steps or time",
            "exponent": "1",
            "residual": "1",
            "distance": "1",
            "steps": "steps or time",
        }
        size = max((len(cell.eigenvalues) for cell in self.cells), default=0)
        spectrum = np.full((len(self.cells), size, 2), np.nan)
        for row, cell in zip(spectrum, self.cells, strict=True):
            row[: len(cell.eigenvalues)] = np.stack([np.real(cell.eigenvalues), np.imag(cell.eigenvalues)], axis=-1)
        axes = sorted({name for cell in self.cells for name in cell.axes})
        return xr.Dataset(
            {name: ("cell", np.array([getattr(c, name) for c in self.cells], dtype=str)) for name in facts}
            | {
                name: ("cell", np.array([getattr(c, name) for c in self.cells]), {"units": u})
                for name, u in numbers.items()
            }
            | {"eigenvalues": (("cell", "index", "part"), spectrum)},
            coords={name: ("cell", np.array([getattr(c, name) for c in self.cells], dtype=str)) for name in text}
            | {name: ("cell", np.array([c.axes.get(name, np.nan) for c in self.cells])) for name in axes}
            | {"part": ["real", "imaginary"]},
            attrs={
                "title": self.title,
                "study": json.dumps(self.settings),
                **{k: str(v) for k, v in self.provenance.items()},
            },
        )

    to_dataset = renamed_method(to_xarray, "to_dataset")
