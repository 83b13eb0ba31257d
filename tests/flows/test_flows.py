"""Flows: fields against NumPy, and updates against the flows that they tend to as the step goes to 0."""

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import dynamics as dy
from dynamics import optimisers
from dynamics.catalogue import members
from dynamics.flows import AlternatingFlow, Flow, GapAwareFlow

RATES = (1.0, 1.7, 0.6)
field = eqx.filter_jit(lambda flow, game, state: flow.field(game, jnp.zeros(()), state))


@eqx.filter_jit
def iterate(update, game, players, count):
    return jax.lax.fori_loop(0, count, lambda i, s: update.step(game, s), update.init(game, players)).players


@eqx.filter_jit
def follow(flow, game, players, until):
    """The classical Runge-Kutta method with many steps; its error is far below the differences looked at."""
    steps = 200

    def add(a, b, scale):
        return jax.tree.map(lambda x, y: x + scale * y, a, b)

    def body(i, state):
        h = until / steps

        def stage(slope_and_sum, numbers):
            (slope, total), (reach, weight) = slope_and_sum, numbers
            slope = flow.field(game, jnp.zeros(()), add(state, slope, reach * h))
            return (slope, add(total, slope, weight * h / 6)), None

        start = jax.tree.map(jnp.zeros_like, state), state
        (_, moved), _ = jax.lax.scan(stage, start, jnp.asarray([[0, 1.0], [0.5, 2], [0.5, 2], [1, 1]]))
        return moved

    return jax.lax.fori_loop(0, steps, body, flow.init(game, players)).players


def order_of(update_of, flow_of, players, until=0.6, counts=(16, 32, 64, 128)):
    """Slope of log error over log step at a fixed time, and the smallest error."""
    game, start = asymmetric.make(players), asymmetric.start(players)
    errors = []
    for count in counts:
        step = until / count
        end = asymmetric.flat(iterate(update_of(step), game, start, count))
        errors.append(np.linalg.norm(end - asymmetric.flat(follow(flow_of(step), game, start, until))))
    return np.polyfit(-np.log(counts), np.log(errors), 1)[0], errors[-1]


def sgd(step, players):
    return [optimisers.sgd(step * rate) for rate in RATES[:players]]


@pytest.mark.slow_cases("symplectic")
@pytest.mark.parametrize(
    "direction, players",
    [
        (dy.directions.Gradient(), 3),
        (dy.directions.Consensus(0.5), 2),
        (dy.directions.SymplecticAdjustment(0.7, align=False), 2),  # with alignment the field jumps
    ],
    ids=["gradient", "consensus", "symplectic"],
)
def test_simultaneous_updates_tend_to_the_flow(direction, players):
    order, _ = order_of(
        lambda h: dy.updates.Simultaneous(*sgd(h, players), direction=direction),
        lambda h: Flow(direction, rates=RATES[:players]),
        players,
    )
    assert 0.9 < order < 1.15


@pytest.mark.slow
def test_extragradient_and_the_optimistic_method_tend_to_the_flow():
    updates = {
        "extragradient": lambda h: dy.updates.Extragradient(*sgd(h, 2), extrapolation=h),
        "optimistic": lambda h: dy.updates.Simultaneous(*(optimisers.optimistic(h * rate) for rate in RATES[:2])),
    }
    for update_of in updates.values():
        order, _ = order_of(update_of, lambda h: Flow(rates=RATES[:2]), 2, counts=(64, 128, 256, 512))
        assert 0.9 < order < 1.15


@pytest.mark.slow_cases("order3-repeats3-direction3")
@pytest.mark.parametrize(
    "order, repeats, direction",
    [
        ((0, 1), (1, 1), None),
        ((1, 0), (2, 3), None),
        ((2, 0, 1), (1, 2, 1), None),
        ((1, 0), (1, 2), dy.directions.Consensus(0.2)),
    ],
)
def test_alternating_updates_follow_their_flow_to_second_order(order, repeats, direction):
    players = len(order)
    shape = dict(order=order, repeats=repeats, direction=direction)
    until = 0.6 / max(repeats)
    found, error = order_of(
        lambda h: dy.updates.Alternating(*sgd(h, players), **shape),
        lambda h: AlternatingFlow(h, rates=RATES[:players], **shape),
        players,
        until,
    )
    assert 1.85 < found < 2.2
    assert error < 1e-3


def test_the_plain_flow_is_only_of_first_order_for_alternation():
    order, _ = order_of(lambda h: dy.updates.Alternating(*sgd(h, 2)), lambda h: Flow(rates=RATES[:2]), 2)
    assert 0.85 < order < 1.2


def test_gap_aware_updates_tend_to_their_flow():
    """Step h and decay 1 - h/T; the loss moves over the sloping part of the multiplier."""
    ideal, time = 0.4, 0.3
    keywords = dict(width_below=2.0, width_above=3.0)

    def update(h):
        careful = optimisers.gap_aware_sgd(h * RATES[1], ideal, decay=1 - h / time, **keywords)
        return dy.updates.Simultaneous(optimisers.sgd(h * RATES[0]), careful)

    def flow(h):
        return GapAwareFlow(ideal, time, rates=RATES[:2], **keywords)

    order, error = order_of(update, flow, 2)
    assert 0.9 < order < 1.15
    plain, _ = order_of(update, lambda h: Flow(rates=RATES[:2]), 2, counts=(64, 128))
    assert plain < 0.5  # the schedule matters


