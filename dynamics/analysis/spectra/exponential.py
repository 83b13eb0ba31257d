"""The exponential of a large matrix by products, and what it shows: rightmost eigenvalues, a bound on all others."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from dynamics.analysis.spectra.krylov import Eigenpairs, krylov_schur
from dynamics.analysis.spectra.operators import Operator, Product, WrappingOperator, products_with

LENGTH = 1024  # coefficients of a series at most
DEGREE = 130  # of the series in a Krylov method: a longer one separates more, of which the method has less use
TRUNCATION = 1e-5  # of a series, relative to the exponential at the right end of the box
EXCESS = (9.0, 3.0)  # log of how much terms may be larger than that, in float64 and in float32: they cancel
STRETCHES = (
    1.01,
    1.02,
    1.04,
    1.07,
    1.1,
    1.15,
    1.25,
    1.5,
    2.0,
)  # of an ellipse over the box that it holds, along its longer axis
PAD = 0.02  # by which a box is larger than what a short Arnoldi run has shown
LEAST = 1e-3  # likewise, relative to the largest: a smaller box would drown in rounding
LARGER = 1.3  # by which it grows where the series is not the exponential
TRIES = 10
LARGEST = 70.0  # log of a Chebyshev polynomial: those of float32 end at 88
APART = 1e-3  # relative difference of one step and two of half its length up to which a series passes


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle that is to hold a spectrum, symmetric about the real axis.

    Attributes:
        left, right: ends of its real parts.
        height: largest imaginary part.
    """

    left: float
    right: float
    height: float

    @classmethod
    def around(cls, values: np.ndarray) -> "Box":
        """The box around Ritz values, and a little more: the outer eigenvalues are a little farther outside."""
        real, height = np.real(values), float(np.max(np.abs(np.imag(values))))
        left, right = float(np.min(real)), float(np.max(real))
        size = float(np.abs(values).max())
        pad = max(PAD * max(height, (right - left) / 2), LEAST * size, 1e-30)
        return cls(left - pad / 2, right + pad / 2, height + pad)

    @property
    def centre(self) -> float:
        """The middle of its real parts."""
        return (self.left + self.right) / 2

    @property
    def width(self) -> float:
        """Half of its extent along the real axis."""
        return (self.right - self.left) / 2

    @property
    def upright(self) -> bool:
        """Whether it is a strip along the imaginary axis: rotation dominates."""
        return self.height > 2 * self.width

    def larger(self, factor: float) -> "Box":
        """A larger one about the same centre, in proportion, and wider where it is thin."""
        width = max(self.width * factor, self.width + (factor - 1) * self.height / 20)
        return Box(self.centre - width, self.centre + width, self.height * factor)


@dataclasses.dataclass(frozen=True)
class Series:
    r"""A Chebyshev series of $e^{t(z - r)}$, exact up to what is cut off in an ellipse of the complex plane.

    With $x = (z - c)/f$, $S_0 = 1$, $S_1 = x$ and $S_{j+1} = 2 x S_j + S_{j-1}$ the series is
    $e^{t(c-r)} (J_0(tf) + 2\sum_j J_j(tf) S_j(z))$: foci $c \pm if$, for a strip along the imaginary axis. With foci
    $c \pm f$ the recurrence has $-S_{j-1}$, and the coefficients are Bessel functions $I_j$. In the ellipse with these
    foci whose semi-axes have the sum $\rho f$: $|S_j| \le (\rho^j + \rho^{-j})/2 \le \rho^j$.

    Attributes:
        coefficients: by degree, shape (d + 1,).
        centre, focus: c and f.
        sign: 1 for imaginary foci, -1 for real ones.
        time: t.
        right: r, where the exponential is 1.
        excess: log of the largest sum of the terms' moduli in the ellipse for which the series was cut.
    """

    coefficients: Float[np.ndarray, " length"]
    centre: float
    focus: float
    sign: int
    time: float
    right: float
    excess: float

    @property
    def degree(self) -> int:
        """The last degree."""
        return len(self.coefficients) - 1

    def tail(self, rho: float) -> float:
        """A bound on all that is cut off, in the ellipse of this `rho`."""
        numbers = _coefficients(self.time, self.centre - self.right, self.focus, self.sign, 4 * LENGTH)
        terms = _terms(numbers, rho)
        total = float(np.sum(terms[self.degree + 1 :])) + _beyond(terms)
        return total if math.isfinite(total) else math.inf

    def longer(self, rho: float, truncation: float) -> "Series | None":
        """The same, cut for a larger ellipse; `None` where that takes too many terms."""
        return _cut(self.time, self.centre, self.right, self.focus, self.sign, rho, truncation)


