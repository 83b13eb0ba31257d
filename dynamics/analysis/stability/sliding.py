"""Fields and maps that jump at a point: the sides of the switches there, and the motion along their surfaces."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics._plain import plain
from dynamics._printing import Described
from dynamics.analysis.equilibria.newton import manifold_dimensions
from dynamics.compiler.jaxprs import jaxpr_as_fun
from dynamics.compiler.many_digits import NotEvaluated, Specialised, exact
from dynamics.compiler.switches import NoSide, on_sides, short_gaps, short_on_sides, shortened
from dynamics.surfaces import (
    JUMP,
    MOST_SURFACES,
    NoSurfaces,
    are_independent,
    gathered,
    is_sum,
    jump_across,
    sides_of,
    tangent_mean,
    way_back,
)

AT = 1e-12  # distance from a switch, relative to 1 + |x|, up to which a point is on it
SAME = 1e-9  # up to which two normals, or two vectors, are equal
BESIDE = 1e-7  # distance at which switches are looked at around the point, relative to 1 + |x|
AWAY = 0.03  # distance at which surfaces that touch are told from one and the same, relative to 1 + |x|
NEAR, NEARER = 1e-28, 1e-30  # distances at which values are taken along rays, in many digits
RAYS, TURNS = 6, 60  # starts, and iterations of each, of a search for a ray that leads away
NEWTON_STEPS = 30


class NotSliding(ValueError):
    """Why nothing can be said of a jump; the message is for a reader of a report."""


@dataclasses.dataclass(frozen=True)
class Sliding(Described):
    r"""The motion about a point at which a field or map jumps, in the sense of Filippov.

    Next to the point the state space is cut by the surfaces of the switches that are there, $g_k(x)=0$, and on each
    combination s of their sides the velocity is a smooth field $v_s$ (of a map: the displacement of one step). A
    solution of $\dot x=v$ takes at a surface any mean of the velocities around it. Where all $v_s$ lead towards the
    surfaces it stays on them, with the mean of the $v_s$ that is tangent to them all: it slides.

    Of a map nothing stays on a surface: it jumps about it, in a band.
    Source: Filippov, Differential Equations with Discontinuous Righthand Sides, 1988, sections 4 and 19; for several
    surfaces Utkin, Sliding Modes in Control and Optimization, 1992 (equivalent control); di Bernardo, Budd, Champneys,
    Kowalczyk, Piecewise-Smooth Dynamical Systems, 2008.

    Attributes:
        kind: "map" or "flow".
        motion: "sliding" (all sides lead towards the surfaces), "escaping" (a side leads away from its surface),
            "crossing" (one side leads to the surface, the other one away from it, and orbits go through), or "jump"
            (anything else; `reason` says what).
        normals: unit normals of the surfaces, shape (m, n), on players and floating memory.
        sides: of the surfaces, a row of signs for each combination, shape (k, m).
        velocities: on each, at the point, shape (k, n).
        velocity: of the sliding motion at the point, shape (n,); NaN where there is none. Where all sides lead away it
            is that of the solutions that stay on the surfaces for a while.
        pseudo_equilibrium: whether that vanishes: the point is an equilibrium in Filippov's sense.
        jacobian: of the sliding field, along `tangents`, shape (n - m, n - m).
        tangents: an orthonormal basis of the directions within all surfaces, shape (n - m, n).
        band: for a map that slides, bounds on the width of the band about each surface, along its normal, to first
            order in the step, shape (m,); else empty.
        manifold_dimension: of the manifold of pseudo-equilibria through the point; 0 for an isolated one.
        reason: what is not known, in words; empty where nothing is missing.
    """

    kind: str
    motion: str
    normals: np.ndarray
    sides: np.ndarray
    velocities: np.ndarray
    velocity: np.ndarray
    pseudo_equilibrium: bool
    jacobian: np.ndarray
    tangents: np.ndarray
    band: np.ndarray
    manifold_dimension: int = 0
    reason: str = ""

    @property
    def normal_speeds(self) -> np.ndarray:
        """Speeds away from each surface on each combination of sides, shape (k, m): negative towards it."""
        return self.sides * (self.velocities @ self.normals.T)

    def describe(self) -> str:
        """The report as text."""
        per = "step" if self.kind == "map" else "unit of time"
        where = f"{len(self.normals)} surface(s) of switches" if len(self.normals) else "a point"
        lines = [f"{self.motion} of a {self.kind} at {where}"]
        for side, speeds in zip(self.sides, self.normal_speeds, strict=True):
            signs = "".join("+" if sign > 0 else "-" for sign in side)
            shown = ", ".join(f"{abs(speed):.6g} {'away' if speed > 0 else 'towards'}" for speed in speeds)
            lines.append(f"side {signs}: {shown} per {per}")
        if self.motion == "sliding" and np.all(np.isfinite(self.velocity)):
            what = "a pseudo-equilibrium" if self.pseudo_equilibrium else "not at rest"
            lines.append(f"sliding velocity {_numbers(self.velocity)}: {what}")
            if len(self.jacobian):
                lines.append(f"eigenvalues of the sliding field {_numbers(np.linalg.eigvals(self.jacobian))}")
        if len(self.band):
            lines.append(f"band about the surfaces, at most, to first order in the step: {_numbers(self.band)}")
        return "\n".join([*lines, *([self.reason] if self.reason else [])])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON; what is not finite is `None`."""
        return plain({**dataclasses.asdict(self), "normal_speeds": self.normal_speeds})


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


