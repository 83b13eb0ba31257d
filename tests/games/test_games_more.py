"""Matrix games, the iterated prisoner's dilemma, Tandem, and games without a point to converge to."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics.games import (
    IteratedPrisonersDilemma,
    Market,
    MatchingPennies,
    MatrixGame,
    RockPaperScissors,
    Shapley,
    Tandem,
    ZeroSumQuartic,
)

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))

field_and_losses = eqx.filter_jit(lambda game, players: (game.field(players), game.losses(players)))


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def scalars(*values):
    return tuple(jnp.asarray(value, float) for value in values)


def softmax(z):
    z = np.asarray(z)
    return np.exp(z) / np.exp(z).sum()


def jacobian(game, players):
    vector, unravel = ravel_pytree(players)
    return np.asarray(jax.jit(jax.jacfwd(lambda z: ravel_pytree(game.field(unravel(z)))[0]))(vector))


# ---------------------------------------------------------------- matrix games


def test_mixed_strategies_follow_the_other_player_s_payoffs():
    players = jnp.asarray([0.3, 0.7]), jnp.asarray([0.2, 0.3, 0.5])
    x, y = (np.asarray(player) for player in players)
    (vx, vy), losses = field_and_losses(MatrixGame(FIRST, SECOND, "mixed"), players)
    np.testing.assert_allclose(vx, FIRST @ y, rtol=1e-14)
    np.testing.assert_allclose(vy, SECOND.T @ x, rtol=1e-14)
    np.testing.assert_allclose(losses, [-x @ FIRST @ y, -x @ SECOND @ y], rtol=1e-14)


def test_logits_are_mixed_by_softmax():
    game = MatrixGame(FIRST, SECOND, "logits")
    players = jnp.asarray([0.3, -0.7]), jnp.asarray([1.2, 0.3, -0.5])
    x, y = softmax(players[0]), softmax(players[1])
    for found, expected in zip(game.mixture(players), (x, y)):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    (vx, vy), losses = field_and_losses(game, players)
    np.testing.assert_allclose(vx, (np.diag(x) - np.outer(x, x)) @ FIRST @ y, rtol=1e-12)
    np.testing.assert_allclose(vy, (np.diag(y) - np.outer(y, y)) @ SECOND.T @ x, rtol=1e-12)
    np.testing.assert_allclose(losses, [-x @ FIRST @ y, -x @ SECOND @ y], rtol=1e-14)


def test_without_a_second_matrix_the_game_is_zero_sum():
    players = jnp.asarray([0.3, 0.7]), jnp.asarray([0.2, 0.3, 0.5])
    losses = MatrixGame(FIRST).losses(players)
    assert float(sum(losses)) == 0
    np.testing.assert_array_equal(losses, MatrixGame(FIRST, -FIRST).losses(players))


def test_the_duality_gap_is_the_gain_of_the_best_pure_responses():
    players = jnp.asarray([0.3, 0.7]), jnp.asarray([0.2, 0.3, 0.5])
    x, y = (np.asarray(player) for player in players)
    gains = [max(np.eye(2)[i] @ FIRST @ y for i in range(2)) - x @ FIRST @ y]
    gains += [max(x @ SECOND @ np.eye(3)[j] for j in range(3)) - x @ SECOND @ y]
    np.testing.assert_allclose(MatrixGame(FIRST, SECOND).duality_gap(players), sum(gains), rtol=1e-14)
    zero_sum = (FIRST @ y).max() - (x @ FIRST).min()
    np.testing.assert_allclose(MatrixGame(FIRST).duality_gap(players), zero_sum, rtol=1e-14)
    logits = tuple(jnp.log(player) for player in players)
    np.testing.assert_allclose(MatrixGame(FIRST, None, "logits").duality_gap(logits), zero_sum, rtol=1e-13)


GAMES = {
    "pennies": (MatchingPennies, [[1, -1], [-1, 1]], None, [0.5, 0.5]),
    "rock": (RockPaperScissors, [[0, -1, 1], [1, 0, -1], [-1, 1, 0]], None, [1 / 3] * 3),
    "biased rock": (
        lambda strategies: RockPaperScissors(0.5, strategies),
        [[0, -1, 1.5], [1, 0, -1], [-1.5, 1, 0]],
        None,
        [2 / 7, 3 / 7, 2 / 7],
    ),
    "Shapley": (Shapley, np.eye(3), [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [1 / 3] * 3),
}


@pytest.mark.slow_cases("biased rock-mixed", "biased rock-logits")
@pytest.mark.parametrize("strategies", ["mixed", "logits"])
@pytest.mark.parametrize("name", GAMES)
def test_named_matrix_games_have_their_matrices_and_nash_equilibria(name, strategies):
    make, first, second, nash = GAMES[name]
    game = make(strategies=strategies)
    inner = game.matrix_game()
    np.testing.assert_array_equal(inner.first, np.asarray(first, float))
    np.testing.assert_array_equal(inner.second, -np.asarray(first, float) if second is None else second)
    if (name, strategies) == ("Shapley", "mixed"):
        assert game.equilibria() == ()
        np.testing.assert_allclose(flat(game.field((jnp.full(3, 1 / 3),) * 2)), 1 / 3, rtol=1e-15)
        return
    (point,) = game.equilibria()
    for chances in game.mixture(point):
        np.testing.assert_allclose(chances, nash, rtol=1e-14)
    field, _ = field_and_losses(game, point)
    np.testing.assert_allclose(flat(field), 0, atol=1e-15)
    assert float(game.duality_gap(point)) < 1e-15
    other = tuple(player.at[0].add(0.3) for player in point)
    assert float(game.duality_gap(other)) > 0.01


def fictitious_play(first, second, rounds):
    """Best responses to the counts of the other's actions from (0, 0), ties to the lowest; the mixtures at the end."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    counts = [np.eye(len(first))[0], np.eye(len(first.T))[0]]
    for _ in range(rounds - 1):
        x, y = np.argmax(first @ counts[1]), np.argmax(counts[0] @ second)
        counts[0][x] += 1
        counts[1][y] += 1
    return tuple(jnp.asarray(count / rounds) for count in counts)


