"""Jacobians, spectra, verdicts, manifolds and critical parameters against constructions and closed forms."""

import json

import asymmetric
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from linear_games import Linear

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import EquilibriumError, find_equilibrium
from dynamics.analysis.stability.eigenvalues import eigenvalues_with_errors, largest_euler_step
from dynamics.analysis.stability.notes import Note, has
from dynamics.analysis.stability.rest import rest_state
from dynamics.simulation import simulate

FLOW = dy.flows.Flow()
BILINEAR = dy.games.Bilinear(1.0)
DIRAC = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
GAMMA = 0.3


def sgd(one, two=None, kind=dy.updates.Simultaneous):
    return kind(optimisers.sgd(one), optimisers.sgd(one if two is None else two))


def sorted_set(values):
    return np.sort_complex(np.round(values, 9) + 0.0)


# Spectra


def prescribed(rng, reals, pairs, jordan=None):
    """A non-normal matrix with these eigenvalues, and the block form of it."""
    blocks = [np.array([[r]]) for r in reals] + [np.array([[p.real, p.imag], [-p.imag, p.real]]) for p in pairs]
    if jordan is not None:
        value, size = jordan
        blocks.append(value * np.eye(size) + np.eye(size, k=1))
    size = sum(len(block) for block in blocks)
    form, at = np.zeros((size, size)), 0
    for block in blocks:
        form[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    mix = np.linalg.qr(rng.normal(size=(size, size)))[0] @ np.diag(np.exp(rng.normal(size=size) / 2))
    return mix @ form @ np.linalg.inv(mix)


@pytest.mark.slow_cases("30", "12")
@pytest.mark.parametrize("size", [2, 5, 12, 30])
def test_prescribed_spectra(size):
    rng = np.random.default_rng(size)
    pairs = -rng.uniform(0.1, 1, size // 3) + 1j * rng.uniform(0.5, 3, size // 3)
    reals = -rng.uniform(0.1, 2, size - 2 * len(pairs))
    report = dy.stability(Linear(jnp.asarray(prescribed(rng, reals, pairs))), FLOW)
    expected = np.concatenate([reals, pairs, pairs.conj()])
    np.testing.assert_allclose(sorted_set(report.eigenvalues), sorted_set(expected), atol=1e-8)
    np.testing.assert_allclose(report.abscissa, expected.real.max(), rtol=1e-10)
    assert report.verdict == "stable" and report.smoothness == "smooth" and report.manifold_dimension == 0
    np.testing.assert_allclose(report.largest_step, np.min(-2 * expected.real / np.abs(expected) ** 2), rtol=1e-9)
    assert np.all(np.diff(report.eigenvalues.real) <= 1e-12)


def exact_eigenvalues(matrix):
    with mpmath.workdps(60):
        values, _ = mpmath.eig(mpmath.matrix(matrix.tolist()))
        return np.array([complex(value) for value in values])


@pytest.mark.slow_cases("non-normal")
@pytest.mark.parametrize("kind", ["random", "non-normal", "jordan", "nearly jordan", "integers"])
def test_the_error_bound_bounds_the_error(kind):
    """Against 60 digits; every eigenvalue has an exact one within its own bound, and bounds are not absurd."""
    rng = np.random.default_rng(5)
    for size in (2, 4, 6):
        matrix = rng.normal(size=(size, size))
        if kind == "non-normal":
            matrix = np.triu(1e3 * matrix, 1) + np.diag(rng.normal(size=size))
        if kind == "jordan":
            matrix = prescribed(rng, [], [], (-0.3, size))
        if kind == "nearly jordan":
            matrix = -0.3 * np.eye(size) + np.eye(size, k=1) + 1e-13 * matrix
        if kind == "integers":
            matrix = np.round(3 * matrix)
        values, errors = eigenvalues_with_errors(matrix)
        exact = exact_eigenvalues(matrix)
        for value, error in zip(values, errors):
            assert np.min(np.abs(exact - value)) <= error
        if kind == "random":
            assert np.max(errors) < 1e-12


@pytest.mark.slow_cases("1e-15", "0.0")
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 0.0])
def test_verdicts_at_the_boundary_are_never_wrong(gap):
    rng = np.random.default_rng(0)
    for sign in (1, -1):
        wanted = {"stable" if sign < 0 else "unstable", "marginal"}
        for turn in (0.7, 2.0):
            block = prescribed(rng, [-0.4], [sign * gap + 1j * turn])
            found = str(dy.stability(Linear(jnp.asarray(block)), FLOW).verdict)
            assert found in wanted and (gap < 1e-9 or found != "marginal")
            assert gap > 1e-14 or found == "marginal"
        # As a map: x + v with eigenvalues on a circle of radius 1 +- gap.
        pair = (1 + sign * gap) * np.exp(1j * 0.7) - 1
        game = Linear(jnp.asarray(prescribed(rng, [-0.4], [pair])))
        found = str(dy.stability(game, dy.updates.Simultaneous(*[optimisers.sgd(1.0)] * 3)).verdict)
        assert found in wanted and (gap < 1e-9 or found != "marginal")


