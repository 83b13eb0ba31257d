"""Flows through jumps of their field, against closed forms of Filippov's solutions and SciPy's solver with events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

import dynamics as dy
from dynamics.flows import Flow, NoisyFlow
from dynamics.game import Game
from dynamics.games import DiracGAN
from dynamics.penalties import WGANGP


class TwoPieces(Game):
    """x' = A x + a where c x > e, and B x + b elsewhere, for one player of three numbers."""

    above: Array
    rise: Array
    below: Array
    fall: Array
    row: Array
    offset: Array

    def losses(self, players, key=None):
        (x,) = players
        velocity = jnp.where(self.row @ x > self.offset, self.above @ x + self.rise, self.below @ x + self.fall)
        return (-jnp.sum(x * jax.lax.stop_gradient(velocity)),)

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        raise NotImplementedError


def relay(matrix, drive, row):
    """x' = A x - b sign(c x)."""
    matrix, drive, row = (np.asarray(numbers, float) for numbers in (matrix, drive, row))
    return TwoPieces(*map(jnp.asarray, (matrix, -drive, matrix, drive, row, 0.0)))


def followed(game, start, until, **options):
    options = {"save_every": "last", "sliding": True, **options}
    return dy.simulate(game, Flow(), (jnp.asarray(start),), until=until, **options)


def reference(game, x, until):
    """Filippov's solution by SciPy: where it ends, the time and the side (0: sliding) at which each piece begins."""
    above, rise, below, fall, row, offset = (np.asarray(leaf) for leaf in jax.tree.leaves(game))
    sides = {1: lambda t, x: above @ x + rise, -1: lambda t, x: below @ x + fall}

    def slide(t, x):
        up, down = sides[1](t, x), sides[-1](t, x)
        share = row @ down / (row @ down - row @ up)
        return share * up + (1 - share) * down

    time, side = 0.0, int(np.sign(row @ x - offset))
    pieces = [(time, side)]
    while True:
        if side:
            ends = [lambda t, x, s=side: s * (row @ x - offset)]
        else:
            ends = [lambda t, x: -row @ sides[1](t, x), lambda t, x: row @ sides[-1](t, x)]
        for end in ends:
            end.terminal, end.direction = True, -1
        solution = scipy.integrate.solve_ivp(
            slide if side == 0 else sides[side],
            (time, until),
            x,
            "DOP853",
            events=ends,
            rtol=1e-12,
            atol=1e-13,
            max_step=until / 200,
        )
        time, x = solution.t[-1], solution.y[:, -1]
        if solution.status != 1:
            return x, pieces
        if side:
            side = 0 if row @ sides[1](0, x) < 0 < row @ sides[-1](0, x) else -side
        else:
            side = 1 if len(solution.t_events[0]) else -1
        x = x - row * (row @ x - offset) / (row @ row) + 1e-15 * side * row
        pieces.append((time, side))


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=8)
def test_random_pieces_are_followed_as_by_scipy(seed, towards):
    rng = np.random.default_rng(seed)
    above, below = rng.normal(size=(2, 3, 3)) - 0.5 * np.eye(3)
    rise, fall, row, start = rng.normal(size=(4, 3))
    if towards:
        rise, fall = rise - 1.5 * row, fall + 1.5 * row
    game = TwoPieces(*map(jnp.asarray, (above, rise, below, fall, row, 0.3 * rng.normal())))
    end, pieces = reference(game, 2 * start, 3.0)
    run = followed(game, 2 * start, 3.0)
    assert run.pieces is not None and not run.pieces.note
    np.testing.assert_allclose(run.pieces.starts, [time for time, _ in pieces], atol=1e-8)
    assert run.pieces.surfaces.tolist() == [int(side == 0) for _, side in pieces]
    np.testing.assert_allclose(run.final[0], end, atol=1e-8 * (1 + np.max(np.abs(end))))


def test_relay_stops_in_finite_time():
    # x' = -2 sign x, y' = -y: at 0 from time |x| / 2 on; and a third number that rests.
    game = relay(np.diag([0, -1, 0]), [2, 0, 0], [1, 0, 0])
    run = followed(game, [-0.7, 1.0, 0.0], 20.0)
    np.testing.assert_allclose(run.pieces.starts, [0, 0.35], atol=1e-14)
    assert run.pieces.surfaces.tolist() == [0, 1] and run.outcome == dy.Outcome.converged
    np.testing.assert_allclose(run.final[0], [0, np.exp(-20), 0], atol=1e-9)
    np.testing.assert_allclose(run.residual, abs(run.final[0][1]), atol=1e-12)
    assert "slides along surfaces" in run.describe() and "from time 0.35 to 20" in run.describe()


