"""Derivatives of eigenvalues, fastest hyper-parameters and paths of spectra, against closed forms and differences."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import EquilibriumError, find_equilibrium
from dynamics.analysis.bifurcation.path import matched
from dynamics.analysis.bifurcation.sensitivity import eigenvalue_derivatives

ROW = np.array([[1.0, 2.0, 0.5]])  # its bilinear game has a manifold of equilibria of dimension 2
SIGMA = np.sqrt(np.sum(ROW**2))


def damped(weight):
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.flows.Flow()


def plain(step):
    return dy.games.Bilinear(ROW), dy.updates.Simultaneous(optimisers.sgd(step), optimisers.sgd(step))


# Derivatives


@pytest.mark.slow_cases("0.3")
@pytest.mark.parametrize("weight", [0.3, 1.7])
def test_the_weight_of_a_penalty_in_closed_form(weight):
    r"""$\lambda = -g/2 \pm \sqrt{g^2/4 - 1/4}$."""
    found = dy.sensitivity(damped, weight)
    root = np.sqrt(complex(weight**2 - 1)) / 2
    expected = np.array([-0.5 + weight / (4 * root), -0.5 - weight / (4 * root)])
    np.testing.assert_allclose(found.eigenvalues, [-weight / 2 + root, -weight / 2 - root], atol=1e-13)
    np.testing.assert_allclose(found.derivatives[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(found.slope, expected[0].real, atol=1e-12)
    assert found.names == ("weight",) and found.parameters == (weight,) and found.kind == "flow"


def test_no_derivative_at_the_critical_damping():
    found = dy.sensitivity(damped, 1.0)
    assert np.all(np.isnan(found.derivatives)) and np.isnan(found.slope[0]) and np.all(found.conditions > 1e6)
    assert "2 eigenvalues are defective" in found.describe() and "outermost eigenvalues meet" in found.describe()
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["slope"] == [None] and data["derivatives"][0] == [[None, None]]


def test_an_equilibrium_that_moves_in_closed_form():
    """x' = p - x^3: the eigenvalue -3 p^(2/3) depends on p through the equilibrium alone."""

    def game(p):
        return dy.Game.from_losses(lambda players, key=None: (players[0] ** 4 / 4 - p * players[0],))

    p = 0.7
    expected = -2 * p ** (-1 / 3)
    known = dy.sensitivity(lambda p: (game(p), dy.flows.Flow(), (p ** (1 / 3),)), p)
    found = dy.sensitivity(lambda p: (game(p), dy.flows.Flow()), p, at=(p ** (1 / 3),))
    np.testing.assert_allclose([known.slope[0], found.slope[0]], expected, rtol=1e-12)


def moving(shift, decay):
    """Nothing stays where it is: the equilibrium, its loss and with it the memory of the average loss."""

    def losses(players, key=None):
        x, y = players
        value = (x - shift**2) * (y + shift) + 0.5 * jnp.sin(x - shift**2) * shift
        return value + (x - shift**2) ** 2 * shift + shift, y**2 * shift / 2 - value

    careful = optimisers.gap_aware_sgd(0.2, 0.1, decay=decay)
    return dy.Game.from_losses(losses), dy.updates.Alternating(optimisers.momentum(0.1, 0.3), careful)


@pytest.mark.slow
def test_moving_equilibrium_and_memory_against_differences():
    def point(numbers):
        return find_equilibrium(moving(*numbers)[0], (0.1, 0.1)).players

    def near(eigenvalues, wanted):
        return np.array([eigenvalues[np.argmin(np.abs(eigenvalues - value))] for value in wanted])

    at = np.array([0.7, 0.8])
    found = dy.sensitivity(moving, *at, at=point(at))
    assert found.derivatives.shape == (4, 2) and found.names == ("shift", "decay")
    for k in range(2):
        h = 1e-6 * np.eye(2)[k]
        ahead, back = (
            near(dy.stability(*moving(*p), at=point(p)).eigenvalues, found.eigenvalues) for p in (at + h, at - h)
        )
        np.testing.assert_allclose(found.derivatives[:, k], (ahead - back) / 2e-6, atol=1e-7)
    assert np.max(np.abs(found.derivatives[:, 0])) > 0.1


