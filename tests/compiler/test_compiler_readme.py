"""The worked example of the compiler: what its README shows is what the command prints."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

import dynamics

README = pathlib.Path(dynamics.__file__).parent / "compiler" / "README.md"
PROGRAM = """
import contextlib, io, json, sys
from dynamics.compiler.__main__ import main
printed = []
for arguments in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(arguments)
    printed.append([code, out.getvalue()])
json.dump(printed, sys.stdout)
"""


def printed(*commands: str) -> list[list]:
    """Exit codes and output of the command with these arguments, in a process of its own."""
    given = json.dumps([command.split() for command in commands])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=given, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_readme_shows_what_the_command_prints():
    text = README.read_text()
    version = re.search(r"with JAX ([\d.]+\d)", text)[1]
    blocks = re.findall(r"```console\n\$ python -m dynamics\.compiler (.*)\n((?:.*\n)*?)```", text)
    assert len(blocks) >= 4
    outputs = printed(*[command for command, _ in blocks])
    for (command, block), (code, output) in zip(blocks, outputs, strict=True):
        assert code == 0 and output.startswith("== "), output
        if jax.__version__ == version:  # other versions print, and trace, otherwise
            assert output == block, command


@pytest.mark.slow
def test_other_games_and_names_that_are_none():
    of_a_matrix, whole, left, no_game, no_update = printed(
        "MatchingPennies --update Extragradient --pass batch --pass call",
        "Torus --pass llvm --whole --width 4",
        "IteratedPrisonersDilemma --pass llvm",
        "DiracGun",
        "DiracGAN --update Alternate",
    )
    assert of_a_matrix[0] == 0 and "\n== call\n" in of_a_matrix[1] and "custom_call @games_..." in of_a_matrix[1]
    assert whole[0] == 0 and "define void @games(ptr %input_0" in whole[1] and "<4 x float>" in whole[1]
    assert left[1].startswith(
        "== llvm\nleft to XLA: transpose takes games together or apart (while lowering transpose: "
    )
    assert no_game == [2, "'DiracGun' is not one of the games; did you mean 'DiracGAN'?\n"]
    assert no_update[0] == 2 and "did you mean 'Alternating'?" in no_update[1]


@pytest.mark.slow
def test_the_report_says_what_was_left_to_xla_and_why(tmp_path):
    (tmp_path / "study.toml").write_text(
        '[[game]]\nname = "Bilinear"\nmatrix = [[1.0]]\nstart = [[1.0], [0.5]]\n\n'
        '[[method]]\nupdate = { name = "Simultaneous", optimisers = [{ name = "sgd", learning_rate = 0.1 }, '
        '{ name = "sgd", learning_rate = 0.1 }] }\n'
    )
    (code, game), (_, study) = printed("--report Bilinear --update ProximalPoint", f"--report {tmp_path}/study.toml")
    assert code == 0 and "machine code: games_..., of " in game
    assert "left to XLA: unvmap_any is not known here (while lowering unvmap_any: bool[24] -> bool[])" in game
    assert "machine code: games_..., of " in study and "left to XLA" not in study
