"""Who is timed: functions without arguments that run a whole ensemble, and return its end as an array.

Every function here takes a `Problem` and returns a `Rival`. What is compiled is compiled at the first call.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from native import Native
from problems import HALF, MATRIX_RATE, Problem

import dynamics as dy
from dynamics import _trees

C_END, C_OUTCOME = "C, end", "C, outcome"
SWEEP, VMAP, VMAP_OUTCOME = "sweep", "vmap, end", "vmap, outcome"
STEP, NUMPY, TORCH = "jitted step", "NumPy", "PyTorch"
OPTAX, NUMBA = "optax loop", "numba"
DIFFRAX, DIFFRAX_EULER, DIFFRAX_ADAPTIVE = "diffrax", "diffrax Euler", "diffrax adaptive"


@dataclasses.dataclass
class Rival:
    """One who is timed.

    Attributes:
        run: does the work and returns the players at the end, shape (numbers, games), and what else was found.
        compiles: whether the first call takes longer than the others.
        steps, games: where they are not those of the problem.
        notes: for the result.
    """

    run: Callable[[], Any]
    compiles: bool = True
    steps: int = 0
    games: int = 0
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


def in_c(problem: Problem, code: Native, judge: bool, threads: int = 1) -> Rival:
    """The C program: final states only, or the outcome as well."""

    def run():
        found = problem.native(code, judge, threads)
        return found.final, found

    return Rival(run, compiles=False)


def sweep(problem: Problem, **options: Any) -> Rival:
    """`dy.sweep`: outcome, rate, period, residual, steps to tolerance and final state."""

    def run():
        settings = problem.duration | dict(design="zip", predict=False, dtype=problem.precise) | options
        found = dy.sweep(problem.build, problem.axes, **settings)
        names = [name for name in found if name.startswith("player_")]
        ends = [found[name].values for name in names]
        return np.concatenate([end.reshape(end.shape[0], -1).T for end in ends]), found

    return Rival(run)


def vmapped(problem: Problem, judge: bool) -> Rival:
    """`jax.vmap` of `dy.simulate`, with or without outcomes."""

    def one(values):
        game, method, players = _trees.cast(problem.built(values), problem.precise)
        return dy.simulate(game, method, players, save_every="last", classify=judge, **problem.duration)

    return _batched(problem, lambda values: _only(one(values), judge))


def _only(run: dy.Run, judge: bool) -> Any:
    return (run.final, run.outcome, run.rate, run.period) if judge else (run.final,)


def diffrax_flow(problem: Problem, adaptive: bool, games: int = 0) -> Callable[[float], Rival]:
    """`jax.vmap` of diffrax's solver itself: the same steps, or steps of its choice for an accuracy.

    Returns:
        a function from the accuracy to the rival, so that many accuracies need one program.
    """
    until = problem.precise(problem.duration["until"])
    given = dict(problem.duration)

    def one(values, accuracy):
        game, method, players = _trees.cast(problem.built(values), problem.precise)
        state = method.init(game, players)
        term = diffrax.ODETerm(lambda t, y, args: method.field(game, t, type(state)(y, ())).players)
        control, step = given["stepsize_controller"], jnp.asarray(given["dt0"], problem.precise)
        if adaptive:
            control, step = diffrax.PIDController(rtol=accuracy, atol=accuracy), None
        solution = diffrax.diffeqsolve(
            term, given["solver"], problem.precise(0), until, step, state.players,
            stepsize_controller=control, max_steps=10**6, adjoint=diffrax.ForwardMode(), throw=False,
        )  # fmt: skip
        return jax.tree.map(lambda leaf: leaf[-1], solution.ys), solution.stats["num_steps"]

    inputs = jax.device_put({name: axis[: games or None] for name, axis in problem.inputs().items()})
    program = jax.jit(jax.vmap(one, (0, None)))

    def rival(accuracy: float) -> Rival:
        def run():
            found = jax.block_until_ready(program(inputs, problem.precise(accuracy)))
            return _rows(found[0]), found[1]

        return Rival(run, games=games, notes=dict(accuracy=accuracy) if adaptive else {})

    return rival


def diffrax_euler(problem: Problem, steps: int) -> Rival:
    """Euler's method of diffrax, which makes the very steps of simultaneous descent."""

    def one(values):
        game, _, players = _trees.cast(problem.built(values), problem.precise)
        rate = jnp.asarray(values.get("rate", 0.01), problem.precise)  # time is counted in steps
        term = diffrax.ODETerm(lambda t, y, args: jax.tree.map(lambda v: rate * v, game.field(y)))
        zero, whole = jnp.zeros((), problem.precise), jnp.ones((), problem.precise)
        solution = diffrax.diffeqsolve(
            term, diffrax.Euler(), zero, steps * whole, whole, players, max_steps=None, adjoint=diffrax.ForwardMode()
        )  # fmt: skip
        return (jax.tree.map(lambda leaf: leaf[-1], solution.ys),)

    rival = _batched(problem, one)
    rival.steps = steps
    return rival


