"""Experiments: small ones run through, at the command line as well; the settings that they take."""

import csv
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dynamics import cli, experiments, metrics
from dynamics.reports import experiments as report

SMALL = {
    "ring": {"steps": 8, "width": 6, "batch_size": 32},
    "digits": {"steps": 2, "width": 2, "batch_size": 8, "latent_size": 3},
}
FILES = {"log.csv", "report.md", "results.json", "samples.png", "training.png", "checkpoints"}


def run(capsys, *arguments):
    code = cli.main(["run", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def sets(name):
    return [text for key, value in SMALL[name].items() for text in ("--set", f"{key}={value}")]


def test_the_command_line_knows_all_of_them():
    assert set(cli.EXPERIMENTS) == set(experiments.CATALOGUE) == set(SMALL)


@pytest.mark.slow
def test_the_ring_at_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    out = tmp_path / "out"
    arguments = ["ring", "--out", str(out), *sets("ring"), "--precision", "64"]
    code, text, _ = run(capsys, *arguments, "--quiet")
    assert code == 0 and "finished after step 8" in text and str(out) in text
    assert {path.name for path in out.iterdir()} == FILES
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["width"] == 6 and results["step"] == 8 and results["ending"] == "finished"
    assert results["numbers"] == [6 * 2 + 6 + 42 + 14, 6 * 2 + 6 + 42 + 7]
    rows = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert [float(row["frechet"]) for row in rows] == results["metrics"]["frechet"]
    assert [int(row["step"]) for row in rows] == results["steps"] == list(range(9))
    words = (out / "report.md").read_text()
    assert "dynamics run ring --set steps=8" in words and "| 8 |" in words and "- width: 6" in words
    # A second time it begins anew; with --resume it is done at once, with other settings it is refused.
    code, text, _ = run(capsys, *arguments, "--quiet", "--json")
    assert code == 0 and json.loads(text) == results | {"output": str(out)}
    code, text, errors = run(capsys, *arguments, "--resume", "--json")
    assert code == 0 and json.loads(text)["losses"] == results["losses"] and "1/8" not in errors
    code, _, errors = run(capsys, *arguments, "--set", "rate=0.1", "--resume", "--quiet")
    assert code == 2 and "holds another training" in errors


@pytest.mark.slow
def test_numbers_do_not_depend_on_where_it_is_interrupted(tmp_path):
    experiment = experiments.ring(**SMALL["ring"])

    def stop(step, state, values):
        if step == 4:
            raise KeyboardInterrupt

    whole = experiment.train(every=2)
    with pytest.raises(KeyboardInterrupt):
        experiment.train(every=2, directory=tmp_path, callbacks=[stop])
    resumed = experiment.train(every=2, directory=tmp_path)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for name, series in whole.metrics.items():
        np.testing.assert_array_equal(resumed.metrics[name], series)


@pytest.mark.slow
def test_real_samples_are_judged_to_be_good():
    experiment = experiments.ring(**SMALL["ring"])
    real = np.asarray(experiment.data.values)
    coverage = experiment.measures["coverage"](real[:2048], real[2048:4096])
    assert coverage["modes"] == 8 and abs(coverage["high_quality"] - (1 - np.exp(-4.5))) < 0.01
    assert experiment.measures["frechet"](real[:2048], real[2048:4096]) < 0.01
    assert experiment.samples(experiment.players, 5).shape == (5, 2)


@pytest.mark.slow
def test_the_digits(tmp_path):
    experiment = experiments.digits(**SMALL["digits"])
    training = experiment.train(every=2)
    report.write(experiment, training, tmp_path, "dynamics run digits")
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"log.csv", "checkpoints"}
    real = np.asarray(experiment.data.values)
    quality, reference = experiment.measures["quality"], metrics.Reference(real[:900], experiment.features)
    same, noise = (
        quality(reference, real[900:]),
        quality(reference, np.random.default_rng(0).uniform(-1, 1, (900, 1, 8, 8))),
    )
    features = experiment.features(real[:900]), experiment.features(real[900:])
    assert same["frechet"] == metrics.frechet_distance(*features)
    assert (same["precision"], same["recall"]) == metrics.precision_recall(*features)
    assert (same["kernel"], same["kernel_error"]) == metrics.kernel_distance(*features)
    assert same["classes"] == 10 and same["precision"] > 0.8 and same["recall"] > 0.8
    assert (
        noise["precision"] < 0.1 and noise["frechet"] > 20 * same["frechet"] and noise["kernel"] > 20 * same["kernel"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, bounds",
    [
        ("ring", {"coverage.modes": (8, 8), "coverage.high_quality": (0.7, 1), "frechet": (0, 0.01)}),
        ("digits", {"quality.classes": (10, 10), "quality.recall": (0.4, 1), "quality.frechet": (0, 40)}),
    ],
)
def test_whole_trainings_reach_their_quality(name, bounds, tmp_path):
    """In a process of its own, with the optimising compiler that the suite does without."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", "dynamics", "run", name, "--out", str(tmp_path), "--json", "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["ending"] == "finished"
    for metric, (least, most) in bounds.items():
        assert least <= results["metrics"][metric][-1] <= most, metric


@pytest.mark.parametrize(
    "name, texts, message",
    [
        ("ring", ["step=3"], r"--set 'step': ring has seed, steps, .* did you mean 'steps'"),
        ("ring", ["steps=three"], "--set steps is 'three'; expected a whole number, e.g. 6000"),
        ("ring", ["steps=1.5"], "--set steps is '1.5'; expected a whole number"),
        ("ring", ["rate=true"], "--set rate is 'true'; expected a number, e.g. 0.001"),
        ("digits", ["residual=1"], "--set residual is '1'; expected true or false, e.g. false"),
        ("ring", ["rate=" + "9" * 5000], "expected a number"),
    ],
)
def test_settings_that_are_none(name, texts, message):
    with pytest.raises(ValueError, match=message):
        experiments.settings(name, texts)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--set", "rate=-1"], "rate is -1.0; expected a finite number > 0"),
        (["--set", "width=0"], "width is 0"),
        (["--set", "steps=0"], "steps is 0"),
        (["--set", "penalty=-1"], "weight is -1"),
        (["--workers", "2"], "--workers is for studies, and ring is an experiment"),
        (["--store", "x"], "--store is for studies"),
    ],
)
def test_bad_input_at_the_command_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    code, _, errors = run(capsys, "ring", "--out", str(tmp_path), *arguments)
    assert code == 2 and message in errors and errors.count("\n") == 1


def test_settings_are_arguments():
    assert experiments.settings("digits", ["seed = 3", "rate=1", "residual=true"]) == {
        "seed": 3,
        "rate": 1.0,
        "residual": True,
    }
    assert experiments.ring(width=4, seed=1).settings["width"] == 4
