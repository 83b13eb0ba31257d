"""Pictures of samples and of trainings."""

import numpy as np
import pytest

from dynamics import plots
from dynamics.plots._training import _tiled
from dynamics.training import Ending, Training


def test_images_are_in_their_places():
    images = np.full((3, 1, 2, 2), -1.0)
    images[1, 0, 0, 1] = 1
    canvas = _tiled(images, 2)
    assert canvas.shape == (7, 7) and canvas.sum() == 1 and canvas[1, 5] == 1
    assert _tiled(np.zeros((1, 3, 2, 2)), 1).shape == (4, 4, 3)


@pytest.mark.parametrize("shape", [(40, 2), (9, 1, 8, 8), (70, 3, 8, 8)])
@pytest.mark.parametrize("with_real", [False, True])
def test_samples_are_drawn(shape, with_real, tmp_path):
    values = np.random.default_rng(0).normal(size=shape)
    figure = plots.samples(values, values[::-1] if with_real else None, centres=[[0.0, 1.0]], title="$t$")
    assert plots.save(figure, tmp_path / "samples.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "fake, real", [(np.zeros(3), None), (np.zeros((3, 4)), None), (np.zeros((3, 2)), np.zeros((3, 1, 8, 8)))]
)
def test_samples_of_no_known_shape(fake, real):
    with pytest.raises(ValueError, match="expected points, shape"):
        plots.samples(fake, real)


def test_losses_and_metrics_are_drawn():
    steps = np.arange(4)
    metrics = {"falls": 10.0**-steps, "unknown": np.full(4, np.nan), "level": np.ones(4)}
    result = Training(None, None, 3, Ending.finished, steps, np.stack([steps, -steps], axis=1).astype(float), metrics)
    figure = plots.training(result, title="t")
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["losses", *metrics] and len(panels["losses"].lines) == 2
    assert panels["falls"].get_yscale() == "log" and panels["level"].get_yscale() == "linear"
    np.testing.assert_array_equal(panels["falls"].lines[0].get_ydata(), metrics["falls"])
