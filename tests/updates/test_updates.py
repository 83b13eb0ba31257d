"""Updates and optimisers against plain NumPy loops of the published algorithms, on a game without symmetry."""

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from asymmetric import RATES

import dynamics as dy
from dynamics import optimisers
from dynamics.catalogue import members
from dynamics.schedules import gap_aware, gap_multiplier
from dynamics.updates import Alternating, Clip, Extragradient, Simultaneous

PLAYERS = (2, 3)
DTYPES = (np.float32, np.float64)
STEPS = 12


@eqx.filter_jit
def iterate(update, game, players, count, key=None):
    def body(i, state):
        return update.step(game, state, None if key is None else jax.random.fold_in(key, i))

    return jax.lax.fori_loop(0, count, body, update.init(game, players))


def path(update, players, dtype=np.float64, steps=STEPS):
    """The players after `steps` steps; numbers in game and update have the players' precision."""
    from dynamics import _trees

    update, game = _trees.cast((update, asymmetric.make(players)), dtype)
    return iterate(update, game, asymmetric.start(players, dtype), steps).players


def sgd(players):
    return [optimisers.sgd(rate) for rate in RATES[:players]]


def rates(players):
    return np.repeat(RATES[:players], asymmetric.SIZES[players])


def run_by_hand(step, players, steps=STEPS):
    z = np.linspace(-0.6, 0.8, sum(asymmetric.SIZES[players]))
    for t in range(steps):
        z = step(z, t)
    return z


def take_turns(aim, players, order, repeats):
    """One step of z with player after player along `aim(z)`, rates included."""
    game = asymmetric.ByHand(players)

    def step(z, t):
        z = z.copy()
        for player in order:
            for _ in range(repeats[player]):
                part = game.parts[player]
                z[part] = z[part] + RATES[player] * aim(z)[part]
        return z

    return step


DIRECTIONS = {
    "gradient": (dy.directions.Gradient(), lambda game: game.field),
    "consensus": (dy.directions.Consensus(0.3), lambda game: lambda z: game.consensus(z, 0.3)),
    "symplectic": (dy.directions.SymplecticAdjustment(0.7), lambda game: lambda z: game.symplectic(z, 0.7, True)),
}


@pytest.mark.parametrize("name, players", [("gradient", 2), ("consensus", 3), ("symplectic", 2), ("symplectic", 3)])
def test_simultaneous(name, players):
    direction, aim = DIRECTIONS[name]
    aim = aim(asymmetric.ByHand(players))
    expected = run_by_hand(lambda z, t: z + rates(players) * aim(z), players)
    asymmetric.same(path(Simultaneous(*sgd(players), direction=direction), players), expected)


@pytest.mark.parametrize(
    "order, repeats", [((1, 0), (1, 1)), ((0, 1), (2, 3)), ((1, 0), (3, 1)), ((2, 0, 1), (1, 2, 2))]
)
def test_alternating(order, repeats):
    players = len(order)
    game = asymmetric.ByHand(players)
    expected = run_by_hand(take_turns(game.field, players, order, repeats), players)
    update = Alternating(*sgd(players), order=order, repeats=repeats)
    asymmetric.same(path(update, players), expected)


@pytest.mark.parametrize("players", PLAYERS)
def test_alternating_by_default_lets_player_0_begin_and_moves_everybody_once(players):
    game = asymmetric.ByHand(players)
    expected = run_by_hand(take_turns(game.field, players, range(players), (1,) * players), players)
    asymmetric.same(path(Alternating(*sgd(players)), players), expected)


@pytest.mark.slow
def test_alternating_with_another_direction():
    game = asymmetric.ByHand(2)
    expected = run_by_hand(take_turns(lambda z: game.consensus(z, 0.3), 2, (1, 0), (2, 1)), 2)
    update = Alternating(*sgd(2), order=(1, 0), repeats=(2, 1), direction=dy.directions.Consensus(0.3))
    asymmetric.same(path(update, 2), expected)


