"""Directions made of second derivatives: formulas of the papers in NumPy, closed forms, and spectra."""

import asymmetric
import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import dynamics as dy
from dynamics import optimisers
from dynamics.directions import LOLA, SOS, CompetitiveGradient, FollowTheRidge, PolicyPrediction, Stackelberg
from dynamics.games import Bilinear, PlanarQuadratic, Quadratic, SpuriousAttractor

POINTS = np.random.default_rng(11).normal(size=(8, 6))
MATRIX = np.array([[1.0, 2.0, 0.3], [-0.5, 0.7, 1.1]])

evaluate = eqx.filter_jit(lambda direction, game, players, key=None: direction(game, players, key))


# The papers' formulas, from explicit gradients and blocks of Hessians of the losses of both players.


def blocks(z):
    """Gradients and the blocks of the Hessians, first index the loss."""
    game = asymmetric.ByHand(2)
    gradients = [[game.loss_gradient(z, loss)[part] for part in game.parts] for loss in range(2)]
    hessians = [[[game.loss_hessian(z, loss)[a, b] for b in game.parts] for a in game.parts] for loss in range(2)]
    return gradients, hessians


def competitive(z, one, two):
    """The eliminated form of the paper, with one step per player."""
    (f, g), (ff, gg) = blocks(z)
    d_xy, d_yx = ff[0][1], gg[1][0]
    x = np.linalg.solve(np.eye(2) - one * two * d_xy @ d_yx, f[0] - two * d_xy @ g[1])
    y = np.linalg.solve(np.eye(3) - one * two * d_yx @ d_xy, g[1] - one * d_yx @ f[0])
    return np.concatenate([-x, -y])


def inverse(matrix, regularisation):
    return np.linalg.inv(matrix + regularisation * np.eye(len(matrix)))


def stackelberg(z, leader, regularisation):
    gradients, hessians = blocks(z)
    follower = 1 - leader
    slope = -inverse(hessians[follower][follower][follower], regularisation) @ hessians[follower][follower][leader]
    aims = [None, None]
    aims[leader] = -(gradients[leader][leader] + slope.T @ gradients[leader][follower])
    aims[follower] = -gradients[follower][follower]
    return np.concatenate(aims)


def ridge(z, leader, regularisation, ratio):
    gradients, hessians = blocks(z)
    follower = 1 - leader
    slope = -inverse(hessians[follower][follower][follower], regularisation) @ hessians[follower][follower][leader]
    aims = [None, None]
    aims[leader] = -gradients[leader][leader]
    aims[follower] = -gradients[follower][follower] + ratio * slope @ aims[leader]
    return np.concatenate(aims)


def shaping(z, players, weight):
    """LookAhead's and LOLA's part, from sums over pairs of players."""
    game = asymmetric.ByHand(players)
    gradients = [game.loss_gradient(z, loss) for loss in range(players)]
    hessians = [game.loss_hessian(z, loss) for loss in range(players)]
    xi = np.concatenate([gradients[i][part] for i, part in enumerate(game.parts)])
    ahead, shaped = xi.copy(), np.zeros_like(xi)
    for i, own in enumerate(game.parts):
        for j, other in enumerate(game.parts):
            if i != j:
                ahead[own] -= weight * hessians[i][own, other] @ gradients[j][other]
                shaped[own] -= weight * hessians[j][own, other] @ gradients[i][other]
    return xi, ahead, shaped


def stable_shaping(z, players, weight, a, b):
    xi, ahead, shaped = shaping(z, players, weight)
    inner = shaped @ ahead
    one = 1 if inner >= 0 else min(1, -a * ahead @ ahead / inner)
    two = xi @ xi if np.linalg.norm(xi) < b else 1
    return -(ahead + min(one, two) * shaped)


SHAPING = {
    "look-ahead": (lambda: PolicyPrediction(0.3), lambda z, n: -shaping(z, n, 0.3)[1]),
    "lola": (lambda: LOLA(0.3), lambda z, n: -(shaping(z, n, 0.3)[1] + shaping(z, n, 0.3)[2])),
    "sos": (lambda: SOS(0.5, 0.2, 0.3), lambda z, n: stable_shaping(z, n, 0.5, 0.2, 0.3)),
}


