"""Runs: what is saved, what became of the players, batches, resuming, and what is refused when called."""

import asymmetric
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.simulation import Outcome, simulate

BILINEAR = dy.games.Bilinear(1.0)


def outcome(run):
    return Outcome(int(run.outcome)).name


def sgd(one, two=None, kind=dy.updates.Simultaneous):
    return kind(optimisers.sgd(one), optimisers.sgd(one if two is None else two))


def alternating(one, two=None):
    return sgd(one, two, dy.updates.Alternating)


def linear(matrix):
    """A two-player linear game with this Jacobian of its field."""
    (a, b), (c, d) = matrix
    return dy.games.Quadratic([[-a, -b], [-c, -d]])


def step_by_step(update, game, players, steps, key=None):
    """The states of plain application of the update, start included."""
    state = update.init(game, players)
    states = [state]
    step = eqx.filter_jit(lambda s, k: update.step(game, s, k))
    for t in range(steps):
        state = step(state, None if key is None else jax.random.fold_in(key, t))
        states.append(state)
    return states


# What is saved


@pytest.mark.slow_cases("None-expected0")
@pytest.mark.parametrize(
    "save_every, expected", [(None, range(14)), (3, (0, 3, 6, 9, 12)), ("last", (13,)), (13, (0, 13))]
)
def test_saved_values_are_those_of_step_by_step_application(save_every, expected):
    update, game, start = alternating(0.07, 0.11), asymmetric.make(2), asymmetric.start(2)
    states = step_by_step(update, game, start, 13)
    measures = {"sum": lambda g, p: p[0]["a"] + p[0]["b"], "losses": lambda g, p: g.losses(p)}
    run = simulate(game, update, start, steps=13, save_every=save_every, measures=measures)
    assert run.steps.tolist() == list(expected)
    by_hand = asymmetric.ByHand(2)
    for index, step in enumerate(expected):
        point = jax.tree.map(lambda leaf, i=index: leaf[i], run.players)
        z = asymmetric.flat(states[step].players)
        np.testing.assert_allclose(asymmetric.flat(point), z, rtol=1e-13)
        np.testing.assert_allclose([loss[index] for loss in run.losses], by_hand.losses(z), rtol=1e-12)
        np.testing.assert_allclose([loss[index] for loss in run.measures["losses"]], by_hand.losses(z), rtol=1e-12)
        np.testing.assert_allclose(run.measures["sum"][index], z[0] + z[1], rtol=1e-12)
    z = asymmetric.flat(states[-1].players)
    np.testing.assert_allclose(asymmetric.flat(run.final), z, rtol=1e-13)
    np.testing.assert_allclose(run.residual, np.linalg.norm(by_hand.field(z)), rtol=1e-12)
    assert int(run.solver_steps) == 13


@pytest.mark.parametrize(
    "steps, classify",
    [(1, True), (2, True), (3, True), (5, True), (5, False), (63, True), (64, True), (65, True), (131, False)],
)
def test_any_number_of_steps(steps, classify):
    """The end is exact, whatever the number of segments: the rotation and growth of simultaneous steps."""
    run = simulate(BILINEAR, sgd(0.1), (1.0, 0.0), steps=steps, save_every="last", classify=classify)
    found = complex(float(run.final[0]), float(run.final[1]))
    np.testing.assert_allclose(found, (1 + 0.1j) ** steps, rtol=1e-12)


@pytest.mark.slow
def test_a_key_draws_a_new_batch_every_step():
    game, update, key = asymmetric.make(2), alternating(0.07, 0.11), jax.random.key(3)
    states = step_by_step(update, game, asymmetric.start(2), 6, key)
    run = simulate(game, update, asymmetric.start(2), steps=6, key=key, save_every="last")
    np.testing.assert_allclose(asymmetric.flat(run.final), asymmetric.flat(states[-1].players), rtol=1e-12)


@pytest.mark.slow
def test_flow_saves():
    flow = dy.flows.Flow()
    run = simulate(BILINEAR, flow, (1.0, 0.0), until=2.0, save_every=0.7)
    np.testing.assert_allclose(run.times, [0, 0.7, 1.4])
    np.testing.assert_allclose(run.players[0], np.cos([0, 0.7, 1.4]), atol=1e-7)
    np.testing.assert_allclose(run.players[1], np.sin([0, 0.7, 1.4]), atol=1e-7)
    np.testing.assert_allclose(run.final, (np.cos(2), np.sin(2)), atol=1e-7)
    last = simulate(BILINEAR, flow, (1.0, 0.0), until=2.0, save_every="last", classify=False)
    np.testing.assert_allclose(last.players, [[np.cos(2)], [np.sin(2)]], atol=1e-7)
    np.testing.assert_allclose(last.times, [2.0])


