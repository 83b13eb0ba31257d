"""Two time scales: every ratio of the players' rates at which the flow changes its stability."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._plain import plain
from dynamics._printing import Described
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.equilibria.precision import as_point
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS
from dynamics.analysis.stability.certificates import keeps_its_side
from dynamics.analysis.stability.fixed_point import equilibrium_of
from dynamics.analysis.stability.verdict import stability
from dynamics.flows import Flow
from dynamics.game import Game, Players

EXACT_SIZE = 50  # parameters up to which the thresholds come from one eigenvalue problem of size n (n + 1) / 2


@dataclasses.dataclass(frozen=True)
class Crossing:
    """A ratio at which eigenvalues cross the imaginary axis.

    Attributes:
        ratio: tau.
        frequency: imaginary part of the crossing eigenvalue, >= 0; 0 for a real one.
        unstable_below, unstable_above: number of eigenvalues with a positive real part on both sides.
    """

    ratio: float
    frequency: float
    unstable_below: int
    unstable_above: int


@dataclasses.dataclass(frozen=True)
class TimescaleThreshold(Described):
    r"""Where the flow $\dot x = D_\tau v(x)$ is stable, as a function of the ratio $\tau$ of the rates.

    Attributes:
        value: tau*: every ratio above it is stable; 0 when all are, infinite when no ratio is large enough, NaN when
            rounding errors hide the answer for large ratios.
        frequency: angular frequency of the crossing at tau*, 0 for a real eigenvalue, NaN without a crossing.
        crossings: all ratios at which the number of unstable eigenvalues changes, in increasing order.
        stable: the intervals of stable ratios, pairs (low, high); high may be infinite.
        undecided: the intervals in which rounding errors hide the answer.
        exact: from one eigenvalue problem; otherwise found on a fine grid, where pairs of crossings may be missed.
        players: the point.
        fast: the players whose rate is multiplied by tau.
    """

    value: float
    frequency: float
    crossings: tuple[Crossing, ...]
    stable: tuple[tuple[float, float], ...]
    undecided: tuple[tuple[float, float], ...]
    exact: bool
    players: Players
    fast: tuple[int, ...]

    def describe(self) -> str:
        """The result as text."""
        if math.isnan(self.value):
            lines = ["undecided: for large ratios an eigenvalue cannot be told from the imaginary axis"]
        elif self.value == 0:
            lines = ["stable for every ratio of the time scales"]
        elif math.isinf(self.value):
            lines = ["no ratio is large enough: the flow is not stable as the ratio grows"]
        else:
            how = f"a pair at +-{self.frequency:.6g}i crosses" if self.frequency else "a real eigenvalue crosses 0"
            lines = [f"stable for every ratio above {self.value:.10g}, where {how}"]
        if self.crossings:
            lines.append("crossings at " + ", ".join(f"{crossing.ratio:.6g}" for crossing in self.crossings))
            shown = [f"({low:.6g}, {high:.6g})" for low, high in self.stable]
            lines.append("stable ratios: " + (", ".join(shown) or "none"))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; what is not finite is `None`."""
        return plain(
            {
                "value": self.value,
                "frequency": self.frequency,
                "crossings": [dataclasses.asdict(crossing) for crossing in self.crossings],
                "stable": self.stable,
                "undecided": self.undecided,
                "exact": self.exact,
                "fast": self.fast,
            }
        )


