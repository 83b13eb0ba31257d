"""All Nash equilibria of matrix games against closed forms, and against the inequality that defines them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynamics as dy
from dynamics.games import MatchingPennies, MatrixGame, RockPaperScissors, Shapley


def as_set(found, digits=9):
    return {tuple(tuple(np.round(np.asarray(p), digits).tolist()) for p in point) for point in found}


def rounded(points, digits=9):
    return {tuple(tuple(np.round(np.asarray(p, float), digits).tolist()) for p in point) for point in points}


CLOSED_FORMS = {
    "matching pennies": (MatchingPennies("mixed"), [((0.5, 0.5), (0.5, 0.5))]),
    "rock, paper, scissors": (RockPaperScissors(1.0, "mixed"), [((0.25, 0.5, 0.25),) * 2]),
    "Shapley": (Shapley("mixed"), [((1 / 3,) * 3,) * 2]),
    "battle of the sexes": (
        MatrixGame([[3.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [0.0, 3.0]]),
        [((1, 0), (1, 0)), ((0, 1), (0, 1)), ((0.6, 0.4), (0.4, 0.6))],
    ),
    "prisoner's dilemma": (MatrixGame([[3.0, 0.0], [5.0, 1.0]], [[3.0, 5.0], [0.0, 1.0]]), [((0, 1), (0, 1))]),
    "chicken": (
        MatrixGame([[0.0, 7.0], [2.0, 6.0]], [[0.0, 2.0], [7.0, 6.0]]),
        [((1, 0), (0, 1)), ((0, 1), (1, 0)), ((1 / 3, 2 / 3), (1 / 3, 2 / 3))],
    ),
    "inspection, unequal": (  # x makes 3 y0 = 2 y1, y makes x0 = 4 x1 with x of player 0
        MatrixGame([[3.0, 0.0], [0.0, 2.0]], [[-1.0, 0.0], [0.0, -4.0]]),
        [((0.8, 0.2), (0.4, 0.6))],
    ),
    "2 x 3, one action dominated": (
        MatrixGame([[1.0, -1.0, -5.0], [-1.0, 1.0, -6.0]], [[-1.0, 1.0, -9.0], [1.0, -1.0, -8.0]]),
        [((0.5, 0.5), (0.5, 0.5, 0.0))],
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    game, expected = CLOSED_FORMS[name]
    found = game.nash_equilibria()
    assert as_set(found) == rounded(expected) and len(found) == len(expected)
    assert not found.degenerate and found.components == tuple((i,) for i in range(len(expected)))
    assert max(found.gaps) < 1e-12 and all(float(game.duality_gap(point)) < 1e-12 for point in found)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_coordination(size):
    """The identity has an equilibrium for every set of actions, uniform on it: 2^n - 1, 7 for three actions."""
    found = MatrixGame(np.eye(size), np.eye(size)).nash_equilibria()
    sets = [s for k in range(1, size + 1) for s in itertools.combinations(range(size), k)]
    uniform = [tuple(float(i in s) / len(s) for i in range(size)) for s in sets]
    assert as_set(found) == rounded([(p, p) for p in uniform]) and len(found) == 2**size - 1
    assert [np.count_nonzero(x) for x, _ in found] == sorted(np.count_nonzero(x) for x, _ in found)


def by_supports(first, second):
    """Support enumeration for games that are not degenerate, by another way: equations on every pair of supports."""
    found = []
    rows, columns = first.shape
    for size in range(1, min(rows, columns) + 1):
        for own in itertools.combinations(range(rows), size):
            for other in itertools.combinations(range(columns), size):
                chances = []
                for payoffs in (second.T[np.ix_(other, own)], first[np.ix_(own, other)]):
                    system = np.block([[payoffs, -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
                    chances.append(np.linalg.solve(system, np.eye(size + 1)[-1])[:-1])
                x, y = np.zeros(rows), np.zeros(columns)
                x[list(own)], y[list(other)] = chances
                gap = np.max(first @ y) - x @ first @ y + np.max(x @ second) - x @ second @ y
                if min(x.min(), y.min()) >= 0 and gap < 1e-9:
                    found.append((x, y))
    return found


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_random_games(seed, rows, columns):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-3, 4)
    first, second = scale * rng.normal(size=(2, rows, columns)) + rng.normal()
    found = MatrixGame(first, second).nash_equilibria()
    assert as_set(found, 7) == rounded(by_supports(first, second), 7)
    assert len(found) % 2 == 1 and not found.degenerate and len(found.components) == len(found)
    for (x, y), gap in zip(found, found.gaps, strict=True):  # the inequality, action by action
        assert np.all(first @ y <= x @ first @ y + 1e-9 * scale) and np.all(x @ second <= x @ second @ y + 1e-9 * scale)
        assert abs(gap) < 1e-9 * scale and np.isclose(x.sum(), 1) and np.isclose(y.sum(), 1)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_degenerate_games(seed):
    """Payoffs of a few whole numbers: every pure equilibrium is there, and what is returned are equilibria."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, size=2))
    first, second = rng.integers(0, 3, size=(2, *shape)).astype(float)
    found = MatrixGame(first, second).nash_equilibria()
    assert len(found) and max(abs(gap) for gap in found.gaps) < 1e-12
    pure = {(i, j) for i in range(shape[0]) for j in range(shape[1])
            if first[i, j] == first[:, j].max() and second[i, j] == second[i].max()}  # fmt: skip
    assert pure == {(int(np.argmax(x)), int(np.argmax(y))) for x, y in found if x.max() == y.max() == 1}
    assert sorted(i for part in found.components for i in part) == list(range(len(found)))
    assert found.degenerate or len(found) % 2 == 1
    for part in found.components:  # neighbours share a player's mixture: all between them are equilibria too
        for i, j in itertools.combinations(part, 2):
            (a, b), (c, d) = found[i], found[j]
            if np.array_equal(a, c) or np.array_equal(b, d):
                x, y = (a + c) / 2, (b + d) / 2
                assert np.max(first @ y) - x @ first @ y + np.max(x @ second) - x @ second @ y < 1e-12


