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
    sys.path.insert(0, str(FOLDER))  # the programs import their neighbours
    try:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return load("native").compile_c(str(tmp_path_factory.mktemp("benchmark")), few=True)[0]


@needs_compiler
@pytest.mark.slow
def test_quick_run_from_end_to_end(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, FOLDER / "cpu.py", "--quick", "--sections", "planar", "--repeats", "1", "--out", out]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    result = json.loads(out.read_text())
    assert {"machine", "versions", "date", "settings", "rows", "seconds"} <= set(result)
    assert {"jax", "diffrax", "numpy", "python", "compiler", "torch"} <= set(result["versions"])
    assert [row["rival"] for row in result["rows"]] == ["C, end", "C, outcome", "sweep", "vmap, end"]
    for row in result["rows"]:
        assert {"game", "precision", "games", "steps", "times", "compile_seconds", "peak_memory_mb"} <= set(row)
        assert row["ratio_to_c_end"] > 0 and row["ratio_to_c_outcome"] > 0
        assert row["error"] < 1e-13
    assert result["rows"][2]["outcomes_differ"] == 0
    text = load("table").table(result, "result.json")
    assert "### Planar games" in text and "| Dirac-GAN | f64 |" in text


@pytest.mark.slow_cases("bilinear-alternating-float32")
@needs_compiler
@pytest.mark.parametrize(
    "game, method, kind", [("non_saturating", "simultaneous", np.float64), ("bilinear", "alternating", np.float32)]
)
@pytest.mark.slow
def test_c_finds_what_a_sweep_finds(compiled, game, method, kind):
    """The same ends, outcomes, rates, periods and steps to tolerance; on any number of threads.

    What the C program leaves in doubt the library has looked at a second time.
    """
    problems, native = load("problems"), load("native")
    code = native.Native(compiled, kind)
    problem = problems.planar(game, method, kind, 333, 640, wide=True)
    found, threaded = (problem.native(code, True, threads) for threads in (1, 3))
    for one, other in zip(found, threaded, strict=True):
        np.testing.assert_array_equal(one, other)
    swept = dy.sweep(problem.build, problem.axes, 640, design="zip", predict=False, dtype=kind)
    decided = found.outcome != native.IN_DOUBT
    assert decided.mean() > 0.8
    np.testing.assert_array_equal(found.outcome[decided], swept.outcome[decided])
    assert len(np.unique(found.outcome[decided])) > 1
    alive = decided & (found.outcome != dy.Outcome.diverged)
    tolerance = 1e-9 if kind is np.float64 else 2e-4
    ends = np.stack([swept.player_0, swept.player_1])
    pairs = [(found.final, ends), (found.rate, swept.simulated_rate), (found.period, swept.period)]
    for mine, theirs in [*pairs, (found.settled, swept.steps_to_tolerance)]:
        np.testing.assert_allclose(mine[..., alive], np.asarray(theirs)[..., alive], rtol=tolerance, atol=tolerance)
    plain = problem.native(code, False, 2).final
    np.testing.assert_allclose(plain[:, alive], ends[:, alive], rtol=tolerance, atol=tolerance)
    reference = problem.reference(code, 640)
    near = alive[: reference.shape[1]]
    np.testing.assert_allclose(found.final[:, :8][:, near], reference[:, near], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@needs_compiler
def test_c_solves_flows_and_quadratic_games(compiled):
    problems, native = load("problems"), load("native")
    code = native.Native(compiled, np.float64)
    lorenz = problems.flow("lorenz", "tsit5", np.float64, 11, 1_024, 1 / 1_024)
    for judge in (False, True):
        end = lorenz.native(code, judge, 1).final
        np.testing.assert_allclose(end[:, :8], lorenz.reference(code, 1_024), rtol=1e-10)
    quadratic = problems.matrices("quadratic", np.float64, 11, 128)
    whole, start = quadratic.given()
    game = problems.matrix_game("quadratic", problems.drawn(jax.random.key(3), np.float64))
    field = np.concatenate(game.field(tuple(jax.numpy.asarray(part) for part in np.split(start[:, 3], 2))))
    np.testing.assert_allclose(field, -whole[3] @ start[:, 3], rtol=1e-12)
    for judge in (False, True):
        end = quadratic.native(code, judge, 2).final
        np.testing.assert_allclose(end[:, :8], quadratic.reference(code, 128), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no CUDA compiler")
def test_cuda_finds_what_c_finds(compiled, tmp_path):
    """The trajectories of gpu.cu, on the host."""
    gpu, native, problems = load("gpu"), load("native"), load("problems")
    code = gpu.compile_cuda(str(tmp_path), "sm_90")[0]
    problem = problems.planar("non_saturating", "simultaneous", np.float64, 200, 640, wide=True)
    values = problem.inputs()
    given = np.stack([values["x"], values["y"]]), values["rate"], values["number"]
    end, judged, _ = code.run("non_saturating", *given, 640, judge=True, on_host=True)
    wanted = problem.native(native.Native(compiled, np.float64), True, 1)
    np.testing.assert_array_equal(judged["outcome"], wanted.outcome)
    for mine, theirs in ((end, wanted.final), (judged["rate"], wanted.rate), (judged["period"], wanted.period)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-10)


@pytest.mark.slow
def test_without_a_gpu_the_benchmark_says_so():
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, FOLDER / "gpu.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "no GPU" in done.stderr and "Traceback" not in done.stderr


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


@pytest.mark.slow
def test_no_verdict_is_wrong():
    """A small attack of the benchmark's kind: eigenvalues next to the boundary, Jordan blocks, both precisions."""
    rows = load("verdicts").attack((3,), games=4, seed=1)
    assert sum(row["wrong"] for row in rows) == 0
    games, marginal = (sum(row[name] for row in rows) for name in ("games", "marginal"))
    assert games > 70 and marginal < 0.6 * games
    assert {row["family"] for row in rows} == {"integer", "rounded", "alternating", "momentum", "higher", "relay"}


@pytest.mark.slow
def test_the_attack_knows_a_wrong_verdict(monkeypatch):
    """Otherwise the count of 0 would mean nothing."""
    verdicts = load("verdicts")
    monkeypatch.setattr(verdicts, "ask", lambda *_: "stable")
    monkeypatch.setattr(verdicts, "composed_case", lambda *_: ("stable", "stable"))
    assert sum(row["wrong"] for row in verdicts.attack((2,), games=4)) > 5


@pytest.mark.slow_cases(
    "consensus:Consensus-missing transpose-consensus/jacobian",
    "opponent_shaping:_shaping-factor one half-opponent-shaping/lola",
    "game:_field-swapped player-bilinear/unrolled",
    "updates.base:alternating_step-stale gradient-bilinear/alternating",
)
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