def test_fields_by_hand():
    game, by_hand, start = asymmetric.make(3), asymmetric.ByHand(3), asymmetric.start(3)
    z = asymmetric.flat(start)
    rates = np.repeat(RATES, asymmetric.SIZES[3])
    plain = Flow(rates=RATES)
    asymmetric.same(field(plain, game, plain.init(game, start)).players, rates * by_hand.field(z))
    consensus = Flow(dy.directions.Consensus(0.3), rates=RATES)
    expected = rates * by_hand.consensus(z, 0.3)
    asymmetric.same(field(consensus, game, consensus.init(game, start)).players, expected)


def test_the_alternating_flow_in_common_time():
    """Two players: -(h/2)(own drift) with the cross term of the second player turned round (Rosca et al. 2021)."""
    game, by_hand, start, h = asymmetric.make(2), asymmetric.ByHand(2), asymmetric.start(2), 0.1
    z = asymmetric.flat(start)
    one, two = by_hand.parts
    rates = np.repeat(RATES[:2], asymmetric.SIZES[2])
    v, j = rates * by_hand.field(z), rates[:, None] * by_hand.jacobian(z)
    expected = v - h / 2 * j @ v
    expected[two] += h * j[two, one] @ v[one]
    flow = AlternatingFlow(h, rates=RATES[:2])
    asymmetric.same(field(flow, game, flow.init(game, start)).players, expected)


def test_the_alternating_flow_of_the_bilinear_game_is_a_centre():
    """Trace 0 and determinant s^2 - h^2 s^4 / 4."""
    s, h = 1.3, 0.4
    report = dy.stability(dy.games.Bilinear(s), AlternatingFlow(h))
    np.testing.assert_allclose(np.trace(report.jacobian), 0, atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(report.jacobian), s**2 - h**2 * s**4 / 4, rtol=1e-13)


@pytest.mark.parametrize("player", [0, 1])
def test_the_gap_aware_field(player):
    game, by_hand, start = asymmetric.make(2), asymmetric.ByHand(2), asymmetric.start(2)
    z, v = asymmetric.flat(start), np.repeat(RATES[:2], asymmetric.SIZES[2]) * by_hand.field(asymmetric.flat(start))
    flow = GapAwareFlow(1.5, 0.25, rates=RATES[:2], player=player)
    state = flow.init(game, start)
    assert float(state.memory) == 1.5
    moved = field(flow, game, eqx.tree_at(lambda s: s.memory, state, jnp.asarray(1.44)))
    v[by_hand.parts[player]] *= 0.1 ** (0.06 / 0.15)
    np.testing.assert_allclose(asymmetric.flat(moved.players), v, rtol=1e-12)
    np.testing.assert_allclose(moved.memory, (by_hand.losses(z)[player] - 1.44) / 0.25, rtol=1e-12)


@pytest.mark.slow_cases("ModifiedFlow-3-float64", "Flow-2-float32", "ModifiedFlow-2-float32")
@pytest.mark.parametrize("players, dtype", [(2, np.float32), (3, np.float64)])
@pytest.mark.parametrize("name", members("flows"))
def test_conformance(name, players, dtype):
    from dynamics import _trees

    flow, game = _trees.cast((members("flows")[name].example(players), asymmetric.make(players)), dtype)
    start = asymmetric.start(players, dtype)
    state = flow.init(game, start)
    assert eqx.tree_equal(state.players, start)
    tangent = field(flow, game, state)
    assert jax.tree.structure(tangent) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(tangent)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    batch = jax.tree.map(lambda leaf: jnp.stack([2 * leaf, leaf]), state)
    together = eqx.filter_vmap(field, in_axes=(None, None, 0))(flow, game, batch)
    asymmetric.same(jax.tree.map(lambda leaf: leaf[1], together.players), asymmetric.flat(tangent.players), dtype)


@pytest.mark.slow
def test_simulated_flow_against_the_matrix_exponential():
    """A linear game of three players, with unequal rates."""
    game = dy.games.Quadratic([[1.0, 2.0, -1.0], [-2.0, 0.5, 0.3], [0.4, 0.2, 0.7]])
    run = dy.simulate(game, Flow(rates=RATES), (1.0, -1.0, 0.5), until=2.0, save_every=0.5)
    matrix = -np.diag(RATES) @ np.array([[1.0, 2.0, -1.0], [-2.0, 0.5, 0.3], [0.4, 0.2, 0.7]])
    expected = [scipy.linalg.expm(matrix * t) @ [1.0, -1.0, 0.5] for t in (0, 0.5, 1.0, 1.5, 2.0)]
    np.testing.assert_allclose(run.times, [0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(np.stack(run.players, 1), expected, atol=1e-8)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Flow(rates=(1.0, -1.0)), "the rate -1; expected finite numbers >= 0"),
        (lambda: Flow(rates=(1.0,)).init(None, (0.0, 0.0)), "1 rates for 2 players; expected one per player"),
        (lambda: AlternatingFlow(0.0), "AlternatingFlow.step is 0; expected a finite number > 0"),
        (lambda: AlternatingFlow(0.1, order=(0, 0)).init(None, (0.0, 0.0)), r"order is \(0, 0\)"),
        (lambda: GapAwareFlow(1.0, 0.0), "averaging_time is 0; expected a finite number > 0"),
        (lambda: GapAwareFlow(0.0), "the ideal loss is 0"),
        (lambda: GapAwareFlow(1.0, player=2).init(None, (0.0, 0.0)), "player is 2; expected one of 0 to 1"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_flow_is_deterministic():
    with pytest.raises(ValueError, match="leave key=None"):
        dy.simulate(dy.games.Bilinear(1.0), Flow(), (1.0, 1.0), until=1.0, key=jax.random.key(0))
