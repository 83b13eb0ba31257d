"""Programs made short: same values, same switches on the same sides, fewer equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics._compiling import quick_jit
from dynamics.compiler.jaxprs import jaxpr_as_fun, simplified
from dynamics.compiler.many_digits import Specialised, exact
from dynamics.compiler.switches import gaps, on_sides, short_gaps, short_on_sides, shortened

POINT = jnp.array([0.3, -1.2, 0.7])


def everything(x):
    """Calls, equal terms, products with 1, two changes of sign, a loop, a branch, switches, a smooth softplus."""
    norm = jax.jit(lambda y: jnp.sqrt(jnp.sum(y**2)))
    total, _ = jax.lax.scan(lambda carry, row: (carry + jnp.abs(row) * carry, None), 1.0 * norm(x), x)
    chosen = jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, -jnp.negative(x))
    return jax.nn.relu(x) * norm(x) + chosen + total * jax.nn.softplus(x) + jnp.maximum(x, x[::-1]) / norm(x)


def equations(function):
    return len(jax.make_jaxpr(function)(POINT).jaxpr.eqns)


def test_values_derivatives_and_gaps_stay():
    short, distances = shortened(everything, POINT), short_gaps(everything, POINT)
    points = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    pairs = ((short, everything), (jax.jacfwd(short), jax.jacfwd(everything)), (distances, gaps(everything)))
    for one, other in pairs:
        one_values, other_values = quick_jit(lambda x, f=(one, other): tuple(map(lambda g: jax.vmap(g)(x), f)))(points)
        np.testing.assert_allclose(one_values, other_values, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sign", [-1, 0])
def test_pieces_stay(sign):
    signs = np.full(gaps(everything)(POINT).size, sign)
    value, gap = short_on_sides(everything, signs, POINT)

    def both(x):
        return (value(x), gap(x)), on_sides(everything, signs)(x)

    for x in (POINT, -2 * POINT):
        for one, other in zip(*quick_jit(both)(x), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_gaps_leave_out_what_only_values_need():
    def field(x):
        value = x
        for _ in range(20):
            value = jnp.sin(value) * x
        return value * jax.nn.relu(x)

    assert equations(short_gaps(field, POINT)) <= 4 < 40 < equations(gaps(field))


def test_equal_equations_are_merged_and_others_are_not():
    def function(x, y):
        return jnp.exp(x) * jnp.exp(x) + jnp.exp(y) + x * 1.0 + jnp.float32(2.0) * y.astype("float32") + 2.0 * y

    half, quarter = jnp.asarray(0.5), jnp.asarray(0.25)
    short = simplified(jax.make_jaxpr(function)(half, quarter))
    names = [eqn.primitive.name for eqn in short.jaxpr.eqns]
    assert names.count("exp") == 2
    assert names.count("mul") == 3  # the square, and those with 2 in two precisions
    np.testing.assert_allclose(jaxpr_as_fun(short)(half, quarter)[0], function(half, quarter))


def test_zero_times_infinity_is_not_a_number_unless_asked():
    with np.errstate(all="ignore"):
        program = jax.make_jaxpr(lambda x: 0.0 * (1.0 / x))(1.0)
        assert np.isnan(float(Specialised(program, [], zeros=False)([exact(0.0)])[0]))
        assert float(Specialised(program, [])([exact(0.0)])[0]) == 0
