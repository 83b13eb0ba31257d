"""Eigenvalues inside of a spectrum, against LAPACK's and against those that are put in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import dynamics as dy
from dynamics.analysis import Leading
from dynamics.analysis.spectra import inverses
from dynamics.analysis.spectra.inverses import decomposed, nearest
from dynamics.analysis.spectra.krylov import krylov_schur
from dynamics.analysis.spectra.operators import Matrix


def similar(matrix, condition, seed=0):
    """The same eigenvalues, far from normal."""
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.standard_normal(matrix.shape))[0] for _ in range(2))
    change = left * np.geomspace(1, condition, len(matrix)) @ right
    return change @ matrix @ np.linalg.inv(change)


def disc(size, seed=0):
    return np.random.default_rng(seed).standard_normal((size, size)) / np.sqrt(size)


def distance(target):
    return lambda values: -np.minimum(np.abs(values - target), np.abs(values.conj() - target))


def seen(matrix, count, measure, products=60):
    return krylov_schur(Matrix(matrix), count, measure, key=jax.random.key(0), products=products)


@pytest.mark.slow_cases("0.3-1.0", "(0.4+0.5j)-1.0", "(0.2-0.01j)-1.0")
@pytest.mark.parametrize("condition", [1.0, 1e3])
@pytest.mark.parametrize("target", [0.3, 0.4 + 0.5j, 0.2 - 0.01j])
def test_nearest_to_a_point_inside_of_a_disc(target, condition):
    """Where Krylov's method on the matrix has converged to none of them."""
    matrix = jnp.asarray(similar(disc(120), condition))
    known = seen(matrix, 4, distance(target))
    assert not np.any(known.converged)
    pairs = nearest(Matrix(matrix), 4, target, known, key=jax.random.key(1))
    values = np.linalg.eigvals(matrix)
    expected = values[np.argsort(-distance(target)(values), kind="stable")][: len(pairs.values)]
    assert np.all(pairs.converged) and 4 <= len(pairs.values) <= 5
    np.testing.assert_allclose(np.sort_complex(pairs.values), np.sort_complex(expected), atol=1e-8)
    residuals = np.linalg.norm(np.asarray(matrix) @ pairs.vectors.T - pairs.vectors.T * pairs.values, axis=0)
    np.testing.assert_allclose(residuals, pairs.residuals, atol=1e-13)
    assert pairs.products >= known.products + 120


def test_a_target_that_is_an_eigenvalue_and_one_that_comes_twice():
    values = np.concatenate([[0.5, 0.5, 0.25], np.linspace(1.0, 3.0, 57)])
    matrix = jnp.asarray(similar(np.diag(values), 30.0))
    pairs = nearest(Matrix(matrix), 3, 0.5, seen(matrix, 3, distance(0.5), 30), key=jax.random.key(1))
    assert np.all(pairs.converged)
    np.testing.assert_allclose(np.sort(pairs.values.real), [0.25, 0.5, 0.5], atol=1e-9)


@pytest.mark.slow_cases("0.03")
@pytest.mark.parametrize("target", [0.03, 0.02 + 0.3j])
def test_without_the_matrix(monkeypatch, target):
    """By GMRES, where there is a gap; inside of a disc it does not get there, and says so."""
    monkeypatch.setattr(inverses, "WRITTEN", 10)
    slow = scipy.linalg.block_diag(0.05, -0.1, np.array([[0.0, 0.3], [-0.3, 0.0]]), np.array([[0.1, 0.5], [-0.5, 0.1]]))
    bulk = np.random.default_rng(1).uniform(1.0, 2.0, 114) * np.sign(np.arange(114) - 40.5)
    matrix = jnp.asarray(similar(scipy.linalg.block_diag(slow, np.diag(bulk)), 10.0))
    values = np.linalg.eigvals(matrix)
    pairs = nearest(Matrix(matrix), 2, target, seen(matrix, 2, distance(target), 30), key=jax.random.key(1))
    expected = values[np.argsort(-distance(target)(values), kind="stable")][: len(pairs.values)]
    assert np.all(pairs.converged)
    np.testing.assert_allclose(np.sort_complex(pairs.values), np.sort_complex(expected), atol=1e-8)
    monkeypatch.setattr(inverses, "INNER", 20)
    matrix = jnp.asarray(disc(120))
    pairs = nearest(Matrix(matrix), 2, target, seen(matrix, 2, distance(target)), key=jax.random.key(1), products=400)
    assert not np.any(pairs.converged) and pairs.products < 800


def test_all_eigenvalues_of_a_small_matrix():
    """Real ones, pairs, a double one, and a Jordan block, whose vectors are one."""
    random = np.random.default_rng(2)
    blocks = [np.array([[-d, w], [-w, -d]]) for d, w in zip(random.uniform(0.1, 1, 30), random.uniform(0, 3, 30))]
    matrix = similar(scipy.linalg.block_diag(-0.01, -0.02, -0.02, *blocks), 20.0)
    for count in (3, 6):
        known = seen(jnp.asarray(matrix), count, np.real, 40)
        pairs = decomposed(Matrix(jnp.asarray(matrix)), count, np.real, known)
        expected = np.sort(np.linalg.eigvals(matrix).real)[::-1][: len(pairs.values)]
        np.testing.assert_allclose(np.sort(pairs.values.real)[::-1], expected, atol=1e-10)
        assert np.all(pairs.converged) and len(pairs.values) >= count
    jordan = scipy.linalg.block_diag(np.array([[-0.01, 1.0], [0.0, -0.01]]), *blocks)
    known = seen(jnp.asarray(jordan), 2, np.real, 40)
    pairs = decomposed(Matrix(jnp.asarray(jordan)), 2, np.real, known)
    assert np.all(np.abs(pairs.values[pairs.converged] + 0.01) < 1e-6)


def game_of(matrix):
    half = len(matrix) // 2
    blocks = [[matrix[:half, :half], matrix[:half, half:]], [matrix[half:, :half], matrix[half:, half:]]]
    symmetric = [
        [block if i != j else (block + block.T) / 2 for j, block in enumerate(row)] for i, row in enumerate(blocks)
    ]
    return dy.games.Quadratic(symmetric)


@pytest.mark.slow_cases("flow")
@pytest.mark.parametrize("method", ["flow", pytest.param("map", marks=pytest.mark.slow)])
def test_reports_of_the_nearest(method):
    """Of a step and of a flow: the eigenvalues of the dense Jacobian, and no verdict beyond what they say."""
    game = game_of(disc(100, seed=4))
    rates = optax.sgd(0.1)
    method = dy.flows.Flow() if method == "flow" else dy.updates.Simultaneous(rates, rates)
    dense = dy.stability(game, method, order="linear").eigenvalues
    centre = np.mean(dense.real) + 0.05j * np.ptp(dense.imag)
    report = dy.stability(game, method, leading=Leading(3, target=complex(centre), conditions=True))
    expected = dense[np.argsort(-distance(centre)(dense), kind="stable")][: len(report.eigenvalues)]
    np.testing.assert_allclose(np.sort_complex(report.eigenvalues), np.sort_complex(expected), atol=1e-7)
    assert np.all(report.converged) and np.all(np.isfinite(report.errors)) and np.isinf(report.others)
    assert str(report.verdict) != "stable"
    again = dataclasses.replace(Leading(3), target=complex(centre))
    assert np.all(dy.stability(game, method, leading=again).errors > 0)
