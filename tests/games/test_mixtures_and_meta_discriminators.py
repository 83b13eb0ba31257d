"""MIX+GAN, VRAL and VEEGAN against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.distributions import normal
from dynamics.games import VEEGAN, VRAL, Bilinear, DiracGAN, MixtureGame, Quadratic
from dynamics.objectives import Minimax


def softplus(x):
    return np.logaddexp(0, x)


def descent(losses, flat, step=1e-6):
    """Minus the derivative of each player's loss with respect to its own numbers, by central differences."""

    def one(player, index):
        ahead, back = (list(map(np.array, flat)) for _ in range(2))
        ahead[player].flat[index] += step
        back[player].flat[index] -= step
        return (losses(back)[player] - losses(ahead)[player]) / (2 * step)

    return [np.array([one(k, i) for i in range(np.size(part))]) for k, part in enumerate(flat)]


# ---------------------------------------------------------------- mixtures

U, V = np.array([1.0, -0.3]), np.array([0.5, 0.2, -0.4])


def mixture(flat, c=0.2):
    """Losses of a mixture of two and of three minimax Dirac-GANs; each player is its logits and its copies."""
    (a, u), (b, v) = (np.split(np.asarray(part, float), 2) for part in flat)
    weights = [np.exp(logits) / np.exp(logits).sum() for logits in (a, b)]
    scores = -np.outer(u, v)  # of the fakes; those of the data are 0
    first = weights[0] @ -softplus(scores) @ weights[1]
    second = weights[0] @ (np.log(2) + softplus(scores)) @ weights[1]
    return [value - c * np.log(w).mean() for value, w in zip((first, second), weights, strict=True)]


@pytest.mark.slow
def test_a_mixture_of_gans():
    game = MixtureGame(DiracGAN(Minimax()), (2, 3), 0.2)
    logits = np.array([0.3, -0.5]), np.array([0.1, 0.7, -0.2])
    players = tuple((jnp.asarray(w), jnp.asarray(x)) for w, x in zip(logits, (U, V), strict=True))
    flat = [np.concatenate(pair) for pair in zip(logits, (U, V), strict=True)]
    np.testing.assert_allclose(game.losses(players), mixture(flat), 1e-13)
    field = [np.concatenate(part) for part in game.field(players)]
    for computed, expected in zip(field, descent(mixture, flat), strict=True):
        np.testing.assert_allclose(computed, expected, 1e-8, 1e-9)


def test_a_mixture_rests_where_its_game_rests():
    game = MixtureGame(DiracGAN(), (2, 3))
    [point] = game.equilibria()
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(point))
    for leaf in jax.tree.leaves(game.field(point)):
        np.testing.assert_allclose(leaf, 0, atol=1e-16)


def test_one_copy_is_the_game_itself():
    base = Quadratic(
        [[np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0], [-2.0]])], [np.array([[-1.0, 2.0]]), [[0.5]]]]
    )
    players = jnp.asarray([0.4, -1.0]), jnp.asarray([0.7])
    alone = MixtureGame(base, (1, 1)).mixed([players[0]], [players[1]])
    np.testing.assert_allclose(MixtureGame(base, (1, 1)).losses(alone), base.losses(players), 1e-13)
    computed = MixtureGame(base, (1, 1)).field(alone)
    for (weights, copies), part in zip(computed, base.field(players), strict=True):
        np.testing.assert_allclose(copies[0], part, 1e-13)
        np.testing.assert_allclose(weights, 0, atol=1e-16)


