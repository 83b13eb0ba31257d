"""Sweeps against plain loops, their designs, keys and chunks, what they refuse, and how they stop."""

import json
import os
import subprocess
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps
import xarray as xr
from compilations import compiled

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import Linearisation
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.eigenvalues import assess
from dynamics.ensembles import Predicted, Smoothness, log_uniform, running, seeds, uniform
from dynamics.ensembles.designs import resolve
from dynamics.ensembles.prediction import judge

RATES, WEIGHTS = np.array([0.1, 0.5, 1.5, 4.5]), np.array([0.0, 0.3, 1.0])


def dirac(rate, weight):
    sgd = optimisers.sgd(rate)
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 0.5)


def linear(rate, start=1.0):
    """A game of one player that contracts by 1 - rate."""
    return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(optimisers.sgd(rate)), (start,)


def lopsided(rate, pull, memory):
    """Players of unequal sizes and structures, unequal rates, general-sum, with momentum."""

    def losses(players, key=None):
        x, y = players
        first = jnp.sum(x["a"] ** 2) / 2 + pull * x["a"][0] * y[1] + x["b"] * jnp.sin(y[0])
        return first + x["b"] ** 2, jnp.sum(jnp.cosh(y)) - 2 * x["a"][1] * y[2] - pull * x["b"] * y[0]

    zero = ({"a": jnp.zeros(2), "b": jnp.zeros(())}, jnp.zeros(3))
    game = dy.Game.from_losses(losses, [jax.tree.map(lambda leaf: leaf.astype(rate.dtype), zero)])
    update = dy.updates.Alternating(optimisers.momentum(rate, memory), optimisers.sgd(2 * rate))
    return game, update, ({"a": jnp.array([0.5, -0.3]), "b": 0.2 * pull}, jnp.array([0.4, 0.1, -0.2]))


def equal(one, other):
    """The same bits in all variables."""
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name].values, other[name].values, name)


def check_against_a_loop(found, build, cells, steps):
    """Every cell by `simulate` and `stability`."""
    for place, arguments in cells:
        game, method, players = build(**{name: jnp.asarray(value, float) for name, value in arguments.items()})
        run = dy.simulate(game, method, players, steps=steps, save_every="last")
        report = dy.stability(game, method, order="linear")
        cell = found.isel(place)
        assert cell.outcome == run.outcome
        assert Predicted(int(cell.predicted_verdict)).name == report.verdict
        assert Smoothness(int(cell.predicted_smoothness)).name == report.smoothness
        numbers = [cell.simulated_rate, cell.period, cell.residual, cell.predicted_rate, cell.predicted_radius]
        expected = [run.rate, run.period, run.residual, report.rate, report.radius]
        leaves = jax.tree.leaves(run.final)
        names = [name for name in cell if name.startswith("player_")]
        assert len(names) == len(leaves)
        if run.outcome != dy.Outcome.diverged:  # rounding is amplified there
            for value, other in zip([*numbers, *(cell[name] for name in names)], [*expected, *leaves], strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-9, equal_nan=True)


# Against plain loops


def test_a_grid_is_a_loop_over_simulate_and_stability():
    found = dy.sweep(dirac, {"rate": RATES, "weight": WEIGHTS}, steps=640)
    assert found.sizes == {"rate": 4, "weight": 3} and found.outcome.dtype == np.int8
    np.testing.assert_array_equal(found.weight, WEIGHTS)
    grid = [
        (dict(rate=i, weight=j), dict(rate=rate, weight=weight))
        for i, rate in enumerate(RATES)
        for j, weight in enumerate(WEIGHTS)
    ]
    check_against_a_loop(found, dirac, grid, 640)
    assert set(np.unique(found.predicted_verdict)) == {Predicted.stable, Predicted.unstable, Predicted.marginal}
    assert {0, 2} <= set(np.unique(found.outcome))


@pytest.mark.slow
def test_a_grid_beyond_the_linear_part_is_a_loop_over_stability():
    """Without a penalty, in third order. What is asked for is no matter of how cells come together in chunks."""
    found = dy.sweep(dirac, {"rate": RATES, "weight": WEIGHTS}, steps=640)
    higher = dy.sweep(dirac, {"rate": RATES, "weight": WEIGHTS}, steps=640, order="auto", chunk=2)
    verdicts = found.predicted_verdict.values.copy()
    for place in np.argwhere(verdicts == Predicted.marginal):
        cell = found.isel(rate=place[0], weight=place[1])
        game, method, _ = dirac(rate=jnp.asarray(float(cell.rate)), weight=jnp.asarray(float(cell.weight)))
        verdicts[tuple(place)] = Predicted[dy.stability(game, method).verdict]
    np.testing.assert_array_equal(higher.predicted_verdict, verdicts)
    assert Predicted.marginal not in verdicts
    chart = dy.stability_chart(dirac, {"rate": RATES, "weight": WEIGHTS}, order="auto")
    np.testing.assert_array_equal(chart.predicted_verdict, verdicts)


