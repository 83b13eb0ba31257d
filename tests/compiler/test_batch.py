"""Games last: the same numbers as `jax.vmap`, for every game and every method of the catalogues."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asymmetric import make, start
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics import catalogue
from dynamics._compiling import quick_jit
from dynamics.compiler import affine
from dynamics.compiler.affine import is_affine_step
from dynamics.compiler.batch import interpreter
from dynamics.compiler.batch.interpreter import batch_last_axis
from dynamics.compiler.jaxprs import live_eqns
from dynamics.simulation.maps import one_step
from dynamics.simulation.simulate import simulate_lane

LANES = 24
STEPS = 6


def moved(point, shift):
    """Players near a point, other ones for every shift."""
    flat, unravel = ravel_pytree(point)
    return unravel(flat + 0.05 * jnp.sin(shift * (1 + jnp.arange(flat.size, dtype=flat.dtype))))


def trajectory(game, update, point, shift):
    """Some steps in a loop, with the box around them."""
    state = update.init(game, moved(point, shift))

    def step(i, carry):
        state, low = carry
        state = one_step(update, game, state)
        return state, jax.tree.map(jnp.minimum, low, state.players)

    return jax.lax.fori_loop(0, STEPS, step, (state, state.players))


def same_as_vmap(function, *arguments, dtype=np.float64, machine_code=True):
    """Compare on all lanes; returns what was found."""
    found = jax.jit(batch_last_axis(function, machine_code=machine_code))(*arguments)
    expected = quick_jit(jax.vmap(function, in_axes=-1, out_axes=-1))(*arguments)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        one, other = np.asarray(one, float), np.asarray(other, float)
        scale = 1 + np.max(np.abs(np.where(np.isfinite(other), other, 0)), initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=2e4 * float(np.finfo(dtype).eps) * scale)
    return found


SHIFTS = jnp.linspace(0.3, 2.0, LANES)
LONG = {"ODEGAN", "RungeKutta", "ProximalPoint", "AdaptiveCompetitive", "PastExtrapolation", "RingGAN", "Stackelberg"}
LONG |= {"CompetitiveGradient", "FollowTheRidge", "SymplecticAdjustment", "LocalSymplecticSurgery", "Unrolled"}
LONG |= {"Extragradient", "SOS", "CrossingTheCurl", "DriftRegularisation", "Scheduled", "MixtureGame", "VEEGAN", "VRAL"}


def members(room):
    """Of a catalogue; those that take long to compile are run with the slow tests."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in catalogue.members(room)]


@pytest.mark.slow_cases("HermiteGAN", "IteratedPrisonersDilemma", "RockPaperScissors", "Quadratic")
@pytest.mark.parametrize("name", members("games"))
def test_every_game(name):
    game, point = catalogue.find("games", name).example()
    count = len(point)
    update = dy.updates.Alternating(*[dy.optimisers.sgd(0.02 / (1 + player)) for player in range(count)])
    same_as_vmap(partial(trajectory, game, update, point), SHIFTS)


@pytest.mark.slow_cases(
    "Simultaneous", "Averaged", "FictitiousPlay", "Alternating", "Rounded", "WithVariables", "Lookahead"
)
@pytest.mark.parametrize("name", members("updates"))
def test_every_update(name):
    game, point = make(3), start(3)
    update = catalogue.find("updates", name).example(3)
    same_as_vmap(partial(trajectory, game, update, point), SHIFTS)


@pytest.mark.slow_cases(
    "Consensus", "HamiltonianDescent", "JacobianRegularisation", "CurvatureExploitation", "LOLA", "PolicyPrediction"
)
@pytest.mark.parametrize("name", members("directions"))
def test_every_direction(name):
    game, point = make(2), start(2)
    direction = catalogue.find("directions", name)()
    update = dy.updates.Simultaneous(dy.optimisers.sgd(0.02), dy.optimisers.sgd(0.03), direction=direction)
    same_as_vmap(partial(trajectory, game, update, point), SHIFTS)


RNG = np.random.default_rng(0)


def numbers(*shape):
    return jnp.asarray(RNG.normal(size=(*shape, LANES)))


def products(a, b, c):
    batch = jnp.einsum("bij,bjk->bik", b, jnp.swapaxes(b, 1, 2))
    both = jax.lax.dot_general(b, b, (((1, 2), (1, 2)), ((), ())))
    return a @ c, c @ a @ c, a.T @ a, jnp.outer(c, c), batch, both, jnp.tensordot(a, jnp.ones((3, 2)), 1)


