"""Sweeps in single precision that are refined: which cells are done again, and that none is decided otherwise."""

import concurrent.futures

import jax
import numpy as np
import pytest
import sweeps
import xarray as xr
from sweeps import equal

import dynamics as dy
from dynamics import optimisers
from dynamics.ensembles import SweepInterrupted, refinement, seeds, uniform
from dynamics.ensembles.designs import resolve
from dynamics.ensembles.prediction import Predicted
from dynamics.outcomes import Outcome

AXES = {"rate": np.linspace(0.05, 4.5, 20), "weight": np.linspace(0.0, 2.0, 17)}


def dirac(rate, weight):
    sgd = optimisers.sgd(rate)
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 0.5)


def chart(axes=AXES, build=dirac, **settings):
    return dy.sweep(build, axes, **dict(steps=128, chunk=24) | settings)


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch):
    sweeps.small_blocks(monkeypatch, 6)
    monkeypatch.setattr(refinement, "FEWEST", 24)


@pytest.fixture(scope="module")
def charts():
    with pytest.MonkeyPatch.context() as patch:
        sweeps.small_blocks(patch, 6)
        patch.setattr(refinement, "FEWEST", 24)
        return chart(), chart(dtype=np.float32), chart(refine="boundary")


@pytest.mark.slow
def test_no_cell_differs(charts):
    double, single, refined = charts
    for name in ("outcome", "predicted_verdict"):
        np.testing.assert_array_equal(refined[name], double[name])
    again = refined.refined.values
    assert refined.refined.dtype == bool and 0.05 < again.mean() < 0.5
    assert set(refined) == set(double) | {"refined"} and refined.attrs["dtype"] == "float64"
    for name in double:
        assert refined[name].dtype == double[name].dtype
        np.testing.assert_array_equal(refined[name].values[~again], single[name].values[~again])
        np.testing.assert_allclose(refined[name].values[again], double[name].values[again], rtol=1e-9, atol=1e-12)


class Stopped:
    """Interrupts the third round of anything: within single precision, or within double."""

    def __init__(self, total):
        self.total, self.seen = total, 0

    def __call__(self, done, total, text):
        self.seen += (total == 340) == self.total
        if self.seen == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_stores_and_workers_change_nothing(charts, tmp_path):
    _, single, refined = charts
    path = tmp_path / "run.zarr"
    for within_single in (True, False):
        with pytest.raises(SweepInterrupted) as caught:
            chart(refine="boundary", store=path, progress=Stopped(within_single))
        partial = caught.value.partial
        done, again = partial.outcome.values >= 0, partial.refined.values
        if within_single:
            assert done.sum() == caught.value.done == 34 and not again.any()
        else:
            assert done.all() and 0 < again.sum() < refined.refined.sum() and 0 < caught.value.done < 340
        np.testing.assert_array_equal(partial.player_0.values[again], refined.player_0.values[again])
        np.testing.assert_array_equal(partial.player_0.values[done & ~again], single.player_0.values[done & ~again])
        assert (xr.open_zarr(path).outcome == -1).all() and "refined" in xr.open_zarr(path)
    assert (xr.open_zarr(path / "single").outcome.values == single.outcome.values).all()
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        equal(refined, chart(refine="boundary", store=path, executor=executor))
    seen = []
    equal(refined, chart(refine="boundary", store=path, progress=lambda *told: seen.append(told)))
    assert not seen and xr.open_zarr(path).equals(refined)
    with pytest.raises(ValueError, match="refine: boundary there, None here"):
        chart(store=path)


# Which cells


def found(outcome, verdict=None, rate=-1.0):
    """What a sweep may have found, in one dimension."""
    variables = {"outcome": np.asarray(outcome, np.int8)}
    if verdict is not None:
        variables["predicted_verdict"] = np.broadcast_to(np.asarray(verdict, np.int8), np.shape(outcome))
        variables["predicted_rate"] = np.broadcast_to(np.asarray(rate, float), np.shape(outcome))
    return xr.Dataset({name: ("cell", np.ravel(value)) for name, value in variables.items()})


def searched(own, single, double, **predicted):
    """All that is done again when these are the outcomes in either precision."""
    single, double = np.ravel(single), np.ravel(double)
    search, rounds = refinement.Search(own, found(single, **predicted), 1000.0, 1e-3, 1e6), 0
    while len(numbers := search.left()):
        part = {name: np.broadcast_to(value, single.shape)[numbers] for name, value in predicted.items()}
        search.add(numbers, found(double[numbers], **part))
        rounds += 1
    return search.refined, rounds


STABLE, UNSTABLE = dict(verdict=0, rate=-0.1), dict(verdict=1, rate=0.1)