def timescale_threshold(
    game: Game, at: Any = None, *, fast: int | tuple[int, ...] = 1, key: PRNGKeyArray | None = None
) -> TimescaleThreshold:
    r"""The ratio tau* of the players' rates above which every ratio is stable, and all other thresholds.

    The flow is $\dot x_i = v_i$ for slow and $\dot x_j = \tau v_j$ for fast players, with Jacobian
    $J_\tau = J_0 + \tau J_1$. Two of its eigenvalues add up to 0 exactly where $X\mapsto J_\tau X + X J_\tau^\top$ is
    singular on symmetric matrices: a linear eigenvalue problem in tau, whose real positive solutions are the
    candidates; those with an eigenvalue on the axis are kept and polished by Newton's method. For a strict local
    minimax point of a zero-sum game the last one is the tau* of Fiez and Ratliff, Local Convergence Analysis of
    Gradient Descent Ascent with Finite Timescale Separation, 2021, theorem 1; here players may be of unequal sizes,
    games general-sum, and of any number of players. Directions along a manifold of equilibria do not count.

    Args:
        game: the game.
        at: a tuple of players, an equilibrium; default the game's first known one.
        fast: the player, or players, whose rate is multiplied by tau.
        key: for a game that can only be sampled: the batch is frozen.

    Raises:
        EquilibriumError: the point is no equilibrium, or the flow is marginal for every ratio.
        ValueError: a fast player that is none, or no slow one.

    >>> from dynamics.games import Torus
    >>> round(timescale_threshold(Torus()).value, 10)  # 0.85 / 1.15
    0.7391304348
    """
    players = equilibrium_of(game) if at is None else as_point(at, "at")
    try:
        fast = tuple(operator.index(player) for player in (fast if isinstance(fast, (tuple, list)) else (fast,)))
    except TypeError as error:
        raise ValueError(f"fast is {fast!r}; expected the number of a player, or a tuple of them") from error
    if not fast or not set(fast) < set(range(len(players))):
        raise ValueError(f"fast is {fast}; expected some of the players 0 to {len(players) - 1}, not all of them")
    report = stability(game, Flow(), at=players, key=key, order="linear")
    if report.smoothness in ("kinked", "discontinuous"):
        raise EquilibriumError(
            f"the field is {report.smoothness} at the point: one linearisation does not tell its stability. Look at "
            "dynamics.stability, whose verdict takes all pieces."
        )
    jacobian = np.asarray(report.jacobian)
    epsilon = float(np.finfo(jacobian.dtype).eps)
    jacobian = jacobian.astype(float)
    sizes = [_trees.size(player) for player in players]
    is_fast = np.repeat([player in fast for player in range(len(players))], sizes)
    slow_part, fast_part = np.where(is_fast[:, None], 0, jacobian), np.where(is_fast[:, None], jacobian, 0)
    # In units in which both groups of players are equally fast at the ratio 1.
    slow_size, fast_size = (float(np.linalg.norm(part)) or 1.0 for part in (slow_part, fast_part))
    slow_part, fast_part, unit = slow_part / slow_size, fast_part / fast_size, slow_size / fast_size
    if report.neutral:  # J_tau has the same null vectors for every tau
        complement = np.linalg.svd(slow_part + fast_part)[2][: len(jacobian) - report.neutral].T
        slow_part, fast_part = (complement.T @ part @ complement for part in (slow_part, fast_part))
    rounding = 8 * np.sqrt(len(jacobian)) * epsilon

    def at_ratio(ratio: float) -> np.ndarray:
        return slow_part + ratio * fast_part

    exact = len(slow_part) <= EXACT_SIZE
    candidates = _exact(slow_part, fast_part) if exact else np.geomspace(1e-8, 1e8, 4001)
    if candidates is None:
        raise EquilibriumError(
            "eigenvalues stay on the imaginary axis for every ratio of the time scales (a purely rotating game, such "
            "as a bilinear one): no ratio is stable to first order. Add a penalty, or another direction or update."
        )
    if exact:
        polished = (_polish(slow_part, fast_part, ratio) for ratio in candidates)
        ratios = _distinct([ratio for ratio in polished if ratio is not None])
    else:
        ratios = _bracketed(at_ratio, candidates)
    # Some ratios in every interval between neighbouring candidates: nothing changes within one.
    if ratios:
        far = np.array([2.0, 10.0, 100.0, 1e4])
        inner = [[math.sqrt(a * b)] for a, b in zip(ratios, ratios[1:], strict=False)]
        between = [list(ratios[0] / far), *inner, list(ratios[-1] * far)]
    else:
        between = [[1.0, 0.01, 100.0]]
    unstable, proved = [], []
    for some in between:
        sure = [ratio for ratio in some if keeps_its_side(at_ratio(ratio), rounding * (1 + ratio), IMAGINARY_AXIS)]
        unstable.append(_unstable(at_ratio((sure or some)[0])))
        proved.append(bool(sure))
    crossings = tuple(
        Crossing(unit * ratio, slow_size * _frequency(at_ratio(ratio)), below, above)
        for ratio, below, above in zip(ratios, unstable, unstable[1:], strict=False)
        if below != above
    )
    edges = [0.0, *(unit * ratio for ratio in ratios), math.inf]
    stable: list[tuple[float, float]] = []
    undecided: list[tuple[float, float]] = []
    for low, high, count, sure in zip(edges, edges[1:], unstable, proved, strict=False):
        if not sure:
            undecided.append((low, high))
        elif count == 0:
            if stable and stable[-1][1] == low and not any(crossing.ratio == low for crossing in crossings):
                low = stable.pop()[0]  # a candidate at which nothing changes
            stable.append((low, high))
    value = stable[-1][0] if stable and math.isinf(stable[-1][1]) else math.inf
    if undecided and math.isinf(undecided[-1][1]):
        value = math.nan
    last = [crossing.frequency for crossing in crossings if crossing.ratio == value]
    return TimescaleThreshold(
        value, last[0] if last else math.nan, crossings, tuple(stable), tuple(undecided), exact, players, fast
    )


