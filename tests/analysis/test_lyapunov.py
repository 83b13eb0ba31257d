"""Lyapunov exponents against eigenvalues, Floquet's theorem, chaos in closed form, and orbits followed in NumPy."""

import json

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from compilations import compiled

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import StateOperator, lyapunov_exponents

# Three scalar players whose matrix has real eigenvalues and is far from normal.
SHEAR = np.array([[1.0, 2.0, -1.0], [0.5, 1.5, 3.0], [-1.0, 0.3, 1.0]])
MATRIX = SHEAR @ np.diag([0.3, 1.1, 2.4]) @ np.linalg.inv(SHEAR)
GAME = dy.games.Quadratic([list(row) for row in MATRIX])
START = (1.0, -0.5, 0.25)


def sgd(*rates, kind=dy.updates.Simultaneous):
    return kind(*(optimisers.sgd(rate) for rate in rates))


def log_moduli(matrix):
    return np.sort(np.log(np.abs(np.linalg.eigvals(matrix))))[::-1]


# Maps


def test_of_a_linear_map_they_are_the_logs_of_the_moduli_of_its_eigenvalues():
    rates = (0.3, 0.2, 0.25)
    jacobian = np.eye(3) - np.diag(rates) @ MATRIX
    expected = log_moduli(jacobian)
    assert np.linalg.norm(jacobian @ jacobian.T - jacobian.T @ jacobian) > 0.1
    result = lyapunov_exponents(GAME, sgd(*rates), START, steps=400, warm_up=400)
    np.testing.assert_allclose(result.exponents, expected, rtol=1e-9)
    np.testing.assert_allclose(result.errors, 0, atol=1e-9)
    np.testing.assert_allclose(result.sum, np.log(abs(np.linalg.det(jacobian))), rtol=1e-12)
    assert (result.kind, result.size, result.steps, result.step, result.warm_up) == ("map", 3, 400, 1.0, 400)
    assert result.dimension == 0 and result.notes == ()


def test_the_memory_of_momentum_has_exponents_of_its_own():
    rates, beta = np.diag([0.3, 0.2, 0.25]), np.diag([0.05, 0.02, -0.04])
    update = dy.updates.Simultaneous(*(optimisers.momentum(*pair) for pair in zip(np.diag(rates), np.diag(beta))))
    jacobian = np.block([[np.eye(3) - rates @ MATRIX, -rates @ beta], [MATRIX, beta]])
    expected = log_moduli(jacobian)
    assert np.all(np.diff(expected) < -0.02)
    result = lyapunov_exponents(GAME, update, START, steps=500, warm_up=500, interval=3)
    np.testing.assert_allclose(result.exponents, expected, atol=1e-8)


def test_the_largest_alone_are_the_first_of_all():
    rates = (0.3, 0.2, 0.25)
    expected = log_moduli(np.eye(3) - np.diag(rates) @ MATRIX)
    result = lyapunov_exponents(GAME, sgd(*rates), START, steps=400, warm_up=400, count=2)
    np.testing.assert_allclose(result.exponents, expected[:2], rtol=1e-9)


@pytest.mark.slow
def test_a_run_goes_on_from_its_state():
    # Adam from rest and Adam from the memory of a run have different exponents over a few steps.
    game, players = asymmetric.make(2), asymmetric.start(2)
    update = dy.updates.Alternating(optimisers.adam(0.05, b1=0.5), optimisers.sgd(0.1))
    start = dy.simulate(game, update, players, steps=7, save_every="last").state
    resumed = lyapunov_exponents(game, update, start, steps=1, warm_up=0, count=1)
    again = lyapunov_exponents(game, update, start.players, steps=1, warm_up=0, count=1)
    size = jax.flatten_util.ravel_pytree(eqx.filter(start, eqx.is_inexact_array))[0].size
    first = np.linalg.qr(np.random.default_rng(0).standard_normal((size, 1)))[0]
    jacobian = np.asarray(StateOperator(game, update, start).as_matrix())
    assert resumed.exponents[0] == pytest.approx(np.log(np.linalg.norm(jacobian @ first)), rel=1e-9)
    assert abs(resumed.exponents[0] - again.exponents[0]) > 1e-3
    end = dy.simulate(game, update, start, steps=1, save_every="last").final
    for mine, other in zip(jax.tree.leaves(resumed.final), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)
    for arguments in ({"batch": True}, {}):
        method = update if arguments else dy.flows.Flow()
        with pytest.raises(ValueError, match="players is a State"):
            lyapunov_exponents(game, method, start, steps=1, **arguments)
    with pytest.raises(ValueError, match="the state has the memory"):
        lyapunov_exponents(game, sgd(0.1, 0.1), start, steps=1)


