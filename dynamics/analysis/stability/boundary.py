"""The boundary of stability, and all in which maps and flows differ: the unit circle and the imaginary axis.

Every function of the analysis gets such an object and asks it, and none compares names of kinds. Users name the two by
"map" and "flow"; `boundary_of` turns such a name, or a method, into the object.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import scipy.linalg

from dynamics.updates.base import Update


@dataclasses.dataclass(frozen=True)
class Boundary(abc.ABC):
    """Where eigenvalues decide nothing. Two of a class are equal, so that they may be static arguments of `jax.jit`.

    Functions of eigenvalues work on arrays of any shape; where there is an argument `xp`, it is `numpy` or `jax.numpy`,
    and the function is traceable with the latter.

    Attributes:
        kind: "map" or "flow", for users.
        name: the boundary in words.
        neutral: the eigenvalue of a direction along which nothing moves.
        discrete: whether time is counted in steps.
        bound_name: what the largest `outward` of all eigenvalues is called.
        least: the `outward` of no eigenvalues at all.
        unit: of time, in prose.
        symbol: of time, in units of data.
        scale_free: whether the boundary stays where it is when all eigenvalues are multiplied by a positive number.
        real_positions: `position` of its points that are real.
        corners: points that a picture of the complex plane should show.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    neutral: ClassVar[float]
    discrete: ClassVar[bool]
    bound_name: ClassVar[str]
    least: ClassVar[float]
    unit: ClassVar[str]
    symbol: ClassVar[str]
    scale_free: ClassVar[bool]
    real_positions: ClassVar[tuple[float, ...]]
    corners: ClassVar[tuple[complex, ...]]

    # Eigenvalues

    @abc.abstractmethod
    def outward(self, values: Any) -> Any:
        """Modulus (maps) or real part (flows): the boundary is where it is `neutral`."""

    @abc.abstractmethod
    def distance(self, values: Any) -> Any:
        """Signed distance to the boundary, positive where a direction expands."""

    @abc.abstractmethod
    def position(self, values: Any) -> Any:
        """The place along the boundary: angle (maps) or imaginary part (flows)."""

    @abc.abstractmethod
    def points(self, positions: Any) -> Any:
        """Points of the boundary with these positions."""

    @abc.abstractmethod
    def outline(self, size: float) -> np.ndarray:
        """The boundary up to `size` from zero, as a line for pictures: its points in order."""

    @abc.abstractmethod
    def stable_side(self, size: float) -> np.ndarray:
        """Where eigenvalues decay, up to `size` from zero, as a polygon: its corners in order."""

    @abc.abstractmethod
    def margin(self, bound: Any) -> Any:
        """How far a spectral bound is inside, positive when stable."""

    @abc.abstractmethod
    def rate(self, bound: Any, xp: Any = np) -> Any:
        """Log contraction per step (maps) or per unit of time (flows) that belongs to a spectral bound."""

    @abc.abstractmethod
    def factor(self, bound: float) -> float:
        """The factor per step or unit of time that belongs to a spectral bound."""

    def rotation(self, values: Any) -> Any:
        """Angle per step, or per unit of time, >= 0."""
        return np.abs(self.position(values))

    def bound(self, values: np.ndarray) -> Any:
        """Spectral radius or abscissa of eigenvalues, along the last axis."""
        return np.max(self.outward(values), axis=-1, initial=self.least)

    def bound_of(self, report: Any) -> float:
        """`radius` or `abscissa` of a `Stability` report."""
        return getattr(report, self.bound_name)

    def order(self, values: np.ndarray) -> np.ndarray:
        """Indices that put the outermost eigenvalue first, along the last axis."""
        return np.argsort(-self.outward(values), axis=-1, kind="stable")

    def from_neutral(self, values: np.ndarray) -> np.ndarray:
        """Indices that put the eigenvalue nearest to the neutral one first, along the last axis."""
        return np.argsort(np.abs(values - self.neutral), axis=-1, kind="stable")

    # Matrices

    @abc.abstractmethod
    def change(self, jacobian: Any, xp: Any = np) -> Any:
        """From the Jacobian that of what vanishes at rest: of the move of a map, or of a flow's field; (..., n, n)."""

    @abc.abstractmethod
    def defect(self, value: Any, point: Any) -> Any:
        """What vanishes at rest, from the map's or the field's value at a point."""

    @abc.abstractmethod
    def defect_rounding(self, jacobian: np.ndarray, position: np.ndarray, epsilon: float) -> np.ndarray:
        """What rounding makes of `defect`, by coordinate, shape (..., n)."""

    @abc.abstractmethod
    def relative(self, curve: Any, matrix: np.ndarray) -> np.ndarray:
        """The matrix moved so that the curve `outward` = `curve` comes to lie on the boundary, shape (..., n, n)."""

    @abc.abstractmethod
    def length_relative(self, curve: Any, length: Any) -> Any:
        """A distance in the complex plane, moved as by `relative`."""

    @abc.abstractmethod
    def value_relative(self, curve: Any, values: Any) -> Any:
        """Eigenvalues, moved as by `relative`."""

    @abc.abstractmethod
    def from_relative(self, curve: float, length: float, point: complex) -> tuple[float, complex]:
        """A distance and a point, moved back."""

    @abc.abstractmethod
    def end(self, matrix: np.ndarray, margin: float) -> float:
        """Positions beyond this one need no look, where all eigenvalues of matrices within `margin` are concerned."""

    @abc.abstractmethod
    def closed(self, positions: np.ndarray) -> np.ndarray:
        """Positions in order, the first one once more at the end where the boundary is a closed curve."""

    @abc.abstractmethod
    def crossings(self, matrix: np.ndarray, level: float) -> np.ndarray:
        """Positions at which the level is a singular value of z - J, in order.

        Doubtful eigenvalues count: a place too many costs a little work, one too few the result.
        """

    @abc.abstractmethod
    def propagator(self, matrix: np.ndarray, time: float) -> np.ndarray:
        """A power of the matrix, or the exponential of so many times it."""

    @abc.abstractmethod
    def initial_rate(self, matrix: np.ndarray) -> float:
        """The largest rate of growth at the start: log of the norm, or the numerical abscissa."""

    # Two by two matrices in real arithmetic, see `dynamics.ensembles.prediction.proved_planar`

    @abc.abstractmethod
    def planar(self, larger: Any, smaller: Any, middle: Any, root: Any, real: Any, xp: Any) -> tuple[Any, Any, Any]:
        """`outward` of both eigenvalues, and the rotation: `larger` and `smaller` where real, else `middle` ± i `root`.

        The larger one is that of the larger modulus, of the sign of `middle`.
        """

    @abc.abstractmethod
    def planar_norms(self, entries: tuple[Any, Any, Any, Any], curve: Any, xp: Any) -> tuple[Any, Any]:
        """Frobenius norms: of the matrix in which rounding is measured, and a bound of z - A for z on a curve."""

    # Words

    @abc.abstractmethod
    def when(self, time: float, digits: int = 6) -> str:
        """A time in words."""


