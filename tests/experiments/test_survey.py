"""The survey of objectives: closed forms of its small GANs, what it covers, its report and pictures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import catalogue, cli, experiments, objectives
from dynamics.experiments.objectives import LEFT_OUT, entries, findings
from dynamics.experiments.survey import (
    RATES,
    RATIOS,
    Chosen,
    Entry,
    Survey,
    gaussian_gan,
    longest_alternating,
    longest_simultaneous,
)
from dynamics.reports import surveys as report

GAMMA = 0.3
SMALL = {"steps": 8, "mixture_steps": 3, "width": 2, "seeds": 2}
# By name: -h' b' and a'' + b'' at the ideal score, of losses a and b of the discriminator and h of the generator.
FEW = {
    "Minimax": (objectives.Minimax(), 1 / 4, 1 / 2),
    "Wasserstein": (objectives.Wasserstein(), 1.0, 0.0),
    "KL": (objectives.KL(), 1.0, 1.0),
    "squares": (objectives.LeastSquares(0.0, 1.0, 1.0), 1 / 4, 2.0),
    "Neyman": (objectives.Neyman(saturating=False), 1.0, 1 / 2),
}


def surveyed(chosen, **sizes):
    settings = {"gamma": GAMMA, "step": 0.2, "mixture_rate": 0.02, "mixture_gamma": 0.1} | SMALL | sizes
    return Survey(
        name="objectives",
        title="A few objectives",
        entries={name: Entry(objective, "all") for name, objective in chosen.items()},
        left_out={"FGAN": "for the test"},
        findings=findings,
        settings=settings,
        **settings,
    )


@pytest.fixture(scope="module")
def few():
    survey = surveyed({name: objective for name, (objective, _, _) in FEW.items()})
    return survey, survey.run()


def roots(damping, stiffness):
    root = np.sqrt(complex(damping**2 / 4 - stiffness))
    return [-damping / 2 + root, -damping / 2 - root]


@pytest.mark.slow
def test_eigenvalues_and_steps_against_closed_forms(few):
    """Degree k = 1, 2 of the critic: mu^2 + (curvature + gamma k) mu + k coupling = 0; the Dirac-GAN: no curvature."""
    _, dataset = few
    for name, (_, coupling, curvature) in FEW.items():
        row = dataset.sel(objective=name)
        for penalty, gamma in (("none", 0.0), ("R1", GAMMA)):
            of = {"penalty": penalty}
            dirac, gaussian = (row[f"eigenvalues_{game}"].sel(of).values for game in ("dirac", "gaussian"))
            expected = (
                roots(gamma, coupling),
                [*roots(curvature + gamma, coupling), *roots(curvature + 2 * gamma, 2 * coupling)],
            )
            for values, wanted in zip((dirac, gaussian), expected, strict=True):
                np.testing.assert_allclose(
                    np.sort_complex(np.round(values, 9)), np.sort_complex(np.round(wanted, 9)), atol=1e-7
                )
        longest = row.sel(game="Dirac", penalty="R1")
        np.testing.assert_allclose(longest["simultaneous"], GAMMA / coupling, rtol=1e-6)
        alternating = (np.sqrt(GAMMA**2 + 4 * coupling) - GAMMA) / coupling
        np.testing.assert_allclose(longest["alternating"], alternating, rtol=1e-6)
        assert row.sel(game="Dirac", penalty="none")["alternating"] == 0


@pytest.mark.slow
def test_known_values(few):
    """Divergences of N(0.5, 0.8^2) and N(0, 1), by arbitrary precision; JS is half of the 2 JSD of minimax."""
    _, dataset = few
    divergence = dataset["reference_divergence"]
    np.testing.assert_allclose(divergence.sel(objective="Minimax"), 0.0934841258, atol=1e-9)
    np.testing.assert_allclose(divergence.sel(objective="KL"), 0.1681435513, atol=1e-9)
    np.testing.assert_allclose(divergence.sel(objective="squares"), 0.1732251761 / 8, atol=1e-9)
    np.testing.assert_allclose(dataset["gaussian_jensen_shannon"][:, 0], 0.0934841258 / 2, atol=1e-9)
    np.testing.assert_allclose(dataset["gaussian_divergence"][:, 0], divergence, rtol=1e-5)
    np.testing.assert_allclose(dataset["weight"].sel(objective="Minimax"), RATIOS / (1 + RATIOS), rtol=1e-9)
    np.testing.assert_allclose(dataset["reference_descended"].sel(objective="KL"), 0.1681435513, atol=1e-8)
    np.testing.assert_allclose(dataset["ideal_loss"], [2 * np.log(2), 0, 0, 0.25, 0], atol=1e-12)
    np.testing.assert_allclose(divergence.sel(objective="Neyman"), 1.9536830351, rtol=1e-4)
    assert np.isinf(dataset["reference_descended"].sel(objective="Neyman"))  # the integral of q^3 / p^2


@pytest.mark.slow
def test_training_is_that_of_each_objective(few):
    survey, dataset = few
    for name in ("Minimax", "Wasserstein"):
        game = gaussian_gan(FEW[name][0], GAMMA)
        update = dy.updates.Alternating(optax.sgd(survey.step), optax.sgd(survey.step))
        start = jnp.array([-0.625, 0.25]), jnp.zeros(2)
        shift, scale = np.asarray(dy.simulate(game, update, start, steps=survey.steps, classify=False).players[0])[-1]
        points = np.linspace(-16, 16, 2001)
        p = np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi)
        q = np.exp(-(((points - shift) / (1 + scale)) ** 2) / 2) / ((1 + scale) * np.sqrt(2 * np.pi))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = [np.where(a > 0, a * np.log(2 * a / (p + q)), 0) for a in (p, q)]
        expected = np.trapezoid(terms[0] + terms[1], points) / 2
        actual = dataset["gaussian_jensen_shannon"].sel(objective=name)[-1]
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    common = dataset["mixture_jensen_shannon"]
    assert common.sizes["rate"] == len(RATES) and common.sizes["seed"] == survey.seeds
    np.testing.assert_array_equal(common.sel(rate="fixed").values[..., 0], common.sel(rate="gap-aware").values[..., 0])
    assert (common.sel(rate="fixed").values[..., -1] != common.sel(rate="gap-aware").values[..., -1]).any()


@pytest.mark.slow
def test_the_report_and_the_pictures(few, tmp_path):
    survey, dataset = few
    report.write(survey, dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    results = json.loads((tmp_path / "results.json").read_text())
    assert np.shape(results["values"]["weight"]) == (len(FEW), len(RATIOS))
    text = (tmp_path / "report.md").read_text()
    assert "| Minimax | 2 JSD(data, model) - log 4 | 0.09348 | 0.09348 | 1.3863 | 0.0099 | 0.5 | 0.99 |" in text
    assert "Left out: FGAN (for the test)." in text and "dynamics run objectives" in text
    assert survey.title in report.summary(survey, dataset)


@pytest.mark.parametrize("coupling", [0.25, 1.0])
def test_longest_steps_are_those_of_the_exact_map(coupling):
    """The library's verdict on alternating descent on the Dirac-GAN, just below and just above."""
    matrix = np.array([[0, -np.sqrt(coupling)], [np.sqrt(coupling), -GAMMA]])
    root = np.sqrt(GAMMA**2 + 4 * coupling)
    assert longest_alternating(matrix) == pytest.approx((root - GAMMA) / coupling, rel=1e-9)
    assert longest_simultaneous(matrix) == pytest.approx(GAMMA / coupling, rel=1e-9)
    assert longest_alternating(np.array([[0.0, -1.0], [1.0, 0.0]])) == 0  # turns for ever
    assert np.isnan(longest_alternating(np.zeros((2, 2)))) and np.isnan(longest_simultaneous(np.zeros((2, 2))))


