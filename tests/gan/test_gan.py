"""The GAN game: fields of the papers, arbitrary players, data and precision."""

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import strategies as st

from dynamics.distributions import PointMass, Points, Sampler, normal
from dynamics.game import Game, ZeroSum, as_players
from dynamics.games import DiracGAN
from dynamics.gan import GAN, split_module
from dynamics.objectives import LeastSquares, Minimax, NonSaturating, Wasserstein
from dynamics.penalties import DRAGAN, R1, R2, WGANGP, DiscriminatorGradientNorm, Sum

KEY = jax.random.key(7)


@jax.jit
def losses(game, players, key=None):
    return game.losses(players, key)


@jax.jit
def field(game, players, key=None):
    return game.field(players, key)


@jax.jit
def jacobian(game, players):
    return jax.jacfwd(game.field)(players)


def slope(t):
    """f'(t) of f(t) = -log(1 + e^-t)."""
    return scipy.special.expit(-t)


# Fields of Mescheder, Geiger and Nowozin 2018, section 3 and appendix B, in (theta, psi).
FIELDS = {
    "minimax": (DiracGAN(Minimax()), lambda t, p: (-p * slope(t * p), t * slope(t * p))),
    "non-saturating": (DiracGAN(), lambda t, p: (-p * slope(-t * p), t * slope(t * p))),
    "wasserstein": (DiracGAN(Wasserstein()), lambda t, p: (-p, t)),
    "R1": (DiracGAN(Minimax(), R1(0.7)), lambda t, p: (-p * slope(t * p), t * slope(t * p) - 0.7 * p)),
    "R2": (DiracGAN(Minimax(), R2(0.7)), lambda t, p: (-p * slope(t * p), t * slope(t * p) - 0.7 * p)),
    "WGAN-GP": (
        DiracGAN(Wasserstein(), WGANGP(0.35, 0.9)),
        lambda t, p: (-p, t - 0.7 * np.sign(p) * (abs(p) - 0.9)),
    ),
    "WGAN-GP, one-sided": (
        DiracGAN(Wasserstein(), WGANGP(0.35, 0.9, one_sided=True)),
        lambda t, p: (-p, t - 0.7 * np.sign(p) * max(abs(p) - 0.9, 0)),
    ),
    "DRAGAN": (
        DiracGAN(Wasserstein(), DRAGAN(0.35, 0.9)),
        lambda t, p: (-p, t - 0.7 * np.sign(p) * (abs(p) - 0.9)),
    ),
    "least squares": (
        DiracGAN(LeastSquares(-1.0, 1.0, 0.0)),
        # scores: 0 on the data, -psi theta on the model
        lambda t, p: (-t * p * p, -(1 - t * p) * -t),
    ),
    "gradient norm": (
        # grad_psi of the value is theta: eta theta^2 for the generator
        DiracGAN(Wasserstein(), DiscriminatorGradientNorm(0.2)),
        lambda t, p: (-p - 0.4 * t, t),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
@hypothesis.given(
    theta=st.floats(-20, 20, allow_subnormal=False),  # XLA takes subnormal numbers as 0, where a norm has no direction
    psi=st.floats(-20, 20, allow_subnormal=False),
)
def test_fields_of_the_dirac_gan(name, theta, psi):
    game, formula = FIELDS[name]
    computed = field(game, (jnp.asarray(theta), jnp.asarray(psi)))
    np.testing.assert_allclose(computed, formula(theta, psi), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FIELDS)
def test_the_dirac_gan_is_the_gan_it_says(name):
    game = FIELDS[name][0]
    players = (jnp.asarray(0.8), jnp.asarray(-1.3))
    for key in (None, KEY):
        np.testing.assert_allclose(losses(game, players, key), losses(game.gan(key), players, key), rtol=1e-14)


@pytest.mark.parametrize(
    "game, slope_at_zero",
    [(DiracGAN(Minimax()), 0.5), (DiracGAN(NonSaturating()), 0.5), (DiracGAN(Wasserstein()), 1.0)],
)
@pytest.mark.parametrize("weight", [None, 0.3, 1.0, 3.0])
def test_eigenvalues_of_the_dirac_gan(game, slope_at_zero, weight):
    game = DiracGAN(game.objective, None if weight is None else R1(weight))
    eigenvalues = np.linalg.eigvals(np.array(jacobian(game, game.equilibria()[0])))
    half = (weight or 0) / 2
    root = np.sqrt(complex(half**2 - slope_at_zero**2))
    np.testing.assert_allclose(np.sort_complex(eigenvalues), np.sort_complex([-half - root, -half + root]), atol=1e-7)


@pytest.mark.parametrize("std", [0.0, 0.5, 1.3, 2.0])
def test_eigenvalues_with_instance_noise(std):
    game = DiracGAN(Minimax(), noise=std)
    eigenvalues = np.linalg.eigvals(np.array(jacobian(game, game.equilibria()[0])))
    root = np.sqrt(complex(std**4 / 16 - 0.25))
    expected = np.sort_complex([-(std**2) / 4 - root, -(std**2) / 4 + root])
    np.testing.assert_allclose(np.sort_complex(eigenvalues), expected, atol=1e-12)


def test_instance_noise_is_integrated():
    """Quadrature against the trapezoidal rule, away from the equilibrium."""
    theta, psi, std = 0.7, -0.9, 0.6
    noise = np.linspace(-10, 10, 2001)
    weights = np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi) * (noise[1] - noise[0])
    on_real = weights @ np.logaddexp(0, psi * std * noise)
    on_fake = weights @ np.logaddexp(0, -psi * (theta + std * noise))
    game = DiracGAN(Minimax(), noise=std)
    computed = losses(game, (jnp.asarray(theta), jnp.asarray(psi)))
    np.testing.assert_allclose(computed, [-on_fake, on_real + on_fake], rtol=1e-9)


def test_drawn_instance_noise_has_the_integral_as_its_mean():
    players = (jnp.asarray(0.7), jnp.asarray(-0.9))
    scatter = []
    for batch_size in (4, 64):
        game = DiracGAN(noise=0.6, batch_size=batch_size)
        draws = jax.jit(jax.vmap(lambda key, g=game: g.losses(players, key)[1]))(jax.random.split(KEY, 2000))
        scatter.append(draws.std())
        assert abs(draws.mean() - losses(game, players)[1]) < 5 * scatter[-1] / np.sqrt(len(draws))
    # Independent noise for every sample: the scatter of a mean falls as one over the root of the batch size.
    np.testing.assert_allclose(scatter[0] / scatter[1], 4, rtol=0.1)


DATA = np.random.default_rng(0).normal(size=(5, 3))
LATENT = np.random.default_rng(1).normal(size=(4, 2))
PLAYERS = as_players(
    (
        {"weight": np.random.default_rng(2).normal(size=(3, 2)), "shift": [0.1, -0.2, 0.3]},
        ({"w": np.random.default_rng(3).normal(size=3)}, 0.4),
    )
)


def generator(parameters, z):
    assert z.shape == (2,)  # one latent point at a time
    return parameters["weight"] @ z + jnp.stack(parameters["shift"])


def discriminator(parameters, x):
    assert x.shape == (3,)
    return jnp.sin(parameters[0]["w"] @ x) * parameters[1]


def expected_losses():
    fake = LATENT @ np.asarray(PLAYERS[0]["weight"]).T + np.array([0.1, -0.2, 0.3])
    real_score, fake_score = (np.sin(x @ np.asarray(PLAYERS[1][0]["w"])) * 0.4 for x in (DATA, fake))
    return np.logaddexp(0, -fake_score).mean(), (
        np.logaddexp(0, -real_score).mean() + np.logaddexp(0, fake_score).mean()
    )


@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray, np.ndarray.tolist, lambda x: Points(jnp.asarray(x))])
def test_any_callables_players_and_data(wrap):
    gan = GAN(generator, discriminator, wrap(DATA), wrap(LATENT))
    np.testing.assert_allclose(losses(gan, PLAYERS), expected_losses(), rtol=1e-13)
    v = field(gan, PLAYERS)
    assert jax.tree.structure(v) == jax.tree.structure(PLAYERS)
    step = 1e-6
    moved = ({**PLAYERS[0], "shift": [0.1 + step, *PLAYERS[0]["shift"][1:]]}, PLAYERS[1])
    difference = (losses(gan, moved)[0] - losses(gan, PLAYERS)[0]) / step
    np.testing.assert_allclose(v[0]["shift"][0], -difference, rtol=1e-4)


