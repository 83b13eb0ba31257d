"""How eigenvalues move with the hyper-parameters."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dynamics import _trees
from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.bifurcation.path import check_one_piece, counted
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.builds import Analysed, Source
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.rest import rest_state
from dynamics.analysis.stability.verdict import stability
from dynamics.compiler.derivatives import released
from dynamics.updates.base import State, Update


@dataclasses.dataclass(frozen=True)
class Sensitivity(Described, PlainFields):
    r"""Derivatives of the eigenvalues with respect to hyper-parameters.

    Attributes:
        kind: "map" or "flow".
        names: of the parameters, as `build` calls them.
        parameters: their values.
        eigenvalues: the outermost first.
        derivatives: one row per eigenvalue, one column per parameter; NaN where there is none (defective).
        conditions: of the eigenvalues, $1/|y^* x|$: how far a perturbation of norm 1 moves them at most; infinite where
            defective.
        slope: derivative of the radius (maps) or the abscissa (flows) with respect to every parameter, neutral
            directions (manifold of equilibria, memory that is kept) left out; NaN where there is none.
        report: the stability report at the parameters.
        notes: what a reader should know, one sentence each.
    """

    kind: str
    names: tuple[str, ...]
    parameters: tuple[float, ...]
    eigenvalues: np.ndarray
    derivatives: np.ndarray
    conditions: np.ndarray
    slope: np.ndarray
    report: Stability
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The result as text."""
        boundary = self.report.boundary
        lines = [f"{boundary.bound_name} {boundary.bound_of(self.report):.6g}"]
        for name, value, slope in zip(self.names, self.parameters, self.slope, strict=True):
            lines.append(f"{name} = {value:.6g}: slope of the {boundary.bound_name} {slope:.6g}")
        for value, row, condition in zip(self.eigenvalues[:8], self.derivatives, self.conditions, strict=False):
            moves = ", ".join(f"{derivative:.6g}" for derivative in row)
            lines.append(f"eigenvalue {value:.6g} (condition {condition:.3g}) moves by {moves}")
        if len(self.eigenvalues) > 8:
            lines.append(f"... ({len(self.eigenvalues)} eigenvalues in all)")
        return "\n".join([*lines, *self.notes])


def sensitivity(build: Callable[..., tuple], *parameters: float, at: Any = None) -> Sensitivity:
    r"""The derivative of every eigenvalue of the Jacobian with respect to every hyper-parameter.

    $\frac{d\lambda}{dp} = \frac{y^* J_p x}{y^* x}$ with left and right eigenvectors y and x, and $J_p$ the derivative
    of the Jacobian by automatic differentiation, at the point that moves with p: $\frac{dz}{dp} = -(Dv)^{-1} v_p$ for
    the players, likewise for the memory at rest. On a manifold of equilibria the point moves as `equilibria` or `at`
    say, or by the shortest way.
    Source: Horn and Johnson, Matrix Analysis, 2013, theorem 6.3.12.

    Args:
        build: function of so many numbers, returning `(game, method)` or `(game, method, start)`. It is traced: use
            jax.numpy inside. The equilibrium is found as for `critical`.
        parameters: where to differentiate.
        at: the equilibrium at these parameters instead, a tuple of players, or a function of so many numbers that
            returns one.

    Raises:
        EquilibriumError: the point is no equilibrium, none is known, or none is found from the start.
        ValueError: no parameters, the Jacobian is not finite, or the method has a kink or a jump at the point.

    >>> import dynamics as dy
    >>> def build(weight):
    ...     return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.flows.Flow()
    >>> sensitivity(build, 0.5).slope.round(9).tolist()  # abscissa -weight / 2
    [-0.5]
    """
    numbers = np.array([float(number) for number in parameters])
    if not len(numbers) or not np.all(np.isfinite(numbers)):
        raise ValueError(f"the parameters are {tuple(parameters)}; expected at least one finite number")
    vector = jnp.asarray(numbers, jnp.result_type(float))
    analysed = Analysed.of(build, at, [numbers])
    game, method, players = analysed.at_numbers(numbers)
    if analysed.source is Source.search:  # how it moves follows from the field
        analysed = dataclasses.replace(analysed, at=players, source=Source.named)
    report = stability(game, method, players, order="linear")
    check_one_piece(report, "the point")
    jacobian, slopes = jax.device_get(_slopes(analysed, vector, limit=False))
    if not (np.all(np.isfinite(jacobian)) and np.all(np.isfinite(slopes))):
        jacobian, slopes = jax.device_get(_slopes(analysed, vector, limit=True))
    if not (np.all(np.isfinite(jacobian)) and np.all(np.isfinite(slopes))):
        raise ValueError("the Jacobian or its derivative is not finite; look at dynamics.stability at the parameters")
    values, derivatives, conditions = eigenvalue_derivatives(jacobian, slopes)
    order = report.boundary.order(values)
    values, derivatives, conditions = values[order], derivatives[order], conditions[order]
    notes = list(report.notes)
    if lost := int(np.sum(np.isnan(np.real(derivatives)).any(axis=1))):
        notes.append(_NOTES["defective"].format(count=lost))
    slope = _slope_of_outermost(report, values, derivatives, conditions)
    if np.any(np.isnan(slope)):
        notes.append(_NOTES["corner"].format(name=report.boundary.bound_name))
    return Sensitivity(
        report.kind,
        _names(build, len(numbers)),
        tuple(numbers.tolist()),
        values,
        derivatives,
        conditions,
        slope,
        report,
        tuple(notes),
    )


