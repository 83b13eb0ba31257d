"""Points at which a verdict is easily wrong: kinks of any scale, jumps, flat directions, fields that look like 0."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics.analysis import EquilibriumError
from dynamics.flows import Flow
from dynamics.updates import Averaged, Simultaneous

single = np.float32


def game(*losses):
    return dy.Game.from_losses(lambda players, key=None: tuple(loss(*players) for loss in losses))


def kink(x):
    """Repels on the left, attracts on the right."""
    return jnp.where(x >= 0, x**2 / 2, -(x**2) / 2)


def descent(rate, players=1):
    return Simultaneous(*[optax.sgd(rate)] * players)


@pytest.mark.parametrize(
    "losses, method",
    [
        ([kink], descent(1e-5)),
        ([lambda x: 1e-5 * kink(x)], Flow()),
        ([lambda x, y: kink(x), lambda x, y: 1e5 * y**2 / 2], Flow()),
        ([kink], Averaged(descent(0.1), 0.9)),
    ],
    ids=["small rate", "small loss", "beside a stiff player", "in the memory"],
)
def test_a_kink_is_seen_at_every_scale(losses, method):
    report = dy.stability(game(*losses), method, (0.0,) * len(losses))
    assert report.smoothness == "kinked" and report.verdict == "unstable"


def test_a_kink_beside_a_manifold_does_not_decide():
    report = dy.stability(game(lambda x, y: kink(x), lambda x, y: 0 * y), Flow(), (0.0, 0.0))
    assert report.verdict == "marginal" and report.manifold_dimension == 1


class Jump(dy.directions.Direction):
    """sign(x) - 2x: repels at 0, although its slope on either side is -2."""

    def __call__(self, game, players, key=None):
        return (jnp.sign(players[0]) - 2 * players[0],)


@pytest.mark.parametrize(
    "method, motion",
    [(Flow(Jump()), "escaping"), (Simultaneous(optax.lion(0.1, weight_decay=0.1)), "sliding")],
    ids=["field", "sign of the gradient"],
)
def test_slopes_beside_a_jump_do_not_decide(method, motion):
    report = dy.stability(game(lambda x: x**2), method, (0.0,))
    assert report.smoothness == "discontinuous" and report.verdict == "unstable" and report.sliding.motion == motion


def test_a_manifold_of_the_game_that_the_method_does_not_rest_on():
    """LOLA moves along the line of equilibria, away from it: its eigenvalue there is no 0."""
    pair = game(lambda x, y: (x + y) ** 2 / 2 - y**2 / 2, lambda x, y: (x + y) ** 2 / 2)
    report = dy.stability(pair, Flow(dy.directions.LOLA(0.1)), (0.0, 0.0))
    assert report.verdict == "unstable" and report.manifold_dimension == 1 and report.neutral == 0
    assert any("does not rest" in note for note in report.notes)


@pytest.mark.parametrize(
    "loss, dtype, verdict",
    [
        (lambda x: -(x**10) / 10, float, "marginal"),
        (lambda x: -1e-12 * x**4, float, "unstable"),
        (lambda x: -1e-6 * x**4, single, "unstable"),
    ],
)
def test_flat_directions_are_no_manifolds(loss, dtype, verdict):
    flat = game(lambda x, y: loss(x), lambda x, y: y**2 / 2)
    report = dy.stability(flat, Flow(), (dtype(0), dtype(0)))
    assert report.verdict == verdict and report.manifold_dimension == 0
    assert dy.stability(flat, Flow(), (dtype(0), dtype(0)), order="linear").verdict == "marginal"


@pytest.mark.slow_cases("1000000000000.0")
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_what_is_an_equilibrium_does_not_depend_on_the_scale(scale):
    saddle = dy.ZeroSum(lambda x, y: scale * (x**2 / 2 + x * y - y**2 / 2))
    assert dy.stability(saddle, Flow(), (0.0, 0.0)).verdict == "stable"
    with pytest.raises(EquilibriumError, match="is no equilibrium"):
        dy.stability(saddle, Flow(), (1.0, 1.0))
    general = game(lambda x, y: scale * (x**2 / 2 + 3 * y), lambda x, y: scale * (y**2 / 2 - x * y))
    assert dy.classify(general, (0.0, 0.0)).minimax == "no"


def test_a_point_that_does_not_rest_is_said_to_be_none():
    report = dy.stability(game(lambda x: x**2), descent(0.1), (3.0,), require_equilibrium=False)
    assert any("is no equilibrium of the game" in note for note in report.notes)


@pytest.mark.slow
def test_kinks_are_undecided_for_time_scales_and_concepts():
    pair = game(lambda x, y: 2 * kink(x) + x * y, lambda x, y: y**2 / 2 - x * y)
    assert dy.stability(pair, Flow(), (0.0, 0.0)).smoothness == "kinked"
    with pytest.raises(EquilibriumError, match="the field is kinked"):
        dy.timescale_threshold(pair, (0.0, 0.0))
    found = dy.classify(pair, (0.0, 0.0))
    assert found.nash == "undecided" and "kinked" in found.kind


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1.0, 1e13])
def test_thresholds_of_players_of_very_unequal_scales(scale):
    """Stable iff tau > 0.5 / scale."""
    pair = game(lambda x, y: -0.25 * x**2 + x * y, lambda x, y: scale * (y**2 / 2 - x * y))
    assert dy.timescale_threshold(pair, (0.0, 0.0)).value == pytest.approx(0.5 / scale, rel=1e-9)


def test_a_threshold_hidden_by_rounding_is_undecided():
    tiny = game(lambda x, y: -(x**2) / 2 + 10 * x * y, lambda x, y: 1e-10 * y**2 / 2 - 10 * x * y)
    found = dy.timescale_threshold(tiny, (0.0, 0.0))  # in truth 1e10
    assert np.isnan(found.value) and found.undecided and "undecided" in found.describe()


def test_large_numbers_in_single_precision_are_finite():
    steep = dy.ZeroSum(lambda x, y: 1e10 * (x**2 / 2 + x * y - y**2 / 2))
    assert dy.stability(steep, Flow(), (single(0), single(0))).verdict == "stable"
    adam = Simultaneous(dy.optimisers.adam(1e-3, eps=1e-13))
    assert dy.stability(game(lambda x: x**2), adam, (single(0),)).verdict == "unstable"


@pytest.mark.parametrize("point, dtype", [(300.0, single), (3e5, float)])
def test_coordinates_far_from_0_are_smooth(point, dtype):
    report = dy.stability(game(lambda x: -jnp.cos(x - point)), Flow(), (dtype(point),))
    assert report.smoothness == "smooth" and report.verdict == "stable"


def test_fading_weights_are_said_to_fade():
    report = dy.stability(game(lambda x: x**2), Averaged(descent(0.1)), (0.0,))
    assert any("no geometric rate" in note for note in report.notes)


def test_empty_players_singular_followers_and_half_precision():
    assert dy.classify(game(lambda x, y: x**2, lambda x, y: 0.0 * x), (0.0, ())).leaderships == ()
    singular = dy.ZeroSum(lambda x, y: x**2 / 2 + x * y[0] + y[0] ** 2 / 2)
    assert dy.classify(singular, (0.0, np.zeros(2))).minimax == "no"
    with pytest.raises(TypeError, match="dtype float16; equilibria and eigenvalues need float32"):
        dy.stability(game(lambda x: x**2), Flow(), (jnp.zeros((), jnp.float16),))
    with pytest.raises(ValueError, match="fast is 1.5; expected the number of a player"):
        dy.timescale_threshold(dy.games.Torus(), fast=1.5)
