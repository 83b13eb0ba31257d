"""What there is, room by room, and the definition of each: for `dynamics list` and `dynamics show`."""

import ast
import contextlib
import functools
import gc
import importlib
import importlib.resources
import inspect
import pathlib
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from dynamics._text import readable

ABOUT = {
    "games": "losses with known equilibria",
    "objectives": "what generator and discriminator are paid",
    "penalties": "what regularises them",
    "directions": "where each player wants to go",
    "updates": "who moves when: discrete maps",
    "flows": "the same in continuous time",
    "optimisers": "how a direction becomes a step; any optax transformation will do",
    "studies": "games x methods, predicted and simulated: dynamics run NAME",
    "experiments": "trainings, comparisons, surveys: dynamics run NAME",
    "claims": "published statements, attacked by search: dynamics claims NAME",
}
WIDTH = 100


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the collector of garbage: imports make none, and it takes a seventh of their time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@_no_collection()
def members(room: str) -> dict[str, Any]:
    """What a room holds, by name: classes, functions, claims, titles of studies."""
    if room == "studies":
        return dict(importlib.import_module("dynamics.studies").builtin())
    if room == "experiments":
        return dict(importlib.import_module("dynamics.experiments").RUNNABLE)
    if room == "claims":
        return dict(importlib.import_module("dynamics.claims").catalogue())
    if room == "optimisers":
        return dict(importlib.import_module("dynamics.optimisers").CATALOGUE)
    return dict(importlib.import_module("dynamics.catalogue").members(room))


def summaries(room: str) -> dict[str, str]:
    """A line about each member of a room."""
    if room == "studies":
        return members(room)
    if room == "claims":
        return {name: " ".join(claim.statement.split()) for name, claim in members(room).items()}
    summary = importlib.import_module("dynamics.catalogue").summary
    return {name: summary(member) for name, member in members(room).items()}


def overview() -> str:
    """All rooms in one screen: how many members each has, what they are, and the first names.

    To import the members is to import JAX, which takes seconds: names are read from the files that make the catalogues.
    Where modules have been added the catalogues themselves are asked.
    """
    catalogue = sys.modules.get("dynamics.catalogue")
    names_of = written if catalogue is None or not catalogue.added() else lambda room: list(members(room))
    lines = []
    for room, about in ABOUT.items():
        names = names_of(room)
        lines.append(f"{room:12} {len(names):4}  {about}")
        shortened = textwrap.shorten(", ".join(names), WIDTH - 19, placeholder=" ...", break_on_hyphens=False)
        lines.append(f"{'':19}{shortened}")
    lines += [
        "",
        "dynamics list ROOM: a line about each.  dynamics list all: everything.  dynamics show NAME: a definition.",
    ]
    return "\n".join(lines)


_PACKAGE = pathlib.Path(__file__).parents[1]


def written(room: str) -> list[str]:
    """The names of a room's members as its files have them, without importing any.

    Args:
        room: one of `ABOUT`.
    """
    if room == "studies":
        return list(importlib.import_module("dynamics.studies.schema").builtin())
    if room == "experiments":
        return _experiments_written()
    if room == "optimisers":
        return _optimisers_written()
    if room == "claims":
        return _claims_written()
    # Classes are abstract or final: what is a base of another is no member, nor what has an abstract method.
    imported = [(module, name) for module, name in _imported(f"{room}/__init__.py") if not module.endswith(".base")]
    bases = {base for module, _ in imported for cls in _classes(module) for base in _names_in(cls.bases)}
    return [
        name
        for module, name in imported
        for cls in _classes(module)
        if cls.name == name and name not in bases and "abstractmethod" not in _names_in(cls.body)
    ]


@functools.cache
def _tree(file: str) -> ast.Module:
    return ast.parse((_PACKAGE / file).read_text(encoding="utf-8"))


def _imported(file: str) -> list[tuple[str, str]]:
    """Module and name of every import of the form `from module import name as name`."""
    imports = [node for node in _tree(file).body if isinstance(node, ast.ImportFrom) and node.module]
    return [(str(node.module), alias.name) for node in imports for alias in node.names if alias.asname == alias.name]


def _classes(module: str) -> list[ast.ClassDef]:
    file = module.removeprefix("dynamics.").replace(".", "/")
    return [node for node in _tree(f"{file}.py").body if isinstance(node, ast.ClassDef)]


def _names_in(nodes: Iterable[ast.AST]) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _assignments(file: str) -> dict[str, ast.expr]:
    """The values of annotated names of a module."""
    named: dict[str, ast.expr] = {}
    for node in _tree(file).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            named[node.target.id] = node.value
    return named


