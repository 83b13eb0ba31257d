"""Studies of spectra: measures by hand, boundaries against simulation, reports and pictures, the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from matplotlib import pyplot

import dynamics as dy
from dynamics import cli, experiments, plots
from dynamics.experiments import numerics as numerics_study
from dynamics.experiments.numerics import STEP, UPDATES, eigenvalues, measures, turning
from dynamics.experiments.numerics import findings as findings_of_numerics
from dynamics.experiments.r1_boundary import CONTINUED, FRESH, largest_stable_rate
from dynamics.experiments.r1_boundary import findings as findings_of_boundary
from dynamics.reports import spectral_studies as report

SMALL = {
    "numerics": {"seeds": 2, "steps": 4, "width": 2},
    "r1-boundary": {"seeds": 2, "weights": 2, "rates": 2, "steps": 3, "probe": 2, "width": 2, "batch_size": 4},
}


def test_the_command_line_knows_all_of_them():
    assert set(cli.SPECTRAL_STUDIES) == set(experiments.SPECTRAL_STUDIES) == set(SMALL) == set(report.PICTURES)


def test_measures_by_hand():
    """Two eigenvalues on the axis, a pair at |Im| / |Re| = 3/4, a pair outside, and one that does not move."""
    values = 1 + np.array([0, -0.5, 0.2, -0.4 + 0.3j, -0.4 - 0.3j, 0.01 + 0.1j, 0.01 - 0.1j])
    seen = measures(values)
    assert seen["radius"] == pytest.approx(1.2) and seen["steepest"] == pytest.approx(-0.5)
    assert seen["outside"] == pytest.approx(3 / 6) and seen["complex_share"] == pytest.approx(4 / 6)
    assert seen["rotation"] == pytest.approx(0.6) and turning([seen["rotation"]]) == pytest.approx(0.75)
    assert seen["slow_rotation"] == pytest.approx(0.1 / np.hypot(0.1, 0.01))
    assert np.isnan(measures(np.array([1.0, np.nan], complex))["radius"])
    real = measures(np.array([1.0, 0.5], complex))
    assert real["complex_share"] == real["rotation"] == real["slow_rotation"] == 0


@pytest.mark.parametrize("scheme", UPDATES)
def test_eigenvalues_of_the_steps_in_a_bilinear_game(scheme):
    """With w = 1.5 and rate h: 1 +- ihw; of the alternating step on the unit circle; 1 - hcw^2 +- ihw of consensus."""
    h, c, w = 0.1, 0.7, 1.5
    sgd, half = optax.sgd(h), (h * w) ** 2 / 2
    update, expected = {
        "simultaneous": (dy.updates.Simultaneous(sgd, sgd), 1 + 1j * h * w),
        "alternating": (dy.updates.Alternating(sgd, sgd), 1 - half + 1j * h * w * np.sqrt(1 - half / 2)),
        "consensus": (
            dy.updates.Simultaneous(sgd, sgd, direction=dy.directions.Consensus(c)),
            1 - h * c * w**2 + 1j * h * w,
        ),
    }[scheme]  # fmt: skip
    values = eigenvalues(dy.games.Bilinear(w), update, (jnp.asarray(0.3), jnp.asarray(-0.2)))
    np.testing.assert_allclose(values[np.argsort(values.imag)], [np.conj(expected), expected], rtol=1e-12)


def test_the_largest_stable_rate_is_where_the_steps_part():
    random = np.random.default_rng(0)
    for _ in range(20):
        values = -np.abs(random.normal(size=6)) + 1j * random.normal(size=6) * np.array([0, 0, 1, -1, 3, -3])
        rate = largest_stable_rate(values)
        assert np.abs(1 + 0.999 * rate * values).max() < 1 < np.abs(1 + 1.001 * rate * values).max()
    assert largest_stable_rate(np.array([0.1, 0.2j])) == np.inf


def of_numerics(shift):
    """A dataset of three seeds in which consensus rotates less by `shift` at the same states."""
    shape = (3, 5, 3)
    dims, study = ("variant", STEP, "seed"), numerics_study(seeds=3)
    columns = {name: (dims, np.full(shape, 0.5) + 0.01 * np.arange(3)) for name in study.measures}
    rotation = columns["rotation_at_simultaneous"][1].copy()
    rotation[2] -= shift + 0.001 * np.arange(3)
    columns["rotation_at_simultaneous"] = (dims, rotation)
    values = 1 + np.random.default_rng(0).normal(size=(*shape, 8)) * 0.1 * (1 + 1j)
    values[0, 0, 0, 0] = np.nan
    columns["eigenvalues"] = ((*dims, "eigenvalue"), values)
    return study, xr.Dataset(columns, {"variant": list(UPDATES), STEP: np.arange(0, 5000, 1000)})


def test_findings_of_numerics_say_what_the_bars_allow():
    _, dataset = of_numerics(0.2)
    line = next(line for line in findings_of_numerics(dataset) if "consensus less simultaneous, both" in line)
    assert line.startswith("|Im|/|μ|") and "-0.201" in line and line.endswith("it rotates less.")
    _, dataset = of_numerics(-0.0015)
    line = next(line for line in findings_of_numerics(dataset) if "consensus less simultaneous, both" in line)
    assert line.endswith("no difference can be seen.")


def of_boundary():
    """Predicted rates 0.1 and 1; with the weight 1 trainings fail from 0.3 on as predicted, with 2 one too early."""
    rates, predicted = np.array([0.03, 0.3, 3.0]), np.array([[0.1, 0.1], [1.0, np.nan]])
    beyond = np.where(np.isnan(predicted)[:, None], np.nan, rates[:, None] > predicted[:, None])
    failed = np.nan_to_num(beyond, nan=1.0)
    failed[1, 1, 0] = 1.0
    dims = ("weight", "rate", "seed")
    columns = {"predicted_failure": (dims, beyond), CONTINUED: (dims, failed), FRESH: (dims, np.zeros(failed.shape))}
    columns |= {name: (("weight", "seed"), value) for name, value in (
        ("predicted", predicted), ("lost", np.isnan(predicted).astype(float)))}  # fmt: skip
    return xr.Dataset(columns, {"weight": [1.0, 2.0], "rate": rates})


def test_findings_of_the_boundary():
    lines = findings_of_boundary(of_boundary())
    assert "R1(1): the spectrum allows rates up to 0.1 (0.1 to 0.1)" in lines[0]
    assert lines[2] == "1 of 4 first trainings fail already, and have no prediction."
    assert "5 of 5 trainings above the predicted rate fail, and 1 of 4 below it" in lines[3] and "89%" in lines[3]
    assert "0 of 5 trainings above the predicted rate fail, and 0 of 4 below it" in lines[5] and len(lines) == 6
    # Between 0.03 and 0.3, over 0.1: twice; between 0.03 and 0.3, over 1: once.
    ratio = np.sqrt(0.03 * 0.3)
    assert f"is {np.cbrt(ratio**3 / 0.01):.2f} times the predicted one" in lines[4] and "where 3 of 4" in lines[4]


@pytest.mark.slow
def test_reports_and_pictures(tmp_path):
    study, dataset = of_numerics(0.2)
    dataset = dataset.isel({STEP: [0, -1]})
    report.write(study, dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*report.NUMBERS, *report.pictures(study)}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["values"]["eigenvalues"]["axes"][-1] == "eigenvalue"
    assert results["values"]["eigenvalues"]["values"][0][0][0][0] == [None, 0.0]
    text = (tmp_path / "report.md").read_text()
    assert "dynamics run numerics" in text and "| consensus | 4000 |" in text
    figure = plots.failures(of_boundary())
    assert len(figure.axes) == 3  # two panels and the bar
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    "wrong, message", [({"steps": 5}, "steps is 5; expected a multiple of 4"), ({"seeds": 0}, "seeds is 0")]
)
def test_bad_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        numerics_study(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_small_ones_at_the_command_line(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    sets = [text for key, value in SMALL[name].items() for text in ("--set", f"{key}={value}")]
    assert cli.main(["run", name, "--out", str(tmp_path), "--quiet", "--precision", "64", *sets, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    study = experiments.SPECTRAL_STUDIES[name](**SMALL[name])
    assert {path.name for path in tmp_path.iterdir()} == {*report.NUMBERS, *report.pictures(study)}
    if name == "numerics":
        first = results["values"]["outside"]["values"]
        assert first[0] == results["values"]["outside_at_simultaneous"]["values"][0]
        assert first[2][0] == results["values"]["outside_at_simultaneous"]["values"][2][0]  # the start is the same
    else:
        assert results["values"]["lost"]["values"] == [[0.0, 0.0], [0.0, 0.0]]
        assert np.isfinite(results["values"]["predicted"]["values"]).all()
