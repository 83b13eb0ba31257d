"""Two time scales against the published formula and brute force; what kind of equilibrium a point is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from dynamics.analysis import EquilibriumError


def duplication(size):
    """vec(X) = D vech(X) for symmetric X."""
    rows, columns = np.tril_indices(size)
    matrix = np.zeros((size * size, len(rows)))
    for k, (i, j) in enumerate(zip(rows, columns)):
        matrix[i * size + j, k] = matrix[j * size + i, k] = 1
    return matrix


def fiez_ratliff(a11, a12, a22):
    """tau* of a strict local minimax point, J_tau = [[A11, A12], [-tau A12', tau A22]] (stable if Re > 0)."""
    n1, n2 = len(a11), len(a22)
    a21, inverse = -a12.T, np.linalg.inv(a22)
    schur = a11 - a12 @ inverse @ a21
    d1, d2 = duplication(n1), duplication(n2)
    p1, p2 = np.linalg.pinv(d1), np.linalg.pinv(d2)

    def lyapunov(x, d, p):
        return p @ (np.kron(x, np.eye(len(x))) + np.kron(np.eye(len(x)), x)) @ d

    left = np.hstack([np.kron(a12, inverse) @ d2, np.kron(np.eye(n1), inverse @ a21) @ d1])
    middle = np.block(
        [
            [np.linalg.inv(lyapunov(a22, d2, p2)), np.zeros((d2.shape[1], d1.shape[1]))],
            [np.zeros((d1.shape[1], d2.shape[1])), -np.linalg.inv(lyapunov(schur, d1, p1))],
        ]
    )
    right = np.vstack([p2 @ np.kron(a21, np.eye(n2)), p1 @ np.kron(schur, a12 @ inverse)])
    values = np.linalg.eigvals(-np.kron(a11, inverse) + 2 * left @ middle @ right)
    real = values.real[np.abs(values.imag) < 1e-9 * (1 + np.abs(values))]
    return max(0.0, real.max(initial=0.0))


def random_minimax(rng, n1, n2):
    """A zero-sum quadratic game with a strict local minimax point that need not be Nash."""
    while True:
        a12, root = rng.normal(size=(n1, n2)), rng.normal(size=(n2, n2))
        a22 = root @ root.T + 0.1 * np.eye(n2)
        symmetric = rng.normal(size=(n1, n1))
        a11 = (symmetric + symmetric.T) / 2
        if np.linalg.eigvalsh(a11 + a12 @ np.linalg.inv(a22) @ a12.T).min() > 0.05:
            return a11, a12, a22


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (3, 2), (1, 4), (4, 1), (3, 3)])
def test_published_formula_for_players_of_unequal_sizes(sizes):
    rng = np.random.default_rng(sum(sizes) + 7 * sizes[0])
    positive = 0
    for _ in range(5):
        a11, a12, a22 = random_minimax(rng, *sizes)
        found = dy.timescale_threshold(dy.games.Quadratic.zero_sum(a11, a12, a22))
        expected = fiez_ratliff(a11, a12, a22)
        np.testing.assert_allclose(found.value, expected, rtol=1e-6, atol=1e-9)
        assert found.exact
        positive += expected > 0
    assert positive, "no example with a threshold"


def unstable(jacobian, sizes, ratio, fast):
    rates = np.repeat([ratio if player in fast else 1.0 for player in range(len(sizes))], sizes)
    return int(np.sum(np.linalg.eigvals(rates[:, None] * jacobian).real > 0))


@pytest.mark.parametrize("fast", [(1,), (0,), (2,), (0, 2)])
@pytest.mark.slow_cases("fast0", "fast1", "fast3")
def test_all_crossings_of_general_sum_games_of_three_players(fast):
    """Between neighbouring crossings nothing changes, across them something does."""
    sizes, seen = (2, 1, 2), 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        blocks = [[rng.normal(size=(a, b)) for b in sizes] for a in sizes]
        blocks = [[(b + b.T) / 2 + 0.2 * np.eye(len(b)) if i == j else b for j, b in enumerate(row)]
                  for i, row in enumerate(blocks)]  # fmt: skip
        jacobian = -np.block(blocks)
        found = dy.timescale_threshold(dy.games.Quadratic(blocks), fast=fast)
        ratios = [one.ratio for one in found.crossings]
        seen += len(ratios)
        counts = [unstable(jacobian, sizes, ratio, fast) for ratio in np.geomspace(1e-5, 1e5, 2000)]
        assert len(ratios) == np.count_nonzero(np.diff(counts))
        for one in found.crossings:
            below, above = (unstable(jacobian, sizes, one.ratio * (1 + e), fast) for e in (-1e-6, 1e-6))
            assert (below, above) == (one.unstable_below, one.unstable_above) and below != above
        ends = [(low, high) for low, high in found.stable]
        for ratio, count in zip(np.geomspace(1e-5, 1e5, 300), [
            unstable(jacobian, sizes, ratio, fast) for ratio in np.geomspace(1e-5, 1e5, 300)]):  # fmt: skip
            assert any(low < ratio < high for low, high in ends) == (count == 0)
    assert seen


