"""Closed forms of the spectra of methods on bilinear games and on the Dirac-GAN, over random parameters.

Characteristic polynomials are compared rather than eigenvalues: they stay accurate where eigenvalues coincide. Every
property has one compiled program, in which all parameters are arguments.
"""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, example, given
from numpy.polynomial import polynomial

import dynamics as dy
from dynamics.analysis import linearise
from dynamics.updates import Alternating, Extragradient, Simultaneous

sgd = dy.optimisers.sgd


def numbers(low, high):
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


steps, singular_values, angles = numbers(0.01, 1.5), numbers(0.05, 2), numbers(0, 6.3)
momenta = numbers(-0.95, 0.95)


class Program:
    """The Jacobian of `build(*numbers)`, a game and a method, at the game's equilibrium; compiled once."""

    def __init__(self, build):
        self.traced = 0

        def jacobian(*numbers):
            self.traced += 1
            game, method = build(*numbers)
            return linearise(game, method, game.equilibria()[0]).jacobian

        self.jacobian = jax.jit(jacobian)

    def __call__(self, *numbers):
        compiled, traced = self.jacobian._cache_size(), self.traced  # caches are emptied between tests at times
        matrix = np.asarray(self.jacobian(*(jnp.asarray(number, float) for number in numbers)))
        assert self.traced == traced + (compiled == 0)
        return matrix


def radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


def assert_polynomial(matrix, *factors):
    """The characteristic polynomial is the product of the factors, coefficients from the lowest power up."""
    expected = np.ones(1)
    for factor in factors:
        expected = polynomial.polymul(expected, factor)
    found = np.poly(matrix)[::-1]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


def product(*factors):
    result = np.ones(1)
    for factor in factors:
        result = polynomial.polymul(result, factor)
    return result


def matrix_of(singular, turns):
    """A matrix with these singular values."""
    (u, v), (s, t) = turns, singular

    def rotation(angle):
        return jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])

    return rotation(u) @ jnp.diag(jnp.stack([s, t])) @ rotation(v)


def on_bilinear(method):
    """The program of `method(*numbers)` on a bilinear game of two singular values, rotated by two angles."""
    return Program(lambda s, t, u, v, *rest: (dy.games.Bilinear(matrix_of((s, t), (u, v))), method(*rest)))


bilinear = (singular_values, singular_values, angles, angles)
ONE, SHIFT = np.array([-1.0, 1.0]), np.array([0.0, 1.0])  # the polynomials (x - 1) and x


# ---------------------------------------------------------------- methods on bilinear games

simultaneous = on_bilinear(lambda h, k: Simultaneous(sgd(h), sgd(k)))
alternating = on_bilinear(lambda h, k: Alternating(sgd(h), sgd(k)))
reversed_turns = on_bilinear(lambda h, k: Alternating(sgd(h), sgd(k), order=(1, 0)))


@given(*bilinear, steps, steps)
def test_simultaneous_descent(s, t, u, v, h, k):
    matrix = simultaneous(s, t, u, v, h, k)
    assert_polynomial(matrix, *([1 + h * k * x**2, -2, 1] for x in (s, t)))
    assert radius(matrix) == pytest.approx(np.sqrt(1 + h * k * max(s, t) ** 2), rel=1e-7)


@pytest.mark.parametrize("program", [alternating, reversed_turns], ids=["first player first", "second player first"])
@given(*bilinear, steps, steps)
@example(1.0, 0.5, 0.3, 0.2, 1.9, 1.9)
@example(1.0, 0.5, 0.3, 0.2, 2.1, 2.1)
def test_alternating_descent(program, s, t, u, v, h, k):
    matrix = program(s, t, u, v, h, k)
    assert_polynomial(matrix, *([1, h * k * x**2 - 2, 1] for x in (s, t)))
    strength = h * k * max(s, t) ** 2
    assume(abs(strength - 4) > 1e-3 and abs(s - t) > 1e-3)
    values = np.linalg.eigvals(matrix)
    if strength < 4:  # all on the unit circle
        np.testing.assert_allclose(np.abs(values), 1, atol=1e-9)
        turns = [2 * np.arcsin(np.sqrt(h * k) * x / 2) for x in (s, s, t, t)]
        np.testing.assert_allclose(np.sort(np.abs(np.angle(values))), np.sort(turns), atol=1e-8)
    else:
        assert np.abs(values).max() > 1 + 1e-3


