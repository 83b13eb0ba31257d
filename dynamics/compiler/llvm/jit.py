"""Machine code made at run time that XLA calls: LLVM through llvmlite, and XLA's interface of foreign functions."""

import ctypes
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from dynamics.compiler import disk_cache
from dynamics.compiler._jax import register_ffi_target
from dynamics.compiler.errors import Unavailable
from dynamics.compiler.llvm import interface, processor, trial
from dynamics.compiler.llvm.interface import place
from dynamics.compiler.llvm.processor import Processor

WRONG_LENGTHS = b"the structures of this call are not as long as XLA's header has them"
SEEN = "length_of_the_frame"  # a variable of the made code
BYTE, WORD, LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
NULL = ir.Constant(POINTER, None)
FLUSHED = {"x86_64": 0x8040, "aarch64": 1 << 24}  # bits of the register that says how to treat denormal numbers

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_engines: dict[str, Any] = {}  # own the code of the functions
_kept: list[Any] = []  # all of them: XLA may know a function whose registration has failed halfway


def register_bytes() -> int:
    """Length of a register.

    Raises:
        Unavailable: the processor is not known.
    """
    return processor.host().register_bytes


@functools.cache
def has_function(name: str) -> bool:
    """Whether the library of C has a function; the compiler would stop the process at one that is not there."""
    library = ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
    function = getattr(library, name, None)
    if function is None:
        return False
    llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return True


Body = Callable[[Any, Sequence[Any], Sequence[Any]], Any]


def compiled(module: Any, arguments: int, results: int, body: Body, loops: bool = True, platform: str = "cpu") -> str:
    """Write, compile and register a function.

    Args:
        module: of llvmlite, in which the function is to be.
        arguments, results: how many arrays it gets and fills.
        body: writes it, given a builder and pointers to the arguments and to the results. What it returns, if anything,
            is a pointer to an error of XLA, null where there is none.
        loops: whether the program of a game has loops.
        platform: on which XLA calls it; it always runs on this machine's processor.

    Returns:
        the name under which XLA knows it.

    Raises:
        Unavailable: this machine or this version of JAX cannot do it.
    """
    trial.demand()
    return _registered(written(module, arguments, results, body, processor.host()), loops, platform)


def written(module: Any, arguments: int, results: int, body: Body, target: Processor) -> str:
    """The text of a module with a function, `games`, that XLA can call; arguments as of `compiled`.

    Args:
        target: what it is for.

    Raises:
        Unavailable: the interface of XLA is another one.
    """
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), "games")
    function.attributes.add("nounwind")
    (frame,) = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    described, work = function.append_basic_block("described"), function.append_basic_block("work")

    # At first XLA asks for the version of the interface, by an extension of the call. Before anything else is read
    # from what it gives, the length of that is kept, to be looked at when the function has been registered.
    seen = ir.GlobalVariable(module, LONG, SEEN)
    seen.initializer = LONG(0)
    extension = member_of(builder, frame, place(interface.FRAME, "extension_start"), POINTER)
    extended = function.append_basic_block("extended")
    builder.cbranch(builder.icmp_unsigned("==", extension, NULL), work, extended)
    builder.position_at_end(extended)
    asked = member_of(builder, extension, place(interface.extension(), "type"), WORD)
    builder.cbranch(builder.icmp_unsigned("==", asked, WORD(interface.ASKS_VERSION)), described, work)
    builder.position_at_end(described)
    builder.store(member_of(builder, frame, place(interface.FRAME, "struct_size"), LONG), seen)
    metadata = member_of(builder, extension, place("XLA_FFI_Metadata_Extension", "metadata"), POINTER)
    for name, number in zip(("major_version", "minor_version"), interface.version(), strict=True):
        offset = place("XLA_FFI_Metadata", "api_version", name)
        builder.store(WORD(number), builder.gep(metadata, [LONG(offset)], source_etype=BYTE))
    builder.ret(NULL)
    builder.position_at_end(work)
    pointers = _arrays(builder, frame, arguments, results)
    before = _flushing(module, builder, target)
    failure = body(builder, *pointers)
    if before is not None:
        before()
    builder.ret(NULL if failure is None else failure)
    return processor.with_attributes(str(module), target)


def member_of(builder: Any, pointer: Any, offset: int, kind: Any) -> Any:
    """What lies so many bytes behind a pointer."""
    return builder.load(builder.gep(pointer, [LONG(offset)], source_etype=BYTE), typ=kind)


def _arrays(builder: Any, frame: Any, arguments: int, results: int) -> list[list[Any]]:
    """Where the arguments and the results lie, when all structures are as long as the description of XLA has them."""
    function = builder.function
    wrong = function.append_basic_block("wrong")
    lists = (interface.ARGUMENTS, arguments, "XLA_FFI_Args"), (interface.RESULTS, results, "XLA_FFI_Rets")

    def proceed(checks: list[tuple[Any, int]]) -> None:
        fine = functools.reduce(builder.and_, [builder.icmp_unsigned("==", a, LONG(b)) for a, b in checks])
        following = function.append_basic_block("checked")
        builder.cbranch(fine, following, wrong)
        builder.position_at_end(following)

    checks = []
    for path, count, name in lists:
        part = place(*path[:2])
        checks.append((member_of(builder, frame, part + place(name, "struct_size"), LONG), interface.static_size(name)))
        checks.append((member_of(builder, frame, part + place(name, "size"), LONG), count))
    proceed(checks)
    buffers = []
    for path, count, _ in lists:
        first = member_of(builder, frame, place(*path), POINTER)
        buffers.append([member_of(builder, first, 8 * one, POINTER) for one in range(count)])
    length, size = place(interface.BUFFER, "struct_size"), interface.static_size(interface.BUFFER)
    proceed([(member_of(builder, buffer, length, LONG), size) for one in buffers for buffer in one])
    data = place(interface.BUFFER, "data")
    pointers = [[member_of(builder, buffer, data, POINTER) for buffer in one] for one in buffers]
    with builder.goto_block(wrong):
        builder.ret(error(builder, text(builder, WRONG_LENGTHS)))
    return pointers


