"""All that is asked of a matrix that is not normal, together: closed forms, reports of games, text, bad input."""

import json
import re

import numpy as np
import pytest
import scipy.linalg
from nonnormal_matrices import KINDS, smallest, stable

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import distance_to_instability


@pytest.mark.slow_cases("-0.01-0.5")
@pytest.mark.parametrize("a, b", [(-1.0, 8.0), (-0.2, 1.0), (-0.01, 0.5)])
def test_a_jordan_block_of_a_flow(a, b):
    matrix = np.array([[a, b], [0.0, a]])
    times = np.linspace(0, 6 / abs(a), 400_001)
    norms = np.exp(a * times) * (b * times / 2 + np.sqrt(1 + (b * times / 2) ** 2))
    found = dy.transient_growth(matrix, kind="flow")
    np.testing.assert_allclose(found.growth, norms.max(), rtol=1e-9)
    np.testing.assert_allclose(found.time, times[norms.argmax()], rtol=1e-3)
    assert found.growth <= found.bound <= 1.2 * found.growth
    x = np.geomspace(1e-6, 1e4, 400_001) * b
    quotients = x / ((np.sqrt(b**2 + 4 * (x - a) ** 2) - b) / 2)
    kreiss = dy.kreiss_constant(matrix, kind="flow")
    np.testing.assert_allclose(kreiss.constant, quotients.max(), rtol=1e-8)
    assert kreiss.constant <= kreiss.upper <= 1.0101 * kreiss.constant
    distance = distance_to_instability(matrix, kind="flow").distance
    np.testing.assert_allclose(distance, (np.sqrt(b**2 + 4 * a**2) - b) / 2, rtol=1e-9)
    np.testing.assert_allclose(dy.numerical_abscissa(matrix), a + b / 2, rtol=1e-12)


@pytest.mark.parametrize("a, b", [(0.5, 10.0), (0.9, -2.0), (0.9999, 1.0)])
def test_a_jordan_block_of_a_map(a, b):
    matrix = np.array([[a, b], [0.0, a]])
    k = np.arange(100_000)
    half = k * abs(b) / a / 2
    norms = a**k * (half + np.sqrt(1 + half**2))
    found = dy.transient_growth(matrix, kind="map")
    np.testing.assert_allclose(found.growth, norms.max(), rtol=1e-8)
    assert abs(found.time - norms.argmax()) <= (1 if found.time < 1000 else 20)
    assert found.growth <= found.bound
    x = np.geomspace(1e-7, 1e4, 400_001)
    quotients = x / ((np.sqrt(b**2 + 4 * (1 + x - a) ** 2) - abs(b)) / 2)
    np.testing.assert_allclose(dy.kreiss_constant(matrix, kind="map").constant, quotients.max(), rtol=1e-6)
    # Every point of the circle of radius |b| / 2 around a is in the numerical range.
    np.testing.assert_allclose(dy.numerical_radius(matrix), a + abs(b) / 2, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_normal_matrix_has_no_surprises(kind):
    rng = np.random.default_rng(1)
    values = (
        np.array([-0.3 + 2j, -0.3 - 2j, -0.7, -0.1]) if kind == "flow" else np.array([0.3 + 0.8j, 0.3 - 0.8j, 0.7, 0])
    )
    form = scipy.linalg.block_diag(
        [[values[0].real, values[0].imag], [-values[0].imag, values[0].real]], *values[2:].real
    )
    mix = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    matrix = mix @ form @ mix.T
    assert dy.kreiss_constant(matrix, kind=kind).constant == 1
    growth = dy.transient_growth(matrix, kind=kind)
    assert growth.growth == 1 and growth.time == 0 and "no transient growth" in growth.describe()
    outermost = -0.1 if kind == "flow" else np.sqrt(0.73)
    result = dy.pseudospectrum(matrix, points=21, epsilons=(0.01, 0.3), kind=kind)
    np.testing.assert_allclose(result.reach, [outermost + 0.01, outermost + 0.3], rtol=1e-8)
    np.testing.assert_allclose(result.distance, 0.1 if kind == "flow" else 1 - outermost, rtol=1e-9)
    z = result.real + 1j * result.imaginary[:, None]
    np.testing.assert_allclose(result.smallest, np.abs(z[..., None] - values).min(axis=-1), atol=1e-12)


@pytest.mark.slow
def test_turning_for_ever():
    """A centre with the half-axes 1 and 2 stretches by 2; equal half-axes stretch nothing."""
    centre = np.array([[0.0, 4.0], [-1.0, 0.0]])
    found = dy.transient_growth(centre, kind="flow")
    np.testing.assert_allclose(found.growth, 2, rtol=1e-9)
    assert "never decay" in found.notes[0]
    np.testing.assert_allclose(np.abs(found.initial), [0, 1], atol=1e-5)
    kreiss = dy.kreiss_constant(centre, kind="flow").constant
    assert 1 < kreiss < 2
    x = np.geomspace(1e-6, 100, 2001)
    y = np.linspace(0, 3, 301)
    brute = np.max(x / smallest(centre, x[:, None] + 1j * y).min(axis=1))
    np.testing.assert_allclose(kreiss, brute, rtol=1e-3)
    bilinear = dy.stability(dy.games.Bilinear(1.0), dy.flows.Flow())
    assert dy.kreiss_constant(bilinear).constant == dy.transient_growth(bilinear).growth == 1
    assert distance_to_instability(bilinear).distance == 0


@pytest.mark.parametrize(
    "matrix, kind",
    [
        ([[0.1, 0.0], [0.0, -1.0]], "flow"),
        ([[0.0, 1.0], [0.0, 0.0]], "flow"),
        ([[1.1]], "map"),
        ([[-1.0, 1.0], [0.0, -1.0]], "map"),
    ],
)
def test_growth_without_bound(matrix, kind):
    """Also of a Jordan block on the boundary, where no eigenvalue is outside."""
    assert dy.kreiss_constant(matrix, kind=kind).constant == np.inf
    growth = dy.transient_growth(matrix, kind=kind)
    assert growth.growth == np.inf and "without bound" in growth.describe()
    assert dy.pseudospectrum(matrix, points=3, kind=kind).distance == 0


@pytest.mark.slow
def test_a_report_and_its_bare_jacobian_are_the_same():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    update = dy.updates.Simultaneous(optimisers.momentum(0.2, 0.5), optimisers.sgd(0.1))
    report = dy.stability(game, update)
    assert dy.transient_growth(report).growth == dy.transient_growth(report.jacobian, kind="map").growth
    assert dy.kreiss_constant(report).constant == dy.kreiss_constant(report.jacobian, kind="map").constant


@pytest.mark.slow
def test_neutral_directions_are_left_out():
    """A manifold of equilibria through the plane of the others at an angle: only what is in the plane counts."""
    rng = np.random.default_rng(3)
    matrix, mix = stable(3, 2, "flow"), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    plane = mix[:, :2]  # invariant, orthonormal; the third direction is neutral, and not orthogonal to it
    mixed = np.concatenate([plane, mix[:, 2:] + 0.7 * plane[:, :1]], axis=1)
    jacobian = mixed @ scipy.linalg.block_diag(matrix, 0.0) @ np.linalg.inv(mixed)
    report = dy.stability(dy.games.Quadratic(-jacobian), dy.flows.Flow(), at=(0.0, 0.0, 0.0))
    assert report.neutral == 1
    for call in (dy.kreiss_constant, dy.transient_growth, distance_to_instability):
        found, wanted = call(report), call(matrix, kind="flow")
        name = {"Kreiss": "constant", "Growth": "growth", "Distance": "distance"}[type(found).__name__]
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-6)
    distance, growth = distance_to_instability(report), dy.transient_growth(report)
    assert dy.pseudospectrum(report, points=3).distance == distance.distance > 0
    moved = np.linalg.eigvals(report.jacobian + distance.perturbation)
    assert np.min(np.abs(moved - distance.point)) < 1e-7
    np.testing.assert_allclose(
        scipy.linalg.expm(growth.time * report.jacobian) @ growth.initial, growth.final, atol=1e-9
    )


