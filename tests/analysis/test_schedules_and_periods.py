"""Methods whose steps depend on their number: schedules, counters, hyper-parameters, memory that never rests."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.analysis.stability.periods import find_period
from dynamics.compiler.data_flow import Kind, autonomous_inputs, kinds
from dynamics.game import as_players
from dynamics.updates import Averaged, Simultaneous
from dynamics.updates.base import State, Update

POINT = (jnp.zeros(2), jnp.zeros(()))
MATRIX = np.array([[1.0, 0.3, 1.2], [0.3, 0.5, 0.4], [-1.1, 0.2, 0.6]])  # of the losses' gradients


def _losses(players, key=None):
    x, y = players
    own = x @ jnp.asarray(MATRIX[:2, :2]) @ x / 2 + x @ jnp.asarray(MATRIX[:2, 2]) * y
    return own, y * (jnp.asarray(MATRIX[2, :2]) @ x) + MATRIX[2, 2] * y**2 / 2


GAME = dy.Game.from_losses(_losses, [POINT])


def twice(optimiser):
    return Simultaneous(optimiser, optimiser)


def cycle(*rates):
    """A schedule of these rates in turn, in whole numbers."""
    return lambda count: jnp.asarray(rates)[count % len(rates)]


def product(*rates, matrix=MATRIX):
    """The eigenvalues of one step of gradient descent with each of the rates, by hand."""
    whole = np.eye(len(matrix))
    for rate in rates:
        whole = (np.eye(len(matrix)) - rate * matrix) @ whole
    return np.linalg.eigvals(whole)


def same_spectrum(found, expected, tolerance=1e-10):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for value in expected:
        nearest = int(np.argmin(np.abs(np.array(found) - value)))
        assert abs(found.pop(nearest) - value) < tolerance * (1 + abs(value))


@pytest.mark.slow_cases("(2.5, 0.1, 0.1, 0.1)", "(0.1, 0.1, 1.9)", "(0.1, 2.5)")
@pytest.mark.parametrize("rates", [(0.1, 2.5), (2.5, 0.1, 0.1, 0.1), (0.1, 0.1, 1.9)], ids=str)
def test_a_schedule_that_goes_round_is_judged_over_its_period(rates):
    report = dy.stability(GAME, twice(optax.sgd(cycle(*rates))))
    expected = product(*rates)
    same_spectrum(report.eigenvalues, expected)
    radius = np.abs(expected).max() ** (1 / len(rates))
    assert report.period == len(rates)
    assert report.verdict == ("stable" if radius < 1 else "unstable")
    np.testing.assert_allclose([report.radius, report.rate], [radius, np.log(radius)], rtol=1e-10)
    assert f"repeats after {len(rates)} steps" in report.describe() and report.to_dict()["period"] == len(rates)


@pytest.mark.slow
def test_the_rate_per_step_is_that_of_a_run():
    update = twice(optax.sgd(cycle(0.1, 0.1, 1.9)))
    run = dy.simulate(GAME, update, (jnp.asarray([1e-3, 2e-3]), jnp.asarray(1e-3)), steps=900, save_every=300)
    norms = [np.sqrt(sum(np.sum(np.asarray(leaf)[i] ** 2) for leaf in run.players)) for i in (0, -1)]
    steps = np.asarray(run.steps)
    measured = np.log(norms[1] / norms[0]) / (steps[-1] - steps[0])
    np.testing.assert_allclose(dy.stability(GAME, update).rate, measured, atol=0.02)


@pytest.mark.slow
def test_slingshot_is_a_shrinking_identity_after_two_steps():
    """Rates (h, -h), then (-h, h), on f = sigma x y: (1 - h^2 sigma^2) I (Shugart and Altschuler 2025)."""
    sigma, h = 1.3, 0.2
    game = dy.games.Bilinear(sigma)
    report = dy.stability(game, Simultaneous(optax.sgd(cycle(h, -h)), optax.sgd(cycle(-h, h))))
    np.testing.assert_allclose(report.jacobian, (1 - (h * sigma) ** 2) * np.eye(2), atol=1e-14)
    assert report.period == 2 and report.verdict == "stable"


class LazyPenalty(Update):
    """Gradient descent on a game whose penalty counts k-fold at every k-th step, a counter in memory."""

    rate: jax.Array
    every: int

    def init(self, game, players):
        return State(players, jnp.asarray(0))

    def step(self, game, state, key=None):
        weight = jnp.where(state.memory % self.every == 0, self.every * 1.0, 0.0)
        lazy = dy.games.DiracGAN(dy.objectives.NonSaturating(), penalty=dy.penalties.R1(weight))
        plain = Simultaneous(dy.optimisers.sgd(self.rate), dy.optimisers.sgd(self.rate))
        return State(
            plain.step(lazy, State(state.players, plain.init(lazy, state.players).memory)).players, state.memory + 1
        )

    @classmethod
    def example(cls, players=2):
        return cls(jnp.asarray(0.1), 2)


@pytest.mark.slow_cases("4-0.45")
@pytest.mark.parametrize("every, largest", [(1, 4.0), (4, 0.450)])
def test_lazy_penalties_have_the_known_largest_step(every, largest):
    """Penalty weight 1, non-saturating Dirac-GAN, simultaneous: 4.0, and .450 with every fourth step."""
    game = dy.games.DiracGAN(dy.objectives.NonSaturating())
    for factor, verdict in ((0.99, "stable"), (1.01, "unstable")):
        report = dy.stability(game, LazyPenalty(jnp.asarray(factor * largest), every))
        assert (report.verdict, report.period) == (verdict, every)


@pytest.mark.slow_cases("apply_every")
@pytest.mark.slow_cases("MultiSteps")
@pytest.mark.parametrize("wrapped", [
    lambda: optax.MultiSteps(optax.sgd(0.3), 3).gradient_transformation(),
    lambda: optax.chain(optax.apply_every(3), optax.sgd(0.1)),
], ids=["MultiSteps", "apply_every"])  # fmt: skip
def test_one_step_with_several_gradients(wrapped):
    """Both take one step with the mean or the sum of three gradients at one point."""
    report = dy.stability(GAME, twice(wrapped()))
    same_spectrum(report.eigenvalues[np.abs(report.eigenvalues) > 1e-5], product(0.3), 1e-6)
    assert report.period == 3 and report.verdict == "stable"


@pytest.mark.slow
def test_smooth_schedules_with_and_without_a_period():
    h = 0.1
    cosine = dy.stability(GAME, twice(optax.sgd(lambda count: h * (1.2 + jnp.cos(2 * jnp.pi * count / 12)))))
    same_spectrum(cosine.eigenvalues, product(*(h * (1.2 + np.cos(np.pi * k / 6)) for k in range(12))), 1e-6)
    assert cosine.period == 12
    for schedule in (
        lambda count: h * (1.2 + jnp.cos(count)),  # quasi-periodic
        lambda count: jnp.where(count % 200_000 < 100_000, 0.1, 2.5),  # constant over long stretches
        lambda count: 0.01 * jnp.log(2.0 + count),  # grows for ever
    ):
        report = dy.stability(GAME, twice(optax.sgd(schedule)))
        assert report.verdict == "marginal" and report.period == 0 and np.isnan(report.radius)
        assert "neither settles nor repeats" in report.notes[-1]


def test_schedules_that_come_to_rest_are_held_there():
    for schedule in (
        optax.warmup_cosine_decay_schedule(0.0, 0.3, 100, 1000, 0.1),
        lambda count: 0.1 + 1 / jnp.sqrt(1.0 + count) ** 3,
    ):
        report = dy.stability(GAME, twice(optax.sgd(schedule)))
        assert report.period == 1
        same_spectrum(report.eigenvalues, product(0.1), 1e-8)


@pytest.mark.slow
def test_hyper_parameters_in_the_state_are_no_coordinates():
    plain = dy.stability(GAME, twice(optax.adamw(1e-2, eps=0.5)))
    kept = dy.stability(GAME, twice(optax.inject_hyperparams(optax.adamw)(1e-2, eps=0.5)))
    same_spectrum(kept.eigenvalues, plain.eigenvalues, 1e-12)
    assert (kept.verdict, kept.neutral) == (plain.verdict, plain.neutral) and kept.verdict == "stable"


@pytest.mark.slow
def test_a_second_copy_of_the_players_is_a_coordinate():
    """What moves by itself, as the iterates of an average do, is left out only where no eigenvalue is lost."""
    same_spectrum(dy.stability(GAME, Averaged(twice(optax.sgd(0.1)), 0.9)).eigenvalues, [*product(0.1), 0.9, 0.9, 0.9])
    assert dy.stability(GAME, Averaged(twice(optax.sgd(2.5)))).verdict == "unstable"


@pytest.mark.slow
def test_schedule_free_descent_rests_at_an_equilibrium():
    """z' = z + h g(y), x' = x + (z' - x) / t, y = b x + (1 - b) z: for late t, the matrix times (1 - b) h."""
    h, b = 0.1, 0.9
    report = dy.stability(GAME, twice(optax.contrib.schedule_free_sgd(h, b1=b)))
    fast = report.eigenvalues[np.abs(report.eigenvalues - 1) > 1e-6]
    same_spectrum(fast, product((1 - b) * h), 1e-7)
    assert report.verdict == "stable" and any("fade" in note for note in report.notes)
    lost = dy.Game.from_losses(lambda p, key=None: tuple(-2 * loss for loss in _losses(p)), [POINT])
    assert dy.stability(lost, twice(optax.contrib.schedule_free_sgd(h, b1=b))).verdict == "unstable"


class Counting(Update):
    """Gradient descent with a memory that a function makes of itself, and a rate that a function makes of it."""

    start: float
    next: callable
    rate: callable

    def init(self, game, players):
        return State(players, jnp.asarray(self.start))

    def step(self, game, state, key=None):
        rate = self.rate(state.memory)
        players = jax.tree.map(lambda x, v: x + rate * v, state.players, game.field(state.players, key))
        return State(players, jnp.asarray(self.next(state.memory)))

    @classmethod
    def example(cls, players=2):
        return cls(0.0, lambda t: t + 1, lambda t: 0.1)


def test_memory_that_neither_rests_nor_repeats_decides_nothing():
    chaotic = Counting(0.3, lambda t: 3.9 * t * (1 - t), lambda t: 0.1 + t)
    report = dy.stability(GAME, chaotic)
    assert report.verdict == "marginal" and np.isnan(report.radius) and "does not come to rest" in report.notes[-1]
    with pytest.raises(ValueError, match="no Jacobian|neither"):
        dy.analysis.transient_growth(report)


@pytest.mark.slow
def test_floating_counters_and_flags():
    counter = dy.stability(GAME, Counting(0.0, lambda t: t + 1, lambda t: jnp.where(t % 2 == 0, 0.1, 2.5)))
    flag = dy.stability(GAME, Counting(1.0, lambda t: -t, lambda t: jnp.where(t > 0, 0.1, 2.5)))
    for report in (counter, flag):
        assert report.period == 2
        same_spectrum(report.eigenvalues[: len(MATRIX)], product(0.1, 2.5), 1e-9)


@pytest.mark.slow
def test_slow_memory_is_at_rest_where_it_settles():
    """Adadelta under noise s: the mean square of its own steps takes about s^2 / eps steps to grow to s^2.

    At rest the scale of a step is 1. A step that sees +-s + J z has (1 - rho) J z less of it on average, since its own
    square is in the mean square it is divided by.
    """
    s, h, rho = 0.1, 0.1, 0.9
    report = dy.stability(GAME, twice(optax.adadelta(h, rho=rho)), gradient_noise=s)
    fast = [value for value in report.eigenvalues if abs(value - rho) > 1e-3 and abs(value - 1) > 1e-4]
    assert report.verdict == "stable"
    same_spectrum(fast, product(h * rho), 1e-3)


@pytest.mark.slow
def test_a_running_maximum_under_noise_is_no_kink():
    report = dy.stability(GAME, twice(optax.amsgrad(0.02, b1=0.5)), gradient_noise=0.1)
    held = 0.02 / (0.1 * np.sqrt(1 + 2.0**-10) + 1e-8)
    momentum = np.block([[np.eye(3) - held * 0.5 * MATRIX, 0.5 * held * np.eye(3)], [-0.5 * MATRIX, 0.5 * np.eye(3)]])
    assert report.smoothness == "smooth" and report.pieces is None and report.neutral == 3
    np.testing.assert_allclose(report.radius, max(np.abs(np.linalg.eigvals(momentum)).max(), 0.999), rtol=1e-7)


@pytest.mark.slow
def test_in_single_precision():
    point = as_players((np.zeros(2, np.float32), np.float32(0)))
    for rates in ((0.1, 2.5), (0.1, 0.1, 1.9)):
        report = dy.stability(GAME, twice(optax.sgd(cycle(*map(np.float32, rates)))), point)
        assert report.period == len(rates)
        np.testing.assert_allclose(report.radius, np.abs(product(*rates)).max() ** (1 / len(rates)), rtol=1e-5)


@pytest.mark.slow
def test_charts_and_sweeps_follow_the_period():
    def build(scale, every):
        rates = optax.sgd(lambda count: jnp.where(count % every == 0, 1.7, 0.1))
        return dy.games.Quadratic([[1.0, scale], [-scale, 1.0]]), twice(rates), (1.0, 1.0)

    axes = {"scale": [0.5, 2.0], "every": [1.0, 3.0]}
    chart = dy.stability_chart(build, axes)
    sweep = dy.sweep(build, axes, steps=60)
    for i, scale in enumerate(axes["scale"]):
        for j, every in enumerate((1, 3)):
            values = product(1.7, *[0.1] * (every - 1), matrix=np.array([[1.0, scale], [-scale, 1.0]]))
            radius = np.abs(values).max() ** (1 / every)
            for found in (chart, sweep):
                np.testing.assert_allclose(found.predicted_radius.values[i, j], radius, rtol=1e-10)
                assert found.predicted_verdict.values[i, j] == int(radius > 1)
                np.testing.assert_allclose(found.predicted_rate.values[i, j], np.log(radius), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_a_chart_gives_no_verdict_where_nothing_repeats():
    def build(scale):
        return dy.games.Quadratic([[scale, 1.0], [-1.0, 1.0]]), twice(
            optax.sgd(lambda count: 0.1 + 0.1 * jnp.cos(count))
        )

    chart = dy.stability_chart(lambda scale: (*build(scale), (1.0, 1.0)), {"scale": [0.5, 1.0]})
    assert np.all(chart.predicted_verdict.values == -1) and np.all(np.isnan(chart.predicted_radius.values))


@pytest.mark.slow
def test_other_questions_follow_the_period_or_say_why_not():
    def build(scale):
        return (
            GAME,
            twice(optax.chain(optax.sgd(1.0), optax.scale_by_schedule(cycle(0.1, 1.0)), optax.scale(scale))),
            POINT,
        )

    found = dy.critical(build, 0.5, 4.0, samples=16)
    largest = max(np.abs(product(0.1 * found.value, 1.0 * found.value)))
    np.testing.assert_allclose(largest, 1, atol=1e-8)
    with pytest.raises(ValueError, match="depend on their number"):
        dy.sensitivity(build, 1.0)
    with pytest.raises(ValueError, match="goes round"):
        dy.stationary_covariance(*build(1.0), noise=np.eye(3))


def test_find_period_of_what_comes_to_rest():
    adam = find_period(GAME, twice(optax.adam(0.1)), POINT)
    assert (adam.steps, adam.reason) == (1, "")


def test_data_flow_through_loops_and_branches():
    """The numbers at the frontier are those of the counter that act on x, wherever they do."""

    def program(count, kept, x):
        def body(carry, row):
            number, value = carry
            return (number + 1, value * jnp.where(number % 2 == 0, 2.0, 3.0) + row), number * 1.0

        (last, value), rows = jax.lax.scan(body, (count, x), jnp.arange(3.0))
        value = jax.lax.cond(count % 3 == 0, lambda v, n: v * n, lambda v, n: v + n, value, jnp.sqrt(1.0 + count % 2))
        value = jax.lax.while_loop(
            lambda pair: pair[1] < 10, lambda pair: (pair[0], pair[1] + pair[0] ** 2 + 1), (kept, value)
        )[1]
        return last, rows, kept, jnp.where(value > 0, value, 0.0)

    closed = jax.make_jaxpr(program)(0, 1.0, 1.0)
    found = kinds(closed.jaxpr, [Kind.autonomous, Kind.autonomous, Kind.coupled])
    assert [kind.name for kind in found] == ["autonomous", "autonomous", "autonomous", "coupled"]

    def frontier(count, kept):
        arrays = []
        results = autonomous_inputs(closed, [(count, True), (kept, True), None], arrays)
        assert results[3] is None
        np.testing.assert_allclose(results[1], count + np.arange(3.0))
        assert int(results[0]) == count + 3
        return np.concatenate([np.ravel(np.asarray(array, float)) for array in arrays])

    first = frontier(0, 1.0)
    for count in (6, 12, 600):
        np.testing.assert_array_equal(frontier(count, 1.0), first)
    for count, kept in ((1, 1.0), (2, 1.0), (3, 1.0), (0, 2.0)):
        assert not np.array_equal(frontier(count, kept), first)
