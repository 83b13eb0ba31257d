"""Terms of third order where smooth pieces meet, against closed forms of averaging."""

import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.analysis.normal_forms.expansion import alone
from dynamics.analysis.stability.kinked_orders import averaged_over_kinks
from dynamics.flows import GapAwareFlow
from dynamics.games import DiracGAN


def averaged(field, size):
    is_player = np.arange(size) < 2
    return alone(averaged_over_kinks(field, jnp.zeros(size), is_player)).coefficients


def filtered(above, below, filter_time, cubic=0.0):
    """x' = -y, y' = (1 + c(L) L) x + cubic terms, T L' = -x y - L: a rate that follows the filtered loss."""

    def field(state):
        x, y, loss = state
        factor = 1 + jnp.where(loss > 0, above, below) * loss
        radius = x**2 + y**2
        return jnp.stack([-y + cubic * radius * x, factor * x + cubic * radius * y, (-x * y - loss) / filter_time])

    return field


@pytest.mark.parametrize("above, below, filter_time, cubic", [(3.0, 7.0, 2.0, 0.0), (-1.0, 0.5, 0.7, -0.02)])
def test_a_filtered_loss(above, below, filter_time, cubic):
    # <c(L) L x y> = -<c(L) L^2> - T <c(L) L L'>, the latter a derivative: r' = -(c+ + c-) r^3 / (16 (1 + 4 T^2)).
    expected = cubic - (above + below) / 16 / (1 + 4 * filter_time**2)
    coefficients = averaged(filtered(above, below, filter_time, cubic), 3)
    np.testing.assert_allclose(coefficients.cubic, [[expected]], atol=float(coefficients.errors[0, 0]))
    assert coefficients.errors[0, 0] < 1e-3 * (abs(above) + abs(below))


@pytest.mark.slow
def test_a_gap_aware_flow_attracts_what_was_neutral():
    game, time, width = DiracGAN(dy.objectives.Wasserstein()), 4.0, 0.1
    report = dy.stability(game, GapAwareFlow(0.0, time, width_below=width, width_above=width))
    slopes = np.log(2.0) / width - np.log(0.1) / width
    assert report.verdict == "stable" and report.order == 3
    np.testing.assert_allclose(report.normal_form.cubic, [[-slopes / 16 / (1 + 4 * time**2)]], rtol=1e-4)


def test_a_kink_of_second_order_is_refused():
    from dynamics.analysis.normal_forms.expansion import NotDecided

    def field(state):
        x, y = state
        return jnp.stack([-y - jnp.abs(x) * x, x])

    with pytest.raises(NotDecided, match="not of third order"):
        averaged(field, 2)


def test_switches_of_a_term_of_weight_0_are_left_out():
    from dynamics.analysis.normal_forms.expansion import NotDecided

    field = filtered(3.0, 7.0, 2.0)

    def weighted(weight):
        return lambda state: field(state) - weight * jnp.abs(state[0] * state[1]) * state  # no smooth surface

    coefficients = averaged(weighted(0.0), 3)
    np.testing.assert_allclose(coefficients.cubic, [[-10 / 16 / 17]], atol=float(coefficients.errors[0, 0]))
    with pytest.raises(NotDecided, match="not on smooth surfaces"):
        averaged(weighted(1e-3), 3)