@pytest.mark.slow_cases("sos-3-float64")
@pytest.mark.parametrize("players, dtype", [(2, np.float32), (3, np.float64)])
@pytest.mark.parametrize("name", SHAPING)
def test_shaping_is_the_paper_s_formula(name, players, dtype):
    make, by_hand = SHAPING[name]
    for z in POINTS[:, : sum(asymmetric.SIZES[players])]:
        found = evaluate(make(), asymmetric.make(players), asymmetric.pack(z, dtype))
        asymmetric.same(found, by_hand(z, players), dtype, scale=0.1)


def test_the_points_try_all_cases_of_stable_shaping():
    """Along, against, and against so much that shaping is cut down."""
    terms = [shaping(z, 3, 0.5)[1:] for z in POINTS]
    along = {bool(shaped @ ahead >= 0) for ahead, shaped in terms}
    cut = {bool(-0.2 * ahead @ ahead / (shaped @ ahead) < 1) for ahead, shaped in terms if shaped @ ahead < 0}
    assert along == {True, False} and cut == {True, False}


IMPLICIT = {
    "competitive": (lambda s: CompetitiveGradient(0.2, solver=s), lambda z: competitive(z, 0.2, 0.2)),
    "competitive-unequal": (lambda s: CompetitiveGradient((0.1, 0.4), s), lambda z: competitive(z, 0.1, 0.4)),
    "competitive-0": (lambda s: CompetitiveGradient((0.0, 0.4), s), lambda z: competitive(z, 0.0, 0.4)),
    "stackelberg": (lambda s: Stackelberg(solver=s), lambda z: stackelberg(z, 0, 0)),
    "stackelberg-regular": (lambda s: Stackelberg(0, 0.3, s), lambda z: stackelberg(z, 0, 0.3)),
    "stackelberg-second": (lambda s: Stackelberg(1, 0.2, s), lambda z: stackelberg(z, 1, 0.2)),
    "ridge": (lambda s: FollowTheRidge(solver=s), lambda z: ridge(z, 0, 0, 1)),
    "ridge-regular": (lambda s: FollowTheRidge(0.4, 0, 0.3, s), lambda z: ridge(z, 0, 0.3, 0.4)),
    "ridge-second": (lambda s: FollowTheRidge(0.7, 1, 0.2, s), lambda z: ridge(z, 1, 0.2, 0.7)),
}


@pytest.mark.slow_cases("competitive", "competitive-unequal", "competitive-0", "stackelberg", "ridge")
@pytest.mark.parametrize("name", IMPLICIT)
def test_both_solvers_agree_with_explicit_inverses(name):
    make, by_hand = IMPLICIT[name]
    solvers = ["dense"] if name.endswith("second") else ["dense", "iterative"]  # few programs to compile
    for z in POINTS[:, :5]:
        expected = by_hand(z)
        for solver in solvers:
            found = asymmetric.flat(evaluate(make(solver), asymmetric.make(2), asymmetric.pack(z)))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * (1 + np.max(np.abs(expected))))


@pytest.mark.slow_cases("ridge")
@pytest.mark.parametrize("name", ["competitive-unequal", "ridge"])
def test_iteration_in_single_precision(name):
    make, by_hand = IMPLICIT[name]
    for z in POINTS[:, :5]:
        found = evaluate(make("iterative"), asymmetric.make(2), asymmetric.pack(z, np.float32))
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(asymmetric.flat(found), by_hand(z), rtol=0, atol=2e-3 * (1 + abs(by_hand(z)).max()))


@pytest.mark.slow_cases("CompetitiveGradient")
@pytest.mark.parametrize(
    "direction",
    [pytest.param(Stackelberg(), marks=pytest.mark.slow), CompetitiveGradient(), FollowTheRidge(solver="dense")],
    ids=lambda d: type(d).__name__,
)
def test_derivatives_go_through_the_solution(direction):
    game, z, h = asymmetric.make(2), POINTS[0, :5], 1e-6

    def function(z):
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(direction(game, asymmetric.pack(z)))])

    both = jax.jit(jax.vmap(lambda z, t: jax.jvp(function, (z,), (t,))))
    ahead, back = (both(z + sign * h * np.eye(5), np.eye(5)) for sign in (1, -1))
    quotients = (ahead[0] - back[0]) / (2 * h)
    np.testing.assert_allclose((ahead[1] + back[1]) / 2, quotients, atol=1e-7 * (1 + np.abs(quotients).max()))


