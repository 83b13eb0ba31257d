"""Directions that adjust the field, against NumPy versions with explicit blocks, closed forms and published runs."""

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics.directions import (
    CrossingTheCurl,
    CurvatureExploitation,
    DriftRegularisation,
    Gradient,
    HamiltonianDescent,
    JacobianRegularisation,
    LocalSymplecticSurgery,
    Natural,
    SymplecticAdjustment,
    Unrolled,
)
from dynamics.games import Bilinear, SpuriousAttractor
from dynamics.optimisers import sgd
from dynamics.updates import Simultaneous

POINTS = np.random.default_rng(11).normal(size=(8, 6))

evaluate = eqx.filter_jit(lambda direction, game, players, key=None: direction(game, players, key))
jacobian_of = eqx.filter_jit(lambda direction, game, players: jax.jacfwd(lambda p: direction(game, p))(players))


def surgery(game, z, first, second):
    omega, j = -game.field(z), -game.jacobian(z)
    weight = first * (1 - np.exp(-second * omega @ omega))
    return -(omega + j.T @ np.linalg.inv(j.T @ j + weight * np.eye(z.size)) @ j.T @ omega) / 2


def crossing(game, z):
    f, j = -game.field(z), -game.jacobian(z)
    return -(j.T - j) @ f / 2


def regularised(game, z, weight):
    v, a, d = game.field(z), game.jacobian(z), game.field(z)
    for own in game.parts:
        for other in game.parts:
            if other != own:
                d[own] -= weight * a[other, own].T @ v[other]
    return d


def drift(game, z, own, other, product):
    """Of both parts of a loss's gradient with respect to its player, from all second derivatives of the losses."""
    v, d = game.field(z), game.field(z)
    for i, part in enumerate(game.parts):
        for j, rest in enumerate(game.parts):
            weight = own[i] if i == j else other[i]
            d[part] += weight * game.loss_hessian(z, j)[part, rest] @ v[rest]
            if i != j:
                d[part] += product[i] * game.loss_hessian(z, i)[part, rest] @ v[rest]
    return d


def hamiltonian(game, z):
    return -game.jacobian(z).T @ game.field(z)


def curvature(game, z, smoothness, steps):
    d = game.field(z)
    for part, rho, eta in zip(game.parts, smoothness, steps):
        gradient, hessian = -game.field(z)[part], -game.jacobian(z)[part, part]
        values, vectors = np.linalg.eig(hessian)
        index = np.argmin(values.real)
        value, u = values[index].real, vectors[:, index].real
        if value < 0:
            d[part] += value / (2 * rho) * (1 if u @ gradient > 0 else -1) * u / eta
    return d


def loss_gradient(game, z, player):
    """The gradient of one player's loss with respect to all parameters."""
    bent = game.bends[player] * np.cos(game.inner @ z)
    return game.matrices[player] @ z + game.offsets[player] + game.inner.T @ bent


def unrolled(game, z, steps, step, player, higher_order):
    own, point = game.parts[player], z.copy()
    slope = np.eye(z.size)  # of the point after the inner steps with respect to z
    for _ in range(steps):
        field, rows = game.field(point)[own], game.jacobian(point)[own] @ slope
        point[own] += step * field
        slope[own] += step * rows
    d = game.field(z)
    for other, part in enumerate(game.parts):
        if other != player:
            gradient = loss_gradient(game, point, other)
            d[part] = -(slope.T @ gradient if higher_order else gradient)[part]
    return d


def reshaped(parameters, direction):
    """A geometry that depends on the point."""
    return jax.tree.map(lambda x, v: v * (2 + x**2), parameters, direction)


def natural(game, z):
    factors = np.concatenate(
        [np.where(p == 1, 2 + z[part] ** 2, 1 + 2.0 * (p > 1)) for p, part in enumerate(game.parts)]
    )
    return factors * game.field(z)


GEOMETRIES = (None, reshaped, lambda parameters, direction: jax.tree.map(lambda v: 3 * v, direction))
OWN, PRODUCT = (0.7, -0.2, 0.3), (-0.5, 0.9, 0.1)
RHO, ETA = (0.8, 0.5, 0.6), (0.3, 0.2, 0.25)

