"""Penalties on a nonlinear discriminator of vectors, against finite differences of plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.distributions import Points, Sample, normal
from dynamics.gan import GAN
from dynamics.objectives import LeastSquares, Minimax, NonSaturating, Wasserstein
from dynamics.penalties import (
    DRAGAN,
    R1,
    R2,
    WGANGP,
    ApproximateR1,
    ApproximateR2,
    Consistency,
    DiscriminatorGradientNorm,
    Entropy,
    LeCam,
    PrescribedEntropy,
    Scaled,
    ScoreDrift,
    Sum,
    WeightDecay,
)

RNG = np.random.default_rng(5)
DATA = RNG.normal(size=(6, 2))
LATENT = RNG.normal(size=(6, 2))
THETA = np.array([0.4, -0.3])
PSI = np.array([0.7, -1.1, 0.5, 0.9])


def generator(theta, z):
    return z * theta[0] + theta[1] * z**2 + 0.2


def discriminator(psi, x):
    return psi[0] * jnp.tanh(psi[1] * x[0] - x[1]) + psi[2] * x[0] ** 2 * x[1] + psi[3] * x[1]


def score(psi, x):
    """The same in NumPy, for points on the last axis."""
    return psi[0] * np.tanh(psi[1] * x[..., 0] - x[..., 1]) + psi[2] * x[..., 0] ** 2 * x[..., 1] + psi[3] * x[..., 1]


def slope(psi, x):
    """The gradient of the score with respect to the point, by hand."""
    inner = psi[0] / np.cosh(psi[1] * x[..., 0] - x[..., 1]) ** 2
    return np.stack(
        [inner * psi[1] + 2 * psi[2] * x[..., 0] * x[..., 1], -inner + psi[2] * x[..., 0] ** 2 + psi[3]], -1
    )


def differences(function, at, step=1e-5):
    rows = [(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return np.array(rows)


def fakes(theta):
    return LATENT * theta[0] + theta[1] * LATENT**2 + 0.2


def norms(psi, x):
    return np.linalg.norm(slope(psi, x), axis=-1)


MIXING = np.polynomial.legendre.leggauss(20)
AROUND = np.polynomial.hermite_e.hermegauss(9)


def on_lines(theta, function):
    """Mean over all pairs of real and fake points and over the line between them."""
    e = ((MIXING[0] + 1) / 2)[:, None, None, None]
    points = e * DATA[None, :, None] + (1 - e) * fakes(theta)[None, None, :]
    return MIXING[1] / 2 @ function(points).mean((1, 2))


def around_data(std, function):
    a, b = np.meshgrid(AROUND[0], AROUND[0], indexing="ij")
    weights = np.outer(AROUND[1], AROUND[1]) / AROUND[1].sum() ** 2
    points = DATA + std * np.stack([a, b], -1)[:, :, None]
    return (weights[..., None] * function(points)).sum((0, 1)).mean()


def differences_around(points, std, psi):
    """Mean squared difference quotient of the score over points and Gaussian steps."""
    a, b = np.meshgrid(AROUND[0], AROUND[0], indexing="ij")
    weights = np.outer(AROUND[1], AROUND[1]) / AROUND[1].sum() ** 2
    steps = np.stack([a, b], -1)[:, :, None]
    quotients = (score(psi, points + std * steps) - score(psi, points)) / std
    return (weights[..., None] * quotients**2).sum((0, 1)).mean()


def moved(point, key):
    """An augmentation: without a key by a fixed step, with one by a random step."""
    step = jnp.asarray([0.3, -0.2])
    return jnp.tanh(point) + (step if key is None else 0.3 * jax.random.normal(key, (2,)))


def inconsistency(psi, x):
    return ((score(psi, x) - score(psi, np.tanh(x) + [0.3, -0.2])) ** 2).mean()


def prescribed(theta, z):
    return jnp.stack([theta[0] * z[0], theta[1] * z[0] * z[1] + z[1]])


def log_mixture(theta, points, scale=0.7):
    """Of Gaussians around the images of the nine nodes of a quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    a, b = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    weights = np.outer(weights, weights).ravel() / weights.sum() ** 2
    means = np.stack([theta[0] * a, theta[1] * a * b + b], -1)
    squares = ((points[:, None] - means) ** 2).sum(-1)
    return np.log(np.exp(-squares / (2 * scale**2)) @ weights / (2 * np.pi * scale**2))


