"""Particles and generators against discriminators in the space of a kernel: identities, and spectra at equilibria."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import dynamics as dy
from dynamics.function_space import KernelGAN, RetrainedKernelGAN, kernels, squared_discrepancy, trained_discriminator
from dynamics.objectives import Hinge, LeastSquares, Minimax, NonSaturating
from dynamics.penalties import R1

RANDOM = np.random.default_rng(7)
DATA, PARTICLES = RANDOM.normal(size=(3, 2)), RANDOM.normal(size=(4, 2)) + 0.4
ERF = kernels.NeuralTangent(1, kernels.Erf(), 1.2, 0.7)
SMOOTH = kernels.NeuralTangent(1, kernels.Erf())
FLOW = dy.flows.Flow()


@pytest.mark.slow_cases("relu")
@pytest.mark.parametrize("kernel", [ERF, kernels.NeuralTangent(2)], ids=["erf", "relu"])
@pytest.mark.slow
def test_the_flow_of_the_discrepancy(kernel):
    """Against Wasserstein particles descend on t/2 MMD^2, with ReLU as well, away from its kinks."""
    time = 1.7
    game = RetrainedKernelGAN(kernel, DATA, time=time)
    (field,) = game.field((jnp.asarray(PARTICLES),))
    # Without the pairs of a particle with itself, where the kernel of ReLU has its kink.
    others = 1 - np.eye(4)

    def half(particles):
        pairs = kernel.matrix(particles, DATA)
        return time / 2 * (jnp.sum(others * kernel.matrix(particles)) / 16 - 2 * jnp.mean(pairs))

    def selves(particles):
        return time / 2 * jnp.sum(kernel.diagonal(particles)) / 16

    descent = -jax.grad(lambda particles: half(particles) + selves(particles))(jnp.asarray(PARTICLES))
    np.testing.assert_allclose(field, descent, rtol=1e-10, atol=1e-14)
    if kernel is ERF:
        whole = jax.grad(lambda particles: -time / 2 * squared_discrepancy(kernel, DATA, particles))
        np.testing.assert_allclose(field, whole(jnp.asarray(PARTICLES)), rtol=1e-10, atol=1e-14)


@pytest.mark.slow
def test_how_fast_the_discrepancy_falls():
    """d MMD^2 / dl = -2 t E |grad of the witness|^2 for the velocity of every particle, n times the field."""
    time, particles = 0.8, jnp.asarray(PARTICLES)
    game = RetrainedKernelGAN(ERF, DATA, time=time)
    velocity = 4 * game.field((particles,))[0]
    _, falls = jax.jvp(lambda x: squared_discrepancy(ERF, DATA, x), (particles,), (velocity,))

    def witness(x):
        return jnp.mean(jax.vmap(lambda y: ERF(x, y))(particles)) - jnp.mean(jax.vmap(lambda y: ERF(x, y))(DATA))

    slopes = jax.vmap(jax.grad(witness))(particles)
    np.testing.assert_allclose(falls, -2 * time * np.mean(np.sum(np.square(slopes), axis=1)), rtol=1e-10)


@pytest.mark.slow_cases("NonSat", "Hinge(")
@pytest.mark.parametrize(
    "objective", [LeastSquares(-0.5, 1.5, 0.3), NonSaturating(), Hinge()], ids=lambda o: str(o)[:6]
)
@pytest.mark.slow
def test_fields_of_other_objectives(objective):
    """The slope of what the generator pays, at a discriminator that is trained apart and held fixed."""
    game = RetrainedKernelGAN(ERF, DATA, objective, 0.9, start=0.2)
    critic = trained_discriminator(ERF, objective, DATA, PARTICLES, 0.9, start=0.2)
    (field,) = game.field((jnp.asarray(PARTICLES),))
    h = 1e-6
    for row, column in ((0, 1), (3, 0)):
        step = np.zeros((4, 2))
        step[row, column] = h
        up, down = (objective.generator(None, critic.at(PARTICLES + sign * step)) for sign in (1, -1))
        np.testing.assert_allclose(field[row, column], -(up - down) / (2 * h), rtol=1e-6, atol=1e-9)


def test_generators_are_particles_smoothed_by_their_kernel():
    def generator(parameters, latent):
        return jnp.tanh(parameters["weight"] @ latent) + parameters["shift"]

    random = np.random.default_rng(2)
    latents = random.normal(size=(5, 3))
    theta = {"weight": jnp.asarray(random.normal(size=(2, 3))), "shift": jnp.asarray([0.3, -0.2])}
    game = RetrainedKernelGAN(ERF, DATA, LeastSquares(), 0.7, generator=generator, latents=latents)
    fake = jax.vmap(lambda latent: generator(theta, latent))(jnp.asarray(latents))
    (of_particles,) = RetrainedKernelGAN(ERF, DATA, LeastSquares(), 0.7).field((fake,))
    hidden = 1 - np.tanh(latents @ np.asarray(theta["weight"]).T) ** 2  # (5, 2)
    rows = np.zeros((5, 2, 8))  # by hand: weight (2, 3), then shift (2,)
    for i in range(5):
        for out in range(2):
            rows[i, out, 3 * out : 3 * out + 3] = hidden[i, out] * latents[i]
            rows[i, out, 6 + out] = 1
    smoothed = np.einsum("iop,jqp,jq->io", rows, rows, of_particles)
    np.testing.assert_allclose(game.velocity((theta,)), smoothed, rtol=1e-10)
    np.testing.assert_allclose(game.field((theta,))[0]["shift"], np.asarray(of_particles).sum(axis=0), rtol=1e-10)
    assert game.equilibria() == ()


def mixed_derivatives(kernel, points):
    """The matrix of d/dx d/dy k(y_i, y_j), by difference quotients, shape (n d, n d)."""
    n, d = points.shape
    h, result = 1e-4, np.zeros((n, d, n, d))
    steps = h * np.eye(d)
    for a in range(d):
        for b in range(d):
            values = [
                sx * sy * np.asarray(kernel.matrix(points + sx * steps[a], points + sy * steps[b]))
                for sx in (1, -1)
                for sy in (1, -1)
            ]
            result[:, a, :, b] = sum(values) / (4 * h * h)
    return result.reshape(n * d, n * d)


def matching(eigenvalues, expected, atol):
    """Largest distance of two spectra, matched."""
    costs = np.abs(np.asarray(eigenvalues)[:, None] - np.asarray(expected))
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    assert costs[rows, columns].max() < atol, (np.sort_complex(eigenvalues), np.sort_complex(expected))


@pytest.mark.slow
def test_spectrum_of_a_wide_network_against_particles():
    """mu^2 + gamma g / n mu + g / n^2 = 0 for the eigenvalues g of the mixed derivatives, else 0."""
    gamma, n = 2.0, 3
    game = KernelGAN(SMOOTH, DATA, penalty=R1(gamma), derivatives=True)
    curvatures = np.linalg.eigvalsh(mixed_derivatives(SMOOTH, DATA))
    pairs = [np.roots([1, gamma * g / n, g / n**2]) for g in curvatures]
    expected = np.concatenate([*pairs, np.zeros(game.basis.shape[1] - len(curvatures))])
    report = dy.stability(game, FLOW)
    matching(report.eigenvalues, expected, 1e-6)
    # Whether the functions without gradient count as a manifold is a matter of rounding, and of the compiler.
    assert report.verdict == ("stable" if report.manifold_dimension == len(expected) - 12 else "marginal")
    decided = report.eigenvalues.real[np.abs(report.eigenvalues) > 1e-9]
    assert len(decided) == 12 and (decided < -1e-3).all()
    undamped = dy.stability(KernelGAN(SMOOTH, DATA, derivatives=True), FLOW)
    circling = np.concatenate([1j * np.sqrt(curvatures) / n, -1j * np.sqrt(curvatures) / n])
    matching(undamped.eigenvalues, np.concatenate([circling, np.zeros(len(expected) - len(circling))]), 1e-6)
    assert undamped.verdict == "marginal"


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective, curvature, pull",
    [(LeastSquares(), 2.0, 0.0), (LeastSquares(0.0, 1.0, 1.0), 2.0, 0.5), (NonSaturating(), 0.5, 0.5)],
    ids=["least squares", "least squares 0-1", "logistic"],
)
def test_spectra_of_other_objectives(objective, curvature, pull):
    """From the matrix of the kernel's sections and their derivatives, with a'' + b'' and h' of the objective alone.

    With phi the sections and d their derivatives at the data (orthonormal coordinates): the discriminator's block is
    -(a'' + b'') / n sum phi phi', the others are -h' / n d' and b' / n d', of opposite sign where h = -b.
    """
    game = KernelGAN(SMOOTH, DATA, objective, derivatives=True)
    n, d = DATA.shape
    values = np.asarray(SMOOTH.matrix(DATA))
    h = 1e-5
    crossed = np.stack(
        [(SMOOTH.matrix(DATA, DATA + h * e) - SMOOTH.matrix(DATA, DATA - h * e)) / (2 * h) for e in np.eye(d)], -1
    )
    crossed = np.asarray(crossed).reshape(n, n * d)
    gram = np.block([[values, crossed], [crossed.T, mixed_derivatives(SMOOTH, DATA)]])
    root = scipy.linalg.cholesky(gram + 1e-12 * np.eye(len(gram)))  # its columns: sections in orthonormal coordinates
    phi, slopes = root[:, :n], root[:, n:]
    scale = float(jax.grad(lambda s: objective.discriminator(jnp.zeros(1), s[None]))(objective.ideal_score))  # b'
    own = -curvature / n * phi @ phi.T
    jacobian = np.block([[np.zeros((n * d, n * d)), pull / n * slopes.T], [-scale / n * slopes, own]])
    # Fakes are drawn to larger scores by -h' = pull; least squares with c = f_0 does not draw at all.
    report = dy.stability(game, FLOW)
    matching(report.eigenvalues, np.linalg.eigvals(jacobian), 1e-5)


@pytest.mark.slow
def test_retrained_discriminators_at_the_data():
    """Of Wasserstein: minus the Hessian of t/2 MMD^2. Of least squares: the derivative of the closed form as well."""
    expected = -1.3 / 9 * np.linalg.eigvalsh(mixed_derivatives(SMOOTH, DATA))
    report = dy.stability(RetrainedKernelGAN(SMOOTH, DATA, time=1.3), FLOW)
    matching(report.eigenvalues, expected, 1e-6)
    assert report.verdict == "stable"
    game = RetrainedKernelGAN(SMOOTH, DATA, LeastSquares(0.0, 1.0, 1.0), 1.3)
    h, jacobian = 1e-5, np.zeros((6, 6))
    for column, step in enumerate(h * np.eye(6)):
        ends = [game.field((jnp.asarray(DATA + sign * step.reshape(3, 2)),))[0] for sign in (1, -1)]
        jacobian[:, column] = np.ravel(ends[0] - ends[1]) / (2 * h)
    matching(dy.stability(game, FLOW).eigenvalues, np.linalg.eigvals(jacobian), 1e-7)


@pytest.mark.slow
def test_the_kink_of_relu_gets_no_verdict():
    report = dy.stability(RetrainedKernelGAN(kernels.NeuralTangent(1), DATA), FLOW)
    assert report.verdict == "marginal" and "jumps" in report.notes[0]
    with pytest.raises(ValueError, match="has no derivatives at the points"):
        KernelGAN(kernels.NeuralTangent(1), DATA, derivatives=True)


@pytest.mark.slow
def test_frequencies_of_relu_grow_with_the_points():
    """On finer grids of points the critic turns particles ever faster with ReLU, and no faster with erf."""
    data, counts = np.array([-0.53, 0.71]), np.array([8, 16, 32])

    def fastest(kernel, count):
        game = KernelGAN(kernel, data, points=np.linspace(-2, 2, count))
        return np.abs(dy.stability(game, FLOW).eigenvalues.imag).max()

    # The squares are those of the smooth rest, plus the kink's share, in proportion to one over the spacing.
    squares = np.array([fastest(kernels.NeuralTangent(1), count) for count in counts]) ** 2
    slopes = np.diff(squares) / np.diff((counts - 1) / 4)
    assert squares[2] > 2 * squares[0] and slopes[0] > 0.05
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=0.05)
    exact = np.sqrt(np.linalg.eigvalsh(mixed_derivatives(SMOOTH, data[:, None]))[-1]) / 2
    np.testing.assert_allclose(fastest(kernels.NeuralTangent(1, kernels.Erf()), 16), exact, rtol=1e-3)


@pytest.mark.slow
def test_the_basis_is_orthonormal():
    for derivatives in (False, True):
        game = KernelGAN(ERF, DATA, points=PARTICLES, derivatives=derivatives)
        beta = np.linspace(-1, 1, game.basis.shape[1])
        values = np.array([game.score(jnp.asarray(beta), point) for point in PARTICLES])
        if not derivatives:  # the squared norm of f = sum alpha_i k(., p_i) is alpha' K alpha
            alpha = np.asarray(game.basis) @ beta
            np.testing.assert_allclose(alpha @ np.asarray(ERF.matrix(PARTICLES)) @ alpha, beta @ beta, rtol=1e-9)
            np.testing.assert_allclose(values, ERF.matrix(PARTICLES) @ alpha, rtol=1e-10)
    assert game.basis.shape[0] == 12


@pytest.mark.slow
def test_particles_that_stay_train_the_discriminator():
    """With all samples among the points, the projected flow is that of the wide network."""
    objective, points = LeastSquares(-0.5, 1.5, 0.2), np.concatenate([DATA, PARTICLES])
    game = KernelGAN(ERF, DATA, objective, points=points, start=0.1)
    start = (PARTICLES, np.zeros(game.basis.shape[1]))
    run = dy.simulate(game, dy.flows.Flow(rates=(0.0, 1.0)), start, until=1.5, save_every="last", classify=False)
    critic = trained_discriminator(ERF, objective, DATA, PARTICLES, 1.5, start=0.1)
    scores = [game.score(run.final[1], point) for point in DATA + 0.3]
    np.testing.assert_allclose(scores, critic.at(DATA + 0.3), rtol=1e-6)


@pytest.mark.slow
def test_two_players_by_difference_quotients():
    """Field of unequal players with a penalty, against quotients of the losses."""
    game = KernelGAN(ERF, DATA, Minimax(), R1(0.4), points=PARTICLES[:2])
    players = (jnp.asarray(PARTICLES), jnp.asarray([0.7, -0.3]))
    field, h = game.field(players), 1e-6
    losses = jax.jit(lambda players: game.losses(players))
    for column in range(2):
        step = h * np.eye(2)[column]
        up, down = (losses((players[0], players[1] + sign * step))[1] for sign in (1, -1))
        np.testing.assert_allclose(field[1][column], -(up - down) / (2 * h), rtol=1e-7)
        step = np.zeros((4, 2))
        step[2, column] = h
        up, down = (losses((players[0] + sign * step, players[1]))[0] for sign in (1, -1))
        np.testing.assert_allclose(field[0][2, column], -(up - down) / (2 * h), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("game", [KernelGAN, RetrainedKernelGAN])
def test_particles_find_the_data(game):
    made, start = game.example()
    run = dy.simulate(made, FLOW, start, until=800.0, save_every="last")
    assert dy.Outcome(int(run.outcome)).name == "converged"
    np.testing.assert_allclose(run.final[0], made.data, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("game, broken", [(KernelGAN, []), (RetrainedKernelGAN, ["field", "Jacobian"])])
def test_games_keep_the_promises(game, broken):
    """All of them; but a discriminator that is held fixed makes a field that is no gradient of the loss, on purpose."""
    made, start = game.example()
    result = dy.checks.check_game(made, players=start)
    assert [check.name for check in result.failed] == broken, result.describe()


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: RetrainedKernelGAN(jnp.tanh, DATA), TypeError, "expected a Kernel"),
        (lambda: RetrainedKernelGAN(ERF, DATA, time=-1.0), ValueError, "time is -1"),
        (lambda: RetrainedKernelGAN(ERF, DATA, 3.0), TypeError, "expected a"),
        (lambda: RetrainedKernelGAN(ERF, DATA, latents=DATA), ValueError, "belong together"),
        (lambda: RetrainedKernelGAN(ERF, DATA).losses((DATA[:, :1],)), ValueError, "expected the same"),
        (lambda: RetrainedKernelGAN(ERF, DATA).losses((DATA, DATA)), ValueError, "one player"),
        (lambda: KernelGAN(ERF, DATA, points=np.zeros((2, 3))), ValueError, "expected the same"),
        (lambda: KernelGAN(ERF, DATA, penalty=dy.penalties.LeCam(0.1, 0.9)), TypeError, "keeps values"),
        (lambda: KernelGAN(ERF, DATA).losses((DATA,)), ValueError, "two players"),
    ],
)
def test_what_is_wrong_is_said(make, error, words):
    with pytest.raises(error, match=words):
        make()
