"""What became of a run: periods, several frequencies and chaos; rest that is no convergence; where numbers end."""

import itertools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from dynamics import optimisers
from dynamics.outcomes import Crossings, evidence_of_samples, summarise
from dynamics.simulation import Outcome, simulate

FLOW = dy.flows.Flow()


def outcome(run):
    return Outcome(int(run.outcome)).name


def sgd(rate, players=2, kind=dy.updates.Simultaneous):
    return kind(*[optimisers.sgd(rate)] * players)


def powers(z):
    """1, the coordinates, and their products, in order."""
    pairs = itertools.combinations_with_replacement(range(len(z)), 2)
    return jnp.stack([jnp.ones_like(z[0]), *z, *[z[i] * z[j] for i, j in pairs]])


class Polynomial(dy.Game):
    """A player per number; the field is a polynomial of degree 2 in all of them: any such map in one program."""

    coefficients: jax.Array  # (players, monomials)

    def losses(self, players, key=None):
        directions = self.coefficients.astype(jnp.result_type(*players)) @ powers(jax.lax.stop_gradient(players))
        return tuple(-direction * player for direction, player in zip(directions, players, strict=True))

    def equilibria(self):
        return []

    @classmethod
    def example(cls):
        return cls(jnp.zeros((2, 6)))


UNIT_STEP = sgd(1.0)


def planar(coefficients, scale=1.0):
    """The map with these coefficients of 1, x, y, x^2, x y, y^2, in units of the scale, as a step of rate 1."""
    shift = np.array(coefficients, float)
    shift[:, 0] *= scale
    shift[:, 3:] /= scale
    shift[[0, 1], [1, 2]] -= 1
    return Polynomial(jnp.asarray(shift))


def logistic(r, scale=1.0):
    return planar([[0, r, 0, -r, 0, 0], [0, 0, 0.5, 0, 0, 0]], scale)


def henon(a, scale=1.0):
    return planar([[1, 0, 1, -a, 0, 0], [0, 0.3, 0, 0, 0, 0]], scale)


def delayed_logistic(a):
    return planar([[0, a, 0, 0, -a, 0], [0, 1, 0, 0, 0, 0]])


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return planar([[0, c, -2 * s, 0, 0, 0], [0, s / 2, c, 0, 0, 0]])


def of_map(game, start=(0.3, 0.2), steps=4000):
    return simulate(game, UNIT_STEP, start, steps=steps, save_every="last")


# Maps


@pytest.mark.parametrize(
    "game, period",
    [
        (logistic(3.2), 2),
        (logistic(3.5), 4),
        (logistic(3.55), 8),
        (logistic(3.83), 3),
        (henon(0.9), 2),
        (henon(1.0), 4),
        (rotation(2 * np.pi * 3 / 10), 10),
        (rotation(2 * np.pi / 3.7), 37),  # closes up after ten turns
        (rotation(1.6963), 2 * np.pi / 1.6963),  # never closes up: the mean time of a turn
        (rotation(0.1), 2 * np.pi / 0.1),
        (rotation(2.9), 2 * np.pi / 2.9),
    ],
)
def test_the_period_of_a_cycle_is_that_after_which_it_closes(game, period):
    run = of_map(game)
    assert outcome(run) == "cycling"
    np.testing.assert_allclose(run.period, period, rtol=2e-3)


@pytest.mark.parametrize("game", [logistic(3.7), logistic(3.9), henon(1.4), delayed_logistic(2.27)])
def test_chaotic_maps(game):
    run = of_map(game)
    assert outcome(run) == "chaotic" and np.isnan(run.period)
    assert "exponentially" in run.describe()