def test_the_gap_of_fictitious_play_is_the_published_one():
    game = MatchingPennies("mixed")
    matrices = np.asarray(game.matrix_game().first), np.asarray(game.matrix_game().second)
    for rounds, gap in ((99, 0.141414), (9_999, 0.0140014)):
        np.testing.assert_allclose(game.duality_gap(fictitious_play(*matrices, rounds)), gap, rtol=1e-5)
    game = Shapley("mixed")
    matrices = np.asarray(game.matrix_game().first), np.asarray(game.matrix_game().second)
    for rounds in (5_000, 12_000):
        assert 0.27 < float(game.duality_gap(fictitious_play(*matrices, rounds))) < 0.29


@pytest.mark.slow
def test_gradient_play_goes_round_in_zero_sum_matrix_games_and_settles_with_extragradient():
    def run(make, **arguments):
        update = make(dy.optimisers.sgd(0.3), dy.optimisers.sgd(0.3), **arguments)
        return dy.simulate(MatchingPennies(), update, MatchingPennies.example()[1], steps=4000, save_every="last")

    away, home = run(dy.updates.Simultaneous), run(dy.updates.Extragradient, extrapolation=0.3)
    assert float(MatchingPennies().duality_gap(away.final)) > 0.3
    assert float(MatchingPennies().duality_gap(home.final)) < 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatrixGame([1.0, 2.0]), r"MatrixGame.first has shape \(2,\); expected \(m, n\)"),
        (lambda: MatrixGame(FIRST, SECOND.T), r"MatrixGame.second has shape \(3, 2\); expected \(2, 3\)"),
        (lambda: MatrixGame([[np.nan]]), "MatrixGame.first holds nan"),
        (lambda: MatrixGame(FIRST, strategies="logit"), "MatrixGame.strategies is 'logit'; did you mean 'logits'"),
        (lambda: MatchingPennies("pure"), "MatchingPennies.strategies is 'pure'; expected one of logits, mixed"),
        (lambda: Shapley(3), "Shapley.strategies is 3"),
        (lambda: RockPaperScissors(-1.0), "RockPaperScissors.bias is -1; expected a finite number > -1"),
        (
            lambda: Shapley().losses((jnp.zeros(3), jnp.zeros(2))),
            r"players have shapes \(\(3,\), \(2,\)\); this game has players of shapes \(\(3,\), \(3,\)\)",
        ),
    ],
)
def test_matrix_games_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------- the iterated prisoner's dilemma