def test_a_function_of_a_key_as_data():
    def draw(key):
        return jnp.asarray(DATA)[jax.random.permutation(key, 5)]

    gan = GAN(generator, discriminator, draw, jnp.asarray(LATENT))
    assert isinstance(gan.data, Sampler)
    np.testing.assert_allclose(losses(gan, PLAYERS, KEY), expected_losses(), rtol=1e-13)
    with pytest.raises(ValueError, match="key=None asks for an exact expectation; pass key="):
        gan.losses(PLAYERS)


def test_noise_has_the_shape_of_the_samples():
    gan = GAN(generator, discriminator, DATA, LATENT, noise=normal(jnp.zeros(3), 0.2, nodes=3))
    samples = jax.jit(lambda key: gan.samples(PLAYERS, key))
    real, fake = samples(None)
    assert real.values.shape == (5 * 27, 3) and fake.values.shape == (4 * 27, 3)
    np.testing.assert_allclose(real.mean(), DATA.mean(0))
    real, fake = samples(KEY)
    assert real.values.shape == (5, 3) and fake.values.shape == (4, 3)
    assert np.all(np.asarray(real.values) != DATA)
    shift = np.asarray(real.values) - DATA
    assert len(np.unique(shift)) == 15


def test_the_same_key_gives_the_same_batch_to_both_players():
    gan = GAN(generator, discriminator, Points(DATA, 2), Points(LATENT, 2))

    def slopes(key):  # of each loss with respect to both players
        return jax.jacrev(lambda players: gan.losses(players, key))(PLAYERS)

    once, again = jax.jit(lambda key: (slopes(key), gan.field(PLAYERS, key)))(KEY), field(gan, PLAYERS, KEY)
    own = (once[0][0][0], once[0][1][1])
    assert eqx.tree_equal(jax.tree.map(jnp.negative, own), once[1], rtol=1e-12, atol=1e-14)
    assert eqx.tree_equal(once[1], again, rtol=1e-12, atol=1e-14)
    assert not eqx.tree_equal(again, field(gan, PLAYERS, jax.random.key(8)), rtol=1e-12)


