"""How large eigenvalues can be that no Krylov method has shown."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.analysis.spectra.operators import Operator

STRETCH = 50  # products between two looks at the bound


@dataclasses.dataclass(frozen=True)
class Bound:
    """An upper bound on the spectral radius that holds with a known probability.

    Attributes:
        radius: no eigenvalue has a larger modulus.
        failure: the probability with which that is wrong, over the random starts, is at most this.
        products: number of products with the matrix.
    """

    radius: float
    failure: float
    products: int


def radius_bound(
    operator: Operator,
    *,
    key: Any,
    without: Float[Any, "k n"] | None = None,
    products: int = 1500,
    starts: int = 3,
    failure: float = 1e-6,
    below: float | None = None,
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

    >>> from dynamics.analysis.spectra.operators import Matrix
    >>> bound = radius_bound(Matrix(jnp.diag(jnp.linspace(0.1, 0.9, 20))), key=jax.random.key(0))
    >>> 0.9 <= bound.radius < 0.92
    True
    """
    size, dtype = operator.size, operator.dtype
    basis = jnp.zeros((0, size), dtype) if without is None else jnp.asarray(without, dtype)
    vectors = jax.random.normal(key, (starts, size), dtype)
    logs = np.zeros(starts)
    constant = math.log(2 / math.sqrt(math.pi)) - math.log(failure) / starts
    best, done = math.inf, 0
    while done < products:
        number = min(STRETCH, products - done)
        vectors, norms = _powers(operator, basis, vectors, jnp.asarray(number))
        with np.errstate(divide="ignore"):
            growth = np.log(np.asarray(norms, float)[:number])  # -inf where nothing is left
        for row in growth:
            logs = logs + row
            done += 1
            best = min(best, float(np.max(logs + constant) / done))
        if not np.all(np.isfinite(growth)) or (below is not None and math.exp(best) < below):
            break
    return Bound(math.exp(best), failure, starts * done)


@eqx.filter_jit
def _powers(operator: Operator, basis: Array, vectors: Array, number: Array) -> tuple[Array, Array]:
    """The starts after so many products, made unit vectors each time, and the norms before that."""
    product = operator.product()

    def purged(rows: Array) -> Array:
        for _ in range(2):
            rows = rows - (rows @ basis.T) @ basis
        return rows

    def body(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, norms = carry
        rows = purged(jax.vmap(product)(purged(rows)))
        lengths = jnp.linalg.norm(rows, axis=1)
        rows = rows / jnp.where(lengths > 0, lengths, 1)[:, None]
        return rows, norms.at[index].set(lengths)

    norms = jnp.ones((STRETCH, vectors.shape[0]), vectors.dtype)
    return jax.lax.fori_loop(0, number, body, (vectors, norms))
