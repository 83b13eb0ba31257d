"""Maps and flows with a kink at the equilibrium: one-sided Jacobians and the verdict from all of them."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE
from dynamics.analysis.stability.linearisation import one_sided_jacobians
from dynamics.analysis.stability.piecewise import distinct, expanding_directions, joint_bounds
from dynamics.analysis.stability.rest import rest_state
from dynamics.updates import Simultaneous


def slopes(right, left):
    """A scalar field with two slopes at 0."""
    return dy.Game.from_losses(lambda p, key=None: (jnp.where(p[0] > 0, right, left) * p[0] ** 2 / 2,), [(0.0,)])


@pytest.mark.slow_cases("3.0-1.0-stable", "-1.0-1.0-unstable", "1.0-3.0-stable")
@pytest.mark.parametrize(
    "right, left, verdict",
    [(1.0, 3.0, "stable"), (3.0, 1.0, "stable"), (1.0, -1.0, "unstable"), (-1.0, 1.0, "unstable")],
)
def test_scalar_maps_and_flows_with_two_slopes(right, left, verdict):
    game, step = slopes(right, left), 0.1
    report = dy.stability(game, Simultaneous(optimisers.sgd(step)))
    assert report.smoothness == "kinked" and report.verdict == verdict
    assert sorted(report.pieces.jacobians.ravel()) == pytest.approx(sorted([1 - step * right, 1 - step * left]))
    assert report.margin == pytest.approx(step * min(right, left)) and report.radius == pytest.approx(1 - report.margin)
    flow = dy.stability(game, dy.flows.Flow())
    assert flow.verdict == verdict and flow.margin == pytest.approx(min(right, left))
    assert any("2 pieces" in note for note in report.notes)
    assert dy.stability(game, Simultaneous(optimisers.sgd(step))).to_dict()["pieces"]["upper"] is not None


def test_pieces_that_do_not_decide_are_marginal():
    """x+ = 0.9 x on the right, -1.1 x on the left: no piece expands within itself, no norm shows contraction."""
    report = dy.stability(slopes(1.0, 21.0), Simultaneous(optimisers.sgd(0.1)))
    assert report.verdict == "marginal" and "do not decide" in report.notes[-1]


def switched(weight):
    """A rotating game whose friction of player 1 differs on the two sides of a line."""

    def losses(players, key=None):
        x, y = players
        friction = jnp.where(x[0] + y > 0, 0.3, weight)
        return 0.1 * x[0] ** 2 + x[0] * y, friction * y**2 / 2 - x[0] * y

    return dy.Game.from_losses(losses, [(jnp.zeros(1), 0.0)])


def test_planar_pieces_with_a_common_norm():
    report = dy.stability(switched(0.9), dy.flows.Flow())
    # The field has a kink along the line, where its pieces agree in value only at the point: y = 0 there.
    assert report.smoothness in ("kinked", "discontinuous")
    expected = [[[-0.2, -1.0], [1.0, -0.3]], [[-0.2, -1.0], [1.0, -0.9]]]
    found = distinct(np.asarray(_nearby(switched(0.9), dy.flows.Flow(), [[1.0, 1.0], [-1.0, -1.0]])))
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected), atol=1e-8)


def _nearby(game, method, directions):
    return one_sided_jacobians(game, method, dy.game.as_players(game.equilibria()[0]), None, jnp.asarray(directions))


@pytest.mark.slow
def test_gap_aware_scheduling_has_equal_one_sided_jacobians():
    """The multiplier has a kink at the ideal loss, but it multiplies a field that vanishes there."""
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    plain, careful = (
        Simultaneous(optimisers.sgd(0.1), second)
        for second in (optimisers.sgd(0.1), optimisers.gap_aware_sgd(0.1, 2 * np.log(2), decay=0.5))
    )
    point = dy.game.as_players(game.equilibria()[0])
    assert float(rest_state(game, careful, point).state.memory[1][1].average_loss) == pytest.approx(2 * np.log(2))
    sides = np.asarray(_nearby(game, careful, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    assert len(distinct(sides)) == 1
    report = dy.stability(game, careful)
    assert report.smoothness == "smooth" and report.verdict == "stable" and report.pieces is None
    np.testing.assert_allclose(report.radius, dy.stability(game, plain).radius, rtol=1e-9)


@pytest.mark.slow
def test_gap_aware_scheduling_away_from_its_ideal_loss_rescales_the_rate():
    """At the equilibrium the loss is log 4; with another V* the discriminator's rate is multiplied there."""
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    careful = Simultaneous(optimisers.sgd(0.1), optimisers.gap_aware_sgd(0.1, 1.3, decay=0.5))
    factor = float(dy.schedules.gap_multiplier(2 * np.log(2), 1.3))
    same = Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.1 * factor))
    assert factor > 1.5
    np.testing.assert_allclose(dy.stability(game, careful).radius, dy.stability(game, same).radius, rtol=1e-9)