@pytest.mark.slow_cases("float32-100000.0", "float32-1e-05")
@pytest.mark.parametrize("scale", [1e5, 1e-5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_size_of_the_players_does_not_matter(scale, dtype):
    start = dtype(0.3 * scale), dtype(0.2 * scale)
    expected = {3.5: ("cycling", 4), 3.9: ("chaotic", np.nan), 2.8: ("converged", np.nan)}
    for r, (name, period) in expected.items():
        run = of_map(logistic(r, scale), start)
        assert outcome(run) == name
        np.testing.assert_equal(float(run.period), period)


def test_an_invariant_circle_is_no_chaos():
    """The delayed logistic map past its Neimark-Sacker bifurcation at a = 2, with the period of its rotation."""
    run = of_map(delayed_logistic(2.05), steps=8000)
    z, turned, previous = np.array([0.3, 0.2]), 0.0, None
    for step in range(12_000):
        z = np.array([2.05 * z[0] * (1 - z[1]), z[0]])
        angle = np.arctan2(*(z - (1 - 1 / 2.05)))
        if step >= 8000:
            turned += np.mod(angle - previous, 2 * np.pi)
        previous = angle
    turned = min(turned, 2 * np.pi * 4000 - turned)  # whichever way round
    assert outcome(run) == "cycling"
    np.testing.assert_allclose(run.period, 2 * np.pi * 4000 / turned, rtol=0.01)


@pytest.mark.slow
def test_two_frequencies_have_no_period():
    rates = jnp.asarray([1.0, np.sqrt(2)])
    game = dy.Game.from_losses(lambda p, key=None: (jnp.sum(rates * p[0] * p[1]), -jnp.sum(rates * p[0] * p[1])))
    start = jnp.asarray([1.0, 0.7]), jnp.asarray([0.0, 0.2])
    run = simulate(game, sgd(0.3, kind=dy.updates.Alternating), start, steps=5000, save_every="last")
    assert outcome(run) == "cycling" and np.isnan(run.period)
    assert "no period" in run.describe()


@pytest.mark.slow
def test_slow_spirals_of_several_frequencies_are_no_cycles():
    """Frequencies that grow or shrink by a tenth or so per quarter of the run, with beats; at constant amplitude."""
    quarter, frequencies = 1000, np.array([0.011, 0.029, 0.047, 0.083])

    def run_of(growth, key):
        factor = jnp.exp(growth / quarter)
        damping, turning = 1 - factor * jnp.cos(frequencies), factor * jnp.sin(frequencies)

        def losses(players, key=None):
            x, y = players
            first = jnp.sum(damping * x**2 / 2 + turning * x * y - damping * y**2 / 2)
            return first, -first

        start = jax.random.normal(key, (2, 4))
        run = simulate(dy.Game.from_losses(losses), UNIT_STEP, tuple(start), steps=4 * quarter, save_every="last")
        return run.outcome, quarter * run.rate

    rng = np.random.default_rng(0)
    growth = rng.uniform(0.08, 0.4, (400, 4)) * rng.choice([-1, 1], (400, 4))
    growth[:20] = 0
    outcomes, rates = jax.jit(jax.vmap(run_of))(growth, jax.random.split(jax.random.key(0), len(growth)))
    cycling = outcomes == Outcome.cycling
    assert np.mean(cycling[:20]) >= 0.6  # beats may last as long as the run
    assert np.mean(cycling[20:]) <= 0.02  # what grows may take the place of what shrinks at the same amplitude
    assert not np.any(np.abs(rates[cycling]) > 0.05)


# Power laws, held apart from what looks like them


@pytest.mark.slow_cases("0.1-12800", "0.5-3000")
@pytest.mark.parametrize("rate, steps", [(0.5, 3000), (0.1, 12800)])
def test_the_alternating_dirac_gan_shrinks_by_the_predicted_power(rate, steps):
    update = sgd(rate, kind=dy.updates.Alternating)
    game = dy.games.DiracGAN(dy.objectives.NonSaturating())
    run = dy.simulate(game, update, (1.0, 1.0), steps=steps)
    assert outcome(run) == "power_law"
    assert float(run.exponent) == pytest.approx(dy.stability(game, update, at=(0.0, 0.0)).decay.exponent, abs=0.015)
    assert "like t^-0." in run.describe() and run.to_dict()["exponent"] == float(run.exponent)
    # The one that keeps its circles, and the one that leaves, do no such thing.
    assert outcome(dy.simulate(dy.games.Bilinear(1.0), update, (1.0, 1.0), steps=steps)) == "cycling"
    assert np.isnan(float(dy.simulate(game, sgd(rate), (1.0, 1.0), steps=steps).exponent))


@pytest.mark.parametrize("order, exponent", [(4, 0.5), (3, 1.0), (6, 0.25)])
def test_a_player_that_creeps_to_rest_does_so_by_a_power_law(order, exponent):
    """x' = -x^(order - 1), from x = 1: one player moves one way, the other is at rest."""
    game = dy.Game.from_losses(lambda players, key=None: (jnp.abs(players[0]) ** order / order, 0.0 * players[1]))
    run = dy.simulate(game, sgd(0.05), (1.0, 0.0), steps=40_000, tolerance=1e-9)
    assert outcome(run) == "power_law" and float(run.exponent) == pytest.approx(exponent, rel=0.06)


SEGMENTS_OF = 64 * 50


def orbit(sizes, angles, generator):
    """Points of a plane at these distances and angles, seen through a random linear map."""
    plane = sizes[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return plane @ (generator.normal(size=(2, 2)) + 1.5 * np.eye(2)) + generator.normal(size=2)


def ended(points):
    """The summary of a run through these points, whose field does not vanish."""
    last = points[3 * (len(points) - 1) // 4 :]
    axis = np.argmax(np.ptp(last, axis=0))
    level = last[:, axis] - (last.max(axis=0) + last.min(axis=0))[axis] / 2
    at = np.flatnonzero((level[:-1] < 0) & (level[1:] >= 0))
    share = -level[at] / (level[at + 1] - level[at]) if len(at) else np.zeros(0)
    passed = last[at] + share[:, None] * (last[at + 1] - last[at])
    width = np.linalg.norm(np.ptp(passed, axis=0)) if len(at) else 0.0
    ends = (at + share)[[0, -1]] if len(at) else np.zeros(2)
    crossings = Crossings(len(at), ends[0], ends[1], np.array([width]), 1.0)
    return summarised(np.arange(len(points), dtype=float), (points,), crossings)


@jax.jit
def summarised(times, points, crossings):
    fields, variation = jnp.array([[1.0], [0.3], [0.2], [0.1]]), jnp.array([1e-9])
    evidence = evidence_of_samples(times, points, crossings, fields, variation, 1e-15)
    return summarise(evidence, jnp.asarray(1e-3), jnp.asarray(1e6))


def of_many(make, count=200):
    generator = np.random.default_rng(7)
    summaries = [ended(make(generator, np.arange(SEGMENTS_OF + 1.0))) for _ in range(count)]
    names = dy.outcomes.names(np.array([summary.outcome for summary in summaries]))
    return names, np.array([summary.exponent for summary in summaries])


def test_powers_of_time_are_recognised():
    def make(generator, t, power=0.5):
        size = (1 + t / 10 ** generator.uniform(-1, 1)) ** -power
        return orbit(size, 10 ** generator.uniform(-1, 0) * t, generator)

    for power in (1.0, 0.5, 0.25):
        names, exponents = of_many(lambda generator, t, p=power: make(generator, t, p))
        assert (names == "power_law").mean() > 0.8
        assert np.nanmax(np.abs(exponents / power - 1)) < 0.06


@pytest.mark.parametrize("family", ["one rate", "rates", "real rates", "weak Hopf", "beats", "to a cycle"])
def test_what_is_no_power_of_time_is_not_called_one(family):
    """Of sums of exponentials and their like at most one in a hundred comes as close to p = 1, 1/2 or 1/4."""

    def make(generator, t):
        share, angles = t / SEGMENTS_OF, 10 ** generator.uniform(-1.5, 0) * t
        if family == "rates":
            sizes = [np.exp(-(10 ** generator.uniform(-1, 2)) * share) for _ in range(3)]
            return np.hstack([orbit(size, 10 ** generator.uniform(-1.5, 0) * t, generator) for size in sizes])
        if family == "real rates":
            rates, sizes = 10 ** generator.uniform(-1, 2, 4), 10 ** generator.uniform(-1, 1, 4)
            return np.exp(-rates * share[:, None]) * sizes
        if family == "weak Hopf":  # r' = a r - b r^3, over some times 1/a
            a, b = generator.choice([-1, 1]) * 10 ** generator.uniform(0.3, 1.5), 10 ** generator.uniform(-1, 3)
            return orbit((np.exp(-2 * a * share) + b / a * (1 - np.exp(-2 * a * share))) ** -0.5, angles, generator)
        decay = np.exp(-(10 ** generator.uniform(-2, 1.5)) * share)
        if family == "beats":
            return orbit(decay * (1 + 0.5 * np.cos(10 ** generator.uniform(0, 3) * share)), angles, generator)
        if family == "to a cycle":
            return orbit(1 + 10 ** generator.uniform(-2, 1) * decay, angles, generator)
        return orbit(decay, angles, generator)

    names, exponents = of_many(make)
    assert (names == "power_law").mean() <= 0.01
    assert np.array_equal(np.isfinite(exponents), names == "power_law")


def test_a_slow_spiral_is_no_cycle():
    """A tenth over the whole run, in or out, on turns of 40 steps or more; what keeps its size to .1 % is one."""

    def make(generator, t, least, most):
        rate = generator.choice([-1, 1]) * generator.uniform(least, most)
        return orbit(np.exp(rate * t / SEGMENTS_OF), 10 ** generator.uniform(-1.5, -0.8) * t, generator)

    assert not np.any(of_many(lambda generator, t: make(generator, t, 0.1, 1.0))[0] == "cycling")
    assert np.all(of_many(lambda generator, t: make(generator, t, 0.0, 0.001))[0] == "cycling")


def iterated(step, z, count):
    """Smallest number of steps after which the orbit closes up, 0 if none up to 64 does, and its exponent."""
    tangent, total = np.array([0.6, 0.8]), 0.0
    for n in range(2 * count):
        z, tangent = step(z, tangent)
        size = np.linalg.norm(tangent)
        tangent, total = (
            (tangent / size if size > 0 else np.array([0.6, 0.8])),
            total + (n >= count) * np.log(size + 1e-300),
        )
    first = z
    for period in range(1, 65):
        z, _ = step(z, tangent)
        if np.abs(z - first).max() < 1e-9:
            return period, total / count
    return 0, total / count


@pytest.mark.slow
@given(st.sampled_from(["logistic", "henon"]), st.floats(0, 1))
def test_random_maps_against_their_exponents(kind, share):
    """Where the exponent is well on one side of 0, the outcome is that of the orbit, iterated with NumPy."""
    if kind == "logistic":
        r = 2.9 + 1.09 * share
        game = logistic(r)

        def step(z, v):
            return np.array([r * z[0] * (1 - z[0]), 0]), np.array([r * (1 - 2 * z[0]) * v[0], 0])

    else:
        a = 0.4 + share
        game = henon(a)

        def step(z, v):
            x, y = z
            return np.array([1 - a * x**2 + y, 0.3 * x]), np.array([-2 * a * x * v[0] + v[1], 0.3 * v[0]])

    run = of_map(game)
    period, exponent = iterated(step, np.array([0.3, 0.2 * (kind == "henon")]), 4000)
    if exponent > 0.05:
        assert outcome(run) == "chaotic"
    elif exponent < -0.02 and period == 1:
        assert outcome(run) == "converged"
    elif exponent < -0.02 and 1 < period <= 64:
        assert outcome(run) == "cycling" and float(run.period) == period


@pytest.mark.slow
def test_a_sweep_and_basins_follow_the_same_rule():
    values = np.array([2.8, 3.2, 3.5, 3.7, 3.83, 3.9])

    def build(r):
        matrix = jnp.zeros((2, 6)).at[0, 1].set(r - 1).at[0, 3].set(-r).at[1, 2].set(-0.5)
        return Polynomial(matrix), UNIT_STEP, (0.3, 0.2)

    found = dy.sweep(build, {"r": values}, steps=4000, predict=False)
    runs = [of_map(logistic(r)) for r in values]
    np.testing.assert_array_equal(found.outcome, [run.outcome for run in runs])
    np.testing.assert_allclose(found.period, [run.period for run in runs])
    assert {"cycling", "chaotic", "converged"} == {outcome(run) for run in runs}
    assert "chaotic stalled not_a_number power_law" in found.outcome.attrs["flag_meanings"]
    box = (0.2, 0.0), (0.8, 0.1)
    basins = dy.basins(logistic(3.9), UNIT_STEP, *box, points=(3, 2), steps=4000, targets=[])
    assert basins.kinds == ("chaotic",)


# Flows


def in_space(rows):
    """Three players; the coefficients of 1, x, y, z, x^2, x y, x z, y^2, y z, z^2."""
    return Polynomial(jnp.asarray(rows, float))


def lorenz(rho):
    return in_space(
        [
            [0, -10, 10, 0, 0, 0, 0, 0, 0, 0],
            [0, rho, -1, 0, 0, 0, -1, 0, 0, 0],
            [0, 0, 0, -8 / 3, 0, 1, 0, 0, 0, 0],
        ]
    )


def roessler(c):
    return in_space(
        [
            [0, 0, -1, -1, 0, 0, 0, 0, 0, 0],
            [0, 1, 0.2, 0, 0, 0, 0, 0, 0, 0],
            [0.2, 0, 0, -c, 0, 0, 1, 0, 0, 0],
        ]
    )


@pytest.mark.slow_cases(
    "game2-200.0-cycling-1.153", "game3-1000.0-cycling-5.749", "game4-1000.0-cycling-11.545", "game5-2000.0-chaotic-nan"
)
@pytest.mark.slow_cases("game1-200.0-chaotic-nan", "game0-200.0-converged-nan")
@pytest.mark.parametrize(
    "game, until, expected, period",
    [
        (lorenz(10.0), 200.0, "converged", np.nan),
        (lorenz(28.0), 200.0, "chaotic", np.nan),
        (lorenz(160.0), 200.0, "cycling", 1.153),  # several turns to a period
        (roessler(2.5), 1000.0, "cycling", 5.749),
        (roessler(3.5), 1000.0, "cycling", 11.545),  # twice round
        (roessler(5.7), 2000.0, "chaotic", np.nan),
    ],
)
def test_flows_in_space(game, until, expected, period):
    run = simulate(game, FLOW, (1.0, 1.0, 1.0), until=until, save_every="last")
    assert outcome(run) == expected
    np.testing.assert_allclose(run.period, period, rtol=2e-3)


@pytest.mark.slow_cases("300.0", "9000.0")
@pytest.mark.parametrize("until", [300.0, 9000.0])
def test_turns_of_a_flow_do_not_alias(until):
    """The period of the Dirac-GAN is 4 pi for small amplitudes, however long the run.

    With the minimax objective: orbits of the non-saturating one, whose period is the same, shrink by r' = -r^3 / 16.
    """
    game = dy.games.DiracGAN(objective=dy.objectives.Minimax())
    run = simulate(game, FLOW, (0.01, 0.005), until=until, save_every="last")
    assert outcome(run) == "cycling"
    np.testing.assert_allclose(run.period, 4 * np.pi, rtol=1e-3)


@pytest.mark.slow
def test_an_undecided_run_says_what_would_decide():
    game = dy.games.Bilinear(1.0)
    run = simulate(game, FLOW, (1.0, 0.0), until=50.0, save_every="last")
    assert outcome(run) == "undecided" and "units of time should decide" in run.describe()
    more = simulate(game, FLOW, (1.0, 0.0), until=float(run.needed), save_every="last")
    assert outcome(more) == "cycling"
    damped = dy.games.Quadratic([[0.06, 1.0], [-1.0, 0.06]])
    run = simulate(damped, sgd(0.1), (1.0, 0.5), steps=2000, save_every="last")
    assert outcome(run) == "undecided" and "steps should decide" in run.describe()
    more = simulate(damped, sgd(0.1), (1.0, 0.5), steps=int(run.needed), save_every="last")
    assert outcome(more) == outcome(simulate(damped, sgd(0.1), (1.0, 0.5), steps=20_000, save_every="last"))


@pytest.mark.slow
def test_a_stiff_flow_says_where_it_stopped_and_what_helps():
    game = dy.Game.from_losses(lambda p, key=None: (1e7 * p[0] ** 2 / 2, (p[1] - jnp.cos(p[0])) ** 2 / 2))
    run = simulate(game, FLOW, (1.0, 2.0), until=100.0, save_every="last", max_steps=2000)
    assert outcome(run) == "undecided" and bool(run.gave_up) and 0 < float(run.reached) < 1
    assert "Kvaerno5" in run.describe() and f"time {float(run.reached):.6g}" in run.describe()
    implicit = simulate(
        game, FLOW, (1.0, 2.0), until=100.0, save_every="last", max_steps=2000, solver=diffrax.Kvaerno5()
    )
    assert outcome(implicit) == "converged" and not implicit.gave_up and float(implicit.reached) == 100.0


# Rest that is no convergence


def softplus(players, key=None):
    return jax.nn.softplus(-players[0]), players[1] ** 2 / 2


@pytest.mark.slow_cases("start2", "start1", "start0")
@pytest.mark.parametrize("start", [(0.0, 1e5), (-1000.0, 1e5), (-1000.0, 0.0)])
def test_players_on_the_way_to_infinity_do_not_converge(start):
    """log(1 + e^-x) falls for ever: x grows like log t."""
    for method, length in ((sgd(0.5), dict(steps=20_000)), (FLOW, dict(until=10_000.0))):
        run = simulate(dy.Game.from_losses(softplus), method, start, save_every="last", **length)
        assert outcome(run) == "undecided"


def test_a_spiral_whose_field_is_small_at_the_end_of_a_quarter_does_not_creep():
    run = simulate(dy.games.DiracGAN(penalty=dy.penalties.R1(0.85)), sgd(0.1), (1.0, 1.0), steps=1000)
    assert outcome(run) == "converged"


@pytest.mark.slow
def test_spirals_that_shrink_by_many_decades_converge():
    """By 12 to 60 e-folds, on a sixth of a turn to ten: one in a thousand stays open, where a phase is unlucky."""
    random, count = np.random.default_rng(0), 4000
    decay, frequency = (np.exp(random.uniform(*np.log(ends), count)) / 1000 for ends in ((12, 60), (1, 60)))
    skew = np.exp(0.7 * random.normal(size=count))

    def build(decay, forth, back, x, y):
        game = dy.games.Quadratic([[decay[None, None], forth[None, None]], [back[None, None], decay[None, None]]])
        return game, sgd(1.0), (x[None], y[None])

    axes = dict(decay=decay, forth=-frequency * skew, back=frequency / skew)
    axes |= dict(x=random.normal(size=count), y=random.normal(size=count))
    outcomes = dy.sweep(build, axes, design="zip", steps=1000, predict=False).outcome.values
    assert set(np.unique(outcomes)) <= {dy.Outcome.converged, dy.Outcome.undecided}
    assert np.mean(outcomes == dy.Outcome.undecided) <= 0.0015


def test_players_whom_rounding_stops_on_the_way_to_infinity_are_stalled():
    start = np.float32(13.0), np.float32(0.0)
    run = simulate(dy.Game.from_losses(softplus), sgd(0.1), start, steps=2000, save_every="last")
    assert outcome(run) == "stalled"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16])
def test_steps_that_move_nobody_are_no_convergence(dtype):
    start = dtype(1.0), dtype(1.0)
    for rate in (0.0, 1e-18, 1e-4 if dtype is jnp.bfloat16 else 1e-20):
        run = simulate(dy.games.Bilinear(1.0), sgd(rate), start, steps=500, save_every="last")
        assert outcome(run) == "stalled" and float(run.residual) > 1
    assert "not converged" in run.describe() and "residual 1.4" in run.describe()


def test_a_rate_that_decays_brings_players_to_rest_anywhere():
    decaying = optax.sgd(optax.exponential_decay(0.1, 10, 0.5))
    update = dy.updates.Simultaneous(decaying, decaying)
    run = simulate(dy.games.Bilinear(1.0), update, (5.0, 6.0), steps=2000, save_every="last")
    assert outcome(run) == "stalled" and float(run.residual) > 8


@pytest.mark.slow
def test_degenerate_and_slow_equilibria_do_converge():
    quartic = dy.Game.from_losses(lambda p, key=None: (p[0] ** 4, (p[1] - 1) ** 2 / 2))
    assert outcome(simulate(quartic, sgd(0.1), (1.0, 3.0), steps=60_000, save_every="last")) == "converged"
    game = dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]], offsets=[1.0, -0.3])
    for dtype, rate, steps in itertools.product((np.float32, np.float64), (1e-3, 0.1), (30_000,)):
        run = simulate(game, sgd(rate), (dtype(1.0), dtype(-3.0)), steps=steps, save_every="last")
        assert outcome(run) == "converged"
        again = simulate(game, sgd(0.1), run.final, steps=steps, save_every="last")
        assert outcome(again) == "converged"