@pytest.mark.parametrize("players", PLAYERS)
def test_extragradient_with_two_step_sizes(players):
    game, ahead = asymmetric.ByHand(players), (0.05, 0.2, 0.13)[:players]
    gamma = np.repeat(ahead, asymmetric.SIZES[players])
    expected = run_by_hand(lambda z, t: z + rates(players) * game.field(z + gamma * game.field(z)), players)
    asymmetric.same(path(Extragradient(*sgd(players), extrapolation=ahead), players), expected)
    common = run_by_hand(lambda z, t: z + rates(players) * game.field(z + 0.05 * game.field(z)), players)
    asymmetric.same(path(Extragradient(*sgd(players), extrapolation=0.05), players), common)


@pytest.mark.parametrize("order, repeats", [((1, 0), (1, 2)), ((2, 0, 1), None)])
def test_extragradient_in_turns(order, repeats):
    players = len(order)
    game, ahead = asymmetric.ByHand(players), (0.05, 0.2, 0.13)[:players]
    gamma = np.repeat(ahead, asymmetric.SIZES[players])
    step = take_turns(lambda z: game.field(z + gamma * game.field(z)), players, order, repeats or (1,) * players)
    update = Extragradient(*sgd(players), extrapolation=ahead, order=order, repeats=repeats)
    asymmetric.same(path(update, players), run_by_hand(step, players))


def test_gauss_seidel_extragradient_on_the_bilinear_game():
    """x+ = x - a(y + g2 x), y+ = y + b(x+ - g1 y) for f = xy (Zhang and Yu 2020), stable iff s < 1 for equal steps."""
    game, (a, b), (g1, g2) = dy.games.Bilinear(1.0), (0.3, 0.2), (0.4, 0.1)
    update = Extragradient(optimisers.sgd(a), optimisers.sgd(b), extrapolation=(g1, g2), order=(0, 1))
    state = update.step(game, update.init(game, (jnp.asarray(1.0), jnp.asarray(2.0))))
    x = 1.0 - a * (2.0 + g2 * 1.0)
    y = 2.0 + b * (x - g1 * 2.0)
    np.testing.assert_allclose(state.players, (x, y), rtol=1e-14)


# Optimisers: one step of each algorithm as in its paper, on the gradient g.


class Sgd:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, z, g):
        return z - self.rate * g


class HeavyBall(Sgd):
    def __init__(self, rate, beta):
        self.rate, self.beta, self.before = rate, beta, None

    def __call__(self, z, g):
        moved = 0 if self.before is None else z - self.before
        self.before = z
        return z - self.rate * g + self.beta * moved


class Optimistic(Sgd):
    def __init__(self, rate, first):
        self.rate, self.first, self.before = rate, first, None

    def __call__(self, z, g):
        if self.before is None:
            self.before = g if self.first == "current" else 0 * g
        z = z - 2 * self.rate * g + self.rate * self.before
        self.before = g
        return z


