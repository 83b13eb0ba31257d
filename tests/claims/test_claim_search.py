"""The search for counterexamples: what it finds, how small, how it fails, and that it can be repeated."""

import json
import os
import signal
import subprocess
import time

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from processes import INTERRUPTIBLE

from dynamics import claims, plots
from dynamics.claims import base
from dynamics.cli import main
from dynamics.reports.claims import markdown, summary, table, to_json, write
from dynamics.strategies import arrays, matrices_with_singular_values, numbers, rotations, signed


def make(check, name="test/one", kind="conjecture", compiled=True, **domain):
    return base.Claim(
        identifier=name,
        statement="A statement.",
        source="a test",
        kind=base.Kind(kind),
        domain=domain,
        check=check,
        because="A reason.",
        holds=kind != "refuted",
        compiled=compiled,
    )


def test_a_counterexample_is_small_and_readable():
    one = make(lambda x, y: 1 - x * y, kind="refuted", x=numbers(0, 10), y=numbers(0, 10))
    result = claims.search(one, 200)
    assert result.verdict == "refuted" and result.as_expected
    assert {key: value == int(value) for key, value in result.counterexample.items()} == {"x": True, "y": True}
    assert result.counterexample_margin == 1 - result.counterexample["x"] * result.counterexample["y"]
    assert result.margin <= result.counterexample_margin < 0


def test_a_matrix_shrinks_to_few_small_whole_numbers():
    one = make(lambda matrix: 3 - jnp.sum(jnp.abs(matrix)), kind="refuted", matrix=arrays((1, 1), (2, 3)))
    matrix = claims.search(one, 200).counterexample["matrix"]
    assert np.all(matrix == np.round(matrix)) and np.abs(matrix).sum() <= 5


def test_the_same_seed_gives_the_same_result():
    one = make(lambda x: jnp.abs(x - 0.3) + 1e-2, x=numbers(0, 1))
    first, again, other = (claims.search(one, 300, seed=seed) for seed in (4, 4, 5))
    assert first.to_dict() == again.to_dict()
    assert first.margin != other.margin


def test_examples_that_do_not_fulfil_the_hypotheses_do_not_count():
    one = make(lambda x: jnp.where(x > 0.5, x, jnp.inf), x=numbers(0, 1))
    result = claims.search(one, 100)
    assert result.verdict == "holds" and 100 <= result.examples < 600 and result.margin > 0.5
    never = claims.search(make(lambda x: jnp.inf + 0 * x, x=numbers(0, 1)), 50)
    assert never.verdict == "undecided" and never.examples == 0 and np.isnan(never.margin) and not never.as_expected


def test_a_margin_that_is_no_number_decides_nothing():
    result = claims.search(make(lambda x: jnp.where(x > 0.5, jnp.nan, 1.0), x=numbers(0, 1)), 100)
    assert result.verdict == "undecided" and not result.as_expected


def test_constants_make_programs_of_their_own_and_none_stays_none():
    seen = []

    def check(x, size, label, pair):
        seen.append((size, label))
        first, second = pair
        return 1.0 + 0 * x * jnp.zeros(size).sum() + (0 if label is None else first - second) * 0

    domain = dict(x=numbers(0, 1), size=st.sampled_from([1, 2]), label=st.sampled_from([None, "a"]))
    result = claims.search(make(check, pair=st.tuples(numbers(0, 1), numbers(0, 1)), **domain), 300)
    assert result.verdict == "holds"
    assert len(seen) <= 4  # traced once each


def test_a_check_that_is_not_compiled_gets_plain_numbers():
    def check(x):
        assert isinstance(x, float)
        return x + 1

    assert claims.search(make(check, compiled=False, x=numbers(0, 1)), 50).verdict == "holds"


def test_a_broken_check_ends_its_own_search_and_no_other(monkeypatch):
    def check(x):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(base, "_CLAIMS", {})
    base.register(make(check, "test/broken", x=numbers(0, 1)))
    base.register(make(lambda x: x + 1, "test/good", x=numbers(0, 1)))
    broken, good = claims.search_all(claims.matching(), 20, workers=1)
    assert broken.verdict == "broken" and "no such thing" in broken.describe() and good.as_expected
    assert "1 broken" in summary([broken, good]) and "no such thing" in markdown([broken, good])
    assert json.loads(json.dumps(to_json([broken, good])))[0]["error"] == "RuntimeError: no such thing"


def test_slices_go_through_the_counterexample():
    one = make(
        lambda x, matrix: 1 - x * jnp.sum(jnp.abs(matrix)), kind="refuted", x=numbers(0, 4), matrix=arrays((1, 2))
    )
    result = claims.search(one, 100, slices=True)
    assert set(result.slices) == {"x", "matrix[0, 0]", "matrix[0, 1]"}
    for piece in result.slices.values():
        nearest = np.argmin(np.abs(piece.values - piece.value))
        assert abs(piece.margins[nearest] - result.counterexample_margin) < 1
    figure = plots.counterexample(result)
    assert {axes.get_xlabel() for axes in figure.axes if axes.get_visible()} <= set(result.slices)
    with pytest.raises(ValueError, match="has no slices"):
        plots.counterexample(claims.search(one, 100))


