"""Discriminators trained in the space of a kernel: closed forms, the ODE, and what is known in special cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special

import dynamics as dy
from dynamics.function_space import (
    FunctionTraining,
    KernelFunction,
    kernels,
    squared_discrepancy,
    trained_discriminator,
)
from dynamics.function_space.kernel_flows import decaying_integral
from dynamics.objectives import Hinge, LeastSquares, Minimax, NonSaturating, RelativisticPaired, Wasserstein

RANDOM = np.random.default_rng(4)
REAL, FAKE = RANDOM.normal(size=(3, 2)), RANDOM.normal(size=(5, 2)) + 0.5  # unequal numbers of samples
ELSEWHERE = RANDOM.normal(size=(4, 2))
ERF = kernels.NeuralTangent(2, kernels.Erf())
BOTH = np.concatenate([REAL, FAKE])
GRAM = np.asarray(ERF.matrix(BOTH))
WEIGHTS = np.concatenate([np.full(3, 1 / 3), np.full(5, 1 / 5)])


def by_scipy(slopes, time, start=0.0):
    """Coefficients of the flow, by SciPy: slopes of the losses of real and of fake scores."""

    def field(_, coefficients):
        scores = start + GRAM @ coefficients
        return -WEIGHTS * np.concatenate([slopes[0](scores[:3]), slopes[1](scores[3:])])

    return scipy.integrate.solve_ivp(field, (0, time), np.zeros(8), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


@pytest.mark.slow
def test_wasserstein_is_the_witness_times_time():
    critic = trained_discriminator(ERF, Wasserstein(), REAL, FAKE, 1.7, start=0.3)
    witness = ERF.matrix(ELSEWHERE, REAL).mean(axis=1) - ERF.matrix(ELSEWHERE, FAKE).mean(axis=1)
    np.testing.assert_allclose(critic.at(ELSEWHERE), 0.3 + 1.7 * witness, rtol=1e-13)
    gained = critic.at(REAL).mean() - critic.at(FAKE).mean()
    np.testing.assert_allclose(gained, 1.7 * squared_discrepancy(ERF, REAL, FAKE), rtol=1e-12)
    by_ode = trained_discriminator(ERF, Wasserstein(), REAL, FAKE, 1.7, start=0.3, closed_form=False)
    np.testing.assert_allclose(by_ode.coefficients, critic.coefficients, rtol=1e-8)


@pytest.mark.slow_cases("0.2")
@pytest.mark.parametrize("time", [0.2, 3.0])
@pytest.mark.slow
def test_least_squares_three_ways(time):
    """The closed form, the same with an inverse and SciPy's exponential, and the ODE; targets without symmetry."""
    objective = LeastSquares(-0.5, 1.5, 0.2)
    critic = trained_discriminator(ERF, objective, REAL, FAKE, time, start=0.1)
    targets = np.concatenate([np.full(3, 1.5), np.full(5, -0.5)])
    moved = scipy.linalg.expm(-time * GRAM @ np.diag(WEIGHTS)) @ (0.1 - targets)
    np.testing.assert_allclose(critic.at(BOTH), targets + moved, rtol=1e-9)
    inverse = scipy.linalg.solve(GRAM, targets + moved - 0.1)
    np.testing.assert_allclose(critic.at(ELSEWHERE), 0.1 + ERF.matrix(ELSEWHERE, BOTH) @ inverse, rtol=1e-6)
    known = by_scipy((lambda s: s - 1.5, lambda s: s + 0.5), time, 0.1)
    np.testing.assert_allclose(critic.coefficients, known, rtol=1e-9, atol=1e-11)
    by_ode = trained_discriminator(ERF, objective, REAL, FAKE, time, start=0.1, closed_form=False)
    np.testing.assert_allclose(by_ode.coefficients, critic.coefficients, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_least_squares_of_a_loss_without_halves():
    """Franceschi's losses have no factor of one half: their exponent -4 t K diag(1/(2n)) is ours at twice the time."""
    fake = FAKE[:3]
    gram = np.asarray(ERF.matrix(np.concatenate([REAL, fake])))
    critic = trained_discriminator(ERF, LeastSquares(), REAL, fake, 2 * 0.7)
    targets = np.array([1.0, 1, 1, -1, -1, -1])
    expected = targets + scipy.linalg.expm(-4 * 0.7 * gram / 6) @ -targets
    np.testing.assert_allclose(critic.at(np.concatenate([REAL, fake])), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "objective, slopes",
    [
        (NonSaturating(), (lambda s: -scipy.special.expit(-s), scipy.special.expit)),
        (Hinge(), (lambda s: -1.0 * (s < 1), lambda s: 1.0 * (s > -1))),
    ],
    ids=["logistic", "hinge"],
)
def test_other_objectives_against_scipy(objective, slopes):
    critic = trained_discriminator(ERF, objective, REAL, FAKE, 0.8, start=0.2)
    np.testing.assert_allclose(critic.coefficients, by_scipy(slopes, 0.8, 0.2), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_logistic_scalar_case_by_lambert():
    """One real sample that no fake sample acts on: f' = z sigmoid(-f), f = z t + 1 - W(exp(z t + 1))."""
    kernel = kernels.EmpiricalTangent(lambda w, x: w @ x, jnp.zeros(2))  # x . y
    real, fake = np.array([[1.3, 0.0]]), np.array([[0.0, 0.9]])
    z, other, time = 1.69, 0.81, 2.5
    critic = trained_discriminator(kernel, Minimax(), real, fake, time)
    known = [rate * time + 1 - scipy.special.lambertw(np.exp(rate * time + 1)).real for rate in (z, other)]
    np.testing.assert_allclose(critic.at(np.concatenate([real, fake])), [known[0], -known[1]], rtol=1e-8)


@pytest.mark.slow_cases("wasserstein")
@pytest.mark.parametrize("objective", [Wasserstein(), LeastSquares()], ids=["wasserstein", "least squares"])
@pytest.mark.slow
def test_training_goes_on_from_where_it_was(objective):
    half = trained_discriminator(ERF, objective, REAL, FAKE, 0.6, start=0.1)
    whole = trained_discriminator(ERF, objective, REAL, FAKE, 1.5, start=0.1)
    both = trained_discriminator(ERF, objective, REAL, FAKE, 0.9, start=half)
    np.testing.assert_allclose(both.at(ELSEWHERE), whole.at(ELSEWHERE), rtol=1e-9)
    still = trained_discriminator(ERF, objective, REAL, FAKE, 0.0, start=half)
    np.testing.assert_allclose(still.at(ELSEWHERE), half.at(ELSEWHERE), rtol=1e-12)


@pytest.mark.slow
def test_scores_of_pairs():
    """An objective of differences of scores has no slope per sample; it is the gradient that counts."""
    critic = trained_discriminator(ERF, RelativisticPaired(), REAL, FAKE, 0.5)

    def field(_, coefficients):
        scores = GRAM @ coefficients
        rates = scipy.special.expit(scores[3:][None] - scores[:3, None]) / 15  # of softplus(fake - real), all pairs
        return np.concatenate([rates.sum(axis=1), -rates.sum(axis=0)])

    known = scipy.integrate.solve_ivp(field, (0, 0.5), np.zeros(8), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    np.testing.assert_allclose(critic.coefficients, known, rtol=1e-6)


@pytest.mark.slow
def test_derivatives_of_the_closed_form():
    """Also where eigenvalues are equal, and where there are zeros among them."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(5, 5)))[0]
    matrix = basis @ np.diag([0.0, 0.7, 0.7, 3.0, 40.0]) @ basis.T
    vector, change = random.normal(size=5), random.normal(size=(5, 5))
    change = change + change.T

    def integral(matrix, time):  # the exponential of a larger matrix
        large = np.block([[-matrix * time, time * np.eye(5)], [np.zeros((5, 10))]])
        return scipy.linalg.expm(large)[:5, 5:] @ vector

    value, tangent = jax.jvp(
        lambda matrix, time: decaying_integral(matrix, time, jnp.asarray(vector)), (matrix, 1.3), (change, 0.4)
    )
    np.testing.assert_allclose(value, integral(matrix, 1.3), rtol=1e-12)
    step = 1e-6
    ends = [integral(matrix + sign * step * change, 1.3 + sign * step * 0.4) for sign in (1, -1)]
    np.testing.assert_allclose(tangent, (ends[0] - ends[1]) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.slow
def test_many_points_have_the_same_gradients():
    """Large sets go point by point, by a derivative rule; every argument's derivative is that of a small set."""
    random = np.random.default_rng(1)
    points, places = random.normal(size=(150, 2)), random.normal(size=(120, 2))
    function = KernelFunction(kernels.NeuralTangent(1, kernels.Erf(), bias_scale=0.6), points, random.normal(size=150))

    def total(function, places, at):
        return jnp.sum(jnp.sin(at(function, places)))

    both = []
    for at in (lambda f, x: f.at(x), lambda f, x: jax.vmap(f)(x)):
        both.append(eqx.filter_jit(eqx.filter_grad(lambda pair, at=at: total(*pair, at)))((function, places)))
        both.append(jax.jit(jax.grad(lambda x, at=at: total(function, x, at)))(places))

        def along(x, at=at):
            return jax.jvp(jax.grad(lambda x: total(function, x, at)), (x,), (jnp.ones_like(x),))[1]

        both.append(jax.jit(along)(places))
    for one, other in zip(jax.tree.leaves(both[:3]), jax.tree.leaves(both[3:]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_single_precision_stays():
    real, fake = (jnp.asarray(points, jnp.float32) for points in (REAL, FAKE))
    for objective in (LeastSquares(), NonSaturating()):
        critic = trained_discriminator(ERF, objective, real, fake, 0.5)
        assert critic.at(real).dtype == critic.coefficients.dtype == jnp.float32
        exact = trained_discriminator(ERF, objective, REAL, FAKE, 0.5)
        np.testing.assert_allclose(critic.coefficients, exact.coefficients, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_game_of_a_training():
    """Its loss is the discriminator's and falls; its Jacobian is that of the flow of functions."""
    game = FunctionTraining(LeastSquares(), jnp.asarray(GRAM), jnp.full(8, 0.2), 3)
    (loss,) = game.losses((jnp.zeros(8),))
    np.testing.assert_allclose(loss, (0.8**2 + 1.2**2) / 2, rtol=1e-14)
    run = dy.simulate(game, dy.flows.Flow(), (np.zeros(8),), until=2.0, save_every=0.5)
    assert (np.diff(run.losses[0]) < 0).all()
    report = dy.stability(game, dy.flows.Flow(), (np.zeros(8),), require_equilibrium=False)
    expected = np.sort(-scipy.linalg.eigvals(np.diag(WEIGHTS) @ GRAM).real)
    np.testing.assert_allclose(np.sort(report.eigenvalues.real), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: trained_discriminator(jnp.tanh, Wasserstein(), REAL, FAKE), TypeError, "expected a Kernel"),
        (lambda: trained_discriminator(ERF, dy.objectives.GaussianMMD(), REAL, FAKE), TypeError, "single scores"),
        (lambda: trained_discriminator(ERF, Wasserstein(), REAL, FAKE[:, :1]), ValueError, "expected the same"),
        (lambda: trained_discriminator(ERF, Wasserstein(), REAL, FAKE, -1.0), ValueError, "time is -1"),
        (lambda: KernelFunction(ERF, REAL, jnp.zeros(2)), ValueError, "one number per point"),
        (lambda: KernelFunction(jnp.tanh, REAL, jnp.zeros(3)), TypeError, "expected a Kernel"),
        (lambda: KernelFunction(ERF, REAL, jnp.zeros(3)).at(np.zeros((2, 3))), ValueError, "expected the same"),
    ],
)
def test_what_is_wrong_is_said(make, error, words):
    with pytest.raises(error, match=words):
        make()
