"""Public objects at run time: what each is, and which of them a text in backticks names."""

import functools
import importlib
import inspect
import re
from typing import Any

from _site import names


@functools.cache
def by_full_name() -> dict[str, Any]:
    """All public objects by the name under which the reference documents them."""
    found: dict[str, Any] = {}
    for module, members in names.reference().items():
        holder = importlib.import_module(module)
        found |= {f"{module}.{name}": getattr(holder, name) for name in members}
    return found


@functools.cache
def _aliases() -> dict[str, str]:
    """Names of documented objects by every name that a docstring may use: full, or alone where it is unique."""
    documented = by_full_name()
    aliases = {name: name for name in documented}
    alone: dict[str, set[str]] = {}
    for name, value in documented.items():
        alone.setdefault(name.rpartition(".")[2], set()).add(name)
        module = getattr(value, "__module__", None)
        if isinstance(module, str):
            aliases.setdefault(f"{module}.{getattr(value, '__name__', '')}", name)
    for name, module in names.top_level().items():
        aliases.setdefault(f"{module}.{name}", f"dynamics.{name}")
    for short, full in alone.items():
        if len(full) == 1:
            aliases.setdefault(short, next(iter(full)))
    aliases |= {name.removeprefix("dynamics."): full for name, full in list(aliases.items()) if "." in name}
    return aliases


_NAME = re.compile(r"(?:dy\.)?[A-Za-z_][\w.]*")


def role_of(text: str, own: str = "") -> str | None:
    """The documented name of what a text in backticks names; `None` where it names nothing public.

    Args:
        text: such as `dynamics.games.DiracGAN`, `dy.simulate` or `R1`.
        own: the object whose docstring it is, which needs no link to itself.
    """
    if not _NAME.fullmatch(text):
        return None
    name = _aliases().get(re.sub(r"^dy\.", "dynamics.", text))
    if name is None or name == own:
        return None
    return None if "." not in text and text.islower() and len(text) < 6 and text not in _PLAIN else name


# Words such as `key` or `rates` are arguments far more often than names of functions.
_PLAIN = ("sgd", "adam", "sweep", "best")


def kind_of(value: Any) -> str:
    """The autodoc directive of an object: class, exception, function or data."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) and hasattr(value, "__name__") and inspect.isroutine(value) else "data"