CASES = {
    "surgery": (lambda n: LocalSymplecticSurgery(0.3, 0.2), lambda g, z: surgery(g, z, 0.3, 0.2)),
    "surgery-iterative": (
        lambda n: LocalSymplecticSurgery(0.3, 0.2, "iterative"),
        lambda g, z: surgery(g, z, 0.3, 0.2),
    ),
    "crossing": (lambda n: CrossingTheCurl(), crossing),
    "regularised": (lambda n: JacobianRegularisation(0.7), lambda g, z: regularised(g, z, 0.7)),
    "drift": (
        lambda n: DriftRegularisation(OWN[:n], 0.4, PRODUCT[:n]),
        lambda g, z: drift(g, z, OWN, (0.4,) * 3, PRODUCT),
    ),
    "hamiltonian": (lambda n: HamiltonianDescent(), hamiltonian),
    "natural": (lambda n: Natural(*GEOMETRIES[:n]), natural),
    "curvature": (lambda n: CurvatureExploitation(RHO[:n], ETA[:n]), lambda g, z: curvature(g, z, RHO, ETA)),
    "unrolled": (lambda n: Unrolled(3, 0.2), lambda g, z: unrolled(g, z, 3, 0.2, 1, True)),
    "unrolled-fixed": (lambda n: Unrolled(3, 0.2, 0, False), lambda g, z: unrolled(g, z, 3, 0.2, 0, False)),
}
# Conjugate gradients stop at a relative residual, not at the rounding.
SCALES = {"surgery-iterative": 1e3}


@pytest.mark.slow_cases(
    "surgery-2-float64",
    "surgery-3-float32",
    "surgery-iterative-2-float64",
    "surgery-iterative-3-float32",
    "curvature-3-float32",
    "unrolled-3-float32",
)
@pytest.mark.parametrize("players, dtype", [(2, np.float64), (3, np.float32)])
@pytest.mark.parametrize("name", CASES)
def test_formula(name, players, dtype):
    make, expected = CASES[name]
    direction, game, by_hand = make(players), asymmetric.make(players), asymmetric.ByHand(players)
    for z in POINTS[:6, : sum(asymmetric.SIZES[players])]:
        point = asymmetric.pack(z, dtype)
        found = evaluate(direction, game, point)
        assert jax.tree.structure(found) == jax.tree.structure(point)
        asymmetric.same(found, expected(by_hand, z), dtype, scale=SCALES.get(name, 1.0))


def test_the_points_have_negative_curvature_and_positive():
    """Otherwise the comparison above would not notice a jump too many or too few."""
    game = asymmetric.ByHand(3)
    jumps = [~np.isclose(curvature(game, z, RHO, ETA), game.field(z)) for z in POINTS[:6]]
    assert [{bool(all(jump[part])) for jump in jumps} for part in game.parts] == [{True}, {True}, {False}]


def equilibrium():
    """An equilibrium of the general-sum game of two players, by Newton's method in NumPy."""
    game, z = asymmetric.ByHand(2), np.zeros(5)
    for _ in range(50):
        z = z - np.linalg.solve(game.jacobian(z), game.field(z))
    assert np.abs(game.field(z)).max() < 1e-13
    return z, game.jacobian(z)


@pytest.mark.slow
def test_jacobians_at_an_equilibrium():
    """In a general-sum game; the symmetric part of A for surgery (Mazumdar, Jordan, Sastry 2019)."""
    z, a = equilibrium()
    other = a.copy()
    for part in asymmetric.parts(2):
        other[part, part] = 0
    game = asymmetric.make(2)
    everything = (
        LocalSymplecticSurgery(),
        LocalSymplecticSurgery(solver="iterative"),
        CrossingTheCurl(),
        HamiltonianDescent(),
        JacobianRegularisation(0.3),
    )

    @jax.jit
    def jacobians(z):
        return [jax.jacfwd(lambda z, d=d: ravel_pytree(d(game, asymmetric.pack(z)))[0])(z) for d in everything]

    expected = [(a + a.T) / 2, (a + a.T) / 2, (a - a.T) @ a / 2, -a.T @ a, a - 0.3 * other.T @ a]
    for found, closed in zip(jacobians(jnp.asarray(z)), expected):
        np.testing.assert_allclose(found, closed, atol=1e-7)