def test_alternating_descent_on_a_bilinear_game_keeps_all_distances():
    update = sgd(0.1, 0.1, kind=dy.updates.Alternating)
    result = lyapunov_exponents(dy.games.Bilinear(1.0), update, (1.0, 1.0), steps=5000)
    np.testing.assert_allclose(result.exponents, 0, atol=1e-5)
    np.testing.assert_allclose(result.sum, 0, atol=1e-14)
    assert result.dimension == 2


def held(players=3, pull=3.0):
    """The asymmetric game with a pull towards 0, so that runs stay; and the same in NumPy."""
    arrays = asymmetric.numbers(players)
    arrays["matrices"] = arrays["matrices"] + pull * np.eye(arrays["matrices"].shape[-1])
    numpy = asymmetric.ByHand(players)
    numpy.matrices = arrays["matrices"]
    return asymmetric.Asymmetric(**{name: jnp.asarray(value) for name, value in arrays.items()}), numpy


def by_hand(z, steps, warm_up, rates, draws=None):
    """The QR method step by step on simultaneous descent in the asymmetric game, from the definition."""
    game, total = held()[1], np.zeros(z.size)
    basis, volume = np.eye(z.size), 0.0
    for t in range(warm_up + steps):
        jacobian = np.eye(z.size) + rates[:, None] * game.jacobian(z)
        z = z + rates * (game.field(z) + (0 if draws is None else draws[t]))
        basis, triangle = np.linalg.qr(jacobian @ basis)
        if t >= warm_up:
            total += np.log(np.abs(np.diag(triangle)))
            volume += np.log(abs(np.linalg.det(jacobian)))
    return total / steps, volume / steps


@pytest.fixture(scope="module")
def orbit():
    sizes = asymmetric.SIZES[3]
    return np.repeat(asymmetric.RATES, sizes), sgd(*asymmetric.RATES)


def test_along_an_orbit_of_unequal_players_they_are_those_of_the_qr_method_in_numpy(orbit):
    rates, update = orbit
    result = lyapunov_exponents(held()[0], update, asymmetric.start(3), steps=300, warm_up=10)
    expected, volume = by_hand(asymmetric.flat(asymmetric.start(3)), 300, 10, rates)
    # The sum does not depend on the first basis; within the plane of a pair the basis stays arbitrary.
    np.testing.assert_allclose(result.sum, volume, rtol=1e-9)
    np.testing.assert_allclose(result.exponents, np.sort(expected)[::-1], atol=0.01)


def test_a_key_gives_the_run_and_its_tangents_the_same_batches(orbit):
    rates, update = orbit
    key, z = jax.random.key(5), asymmetric.flat(asymmetric.start(3))
    # The noise of every loss is linear in z: player i's gradient gets its own part of row i.
    noise = [0.1 * np.asarray(jax.random.normal(jax.random.fold_in(key, t), (3, z.size))) for t in range(60)]
    draws = [-np.concatenate([row[part] for row, part in zip(one, asymmetric.parts(3))]) for one in noise]
    result = lyapunov_exponents(held()[0], update, asymmetric.start(3), steps=60, warm_up=0, key=key)
    np.testing.assert_allclose(result.sum, by_hand(z, 60, 0, rates, draws=draws)[1], rtol=1e-9)
    exact = by_hand(z, 60, 0, rates)[1]
    assert abs(result.sum - exact) > 1e-5


