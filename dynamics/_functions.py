"""When two functions are the same, so that one compiled program serves both.

A function that is made anew for each call is another object each time. Two are the same when they have the same code
and the same defaults, and when all that they read besides their arguments is the same: what they capture, and the
globals of their module, functions among these likewise. What cannot be compared, or may change unseen, makes a function
the same as itself only.
"""

import collections
import dataclasses
import dis
import enum
import functools
import itertools
import logging
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

logger = logging.getLogger(__name__)

LARGEST = 2**16  # bytes of an array that is compared by its numbers
MOST_OBJECTS = 1000  # that are looked at for one function
MADE_ANEW = 5  # functions of the same code of which one is told that each is compiled

# Packages whose modules do not change while a program runs.
LIBRARIES = frozenset(
    "cmath collections dataclasses diffrax dynamics enum equinox functools itertools jax jaxlib jaxtyping lineax math "
    "ml_dtypes numpy operator optax optimistix scipy typing".split()
)
# What reads more than names tell, or is another number every time.
ELSEWHERE = frozenset(
    "__import__ attrgetter breakpoint compile delattr dir eval exec fromfile genfromtxt getattr globals hasattr id "
    "input load loadtxt locals memmap methodcaller open rvs setattr vars".split()
)
# A function that changes what it captures, a list of calls say, would never be the same twice.
CHANGES = frozenset("add append appendleft clear extend insert pop popitem remove setdefault update".split())
_COMPILED_KINDS = (type(jax.jit(lambda: 0)), jax.custom_jvp, jax.custom_vjp, np.ufunc, jnp.ufunc)


class _Unknown(Exception):
    """Says what cannot be compared."""