# What became of the players


@pytest.mark.parametrize(
    "matrix",
    [
        [[-0.3, -1.0], [1.0, -0.3]],  # spiral
        [[0.2, -1.0], [1.0, 0.2]],
        [[-0.1, 0.0], [0.0, -0.4]],  # node
        [[-0.3, -8.0], [0.2, -0.3]],  # spiral far from normal
        [[0.25, -8.0], [0.2, 0.25]],
    ],
)
@pytest.mark.parametrize("at", [0.0, 30.0])
def test_rates_of_maps(matrix, at):
    """The measured rate is the log of the radius, within 2 %; at the origin and elsewhere."""
    h, a = 0.1, np.array(matrix)
    offset = a @ [at, -at]
    game = dy.games.Quadratic([[-a[0, 0], -a[0, 1]], [-a[1, 0], -a[1, 1]]], offsets=list(offset))
    expected = np.log(np.max(np.abs(np.linalg.eigvals(np.eye(2) + h * a))))
    run = simulate(game, sgd(h), (at + 1.0, -at + 0.4), steps=1500, save_every="last")
    assert outcome(run) == ("converged" if expected < 0 else "diverged")
    # Growth is measured up to the limit only, over a few turns of the narrow spiral.
    np.testing.assert_allclose(run.rate, expected, rtol=0.02 if expected < 0 else 0.06)
    if expected < 0:
        np.testing.assert_allclose(run.final, (at, -at), atol=1e-4)


@pytest.mark.slow_cases("0.3", "-0.2")
@pytest.mark.parametrize("damping", [0.3, -0.2])
def test_rates_of_flows(damping):
    game = linear([[-damping, -1.0], [1.0, -damping]])
    run = simulate(game, dy.flows.Flow(), (1.0, 0.5), until=60.0, save_every="last")
    assert outcome(run) == ("converged" if damping > 0 else "diverged")
    np.testing.assert_allclose(run.rate, -damping, rtol=0.02)


@pytest.mark.slow
def test_overflow_and_growth_are_divergence_and_have_a_rate():
    for steps, h in ((60, 0.5), (500, 0.5), (3000, 0.8)):  # still small, past the limit, not finite
        run = simulate(BILINEAR, sgd(h), (1.0, 1.0), steps=steps, save_every=min(steps, 500))
        assert outcome(run) == "diverged"
        assert np.isfinite(float(run.final[0])) == (steps < 3000)
        if steps < 3000:
            np.testing.assert_allclose(run.rate, np.log(np.sqrt(1.25)), rtol=0.02)
    run = simulate(BILINEAR, sgd(0.5), (1.0, 1.0), steps=5000, save_every="last", classify=False)
    assert outcome(run) == "diverged" and np.isnan(run.rate)


@pytest.mark.parametrize("h", [0.1, 0.5, 1.5])
def test_alternating_cycles_with_the_period_of_its_rotation(h):
    """2 pi / (2 arcsin(h/2)) steps."""
    for save_every in ("last", 1):
        run = simulate(BILINEAR, alternating(h), (1.0, 1.0), steps=2000, save_every=save_every)
        assert outcome(run) == "cycling"
        np.testing.assert_allclose(run.period, np.pi / np.arcsin(h / 2), rtol=2e-3)
        assert abs(float(run.rate)) < 1e-4


@pytest.mark.slow
def test_a_limit_cycle():
    """A weakly nonlinear centre: radius sqrt(4/3) and period 2 pi to first order (averaging)."""
    run = simulate(dy.games.AlmostBilinear(0.1), dy.flows.Flow(), (0.1, 0.1), until=400.0)
    assert outcome(run) == "cycling"
    np.testing.assert_allclose(run.period, 2 * np.pi, rtol=5e-3)
    radius = np.hypot(*run.players)[-200:]
    np.testing.assert_allclose(radius, np.sqrt(4 / 3), rtol=0.05)


def test_undecided():
    run = simulate(BILINEAR, alternating(0.01), (1.0, 1.0), steps=200)
    assert outcome(run) == "undecided" and np.isnan(run.period)
    assert run.describe().startswith("undecided") and "more steps" in run.describe()