@dataclasses.dataclass(frozen=True)
class Jump:
    """A jump, and the smooth field of the motion along its surfaces where there is one.

    Attributes:
        report: what is known of it.
        field: on vectors, smooth: on the surfaces the sliding field, and towards them beside; `None` without sliding.
        jacobian: of that at the point, shape (n, n).
        largest: the largest velocity at the point.
        velocities: next to the point, on all sides or along some rays, shape (k, n).
    """

    report: Sliding
    field: Callable[[Array], Array] | None
    jacobian: np.ndarray | None
    largest: float
    velocities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """The surfaces at a point: which switches are on each, on which of its sides each has a positive gap."""

    groups: tuple[tuple[int, ...], ...]
    orientations: tuple[np.ndarray, ...]
    normals: np.ndarray
    guards: np.ndarray  # of all switches: the sign of those that have one and the same around the point, else 0

    def signs(self, side: np.ndarray) -> np.ndarray:
        """The sign of every switch on one combination of sides; 0 of those that are not at the point."""
        signs = self.guards.copy()
        for group, orientation, sign in zip(self.groups, self.orientations, side, strict=True):
            signs[list(group)] = sign * orientation
        return signs


def jump_at(function: Callable[[Array], Array], position: Float[Array, " n"], discrete: bool) -> Jump:
    """What a field or map does at a point where it jumps.

    Args:
        function: the map or field on vectors.
        position: the point, in float64.
        discrete: whether it is a map.

    Raises:
        NotSliding: nothing is known of the jump, with the reason.
    """

    def of_function(vector: Array) -> Array:
        return function(vector) - vector if discrete else function(vector)

    velocity = shortened(of_function, position)  # what follows evaluates and differentiates it many times
    try:
        surfaces = surfaces_at(velocity, position)
        return _on_surfaces(velocity, position, surfaces, discrete)
    except (NoSide, NotSliding) as reason:
        return _along_rays(velocity, position, discrete, str(reason))


class _Traced:
    """A function of a vector, traced once. Evaluated in many digits, which compiles nothing; by JAX if it must be."""

    def __init__(self, function: Callable[[Array], Any], position: Array):
        self.program = jax.make_jaxpr(function)(position)
        self.many_digits: Specialised | None = None
        self.compiled: Callable[..., Any] | None = None

    def __call__(self, point: Any) -> np.ndarray:
        """The first output, as floats; the point in floats, or in many digits (`object`)."""
        return self.all(point)[0]

    def all(self, point: Any) -> list[np.ndarray]:
        """Likewise, all outputs."""
        point = np.asarray(point)
        if self.compiled is None:
            given = point if point.dtype.hasobject else exact(point)
            try:
                if self.many_digits is None:
                    self.many_digits = Specialised(self.program, [], zeros=False)
                return [np.array(output, float) for output in self.many_digits([given])]
            except ZeroDivisionError:
                return [np.full(aval.shape, np.nan) for aval in self.program.out_avals]
            except NotEvaluated:
                self.compiled = jax.jit(jaxpr_as_fun(self.program))
        assert self.compiled is not None
        return [np.asarray(output, float) for output in self.compiled(jnp.asarray(np.asarray(point, float)))]


def _with_slope(function: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, Array]]:
    """A function that returns the derivative of another one, and its value: in one program they share most."""

    def twice(vector: Array) -> tuple[Array, Array]:
        value = function(vector)
        return value, value

    return jax.jacfwd(twice, has_aux=True)


