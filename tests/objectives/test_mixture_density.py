"""Likelihoods of embeddings against SciPy's Gaussians, and against the classifiers that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import dynamics as dy
from dynamics.objectives import MDGAN, PGAN, LeastSquares, Minimax

VARIANCE = 0.3
P, Q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.2, 0.1, 0.3, 0.4])


def density(points, corners):
    """The mixture's, at points of shape (n, d)."""
    parts = [scipy.stats.multivariate_normal(corner, VARIANCE).pdf(points) for corner in corners]
    return np.mean(np.reshape(parts, (len(corners), -1)), axis=0)


@pytest.mark.slow_cases("1")
@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.slow
def test_losses_are_those_of_a_classifier_with_another_link(dimension):
    objective = MDGAN(dimension, VARIANCE)
    corners = objective.corners
    distances = np.linalg.norm(corners[:, None] - corners, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 1, 1e-14)
    np.testing.assert_allclose(distances[np.triu_indices(dimension + 1, 1)], distances[0, 1], 1e-14)
    best = scipy.optimize.minimize(lambda e: -density(e[None], corners)[0], 0.9 * corners[0], tol=1e-12)
    largest = -best.fun
    np.testing.assert_allclose(np.exp(objective.log_largest), largest, 1e-10)

    real, fake = (np.random.default_rng(seed).normal(size=(5, dimension)) for seed in (1, 2))
    shares = [density(sample, corners) / largest for sample in (real, fake)]
    classifier = Minimax().discriminator(*(np.log(share / (1 - share)) for share in shares)) - 2 * np.log(largest)
    np.testing.assert_allclose(objective.discriminator(real, fake), classifier, 1e-6)  # for the offset
    saturating, other = objective.generator(real, fake), MDGAN(dimension, VARIANCE, False).generator(real, fake)
    np.testing.assert_allclose(saturating, np.mean(np.log(largest * (1 - shares[1]))), 1e-6)
    np.testing.assert_allclose(other, -np.mean(np.log(largest * shares[1])), 1e-6)
    assert np.isfinite(objective.fake_loss(best.x)) and objective.fake_loss(best.x) > 17  # log of the offset


@pytest.mark.slow
def test_best_scores_tell_the_ratio():
    objective = MDGAN(2, VARIANCE)
    scores = objective.optimal_score(P, Q)
    assert scores.shape == (4, 2)
    shares = density(scores, objective.corners) / np.exp(objective.log_largest)
    np.testing.assert_allclose(shares, P / (P + Q), 1e-9)
    np.testing.assert_allclose(objective.density_ratio(scores), P / Q, 1e-8)
    np.testing.assert_allclose(objective.divergence_value(P, Q), Minimax().divergence_value(P, Q), 1e-6)
    ideal = np.log(4) - 2 * objective.log_largest
    np.testing.assert_allclose(objective.ideal_discriminator_loss, ideal, 1e-7)
    np.testing.assert_allclose(
        objective.discriminator(objective.ideal_score[None], objective.ideal_score[None]), ideal, 1e-7
    )


@pytest.mark.slow
def test_in_many_dimensions_the_largest_value_is_at_the_origin():
    demonstration = MDGAN(9)
    np.testing.assert_allclose(demonstration.log_largest, demonstration.log_density(np.zeros(9)), 1e-12)
    assert demonstration.log_density(demonstration.corners[0]) < demonstration.log_largest - 0.1


@pytest.mark.slow
def test_embeddings_in_a_gan():
    gan = dy.GAN(
        lambda t, z: z + t, lambda w, x: jnp.stack([w * x, jnp.tanh(x)]), np.array([0.3, -1.0]), np.zeros(1), MDGAN(2)
    )
    field = gan.field((jnp.asarray(0.4), jnp.asarray(0.7)))
    for k, step in enumerate(1e-6 * np.eye(2)):
        ahead, back = (gan.losses((0.4 + sign * step[0], 0.7 + sign * step[1]))[k] for sign in (1, -1))
        np.testing.assert_allclose(field[k], (back - ahead) / 2e-6, 1e-6)


def test_a_reconstruction_of_pgan_is_least_squares():
    real, fake = jnp.asarray([0.3, -1.2]), jnp.asarray([0.9, 0.1, -0.4])
    embedding, squares = PGAN(1.5, -0.5, 0.7), LeastSquares(-0.5, 1.5, 1.5)
    constant = np.log(2 * np.pi * 0.7)
    np.testing.assert_allclose(
        embedding.discriminator(real, fake), squares.discriminator(real, fake) / 0.7 + constant, 1e-13
    )
    np.testing.assert_allclose(
        embedding.generator(real, fake), squares.generator(real, fake) / 0.7 + constant / 2, 1e-13
    )
    vectors = PGAN([1.0, 0.0], [-1.0, 0.5], 0.7)
    sample = np.array([[0.2, -0.3], [1.0, 2.0]])
    expected = -np.mean(scipy.stats.multivariate_normal([1.0, 0.0], 0.7).logpdf(sample))
    np.testing.assert_allclose(vectors.generator(None, jnp.asarray(sample)), expected, 1e-13)
    assert vectors.takes_vectors and vectors.optimal_score(P, Q).shape == (4, 2)
    np.testing.assert_allclose(vectors.divergence_value(P, Q), 4.25 / (8 * 0.7) * np.sum((P - Q) ** 2 / (P + Q)), 1e-12)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MDGAN(0), "MDGAN.dimension is 0; expected a whole number >= 1"),
        (lambda: MDGAN(variance=0), "MDGAN.variance is 0; expected a finite number > 0"),
        (lambda: PGAN([1.0, 2.0], 0.0), r"shapes \(2,\) and \(\); expected two numbers, or two vectors"),
        (lambda: PGAN(np.nan), "PGAN.real holds nan"),
    ],
)
def test_messages(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
def test_the_variance_has_a_derivative():
    def loss(variance):
        return MDGAN(1, variance).discriminator(jnp.asarray([0.7]), jnp.asarray([-0.2]))

    slope = jax.grad(loss)(0.3)
    np.testing.assert_allclose(slope, (loss(0.3 + 1e-6) - loss(0.3 - 1e-6)) / 2e-6, 1e-6)