def test_starting_at_rest():
    game = dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]], offsets=[1.0, -0.3])
    run = simulate(game, sgd(0.1), game.equilibria()[0], steps=100)
    assert outcome(run) == "converged"
    np.testing.assert_allclose(run.residual, 0, atol=1e-15)


def test_a_slow_drift_is_not_rest():
    """In float32 ten tiny steps are below the rounding of a comparison with the size, but they go somewhere."""
    start = (jnp.float32(1.0), jnp.float32(1.0))
    assert outcome(simulate(BILINEAR, sgd(1e-6), start, steps=40)) == "undecided"


@pytest.mark.slow
def test_float32_stays_float32():
    start = (np.float32(1.0), np.float32(0.5))
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    runs = simulate(game, alternating(0.2), start, steps=400), simulate(game, dy.flows.Flow(), start, until=100.0)
    for run in runs:
        assert {leaf.dtype for leaf in jax.tree.leaves((run.players, run.losses, run.rate))} == {np.dtype(np.float32)}
        assert outcome(run) == "converged"
    np.testing.assert_allclose(runs[1].rate, -0.15, rtol=0.02)


# Flows: accuracy, solvers, failures


@pytest.mark.slow_cases("Dopri8", "Tsit5")
@pytest.mark.slow_cases("Kvaerno5")
@pytest.mark.parametrize(
    "solver, accuracy",
    [(None, 1e-6), (diffrax.Dopri8(), 1e-6), (diffrax.Kvaerno5(), 1e-5)],
    ids=["Tsit5", "Dopri8", "Kvaerno5"],
)
def test_the_rotation_of_the_bilinear_game(solver, accuracy):
    run = simulate(BILINEAR, dy.flows.Flow(), (1.0, 0.0), until=31 * np.pi, solver=solver, save_every="last")
    np.testing.assert_allclose(run.final, (-1.0, 0.0), atol=accuracy)
    assert outcome(run) == "cycling"
    np.testing.assert_allclose(run.period, 2 * np.pi, rtol=1e-3)


@pytest.mark.slow
def test_euler_with_constant_steps_is_the_simultaneous_update():
    constant = dict(solver=diffrax.Euler(), stepsize_controller=diffrax.ConstantStepSize(), dt0=0.1)
    run = simulate(BILINEAR, dy.flows.Flow(), (1.0, 0.0), until=2.0, save_every="last", **constant)
    found = complex(float(run.final[0]), float(run.final[1]))
    np.testing.assert_allclose(found, (1 + 0.1j) ** 20, rtol=1e-12)
    assert int(run.solver_steps) == 20


def test_the_linear_regime_of_a_regularised_gan():
    """Eigenvalues -g/2 +- i sqrt(1/4 - g^2/4) of the Dirac-GAN with R1 of weight g (Mescheder et al. 2018)."""
    gamma, size, time = 0.3, 1e-6, 4.0
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(gamma))
    controller = diffrax.PIDController(rtol=1e-10, atol=1e-16)
    run = simulate(
        game,
        dy.flows.Flow(),
        (size, 0.0),
        until=time,
        stepsize_controller=controller,
        save_every="last",
        classify=False,
    )
    decay, turn = np.exp(-gamma / 2 * time), np.sqrt(0.25 - gamma**2 / 4)
    theta = decay * (np.cos(turn * time) + gamma / 2 / turn * np.sin(turn * time))
    psi = decay * 0.5 / turn * np.sin(turn * time)
    np.testing.assert_allclose(np.array(run.final) / size, (theta, psi), rtol=1e-7)


@pytest.mark.slow
def test_blow_up_in_finite_time_is_divergence():
    """x' = x^2 from 1 ends at time 1."""
    game = dy.Game.from_losses(lambda players, key=None: (-(players[0] ** 3) / 3,))
    run = simulate(game, dy.flows.Flow(), (1.0,), until=2.0)
    assert outcome(run) == "diverged"
    np.testing.assert_allclose(run.players[0][64], 1 / (1 - 0.25), rtol=1e-7)


def test_a_solver_that_runs_out_of_steps_leaves_the_outcome_open():
    run = simulate(BILINEAR, dy.flows.Flow(), (1.0, 0.0), until=1000.0, max_steps=20, save_every="last")
    assert outcome(run) == "undecided" and int(run.solver_steps) == 20
    np.testing.assert_allclose(np.hypot(*run.final), 1.0, rtol=1e-6)


