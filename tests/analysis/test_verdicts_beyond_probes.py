"""Kinks in thin cones, points that are none, coarse beside fine arithmetic, extreme scales, verdicts and numbers."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import dynamics as dy
from dynamics.analysis import EquilibriumError
from dynamics.compiler.switches import gaps
from dynamics.flows import Flow
from dynamics.updates import Simultaneous


def game(*losses):
    return dy.Game.from_losses(lambda players, key=None: tuple(loss(*players) for loss in losses))


def descent(*rates):
    return Simultaneous(*map(optax.sgd, rates))


# Kinks


@eqx.filter_jit
def _cone_losses(players, slope, angle, force):
    x, y = players
    u, v = jnp.cos(angle) * x + jnp.sin(angle) * y, jnp.cos(angle) * y - jnp.sin(angle) * x
    cone = jax.nn.relu(v**2 - (slope * u) ** 2)
    return x**2 / 2 + force * cone, y**2 / 2 + force * cone


class Cone(dy.Game):
    """A potential with another curvature inside a cone about the turned axis v, whose half-angle is 1 / slope."""

    slope: jax.Array
    angle: jax.Array
    force: jax.Array

    def losses(self, players, key=None):
        return _cone_losses(players, self.slope, self.angle, self.force)

    def equilibria(self):
        return ((jnp.zeros_like(self.slope), jnp.zeros_like(self.slope)),)

    @classmethod
    def example(cls):
        return cls(jnp.asarray(9.0), jnp.asarray(0.0), jnp.asarray(-1.0)), (jnp.asarray(1.0), jnp.asarray(1.0))


CONE_METHOD = Simultaneous(*[dy.optimisers.sgd(0.1)] * 2)


@pytest.mark.slow
@given(
    slope=st.sampled_from([2.0, 9.0, 80.0, 500.0]),
    angle=st.floats(0.0, 3.0),
    force=st.sampled_from([-1.0, -3.0, 1e-3, 0.5]),
)
def test_a_kink_in_a_thin_cone_is_seen(slope, angle, force):
    """Inside the cone curvature along its axis is 1 + 2 force: below 0 it repels along a direction of its own."""
    cone = Cone(jnp.asarray(slope), jnp.asarray(angle), jnp.asarray(force))
    report = dy.stability(cone, CONE_METHOD)
    assert report.smoothness == "kinked"
    if force < -0.5:
        assert report.verdict == "unstable"
    inside = 1 - 0.1 * (1 + 2 * force)
    assert any(np.min(np.abs(np.linalg.eigvals(piece) - inside)) < 1e-4 for piece in report.pieces.jacobians)


class Wedge(dy.Game):
    """Inside the cone |y| > k |x| the field is another one, though not along its axis, and pulls along (1, k + 1)."""

    slope: jax.Array
    force: jax.Array

    def losses(self, players, key=None):
        x, y = players
        slope, force = self.slope, self.force
        inside = y**2 > (slope * x) ** 2
        first = x**2 / 2 + force / (2 * slope**2) * jax.nn.relu(y**2 - (slope * x) ** 2)
        return first, y**2 / 2 - force * (slope + 1) * x * jnp.where(inside, y, 0.0)

    def equilibria(self):
        return ((jnp.zeros_like(self.slope), jnp.zeros_like(self.slope)),)

    @classmethod
    def example(cls):
        return cls(jnp.asarray(9.0), jnp.asarray(3.0)), (jnp.asarray(1.0), jnp.asarray(1.0))


@pytest.mark.slow
def test_a_field_that_jumps_beside_the_axis_of_a_cone_is_seen():
    """Along the axes and the ends of the gap's curvature all is smooth; along (1, k + 1) the step multiplies by 1.2."""

    def build(slope, force):
        return Wedge(jnp.asarray(slope), jnp.asarray(force)), CONE_METHOD, (1e-4, 1e-4 * (slope + 1.01))

    for slope in (4.0, 9.0, 200.0):
        game, update, _ = build(slope, 3.0)
        after = update.step(game, update.init(game, (jnp.asarray(1.0), jnp.asarray(slope + 1)))).players
        np.testing.assert_allclose(after, [1.2, 1.2 * (slope + 1)], rtol=1e-12)
        report = dy.stability(game, update)
        assert report.smoothness == "kinked" and report.verdict == "unstable"
        assert report.radius == pytest.approx(1.2, rel=1e-9)
    axes = {"slope": [4.0, 9.0], "force": [0.5, 3.0]}
    for dataset in (dy.sweep(build, axes, steps=300), dy.stability_chart(build, axes)):
        assert np.all(dataset.predicted_verdict == [[0, 1], [0, 1]]) and np.all(dataset.predicted_smoothness == 2)