@pytest.mark.slow
def test_pytree_players_side_by_side():
    axes = {"rate": np.linspace(0.05, 0.2, 3), "pull": [0.5, -1.0, 2.0], "memory": 0.3}
    found = dy.sweep(lopsided, axes, steps=200, design="zip")
    assert found.sizes == {"cell": 3, "player_0_a_axis_0": 2, "player_1_axis_0": 3}
    assert found.player_0_b.dims == ("cell",) and found.pull.dims == ("cell",) and found.memory.dims == ()
    assert found.player_0_a.attrs["long_name"] == "player 0['a'] at the end"
    places = [(dict(cell=i), dict(rate=axes["rate"][i], pull=axes["pull"][i], memory=0.3)) for i in range(3)]
    check_against_a_loop(found, lopsided, places, 200)
    single = dy.sweep(lopsided, axes, steps=200, design="zip", dtype=np.float32)
    assert single.attrs["dtype"] == "float32" and found.attrs["dtype"] == "float64"
    for name in found:
        if name.startswith(("player", "residual", "predicted")):
            np.testing.assert_allclose(single[name], found[name], rtol=2e-4, atol=2e-4)
        if name.startswith(("player", "residual", "simulated")):
            assert single[name].dtype == np.float32 and found[name].dtype == np.float64
    assert found.outcome.equals(single.outcome)


@pytest.mark.slow
def test_a_bare_optimiser_is_swept_too():
    def bare(rate, weight):
        game, _, players = dirac(rate, weight)
        return game, dy.updates.Alternating(optax.sgd(rate), optax.sgd(rate)), players

    axes = {"rate": RATES, "weight": 0.3}
    found, expected = (dy.sweep(build, axes, steps=100, predict=False) for build in (bare, dirac))
    assert found.weight.dims == () and "predicted_verdict" not in found
    for name in ("player_0", "residual"):
        np.testing.assert_allclose(found[name][:3], expected[name][:3], rtol=1e-12)


@pytest.mark.slow
def test_flows():
    def build(ratio, weight):
        flow = dy.flows.Flow(rates=(1.0, ratio))
        return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), flow, (1.0, 0.5)

    found = dy.sweep(build, {"ratio": [0.5, 4.0], "weight": [0.0, 1.0]}, until=40.0)
    for i, ratio in enumerate([0.5, 4.0]):
        for j, weight in enumerate([0.0, 1.0]):
            game, flow, players = build(ratio, weight)
            run = dy.simulate(game, flow, players, until=40.0)
            report = dy.stability(game, flow, order="linear")
            cell = found.isel(ratio=i, weight=j)
            assert cell.outcome == run.outcome
            assert Predicted(int(cell.predicted_verdict)).name == report.verdict
            np.testing.assert_allclose(cell.predicted_abscissa, report.abscissa, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose([cell.player_0, cell.player_1], run.final, atol=1e-7)
            np.testing.assert_allclose(cell.simulated_rate, run.rate, rtol=1e-5)
    assert np.isfinite(found.steps_to_tolerance[:, 1]).all() and found.attrs["kind"] == "flow"
    again = dict(ratio=[0.5, 4.0], weight=[0.2, 1.0])
    with compiled() as programs:
        dy.sweep(build, again, until=30.0)
    assert programs.count == 0


@pytest.mark.slow
def test_noisy_flows_need_a_key_and_a_step():
    def build(scale):
        return dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]]), dy.flows.NoisyFlow(dy.flows.Flow(), scale), (1.0, 1.0)

    axes = {"scale": [0.0, 0.1, 0.1]}
    with pytest.raises(ValueError, match="key=jax.random.key.*dt0"):
        dy.sweep(build, axes, until=1.0)
    options = dict(until=1.0, dt0=1 / 16, solver=diffrax.Euler())
    found = dy.sweep(build, axes, key=jax.random.key(3), predict=False, **options)
    step = np.eye(2) - np.array([[1.0, 2.0], [-2.0, 1.0]]) / 16
    np.testing.assert_allclose(found.player_0[0], (np.linalg.matrix_power(step, 16) @ [1, 1])[0], rtol=1e-12)
    assert len(np.unique(found.player_0)) == 3


