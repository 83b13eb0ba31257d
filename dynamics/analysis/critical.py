"""Parameter values at which stability changes."""

import dataclasses
import enum
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array

from dynamics import _trees
from dynamics._compiling import sharing
from dynamics._functions import comparable
from dynamics.analysis.equilibria import manifold_dimension
from dynamics.analysis.linearisation import linearise
from dynamics.analysis.report import eigenvalues_with_errors, equilibrium_of
from dynamics.game import as_players
from dynamics.updates.base import Update


class Bifurcation(enum.StrEnum):
    """How an eigenvalue crosses the boundary."""

    fold = "fold"  # at 1 (map) or 0 (flow)
    flip = "flip"  # at -1
    neimark_sacker = "Neimark-Sacker"  # a complex pair through the unit circle
    hopf = "Hopf"  # a complex pair through the imaginary axis


@dataclasses.dataclass(frozen=True)
class Critical:
    """A parameter value at which stability changes.

    Attributes:
        value: the parameter.
        kind: fold, flip, Neimark-Sacker or Hopf. The names say how an eigenvalue crosses; whether a branch or a cycle
            is born there depends on the nonlinear terms.
        eigenvalue: the crossing one, with imaginary part >= 0.
        below, above: "stable", "unstable" or "marginal" just below and just above the value (inside the interval).
        others: further values in the interval, in increasing order.
    """

    value: float
    kind: Bifurcation
    eigenvalue: complex
    below: str
    above: str
    others: tuple["Critical", ...] = ()


def critical(
    build: Callable[[Array], tuple], low: float, high: float, *, samples: int = 129, tolerance: float = 1e-12
) -> Critical:
    """The parameter at which the radius crosses 1 (maps) or the abscissa crosses 0 (flows), and how.

    The interval is sampled, every change of stability between neighbouring samples is bracketed and bisected. A stretch
    on which the method is marginal (a centre, say) ends at a critical value too; an end of the interval is one when the
    method is marginal only there.

    Args:
        build: function of one number, returning `(game, update or flow)` or `(game, update or flow, equilibrium)`. It
            is traced: use jax.numpy inside.
        low, high: the interval.
        samples: number of samples; crossings that come in pairs between two samples are missed.
        tolerance: width of the final bracket.

    Returns:
        the first critical value of the interval; the rest are in `others`.

    Raises:
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
    build = comparable(build)
    game, method, players = _built(build(jnp.asarray((low + high) / 2, dtype)))
    is_map = isinstance(method, Update)
    field_jacobian = np.asarray(eqx.filter_jit(linearise)(*sharing((game, method, players))).game_jacobian)
    dimension = manifold_dimension(_trees.cast(game, _trees.float_dtype(players)), players, field_jacobian)
    neutral = 1.0 if is_map else 0.0

    def outermost(matrix: np.ndarray) -> tuple[float, float, complex]:
        values, errors = eigenvalues_with_errors(matrix)
        rest = np.argsort(np.abs(values - neutral), kind="stable")[dimension:]
        outward = np.abs(values[rest]) if is_map else values[rest].real
        leading = rest[np.argmax(outward)]
        eigenvalue = complex(values[leading].real, abs(values[leading].imag))
        return float(outward.max() - neutral), float(errors[leading]), eigenvalue

    def at(parameter: float) -> tuple[float, float, complex]:
        return outermost(np.asarray(_jacobian(build, jnp.asarray(parameter, dtype))))

    def side(value: float, error: float, _: complex) -> int:
        return 0 if abs(value) <= error else int(np.sign(value))

    grid = np.linspace(low, high, samples)
    matrices = np.asarray(_jacobians(build, jnp.asarray(grid, dtype)))
    finite = np.all(np.isfinite(matrices), axis=(1, 2))
    if not np.all(finite):
        raise ValueError(f"the Jacobian is not finite at {grid[~finite][0]:g}; look at dynamics.stability there")
    leading = [outermost(matrix) for matrix in matrices]
    sides = [side(*one) for one in leading]
    found: list[Critical] = []
    for left, right, before, after in zip(grid, grid[1:], sides, sides[1:], strict=False):
        if before == after:
            continue
        if before * after < 0:
            root = scipy.optimize.brentq(lambda p: at(p)[0], left, right, xtol=tolerance, rtol=4 * np.finfo(float).eps)
        else:
            root = _bisect(lambda p: side(*at(p)) == before, left, right, tolerance)  # noqa: B023
        if found and abs(root - found[-1].value) <= 1e-8 * (high - low):
            before, root = _WORDS.index(found[-1].below) - 1, found.pop().value
            if before == after:
                continue
        eigenvalue = at(root)[2]
        found.append(
            Critical(float(root), _kind(eigenvalue, is_map), eigenvalue, _WORDS[before + 1], _WORDS[after + 1])
        )
    if not found:
        name = "radius" if is_map else "abscissa"
        raise ValueError(
            f"stability does not change between {low:g} and {high:g}: the {name} is {leading[0][0] + neutral:.10g} at "
            f"the lower and {leading[-1][0] + neutral:.10g} at the upper end. Widen the interval, or take more samples."
        )
    return dataclasses.replace(found[0], others=tuple(found[1:]))


@eqx.filter_jit
def _jacobian(build: Callable, parameter: Array) -> Array:
    return linearise(*_built(build(parameter))).jacobian


@eqx.filter_jit
def _jacobians(build: Callable, parameters: Array) -> Array:
    return jax.vmap(partial(_jacobian, build))(parameters)


_WORDS = ("stable", "marginal", "unstable")


def _built(parts: tuple) -> tuple:
    if not isinstance(parts, tuple) or len(parts) not in (2, 3):
        raise TypeError(f"build returned {parts!r}; expected (game, method) or (game, method, equilibrium)")
    game, method = parts[:2]
    return game, method, as_players(parts[2]) if len(parts) == 3 else equilibrium_of(game)


def _bisect(is_left: Callable[[float], bool], left: float, right: float, tolerance: float) -> float:
    while right - left > tolerance and left < (middle := (left + right) / 2) < right:
        left, right = (middle, right) if is_left(middle) else (left, middle)
    # Exact where the edge of the stretch on the boundary is an end of the grid.
    return left


def _kind(eigenvalue: complex, is_map: bool) -> Bifurcation:
    if abs(eigenvalue.imag) > 1e-6 * max(1.0, abs(eigenvalue)):
        return Bifurcation.neimark_sacker if is_map else Bifurcation.hopf
    return Bifurcation.flip if is_map and eigenvalue.real < 0 else Bifurcation.fold
