"""Sweeps whose compiler fails: whatever it is that fails, the numbers are those of `jax.vmap`, with one warning."""

import ast
import inspect
import itertools
import logging
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

import dynamics as dy
from dynamics import optimisers
from dynamics.compiler import _jax, affine, fallback, jaxprs
from dynamics.compiler.batch import interpreter, rules, values
from dynamics.compiler.errors import Unavailable, Unsupported
from dynamics.compiler.fallback import CompilerWarning
from dynamics.compiler.llvm import (
    array_rules,
    context,
    control_flow,
    elementary,
    interface,
    jit,
    lowering,
    operations,
    processor,
    programs,
    targets,
    trial,
    vector_width,
)
from dynamics.compiler.llvm import rules as llvm_rules
from dynamics.ensembles import cells

MODULES = (
    _jax,
    affine,
    elementary,
    interface,
    processor,
    jit,
    rules,
    values,
    interpreter,
    lowering,
    programs,
    context,
    llvm_rules,
    array_rules,
    control_flow,
    operations,
    targets,
    vector_width,
    jaxprs,
)
AXES = {"rate": [0.1, 0.5, 4.5], "weight": [0.3, 2.0]}


class Mixed(dy.Game):
    """Two numbers against two, with a step that is no matrix, elementary functions and a choice."""

    weight: jax.Array

    def losses(self, players, batch=None):
        x, y = players
        pull = jnp.tanh(jnp.array([1.0, 0.5]) * x)
        value = jnp.sum(pull) * y["a"] - self.weight * jnp.log1p(jnp.exp(-y["b"])) * jnp.max(x)
        return value, -value + 0.1 * (y["a"] ** 2 + jnp.where(y["b"] > 0, y["b"] ** 2, y["b"] ** 4))

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(jnp.array(1.0))


def built(rate, weight):
    players = jnp.array([0.3, -0.2]), {"a": jnp.array(0.5), "b": jnp.array(-0.4)}
    return Mixed(weight), dy.updates.Alternating(optimisers.sgd(rate), optimisers.adam(rate)), players


count = itertools.count(1)


def swept(**changed):
    """A sweep of a program that nobody has compiled yet, and the warnings of its compiler."""
    nearly_one = 1 + 2.0**-40 * next(count)

    def build(rate, weight):
        return built(rate, nearly_one * weight)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = dy.sweep(build, AXES, **dict(steps=20, predict=False) | changed)
    return found, [str(one.message) for one in caught if one.category is CompilerWarning]


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        sweeps.small_blocks(patch, 3)
        yield


@pytest.fixture(scope="module")
def plain(small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fallback.VARIABLE, "off")
        found, told = swept()
    assert not told and np.all(np.isfinite(found.residual[:2]))
    return found


def close(found, plain):
    assert set(found.variables) == set(plain.variables)
    for name in plain.variables:
        np.testing.assert_allclose(found[name].values, plain[name].values, 1e-8, 1e-12, err_msg=name)


# What can fail


class Without:
    """A module from which a name is missing, or cannot be called."""

    def __init__(self, module, path, error, hits):
        self._module, self._path, self._error, self._hits = module, path, error, hits

    def __getattr__(self, name):
        first, *more = self._path
        if name != first:
            return getattr(self._module, name)
        if more:
            return Without(getattr(self._module, name), more, self._error, self._hits)
        if self._error is AttributeError:
            self._hits.append(name)
            raise AttributeError(f"no {name} any more")

        def failing(*_, **__):
            self._hits.append(name)
            raise self._error(f"{name} fails")

        return failing