def test_surgery_of_a_singular_jacobian_takes_the_shortest_solution():
    rng = np.random.default_rng(2)
    coupling, root = rng.normal(size=(4, 1)) @ rng.normal(size=(1, 3)), rng.normal(size=(2, 4))
    curvature = root.T @ root
    j = np.block([[curvature, coupling], [-coupling.T, np.zeros((3, 3))]])
    assert np.linalg.matrix_rank(j) < 7
    game = dy.game.ZeroSum(lambda x, y: x @ coupling @ y + x @ curvature @ x / 2)

    @jax.jit
    def jacobians(z):
        solvers = [LocalSymplecticSurgery(solver=solver) for solver in ("dense", "iterative")]
        return [jax.jacfwd(lambda z, d=d: jnp.concatenate(d(game, (z[:4], z[4:]))))(z) for d in solvers]

    for found in jacobians(jnp.zeros(7)):
        np.testing.assert_allclose(found, -(j + j.T @ np.linalg.pinv(j) @ j) / 2, atol=1e-8)
    for found in jacobians(jnp.asarray(rng.normal(size=7))):
        assert np.isfinite(found).all()


@pytest.mark.slow_cases("True", "False")
@pytest.mark.parametrize("normal", [True, False])
def test_the_length_of_surgery_is_bounded_by_the_condition_of_the_jacobian(normal):
    """No longer than the field where J is normal; else up to (1 + k)/2 times as long, k = |J| |J^-1|."""
    jacobian = np.array([[1.0, 10.0], [-10.0, 1.0]]) if normal else np.array([[1.0, 10.0], [0.0, 1.0]])
    direction, game = LocalSymplecticSurgery(), dy.games.Quadratic(jacobian)
    angles = np.linspace(0, np.pi, 91)
    points = 1e-3 * np.linalg.solve(jacobian, np.stack([np.cos(angles), np.sin(angles)])).T
    aims = jax.vmap(lambda z: jnp.stack(direction(game, (z[0], z[1]))))(jnp.asarray(points))
    longest = float(jnp.max(jnp.linalg.norm(aims, axis=1))) / 1e-3
    most = 1 if normal else (1 + np.linalg.cond(jacobian)) / 2
    assert (normal or longest > 0.9 * most) and longest <= most + 1e-9


@pytest.mark.slow
def test_surgery_repels_from_the_spurious_attractor_and_keeps_the_nash_equilibrium():
    game = SpuriousAttractor()
    update = Simultaneous(sgd(0.01), sgd(0.01), direction=LocalSymplecticSurgery())
    nash, spurious, _ = game.equilibria()
    stable, unstable = dy.stability(game, update, nash), dy.stability(game, update, spurious)
    np.testing.assert_allclose(np.sort(stable.eigenvalues.real), 1 + 0.01 * np.array([-4 * 2**0.5, -4]), atol=1e-7)
    np.testing.assert_allclose(np.sort(unstable.eigenvalues.real), 1 + 0.01 * np.array([-4, 2]), atol=1e-7)
    assert (stable.verdict, unstable.verdict) == ("stable", "unstable")


def test_rotation_becomes_contraction_in_a_bilinear_game():
    """1 - h sigma^2 (Gemp and Mahadevan 2018; Abernethy, Lai, Wibisono 2019)."""
    values, h = np.array([2.0, 0.5]), 0.1
    for direction in (CrossingTheCurl(), HamiltonianDescent()):
        found = np.concatenate(direction(Bilinear(np.diag(values)), (jnp.ones(2), 2 * jnp.ones(2))))
        np.testing.assert_allclose(
            np.concatenate([np.ones(2), 2 * np.ones(2)]) + h * found,
            np.concatenate([1 - h * values**2, 2 * (1 - h * values**2)]),
            rtol=1e-14,
        )


def test_jacobian_regularisation_of_a_zero_sum_game_is_unaligned_symplectic_adjustment():
    def value(x, y):
        return jnp.sin(x["a"] @ y) + x["b"] ** 2 * y[0] + jnp.sum(y**3)

    game, rng = dy.game.ZeroSum(value), np.random.default_rng(3)
    players = {"a": jnp.asarray(rng.normal(size=2)), "b": jnp.asarray(0.7)}, jnp.asarray(rng.normal(size=2))
    found, expected = JacobianRegularisation(0.4)(game, players), SymplecticAdjustment(0.4, align=False)(game, players)
    np.testing.assert_allclose(asymmetric.flat(found), asymmetric.flat(expected), rtol=1e-12)