def test_joint_bounds_of_a_published_pair():
    """(3/5) {[[1, 1], [0, 1]], [[1, 0], [1, 1]]}: the joint spectral radius is (3/5) times the golden ratio."""
    pair = 0.6 * np.array([[[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])
    low, high = joint_bounds(pair, UNIT_CIRCLE)
    golden = 0.6 * (1 + np.sqrt(5)) / 2
    assert low == pytest.approx(golden, rel=1e-9) and golden * (1 - 1e-12) <= high <= 1.01 * golden


def test_joint_bounds_hold_on_random_products():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7):
        pieces = rng.normal(size=(3, size, size)) / np.sqrt(size)
        low, high = joint_bounds(pieces, UNIT_CIRCLE)
        assert low <= high * (1 + 1e-9)
        product, order = np.eye(size), rng.integers(3, size=400)
        logarithm = 0.0
        for index in order:
            product = pieces[index] @ product
            scale = np.linalg.norm(product)
            product, logarithm = product / scale, logarithm + np.log(scale)
        assert logarithm / 400 <= np.log(high) + 0.05
        slow, fast = joint_bounds(pieces - 3 * np.eye(size), IMAGINARY_AXIS)
        assert np.linalg.eigvals(pieces[0]).real.max() - 3 - 1e-9 <= slow <= fast + 1e-9


def test_one_matrix_has_its_own_radius_and_abscissa():
    matrix = np.array([[[0.5, 3.0], [0.0, -0.7]]])
    low, high = joint_bounds(matrix, UNIT_CIRCLE)
    assert low == pytest.approx(0.7) and 0.7 <= high <= 0.75
    low, high = joint_bounds(matrix - np.eye(2), IMAGINARY_AXIS)
    assert low == pytest.approx(-0.5) and -0.5 <= high <= -0.45


def test_expanding_directions_are_real_eigenvectors_beyond_the_boundary():
    pieces = np.array([[[2.0, 0.0], [0.0, 0.5]], [[0.0, -2.0], [2.0, 0.0]]])
    rays = [passed[0] for passed in expanding_directions(pieces, UNIT_CIRCLE) if len(passed) == 1]
    assert [number for number, _ in rays] == [0, 0]
    np.testing.assert_allclose(np.abs([ray for _, ray in rays]), [[1, 0], [1, 0]])


@pytest.mark.slow
def test_a_ray_that_alternates_between_two_pieces():
    """x -> -2 x on the right and -0.8 x on the left: neither has an expanding direction, two steps multiply by 1.6."""
    report = dy.stability(slopes(3.0, 1.8), dy.updates.Simultaneous(optax.sgd(1.0)))
    assert report.verdict == "unstable" and report.pieces.invariant and report.proved
    assert dy.stability(slopes(3.0, 1.4), dy.updates.Simultaneous(optax.sgd(1.0))).verdict != "unstable"
