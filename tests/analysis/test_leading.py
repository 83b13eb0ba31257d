"""Stability at a state in training, and of large states by leading eigenvalues."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics.analysis import FieldOperator, Leading, SymmetricPart
from dynamics.analysis.spectra.scaling import dense_memory_scales
from dynamics.analysis.stability.linearisation import on_vectors
from dynamics.flows import Flow
from dynamics.updates import State

ADAM = dy.updates.Alternating(optax.adam(2e-3, 0.5, eps=1e-6), optax.adam(1e-3, 0.5, eps=1e-6))


@functools.cache
def trained(dtype):
    """A small GAN after some training with Adam, in this precision: game, update and state."""
    keys = jax.random.split(jax.random.key(0), 3)
    generator, start = dy.split_module(eqx.nn.MLP(2, 2, 4, 1, jax.nn.tanh, key=keys[0]))
    discriminator, other = dy.split_module(eqx.nn.MLP(2, "scalar", 5, 1, jax.nn.softplus, key=keys[1]))
    game = dy.GAN(
        generator,
        discriminator,
        dy.distributions.ring(4, nodes=1),
        jax.random.normal(keys[2], (16, 2), dtype),
        penalty=dy.penalties.R1(0.2),
    )
    players = jax.tree.map(lambda leaf: leaf.astype(dtype), (start, other))
    return game, dy.simulate(game, ADAM, players, steps=200, save_every="last", classify=False).state


def differences(game, update, state):
    """The Jacobian of the real step by central differences, in the order of the report."""
    flat, moved = on_vectors(update, state, None)
    step = jax.jit(lambda vector: moved(game, vector))
    sizes = 1e-6 * np.maximum(np.abs(np.asarray(flat)), 1e-8)  # a mean square stays positive
    columns = [(step(flat + d) - step(flat - d)) / (2 * size) for size, d in zip(sizes, np.diag(sizes), strict=True)]
    return np.stack(columns, axis=1)


def test_the_jacobian_at_a_state_is_that_of_the_step_from_it():
    """With the memory that it has: at rest, with the same players, the Jacobian is another one."""
    game = dy.games.DiracGAN()
    update = dy.updates.Simultaneous(optax.adam(0.05, 0.5, 0.9), optax.sgd(0.1, 0.9))
    state = dy.simulate(game, update, (1.0, 0.5), steps=7, save_every="last", classify=False).state
    report = dy.stability(game, update, state)
    np.testing.assert_allclose(report.jacobian, differences(game, update, state), atol=1e-6)
    assert "taken as it is" in report.notes[0]
    rest = dy.stability(game, update, state.players, require_equilibrium=False)
    assert rest.jacobian.shape != report.jacobian.shape or np.max(np.abs(rest.jacobian - report.jacobian)) > 1e-3
    with pytest.raises(dy.analysis.EquilibriumError):
        dy.stability(game, update, state, require_equilibrium=True)


def test_a_state_at_rest_is_judged_as_its_players_are():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    update = dy.updates.Alternating(optax.sgd(0.1, 0.5), optax.sgd(0.2))
    state = update.init(game, (jnp.asarray(0.0), jnp.asarray(0.0)))
    report, expected = dy.stability(game, update, state), dy.stability(game, update)
    np.testing.assert_allclose(report.radius, expected.radius, rtol=1e-12)
    assert report.verdict == expected.verdict == "stable" and not report.notes


@pytest.mark.slow_cases("float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.slow
def test_leading_eigenvalues_are_those_of_the_dense_jacobian(dtype):
    game, state = trained(dtype)
    dense = dy.stability(_as(game, jnp.float64), ADAM, _as(state, jnp.float64))
    report = dy.stability(game, ADAM, state, leading=Leading(6, conditions=True, bound=0))
    assert np.all(report.converged) and report.size == len(dense.eigenvalues)
    assert dense.verdict == "unstable" and dense.error < 1e-9  # in the units of the memory
    assert np.all(np.isfinite(report.errors)) and np.max(report.errors) < (1e-3 if dtype == jnp.float32 else 1e-8)
    for value, error in zip(report.eigenvalues, report.errors, strict=True):
        assert np.min(np.abs(dense.eigenvalues - value)) <= error
    count = len(report.eigenvalues)
    outermost = np.sort(np.abs(dense.eigenvalues))[::-1][:count]
    np.testing.assert_allclose(np.abs(report.eigenvalues), outermost, atol=np.max(report.errors))
    assert report.lower <= dense.radius <= report.upper
    for value, vector, left in zip(report.eigenvalues, report.vectors, report.left_vectors, strict=True):
        scale = np.linalg.norm(dense.jacobian, 2)
        assert np.linalg.norm(dense.jacobian @ vector - value * vector) < 1e-3 * scale
        assert np.linalg.norm(left.conj() @ dense.jacobian - value * left.conj()) < 1e-3 * scale
    np.testing.assert_allclose(report.shares().sum(axis=1), 1, rtol=1e-5)
    assert report.describe().count("\n") >= count and report.to_dict()["vectors"] is None


def _as(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, tree)


def test_the_units_of_memory_do_not_count_at_a_state():
    """Heavy ball on a quadratic game whose velocity is written in units of 1e-9: the same report."""
    game = dy.games.Quadratic([[1.0, 0.3], [-0.3, 1.0]])
    reports = []
    for unit in (1.0, 1e-9):

        def train_step(state, batch, key, unit=unit):
            players = state["x"], state["y"]
            field = game.field(players)
            new = {}
            for name, player, direction in zip("xy", players, field, strict=True):
                velocity = 0.5 * state["v" + name] * unit + 0.1 * direction
                new[name], new["v" + name] = player + velocity, velocity / unit
            return new

        start = {"x": 1.0, "y": 0.5, "vx": 0.1 / unit, "vy": -0.2 / unit}
        loop = dy.from_step(train_step, start, players=lambda state: (state["x"], state["y"]))
        reports.append(dy.stability(*loop))
    first, second = reports
    np.testing.assert_allclose(second.eigenvalues, first.eigenvalues, rtol=1e-12)
    assert first.verdict == second.verdict == "stable" and second.error < 1e-12
    jacobian = np.array([[1.0, 0.0, 2e8], [0.0, 1.0, 0.0], [3e-8, 4e-8, 0.5]])
    np.testing.assert_array_equal(dense_memory_scales(jacobian, 2), [1.0, 1.0, 2.0**-26])


@pytest.mark.slow
def test_without_scales_float32_admits_that_it_does_not_know():
    game, state = trained(jnp.float32)
    report = dy.stability(game, ADAM, state, leading=Leading(4, scaled=False, bound=0))
    scaled = dy.stability(game, ADAM, state, leading=Leading(4, bound=0))
    assert report.norm > 10 * scaled.norm and scaled.norm < 10


def quadratic(radius_of_rates, size=30, seed=0):
    random = np.random.default_rng(seed)
    change = np.linalg.qr(random.standard_normal((size, size)))[0]
    curvature = change @ np.diag(random.uniform(0.5, 1.0, size)) @ change.T
    coupling = 0.3 * random.standard_normal((size, size)) / np.sqrt(size)
    game = dy.games.Quadratic([[curvature, coupling], [-coupling.T, 0.7 * curvature]])
    return game, dy.updates.Simultaneous(optax.sgd(radius_of_rates), optax.sgd(0.8 * radius_of_rates))


@pytest.mark.slow
def test_stable_needs_the_bound_and_says_its_probability():
    game, update = quadratic(0.5)
    dense = dy.stability(game, update)
    assert dense.verdict == "stable"
    report = dy.stability(game, update, leading=Leading(4, bound=600))
    assert report.verdict == "stable" and dense.radius <= report.upper < 1 and "1e-06" in report.describe()
    assert np.sort(np.abs(dense.eigenvalues))[::-1][len(report.eigenvalues)] <= report.others
    without = dy.stability(game, update, leading=Leading(4, bound=0))
    assert without.verdict == "marginal" and "Not decided" in without.notes[-1]


@pytest.mark.slow
def test_unstable_and_not_decided():
    game, update = quadratic(3.0)
    dense, report = dy.stability(game, update), dy.stability(game, update, leading=3)
    assert dense.verdict == report.verdict == "unstable"
    np.testing.assert_allclose(report.radius, dense.radius, rtol=1e-9)
    assert report.lower <= dense.radius
    bilinear = dy.games.Bilinear(np.diag(np.linspace(0.5, 2.0, 8)))
    turning = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.1))
    assert dy.stability(bilinear, turning, leading=4).verdict == "marginal"


@pytest.mark.slow
def test_flows_and_rotation():
    game, _ = quadratic(1.0)
    flow = dy.flows.Flow()
    dense = dy.stability(game, flow)
    report = dy.stability(game, flow, leading=4)
    np.testing.assert_allclose(report.abscissa, dense.abscissa, rtol=1e-8)
    assert report.verdict == "stable" and report.others < 0 and dense.verdict == "stable"
    others = dense.eigenvalues[np.min(np.abs(dense.eigenvalues[:, None] - report.eigenvalues), axis=1) > 1e-6]
    assert np.max(others.real) <= report.others
    turning = dy.stability(game, flow, leading=Leading(2, target="rotation"))
    np.testing.assert_allclose(turning.rotation, np.max(dense.eigenvalues.imag), rtol=1e-8)


def turning(decay, turning, seed=0, coupling=1.0):
    """A game of two players whose pairs -d +- iw are hidden by a rotation of each; zero-sum with `coupling` 1."""
    random = np.random.default_rng(seed)
    size = len(decay)
    first, second = (np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(2))
    cross = first @ np.diag(turning) @ second.T
    blocks = [[(first * decay) @ first.T, coupling * cross], [-cross.T / coupling, (second * decay) @ second.T]]
    return dy.games.Quadratic(blocks)


def slow_pairs(size=60, fastest=None):
    random = np.random.default_rng(3)
    decay, frequency = random.uniform(0.05, 0.2, size), random.uniform(0, 2, size)
    decay[:3], frequency[:3] = [0.01, 0.015, 0.02], [0.3, 1.1, 1.7]
    if fastest is not None:
        decay[3], frequency[3] = -fastest.real, fastest.imag
    values = np.concatenate([-decay + 1j * frequency, -decay - 1j * frequency])
    return decay, frequency, values[np.argsort(-values.real)]


@pytest.mark.slow_cases("1.0", "2.5")
@pytest.mark.parametrize("coupling", [1.0, 2.5])
def test_a_flow_that_turns_is_stable_with_the_probability_that_is_said(coupling):
    """Slow pairs inside of a strip: the exponential finds them, and bounds the rest."""
    decay, frequency, values = slow_pairs()
    report = dy.stability(turning(decay, frequency, coupling=coupling), dy.flows.Flow(), leading=6)
    np.testing.assert_allclose(np.sort_complex(report.eigenvalues), np.sort_complex(values[:6]), atol=1e-7)
    assert report.verdict == "stable" and "1e-06" in report.describe()
    assert values[6].real <= report.others < 0 and np.all(report.errors < 1e-5)
    expected = (coupling + 1 / coupling) / 2 if coupling == 1 else None
    assert expected is None or np.allclose(report.conditions, expected, rtol=1e-3)
    jacobian = dy.stability(turning(decay, frequency, coupling=coupling), dy.flows.Flow()).jacobian
    for value, left in zip(report.eigenvalues, report.left_vectors, strict=True):
        assert np.linalg.norm(left.conj() @ jacobian - value * left.conj()) < 1e-5


@pytest.mark.slow_cases("(0.001+1.95j)", "(0.001+2.6j)")
@pytest.mark.parametrize("fastest", [1e-3 + 1.95j, 1e-3 + 2.6j, 1e-3 + 0.7j])
@pytest.mark.slow_cases("(0.001+0.7j)")
def test_a_flow_with_one_expanding_pair_is_unstable(fastest):
    decay, frequency, values = slow_pairs(fastest=fastest)
    report = dy.stability(turning(decay, frequency, seed=1), dy.flows.Flow(), leading=2)
    assert report.verdict == "unstable" and report.lower > 0.9e-3
    np.testing.assert_allclose(np.sort_complex(report.eigenvalues), np.sort_complex(values[:2]), atol=1e-6)


@pytest.mark.slow
def test_what_the_first_look_misses_grows_in_the_bound():
    """Four pairs at the ends of the strip that Krylov's method finds at once, and a slower one in its middle."""
    decay, frequency, _ = slow_pairs()
    decay[:3], decay[3:] = 0.3, np.maximum(decay[3:], 0.3)
    decay[0], frequency[0] = 0.05, 0.2
    decay[1:5], frequency[1:5] = 0.1, [3.0, 3.3, 3.6, 3.9]
    report = dy.stability(turning(decay, frequency), dy.flows.Flow(), leading=Leading(2, basis=12, tolerance=1e-3))
    np.testing.assert_allclose(report.abscissa, -0.05, atol=1e-4)
    with pytest.raises(ValueError, match="products"):
        Leading(products=0)