class _Same:
    """An object that equals itself only; held, so that no other gets its place in memory."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any):
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing


class Comparable:
    """A function that equals those that do the same, as they were when this was made."""

    def __init__(self, function: Callable, contents: Any):
        functools.update_wrapper(self, function, updated=())
        self.function, self.contents, self._hash = function, contents, hash(contents)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*arguments, **keywords)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            isinstance(other, Comparable) and self._hash == other._hash and self.contents == other.contents
        )

    def __repr__(self) -> str:
        return repr(self.function)

    def __reduce__(self) -> Any:
        return _itself, (self.function,)


def _itself(function: Callable) -> Callable:
    return function


def comparable(function: Any) -> Any:
    """The function under its contents, or as it is where these cannot be known."""
    if not isinstance(function, (types.FunctionType, types.MethodType, functools.partial)):
        return function
    try:
        return Comparable(function, _Reader().all_of(function))
    except _Unknown as reason:
        _count(function, str(reason))
    except Exception:  # whatever objects of a strange kind raise when they are looked at
        pass
    return function


_strangers: dict[types.CodeType, Any] = {}


def _count(function: Any, reason: str) -> None:
    """Tell once of a code whose functions are made anew and cannot be compared."""
    code = getattr(function, "__code__", None)
    if code is None or _of_library(function):
        return
    seen, made = _strangers.setdefault(code, (weakref.WeakSet(), itertools.count(1)))
    if function in seen:
        return
    seen.add(function)
    if next(made) == MADE_ANEW:
        logger.warning(
            f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno}) has been made {MADE_ANEW} times, and "
            f"each is compiled anew: {reason}. Make the function once, or let it read nothing but numbers, arrays, "
            "strings, tuples, lists, dicts, games and functions of such."
        )


def _root(module: str) -> str:
    return module.partition(".")[0]


def _of_library(function: types.FunctionType) -> bool:
    # By its globals: decorators write another module's name upon a function.
    name = function.__globals__.get("__name__", "")
    module = sys.modules.get(name)
    return _root(name) in LIBRARIES and module is not None and vars(module) is function.__globals__


_lasting: "weakref.WeakKeyDictionary[types.FunctionType, Any]" = weakref.WeakKeyDictionary()


class _Reader:
    """Reads what a function depends on, as a value that can be hashed and compared."""

    def __init__(self, left: list[int] | None = None):
        self.of_library = left is not None  # whose functions do not change what they capture
        self.left = [MOST_OBJECTS] if left is None else left
        self.known: dict[int, int] = {}  # functions, in the order in which they are met
        self.changes = False  # a function has been met that changes lists and the like
        self.lasts = True  # nothing has been met that may change
        self.modules: dict[str, types.ModuleType] = {}  # of which attributes may change
        self.attributes: set[str] = set()  # that are read of anything

    def all_of(self, function: Any) -> Any:
        """What a function is, and what it may read of modules, also of those that it hands on."""
        contents, done = [self.contents(function)], set()
        while new := sorted({(m, a) for m in self.modules for a in self.attributes} - done):
            done.update(new)
            for module, name in new:
                known = vars(self.modules[module])
                if module == "numpy" and name != "random":
                    continue
                contents.append((module, name, self.contents(known[name]) if name in known else "missing"))
        return tuple(contents)

    def contents(self, thing: Any) -> Any:
        """What this object is."""
        self.left[0] -= 1
        if self.left[0] < 0:
            raise _Unknown("it depends on very many objects")
        kind = type(thing)
        if kind in (bool, int, str, bytes, type(None), type(...)):
            return kind, thing
        if kind is float:
            return kind, thing.hex()  # 0.0 is not -0.0
        if kind is complex:
            return kind, thing.real.hex(), thing.imag.hex()
        if kind is types.FunctionType:
            return self.function(thing)
        if kind is tuple or (isinstance(thing, tuple) and hasattr(kind, "_fields") and self.is_known(kind)):
            return (_Same(kind), *map(self.contents, thing))
        if isinstance(thing, (np.ndarray, np.generic)):
            return self.numbers(thing)
        if isinstance(thing, jax.Array):
            return self.array(thing)
        if kind in (functools.partial, jax.tree_util.Partial):
            keywords = [(name, self.contents(value)) for name, value in sorted(thing.keywords.items())]
            return kind, self.contents(thing.func), tuple(map(self.contents, thing.args)), tuple(keywords)
        if kind is types.MethodType:
            return kind, self.contents(thing.__func__), self.contents(thing.__self__)
        if isinstance(thing, type) and self.is_known(thing):
            return _Same(thing)
        if isinstance(thing, eqx.Module) and self.is_known(kind):
            names = [field.name for field in dataclasses.fields(thing) if hasattr(thing, field.name)]
            return _Same(kind), tuple((name, self.contents(getattr(thing, name))) for name in names)
        if kind is types.ModuleType:
            return self.module(thing)
        if self.is_fixed(thing):
            return _Same(thing)
        if kind in (dict, list) and (self.of_library or not self.changes):
            self.lasts = False
            return kind, tuple(map(self.contents, thing.items() if kind is dict else thing))
        raise _Unknown(f"it reads {_described(thing)}, which may change or cannot be compared")

    @staticmethod
    def is_known(kind: type) -> bool:
        """Whether a class is of a library, or Python's own."""
        module = sys.modules.get(kind.__module__)
        here = getattr(module, kind.__qualname__.partition(".")[0], None)
        return kind.__module__ == "builtins" or (_root(kind.__module__) in LIBRARIES and here is not None)

    @staticmethod
    def is_fixed(thing: Any) -> bool:
        """Whether an object stays what it is."""
        if isinstance(thing, (np.dtype, *_COMPILED_KINDS)):
            return True
        if isinstance(thing, enum.Enum):
            return _Reader.is_known(type(thing))
        if isinstance(thing, types.BuiltinFunctionType):
            home = thing.__self__
            known = isinstance(home, types.ModuleType) and _root(home.__name__) in LIBRARIES | {"builtins"}
            return known and thing.__name__ not in ELSEWHERE
        return False

    def numbers(self, thing: Any) -> Any:
        if thing.dtype.hasobject or thing.nbytes > LARGEST or type(thing) not in (np.ndarray, type(thing[()])):
            raise _Unknown(f"it reads {_described(thing)}")
        self.lasts = False
        return type(thing), thing.dtype, thing.shape, thing.tobytes()

    @staticmethod
    def array(thing: Any) -> Any:
        if isinstance(thing, Tracer):
            raise _Unknown("it reads a number that is traced")
        special = jnp.issubdtype(thing.dtype, jax.dtypes.extended)
        if special or thing.nbytes > LARGEST or not thing.is_fully_addressable:
            return _Same(thing)
        return jax.Array, thing.dtype, thing.weak_type, thing.shape, thing.sharding, np.asarray(thing).tobytes()

    def function(self, function: types.FunctionType) -> Any:
        """What a function written in Python is."""
        if function in _lasting:
            return _lasting[function]
        if _of_library(function):
            if function.__name__ in ELSEWHERE:
                raise _Unknown(f"it reads {_described(function)}")
            if function.__closure__ is None and "<locals>" not in function.__qualname__:
                return _Same(function)
            reader = _Reader(self.left)
            reader.modules, reader.attributes = self.modules, self.attributes
            contents = reader.parts(function, ())
            if reader.lasts:
                _lasting[function] = contents
            self.lasts &= reader.lasts
            return contents
        self.lasts = False
        if id(function) in self.known:
            return "again", self.known[id(function)]
        self.known[id(function)] = len(self.known)
        names = _names_of(function.__code__)
        if names.reason:
            raise _Unknown(names.reason)
        self.attributes.update(names.attributes)
        self.changes |= names.changes
        return self.parts(function, tuple(self.globals(function, names)))

    def parts(self, function: types.FunctionType, read: tuple[Any, ...]) -> Any:
        defaults = function.__defaults__ or ()
        keywords = sorted((function.__kwdefaults__ or {}).items())
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(self.contents(cell.cell_contents))
            except ValueError:  # not filled yet
                cells.append("empty")
        attributes = sorted((name, value) for name, value in vars(function).items() if name != "__wrapped__")
        return (
            function.__code__,
            _Same(function.__globals__),
            tuple(map(self.contents, defaults)),
            tuple((name, self.contents(value)) for name, value in keywords),
            tuple(cells),
            tuple((name, self.contents(value)) for name, value in attributes),
            read,
        )

    def globals(self, function: types.FunctionType, names: "_Names") -> Any:
        """The values of the global names."""
        module_globals, builtins = function.__globals__, function.__builtins__
        for name in names.globals:
            if name in module_globals:
                yield name, self.contents(module_globals[name])
            elif name in ELSEWHERE:
                raise _Unknown(f"it uses {name}")
            elif name in builtins:
                yield name, _Same(builtins[name])
            else:
                yield name, "missing"

    def module(self, thing: types.ModuleType) -> Any:
        self.lasts = False
        if thing.__name__ == "numpy.random":
            raise _Unknown("it draws numbers of numpy.random, others every time")
        if _root(thing.__name__) not in LIBRARIES or thing is np:
            self.modules[thing.__name__] = thing
        return _Same(thing)


