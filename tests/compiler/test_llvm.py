"""Loops as machine code: every operation against XLA, loops within loops, and what is left to XLA."""

import re
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamics.compiler import errors
from dynamics.compiler.errors import Unavailable, Unsupported
from dynamics.compiler.llvm import elementary, interface, jit, vector_width
from dynamics.compiler.llvm.lowering import compile_program, in_machine_code
from dynamics.compiler.llvm.operations import ELEMENTWISE
from dynamics.ensembles import CompilerWarning

LANES = 24
RNG = np.random.default_rng(0)
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e30, 0.5, -2.5, 90.0, -90.0, 1e4, 3.5]


def run(function, *given, lanes=LANES):
    """The results of a function as machine code; all of it must be translated."""
    closed = jax.make_jaxpr(function)(*given)
    compile_program(closed, lanes)
    found = jax.jit(in_machine_code(closed, lanes))(*jax.tree.leaves(given))
    return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(function, *given)), found)


def agree(function, *given, ulps=8):
    """Compare with XLA: to some units in the last place of the largest entry of an array."""
    found, expected = run(function, *given), jax.jit(function)(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        one, other = np.asarray(one), np.asarray(other)
        if not np.issubdtype(one.dtype, np.floating):
            np.testing.assert_array_equal(one, other)
            continue
        scale = np.max(np.abs(other[np.isfinite(other)]), initial=0) + np.finfo(other.dtype).tiny
        np.testing.assert_allclose(one, other, rtol=0, atol=ulps * float(np.finfo(other.dtype).eps) * scale)


def numbers(kind, seed=0):
    draw = np.random.default_rng(seed)
    if kind is bool:
        return jnp.asarray(draw.random(LANES) < 0.5)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        some = draw.integers(limits.min, limits.max, LANES, kind, endpoint=True)
        some[:6] = [0, 1, limits.max, limits.min, limits.max - 1, 3]
        return jnp.asarray(draw.permutation(some))
    return jnp.asarray(draw.permutation(np.concatenate([SPECIAL, draw.normal(size=LANES - 16) * 3])).astype(kind))


BINARY = ["add", "sub", "mul", "div", "max", "min", "eq", "ne", "lt", "le", "gt", "ge", "rem"]
FLOATING = ["neg", "abs", "sign", "sqrt", "rsqrt", "floor", "ceil", "is_finite", "square", "round"]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", BINARY)
def test_two_real_numbers(name, kind):
    a, b = numbers(kind), numbers(kind, 1)
    for one, other in ((a, b), (a, a), (b, jnp.full_like(a, 3))):
        found, expected = run(getattr(jax.lax, name), one, other), getattr(jax.lax, name)(one, other)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", FLOATING)
def test_one_real_number(name, kind):
    operation = getattr(jax.lax, name)
    for seed in range(3):
        given = numbers(kind, seed)
        np.testing.assert_allclose(run(operation, given), operation(given), rtol=2 * np.finfo(kind).eps)
    halves = jnp.arange(LANES, dtype=kind) / 2 - 5
    nearest = partial(jax.lax.round, rounding_method=jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    np.testing.assert_array_equal(run(nearest, halves), nearest(halves))
    np.testing.assert_array_equal(run(jax.lax.round, halves), jax.lax.round(halves))


@pytest.mark.slow_cases("int8", "int32", "uint32", "int64")
@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint32])
def test_integers(kind):
    a, b = numbers(kind), numbers(kind, 1)
    shifts = jnp.asarray(RNG.integers(0, 70, LANES).astype(kind))
    for name in (*BINARY, "bitwise_and", "bitwise_or", "bitwise_xor"):
        np.testing.assert_array_equal(run(getattr(jax.lax, name), a, b), getattr(jax.lax, name)(a, b), err_msg=name)
    for name in ("shift_left", "shift_right_logical", "shift_right_arithmetic"):
        operation = getattr(jax.lax, name)
        np.testing.assert_array_equal(run(operation, a, shifts), operation(a, shifts), err_msg=name)
    for name in ("abs", "sign", "bitwise_not", "neg"):
        if kind == np.uint32 and name in ("neg", "abs"):
            continue
        np.testing.assert_array_equal(run(getattr(jax.lax, name), a), getattr(jax.lax, name)(a), err_msg=name)
    bounded = partial(lambda low, high, x: jax.lax.clamp(low, x, high), kind(1), kind(100))
    np.testing.assert_array_equal(run(bounded, a), bounded(a))
    np.testing.assert_array_equal(run(lambda x: x**3, a), a**3)