@given(*bilinear, steps)
def test_alternating_descent_keeps_a_quadratic_form(s, t, u, v, h):
    step = alternating(s, t, u, v, h, h)
    coupling = h * np.asarray(matrix_of((s, t), (u, v)))
    form = np.block([[np.eye(2), -coupling / 2], [-coupling.T / 2, np.eye(2)]])
    np.testing.assert_allclose(step.T @ form @ step, form, atol=1e-10 * (1 + h**2) ** 2 * 10)


extragradient = on_bilinear(lambda h, k, p, q: Extragradient(sgd(h), sgd(k), extrapolation=(p, q)))
extragradient_turns = on_bilinear(lambda h, k, p, q: Extragradient(sgd(h), sgd(k), extrapolation=(p, q), order=(0, 1)))


@given(*bilinear, steps, steps, steps, steps)
def test_extragradient(s, t, u, v, h, k, p, q):
    def own(x):
        return (1 - k * p * x**2) * (1 - h * q * x**2)

    sums = {x: (k * p + h * q) * x**2 for x in (s, t)}
    together = [[own(x) + h * k * x**2, sums[x] - 2, 1] for x in (s, t)]
    assert_polynomial(extragradient(s, t, u, v, h, k, p, q), *together)
    in_turns = [[own(x), sums[x] + h * k * x**2 - 2, 1] for x in (s, t)]
    assert_polynomial(extragradient_turns(s, t, u, v, h, k, p, q), *in_turns)


@given(steps, steps)
def test_extragradient_with_two_step_sizes_is_stable_iff(eta, gamma):
    margin = 2 * gamma - eta * (1 + gamma**2)
    assume(abs(margin) > 1e-6)
    matrix = extragradient(1.0, 1.0, 0.4, 0.2, eta, eta, gamma, gamma)
    assert (radius(matrix) < 1) == (margin > 0)


def optimism(h, b):
    return dy.Optimiser(optax.optimistic_gradient_descent, h, alpha=1.0, beta=b)


optimistic = on_bilinear(lambda h, k, b, c: Simultaneous(optimism(h, b), optimism(k, c)))
optimistic_turns = on_bilinear(lambda h, k, b, c: Alternating(optimism(h, b), optimism(k, c)))


@given(*bilinear, steps, steps, numbers(-1.5, 1.5), numbers(-1.5, 1.5))
@example(1.0, 0.5, 0.1, 0.2, 0.3, 0.3, 1.0, 1.0)
def test_optimistic_descent(s, t, u, v, h, k, b, c):
    # x+ = x - (1 + b) h g + b h g', with g' the gradient before; Zhang and Yu, 2020.
    past = product([-h * b, h * (1 + b)], [-k * c, k * (1 + c)])
    still = product(SHIFT, SHIFT, ONE, ONE)
    together = [polynomial.polyadd(still, x**2 * past) for x in (s, t)]
    assert_polynomial(optimistic(s, t, u, v, h, k, b, c), *together)
    in_turns = [polynomial.polyadd(still, x**2 * product(SHIFT, past)) for x in (s, t)]
    assert_polynomial(optimistic_turns(s, t, u, v, h, k, b, c), *in_turns)


@given(steps)
def test_optimistic_radius(h):
    assume(abs(h - 0.5) > 1e-3)
    inside = np.sqrt((1 + np.sqrt(1 - 4 * h**2)) / 2) if h <= 0.5 else None
    expected = inside if h <= 0.5 else np.sqrt(1 / 4 + (h + np.sqrt(4 * h**2 - 1) / 2) ** 2)
    matrix = optimistic(1.0, 1.0, 0.3, 0.7, h, h, 1.0, 1.0)
    assert radius(matrix) == pytest.approx(expected, abs=1e-6)


def heavy_ball(h, b):
    return dy.optimisers.momentum(h, b)


momentum_together = on_bilinear(lambda h, k, b, c: Simultaneous(heavy_ball(h, b), heavy_ball(k, c)))
momentum_in_turns = on_bilinear(lambda h, k, b, c: Alternating(heavy_ball(h, b), heavy_ball(k, c)))


