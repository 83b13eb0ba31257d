"""What one small call of `dynamics.simulate` or `dynamics.sweep` costs: warm, and with other numbers or losses.

    python benchmarks/calls.py             # half a minute on a quiet machine
    python benchmarks/calls.py --steps 500
    python benchmarks/calls.py --sweeps    # of dynamics.sweep, with other numbers in every call

Milliseconds: the first call, and the median and the least of many more. Of `simulate` wall time, of which on a busy
machine only the least means anything; of sweeps CPU time.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
import problems

import dynamics as dy

CALLS = 300


def milliseconds(call: Callable[[], object]) -> float:
    """Wall time of one call and of its results."""
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - begin)


def measured(steps: int) -> list[tuple[str, float, float, float]]:
    """What was called, the first call, and the median and the least of later ones."""
    game = dy.games.Bilinear(1.0)
    update = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.1))
    start = (1.0, 1.0)
    inside = jax.jit(lambda x, y: dy.simulate(game, update, (x, y), steps=steps, save_every="last"))
    longer = iter(range(steps + 1, steps + 2 + 2 * CALLS))

    def made_anew() -> object:
        losses = dy.Game.from_losses(lambda p, key=None: (p[0] * p[1], -p[0] * p[1]))
        return dy.simulate(losses, update, start, steps=steps, save_every="last")

    kinds = {
        "inside jit, the end": lambda: inside(*start),
        "the end": lambda: dy.simulate(game, update, start, steps=steps, save_every="last"),
        "the end, another number of steps every time": lambda: dy.simulate(
            game, update, start, steps=next(longer), save_every="last"
        ),
        "all steps": lambda: dy.simulate(game, update, start, steps=steps),
        "losses made anew": made_anew,
    }
    rows = []
    for name, call in kinds.items():
        first = milliseconds(call)
        later = [milliseconds(call) for _ in range(CALLS)]
        rows.append((name, first, statistics.median(later), min(later)))
    return rows


SWEEPS = ((1, 64), (10, 64), (1_000, 64), (1_000, 1_000))  # games and steps


def measured_sweeps(predict: bool) -> list[tuple[int, int, float, float, float]]:
    """Games, steps, and the CPU time of the first call of a sweep, and the median and the least of later ones."""
    rows = []
    for games, steps in SWEEPS:
        problem = problems.planar("non_saturating", "alternating", np.float32, games, steps)
        rates = iter(np.linspace(1, 1.1, 1 + CALLS))

        def call(problem=problem, rates=rates) -> float:
            axes = problem.axes | dict(rate=(problem.axes["rate"] * next(rates)).astype(np.float32))
            begin = time.process_time()
            dy.sweep(problem.build, axes, **problem.duration, design="zip", predict=predict, dtype=np.float32)
            return 1e3 * (time.process_time() - begin)

        first = call()
        later = [call() for _ in range(CALLS)]
        rows.append((games, steps, first, statistics.median(later), min(later)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--sweeps", action="store_true", help="of dynamics.sweep")
    options = parser.parse_args()
    steps = options.steps
    if options.sweeps:
        print(
            "| games | steps | predicted | first, ms | median, ms | least, ms |\n| --- | --- | --- | --- | --- | --- |"
        )
        for predict in (False, True):
            for games, count, first, later, least in measured_sweeps(predict):
                print(f"| {games:,} | {count:,} | {predict} | {first:.0f} | {later:.2f} | {least:.2f} |", flush=True)
        return
    print(f"| {steps} steps of a planar game | first, ms | median, ms | least, ms |\n| --- | --- | --- | --- |")
    for name, first, later, least in measured(steps):
        print(f"| {name} | {first:.0f} | {later:.2f} | {least:.2f} |")


if __name__ == "__main__":
    main()