class UnitCircle(Boundary):
    """The boundary for maps: a direction shrinks where its eigenvalue is inside the unit circle.

    >>> UnitCircle().distance(np.array([0.5, -2.0])).tolist()
    [-0.5, 1.0]
    """

    kind = "map"
    name = "unit circle"
    neutral = 1.0
    discrete = True
    bound_name = "radius"
    least = 0.0
    unit = "step"
    symbol = "step"
    scale_free = False
    real_positions = (0.0, np.pi)
    corners = (1 + 1j, -1 - 1j)

    def outward(self, values: Any) -> Any:
        return np.abs(values)

    def distance(self, values: Any) -> Any:
        return np.abs(values) - 1

    def position(self, values: Any) -> Any:
        return np.angle(values)

    def points(self, positions: Any) -> Any:
        return np.exp(1j * positions)

    def outline(self, size: float) -> np.ndarray:
        return self.points(np.linspace(-np.pi, np.pi, 3601))

    def stable_side(self, size: float) -> np.ndarray:
        return self.outline(size)

    def margin(self, bound: Any) -> Any:
        return 1 - bound

    def rate(self, bound: Any, xp: Any = np) -> Any:
        return xp.log(bound)

    def factor(self, bound: float) -> float:
        return bound

    def change(self, jacobian: Any, xp: Any = np) -> Any:
        return jacobian - xp.eye(jacobian.shape[-1], dtype=jacobian.dtype)

    def defect(self, value: Any, point: Any) -> Any:
        return value - point

    def defect_rounding(self, jacobian: np.ndarray, position: np.ndarray, epsilon: float) -> np.ndarray:
        return 64 * epsilon * np.abs(np.asarray(position, float))

    def relative(self, curve: Any, matrix: np.ndarray) -> np.ndarray:
        return matrix / np.asarray(curve)[..., None, None]

    def length_relative(self, curve: Any, length: Any) -> Any:
        return length / curve

    def value_relative(self, curve: Any, values: Any) -> Any:
        return values / np.asarray(curve)[..., None]

    def from_relative(self, curve: float, length: float, point: complex) -> tuple[float, complex]:
        return curve * length, curve * point

    def end(self, matrix: np.ndarray, margin: float) -> float:
        return np.pi  # of a real matrix the upper half is enough

    def closed(self, positions: np.ndarray) -> np.ndarray:
        return np.concatenate([positions, positions[:1] + 2 * np.pi])

    def crossings(self, matrix: np.ndarray, level: float) -> np.ndarray:
        identity, nothing = np.eye(len(matrix)), np.zeros_like(matrix)
        left = np.block([[matrix, -level * identity], [nothing, identity]])
        right = np.block([[identity, nothing], [-level * identity, matrix.T]])
        above, below = scipy.linalg.eig(left, right, right=False, homogeneous_eigvals=True)
        on_circle = np.abs(np.abs(above) - np.abs(below)) <= 1e-6 * (np.abs(above) + np.abs(below))
        return np.sort(np.angle(above[on_circle] * below[on_circle].conj()))

    def propagator(self, matrix: np.ndarray, time: float) -> np.ndarray:
        return np.linalg.matrix_power(matrix, int(time))

    def initial_rate(self, matrix: np.ndarray) -> float:
        return float(np.log(np.linalg.norm(matrix, 2)))

    def planar(self, larger: Any, smaller: Any, middle: Any, root: Any, real: Any, xp: Any) -> tuple[Any, Any, Any]:
        modulus = xp.sqrt(middle * middle + xp.where(real, 0, root * root))
        first, second = xp.where(real, xp.abs(larger), modulus), xp.where(real, xp.abs(smaller), modulus)
        return first, second, xp.where(real, xp.where(middle < 0, np.pi, 0), xp.arctan2(root, middle))

    def planar_norms(self, entries: tuple[Any, Any, Any, Any], curve: Any, xp: Any) -> tuple[Any, Any]:
        # Of a circle of another radius: everything is that many times larger than at the unit circle.
        a, b, c, d = entries
        norm = xp.sqrt(a * a + b * b + c * c + d * d)
        return norm, norm + 1.5 * curve

    def when(self, time: float, digits: int = 6) -> str:
        return f"after {time:.0f} steps"


