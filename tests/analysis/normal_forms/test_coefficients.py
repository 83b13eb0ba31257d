"""Coefficients of normal forms: closed forms of the literature, and normal forms hidden behind changes of variables.

The scale of the library: r is the root mean square of the distance over a turn. With a critical vector q of norm |q|
a coefficient c of $z|z|^2$ becomes $c/(2|q|^2)$, of a real vector $c/|q|^2$.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.analysis.normal_forms.coefficients import coefficients_of
from dynamics.analysis.normal_forms.expansion import NotDecided, alone
from dynamics.analysis.normal_forms.expansion import expanded as expansion_at
from dynamics.analysis.normal_forms.higher import terms_of
from dynamics.analysis.normal_forms.spectrum import spectrum_of

MAP, FLOW = True, False


def expanded(function, point, discrete):
    expansion = alone(expansion_at(function, jnp.asarray(point, float), discrete))
    return expansion, spectrum_of(expansion, np.ones(len(point), bool))


def coefficients(function, point, discrete):
    expansion, spectrum = expanded(function, point, discrete)
    assert spectrum.beyond == 0
    result = alone(coefficients_of(expansion, spectrum.critical))
    parts = [[expansion.context.re(x) for x in mode.right] for mode in spectrum.critical]
    alone(expansion.confirm([np.array(part, object) for part in parts]))
    return result


@pytest.mark.parametrize("a", [0.5, 1.5, 2.0])
def test_hopf_of_the_brusselator(a):
    """Kuramoto, Chemical Oscillations, Waves, and Turbulence, 1984, section 2.2, for q = (1, -1 + i/A), B = 1 + A^2."""

    def field(z):
        x, y = z
        return jnp.stack([a - (2 + a**2) * x + x**2 * y, (1 + a**2) * x - x**2 * y])

    result = coefficients(field, [a, (1 + a**2) / a], FLOW)
    scale = 2 * (2 + 1 / a**2)
    np.testing.assert_allclose(result.values, [1j * a], rtol=1e-14, atol=1e-14)
    assert result.cubic[0, 0] == pytest.approx(-(2 + a**2) / (2 * a**2) / scale, rel=1e-13)
    assert result.rotations[0, 0] == pytest.approx(-(4 - 7 * a**2 + 4 * a**4) / (6 * a**3) / scale, rel=1e-13)


def test_van_der_pol():
    """r' = -r^3/8: Guckenheimer and Holmes, Nonlinear Oscillations, 1983, section 2.1, of x'' + x = -x^2 x'."""
    result = coefficients(lambda z: jnp.stack([z[1], -z[0] - z[0] ** 2 * z[1]]), [0, 0], FLOW)
    assert result.cubic[0, 0] == pytest.approx(-1 / 8, rel=1e-13)


def test_neimark_sacker_of_the_delayed_logistic_map():
    """a(0) = -2 for |q|^2 = 2: Kuznetsov, Elements of Applied Bifurcation Theory, example 4.2."""
    result = coefficients(lambda z: jnp.stack([2 * z[0] * (1 - z[1]), z[0]]), [0.5, 0.5], MAP)
    np.testing.assert_allclose(result.values, [0.5 + 1j * 3**0.5 / 2], rtol=1e-14)
    assert result.cubic[0, 0] == pytest.approx(-2 / 4, rel=1e-13)


def test_flips():
    """Of the logistic map, c = 9 (f''^2/4 + f'''/6); of Henon's, c = 1/(1 - b^2) by hand, where q = (1, -b)."""
    result = coefficients(lambda z: 3 * z * (1 - z), [2 / 3], MAP)
    assert result.cubic[0, 0] == pytest.approx(-9, rel=1e-13)
    b = 0.25
    a = 3 * (1 - b) ** 2 / 4

    def henon(z):
        return jnp.stack([a - z[0] ** 2 + z[1], b * z[0]])

    point = (1 - b) / 2
    result = coefficients(henon, [point, b * point], MAP)
    assert result.cubic[0, 0] == pytest.approx(-1 / (1 - b**2) / (1 + b**2), rel=1e-13)


def test_folds_and_pitchforks():
    def field(z):  # y = x^2 / 2 + ... on the centre manifold: x' = x y - 2 x^3 = -1.5 x^3
        return jnp.stack([z[0] * z[1] - 2 * z[0] ** 3, -2 * z[1] + z[0] ** 2])

    result = coefficients(field, [0, 0], FLOW)
    assert (result.quadratic, result.cubic[0, 0]) == (0, pytest.approx(-1.5, rel=1e-13))
    result = coefficients(lambda z: jnp.stack([z[0] + 0.5 * z[0] ** 2, z[0] + 0.3 * z[1]]), [0, 0], MAP)
    length = (1 + 1 / 0.49) ** 0.5
    assert abs(result.quadratic) == pytest.approx(0.5 / length, rel=1e-12)


def hidden(motion, size, seed, discrete, terms):
    """A normal form in coordinates u, seen in x = S (u + p(u)), with a quadratic and cubic p; and S."""
    rng = np.random.default_rng(seed)
    lower, upper = (np.tril(rng.integers(-1, 2, (size, size)), -1) + np.eye(size) for _ in range(2))
    mixing = lower @ upper.T  # integers of determinant 1: its inverse is exact
    inverse = np.rint(np.linalg.inv(mixing))
    np.testing.assert_array_equal(mixing @ inverse, np.eye(size))
    second, third = 0.2 * rng.normal(size=(size, size, size)), 0.2 * rng.normal(size=(size,) * 4)

    def outward(u):
        return mixing @ (u + jnp.einsum("ijk,j,k", second, u, u) + jnp.einsum("ijkl,j,k,l", third, u, u, u))

    def inward(x):  # the inverse series
        start = u = inverse @ x
        for _ in range(terms):
            u = start - jnp.einsum("ijk,j,k", second, u, u) - jnp.einsum("ijkl,j,k,l", third, u, u, u)
        return u

    if discrete:
        return (lambda x: outward(motion(inward(x)))), mixing
    return (lambda x: jax.jvp(outward, (inward(x),), (motion(inward(x)),))[1]), mixing


@pytest.mark.slow_cases("False", "True")
@pytest.mark.parametrize("discrete", [FLOW, MAP])
def test_two_pairs_and_a_stable_direction_behind_a_change_of_variables(discrete):
    cubic = np.array([[-0.7, 0.4], [-0.3, -0.2]])
    turning = np.array([[0.3, -0.1], [0.2, 0.5]])
    angles = np.array([1.0, 2.3])

    def motion(u):
        pairs = u[:4].reshape(2, 2)
        squares = jnp.sum(pairs**2, axis=1)
        grown, turned = cubic @ squares, turning @ squares
        x, y = pairs.T
        if not discrete:
            moved = jnp.stack([grown * x - (angles + turned) * y, (angles + turned) * x + grown * y], axis=1)
            return jnp.concatenate([moved.ravel(), -0.8 * u[4:] + x[0] * y[1]])
        c, s = jnp.cos(angles + 0 * squares), jnp.sin(angles + 0 * squares)  # in the program: in many digits
        x, y = x + grown * x - turned * y, y + turned * x + grown * y
        return jnp.concatenate([jnp.stack([c * x - s * y, s * x + c * y], axis=1).ravel(), 0.4 * u[4:] + x[0] * y[1]])

    function, mixing = hidden(motion, 5, 3, discrete, 3)
    result = coefficients(function, np.zeros(5), discrete)
    order = np.argsort(np.angle(result.values) if discrete else result.values.imag)
    # The stable direction is driven by the pairs: their vectors are those of the pairs alone.
    scales = np.array([np.sum(mixing[:, 2 * k : 2 * k + 2] ** 2) / 2 for k in range(2)])
    np.testing.assert_allclose(result.cubic[np.ix_(order, order)], cubic / scales, rtol=1e-10)
    np.testing.assert_allclose(result.rotations[np.ix_(order, order)], turning / scales, rtol=1e-10)


@pytest.mark.slow
def test_a_bautin_point_in_one_bent_coordinate():
    """r' = -0.7 r^5 in u = x - 0.3 y^2 and y."""

    def field(z):
        u, y = z[0] - 0.3 * z[1] ** 2, z[1]
        grown = -0.7 * (u**2 + y**2) ** 2
        velocity = 1.3 * u + grown * y
        return jnp.stack([-1.3 * y + grown * u + 0.6 * y * velocity, velocity])

    result = coefficients(field, [0, 0], FLOW)
    assert abs(result.cubic[0, 0]) <= result.errors[0, 0] < 1e-13
    expansion, spectrum = expanded(field, [0, 0], FLOW)
    terms = alone(terms_of(expansion, spectrum.critical[0]))
    assert [term.order for term in terms] == [3, 5]
    assert terms[1].coefficient == pytest.approx(-0.7, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("discrete", [FLOW, MAP])
def test_a_bautin_point(discrete):
    """The third order vanishes within its bound, and the fifth is what was hidden."""

    def motion(u):
        square = jnp.sum(u**2)
        turned = 1.1 + 0.4 * square
        if not discrete:
            return -0.7 * square**2 * u + turned * jnp.stack([-u[1], u[0]])
        c, s = jnp.cos(turned), jnp.sin(turned)
        return jnp.exp(-0.7 * square**2) * jnp.stack([c * u[0] - s * u[1], s * u[0] + c * u[1]])

    function, mixing = hidden(motion, 2, 5, discrete, 5)
    expansion, spectrum = expanded(function, np.zeros(2), discrete)
    found = alone(coefficients_of(expansion, spectrum.critical))
    assert abs(found.cubic[0, 0]) <= found.errors[0, 0] < 1e-12
    scale = np.sum(mixing**2) / 2
    terms = alone(terms_of(expansion, spectrum.critical[0]))
    assert [term.order for term in terms] == [3, 5]
    assert abs(terms[0].coefficient) <= terms[0].error
    assert terms[1].coefficient == pytest.approx(-0.7 / scale**2, rel=1e-10)


@pytest.mark.slow
def test_third_order_by_derivatives_and_by_values():
    """Two computations that share no formula; a field that is not symmetric, with unequal entries."""

    def field(z):
        x, y, m = z
        return jnp.stack([-2 * y + x**2 - x * y * m, x / 2 + jnp.sin(x * y) + m * x, -m + x * y + jnp.cosh(y) - 1])

    expansion, spectrum = expanded(field, np.zeros(3), FLOW)
    by_derivatives = alone(coefficients_of(expansion, spectrum.critical)).cubic[0, 0]
    assert alone(terms_of(expansion, spectrum.critical[0], 3))[0].coefficient == pytest.approx(
        by_derivatives, rel=1e-11
    )


@pytest.mark.parametrize(
    ("function", "size", "discrete", "what"),
    [
        (lambda z: jnp.stack([-z[0] - z[1] + z[0] ** 2, z[0]]), 2, MAP, "resonance"),  # cubic roots of 1
        (lambda z: jnp.stack([z[1], -(z[0] ** 3)]), 2, FLOW, "defective"),
        (lambda z: jnp.stack([z[1], -z[0], 2 * z[3] + z[0] ** 2, -2 * z[2]]), 4, FLOW, "resonance"),  # 1:2
        (lambda z: jnp.stack([z[1], -z[0], z[3] + z[0] ** 3, -z[2]]), 4, FLOW, "defective|repeated"),  # 1:1
        (lambda z: jnp.stack([z[1], -z[0] - z[1] ** 2 * jnp.abs(z[1])]), 2, FLOW, "not smooth enough"),
    ],
)
def test_what_is_refused_has_a_reason(function, size, discrete, what):
    with pytest.raises(NotDecided, match=what):
        coefficients(function, np.zeros(size), discrete)


def test_a_resonance_of_order_four_is_a_coupling():
    def step(z):  # a quarter of a turn
        x, y = z - 0.3 * jnp.sum(z**2) * z + 0.1 * z**3
        return jnp.stack([-y, x])

    result = coefficients(step, [0, 0], MAP)
    # x^3 + i y^3 is (3 z |z|^2 + conj(z)^3) / 4.
    assert result.cubic[0, 0] == pytest.approx(-0.3 + 0.075, rel=1e-12)
    assert result.coupling == pytest.approx(0.025, rel=1e-12)
