"""Studies as data: a TOML file says which games, methods and axes; nothing in it can run code."""

import copy
import dataclasses
import importlib.resources
import inspect
import itertools
import math
import pathlib
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from dynamics._names import nearest

PICTURES = ("outcomes", "portraits", "spectra", "rates")

# Key: (types, expected, default); a default of ... means that the key is required.
_TOP = {
    "title": (str, "a line of text", ""),
    "steps": (int, "a positive whole number", 2000),
    "until": (float, "a positive time", 200.0),
    "seed": (int, "a whole number", 0),
    "draw": (list, f"a list of {', '.join(PICTURES)}", ["outcomes", "spectra", "rates"]),
    "game": ((dict, list), "a table, or a list of tables", ...),
    "method": ((dict, list), "a table, or a list of tables", ...),
    "axes": (dict, "a table of paths", {}),
    "portrait": ((dict, list), "a table, or a list of tables", []),
}


class StudyError(ValueError):
    """A study that cannot be run; the message names the key, the value, what was expected and the nearest name."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One cell of a study, still as data.

    Attributes:
        game, objective, penalty, method: labels.
        kind: "map" or "flow".
        axes: values of the numeric axes, by path.
        game_data: the game's table with this cell's alternatives and axis values filled in.
        method_data: the table of the update or flow, likewise.
        alternative: indices of objective and penalty among the game's alternatives, or `None`.
        where: key of the study that holds the game, and of the method, for messages.
    """

    game: str
    objective: str
    penalty: str
    method: str
    kind: str
    axes: dict[str, float]
    game_data: dict[str, Any]
    method_data: dict[str, Any]
    alternative: tuple[int | None, int | None]
    where: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        name: of the built-in study or the file, without its ending.
        data: the resolved study as plain data: defaults filled in, settings applied.
        recipes: its cells.
    """

    name: str
    data: dict[str, Any]
    recipes: tuple[Recipe, ...]


def builtin() -> dict[str, str]:
    """Titles of the built-in studies by name."""
    folder = importlib.resources.files("dynamics.studies")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): tomllib.loads(f.read_text()).get("title", "") for f in files}


def read(source: str, settings: Sequence[str] = ()) -> Study:
    """Read and check a study.

    Args:
        source: name of a built-in study, or path of a TOML file.
        settings: texts like `steps=100` or `game.0.penalty.weight=0.3`, applied before the check. The value is TOML.

    Raises:
        StudyError: no such study, no TOML, an unknown key, a value of the wrong type or out of bounds.
    """
    name, text = _source(source)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{source}: not valid TOML: {error}") from error
    for setting in settings:
        _apply_setting(data, setting)
    return Study(name, *_check(data))


def _source(source: str) -> tuple[str, str]:
    known = builtin()
    if source in known:
        return source, importlib.resources.files("dynamics.studies").joinpath(f"{source}.toml").read_text()
    path = pathlib.Path(source)
    if path.suffix != ".toml" and not path.exists():
        raise StudyError(f"no study is called {source!r}{nearest(source, known)}, or the path of a TOML file")
    try:
        return path.stem, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _apply_setting(data: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not path:
        raise StudyError(f"--set {setting!r}: expected path=value, e.g. steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    put(data, path, value, create=True)


def put(data: Any, path: str, value: Any, create: bool = False) -> None:
    """Set the entry at a dotted path of tables and lists; `*` stands for every entry of a list.

    Raises:
        StudyError: the path leads nowhere; the message gives the nearest key.
    """
    *parents, last = path.split(".")
    places = [data]
    for part in parents:
        places = [deeper for place in places for deeper in _enter(place, part, path)]
    for place in places:
        if isinstance(place, list):
            for index in range(len(place)) if last == "*" else [_index(place, last, path)]:
                place[index] = value
        elif isinstance(place, dict):
            if not create and last not in place:
                raise StudyError(f"{path}: there is no {last!r} here{nearest(last, place)}")
            place[last] = value
        else:
            raise StudyError(f"{path}: {place!r} is no table, so it has no {last!r}")


def _enter(place: Any, part: str, path: str) -> list[Any]:
    if isinstance(place, list):
        return list(place) if part == "*" else [place[_index(place, part, path)]]
    if isinstance(place, dict) and part in place:
        return [place[part]]
    raise StudyError(f"{path}: there is no {part!r} here{nearest(part, place if isinstance(place, dict) else ())}")


def _index(place: list, part: str, path: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise StudyError(
            f"{path}: {part!r} is no entry of a list of {len(place)}; expected 0 to {len(place) - 1}, or *"
        )
    return int(part)


def _check(data: dict[str, Any]) -> tuple[dict[str, Any], tuple[Recipe, ...]]:
    for key in data:
        if key not in _TOP:
            raise StudyError(f"{key}: no such key in a study{nearest(key, _TOP)}")
    resolved: dict[str, Any] = {}
    for key, (kinds, expected, default) in _TOP.items():
        value = data.get(key, default)
        if value is ...:
            raise StudyError(f"{key}: missing; a study needs {expected} called {key!r}")
        if kinds is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise StudyError(f"{key}: got {value!r}; expected {expected}")
        resolved[key] = copy.deepcopy(value)
    for key, largest in (("steps", 2**31), ("until", math.inf)):
        if not 0 < resolved[key] < largest:
            raise StudyError(f"{key}: got {resolved[key]!r}; expected {_TOP[key][1]}")
    for picture in resolved["draw"]:
        if picture not in PICTURES:
            raise StudyError(f"draw: got {picture!r}{nearest(str(picture), PICTURES)}")
    games = _tables(resolved, "game", ("name", "start"), {"label", "each", "constructor"})
    methods = _tables(resolved, "method", (), {"label", "update", "flow"})
    for where, portrait in _tables(resolved, "portrait", ("game", "methods"), set()):
        _check_portrait(where, portrait)
    for where, method in methods:
        for key in method:
            if key not in ("label", "update", "flow"):
                raise StudyError(f"{where}.{key}: no such key{nearest(key, ('label', 'update', 'flow'))}")
        if not ("update" in method or "flow" in method):
            raise StudyError(f"{where}: expected an update, a flow, or both")
        for kind in ("update", "flow"):
            if kind in method and not (isinstance(method[kind], dict) and isinstance(method[kind].get("name"), str)):
                raise StudyError(f"{where}.{kind}: got {method[kind]!r}; expected a table with a name")
    axes = {path: _axis(path, value) for path, value in resolved["axes"].items()}
    for path in axes:
        for point in (copy.deepcopy(resolved),):
            put(point, path, 0.0)
        if path.split(".")[0] not in ("game", "method"):
            raise StudyError(f"axes.{path}: expected a path that begins with game or method")
    recipes = tuple(_recipes(resolved, games, methods, axes))
    return resolved, recipes


_PORTRAIT = ("game", "objective", "penalty", "kind", "methods", "half_width")


def _check_portrait(where: str, portrait: dict[str, Any]) -> None:
    for key, value in portrait.items():
        if key not in _PORTRAIT:
            raise StudyError(f"{where}.{key}: no such key{nearest(key, _PORTRAIT)}")
        if key == "methods":
            if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
                raise StudyError(f"{where}.methods: got {value!r}; expected a list of labels of methods")
        elif key == "half_width":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise StudyError(f"{where}.half_width: got {value!r}; expected a positive number")
        elif not isinstance(value, str):
            raise StudyError(f"{where}.{key}: got {value!r}; expected a label")


def _tables(
    data: dict[str, Any], key: str, required: Sequence[str], known: set[str]
) -> list[tuple[str, dict[str, Any]]]:
    """The tables under a key with their paths, whether there is one or a list of them."""
    value = data[key]
    tables = [(key, value)] if isinstance(value, dict) else [(f"{key}.{i}", v) for i, v in enumerate(value)]
    for where, table in tables:
        if not isinstance(table, dict):
            raise StudyError(f"{where}: got {table!r}; expected a table")
        for name in required:
            if name not in table:
                raise StudyError(f"{where}.{name}: missing{nearest(name, set(table) - known)}")
    if not tables and key != "portrait":
        raise StudyError(f"{key}: expected at least one")
    return tables


def _axis(path: str, value: Any) -> list[float]:
    where = f"axes.{path}"
    if isinstance(value, list):
        if not value or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
            raise StudyError(f"{where}: got {value!r}; expected a list of numbers")
        return [float(v) for v in value]
    if not isinstance(value, dict):
        raise StudyError(f"{where}: got {value!r}; expected a list of numbers, or low, high and count")
    for name in value:
        if name not in ("low", "high", "count", "scale"):
            raise StudyError(f"{where}.{name}: no such key{nearest(name, ('low', 'high', 'count', 'scale'))}")
    low, high, count = (value.get(name) for name in ("low", "high", "count"))
    if not (isinstance(count, int) and count >= 1 and all(isinstance(v, (int, float)) for v in (low, high))):
        raise StudyError(f"{where}: got {value!r}; expected numbers low and high and a whole number count")
    if value.get("scale", "linear") not in ("linear", "log"):
        raise StudyError(f"{where}.scale: got {value['scale']!r}; expected 'linear' or 'log'")
    fractions = [i / max(count - 1, 1) for i in range(count)]
    if value.get("scale") == "log":
        if not 0 < low <= high:
            raise StudyError(f"{where}: got low {low} and high {high}; a log scale needs 0 < low <= high")
        return [low * (high / low) ** f for f in fractions]
    return [low + (high - low) * f for f in fractions]


def _recipes(resolved, games, methods, axes) -> Iterator[Recipe]:
    for values in itertools.product(*axes.values()):
        point = copy.deepcopy(resolved) if axes else resolved
        for path, value in zip(axes, values, strict=True):
            put(point, path, value)
        named = dict(zip(axes, values, strict=True))
        for where, _ in games:
            table = _at(point, where)
            for objective, penalty, alternative, filled in _alternatives(where, table):
                for method_where, _ in methods:
                    method = _at(point, method_where)
                    for kind, key in (("map", "update"), ("flow", "flow")):
                        if key not in method:
                            continue
                        yield Recipe(
                            game=table.get("label", table["name"]),
                            objective=objective,
                            penalty=penalty,
                            method=method.get("label", method[key]["name"]),
                            kind=kind,
                            axes=named,
                            game_data=filled,
                            method_data=method[key],
                            alternative=alternative,
                            where=(where, f"{method_where}.{key}"),
                        )


def _at(data: dict[str, Any], path: str) -> dict[str, Any]:
    key, _, index = path.partition(".")
    return data[key][int(index)] if index else data[key]


def _alternatives(
    where: str, table: dict[str, Any]
) -> Iterator[tuple[str, str, tuple[int | None, int | None], dict[str, Any]]]:
    each = table.get("each", {})
    if not isinstance(each, dict) or any(key not in ("objective", "penalty") for key in each):
        raise StudyError(f"{where}.each: got {each!r}; expected lists called objective and penalty")
    plain = {key: value for key, value in table.items() if key not in ("each", "label")}
    objectives = each.get("objective", [plain.get("objective", "")])
    penalties = each.get("penalty", [plain.get("penalty", "")])
    for key, choices in (("objective", objectives), ("penalty", penalties)):
        if not isinstance(choices, list) or not choices:
            raise StudyError(f"{where}.each.{key}: got {choices!r}; expected a list")
    for (first, objective), (second, penalty) in itertools.product(enumerate(objectives), enumerate(penalties)):
        filled = dict(plain)
        if objective:
            filled["objective"] = objectives if "objective" in each else objective
        changes = penalty.get("set", {}) if isinstance(penalty, dict) else {}
        filled.update(changes)
        filled["penalty"] = penalties if "penalty" in each else penalty
        chosen = (first if "objective" in each else None, second if "penalty" in each else None)
        yield _label(objective), _label(penalty), chosen, filled


def _label(choice: Any) -> str:
    if isinstance(choice, dict):
        return str(choice.get("label", choice.get("name", "")))
    return str(choice)


def arguments_of(function: Any) -> dict[str, inspect.Parameter]:
    """The named arguments of a constructor."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD and name != "self"}
