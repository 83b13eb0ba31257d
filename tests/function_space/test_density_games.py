"""GANs of densities against NumPy, the operators of theory, and what Goodfellow 2014 and Metz 2016 say of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import dynamics as dy
from dynamics.analysis import Leading
from dynamics.compiler.derivatives import released
from dynamics.directions import Natural
from dynamics.flows import Flow
from dynamics.function_space import DensityGAN, FisherRao, Graph, NestedDensityGAN, Transport, Weighted

POINTS = np.linspace(-1.5, 1.0, 6)
DATA = np.array([0.1, 0.3, 0.05, 0.15, 0.25, 0.15])
LOGITS = np.array([0.4, -0.3, 0.2, 0.9, -1.1, 0.0])
SCORES = np.array([0.3, -0.8, 1.2, 0.1, -0.4, 0.5])


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def difference_matrix(points):
    """From values to slopes on the edges of a line."""
    return (np.eye(len(points))[1:] - np.eye(len(points))[:-1]) / (points[1] - points[0])


def dirichlet(points, masses):
    """The matrix K of the quadratic form sum_e m_e slope^2."""
    slopes = difference_matrix(points)
    return slopes.T @ np.diag((masses[1:] + masses[:-1]) / 2) @ slopes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_and_field_by_hand(dtype):
    gammas = 0.4, 0.7
    game = DensityGAN.on_line(3 * DATA, POINTS, dy.objectives.NonSaturating(), r1=gammas[0], r2=gammas[1])
    players = tuple(jnp.asarray(player, dtype) for player in (LOGITS, SCORES))
    q, tolerance = softmax(LOGITS), 2e-6 if dtype == np.float32 else 1e-13
    slopes = difference_matrix(POINTS) @ SCORES
    on_edges = [(m[1:] + m[:-1]) / 2 for m in (DATA, q)]
    generator = q @ np.log1p(np.exp(-SCORES))
    discriminator = DATA @ np.log1p(np.exp(-SCORES)) + q @ np.log1p(np.exp(SCORES))
    discriminator += sum(gamma / 2 * m @ slopes**2 for gamma, m in zip(gammas, on_edges))
    losses = game.losses(players)
    np.testing.assert_allclose(losses, [generator, discriminator], rtol=tolerance)
    assert all(loss.dtype == dtype for loss in losses)
    paid = np.log1p(np.exp(-SCORES))
    field = game.field(players)
    np.testing.assert_allclose(field[0], -q * (paid - q @ paid), rtol=10 * tolerance, atol=tolerance)
    stiff = gammas[0] * dirichlet(POINTS, DATA) + gammas[1] * dirichlet(POINTS, q)
    expected = DATA * sigmoid(-SCORES) - q * sigmoid(SCORES) - stiff @ SCORES
    np.testing.assert_allclose(field[1], expected, rtol=10 * tolerance, atol=tolerance)


def test_fisher_rao_is_the_replicator_equation_and_its_steps_are_multiplicative_weights():
    game = DensityGAN(DATA, dy.objectives.LeastSquares(0.0, 1.0, 1.0))
    paid = (SCORES - 1) ** 2 / 2
    update = dy.updates.Simultaneous(optax.sgd(0.3), optax.sgd(0.1), direction=Natural(FisherRao(), Weighted(DATA)))
    players = jnp.asarray(LOGITS), jnp.asarray(SCORES)
    after = update.step(game, update.init(game, players)).players
    weights = softmax(LOGITS) * np.exp(-0.3 * paid)
    np.testing.assert_allclose(game.probabilities(after), weights / weights.sum(), rtol=1e-13)
    np.testing.assert_allclose(after[1] - SCORES, 0.1 * np.asarray(game.field(players)[1]) / DATA, rtol=1e-12)


def mass_velocity(geometry, logits, slope):
    """How probabilities move for this slope of the loss in them."""
    q = softmax(logits)
    velocity = geometry(jnp.asarray(logits), jnp.asarray(-q * (slope - q @ slope)))
    return q * (np.asarray(velocity) - q @ np.asarray(velocity)), q @ np.asarray(velocity)


@pytest.mark.slow_cases("True")
@pytest.mark.parametrize("plane", [False, True])
def test_transport_moves_mass_along_edges(plane):
    rng = np.random.default_rng(3)
    base, slope = rng.uniform(0.2, 1, 6), rng.normal(size=6)
    if plane:
        graph = Graph.plane([0.0, 0.5, 1.0], [0.0, 0.25])
        edges = {(2 * i + j, 2 * (i + 1) + j): 0.5 for i in range(2) for j in range(2)}
        edges |= {(2 * i, 2 * i + 1): 0.25 for i in range(3)}
    else:
        graph = Graph.line(POINTS)
        edges = {(i, i + 1): 0.5 for i in range(5)}
    q, expected = softmax(LOGITS), np.zeros(6)
    density = q / base
    for (i, j), length in edges.items():
        mean = (density[i] - density[j]) / np.log(density[i] / density[j])
        flow = (base[i] + base[j]) / 2 / length**2 * mean * (slope[i] - slope[j])
        expected[[i, j]] += [-flow, flow]
    velocity, drift = mass_velocity(Transport(graph, base), LOGITS, slope)
    np.testing.assert_allclose(velocity, expected, rtol=1e-12, atol=1e-13)
    assert abs(drift) < 1e-13  # no mass is made
    # Where q is the base measure the logarithmic mean is a quotient of two zeros.
    velocity, _ = mass_velocity(Transport(graph, base), np.log(base), slope)
    np.testing.assert_allclose(
        velocity, mass_velocity(Transport(graph, base), np.log(base) + 1e-9 * slope, slope)[0], atol=1e-7
    )


@pytest.mark.slow
def test_kl_flows_as_a_markov_chain_under_transport():
    """The non-saturating KL game goes downhill on KL(q || p) (FACTS 10.3): Maas 2011, theorem 4.7, at any time."""
    game = DensityGAN.on_line(DATA, POINTS, dy.objectives.KL(saturating=False))
    flow = Flow(Natural(Transport(game.graph, game.data)))
    run = dy.simulate(NestedDensityGAN(game), flow, (jnp.asarray(LOGITS),), until=0.2, save_every=0.1, classify=False)
    chain = -dirichlet(POINTS, DATA) @ np.diag(1 / DATA)
    for time, logits in zip((0.0, 0.1, 0.2), run.players[0], strict=True):
        expected = scipy.linalg.expm(time * chain) @ softmax(LOGITS)
        np.testing.assert_allclose(softmax(np.asarray(logits)), expected, rtol=1e-6)


SMOOTH = {
    "minimax": dy.objectives.Minimax(),
    "non-saturating": dy.objectives.NonSaturating(),
    "least squares, 0-1": dy.objectives.LeastSquares(0.0, 1.0, 1.0),
    "KL": dy.objectives.KL(),
    "reverse KL": dy.objectives.ReverseKL(),
    "Pearson, non-saturating": dy.objectives.Pearson(saturating=False),
    "Hellinger": dy.objectives.SquaredHellinger(),
    "exponential": dy.objectives.Exponential(),
    "alpha": dy.objectives.AlphaLoss(0.5, 1.5),
}
DRIVERS = {name: NestedDensityGAN(DensityGAN(DATA, objective)) for name, objective in SMOOTH.items()}


@pytest.mark.slow
def test_the_nested_field_is_the_gradient_of_the_descended_divergence():
    @jax.jit
    def both(logits):
        found = {name: game.field((logits,))[0] for name, game in DRIVERS.items()}
        slope = jax.grad(lambda logits, game: game.game.descended_divergence((logits,)))
        return found, {name: -slope(logits, game) for name, game in DRIVERS.items()}

    found, expected = both(jnp.asarray(LOGITS))
    for name in SMOOTH:
        assert np.max(np.abs(found[name])) > 1e-3, name
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-12, err_msg=name)


@functools.cache
def slopes_of_divergences():
    """How fast each f-divergence changes along the flow of each nested game, in three geometries."""
    graph = Graph.line(POINTS)

    def rates(data, logits):
        games = {name: NestedDensityGAN(DensityGAN(data, objective)) for name, objective in SMOOTH.items()}
        gradients = jnp.stack([jax.grad(game.game.divergence)((logits,))[0] for game in games.values()])
        gaps = jnp.stack([game.game.divergence((logits,)) for game in games.values()])
        fields = [game.field((logits,))[0] for game in games.values()]
        geometries = [FisherRao(), Transport(graph), lambda parameters, v: v]
        directions = jnp.stack([jnp.stack([g(logits, v) for v in fields]) for g in geometries])
        return jnp.einsum("di,gfi->gfd", gradients, directions), gaps

    return jax.jit(rates)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12))
def test_every_f_divergence_falls_in_every_game_along_fisher_rao_and_transport(numbers):
    data, logits = softmax(np.array(numbers[:6])), np.array(numbers[6:])
    rates, gaps = map(np.asarray, slopes_of_divergences()(data, logits))
    assert np.all(gaps > -1e-12)
    scale = np.max(np.abs(rates), axis=(1, 2), keepdims=True)
    assert np.all(rates[:2] <= 1e-9 * scale[:2] + 1e-13)


@pytest.mark.slow
def test_with_a_negative_weight_all_divergences_may_rise():
    """Least squares with targets -1, 1, 0: fakes that score too well are sent back."""
    game = NestedDensityGAN(DensityGAN(np.ones(6), dy.objectives.LeastSquares()))
    logits = jnp.asarray([0.0, 0, 0, 0, 0, -1])
    uphill = FisherRao()(logits, game.field((logits,))[0])
    for objective in (dy.objectives.LeastSquares(), dy.objectives.Minimax(), dy.objectives.KL()):
        watched = DensityGAN(np.ones(6), objective)
        assert jax.grad(watched.divergence)((logits,))[0] @ uphill > 1e-3


@pytest.mark.slow
def test_along_the_plain_gradient_a_divergence_may_rise():
    """In logits only the descended divergence falls: the non-saturating game can raise Jensen-Shannon's.

    Most of the model's mass is on one point that has too much of it, the rest on points that have far too much or far
    too little: in masses squared, as the plain gradient counts, the first one decides.
    """
    options = {"save_every": 10, "classify": False}
    model = np.array([0.68] + [0.046] * 5 + [0.018] * 5)
    data = model * np.array([0.08] + [1e-4] * 5 + [10.9] * 5)
    data, logits = data / data.sum(), jnp.log(model / model.sum())
    game = NestedDensityGAN(DensityGAN(data, dy.objectives.NonSaturating()))
    flow, natural = (
        dy.simulate(
            game, dy.updates.Simultaneous(optax.sgd(step), direction=direction), (logits,), steps=3_000, **options
        )
        for step, direction in ((0.1, Natural()), (0.01, Natural(FisherRao())))
    )
    measures = jax.jit(
        jax.vmap(lambda players: (game.game.divergence(players), game.game.descended_divergence(players)))
    )
    (js, descended), (along_natural, _) = measures(flow.players), measures(natural.players)
    assert js[1] > js[0] + 0.01 and np.all(np.diff(descended) < 0)
    assert js[-1] < 0.2 * js[0] and np.all(np.diff(along_natural) < 0) and along_natural[-1] < 1e-6


@jax.jit
def jacobian_of(game, direction, point):
    return jax.jacobian(lambda z: jnp.concatenate(direction(game, (z[:6], z[6:]))))(jnp.concatenate(point))


def roots(first, second):
    """Of x^2 + first x + second."""
    discriminant = np.sqrt(np.asarray(first**2 / 4 - second, complex))
    return np.hstack([-first / 2 + discriminant, -first / 2 - discriminant])


# kappa = a'' + b'' and h' b' at the ideal score, by hand.
CONSTANTS = {
    "non-saturating": (dy.objectives.NonSaturating(), 0.5, -0.25),
    "minimax": (dy.objectives.Minimax(), 0.5, -0.25),
    "KL": (dy.objectives.KL(), 1.0, -1.0),
    "hinge": (dy.objectives.Hinge(), 0.0, -1.0),
    "Wasserstein": (dy.objectives.Wasserstein(), 0.0, -1.0),
}


@pytest.mark.slow_cases("KL-0.0", "minimax-0.0", "hinge-0.6", "Wasserstein-0.6", "non-saturating-0.6")
@pytest.mark.parametrize(
    "name, gamma", [("non-saturating", 0.6), ("KL", 0.0), ("Wasserstein", 0.6), ("minimax", 0.0), ("hinge", 0.6)]
)
def test_spectra_of_density_games(name, gamma):
    objective, kappa, product = CONSTANTS[name]
    game = DensityGAN.on_line(DATA, POINTS, objective, r1=gamma / 3, r2=2 * gamma / 3)
    (point,) = game.equilibria()
    np.testing.assert_allclose(game.field(point)[0], 0, atol=1e-16)
    form = dirichlet(POINTS, DATA)
    levels = np.maximum(scipy.linalg.eigh(form, np.diag(DATA), eigvals_only=True), 0)
    assert levels[0] < 1e-12 < 0.1 < levels[1]
    geometries = {
        "transport": (Transport(game.graph, DATA), Weighted(DATA), roots(kappa + gamma * levels, -product * levels)),
        "fisher": (FisherRao(), Weighted(DATA), roots(kappa + gamma * levels[1:], -product + 0 * levels[1:])),
    }
    gram = np.diag(DATA) - np.outer(DATA, DATA)
    h, b = -np.sqrt(abs(product)), np.sqrt(abs(product))
    plain = np.block([[np.zeros((6, 6)), -h * gram], [-b * gram, -kappa * np.diag(DATA) - gamma * form]])
    geometries["plain"] = (None, None, np.linalg.eigvals(plain))
    for label, (of_logits, of_scores, expected) in geometries.items():
        flow = Flow(Natural(of_logits, of_scores))
        jacobian = jacobian_of(game, flow.direction, point)
        if label == "fisher":  # constants: logits rest, scores decay by themselves
            expected = np.concatenate([expected, [0, -kappa]])
        found = np.linalg.eigvals(np.asarray(jacobian))
        distance = np.abs(found[:, None] - expected[None])
        rows, columns = scipy.optimize.linear_sum_assignment(distance)
        assert len(found) == len(expected) and distance[rows, columns].max() < 2e-7, label


@pytest.mark.slow_cases("reverse KL-1.0", "non-saturating-0.5")
@pytest.mark.parametrize("name, weight", [("non-saturating", 0.5), ("KL", 1.0), ("reverse KL", 1.0)])
def test_spectra_of_nested_games(name, weight):
    game = DensityGAN.on_line(DATA, POINTS, SMOOTH[name])
    np.testing.assert_allclose(game.objective.generator_weight(1.0), weight, rtol=1e-12)
    nested, (point,) = NestedDensityGAN(game), game.equilibria()
    levels = np.maximum(scipy.linalg.eigh(dirichlet(POINTS, DATA), np.diag(DATA), eigvals_only=True), 0)
    for geometry, expected in ((FisherRao(), [0] + [-weight] * 5), (Transport(game.graph, DATA), -weight * levels)):
        direction = Natural(geometry)
        field = released(lambda logits, direction=direction: direction(nested, (logits,))[0])
        found = np.linalg.eigvals(jax.jit(jax.jacobian(field))(point[0])).real
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-6)


@pytest.mark.slow
def test_thousands_of_variables_by_products_alone():
    """All 1,999 pairs of the game in the Fisher-Rao geometry are the same, whatever the data."""
    points = np.linspace(-4, 4, 2000)
    game = DensityGAN.on_line(lambda x: jnp.exp(-(x**2) / 2), points)
    flow = Flow(Natural(FisherRao(), Weighted(game.data)))
    report = dy.stability(game, flow, leading=Leading(5, products=200))
    assert report.size == 4000
    zero, *others = sorted(report.eigenvalues[:5], key=abs)
    assert abs(zero) < 1e-12 and len({value.imag > 0 for value in others}) == 2
    np.testing.assert_allclose([abs(value.imag) for value in others], np.sqrt(3) / 4, atol=1e-9)
    np.testing.assert_allclose([value.real for value in others], -0.25, atol=1e-9)


@pytest.mark.slow
def test_a_plane_of_thousands_of_points_has_the_spectrum_of_ornstein_and_uhlenbeck():
    """Eigenvalues of two lines add up; N(0, I) on a fine grid has 0, 1, 1, 2, 2, 2, ..."""
    gamma, x, y = 0.8, np.linspace(-4.5, 4.5, 52), np.linspace(-4.5, 4.5, 46)
    masses = [np.exp(-(line**2) / 2) / np.exp(-(line**2) / 2).sum() for line in (x, y)]
    game = DensityGAN(np.outer(*masses).ravel(), graph=Graph.plane(x, y), r1=gamma)
    flow = Flow(Natural(Transport(game.graph, game.data), Weighted(game.data)))
    report = dy.stability(game, flow, leading=Leading(6, products=20_000))
    lines = [scipy.linalg.eigh(dirichlet(z, m), np.diag(m), eigvals_only=True)[:6] for z, m in zip((x, y), masses)]
    levels = np.sort(np.add.outer(*lines).ravel())[1:6]
    np.testing.assert_allclose(levels, [1, 1, 2, 2, 2], rtol=0.02)
    candidates = np.concatenate([roots(0.5 + gamma * levels, levels / 4), [0, -0.5]])
    assert report.size == 4784
    assert np.max(np.min(np.abs(report.eigenvalues[:6, None] - candidates), axis=1)) < 1e-7
    assert abs(report.eigenvalues[1].real - np.max(candidates[candidates != 0].real)) < 1e-7


LINE = np.linspace(-2, 2, 9)
BUMPS = np.exp(-2 * (LINE - 1) ** 2) + 0.6 * np.exp(-4 * (LINE + 1) ** 2)


def total_variation(game, players):
    return 0.5 * float(np.sum(np.abs(np.asarray(game.probabilities(players)) - np.asarray(game.data))))


@pytest.mark.parametrize("inside", ["discriminator", "generator"])
def test_the_order_of_the_loops(inside):
    """Metz 2016, section 2: with the generator inside all mass goes to the most likely point, in one piece."""
    game = DensityGAN(BUMPS, dy.objectives.Minimax())
    repeats, order = ((1, 8), (1, 0)) if inside == "discriminator" else ((8, 1), (0, 1))
    update = dy.updates.Alternating(
        optax.sgd(0.5 if inside == "discriminator" else 25.0),
        optax.sgd(1.5 if inside == "discriminator" else 0.5),
        order=order,
        repeats=repeats,
        direction=Natural(FisherRao(), Weighted(game.data)),
    )
    uniform = jnp.zeros(9)
    start = uniform, game.optimal_scores((uniform, None))
    run = dy.simulate(game, update, start, steps=60, classify=False)
    first, end = jax.tree.map(lambda leaf: leaf[1], run.players), run.final
    if inside == "discriminator":
        assert total_variation(game, end) < 1e-3 < 0.2 < total_variation(game, start)
        return
    q = np.asarray(game.probabilities(first))
    assert np.argmax(q) == np.argmax(BUMPS) and q.max() > 0.999
    largest = np.asarray(jax.vmap(lambda logits: jnp.max(jax.nn.softmax(logits)))(run.players[0]))
    assert total_variation(game, end) > 0.5 and np.median(largest[1:]) > 0.8


def test_the_generator_inside_jumps_and_its_average_is_the_data():
    game = DensityGAN(BUMPS, dy.objectives.Minimax())
    nested = NestedDensityGAN(game, inside="generator")
    run = dy.simulate(
        nested,
        dy.updates.Simultaneous(optax.sgd(0.05)),
        (jnp.asarray(SCORES.tolist() + [0.2, 0, -0.5]),),
        steps=20_000,
        classify=False,
    )
    answers = jax.jit(jax.vmap(nested.best_generator))(run.players[0])
    assert np.all(np.max(answers, axis=1) == 1)
    np.testing.assert_allclose(np.mean(np.asarray(answers)[5_000:], axis=0), game.data, atol=3e-3)
    assert np.max(np.abs(run.players[0][-1])) < 0.1  # the scores settle at the ideal one
    assert nested.equilibria() == ()


@pytest.mark.slow
def test_random_batches_are_right_on_average_and_follow_the_key():
    game = DensityGAN(DATA, dy.objectives.NonSaturating(), batch_size=8)
    players = jnp.asarray(LOGITS), jnp.asarray(SCORES)
    keys = jax.random.split(jax.random.key(1), 10_000)
    fields = jax.jit(jax.vmap(lambda key: game.field(players, key)))(keys)
    exact = game.field(players)
    for drawn, mean in zip(fields, exact, strict=True):
        error = np.std(drawn, axis=0) / 100
        assert np.all(np.abs(np.mean(drawn, axis=0) - mean) < 4.5 * error) and np.all(error > 0)
    np.testing.assert_array_equal(game.field(players, keys[3])[1], game.field(players, keys[3])[1])
    np.testing.assert_array_equal(DensityGAN(DATA).field(players, keys[3])[1], DensityGAN(DATA).field(players)[1])


@pytest.mark.slow_cases("objective1", "objective2")
@pytest.mark.parametrize(
    "objective",
    [dy.objectives.RelativisticPaired(), dy.objectives.RelativisticAverage("squares"), dy.objectives.GaussianMMD()],
)
@pytest.mark.slow
def test_objectives_that_are_no_means_over_single_scores(objective):
    game = DensityGAN(DATA, objective, points=POINTS)
    (point,) = game.equilibria()
    np.testing.assert_allclose(np.concatenate(game.field(point)), 0, atol=1e-15)
    players = jnp.asarray(LOGITS), jnp.asarray(SCORES)
    assert game.divergence(players) > 0.01 and abs(game.divergence(point)) < 1e-12
    if isinstance(objective, dy.objectives.RelativisticPaired):
        nested = NestedDensityGAN(game)
        update = dy.updates.Simultaneous(optax.sgd(0.3), direction=Natural(FisherRao()))
        run = dy.simulate(nested, update, players[:1], steps=100, save_every=25, classify=False)
        assert np.all(np.diff(jax.vmap(game.divergence)(run.players)) < 0)
        assert game.divergence(run.final) < 1e-6


def test_a_batch_of_games_is_what_each_is_alone():
    alone = [DensityGAN.on_line(DATA, POINTS, r1=gamma) for gamma in (0.1, 0.7)]
    players = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(SCORES, jnp.float32)
    fields = jax.vmap(lambda gamma: DensityGAN.on_line(DATA, POINTS, r1=gamma).field(players))(jnp.asarray([0.1, 0.7]))
    for row, game in enumerate(alone):
        for found, expected in zip(fields, game.field(players), strict=True):
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-7)


def test_data_without_mass_somewhere():
    game = DensityGAN([0.5, 0.0, 0.5], dy.objectives.Minimax())
    assert game.equilibria() == ()
    nested = NestedDensityGAN(game)
    update = dy.updates.Simultaneous(optax.sgd(0.5), direction=Natural(FisherRao()))
    run = dy.simulate(nested, update, (jnp.asarray([0.0, 0.5, 1.0]),), steps=100, classify=False)
    np.testing.assert_allclose(game.probabilities(run.final), [0.5, 0, 0.5], atol=1e-3)
    assert jnp.all(jnp.isfinite(nested.field((jnp.asarray([0.0, -2000.0, 1.0]),))[0]))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: DensityGAN([[0.5, 0.5]]), r"data has shape \(1, 2\); expected \(n,\)"),
        (lambda: DensityGAN([0.5, -0.5]), "masses from -0.5 to 0.5"),
        (lambda: DensityGAN([0.5, np.nan]), "data holds nan"),
        (lambda: DensityGAN([0.5, 0.5], r1=0.1), "r1 is a penalty on slopes and needs graph"),
        (lambda: DensityGAN([0.5, 0.5], graph=Graph.line(POINTS)), "graph has 6 points; expected 2"),
        (lambda: DensityGAN([0.5, 0.5], batch_size=0), "batch_size is 0"),
        (lambda: DensityGAN(DATA).field((jnp.zeros(5), jnp.zeros(6))), r"logits have shape \(5,\); expected \(6,\)"),
        (lambda: DensityGAN(DATA).field((jnp.zeros(6), jnp.zeros(5))), r"scores have shape \(5,\); expected 6"),
        (lambda: Graph.line([0.0, 1.0, 3.0]), "expected two or more equally spaced numbers"),
        (lambda: Transport(Graph.line(POINTS), np.ones(5)), r"base has shape \(5,\); expected \(6,\)"),
        (lambda: Weighted([1.0, 0.0]), "entry 0; expected positive numbers"),
        (lambda: NestedDensityGAN(DensityGAN(DATA, dy.objectives.Wasserstein())), "does not know its best score"),
        (lambda: NestedDensityGAN(DensityGAN(DATA, dy.objectives.RelativisticPaired()), "generator"), "no mean over"),
        (lambda: NestedDensityGAN(DensityGAN(DATA), "both"), "inside is 'both'"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
