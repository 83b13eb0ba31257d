"""What is seen ever closer to a point: its smoothness, the pieces that meet there, and their verdict."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from dynamics._compiling import filter_jit_quickly
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE, Boundary, boundary_of
from dynamics.analysis.stability.certificates import SMALLEST, rounding_bound
from dynamics.analysis.stability.linearisation import (
    Linearisation,
    closer_smoothness,
    is_finite,
    one_sided_jacobians,
    player_coordinates,
    probe_closely,
    smoothness,
    switch_directions,
)
from dynamics.analysis.stability.notes import Note, Verdict
from dynamics.analysis.stability.piecewise import (
    Pieces,
    distinct,
    expanding_directions,
    joint_bounds,
    sample_directions,
)
from dynamics.analysis.stability.problem import JudgedPoint
from dynamics.analysis.stability.report import Judgement

DIRECTIONS = 12  # eigenvectors along which the map is probed
PROBED = 128  # directions of a closer look


def closer_look(problem: JudgedPoint, linear: Linearisation, smooth: str, *, limit: bool) -> tuple[np.ndarray, str]:
    """Directions that lead into the pieces next to the point, and smoothness from probes along them, ever closer.

    Along eigenvectors, along the way that the field takes, and to both sides of every switch at the point.
    """
    jacobian, size = np.asarray(linear.jacobian, float), len(linear.jacobian)
    if not is_finite(jacobian):
        return np.zeros((0, size)), smooth
    random = np.random.default_rng(3).standard_normal((4, size))
    vectors = np.linalg.eig(jacobian)[1].T[:DIRECTIONS]
    followed = random
    with np.errstate(all="ignore"):
        for _ in range(16):
            followed = followed @ jacobian.T
            followed = followed / np.maximum(np.linalg.norm(followed, axis=1, keepdims=True), SMALLEST)
    directions = [np.real(vectors), np.imag(vectors), followed]
    where = problem.game, problem.method, problem.players
    options: dict[str, Any] = dict(gradient_noise=problem.noise, limit=limit, rest=problem.at_rest_state())
    if linear.switching > 0:
        sides = _switch_directions(*where, problem.key, **options)
        directions.insert(0, np.asarray(sides))
    along = np.concatenate(directions)
    lengths = np.linalg.norm(along, axis=1)
    along = along[(lengths > 0) & np.isfinite(lengths)]
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    filled = np.zeros((PROBED, size), linear.jacobian.dtype)  # one shape, one program
    filled[: len(along)] = along[: len(filled)]
    closely = jax.device_get(_probe_closely(*where, linear.jacobian, filled, problem.key, **options))
    if smooth == "smooth":  # at two distances along more directions
        smooth = str(smoothness(*(leaf[:2] / closely.rounding[1] for leaf in closely[:2]), True))
        if smooth == "smooth":
            return along, smooth
    return along, closer_smoothness(closely, smooth, bool(linear.switching > 0))


_probe_closely = filter_jit_quickly(probe_closely)
_switch_directions = filter_jit_quickly(switch_directions)


def pieces_at(problem: JudgedPoint, linear: Linearisation, along: np.ndarray) -> Pieces | None:
    """The Jacobians of all pieces of a piecewise smooth map or flow; `None` where none is seen.

    `along` are directions that lead into pieces, looked along besides those of `sample_directions`.
    """
    rest = problem.at_rest_state()
    state, boundary = jax.device_get(rest.state), boundary_of(problem.method)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))])
    still = ~player_coordinates(state) & (flat == 0)
    nearby = sample_directions(len(flat), still, np.asarray(linear.jacobian).dtype)
    both = np.where(still, 0, np.stack([along, -along], axis=1).reshape(-1, len(flat))).astype(nearby.dtype)
    rays = np.concatenate([nearby, both, nearby[: -len(both) % len(nearby)]])  # the shape compiled before, each time

    def jacobians_along(rays: np.ndarray) -> np.ndarray:
        where = problem.game, problem.method, problem.players, problem.key
        return np.asarray(one_sided_jacobians(*where, rays, problem.noise, rest))

    parts = [distinct(jacobians_along(part), boundary) for part in np.split(rays, len(rays) // len(nearby))]
    jacobians = distinct(np.concatenate([part for part in parts if len(part)] or parts), boundary)
    if len(jacobians) == 0:
        return None
    expanding = expanding_directions(jacobians, boundary)
    passed = [ray for rays in expanding for ray in rays][: len(nearby)]
    invariant = False
    if passed:
        rays = np.resize([ray for _, ray in passed], nearby.shape).astype(nearby.dtype)  # the shape compiled before
        ahead = jacobians_along(rays)[: len(passed)]
        stays = [
            len(distinct(np.stack([jacobians[number], piece]), boundary)) == 1
            for (number, _), piece in zip(passed, ahead, strict=True)
        ]
        ends = np.cumsum([0, *map(len, expanding)])
        invariant = any(all(stays[a:b]) for a, b in zip(ends, ends[1:], strict=False) if b <= len(stays))
    return Pieces(jacobians, *joint_bounds(jacobians, boundary), invariant)


def judge_pieces(pieces: Pieces, boundary: Boundary, judged: Judgement) -> Judgement:
    """The verdict of a piecewise smooth map or flow; `judged` is what the eigenvalues of one piece say."""
    jacobians, lower, upper = pieces.jacobians, pieces.lower, pieces.upper
    error = float(max(rounding_bound(jacobian) for jacobian in jacobians))
    if pieces.invariant:
        verdict, worst = Verdict.unstable, lower
    else:
        verdict, worst = (Verdict.stable if upper + error < boundary.neutral else Verdict.marginal), upper
    seen = Note.pieces.filled(count=len(jacobians), lower=lower, upper=upper, verdict=_PIECES[verdict])
    # The eigenvalues shown are those of the piece that contracts least.
    spectra = [np.linalg.eigvals(jacobian.astype(float)).astype(complex) for jacobian in jacobians]
    values = spectra[int(np.argmax([boundary.bound(values) for values in spectra]))]
    values = values[boundary.order(values)]
    bounds: dict[str, Any] = {other.bound_name: float(other.bound(values)) for other in (UNIT_CIRCLE, IMAGINARY_AXIS)}
    return Judgement(
        eigenvalues=values,
        **(bounds | {boundary.bound_name: worst}),
        rate=float(boundary.rate(max(worst, 1e-300) if boundary.discrete else worst)),
        rotation=float(boundary.rotation(values[0])),
        verdict=verdict,
        margin=boundary.neutral - worst,
        error=error if verdict is not Verdict.marginal else float("inf"),
        smoothness=judged.smoothness,
        pieces=pieces,
        notes=(*(note for note in judged.notes if note.note is not Note.kinked), seen),
        proved=verdict is not Verdict.marginal,
    )


_PIECES = {
    Verdict.stable: "all of them contract in one common norm, and the point is stable",
    Verdict.unstable: "one of them expands along a direction within itself, and the point is unstable",
    Verdict.marginal: "they do not all contract in one norm that was found, and none expands along a direction of "
    "its own: the pieces do not decide",
}
