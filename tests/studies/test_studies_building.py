"""From a study's data to games and methods: every member of the catalogues, and what is refused."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tomli_w
from counting import Counting
from rich.console import Console

import dynamics as dy
from dynamics import catalogue, objectives, optimisers, studies
from dynamics.analysis import Stability
from dynamics.analysis.normal_forms.invariants import Invariant
from dynamics.analysis.stability.higher_orders import Decay, NormalForm
from dynamics.reports import studies as report
from dynamics.studies import StudyError, building, engine, figures, prediction, results
from dynamics.studies.agreement import CellEvidence, judge
from dynamics.studies.building import build

SGD = [{"name": "sgd", "learning_rate": 0.1}, {"name": "sgd", "learning_rate": 0.2}]
BILINEAR = {"name": "Bilinear", "matrix": [[1.0, 0.5, 0.0], [0.0, 0.8, 2.0]], "start": [[1.0, -0.5], [0.5, 1.0, 0.0]]}
# What cannot be left out. A new member that is not built without any belongs here.
NEEDED = {
    "Simultaneous": {"optimisers": SGD},
    "Alternating": {"optimisers": SGD},
    "Extragradient": {"optimisers": SGD, "extrapolation": [0.1, 0.3]},
    "PastExtrapolation": {"optimisers": SGD, "extrapolation": 0.1},
    "Averaged": {"inner_update": {"name": "Simultaneous", "optimisers": SGD}},
    "Lookahead": {"inner_update": {"name": "Alternating", "optimisers": SGD}},
    "WithVariables": {"inner_update": {"name": "Alternating", "optimisers": SGD}},
    "Rounded": {"inner_update": {"name": "Alternating", "optimisers": SGD}, "formats": ["bfloat16", 11]},
    "Scheduled": {
        "inner_update": {"name": "Simultaneous", "optimisers": SGD},
        "schedule": {"name": "Every", "interval": 2},
        "where": "update.steppers.optimisers.1.positional.0",
    },
    "AlternatingFlow": {"step": 0.1},
    "GapAwareFlow": {"ideal_loss": "game", "absolute_width": 0.1},
    "NoisyFlow": {"flow": {"name": "Flow", "rates": [1.0, 2.0]}, "scale": [0.1, 0.2]},
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": -0.3},
    "gap_aware_sgd": {"learning_rate": 0.1, "ideal_loss": 1.3, "decay": 0.9},
    "Bilinear": {"matrix": [[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]]},
    "Covariance": {"sigma": 1.0},
    "LinearWasserstein": {"mean": 1.5},
    "MatrixGame": {
        "first": [[1.0, -1.0, 3.0], [2, 0, 0]],
        "second": [[2.0, 0.0, 4.0], [0.0, 1.0, -1.0]],
        "strategies": "logits",
        "equilibria": [[[0.0, 0.6931471805599453], [0.0, 0.6931471805599453, 0.0]]],
    },
    "Quadratic": {
        "blocks": [[[[2.0, 0.5], [0.5, 1.0]], [[1], [-2]]], [[[-1.0, 2.0]], [[0.5]]]],
        "offsets": [[1, 0], [-0.5]],
    },
}
FROM_PYTHON = {"ModifiedFlow", "Natural"}  # take a function, geometries
NETWORKS = {"RingGAN", "MixtureGame", "VEEGAN", "VRAL"}  # made of functions, or the players are no lists of numbers


@pytest.fixture
def load(tmp_path):
    """Games and methods of a study with these tables."""

    def load(method, game=BILINEAR, **settings):
        study = studies.load(write(tmp_path, method, game, **settings))
        return [build(recipe) for recipe in study.recipes]

    return load


def write(folder, method, game=BILINEAR, **settings):
    path = folder / "some.toml"
    path.write_text(tomli_w.dumps({"game": game, "method": method, **settings}))
    return str(path)


def refused(load, method, game=BILINEAR):
    with pytest.raises(StudyError) as error:
        load(method, game)
    return str(error.value)


def adam(**choices):
    return {"update": {"name": "Simultaneous", "optimisers": [{"name": "adam", "learning_rate": 0.1, **choices}] * 2}}


# Every member


@pytest.mark.parametrize("room", ["updates", "flows"])
def test_every_method_is_built_from_data(room, load):
    members = catalogue.members(room)
    names = [name for name in members if name not in FROM_PYTHON]
    key = "update" if room == "updates" else "flow"
    found = load([{key: {"name": name, **NEEDED.get(name, {})}} for name in names])
    assert [type(method) for _, method, _ in found] == [members[name] for name in names]


def test_every_direction_is_built_from_data(load):
    members = catalogue.members("directions")
    directions = [{"name": name, **NEEDED.get(name, {})} for name in members]
    flows = [{"flow": {"name": "Flow", "direction": direction}} for direction in directions]
    updates = [{"update": {"name": "Simultaneous", "optimisers": SGD, "direction": name}} for name in members]
    for methods in (flows, updates):
        assert [type(method.direction) for _, method, _ in load(methods)] == list(members.values())


def test_every_optimiser_is_built_from_data(load):
    names = list(optimisers.CATALOGUE)
    specs = [{"learning_rate": 0.1} | NEEDED.get(name, {}) for name in names]
    tables = [[{"name": name, **spec}, SGD[1]] for name, spec in zip(names, specs, strict=True)]
    found = load([{"update": {"name": "Simultaneous", "optimisers": table}} for table in tables])
    for name, spec, (_, method, _) in zip(names, specs, found, strict=True):
        assert eqx.tree_equal(method.steppers.optimisers[0], optimisers.CATALOGUE[name](**spec)), name


@pytest.mark.parametrize("name", [name for name in catalogue.members("games") if name not in NETWORKS])
def test_every_game_is_built_from_data(name, load):
    start = {"Quadratic": [[1.0, -0.5], [0.5]]}.get(
        name, [0.7, 0.2] if name in ("Covariance", "LinearWasserstein") else None
    )
    if start is None:
        start = [np.asarray(player).tolist() for player in catalogue.find("games", name).example()[1]]
    needed = {"strategies": "mixed"} if name == "MatchingPennies" else {}
    [(game, _, players)] = load(
        {"flow": {"name": "Flow"}}, {"name": name, "start": start, **needed, **NEEDED.get(name, {})}
    )
    assert type(game) is catalogue.find("games", name)
    assert [np.shape(player) for player in players] == [np.shape(player) for player in start]


# Values


def test_wrapped_methods_are_those_of_python(load):
    inner = {
        "name": "Lookahead",
        "steps": 3,
        "weight": 0.4,
        "inner_update": {
            "name": "Extragradient",
            "extrapolation": [0.1, 0.2],
            "order": [1, 0],
            "repeats": [2, 1],
            "direction": {"name": "Noisy", "scale": 0.5, "direction": {"name": "SymplecticAdjustment", "align": False}},
            "optimisers": [
                {"name": "adam", "learning_rate": 0.1, "correct_mean": False, "nesterov": True},
                {"name": "optimistic", "learning_rate": 0.2, "first": "zero", "strength": 0.3},
            ],
        },
    }
    [(_, found, _)] = load({"update": {"name": "Averaged", "decay": 0.9, "inner_update": inner}})
    extragradient = dy.updates.Extragradient(
        optimisers.adam(0.1, correct_mean=False, nesterov=True),
        optimisers.optimistic(0.2, "zero", 0.3),
        extrapolation=(0.1, 0.2),
        order=(1, 0),
        repeats=(2, 1),
        direction=dy.directions.Noisy(dy.directions.SymplecticAdjustment(align=False), 0.5),
    )
    assert eqx.tree_equal(found, dy.updates.Averaged(dy.updates.Lookahead(extragradient, 3, 0.4), 0.9))


PENALISED = {"name": "DiracGAN", "start": [1.0, 1.0], "penalty": {"name": "R1", "weight": 0.6}}


def scheduled(schedule, **more):
    return {"update": {"name": "Scheduled", "schedule": schedule, "inner_update": {"name": "Alternating"}, **more}}


def test_schedules_are_those_of_python(load):
    lazy = scheduled({"name": "Every", "interval": 3}, skip=True)
    lazy["update"]["inner_update"]["optimisers"] = SGD
    [(game, method, start)] = load(lazy, PENALISED)
    inner = dy.updates.Alternating(optimisers.sgd(0.1), optimisers.sgd(0.2))
    assert eqx.tree_equal(method, dy.updates.Scheduled(inner, dy.schedules.Every(3), skip=True))
    # A rate that decays, and two numbers of the inner update that are multiplied, one in two ways.
    decay = {"name": "exponential_decay", "init_value": 0.3, "transition_steps": 2, "decay_rate": 0.5}
    rates = [{"name": "sgd", "learning_rate": decay}, SGD[1]]
    averaged = {"name": "Averaged", "decay": 0.5, "inner_update": {"name": "Simultaneous", "optimisers": rates}}
    warm = {"name": "linear_schedule", "init_value": 0.5, "end_value": 1.0, "transition_steps": 2}
    paths = ["update.decay", "update.inner_update.steppers.optimisers.1.positional.0", "game.penalty.weight"]
    tables = scheduled(warm, where=paths)
    tables["update"]["inner_update"] = averaged
    [(game, method, start)] = load(tables, PENALISED)
    state = method.init(game, start)
    for step in range(3):
        factor = min(0.5 + step / 4, 1)
        played, update = method.at(game, jnp.asarray(step))
        np.testing.assert_allclose(update.decay, 0.5 * factor)
        np.testing.assert_allclose(update.inner_update.steppers.optimisers[1].positional[0], 0.2 * factor)
        np.testing.assert_allclose(played.penalty.weight, 0.6 * factor)
    # From (1, 1) with the rates 0.3 and 0.2/2, the weight 0.6/2 and the decay 0.5/2.
    moves = -0.3 / (1 + np.exp(-1)), 0.1 * (1 / (1 + np.exp(1)) - 0.3)
    expected = [1 + (1 - 0.25) * move for move in moves]
    # optax computes the decay of the rate in float32.
    np.testing.assert_allclose(method.step(game, state).players, expected, rtol=1e-7)


@pytest.mark.slow
def test_a_lazy_penalty_is_predicted_from_a_whole_period(tmp_path):
    lazy = scheduled({"name": "Every", "interval": 4})
    cells = []
    for rate in (0.4, 0.5):  # the largest stable one of the weight 1 is 0.450
        steps = [{"name": "sgd", "learning_rate": rate}] * 2
        lazy["update"]["inner_update"] = {"name": "Simultaneous", "optimisers": steps}
        game = {**PENALISED, "penalty": {"name": "R1", "weight": 1.0}}
        cells += studies.stabilities(studies.load(write(tmp_path, lazy, game)))
    assert [str(cell.stability.verdict) for cell in cells] == ["stable", "unstable"]


@pytest.mark.parametrize(
    "method, parts",
    [
        (scheduled("Every"), ["update.schedule", "'Every'", "a table with the name of a schedule"]),
        (scheduled({"name": "Evry", "interval": 3}), ["schedule.name", "'Evry'", "'Every'"]),
        (scheduled({"name": "join_schedules"}), ["schedule.name", "not one of the schedules"]),
        (scheduled({"name": "Every"}), ["update.schedule", "Every needs 'interval'"]),
        (scheduled({"name": "Every", "interval": 2.5}), ["update.schedule", "2.5", "whole number"]),
        (scheduled({"name": "Every", "interval": "3"}), ["schedule.interval", "'3'", "a number"]),
        (scheduled({"name": "Every", "every": 3, "interval": 1}), ["schedule.every", "no such argument"]),
        (scheduled({"name": "constant_schedule", "value": True}), ["schedule.value", "a number"]),
        (scheduled({"name": "Every", "interval": 2}, where=3), ["update.where", "got 3", "'game.noise'"]),
        (scheduled({"name": "Every", "interval": 2}, where="penalty"), ["update.where", "'penalty'", "a path"]),
        (scheduled({"name": "Every", "interval": 2}, where="game.penalti"), ["DiracGAN has no 'penalti'", "'penalty'"]),
        (scheduled({"name": "Every", "interval": 2}, where="update.order.7"), ["tuple has no '7'"]),
        (scheduled({"name": "Every", "interval": 2}, where="game.__class__"), ["has no '__class__'"]),
        (scheduled({"name": "Every", "interval": 2}, where="update.order"), ["where picks", "expected a number"]),
        ({"update": {"name": "Scheduled"}}, ["method.update", "schedule"]),
        (adam(learning_rate={"name": "linear_schedule"}), ["learning_rate", "linear_schedule needs 'init_value'"]),
        (adam(b1={"name": "constant_schedule", "value": 0.9}), ["optimisers.0.b1", "a table", "a number"]),
    ],
)
def test_schedules_that_data_cannot_say(method, parts, load):
    if method["update"]["name"] == "Scheduled":
        method["update"]["inner_update"] = {"name": "Alternating", "optimisers": SGD}
    message = refused(load, method, PENALISED)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


def test_a_schedule_without_anything_to_multiply_is_refused(load):
    method = scheduled({"name": "Every", "interval": 2})
    method["update"]["inner_update"] = {"name": "Alternating", "optimisers": SGD}
    assert "Bilinear has no penalty for the schedule" in refused(load, method)


def test_updates_of_games_with_variables_keep_them(tmp_path, monkeypatch):
    members = catalogue.members
    named = {"Counting": Counting}
    monkeypatch.setattr(catalogue, "members", lambda room: members(room) | (named if room == "games" else {}))
    game = {"name": "Counting", "start": [1.0, 2.0]}
    methods = [{"update": {"name": "Alternating", "optimisers": SGD}}, {"flow": {"name": "Flow"}}]
    study = studies.load(write(tmp_path, methods, game, steps=5, until=1.0))
    (counting, update, start), (_, flow, _) = (build(recipe) for recipe in study.recipes)
    assert type(update) is dy.updates.WithVariables and type(flow) is dy.flows.Flow
    state = update.init(counting, start)
    for _ in range(3):
        state = update.step(counting, state)
    assert int(state.memory.variables[0]) == 6  # a turn of each player is a pass
    assert [str(cell.stability.verdict) for cell in studies.stabilities(study)] == ["neutral", "neutral"]


def test_texts_lists_and_whole_numbers_stay_what_they_are(load):
    found = load(
        [
            {"update": {"name": "RungeKutta", "method": "heun", "rates": [0.1, 0.3]}},
            {"update": {"name": "ODEGAN", "rates": 1, "generator": 1, "discriminator": 0}},
            {"flow": {"name": "NoisyFlow", "scale": 0.1, "flow": {"name": "GapAwareFlow", "ideal_loss": 1.0}}},
            {"flow": {"name": "Flow", "direction": {"name": "Unrolled", "steps": 2, "higher_order": False}}},
        ]
    )
    expected = [
        dy.updates.RungeKutta((0.1, 0.3), "heun"),
        dy.updates.ODEGAN(1.0, generator=1, discriminator=0),
        dy.flows.NoisyFlow(dy.flows.GapAwareFlow(1.0), 0.1),
        dy.flows.Flow(dy.directions.Unrolled(2, higher_order=False)),
    ]
    for (_, method, _), own in zip(found, expected, strict=True):
        assert eqx.tree_equal(method, own)


def test_payoff_matrices_and_whole_matrices_of_games(load):
    flow = {"flow": {"name": "Flow"}}
    data = {"name": "MatrixGame", "start": [[0.2, 0.1], [0.0, 0.0, 0.5]], **NEEDED["MatrixGame"]}
    [(game, _, players)] = load(flow, data)
    np.testing.assert_array_equal(game.first, [[1.0, -1.0, 3.0], [2.0, 0.0, 0.0]])
    assert game.strategies == "logits" and float(game.duality_gap(game.equilibria()[0])) == pytest.approx(0, abs=1e-12)
    data = {
        "name": "IteratedPrisonersDilemma",
        "payoffs": [[-1, -3], [0, -2]],
        "normalised": True,
        "start": [[0.1] * 5] * 2,
    }
    [(game, _, _)] = load(flow, data)
    assert eqx.tree_equal(
        game, dy.games.IteratedPrisonersDilemma(payoffs=jnp.asarray([[-1.0, -3.0], [0.0, -2.0]]), normalised=True)
    )
    matrices = [[[2, 0, 1], [0, 1, 0], [1, 0, 3]], [[0, 0, -1], [0, 0, 0], [-1, 0, 2]]]
    data = {"name": "Quadratic", "blocks": matrices, "shapes": [[2], [1]], "start": [[1.0, 1.0], [1.0]]}
    [(game, _, _)] = load(flow, data)
    assert game.shapes == ((2,), (1,)) and float(game.matrices[0][2, 2]) == 3.0


# What is refused


@pytest.mark.parametrize(
    "method, parts",
    [
        ({"flow": {"name": "ModifiedFlow", "step": 0.1}}, ["method.flow", "ModifiedFlow", "'build'", "from Python"]),
        ({"flow": {"name": "ModifiedFlow", "build": "sgd", "step": 0.1}}, ["ModifiedFlow", "use it from Python"]),
        (
            {"update": {"name": "Averaged", "inner_update": "Simultanous"}},
            ["inner_update", "did you mean 'Simultaneous'"],
        ),
        ({"update": {"name": "Averaged", "inner_update": {"steps": 3}}}, ["inner_update", "a table with a name"]),
        (
            {"update": {"name": "Lookahead", "inner_update": {"name": "Lookahead"}}},
            ["update.inner_update", "Lookahead"],
        ),
        ({"flow": {"name": "NoisyFlow", "scale": 0.1, "flow": {"name": "Flwo"}}}, ["flow.flow.name", "'Flow'"]),
        ({"flow": {"name": "NoisyFlow", "scale": True, "flow": "Flow"}}, ["flow.scale", "True"]),
        ({"flow": {"name": "Flow", "direction": {"name": "Noisy", "direction": 3}}}, ["direction.direction", "3"]),
        ({"flow": {"name": "Flow", "rates": {"a": 1.0}}}, ["flow.rates", "a table", "a number"]),
        ({"flow": {"name": "Flow", "rates": [[1.0], [1.0, 2.0]]}}, ["flow.rates", "equal length"]),
        ({"flow": {"name": "Flow", "rates": [True, False]}}, ["flow.rates.0", "True", "numbers"]),
        ({"update": {"name": "RungeKutta", "method": 4}}, ["update.method", "4", "a text"]),
        ({"update": {"name": "RungeKutta", "method": "rk5"}}, ["rk5"]),
        (
            {"flow": {"name": "Flow", "direction": {"name": "Consensus", "weight": "big"}}},
            ["weight", "'big'", "a number"],
        ),
        (
            {"flow": {"name": "Flow", "direction": {"name": "Unrolled", "higher_order": 1}}},
            ["higher_order", "true or false"],
        ),
        (adam(nesterov=1), ["optimisers.0.nesterov", "got 1", "true or false"]),
        (adam(b1=True), ["optimisers.0.b1", "True", "a number"]),
        (adam(b1="0.9"), ["optimisers.0.b1", "'0.9'", "a number"]),
        (adam(b1=[0.9]), ["optimisers.0.b1", "a list", "a number"]),
        (adam(b1={"name": "x"}), ["optimisers.0.b1", "a table", "a number"]),
        (adam(b3=0.9), ["optimisers.0.b3", "no such argument", "'b2'"]),
    ],
)
def test_what_data_cannot_say_is_refused_by_its_key(method, parts, load):
    message = refused(load, method)
    assert len(message.splitlines()) == 1 and message.count("method.") == 1
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "game, parts",
    [
        ({"name": "MatchingPennies", "strategies": True}, ["game.strategies", "a text"]),
        ({"name": "MatrixGame", "first": [[1.0, 2.0], [3.0]]}, ["game.first", "equal length"]),
        ({"name": "MatrixGame", "first": [[1.0]], "equilibria": [0.5]}, ["game.equilibria.0", "one entry per player"]),
        ({"name": "RingGAN", "key": 0.5}, ["game.key", "0.5", "whole number"]),
        ({"name": "Bilinear", "start": 1.0}, ["game.start", "one entry per player"]),
        ({"name": "Bilinear", "start": [1.0, "x"]}, ["game.start.1", "'x'", "numbers"]),
    ],
)
def test_games_that_data_cannot_say(game, parts, load):
    message = refused(load, {"flow": {"name": "Flow"}}, {"start": [[0.1, 0.1], [0.1, 0.1]], **game})
    assert message.count("game.") == 1
    for part in parts:
        assert part in message


# Running


PLANAR = {"name": "PlanarQuadratic", "a": 0.4, "b": 1.0, "c": 0.2, "start": [1.0, 0.5]}
DIRAC = {"name": "DiracGAN", "penalty": {"name": "R1", "weight": 0.3}, "start": [0.6, 0.5]}
METHODS = [
    {"update": {"name": "Alternating", "optimisers": [{"name": "rmsprop", "learning_rate": 0.02, "eps": 0.01}] * 2}},
    {"update": {"name": "Simultaneous", "optimisers": [{"name": "amsgrad", "learning_rate": 0.02, "eps": 0.2}] * 2}},
]


@pytest.mark.slow
def test_games_with_equal_players_share_a_program_and_nothing_else(tmp_path):
    both, *alone = (
        studies.load(write(tmp_path, METHODS[0], game, steps=300)) for game in ([PLANAR, DIRAC], PLANAR, DIRAC)
    )
    assert [len(group) for group in engine._groups(engine.prepare(both))] == [2]
    cells = studies.execute(both).cells
    for cell, own in zip(cells, (studies.execute(study).cells[0] for study in alone), strict=True):
        for name in ("predicted_rate", "rate", "extent", "distance"):
            assert getattr(cell, name) == pytest.approx(getattr(own, name), rel=1e-9)
        assert (cell.label, cell.outcome, cell.agreement) == (own.label, own.outcome, own.agreement)


def test_many_cells_of_different_games_do_not_share(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "MIXED", 1)
    study = studies.load(write(tmp_path, METHODS[0], [PLANAR, DIRAC]))
    assert [len(group) for group in engine._groups(engine.prepare(study))] == [1, 1]


@pytest.mark.slow
def test_predictions_are_those_of_stability(tmp_path):
    """Also where a memory of squares vanishes, and where a maximum stays wherever it is put."""
    study = studies.load(write(tmp_path, METHODS[1], DIRAC, steps=50))
    [judged], [cell] = studies.stabilities(study), studies.execute(study).cells
    expected = dy.stability(judged.game, judged.method)
    assert any("vanishes" in note for note in expected.notes)
    assert judged.stability.notes == expected.notes and judged.label == cell.label
    assert judged.stability.radius == pytest.approx(expected.radius, rel=1e-12)
    assert (cell.predicted, cell.smoothness) == (str(expected.verdict), expected.smoothness)
    assert cell.extent == pytest.approx(expected.radius, rel=1e-12)


@pytest.mark.slow
def test_a_noisy_flow_is_run_with_the_study_s_seed(tmp_path):
    flow = {"name": "NoisyFlow", "scale": 0.01, "flow": {"name": "Flow"}}
    study = studies.load(write(tmp_path, {"flow": flow}, PLANAR, until=20.0, seed=3))
    [cell] = studies.execute(study).cells
    assert cell.agreement == "agrees" and cell.predicted == "stable" and "noise" in cell.explanation
    assert 1e-4 < cell.distance < 0.2


@pytest.mark.slow
def test_precision_is_an_axis(tmp_path):
    """Bits of the significand over an axis, names of formats, and rounding at random with the study's seed."""
    inner = {"name": "Simultaneous", "optimisers": SGD}
    update = {"name": "Rounded", "formats": [8], "inner_update": inner}
    drawn = {"name": "Rounded", "formats": ["bfloat16"], "rounding": "stochastic", "exact": True, "inner_update": inner}
    axes = {"method.0.update.formats.0": [6, 11, 24]}
    methods = [{"label": "nearest", "update": update}, {"label": "drawn", "update": drawn}]
    blocks, offsets = [[[[2.0]], [[1.0]]], [[[-1.0]], [[1.5]]]], [[1.0], [-0.5]]  # at rest away from 0
    game = {"name": "Quadratic", "blocks": blocks, "offsets": offsets, "start": [[1.0], [0.5]]}
    found = studies.execute(studies.load(write(tmp_path, methods, game, steps=2000, axes=axes)))
    nearest_, drawn_ = ([cell for cell in found.cells if cell.method == name] for name in ("nearest", "drawn"))
    assert {cell.predicted for cell in found.cells} == {"stable"}
    distances = [cell.distance for cell in nearest_]
    assert nearest_[0].outcome == "stalled" and distances[0] > 4 * distances[1] > 16 * distances[2]
    # A step below half the distance of neighbours moves nothing to the nearest, at random what it should on average.
    assert max(cell.distance for cell in drawn_) < distances[0]
    assert "Predictions are those without rounding" in report.markdown(found)
    with pytest.raises(StudyError, match="format is 'bfloat15'; did you mean 'bfloat16'"):
        list(map(build, studies.load(write(tmp_path, {"update": update | {"formats": ["bfloat15"]}}, PLANAR)).recipes))


