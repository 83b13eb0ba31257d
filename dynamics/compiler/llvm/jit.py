"""Machine code made at run time that XLA calls: LLVM through llvmlite, and XLA's interface of foreign functions."""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from dynamics.compiler._jax import ffi_include_directory, register_ffi_target
from dynamics.compiler.errors import Unavailable

# XLA calls a function with a pointer to an `XLA_FFI_CallFrame`. In it lie, by value, an `XLA_FFI_Args` and an
# `XLA_FFI_Rets`, whose last members `args` and `rets` point to arrays of pointers, one per input and output; each of
# these points to an `XLA_FFI_Buffer`, whose member `data` is the address of the array:
#
#     frame -> ... args { ... args -> [buffer_0 -> { ... data -> numbers }, buffer_1, ...] } rets { ... rets -> [...] }
#
# Where the members lie is computed from the header that JAX brings along (`place`), in bytes from the beginning of the
# outermost structure: in JAX 0.10.2 the pointers are at 72 and 112 of the frame, and `data` at 24 of a buffer.
ARGUMENTS = "XLA_FFI_CallFrame", "args", "args"
RESULTS = "XLA_FFI_CallFrame", "rets", "rets"
ASKS_VERSION = 1  # the type of an extension by which XLA asks for the version (`XLA_FFI_Extension_Metadata`)
SEEN = "length_of_the_frame"  # a variable of the made code
BYTE, WORD, LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()


_lock = threading.Lock()
_engines: dict[str, Any] = {}  # own the code of the functions
_kept: list[Any] = []  # all of them: XLA may know a function whose registration has failed halfway


@functools.cache
def _header() -> str:
    """The description of XLA's interface, as it is installed, without comments."""
    try:
        text = (pathlib.Path(ffi_include_directory()) / "xla/ffi/api/c_api.h").read_text()
    except OSError as error:
        raise Unavailable(f"the interface of XLA is not described: {error}") from error
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


@functools.cache
def structure(name: str) -> type[ctypes.Structure]:
    """A structure of XLA's interface, member by member as its description has it.

    Raises:
        Unavailable: it is not there, or has members of unknown types.
    """
    header = _header()
    match = re.search(rf"struct {name} \{{([^{{}}]*)\}}", header)
    if match is None:
        raise Unavailable(f"the interface of XLA has no structure {name}")
    plain = {"size_t": ctypes.c_size_t, "int64_t": ctypes.c_int64, "uint32_t": ctypes.c_uint32, "int": ctypes.c_int}
    members: list[tuple[str, Any]] = []
    for line in filter(None, map(str.strip, match[1].split(";"))):
        kind, member = re.fullmatch(r"(.*?)(\w+)", line, flags=re.DOTALL).groups()
        kind = re.sub(r"\b(const|struct)\b", "", kind).strip()
        if kind.endswith("*"):
            made = ctypes.c_void_p
        elif kind in plain:
            made = plain[kind]
        elif re.search(rf"typedef enum {{[^{{}}]*}} {kind};", header):
            made = ctypes.c_int
        else:
            alias = re.search(rf"typedef (\w+) {kind};", header)
            made = plain[alias[1]] if alias is not None and alias[1] in plain else structure(kind)
        members.append((member, made))
    return type(name, (ctypes.Structure,), {"_fields_": members})


def place(name: str, *members: str) -> int:
    """Where a member of a structure is, or a member of a member, in bytes.

    Raises:
        Unavailable: there is none.
    """
    kind, offset = structure(name), 0
    for member in members:
        if member not in dict(kind._fields_):
            raise Unavailable(f"the structure {name} of XLA has no member {'.'.join(members)}")
        offset += getattr(kind, member).offset
        kind = dict(kind._fields_)[member]
    return offset


@functools.cache
def _version() -> tuple[int, int]:
    """Of XLA's interface."""
    text = _header()
    matches = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    if None in matches or int(matches[0][1]) != 0 or sys.maxsize < 2**62:
        raise Unavailable("the interface of XLA is not version 0 with pointers of eight bytes")
    return int(matches[0][1]), int(matches[1][1])


@functools.cache
def _features() -> Any:
    """What the processor can do."""
    try:
        return llvm.get_host_cpu_features()
    except RuntimeError as error:
        raise Unavailable(f"the processor is not known: {error}") from error


