"""Schemes: updates against plain NumPy loops of the published algorithms, and closed forms of their spectra."""

import asymmetric
import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from asymmetric import RATES, SIZES
from hypothesis import given
from numpy.polynomial import polynomial

import dynamics as dy
from dynamics.analysis import linearise
from dynamics.optimisers import momentum, optimistic, sgd
from dynamics.updates import (
    ODEGAN,
    AdaptiveCompetitive,
    Alternating,
    Averaged,
    Clip,
    Extragradient,
    FictitiousPlay,
    Lookahead,
    PastExtrapolation,
    ProximalPoint,
    RungeKutta,
    Simultaneous,
)
from dynamics.updates.runge_kutta import TABLEAUS

STEPS = 6
AHEAD = (0.05, 0.2, 0.13)


@eqx.filter_jit
def iterate(update, game, players, count, key=None):
    def body(i, state):
        return update.step(game, state, None if key is None else jax.random.fold_in(key, i))

    return jax.lax.fori_loop(0, count, body, update.init(game, players))


@pytest.fixture(scope="module")
def step_of():
    """One compiled step of an update, with numbers as arguments."""
    return eqx.filter_jit(lambda update, game, state: update.step(game, state))


def start(players):
    return np.linspace(-0.6, 0.8, sum(SIZES[players]))


def per_parameter(rates, players):
    return np.repeat(rates[:players], SIZES[players])


def end(update, players, steps=STEPS):
    return iterate(update, asymmetric.make(players), asymmetric.start(players), steps).players


def radius(game, update):
    return dy.stability(game, update).radius


SCALAR = dy.games.Bilinear(1.0)


# ---------------------------------------------------------------- extrapolation from the past


@pytest.mark.parametrize("players, first", [(2, "current"), (3, "zero")])
def test_past_extrapolation(players, first):
    game, h = asymmetric.ByHand(players), per_parameter(RATES, players)
    ahead = per_parameter(AHEAD, players)
    z = start(players)
    last = game.field(z) if first == "current" else 0 * z
    for _ in range(STEPS):
        last = game.field(z + ahead * last)
        z = z + h * last
    update = PastExtrapolation(*map(sgd, RATES[:players]), extrapolation=AHEAD[:players], first=first)
    asymmetric.same(end(update, players), z)


def test_the_look_ahead_points_of_past_extrapolation_follow_optimistic_descent():
    """On the bilinear game, from zero: w_(t+1) = w_t + 2 h d(w_t) - h d(w_(t-1)), a first step of twice the length."""
    h, past, w = 0.2, PastExtrapolation(sgd(0.2), sgd(0.2), extrapolation=0.2), np.array([1.0, 2.0])
    state, before = past.init(SCALAR, tuple(map(jnp.asarray, w))), np.zeros(2)
    for _ in range(4):
        state = past.step(SCALAR, state)
        aim = np.array([-w[1], w[0]])
        np.testing.assert_allclose(state.memory.last, aim, rtol=1e-13)
        w, before = w + 2 * h * aim - h * before, aim
    expected = np.sqrt((1 + np.sqrt(1 - 4 * h**2)) / 2)
    assert radius(SCALAR, past) == pytest.approx(expected, abs=1e-10)


def test_past_extrapolation_projects_both_points():
    update = PastExtrapolation(sgd(0.5), sgd(0.5), extrapolation=0.5, first="current", projections=(None, Clip(1.0)))
    found = update.step(SCALAR, update.init(SCALAR, (jnp.asarray(1.0), jnp.asarray(0.9)))).players
    np.testing.assert_allclose(found, (0.5, 1.0), rtol=1e-14)  # y is clipped to 1 ahead and after


# ---------------------------------------------------------------- proximal point


def test_proximal_point():
    game, h = asymmetric.ByHand(3), per_parameter(RATES, 3)
    z = start(3)
    for _ in range(STEPS):
        old = z
        for _ in range(8):  # Newton's method
            slope = np.eye(z.size) - h[:, None] * game.jacobian(z)
            z = z - np.linalg.solve(slope, z - old - h * game.field(z))
    asymmetric.same(end(ProximalPoint(RATES), 3), z)