# Verdicts of many at once


@pytest.mark.slow
def test_verdicts_are_those_of_stability():
    """Defective, singular, marginal and ordinary Jacobians in one batch."""
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=(3, 3)) + shift * np.eye(3) for shift in (0.0, 2.0, 4.0)]
    matrices += [np.array([[1.0, 50.0, 0], [0, 1, 50], [0, 0, 1]]), np.diag([1.0, 1, 0]), np.diag([1.0, 1, 20])]
    matrices += [np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.diag([1.0, 2, 1e-15]), np.zeros((3, 3))]
    matrices = np.array([*matrices, 19.9999999999999 * np.eye(3)])

    def build(number, kind=None):
        matrix = jnp.asarray(matrices)[jnp.asarray(number, int)]
        game = dy.games.Quadratic([[matrix[i, j] for j in range(3)] for i in range(3)])
        method = dy.flows.Flow() if kind == "flow" else dy.updates.Simultaneous(*[optimisers.sgd(0.1)] * 3)
        return game, method, (1.0, 1.0, 1.0)

    for kind, duration in (("map", dict(steps=4)), ("flow", dict(until=0.1))):
        found = dy.sweep(lambda number, kind=kind: build(number, kind), {"number": range(10)}, **duration)
        for number in range(10):
            report = dy.stability(*build(number, kind)[:2], order="linear")
            cell = found.isel(number=number)
            assert Predicted(int(cell.predicted_verdict)).name == report.verdict, (kind, number)
            assert Smoothness(int(cell.predicted_smoothness)).name == report.smoothness
            reach = report.radius if kind == "map" else report.abscissa
            np.testing.assert_allclose(
                cell["predicted_" + ("radius" if kind == "map" else "abscissa")], reach, atol=1e-9
            )
        assert set(found.predicted_verdict.values) == {0, 1, 2}


@pytest.mark.parametrize("kind", ["map", "flow"])
def test_a_batch_is_judged_as_its_cells_are(kind):
    """Where the Bauer-Fike theorem decides and where it does not; at a boundary, and next to it."""

    def blocks(value, coupling, other):
        return np.array([[value, coupling, 0], [0, value, 0], [0, 0, other]])

    rng = np.random.default_rng(1)
    matrices = [blocks(1 + gap, 1.0, 0.5) for gap in (-1e-9, 1e-9, -1e-3, 1e-3, -1e-15)]
    matrices += [blocks(2.0, 1e3, 1.0), blocks(2.0, 0.0, 1.0), blocks(1 + 1e-9, 1.0, 1.0), blocks(0.5, 1e7, 0.2)]
    matrices += [scale * rng.normal(size=(3, 3)) for scale in (0.2, 0.5, 2.0) for _ in range(4)]
    if kind == "flow":
        matrices = [matrix - np.eye(3) for matrix in matrices]
    jacobian, zeros = np.array(matrices), np.zeros((len(matrices), 3))
    nothing, game = np.zeros((len(matrices), 2, 3)), np.broadcast_to(np.eye(3), jacobian.shape)
    one, yes = np.zeros(len(matrices)), np.ones(len(matrices), bool)
    linear = Linearisation(
        jacobian=jacobian,
        defect=zeros,
        residual=zeros,
        game_jacobian=game,
        kinks=nothing,
        errors=nothing,
        rounding=zeros,
        switching=one.astype(int) - 1,
        epsilon=one + np.finfo(float).eps,
        position=zeros,
        rests=yes,
        fading=~yes,
    )
    found = judge(linear, ~yes, zeros, boundary_of(kind), None, None, None)
    for row in range(len(matrices)):
        report = assess(Linearisation(*(leaf[row] for leaf in linear)), boundary_of(kind), 0, [3], ())
        assert Predicted(found.verdict[row]).name == report.verdict, row
        np.testing.assert_allclose(found.reach[row], report.radius if kind == "map" else report.abscissa, atol=1e-12)
        np.testing.assert_allclose(found.rate[row], report.rate, atol=1e-12)
    assert found.verdict[:2].tolist() == [Predicted.marginal] * 2 and found.verdict[5] == Predicted.unstable


