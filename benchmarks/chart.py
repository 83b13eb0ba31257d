"""The chart of the Dirac-GAN: rate x weight of R1, alternating descent, 10^4 steps in each cell.

    python benchmarks/chart.py --out benchmarks/results/chart.json --picture chart.png     # minutes, all cores
    python benchmarks/chart.py --side 100                                                 # seconds

The sweep keeps what is done in a store, `--store`, and the same command goes on after an interruption; the time is then
that of the last run, and the result says so. Every cell is predicted as well. The C program computes final states and
outcomes of the same cells on as many threads. Where simulation and prediction disagree, the distance of the cell from
the predicted boundary is counted in cells.
"""

import argparse
import datetime
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cpu import machine, versions
from native import IN_DOUBT, Native, compile_c

RATES, WEIGHTS = (0.01, 4.5), (0.0, 2.0)
START = (0.01, 0.01)  # near the equilibrium, as the prediction is local: far starts may leave a stable one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1_000, help="cells along an axis")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--precision", choices=("f32", "f64"), default="f64")
    parser.add_argument("--devices", type=int, default=len(os.sched_getaffinity(0)), help="cores to use")
    parser.add_argument("--store", type=Path, help="folder of the store; default: one that is deleted")
    parser.add_argument("--stop-early", action="store_true", help="games that are decided stop")
    parser.add_argument("--picture", type=Path, help="file for the picture")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", options.devices)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "chart.zarr"
        library, compiler = compile_c(folder)
        result, chart = measure(options, store, library)
        result["load"] = {"before": load, "after": os.getloadavg()}
        if options.picture:
            result["picture_seconds"] = draw(chart, options.picture)
    print(json.dumps(result, indent=1))
    if options.out:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        facts = dict(date=date, machine=machine(), versions=versions() | {"compiler": compiler})
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(facts | result, indent=1) + "\n")


def measure(options: argparse.Namespace, store: Path, library: str) -> tuple[dict[str, Any], Any]:
    """Sweep and C on the same cells, with times, memory and the agreement of simulation and prediction."""
    import dynamics as dy

    kind = {"f32": np.float32, "f64": np.float64}[options.precision]
    axes = {"rate": np.linspace(*RATES, options.side), "weight": np.linspace(*WEIGHTS, options.side)}

    def build(rate, weight):
        sgd = dy.optimisers.sgd(rate)
        return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), START

    settings = dict(dtype=kind) | (dict(stop_early=True) if options.stop_early else {})
    resumed = store.exists()
    began, busy = time.perf_counter(), time.process_time()
    passed = [(0, began)]

    def show(done: int, total: int, text: str) -> None:
        passed.append((done, time.perf_counter()))
        print(f"{done} of {total} cells after {passed[-1][1] - began:.0f} s: {text}", file=sys.stderr, flush=True)

    chart = dy.sweep(build, axes, steps=options.steps, store=store, progress=show, **settings)
    wall, cpu = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    chart = chart.load()

    rates, weights = (grid.ravel().astype(kind) for grid in np.meshgrid(axes["rate"], axes["weight"], indexing="ij"))
    starts = np.repeat(np.array(START, kind)[:, None], rates.size, axis=1)
    code = Native(library, kind)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = code.small(
            "non_saturating", "alternating", starts, np.stack([rates, weights]), options.steps, True, options.devices
        )
        times.append(time.perf_counter() - start)
    native = float(np.median(times))
    result: dict[str, Any] = dict(side=options.side, steps=options.steps, precision=options.precision)
    result |= dict(cores=options.devices, stop_early=options.stop_early, resumed=resumed)
    result |= dict(wall_seconds=wall, cpu_seconds=cpu, peak_memory_mb=round(peak))
    result |= dict(c_wall_seconds=native, c_times=times, ratio_to_c=wall / native)
    if len(passed) > 2 and passed[-1][0] > passed[1][0]:  # the first chunk holds the time to compile
        steady = (passed[-1][1] - passed[1][1]) / (passed[-1][0] - passed[1][0]) * rates.size
        result |= dict(without_compiling_seconds=steady, without_compiling_ratio_to_c=steady / native)
    result |= dict(ns_per_cell_step=wall / rates.size / options.steps * 1e9)
    result |= dict(
        outcomes_unlike_c=int(np.sum((found.outcome != chart.outcome.values.ravel()) & (found.outcome != IN_DOUBT)))
    )
    counts = np.bincount(chart.outcome.values.ravel(), minlength=len(dy.Outcome))
    result |= dict(outcomes={outcome.name: int(count) for outcome, count in zip(dy.Outcome, counts, strict=True)})
    return result | agreement(chart), chart


def agreement(chart: Any) -> dict[str, Any]:
    """How often simulated and predicted stability agree, and how far from the predicted boundary they do not.

    A cell counts as simulated stable when it converged. Cells that are undecided, or for which nothing is predicted,
    are counted apart: 10^4 steps do not suffice where the contraction is slow.
    """
    import scipy.ndimage

    from dynamics import Outcome
    from dynamics.ensembles import Predicted

    outcome, verdict = chart.outcome.values, chart.predicted_verdict.values
    stable = verdict == Predicted.stable
    decided = (outcome != Outcome.undecided) & np.isin(verdict, (Predicted.stable, Predicted.unstable))
    wrong = decided & ((outcome == Outcome.converged) != stable)
    found = dict(decided=int(decided.sum()), agreement=float(1 - wrong.sum() / max(1, decided.sum())))
    found |= dict(disagree=int(wrong.sum()), undecided=int(np.sum(~decided)))
    if stable.any() and not stable.all():
        inside, outside = (scipy.ndimage.distance_transform_cdt(part, "chessboard") for part in (stable, ~stable))
        distance = np.where(stable, inside, outside)  # 1: next to a cell of the other verdict
        for name, chosen in (("disagree", wrong), ("undecided", ~decided)):
            far = distance[chosen]
            found[f"{name}_cells_from_boundary"] = (
                dict(median=float(np.median(far)), largest=int(far.max())) if far.size else None
            )
    return found


def draw(chart: Any, path: Path) -> float:
    """Write the picture; returns the seconds that it took."""
    from dynamics import plots

    began = time.perf_counter()
    figure = plots.chart(chart, x="rate", y="weight", variable="outcome", boundary=True)
    plots.save(figure, path)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