def test_a_batch_is_its_single_runs(orbit):
    _, update = orbit
    game, starts = held()[0], jax.tree.map(lambda x: jnp.stack([x, 0.5 * x, -x]), asymmetric.start(3))
    options = dict(steps=60, count=4, warm_up=7, interval=4)
    batch = lyapunov_exponents(game, update, starts, batch=True, **options)
    assert batch.exponents.shape == (3, 4) and batch.sum.shape == batch.dimension.shape == (3,)
    single = lyapunov_exponents(game, update, jax.tree.map(lambda x: x[1], starts), **options)
    np.testing.assert_allclose(batch.exponents[1], single.exponents, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(batch.errors[1], single.errors, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        asymmetric.flat(jax.tree.map(lambda x: x[1], batch.final)), asymmetric.flat(single.final)
    )
    assert "3 runs: largest exponent from" in batch.describe()


def test_single_precision_follows_the_players():
    rates = (0.3, 0.2, 0.25)
    start = tuple(np.float32(x) for x in START)
    result = lyapunov_exponents(GAME, sgd(*rates), start, steps=100, warm_up=100)
    assert result.final[0].dtype == np.float32
    np.testing.assert_allclose(result.exponents, log_moduli(np.eye(3) - np.diag(rates) @ MATRIX), rtol=1e-4)


# Chaos


def logistic(step=0.5):
    """A game of one player on which descent with this step is the logistic map x -> 4 x (1 - x)."""
    return dy.Game.from_losses(lambda p, key=None: ((4 * p[0] ** 3 / 3 - 3 * p[0] ** 2 / 2) / step,))


def test_descent_that_is_the_logistic_map_has_the_exponent_log_2():
    result = lyapunov_exponents(logistic(), sgd(0.5), (0.3,), steps=20_000)
    assert abs(float(result.exponents[0]) - np.log(2)) < 1e-3
    assert 0 < result.errors[0] < 2e-3
    assert result.dimension == 1


def henon(a=1.4, b=0.3):
    """A game of two players on which simultaneous descent with step 1 is Henon's map."""
    return dy.Game.from_losses(
        lambda p, key=None: (
            p[0] ** 2 / 2 - p[0] + a * p[0] ** 3 / 3 - p[0] * p[1],
            p[1] ** 2 / 2 - b * p[0] * p[1],
        )
    )


def test_descent_that_is_the_map_of_henon_has_its_exponents_and_dimension():
    result = lyapunov_exponents(henon(), sgd(1.0, 1.0), (0.1, 0.1), steps=50_000)
    np.testing.assert_allclose(result.sum, np.log(0.3), rtol=1e-9)  # it contracts areas by 0.3 everywhere
    # 0.4192 and 1.2583: Grassberger, Kantz, Moenig, On the symbolic dynamics of the Henon map, 1989, and others.
    assert abs(result.exponents[0] - 0.4192) < 4 * result.errors[0] < 0.02
    assert abs(result.dimension - 1.2583) < 0.005


def test_two_largest_exponents_that_do_not_add_up_below_zero_leave_the_dimension_open():
    result = lyapunov_exponents(henon(), sgd(1.0, 1.0), (0.1, 0.1), steps=2000, count=1)
    assert np.isnan(result.dimension) and "more exponents than 1 of 2" in result.notes[0]


# Flows


def test_of_the_flow_of_a_linear_game_they_are_the_real_parts_of_its_eigenvalues():
    rates = np.array([1.0, 0.5, 0.8])
    expected = np.sort(np.linalg.eigvals(-rates[:, None] * MATRIX).real)[::-1]
    result = lyapunov_exponents(GAME, dy.flows.Flow(rates=tuple(rates)), START, until=30.0, warm_up=60.0)
    assert np.all(np.diff(expected) < -0.05)
    np.testing.assert_allclose(result.exponents, expected, atol=1e-6)
    assert result.kind == "flow" and result.warm_up == 2 * result.steps
    np.testing.assert_allclose(result.steps * result.step, 30)


def test_the_error_of_the_step_is_of_order_four():
    """The exact exponent of the Runge-Kutta method on x' = -x is log(1 - h + h^2/2 - h^3/6 + h^4/24) / h."""
    game = dy.games.Quadratic([[1.0]])
    for step in (0.5, 0.25):
        result = lyapunov_exponents(game, dy.flows.Flow(), (1.0,), until=10.0, step=step)
        expected = np.log(np.polyval([1 / 24, -1 / 6, 1 / 2, -1, 1], step)) / step
        np.testing.assert_allclose(result.exponents, [expected], rtol=1e-12)
        assert 0.005 * step**4 < abs(expected + 1) < 0.02 * step**4


def floquet(field, divergence, start, settle):
    """Period of the attracting cycle and its exponent, the mean of the divergence; and a point on it."""

    def right(t, z):
        return [*field(*z[:2]), divergence(*z[:2])]

    options = dict(rtol=1e-11, atol=1e-12, method="DOP853")
    point = scipy.integrate.solve_ivp(right, (0, settle), [*start, 0], **options).y[:2, -1]
    section = field(*point)

    def crossing(t, z):
        return section @ (z[:2] - point) if t > 1e-3 else 1.0

    crossing.direction, crossing.terminal = 1, True
    turn = scipy.integrate.solve_ivp(right, (0, 100), [*point, 0], events=crossing, **options)
    period = float(turn.t_events[0][0])
    np.testing.assert_allclose(turn.y_events[0][0][:2], point, atol=1e-6)
    return period, turn.y_events[0][0][2] / period, point


def bend(z):
    return z / 2 - 2 * z**3 + z**5


CYCLES = {
    "almost bilinear": (
        dy.games.AlmostBilinear(0.5),
        lambda x, y: np.array([-y, x + 0.5 * (y - y**3)]),
        lambda x, y: 0.5 * (1 - 3 * y**2),
        (1.0, 0.5),
    ),
    "forsaken": (
        dy.games.Forsaken(),
        lambda x, y: np.array([-(y - 0.45) - bend(x), x - bend(y)]),
        lambda x, y: -(1 / 2 - 6 * x**2 + 5 * x**4) - (1 / 2 - 6 * y**2 + 5 * y**4),
        (1.2, 0.5),
    ),
}


@pytest.mark.slow_cases("forsaken")
@pytest.mark.parametrize("name", CYCLES)
def test_a_limit_cycle_has_the_exponents_zero_and_floquets(name):
    game, field, divergence, start = CYCLES[name]
    np.testing.assert_allclose([float(v) for v in game.field(dy.game.as_players((0.3, -0.7)))], field(0.3, -0.7))
    period, expected, point = floquet(field, divergence, start, 300)
    assert expected < -0.05
    # Over whole turns nothing is left of where on the cycle the run began.
    turns = dict(until=20 * period, warm_up=20 * period, step=period / 400)
    result = lyapunov_exponents(game, dy.flows.Flow(), tuple(point), **turns)
    np.testing.assert_allclose(result.exponents, [0, expected], rtol=1e-5, atol=1e-6)
    assert result.dimension == 1


def test_a_flows_memory_counts_and_its_clock_does_not():
    flow = dy.flows.GapAwareFlow(1.0, averaging_time=0.5)
    result = lyapunov_exponents(dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]]), flow, (0.1, 0.2), until=10.0)
    assert result.size == 3
    assert np.all(result.exponents < 0)


