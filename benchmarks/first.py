"""How long a new process takes to its first result: without anything on disk, and when others have compiled it before.

    python benchmarks/first.py            # two minutes on a quiet machine
    python benchmarks/first.py --games 100

Every row is a process of its own. **off**: with `DYNAMICS_CACHE=off`; **first**: with an empty folder; **second**: with
what that one has kept; **second, JAX**: with what XLA has compiled as well (`jax_compilation_cache_dir`). Seconds of
CPU time: of all imports, of the first `dy.sweep`, what of it was LLVM, and of the second `dy.sweep`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLANAR, MATRIX = "planar", "10+10"
COLUMNS = ("imports", "first sweep", "LLVM", "second sweep")


def measured(name: str, games: int) -> dict[str, float]:
    """In this process: CPU time of what comes first, by stages."""
    import time

    clock = time.process_time
    times = dict.fromkeys(COLUMNS, 0.0)
    begin = clock()
    import jax
    import numpy as np
    import xarray  # noqa: F401 (a sweep returns a dataset of it)

    import dynamics as dy

    sys.path.insert(0, str(HERE))
    import problems

    _ = dy.sweep
    times["imports"] = clock() - begin
    from dynamics.compiler.llvm import jit

    def timed(module, function, column):
        inner = getattr(module, function)

        def outer(*arguments, **named):
            begin = clock()
            try:
                return inner(*arguments, **named)
            finally:
                times[column] += clock() - begin

        setattr(module, function, outer)

    timed(jit, "_object_code", "LLVM")
    if name == PLANAR:
        problem = problems.planar("non_saturating", "alternating", np.float32, games, 1_000)
    else:
        problem = problems.matrices("quadratic", np.float32, games, 1_000)
    settings = problem.duration | dict(design="zip", predict=False, dtype=problem.precise)
    jax.block_until_ready(jax.numpy.ones(3))
    for column in ("first sweep", "second sweep"):
        begin = clock()
        dy.sweep(problem.build, problem.axes, **settings)
        times[column] = clock() - begin
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=1_000)
    parser.add_argument("--here", choices=(PLANAR, MATRIX), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here is not None:
        print(json.dumps(measured(options.here, options.games)))
        return
    print(f"| games | process | {', s | '.join(COLUMNS)}, s |\n{'| --- ' * (2 + len(COLUMNS))}|")
    for name in (PLANAR, MATRIX):
        with tempfile.TemporaryDirectory() as folder:
            machine_code = {"DYNAMICS_CACHE": f"{folder}/dynamics"}
            both = machine_code | {
                "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            processes = {
                "off": {"DYNAMICS_CACHE": "off"},
                "first": machine_code,
                "second": machine_code,
                "first, JAX": both,
                "second, JAX": both,
            }
            for process, settings in processes.items():
                command = [sys.executable, __file__, "--here", name, "--games", str(options.games)]
                done = subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True)
                times = json.loads(done.stdout)
                print(f"| {name} | {process} | {' | '.join(f'{times[one]:.2f}' for one in COLUMNS)} |", flush=True)


if __name__ == "__main__":
    main()
