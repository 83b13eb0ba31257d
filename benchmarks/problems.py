"""The games of the benchmarks, written as a user writes them, with their numbers and what they are compared with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from native import CONSENSUS_WEIGHT, Native, Result

import dynamics as dy

OBJECTIVES = {
    "non_saturating": dy.objectives.NonSaturating(),
    "minimax": dy.objectives.Minimax(),
    "wasserstein": dy.objectives.Wasserstein(),
    "least_squares": dy.objectives.LeastSquares(),
    "hinge": dy.objectives.Hinge(),
}
PLANAR = (*OBJECTIVES, "bilinear", "torus")
HALF = 10  # numbers of a player of the larger games
MATRIX_RATE = 0.01
CHECKED = 8  # games whose end is compared with a reference


class RungeKutta4(diffrax.AbstractERK):
    """The classical method; the estimate of its error, which steps of a fixed length do not need, is zero."""

    tableau = diffrax.ButcherTableau(
        c=np.array([0.5, 0.5, 1.0]),
        b_sol=np.array([1, 2, 2, 1]) / 6,
        b_error=np.zeros(4),
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
    )
    interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


SOLVERS = {"rk4": RungeKutta4(), "tsit5": diffrax.Tsit5()}


@dataclasses.dataclass(frozen=True)
class Problem:
    """An ensemble: what `dy.sweep` gets, and the same in C.

    Attributes:
        game, method: their names.
        build, axes: of the sweep, side by side.
        duration: steps, or the time and the options of a flow.
        steps: how many there are.
        precise: float32 or float64.
        size: numbers per game.
        native: `(program, judge, threads) -> Result`, or `None` where there is no C.
        reference: `(program, steps)`: the end of the first games in more digits, shape (size, games).
        given: matrices and starts of the games that have matrices.
    """

    game: str
    method: str
    build: Callable[..., Any]
    axes: dict[str, Any]
    duration: dict[str, Any]
    steps: int
    precise: type
    size: int
    native: Callable[..., Result] | None
    reference: Callable[[Native, int], np.ndarray]
    given: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def games(self) -> int:
        return max(np.size(axis.values if _is_seeds(axis) else axis) for axis in self.axes.values())

    def inputs(self) -> dict[str, np.ndarray]:
        """The axes as arrays, one entry per game."""
        return {
            name: np.asarray(axis.values, np.uint32) if _is_seeds(axis) else np.asarray(axis)
            for name, axis in self.axes.items()
        }

    def shortened(self, steps: int) -> "Problem":
        """The same map with fewer steps."""
        return dataclasses.replace(self, duration=self.duration | dict(steps=steps), steps=steps)

    def built(self, values: dict[str, Any]) -> Any:
        """Game, method and players of one game, with a random key in place of a seed."""
        given = {name: jax.random.key(value) if name == "seed" else value for name, value in values.items()}
        return self.build(**given)


def _is_seeds(axis: Any) -> bool:
    return isinstance(axis, dy.ensembles.designs.Seeds)


def planar_game(name: str, number: Any) -> dy.Game:
    """A game of two numbers; `number` is the weight of R1, or the game's own."""
    if name == "bilinear":
        return dy.games.Bilinear(number)
    if name == "torus":
        return dy.games.Torus(number, number)
    return dy.games.DiracGAN(OBJECTIVES[name], dy.penalties.R1(number))


def update(method: str, rate: Any) -> dy.updates.Update:
    """The method with one rate for both players."""
    descent = dy.optimisers.sgd(rate)
    if method == "alternating":
        return dy.updates.Alternating(descent, descent)
    if method == "extragradient":
        return dy.updates.Extragradient(descent, descent, extrapolation=rate)
    if method == "consensus":
        return dy.updates.Simultaneous(descent, descent, direction=dy.directions.Consensus(CONSENSUS_WEIGHT))
    if method == "optimistic":
        return dy.updates.Simultaneous(dy.optimisers.optimistic(rate), dy.optimisers.optimistic(rate))
    return dy.updates.Simultaneous(descent, descent)


def planar(game: str, method: str, precise: type, games: int, steps: int, wide: bool = False) -> Problem:
    """Every game with a start, a rate and a weight (or number) of its own.

    Args:
        wide: draw rates and numbers from ranges in which all outcomes occur.
    """
    draw = np.random.default_rng(0)
    starts = draw.normal(size=(games, 2)).T.astype(precise)
    span, top = ((0.01, 0.5), 2.0) if wide else ((0.005, 0.02), 0.1)
    uniform = draw.uniform(size=(games, 2)).T
    rate = np.exp(np.log(span[0]) + uniform[0] * np.log(span[1] / span[0])).astype(precise)
    number = (uniform[1] * top).astype(precise)

    def build(x, y, rate, number):
        return planar_game(game, number), update(method, rate), (x, y)

    some = slice(CHECKED)
    return Problem(
        game, method, build, dict(x=starts[0], y=starts[1], rate=rate, number=number), dict(steps=steps), steps,
        precise, 2,
        lambda code, judge, threads: code.small(game, method, starts, np.stack([rate, number]), steps, judge, threads),
        lambda code, count: code.reference(game, method, starts[:, some], np.stack([rate, number])[:, some], count),
    )  # fmt: skip