def surfaces_at(velocity: Callable[[Array], Array], position: Array) -> Surfaces:
    """The surfaces of the switches at a point.

    Raises:
        NotSliding: there are none, too many, or they are not smooth and independent.
    """
    gaps = short_gaps(velocity, position)
    distances = _Traced(gaps, position)
    here = distances(position)
    if not here.size:
        raise NotSliding("the program has no switches")
    slope_of = _Traced(jax.jacfwd(gaps), position)
    slopes = slope_of(position)
    lengths = np.linalg.norm(slopes, axis=1)
    size = 1 + float(np.linalg.norm(position))
    with np.errstate(all="ignore"):
        at = np.isfinite(here) & (np.abs(here) <= AT * size * np.maximum(np.nan_to_num(lengths), SAME))
    if not np.any(at):
        raise NotSliding("no switch of the program is at the point")
    try:
        return _surfaces_of(at, distances, slope_of, here, slopes, position)
    except NotSliding:
        # A switch that is nothing to the velocity (of a term of weight 0, say) need not be on a smooth surface.
        left = at & ~_without_effect(velocity, position, at)
        if np.array_equal(left, at) or not np.any(left):
            raise
    return _surfaces_of(left, distances, slope_of, here, slopes, position)


def _without_effect(velocity: Callable[[Array], Array], position: Array, at: np.ndarray) -> np.ndarray:
    """Which of some switches leave the velocity as it is, exactly, whichever way they are held, all else as it is."""
    numbers = np.flatnonzero(at)
    rows = np.zeros((2, len(numbers), len(at)), np.int8)
    rows[0, np.arange(len(numbers)), numbers], rows[1, np.arange(len(numbers)), numbers] = 1, -1
    middle = np.asarray(position, float)
    around = np.random.default_rng(4).standard_normal((16, len(position))) * (1 + np.abs(middle))
    points = middle + np.concatenate([distance * around for distance in (1.0, 1e-2, 1e-5, BESIDE)])

    def values(signs: Array, point: Array) -> Array:
        return on_sides(velocity, signs)(point)[0]

    try:
        held = jax.jit(jax.vmap(jax.vmap(jax.vmap(values, (None, 0)), (0, None)), (0, None)))(rows, jnp.asarray(points))
    except NoSide:
        return np.zeros(len(at), bool)
    same = np.all(np.asarray(held[0] == held[1]), axis=(1, 2))
    without = np.zeros(len(at), bool)
    without[numbers[same]] = True
    return without


def _surfaces_of(
    at: np.ndarray, distances: Any, slope_of: Any, here: np.ndarray, slopes: np.ndarray, position: Array
) -> Surfaces:
    """The surfaces of the switches that are at a point."""
    at, lengths, size = at.copy(), np.linalg.norm(slopes, axis=1), 1 + float(np.linalg.norm(position))
    drawn = np.random.default_rng(4).standard_normal((8, len(position)))
    shifts = BESIDE * size * np.concatenate([drawn, -drawn])
    around = np.stack([distances(np.asarray(position) + shift) for shift in shifts])
    guards = np.zeros(here.size, np.int8)
    for number in np.flatnonzero(at):
        signs = np.sign(around[:, number])
        if signs[0] and np.all(signs == signs[0]):  # of a norm that is compared with 0, say: no surface
            guards[number], at[number] = signs[0], False
            continue
        expected = here[number] + shifts @ slopes[number]
        with np.errstate(all="ignore"):
            straight = np.abs(around[:, number] - expected) <= 1e-3 * BESIDE * size * lengths[number]
        if not (lengths[number] > SAME and np.all(straight)):
            raise NotSliding("the switches at the point are not on smooth surfaces")
    if not np.any(at):
        raise NotSliding("the switches at the point are not on surfaces, but at the point alone")
    with np.errstate(all="ignore"):
        units = slopes / lengths[:, None]
    try:
        groups = gathered(np.flatnonzero(at).tolist(), units, SAME)
    except NoSurfaces as reason:
        raise NotSliding(str(reason)) from None
    normals = np.stack([units[group[0]] for group in groups])
    if not are_independent(normals):
        raise NotSliding("the surfaces of switches that meet at the point are not independent")
    _check_same(distances, slope_of, position, groups, lengths)
    orientations = tuple(np.sign(slopes[group] @ normals[place]).astype(np.int8) for place, group in enumerate(groups))
    return Surfaces(tuple(map(tuple, groups)), orientations, normals, guards)


