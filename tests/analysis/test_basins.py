"""Basins of attraction against known boundaries, published counts, and runs followed in NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import dynamics as dy
from dynamics import optimisers, plots
from dynamics.analysis import basins

FLOW = dy.flows.Flow()


def sgd(*rates):
    return dy.updates.Simultaneous(*(optimisers.sgd(rate) for rate in rates))


def well(x, gap=0.3):
    """A potential whose force is -(x + 1)(x - gap)(x - 1): wells at -1 and 1, a watershed at the gap."""
    return x**4 / 4 - gap * x**3 / 3 - x**2 / 2 + gap * x


ONE = dy.Game.from_losses(lambda p, key=None: (well(p[0]),), [(1.0,), (-1.0,), (0.3,)])
TWO = dy.Game.from_losses(
    lambda p, key=None: (well(p[0]), well(p[1], -0.5)),
    [(x, y) for x in (-1.0, 0.3, 1.0) for y in (-1.0, -0.5, 1.0)],
)


def quadrant(starts, low=0.3, high=-0.5):
    """Which of the four wells, as a pair of truth values."""
    return (starts[:, 0] > low) * 2 + (starts[:, 1] > high)


# Known boundaries


@pytest.mark.slow
def test_the_basins_of_a_separable_game_end_at_its_watersheds():
    result = basins(TWO, sgd(0.1, 0.2), (-2.0, -1.5), (1.5, 2.0), points=(24, 30), steps=400)
    assert result.labels.shape == (24, 30) and result.kinds == ("target",) * 4
    assert result.names == ("(-1, -1)", "(-1, 1)", "(1, -1)", "(1, 1)")
    np.testing.assert_array_equal(result.labels.ravel(), quadrant(result.starts))
    np.testing.assert_allclose(result.axes[0], np.linspace(-2, 1.5, 24))
    counts = np.bincount(quadrant(result.starts))
    np.testing.assert_array_equal(result.counts, counts)
    np.testing.assert_allclose(result.fractions, counts / 720)
    assert np.all(np.isnan(result.errors))
    # The targets in their colours, the saddles and the summit as unstable.
    assert dict(result.marks)[(1.0, -1.0)] == 2
    assert sorted(place for place, label in result.marks if label < 0) == [
        (-1.0, -0.5),
        (0.3, -1.0),
        (0.3, -0.5),
        (0.3, 1.0),
        (1.0, -0.5),
    ]


@pytest.mark.slow
def test_chunks_decide_about_nothing():
    options = dict(points=(24, 30), steps=400)
    whole = basins(TWO, sgd(0.1, 0.2), (-2.0, -1.5), (1.5, 2.0), **options)
    parts = basins(TWO, sgd(0.1, 0.2), (-2.0, -1.5), (1.5, 2.0), chunk=77, **options)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_allclose(parts.ends, whole.ends, rtol=0, atol=1e-14)
    assert parts.names == whole.names and parts.marks == whole.marks


@pytest.mark.slow
def test_one_parameter_has_a_line_of_starts():
    result = basins(ONE, FLOW, (-2.0,), (2.0,), points=81, until=60.0)
    x = np.linspace(-2, 2, 81)
    names = np.array(result.names)[result.labels]
    np.testing.assert_array_equal(names[x > 0.31], "(1)")
    np.testing.assert_array_equal(names[x < 0.29], "(-1)")
    assert len(result.axes) == 1 and result.axis_names == ("player 0",)


@pytest.mark.slow
def test_random_starts_estimate_volumes_in_any_dimension():
    """Players of sizes 2 and 1: a double well in the first number, bowls in the others."""

    def losses(p, key=None):
        x, y = p
        return well(x[0]) + x[1] ** 2 + x[1] * y, y**2 - x[1] * y

    game = dy.Game.from_losses(losses, [(np.array([s, 0.0]), 0.0) for s in (1.0, -1.0)])
    result = basins(game, sgd(0.1, 0.2), (-2.0, -1.0), (2.0, 1.0), random=600, key=jax.random.key(1), steps=400)
    assert result.labels.shape == (600,) and result.axes == () and result.starts.shape == (600, 3)
    assert np.all(result.starts >= [-2, -2, -1]) and np.all(result.starts <= [2, 2, 1])
    np.testing.assert_array_equal(result.labels, (result.starts[:, 0] < 0.3).astype(int))
    share = (2 - 0.3) / 4
    np.testing.assert_allclose(result.errors, np.sqrt(result.fractions * (1 - result.fractions) / 600))
    assert abs(result.fractions[0] - share) < 3 * result.errors[0]
    assert "600 random starts" in result.describe() and "+-" in result.describe()


@pytest.mark.slow
def test_a_plane_through_a_game_of_many_parameters():
    def losses(p, key=None):
        x, y = p
        return well(x[0]) + jnp.sum(x[1:] ** 2), well(y["b"], -0.5)

    game = dy.Game.from_losses(losses)
    ends = {f"{a} {b}": (np.array([a, 0.0, 0.0]), {"b": b}) for a in (-1.0, 1.0) for b in (-1.0, 1.0)}
    origin, first = (np.zeros(3), {"b": 0.0}), (np.array([2.0, 1.0, 0.0]), {"b": 0.0})
    second = (np.array([0.0, 0.0, 3.0]), {"b": 0.55})
    result = basins(
        game, sgd(0.1, 0.2), -1.0, (1.0, 2.0), points=12, steps=400, targets=ends, plane=(origin, first, second)
    )
    assert result.names == tuple(ends) and result.labels.shape == (12, 12)
    parameters = np.stack([2 * result.starts[:, 0], 0.55 * result.starts[:, 1]], axis=1)
    np.testing.assert_array_equal(result.labels.ravel(), quadrant(parameters))
    assert result.destinations[2][1]["b"] == -1.0
    assert result.marks == ()  # no target lies in this plane


# Published


@pytest.mark.slow
def test_descent_is_caught_by_the_spurious_attractor_from_82_starts_of_196():
    """Adolphs et al. 2019, the authors' grid and tolerance: 114 starts lead to the Nash equilibrium."""
    game = dy.games.SpuriousAttractor()
    result = basins(game, sgd(0.001, 0.001), (-5.0, -2.0), (1.5, 4.5), points=14, steps=5000, tolerance=0.2)
    assert result.counts.tolist() == [114, 82]
    assert result.names == ("(-3.414, 3.414)", "(0, 0)")
    nash = float(2 + np.sqrt(2))
    np.testing.assert_allclose([float(x) for x in result.destinations[0]], [-nash, nash])