def test_a_defective_boundary_is_marginal():
    """Alternation on the bilinear game at h = 2: a Jordan block at -1."""
    report = dy.stability(BILINEAR, sgd(2.0, kind=dy.updates.Alternating))
    assert report.verdict == "marginal" and "linear part does not decide" in report.notes[0]


def test_closed_forms():
    h = 0.1
    report = dy.stability(BILINEAR, sgd(h))
    np.testing.assert_allclose(report.radius, np.sqrt(1 + h**2), rtol=1e-14)
    np.testing.assert_allclose(report.rotation, np.arctan(h), rtol=1e-13)
    np.testing.assert_allclose(report.rate, np.log(np.sqrt(1 + h**2)), rtol=1e-11)
    np.testing.assert_allclose(report.margin, 1 - np.sqrt(1 + h**2), rtol=1e-11)
    assert report.kind == "map" and np.isnan(report.largest_step)
    flow = dy.stability(DIRAC, FLOW)
    expected = -GAMMA / 2 + 1j * np.sqrt(0.25 - GAMMA**2 / 4)
    np.testing.assert_allclose(sorted_set(flow.eigenvalues), sorted_set([expected, expected.conjugate()]), atol=1e-9)
    np.testing.assert_allclose(flow.largest_step, 4 * GAMMA, rtol=1e-12)
    np.testing.assert_allclose(
        np.block([[b for b in row] for row in flow.blocks]), [[0, -0.5], [0.5, -GAMMA]], atol=1e-15
    )
    assert largest_euler_step(np.array([0.1 + 1j])) == 0.0 and largest_euler_step(np.zeros(0)) == np.inf


def test_players_of_any_structure():
    """Blocks and Jacobian of a game without symmetry, players being dictionaries and nested tuples."""
    game, by_hand = asymmetric.make(3), asymmetric.ByHand(3)
    z = np.linspace(-0.6, 0.8, 6)
    report = dy.stability(game, FLOW, at=asymmetric.start(3), require_equilibrium=False)
    np.testing.assert_allclose(report.jacobian, by_hand.jacobian(z), atol=1e-13)
    for i, row in enumerate(report.blocks):
        for j, block in enumerate(row):
            np.testing.assert_allclose(block, by_hand.jacobian(z)[by_hand.parts[i], by_hand.parts[j]], atol=1e-13)
    np.testing.assert_allclose(report.residual, np.linalg.norm(by_hand.field(z)), rtol=1e-12)
    found = find_equilibrium(game, asymmetric.start(3))
    np.testing.assert_allclose(by_hand.field(asymmetric.flat(found.players)), 0, atol=1e-12)
    assert dy.stability(game, FLOW, at=found.players).residual < 1e-12


def test_float32():
    report = dy.stability(DIRAC, sgd(0.2), at=(np.float32(0.0), np.float32(0.0)))
    # Judged in double precision, with the numbers that the game and the rate have in theirs.
    assert report.jacobian.dtype == np.float64 and report.verdict == "stable" and report.error < 1e-13
    assert report.players[0].dtype == np.float32
    exact = dy.stability(DIRAC, sgd(0.2))
    assert abs(exact.radius - report.radius) <= 1e-7


def test_float32_where_the_game_casts_to_it():
    def losses(players, key=None):
        x, y = (player.astype(np.float32) for player in players)
        return x**2 / 2 + x * y, y**2 / 2 - x * y

    report = dy.stability(dy.Game.from_losses(losses), sgd(0.2), at=(np.float32(0.0), np.float32(0.0)))
    assert report.jacobian.dtype == np.float32 and report.verdict == "stable"
    assert 1e-8 < report.error < 1e-4 and abs(report.radius - np.hypot(0.8, 0.2)) <= report.error


