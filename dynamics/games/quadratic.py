from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from dynamics._checks import Numbers, as_leaf, is_concrete
from dynamics.game import Game, Losses, Players, as_players

Shapes = tuple[tuple[int, ...], ...]


class Quadratic(Game):
    r"""Any number of players with quadratic losses, $L_i(z) = \frac12 z^\top M_i z + b_i^\top z$.

    z is the concatenation of all players, N numbers; every $M_i$ is symmetric, the game is general-sum.
    Only the rows of $M_i$ and the entries of $b_i$ that belong to player i move anybody along the field:
    they are the rows of the game's matrix H, and $v = -(H z + b)$. The rest of $M_i$ is what player i's
    loss says about the others alone.

    Args:
        blocks: H by players: `blocks[i][j]` is $D_i D_j L_i$, of shape (d_i, d_j) for players of shape
            (d_i,) and (d_j,). A number makes a scalar player: next to vectors its blocks have shape (d,).
            The diagonal blocks are symmetric. The rest of every $M_i$ is zero, i.e.
            $L_i = \frac12 z_i^\top B_{ii} z_i + \sum_{j\ne i} z_i^\top B_{ij} z_j + b_i^\top z$.
        offsets: `offsets[i]` is $b_i$, either all N entries or those of player i alone; `None`: zero.
        shapes: with the players' shapes, e.g. `((2,), (3,))` or `((), ())`, `blocks[i]` is the whole
            matrix $M_i$, shape (N, N).

    Equilibrium: the solution of $H z = -b$; the one of least norm when H is singular, none when there is
    no solution. `zero_sum` and `with_spectrum` build particular games.

    Raises:
        ValueError: a block has the wrong shape, or a diagonal block (a whole matrix) is not symmetric.

    >>> game = Quadratic([[1.0, 10.0], [-10.0, 1.0]])  # L_0 = x^2/2 + 10 x y, L_1 = y^2/2 - 10 x y
    >>> [float(v) for v in game.field((jnp.asarray(1.0), jnp.asarray(2.0)))]
    [-21.0, 8.0]
    """

    matrices: Array
    offsets: Array
    shapes: Shapes = eqx.field(static=True)

    def printed_arguments(self) -> list[tuple[str | None, Any]]:
        """Whole matrices, as the constructor takes them."""
        return [(None, self.matrices), (None, self.offsets), ("shapes", self.shapes)]

    def __init__(
        self,
        blocks: Sequence[Sequence[Numbers]] | Sequence[Numbers] | Array,
        offsets: Sequence[Numbers] | Array | None = None,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ):
        if shapes is None:
            rows = cast(Sequence[Sequence[Numbers]], blocks)
            self.shapes, matrices = _from_rows([[_leaf(block) for block in row] for row in rows])
        else:
            self.shapes = tuple(tuple(shape) for shape in shapes)
            matrices = _from_matrices([_leaf(matrix) for matrix in blocks], self.shapes)
        self.matrices = jnp.asarray(matrices)
        self.offsets = _from_offsets(offsets, self.shapes, self.matrices.dtype)

    @classmethod
    def zero_sum(cls, own: ArrayLike, coupling: ArrayLike, other: ArrayLike) -> "Quadratic":
        r"""Two players and $f = \frac12 x^\top A x + x^\top B y - \frac12 y^\top C y$; $L_0 = f$, $L_1 = -f$.

        Args:
            own: A, shape (m, m), symmetric; a number for a scalar player.
            coupling: B, shape (m, n).
            other: C, shape (n, n), symmetric.

        >>> game = Quadratic.zero_sum(1.0, 10.0, 1.0)
        >>> [float(loss) for loss in game.losses((jnp.asarray(1.0), jnp.asarray(2.0)))]
        [18.5, -18.5]
        """
        shapes = (jnp.shape(own)[:1], jnp.shape(other)[:1])
        m, n = (int(np.prod(shape)) for shape in shapes)
        for name, value, shape in (
            ("own", own, shapes[0] * 2),
            ("coupling", coupling, shapes[0] + shapes[1]),
            ("other", other, shapes[1] * 2),
        ):
            if jnp.shape(value) != shape:
                raise ValueError(
                    f"{name} has shape {jnp.shape(value)}; expected {shape}: A is (m, m), B (m, n), C (n, n)"
                )
        xp = _namespace((own, coupling, other))
        a, b, c = (xp.reshape(x, y) for x, y in ((own, (m, m)), (coupling, (m, n)), (other, (n, n))))
        whole = xp.block([[a, b], [b.T, -c]])
        return cls([whole, -whole], shapes=shapes)

    @classmethod
    def with_spectrum(
        cls,
        key: PRNGKeyArray,
        eigenvalues: Numbers,
        sizes: Sequence[int],
        non_normality: float | Array = 0.0,
    ) -> "Quadratic":
        r"""A random game whose Jacobian of the field has exactly the given eigenvalues.

        The Jacobian is $S K S^{-1}$ with a normal K and S block-diagonal by players, so that it is
        diagonalisable however often an eigenvalue is repeated, and its eigenvectors have a condition
        number of at most that of S. A player's diagonal block is a Hessian, hence symmetric; therefore
        each complex pair takes one parameter of each of two different players, and there can be at most
        min(N // 2, N - largest size) pairs (for a normal Jacobian no construction could do better). A
        single player has real eigenvalues only.

        Args:
            key: random key.
            eigenvalues: N numbers known outside `jit`, complex ones in conjugate pairs, in any order.
                Negative real parts are stable.
            sizes: parameters per player; their sum is N. All players are vectors.
            non_normality: standard deviation of the logarithms of the singular values of S, >= 0; 0 makes
                a normal Jacobian. The spectrum does not depend on it.

        Raises:
            ValueError: the numbers do not match, are not closed under conjugation, or hold too many
            complex pairs.

        >>> game = Quadratic.with_spectrum(jax.random.key(0), [-1, -0.5 + 2j, -0.5 - 2j], sizes=(2, 1))
        >>> [player.shape for player in game.equilibria()[0]]
        [(2,), (1,)]
        """
        sizes = tuple(sizes)
        reals, pairs = _real_and_pairs(eigenvalues)
        total = sum(sizes)
        if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"sizes is {sizes}; expected the number of parameters of every player, e.g. (2, 3)")
        if total != len(reals) + 2 * len(pairs):
            raise ValueError(
                f"{len(reals) + 2 * len(pairs)} eigenvalues for sizes {sizes}; expected as many as parameters, {total}"
            )
        if is_concrete(non_normality) and not (np.isfinite(non_normality) and non_normality >= 0):
            raise ValueError(f"non_normality is {non_normality}; expected a finite number >= 0")
        starts = list(accumulate(sizes, initial=0))
        free = [list(range(start, start + size)) for start, size in zip(starts, sizes)]
        matched = _match(free, len(pairs), sizes)
        normal = np.zeros((total, total))
        for (p, q), pair in zip(matched, pairs):
            normal[p, p] = normal[q, q] = pair.real
            normal[p, q], normal[q, p] = pair.imag, -pair.imag

        rest = sum(free, [])
        normal[rest, rest] = reals
        matrix = -_similar(key, jnp.asarray(normal), np.isin(np.arange(total), rest), non_normality, sizes)
        parts = _parts(tuple((size,) for size in sizes))
        return cls([[matrix[a, b] for b in parts] for a in parts])

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        given = tuple(jnp.shape(player) for player in players)
        if given != self.shapes:
            raise ValueError(f"the players have shapes {given}; this game has players of shapes {self.shapes}")
        z = jnp.concatenate([jnp.ravel(player) for player in players])
        matrices, offsets = self.matrices.astype(z.dtype), self.offsets.astype(z.dtype)
        return tuple(z @ (matrix @ z) / 2 + offset @ z for matrix, offset in zip(matrices, offsets))

    def equilibria(self) -> tuple[Players, ...]:
        xp, parts = _namespace((self.matrices, self.offsets)), _parts(self.shapes)
        # As arrays of their own kind first: within a traced function slices of known JAX arrays would be tracers.
        matrices, offsets = xp.asarray(self.matrices), xp.asarray(self.offsets)
        matrix = xp.concatenate([whole[part] for whole, part in zip(matrices, parts)])
        offset = xp.concatenate([whole[part] for whole, part in zip(offsets, parts)])
        z = -xp.linalg.lstsq(matrix, offset, rcond=None)[0]
        z = z - xp.linalg.lstsq(matrix, matrix @ z + offset, rcond=None)[0]  # one step of refinement
        if is_concrete(z):
            scale = np.max(np.abs(matrix)) * np.max(np.abs(z)) + np.max(np.abs(offset))
            if np.max(np.abs(matrix @ z + offset)) > np.finfo(z.dtype).eps ** 0.5 * scale:
                return ()
        return (as_players([z[part].reshape(shape) for part, shape in zip(parts, self.shapes)]),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        blocks = [
            [[[2.0, 0.5], [0.5, 1.0]], [[1.0], [-2.0]], [[0.5, 0.0], [0.0, 1.0]]],
            [[[-1.0, 2.0]], [[0.5]], [[3.0, -1.0]]],
            [[[0.0, -1.0], [1.0, 0.0]], [[-3.0], [1.0]], [[1.0, -0.25], [-0.25, 1.5]]],
        ]
        offsets = [[1.0, 0.0], [-0.5], [0.0, 2.0]]
        players = jnp.asarray([1.0, -1.0]), jnp.asarray([0.5]), jnp.asarray([0.0, 1.0])
        return cls(blocks, offsets), players


def _parts(shapes: Shapes) -> list[slice]:
    ends = list(accumulate(int(np.prod(shape)) for shape in shapes))
    return [slice(start, end) for start, end in zip([0, *ends], ends)]


def _leaf(value: Any) -> Array:
    value = as_leaf(value)
    return value * 1.0 if jnp.issubdtype(value.dtype, jnp.integer) else value


def _namespace(values: Any) -> Any:
    """NumPy where the numbers are known, which compiles nothing; JAX while tracing."""
    return np if is_concrete(values) else jnp


def _check_symmetric(matrix: Array, name: str) -> None:
    if not is_concrete(matrix):
        return
    values = np.asarray(matrix)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name} is {values}; expected finite numbers")
    gap = np.max(np.abs(values - values.T), initial=0)
    if gap > 1e3 * jnp.finfo(matrix.dtype).eps * np.max(np.abs(values), initial=0):
        raise ValueError(
            f"{name} differs from its transpose by {gap:g}; expected a symmetric matrix, as second "
            "derivatives are. Use (matrix + matrix.T) / 2, or move the antisymmetric part into the "
            "coupling of two players."
        )