@pytest.mark.slow
def test_manifolds_of_equilibria_are_told_from_flat_directions():
    def build(factor, rate):
        def losses(players, key=None):
            x, y = players
            return x[0] ** 2 / 2 + x[0] * y + factor * x[1] ** 4, y**2 / 2 - 2 * x[0] * y

        game = dy.Game.from_losses(losses, [(jnp.zeros(2), 0.0)])
        return game, dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(rate)), (jnp.ones(2), 1.0)

    factors, rates = [0.0, 1.0, 1e-3], [0.1, 1.5]
    found = dy.sweep(build, {"factor": factors, "rate": rates}, steps=4)
    for i, factor in enumerate(factors):
        for j, rate in enumerate(rates):
            report = dy.stability(*build(factor, rate)[:2], order="linear")
            cell = found.isel(factor=i, rate=j)
            assert Predicted(int(cell.predicted_verdict)).name == report.verdict
            np.testing.assert_allclose(cell.predicted_radius, report.radius, rtol=1e-9)
    assert found.predicted_verdict.values.tolist() == [[0, 1], [2, 1], [2, 1]]


@pytest.mark.slow
def test_memory_that_stays_where_it_is_put():
    def build(rate):
        method = dy.updates.Simultaneous(dy.Optimiser(optax.amsgrad, rate, eps=0.1))
        return dy.Game.from_losses(lambda p, key=None: (p[0] ** 2,), [(0.0,)]), method, (1.0,)

    found = dy.sweep(build, {"rate": [0.01, 10.0]}, steps=4)
    for number, rate in enumerate([0.01, 10.0]):
        report, cell = dy.stability(*build(rate)[:2], order="linear"), found.isel(rate=number)
        assert report.neutral == 1 and Predicted(int(cell.predicted_verdict)).name == report.verdict
        np.testing.assert_allclose(cell.predicted_radius, report.radius, rtol=1e-9)
    assert found.predicted_verdict.values.tolist() == [0, 1]


@pytest.mark.slow
def test_memory_that_vanishes_at_the_equilibrium():
    def build(rate, first):
        adam = optimisers.adam(rate, first)
        return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.updates.Simultaneous(adam, adam), (1.0, 1.0)

    found = dy.sweep(build, {"rate": [1e-9, 0.01], "first": [0.0, 0.5]}, steps=20)
    for i, rate in enumerate([1e-9, 0.01]):
        for j, first in enumerate([0.0, 0.5]):
            report = dy.stability(*build(rate, first)[:2], order="linear")
            cell = found.isel(rate=i, first=j)
            assert Predicted(int(cell.predicted_verdict)).name == report.verdict
            assert Smoothness(int(cell.predicted_smoothness)).name == report.smoothness == "stiff"
            np.testing.assert_allclose(cell.predicted_radius, report.radius, rtol=1e-9)


@pytest.mark.slow
def test_a_kink_is_reported_as_such():
    def build(rate, bend):
        game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 + bend * jnp.maximum(p[0], 0) ** 2,), [(0.0,)])
        return game, dy.updates.Simultaneous(optimisers.sgd(rate)), (1.0,)

    found = dy.sweep(build, {"rate": 0.1, "bend": [0.0, 1.0]}, steps=4)
    assert found.predicted_smoothness.values.tolist() == [Smoothness.smooth, Smoothness.kinked]
    assert found.predicted_verdict.values.tolist() == [Predicted.stable, Predicted.none]
    np.testing.assert_allclose(found.predicted_radius, [0.8, np.nan])


# What is found along the way


@pytest.mark.slow
def test_steps_to_tolerance():
    rates = np.array([0.02, 0.1, 0.9, 1.0, 1.9, 2.1, 1e-4])
    found = dy.sweep(linear, {"rate": rates}, steps=640, tolerance=1e-3, predict=False).steps_to_tolerance
    assert found.attrs["resolution"] == 10 and found.attrs["units"] == "steps"
    steps = np.log(1e-3) / np.log(np.abs(1 - rates[[0, 1, 4]]))
    np.testing.assert_allclose(found[[0, 1, 4]], steps, rtol=0.01)
    assert np.all(found[2:4] <= 10) and np.all(np.isnan(found[5:]))
    by_step = dy.sweep(linear, {"rate": rates}, steps=60, tolerance=1e-1, predict=False).steps_to_tolerance
    np.testing.assert_allclose(by_step[1:3], [np.log(0.1) / np.log(0.9), 1], rtol=0.02)
    at_rest = dy.sweep(linear, {"rate": 0.1, "start": 0.0}, steps=640, predict=False).steps_to_tolerance
    assert at_rest.shape == () and at_rest == 0