# One program for several objectives


def test_objectives_that_are_not_chosen_add_nothing_however_far_a_run_goes():
    choices = [{"name": "KL"}, {"name": "Exponential", "saturating": False}, {"name": "NonSaturating"}, {"name": "KL"}]
    for chosen, objective in ((2, objectives.NonSaturating()), (1, objectives.Exponential(False))):
        several = building._one_objective(choices, chosen, "game.0")
        for size in (0.3, 1e3):  # e^1000 is infinite
            scores = jnp.asarray([size, -size * (chosen == 2)])
            for loss in ("discriminator", "generator"):
                found, expected = (
                    jax.value_and_grad(lambda x, o=o, loss=loss: getattr(o, loss)(0.5 * x, x))(scores)
                    for o in (several, objective)
                )
                np.testing.assert_array_equal(found[0], expected[0])
                np.testing.assert_array_equal(found[1], expected[1])


# Predictions in full


def test_a_point_that_is_no_equilibrium_is_told_of_as_far_as_it_goes():
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 + p[0] * p[1], p[1] ** 2 - p[0]), [(1.0, 1.0)])
    report = dy.stability(game, dy.flows.Flow(), require_equilibrium=False)
    recipe = types.SimpleNamespace(game="g", objective="", penalty="", method="m", kind="flow", axes={"a.b": 0.5})
    cell = results.Judged(recipe, game, dy.flows.Flow(), report)
    assert prediction.text([cell], detail=True) == f"g / m / flow / a.b=0.5\n{report.describe()}"
    assert prediction.to_json("s", [cell], detail=True)["cells"][0].keys() == {"label", *report.to_dict()}
    console = Console(width=120)
    with console.capture() as text:
        console.print(prediction.table([cell]))
    assert "g: -; tau* -" in text.get() and "m / flow / a.b=0.5" in text.get()


