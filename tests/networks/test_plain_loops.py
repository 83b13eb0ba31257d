"""A GAN with BatchNorm, spectral normalisation and Dropout, against the loop that its library's users write."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from libraries import DATA, LATENT, LIBRARIES, pair_of

import dynamics as dy
from dynamics.gan import Keys

KEY = jax.random.key(7)
STEPS = 3
ORDERS = {"together": None, "discriminator first": (1, 0)}


def optimisers():
    """A bias before BatchNorm has no gradient but rounding: a large eps keeps Adam from making steps of that."""
    return optax.adam(1e-2, b1=0.5, eps=1e-3), optax.adam(2e-2, b1=0.5, eps=1e-3)


def method(order):
    if order is None:
        return dy.updates.Simultaneous(*optimisers())
    return dy.updates.Alternating(*optimisers(), order=order)


def plain_loop(pair, order, steps=STEPS):
    """Losses with mutable variables, optax updates."""
    players, variables = pair.players, tuple(network.variables for network, _ in pair.networks)

    def loss(own, player, players, variables, key):
        keys = Keys.of(key)
        generator, critic = (own if index == player else old for index, old in enumerate(players))
        real = dy.distributions.Points(DATA, 4).sample(keys.data).values
        fake, first = pair.forward(0, generator, variables[0], LATENT.sample(keys.latent).values, keys.generator)
        of_real, second = pair.forward(1, critic, variables[1], real, keys.on_real)
        of_fake, second = pair.forward(1, critic, second, fake, keys.on_fake)
        if player == 0:
            return jnp.mean(jax.nn.softplus(-of_fake)), (first, second)
        return jnp.mean(jax.nn.softplus(-of_real)) + jnp.mean(jax.nn.softplus(of_fake)), (first, second)

    def one(player, players, variables, memory, key):
        gradient, new = jax.grad(loss, has_aux=True)(players[player], player, players, variables, key)
        change, memory = optimisers()[player].update(gradient, memory, players[player])
        return optax.apply_updates(players[player], change), memory, new

    @jax.jit
    def step(players, variables, memory, key):
        if order is None:
            moved = [one(player, players, variables, memory[player], key) for player in (0, 1)]
            return tuple(m[0] for m in moved), moved[0][2], tuple(m[1] for m in moved)
        players, memory = list(players), list(memory)
        for index, player in enumerate(order):
            players[player], memory[player], variables = one(
                player, tuple(players), variables, memory[player], jax.random.fold_in(key, index)
            )
        return tuple(players), variables, tuple(memory)

    memory = tuple(optimiser.init(player) for optimiser, player in zip(optimisers(), players))
    for count in range(steps):
        players, variables, memory = step(players, variables, memory, jax.random.fold_in(KEY, count))
    return players, variables


def assert_close(tree, other, tolerance):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.slow_cases("haiku-discriminator first", "flax nnx-discriminator first", "equinox-together")
@pytest.mark.slow_cases(
    "equinox-discriminator first",
    "flax nnx-together",
    "flax linen-together",
    "haiku-together",
    "flax linen-discriminator first",
)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_steps_are_those_of_a_plain_loop(name, order):
    pair = pair_of(name)
    update = dy.updates.WithVariables(method(ORDERS[order]))
    state, step = update.init(pair.game, pair.players), jax.jit(update.step)
    for count in range(STEPS):
        state = step(pair.game, state, jax.random.fold_in(KEY, count))
    players, variables = plain_loop(pair, ORDERS[order])
    assert_close(state.players, players, 1e-12)
    assert_close(state.memory.variables, variables, 1e-12)
    both = zip(*map(jax.tree.leaves, (variables, pair.game.variables)))
    assert all(np.abs(a - b).max() > 0 for a, b in both if a.size > 1)  # every mean and every vector