@pytest.mark.slow
def test_measures_of_any_structure():
    def energy(game, players):
        return {"size": players[0] ** 2 + players[1] ** 2, "count": jnp.arange(3)}

    measures = {"energy": energy, "losses": lambda game, players: jnp.stack(game.losses(players))}
    found = dy.sweep(dirac, {"rate": [0.1, 0.2], "weight": 0.3}, steps=10, measures=measures, predict=False)
    np.testing.assert_allclose(found.energy_size, found.player_0**2 + found.player_1**2)
    assert found.energy_count.shape == (2, 3) and found.energy_count.dtype.kind == "i"
    game, _, _ = dirac(0.1, 0.3)
    np.testing.assert_allclose(found.losses[1], game.losses((found.player_0.values[1], found.player_1.values[1])))


def test_attributes_tell_where_it_comes_from():
    rate = xr.DataArray([0.1, 0.2], attrs={"units": "1/step", "long_name": "learning rate"})
    found = dy.sweep(linear, {"rate": rate}, steps=4, key=jax.random.key(7))
    assert found.rate.attrs == {"units": "1/step", "long_name": "learning rate"}
    settings = json.loads(found.attrs["settings"])
    assert settings["steps"] == 4 and settings["design"] == "grid" and settings["tolerance"] == 1e-3
    assert found.attrs["key"] == "0 7" and found.attrs["dtype"] == "float64"
    assert found.attrs["dynamics"] == dy.__version__ and found.attrs["numpy"] == np.__version__
    assert found.outcome.attrs["flag_meanings"].split()[:2] == ["converged", "cycling"]
    assert found.simulated_rate.attrs["units"] == "1/step"


# Designs and keys


def test_designs():
    axes = {"a": uniform(-1, 3), "b": log_uniform(1e-3, 1), "c": 2.0}
    for kind in ("random", "sobol"):
        found, more = (resolve(axes, (kind, count), None) for count in (13, 29))
        a, b = (found.axes[name].values for name in "ab")
        assert found.dims == ("cell",) and found.shape == (13,) and len(np.unique(a)) == 13
        assert np.all((a >= -1) & (a <= 3) & (b >= 1e-3) & (b <= 1)) and found.axes["c"].values == 2.0
        np.testing.assert_array_equal(a, more.axes["a"].values[:13])
        assert not np.array_equal(a, resolve(axes, (kind, 13, 1), None).axes["a"].values)
    even = resolve({"a": uniform(0, 1), "b": log_uniform(1e-3, 1)}, ("sobol", 64), None)
    first, second = even.axes["a"].values, np.log10(even.axes["b"].values) / 3 + 1
    counts = np.histogram2d(first, second, bins=8, range=[[0, 1], [0, 1]])[0]
    assert np.all(counts == 1)  # one point in every box


@pytest.mark.slow
def test_a_drawn_design_with_other_axes_beside_it():
    axes = {"rate": uniform(0.05, 0.2), "weight": [0.0, 0.5, 1.0]}
    found = dy.sweep(dirac, axes, steps=10, design=("random", 3, 5), predict=False)
    assert found.sizes == {"cell": 3}
    for i in range(3):
        game, update, players = dirac(found.rate.values[i], axes["weight"][i])
        run = dy.simulate(game, update, players, steps=10, save_every="last")
        np.testing.assert_allclose(found.player_0[i], run.final[0], rtol=1e-12)


@pytest.mark.slow
def test_seeds_starts_and_minibatches():
    def build(rate, seed, start_key):
        update = dy.updates.Simultaneous(*[optimisers.sgd(rate)] * 2, direction=dy.directions.Noisy(scale=0.1))
        x, y = jax.random.normal(start_key, (2,))
        return dy.games.Bilinear(jax.random.uniform(seed)), update, (x, y)

    key = jax.random.key(5)
    axes = {"rate": [0.1, 0.2], "seed": seeds([3, 0])}
    found = dy.sweep(build, axes, steps=20, starts=3, key=key, predict=False)
    assert found.sizes == {"rate": 2, "seed": 2, "start": 3} and found.seed.values.tolist() == [3, 0]
    starts = [jax.random.fold_in(jax.random.key(0), i) for i in range(3)]
    number = 0
    for i, rate in enumerate([0.1, 0.2]):
        for j, seed in enumerate([3, 0]):
            for k, start in enumerate(starts):
                game, update, players = build(rate, jax.random.key(seed), start)
                own = jax.random.fold_in(key, number)
                run = dy.simulate(game, update, players, steps=20, save_every="last", key=own)
                np.testing.assert_allclose(found.player_0[i, j, k], run.final[0], rtol=1e-11)
                number += 1
    assert len(np.unique(found.player_0)) == 12


# One program, any chunk