# Where numbers end


class Rooted(dy.Game):
    """The second player falls into the singularity of a root, a norm or a logarithm."""

    kind: str = eqx.field(static=True)

    def losses(self, players, key=None):
        x, y = players
        size = {
            "root": lambda: jnp.sqrt(jnp.maximum(y[0], 0.0)),
            "norm": lambda: jnp.linalg.norm(y),
            "logarithm": lambda: jnp.log(jnp.abs(y[0])) * jnp.where(y[0] > 0.4, 0.0, 1.0),
        }[self.kind]()
        return jnp.sum(x**2) / 2, size

    def equilibria(self):
        return []

    @classmethod
    def example(cls):
        return cls("norm")


@pytest.mark.slow_cases("norm-4", "root-None")
@pytest.mark.parametrize("kind, step", [("root", None), ("norm", 4)])
def test_a_gradient_that_is_not_a_number_is_told_with_player_and_step(kind, step):
    start = jnp.ones(1), jnp.asarray([1.0, 0.0])
    run = simulate(Rooted(kind), sgd(0.25), start, steps=100)
    bad = int(np.flatnonzero(~np.isfinite(run.players[1]).all(axis=1))[0])
    assert outcome(run) == "not_a_number"
    assert int(run.reached) == bad - 1 and run.failed.tolist() == [False, True]
    assert step is None or bad == step + 1
    assert f"after step {bad - 1} the gradient of player 1 is not a number" in run.describe()
    assert "norm or square root at 0" in run.describe()

    def one(size):
        return simulate(Rooted(kind), sgd(0.25), (size * start[0], start[1] * (1 + size)), steps=100, save_every="last")

    runs = jax.vmap(one)(jnp.asarray([0.0, 1e3]))
    assert Outcome(int(runs.outcome[0])) is Outcome.not_a_number and int(runs.reached[0]) == bad - 1
    found = dy.sweep(
        lambda size: (Rooted(kind), sgd(0.25), (size * start[0], start[1])), {"size": [0.5, 1.0]}, steps=100
    )
    assert (found.outcome == Outcome.not_a_number).all()