# Closed forms.


def factor(direction, sigma, h):
    report = dy.stability(Bilinear(sigma), dy.updates.Simultaneous(*[optimisers.sgd(h)] * 2, direction=direction))
    return report.eigenvalues


@pytest.mark.slow_cases("0.5-0.2-1.3", "0.1-0.3-2.0")
@pytest.mark.parametrize("h, weight, sigma", [(0.1, 0.3, 2.0), (0.5, 0.2, 1.3)])
def test_shaping_of_a_bilinear_game(h, weight, sigma):
    """1 - h alpha s^2 +- i h s, for LOLA with twice the contraction; SOS is LookAhead at the equilibrium."""
    for direction, times in ((PolicyPrediction(weight), 1), (LOLA(weight), 2), (SOS(weight), 1)):
        found = factor(direction, sigma, h)
        expected = 1 - times * h * weight * sigma**2 + h * sigma * np.array([1j, -1j])
        np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), rtol=1e-12)


@pytest.mark.slow_cases("30.0", "0.01")
@pytest.mark.parametrize("eta", [0.01, 0.5, 1.0, 30.0])
def test_competitive_gradient_contracts_every_bilinear_game(eta):
    """1 / sqrt(1 + eta^2 s^2) for every step, as the proximal point method."""
    for sigma in (0.3, 2.0):
        found = factor(CompetitiveGradient(eta), sigma, eta)
        np.testing.assert_allclose(np.abs(found), 1 / np.sqrt(1 + (eta * sigma) ** 2), rtol=1e-11)


@pytest.mark.parametrize("solver", ["iterative", "dense"])
@pytest.mark.parametrize("eta", [0.2, 5.0])
def test_competitive_gradient_of_a_bilinear_game_is_the_proximal_point_method(eta, solver):
    """z+ = z + eta v(z+), on a matrix that is not square."""
    field = np.block([[np.zeros((2, 2)), -MATRIX], [MATRIX.T, np.zeros((3, 3))]])
    z = POINTS[1, :5]
    found = evaluate(CompetitiveGradient(eta, solver), Bilinear(MATRIX), (jnp.asarray(z[:2]), jnp.asarray(z[2:])))
    after = z + eta * np.concatenate(found)
    np.testing.assert_allclose(after, np.linalg.solve(np.eye(5) - eta * field, z), rtol=1e-11, atol=1e-13)


def test_a_step_of_zero_is_the_gradient():
    game, point = asymmetric.make(2), asymmetric.start(2)
    found = evaluate(CompetitiveGradient(0.0), game, point)
    np.testing.assert_allclose(asymmetric.flat(found), asymmetric.flat(game.field(point)), rtol=1e-14)


def tandem():
    """L_0 = (x + y)^2 - 2x, L_1 = (x + y)^2 - 2y; the equilibria are the line x + y = 1."""
    return Quadratic([np.full((2, 2), 2.0)] * 2, [[-2.0, 0.0], [0.0, -2.0]], shapes=((), ()))


@pytest.mark.slow_cases("start1", "start0")
@pytest.mark.parametrize("start", [(0.9, -0.4), (2.0, 1.5)])
def test_only_lola_misses_the_equilibria_of_the_tandem_game(start):
    """Letcher et al. 2019: LOLA ends at x + y = (1 - 2 alpha)/(1 - 4 alpha), for alpha = 0.1 at 4/3."""
    for direction, expected in ((PolicyPrediction(0.1), 1), (SOS(0.1), 1), (LOLA(0.1), 4 / 3)):
        update = dy.updates.Simultaneous(*[optimisers.sgd(0.1)] * 2, direction=direction)
        run = dy.simulate(tandem(), update, start, steps=400)
        x, y = (float(leaf) for leaf in run.final)
        np.testing.assert_allclose(x + y, expected, atol=1e-10)
        np.testing.assert_allclose(x - y, start[0] - start[1], rtol=1e-10)  # all of them move both players alike


def test_stable_shaping_fades_out_near_an_equilibrium():
    """By hand on the tandem game, where with s = x + y: xi = 2(s - 1), D_ij L = 2, grad_j L_i = 2s."""
    alpha, s = 0.1, 0.98
    xi = 2 * (s - 1)
    ahead, shaped = (1 - 2 * alpha) * xi, -alpha * 2 * 2 * s
    for b, part in ((0.1, 2 * xi**2), (0.05, 1.0)):  # |xi| = sqrt(2) 0.04
        found = evaluate(SOS(alpha, b=b), tandem(), (jnp.asarray(0.5), jnp.asarray(s - 0.5)))
        np.testing.assert_allclose(found, -(ahead + part * shaped), rtol=1e-12)


