"""What `build` returns means the same to all who take one: a start, from which the equilibrium follows by one rule."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics import _trees, optimisers
from dynamics.analysis import EquilibriumError, find_equilibrium
from dynamics.ensembles import Predicted, seeds

GENERATOR = np.random.default_rng(14)


class Bent(dy.Game):
    """A general-sum game of unequal players, a dictionary and a number, which knows what it is told to know.

    L_i = z' M_i z / 2 + b_i' z + c_i' sin(W z); with `walks` the field of the first number becomes 1 + x^2.
    """

    matrices: jax.Array
    offsets: jax.Array
    bends: jax.Array
    inner: jax.Array
    known: tuple = ()
    walks: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)

    def losses(self, players, key=None):
        z = ravel_pytree(players)[0]
        bent = jnp.sin(self.inner.astype(z.dtype) @ z)
        first, second = self.matrices @ z @ z / 2 + self.offsets @ z + self.bends @ bent
        first = (1 - self.walks) * first - self.walks * (z[0] + z[0] ** 3 / 3 - z[1] ** 2)
        return first.astype(z.dtype), second.astype(z.dtype)

    def equilibria(self):
        return self.known

    @classmethod
    def example(cls):
        return cls(**numbers(GENERATOR)), START


START = {"a": jnp.asarray([0.1, -0.2])}, jnp.asarray(0.3)


def numbers(rng):
    matrices = rng.normal(size=(2, 3, 3))
    matrices[0, :2, :2] += 2 * np.eye(2)
    matrices[1, 2, 2] += 2
    return dict(
        matrices=(matrices + matrices.transpose(0, 2, 1)) / 2,
        offsets=rng.normal(size=(2, 3)),
        bends=0.5 * rng.normal(size=(2, 2)),
        inner=rng.normal(size=(2, 3)),
    )


def bent(seed, **more):
    return Bent(**{name: jnp.asarray(value) for name, value in numbers(np.random.default_rng(seed)).items()}, **more)


def sgd(rate, kind=dy.updates.Alternating):
    return kind(optimisers.sgd(rate), optimisers.sgd(1.3 * rate))


def flat(players):
    return np.asarray(ravel_pytree(players)[0])


# All six


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 11])
def test_all_six_look_at_the_same_equilibrium(seed):
    """The equilibrium moves with the parameter, as do the eigenvalues with it."""
    game = bent(seed)

    def build(rate):
        shifted = eqx.tree_at(lambda one: one.offsets, game, game.offsets + 0.5 * rate)
        return shifted, sgd(rate), START

    def report(rate):
        game, method, start = build(rate)
        return dy.stability(game, method, at=find_equilibrium(game, start).players, order="linear")

    low, high = 0.1, 3.0
    assert report(low).verdict == "stable" and report(high).verdict == "unstable"
    found = dy.critical(build, low, high, samples=33)
    np.testing.assert_allclose(report(found.value).radius, 1, rtol=0, atol=1e-9)
    np.testing.assert_allclose(flat(found.players), flat(report(found.value).players), rtol=0, atol=1e-9)
    path = dy.spectrum_path(build, low, high, 33)
    first = int(np.argmax(path.reach > 1))
    assert path.parameters[first - 1] <= found.value <= path.parameters[first]
    for index in (0, 17):
        expected = report(path.parameters[index])
        np.testing.assert_allclose(path.reach[index], expected.radius, rtol=1e-9)
        np.testing.assert_allclose(path.equilibria[index], flat(expected.players), rtol=0, atol=1e-9)
    rates = found.value + np.array([-1e-4, 1e-4])
    chart = dy.stability_chart(build, {"rate": [*rates, *path.parameters[[0, 17]]]})
    assert chart.predicted_verdict.values[:2].tolist() == [Predicted.stable, Predicted.unstable]
    np.testing.assert_allclose(chart.predicted_radius[2:], path.reach[[0, 17]], rtol=1e-9)
    swept = dy.sweep(build, {"rate": [*rates, *path.parameters[[0, 17]]]}, steps=8)
    for name in ("predicted_verdict", "predicted_radius", "equilibrium_0_a", "equilibrium_1", "equilibrium_condition"):
        np.testing.assert_allclose(swept[name], chart[name], rtol=1e-12)
    slope = dy.sensitivity(build, found.value).slope[0]
    np.testing.assert_allclose(slope, np.diff([report(rate).radius for rate in rates])[0] / 2e-4, rtol=1e-4)
    # At the least radius of the samples, or where it is less still.
    best = dy.best(build, {"rate": (low, high)}, population=8, generations=12)
    assert best.radius <= path.reach.min() + 1e-12
    np.testing.assert_allclose(best.radius, report(best.parameters["rate"]).radius, rtol=1e-9)


# Which equilibrium


def wells(p, known, weight=50.0):
    """x' = (x - x^3) (1 + p x / 2) beside a player at rest at 0: at rest at -1, 0 and 1, with other slopes each."""

    def losses(players, key=None):
        x, y = players
        return x**4 / 4 - x**2 / 2 + p * (x**5 / 10 - x**3 / 6), weight * y**2

    return dy.Game.from_losses(losses, [(point, 0.0) for point in known])