# Memory


MEMORIES = {
    "heavy ball": lambda h: optimisers.momentum(h, 0.5),
    "negative momentum": lambda h: optimisers.momentum(h, -0.3),
    "optimistic": lambda h: optimisers.optimistic(h),
    "optimistic from zero": lambda h: optimisers.optimistic(h, "zero"),
    "adam": lambda h: optimisers.adam(h / 10, 0.5, 0.9, 1e-3, 1e-2),
    "rmsprop": lambda h: optimisers.rmsprop(h / 10, 0.8, 1e-2),
    "gap-aware": lambda h: optimisers.gap_aware_sgd(h, 2 * np.log(2), decay=0.5),
}


@pytest.mark.slow_cases("heavy ball", "optimistic from zero", "gap-aware", "optimistic", "adam", "negative momentum")
@pytest.mark.parametrize("name", MEMORIES)
def test_memory_is_part_of_the_state(name):
    """The Jacobian is that of the map on players and memory; the radius is the measured contraction."""
    update = dy.updates.Simultaneous(MEMORIES[name](0.2), MEMORIES[name](0.1))
    report = dy.stability(DIRAC, update)
    state = rest_state(DIRAC, update, DIRAC.equilibria()[0]).state
    leaves, structure = jax.tree.flatten(state)
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    flat, unravel = ravel_pytree([leaves[i] for i in floating])

    @jax.jit
    def function(vector):
        new = list(leaves)
        for i, leaf in zip(floating, unravel(vector)):
            new[i] = leaf
        moved = jax.tree.leaves(update.step(DIRAC, jax.tree.unflatten(structure, new)))
        return ravel_pytree([moved[i] for i in floating])[0]

    np.testing.assert_allclose(function(flat), flat, atol=1e-12)  # at rest
    h = 1e-6
    quotients = np.array([(function(flat + h * e) - function(flat - h * e)) / (2 * h) for e in np.eye(flat.size)]).T
    smooth = name != "gap-aware"  # its factor has a kink at the ideal loss, where the gradient vanishes
    np.testing.assert_allclose(report.jacobian, quotients, atol=1e-6 if smooth else 1e-4)
    run = simulate(DIRAC, update, (1e-3, 1e-3), steps=2000, save_every="last")
    np.testing.assert_allclose(run.rate, report.rate, rtol=0.02)


def test_heavy_ball_in_closed_form():
    """(l-1)^2 (l-b)^2 + s^2 l^2 = 0 for simultaneous steps on f = xy."""
    s, b = 0.3, 0.4
    report = dy.stability(BILINEAR, dy.updates.Simultaneous(*[optimisers.momentum(s, b)] * 2))
    polynomial = np.polymul(np.polymul([1, -1], [1, -1]), np.polymul([1, -b], [1, -b]))
    expected = np.roots(np.polyadd(polynomial, [s**2, 0, 0]))
    np.testing.assert_allclose(report.radius, np.max(np.abs(expected)), rtol=1e-12)


def test_optimistic_in_closed_form():
    s = 0.5
    report = dy.stability(BILINEAR, dy.updates.Simultaneous(*[optimisers.optimistic(s)] * 2))
    np.testing.assert_allclose(report.radius, 1 / np.sqrt(2), rtol=1e-7)  # a double eigenvalue


@pytest.mark.slow
def test_counters_are_held_at_their_limit():
    """A decaying rate counts with what it decays to; the bias correction of Adam has run its course."""
    decaying = optax.sgd(optax.exponential_decay(0.5, 10, 0.5, end_value=0.01))
    report = dy.stability(DIRAC, dy.updates.Simultaneous(decaying, decaying))
    np.testing.assert_allclose(report.radius, dy.stability(DIRAC, sgd(0.01)).radius, rtol=1e-6)
    adam = optimisers.adam(0.01, 0.5, 0.9, 0.0, 1e-2)
    report = dy.stability(DIRAC, dy.updates.Simultaneous(adam, adam))
    # At rest v = 0: x <- x - h m / sqrt(eps_root), m <- b1 m + (1 - b1) g, without any bias correction.
    ema = dy.Optimiser(optax.chain, dy.Optimiser(optax.ema, 0.5, debias=False), optimisers.sgd(0.01 / 0.1))
    like = dy.stability(DIRAC, dy.updates.Simultaneous(ema, ema))
    np.testing.assert_allclose(report.radius, max(like.radius, 0.9), rtol=1e-9)