def text(builder: Any, content: bytes) -> Any:
    """A pointer to a constant text, which ends with a zero."""
    constant = ir.Constant(ir.ArrayType(BYTE, len(content) + 1), bytearray(content + b"\0"))
    name = builder.module.get_unique_name("message")
    kept = ir.GlobalVariable(builder.module, constant.type, name)
    kept.initializer, kept.global_constant, kept.linkage = constant, True, "private"
    kept.type = POINTER
    return kept


def scratch(builder: Any, size: int) -> Any:
    """A pointer to so many bytes on the stack, taken once per call of the function."""
    with builder.goto_entry_block():
        taken = builder.alloca(BYTE, LONG(size))
        taken.align, taken.type = 8, POINTER  # opaque: members of several types are stored there
    return taken


def error(builder: Any, message: Any) -> Any:
    """An error of XLA with this text (a pointer), which becomes an exception in Python."""
    values = dict(message=message, errc=WORD(interface.INTERNAL))
    return call_xla(builder, "XLA_FFI_Error_Create", values)[1]


def call_xla(builder: Any, name: str, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Call a function of XLA, in the function that XLA calls.

    Args:
        builder: where.
        name: of the function; its arguments are in a structure whose name ends with `_Args`.
        values: members of that structure.

    Returns:
        a pointer to the structure, and what the function returns.
    """
    (frame,) = builder.function.args
    size = interface.static_size(f"{name}_Args")
    given = scratch(builder, size)
    for member, value in (dict(struct_size=LONG(size), extension_start=NULL) | dict(values)).items():
        address = builder.gep(given, [LONG(place(f"{name}_Args", member))], source_etype=BYTE)
        builder.store(value, address)
    api = member_of(builder, frame, place(interface.FRAME, "api"), POINTER)
    function = member_of(builder, api, place("XLA_FFI_Api", name), ir.FunctionType(POINTER, [POINTER]).as_pointer())
    return given, builder.call(function, [given])


def _flushing(module: Any, builder: Any, target: Processor) -> Callable[[], None] | None:
    """From here on denormal numbers count as zero, as in what XLA compiles; returns what restores the earlier state."""
    bits = FLUSHED.get(target.architecture)
    if bits is None:
        return None
    if target.architecture == "aarch64":
        read = ir.Function(module, ir.FunctionType(LONG, []), "llvm.aarch64.get.fpcr")
        write = ir.Function(module, ir.FunctionType(ir.VoidType(), [LONG]), "llvm.aarch64.set.fpcr")
        before = builder.call(read, [])
        builder.call(write, [builder.or_(before, LONG(bits))])
        return lambda: builder.call(write, [before])
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    read, write = (ir.Function(module, kind, f"llvm.x86.sse.{name}mxcsr") for name in ("st", "ld"))
    with builder.goto_entry_block():
        before, now = builder.alloca(WORD), builder.alloca(WORD)
    builder.call(read, [before])
    builder.store(builder.or_(builder.load(before, typ=WORD), WORD(bits)), now)
    builder.call(write, [now])
    return lambda: builder.call(write, [before])


def _object_code(text: str, target: Processor, loops: bool = True) -> tuple[bytes, tuple[str, ...]]:
    """`processor.object_code`, from disk where it is kept there."""
    name = disk_cache.name_of("object code", text, *map(str, target), processor.translator(), f"loops {loops}")
    kept = disk_cache.read(name)
    if kept is not None:
        names, _, code = kept.partition(b"\0")
        return code, tuple(names.decode().split())
    code, needed = processor.object_code(text, target, loops)
    disk_cache.write(name, " ".join(needed).encode() + b"\0" + code)
    return code, needed


def _registered(text: str, loops: bool = True, platform: str = "cpu") -> str:
    target = processor.host()
    name = f"games_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    with _lock:
        if name not in _engines:
            code, needed = _object_code(text, target, loops)
            for function in needed:
                # The compiler would stop the process at one that is not there.
                if llvm.address_of_symbol(function) is None:
                    raise Unavailable(f"there is no function {function} on this machine")
            engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), processor.target_machine(target))
            _kept.append(engine)
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            engine.finalize_object()
            register_ffi_target(name, _capsule(engine.get_function_address("games")), platform)
            _engines[name] = engine
        seen = ctypes.c_int64.from_address(_engines[name].get_global_value_address(SEEN)).value
    needed_bytes = interface.static_size(interface.FRAME)
    if seen != needed_bytes:
        raise Unavailable(f"XLA calls with a frame of {seen} bytes, and its description says {needed_bytes}")
    return name


def _capsule(address: int) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, b"xla._CUSTOM_CALL_TARGET", None)