def test_dry_friction_sticks_when_and_where_it_must():
    # m x'' + k x = -mu sign x': half turns about -+mu / k at frequency sqrt(k / m), each 2 mu / k shorter.
    mass, spring, force = 2.0, 3.0, 0.7
    game = relay([[0, 1, 0], [-spring / mass, 0, 0], [0, 0, -1]], [0, force / mass, 0], [0, 1, 0])
    x, shift, frequency = 2.5, force / spring, np.sqrt(spring / mass)
    run = followed(game, [x, -1e-300, 0.0], 15.0)  # at rest, and about to go down
    halves = 0
    while abs(x) > shift:
        x, halves = -(x - np.sign(x) * 2 * shift), halves + 1
    np.testing.assert_allclose(run.pieces.starts, np.pi / frequency * np.arange(halves + 1), atol=1e-9)
    assert run.pieces.surfaces.tolist() == [0] * halves + [1] and run.outcome == dy.Outcome.converged
    np.testing.assert_allclose(run.final[0], [x, 0, 0], atol=2e-9)
    assert run.residual < 1e-14 and run.reached == 15.0


@pytest.mark.parametrize("seed", range(3))
def test_sliding_field_is_utkins(seed):
    # Equivalent control: x' = (I - b c / (c b)) A x on the plane c x = 0, as long as |c A x| < c b.
    rng = np.random.default_rng(seed)
    matrix, row = rng.normal(size=(3, 3)), rng.normal(size=3)
    drive = 3 * row + rng.normal(size=3)
    start = 0.2 * np.linalg.svd(row[None])[2][1]
    projected = matrix - np.outer(drive, row @ matrix) / (row @ drive)
    run = followed(relay(matrix, drive, row), start, 1.0)
    assert run.pieces.surfaces.tolist() == [1]
    np.testing.assert_allclose(run.final[0], scipy.linalg.expm(projected) @ start, atol=1e-9)


@pytest.mark.slow
def test_smoothed_relays_come_close():
    rng = np.random.default_rng(5)
    matrix, row, start = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    drive = row + 0.3 * rng.normal(size=3)
    run = followed(relay(matrix, drive, row), start, 2.0)
    assert run.pieces.surfaces.any()
    apart = []
    for width in (1e-3, 1e-4, 1e-5):
        smooth = scipy.integrate.solve_ivp(
            lambda t, x, w=width: matrix @ x - drive * np.tanh(row @ x / w),
            (0, 2.0),
            start,
            "Radau",
            rtol=1e-9,
            atol=1e-11,
        )
        apart.append(np.max(np.abs(smooth.y[:, -1] - run.final[0])))
    assert apart[0] < 2e-2 and apart[1] < 0.2 * apart[0] and apart[2] < 0.2 * apart[1]  # of first order in the width


def test_where_solutions_are_not_unique_an_ordinary_solver_goes_on_and_says_so():
    game = relay(-np.eye(3), [-1, 0, 0], [1, 0, 0])
    run = followed(game, [0.0, 0.0, 0.0], 1.0)
    assert "not unique" in run.pieces.note and "From time 0 on" in run.describe()
    assert run.pieces.surfaces.tolist() == [0]