def test_the_derivative_of_the_proximal_point_is_that_of_the_implicit_function():
    by_hand, h = asymmetric.ByHand(2), per_parameter(RATES, 2)
    z, game = jnp.asarray(start(2)), asymmetric.make(2)
    update = ProximalPoint(RATES[:2])

    def step(z):
        return jax.flatten_util.ravel_pytree(update.step(game, dy.updates.State(asymmetric.pack(z), ())).players)[0]

    values, slopes = jax.jit(lambda z: (step(z), jax.jacfwd(step)(z)))(z)
    expected = np.linalg.inv(np.eye(5) - h[:, None] * by_hand.jacobian(np.asarray(values)))
    np.testing.assert_allclose(slopes, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow_cases("100.0")
@pytest.mark.slow_cases("0.01")
@pytest.mark.parametrize("size", [0.01, 100.0])
def test_proximal_point_on_the_bilinear_game(size):
    matrix = np.diag([1.0, 3.0])
    report = dy.stability(dy.games.Bilinear(matrix), ProximalPoint((size, 2 * size)))
    assert report.radius == pytest.approx(1 / np.sqrt(1 + 2 * size**2), rel=1e-10)
    smallest = 1 / np.sqrt(1 + 2 * size**2 * 9)
    assert np.abs(report.eigenvalues).min() == pytest.approx(smallest, rel=1e-10)


def test_a_step_without_a_solution_ends_as_diverged():
    """x+ = x + x+^2 + 1 has no real solution: NaN, also for the derivative, and no exception from compiled code."""
    game = dy.Game.from_losses(lambda players, key=None: (-(players[0] ** 3) / 3 - players[0],))
    run = dy.simulate(game, ProximalPoint(1.0), (0.0,), steps=3)
    assert dy.Outcome(int(run.outcome)) is dy.Outcome.diverged
    assert np.isnan(run.final[0])
    step = jax.jit(lambda x: ProximalPoint(1.0).step(game, dy.updates.State((x,), ())).players[0])
    assert np.all(np.isnan(jax.jvp(step, (0.5,), (1.0,))))


def test_proximal_point_at_both_ends_of_the_size_scale(step_of):
    """The tolerance is relative: players of 1e-30 and of 1e12 are solved to the same digits, and rest stays rest."""
    update = ProximalPoint(0.5)
    for size in (0.0, 1e-30, 1.0, 1e12):
        found = step_of(update, SCALAR, dy.updates.State((jnp.asarray(size), jnp.asarray(2 * size)), ())).players
        np.testing.assert_allclose(found, (0.0, 2 * size), rtol=1e-12, atol=1e-12 * size)


def test_both_ends_of_a_proximal_step_see_the_same_minibatch():
    key, game = jax.random.key(3), asymmetric.make(2)
    update, point = ProximalPoint(RATES[:2]), asymmetric.start(2)
    after = eqx.filter_jit(update.step)(game, update.init(game, point), key).players
    moved = asymmetric.flat(after) - asymmetric.flat(point)
    expected = per_parameter(RATES, 2) * asymmetric.flat(game.field(after, key))
    np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- lookahead and averages


@pytest.mark.parametrize("players", [2, 3])
def test_lookahead_keeps_the_memory_of_the_inner_update(players):
    game, h, k, a = asymmetric.ByHand(players), per_parameter(RATES, players), 3, 0.6
    z, m = start(players), 0.0
    for _ in range(STEPS):
        slow = z
        for _ in range(k):
            m = 0.4 * m + game.field(z)
            z = z + h * m
        z = slow + a * (z - slow)
    inner = Simultaneous(*(momentum(rate, 0.4) for rate in RATES[:players]))
    asymmetric.same(end(Lookahead(inner, steps=k, weight=a), players), z)


def test_nested_lookahead():
    game, h = asymmetric.ByHand(2), per_parameter(RATES, 2)
    z = start(2)
    for _ in range(STEPS):
        very_slow = z
        for _ in range(2):
            slow = z
            for _ in range(3):
                z = z + h * game.field(z)
            z = slow + 0.4 * (z - slow)
        z = very_slow + 0.7 * (z - very_slow)
    inner = Lookahead(Simultaneous(*map(sgd, RATES[:2])), steps=3, weight=0.4)
    asymmetric.same(end(Lookahead(inner, steps=2, weight=0.7), 2), z)


def test_every_inner_step_has_its_own_minibatch():
    key, game, inner = jax.random.key(1), asymmetric.make(2), Simultaneous(*map(sgd, RATES[:2]))
    state = inner.init(game, asymmetric.start(2))
    for index in range(2):
        state = inner.step(game, state, jax.random.fold_in(key, index))
    update = Lookahead(inner, steps=2, weight=1.0)
    found = update.step(game, update.init(game, asymmetric.start(2)), key)
    asymmetric.same(found.players, asymmetric.flat(state.players))


def both(h):
    return Simultaneous(sgd(h), sgd(h))


@pytest.mark.parametrize(
    "h, steps, weight, per_inner_step",
    [
        (0.2, 15, 0.3, 0.9253757550),
        (0.3, 6, 0.5, 0.9520701265),
        (0.3, 6, 0.4, 0.9467068653),
        (0.3, 6, 0.8, 1.0032729995),
    ],
)
def test_lookahead_on_the_bilinear_game(h, steps, weight, per_inner_step):
    found = radius(SCALAR, Lookahead(both(h), steps=steps, weight=weight))
    assert found ** (1 / steps) == pytest.approx(per_inner_step, abs=1e-10)
    assert found == pytest.approx(abs(1 - weight + weight * (1 + 1j * h) ** steps), abs=1e-10)


def test_with_memory_only_the_players_go_back():
    """(I - S) + S M^k with S = a on the players and 1 on the memory, which is no rule for single eigenvalues."""
    game = dy.Game.from_losses(
        lambda p, key=None: (p[0] ** 2 / 2 + p[0] * p[1] - p[1] ** 2 / 2, -p[0] * p[1] + p[1] ** 2 / 2), [(0.0, 0.0)]
    )
    h, beta, k, a = 0.1, 0.5, 3, 0.5
    field = -np.array([[1.0, 1.0], [-1.0, 1.0]])
    m = np.block([[np.eye(2) + h * field, h * beta * np.eye(2)], [field, beta * np.eye(2)]])
    s = np.diag([a, a, 1.0, 1.0])
    expected = np.linalg.eigvals(np.eye(4) - s + s @ np.linalg.matrix_power(m, k))
    found = dy.stability(game, Lookahead(Simultaneous(momentum(h, beta), momentum(h, beta)), steps=k, weight=a))
    np.testing.assert_allclose(np.sort_complex(found.eigenvalues), np.sort_complex(expected), atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues[[0, 2]].real, [0.69747808, 0.11602192], atol=1e-8)
    single = 1 - a + a * np.linalg.eigvals(m) ** k
    assert np.max(np.min(np.abs(single[:, None] - expected), axis=1)) > 0.1


def test_lookahead_per_cycle_and_around_other_updates():
    assert radius(SCALAR, Lookahead(both(0.2), steps=15, weight=0.3)) == pytest.approx(0.3124436848, abs=1e-10)
    extragradient = Extragradient(sgd(0.3), sgd(0.3), extrapolation=0.3)
    found = radius(SCALAR, Lookahead(extragradient, steps=6, weight=0.5))
    assert found ** (1 / 6) == pytest.approx(0.8968287613, abs=1e-10)
    for h, expected in [(0.1, 0.96889), (0.5, 0.30258), (1.0, 0.86603)]:
        update = Lookahead(Alternating(sgd(h), sgd(h)), steps=5, weight=0.5)
        assert radius(SCALAR, update) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("decay", [None, 0.8])
def test_averaged(decay):
    game, h = asymmetric.ByHand(3), per_parameter(RATES, 3)
    iterates = [start(3)]
    for _ in range(STEPS):
        iterates.append(iterates[-1] + h * game.field(iterates[-1]))
    expected = np.mean(iterates, axis=0)
    if decay is not None:
        expected = iterates[0]
        for z in iterates[1:]:
            expected = decay * expected + (1 - decay) * z
    state = iterate(Averaged(Simultaneous(*map(sgd, RATES)), decay), asymmetric.make(3), asymmetric.start(3), STEPS)
    asymmetric.same(state.players, expected)
    asymmetric.same(state.memory.inner.players, iterates[-1])


def test_the_average_of_alternating_descent_vanishes_like_one_over_t():
    update, point = Averaged(Alternating(sgd(0.3), sgd(0.3))), dy.game.as_players((1.0, 1.0))
    for steps in (100, 1000, 10_000):
        state = iterate(update, SCALAR, point, steps)
        assert 0.1 < np.hypot(*state.memory.inner.players) < 3
        assert (steps + 1) * np.hypot(*state.players) < 20


def test_the_eigenvalues_of_an_exponential_average_are_those_of_the_update_and_the_decay():
    h, decay = 0.3, 0.9
    found = dy.stability(SCALAR, Averaged(both(h), decay)).eigenvalues
    expected = [1 + 1j * h, 1 - 1j * h, decay, decay]
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-12)


