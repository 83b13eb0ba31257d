"""Parameter values at which stability changes."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array

from dynamics import _trees
from dynamics._compiling import sharing
from dynamics._functions import comparable
from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.equilibria.newton import EquilibriumError, manifold_dimension, players_text
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.builds import Analysed, Linearised, linearised_at, row_of
from dynamics.analysis.stability.eigenvalues import eigenvalues_with_errors
from dynamics.analysis.stability.linearisation import linearise
from dynamics.analysis.stability.periods import Period, find_period
from dynamics.game import Players


class Bifurcation(enum.StrEnum):
    """How an eigenvalue crosses the boundary."""

    fold = "fold"  # at 1 (map) or 0 (flow)
    flip = "flip"  # at -1
    neimark_sacker = "Neimark-Sacker"  # a complex pair through the unit circle
    hopf = "Hopf"  # a complex pair through the imaginary axis


@dataclasses.dataclass(frozen=True)
class Critical(Described):
    """A parameter value at which stability changes.

    Attributes:
        value: the parameter.
        kind: fold, flip, Neimark-Sacker or Hopf. The names say how an eigenvalue crosses; whether a branch or a cycle
            is born there depends on the nonlinear terms.
        eigenvalue: the crossing one, with imaginary part >= 0.
        below, above: "stable", "unstable" or "marginal" just below and just above the value (inside the interval).
        others: further values in the interval, in increasing order.
        players: the equilibrium at the value.
    """

    value: float
    kind: Bifurcation
    eigenvalue: complex
    below: str
    above: str
    others: tuple[Critical, ...] = ()
    players: Players = ()

    def describe(self) -> str:
        """The result as text, a line for each value in the interval."""
        changes = (self, *self.others)
        return "\n".join(
            f"{change.below} below {change.value:.8g}, {change.above} above: {change.kind}, "
            f"eigenvalue {complex_text(change.eigenvalue, 6)}"
            for change in changes
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; complex numbers are pairs."""
        return plain_fields(self, players=[np.asarray(leaf) for leaf in jax.tree.leaves(self.players)])