def test_batches_do_not_depend_on_vmap():
    gan = GAN(generator, discriminator, Points(DATA, 2), Points(LATENT, 2), penalty=WGANGP(1.0))
    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(lambda key: gan.losses(PLAYERS, key)))(keys)
    for index in range(3):
        np.testing.assert_allclose([part[index] for part in together], losses(gan, PLAYERS, keys[index]), 1e-14)


@pytest.mark.parametrize("penalty", [None, Sum(R1(0.1), R2(0.1), WGANGP(0.1), DRAGAN(0.1))])
@pytest.mark.parametrize("noise", [None, normal(jnp.zeros(3), 0.2, nodes=2)])
def test_everything_follows_the_dtype_of_the_players(penalty, noise):
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PLAYERS)
    gan = GAN(generator, discriminator, DATA, Points(LATENT, 5), LeastSquares(), penalty, noise)
    for key in (None, KEY):
        real, fake = jax.eval_shape(gan.samples, single, key)
        assert {leaf.dtype for leaf in jax.tree.leaves((real, fake))} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(gan.field, single))} == {jnp.dtype("float32")}
    assert {loss.dtype for loss in jax.eval_shape(gan.losses, single)} == {jnp.dtype("float32")}


def test_split_module():
    class Network(eqx.Module):
        layer: eqx.nn.Linear
        order: jax.Array
        name: str

        def __call__(self, x):
            return self.layer(x[self.order])[0]

    network = Network(eqx.nn.Linear(3, 1, key=KEY), jnp.asarray([2, 0, 1]), "network")
    function, parameters = split_module(network)
    x = jnp.asarray([1.0, 2.0, 3.0])
    assert float(function(parameters, x)) == float(network(x))
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(parameters))
    gan = GAN(generator, function, DATA, LATENT)
    v = jax.eval_shape(gan.field, (PLAYERS[0], parameters))
    assert v[1].layer.weight.shape == (1, 3) and v[1].order is None


def test_changing_numbers_does_not_retrace():
    traces = 0

    @jax.jit
    def step(game, players):
        nonlocal traces
        traces += 1
        return game.field(players)

    seen = set()
    for weight in (0, 0.1, 1, np.float64(2.5), np.int32(3)):
        game = DiracGAN(LeastSquares(weight, 1.0, 0.0), R1(weight), noise=weight)
        seen.add(float(step(game, as_players((1.0, 0.5)))[1]))
    assert traces == 1 and len(seen) == 5


def test_a_batch_of_games():
    weights = jnp.asarray([0.1, 0.5, 2.0])
    v = jax.vmap(lambda weight: DiracGAN(penalty=R1(weight)).field((jnp.asarray(1.0), jnp.asarray(0.5))))(weights)
    np.testing.assert_allclose(v[1], slope(0.5) - 0.5 * weights, rtol=1e-14)