# ---------------------------------------------------------------- Runge-Kutta and ODE-GAN


def classical(game, z, h):
    k1 = h * game.field(z)
    k2 = h * game.field(z + k1 / 2)
    k3 = h * game.field(z + k2 / 2)
    k4 = h * game.field(z + k3)
    return z + (k1 + 2 * k2 + 2 * k3 + k4) / 6


def heun(game, z, h):
    k1 = h * game.field(z)
    return z + (k1 + h * game.field(z + k1)) / 2


@pytest.mark.parametrize("players, method, step", [(2, "rk4", classical), (3, "heun", heun)])
def test_runge_kutta(players, method, step):
    z = start(players)
    for _ in range(STEPS):
        z = step(asymmetric.ByHand(players), z, per_parameter(RATES, players))
    asymmetric.same(end(RungeKutta(RATES[:players], method), players), z)


ORDERS = dict(euler=1, midpoint=2, heun=2, ralston=2, kutta3=3, rk4=4, three_eighths=4)


def test_every_tableau_has_its_order():
    """The global error on a nonlinear game falls by 2^order when the step is halved."""
    game, point = asymmetric.make(2), asymmetric.start(2)
    assert set(ORDERS) == set(TABLEAUS)

    @jax.jit
    def ends(h, count):
        def body(_, states):
            return {m: RungeKutta(h * jnp.ones(2), m).step(game, s) for m, s in states.items()}

        states = {m: dy.updates.State(point, ()) for m in TABLEAUS}
        states = jax.lax.fori_loop(0, count, body, states)
        return {m: jax.flatten_util.ravel_pytree(s.players)[0] for m, s in states.items()}

    exact = ends(0.5 / 2**8, 2**8)["rk4"]
    coarse, fine = ends(0.5 / 2**4, 2**4), ends(0.5 / 2**5, 2**5)
    for method, order in ORDERS.items():
        ratio = np.linalg.norm(coarse[method] - exact) / np.linalg.norm(fine[method] - exact)
        assert np.log2(ratio) == pytest.approx(order, abs=0.2), method


