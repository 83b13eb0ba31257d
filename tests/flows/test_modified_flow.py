"""Modified flows: published drifts, logarithms of linear maps, and measured orders on a nonlinear game."""

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics import optimisers
from dynamics.flows import AlternatingFlow, ModifiedFlow
from dynamics.updates import Alternating, Extragradient, ProximalPoint, RungeKutta, Simultaneous

RATES = (1.0, 1.7, 0.6)
field = eqx.filter_jit(lambda flow, game, state: flow.field(game, jnp.zeros(()), state))


def sgd(step, players=2):
    return [optimisers.sgd(step * rate) for rate in RATES[:players]]


# One function per update, so that all steps share one program.
BUILDS = {
    "simultaneous": lambda h: Simultaneous(*sgd(h)),
    "alternating": lambda h: Alternating(*sgd(h), order=(1, 0), repeats=(1, 2)),
    "extragradient": lambda h: Extragradient(*sgd(h), extrapolation=(0.8 * h, 1.3 * h)),
    "momentum": lambda h: Alternating(optimisers.momentum(h, 0.3), optimisers.momentum(1.7 * h, -0.4)),
    "optimistic": lambda h: Simultaneous(*(optimisers.optimistic(rate * h) for rate in RATES[:2])),
    "adam": lambda h: Simultaneous(*(optimisers.adam(rate * h, 0.4, 0.5, eps_root=0.3) for rate in RATES[:2])),
}


@eqx.filter_jit
def iterate(update, game, players, burn, count):
    """The players after the first steps, which let the memory forget its start, and after all."""
    early = jax.lax.fori_loop(0, burn, lambda i, s: update.step(game, s), update.init(game, players))
    late = jax.lax.fori_loop(0, count, lambda i, s: update.step(game, s), early)
    return early.players, late.players


@eqx.filter_jit
def follow(flow, game, players, until):
    """Where the flows of all orders end, by the classical Runge-Kutta method with many steps; one row per order.

    The coefficients of the highest order hold those of the lower ones, so that one program serves all.
    """
    steps, terms = 150, flow.order + 1
    start, unravel = ravel_pytree(players)
    weights = jnp.tril(jnp.ones((terms, terms))) * flow.step ** jnp.arange(terms)

    def slope(point, weights):
        return weights @ jnp.stack([ravel_pytree(term)[0] for term in flow.terms(game, unravel(point))])

    def stage(carry, numbers):
        start, slopes, total = carry
        reach, weight = numbers * until / steps
        slopes = jax.vmap(slope)(start + reach * slopes, weights)
        total = total + weight / 6 * slopes
        return (jnp.where((numbers == 1).all(), total, start), slopes, total), None

    stages = jnp.tile(jnp.asarray([[0.0, 1.0], [0.5, 2.0], [0.5, 2.0], [1.0, 1.0]]), (steps, 1))
    start = jnp.tile(start, (terms, 1))
    return jax.lax.scan(stage, (start, jnp.zeros_like(start), start), stages)[0][0]


def slopes(name, order, until, burn, counts):
    """Slopes of log error over log step at a fixed time, for the orders 0 to `order`, and the errors."""
    game, errors = asymmetric.make(2), []
    for count in counts:
        early, late = iterate(BUILDS[name](until / count), game, asymmetric.start(2), burn, count)
        ends = follow(ModifiedFlow(BUILDS[name], until / count, order), game, early, until)
        errors.append(np.linalg.norm(asymmetric.flat(late) - np.asarray(ends), axis=1))
    return -np.diff(np.log(errors), axis=0) / np.diff(np.log(counts))[:, None]


@pytest.mark.slow_cases("simultaneous")
@pytest.mark.parametrize(
    "name", ["simultaneous", *[pytest.param(n, marks=pytest.mark.slow) for n in ("alternating", "extragradient")]]
)
def test_the_error_over_a_fixed_time_falls_like_the_next_power_of_the_step(name):
    found = slopes(name, 3, 0.3, 0, (16, 32, 64))
    np.testing.assert_allclose(found, np.broadcast_to([1.0, 2.0, 3.0, 4.0], found.shape), atol=0.3)