def test_boundaries_are_done_again_and_followed():
    axes = {"a": np.arange(40.0), "b": np.arange(30.0), "c": 1.0}
    own = resolve(axes, "grid", None)
    a, b = np.meshgrid(axes["a"], axes["b"], indexing="ij")
    single, double = 2 * (a > 10), 2 * (a > 10 + b / 4)  # it is turned
    again, rounds = searched(
        own, single, double, verdict=np.where(single, 1, 0).ravel(), rate=0.1 - 0.2 * (a < 10.5).ravel()
    )
    assert np.all(again.reshape(a.shape)[single != double]) and rounds > 2 and again.mean() < 0.5
    edge = np.zeros(a.shape, bool)
    edge[:-1] |= double[1:] != double[:-1]
    edge[1:] |= double[1:] != double[:-1]
    assert np.all(again.reshape(a.shape)[edge])
    island = np.where(np.hypot(a - 25, b - 15) < 8, 2, 0)  # of which single precision knows nothing
    again, _ = searched(own, np.zeros(a.shape, int), island, **STABLE)
    assert np.all(again[island.ravel() > 0]) and again.mean() < 0.6
    again, rounds = searched(own, np.zeros(a.shape, int), np.zeros(a.shape, int), **STABLE)
    assert rounds == 1 and 0.01 < again.mean() < 0.03


def test_designs_without_a_grid():
    axes = {"a": uniform(0, 1), "b": uniform(0, 100), "seed": seeds(600)}
    own = resolve(axes, ("sobol", 600), 2)
    a, b = (np.repeat(own.axes[name].values, 2) for name in "ab")
    single, double = 2 * (a > 0.5), 2 * (a > 0.5 + b / 800)
    again, _ = searched(own, single, double)
    assert np.all(again[single != double]) and again.mean() < 0.7
    near = np.abs(a - 0.5) < 0.01
    assert np.all(again[near])
    lone = resolve({"seed": seeds(200)}, "grid", 3)  # nobody is next to anybody
    outcome = np.arange(600) % 3 // 2 * 2
    again, _ = searched(lone, outcome, outcome, verdict=np.where(outcome, 1, 0), rate=np.where(outcome, 0.1, -0.1))
    assert 0 < again.mean() < 0.1
    again, _ = searched(lone, outcome, 0 * outcome, verdict=np.where(outcome, 1, 0), rate=np.where(outcome, 0.1, -0.1))
    assert np.all(again[outcome > 0])


def test_what_is_in_doubt():
    stable, unstable, marginal, none = (Predicted[name] for name in ("stable", "unstable", "marginal", "none"))
    rest, cycle, away, open_ = Outcome.converged, Outcome.cycling, Outcome.diverged, Outcome.undecided
    table = [
        (rest, stable, -0.1, False),
        (away, unstable, 0.1, False),
        (cycle, unstable, 0.1, False),
        (away, stable, -0.1, False),
        (rest, none, np.nan, False),
        (open_, stable, -0.1, True),
        (rest, marginal, 0.0, True),
        (rest, unstable, 0.1, True),  # from which rounding has not driven away
        (cycle, stable, -0.1, True),  # around which rounding goes in circles
        (cycle, none, np.nan, True),
        (rest, stable, -0.008, True),  # too slow for that
        (away, unstable, 0.0009, True),
    ]
    outcome, verdict, rate, expected = (np.array(column) for column in zip(*table, strict=True))
    doubtful = refinement._doubtful(found(outcome, verdict, rate), 1000.0, 1e-3, 1e6)
    np.testing.assert_array_equal(doubtful, expected)
    assert refinement._doubtful(found([away], unstable, 0.1), 1000.0, 1e-3, 1e20).all()
    without = refinement._doubtful(found([rest, cycle, away, open_]), 1000.0, 1e-3, 1e6)
    assert without.tolist() == [False, True, False, True]


def test_picked_cells_are_those_of_the_sweep():
    own = resolve({"a": np.linspace(0, 1, 4), "b": 3.0, "seed": seeds([7, 5])}, "grid", 3)
    numbers = np.array([2, 3, 11, 23])
    picked = refinement.Picked.of(own, numbers)
    for name, values in picked.at(np.array([3, 0])).items():
        np.testing.assert_array_equal(values, own.at(numbers[[3, 0]])[name])
    assert picked.axes["seed"].is_seed and picked.shape == (4,) and picked.start_keys.tolist() == [2, 0, 2, 2]


@pytest.mark.slow
def test_starts_and_keys_are_those_of_their_cells():
    def build(rate, start_key):
        update = dy.updates.Simultaneous(*[optimisers.sgd(rate)] * 2, direction=dy.directions.Noisy(scale=0.1))
        x, y = jax.random.normal(start_key, (2,))
        return dy.games.Bilinear(1.0), update, (x, y)

    common = dict(steps=8, starts=5, key=jax.random.key(3), predict=False)
    double = chart({"rate": np.linspace(0.1, 3, 6)}, build, **common)
    refined = chart({"rate": np.linspace(0.1, 3, 6)}, build, refine="boundary", **common)
    again = refined.refined.values
    assert again.sum() > 0
    np.testing.assert_allclose(refined.player_0.values[again], double.player_0.values[again], rtol=1e-12)


def test_bad_input_is_refused_at_the_door():
    with pytest.raises(ValueError, match="refine is 'edge'; expected None or \"boundary\""):
        chart(refine="edge")
    with pytest.raises(ValueError, match="dtype is float32, and refine"):
        chart(refine="boundary", dtype=np.float32)
    with pytest.raises(ValueError, match="'refined' is the name of a variable"):
        chart(refine="boundary", measures={"refined": None})
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs float64.*jax_enable_x64"):
        chart(refine="boundary")
