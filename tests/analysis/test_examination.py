"""One method at one equilibrium, everything in one call."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.updates import Alternating, Simultaneous


def twice(optimiser, turns=Simultaneous):
    return turns(optimiser, optimiser)


def test_a_flow_told_in_full():
    found = dy.examine(dy.games.TimescaleQuadratic(), dy.flows.Flow(rates=(1.0, 3.0)))
    assert found.stability.verdict == "stable" and found.classification.flow == "unstable"
    assert found.timescale.value == pytest.approx(2)
    assert found.growth.growth > 1 and found.kreiss.constant <= found.growth.growth
    text = found.describe()
    for part in ("abscissa -1,", "-1 +- 4.7958315i; 25% player 0, 75% player 1", "strict local minimax, not Nash",
                 "stable for every ratio above 2", "50 % rotation", "growth up to 2.2"):  # fmt: skip
        assert part in text, part
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["verdict"] == "stable" and data["timescale"]["value"] == pytest.approx(2)
    assert data["classification"]["nash"] == "no" and data["growth"]["growth"] == pytest.approx(found.growth.growth)


@pytest.mark.slow
def test_what_cannot_be_told_is_left_out():
    """A rotating game has no threshold, an unstable point no transient, a single player no time scales."""
    found = dy.examine(dy.games.Bilinear([[1.0, 0.2], [0.0, 2.0]]), twice(optimisers.sgd(0.1)))
    assert found.timescale is None and found.growth is None and "before that" not in found.describe()
    alone = dy.examine(dy.Game.from_losses(lambda p, key=None: (p[0] ** 2 / 2,), [(0.0,)]), dy.flows.Flow())
    assert alone.timescale is None and alone.classification.nash == "yes"
    assert "two time scales" not in alone.describe()


@pytest.mark.slow
def test_transients_are_told_of_one_isolated_smooth_map_only():
    """Not of memory that stays where it is put, and not of one piece of a kinked map; a player may be empty."""

    def quadratic(players, key=None):
        return players[0] ** 2 / 2, 0 * players[0]

    def kinked(players, key=None):
        x = players[0]
        return jnp.where(x >= 0, x**2 / 2, 1.5 * x**2), 0 * x

    amsgrad = dy.Optimiser(optax.amsgrad, 0.2, b1=0.0, eps=2.0)
    for losses, optimiser in ((quadratic, amsgrad), (kinked, optimisers.sgd(0.1))):
        found = dy.examine(dy.Game.from_losses(losses, [(0.0, ())]), twice(optimiser))
        assert found.stability.verdict == "stable"
        assert found.growth is None and found.kreiss is None and found.distance is None
        assert np.all(found.alignment.fractions[:, 1] == 0)


@pytest.mark.slow
def test_adam_is_told_as_adam():
    """The memory's own eigenvalues are shown as the memory's; nearly a sign is stiff, not a jump."""
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    found = dy.examine(game, twice(optimisers.adam(1e-3, 0.5), Alternating))
    assert found.stability.smoothness == "stiff" and "100% memory" in found.describe()
    assert any("learning rate / eps" in note for note in found.stability.notes)
    assert not any("jumps" in note for note in found.stability.notes)
    noisy = dy.examine(game, twice(optimisers.adam(1e-3, 0.5), Alternating), gradient_noise=0.1)
    assert noisy.stability.verdict == "stable" and np.isfinite(noisy.growth.growth)