C, D = 40.0, -40.0  # logits of certainty
POLICIES = {
    "cooperate": [C, C, C, C, C],
    "defect": [D, D, D, D, D],
    "tit for tat": [C, C, D, C, D],
    "grim": [C, C, D, D, D],
    "at random": [0.0, 0.0, 0.0, 0.0, 0.0],
}
g = 0.96
VALUES = {
    ("defect", "defect"): (-2 / (1 - g), -2 / (1 - g)),
    ("cooperate", "cooperate"): (-1 / (1 - g), -1 / (1 - g)),
    ("cooperate", "defect"): (-3 / (1 - g), 0.0),
    ("tit for tat", "tit for tat"): (-1 / (1 - g), -1 / (1 - g)),
    ("defect", "tit for tat"): (-2 * g / (1 - g), -3 - 2 * g / (1 - g)),
    ("tit for tat", "defect"): (-3 - 2 * g / (1 - g), -2 * g / (1 - g)),
    ("grim", "defect"): (-3 - 2 * g / (1 - g), -2 * g / (1 - g)),
    ("at random", "at random"): (-1.5 / (1 - g), -1.5 / (1 - g)),
    # Against tit for tat a random player is paid 1/4 of all in every round but the first, in which tit for tat is nice.
    ("at random", "tit for tat"): (-0.5 - 1.5 * g / (1 - g), -2 - 1.5 * g / (1 - g)),
}