def foreign_names(module):
    """What a module takes from JAX and from llvmlite: paths of attributes by the names of these modules in it."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        path = []
        while isinstance(node, ast.Attribute):
            path.append(node.attr)
            node = node.value
        if path and isinstance(node, ast.Name) and node.id in ("jax", "jnp", "mlir", "llvm", "ir", "ctypes"):
            found.add((node.id, *reversed(path)))
    longest = {
        path for path in found if not any(len(other) > len(path) and other[: len(path)] == path for other in found)
    }
    return sorted(path for path in longest if not inspect.isclass(attribute(module, path)) or path[0] != "jax")


def attribute(module, path):
    value = getattr(module, path[0])
    for name in path[1:]:
        value = getattr(value, name)
    return value


FAULTS = [(module, path) for module in MODULES for path in foreign_names(module)]
FEW = {
    ("_jax", "jax.ffi.ffi_lowering"),
    ("_jax", "jax.ffi.include_dir"),
    ("_jax", "jax.extend.core.ClosedJaxpr"),
    ("jaxprs", "jax.make_jaxpr"),
    ("interpreter", "jax.lax.scan"),
    ("_jax", "jax.ffi.register_ffi_target"),
    ("jit", "llvm.create_mcjit_compiler"),
}


def fault(module, path):
    name, text = module.__name__.rpartition(".")[2], ".".join(path)
    marks = () if (name, text) in FEW else pytest.mark.slow
    return pytest.param(module, path, id=f"{name}-{text}", marks=marks)


def forget():
    for function in (interface.header, interface.version, interface.structure, processor.host, processor.translator):
        function.cache_clear()


@pytest.fixture
def nothing_remembered():
    """As in a fresh process: nothing is known of the machine."""
    forget()
    yield
    forget()


@pytest.mark.slow_cases(
    "_jax-jax.ffi.register_ffi_target",
    "jit-llvm.create_mcjit_compiler",
    "_jax-jax.ffi.include_dir",
    "interpreter-jax.lax.scan",
)
@pytest.mark.slow_cases("_jax-jax.ffi.ffi_lowering")
@pytest.mark.parametrize("module, path", [fault(*one) for one in FAULTS])
def test_a_name_that_is_gone_or_fails(module, path, plain, nothing_remembered, monkeypatch):
    error, hits = (AttributeError, RuntimeError)[len(path[-1]) % 2], []
    with monkeypatch.context() as patch:
        patch.setattr(module, path[0], Without(getattr(module, path[0]), path[1:], error, hits))
        found, told = swept()
    close(found, plain)
    assert len(told) <= 1
    name = module.__name__.rpartition(".")[2], ".".join(path)
    assert hits or name not in FEW, "the name is not used"
    if hits and (name in FEW or error is RuntimeError):
        assert told and path[-1] in told[0], told


def faulty_rules():
    written = [name for name in vars(context.FunctionContext) if not name.startswith("__")]
    for key in sorted(interpreter.RULES):
        marks = () if key == "reduce_max" else pytest.mark.slow
        yield pytest.param(interpreter.RULES, key, id=f"rules-{key}", marks=marks)
    for key in sorted(operations.ELEMENTWISE):
        marks = () if key == "tanh" else pytest.mark.slow
        yield pytest.param(operations.ELEMENTWISE, key, id=f"operations-{key}", marks=marks)
    for key in sorted(llvm_rules.RULES):
        marks = () if key in ("while", "reshape") else pytest.mark.slow
        yield pytest.param(llvm_rules.RULES, key, id=f"lowering-rules-{key}", marks=marks)
    for name in written:
        yield pytest.param(context.FunctionContext, name, id=f"context-{name}", marks=pytest.mark.slow)
    for name in ("compile_program", "write_function", "jaxpr_as_fun"):
        yield pytest.param(lowering, name, id=f"lowering-{name}", marks=pytest.mark.slow)
    yield pytest.param(programs, "lower_jaxpr", id="programs-lower_jaxpr", marks=pytest.mark.slow)
    for name in ("RuleContext", "needed_eqns"):
        yield pytest.param(llvm_rules, name, id=f"lowering-rules-{name}", marks=pytest.mark.slow)


@pytest.mark.slow_cases("lowering-rules-while", "lowering-rules-reshape", "operations-tanh")
@pytest.mark.parametrize("where, name", [*faulty_rules()])
def test_a_rule_that_fails(where, name, plain, monkeypatch):
    hits = []

    def failing(*_, **__):
        hits.append(name)
        raise ZeroDivisionError("a rule")

    if not isinstance(where, dict):
        monkeypatch.setattr(where, name, failing)
    elif callable(where[name]):
        monkeypatch.setitem(where, name, failing)
    found, told = swept()
    close(found, plain)
    assert len(told) == bool(hits)
    assert not hits or "ZeroDivisionError: a rule" in told[0]


def test_a_failure_while_the_program_runs(plain, monkeypatch):
    """One warning for all chunks of a sweep, and no second trial of what has failed."""
    run_chunk, calls = cells.run_chunk, []

    def failing(recipe, *arguments):
        calls.append(recipe.compiled)
        if recipe.compiled:
            raise jax.errors.JaxRuntimeError("INTERNAL: the code has no place")
        return run_chunk(recipe, *arguments)

    monkeypatch.setattr("dynamics.ensembles.work.run_chunk", failing)
    found, told = swept(chunk=3, store=None)
    close(found, plain)
    assert len(told) == 1 and "JaxRuntimeError: INTERNAL: the code has no place" in told[0]
    assert calls == [True, False] + [False] * (len(calls) - 2)


@pytest.mark.slow
def test_broken_code_is_refused_before_it_runs(plain, nothing_remembered, monkeypatch):
    """What LLVM cannot read, functions that are nowhere, and calls that are not as XLA describes them."""
    registered, size = jit._registered, interface.static_size

    def longer(wanted):
        return lambda name: size(name) + 8 * (name == wanted)

    differs = "the structures of this call are not as long as XLA's header has them"
    frame = "a frame of 168 bytes, and its description says 176"
    for module, name, new, words in (
        (jit, "_registered", lambda text, *_: registered(text + "\n}"), "RuntimeError: LLVM IR parsing error"),
        (jit, "_registered", lambda text, *_: registered(text + "\ndeclare void @nowhere()"), "no function nowhere"),
        (interface, "ARGUMENTS", ("XLA_FFI_CallFrame", "args", "values"), "has no member args.values"),
        (interface, "static_size", longer(interface.FRAME), frame),
        (interface, "static_size", longer("XLA_FFI_Args"), differs),
        (interface, "static_size", longer("XLA_FFI_Rets"), differs),
        (interface, "static_size", longer(interface.BUFFER), differs),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, new)
            found, told = swept()
        close(found, plain)
        assert len(told) == 1 and words in told[0], (name, told)


@pytest.mark.slow
def test_a_program_that_can_be_lowered_in_no_way(plain, monkeypatch):
    def unsupported(*_):
        raise Unsupported("a loop")

    monkeypatch.setattr(lowering, "compile_program", unsupported)
    monkeypatch.setattr(_jax, "mlir", Without(_jax.mlir, ["lower_fun"], AttributeError, []))
    found, told = swept()
    close(found, plain)
    assert len(told) == 1 and "AttributeError: no lower_fun any more" in told[0]


def test_the_layout_of_the_frame_is_that_of_the_description(nothing_remembered, monkeypatch):
    place = interface.place
    with pytest.raises(Unavailable, match="has no structure XLA_FFI_Frame"):
        place("XLA_FFI_Frame", "rets")
    assert (place(*interface.ARGUMENTS), place(*interface.RESULTS)) == (72, 112)
    assert place("XLA_FFI_Buffer", "data") == 24 and place("XLA_FFI_Metadata", "api_version", "minor_version") == 28
    header = interface.header()

    def described(old, new):
        interface.structure.cache_clear()
        assert old in header
        monkeypatch.setattr(interface, "header", lambda: header.replace(old, new))

    described("XLA_FFI_ExecutionStage stage;", "XLA_FFI_ExecutionStage stage; size_t more;")
    assert place(*interface.ARGUMENTS) == 80
    described("XLA_FFI_ExecutionStage stage;", "XLA_FFI_Unheard stage;")
    with pytest.raises(Unavailable, match="no structure XLA_FFI_Unheard"):
        place(*interface.ARGUMENTS)
    described("TRAITS(XLA_FFI_Args, args)", "TRAITS(XLA_FFI_Args, values)")
    with pytest.raises(Unavailable, match="XLA_FFI_Args of XLA ends with values, of which its description"):
        place(*interface.ARGUMENTS)
    described("TRAITS(XLA_FFI_Args, args)", "NOTHING")
    with pytest.raises(Unavailable, match="does not say how long the structure XLA_FFI_Args is"):
        interface.static_size("XLA_FFI_Args")
    described("#define XLA_FFI_API_MAJOR 0", "#define XLA_FFI_API_MAJOR 1")
    with pytest.raises(Unavailable, match="is not version 0"):
        interface.version()
    for name in _jax.ffi_extension_names():
        header = header.replace(name, "XLA_FFI_Unheard")
    described("XLA_FFI_Unheard", "XLA_FFI_Unknown")
    with pytest.raises(Unavailable, match="no structure XLA_FFI_InternalExtension or XLA_FFI_Extension_Base"):
        interface.extension()
    interface.structure.cache_clear()
    monkeypatch.undo()


C_PROGRAM = """
#include <stdio.h>
#include "xla/ffi/api/c_api.h"
int main() { %s return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_sizes_and_places_are_those_of_a_c_compiler(tmp_path):
    """All that machine code reads or writes."""
    names = ("XLA_FFI_CallFrame", "XLA_FFI_Args", "XLA_FFI_Rets", "XLA_FFI_Buffer", "XLA_FFI_Api")
    names += ("XLA_FFI_Metadata", "XLA_FFI_Metadata_Extension", "XLA_FFI_Error_Create_Args", interface.extension())
    sizes = [f"{name}_STRUCT_SIZE" for name in names]
    members = [(name, member) for name in names for member, _ in interface.structure(name)._fields_]
    wanted = [*sizes, *(f"offsetof({name}, {member})" for name, member in members)]
    source = tmp_path / "sizes.c"
    source.write_text(C_PROGRAM % "".join(f'printf("%zu\\n", (size_t)({one}));' for one in wanted))
    subprocess.run(["cc", f"-I{_jax.ffi_include_directory()}", source, "-o", tmp_path / "sizes"], check=True)
    printed = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True).stdout.split()
    ours = [*map(interface.static_size, names), *(interface.place(*path) for path in members)]
    assert dict(zip(wanted, map(int, printed), strict=True)) == dict(zip(wanted, ours, strict=True))