def test_single_precision():
    """On the boundary of stability up to single precision is marginal, and grows no further."""
    game = dy.games.Bilinear(np.float32(1.0))
    report = dy.stability(game, dy.flows.Flow(), at=(np.float32(0), np.float32(0)))
    assert dy.transient_growth(report).growth == 1
    tilted = (report.jacobian + 1e-9 * np.eye(2)).astype(np.float32)
    assert np.isfinite(dy.kreiss_constant(tilted, kind="flow").constant)
    assert dy.kreiss_constant(tilted.astype(float), kind="flow").constant == np.inf


def test_results_as_text_and_data():
    matrix = stable(0, 3, "flow")
    for result, words in (
        (dy.kreiss_constant(matrix, kind="flow"), "Kreiss constant"),
        (dy.kreiss_constant(-matrix, kind="flow"), "infinite"),
        (dy.transient_growth(matrix, kind="flow"), "transient growth"),
        (distance_to_instability(matrix, kind="flow"), "distance to instability"),
        (dy.pseudospectrum(matrix, points=3, kind="flow"), "abscissa .* within 0.001"),
        (dy.potential_and_hamiltonian(matrix), "per cent rotation"),
        (dy.alignment(matrix, (2, 1), kind="flow"), "player 1"),
    ):
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert re.search(words, result.describe())


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: dy.kreiss_constant(np.eye(2)), ValueError, "kind is None; expected 'map' or 'flow'"),
        (lambda: dy.kreiss_constant(np.ones((2, 3)), kind="map"), ValueError, r"shape \(2, 3\); expected a square"),
        (lambda: dy.numerical_radius([[np.nan]]), ValueError, "not finite"),
        (lambda: dy.numerical_abscissa([[1j]]), TypeError, "expected real numbers"),
        (lambda: dy.pseudospectrum([[1.0]], 1, 0, kind="map"), ValueError, "lower left and its upper right"),
        (lambda: dy.pseudospectrum([[1.0]], points=1, kind="map"), ValueError, "points is 1"),
        (lambda: dy.pseudospectrum([[1.0]], epsilons=(0.0,), kind="map"), ValueError, "positive sizes"),
        (lambda: dy.alignment(np.eye(2), kind="map"), ValueError, "sizes is None"),
        (lambda: dy.alignment(np.eye(2), (2, 1), kind="map"), ValueError, r"sizes is \(2, 1\) for a Jacobian of 2"),
        (
            lambda: dy.kreiss_constant(dy.stability(dy.games.Bilinear(1.0), dy.flows.Flow()), kind="map"),
            ValueError,
            "the report is one of a flow",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