@pytest.mark.parametrize("h", [0.2, 1.0, 2.8, 2.9])
def test_runge_kutta_on_the_bilinear_game(h):
    assert radius(SCALAR, RungeKutta(h, "heun")) == pytest.approx(np.sqrt(1 + h**4 / 4), rel=1e-13)
    found = radius(SCALAR, RungeKutta((h / 2, 2 * h), "rk4"))
    assert found == pytest.approx(np.sqrt(1 - h**6 / 72 + h**8 / 576), rel=1e-13)
    assert (found < 1) == (h < 2 * np.sqrt(2))
    if h == 0.2:
        assert found == pytest.approx(0.99999955777768, abs=1e-14)


def test_ode_gan():
    """The penalty's gradient, at the old point and for player 1 alone, by differences of the NumPy field."""
    game, h, weight, z = asymmetric.ByHand(3), per_parameter(RATES, 3), 0.2, start(3)
    for _ in range(2):
        slopes = game.jacobian(z)[game.parts[0]]
        gradient = 2 * slopes.T @ game.field(z)[game.parts[0]]
        new = classical(game, z, h)
        new[game.parts[1]] -= RATES[1] * weight * gradient[game.parts[1]]
        z = new
    asymmetric.same(end(ODEGAN(RATES, weight), 3, steps=2), z)