def test_a_manifold_is_left_out_of_the_slope():
    h = 0.3
    found = dy.sensitivity(plain, h)
    np.testing.assert_allclose(found.report.radius, np.sqrt(1 + (h * SIGMA) ** 2), rtol=1e-12)
    np.testing.assert_allclose(found.slope, h * SIGMA**2 / np.sqrt(1 + (h * SIGMA) ** 2), rtol=1e-12)


@pytest.mark.slow
def test_adam_at_a_vanishing_gradient():
    """With v = 0 only rate / eps counts."""

    def build(rate, eps):
        adam = optimisers.adam(rate, 0.5, 0.9, eps)
        return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.updates.Simultaneous(adam, adam)

    found = dy.sensitivity(build, 1e-3, 1e-2)
    np.testing.assert_allclose(found.slope[0] * 1e-3, -found.slope[1] * 1e-2, rtol=1e-9)

    def like(rate):  # averages of gradients and a rate of rate / eps
        average = dy.Optimiser(optax.ema, 0.5, debias=False)
        step = dy.Optimiser(optax.chain, average, optimisers.sgd(rate / 1e-2))
        return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.updates.Simultaneous(step, step)

    np.testing.assert_allclose(found.slope[0], dy.sensitivity(like, 1e-3).slope[0], rtol=1e-9)


@pytest.mark.parametrize("size", [2, 5])
def test_derivatives_of_random_matrices(size):
    rng = np.random.default_rng(size)
    matrix, slopes = rng.normal(size=(size, size)), rng.normal(size=(size, size, 2))
    values, derivatives, conditions = eigenvalue_derivatives(matrix, slopes)
    for k in range(2):
        h = 1e-6
        moved = [np.linalg.eigvals(matrix + sign * h * slopes[..., k]) for sign in (1, -1)]
        ahead, back = (np.array([m[np.argmin(np.abs(m - v))] for v in values]) for m in moved)
        np.testing.assert_allclose(derivatives[:, k], (ahead - back) / (2 * h), rtol=1e-5, atol=1e-6)
    assert np.all(conditions >= 1 - 1e-12)
    # No perturbation of norm 1 moves an eigenvalue faster than its condition number.
    rates = np.abs(derivatives) / np.linalg.norm(slopes, 2, axis=(0, 1))
    assert np.all(rates <= conditions[:, None] * (1 + 1e-9))