@pytest.mark.slow
def test_a_sweep_and_a_chart_see_the_cone_too():
    def build(slope, angle):
        return Cone(slope, angle, jnp.asarray(-1.0)), CONE_METHOD, (0.3, 0.2)

    axes = {"slope": [2.0, 9.0, 80.0], "angle": [0.0, 0.7]}
    for dataset in (dy.sweep(build, axes, steps=20), dy.stability_chart(build, axes)):
        assert np.all(dataset.predicted_smoothness == 2) and np.all(dataset.predicted_verdict != 0)


@pytest.mark.parametrize(
    "loss, number",
    [
        (lambda x, y: jnp.sin(x) * y**2, 0),
        (lambda x, y: jax.nn.relu(x - 1) + jnp.abs(y), 2),
        (lambda x, y: jnp.where(x * y > 0, x, y), 1),
        (lambda x, y: jnp.clip(x, -1, 2) + jnp.round(y), 3),
        (lambda x, y: jnp.sum(jnp.sort(jnp.stack([x, y, x * y]))), 2),
        (lambda x, y: jax.lax.scan(lambda c, r: (jnp.maximum(c, r * x), 0.0), y, jnp.arange(4.0))[0], 4),
        (lambda x, y: jax.lax.cond(x > 0, lambda: jnp.abs(y), lambda: y**2), 2),
    ],
    ids=["smooth", "relu and abs", "where", "clip and round", "sort", "in a scan", "in a branch"],
)
def test_gaps_count_switches_and_change_their_sign_there(loss, number):
    distances = gaps(loss)(0.5, 0.3)
    assert len(distances) == number
    if number == 1:
        assert distances[0] * gaps(loss)(-0.5, 0.3)[0] < 0


def test_only_known_functions_are_taken_as_smooth_by_their_names():
    @jax.custom_jvp
    def softplus(x):
        return jnp.maximum(x, 0.0)

    softplus.defjvp(lambda primals, tangents: (softplus(*primals), tangents[0] * (primals[0] > 0)))
    assert len(gaps(softplus)(0.0)) == 1
    for smooth in (dy.scalars.softplus, dy.scalars.sigmoid, jax.nn.softplus, jax.nn.log_sigmoid, jax.nn.silu):
        assert len(gaps(smooth)(0.0)) == 0


@pytest.mark.slow
def test_a_relu_network_in_single_precision():
    """Smallest pre-activation about 1e-3: well inside one smooth piece, which float64 and float32 agree about."""
    generator, theta = dy.split_module(eqx.nn.MLP(2, 2, 6, 1, key=jax.random.key(0)))
    critic, psi = dy.split_module(eqx.nn.MLP(2, "scalar", 6, 1, key=jax.random.key(1)))
    latent = jax.random.normal(jax.random.key(2), (16, 2))
    method = Simultaneous(optax.sgd(0.1), optax.sgd(0.2))
    reports = []
    for kind in (np.float32, np.float64):
        cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(kind), tree)  # noqa: B023, E731
        gan = dy.GAN(generator, critic, dy.distributions.ring(4, nodes=1), cast(latent))
        reports.append(dy.stability(gan, method, (cast(theta), cast(psi)), require_equilibrium=False))
    single, double = reports
    assert single.smoothness in ("smooth", "stiff") and single.verdict == double.verdict
    assert abs(single.radius - double.radius) < 1e-5


def test_a_kink_next_to_the_point_is_not_at_it():
    near = game(lambda x, y: x**2 / 2 + 3 * jax.nn.relu(x - 1e-6), lambda x, y: y**2 / 2 + x * y)
    report = dy.stability(near, descent(0.1, 0.2), (0.0, 0.0))
    assert report.smoothness == "stiff" and report.verdict == "stable" and abs(report.radius - 0.9) < 1e-12