@pytest.mark.parametrize(("first", "second"), VALUES)
def test_pure_policies_of_the_dilemma_have_their_closed_values(first, second):
    players = jnp.asarray(POLICIES[first]), jnp.asarray(POLICIES[second])
    game = IteratedPrisonersDilemma()
    np.testing.assert_allclose(game.values(players), VALUES[first, second], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(game.losses(players), -np.array(VALUES[first, second]), rtol=1e-12, atol=1e-12)
    normalised = IteratedPrisonersDilemma(normalised=True).values(players)
    np.testing.assert_allclose(normalised, (1 - g) * np.array(VALUES[first, second]), rtol=1e-12, atol=1e-12)


def values_by_rounds(players, discount, payoffs, rounds=4000):
    """Discounted payoffs, one round after the other, over the four pairs of actions."""
    one, two = (1 / (1 + np.exp(-np.asarray(player))) for player in players)

    def spread(p, q):
        return {(a, b): (p if a == 0 else 1 - p) * (q if b == 0 else 1 - q) for a in (0, 1) for b in (0, 1)}

    state, totals = spread(one[0], two[0]), np.zeros(2)
    for t in range(rounds):
        following = dict.fromkeys(state, 0.0)
        for (a, b), chance in state.items():
            totals += discount**t * chance * np.array([payoffs[a][b], payoffs[b][a]])
            for after, share in spread(one[1 + 2 * a + b], two[1 + 2 * b + a]).items():
                following[after] += chance * share
        state = following
    return totals


@pytest.mark.parametrize(("discount", "payoffs"), [(0.0, ((3, 0), (5, 1))), (0.9, ((3, 0), (5, 1)))])
def test_values_of_the_dilemma_add_up_round_by_round(discount, payoffs):
    game = IteratedPrisonersDilemma(discount, payoffs)
    players = game.example()[1]
    by_hand = values_by_rounds(players, discount, payoffs, rounds=400)
    np.testing.assert_allclose(
        eqx.filter_jit(lambda game, players: game.values(players))(game, players), by_hand, rtol=1e-12
    )


def test_the_field_of_the_dilemma_is_the_slope_of_the_values():
    game, players = IteratedPrisonersDilemma.example()
    field, _ = field_and_losses(game, players)
    step = 1e-5
    for player, k in ((0, 0), (0, 2), (1, 1), (1, 3)):
        ends = []
        for sign in (1, -1):
            moved = [np.asarray(p).copy() for p in players]
            moved[player][k] += sign * step
            ends.append(values_by_rounds(moved, 0.96, [[-1, -3], [0, -2]], 1000)[player])
        np.testing.assert_allclose(field[player][k], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_at_the_inner_equilibrium_of_the_dilemma_each_policy_fixes_the_other_s_value():
    game = IteratedPrisonersDilemma(normalised=True)
    ((policy, same),) = game.equilibria()
    np.testing.assert_array_equal(policy, same)
    for other in POLICIES.values():
        assert float(game.values((jnp.asarray(other), policy))[0]) == pytest.approx(-1.5, abs=1e-12)
        assert float(game.values((policy, jnp.asarray(other)))[1]) == pytest.approx(-1.5, abs=1e-12)
    field, _ = field_and_losses(game, (policy, policy))
    np.testing.assert_allclose(flat(field), 0, atol=1e-14)
    # With little to come nothing can be enforced; in a game that is no dilemma nothing is looked for.
    assert IteratedPrisonersDilemma(0.1).equilibria() == ()
    assert IteratedPrisonersDilemma(0.96, [[0.0, 0.0], [0.0, 0.0]]).equilibria() == ()


@pytest.mark.slow
def test_gradient_descent_learns_to_defect():
    game = IteratedPrisonersDilemma(normalised=True)
    sgd = dy.optimisers.sgd(20.0)
    run = dy.simulate(game, dy.updates.Simultaneous(sgd, sgd), game.example()[1], steps=1500, save_every="last")
    np.testing.assert_allclose(game.values(run.final), -2, atol=0.05)


@pytest.mark.slow
def test_lola_learns_tit_for_tat():
    game = IteratedPrisonersDilemma()
    sgd = dy.optimisers.sgd(1.0)
    update = dy.updates.Simultaneous(sgd, sgd, direction=dy.directions.LOLA(1.0))
    run = dy.simulate(game, update, (jnp.zeros(5), jnp.zeros(5)), steps=300, save_every="last")
    assert min(float(value) for value in game.values(run.final)) * (1 - g) > -1.3
    after = jax.nn.sigmoid(run.final[0])
    assert after[1] > 0.8 and after[2] < 0.4


def test_the_dilemma_says_what_is_wrong():
    with pytest.raises(
        ValueError, match="IteratedPrisonersDilemma.discount is 1; expected a finite number >= 0 and < 1"
    ):
        IteratedPrisonersDilemma(1.0)
    with pytest.raises(ValueError, match=r"IteratedPrisonersDilemma.payoffs has shape \(2,\); expected \(2, 2\)"):
        IteratedPrisonersDilemma(payoffs=[1.0, 2.0])
    with pytest.raises(ValueError, match="IteratedPrisonersDilemma.payoffs holds inf"):
        IteratedPrisonersDilemma(payoffs=[[1.0, 2.0], [np.inf, 0.0]])
    with pytest.raises(TypeError, match="IteratedPrisonersDilemma.normalised is 1; expected True or False"):
        IteratedPrisonersDilemma(normalised=1)
    with pytest.raises(ValueError, match=r"shapes \(\(4,\), \(5,\)\); this game has two players of 5 logits"):
        IteratedPrisonersDilemma().losses((jnp.zeros(4), jnp.zeros(5)))


# ---------------------------------------------------------------- Tandem


@pytest.mark.slow
def test_tandem_rests_anywhere_on_its_line():
    game = Tandem()
    x, y = 0.3, -1.1
    (vx, vy), losses = field_and_losses(game, scalars(x, y))
    np.testing.assert_allclose([vx, vy], 2 * (1 - x - y), rtol=1e-14)
    np.testing.assert_allclose(losses, [(x + y) ** 2 - 2 * x, (x + y) ** 2 - 2 * y], rtol=1e-14)
    assert len(game.equilibria()) == 3
    for point in game.equilibria():
        field, losses = field_and_losses(game, point)
        assert flat(field).tolist() == [0, 0] and float(sum(losses)) == 0
    sgd = dy.optimisers.sgd(0.1)
    report = dy.stability(game, dy.updates.Simultaneous(sgd, sgd))
    assert report.verdict == "stable" and report.manifold_dimension == 1


@pytest.mark.slow
def test_lola_overshoots_the_line_of_tandem():
    sgd = dy.optimisers.sgd(0.1)
    update = dy.updates.Simultaneous(sgd, sgd, direction=dy.directions.LOLA(0.1))
    run = dy.simulate(Tandem(), update, scalars(0.1, -0.2), steps=500, save_every="last")
    np.testing.assert_allclose(float(sum(run.final)), 4 / 3, rtol=1e-9)
    np.testing.assert_allclose(float(sum(Tandem().losses(run.final))), 8 / 9, rtol=1e-9)


# ---------------------------------------------------------------- games without a point to converge to


def test_the_fields_of_market_and_quartic_are_the_hand_derived_ones():
    for x, y in RNG.normal(size=(4, 2)):
        field, (one, two) = field_and_losses(Market(), scalars(x, y))
        g_x = (-2 * x * y**4 / (1 + x**2) ** 2 - 4 * x**3 / (1 + y**2)) / 4
        g_y = (4 * y**3 / (1 + x**2) + 2 * y * x**4 / (1 + y**2) ** 2) / 4
        np.testing.assert_allclose(flat(field), [-(x**5 - x + y + g_x), -(y**5 - y - x - g_y)], rtol=1e-12)
        np.testing.assert_allclose(one + two, (x**6 + y**6) / 6 - (x**2 + y**2) / 2, rtol=1e-12)
        # A quarter turn exchanges the players.
        turned, losses = field_and_losses(Market(), scalars(-y, x))
        np.testing.assert_allclose(flat(turned), [-field[1], field[0]], rtol=1e-12)
        np.testing.assert_allclose(losses, [two, one], rtol=1e-12)
        field, losses = field_and_losses(ZeroSumQuartic(), scalars(x, y))
        np.testing.assert_allclose(flat(field), [x - y - x**3, x + y - y**3], rtol=1e-12, atol=1e-14)
        value = x * y - x**2 / 2 + y**2 / 2 + x**4 / 4 - y**4 / 4
        np.testing.assert_allclose(losses, [value, -value], rtol=1e-12)


def test_the_quartic_has_no_critical_point_but_the_origin():
    """On critical points y = h(x) and x = -h(y) with h(z) = z - z^3, hence x + h(h(x)) = 0."""
    h = np.polynomial.Polynomial([0, 1, 0, -1])
    roots = (np.polynomial.Polynomial([0, 1]) + h(h)).roots()
    assert np.sum(np.abs(roots.imag) < 1e-6) == 1
    assert np.abs(roots).min() < 1e-12


@pytest.mark.parametrize("game", [Market(), ZeroSumQuartic()], ids=["market", "quartic"])
def test_the_origin_is_a_strict_maximum_for_both_players(game):
    (origin,) = game.equilibria()
    matrix = jacobian(game, origin)
    np.testing.assert_array_equal(matrix, [[1, -1], [1, 1]])  # minus the second derivatives: 1 on the diagonal


METHODS = {
    "descent": (Market(), lambda sgd: dy.updates.Simultaneous(sgd, sgd)),
    "consensus": (Market(), lambda sgd: dy.updates.Simultaneous(sgd, sgd, direction=dy.directions.Consensus(0.1))),
    "alternating": (ZeroSumQuartic(), lambda sgd: dy.updates.Alternating(sgd, sgd)),
    "extragradient": (ZeroSumQuartic(), lambda sgd: dy.updates.Extragradient(sgd, sgd, extrapolation=0.05)),
}


@pytest.mark.slow_cases("consensus", "descent")
@pytest.mark.parametrize("method", METHODS)
def test_training_goes_round_in_bounds_and_never_settles(method):
    game, make = METHODS[method]
    run = dy.simulate(game, make(dy.optimisers.sgd(0.05)), scalars(1e-3, 0.0), steps=6000)
    assert dy.Outcome(int(run.outcome)) is dy.Outcome.cycling
    path = np.stack(run.players, axis=1)
    radius = np.linalg.norm(path[3000:], axis=1)
    assert radius.min() > 0.3 and radius.max() < 2


@pytest.mark.slow
def test_a_game_made_outside_a_traced_function_knows_its_equilibria_within():
    game = dy.games.Quadratic([[1.0, 10.0], [-10.0, 1.0]], offsets=[1.0, -2.0])
    inside = jax.jit(lambda shift: [x + shift for x in game.equilibria()[0]])(0.0)
    np.testing.assert_allclose(inside, game.equilibria()[0], atol=1e-12)

    def build(step):
        return game, dy.updates.Simultaneous(dy.optimisers.sgd(step), dy.optimisers.sgd(step))

    np.testing.assert_allclose(dy.critical(build, 0.001, 0.1).value, 2 / 101, rtol=1e-9)


@pytest.mark.parametrize("name", dy.catalogue.members("games"))
def test_every_game_knows_its_equilibria_within_a_traced_function(name):
    game, _ = dy.catalogue.find("games", name).example()
    inside = jax.jit(lambda shift: jax.tree.map(lambda x: x + shift, game.equilibria()))(0.0)
    for found, known in zip(jax.tree.leaves(inside), jax.tree.leaves(game.equilibria()), strict=True):
        np.testing.assert_allclose(found, known, atol=1e-12)