TURN = 2 * np.pi
STARTS = dict(low=(-3.0, -3.0), high=(3.0, 2.7), points=12)


def torus_by_hand(tau, starts, rate=0.1, steps=6000):
    x, y = starts.T.copy()
    for _ in range(steps):
        pull = np.sin(x - y)
        x, y = x + rate * (-0.15 * np.sin(x) + pull), y + tau * rate * (pull - 0.15 * np.sin(y))
    return np.stack([x, y], axis=1)


@pytest.mark.slow_cases("1.0")
@pytest.mark.parametrize("tau", [1.0, 2.0, 5.0])
def test_on_the_torus_runs_end_where_they_do_in_numpy(tau):
    result = basins(dy.games.Torus(), sgd(0.1, 0.1 * tau), **STARTS, steps=6000, period=TURN)
    ends = torus_by_hand(tau, result.starts)
    goals = [(0.0, 0.0)] if tau == 1 else [(0.0, 0.0), (np.pi, np.pi)]  # stable above 0.739 and 1.353
    distances = [np.linalg.norm(np.angle(np.exp(1j * (ends - goal))), axis=1) for goal in goals]
    expected = np.where(np.min(distances, axis=0) < 1e-3, np.argmin(distances, axis=0), len(goals))
    np.testing.assert_array_equal(result.labels.ravel(), expected)
    if tau == 1:
        assert result.kinds == ("target", "rotating") and np.all(result.counts > 10)
        assert np.all(np.abs(ends[expected == 1]).max(axis=1) > 2 * TURN)  # they go round and round
    else:
        assert result.kinds == ("target", "target") and result.names[1] == "(3.142, 3.142)"


# What is no target


def test_runs_that_leave_are_diverged():
    """x' = -x + x^3 leaves from beyond 1; y is pulled to 0."""
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 / 2 - p[0] ** 4 / 4, p[1] ** 2 / 2), [(0.0, 0.0)])
    result = basins(game, sgd(0.1, 0.1), (-1.55, -1.0), (1.55, 1.0), points=(32, 5), steps=400)
    expected = np.where(np.abs(result.starts[:, 0]) < 1, 0, 1)
    np.testing.assert_array_equal(result.labels.ravel(), expected)
    assert result.kinds == ("target", "diverged") and result.destinations[1] is None


@pytest.mark.slow
def test_runs_that_go_round_are_cycling_even_through_a_target():
    update = dy.updates.Alternating(optimisers.sgd(0.1), optimisers.sgd(0.1))
    result = basins(dy.games.Bilinear(1.0), update, (-1.0, -1.0), (1.0, 1.0), points=5, steps=1000, tolerance=0.9)
    assert result.kinds == ("target", "cycling") and result.counts.tolist() == [1, 24]
    assert result.labels[2, 2] == 0


@pytest.mark.slow
def test_where_runs_come_to_rest_is_found():
    unknown = dy.Game.from_losses(TWO.function)
    options = dict(points=(14, 10), steps=400)
    result = basins(unknown, sgd(0.1, 0.2), (-2.0, -1.5), (1.5, 2.0), **options)
    assert result.kinds == ("found",) * 4 and set(result.names) == {"(-1, -1)", "(-1, 1)", "(1, -1)", "(1, 1)"}
    assert np.all(np.diff(result.counts) <= 0)
    known = basins(TWO, sgd(0.1, 0.2), (-2.0, -1.5), (1.5, 2.0), **options)
    np.testing.assert_array_equal(np.array(result.names)[result.labels], np.array(known.names)[known.labels])