def eigenvalue_derivatives(matrix: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Eigenvalues of a matrix, their derivatives along `slopes[..., k]`, and their condition numbers.

    Eigenvalues that coincide without being defective move by the eigenvalues of $(Y^*X)^{-1}Y^*J_pX$, with bases X and
    Y of the eigenspaces; nearly defective ones get NaN: there is no derivative, they move like a root.
    """
    epsilon = float(np.finfo(matrix.dtype).eps)
    matrix = matrix.astype(float)
    slopes = slopes.astype(float)
    values, left, right = scipy.linalg.eig(matrix, left=True, right=True)
    overlap = np.sum(left.conj() * right, axis=0)
    with np.errstate(divide="ignore"):
        conditions = 1 / np.abs(overlap)
    most = epsilon**-0.5 / 16
    moved = np.einsum("ai,abk,bi->ik", left.conj(), slopes, right)
    derivatives = np.full(moved.shape, complex(np.nan, np.nan))
    clear = conditions < most
    derivatives[clear] = moved[clear] / overlap[clear, None]
    scale = max(float(np.linalg.norm(matrix, 2)), 1e-300)
    equal = np.abs(values[:, None] - values) <= 1e4 * epsilon * scale
    done = np.sum(equal, axis=1) == 1
    for i in range(len(values)):
        if done[i]:
            continue
        group = np.flatnonzero(equal[i])
        done[group] = True
        u, singular, v = np.linalg.svd(matrix - np.mean(values[group]) * np.eye(len(matrix)))
        x, y = v[-len(group) :].conj().T, u[:, -len(group) :]
        inner = y.conj().T @ x
        worst = 1 / max(float(np.linalg.svd(inner, compute_uv=False)[-1]), 1e-300)
        if singular[-len(group)] > 1e5 * epsilon * scale or worst >= most:
            derivatives[group], conditions[group] = complex(np.nan, np.nan), np.inf
            continue
        conditions[group] = worst
        for k in range(slopes.shape[2]):
            split = np.linalg.eigvals(np.linalg.solve(inner, y.conj().T @ slopes[..., k] @ x))
            derivatives[group, k] = np.sort_complex(split)
    return values, derivatives, conditions


@eqx.filter_jit
def _slopes(
    analysed: Analysed, vector: Float[Array, " k"], limit: bool
) -> tuple[Float[Array, "n n"], Float[Array, "n n k"]]:
    """The Jacobian on the whole state and its derivative, the point of rest moving with the parameters.

    With `limit` memory that vanishes (that of squared gradients) does so at all parameters, and the Jacobian is the
    limit from above.
    """

    def parts(numbers: Array) -> tuple:
        game, method, equilibrium = analysed.resolved(*numbers)
        return game, method, equilibrium.players

    game, method, players = parts(vector)
    boundary = boundary_of(method)
    rest = rest_state(game, method, players)
    holds = bool(jax.tree.leaves(rest.autonomous))
    floating, other = eqx.partition(rest.state, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(floating)
    vanishing = jnp.zeros(flat.size, bool)
    if limit:
        # Its square root vanishes beside any eps in use, and has two derivatives.
        vanishing = (flat == 0) & (jnp.arange(flat.size) >= _trees.size(players))
        flat = jnp.where(vanishing, jnp.asarray(float(jnp.finfo(flat.dtype).tiny) ** 0.6, flat.dtype), flat)
    size = _trees.size(players)
    flat_players, unravel_players = ravel_pytree(players)
    rounding = 64 * flat.size * float(jnp.finfo(flat.dtype).eps)

    @released
    def field(z: Array, numbers: Array) -> Array:
        return ravel_pytree(parts(numbers)[0].field(unravel_players(z)))[0]

    @released
    def step(state: Array, numbers: Array) -> Array:
        game, method, at = parts(numbers)
        if holds:  # hyper-parameters that are kept in the memory depend on the numbers
            method = rest_state(game, method, at).of(method)
        whole: State = eqx.combine(unravel(state), other)
        moved = (
            method.step(game, whole)
            if isinstance(method, Update)
            else method.field(game, jnp.zeros((), flat.dtype), whole)
        )
        return ravel_pytree(eqx.filter(moved, eqx.is_inexact_array))[0]

    jacobian = jax.jacfwd(step)(flat, vector)
    # One Newton step with a constant inverse has the derivative of the solution, whatever the first guess has.
    to_players = jnp.linalg.pinv(jax.jacfwd(field)(flat_players, vector), rtol=rounding)
    of_memory = jacobian[size:, size:]
    to_memory = jnp.linalg.pinv(boundary.change(of_memory, jnp), rtol=rounding)

    def at_rest(numbers: Array) -> Array:
        z = ravel_pytree(parts(numbers)[2])[0]
        z = z - to_players @ field(z, numbers)
        if flat.size == size:
            return z
        memory = flat[size:]
        change = boundary.defect(step(jnp.concatenate([z, memory]), numbers)[size:], memory)
        return jnp.concatenate([z, memory - jnp.where(vanishing[size:], 0, to_memory @ change)])

    return jacobian, jax.jacfwd(lambda numbers: jax.jacfwd(step)(at_rest(numbers), numbers))(vector)


def _slope_of_outermost(
    report: Stability, values: np.ndarray, derivatives: np.ndarray, conditions: np.ndarray
) -> np.ndarray:
    rest = counted(report, values)
    if not len(rest):
        return np.zeros(derivatives.shape[1])
    values, derivatives, conditions = values[rest], derivatives[rest], conditions[rest]
    outward = report.boundary.outward(values)
    epsilon = float(np.finfo(report.jacobian.dtype).eps)
    rounding = 1e4 * epsilon * max(float(np.linalg.norm(report.jacobian)), 1e-300)
    # A defective eigenvalue is known to the root of the precision only.
    rounding = np.where(np.isnan(derivatives[:, 0]), np.sqrt(epsilon * rounding), rounding) + rounding
    leading = np.flatnonzero(outward >= outward.max() - rounding)
    if report.boundary.discrete:
        if outward.max() <= rounding.max():
            return np.full(derivatives.shape[1], np.nan)
        slopes = np.real(values[leading, None].conj() * derivatives[leading]) / np.abs(values[leading, None])
    else:
        slopes = np.real(derivatives[leading])
    apart = np.ptp(slopes, axis=0) > 1e-6 * (1 + np.max(np.abs(slopes), axis=0))
    return np.where(apart, np.nan, np.mean(slopes, axis=0))


def _names(build: Callable[..., tuple], count: int) -> tuple[str, ...]:
    try:
        names = [
            name
            for name, parameter in inspect.signature(build).parameters.items()
            if parameter.kind is not parameter.VAR_POSITIONAL
        ]
    except (TypeError, ValueError):
        names = []
    return tuple(names[:count]) if len(names) >= count else tuple(f"parameter {i}" for i in range(count))


_NOTES = {
    "defective": "{count} eigenvalues are defective or nearly so: they move like a root of the parameters and have no "
    "derivative.",
    "corner": "The {name} has no derivative here: outermost eigenvalues meet, or move apart.",
}
