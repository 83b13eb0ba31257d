"""Numbers that depend on the step: against plain NumPy loops, and verdicts against products of matrices."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.optimisers import adam, momentum, sgd
from dynamics.penalties import R1
from dynamics.schedules import Every
from dynamics.updates import Alternating, Averaged, Lookahead, Scheduled, Simultaneous

GAMMA = 0.6


def slope(t):
    return 1 / (1 + np.exp(t))


def factor_every(k):
    return lambda t: k if t % k == 0 else 0


def by_hand(factor, steps, h, alternating=False, gamma=GAMMA):
    """The non-saturating Dirac-GAN with R1, whose weight depends on the step."""
    theta, psi = 0.7, 0.4
    for t in range(steps):
        moved = theta - h[0] * psi * slope(-theta * psi)
        seen = moved if alternating else theta
        psi += h[1] * (seen * slope(seen * psi) - factor(t) * gamma * psi)
        theta = moved
    return theta, psi


@eqx.filter_jit
def run(update, game, start, steps):
    body = jax.lax.scan(lambda state, _: (update.step(game, state), None), update.init(game, start), length=steps)
    return body[0]


@pytest.mark.parametrize("alternating", [False, True])
def test_lazy_r1_is_that_of_a_plain_loop(alternating):
    scheme = Alternating if alternating else Simultaneous
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    for k in (1, 3):
        update = Scheduled(scheme(sgd(0.3), sgd(0.2)), Every(k))
        final = run(update, game, start, 10)
        np.testing.assert_allclose(final.players, by_hand(factor_every(k), 10, (0.3, 0.2), alternating), rtol=1e-13)
        assert int(final.memory.count) == 10


def matrix(h, gamma, alternating=False, a=0.5):
    """One step at the equilibrium, generator first: v' = [[0, -a], [a, -gamma]]."""
    move_theta = np.array([[1, -h[0] * a], [0, 1]])
    move_psi = np.array([[1, 0], [h[1] * a, 1 - h[1] * gamma]])
    return move_psi @ move_theta if alternating else move_theta + move_psi - np.eye(2)


@pytest.mark.slow_cases("4-0.46-1.0-False", "4-0.6-1.0-True", "4-0.44-1.0-False", "2-0.3-0.4-True", "3-0.2-0.01-False")
@pytest.mark.parametrize(
    "k, h, gamma, alternating",
    [(4, 0.44, 1.0, False), (4, 0.46, 1.0, False), (4, 0.6, 1.0, True), (2, 0.3, 0.4, True), (3, 0.2, 0.01, False)],
)
def test_the_verdict_on_lazy_r1_is_that_of_the_product(k, h, gamma, alternating):
    scheme = Alternating if alternating else Simultaneous
    update = Scheduled(scheme(sgd(h), sgd(0.8 * h)), Every(k))
    report = dy.stability(dy.games.DiracGAN(penalty=R1(gamma)), update)
    steps = [matrix((h, 0.8 * h), (k if t == 0 else 0) * gamma, alternating) for t in range(k)]
    radius = np.abs(np.linalg.eigvals(functools.reduce(lambda product, step: step @ product, steps))).max()
    assert report.verdict == ("stable" if radius < 1 else "unstable")
    np.testing.assert_allclose(np.exp(report.rate), radius ** (1 / k), rtol=1e-9)


@pytest.mark.slow_cases("True")
@pytest.mark.parametrize("alternating", [False, True])
def test_a_penalty_that_is_left_out_changes_nothing(alternating):
    scheme = Alternating if alternating else Simultaneous
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    lazy, skipping = (Scheduled(scheme(sgd(0.3), sgd(0.2)), Every(3), skip=skip) for skip in (False, True))
    one, other = (run(update, game, start, 10).players for update in (lazy, skipping))
    np.testing.assert_allclose(other, one, rtol=1e-14)
    program = str(jax.make_jaxpr(skipping.step)(game, skipping.init(game, start)))
    assert "cond[" in program and "cond[" not in str(jax.make_jaxpr(lazy.step)(game, lazy.init(game, start)))
    if alternating:
        reports = [dy.stability(game, update) for update in (lazy, skipping)]
        assert reports[0].verdict == reports[1].verdict
        np.testing.assert_allclose(reports[1].rate, reports[0].rate, rtol=1e-9)


