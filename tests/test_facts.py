"""Published statements about toy games, local stability and solution concepts, on the library's own answers.

What other files hold already is not repeated: conditions on bilinear games (test_schemes.py, test_closed_forms.py),
printed numbers (test_references.py), drifts (test_modified_flow.py, test_flows.py), kinds of equilibria
(test_timescale_and_concepts.py), implicit and adjusted directions (test_directions_second_order.py and _adjusted.py).
Statements about all games of a kind are tested on random draws of it, wherever possible many draws in one program.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from jax.flatten_util import ravel_pytree

import dynamics as dy
from dynamics.analysis import linearise
from dynamics.directions import CompetitiveGradient, Consensus, LocalSymplecticSurgery, SymplecticAdjustment, Unrolled
from dynamics.flows import AlternatingFlow, Flow, ModifiedFlow
from dynamics.games import AlmostBilinear, Bilinear, Covariance, Forsaken, PlanarQuadratic, Quadratic, TTURToy
from dynamics.optimisers import adam, momentum, optimistic, sgd
from dynamics.updates import ODEGAN, Alternating, Extragradient, Lookahead, RungeKutta, Simultaneous

SCALAR = Bilinear(1.0)
ORIGIN, VECTORS = (0.0, 0.0), (np.zeros(2), np.zeros(3))
DRAWS, BATCH = 200, 256


def jacobians(build):
    """Jacobians of `build(*numbers)`, a game, a method and a point, for many draws of the numbers at once.

    In batches of one size, so that there is one program whatever the number of draws.
    """

    @jax.jit
    @jax.vmap
    def jacobian(*numbers):
        game, method, point = build(*numbers)
        return linearise(game, method, dy.game.as_players(point)).jacobian

    def batches(*numbers):
        numbers = [np.asarray(n, float) for n in numbers]
        count = len(numbers[0])
        rows = np.minimum(np.arange(-(-count // BATCH) * BATCH), count - 1)  # the last draw fills the last batch
        found = [np.asarray(jacobian(*(n[part] for n in numbers))) for part in rows.reshape(-1, BATCH)]
        return np.concatenate(found)[:count]

    return batches


def spectra(build):
    """Their eigenvalues, with scalar players that rest at 0 unless `build` says where."""
    matrices = jacobians(lambda *numbers: (*build(*numbers), ORIGIN)[:3])
    return lambda *numbers: np.linalg.eigvals(matrices(*numbers))


def radius(values):
    return np.abs(values).max(axis=-1)


def same_sets(found, expected, atol=1e-10):
    """Equal as multisets of complex numbers."""
    rest = list(np.ravel(np.asarray(expected, complex)))
    assert len(found) == len(rest)
    for value in found:
        nearest = int(np.argmin(np.abs(np.array(rest) - value)))
        assert abs(rest.pop(nearest) - value) <= atol, f"{value} is not among {expected}"


def symmetric(rng, size, low, high):
    turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return (turn * rng.uniform(low, high, size)) @ turn.T


def zero_sum_draws(rng, count, lows, highs, coupling=1.0, sizes=(2, 3)):
    """A, B, C of f = x'Ax/2 + x'By - y'Cy/2, with the eigenvalues of A and of C between given numbers."""
    a = np.stack([symmetric(rng, sizes[0], lows[0], highs[0]) for _ in range(count)])
    c = np.stack([symmetric(rng, sizes[1], lows[1], highs[1]) for _ in range(count)])
    return a, coupling * rng.normal(size=(count, *sizes)), c


def field_jacobian(a, b, c):
    """Of the field of that game; for one draw or many."""
    return np.block([[-a, -b], [np.swapaxes(b, -1, -2), -c]])


both = {
    "simultaneous": lambda h, k: Simultaneous(sgd(h), sgd(k)),
    "alternating": lambda h, k: Alternating(sgd(h), sgd(k)),
    "extragradient": lambda h, k: Extragradient(sgd(h), sgd(k), extrapolation=(h, k)),
    "optimistic": lambda h, k: Simultaneous(optimistic(h), optimistic(k)),
}


# ---------------------------------------------------------------- thresholds that dynamics.critical finds
# Closed forms on f = sigma x y; others are in test_references.py and test_closed_forms.py.

CRITICAL = {
    "heavy ball in turns, both -0.3: 2 (1 + b)": (
        lambda h: (SCALAR, Alternating(momentum(h, -0.3), momentum(h, -0.3))),
        (0.2, 2.3),
        1.4,
    ),
    "classical Runge-Kutta: 2 sqrt 2": (lambda h: (SCALAR, RungeKutta(h, "rk4")), (0.5, 4.0), 2 * np.sqrt(2)),
    "unrolled three steps: 2 / sqrt(4 K - 1)": (
        lambda h: (SCALAR, Simultaneous(sgd(h), sgd(h), direction=Unrolled(3, h))),
        (0.1, 1.5),
        2 / np.sqrt(11),
    ),
    # Balduzzi et al. 2018, section 4.2: the published range of steps is that of sigma = 1/2.
    "optimism at sigma = 1/2: 2 / sqrt 3": (
        lambda h: (Bilinear(0.5), Simultaneous(optimistic(h), optimistic(h))),
        (0.3, 2.1),
        2 / np.sqrt(3),
    ),
    "symplectic adjustment at sigma = 1/2: 2 w / (1 + w^2 s^2)": (
        lambda h: (Bilinear(0.5), Simultaneous(sgd(h), sgd(h), direction=SymplecticAdjustment(1.0, align=False))),
        (0.3, 2.1),
        1.6,
    ),
    # ODE-GAN's penalty with Euler steps, which Runge-Kutta steps against a frozen opponent amount to: weight h / 2.
    "penalty that holds a frozen step of 0.1": (lambda w: (SCALAR, ODEGAN(0.1, w, "euler")), (0.0, 0.33), 0.05),
}


@pytest.mark.slow_cases("heavy ball in turns, both -0.3: 2 (1 + b)", "optimism at sigma = 1/2: 2 / sqrt 3")
@pytest.mark.parametrize("name", CRITICAL)
def test_critical_numbers_are_the_closed_forms(name):
    build, interval, expected = CRITICAL[name]
    assert dy.critical(build, *interval).value == pytest.approx(expected, abs=1e-9)


def test_lookahead_on_the_bilinear_game():
    """Two inner steps of descent: stable iff a (4 + s^2) < 2, never with weight 1/2; the radii per cycle of five."""
    two = spectra(lambda h, a: (SCALAR, Lookahead(both["simultaneous"](h, h), steps=2, weight=a)))
    h, a = map(np.ravel, np.meshgrid(np.linspace(0.05, 2, 24), np.linspace(0.02, 1, 25)))
    np.testing.assert_array_equal(radius(two(h, a)) < 1, a * (4 + h**2) < 2)
    assert np.all(radius(two(h, 0 * a + 0.5)) > 1)
    five = spectra(lambda h: (SCALAR, Lookahead(both["simultaneous"](h, h))))  # the defaults: 5 steps, weight 1/2
    np.testing.assert_allclose(radius(five([0.1, 0.3, 0.5, 1.0])), [0.9813, 0.8396, 0.6474, 2.5], atol=5e-5)


# ---------------------------------------------------------------- negative momentum (Gidel et al. 2019)

heavy_turns = spectra(lambda s, b, c: (Bilinear(s), Alternating(momentum(1.0, b), momentum(1.0, c))))
heavy_together = spectra(lambda s, b, c: (Bilinear(s), Simultaneous(momentum(1.0, b), momentum(1.0, c))))


