"""What is often said of training two players, on games small enough to check by hand."""

import jax.numpy as jnp
import numpy as np

from dynamics.checks.measures import (
    abscissa,
    eigenvalues,
    end,
    every,
    field_jacobian,
    norm,
    path,
    radius,
    same_sign,
    same_spectrum,
    when,
)
from dynamics.claims.base import claim
from dynamics.flows import Flow
from dynamics.games import PlanarQuadratic, Quadratic
from dynamics.optimisers import momentum, sgd
from dynamics.strategies import arrays, numbers, several
from dynamics.updates import Alternating, Averaged, Extragradient, Simultaneous

MATRIX = arrays((2, 2), size=2)
THREE = arrays((3, 3), size=2)
RATE = numbers(0.125, 1)
RATES = several(RATE, 2).map(np.asarray)
NASH = dict(a=numbers(0, 2), b=numbers(-2, 2), c=numbers(0, 2), rate=RATE)  # convex-concave games
# Player 0 is repelled by its own curvature, and held by the coupling if the other player is damped enough.
HELD = dict(lure=numbers(0.25, 1), coupling=numbers(0.5, 2), c=numbers(0.25, 1))
STABLE = 0.999  # a radius that is clearly below 1


def two(update, rates, **options):
    """An update of two players with plain steps."""
    return update(sgd(rates[0]), sgd(rates[1]), **options)


def equal(update, rate, **options):
    """The same with one rate."""
    return two(update, (rate, rate), **options)


def smaller(value, other):
    """Margin of "the first radius is at most the second one", beyond what rounding may explain."""
    return other - value + 1e-6


