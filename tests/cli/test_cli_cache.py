"""What the command line keeps on disk for the next run."""

import os
import subprocess
import sys
import types

import pytest

from dynamics import catalogue
from dynamics.compiler import disk_cache
from dynamics.reports import definitions
from dynamics.updates import Simultaneous

pytestmark = pytest.mark.skipif(os.name != "posix", reason="nothing is kept elsewhere")

STUDY = """
title = "one method"
steps = 200
draw = []

[[game]]
name = "DiracGAN"
start = [1.0, 1.0]

[[method]]
update = { name = "Alternating", optimisers = [{ name = "sgd", learning_rate = 0.1 }, { name = "sgd", learning_rate = 0.2 }] }
"""  # noqa: E501
PRINT = """
import sys
from dynamics import cli
code = cli.main(sys.argv[1:])
import jax
print(code, jax.config.jax_compilation_cache_dir)
"""


def ran(*arguments, **settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-W", "error", "-c", PRINT, *arguments]
    done = subprocess.run(command, env=kept | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, folder = done.stdout.splitlines()[-1].split(maxsplit=1)
    return int(code), folder, done.stderr


@pytest.mark.slow
def test_a_second_run_finds_what_the_first_has_compiled(tmp_path):
    study, cache = tmp_path / "study.toml", tmp_path / "cache"
    study.write_text(STUDY)
    files = []
    for number in range(2):
        command = ("run", str(study), "--quiet", "--out", str(tmp_path / f"out{number}"))
        code, folder, said = ran(*command, DYNAMICS_CACHE=str(cache))
        assert code == 0 and folder.startswith(str(cache / "xla-")) and "persistent" not in said
        files.append({file.name for file in (cache).rglob("*") if file.is_file()})
        with os.scandir(folder) as entries:
            for entry in entries:  # broken files are no reason to stop
                with open(entry.path, "r+b") as file:
                    file.truncate(10 if number == 0 and entry.name.startswith("jit_") else entry.stat().st_size)
    assert len(files[0]) > 5 and files[0] == files[1]
    for folder in (cache, *cache.glob("xla-*")):
        assert disk_cache.private_folder(folder) and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_what_the_user_says_counts(tmp_path):
    study = "import this"
    own = tmp_path / "own"
    for settings, expected in (
        (dict(DYNAMICS_CACHE="off"), "None"),
        (dict(DYNAMICS_CACHE=str(tmp_path / "cache"), JAX_COMPILATION_CACHE_DIR=str(own)), str(own)),
        (dict(DYNAMICS_CACHE="a/folder"), "None"),
    ):
        code, folder, said = ran("run", study, **settings)
        assert code == 2 and folder == expected
        assert ("DYNAMICS_CACHE is 'a/folder'" in said) == (settings["DYNAMICS_CACHE"] == "a/folder")


@pytest.mark.parametrize("room", definitions.ABOUT)
def test_the_overview_has_the_names_of_the_catalogue(room, monkeypatch):
    """They are read from files, in the order of the catalogue but for claims, whose files import each other."""
    monkeypatch.setattr(catalogue, "_ADDED", [])  # what other tests have added
    names, known = definitions.written(room), list(definitions.members(room))
    assert names == known or room == "claims" and sorted(names) == sorted(known)


def test_the_overview_does_not_wait_for_jax(tmp_path):
    code = "import sys; from dynamics import cli; cli.main(['list']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "claims" in done.stdout and "Simultaneous" in done.stdout


def test_what_a_module_adds_is_in_the_overview(monkeypatch):
    added = types.ModuleType("mine")
    added.Mine = type("Mine", (Simultaneous,), {"__module__": "mine"})
    monkeypatch.setattr(catalogue, "_ADDED", [])
    before = [line for line in definitions.overview().splitlines() if line.startswith("updates")]
    monkeypatch.setattr(catalogue, "_ADDED", [added])
    after = [line for line in definitions.overview().splitlines() if line.startswith("updates")]
    assert int(after[0].split()[1]) == int(before[0].split()[1]) + 1
