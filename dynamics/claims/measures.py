"""The old place of `dynamics.checks.measures`, for one release."""

from dynamics._deprecations import moved
from dynamics.checks import measures

_names = [name for name in vars(measures) if not name.startswith("_")]
__getattr__ = moved(__name__, {name: f"dynamics.checks.measures.{name}" for name in _names})
