"""Potential and Hamiltonian part of a game's field."""

import asymmetric
import numpy as np
import pytest

import dynamics as dy


@pytest.mark.slow
def test_field_of_a_game_in_two_parts():
    game, by_hand = asymmetric.make(3), asymmetric.ByHand(3)
    z = np.linspace(-0.6, 0.8, 6)
    field = by_hand.jacobian(z)
    report = dy.stability(game, dy.flows.Flow(), at=asymmetric.start(3), require_equilibrium=False)
    parts = dy.potential_and_hamiltonian(report)
    np.testing.assert_allclose(parts.potential + parts.hamiltonian, field, atol=1e-12)
    np.testing.assert_allclose(parts.potential, parts.potential.T)
    np.testing.assert_allclose(parts.hamiltonian, -parts.hamiltonian.T)
    share = np.sum((field - field.T) ** 2) / np.sum((field - field.T) ** 2 + (field + field.T) ** 2)
    np.testing.assert_allclose(parts.rotation, share, rtol=1e-12)
    np.testing.assert_allclose(dy.potential_and_hamiltonian(report.blocks).rotation, share, rtol=1e-12)
    assert dy.potential_and_hamiltonian(dy.stability(dy.games.Bilinear(2.0), dy.flows.Flow())).rotation == 1
