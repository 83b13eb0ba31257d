"""Directions against the same formulas written out in NumPy, on a game without symmetry."""

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.catalogue import members
from dynamics.directions import Consensus, Gradient, SymplecticAdjustment

PLAYERS = (2, 3)
DTYPES = (np.float32, np.float64)
POINTS = np.random.default_rng(7).normal(size=(12, 6))

evaluate = eqx.filter_jit(lambda direction, game, players, key=None: direction(game, players, key))


def by_hand(direction, players):
    game = asymmetric.ByHand(players)
    if isinstance(direction, Gradient):
        return game.field
    weight = float(direction.weight)
    if isinstance(direction, Consensus):
        return lambda z: game.consensus(z, weight)
    return lambda z: game.symplectic(z, weight, direction.align, float(direction.epsilon))


@pytest.mark.parametrize("players, dtype", [(2, np.float64), (3, np.float64), (3, np.float32)])
@pytest.mark.parametrize(
    "direction",
    [
        Gradient(),
        Consensus(0.3),
        Consensus(0.0),
        SymplecticAdjustment(0.7),
        SymplecticAdjustment(0.7, align=False),
        SymplecticAdjustment(0.7, epsilon=0.0),
    ],
    ids=["gradient", "consensus", "consensus-0", "symplectic", "symplectic-unaligned", "symplectic-epsilon-0"],
)
def test_formula(direction, players, dtype):
    game, expected = asymmetric.make(players), by_hand(direction, players)
    for z in POINTS[:6, : sum(asymmetric.SIZES[players])]:
        point = asymmetric.pack(z, dtype)
        found = evaluate(direction, game, point)
        assert jax.tree.structure(found) == jax.tree.structure(point)
        asymmetric.same(found, expected(z), dtype, scale=0.1)


def test_alignment_takes_both_signs():
    """Otherwise the comparison above would not notice a missing alignment."""
    game = asymmetric.ByHand(2)
    plain = [game.symplectic(z[:5], 0.7, False) for z in POINTS]
    aligned = [game.symplectic(z[:5], 0.7, True) for z in POINTS]
    agree = [np.allclose(a, b) for a, b in zip(plain, aligned)]
    assert any(agree) and not all(agree)


def test_the_jacobian_of_the_game_is_not_normal():
    jacobian = asymmetric.ByHand(2).jacobian(POINTS[0, :5])
    assert np.linalg.norm(jacobian @ jacobian.T - jacobian.T @ jacobian) > 1


def test_the_field_by_hand_is_minus_the_gradient_of_the_losses_by_hand():
    game, z, h = asymmetric.ByHand(3), POINTS[0], 1e-6
    quotients = np.array([(game.losses(z + h * e) - game.losses(z - h * e)) / (2 * h) for e in np.eye(6)])
    for player, part in enumerate(game.parts):
        np.testing.assert_allclose(game.field(z)[part], -quotients[part, player], atol=1e-8)
    quotients = np.array([(game.field(z + h * e) - game.field(z - h * e)) / (2 * h) for e in np.eye(6)]).T
    np.testing.assert_allclose(game.jacobian(z), quotients, atol=1e-8)


LONG = ("CompetitiveGradient", "Stackelberg")  # to compile


@pytest.mark.slow_cases(
    "2-FollowTheRidge",
    "2-CurvatureExploitation",
    "2-DriftRegularisation",
    "2-LocalSymplecticSurgery",
    "2-LOLA",
    "2-SOS",
    "2-Unrolled",
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in members("directions")]
)
@pytest.mark.parametrize("players", [2])
def test_conformance(name, players):
    """Structure, precision, vmap, and a key that decides everything."""
    direction, game = members("directions")[name](), asymmetric.make(players)
    for dtype in DTYPES:
        point = asymmetric.start(players, dtype)
        found = evaluate(direction, game, point)
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, point)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(dtype)}
    key, other = jax.random.split(jax.random.key(0))
    sampled = evaluate(direction, game, point, key)
    assert eqx.tree_equal(sampled, evaluate(direction, game, point, key))
    assert not eqx.tree_equal(sampled, evaluate(direction, game, point, other))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), point)
    together = eqx.filter_jit(jax.vmap(lambda point: direction(game, point)))(batch)
    one = evaluate(direction, game, jax.tree.map(lambda leaf: leaf[1], batch))
    asymmetric.same(jax.tree.map(lambda leaf: leaf[1], together), asymmetric.flat(one))


@pytest.mark.slow_cases("LocalSymplecticSurgery", "CompetitiveGradient", "Natural", "Noisy", "Stackelberg")
@pytest.mark.parametrize("name", members("directions"))
def test_at_an_equilibrium_nobody_wants_to_move(name):
    found = members("directions")[name]()(dy.games.Bilinear([[1.0, 2.0], [0.0, 1.0]]), (jnp.zeros(2), jnp.zeros(2)))
    assert not np.any(asymmetric.flat(found))


def test_the_jacobian_of_consensus_at_an_equilibrium():
    """A - gamma A'A, a closed form (Mescheder, Nowozin, Geiger 2017)."""
    matrix = np.array([[1.0, 2.0, 0.3], [-0.5, 0.7, 1.1]])
    game, gamma = dy.games.Bilinear(matrix), 0.3
    a = np.block([[np.zeros((2, 2)), -matrix], [matrix.T, np.zeros((3, 3))]])

    def function(z):
        return jnp.concatenate(Consensus(gamma)(game, (z[:2], z[2:])))

    np.testing.assert_allclose(jax.jacfwd(function)(jnp.zeros(5)), a - gamma * a.T @ a, atol=1e-14)


def test_symplectic_adjustment_of_a_zero_sum_game_descends_the_other_norm():
    """For f = x'Ay the adjustment is A A'x / A'A y (Balduzzi et al. 2018): consensus without the own part."""
    matrix = np.array([[1.0, 2.0, 0.3], [-0.5, 0.7, 1.1]])
    game, x, y = dy.games.Bilinear(matrix), np.array([1.0, -2.0]), np.array([0.5, 0.1, 3.0])
    found = SymplecticAdjustment(0.4, align=False)(game, (jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(found[0], -matrix @ y - 0.4 * matrix @ matrix.T @ x, rtol=1e-12)
    np.testing.assert_allclose(found[1], matrix.T @ x - 0.4 * matrix.T @ matrix @ y, rtol=1e-12)


@pytest.mark.parametrize(
    "make", [lambda: Consensus(-1.0), lambda: Consensus(np.nan), lambda: SymplecticAdjustment(-0.1)]
)
def test_numbers_out_of_bounds(make):
    with pytest.raises(ValueError, match=r"is (nan|-\d.*); expected a finite number >= 0"):
        make()
