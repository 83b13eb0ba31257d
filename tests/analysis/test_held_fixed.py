"""What a loss holds fixed (`stop_gradient`) and rules that are no derivative: the field has them, the Jacobian not."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from jax.lax import stop_gradient

import dynamics as dy
from dynamics.compiler.derivatives import released
from dynamics.flows import AlternatingFlow, Flow
from dynamics.updates import Alternating, Extragradient, ProximalPoint, Simultaneous

H = 1e-5


def game(*losses):
    return dy.Game.from_losses(lambda players, key=None: tuple(loss(*players) for loss in losses))


def target(x):
    return (x - stop_gradient(1.5 * x)) ** 2 / 2


# Asymmetric, with a target, a bootstrapped value and a detached normaliser; the players are pytrees.
def losses(players, key=None):
    x, y = players
    first = (x["a"] - stop_gradient(0.3 * x["a"] + 0.2 * y[0])) ** 2 / 2 + x["a"] * y[1] / stop_gradient(2 + y[1])
    second = jnp.sum(y**2) / 2 - y[0] * stop_gradient(jnp.sin(x["a"])) + y[1] * jnp.tanh(x["a"]) * 0.4
    return first, second


PAIR = dy.Game.from_losses(losses, [({"a": 0.0}, jnp.zeros(2))])


def step_of(method, players):
    """One step from the players as a function of a vector, and its central difference quotients."""
    flat, unravel = jax.flatten_util.ravel_pytree(dy.game.as_players(players))

    @jax.jit
    def step(vector):
        if isinstance(method, dy.updates.Update):
            moved = method.step(PAIR, method.init(PAIR, unravel(vector)))
        else:
            moved = method.field(PAIR, 0.0, method.init(PAIR, unravel(vector)))
        return jax.flatten_util.ravel_pytree(moved.players)[0]

    columns = [(step(flat + H * e) - step(flat - H * e)) / (2 * H) for e in np.eye(flat.size)]
    return np.stack(columns, axis=1)


def test_a_bootstrapped_target():
    report = dy.stability(game(target), Simultaneous(optax.sgd(0.1)), (0.0,))
    assert report.verdict == "unstable" and abs(report.radius - 1.05) < 1e-14
    run = dy.simulate(game(target), Simultaneous(optax.sgd(0.1)), (1.0,), steps=200, save_every="last")
    assert abs(float(run.final[0]) - 1.05**200) < 1e-9 * 1.05**200


SGD = optax.sgd(0.1), optax.sgd(0.23)


@pytest.mark.slow_cases("ProximalPoint")
@pytest.mark.parametrize(
    "method",
    [
        Simultaneous(*SGD),
        Alternating(*SGD),
        Extragradient(*SGD, extrapolation=(0.1, 0.3)),
        ProximalPoint((0.1, 0.23)),
        Flow(rates=(1.0, 2.0)),
        AlternatingFlow(0.1, rates=(1.0, 2.0)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_the_jacobian_is_that_of_the_step(method):
    report = dy.stability(PAIR, method)
    np.testing.assert_allclose(report.jacobian, step_of(method, PAIR.equilibria()[0]), atol=1e-8)
    assert report.smoothness == "smooth" and report.proved


@pytest.mark.slow
def test_everywhere_a_jacobian_is_taken():
    """Sweep, chart, critical parameter, sensitivity, exponents: all have 1 - h + 1.5 h."""

    def build(rate):
        fixed = dy.Game.from_losses(lambda players, key=None: (target(players[0]),), [(0.0,)])
        return fixed, Simultaneous(dy.optimisers.sgd(rate)), (1e-3,)

    rates = np.array([0.1, 0.3])
    swept = dy.sweep(build, {"rate": rates}, steps=50)
    np.testing.assert_allclose(swept.predicted_radius, 1 + rates / 2, rtol=1e-12)
    assert swept.predicted_verdict.values.tolist() == [1, 1]
    pair = lambda rate: (PAIR, Simultaneous(*[dy.optimisers.sgd(rate)] * 2))  # noqa: E731
    slope = dy.sensitivity(pair, 0.1).derivatives
    ahead, back = (np.linalg.eigvals(dy.stability(*pair(0.1 + d)).jacobian) for d in (H, -H))
    np.testing.assert_allclose(
        np.sort(slope[:, 0].real), np.sort(np.sort(ahead) - np.sort(back)).real / (2 * H), atol=1e-6
    )
    exponents = dy.lyapunov_exponents(build(0.1)[0], build(0.1)[1], (1e-3,), steps=100, warm_up=10)
    np.testing.assert_allclose(exponents.exponents, [np.log(1.05)], rtol=1e-9)


def test_a_planar_chart():
    def build(rate, weight):
        planar = dy.Game.from_losses(
            lambda players, key=None: (target(players[0]) * weight, players[1] ** 2 / 2 + players[0] * players[1]),
            [(0.0, 0.0)],
        )
        return planar, Simultaneous(*[dy.optimisers.sgd(rate)] * 2), (0.1, 0.1)

    chart = dy.stability_chart(build, {"rate": [0.1, 0.2], "weight": [-1.0, 0.5, 1.0]})
    expected = np.maximum(np.abs(1 + 0.5 * np.outer([0.1, 0.2], [-1.0, 0.5, 1.0])), 1 - np.array([[0.1], [0.2]]))
    np.testing.assert_allclose(chart.predicted_radius, expected, rtol=1e-12)


def inside(wrap):
    """x^2/2 with half of its gradient held fixed, in a construct that the pass must reach into."""
    return lambda x: wrap(lambda y: (y - stop_gradient(0.5 * y)) ** 2)(x)


def scanned(function):
    return lambda x: jax.lax.scan(lambda carry, row: (carry + row * function(x), 0.0), 0.0 * x, jnp.arange(1.0, 3.0))[0]


def looped(function):
    def fixed(x):
        return jax.lax.fori_loop(0, 2, lambda i, total: total + function(x), 0.0 * x)

    return fixed


def branched(function):
    return lambda x: jax.lax.cond(x < 3, function, lambda y: y**2, x)


@pytest.mark.slow_cases("scanned")
@pytest.mark.parametrize("wrap", [scanned, looped, branched, jax.jit, jax.checkpoint], ids=lambda wrap: wrap.__name__)
def test_the_pass_reaches_into(wrap):
    gradient = jax.grad(inside(wrap))
    slope = jax.jacfwd(released(gradient))(0.7)
    np.testing.assert_allclose(slope, (gradient(0.7 + H) - gradient(0.7 - H)) / (2 * H), rtol=1e-8)
    np.testing.assert_allclose(jax.vmap(jax.jacfwd(released(gradient)))(jnp.array([0.7, 0.2]))[0], slope, rtol=1e-14)


@pytest.mark.parametrize("solver", [lx.SVD(), lx.LU()], ids=["SVD", "LU"])
def test_what_a_solver_holds_on_its_way_stays_held(solver):
    """It brings the right derivative of its solution as a rule of its own."""

    def gradient(x):
        matrix = jnp.array([[2.0, 0.0], [0.3, 1.0]]) + x * jnp.array([[0.0, 1.0], [0.0, 1.0]])
        operator = lx.MatrixLinearOperator(matrix)
        return jnp.sum(lx.linear_solve(operator, jnp.stack([x, stop_gradient(x) ** 2]), solver).value)

    slope = jax.jacfwd(released(gradient))(0.7)
    np.testing.assert_allclose(slope, (gradient(0.7 + H) - gradient(0.7 - H)) / (2 * H), rtol=1e-8)


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, gradient: (-gradient,))


@jax.custom_jvp
def root(x):
    """Its rule is finite at 0, where the values have no derivative."""
    return jnp.sqrt(x)


root.defjvp(lambda primals, tangents: (root(*primals), 0 * tangents[0]))


@pytest.mark.parametrize(
    "loss, multiplier",
    [
        (lambda x: straight_through(x) ** 2 / 2 + x**2 / 4, 1 - 0.1 / 2),
        (lambda x: reversed_gradient(x) ** 2 / 2, 1 + 0.1),
        (lambda x: reversed_gradient(3 * x) ** 2 / 2, 1 + 0.9),
        (lambda x: x**2 / 2 + root(x**2) * 0, 1 - 0.1),
    ],
    ids=["straight-through", "reversed gradient", "reversed and scaled", "finite by its rule"],
)
def test_rules_that_are_no_derivative(loss, multiplier):
    report = dy.stability(game(loss), Simultaneous(optax.sgd(0.1)), (0.0,))
    assert abs(report.radius - multiplier) < 1e-12
    assert report.verdict == ("stable" if multiplier < 1 else "unstable")


def test_the_other_player_sees_a_function_with_a_backward_rule_only():
    """The field of player 1 goes through it undifferentiated: forward mode alone would refuse it."""
    pair = game(lambda x, y: x**2 / 2 + x * y, lambda x, y: y**2 / 2 - y * reversed_gradient(2 * x))
    report = dy.stability(pair, Simultaneous(optax.sgd(0.1), optax.sgd(0.2)), (0.0, 0.0))
    np.testing.assert_allclose(report.jacobian, [[0.9, -0.1], [0.4, 0.8]], atol=1e-14)


@jax.custom_jvp
def lying(x):
    """x^2 in a form that has no derivative at 0 by the rules of calculus: its own rule counts, and is wrong."""
    return jnp.sqrt(x**4)


lying.defjvp(lambda primals, tangents: (lying(*primals), 3 * tangents[0]))


def test_difference_quotients_that_contradict_forbid_a_verdict():
    report = dy.stability(game(lambda x: lying(x) * x + x**2 / 2), Simultaneous(optax.sgd(0.1)), (0.0,))
    assert report.verdict == "marginal" and report.error == np.inf
    assert any("lying" in note for note in report.notes)


@pytest.mark.slow_cases("float32")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spectral_normalisation_with_a_detached_vector(dtype):
    """The largest singular value by stop_gradient, as flax and equinox have it: against the real step."""
    start = jnp.asarray([[1.0, 0.3], [0.2, 0.6]], dtype)

    def detached(players, key=None):
        x, y = players
        left, _, right = jnp.linalg.svd(start)
        sigma = stop_gradient(left[:, 0]) @ y["w"] @ stop_gradient(right[0])
        score = (y["w"] / stop_gradient(sigma)) @ x
        return jnp.sum(score) + jnp.sum(x**2) / 2, -jnp.sum(score) + jnp.sum((y["w"] - start) ** 2) / 2

    spectral = dy.Game.from_losses(detached)
    point = (jnp.asarray([0.3, -0.2], dtype), {"w": start + jnp.asarray([[0.1, 0.0], [-0.2, 0.1]], dtype)})
    method = Simultaneous(optax.sgd(0.1), optax.sgd(0.2))
    report = dy.stability(spectral, method, point, require_equilibrium=False)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: leaf.astype(float), point)
        flat, unravel = jax.flatten_util.ravel_pytree(exact)

        def step(vector):
            return jax.flatten_util.ravel_pytree(method.step(spectral, method.init(spectral, unravel(vector))).players)[
                0
            ]

        quotients = np.stack([(step(flat + H * e) - step(flat - H * e)) / (2 * H) for e in np.eye(flat.size)], axis=1)
    np.testing.assert_allclose(report.jacobian, quotients, atol=2e-6 if dtype is np.float32 else 1e-8)