def test_blocks_and_parts_of_the_field():
    game, _ = quadratic(1.0, size=3)
    players = dy.analysis.find_equilibrium(game, (jnp.ones(3), jnp.ones(3))).players
    blocks = dy.stability(game, dy.flows.Flow(), players).blocks
    whole = np.block([list(row) for row in blocks])
    np.testing.assert_allclose(FieldOperator(game, players).as_matrix(), whole, atol=1e-12)
    np.testing.assert_allclose(FieldOperator(game, players, player=1).as_matrix(2), blocks[1][1], atol=1e-12)
    field = FieldOperator(game, players)
    for sign in (1, -1):
        np.testing.assert_allclose(SymmetricPart(field, sign).as_matrix(), (whole + sign * whole.T) / 2, atol=1e-12)
    np.testing.assert_allclose(field.as_scipy().rmatvec(np.ones(6)), whole.T @ np.ones(6), atol=1e-12)
    np.testing.assert_allclose(field.as_lineax().mv(jnp.ones(6)), whole @ np.ones(6), atol=1e-12)


@pytest.mark.slow
def test_a_stable_point_of_a_step_with_kinks_says_what_was_not_tried():
    points = jnp.linspace(0.1, 1.0, 6)
    reports = []
    for shrink in (lambda x: 0.5 * x, lambda x: 0.5 * jax.nn.relu(x + 1.0) - 0.5):
        loop = dy.from_step(lambda state, batch, key, shrink=shrink: {"x": shrink(state["x"])}, {"x": points})
        reports.append(dy.stability(*loop, leading=Leading(2, bound=200)))
    assert [str(report.verdict) for report in reports] == ["stable", "stable"]
    assert "6 switches" in reports[1].notes[-1] and "switches" not in "".join(reports[0].notes)