def _unstable(matrix: np.ndarray) -> int:
    return int(np.sum(np.linalg.eigvals(matrix).real > 0))


def _frequency(matrix: np.ndarray) -> float:
    values = np.linalg.eigvals(matrix)
    frequency = float(np.abs(values[np.argmin(np.abs(values.real))].imag))
    return frequency if frequency > 1e-7 * (1 + np.linalg.norm(matrix)) else 0.0


def _exact(slow: np.ndarray, fast: np.ndarray) -> np.ndarray | None:
    """Positive ratios at which two eigenvalues add up to 0; `None` when they do for every ratio."""
    constant, linear = _lyapunov_operator(slow), _lyapunov_operator(fast)
    # A ratio at which the operator is far from singular, so that the problem becomes an ordinary one.
    shifts = np.array([0.618, 1.414, 3.7, 0.21, 11.3])
    operators = [constant + shift * linear for shift in shifts]
    conditions = [np.linalg.cond(operator) for operator in operators]
    best = int(np.argmin(conditions))
    if not conditions[best] < 1e13:
        return None
    shift = shifts[best]
    inverse = np.linalg.eigvals(np.linalg.solve(operators[best], linear))
    with np.errstate(all="ignore"):
        ratios = shift - 1 / inverse
    real = np.isfinite(ratios) & (np.abs(ratios.imag) <= 1e-4 * np.abs(ratios))
    # Ratios 0 and infinity, where one group of players stands still, come out as numbers near them.
    real &= (ratios.real > 1e-12) & (ratios.real < 1e12)
    return np.sort(ratios[real].real)


def _lyapunov_operator(matrix: np.ndarray) -> np.ndarray:
    """The matrix of X -> A X + X A' on symmetric matrices, in the basis of the entries on and below the diagonal."""
    size = len(matrix)
    rows, columns = np.tril_indices(size)
    basis = np.zeros((len(rows), size, size))
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = 1
    images = matrix @ basis + basis @ matrix.T
    return images[:, rows, columns].T


def _polish(slow: np.ndarray, fast: np.ndarray, ratio: float) -> float | None:
    """Newton's method for the real part of the eigenvalue nearest to the axis; `None`: none is on it."""
    start, change = ratio, math.inf
    for _ in range(20):
        values, vectors = np.linalg.eig(slow + ratio * fast)
        nearest = int(np.argmin(np.abs(values.real)))
        try:
            left = np.linalg.inv(vectors)[nearest]
        except np.linalg.LinAlgError:
            break
        slope = (left @ fast @ vectors[:, nearest]).real
        change = values[nearest].real / slope if slope else math.inf
        if not abs(change) <= 0.1 * ratio or abs(change) <= 4 * np.finfo(float).eps * ratio:
            break
        ratio -= change
    return float(ratio) if abs(change) <= 1e-7 * ratio and abs(ratio - start) <= 1e-2 * start else None


def _distinct(ratios: list[float]) -> list[float]:
    kept: list[float] = []
    for ratio in sorted(ratios):
        if not kept or ratio - kept[-1] > 1e-8 * ratio:
            kept.append(ratio)
    return kept


def _bracketed(at_ratio, grid: np.ndarray) -> list[float]:
    """Ratios at which the number of unstable eigenvalues changes between neighbours of a grid, by bisection."""
    counts = [_unstable(at_ratio(ratio)) for ratio in grid]
    roots = []
    for low, high, before, after in zip(grid, grid[1:], counts, counts[1:], strict=False):
        if before != after:
            while low < (middle := (low + high) / 2) < high:
                low, high = (middle, high) if _unstable(at_ratio(middle)) == before else (low, middle)
            roots.append(float(low))
    return roots