def _from_rows(rows: list[list[Array]]) -> tuple[Shapes, Array]:
    count = len(rows)
    if not count or any(len(row) != count for row in rows):
        raise ValueError(
            f"blocks has rows of {[len(row) for row in rows]} blocks; expected n rows of n blocks, one per player"
        )
    for i in range(count):
        shape = rows[i][i].shape
        if shape != () and (len(shape) != 2 or shape[0] != shape[1]):
            raise ValueError(
                f"blocks[{i}][{i}] has shape {shape}; expected a square matrix, or a number for a scalar "
                "player. Whole matrices M_i need the players' shapes as well, e.g. shapes=((2,), (3,))."
            )
        _check_symmetric(rows[i][i], f"blocks[{i}][{i}]")
    shapes = tuple(rows[i][i].shape[:1] for i in range(count))
    for i in range(count):
        for j in range(count):
            if rows[i][j].shape != shapes[i] + shapes[j]:
                raise ValueError(
                    f"blocks[{i}][{j}] has shape {rows[i][j].shape}; expected {shapes[i] + shapes[j]}, "
                    f"the shapes of players {i} and {j}"
                )
    xp, sizes = _namespace(rows), [int(np.prod(shape)) for shape in shapes]
    rows = [[xp.reshape(rows[i][j], (sizes[i], sizes[j])) for j in range(count)] for i in range(count)]

    def whole(player):
        of_player = rows[player]
        blocks = [[xp.zeros((m, n), of_player[0].dtype) for n in sizes] for m in sizes]
        for other in range(count):
            blocks[player][other], blocks[other][player] = of_player[other], of_player[other].T
        blocks[player][player] = (of_player[player] + of_player[player].T) / 2
        return xp.block(blocks)

    return shapes, xp.stack([whole(player) for player in range(count)])