# Agreement


def evidence(verdict, rate, **others):
    values = {name: None for name in Stability.__dataclass_fields__}
    values |= dict(
        kind="map", verdict=dy.analysis.Verdict(verdict), rate=rate, smoothness="smooth", manifold_dimension=0, order=1
    )
    known = dict(defect=0.0, outcome="undecided", rate=0.0, distance=1.0, start=1.0, near_outcome="undecided")
    known |= dict(exponent=float("nan"), near_rate=0.0, near_distance=1e-3, near_start=1e-3, length=2000) | others
    return CellEvidence(stability=Stability(**values | known.pop("stability", {})), **known)


def test_a_rate_too_small_for_the_run_is_said_to_be_so():
    for verdict, rate in (("stable", -1e-8), ("unstable", 1e-17)):
        agreement, explanation = judge(evidence(verdict, rate, outcome="cycling", near_rate=float("nan")))
        assert agreement == "untested" and "Too slow to be seen" in explanation and "1%" in explanation
    assert judge(evidence("unstable", 0.02, near_rate=float("nan")))[0] == "unexplained"


@pytest.mark.parametrize("outcome", [outcome.name for outcome in dy.Outcome])
def test_a_marginal_verdict_predicts_nothing(outcome):
    """Whatever the run does: it is neither as predicted nor different."""
    agreement, explanation = judge(evidence("marginal", 0.0, outcome=outcome))
    assert agreement == "untested" and explanation.startswith("Marginal")


