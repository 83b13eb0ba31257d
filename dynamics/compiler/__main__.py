"""`python -m dynamics.compiler`: a game through every pass of the compiler, or what of its sweep was compiled.

The program is a run of a few steps. All numbers of the game, of the method and of the start differ from game to game.
What is printed does not depend on the machine: the vector tile has a length of its own, and names that are made of the
processor's name are left out.
"""

import argparse
import collections
import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from llvmlite import ir

import dynamics as dy
import dynamics.catalogue as catalogue
from dynamics.compiler import errors
from dynamics.compiler.batch.interpreter import batch_last_axis
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.fallback import CompilerWarning
from dynamics.compiler.jaxprs import inlined
from dynamics.compiler.llvm.jit import POINTER
from dynamics.compiler.llvm.lowering import compiled_programs, write_function
from dynamics.simulation import start_state
from dynamics.simulation.maps import one_step

PASSES = "jaxpr", "batch", "llvm", "call", "kernel", "launch"
STEPS, GAMES = 100, 24
SWEPT = 16  # games of a sweep that is made to see what is compiled


class Program(NamedTuple):
    """A run of a game, and what varies: `run(steps, *numbers)` returns the players."""

    run: Callable[..., Any]
    numbers: list[Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was asked for, and return the exit code.

    Args:
        argv: the arguments, by default those of the process.
    """
    parser = argparse.ArgumentParser("python -m dynamics.compiler", description=__doc__.splitlines()[0])
    parser.add_argument("game", nargs="?", default="DiracGAN", help="of the catalogue; with --report also a study")
    parser.add_argument("--update", default="Alternating", help="of the catalogue (Alternating)")
    parser.add_argument("--pass", dest="passes", choices=PASSES, action="append", help="which passes to print (all)")
    parser.add_argument("--width", type=int, default=8, help="games of a vector tile (8)")
    parser.add_argument("--lines", type=int, help="print so many lines of every pass, and leave out the middle")
    parser.add_argument("--whole", action="store_true", help="all of the LLVM function, not the longest loop alone")
    parser.add_argument("--report", action="store_true", help="sweep, and say what was compiled, what was not, and why")
    given = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", False)
    try:
        if given.report:
            for line in report(given.game, given.update):
                print(line, flush=True)
            return 0
        program = program_of(given.game, given.update)
        for name in given.passes or PASSES:
            lines = text_of(name, program, given.width, given.whole)
            print("\n".join([f"== {name}", *shortened(lines, given.lines)]))
        return 0
    except (LookupError, ValueError) as error:  # no such game, update or study
        print(error.args[0], file=sys.stderr)
        return 2


def program_of(game: str, update: str) -> Program:
    """A run of a game of the catalogue with an update, both as in their examples."""
    example, players = catalogue.find("games", game).example()
    parts = example, catalogue.find("updates", update).example(), dy.game.as_players(players)
    numbers, rest = eqx.partition(parts, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(numbers)

    def run(steps: int, *leaves: Any) -> Any:
        game, update, players = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
        state = start_state(game, update, players)
        if steps == 1:
            return one_step(update, game, state).players
        return jax.lax.fori_loop(0, steps, lambda _, state: one_step(update, game, state), state).players

    return Program(run, [jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in leaves])


def text_of(name: str, program: Program, width: int, whole: bool) -> list[str]:
    """The lines of a pass."""
    if name == "jaxpr":
        step = jax.make_jaxpr(lambda *numbers: program.run(1, *numbers))(*program.numbers)
        return str(inlined(step)).splitlines()
    batch = [jax.ShapeDtypeStruct((*number.shape, GAMES), number.dtype) for number in program.numbers]
    function = batch_last_axis(lambda *numbers: program.run(STEPS, *numbers), machine_code=True)
    if name in ("call", "launch"):
        platform = {"call": "cpu", "launch": "cuda"}[name]
        text = jax.jit(function).trace(*batch).lower(lowering_platforms=(platform,)).as_text()
        calls = [line.strip() for line in text.splitlines() if "stablehlo.custom_call @" in line]
        return [part for line in calls for part in (_call if name == "call" else _launch)(line)]
    closed = max(compiled_programs(jax.make_jaxpr(function)(*batch).jaxpr), key=lambda closed: len(str(closed)))
    if name == "batch":
        return str(closed).splitlines()
    try:
        return kernel_of(closed) if name == "kernel" else llvm_of(closed, width, whole)
    except Unsupported as error:
        return [f"left to XLA: {errors.text(error)}"]


def llvm_of(closed: Any, width: int, whole: bool) -> list[str]:
    """The lines of a function of pointers to the inputs and to the outputs, before LLVM optimises it."""
    context, write = write_function(closed, GAMES, width)
    inputs, outputs = closed.jaxpr.invars, closed.jaxpr.outvars
    kind = ir.FunctionType(ir.VoidType(), [POINTER] * (len(inputs) + len(outputs)))
    function = ir.Function(context.module, kind, "games")
    names = [*(f"input_{n}" for n in range(len(inputs))), *(f"output_{n}" for n in range(len(outputs)))]
    for argument, name in zip(function.args, names, strict=True):
        argument.name = name
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    write(builder, function.args[: len(inputs)], function.args[len(inputs) :])
    builder.ret_void()
    lines = _without_quotes(str(function)).splitlines()
    return lines if whole else _longest_loop(lines)


def kernel_of(closed: Any) -> list[str]:
    """The lines of a kernel for a GPU, before LLVM optimises it."""
    from dynamics.compiler.nvptx.kernel import kernel_ir

    text = _without_quotes(kernel_ir(closed, GAMES))
    return text[text.index("define ") : text.index("\n}") + 2].splitlines()


def _without_quotes(text: str) -> str:
    """llvmlite quotes all names, and begins those of temporaries with a dot."""
    return re.sub(r'(?<!=)"\.?([\w.]+)"(?!=)', r"\1", text)


def _call(line: str) -> list[str]:
    """A call of a function, without attributes."""
    return [re.sub(r"@games_[0-9a-f]+", "@games_...", re.sub(r" \{.*\} :", " :", line))]


def _launch(line: str) -> list[str]:
    """A launch of a kernel, an attribute a line, without the text of the kernel."""
    line = re.sub(r"games_[0-9a-f]+", "games_...", re.sub(r'kernel_data = "[^"]*"', 'kernel_data = "..."', line))
    head, attributes = re.fullmatch(r"(.*?) \{.*backend_config = \{(.*?)\}.*", line).groups()
    return [head, *(f"  {one}" for one in attributes.split(", "))]


def _longest_loop(lines: Sequence[str]) -> list[str]:
    """Head and body of the loop with the longest body; all lines where there is no loop."""
    blocks: dict[str, list[str]] = {}
    for line in lines:
        label = re.fullmatch(r"([\w.]+):", line)
        if label:
            blocks[label[1]] = []
        if blocks:
            blocks[list(blocks)[-1]].append(line)
    bodies = [name for name in blocks if name.startswith("body")]
    if not bodies:
        return list(lines)
    longest = max(bodies, key=lambda name: len(blocks[name]))
    return [*blocks[f"head{longest.removeprefix('body')}"], *blocks[longest]]


def shortened(lines: Sequence[str], most: int | None) -> list[str]:
    """The lines, or their beginning and their end."""
    if most is None or len(lines) <= most:
        return list(lines)
    first = -(-2 * most // 3)
    left = len(lines) - most
    return [*lines[:first], f"    ... ({left} lines) ...", *lines[len(lines) - (most - first) :]]


# What was compiled


def report(name: str, update: str) -> Iterator[str]:
    """What became machine code in the sweep of a game, or of the games of a study, and what did not, and why.

    Raises:
        ValueError: there is no such game, update or study.
    """
    for title, (game, method, players) in _subjects(name, update):

        def build(scale: Any, game=game, method=method, players=players) -> tuple[Any, Any, Any]:
            scaled = jax.tree.map(lambda leaf: leaf * scale if eqx.is_inexact_array(leaf) else leaf, (game, players))
            return scaled[0], method, scaled[1]

        length = dict(until=1.0) if isinstance(method, dy.flows.AbstractFlow) else dict(steps=STEPS)
        messages: list[str] = []
        with _listening(messages), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                dy.sweep(build, {"scale": np.linspace(1.0, 1.01, SWEPT)}, predict=False, **length)
            except Exception as error:
                messages.append(f"no sweep: {type(error).__name__}: {error}")
        messages += [str(one.message) for one in caught if issubclass(one.category, CompilerWarning)]
        yield title
        for message, count in collections.Counter(messages).items():
            yield f"  {message}" + (f" ({count} times)" if count > 1 else "")


def _subjects(name: str, update: str) -> Iterator[tuple[str, tuple[Any, Any, Any]]]:
    """Titles with game, method and start: of a game, or of the cells of a study that are different programs."""
    if name in catalogue.members("games") or not (name in dy.studies.builtin() or os.path.exists(name)):
        game, players = catalogue.find("games", name).example()
        method = catalogue.find("updates", update).example()
        yield f"{name}, {update}", (game, method, dy.game.as_players(players))
        return
    from dynamics.studies.building import build

    seen = set()
    for recipe in dy.studies.load(name).recipes:
        parts = build(recipe)
        leaves, structure = jax.tree.flatten(eqx.filter(parts, eqx.is_array))
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in seen:
            seen.add(key)
            yield ", ".join([recipe.game, recipe.objective, recipe.penalty, recipe.method]), parts


@contextlib.contextmanager
def _listening(messages: list[str]) -> Iterator[None]:
    """Collect what the compiler logs."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(re.sub(r"games_[0-9a-f]+", "games_...", record.getMessage()))

    logger, listener = logging.getLogger("dynamics"), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
