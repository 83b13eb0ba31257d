"""How long charts of a million cells take: predicted from eigenvalues, and drawn; on one core.

    python benchmarks/charts.py --out benchmarks/results/NAME.json
    python benchmarks/charts.py --beyond --out benchmarks/results/beyond.json   # ten minutes

With `--beyond`: a chart of 160 x 160 cells, most of which have an eigenvalue on the boundary that terms of higher order
decide, and what 3,000 steps do in some of its cells.

Needs nothing beyond the library and its plots. Times are CPU time on one core from the call to numbers, or to a PNG, on
the host, the median of several; a busy machine disturbs it least, wall time is beside it. Compiling is in the first
call only. The rival of the closed form, `numpy.linalg.eigvals` on the same Jacobians, takes its turns in between.
"""

import argparse
import json
import os
import platform
import statistics
import time

if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import xarray as xr  # noqa: E402

import dynamics as dy  # noqa: E402
from dynamics import optimisers, plots  # noqa: E402
from dynamics.analysis.stability.linearisation import jacobian_of  # noqa: E402
from dynamics.ensembles import tables  # noqa: E402


def alternating(rate, weight):
    update = dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(rate))
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), update, (1.0, 1.0)


def flow(rate, weight):
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.flows.Flow(rates=(1.0, rate)), (1.0, 1.0)


def forsaken(rate, weight):
    """The equilibrium is not at a round number, and the direction needs Hessians."""
    update = dy.updates.Simultaneous(*[optimisers.sgd(rate)] * 2, direction=dy.directions.Consensus(weight))
    return dy.games.Forsaken(), update, (1.0, 1.0)


CHARTS = {"Dirac-GAN, alternating": alternating, "Dirac-GAN, flow": flow, "Forsaken, consensus": forsaken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="file for the numbers, in JSON")
    parser.add_argument("--quick", action="store_true", help="small charts, to see it run")
    parser.add_argument("--beyond", action="store_true", help="a chart of terms of higher order in place of the others")
    parser.add_argument("--picture", help="with --beyond: a PNG of the chart")
    arguments = parser.parse_args()
    size, times = (64, 2) if arguments.quick else (1024, 5)
    machine = {"machine": processor(), "python": platform.python_version(), "jax": jax.__version__}
    machine |= {"numpy": np.__version__, "load": os.getloadavg()[0], "cells": size * size, "repetitions": times}
    if arguments.beyond:
        machine = {key: value for key, value in machine.items() if key not in ("cells", "repetitions")}
        result = {"machine": machine} | beyond(16 if arguments.quick else 160, 5 if arguments.quick else 40, arguments)
        print(json.dumps(result, indent=1))
        if arguments.out:
            with open(arguments.out, "w") as file:
                json.dump(result, file, indent=1)
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    predicted = [
        row
        for name, build in CHARTS.items()
        for dtype in ("float64", "float32")
        for row in [predict(name, build, dtype, size, times)]
    ]
    drawn = [draw(kind, variable, size, times) for kind in ("even", "log", "uneven") for variable in VARIABLES]
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump({"machine": machine, "predicted": predicted, "drawn": drawn}, file, indent=1)


def predict(name: str, build, dtype: str, size: int, times: int) -> dict:
    """A chart by its first and by later calls, beside eigenvalues of the same Jacobians."""
    axes = {"rate": np.linspace(0.01, 5, size), "weight": np.linspace(0, 2, size)}

    def jacobian(rate, weight):
        game, method, _ = build(rate, weight)
        return jacobian_of(game, method, game.equilibria()[0])

    rates, weights = (jnp.asarray(axis, dtype) for axis in axes.values())
    inner = jax.vmap(jacobian, (None, 0))
    matrices = np.asarray(jax.jit(lambda: jax.lax.map(lambda rate: inner(rate, weights), rates))())
    first = clock(lambda: dy.stability_chart(build, axes, dtype=dtype))[0]
    own, wall, rival = [], [], []
    for _ in range(times):
        seconds, all_seconds, chart = clock(lambda: dy.stability_chart(build, axes, dtype=dtype))
        own.append(seconds)
        wall.append(all_seconds)
        rival.append(clock(lambda: np.linalg.eigvals(matrices))[0])
    is_map = chart.attrs["kind"] == "map"
    exact = np.linalg.eigvals(matrices.astype(float))
    reach = np.max(np.abs(exact) if is_map else exact.real, axis=-1)
    found = chart["predicted_radius" if is_map else "predicted_abscissa"].values
    scale = np.linalg.norm(matrices.astype(float), axis=(-2, -1))
    row = {
        "chart": name,
        "dtype": dtype,
        "first call, s": first,
        "later call, s": statistics.median(own),
        "wall time, s": statistics.median(wall),
        "eigvals alone, s": statistics.median(rival),
        "largest difference, relative to the matrix": float(np.max(np.abs(found - reach) / scale)),
        "verdicts": np.bincount(chart.predicted_verdict.values.ravel() + 1, minlength=4).tolist(),
    }
    print(
        ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    )
    return row


