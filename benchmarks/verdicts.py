"""Attack the verdicts of dynamics.stability: games with eigenvalues placed next to the boundary, and exact truth.

    python benchmarks/verdicts.py --out benchmarks/results/verdicts.json   # some minutes; --quick: under one

A verdict may be marginal; it may never be wrong. Families:

* integer: J = S T S^-1 in exact arithmetic, S an integer matrix of determinant 1, T triangular with 2 x 2 rotations and
  Jordan blocks, every entry a float: the eigenvalues are known exactly. Points on a manifold of equilibria (the rank is
  exact) are stable when everything else is; other eigenvalues on the boundary are neutral, and no verdict is right.
* rounded: an orthogonal similarity in floating point; the truth comes from the eigenvalues of the rounded matrix in 60
  digits. It is none when an eigenvalue is within 1e-25 of the boundary.
* alternating: alternating descent on zero-sum quadratic games; the map is formed from the game's numbers in 60 digits.
* momentum: simultaneous heavy ball, likewise; players and memory.
* higher: a pair of eigenvalues exactly on the boundary, or beside it, and a nonlinear term along which a quadratic form
  of the pair grows or falls by itself, all behind bent coordinates that are inverted exactly, with further directions
  that contract. The truth is the sign of the linear part, and where that is 0 of the term; without a term neutral.
* relay: x' = A x - b sign(c x) behind the same bent coordinates, with a sliding field whose outermost eigenvalue is
  next to the boundary, or with b on the other side, where it leads away. The truth is that of Utkin's projection of A
  in 60 digits. A step of Euler's method jumps at the point, and is unstable.
"""

import argparse
import collections
import datetime
import json
import platform
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np

import dynamics as dy
from dynamics import optimisers
from dynamics.updates import Alternating, Simultaneous

