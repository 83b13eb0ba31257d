"""Time series, basins and eigenvalues over a number, from the tables of a study."""

import json
import pathlib

import jax
import numpy as np
import pytest

import dynamics as dy
from dynamics import _locks, studies
from dynamics.plots import basins as basins_picture
from dynamics.plots import eigenvalue_path, series
from dynamics.reports import studies as report
from dynamics.studies import engine, figures, schema

STUDY = """
steps = 400
until = 20.0
draw = []

[[game]]
label = "Dirac"
name = "DiracGAN"
start = [0.6, -0.4]
[game.each]
objective = ["Minimax", "Wasserstein"]
penalty = ["none", { name = "R1", weight = 0.5 }]

[[game]]
label = "toy"
name = "TTURToy"
start = [0.5, -0.4]

[[method]]
label = "plain"
flow = { name = "Flow", rates = [1.0, 2.0] }
[method.update]
name = "Alternating"
optimisers = [{ name = "sgd", learning_rate = 0.001 }, { name = "sgd", learning_rate = 0.01 }]

[[series]]
game = "toy"
methods = ["plain"]
kind = "map"
seed = 7

[[basins]]
game = "Dirac"
objective = "Minimax"
penalty = "R1"
method = "plain"
low = [-1.0, -0.5]
high = 1.5
points = 3

[[eigenvalues]]
game = "Dirac"
objective = "Minimax"
penalty = "R1"
method = "plain"
kind = "flow"
over = "game.0.each.penalty.1.weight"
label = "weight"
low = 0.1
high = 2.0
count = 5
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Reads the study, with settings."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("study.toml").write_text(STUDY)
    return lambda *settings: schema.read("study.toml", settings)


def computed(study, kind):
    (request,) = [request for request in figures.requests(study, engine.prepare(study)) if request.kind == kind]
    with _locks.tracing:
        return figures.figure(study, request)


def test_eigenvalues_over_the_weight_of_a_penalty(loaded):
    result = computed(loaded(), "eigenvalues")
    weight = np.linspace(0.1, 2.0, 5)
    np.testing.assert_allclose(result.path.parameters, weight)
    # Rates 1 and 2: the Jacobian [[0, -1/2], [1, -2 weight]] has trace -2 w and determinant 1/2.
    root = np.sqrt(weight**2 - 0.5 + 0j)
    expected = np.sort_complex(np.stack([-weight - root, -weight + root], axis=1))
    np.testing.assert_allclose(np.sort_complex(result.path.eigenvalues), expected, atol=1e-12)
    assert result.crossings() == [] and "over weight" in result.describe()
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_where_the_boundary_is_crossed():
    path = dy.analysis.SpectrumPath("map", np.array([0.0, 1.0]), np.array([[0.5], [1.25]]), np.array([0.5, 1.25]), None)
    result = figures.EigenvaluesOfCell("a cell", "rate", path)
    assert result.crossings() == pytest.approx([2 / 3]) and "at 0.6667" in result.describe()


@pytest.mark.slow
def test_a_noisy_run_is_that_of_its_key(loaded):
    result = computed(loaded(), "series")
    update = dy.updates.Alternating(dy.optimisers.sgd(0.001), dy.optimisers.sgd(0.01))
    run = dy.simulate(dy.games.TTURToy(), update, (0.5, -0.4), steps=400, key=jax.random.key(7))
    np.testing.assert_allclose(result.values[0], np.stack(run.players, axis=1), rtol=1e-9)
    assert result.times[0].tolist() == list(range(401)) and "seed 7" in result.describe()
    exact = computed(loaded("series=[{game='toy',methods=['plain'],kind='map'}]"), "series")
    assert exact.seed is None and exact.spreads()[0, 1] < result.spreads()[0, 1] / 3
    assert {axes.get_ylabel() for axes in series(result).axes} == {"player 0", "player 1"}


@pytest.mark.slow
def test_a_report_with_all_of_them_from_a_store(loaded, tmp_path):
    study = loaded()
    results = studies.execute(study, store=tmp_path / "kept")
    again = studies.execute(study, store=tmp_path / "kept")
    (basins,), (path,) = results.basins, results.eigenvalues
    game = dy.games.DiracGAN(dy.objectives.Minimax(), dy.penalties.R1(0.5))
    update = dy.updates.Alternating(dy.optimisers.sgd(0.001), dy.optimisers.sgd(0.01))
    direct = dy.basins(game, update, (-1.0, -0.5), (1.5, 1.5), points=3, steps=400)
    assert basins.basins.names == direct.names and basins.basins.counts.tolist() == direct.counts.tolist()
    np.testing.assert_array_equal(again.basins[0].basins.labels, direct.labels)
    np.testing.assert_array_equal(again.eigenvalues[0].path.eigenvalues, path.path.eigenvalues)
    np.testing.assert_array_equal(again.series[0].values[0], results.series[0].values[0])
    assert list(results.figures()) == ["series", "basins", "eigenvalues"]
    written = report.write(again, tmp_path / "out")
    assert {"series.png", "basins.png", "eigenvalues.png"} <= {file.name for file in written}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "![Basins of attraction](basins.png)" in text and "%" in text and "standard deviations" in text
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert data["basins"][0]["counts"] == direct.counts.tolist() and len(data["eigenvalues"][0]["parameters"]) == 5
    assert basins_picture(again.basins[0].basins).axes[0].get_xlabel() == "theta, generator"
    path = again.eigenvalues[0].path
    assert eigenvalue_path(path.parameters, path.eigenvalues, path.kind, title="mine").get_suptitle().startswith("mine")


BAD = [
    ("series.0.seed=-1", ["series.0.seed", "-1", "a whole number >= 0"]),
    ("series.0.seed=true", ["series.0.seed", "True"]),
    ("series.0.methods=['a','b','c','d','e','f','g']", ["series.0.methods", "6 at most"]),
    ("series.0.methods=['plan']", ["series.0.methods", "'plan'", "'plain'"]),
    ("series.0.steps=3", ["series.0.steps", "no such key"]),
    ("basins.0.low='a'", ["basins.0.low", "'a'", "one for each player"]),
    ("basins.0.low=[0.0]", ["basins.0.low", "[0.0]", "2 players"]),
    ("basins.0.points=1", ["basins.0.points", "1", "from 2 to 1001"]),
    ("basins.0.period=[0.0,1.0]", ["basins.0.period", "a positive number"]),
    ("basins.0.objective='Hinge'", ["basins.0.objective", "'Hinge'", "Minimax"]),
    ("eigenvalues.0.over='game.0.each.penalty.2.weight'", ["2", "list of 2"]),
    ("eigenvalues.0.over='game.1.start.0'", ["eigenvalues.0.over", "no number of 'Dirac'"]),
    ("eigenvalues.0.over='steps'", ["eigenvalues.0.over", "game or method"]),
    ("eigenvalues.0.over='game.0.label'", ["eigenvalues.0.over", "'Dirac'", "the path of a number"]),
    ("eigenvalues.0.high=0.0", ["eigenvalues.0", "low 0.1 and high 0.0"]),
    ("eigenvalues.0.low=-1.0", ["R1.weight is -1", ">= 0"]),
    ("eigenvalues=[{game='Dirac'}]", ["eigenvalues.0.method: missing", "label of the method"]),
]


@pytest.mark.parametrize(("setting", "parts"), BAD, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_tables_that_cannot_be_drawn(setting, parts, loaded):
    with pytest.raises(studies.StudyError) as error:
        study = loaded(setting)
        figures.requests(study, engine.prepare(study))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("game.0.each.start=[[1.0, 1.0]]", '"game.0.start.0" under [axes]'),
        ("game.1.each={start=[[1.0, 1.0]]}", '"game.1.start.0" under [axes]'),
        ("game.1.each={noise=[1.0]}", "move it to [[game]]"),
        ("game=[{name='Bilinear',matrix=1.0,start=[1.0,1.0],each={matrix=[1.0]}}]", '"game.0.matrix" under [axes]'),
        ("game={name='DiracGAN',noise=0.1,start=[1.0,1.0],each={noise=[1.0]}}", '"game.noise" under [axes]'),
        ("game.0.each.penalties=['none']", "did you mean 'penalty'?"),
    ],
)
def test_what_cannot_vary_under_each_says_what_to_write(setting, fix, loaded):
    with pytest.raises(studies.StudyError, match="only objective and penalty vary there") as error:
        loaded(setting)
    assert fix in str(error.value)