def _described(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    kind = "class" if isinstance(thing, type) else type(thing).__name__
    return f"{name}, a {kind}" if name else f"an object of type {kind}"


_Names = collections.namedtuple("_Names", "globals attributes changes reason")


@functools.lru_cache(maxsize=4096)
def _names_of(code: types.CodeType) -> _Names:
    """The global names and the attributes that a code reads, and why it cannot be compared, if so."""
    read, attributes, changes, reason = set(), set(), False, ""
    pending = [code]
    while pending:
        current = pending.pop()
        pending += [constant for constant in current.co_consts if isinstance(constant, types.CodeType)]
        for instruction in dis.get_instructions(current):
            operation, name = instruction.opname, instruction.argval
            changes |= operation in ("STORE_SUBSCR", "DELETE_SUBSCR")
            if operation.startswith(("STORE_GLOBAL", "DELETE_GLOBAL")):
                reason = f"it changes the global {name}"
            elif operation in ("STORE_DEREF", "DELETE_DEREF") and name in code.co_freevars:
                reason = f"it changes {name}, which it captures"
            elif operation.startswith("IMPORT_") and (
                operation == "IMPORT_STAR"
                or name == "random"
                or (operation == "IMPORT_NAME" and _root(name) not in LIBRARIES)
            ):
                reason = f"it imports {name}"
            elif operation.startswith("LOAD_") and ("GLOBAL" in operation or operation == "LOAD_NAME"):
                read.add(name)
            elif isinstance(name, str) and operation.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER", "IMPORT_")):
                attributes.add(name)
    if strange := {name for name in attributes if name in ELSEWHERE or name.startswith("__")}:
        reason = f"it uses {min(strange)}"
    changes |= not attributes.isdisjoint(CHANGES)
    return _Names(tuple(sorted(read)), tuple(sorted(attributes)), changes, reason)
