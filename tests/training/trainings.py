"""A small GAN on a ring, to be trained in tests; also in processes of their own."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import dynamics as dy


def small(dtype=None, rate=0.05):
    """Game, update, players and batches: networks of unequal sizes, unequal rates, an odd batch."""
    keys = jax.random.split(jax.random.key(7), 4)
    generator, start = dy.split_module(eqx.nn.MLP(3, 2, 5, 1, jnp.tanh, key=keys[0]))
    discriminator, other = dy.split_module(eqx.nn.MLP(2, "scalar", 4, 1, jnp.tanh, key=keys[1]))
    data = dy.data.ring(keys[2], 40, modes=5)
    latent = dy.distributions.normal(jnp.zeros(3), 1.0, batch_size=9)
    game = dy.GAN(generator, discriminator, data.points(4), latent, penalty=dy.penalties.R1(0.2))
    update = dy.updates.Alternating(dy.Optimiser(optax.adam, rate, b1=0.5), dy.Optimiser(optax.sgd, 2 * rate))
    players = start, other
    if dtype is not None:
        players = jax.tree.map(lambda leaf: leaf.astype(dtype), players)
    return game, update, players, dy.data.Batches(data, 7, keys[3])


def spread(game, players, key):
    """A metric of two numbers that depends on generator, discriminator and key."""
    samples = dy.training.generate(game, players, key, 6)
    return {"std": samples.std(), "score": jax.vmap(lambda x: game.discriminator(players[1], x))(samples).mean()}


ARGUMENTS = {"key": jax.random.key(3), "average": 0.9, "metrics": {"spread": spread}}


def main(directory, steps, every, wait):
    """Train; with `wait` a line is written at every evaluation."""
    jax.config.update("jax_enable_x64", True)
    game, update, players, data = small()
    log = dy.training.CSVLog(f"{directory}/log.csv")

    def tell(step, state, values):
        print(step, flush=True)

    dy.train(
        game,
        update,
        players,
        steps=steps,
        every=every,
        data=data,
        directory=directory,
        callbacks=[log] + [tell] * wait,
        **ARGUMENTS,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
