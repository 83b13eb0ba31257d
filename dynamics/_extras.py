"""Packages that only some users need: imported when they are used; the message says which extra installs them."""

import importlib
from typing import Any


def optional(module: str, extra: str, use: str) -> Any:
    """A module of a package that `pip install dynamics` does not bring.

    Args:
        module: its name.
        extra: the extra of dynamics that brings it.
        use: what needs it, for the message.

    Raises:
        ImportError: it is not installed.

    >>> optional("no_such_module", "stores", "store=")
    Traceback (most recent call last):
    ImportError: store= needs no_such_module, which is not installed; pip install "dynamics[stores]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # it is there, and lacks something itself
            raise
        raise ImportError(
            f'{use} needs {module}, which is not installed; pip install "dynamics[{extra}]"', name=module
        ) from error
