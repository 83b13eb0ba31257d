"""Comparisons of trainings: means with error bars, reports and pictures, and a small run at the command line."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from compilations import compiled

import dynamics as dy
from dynamics import cli, experiments, plots
from dynamics._compiling import quick_jit
from dynamics.experiments import Comparison, mean_and_error
from dynamics.experiments.gap_aware import findings as findings_of_rates
from dynamics.experiments.gap_aware import small_gan
from dynamics.experiments.r3gan import PENALTIES
from dynamics.experiments.r3gan import findings as findings_of_penalties
from dynamics.experiments.rings import findings
from dynamics.reports import comparisons as report

RATES = np.array([0.05, 0.1])
R3GAN = {
    f"{loss}, {penalty}": (objective, kinds)
    for loss, objective in (
        ("relativistic", dy.objectives.RelativisticPaired(all_pairs=False)),
        ("non-saturating", dy.objectives.NonSaturating()),
    )
    for penalty, kinds in (
        ("none", ()),
        ("R1", (dy.penalties.R1,)),
        ("R2", (dy.penalties.R2,)),
        ("R1 and R2", (dy.penalties.R1, dy.penalties.R2)),
    )
}
SMALL = {
    "gap-aware": {"seeds": 2, "rates": 2, "steps": 3, "width": 3, "batch_size": 4},
    "rotation": {"seeds": 2, "steps": 3, "width": 2},
    "rings": {"seeds": 2, "steps": 3, "width": 2, "depth": 1, "batch_size": 4},
    "r3gan": {"seeds": 2, "weights": 2, "steps": 3, "width": 3, "batch_size": 4},
    "kernels": {"seeds": 2, "steps": 3, "points": 8},
}


def build(rate, seed, scheme):
    """A turn about the equilibrium from a random point at distance 1."""
    angle = jax.random.uniform(seed, maxval=2 * jnp.pi)
    sgd = dy.optimisers.sgd(rate)
    return dy.games.Bilinear(1.0), scheme(sgd, sgd, rate), (jnp.cos(angle), jnp.sin(angle))


def small(measured=None):
    def measures(game, start, players):
        del game, start
        distance = float(np.hypot(*players))
        return {"distance": distance, "outside": float(distance > 1.5)}

    return Comparison(
        name="small",
        title="Two schemes",
        variants={
            "simultaneous": lambda rate, seed: build(
                rate, seed, lambda first, second, _: dy.updates.Simultaneous(first, second)
            ),
            "extragradient": lambda rate, seed: build(
                rate, seed, lambda first, second, step: dy.updates.Extragradient(first, second, extrapolation=step)
            ),
        },
        axes={"rate": RATES},
        seeds=3,
        steps=100,
        key=jax.random.key(0),
        measures=measured or measures,
        shares=("outside",),
        findings=lambda dataset: [f"{dataset.sizes['seed']} seeds"],
        settings={"seeds": 3},
    )


@pytest.fixture(scope="module")
def compared():
    comparison = small()
    return comparison, comparison.run()


@pytest.mark.slow
def test_every_training_is_measured(compared):
    """The distance grows by sqrt(1 + h^2) per step, and shrinks by sqrt((1 - h^2)^2 + h^2)."""
    comparison, dataset = compared
    assert dict(dataset.sizes) == {"variant": 2, "rate": 2, "seed": 3}
    growth = np.stack([np.hypot(1, RATES), np.hypot(1 - RATES**2, RATES)]) ** 100
    expected = np.broadcast_to(growth[..., None], (2, 2, 3))
    np.testing.assert_allclose(dataset["distance"].transpose("variant", "rate", "seed"), expected, rtol=1e-4)
    means = comparison.means(dataset)
    np.testing.assert_allclose(means["distance"].transpose("variant", "rate"), growth, rtol=1e-4)
    assert means["outside"].sel(variant="simultaneous").values.tolist() == [0, 1]
    assert float(means["outside_low"].sel(variant="simultaneous")[1]) == pytest.approx(0.4385, abs=1e-3)  # 3 of 3


@pytest.mark.slow
def test_the_report_and_the_picture(compared, tmp_path):
    comparison, dataset = compared
    report.write(comparison, dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["axes"]["variant"] == ["simultaneous", "extragradient"] and results["findings"] == ["3 seeds"]
    assert np.shape(results["measures"]["distance"]) == (2, 2, 3)
    text = (tmp_path / "report.md").read_text()
    assert "dynamics run small" in text and "| extragradient | 0.1 |" in text and "- 3 seeds" in text
    assert "  3 seeds" in report.summary(comparison, dataset)
    with pytest.raises(ValueError, match="axis is 'weight'; expected one of"):
        plots.comparison(comparison.means(dataset), axis="weight")


@pytest.mark.slow
def test_what_is_done_is_kept(tmp_path):
    """An interruption while the second variant is measured: the first one's trainings are not run again."""
    calls = []

    def interrupted(game, start, players):
        calls.append(players)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return {"x": float(players[0])}

    comparison = small(interrupted)
    with pytest.raises(KeyboardInterrupt):
        comparison.run(store=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["variant-0", "variant-1"]
    resumed, whole = comparison.run(store=tmp_path), comparison.run()
    np.testing.assert_array_equal(resumed["x"], whole["x"])


def test_intervals_against_scipy():
    values = np.random.default_rng(0).normal(size=(4, 7))
    mean, low, high = mean_and_error(values)
    for row, *ends in zip(values, low, high, strict=True):
        np.testing.assert_allclose(ends, scipy.stats.t.interval(0.95, 6, row.mean(), scipy.stats.sem(row)))
    np.testing.assert_allclose(mean, values.mean(axis=1))
    for count in range(8):
        mean, low, high = mean_and_error(np.arange(7) < count, share=True)
        interval = scipy.stats.binomtest(count, 7).proportion_ci(method="wilson")
        np.testing.assert_allclose([low, high], [interval.low, interval.high], atol=1e-12)
    with_gap = np.append(values[0], np.nan)
    np.testing.assert_allclose(mean_and_error(with_gap), mean_and_error(values[0]))


def test_the_command_line_knows_all_of_them():
    assert set(cli.COMPARISONS) == set(experiments.COMPARISONS) == set(SMALL)
    assert not set(cli.COMPARISONS) & set(cli.EXPERIMENTS)


@pytest.mark.slow
def test_without_the_extra_for_stores_nothing_is_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    monkeypatch.setattr(dy.ensembles, "can_store", lambda: False)
    monkeypatch.setattr(experiments, "RUNNABLE", dict(experiments.RUNNABLE) | {"gap-aware": small})
    assert cli.main(["run", "gap-aware", "--out", str(tmp_path), "--quiet", "--precision", "64"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    assert "Two schemes" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_small_ones_at_the_command_line(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    make = experiments.COMPARISONS[name]

    @functools.wraps(make)
    def of_two(**settings):
        comparison = make(**settings)
        return dataclasses.replace(comparison, variants=dict(list(comparison.variants.items())[:2]))

    monkeypatch.setattr(
        experiments, "RUNNABLE", dict(experiments.RUNNABLE) | {name: of_two}
    )  # a variant is a compilation
    sets = [text for key, value in SMALL[name].items() for text in ("--set", f"{key}={value}")]
    arguments = ["run", name, "--out", str(tmp_path), "--quiet", "--precision", "64", *sets]
    assert cli.main([*arguments, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    pictures = report.pictures(make(**SMALL[name]))
    assert {path.name for path in tmp_path.iterdir()} == {*report.FILES, *pictures, report.CELLS}
    assert cli.main([*arguments, "--resume"]) == 0
    assert results["findings"][0][:40] in capsys.readouterr().out
    assert cli.main([*arguments, "--store", "elsewhere"]) == 2


def test_r3gan_compares_penalties_seed_by_seed():
    """All succeed with both penalties, half with R1 alone, none with R2 alone; what is not there is left out."""
    names = [f"relativistic, {penalty}" for penalty in PENALTIES]
    success = np.zeros((4, 2, 8))
    success[0, 0], success[1, :, ::2], success[3] = 1.0, 1.0, 1.0  # without a penalty all trainings are of one kind
    dims = ("variant", "weight", "seed")
    dataset = xr.Dataset(
        {"success": (dims, success), "modes": (dims, 8 * success)}, {"variant": names, "weight": [0.1, 1.0]}
    )
    lines = findings_of_penalties(dataset)
    assert lines[0].startswith("relativistic, none: 50% (28% to 72%) of 16 trainings succeed; 4.0 modes")
    assert lines[1].startswith("relativistic, R1: of 8 trainings succeed, by weight, 50% (22% to 78%) at 0.1, 50%")
    assert "R1 alone" in lines[4] and " 0.50 " in lines[4]
    # Eight seeds, half of them better: Student's t of 97.5 %, two such lines together being right with 95 %.
    error = scipy.stats.t.ppf(1 - 0.025 / 2, 7) * np.std([0, 1] * 4, ddof=1) / np.sqrt(8)
    assert f"between {0.5 - error:.2f} and {0.5 + error:.2f}" in lines[4] and 0.5 - error < 0
    assert lines[4].endswith("no difference can be seen.")
    assert "R2 alone" in lines[5] and " 1.00 " in lines[5] and lines[5].endswith("both help.") and len(lines) == 6


@pytest.mark.slow_cases(*(case for case in R3GAN if case != "non-saturating, none"))
@pytest.mark.parametrize("case", R3GAN)
def test_r3gan_is_one_program_of_which_losses_and_penalties_are_numbers(case):
    """A GAN with the numbers of a variant has the field of one with that loss and those penalties alone."""
    comparison = experiments.r3gan(width=3, batch_size=4)
    assert list(comparison.variants) == list(R3GAN) and len(set(comparison.variants.values())) == 1
    seed, key, weight = jax.random.key(1), jax.random.key(2), 0.3
    data = dy.distributions.ring(8, std=0.05, batch_size=4)
    objective, kinds = R3GAN[case]
    game, _, players = comparison.variants[case](weight=weight, seed=seed, **comparison.numbers[case])
    alone = dy.penalties.Sum(*(kind(weight) for kind in kinds))
    plain, same = small_gan(seed, data, objective, alone, width=3, batch_size=4)
    for a, b in zip(*map(jax.tree.leaves, (players, same)), strict=True):
        np.testing.assert_array_equal(a, b)
    fields = [quick_jit(lambda players, game=game: game.field(players, key))(players) for game in (game, plain)]
    for a, b in zip(*map(jax.tree.leaves, fields), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_variants_that_differ_by_numbers_share_a_program():
    """Two factors of a step: as many compilations as for one, and what each of them gives alone."""

    def turned(rate, seed, factor):
        return build(rate * factor, seed, lambda first, second, _: dy.updates.Simultaneous(first, second))

    factors = {"once": {"factor": 1.0}, "twice": {"factor": 2.0}}
    options = {"variants": dict.fromkeys(factors, turned), "numbers": factors, "steps": 10}
    both = dataclasses.replace(small(), **options)
    one = dataclasses.replace(both, variants={"once": turned})
    one.run()  # whatever is compiled for a comparison of any kind
    with compiled() as counted:
        dataset = both.run()
    assert counted.count == 0
    growth = np.stack([np.hypot(1, factor * RATES) for factor in (1, 2)]) ** 10
    expected = np.broadcast_to(growth[..., None], (2, 2, 3))
    np.testing.assert_allclose(dataset["distance"].transpose("variant", "rate", "seed"), expected, rtol=1e-12)
    assert set(dataset.coords) == {"variant", "rate", "seed"}


def test_gap_aware_compares_schedules_seed_by_seed():
    """The schedule helps every other of eight seeds, at all rates alike: eight differences, not sixteen."""
    success = np.zeros((2, 2, 8))
    success[1, :, ::2] = 1.0
    dims = ("variant", "rate", "seed")
    columns = {name: (dims, success) for name in ("success", "modes", "high_quality", "failed")}
    dataset = xr.Dataset(columns, {"variant": ["fixed", "gap-aware"], "rate": [0.1, 1.0]})
    lines = findings_of_rates(dataset)
    error = scipy.stats.t.ppf(1 - 0.05 / 6, 7) * np.std([0, 1] * 4, ddof=1) / np.sqrt(8)
    assert f"0.5 (between {0.5 - error:.3g} and {0.5 + error:.3g}, the three together with 95 %)" in lines[2]
    assert 0.5 - error < 0 and "no difference can be seen" in lines[2] and len(lines) == 5


def test_rings_claims_only_what_the_bars_allow():
    """All of ten against none of ten: intervals apart; 9 of 10 is not apart from 10 of 10."""
    names = ["least squares", "R3GAN", "Wasserstein, GP"]
    success = np.array([[0.0] * 10, [1.0] * 10, [1.0] * 9 + [0.0]])
    columns = {"success": success, "failure": 1 - success, "modes": 8 * success, "high_quality": success / 2}
    dims = ("variant", "rate", "seed")
    dataset = xr.Dataset(
        {name: (dims, column[:, None]) for name, column in columns.items()}, {"variant": names, "rate": [1e-3]}
    )
    lines = findings(dataset)
    assert "success 0% (0% to 28%), published 0.325, outside of the interval" in lines[0]
    assert "published" not in lines[1]
    assert lines[3].startswith("2 of 2 published shares")  # all ten fail here
    assert lines[-1].endswith("do not overlap: R3GAN over least squares; Wasserstein, GP over least squares.")
    # 25,000 samples spread evenly cover all modes as well.
    few = dataset.assign(high_quality=dataset["high_quality"] * 0.02)
    assert len(findings(few)) == len(findings(few, by_chance=0.004)) == len(lines)
    said = [line for line in findings(few, by_chance=0.0057) if "spread evenly" in line]
    assert len(said) == 1 and "0.6% would be near one" in said[0]
    assert said[0].endswith("as of R3GAN; Wasserstein, GP.")  # least squares has no success
    assert experiments.rings().findings.keywords["by_chance"] == pytest.approx(8 * np.pi * 0.03**2 / 4)


@pytest.mark.slow
def test_packed_samples_are_of_the_data():
    comparison = experiments.rings(seeds=1, width=2, depth=1, batch_size=4)
    game, _, players = comparison.variants["non-saturating (1, 1), packed"](rate=1e-3, seed=jax.random.key(0))
    real, fake = game.samples(players, jax.random.key(1))
    assert real.values.shape == fake.values.shape == (4, 4)
    distances = np.hypot(*np.moveaxis(np.reshape(real.values, (-1, 2)), -1, 0))
    np.testing.assert_allclose(distances, 1, atol=0.1)  # radius 1, standard deviation 0.01
    first, second = (jnp.concatenate(pair) for pair in ((jnp.ones(2), jnp.zeros(2)), (jnp.zeros(2), jnp.ones(2))))
    np.testing.assert_allclose(game.generator(players[0], first), np.roll(game.generator(players[0], second), 2))


@pytest.mark.slow
def test_a_single_setting_is_drawn_as_rows(compared):
    comparison, dataset = compared
    means = comparison.means(dataset).isel(rate=[0])
    figure = plots.comparison(means, axis="rate", published={"outside": {"simultaneous": 0.5}})
    assert len(figure.axes) == 2 and figure.axes[0].get_yticks().size == 2
