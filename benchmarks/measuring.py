"""Rivals take turns in one process: time, memory, and the error beside them."""

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from native import IN_DOUBT, Native
from problems import CHECKED, Problem
from rivals import C_END, C_OUTCOME, SWEEP, Rival

PATIENCE = 1.0  # seconds of timed runs after which a slow rival is not asked again


def measure(
    section: str, problem: Problem, rivals: dict[str, Rival], code: Native, cores: int, repeats: int
) -> list[dict[str, Any]]:
    """Time all rivals and return a row for each.

    The first run of every rival compiles, fills caches and shows its peak memory. The median of the others counts: the
    CPU time of the process on one core, wall time on several.
    """
    about = dict(section=section, game=problem.game, method=problem.method)
    about |= dict(precision="f32" if problem.precise is np.float32 else "f64", cores=cores)
    rows, ends, found = {}, {}, {}
    clocks: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    firsts = {}
    for name, rival in rivals.items():
        before = _reset_peak()
        firsts[name], (ends[name], found[name]) = _clocked(rival.run)
        rows[name] = about | dict(games=rival.games or problem.games, steps=rival.steps or problem.steps, rival=name)
        rows[name] |= dict(peak_memory_mb=round((_peak() - before) / 2**20, 1)) | rival.notes
    for _ in range(repeats):
        for name, rival in rivals.items():
            if sum(wall for wall, _ in clocks[name]) < PATIENCE:
                clocks[name].append(_clocked(rival.run)[0])
    for name, rival in rivals.items():
        wall, cpu = np.median(np.array(clocks[name]), axis=0)
        row = rows[name]
        taken = cpu if cores == 1 else wall
        row |= dict(wall_seconds=wall, cpu_seconds=cpu, times=[list(pair) for pair in clocks[name]])
        row |= dict(ns=taken / row["games"] / row["steps"] * 1e9)
        row |= dict(compile_seconds=max(0.0, firsts[name][0] - wall) if rival.compiles else 0.0)
        row |= dict(error=error(ends[name], problem.reference(code, row["steps"])))
    for name, key in ((C_END, "ratio_to_c_end"), (C_OUTCOME, "ratio_to_c_outcome")):
        if name in rows:
            for row in rows.values():
                row[key] = row["ns"] / rows[name]["ns"]
    if C_OUTCOME in found and SWEEP in found:
        rows[SWEEP]["outcomes_differ"] = differences(found[C_OUTCOME], found[SWEEP])
    return list(rows.values())


def error(end: np.ndarray, wanted: np.ndarray) -> float:
    """The largest error over the first games, relative to their largest number."""
    gap = np.abs(np.asarray(end, float)[:, :CHECKED] - wanted)
    return float(np.max(gap) / np.max(np.abs(wanted)))


def differences(native: Any, swept: Any) -> int:
    """Number of games whose outcome the C program and the library see differently, of those that C decides."""
    return int(np.sum((native.outcome != swept.outcome.values.ravel()) & (native.outcome != IN_DOUBT)))


def _clocked(run: Any) -> tuple[tuple[float, float], Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def _reset_peak() -> int:
    """Forget the peak of the memory so far, where the system allows it; returns what is in use, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