@pytest.mark.slow_cases("0.5")
@pytest.mark.parametrize("decay", [0.5, 0.95, 0.9999])
def test_moving_averages_come_to_rest(decay):
    """At the true equilibrium loss, not at V*, however slow the average."""
    careful = optimisers.gap_aware_sgd(0.1, 1.3, decay=decay)
    update = dy.updates.Simultaneous(optimisers.sgd(0.1), careful)
    state = rest_state(DIRAC, update, DIRAC.equilibria()[0]).state
    np.testing.assert_allclose(state.memory[1][-1].average_loss, 2 * np.log(2), rtol=1e-9)
    factor = 2 ** ((2 * np.log(2) - 1.3) / 0.13)
    plain = dy.stability(DIRAC, sgd(0.1, 0.1 * factor))
    np.testing.assert_allclose(dy.stability(DIRAC, update).radius, max(plain.radius, decay), rtol=1e-7)
    if decay == 0.5:
        flow = dy.stability(DIRAC, dy.flows.GapAwareFlow(1.3, 0.5))
        expected = [-2.0, *dy.stability(DIRAC, dy.flows.Flow(rates=(1.0, factor))).eigenvalues]
        np.testing.assert_allclose(sorted_set(flow.eigenvalues), sorted_set(expected), atol=1e-7)


# Manifolds


def one_player(loss, size):
    return dy.Game.from_losses(lambda players, key=None: (loss(players[0]),), [(jnp.zeros(size),)])


ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


@pytest.mark.slow_cases("orbit", "orbit-3")
@pytest.mark.parametrize(
    "game, dimension, verdict",
    [
        (dy.games.Bilinear([[1.0, 2.0, 0.5]]), 2, "neutral"),
        (dy.games.Covariance([[2.0, 0.5], [0.5, 1.0]], mu=0.5), 1, "stable"),
        (dy.games.Covariance([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.7]], mu=0.5), 3, "stable"),
        (one_player(lambda x: x[0] ** 4 / 4 + x[1] ** 2 / 2, 2), 0, "stable"),
        (one_player(lambda x: x[0] ** 6 / 6 + x[1] ** 2 / 2, 2), 0, "marginal"),
        (one_player(lambda x: -(x[0] ** 6) / 6 + x[1] ** 2 / 2, 2), 0, "marginal"),
        (one_player(lambda x: x[0] ** 2 / 2, 2), 1, "stable"),
        (one_player(lambda x: jnp.sum((jnp.asarray(ROTATION) @ x)[:1] ** 2) / 2, 3), 2, "stable"),
        (one_player(lambda x: jnp.sum((jnp.asarray(ROTATION) @ x)[:2] ** jnp.array([4, 2])), 3), 1, "marginal"),
        (one_player(lambda x: 0.0 * x[0], 1), 1, "stable"),
    ],
    ids=["bilinear", "orbit", "orbit-3", "cubic", "fifth", "away", "line", "plane", "mixed", "everything"],
)
def test_manifolds(game, dimension, verdict):
    report = dy.stability(game, FLOW)
    assert (report.manifold_dimension, str(report.verdict)) == (dimension, verdict)
    assert has(report.notes, Note.manifold) == (dimension > 0)


@pytest.mark.slow
def test_a_manifold_of_a_map_is_left_out_of_the_radius():
    matrix = [[1.0, 2.0, 0.5]]
    report = dy.stability(dy.games.Bilinear(matrix), sgd(0.1))
    np.testing.assert_allclose(report.radius, np.sqrt(1 + 0.01 * 5.25), rtol=1e-12)
    report = dy.stability(dy.games.Covariance([[2.0, 0.5], [0.5, 1.0]], mu=0.5), sgd(0.05))
    assert report.manifold_dimension == 1 and report.radius < 1


# Smoothness


