"""Time per game and step on the CPU: sweeps of this library, C, vmapped simulate, diffrax, NumPy and PyTorch.

    python benchmarks/cpu.py [--quick] [--out benchmarks/results/NAME.json] [--sections planar,flows]

Every section runs in a process of its own, pinned to one core before JAX starts its threads, and some once more on all
cores, with one JAX device for each. Inside, the rivals take turns. README.md says how to read the result; table.py
prints it.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from native import compile_c

HERE = Path(__file__).resolve().parent
ONE_CORE = (
    "planar", "methods", "matrix", "flows", "lorenz", "scaling", "cores", "early", "others", "outcomes", "eigenvalues",
)  # fmt: skip
ALL_CORES = ("cores", "scaling", "lorenz")
QUICK = ("planar", "methods", "flows", "early", "others", "outcomes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few games, few steps: to see that everything runs")
    parser.add_argument("--out", type=Path, help="JSON file for the result; default: results/HOST-DATE.json")
    parser.add_argument("--sections", help=f"some of {', '.join(ONE_CORE)}; the others of an existing file are kept")
    parser.add_argument("--repeats", type=int, help="timings of every rival; default 5")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(**json.loads(options.child))
        return
    wanted = options.sections.split(",") if options.sections else QUICK if options.quick else ONE_CORE
    if unknown := set(wanted) - set(ONE_CORE):
        parser.error(f"unknown sections {sorted(unknown)}; expected some of {', '.join(ONE_CORE)}")
    settings = {"quick": options.quick, "repeats": options.repeats or (2 if options.quick else 5)}
    settings |= {"load_before": os.getloadavg()}
    available = sorted(os.sched_getaffinity(0))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    out = options.out or HERE / "results" / f"{platform.node()}-{date[:10]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows, failures, seconds = [], [], {}
    kept = json.loads(out.read_text())["rows"] if options.sections and out.exists() else []
    kept = [row for row in kept if row["section"] not in wanted]
    with tempfile.TemporaryDirectory() as folder:
        print("compiling the C program ...", flush=True)
        library, compiler = compile_c(folder, few=options.quick)
        facts = {"machine": machine(), "versions": versions() | {"compiler": compiler}, "date": date}
        tasks = [(name, available[-1:]) for name in wanted]
        if len(available) > 1 and not options.quick:
            tasks += [(name, available) for name in ALL_CORES if name in wanted]
        for name, used in tasks:
            label = f"{name}, {len(used)} core{'s' * (len(used) > 1)}"
            start = time.perf_counter()
            found, failure = run_child(dict(section=name, cores=used, library=library) | settings)
            seconds[label] = round(time.perf_counter() - start, 1)
            rows += found
            failures += [f"{label}: {failure}"] * bool(failure)
            print(f"{label}: {seconds[label]:.0f} s" + f", FAILED: {failure}" * bool(failure), flush=True)
            # Written after every child, so that an interrupted run leaves what it has measured.
            ended = {"settings": settings | {"load_after": os.getloadavg()}, "seconds": seconds, "failures": failures}
            ended |= {"total_seconds": round(time.perf_counter() - began, 1), "rows": kept + rows}
            out.with_suffix(".part").write_text(json.dumps(facts | ended, indent=1) + "\n")
            out.with_suffix(".part").replace(out)
    print(f"wrote {out} after {time.perf_counter() - began:.0f} s")
    if failures:
        sys.exit("\n".join(failures))


def run_child(arguments: dict) -> tuple[list[dict], str]:
    """The rows that a child has printed, and the last line of what went wrong."""
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [row for line in done.stdout.splitlines() if line.startswith("[") for row in json.loads(line)]
    if not done.returncode:
        return rows, ""
    sys.stderr.write(done.stderr)
    return rows, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def machine() -> dict[str, str]:
    """What lscpu says of the machine, as far as it matters."""
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {"processor": platform.processor()}
    facts = {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
    wanted = ("Architecture", "Model name", "CPU(s)", "CPU family", "Model", "Thread(s) per core", "Flags")
    wanted += ("BogoMIPS", "L1d cache", "L2 cache", "L3 cache", "Hypervisor vendor")
    return {key: facts[key] for key in wanted if key in facts} | {"system": platform.platform()}


def versions() -> dict[str, str]:
    """Of Python and of the libraries; PyTorch where it is installed."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "diffrax", "equinox", "optax", "numpy", "torch", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def child(section: str, cores: list[int], library: str, quick: bool, repeats: int, **_) -> None:
    """Run a section on some cores and print its rows; JAX is imported here, after the process is pinned."""
    os.sched_setaffinity(0, cores)
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    if len(cores) > 1:
        jax.config.update("jax_num_cpu_devices", len(cores))
    import sections

    bench = sections.Bench(library, len(cores), quick, repeats)
    for rows in getattr(sections, section)(bench):
        print(json.dumps(rows, default=float), flush=True)


if __name__ == "__main__":
    main()