# Batches


STARTS = jnp.asarray([[1.0, 0.5], [1e3, -2.0], [0.0, 0.0], [-0.3, 4.0]])


@pytest.mark.slow
def test_a_batch_of_starts_agrees_with_each_alone_to_rounding():
    """Compiled alone or in a batch, a step may be fused differently: points agree to a few units in the last place."""
    game, update = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), alternating(0.2, 0.3)

    def run(start):
        return simulate(game, update, (start[0], start[1]), steps=100)

    together = jax.vmap(run)(STARTS)
    for i, start in enumerate(STARTS):
        alone = run(start)
        one, many = np.stack(alone.players), np.stack([player[i] for player in together.players])
        # Of the point: a number that passes through 0 has no small relative error.
        assert np.all(np.abs(one - many) <= 16 * np.finfo(one.dtype).eps * np.linalg.norm(one, axis=0))
        assert alone.outcome == together.outcome[i]
        np.testing.assert_allclose(alone.rate, together.rate[i], rtol=1e-6)


@pytest.mark.slow
def test_a_batch_of_learning_rates():
    rates = jnp.asarray([0.02, 0.1, 0.5])

    def bare(h):
        return simulate(BILINEAR, dy.updates.Simultaneous(optax.sgd(h), optax.sgd(h)), (1.0, 1.0), steps=500)

    def leaves(h):
        return simulate(BILINEAR, sgd(h), (1.0, 1.0), steps=500)

    one, two = jax.vmap(bare)(rates), jax.jit(jax.vmap(leaves))(rates)
    np.testing.assert_allclose(one.final, two.final, rtol=1e-12)
    np.testing.assert_allclose(two.rate, np.log(np.sqrt(1 + rates**2)), rtol=0.02)
    method = eqx.filter_vmap(sgd)(rates)  # a batch of methods is a method with a leading axis
    three = eqx.filter_vmap(lambda m: simulate(BILINEAR, m, (1.0, 1.0), steps=500))(method)
    np.testing.assert_allclose(two.final, three.final, rtol=1e-12)


@pytest.mark.slow
def test_one_diverging_game_disturbs_nobody():
    """Neighbours of a game that overflows, for a map; of one that blows up, for a flow."""

    def game(a):
        return dy.Game.from_losses(lambda players, key=None: (players[0] ** 2 / 2 - a * players[0] ** 3 / 3,))

    weights = jnp.asarray([0.0, 5.0, 0.1])
    update, flow = dy.updates.Simultaneous(optimisers.sgd(0.3)), dy.flows.Flow()
    for method, duration in ((update, dict(steps=200)), (flow, dict(until=50.0))):
        runs = jax.vmap(lambda a, m=method, d=duration: simulate(game(a), m, (1.0,), save_every="last", **d))(weights)
        assert [Outcome(int(o)).name for o in runs.outcome] == ["converged", "diverged", "converged"]
        expected = np.log(0.7) if method is update else -1.0
        np.testing.assert_allclose(runs.rate[::2], expected, rtol=0.02)


def test_a_batch_has_no_description():
    run = jax.vmap(lambda x: simulate(BILINEAR, sgd(0.1), (x, 1.0), steps=4))(jnp.ones(2))
    with pytest.raises(ValueError, match="batch of runs"):
        run.describe()


# Going on, progress, derivatives


@pytest.mark.slow
def test_going_on_equals_one_long_run():
    game = dy.games.DiracGAN()
    update = dy.updates.Alternating(optimisers.momentum(0.1, -0.3), optimisers.adam(0.05))
    one = simulate(game, update, (1.0, 0.5), steps=60, save_every="last")
    two = simulate(game, update, one.state, steps=40, save_every="last")
    whole = simulate(game, update, (1.0, 0.5), steps=100, save_every="last")
    for a, b in zip(jax.tree.leaves(two.state), jax.tree.leaves(whole.state)):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    flow = dy.flows.GapAwareFlow(1.3)
    one = simulate(game, flow, (1.0, 0.5), until=3.0, save_every="last")
    two = simulate(game, flow, one.state, until=2.0, save_every="last")
    whole = simulate(game, flow, (1.0, 0.5), until=5.0, save_every="last")
    for a, b in zip(jax.tree.leaves(two.state), jax.tree.leaves(whole.state)):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.slow_cases("method1-duration1")
