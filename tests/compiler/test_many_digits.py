"""Programs in many digits: against mpmath, against JAX in float64, and what is refused."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from dynamics.compiler.many_digits import NotEvaluated, Specialised, evaluated, exact


def value_of(function, *arguments):
    program = jax.make_jaxpr(function)(*arguments)
    return evaluated(program, [exact(argument) for argument in arguments])[0]


def program_of_everything(x, y):
    """Arithmetic, elementary functions, products of matrices, loops, branches, gathers."""
    matrix = jnp.outer(x, y) + jnp.eye(3) - 0.3 * jnp.flip(jnp.outer(y, x), 0)
    total = jnp.einsum("ij,jk,k->i", matrix, matrix.T, x) / (1 + jnp.sum(y**2))

    def body(carry, row):
        return jnp.tanh(carry * row[0]) - jax.nn.softplus(row[1]), carry**2

    carry, squares = jax.lax.scan(body, x[0], jnp.stack([x, y], axis=1), reverse=True)
    count, power = jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * y[1]), (0, x[2]))
    chosen = jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, y[2])
    picked = jnp.where(y > 0, jnp.log1p(jnp.abs(x)), jax.nn.sigmoid(x))[jnp.array([2, 0, 0])]
    picked = picked.at[jnp.array([1, 1])].add(y[:2] * x[0])
    parts = [total, squares, picked, jnp.cumsum(x)[::-1], jnp.stack([carry, power, chosen])]
    return jnp.concatenate(parts) + jnp.max(x) * jnp.prod(y) - jnp.sqrt(jnp.exp(y[0])) ** 3 + 0 * count


def test_as_jax_computes():
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=3))
    values = value_of(program_of_everything, x, y).astype(float)
    np.testing.assert_allclose(values, program_of_everything(x, y), rtol=1e-13, atol=1e-13)

    def derivative(x, y):
        inner = lambda x: jax.jvp(lambda y: program_of_everything(x, y), (y,), (x,))[1]  # noqa: E731
        return jax.jvp(inner, (x,), (y,))[1]

    np.testing.assert_allclose(value_of(derivative, x, y).astype(float), derivative(x, y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "cos", "expm1", "log1p", "sqrt", "arctan", "sinh"])
def test_to_fifty_digits(name):
    reference = {"arctan": "atan"}.get(name, name)
    with mpmath.workdps(60):
        expected = getattr(mpmath, reference)(mpmath.mpf(0.7))
        assert abs(value_of(getattr(jnp, name), 0.7).item() - expected) < mpmath.mpf(10) ** -55


def test_what_newer_versions_of_jax_have():
    if not hasattr(jax.lax, "polynomial"):
        pytest.skip("this JAX has no polynomial, one_minus_square, log2")
    x = 1 - 2.0**-40
    with mpmath.workdps(60):
        for function, expected in (
            (jax.lax.one_minus_square, 1 - mpmath.mpf(x) ** 2),
            (jax.lax.log2, mpmath.log(mpmath.mpf(x), 2)),
            (lambda x: jax.lax.polynomial(x, [3.0, -2.0, 0.5]), 3 - 2 * mpmath.mpf(x) + mpmath.mpf(x) ** 2 / 2),
        ):
            assert abs(value_of(function, x).item() - expected) < mpmath.mpf(10) ** -55


def test_a_sum_that_cancels_in_double_precision():
    assert float(value_of(lambda x: (1.0 + x) - 1.0, 2.0**-80).item()) == 2.0**-80


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: jnp.linalg.inv(jnp.outer(x, x)), "it uses"),
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: x.astype(jnp.float32) * 2, "float32"),
        (lambda x: jax.lax.fori_loop(0, 20_000, lambda _, y: y * x, x), "iterations"),
    ],
)
def test_what_is_refused(function, what):
    with pytest.raises(NotEvaluated, match=what):
        value_of(function, jnp.ones(2))


@pytest.mark.slow
def test_what_is_known_is_computed_once_and_differentiates_the_same():
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=3))

    def with_useless_parts(x, y):
        return program_of_everything(x, y) + 0.0 * jnp.linalg.norm(jnp.sin(y) * x)

    program = jax.make_jaxpr(with_useless_parts)(x, y)
    left = Specialised(program, [exact(x)], rules=True)
    assert len(left.steps) < len(Specialised(program, [], rules=True).steps)
    np.testing.assert_allclose(left([exact(y)])[0].astype(float), program_of_everything(x, y), rtol=1e-13)
    constants = [jnp.asarray(constant.astype(float)) for constant in left.constants()]

    def again(y):
        return left.function(constants, [y])[0]

    expected = jax.jacfwd(lambda y: program_of_everything(x, y))(y)
    np.testing.assert_allclose(jax.jacfwd(again)(y), expected, rtol=1e-12, atol=1e-12)