@pytest.mark.parametrize("new", [bool, np.int8, np.int32, np.int64, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("old", [bool, np.int8, np.int32, np.int64, np.uint32, np.float32, np.float64])
def test_conversions(old, new):
    given = numbers(old)
    if np.issubdtype(old, np.floating) and np.issubdtype(new, np.integer):
        given = jnp.where(jnp.abs(given) < 100, given, 0)  # XLA itself does not say what comes of others
        given = jnp.abs(given) if new == np.uint32 else given
    np.testing.assert_array_equal(run(lambda x: x.astype(new), given), given.astype(new))


def test_bits_and_choices():
    a, b, flags = numbers(np.float32), numbers(np.float64), numbers(bool)
    np.testing.assert_array_equal(
        run(lambda x: jax.lax.bitcast_convert_type(x, jnp.int32), a), jax.lax.bitcast_convert_type(a, jnp.int32)
    )
    which = jnp.asarray(RNG.integers(0, 3, LANES), jnp.int32)
    agree(lambda flags, b: (jnp.where(flags, b, 1.0), jnp.where(flags, 2, 3), ~flags, flags ^ (b > 0)), flags, b)
    agree(lambda which: jax.lax.select_n(which, which * 2, which + 7, which * which), which)


# Elementary functions


EXACT = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}


def places_of(name, kind, count=480):
    """Numbers all over the domain of a function."""
    largest = -np.log(float(np.finfo(kind).tiny)) * 0.99
    draw = np.random.default_rng(1)
    small = draw.normal(size=count) * np.exp(draw.uniform(-12, 1, count))
    if name in ("log", "log1p"):
        positive = np.exp(draw.uniform(-80, 80, count))
        return np.concatenate([positive, np.abs(small) if name == "log" else small[small > -0.9], 1 + small[:100] / 99])
    wide = {"sin": 900.0, "cos": 900.0, "tanh": 20.0}.get(name, largest)
    return np.concatenate([draw.uniform(-wide, wide, count), small])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_elementary_functions_are_right_to_the_last_digits(name, kind):
    given = np.asarray(places_of(name, kind)).astype(kind)
    given = given[: len(given) // LANES * LANES]
    if name in ("log", "log1p", "exp"):
        given = given[np.abs(given) > 0]
        given = given[: len(given) // LANES * LANES]
    found = np.asarray(run(getattr(jax.lax, name), jnp.asarray(given), lanes=len(given)))
    assert found.dtype == kind
    with mpmath.workdps(40):
        exact = [EXACT[name](mpmath.mpf(float(x))) for x in given]
        nearest = np.array([float(x) for x in exact])
        unit = np.spacing(np.abs(nearest).astype(kind)).astype(float)
        wrong = [abs(mpmath.mpf(float(one)) - other) for one, other in zip(found, exact, strict=True)]
    assert np.max(np.array([float(one) for one in wrong]) / unit) < 3


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_elementary_functions_at_the_ends(name, kind):
    limits = np.finfo(kind)
    ends = np.array(
        [0, np.inf, -np.inf, np.nan, limits.max, -limits.max, limits.tiny, -1, 1, 0.25, 100, -800] * 2, kind
    )
    found = np.asarray(run(getattr(jax.lax, name), jnp.asarray(ends)))
    expected = np.asarray(getattr(jax.lax, name)(jnp.asarray(ends)))
    np.testing.assert_allclose(found, expected, rtol=40 * limits.eps, atol=limits.tiny)


@pytest.mark.parametrize("name", ["erf", "tan", "atan", "cbrt", "exp2", "sinh", "acosh"])
def test_other_functions_are_those_of_the_library(name):
    given = jnp.asarray(1 + RNG.random(LANES))
    agree(getattr(jax.lax, name), given, ulps=16)
    agree(getattr(jax.lax, name), given.astype(jnp.float32), ulps=16)
    agree(lambda x, y: (x**y, jnp.arctan2(x, -y), jnp.float64(2.0) ** x), given, given[::-1], ulps=16)


@pytest.mark.parametrize("name", ["one_minus_square", "log2"])
def test_what_newer_versions_of_jax_have(name):
    function = getattr(jax.lax, name, None)
    if function is None:
        pytest.skip(f"this JAX has no {name}")
    given = jnp.asarray(1 + np.linspace(-1e-3, 1e-3, LANES) ** 3)
    agree(function, given, ulps=4)
    agree(function, given.astype(jnp.float32), ulps=4)


def test_what_xla_would_simplify_stays():
    x = jnp.asarray(np.geomspace(1e-18, 1e-3, LANES))
    np.testing.assert_allclose(run(jnp.log1p, x), np.log1p(x), rtol=1e-15)
    assert np.all(np.asarray(elementary.logarithm_of_one_plus(x)) > 0)


# Shapes, loops and branches


@pytest.mark.slow
@settings(max_examples=20)
@given(matrix=arrays.arrays(float, (3, 4, LANES), elements=st.floats(-3, 3)))
def test_arrays_of_games(matrix):
    def arranged(a):
        b = jnp.swapaxes(a, 0, 1)
        whole = jnp.concatenate([a[:2], a[1:] * 2, jnp.zeros((1, 4, LANES))])
        spread = jnp.broadcast_to(a[:1], (5, 4, LANES)) - a[2:]
        return (
            b[::2],
            whole[::-1, 1:3],
            jnp.pad(a, ((1, 0), (0, 2), (0, 0))),
            spread,
            a.reshape(6, 2, LANES),
            a[0] > a[1],
        )

    agree(arranged, jnp.asarray(matrix))


@pytest.mark.parametrize("lanes", [24, 48, 96, 7])
def test_loops_within_loops(lanes):
    def simulated(x, rate, rows):
        def step(i, state):
            x, y, count = state
            return x - rate * y, y + rate * x + i.astype(x.dtype) * 1e-3, count + 1

        def segment(carry, row):
            length, weight = row
            x, y, count = jax.lax.fori_loop(0, length, step, (*carry, 0))
            return (x * weight, y), (x, jnp.stack([x, y]), count)

        def outer(carry, rows):
            carry, kept = jax.lax.scan(segment, carry, rows)
            return carry, kept

        return jax.lax.scan(outer, (x, -x), rows, reverse=True)

    draw = np.random.default_rng(2)
    x, rate = jnp.asarray(draw.normal(size=(2, lanes)))
    rows = jnp.asarray(draw.integers(0, 5, (3, 4))), jnp.asarray(draw.uniform(0.9, 1.1, (3, 4)))
    found, expected = run(simulated, x, rate, rows, lanes=lanes), jax.jit(simulated)(x, rate, rows)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


def test_branches():
    def chosen(which, x):
        def sometimes(x):
            return jnp.exp(x), x * 2

        one = jax.lax.switch(which, [lambda x: (x, x), sometimes, lambda x: (x * 3, -x)], x)
        return jax.lax.cond(which > 0, lambda pair: pair[0] + pair[1], lambda pair: pair[0], one)

    for which in (-1, 0, 1, 2, 5):
        agree(chosen, jnp.asarray(which), numbers(np.float64) * 0.01)


@pytest.mark.slow
def test_a_game_does_not_depend_on_its_neighbours():
    def simulated(x, rate):
        return jax.lax.fori_loop(0, 50, lambda i, x: x - rate * jnp.sin(x) * jnp.tanh(x), x)

    x, rate = jnp.asarray(RNG.normal(size=(2, 96)))
    whole = np.asarray(run(simulated, x, rate, lanes=96))
    for lanes in (48, 24, 12, 3):
        for part in range(0, 96, lanes):
            own = slice(part, part + lanes)
            np.testing.assert_array_equal(run(simulated, x[own], rate[own], lanes=lanes), whole[own])


def test_several_registers_change_nothing(monkeypatch):
    def simulated(x):
        return jax.lax.fori_loop(0, 20, lambda i, x: x - 0.1 * jnp.exp(x) * x, x)

    x = jnp.asarray(RNG.normal(size=192))
    found = []
    for units in (1, 2, 4):
        monkeypatch.setattr(vector_width, "REGISTERS_PER_NUMBER", units)
        found.append(np.asarray(run(simulated, x, lanes=192)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(
    "step, count, registers",
    [
        (lambda x: x - 0.1 * x, 2, 2),  # waits for little
        (lambda x: x - 0.1 * jnp.exp(x), 2, 4),
        (lambda x: x - 0.1 * (x - 0.1 * (x - 0.1 * x)), 2, 4),
        (lambda x: x - 0.1 * (x - 0.1 * (x - 0.1 * x)), 9, 2),
        (lambda x: x - 0.1 * x, 21, 1),  # there are no more registers
    ],
)
def test_registers_per_number(step, count, registers):
    x = jnp.ones((count, 512), jnp.float32)
    closed = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 9, lambda i, x: step(x), x))(x)
    full = jit.register_bytes() // 4
    assert vector_width.tile_width(closed.jaxpr, 512) == registers * full
    assert vector_width.tile_width(jax.make_jaxpr(step)(x).jaxpr, 512) == full


def test_numbers_below_the_normal_ones_are_zero():
    tiny = float(np.finfo(np.float32).tiny)

    def shrunk(x):
        return jax.lax.fori_loop(0, 4, lambda i, x: x * jnp.float32(0.5), x)

    x = jnp.full(LANES, 4 * tiny, jnp.float32)
    assert np.all(np.asarray(run(shrunk, x)) == 0)


# What is not machine code


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda x: jnp.sort(x), "sort is not known"),
        (lambda x: jax.lax.top_k(x, 3)[0], "top_k is not known"),
        (lambda x: x[::-1], "the games are turned round"),
        (lambda x: x - x.sum(), "reduce_sum is not known"),
        (lambda x: x[:5], "slice takes games"),
        (lambda x: x * jnp.arange(float(LANES)), "the games are counted"),
        (lambda x: jax.lax.while_loop(lambda x: (x > 1)[0], lambda x: x / 2, x), "takes games"),
        (lambda x: jnp.where(jnp.isnan(x), 0, x).astype(jnp.bfloat16), "numbers of type bfloat16"),
        (lambda x: jnp.concatenate([x, x]), "concatenate takes games"),
    ],
)
def test_what_is_left_to_xla(function, reason, caplog):
    x = numbers(np.float64)
    closed = jax.make_jaxpr(function)(x)
    with pytest.raises(Unsupported, match=reason):
        compile_program(closed, LANES)
    with caplog.at_level("INFO", logger="dynamics.compiler.llvm.lowering"):
        (found,) = jax.jit(in_machine_code(closed, LANES))(x)
    np.testing.assert_array_equal(found, function(x))
    assert "left to XLA" in caplog.text