def test_published_games():
    found = dy.timescale_threshold(dy.games.TimescaleQuadratic())
    assert found.value == pytest.approx(2.0, rel=1e-12) and found.frequency == pytest.approx(4.0, rel=1e-9)
    torus, pi = dy.games.Torus(), np.pi
    assert dy.timescale_threshold(torus).value == pytest.approx(0.85 / 1.15, rel=1e-12)
    assert dy.timescale_threshold(torus, at=(pi, pi)).value == pytest.approx(1.15 / 0.85, rel=1e-12)
    for weight in (0.3, 1.0):
        dirac = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
        assert dy.timescale_threshold(dirac).value == 0
    # Stable only while player 1 is slow enough: no threshold above which all is well.
    forsaken = dy.timescale_threshold(dy.games.Forsaken())
    assert np.isinf(forsaken.value) and len(forsaken.stable) == 1 and forsaken.stable[0][0] == 0
    assert forsaken.to_dict()["value"] is None and "no ratio is large enough" in forsaken.describe()


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.05, 3))
@pytest.mark.slow
def test_two_scalars_in_closed_form(own, coupling, other):
    """f = a x^2/2 + b x y - c y^2/2: stable iff tau c + a > 0 when a c + b^2 > 0."""
    if own * other + coupling**2 < 1e-3:
        return
    found = dy.timescale_threshold(dy.games.PlanarQuadratic(own, coupling, other))
    assert found.value == pytest.approx(max(0.0, -own / other), rel=1e-9, abs=1e-12)


def test_several_stable_intervals():
    """Stable for small and for large ratios, unstable in between; found by a search over seeds."""
    found = np.random.default_rng(190).normal(size=(4, 4))
    for own in (slice(0, 2), slice(2, 4)):
        found[own, own] = (found[own, own] + found[own, own].T) / 2 - 0.3 * np.eye(2)
    blocks = [[-found[:2, :2], -found[:2, 2:]], [-found[2:, :2], -found[2:, 2:]]]
    result = dy.timescale_threshold(dy.games.Quadratic(blocks))
    assert len(result.stable) == 2 and result.stable[0][0] == 0 and np.isinf(result.stable[1][1])
    assert result.value == result.stable[1][0] == result.crossings[-1].ratio


def test_a_manifold_of_equilibria_does_not_count():
    """f = x0 y with a player 0 of two parameters: the second one is free."""
    game = dy.games.Quadratic.zero_sum(np.diag([-0.3, 0.0]), np.array([[1.0], [0.0]]), np.array([[0.5]]))
    assert dy.timescale_threshold(game).value == pytest.approx(0.6, rel=1e-9)


def test_large_games_are_searched_on_a_grid(monkeypatch):
    from dynamics.analysis.bifurcation import timescale

    exact = dy.timescale_threshold(dy.games.TimescaleQuadratic())
    monkeypatch.setattr(timescale, "EXACT_SIZE", 1)
    searched = dy.timescale_threshold(dy.games.TimescaleQuadratic())
    assert not searched.exact and searched.value == pytest.approx(exact.value, rel=1e-9)


def test_refused():
    with pytest.raises(EquilibriumError, match="purely rotating"):
        dy.timescale_threshold(dy.games.Bilinear([[1.0, 0.2], [0.0, 2.0]]))
    with pytest.raises(ValueError, match=r"fast is \(2,\); expected some of the players 0 to 1"):
        dy.timescale_threshold(dy.games.Torus(), fast=2)
    with pytest.raises(ValueError, match="not all of them"):
        dy.timescale_threshold(dy.games.Torus(), fast=(0, 1))
    with pytest.raises(EquilibriumError, match="no equilibrium"):
        dy.timescale_threshold(dy.games.Torus(), at=(0.3, 0.1))


# What kind of equilibrium