# Versions of jaxlib that the library has not been tested with


@pytest.fixture
def untested(monkeypatch):
    monkeypatch.setattr(_jax.jaxlib, "__version__", "99.1.0")
    assert not _jax.is_tested_jaxlib()
    yield
    trial._failure.cache_clear()


@pytest.mark.parametrize(
    "program, words",
    [
        ("import os; os.abort()", "ended with status -6"),
        ("raise SystemExit('no such function')", "ended with status 1 no such function"),
        ("print('done')", "ended with status 0"),
        ("import time; time.sleep(60)", "timed out after 0.5 seconds"),
    ],
    ids=["abort", "error", "nothing", "endless"],
)
@pytest.mark.slow_cases("abort", "error", "nothing", "endless")
def test_a_trial_that_fails_leaves_sweeps_to_xla(program, words, plain, untested, monkeypatch):
    monkeypatch.setattr(trial, "PROGRAM", program)
    monkeypatch.setattr(trial, "SECONDS", 0.5 if "sleep" in program else 60)
    with pytest.raises(Unavailable, match=words):
        trial.demand()
    found, told = swept()
    close(found, plain)
    assert len(told) == 1 and "jaxlib 99.1.0 is not among the tested ones" in told[0] and words in told[0]


@pytest.mark.slow
def test_a_trial_that_passes_is_made_once(untested, monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAMICS_CACHE", str(tmp_path / "cache"))
    trial.demand()
    trial._failure.cache_clear()
    monkeypatch.setattr(trial.subprocess, "run", None)
    trial.demand()
    monkeypatch.setenv("DYNAMICS_CACHE", "off")
    trial._failure.cache_clear()
    with pytest.raises(TypeError):
        trial.demand()


def test_which_versions_are_tested(monkeypatch):
    for version, tested in {"0.9.2": 0, "0.10.2": 1, "0.12.0.1": 1, "0.13.0": 0, "1.0": 0, "unknown": 0}.items():
        monkeypatch.setattr(_jax.jaxlib, "__version__", version)
        assert _jax.is_tested_jaxlib() == bool(tested), version


# What is not the compiler's fault


def test_errors_of_the_caller_are_raised_without_a_warning():
    def build(rate, weight):
        if isinstance(rate, jax.core.Tracer):
            raise ValueError("a game that cannot be traced")
        return built(rate, weight)

    with pytest.raises(ValueError, match="a game that cannot be traced"):
        dy.sweep(build, AXES, steps=20, predict=False)


@pytest.mark.slow
def test_the_compiler_turned_off(plain, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO, logger="dynamics")
    found, told = swept(store=tmp_path / "run.zarr")
    close(found, plain)
    assert not told and "machine code: games_" in caplog.text and "jax.vmap" not in caplog.text
    caplog.clear()
    monkeypatch.setenv(fallback.VARIABLE, "off")
    monkeypatch.setattr(interpreter, "batch_last_axis", None)
    monkeypatch.setattr(lowering, "compile_program", None)
    found, told = swept()
    close(found, plain)
    assert not told and "jax.vmap for blocks of 3 games" in caplog.text and "machine code" not in caplog.text
    with pytest.raises(ValueError, match="compiler: on there, off here"):
        swept(store=tmp_path / "run.zarr")
    monkeypatch.setenv(fallback.VARIABLE, "no")
    with pytest.raises(ValueError, match='DYNAMICS_COMPILER is \'no\'; expected "on" or "off"'):
        swept()


# What fails when it is imported

IMPORTS = """
import importlib, sys, types, warnings
import jax, jax.extend.core, jax.interpreters.mlir, jax.ffi
import numpy as np
import dynamics as dy
from dynamics.ensembles import cells
COMPILER = {f"dynamics.compiler.{name}" for name in ("affine", "llvm.elementary", "llvm.jit", "llvm.interface",
    "llvm.processor", "llvm.trial", "llvm.programs", "llvm.lowering",
    "llvm.operations", "llvm.targets", "llvm.vector_width", "llvm.context", "llvm.rules", "llvm.array_rules",
    "llvm.control_flow", "batch.rules", "batch.values", "batch.interpreter")}
assert not COMPILER & set(sys.modules), "the compiler is not needed yet"
cells.LANES["cpu"], cells.FEWEST_LANES = 3, 1

def swept():
    def build(rate, weight):
        sgd = dy.optimisers.sgd(rate)
        return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = dy.sweep(build, {"rate": [0.1, 0.5, 4.5], "weight": 0.3}, steps=20, predict=False)
    return found.player_0.values, [str(one.message) for one in caught]

class Broken(types.ModuleType):
    def __getattr__(self, name):
        raise OSError("cannot open libllvmlite.so")

def gone(module, name):
    value = getattr(module, name)
    delattr(module, name)
    return lambda: setattr(module, name, value)

def replaced(name, module):
    known = {key: one for key, one in sys.modules.items() if key == name or key.startswith(name + ".")}
    for key in known:
        del sys.modules[key]
    sys.modules[name] = module
    return lambda: (sys.modules.pop(name, None), sys.modules.update(known))

wanted = None
for number, fault in enumerate((
    lambda: replaced("llvmlite", None),
    lambda: replaced("llvmlite", Broken("llvmlite")),
    lambda: gone(jax.extend.core, "Primitive"),
    lambda: gone(jax.interpreters.mlir, "register_lowering"),
    lambda: gone(jax, "ffi"),
    lambda: gone(jax.extend.core, "Literal"),
)):
    back = fault()
    found, told = swept()
    back()
    print(len(told), told[0].split("compute")[1][:90] if told else "compiled", found, flush=True)
    wanted = found if wanted is None else wanted
    np.testing.assert_allclose(found, wanted, 1e-5)
    assert len(told) == (number < 5), told  # the last name is not needed
    for name in COMPILER:
        package, _, module = name.rpartition(".")
        sys.modules.pop(name, None)
        vars(sys.modules[package]).pop(module, None)
"""


@pytest.mark.slow
def test_what_fails_when_it_is_imported():
    ended = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