def series_for(box: Box, time: float, truncation: float = TRUNCATION, excess: float = EXCESS[0]) -> Series | None:
    """The shortest series for a time, in an ellipse around a box; `None` where all take too many terms, or cancel."""
    best: Series | None = None
    sign = 1 if box.height > box.width else -1
    long, short = max(box.height, box.width), min(box.height, box.width)
    for stretch in STRETCHES:
        axis = stretch * long
        other = max(short, 1e-3 * long) / math.sqrt(1 - stretch**-2)
        # Where that ellipse is no longer than wide: one around a disc that holds the box.
        focus = math.sqrt(axis**2 - other**2) if axis > 1.05 * other else math.hypot(long, short) * 0.8
        new = _cut(time, box.centre, box.right, focus, sign, _rho(box, focus, sign), truncation)
        if new is not None and new.excess <= excess and (best is None or new.degree < best.degree):
            best = new
    return best


def longest_series(box: Box, degree: int, truncation: float = TRUNCATION, excess: float = EXCESS[0]) -> Series:
    """The series of a degree that goes the farthest in time.

    Raises:
        ValueError: the box is not finite, or a point.
    """
    size = max(box.height, box.width)
    if not 0 < size < math.inf:
        raise ValueError(f"the spectrum lies in {box}; expected a box of finite size")
    best, short, long = None, 1e-3 / size, 8.0 * degree / size
    for _ in range(10):
        time = math.sqrt(short * long)
        new = series_for(box, time, truncation, excess)
        if new is not None and new.degree <= degree:
            best, short = new, time
        else:
            long = time
    if best is None:
        raise ValueError(f"no series of degree {degree} for the box {box}")
    return best


def excess_of(dtype: Any) -> float:
    """How much terms of a series may cancel in this precision."""
    return EXCESS[0] if float(jnp.finfo(dtype).eps) < 1e-10 else EXCESS[1]


def _rho(box: Box, focus: float, sign: int) -> float:
    """Of the smallest ellipse with these foci that holds a box."""
    corner = complex(box.width, box.height) / focus
    inside = np.sqrt(corner**2 + sign + 0j)
    return float(max(abs(corner + inside), abs(corner - inside)))


def _terms(numbers: np.ndarray, rho: float) -> np.ndarray:
    """What the terms of a series are at most in the ellipse of this `rho`; up to where they vanish."""
    present = np.flatnonzero(numbers != 0)
    numbers = np.abs(numbers[: int(present[-1]) + 1]) if len(present) else np.zeros(1)
    with np.errstate(all="ignore"):
        return numbers * rho ** np.arange(len(numbers))


def _beyond(terms: np.ndarray) -> float:
    """The sum of all terms after the last one: their ratios fall once the order exceeds the argument."""
    if len(terms) < 2 or not terms[-2] > 0:
        return math.inf
    ratio = float(terms[-1] / terms[-2])
    return float(terms[-1]) * ratio / (1 - ratio) if ratio < 0.95 else math.inf


def _coefficients(time: float, centre: float, focus: float, sign: int, length: int) -> np.ndarray:
    argument = time * focus
    order = np.arange(min(length, int(2 * argument + 12 * argument ** (1 / 3) + 60)))
    if sign > 0:
        numbers = np.exp(time * centre) * scipy.special.jv(order, argument)
    else:
        with np.errstate(over="ignore"):
            numbers = np.exp(time * centre + argument) * scipy.special.ive(order, argument)
    numbers[1:] *= 2
    return numbers


def _cut(
    time: float, centre: float, right: float, focus: float, sign: int, rho: float, truncation: float
) -> Series | None:
    """The series without what sums up to less than `truncation` in the ellipse of this `rho`."""
    numbers = _coefficients(time, centre - right, focus, sign, LENGTH)
    terms = _terms(numbers, rho)
    if time * focus >= LENGTH or not np.any(terms) or not np.all(np.isfinite(terms)):
        return None
    tails = np.cumsum(terms[::-1])[::-1] + _beyond(terms)
    small = np.flatnonzero(tails <= truncation)
    if not len(small):  # it ends where the terms are still large
        return None
    degree = max(int(small[0]) - 1, 2)
    if degree * math.log(rho) > LARGEST:
        return None
    numbers = numbers[: degree + 1]
    excess = math.log(max(float(np.sum(terms[: degree + 1])), 1e-300))
    return Series(np.pad(numbers, (0, max(0, 3 - len(numbers)))), centre, focus, sign, time, right, excess)