def test_the_leader_descends_its_loss_along_the_best_response():
    """On a quadratic general-sum game d L_0(x, r(x)) / dx is known, r being affine."""
    rng = np.random.default_rng(3)
    whole = rng.normal(size=(2, 5, 5))
    first, second = (whole[0] + whole[0].T) / 2, (whole[1] + whole[1].T) / 2
    offsets = rng.normal(size=(2, 5))
    game = Quadratic([first, second], offsets, shapes=((2,), (3,)))
    slope = -np.linalg.solve(second[2:, 2:], second[2:, :2])

    def value(x):
        z = np.concatenate([x, slope @ x - np.linalg.solve(second[2:, 2:], offsets[1, 2:])])
        return z @ first @ z / 2 + offsets[0] @ z

    x, h = np.array([0.3, -0.8]), 1e-4
    total = [(value(x + h * e) - value(x - h * e)) / (2 * h) for e in np.eye(2)]  # exact for quadratics
    y = slope @ x - np.linalg.solve(second[2:, 2:], offsets[1, 2:])
    found = evaluate(Stackelberg(solver="dense"), game, (jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(found[0], -np.array(total), rtol=1e-9)
    np.testing.assert_allclose(found[1], 0, atol=1e-12)
    # The follower of the ridge moves with the best response when it is on it.
    found = evaluate(FollowTheRidge(solver="dense"), game, (jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(found[1], slope @ found[0], rtol=1e-9)


@pytest.mark.parametrize("solver", ["iterative", "dense"])
@pytest.mark.parametrize("kind", [Stackelberg, FollowTheRidge])
def test_a_follower_without_curvature_stands_still(kind, solver):
    """The pseudo-inverse: in a bilinear game nothing is left of the correction, the rest is the plain gradient."""
    game = Quadratic.zero_sum(np.zeros((2, 2)), MATRIX, np.zeros((3, 3)))
    point = jnp.asarray([1.0, -2.0]), jnp.asarray([0.5, 0.1, 3.0])
    found = evaluate(kind(solver=solver), game, point)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(game.field(point)), rtol=1e-12)
    # One flat direction out of three: by hand with NumPy's pseudo-inverse.
    curvature = np.diag([2.0, 0.0, -0.5])
    game = Quadratic.zero_sum(np.diag([1.0, -1.0]), MATRIX, curvature)
    gradient = np.array([1.0, 2.0]) + MATRIX @ point[1], MATRIX.T @ point[0] - curvature @ point[1]
    slope = np.linalg.pinv(curvature) @ MATRIX.T
    expected = {
        Stackelberg: (-(gradient[0] + slope.T @ gradient[1]), gradient[1]),
        FollowTheRidge: (-gradient[0], gradient[1] - slope @ gradient[0]),
    }[kind]
    found = evaluate(kind(solver=solver), game, point)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), rtol=1e-10, atol=1e-12)


# Spectra at critical points, on quadratic zero-sum games f = x'Ax/2 + x'By - y'Cy/2.


def symmetric(rng, size, low, high):
    turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return (turn * rng.uniform(low, high, size)) @ turn.T


def schur(a, b, c):
    return a + b @ np.linalg.solve(c, b.T)


def equilibrium():
    return jnp.zeros(2), jnp.zeros(3)


@pytest.mark.slow
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    eta=st.floats(0.05, 5.0),
    coupling=st.floats(0.01, 100.0),
    flat=st.integers(0, 2),
)
def test_competitive_gradient_converges_for_any_coupling(seed, eta, coupling, flat):
    """Locally, when eta max(|D_xx f|, |D_yy f|) < 2 with D_xx f >= 0, D_yy f <= 0 and a regular Hessian."""
    rng = np.random.default_rng(seed)
    a, c = symmetric(rng, 2, 0.02, 1.9) / eta, symmetric(rng, 3, 0.02, 1.9) / eta
    if flat:  # a player without curvature of its own needs the coupling: the smaller one, which the other can see
        a = np.diag([0.0, a[1, 1]]) if flat == 1 else np.zeros((2, 2))
    u, _, v = np.linalg.svd(rng.normal(size=(2, 3)), full_matrices=False)
    b = coupling / eta * (u * rng.uniform(0.1, 1, 2)) @ v
    update = dy.updates.Simultaneous(*[optimisers.sgd(eta)] * 2, direction=CompetitiveGradient(eta, "dense"))
    report = dy.stability(Quadratic.zero_sum(a, b, c), update, equilibrium())
    assert report.radius < 1
    # The same from explicit matrices: the game's Jacobian behind (I + eta O)^-1.
    off = np.block([[np.zeros((2, 2)), b], [-b.T, np.zeros((3, 3))]])
    whole = off + np.block([[a, np.zeros((2, 3))], [np.zeros((3, 2)), c]])
    expected = np.eye(5) - eta * np.linalg.solve(np.eye(5) + eta * off, whole)
    np.testing.assert_allclose(report.jacobian, expected, atol=1e-9 * (1 + coupling))


