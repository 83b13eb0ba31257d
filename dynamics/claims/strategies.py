"""The old place of `dynamics.strategies`, for one release."""

import dynamics.strategies as strategies
from dynamics._deprecations import moved

_names = [name for name in vars(strategies) if not name.startswith("_")]
__getattr__ = moved(__name__, {name: f"dynamics.strategies.{name}" for name in _names})