def _experiments_written() -> list[str]:
    """The keys of the tables of which `RUNNABLE` is made."""
    tables = _assignments("experiments/__init__.py")
    parts = [node.id for node in ast.walk(tables["RUNNABLE"]) if isinstance(node, ast.Name) and node.id in tables]
    keys = [key for part in parts for node in ast.walk(tables[part]) if isinstance(node, ast.Dict) for key in node.keys]
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def _optimisers_written() -> list[str]:
    """The functions of which `CATALOGUE` is made."""
    listed = next(node for node in ast.walk(_assignments("optimisers.py")["CATALOGUE"]) if isinstance(node, ast.Tuple))
    return [node.id for node in listed.elts if isinstance(node, ast.Name)]


def _claims_written(file: str = "claims/__init__.py") -> list[str]:
    """The identifiers of claims, and of their twins, file by file."""
    identifiers: dict[str, str] = {}  # by the function that is the check
    written: list[str] = []
    for node in _tree(file).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dynamics.claims.library"):
            folder = str(node.module).removeprefix("dynamics.").replace(".", "/")
            for alias in node.names:
                if alias.asname == alias.name:
                    package = _PACKAGE / folder / alias.name / "__init__.py"
                    name = f"{folder}/{alias.name}"
                    written += _claims_written(f"{name}/__init__.py" if package.exists() else f"{name}.py")
        for part in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(node, ast.FunctionDef) and isinstance(part, ast.Call) and _called(part) == "claim":
                identifiers[node.name] = _text(part)
                written.append(identifiers[node.name])
        call = getattr(node, "value", None)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "without":
            if isinstance(call.func.value, ast.Name):
                written.append(f"{identifiers[call.func.value.id]}/{_text(call)}")
    return written


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _text(call: ast.Call) -> str:
    """The first argument of a call, a text."""
    first = call.args[0]
    return str(first.value) if isinstance(first, ast.Constant) else ""


def rooms_of(name: str) -> list[str]:
    """The rooms with a member of this name."""
    return [room for room in ABOUT if name in members(room)]


def definition(room: str, name: str) -> str:
    """A member's definition: the file of a study, the statement of a claim, else what its documentation says."""
    member = members(room)[name]
    if room == "studies":
        file = importlib.resources.files("dynamics.studies").joinpath(f"{name}.toml")
        return file.read_text(encoding="utf-8").rstrip()
    if room == "claims":
        return _claim(member)
    lines = readable(inspect.cleandoc(member.__doc__ or "")).splitlines()
    if room == "experiments":
        return "\n".join([f"{name}: {lines[0]}", *lines[1:], "", *_settings(member)])
    heading = f"dynamics.{room}.{name}{_signature(member)}"
    return "\n".join([heading, "", *lines, *(_equilibria(member) if room == "games" else [])])


def _signature(member: Any) -> str:
    try:
        parameters = inspect.signature(member).parameters.values()
    except (TypeError, ValueError):
        return ""
    return f"({', '.join(_parameter(parameter) for parameter in parameters)})"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is inspect.Parameter.empty else f"={_short(parameter.default)}"
    return f"{stars}{parameter.name}{default}"


def _short(value: Any) -> str:
    return value.__name__ if inspect.isroutine(value) or inspect.isclass(value) else repr(value)


def _settings(member: Any) -> list[str]:
    parameters = inspect.signature(member).parameters
    chosen = " ".join(f"--set {name}={str(p.default).lower()}" for name, p in parameters.items())
    return textwrap.wrap(f"Settings with their defaults: {chosen}", WIDTH, break_on_hyphens=False)


def _equilibria(member: Any) -> list[str]:
    """The example of a game that the tests use, with its equilibria."""
    try:
        game, _ = member.example()
        points = game.equilibria()
    except Exception:  # somebody's game without an example
        return []
    from dynamics._printing import pretty

    known = "; ".join(pretty(point) for point in points[:3]) or "none is known in closed form"
    return ["", f"An example: {pretty(game)}", f"Its equilibria: {known}"]


def _claim(claim: Any) -> str:
    lines = [claim.identifier, ""]
    lines += textwrap.wrap(readable(" ".join(claim.statement.split())), WIDTH, break_on_hyphens=False)
    because = readable(" ".join(claim.because.split()))
    facts = {
        "Hypotheses": readable(claim.hypotheses),
        "Kind": str(claim.kind),
        "Source": readable(" ".join(claim.source.split())),
        "Expected": f"it {claim.verdict if claim.holds else 'is refuted'}. {because}",
        "Attack it": f"dynamics claims {claim.identifier}",
    }
    for name, text in facts.items():
        if text:
            lines += ["", *textwrap.wrap(f"{name}: {text}", WIDTH, break_on_hyphens=False)]
    return "\n".join(lines)