def test_the_bound_on_the_competitive_step_is_sharp_without_coupling():
    for curvature, stable in ((1.99, True), (2.01, False)):
        update = dy.updates.Simultaneous(*[optimisers.sgd(0.5)] * 2, direction=CompetitiveGradient(0.5, "dense"))
        report = dy.stability(PlanarQuadratic(curvature / 0.5, 0.0, 1.0), update)
        assert (report.verdict == "stable") is stable


@pytest.mark.slow
@hypothesis.given(seed=st.integers(0, 2**32 - 1), ratio=st.floats(0.1, 10.0))
def test_leader_and_follower_settle_at_strict_local_minimax_points_only(seed, ratio):
    """Both methods have the spectrum {1 - h S} and {1 - k C} at every critical point, whatever its kind."""
    rng = np.random.default_rng(seed)
    a, c = symmetric(rng, 2, -1, 1), symmetric(rng, 3, -0.3, 1)
    b = rng.normal(size=(2, 3)) * rng.uniform(0, 1)
    hypothesis.assume(np.min(np.abs(np.linalg.eigvalsh(c))) > 0.02)
    s = schur(a, b, c)
    curvatures = np.concatenate([np.linalg.eigvalsh(s), np.linalg.eigvalsh(c)])
    hypothesis.assume(np.min(np.abs(curvatures)) > 1e-3)
    k = 1 / np.max(np.abs(curvatures))
    h, k = (k, k / ratio) if ratio > 1 else (k * ratio, k)
    expected = np.sort(np.concatenate([1 - h * np.linalg.eigvalsh(s), 1 - k * np.linalg.eigvalsh(c)]))
    game = Quadratic.zero_sum(a, b, c)
    for direction in (FollowTheRidge(h / k, solver="dense"), Stackelberg(solver="dense")):
        update = dy.updates.Simultaneous(optimisers.sgd(h), optimisers.sgd(k), direction=direction)
        report = dy.stability(game, update, equilibrium())
        scale = 1e-7 * (1 + np.linalg.norm(report.jacobian))
        np.testing.assert_allclose(np.sort(report.eigenvalues.real), expected, atol=scale)
        np.testing.assert_allclose(report.eigenvalues.imag, 0, atol=scale)
        assert (report.verdict == "stable") is bool(np.all(curvatures > 0))
    # Block-triangular: the leader's total gradient does not see the follower.
    blocks = np.block([[np.eye(2) - h * s, np.zeros((2, 3))], [k * b.T, np.eye(3) - k * c]])
    np.testing.assert_allclose(report.jacobian, blocks, atol=1e-9 * (1 + np.linalg.norm(blocks)))


@pytest.mark.slow_cases("Stackelberg")
@pytest.mark.parametrize("kind", [Stackelberg, FollowTheRidge])
def test_no_spurious_attractor(kind):
    """Descent-ascent is attracted by points that are no local minimax points, these methods are not."""
    game = SpuriousAttractor()
    point = (jnp.asarray(0.0), jnp.asarray(0.0))
    rates, method = [optimisers.sgd(0.01)] * 2, kind(solver="dense")
    assert dy.stability(game, dy.updates.Simultaneous(*rates), point).verdict == "stable"
    assert dy.stability(game, dy.updates.Simultaneous(*rates, direction=method), point).verdict == "unstable"
    # A local minimax point that is no Nash equilibrium repels descent-ascent at equal rates, and attracts these.
    game = PlanarQuadratic.minimax_without_nash()
    assert dy.stability(game, dy.updates.Simultaneous(*rates)).verdict != "stable"
    assert dy.stability(game, dy.updates.Simultaneous(*rates, direction=method)).verdict == "stable"