SLOPES = {-1.0: -1.0, 0.0: 1.0, 1.0: -3.0}  # at p = 1


def in_wells(known, start):
    def build(p):
        parts = wells(p, known), dy.flows.Flow()
        return parts if start is None else (*parts, start)

    return build


@pytest.mark.slow_cases(
    "a start on an unknown one",
    "a start right beside an unknown one",
    "the nearest known one",
    "found",
    "found on the other side",
)
@pytest.mark.parametrize(
    "known, start, at, point",
    [
        ((0.0, 1.0, -1.0), None, None, 0.0),
        ((0.0, 1.0), (0.8, 0.3), None, 1.0),
        ((0.0, 1.0), (0.2, 0.3), None, 0.0),
        ((0.0,), (1.0, 0.0), None, 1.0),
        ((0.0,), (-0.995, 1e-3), None, -1.0),
        ((), (0.9, 0.3), None, 1.0),
        ((), (-0.9, 0.3), None, -1.0),
        ((0.0, 1.0), (0.8, 0.3), (-1.0, 0.0), -1.0),
        ((), None, lambda p: (p / p, 0 * p), 1.0),
    ],
    ids=[
        "the first known one",
        "the nearest known one",
        "the nearest is the first",
        "a start on an unknown one",
        "a start right beside an unknown one",
        "found",
        "found on the other side",
        "named",
        "named by a function",
    ],
)
def test_which_equilibrium(known, start, at, point):
    build = in_wells(known, start)
    found = dy.sensitivity(build, 1.0, at=at)
    np.testing.assert_allclose(flat(found.report.players), [point, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.slope, [-(3 * point**2 - 1) * point / 2], rtol=0, atol=1e-9)
    chart = dy.stability_chart(build, {"p": [1.0]}, at=at)
    np.testing.assert_allclose(chart.predicted_abscissa, [SLOPES[point]], rtol=1e-10)
    assert ("equilibrium_0" in chart) == ("Newton" in chart.attrs["prediction"])


@pytest.mark.slow
def test_the_second_of_the_known_ones_for_all_six():
    """Stability changes at p = 2 at -1, and at p = -2 at 1: at 0 never."""
    step = dy.updates.Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.1))

    def build(p):
        return wells(p, (0.0, 1.0, -1.0), 1.5), step, (-0.7, 0.2)

    found = dy.critical(build, 0.5, 3.1, samples=9)
    np.testing.assert_allclose(found.value, 2, atol=1e-10)
    assert (found.below, found.above, str(found.kind)) == ("stable", "unstable", "fold")
    np.testing.assert_array_equal(flat(found.players), [-1, 0])
    path = dy.spectrum_path(build, 0.5, 3.1, 3)
    np.testing.assert_allclose(path.reach, 1 + 0.1 * (path.parameters - 2), atol=1e-12)
    np.testing.assert_array_equal(path.equilibria, [[-1, 0]] * 3)
    axes = {"p": [1.0, 3.0]}
    swept, chart = dy.sweep(build, axes, steps=4), dy.stability_chart(build, axes)
    np.testing.assert_allclose([swept.predicted_radius, chart.predicted_radius], [[0.9, 1.1]] * 2, rtol=1e-12)
    assert (
        swept.attrs["prediction"] == chart.attrs["prediction"] == "eigenvalues at the game's nearest known equilibrium"
    )
    named = dy.sweep(build, axes, steps=4, at=(0.0, 0.0))
    np.testing.assert_allclose(named.predicted_radius, [1.1, 1.1], rtol=1e-12)


def test_an_equilibrium_on_the_other_side_is_no_critical_value():
    """The start crosses 0 and with it the equilibrium that is found: stability changes with the point alone."""

    def build(p):
        return wells(1.0, (0.0, 1.0)), dy.flows.Flow(), (p, 0.1)

    with pytest.raises(EquilibriumError, match=r"at 0\.49999.* the equilibrium jumps from \(0, 0\) to \(1, 0\)"):
        dy.critical(build, 0.2, 0.9, samples=4)


# What is no equilibrium


def beyond(p):
    """Nobody is at rest anywhere: the first player walks on."""
    game = dy.Game.from_losses(lambda players, key=None: (p * players[0], (players[1] - players[0]) ** 2))
    return game, dy.updates.Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.1)), (0.5, 0.25)


def nowhere(p):
    return beyond(p)[:2]