def test_ode_gan_on_the_bilinear_game():
    h, weight = 0.1, 0.07
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    power = [np.linalg.matrix_power(h * turn, n) for n in range(5)]
    step = power[0] + power[1] + power[2] / 2 + power[3] / 6 + power[4] / 24
    step[1, 1] -= 2 * h * weight
    report = dy.stability(SCALAR, ODEGAN(h, weight))
    np.testing.assert_allclose(report.jacobian, step, atol=1e-15)
    assert report.radius == pytest.approx(0.993011, abs=1e-6)
    euler = dy.stability(SCALAR, ODEGAN(h, weight, "euler")).eigenvalues  # of the flow: -weight +- i sqrt(1 - weight^2)
    flow = -weight + 1j * np.sqrt(1 - weight**2)
    np.testing.assert_allclose(
        np.sort_complex(euler), np.sort_complex(1 + h * np.array([flow, np.conj(flow)])), atol=1e-14
    )


def test_a_joint_step_is_not_a_step_against_a_frozen_opponent():
    def distance(method):
        point = dy.game.as_players((1.0, 1.0))
        return np.hypot(*iterate(ODEGAN(0.1, 0.0, method), SCALAR, point, 100).players)

    assert distance("rk4") == pytest.approx(1.414213, abs=1e-6)
    assert distance("euler") == pytest.approx(2.325861, abs=1e-6)  # what the frozen Runge-Kutta steps amount to


# ---------------------------------------------------------------- fictitious play


def matrix_game(first, second):
    """Both players maximise: x' A y and x' B y."""
    first, second = jnp.asarray(first, float), jnp.asarray(second, float)
    return dy.Game.from_losses(lambda xy, key=None: (-xy[0] @ first @ xy[1], -xy[0] @ second @ xy[1]))


def gap(game, players):
    """How much the players could gain together by their best answers."""
    fields = game.field(players)
    return sum(float(jnp.max(v) - v @ x) for v, x in zip(fields, players))


PENNIES = np.array([[1.0, -1.0], [-1.0, 1.0]])
FIRST = {n: jnp.zeros(n).at[0].set(1.0) for n in (2, 3)}


