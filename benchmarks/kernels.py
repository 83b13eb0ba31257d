"""The kernels that sweeps launch on a GPU, as NVIDIA's assembler makes them: registers, spills, instructions per step.

    python benchmarks/kernels.py [--out benchmarks/results/kernels.json] [--write]

No GPU is needed, but ptxas and nvdisasm: pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm. `--write` puts the tables
into README.md: what is measured, beside the same steps in CUDA C, and what a GPU of the class of an H200 needs for them
if it issues an instruction in every cycle.
"""

import argparse
import datetime
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import problems
from table import grid

import dynamics as dy

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
BEGIN, END = "<!-- kernels -->", "<!-- end of kernels -->"
NAMES = {"non_saturating": "Dirac-GAN", "bilinear": "bilinear", "lorenz": "Lorenz"}
PROGRAMS = [
    (game, method, kind)
    for kind in (np.float32, np.float64)
    for game, method in (
        ("non_saturating", "alternating"),
        ("non_saturating", "simultaneous"),
        ("bilinear", "simultaneous"),
        ("lorenz", "tsit5"),
    )
]
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
# The step written by hand in CUDA C, nvcc -O3 for sm_90: instructions, arithmetic among them (measured 2026-11-28).
CUDA = {
    ("non_saturating", "alternating", "f32"): (68, 27),
    ("non_saturating", "simultaneous", "f32"): (42, 17),
    ("bilinear", "simultaneous", "f32"): (15, 4),
    ("lorenz", "tsit5", "f32"): (132, 117),
    ("non_saturating", "alternating", "f64"): (182, 66),
    ("non_saturating", "simultaneous", "f64"): (102, 38),
    ("bilinear", "simultaneous", "f64"): (21, 8),
    ("lorenz", "tsit5", "f64"): (182, 123),
}
# An H200: multiprocessors, cycles per second, and lanes of a multiprocessor that begin an instruction in a cycle: any
# one, one of float64, one of the special functions.
MULTIPROCESSORS, CLOCK = 132, 1.98e9
LANES = {"instructions": 128, "double": 64, "special": 16}
ENSEMBLES = {"lorenz": (2**23, 1_000)}  # games and steps of benchmarks/gpu.py
USUAL = 10**6, 6_400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "kernels.json")
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = [row for program in PROGRAMS for row in measured(*program, ARCHITECTURES)]
    result = dict(date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), ptxas=version())
    result |= dict(jax=jax.__version__, rows=rows)
    text = ",\n  ".join(json.dumps(row) for row in result.pop("rows"))
    options.out.write_text(f'{json.dumps(result)[:-1]}, "rows": [\n  {text}\n]}}\n')
    result = json.loads(options.out.read_text())
    text = "\n".join(tables(result))
    print(text)
    if options.write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


# Programs


def run_program(game: str, method: str, kind: type) -> tuple[Any, int]:
    """The program of a sweep that holds its run, and the number of games for which it was made."""
    from dynamics.compiler.jaxprs import has_loops, subjaxprs
    from dynamics.compiler.llvm.lowering import is_machine_code
    from dynamics.ensembles import running

    more = (1e-3,) if game == "lorenz" else ()
    problem = (problems.flow if game == "lorenz" else problems.planar)(game, method, kind, 1_000, 1_000, *more)
    usual = running.carry_out
    running.carry_out = lambda plan, *_, **__: plan  # a sweep that is planned only
    try:
        plan = dy.sweep(problem.build, problem.axes, design="zip", predict=False, dtype=kind, **problem.duration)
    finally:
        running.carry_out = usual
    shape = 2, plan.lanes
    values = running.as_arguments(plan.cells.at(np.zeros(1, int)), plan.cells, plan.recipe.dtype)
    values = {name: jax.ShapeDtypeStruct(shape, value.dtype) for name, value in values.items()}
    indices = jax.ShapeDtypeStruct(shape, np.uint32)
    traced = eqx.filter_make_jaxpr(running.run_chunk)(plan.recipe, values, indices, plan.devices[:1])[0]

    def programs(jaxpr: Any) -> Iterator[tuple[Any, int]]:
        for eqn in jaxpr.eqns:
            if is_machine_code(eqn):
                yield eqn.params["program"], eqn.params["batch_size"]
            else:
                for inner in subjaxprs(eqn):
                    yield from programs(inner)

    (program,) = [one for one in programs(traced.jaxpr) if has_loops(one[0].jaxpr)]
    return program


# The assembler


def tool(name: str) -> str | None:
    """Where a program of NVIDIA's is: in the package of Python that brings it along, or on the path."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else map(Path, spec.submodule_search_locations or ())
    places = [place for folder in folders for place in sorted(folder.glob(f"*/bin/{name}"))]
    return str(places[-1]) if places else shutil.which(name)


def version() -> str:
    """Of the assembler."""
    said = subprocess.run([tool("ptxas") or "ptxas", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release .*", said)[0]


def measured(game: str, method: str, kind: type, architectures: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows for the kernel of a sweep's run."""
    from dynamics.compiler.nvptx.kernel import compiled

    about: dict[str, Any] = dict(game=game, method=method, precision="f32" if kind is np.float32 else "f64")
    about |= dict(cuda=dict(zip(("instructions", "arithmetic"), CUDA[tuple(about.values())], strict=True)))
    kernel = compiled(*run_program(game, method, kind))
    return [about | dict(architecture=one) | assembled(kernel.ptx, one) for one in architectures]


