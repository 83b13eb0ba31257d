"""Sweeps of neural GANs: one variable per player, and seeds as an axis."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.ensembles import players_of

STEPS = 12


def build(rate, seed):
    keys = jax.random.split(seed, 3)
    generator, theta = dy.split_module(eqx.nn.MLP(2, 2, 16, 1, key=keys[0]))
    discriminator, psi = dy.split_module(eqx.nn.MLP(2, "scalar", 8, 1, key=keys[1]))
    game = dy.GAN(generator, discriminator, jax.random.normal(keys[2], (64, 2)), dy.distributions.normal(jnp.zeros(2)))
    adam = optax.adam(rate, b1=0.5)
    return game, dy.updates.Alternating(adam, adam), (theta, psi)


@pytest.mark.slow
def test_a_player_of_many_arrays_is_one_variable_with_one_dimension():
    """Every cell is the run of its own seed, batches included."""
    key, rates = jax.random.key(7), np.array([1e-3, 1e-2])
    chart = dy.sweep(build, {"rate": rates, "seed": dy.ensembles.seeds(3)}, steps=STEPS, predict=False, key=key)
    assert chart.player_0.dims == ("rate", "seed", "player_0_parameter")
    assert set(chart.sizes) == {"rate", "seed", "player_0_parameter", "player_1_parameter"}
    assert chart.player_1.attrs["arrays"].startswith("layers[0].weight (8, 2); layers[0].bias (8,)")
    game, update, start = build(rates[1], jax.random.key(2))
    cell_key = jax.random.fold_in(key, 5)
    state, step = update.init(game, start), jax.jit(update.step)
    for number in range(STEPS):
        state = step(game, state, jax.random.fold_in(cell_key, number))
    players = players_of(chart, start, rate=1, seed=2)
    assert jax.tree.structure(players) == jax.tree.structure(start)
    for value, wanted in zip(jax.tree.leaves(players), jax.tree.leaves(state.players), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="along rate as well"):
        players_of(chart, start, seed=2)
    with pytest.raises(ValueError, match="like those of the sweep"):
        players_of(chart, ({"a": jnp.zeros(3)}, jnp.zeros(2)), rate=0, seed=0)


@pytest.mark.slow
def test_games_of_large_arrays_are_batched_by_vmap():
    """Beside each other the numbers of one game fill the registers by themselves."""

    def of_points(count):
        def build(rate):
            points = jnp.tile(jnp.array([-1.0, 2.0]), count // 2)
            game = dy.GAN(lambda t, z: t + z, lambda w, x: w * x, points, dy.distributions.PointMass(0.0))
            return game, dy.updates.Alternating(dy.optimisers.sgd(rate), dy.optimisers.sgd(rate)), (1.0, 1.0)

        return dy.sweep(build, {"rate": [0.1, 0.2]}, steps=8, predict=False)

    few, many = of_points(8), of_points(2048)
    assert '"compiler": "on"' in few.attrs["settings"] and '"compiler": "off"' in many.attrs["settings"]
    np.testing.assert_allclose(few.player_0, many.player_0, rtol=1e-5)
