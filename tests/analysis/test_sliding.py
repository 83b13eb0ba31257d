"""Jumps of fields and maps, against closed forms of Filippov's solutions, regularised fields and simulated maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.analysis import EquilibriumError, find_pseudo_equilibrium, sliding
from dynamics.analysis.stability.sliding import NotSliding, jump_at
from dynamics.flows import Flow
from dynamics.game import Game
from dynamics.games import DiracGAN
from dynamics.optimisers import sgd
from dynamics.penalties import WGANGP
from dynamics.scalars import safe_norm
from dynamics.updates import Alternating, Simultaneous


def relay(matrix, drive, row):
    """x' = A x - b sign(c x)."""
    return lambda x: jnp.asarray(matrix) @ x - jnp.asarray(drive) * jnp.sign(jnp.asarray(row) @ x)


def equivalent(matrix, drive, row):
    """Eigenvalues of the sliding field of a relay, by Utkin's projection: A - b c A / (c b), without the 0 across."""
    projected = matrix - np.outer(drive, row @ matrix) / (row @ drive)
    values = np.linalg.eigvals(projected)
    return np.delete(values, np.argmin(np.abs(values)))


def ordered(values):
    return np.sort_complex(np.round(np.asarray(values, complex), 9))


@pytest.mark.parametrize("seed", range(6))
def test_relay_slides_as_its_closed_form(seed):
    rng = np.random.default_rng(seed)
    matrix, drive, row = rng.normal(size=(3, 3)), rng.normal(size=3), rng.uniform(0.5, 1.5, 3)
    drive *= np.sign(row @ drive)
    report = jump_at(relay(matrix, drive, row), jnp.zeros(3), False).report
    values = equivalent(matrix, drive, row)
    assert report.motion == "sliding" and report.pseudo_equilibrium and report.manifold_dimension == 0
    np.testing.assert_allclose(ordered(np.linalg.eigvals(report.jacobian)), ordered(values), atol=1e-7)
    # A relay that is smooth on a scale of 1e-7 has these eigenvalues, and a fast one across.
    smooth = np.linalg.eigvals(matrix - np.outer(drive, row) / 1e-7)
    smooth = np.delete(smooth, np.argmax(np.abs(smooth)))
    size = np.linalg.norm(matrix) ** 2 * np.linalg.norm(drive) * np.linalg.norm(row) / (row @ drive) ** 2
    np.testing.assert_allclose(ordered(smooth), ordered(values), atol=1e-5 * size)
    # With the opposite sign it leads away from its surface.
    away = jump_at(relay(matrix, -drive, row), jnp.zeros(3), False).report
    assert away.motion == "escaping" and away.pseudo_equilibrium
    np.testing.assert_allclose(away.normal_speeds, abs(row @ drive) / np.linalg.norm(row), rtol=1e-12)


def friction(force=0.7):
    """x' = y, y' = -x - mu sign y: a mass on a spring with dry friction, which sticks wherever |x| < mu."""
    return Game.from_losses(
        lambda p, key=None: (-p[0] * p[1], p[0] * p[1] + force * jnp.abs(p[1])), equilibria=[(0.0, 0.0)]
    )


def test_dry_friction_sticks_on_a_line():
    report = dy.stability(friction(), Flow())
    assert report.verdict == "stable" and report.manifold_dimension == 1
    np.testing.assert_allclose(abs(report.sliding.tangents), [[1, 0]], atol=1e-15)
    np.testing.assert_allclose(report.sliding.normal_speeds, -0.7)
    assert "sliding" in report.describe() and report.to_dict()["sliding"]["motion"] == "sliding"
    off = sliding(friction(), Flow(), (0.5, 0.0))  # 0.7 - 0.5 and 0.7 + 0.5 towards the line
    np.testing.assert_allclose(np.sort(off.normal_speeds.ravel()), [-1.2, -0.2])
    assert off.pseudo_equilibrium and off.manifold_dimension == 1
    crossing = sliding(friction(), Flow(), (0.9, 0.0))
    assert crossing.motion == "crossing"


def uneven(a=0.3, b=1.1, c=2.0):
    """u' = -a above 0 and b below, y' = -y + c sign u: slides at y = c (b - a) / (a + b)."""
    return Game.from_losses(
        lambda p, key=None: (
            jnp.where(p[0] > 0, a * p[0], -b * p[0]),
            p[1] ** 2 / 2 - c * p[1] * jax.lax.stop_gradient(jnp.sign(p[0])),
        )
    )