@pytest.mark.slow
def test_an_infinite_gradient_is_told_from_growth():
    """A start on the singularity, against a game that grows from step to step until it overflows."""
    start = jnp.ones(1), jnp.asarray([0.25, 0.0])
    run = simulate(Rooted("logarithm"), sgd(0.0625), start, steps=100)
    assert outcome(run) == "not_a_number" and run.failed.tolist() == [False, True]
    growing = dy.Game.from_losses(lambda p, key=None: (-(p[0] ** 4), p[1] ** 2))
    run = simulate(growing, sgd(0.5), (2.0, 1.0), steps=100)
    assert outcome(run) == "diverged" and not run.failed.any()


@pytest.mark.slow
def test_a_flow_into_a_singularity():
    game = dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 / 2, 2 * jnp.sqrt(p[1])))
    run = simulate(game, FLOW, (1.0, 0.5), until=10.0, save_every="last", max_steps=2000)
    assert outcome(run) == "not_a_number" and run.failed.tolist() == [False, True]
    np.testing.assert_allclose(run.reached, 0.5**1.5 / 1.5, rtol=1e-4)  # y' = - 1 / sqrt(y)
    assert "player 1" in run.describe()


def test_every_outcome_has_advice():
    for one in Outcome:
        assert len(one.advice) > 40