@pytest.mark.slow
def test_copies_of_trees_are_stacked():
    gan, start = dy.GAN.example()
    game = MixtureGame(gan, (2, 1), regulariser=0.0)
    players = game.mixed([start[0], jax.tree.map(lambda x: 0.5 * x, start[0])], [start[1]])
    other = gan.losses((jax.tree.map(lambda x: 0.5 * x, start[0]), start[1]))
    expected = (np.array(gan.losses(start)) + np.array(other)) / 2
    np.testing.assert_allclose(game.losses(players), expected, 1e-12)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MixtureGame(Bilinear(1.0), (2, 0)), "MixtureGame.counts is .2, 0.; expected two whole numbers >= 1"),
        (lambda: MixtureGame(Bilinear(1.0), regulariser=-1), "MixtureGame.regulariser is -1; expected"),
        (lambda: MixtureGame(Bilinear(1.0), (1, 2)).mixed([0.5], [0.5]), "mixed got .1, 1. copies of the players"),
    ],
)
def test_messages_of_mixtures(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# ---------------------------------------------------------------- VRAL

DATA, LATENT = np.array([-1.0, 0.2, 1.5]), np.array([-0.7, 0.9])


def meta(weights, output):
    return weights[0] + weights[1] * output + weights[2] * output**2


def vral(flat):
    t, w, f, r = flat
    outputs = [w[0] + w[1] * points for points in (DATA, LATENT + t)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    weights = weights / weights.sum()
    of_f = weights @ softplus(-meta(f, -0.5 + nodes)) + softplus(meta(f, outputs[1])).mean()
    of_r = weights @ softplus(-meta(r, 0.8 + nodes)) + softplus(meta(r, outputs[0])).mean()
    of_d = softplus(-meta(f, outputs[1])).mean() + softplus(-meta(r, outputs[0])).mean()
    return [np.mean((outputs[1] - 0.8) ** 2) / 2, of_d, of_f, of_r]


@pytest.mark.slow
def test_vral():
    game = VRAL(lambda t, z: z + t, lambda w, x: w[0] + w[1] * x, DATA, LATENT, meta, 0.8, -0.5, nodes=30)
    flat = [np.array(0.3), np.array([0.1, 0.5]), np.array([0.2, -0.3, 0.1]), np.array([-0.1, 0.4, -0.2])]
    players = tuple(map(jnp.asarray, flat))
    np.testing.assert_allclose(game.losses(players), vral(flat), 1e-12)
    for computed, expected in zip(game.field(players), descent(vral, flat), strict=True):
        np.testing.assert_allclose(np.ravel(computed), expected, 1e-7, 1e-9)
    drawn = [game.losses(players, jax.random.key(seed))[2] for seed in range(3)]
    assert len(set(map(float, drawn))) == 3 and np.all(np.abs(np.array(drawn) - vral(flat)[2]) < 0.5)


def test_messages_of_vral():
    game, players = VRAL.example()
    with pytest.raises(ValueError, match="VRAL has four players, generator, discriminator, F and R; got 2"):
        game.losses(players[:2])
    with pytest.raises(ValueError, match="VRAL.mean_fake is nan"):
        VRAL(lambda t, z: z, lambda w, x: x, DATA, LATENT, meta, mean_fake=np.nan)


# ---------------------------------------------------------------- VEEGAN

LATENTS = np.array([[-0.7, 0.4], [0.9, 0.1]])


def veegan(flat, weight=0.7):
    """Latents in the plane, samples on the line: the players have 3, 4 and 2 numbers."""
    t, w, f = flat
    samples = t[0] + LATENTS @ t[1:]

    def score(latents, points):
        return latents @ w[:2] + w[2] * points + w[3] * points**2

    lost = weight * np.mean(np.sum((LATENTS - np.outer(samples, f)) ** 2, axis=1))
    on_fake, on_real = score(LATENTS, samples), score(np.outer(DATA, f), DATA)
    return [lost - on_fake.mean(), softplus(-on_real).mean() + softplus(on_fake).mean(), lost]


@pytest.mark.slow
def test_veegan():
    def discriminator(w, pair):
        latent, point = pair
        return latent @ w[:2] + w[2] * point + w[3] * point**2

    game = VEEGAN(
        lambda t, z: t[0] + z @ t[1:], discriminator, lambda f, x: x * f, DATA, LATENTS, 0.7, equilibria=[PARAMETERS]
    )
    players = tuple(map(jnp.asarray, PARAMETERS))
    np.testing.assert_allclose(game.losses(players), veegan(PARAMETERS), 1e-12)
    for computed, expected in zip(game.field(players), descent(veegan, PARAMETERS), strict=True):
        np.testing.assert_allclose(np.ravel(computed), expected, 1e-7, 1e-9)
    assert len(game.equilibria()[0]) == 3
    single = game.losses(tuple(part.astype(jnp.float32) for part in players))
    assert all(loss.dtype == jnp.float32 for loss in single)
    np.testing.assert_allclose(single, veegan(PARAMETERS), 1e-5)


PARAMETERS = [np.array([0.3, 0.8, -0.5]), np.array([0.1, 0.5, -0.4, 0.2]), np.array([0.9, -0.3])]


@pytest.mark.slow
def test_a_perfect_reconstructor_is_at_rest():
    """Data and model agree, F is the inverse of G, and the score is constant: nobody moves."""
    latent = normal(0.0, 1.0, 8)
    game = VEEGAN(lambda t, z: t[0] + t[1] * z, lambda w, pair: w[0] + w @ jnp.stack([*pair, pair[0] * pair[1]]),
        lambda f, x: f[0] + f[1] * x, normal(1.0, 2.0, 8), latent)  # fmt: skip
    players = jnp.asarray([1.0, 2.0]), jnp.zeros(3), jnp.asarray([-0.5, 0.5])
    for part in game.field(players):
        np.testing.assert_allclose(part, 0, atol=1e-12)
    np.testing.assert_allclose(game.losses(players), [0, 2 * np.log(2), 0], atol=1e-12)
    drawn = [game.losses((*players[:2], players[2] + 0.3), jax.random.key(seed))[2] for seed in range(3)]
    assert len(set(map(float, drawn))) == 3


def test_messages_of_veegan():
    game, players = VEEGAN.example()
    with pytest.raises(ValueError, match="VEEGAN has three players, generator, discriminator and reconstructor; got 2"):
        game.losses(players[:2])
    with pytest.raises(ValueError, match="VEEGAN.weight is -1"):
        VEEGAN(lambda t, z: z, lambda w, pair: w, lambda f, x: x, DATA, LATENT, -1.0)
    network = dy.networks.spectrally_normalised(lambda w, x: x @ w, jnp.ones((2, 2)), jax.random.key(0))
    with pytest.raises(TypeError, match="VEEGAN.generator is a network with state"):
        VEEGAN(network, lambda w, pair: w, lambda f, x: x, DATA, LATENT)
    wide = VEEGAN(lambda t, z: t + z, lambda w, pair: w * pair[1], lambda f, x: jnp.stack([x, f]), DATA, LATENT)
    with pytest.raises(ValueError, match=r"the reconstructor returned latents of shapes \(2,\); expected \(\)"):
        wide.losses((jnp.asarray(0.1), jnp.asarray(0.2), jnp.asarray(0.3)))
