"""The ready games: fields, equilibria and spectra against hand-derived and published ones."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics.catalogue import members
from dynamics.games import (
    AlmostBilinear,
    Bilinear,
    Covariance,
    DiracGAN,
    Forsaken,
    LinearWasserstein,
    PlanarQuadratic,
    PolynomialGame,
    Quadratic,
    RingGAN,
    SineMinimax,
    SpuriousAttractor,
    TimescaleQuadratic,
    Torus,
    TTURToy,
)

GAMES = members("games")
numbers = st.floats(-2, 2, allow_nan=False, width=32)


# Compiled once for all examples of the same shapes.
field_and_losses = eqx.filter_jit(lambda game, players, key=None: (game.field(players, key), game.losses(players, key)))


def field_of(game, players, key=None):
    return field_and_losses(game, players, key)[0]


def losses_of(game, players, key=None):
    return field_and_losses(game, players, key)[1]


def flat_field(game, players):
    """The field as a function of one vector, and the players as one vector."""
    vector, unravel = ravel_pytree(players)
    return vector, lambda z: ravel_pytree(game.field(unravel(z)))[0]


@eqx.filter_jit
def traced_jacobian(game, players):
    vector, field = flat_field(game, players)
    return jax.jacfwd(field)(vector)


def jacobian(game, players):
    return np.asarray(traced_jacobian(game, players))


def spectrum(game, players, rates=None):
    matrix = jacobian(game, players)
    if rates is not None:
        sizes = [ravel_pytree(player)[0].size for player in players]
        matrix = np.repeat(rates, sizes)[:, None] * matrix
    return np.linalg.eigvals(matrix)


def assert_same_set(found, expected, atol=1e-9):
    """Equal as multisets of complex numbers."""
    rest = list(np.asarray(expected, complex))
    assert len(found) == len(rest)
    for value in found:
        nearest = min(range(len(rest)), key=lambda i: abs(rest[i] - value))
        assert abs(rest[nearest] - value) <= atol, f"{value} is not among {rest}"
        rest.pop(nearest)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def scalars(*values):
    return tuple(jnp.asarray(value, float) for value in values)


# ---------------------------------------------------------------- every game of the catalogue


@pytest.mark.parametrize("name", GAMES)
def test_every_example_has_a_finite_field_of_the_players_shape(name):
    game, players = GAMES[name].example()
    for key in (None, jax.random.key(1)):
        field = field_of(game, players, key)
        assert jax.tree.structure(field) == jax.tree.structure(tuple(players))
        for v, x in zip(jax.tree.leaves(field), jax.tree.leaves(players)):
            assert v.shape == x.shape and v.dtype == x.dtype
            assert np.all(np.isfinite(v))
        assert all(jnp.shape(loss) == () for loss in losses_of(game, players, key))


@pytest.mark.parametrize("name", GAMES)
def test_the_field_is_zero_at_every_listed_equilibrium(name):
    game, players = GAMES[name].example()
    for point in game.equilibria():
        assert jax.tree.structure(tuple(point)) == jax.tree.structure(tuple(players))
        assert jax.tree.map(jnp.shape, tuple(point)) == jax.tree.map(jnp.shape, tuple(players))
        np.testing.assert_allclose(flat(field_of(game, point)), 0, atol=1e-12)


@pytest.mark.parametrize("name", GAMES)
def test_the_field_is_minus_the_difference_quotient_of_each_loss(name):
    game, players = GAMES[name].example()
    field = field_of(game, players)
    step = 1e-5
    for i, own in enumerate(players):
        vector, unravel = ravel_pytree(own)
        found = flat(field[i])

        def loss(z, i=i, unravel=unravel):
            return losses_of(game, (*players[:i], unravel(z), *players[i + 1 :]))[i]

        for k in range(min(vector.size, 5)):
            slope = (loss(vector.at[k].add(step)) - loss(vector.at[k].add(-step))) / (2 * step)
            np.testing.assert_allclose(found[k], -slope, rtol=1e-5, atol=1e-7)


@pytest.mark.slow_cases(
    "float32-HermiteGAN",
    "float32-MixtureGame",
    "float32-PolynomialGame",
    "float32-Quadratic",
    "float32-RingGAN",
    "float32-VRAL",
    "float64-Covariance",
    "float64-HermiteGAN",
    "float64-MixtureGame",
    "float64-VRAL",
)
@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_field_and_losses_follow_the_precision_of_the_players(name, dtype):
    game, players = GAMES[name].example()
    players = jax.tree.map(lambda leaf: leaf.astype(dtype), players)
    for key in (None,) if name == "RingGAN" else (None, jax.random.key(0)):
        assert {leaf.dtype for leaf in jax.tree.leaves(field_of(game, players, key))} == {jnp.dtype(dtype)}
        if name not in ("Bilinear", "RingGAN"):
            assert {loss.dtype for loss in losses_of(game, players, key)} == {jnp.dtype(dtype)}


@pytest.mark.slow_cases("VRAL")
@pytest.mark.parametrize("name", GAMES)
def test_a_batch_of_games_is_a_game_with_a_leading_axis(name):
    game, players = GAMES[name].example()
    arrays, static = eqx.partition(game, eqx.is_array)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), arrays)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), players)
    fields = jax.jit(jax.vmap(lambda a, p: eqx.combine(a, static).field(p)))(batch, many)
    for several, one in zip(jax.tree.leaves(fields), jax.tree.leaves(field_of(game, players))):
        np.testing.assert_allclose(several[1], one, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- quadratic games


def test_quadratic_losses_are_the_documented_quadratic_forms():
    rng = np.random.default_rng(0)
    shapes, total = ((2,), (1,), ()), 4
    matrices = [(lambda m: m + m.T)(rng.normal(size=(total, total))) for _ in shapes]
    offsets = [rng.normal(size=total) for _ in shapes]
    players = tuple(jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    game = Quadratic(matrices, offsets, shapes=shapes)
    z = np.concatenate([np.ravel(player) for player in players])
    for loss, matrix, offset in zip(losses_of(game, players), matrices, offsets):
        np.testing.assert_allclose(loss, z @ matrix @ z / 2 + offset @ z, rtol=1e-12)
    rows = [matrices[0][:2], matrices[1][2:3], matrices[2][3:]]
    own = [offsets[0][:2], offsets[1][2:3], offsets[2][3:]]
    by_hand = -(np.concatenate(rows) @ z + np.concatenate(own))
    np.testing.assert_allclose(flat(field_of(game, players)), by_hand, rtol=1e-12)


def test_quadratic_blocks_are_the_second_derivatives():
    game, players = Quadratic.example()
    blocks = [
        [[[2.0, 0.5], [0.5, 1.0]], [[1.0], [-2.0]], [[0.5, 0.0], [0.0, 1.0]]],
        [[[-1.0, 2.0]], [[0.5]], [[3.0, -1.0]]],
        [[[0.0, -1.0], [1.0, 0.0]], [[-3.0], [1.0]], [[1.0, -0.25], [-0.25, 1.5]]],
    ]
    np.testing.assert_allclose(
        jacobian(game, players), -np.block([[np.array(block) for block in row] for row in blocks]), atol=1e-14
    )
    a, b, c = (np.asarray(player) for player in players)
    block = np.array(blocks[0][0])
    loss = a @ block @ a / 2 + a @ np.array(blocks[0][1]) @ b + a @ np.array(blocks[0][2]) @ c + a[0]
    np.testing.assert_allclose(losses_of(game, players)[0], loss, rtol=1e-14)


def test_quadratic_with_scalars_and_vectors():
    game = Quadratic([[2.0, [1.0, -1.0]], [[3.0, 0.5], np.eye(2)]], offsets=[1.0, [0.0, -2.0]])
    players = (jnp.asarray(0.5), jnp.asarray([1.0, 2.0]))
    v = field_of(game, players)
    np.testing.assert_allclose(v[0], -(2 * 0.5 + (1 - 2) + 1), rtol=1e-14)
    np.testing.assert_allclose(v[1], [-(1.5 + 1), -(0.25 + 2 - 2)], rtol=1e-14)
    assert v[0].shape == () and v[1].shape == (2,)


def test_quadratic_of_one_player_is_plain_minimisation():
    game = Quadratic([[np.diag([1.0, 4.0])]], offsets=[[1.0, -4.0]])
    np.testing.assert_allclose(game.equilibria()[0][0], [-1.0, 1.0], rtol=1e-14)


@given(st.integers(0, 2**16), st.integers(1, 2), st.integers(2, 3))
def test_quadratic_equilibrium_solves_the_linear_system(seed, m, n):
    rng = np.random.default_rng(seed)
    own, other = (np.eye(d) + (lambda a: a @ a.T)(rng.normal(size=(d, d))) for d in (m, n))
    blocks = [[own, rng.normal(size=(m, n))], [rng.normal(size=(n, m)), other]]
    matrix = np.block(blocks)
    assume(np.linalg.cond(matrix) < 1e4)
    offsets = [rng.normal(size=m), rng.normal(size=n)]
    (point,) = Quadratic(blocks, offsets).equilibria()
    expected = np.linalg.solve(matrix, -np.concatenate(offsets))
    np.testing.assert_allclose(flat(point), expected, rtol=1e-9, atol=1e-10)


def test_singular_quadratic_games_have_the_least_equilibrium_or_none():
    blocks = [[np.diag([1.0, 0.0]), np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]
    (point,) = Quadratic(blocks, [[2.0, 0.0], [3.0]]).equilibria()
    np.testing.assert_allclose(point[0], [-2.0, 0.0], atol=1e-14)
    np.testing.assert_allclose(point[1], [-3.0], atol=1e-14)
    assert Quadratic(blocks, [[2.0, 1.0], [3.0]]).equilibria() == ()


def test_tandem_losses_as_whole_matrices():
    ones = np.full((2, 2), 2.0)
    game = Quadratic([ones, ones], offsets=[[-2.0, 0.0], [0.0, -2.0]], shapes=((), ()))
    x, y = scalars(0.3, -1.1)
    losses = losses_of(game, (x, y))
    np.testing.assert_allclose(losses[0], (x + y) ** 2 - 2 * x, rtol=1e-12)
    np.testing.assert_allclose(losses[1], (x + y) ** 2 - 2 * y, rtol=1e-12)
    (point,) = game.equilibria()
    np.testing.assert_allclose(point, [0.5, 0.5], atol=1e-14)


@given(numbers, numbers, numbers, numbers, numbers)
def test_zero_sum_quadratic_is_the_planar_one(a, b, c, x, y):
    game, players = Quadratic.zero_sum(a, b, c), scalars(x, y)
    planar = PlanarQuadratic(a, b, c)
    np.testing.assert_allclose(losses_of(game, players), losses_of(planar, players), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(field_of(game, players), field_of(planar, players), rtol=1e-12, atol=1e-12)
    assert float(sum(losses_of(game, players))) == 0


@st.composite
def spectra(draw):
    """Sizes of two or three players and a spectrum that fits them."""
    sizes = draw(st.sampled_from([(4, 2), (3, 1, 2), (1, 2)]))
    most = min(sum(sizes) // 2, sum(sizes) - max(sizes))
    pairs = draw(st.integers(0, most))
    part = st.floats(-3, 3).map(lambda x: round(x, 3))
    values = []
    for _ in range(pairs):
        pair = complex(draw(part), draw(st.floats(0.01, 5)))
        values += [pair, pair.conjugate()]
    values += [draw(part) for _ in range(sum(sizes) - 2 * pairs)]
    return sizes, draw(st.permutations(values))


@pytest.mark.slow
@given(spectra(), st.integers(0, 100), st.sampled_from([0.0, 0.3, 1.0]))
def test_with_spectrum_has_exactly_the_given_eigenvalues(spectrum_of, seed, non_normality):
    sizes, values = spectrum_of
    game = Quadratic.with_spectrum(jax.random.key(seed), values, sizes, non_normality)
    (point,) = game.equilibria()
    assert [player.shape for player in point] == [(size,) for size in sizes]
    matrix = jacobian(game, point)
    assert_same_set(np.linalg.eigvals(matrix), values, atol=1e-9)
    start = 0
    for size in sizes:
        own = matrix[start : start + size, start : start + size]
        np.testing.assert_allclose(own, own.T, atol=1e-13)
        start += size
    departure = np.linalg.norm(matrix @ matrix.T - matrix.T @ matrix)
    if non_normality == 0:
        assert departure < 1e-11 * (1 + np.linalg.norm(matrix) ** 2)


def test_with_spectrum_can_be_far_from_normal_and_couples_the_players():
    values = [-1, -2, -0.5 + 3j, -0.5 - 3j, -0.1 + 1j, -0.1 - 1j]
    matrices = [
        jacobian(game, game.equilibria()[0])
        for game in (Quadratic.with_spectrum(jax.random.key(3), values, (4, 2), s) for s in (0.0, 1.0))
    ]
    departures = [np.linalg.norm(m @ m.T - m.T @ m) for m in matrices]
    assert departures[0] < 1e-10 and departures[1] > 1
    assert np.linalg.norm(matrices[0][:4, 4:]) > 0.5


def test_with_spectrum_makes_a_batch_of_games_under_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    values = [-1.0, -0.5 + 2j, -0.5 - 2j]
    games = eqx.filter_vmap(lambda key: Quadratic.with_spectrum(key, values, (2, 1), 0.5))(keys)
    for i in range(3):
        game = jax.tree.map(lambda leaf, i=i: leaf[i], games)
        assert_same_set(spectrum(game, (jnp.zeros(2), jnp.zeros(1))), values)
    assert not np.allclose(games.matrices[0], games.matrices[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Quadratic([[[[1.0, 2.0], [0.0, 1.0]]]]),
            r"blocks\[0\]\[0\] differs from its transpose by 2",
        ),
        (lambda: Quadratic([[1.0, 2.0], [3.0]]), r"rows of \[2, 1\] blocks; expected n rows of n"),
        (
            lambda: Quadratic([[1.0, [1.0, 2.0]], [1.0, np.eye(2)]]),
            r"blocks\[1\]\[0\] has shape \(\); expected \(2,\)",
        ),
        (lambda: Quadratic(np.ones((2, 2, 2))), r"blocks\[0\]\[0\] has shape \(2,\).*shapes="),
        (lambda: Quadratic([np.eye(3)] * 2, shapes=((), ())), r"expected one of shape \(2, 2\)"),
        (lambda: Quadratic([[1.0, 0.0], [0.0, 1.0]], [1.0]), "1 offsets for 2 players"),
        (
            lambda: Quadratic([[1.0, 0.0], [0.0, 1.0]], [1.0, [1.0, 2.0, 3.0]]),
            r"offsets\[1\] has shape \(3,\)",
        ),
        (lambda: Quadratic([[np.nan]]), "nan; expected finite"),
        (lambda: Quadratic.zero_sum(np.eye(2), np.ones((3, 2)), np.eye(3)), r"coupling has shape \(3, 2\)"),
    ],
)
def test_quadratic_says_what_is_wrong_with_its_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("values", "sizes", "message"),
    [
        ([1j, -1j], (2,), r"1 complex pairs for players of sizes \(2,\); expected at most 0"),
        ([1j, -1j, 2j, -2j], (3, 1), "expected at most 1"),
        ([1j, 2.0], (1, 1), "1j has no conjugate"),
        ([-1j, 2.0], (1, 1), "has no conjugate"),
        ([1.0, 2.0, 3.0], (1, 1), "3 eigenvalues for sizes"),
        ([1.0], (1, 0), r"sizes is \(1, 0\)"),
        ([np.inf, 1.0], (1, 1), "expected finite"),
    ],
)
def test_with_spectrum_states_its_limits(values, sizes, message):
    with pytest.raises(ValueError, match=message):
        Quadratic.with_spectrum(jax.random.key(0), values, sizes)
    with pytest.raises(ValueError, match="non_normality is -1"):
        Quadratic.with_spectrum(jax.random.key(0), [1.0, 2.0], (1, 1), -1.0)


def test_quadratic_rejects_players_of_other_shapes():
    game = Quadratic([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"the players have shapes \(\(1,\), \(\)\)"):
        game.field((jnp.ones(1), jnp.asarray(1.0)))


@pytest.mark.parametrize("tau", [1.0, 3.0, 10.0])
def test_timescale_quadratic_has_the_published_eigenvalues(tau):
    game = TimescaleQuadratic()
    root = np.sqrt(complex(tau**2 - 12 * tau + 4)), np.sqrt(complex(4 * tau**2 - 8 * tau + 1))
    expected = [-(tau - 2 + s * root[0]) for s in (1, -1)] + [-(2 * tau + 1 + s * root[1]) for s in (1, -1)]
    assert_same_set(spectrum(game, game.equilibria()[0], (1.0, tau)), expected)


def test_timescale_quadratic_jacobian_and_crossing():
    game = TimescaleQuadratic()
    (point,) = game.equilibria()
    expected = [[-4, 0, -4, 0], [0, 2, 0, 2], [4, 0, 2, 0], [0, -2, 0, 4]]
    np.testing.assert_allclose(-jacobian(game, point), expected, atol=1e-14)
    found = spectrum(game, point, (1.0, 2.0))
    assert_same_set(sorted(found, key=lambda v: v.real)[2:], [4j, -4j])
    # Printed values: tau = 1 and tau = 3.
    assert_same_set(spectrum(game, point), [1 + 2.64575131j, 1 - 2.64575131j, -3 + 1.73205081j, -3 - 1.73205081j], 1e-8)
    tau3 = [-1 + 4.79583152j, -1 - 4.79583152j, -3.39444872, -10.60555128]
    assert_same_set(spectrum(game, point, (1.0, 3.0)), tau3, 1e-8)
    half = TimescaleQuadratic(2.0)
    np.testing.assert_allclose(jacobian(half, point), jacobian(game, point) / 2, atol=1e-14)


def test_timescale_quadratic_reaches_the_published_states():
    game = TimescaleQuadratic()
    state = (jnp.asarray([5.0, 4.0]), jnp.asarray([3.0, 2.0]))

    def step(players, _):
        vx, vy = field_of(game, players)
        return (players[0] + 5e-4 * vx, players[1] + 3.0 * 5e-4 * vy), None

    final, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=5000))(state)
    expected = [3.22190423e-3, 8.64135923e-4, 0.913302990, 6.02496615e-4]
    np.testing.assert_allclose(np.concatenate(final), expected, rtol=2e-8)


# ---------------------------------------------------------------- GANs in closed form


@pytest.mark.parametrize("mean", [3.0, [3.0, 4.0, -1.0]])
@pytest.mark.parametrize("settings", [{}, {"std": 0.5, "nodes": 3}, {"noise": 0.3, "nodes": 3}])
def test_linear_wasserstein_is_bilinear(mean, settings):
    game = LinearWasserstein(mean, **settings)
    mean = jnp.asarray(mean)
    theta, w = mean * 0.3 + 0.1, mean * -0.5 + 2
    v = field_of(game, (theta, w))
    np.testing.assert_allclose(v[0], w, rtol=1e-12)
    np.testing.assert_allclose(v[1], mean - theta, rtol=1e-12)
    (point,) = game.equilibria()
    np.testing.assert_allclose(point[0], mean)
    assert_same_set(spectrum(game, point), [1j, -1j] * mean.size)


@pytest.mark.parametrize(
    "objective",
    [
        dy.objectives.Minimax(),
        dy.objectives.NonSaturating(),
        dy.objectives.LeastSquares(),
        dy.objectives.Hinge(),
    ],
)
def test_linear_gans_keep_their_equilibria_under_every_objective(objective):
    for game in (
        LinearWasserstein([1.0, -2.0], objective, dy.penalties.R1(0.3), std=0.5, nodes=4),
        LinearWasserstein([1.0, -2.0], objective, dy.penalties.R2(0.3), noise=0.5, nodes=4),
        Covariance([[2.0, 0.5], [0.5, 1.0]], 0.3, objective, dy.penalties.R1(0.3), noise=0.2, nodes=3),
    ):
        for point in game.equilibria():
            np.testing.assert_allclose(flat(field_of(game, point)), 0, atol=1e-12)


def test_linear_wasserstein_with_penalties_and_noise_has_hand_derived_spectra():
    # R1 adds gamma w to the discriminator's gradient: lambda^2 + gamma lambda + 1 = 0.
    game = LinearWasserstein([3.0, 4.0], penalty=dy.penalties.R1(0.6))
    roots = list(np.roots([1, 0.6, 1]))
    assert_same_set(spectrum(game, game.equilibria()[0]), roots * 2)
    # Minimax, data and model N(mean, s^2 I): f' = 1/2, f'' = -1/4, second moment mean mean' + s^2 I.
    mean, s = np.array([1.0, -2.0]), 0.7
    game = LinearWasserstein(mean, dy.objectives.Minimax(), std=s, nodes=5)
    second = np.outer(mean, mean) + s**2 * np.eye(2)
    expected = np.block([[np.zeros((2, 2)), np.eye(2) / 2], [-np.eye(2) / 2, -second / 2]])
    np.testing.assert_allclose(jacobian(game, game.equilibria()[0]), expected, atol=1e-12)
    # Instance noise acts like spread-out data and latents.
    noisy = LinearWasserstein(mean, dy.objectives.Minimax(), noise=s, nodes=5)
    np.testing.assert_allclose(jacobian(noisy, game.equilibria()[0]), expected, atol=1e-12)


@pytest.mark.slow
def test_linear_wasserstein_with_a_key_draws_around_the_exact_field():
    exact = LinearWasserstein([3.0, 4.0], std=1.0, nodes=2)
    drawn = LinearWasserstein([3.0, 4.0], std=1.0, noise=0.5, batch_size=20_000)
    players = (jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, -0.5]))
    one, two = field_of(drawn, players, jax.random.key(0)), field_of(drawn, players, jax.random.key(1))
    np.testing.assert_allclose(one[1], field_of(exact, players)[1], atol=0.05)
    assert not np.allclose(one[1], two[1], atol=1e-6)
    noisy = LinearWasserstein([3.0, 4.0], noise=0.5, batch_size=20_000)
    np.testing.assert_allclose(field_of(noisy, players, jax.random.key(0))[1], [2.0, 2.0], atol=0.05)


def test_linear_wasserstein_with_clipping_reaches_the_published_means():
    # Simultaneous steps of 0.1, weights clipped to [-1, 1], 1000 iterates with the start as the first.
    game = LinearWasserstein([3.0, 4.0])

    def step(players, _):
        vx, vy = field_of(game, players)
        return (players[0] + 0.1 * vx, jnp.clip(players[1] + 0.1 * vy, -1, 1)), players[0]

    start = (jnp.full(2, 1.7), jnp.full(2, 1.4))
    _, path = jax.jit(lambda s: jax.lax.scan(step, s, length=1000))(start)
    np.testing.assert_allclose(path[-1], [3.48000545, 5.07760794], rtol=1e-8)
    np.testing.assert_allclose(path.mean(axis=0), [3.01224287, 3.98588748], rtol=1e-8)


SIGMA = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 0.7]])


@pytest.mark.parametrize("nodes", [None, 2])
@pytest.mark.parametrize("noise", [None, 0.4])
def test_covariance_field_is_the_closed_form(nodes, noise):
    game = Covariance(SIGMA, mu=0.3, nodes=nodes, noise=noise)
    rng = np.random.default_rng(1)
    v, w = rng.normal(size=(2, 3, 3))
    field = field_of(game, (jnp.asarray(v), jnp.asarray(w)))
    added = 0 if noise is None else noise**2
    np.testing.assert_allclose(field[0], (w + w.T) @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(field[1], SIGMA - v @ v.T - 0.3 * w, rtol=1e-10, atol=1e-10)
    real, fake = game.gan().samples((jnp.asarray(v), jnp.asarray(w)))
    np.testing.assert_allclose(
        real.each(lambda x: jnp.outer(x, x)).mean(), SIGMA + added * np.eye(3), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_covariance_spectrum_at_the_equilibrium(mu):
    game = Covariance(SIGMA, mu=mu)
    ((v, w),) = game.equilibria()
    np.testing.assert_allclose(v @ v.T, SIGMA, atol=1e-12)
    s = np.linalg.eigvalsh(SIGMA)
    expected = []
    for i in range(3):
        for j in range(i, 3):
            root = np.sqrt(complex(mu**2 - 8 * (s[i] + s[j])))
            expected += [(-mu + root) / 2, (-mu - root) / 2]
            expected += [0, -mu] if i < j else []
    # Zero is an eigenvalue of multiplicity six without mu, not defective.
    assert_same_set(spectrum(game, (v, w)), expected, 1e-7)


def test_covariance_orbit_consists_of_equilibria():
    game = Covariance(SIGMA, mu=0.5)
    ((v, w),) = game.equilibria()
    turn = jax.random.orthogonal(jax.random.key(0), 3)
    np.testing.assert_allclose(flat(field_of(game, (v @ turn, w))), 0, atol=1e-12)


def test_scalar_covariance_has_the_published_flow():
    variance = 2.25
    game = Covariance(variance)
    a, w = scalars(0.7, 0.4)
    v = field_of(game, (a, w))
    np.testing.assert_allclose(v, [2 * w * a, variance - a**2], rtol=1e-12)
    for point in game.equilibria():
        assert_same_set(spectrum(game, point), [2j * 1.5, -2j * 1.5])
    # w^2 + a^2/2 - sigma^2 log a is conserved by the flow.
    gradient = np.array([a - variance / a, 2 * w])
    np.testing.assert_allclose(gradient @ np.array(v), 0, atol=1e-12)
    # The generator is penalised by the discriminator's gradient: -4 eta s +- sqrt(16 eta^2 s^2 - 4 s).
    eta, s = 0.1, variance
    game = Covariance(variance, penalty=dy.penalties.DiscriminatorGradientNorm(eta))
    root = np.sqrt(complex(16 * eta**2 * s**2 - 4 * s))
    assert_same_set(spectrum(game, game.equilibria()[0]), [-4 * eta * s + root, -4 * eta * s - root])


def test_scalar_covariance_with_regularisation_and_two_timescales():
    s, mu, tau = 1.7, 0.9, 3.0
    game = Covariance(s, mu)
    root = np.sqrt(complex(tau**2 * mu**2 - 16 * tau * s))
    found = spectrum(game, game.equilibria()[0], (1.0, tau))
    assert_same_set(found, [-(tau * mu + root) / 2, -(tau * mu - root) / 2])


def test_covariance_of_a_logistic_objective_uses_enough_nodes():
    # The discriminator's block is 2 f''(0) E[xx' (x) xx'], a fourth moment; for a scalar -(1/2) 3 sigma^4.
    game = Covariance(1.5, objective=dy.objectives.Minimax())
    np.testing.assert_allclose(
        jacobian(game, game.equilibria()[0]), [[0, 1.5**0.5], [-(1.5**0.5), -1.5 * 1.5**2]], atol=1e-12
    )


def test_covariance_in_many_dimensions_needs_few_points():
    sigma = jnp.diag(jnp.arange(1.0, 31.0))
    game = Covariance(sigma)
    ((v, w),) = game.equilibria()
    np.testing.assert_allclose(field_of(game, (v / 2, w))[1], 0.75 * sigma, atol=1e-10)


def test_covariance_with_a_key_draws_around_the_exact_field():
    game = Covariance(SIGMA, batch_size=50_000)
    players = (jnp.eye(3), jnp.zeros((3, 3)))
    drawn = field_of(game, players, jax.random.key(0))[1]
    np.testing.assert_allclose(drawn, field_of(game, players)[1], atol=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Covariance([[1.0, 0.5], [0.0, 1.0]]), "expected a symmetric matrix"),
        (lambda: Covariance([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue -1; expected only positive"),
        (lambda: Covariance(-1.0), "eigenvalue -1"),
        (lambda: Covariance([1.0, 2.0]), r"shape \(2,\); expected \(d, d\)"),
        (lambda: Covariance(1.0, mu=-1.0), "mu is -1; expected a finite number >= 0"),
        (lambda: Covariance(1.0, noise=-1.0), "noise is -1"),
        (lambda: Covariance(1.0, nodes=0), "nodes is 0"),
        (
            lambda: Covariance(np.eye(2)).field((jnp.ones(2), jnp.ones((2, 2)))),
            r"V has shape \(2,\); expected \(2, 2\)",
        ),
        (lambda: LinearWasserstein(np.eye(2)), r"mean has shape \(2, 2\); expected \(d,\)"),
        (lambda: LinearWasserstein([1.0, np.inf]), "expected finite numbers"),
        (lambda: LinearWasserstein(1.0, std=-1.0), "std is -1"),
        (lambda: LinearWasserstein(1.0).field((jnp.ones(2), jnp.ones(()))), r"theta has shape \(2,\)"),
        (lambda: LinearWasserstein(np.ones(9), std=1.0).field((jnp.ones(9),) * 2), "use fewer nodes"),
        (lambda: Torus(a=np.nan), "a is nan"),
        (lambda: TimescaleQuadratic(0.0), "scale is 0; expected a finite number > 0"),
        (lambda: TTURToy(-1.0), "noise is -1"),
        (lambda: RingGAN(jax.random.key(0), width=0), "width=0; expected a positive"),
        (lambda: Bilinear([1.0, 2.0]), r"shape \(2,\); expected \(m, n\)"),
        (lambda: DiracGAN(noise=-1.0), "noise is -1"),
    ],
)
def test_other_games_say_what_is_wrong_with_their_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("game", [LinearWasserstein, Covariance])
def test_gans_reject_what_is_no_objective_or_penalty(game):
    with pytest.raises(TypeError, match="objective is 3; expected a Objective"):
        game(1.0, objective=3)
    with pytest.raises(TypeError, match="penalty is 'R1'; expected a Penalty"):
        game(1.0, penalty="R1")


# ---------------------------------------------------------------- planar games

BY_HAND = {
    "Torus": (
        Torus(0.2, 0.5),
        lambda x, y: (-0.2 * np.sin(x) + np.sin(x - y), np.sin(x - y) - 0.5 * np.sin(y)),
    ),
    "SineMinimax": (SineMinimax(), lambda x, y: (-0.2 * y, 0.2 * x + np.sin(y))),
    "SpuriousAttractor": (
        SpuriousAttractor(),
        lambda x, y: (-4 * x - 4 * y, 2 * y + 4 * x + 4 * y**2 - y**3),
    ),
    "PlanarQuadratic": (PlanarQuadratic(), lambda x, y: (-0.5 * x - 2 * y, 2 * x - 0.3 * y)),
    "Forsaken": (
        Forsaken(),
        lambda x, y: (-(y - 0.45) - (x / 2 - 2 * x**3 + x**5), x - (y / 2 - 2 * y**3 + y**5)),
    ),
    "AlmostBilinear": (AlmostBilinear(0.1), lambda x, y: (-y, x + 0.1 * (y - y**3))),
    "TTURToy": (TTURToy(), lambda x, y: (-2 * x * (100 - y**2), -2 * y * (1 + x**2))),
}


@pytest.mark.parametrize("name", BY_HAND)
@given(x=numbers, y=numbers)
def test_planar_fields_are_the_hand_derived_ones(name, x, y):
    game, by_hand = BY_HAND[name]
    np.testing.assert_allclose(field_of(game, scalars(x, y)), by_hand(x, y), rtol=1e-9, atol=1e-12)


@given(x=numbers, y=numbers)
def test_polynomial_field_is_the_hand_derived_one(x, y):
    p, q, bell = 0.3 * x**2 + y, 0.3 * y**2 + x, np.exp(-(x**2 + y**2) / 100)
    dx = bell * (x / 50 * (p**2 + q**2) - 2 * p * 0.6 * x - 2 * q)
    dy_ = bell * (y / 50 * (p**2 + q**2) - 2 * p - 2 * q * 0.6 * y)
    np.testing.assert_allclose(field_of(PolynomialGame(), scalars(x, y)), [-dx, dy_], rtol=1e-10, atol=1e-12)


def test_torus_jacobians_and_critical_timescales():
    game = Torus()
    zero, top, *others = game.equilibria()
    np.testing.assert_allclose(-jacobian(game, zero), [[-0.85, 1], [-1, 1.15]], atol=1e-12)
    np.testing.assert_allclose(-jacobian(game, top), [[-1.15, 1], [-1, 0.85]], atol=1e-12)
    for point, critical in ((zero, 0.85 / 1.15), (top, 1.15 / 0.85)):
        for tau, stable in ((critical * 0.99, False), (critical * 1.01, True)):
            assert (spectrum(game, point, (1.0, tau)).real.max() < 0) == stable
    assert len(others) == 4
    for point in others:
        assert all(spectrum(game, point, (1.0, tau)).real.max() > 0 for tau in (1.1, 10.0))


@eqx.filter_jit
def newton(game, starts):
    """Where Newton's method ends from each start, and how large the field is there."""

    def field(z):
        return jnp.stack(game.field((z[0], z[1])))

    def step(_, z):
        return z - jnp.linalg.solve(jax.jacfwd(field)(z), field(z))

    ends = jax.vmap(lambda z: jax.lax.fori_loop(0, 30, step, z))(starts)
    return ends, jnp.max(jnp.abs(jax.vmap(field)(ends)), axis=1)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_torus_lists_all_its_equilibria(a, b):
    assume(min(abs(a), abs(b)) > 0.05)
    cosine = (b**2 - a**2 - a**2 * b**2) / (2 * a**2 * b)
    assume(abs(abs(cosine) - 1) > 1e-2)
    game = Torus(a, b)
    points = np.array(game.equilibria(), float)
    assert len(points) == (6 if abs(cosine) < 1 else 4)
    for point in points:
        np.testing.assert_allclose(field_of(game, scalars(*point)), 0, atol=1e-12)
    # Newton's method from a grid finds no others.
    angles = np.linspace(-np.pi, np.pi, 9)[1:] - 0.1234
    starts = jnp.asarray(np.stack(np.meshgrid(angles, angles), -1).reshape(-1, 2))
    ends, residual = newton(game, starts)
    for end in np.asarray(ends)[residual < 1e-12]:
        gap = (end - points + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(gap).max(axis=1).min() < 1e-4


def test_polynomial_game_has_eleven_critical_points_and_three_local_minimax_points():
    game = PolynomialGame()
    points = game.equilibria()
    assert len({tuple(map(float, point)) for point in points}) == 11
    nash, minimax = [], []
    for point in points:
        np.testing.assert_allclose(field_of(game, point), 0, atol=1e-12)
        (a, b), (_, minus_c) = -jacobian(game, point)
        nash.append(a > 0 and minus_c > 0)
        minimax.append(minus_c > 0 and a + b**2 / minus_c > 0)
    assert nash == [True] + [False] * 10
    assert minimax == [True] * 3 + [False] * 8
    for point in points[1:3]:
        assert abs(spectrum(game, point).real).max() < 1e-9
        assert spectrum(game, point, (1.0, 1.1)).real.max() < 0
    for point in points[3:]:
        assert all(spectrum(game, point, (1.0, tau)).real.max() > 0 for tau in (1.1, 20.0))


def test_spurious_attractor_has_one_nash_equilibrium_and_one_spurious_attractor():
    game = SpuriousAttractor()
    nash, spurious, unstable = game.equilibria()
    np.testing.assert_allclose(nash, [-2 - 2**0.5, 2 + 2**0.5], rtol=1e-14)
    np.testing.assert_allclose(jacobian(game, nash)[1, 1], -2 - 4 * 2**0.5 + 2, rtol=1e-12)
    assert_same_set(spectrum(game, spurious), [-1 + 7**0.5 * 1j, -1 - 7**0.5 * 1j])
    assert jacobian(game, spurious)[1, 1] > 0
    assert_same_set(spectrum(game, unstable), [-1.876, 3.533], 1e-3)


def test_planar_quadratic_instances_are_what_their_names_say():
    attracting = PlanarQuadratic.attracting_without_nash()
    players = scalars(0.3, -0.7)
    x, y = players
    np.testing.assert_allclose(losses_of(attracting, players)[0], -(x**2) / 8 - y**2 / 2 + 0.6 * x * y, rtol=1e-12)
    step = np.eye(2) + 0.1 * jacobian(attracting, players)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(step)).max(), 0.98, atol=5e-3)
    minimax = PlanarQuadratic.minimax_without_nash()
    np.testing.assert_allclose(losses_of(minimax, players)[0], -(x**2) + 5 * x * y - y**2, rtol=1e-12)
    assert abs(spectrum(minimax, players).real).max() < 1e-12
    assert spectrum(minimax, players, (1.0, 1.01)).real.max() < 0
    none = PlanarQuadratic.without_minimax()
    np.testing.assert_allclose(losses_of(none, players)[0], y**2 - 2 * x * y, rtol=1e-12)
    # The largest stable step of the default game.
    values = spectrum(PlanarQuadratic(), players)
    np.testing.assert_allclose((-2 * values.real / np.abs(values) ** 2).min(), 0.192771, rtol=1e-5)


