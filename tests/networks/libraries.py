"""BatchNorm, spectral normalisation and Dropout in one GAN, for every library; and as the library's users write it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

import dynamics as dy
from dynamics import _trees

DATA = jax.random.normal(jax.random.key(1), (6, 2)) * jnp.asarray([1.0, 0.3]) + 1
LATENT = dy.distributions.normal([0.0, 0.0, 0.0], batch_size=5)


@dataclasses.dataclass
class Pair:
    """The same GAN twice: as the library has it, and `forward` as its users write it.

    Attributes:
        networks: generator and discriminator, each a network and its parameters.
        forward: function of player, parameters, variables, batch and key that returns outputs and variables.
    """

    networks: tuple[tuple[Any, Any], tuple[Any, Any]]
    forward: Callable[..., Any]

    @property
    def players(self):
        return tuple(parameters for _, parameters in self.networks)

    @property
    def game(self):
        (generator, _), (discriminator, _) = self.networks
        return dy.GAN(generator, discriminator, dy.distributions.Points(DATA, 4), LATENT)


class EquinoxGenerator(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(3, 3, key=keys[0]), eqx.nn.Linear(3, 2, key=keys[1])
        self.norm = eqx.nn.BatchNorm(3, "points", mode="batch")

    def __call__(self, x, state):
        x, state = self.norm(self.first(x), state)
        return self.last(jnp.tanh(x)), state


class EquinoxCritic(eqx.Module):
    first: eqx.nn.SpectralNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.SpectralNorm

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.SpectralNorm(eqx.nn.Linear(2, 4, key=keys[0]), "weight", key=keys[1])
        self.dropout = eqx.nn.Dropout(0.5)
        self.last = eqx.nn.SpectralNorm(eqx.nn.Linear(4, 1, key=keys[2]), "weight", key=keys[3])

    def __call__(self, x, state, *, key=None):
        x, state = self.first(x, state)
        x, state = self.last(self.dropout(jnp.tanh(x), key=key), state)
        return x[0], state


def equinox():
    keys = jax.random.split(jax.random.key(3))
    made = [eqx.nn.make_with_state(kind)(key) for kind, key in zip((EquinoxGenerator, EquinoxCritic), keys)]
    rest = [eqx.partition(module, eqx.is_inexact_array)[1] for module, _ in made]

    def forward(player, parameters, state, batch, key):
        module = eqx.combine(parameters, rest[player])
        if player == 0:
            return jax.vmap(module, in_axes=(0, None), out_axes=(0, None), axis_name="points")(batch, state)
        keys = jax.random.split(key, len(batch))
        return jax.vmap(lambda x, s, k: module(x, s, key=k), in_axes=(0, None, 0), out_axes=(0, None))(
            batch, state, keys
        )

    return Pair(tuple(dy.networks.from_equinox(*one) for one in made), forward)


class NNXGenerator(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.norm(self.first(x))))


class NNXCritic(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.SpectralNorm(nnx.Linear(2, 4, rngs=rngs), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.SpectralNorm(nnx.Linear(4, 1, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.first(x, update_stats=True))), update_stats=True)


def flax_nnx():
    made = NNXGenerator(nnx.Rngs(3)), NNXCritic(nnx.Rngs(4))

    def forward(player, parameters, state, batch, key):
        module = nnx.clone(made[player])
        nnx.update(module, parameters, state)
        if player == 1:
            nnx.reseed(module, default=key)
        outputs = module(batch)
        return outputs[:, 0] if player else outputs, nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))

    return Pair(tuple(dy.networks.from_nnx(one) for one in made), forward)


class LinenGenerator(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(3)(x))
        return nn.Dense(2)(jnp.tanh(x))


class LinenCritic(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = jnp.tanh(nn.SpectralNorm(nn.Dense(4))(x, update_stats=train))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.SpectralNorm(nn.Dense(1))(x, update_stats=train)[:, 0]


def flax_linen():
    made = LinenGenerator(), LinenCritic()
    starts = [module.init(jax.random.key(5), jnp.ones((1, size)), train=False) for module, size in zip(made, (3, 2))]

    def forward(player, parameters, state, batch, key):
        return made[player].apply(
            {"params": parameters, **state}, batch, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    return Pair(tuple(dy.networks.from_linen(*one) for one in zip(made, starts)), forward)


def haiku_generator(x, is_training):
    x = hk.BatchNorm(True, True, 0.9)(hk.Linear(3)(x), is_training)
    return hk.Linear(2)(jnp.tanh(x))


class Spectral(hk.Module):
    """A linear layer of normalised weights."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def __call__(self, x, is_training):
        weight = hk.get_parameter("w", (x.shape[1], self.size), init=hk.initializers.RandomNormal())
        return x @ hk.SpectralNorm(n_steps=1)(weight, update_stats=is_training)


def haiku_critic(x, is_training):
    x = jnp.tanh(Spectral(4)(x, is_training))
    if is_training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return Spectral(1)(x, is_training)


def haiku():
    made = [hk.transform_with_state(function) for function in (haiku_generator, haiku_critic)]
    starts = [one.init(jax.random.key(5), jnp.ones((1, size)), is_training=True) for one, size in zip(made, (3, 2))]

    def forward(player, parameters, state, batch, key):
        outputs, state = made[player].apply(parameters, state, key, batch, is_training=True)
        return outputs[:, 0] if player else outputs, state

    modes = dict(training={"is_training": True}, inference={"is_training": False})
    return Pair(tuple(dy.networks.from_haiku(one, *start, **modes) for one, start in zip(made, starts)), forward)


LIBRARIES = {"equinox": equinox, "flax nnx": flax_nnx, "flax linen": flax_linen, "haiku": haiku}


@functools.cache
def pair_of(name: str) -> Pair:
    """In double precision, which no library starts with throughout."""
    pair = LIBRARIES[name]()
    return dataclasses.replace(pair, networks=_trees.cast(pair.networks, jnp.float64))
