"""Kill sweeps that write to a store at random moments, go on with them, and compare the bits at the end.

    python benchmarks/kill.py --out benchmarks/results/kill.json   # some minutes; --quick: one

Real processes get SIGKILL: at any moment of their life, while they write, or at a counted operation of the writing (in
the middle of a file, before a file is brought to the disk, before a renaming). After every kill the store is opened as
it is: every cell that has an outcome must have the bits of the undisturbed sweep in all variables, and no chunk may be
gone. The same call goes on until the sweep is done; then all bits are compared, and the next sweep begins.
"""

import argparse
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

SWEEPS = ("grid", "minibatches", "flow")
CHUNK = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=120, help="how many processes to kill, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="ten kills")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--child", nargs=3, metavar=("SWEEP", "PATH", "OPERATION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, path, operation = options.child
        child(name, path, int(operation))
        return
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log, finished = attack(Path(folder), 10 if options.quick else options.kills, random.Random(options.seed))
    kills = [row for row in log if "kill" in row]
    print(f"{len(kills)} kills, {len(finished)} sweeps finished, all bits equal, {time.perf_counter() - began:.0f} s")
    if options.out:
        versions = {name: metadata.version(name) for name in ("dynamics", "jax", "numpy", "xarray", "zarr")}
        result = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
            "versions": versions | {"python": platform.python_version()},
            "seed": options.seed,
            "kills": len(kills),
            "moments": dict(Counter(row["moment"].split(" (")[0] for row in kills)),
            "kills_between_first_and_last_chunk": sum(0 < row["chunks_after"] < row["chunks"] for row in kills),
            "lost_chunks": 0,
            "wrong_bits": 0,
            "finished": finished,
            "log": log,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def attack(folder: Path, kills: int, chance: random.Random) -> tuple[list[dict], list[dict]]:
    """Kill and go on until there were so many kills and the last sweep is done.

    Raises:
        AssertionError: a chunk is gone, or a bit is wrong.
    """
    log: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    references: dict[str, tuple[dict[str, np.ndarray], float]] = {}
    count, round_ = 0, 0
    while count < kills:
        name, path = SWEEPS[round_ % len(SWEEPS)], folder / f"{round_}.zarr"
        round_ += 1
        if name not in references:  # without a store; what is compiled is kept for the others
            for _ in range(2):
                start = time.perf_counter()
                run(folder, name, folder / f"{name}.npz")
                wall = time.perf_counter() - start
            references[name] = dict(np.load(folder / f"{name}.npz")), wall
        reference, wall = references[name]
        own = 0
        while True:
            moment, operation, delay, from_first = plan(chance, wall)
            before = chunks(path)
            start = time.perf_counter()
            process = spawn(folder, name, path, operation)
            if delay is not None:
                while from_first and process.poll() is None and chunks(path) == before:
                    time.sleep(1e-3)
                end = time.perf_counter() + delay
                while process.poll() is None and time.perf_counter() < end:
                    time.sleep(max(0.0, min(1e-3, end - time.perf_counter())))
                process.kill()
            errors = process.communicate()[1]
            seconds = time.perf_counter() - start
            after = chunks(path)
            assert before <= after, f"chunks are gone: {before - after}"
            row = {
                "sweep": name,
                "seconds": round(seconds, 3),
                "chunks_before": len(before),
                "chunks_after": len(after),
            }
            if process.returncode == -signal.SIGKILL:
                count, own = count + 1, own + 1
                row = {"kill": count, "moment": moment} | row
            else:
                assert process.returncode == 0, errors.decode()
                row = {"end": "the sweep is done"} | row
            seen = compare(path, reference)
            log.append(row | {"cells_with_an_outcome": seen})
            print(json.dumps(log[-1]), flush=True)
            if process.returncode == 0:
                break
        assert seen == reference["outcome"].size
        for row in log[-own - 1 :]:
            row["chunks"] = len(after)
        finished.append({"sweep": name, "cells": seen, "chunks": len(after), "kills": own, "equal_to_the_bit": True})
    return log, finished


def plan(chance: random.Random, wall: float) -> tuple[str, int, float | None, bool]:
    """When to kill: words, number of an operation or 0, seconds or `None`, whether from the first commit on."""
    kind = chance.choice(("any", "writing", "operation", "operation"))
    if kind == "operation":
        operation = chance.randint(1, 400)
        return f"counted operation ({operation})", operation, None, False
    delay = chance.uniform(0, wall if kind == "any" else 0.3)
    words = "after the start" if kind == "any" else "after the first commit"
    return f"{kind} moment ({delay:.3f} s {words})", 0, delay, kind == "writing"


def chunks(path: Path) -> set[str]:
    """Records of the chunks that are committed."""
    return {file.name for file in path.glob("commits/[0-9]*.json")}


def compare(path: Path, reference: dict[str, np.ndarray]) -> int:
    """Open a store as it is; every cell with an outcome has all the right bits. How many are there?"""
    if not (path / "zarr.json").exists():
        return 0
    import xarray as xr

    found = xr.open_zarr(path, chunks=None)
    done = found.outcome.values >= 0
    assert set(found.data_vars) == set(reference)
    for name, wanted in reference.items():
        values = found[name].values
        assert values.dtype == wanted.dtype and values[done].tobytes() == wanted[done].tobytes(), (path, name)
    return int(done.sum())


def spawn(folder: Path, name: str, path: Path, operation: int = 0) -> subprocess.Popen:
    """Begin a sweep, or go on with it, in a process of its own."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, __file__, "--child", name, str(path), str(operation)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | cache)


def run(folder: Path, name: str, path: Path) -> None:
    process = spawn(folder, name, path)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors.decode()


# What follows runs in the processes that are killed.


def child(name: str, path: str, operation: int) -> None:
    import dynamics as dy

    if operation:
        die_at(operation)
    sgd, uniform = dy.optimisers.sgd, dy.ensembles.uniform

    def alternating(rate, weight):
        game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
        return game, dy.updates.Alternating(sgd(rate), sgd(rate)), (1.0, 0.5)

    def minibatches(rate, weight, start_key):
        import jax

        game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight), noise=0.1, batch_size=4)
        x, y = jax.random.normal(start_key, (2,))
        return game, dy.updates.Simultaneous(sgd(rate), sgd(2 * rate)), (x, y)

    def flow(ratio, weight):
        return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.flows.Flow(rates=(1.0, ratio)), (1.0, 0.5)

    store = path if path.endswith(".zarr") else None
    common = dict(chunk=CHUNK, store=store)
    if name == "grid":
        axes = {"rate": np.linspace(0.1, 5, 160), "weight": np.linspace(0, 2, 128)}
        found = dy.sweep(alternating, axes, steps=64, **common)
    elif name == "minibatches":
        import jax

        axes = {"rate": uniform(0.01, 1), "weight": uniform(0, 2)}
        design = dict(design=("random", 5_000), starts=3, key=jax.random.key(1))
        found = dy.sweep(minibatches, axes, steps=64, predict=False, **design, **common)
    else:
        axes = {"ratio": np.linspace(0.5, 4, 100), "weight": np.linspace(0, 2, 61)}
        found = dy.sweep(flow, axes, until=2.0, predict=False, **common)
    if store is None:
        np.savez(path, **{str(key): value.values for key, value in found.data_vars.items()})


def die_at(operation: int) -> None:
    """Make the process kill itself at that operation of the writing; of a file that is written, one half is there."""
    import builtins

    from dynamics.ensembles import store

    count = 0

    def counted(before: Any = None) -> None:
        nonlocal count
        count += 1
        if count == operation:
            if before is not None:
                before()
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, os.replace

    def open_(file: Any, mode: str = "r") -> Any:
        stream = builtins.open(file, mode)
        if mode == "wb":
            whole = stream.write

            class Counted:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    stream.close()

                def write(self, content):
                    counted(lambda: (whole(content[: len(content) // 2]), stream.flush()))
                    return whole(content)

                flush, fileno = stream.flush, stream.fileno

            return Counted()
        return stream

    store.open = open_  # type: ignore[attr-defined]
    os.fsync = lambda number: (counted(), fsync(number))[1]
    os.replace = lambda one, other: (counted(), replace(one, other))[1]


if __name__ == "__main__":
    main()
