"""How much of every eigenvector belongs to every player, against null vectors."""

import asymmetric
import numpy as np
import pytest

import dynamics as dy
from dynamics import optimisers


def test_every_player_has_its_share():
    game, by_hand = asymmetric.make(3), asymmetric.ByHand(3)
    z = np.linspace(-0.6, 0.8, 6)
    field = by_hand.jacobian(z)
    report = dy.stability(game, dy.flows.Flow(), at=asymmetric.start(3), require_equilibrium=False)
    rows = dy.alignment(report)
    np.testing.assert_allclose(rows.eigenvalues, report.eigenvalues, atol=1e-12)
    np.testing.assert_allclose(rows.fractions.sum(axis=1), 1)
    assert rows.names == ("player 0", "player 1", "player 2", "memory") and np.all(rows.fractions[:, 3] == 0)
    for value, shares in zip(rows.eigenvalues, rows.fractions):
        vector = np.linalg.svd(field - value * np.eye(6))[2][-1]
        parts = [np.sum(np.abs(vector[part]) ** 2) for part in by_hand.parts]
        np.testing.assert_allclose(shares[:3], parts, atol=1e-9)


@pytest.mark.slow
def test_memory_has_its_share():
    game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
    update = dy.updates.Simultaneous(optimisers.momentum(0.2, 0.5), optimisers.sgd(0.1))
    report = dy.stability(game, update)
    rows = dy.alignment(report)
    for value, shares in zip(rows.eigenvalues, rows.fractions):
        vector = np.linalg.svd(report.jacobian - value * np.eye(3))[2][-1]
        np.testing.assert_allclose(shares, np.abs(vector) ** 2, atol=1e-9)
    assert np.all(rows.fractions[:, 2] > 0) and "memory" in rows.describe()
    bare = dy.alignment(report.jacobian, (1, 1), kind="map")
    np.testing.assert_allclose(bare.fractions, rows.fractions)
