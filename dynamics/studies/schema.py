"""Studies as data: a TOML file says which games, methods and axes; nothing in it can run code."""

import copy
import dataclasses
import datetime
import importlib.resources
import inspect
import itertools
import math
import pathlib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from dynamics import _settings
from dynamics._memory import check_memory, counted
from dynamics._names import nearest
from dynamics._settings import DEEPEST
from dynamics._text import is_plain, printable, reason, shortened, shown

PICTURES = ("outcomes", "portraits", "spectra", "rates")

LARGEST_FILE = 2**24  # bytes of a study
LONGEST_TEXT = 200  # letters of a label or any other text
CELL_BYTES = 8_000  # of memory that a cell takes, at the least


class Key(NamedTuple):
    """A key of a study, or of one of its tables: what it may be, and what it is for."""

    kinds: Any  # types
    expected: str
    default: Any  # `...` where the key is required
    meaning: str


KEYS: dict[str, Key] = {
    "title": Key(str, "a line of text", "", "heading of the report"),
    "steps": Key(int, "a positive whole number", 2000, "steps of every update"),
    "until": Key(float, "a positive time", 200.0, "time of every flow"),
    "seed": Key(int, "a whole number", 0, "of what is drawn at random: the noise of a flow, stochastic rounding"),
    "draw": Key(list, f"a list of {', '.join(PICTURES)}", ["outcomes", "spectra", "rates"], "pictures of the report"),
    "game": Key((dict, list), "a table, or a list of tables", ..., "which games are played, and from where"),
    "method": Key((dict, list), "a table, or a list of tables", ..., "by which updates and flows"),
    "axes": Key(dict, "a table of paths", {}, "numbers that vary: every combination of their values is a cell"),
    "portrait": Key(
        (dict, list),
        "a table, or a list of tables",
        [],
        "pictures of the plane, of cells of one game; without any, of each planar one",
    ),
    "series": Key(
        (dict, list), "a table, or a list of tables", [], "pictures of players over time, with noise if asked"
    ),
    "basins": Key((dict, list), "a table, or a list of tables", [], "pictures of where runs end, by their start"),
    "eigenvalues": Key((dict, list), "a table, or a list of tables", [], "pictures of eigenvalues over a number"),
}


class StudyError(ValueError):
    """A study that cannot be run; the message names the key, the value, what was expected and the nearest name."""


@dataclasses.dataclass(frozen=True)
class CellSpecification:
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
    recipes: tuple[CellSpecification, ...]

    def describe(self) -> str:
        """Its title, and the games and methods that its cells are made of."""
        games = ", ".join(dict.fromkeys(recipe.game for recipe in self.recipes))
        methods = ", ".join(dict.fromkeys(f"{recipe.method} ({recipe.kind})" for recipe in self.recipes))
        axes = ", ".join(f"{name}: {len(entry)}" for name, entry in self._axes().items())
        lines = [f"{self.name}: {self.data.get('title', '')}".rstrip(": "), f"{len(self.recipes):,} cells"]
        lines += [f"games: {games}", f"methods: {methods}", *([f"axes: {axes}"] if axes else [])]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.describe()

    def _axes(self) -> dict[str, list[float]]:
        """The values of the numeric axes, by path."""
        values: dict[str, dict[float, None]] = {}
        for recipe in self.recipes:
            for name, value in recipe.axes.items():
                values.setdefault(name, {})[value] = None
        return {name: list(known) for name, known in values.items()}


def builtin() -> dict[str, str]:
    """Titles of the built-in studies by name."""
    folder = importlib.resources.files("dynamics.studies")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): tomllib.loads(f.read_text(encoding="utf-8")).get("title", "") for f in files}


def read(source: str, settings: Sequence[str] = ()) -> Study:
    """Read and check a study.

    Args:
        source: name of a built-in study, or path of a TOML file.
        settings: texts like `steps=100` or `game.0.penalty.weight=0.3`, applied before the check. The value is TOML.

    Raises:
        StudyError: no such study, no TOML, an unknown key, a value of the wrong type or out of bounds, or more cells
            than there is memory for.
    """
    name, text = _source(source)
    data = _parsed(text, source)
    for setting in settings:
        _apply_setting(data, setting)
    _check_values(data)
    return Study(name, *_check(data))