SIZES = (2, 3, 5, 8, 13, 21, 34, 60)
EXPONENTS = {"f64": (10, 20, 30, 40), "f32": (6, 10, 14, 18)}  # margins of 2^-exponent: 1e-3 to 1e-12
DTYPES = {"f64": np.float64, "f32": np.float32}
BITS = {"f64": 53, "f32": 24}
STEP = 0.125


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few games")
    parser.add_argument("--games", type=int, default=40, help="games per family, size, precision and margin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes, games = ((2, 3, 5), 4) if options.quick else (SIZES, options.games)
    rows = attack(sizes, games, options.seed)
    print(table(rows))
    wrong = sum(row["wrong"] for row in rows)
    print(f"{sum(row['games'] for row in rows)} games, {wrong} wrong verdicts")
    if options.out:
        options.out.write_text(
            json.dumps(
                {
                    "date": datetime.date.today().isoformat(),
                    "machine": platform.processor() or platform.machine(),
                    "versions": {"dynamics": dy.__version__, "jax": jax.__version__, "numpy": np.__version__},
                    "seed": options.seed,
                    "wrong": wrong,
                    "rows": rows,
                },
                indent=1,
            )
        )
    raise SystemExit(bool(wrong))


def attack(sizes, games: int, seed: int = 0) -> list[dict]:
    """One row per family, kind, precision and margin, over all sizes."""
    counts = collections.defaultdict(collections.Counter)
    for family, kind, precision, exponent, size, verdict, truth in verdicts(sizes, games, seed):
        wrong = truth is not None and verdict not in ("marginal", truth)
        if truth == "boundary":  # whether a linear map grows there, by a Jordan block, is not looked at
            wrong = verdict == "stable"
        row = counts[family, kind, precision, exponent]
        row["games"] += 1
        row["wrong"] += wrong
        row["marginal"] += verdict == "marginal"
        row["undecidable"] += truth in (None, "boundary")
        if wrong:
            print(f"WRONG: {family} {kind} {precision} 2^-{exponent} size {size}: {verdict}, in truth {truth}")
    names = ("games", "wrong", "marginal", "undecidable")
    return [
        dict(zip(("family", "kind", "precision", "exponent"), key)) | {name: row[name] for name in names}
        for key, row in sorted(counts.items())
    ]


def verdicts(sizes, games: int, seed: int):
    """What the library says and what is true, game by game."""
    rng = np.random.default_rng(seed)
    for precision, exponents in EXPONENTS.items():
        for size in sizes:
            for exponent in exponents:
                for number in range(games):
                    kind = ("map", "flow")[number % 2]
                    case = integer_case(rng, size, exponent, kind, BITS[precision])
                    if case is not None:
                        matrix, truth = case
                        yield "integer", kind, precision, exponent, size, ask(matrix, kind, precision), truth
                    if size <= 8 and number < games // 4 + 1:
                        matrix = rounded_matrix(rng, size, exponent, kind, DTYPES[precision])
                        truth = truth_of(mpmath.matrix(matrix.astype(float).tolist()), kind)
                        yield "rounded", kind, precision, exponent, size, ask(matrix, kind, precision), truth
                    if size <= 5 and precision == "f64" and number < games // 2 + 1:
                        yield "higher", kind, precision, exponent, size, *higher_case(rng, size, exponent, kind)
                    if size <= 5 and precision == "f64" and number < games // 2 + 1:
                        yield "relay", kind, precision, exponent, size, *relay_case(rng, size, exponent, kind)
                    if size <= 5 and number < games // 4 + 1:
                        for family in ("alternating", "momentum"):
                            verdict, truth = composed_case(rng, size, exponent, family, DTYPES[precision])
                            yield family, "map", precision, exponent, size, verdict, truth


class LinearGame(dy.Game):
    """Scalar players and the field v = J z for any matrix J."""

    matrix: jax.Array

    def losses(self, players, key=None):
        z = jnp.stack(players)
        pulled = self.matrix @ z
        own = jnp.diagonal(self.matrix)
        return tuple(-z[i] * pulled[i] + own[i] * z[i] ** 2 / 2 for i in range(len(players)))

    def equilibria(self):
        return (tuple(jnp.zeros((), self.matrix.dtype) for _ in self.matrix),)

    @classmethod
    def example(cls):
        return cls(jnp.eye(2)), (jnp.ones(()), jnp.ones(()))


class LinearDirection(dy.directions.Direction):
    """The direction J z of one player: large games of scalar players take long to compile."""

    matrix: jax.Array

    def __call__(self, game, players, key=None):
        return (self.matrix @ players[0],)


def ask(matrix: np.ndarray, kind: str, precision: str) -> str:
    """The verdict on the map z -> A z, as a step of a game, or on the flow z' = A z."""
    dtype, size = DTYPES[precision], len(matrix)
    rates, field = 1, np.asarray(matrix, float)
    if kind == "map":
        rates, field = STEP, (field - np.eye(size)) / STEP
    field = jnp.asarray(field, dtype)
    if size <= 13:
        game, at = LinearGame(field), None
        method = Simultaneous(*[optimisers.sgd(rates)] * size) if kind == "map" else dy.flows.Flow()
    else:
        game, at = BOWL, (jnp.zeros(size, dtype),)
        direction = LinearDirection(field)
        method = dy.flows.Flow(direction)
        if kind == "map":
            method = Simultaneous(optimisers.sgd(rates), direction=direction)
    return str(dy.stability(game, method, at=at).verdict)


BOWL = dy.Game.from_losses(lambda players, key=None: (jnp.sum(players[0] ** 2) / 2,))


def integer_case(rng, size: int, exponent: int, kind: str, bits: int):
    """A matrix whose entries, and those of (A - I) / h, are floats, with its exact verdict; None: it does not fit."""
    unit = 2**exponent
    for density in (float(rng.choice([2.0, 1.0, 0.5, 0.2])), 0.2, 0.0):
        blocks, filled = [], 0
        while filled < size:
            blocks.append(_block(rng, unit, kind, size - filled, first=filled == 0))
            filled += len(blocks[-1][0])
        triangle = np.zeros((size, size), object)
        start = 0
        for block, *_ in blocks:
            triangle[start : start + len(block), start : start + len(block)] = block
            start += len(block)
        # Entries far above the diagonal couple blocks and keep the spectrum: the matrix stays block triangular.
        for i, j in zip(*np.triu_indices(size, 2)):
            if rng.random() < density / size:
                triangle[i, j] += int(rng.choice([-1, 1])) * unit
        lower, upper = (_unimodular(rng, size, density) for _ in range(2))
        factors = [lower[0], upper[0].T, triangle.astype(np.int64), upper[1].T, lower[1]]
        bound = np.linalg.multi_dot([np.abs(factor).astype(float) for factor in factors]).max()
        if bound > 2.0**61:  # the product could overflow on its way
            continue
        whole = factors[0] @ factors[1] @ factors[2] @ factors[3] @ factors[4]
        if int(np.abs(whole - np.eye(size, dtype=np.int64) * unit).max()) * 2 < 2**bits:
            worst = max(beyond for _, beyond, _ in blocks)
            truth = "stable" if worst < 0 else "unstable"
            if worst == 0:
                fixed = [block for block, beyond, _ in blocks if beyond == 0]
                at_rest = all(is_fixed for _, beyond, is_fixed in blocks if beyond == 0)
                neutral = whole - (np.eye(size, dtype=np.int64) * unit if kind == "map" else 0)
                kernel = size - _rank(neutral)
                truth = "stable" if at_rest and kernel == sum(map(len, fixed)) else "boundary"
                if truth == "boundary" and len(fixed) == 1:
                    truth = "neutral" if len(np.unique(np.diag(fixed[0]))) == len(fixed[0]) else "boundary"
            return whole / unit, truth
    return None


def _block(rng, unit: int, kind: str, room: int, first: bool):
    """A block times `unit`, the sign of its distance beyond the boundary, and whether it can be a fixed direction."""
    side = int(rng.integers(-1, 2)) if rng.random() < 0.2 else int(rng.choice([-1, 1]))
    offset = side if first else -int(rng.integers(1, unit // 2))
    shape = rng.choice(["real", "jordan", "rotation"]) if room > 1 else "real"
    if kind == "map":
        diagonal = unit + offset
        if shape == "rotation":  # eigenvalues +-i (1 + offset)
            return np.array([[0, diagonal], [-diagonal, 0]], object), np.sign(offset), False
        if rng.random() < 0.5:
            diagonal = -diagonal
    else:
        diagonal = offset
        if shape == "rotation":
            turn = int(rng.integers(1, 2 * unit))
            return np.array([[diagonal, turn], [-turn, diagonal]], object), np.sign(offset), False
    if shape == "jordan":
        length = int(min(room, rng.integers(2, 5)))
        block = np.zeros((length, length), object)
        block[np.arange(length), np.arange(length)] = diagonal
        block[np.arange(length - 1), np.arange(1, length)] = unit
        return block, np.sign(offset), diagonal > 0 or kind == "flow"
    return np.array([[diagonal]], object), np.sign(offset), diagonal > 0 or kind == "flow"


def _rank(matrix: np.ndarray) -> int:
    """Rank of an integer matrix, exactly."""
    rows, rank = [[Fraction(int(value)) for value in row] for row in matrix], 0
    for column in range(len(rows)):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            if rows[i][column]:
                factor = rows[i][column] / rows[rank][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank])]
        rank += 1
    return rank


def _unimodular(rng, size: int, density: float):
    """A lower triangular integer matrix with ones on the diagonal, and its inverse."""
    matrix, inverse = np.eye(size, dtype=np.int64), np.eye(size, dtype=np.int64)
    for _ in range(int(density * size)):
        i, j = sorted(rng.choice(size, 2, replace=False)) if size > 1 else (0, 0)
        if i != j:
            factor = int(rng.choice([-1, 1]))
            matrix[:, i] += factor * matrix[:, j]
            inverse[j] -= factor * inverse[i]
    return matrix, inverse


def rounded_matrix(rng, size: int, exponent: int, kind: str, dtype) -> np.ndarray:
    """An orthogonal similarity of a triangular matrix with one eigenvalue next to the boundary, rounded."""
    near = float(rng.choice([-1, 1])) * 2.0**-exponent
    inner = rng.uniform(-0.9, 0.9, size) if kind == "map" else -rng.uniform(0.1, 2, size)
    inner[0] = (1 + near) * rng.choice([-1, 1]) if kind == "map" else near
    triangle = np.diag(inner) + np.triu(rng.normal(size=(size, size)), 1) * rng.choice([0.0, 1.0, 4.0])
    orthogonal, _ = np.linalg.qr(rng.normal(size=(size, size)))
    matrix = (orthogonal @ triangle @ orthogonal.T).astype(dtype)
    if kind == "flow":
        return matrix
    # What the game holds is (A - I) / h, rounded; the map that is judged follows from it.
    field = ((matrix.astype(float) - np.eye(size)) / STEP).astype(dtype).astype(float)
    return np.eye(size) + STEP * field


def truth_of(matrix, kind: str) -> str | None:
    """The verdict in 60 digits; None when an eigenvalue cannot be told from the boundary."""
    with mpmath.workdps(60):
        values = mpmath.eig(matrix, left=False, right=False)
        distance = max(abs(value) - 1 if kind == "map" else mpmath.re(value) for value in values)
        if abs(distance) < mpmath.mpf(10) ** -25:
            return None
        return "unstable" if distance > 0 else "stable"


def composed_case(rng, size: int, exponent: int, family: str, dtype):
    """A zero-sum quadratic game whose rate puts the map's radius next to 1, and the verdict of the exact map."""
    m = max(1, size // 2)
    n = size - m
    own, other = (np.diag(rng.uniform(0.2, 1.0, k)).astype(dtype) for k in (m, n))
    coupling = rng.normal(size=(m, n)).astype(dtype)
    game = dy.games.Quadratic.zero_sum(own, coupling, other)
    beta = float(np.asarray(rng.uniform(-0.5, 0.5), dtype))

    def matrix(rate: float):
        with mpmath.workdps(60):
            h, b = mpmath.mpf(rate), mpmath.mpf(beta)
            jacobian = mpmath.matrix(np.block([[-own, -coupling], [coupling.T, -other]]).astype(float).tolist())
            identity = mpmath.eye(size)
            if family == "momentum":  # state (z, u): u <- b u + J z, z <- z + h u
                whole = mpmath.matrix(2 * size)
                whole[:size, :size], whole[:size, size:] = identity + h * jacobian, h * b * identity
                whole[size:, :size], whole[size:, size:] = jacobian, b * identity
                return whole
            first, second = mpmath.zeros(size), mpmath.zeros(size)
            for i in range(m):
                first[i, i] = 1
            for i in range(m, size):
                second[i, i] = 1
            return (identity + h * second * jacobian) * (identity + h * first * jacobian)

    def radius(rate: float) -> float:
        numbers = np.array(matrix(rate).tolist(), float).reshape(-1)
        side = int(np.sqrt(numbers.size))
        return float(np.abs(np.linalg.eigvals(numbers.reshape(side, side))).max())

    low, high = 0.0, 1.0
    while radius(high) < 1:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) < 1 else (low, middle)
    rate = float(np.asarray(high * (1 + float(rng.choice([-1, 1])) * 2.0**-exponent), dtype))
    if family == "momentum":
        update = Simultaneous(*[optimisers.momentum(rate, beta)] * 2)
    else:
        update = Alternating(*[optimisers.sgd(rate)] * 2)
    return str(dy.stability(game, update, at=(jnp.zeros(m, dtype), jnp.zeros(n, dtype))).verdict), truth_of(
        matrix(rate), "map"
    )


class AnyDirection(dy.directions.Direction):
    """The direction of one player by a function of it and of numbers."""

    numbers: jax.Array
    function: Callable = eqx.field(static=True)

    def __call__(self, game, players, key=None):
        return (self.function(self.numbers, players[0]),)


def bend(numbers, z, sign=1):
    """(x, y, ...) -> (x + a y^2 + b y^3, y, ...), or its inverse."""
    return z.at[0].add(sign * (numbers[4] * z[1] ** 2 + numbers[5] * z[1] ** 3))


def straight(numbers, z, kind: str):
    """In coordinates in which the quadratic form of the pair grows by a factor of its own alone."""
    b, c, weight, shift = numbers[:4]
    x, y, rest = z[0], z[1], z[2:]
    if kind == "map":
        form = c * x**2 - b * c * x * y + b * y**2
        factor = (1 + shift) * (1 + weight * form)
        first = x - b * y
        return jnp.concatenate([jnp.stack([factor * first, factor * (y + c * first)]), rest / 2 + x * y])
    grown = shift + weight * (c * x**2 + b * y**2)
    return jnp.concatenate([jnp.stack([grown * x - b * y, grown * y + c * x]), x * y - rest])


def bent_map(numbers, z):
    return (bend(numbers, straight(numbers, bend(numbers, z, -1), "map")) - z) / STEP


def bent_flow(numbers, z):
    u = bend(numbers, z, -1)
    return jax.jvp(lambda u: bend(numbers, u), (u,), (straight(numbers, u, "flow"),))[1]


def higher_case(rng, size: int, exponent: int, kind: str) -> tuple[str, str]:
    """The verdict on a planar pair behind bent coordinates, and the truth; all numbers have a few bits."""
    b, c = rng.integers(1, 12, 2) / 16  # without resonance up to order 4
    weight, shift = rng.choice([-1, 0, 1]) * 2.0 ** -rng.integers(0, exponent), rng.choice([-1, 0, 0, 0, 1]) * 2.0**-40
    bends = rng.integers(-4, 5, 2) / 4 * (weight != 0)
    numbers = jnp.asarray([b, c, weight, shift, *bends])
    direction = AnyDirection(numbers, bent_map if kind == "map" else bent_flow)
    flow = dy.flows.Flow(direction)
    method = Simultaneous(optimisers.sgd(STEP), direction=direction) if kind == "map" else flow
    verdict = str(dy.stability(BOWL, method, at=(jnp.zeros(size),)).verdict)
    sign = np.sign(shift) or np.sign(weight)
    return verdict, {-1: "stable", 0: "neutral", 1: "unstable"}[int(sign)]


def relay_flow(numbers, z):
    """A relay in bent coordinates; the numbers: four that are not used, the two of the bend, A, b and c."""
    size = len(z)
    matrix = numbers[6 : 6 + size**2].reshape(size, size)
    drive, row = numbers[6 + size**2 :].reshape(2, size)
    u = bend(numbers, z, -1)
    slope = matrix @ u - drive * jnp.sign(row @ u)
    return jax.jvp(lambda u: bend(numbers, u), (u,), (slope,))[1]


def relay_case(rng, size: int, exponent: int, kind: str) -> tuple[str, str | None]:
    """The verdict on a relay, and the truth."""
    matrix, (drive, row) = rng.normal(size=(size, size)), rng.normal(size=(2, size))
    drive = drive if drive @ row > 0 else -drive
    drive *= 1 if drive @ row > 0.1 else 3

    def sliding(matrix):
        projected = matrix - np.outer(drive, row @ matrix) / (row @ drive)
        tangents = np.linalg.svd(row[None])[2][1:]
        return tangents @ projected @ tangents.T

    margin = rng.choice([-1, 1]) * 2.0**-exponent
    matrix = matrix + (margin - np.linalg.eigvals(sliding(matrix)).real.max()) * np.eye(size)
    away = rng.random() < 0.2
    numbers = jnp.asarray(
        [0, 0, 0, 0, *(rng.integers(-4, 5, 2) / 4), *matrix.ravel(), *(-drive if away else drive), *row]
    )
    direction = AnyDirection(numbers, relay_flow)
    method = Simultaneous(optimisers.sgd(STEP), direction=direction) if kind == "map" else dy.flows.Flow(direction)
    verdict = str(dy.stability(BOWL, method, at=(jnp.zeros(size),)).verdict)
    if kind == "map" or away:
        return verdict, "unstable"
    with mpmath.workdps(60):
        whole, b, c = (mpmath.matrix(array.tolist()) for array in (matrix, drive, row))
        projected = whole - b * (c.T * whole) / (c.T * b)[0]
        values = sorted(mpmath.eig(projected, left=False, right=False), key=abs)[1:]  # without the 0 across
        distance = max(mpmath.re(value) for value in values)
    return verdict, None if abs(distance) < 1e-25 else "unstable" if distance > 0 else "stable"


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = ["| family | kind | type | margin | games | wrong | marginal | on the boundary |", "|" + " --- |" * 8]
    for row in rows:
        lines.append(
            f"| {row['family']} | {row['kind']} | {row['precision']} | 2^-{row['exponent']} | {row['games']} | "
            f"{row['wrong']} | {row['marginal']} | {row['undecidable']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