@pytest.mark.slow
def test_noise_counts_at_a_kink():
    """RMSProp under noise s steps about h / s: both pieces of the one-sided curvature are unstable then."""

    def sided(x, y):
        return jnp.where(x > 0, 30.0, 40.0) * x**2 / 2 + 0 * y

    pair = game(sided, lambda x, y: y**2 / 2)
    method = Simultaneous(dy.optimisers.rmsprop(0.1, eps=1e-2), optax.sgd(0.1))
    assert dy.stability(pair, method, (0.0, 0.0), gradient_noise=(0.05, 0.0)).verdict == "unstable"
    assert dy.stability(pair, method, (0.0, 0.0), gradient_noise=(10.0, 0.0)).verdict == "stable"


# Points


@pytest.mark.slow
@given(
    scale=st.sampled_from([1e-8, 1.0, 1e8]),
    offset=st.sampled_from([1e-3, 0.3, 1.5]),
    large=st.sampled_from([0.0, 1e6]),
)
def test_a_stiff_or_large_coordinate_hides_no_other(scale, offset, large):
    pair = game(lambda x, y: scale * (x - large) ** 2 / 2, lambda x, y: -jnp.cos(y))
    with pytest.raises(EquilibriumError, match=r"that of player 1 is .* at players\[1\], where .* counts as zero"):
        dy.stability(pair, descent(1e-9, 0.1), (large, offset))
    assert dy.stability(pair, Flow(), (large, 0.0)).residual == 0


def test_a_coordinate_coupled_to_a_stiff_one():
    pair = game(lambda x, y: 1e8 * x**2 / 2, lambda x, y: -jnp.cos(y) + 1e8 * x * y)
    with pytest.raises(EquilibriumError, match="player 1"):
        dy.stability(pair, Flow(), (0.0, 1.5))
    assert dy.stability(pair, Flow(), (0.0, 0.0)).verdict == "stable"


@pytest.mark.parametrize(
    "stiff, soft, coupling, large, away",
    [(1.1e6, 4.3e-7, 1.0, 1e5, 1.5), (9.9e7, 2e-6, 1.0, 1e5, 1e-3), (1.5e7, 0.23, 1e8, 1e5, 0.3)],
)
def test_a_soft_coordinate_coupled_to_a_large_one(stiff, soft, coupling, large, away):
    """The coupling makes the tolerance of the soft coordinate large, and its curvature looks like none beside it."""
    pair = game(lambda x, y: stiff * (x - large) ** 2 / 2, lambda x, y: -soft * jnp.cos(y) + coupling * y * (x - large))
    with pytest.raises(EquilibriumError, match="player 1"):
        dy.stability(pair, Flow(), (large, away))
    assert dy.stability(pair, Flow(), (large, 0.0)).verdict != "unstable"


@pytest.mark.parametrize("power", [4, 6])
def test_what_newtons_method_finds_at_a_degenerate_point_passes(power):
    pair = game(lambda x, y: x**power + x * y, lambda x, y: y**2 / 2 - x * y**2)
    point = dy.find_equilibrium(pair, (0.3, 0.2)).players
    assert dy.stability(pair, descent(0.1, 0.2), point).verdict == "marginal"


def test_the_message_names_the_coordinate_of_a_pytree():
    pair = dy.Game.from_losses(
        lambda p, key=None: (1e6 * p[0] ** 2 / 2, jnp.sum(p[1]["w"] ** 2) / 2 + jnp.sum(p[1]["b"] ** 2) / 2)
    )
    with pytest.raises(EquilibriumError, match=r"0.25 at players\[1\]\['w'\]\[1, 0\]"):
        dy.stability(pair, Flow(), (0.0, {"b": jnp.zeros(2), "w": jnp.array([[0.0, 0.0], [0.25, 0.0]])}))


# Precision


@pytest.mark.parametrize("margin", [3e-9, -3e-9, 1e-5, -1e-5])
def test_players_of_two_precisions(margin):
    """Judged with the exact numbers of the game: 1e-9 is decided, since both are cast to double precision."""
    pair = game(lambda x, y: x**2 * (0.5 - 0.5 * margin) * 20, lambda x, y: y**2 / 2)
    report = dy.stability(pair, descent(0.1, 0.1), (np.float32(0), np.float64(0)))
    assert report.verdict == ("stable" if margin > 0 else "unstable")


