"""Results as plain Python data, ready for JSON."""

import enum
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Lists, numbers and strings; complex numbers as pairs, what is not finite as `None`.

    >>> plain({"a": np.array([1.0, np.nan]), "b": 2 + 1j})
    {'a': [1.0, None], 'b': [2.0, 1.0]}
    """
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value) if isinstance(value, enum.Enum) else value
