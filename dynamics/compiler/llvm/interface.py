"""The interface of C by which XLA calls a function: where the members of its structures lie, from JAX's own header.

XLA calls a function with a pointer to an `XLA_FFI_CallFrame`. In it lie, by value, an `XLA_FFI_Args` and an
`XLA_FFI_Rets`, whose last members `args` and `rets` point to arrays of pointers, one per input and output; each of
these points to an `XLA_FFI_Buffer`, whose member `data` is the address of the array:

    frame -> ... args { ... args -> [buffer_0 -> { ... data -> numbers }, buffer_1, ...] } rets { ... rets -> [...] }

Nothing of this is assumed: `structure` reads the header that is installed with JAX, member by member, and `place` says
where a member lies (in JAX 0.10.2 the pointers are at 72 and 112 of the frame, and `data` at 24 of a buffer). Three
things are checked:

* the member with which the header itself says that a structure ends (`XLA_FFI_DEFINE_STRUCT_TRAITS`) is one of those
  that were read; `static_size` is the size that this gives, the header's `..._STRUCT_SIZE`;
* XLA writes the size of every structure into its first member: what is compiled here compares them with `static_size`
  before it reads anything else (`jit`);
* with a jaxlib that the library has not been tested with, the first call happens in another process (`trial`).
"""

import ctypes
import functools
import pathlib
import re
import sys
from typing import Any

from dynamics.compiler._jax import ffi_extension_names, ffi_include_directory
from dynamics.compiler.errors import Unavailable

FRAME = "XLA_FFI_CallFrame"
ARGUMENTS = FRAME, "args", "args"
RESULTS = FRAME, "rets", "rets"
BUFFER = "XLA_FFI_Buffer"
ASKS_VERSION = 1  # the type of an extension by which XLA asks for the version (`XLA_FFI_Extension_Metadata`)
INTERNAL = 13  # a kind of error (`XLA_FFI_Error_Code_INTERNAL`)


@functools.cache
def header() -> str:
    """The description of XLA's interface, as it is installed, without comments.

    Raises:
        Unavailable: it is not there.
    """
    try:
        text = (pathlib.Path(ffi_include_directory()) / "xla/ffi/api/c_api.h").read_text()
    except OSError as error:
        raise Unavailable(f"the interface of XLA is not described: {error}") from error
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"\b_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", r"\1* \1;", text)  # a macro: a pointer to a function


@functools.cache
def structure(name: str) -> type[ctypes.Structure]:
    """A structure of XLA's interface, member by member as its description has it.

    Raises:
        Unavailable: it is not there, or has members of unknown types, or does not end as the description says.
    """
    text = header()
    match = re.search(rf"struct {name} \{{([^{{}}]*)\}}", text)
    if match is None:
        raise Unavailable(f"the interface of XLA has no structure {name}")
    plain = {"size_t": ctypes.c_size_t, "int64_t": ctypes.c_int64, "uint32_t": ctypes.c_uint32, "int": ctypes.c_int}
    plain["int32_t"] = ctypes.c_int32
    members: list[tuple[str, Any]] = []
    for line in filter(None, map(str.strip, match[1].split(";"))):
        parsed = re.fullmatch(r"(.*?)(\w+)", line, flags=re.DOTALL)
        if parsed is None:
            raise Unavailable(f"the structure {name} of XLA has a member that is not understood: {line!r}")
        kind = re.sub(r"\b(const|struct)\b", "", parsed[1]).strip()
        if kind.endswith("*"):
            made = ctypes.c_void_p
        elif kind in plain:
            made = plain[kind]
        elif re.search(rf"typedef enum {{[^{{}}]*}} {kind};", text):
            made = ctypes.c_int
        else:
            alias = re.search(rf"typedef (\w+) {kind};", text)
            made = plain[alias[1]] if alias is not None and alias[1] in plain else structure(kind)
        members.append((parsed[2], made))
    last = _last_member(name)
    if last is not None and last not in dict(members):
        raise Unavailable(f"the structure {name} of XLA ends with {last}, of which its description says nothing")
    return type(name, (ctypes.Structure,), {"_fields_": members})


def _last_member(name: str) -> str | None:
    match = re.search(rf"XLA_FFI_DEFINE_STRUCT_TRAITS\(\s*{name}\s*,\s*(\w+)\s*\)", header())
    return None if match is None else match[1]


def static_size(name: str) -> int:
    """The size of a structure that the header defines, `..._STRUCT_SIZE`: up to the end of the member that it names.

    Raises:
        Unavailable: it defines none.
    """
    kind, last = structure(name), _last_member(name)
    if last is None:
        raise Unavailable(f"the interface of XLA does not say how long the structure {name} is")
    member = getattr(kind, last)
    return member.offset + member.size


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


def extension() -> str:
    """The name of the structure of extensions, by which XLA asks for the version."""
    names = ffi_extension_names()
    for name in names:
        if re.search(rf"struct {name} \{{", header()):
            return name
    raise Unavailable(f"the interface of XLA has no structure {' or '.join(names)}")


@functools.cache
def version() -> tuple[int, int]:
    """Of XLA's interface, major and minor.

    Raises:
        Unavailable: it is another one than 0, or pointers are not of eight bytes.
    """
    matches = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", header()) for part in ("MAJOR", "MINOR")]
    numbers = [int(match[1]) for match in matches if match is not None]
    if len(numbers) != 2 or numbers[0] != 0 or sys.maxsize < 2**62:
        raise Unavailable("the interface of XLA is not version 0 with pointers of eight bytes")
    return numbers[0], numbers[1]