def test_the_largest_stable_step_of_lazy_r1():
    """0.450 for gamma = 1 and every fourth step, where the plain penalty allows 4."""
    game = dy.games.DiracGAN(penalty=R1(1.0))

    def verdict(h):
        return dy.stability(game, Scheduled(Simultaneous(sgd(h), sgd(h)), Every(4))).verdict

    assert (verdict(0.449), verdict(0.451)) == ("stable", "unstable")
    assert dy.stability(game, Simultaneous(sgd(3.99), sgd(3.99))).verdict == "stable"


def test_a_weight_that_is_burnt_in_is_judged_at_its_limit():
    decay = optax.cosine_decay_schedule(1.0, 50, alpha=0.1)
    game, inner = dy.games.DiracGAN(penalty=R1(2.0)), Simultaneous(sgd(0.9), sgd(0.9))
    report = dy.stability(game, Scheduled(inner, decay))
    limit = dy.stability(dy.games.DiracGAN(penalty=R1(0.2)), inner)
    assert report.verdict == limit.verdict == "unstable"
    np.testing.assert_allclose(report.radius, limit.radius, rtol=1e-12)
    assert dy.stability(game, inner).verdict == "stable"
    final = run(Scheduled(inner, decay), game, (jnp.asarray(0.7), jnp.asarray(0.4)), 60)
    np.testing.assert_allclose(final.players, by_hand(lambda t: float(decay(t)), 60, (0.9, 0.9), gamma=2.0), rtol=1e-10)


def test_a_schedule_that_never_rests_gets_no_verdict():
    def wandering(step):
        return 1.5 + jnp.sin(1.0 * step)  # one radian a step

    update = Scheduled(Simultaneous(sgd(0.3), sgd(0.3)), wandering)
    report = dy.stability(dy.games.DiracGAN(penalty=R1(0.5)), update)
    assert report.verdict == "marginal" and any("schedule" in note for note in report.notes)


def test_numbers_of_the_update_and_several_places():
    """The decay of an average; and two numbers of a game at once, by the same factor."""
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    inner = Simultaneous(sgd(0.3), sgd(0.2))
    average = Scheduled(
        Averaged(inner, 0.8), lambda step: jnp.minimum(step / 2, 1.0), lambda game, update: update.decay
    )
    first, second = (run(inner, game, start, count).players for count in (1, 2))
    expected = [0.4 * a + 0.6 * b for a, b in zip(first, second)]  # the first decay is 0
    np.testing.assert_allclose(run(average, game, start, 2).players, expected, rtol=1e-13)

    both = Scheduled(
        inner, lambda step: 1.0 + step, lambda game, update: (game.penalty, update.steppers.optimisers[1].positional[0])
    )
    theta, psi = 0.7, 0.4
    for t in range(3):
        theta, psi = (
            theta - 0.3 * psi * slope(-theta * psi),
            psi + (1 + t) * 0.2 * (theta * slope(theta * psi) - (1 + t) * GAMMA * psi),
        )
    np.testing.assert_allclose(run(both, game, start, 3).players, (theta, psi), rtol=1e-13)


def test_beta_2_of_adam_is_burnt_in():
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    inner = Simultaneous(sgd(0.3), adam(0.1, 0.5, 0.9, 1e-3))
    schedule = optax.linear_schedule(1.0, 1.1, 4)
    update = Scheduled(inner, schedule, lambda game, update: update.steppers.optimisers[1].keywords["b2"])
    (theta, psi), mean, square = (0.7, 0.4), 0.0, 0.0
    for t in range(6):
        b2 = 0.9 * (1 + 0.1 * min(t / 4, 1))
        gradient = GAMMA * psi - theta * slope(theta * psi)
        mean, square = 0.5 * mean + 0.5 * gradient, b2 * square + (1 - b2) * gradient**2
        change = 0.1 * mean / (1 - 0.5 ** (t + 1)) / (np.sqrt(square / (1 - b2 ** (t + 1))) + 1e-3)
        theta, psi = theta - 0.3 * psi * slope(-theta * psi), psi - change
    np.testing.assert_allclose(run(update, game, start, 6).players, (theta, psi), rtol=1e-6)  # optax rounds to float32


def test_nested_schedules_and_inner_steps():
    """Two schedules multiply; within Lookahead a step is an inner step, around it a cycle."""
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    inner = Simultaneous(sgd(0.3), sgd(0.2))
    twice = Scheduled(Scheduled(inner, Every(2)), lambda step: 1.0 + step)
    expected = by_hand(lambda t: factor_every(2)(t) * (1 + t), 5, (0.3, 0.2))
    np.testing.assert_allclose(run(twice, game, start, 5).players, expected, rtol=1e-13)
    within = Lookahead(Scheduled(inner, Every(2)), steps=3, weight=1.0)
    np.testing.assert_allclose(run(within, game, start, 2).players, by_hand(factor_every(2), 6, (0.3, 0.2)), rtol=1e-13)
    around = Scheduled(Lookahead(inner, steps=3, weight=1.0), Every(2))
    np.testing.assert_allclose(
        run(around, game, start, 2).players, by_hand(lambda t: 2 * (t < 3), 6, (0.3, 0.2)), rtol=1e-13
    )