def _check_same(distances, slope_of, position, groups, lengths) -> None:
    """Raise where switches with one normal do not switch on one surface, but on several that touch."""
    size = 1 + float(np.linalg.norm(position))
    for group in (group for group in groups if len(group) > 1):
        first, others = group[0], group[1:]
        for direction in np.random.default_rng(4).standard_normal((3, len(position))):
            point = np.asarray(position, float) + AWAY * size * direction / np.linalg.norm(direction)
            for _ in range(NEWTON_STEPS):
                gap = float(distances(point)[first])
                slope = slope_of(point)[first]
                point = point - gap * slope / max(float(slope @ slope), 1e-300)
                if abs(gap) <= AT * size * lengths[first]:
                    break
            apart = np.abs(distances(point)[others]) / lengths[others]
            if not np.all(apart <= 1e3 * AT * size):
                raise NotSliding("surfaces of switches touch at the point")


def _on_surfaces(velocity: Callable[[Array], Array], position: Array, surfaces: Surfaces, discrete: bool) -> Jump:
    count, size = len(surfaces.groups), len(position)
    sides = sides_of(count)
    pieces = {tuple(side): _Piece(*short_on_sides(velocity, surfaces.signs(side), position)) for side in sides.tolist()}
    both = [_Traced(_with_slope(piece.velocity), position).all(position) for piece in pieces.values()]
    derivatives, values = (np.stack(each) for each in zip(*both, strict=True))
    if not np.all(np.isfinite(values)):
        raise NotSliding("the velocity is not finite on a side of the switches at the point")
    largest = float(np.max(np.linalg.norm(values, axis=1)))
    away = sides * (values @ surfaces.normals.T)
    slopes = max(map(float, np.linalg.norm(derivatives, axis=(1, 2))))
    if not largest > 1e-10 * slopes * (1 + float(np.linalg.norm(position))):
        raise NotSliding("the jump is no larger than rounding may make it")
    enough = JUMP * largest
    jumping = [k for k in range(count) if jump_across(values, sides, k) > enough]
    empty = np.zeros((0, 0))
    report = Sliding(
        kind="map" if discrete else "flow",
        motion="jump",
        normals=surfaces.normals,
        sides=sides,
        velocities=values,
        velocity=np.full(size, np.nan),
        pseudo_equilibrium=False,
        jacobian=empty,
        tangents=np.zeros((0, size)),
        band=np.zeros(0),
    )
    if not jumping:
        raise NotSliding("on all sides of the switches at the point the velocity is the same")
    if np.all(away[:, jumping] > enough):  # Filippov's solutions may stay on the surfaces, and may leave at any time
        report = dataclasses.replace(report, motion="escaping")
        return _sliding(pieces, position, surfaces, jumping, report, largest, derivatives)
    for k, sign in itertools.product(jumping, (1, -1)):
        if np.all(away[sides[:, k] == sign, k] > enough):
            other = away[sides[:, k] == -sign, k]
            motion = "crossing" if np.all(other < -enough) else "escaping"
            return Jump(dataclasses.replace(report, motion=motion), None, None, largest, values)
    if not np.all(away[:, jumping] < -enough):
        why = "on some sides of the surfaces the velocity leads neither to them nor away from them"
        return Jump(dataclasses.replace(report, reason=why), None, None, largest, values)
    band = np.array([np.max(-away[sides[:, k] == 1, k]) + np.max(-away[sides[:, k] == -1, k]) for k in jumping])
    report = dataclasses.replace(report, motion="sliding", band=band if discrete else np.zeros(0))
    return _sliding(pieces, position, surfaces, jumping, report, largest, derivatives)


@dataclasses.dataclass(frozen=True)
class _Piece:
    """The smooth piece of a field on one combination of sides, and the gaps of its switches: two short programs."""

    velocity: Callable[[Array], Array]
    gaps: Callable[[Array], Array]


