"""The table of what penalties do to eigenvalues."""

import json
import math

import numpy as np
import pytest

from dynamics import catalogue, cli
from dynamics.penalties import R1, Entropy, Penalty
from dynamics.reports import penalties

CASES = penalties.cases()


def test_every_penalty_of_the_catalogue_is_in_the_table():
    assert {type(case.penalty).__name__ for case in CASES} >= set(catalogue.members("penalties"))
    assert len({case.label for case in CASES}) == len(CASES)


@pytest.mark.parametrize("damping, coupling", [(0.3, 0.5), (1.0, 0.5), (3.0, 0.7)])
def test_damped_pairs_are_those_of_the_matrix(damping, coupling):
    expected = np.linalg.eigvals([[0, -coupling], [coupling, -damping]])
    result = penalties.damped(damping, coupling)
    np.testing.assert_allclose(sorted(result, key=lambda v: (v.real, v.imag)), np.sort_complex(expected), atol=1e-7)


def check(case):
    for game in penalties.COUPLINGS:
        row = penalties.effect(case, game)
        closed = case.dirac if game == "dirac" else case.quadratic
        if isinstance(case.penalty, Entropy) and game == "dirac":
            assert closed is None and row.verdict == "marginal"  # a point mass has no density
        elif closed is None:
            assert row.eigenvalues is None and math.isnan(row.error)
            assert row.verdict in ("marginal", "does not apply")
        else:
            assert row.error < 1e-12
            growth = max(value.real for value in closed.values)
            steps = 2 * np.abs([v.real for v in closed.values]) / np.abs(closed.values) ** 2
            assert row.step == pytest.approx(steps.min() if growth < 0 else 0, abs=1e-12)
            assert row.verdict == ("stable" if growth < 0 else "unstable" if growth > 0 else "marginal")


@pytest.mark.parametrize("label", ["R1(0.3)", "LeCam(0.3)"])
def test_some_rows_agree_with_their_closed_forms(label):
    (case,) = [case for case in CASES if case.label == label]
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_all_rows_agree_with_their_closed_forms(case):
    check(case)


def test_the_table_as_text_and_as_data(monkeypatch, capsys):
    rows = (
        penalties.Effect("R1", "Dirac-GAN", (-0.15 + 0.5j, -0.15 - 0.5j), "stable", "d = gamma", 1e-16, 1.2),
        penalties.Effect("WGANGP", "Dirac-GAN", None, "marginal", "-", math.nan, math.nan),
    )
    monkeypatch.setattr(penalties, "effects", lambda: rows)
    assert cli.main(["list", "penalties", "--effects"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Dirac-GAN" and lines[1].split()[0] == "penalty"
    assert lines[2].split() == ["R1", "-0.15+0.5i,", "-0.15-0.5i", "stable", "1.2", "d", "=", "gamma", "1e-16"]
    assert "no linearisation" in lines[3] and lines[3].endswith("-")
    assert cli.main(["list", "penalties", "--effects", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data[0]["eigenvalues"] == [[-0.15, 0.5], [-0.15, -0.5]] and data[1]["error"] is None
    assert cli.main(["list", "games", "--effects"]) == 2
    assert "dynamics list penalties --effects" in capsys.readouterr().err


class Elsewhere(Penalty):
    """For games with a structure that these have not."""

    def __call__(self, score, objective, players, real, fake, key):
        raise TypeError("expected another objective")


def test_a_penalty_for_other_games_does_not_apply():
    row = penalties.effect(penalties.Case("elsewhere", Elsewhere()), "quadratic")
    assert row.verdict == "does not apply" and row.eigenvalues is None
    assert "no linearisation" not in penalties.text([row])


def test_a_penalty_without_a_closed_form_has_a_dash():
    row = penalties.effect(penalties.Case("both", R1(0.1)), "dirac")
    assert row.step == pytest.approx(0.4)  # 4 gamma
    assert row.closed == "-" and math.isnan(row.error) and row.verdict == "stable"
    assert "both" in penalties.text([row])
