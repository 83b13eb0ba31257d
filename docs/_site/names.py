"""The public names of the package, read from its source, so that none can be left out of the reference."""

import ast
import pathlib

import dynamics

# Modules of claims are no modules to call: the catalogue of claims has what they hold.
ELSEWHERE = "dynamics.claims.library"


def modules() -> list[str]:
    """Full names of the public modules: those that `dynamics` imports on first use, and theirs."""
    names = sorted(f"dynamics.{name}" for name in dynamics._MODULES)
    inner = [inside for name in names for inside in _public(name)[1] if not inside.startswith(ELSEWHERE)]
    return sorted({*names, *inner})


def top_level() -> dict[str, str]:
    """The names of `dynamics` that are no modules, with the modules that hold them."""
    return dict(dynamics._NAMES)


def public(module: str) -> list[str]:
    """The public names of a module: what it defines, and what it imports as itself, `from a import b as b`.

    In the order of the source, without modules. Where there is an `__all__` it decides.

    Args:
        module: its full name, such as `dynamics.games`.
    """
    return _public(module)[0]


def reference() -> dict[str, list[str]]:
    """What the reference documents, by module: `dynamics` itself first; each object once, under its shortest name."""
    top = top_level()
    pages = {"dynamics": sorted(top, key=lambda name: (name.lower(), name))}
    for module in modules():
        # `dynamics.simulate` is the public name of `dynamics.simulation.simulate`.
        kept = [name for name in public(module) if top.get(name) != module]
        if kept:
            pages[module] = kept
    return pages


def comment(module: str, name: str) -> str:
    """The comment above, or beside, the assignment of a module's constant."""
    lines = _source(module).read_text(encoding="utf-8").splitlines()
    place = next((i for i, line in enumerate(lines) if line.startswith((f"{name}:", f"{name} ="))), 0)
    beside = lines[place].partition("  # ")[2]
    above: list[str] = []
    while place and lines[place - 1].startswith("# "):
        place -= 1
        above.insert(0, lines[place].removeprefix("# "))
    return beside or " ".join(above)


def _source(module: str) -> pathlib.Path:
    """The file of a module, found without importing it."""
    place = pathlib.Path(dynamics.__path__[0]).joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _public(module: str) -> tuple[list[str], list[str]]:
    """Public names, and full names of public modules."""
    names: list[str] = []
    inner: list[str] = []
    for node in ast.parse(_source(module).read_text(encoding="utf-8")).body:
        match node:
            case ast.ImportFrom(module=origin, names=aliases):
                for alias in aliases:
                    full = f"{origin}.{alias.name}"
                    if alias.asname != alias.name:
                        continue
                    if full.startswith("dynamics.") and _source(full).exists():
                        inner.append(full)
                    else:
                        names.append(alias.name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value)), []
            case ast.Assign(targets=targets):
                names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")], inner
