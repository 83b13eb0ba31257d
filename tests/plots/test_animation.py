"""Runs in motion: every frame shows the run so far, and the file holds all of them."""

import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
import pytest

import dynamics as dy
from dynamics import plots
from dynamics.plots import _animation


def planar(**options):
    game, start = dy.games.Bilinear(1.0), (1.0, 0.5)
    update = dy.updates.Alternating(optax.sgd(0.2), optax.sgd(0.1))
    return dy.simulate(game, update, start, steps=12, **options)


def drawn(axes):
    """Coordinates of all lines of a panel."""
    return [np.asarray(line.get_xydata()) for line in axes.lines]


def test_two_numbers_losses_and_eigenvalues(tmp_path):
    run = planar()
    spectrum = np.exp(1j * np.linspace(0, 1, 13))[:, None] * [0.9, 1.1]
    animation = plots.animate(run, eigenvalues=spectrum, frames=4, seconds=2.0, title="Bilinear", subtitle="two rates")
    assert animation.frames == 4 and animation.rate == 2.0
    for frame, save in enumerate((0, 4, 8, 12)):
        plane, losses, eigenvalues = animation.show(frame).axes
        assert plane.texts[0].get_text() == f"step {save}"
        path = np.stack([run.players[0], run.players[1]], axis=1)
        np.testing.assert_allclose(drawn(plane)[-2], path[: save + 1], rtol=1e-6)
        np.testing.assert_allclose(drawn(losses)[1][:, 1], run.losses[1][: save + 1], rtol=1e-6)
        np.testing.assert_allclose(drawn(eigenvalues)[-1] @ [1, 1j], spectrum[save], rtol=1e-12)
    written = animation.save(tmp_path / "new" / "run.gif")
    with PIL.Image.open(written) as image:
        assert image.n_frames == 4
        first = np.asarray(image.convert("L"), int)
        image.seek(3)
        assert np.abs(np.asarray(image.convert("L"), int) - first).max() > 100


def test_clouds_of_particles():
    positions = np.cumsum(np.ones((9, 5, 2)), axis=0) + np.arange(5)[:, None]
    animation = plots.animate(positions, data=positions[-1] + 1, frames=3)
    for frame, save in enumerate((0, 4, 8)):
        (axes,) = animation.show(frame).axes
        np.testing.assert_array_equal(drawn(axes)[-1], positions[save])
    assert animation._repr_html_().startswith('<img src="data:image/gif;base64,')


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    run = planar()
    for make, words in (
        (lambda: plots.animate(planar(save_every="last")), "saved its end only"),
        (lambda: plots.animate(run, eigenvalues=np.ones((3, 2))), r"shape \(3, 2\); expected \(13, k\)"),
        (lambda: plots.animate(run, frames=1), "frames is 1"),
        (lambda: plots.animate(jnp.ones((3, 4))), r"expected a Run, or positions"),
        (lambda: plots.animate(np.zeros((3, 4, 2)), data=np.ones(3)), r"data has shape \(3,\)"),
        (lambda: plots.animate(run, frames=2).save(tmp_path / "run.png"), "ends with one of .gif, .mp4"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(IndexError, match="expected 0 to 1"):
        plots.animate(run, frames=2).show(2)
    monkeypatch.setattr(_animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(ValueError, match="ffmpeg is not there"):
        plots.animate(run, frames=2).save(tmp_path / "run.mp4")


@pytest.mark.slow
def test_many_numbers_are_lines():
    game, start = dy.games.Bilinear(np.array([[1.0, 0.2], [0.0, 0.7], [0.4, 0.1]])), (np.ones(3), np.ones(2))
    run = dy.simulate(game, dy.flows.Flow(), start, until=1.0, save_every=0.1)
    players, losses = plots.animate(run, frames=2).show(1).axes
    assert len(players.lines) == 5 and len(losses.lines) == 2 and players.texts[0].get_text() == "time 1"
