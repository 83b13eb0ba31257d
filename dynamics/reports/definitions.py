"""What there is, room by room, and the definition of each: for `dynamics list` and `dynamics show`."""

import contextlib
import gc
import importlib
import importlib.resources
import inspect
import pathlib
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from dynamics._text import readable
from dynamics.compiler import disk_cache

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

    To count the members is to import all of them, JAX as well, which takes seconds. So the text is kept on disk, where
    compiled programs are, for as long as no file of the package changes.
    """
    catalogue = sys.modules.get("dynamics.catalogue")
    if catalogue is not None and catalogue.added():
        return _overview()
    name = disk_cache.name_of("overview", *_files())
    kept = disk_cache.read(name)
    if kept is not None:
        return kept.decode()
    text = _overview()
    disk_cache.write(name, text.encode())
    return text


def _files() -> list[str]:
    """The files of the package, with their sizes and when they were written."""
    root = pathlib.Path(__file__).parents[1]
    files = sorted(path for pattern in ("*.py", "*.toml") for path in root.rglob(pattern))
    return [f"{path} {status.st_size} {status.st_mtime_ns}" for path in files for status in [path.stat()]]


def _overview() -> str:
    lines = []
    for room, about in ABOUT.items():
        names = list(members(room))
        lines.append(f"{room:12} {len(names):4}  {about}")
        shortened = textwrap.shorten(", ".join(names), WIDTH - 19, placeholder=" ...", break_on_hyphens=False)
        lines.append(f"{'':19}{shortened}")
    lines += [
        "",
        "dynamics list ROOM: a line about each.  dynamics list all: everything.  dynamics show NAME: a definition.",
    ]
    return "\n".join(lines)


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