def test_sine_minimax_points_are_not_stationary():
    game = SineMinimax()
    top = scalars(0.0, np.pi)
    np.testing.assert_allclose(losses_of(game, top)[0], 1.0)
    np.testing.assert_allclose(field_of(game, top)[0], -0.2 * np.pi)
    x, y = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-2 * np.pi, 2 * np.pi, 801))
    best = np.asarray(game.losses((jnp.asarray(x), jnp.asarray(y)))[0]).max(axis=0)
    assert best.argmin() == 20 and abs(best.min() - 1) < 1e-9
    assert spectrum(game, game.equilibria()[0]).real.max() > 0


def runge_kutta(game, players, step, count):
    vector, field = flat_field(game, players)

    def one(z, _):
        k1 = field(z)
        k2 = field(z + step / 2 * k1)
        k3 = field(z + step / 2 * k2)
        k4 = field(z + step * k3)
        new = z + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return new, new

    return np.asarray(jax.jit(lambda z: jax.lax.scan(one, z, length=count))(vector)[1])


def test_forsaken_attracts_weakly_inside_an_attracting_cycle():
    game = Forsaken()
    (point,) = game.equilibria()
    assert_same_set(spectrum(game, point), [-0.044746 + 0.908028j, -0.044746 - 0.908028j], 1e-5)
    second = jacobian(game, point)
    assert -second[0, 0] > 0 and second[1, 1] > 0  # convex in x and convex in y
    centre = np.array(point, float)
    near = runge_kutta(game, scalars(centre[0] + 0.05, centre[1]), 0.05, 4000)
    assert np.linalg.norm(near[-1] - centre) < 1e-3
    far = runge_kutta(game, scalars(1.0, 0.5), 0.05, 4000)
    last = np.linalg.norm(far[2000:] - centre, axis=1)
    assert last.min() > 0.5 and last.max() < 2


