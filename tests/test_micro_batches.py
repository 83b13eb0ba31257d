"""A batch in pieces: the same game, map and Jacobian as the whole batch, in the memory of a piece."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.analysis import FieldOperator, StateOperator, SymmetricPart
from dynamics.distributions import Points, normal
from dynamics.micro_batches import GameInPieces, GANInPieces, in_pieces, mean_over_pieces

UPDATE = dy.updates.Alternating(optax.adam(2e-3, 0.5, eps=1e-4), optax.sgd(1e-3, 0.9))


def small_gan(points=12, objective=None, penalty=None, width=3):
    keys = jax.random.split(jax.random.key(0), 4)
    generator, start = dy.split_module(eqx.nn.MLP(2, 2, width, 1, jnp.tanh, key=keys[0]))
    discriminator, other = dy.split_module(eqx.nn.MLP(2, "scalar", width + 1, 1, jnp.tanh, key=keys[1]))
    data, latent = jax.random.normal(keys[2], (points, 2)) + 1, jax.random.normal(keys[3], (points, 2))
    return dy.GAN(generator, discriminator, data, latent, objective, penalty), (start, other)


def moved(game, players):
    """A state whose memory is that of training, not zero."""
    return dy.simulate(game, UPDATE, players, steps=3, save_every="last", classify=False).state


@pytest.mark.slow
def test_map_field_and_blocks_are_those_of_the_whole_batch():
    game, players = small_gan(penalty=dy.penalties.R1(0.3))
    pieces, state = GANInPieces(game, 4), moved(game, players)
    np.testing.assert_allclose(
        StateOperator(pieces, UPDATE, state).as_matrix(), StateOperator(game, UPDATE, state).as_matrix(), atol=1e-12
    )
    for player in (None, 0, 1):
        whole, parts = (FieldOperator(each, players, player=player) for each in (game, pieces))
        np.testing.assert_allclose(parts.as_matrix(), whole.as_matrix(), atol=1e-12)
    vector = jnp.sin(jnp.arange(whole.size))
    for sign in (1, -1):  # with the transpose of the program
        np.testing.assert_allclose(SymmetricPart(parts, sign) @ vector, SymmetricPart(whole, sign) @ vector, atol=1e-12)
    np.testing.assert_allclose(pieces.losses(players), game.losses(players), rtol=1e-12)


def test_what_losses_hold_fixed_is_free_in_pieces_too():
    """A target that a loss holds fixed, against finite differences of the field."""

    def losses(players, piece, key):
        x, y = players
        target = jax.lax.stop_gradient(jnp.tanh(y) * piece)
        return jnp.mean((x - target) ** 2), jnp.mean(piece) * y**2 / 2

    batch = jnp.asarray([0.5, 1.0, 2.0, 3.0])
    game, players = GameInPieces(losses, in_pieces(batch, 2)), (jnp.asarray(0.3), jnp.asarray(0.2))

    def field(point):
        return np.array(game.field(tuple(point)))

    steps = 1e-6 * np.eye(2)
    point = np.array([0.3, 0.2])
    expected = np.stack([(field(point + d) - field(point - d)) / 2e-6 for d in steps], axis=1)
    assert abs(expected[0, 1]) > 1
    np.testing.assert_allclose(FieldOperator(game, players).as_matrix(), expected, atol=1e-8)


@pytest.mark.slow_cases("False")
@pytest.mark.parametrize("fixed", [False, True])
def test_memory_of_a_product_is_that_of_a_piece(fixed):
    """Of gradient, of the step, and of a product with its Jacobian: 32 pieces take little more than one."""
    keys = jax.random.split(jax.random.key(1), 2)
    weights = tuple(jax.random.normal(key, (64, 64)) / 8 for key in keys)

    def losses(players, batch, key=None):
        x, y = players
        hidden = jnp.tanh(jnp.tanh(batch @ x) @ y)
        hidden = jax.lax.stop_gradient(hidden[:, :1]) * hidden if fixed else hidden
        return jnp.mean(hidden**2), jnp.mean(hidden) - jnp.mean(jnp.tanh(batch @ y))

    batch = jax.random.normal(keys[0], (32 * 128, 64))
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
    games = {
        "whole": dy.Game.from_losses(lambda players, key=None: losses(players, batch)),
        "pieces": GameInPieces(losses, in_pieces(batch, 32)),
        "piece": dy.Game.from_losses(lambda players, key=None: losses(players, batch[:128])),
    }
    used = {}
    for name, game in games.items():
        operator = StateOperator(game, update, update.init(game, weights))

        def many(vector, operator=operator):  # linearised once, for many products
            product = operator.product()
            return jax.lax.fori_loop(0, 3, lambda i, v: product(v), vector)

        compiled = jax.jit(many).lower(jnp.ones(operator.size)).compile()
        used[name] = compiled.memory_analysis().temp_size_in_bytes
    assert used["whole"] > 10 * used["piece"]
    assert used["pieces"] < 2 * used["piece"]


def test_a_training_step_of_ones_own_takes_the_mean_over_pieces():
    """`from_step`: the step says what its loss is; written with pieces its Jacobian is that of the whole batch."""
    game, players = small_gan()
    data, latent = game.data.points, game.latent.points
    optimiser = optax.adam(1e-2, eps=1e-3)

    def loss(psi, theta, real, noise):
        fake = jax.vmap(lambda z: game.generator(theta, z))(noise)
        scores = [jax.vmap(lambda x: game.discriminator(psi, x))(points) for points in (real, fake)]
        return jnp.mean(jax.nn.softplus(-scores[0])) + jnp.mean(jax.nn.softplus(scores[1]))

    def train_step(state, batch, key):
        theta, psi, memory = state

        def whole(psi):
            return mean_over_pieces(lambda piece: loss(psi, theta, *piece), batch)

        move, memory = optimiser.update(jax.grad(whole)(psi), memory, psi)
        return theta, optax.apply_updates(psi, move), memory

    state = (*players, optimiser.init(players[1]))
    reports = [
        dy.from_step(train_step, state, players=lambda s: (s[0], s[1]), batch=in_pieces((data, latent), count))
        for count in (1, 3)
    ]
    first, second = (StateOperator(*loop).as_matrix() for loop in reports)
    np.testing.assert_allclose(second, first, atol=1e-10)


def test_with_a_key_every_piece_is_a_batch():
    game, players = small_gan()
    game = eqx.tree_at(
        lambda gan: (gan.data, gan.latent), game, (Points(game.data.points, 5), Points(game.latent.points, 5))
    )
    key = jax.random.key(4)
    batches = [game.losses(players, jax.random.fold_in(key, i)) for i in range(3)]
    np.testing.assert_allclose(GANInPieces(game, 3).losses(players, key), np.mean(batches, axis=0), rtol=1e-12)


def test_what_mixes_the_points_of_a_batch_is_refused():
    objectives, penalties = dy.objectives, dy.penalties
    for objective in (objectives.NonSaturating(), objectives.Wasserstein(), objectives.LeastSquares()):
        game, players = small_gan(objective=objective, penalty=penalties.Sum(penalties.R1(0.1), penalties.R2(0.2)))
        np.testing.assert_allclose(GANInPieces(game, 3).losses(players), game.losses(players), rtol=1e-12)
    with pytest.raises(ValueError, match="compares the points of a whole batch"):
        GANInPieces(small_gan(objective=objectives.RelativisticAverage())[0], 3)
    with pytest.raises(ValueError, match="do not make 5 pieces"):
        GANInPieces(small_gan()[0], 5)
    with pytest.raises(ValueError, match="without weights"):
        GANInPieces(dy.GAN(lambda t, z: t + z, lambda w, x: w * x, normal(0.0, 1.0), jnp.ones(4)), 2)
    with pytest.raises(TypeError, match="GANInPieces.gan"):
        GANInPieces(dy.games.DiracGAN(), 2)
    with pytest.raises(ValueError, match="one common axis of pieces"):
        GameInPieces(lambda players, piece, key: (0.0,), (jnp.ones(3), jnp.ones(2)))
    with pytest.raises(TypeError, match="losses"):
        GameInPieces(lambda players: (0.0,), jnp.ones((2, 2)))


def test_a_sweep_builds_it():
    """Where its numbers are those of a sweep, what it checks needs none of them."""
    points = jnp.asarray([1.0, 2.0, 3.0, 4.0])

    def build(rate):
        gan = dy.GAN(lambda t, z: t + z, lambda w, x: w * x, points * rate, points, penalty=dy.penalties.R1(rate))
        return GANInPieces(gan, 2).losses((jnp.asarray(0.5), jnp.asarray(0.2)))

    rates = jnp.asarray([0.1, 0.2])
    expected = [build(rate) for rate in rates]
    np.testing.assert_allclose(np.stack(jax.vmap(build)(rates), axis=1), np.array(expected), rtol=1e-12)
