"""Hypothesis strategies for numbers, arrays and matrices; they shrink to what a reader can check."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

Shape = tuple[int, ...]


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Real numbers between two bounds, both included; they shrink to whole numbers, halves, quarters ...

    Where 0 is between the bounds, numbers below 1e-9 in modulus are 0.

    Args:
        low, high: the bounds.

    Raises:
        ValueError: the bounds are not finite, or in the wrong order.

    >>> import hypothesis
    >>> hypothesis.find(numbers(-1, 4), lambda number: number > 1.2)
    2.0
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"the bounds are {low} and {high}; expected two finite numbers, the smaller one first")
    floats = st.floats(float(low), float(high), allow_nan=False, allow_infinity=False, allow_subnormal=False)
    return floats.map(_without_dust) if low <= 0 <= high else floats


def _without_dust(number: float) -> float:
    """0 for numbers far below any scale of a game, whose squares would underflow."""
    return number if abs(number) > 1e-9 else 0.0


def signed(low: float, high: float) -> st.SearchStrategy[float]:
    """Real numbers of either sign with a modulus between two bounds, for example for what must not vanish.

    Args:
        low, high: the bounds of the modulus, both included, >= 0.

    Raises:
        ValueError: the bounds are not finite, or in the wrong order.

    >>> import hypothesis
    >>> hypothesis.find(signed(1, 4), lambda number: number < 0)
    -1.0
    """
    return st.builds(lambda size, negative: -size if negative else size, numbers(low, high), st.booleans())


def several(strategy: st.SearchStrategy, count: int) -> st.SearchStrategy[tuple]:
    """So many values of one strategy; much faster than a list of fixed length.

    Args:
        strategy: of one value.
        count: how many.

    Returns:
        tuples of this length.

    >>> import hypothesis
    >>> hypothesis.find(several(numbers(0, 4), 2), lambda pair: sum(pair) > 1.5)
    (0.0, 2.0)
    """
    return st.tuples(*[strategy] * count)


def arrays(*shapes: Shape, size: float = 4.0) -> st.SearchStrategy[np.ndarray]:
    """Arrays of numbers between -size and size; they shrink to small whole numbers, most of them 0.

    Args:
        shapes: one of these, the simplest first. Every shape compiles a program of its own.
        size: the largest modulus of a number.

    >>> import hypothesis
    >>> hypothesis.find(arrays((2,), (2, 2)), lambda array: array.sum() > 0.5).tolist()
    [0.0, 1.0]
    """

    def of_shape(shape: Shape) -> st.SearchStrategy[np.ndarray]:
        return several(numbers(-size, size), int(np.prod(shape))).map(lambda values: np.reshape(values, shape))

    return st.one_of([of_shape(shape) for shape in shapes])


def rotations(size: int) -> st.SearchStrategy[np.ndarray]:
    """Rotation matrices, by Cayley's formula (I - K)(I + K)^-1 of a skew matrix K; they shrink to the identity.

    Args:
        size: rows and columns.

    Returns:
        arrays of shape (size, size), determinant 1.

    >>> import hypothesis
    >>> hypothesis.find(rotations(2), lambda rotation: rotation[0, 0] < 0.5).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """

    def cayley(entries: Sequence[float]) -> np.ndarray:
        skew = np.zeros((size, size))
        skew[np.triu_indices(size, 1)] = entries
        skew = skew - skew.T
        return np.linalg.solve((np.eye(size) + skew).T, (np.eye(size) - skew).T).T

    return several(numbers(-2, 2), size * (size - 1) // 2).map(cayley)


def matrices_with_singular_values(
    low: float, high: float, choices: Sequence[Shape] = ((1, 1), (2, 3))
) -> st.SearchStrategy[np.ndarray]:
    """Matrices all of whose singular values lie between two bounds; they shrink to diagonal ones.

    Args:
        low, high: the bounds of the singular values, both included.
        choices: shapes, the simplest first. Every shape compiles a program of its own.

    Raises:
        ValueError: the bounds are not finite, or in the wrong order.

    >>> import hypothesis
    >>> hypothesis.find(matrices_with_singular_values(1, 2, ((1, 2),)), lambda matrix: True).tolist()
    [[1.0, 0.0]]
    """

    def of_shape(shape: Shape) -> st.SearchStrategy[np.ndarray]:
        rows, columns = shape

        def build(singular: Sequence[float], left: np.ndarray, right: np.ndarray) -> np.ndarray:
            middle = np.zeros(shape)
            np.fill_diagonal(middle, singular)
            return left @ middle @ right.T

        return st.builds(build, several(numbers(low, high), min(shape)), rotations(rows), rotations(columns))

    return st.one_of([of_shape(shape) for shape in choices])


def definite_matrices(low: float, high: float, size: int) -> st.SearchStrategy[np.ndarray]:
    """Symmetric matrices all of whose eigenvalues lie between two bounds; they shrink to diagonal ones.

    Args:
        low, high: the bounds of the eigenvalues, both included.
        size: rows and columns.

    Raises:
        ValueError: the bounds are not finite, or in the wrong order.

    >>> import hypothesis
    >>> hypothesis.find(definite_matrices(1, 2, size=2), lambda matrix: True).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def build(values: Sequence[float], rotation: np.ndarray) -> np.ndarray:
        matrix = rotation @ np.diag(values) @ rotation.T
        return (matrix + matrix.T) / 2

    return st.builds(build, several(numbers(low, high), size), rotations(size))
