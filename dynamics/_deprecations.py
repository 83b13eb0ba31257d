"""Old names of things that have moved: they work for one release, and say what to use instead."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from dynamics import _locks


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for names that have moved.

    Args:
        module: name of the old module.
        names: the new place of every old name, dotted and in full.

    >>> get = moved("dynamics.old", {"Bilinear": "dynamics.games.Bilinear"})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     get("Bilinear").__name__, str(caught[0].message)
    ('Bilinear', 'dynamics.old.Bilinear is now dynamics.games.Bilinear; the old name goes with the next release')
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place = names[name]
        package, _, last = place.rpartition(".")
        with _locks.importing:
            value = getattr(importlib.import_module(package), last)
        text = f"{module}.{name} is now {place}; the old name goes with the next release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return value

    return get


def renamed_method(new: Callable[..., Any], old: str) -> Callable[..., Any]:
    """A method under its old name.

    Args:
        new: the method.
        old: its old name.

    >>> class Table:
    ...     def to_xarray(self):
    ...         return "a dataset"
    ...     to_dataset = renamed_method(to_xarray, "to_dataset")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     Table().to_dataset(), str(caught[0].message)
    ('a dataset', 'to_dataset is now to_xarray; the old name goes with the next release')
    """

    def method(*arguments: Any, **options: Any) -> Any:
        text = f"{old} is now {new.__name__}; the old name goes with the next release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return new(*arguments, **options)

    method.__name__, method.__doc__ = old, f"The old name of `{new.__name__}`."
    return method