def log_density(theta, x):
    return -((x[0] - theta[0] * x[1]) ** 2) + theta[1] ** 3


def one_sided(distance):
    return np.maximum(distance, 0)


def objective_gradient(theta, psi):
    def loss(psi):
        return np.logaddexp(0, -score(psi, DATA)).mean() + np.logaddexp(0, score(psi, fakes(theta))).mean()

    return differences(loss, psi)


PENALTIES = {
    # (penalty, what it adds to the generator's and to the discriminator's loss)
    "R1": (R1(0.6), None, lambda t, p: 0.3 * (slope(p, DATA) ** 2).sum(-1).mean()),
    "R2": (R2(0.6), None, lambda t, p: 0.3 * (slope(p, fakes(t)) ** 2).sum(-1).mean()),
    "WGAN-GP": (
        WGANGP(0.7, 0.9, nodes=20),
        None,
        lambda t, p: 0.7 * on_lines(t, lambda x: (norms(p, x) - 0.9) ** 2),
    ),
    "WGAN-GP, one-sided": (
        WGANGP(0.7, 0.9, one_sided=True, nodes=20),
        None,
        lambda t, p: 0.7 * on_lines(t, lambda x: one_sided(norms(p, x) - 0.9) ** 2),
    ),
    "DRAGAN": (
        DRAGAN(0.7, 0.9, 0.4, nodes=9),
        None,
        lambda t, p: 0.7 * around_data(0.4, lambda x: (norms(p, x) - 0.9) ** 2),
    ),
    "DiscriminatorGradientNorm": (
        DiscriminatorGradientNorm(0.8),
        lambda t, p: 0.8 * (objective_gradient(t, p) ** 2).sum(),
        None,
    ),
    "Sum": (
        Sum(R1(0.6), R2(0.2), DiscriminatorGradientNorm(0.8)),
        lambda t, p: 0.8 * (objective_gradient(t, p) ** 2).sum(),
        lambda t, p: 0.3 * (slope(p, DATA) ** 2).sum(-1).mean() + 0.1 * (slope(p, fakes(t)) ** 2).sum(-1).mean(),
    ),
    "empty sum": (Sum(), None, None),
    "ApproximateR1": (ApproximateR1(0.6, 0.3, nodes=9), None, lambda t, p: 0.3 * differences_around(DATA, 0.3, p)),
    "ApproximateR2": (ApproximateR2(0.6, 0.3, nodes=9), None, lambda t, p: 0.3 * differences_around(fakes(t), 0.3, p)),
    "Consistency": (
        Consistency(moved, 0.7, 0.4),
        None,
        lambda t, p: 0.7 * inconsistency(p, DATA) + 0.4 * inconsistency(p, fakes(t)),
    ),
    "ScoreDrift": (ScoreDrift(0.6), None, lambda t, p: 0.6 * (score(p, DATA) ** 2).mean()),
    "Entropy": (Entropy(log_density, 0.6), lambda t, p: 0.6 * log_density(t, fakes(t).T).mean(), None),
    "PrescribedEntropy": (
        PrescribedEntropy(prescribed, normal(np.zeros(2), 1.0, nodes=3), 0.7, 0.6),
        lambda t, p: 0.6 * log_mixture(t, fakes(t)).mean(),
        None,
    ),
    "WeightDecay": (WeightDecay(0.6, 0.2), lambda t, p: 0.3 * t @ t, lambda t, p: 0.1 * p @ p),
    "Scaled, left out": (Scaled(R1(0.6), 0.0, skip=True), None, None),
    "Scaled, not left out": (
        Scaled(R1(0.6), 2.0, skip=True),
        None,
        lambda t, p: 0.6 * (slope(p, DATA) ** 2).sum(-1).mean(),
    ),
    "Scaled": (
        Scaled(WeightDecay(0.3, 0.1), -2.0),
        lambda t, p: -0.3 * t @ t,
        lambda t, p: -0.1 * p @ p,
    ),
}


def make(penalty, objective=None, batch_size=None):
    data, latent = (Points(jnp.asarray(points), batch_size) for points in (DATA, LATENT))
    return GAN(generator, discriminator, data, latent, objective or Minimax(), penalty)


@jax.jit
def losses(gan, players):
    return gan.losses(players)