# What is not defined


def test_a_run_that_diverges_has_no_exponents():
    starts = (np.array([0.1, 5.0]), np.array([0.1, 0.1]))
    result = lyapunov_exponents(henon(), sgd(1.0, 1.0), starts, steps=500, batch=True)
    assert np.all(np.isfinite(result.exponents[0])) and np.all(np.isnan(result.exponents[1]))
    assert np.isnan(result.dimension[1]) and "1 of 2 runs diverged" in result.describe()
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.to_dict()["exponents"][1] == [None, None]


def test_growth_within_the_limit_is_no_divergence():
    result = lyapunov_exponents(dy.games.Bilinear(1.0), sgd(0.1, 0.1), (1.0, 1.0), steps=4000, limit=1e12)
    np.testing.assert_allclose(result.exponents, np.log(1.01) / 2, atol=1e-6)
    short = lyapunov_exponents(dy.games.Bilinear(1.0), sgd(0.1, 0.1), (1.0, 1.0), steps=4000)
    assert np.all(np.isnan(short.exponents)) and short.notes == (
        "The run diverged: no exponents; take smaller steps, another start, or a larger limit.",
    )


def test_displacements_that_vanish_have_the_exponent_minus_infinity():
    game = dy.games.Quadratic([[1.0, 0.0], [0.0, 0.5]])
    result = lyapunov_exponents(game, sgd(1.0, 1.0), (1.0, 1.0), steps=100)  # x is at rest after one step
    np.testing.assert_allclose(result.exponents, [np.log(0.5), -np.inf])
    assert "displacements vanish" in result.notes[0] and result.sum == -np.inf


