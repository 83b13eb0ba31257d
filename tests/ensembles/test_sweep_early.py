"""Sweeps that stop cells early, and flows with steps of one length."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

import dynamics as dy
from dynamics.ensembles import cells, running
from dynamics.ensembles.designs import resolve
from dynamics.ensembles.fixed_step import FixedStep, tableau_of, whole_steps
from dynamics.updates.base import State

STEPS, SHORT = 2048, 128  # a twentieth, in 64 stretches of equal length
AXES = {"rate": np.linspace(0.02, 0.9, 9), "weight": np.linspace(-0.1, 2.0, 7)}
FIXED = dict(stepsize_controller=diffrax.ConstantStepSize(), dt0=0.05)


def build(rate, weight):
    one, other = dy.optimisers.sgd(rate), dy.optimisers.sgd(rate / 2)

    def losses(players, key=None):
        x, y = players
        return 3 * x * y, weight * jnp.sum(y**2) / 2 - 3 * x * y

    return dy.Game.from_losses(losses, [(0.0, 0.0)]), dy.updates.Alternating(one, other), (0.3, -0.4)


def flow(weight, speed):
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
    return game, dy.flows.Flow(rates=(1.0, speed)), (0.3, 0.4)


def same(one, other, where=slice(None)):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name].values[where], other[name].values[where], err_msg=name)


@pytest.mark.slow
def test_settled_cells_have_the_numbers_of_the_shorter_run_and_the_others_those_of_the_whole(monkeypatch):
    sweeps.small_blocks(monkeypatch, 6)
    early = dy.sweep(build, AXES, steps=STEPS, stop_early=True)
    duration = early.duration
    assert set(np.unique(duration)) == {SHORT, STEPS} and early.duration.attrs["units"] == "steps"
    early = early.drop_vars("duration")
    whole, short = dy.sweep(build, AXES, steps=STEPS), dy.sweep(build, AXES, steps=SHORT)
    same(early, whole, duration.values == STEPS)
    same(early, short, duration.values == SHORT)
    # Nobody is stopped on the way to another outcome.
    np.testing.assert_array_equal(early.outcome, whole.outcome)
    stopped = duration.values < STEPS
    assert {dy.Outcome.converged, dy.Outcome.diverged} == set(np.unique(early.outcome.values[stopped]))
    assert dy.Outcome.converged in early.outcome.values[~stopped]


@pytest.mark.slow
def test_early_stops_do_not_depend_on_chunks_and_are_kept(tmp_path, monkeypatch):
    sweeps.small_blocks(monkeypatch, 6)
    whole = dy.sweep(build, AXES, steps=STEPS, stop_early=True)
    same(whole, dy.sweep(build, AXES, steps=STEPS, stop_early=True, chunk=17))
    same(whole, dy.sweep(build, AXES, steps=STEPS, stop_early=True, chunk=17, store=tmp_path / "early.zarr").load())
    with pytest.raises(ValueError, match="trial"):
        dy.sweep(build, AXES, steps=STEPS, store=tmp_path / "early.zarr")


@pytest.mark.slow
def test_short_runs_are_not_shortened():
    assert set(np.unique(dy.sweep(build, AXES, steps=100, stop_early=True, predict=False).get("duration", 100))) == {
        100
    }


SOLVERS = [diffrax.Tsit5(), *[pytest.param(one, marks=pytest.mark.slow) for one in (diffrax.Heun(), diffrax.Euler())]]


@pytest.mark.slow_cases("solver0")
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_of_one_length_are_those_of_diffrax(solver):
    axes = {"weight": np.linspace(0.1, 1.0, 5), "speed": np.linspace(0.5, 2.0, 3)}
    found = dy.sweep(flow, axes, until=40.0, solver=solver, predict=False, **FIXED)
    for weight, speed in ((0.1, 2.0), (1.0, 0.5)):
        run = dy.simulate(*flow(weight, speed), until=40.0, solver=solver, **FIXED)
        own = found.sel(weight=weight, speed=speed)
        np.testing.assert_allclose([own.player_0, own.player_1], run.final, rtol=0, atol=1e-12)
        assert own.outcome == run.outcome and abs(own.simulated_rate - run.rate) < 0.1 * abs(run.rate)
    times = found.steps_to_tolerance.where(found.outcome == dy.Outcome.converged)
    assert 0 < float(times.max()) < 40 and found.steps_to_tolerance.attrs["units"] == "time"


@pytest.mark.slow
def test_flows_stop_early_too():
    axes = {"weight": np.linspace(0.5, 1.0, 3), "speed": np.linspace(1.0, 2.0, 2)}
    found = dy.sweep(flow, axes, until=640.0, stop_early=True, predict=False, **FIXED)
    assert set(np.unique(found.duration)) == {32.0, 640.0}  # a twentieth of 12,800 steps; one cell is slower
    assert (found.duration == 32).sum() == 5
    assert (found.outcome == dy.Outcome.converged).all()


def test_the_time_is_kept_where_a_flow_depends_on_it():
    class Driven(dy.flows.base.AbstractFlow):
        def init(self, game, players):
            return State(players, ())

        def field(self, game, time, state):
            return State(jax.tree.map(lambda own: jnp.cos(time) + 0 * own, state.players), ())

        @classmethod
        def example(cls, players=2):
            return cls()

    game = dy.games.Bilinear(1.0)
    update = FixedStep(Driven(), tableau_of(diffrax.Tsit5()), jnp.asarray(0.1))
    state = update.init(game, (jnp.asarray(0.0), jnp.asarray(1.0)))
    for _ in range(20):
        state = update.step(game, state)
    np.testing.assert_allclose(state.players, [np.sin(2.0), 1 + np.sin(2.0)], atol=1e-8)
    plain = FixedStep(dy.flows.Flow(), tableau_of(diffrax.Tsit5()), jnp.asarray(0.1))
    assert not jax.tree.leaves(plain.init(game, (0.0, 1.0)).memory)


@pytest.mark.parametrize(
    "options",
    [
        dict(dt0=0.1),
        dict(stepsize_controller=diffrax.ConstantStepSize()),
        dict(stepsize_controller=diffrax.ConstantStepSize(), dt0=0.3),
        dict(stepsize_controller=diffrax.ConstantStepSize(), dt0=0.1, solver=diffrax.Kvaerno3()),
        dict(stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3), dt0=0.1),
    ],
)
def test_other_flows_go_to_diffrax(options):
    assert whole_steps(1.0, options) is None


def test_whole_numbers_of_steps_are_known_in_both_precisions():
    for dtype in (np.float32, np.float64):
        options = dict(stepsize_controller=diffrax.ConstantStepSize(), dt0=dtype(1e-3))
        assert whole_steps(dtype(1.0), options) == 1000


@pytest.mark.slow
def test_a_chunk_is_one_program_and_exchanges_nothing_with_the_host():
    given = {name: np.full((2, 8), values[3]) for name, values in AXES.items()}
    plan = running.recipe_of(build, resolve(AXES, "grid", None), 64, None, None, None, False, (1e-3, 1e6), None, {})
    arrays, rest = eqx.partition((plan, given, np.zeros((2, 8), np.uint32)), eqx.is_array_like)
    recipe, values, indices = eqx.combine(jax.device_put(arrays), rest)
    first = cells.run_chunk(recipe, values, indices, tuple(jax.devices()[:1]))
    with jax.transfer_guard("disallow"):
        again = cells.run_chunk(recipe, values, indices, tuple(jax.devices()[:1]))
    np.testing.assert_array_equal(first["outcome"], again["outcome"])
