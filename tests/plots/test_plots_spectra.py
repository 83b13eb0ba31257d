"""Pictures of pseudospectra, of transient growth and of the paths of eigenvalues: complete, and of any result."""

import numpy as np
import pytest
from test_plots import check_complete

import dynamics as dy
from dynamics import plots

MATRIX = {
    "flow": np.array([[-0.3, 6.0, 0.0], [-0.2, -0.3, 4.0], [0.0, 0.0, -0.5]]),
    "map": np.array([[0.5, 3.0, 0.0], [-0.1, 0.6, 1.0], [0.0, 0.0, 0.2]]),
}


@pytest.mark.parametrize("kind", MATRIX)
def test_pictures_are_complete(kind):
    result = dy.pseudospectrum(MATRIX[kind], points=21, kind=kind)
    figure = plots.pseudospectra(result)
    check_complete(figure)
    assert kind in figure.get_suptitle()
    dots = [c for c in figure.axes[0].collections if type(c).__name__ == "PathCollection"]
    assert sum(len(c.get_offsets()) for c in dots) == 3
    growth = dy.transient_growth(MATRIX[kind], kind=kind)
    figure = plots.transient(growth)
    check_complete(figure)
    assert f"{growth.growth:.4g}" in figure.get_suptitle()
    assert figure.axes[0].get_ylim()[1] > growth.growth


@pytest.mark.parametrize("kind", MATRIX)
def test_paths_are_complete(kind):
    parameters = np.linspace(0, 1, 20)
    eigenvalues = np.stack([0.5 + 1j * parameters, 0.5 - 1j * parameters], axis=1)
    eigenvalues[3, 0] = np.nan
    figure = plots.eigenvalue_path(parameters, eigenvalues, kind, "$weight_")
    check_complete(figure)
    figure.canvas.draw()
    points = [c for c in figure.axes[0].collections if len(c.get_offsets()) == 20]
    assert len(points) == 2
    np.testing.assert_array_equal(points[1].get_offsets()[:, 1], -parameters)


def test_extreme_results_are_drawn():
    check_complete(plots.pseudospectra(dy.pseudospectrum([[0.0]], points=5, kind="map")))
    check_complete(plots.pseudospectra(dy.pseudospectrum(np.diag([-1.0, -1e6]), points=5, epsilons=(), kind="flow")))
    for matrix, kind in (([[0.0, 1.0], [0.0, 0.0]], "map"), ([[0.0]], "map"), ([[0.0]], "flow"), ([[-1.0]], "flow")):
        check_complete(plots.transient(dy.transient_growth(matrix, kind=kind)))


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="the growth has no bound"):
        plots.transient(dy.transient_growth([[1.0]], kind="flow"))
    with pytest.raises(ValueError, match=r"expected \(samples,\) and \(samples, number\)"):
        plots.eigenvalue_path(np.zeros(3), np.zeros((2, 2)), "map")
    with pytest.raises(ValueError, match="expected 'map' or 'flow'"):
        plots.eigenvalue_path(np.zeros(2), np.zeros((2, 2)), "ode")