def turns(s, b, c):
    return radius(heavy_turns(*np.broadcast_arrays(np.asarray(s, float), b, c)))


def remembered_bound(s):
    """Of the squared distance per step, with one player's momentum -1/2 and steps of at most 1 / sigma_max."""
    return np.maximum(1 / 2, 1 - s**2 / 16)


def test_it_does_not_matter_which_player_has_the_momentum():
    rng = np.random.default_rng(0)
    s, b, c = rng.uniform(0.05, 2, DRAWS), *rng.uniform(-1, 1, (2, DRAWS))
    np.testing.assert_allclose(turns(s, b, c), turns(s, c, b), rtol=1e-6)
    at_most = np.linspace(0.02, 1, 99)
    np.testing.assert_allclose(turns(at_most, -0.5, 0), turns(at_most, 0, -0.5), rtol=1e-9)


def test_one_player_with_momentum_minus_a_half_converges_faster_than_the_theorem_says():
    s = np.linspace(0.005, 1, 200)
    squared = turns(s, -0.5, 0) ** 2
    assert np.all(squared <= remembered_bound(s))
    gain = (1 - squared) / s**2
    assert gain.min() == pytest.approx(2 / 9, abs=2e-5) and gain.argmin() == 0
    # Beyond the theorem's steps the bound goes on to 1.368, stability to sqrt 2.
    s = np.linspace(1, 1.5, 501)
    squared = turns(s, -0.5, 0) ** 2
    assert s[np.argmax(squared > remembered_bound(s))] == pytest.approx(1.369, abs=1e-3)
    assert s[np.argmax(squared > 1)] == pytest.approx(np.sqrt(2), abs=1e-3)


def test_both_players_with_momentum_minus_a_half_are_not_the_theorem():
    """Faster for small steps, but marginal with an eigenvalue -1 at s = 1, and over the bound from 0.97."""
    small = np.array([0.02, 0.01])
    gain = (1 - turns(small, -0.5, -0.5) ** 2) / small**2
    np.testing.assert_allclose(gain, 8 / 27, rtol=1e-3)
    s = np.linspace(0.5, 1.1, 601)
    squared = turns(s, -0.5, -0.5) ** 2
    assert s[np.argmax(squared > remembered_bound(s))] == pytest.approx(0.971, abs=1.5e-3)
    np.testing.assert_array_equal(squared[abs(s - 1) > 1e-9] < 1, (s < 1)[abs(s - 1) > 1e-9])
    assert np.abs(heavy_turns([1.0], [-0.5], [-0.5]) + 1).min() < 1e-7


def test_the_gain_of_small_steps_in_turns():
    """rho^2 = 1 + s^2 (b + c - 2 b c) / ((1 - b)(1 - c))^2, for equal coefficients least at -1/2."""
    rng = np.random.default_rng(1)
    b, c = rng.uniform(-0.9, 0.6, (2, DRAWS))
    s = 1e-3 * np.ones(DRAWS)
    found = (turns(s, b, c) ** 2 - 1) / s**2
    np.testing.assert_allclose(found, (b + c - 2 * b * c) / ((1 - b) * (1 - c)) ** 2, atol=2e-3)
    equal = np.linspace(-0.9, 0.2, DRAWS)
    found = (turns(s, equal, equal) ** 2 - 1) / s**2
    assert equal[found.argmin()] == pytest.approx(-0.5, abs=0.01)
    assert found.min() == pytest.approx(-8 / 27, abs=1e-4)
    assert turns([0.3], 0.0, 0.0)[0] == pytest.approx(1, abs=1e-12)


def test_simultaneous_moves_converge_with_no_pair_of_momenta():
    grid = np.meshgrid(np.linspace(0.05, 1.5, 8), *[np.linspace(-1.5, 1.5, 25)] * 2)
    assert np.all(radius(heavy_together(*map(np.ravel, grid))) > 1 - 1e-9)


def test_in_turns_a_stable_pair_has_a_negative_momentum():
    rng = np.random.default_rng(2)
    s, b, c = rng.uniform(0.05, 1.9, 2000), *rng.uniform(-1.1, 1.1, (2, 2000))
    stable = turns(s, b, c) < 1 - 1e-9
    assert stable.sum() > 200 and np.all(np.minimum(b, c)[stable] < 0)


def test_the_authors_toy_converges_with_negative_momentum_only():
    """Start (1/2, 1/2), rate 0.1, the discriminator first: converged below a squared distance of 0.001, aborted at 10.

    Without momentum it does neither.
    """

    def squared_distances(beta):
        update = Alternating(momentum(0.1, beta), momentum(0.1, beta), order=(1, 0))
        run = dy.simulate(SCALAR, update, (0.5, 0.5), steps=8000, save_every=10, classify=False)
        return run.players[0] ** 2 + run.players[1] ** 2

    found = np.asarray(jax.jit(jax.vmap(squared_distances))(jnp.asarray([-0.9, -0.5, -0.1, 0.0, 0.1, 0.5, 0.9])))
    np.testing.assert_array_equal(found[:, -1] < 1e-3, [True] * 3 + [False] * 4)
    np.testing.assert_array_equal(np.any(~(found <= 10), axis=1), [False] * 4 + [True] * 3)


# ---------------------------------------------------------------- the extra condition of optimism in turns

optimism_turns = spectra(
    lambda s, a, b, c: (Bilinear(s), Alternating(optimistic(a - b, strength=b), optimistic(a - c, strength=c)))
)


def printed_conditions(s, a, b, c):
    x = s**2
    return (
        ((a - b) * (a - c) > 0)
        & ((a + b) * (a + c) * x < 4)
        & ((a * b * x + 1) * (a * c * x + 1) > (1 + b * c * x) ** 2)
    )


def test_three_conditions_suffice_for_optimism_in_turns_unless_both_coefficients_point_backwards():
    example = np.array([[1.0], [2.9137], [-1.6287], [-1.9574]])
    assert printed_conditions(*example)[0]
    assert radius(optimism_turns(*example))[0] == pytest.approx(3.39, abs=5e-3)
    rng = np.random.default_rng(3)
    # Where both coefficients point backwards the three hold for few draws.
    s, a, b, c = rng.uniform(0.2, 1.5, 40_000), rng.uniform(0.02, 3, 40_000), *rng.uniform(-2, 2, (2, 40_000))
    holds = printed_conditions(s, a, b, c)
    s, a, b, c = s[holds], a[holds], b[holds], c[holds]
    found = radius(optimism_turns(s, a, b, c))
    backwards = (b < 0) & (c < 0)
    assert (~backwards).sum() > 500 and np.all(found[~backwards] < 1)
    wrong = found > 1
    assert wrong.sum() > 5 and np.all(abs(b * c * s**2)[wrong] >= 1)


# ---------------------------------------------------------------- symplectic gradient adjustment (Balduzzi et al. 2018)

WEAK = Quadratic([[1.0, 10.0], [-10.0, 1.0]])  # L_0 = x^2/2 + 10 x y, L_1 = y^2/2 - 10 x y
adjusted_weak = jacobians(
    lambda h, w: (WEAK, Simultaneous(sgd(h), sgd(h), direction=SymplecticAdjustment(w, align=False)), ORIGIN)
)
adjusted_flow = spectra(
    lambda a, b, c, w: (Quadratic.zero_sum(a, b, c), Flow(SymplecticAdjustment(w, align=False)), VECTORS)
)


def test_the_adjusted_example_converges_in_one_step():
    report = dy.stability(WEAK, Flow())
    same_sets(report.eigenvalues, [-1 + 10j, -1 - 10j])
    assert report.largest_step == pytest.approx(2 / 101, rel=1e-12)
    np.testing.assert_allclose(adjusted_weak([1 / 101], [1.0]), 0, atol=1e-15)