def test_multiple_eigenvalues():
    """Of a semi-simple one the derivatives are those of its splitting; a Jordan block has none."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    slope = rng.normal(size=(4, 4))

    def of(form):
        return mix @ form @ np.linalg.inv(mix)

    values, derivatives, _ = eigenvalue_derivatives(of(np.diag([2.0, 2.0, 2.0, -1.0])), slope[..., None])
    triple = np.abs(values - 2) < 1e-6
    moved = np.linalg.eigvals(of(np.diag([2.0, 2.0, 2.0, -1.0])) + 1e-7 * slope)
    split = np.sort_complex((moved[np.abs(moved - 2) < 1e-3] - 2) / 1e-7)
    np.testing.assert_allclose(np.sort_complex(derivatives[triple, 0]), split, atol=1e-4)
    for form in (np.diag([2.0, 2, 2, -1]) + np.eye(4, k=1), np.diag([2.0, 2, -1, -3]) + np.diag([1.0, 0, 0], k=1)):
        for matrix in (form, of(form)):
            values, derivatives, conditions = eigenvalue_derivatives(matrix, slope[..., None])
            defective = np.abs(values - 2) < 1e-3
            assert np.all(np.isnan(derivatives[defective])) and np.all(conditions[defective] > 1e6)
            assert np.all(np.isfinite(derivatives[~defective]))


# The best


@pytest.mark.slow_cases("critical damping", "two time scales", "extragradient beside a manifold")
@pytest.mark.slow_cases("optimistic")
@pytest.mark.parametrize(
    "build, bounds, expected, reach",
    [
        (
            lambda step: (
                dy.games.Bilinear(ROW),
                dy.updates.Extragradient(optimisers.sgd(step), optimisers.sgd(step), extrapolation=step),
            ),
            {"step": (0.0, 1.0)},
            {"step": 1 / (np.sqrt(2) * SIGMA)},
            np.sqrt(3) / 2,
        ),
        (
            lambda step: (dy.games.Bilinear(1.0), dy.updates.Simultaneous(*[optimisers.optimistic(step)] * 2)),
            {"step": (0.01, 1.0)},
            {"step": 0.5},
            1 / np.sqrt(2),
        ),
        (damped, {"weight": (0.0, 3.0)}, {"weight": 1.0}, np.exp(-0.5)),
        (
            lambda tau: (dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.flows.Flow(rates=(1.0, tau))),
            {"tau": (1.0, 100.0)},
            {"tau": 1 / 0.09},
            np.exp(-5 / 3),
        ),
    ],
    ids=["extragradient beside a manifold", "optimistic", "critical damping", "two time scales"],
)
def test_the_best_in_closed_form(build, bounds, expected, reach):
    found = dy.best(build, bounds, logarithmic=[name for name in bounds if name == "tau"])
    for name, value in expected.items():
        np.testing.assert_allclose(found.parameters[name], value, rtol=1e-6)
    np.testing.assert_allclose(found.radius, reach, rtol=1e-7)  # a double eigenvalue
    np.testing.assert_allclose(found.rate, np.log(reach), rtol=1e-7)
    np.testing.assert_allclose(found.report.rate, found.rate, rtol=1e-6)
    assert found.evaluations > 100 and found.describe().startswith(next(iter(bounds)))


@pytest.mark.slow
def test_the_best_heavy_ball():
    """Polyak: rate 4 / (sqrt L + sqrt m)^2 and momentum ((sqrt k - 1) / (sqrt k + 1))^2 for k = L / m."""

    def build(momentum, rate):
        game = dy.Game.from_losses(lambda z, key=None: (z[0][0] ** 2 / 2 + 9 * z[0][1] ** 2 / 2,), [(jnp.zeros(2),)])
        return game, dy.updates.Simultaneous(optimisers.momentum(rate, momentum))

    found = dy.best(build, {"rate": (0.01, 1.0), "momentum": (0.0, 0.95)})
    np.testing.assert_allclose(found.parameters["rate"], 4 / (3 + 1) ** 2, rtol=1e-6)
    np.testing.assert_allclose(found.parameters["momentum"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(found.radius, 0.5, rtol=1e-6)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["parameters"] == found.parameters


@pytest.mark.slow
def test_an_edge_is_said_to_be_one_and_seeds_repeat():
    found = dy.best(damped, {"weight": (0.0, 0.5)}, population=8, generations=20)
    assert found.parameters["weight"] == pytest.approx(0.5, abs=1e-9)
    assert "weight = 0.5 is an end of its interval" in found.describe()
    again = dy.best(damped, {"weight": (0.0, 0.5)}, population=8, generations=20)
    assert again.parameters == found.parameters and again.evaluations == found.evaluations


def kinked(step):
    def losses(players, key=None):
        x = players[0]
        return (jnp.where(x >= 0, x**2 / 2, 1.5 * x**2),)

    return dy.Game.from_losses(losses, [(0.0,)]), dy.updates.Simultaneous(optimisers.sgd(step))


@pytest.mark.slow
def test_memory_that_stays_where_it_is_put_is_left_out():
    """Of AMSGrad on x^2/2 the running maximum is kept; besides, 1 - rate / eps, and the decay of the squares."""

    def build(rate):
        game = dy.Game.from_losses(lambda z, key=None: (z[0] ** 2 / 2,), [(0.0,)])
        return game, dy.updates.Simultaneous(dy.Optimiser(optax.amsgrad, rate, b1=0.0, b2=0.1, eps=2.0))

    found = dy.sensitivity(build, 0.5)
    assert found.report.neutral == 1
    np.testing.assert_allclose([found.report.radius, found.slope[0]], [0.75, -0.5], rtol=1e-9)
    best = dy.best(build, {"rate": (0.1, 1.5)}, population=4, generations=10)
    np.testing.assert_allclose([best.parameters["rate"], best.radius, best.report.radius], [1.5, 0.25, 0.25], rtol=1e-6)


# Paths


def test_path_in_closed_form():
    path = dy.spectrum_path(damped, 0.0, 2.0, 41)
    weight = path.parameters
    root = np.sqrt(weight**2 - 1 + 0j) / 2
    expected = np.stack([-weight / 2 + root, -weight / 2 - root], axis=1)
    np.testing.assert_allclose(np.sort_complex(path.eigenvalues), np.sort_complex(expected), atol=1e-7)
    np.testing.assert_allclose(path.reach, expected.real.max(axis=1), atol=1e-7)
    assert np.max(np.abs(np.diff(path.eigenvalues, axis=0))) < 0.25  # no jump from branch to branch
    assert "least -0.5 at 1" in path.describe() and path.kind == "flow"
    assert len(json.loads(json.dumps(path.to_dict(), allow_nan=False))["eigenvalues"]) == 41


def test_eigenvalues_that_cross_keep_their_direction():
    p = np.linspace(-1, 1, 30)
    straight = np.stack([p + 0.3, -p, 2j * p + 0.1, np.exp(1j * p)], axis=1)
    rng = np.random.default_rng(0)
    shuffled = np.array([row[rng.permutation(4)] for row in straight])
    found = matched(shuffled)
    order = np.argsort(np.abs(found[0][:, None] - straight[0]), axis=0)[0]
    np.testing.assert_array_equal(found[:, order], straight)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: dy.sensitivity(damped), ValueError, "expected at least one finite number"),
        (lambda: dy.sensitivity(lambda p: p, 1.0), TypeError, r"expected \(game, method\)"),
        (lambda: dy.sensitivity(moving, 0.7, 0.8), EquilibriumError, "knows none of its equilibria"),
        (lambda: dy.best(damped, {}), ValueError, "bounds is empty"),
        (lambda: dy.best(damped, {"weight": (1.0, 0.0)}), ValueError, "interval of weight is"),
        (lambda: dy.best(damped, {"weight": (0.0, 1.0)}, logarithmic="weight"), ValueError, "needs a positive start"),
        (lambda: dy.best(damped, {"weight": (0.0, 1.0)}, logarithmic=["tau"]), ValueError, "logarithmic names 'tau'"),
        (lambda: dy.best(damped, {"weight": 1.0}), ValueError, "interval of weight is 1.0; expected two numbers"),
        (lambda: dy.best(damped, {"weight": (0.0, 1.0)}, population=0), ValueError, "population is 0"),
        (lambda: dy.best(damped, {"weight": (0.0, 1.0)}, generations=1.5), ValueError, "generations is 1.5"),
        (lambda: dy.best(kinked, {"step": (0.1, 2.0)}), ValueError, "kinked at the middle of the box, where"),
        (lambda: dy.sensitivity(kinked, 0.5), ValueError, "kinked at the point, where"),
        (lambda: dy.spectrum_path(damped, 1.0, 1.0), ValueError, "expected finite low < high"),
        (lambda: dy.spectrum_path(damped, 0.0, 1.0, 1), ValueError, "samples is 1"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
