"""Eigenvalues inside of a spectrum, where Krylov's method on the matrix is slow: by solving with shifted matrices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Complex, Float

from dynamics.analysis.spectra.krylov import Eigenpairs, Measure
from dynamics.analysis.spectra.operators import Operator, products_with

WRITTEN = 4000  # numbers up to which the matrix is written down for the factors of one shifted matrix
DECOMPOSED = 1500  # likewise for all of its eigenvalues
VECTORS = 60  # of the outer Arnoldi method
INNER = 200  # vectors of GMRES before it begins anew
STORED = 100_000_000  # numbers in either at most
STRIDE = 3  # solutions between two looks at the residuals
LEAST = 1e-6  # pivot of a shifted matrix, relative to the norm: with a smaller one all else drowns in rounding
LOOSER = 0.1  # accuracy of a solution, relative to that of the eigenpairs

Solve = Callable[[np.ndarray], tuple[np.ndarray, int, bool]]  # the solution, products, whether it is one


def nearest(
    operator: Operator,
    count: int,
    target: complex,
    known: Eigenpairs,
    *,
    key: Any,
    tolerance: float | None = None,
    products: int = 30_000,
) -> Eigenpairs:
    r"""The eigenvalues nearest to a point, or to its conjugate, by Arnoldi's method on $(A - \sigma)^{-1}$.

    Systems are solved with LU factors where the matrix is small enough to be written down, which takes as many products
    as it has rows, and else by GMRES. Where that is not accurate, inside of a large spectrum that has no gap, the pairs
    do not converge. Eigenvalues and residuals are those of A on the space of these vectors (Rayleigh and Ritz's
    method): whatever the solutions are, a pair with a small residual is one. That no other eigenvalue is nearer is not
    proved.
    Source: Ericsson and Ruhe, The spectral transformation Lanczos method, Math. Comp. 35, 1980.

    Args:
        operator: A.
        count: how many; one more where that would part a conjugate pair.
        target: $\sigma$.
        known: pairs of the same matrix, whose norm and whose allowed residual count.
        key: for the start.
        tolerance: of residuals, relative to the norm; default 1e-6 in float32 and 1e-11 in float64.
        products: budget.

    >>> from dynamics.analysis.spectra.krylov import krylov_schur
    >>> from dynamics.analysis.spectra.operators import Matrix
    >>> matrix = Matrix(jnp.diag(jnp.arange(200.0)))
    >>> known = krylov_schur(matrix, 2, np.abs, key=jax.random.key(0), products=50)
    >>> [round(float(value.real), 3) for value in nearest(matrix, 2, 100.2, known, key=jax.random.key(1)).values]
    [100.0, 101.0]
    """
    epsilon = float(jnp.finfo(operator.dtype).eps)
    tolerance = (1e-6 if epsilon > 1e-10 else 1e-11) if tolerance is None else tolerance
    spent = known.products
    shift: Any = complex(target) if complex(target).imag else complex(target).real
    if operator.size <= WRITTEN:
        solve, more = _by_factors(operator, shift, known.norm)
        spent += more
    else:
        solve = _by_gmres(operator, shift, max(LOOSER * tolerance, 16 * epsilon), products - spent)
    dtype = np.result_type(np.float64, type(shift))
    most = min(max(count + 3, min(VECTORS + 2 * count, STORED // operator.size)), operator.size)
    rows, small = np.zeros((most + 1, operator.size), dtype), np.zeros((most + 1, most), dtype)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    first = random.standard_normal(operator.size)
    rows[0] = first / np.linalg.norm(first)
    best, measure = known, nearness(target)
    for place in range(most):
        solution, more, solved = solve(rows[place])
        spent += more
        if not np.all(np.isfinite(solution)) or not solved:
            break
        for _ in range(2):
            part = rows[: place + 1].conj() @ solution
            solution = solution - part @ rows[: place + 1]
            small[: place + 1, place] += part
        small[place + 1, place] = np.linalg.norm(solution)
        filled = place + 1
        if filled == most or (filled >= count + 2 and filled % STRIDE == 0):
            basis = _space(rows[:filled], small[:filled, :filled], shift, count, known.norm).astype(operator.dtype)
            looked = dataclasses.replace(known, basis=basis, products=spent)
            best = looked.verified(products_with(operator, jnp.asarray(basis)), measure)
            spent = best.products
            if np.all(best.residuals <= max(tolerance, 16 * epsilon) * known.norm):
                break
        if spent > products:
            break
        if abs(small[filled, place]) <= 4 * epsilon * np.linalg.norm(small[:filled, place]):
            # An invariant subspace, as of an eigenvalue that comes twice: go on in another direction.
            small[filled, place] = 0
            solution = random.standard_normal(operator.size)
            for _ in range(2):
                solution = solution - (rows[:filled].conj() @ solution) @ rows[:filled]
        rows[filled] = solution / np.linalg.norm(solution)
    return dataclasses.replace(best, products=spent)


def decomposed(operator: Operator, count: int, measure: Measure, known: Eigenpairs) -> Eigenpairs:
    """The eigenvalues of largest measure of a small matrix, by LAPACK: as many products as there are rows.

    Args:
        operator, count: as in `nearest`.
        measure: of eigenvalues, array to array, equal for conjugates; the largest are wanted.
        known: pairs of the same matrix, whose norm and whose allowed residual count.
    """
    values, columns = np.linalg.eig(np.asarray(operator.as_matrix(), float))
    order = np.argsort(-measure(values), kind="stable")[:count]
    chosen = [place for place in order if np.imag(values[place]) >= 0 or np.conj(values[place]) not in values[order]]
    basis = _real_basis(list(columns[:, chosen].T), values[chosen], known.norm).astype(operator.dtype)
    looked = dataclasses.replace(known, basis=basis, products=known.products + operator.size)
    return looked.verified(products_with(operator, jnp.asarray(basis)), measure)


def nearness(target: complex) -> Measure:
    """What is largest, 0, for eigenvalues at a point or its conjugate: less their distance to the nearer of the two."""
    return lambda values: -np.minimum(np.abs(values - target), np.abs(values.conj() - target))


def _space(rows: np.ndarray, small: np.ndarray, shift: complex, count: int, norm: float) -> Float[np.ndarray, "k n"]:
    """An orthonormal basis of the vectors that belong to the eigenvalues nearest to the shift."""
    inverse, inner = np.linalg.eig(small)
    order = np.argsort(-np.abs(inverse))
    values: list[complex] = []
    chosen: list[int] = []
    number = 0
    for place in order:
        if number >= count or inverse[place] == 0:
            break
        value = complex(shift + 1 / inverse[place])
        if any(abs(value - other.conjugate()) <= 1e-6 * abs(1 / inverse[place]) and value.imag for other in values):
            continue
        values.append(value)
        chosen.append(int(place))
        number += 1 if _is_real(value, norm) else 2
    vectors = inner[:, chosen].T @ rows
    return _real_basis(list(vectors), np.array(values), norm)


def _is_real(value: complex, norm: float) -> bool:
    return abs(complex(value).imag) <= 1e-7 * norm


def _real_basis(vectors: list[np.ndarray], values: Complex[np.ndarray, " k"], norm: float) -> Float[np.ndarray, "k n"]:
    """Orthonormal rows for the real and imaginary parts of vectors; of a real eigenvalue the vector is made real."""
    parts = []
    for vector, value in zip(vectors, values, strict=True):
        square = np.sum(vector**2)
        phase = np.sqrt(square / abs(square)) if abs(square) else 1
        real = np.real(vector / phase)
        parts += [real] if _is_real(value, norm) else [np.real(vector), np.imag(vector)]
    units = np.stack([part / max(np.linalg.norm(part), 1e-300) for part in parts])
    _, singular, right = np.linalg.svd(units, full_matrices=False)
    return right[singular > 1e-10 * singular[0]]


def _factors(matrix: np.ndarray, shift: Any, least: float) -> tuple[Any, ...]:
    """LU factors of the matrix less a shift, or where a pivot is less than that, less one next to it."""
    lapack: Any = scipy.linalg.lapack
    identity = np.eye(len(matrix))
    for moved in (shift, shift + 10 * least, shift + 30 * least):
        factorise = lapack.zgetrf if isinstance(moved, complex) else lapack.dgetrf
        *factors, _ = factorise(matrix - moved * identity)
        if np.min(np.abs(np.diag(factors[0]))) > least:
            break
    return tuple(factors)


def _by_factors(operator: Operator, shift: Any, norm: float) -> tuple[Solve, int]:
    factors = _factors(np.asarray(operator.as_matrix(), float), shift, LEAST * norm)
    return lambda vector: (scipy.linalg.lu_solve(factors, vector), 0, True), operator.size


def _by_gmres(operator: Operator, shift: Any, accuracy: float, budget: int) -> Solve:
    """Solutions by GMRES, begun anew where its vectors are many: slow, and it says where it does not get there."""
    number = max(10, min(INNER, STORED // operator.size, operator.size))
    dtype = np.result_type(operator.dtype, type(shift)) if isinstance(shift, complex) else np.dtype(operator.dtype)
    left, each = [budget], 2 if isinstance(shift, complex) else 1

    def solve(vector: np.ndarray) -> tuple[np.ndarray, int, bool]:
        solution, rest = np.zeros(operator.size, np.result_type(np.float64, dtype)), vector
        size, spent, before = float(np.linalg.norm(vector)), 0, np.inf
        while (residual := float(np.linalg.norm(rest))) > accuracy * size:
            if residual > 0.9 * before or spent > left[0]:
                break  # it does not get any nearer
            before = residual
            start = jnp.asarray(rest / residual, dtype)
            rows, projected = map(np.asarray, _arnoldi(operator, jnp.asarray(shift, dtype), start, number))
            right = np.zeros(number + 1)
            right[0] = residual
            weights = np.linalg.lstsq(projected.astype(solution.dtype), right, rcond=None)[0]
            solution = solution + weights @ rows[:number]
            rest = vector - np.asarray(_shifted(operator, jnp.asarray(shift, dtype), jnp.asarray(solution, dtype)))
            spent += each * (number + 1)
        left[0] -= spent
        return solution, spent, float(np.linalg.norm(rest)) <= 10 * accuracy * size

    return solve


def _shifting(operator: Operator, shift: Array) -> Callable[[Array], Array]:
    product = operator.product()

    def apply(vector: Array) -> Array:
        if jnp.iscomplexobj(vector):
            return jax.lax.complex(product(vector.real), product(vector.imag)) - shift * vector
        return product(vector) - shift * vector

    return apply


@eqx.filter_jit
def _shifted(operator: Operator, shift: Array, vector: Array) -> Array:
    return _shifting(operator, shift)(vector)


@eqx.filter_jit
def _arnoldi(operator: Operator, shift: Array, start: Array, number: int) -> tuple[Array, Array]:
    """Orthonormal rows of a Krylov space of the shifted matrix, and the matrix in them, shape (number + 1, number)."""
    apply = _shifting(operator, shift)

    def body(place: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, columns = carry
        image = apply(rows[place])
        total = jnp.zeros(number + 1, image.dtype)
        for _ in range(2):  # rows that are not filled yet are zero
            part = rows.conj() @ image
            image, total = image - part @ rows, total + part
        length = jnp.linalg.norm(image)
        rows = rows.at[place + 1].set(image / jnp.where(length > 0, length, 1))
        return rows, columns.at[:, place].set(total.at[place + 1].set(length))

    rows = jnp.zeros((number + 1, start.size), start.dtype).at[0].set(start)
    return jax.lax.fori_loop(0, number, body, (rows, jnp.zeros((number + 1, number), start.dtype)))