@pytest.mark.slow
def test_an_update_follows_its_flow_once_its_memory_has_forgotten_the_start():
    """Adam: a memory of two averages, one of squares, and a counter."""
    found = slopes("adam", 1, 0.05, 40, (64, 128, 256))
    np.testing.assert_allclose(found, np.broadcast_to([1.0, 2.0], found.shape), atol=0.25)


MATRIX = np.array([[1.0, 2.0], [-1.5, 0.4]])
LINEAR = -np.diag(RATES[:2]) @ MATRIX  # of the flow, rates included


def maps(step):
    """The updates on the linear game as matrices on players and memory."""
    one, none = np.eye(2), np.zeros((2, 2))
    return {
        "simultaneous": one + step * LINEAR,
        "optimistic": np.block([[one + 2 * step * LINEAR, -step * one], [LINEAR, none]]),
        "momentum": heavy_ball(step, np.diag([0.3, -0.4])),
    }


def heavy_ball(step, forget):
    """Alternating, on players and velocities: each player's velocity forgets, then takes in the new slope."""
    total = np.eye(4, dtype=complex)
    for player in (0, 1):
        turn = np.eye(4, dtype=complex)
        turn[2 + player] = np.concatenate([LINEAR[player], forget[player]])
        turn[player] += step * turn[2 + player]
        total = turn @ total
    return total


def logarithm_series(matrix_of, count, radius=0.02, nodes=64):
    """Taylor coefficients of log(M(h)) on the slow subspace, 1 to count, by Cauchy's formula."""

    def generator(step):
        matrix = matrix_of(step)
        values, vectors = np.linalg.eig(matrix)
        slow = np.argsort(abs(values - 1))[:2]
        return vectors[:2, slow] @ np.diag(np.log(values[slow])) @ np.linalg.inv(vectors[:2, slow])

    circle = radius * np.exp(2j * np.pi * np.arange(nodes) / nodes)
    generators = [generator(step) for step in circle]
    return [sum(g / h**k for g, h in zip(generators, circle)).real / nodes for k in range(1, count + 1)]


@pytest.mark.slow_cases("momentum-2")
@pytest.mark.parametrize("name, order", [("simultaneous", 3), ("momentum", 2), ("optimistic", 2)])
def test_the_terms_are_the_logarithm_of_a_linear_map(name, order):
    point = np.array([1.0, -0.7])
    terms = ModifiedFlow(BUILDS[name], 0.1, order).terms(dy.games.Quadratic(MATRIX), tuple(map(jnp.asarray, point)))
    for found, expected in zip(terms, logarithm_series(lambda h: maps(h)[name], order + 1), strict=True):
        np.testing.assert_allclose(found, expected @ point, rtol=1e-7)


@pytest.mark.slow_cases("0")
@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_lower_order_has_the_first_terms_of_a_higher_one(order):
    game, point = dy.games.Quadratic(MATRIX), (jnp.asarray(1.0), jnp.asarray(-0.7))
    known = ModifiedFlow(BUILDS["simultaneous"], 0.1, 3).terms(game, point)
    flow = ModifiedFlow(BUILDS["simultaneous"], 0.1, order)
    np.testing.assert_allclose(flow.terms(game, point), known[: order + 1], rtol=1e-12)
    total = sum(0.1**k * np.asarray(term) for k, term in enumerate(known[: order + 1]))
    np.testing.assert_allclose(flow.field(game, None, flow.init(game, point)).players, total, rtol=1e-12)


@pytest.mark.slow
def test_the_leading_term_of_the_heavy_ball_has_the_rate_over_one_minus_the_coefficient():
    game, point = asymmetric.make(2), asymmetric.start(2)
    (found,) = ModifiedFlow(BUILDS["momentum"], 0.1, 0).terms(game, point)
    scale = np.repeat([1 / 0.7, 1.7 / 1.4], asymmetric.SIZES[2])
    asymmetric.same(found, scale * asymmetric.ByHand(2).field(asymmetric.flat(point)))


@pytest.mark.slow_cases("heun-2")
@pytest.mark.parametrize("method, exact", [("heun", 2), pytest.param("kutta3", 3, marks=pytest.mark.slow)])
def test_a_runge_kutta_method_has_no_drift_below_its_order(method, exact):
    game, point = asymmetric.make(2), asymmetric.start(2)
    flow = ModifiedFlow(lambda h: RungeKutta([h * rate for rate in RATES[:2]], method), 0.1, exact)
    plain, *drifts, first = flow.terms(game, point)
    asymmetric.same(
        plain, np.repeat(RATES[:2], asymmetric.SIZES[2]) * asymmetric.ByHand(2).field(asymmetric.flat(point))
    )
    for drift in drifts:
        asymmetric.same(drift, np.zeros(5))
    assert np.linalg.norm(asymmetric.flat(first)) > 0.1