def test_drift_regularisation_cancels_the_drift_of_simultaneous_descent():
    """Halving the step divides the error of one step by 8 instead of 4 (Rosca, Wu, Dherin, Barrett 2021)."""
    game, by_hand, z = asymmetric.make(2), asymmetric.ByHand(2), POINTS[0, :5]

    def flow(h, steps=50):
        point = z
        for _ in range(steps):
            a = by_hand.field(point)
            b = by_hand.field(point + h / steps / 2 * a)
            c = by_hand.field(point + h / steps / 2 * b)
            d = by_hand.field(point + h / steps * c)
            point = point + h / steps * (a + 2 * b + 2 * c + d) / 6
        return point

    def error(h, weight):
        direction = DriftRegularisation(weight * h, 0.0, weight * h)
        moved = z + h * asymmetric.flat(evaluate(direction, game, asymmetric.pack(z)))
        return np.linalg.norm(moved - flow(h))

    for weight, ratio in ((-0.5, 8), (0.0, 4), (0.5, 4)):
        assert error(4e-3, weight) / error(2e-3, weight) == pytest.approx(ratio, rel=0.05)


def test_drift_regularisation_of_a_zero_sum_game():
    """The dot product is minus the other norm; norms of both kinds are consensus; of bilinear games -b s^2 +- i s."""

    def value(x, y):
        return jnp.sin(x["a"] @ y) + x["b"] ** 2 * y[0] + jnp.sum(y**3)

    game, rng = dy.game.ZeroSum(value), np.random.default_rng(3)
    players = {"a": jnp.asarray(rng.normal(size=2)), "b": jnp.asarray(0.7)}, jnp.asarray(rng.normal(size=2))
    product, other = DriftRegularisation(0.0, 0.0, -0.4)(game, players), JacobianRegularisation(0.4)(game, players)
    np.testing.assert_allclose(asymmetric.flat(product), asymmetric.flat(other), rtol=1e-12)
    both, consensus = DriftRegularisation(0.4, 0.4)(game, players), dy.directions.Consensus(0.4)(game, players)
    np.testing.assert_allclose(asymmetric.flat(both), asymmetric.flat(consensus), rtol=1e-12)
    point = (jnp.asarray(0.0), jnp.asarray(0.0))
    found = jacobian_of(DriftRegularisation(7.0, (0.0, 0.3)), Bilinear(1.5), point)
    np.testing.assert_allclose(found, [[0, -1.5], [1.5, -0.3 * 1.5**2]], rtol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_unrolling_of_a_bilinear_game(steps):
    """The map and its largest stable step (Metz et al. 2017)."""
    sigma, eta = 1.5, 0.3
    d = jacobian_of(Unrolled(steps, eta), Bilinear(sigma), (jnp.asarray(0.0), jnp.asarray(0.0)))
    np.testing.assert_allclose(d, [[-2 * steps * eta * sigma**2, -sigma], [sigma, 0]], rtol=1e-14)
    for factor, stable in ((0.999, True), (1.001, False)):
        h = factor * 2 / np.sqrt(4 * steps - 1)
        d = jacobian_of(Unrolled(steps, h), Bilinear(1.0), (jnp.asarray(0.0), jnp.asarray(0.0)))
        assert (np.abs(np.linalg.eigvals(np.eye(2) + h * np.array(d))).max() < 1) == stable


def ends(direction, rate, starts):
    update = Simultaneous(sgd(rate), sgd(rate), direction=direction)

    def end(x, y):
        run = dy.simulate(SpuriousAttractor(), update, (x, y), steps=5000, save_every="last", classify=False)
        return jnp.stack(run.final)

    return np.asarray(jax.vmap(end)(*starts))


def test_curvature_exploitation_finds_the_nash_equilibrium_from_everywhere():
    """The authors' experiment: a grid of starts, and the start (-3, -1) of their picture (Adolphs et al. 2019)."""
    x, y = np.meshgrid(np.arange(-5, 1.6, 0.5), np.arange(-2, 4.6, 0.5))
    starts = np.append(x, -3.0), np.append(y, -1.0)
    nash, spurious, _ = (np.array(point) for point in SpuriousAttractor().equilibria())

    def reached(found, point):
        return np.sum(np.abs(found[:-1] - point).max(1) < 0.2)

    plain = ends(Gradient(), 0.001, starts)
    assert (reached(plain, nash), reached(plain, spurious)) == (114, 82)
    np.testing.assert_allclose(plain[-1], [-0.0003, -0.0054], atol=5e-5)
    exploited = ends(CurvatureExploitation(0.5, 0.01), 0.01, starts)
    assert reached(exploited, nash) == x.size == 196
    np.testing.assert_allclose(exploited[-1], [-3.41421, 3.41421], atol=1e-5)


def test_curvature_exploitation_rests_at_nash_equilibria_alone():
    nash, spurious, _ = SpuriousAttractor().equilibria()
    direction = CurvatureExploitation(0.5, 0.01)
    np.testing.assert_allclose(direction(SpuriousAttractor(), nash), 0, atol=1e-13)
    np.testing.assert_allclose(direction(SpuriousAttractor(), spurious), [0, 200], atol=1e-13)
    found = jacobian_of(direction, SpuriousAttractor(), nash)
    np.testing.assert_allclose(found, [[-4, -4], [4, -4 * 2**0.5]], atol=1e-12)


def test_curvature_exploitation_has_a_jacobian_where_nothing_is_curved():
    game = Bilinear(np.diag([1.0, 2.0]))
    found = jacobian_of(CurvatureExploitation(), game, (jnp.zeros(2), jnp.zeros(2)))
    np.testing.assert_array_equal(found[0][0], np.zeros((2, 2)))
    np.testing.assert_array_equal(found[0][1], -np.diag([1.0, 2.0]))


@pytest.mark.slow
def test_power_iterations_find_the_smallest_eigenvalue():
    game = asymmetric.make(2)
    for z in POINTS[:6, :5]:
        dense = evaluate(CurvatureExploitation(RHO[:2], ETA[:2]), game, asymmetric.pack(z))
        power = evaluate(CurvatureExploitation(RHO[:2], ETA[:2], iterations=60), game, asymmetric.pack(z))
        np.testing.assert_allclose(asymmetric.flat(power), asymmetric.flat(dense), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: LocalSymplecticSurgery(0.0), r"first is 0; expected a finite number > 0"),
        (lambda: LocalSymplecticSurgery(second=-1.0), r"second is -1; expected a finite number > 0"),
        (lambda: LocalSymplecticSurgery(solver="lu"), r"solver is 'lu'; expected one of"),
        (lambda: JacobianRegularisation(np.nan), r"weight is nan; expected a finite number >= 0"),
        (lambda: DriftRegularisation(np.inf), r"DriftRegularisation.self_norm holds inf"),
        (
            lambda: DriftRegularisation(other_norm=np.ones((2, 2))),
            r"other_norm has a weight of shape \(2,\); expected",
        ),
        (lambda: CurvatureExploitation(smoothness=(1.0, 0.0)), r"smoothness is 0; expected numbers > 0"),
        (lambda: CurvatureExploitation(step=-0.1), r"step has the rate -0.1"),
        (lambda: CurvatureExploitation(iterations=0), r"iterations is 0; expected a whole number >= 1"),
        (lambda: Unrolled(0), r"steps is 0; expected a whole number >= 1"),
        (lambda: Unrolled(step=0.0), r"step is 0; expected a finite number > 0"),
    ],
)
def test_numbers_out_of_bounds(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_players_that_do_not_exist():
    game, players = Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(1.0))
    with pytest.raises(
        ValueError, match="other_norm has 3 numbers for 2 players; expected one number, or one per player"
    ):
        DriftRegularisation(other_norm=(1.0, 2.0, 3.0))(game, players)
    for wrong, words in ((lambda v: v, "geometry 0 is a function of"), (2.0, "geometry 0 is 2.0; expected a function")):
        with pytest.raises(TypeError, match=words):
            Natural(wrong)
    with pytest.raises(ValueError, match="Natural has 1 geometries for 2 players"):
        Natural(None)(game, players)
    with pytest.raises(ValueError, match="geometry 1 returned .*expected the same structure and shapes"):
        Natural(None, lambda y, v: (v, v))(game, players)
    with pytest.raises(ValueError, match="Unrolled.player is 2; expected one of 0 to 1"):
        Unrolled(player=2)(game, players)
    with pytest.raises(ValueError, match="smoothness has 3 rates for 2 players"):
        CurvatureExploitation(smoothness=(1.0, 1.0, 1.0))(game, players)


def test_changed_numbers_compile_nothing():
    game, players = Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.5))
    traced = []

    @eqx.filter_jit
    def run(directions):
        traced.append(1)
        return [direction(game, players) for direction in directions]

    for scale in (1.0, 1.1):
        found = run(
            (
                LocalSymplecticSurgery(0.1 * scale, scale),
                JacobianRegularisation(scale),
                CurvatureExploitation(scale, (0.1 * scale, 0.2), shift=3 * scale),
                Unrolled(step=0.1 * scale),
            )
        )
        assert np.isfinite(asymmetric.flat(found)).all()
    assert len(traced) == 1
