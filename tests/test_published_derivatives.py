"""Derivatives in published code that are not those of what they stand for; `docs/corrections.md` names whose they are.

Each formula is written here as mathematics. Ours and theirs are held against finite differences: ours agrees, theirs
does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics import analysis
from dynamics.directions import HamiltonianDescent, Stackelberg

STEP = 1e-6


def differences(function, point):
    """Central difference quotients, a column for each coordinate."""
    point = np.asarray(point, float)
    columns = [
        (np.asarray(function(point + STEP * unit)) - np.asarray(function(point - STEP * unit))) / (2 * STEP)
        for unit in np.eye(len(point))
    ]
    return np.stack(columns, axis=-1)


def three_and_two():
    """A game of players of two and three numbers, not zero-sum, with a Jacobian that is not symmetric."""
    mixed = jnp.array([[1.0, -0.5, 0.25], [0.5, 2.0, -1.0]])

    def losses(players, key=None):
        x, y = players
        return x @ mixed @ y + jnp.sum(x**4) / 4, jnp.sin(x[0]) * y[1] - 2 * x @ mixed @ y + jnp.sum(y**2)

    return dy.Game.from_losses(losses), (jnp.array([0.3, -0.7]), jnp.array([0.2, 0.5, -0.4]))


def flat_field(game, sizes):
    """The field as a function of all numbers in a row."""
    cuts = np.cumsum(sizes)[:-1]
    compiled = jax.jit(lambda players: jnp.concatenate(game.field(players)))
    return lambda z: compiled(tuple(map(jnp.asarray, np.split(z, cuts))))


def test_half_the_squared_field_has_no_further_half():
    """On the Dirac-GAN, where v = (-y f'(xy), x f'(xy)): consensus with 1/2 before f' f'' is another vector."""
    x, y = 1.3, -0.8
    slope = 1 / (1 + np.exp(x * y))  # f(t) = -log(1 + e^-t)
    bend = -slope * (1 - slope)

    def half_square(z):
        s = 1 / (1 + np.exp(z[0] * z[1]))
        return [(z[0] ** 2 + z[1] ** 2) * s**2 / 2]

    def gradient(factor):
        size = factor * (x**2 + y**2) * slope * bend
        return np.array([x * slope**2 + size * y, y * slope**2 + size * x])

    expected = differences(half_square, [x, y])[0]
    ours = -np.array(HamiltonianDescent()(dy.games.DiracGAN(dy.objectives.Minimax()), (jnp.asarray(x), jnp.asarray(y))))
    np.testing.assert_allclose(ours, expected, rtol=1e-8)
    np.testing.assert_allclose(gradient(1.0), expected, rtol=1e-8)
    assert np.linalg.norm(gradient(0.5) - expected) > 0.1 * np.linalg.norm(expected)


def test_a_product_with_the_jacobian_is_not_one_with_its_transpose():
    game, players = three_and_two()
    jacobian = differences(flat_field(game, (2, 3)), np.concatenate(players))
    vector = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    operator = analysis.FieldOperator(game, players)
    np.testing.assert_allclose(operator @ vector, jacobian @ vector, atol=1e-8)
    np.testing.assert_allclose(operator.transposed() @ vector, jacobian.T @ vector, atol=1e-8)
    assert np.linalg.norm(jacobian.T @ vector - jacobian @ vector) > 1


def test_a_jacobian_has_a_row_for_every_number_of_every_player():
    """With one row per player, the matrix has no eigenvalues."""
    game, players = three_and_two()
    jacobian = np.asarray(analysis.FieldOperator(game, players).as_matrix())
    assert jacobian.shape == (5, 5)
    last_rows = jacobian[[1, 4]]
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.eigvals(last_rows)