class Descent(eqx.Module):
    """Gradient descent with rates that are no constants of the program."""

    rates: tuple[jax.Array, ...] = eqx.field(converter=lambda rates: tuple(map(jnp.asarray, rates)))
    alternate: bool = eqx.field(static=True)

    def __call__(self, step):
        return (Alternating if self.alternate else Simultaneous)(*(optimisers.sgd(step * rate) for rate in self.rates))


@pytest.mark.parametrize("alternate", [False, True])
def test_the_drift_of_rosca_in_common_time(alternate):
    """-(h/2) J V with all rates in V; alternation turns the second player's cross term round."""
    game, by_hand, point = asymmetric.make(2), asymmetric.ByHand(2), asymmetric.start(2)
    one, two = by_hand.parts
    z = asymmetric.flat(point)
    for rates in ((0.01, 0.01), (0.01, 0.05), (0.05, 0.01), (1e-4, 0.5)):
        spread = np.repeat(rates, asymmetric.SIZES[2])
        v, j = spread * by_hand.field(z), spread[:, None] * by_hand.jacobian(z)
        drift = -j @ v / 2
        if alternate:
            drift[two] += j[two, one] @ v[one]
        plain, found = ModifiedFlow(Descent(rates, alternate), 1.0).terms(game, point)
        asymmetric.same(plain, v)
        asymmetric.same(found, drift)


@pytest.mark.slow_cases("consensus", "three players")
@pytest.mark.parametrize(
    "order, repeats, direction",
    [((2, 0, 1), (1, 2, 1), None), ((1, 0), (1, 2), dy.directions.Consensus(0.2))],
    ids=["three players", "consensus"],
)
def test_it_is_the_alternating_flow(order, repeats, direction):
    players, shape = len(order), dict(order=order, repeats=repeats, direction=direction)
    game, state = asymmetric.make(players), dy.updates.State(asymmetric.start(players), ())
    known = field(AlternatingFlow(0.1, rates=RATES[:players], **shape), game, state)
    found = field(ModifiedFlow(lambda h: Alternating(*sgd(h, players), **shape), 0.1), game, state)
    asymmetric.same(found, asymmetric.flat(known), scale=10)


def linear_game(epsilon, sign):
    """x' = -epsilon x + y, y' = -x + sign epsilon y."""
    return dy.games.Quadratic([[epsilon, -1.0], [1.0, -sign * epsilon]])


EQUAL = {name: Descent((1.0, 1.0), name == "alternating") for name in ("simultaneous", "alternating")}


@pytest.mark.slow_cases("alternating--0.00162-0.9819006561-stable", "simultaneous-0.19838-1.0017386561-unstable")
@pytest.mark.parametrize(
    "name, trace, determinant, verdict",
    [("simultaneous", 0.19838, 1.0017386561, "unstable"), ("alternating", -0.00162, 0.9819006561, "stable")],
)
def test_the_published_linear_game(name, trace, determinant, verdict):
    report = dy.stability(linear_game(0.09, 1), ModifiedFlow(EQUAL[name], 0.2))
    np.testing.assert_allclose(np.trace(report.jacobian), trace, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(report.jacobian), determinant, rtol=1e-12)
    assert report.verdict == verdict


@pytest.mark.slow_cases("alternating-end1-(-0.09081+1.003992j)", "simultaneous-end0-(0.00919+1.018j)")
@pytest.mark.parametrize(
    "name, end, eigenvalue",
    [
        ("simultaneous", (-0.09882037, 0.0746531), 0.00919 + 1.018j),
        ("alternating", (-0.04271774, 0.02660647), -0.09081 + 1.003992j),
    ],
)
def test_the_published_trajectories(name, end, eigenvalue):
    flow = ModifiedFlow(EQUAL[name], 0.2)
    report = dy.stability(linear_game(0.09, -1), flow)
    np.testing.assert_allclose(abs(report.eigenvalues.imag), eigenvalue.imag, atol=2e-4)
    np.testing.assert_allclose(report.eigenvalues.real, eigenvalue.real, atol=2e-6)
    np.testing.assert_allclose(scipy.linalg.expm(report.jacobian * 45 * 0.2) @ (0.07, -0.09), end, atol=1e-8)