def test_almost_bilinear_has_a_cycle_of_the_averaged_radius():
    game = AlmostBilinear(0.01)
    assert spectrum(game, game.equilibria()[0]).real.min() > 0
    for start in (0.8, 1.6):
        path = runge_kutta(game, scalars(start, 0.0), 0.1, 15_000)
        np.testing.assert_allclose(np.linalg.norm(path[-200:], axis=1).mean(), (4 / 3) ** 0.5, atol=5e-3)


def test_ttur_toy_noise_moves_the_field_only_when_a_key_is_given():
    game = TTURToy(2.0)
    players = scalars(0.5, -0.4)
    (point,) = game.equilibria()
    np.testing.assert_allclose(jacobian(game, point), np.diag([-200.0, -2.0]), atol=1e-12)
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = np.stack(jax.vmap(lambda key: jnp.stack(game.field(players, key)))(keys))
    np.testing.assert_allclose(draws.mean(axis=0), field_of(game, players), atol=0.15)
    np.testing.assert_allclose(draws.std(axis=0), 2.0, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(draws.T)[0, 1], 0, atol=0.05)
    calm = TTURToy(0.0)
    np.testing.assert_allclose(field_of(calm, players, keys[0]), field_of(calm, players))


# ---------------------------------------------------------------- the neural GAN and pytree players


