"""Memory that stays where it is put, and memory whose weights fade."""

import numpy as np

from dynamics.analysis.stability.boundary import UNIT_CIRCLE, Boundary
from dynamics.analysis.stability.certificates import rounding_bound
from dynamics.analysis.stability.linearisation import Linearisation, moved_memory
from dynamics.analysis.stability.problem import JudgedPoint
from dynamics.updates.base import COUNTER_LIMIT


def may_keep_memory(jacobian: np.ndarray, players: int, epsilon: float, boundary: Boundary) -> np.ndarray:
    """Where there may be memory that stays where it is put, of Jacobians of shape (..., n, n).

    Args:
        jacobian: of the state.
        players: number of its coordinates that belong to the players; the memory comes after them.
        epsilon: of the arithmetic.
        boundary: of the method; what a flow keeps stays nowhere.
    """
    usable = np.isfinite(jacobian).all(axis=(-2, -1))
    if not boundary.discrete or jacobian.shape[-1] == players:
        return np.zeros_like(usable)
    change = np.where(usable[..., None, None], boundary.change(jacobian), 0)
    singular = np.linalg.svd(change[..., players:], compute_uv=False)
    return usable & (singular[..., -1] <= rounding_bound(jacobian, epsilon))


def kept_dimension(problem: JudgedPoint, linear: Linearisation) -> int:
    """Number of directions in which the memory stays where it is put, without an effect on the players' rest."""
    jacobian, count = np.asarray(linear.jacobian), len(linear.game_jacobian)
    if not may_keep_memory(jacobian, count, float(linear.epsilon), UNIT_CIRCLE):
        return 0
    change = UNIT_CIRCLE.change(jacobian)[:, count:]
    small = rounding_bound(jacobian, float(linear.epsilon))
    # Single numbers before combinations of several, which move them apart.
    alone = np.linalg.norm(change, axis=0) <= small
    _, singular, rows = np.linalg.svd(np.where(alone, 0, change))
    null = np.concatenate([np.eye(len(alone))[alone], rows[(singular <= small) & (np.abs(rows) @ ~alone > 0.5)]])
    null = null * np.where(null.sum(axis=1) < 0, -1, 1)[:, None]  # upwards: squares and maxima are not negative
    directions = np.pad(null, ((0, 0), (count, 0))).astype(jacobian.dtype)
    rest = problem.at_rest_state()
    defects = np.asarray(
        moved_memory(problem.game, problem.method, problem.players, problem.key, problem.noise, rest, directions)
    )
    return int(np.sum(defects <= np.finfo(jacobian.dtype).eps ** 0.5))


def has_fading(eigenvalues: np.ndarray) -> bool:
    """Whether an eigenvalue is that of a weight about one over the number of steps, held at its limit."""
    distances = np.abs(eigenvalues - 1)
    return bool(np.any((distances > 1e-3 / COUNTER_LIMIT) & (distances < 1e2 / COUNTER_LIMIT)))