@given(*bilinear, steps, steps, momenta, momenta)
def test_heavy_ball(s, t, u, v, h, k, b, c):
    still = product(ONE, ONE, [-b, 1], [-c, 1])
    together = [polynomial.polyadd(still, h * k * x**2 * product(SHIFT, SHIFT)) for x in (s, t)]
    matrix = momentum_together(s, t, u, v, h, k, b, c)
    assert_polynomial(matrix, *together)
    assert radius(matrix) > 1 - 1e-6  # never stable, whatever the momenta
    in_turns = [polynomial.polyadd(still, h * k * x**2 * product(SHIFT, SHIFT, SHIFT)) for x in (s, t)]
    assert_polynomial(momentum_in_turns(s, t, u, v, h, k, b, c), *in_turns)


@given(numbers(0.05, 2.5), numbers(-0.95, -0.05), st.booleans())
def test_alternating_negative_momentum_is_stable_iff(h, b, both):
    limit = 2 * (1 + b) if both else 2 * np.sqrt(1 + b)
    assume(abs(h - limit) > 1e-3)
    matrix = momentum_in_turns(1.0, 1.0, 0.1, 0.3, h, h, b, b if both else 0.0)
    assert (radius(matrix) < 1) == (h < limit)


@pytest.mark.slow
def test_thresholds_of_turns():
    def threshold(make, low, high):
        return dy.critical(lambda h: (dy.games.Bilinear(1.0), make(h)), low, high).value

    optimistic = dy.optimisers.optimistic
    assert threshold(lambda h: Alternating(optimistic(h), optimistic(h)), 0.2, 1.1) == pytest.approx(2 / 3, abs=1e-9)
    together = threshold(lambda h: Simultaneous(optimistic(h), optimistic(h)), 0.2, 1.1)
    assert together == pytest.approx(1 / np.sqrt(3), abs=1e-9)
    in_turns = threshold(lambda h: Extragradient(sgd(h), sgd(h), extrapolation=h, order=(0, 1)), 0.3, 1.6)
    assert in_turns == pytest.approx(1, abs=1e-9)


Consensus, Adjustment = dy.directions.Consensus, dy.directions.SymplecticAdjustment
adjusted = {
    "consensus": Consensus,
    "adjustment": lambda w: Adjustment(w, align=False),
    "aligned adjustment": Adjustment,
}
flows = {name: on_bilinear(lambda w, f=f: dy.flows.Flow(f(w))) for name, f in adjusted.items()}
maps = {
    name: on_bilinear(lambda h, w, f=f: Simultaneous(sgd(h), sgd(h), direction=f(w))) for name, f in adjusted.items()
}


@pytest.mark.parametrize("name", adjusted)
@given(*bilinear, numbers(0.01, 1.9), numbers(0.05, 3))
def test_consensus_and_symplectic_adjustment(name, s, t, u, v, h, weight):
    # Eigenvalues of the flow -weight x^2 +- i x.
    flow = flows[name](s, t, u, v, weight)
    assert_polynomial(flow, *([x**2 + weight**2 * x**4, 2 * weight * x**2, 1] for x in (s, t)))
    step = maps[name](s, t, u, v, h, weight)
    np.testing.assert_allclose(step, np.eye(4) + h * flow, atol=1e-13)
    limit = min(2 * weight / (1 + weight**2 * x**2) for x in (s, t))
    assume(abs(h - limit) > 1e-6)
    assert (radius(step) < 1) == (h < limit)


@pytest.mark.slow
@given(*bilinear, steps, numbers(-1, 1))
def test_manifold_of_equilibria_of_a_wide_matrix(s, t, u, v, h, extra):
    matrix = np.hstack([np.asarray(matrix_of((s, t), (u, v))), np.full((2, 1), extra)])
    game = dy.games.Bilinear(matrix)
    report = dy.stability(game, Simultaneous(sgd(h), sgd(h), direction=Consensus(1.0)))
    assert report.manifold_dimension == 1
    assert np.sum(np.abs(report.eigenvalues - 1) < 1e-12) == 1
    singular = np.linalg.svd(matrix, compute_uv=False)
    expected = np.abs(1 - h * singular**2 + 1j * h * singular)
    assert report.radius == pytest.approx(expected.max(), abs=1e-9)
    assume(abs(expected.max() - 1) > 1e-6)
    assert report.verdict == ("stable" if expected.max() < 1 else "unstable")


@pytest.mark.parametrize("shape, dimension", [((1, 3), 2), ((4, 2), 2), ((3, 3), 0)])
def test_manifold_dimension(shape, dimension):
    game = dy.games.Bilinear(np.random.default_rng(0).standard_normal(shape))
    report = dy.stability(game, Alternating(sgd(0.1), sgd(0.2)))
    assert report.manifold_dimension == dimension
    assert report.radius == pytest.approx(1, abs=1e-9) and report.verdict == "neutral"