def test_pseudo_equilibrium_where_no_side_rests():
    # With shares alpha and 1 - alpha of above and below, -a alpha + b (1 - alpha) = 0: alpha = b / (a + b).
    rest = 2.0 * (1.1 - 0.3) / (1.1 + 0.3)
    point = find_pseudo_equilibrium(uneven(), Flow(), (0.2, 0.9))
    np.testing.assert_allclose([float(number) for number in point], [0, rest], atol=1e-13)
    report = dy.stability(uneven(), Flow(), point)
    assert report.verdict == "stable" and report.sliding.pseudo_equilibrium
    np.testing.assert_allclose(report.eigenvalues, [-1.0], atol=1e-12)
    with pytest.raises(EquilibriumError, match="no equilibrium"):
        dy.stability(uneven(), Flow(), (0.0, 0.9))
    with pytest.raises(TypeError, match="flow"):
        find_pseudo_equilibrium(uneven(), Simultaneous(sgd(0.1), sgd(0.1)), (0.2, 0.9))


@pytest.mark.slow
def test_two_surfaces_meet_in_the_point():
    game = Game.from_losses(lambda p, key=None: (jnp.abs(p[0]), 2 * jnp.abs(p[1]) + p[0] * p[1]), [(0.0, 0.0)])
    report = dy.stability(game, Flow())
    assert report.verdict == "stable" and report.rate == -np.inf and len(report.sliding.sides) == 4
    opposed = Game.from_losses(lambda p, key=None: (safe_norm(p[0]), -2 * safe_norm(p[1])), [(0.0, 0.0)])
    assert dy.stability(opposed, Flow()).verdict == "unstable"


@pytest.mark.slow_cases("wasserstein")
@pytest.mark.parametrize("objective", [pytest.param("minimax", marks=pytest.mark.slow), "wasserstein"])
def test_wgan_gp_leads_away_from_its_unit_norm_point(objective):
    chosen = {"minimax": dy.objectives.Minimax(), "wasserstein": dy.objectives.Wasserstein()}[objective]
    game = DiracGAN(chosen, WGANGP(0.35, nodes=1))
    flow = dy.stability(game, Flow())
    assert flow.verdict == "unstable" and flow.sliding.motion == "escaping"
    np.testing.assert_allclose(flow.sliding.normal_speeds, 0.7, rtol=1e-12)  # 2 lambda
    step = dy.stability(game, Alternating(sgd(0.2), sgd(0.2)))
    assert step.verdict == "unstable" and step.sliding.motion == "escaping"
    run = dy.simulate(game, Alternating(sgd(0.2), sgd(0.2)), (1e-9, 1e-9), steps=3)
    assert abs(float(run.players[1][1])) > 0.13  # 0.2 * 0.7 in one step


def test_map_jumps_in_a_band():
    # A step of rate h of y' = -x - u sign y - y/2, x' = y: normal to the line y = 0 it goes by h u on either side.
    game = Game.from_losses(
        lambda p, key=None: (-p[0] * p[1], p[0] * p[1] + 0.6 * safe_norm(p[1]) + p[1] ** 2 / 4), [(0.0, 0.0)]
    )
    rate = 0.01
    report = dy.stability(game, Simultaneous(sgd(rate), sgd(rate)))
    assert report.verdict == "unstable" and report.sliding.motion == "sliding"
    np.testing.assert_allclose(report.sliding.band, 2 * rate * 0.6, rtol=1e-9)
    (x, y), seen = (0.2, -0.07), []
    for count in range(3000):
        x, y = x + rate * y, y + rate * (-x - 0.6 * np.sign(y) - y / 2)
        if count > 1500:
            seen.append(y)
    assert 0.45 * report.sliding.band[0] < np.ptp(seen) <= 1.01 * report.sliding.band[0]
    assert "band" in report.describe()


def test_what_is_not_known_says_why():
    kinked = Game.from_losses(lambda p, key=None: (p[0] ** 2 + jax.nn.relu(p[0]) ** 2,), [(0.0,)])
    with pytest.raises(NotSliding, match="no larger than rounding"):
        sliding(kinked, Flow())
    touching = lambda x: jnp.stack([-jnp.sign(x[0]), -x[1] * jnp.sign(x[0] + x[1] ** 2)])  # noqa: E731
    with pytest.raises(NotSliding, match="touch"):
        jump_at(touching, jnp.zeros(2), False)
    smooth = Game.from_losses(lambda p, key=None: (p[0] ** 2,), [(0.0,)])
    with pytest.raises(NotSliding, match="switch"):
        sliding(smooth, Flow())
    many = Game.from_losses(lambda p, key=None: (jnp.abs(jnp.sum(p[0] * jnp.arange(1.0, 7))) + jnp.sum(jnp.abs(p[0])),))
    with pytest.raises(NotSliding, match="surfaces"):
        sliding(many, Flow(), (jnp.zeros(6),))
