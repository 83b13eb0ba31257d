"""Time per game and step on the CPU: this library, C, diffrax, a jitted step called from Python, and NumPy.

    python benchmarks/cpu.py [--quick] [--out benchmarks/results/NAME.json] [--games dirac,bilinear] [--sizes 1,10000]

Every pair of game and precision runs in a process of its own, pinned to one core before JAX starts its threads, and
once more on all cores. Inside, the rivals take turns. README.md says how to read the result; table.py prints it.
"""

import argparse
import ctypes
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PRECISIONS = {"f32": np.float32, "f64": np.float64}
RATE = 0.01  # of both players, per step
NUMBERS = {"dirac": 0.02, "bilinear": 1.0, "quadratic": 0.0}  # weight of the penalty; the matrix; nothing
PLAYERS = {"dirac": 2, "bilinear": 2, "quadratic": 20}  # numbers per game
SIZES = {"dirac": (1, 100, 10_000, 1_000_000), "bilinear": (1, 100, 10_000, 1_000_000), "quadratic": (1, 100, 10_000)}
QUICK_SIZES = (100,)
CHECKED = 8  # games whose final state is compared with the reference
C, LIBRARY, CLASSIFIED = "C", "library", "library, classified"
EULER, TSIT5, STEP, NUMPY = "diffrax Euler", "diffrax Tsit5", "jitted step", "NumPy"
# Nanoseconds per step, and per game and step, roughly: only to choose numbers of steps.
GUESSES = {
    "dirac": {LIBRARY: (400, 3), CLASSIFIED: (1500, 12), EULER: (8e3, 60), STEP: (3e4, 5), NUMPY: (2e4, 40)},
    "bilinear": {LIBRARY: (300, 0.8), CLASSIFIED: (1500, 8), EULER: (8e3, 60), STEP: (3e4, 3), NUMPY: (1e4, 6)},
    "quadratic": {LIBRARY: (3e3, 500), CLASSIFIED: (6e3, 700), EULER: (1e4, 1500), STEP: (3e4, 600), NUMPY: (2e4, 600)},
}
MOST_STEPS = {"dirac": 400_000, "bilinear": 400_000, "quadratic": 50_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few games, few steps: to see that everything runs")
    parser.add_argument("--out", type=Path, help="JSON file for the result; default: results/HOST-DATE.json")
    parser.add_argument("--games", default=",".join(SIZES), help="comma-separated: dirac, bilinear, quadratic")
    parser.add_argument("--precisions", default="f32,f64", help="comma-separated: f32, f64")
    parser.add_argument("--sizes", help="comma-separated numbers of games, instead of the usual ones")
    parser.add_argument("--repeats", type=int, help="timings of every rival; default 5")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(**json.loads(options.child))))
        return
    unknown = set(options.games.split(",")) - set(SIZES) | set(options.precisions.split(",")) - set(PRECISIONS)
    if unknown:
        parser.error(f"unknown game or precision {sorted(unknown)}; expected {list(SIZES)} and {list(PRECISIONS)}")
    budget, repeats = (0.002, 2) if options.quick else (0.12, 5)
    settings = {"budget": budget, "repeats": options.repeats or repeats, "rate": RATE, "numbers": NUMBERS}
    settings |= {"quick": options.quick, "load_before": os.getloadavg()}
    cores = sorted(os.sched_getaffinity(0))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    out = options.out or HERE / "results" / f"{platform.node()}-{date[:10]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        library, compiler = compile_c(folder)
        facts = {"machine": machine(), "versions": versions() | {"compiler": compiler}, "date": date}
        for game in options.games.split(","):
            usual = QUICK_SIZES if options.quick else SIZES[game]
            sizes = [int(n) for n in options.sizes.split(",")] if options.sizes else list(usual)
            for precision in options.precisions.split(","):
                for used in (cores[-1:], cores) if len(cores) > 1 else (cores,):
                    many = [n for n in sizes if n >= 10_000] or sizes[-1:]
                    child = dict(game=game, precision=precision, cores=used, library=library)
                    child |= dict(sizes=sizes if len(used) == 1 else many, budget=budget, repeats=settings["repeats"])
                    rows += run_child(child)
                    seconds = time.perf_counter() - began
                    print(f"{game} {precision}, {len(used)} core(s): {seconds:.0f} s", flush=True)
                    # Written after every child, so that an interrupted run leaves what it has measured.
                    ended = {"settings": settings | {"load_after": os.getloadavg()}, "seconds": seconds, "rows": rows}
                    out.with_suffix(".part").write_text(json.dumps(facts | ended, indent=1) + "\n")
                    out.with_suffix(".part").replace(out)
    print(f"wrote {out}")