@claim(
    "folklore/alternating-is-faster",
    "Alternating updates are at least as fast as simultaneous ones wherever both converge.",
    source="folklore, from bilinear games",
    kind="folklore",
    holds=False,
    domain=NASH,
    because="The best rates differ. With f = xy/2 - y^2/2 and rate 1 simultaneous updates have the double eigenvalue "
    "1/2, alternating ones have 3/4.",
)
def alternating_is_faster(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    turns, at_once = (radius(game, equal(update, rate)) for update in (Alternating, Simultaneous))
    return when((turns < STABLE) & (at_once < STABLE), smaller(turns, at_once))


@claim(
    "folklore/alternating-wherever-simultaneous",
    "Where simultaneous updates converge on a convex-concave game, alternating ones with the same rates do.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=NASH,
    because="With f = xy - y^2 and rate 1 simultaneous updates end after two steps, and alternating ones diverge, by "
    "the golden ratio. For small steps both converge.",
)
def alternating_wherever_simultaneous(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    turns, at_once = (radius(game, equal(update, rate)) for update in (Alternating, Simultaneous))
    return when(at_once < STABLE, 1.0001 - turns)


@claim(
    "folklore/averaging-helps",
    "The average of the iterates is closer to the equilibrium than the last iterate.",
    source="folklore, from bilinear games with alternating updates",
    kind="folklore",
    holds=False,
    domain=NASH,
    because="Where the iterates converge the average forgets the start like 1 / t only.",
)
def averaging_helps(a, b, c, rate):
    game, update = PlanarQuadratic(a, b, c), equal(Simultaneous, rate)
    last, average = (norm(end(game, method, (1.0, 0.0), 20)) for method in (update, Averaged(update)))
    return when(radius(game, update) < STABLE, last - average + 1e-6)


@claim(
    "folklore/order-of-two",
    "Who of two players moves first makes no difference to the speed: alternating updates in either order have the "
    "same eigenvalues, whatever the rates, the inner steps and the momentum.",
    source="by hand: AB and BA have the same eigenvalues",
    kind="theorem",
    domain=dict(matrix=MATRIX, rates=RATES, coefficients=several(numbers(-0.5, 0.5), 2).map(np.asarray)),
    because="A step of one order is a step of the other one, begun half a round later.",
)
def order_of_two(matrix, rates, coefficients):
    balls = [momentum(rate, own) for rate, own in zip(rates, coefficients, strict=True)]
    first, second = (Alternating(*balls, order=order, repeats=(1, 2)) for order in ((0, 1), (1, 0)))
    return same_spectrum(eigenvalues(Quadratic(matrix), first), eigenvalues(Quadratic(matrix), second), 1e-4)


@claim(
    "folklore/order-of-many",
    "An order of three players can be rotated without a change of the eigenvalues of alternating updates.",
    source="by hand",
    kind="theorem",
    hypotheses="the new order is a rotation of the old one",
    domain=dict(matrix=THREE, rates=several(RATE, 3).map(np.asarray)),
    because="A product of three matrices keeps its eigenvalues when its factors are rotated.",
)
def order_of_many(matrix, rates):
    return same_orders(matrix, rates, (1, 2, 0))


def same_orders(matrix, rates, order):
    """Whether an order of three players has the eigenvalues of the order (0, 1, 2)."""
    game, steps = Quadratic(matrix), [sgd(rate) for rate in rates]
    one, other = (eigenvalues(game, Alternating(*steps, order=turns)) for turns in ((0, 1, 2), order))
    return same_spectrum(one, other, 1e-4)


order_of_many.without(
    "swapped",
    "the new order is a rotation of the old one",
    because="Swapping two of three players is another composition: (0, 2, 1) sees other fresh moves.",
    check=lambda matrix, rates: same_orders(matrix, rates, (0, 2, 1)),
)


@claim(
    "folklore/more-discriminator-steps",
    "More inner steps of the discriminator are never slower, as long as training converges.",
    source="folklore, from the limit of a discriminator at its best answer",
    kind="folklore",
    holds=False,
    domain=NASH,
    because="The generator's step is then one on a steeper loss, a + b^2 / c instead of a, and may be too long for it.",
)
def more_discriminator_steps(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    few, many = (radius(game, equal(Alternating, rate, repeats=(1, count))) for count in (1, 5))
    return when((few < STABLE) & (many < STABLE), smaller(many, few))


@claim(
    "folklore/smaller-rates",
    "Simultaneous updates that converge locally still do when all rates are multiplied by one number below 1.",
    source="folklore; by hand",
    kind="theorem",
    hypotheses="one factor for all players",
    domain=dict(
        lure=numbers(0, 1),
        coupling=numbers(0.25, 2),
        extra=numbers(0.25, 1),
        rates=RATES,
        portion=numbers(0.125, 0.9375),
        share=numbers(0.0625, 1),
        ratio=numbers(1, 1),
    ),
    because="The eigenvalue 1 + t h l lies between 1 and 1 + h l, and the unit disk is strictly convex.",
)
def smaller_rates(lure, coupling, extra, rates, portion, share, ratio):
    # A game whose flow with these rates is stable, and steps of a portion of the longest stable one.
    c = lure * rates[0] / rates[1] + extra
    game = PlanarQuadratic(-lure, jnp.sqrt(lure * c) + coupling, c)
    values = jnp.linalg.eigvals(rates[:, None] * field_jacobian(game))
    rates = portion * jnp.min(-2 * values.real / jnp.abs(values) ** 2) * rates
    before = radius(game, two(Simultaneous, rates))
    after = radius(game, two(Simultaneous, rates * jnp.stack([share, share * ratio])))
    return every(1 - before, 1 - after)


smaller_rates.without(
    "one-player",
    "one factor for all players",
    because="A player that is repelled from the point may have been held by the other one, which is now too slow.",
    ratio=numbers(0, 0.5),
)


@claim(
    "folklore/smaller-rates-in-turns",
    "Alternating updates that converge locally still do when all rates are multiplied by one number below 1.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=HELD | dict(rate=RATE, share=numbers(0.125, 0.5)),
    because="With a = -lure the determinant is (1 - ha)(1 - hc) = 1 - h(a + c) + h^2 ac: above 1 for small steps if "
    "a + c < 0, and below 1 for long ones. The flow repels, and the long step attracts.",
)
def smaller_rates_in_turns(lure, coupling, c, rate, share):
    game = PlanarQuadratic(-lure, coupling, c)
    before, after = (radius(game, equal(Alternating, chosen)) for chosen in (rate, share * rate))
    return when(before < STABLE, 1 - after)


@claim(
    "folklore/smaller-rates-with-a-look-ahead",
    "Extragradient that converges locally still does when its rate is multiplied by a number below 1.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=dict(lure=numbers(0.125, 0.5), coupling=numbers(1, 2), rate=RATE, share=numbers(0.125, 0.5)),
    because="An unstable rotation is damped by a long look-ahead and not by a short one.",
)
def smaller_rates_with_a_look_ahead(lure, coupling, rate, share):
    def computed(rate):
        return radius(PlanarQuadratic(-lure, coupling, 0.0), equal(Extragradient, rate, extrapolation=rate))

    return when(computed(rate) < STABLE, 1 - computed(share * rate))


@claim(
    "folklore/extragradient-wherever-descent",
    "Extragradient converges wherever simultaneous gradient descent with the same rate does.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=NASH | dict(rate=numbers(0.125, 2)),
    because="Along a curvature a it multiplies by 1 - ha + (ha)^2, which exceeds 1 from h = 1/a, not from 2/a on.",
)
def extragradient_wherever_descent(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    ahead = radius(game, equal(Extragradient, rate, extrapolation=rate))
    return when(radius(game, equal(Simultaneous, rate)) < STABLE, 1.0001 - ahead)


@claim(
    "folklore/flow-decides",
    "An update converges locally if and only if its flow does, here for simultaneous gradient descent.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=NASH,
    because="The flow attracts where all real parts are negative, the update where h < 2 |Re l| / |l|^2 in addition.",
)
def flow_decides(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    return same_sign(-abscissa(game, Flow()), 1 - radius(game, equal(Simultaneous, rate)))


@claim(
    "folklore/update-implies-flow",
    "Where simultaneous gradient descent converges locally its flow does: a flow that repels, on average over all "
    "directions, makes no step converge.",
    source="folklore; by hand",
    kind="theorem",
    hypotheses="simultaneous moves",
    domain=dict(c=numbers(0, 1), excess=numbers(0.125, 0.5), coupling=numbers(0.5, 2), rates=RATES),
    because="An eigenvalue 1 + l in the unit disk has a real part of l below 0, and the flow has the eigenvalues l.",
)
def update_implies_flow(c, excess, coupling, rates):
    game = repelling(c, excess, coupling, rates)
    return every(abscissa(game, Flow(rates=tuple(rates))), radius(game, two(Simultaneous, rates)) - 1)


def repelling(c, excess, coupling, rates):
    """The game with a = -excess - c r_1 / r_0: the flow with these rates expands areas."""
    return PlanarQuadratic(-excess - c * rates[1] / rates[0], coupling, c)


def turns_imply_flow(c, excess, coupling, rates):
    """The same for alternating updates."""
    return radius(repelling(c, excess, coupling, rates), two(Alternating, rates)) - 1 + 1e-6


update_implies_flow.without(
    "in-turns",
    "simultaneous moves",
    because="With a = -excess - c r_1 / r_0 the flow expands areas, but one round in turns has the determinant "
    "(1 - r_0 a)(1 - r_1 c), which is below 1 for long steps.",
    check=turns_imply_flow,
)


@claim(
    "folklore/distance-falls",
    "Near a stable equilibrium the distance to it falls at every step.",
    source="folklore",
    kind="folklore",
    holds=False,
    domain=dict(coupling=numbers(-4, 4), rate=RATE, x=numbers(-1, 1), y=numbers(-1, 1)),
    because="Eigenvalues decide in the end only. Where the Jacobian is far from normal, as with one player that drives "
    "the other, the distance can first grow.",
)
def distance_falls(coupling, rate, x, y):
    game = Quadratic([[1.0, coupling], [0.0, 1.0]])
    xs, ys = path(game, equal(Simultaneous, rate), (x, y), 20)
    away = jnp.hypot(xs, ys)
    return jnp.min(away[:-1] - away[1:]) + 1e-9


@claim(
    "folklore/own-curvature",
    "If every player is at a strict minimum of its own loss, given the others, the flow is attracted.",
    source="folklore; for two players with opposite losses a theorem, for instance in Mescheder, Nowozin, Geiger 2017",
    kind="folklore",
    holds=False,
    domain=dict(a=numbers(0.5, 2), c=numbers(0.5, 2), first=numbers(-4, 4), second=numbers(-4, 4)),
    because="With a coupling of the same sign for both, b b' > ac, each one's move makes the other one go further.",
)
def own_curvature(a, c, first, second):
    return -abscissa(Quadratic([[a, first], [second, c]]), Flow()) + 1e-6
