"""Methods on one game, side by side."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.games import Bilinear, DiracGAN, SpuriousAttractor
from dynamics.penalties import R1
from dynamics.plots._style import Picture

GAME = Bilinear(2.0)
START = (jnp.asarray(1.0), jnp.asarray(-0.5))


def rates(first, second):
    return optax.sgd(first), optax.sgd(second)


@pytest.fixture(scope="module")
def comparison():
    methods = {
        "simultaneous": dy.updates.Simultaneous(*rates(0.1, 0.3)),
        "extragradient": dy.updates.Extragradient(*rates(0.1, 0.1), extrapolation=(0.1, 0.1)),
        "flow": dy.flows.Flow(dy.directions.Consensus(0.25)),
    }
    return dy.compare(GAME, methods, START, steps=300, until=20.0)


def test_outcomes_rates_and_costs(comparison):
    rows = {row["method"]: row for row in comparison.rows()}
    assert [rows[name]["verdict"] for name in rows] == ["unstable", "stable", "stable"]
    assert rows["simultaneous"]["outcome"] == "diverged"
    # |1 +- 2i sqrt(.1 x .3)|, and of extragradient |1 - s^2 + is| with s = .2; consensus adds -w sigma^2 to the flow.
    assert rows["simultaneous"]["predicted_rate"] == pytest.approx(np.log(1 + 4 * 0.03) / 2)
    assert rows["extragradient"]["predicted_rate"] == pytest.approx(np.log(abs(1 - 0.04 + 0.2j)))
    assert rows["flow"]["predicted_rate"] == pytest.approx(-0.25 * 4)
    for name in ("extragradient", "flow"):
        assert rows[name]["rate"] == pytest.approx(rows[name]["predicted_rate"], rel=0.02)
    assert [rows[name]["evaluations"] for name in ("simultaneous", "extragradient")] == [1, 2]


def test_the_table_has_a_line_for_each_method(comparison):
    lines = repr(comparison).splitlines()
    assert lines[0].split()[:3] == ["method", "outcome", "rate"]
    assert [line.split()[0] for line in lines[1:]] == ["simultaneous", "extragradient", "flow"]
    assert comparison.to_dict()["methods"][0]["method"] == "simultaneous"


def test_a_game_without_a_known_equilibrium_is_compared_all_the_same():
    def losses(players, key=None):
        return (players[0] ** 2).sum() + players[1].sum(), (players[1] - 1) ** 2

    game = dy.Game.from_losses(losses)
    comparison = dy.compare(game, {"simultaneous": dy.updates.Simultaneous(*rates(0.1, 0.1))}, (0.5, 0.5), steps=50)
    (row,) = comparison.rows()
    assert row["verdict"] == "stable" or (row["verdict"] == "-" and "simultaneous: " in comparison.describe())


def test_bad_input():
    with pytest.raises(ValueError, match="methods is empty"):
        dy.compare(GAME, {}, START)


@pytest.mark.slow
def test_portraits(comparison):
    figure = dy.plots.portrait(GAME, comparison.runs, window=((-2, 2), (-2, 2)))
    (axes,) = figure.axes
    assert axes.get_xlim() == (-2, 2)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["player 0 at rest", "player 1 at rest"] and "flow" in texts
    dashes = {line.get_label(): line.get_linestyle() for line in figure.legends[0].get_lines()}
    assert dashes["flow"] == "--" and dashes["extragradient"] == "-"
    for bad, message in (
        ({}, "runs is empty"),
        (
            {"a": dy.simulate(GAME, dy.updates.Simultaneous(*rates(0.1, 0.1)), START, steps=5, save_every="last")},
            "end only",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            dy.plots.portrait(GAME, bad)


@pytest.mark.slow
def test_equilibria_of_a_portrait_are_told_apart():
    from dynamics.analysis.planar import planar_field

    game = SpuriousAttractor()
    field = planar_field(game, game.equilibria()[0], ((-5.0, 5.0), (-4.0, 4.5)))
    known = {kind: point for kind, point in zip(field.kinds, field.equilibria, strict=True)}
    for point in game.equilibria():
        assert np.abs(field.equilibria - np.array(point)).sum(axis=1).min() < 1e-9
    assert "strict Nash" in known
    i, j = 17, 40
    expected = game.field((jnp.asarray(field.x[j]), jnp.asarray(field.y[i])))
    assert np.allclose([field.u[i, j], field.v[i, j]], [float(part) for part in expected])


@pytest.mark.slow
def test_a_run_that_settles_far_from_its_start_is_seen_to_its_end():
    game = dy.Game.from_losses(lambda players, key=None: ((players[0] - 3) ** 2, (players[1] + 2) ** 2))
    run = dy.simulate(game, dy.updates.Simultaneous(*rates(0.1, 0.1)), (0.1, 0.1), steps=100)
    axes = dy.plots.portrait(game, {"descent": run}).axes[0]
    assert axes.get_xlim()[1] > 3 and axes.get_ylim()[0] < -2


def test_larger_games_are_projected():
    game = Bilinear([[1.0, 0.6, 0.0], [0.0, 0.8, -0.3]])
    start = (jnp.array([1.0, -0.5]), jnp.array([0.5, 1.0, 0.2]))
    run = dy.simulate(game, dy.updates.Alternating(*rates(0.1, 0.1)), start, steps=50, save_every=1)
    figure = dy.plots.portrait(game, {"alternating": run})
    assert "principal direction 1" in figure.axes[0].get_xlabel()
    with pytest.raises(ValueError, match="games of two numbers"):
        dy.plots.portrait(game, {"alternating": run}, window=((-1, 1), (-1, 1)))
    with pytest.raises(ValueError, match="expected 2"):
        from dynamics.analysis.planar import planar_field

        planar_field(game, start, ((-1, 1), (-1, 1)))


@pytest.mark.slow
def test_the_players_of_a_gan_name_the_axes():
    run = dy.simulate(DiracGAN(penalty=R1(0.3)), dy.updates.Simultaneous(*rates(0.1, 0.1)), (1.0, 1.0), steps=20)
    assert dy.plots.portrait(DiracGAN(), {"simultaneous": run}).axes[0].get_ylabel() == "psi, discriminator"


@pytest.mark.slow
def test_a_portrait_in_a_panel_of_ones_own(comparison):
    panels = Picture(6, 3).subplots(1, 2)
    run = {"flow": comparison.runs["flow"]}
    figure = dy.plots.portrait(GAME, run, window=((-2, 2), (-1, 1)), axes=panels[1])
    assert figure is panels[0].figure and panels[1].get_xlim() == (-2, 2) and not figure.legends
    assert not panels[0].lines and panels[1].lines