def _from_matrices(matrices: list[Array], shapes: Shapes) -> Array:
    total = sum(int(np.prod(shape)) for shape in shapes)
    matrix_shapes = [matrix.shape for matrix in matrices]
    if not shapes or matrix_shapes != [(total, total)] * len(shapes):
        raise ValueError(
            f"blocks holds matrices of shapes {matrix_shapes}; expected one of shape {(total, total)} for each of "
            f"the {len(shapes)} players of shapes {shapes}. Without shapes, blocks[i][j] couples player i with j."
        )
    for i, matrix in enumerate(matrices):
        _check_symmetric(matrix, f"blocks[{i}]")
    xp = _namespace(matrices)
    return xp.stack([(matrix + matrix.T) / 2 for matrix in matrices])


def _from_offsets(offsets: Any, shapes: Shapes, dtype: Any) -> Array:
    parts = _parts(shapes)
    total = parts[-1].stop
    if offsets is None:
        return jnp.zeros((len(shapes), total), dtype)
    if len(offsets) != len(shapes):
        raise ValueError(f"{len(offsets)} offsets for {len(shapes)} players; expected one per player")
    leaves = [_leaf(offset) for offset in offsets]
    xp = _namespace(leaves)
    rows = []
    for i, (part, shape) in enumerate(zip(parts, shapes)):
        if leaves[i].shape not in (shape, (total,)):
            raise ValueError(
                f"offsets[{i}] has shape {leaves[i].shape}; expected {shape}, that of player {i}, "
                f"or {(total,)} for all of b_{i}"
            )
        around = (part.start, total - part.stop) if leaves[i].shape == shape else (0, 0)
        rows.append(xp.pad(xp.ravel(leaves[i]), around))
    return jnp.asarray(xp.stack(rows), dtype)