def test_the_adjusted_example_at_the_published_rates():
    """Weight 1 diverges at the two larger rates; a weight near 0.1 gives what the figure shows."""
    rates = np.array([0.01, 0.032, 0.1])

    def factors(h, w):
        return radius(np.linalg.eigvals(adjusted_weak(*np.broadcast_arrays(h, w))))

    np.testing.assert_allclose(factors(rates, 1.0), np.abs(1 - 101 * rates), rtol=1e-9)
    np.testing.assert_allclose(factors(rates, 1.0), [0.01, 2.23, 9.1], atol=5e-3)
    np.testing.assert_allclose(factors(rates, 0.1), [0.895, 0.709, 0.906], atol=5e-4)
    plain = np.abs(1 - rates * (1 + 10j))
    assert np.all(factors(rates, 0.1)[:2] < plain[:2])  # faster than descent at the first two
    weights = np.linspace(0.001, 0.3, 300)
    stable = weights[factors(0.1, weights) < 1]
    np.testing.assert_allclose(stable[[0, -1]], [0.057, 0.141], atol=1e-3)


@pytest.mark.slow
def test_optimism_at_half_the_coupling_is_best_at_a_rate_of_one():
    found = dy.best(lambda h: (Bilinear(0.5), Simultaneous(optimistic(h), optimistic(h))), {"h": (0.3, 1.2)})
    assert found.parameters["h"] == pytest.approx(1.0, abs=1e-5)
    assert found.radius == pytest.approx(np.sqrt(0.5), abs=1e-5)


def test_adjustment_keeps_stable_points_attracting_up_to_its_bound():
    """S >= 0 and a regular Jacobian: every weight below 4 / (sigma_max(S) - sigma_min(S)), with small steps."""
    rng = np.random.default_rng(4)
    # S has the blocks A and C; some of their eigenvalues are 0.
    a, b, c = zero_sum_draws(rng, DRAWS, (0, 0), (1, 1), 0.3)
    a[::3] -= np.linalg.eigvalsh(a[::3])[:, :1, None] * np.eye(2)
    curvatures = np.concatenate([np.linalg.eigvalsh(a), np.linalg.eigvalsh(c)], axis=1)
    bound = 4 / np.ptp(curvatures, axis=1)
    for share in (0.05, 0.999):
        assert np.all(adjusted_flow(a, b, c, share * bound).real.max(axis=1) < 0)


def test_adjustment_with_a_large_weight_attracts_to_an_unstable_point():
    """L_0 = -e/2 x^2 - x y, L_1 = -e/2 y^2 + x y: eigenvalues e - w +- i (1 + w e) of the flow; alignment repels."""
    e = 0.1
    game = Quadratic([[-e, -1.0], [1.0, -e]])
    weights = np.array([0.05, 0.099, 0.101, 0.5])
    found = spectra(lambda w: (game, Flow(SymplecticAdjustment(w, align=False))))(weights)
    for values, w in zip(found, weights):
        same_sets(values, [e - w + 1j * (1 + w * e), e - w - 1j * (1 + w * e)])

    def shrinks(**choices):
        update = Simultaneous(sgd(0.05), sgd(0.05), direction=SymplecticAdjustment(0.5, **choices))
        run = dy.simulate(game, update, (0.3, 0.1), steps=200, save_every="last", classify=False)
        return np.hypot(*run.final) < np.hypot(0.3, 0.1)

    assert shrinks(align=False) and not shrinks(epsilon=0.0)


def test_adjustment_avoids_strict_saddles_with_small_weights():
    """An eigenvalue of the game's Hessian with a negative real part stays one under a small weight."""
    rng = np.random.default_rng(5)
    a, b, c = zero_sum_draws(rng, 100, (-1, -1), (1, 1))
    saddle = np.linalg.eigvals(field_jacobian(a, b, c)).real.max(axis=1) > 0.05
    assert saddle.sum() > 30
    weight = np.full(saddle.sum(), 1e-3)
    found = adjusted_flow(a[saddle], b[saddle], c[saddle], weight)
    assert np.all(found.real.max(axis=1) > 0)


def test_consensus_climbs_a_potential_game_unless_its_weight_is_small():
    """L_0 = L_1 = -k (x^2 + y^2) / 2: towards the maximum from weight 1/k on; adjustment does nothing there."""
    k = 2.5
    game = dy.Game.from_losses(lambda xy, key=None: (-k * (xy[0] ** 2 + xy[1] ** 2) / 2,) * 2, [(0.0, 0.0)])
    found = dy.critical(lambda w: (game, Flow(Consensus(w))), 0.05, 1.0)
    assert found.value == pytest.approx(1 / k, abs=1e-9) and (found.below, found.above) == ("unstable", "stable")
    report = dy.stability(game, Flow(SymplecticAdjustment(7.0)))
    np.testing.assert_allclose(report.jacobian, k * np.eye(2), atol=1e-13)


def test_four_players_who_only_rotate():
    """L_i = e/2 w_i^2 +- products of pairs: eigenvalues -e + i m of the flow, and -e - w m^2 + i m (1 - w e)."""
    signs = np.triu(np.ones((4, 4)), 1)
    coupling = signs - signs.T

    def build(e, w):
        game = Quadratic(e * jnp.eye(4) + coupling)
        return game, Flow(SymplecticAdjustment(w, align=False)), (0.0,) * 4

    flow = spectra(build)
    plain = flow([0.0, 0.01], [0.0, 0.0])
    adjusted = flow([0.0, 0.01], [1.0, 1.0])
    m = np.linalg.eigvals(coupling).imag
    for e, before, after in zip((0.0, 0.01), plain, adjusted):
        same_sets(before, -e + 1j * m)
        same_sets(after, -e - m**2 + 1j * m * (1 - e))
    step = (-2 * adjusted.real / np.abs(adjusted) ** 2).min(axis=1)
    assert np.all(step > 20 * (-2 * plain.real / np.abs(plain) ** 2).min(axis=1))


# ---------------------------------------------------------------- GANs near equilibrium
# Nagarajan and Kolter 2017; Mescheder, Geiger, Nowozin 2018, theorem 4.1.


def features(x):
    return jnp.stack([x, x**2 / 2, jnp.sin(x)])


def generator(theta, z):
    return theta[0] + (1 + theta[1]) * z


def discriminator(psi, x):
    return psi @ features(x)


def gan(points, objective, penalty=None):
    """Data and latents are the same points, so that theta = 0 and psi = 0 is an equilibrium."""
    return dy.GAN(
        generator, discriminator, points, points, objective, penalty, equilibria=[(jnp.zeros(2), jnp.zeros(3))]
    )


def moments(points):
    """E[phi phi'], the slope of E phi(G(z)) in theta, and E[phi' phi''] by hand; points in the rows."""
    phi = np.stack([points, points**2 / 2, np.sin(points)], axis=-1)
    slope = np.stack([np.ones_like(points), points, np.cos(points)], axis=-1)
    latent = np.stack([np.ones_like(points), points], axis=-1)

    def mean(left, right):
        return np.einsum("...ni,...nj->...ij", left, right) / points.shape[-1]

    return mean(phi, phi), mean(slope, latent), mean(slope, slope)


POINTS = np.random.default_rng(6).normal(size=(40, 7)) * 1.3 + 0.4


def gan_jacobians(objective, penalty):
    return jacobians(lambda points, weight: (gan(points, objective, penalty(weight)), Flow(), VECTORS))