@pytest.mark.slow_cases(
    "Consistency",
    "R2",
    "Scaled, left out",
    "ApproximateR2",
    "WGAN-GP, one-sided",
    "DiscriminatorGradientNorm",
    "DRAGAN",
    "Sum",
)
@pytest.mark.parametrize("name", PENALTIES)
def test_value_and_gradient_with_both_players(name):
    penalty, *parts = PENALTIES[name]
    gan = make(penalty)

    def added(players):
        return penalty(gan.discriminator, gan.objective, players, *gan.samples(players), None)

    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    values, slopes = jax.jit(lambda players: (added(players), jax.jacrev(added)(players)))(players)
    for value, (by_theta, by_psi), part in zip(values, slopes, parts):
        if part is None:  # this player's loss stays as it is
            assert float(value) == 0 and not np.any(by_theta) and not np.any(by_psi)
            continue
        np.testing.assert_allclose(value, part(THETA, PSI), rtol=1e-8)
        np.testing.assert_allclose(by_theta, differences(functools.partial(swapped, part, PSI), THETA), 1e-4, 1e-6)
        np.testing.assert_allclose(by_psi, differences(functools.partial(part, THETA), PSI), 1e-4, 1e-6)


def swapped(function, second, first):
    return function(first, second)


def test_a_penalty_is_added_to_the_losses():
    penalty, *parts = PENALTIES["Sum"]
    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    plain, penalised = (losses(make(p), players) for p in (None, penalty))
    np.testing.assert_allclose(penalised, [a + part(THETA, PSI) for a, part in zip(plain, parts)], rtol=1e-8)


def test_le_cam_holds_the_means_fixed():
    """Value and gradient by hand: each score is drawn to the other side's mean as it is now."""
    gan = make(LeCam(0.6))
    players = (jnp.asarray(THETA), jnp.asarray(PSI))

    def added(players):
        return gan.penalty(gan.discriminator, gan.objective, players, *gan.samples(players), None)[1]

    value, (by_theta, by_psi) = jax.jit(jax.value_and_grad(added))(players)
    real, fake = score(PSI, DATA).mean(), score(PSI, fakes(THETA)).mean()

    def anchored(theta, psi):
        drawn = ((score(psi, DATA) - fake) ** 2).mean() + ((score(psi, fakes(theta)) - real) ** 2).mean()
        return 0.6 * drawn

    np.testing.assert_allclose(value, anchored(THETA, PSI), rtol=1e-12)
    np.testing.assert_allclose(by_psi, differences(functools.partial(anchored, THETA), PSI), 1e-6)
    np.testing.assert_allclose(by_theta, differences(functools.partial(swapped, anchored, PSI), THETA), 1e-6)


def test_difference_quotients_of_a_quadratic_score():
    """(2wx)^2 + 3 sigma^2 w^2 for w x^2, as the expansion says; and R1 in the limit, linear scores without error."""
    w, std = 0.7, 0.5

    def values(penalty, function):
        gan = GAN(lambda t, z: t + z, function, jnp.asarray([1.3]), jnp.asarray([0.4]), Minimax(), penalty)
        players = (jnp.asarray(0.2), jnp.asarray(w))
        return float(penalty(function, gan.objective, players, *gan.samples(players), None)[1])

    def quadratic(w, x):
        return w * x**2

    np.testing.assert_allclose(
        values(ApproximateR1(2.0, std), quadratic), (2 * w * 1.3) ** 2 + 3 * std**2 * w**2, rtol=1e-12
    )
    np.testing.assert_allclose(
        values(ApproximateR2(2.0, std), quadratic), (2 * w * 0.6) ** 2 + 3 * std**2 * w**2, rtol=1e-12
    )
    np.testing.assert_allclose(values(ApproximateR1(2.0, std), lambda w, x: w * x), w**2, rtol=1e-12)
    np.testing.assert_allclose(values(ApproximateR1(2.0, 1e-4), quadratic), values(R1(2.0), quadratic), rtol=1e-6)