@partial(jax.jit, static_argnames="sizes")
def _similar(key: PRNGKeyArray, normal: Array, free: Array, non_normality: Array, sizes: tuple[int, ...]) -> Array:
    """`S K S^-1`: K is `normal` turned among the parameters `free`, S keeps every player's block symmetric."""
    total = sum(sizes)
    draws = jax.random.normal(key, (2 * total + 1, total), normal.dtype)
    rotation = _orthogonal(draws[:total], jnp.outer(free, free))
    normal = rotation.T @ normal @ rotation
    parts = _parts(tuple((size,) for size in sizes))
    blocks = jax.scipy.linalg.block_diag(*(np.ones((size, size)) for size in sizes))
    # Scaling along the eigenvectors of a symmetric block keeps the block symmetric.
    vectors = jax.scipy.linalg.block_diag(*(jnp.linalg.eigh(normal[part, part])[1] for part in parts))
    rotation = _orthogonal(draws[total:-1], blocks)
    stretch = jnp.exp(non_normality * draws[-1])
    return ((rotation * stretch) @ vectors.T) @ normal @ ((vectors / stretch) @ rotation.T)


def _orthogonal(draws: Array, mask: Array) -> Array:
    """A uniformly distributed orthogonal matrix within each block of the mask, out of standard normal draws."""
    q, r = jnp.linalg.qr(jnp.where(mask, draws, jnp.eye(len(draws), dtype=draws.dtype)))
    return jnp.where(mask, q * jnp.sign(jnp.diagonal(r)), jnp.eye(len(draws), dtype=draws.dtype))


def _real_and_pairs(eigenvalues: Any) -> tuple[list[float], list[complex]]:
    values = np.asarray(eigenvalues, complex).ravel()
    if not np.all(np.isfinite(values)):
        raise ValueError(f"eigenvalues are {values.tolist()}; expected finite numbers")
    reals = [float(value.real) for value in values if value.imag == 0]
    pairs = []
    lower = [value for value in values if value.imag < 0]
    for value in values[np.imag(values) > 0]:
        near = min(lower, key=lambda other: abs(other - value.conjugate()), default=None)
        if near is None or abs(near - value.conjugate()) > 1e-6 * abs(value):
            raise ValueError(f"eigenvalue {value} has no conjugate among {values.tolist()}; expected complex pairs")
        lower.remove(near)
        pairs.append(complex(value))
    if lower:
        raise ValueError(f"eigenvalue {lower[0]} has no conjugate among {values.tolist()}; expected complex pairs")
    return reals, pairs


def _match(free: list[list[int]], count: int, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Take `count` pairs of parameters of two players out of `free`, always from the two fullest players."""
    matched = []
    for _ in range(count):
        by_size = sorted(range(len(free)), key=lambda i: -len(free[i]))[:2]
        if len(by_size) < 2 or not free[by_size[1]]:
            raise ValueError(
                f"{count} complex pairs for players of sizes {sizes}; expected at most "
                f"{min(sum(sizes) // 2, sum(sizes) - max(sizes))}: a player's own block is symmetric, so that a "
                "pair needs a parameter of each of two players. Make the sizes more equal, or use fewer pairs."
            )
        p, q = (free[i].pop(0) for i in by_size)
        matched.append((p, q))
    return matched