def lorenz_losses(rho: Any) -> Callable:
    """The Lorenz system as a game of three players, each of which pulls its coordinate: v_i = -dL_i/dx_i."""

    def losses(players, key=None):
        x, y, z = players
        return 5 * x**2 - 10 * x * y, y**2 / 2 - x * y * (rho - z), 4 * z**2 / 3 - x * y * z

    return losses


def flow(game: str, method: str, precise: type, games: int, steps: int, step: float) -> Problem:
    """The flow of the Dirac-GAN (a weight and a start per game), or the Lorenz system (a rho per game)."""
    draw = np.random.default_rng(0)
    if game == "lorenz":
        # In any order: errors are those of the first games.
        number = draw.permutation(np.linspace(0, 21, games)).astype(precise)
        starts = np.repeat(np.array([[1], [0], [0]], precise), games, axis=1)
        more = [np.full(games, precise(8 / 3))]

        def build(rho):
            return dy.Game.from_losses(lorenz_losses(rho)), dy.flows.Flow(), (1.0, 0.0, 0.0)

        axes = dict(rho=number)
    else:
        starts = draw.normal(size=(games, 2)).T.astype(precise)
        # So small that the ends are not: errors are relative to them.
        number, more = draw.uniform(0, 0.02, size=games).astype(precise), []

        def build(x, y, number):
            return planar_game(game, number), dy.flows.Flow(), (x, y)

        axes = dict(x=starts[0], y=starts[1], number=number)
    lengths = np.full(games, precise(step))
    duration = dict(
        until=step * steps, dt0=step, solver=SOLVERS[method],
        stepsize_controller=diffrax.ConstantStepSize(), max_steps=steps + 16,
    )  # fmt: skip
    finer = 16 if step > 0.005 else 4  # the reference is of order four
    exact = np.stack([lengths / finer, number, *more])[:, :CHECKED].astype(float)
    return Problem(
        game, method, build, axes, duration, steps, precise, len(starts),
        lambda code, judge, threads: code.small(
            game, method, starts, np.stack([lengths, number]), steps, judge, threads
        ),
        lambda code, count: code.reference(game, "rk4", starts[:, :CHECKED], exact, count * finer),
    )  # fmt: skip


def drawn(key: Any, precise: type) -> tuple[Any, ...]:
    """The matrices and the start of a game of two players with ten numbers each."""
    numbers = jax.random.normal(key, (3 * HALF + 2, HALF), precise)
    coupling, *noise = (numbers[i * HALF : (i + 1) * HALF] / HALF**0.5 for i in range(3))
    own, other = (0.01 * (part @ part.T + jnp.eye(HALF, dtype=precise)) for part in noise)
    return own, coupling, other, (numbers[-2], numbers[-1])


def matrix_game(name: str, parts: tuple[Any, ...]) -> dy.Game:
    """A quadratic game, or one with tanh couplings, of ten and ten numbers."""
    own, coupling, other, _ = parts
    if name == "quadratic":
        return dy.games.Quadratic([[own, coupling], [-coupling.T, other]])

    def losses(players, key=None):
        x, y = players
        return x @ own @ x / 2 + x @ jnp.tanh(coupling @ y), y @ other @ y / 2 - y @ jnp.tanh(coupling.T @ x)

    return dy.Game.from_losses(losses)


def matrices(name: str, precise: type, games: int, steps: int) -> Problem:
    """Games with matrices of their own, drawn by `build` from a seed; C gets them ready-made."""

    def build(seed):
        parts = drawn(seed, precise)
        return matrix_game(name, parts), update("simultaneous", MATRIX_RATE), parts[3]

    made: list[Any] = []

    def given() -> tuple[np.ndarray, np.ndarray]:
        if not made:
            every = jax.jit(jax.vmap(lambda seed: drawn(jax.random.key(seed), precise)))
            own, coupling, other, start = jax.device_get(every(np.arange(games, dtype=np.uint32)))
            whole = np.empty((games, 2 * HALF, 2 * HALF), precise)
            whole[:, :HALF, :HALF], whole[:, :HALF, HALF:] = own, coupling
            whole[:, HALF:, :HALF], whole[:, HALF:, HALF:] = -np.swapaxes(coupling, 1, 2), other
            made.append((whole, np.concatenate(start, axis=1).T))
        return made[0]

    def exact(code: Native, count: int) -> np.ndarray:
        whole, start = (np.asarray(part, np.longdouble) for part in given())
        whole, z = whole[:CHECKED], start[:, :CHECKED].T.copy()
        rate = np.longdouble(precise(MATRIX_RATE))
        for _ in range(count):
            if name == "quadratic":
                z -= rate * np.matmul(whole, z[:, :, None])[:, :, 0]
                continue
            sides = np.zeros_like(whole)
            sides[:, :HALF, :HALF], sides[:, HALF:, HALF:] = whole[:, :HALF, :HALF], whole[:, HALF:, HALF:]
            z -= rate * (np.matmul(sides, z[:, :, None]) + np.tanh(np.matmul(whole - sides, z[:, :, None])))[:, :, 0]
        return z.T

    def native(code: Native, judge: bool, threads: int) -> Result:
        whole, start = given()
        return code.quadratic(whole, start, MATRIX_RATE, steps, judge, threads)

    seeds = dy.ensembles.seeds(games)
    native = native if name == "quadratic" else None
    return Problem(
        name, "simultaneous", build, dict(seed=seeds), dict(steps=steps), steps, precise, 2 * HALF,
        native, exact, given,
    )  # fmt: skip