def test_hundred_steps():
    game, start = dy.games.Bilinear(1.0), (1.0, 1.0)

    def end(update):
        return np.array(dy.simulate(game, update, start, steps=100, save_every="last", classify=False).final)

    both = sgd(0.1), sgd(0.1)
    optimistic = dy.optimisers.optimistic(0.1)
    assert np.hypot(*end(Simultaneous(*both))) == pytest.approx(2.3258606, abs=1e-7)
    np.testing.assert_allclose(end(Alternating(*both)), [-0.31600291, -1.35758694], atol=1e-8)
    assert np.hypot(*end(Extragradient(*both, extrapolation=0.1))) == pytest.approx(0.8599397, abs=1e-7)
    assert np.hypot(*end(Simultaneous(optimistic, optimistic))) == pytest.approx(0.8599853, abs=1e-7)


# ---------------------------------------------------------------- Dirac-GAN

weights = numbers(0, 3)


def scores(name, a, c):
    if name == "LeastSquares":
        return dy.objectives.LeastSquares(a, 1.0, c)
    return getattr(dy.objectives, name)()


# At score 0: minus the product of the two cross derivatives, and the second derivative of the discriminator's loss.
CROSS = {"Minimax": 1 / 4, "NonSaturating": 1 / 4, "Wasserstein": 1.0, "Hinge": 1.0}
CURVATURE = {"Minimax": 1 / 4, "NonSaturating": 1 / 4, "Wasserstein": 0.0, "LeastSquares": 1.0}
OBJECTIVES = [*CROSS, "LeastSquares"]


def cross(name, a, c):
    return CROSS.get(name, -a * c)


def dirac(name, penalty):
    return Program(lambda w, a, c: (dy.games.DiracGAN(scores(name, a, c), penalty(w)), dy.flows.Flow()))


penalised = {
    (name, penalty): dirac(name, getattr(dy.penalties, penalty)) for name in OBJECTIVES for penalty in ("R1", "R2")
}


@pytest.mark.parametrize("name, penalty", penalised)
@given(weights, numbers(-2, 2), numbers(-2, 2))
@example(1.0, -1.0, 1.0)
@pytest.mark.slow_cases("Wasserstein-R2")
def test_dirac_gan_with_a_gradient_penalty(name, penalty, weight, a, c):
    matrix = penalised[name, penalty](weight, a, c)
    assert_polynomial(matrix, [cross(name, a, c), weight, 1])


noisy = {
    name: Program(lambda s, a, c, name=name: (dy.games.DiracGAN(scores(name, a, c), noise=s), dy.flows.Flow()))
    for name in CURVATURE
}


@pytest.mark.parametrize("name", CURVATURE)
@given(numbers(0, 1.5), numbers(-2, 2), numbers(-2, 2))
def test_dirac_gan_with_instance_noise(name, noise, a, c):
    # Real and fake samples each contribute their curvature times the variance.
    expected = [cross(name, a, c), 2 * CURVATURE[name] * noise**2, 1]
    assert_polynomial(noisy[name](noise, a, c), expected)


gradient_norm = {
    "Dirac": Program(
        lambda w, s: (
            dy.games.DiracGAN(dy.objectives.Minimax(), dy.penalties.DiscriminatorGradientNorm(w)),
            dy.flows.Flow(),
        )
    ),
    "covariance": Program(
        lambda w, s: (dy.games.Covariance(s**2, penalty=dy.penalties.DiscriminatorGradientNorm(w)), dy.flows.Flow())
    ),
}


@given(weights, numbers(0.3, 2))
def test_penalty_on_the_norm_of_the_discriminators_gradient(weight, std):
    assert_polynomial(gradient_norm["Dirac"](weight, std), [1 / 4, weight / 2, 1])
    # Linear generator, quadratic discriminator: -4 w s^2 +- sqrt(16 w^2 s^4 - 4 s^2).
    assert_polynomial(gradient_norm["covariance"](weight, std), [4 * std**2, 8 * weight * std**2, 1])


def regularised(weight):
    return dy.games.DiracGAN(dy.objectives.Minimax(), dy.penalties.R1(weight))


def unregularised(name):
    return dy.games.DiracGAN(getattr(dy.objectives, name)())


