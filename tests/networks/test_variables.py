"""What networks keep from step to step: memory of the update, in the Jacobian of the map, moved by no optimiser."""

import importlib

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import Counting
from flax import nnx
from jax.flatten_util import ravel_pytree
from libraries import DATA, LATENT, LIBRARIES, NNXCritic, pair_of

import dynamics as dy
from dynamics import _trees, networks
from dynamics.compiler.derivatives import released
from dynamics.game import ShiftedGradients, advanced, variables_of, with_variables
from dynamics.updates import Alternating, Averaged, Extragradient, Lookahead, RungeKutta, Simultaneous, WithVariables
from dynamics.updates.with_variables import for_game, game_at

KEY = jax.random.key(11)
H = 1e-6  # of difference quotients
SGD = optax.sgd(0.1), optax.sgd(0.2)


def on_vectors(update, game, players, key=None):
    """The state as a vector, the step as a function of it, and which numbers are variables."""
    state = update.init(game, players)
    floating, other = eqx.partition(state, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(floating)

    def step(vector):
        new = update.step(game, eqx.combine(unravel(vector), other), key)
        return ravel_pytree(eqx.filter(new, eqx.is_inexact_array))[0]

    size = _trees.size(eqx.filter(variables_of(game), eqx.is_inexact_array))
    return flat, step, np.arange(flat.size) >= flat.size - size


@pytest.mark.slow_cases("flax nnx", "haiku", "flax linen", "equinox")
@pytest.mark.parametrize("name", LIBRARIES)
def test_variables_are_in_the_jacobian(name):
    pair = pair_of(name)
    update = WithVariables(Alternating(*SGD, order=(1, 0)))
    flat, step, of_variables = on_vectors(update, pair.game, pair.players, KEY)
    jacobian = jax.jit(jax.jacfwd(released(step)))(flat)
    many = jax.jit(jax.vmap(step))
    shifts = H * np.eye(flat.size)
    quotients = (many(flat + shifts) - many(flat - shifts)).T / (2 * H)
    np.testing.assert_allclose(jacobian, quotients, atol=1e-7)
    assert of_variables.sum() >= 10
    coupled = np.abs(jacobian[~of_variables][:, of_variables]).max(), np.abs(jacobian[of_variables][:, ~of_variables])
    assert coupled[0] > 1e-3 and coupled[1].max() > 1e-3  # the vectors move the players, and these all of them


@pytest.mark.slow_cases("haiku", "flax nnx", "flax linen")
@pytest.mark.parametrize("name", LIBRARIES)
def test_no_optimiser_remembers_variables(name):
    pair = pair_of(name)
    update = for_game(pair.game, Simultaneous(optax.adam(0.1), optax.adam(0.1)))
    memory = update.init(pair.game, pair.players).memory
    floating = eqx.filter(memory.inner, eqx.is_inexact_array)
    assert _trees.size(floating) == 2 * _trees.size(pair.players)
    assert jax.tree.structure(memory.variables) == jax.tree.structure(pair.game.variables)


class Critic(eqx.Module):
    """A linear score, of weights W / s(W), along a vector c: c . W x / s(W)."""

    layer: eqx.nn.SpectralNorm

    def __init__(self, weight):
        linear = eqx.tree_at(lambda one: one.weight, eqx.nn.Linear(2, 3, False, key=KEY), weight)
        self.layer = eqx.nn.SpectralNorm(linear, "weight", key=jax.random.key(4))

    def __call__(self, x, state):
        y, state = self.layer(x, state)
        return y[2], state


RATIO = 0.39  # of the singular values
TURN = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
WEIGHT = np.concatenate([1.7 * TURN @ np.diag([1, RATIO]) @ TURN.T, np.zeros((1, 2))])


def spectral_wasserstein(dtype):
    """At theta = the data and W'c = 0 an equilibrium of the game, with a manifold of such W."""
    module, state = eqx.nn.make_with_state(Critic)(jnp.asarray(WEIGHT))
    network, parameters = networks.from_equinox(module, state)
    target, zero = (dy.distributions.PointMass(jnp.asarray(point)) for point in ([0.3, -0.2], [0.0, 0.0]))
    game = dy.GAN(lambda t, z: t + z, network, target, zero, dy.objectives.Wasserstein())
    return game, _trees.cast((jnp.asarray([0.3, -0.2]), parameters), dtype)


@pytest.mark.slow_cases("float64", "float32")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_vectors_of_spectral_normalisation_are_stable_and_seen(dtype):
    game, players = spectral_wasserstein(dtype)
    method = Simultaneous(optax.sgd(0.2), optax.sgd(0.2))
    report = dy.stability(game, method, players)
    exact = _trees.cast(players, np.float64)
    flat, step, of_variables = on_vectors(WithVariables(method), game, exact)
    for _ in range(60):  # the vectors at rest
        flat = jnp.where(of_variables, step(flat), flat)
    quotients = np.stack([(step(flat + H * e) - step(flat - H * e)) / (2 * H) for e in np.eye(flat.size)], axis=1)
    accuracy = 1e-6 if dtype is np.float32 else 1e-8
    np.testing.assert_allclose(report.jacobian, quotients, atol=accuracy)
    # A power iteration for the real and one for the fake batch.
    assert np.abs(report.eigenvalues - RATIO**4).min() < accuracy
    naive = jax.jacfwd(step)(flat)
    assert np.abs(naive - quotients).max() > 1e-2  # what is held fixed in the losses moves the map


@pytest.mark.slow
def test_a_run_goes_on_from_its_state():
    pair = pair_of("flax linen")
    update = Simultaneous(optax.adam(0.01), optax.adam(0.01))
    run = dy.simulate(pair.game, update, pair.players, steps=4, key=KEY, classify=False)
    state = run.state
    assert jax.tree.structure(state.memory.variables) == jax.tree.structure(pair.game.variables)
    step = jax.jit(for_game(pair.game, update).step)
    key = jax.random.key(99)
    after = dy.simulate(pair.game, update, state, steps=4, key=key, classify=False)
    for count in range(4):
        state = step(pair.game, state, jax.random.fold_in(key, count))
    for a, b in zip(*map(jax.tree.leaves, (after.state, state))):
        np.testing.assert_allclose(a, b, atol=1e-12)
    # Each save's losses are those with the variables at that step.
    begin = with_variables(pair.game, run.state.memory.variables).losses(run.final, key)
    np.testing.assert_allclose([loss[0] for loss in after.losses], begin, atol=1e-12)
    with pytest.raises(ValueError, match="go on with the method that made the state"):
        dy.simulate(pair.game, Simultaneous(*SGD), state, steps=2, key=key)


@pytest.mark.slow
def test_losses_along_a_run_have_their_variables():
    game, players = spectral_wasserstein(np.float64)
    start = (
        players[0] + 0.3,
        eqx.tree_at(lambda one: one.layer.layer.weight, players[1], players[1].layer.layer.weight + 0.2),
    )
    update = for_game(game, Simultaneous(*SGD))
    run = dy.simulate(
        game, update.inner_update, start, steps=3, measures={"C": lambda game, players: game.losses(players)[1]}
    )
    state, expected = update.init(game, start), []
    for _ in range(4):
        expected.append(game_at(game, state).losses(state.players)[1])
        state = update.step(game, state)
    np.testing.assert_allclose(run.losses[1], expected, atol=1e-12)
    np.testing.assert_allclose(run.measures["C"], expected, atol=1e-12)
    assert np.abs(run.losses[1] - jax.vmap(game.losses)(run.players)[1]).max() > 1e-6


@pytest.mark.slow
def test_lyapunov_exponents_are_the_logs_of_the_eigenvalues():
    game, players = spectral_wasserstein(np.float64)
    method = Simultaneous(optax.sgd(0.2), optax.sgd(0.2))
    count = 9
    result = dy.lyapunov_exponents(game, method, players, steps=200, warm_up=200, count=count)
    moduli = np.sort(np.abs(dy.stability(game, method, players).eigenvalues))[::-1][:count]
    np.testing.assert_allclose(result.exponents, np.log(moduli), atol=2e-2)


@pytest.mark.slow
def test_a_sweep_carries_variables():
    game, players = spectral_wasserstein(np.float64)
    start = jax.tree.map(lambda leaf: leaf + 0.1, players)

    def build(rate):
        return game, Simultaneous(dy.optimisers.sgd(rate), dy.optimisers.sgd(rate)), start

    rates = [0.1, 0.2]
    chart = dy.sweep(build, {"rate": np.asarray(rates)}, steps=8, predict=False)
    for rate, residual in zip(rates, chart.residual.values):
        run = dy.simulate(*build(rate), steps=8)
        np.testing.assert_allclose(residual, run.residual, rtol=1e-8)
        fixed = dy.ZeroSum(lambda x, y: -game.losses((x, y))[1])
        other = dy.simulate(fixed, build(rate)[1], start, steps=8)
        assert abs(run.residual - other.residual) > 1e-6


UPDATES = {
    "simultaneous": lambda: Simultaneous(*SGD),
    "Runge-Kutta": lambda: RungeKutta((0.1, 0.2), "heun"),
    "extragradient": lambda: Extragradient(*SGD, extrapolation=0.1),
    "extragradient in turn": lambda: Extragradient(*SGD, extrapolation=0.1, order=(1, 0)),
    "alternating": lambda: Alternating(*SGD, repeats=(1, 2)),
    "average": lambda: Averaged(Alternating(*SGD), 0.9),
    "lookahead": lambda: Lookahead(Simultaneous(*SGD), steps=2),
}
PASSES = {"extragradient in turn": 2, "alternating": 3, "average": 2, "lookahead": 2}


@pytest.mark.parametrize("name", UPDATES)
def test_how_often_an_update_advances_the_variables(name):
    def count(start, update):
        state = update.init(start, players)
        return int(update.step(start, state).memory.variables[0])

    game, players = Counting(jnp.asarray(0)), (jnp.asarray(1.0), jnp.asarray(2.0))
    assert count(game, WithVariables(UPDATES[name]())) == PASSES.get(name, 1)
    shifted = ShiftedGradients(game, players, (jnp.asarray(0.1), jnp.asarray(0.2)))
    assert count(shifted, WithVariables(UPDATES[name]())) == PASSES.get(name, 1)


def test_saves_take_the_memory_of_players_and_variables(monkeypatch):
    asked = []
    module = importlib.import_module("dynamics.simulation.simulate")
    monkeypatch.setattr(module, "check_memory", lambda what, count, each, advice: asked.append((count, each)))
    game, start = Counting(jnp.zeros(1000)), (jnp.asarray(1.0), jnp.asarray(2.0))
    dy.simulate(game, Simultaneous(*SGD), start, steps=6, save_every=2, classify=False)
    # Two players, their variables, two losses and a time, and one for what is decided.
    assert asked == [(4, (2 + 1000 + 2 + 2) * 8)]


def test_the_update_of_a_game_without_variables_stays_as_it_is():
    update, flow = Simultaneous(*SGD), dy.flows.Flow()
    game = dy.games.Bilinear(1.0)
    assert for_game(game, update) is update and for_game(game, flow) is flow
    assert advanced(game, (1.0, 1.0)) is game and variables_of(game) == ()
    stateful = Counting(jnp.asarray(0))
    wrapped = for_game(stateful, update)
    assert isinstance(wrapped, WithVariables) and for_game(stateful, wrapped) is wrapped
    assert for_game(stateful, Averaged(wrapped)).inner_update is wrapped and for_game(stateful, flow) is flow
    gan, _ = dy.GAN.example()
    assert variables_of(gan) == () and for_game(gan, update) is update
    with pytest.raises(TypeError, match="inner_update is 0.1; expected a Update"):
        WithVariables(0.1)


@pytest.mark.slow_cases("flax linen", "flax nnx", "equinox")
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.slow
def test_penalties_and_samples_are_in_inference_mode(name):
    pair = pair_of(name)
    (generator, one), (discriminator, other) = pair.networks
    data = dy.distributions.Points(DATA, 4)
    game = dy.GAN(generator, discriminator, data, LATENT, penalty=dy.penalties.R1(2.0))
    keys = dy.gan.Keys.of(KEY)
    slopes = jax.vmap(jax.grad(lambda x: jnp.sum(discriminator.evaluate(other, game.variables[1], x))))(
        data.sample(keys.data).values
    )
    added = game.losses((one, other), KEY)[1] - pair.game.losses((one, other), KEY)[1]
    np.testing.assert_allclose(added, jnp.sum(slopes**2) / len(slopes), rtol=1e-10)
    _, fake = game.samples((one, other), KEY)
    points = LATENT.sample(keys.latent).values
    evaluated = [generator.evaluate(one, game.variables[0], point) for point in points]
    np.testing.assert_allclose(fake.values, np.stack(evaluated), atol=1e-12)


@pytest.mark.slow_cases("equinox", "flax nnx", "flax linen", "haiku")
@pytest.mark.parametrize("name", LIBRARIES)
def test_random_numbers_need_a_key(name):
    pair = pair_of(name)
    message = r"the discriminator draws random numbers \(Dropout, .*pass key=jax.random.key\(0\)"
    with pytest.raises(ValueError, match=message):
        pair.game.losses(pair.players)
    with pytest.raises(ValueError, match=message):
        dy.simulate(pair.game, Simultaneous(*SGD), pair.players, steps=2)
    one, other = (pair.game.losses(pair.players, key) for key in (KEY, KEY))
    np.testing.assert_array_equal(one, other)


LINEN = nn.Dense(1)
MODULES = {
    "nnx": (lambda: NNXCritic(nnx.Rngs(0)), "a Flax NNX module", "from_nnx"),
    "linen": (lambda: LINEN, "a Flax Linen module", "from_linen"),
    "haiku": (lambda: hk.transform(lambda x: hk.Linear(1)(x)), "a function that Haiku has transformed", "from_haiku"),
    "haiku with state": (
        lambda: hk.transform_with_state(lambda x: hk.Linear(1)(x)), "a function that Haiku", r"from_haiku\(.*state\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_split_module_names_who_takes_a_module_of_another_library(name):
    make, what, adapter = MODULES[name]
    with pytest.raises(TypeError, match=rf"{what}.*Use dynamics.networks.{adapter}"):
        dy.split_module(make())


def stateless():
    return eqx.nn.Sequential([eqx.nn.SpectralNorm(eqx.nn.Linear(2, 1, key=KEY), "weight", key=KEY)])


class TwoAxes(eqx.Module):
    norms: tuple

    def __init__(self):
        self.norms = tuple(eqx.nn.BatchNorm(2, name, mode="batch") for name in "ab")

    def __call__(self, x, state):
        return x, state


WRONG = {
    "no module": (lambda: networks.from_equinox({"a": 1}), TypeError, "expected an equinox module that can be called"),
    "no state": (lambda: networks.from_equinox(stateless(), {}), TypeError, "equinox.nn.make_with_state returned"),
    "state left behind": (
        lambda: networks.from_equinox(eqx.nn.make_with_state(stateless)()[0]), ValueError, "its state is not here"),
    "two axes": (lambda: networks.from_equinox(TwoAxes()), ValueError, r"of the names \['a', 'b'\]; expected one"),
    "nnx": (lambda: networks.from_nnx(LINEN), TypeError, "module is a Dense; expected a flax.nnx.Module"),
    "linen": (lambda: networks.from_linen(NNXCritic(nnx.Rngs(0)), {}), TypeError, "expected a flax.linen.Module"),
    "no parameters": (lambda: networks.from_linen(LINEN, {"w": 1}), ValueError, r"collections \['w'\]; .*'params'"),
    "haiku": (lambda: networks.from_haiku(jnp.sin, {}), TypeError, "expected what haiku.transform_with_state"),
    "haiku without state": (
        lambda: networks.from_haiku(hk.transform_with_state(lambda x: x), {}), ValueError, "state is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.slow_cases("nnx")
def test_wrong_arguments_are_refused(name):
    make, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        make()


def test_a_module_that_holds_its_first_state_needs_no_other():
    network, parameters = networks.from_equinox(stateless())
    expected = jax.tree.leaves(eqx.nn.make_with_state(stateless)()[1])
    for a, b in zip(jax.tree.leaves(network.variables), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(jax.tree.leaves(parameters)) == 2


@pytest.mark.slow
def test_layers_without_memory_and_functions_without_state():
    module = eqx.nn.MLP(2, "scalar", 3, 1, key=KEY)
    transformed = hk.transform(lambda x: hk.nets.MLP([3, 1])(x))
    weights = transformed.init(KEY, DATA)
    for discriminator, own in (networks.from_equinox(module), networks.from_haiku(transformed, weights)):
        game = dy.GAN(lambda t, z: t + z, discriminator, DATA, jnp.ones((2, 2)))
        assert variables_of(game) == ()
        run = dy.simulate(game, Simultaneous(*SGD), (jnp.zeros(2), own), steps=2, classify=False)
        assert not hasattr(run.state.memory, "variables")
    function, own = dy.split_module(module)
    pointwise = dy.GAN(lambda t, z: t + z, function, DATA, jnp.ones((2, 2)))
    whole = dy.GAN(lambda t, z: t + z, networks.from_equinox(module)[0], DATA, jnp.ones((2, 2)))
    players = jnp.zeros(2), own
    np.testing.assert_allclose(pointwise.losses(players), whole.losses(players), rtol=1e-12)


class Wrong(networks.Network):
    """A network that returns what it is given."""

    variables: dict
    outputs: jax.Array
    new: dict

    def apply(self, parameters, variables, batch, key):
        return self.outputs, self.new

    def evaluate(self, parameters, variables, point):
        return point


def test_what_a_network_returns_is_checked():
    def losses(outputs, new):
        wrong = Wrong({"a": jnp.ones(2)}, outputs, new)
        return dy.GAN(lambda t, z: t + z, wrong, DATA, jnp.ones((6, 2))).losses((jnp.zeros(2), jnp.zeros(())))

    same = {"a": jnp.ones(2)}
    assert losses(jnp.ones((6, 1)), same)[0].shape == ()
    with pytest.raises(ValueError, match=r"one score per point, of shape \(6,\) or \(6, 1\)"):
        losses(jnp.ones((6, 2)), same)
    with pytest.raises(ValueError, match="had variables of structure and shapes .*; expected the same"):
        losses(jnp.ones(6), {"a": jnp.ones(3)})
