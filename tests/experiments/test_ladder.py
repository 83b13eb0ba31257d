"""The ladder: its parts against SciPy and NumPy, its report and pictures, the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg

from dynamics import cli, experiments
from dynamics.directions import Natural
from dynamics.experiments.ladder import FLOORS, IN_TIME, SAVES, _Floors, _slope, _spectrum, _spline, ladder
from dynamics.function_space import NestedDensityGAN, Transport, Weighted
from dynamics.reports import ladders as report

SMALL = {"time": 0.08, "particles": 24, "width": 2, "steps": 4, "seeds": 2, "batch": 3}


def test_the_spline_is_scipys_and_adds_up_to_one():
    x = np.linspace(-2.5, 2.5, 101)
    expected = np.nan_to_num(scipy.interpolate.BSpline.basis_element(np.arange(-2, 3), extrapolate=False)(x))
    np.testing.assert_allclose(_spline(jnp.asarray(x)), expected, atol=1e-14)
    np.testing.assert_allclose(sum(_spline(jnp.asarray(0.3 - k)) for k in range(-3, 4)), 1, rtol=1e-14)


@pytest.mark.slow
def test_the_spectra_of_the_upper_floors_are_those_of_an_operator():
    made = ladder(gamma=0.2)
    floors = _Floors(made)
    game, p = floors.density_game, np.asarray(floors.density_game.data)
    slopes = np.diff(np.eye(len(p)), axis=0) / (floors.grid[1] - floors.grid[0])
    form = slopes.T @ np.diag((p[1:] + p[:-1]) / 2) @ slopes
    levels = np.maximum(scipy.linalg.eigh(form, np.diag(p), eigvals_only=True), 0)
    transport = Transport(game.graph, game.data)
    nested = NestedDensityGAN(game)
    found = _spectrum(nested, Natural(transport), nested.equilibria()[0])
    np.testing.assert_allclose(np.sort(found.real), np.sort(-levels / 2), atol=1e-5 * levels.max())
    both = _spectrum(game, Natural(transport, Weighted(game.data)), game.equilibria()[0])
    damping, stiffness = 0.5 + 0.2 * levels[1:], levels[1:] / 4
    root = np.sqrt((damping**2 / 4 - stiffness).astype(complex))
    leading = np.max((-damping / 2 + root).real)
    moving = both[np.abs(both) > 1e-6]
    np.testing.assert_allclose(moving.real.max(), leading, rtol=1e-5)


def test_slopes_are_those_of_exponentials():
    position = np.linspace(0, 10, 81)
    np.testing.assert_allclose(_slope(position, 0.3 * np.exp(-1.7 * position) + 1e-6), -1.7, rtol=0.05)
    assert np.isnan(_slope(position, 0.3 + 0.01 * np.sin(position)))


def test_settings():
    assert set(cli.LADDERS) == set(experiments.LADDERS)
    assert experiments.settings("ladder", ["seeds=2", "gamma=1"]) == {"seeds": 2, "gamma": 1.0}
    for wrong, message in (
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"time": 0.001}, "no longer"),
    ):
        with pytest.raises(ValueError, match=message):
            ladder(**wrong)


@pytest.mark.slow
def test_a_small_one_at_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    assert cli.main(["run", "ladder", "--out", str(tmp_path), "--quiet", "--json", *settings]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    assert results["axes"]["floor"] == list(FLOORS) and set(report.GAINED) == set(FLOORS)
    divergence = np.asarray(results["values"]["divergence"])
    assert divergence.shape == (len(FLOORS), 2, SAVES + 1) and np.all(np.isfinite(divergence))
    # The start is the same distribution on the first three floors, but for how it is held.
    np.testing.assert_allclose(divergence[:IN_TIME, 0, 0], divergence[0, 0, 0], rtol=0.1)
    assert len(results["findings"]) == 7
    text = (tmp_path / "report.md").read_text()
    assert all(name in text for name in FLOORS) and "dynamics run ladder" in text