class Adam(Sgd):
    def __init__(self, rate, b1, b2, eps, eps_root=0.0):
        self.rate, self.b1, self.b2, self.eps, self.eps_root = rate, b1, b2, eps, eps_root
        self.m, self.v, self.t = 0.0, 0.0, 0

    def __call__(self, z, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return z - self.rate * m / (np.sqrt(v + self.eps_root) + self.eps)


class RmsProp(Sgd):
    def __init__(self, rate, decay, eps):
        self.rate, self.decay, self.eps, self.v = rate, decay, eps, 0.0

    def __call__(self, z, g):
        self.v = self.decay * self.v + (1 - self.decay) * g**2
        return z - self.rate * g / np.sqrt(self.v + self.eps)


OPTIMISERS = {
    "sgd": (lambda h: optimisers.sgd(h), optax.sgd, Sgd),
    "momentum": (lambda h: optimisers.momentum(h, 0.6), lambda h: optax.sgd(h, 0.6), lambda h: HeavyBall(h, 0.6)),
    "negative momentum": (
        lambda h: optimisers.momentum(h, -0.4),
        lambda h: optax.sgd(h, -0.4),
        lambda h: HeavyBall(h, -0.4),
    ),
    "optimistic": (
        lambda h: optimisers.optimistic(h),
        optax.optimistic_gradient_descent,
        lambda h: Optimistic(h, "current"),
    ),
    "optimistic from zero": (lambda h: optimisers.optimistic(h, "zero"), None, lambda h: Optimistic(h, "zero")),
    "adam": (
        lambda h: optimisers.adam(h, 0.5, 0.9, 1e-3, 1e-4),
        lambda h: optax.adam(h, 0.5, 0.9, 1e-3, 1e-4),
        lambda h: Adam(h, 0.5, 0.9, 1e-3, 1e-4),
    ),
    "adam by default": (optimisers.adam, optax.adam, lambda h: Adam(h, 0.9, 0.999, 1e-8)),
    "rmsprop": (
        lambda h: optimisers.rmsprop(h, 0.8, 1e-4),
        lambda h: optax.rmsprop(h, 0.8, 1e-4),
        lambda h: RmsProp(h, 0.8, 1e-4),
    ),
}


def by_hand_with(makers, players, alternating=False):
    """The path of the optimisers in NumPy, one per player."""
    game, steppers = asymmetric.ByHand(players), [make(rate) for make, rate in zip(makers, RATES)]

    def step(z, t):
        new = z.copy()
        for stepper, part in zip(steppers, game.parts):
            g = -game.field(new if alternating else z)[part]
            new[part] = stepper(z[part], g)
        return new

    return run_by_hand(step, players)


@pytest.fixture(scope="module", params=DTYPES, ids=lambda dtype: dtype.__name__)
def paths(request):
    """The end of a run with every optimiser, ours and optax's own, in one program."""

    dtype = request.param
    updates = {
        (name, which): Simultaneous(*(make(rate) for rate in RATES[:2]))
        for name, (ours, bare, _) in OPTIMISERS.items()
        for which, make in (("ours", ours), ("bare", bare))
        if make is not None
    }

    return dtype, asymmetric.ends(updates, STEPS, dtype)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name, paths):
    dtype, found = paths
    _, bare, by_hand = OPTIMISERS[name]
    asymmetric.same(found[name, "ours"], by_hand_with([by_hand] * 2, 2), dtype, scale=5)
    if bare is not None:
        asymmetric.same(found[name, "bare"], asymmetric.flat(found[name, "ours"]), dtype, scale=0.1)


@pytest.mark.parametrize("alternating", [False, True])
def test_every_player_has_its_own_optimiser(alternating):
    names = ("negative momentum", "adam", "optimistic")
    kind = Alternating if alternating else Simultaneous
    update = kind(*(OPTIMISERS[name][0](rate) for name, rate in zip(names, RATES)))
    expected = by_hand_with([OPTIMISERS[name][2] for name in names], 3, alternating)
    asymmetric.same(path(update, 3), expected, scale=5)


def test_the_first_step_of_the_optimistic_method():
    """A plain step, or one of twice the length: published versions differ."""
    game, start = dy.games.Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0))
    for first, length in (("current", 1), ("zero", 2)):
        update = Simultaneous(*[optimisers.optimistic(0.1, first)] * 2)
        found = update.step(game, update.init(game, start)).players
        np.testing.assert_allclose(found, (1 - length * 0.2, 2 + length * 0.1), rtol=1e-14)
    with pytest.raises(ValueError, match="first is 'last'; expected 'current' or 'zero'"):
        optimisers.optimistic(0.1, first="last")