def reductions(a, b, c):
    holes = jnp.where(a > 0.5, jnp.nan, a)
    totals = jnp.cumsum(-a, axis=1), jax.lax.cumsum(b, axis=1, reverse=True)
    found = (a.sum(), b.sum((0, 2)), b.max(1), b.min(), c.prod(), (a > 0).any(0), (b > -1).all((0, 1)), totals)
    return (*found, jnp.argmax(c), jnp.argmin(a, 1), jnp.argmax(holes, 0), jnp.cumsum(c), jnp.sort(c), jnp.std(a))


def arrangements(a, b, c):
    joined = jnp.concatenate([a, jnp.zeros((1, 3)), -a[::2]])
    found = (joined, jnp.stack([c, -c], 1), jnp.pad(a, ((1, 0), (0, 2))), b[::-1, :, 1:], b.transpose(2, 0, 1))
    return (*found, jnp.split(b, 2), jnp.roll(c, 1), a.reshape(-1)[1:], c[jnp.asarray([2, 0])], jnp.tile(c, 2))


def signs(a, b, c):
    up, down = dy.scalars.sigmoid(-c), dy.scalars.sigmoid(c)
    minus = -c
    found = (
        up,
        down,
        -(a - 1) - (1 - a),
        minus * minus,
        minus / up,
        jnp.sin(minus),
        jnp.cos(minus),
        minus**3,
        minus**2,
    )
    return (*found, jnp.minimum(-a, a), jnp.maximum(minus, -up), jnp.where(c > 0, minus, -up), abs(minus), 0 - c, c - c)


def branches(a, b, c):
    def turn(carry, row):
        total, count = carry
        return (total + row @ c, count + 1), jnp.tanh(row) * count

    (total, count), rows = jax.lax.scan(turn, (jnp.zeros(()), 0), a, reverse=True)
    sure = jax.lax.cond(jnp.asarray(3) > 2, lambda x: x + total, lambda x: x * 2, c)
    open_ = jax.lax.cond(c[0] > 0, lambda x: x + 1, lambda x: jnp.sin(x), c)
    until = jax.lax.while_loop(lambda x: jnp.sum(x**2) > 1, lambda x: 0.7 * x, c)
    fixed = jax.lax.fori_loop(0, 4, lambda i, x: jnp.where(i == 2, x, a @ x), c)
    return total, count, rows, sure, open_, until, fixed


def randomness(a, b, c):
    key = jax.random.fold_in(jax.random.key(3), jnp.asarray(c[0] * 1000, jnp.int32))
    return jax.random.key_data(key), jax.random.normal(key, (2,)), jnp.linalg.solve(a + 9 * jnp.eye(3), c)


def known_numbers(a, b, c):
    third = jax.lax.div(jnp.asarray(1.0), jnp.asarray(3.0))
    parts = (third * c, c / 3, c / -7, 2 * (c / 2), (c / 3) / 0.75, c / third, (third - 2) * c, c + third / 0)
    return *parts, c / 1e308, c / 5e-324, c / jnp.inf, c.astype(jnp.float32) / 1e-40, jnp.asarray([7, -7]) // 2 + c[0]


@pytest.mark.parametrize("function", [products, reductions, arrangements, signs, branches, randomness, known_numbers])
@pytest.mark.parametrize("machine_code", [False, True])
def test_every_rule(function, machine_code):
    same_as_vmap(function, numbers(3, 3), numbers(2, 3, 2), numbers(3), machine_code=machine_code)


@pytest.mark.parametrize(
    "objective", ["Minimax", "NonSaturating", "LeastSquares", "Wasserstein", "Hinge", "KL", "Brier"]
)
def test_one_exponential_per_field_of_the_dirac_gan(objective):
    # By automatic differentiation alone there are up to six, and as many logarithms.
    game = dy.games.DiracGAN(objective=catalogue.find("objectives", objective)(), penalty=dy.penalties.R1(0.3))

    def body(x, y):
        return game.field((x, y))

    jaxpr = jax.make_jaxpr(batch_last_axis(body))(SHIFTS, SHIFTS).jaxpr
    kept = [jaxpr.eqns[index] for index in live_eqns(jaxpr, [True, True])]
    names = [equation.primitive.name for equation in kept if equation.outvars[0].aval.shape == (LANES,)]
    assert sum(name in ("exp", "log", "log1p", "expm1", "tanh", "pow") for name in names) <= 1
    assert names.count("div") <= 1
    same_as_vmap(body, 9 * SHIFTS - 7, SHIFTS)