def _sliding(
    pieces: dict[tuple[int, ...], _Piece],
    position,
    surfaces: Surfaces,
    jumping: list[int],
    report: Sliding,
    largest: float,
    derivatives: np.ndarray,
) -> Jump:
    """The sliding field, where it is one: the mean of the velocities that is tangent to all surfaces."""
    size = len(position)
    still = [k for k in range(len(surfaces.groups)) if k not in jumping]
    tangents = np.linalg.svd(surfaces.normals[jumping])[2][len(jumping) :]
    report = dataclasses.replace(report, tangents=tangents)
    if not len(tangents):  # no way to slide: the point is reached, and not left
        where = dict(velocity=np.zeros(size), pseudo_equilibrium=True)
        return Jump(dataclasses.replace(report, **where), None, None, largest, report.velocities)
    fields, traced = [], []
    for rest in itertools.product((1, -1), repeat=len(still)):
        fields.append(_sliding_field(pieces, surfaces, jumping, dict(zip(still, rest, strict=True)), position))
        traced.append(_Traced(_with_slope(fields[-1]), position))
    jacobians, starts = zip(*(each.all(position) for each in traced), strict=True)
    upper, every = np.ones(len(surfaces.groups), int), np.arange(len(surfaces.groups))
    both = (report.velocities, derivatives) if len(jumping) > 1 else ()
    if not all(
        is_sum(each, report.sides, upper, every, SAME * max(largest, float(np.max(np.abs(each))))) for each in both
    ):
        why = "several surfaces meet, and the velocities do not say which mean of them a solution takes"
        return Jump(dataclasses.replace(report, reason=why), None, None, largest, report.velocities)
    jacobian, start, field = jacobians[0], starts[0], fields[0]
    if not np.all(np.isfinite(jacobian)) or not np.all(np.isfinite(start)):
        why = "the sliding field is not finite"
        return Jump(dataclasses.replace(report, reason=why), None, None, largest, report.velocities)
    scale = max(float(np.linalg.norm(jacobian)), 1e-300)
    # As of an equilibrium: what a move of the point by rounding makes up for.
    at_rest = float(np.linalg.norm(start)) <= 1e3 * AT * (scale * (1 + float(np.linalg.norm(position))) + largest)
    reason = ""
    if any(np.max(np.abs(other - jacobian)) > 1e-9 * scale for other in jacobians[1:]):
        reason, field = "the sliding field has a kink at the point", None
    report = dataclasses.replace(
        report,
        velocity=start,
        pseudo_equilibrium=at_rest,
        jacobian=tangents @ jacobian @ tangents.T,
        reason=reason,
        manifold_dimension=_dimension(traced[0], position, jacobian) if at_rest and not reason else 0,
    )
    return Jump(report, field, jacobian, largest, report.velocities)


def _sliding_field(
    pieces: dict[tuple[int, ...], _Piece],
    surfaces: Surfaces,
    jumping: list[int],
    rest: dict[int, int],
    position: Array,
) -> Callable[[Array], Array]:
    r"""$v_0+B\mu$ with $N(v_0+B\mu)=0$, N the slopes of the gaps, and besides towards the surfaces, at rate 1.

    $v_0$ is the mean of the velocities on all sides, and column k of B half of the jump across surface k.
    """
    sides = sides_of(len(jumping))
    chosen = []
    for side in sides:
        whole = np.zeros(len(surfaces.groups), int)
        whole[jumping] = side
        whole[list(rest)] = list(rest.values())
        chosen.append(pieces[tuple(whole.tolist())])
    numbers = np.array([surfaces.groups[k][0] for k in jumping])

    def field(vector: Array) -> Array:
        values = jnp.stack([piece.velocity(vector) for piece in chosen])
        slopes, gap = _with_slope(lambda vector: chosen[0].gaps(vector)[numbers])(vector)
        halves = sides.T @ values / len(values)
        sliding, _ = tangent_mean(jnp.mean(values, axis=0), -halves, slopes, 0, _eliminated)
        return sliding - way_back(slopes, gap, _eliminated)

    return shortened(field, position)


def _eliminated(matrix: Array, right: Array) -> Array:
    """The solution of a few equations by elimination, written out: a program that many digits can evaluate."""
    count = len(right)
    rows, rest = list(matrix), list(right)
    for k in range(count):
        for i in range(k + 1, count):
            factor = rows[i][k] / rows[k][k]
            rows[i], rest[i] = rows[i] - factor * rows[k], rest[i] - factor * rest[k]
    solution: list[Array] = rest[:1] * count
    for k in reversed(range(count)):
        known = sum(rows[k][j] * solution[j] for j in range(k + 1, count))
        solution[k] = (rest[k] - known) / rows[k][k]
    return jnp.stack(solution)


