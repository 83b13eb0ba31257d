"""How large eigenvalues can be that no Krylov method has shown."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics._compiling import filter_jit_quickly
from dynamics.analysis.spectra.exponential import LENGTH, Box, Exponential, Series, excess_of, longest_series
from dynamics.analysis.spectra.operators import Operator, Purged

STRETCH = 50  # products, or applications of an exponential, between two looks at the bound at most
SERIES = 300  # degree of an exponential
BOXES = 4  # to try where the spectrum is elsewhere
CUT = 1e-9  # what is left out of it at most, relative to its value at the right end of the box


@dataclasses.dataclass(frozen=True)
class Bound:
    """An upper bound on moduli or real parts of eigenvalues that holds with a known probability.

    Attributes:
        value: no eigenvalue has a larger modulus (`radius_bound`), or a larger real part (`abscissa_bound`).
        failure: the probability with which that is wrong, over the random starts, is at most this.
        products: number of products with the matrix.
        growth: what the starts grew by towards the end, as a modulus or real part: an estimate, no bound.
        vector: the start that grew most, at the end.
    """

    value: float
    failure: float
    products: int
    growth: float = -math.inf
    vector: Any = dataclasses.field(default=None, compare=False, repr=False)


def radius_bound(
    operator: Operator,
    *,
    key: Any,
    without: Float[Any, "k n"] | None = None,
    products: int = 1500,
    starts: int = 3,
    failure: float = 1e-6,
    below: float | None = None,
    quickly: bool = False,
) -> Bound:
    r"""An upper bound on the spectral radius of a matrix, from random starts.

    For a unit left eigenvector y of the eigenvalue $\lambda$ and any v: $|\lambda|^k |y^* v| \le \|A^k v\|$. For
    Gaussian v, $|y^* v| < \delta\sqrt\pi/2$ has probability at most $\delta$, for all k at once; so with q starts
    $\rho(A) \le \max_i (2\|A^k v_i\|/(\delta\sqrt\pi))^{1/k}$ but with probability $\delta^q$. No normality and no
    transpose is asked for. The starts have to be drawn after the matrix is fixed: a key must not be used twice.

    Args:
        operator: A.
        key: for the starts.
        without: orthonormal rows that span an invariant subspace, shape (k, n): its eigenvalues do not count. The
            bound is one for $(1 - QQ^T) A (1 - QQ^T)$.
        products: with every start, at most.
        starts: q.
        failure: $\delta^q$.
        below: stop as soon as the bound is below this.
        quickly: as in `krylov_schur`.

    >>> from dynamics.analysis.spectra.operators import Matrix
    >>> bound = radius_bound(Matrix(jnp.diag(jnp.linspace(0.1, 0.9, 20))), key=jax.random.key(0))
    >>> 0.9 <= bound.value < 0.92
    True
    """
    size, dtype = operator.size, operator.dtype
    purged = Purged(operator, jnp.zeros((0, size), dtype) if without is None else jnp.asarray(without, dtype))
    vectors = _starts(purged, key, starts)
    logs, constant = np.zeros(starts), _constant(failure, starts)
    best, done = math.inf, 0
    while done < products:
        number = min(STRETCH, products - done)
        vectors, norms = (_quick_powers if quickly else _powers)(purged, vectors, jnp.asarray(number))
        with np.errstate(divide="ignore"):
            growth = np.log(np.asarray(norms, float)[:number])  # -inf where nothing is left
        for row in growth:
            logs = logs + row
            done += 1
            best = min(best, float(np.max(logs + constant) / done))
        if not np.all(np.isfinite(growth)) or (below is not None and math.exp(best) < below):
            break
    return Bound(math.exp(best), failure, starts * done)


def abscissa_bound(
    operator: Operator,
    box: Box,
    *,
    key: Any,
    without: Float[Any, "k n"] | None = None,
    products: int = 1500,
    starts: int = 3,
    failure: float = 1e-6,
    below: float | None = None,
) -> Bound:
    r"""An upper bound on the real parts of a matrix's eigenvalues, from random starts.

    Let $\lambda$ be the eigenvalue of largest real part and y a unit left eigenvector of it. As in `radius_bound`, but
    with probability $\delta^q$ one of q Gaussian starts has $|y^* v| \ge \delta\sqrt\pi/2 = s$. Then for every
    polynomial $|p(\lambda)| \le \|p(A) v\|/s$, all at once:

    - with the Chebyshev polynomials of an ellipse's foci, which the series of $e^{tA}$ computes on the way:
      $(\rho^j - \rho^{-j})/2 \le |S_j(\lambda)| \le \|S_j v\|/s$, so that $\lambda$ is in the ellipse of that $\rho$,
      whatever the box was;
    - in that ellipse the series is the exponential but for its tail $\tau$, and k applications of it give
      $e^{t \operatorname{Re}\lambda} \le (\|p(A)^k v\|/s)^{1/k} + \tau$.

    The larger of the starts' bounds holds. Rounding is taken for what it is relative to the terms of the series.

    Args:
        operator: A.
        box: where its spectrum is thought to be; a wrong one makes the bound worse, not wrong.
        key, without, starts, failure: as in `radius_bound`.
        products: with every start, at most.
        below: stop as soon as the bound is below this.

    >>> from dynamics.analysis.spectra.operators import Matrix
    >>> turning = Matrix(jnp.asarray([[-0.1, 1.0], [-1.0, -0.1]]))
    >>> bound = abscissa_bound(turning, Box(-0.2, 0.0, 1.1), key=jax.random.key(0), products=1000)
    >>> -0.1 <= bound.value < -0.07
    True
    """
    dtype, epsilon = operator.dtype, float(jnp.finfo(operator.dtype).eps)
    purged = Purged(operator, jnp.zeros((0, operator.size), dtype) if without is None else jnp.asarray(without, dtype))
    if len(purged.basis) >= operator.size:
        return Bound(-math.inf, failure, 0)  # there are no others
    vectors, constant = _starts(purged, key, starts), _constant(failure, starts)
    first = np.asarray(jnp.linalg.norm(vectors, axis=1), float)
    done, degree, fitting, growth, rho = 0, max(16, min(SERIES, products // 5)), None, np.zeros((1, starts)), math.inf
    for _ in range(BOXES):
        series = longest_series(box, degree, truncation=CUT, excess=excess_of(dtype))
        growth = np.asarray(_exponentials(Exponential.of(purged, series), vectors, jnp.asarray(1))[2], float)
        done += series.degree
        growth = growth[: series.degree + 1]
        growth = growth[: int(np.argmin(np.append(np.all(growth < np.inf, axis=1), False)))]  # beyond: overflow
        if len(growth) < 2:
            break
        rho = float(np.max(_rhos(growth + np.log(first) + constant)))
        fitting = _fitting(series, rho, max(2 * series.degree, 64))
        if fitting is not None or not math.isfinite(rho):
            break
        # The spectrum is far outside of the box, but inside of this ellipse.
        long, short = series.focus * (rho + 1 / rho) / 2, series.focus * (rho - 1 / rho) / 2
        width, height = (short, long) if series.sign > 0 else (long, short)
        box = Box(series.centre - width, series.centre + width, height)
    if fitting is None:
        return Bound(math.inf, failure, starts * done)
    series, tail = fitting
    numbers = np.abs(series.coefficients[: len(growth)])
    terms = np.sum(numbers[:, None] * np.exp(growth[: len(numbers)]), axis=0)
    rounding = 16 * epsilon * (abs(series.centre) / series.focus + rho) * float(np.max(terms))
    applied = Exponential.of(purged, series)
    logs, applications, best, history = np.log(first), 0, math.inf, [np.log(first)]
    while done + series.degree <= products:
        number = max(1, min(STRETCH, (products - done) // series.degree, 1 + STRETCH // series.degree))
        vectors, norms, _ = _exponentials(applied, vectors, jnp.asarray(number))
        with np.errstate(divide="ignore"):
            steps = np.log(np.asarray(norms, float)[:number])
        for row in steps:
            logs = logs + row
            applications += 1
            history.append(logs)
            mean = np.exp((logs + constant) / applications)
            best = min(best, series.right + math.log(float(np.max(mean)) + tail + rounding) / series.time)
        done += number * series.degree
        if not np.all(np.isfinite(steps)) or (below is not None and best < below):
            break
    half = applications // 2
    estimate = -math.inf
    if half:
        late = history[-1] - history[half] - math.log(2)  # what a start gains before one direction leads
        estimate = series.right + float(np.max(late)) / ((applications - half) * series.time)
    vector = vectors[int(np.argmax(logs))]
    return Bound(best, failure, starts * done, estimate, vector)


def _rhos(logs: Float[np.ndarray, "degrees starts"]) -> Float[np.ndarray, " starts"]:
    r"""By start the least $\rho$ for which $(\rho^j - \rho^{-j})/2$ is as large as these (logs) for every j."""
    degrees = np.arange(1, len(logs))[:, None]
    # The solution is C + sqrt(C^2 + 1) for rho^j, in logarithms.
    rising = np.logaddexp(logs[1:], 0.5 * np.logaddexp(2 * logs[1:], 0))
    return np.exp(np.min(rising / degrees, axis=0))


def _fitting(series: Series, rho: float, degree: int) -> tuple[Series, float] | None:
    """A series with the same foci for the ellipse of this `rho`, of no larger degree, and what is cut off of it."""
    if not math.isfinite(rho):
        return None
    for _ in range(30):
        longer = series.longer(rho, CUT)
        if longer is not None and longer.degree <= degree:
            return longer, longer.tail(rho)
        series = dataclasses.replace(series, time=0.7 * series.time)
    return None


def _starts(purged: Purged, key: Any, starts: int) -> Array:
    """Gaussian vectors without their part in the subspace that is left out."""
    vectors = jax.random.normal(key, (starts, purged.size), purged.dtype)
    return jax.vmap(purged.purged)(vectors)


def _constant(failure: float, starts: int) -> float:
    r"""$\log(2/(\delta\sqrt\pi))$ for $\delta^q$ = `failure`."""
    return math.log(2 / math.sqrt(math.pi)) - math.log(failure) / starts


def _repeated(operator: Operator, vectors: Array, number: Array) -> tuple[Array, Array]:
    """The starts after so many products, made unit vectors each time, and the norms before that."""
    product = jax.vmap(operator.product())

    def body(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, norms = carry
        rows, lengths = _normalised(product(rows))
        return rows, norms.at[index].set(lengths)

    norms = jnp.ones((STRETCH, vectors.shape[0]), vectors.dtype)
    return jax.lax.fori_loop(0, number, body, (vectors, norms))


_powers, _quick_powers = eqx.filter_jit(_repeated), filter_jit_quickly(_repeated)


@eqx.filter_jit
def _exponentials(operator: Exponential, vectors: Array, number: Array) -> tuple[Array, Array, Array]:
    """Likewise with an exponential, and the logs of the norms of $S_j v$ for the unit vectors before the last one."""
    purged: Any = operator.operator
    purge = jax.vmap(purged.purged)
    times, following = map(jax.vmap, operator.recurrence())

    def body(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, norms, growth = carry
        unit = _normalised(rows)[0]
        first = times(unit)
        total = operator.coefficients[0] * unit + operator.coefficients[1] * first
        growth = jnp.zeros_like(growth).at[1].set(jnp.log(jnp.linalg.norm(first, axis=1)))

        def term(degree: Array, inner: tuple[Array, ...]) -> tuple[Array, ...]:
            before, last, total, growth = inner
            new = following(before, last)
            growth = growth.at[degree].set(jnp.log(jnp.linalg.norm(new, axis=1)))
            return last, new, total + operator.coefficients[degree] * new, growth

        inner = (unit, first, total, growth)
        *_, total, growth = jax.lax.fori_loop(2, operator.degree + 1, term, inner)
        # What rounding brings back of the subspace would not decay.
        rows, lengths = _normalised(purge(total))
        return rows, norms.at[index].set(lengths), growth

    norms = jnp.ones((STRETCH, vectors.shape[0]), vectors.dtype)
    growth = jnp.zeros((LENGTH, vectors.shape[0]), vectors.dtype)
    return jax.lax.fori_loop(0, number, body, (vectors, norms, growth))


def _normalised(rows: Array) -> tuple[Array, Array]:
    """Unit vectors, and the lengths they had."""
    lengths = jnp.linalg.norm(rows, axis=1)
    return rows / jnp.where(lengths > 0, lengths, 1)[:, None], lengths
