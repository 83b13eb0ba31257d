"""What the command line keeps on disk for the next run."""

import os
import subprocess
import sys

import pytest

from dynamics.compiler import disk_cache
from dynamics.reports import definitions

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


@pytest.mark.slow
def test_the_overview_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    """The second time nothing of JAX is imported, and the text is the same; another file, another text."""
    command = "import sys; from dynamics import cli; cli.main(['list']); print('jax' in sys.modules)"
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", command],
            env=os.environ | {"DYNAMICS_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        said.append(done.stdout.splitlines())
    assert said[0][:-1] == said[1][:-1] and [lines[-1] for lines in said] == ["True", "False"]
    monkeypatch.setenv("DYNAMICS_CACHE", str(tmp_path))
    monkeypatch.setattr(definitions, "_overview", lambda: "made anew")
    assert definitions.overview().splitlines() == said[0][:-1]
    files = definitions._files()
    monkeypatch.setattr(definitions, "_files", lambda: [*files, "one more 1 1"])
    assert definitions.overview() == "made anew"