@pytest.mark.slow
def test_one_program_serves_all(monkeypatch):
    sweeps.small_blocks(monkeypatch, 6)
    calls = []

    def build(rate, weight):
        calls.append(isinstance(rate, jax.core.Tracer))
        return dirac(rate, weight)

    def once(high, count=10):
        axes = {"rate": np.linspace(0.05, high, count), "weight": np.linspace(0, high, 5)}
        return dy.sweep(build, axes, steps=64, chunk=16, tolerance=1e-3 * high)

    dy.sweep(dirac, {"rate": [0.1, 0.2], "weight": 0.3}, steps=8)  # what is compiled by the checks
    with compiled() as programs:
        first = once(1.0)
    assert programs.count == 1 and sum(calls) == 2  # the cells' run, and their Jacobians
    with compiled() as programs:
        second, longer = once(2.0), once(1.0, 19)
    assert programs.count == 0 and sum(calls) == 2
    assert not np.array_equal(first.player_0, second.player_0)
    equal(first, longer.isel(rate=slice(None, None, 2)))


@pytest.mark.slow_cases("float64")
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
def test_chunks_do_not_matter(monkeypatch, dtype):
    sweeps.small_blocks(monkeypatch, 6)

    def build(rate, weight):
        game, _, players = dirac(rate, weight)
        sgd = optimisers.sgd(rate)
        return game, dy.updates.Alternating(sgd, sgd, direction=dy.directions.Noisy(scale=0.1)), players

    axes = {"rate": np.linspace(0.05, 5.0, 11), "weight": np.linspace(0, 2, 7)}
    found = [
        dy.sweep(build, axes, steps=64, key=jax.random.key(0), chunk=chunk, dtype=dtype, predict=False)
        for chunk in (1, 7, 64, None)[:: 1 if dtype == np.float64 else 3]
    ]
    sizes = [json.loads(one.attrs["settings"])["chunk"] for one in found]
    assert (sizes[0], sizes[-1]) == (12, 78)
    for one in found[:-1]:
        equal(one, found[-1])


@pytest.mark.slow
def test_chunks_do_not_matter_to_the_optimising_compiler():
    code = """
import jax, numpy as np, jax.numpy as jnp, dynamics as dy
def build(rate, bend):
    def losses(players, key=None):
        x, y = players
        value = x @ jnp.sin(jnp.arange(6.0, dtype=x.dtype).reshape(2, 3) + bend) @ y
        return value + jnp.sum(jnp.cosh(bend * x)), jnp.sum(y**4) - 2 * value
    sgd = dy.optimisers.sgd(rate)
    return dy.Game.from_losses(losses), dy.updates.Simultaneous(sgd, sgd), (jnp.ones(2), jnp.ones(3))
axes = {"rate": np.linspace(0.01, 0.3, 40), "bend": np.linspace(0, 1, 20)}
found = [dy.sweep(build, axes, steps=200, chunk=chunk) for chunk in (1, None)]
print(*sorted(one.attrs["settings"].split('"chunk": ')[1].split(",")[0] for one in found))
print(all(np.array_equal(found[0][name], found[1][name], equal_nan=True) for name in found[0]))
print(found[0].attrs["dtype"])
"""
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    small, large, same, dtype = done.stdout.split()
    assert small != large and (same, dtype) == ("True", "float32")


@pytest.mark.slow
def test_a_cell_that_blows_up_disturbs_nobody():
    found = dy.sweep(linear, {"rate": [0.1, 1e30, 0.2]}, steps=100, predict=False)
    calm = dy.sweep(linear, {"rate": [0.1, 0.15, 0.2]}, steps=100, predict=False)
    assert found.outcome.values.tolist() == [0, 2, 0]
    equal(found.isel(rate=[0, 2]), calm.isel(rate=[0, 2]))


# Progress and interruption


def test_interruption_keeps_what_is_done(monkeypatch):
    sweeps.small_blocks(monkeypatch, 3)
    axes = {"rate": np.linspace(0.1, 0.9, 20)}
    whole = dy.sweep(linear, axes, steps=64, chunk=8)
    seen = []

    def progress(done, total, text):
        seen.append((done, total, text))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(dy.ensembles.SweepInterrupted, match="18 of 20 cells are done") as caught:
        dy.sweep(linear, axes, steps=64, chunk=8, progress=progress)
    assert isinstance(caught.value, KeyboardInterrupt) and (caught.value.done, caught.value.total) == (18, 20)
    partial = caught.value.partial
    equal(partial.isel(rate=slice(18)), whole.isel(rate=slice(18)))
    assert np.all(partial.outcome[18:] == -1) and np.all(partial.predicted_verdict[18:] == Predicted.none)
    assert np.all(np.isnan(partial.player_0[18:])) and np.all(np.isnan(partial.predicted_rate[18:]))
    assert "not_done" in partial.outcome.attrs["flag_meanings"]
    assert [entry[:2] for entry in seen] == [(9, 20), (18, 20)] and seen[0][2] == "8 converged, 1 undecided"


