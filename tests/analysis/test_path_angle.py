"""The angle between the field and the way between two points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from tests.training.trainings import small


@pytest.mark.slow
@given(st.integers(0, 10**6))
def test_a_linear_field_has_the_known_cosine(seed):
    random = np.random.default_rng(seed)
    matrix, way, end = random.normal(size=(5, 5)), random.normal(size=5), random.normal(size=5)

    def losses(players, key=None):
        z = jnp.concatenate([players[0], players[1]["b"]]) - end
        pull = jax.lax.stop_gradient(matrix @ z)
        return players[0] @ pull[:2], players[1]["b"] @ pull[2:]

    game = dy.Game.from_losses(losses)
    start = end - way
    result = dy.path_angle(game, (start[:2], {"b": start[2:]}), (end[:2], {"b": end[2:]}), points=24)
    expected = way @ matrix @ way / np.linalg.norm(way) / np.linalg.norm(matrix @ way)
    np.testing.assert_allclose(result.cosines, np.sign(1 - result.positions) * expected, atol=1e-9)
    np.testing.assert_allclose(result.norms, np.abs(1 - result.positions) * np.linalg.norm(matrix @ way), rtol=1e-8)
    assert result.attraction == pytest.approx(2 * expected, abs=1e-9) and abs(result.bump) < 1e-9


def test_a_field_that_goes_round_has_a_bump_beside_its_centre():
    result = dy.path_angle(dy.games.Bilinear(1.0), (1.0, -0.05), (0.0, -0.05))
    assert result.bump == pytest.approx(-1, abs=0.03) or result.bump == pytest.approx(1, abs=0.03)
    assert abs(result.attraction) < 0.1 and "bump" in result.describe()


@pytest.mark.slow_cases("float32", "float64")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_networks_and_minibatches(dtype):
    game, update, players, _ = small(dtype)
    run = dy.simulate(game, update, players, steps=20, save_every="last")
    key = jax.random.key(1)
    exact, drawn = (dy.path_angle(game, players, run.state, points=5, key=k) for k in (None, key))
    assert exact.positions[0] == pytest.approx(-0.1) and exact.cosines.shape == (5,)
    assert np.all(np.abs(exact.cosines) <= 1 + 1e-6) and not np.array_equal(exact.norms, drawn.norms)
    field = game.field(players, key)
    assert dy.path_angle(game, players, run.final, points=2, interval=(0, 1), key=key).norms[0] == pytest.approx(
        float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(field)))), rel=1e-5
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (((1.0, 1.0), (1.0, 1.0)), "the same point"),
        (((1.0, 1.0), (jnp.ones(2), 1.0)), "different pytrees"),
    ],
)
def test_points_that_make_no_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        dy.path_angle(dy.games.Bilinear(1.0), *arguments)
    with pytest.raises(ValueError, match="interval is"):
        dy.path_angle(dy.games.Bilinear(1.0), (0.0, 0.0), (1.0, 1.0), interval=(1, 0))