def test_the_entropy_of_a_gaussian():
    """x = a z + s e: H = log(2 pi e (a^2 + s^2)) / 2, whose slope is a / (a^2 + s^2)."""
    a, s = 0.8, 0.5

    def density(a, x):
        variance = a**2 + s**2
        return -(x**2) / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2

    noise = normal(0.0, s, nodes=6)
    gan = GAN(
        lambda a, z: a * z,
        lambda w, x: w * x,
        normal(0.0, 1.0),
        normal(0.0, 1.0, nodes=6),
        Wasserstein(),
        Entropy(density, 0.3),
        noise,
    )
    loss, (slope, _) = jax.jit(jax.value_and_grad(lambda players: gan.losses(players)[0]))(
        (jnp.asarray(a), jnp.asarray(0.0))
    )
    np.testing.assert_allclose(loss, -0.3 * np.log(2 * np.pi * np.e * (a**2 + s**2)) / 2, rtol=1e-12)
    np.testing.assert_allclose(slope, -0.3 * a / (a**2 + s**2), rtol=1e-12)


@pytest.mark.slow
def test_the_entropy_of_a_generator_that_is_not_known():
    """x = a z + s e with its slope a / (a^2 + s^2), by Monte Carlo; and the estimate of the score at one point."""
    a, s = 0.8, 0.5
    width = s / np.sqrt(a**2 + s**2)  # of the posterior; a quarter of a turn goes from one draw to one of its own
    options = {"step": width * np.pi / 2 / 6, "leapfrog": 6, "burn_in": 3, "draws": 4}
    paid = PrescribedEntropy(lambda a, z: a * z, normal(0.0, 1.0, batch_size=2000), s, 0.3, **options)
    gan = GAN(lambda a, z: a * z, lambda w, x: w * x, normal(0.0, 1.0), normal(0.0, 1.0), Wasserstein(), paid)

    @jax.jit
    def slopes(players, keys):
        value_and_slope = jax.value_and_grad(lambda players, key: gan.losses(players, key)[0])
        return jax.vmap(value_and_slope, (None, 0))(players, keys)

    values, (drawn, _) = slopes((jnp.asarray(a), jnp.asarray(0.0)), jax.random.split(jax.random.key(0), 20))
    assert not values.any()  # its value is 0, and so is a score of 0
    error = np.std(drawn) / np.sqrt(20)
    assert error < 4e-3 and abs(np.mean(drawn) + 0.3 * a / (a**2 + s**2)) < 4 * error
    # For one point: latents from its posterior stay there, and every estimate has the right mean.
    x, few = 0.9, PrescribedEntropy(lambda a, z: a * z, normal(0.0, 1.0), s, step=0.3, leapfrog=1, burn_in=0, draws=1)
    posterior = a * x / (a**2 + s**2) + width * jax.random.normal(jax.random.key(1), (20_000,))
    keys = jax.random.split(jax.random.key(2), 20_000)
    scores = jax.jit(jax.vmap(lambda z, key: few.score(jnp.asarray(a), jnp.asarray(x), z, key)))(posterior, keys)
    assert abs(np.mean(scores) + x / (a**2 + s**2)) < 4 * np.std(scores) / np.sqrt(20_000)
    assert np.std(scores) > 0.5


@pytest.mark.slow
def test_every_sample_is_augmented_by_a_key_of_its_own():
    steps = []

    def recorded(point, key):
        step = jax.random.normal(key)
        jax.debug.callback(lambda step: steps.append(float(step)), step)
        return point + step

    gan = GAN(generator, discriminator, DATA, LATENT, Minimax(), Consistency(recorded, 1.0, 1.0))
    gan.losses((jnp.asarray(THETA), jnp.asarray(PSI)), jax.random.key(0))
    jax.effects_barrier()
    assert len(set(steps)) == 12


def test_weights_of_the_samples_count():
    gan = make(None)
    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    weights = RNG.dirichlet(np.ones(6))
    real, fake = Sample(jnp.asarray(DATA), jnp.asarray(weights)), Sample(jnp.asarray(fakes(THETA)))
    r1, gp = jax.jit(
        lambda: [
            penalty(gan.discriminator, gan.objective, players, real, fake, None)[1]
            for penalty in (R1(2.0), WGANGP(1.0, 0.0, nodes=20))
        ]
    )()
    np.testing.assert_allclose(r1, weights @ (slope(PSI, DATA) ** 2).sum(-1), rtol=1e-12)
    e = ((MIXING[0] + 1) / 2)[:, None, None, None]
    points = e * DATA[None, :, None] + (1 - e) * fakes(THETA)[None, None, :]
    expected = np.einsum("e,i,eij->", MIXING[1] / 2, weights, (slope(PSI, points) ** 2).sum(-1)) / 6
    np.testing.assert_allclose(gp, expected, rtol=1e-12)