def test_interruption_before_anything_is_done(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dynamics.ensembles.work.run_chunk", interrupted)
    with pytest.raises(dy.ensembles.SweepInterrupted) as caught:
        dy.sweep(linear, {"rate": [0.1, 0.2]}, steps=64)
    assert caught.value.partial.outcome.values.tolist() == [-1, -1]


@pytest.mark.slow
def test_the_bar_counts_cells_and_outcomes(capsys):
    dy.sweep(linear, {"rate": [0.1, 1e30, 0.2]}, steps=100, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown and "2 converged, 1 diverged" in shown and "cell/s" in shown


# What is refused


def with_start(rate, start_key):
    return linear(rate)


BAD = {
    "no function": (lambda: dy.sweep(3, {}, steps=1), TypeError, "build is 3; expected a function"),
    "no mapping": (lambda: dy.sweep(linear, [1.0], steps=1), TypeError, "expected a mapping"),
    "misspelt": (lambda: dy.sweep(dirac, {"rate": 1, "wieght": 1}, steps=1), ValueError, "did you mean 'weight'"),
    "missing": (lambda: dy.sweep(dirac, {"rate": 1}, steps=1), ValueError, "build needs 'weight'.*add it to axes"),
    "no start key": (
        lambda: dy.sweep(linear, {"rate": 1}, steps=1, starts=2),
        ValueError,
        "add the argument start_key",
    ),
    "no starts": (lambda: dy.sweep(with_start, {"rate": 1}, steps=1), ValueError, "pass starts=n"),
    "bounds": (
        lambda: dy.sweep(dirac, {"rate": 0.1, "weight": [1.0, -2.0, 3.0]}, steps=1),
        ValueError,
        r"build\(rate=0.1, weight=-2\) failed: ValueError: R1.weight is -2",
    ),
    "branch": (
        lambda: dy.sweep(lambda rate: linear(rate) if rate > 0 else None, {"rate": [0.1]}, steps=1),
        TypeError,
        r"build\(rate=float64\[\]\) failed.*jnp.where",
    ),
    "returns": (lambda: dy.sweep(lambda rate: 3, {"rate": 1}, steps=1), TypeError, "build returned 3; expected"),
    "no game": (lambda: dy.sweep(lambda rate: (1, 2, 3), {"rate": 1}, steps=1), TypeError, "expected a game"),
    "no method": (
        lambda: dy.sweep(lambda rate: (linear(rate)[0], 2, 3), {"rate": 1}, steps=1),
        TypeError,
        "expected an update",
    ),
    "players": (
        lambda: dy.sweep(lambda rate: (*linear(rate)[:2], (jnp.ones(2),)), {"rate": 1}, steps=1),
        ValueError,
        "the players have shapes",
    ),
    "nan": (lambda: dy.sweep(linear, {"rate": [0.1, np.nan]}, steps=1), ValueError, "axis 'rate' holds nan"),
    "infinite": (lambda: dy.sweep(linear, {"rate": np.inf}, steps=1), ValueError, "axis 'rate' holds inf"),
    "two dimensions": (lambda: dy.sweep(linear, {"rate": [[0.1]]}, steps=1), ValueError, r"shape \(1, 1\).*Ravel"),
    "ragged": (lambda: dy.sweep(linear, {"rate": [[0.1], 1]}, steps=1), ValueError, "axis 'rate'.*one dimension"),
    "empty": (lambda: dy.sweep(linear, {"rate": []}, steps=1), ValueError, "axis 'rate' is empty"),
    "text": (lambda: dy.sweep(linear, {"rate": "fast"}, steps=1), ValueError, "axis 'rate' has dtype"),
    "keys": (
        lambda: dy.sweep(linear, {"rate": jax.random.split(jax.random.key(0))}, steps=1),
        ValueError,
        "use dynamics.ensembles.seeds",
    ),
    "neither": (lambda: dy.sweep(linear, {"rate": 1}), ValueError, "expected steps for an update, or until for a flow"),
    "both": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, until=1.0), ValueError, "got steps=1 and until=1.0"),
    "until of an update": (lambda: dy.sweep(linear, {"rate": 1}, until=1.0), ValueError, "which takes steps"),
    "part of a step": (lambda: dy.sweep(linear, {"rate": 1}, steps=1.5), ValueError, "steps is 1.5"),
    "chunk": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, chunk=0), ValueError, "chunk is 0"),
    "tolerance": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, tolerance=0), ValueError, "tolerance is 0"),
    "dtype": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, dtype=np.float16), ValueError, "expected float32 or"),
    "key": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, key=3), ValueError, "key is 3; expected a random key"),
    "option": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, solvr=3), ValueError, "did you mean 'solver'"),
    "flow's option": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, dt0=0.1), ValueError, "for flows only"),
    "name": (lambda: dy.sweep(lambda outcome: None, {"outcome": 1}, steps=1), ValueError, "'outcome' is the name of"),
    "cell": (lambda: dy.sweep(lambda cell: None, {"cell": 1}, steps=1), ValueError, "rename the argument"),
    "measure": (
        lambda: dy.sweep(linear, {"rate": 1}, steps=1, measures={"rate": None}),
        ValueError,
        "'rate' is the name of",
    ),
    "design": (lambda: dy.sweep(linear, {"rate": 1}, steps=1, design="cross"), ValueError, "design is 'cross'"),
    "interval": (lambda: dy.sweep(linear, {"rate": uniform(0, 1)}, steps=1), ValueError, 'use design=."random", n.'),
    "nothing drawn": (
        lambda: dy.sweep(linear, {"rate": [1]}, steps=1, design=("random", 3)),
        ValueError,
        "draws nothing",
    ),
    "unequal": (
        lambda: dy.sweep(dirac, {"rate": [1, 2], "weight": [1, 2, 3]}, steps=1, design="zip"),
        ValueError,
        "rate: 2, weight: 3",
    ),
    "empty interval": (lambda: uniform(1, 1), ValueError, "expected finite low < high"),
    "logarithm": (lambda: log_uniform(0, 1), ValueError, "0 < low < high"),
    "seeds": (lambda: seeds([-1]), ValueError, "a seed is -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_at_the_door(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match="(?s)" + message):
        call()


DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 3)
jax.config.update("jax_enable_x64", True)
import numpy as np
import dynamics as dy