def critical(
    build: Callable[[Array], tuple],
    low: float,
    high: float,
    *,
    at: Any = None,
    samples: int = 129,
    tolerance: float = 1e-12,
) -> Critical:
    """The parameter at which the radius crosses 1 (maps) or the abscissa crosses 0 (flows), and how.

    The interval is sampled, every change of stability between neighbouring samples is bracketed and bisected. A stretch
    on which the method is marginal (a centre, say) ends at a critical value too; an end of the interval is one when the
    method is marginal only there.

    Args:
        build: function of one number, returning `(game, update or flow)` or `(game, update or flow, start)`. It is
            traced: use jax.numpy inside. The equilibrium is the known one of the game, with a start the one nearest to
            it, and where none is known the one that Newton's method finds from the start; see
            `dynamics.analysis.stability.builds`.
        low, high: the interval.
        at: the equilibrium instead, a tuple of players, or a function of the number that returns one.
        samples: number of samples; crossings that come in pairs between two samples are missed.
        tolerance: width of the final bracket.

    Returns:
        the first critical value of the interval; the rest are in `others`.

    Raises:
        EquilibriumError: at some value there is no equilibrium, or none is found from the start; or stability changes
            where the equilibrium that is found jumps to another one.
        ValueError: stability does not change in the interval; the message shows the radius or abscissa at both ends.

    >>> import dynamics as dy
    >>> def build(step):
    ...     sgd = dy.optimisers.sgd(step)
    ...     return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.updates.Simultaneous(sgd, sgd)
    >>> result = critical(build, 0.5, 2.0)
    >>> round(result.value, 5), str(result.kind)  # 4 x 0.3
    (1.2, 'Neimark-Sacker')
    """
    low, high = float(low), float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"the interval is [{low:g}, {high:g}]; expected finite low < high")
    if samples < 2:
        raise ValueError(f"samples is {samples}; expected at least 2")
    dtype = jnp.result_type(float)
    analysed = Analysed.of(comparable(build), at, [[low], [(low + high) / 2], [high]])
    game, method, players = analysed.at_numbers([(low + high) / 2])
    boundary = boundary_of(method)
    linear = eqx.filter_jit(linearise)(*sharing((game, method, players)))
    field_jacobian = np.asarray(linear.game_jacobian)
    period = Period(1, 0, "") if linear.rests else find_period(game, method, players)
    if not period.steps:
        raise ValueError(f"there is no stability to change: {period.reason}")
    analysed = analysed.over(period)
    dimension = manifold_dimension(game, players, field_jacobian)

    def outermost(matrix: np.ndarray | Array) -> tuple[float, float, complex]:
        values, errors = eigenvalues_with_errors(matrix)
        rest = boundary.from_neutral(values)[dimension:]
        outward = boundary.outward(values[rest])
        leading = rest[np.argmax(outward)]
        eigenvalue = complex(np.real(values[leading]), abs(np.imag(values[leading])))
        return float(outward.max() - boundary.neutral), float(errors[leading]), eigenvalue

    def linearised(parameter: float) -> Linearised:
        row = row_of(jax.device_get(linearised_at(analysed, jnp.asarray([[parameter]], dtype))), 0)
        analysed.check(row, [parameter], method)
        return row

    def leading_at(parameter: float) -> tuple[float, float, complex]:
        return outermost(linearised(parameter).linear.jacobian)

    def side(value: float, error: float, _: complex) -> int:
        return 0 if abs(value) <= error else int(np.sign(value))

    grid = np.linspace(low, high, samples)
    rows = jax.device_get(linearised_at(analysed, jnp.asarray(grid[:, None], dtype)))
    for index, parameter in enumerate(grid):
        analysed.check(row_of(rows, index), [parameter], method)
    matrices = rows.linear.jacobian
    finite = np.all(np.isfinite(matrices), axis=(1, 2))
    if not np.all(finite):
        raise ValueError(f"the Jacobian is not finite at {grid[~finite][0]:g}; look at dynamics.stability there")
    leading = [outermost(matrix) for matrix in matrices]
    sides = [side(*triple) for triple in leading]
    changes: list[Critical] = []
    for left, right, before, after in zip(grid, grid[1:], sides, sides[1:], strict=False):
        if before == after:
            continue
        if before * after < 0:
            root = scipy.optimize.brentq(
                lambda p: leading_at(p)[0], left, right, xtol=tolerance, rtol=4 * np.finfo(float).eps
            )
        else:
            root = _bisect(lambda p: side(*leading_at(p)) == before, left, right, tolerance)  # noqa: B023
        if changes and abs(root - changes[-1].value) <= 1e-8 * (high - low):
            before, root = _WORDS.index(changes[-1].below) - 1, changes.pop().value
            if before == after:
                continue
        crossing = linearised(root)
        ends = [max(root - 1e-9 * (high - low), left), min(root + 1e-9 * (high - low), right)]
        _check_branch(ends, *(linearised(end).equilibrium.players for end in (*ends, left, right)))
        eigenvalue = outermost(crossing.linear.jacobian)[2]
        kind, words = _kind(eigenvalue, boundary), (_WORDS[before + 1], _WORDS[after + 1])
        changes.append(Critical(float(root), kind, eigenvalue, *words, players=crossing.equilibrium.players))
    if not changes:
        ends = [boundary.neutral + leading[place][0] for place in (0, -1)]
        raise ValueError(
            f"stability does not change between {low:g} and {high:g}: the {boundary.bound_name} is {ends[0]:.10g} "
            f"at the lower and {ends[1]:.10g} at the upper end. Widen the interval, or take more samples."
        )
    return dataclasses.replace(changes[0], others=tuple(changes[1:]))


_WORDS = ("stable", "marginal", "unstable")


def _check_branch(ends: list[float], before: Players, after: Players, left: Players, right: Players) -> None:
    """Raise where the equilibrium jumps between two ends next to each other, beside what it moves around them."""
    before_, after_, left_, right_ = (
        np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in jax.tree.leaves(players)])
        for players in (before, after, left, right)
    )
    size = float(np.finfo(_trees.float_dtype(before)).eps) ** 0.5 * (1 + np.linalg.norm(before_))
    if np.linalg.norm(after_ - before_) > size + 0.01 * np.linalg.norm(right_ - left_):
        raise EquilibriumError(
            f"at {ends[0]:.10g} the equilibrium jumps from {players_text(before)} to {players_text(after)}, and "
            "stability changes with it: that is no critical value of either. Name one with at=, a function of the "
            "number, or let build return a start that stays near one."
        )


def _bisect(is_left: Callable[[float], bool], left: float, right: float, tolerance: float) -> float:
    while right - left > tolerance and left < (middle := (left + right) / 2) < right:
        left, right = (middle, right) if is_left(middle) else (left, middle)
    # Exact where the edge of the stretch on the boundary is an end of the grid.
    return left


def _kind(eigenvalue: complex, boundary: Boundary) -> Bifurcation:
    if abs(eigenvalue.imag) > 1e-6 * max(1.0, abs(eigenvalue)):
        return Bifurcation.neimark_sacker if boundary.discrete else Bifurcation.hopf
    return Bifurcation.flip if boundary.discrete and eigenvalue.real < 0 else Bifurcation.fold
