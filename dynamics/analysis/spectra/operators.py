"""Linear operators on flat vectors, known by their products alone."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Float

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class Operator(eqx.Module):
    """A real square matrix that is known by its products with vectors.

    An operator is a pytree: one with other numbers in its arrays shares the compiled programs of this one.
    """

    if TYPE_CHECKING:  # for whom these are no arguments of `__init__`

        @property
        def size(self) -> int:
            """Number of rows and of columns."""

        @property
        def dtype(self) -> Any:
            """Of the vectors, float32 or float64."""

    else:
        size: eqx.AbstractVar[int]
        dtype: eqx.AbstractVar[Any]

    @abstractmethod
    def product(self) -> Product:
        """The linear function of a vector; called inside compiled programs, once for all products of one."""

    def transposed(self) -> "Operator":
        """The operator of the transposed matrix."""
        return self.operator if isinstance(self, Transposed) else Transposed(self)

    def __matmul__(self, vectors: Any) -> Array:
        """The product with a vector of shape (n,), or with the columns of a matrix of shape (n, k)."""
        vectors = jnp.asarray(vectors, self.dtype)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != self.size:
            raise ValueError(f"a vector of shape {vectors.shape}; expected ({self.size},) or ({self.size}, k)")
        return _multiply(self, vectors) if vectors.ndim == 1 else _multiply_columns(self, vectors)

    def as_matrix(self, chunk: int = 64) -> Float[Array, "n n"]:
        """The matrix itself, so many columns at a time."""
        return _columns(self, chunk)

    def as_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """The operator for `scipy.sparse.linalg`, such as `eigs`."""

        def multiply(vector: np.ndarray) -> np.ndarray:
            return np.asarray(self @ np.ravel(vector))

        def multiply_transposed(vector: np.ndarray) -> np.ndarray:
            return np.asarray(self.transposed() @ np.ravel(vector))

        make: Any = scipy.sparse.linalg.LinearOperator
        return make((self.size, self.size), matvec=multiply, rmatvec=multiply_transposed, dtype=np.dtype(self.dtype))

    def as_lineax(self) -> Any:
        """The operator for `lineax`, such as `lineax.linear_solve`."""
        import lineax as lx

        return lx.FunctionLinearOperator(self.product(), jax.ShapeDtypeStruct((self.size,), self.dtype))


class Matrix(Operator):
    """A matrix that is written down.

    >>> (Matrix(jnp.asarray([[1.0, 2.0], [3.0, 4.0]])) @ jnp.ones(2)).tolist()
    [3.0, 7.0]
    """

    entries: Float[Array, "n n"] = eqx.field(converter=jnp.asarray)

    def __check_init__(self):
        if self.entries.ndim != 2 or self.entries.shape[0] != self.entries.shape[1]:
            raise ValueError(f"entries has shape {self.entries.shape}; expected a square matrix")

    @property
    def size(self) -> int:
        return self.entries.shape[-1]

    @property
    def dtype(self) -> Any:
        return self.entries.dtype

    def product(self) -> Product:
        return lambda vector: self.entries @ vector


class FunctionOperator(Operator):
    """An operator given by a function `(parameters, vector) -> vector` that is linear in the vector.

    Args:
        function: the same object for operators that should share their programs.
        parameters: a pytree of arrays that it reads.
        size: of the vectors.
        dtype: of the vectors.

    >>> double = FunctionOperator(lambda scale, vector: scale * vector, jnp.asarray(2.0), 3)
    >>> (double @ jnp.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """

    function: Callable[[Any, Array], Array]
    parameters: Any
    size: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True, default=jnp.float32)

    def product(self) -> Product:
        return lambda vector: self.function(self.parameters, vector)


class WrappingOperator(Operator):
    """An operator made of another one of the same size and type."""

    operator: eqx.AbstractVar[Operator]

    @property
    def size(self) -> int:
        return self.operator.size

    @property
    def dtype(self) -> Any:
        return self.operator.dtype


class Transposed(WrappingOperator):
    """The transposed matrix of an operator, by transposing its program."""

    operator: Operator

    def product(self) -> Product:
        like = jax.ShapeDtypeStruct((self.size,), self.dtype)
        transpose = jax.linear_transpose(self.operator.product(), like)
        return lambda vector: transpose(vector)[0]


class Scaled(WrappingOperator):
    r"""The similar matrix $D^{-1} (A - s) D$ with a diagonal D, which has the eigenvalues of $A - s$.

    Args:
        operator: A.
        scales: the diagonal of D, shape (n,), positive.
        shift: s.
    """

    operator: Operator
    scales: Float[Array, " n"]
    shift: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=0.0)

    def product(self) -> Product:
        product = self.operator.product()
        shift = jnp.asarray(self.shift, self.dtype)
        return lambda vector: product(self.scales * vector) / self.scales - shift * vector


class Purged(WrappingOperator):
    r"""$P A P$ with the projection $P = 1 - Q Q^T$: without the eigenvalues that belong to an invariant subspace.

    Args:
        operator: A.
        basis: orthonormal rows that span the subspace, shape (k, n): $Q^T$.
    """

    operator: Operator
    basis: Float[Array, "k n"]

    def transposed(self) -> Operator:
        """The same of the transposed matrix."""
        return Purged(self.operator.transposed(), self.basis)

    def purged(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """The projection of a vector."""
        for _ in range(2):
            vector = vector - (self.basis @ vector) @ self.basis
        return vector

    def product(self) -> Product:
        product = self.operator.product()
        return lambda vector: self.purged(product(self.purged(vector)))


@eqx.filter_jit
def products_with(operator: Operator, rows: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """The products with the rows of a matrix, one after the other."""
    return jax.lax.map(operator.product(), rows)


@eqx.filter_jit
def _multiply(operator: Operator, vector: Array) -> Array:
    return operator.product()(vector)


@eqx.filter_jit
def _multiply_columns(operator: Operator, vectors: Array) -> Array:
    return jax.vmap(operator.product(), in_axes=1, out_axes=1)(vectors)


@eqx.filter_jit
def _columns(operator: Operator, chunk: int) -> Array:
    product, size = operator.product(), operator.size

    def column(index: Array) -> Array:
        return product(jnp.zeros(size, operator.dtype).at[index].set(1))

    return jax.lax.map(column, jnp.arange(size), batch_size=min(chunk, size)).T