@pytest.mark.slow
def test_memory_and_variables_of_the_inner_update_are_kept():
    """Momentum; and the vectors of spectral normalisation, which are those without a schedule."""
    game, start = dy.games.DiracGAN(penalty=R1(GAMMA)), (jnp.asarray(0.7), jnp.asarray(0.4))
    plain = Simultaneous(momentum(0.3, 0.5), momentum(0.2, -0.3))
    one, other = (run(update, game, start, 5) for update in (plain, Scheduled(plain, Every(1))))
    np.testing.assert_allclose(other.players, one.players, rtol=1e-14)
    np.testing.assert_allclose(jax.tree.leaves(other.memory.inner), jax.tree.leaves(one.memory), rtol=1e-14)

    layer = eqx.nn.SpectralNorm(eqx.nn.Linear(2, 1, key=jax.random.key(0)), "weight", key=jax.random.key(1))
    critic, psi = dy.networks.from_equinox(layer)
    data = jnp.asarray([[1.0, 0.3], [0.2, -0.4]])
    gan = dy.GAN(lambda t, z: t + z, critic, data, data[::-1], penalty=R1(0.1))
    start = (jnp.asarray([0.3, 0.1]), psi)
    finals = [
        dy.simulate(gan, update, start, steps=4, classify=False).final
        for update in (Alternating(sgd(0.3), sgd(0.2)), Scheduled(Alternating(sgd(0.3), sgd(0.2)), Every(1)))
    ]
    for one, other in zip(*map(jax.tree.leaves, finals)):
        np.testing.assert_allclose(other, one, rtol=1e-12)


def test_another_interval_or_weight_compiles_nothing():
    traces = 0

    @eqx.filter_jit
    def step(update, game, players):
        nonlocal traces
        traces += 1
        return update.step(game, update.init(game, players)).players

    results = set()
    for k, weight in ((2, 0.3), (5, 0.3), (5, 0.7)):
        update, game = Scheduled(Simultaneous(sgd(0.3), sgd(0.2)), Every(k)), dy.games.DiracGAN(penalty=R1(weight))
        results.add(float(step(update, game, (jnp.asarray(0.7), jnp.asarray(0.4)))[1]))
    assert traces == 1 and len(results) == 3


def test_float32_players_stay_float32():
    update = Scheduled(Simultaneous(sgd(0.3), sgd(0.2)), optax.cosine_decay_schedule(1.0, 5))
    players = (jnp.asarray(0.7, jnp.float32), jnp.asarray(0.4, jnp.float32))
    game = dy.games.DiracGAN(penalty=R1(0.3))
    state = update.step(game, update.init(game, players))
    assert [player.dtype for player in state.players] == [np.float32] * 2
    update = Scheduled(Simultaneous(sgd(0.3), sgd(0.2)), Every(2), skip=True)
    state = update.step(game, update.init(game, players))
    assert [player.dtype for player in state.players] == [np.float32] * 2


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Every(0), ValueError, "Every.interval is 0; expected a whole number >= 1"),
        (lambda: Every(2.5), ValueError, "Every.interval is 2.5"),
        (lambda: Scheduled(3, Every(2)), TypeError, "inner_update is 3; expected a Update"),
        (lambda: Scheduled(Simultaneous.example(), 0.5), TypeError, "schedule is 0.5; expected a function"),
        (
            lambda: Scheduled(Simultaneous.example(), Every(2), "weight"),
            TypeError,
            "where is 'weight'; expected a func",
        ),
        (lambda: started(Every(2)), ValueError, "Bilinear has no penalty .* where=lambda game, update: game.weight"),
        (lambda: started(lambda step: None, lambda g, u: g.matrix), TypeError, "the schedule returned None; expected"),
        (lambda: started(lambda step: jnp.ones(2)), TypeError, r"returned array of shape \(2,\).*expected one number"),
        (lambda: started(Every(2), lambda g, u: u.order), TypeError, "where picks .*; expected a number of the game"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def started(schedule, where=None):
    players = (jnp.asarray(1.0), jnp.asarray(2.0))
    return Scheduled(Alternating.example(), schedule, where).init(dy.games.Bilinear(1.0), players)
