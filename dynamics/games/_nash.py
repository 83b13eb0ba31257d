"""All Nash equilibria of a game of two players with finitely many actions, by the vertices of two polytopes."""

import dataclasses
import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph

from dynamics._plain import plain_fields
from dynamics._printing import Described
from dynamics.game import Players

MOST_BASES = 200_000  # linear systems that are solved for one polytope, at most; 10 x 10 actions need 184,756
CHUNK = 20_000  # of them at a time
TOLERANCE = 1e-9  # of slacks, for payoffs between 1 and 2


@dataclasses.dataclass(frozen=True)
class NashEquilibria(Described):
    """All Nash equilibria of a bimatrix game: finitely many points, or the corners of connected sets.

    Iterating gives the points.

    Attributes:
        points: the extreme equilibria, every one a pair of probability vectors; pure ones first, then by supports.
        components: numbers of the points of each connected set of equilibria. A set of one point is an isolated
            equilibrium; one of several points is a union of convex sets whose corners they are.
        degenerate: some strategy has more best answers than actions that it uses, up to rounding (payoffs that differ
            by less than 1e-9 of their range count as equal). Otherwise all points are isolated, and odd in number.
        gaps: what the players could gain at the points by best answers, added up: 0 but for rounding.
    """

    points: tuple[Players, ...]
    components: tuple[tuple[int, ...], ...]
    degenerate: bool
    gaps: tuple[float, ...]

    def __iter__(self):
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Players:
        return self.points[index]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON."""
        return plain_fields(self, points=[[np.asarray(player) for player in point] for point in self.points])

    def describe(self) -> str:
        """The equilibria as text, one line each."""
        kind = "degenerate game, " if self.degenerate else ""
        lines = [f"{kind}{len(self.points)} extreme equilibria in {len(self.components)} connected sets"]
        for number, members in enumerate(self.components):
            for member in members:
                first, second = (np.array2string(np.asarray(p), precision=6) for p in self.points[member])
                together = f"set {number}" if len(members) > 1 else "isolated"
                lines.append(f"  {first} against {second} ({together})")
        return "\n".join(lines)


def nash_equilibria_of(first: np.ndarray, second: np.ndarray) -> NashEquilibria:
    r"""All Nash equilibria for the payoffs A and B, shape (m, n), of the two players.

    With payoffs made positive, an equilibrium is a pair of corners, other than 0, of
    $P=\{x\ge0: B^\top x\le1\}$ and $Q=\{y\ge0: Ay\le1\}$ at which every action is either not played or a best answer
    (it "has every label"), each divided by its sum. All corners are computed, by all choices of m (n) of the m + n
    inequalities.

    Raises:
        ValueError: there are more than 200,000 choices.

    Source: Mangasarian, Equilibrium Points of Bimatrix Games, 1964; Avis, Rosenberg, Savani, von Stengel, Enumeration
    of Nash Equilibria for Two-Player Games, 2010, for the connected sets.
    """
    rows, columns = first.shape
    count = math.comb(rows + columns, rows)
    if count > MOST_BASES:
        raise ValueError(
            f"a game of {rows} x {columns} actions has {count} candidates for a corner; all equilibria are enumerated "
            f"up to {MOST_BASES} (10 x 10 actions). For one of them, learn: dynamics.updates.FictitiousPlay, or logits "
            "and dynamics.find_equilibrium"
        )
    dtype = np.result_type(first, second)
    # Labels: rows first, then columns, for both players.
    mixed, best = _corners(_positive(second).T)
    corners_of_first = mixed, np.concatenate([mixed <= TOLERANCE, best], axis=1)
    mixed, best = _corners(_positive(first))
    corners_of_second = mixed, np.concatenate([best, mixed <= TOLERANCE], axis=1)
    (xs, labels_of_x), (ys, labels_of_y) = corners_of_first, corners_of_second
    degenerate = bool(np.any(labels_of_x.sum(1) > rows) or np.any(labels_of_y.sum(1) > columns))
    pairs = [
        (i, int(j))
        for i in range(len(xs))
        if np.any(xs[i] > TOLERANCE)
        for j in np.flatnonzero(np.all(labels_of_x[i] | labels_of_y, axis=1))
        if np.any(ys[j] > TOLERANCE)
    ]
    degenerate |= len(pairs) % 2 == 0  # regular games have an odd number: two corners were not told apart
    xs, ys = (np.where(p > TOLERANCE, p, 0.0) for p in (xs, ys))

    def order(pair):
        x, y = xs[pair[0]], ys[pair[1]]
        return np.count_nonzero(x) + np.count_nonzero(y), tuple(x <= 0), tuple(y <= 0), tuple(-x), tuple(-y)

    pairs.sort(key=order)
    points = [(xs[i] / xs[i].sum(), ys[j] / ys[j].sum()) for i, j in pairs]
    gaps = [float(np.max(first @ y) - x @ first @ y + np.max(x @ second) - x @ second @ y) for x, y in points]
    return NashEquilibria(
        tuple(tuple(jnp.asarray(p, dtype) for p in point) for point in points),
        _connected(pairs),
        degenerate,
        tuple(gaps),
    )


def _positive(payoffs: np.ndarray) -> np.ndarray:
    """Payoffs between 1 and 2, which changes no best answer."""
    values = np.asarray(payoffs, float)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) + 1 if high > low else np.ones_like(values)


def _corners(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of {z >= 0: Mz <= 1}, and which of the inequalities Mz <= 1 hold with equality at each of them."""
    count, size = matrix.shape
    sides, right = np.concatenate([-np.eye(size), matrix]), np.concatenate([np.zeros(size), np.ones(count)])
    choices = itertools.combinations(range(size + count), size)
    parts: list[np.ndarray] = []
    while chosen := list(itertools.islice(choices, CHUNK)):
        systems = sides[np.array(chosen)]
        regular = np.abs(np.linalg.det(systems)) > 1e-6
        if not np.all(regular):  # a small determinant may be one of a regular matrix
            singular = np.linalg.svd(systems[~regular], compute_uv=False)
            regular[~regular] = singular[:, -1] > TOLERANCE * singular[:, 0]
        systems, values = systems[regular], right[np.array(chosen)][regular]
        if not len(systems):
            continue
        corners = np.linalg.solve(systems, values[..., None])[..., 0]
        parts.append(corners[np.all(corners @ sides.T <= right + TOLERANCE, axis=1)])
    corners = np.concatenate(parts)
    # One corner may come from several choices.
    _, kept = np.unique(np.round(corners / (8 * TOLERANCE)), axis=0, return_index=True)
    distinct: list[np.ndarray] = []
    for corner in corners[np.sort(kept)]:
        if not distinct or np.min(np.max(np.abs(np.array(distinct) - corner), axis=1)) > 16 * TOLERANCE:
            distinct.append(corner)
    corners = np.array(distinct)
    return corners, np.abs(corners @ matrix.T - 1) <= 4 * TOLERANCE


def _connected(pairs: list[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Pairs that share a corner are connected."""
    if not pairs:
        return ()
    ends = np.array(pairs)
    touching = (ends[:, None, 0] == ends[None, :, 0]) | (ends[:, None, 1] == ends[None, :, 1])
    number, labels = scipy.sparse.csgraph.connected_components(touching, directed=False)
    sets = [tuple(np.flatnonzero(labels == label).tolist()) for label in range(number)]
    return tuple(sorted(sets))