@pytest.mark.parametrize("method, duration", [(sgd(0.1), dict(steps=70)), (dy.flows.Flow(), dict(until=5.0))])
def test_progress(method, duration, capfd):
    """A bar on the error stream, alone and in a batch; the numbers are the same."""

    def run(x, progress):
        return simulate(
            BILINEAR, method, (x, 1.0), progress=progress, save_every="last", classify=False, **duration
        ).final

    plain, shown = run(1.0, False), jax.block_until_ready(jax.vmap(lambda x: run(x, True))(jnp.ones(2)))
    jax.block_until_ready(run(1.0, True))
    jax.effects_barrier()
    np.testing.assert_allclose(np.array(shown)[:, 0], plain, rtol=1e-12)
    captured = capfd.readouterr()
    assert captured.out == "" and "100" in captured.err


@pytest.mark.slow
def test_forward_mode_derivatives():
    def end(h):
        return simulate(BILINEAR, sgd(h), (1.0, 0.0), steps=20).final

    _, slopes = jax.jvp(end, (0.1,), (1.0,))
    expected = 20j * (1 + 0.1j) ** 19
    np.testing.assert_allclose(slopes, (expected.real, expected.imag), rtol=1e-12)
    _, slopes = jax.jvp(lambda x: simulate(BILINEAR, dy.flows.Flow(), (x, 0.0), until=1.0).final, (1.0,), (1.0,))
    np.testing.assert_allclose(slopes, (np.cos(1), np.sin(1)), atol=1e-6)


# What is refused when called


FLOW, UPDATE = dy.flows.Flow(), sgd(0.1)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=0), ValueError, "steps is 0; expected a whole"),
        (
            lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=1.5),
            ValueError,
            "steps is 1.5; expected a whole",
        ),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), until=1.0), ValueError, "an update takes steps=..., not until"),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0)), ValueError, "an update takes steps=..."),
        (lambda: simulate(BILINEAR, FLOW, (1.0, 1.0), steps=3), ValueError, "a flow takes until=..., not steps"),
        (
            lambda: simulate(BILINEAR, FLOW, (1.0, 1.0), until=-1.0),
            ValueError,
            "until is -1.0; expected a positive time",
        ),
        (lambda: simulate(BILINEAR, FLOW, (1.0, 1.0), until=np.nan), ValueError, "until is nan; expected a positive"),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=9, save_every=10), ValueError, "use save_every='last'"),
        (
            lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=9, save_every=0),
            ValueError,
            "save_every is 0; expected",
        ),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=9, save_every="end"), ValueError, "save_every is 'end'"),
        (
            lambda: simulate(BILINEAR, FLOW, (1.0, 1.0), until=1.0, save_every="end"),
            ValueError,
            "save_every is end; .*'last'",
        ),
        (
            lambda: simulate(BILINEAR, FLOW, (1.0, 1.0), until=1.0, save_every=2.0),
            ValueError,
            "save_every is 2.0; .*'last'",
        ),
        (lambda: simulate(BILINEAR, optax.sgd(0.1), (1.0, 1.0), steps=3), TypeError, "expected an update .* or a flow"),
        (
            lambda: simulate(BILINEAR, UPDATE, (1.0, np.nan), steps=3),
            ValueError,
            r"players\[1\] is nan; expected finite",
        ),
        (lambda: simulate(BILINEAR, UPDATE, 1.0, steps=3), TypeError, "expected a tuple with one entry"),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, "a"), steps=3), TypeError, r"players\[1\] is 'a'"),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, np.ones(2)), steps=3), ValueError, r"Bilinear expects"),
        (lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0, 1.0), steps=3), ValueError, "shapes"),
        (
            lambda: simulate(asymmetric.make(2), UPDATE, (np.ones(3), np.ones(4)), steps=3),
            ValueError,
            "cannot take players",
        ),
        (lambda: simulate(asymmetric.make(2), UPDATE, (np.ones(5),), steps=3), ValueError, "1 players for a game of 2"),
        (
            lambda: simulate(asymmetric.make(3), UPDATE, asymmetric.start(3), steps=3),
            ValueError,
            "2 optimisers for 3 pl",
        ),
        (
            lambda: simulate(BILINEAR, UPDATE, (1.0, 1.0), steps=3, tolerance=0.0),
            ValueError,
            "tolerance is 0.0; expected",
        ),
        (
            lambda: simulate(BILINEAR, UPDATE, dy.updates.State((jnp.ones(()),) * 2, ()), steps=3),
            ValueError,
            "go on with the method that made the state",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