def _dimension(both: _Traced, position: Array, jacobian: np.ndarray) -> int:
    """Dimension of the manifold of zeros of a smooth field through one of them; both are its derivative and value."""
    start = np.asarray(position, float)
    lengths = (1 + np.linalg.norm(start)) * np.array([float(np.finfo(float).eps) ** 0.125, 0.025, 0.05, 0.1])

    def reached(direction: np.ndarray, length: float) -> tuple[np.ndarray, float]:
        point, _ = _newton(both, start + length * direction)
        if point is None:
            return np.zeros_like(start), math.inf
        return (point - start) / length, float(np.linalg.norm(both.all(point)[1])) / length

    def reach_along(_: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = [[reached(direction, length) for length in lengths] for direction in directions[0]]
        return (
            np.array([row[-1][0] for row in ends])[None],
            np.array([[residual for _, residual in row] for row in ends])[None],
        )

    return int(manifold_dimensions(jacobian[None], reach_along)[0])


def pseudo_equilibrium_near(function: Callable[[Array], Array], start: np.ndarray) -> np.ndarray | None:
    """Where the sliding field of the nearest surface at which a field jumps vanishes; `None` where that is not found.

    Args:
        function: the field on vectors.
        start: where the search begins.
    """
    position = jnp.asarray(start)
    gaps = short_gaps(function, position)
    distances = _Traced(gaps, position)
    if not distances(start).size:
        return None
    slopes = _Traced(jax.jacfwd(gaps), position)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(slopes(start), axis=1)
        order = np.argsort(np.where(lengths > SAME, np.abs(distances(start)) / lengths, np.inf))
    for number in order[:MOST_SURFACES]:
        point = np.array(start)
        for _ in range(NEWTON_STEPS):
            gap, slope = distances(point)[number], slopes(point)[number]
            if not np.isfinite(gap) or not slope @ slope > 0:
                break
            point = point - gap * slope / (slope @ slope)
        try:
            jump = jump_at(function, jnp.asarray(point), False)
        except NotSliding:
            continue
        if jump.field is None:
            continue
        end = _zero_of(jump.field, point)
        if end is not None:
            return end
    return None


def _zero_of(field: Callable[[Array], Array], start: np.ndarray) -> np.ndarray | None:
    point, settled = _newton(_Traced(_with_slope(field), jnp.asarray(start)), start)
    return point if settled else None


def _newton(both: _Traced, point: np.ndarray) -> tuple[np.ndarray | None, bool]:
    """Where Newton's method ends, `None` where the field is not finite on the way, and whether it has settled.

    Args:
        both: the derivative and the value of the field.
        point: where it begins.
    """
    for _ in range(NEWTON_STEPS):
        slope, here = both.all(point)
        if not np.all(np.isfinite(here)):
            return None, False
        moved = np.linalg.lstsq(slope, here, rcond=1e-9)[0]
        point = point - moved
        if np.linalg.norm(moved) <= 1e-14 * (1 + np.linalg.norm(point)):
            return point, True
    return point, False


def _along_rays(velocity, position: Array, discrete: bool, why: str) -> Jump:
    """Of a jump without surfaces: whether there is one, and for a flow whether a ray leads away from the point."""
    traced, start, size = _Traced(velocity, position), exact(position), len(position)

    def at(direction: np.ndarray, distance: float = NEARER) -> np.ndarray:
        value = traced(start + distance * exact(direction))
        if traced.compiled is not None:
            raise NotSliding(f"{why}, and next to the point it cannot be evaluated in many digits")
        return value

    directions = np.random.default_rng(6).standard_normal((RAYS, size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    values = np.stack([at(direction) for direction in directions])
    farther = np.stack([at(direction, NEAR) for direction in directions])
    here = traced(start)
    largest = float(np.max(np.linalg.norm(values, axis=1)))
    nothing = np.zeros((0, size))
    report = Sliding(
        kind="map" if discrete else "flow",
        motion="jump",
        normals=nothing,
        sides=nothing[:, :0],
        velocities=nothing,
        velocity=np.full(size, np.nan),
        pseudo_equilibrium=False,
        jacobian=np.zeros((0, 0)),
        tangents=nothing,
        band=np.zeros(0),
        reason=why,
    )
    if not largest > 1e-9 or np.max(np.abs(values - farther)) > SAME * largest or np.linalg.norm(here) > SAME * largest:
        raise NotSliding(why)
    if discrete:
        return Jump(report, None, None, largest, values)
    for direction in directions:
        for _ in range(TURNS):
            value = at(direction)
            length = float(np.linalg.norm(value))
            if length <= JUMP * largest:
                break
            before, direction = direction, value / length
            if np.linalg.norm(direction - before) <= SAME:
                beside = [at(direction + 1e-5 * other) for other in directions]
                if all(np.linalg.norm(other - value) <= 1e-2 * length for other in beside):
                    return Jump(dataclasses.replace(report, motion="escaping", reason=""), None, None, largest, values)
                break
    raise NotSliding(why)
