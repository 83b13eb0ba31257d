"""The second way to launch a kernel: a foreign function that asks CUDA's driver to do it.

XLA has a custom call for PTX (`_jax.lower_ptx_call`), which nothing promises. Where it does not work, XLA calls this
instead, by the interface that it promises (`jax.ffi`). For every kernel there is a function, written in LLVM: no
package of CUDA, no compiler and no Python per call.

    stream = XLA_FFI_Stream_Get()                        # on which XLA has its work in order
    context = cuCtxGetCurrent()                          # a GPU's; XLA has made it the thread's
    kernel = known[context] or cuModuleGetFunction(cuModuleLoadData(ptx), name)
    cuLaunchKernel(kernel, blocks, threads, stream, pointers to the inputs and the outputs)

What the driver refuses becomes an error of XLA, with the driver's name of it. Which kernel belongs to which context is
kept in a table of that function. Two threads may call at once: a row is claimed by an atomic exchange, filled, and
then published; whoever does not see it yet loads the PTX once more, which costs memory and nothing else.
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from dynamics.compiler._jax import lower_ffi_call
from dynamics.compiler.errors import Unavailable
from dynamics.compiler.llvm import interface, jit
from dynamics.compiler.llvm.interface import place
from dynamics.compiler.llvm.jit import LONG, NULL, POINTER, WORD
from dynamics.compiler.nvptx.kernel import Kernel

LIBRARY = "libcuda.so.1"
FUNCTIONS = "cuCtxGetCurrent", "cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel", "cuGetErrorName"
CONTEXTS = 64  # rows of the table; a GPU beyond loads the PTX at every call
MESSAGE_BYTES = 256
KNOWN = "known"  # the table, a variable of the made code
FREE, CLAIMED = LONG(0), LONG(1)


def lower(context: Any, kernel: Kernel, arrays: Sequence[Any]) -> Any:
    """Within a rule for CUDA: a launch of a kernel by the driver.

    Args:
        context, arrays: those of the rule.
        kernel: what is launched; its parameters are pointers to the inputs, then to the outputs.

    Raises:
        Unavailable: there is no driver, or XLA does not call functions for CUDA as its header says.
    """
    results = len(context.avals_out)
    return lower_ffi_call(context, compiled(kernel, len(arrays), results), arrays)


def compiled(kernel: Kernel, arguments: int, results: int, platform: str = "CUDA") -> str:
    """The name under which XLA knows the function that launches a kernel.

    Args:
        kernel: what is launched.
        arguments, results: how many arrays it gets and fills.
        platform: on which XLA calls it.

    Raises:
        Unavailable: there is no driver, or XLA does not call functions as its header says.
    """
    _load(LIBRARY)
    module = ir.Module()

    def body(builder: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        return _launch(builder, kernel, [*inputs, *outputs])

    return jit.compiled(module, arguments, results, body, loops=False, platform=platform)


@functools.cache
def _load(library: str) -> None:
    """Let compiled code find the driver's functions."""
    try:
        driver = ctypes.CDLL(library)
        addresses = {name: ctypes.cast(getattr(driver, name), ctypes.c_void_p).value for name in FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise Unavailable(f"there is no driver of CUDA: {error}") from error
    for name, address in addresses.items():
        llvm.add_symbol(name, address)
    if not jit.has_function("snprintf"):
        raise Unavailable("the library of C has no snprintf")


def _launch(builder: Any, kernel: Kernel, arrays: Sequence[Any]) -> Any:
    """Write what is in the function; returns a pointer to an error, or null."""
    function = builder.function
    end = function.append_basic_block("launched")
    failures: list[tuple[Any, Any]] = []  # errors, and the blocks in which they were made

    def proceed(failed: Any, failure: Callable[[], Any]) -> None:
        """Go on unless something failed."""
        wrong, fine = function.append_basic_block("failed"), function.append_basic_block("fine")
        builder.cbranch(failed, wrong, fine)
        builder.position_at_end(wrong)
        failures.append((failure(), builder.block))
        builder.branch(end)
        builder.position_at_end(fine)

    def ask(name: str, *given: Any) -> None:
        """Call the driver, and go on if it has done it."""
        status = builder.call(_declared(builder, name, WORD, [one.type for one in given]), given)
        proceed(builder.icmp_unsigned("!=", status, WORD(0)), lambda: _refused(builder, name, status))

    (frame,) = function.args
    given, refused = jit.call_xla(
        builder,
        "XLA_FFI_Stream_Get",
        dict(ctx=jit.member_of(builder, frame, place(interface.FRAME, "ctx"), POINTER), stream=NULL),
    )
    proceed(builder.icmp_unsigned("!=", refused, NULL), lambda: refused)
    stream = jit.member_of(builder, given, place("XLA_FFI_Stream_Get_Args", "stream"), POINTER)
    place_of_context, place_of_module, place_of_kernel = (jit.scratch(builder, 8) for _ in range(3))
    ask("cuCtxGetCurrent", place_of_context)
    context = builder.load(place_of_context, typ=LONG)
    known, row = _look_up(builder, context)
    before = builder.block
    load, launch = function.append_basic_block("load"), function.append_basic_block("launch")
    builder.cbranch(builder.icmp_unsigned("==", known, LONG(0)), load, launch)
    builder.position_at_end(load)
    ask("cuModuleLoadData", place_of_module, jit.text(builder, kernel.ptx.encode()))
    loaded = builder.load(place_of_module, typ=POINTER)
    ask("cuModuleGetFunction", place_of_kernel, loaded, jit.text(builder, kernel.name.encode()))
    kernel_of_context = builder.load(place_of_kernel, typ=LONG)
    _remember(builder, row, context, kernel_of_context)
    after = builder.block
    builder.branch(launch)
    builder.position_at_end(launch)
    chosen = builder.phi(LONG)
    chosen.add_incoming(known, before)
    chosen.add_incoming(kernel_of_context, after)
    parameters = jit.scratch(builder, 16 * max(1, len(arrays)))  # pointers to pointers to the arrays, and those
    for number, array in enumerate(arrays):
        pointer = builder.gep(parameters, [LONG(len(arrays) + number)], source_etype=LONG)
        builder.store(array, pointer)
        builder.store(pointer, builder.gep(parameters, [LONG(number)], source_etype=LONG))
    sizes = kernel.blocks, 1, 1, kernel.threads, 1, 1, 0  # the last one: bytes of shared memory
    ask("cuLaunchKernel", builder.inttoptr(chosen, POINTER), *map(WORD, sizes), stream, parameters, NULL)
    failures.append((NULL, builder.block))
    builder.branch(end)
    builder.position_at_end(end)
    result = builder.phi(POINTER)
    for failure, block in failures:
        result.add_incoming(failure, block)
    return result


def _declared(builder: Any, name: str, result: Any, kinds: Sequence[Any], varying: bool = False) -> Any:
    declared = builder.module.globals.get(name)
    return declared or ir.Function(builder.module, ir.FunctionType(result, kinds, var_arg=varying), name)


def _refused(builder: Any, name: str, status: Any) -> Any:
    """The error that says which function of the driver has refused, and how the driver calls that."""
    place_of_name, message = jit.scratch(builder, 8), jit.scratch(builder, MESSAGE_BYTES)
    builder.store(jit.text(builder, b"an unknown error"), place_of_name)
    builder.call(_declared(builder, "cuGetErrorName", WORD, [WORD, POINTER]), [status, place_of_name])
    written = _declared(builder, "snprintf", WORD, [POINTER, LONG, POINTER], varying=True)
    form, ours = jit.text(builder, b"%s: %s (%d)"), jit.text(builder, name.encode())
    theirs = builder.load(place_of_name, typ=POINTER)
    builder.call(written, [message, LONG(MESSAGE_BYTES), form, ours, theirs, status])
    return jit.error(builder, message)


# The table: rows of a flag, a context and a kernel. A row is published by its context, which is written last.


def _table(builder: Any) -> Any:
    kind = ir.ArrayType(LONG, 3 * CONTEXTS)
    table = builder.module.globals.get(KNOWN)
    if table is None:
        table = ir.GlobalVariable(builder.module, kind, KNOWN)
        table.initializer, table.linkage, table.align = ir.Constant(kind, None), "internal", 8
        table.type = POINTER
    return table


def _cell(builder: Any, row: Any, column: int) -> Any:
    place = builder.add(builder.mul(row, LONG(3)), LONG(column))
    pointer = builder.gep(_table(builder), [place], source_etype=LONG)
    pointer.type = LONG.as_pointer()  # llvmlite wants to know of what, where something atomic happens
    return pointer


def _walk(builder: Any, first: Any, name: str) -> tuple[Any, Any, Any]:
    """A loop over rows, in whose body the builder is then: the row, its head, and the block behind the last row."""
    before, head = builder.block, builder.append_basic_block(name)
    inside, beyond = builder.append_basic_block(f"{name}_row"), builder.append_basic_block(f"{name}_end")
    builder.branch(head)
    builder.position_at_end(head)
    row = builder.phi(LONG)
    row.add_incoming(first, before)
    builder.cbranch(builder.icmp_unsigned("<", row, LONG(CONTEXTS)), inside, beyond)
    builder.position_at_end(inside)
    return row, head, beyond


def _look_up(builder: Any, context: Any) -> tuple[Any, Any]:
    """The kernel of a context, 0 where none is known, and the row where the walk has ended."""
    row, head, beyond = _walk(builder, LONG(0), "look")
    there = builder.load_atomic(_cell(builder, row, 1), "acquire", 8)
    same, other = builder.append_basic_block("same"), builder.append_basic_block("other")
    builder.cbranch(builder.icmp_unsigned("==", there, context), same, other)
    builder.position_at_end(same)
    kernel = builder.load(_cell(builder, row, 2))
    builder.branch(beyond)
    builder.position_at_end(other)
    following = builder.add(row, LONG(1))
    row.add_incoming(following, other)
    builder.cbranch(builder.icmp_unsigned("==", there, LONG(0)), beyond, head)
    builder.position_at_end(beyond)
    known, at = builder.phi(LONG), builder.phi(LONG)
    for block, value in ((head, LONG(0)), (same, kernel), (other, LONG(0))):
        known.add_incoming(value, block)
        at.add_incoming(row, block)
    return known, at


def _remember(builder: Any, first: Any, context: Any, kernel: Any) -> None:
    """Put a kernel into the next row that nobody has claimed; into none if there is none."""
    row, head, beyond = _walk(builder, first, "claim")
    claimed = builder.cmpxchg(_cell(builder, row, 0), FREE, CLAIMED, "acq_rel", "monotonic")
    ours, other = builder.append_basic_block("ours"), builder.append_basic_block("taken")
    builder.cbranch(builder.extract_value(claimed, 1), ours, other)
    builder.position_at_end(other)
    row.add_incoming(builder.add(row, LONG(1)), other)
    builder.branch(head)
    builder.position_at_end(ours)
    builder.store(kernel, _cell(builder, row, 2))
    builder.store_atomic(context, _cell(builder, row, 1), "release", 8)
    builder.branch(beyond)
    builder.position_at_end(beyond)
