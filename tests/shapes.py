"""Types and shapes of arrays as the annotations say them, checked at every call.

`pytest --jaxtyping-packages=dynamics,shapes.checked`, with `tests/` in PYTHONPATH. Only annotations of dtypes and
shapes are looked at: others say what a caller may give, and what type checkers see.
"""

import typing
from collections.abc import Callable
from typing import Any

import beartype
from jaxtyping import AbstractArray

_beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def is_of_shapes(hint: Any) -> bool:
    """Whether an annotation says something about dtypes or shapes."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return issubclass(hint, AbstractArray)
    return any(is_of_shapes(part) for part in typing.get_args(hint))


def checked(function: Callable) -> Callable:
    """The function, checking the arguments and results whose annotations speak of shapes."""
    hints = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if is_of_shapes(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return _beartype(function)