def new(path: str | pathlib.Path) -> pathlib.Path:
    """Write a commented study to start from.

    Args:
        path: of the file, which ends in .toml and does not exist.

    Returns:
        the path.

    Raises:
        StudyError: the path is of another kind, or there is something.
    """
    path = pathlib.Path(path)
    if path.suffix != ".toml":
        raise StudyError(f"{shown(str(path))} is no name for a study; expected one that ends in .toml")
    text = importlib.resources.files("dynamics.studies").joinpath("templates", "study.toml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:  # never in place of another file
            file.write(text.replace("THIS_FILE", path.name))
    except FileExistsError as error:
        raise StudyError(f"{shown(str(path))} exists already; expected the name of a new file") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"{shown(str(path))}: cannot be written: {reason(error)}") from error
    return path


def _source(source: str) -> tuple[str, str]:
    known = builtin()
    if source in known:
        return source, importlib.resources.files("dynamics.studies").joinpath(f"{source}.toml").read_text()
    path = pathlib.Path(source)
    try:
        if path.suffix != ".toml" and not path.exists():
            raise StudyError(f"no study is called {shown(source)}{nearest(source, known)}, or the path of a TOML file")
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise StudyError(
                f"{source}: cannot be read: it is larger than {LARGEST_FILE >> 20} MiB; expected a TOML file"
            )
        return printable(path.stem), text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{source}: cannot be read: byte {error.start} is no UTF-8") from error
    except (OSError, ValueError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{shown(source)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return _settings.parsed(text)
    except ValueError as error:
        raise StudyError(f"{where}: not valid TOML: {error}") from error


def _check_values(data: dict[str, Any]) -> None:
    """Raise `StudyError` where something is too deep, or is no number, text or flag that a study can have."""
    left: list[tuple[str, Any, int]] = [("", data, 0)]
    while left:
        path, value, depth = left.pop()
        where = path or "study"
        if isinstance(value, (dict, list)):
            if depth > DEEPEST:
                raise StudyError(f"{shortened(path, 40)}: nested more than {DEEPEST} levels deep; a study needs fewer")
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for key, entry in entries:
                if isinstance(key, str):
                    _check_text(path or "a key", key)
                left.append((f"{path}.{key}" if path else str(key), entry, depth + 1))
        elif isinstance(value, str):
            _check_text(where, value)
        elif isinstance(value, (datetime.date, datetime.time)):
            raise StudyError(f"{where}: got the date or time {value}; a study has none")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise StudyError(f"{where}: got a whole number of {value.bit_length()} bits; expected one of at most 64")
        elif isinstance(value, float) and depth > 1 and not math.isfinite(value):
            raise StudyError(f"{where}: got {value}; expected a finite number")


def _check_text(where: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise StudyError(f"{where}: got {shown(text, 40)}, of {len(text)} letters; expected at most {LONGEST_TEXT}")
    if not is_plain(text):
        raise StudyError(f"{where}: got {shown(text)}; expected a line of text without control characters")


def _apply_setting(data: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not path:
        raise StudyError(f"--set {shown(setting)}: expected path=value, e.g. steps=100")
    _check_text("--set: the path", path)
    try:
        value = _settings.value_of(text)
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a name without quotes
    except ValueError as error:
        raise StudyError(f"--set {path}: got {shown(text)}; {error}") from error
    put(data, path, value, create=True)


def put(data: Any, path: str, value: Any, create: bool = False) -> None:
    """Set the entry at a dotted path of tables and lists; `*` stands for every entry of a list.

    Raises:
        StudyError: the path leads nowhere; the message gives the nearest key.
    """
    for place, key in _slots(data, path, create):
        place[key] = value


def _slots(data: Any, path: str, create: bool = False) -> list[tuple[Any, Any]]:
    """Where the entry of a path is: tables and lists, with the key or index in each."""
    *parents, last = path.split(".")
    places = [data]
    for part in parents:
        places = [deeper for place in places for deeper in _enter(place, part, path)]
    slots: list[tuple[Any, Any]] = []
    for place in places:
        if isinstance(place, list):
            slots += [(place, index) for index in (range(len(place)) if last == "*" else [_index(place, last, path)])]
        elif isinstance(place, dict):
            if not create and last not in place:
                raise StudyError(f"{path}: there is no {last!r} here{nearest(last, place)}")
            slots.append((place, last))
        else:
            raise StudyError(f"{path}: {shown(place)} is no table, so it has no {last!r}")
    return slots


def _enter(place: Any, part: str, path: str) -> list[Any]:
    if isinstance(place, list):
        return list(place) if part == "*" else [place[_index(place, part, path)]]
    if isinstance(place, dict) and part in place:
        return [place[part]]
    raise StudyError(f"{path}: there is no {part!r} here{nearest(part, place if isinstance(place, dict) else ())}")


def _index(place: list, part: str, path: str) -> int:
    if not (part.isascii() and part.isdigit()) or len(part) > 18 or int(part) >= len(place):
        raise StudyError(
            f"{path}: {part!r} is no entry of a list of {len(place)}; expected 0 to {len(place) - 1}, or *"
        )
    return int(part)


def _check(data: dict[str, Any]) -> tuple[dict[str, Any], tuple[CellSpecification, ...]]:
    for key in data:
        if key not in KEYS:
            raise StudyError(f"{key}: no such key in a study{nearest(key, KEYS)}")
    resolved: dict[str, Any] = {}
    for key, (kinds, expected, default, _) in KEYS.items():
        value = data.get(key, default)
        if value is ...:
            raise StudyError(f"{key}: missing; a study needs {expected} called {key!r}")
        if kinds is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise StudyError(f"{key}: got {shown(value)}; expected {expected}")
        resolved[key] = copy.deepcopy(value)
    for key, largest in (("steps", 2**31), ("until", math.inf)):
        if not 0 < resolved[key] < largest:
            most = f" below {largest:,}" if key == "steps" else ""
            raise StudyError(f"{key}: got {resolved[key]!r}; expected {KEYS[key].expected}{most}")
    for picture in resolved["draw"]:
        if picture not in PICTURES:
            raise StudyError(f"draw: got {shown(picture)}{nearest(str(picture), PICTURES)}")
    _check_each(resolved["game"])
    games = _tables(resolved, "game", ("name", "start"), {"label", "each", "constructor"})
    for where, game in games:
        _check_texts(where, game, ("label", "name", "constructor"))
        for key in ("objective", "penalty"):
            if key in game:
                _check_choice(f"{where}.{key}", game[key])
    methods = _tables(resolved, "method", (), {"label", "update", "flow"})
    for figure, keys in FIGURE_KEYS.items():
        required = [name for name, key in keys.items() if key.required]
        for where, table in _tables(resolved, figure, required, set()):
            _check_figure(where, table, keys)
            if figure == "eigenvalues":
                _check_over(resolved, where, table)
    for where, method in methods:
        _check_texts(where, method, ("label",))
        for key in method:
            if key not in METHOD_KEYS:
                raise StudyError(f"{where}.{key}: no such key{nearest(key, METHOD_KEYS)}")
        if not ("update" in method or "flow" in method):
            raise StudyError(f"{where}: expected an update, a flow, or both")
        for kind in ("update", "flow"):
            if kind in method and not (isinstance(method[kind], dict) and isinstance(method[kind].get("name"), str)):
                raise StudyError(f"{where}.{kind}: got {shown(method[kind])}; expected a table with a name")
    axes = {path: _axis(path, value) for path, value in resolved["axes"].items()}
    for path in axes:
        if path.split(".")[0] not in ("game", "method"):
            raise StudyError(f"axes.{path}: expected a path that begins with game or method")
        for place, key in _slots(resolved, path):
            if not _is_numeric(place[key]):
                raise StudyError(f"axes.{path}: leads to {shown(place[key])}; expected the path of a number")
    per_point = sum(1 for _ in _recipes(resolved, games, methods, {}))
    count = per_point * math.prod(len(fractions) for fractions, _ in axes.values())
    try:
        check_memory(f"{counted(count)} cells", count, CELL_BYTES, "expected fewer values of the axes")
    except ValueError as error:
        longest = max(axes, key=lambda path: len(axes[path][0]), default=None)
        raise StudyError(f"game and method: {error}" if longest is None else f"axes.{longest}: {error}") from error
    values = {path: [at(fraction) for fraction in fractions] for path, (fractions, at) in axes.items()}
    recipes = tuple(_recipes(resolved, games, methods, values))
    return resolved, recipes


def _check_texts(where: str, table: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if key in table and not (isinstance(table[key], str) and table[key].strip()):
            raise StudyError(f"{where}.{key}: got {shown(table[key])}; expected a text")


def _check_choice(where: str, choice: Any) -> None:
    """An objective or a penalty: a name, or a table."""
    if isinstance(choice, dict):
        _check_texts(where, choice, ("label", "name"))
        if not isinstance(choice.get("set", {}), dict):
            raise StudyError(f"{where}.set: got {shown(choice['set'])}; expected a table")
    elif not isinstance(choice, str):
        raise StudyError(f"{where}: got {shown(choice)}; expected a name, or a table with a name")


def _is_numeric(value: Any) -> bool:
    """A number, or lists of numbers."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_numeric, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class FigureKey(NamedTuple):
    """A key of the table of a picture: what it may be, and what it is for."""

    fits: Callable[[Any], bool]
    expected: str
    meaning: str
    required: bool = False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return _is_numeric(value) and not isinstance(value, list)


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_period(value: Any) -> bool:
    entries = value if isinstance(value, list) else [value]
    return bool(entries) and all(
        (_is_number(entry) and entry > 0) or (isinstance(value, list) and entry == "none") for entry in entries
    )


MOST_SERIES, MOST_STARTS, MOST_SAMPLES = 6, 1001, 10_001
_GAME = FigureKey(_is_text, "a label", "label of the game", required=True)
_METHOD = FigureKey(_is_text, "a label", "label of the method", required=True)
_CELL = {
    "objective": FigureKey(_is_text, "a label", "label of the objective, where the game has several"),
    "penalty": FigureKey(_is_text, "a label", "label of the penalty, likewise"),
    "kind": FigureKey(_is_text, "a label", "`map` or `flow`, where a method is both"),
}


def _methods(most: int, meaning: str) -> FigureKey:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and 0 < len(value) <= most and all(isinstance(name, str) for name in value)

    return FigureKey(
        fits, f"a list of labels of methods{f', {most} at most' if most < 100 else ''}", meaning, required=True
    )


PORTRAIT_KEYS = {
    "game": _GAME,
    "methods": _methods(100, "labels of the methods whose paths are drawn"),
    **_CELL,
    "half_width": FigureKey(
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a positive number",
        "of the window around the equilibrium",
    ),
}
SERIES_KEYS = {
    "game": _GAME,
    "methods": _methods(MOST_SERIES, "labels of the methods, a column for each"),
    **_CELL,
    "seed": FigureKey(
        _is_whole(0, 2**63 - 1),
        "a whole number >= 0",
        "of the random key of the runs: games and updates then draw their noise; without it expectations are exact",
    ),
}
BASINS_KEYS = {
    "game": _GAME,
    "method": _METHOD,
    **_CELL,
    "low": FigureKey(
        _is_numeric, "a number, or one for each player", "the lowest start: a number, or one for each player", True
    ),
    "high": FigureKey(_is_numeric, "a number, or one for each player", "the highest start, likewise", True),
    "points": FigureKey(
        _is_whole(2, MOST_STARTS),
        f"a whole number from 2 to {MOST_STARTS}",
        "starts along each side of the box, both ends included; default 101",
    ),
    "period": FigureKey(
        _is_period,
        "a positive number, or one for each player, `none` for a player without period",
        "of players that are angles: a number, or one for each player, `none` for a player without period",
    ),
}
EIGENVALUES_KEYS = {
    "game": _GAME,
    "method": _METHOD,
    **_CELL,
    "over": FigureKey(
        _is_text, "the path of a number", "path of the number that varies, as under `axes`", required=True
    ),
    "label": FigureKey(_is_text, "a text", "what the number is called in the picture; default its path"),
    "low": FigureKey(_is_number, "a number", "its first value", required=True),
    "high": FigureKey(_is_number, "a number", "its last value", required=True),
    "count": FigureKey(
        _is_whole(2, MOST_SAMPLES), f"a whole number from 2 to {MOST_SAMPLES:,}", "how many values; default 201"
    ),
    "scale": FigureKey(
        lambda value: value in ("linear", "log"), "'linear' or 'log'", "`linear` or `log`; default linear"
    ),
}
FIGURE_KEYS = {
    "portrait": PORTRAIT_KEYS,
    "series": SERIES_KEYS,
    "basins": BASINS_KEYS,
    "eigenvalues": EIGENVALUES_KEYS,
}


def _check_figure(where: str, table: dict[str, Any], keys: dict[str, FigureKey]) -> None:
    """The table of a picture: known keys, and values of the right types."""
    for key, value in table.items():
        if key not in keys:
            raise StudyError(f"{where}.{key}: no such key{nearest(key, keys)}")
        if not keys[key].fits(value):
            raise StudyError(f"{where}.{key}: got {shown(value)}; expected {keys[key].expected}")


def _check_over(data: dict[str, Any], where: str, table: dict[str, Any]) -> None:
    """The path of a picture of eigenvalues leads to a number, and its values go up."""
    path = table["over"]
    if path.split(".")[0] not in ("game", "method"):
        raise StudyError(
            f"{where}.over: got {shown(path)}; expected a path that begins with game or method, such as "
            '"method.0.update.optimisers.0.learning_rate"'
        )
    for place, key in _slots(data, path):
        if not _is_numeric(place[key]):
            raise StudyError(f"{where}.over: {path} leads to {shown(place[key])}; expected the path of a number")
    if not table["low"] < table["high"]:
        raise StudyError(f"{where}: got low {table['low']} and high {table['high']}; expected low < high")
    values_along(where, table)


def values_along(where: str, table: dict[str, Any]) -> list[float]:
    """The values of the number that a picture of eigenvalues is over.

    Args:
        where: path of the table, for messages.
        table: the picture's.

    Raises:
        StudyError: the values are too far apart, or on a log scale not positive.
    """
    spread = {"count": 201, **{key: value for key, value in table.items() if key in AXIS_KEYS}}
    fractions, at = _axis(where, spread, where)
    return [at(fraction) for fraction in fractions]


def varied(study: Study, cell: CellSpecification, where: str, path: str, value: float) -> CellSpecification:
    """A cell of a study with another value of one number.

    Args:
        study: the checked study.
        cell: one of its cells.
        where: of the picture, for messages.
        path: leads to the number.
        value: the other value.

    Raises:
        StudyError: with that number there is no such cell.
    """
    point = copy.deepcopy(study.data)
    for axis, known in cell.axes.items():
        put(point, axis, known)
    put(point, path, value)
    method = cell.where[1].rpartition(".")[0]
    for recipe in _recipes(point, [(cell.where[0], _at(point, cell.where[0]))], [(method, _at(point, method))], {}):
        if (recipe.kind, recipe.alternative) == (cell.kind, cell.alternative):
            return dataclasses.replace(recipe, game=cell.game, method=cell.method)
    raise StudyError(f"{where}.over: with {path} = {value:.6g} there is no such cell")


def _tables(
    data: dict[str, Any], key: str, required: Sequence[str], known: set[str]
) -> list[tuple[str, dict[str, Any]]]:
    """The tables under a key with their paths, whether there is one or a list of them."""
    value = data[key]
    tables = [(key, value)] if isinstance(value, dict) else [(f"{key}.{i}", v) for i, v in enumerate(value)]
    for where, table in tables:
        if not isinstance(table, dict):
            raise StudyError(f"{where}: got {shown(table)}; expected a table")
        for name in required:
            if name not in table:
                strange = set(table) - known - {*required}
                meaning = GAME_KEYS[name] if key == "game" else FIGURE_KEYS[key][name].meaning
                raise StudyError(f"{where}.{name}: missing{nearest(name, strange) if strange else f'; {meaning}'}")
    if not tables and key not in FIGURE_KEYS:
        raise StudyError(f"{key}: expected at least one")
    return tables


def _check_each(games: Any) -> None:
    """What varies under `each` is the objective and the penalty."""
    several = [(f"game.{i}", game) for i, game in enumerate(games)] if isinstance(games, list) else [("game", games)]
    for where, game in several:
        each = game.get("each", {}) if isinstance(game, dict) else {}
        for key in each if isinstance(each, dict) else ():
            if key not in ("objective", "penalty"):
                instead = _instead(where, game, key)
                raise StudyError(f"{where}.each.{key}: only objective and penalty vary there; {instead}")


def _instead(where: str, game: dict[str, Any], key: str) -> str:
    """What to write where something else than objective or penalty varies under `each`."""
    if key == "start":
        fix = "for other starts write further tables [[game]] with the same name"
        path = _path_of_a_number(f"{where}.start", game.get("start"))
        return f'{fix}, or let a number of it be an axis: "{path}" under [axes]' if path else fix
    if path := _path_of_a_number(f"{where}.{key}", game.get(key)):
        return f'other values of a number are an axis: "{path}" under [axes]'
    return f"move it to [[game]], or write further tables [[game]]{nearest(key, ('objective', 'penalty'))}"


def _path_of_a_number(path: str, value: Any) -> str:
    """The path of the first number in a value; empty where there is none."""
    while isinstance(value, list) and value:
        path, value = f"{path}.0", value[0]
    return path if _is_number(value) else ""


def _axis(path: str, value: Any, where: str = "") -> tuple[Sequence[Any], Callable[[Any], float]]:
    """What an axis is made from, an entry per value, and the value of an entry; nothing as long as the axis is made."""
    where = where or f"axes.{path}"
    if isinstance(value, list):
        if not value or not all(_is_numeric(v) and not isinstance(v, list) for v in value):
            raise StudyError(f"{where}: got {shown(value)}; expected a list of numbers")
        return value, float
    if not isinstance(value, dict):
        raise StudyError(f"{where}: got {shown(value)}; expected a list of numbers, or low, high and count")
    for name in value:
        if name not in AXIS_KEYS:
            raise StudyError(f"{where}.{name}: no such key{nearest(name, AXIS_KEYS)}")
    low, high, count, scale = (value.get(name, default) for name, default in _AXIS.items())
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    if not whole or any(isinstance(v, list) or not _is_numeric(v) for v in (low, high)):
        raise StudyError(f"{where}: got {shown(value)}; expected numbers low and high and a whole number count")
    if scale not in ("linear", "log"):
        raise StudyError(f"{where}.scale: got {shown(scale)}; expected 'linear' or 'log'")
    if scale == "log" and not 0 < low <= high:
        raise StudyError(f"{where}: got low {low} and high {high}; a log scale needs 0 < low <= high")
    if not math.isfinite(high - low) or (scale == "log" and not math.isfinite(high / low)):
        raise StudyError(f"{where}: got low {low} and high {high}, too far apart for a floating-point number")

    def at(index: int) -> float:
        fraction = index / max(count - 1, 1)
        return low * (high / low) ** fraction if scale == "log" else low + (high - low) * fraction

    return range(count), at


AXIS_KEYS = {
    "low": "the first value",
    "high": "the last value",
    "count": "how many",
    "scale": "`linear` or `log`; default linear",
}
_AXIS = {"low": None, "high": None, "count": None, "scale": "linear"}
GAME_KEYS = {
    "name": "a class of the games",
    "start": "where training begins: a number, or a list of numbers, per player",
    "label": "in the report; default the name",
    "constructor": "another constructor of the class; default the class itself",
    "each": "lists called `objective` and `penalty`: one game for each combination",
}
METHOD_KEYS = {
    "label": "in the report; default the name",
    "update": "a discrete map: a table with the name of one of the updates, and its arguments",
    "flow": "an ODE: a table with the name of one of the flows, and its arguments; beside an update, both are run",
}


def _recipes(resolved, games, methods, axes) -> Iterator[CellSpecification]:
    game_labels = _distinct([(where, game.get("label"), game["name"]) for where, game in games])
    kinds = (("map", "update"), ("flow", "flow"))
    method_labels = {}
    for kind, key in kinds:
        having = [(where, method.get("label"), method[key]["name"]) for where, method in methods if key in method]
        method_labels[kind] = _distinct(having)
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
                    for kind, key in kinds:
                        if key not in method:
                            continue
                        yield CellSpecification(
                            game=game_labels[where],
                            objective=objective,
                            penalty=penalty,
                            method=method_labels[kind][method_where],
                            kind=kind,
                            axes=named,
                            game_data=filled,
                            method_data=method[key],
                            alternative=alternative,
                            where=(where, f"{method_where}.{key}"),
                        )


def _distinct(entries: Iterable[tuple[str, str | None, str]]) -> dict[str, str]:
    """Labels by path, all different: those that are given must be, names that stand in for one are numbered.

    Args:
        entries: path, label or `None`, and name of each.
    """
    entries = list(entries)
    owners: dict[str, str] = {}
    for where, label, _ in entries:
        if label is not None and owners.setdefault(label, where) != where:
            raise StudyError(f"{where}.label: {label!r} is the label of {owners[label]} as well; give each its own")
    labels: dict[str, str] = {}
    for where, label, name in entries:
        if label is None:
            numbered = itertools.chain([name], (f"{name} ({number})".strip() for number in itertools.count(2)))
            label = next(text for text in numbered if text not in owners)
            owners[label] = where
        labels[where] = label
    return labels


def _at(data: dict[str, Any], path: str) -> dict[str, Any]:
    key, _, index = path.partition(".")
    return data[key][int(index)] if index else data[key]


def _alternatives(
    where: str, table: dict[str, Any]
) -> Iterator[tuple[str, str, tuple[int | None, int | None], dict[str, Any]]]:
    each = table.get("each", {})
    if not isinstance(each, dict) or any(key not in ("objective", "penalty") for key in each):
        raise StudyError(f"{where}.each: got {shown(each)}; expected lists called objective and penalty")
    plain = {key: value for key, value in table.items() if key not in ("each", "label")}
    objectives = each.get("objective", [plain.get("objective", "")])
    penalties = each.get("penalty", [plain.get("penalty", "")])
    labels = []
    for key, choices in (("objective", objectives), ("penalty", penalties)):
        here = f"{where}.each.{key}" if key in each else f"{where}.{key}"
        if not isinstance(choices, list) or not choices:
            raise StudyError(f"{here}: got {shown(choices)}; expected a list")
        for index, choice in enumerate(choices):
            _check_choice(f"{here}.{index}" if key in each else here, choice)
        labels.append(list(_distinct((f"{here}.{i}", *_label(choice)) for i, choice in enumerate(choices)).values()))
    for (first, objective), (second, penalty) in itertools.product(enumerate(objectives), enumerate(penalties)):
        filled = dict(plain)
        if objective:
            filled["objective"] = objectives if "objective" in each else objective
        filled.update(penalty.get("set", {}) if isinstance(penalty, dict) else {})
        _check_texts(where, filled, ("name", "constructor"))
        filled["penalty"] = penalties if "penalty" in each else penalty
        chosen = (first if "objective" in each else None, second if "penalty" in each else None)
        yield labels[0][first], labels[1][second], chosen, filled


def _label(choice: Any) -> tuple[str | None, str]:
    """The label that an objective or penalty is given, and the name that stands in for one."""
    if isinstance(choice, dict):
        return choice.get("label"), choice.get("name", "")
    return None, choice


def arguments_of(function: Any) -> dict[str, inspect.Parameter]:
    """The named arguments of a constructor."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD and name != "self"}