@pytest.mark.parametrize("kind", [Simultaneous, Alternating])
def test_projection(kind):
    update = kind(*sgd(2), projections=(None, Clip(0.15)))
    game, aim = asymmetric.ByHand(2), asymmetric.ByHand(2).field

    def step(z, t):
        new = z + rates(2) * aim(z)
        if kind is Alternating:
            new[2:] = z[2:] + RATES[1] * aim(np.concatenate([new[:2], z[2:]]))[2:]
        new[game.parts[1]] = np.clip(new[game.parts[1]], -0.15, 0.15)
        return new

    expected = run_by_hand(step, 2)
    assert np.max(np.abs(expected[2:])) == 0.15
    asymmetric.same(path(update, 2), expected)


def test_projection_applies_to_the_look_ahead_too():
    game, start = dy.games.Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.9))
    update = Extragradient(*[optimisers.sgd(0.5)] * 2, extrapolation=0.5, projections=(None, Clip(1.0)))
    found = update.step(game, update.init(game, start)).players
    # ahead: x = 1 - 0.45, y = 0.9 + 0.5, clipped to 1; step: x = 1 - 0.5, y = 0.9 + 0.275, clipped to 1
    np.testing.assert_allclose(found, (0.5, 1.0), rtol=1e-14)


# Gap-aware scheduling


@pytest.mark.parametrize(
    "ratio, factor",
    [(0.85, 0.1), (0.9, 0.1), (0.95, 0.31622776601683794), (1.0, 1.0), (1.05, 2**0.5), (1.1, 2.0), (1.2, 2.0)],
)
def test_gap_multiplier(ratio, factor):
    ideal = 2 * np.log(2)
    np.testing.assert_allclose(gap_multiplier(ratio * ideal, ideal), factor, rtol=1e-13)
    np.testing.assert_allclose(gap_multiplier(-2.0 + (ratio - 1) * 2.0, -2.0), factor, rtol=1e-13)
    np.testing.assert_allclose(gap_multiplier(ratio - 1, 0.0, 0.1, 2.0, 0.1, 0.1), factor, rtol=1e-13)


@pytest.mark.parametrize(
    "loss, factor", [(1.2, 0.1), (1.3, 0.238516138), (1.4, 1.070930819), (1.45, 1.375102391), (1.6, 2.0)]
)
def test_gap_multiplier_against_published_code(loss, factor):
    np.testing.assert_allclose(gap_multiplier(loss, np.log(4)), factor, rtol=1e-8)


def test_gap_multiplier_with_widths_of_its_own():
    found = gap_multiplier(jnp.asarray([-3.0, -1.0, 0.5, 4.0]), 0.0, 0.25, 9.0, 2.0, 1.0)
    np.testing.assert_allclose(found, [0.25, 0.5, 3.0, 9.0], rtol=1e-13)


def test_the_defaults_of_gap_aware():
    """h_min 0.1, f_max 2, widths 0.1 V*, an average of decay 0.95 that starts at V* and is updated before use."""
    ideal, losses = 1.5, [1.2, 1.7, 1.9, 1.1]
    schedule, average = gap_aware(ideal), ideal
    state = schedule.init(jnp.zeros(()))
    assert float(state.average_loss) == ideal
    for loss in losses:
        average = 0.95 * average + 0.05 * loss
        found, state = schedule.update(jnp.asarray(3.0), state, value=loss)
        gap = (average - ideal) / (0.1 * ideal)
        factor = np.clip(2.0**gap, 1, 2) if gap > 0 else np.clip(0.1**-gap, 0.1, 1)
        np.testing.assert_allclose(found, 3 * factor, rtol=1e-13)
        np.testing.assert_allclose(state.average_loss, average, rtol=1e-14)


GAME = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
IDEAL = 2 * np.log(2)