def assembled(ptx: str, architecture: str) -> dict[str, Any]:
    """What the assembler makes of PTX: registers, bytes of the stack, bytes that are spilled, and its innermost loops.

    Args:
        ptx: of one kernel.
        architecture: "sm_90", for instance.

    Raises:
        ValueError: the assembler refuses it, with what it says.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        command = [tool("ptxas"), "-v", f"-arch={architecture}", source, "-o", target]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr)
        said = done.stdout + done.stderr
        number = {name: int(re.search(text, said)[1]) for name, text in SAID.items()}
        disassembler = tool("nvdisasm")
        if disassembler is None:
            return number
        text = subprocess.run([disassembler, "-c", target], capture_output=True, text=True, check=True).stdout
    return number | dict(loops=[counted(loop) for loop in innermost_loops(text)])


SAID = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spilled": r"(\d+) bytes spill stores",
}


def innermost_loops(text: str) -> list[list[str]]:
    """The instructions of every loop that holds no other one, on the usual path: without calls of slow paths."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        label = re.match(r"\s*(\.L_\w+):", line)
        instruction = re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)
        if label:
            labels[label[1]] = len(instructions)
        elif instruction:
            instructions.append(instruction[1])
    loops = []
    for place, instruction in enumerate(instructions):
        jump = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction)
        if jump and labels.get(jump[1], place + 1) < place:
            loops.append((labels[jump[1]], place + 1))
    inner = [
        one for one in loops if not any(one != other and one[0] <= other[0] and other[1] <= one[1] for other in loops)
    ]
    begins = {*labels.values(), *(n + 1 for n, one in enumerate(instructions) if re.search(r"\b(BRA|EXIT|RET)\b", one))}

    def usual(begin: int, end: int) -> list[str]:
        cuts = [begin, *sorted(n for n in begins if begin < n < end), end]
        parts = [instructions[first:last] for first, last in zip(cuts, cuts[1:], strict=False)]
        return [one for part in parts if not any("CALL" in other for other in part) for one in part]

    return [usual(*loop) for loop in inner]


KINDS = {
    "arithmetic": r"\b(FADD|FMUL|FFMA|DADD|DMUL|DFMA|MUFU)\b",
    "double": r"\bD(ADD|MUL|FMA|SETP|MNMX)\b",
    "special": r"\b(MUFU|F2F|F2I|I2F)\b",
}


def counted(loop: list[str]) -> dict[str, float]:
    """Instructions of a loop per step, some kinds of them, and how many steps the assembler has put in an iteration."""
    counters = (re.search(r"ADD\S* .*?\b(U?R\d+)\b.*\b\1\b, -?0x([0-9a-f]+)\b", one) for one in loop)
    sizes = (int(one[2], 16) for one in counters if one)  # of 32 bits, negative ones maybe as their complement
    steps = max([1, *(size for size in (min(size, 2**32 - size) for size in sizes) if size <= 16)])
    kinds = {name: sum(bool(re.search(kind, one)) for one in loop) / steps for name, kind in KINDS.items()}
    return {"steps": steps, "instructions": len(loop) / steps} | kinds


# What is said


def steps_of(row: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The two loops of a run: a step, and one in the last quarter, where crossings are counted as well."""
    late = max(row["loops"], key=lambda loop: loop["instructions"])
    others = [loop for loop in row["loops"] if loop is not late]
    return max(others, key=lambda loop: (loop["steps"], loop["instructions"])), late


def seconds(row: dict[str, Any], games: int, steps: int) -> float:
    """What an ensemble takes if every multiprocessor begins as many instructions as it can."""
    usual, late = steps_of(row)
    cycles = [max(loop[name] / lanes for name, lanes in LANES.items()) for loop in (usual, late)]
    return games * steps * (0.75 * cycles[0] + 0.25 * cycles[1]) / (MULTIPROCESSORS * CLOCK)


def tables(result: dict[str, Any]) -> list[str]:
    """In Markdown."""
    rows = result["rows"]
    head = ["game", "method", "type", "GPU", "registers", "spilled", "a step", "arithmetic", "last quarter"]
    body = []
    for row in rows:
        usual, late = steps_of(row)
        cells = [NAMES[row["game"]], row["method"], row["precision"], row["architecture"], row["registers"]]
        numbers = usual["instructions"], usual["arithmetic"], late["instructions"]
        body.append([*cells, row["spilled"], *(f"{number:g}" for number in numbers)])
    lines = [f"ptxas {result['ptxas']}, JAX {result['jax']}, {result['date'][:10]}. Instructions of one game:", ""]
    lines += [*grid(head, body), "", "The expected speed on an H200, all instructions at the highest rate:", ""]
    head = ["game", "method", "type", "a step", "in CUDA", "arithmetic", "in CUDA", "ps a step", "games", "steps", "ms"]
    body = []
    for row in (row for row in rows if row["architecture"] == "sm_90"):
        usual = steps_of(row)[0]
        by_hand = row["cuda"]
        games, steps = ENSEMBLES.get(row["game"], USUAL)
        taken = seconds(row, games, steps)
        numbers = [one[name] for name in ("instructions", "arithmetic") for one in (usual, by_hand)]
        cells = [NAMES[row["game"]], row["method"], row["precision"], *(f"{number:g}" for number in numbers)]
        body.append([*cells, f"{taken / games / steps * 1e12:.2f}", f"{games:,}", f"{steps:,}", f"{taken * 1e3:.1f}"])
    return [*lines, *grid(head, body)]


if __name__ == "__main__":
    main()
