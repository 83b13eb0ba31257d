"""What one small call of `dynamics.simulate` costs: warm, with another number of steps, with losses made anew.

    python benchmarks/calls.py             # half a minute on a quiet machine
    python benchmarks/calls.py --steps 500

Milliseconds of wall time: the first call, and the median and the least of many more. On a busy machine only the least
means anything.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import optax

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args().steps
    print(f"| {steps} steps of a planar game | first, ms | median, ms | least, ms |\n| --- | --- | --- | --- |")
    for name, first, later, least in measured(steps):
        print(f"| {name} | {first:.0f} | {later:.2f} | {least:.2f} |")


if __name__ == "__main__":
    main()
