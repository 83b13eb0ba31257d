"""How components and results print: with their numbers, optimisers by name, in one screen."""

import contextlib
import dataclasses
import functools
import html
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import wadler_lindig as wl

from dynamics._checks import is_concrete

MOST_NUMBERS = 12  # of an array that is written out; larger ones are type and shape
MOST_LINES = 40


class Printed(eqx.Module):
    """A component that prints its numbers; arguments with their default values are left out.

    A subclass may define `printed_name`, and, where its fields are not what its constructor takes, `printed_arguments`:
    pairs of a name (or `None`) and a value.
    """

    def __repr__(self) -> str:
        return pretty(self)


class Described:
    """A result that prints what it describes."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        cls.__repr__ = Described.__repr__  # a dataclass writes another one where its class has none

    def describe(self) -> str:
        """What it says, in a few lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


class Titled(Described):
    """What has a name, a title and settings, and prints these."""

    name: str
    title: str
    settings: Mapping[str, Any]

    def describe(self) -> str:
        """Name, title and settings."""
        return f"{self.name}: {self.title}\nSettings: {', '.join(f'{k}={v!r}' for k, v in self.settings.items())}"


def described_fields(result: Any) -> str:
    """The fields of a named tuple by name, in one line.

    >>> import collections
    >>> described_fields(collections.namedtuple("Share", ["share", "counts"])(0.5, np.array([2, 1])))
    'share 0.5, counts [2, 1]'
    """
    return ", ".join(f"{name} {pretty(value)}" for name, value in result._asdict().items())


def pretty(
    value: Any,
    width: int = 100,
    most_numbers: float = MOST_NUMBERS,
    hide_defaults: bool = True,
    digits: int | None = None,
) -> str:
    """A component as text: one line if it fits, at most `MOST_LINES` lines; numbers in full, or with so many digits.

    >>> pretty({"weights": np.arange(3.0), "images": np.zeros((60, 28, 28))})
    "{'weights': [0, 1, 2], 'images': f64[60,28,28](numpy)}"
    """
    custom = functools.partial(_document, most_numbers, hide_defaults, digits)
    lines = wl.pformat(value, width=width, custom=custom, hide_defaults=hide_defaults).splitlines()
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"  ... ({len(lines) - MOST_LINES + 1} more lines)"]
    return "\n".join(lines)


def line(value: Any) -> str:
    """A component as one line of text with all its numbers and arguments.

    >>> line({"weights": np.arange(15.0)})
    "{'weights': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]}"
    """
    custom = functools.partial(_document, float("inf"), False, None)
    return wl.pformat(value, width=2**31, custom=custom, hide_defaults=False)


def _document(most_numbers: float, hide_defaults: bool, digits: int | None, value: Any) -> wl.AbstractDoc | None:
    """What is written in another way than others' objects are; `None` for those."""
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        known = not jnp.issubdtype(value.dtype, jax.dtypes.extended) and is_concrete(value)  # keys are no numbers
        written = known and np.size(value) <= most_numbers and np.asarray(value).dtype.kind in "biufc"
        return wl.TextDoc(_numbers(np.asarray(value), digits)) if written else None
    if isinstance(value, float):
        return wl.TextDoc(_number(value, digits))
    if isinstance(value, jax.tree_util.Partial) and not value.args and not value.keywords:
        value = value.func
    if inspect.isfunction(value) or inspect.isclass(value):
        return wl.TextDoc(value.__name__)
    if isinstance(value, optax.GradientTransformation):
        return wl.TextDoc(_transformation(value.update))
    if not isinstance(value, Printed):
        return None
    custom = functools.partial(_document, most_numbers, hide_defaults, digits)
    options = {"custom": custom, "hide_defaults": hide_defaults, "indent": 2}
    name = getattr(value, "printed_name", type(value).__name__)
    documents = [_argument(key, entry, options) for key, entry in _arguments(value, hide_defaults)]
    return wl.bracketed(wl.TextDoc(f"{name}("), documents, wl.comma, wl.TextDoc(")"), 2)


def _argument(name: str | None, value: Any, options: dict[str, Any]) -> wl.AbstractDoc:
    document = wl.pdoc(value, **options)
    return document if name is None else wl.TextDoc(f"{name}=") + document


def _arguments(value: Any, hide_defaults: bool) -> Iterable[tuple[str | None, Any]]:
    """Names and values of what a component was made of."""
    if hasattr(value, "printed_arguments"):
        yield from value.printed_arguments()
        return
    for field in dataclasses.fields(value):
        if not field.repr or not hasattr(value, field.name):
            continue
        entry = getattr(value, field.name)
        if getattr(entry, "splices", False):
            yield from entry.printed_arguments()
        elif not (hide_defaults and (entry is None or _is_default(field, entry))):
            yield field.name, entry


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default is dataclasses.MISSING:
        return False
    if isinstance(value, (jax.Array, np.ndarray)):
        return (
            np.ndim(value) == 0
            and is_concrete(value)
            and isinstance(field.default, (int, float))
            and bool(value == np.asarray(field.default, np.asarray(value).dtype))
        )
    return type(value) is type(field.default) and not isinstance(value, eqx.Module) and bool(value == field.default)


def _transformation(update: Callable[..., Any]) -> str:
    """The functions of optax that made a transformation, with the numbers that they hold, from its update."""
    update = inspect.unwrap(update)
    name, _, made = getattr(update, "__qualname__", "").partition(".<locals>.")
    code, cells = getattr(update, "__code__", None), getattr(update, "__closure__", None) or ()
    if not made or code is None:
        return "<optax transformation>"
    held = {}
    for key, cell in zip(code.co_freevars, cells, strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            held[key] = cell.cell_contents
    inner = [part.update for part in held.values() if isinstance(part, optax.GradientTransformation)]
    if len(inner) == 1 and name == "with_extra_args_support":
        return _transformation(inner[0])
    inner += held.get("update_fns", ())
    numbers = [f"{key}={_number(part)}" for key, part in held.items() if isinstance(part, (int, float, complex))]
    return f"{name}({', '.join([*map(_transformation, inner), *numbers])})"


def _numbers(array: np.ndarray, digits: int | None = None) -> str:
    if array.ndim:
        return f"[{', '.join(_numbers(part, digits) for part in array)}]"
    return _number(array[()], digits)


def _number(number: Any, digits: int | None = None) -> str:
    """With so many digits, or as few as tell the number from others of its type; whole ones without a point."""
    if digits is not None and isinstance(number, (float, np.floating)):
        return f"{number:.{digits}g}"
    if (
        isinstance(number, (float, np.floating))
        and np.isfinite(number)
        and number == int(number)
        and abs(number) < 1e15
    ):
        return str(int(number))
    return str(number)