def test_halves_of_squares_cost_nothing():
    def slopes(x, y):
        return jax.grad(lambda x: x**2 / 2)(x), jax.grad(lambda y: 4 * y**2 / 3 - x * y)(y)

    jaxpr = jax.make_jaxpr(batch_last_axis(slopes))(SHIFTS, SHIFTS).jaxpr
    assert jaxpr.outvars[0] is jaxpr.invars[0]
    kept = [jaxpr.eqns[index].primitive.name for index in live_eqns(jaxpr, [True, True])]
    assert sorted(name for name in kept if name != "broadcast_in_dim") == ["mul", "sub"]


def quadratic(matrix, offset):
    blocks = [[matrix[:2, :2], matrix[:2, 2:]], [matrix[2:, :2], matrix[2:, 2:]]]
    return dy.games.Quadratic(blocks, [offset[:2], offset[2:]])


@pytest.mark.slow_cases("RungeKutta")
@pytest.mark.parametrize("name", ["Simultaneous", "Alternating", "Extragradient", "RungeKutta"])
def test_affine_steps_become_a_matrix(name, monkeypatch):
    update = catalogue.find("updates", name).example(2)
    seen = []
    monkeypatch.setattr(interpreter, "is_affine_step", lambda *given: seen.append(is_affine_step(*given)) or seen[-1])
    monkeypatch.setattr(affine, "_work", lambda jaxpr: np.inf)

    def run(matrix, offset, shift):
        game = quadratic(matrix, offset)
        return trajectory(game, update, (jnp.ones(2), jnp.ones(3)), shift)

    same_as_vmap(run, 0.3 * numbers(5, 5), numbers(5), SHIFTS)
    assert seen and all(seen)


@pytest.mark.parametrize("kind", ["bent", "kinked", "many"])
def test_other_steps_do_not(kind, monkeypatch):
    seen = []
    monkeypatch.setattr(interpreter, "is_affine_step", lambda *given: seen.append(is_affine_step(*given)) or seen[-1])
    size = 80 if kind == "many" else 3

    def run(matrix, shift):
        def losses(players, key=None):
            x, y = players
            value = x @ (matrix if kind != "many" else jnp.eye(size)) @ y
            extra = {"bent": jnp.sum(x**3), "kinked": jnp.sum(jax.nn.relu(x) ** 2), "many": jnp.sum(x)}[kind]
            return value + extra, -value + jnp.sum(y**2)

        update = dy.updates.Alternating(dy.optimisers.sgd(0.02), dy.optimisers.sgd(0.03))
        return trajectory(dy.Game.from_losses(losses), update, (jnp.ones(size), jnp.ones(size)), shift)

    same_as_vmap(run, numbers(3, 3), SHIFTS)
    assert seen and not any(seen)


def test_small_rates_keep_their_digits():
    # The matrix of a step is that of the displacement: 1 - 1e-5 would lose a third of the digits of the rate.
    def run(offset):
        game = quadratic(jnp.eye(5, dtype=jnp.float32), jnp.zeros(5, jnp.float32))
        update = dy.updates.Simultaneous(dy.optimisers.sgd(1e-5), dy.optimisers.sgd(1e-5))
        game, update = dy._trees.cast((game, update), jnp.float32)
        players = jnp.full(2, 1e-3, jnp.float32) + offset, jnp.full(3, 1e-3, jnp.float32) + offset

        def step(i, players):
            state = one_step(update, game, update.init(game, players))
            return jax.tree.map(jnp.subtract, state.players, players)

        return jax.lax.fori_loop(0, 1, step, players)

    moved = jax.jit(batch_last_axis(run, machine_code=True))(jnp.zeros(LANES, jnp.float32))[0]
    np.testing.assert_allclose(moved, -1e-8, rtol=1e-2)


@pytest.mark.slow
def test_a_whole_run_is_machine_code():
    update = dy.updates.Alternating(dy.optimisers.sgd(0.1), dy.optimisers.sgd(0.2))

    def run(weight):
        game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
        given = dict(steps=256, save_every=4, key=None, tolerance=1e-3, limit=1e6, apart=True)
        found, *doubt = simulate_lane(game, update, (1.0, 1.0), **given)
        return found.final, found.outcome, found.players, doubt

    compiled = jax.jit(batch_last_axis(run, machine_code=True)).lower(SHIFTS).compile().as_text()
    # What the schedule decides, the loop, what comes after it, and two that keep apart what is outside.
    assert " while(" not in compiled and compiled.count("custom_call_target") == 5


def test_arguments_that_nobody_reads_do_not_stop_the_compiler():
    def run(a, b):
        def step(i, carry):
            x, unused, same = carry
            return jnp.sin(x) + b * 0, unused + 1, same

        return jax.lax.fori_loop(0, 3, step, (a, b, a))[0]

    same_as_vmap(run, SHIFTS, SHIFTS)
