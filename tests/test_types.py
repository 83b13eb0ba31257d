"""What type checkers and editors see: annotations, the names of the package, and what basedpyright finds."""

import ast
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator

import pytest

import dynamics as dy

ROOT = pathlib.Path(dy.__file__).parent
PROJECT = ROOT.parent

# Errors in the modules that `tool.basedpyright.include` of pyproject.toml does not name. Numbers only fall.
ERRORS = {
    "_compiling.py": 3,
    "_functions.py": 10,
    "_methods.py": 2,
    "analysis": 62,
    "checks": 12,
    "claims": 7,
    "cli.py": 1,
    "compiler": 55,
    "ensembles": 66,
    "outcomes.py": 2,
    "plots": 37,
    "strategies": 6,
    "studies": 15,
}


def test_the_stub_names_what_the_package_names():
    stub = ast.parse((ROOT / "__init__.pyi").read_text())
    imported = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, f"{alias.name}: only `import name as name` is an export"
                imported[alias.name] = node.module
    modules = {name: "dynamics" for name in (*dy._MODULES, *dy._FURTHER)}
    assert imported == modules | dy._NAMES
    assert sorted({*imported} - {*dy._FURTHER}) == dy.__all__
    assert (ROOT / "py.typed").exists()


def not_annotated(body: list[ast.stmt], owner: str = "") -> Iterator[str]:
    """Parameters and results of public functions and methods that say nothing about their type."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from not_annotated(node.body, f"{node.name}.")
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name.startswith("_") and node.name not in {"__init__", "__call__"}:
            continue
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        if owner and "staticmethod" not in map(ast.unparse, node.decorator_list):
            positional = positional[1:]
        for argument in [*positional, *given.kwonlyargs, given.vararg, given.kwarg]:
            if argument is not None and argument.annotation is None:
                yield f"{owner}{node.name}({argument.arg})"
        if node.returns is None and node.name != "__init__":
            yield f"{owner}{node.name} ->"


FILES = [str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.py"))]


# The arguments of a claim are drawn by the strategies beside it.
@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("claims/library/")])
def test_public_functions_are_annotated(name):
    assert list(not_annotated(ast.parse((ROOT / name).read_text()).body)) == []


def test_what_is_not_annotated_is_noticed():
    code = "class A:\n    def f(self, x, *, y: int): ...\n    def _g(self, z): ...\ndef h(*a: int, **b) -> None: ..."
    assert list(not_annotated(ast.parse(code).body)) == ["A.f(x)", "A.f ->", "h(b)"]


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, list[str]]:
    """Errors by file: of the package, of a typing error, and of the README's examples."""
    try:
        importlib.metadata.version("basedpyright")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('basedpyright is not installed; pip install -e ".[test]"')
    folder = tmp_path_factory.mktemp("types")
    (folder / "typo.py").write_text("import dynamics as dy\n\ndy.simulat\ndy.games.DiracGan\n")
    examples = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for number, example in enumerate(examples):
        before = "\n".join(examples[:number]) if number else ""
        (folder / f"readme_{number}.py").write_text(f"# pyright: reportRedeclaration=false\n{before}\n{example}")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, str(ROOT), folder]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # errors were found
    found: dict[str, list[str]] = {}
    for entry in json.loads(done.stdout)["generalDiagnostics"]:
        if entry["severity"] == "error":
            path = pathlib.Path(entry["file"])
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
            text = f"{name}:{entry['range']['start']['line'] + 1}: {entry['message']} ({entry['rule']})"
            found.setdefault(name, []).append(text)
    return found


def checked() -> set[str]:
    """The modules in which there are no errors."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["basedpyright"]
    paths = [path for pattern in settings["include"] for path in PROJECT.glob(pattern)]
    files = [file for path in paths for file in (path.rglob("*.py*") if path.is_dir() else [path])]
    return {str(file.relative_to(ROOT)) for file in files}


@pytest.mark.slow
def test_public_modules_have_no_type_errors(errors):
    public = checked()
    assert {"__init__.pyi", "game.py", "games/dirac_gan.py", "analysis/__init__.py"} <= public
    assert [text for name in sorted(public) for text in errors.get(name, [])] == []


@pytest.mark.slow
def test_a_misspelt_name_is_an_error(errors):
    assert [text.split(": ")[1].split(" ")[0] for text in errors["typo.py"]] == ['"simulat"', '"DiracGan"']


@pytest.mark.slow
def test_examples_have_no_type_errors(errors):
    assert [text for name, texts in errors.items() if name.startswith("readme_") for text in texts] == []


@pytest.mark.slow
def test_type_errors_become_fewer(errors):
    public = checked()
    rooms = Counter(
        name.split("/")[0]
        for name, texts in errors.items()
        if (ROOT / name).exists() and name not in public
        for _ in texts
    )
    more = {room: f"{count}, was {ERRORS.get(room, 0)}" for room, count in rooms.items() if count > ERRORS.get(room, 0)}
    assert not more, "\n".join(text for name in errors for text in errors[name] if name.split("/")[0] in more)
