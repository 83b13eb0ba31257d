"""Landscapes of discriminators, and the pictures of particles on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import plots
from dynamics.experiments.kernels import findings, kernels
from dynamics.function_space import Landscape, RetrainedKernelGAN, landscape
from dynamics.function_space.kernels import Gaussian
from dynamics.objectives import LeastSquares

DATA, PARTICLES = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([[-1.0, 0.5], [0.3, 0.0], [0.2, -0.4]])


def test_scores_and_velocities_over_the_plane():
    game = RetrainedKernelGAN(Gaussian(1.3), DATA, LeastSquares(), 1.5)
    players = (jnp.asarray(PARTICLES),)
    result = landscape(game, players, count=5, room=0.5)
    side = 3.4 / 2 * 2  # half of it: 0.5 + room, times the larger extent
    np.testing.assert_allclose(result.x, np.linspace(0.5 - side, 0.5 + side, 5))
    np.testing.assert_allclose(result.y, np.linspace(1.3 - side, 1.3 + side, 5))
    critic = game.discriminator(players)
    for row, column in ((0, 3), (4, 1), (2, 2)):
        place = np.array([result.x[column], result.y[row]])
        np.testing.assert_allclose(result.scores[row, column], critic(place), rtol=1e-12)
        steps = 1e-6 * np.eye(2)
        paid = [(critic(place + s) ** 2 / 2 - critic(place - s) ** 2 / 2) / 2e-6 for s in steps]
        np.testing.assert_allclose(result.velocities[row, column], [-p for p in paid], rtol=1e-6, atol=1e-10)
    with pytest.raises(ValueError, match="of the plane"):
        landscape(RetrainedKernelGAN(Gaussian(), DATA[:, :1]), (jnp.asarray(PARTICLES[:, :1]),))
    with pytest.raises(ValueError, match="count is 1"):
        landscape(game, players, count=1)


def test_pictures_of_particles(tmp_path):
    paths = np.linspace(0, 1, 4)[:, None, None] * PARTICLES
    places = np.linspace(-3, 3, 30)
    hills = Landscape(places, places, np.add.outer(places, places), np.ones((30, 30, 2)))
    plane = plots.particles(paths, DATA, hills, title="Paths")
    axes = plane.axes[0]
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), paths[-1])  # the end, on top
    assert axes.get_xlim() == (-3, 3) and len(axes.images) == 1
    numbers = plots.particles(paths[..., 0], DATA[:, 0], times=[0.0, 1.0, 2.0, 3.0])
    drawn = numbers.axes[0].lines[len(DATA) :]
    np.testing.assert_allclose([line.get_ydata()[-1] for line in drawn], PARTICLES[:, 0])
    for figure in (plane, numbers):
        assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="expected \\(times, n, 2\\)"):
        plots.particles(np.zeros((3, 4, 3)), np.zeros((2, 3)))


@pytest.mark.slow
def test_starts_of_the_comparison():
    comparison = kernels(points=16, speed=0.5)
    game, update, (start,) = comparison.variants["erf, hinge"](time=0.7, seed=jax.random.key(0))
    assert isinstance(game, RetrainedKernelGAN) and start.shape == game.data.shape == (16, 2)
    np.testing.assert_allclose(np.linalg.norm(game.data, axis=1), 2, atol=0.8)
    assert float(game.time) == 0.7 and update is not None
    measured = comparison.measures(game, (start,), (game.data,))
    assert measured["wasserstein"] == measured["share_left"] == 0 and abs(measured["energy"]) < 1e-12
    assert comparison.measures(game, (start,), (start,))["share_left"] == 1
    assert np.isnan(comparison.measures(game, (start,), (np.nan * start,))["wasserstein"])
    line = kernels(data="line").variants["sine, minimax"](time=1.0, seed=jax.random.key(1))
    assert sorted(np.ravel(line[0].data).tolist()) == pytest.approx([0.3, 0.9, 1.5, 1.845, 1.98])
    _, _, (start,) = kernels(data="heart", start="spiral", points=9).variants["erf, hinge"](1.0, jax.random.key(2))
    assert start.shape == (9, 2)
    pytest.importorskip("sklearn")
    digits, _, (start,) = kernels(data="digits", points=12).variants["erf, hinge"](time=1.0, seed=jax.random.key(3))
    assert digits.data.shape == start.shape == (12, 64) and digits.data.min() == -1
    wrongs = ({"points": 9}, {"time": -1.0}, {"speed": np.inf}, {"data": "heat"}, {"start": "gaussians"})
    for wrong in (*wrongs, {"start": "star", "data": "digits"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            kernels(**wrong)


def test_findings_claim_what_the_bars_allow():
    xarray = pytest.importorskip("xarray")
    near, far = np.array([0.1, 0.11, 0.09]), np.array([0.5, 0.52, 0.48])
    left = np.stack([far, near, np.array([0.05, 0.9, np.nan])])[:, None]
    names = ["ReLU, hinge", "erf, hinge", "sine, hinge"]
    dataset = xarray.Dataset({"share_left": (("variant", "time", "seed"), left)}, {"variant": names, "time": [1.0]})
    lines = findings(dataset)
    assert lines[0].startswith("hinge, share of W2 that is left: erf 10.0%") and "1 not finite" in lines[0]
    assert lines[1].endswith("do not overlap: erf from ReLU.")