def test_published_points():
    attractor = dy.games.SpuriousAttractor()
    kinds = [dy.classify(attractor, at=point).kind for point in attractor.equilibria()]
    assert kinds[0] == "strict local Nash"
    assert kinds[1] == "stable for the gradient flow, but neither Nash nor minimax (spurious)"
    assert kinds[2] == "neither Nash nor minimax, unstable for the gradient flow"
    torus = dy.games.Torus()
    near, far = (dy.classify(torus, at=point) for point in ((0.0, 0.0), (np.pi, np.pi)))
    assert near.kind == "strict local minimax, not Nash" and near.flow == "stable"
    assert far.kind == "strict local minimax, not Nash, unstable for the gradient flow"
    assert dy.classify(torus, at=(np.pi, np.pi), rates=(1.0, 1.4)).flow == "stable"
    forsaken = dy.classify(dy.games.Forsaken())
    assert forsaken.nash == "no" and forsaken.minimax == "no" and forsaken.flow == "stable"


@pytest.mark.slow
def test_eleven_points_of_the_polynomial_game():
    """One strict Nash point, and two strict minimax points besides it (Fiez and Ratliff 2021)."""
    game = dy.games.PolynomialGame()
    found = [dy.classify(game, at=point) for point in game.equilibria()]
    assert [one.nash == "yes" for one in found].count(True) == 1
    assert [one.minimax == "yes" for one in found].count(True) == 3


def test_jins_example_and_the_schur_complement():
    """f = -x^2 + 5xy - y^2: minimax with Schur complement 10.5, no Nash point (in the Hessian's normalisation)."""
    found = dy.classify(dy.ZeroSum(lambda x, y: -(x**2) + 5 * x * y - y**2, [(0.0, 0.0)]))
    assert found.kind.startswith("strict local minimax, not Nash")
    assert found.leaderships[0].margin == pytest.approx(10.5) and found.own_margins == pytest.approx((-2, 2))
    assert found.zero_sum


def test_schur_complement_of_players_of_unequal_sizes():
    a11, a12, a22 = random_minimax(np.random.default_rng(3), 2, 3)
    found = dy.classify(dy.games.Quadratic.zero_sum(a11, a12, a22))
    schur = a11 + a12 @ np.linalg.inv(a22) @ a12.T
    assert found.leaderships[0].margin == pytest.approx(np.linalg.eigvalsh(schur).min())
    reverse = -(-a22 - a12.T @ np.linalg.inv(a11) @ a12)
    assert found.leaderships[1].margin == pytest.approx(np.linalg.eigvalsh(reverse).min())


@pytest.mark.slow
def test_the_reverse_nash_but_unstable():
    """Own Hessians 1 and 1, a coupling that multiplies disturbances: general-sum games have such points."""
    found = dy.classify(dy.games.Quadratic([[1.0, 3.0], [2.0, 1.0]]))
    assert found.kind == "strict local Nash, unstable for the gradient flow" and not found.zero_sum
    three = dy.classify(dy.games.Quadratic([[1.0, 3.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.1, 2.0]]))
    assert three.nash == "yes" and three.flow == "unstable" and three.leaderships == ()
    assert three.own_margins == pytest.approx((1, 1, 2))


def test_stackelberg_points_of_general_sum_games():
    """The leader's total derivative by hand; an equilibrium where it does not vanish is no Stackelberg point."""
    # L0 = x^2/2 - 2xy + c y, L1 = y^2/2 - xy: r(x) = x, L0(x, r(x)) = -3/2 x^2 + c x.
    game = dy.games.Quadratic([[1.0, -2.0], [-1.0, 1.0]])
    found = dy.classify(game)
    assert found.leaderships[0].margin == pytest.approx(-3) and found.minimax == "no" and found.nash == "yes"

    def losses(players, key=None):
        x, y = players
        return x**2 / 2 + y, y**2 / 2 - x * y

    shifted = dy.classify(dy.Game.from_losses(losses, [(0.0, 0.0)]))
    assert shifted.leaderships[0].total_gradient == pytest.approx(1) and shifted.minimax == "no"


@pytest.mark.slow
def test_losses_that_are_flat_leave_strictness_undecided():
    found = dy.classify(dy.games.DiracGAN())
    assert found.nash == "undecided" and found.minimax == "undecided"
    assert found.kind == "local Nash but flat"
    assert "undecided" in found.describe() and found.to_dict()["leaderships"][0]["answer"] == "undecided"


def test_classification_in_float32():
    game = dy.games.SpuriousAttractor()
    point = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), game.equilibria()[0])
    assert dy.classify(game, at=point).kind == "strict local Nash"