def compile_c(folder: str) -> tuple[str, str]:
    """Build games.c as a shared library; returns its path and the compiler with its options."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler found; install gcc or set CC")
    options = ["-O3", "-march=native", "-shared", "-fPIC", "-pthread"]
    library = os.path.join(folder, "games.so")
    subprocess.run([compiler, *options, str(HERE / "games.c"), "-o", library, "-lm"], check=True)
    name = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return library, f"{name}, {' '.join(options)}"


def run_child(child: dict) -> list[dict]:
    command = [sys.executable, __file__, "--child", json.dumps(child)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed: {child}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, str]:
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {"processor": platform.processor()}
    facts = {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
    wanted = (
        "Architecture",
        "Model name",
        "CPU(s)",
        "CPU family",
        "Model",
        "Thread(s) per core",
        "Flags",
        "Hypervisor",
    )
    wanted += ("BogoMIPS", "L1d cache", "L2 cache", "L3 cache", "Hypervisor vendor")
    return {key: facts[key] for key in wanted if key in facts} | {"system": platform.platform()}


def versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "diffrax", "equinox", "optax", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


# What follows runs in a child process: JAX is imported there, after the process is pinned.


class Native:
    """The compiled C program: the maps on arrays of a precision, and the references."""

    def __init__(self, path: str, game: str, precision: str):
        self.code = ctypes.CDLL(path)
        self.game, self.precision = game, precision
        self.function = getattr(self.code, f"{game}_{precision}")
        self.function.restype = self.code.reference.restype = None

    def run(self, states: list[np.ndarray], numbers: np.ndarray | float, steps: int, threads: int = 1) -> None:
        """Advance the states in place: [x, y] for planar games, [z] with numbers the matrices for quadratic ones."""
        rate = PRECISIONS[self.precision](RATE)
        count, length = ctypes.c_long(len(states[0])), ctypes.c_long(steps)
        if self.game == "quadratic":
            rates = np.full(PLAYERS[self.game], rate)
            self.function(_at(numbers), _at(states[0]), count, length, _at(rates), ctypes.c_int(threads))
        else:
            reals = (ctypes.c_double(float(x)) for x in (rate, rate, PRECISIONS[self.precision](numbers)))
            self.function(_at(states[0]), _at(states[1]), count, length, *reals, ctypes.c_int(threads))

    def reference(self, states: np.ndarray, numbers: np.ndarray | float, steps: int, flow: bool) -> np.ndarray:
        """The same map, or the flow behind it, in long double; states of shape (games, numbers per game)."""
        kind, size = PRECISIONS[self.precision], PLAYERS[self.game]
        finer = 4 if flow else 1  # steps of the Runge-Kutta method per step of the map
        rates = np.full(size, float(kind(RATE)) / finer)
        own = np.ascontiguousarray(np.asarray(numbers, kind), np.float64).ravel()
        states = np.array(states, np.float64, order="C")
        stride = size * size if own.size > 1 else 0
        index = list(SIZES).index(self.game)
        longs = (ctypes.c_long(n) for n in (len(states), size, steps * finer, stride))
        self.code.reference(ctypes.c_int(index), *longs, _at(own), _at(rates), ctypes.c_int(flow), _at(states))
        return states


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def problem(game: str, precision: str, games: int) -> tuple[list[np.ndarray], np.ndarray | float]:
    """Starting points, one array per player, and the numbers of the games."""
    kind = PRECISIONS[precision]
    draw = np.random.default_rng(0)
    if game != "quadratic":
        return [draw.normal(size=games).astype(kind) for _ in range(2)], NUMBERS[game]
    half = PLAYERS[game] // 2
    matrices = np.empty((games, 2 * half, 2 * half), kind)
    for part in np.array_split(np.arange(games), max(1, games // 1000)):
        coupling = draw.normal(size=(len(part), half, half)) / np.sqrt(half)
        noise = draw.normal(size=(2, len(part), half, half)) * (0.1 / np.sqrt(half))
        matrices[part, :half, half:] = coupling
        matrices[part, half:, :half] = -np.swapaxes(coupling, 1, 2)
        matrices[part, :half, :half] = noise[0] @ np.swapaxes(noise[0], 1, 2) + 0.01 * np.eye(half)
        matrices[part, half:, half:] = noise[1] @ np.swapaxes(noise[1], 1, 2) + 0.01 * np.eye(half)
    for own in (matrices[:, :half, :half], matrices[:, half:, half:]):
        own[...] = (own + np.swapaxes(own, 1, 2)) / 2
    return [draw.normal(size=(games, half)).astype(kind) for _ in range(2)], matrices


def measure(game, precision, cores, library, sizes, budget, repeats) -> list[dict]:
    """All rivals on one game and precision, for every number of games."""
    os.sched_setaffinity(0, cores)
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    if len(cores) > 1:
        jax.config.update("jax_num_cpu_devices", len(cores))
    native = Native(library, game, precision)
    rows = []
    for games in sizes:
        starts, numbers = problem(game, precision, games)
        rivals, compiled = {}, {}
        for name in (C, LIBRARY) if len(cores) > 1 else (C, LIBRARY, CLASSIFIED, STEP, NUMPY, EULER, TSIT5):
            if name in (EULER, TSIT5) and game == "quadratic" and games > 10_000:
                continue
            steps = choose_steps(game, name, games, budget)
            began = time.perf_counter()
            rivals[name] = steps, build(name, native, starts, numbers, steps, len(cores))
            compiled[name] = time.perf_counter() - began
        final = {name: run() for name, (_, run) in rivals.items()}  # warm-up
        clocks = {name: [] for name in rivals}
        for turn in range(repeats):
            for name, (_, run) in rivals.items():
                if turn > 1 and clocks[name][0][0] > 10 * budget:
                    continue  # slow ones twice, the others as often as asked
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                clocks[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        for name, (steps, _) in rivals.items():
            wall, cpu = np.median(np.array(clocks[name]), axis=0)
            start = np.concatenate([np.reshape(x[:CHECKED], (min(games, CHECKED), -1)) for x in starts], axis=1)
            some = numbers if np.ndim(numbers) == 0 else numbers[:CHECKED]
            wanted = native.reference(start, some, steps, name == TSIT5)
            got = np.concatenate([np.reshape(np.asarray(x)[:CHECKED], (len(start), -1)) for x in final[name]], axis=1)
            rows.append(
                dict(game=game, precision=precision, cores=len(cores), games=games, rival=name, steps=steps)
                | dict(wall_seconds=wall, cpu_seconds=cpu, wall=[w for w, _ in clocks[name]])
                | dict(cpu=[c for _, c in clocks[name]], compile_seconds=0.0 if name in (C, NUMPY) else compiled[name])
                | dict(ns_per_game_step=(cpu if len(cores) == 1 else wall) / games / steps * 1e9)
                | dict(error=float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))))
            )
        of_c = rows[-len(rivals)]["ns_per_game_step"]
        for row in rows[-len(rivals) :]:
            row["ratio_to_c"] = row["ns_per_game_step"] / of_c
    return rows


def choose_steps(game: str, name: str, games: int, budget: float) -> int:
    """So many steps that a timing takes about the budget, in seconds; C and the library take the same number."""
    if name == TSIT5:
        return 100 if games * PLAYERS[game] > 20_000 else 2000 if budget > 0.01 else 200
    per_step, per_game = GUESSES[game][LIBRARY if name == C else name]
    steps = budget * 1e9 / (per_step + games * per_game)
    return int(max(16, min(MOST_STEPS[game], round(steps, 1 - len(str(int(steps)))))))


def build(name: str, native: Native, starts: list[np.ndarray], numbers, steps: int, cores: int):
    """A function without arguments that runs the rival and returns the final players as arrays."""
    if name == C:
        return _build_c(native, starts, numbers, steps, cores)
    if name == NUMPY:
        return _build_numpy(native.game, starts, numbers, steps)
    return _build_jax(name, native.game, starts, numbers, steps, cores)


def _build_c(native, starts, numbers, steps, cores):
    whole = [np.concatenate(starts, axis=1)] if native.game == "quadratic" else starts

    def run():
        states = [x.copy() for x in whole]
        native.run(states, numbers, steps, cores)
        return np.split(states[0], 2, axis=1) if native.game == "quadratic" else states

    return run


def _build_numpy(game, starts, numbers, steps):
    def dirac(x, y):
        t = x * y
        decay = np.exp(-np.abs(t))
        large = 1 / (1 + decay)
        small = decay * large
        up, down = np.where(t >= 0, large, small), np.where(t >= 0, small, large)
        return -y * up, x * down - numbers * y

    def bilinear(x, y):
        return -numbers * y, numbers * x

    def quadratic(x, y):
        v = -np.matmul(numbers, np.concatenate([x, y], axis=1)[..., None])[..., 0]
        return np.split(v, 2, axis=1)

    field = {"dirac": dirac, "bilinear": bilinear, "quadratic": quadratic}[game]

    def run():
        x, y = starts
        for _ in range(steps):
            v, w = field(x, y)
            x, y = x + RATE * v, y + RATE * w
        return [x, y]

    return run


def _build_jax(name, game, starts, numbers, steps, cores):
    import diffrax
    import jax
    import jax.numpy as jnp

    import dynamics as dy

    dtype = starts[0].dtype
    half = PLAYERS["quadratic"] // 2
    update = dy.updates.Simultaneous(dy.optimisers.sgd(RATE), dy.optimisers.sgd(RATE))
    fixed = {"dirac": dy.games.DiracGAN(penalty=dy.penalties.R1(NUMBERS["dirac"])), "bilinear": dy.games.Bilinear(1.0)}

    def make(matrix):
        if game != "quadratic":
            return fixed[game]
        return dy.games.Quadratic(
            [[matrix[:half, :half], matrix[:half, half:]], [matrix[half:, :half], matrix[half:, half:]]]
        )

    def simulate(matrix, *players):
        return dy.simulate(make(matrix), update, players, steps=steps, save_every="last", classify=name == CLASSIFIED)

    def flow(matrix, *players):
        own = make(matrix)
        rate = jnp.asarray(RATE, dtype)  # time is counted in steps
        term = diffrax.ODETerm(lambda t, y, args: jax.tree.map(lambda v: rate * v, own.field(y)))
        accuracy = 1e-9 if dtype == np.float64 else 1e-6
        fine = diffrax.PIDController(rtol=accuracy, atol=accuracy)
        solver, dt0, control = (diffrax.Euler(), 1.0, diffrax.ConstantStepSize())
        if name == TSIT5:
            solver, dt0, control = (diffrax.Tsit5(), None, fine)
        end = jnp.asarray(steps, dtype)
        solution = diffrax.diffeqsolve(
            term, solver, jnp.zeros((), dtype), end, None if dt0 is None else jnp.ones((), dtype), players,
            stepsize_controller=control, max_steps=None,
        )  # fmt: skip
        return jax.tree.map(lambda leaf: leaf[-1], solution.ys)

    matrices = numbers if game == "quadratic" else np.zeros(len(starts[0]), dtype)
    if name == STEP:

        def step(matrix, *players):
            own = make(matrix)
            return update.step(own, update.init(own, players)).players

        inputs = jax.device_put([matrices, *starts])
        once = jax.jit(jax.vmap(step)).lower(*inputs).compile()

        def run():
            players = inputs[1:]
            for _ in range(steps):
                players = once(inputs[0], *players)
            return jax.block_until_ready(players)

        return run

    function = jax.vmap(flow if name in (EULER, TSIT5) else simulate)
    inputs = [matrices, *starts]
    if cores > 1 and len(starts[0]) % cores == 0:
        mesh = jax.make_mesh((cores,), ("games",))
        spec = jax.sharding.PartitionSpec("games")
        function = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        inputs = jax.device_put(inputs, jax.sharding.NamedSharding(mesh, spec))
    else:
        inputs = jax.device_put(inputs)
    program = jax.jit(function).lower(*inputs).compile()

    def run():
        result = jax.block_until_ready(program(*inputs))
        return result.final if name in (LIBRARY, CLASSIFIED) else result

    return run


if __name__ == "__main__":
    main()