def assert_blocks(found, upper_left, upper_right, lower_left, lower_right):
    for i, one in enumerate(found):
        expected = np.block([[upper_left[i], upper_right[i]], [lower_left[i], lower_right[i]]])
        np.testing.assert_allclose(one, expected, atol=1e-11 * (1 + np.abs(expected).max()))


def turned(matrices):
    return np.swapaxes(matrices, 1, 2)


def test_a_gan_near_equilibrium_and_the_gradient_norm_in_the_generators_loss():
    """[[2 f'' K_DD, f' K_DG], [-f' K_DG', 0]], discriminator first, with f' = 1/2 and f'' = -1/4; stable.

    With eta |dV/dpsi|^2 in the generator's loss [[J_DD, J_DG], [-J_DG'(I + 2 eta J_DD), -2 eta J_DG'J_DG]], stable for
    eta < 1 / (2 lambda_max(-J_DD)).
    """
    k_dd, k_dg, _ = moments(POINTS)
    dd, dg = -k_dd / 2, -k_dg / 2
    program = gan_jacobians(dy.objectives.Minimax(), dy.penalties.DiscriminatorGradientNorm)
    for share in (0.0, 0.1, 0.999):
        eta = (share / (2 * np.linalg.eigvalsh(-dd).max(axis=1)))[:, None, None]
        found = program(POINTS, eta[:, 0, 0])
        assert_blocks(found, -2 * eta * turned(dg) @ dg, -turned(dg) @ (np.eye(3) + 2 * eta * dd), dg, dd)
        assert np.all(np.linalg.eigvals(found).real.max(axis=1) < 0)


def test_a_wasserstein_gan_only_rotates_unless_the_generator_pays_for_the_gradient():
    """No curvature: zero real parts. With the gradient norm stable for every weight; the third direction of the
    discriminator moves nobody, a line of equilibria."""
    _, k_dg, _ = moments(POINTS)
    program = gan_jacobians(dy.objectives.Wasserstein(), dy.penalties.DiscriminatorGradientNorm)
    for eta in (0.0, 1e-2, 1.0, 50.0):
        found = program(POINTS, np.full(len(POINTS), eta))
        assert_blocks(found, -2 * eta * turned(k_dg) @ k_dg, turned(k_dg), -k_dg, np.zeros((len(POINTS), 3, 3)))
        values = np.linalg.eigvals(found)
        order = np.argsort(np.abs(values), axis=1)
        line, others = (
            np.take_along_axis(values, order[:, :1], axis=1),
            np.take_along_axis(values, order[:, 1:], axis=1),
        )
        np.testing.assert_allclose(line, 0, atol=1e-10)
        assert np.all(others.real < 0) if eta else np.all(np.abs(others.real) < 1e-12)


@pytest.mark.parametrize(
    "penalty, objective, slope, curvature",
    [
        (dy.penalties.R1, dy.objectives.Minimax(), 0.5, 0.5),
        (dy.penalties.R2, dy.objectives.NonSaturating(), 0.5, 0.5),
        (dy.penalties.R1, dy.objectives.Wasserstein(), 1.0, 0.0),
    ],
    ids=["R1", "R2, non-saturating", "R1, Wasserstein"],
)
def test_gans_with_a_gradient_penalty_converge_locally(penalty, objective, slope, curvature):
    """[[0, -B'], [B, -Q]] with Q = -2 f'' K_DD + gamma L_DD, Hurwitz; also without curvature of the objective."""
    k_dd, k_dg, l_dd = moments(POINTS)
    weight = np.geomspace(0.01, 20, len(POINTS))
    found = gan_jacobians(objective, penalty)(POINTS, weight)
    q = curvature * k_dd + weight[:, None, None] * l_dd
    assert_blocks(found, np.zeros((len(POINTS), 2, 2)), slope * turned(k_dg), -slope * k_dg, -q)
    assert np.all(np.linalg.eigvals(found).real.max(axis=1) < 0)


def test_a_gradient_penalty_makes_a_whole_manifold_attracting():
    """Covariance: every rotation of the generator, and every antisymmetric part of the discriminator, is as good."""
    game = Covariance([[2.0, 0.5], [0.5, 1.0]], penalty=dy.penalties.R1(0.5))
    report = dy.stability(game, both["alternating"](0.05, 0.05))
    assert report.verdict == "stable" and report.manifold_dimension == 2


def test_a_gan_with_a_definite_discriminator_is_stable_on_every_time_scale():
    """[[0, -B], [t B', -t Q]] with Q > 0 and B of full row rank (Fiez and Ratliff 2021; Mescheder et al. 2018)."""
    rng = np.random.default_rng(7)
    zero, b, q = zero_sum_draws(rng, DRAWS, (0, 0.05), (0, 2))
    ratio = 10 ** rng.uniform(-3, 3, DRAWS)
    flow = spectra(lambda b, q, r: (Quadratic.zero_sum(jnp.zeros((2, 2)), b, q), Flow(rates=(1.0, r)), VECTORS))
    assert np.all(flow(b, q, ratio).real.max(axis=1) < 0)
    for one, other in zip(b[:8], q):
        found = dy.timescale_threshold(Quadratic.zero_sum(np.zeros((2, 2)), one, other))
        assert found.value == 0 and found.stable == ((0.0, np.inf),)
    assert dy.timescale_threshold(Covariance(2.25, mu=0.7)).value == 0


def test_a_quadratic_discriminator_on_uniform_data():
    """Scores w x^2, fakes a z on [-1, 1]: the field of the Gaussian case over 3. Two points have its second moment."""
    points = np.array([-1.0, 1.0]) / np.sqrt(3)
    s = 1.5
    game = dy.GAN(lambda a, z: a * z, lambda w, x: w * x**2, s * points, points, dy.objectives.Wasserstein())
    report = dy.stability(game, Flow(), at=(s, 0.0))
    same_sets(report.eigenvalues, [2j * s / 3, -2j * s / 3])
    np.testing.assert_allclose(
        game.field((jnp.asarray(0.7), jnp.asarray(0.4))), [0.56 / 3, (s**2 - 0.49) / 3], rtol=1e-12
    )


# ---------------------------------------------------------------- two time scales (Heusel et al. 2017)


def test_the_toys_multipliers():
    """1 - 200 h for x and 1 - 2 k for y: a rate of 0.01 of x is marginal."""
    for h, k in ((0.01, 0.01), (0.001, 0.001), (1e-4, 0.01), (0.01, 1e-4)):
        report = dy.stability(TTURToy(), both["alternating"](h, k))
        same_sets(report.eigenvalues, [1 - 200 * h, 1 - 2 * k], 1e-12)
        assert (report.verdict == "stable") is (h < 0.01)
    assert dy.stability(TTURToy(), both["alternating"](0.01, 0.01)).verdict == "marginal"


def test_the_toys_four_published_runs():
    """5000 noisy steps, x first: equal rates of 0.01 do not settle; a slow x and a fast y are the fastest to do so."""

    def path(h, k, key):
        run = dy.simulate(
            TTURToy(), both["alternating"](h, k), (0.5, -0.4), steps=5000, save_every=500, key=key, classify=False
        )
        return jnp.stack(run.players)

    keys = jax.random.split(jax.random.key(0), 16)
    rates = jnp.asarray([(0.01, 0.01), (0.001, 0.001), (1e-4, 0.01), (0.01, 1e-4)])
    found = np.asarray(jax.jit(jax.vmap(jax.vmap(path, (None, None, 0)), (0, 0, None)))(*rates.T, keys))
    x, y = np.moveaxis(found, 2, 0)  # runs, keys, times
    distance = np.median(np.hypot(x, y), axis=1)
    assert np.median(np.abs(x[0]), axis=0)[1:].min() > 0.1  # for ever of the size of its start
    assert distance[1, -1] < 0.03 and distance[2, -1] < 0.06
    assert distance[2, 1] < 0.06 < distance[1, 1] < distance[3, 1]
    assert distance[3, -1] > 0.1 and np.all(np.diff(np.median(np.abs(y[3]), axis=0)) < 0)
    assert np.median(np.abs(x[1:3])[..., 1:]) < 0.003