@pytest.mark.slow
def test_the_ridge_in_a_general_sum_game_leaves_the_equilibria_where_they_are():
    """Spectrum {1 - h S} and {1 - k D} with S = A - B D^-1 C, not symmetric, for the Hessian [[A, B], [C, D]]."""
    rng = np.random.default_rng(5)
    hessian = rng.normal(size=(5, 5))
    hessian[:2, :2], hessian[2:, 2:] = np.eye(2) + 0.2, np.diag([2.0, 1.0, 0.5])
    a, b, c, d = hessian[:2, :2], hessian[:2, 2:], hessian[2:, :2], hessian[2:, 2:]
    h, k = 0.02, 0.1
    update = dy.updates.Simultaneous(optimisers.sgd(h), optimisers.sgd(k), direction=FollowTheRidge(h / k))
    report = dy.stability(Quadratic([[a, b], [c, d]]), update, equilibrium())
    expected = np.concatenate([1 - h * np.linalg.eigvals(a - b @ np.linalg.solve(d, c)), 1 - k * np.diag(d)])
    np.testing.assert_allclose(np.sort_complex(report.eigenvalues), np.sort_complex(expected), atol=1e-9)


# Errors.


@pytest.mark.parametrize("kind", [CompetitiveGradient, Stackelberg, FollowTheRidge])
def test_three_players_are_refused(kind):
    message = f"{kind.__name__} is defined for two players, this game has 3; .*PolicyPrediction"
    with pytest.raises(ValueError, match=message):
        kind()(asymmetric.make(3), asymmetric.start(3))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: CompetitiveGradient(-0.1),
            r"CompetitiveGradient.step has the rate -0.1; expected finite numbers >= 0",
        ),
        (lambda: CompetitiveGradient((0.1,) * 3), "3 rates for 2 players"),
        (lambda: CompetitiveGradient(solver="cg"), "solver is 'cg'; expected one of 'iterative', 'dense'"),
        (lambda: Stackelberg(max_steps=0), "Stackelberg.max_steps is 0; expected None or a whole number >= 1"),
        (lambda: Stackelberg(leader=2), "Stackelberg.leader is 2; expected 0 or 1"),
        (lambda: Stackelberg(regularisation=-1.0), "regularisation is -1; expected a finite number >= 0"),
        (lambda: FollowTheRidge(-1.0), "FollowTheRidge.ratio is -1; expected a finite number >= 0"),
        (lambda: FollowTheRidge(leader=True), "FollowTheRidge.leader is True; expected 0 or 1"),
        (lambda: Stackelberg(leader=1.0), "Stackelberg.leader is 1.0; expected 0 or 1"),
        (lambda: PolicyPrediction(np.nan), "PolicyPrediction.weight is nan; expected a finite number >= 0"),
        (lambda: LOLA(-1.0), "LOLA.weight is -1; expected a finite number >= 0"),
        (lambda: SOS(a=1.0), "SOS.a is 1; expected a finite number > 0 and < 1"),
        (lambda: SOS(b=0.0), "SOS.b is 0; expected a finite number > 0 and < 1"),
    ],
)
def test_arguments_out_of_bounds(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_bound_on_the_iterations_is_kept():
    """One iteration is not enough for three parameters; it ends in the best multiple of the first gradient."""
    z = POINTS[0, :5]
    gradients, hessians = blocks(z)
    curvature, wish = hessians[1][1][1], gradients[0][1]
    square = curvature @ curvature
    step = curvature @ wish
    # LSMR makes the residual of the normal equations as small as it can along the first search direction.
    answer = step * (step @ square @ step) / np.linalg.norm(square @ step) ** 2
    expected = -(gradients[0][0] - hessians[1][1][0].T @ answer)
    found = evaluate(Stackelberg(max_steps=1), asymmetric.make(2), asymmetric.pack(z))
    np.testing.assert_allclose(asymmetric.flat(found)[:2], expected, rtol=1e-10)