@pytest.mark.slow_cases("False")
@pytest.mark.parametrize("alternating", [False, True])
def test_gap_aware_in_anyones_loop_and_in_ours(alternating):
    """A hand-written optax loop, `optax.chain` in an update, and the ready optimiser: the same numbers."""
    bare = optax.chain(optax.sgd(0.2), gap_aware(IDEAL, decay=0.5))
    ready = optimisers.gap_aware_sgd(0.2, IDEAL, decay=0.5)
    chained = dy.Optimiser(optax.chain, optimisers.sgd(0.2), dy.Optimiser(gap_aware, ideal_loss=IDEAL, decay=0.5))
    theta, psi = jnp.asarray(1.0), jnp.asarray(-1.5)
    memory, sgd_memory = bare.init(psi), optax.sgd(0.1).init(theta)
    for _ in range(STEPS):
        gradient = jax.grad(lambda t, p: GAME.losses((t, p))[0])(theta, psi)
        change, sgd_memory = optax.sgd(0.1).update(gradient, sgd_memory)
        moved = optax.apply_updates(theta, change)
        seen = moved if alternating else theta
        loss, gradient = jax.value_and_grad(lambda p, t: GAME.losses((t, p))[1])(psi, seen)
        change, memory = bare.update(gradient, memory, value=loss)
        theta, psi = moved, optax.apply_updates(psi, change)
    kind = Alternating if alternating else Simultaneous
    for careful in (bare, ready, chained):
        state = iterate(kind(optax.sgd(0.1), careful), GAME, dy.game.as_players((1.0, -1.5)), STEPS)
        np.testing.assert_allclose(state.players, (theta, psi), rtol=1e-12)
        np.testing.assert_allclose(state.memory[1][-1].average_loss, memory[-1].average_loss, rtol=1e-12)


def test_gap_aware_asks_for_what_it_needs():
    with pytest.raises(ValueError, match="pass width_below, an absolute width"):
        gap_aware(0.0)
    with pytest.raises(ValueError, match="pass width_above, an absolute width"):
        gap_aware(0.0, width_below=0.1)
    with pytest.raises(ValueError, match=r"decay is 1; expected in \[0, 1\)"):
        gap_aware(1.0, decay=1.0)
    with pytest.raises(TypeError, match="value=loss"):
        schedule = gap_aware(1.0)
        schedule.update(jnp.zeros(()), schedule.init(jnp.zeros(())))


# Conformance. The programs of some methods take long to compile: those are run with the slow tests as well.
LONG = ("ProximalPoint", "AdaptiveCompetitive")


@pytest.mark.slow_cases(
    "ProximalPoint-2-float32",
    "ODEGAN-3-float64",
    "Scheduled-3-float64",
    "AdaptiveCompetitive-2-float32",
    "Rounded-3-float64",
    "Simultaneous-2-float32",
    "Simultaneous-3-float64",
    "Extragradient-3-float64",
    "ODEGAN-2-float32",
    "PastExtrapolation-3-float64",
    "Rounded-2-float32",
    "RungeKutta-2-float32",
    "RungeKutta-3-float64",
)
@pytest.mark.parametrize(
    "name, players, dtype",
    [
        pytest.param(name, players, dtype, marks=[pytest.mark.slow] * (name in LONG and players > 2))
        for name in members("updates")
        for players, dtype in zip(PLAYERS, DTYPES)
    ],
)
def test_conformance(name, players, dtype):
    """Structure and precision are kept; works compiled, in a batch and with a key that decides everything."""
    from dynamics import _trees

    update, game = _trees.cast((members("updates")[name].example(players), asymmetric.make(players)), dtype)
    point = asymmetric.start(players, dtype)
    begin = update.init(game, point)
    assert eqx.tree_equal(begin.players, point)
    state = iterate(update, game, point, 3)
    assert jax.tree.structure(state) == jax.tree.structure(begin)
    for before, after in zip(jax.tree.leaves(begin), jax.tree.leaves(state)):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    # In a game that is little more than noise the key shows even if only the largest of some numbers counts.
    noise, (key, other) = jax.tree.map(lambda leaf: leaf / 50, game), jax.random.split(jax.random.key(0))
    sampled = iterate(update, noise, point, 3, key)
    assert eqx.tree_equal(sampled, iterate(update, noise, point, 3, key))
    assert not eqx.tree_equal(sampled, iterate(update, noise, point, 3, other))
    batch = jax.tree.map(lambda leaf: jnp.stack([2 * leaf, leaf]), point)
    together = eqx.filter_vmap(iterate, in_axes=(None, None, 0, None))(update, game, batch, 3)
    asymmetric.same(jax.tree.map(lambda leaf: leaf[1], together.players), asymmetric.flat(state.players), dtype)