class Exponential(WrappingOperator):
    r"""$e^{t(A - r)}$ by a Chebyshev series of A: as many products as its degree.

    Another series is other numbers of the same program.
    """

    operator: Operator
    coefficients: Float[Array, " length"]
    degree: Array
    centre: Array
    focus: Array
    sign: Array

    @classmethod
    def of(cls, operator: Operator, series: Series) -> "Exponential":
        """The exponential of an operator whose spectrum is in the ellipse of a series."""
        padded = np.pad(series.coefficients, (0, LENGTH - len(series.coefficients)))
        numbers = (jnp.asarray(x, operator.dtype) for x in (padded, series.centre, series.focus, series.sign))
        coefficients, centre, focus, sign = numbers
        return cls(operator, coefficients, jnp.asarray(series.degree), centre, focus, sign)

    def transposed(self) -> "Operator":
        """The exponential of the transposed matrix."""
        return eqx.tree_at(lambda tree: tree.operator, self, self.operator.transposed())

    def recurrence(self) -> tuple[Product, Any]:
        """$x v$ for $x = (A - c)/f$, and the step from $S_{j-1} v$ and $S_j v$ to $S_{j+1} v$."""
        product = self.operator.product()

        def times(vector: Array) -> Array:
            return (product(vector) - self.centre * vector) / self.focus

        return times, lambda before, last: 2 * times(last) + self.sign * before

    def product(self) -> Product:
        times, following = self.recurrence()

        def apply(vector: Array) -> Array:
            first = times(vector)
            total = self.coefficients[0] * vector + self.coefficients[1] * first

            def body(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                before, last, total = carry
                new = following(before, last)
                return last, new, total + self.coefficients[index] * new

            return jax.lax.fori_loop(2, self.degree + 1, body, (vector, first, total))[2]

        return apply


def exponential(operator: Operator, box: Box, *, key: Any, degree: int = DEGREE) -> tuple[Exponential, Series, int]:
    """The exponential of an operator whose spectrum is roughly in a box, checked; the number of products it took.

    One step has to be two of half its length on a random vector. Where it is not, some eigenvalue lies outside of the
    ellipse, whose series favours what is there whatever its real part; then a larger box is tried.

    Raises:
        FloatingPointError: no box passes.
    """
    vector = jax.random.normal(key, (operator.size,), operator.dtype)
    products = 0
    for _ in range(TRIES):
        series = longest_series(box, degree, excess=excess_of(operator.dtype))
        rho = _rho(box, series.focus, series.sign)
        half = dataclasses.replace(series, time=series.time / 2).longer(rho, TRUNCATION)
        whole = Exponential.of(operator, series)
        if half is not None:
            products += series.degree + 2 * half.degree
            halves = Exponential.of(operator, half)
            once, twice = whole @ vector, halves @ (halves @ vector)
            if float(jnp.linalg.norm(once - twice)) <= APART * float(jnp.linalg.norm(twice)):
                return whole, series, products
        box = box.larger(LARGER)
    raise FloatingPointError(f"no Chebyshev series is the exponential of the matrix; the last box tried is {box}")


def rightmost(
    operator: Operator,
    count: int,
    box: Box,
    norm: float,
    *,
    key: Any,
    basis: int | None = None,
    tolerance: float | None = None,
    products: int = 30_000,
    start: Any = None,
) -> Eigenpairs:
    r"""The eigenvalues of largest real part, by the Krylov-Schur method on the exponential.

    The slow modes of a strip along the imaginary axis are inside of it, where no Krylov method on the matrix itself
    finds them soon; those of $e^{tA}$ are its largest ones. Eigenvalues and residuals are those of the matrix on the
    space that is found (Rayleigh and Ritz's method).

    Args:
        operator, count, key, start: as in `krylov_schur`.
        box: where the spectrum is thought to be, see `exponential`.
        norm: of the matrix.
        basis: number of vectors kept at most; default from `count`.
        tolerance: of residuals, relative to the norm; default 1e-6 in float32 and 1e-7 in float64.
        products: budget.
    """
    checking, key = jax.random.split(key)
    whole, series, spent = exponential(operator, box, key=checking)
    fine = float(jnp.finfo(operator.dtype).eps) < 1e-10
    tolerance = (1e-7 if fine else 1e-6) if tolerance is None else tolerance
    allowed = max(4 * tolerance, 16 * float(jnp.finfo(operator.dtype).eps))
    looks: list[Eigenpairs] = []

    def checked(pairs: Eigenpairs) -> float:
        known = dataclasses.replace(pairs, norm=norm, allowed=allowed)
        looks.append(known.verified(products_with(operator, jnp.asarray(pairs.basis)), np.real))
        return float(np.max(looks[-1].residuals)) / (allowed * norm)

    pairs = krylov_schur(
        whole,
        count,
        np.abs,
        key=key,
        basis=max(2 * count + 20, 30) if basis is None else basis,
        tolerance=tolerance,
        products=max((products - spent) // series.degree, 1),
        start=start,
        verify=False,
        relative=True,
        stride=3,
        early=True,
        checked=checked,
    )
    spent += pairs.products * series.degree + sum(len(look.values) for look in looks)
    return dataclasses.replace(looks[-1], products=spent)