@pytest.mark.slow
def test_random_batches_agree_with_the_expectation():
    gan = make(None, Wasserstein(), batch_size=4)
    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    names = ("R1", "R2", "WGAN-GP", "WGAN-GP, one-sided", "DRAGAN", "ApproximateR1", "ApproximateR2", "ScoreDrift")
    penalties = [PENALTIES[name][0] for name in names]

    def added(key):
        samples = gan.samples(players, key)
        own = key if key is None else jax.random.fold_in(key, 1)
        return jnp.stack(
            [penalty(gan.discriminator, gan.objective, players, *samples, own)[1] for penalty in penalties]
        )

    exact = jax.jit(lambda: added(None))()
    draws = jax.jit(jax.vmap(added))(jax.random.split(jax.random.key(1), 2000))
    errors = draws.std(0) / np.sqrt(len(draws))
    assert np.all(errors > 0) and np.all(np.abs(draws.mean(0) - exact) < 5 * errors)


def test_regularised_linear_quadratic_gan():
    """Nagarajan and Kolter 2017: scores w x^2, fakes a z, and the eigenvalues their penalty gives."""
    std, eta = 1.3, 0.2
    gan = GAN(
        lambda a, z: a * z,
        lambda w, x: w * x**2,
        normal(0.0, std),
        normal(0.0, 1.0),
        Wasserstein(),
        DiscriminatorGradientNorm(eta),
    )
    point = (jnp.asarray(std), jnp.asarray(0.0))
    v, jacobian = jax.jit(lambda point: (gan.field(point), jax.jacfwd(gan.field)(point)))(point)
    np.testing.assert_allclose(v, [0, 0], atol=1e-12)
    np.testing.assert_allclose(np.array(jacobian), [[-8 * eta * std**2, 2 * std], [-2 * std, 0]], atol=1e-12)


def test_gradient_norm_of_a_flat_discriminator_has_no_slope():
    gan = make(WGANGP(1.0, 1.0))
    flat = (jnp.asarray(THETA), jnp.zeros(4))
    value, slopes = jax.jit(jax.value_and_grad(lambda psi: gan.losses((flat[0], psi))[1]))(flat[1])
    np.testing.assert_allclose(value, np.log(4) + 1)
    assert np.all(np.isfinite(slopes))


def test_samples_of_any_structure():
    def tree_discriminator(psi, x):
        return discriminator(psi, jnp.stack([x["a"], x["b"]]))

    def tree_generator(theta, z):
        x = generator(theta, jnp.stack([z["a"], z["b"]]))
        return {"a": x[0], "b": x[1]}

    def split(points):
        return Points({"a": jnp.asarray(points[:, 0]), "b": jnp.asarray(points[:, 1])})

    penalty = Sum(R1(0.3), WGANGP(0.5))
    gan = GAN(tree_generator, tree_discriminator, split(DATA), split(LATENT), LeastSquares(), penalty)
    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    flat = make(penalty, LeastSquares())
    np.testing.assert_allclose(losses(gan, players), losses(flat, players), rtol=1e-12)


@pytest.mark.parametrize(
    "penalty", [DRAGAN(0.7, 0.9, 0.4, nodes=3), ApproximateR1(0.6, 0.3, 3), ApproximateR2(0.6, 0.3, 3)]
)
def test_quadratures_of_samples_of_any_shape(penalty):
    """Images of 1 x 2 pixels are vectors of 2 numbers."""

    def image_discriminator(psi, x):
        return discriminator(psi, x[0])

    def image_generator(theta, z):
        return generator(theta, z)[None]

    players = (jnp.asarray(THETA), jnp.asarray(PSI))
    images = GAN(image_generator, image_discriminator, DATA[:, None], LATENT, Minimax(), penalty)
    np.testing.assert_allclose(losses(images, players), losses(make(penalty), players), rtol=1e-12)


