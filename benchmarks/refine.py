"""Sweeps refined at the boundary against the same sweeps all in double precision: which cells differ, and the times.

    python benchmarks/refine.py --out benchmarks/results/refine.json   # a few minutes; --quick: charts of 64 x 64

A cell differs when its outcome or its predicted verdict does. None may; the exit code is 1 otherwise. Times are those
of a second call, which compiles nothing, and without a store.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dynamics as dy
from dynamics.ensembles import seeds, uniform

SGD = dy.optimisers.sgd


def dirac(rate, weight):
    """A GAN in the plane, players in turn."""
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
    return game, dy.updates.Alternating(SGD(rate), SGD(rate)), (1.0, 0.5)


def quadratic(rate, memory):
    """Four players with momentum, general-sum, turned against each other."""
    matrix = [[1.0, 2.0, 0.0, -0.5], [-2.0, 0.5, 1.0, 0.0], [0.0, -1.0, 0.2, 3.0], [0.5, 0.0, -3.0, 0.1]]
    game = dy.games.Quadratic(matrix)
    momentum = [dy.optimisers.momentum(rate * scale, memory) for scale in (1.0, 0.5, 1.5, 0.7)]
    return game, dy.updates.Simultaneous(*momentum), (1.0, -0.5, 0.3, 0.2)


def consensus(rate, weight):
    """A bilinear game, which circles without the weight."""
    method = dy.updates.Simultaneous(SGD(rate), SGD(2 * rate), direction=dy.directions.Consensus(weight))
    return dy.games.Bilinear(1.0), method, (1.0, -0.4)


def faint(size, pull):
    """Starts that are so small that single precision takes them for rest, near stable and unstable points."""
    game = dy.games.Quadratic([[pull, 1.0], [-1.0, pull]])
    return game, dy.updates.Alternating(SGD(0.1), SGD(0.1)), (10**size, 0.5 * 10**size)


def wells(start, rate):
    """Two wells and a hill between them, where rounding decides on which side a run comes down; far out it flies."""
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 4 / 4 - p[0] ** 2 / 2 + jnp.sin(8 * p[0]) / 40,))
    return game, dy.updates.Simultaneous(SGD(rate)), (start,)


def standing(distance, rate):
    """Slopes that are so gentle that single precision stands still: 10 + 1e-8 is 10."""
    game = dy.Game.from_losses(lambda p, key=None: (-jnp.log1p(jnp.exp(-p[0])) + 1e-3 * jnp.tanh(p[0]),), [(0.0,)])
    return game, dy.updates.Simultaneous(SGD(rate)), (distance,)


def steep(size, rate):
    """Exponentials that overflow in single precision and not in double."""
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 / 2 + 1e-200 * jnp.exp(-size * p[0]),), [(0.0,)])
    return game, dy.updates.Simultaneous(SGD(rate)), (-1.0,)


def drawn(rate, seed, start_key):
    """Random games from random starts."""
    x, y = 2 * jax.random.normal(start_key, (2,))
    game = dy.games.Quadratic([[0.3, 1.0], [-1.0, jax.random.normal(seed)]])
    return game, dy.updates.Alternating(SGD(rate), SGD(rate)), (x, y)


def cases(points: int) -> dict[str, tuple[Callable, dict[str, Any], dict[str, Any]]]:
    """For every case what is built, the axes, and how long."""

    def line(low: float, high: float) -> np.ndarray:
        return np.linspace(low, high, points)

    few = max(4, points // 8)
    return {
        "Dirac-GAN, rate x R1": (dirac, {"rate": line(0.05, 4.5), "weight": line(0, 2)}, dict(steps=1000)),
        "quadratic, rate x momentum": (
            quadratic,
            {"rate": line(0.01, 1), "memory": line(-0.5, 0.95)},
            dict(steps=1000),
        ),
        "bilinear, rate x consensus": (consensus, {"rate": line(0.0, 1.5), "weight": line(0, 2)}, dict(steps=1000)),
        "faint starts": (faint, {"size": line(-12, 0), "pull": line(-0.3, 0.5)}, dict(steps=640)),
        "wells": (wells, {"start": line(-3, 3), "rate": line(0.01, 0.6)}, dict(steps=640)),
        "standing still": (standing, {"distance": line(-5, 60), "rate": line(0.01, 1)}, dict(steps=640)),
        "overflow": (steep, {"size": line(10, 400), "rate": line(0.01, 2.2)}, dict(steps=640)),
        "random games and starts": (
            drawn,
            {"rate": line(0.01, 2)[::4], "seed": seeds(few)},
            dict(steps=640, starts=8),
        ),
        "Dirac-GAN, Sobol points": (
            dirac,
            {"rate": uniform(0.05, 4.5), "weight": uniform(0, 2)},
            dict(steps=640, design=("sobol", points**2 // 4)),
        ),
    }


def measured(build: Callable, axes: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """One case: cells that differ, the share that was done again, and times."""
    found, seconds = {}, {}
    for name, more in {"single": {"dtype": np.float32}, "double": {}, "refined": {"refine": "boundary"}}.items():
        rounds: list[int] = []
        for _ in range(2):
            rounds.clear()
            began = time.perf_counter()
            found[name] = dy.sweep(
                build, axes, **settings, **more, progress=lambda done, total, text, seen=rounds: seen.append(total)
            )
            seconds[name] = round(time.perf_counter() - began, 3)

    def differing(name: str) -> int:
        labels = [one for one in ("outcome", "predicted_verdict") if one in found["double"]]
        return int(np.any([found[name][one].values != found["double"][one].values for one in labels], axis=0).sum())

    return {
        "cells": found["double"].outcome.size,
        "differ_in_single": differing("single"),
        "differ_when_refined": differing("refined"),
        "share_done_again": round(float(found["refined"].refined.mean()), 4),
        "outcomes": np.bincount(found["double"].outcome.values.ravel(), minlength=4).tolist(),
        "seconds": seconds,
        "of_all_double": round(seconds["refined"] / seconds["double"], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="charts of 64 x 64")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, help="JSON file for the result; other cases in it are kept")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = {}
    for name, case in cases(64 if options.quick else 256).items():
        if options.only and options.only not in name:
            continue
        rows[name] = row = measured(*case)
        print(
            f"{name:28} {row['cells']:6} cells; differ: {row['differ_in_single']:5} in single precision, "
            f"{row['differ_when_refined']} refined; done again: {row['share_done_again']:.1%}; "
            f"time: {row['of_all_double']:.2f} of all in double precision",
            flush=True,
        )
    if options.out:
        if options.out.exists():  # of an earlier run with --only
            rows = json.loads(options.out.read_text())["cases"] | rows
        result = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
            "versions": {name: metadata.version(name) for name in ("dynamics", "jax", "numpy")},
            "load": os.getloadavg(),
            "cases": rows,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return int(any(row["differ_when_refined"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
