"""Outermost eigenvalues of large matrices by the Krylov-Schur method."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Complex, Float

from dynamics._compiling import filter_jit_quickly
from dynamics.analysis.spectra.operators import Operator, products_with

BLOCK = 16  # rows of a piece of the basis: what is not filled yet costs nothing
COLUMNS = 1 << 18  # of vectors that are combined at a time on the host
LARGE = 1_000_000  # numbers beyond which the basis is no larger than it has to be
LEAST = 8  # vectors beyond the number of wanted ones before residuals are looked at
Measure = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenvalues and eigenvectors, the ones that were asked for first.

    Attributes:
        values: shape (k,), complex; both of a conjugate pair.
        vectors: unit vectors, shape (k, n), complex.
        residuals: norms of $A x - \\lambda x$, shape (k,).
        converged: which of them are as small as was asked for.
        basis: orthonormal basis of the invariant subspace, shape (k, n), real.
        products: number of products with the matrix.
        norm: of the matrix in the Krylov space, a lower bound on its spectral norm.
        next: measure of the best Ritz value that is not among these, no bound on what else there is.
        allowed: residual, relative to the norm, up to which a pair counts as converged.
        seen: Ritz values of the first space, before any restart: roughly where the spectrum lies.
    """

    values: Complex[np.ndarray, " k"]
    vectors: Complex[np.ndarray, "k n"]
    residuals: Float[np.ndarray, " k"]
    converged: np.ndarray
    basis: Float[np.ndarray, "k n"]
    products: int
    norm: float
    next: float
    allowed: float
    seen: Complex[np.ndarray, " m"]

    def verified(self, images: Any, measure: Measure) -> "Eigenpairs":
        """The same from the products of the matrix with the rows of the basis, shape (k, n), once more computed."""
        images = np.asarray(images)
        small = sum(self.basis[:, part].astype(float) @ images[:, part].T for part in _columns(self.basis))
        known = dict(norm=self.norm, next=self.next, allowed=self.allowed, seen=self.seen)
        known["products"] = self.products + len(images)
        return _pairs(self.basis, np.asarray(small), measure, images=images, **known)


