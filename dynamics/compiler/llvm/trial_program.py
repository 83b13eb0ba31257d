"""The program of the process in which machine code is tried first; see `trial`."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler.llvm import lowering, trial


def run() -> None:
    """In the child process: run a program with a loop as machine code, and by XLA, and compare."""
    trial.is_trial = True

    def program(x, y):
        def step(_, state):
            x, y = state
            return x - 0.1 * jnp.tanh(y), y + 0.1 * x

        return jax.lax.fori_loop(0, 20, step, (x, y))

    jax.devices()  # until then functions are not registered
    games = np.linspace(-1, 1, 32, dtype=np.float32)
    closed = jax.make_jaxpr(program)(games, games)
    name = lowering.compile_program(closed, len(games))
    results = jax.jit(lowering.in_machine_code(closed, len(games)))(games, games)
    np.testing.assert_allclose(results, program(games, games), rtol=1e-4, atol=1e-6)
    print(trial.PASSED, name)
