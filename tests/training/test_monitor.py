"""Readings of a training: spectra against dense ones, tracks, other rates, warnings, anybody's loop."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiled

import dynamics as dy
from dynamics import experiments
from dynamics._compiling import compile_quickly
from dynamics.analysis import Leading, StateOperator
from dynamics.training import Monitor
from dynamics.training.monitor import Stretched, _measured, with_factors
from dynamics.updates.rescaling import rescaled
from tests.training.trainings import small

KEY = jax.random.key(4)


def trained(dtype=None, steps=30):
    game, update, players, _ = small(dtype)
    run = dy.simulate(game, update, players, steps=steps, save_every="last")
    return game, update, run.state


@pytest.mark.slow_cases("float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.slow
def test_eigenvalues_are_those_of_the_dense_jacobian(dtype):
    game, update, state = trained(dtype)
    reading = Monitor(game, update, leading=3, advise=False)(30, state)
    dense = StateOperator(game, update, state).as_matrix()
    expected = np.linalg.eigvals(np.asarray(dense, float))
    expected = expected[np.argsort(-np.abs(expected))]
    tolerance = 1e-8 if dtype == jnp.float64 else 2e-3
    for value in reading.eigenvalues:
        assert np.abs(expected - value).min() < tolerance
    assert abs(reading.radius - abs(expected[0])) < tolerance


@pytest.mark.slow
def test_norms_alignment_and_gap_are_what_they_say():
    game, update, state = trained()
    reading = Monitor(game, update, leading=0)(7, state)
    new = update.step(game, state)

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    for player in range(2):
        change = flat(new.players[player]) - flat(state.players[player])
        assert reading.step_norms[player] == pytest.approx(np.linalg.norm(change), rel=1e-9)
        size = np.linalg.norm(flat(state.players[player]))
        assert reading.relative_steps[player] == pytest.approx(np.linalg.norm(change) / size, rel=1e-9)
        for other in range(2):
            slope = flat(jax.grad(lambda players, other=other: game.losses(players)[other])(state.players)[player])
            cosine = -slope @ change / np.linalg.norm(slope) / np.linalg.norm(change)
            assert reading.alignment[player, other] == pytest.approx(cosine, abs=1e-9)
            if other == player:
                assert reading.gradient_norms[player] == pytest.approx(np.linalg.norm(slope), rel=1e-9)
    assert reading.gap == pytest.approx(float(game.losses(state.players)[1]) - 2 * np.log(2))
    assert reading.tracks == () and np.isnan(reading.radius) and reading.seconds["spectrum"] == 0
    json.dumps(reading.to_dict(), allow_nan=False)


def test_a_reading_without_eigenvalues_takes_the_arithmetic_of_three_steps():
    """Gradients of both losses by all parameters, losses, and a step; every further reading compiles nothing."""
    ring = experiments.ring(width=16, batch_size=32)
    game, update = ring.game, ring.update
    state, key = update.init(game, ring.players), jax.random.key(0)

    def operations(function, *arguments):
        numbers, rest = eqx.partition(arguments, eqx.is_array)
        lowered = jax.jit(lambda numbers: function(*eqx.combine(numbers, rest))).lower(numbers)
        return compile_quickly(lowered).cost_analysis()["flops"]

    of_a_step = operations(lambda update, state, key: update.step(game, state, key), update, state, key)
    of_a_reading = operations(_measured, game, update, state, key, np.uint32(3))
    assert of_a_step < of_a_reading < 3.5 * of_a_step
    watch = Monitor(game, update, leading=0, every=2, key=key)
    watch(0, state)
    with compiled() as counted:
        readings = [watch(step, state) for step in range(1, 5)]
    assert counted.count == 0 and [reading is None for reading in readings] == [True, False, True, False]
    assert readings[1].products == 0 and readings[1].step == 2


@pytest.mark.slow
def test_a_reading_with_eigenvalues_takes_its_products_and_no_difference_quotients():
    """Those of the method, the scales and the residuals; with half the rate of each player as many again."""
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    random = np.random.default_rng(0).standard_normal((2, 2, 20, 20)) / 10
    symmetric = [random[0, 0] + random[0, 0].T, random[1, 1] + random[1, 1].T]
    game = dy.games.Quadratic([[symmetric[0], random[0, 1]], [random[1, 0], symmetric[1]]])
    state = update.init(game, tuple(jnp.ones(20) for _ in range(2)))
    asked = Leading(3, bound=0, conditions=False)
    whole = dy.stability(game, update, state, leading=asked)
    quick = dy.stability(game, update, state, leading=dataclasses.replace(asked, quotients=False))
    np.testing.assert_allclose(quick.eigenvalues, whole.eigenvalues, rtol=1e-10)
    assert whole.smoothness == "smooth" and quick.smoothness == "none"
    assert quick.verdict == "marginal" and any("Difference quotients were not taken" in note for note in quick.notes)
    assert whole.products - quick.products == 4  # along two vectors and two random directions
    watch = Monitor(game, update, leading=3)
    reading = watch(0, state)
    assert reading.products == quick.products * 3 and len(reading.changes) == 2


@pytest.mark.slow
def test_tracks_follow_the_vectors():
    # Two players that do not see each other: the order of their eigenvalues changes with the rates, the tracks do not.
    class Bent(dy.Game):
        def losses(self, players, key=None):
            x, y = players
            return -jnp.cosh(0.5 * x), -jnp.cosh(y) / 2

        def equilibria(self):
            return ()

        @classmethod
        def example(cls):
            return cls(), (0.0, 0.0)

    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    watch = Monitor(Bent(), update, leading=2, advise=False)
    states = [update.init(Bent(), (jnp.asarray(x), jnp.asarray(y))) for x, y in [(0.0, 0.0), (4.0, 0.0)]]
    first, second = (watch(step, state) for step, state in enumerate(states))
    np.testing.assert_allclose(first.eigenvalues, [1.05, 1.025], rtol=1e-12)
    np.testing.assert_allclose(second.eigenvalues, [1 + 0.025 * np.cosh(2.0), 1.05], rtol=1e-12)
    assert first.tracks == (0, 1) and second.tracks == (1, 0)
    data = watch.to_xarray()
    np.testing.assert_allclose(data.eigenvalues.sel(track=1).real, [1.025, 1 + 0.025 * np.cosh(2.0)])
    # A state that is broken in between has no spectrum, and the tracks go on after it.
    broken = update.init(Bent(), (jnp.asarray(jnp.nan), jnp.asarray(0.0)))
    assert watch(2, broken).tracks == () and watch(3, states[1]).tracks == (1, 0)
    assert data.step_norms.dims == ("step", "player") and data.radius.dims == ("step",)


@pytest.mark.slow_cases("Alternating-optimiser1")
@pytest.mark.parametrize(
    "scheme, optimiser",
    [
        (dy.updates.Simultaneous, optax.adam(0.05, 0.5)),
        (dy.updates.Alternating, optax.sgd(0.1, 0.9)),
        (dy.updates.Extragradient, dy.optimisers.adam(0.02)),
    ],
)
@pytest.mark.slow_cases("Simultaneous-optimiser0", "Extragradient-optimiser2")
def test_rescaled_updates_are_those_with_other_rates(scheme, optimiser):
    game, _, players, _ = small()
    plain = dy.optimisers.sgd(0.1)
    extra = {"extrapolation": 0.1} if scheme is dy.updates.Extragradient else {}
    update = rescaled(scheme(optimiser, plain, **extra), (0.5, 3.0))
    scaled = scheme(optax.chain(dy.optimisers.as_transformation(optimiser), optax.scale(0.5)), optax.sgd(0.3), **extra)
    ends = [dy.simulate(game, one, players, steps=5, save_every="last").final for one in (update, scaled)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_rescaling_leaves_optimisers_where_a_schedule_picks_their_numbers():
    """And twice is the product."""
    game, start = dy.games.Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0))

    def once(rates):
        return dy.updates.Simultaneous(*map(dy.optimisers.sgd, rates))

    def scheduled(update):
        return dy.updates.Scheduled(
            update, lambda step: 1.0 + step, lambda game, update: update.steppers.optimisers[0].positional[0]
        )

    update = rescaled(rescaled(scheduled(once((0.1, 0.3))), (0.5, 2.0)), (4.0, 1.0))
    ends = [
        dy.simulate(game, one, start, steps=3, save_every="last").final for one in (update, scheduled(once((0.2, 0.6))))
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)


def test_changes_are_the_spectra_of_the_changed_steps():
    game = dy.games.Bilinear(1.0)
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.4))
    state = update.init(game, (jnp.asarray(1.0), jnp.asarray(0.0)))
    reading = Monitor(game, update, leading=2)(0, state)
    assert reading.radius == pytest.approx(np.sqrt(1.04)) and reading.turning == np.inf
    for change in reading.changes:
        assert change.factor == 0.5 and change.radius == pytest.approx(np.sqrt(1.02))
    (warning,) = reading.warnings
    assert "radius 1.0198" in warning and "rotation" in warning and "half the rate of player 1" in warning
    assert "1.00995" in warning and reading.describe().endswith(warning)


@pytest.mark.slow
def test_other_rates_compile_nothing():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.adam(0.1))
    watch = Monitor(game, update, leading=2)
    for step in range(2):  # the second one begins where the first one ended
        watch(step, update.init(game, (jnp.asarray(0.1 + step), jnp.asarray(0.2))))
    with compiled() as programs:
        reading = watch(2, update.init(game, (jnp.asarray(0.3), jnp.asarray(0.2))))
    assert programs.count == 0 and reading.changes


@pytest.mark.slow
def test_the_largest_factor_is_the_known_one():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    sgd = optax.sgd(0.1)
    update = dy.updates.Simultaneous(sgd, sgd)
    state = update.init(game, (jnp.asarray(0.0), jnp.asarray(0.0)))
    factor = Monitor(game, update, leading=2).largest_factor(state)
    assert factor == pytest.approx(12.0, rel=0.01)  # stable up to a rate of 1.2, as README has it
    one = Monitor(game, update, leading=2).largest_factor(state, players=[0])
    held = dy.critical(lambda step: (game, dy.updates.Simultaneous(dy.optimisers.sgd(step), sgd)), 0.1, 3.0).value
    assert one == pytest.approx(held / 0.1, rel=0.01)
    assert Monitor(game, update, leading=2).largest_factor(state, limit=1e9) == 64.0
    assert Monitor(game, update, leading=2).largest_factor(state, limit=0.5) == 0.0


@pytest.mark.slow
def test_anybodys_loop():
    optimiser = optax.adam(0.05)

    def train_step(state, batch, key):
        def losses(x, y):
            return (x - batch) * y, -(x - batch) * y + y**2

        slopes = (
            jax.grad(lambda x: losses(x, state["y"])[0])(state["x"]),
            jax.grad(lambda y: losses(state["x"], y)[1])(state["y"]),
        )
        new = {}
        for name, slope in zip("xy", slopes, strict=True):
            change, new["m" + name] = optimiser.update(slope, state["m" + name])
            new[name] = state[name] + change
        return new

    start = jnp.asarray(1.0)
    state = {"x": start, "y": 2 * start, "mx": optimiser.init(start), "my": optimiser.init(start)}
    loop = dy.from_step(train_step, state, players=lambda s: (s["x"], s["y"]), batch=jnp.asarray(0.1))
    watch = Monitor(loop.game, loop.update, leading=2, every=2)
    for step in range(5):
        reading = watch(step, state, batch=jnp.asarray(0.1 * step))
        assert (reading is None) == (step % 2 == 1)
        state = train_step(state, jnp.asarray(0.1 * step), None)
    assert [reading.step for reading in watch.readings] == [0, 2, 4]
    report = dy.stability(*dy.from_step(train_step, state, players=lambda s: (s["x"], s["y"]), batch=jnp.asarray(0.5)))
    assert watch(6, state, batch=jnp.asarray(0.5)).radius == pytest.approx(report.radius, rel=1e-6)
    stretched = with_factors(loop.update, (1.0, 0.5))
    assert isinstance(stretched, Stretched)
    moved = stretched.step(loop.game, loop.state).players[1] - loop.state.players[1]
    assert moved == pytest.approx(0.5 * float(loop.update.step(loop.game, loop.state).players[1] - 2.0), rel=1e-6)


@pytest.mark.slow
def test_a_callback_of_train_with_minibatches():
    game, update, players, data = small()
    watch = Monitor(game, update, leading=0, every=2, key=KEY)
    dy.train(game, update, players, steps=4, every=1, data=data, key=KEY, callbacks=[watch])
    assert [reading.step for reading in watch.readings] == [0, 2, 4]
    assert watch.to_xarray().gap.shape == (3,) and watch.to_xarray().sizes["track"] == 0


@pytest.mark.slow
def test_what_goes_wrong_is_said():
    game, update, state = trained()
    won = eqx.tree_at(lambda s: s.players, state, (state.players[0], jax.tree.map(lambda x: 30 * x, state.players[1])))
    text = " ".join(Monitor(game, update, leading=0)(0, won).warnings)
    loss = float(game.losses(won.players)[1])
    assert ("far below 1.386" in text) == (loss < np.log(2))
    broken = eqx.tree_at(lambda s: s.players, state, jax.tree.map(lambda x: x * jnp.nan, state.players))
    reading = Monitor(game, update)(0, broken)
    assert reading.warnings == ("losses, gradients or the step are not finite numbers: the training has broken down",)
    slow = dy.updates.Simultaneous(optax.sgd(1e-9), optax.sgd(0.1))
    reading = Monitor(game, slow, leading=0)(0, slow.init(game, state.players))
    assert "times apart" in reading.warnings[0]


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Monitor("game", None), TypeError, "game is 'game'; expected a dynamics.Game"),
        (lambda: Monitor(dy.games.Bilinear(1.0), optax.sgd(0.1)), TypeError, "expected a dynamics.Update"),
        (lambda: Monitor(*small()[:2], leading=-1), ValueError, "leading is -1"),
        (lambda: Monitor(*small()[:2], every=0), ValueError, "every is 0"),
        (lambda: Monitor(*small()[:2])(0, small()[2]), TypeError, "expected a State"),
        (lambda: rescaled(dy.updates.ProximalPoint(0.1, 0.1), (1, 1)), TypeError, "no optimiser of each player"),
        (lambda: rescaled(small()[1], (1,)), ValueError, "1 factors for 2 players"),
    ],
)
@pytest.mark.slow_cases("<lambda>-ValueError-leading is -1")
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