def _machine() -> Any:
    """What makes code for the processor; it belongs to the engine that it is given to, and ends with that."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    options = dict(cpu=llvm.get_host_cpu_name(), features=_features().flatten(), opt=3, reloc="pic", jit=True)
    return llvm.Target.from_default_triple().create_target_machine(**options)


def register_bytes() -> int:
    """Length of a register.

    Raises:
        Unavailable: the processor is not known.
    """
    return 64 if _features().get("avx512f") else 32 if _features().get("avx") else 16


@functools.cache
def has_function(name: str) -> bool:
    """Whether the library of C has a function; the compiler would stop the process at one that is not there."""
    library = ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
    function = getattr(library, name, None)
    if function is None:
        return False
    llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return True


def compiled(
    module: Any,
    arguments: int,
    results: int,
    body: Callable[[Any, Sequence[Any], Sequence[Any]], None],
) -> str:
    """Write, compile and register a function.

    Args:
        module: of llvmlite, in which the function is to be.
        arguments, results: how many arrays it gets and fills.
        body: writes it, given a builder and pointers to the arguments and to the results.

    Returns:
        the name under which XLA knows it.

    Raises:
        Unavailable: this machine or this version of JAX cannot do it.
    """
    version = _version()
    module.triple = llvm.get_default_triple()
    function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), "games")
    function.attributes.add("nounwind")
    frame = function.args[0]
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    described, work = function.append_basic_block("described"), function.append_basic_block("work")

    def member(pointer: Any, offset: int, kind: Any) -> Any:
        return builder.load(builder.gep(pointer, [LONG(offset)], source_etype=BYTE), typ=kind)

    # At first XLA asks for the version of the interface, by an extension of the call. Before anything else is read
    # from what it gives, the length of that is kept, to be looked at when the function has been registered.
    seen = ir.GlobalVariable(module, LONG, SEEN)
    seen.initializer = LONG(0)
    extension = member(frame, place("XLA_FFI_CallFrame", "extension_start"), POINTER)
    extended = function.append_basic_block("extended")
    builder.cbranch(builder.icmp_unsigned("==", extension, ir.Constant(POINTER, None)), work, extended)
    builder.position_at_end(extended)
    asked = member(extension, place("XLA_FFI_Extension_Base", "type"), WORD)
    builder.cbranch(builder.icmp_unsigned("==", asked, WORD(ASKS_VERSION)), described, work)
    builder.position_at_end(described)
    builder.store(member(frame, place("XLA_FFI_CallFrame", "struct_size"), LONG), seen)
    metadata = member(extension, place("XLA_FFI_Metadata_Extension", "metadata"), POINTER)
    for name, number in zip(("major_version", "minor_version"), version, strict=True):
        offset = place("XLA_FFI_Metadata", "api_version", name)
        builder.store(WORD(number), builder.gep(metadata, [LONG(offset)], source_etype=BYTE))
    builder.ret(ir.Constant(POINTER, None))
    builder.position_at_end(work)
    pointers = []
    data = place("XLA_FFI_Buffer", "data")
    for offset, count in ((place(*ARGUMENTS), arguments), (place(*RESULTS), results)):
        buffers = member(frame, offset, POINTER)
        pointers.append([member(member(buffers, 8 * one, POINTER), data, POINTER) for one in range(count)])
    before = _flushing(module, builder)
    body(builder, *pointers)
    if before is not None:
        builder.call(module.get_global("llvm.x86.sse.ldmxcsr"), [before])
    builder.ret(ir.Constant(POINTER, None))
    return _registered(str(module))


def _flushing(module: Any, builder: Any) -> Any:
    """From here on denormal numbers count as zero; returns where the earlier state is kept."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    read, write = (ir.Function(module, kind, f"llvm.x86.sse.{name}mxcsr") for name in ("st", "ld"))
    with builder.goto_entry_block():
        before, now = builder.alloca(WORD), builder.alloca(WORD)
    builder.call(read, [before])
    builder.store(builder.or_(builder.load(before, typ=WORD), WORD(0x8040)), now)
    builder.call(write, [now])
    return before


def _registered(text: str) -> str:
    width, processor = str(8 * register_bytes()), llvm.get_host_cpu_name()
    attributes = {"prefer-vector-width": width, "min-legal-vector-width": width, "target-cpu": processor}
    attributes["target-features"] = _features().flatten()
    written = " ".join(f'"{key}"="{value}"' for key, value in attributes.items())
    # What lies on the stack for want of registers must not cross lines of the cache.
    text = text.replace("nounwind", f'nounwind alignstack({register_bytes()}) "stackrealign" {written}', 1)
    name = f"games_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    with _lock:
        if name not in _engines:
            machine = _machine()
            module = llvm.parse_assembly(text)
            module.verify()
            for function in module.functions:
                # The compiler would stop the process at one that is not there.
                if function.is_declaration and not function.name.startswith("llvm."):
                    if llvm.address_of_symbol(function.name) is None:
                        raise Unavailable(f"there is no function {function.name} on this machine")
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = False
            passes = llvm.create_pass_builder(machine, options)
            passes.getModulePassManager().run(module, passes)
            engine = llvm.create_mcjit_compiler(module, machine)
            _kept.append(engine)
            engine.finalize_object()
            register_ffi_target(name, _capsule(engine.get_function_address("games")), "cpu")
            _engines[name] = engine
        seen = ctypes.c_int64.from_address(_engines[name].get_global_value_address(SEEN)).value
    needed = place(*RESULTS[:2]) + ctypes.sizeof(structure("XLA_FFI_Rets"))
    if seen < needed:
        raise Unavailable(f"XLA calls with a frame of {seen} bytes, and its description says {needed} or more")
    return name


def _capsule(address: int) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, b"xla._CUSTOM_CALL_TARGET", None)