@pytest.mark.parametrize(
    "loss, expected",
    [
        (lambda x: x[0] ** 2 + jnp.cos(3 * x[0]), "smooth"),
        (lambda x: 1e4 * x[0] ** 2 + x[0] ** 3 * 50, "smooth"),
        (lambda x: jnp.where(x[0] > 0, 2.0, 1.0) * x[0] ** 2, "kinked"),
        (lambda x: x[0] ** 2 + jnp.abs(x[0]), "discontinuous"),
    ],
    ids=["smooth", "steep", "kinked", "discontinuous"],
)
def test_smoothness(loss, expected):
    report = dy.stability(one_player(loss, 1), FLOW, require_equilibrium=False)
    assert report.smoothness == expected
    assert (expected == "smooth") == (not any("kink" in note or "jumps" in note for note in report.notes))


def test_where_adam_has_no_jacobian():
    hard, soft = optimisers.adam(0.01, eps=0.0), optimisers.adam(0.01, eps_root=1e-16)
    report = dy.stability(DIRAC, dy.updates.Simultaneous(hard, hard))
    assert report.smoothness == "not differentiable" and report.verdict == "marginal"
    assert "pass a positive eps" in report.notes[0]
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["eigenvalues"][0] == [None, None] and "marginal" in report.describe()
    assert dy.stability(DIRAC, dy.updates.Simultaneous(soft, soft)).smoothness == "stiff"


# Reports and refusals


def test_reports():
    report = dy.stability(DIRAC, sgd(0.2))
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["verdict"] == "stable" and data["kind"] == "map" and data["largest_step"] is None
    np.testing.assert_allclose(data["jacobian"], report.jacobian)
    np.testing.assert_allclose(np.array(data["eigenvalues"]) @ [1, 1j], report.eigenvalues)
    text = report.describe()
    assert text.startswith("stable: radius 0.97467") and "rotation" in text and "eigenvalues" in text
    assert "largest stable Euler step 1.2" in dy.stability(DIRAC, FLOW).describe()


@pytest.mark.slow
def test_a_neural_gan():
    game, players = dy.GAN.example()
    update = sgd(0.1)
    with pytest.raises(EquilibriumError, match=r"the field has norm 0\.\d+ there; that of player \d is"):
        dy.stability(game, update, at=players)
    report = dy.stability(game, update, at=players, require_equilibrium=False)
    field = np.block([list(row) for row in report.blocks])
    np.testing.assert_allclose(report.jacobian, np.eye(34) + 0.1 * field, atol=1e-12)
    flat, unravel = ravel_pytree(players)
    there, h = np.random.default_rng(0).normal(size=34), 1e-5
    value = jax.jit(lambda z: ravel_pytree(game.field(unravel(z)))[0])
    ahead, back = value(flat + h * there), value(flat - h * there)
    np.testing.assert_allclose(field @ there, (ahead - back) / (2 * h), atol=1e-6)
    assert len(report.eigenvalues) == 34 and "34 in all" in report.describe()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: dy.stability(DIRAC, FLOW, at=(0.1, 0.2)),
            EquilibriumError,
            r"\(0.1, 0.2\) is no equilibrium: .*Use find",
        ),
        (
            lambda: dy.stability(asymmetric.make(2), FLOW),
            EquilibriumError,
            "knows none of its equilibria; pass at=players",
        ),
        (lambda: dy.stability(DIRAC, optax.sgd(0.1)), TypeError, "expected an update .* or a flow"),
        (
            lambda: dy.stability(
                dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]], offsets=[9.0, 1.0]),
                dy.updates.Simultaneous(*[optimisers.sgd(0.1)] * 2, projections=[dy.updates.Clip(0.5)] * 2),
            ),
            EquilibriumError,
            "no fixed point of the method: one step moves the state",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Equilibria


def test_find_equilibrium():
    found = find_equilibrium(dy.games.Forsaken(), (0.2, 0.3))
    np.testing.assert_allclose(found.players, (0.07802666873846009, 0.41193385136581984), atol=1e-14)
    assert found.residual < 1e-14 and found.steps < 20 and 1 <= found.condition < 10
    np.testing.assert_allclose(found.distance, np.hypot(0.2 - found.players[0], 0.3 - found.players[1]), rtol=1e-12)
    game = dy.games.Bilinear([[1.0, 2.0, 0.5]])
    on_it = find_equilibrium(game, (np.array([0.3]), np.array([1.0, 2.0, 3.0])))
    assert np.isinf(on_it.condition) and on_it.residual < 1e-14
    # The nearest point of the manifold A y = 0.
    a, y = np.array([1.0, 2.0, 0.5]), np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(on_it.players[1], y - a * (a @ y) / (a @ a), atol=1e-14)


