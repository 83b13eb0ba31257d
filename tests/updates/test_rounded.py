"""Finite precision: rounding against ml_dtypes and fractions, floors and stalls against what the spectrum says."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from dynamics.analysis import Leading, stall_factor
from dynamics.updates import Alternating, Rounded, Simultaneous
from dynamics.updates.formats import Format, as_format, round_to, with_arithmetic

NAMES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
rounding = jax.jit(round_to)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_that_of_the_types(name, dtype):
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        x = rng.choice([-1, 1], 20_000) * 10.0 ** rng.uniform(-44, 38.5, 20_000)
        edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, -65536, 2.98e-8, 3e-8, 6.1e-5, 1 + 2**-8]
        x = np.concatenate([x, 10.0 ** rng.uniform(-9, 5, 10_000), edges]).astype(dtype)
        expected = x.astype(NAMES[name]).astype(dtype)
    np.testing.assert_array_equal(rounding(x, as_format(name)), expected)


@given(st.integers(1, 40), st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6))
def test_rounding_to_bits_is_to_the_nearest_and_ties_to_even(bits, x):
    found = Fraction(float(rounding(x, Format(float(bits)))))
    if x == 0:
        assert found == 0
        return
    exponent = np.frexp(x)[1] - bits
    units = Fraction(x) / Fraction(2) ** int(exponent)
    assert found == round(units) * Fraction(2) ** int(exponent)  # Python rounds ties to even


def test_stochastic_rounding_is_right_on_average_and_takes_neighbours_only():
    keys = jax.random.split(jax.random.key(0), 20_000)
    x = jnp.asarray([1 + 1 / 512, -3.003, 0.7, 2.0, 70000.0])
    draws = np.asarray(jax.vmap(lambda key: round_to(x, as_format("bfloat16"), key))(keys))
    for value, column in zip(np.asarray(x), draws.T, strict=True):
        neighbours = np.unique(column)
        spacing = float(as_format("bfloat16").spacing(value))
        assert len(neighbours) == (1 if value == 2 else 2) and np.ptp(neighbours) in (0, spacing)
        assert abs(np.mean(column) - value) <= 4 * spacing / 2 / np.sqrt(len(column))


def test_arithmetic_rounds_every_operation():
    def function(x, y):
        def body(total, term):
            return total + term * y, total

        total, rows = jax.lax.scan(body, x, jnp.asarray([0.3, 0.7, 0.11]))
        return jax.lax.cond(total > 0, lambda t: t / 3, lambda t: t, total), rows, jnp.argmax(rows)

    x, y = 1.2345, 0.77
    got, rows, index = with_arithmetic(function, as_format("float16"))(jnp.asarray(x), jnp.asarray(y))
    total, expected = x, []
    for term in (0.3, 0.7, 0.11):
        expected.append(total)
        total = float(np.float16(total + float(np.float16(term * y))))
    np.testing.assert_array_equal(rows, expected)
    assert float(got) == float(np.float16(total / 3)) and index == 2
    gradient = with_arithmetic(jax.grad(lambda z: jnp.exp(z) * z), as_format(6.0))(jnp.asarray(0.3))
    assert float(gradient) == float(round_to(gradient, as_format(6.0))) and abs(gradient - np.exp(0.3) * 1.3) < 0.05


def outcome(run):
    return dy.Outcome(int(run.outcome)).name


def shifted(gamma=2.0):
    return dy.games.LinearWasserstein(3.3, penalty=dy.penalties.R1(gamma))


def descent(step=0.1, other=None, kind=Simultaneous):
    return kind(optax.sgd(step), optax.sgd(step if other is None else other))


@pytest.mark.slow_cases("Alternating", "Simultaneous")
@pytest.mark.parametrize("kind", [Simultaneous, Alternating])
def test_the_floor_is_below_the_prediction_and_not_far(kind):
    """From many starts, in the long run; the largest of them comes near the bound for points of rest."""
    game, plain = shifted(), descent(0.05, 0.1, kind)
    starts = jax.random.uniform(jax.random.key(0), (100, 2), minval=-1.0, maxval=5.0)
    for bits in (6.0, 7.0, 9.0, 13.0):
        update = Rounded(plain, bits)
        floor = dy.rounding_floor(game, update, reach=4.4)
        assert np.all(floor.resting <= floor.nearest * (1 + 1e-9))

        def end(start, update=update):
            run = dy.simulate(game, update, (start[0], start[1]), steps=2_000, save_every="last", classify=False)
            return jnp.stack(run.final)

        ends = np.abs(np.asarray(jax.jit(jax.vmap(end))(starts)) - np.array([3.3, 0.0]))
        measured = ends.max(axis=0)
        assert np.all(measured <= floor.nearest) and np.all(measured >= floor.resting / 12)
    # From afar a run may rest among numbers that are coarser than those that the bound is for.
    near, far = (dy.rounding_floor(game, Rounded(plain, 7.0), reach=reach) for reach in (0.0, 4.4))
    assert near.spacing[0] == 2.0**-5 and far.spacing[0] == 2.0**-4


@pytest.mark.slow
def test_stochastic_rounding_stays_within_its_deviation():
    game, plain = shifted(), descent(0.02)
    floor = dy.rounding_floor(game, Rounded(plain, "bfloat16"))
    update = Rounded(plain, "bfloat16", rounding="stochastic", exact=True)
    run = dy.simulate(game, update, (1.0, 1.0), steps=40_000, key=jax.random.key(3), classify=False)
    late = np.stack([np.asarray(leaf)[4_000:] for leaf in run.players], axis=1) - np.array([3.3, 0.0])
    measured = np.sqrt(np.mean(late**2, axis=0))
    assert np.all(measured <= 1.05 * floor.stochastic) and np.all(measured >= floor.stochastic / 2.5)
    nearest = dy.simulate(game, Rounded(plain, "bfloat16"), (1.0, 1.0), steps=3_000, save_every="last")
    assert outcome(nearest) == "stalled" and abs(nearest.final[0] - 3.3) > 3 * measured[0]
    assert abs(np.mean(late[:, 0])) < measured[0]


@pytest.mark.slow
def test_a_rate_below_which_nothing_moves():
    game, start = shifted(), (2.0, 0.5)
    factor = stall_factor(game, Rounded(descent(0.1), "bfloat16"), start)
    # theta: 0.1 x 0.5 against 2^-8 above 2 (spacing 2^-6); psi: 0.1 x (1.3 - 1) against 2^-9
    assert factor == pytest.approx(max(0.05 / 2.0**-7, 0.03 / 2.0**-9), rel=1e-2)
    for scale, moves in ((1.02, True), (0.98, False)):
        update = Rounded(descent(0.1 * scale / factor), "bfloat16")
        run = dy.simulate(game, update, start, steps=300, save_every="last")
        assert (tuple(map(float, run.final)) != start) == moves
        if not moves:
            assert outcome(run) == "stalled"


def test_an_equilibrium_at_zero_has_no_floor():
    """Numbers near 0 are as fine as those near 1 are coarse: the Dirac-GAN converges, at the rate of the spectrum."""
    game, plain = dy.games.DiracGAN(penalty=dy.penalties.R1(1.0)), descent(0.5)
    run = dy.simulate(game, Rounded(plain, "bfloat16"), (1.0, 0.5), steps=400, classify=False)
    assert abs(run.final[0]) < 1e-20
    assert np.all(dy.rounding_floor(game, Rounded(plain, "bfloat16")).nearest < 1e-36)


@pytest.mark.slow_cases("None")
@pytest.mark.parametrize("arithmetic", [None, "bfloat16"])
def test_the_verdict_is_that_of_the_map_without_rounding_and_says_so(arithmetic):
    for gamma, verdict in ((0.3, "stable"), (0.0, "unstable")):
        game, plain = shifted(gamma), descent(0.1, 0.2)
        expected = dy.stability(game, plain)
        report = dy.stability(game, Rounded(plain, "bfloat16", arithmetic=arithmetic))
        assert report.verdict == expected.verdict == verdict
        np.testing.assert_array_equal(report.eigenvalues, expected.eigenvalues)
        assert "without rounding" in report.notes[0]


@pytest.mark.slow
def test_predictions_of_sweeps_and_leading_eigenvalues_are_without_rounding():
    game, plain = shifted(), descent(0.05, 0.1)

    def build(bits):
        return game, Rounded(plain, bits), (1.0, 1.0)

    result = dy.sweep(build, {"bits": np.array([4.0, 8.0, 16.0])}, steps=400)
    radius = dy.stability(game, plain).radius
    np.testing.assert_allclose(result["predicted_radius"], radius, rtol=1e-6)
    leading = dy.stability(game, Rounded(plain, 8.0), leading=Leading(1))
    np.testing.assert_allclose(abs(leading.eigenvalues[0]), radius, rtol=1e-8)


def test_formats_per_player_memory_and_pytrees():
    game = shifted()
    adam = Simultaneous(optax.adam(0.1), optax.sgd(0.1, 0.9))
    update = Rounded(adam, "float64", 5.0, memory="bfloat16")
    state = update.init(game, (jnp.asarray(1.1), jnp.asarray(0.123)))
    assert float(state.players[0]) == 1.1 and float(state.players[1]) == 31 / 256
    for _ in range(3):
        state = update.step(game, state)
    floats = [leaf for leaf in jax.tree.leaves(state.memory) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(floats) == 3 and all(float(leaf) == float(round_to(leaf, as_format("bfloat16"))) for leaf in floats)
    assert float(round_to(state.players[1], Format(5.0))) == float(state.players[1])
    assert float(round_to(state.players[0], as_format("float32"))) != float(state.players[0])
    full = Rounded(adam, "float64", memory=None)
    same, plain = full.init(game, (1.1, 0.123)), adam.init(game, (jnp.asarray(1.1), jnp.asarray(0.123)))
    for _ in range(3):
        same, plain = full.step(game, same), adam.step(game, plain)
    assert [float(x) for x in same.players] == [float(x) for x in plain.players]


@pytest.mark.slow
def test_values_that_a_game_keeps_go_through_the_step_as_without_rounding():
    game = dy.GAN(
        lambda theta, z: theta + z,
        lambda psi, x: psi * x + 0.1 * psi**2,
        jnp.asarray([0.5, 1.5]),
        jnp.asarray([0.0, 0.3]),
        penalty=dy.penalties.LeCam(0.4),
    )
    plain = descent(0.1, 0.3, Alternating)
    runs = [
        dy.simulate(game, update, (0.2, -0.5), steps=5, classify=False)
        for update in (plain, Rounded(plain, "float64"), Rounded(plain, "float64", arithmetic="float64"))
    ]
    for run in runs[1:]:
        for found, expected in zip(jax.tree.leaves(run.state), jax.tree.leaves(runs[0].state), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.slow
def test_half_precision_loses_the_second_moments_that_bfloat16_keeps():
    """R3GAN's case on a game that one can solve: mixed precision with Adam near an equilibrium.

    Squares of gradients below 2.4e-4 are less than half of the least positive number of float16: the mean square
    is 0, so is Adam's eps of 1e-8, and the first step is a division by 0. bfloat16 has the exponents of float32.
    """
    game = dy.games.DiracGAN(objective=dy.objectives.RelativisticPaired(), penalty=dy.penalties.R1(1.0))
    adam = Simultaneous(optax.adam(1e-3, 0.0, 0.9), optax.adam(1e-3, 0.0, 0.9))

    @jax.jit
    def step(format, state):
        return Rounded(adam, "float32", arithmetic=format).step(game, state)

    for name in ("float16", "bfloat16", "float32"):
        state = Rounded(adam, "float32").init(game, (jnp.asarray(4e-4), jnp.asarray(2e-4)))
        for _ in range(200):
            state = step(as_format(name), state)
        if name == "float16":
            assert np.all(np.isnan(state.players))
        else:
            assert np.all(np.abs(np.asarray(state.players)) < 2e-3)
    # The squared gradient of R1, summed up over as many pixels as an image has, is beyond the range of float16.
    pixels = with_arithmetic(lambda g: jnp.sum(g**2), as_format("float16"))(jnp.full(3072, 4.7))
    assert np.isinf(pixels) and np.isfinite(
        with_arithmetic(lambda g: jnp.sum(g**2), as_format("bfloat16"))(jnp.full(3072, 4.7))
    )


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Rounded(descent()), ValueError, "has no format"),
        (lambda: Rounded(descent(), "bfloat61"), ValueError, "'bfloat61'; did you mean 'bfloat16'"),
        (lambda: Rounded(descent(), 0.0), ValueError, "precision is 0"),
        (lambda: Rounded(descent(), 7.5), ValueError, "precision is 7.5; expected a whole number"),
        (lambda: Rounded(descent(), 60.0), ValueError, "precision is 60"),
        (lambda: Rounded(descent(), 8.0, rounding="down"), ValueError, "rounding is 'down'"),
        (lambda: Rounded("sgd", 8.0), TypeError, "expected a Update|expected an Update"),
        (lambda: Rounded(descent(), 8.0, 8.0, 8.0).init(shifted(), (1.0, 1.0)), ValueError, "3 formats for 2 players"),
        (lambda: Format(8.0, 3.0, 2.0), ValueError, "exponents from 3 to 2"),
        (lambda: dy.rounding_floor(shifted(), descent()), TypeError, "expected an update in finite precision"),
        (lambda: dy.rounding_floor(shifted(0.0), Rounded(descent(), 8.0)), ValueError, "eigenvalue of modulus 1.00499"),
        (
            lambda: dy.simulate(shifted(), Rounded(descent(), 8.0, rounding="stochastic"), (1.0, 1.0), steps=3),
            ValueError,
            "stochastic rounding needs a key",
        ),
    ],
)
def test_bad_input(build, error, message):
    with pytest.raises(error, match=message):
        build()