def test_a_simulated_trajectory():
    """Of the same figure, first player first."""
    flow = ModifiedFlow(EQUAL["alternating"], 0.2)
    run = dy.simulate(linear_game(0.09, -1), flow, (0.07, -0.09), until=45 * 0.2, save_every="last", classify=False)
    np.testing.assert_allclose(run.final, (-0.04271774, 0.02660647), atol=2e-8)


@pytest.mark.slow
def test_stability_of_the_modified_flow_is_that_of_the_update():
    """Euler on x' = -epsilon x + y, y' = -x - epsilon y is stable when h (1 + epsilon^2) < 2 epsilon."""
    for epsilon, verdict in ((0.2, "stable"), (0.09, "unstable")):
        flow = ModifiedFlow(EQUAL["simultaneous"], 0.2)
        assert dy.stability(linear_game(epsilon, -1), flow).verdict == verdict
        assert dy.stability(linear_game(epsilon, -1), flow.build(0.2)).verdict == verdict


@pytest.mark.slow
def test_the_bilinear_game():
    """log(1 + i h s)/h = i s + h s^2/2 - i h^2 s^3/3 + ...; alternation is a centre."""
    s, h = 1.3, 0.4
    report = dy.stability(dy.games.Bilinear(s), ModifiedFlow(EQUAL["simultaneous"], h, 2))
    expected = 1j * s + h * s**2 / 2 - 1j * h**2 * s**3 / 3
    np.testing.assert_allclose(report.eigenvalues, [expected, expected.conjugate()], rtol=1e-12)
    report = dy.stability(dy.games.Bilinear(s), ModifiedFlow(EQUAL["alternating"], h))
    np.testing.assert_allclose(np.trace(report.jacobian), 0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(report.jacobian), s**2 - h**2 * s**4 / 4, rtol=1e-13)


def hold(step):
    """The rates are kept in the memory, which therefore forgets nothing."""
    return Simultaneous(*(optax.inject_hyperparams(optax.sgd)(learning_rate=step) for _ in range(2)))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: ModifiedFlow(EQUAL["simultaneous"], 0.0), ValueError, "step is 0; expected a finite number > 0"),
        (lambda: ModifiedFlow(EQUAL["simultaneous"], 0.1, -1), ValueError, "order is -1; expected a whole number >= 0"),
        (lambda: ModifiedFlow(0.1, 0.1), TypeError, "build is 0.1; expected a function"),
        (lambda: ModifiedFlow(lambda h: h, 0.1), TypeError, "build returned .*; expected an update"),
        (
            lambda: ModifiedFlow(lambda h: Simultaneous(optimisers.sgd(h), optimisers.sgd(0.1)), 0.1),
            ValueError,
            "the update with step 0 moves the players by 0.0333.*Scale every rate",
        ),
        (lambda: ModifiedFlow(ProximalPoint, 0.1), ValueError, "of ProximalPoint only the first derivative is exact"),
        (lambda: ModifiedFlow(hold, 0.1), ValueError, "does not settle while the players stand still"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make().init(dy.games.Bilinear(1.0), dy.game.as_players((1.0, 2.0)))


def test_terms_are_not_a_number_where_the_update_without_step_moves():
    flow = ModifiedFlow(lambda h: Simultaneous(optimisers.sgd(h), optimisers.sgd(0.1)), 0.1, 0)
    assert np.isnan(flow.terms(dy.games.Bilinear(1.0), dy.game.as_players((1.0, 2.0)))).all()


def test_an_update_without_the_step_is_told_at_an_equilibrium_too():
    """There nothing moves with any step; with other gradients it would."""
    flow = ModifiedFlow(lambda h: Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.2)), 0.1)
    game, rest = dy.games.Bilinear(1.0), dy.game.as_players((0.0, 0.0))
    with pytest.raises(ValueError, match="moves the players by 0.2 per gradient.*Scale every rate"):
        flow.init(game, rest)
    assert np.isnan(flow.terms(game, rest)).all()
    with pytest.raises(ValueError):
        dy.stability(game, flow)