def test_a_wrong_derivative_gets_no_verdict():
    """By the Jacobian alone this map contracts."""

    def step(state, batch, key):  # a staircase of tiny steps, flat everywhere
        return {"x": 0.5 * state["x"] + jnp.floor(1e12 * state["x"]) / 1e12}

    loop = dy.from_step(step, {"x": jnp.linspace(1.0, 2.0, 5)})
    report = dy.stability(*loop, leading=Leading(2, bound=200))
    assert report.smoothness == "inconsistent" and report.verdict == "marginal"


@pytest.mark.slow_cases("1.0")
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_flows_with_a_neutral_direction_are_smooth(scale):
    """Along an eigenvector of 0 both the field and its derivative are nothing but rounding."""
    rng = np.random.default_rng(1)
    left, values, right = np.linalg.svd(rng.normal(size=(6, 6)))
    matrix, centre = jnp.asarray(left * (values * [0, 1, 1, 1, 1, 1]) @ right) * scale, jnp.asarray(rng.normal(size=6))

    def losses(players, key=None):
        x, y = players
        z = matrix.T @ (x - centre)
        return jnp.tanh(z) @ y + 0.5 * jnp.sum(z**2), 0.5 * jnp.sum(y**2) - jnp.tanh(z) @ y

    game = dy.Game.from_losses(losses)
    report = dy.stability(game, Flow(), at=(centre, jnp.zeros(6)), leading=Leading(2, bound=100))
    assert report.smoothness == "smooth" and report.verdict == "marginal"
    assert abs(report.eigenvalues[0]) < 1e-12