def test_a_verdict_from_all_pieces_is_held_against_the_run():
    kinked = {"smoothness": "kinked"}
    assert "kink" in judge(evidence("marginal", 0.0, stability=kinked, outcome="converged"))[1]
    judged = kinked | {"pieces": object()}
    converged = dict(outcome="converged", near_outcome="converged", distance=0.0, stability=judged)
    assert judge(evidence("stable", -0.1, **converged))[0] == "agrees"
    assert judge(evidence("stable", -0.1, near_rate=0.1, stability=judged))[0] == "unexplained"


def by_order_three(verdict, coefficient, decay=None, **others):
    """A run of 2,000 steps from the distance 1 under r' = c r^3; the run from close by does not move."""
    numbers = dict(rotations=np.zeros((1, 1)), errors=np.zeros((1, 1)), quadratic=0.0, quadratic_error=0.0, within=0.0)
    form = NormalForm(eigenvalues=np.array([1j]), cubic=np.array([[coefficient]]), **numbers)
    return judge(evidence(verdict, 0.0, stability={"order": 3, "normal_form": form, "decay": decay}, **others))


def test_a_power_law_is_held_against_the_run():
    """r = (1 + 2 |c| t)^(-1/2): 0.153 for c = -0.0104 after 2,000 steps."""
    agreement, explanation = by_order_three("stable", -0.0104, distance=0.16)
    assert agreement == "agrees" and "should be 0.153" in explanation and "is 0.16" in explanation
    assert by_order_three("stable", -0.0104, distance=0.5)[0] == "explained"
    seen = dict(distance=0.16, outcome="power_law", exponent=0.49)
    agreement, explanation = by_order_three("stable", -0.0104, Decay(0.5, 6.9), **seen)
    assert agreement == "agrees" and "exponent should be 0.5, and is 0.49" in explanation
    # Along an ellipse; with another exponent, or three times as far, it is another law.
    assert by_order_three("stable", -0.0104, Decay(0.5, 6.9), **seen | {"distance": 0.09})[0] == "agrees"
    assert by_order_three("stable", -0.0104, Decay(0.5, 6.9), **seen | {"distance": 0.04})[0] == "explained"
    other = seen | {"distance": 0.09, "exponent": 0.26}
    assert by_order_three("stable", -0.0104, Decay(0.5, 6.9), **other)[0] == "explained"
    assert (
        by_order_three("stable", -0.0104, distance=0.16, near_outcome="diverged", near_distance=1.0)[0] == "unexplained"
    )
    assert "Too slow" in by_order_three("stable", -1e-6)[1]
    assert by_order_three("unstable", 0.0104, outcome="diverged")[0] == "agrees"
    assert by_order_three("unstable", 0.0104, near_outcome="converged", near_distance=0.0)[0] == "unexplained"