def test_bad_input_is_told_at_once():
    game = relay(np.eye(3), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="sliding is 'yes'"):
        followed(game, np.ones(3), 1.0, sliding="yes")
    with pytest.raises(ValueError, match="without noise"):
        dy.simulate(game, NoisyFlow(Flow(), 0.1), (jnp.ones(3),), until=1.0, sliding=True)
    with pytest.raises(ValueError, match="under jax.jit"):
        jax.eval_shape(lambda x: followed(game, x, 1.0), jnp.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("corner", [jnp.abs, lambda x: jnp.maximum(x, -x), lambda x: jax.nn.relu(x) + jax.nn.relu(-x)])
def test_every_way_to_write_a_corner_sticks(corner):
    game = Game.from_losses(lambda p, key=None: (-p[0] * p[1], p[0] * p[1] + 0.7 * corner(p[1])), [(0.0, 0.0)])
    ordinary = dy.simulate(game, Flow(), (3.0, 0.0), until=10.0, sliding=False)
    assert ordinary.gave_up and ordinary.pieces is None
    run = dy.simulate(game, Flow(), (3.0, -0.0), until=10.0, measures={"x": lambda _, p: p[0]})  # "auto"
    assert run.outcome == dy.Outcome.converged and run.pieces.surfaces.tolist() == [0, 0, 1]
    np.testing.assert_allclose(run.pieces.starts, [0, np.pi, 2 * np.pi], atol=1e-9)
    time = np.asarray(run.steps)  # x = 3 - 0.7 turns about 0.7, and 1.6 - 0.7 about -0.7
    exact = np.where(time < np.pi, 0.7 + 2.3 * np.cos(time), -0.7 + 0.9 * np.cos(time))
    np.testing.assert_allclose(run.players[0], np.where(time < 2 * np.pi, exact, 0.2), atol=1e-8)
    np.testing.assert_allclose(run.measures["x"], run.players[0])


@pytest.mark.slow
def test_players_in_single_precision():
    game = Game.from_losses(lambda p, key=None: (jnp.abs(p[0]), 2 * jnp.abs(p[1]) + p[0] * p[1]), [(0.0, 0.0)])
    run = dy.simulate(game, Flow(), (np.float32(0.5), np.float32(-0.6)), until=2.0, sliding=True)
    assert run.final[0].dtype == np.float32 and run.outcome == dy.Outcome.converged
    # y' = 2 - x with x = 0.5 - t until y = 0: 1.5 t + t^2 / 2 = 0.6.
    np.testing.assert_allclose(run.pieces.starts, [0, -1.5 + np.sqrt(1.5**2 + 1.2), 0.5], rtol=1e-6)
    assert run.pieces.surfaces.tolist() == [0, 1, 2]


@pytest.mark.slow
def test_subgradient_flow_ends_at_the_lasso():
    rng = np.random.default_rng(0)
    matrix, right = rng.normal(size=(5, 4)), rng.normal(size=5)
    game = Game.from_losses(
        lambda p, key=None: (jnp.sum((matrix @ p[0] - right) ** 2) / 2 + 1.5 * jnp.sum(jnp.abs(p[0])),)
    )
    run = dy.simulate(game, Flow(), (jnp.asarray([1.0, -1.0, 2.0, 0.5]),), until=40.0, sliding=True)
    x = np.asarray(run.final[0])
    slope = matrix.T @ (matrix @ x - right)
    inside = np.abs(slope) < 1.5 - 1e-3
    assert run.outcome == dy.Outcome.converged and run.pieces.surfaces.tolist() == [0, 1, 1, 2, 1]
    np.testing.assert_allclose(x[inside], 0, atol=1e-12)
    np.testing.assert_allclose(slope[~inside], -1.5 * np.sign(x[~inside]), atol=1e-6)


@pytest.mark.slow
def test_wgan_gp_goes_round_in_linear_pieces():
    # Of the mean theta and the slope psi: theta' = psi, psi' = -theta - 2 w (psi - sign psi), signs of the game's own.
    weight = 0.35
    game = DiracGAN(dy.objectives.Wasserstein(), WGANGP(weight, nodes=1))
    run = dy.simulate(game, Flow(), (1.0, 0.5), until=20.0, sliding=True)
    direction = np.array([[0.0, game.field((0.0, 1.0))[0]], [game.field((1.0, 1.0))[1], -2 * weight]])

    def pieces(t, x, side):
        return direction @ x + [0, 2 * weight * side]

    x, time, side, times = np.array([1.0, 0.5]), 0.0, 1, [0.0]
    while time < 20.0:
        end = lambda t, x, side: side * x[1]  # noqa: E731
        end.terminal, end.direction = True, -1
        solution = scipy.integrate.solve_ivp(
            pieces, (time, 20.0), x, "DOP853", events=end, rtol=1e-12, atol=1e-13, args=(side,)
        )
        time, x, side = solution.t[-1], solution.y[:, -1], -side
        times.append(time)
        x[1] = x[1] if time == 20.0 else 1e-15 * side
    np.testing.assert_allclose(run.pieces.starts, times[:-1], atol=1e-8)
    np.testing.assert_allclose([float(number) for number in run.final], x, atol=1e-8)


@pytest.mark.slow
def test_stick_and_slip_is_a_cycle():
    # A mass on a belt of speed 1 with friction, pushed on in proportion to its speed.
    game = Game.from_losses(
        lambda p, key=None: (-p[0] * p[1], p[0] * p[1] - 0.05 * p[1] ** 2 + 0.7 * jnp.abs(p[1] - 1.0))
    )
    run = dy.simulate(game, Flow(), (2.0, 0.0), until=100.0, sliding=True)
    assert run.outcome == dy.Outcome.cycling
    starts = np.asarray(run.pieces.starts)
    assert np.all(np.diff(run.pieces.surfaces) != 0)  # it slips and sticks in turns
    np.testing.assert_allclose(run.period, np.diff(starts[2::2])[:10], rtol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_followed_says_why():
    steps = Game.from_losses(lambda p, key=None: (p[0] * jax.lax.stop_gradient(jnp.floor(p[0])),))
    run = dy.simulate(steps, Flow(), (1.5,), until=1.0, sliding=True)
    assert "floor" in run.pieces.note and "ordinary solver" in run.describe()
    smooth = Game.from_losses(lambda p, key=None: (p[0] ** 2,))
    assert "no switches" in dy.simulate(smooth, Flow(), (1.5,), until=1.0, sliding=True).pieces.note
    twisting = Game.from_losses(  # x'' = -2 sign x - 0.7 sign x': infinitely many switches until time 6.03
        lambda p, key=None: (
            -p[0] * jax.lax.stop_gradient(p[1]),
            2 * jax.lax.stop_gradient(jnp.sign(p[0])) * p[1] + 0.7 * jnp.abs(p[1]),
        )
    )
    run = dy.simulate(twisting, Flow(), (1.0, 0.0), until=20.0, sliding=True)
    assert "ever faster" in run.pieces.note and run.outcome == dy.Outcome.undecided and run.reached < 6.1
