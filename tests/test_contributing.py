"""What CONTRIBUTING.md quotes is in the repository; the changelog and the checks before a commit are in order."""

import importlib
import importlib.metadata
import itertools
import pathlib
import re
import tomllib

import pytest

import dynamics

PROJECT = pathlib.Path(__file__).parent.parent
GUIDE = (PROJECT / "CONTRIBUTING.md").read_text()
CHANGES = (PROJECT / "CHANGELOG.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def missing(block: str) -> list[str]:
    """Parts of a block, divided by `...`, that do not follow one another in the file that its first line names."""
    first, *lines = block.rstrip("\n").split("\n")
    rest = (PROJECT / first.removeprefix("# ")).read_text()
    parts = ["\n".join(part) for is_gap, part in itertools.groupby(lines, "...".__eq__) if not is_gap]
    assert parts
    lost = []
    for part in parts:
        before, found, after = rest.partition(f"{part}\n")
        if found and (not before or before.endswith("\n")):
            rest = after
        else:
            lost.append(part)
    return lost


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_quoted_code_is_in_its_file(number):
    assert missing(BLOCKS[number]) == []


def test_other_code_is_noticed():
    block = next(block for block in BLOCKS if block.startswith("# dynamics/games/tandem.py"))
    assert missing(block.replace("- 2 * x,", "- 3 * x,"))
    assert missing("# dynamics/_locks.py\ntracing = threading.RLock()\n...\nimporting = threading.RLock()\n")


def test_every_kind_of_addition_is_shown():
    sections = re.findall(r"^## Add (.*)$", GUIDE, re.MULTILINE)
    parts = ["a direction", "an update", "a game", "an objective", "a penalty", "a claim", "a rule of the compiler"]
    assert sections == parts
    for section in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[-len(parts) :]:
        assert "```python" in section


@pytest.mark.parametrize("text", [GUIDE, CHANGES], ids=["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(text):
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert link.startswith("https://") or (PROJECT / link).exists(), link


def test_there_is_one_version():
    """Written down, not made from tags: a store or study goes on with the version it was begun with, not the commit."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["hatch"]["version"]["path"] == "dynamics/__init__.py"
    assert importlib.metadata.version("dynamics") == dynamics.__version__
    assert f"version: {dynamics.__version__}\n" in (PROJECT / "docs" / "CITATION.cff").read_text()


def test_the_changelog_has_the_usual_sections():
    assert re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", CHANGES, re.MULTILINE)) <= kinds


def test_old_names_in_the_changelog_are_there_and_warn():
    deprecated = CHANGES.split("### Deprecated")[1].split("###")[0]
    first, *others = re.findall(r"`(\w+|dynamics\.claims\.check_update)`", deprecated.split("are now in")[0])
    claims = importlib.import_module("dynamics.claims")
    for name in (first.split(".")[-1], *others):
        with pytest.warns(DeprecationWarning, match=f"dynamics.claims.{name} is now dynamics.checks.{name}"):
            assert getattr(claims, name) is not None


def test_the_checks_before_a_commit_are_those_of_the_project():
    hooks = (PROJECT / ".pre-commit-config.yaml").read_text()
    assert len(set(re.findall(r"ruff==[\d.]+", hooks))) == 1
    assert "entry: ruff check" in hooks and "entry: ruff format" in hooks
    assert "ruff" in tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