def test_an_error_names_the_equation(monkeypatch):
    """The innermost one, once, with its types."""

    def body(x):
        return jax.lax.fori_loop(0, 3, lambda i, x: jnp.stack([x[0], jnp.tanh(x[1])]), x)

    x = numbers(np.float64)
    closed = jax.make_jaxpr(body)(jnp.stack([x, x]))
    wanted = f"while lowering tanh: float64[{LANES}] -> float64[{LANES}]"
    for error in (Unsupported("no tanh"), ZeroDivisionError("no tanh")):

        def failing(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setitem(ELEMENTWISE, "tanh", failing)
            with pytest.raises(type(error), match="no tanh") as caught:
                compile_program(closed, LANES)
        assert errors.text(caught.value) == f"no tanh ({wanted})"
    with monkeypatch.context() as patch:
        patch.setitem(ELEMENTWISE, "tanh", failing)
        with pytest.warns(CompilerWarning, match=re.escape(f"ZeroDivisionError: no tanh ({wanted})")):
            jax.jit(in_machine_code(closed, LANES))(jnp.stack([x, x]))


def test_without_the_interface_of_xla_all_is_left_to_it(monkeypatch):
    def unknown():
        raise Unavailable("no description")

    monkeypatch.setattr(interface, "version", unknown)
    x = numbers(np.float64)
    with pytest.warns(CompilerWarning, match="Unavailable: no description"):
        (found,) = jax.jit(in_machine_code(jax.make_jaxpr(lambda x: x * 3)(x), LANES))(x)
    np.testing.assert_array_equal(found, x * 3)


def test_equal_programs_are_compiled_once(monkeypatch):
    x = numbers(np.float64)
    closed = jax.make_jaxpr(lambda x: x * 5 + 1)(x)
    name = compile_program(closed, LANES)
    monkeypatch.setattr(jit.llvm, "create_mcjit_compiler", None)
    assert compile_program(jax.make_jaxpr(lambda y: y * 5 + 1)(x), LANES) == name


def test_every_operation_is_tried():
    """Those of the list that are not named above or in `test_batch`."""
    text = Path(__file__).read_text()
    aliases = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "not": "bitwise_not"}
    aliases |= {"integer_pow": "**3", "convert_element_type": "astype", "select_n": "where", "add_any": "add"}
    aliases |= {"pow": "**y", "atan2": "arctan2", "clamp": "clamp", "bitcast_convert_type": "bitcast_convert_type"}
    families = {"erfc", "cosh", "asin", "acos", "asinh", "atanh"}  # as the functions of the library beside them
    missing = {name for name in ELEMENTWISE if aliases.get(name, f'"{name}"') not in text} - families
    assert not missing
