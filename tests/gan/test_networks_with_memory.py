"""Layers that keep values from call to call are refused: as players these values would be trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.game import as_players

KEYS = jax.random.split(jax.random.key(0), 4)


def linear(index=0):
    return eqx.nn.Linear(2, 2, key=KEYS[index])


class Counter(eqx.Module):
    """A layer of one's own with memory."""

    calls: eqx.nn.StateIndex
    weight: jax.Array

    def __init__(self):
        self.calls = eqx.nn.StateIndex({"total": jnp.zeros(())})
        self.weight = jnp.ones(2)

    def __call__(self, x, state):
        return self.weight * x, state


class Critic(eqx.Module):
    """Memory deep inside dictionaries and lists."""

    blocks: dict

    def __call__(self, x):
        return x


WITH_MEMORY = {
    "batch norm": (lambda: eqx.nn.Sequential([linear(), eqx.nn.BatchNorm(2, "batch", mode="ema")]), "module.layers[1]",
                   "BatchNorm"),
    "batch norm, batch mode": (lambda: eqx.nn.BatchNorm(2, "batch", mode="batch"), "module", "BatchNorm"),
    "spectral norm": (lambda: eqx.nn.Sequential([eqx.nn.SpectralNorm(linear(), "weight", key=KEYS[2])]),
                      "module.layers[0]", "SpectralNorm"),
    "one's own": (lambda: Critic({"first": [linear(), Counter()]}), "module.blocks['first'][1]", "Counter"),
    "a state": (lambda: Critic({"s": eqx.nn.make_with_state(Counter)()[1]}), "module.blocks['s']", "State"),
    "batch statistics": (lambda: Critic({"params": jnp.ones(2), "batch_stats": {"mean": jnp.zeros(2)}}),
                         "module.blocks['batch_stats']", "dict"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_memory_is_refused_with_its_place(name):
    make, where, kind = WITH_MEMORY[name]
    with pytest.raises(TypeError) as caught:
        dy.split_module(make())
    text = str(caught.value)
    assert text.startswith(f"{where}, a {kind}, keeps values from one call to the next")
    assert "would be trained" in text and "LayerNorm" in text
    parameters = eqx.filter(make(), eqx.is_inexact_array)
    with pytest.raises(TypeError, match="keeps values from one call to the next"):
        as_players((1.0, parameters))


@pytest.mark.slow
def test_layers_without_memory_pass():
    network = eqx.nn.Sequential(
        [linear(), eqx.nn.LayerNorm(2), eqx.nn.GroupNorm(1, 2), eqx.nn.WeightNorm(linear(1)), eqx.nn.Dropout(0.5),
         eqx.nn.Lambda(jax.nn.tanh)]
    )  # fmt: skip
    function, parameters = dy.split_module(network)
    x = jnp.asarray([1.0, -2.0])
    np.testing.assert_array_equal(function(parameters, x, key=KEYS[3]), network(x, key=KEYS[3]))
    game = dy.Game.from_losses(lambda p, key=None: (jnp.sum(function(p[0], x, key=KEYS[3]) * p[1]), jnp.sum(p[1] ** 2)))
    run = dy.simulate(game, dy.updates.Simultaneous.example(), (parameters, jnp.ones(2)), steps=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.final))


def test_values_that_are_held_fixed_in_the_loss_are_the_users_affair():
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", mode="ema")
    model = eqx.nn.inference_mode(model)
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)

    def losses(players, key=None):
        out, _ = eqx.combine(players[0], rest)(jnp.ones(2), state)
        return jnp.sum(out**2), jnp.sum(players[1] ** 2)

    players = as_players((parameters, 1.0))
    field = dy.Game.from_losses(losses).field(players)
    assert len(jax.tree.leaves(field[0])) == 2  # weight and bias, and no running mean


def test_no_module():
    with pytest.raises(TypeError, match=r"module is \{.*expected a function"):
        dy.split_module({"a": jnp.ones(2)})
