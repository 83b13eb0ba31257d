"""Catalogues: the members of each axis, found in the room that holds them.

A room's `__init__.py` imports each of its members, one line each; that import *is* the entry in the
catalogue, from which the command line, the conformance tests and the documentation read.
"""

import importlib
import math
import re
import traceback
import types
from collections.abc import Sequence
from typing import Any

import equinox as eqx

from dynamics._names import nearest
from dynamics._text import reason, shown

ROOMS = {
    "games": ("dynamics.games", "dynamics.game", "Game"),
    "objectives": ("dynamics.objectives", "dynamics.objectives.base", "Objective"),
    "penalties": ("dynamics.penalties", "dynamics.penalties.base", "Penalty"),
    "directions": ("dynamics.directions", "dynamics.directions.base", "Direction"),
    "updates": ("dynamics.updates", "dynamics.updates.base", "Update"),
    "flows": ("dynamics.flows", "dynamics.flows.base", "AbstractFlow"),
}

# Old names of members, which studies may use for one release.
RENAMED = {("directions", "LookAhead"): "PolicyPrediction"}

_ADDED: list[types.ModuleType] = []


def add(module: types.ModuleType) -> None:
    """Add a module's own games, objectives, penalties, directions, updates and flows to the catalogues.

    Args:
        module: which classes are read off; one that was added before is not added again.

    Raises:
        ValueError: it defines something under a name that the catalogue has already.
    """
    if module in _ADDED:
        return
    for room in ROOMS:
        known = members(room)
        for name, value in _within(room, vars(module)).items():
            if known.get(name, value) is not value:
                owner = known[name].__module__
                raise ValueError(f"{name!r} is one of the {room} already, from {owner}; give it another name")
    _ADDED.append(module)


def plug_in(names: Sequence[str]) -> None:
    """Import modules by name and add what they define.

    Args:
        names: full names of modules, as for `import`.

    Raises:
        ImportError: one of them cannot be imported, whatever it raises, or defines what the catalogue has already.
    """
    for name in names:
        called = f"--plugin {shown(name, 80)[1:-1]}"
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            kind, said = type(error).__name__, reason(error).removeprefix("ModuleNotFoundError: ")
            kind = "" if isinstance(error, ModuleNotFoundError) or said.startswith(kind) else f"{kind}: "
            raise ImportError(f"{called}: cannot be imported: {kind}{said}") from error
        try:
            add(module)
        except ValueError as error:
            raise ImportError(f"{called}: {reason(error)}") from error


def added() -> tuple[types.ModuleType, ...]:
    """The modules whose members are in the catalogues beside the built-in ones."""
    return tuple(_ADDED)


def plugin_of(error: BaseException) -> str | None:
    """The added module whose code has raised an exception, or called what has; `None`: nobody's.

    Args:
        error: what was raised.

    Returns:
        the name of the module.
    """
    seen: set[int] = set()
    owners = {module.__name__ for module in _ADDED}
    raised: BaseException | None = error
    while raised is not None and id(raised) not in seen:
        seen.add(id(raised))
        for frame, _ in traceback.walk_tb(raised.__traceback__):
            name = str(frame.f_globals.get("__name__"))
            if name in owners:
                return name
        raised = raised.__cause__ or raised.__context__
    return None


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
    names = dict(vars(importlib.import_module(ROOMS[room][0])))
    for module in _ADDED:
        names |= vars(module)
    return _within(room, names)


def _within(room: str, names: dict[str, Any], abstract: bool = False) -> dict[str, type]:
    """Those of some names that are final, or abstract, classes of a room."""
    _, base_module, base_name = ROOMS[room]
    base = getattr(importlib.import_module(base_module), base_name)
    return {
        name: value
        for name, value in names.items()
        if isinstance(value, type) and issubclass(value, base) and is_abstract(value) is abstract
    }


def lacking(room: str, name: str) -> list[str]:
    """What an added class lacks for a member of a room; empty where there is no such class.

    Args:
        room: one of `games`, `objectives`, `penalties`, `directions`, `updates`, `flows`.
        name: of the class.

    Returns:
        names of abstract methods.
    """
    for module in _ADDED:
        cls = _within(room, vars(module), abstract=True).get(name)
        if cls is not None:
            return sorted(getattr(cls, "__abstractmethods__", ()))
    return []


def is_abstract(cls: type) -> bool:
    """True when some method of the class is still abstract.

    Args:
        cls: the class.
    """
    return issubclass(cls, eqx.Module) and bool(getattr(cls, "__abstractmethods__", ()))


def find(room: str, name: str) -> type:
    """The member of a room with this name.

    Args:
        room: one of `games`, `objectives`, `penalties`, `directions`, `updates`, `flows`.
        name: of the class.

    Raises:
        ValueError: there is none; the message gives the nearest name.

    >>> find("penalties", "R1").__name__
    'R1'
    """
    known = members(room)
    if name not in known:
        raise ValueError(f"{name!r} is not one of the {room}{nearest(name, known)}")
    return known[name]


def summary(member: Any) -> str:
    """The first line of a member's docstring.

    Args:
        member: a class or a function.

    >>> summary(find("objectives", "Hinge"))
    'Hinge loss for the discriminator, mean score for the generator.'
    """
    return (member.__doc__ or "").strip().splitlines()[0] if member.__doc__ else ""


def section(member: Any, name: str) -> str:
    """What follows a word and a colon in a member's docstring, in one line; empty where there is nothing.

    The losses are one sentence; a source ends where the paragraph does.

    Args:
        member: a class or a function.
        name: the word, such as "Source".

    >>> section(find("objectives", "Wasserstein"), "Losses")
    '$L_D = E_{fake} C - E_{real} C$, $L_G = -E_{fake} C$.'
    """
    end = r"(?<=\.)\s+(?=[A-Z])" if name == "Losses" else r"\n\s*(?:\n|>>>|[A-Z][a-z]+:\s*$)"
    pattern = rf"^\s*{name}: (.+?)(?:{end}|\Z)"
    match = re.search(pattern, member.__doc__ or "", re.DOTALL | re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def objective_details(member: type) -> dict[str, Any]:
    """What is known of an objective with its default numbers, as plain data; only what its docstring says without any.

    Of a number that is not known there is `None`.

    Args:
        member: a class of `dynamics.objectives`.

    >>> objective_details(find("objectives", "Minimax"))["divergence"]
    '2 JSD(data, model) - log 4'
    """
    texts = {"losses": section(member, "Losses"), "source": section(member, "Source")}
    try:
        objective = member()
        ideal, score = float(objective.ideal_discriminator_loss), float(objective.ideal_score)
        known: dict[str, Any] = {"divergence": objective.divergence, **objective.properties._asdict()}
    except Exception:  # an objective of somebody's own, that needs arguments or whatever
        return texts
    numbers = {"ideal_discriminator_loss": ideal, "ideal_score": score}
    return texts | known | {name: None if math.isnan(number) else number for name, number in numbers.items()}