class ImaginaryAxis(Boundary):
    """The boundary for flows: a direction shrinks where its eigenvalue is left of the imaginary axis.

    >>> ImaginaryAxis().distance(np.array([0.5, -2.0])).tolist()
    [0.5, -2.0]
    """

    kind = "flow"
    name = "imaginary axis"
    neutral = 0.0
    discrete = False
    bound_name = "abscissa"
    least = -np.inf
    unit = "unit of time"
    symbol = "time"
    scale_free = True
    real_positions = (0.0,)
    corners = (0j,)

    def outward(self, values: Any) -> Any:
        return values.real

    def distance(self, values: Any) -> Any:
        return values.real

    def position(self, values: Any) -> Any:
        return values.imag

    def points(self, positions: Any) -> Any:
        return 1j * positions

    def outline(self, size: float) -> np.ndarray:
        return self.points(np.array([-size, size]))

    def stable_side(self, size: float) -> np.ndarray:
        ends = self.outline(size)
        return np.concatenate([ends, ends[::-1] - size])

    def margin(self, bound: Any) -> Any:
        return -bound

    def rate(self, bound: Any, xp: Any = np) -> Any:
        return bound

    def factor(self, bound: float) -> float:
        return float(np.exp(bound))

    def change(self, jacobian: Any, xp: Any = np) -> Any:
        return jacobian

    def defect(self, value: Any, point: Any) -> Any:
        return value

    def defect_rounding(self, jacobian: np.ndarray, position: np.ndarray, epsilon: float) -> np.ndarray:
        largest = np.max(np.abs(np.asarray(jacobian, float)), axis=(-2, -1), initial=0)
        return 8 * epsilon * np.where(np.isfinite(largest), largest, 0)[..., None] * np.ones(np.shape(position))

    def relative(self, curve: Any, matrix: np.ndarray) -> np.ndarray:
        return matrix - np.asarray(curve)[..., None, None] * np.eye(matrix.shape[-1])

    def length_relative(self, curve: Any, length: Any) -> Any:
        return length

    def value_relative(self, curve: Any, values: Any) -> Any:
        return values - np.asarray(curve)[..., None]

    def from_relative(self, curve: float, length: float, point: complex) -> tuple[float, complex]:
        return length, curve + point

    def end(self, matrix: np.ndarray, margin: float) -> float:
        return float(np.linalg.norm(matrix, 2)) + margin  # beyond the norm no eigenvalue lies on the axis

    def closed(self, positions: np.ndarray) -> np.ndarray:
        return positions

    def crossings(self, matrix: np.ndarray, level: float) -> np.ndarray:
        identity = np.eye(len(matrix))
        hamiltonian = np.block([[matrix, -level * identity], [level * identity, -matrix.T]])
        values = np.linalg.eigvals(hamiltonian)
        return np.sort(values.imag[np.abs(values.real) <= 1e-6 * np.linalg.norm(hamiltonian, 2)])

    def propagator(self, matrix: np.ndarray, time: float) -> np.ndarray:
        return scipy.linalg.expm(time * matrix)

    def initial_rate(self, matrix: np.ndarray) -> float:
        return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])

    def planar(self, larger: Any, smaller: Any, middle: Any, root: Any, real: Any, xp: Any) -> tuple[Any, Any, Any]:
        return xp.where(real, larger, middle), xp.where(real, smaller, middle), xp.where(real, 0, root)

    def planar_norms(self, entries: tuple[Any, Any, Any, Any], curve: Any, xp: Any) -> tuple[Any, Any]:
        a, b, c, d = entries
        norm = xp.sqrt((a - curve) ** 2 + b * b + c * c + (d - curve) ** 2)
        return norm, 4 * norm

    def when(self, time: float, digits: int = 6) -> str:
        return f"at time {time:.{digits}g}"


UNIT_CIRCLE, IMAGINARY_AXIS = UnitCircle(), ImaginaryAxis()
KINDS = {boundary.kind: boundary for boundary in (UNIT_CIRCLE, IMAGINARY_AXIS)}


def boundary_of(what: Any) -> Boundary:
    """The boundary for "map" or "flow", or that of a method.

    >>> boundary_of("flow").bound_name
    'abscissa'
    """
    if isinstance(what, str):
        return KINDS[what]
    return UNIT_CIRCLE if isinstance(what, Update) else IMAGINARY_AXIS