@pytest.mark.slow
def test_a_start_on_an_unstable_equilibrium_stays_there():
    result = basins(ONE, sgd(0.1), (-0.7,), (1.3,), points=3, steps=300)
    assert [result.names[label] for label in result.labels] == ["(-1)", "(0.3), unstable", "(1)"]


def test_a_line_of_equilibria_is_one_destination():
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 / 2, 0.0 * p[1]))
    result = basins(game, sgd(0.5, 0.5), (-1.0, -1.0), (1.0, 1.0), points=21, steps=100, tolerance=0.05)
    assert result.kinds == ("found",) and result.counts.tolist() == [441]


@pytest.mark.slow
def test_ends_found_on_both_sides_of_the_seam_are_the_same():
    game = dy.Game.from_losses(lambda p, key=None: (jnp.cos(p[0]), p[1] ** 2 / 2))
    result = basins(game, sgd(0.5, 0.5), (-6.0, -1.0), (6.0, 1.0), points=4, steps=200, period=(TURN, None))
    assert result.names == ("(3.142, 0)",) and result.counts.tolist() == [16]


@pytest.mark.slow
def test_too_few_steps_leave_runs_undecided():
    result = basins(ONE, sgd(1e-4), (-2.0,), (2.0,), points=4, steps=100)
    assert result.kinds[-1] == "undecided" and result.counts[-1] == 4


@pytest.mark.slow
def test_every_run_draws_its_own_minibatches_whatever_the_chunk():
    def losses(p, key=None):
        noise = 0.0 if key is None else 0.3 * jax.random.normal(key)
        return (well(p[0]) + noise * p[0],)

    game = dy.Game.from_losses(losses, [(1.0,), (-1.0,)])
    options = dict(points=10, steps=200, tolerance=0.5, minibatch_key=jax.random.key(2))
    whole, parts = (basins(game, sgd(0.1), (-2.0,), (2.0,), chunk=n, **options) for n in (10, 4))
    np.testing.assert_allclose(parts.ends, whole.ends, atol=1e-12)
    assert len(np.unique(np.round(whole.ends, 6))) == 10


# The report and the picture


@pytest.fixture(scope="module")
def torus():
    return basins(dy.games.Torus(), sgd(0.1, 0.1), **STARTS, steps=6000, period=TURN)


def test_the_result_reads_well(torus):
    lines = torus.describe().splitlines()
    assert lines[0] == "a grid of 12 x 12 starts, 6000 steps"
    assert lines[1].strip().startswith(f"{100 * torus.fractions[1]:.2f} % rotating")
    data = json.loads(json.dumps(torus.to_dict(), allow_nan=False))
    assert data["labels"] == torus.labels.tolist() and data["errors"] == [None, None]
    assert data["destinations"] == [[0.0, 0.0], None]
    assert dy.basins is basins


@pytest.mark.parametrize("kind", ["grid", "line", "random"])
def test_pictures(kind, torus):
    if kind == "grid":
        result = torus
    elif kind == "line":
        result = basins(ONE, sgd(0.1), (-2.0,), (2.0,), points=80, steps=600)
    else:
        result = basins(ONE, sgd(0.1), (-2.0,), (2.0,), random=80, key=jax.random.key(0), steps=600)
    figure = plots.basins(result, "A title")
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert figure.get_suptitle().startswith("A title") and axes.get_xlabel()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    for name, fraction in zip(result.names, result.fractions):
        assert f"{name}: {100 * fraction:.1f} %" in texts
    if kind == "grid":
        drawn = np.asarray(axes.collections[0].get_array())
        np.testing.assert_array_equal(drawn, result.labels.T)  # the first coordinate to the right
        assert "unstable equilibrium" in texts


CENTRE, GAME3 = (0.0, 0.0), dy.games.Quadratic([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: basins(TWO, 3, CENTRE, (1, 1), steps=5), TypeError, "method is 3; expected an update"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 0), until=5.0), ValueError, "expected finite low < high"),
        (lambda: basins(TWO, FLOW, (0.0,), (1, 0), until=5.0), ValueError, "low has 1 players and high 2"),
        (lambda: basins(GAME3, FLOW, (0, 0, 0), (1, 1, 1), until=5.0), ValueError, "3 parameters, too many for a grid"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, points=1), ValueError, "points is 1"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, points=(3, 3, 3)), ValueError, "one for each of 2 axes"),
        (lambda: basins(TWO, sgd(0.1, 0.2), CENTRE, (1, 1), steps=1.5), ValueError, "steps is 1.5; expected a whole"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, chunk=0), ValueError, "chunk is 0"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, random=9), ValueError, "random starts need random num"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, tolerance=0.0), ValueError, "tolerance is 0.0"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, period=-1.0), ValueError, "period is -1.0"),
        (lambda: basins(TWO, FLOW, CENTRE, (1, 1), until=5.0, targets=[(1.0,)]), ValueError, "a target has 1 players"),
        (lambda: basins(TWO, FLOW, 0, 1, until=5.0, plane=[(0, 0)]), ValueError, "plane is"),
        (lambda: basins(TWO, FLOW, 0, 1, until=5.0, plane=[(0, 0), (1, 1), (2, 2)]), ValueError, "zero or parallel"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