def jitted_step(problem: Problem, steps: int) -> Rival:
    """One step of all games, compiled, called from a Python loop."""

    def first(values):
        game, method, players = _trees.cast(problem.built(values), problem.precise)
        return method.init(game, players)

    def step(values, state):
        game, method, _ = _trees.cast(problem.built(values), problem.precise)
        return method.step(game, state)

    inputs = jax.device_put(problem.inputs())
    begin = jax.jit(jax.vmap(first))
    once = jax.jit(jax.vmap(step))

    def run():
        state = begin(inputs)
        for _ in range(steps):
            state = once(inputs, state)
        return _rows(jax.block_until_ready(state.players)), None

    return Rival(run, steps=steps)


def _batched(problem: Problem, one: Callable) -> Rival:
    inputs = jax.device_put(problem.inputs())
    program = jax.jit(jax.vmap(one))

    def run():
        found = jax.block_until_ready(program(inputs))
        return _rows(found[0]), found[1:]

    return Rival(run, steps=problem.steps)


def _rows(players: Any) -> np.ndarray:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(players)]
    return np.concatenate([leaf.reshape(len(leaf), -1).T for leaf in leaves])


def numpy_loop(problem: Problem, steps: int) -> Rival:
    """The field by hand, one whole array after the other."""
    return Rival(lambda: (_descent(problem, np, steps, lambda array: array), None), compiles=False, steps=steps)


def optax_loop(problem: Problem, steps: int) -> Rival:
    """`jax.vmap` of a training loop as a user writes it: two losses, `jax.grad`, optax, `jax.lax.scan`."""

    def losses(number, x, y):
        if problem.game == "quadratic":
            own, coupling, other = number[:HALF, :HALF], number[:HALF, HALF:], number[HALF:, HALF:]
            return x @ own @ x / 2 + x @ coupling @ y, y @ other @ y / 2 - x @ coupling @ y
        if problem.game == "bilinear":
            return number * x * y, -number * x * y
        return jax.nn.softplus(x * y), jax.nn.softplus(-x * y) + number * y**2 / 2

    def one(number, rate, x, y):
        optimiser = optax.sgd(rate)

        def step(carried, _):
            x, y, memory_x, memory_y = carried
            slope_x = jax.grad(lambda x: losses(number, x, y)[0])(x)
            slope_y = jax.grad(lambda y: losses(number, x, y)[1])(y)
            move_x, memory_x = optimiser.update(slope_x, memory_x)
            move_y, memory_y = optimiser.update(slope_y, memory_y)
            return (optax.apply_updates(x, move_x), optax.apply_updates(y, move_y), memory_x, memory_y), None

        begin = x, y, optimiser.init(x), optimiser.init(y)
        (x, y, *_), _ = jax.lax.scan(step, begin, length=steps)
        return x, y

    if problem.game == "quadratic":
        whole, start = problem.given()
        rates = np.full(len(whole), MATRIX_RATE, problem.precise)
        given = whole, rates, start[:HALF].T, start[HALF:].T
    else:
        inputs = problem.inputs()
        given = tuple(inputs[name] for name in ("number", "rate", "x", "y"))
    given = jax.device_put(given)
    program = jax.jit(jax.vmap(one))
    return Rival(lambda: (_rows(jax.block_until_ready(program(*given))), None), steps=steps)


