"""Spectra over minibatches, and the exponents of the run that draws them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.analysis import StateOperator, spectra_over_batches

KEYS = jax.random.split(jax.random.key(3), 4)


class Shaken(dy.Game):
    """Quadratic losses whose curvatures a key draws: the steps are matrices that do not commute."""

    def losses(self, players, key=None):
        x, y = players
        bend = jnp.zeros((2, 2)) if key is None else jax.random.normal(key, (2, 2))
        return x @ (jnp.eye(2) + bend) @ x / 2 + x[0] * y, y**2 / 2 - x[1] * y

    def equilibria(self):
        return ((jnp.zeros(2), jnp.zeros(())),)

    @classmethod
    def example(cls):
        return cls(), (jnp.ones(2), jnp.ones(()))


UPDATE = dy.updates.Alternating(optax.sgd(0.3, 0.5), optax.sgd(0.4))


@pytest.mark.slow
def test_eigenvalues_are_those_of_each_batch_and_exponents_those_of_the_product():
    game = Shaken()
    state = UPDATE.init(game, (jnp.zeros(2), jnp.zeros(())))
    result = spectra_over_batches(game, UPDATE, state, KEYS, leading=3, steps=400)
    for row, key in enumerate(KEYS):
        matrix = np.asarray(StateOperator(game, UPDATE, state, key).as_matrix())
        expected = np.linalg.eigvals(matrix)
        for value in result.eigenvalues[row][np.isfinite(result.eigenvalues[row])]:
            assert np.abs(expected - value).min() < 1e-9
        assert result.radii[row] == pytest.approx(np.abs(expected).max(), rel=1e-9)
    assert result.mean == pytest.approx(np.log(result.radii).mean()) and result.size == 5
    assert result.spread == pytest.approx(np.log(result.radii).std(ddof=1))
    # The product of the steps that the run takes, in NumPy, orthonormalised step by step.
    vectors, logs = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0], []
    matrix_of = jax.jit(lambda key: StateOperator(game, UPDATE, state, key).as_matrix())
    for step in range(600):
        vectors, triangle = np.linalg.qr(np.asarray(matrix_of(jax.random.fold_in(KEYS[0], step))) @ vectors)
        logs.append(np.log(np.abs(np.diag(triangle))))
    np.testing.assert_allclose(result.exponents.exponents, np.mean(logs[200:], axis=0), atol=1e-6)
    assert abs(result.mean - result.exponents.exponents[0]) > 0.05  # one is not the other
    assert "4 minibatches" in result.describe()
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"keys": jax.random.key(0)}, TypeError, "keys is .* expected several random keys"),
        ({"keys": 3}, TypeError, "expected several random keys"),
        ({"leading": 0}, ValueError, "leading is 0"),
        ({"update": optax.sgd(0.1)}, TypeError, "update is .* expected one of dynamics.updates"),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    arguments = {"update": UPDATE, "at": (jnp.zeros(2), jnp.zeros(())), "keys": KEYS} | changes
    with pytest.raises(error, match=message):
        spectra_over_batches(Shaken(), **arguments)
