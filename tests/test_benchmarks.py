"""The benchmark runs from end to end, and its C program iterates the same maps as the library. No timing is judged."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import dynamics as dy

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")), reason="no C compiler"
)


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return load("cpu").compile_c(str(tmp_path_factory.mktemp("benchmark")))[0]


@needs_compiler
def test_quick_run_from_end_to_end(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, FOLDER / "cpu.py", "--quick", "--games", "dirac", "--precisions", "f64", "--sizes", "8"]
    subprocess.run([*command, "--out", out], check=True, timeout=300, stdout=subprocess.DEVNULL)
    result = json.loads(out.read_text())
    assert {"machine", "versions", "date", "settings", "rows"} <= set(result)
    assert {"jax", "diffrax", "numpy", "python", "compiler"} <= set(result["versions"])
    cpu = load("cpu")
    names = [cpu.C, cpu.LIBRARY, cpu.CLASSIFIED, cpu.STEP, cpu.NUMPY, cpu.EULER, cpu.TSIT5]
    assert [row["rival"] for row in result["rows"] if row["cores"] == 1] == names
    for row in result["rows"]:
        assert {"game", "precision", "games", "steps", "wall", "cpu", "compile_seconds", "ratio_to_c"} <= set(row)
        assert row["error"] < (1e-7 if row["rival"] == cpu.TSIT5 else 1e-12)
    text = load("table").table(result, "result.json")
    assert "Dirac-GAN | f64 | 8 |" in text


@needs_compiler
@pytest.mark.parametrize("games", [1, 37])
@pytest.mark.parametrize("game", ["dirac", "bilinear", "quadratic"])
def test_c_agrees_with_the_library(compiled, game, games):
    cpu = load("cpu")
    starts, numbers = cpu.problem(game, "f64", games)
    native = cpu.Native(compiled, game, "f64")
    got = cpu._build_c(native, starts, numbers, 100, 1)()
    threaded = cpu._build_c(native, starts, numbers, 100, 3)()
    wanted = cpu._build_jax(cpu.LIBRARY, game, starts, numbers, 100, 1)()
    for a, b, c in zip(got, threaded, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=0, atol=1e-10)
    states = np.concatenate([np.reshape(x, (games, -1)) for x in starts], axis=1)
    reference = native.reference(states, numbers, 100, False)
    np.testing.assert_allclose(np.concatenate([np.reshape(x, (games, -1)) for x in got], axis=1), reference, atol=1e-12)


def test_cheap_steps_change_nothing_but_the_time():
    """Several steps per turn of the loop, with every number of steps left over, end where single steps end."""
    game = dy.games.Bilinear(2.0)
    update = dy.updates.Simultaneous(dy.optimisers.sgd(0.1), dy.optimisers.sgd(0.2))
    x, y = 1.0, 0.5
    for steps in range(1, 19):
        x, y = x - 0.1 * 2 * y, y + 0.2 * 2 * x
        run = dy.simulate(game, update, (1.0, 0.5), steps=steps, save_every=min(steps, 5), classify=False)
        np.testing.assert_allclose(jax.tree.leaves(run.final), [x, y], rtol=1e-13)
        assert run.steps[-1] == steps - steps % min(steps, 5)


def test_no_verdict_is_wrong():
    """A small attack of the benchmark's kind: eigenvalues next to the boundary, Jordan blocks, both precisions."""
    rows = load("verdicts").attack((3,), games=4, seed=1)
    assert sum(row["wrong"] for row in rows) == 0
    games, marginal = (sum(row[name] for row in rows) for name in ("games", "marginal"))
    assert games > 70 and marginal < 0.6 * games
    assert {row["family"] for row in rows} == {"integer", "rounded", "alternating", "momentum"}


def test_the_attack_knows_a_wrong_verdict(monkeypatch):
    """Otherwise the count of 0 would mean nothing."""
    verdicts = load("verdicts")
    monkeypatch.setattr(verdicts, "ask", lambda *_: "stable")
    monkeypatch.setattr(verdicts, "composed_case", lambda *_: ("stable", "stable"))
    assert sum(row["wrong"] for row in verdicts.attack((2,), games=4)) > 5


@pytest.mark.parametrize(
    "place, kind, catcher",
    [
        ("consensus:Consensus", "missing transpose", "consensus/jacobian"),
        ("updates.base:alternating_step", "stale gradient", "bilinear/alternating"),
        ("opponent_shaping:_shaping", "factor one half", "opponent-shaping/lola"),
        ("game:_field", "swapped player", "bilinear/unrolled"),
    ],
)
def test_a_planted_error_is_caught_and_taken_away_again(place, kind, catcher):
    mutations = load("mutations")
    (mutant,) = [m for m in mutations.MUTANTS if place in m.where and m.kind == kind]
    found = dy.claims.find(catcher)
    with mutations.planted(mutant):
        assert not dy.claims.search(found, 60, shrink=False).as_expected
    assert dy.claims.search(found, 60).as_expected


def test_every_planted_error_fits_the_source():
    for mutant in load("mutations").MUTANTS:
        assert callable(mutant.changed()), mutant.name