@pytest.mark.slow_cases("float64", "float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_any_training_step(dtype):
    """The step of a GAN written out, with optax's memory in the state, against the update that it is."""
    game, state = trained(dtype)
    optimisers = [optax.adam(2e-3, 0.5, eps=1e-6), optax.adam(1e-3, 0.5, eps=1e-6)]

    def train_step(state, batch, key):
        players = [state["generator"], state["discriminator"]]
        memory = list(state["memory"])
        for number in (0, 1):
            gradient = jax.grad(lambda player, n=number: game.losses(_with(players, n, player))[n])(players[number])
            change, memory[number] = optimisers[number].update(gradient, memory[number])
            players[number] = optax.apply_updates(players[number], change)
        return {"generator": players[0], "discriminator": players[1], "memory": tuple(memory)}

    whole = {"generator": state.players[0], "discriminator": state.players[1], "memory": tuple(state.memory)}
    loop = dy.from_step(train_step, whole, players=lambda s: (s["generator"], s["discriminator"]))
    tolerance = 2e-5 if dtype == jnp.float32 else 1e-10
    mine, theirs = (dy.stability(*where, leading=Leading(4, bound=0)) for where in (loop, (game, ADAM, state)))
    np.testing.assert_allclose(np.abs(mine.eigenvalues), np.abs(theirs.eigenvalues), atol=tolerance)
    new = loop.update.step(loop.game, loop.state)
    expected = ADAM.step(game, state)
    np.testing.assert_allclose(ravel_pytree(new.players)[0], ravel_pytree(expected.players)[0], rtol=1e-5)
    assert jax.tree.structure(loop.whole(new)) == jax.tree.structure(whole)


def _with(players, number, player):
    return tuple(player if place == number else other for place, other in enumerate(players))


def test_exponents_and_runs_of_a_training_step():
    loop = dy.from_step(lambda state, batch, key: batch * state, jnp.asarray([1.0, 2.0]), batch=jnp.asarray(0.5))
    result = dy.lyapunov_exponents(loop.game, loop.update, loop.state.players, steps=50)
    np.testing.assert_allclose(result.exponents, np.log(0.5) * np.ones(2), rtol=1e-9)
    run = dy.simulate(*loop, steps=3)
    np.testing.assert_allclose(run.final[0], [0.125, 0.25], rtol=1e-12)


def test_bad_input():
    game, update = quadratic(0.5, size=2)
    state = update.init(game, game.equilibria()[0])
    with pytest.raises(ValueError, match="memory of a State is as it is"):
        dy.stability(game, update, state, gradient_noise=0.1)
    with pytest.raises(ValueError, match="the state has the memory"):
        dy.stability(game, ADAM, state)
    with pytest.raises(ValueError, match="count is 0"):
        dy.stability(game, update, leading=0)
    with pytest.raises(ValueError, match="target is 'largest'"):
        Leading(target="largest")
    with pytest.raises(ValueError, match="failure is 2"):
        Leading(failure=2)
    with pytest.raises(ValueError, match="leading"):
        dy.stability(game, update, leading=2, gradient_noise=0.1)
    with pytest.raises(ValueError, match="returned"):
        dy.from_step(lambda state, batch, key: (state, 0.0), jnp.ones(2))
    with pytest.raises(TypeError, match="train_step"):
        dy.from_step(lambda state: state, jnp.ones(2))


@pytest.mark.slow
def test_large_states_are_not_written_out():
    """Beyond the size at which the dense Jacobian pays, and with a note that says so."""
    game, update = quadratic(0.5, size=20)
    wide = dataclasses.replace(Leading(3, bound=50))
    assert isinstance(dy.stability(game, update, leading=wide), dy.analysis.LeadingStability)
    loop = dy.from_step(lambda state, batch, key: 0.5 * state, jnp.ones(3000))
    report = dy.stability(*loop)
    assert isinstance(report, dy.analysis.LeadingStability) and "3000 numbers" in report.describe()
    assert isinstance(loop.state, State) and report.verdict == "stable"
