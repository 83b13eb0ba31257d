"""Hyper-parameters with the fastest local convergence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from dynamics._checks import as_whole
from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.bifurcation.path import check_one_piece
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.builds import Analysed, row_of
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.verdict import stability


@dataclasses.dataclass(frozen=True)
class Best(Described, PlainFields):
    """The hyper-parameters with the fastest local convergence that were found.

    Attributes:
        kind: "map" or "flow".
        parameters: their values by name.
        rate: log contraction per step, or per unit of time; negative when stable.
        radius: spectral radius of a map, `exp(abscissa)` of a flow: the factor per step or unit of time.
        report: the stability report there.
        evaluations: number of Jacobians taken.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    parameters: dict[str, float]
    rate: float
    radius: float
    report: Stability
    evaluations: int
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The result as text."""
        unit = boundary_of(self.kind).unit
        values = ", ".join(f"{name} = {value:.8g}" for name, value in self.parameters.items())
        return "\n".join([f"{values}: factor {self.radius:.8g}, rate {self.rate:.8g} per {unit}", *self.notes])


def best(
    build: Callable[..., tuple],
    bounds: Mapping[str, tuple[float, float]],
    *,
    at: Any = None,
    logarithmic: Collection[str] = (),
    seed: int = 0,
    population: int = 24,
    generations: int = 200,
) -> Best:
    """The point of a box at which the spectral radius (maps) or the abscissa (flows) is least.

    Differential evolution, one compiled program taking the Jacobians of a whole generation, then Nelder and Mead's
    method from ever smaller simplices. The optimum usually sits where eigenvalues meet and the radius has a corner, so
    that nothing here needs a derivative. Neutral directions (along a manifold of equilibria, or of memory that stays
    where it is put) do not count, as many as in the middle of the box. The same seed gives the same result.
    Source: Storn and Price, Differential Evolution, 1997; Nelder and Mead 1965.

    Args:
        build: function of numbers by name, returning `(game, method)` or `(game, method, start)`. It is traced: use
            jax.numpy inside. The equilibrium is found as for `critical`; where there is none is no best point.
        bounds: the interval of every parameter by name.
        at: the equilibrium instead, a tuple of players, or a function of the same numbers that returns one.
        logarithmic: names of those that are searched on a logarithmic scale; their bounds are positive.
        seed: of the search.
        population: points per parameter in a generation.
        generations: most generations.

    Raises:
        EquilibriumError: there is no equilibrium, or none is found from the start, in the middle of the box.
        ValueError: no bounds, an empty interval, a number out of bounds, or no point of the box with an equilibrium and
            a finite Jacobian; a kink or a jump at the equilibrium, in the middle of the box or at the point found.

    >>> import dynamics as dy
    >>> def build(step):
    ...     sgd = dy.optimisers.sgd(step)
    ...     return dy.games.Bilinear(1.0), dy.updates.Extragradient(sgd, sgd, extrapolation=step)
    >>> fastest = best(build, {"step": (0.0, 1.0)})
    >>> round(fastest.parameters["step"], 6), round(fastest.radius, 6)  # 1 / sqrt 2 and sqrt 3 / 2
    (0.707107, 0.866025)
    """
    population, generations = as_whole("population", population), as_whole("generations", generations)
    names = tuple(bounds)
    low, high, is_log = _box(bounds, logarithmic)

    def numbers(points: np.ndarray) -> np.ndarray:
        """Points of the search, rows in the unit cube, as parameters."""
        points = np.clip(points, 0, 1)
        straight = np.clip(low + points * (high - low), low, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            geometric = np.clip(np.exp(np.log(low) + points * (np.log(high) - np.log(low))), low, high)
        return np.where(is_log, geometric, straight)

    dtype = jnp.result_type(float)
    centre = numbers(np.full(len(names), 0.5))
    analysed = Analysed.of(build, at, [centre], by_name=names)
    game, method, players = analysed.at_numbers(centre)
    boundary = boundary_of(method)
    middle = stability(game, method, players, order="linear")
    check_one_piece(middle, "the middle of the box")
    neutral = middle.neutral
    linearised = jax.jit(jax.vmap(lambda row: analysed.linearised(*row)))
    batch = population * len(names)
    count = 0

    def reach(points: np.ndarray) -> np.ndarray:
        """Radius or abscissa at points, one per row; infinite where there is none."""
        nonlocal count
        count += len(points)
        results = []
        for start in range(0, len(points), batch):
            part = numbers(points[start : start + batch])
            # Always the same number of rows: one program.
            padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            rows = jax.device_get(linearised(jnp.asarray(padded, dtype)))
            matrices = np.array(rows.linear.jacobian, float)[: len(part)]
            for index, values in enumerate(part):
                try:
                    analysed.check(row_of(rows, index), values, method)
                except EquilibriumError:
                    matrices[index] = np.nan
            results.append(matrices)
        return _outermost(np.concatenate(results), boundary, neutral)

    evolution = scipy.optimize.differential_evolution(
        lambda columns: reach(columns.T),
        [(0.0, 1.0)] * len(names),
        popsize=population,
        maxiter=generations,
        tol=1e-10,
        atol=1e-12,
        rng=np.random.default_rng(seed),
        polish=False,
        updating="deferred",
        vectorized=True,
    )
    place, value = evolution.x, float(evolution.fun)
    if not np.isfinite(value):
        raise ValueError(
            "nowhere in the box is there an equilibrium with a finite Jacobian; look at dynamics.stability at a point "
            "of it"
        )
    size = 0.05
    for _ in range(12):
        place_before, value_before = place, value
        place, value = _simplex(reach, place, value, size)
        moved = np.max(np.abs(place - place_before))
        if value_before - value <= 1e-13 * (1 + abs(value)) and size < 1e-6:
            break
        size = min(size / 8, max(4 * moved, 1e-9))
    chosen = numbers(place[None])[0]
    game, method, players = analysed.at_numbers(chosen)
    report = stability(game, method, players, order="linear")
    check_one_piece(report, ", ".join(f"{name} = {number:.6g}" for name, number in zip(names, chosen, strict=True)))
    notes = [
        _EDGE.format(name=name, value=number)
        for name, number, at in zip(names, chosen, place, strict=True)
        if min(at, 1 - at) < 1e-6
    ]
    if not evolution.success:
        notes.append(_UNSETTLED.format(generations=generations))
    with np.errstate(divide="ignore"):
        rate = float(boundary.rate(value))
    return Best(
        boundary.kind,
        dict(zip(names, chosen.tolist(), strict=True)),
        rate,
        boundary.factor(value),
        report,
        count,
        (*notes, *report.notes),
    )


def _box(
    bounds: Mapping[str, tuple[float, float]], logarithmic: Collection[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not bounds:
        raise ValueError('bounds is empty; expected an interval per parameter, e.g. {"rate": (0.01, 1.0)}')
    if isinstance(logarithmic, str):
        logarithmic = (logarithmic,)
    if unknown := set(logarithmic) - set(bounds):
        raise ValueError(f"logarithmic names {sorted(unknown)[0]!r}; expected names among {', '.join(bounds)}")
    for name, pair in bounds.items():
        if not isinstance(pair, (tuple, list, np.ndarray)) or np.shape(pair) != (2,):
            raise ValueError(f"the interval of {name} is {pair!r}; expected two numbers, e.g. (0.01, 1.0)")
        low, high = (float(end) for end in pair)
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"the interval of {name} is [{low:g}, {high:g}]; expected finite low < high")
        if name in logarithmic and low <= 0:
            raise ValueError(f"the interval of {name} starts at {low:g}; a logarithmic scale needs a positive start")
    low, high = np.array([[float(end) for end in pair] for pair in bounds.values()]).T
    return low, high, np.array([name in logarithmic for name in bounds])


def _outermost(matrices: np.ndarray, boundary: Boundary, neutral: int) -> np.ndarray:
    finite = np.all(np.isfinite(matrices), axis=(1, 2))
    values = np.linalg.eigvals(np.where(finite[:, None, None], matrices, 0)).astype(complex)
    rest = np.take_along_axis(values, boundary.from_neutral(values)[:, neutral:], axis=1)
    return np.where(finite, boundary.bound(rest), np.inf)


def _simplex(
    reach: Callable[[np.ndarray], np.ndarray], place: np.ndarray, value: float, size: float
) -> tuple[np.ndarray, float]:
    """A point no worse, by Nelder and Mead's method from a simplex of this size around the place."""
    corners = np.where(place + size <= 1, place + size, place - size)
    simplex = np.concatenate([place[None], np.where(np.eye(len(place), dtype=bool), corners, place)])
    minimum = scipy.optimize.minimize(
        lambda point: float(reach(point[None])[0]),
        place,
        method="Nelder-Mead",
        bounds=[(0.0, 1.0)] * len(place),
        options={"initial_simplex": np.clip(simplex, 0, 1), "xatol": 1e-13, "fatol": 1e-15, "maxfev": 150 * len(place)},
    )
    return (minimum.x, float(minimum.fun)) if minimum.fun < value else (place, value)


_EDGE = "{name} = {value:.6g} is an end of its interval: a wider one may hold a better value."
_UNSETTLED = "The search had not settled after {generations} generations."