@pytest.mark.slow_cases(
    "Extragradient", "Simultaneous", "Scheduled", "Alternating", "Averaged", "Rounded", "RungeKutta", "FictitiousPlay"
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in (*LONG, "ODEGAN"))) for name in members("updates")],
)
def test_a_sampled_gan(name):
    game, start = dy.GAN.example()
    update = members("updates")[name].example(2)
    found = iterate(update, game, start, 3, jax.random.key(1))
    assert jax.tree.structure(found.players) == jax.tree.structure(start)
    assert np.all(np.isfinite(asymmetric.flat(found.players)))
    assert eqx.tree_equal(found, iterate(update, game, start, 3, jax.random.key(1)))


@pytest.mark.parametrize("name", optimisers.CATALOGUE)
@pytest.mark.slow_cases("rmsprop")
def test_optimisers_conform(name):
    """Every optimiser of the catalogue in one update: numbers are leaves, precision is kept."""
    more = dict(momentum=(0.5,), gap_aware_sgd=(IDEAL,)).get(name, ())
    one, two = (optimisers.CATALOGUE[name](rate, *more) for rate in (0.1, 0.05))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(one) if not isinstance(leaf, (int, bool)))
    found = path(Simultaneous(one, two), 2, np.float32, steps=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


# What is refused


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Simultaneous(), ValueError, "no optimiser was given; expected one per player"),
        (lambda: Simultaneous(0.1, 0.2), TypeError, "got 0.1 as an optimiser; expected an optax transformation"),
        (lambda: Simultaneous(optax.sgd), TypeError, "as an optimiser; expected an optax transformation"),
        (lambda: Alternating(*sgd(2), order=(0, 0)), ValueError, r"order is \(0, 0\); expected each of the players"),
        (lambda: Alternating(*sgd(2), order=(1, 2)), ValueError, r"order is \(1, 2\)"),
        (
            lambda: Alternating(*sgd(2), repeats=(1, 0)),
            ValueError,
            r"repeats is \(1, 0\); expected a whole number >= 1",
        ),
        (lambda: Alternating(*sgd(2), repeats=(1, 1.0)), ValueError, r"repeats is \(1, 1.0\)"),
        (lambda: Alternating(*sgd(2), repeats=(1,)), ValueError, "for each of 2 players"),
        (lambda: Extragradient(*sgd(2), extrapolation=-0.1), ValueError, "the rate -0.1; expected finite numbers >= 0"),
        (lambda: Extragradient(*sgd(2), extrapolation=(1.0,) * 3), ValueError, "has 3 rates for 2 players"),
        (
            lambda: Extragradient(*sgd(2), extrapolation=0.1, repeats=(1, 2)),
            ValueError,
            "there is no order; give order",
        ),
        (lambda: Simultaneous(*sgd(2), projections=(None,)), ValueError, "1 projections for 2 optimisers"),
        (lambda: Simultaneous(*sgd(2)).init(None, (0.0,)), ValueError, "2 optimisers for 1 players; expected one per"),
        (lambda: optimisers.sgd(-0.1), ValueError, "the learning rate is -0.1; expected a finite number >= 0"),
        (lambda: optimisers.sgd(-1), ValueError, "the learning rate is -1; expected a finite number >= 0"),
        (lambda: optimisers.sgd(np.inf), ValueError, "the learning rate is inf; expected a finite number >= 0"),
        (lambda: dy.Optimiser(optax.sgd, learning_rat=0.1), TypeError, "learning_rat"),
        (lambda: dy.Optimiser(lambda rate: rate, 0.1), TypeError, "expected an optax transformation"),
        (lambda: Clip(0.0), ValueError, "Clip.bound is 0; expected a finite number > 0"),
    ],
)
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