def build(rate, weight):
    sgd = dy.optimisers.sgd(rate)
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)

axes = {"rate": np.linspace(0.1, 4.5, 37), "weight": np.linspace(0.0, 2.0, 29)}
charts = [
    dy.sweep(build, axes, steps=64, devices=devices, chunk=chunk)
    for devices, chunk in ((jax.local_devices()[:1], None), (None, 300))
]
for other in charts[1:]:
    for name, values in charts[0].data_vars.items():
        assert np.array_equal(values.values, other[name].values, equal_nan=values.dtype.kind == "f"), name
for wrong in ([], [jax.local_devices()[0]] * 2, ["cpu"]):
    try:
        dy.sweep(build, axes, steps=64, devices=wrong)
    except ValueError as error:
        assert "expected different devices" in str(error)
    else:
        raise AssertionError(wrong)
print(len(jax.local_devices()))
"""


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_bits():
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"


def test_whether_a_game_can_be_predicted_is_asked_once_per_kind(monkeypatch):
    asked = []

    def why_no_prediction(*arguments):
        asked.append(arguments)
        return ""

    monkeypatch.setattr(running, "why_no_prediction", why_no_prediction)
    monkeypatch.setattr(running, "carry_out", lambda plan, *_: plan)

    def build(rate):
        sgd = dy.optimisers.sgd(rate)
        return dy.games.Bilinear(1.0), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)

    for rates in ([0.1, 0.2], [0.3, 0.5]):
        assert dy.sweep(build, {"rate": rates}, steps=5).recipe.predict
    assert len(asked) == 1


def test_what_is_known_of_a_kind_spares_no_check_of_numbers(monkeypatch):
    monkeypatch.setattr(running, "carry_out", lambda plan, *_: plan)
    for weights in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]):
        assert dy.sweep(dirac, {"rate": 0.1, "weight": weights}, steps=5, predict=False).kind == "map"
    for weights in ([-0.1, 0.2, 0.3], [0.1, 0.2, -0.3], [0.3, -0.1, 0.2]):
        with pytest.raises(ValueError, match="R1.weight is -0.[13]; expected a finite number >= 0"):
            dy.sweep(dirac, {"rate": 0.1, "weight": weights}, steps=5, predict=False)


def test_attributes_of_one_result_are_not_those_of_another():
    charts = [dy.sweep(dirac, {"rate": [0.1, 0.2], "weight": 0.3}, steps=8, predict=False) for _ in range(2)]
    charts[0].outcome.attrs["flag_values"][0] = 77
    assert charts[1].outcome.attrs["flag_values"][0] == 0