@pytest.mark.parametrize("margin", [3e-9, -3e-9, 1e-4, -1e-4])
@pytest.mark.parametrize("kind, decides", [(jnp.float32, 1e-5), (jnp.bfloat16, 1.0)])
def test_the_coarsest_arithmetic_on_the_way_counts(margin, kind, decides):
    def coarse(x, y):
        return (x.astype(kind) ** 2).astype(float) * (0.5 - 0.5 * margin) * 20

    report = dy.stability(game(coarse, lambda x, y: y**2 / 2), descent(0.1, 0.1), (0.0, 0.0))
    if abs(margin) < decides:
        assert report.verdict == "marginal"
    else:
        assert report.verdict == ("stable" if margin > 0 else "unstable")


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_refused_by_all(kind):
    bowl = game(lambda x, y: x**2 / 2, lambda x, y: y**2 / 2)
    point = (jnp.zeros((), kind), jnp.zeros((), kind))
    for call in (
        lambda: dy.find_equilibrium(bowl, point),
        lambda: dy.find_equilibria(bowl, (point, tuple(1 + leaf for leaf in point))),
        lambda: dy.stability(bowl, Flow(), point),
        lambda: dy.classify(bowl, point),
        lambda: dy.timescale_threshold(bowl, point),
    ):
        with pytest.raises(TypeError, match="equilibria and eigenvalues need float32"):
            call()


@pytest.mark.slow
def test_smooth_networks_of_hundreds_of_numbers_get_a_verdict_in_single_precision():
    generator, theta = dy.split_module(eqx.nn.MLP(2, 2, 24, 1, jax.nn.tanh, key=jax.random.key(0)))
    critic, psi = dy.split_module(eqx.nn.MLP(2, "scalar", 40, 1, jax.nn.tanh, key=jax.random.key(1)))
    latent = jax.random.normal(jax.random.key(2), (16, 2))
    theta, psi, latent = jax.tree.map(lambda leaf: leaf.astype(np.float32), (theta, psi, latent))
    gan = dy.GAN(generator, critic, dy.distributions.ring(4, nodes=1), latent)
    report = dy.stability(gan, descent(0.1, 0.2), (theta, psi), require_equilibrium=False)
    assert len(report.jacobian) > 250 and report.verdict != "marginal" and report.error < 1e-6


# Numbers and verdicts


def consistent(report):
    """The verdict, the margin and its error say the same."""
    value, boundary = (report.radius, 1.0) if report.kind == "map" else (report.abscissa, 0.0)
    if report.order != 1:  # the linear part does not decide
        return report.error >= abs(report.margin)
    if report.verdict == "stable":
        return value < boundary and report.margin > 0 and report.error <= report.margin
    if report.verdict == "unstable":
        return value > boundary and report.margin < 0 and report.error <= -report.margin
    return np.isnan(report.margin) or report.error >= abs(report.margin)


@pytest.mark.parametrize("method", [descent(0.1, 0.3), Flow()], ids=["map", "flow"])
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-30, 1.0, 1e30, 1e150, 1e300])
def test_extreme_scales(method, scale):
    pair = game(lambda x, y: scale * (x**2 / 2 + x * y), lambda x, y: scale * (y**2 - x * y))
    report = dy.stability(pair, method, (0.0, 0.0))
    assert consistent(report) and np.isfinite(report.residual)
    if report.kind == "flow":
        assert report.verdict == "stable"
        np.testing.assert_allclose(report.abscissa / scale, -1.5, rtol=1e-10)
    elif scale >= 1:
        assert report.verdict == ("unstable" if scale > 1 else "stable")
    else:
        assert report.verdict == "marginal" or scale == 1e-30 and report.verdict == "marginal"


@pytest.mark.slow_cases("losses6", "losses5", "losses0", "losses1")
@pytest.mark.parametrize(
    "losses",
    [
        [lambda x: jnp.abs(x) * x / 2],
        [lambda x: jnp.where(x > 0, x**2, -(x**2))],
        [lambda x: -(x**4)],
        [lambda x: x**2 / 2 + 0 * jnp.sqrt(jnp.abs(x))],
        [lambda x, y: x * y, lambda x, y: -x * y],
        [lambda x, y: jnp.maximum(x, y) ** 2 / 2, lambda x, y: jnp.minimum(x, y) ** 2],
        [lambda x, y: jnp.hypot(x, y) ** 3 + x**2, lambda x, y: y**2 - jnp.abs(x * y)],
    ],
)
def test_verdict_and_numbers_agree_at_kinks_and_flat_points(losses):
    for method in (descent(*[0.1] * len(losses)), Flow()):
        assert consistent(dy.stability(game(*losses), method, (0.0,) * len(losses), require_equilibrium=False))