def test_decreasing_rates_on_two_time_scales_converge_in_spite_of_the_noise():
    """a = o(b), both with divergent sums and convergent sums of squares; the noise left falls like sqrt(b)."""
    update = Alternating(
        sgd(lambda step: 0.004 * (step + 1.0) ** -0.9),
        sgd(lambda step: 0.2 * (step + 1.0) ** -0.6),
    )

    def path(key):
        run = dy.simulate(TTURToy(), update, (0.5, -0.4), steps=10_000, save_every=100, key=key, classify=False)
        return jnp.stack(run.players)

    x, y = np.moveaxis(np.asarray(jax.jit(jax.vmap(path))(jax.random.split(jax.random.key(1), 48))), 1, 0)

    def size(players, step):
        return np.sqrt(np.mean(players[:, step // 100] ** 2))

    for step in (1000, 10_000):
        assert size(y, step) == pytest.approx(np.sqrt(0.2 * step**-0.6 / 4), rel=0.3)
    assert size(x, 10_000) < 1e-3 and size(y, 10_000) < 0.02


def test_adam_follows_the_heavy_ball_with_friction():
    """Coefficient 1 - a r and rate r^2 over 1 - the coefficient: exp(r m) with m^2 + a m + f'' = 0, up to r^2."""
    friction, curvature, eps = 0.6, 2.0, 1e3  # next to eps the squares of gradients do not count
    game = dy.Game.from_losses(lambda x, key=None: (curvature * x[0] ** 2 / 2,), [(0.0,)])
    roots = np.roots([1, friction, curvature])

    def error(r):
        update = Simultaneous(adam(r**2 / (friction * r) * eps, 1 - friction * r, 0.5, eps, eps_root=0.0))
        found = dy.stability(game, update).eigenvalues
        return max(np.abs(found - np.exp(r * root)).min() for root in roots)

    errors = [error(r) for r in (0.04, 0.02)]
    assert errors[0] < 0.01 and errors[0] / errors[1] == pytest.approx(4, rel=0.1)


# ---------------------------------------------------------------- solution concepts


def test_minimax_points_are_those_that_a_fast_enough_second_player_makes_stable():
    """A finite threshold iff strict local minimax; with Nash points among them (Jin et al. 2020, Fiez et al. 2020)."""
    rng = np.random.default_rng(8)
    seen = set()
    for a, b, c in zip(*zero_sum_draws(rng, 60, (-1, -0.25), (1, 1), 0.7)):
        game = Quadratic.zero_sum(a, b, c)
        kind = dy.classify(game)
        threshold = dy.timescale_threshold(game).value
        minimax = bool(
            np.linalg.eigvalsh(c).min() > 0 and np.linalg.eigvalsh(a + b @ np.linalg.solve(c, b.T)).min() > 0
        )
        nash = bool(np.linalg.eigvalsh(a).min() > 0 and np.linalg.eigvalsh(c).min() > 0)
        assert (kind.minimax == "yes") is minimax is bool(np.isfinite(threshold))
        assert (kind.nash == "yes") is nash
        assert minimax or not nash
        if nash:  # stable on every time scale
            assert threshold == 0 and kind.flow == "stable"
        seen.add((minimax, nash, str(kind.flow)))
    # For a fixed ratio neither implies the other.
    assert {(True, False, "unstable"), (True, False, "stable"), (False, False, "stable")} <= seen


def test_a_minimax_point_that_needs_a_faster_second_player():
    """f = -x^2 + 5xy - y^2: the threshold is 1, where the flow with equal rates is neutral."""
    game = PlanarQuadratic.minimax_without_nash()
    assert dy.timescale_threshold(game).value == pytest.approx(1, rel=1e-12)
    assert dy.stability(game, Flow()).verdict == "neutral"


def test_a_game_without_a_local_minimax_point():
    """f = y^2 - 2xy on the square: the best answer is a corner, worth 1 + 2|x|; the critical point is no minimax."""
    game = PlanarQuadratic.without_minimax()
    assert dy.classify(game).minimax == "no" and dy.timescale_threshold(game).value == np.inf
    x, y = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 201))
    best = np.asarray(game.losses((jnp.asarray(x), jnp.asarray(y)))[0]).max(axis=0)
    np.testing.assert_allclose(best, 1 + 2 * np.abs(x[0]), rtol=1e-14)


planar = {
    name: spectra(lambda a, b, c, h, method=method: (PlanarQuadratic(a, b, c), method(h, h)))
    for name, method in both.items()
    if name in ("simultaneous", "optimistic")
}


def test_witnesses_of_the_limit_points_of_descent_and_optimism():
    """Daskalakis and Panageas 2018: stable, and no local Nash point; xy is stable for optimism alone."""
    h = np.array([0.01, 0.1, 0.3])
    witness = [np.full(3, value) for value in (-0.25, 0.6, 1.0)]
    np.testing.assert_allclose(radius(planar["simultaneous"](*witness, h)), [0.998, 0.98, 0.94], rtol=1e-12)
    np.testing.assert_allclose(radius(planar["optimistic"](*witness, h)), [0.998004, 0.980400, 0.943587], atol=5e-7)
    kind = dy.classify(PlanarQuadratic.attracting_without_nash())
    assert kind.nash == "no" and kind.minimax == "yes" and kind.own_margins[0] == -0.25
    assert kind.leaderships[0].margin == pytest.approx(0.11, rel=1e-12)
    rotation = [np.zeros(3), np.ones(3), np.zeros(3)]
    assert np.all(radius(planar["simultaneous"](*rotation, h)) > 1)
    assert np.all(radius(planar["optimistic"](*rotation, h)) < 1)


def test_the_largest_step_of_a_planar_quadratic_game():
    game = PlanarQuadratic(0.5, 2.0, 0.3)
    report = dy.stability(game, Flow())
    assert report.largest_step == pytest.approx(0.192771, abs=5e-7)
    values = report.eigenvalues
    lemma = 1 / np.abs(values.real) * 2 / (1 + (values.imag / values.real) ** 2)
    assert report.largest_step == pytest.approx(lemma.min(), rel=1e-12)


on_quadratic = {
    name: spectra(lambda a, b, c, h, method=method: (Quadratic.zero_sum(a, b, c), method(h, h), VECTORS))
    for name, method in both.items()
}


def test_what_descent_finds_optimism_finds_too():
    """Stable for descent with a step below 1/(2 L) implies stable for optimism; not the other way round."""
    rng = np.random.default_rng(9)
    a, b, c = zero_sum_draws(rng, 2000, (-0.3, -0.3), (1, 1), 0.7)
    jacobian = field_jacobian(a, b, c)
    lipschitz = np.linalg.norm(jacobian, 2, axis=(1, 2))
    h = rng.uniform(0.01, 0.999, 2000) / (2 * lipschitz)
    plain, ahead = radius(on_quadratic["simultaneous"](a, b, c, h)), radius(on_quadratic["optimistic"](a, b, c, h))
    assert (plain < 1).sum() > 300
    assert np.all(ahead[plain < 1] < 1)
    assert np.any((ahead < 1) & (plain > 1))
    # With steps below 1/L descent is a local diffeomorphism, and so is optimism if the Hessian is regular.
    together = on_quadratic["simultaneous"](a, b, c, 2 * h)
    assert np.abs(together).min() > 0
    memory = on_quadratic["optimistic"](a, b, c, 2 * h)
    products = np.abs(np.prod(memory, axis=1))
    np.testing.assert_allclose(products, (2 * h) ** 5 * np.abs(np.linalg.det(jacobian)), rtol=1e-5, atol=1e-12)


def test_strict_nash_points_attract_all_methods_with_small_steps():
    """Also those that are Nash only weakly, as long as no eigenvalue is on the axis."""
    rng = np.random.default_rng(10)
    a, b, c = zero_sum_draws(rng, DRAWS, (0, 0), (1, 1))
    a[::2] -= np.linalg.eigvalsh(a[::2])[:, :1, None] * np.eye(2)
    values = np.linalg.eigvals(field_jacobian(a, b, c))
    h = 0.05 * (2 * -values.real / np.abs(values) ** 2).min(axis=1)
    assert np.all(h > 0)
    for name in both:
        assert np.all(radius(on_quadratic[name](a, b, c, h)) < 1), name


def test_local_symplectic_surgery_is_stable_at_strict_nash_points_only():
    rng = np.random.default_rng(11)
    a, b, c = zero_sum_draws(rng, DRAWS, (-0.4, -0.4), (1, 1))
    flow = spectra(lambda a, b, c: (Quadratic.zero_sum(a, b, c), Flow(LocalSymplecticSurgery()), VECTORS))
    found = flow(a, b, c)
    np.testing.assert_allclose(found.imag, 0, atol=1e-7)
    margin = np.minimum(np.linalg.eigvalsh(a).min(axis=1), np.linalg.eigvalsh(c).min(axis=1))
    np.testing.assert_allclose(found.real.max(axis=1), -margin, atol=1e-6)
    assert 20 < np.sum(margin > 0) < DRAWS - 20


# ---------------------------------------------------------------- competitive gradient descent


def decrease(a, b, c, x, y):
    """Of the squared norm of the gradient in one step of size 1, with the two forms of the claimed bound.

    The bound is the first plus a factor times the second.
    """
    game = Quadratic.zero_sum(a, b, c)
    before = jnp.concatenate(game.field((x, y)))
    move = CompetitiveGradient(1.0, "dense")(game, (x, y))
    after = jnp.concatenate(game.field((x + move[0], y + move[1])))

    def curve(matrix, g):
        values, vectors = jnp.linalg.eigh(matrix)
        return jnp.sum(jnp.minimum(values, 3 * values) * (vectors.T @ g) ** 2)

    def coupled(square, g):
        return g @ square @ jnp.linalg.solve(jnp.eye(len(g)) + square, g)

    g_x, g_y = before[: len(x)], before[len(x) :]
    own = curve(a, g_x) + curve(c, g_y)
    return before @ before - after @ after, own, coupled(b @ b.T, g_x) + coupled(b.T @ b, g_y), before @ before


decreases = jax.jit(jax.vmap(decrease))


def test_competitive_gradient_descent_shrinks_the_gradient():
    """Curvatures of at most 1/18 over the step, any coupling: by -g'(h(D) + 5/8 D-bar)g at least, h = min(l, 3l)."""
    rng = np.random.default_rng(12)
    a, b, c = zero_sum_draws(rng, 3000, (-1 / 18, -1 / 18), (1 / 18, 1 / 18))
    b *= 10 ** rng.uniform(-2.5, 1, (3000, 1, 1))
    x, y = rng.normal(size=(3000, 2)) * 10 ** rng.uniform(-1, 1, (3000, 1)), rng.normal(size=(3000, 3))
    found, own, coupled, size = map(np.asarray, decreases(a, b, c, x, y))
    assert np.all(found >= own + 5 / 8 * coupled - 1e-12 * size)
    assert np.any(found < own + coupled - 1e-9 * size)


def test_a_factor_of_two_thirds_is_too_much():
    """f = -x^2/36 + b x y with b -> 0 allows no more than 2 - (1+a)^2 - a (2+a)^2/(1-a), a = 1/18."""
    a, b, count = 1 / 18, 1e-3, 3000
    limit = 2 - (1 + a) ** 2 - a * (2 + a) ** 2 / (1 - a)
    assert 5 / 8 < limit < 2 / 3
    k = np.linspace(1, 4, count)  # gradient of x over b times that of y
    x = np.stack([np.full(count, 1 / b), np.zeros(count)], axis=1)
    y = np.stack([k + a / b**2, np.zeros(count), np.zeros(count)], axis=1)  # g_y = b x, g_x = -a x + b y
    own_x, coupling = np.diag([-a, 0.0]), np.zeros((2, 3))
    coupling[0, 0] = b
    matrices = [np.broadcast_to(m, (count, *m.shape)) for m in (own_x, coupling, np.zeros((3, 3)))]
    found, own, coupled, _ = map(np.asarray, decreases(*matrices, x, y))
    assert np.min((found - own) / coupled) == pytest.approx(limit, abs=1e-5)


# ---------------------------------------------------------------- consensus and Euler steps (Mescheder et al. 2017)


consensus_flow = spectra(lambda a, b, c, w: (Quadratic.zero_sum(a, b, c), Flow(Consensus(w)), VECTORS))


def test_the_bound_on_rotation_under_consensus():
    """|Im| / |Re| <= 1 / (c + rho gamma); the printed 1 / (c + 2 rho^2 gamma) is false."""
    rng = np.random.default_rng(13)
    a, b, c = zero_sum_draws(rng, 1000, (0, 0), (0.5, 0.5))
    weight = 10 ** rng.uniform(-1, 1, 1000)
    jacobian = field_jacobian(a, b, c)
    rho = np.linalg.svd(jacobian, compute_uv=False)[:, -1]
    even, odd = jacobian + np.swapaxes(jacobian, 1, 2), jacobian - np.swapaxes(jacobian, 1, 2)
    least = 1 / np.abs(np.linalg.eigvals(np.linalg.solve(even, odd))).max(axis=1)
    values = consensus_flow(a, b, c, weight)
    assert np.all(values.real < 0)
    ratio = np.abs(values.imag / values.real).max(axis=1)
    assert np.all(ratio <= (1 + 1e-9) / (least + rho * weight))
    for weight, sigma in ((1.0, 1.0), (0.3, 2.0), (4.0, 0.1)):  # c = 0, rho = sigma: the bound is sharp
        value = dy.stability(Bilinear(sigma), Flow(Consensus(weight))).eigenvalues[0]
        ratio = abs(value.imag / value.real)
        assert ratio == pytest.approx(1 / (weight * sigma), rel=1e-12)
        assert (ratio > 1 / (2 * sigma**2 * weight)) == (sigma > 1 / 2)  # false for two of these


def test_consensus_makes_a_definite_jacobian_out_of_a_semidefinite_regular_one():
    """And so every local Nash point of a zero-sum game attracts; a singular one need not become definite."""
    rng = np.random.default_rng(14)
    for a, b, c in zip(*zero_sum_draws(rng, 10, (0, 0), (1, 1), 0.5)):
        a = a - np.linalg.eigvalsh(a)[0] * np.eye(2)
        plain = dy.stability(Quadratic.zero_sum(a, b, c), Flow())
        assert abs(dy.numerical_abscissa(plain)) < 1e-12
        report = dy.stability(Quadratic.zero_sum(a, b, c), Flow(Consensus(0.4)))
        assert dy.numerical_abscissa(report) < -1e-6
        assert report.verdict == "stable" and report.largest_step > 0
    singular = dy.stability(Quadratic.zero_sum(np.zeros((2, 2)), b, np.zeros((3, 3))), Flow(Consensus(0.4)))
    assert dy.numerical_abscissa(singular) == pytest.approx(0, abs=1e-14)


def test_euler_steps_of_consensus_are_stable_up_to_the_lemmas_bound():
    """h < (1/|Re l|) 2 / (1 + (Im l / Re l)^2) for all l; small steps in turns converge too."""
    rng = np.random.default_rng(15)
    a, b, c = zero_sum_draws(rng, DRAWS, (0, 0), (1, 1))
    weight = rng.uniform(0.05, 1, DRAWS)
    values = consensus_flow(a, b, c, weight)
    bound = (2 / np.abs(values.real) / (1 + (values.imag / values.real) ** 2)).min(axis=1)

    def make(kind):
        return spectra(
            lambda a, b, c, w, h: (Quadratic.zero_sum(a, b, c), kind(sgd(h), sgd(h), direction=Consensus(w)), VECTORS)
        )

    together, in_turns = make(Simultaneous), make(Alternating)
    assert np.all(radius(together(a, b, c, weight, 0.999 * bound)) < 1)
    assert np.all(radius(together(a, b, c, weight, 1.001 * bound)) > 1)
    assert np.all(radius(in_turns(a, b, c, weight, 0.01 * bound)) < 1)
    for i in range(5):
        report = dy.stability(Quadratic.zero_sum(a[i], b[i], c[i]), Flow(Consensus(weight[i])))
        assert report.largest_step == pytest.approx(bound[i], rel=1e-9)


def test_an_eigenvalue_of_momentum_leads_back_to_one_of_the_field():
    """(l - 1)(l - b) / (h l) is an eigenvalue of the field's Jacobian; l(l + gamma) in continuous time."""
    rng = np.random.default_rng(16)
    jacobian = rng.normal(size=(5, 5))
    jacobian[:2, :2], jacobian[2:, 2:] = symmetric(rng, 2, -1, 1), symmetric(rng, 3, -1, 1)
    game = Quadratic([[-jacobian[:2, :2], -jacobian[:2, 2:]], [-jacobian[2:, :2], -jacobian[2:, 2:]]])
    h, b = 0.1, 0.6
    found = dy.stability(game, Simultaneous(momentum(h, b), momentum(h, b))).eigenvalues
    same_sets((found - 1) * (found - b) / (h * found), np.repeat(np.linalg.eigvals(jacobian), 2), 1e-6)


# ---------------------------------------------------------------- discretisation drift


def equal(h):
    return both["simultaneous"](h, h)


class Frozen(dy.updates.Update):
    """Each player's Runge-Kutta step with the others where they were, as in the published ODE-GAN demonstration."""

    step_size: jax.Array
    method: str = eqx.field(static=True)

    def init(self, game, players):
        return dy.updates.State(players, ())

    def step(self, game, state, key=None):
        count = len(state.players)
        rates = [[self.step_size * (i == player) for i in range(count)] for player in range(count)]
        moved = [RungeKutta(one, self.method).step(game, state).players for one in rates]
        return dy.updates.State(tuple(moved[i][i] for i in range(count)), ())

    @classmethod
    def example(cls, players=2):
        return cls(jnp.asarray(0.1), "rk4")


def test_runge_kutta_steps_against_a_frozen_opponent_are_euler_steps_on_a_bilinear_game():
    """Diverging like those, where the joint step keeps its distance of 1.414213 after 100 steps (test_schemes.py)."""
    frozen = Frozen(jnp.asarray(0.1), "rk4")
    np.testing.assert_allclose(dy.stability(SCALAR, frozen).jacobian, [[1, -0.1], [0.1, 1]], atol=1e-16)
    run = dy.simulate(SCALAR, frozen, (1.0, 1.0), steps=100, save_every="last", classify=False)
    assert np.hypot(*run.final) == pytest.approx(2.325861, abs=1e-6)


def test_the_modified_losses_of_a_zero_sum_game():
    """E -+ (h/4)(|E_x|^2 - |E_y|^2) simultaneous; in turns the second player's own drift changes sign in x."""

    def value(x, y):
        return jnp.sin(x["a"] @ y) + x["b"] ** 2 * y[0] + jnp.sum(y**3) / 3 + x["a"][0] ** 3

    game, h = dy.ZeroSum(value), 0.3
    rng = np.random.default_rng(17)
    point = {"a": jnp.asarray(rng.normal(size=2)), "b": jnp.asarray(0.7)}, jnp.asarray(rng.normal(size=2))

    def modified(last):
        def losses(players, key=None):
            slopes = jax.grad(value, (0, 1))(*players)
            one, two = (jnp.sum(ravel_pytree(slope)[0] ** 2) for slope in slopes)
            energy = value(*players)
            return energy + h / 4 * (one - two), -energy + h / 4 * (two + last * one)

        return dy.Game.from_losses(losses)

    flows = {-1: ModifiedFlow(equal, h), 1: AlternatingFlow(h)}

    @jax.jit
    def fields(point):
        found = {last: flow.field(game, jnp.zeros(()), flow.init(game, point)).players for last, flow in flows.items()}
        return found, {last: modified(last).field(point) for last in flows}

    found, expected = fields(point)
    for last in flows:
        np.testing.assert_allclose(ravel_pytree(found[last])[0], ravel_pytree(expected[last])[0], rtol=1e-11)


def test_inner_steps_divide_the_own_drift():
    """m steps of h/m and k steps of h/k: own coefficients h/(2m), h/(2k); the interaction is h/2 and -h/2."""
    matrix, h, (m, k) = np.array([[-0.4, 1.3], [-0.9, 0.3]]), 1e-2, (3, 2)
    update = Alternating(sgd(h / m), sgd(h / k), repeats=(m, k))
    moved = dy.stability(Quadratic(-matrix), update).jacobian
    for player, own, interaction in ((0, h / (2 * m), h / 2), (1, h / (2 * k), -h / 2)):
        other = 1 - player
        drift = (np.eye(2) + h * matrix - moved)[player] / h  # what the map lacks to h v, up to h^2
        # Against the flow of h v itself, which has h^2/2 J v.
        drift = drift + h / 2 * (matrix @ matrix)[player]
        terms = np.array([matrix[player, player] * matrix[player], matrix[player, other] * matrix[other]]).T
        np.testing.assert_allclose(np.linalg.solve(terms, drift), [own, interaction], atol=3 * h**2)


def test_the_linear_game_of_the_paper():
    """x' = -e x + y, y' = -x - e y with steps of 0.2: Euler is stable iff h (1 + e^2) < 2 e."""
    h, epsilon = 0.2, np.array([0.2, 0.09, 0.15, 0.05])

    def found(method):
        return spectra(lambda e: (PlanarQuadratic(e, -1.0, e), method))(epsilon)

    euler = radius(found(equal(h)))
    np.testing.assert_allclose(euler[:2], [0.98061, 1.00216], atol=5e-6)
    np.testing.assert_array_equal(euler < 1, h * (1 + epsilon**2) < 2 * epsilon)
    # By hand A - h/2 A^2 with A = -e +- i; the printed numbers have few digits.
    drifting = found(ModifiedFlow(equal, h))
    for values, e in zip(drifting, epsilon):
        exact = (-e + 1j) - h / 2 * (-e + 1j) ** 2
        same_sets(values, [exact, exact.conjugate()], 1e-13)
    same_sets(drifting[0], [-0.104 + 1.04j, -0.104 - 1.04j], 1e-12)
    same_sets(drifting[1], [0.00919 + 1.018j, 0.00919 - 1.018j], 5e-4)
    assert radius(found(both["alternating"](h, h)))[1] == pytest.approx(0.982, abs=1e-12)
    same_sets(found(AlternatingFlow(h))[1], [-0.09081 + 1.003992j, -0.09081 - 1.003992j], 6e-6)
    for e in epsilon:
        report = dy.stability(PlanarQuadratic(e, -1.0, e), Flow())
        assert report.largest_step == pytest.approx(2 * e / (1 + e**2), rel=1e-12)


# ---------------------------------------------------------------- spurious cycles (Hsieh, Mertikopoulos, Cevher 2021)

FORSAKEN = Forsaken()
CENTRE = np.array(FORSAKEN.equilibria()[0], float)


def bend(z):
    return z / 2 - 2 * z**3 + z**5


def bend_slope(z):
    return 1 / 2 - 6 * z**2 + 5 * z**4


def turn_by_scipy(distance):
    """Where and when the flow returns to the ray to the right of the equilibrium."""

    def right(_, z):
        return [0.45 - z[1] - bend(z[0]), z[0] - bend(z[1])]

    def crossing(t, z):
        return z[1] - CENTRE[1] if t > 0.5 else 1.0

    crossing.direction, crossing.terminal = 1, True
    options = dict(rtol=1e-8, atol=1e-9, method="DOP853")
    run = scipy.integrate.solve_ivp(right, (0, 60), [CENTRE[0] + distance, CENTRE[1]], events=crossing, **options)
    return run.y_events[0][0][0] - CENTRE[0], run.t_events[0][0]


def forsaken_run(sign, distance):
    """Along the flow or backwards, from a point of the ray: outcome, period, and the last quarter of the path."""
    game = dy.Game.from_losses(
        lambda players, key=None: tuple(sign * loss for loss in FORSAKEN.losses(players)), FORSAKEN.equilibria()
    )
    run = dy.simulate(game, Flow(), (CENTRE[0] + distance, CENTRE[1]), until=300.0, save_every=0.5)
    return run.outcome, run.period, jnp.stack(run.players)[:, 450:]


@pytest.mark.slow
def test_forsaken_has_an_unstable_cycle_within_a_stable_one():
    inner = scipy.optimize.brentq(lambda d: turn_by_scipy(d)[0] - d, 0.1, 0.15, xtol=1e-7)
    outer = scipy.optimize.brentq(lambda d: turn_by_scipy(d)[0] - d, 1.2, 1.35, xtol=1e-7)
    periods = [turn_by_scipy(d)[1] for d in (inner, outer)]
    # Forwards: from inside the inner cycle to the equilibrium, from outside it to the outer cycle.
    # Backwards both change roles: the inner cycle attracts from either side.
    signs = np.array([1.0] * 6 + [-1.0] * 2)
    starts = np.array([0.5 * inner, 0.99 * inner, 1.01 * inner, 0.5, 1.0, 1.6, 0.02, 0.3])
    outcome, period, path = map(np.asarray, jax.jit(jax.vmap(forsaken_run))(signs, starts))
    names = [dy.Outcome(int(one)).name for one in outcome]
    assert names == ["converged"] * 2 + ["cycling"] * 6
    np.testing.assert_allclose(period[2:6], periods[1], rtol=1e-3)
    np.testing.assert_allclose(period[6:], periods[0], rtol=1e-3)
    distance = np.linalg.norm(path - CENTRE[:, None], axis=1)
    forwards, backwards = distance[2:6], distance[6:]
    assert forwards.min() > 0.9 and np.all(forwards.min(axis=1) < outer) and np.all(forwards.max(axis=1) > outer)
    assert backwards.max() < 0.3 and np.all(backwards.min(axis=1) < inner) and np.all(backwards.max(axis=1) > inner)


def test_the_numbers_of_forsaken():
    """The equilibrium is at a maximum of no player's loss but stable; the Lipschitz constant on |x|, |y| <= 3/2."""
    assert CENTRE[0] == pytest.approx(0.0780266687, abs=5e-11)
    kind = dy.classify(FORSAKEN)
    assert kind.own_margins == pytest.approx((0.464, -0.374), abs=5e-4)
    assert kind.nash == "no" and kind.minimax == "no" and kind.flow == "stable"
    axis = np.linspace(-1.5, 1.5, 2001)
    slopes = bend_slope(axis)
    extremes = [slopes.min(), slopes.max()]
    x = axis[[slopes.argmin(), slopes.argmax()]]
    norms = []
    for one in x:
        for other in x:
            report = dy.stability(FORSAKEN, Flow(rates=(1.0, 1.0)), at=(one, other), require_equilibrium=False)
            np.testing.assert_allclose(report.jacobian, [[-bend_slope(one), -1], [1, -bend_slope(other)]], atol=1e-12)
            norms.append(np.linalg.norm(report.jacobian, 2))
    assert extremes[0] == pytest.approx(-1.3, abs=1e-5) and extremes[1] == 12.3125
    assert max(norms) == pytest.approx(12.40257, abs=1e-5)
    assert -1 / (2 * max(norms)) == pytest.approx(-0.0403142, abs=1e-7)


@pytest.mark.parametrize("name", ["extragradient", "optimistic"])
def test_looking_ahead_ends_on_the_spurious_cycle_too(name):
    """With small steps; there is no equilibrium on it."""
    run = dy.simulate(FORSAKEN, both[name](0.01, 0.01), (1.0, 0.5), steps=20_000, save_every=20)
    assert dy.Outcome(int(run.outcome)) is dy.Outcome.cycling
    assert float(run.period) * 0.01 == pytest.approx(7.55, rel=0.01)
    distance = np.linalg.norm(np.stack(run.players)[:, 500:] - CENTRE[:, None], axis=0)
    assert 0.9 < distance.min() < distance.max() < 2


# By name: the sign s of the averaged radius sqrt(4/3 (1 + s h / eps)).
TILTS = {"simultaneous": 1, "alternating": 0, "extragradient": -1, "optimistic": -1}


@pytest.mark.parametrize("name", TILTS)
def test_the_radius_of_the_cycle_of_the_almost_bilinear_game(name):
    """With constant steps it depends on h / eps: eps = 0.01 with h = 0.005 and 0.001."""

    def mean_radius(h, start):
        # Long enough for both: the same number of steps, the slower one starts near its end.
        run = dy.simulate(AlmostBilinear(0.01), both[name](h, h), (start, 0.0), steps=400_000, save_every=400)
        return jnp.hypot(*run.players)[-200:].mean()

    h = np.array([0.005, 0.001])
    expected = np.sqrt(4 / 3 * (1 + TILTS[name] * h / 0.01))
    found = jax.jit(jax.vmap(mean_radius))(h, jnp.asarray(expected) * jnp.asarray([1.2, 1.02]))
    np.testing.assert_allclose(found, expected, rtol=1.5e-3)


@pytest.mark.parametrize("name", ["extragradient", "optimistic"])
def test_looking_ahead_by_more_than_epsilon_ends_at_the_equilibrium(name):
    spectrum = spectra(lambda e, h: (AlmostBilinear(e), both[name](h, h)))
    e = np.geomspace(1e-3, 0.03, 5)
    assert np.all(radius(spectrum(e, 0.98 * e)) > 1) and np.all(radius(spectrum(e, 1.02 * e)) < 1)
    run = dy.simulate(AlmostBilinear(0.01), both[name](0.05, 0.05), (1.0, 0.5), steps=20_000, save_every="last")
    assert dy.Outcome(int(run.outcome)) is dy.Outcome.converged and np.hypot(*run.final) < 1e-6