NAMES = {
    "critical": lambda build, **more: dy.critical(build, 0.5, 2.0, samples=3, **more),
    "spectrum_path": lambda build, **more: dy.spectrum_path(build, 0.5, 2.0, 3, **more),
    "best": lambda build, **more: dy.best(build, {"p": (0.5, 2.0)}, population=2, generations=1, **more),
    "sensitivity": lambda build, **more: dy.sensitivity(build, 1.25, **more),
}


@pytest.mark.slow_cases("critical")
@pytest.mark.parametrize("name", NAMES)
def test_never_a_number_where_there_is_no_equilibrium(name):
    call = NAMES[name]
    with pytest.raises(EquilibriumError, match=r"found no equilibrium from \(0\.5, 0\.25\).*by player: [\d.]+, \d"):
        call(beyond)
    with pytest.raises(EquilibriumError, match="knows none of its equilibria, and build returns no start"):
        call(nowhere)
    with pytest.raises(EquilibriumError, match="is no equilibrium"):
        call(in_wells((0.0,), None), at=(0.5, 0.0))
    with pytest.raises(EquilibriumError, match="is no equilibrium"):
        call(in_wells((0.3,), None))


@pytest.mark.slow
def test_charts_and_sweeps_predict_nothing_where_there_is_no_equilibrium():
    axes = {"p": [0.5, 2.0]}
    for found in (dy.stability_chart(beyond, axes), dy.sweep(beyond, axes, steps=4)):
        assert set(found.predicted_verdict.values) == {Predicted.none}
        assert np.isnan(found.equilibrium_0).all() and (found.equilibrium_residual > 0.4).all()
    named = dy.stability_chart(in_wells((0.0,), None), axes, at=(0.5, 0.0))
    assert set(named.predicted_verdict.values) == {Predicted.none}
    with pytest.raises(ValueError, match="nothing to predict: .*build returns no start"):
        dy.stability_chart(nowhere, axes)
    with pytest.raises(ValueError, match="there is no start to simulate from"):
        dy.sweep(nowhere, axes, steps=4)


def test_points_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="the start has 2 numbers, and an equilibrium of FunctionGame has 3"):
        dy.critical(in_wells((0.0, 1.0), (1.0, 0.0)), 0.5, 2.0, at=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"at\(p=1\) failed"):
        dy.sweep(in_wells((0.0,), (1.0, 0.0)), {"p": 1.0}, until=1.0, at=lambda p: (jnp.log(-p), p))


# Sweeps that look for equilibria


def check_cell(cell, game, method, start, rtol):
    """As `find_equilibrium` and `stability` have it; `None` where Newton's method wanders and rounding decides."""
    if 16 < cell.equilibrium_steps < 100:
        return None
    try:
        found = find_equilibrium(game, start)
    except EquilibriumError:
        assert cell.predicted_verdict == Predicted.none and np.isnan(cell.predicted_rate)
        return Predicted.none
    report = dy.stability(game, method, at=found.players, order="linear")
    reach = cell.predicted_radius if report.kind == "map" else cell.predicted_abscissa
    expected = report.radius if report.kind == "map" else report.abscissa
    assert Predicted(int(cell.predicted_verdict)).name == report.verdict
    np.testing.assert_allclose(reach, expected, rtol=rtol, atol=rtol)
    point = np.concatenate(
        [np.ravel(cell[name]) for name in cell if name.startswith("equilibrium_") and name[12].isdigit()]
    )
    np.testing.assert_allclose(point, flat(found.players), rtol=0, atol=rtol * (1 + np.abs(point).max()))
    np.testing.assert_allclose(cell.equilibrium_distance, found.distance, rtol=1e3 * rtol)
    np.testing.assert_allclose(cell.equilibrium_condition, found.condition, rtol=1e3 * rtol)
    assert cell.equilibrium_residual <= (1e-5 if rtol > 1e-6 else 1e-12) * 100
    return Predicted(int(cell.predicted_verdict))


METHODS = {
    "momentum": lambda rate: dy.updates.Alternating(optimisers.momentum(rate, 0.4), optimisers.sgd(2 * rate)),
    "flow": lambda rate: dy.flows.Flow(rates=(1.0, 10 * rate)),
}