consensus = {name: Program(lambda w, name=name: (unregularised(name), dy.flows.Flow(Consensus(w)))) for name in CROSS}


@pytest.mark.parametrize("name", CROSS)
@given(weights)
def test_dirac_gan_under_consensus(name, weight):
    square = CROSS[name]  # f'(0)^2; eigenvalues -weight f'(0)^2 +- i f'(0)
    assert_polynomial(consensus[name](weight), [square + (weight * square) ** 2, 2 * weight * square, 1])


REPEATS = [(1, 1), (1, 5), (3, 2)]
in_turns = {
    repeats: Program(lambda h, k, w, r=repeats: (regularised(w), Alternating(sgd(h), sgd(k), repeats=r)))
    for repeats in REPEATS
}
at_once = Program(lambda h, k, w: (regularised(w), Simultaneous(sgd(h), sgd(k))))


@given(steps, steps, weights)
def test_dirac_gan_simultaneous(h, k, weight):
    np.testing.assert_allclose(at_once(h, k, weight), [[1, -h / 2], [k / 2, 1 - k * weight]], atol=1e-14)


@pytest.mark.parametrize("repeats", REPEATS)
@given(steps, steps, weights)
def test_dirac_gan_alternating(repeats, h, k, weight):
    turns, inner = repeats
    generator = np.array([[1, -turns * h / 2], [0, 1]])
    discriminator = np.linalg.matrix_power(np.array([[1, 0], [k / 2, 1 - k * weight]]), inner)
    matrix = in_turns[repeats](h, k, weight)
    np.testing.assert_allclose(matrix, discriminator @ generator, rtol=1e-11, atol=1e-12)
    bare = in_turns[repeats](h, k, 0.0)
    strength = turns * inner * h * k / 4  # the square of sqrt(n_g n_d h k) f'(0)
    assert_polynomial(bare, [1, strength - 2, 1])
    assume(abs(strength - 4) > 1e-3)
    assert (radius(bare) < 1 + 1e-6) == (strength < 4)


@pytest.mark.slow_cases("0.85")
@pytest.mark.slow_cases("0.3")
@pytest.mark.parametrize("weight", [0.3, 0.85, 1.7])
@pytest.mark.slow
def test_critical_step_of_the_regularised_dirac_gan(weight):
    def step(make):
        return dy.critical(lambda h: (regularised(weight), make(sgd(h), sgd(h))), 0.05, 6.0)

    together = 4 * weight if weight <= 1 else 2 / (weight / 2 + np.sqrt(weight**2 / 4 - 1 / 4))
    found = step(Simultaneous)
    assert found.value == pytest.approx(together, abs=1e-9)
    assert found.kind == ("Neimark-Sacker" if weight < 1 else "flip")
    in_turns = 4 * (np.sqrt(weight**2 + 1) - weight)
    assert step(Alternating).value == pytest.approx(in_turns, abs=1e-9)


@given(weights, numbers(0.2, 20))
def test_dirac_gan_on_two_timescales(weight, tau):
    report = dy.stability(regularised(weight), dy.flows.Flow(rates=(1.0, tau)))
    assert_polynomial(report.jacobian, [tau / 4, tau * weight, 1])
    assume(weight > 1e-3)
    assert report.verdict == "stable"


# ---------------------------------------------------------------- the largest Euler step

planar = Program(lambda a, b, c, d, h: (dy.games.Quadratic([[-a, -b], [-c, -d]]), Simultaneous(sgd(h), sgd(h))))


@given(numbers(-2, 0), numbers(-3, 3), numbers(-3, 3), numbers(-2, 0))
@example(-0.5, -2.0, 2.0, -0.3)
def test_largest_euler_step(a, b, c, d):
    matrix = np.array([[a, b], [c, d]])
    values = np.linalg.eigvals(matrix)
    assume(values.real.max() < -0.05)
    expected = (2 * np.abs(values.real) / np.abs(values) ** 2).min()
    lemma = (2 / np.abs(values.real) / (1 + (values.imag / values.real) ** 2)).min()
    assert lemma == pytest.approx(expected, rel=1e-9)
    report = dy.stability(dy.games.Quadratic(-matrix), dy.flows.Flow())
    assert report.largest_step == pytest.approx(expected, rel=1e-6)
    assert radius(planar(a, b, c, d, 0.999 * expected)) < 1 < radius(planar(a, b, c, d, 1.001 * expected))