def test_players_can_be_checked_while_tracing():
    @jax.jit
    def start(x):
        return as_players((0.0, {"a": x, "b": jnp.ones(2)}))

    assert start(2.0)[1]["a"] == 2.0
    assert jax.jit(lambda: DiracGAN().equilibria())() == ((0.0, 0.0),)


def test_example_is_a_working_game():
    game, players = GAN.example()
    assert jax.tree.structure(jax.eval_shape(game.field, players)) == jax.tree.structure(players)


def two(players, key=None):
    return players[0] ** 2, players[1] ** 2


@pytest.mark.parametrize(
    "build, error, parts",
    [
        (lambda: GAN(3, discriminator, DATA, LATENT), TypeError, ["generator is 3", "expected a function"]),
        (lambda: GAN(generator, None, DATA, LATENT), TypeError, ["discriminator is None", "expected"]),
        (lambda: GAN(generator, discriminator, 1.0, LATENT), TypeError, ["data is 1.0", "expected", "PointMass"]),
        (lambda: GAN(generator, discriminator, DATA, "z"), TypeError, ["latent is 'z'", "expected"]),
        (lambda: GAN(generator, discriminator, DATA * np.nan, LATENT), ValueError, ["nan", "expected", "repair"]),
        (
            lambda: GAN(generator, discriminator, DATA, LATENT, "minimax"),
            TypeError,
            ["GAN.objective is 'minimax'", "expected a Objective", "NonSaturating()"],
        ),
        (
            lambda: GAN(generator, discriminator, DATA, LATENT, penalty=0.3),
            TypeError,
            ["GAN.penalty is 0.3", "expected a Penalty", "R1(0.3)"],
        ),
        (
            lambda: GAN(generator, discriminator, DATA, LATENT, noise=0.1),
            TypeError,
            ["GAN.noise is 0.1", "expected a Distribution", "normal"],
        ),
        (lambda: DiracGAN(penalty=0.3), TypeError, ["DiracGAN.penalty is 0.3", "expected", "R1(0.3)"]),
        (lambda: DiracGAN(R1(0.3)), TypeError, ["DiracGAN.objective", "expected", "NonSaturating()"]),
        (lambda: DiracGAN(noise=-1), ValueError, ["DiracGAN.noise is -1", "expected", ">= 0"]),
        (lambda: DiracGAN(noise=np.nan), ValueError, ["DiracGAN.noise is nan", "expected"]),
        (lambda: DiracGAN(noise=1.0, nodes=0), ValueError, ["DiracGAN.nodes is 0", "expected"]),
        (lambda: DiracGAN(noise=1.0, batch_size=-2), ValueError, ["DiracGAN.batch_size is -2", "expected"]),
        (lambda: DiracGAN().losses((1.0,)), ValueError, ["two players", "got 1"]),
        (lambda: DiracGAN(noise=1.0).losses((1.0,)), ValueError, ["two players", "got 1"]),
        (
            lambda: GAN(lambda t, z: t, lambda w, x: w * x[None], DATA[:, 0], LATENT[:, 0]).field((1.0, 1.0)),
            ValueError,
            ["the discriminator returned", "(1,)", "expected a scalar", "mean"],
        ),
        (lambda: Game.from_losses(two).field((1.0, 1.0, 1.0)), ValueError, ["2 losses for 3 players", "expected"]),
        (lambda: Game.from_losses(3), TypeError, ["losses is 3", "expected a function"]),
        (lambda: ZeroSum("xy"), TypeError, ["value is 'xy'", "expected a function"]),
        (lambda: as_players(1.0), TypeError, ["players is 1.0", "expected a tuple"]),
        (lambda: as_players((1.0, {"a": np.nan})), ValueError, ["players[1]['a'] is nan", "expected finite"]),
        (lambda: as_players((1.0, "x")), TypeError, ["players[1] is 'x'", "str", "expected", "split_module"]),
        (lambda: as_players((1.0, 1j * np.ones(2))), TypeError, ["players[1]", "complex128", "expected"]),
    ],
)
def test_messages(build, error, parts):
    with pytest.raises(error) as caught:
        build()
    for part in parts:
        assert part in str(caught.value)


def test_point_masses_of_vectors():
    gan = GAN(lambda t, z: t + z, lambda w, x: w @ x, PointMass([1.0, 2.0]), PointMass([0, 0]), Wasserstein())
    players = (jnp.asarray([3.0, 4.0]), jnp.asarray([0.5, -0.5]))
    np.testing.assert_allclose(losses(gan, players), [0.5, -0.5 + 0.5])
    np.testing.assert_allclose(field(gan, players), [[0.5, -0.5], [-2.0, -2.0]])