def numba_loop(problem: Problem, steps: int) -> Rival:
    """The formulas by hand, game by game, compiled by numba for one core.

    Raises:
        ImportError: numba is not installed.
    """
    import numba

    if problem.game == "quadratic":

        @numba.njit
        def descend(matrix, start, rate, steps):
            z = start.copy()
            field = np.empty_like(z[0])
            for game in range(len(z)):
                for _ in range(steps):
                    for i in range(field.size):
                        total = field.dtype.type(0)
                        for j in range(field.size):
                            total += matrix[game, i, j] * z[game, j]
                        field[i] = total
                    for i in range(field.size):
                        z[game, i] -= rate * field[i]
            return z

        whole, start = problem.given()
        given = np.ascontiguousarray(whole), np.ascontiguousarray(start.T), problem.precise(MATRIX_RATE)
        return Rival(lambda: (descend(*given, steps).T, None), steps=steps, notes=dict(numba=numba.__version__))
    bilinear = problem.game == "bilinear"

    @numba.njit
    def run(x, y, rates, numbers, steps):
        ends = np.empty((2, len(x)), x.dtype)
        one, zero = x.dtype.type(1), x.dtype.type(0)
        for game in range(len(x)):
            a, b, rate, number = x[game], y[game], rates[game], numbers[game]
            for _ in range(steps):
                if bilinear:
                    v, w = -number * b, number * a
                else:
                    t = a * b
                    decay = np.exp(-abs(t))
                    large = one / (one + decay)
                    small = decay * large
                    v = -b * (large if t >= zero else small)
                    w = a * (small if t >= zero else large) - number * b
                a, b = a + rate * v, b + rate * w
            ends[0, game], ends[1, game] = a, b
        return ends

    given = [np.ascontiguousarray(problem.inputs()[name]) for name in ("x", "y", "rate", "number")]
    return Rival(lambda: (run(*given, steps), None), steps=steps, notes=dict(numba=numba.__version__))


def torch_loop(problem: Problem, steps: int, threads: int) -> Rival:
    """Likewise on tensors of PyTorch, without its derivatives.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch

    def run():
        torch.set_num_threads(threads)
        with torch.no_grad():
            return np.asarray(_descent(problem, torch, steps, lambda array: torch.from_numpy(np.array(array)))), None

    return Rival(run, compiles=False, steps=steps, notes=dict(torch=torch.__version__))


def _descent(problem: Problem, xp: Any, steps: int, convert: Callable) -> Any:
    """Simultaneous descent on one of three games, by formulas for arrays of all games."""
    if problem.game == "quadratic":
        whole, start = problem.given()
        matrix, z = convert(whole), convert(np.ascontiguousarray(start.T))[:, :, None]
        rate = float(problem.precise(0.01))
        for _ in range(steps):
            z = z - rate * xp.matmul(matrix, z)
        return z[:, :, 0].T
    x, y, rate, number = (convert(problem.inputs()[name]) for name in ("x", "y", "rate", "number"))
    for _ in range(steps):
        if problem.game == "bilinear":
            v, w = -number * y, number * x
        else:
            decay = xp.exp(-xp.abs(t := x * y))
            large = 1 / (1 + decay)
            small, positive = decay * large, t >= 0
            v, w = -y * xp.where(positive, large, small), x * xp.where(positive, small, large) - number * y
        x, y = x + rate * v, y + rate * w
    return xp.stack([x, y])