def test_what_ten_steps_lose_is_found_with_one():
    game = dy.games.Quadratic([[0.99, 0.0], [0.0, 0.1]])
    result = lyapunov_exponents(game, sgd(1.0, 1.0), (1.0, 1.0), steps=400)
    np.testing.assert_allclose(result.exponents, np.log([0.9, 0.01]), rtol=1e-9)
    lost = lyapunov_exponents(game, sgd(1.0, 1.0), (1.0, 1.0), steps=400, interval=10)
    assert lost.exponents[1] == -np.inf


def test_changed_numbers_compile_nothing():
    def once(scale):
        update = dy.updates.Alternating(optimisers.momentum(0.1 * scale, 0.3), optimisers.sgd(0.2))
        return lyapunov_exponents(dy.games.Torus(0.15 * scale), update, (0.5 * scale, 0.3), steps=50, limit=1e5 * scale)

    first = once(1.0)
    once(1.01)
    with compiled() as programs:
        other = once(1.02)
    assert programs.count == 0 and not np.allclose(first.exponents, other.exponents)


def test_the_result_reads_well():
    result = lyapunov_exponents(GAME, sgd(0.3, 0.2, 0.25), START, steps=400, warm_up=400)
    assert result.describe().startswith("exponents per step: -0.")
    assert "Kaplan-Yorke dimension 0, over 400 steps" in result.describe()
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    np.testing.assert_allclose(data["exponents"], result.exponents)
    assert dy.lyapunov_exponents is lyapunov_exponents


def test_whole_numbers_of_numpy_are_whole_numbers():
    given = dict(steps=50, warm_up=5, interval=5, count=1)
    wanted = lyapunov_exponents(GAME, sgd(0.3, 0.2, 0.25), START, **given)
    found = lyapunov_exponents(GAME, sgd(0.3, 0.2, 0.25), START, **{name: np.int64(n) for name, n in given.items()})
    np.testing.assert_array_equal(found.exponents, wanted.exponents)
    assert type(found.steps) is int


FLOW, TWO = dy.flows.Flow(), (1.0, 1.0)
BILINEAR = dy.games.Bilinear(1.0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: lyapunov_exponents(BILINEAR, 3, TWO, steps=5), TypeError, "method is 3; expected an update"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, until=5.0), ValueError, "an update takes steps"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=0), ValueError, "steps is 0; expected a whole"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, warm_up=-1), ValueError, "warm_up is -1"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, interval=0), ValueError, "interval is 0"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, count=3), ValueError, "from 1 to 2"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, count=True), ValueError, "count is True"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, limit=0), ValueError, "limit is 0"),
        (lambda: lyapunov_exponents(BILINEAR, sgd(0.1, 0.1), TWO, steps=5, batch=True), ValueError, "leading axis"),
        (lambda: lyapunov_exponents(BILINEAR, FLOW, TWO, steps=5), ValueError, "a flow takes until"),
        (lambda: lyapunov_exponents(BILINEAR, FLOW, TWO, until=-1.0), ValueError, "until is -1.0; expected a positive"),
        (lambda: lyapunov_exponents(BILINEAR, FLOW, TWO, until=1.0, warm_up=-1.0), ValueError, "a time >= 0"),
        (lambda: lyapunov_exponents(BILINEAR, FLOW, TWO, until=1.0, key=jax.random.key(0)), ValueError, "key=None"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