@pytest.mark.parametrize(
    "build, error, parts",
    [
        (lambda: R1(-0.1), ValueError, ["R1.weight is -0.1", "expected", ">= 0"]),
        (lambda: R2(np.nan), ValueError, ["R2.weight is nan", "expected"]),
        (lambda: R1(np.ones(3)), ValueError, ["R1.weight", "(3,)", "expected", "vmap"]),
        (lambda: R1("0.3"), TypeError, ["'0.3'", "expected a number", "Pass"]),
        (lambda: R1(None), TypeError, ["None", "expected a number", "Pass"]),
        (lambda: R1(True), TypeError, ["True", "expected a number", "Pass"]),
        (lambda: R1(1j), ValueError, ["R1.weight", "complex", "expected a real number"]),
        (lambda: WGANGP(1.0, -1.0), ValueError, ["WGANGP.target is -1", "expected"]),
        (lambda: WGANGP(nodes=0), ValueError, ["WGANGP.nodes is 0", "expected", "e.g."]),
        (lambda: DRAGAN(std=-1.0), ValueError, ["DRAGAN.std is -1", "expected"]),
        (lambda: DRAGAN(nodes=2.5), ValueError, ["DRAGAN.nodes is 2.5", "expected"]),
        (lambda: DiscriminatorGradientNorm(np.inf), ValueError, ["weight is inf", "expected"]),
        (lambda: ApproximateR1(-1.0), ValueError, ["ApproximateR1.weight is -1", "expected"]),
        (lambda: ApproximateR2(std=0.0), ValueError, ["ApproximateR2.std is 0", "> 0"]),
        (lambda: LeCam(-1.0), ValueError, ["LeCam.weight is -1", "expected"]),
        (lambda: WeightDecay(-1.0), ValueError, ["WeightDecay.generator is -1", "expected"]),
        (lambda: Consistency(3.0), TypeError, ["augmentation is 3.0", "expected a function"]),
        (lambda: Consistency(lambda x: x), TypeError, ["augmentation(point, key)", "(x)"]),
        (lambda: PrescribedEntropy(lambda z: z), TypeError, ["mean(parameters, latent)", "(z)"]),
        (lambda: PrescribedEntropy(scale=0.0), ValueError, ["PrescribedEntropy.scale is 0", "expected"]),
        (lambda: PrescribedEntropy(leapfrog=0), ValueError, ["PrescribedEntropy.leapfrog is 0"]),
        (lambda: PrescribedEntropy(latent=Points(jnp.zeros(3))), TypeError, ["latent is", "standard normal"]),
        (lambda: Entropy(lambda x: x), TypeError, ["log_density(parameters, point)", "(x)"]),
        (lambda: Scaled(R1(0.1), np.inf), ValueError, ["Scaled.factor is inf", "expected"]),
        (lambda: Scaled(None), TypeError, ["Scaled.penalty is None", "R1(0.3)"]),
        (lambda: Sum(R1(0.1), 3.0), TypeError, ["3.0", "expected penalties", "R1(0.3)"]),
    ],
)
def test_messages(build, error, parts):
    with pytest.raises(error) as caught:
        build()
    for part in parts:
        assert part in str(caught.value)


def test_batches_of_different_sizes_cannot_be_joined():
    data = Points(jnp.asarray(DATA), batch_size=4)
    gan = GAN(generator, discriminator, data, jnp.asarray(LATENT), NonSaturating(), WGANGP())
    with pytest.raises(ValueError, match="4 real and 6 fake samples; expected equal numbers.*same batch_size"):
        jax.eval_shape(gan.losses, (jnp.asarray(THETA), jnp.asarray(PSI)), jax.random.key(0))


def test_an_augmentation_keeps_the_shape():
    gan = make(Consistency(lambda x, key: x[:1], 1.0))
    with pytest.raises(ValueError, match=r"points of shapes \(1,\) of points of shapes \(2,\); expected the same"):
        jax.eval_shape(gan.losses, (jnp.asarray(THETA), jnp.asarray(PSI)))


def test_changing_a_weight_does_not_retrace():
    traces = 0

    def counted(psi, x):
        nonlocal traces
        traces += 1
        return discriminator(psi, x)

    @jax.jit
    def losses(gan, players):
        return gan.losses(players)

    players, build = (jnp.asarray(THETA), jnp.asarray(PSI)), jax.tree_util.Partial(counted)
    counts, results = [], set()
    for weight in (0, 1.0, np.float32(0.5), np.float64(2), np.int64(3)):
        penalty = Sum(R1(weight), WGANGP(weight, weight), DRAGAN(weight, weight, weight))
        results.add(float(losses(GAN(generator, build, DATA, LATENT, penalty=penalty), players)[1]))
        counts.append(traces)
    assert counts == [counts[0]] * 5 and len(results) == 5