def krylov_schur(
    operator: Operator,
    count: int,
    measure: Measure,
    *,
    key: Any,
    basis: int | None = None,
    tolerance: float | None = None,
    products: int | Callable[[np.ndarray], int] = 3000,
    start: Any = None,
    verify: bool = True,
    relative: bool = False,
    stride: int = 8,
    early: bool = False,
    checked: Callable[[Eigenpairs], float] | None = None,
    quickly: bool = False,
) -> Eigenpairs:
    r"""The eigenvalues of largest measure, and their vectors.

    A Krylov decomposition $A V = V B + v b^T$ with orthonormal V is extended by Arnoldi's method to `basis` vectors and
    cut back to the Schur vectors of the best Ritz values, until the residuals $|b^T s|$ of the wanted pairs are small.
    All arithmetic is real, and conjugate pairs stay together. Where the space is exhausted (an invariant subspace), it
    goes on from a random vector, so that multiple eigenvalues come more than once.
    Source: Stewart, A Krylov-Schur algorithm for large eigenproblems, SIAM J. Matrix Anal. Appl. 23, 2001.

    What is found are eigenvalues; that no other one has a larger measure is not proved by any Krylov method, see
    `dynamics.analysis.spectra.bounds`.

    Args:
        operator: the matrix A.
        count: how many eigenvalues; one more where that would part a conjugate pair.
        measure: of eigenvalues, array to array, equal for conjugates; the largest are wanted.
        key: for the start.
        basis: number of vectors kept at most; default from `count`, 90 for a few. Residuals are looked at once the
            space is full, by default once it has two thirds of its size.
        tolerance: of residuals, relative to the norm of the matrix; default 1e-6 in float32 and 1e-11 in float64.
        products: budget, or what it is for Ritz values of the first space.
        start: first vector, shape (n,); default random.
        verify: compute the residuals once more from products with the vectors themselves.
        relative: the tolerance is relative to the wanted eigenvalue of least modulus, and not to the norm.
        stride: number of products between two looks at the residuals.
        early: look at them before the first space is full. That saves products, and may miss what shows later.
        checked: is called with pairs that have converged, and says how many times too large their residuals are for
            some other purpose; the tolerance is divided by that until it says no more than 1.
        quickly: compile without the costly optimisations: sooner done where products are few or small.
    """
    size, dtype = operator.size, operator.dtype
    count = min(count, size)
    epsilon = float(jnp.finfo(dtype).eps)
    tolerance = (1e-6 if epsilon > 1e-10 else 1e-11) if tolerance is None else tolerance
    first_look = max(4 * count + 20, 60) if basis is None else max(basis, count + 3)
    # A space that need not be cut back takes fewest products, and memory.
    most = min(size, first_look * 3 // 2 if basis is None and size <= LARGE else first_look)
    rows = _Rows(size, most + 1, dtype)
    start_key, key = jax.random.split(key)
    first = jax.random.normal(start_key, (size,), dtype) if start is None else jnp.asarray(start, dtype)
    pieces = rows.put(rows.empty(), 0, first / jnp.linalg.norm(first))
    projected = np.zeros((most + 1, most))
    done, filled, norm, restarted = 0, 0, 0.0, False
    seen, budget = np.zeros(0), 0
    while True:
        key, expanding = jax.random.split(key)
        looking = restarted or early or filled >= first_look
        upto = min(filled + stride if looking else first_look, most)
        pieces, columns = _expand(operator, rows, pieces, filled, upto, expanding, quickly)
        done += upto - filled
        projected[:, filled:upto] = np.asarray(columns, float)[:, filled:upto]
        if not np.all(np.isfinite(projected)):
            raise FloatingPointError(
                "a product with the matrix is not finite: the Jacobian has infinite or NaN entries at this point"
            )
        square, last, filled = projected[:upto, :upto], projected[upto, :upto], upto
        norm = max(norm, float(np.linalg.norm(projected[: upto + 1, :upto], 2)))
        if upto < min(most, count + LEAST):
            continue
        values, vectors = np.linalg.eig(square)
        if not restarted:
            seen, budget = values, products(values) if callable(products) else products
        order = np.argsort(-measure(values), kind="stable")
        wanted = _whole_pairs(values, order, count)
        estimates = np.abs(last @ vectors[:, order[:wanted]])
        size_of = float(np.min(np.abs(values[order[:wanted]]))) if relative else norm
        ended = upto == size or done + min(stride, most - wanted) > budget
        floor = 4 * epsilon * norm
        if ended or np.all(estimates <= max(tolerance * size_of, floor)):
            schur = _invariant_basis(square, wanted, measure)
            pairs = _pairs(
                rows.combined(pieces, schur),
                schur.T @ square @ schur,
                measure,
                products=done,
                norm=norm,
                allowed=max(4 * tolerance, 16 * epsilon),
                next=float(measure(values[order[wanted : wanted + 1]])[0]) if wanted < len(values) else -np.inf,
                remainder=last @ schur,
                seen=seen.astype(complex),
            )
            excess = 1.0 if checked is None else checked(pairs)
            if ended or not excess > 1 or tolerance * size_of <= floor:
                break
            tolerance /= 2 * excess
        if upto < most:
            continue
        keep = _whole_pairs(values, order, min(wanted + (most - wanted) // 2, most - 2))
        schur = _invariant_basis(square, keep, measure)
        filled, restarted = schur.shape[1], True
        projected = np.zeros_like(projected)
        projected[:filled, :filled] = schur.T @ square @ schur
        projected[filled, :filled] = last @ schur
        pieces = rows.restart(pieces, schur)
    return pairs.verified(products_with(operator, jnp.asarray(pairs.basis)), measure) if verify else pairs


def _pairs(basis: Any, small: np.ndarray, measure: Measure, *, remainder=None, images=None, **known: Any) -> Eigenpairs:
    """Eigenpairs of a matrix within the span of orthonormal rows, where it is `small`; residuals by either of two."""
    basis = np.asarray(basis)
    values, inner = np.linalg.eig(small)
    again = np.argsort(-measure(values), kind="stable")
    values, inner = values[again].astype(complex), inner[:, again]
    vectors = np.empty((len(values), basis.shape[1]), np.result_type(basis.dtype, np.complex64))
    squares = np.zeros(len(values))
    for part in _columns(basis):
        combinations = inner.T @ basis[:, part]
        vectors[:, part] = combinations
        if images is not None:
            rest = inner.T @ images[:, part].astype(float) - values[:, None] * combinations
            squares += np.sum(np.abs(rest) ** 2, axis=1)
    residuals = np.abs(remainder @ inner) if images is None else np.sqrt(squares)
    converged = residuals <= known["allowed"] * known["norm"]
    return Eigenpairs(values=values, vectors=vectors, residuals=residuals, converged=converged, basis=basis, **known)


def _columns(rows: np.ndarray) -> list[slice]:
    """Ranges of columns that are few enough for a copy in double precision."""
    return [slice(begin, begin + COLUMNS) for begin in range(0, rows.shape[1], COLUMNS)]


def _whole_pairs(values: np.ndarray, order: np.ndarray, count: int) -> int:
    """The number of eigenvalues, in this order, that does not part a conjugate pair."""
    count = min(count, len(order))
    if count == len(order) or count == 0:
        return count
    inside = values[order[:count]]
    last = inside[-1]
    if last.imag == 0:
        return count
    # The partner of the last one comes right before it, or it is missing.
    partners = np.sum(np.isclose(inside, last.conj(), rtol=1e-12, atol=0))
    copies = np.sum(np.isclose(inside, last, rtol=1e-12, atol=0))
    return count if partners >= copies else count + 1


def _invariant_basis(matrix: np.ndarray, count: int, measure: Measure) -> np.ndarray:
    """Orthonormal columns that span the invariant subspace of so many eigenvalues of largest measure; whole pairs."""
    lapack: Any = scipy.linalg.lapack
    schur, vectors = scipy.linalg.schur(matrix, output="real")[:2]
    values = np.diag(schur).astype(complex)
    for place in np.flatnonzero(np.diag(schur, -1)):
        height = np.sqrt(abs(schur[place, place + 1])) * np.sqrt(abs(schur[place + 1, place]))
        values[place : place + 2] = schur[place, place] + 1j * np.array([height, -height])
    order = np.argsort(-measure(values), kind="stable")
    select = np.zeros(len(values), np.int32)
    select[order[: _whole_pairs(values, order, count)]] = 1
    _, reordered, *_, number, _, _, info = lapack.dtrsen(select, schur, vectors, job=b"N")
    if info == 0:
        return reordered[:, :number]
    # Too close to reorder: an orthonormal basis of the eigenvectors, or of as many as are independent.
    eigenvalues, eigenvectors = np.linalg.eig(matrix)
    order = np.argsort(-measure(eigenvalues), kind="stable")
    chosen = eigenvectors[:, order[: _whole_pairs(eigenvalues, order, count)]]
    left, singular, _ = np.linalg.svd(np.concatenate([np.real(chosen), np.imag(chosen)], axis=1))
    return left[:, : min(chosen.shape[1], max(1, int(np.sum(singular > 1e-12 * singular[0]))))]


class _Rows:
    """A basis in pieces of `BLOCK` rows, so that rows that are not filled yet cost nothing."""

    def __init__(self, size: int, rows: int, dtype: Any):
        self.size, self.rows, self.dtype = size, rows, dtype
        self.pieces = -(-rows // BLOCK)

    def __hash__(self) -> int:
        return hash((self.size, self.rows, self.pieces))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Rows) and (self.size, self.rows, self.dtype) == (other.size, other.rows, other.dtype)

    def empty(self) -> list[Array]:
        return [jnp.zeros((BLOCK, self.size), self.dtype) for _ in range(self.pieces)]

    def put(self, pieces: list[Array], row: int, vector: Array) -> list[Array]:
        new = list(pieces)
        new[row // BLOCK] = new[row // BLOCK].at[row % BLOCK].set(vector)
        return new

    def restart(self, pieces: list[Array], schur: np.ndarray) -> list[Array]:
        """The pieces with the combinations of the first rows, by column of `schur`, and then the last row."""
        kept = schur.shape[1]
        weights = np.zeros((self.pieces * BLOCK, self.pieces * BLOCK))
        weights[: len(schur), :kept] = schur
        weights[self.rows - 1, kept] = 1
        number = -(-(kept + 1) // BLOCK)
        new = _combined(pieces, jnp.asarray(weights[:, : number * BLOCK].T, self.dtype), number)
        return [*new, *pieces[number:]]

    def combined(self, pieces: list[Array], schur: np.ndarray) -> Array:
        """The combinations of the first rows, by column of `schur`, shape (k, n)."""
        weights = np.zeros((schur.shape[1], self.pieces * BLOCK))
        weights[:, : len(schur)] = schur.T
        number = -(-schur.shape[1] // BLOCK)
        padded = np.pad(weights, ((0, number * BLOCK - len(weights)), (0, 0)))
        return jnp.concatenate(_combined(pieces, jnp.asarray(padded, self.dtype), number))[: schur.shape[1]]


@eqx.filter_jit
def _combined(pieces: list[Array], weights: Array, number: int) -> list[Array]:
    results = []
    for place in range(number):
        rows = weights[place * BLOCK : (place + 1) * BLOCK]
        parts = [rows[:, i * BLOCK : (i + 1) * BLOCK] @ piece for i, piece in enumerate(pieces)]
        results.append(sum(parts[1:], parts[0]))
    return results


def _expand(
    operator: Operator, rows: _Rows, pieces: list[Array], first: int, last: int, key: Array, quickly: bool
) -> tuple[list[Array], Array]:
    program = _quickly_expanded if quickly else _expanded
    return program((operator, rows, jnp.asarray(first), jnp.asarray(last), key), pieces)


def _expansion(given: tuple[Operator, _Rows, Array, Array, Array], pieces: list[Array]) -> tuple[list[Array], Array]:
    """Arnoldi's method from one row to another: the basis, whose memory is used again, and the projected columns."""
    operator, rows, first, last, key = given
    product, dtype = operator.product(), rows.dtype
    epsilon = float(jnp.finfo(dtype).eps)

    def body(index: Array, carry: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        pieces, columns = carry
        vector = _row(pieces, index)
        image = product(vector)
        length = jnp.linalg.norm(image)
        rest, coefficients = _orthogonalised(pieces, image, index)
        norm = jnp.linalg.norm(rest)
        # An invariant subspace: nothing new but rounding. Go on in a random direction that is orthogonal to it.
        exhausted = ~(norm > 4 * epsilon * length)
        fresh = jax.lax.cond(
            exhausted,
            lambda: _fresh(pieces, jax.random.fold_in(key, index), index, rows),
            lambda: rest / jnp.where(norm > 0, norm, 1),
        )
        column = jnp.concatenate(coefficients)[: rows.rows].at[index + 1].set(jnp.where(exhausted, 0, norm))
        column = jnp.where(jnp.isfinite(length), column, jnp.nan)
        return _with_row(pieces, index + 1, fresh), columns.at[:, index].set(column)

    columns = jnp.zeros((rows.rows, rows.rows - 1), dtype)
    return jax.lax.fori_loop(first, last, body, (pieces, columns))


_expanded = eqx.filter_jit(_expansion, donate="all-except-first")
_quickly_expanded = filter_jit_quickly(_expansion, donate="all-except-first")


def _fresh(pieces: list[Array], key: Array, index: Array, rows: _Rows) -> Array:
    vector = jax.random.normal(key, (rows.size,), rows.dtype)
    rest = _orthogonalised(pieces, vector / jnp.linalg.norm(vector), index)[0]
    norm = jnp.linalg.norm(rest)
    return jnp.where(norm > 0, rest / jnp.where(norm > 0, norm, 1), 0)


def _orthogonalised(pieces: list[Array], vector: Array, index: Array) -> tuple[Array, list[Array]]:
    """The vector without its part in rows 0 to `index`, by Gram and Schmidt's method twice, and the coefficients."""
    total = [jnp.zeros(BLOCK, vector.dtype) for _ in pieces]
    for _ in range(2):
        coefficients = [
            jax.lax.cond(
                index >= place * BLOCK,
                lambda piece=piece, vector=vector: piece @ vector,
                lambda vector=vector: jnp.zeros(BLOCK, vector.dtype),
            )
            for place, piece in enumerate(pieces)
        ]
        # Rows above `index` hold what an earlier stretch left there.
        coefficients = [
            jnp.where(jnp.arange(BLOCK) + place * BLOCK <= index, part, 0) for place, part in enumerate(coefficients)
        ]
        for place, (piece, part) in enumerate(zip(pieces, coefficients, strict=True)):
            vector = jax.lax.cond(
                index >= place * BLOCK,
                lambda piece=piece, part=part, vector=vector: vector - part @ piece,
                lambda vector=vector: vector,
            )
        total = [a + b for a, b in zip(total, coefficients, strict=True)]
    return vector, total


def _row(pieces: list[Array], index: Array) -> Array:
    return jax.lax.switch(index // BLOCK, [lambda piece=piece: piece[index % BLOCK] for piece in pieces])


def _with_row(pieces: list[Array], index: Array, vector: Array) -> list[Array]:
    place, row = index // BLOCK, index % BLOCK
    # The other pieces get back the row that they have, which costs a row and no copy of the piece.
    return [piece.at[row].set(jnp.where(place == number, vector, piece[row])) for number, piece in enumerate(pieces)]
