"""What amplitude equations of third order say of the origin."""

import itertools

import numpy as np

MOST_FACES = 8  # amplitudes whose combinations are all looked at


def attracts(cubic: np.ndarray, errors: np.ndarray) -> bool | None:
    r"""Whether the origin of $\dot r_k=r_k\sum_ja_{kj}r_j^2$, $r\ge0$, attracts (`True`), repels (`False`), or neither.

    With $s_k=r_k^2$ the function $\sum_kw_ks_k$ falls along all solutions if $-(WA+A^\top W)$ is strictly copositive;
    of two amplitudes a weight for that exists just if the diagonal is negative and $a_{12}a_{21}<a_{11}a_{22}$ or one
    of the couplings is not positive. Solutions along a ray, $s=c(t)\sigma$ with $\sigma>0$ on some of the amplitudes
    and $A\sigma=1$ there, leave. `None`: neither can be shown for all matrices within the errors.
    Source: Guckenheimer and Holmes, Nonlinear Oscillations, Dynamical Systems and Bifurcations of Vector Fields, 1983,
    section 7.5; for copositivity: Hadeler, On Copositive Matrices, 1983.

    Args:
        cubic: A, shape (m, m).
        errors: bounds on the errors of its entries.

    >>> attracts(np.array([[-1.0, 3.0], [0.2, -1.0]]), np.zeros((2, 2)))
    True
    >>> attracts(np.array([[-1.0, 3.0], [0.5, -1.0]]), np.zeros((2, 2)))
    False
    """
    upper, lower, count = cubic + errors, cubic - errors, len(cubic)
    if np.any(np.diag(lower) > 0):
        return False
    if np.all(np.diag(upper) < 0):
        weights = [np.ones(count)]
        if count == 2 and upper[0, 1] > 0 and upper[1, 0] > 0:
            weights.append(np.sqrt([upper[1, 0], upper[0, 1]]))
        elif count == 2:
            weights += [np.array([1.0, scale]) for scale in 10.0 ** np.arange(-12, 13)]
        for weight in weights:
            form = weight[:, None] * upper
            if is_strictly_copositive(-(form + form.T)):
                return True
    if count <= MOST_FACES and _has_leaving_ray(cubic, errors):
        return False
    return None


def is_strictly_copositive(matrix: np.ndarray) -> bool:
    """Whether $s^T M s>0$ for all s >= 0 but 0, of a symmetric matrix; `False` beyond `MOST_FACES` rows: not known.

    It is just if no principal submatrix has an eigenvector > 0 with an eigenvalue <= 0 (Kaplan, 2000).
    """
    count = len(matrix)
    if np.any(np.diag(matrix) <= 0):
        return False
    if np.all(matrix >= 0) or np.linalg.eigvalsh(matrix)[0] > 1e-12 * np.max(np.abs(matrix)):
        return True
    if count > MOST_FACES:
        return False
    slack = 1e-12 * np.max(np.abs(matrix))
    for size in range(2, count + 1):
        for rows in itertools.combinations(range(count), size):
            values, vectors = np.linalg.eigh(matrix[np.ix_(rows, rows)])
            for value, vector in zip(values, vectors.T, strict=True):
                if value <= slack and (np.all(vector > -1e-9) or np.all(vector < 1e-9)):
                    return False
    return True


def _has_leaving_ray(cubic: np.ndarray, errors: np.ndarray) -> bool:
    count = len(cubic)
    for size in range(2, count + 1):
        for rows in itertools.combinations(range(count), size):
            part, wrong = cubic[np.ix_(rows, rows)], errors[np.ix_(rows, rows)]
            if np.linalg.cond(part) > 1e8:
                continue
            ray = np.linalg.solve(part, np.ones(size))
            # Within the errors the ray moves by at most this, to first order.
            moved = np.abs(np.linalg.inv(part)) @ (wrong @ np.abs(ray))
            if np.all(ray - 4 * moved > 1e-9 * np.max(np.abs(ray))):
                return True
    return False