def test_who_moves_second_does_not_differentiate_through_the_first_move():
    """The second player's gradient is at the new position of the first one, which is held fixed."""
    game, (x, y) = three_and_two()
    rates = 0.2, 0.3
    field = flat_field(game, (2, 3))
    moved = np.asarray(x) + rates[0] * np.asarray(field(np.concatenate([x, y])))[:2]
    loss = jax.jit(lambda x, y: game.losses((x, y))[1])
    held = differences(lambda z: [loss(moved, z)], y)[0]
    through = differences(
        lambda z: [loss(np.asarray(x) + rates[0] * np.asarray(field(np.concatenate([x, z])))[:2], z)], y
    )[0]
    update = dy.updates.Alternating(*map(dy.optimisers.sgd, rates))
    after = update.step(game, update.init(game, (x, y))).players
    np.testing.assert_allclose(after[0], moved, rtol=1e-12)
    np.testing.assert_allclose(after[1], np.asarray(y) - rates[1] * held, rtol=1e-7)
    assert np.linalg.norm(through - held) > 0.1


def test_the_cross_derivative_of_the_polynomial_game():
    """f = -E g, E = exp(-(x^2+y^2)/100): f_xy = -E (g_xy - x g_y/50 - y g_x/50 + xy g/2500) has y in the last term."""
    x, y = -9.0, -7.0
    a, b = 0.3 * x**2 + y, 0.3 * y**2 + x
    g, g_x, g_y = a**2 + b**2, 1.2 * a * x + 2 * b, 2 * a + 1.2 * b * y
    g_xy = 1.2 * x + 1.2 * y
    bell = np.exp(-(x**2 + y**2) / 100)

    def cross(last):
        return -bell * (g_xy - x * g_y / 50 - y * g_x / 50 + last / 2500)

    game = dy.games.PolynomialGame()
    field = jax.jit(lambda players: jnp.stack(game.field(players)))
    jacobian = differences(lambda z: field((jnp.asarray(z[0]), jnp.asarray(z[1]))), [x, y])
    np.testing.assert_allclose(cross(x * y * g), -jacobian[0, 1], rtol=1e-7)
    assert abs(cross(x * g) - cross(x * y * g)) > 0.1 * abs(cross(x * y * g))
    # The leader's gradient, f_x - f_xy f_y / f_yy, takes it over.
    f_x, f_y, f_yy = -float(field((x, y))[0]), float(field((x, y))[1]), jacobian[1, 1]
    ours = Stackelberg()(game, (jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(-ours[0], f_x - cross(x * y * g) * f_y / f_yy, rtol=1e-6)
    assert abs(-ours[0] - (f_x - cross(x * g) * f_y / f_yy)) > 1e-3 * abs(ours[0])


def test_the_threshold_of_time_scales_multiplies_the_fast_players_rows():
    """Of one and three numbers; taken for three and one, the same matrix has another threshold."""
    blocks = [[-1.0, [3.0, 1.0, 0.5]], [[-3.0, -1.0, -0.5], np.diag([4.0, 0.7, 0.3])]]
    game = dy.games.Quadratic(blocks)
    jacobian = differences(flat_field_of_scalar_and_vector(game), np.zeros(4))

    def largest(tau, first):
        rows = np.where(np.arange(4) < first, 1.0, tau)[:, None]
        return np.linalg.eigvals(rows * jacobian).real.max()

    tau = dy.timescale_threshold(game).value
    assert largest(0.99 * tau, 1) > 0 > largest(1.01 * tau, 1)
    assert not largest(0.99 * tau, 3) > 0 > largest(1.01 * tau, 3)


def flat_field_of_scalar_and_vector(game):
    compiled = jax.jit(lambda players: jnp.concatenate([jnp.ravel(part) for part in game.field(players)]))
    return lambda z: compiled((jnp.asarray(z[0]), jnp.asarray(z[1:])))


def test_eight_modes_need_eight_angles():
    """Angles from 0 to 2 pi with both ends are seven places."""
    centres = np.asarray(dy.distributions.ring(8).means)
    closed = np.stack([np.cos(angles := np.linspace(0, 2 * np.pi, 8)), np.sin(angles)], axis=1)
    assert [len(np.unique(np.round(places, 9), axis=0)) for places in (centres, closed)] == [8, 7]
