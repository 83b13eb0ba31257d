"""A look at the first kernel of a process: whether it computes what XLA computes.

How XLA launches a kernel is promised by nobody, nor that this driver takes this PTX. So a small program runs in both
ways before any kernel is used in earnest. It has what sweeps' programs have: loops within loops, one of a length that
is known when it runs, rows that are read and written, flags and counters, elementary functions, both precisions, and
more than one block of threads, the last one not full. Rounding does not grow in it, and flips no flag: XLA has other
elementary functions, of less accuracy in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler._jax import ClosedJaxpr, jaxpr_as_fun
from dynamics.compiler.errors import text

GAMES = 300
ROWS = 5
TOLERANCE = 200  # units in the last place of 1: the numbers are about 1

Runner = Callable[..., Sequence[Any]]


def _run(rate: Any, start: Any, rows: Any, steps: Any) -> tuple[Any, ...]:
    """A damped step with what the programs of sweeps are made of, for games in the last axis."""

    def step(_: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        x, y = state
        pull = jnp.exp(-jnp.abs(x * y)) + jnp.tanh(y) + jnp.log1p(x * x) / jnp.sqrt(1 + y * y) + jnp.cos(y)
        moved = x - rate * (x + y * jax.nn.sigmoid(pull))
        return jnp.where(moved > 0, moved, moved * 0.75), y + rate * (pull - 2 * y)

    def stretch(carry: tuple[Any, ...], row: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        x, y, count = carry
        x, y = jax.lax.fori_loop(0, steps, step, (x, y))
        flag = row > start
        return (x, y + row * rate, count + flag.astype(jnp.int32)), (jnp.stack([x, y]), flag)

    (x, y, count), (path, flags) = jax.lax.scan(stretch, (start, 1 - start, jnp.zeros(start.shape, jnp.int32)), rows)
    return x, y, count, path, flags


def example(dtype: Any) -> tuple[ClosedJaxpr, list[Any]]:
    """The program and its inputs."""
    rate = np.linspace(0.05, 0.4, GAMES).astype(dtype)
    start = np.cos(np.arange(GAMES)).astype(dtype)
    inputs = [rate, start, np.linspace(-1, 1, ROWS).astype(dtype), np.int32(7)]
    return jax.make_jaxpr(_run)(*inputs), inputs


def problem(run: Runner, device: Any) -> str | None:
    """What is wrong with kernels on a device, or `None` if nothing is.

    Args:
        run: runs a program in a kernel: a traceable function of the program, the number of games and the inputs.
        device: of JAX.
    """
    for dtype in (jnp.float32, jnp.float64) if jax.config.jax_enable_x64 else (jnp.float32,):
        try:
            program, inputs = example(dtype)
            inputs = jax.device_put(inputs, device)
            ours = jax.device_get(jax.jit(lambda *arrays, program=program: run(program, GAMES, *arrays))(*inputs))
            xlas = jax.device_get(jax.jit(jaxpr_as_fun(program))(*inputs))
        except Exception as error:  # whatever JAX, XLA, LLVM or the driver say
            return f"kernels do not run on {device.device_kind}: {type(error).__name__}: {text(error)}"
        far = _difference(ours, xlas)
        if far is not None:
            return f"a kernel on {device.device_kind} computes other numbers than XLA: {far}"
    return None


def _difference(ours: Sequence[np.ndarray], xlas: Sequence[np.ndarray]) -> str | None:
    if len(ours) != len(xlas):
        return f"{len(ours)} results instead of {len(xlas)}"
    for number, (one, other) in enumerate(zip(ours, xlas, strict=True)):
        one, other = np.asarray(one), np.asarray(other)
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return f"result {number} is {one.dtype}{list(one.shape)}, not {other.dtype}{list(other.shape)}"
        if np.issubdtype(other.dtype, np.floating):
            bound = TOLERANCE * np.finfo(other.dtype).eps
            wrong = ~(np.abs(one - other) <= bound * (1 + np.abs(other)))
        else:
            wrong = one != other
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            return f"{np.sum(wrong)} of {wrong.size} in result {number}, {one[place]} for {other[place]} at {place}"
    return None