@pytest.mark.slow_cases("momentum-float64")
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("momentum", np.float64),
        pytest.param("flow", np.float64, marks=pytest.mark.slow),
        pytest.param("momentum", np.float32, marks=pytest.mark.slow),
    ],
)
def test_random_games_cell_by_cell(name, dtype):
    """Games that know nothing; in some of them there is no equilibrium: the first number's field is 1 + x^2."""
    base = bent(0)

    def build(rate, walks, key):
        leaves, structure = jax.tree.flatten(base)
        drawn = [jax.random.normal(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
        game = jax.tree.unflatten(structure, drawn)
        matrices = 0.3 * (game.matrices + jnp.swapaxes(game.matrices, 1, 2)) + jnp.eye(3)
        changed = matrices, 0.3 * game.bends, jnp.asarray(walks)
        game = eqx.tree_at(lambda one: (one.matrices, one.bends, one.walks), game, changed)
        return game, METHODS[name](rate), START

    axes = {"rate": [0.1, 0.8], "walks": [0.0, 1.0], "key": seeds(6)}
    duration = dict(until=0.5) if name == "flow" else dict(steps=4)
    found = dy.sweep(build, axes, dtype=dtype, **duration)
    assert found.attrs["prediction"] == "eigenvalues at the equilibrium that Newton's method finds from the start"
    verdicts = []
    for rate, walks, key in np.ndindex(2, 2, 6):
        parts = build(axes["rate"][rate], axes["walks"][walks], jax.random.key(key))
        game, method, start = (_trees.cast(part, dtype) for part in parts)
        cell = found.isel(rate=rate, walks=walks, key=key)
        verdicts.append(check_cell(cell, game, method, start, 1e-9 if dtype == np.float64 else 1e-3))
    assert {Predicted.none, Predicted.stable, Predicted.unstable} <= set(verdicts) and verdicts.count(None) < 6


@pytest.mark.slow
def test_a_manifold_of_equilibria_is_found_and_left_out():
    """Only the sum of the first player's numbers counts: from every start another point of a line."""

    def losses(players, key=None):
        x, y = players
        return jnp.cosh(jnp.sum(x) - 0.3) + jnp.sum(x) * y, jnp.cosh(y) - jnp.sum(x) * y

    def build(rate, first):
        return dy.Game.from_losses(losses), sgd(rate), (jnp.stack([first, -0.1 * first]), 0.2)

    found = dy.sweep(build, {"rate": [0.1, 3.0], "first": [0.0, 1.0]}, steps=4)
    for i, rate in enumerate(found.rate.values):
        for j, first in enumerate(found["first"].values):
            check_cell(found.isel(rate=i, first=j), *build(rate, first), 1e-9)
    assert np.isinf(found.equilibrium_condition).all() and (np.ptp(found.equilibrium_0.values, axis=1) > 0.1).all()
    assert found.predicted_verdict[:, 0].values.tolist() == [Predicted.stable, Predicted.unstable]


@pytest.mark.slow
def test_shortened_refined_and_stored_sweeps_find_the_same(tmp_path):
    game = bent(3)

    def build(rate):
        return game, sgd(rate), START

    axes = {"rate": np.linspace(0.05, 3.0, 40)}
    plain = dy.sweep(build, axes, steps=1100)
    names = [name for name in plain if name.startswith(("predicted_", "equilibrium_"))]
    assert len(names) == 10
    others = [
        dy.sweep(build, axes, steps=1100, stop_early=True),
        dy.sweep(build, axes, steps=1100, store=tmp_path / "run.zarr", chunk=24).load(),
    ]
    for other in others:
        for name in names:
            np.testing.assert_allclose(other[name], plain[name], rtol=1e-12, atol=1e-15)
    refined = dy.sweep(build, axes, steps=1100, refine="boundary")
    np.testing.assert_array_equal(refined.predicted_verdict, plain.predicted_verdict)
    again = refined.refined.values
    np.testing.assert_allclose(refined.equilibrium_1[again], plain.equilibrium_1[again], rtol=1e-12)
    np.testing.assert_allclose(refined.equilibrium_1, plain.equilibrium_1, rtol=1e-5)


# What is left out is said


@pytest.mark.slow
def test_predictions_that_are_left_out_are_announced():
    def wide(rate):
        game = dy.Game.from_losses(lambda players, key=None: (jnp.sum(jnp.cosh(players[0])),))
        return game, dy.updates.Simultaneous(optimisers.sgd(rate)), (jnp.full(40, 0.1),)

    with pytest.warns(UserWarning, match="left out: .*40 numbers of the players.*at= names it"):
        found = dy.sweep(wide, {"rate": [0.1]}, steps=4)
    assert "predicted_verdict" not in found and found.attrs["prediction"].startswith("none: ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = dy.sweep(wide, {"rate": [0.1]}, steps=4, predict=False)
        named = dy.sweep(wide, {"rate": [0.1]}, steps=4, at=(jnp.zeros(40),))
    assert found.attrs["prediction"] == "not asked for"
    np.testing.assert_allclose(named.predicted_radius, 0.9, rtol=1e-12)


@pytest.mark.slow
def test_games_that_know_their_equilibria_are_not_searched():
    def build(rate):
        return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), sgd(rate), (1.0, 1.0)

    found = dy.sweep(build, {"rate": [0.1, 0.2]}, steps=4)
    assert not [name for name in found if name.startswith("equilibrium")]
    assert found.attrs["prediction"] == "eigenvalues at the game's first known equilibrium"