def least_squares(rate, weight):
    """Targets 0 and 1: the discriminator is damped by the penalty, and the generator by nothing to first order."""
    update = dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(rate))
    game = dy.games.DiracGAN(objective=dy.objectives.LeastSquares(), penalty=dy.penalties.R1(weight))
    return game, update, (0.3, 0.3)


def beyond(size: int, simulated: int, arguments: argparse.Namespace) -> dict:
    """Verdicts of a chart without and with terms of higher order, and outcomes of a coarser grid beside them."""
    axes = {"rate": np.linspace(0.01, 1.6, size), "weight": np.linspace(0, 2, size)}
    linear_time, linear_wall, linear = clock(lambda: dy.stability_chart(least_squares, axes))
    dy.stability_chart(least_squares, {name: axis[:2] for name, axis in axes.items()}, order="auto")
    seconds, wall, chart = clock(lambda: dy.stability_chart(least_squares, axes, order="auto"))
    marginal = int(np.sum(linear.predicted_verdict.values == dy.ensembles.Predicted.marginal))
    grid = {name: np.linspace(axis[0], axis[-1], simulated) for name, axis in axes.items()}
    sweep_time, _, sweep = clock(lambda: dy.sweep(least_squares, grid, steps=3000, order="auto"))
    pairs = np.stack([sweep.predicted_verdict.values.ravel(), sweep.outcome.values.ravel()])
    compared: dict[str, int] = {}
    columns, counts = np.unique(pairs, axis=1, return_counts=True)
    for (verdict, outcome), count in zip(columns.T, counts, strict=True):
        compared[f"{dy.ensembles.Predicted(int(verdict)).name}, {dy.Outcome(int(outcome)).name}"] = int(count)
    if arguments.picture:
        plots.chart(chart, variable="predicted_verdict").savefig(arguments.picture)
    return {
        "cells": size * size,
        "linear part: s, verdicts": [linear_time, _counted(linear)],
        "higher orders: s, wall time, s, verdicts": [seconds, wall, _counted(chart)],
        "ms a marginal cell": 1e3 * (seconds - linear_time) / marginal,
        "3,000 steps of other cells: s, verdict and outcome": [sweep_time, compared],
    }


def _counted(dataset: xr.Dataset) -> dict[str, int]:
    names, counts = np.unique(dataset.predicted_verdict.values, return_counts=True)
    return {dy.ensembles.Predicted(int(name)).name: int(count) for name, count in zip(names, counts, strict=True)}


VARIABLES = ("outcome", "simulated_rate", "residual")


def draw(kind: str, variable: str, size: int, times: int) -> dict:
    """A picture of a made-up sweep, from the call to the PNG in memory."""
    points = np.linspace(0, 1, size)
    axes = {"even": (points, points), "log": (10 ** (3 * points - 2),) * 2, "uneven": (points**2, points**3)}[kind]
    x, y = np.meshgrid(*axes, indexing="ij")
    radius = 1 + (x + y**2 - 0.5 * x.max()) / (1 + x.max())
    outcome = np.where(radius < 1, 0, np.where(np.sin(40 * x * y) > 0.8, 1, 2)).astype(np.int8)
    rate = np.where(outcome == 2, np.nan, np.log(radius))
    columns = {
        "outcome": outcome,
        "simulated_rate": rate,
        "residual": np.exp(50 * (radius - 1)),
        "predicted_radius": radius,
    }
    described = tables.described("map", 1.0)
    variables = {name: (("x", "y"), values, described[name]) for name, values in columns.items()}
    dataset = xr.Dataset(variables, {"x": axes[0], "y": axes[1]}, {"kind": "map", "settings": '{"steps": 1000}'})
    seconds = [clock(lambda: plots.chart(dataset, variable=variable)._repr_png_())[:2] for _ in range(times)]
    own, wall = (statistics.median(column) for column in zip(*seconds, strict=True))
    row = {"axes": kind, "variable": variable, "seconds": own, "wall time, s": wall}
    print(f"drawn, {kind} axes, {variable}: {own:.2f} s, wall time {wall:.2f} s")
    return row


def clock(function) -> tuple:
    """CPU time, wall time, and what the function returns."""
    begin, cpu = time.perf_counter(), time.process_time()
    found = function()
    return time.process_time() - cpu, time.perf_counter() - begin, found


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