def test_ring_gan_is_deterministic_without_a_key_and_random_with_one():
    game, players = RingGAN.example()
    one, two = (np.array(losses_of(game, players)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    drawn = [np.array(losses_of(game, players, jax.random.key(seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    again = losses_of(RingGAN.example()[0], players)
    np.testing.assert_array_equal(one, np.array(again))


def test_ring_gan_takes_objectives_penalties_and_a_jacobian():
    game = RingGAN(
        jax.random.key(0), modes=3, latents=4, width=3, depth=1, objective=dy.objectives.Wasserstein(),
        penalty=dy.penalties.R1(0.5), noise=dy.distributions.normal(jnp.zeros(2), 0.1, nodes=2),
    )  # fmt: skip
    players = game.start(jax.random.key(1))
    assert isinstance(game.objective, dy.objectives.Wasserstein)
    matrix = jacobian(game, players)
    assert matrix.shape == (30, 30) and np.all(np.isfinite(matrix))
    # The last bias of a Wasserstein critic changes no difference of scores.
    np.testing.assert_allclose(matrix[-1], 0, atol=1e-12)


@pytest.mark.parametrize("name", ["DiracGAN", "LinearWasserstein", "Covariance", "RingGAN"])
def test_gan_is_the_same_game_written_out(name):
    game, players = GAMES[name].example()
    for found, expected in zip(game.gan().losses(players), losses_of(game, players)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ring_gan_trains_uphill_for_the_discriminator():
    game, players = RingGAN.example()

    def step(discriminator, _):
        v = field_of(game, (players[0], discriminator))[1]
        return jax.tree.map(lambda x, d: x + 0.1 * d, discriminator, v), game.losses((players[0], discriminator))[1]

    _, losses = jax.jit(lambda d: jax.lax.scan(step, d, length=50))(players[1])
    assert np.all(np.diff(losses) < 0)


def test_games_from_losses_take_pytrees():
    def losses(players, key=None):
        x, y = players
        value = jnp.sum(x["a"] * y[0]) + x["b"] ** 2 * y[1]
        return value, -value

    game = dy.Game.from_losses(losses)
    x, y = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(3.0)}, [jnp.asarray([0.5, -1.0]), jnp.asarray(2.0)]
    vx, vy = field_of(game, (x, y))
    np.testing.assert_allclose(vx["a"], [-0.5, 1.0])
    np.testing.assert_allclose(vx["b"], -12.0)
    np.testing.assert_allclose(vy[0], [1.0, 2.0])
    np.testing.assert_allclose(vy[1], 9.0)


@given(numbers, numbers)
def test_bilinear_and_its_zero_sum_twin_agree(x, y):
    matrix = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    players = (jnp.asarray([x, 1.0]), jnp.asarray([y, -1.0, 2.0]))
    twin = Quadratic.zero_sum(np.zeros((2, 2)), matrix, np.zeros((3, 3)))
    by_hand = (-matrix @ np.asarray(players[1]), matrix.T @ np.asarray(players[0]))
    for game in (Bilinear(matrix), twin):
        for found, expected in zip(field_of(game, players), by_hand):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    s = np.linalg.svd(matrix)[1]
    assert_same_set(spectrum(twin, players), [1j * s[0], -1j * s[0], 1j * s[1], -1j * s[1], 0])


def test_players_given_as_lists_of_numbers_get_advice():
    """A list is a pytree of numbers; who meant a vector is told how to write one."""
    game = dy.Game.from_losses(lambda players, key=None: (players[0] @ players[1], -players[0] @ players[1]))
    lists, update = ([1.0, 2.0], [3.0, 4.0]), dy.updates.Simultaneous(dy.optimisers.sgd(0.1), dy.optimisers.sgd(0.1))
    with pytest.raises(ValueError, match=r"Player 0 is a list of 2 numbers, .* jnp.array"):
        dy.simulate(game, update, lists, steps=3)
    with pytest.raises(ValueError, match=r"expects \(\(2,\), \(2,\)\). Player 0 is a list of 2 numbers"):
        dy.simulate(Bilinear(np.eye(2)), update, lists, steps=3)
    with pytest.raises(TypeError) as caught:
        dy.find_equilibrium(game, lists)
    assert any("Player 0 is a list of 2 numbers" in note for note in caught.value.__notes__)
    taken = dy.Game.from_losses(lambda players, key=None: (players[0][0] ** 2 + players[0][1] ** 2, players[1] ** 2))
    assert len(dy.simulate(taken, update, ([1.0, 2.0], 3.0), steps=3).final[0]) == 2