def test_a_report_has_everything(tmp_path):
    results = [
        claims.search(claims.find(name), 60, slices=True)
        for name in ("bilinear/extragradient/other-look-ahead", "bilinear/extragradient")
    ]
    files = write(results, tmp_path, "dynamics claims bilinear")
    assert {path.name for path in files} >= {"report.md", "claims.json"}
    text = (tmp_path / "report.md").read_text()
    picture = "counterexamples/bilinear--extragradient--other-look-ahead.png"
    assert picture in text and (tmp_path / picture).stat().st_size > 5000
    data = json.loads((tmp_path / "claims.json").read_text())
    assert [entry["id"] for entry in data] == [
        result.claim.identifier for result in results[::-1]
    ]  # the catalogue's order
    assert {"id", "source", "kind", "examples", "margin", "verdict", "as_expected"} <= set(data[0])
    assert data[1]["counterexample"] and table(results).row_count == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(identifier="No Slash"), "expected an identifier such as"),
        (dict(statement=" "), "has no statement"),
        (dict(domain={}), "empty domain"),
        (dict(domain={"x": 3}), "expected a hypothesis strategy"),
        (dict(holds=False), "cannot be expected to be refuted"),
    ],
)
def test_bad_claims_are_refused(change, message):
    good = dict(
        identifier="test/one",
        statement="A.",
        source="b",
        kind=base.Kind.theorem,
        domain={"x": numbers(0, 1)},
        check=lambda x: x,
        because="C.",
        holds=True,
    )
    with pytest.raises((ValueError, TypeError), match=message):
        base.Claim(**{**good, **change})


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="'bilinear/extragradent' is not one of the claims; did you mean"):
        claims.find("bilinear/extragradent")
    with pytest.raises(ValueError, match="no claim matches 'bilinar'; did you mean 'bilinear'"):
        claims.matching("bilinar")
    with pytest.raises(ValueError, match="has the kind 'theorm'; did you mean 'theorem'"):
        claims.claim("a/b", "A.", source="b", kind="theorm", because="C.", domain={"x": numbers(0, 1)})
    with pytest.raises(ValueError, match="examples is 0"):
        claims.search(claims.find("bilinear/extragradient"), 0)
    with pytest.raises(ValueError, match="the smaller one first"):
        numbers(2, 1)


def test_patterns_choose_topics_and_names():
    assert set(claims.matching("bilinear")) == set(claims.matching("bilinear/*"))
    assert "bilinear/extragradient" in claims.matching("*/extragradient")
    assert all(name.endswith("/extragradient") for name in claims.matching("*/extragradient"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_strategies_of_matrices_keep_their_promises(size):
    def check(turn, matrix, number):
        values = np.linalg.svd(matrix, compute_uv=False)
        ok = np.allclose(turn @ turn.T, np.eye(size)) and np.isclose(np.linalg.det(turn), 1)
        return 1.0 if ok and values.min() > 0.49 and values.max() < 2.01 and 0.5 <= abs(number) <= 1 else -1.0

    domain = dict(
        turn=rotations(size), matrix=matrices_with_singular_values(0.5, 2, [(size, size + 1)]), number=signed(0.5, 1)
    )
    assert claims.search(make(check, compiled=False, **domain), 100).verdict == "holds"


@pytest.mark.slow
def test_the_command_writes_a_report_and_prints_data(tmp_path, capsys):
    command = [
        "claims",
        "bilinear/extragradient*",
        "--examples",
        "40",
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    assert main([*command, "--json", "--quiet"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert all(entry["as_expected"] for entry in data) and len(data) >= 3
    assert json.loads((tmp_path / "out" / "claims.json").read_text()) == data
    assert "dynamics claims" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing/here"], "no claim matches 'nothing/here'"),
        (["--examples", "none"], "expected a whole number >= 1"),
        (["--seed", "-1"], "expected a whole number >= 0"),
        (["--plugin", "no_such_module"], "cannot be imported"),
    ],
)
def test_the_command_tells_bad_input(tmp_path, capsys, arguments, message):
    assert main(["claims", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


PLUGIN = """
import time
from dynamics.claims import claim
from dynamics.strategies import numbers

for number in range(6):
    @claim(f"mine/number-{number}", "A statement.", source="a test", kind="conjecture", because="A reason.",
           domain=dict(x=numbers(0, 1)), compiled=False)
    def check(x, number=number):
        time.sleep(0.0 if number < 2 else 0.5)
        return 1 + x
"""


@pytest.mark.slow
def test_workers_agree_with_one_process_and_an_interruption_keeps_what_there_is(tmp_path):
    (tmp_path / "my_claims.py").write_text(PLUGIN)
    options = ["--plugin", "my_claims", "--examples", "100"]
    process = subprocess.Popen(
        [*INTERRUPTIBLE, "claims", "mine", *options, "--out", "out", "--workers", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    data = tmp_path / "out" / "claims.json"
    while not (data.exists() and len(json.loads(data.read_text())) >= 2) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    kept = json.loads(data.read_text())
    assert {entry["id"] for entry in kept} >= {"mine/number-0", "mine/number-1"} and len(kept) < 6
    assert "mine/number-0" in (tmp_path / "out" / "report.md").read_text()
    done = subprocess.run(
        [*INTERRUPTIBLE, "claims", "mine/number-[01]", *options, *"--out other --workers 1 --json --quiet".split()],
        cwd=tmp_path,
        capture_output=True,
    )
    alone = json.loads(done.stdout)
    assert alone == [entry for entry in kept if entry["id"] in ("mine/number-0", "mine/number-1")]


def test_a_counterexample_put_together_from_others_is_simplified_too():
    """It needs two rare values at once, which hypothesis draws apart."""

    def check(x, y):
        return jnp.where((x > 0.9) & (y > 0.9), -1.0, 1.0)

    results = [
        claims.search(make(check, kind="refuted", x=numbers(0, 1), y=numbers(0, 1)), 1000, seed=s) for s in (0, 1)
    ]
    for result in results:
        assert result.verdict == "refuted" and result.counterexample == {"x": 1.0, "y": 1.0}