def test_a_degenerate_game_with_a_segment_of_equilibria():
    """Player 0 does not care; player 1 goes left while x0 >= 1/2 and right while x0 <= 1/2."""
    found = MatrixGame([[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]).nash_equilibria()
    assert found.degenerate and len(found.components) == 1
    assert as_set(found) == rounded([((1, 0), (1, 0)), ((0.5, 0.5), (1, 0)), ((0.5, 0.5), (0, 1)), ((0, 1), (0, 1))])
    assert found.describe().startswith("degenerate game, 4 extreme equilibria in 1 connected sets")


def test_zero_sum_games_have_the_value_of_the_linear_program():
    scipy_optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for shape in ((3, 4), (4, 2), (5, 5)):
        payoffs = rng.normal(size=shape)
        rows, columns = shape
        best = scipy_optimize.linprog(  # the largest v with A'x >= v
            np.r_[np.zeros(rows), -1.0], np.c_[-payoffs.T, np.ones(columns)], np.zeros(columns),
            [np.r_[np.ones(rows), 0.0]], [1.0], [(0, None)] * rows + [(None, None)],
        )  # fmt: skip
        (point,) = MatrixGame(payoffs).nash_equilibria()
        np.testing.assert_allclose(point[0] @ payoffs @ point[1], best.x[-1], rtol=1e-9)


def test_find_equilibria_of_matrix_games():
    sexes, _ = CLOSED_FORMS["battle of the sexes"]
    found = dy.find_equilibria(sexes, ((0, 0), (1, 1)))
    assert as_set(one.players for one in found) == as_set(sexes.nash_equilibria())
    assert all(one.residual < 1e-12 and np.isfinite(one.condition) for one in found)
    inner = dy.find_equilibria(sexes, ((0.1, 0.1), (0.9, 0.9)))
    assert as_set(one.players for one in inner) == rounded([((0.6, 0.4), (0.4, 0.6))])
    with pytest.raises(ValueError, match=r"player 0 of the box has shape \(3,\); this game has \(2,\)"):
        dy.find_equilibria(sexes, ((np.zeros(3), 0), (np.ones(3), 1)))


def test_points_at_which_the_field_vanishes():
    """With logits the equilibrium in which all actions are played; with mixed strategies only where the field is 0."""
    sexes, _ = CLOSED_FORMS["battle of the sexes"]
    logits = MatrixGame(sexes.first, sexes.second, "logits")
    (point,) = logits.equilibria()
    for chances, expected in zip(logits.mixture(point), ((0.6, 0.4), (0.4, 0.6)), strict=True):
        np.testing.assert_allclose(chances, expected, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate(logits.field(point)), 0, atol=1e-14)
    assert sexes.equilibria() == ()  # A y = 1.2 for both actions
    (pennies,) = MatrixGame([[1.0, -1.0], [-1.0, 1.0]]).equilibria()
    np.testing.assert_array_equal(pennies, [[0.5, 0.5], [0.5, 0.5]])
    assert MatrixGame([[3.0, 0.0], [5.0, 1.0]], [[3.0, 5.0], [0.0, 1.0]], "logits").equilibria() == ()
    given_one = MatrixGame(sexes.first, sexes.second, "logits", [(jnp.zeros(2), jnp.zeros(2))])
    assert float(given_one.equilibria()[0][0][0]) == 0  # what was given is kept


def test_refusals_and_tracing():
    with pytest.raises(ValueError, match="11 x 11 actions has 705432 candidates"):
        MatrixGame(np.zeros((11, 11))).nash_equilibria()

    def inside(matrix):
        game = MatrixGame(matrix)
        assert game.equilibria() == ()
        game.nash_equilibria()

    with pytest.raises(ValueError, match="not known while a program is traced"):
        jax.jit(inside)(jnp.eye(2))


def test_single_precision_and_ten_actions():
    game = MatrixGame(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    assert {p.dtype.name for point in game.nash_equilibria() for p in point} == {"float32"}
    rng = np.random.default_rng(1)
    found = MatrixGame(rng.normal(size=(7, 9)), rng.normal(size=(7, 9))).nash_equilibria()
    assert len(found) % 2 == 1 and max(found.gaps) < 1e-12