@pytest.mark.slow
def test_the_library_judges_the_longest_step_alike():
    game = gaussian_gan(objectives.NonSaturating(), GAMMA)
    at = jnp.zeros(2), jnp.zeros(2)
    values = [*roots(0.5 + GAMMA, 0.25), *roots(0.5 + 2 * GAMMA, 0.5)]
    report = dy.stability(game, dy.flows.Flow(), at)
    np.testing.assert_allclose(np.sort_complex(report.eigenvalues), np.sort_complex(values), atol=1e-6)
    blocks = [np.array([[0, -np.sqrt(k) / 2], [np.sqrt(k) / 2, -(0.5 + k * GAMMA)]]) for k in (1, 2)]
    longest = min(map(longest_alternating, blocks))
    for factor, verdict in ((0.99, "stable"), (1.01, "unstable")):
        sgd = optax.sgd(factor * longest)
        assert dy.stability(game, dy.updates.Alternating(sgd, sgd), at).verdict == verdict


def test_one_program_serves_many_objectives():
    both = objectives.Minimax(), objectives.Wasserstein()
    real, fake = jnp.array([0.3, -1.0]), jnp.array([0.5, 0.1])
    value = jax.jit(
        lambda index: (Chosen(index, both).discriminator(real, fake), Chosen(index, both).generator(real, fake))
    )
    for index, objective in enumerate(both):
        expected = objective.discriminator(real, fake), objective.generator(real, fake)
        np.testing.assert_allclose(value(jnp.asarray(index)), expected, rtol=1e-6)


def test_all_of_the_catalogue_is_surveyed_or_left_out_with_a_reason():
    covered = {type(entry.objective).__name__ for entry in entries().values()}
    assert covered | set(LEFT_OUT) == set(catalogue.members("objectives")) and not covered & set(LEFT_OUT)
    assert all(LEFT_OUT.values())


def test_the_command_line_knows_surveys():
    assert set(cli.SURVEYS) == set(experiments.SURVEYS)
    assert not set(cli.SURVEYS) & {*cli.EXPERIMENTS, *cli.COMPARISONS}
    assert experiments.settings("objectives", ["seeds=2", "gamma=1"]) == {"seeds": 2, "gamma": 1.0}
    with pytest.raises(ValueError, match="gamma is -1.0; expected a finite number > 0"):
        experiments.objectives_survey(gamma=-1.0)


@pytest.mark.slow
def test_a_small_one_at_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite's precision stays
    small = lambda **_: surveyed({"Minimax": objectives.Minimax()})  # noqa: E731
    monkeypatch.setattr(experiments, "RUNNABLE", dict(experiments.RUNNABLE) | {"objectives": small})
    assert cli.main(["run", "objectives", "--out", str(tmp_path), "--quiet", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    assert results["axes"]["objective"] == ["Minimax"]
