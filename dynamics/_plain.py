"""Results as plain Python data, ready for JSON."""

import dataclasses
import enum
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Dictionaries, lists, numbers and strings; complex numbers as pairs, `None` for what is not finite, else a text.

    What has a `to_dict` is what that returns.

    >>> plain({"a": np.array([1.0, np.nan]), "b": 2 + 1j})
    {'a': [1.0, None], 'b': [2.0, 1.0]}
    """
    if isinstance(value, enum.Enum):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def plain_fields(result: Any, **instead: Any) -> dict[str, Any]:
    """The fields of a dataclass by name as `plain` data, some of them replaced."""
    return plain({field.name: getattr(result, field.name) for field in dataclasses.fields(result)} | instead)


def named_fields(result: Any) -> dict[str, Any]:
    """The fields of a named tuple by name as plain Python data, ready for JSON; what is not finite is `None`.

    >>> import collections
    >>> named_fields(collections.namedtuple("Share", ["share", "counts"])(0.5, np.array([2, 1])))
    {'share': 0.5, 'counts': [2, 1]}
    """
    return plain(result._asdict())


class PlainFields:
    """A dataclass whose `to_dict` lists its fields."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        return plain_fields(self)