def test_no_equilibrium_is_found_where_the_field_only_fades():
    saturating = dy.games.DiracGAN(objective=dy.objectives.Minimax())
    with pytest.raises(EquilibriumError, match=r"found no equilibrium from \(3, 3\) in \d+ steps: the field has norm"):
        find_equilibrium(saturating, (3.0, 3.0))
    with pytest.raises(EquilibriumError, match="Try a start nearer to the equilibrium"):
        find_equilibrium(one_player(lambda x: jnp.exp(x[0]), 1), (jnp.zeros(1),))


# Critical parameters


def scalar(rate_of):
    """One player with the field a(p) x, and the flow or plain steps of length 1."""

    def build(p, method):
        return Linear(jnp.asarray([[rate_of(p)]])), method

    return build


PLAIN = dy.updates.Simultaneous(optimisers.sgd(1.0))


@pytest.mark.slow_cases("Neimark-Sacker", "Hopf", "end of the interval", "plateau")
@pytest.mark.parametrize(
    "build, low, high, value, kind, below, above",
    [
        (lambda p: scalar(lambda p: p**3 - 2)(p, FLOW), 0.0, 2.0, 2 ** (1 / 3), "fold", "stable", "unstable"),
        (lambda p: scalar(lambda p: p - 0.3)(p, PLAIN), -0.5, 1.0, 0.3, "fold", "stable", "unstable"),
        (lambda p: scalar(lambda p: -p)(p, PLAIN), 1.0, 2.9, 2.0, "flip", "stable", "unstable"),
        (
            lambda p: (dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), sgd(p)),
            0.5,
            2.0,
            1.2,
            "Neimark-Sacker",
            "stable",
            "unstable",
        ),
        (
            lambda p: (Linear(jnp.array([[-0.4, -1.0], [1.0, 0.0]]) + p * jnp.eye(2)), FLOW),
            -1.0,
            1.0,
            0.2,
            "Hopf",
            "stable",
            "unstable",
        ),
        (lambda p: (BILINEAR, sgd(p, kind=dy.updates.Alternating)), 1.0, 3.1, 2.0, "flip", "marginal", "unstable"),
        (lambda p: (dy.games.DiracGAN(penalty=dy.penalties.R1(p)), FLOW), 0.0, 0.9, 0.0, "Hopf", "marginal", "stable"),
    ],
    ids=["fold of a flow", "fold of a map", "flip", "Neimark-Sacker", "Hopf", "plateau", "end of the interval"],
)
def test_critical(build, low, high, value, kind, below, above):
    found = dy.critical(build, low, high)
    # At a plateau the boundary is known as well as a double eigenvalue is.
    np.testing.assert_allclose(found.value, value, rtol=0, atol=1e-7 if "marginal" in below and value else 1e-10)
    assert (str(found.kind), found.below, found.above, found.others) == (kind, below, above, ())
    assert found.eigenvalue.imag >= 0


@pytest.mark.slow
def test_several_crossings_and_an_equilibrium_of_ones_own():
    def build(p):
        game = dy.Game.from_losses(lambda xy, key=None: (-jnp.sin(p) * (xy[0] - p) ** 2 / 2,))
        return game, FLOW, (p,)

    found = dy.critical(build, 1.0, 8.0)
    np.testing.assert_allclose([found.value, *(c.value for c in found.others)], [np.pi, 2 * np.pi], atol=1e-10)
    assert [c.above for c in (found, *found.others)] == ["stable", "unstable"]


def test_no_crossing():
    with pytest.raises(ValueError, match="stability does not change between 0.1 and 0.5: the radius is 1.0049"):
        dy.critical(lambda p: (BILINEAR, sgd(p)), 0.1, 0.5, samples=5)
    with pytest.raises(ValueError, match="expected finite low < high"):
        dy.critical(lambda p: (BILINEAR, sgd(p)), 0.5, 0.1)
    with pytest.raises(TypeError, match=r"build returned 3; expected \(game, method\)"):
        dy.critical(lambda p: 3, 0.1, 0.5)