def test_a_conserved_quantity_is_held_against_the_run():
    conserved = {"order": 0, "invariant": Invariant("quadratic form", np.eye(2), 0.0)}
    assert judge(evidence("neutral", 0.0, stability=conserved, outcome="cycling"))[0] == "agrees"
    assert judge(evidence("neutral", 0.0, stability=conserved))[0] == "agrees"
    assert judge(evidence("neutral", 0.0, stability=conserved, outcome="converged", distance=0.0))[0] == "explained"
    for near in (dict(near_distance=1e-5), dict(near_distance=1e-1), dict(near_outcome="converged")):
        assert judge(evidence("neutral", 0.0, stability=conserved, **near))[0] == "unexplained"


# The built-in study of all methods


def test_the_study_of_all_methods_has_every_method():
    study = studies.load("methods")
    found = [build(recipe)[1] for recipe in study.recipes]
    names = {type(method).__name__ for method in found} | {
        type(method.direction).__name__ for method in found if hasattr(method, "direction")
    }
    # Of a game without variables `WithVariables` is the update inside it.
    # A schedule changes another update, as such it is not in the table.
    left_out = {"FictitiousPlay", "Noisy", "NoisyFlow", "WithVariables", "Scheduled", "Rounded"} | FROM_PYTHON
    members = {name for room in ("updates", "flows", "directions") for name in catalogue.members(room)}
    assert members - names == left_out
    text = str(study.data["method"])
    assert all(f"'name': '{name}'" in text for name in optimisers.CATALOGUE)
    assert len({results.label(recipe) for recipe in study.recipes}) == len(study.recipes)


def test_an_old_name_of_a_direction_works_for_one_release(load):
    method = {"update": {"name": "Simultaneous", "direction": {"name": "LookAhead", "weight": 0.2}, "optimisers": SGD}}
    with pytest.warns(DeprecationWarning, match="'LookAhead' is now 'PolicyPrediction'"):
        [(_, update, _)] = load(method)
    assert update.direction == dy.directions.PolicyPrediction(0.2)


def test_the_window_of_a_portrait_holds_what_stays():
    centre = np.array([1.0, -1.0])
    start, above = centre + [1.0, 0.5], centre + [0.0, 1.9]
    assert figures._window([np.array([start, centre])], centre) == pytest.approx(1.6)
    assert figures._window([np.array([start, above, centre])], centre) == pytest.approx(1.06 * 1.9)
    away = centre + np.array([[1.0, 0.5], [30.0, -40.0]])
    assert figures._window([np.array([start, centre]), away], centre) == pytest.approx(1.6)