@pytest.mark.parametrize("plays, expected", [(99, 0.141414), (9999, 0.0140014)])
def test_fictitious_play_solves_matching_pennies(plays, expected):
    game = matrix_game(PENNIES, -PENNIES)
    found = iterate(FictitiousPlay(), game, (FIRST[2], FIRST[2]), plays - 1).players
    assert gap(game, found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_fictitious_play_cycles_in_shapleys_game():
    game = matrix_game(np.eye(3), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    state = iterate(FictitiousPlay(), game, (FIRST[3], FIRST[3]), 4999)

    @jax.jit
    def gaps(state):
        def body(state, _):
            state = FictitiousPlay().step(game, state)
            fields = game.field(state.players)
            return state, sum(jnp.max(v) - v @ x for v, x in zip(fields, state.players))

        return jax.lax.scan(body, state, length=55_000)[1]

    found = gaps(state)
    assert 0.27 < float(found.min()) < float(found.max()) < 0.29


@pytest.mark.parametrize("order", [None, (0, 1), (1, 0)])
def test_fictitious_play_by_hand(order):
    """Counts of plays, which are exact, on a random game."""
    a, b = np.random.default_rng(0).integers(-3, 4, size=(2, 3, 3)).astype(float)
    counts = [np.array([1.0, 0, 0]), np.array([1.0, 0, 0])]
    for _ in range(40):
        seen = [count.copy() for count in counts]
        for player in order or (0, 1):
            other = (counts if order else seen)[1 - player]
            payoff = (a @ other) if player == 0 else (b.T @ other)
            counts[player][np.argmax(payoff)] += 1
    found = iterate(FictitiousPlay(order), matrix_game(a, b), (FIRST[3], FIRST[3]), 40).players
    np.testing.assert_allclose(np.stack(found) * 41, np.stack(counts), atol=1e-9)


@pytest.mark.slow
def test_fictitious_play_is_not_differentiable_at_a_mixed_equilibrium():
    half = np.array([0.5, 0.5])
    report = dy.stability(matrix_game(PENNIES, -PENNIES), FictitiousPlay(), at=(half, half), require_equilibrium=False)
    assert report.smoothness == "not differentiable" and report.verdict == "marginal"


# ---------------------------------------------------------------- ACGD


def acgd_by_hand(players, rates, decay, eps, steps):
    """The move as the solution of the whole linear system, in NumPy."""
    game, h = asymmetric.ByHand(players), per_parameter(rates, players)
    z, v = start(players), 0.0
    for t in range(1, steps + 1):
        d, coupling = game.field(z), game.jacobian(z)
        for part in game.parts:
            coupling[part, part] = 0
        v = decay * v + (1 - decay) * d**2
        eta = h * np.sqrt(1 - decay**t) / (np.sqrt(v) + eps)
        z = z + np.linalg.solve(np.eye(z.size) - eta[:, None] * coupling, eta * d)
    return z


def test_adaptive_competitive():
    expected = acgd_by_hand(3, RATES, 0.9, 0.05, STEPS)
    asymmetric.same(end(AdaptiveCompetitive(RATES, decay=0.9, eps=0.05), 3), expected, scale=10)


def test_adaptive_competitive_is_the_published_form_in_a_zero_sum_game():
    """x maximises, y minimises f; each solves its own symmetrised system, as the authors' code does for one of them."""
    rng = np.random.default_rng(1)
    a, x, y, h, k, decay, eps = rng.normal(size=(2, 3)), *map(rng.normal, (0, 0), (1, 1), (2, 3)), 0.3, 0.2, 0.99, 1e-5
    g_x, g_y = a @ y, a.T @ x
    # sqrt(1 - decay) cancels in the first step: v = (1 - decay) g^2 and the correction is sqrt(1 - decay).
    eta_x, eta_y = (rate * np.sqrt(1 - decay) / (np.sqrt((1 - decay) * g**2) + eps) for rate, g in ((h, g_x), (k, g_y)))
    root = np.sqrt(eta_x)
    system = np.eye(2) + root[:, None] * (a @ np.diag(eta_y) @ a.T) * root
    move_x = root * np.linalg.solve(system, root * (g_x - a @ (eta_y * g_y)))
    move_y = -eta_y * (g_y + a.T @ move_x)
    game = dy.game.ZeroSum(lambda y, x: x @ a @ y)
    update = AdaptiveCompetitive((k, h), decay=decay, eps=eps)
    found = update.step(game, update.init(game, (jnp.asarray(y), jnp.asarray(x)))).players
    np.testing.assert_allclose(found[0], y + move_y, rtol=1e-11)
    np.testing.assert_allclose(found[1], x + move_x, rtol=1e-11)


def test_adaptive_competitive_at_rest_is_an_implicit_step():
    """With v = 0 the steps are h / (sqrt(eps_root) + eps): the proximal point's modulus, whatever they are."""
    update = AdaptiveCompetitive((0.01, 0.03), decay=0.5, eps=0.01, eps_root=1e-4)
    eta = np.array([0.01, 0.03]) / 0.02
    assert radius(SCALAR, update) == pytest.approx(1 / np.sqrt(1 + eta[0] * eta[1]), rel=1e-10)


# ---------------------------------------------------------------- Zhang and Yu: conditions on bilinear games

DRAWS = 300


def radii(method):
    """Spectral radii of `method(*numbers)` on f = sigma x y, for many draws of sigma and the numbers at once."""

    @jax.jit
    @jax.vmap
    def jacobian(sigma, *numbers):
        game = dy.games.Bilinear(sigma)
        return linearise(game, method(*numbers), game.equilibria()[0]).jacobian

    return lambda *numbers: np.abs(np.linalg.eigvals(np.asarray(jacobian(*numbers)))).max(axis=1)


def extragradient_together(s, a, b, g, h):
    p, q = b * g * s**2, a * h * s**2
    own, coupling = (1 - p) * (1 - q), a * b * s**2
    return (abs(p + q - 2) < 1 + own + coupling) & (own + coupling < 1)


def extragradient_in_turns(s, a, b, g, h):
    p, q = b * g * s**2, a * h * s**2
    own = (1 - p) * (1 - q)
    return (abs(p + q + a * b * s**2 - 2) < 1 + own) & (own < 1)


def optimism_together(s, a, b, c):
    x = s**2
    return (
        (abs(b * c * x) < 1)
        & ((a - b) * (a - c) > 0)
        & (4 + (a + b) * (a + c) * x > 0)
        & (a**2 * (b**2 * x + 1) * (c**2 * x + 1) < (b * c * x + 1) * (2 * a * (b + c) + b * c * (b * c * x - 3)))
    )


def optimism_in_turns(s, a, b, c):
    x = s**2
    return (
        ((a - b) * (a - c) > 0)
        & ((a + b) * (a + c) * x < 4)
        & ((a * b * x + 1) * (a * c * x + 1) > (1 + b * c * x) ** 2)
        & (abs(b * c * x) < 1)
    )


def momentum_in_turns(s, a, b, c):
    x = a**2 * s**2
    return (
        (abs(b * c) < 1)
        & (abs(-x + b + c + 2) < b * c + 3)
        & (4 * (b + 1) * (c + 1) > x)
        & (x * b * c < (1 - b * c) * (2 * b * c - b - c))
    )


def extragradient(order):
    return lambda a, b, g, h: Extragradient(sgd(a), sgd(b), extrapolation=(g, h), order=order)


def optimism(kind):
    # x+ = x + a d - b d': the learning rate is a - b, negative for some draws.
    return lambda a, b, c: kind(optimistic(a - b, strength=b), optimistic(a - c, strength=c))


def heavy_balls(kind):
    return lambda a, b, c: kind(momentum(a, b), momentum(a, c))


SIGMA, POSITIVE, EITHER = (0.1, 1.6), (0.02, 2.0), (-1.3, 1.3)
# By name: the update, the printed condition, and the ranges of its numbers, sigma first.
CONDITIONS = {
    "extragradient": (radii(extragradient(None)), extragradient_together, [SIGMA, *[POSITIVE] * 4]),
    "extragradient in turns": (radii(extragradient((0, 1))), extragradient_in_turns, [SIGMA, *[POSITIVE] * 4]),
    "optimism": (radii(optimism(Simultaneous)), optimism_together, [SIGMA, POSITIVE, EITHER, EITHER]),
    "optimism in turns": (radii(optimism(Alternating)), optimism_in_turns, [SIGMA, POSITIVE, EITHER, EITHER]),
    "momentum": (radii(heavy_balls(Simultaneous)), lambda s, a, b, c: s < 0, [SIGMA, POSITIVE, EITHER, EITHER]),
    "momentum in turns": (radii(heavy_balls(Alternating)), momentum_in_turns, [SIGMA, POSITIVE, EITHER, EITHER]),
}


@pytest.mark.parametrize("name", CONDITIONS)
@given(seed=st.integers(0, 2**32 - 1), shrink=st.floats(0.1, 1))
def test_stable_iff_the_condition_of_zhang_and_yu_holds(name, seed, shrink):
    """300 draws at once; a shrink draws nearer to 0, where more of them are stable."""
    found, condition, ranges = CONDITIONS[name]
    rng = np.random.default_rng(seed)
    numbers = [rng.uniform(low, high, DRAWS) for low, high in ranges]
    numbers[1:] = [shrink * number for number in numbers[1:]]
    size = found(*numbers)
    clear = np.abs(size - 1) > 1e-9
    assert clear.sum() > DRAWS // 2
    expected = condition(*numbers)
    np.testing.assert_array_equal((size < 1)[clear], expected[clear])


@pytest.mark.slow_cases("optimism in turns")
@pytest.mark.parametrize("name", CONDITIONS)
def test_the_draws_fall_on_both_sides_of_the_conditions(name):
    _, condition, ranges = CONDITIONS[name]
    rng = np.random.default_rng(0)
    numbers = [rng.uniform(low, high, 3000) for low, high in ranges]
    share = np.mean(condition(*numbers))
    assert share == 0 if name == "momentum" else 0.01 < share < 0.9


@given(st.floats(0.1, 1.6), st.floats(0.02, 2), st.floats(-1.3, 1.3), st.floats(-1.3, 1.3))
def test_the_characteristic_polynomials_of_optimism_with_two_coefficients(s, a, b, c):
    """x+ = x + a d - b d': l^2 (l - 1)^2 + s^2 (a l - b)(a l - c), and in turns l (l - 1)^2 + the same."""
    past = s**2 * polynomial.polymul([-b, a], [-c, a])
    still = polynomial.polymul([1, -2, 1], [0, 0, 1])
    together = polynomial.polyadd(still, past)
    # In turns the memory has one number more than it needs: a factor l on both sides.
    in_turns = polynomial.polyadd(still, polynomial.polymul([0, 1], past))
    for jacobian, expected in zip(POLYNOMIALS, (together, in_turns)):
        np.testing.assert_allclose(np.poly(jacobian(s, a, b, c))[::-1], expected, atol=1e-10)


def one_jacobian(method):
    @jax.jit
    def jacobian(sigma, *numbers):
        game = dy.games.Bilinear(sigma)
        return linearise(game, method(*numbers), game.equilibria()[0]).jacobian

    return lambda *numbers: np.asarray(jacobian(*(jnp.asarray(number, float) for number in numbers)))


POLYNOMIALS = [one_jacobian(optimism(Simultaneous)), one_jacobian(optimism(Alternating))]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: PastExtrapolation(sgd(0.1), extrapolation=0.1, first="last"), ValueError, "first is 'last'; expected"),
        (lambda: PastExtrapolation(sgd(0.1), extrapolation=-0.1), ValueError, "the rate -0.1; expected finite"),
        (lambda: ProximalPoint(0.1, tolerance=0.0), ValueError, "tolerance is 0; expected a finite number > 0"),
        (lambda: ProximalPoint((0.1,) * 3).init(None, (0.0, 0.0)), ValueError, "3 rates for 2 players"),
        (lambda: Lookahead(both(0.1), steps=0), ValueError, "steps is 0; expected a whole number >= 1"),
        (lambda: Lookahead(both(0.1), weight=1.5), ValueError, "weight is 1.5; expected a finite number >= 0 and <= 1"),
        (lambda: Lookahead(optax.sgd(0.1)), TypeError, "expected a Update, e.g. Simultaneous"),
        (lambda: Averaged(both(0.1), decay=1.0), ValueError, "decay is 1; expected a finite number >= 0 and < 1"),
        (lambda: Averaged(0.1), TypeError, "inner_update is 0.1; expected a Update"),
        (lambda: RungeKutta(0.1, "rk5"), ValueError, "method is 'rk5'; did you mean 'rk4'"),
        (
            lambda: RungeKutta(0.1, projections=(None,)).init(None, (0.0, 0.0)),
            ValueError,
            "1 projections for 2 players",
        ),
        (lambda: ODEGAN(0.1, -1.0), ValueError, "weight is -1; expected a finite number >= 0"),
        (lambda: ODEGAN(0.1, generator=1), ValueError, r"are \(1, 1\); expected the numbers of two"),
        (lambda: ODEGAN(0.1, discriminator=2).init(None, (0.0, 0.0)), ValueError, "expected numbers from 0 to 1"),
        (lambda: FictitiousPlay((0, 0)), ValueError, r"order is \(0, 0\); expected each of the players"),
        (lambda: FictitiousPlay((0, 1)).init(None, (0.0,) * 3), ValueError, "each of the players 0 to 2 once"),
        (lambda: AdaptiveCompetitive(0.1, decay=1.0), ValueError, "decay is 1; expected a finite number"),
        (lambda: AdaptiveCompetitive(0.1, eps=0.0), ValueError, "eps is 0; expected a finite number > 0"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
