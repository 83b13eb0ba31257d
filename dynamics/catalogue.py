"""Catalogues: the members of each axis, found in the room that holds them.

A room's `__init__.py` imports each of its members, one line each; that import *is* the entry in the
catalogue, from which the command line, the conformance tests and the documentation read.
"""

import importlib
import types
from collections.abc import Sequence
from typing import Any

import equinox as eqx

from dynamics._names import nearest

ROOMS = {
    "games": ("dynamics.games", "dynamics.game", "Game"),
    "objectives": ("dynamics.objectives", "dynamics.objectives.base", "Objective"),
    "penalties": ("dynamics.penalties", "dynamics.penalties.base", "Penalty"),
    "directions": ("dynamics.directions", "dynamics.directions.base", "Direction"),
    "updates": ("dynamics.updates", "dynamics.updates.base", "Update"),
    "flows": ("dynamics.flows", "dynamics.flows.base", "AbstractFlow"),
}


_ADDED: list[types.ModuleType] = []


def add(module: types.ModuleType) -> None:
    """Add a module's own games, objectives, penalties, directions, updates and flows to the catalogues."""
    if module not in _ADDED:
        _ADDED.append(module)


def plug_in(names: Sequence[str]) -> None:
    """Import modules by name and add what they define.

    Raises:
        ImportError: one of them cannot be imported.
    """
    for name in names:
        try:
            add(importlib.import_module(name))
        except ImportError as error:
            raise ImportError(f"--plugin {name}: cannot be imported: {error}") from error


def members(room: str) -> dict[str, type]:
    """The final classes of a room by name, in the order of their import; those of added modules last.

    Args:
        room: one of `games`, `objectives`, `penalties`, `directions`, `updates`, `flows`.

    Raises:
        ValueError: there is no such room.

    >>> list(members("objectives"))[:2]
    ['Minimax', 'NonSaturating']
    """
    if room not in ROOMS:
        raise ValueError(f"no catalogue is called {room!r}{nearest(room, ROOMS)}")
    package, base_module, base_name = ROOMS[room]
    base = getattr(importlib.import_module(base_module), base_name)
    names = dict(vars(importlib.import_module(package)))
    for module in _ADDED:
        names |= vars(module)
    return {
        name: value
        for name, value in names.items()
        if isinstance(value, type) and issubclass(value, base) and not is_abstract(value)
    }


def is_abstract(cls: type) -> bool:
    """True when some method of the class is still abstract."""
    return issubclass(cls, eqx.Module) and bool(getattr(cls, "__abstractmethods__", ()))


def find(room: str, name: str) -> type:
    """The member of a room with this name.

    Raises:
        ValueError: there is none; the message gives the nearest name.
    """
    known = members(room)
    if name not in known:
        raise ValueError(f"{name!r} is not one of the {room}{nearest(name, known)}")
    return known[name]


def summary(member: Any) -> str:
    """The first line of a member's docstring."""
    return (member.__doc__ or "").strip().splitlines()[0] if member.__doc__ else ""
