"""Cycles without any equilibrium on them, and who ends there: the almost bilinear game and Forsaken."""

import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import (
    abscissa,
    agree,
    below,
    every,
    field_jacobian,
    path,
    radius,
    same_sign,
)
from dynamics.claims.base import claim
from dynamics.flows import Flow
from dynamics.games import AlmostBilinear, Forsaken
from dynamics.optimisers import optimistic, sgd
from dynamics.strategies import numbers
from dynamics.updates import Alternating, Extragradient, RungeKutta, Simultaneous

HSIEH = (
    "Hsieh, Mertikopoulos, Cevher, The Limits of Min-Max Optimization Algorithms: Convergence to Spurious "
    "Non-Critical Sets, 2021"
)
AVERAGING = "averaging by hand; the game after " + HSIEH + " (not read: its formula may differ)"
AWAY = numbers(0.5, 2)  # radius of the start
TURN = numbers(0, 6)  # its angle
STRENGTH = numbers(0.1, 0.2)
RATIO = numbers(0.25, 0.5)  # of the step to epsilon


def extragradient(rate):
    """Extragradient with one rate, the look-ahead as long as the step."""
    return Extragradient(sgd(rate), sgd(rate), extrapolation=rate)


def optimism(rate):
    """The optimistic method with one rate."""
    return Simultaneous(optimistic(rate), optimistic(rate))


def simultaneous(rate):
    """Simultaneous descent with one rate."""
    return Simultaneous(sgd(rate), sgd(rate))


def alternating(rate):
    """Alternating descent with one rate."""
    return Alternating(sgd(rate), sgd(rate))


def cycle(epsilon, method, away, turn, steps=6000):
    """The root mean square distance from the origin over the second half of a run of the almost bilinear game."""
    x, y = path(AlmostBilinear(epsilon), method, (away * jnp.cos(turn), away * jnp.sin(turn)), steps)
    return jnp.sqrt(jnp.mean((x**2 + y**2)[steps // 2 :]))


@claim(
    "cycles/almost-bilinear-flow",
    r"The flow of $f = xy + \epsilon(\frac{y^2}2 - \frac{y^4}4)$ ends on a cycle around the origin, whose radius is "
    r"$\sqrt{4/3}$ as $\epsilon \to 0$.",
    source=AVERAGING,
    kind="closed form",
    domain=dict(epsilon=STRENGTH, away=AWAY, turn=TURN),
    because="Averaged over a turn, r' = epsilon (r / 2 - 3 r^3 / 8).",
)
def almost_bilinear_flow(epsilon, away, turn):
    return agree(cycle(epsilon, RungeKutta(0.1), away, turn, 1500), jnp.sqrt(4 / 3), 0.01, 1)


@claim(
    "cycles/extragradient",
    r"With a constant step $h < \epsilon$ extragradient and the optimistic method end on a smaller cycle of the almost "
    r"bilinear game, of radius $\sqrt{\frac43(1 - h/\epsilon)}$.",
    source=AVERAGING,
    kind="closed form",
    hypotheses="epsilon is positive",
    unshown="with a negative epsilon the origin attracts and the cycle is one that repels",
    domain=dict(epsilon=STRENGTH, ratio=RATIO, away=AWAY, turn=TURN, optimistic=st.booleans()),
    because="Their drift h Dv v / 2 adds - h r / 2 to the averaged flow.",
)
def extragradient_cycle(epsilon, ratio, away, turn, optimistic):
    method = (optimism if optimistic else extragradient)(ratio * epsilon)
    return agree(cycle(epsilon, method, away, turn), jnp.sqrt(4 / 3 * (1 - ratio)), 0.02, 1)


@claim(
    "cycles/simultaneous",
    r"With a constant step h simultaneous descent ends on a larger cycle of the almost bilinear game, of radius "
    r"$\sqrt{\frac43(1 + h/\epsilon)}$.",
    source=AVERAGING,
    kind="closed form",
    domain=dict(epsilon=STRENGTH, ratio=RATIO, away=AWAY, turn=TURN),
    because="Its drift - h Dv v / 2 adds h r / 2 to the averaged flow.",
)
def simultaneous_cycle(epsilon, ratio, away, turn):
    computed = cycle(epsilon, simultaneous(ratio * epsilon), away, turn)
    return agree(computed, jnp.sqrt(4 / 3 * (1 + ratio)), 0.01, 1)


@claim(
    "cycles/alternating",
    r"With a constant step h alternating descent ends on a cycle of the almost bilinear game of radius $\sqrt{4/3}$, "
    "the flow's, whatever the step.",
    source=AVERAGING,
    kind="closed form",
    domain=dict(epsilon=STRENGTH, ratio=RATIO, away=AWAY, turn=TURN),
    because="On the bilinear part alternating descent neither grows nor shrinks, to first order in the step.",
)
def alternating_cycle(epsilon, ratio, away, turn):
    return agree(cycle(epsilon, alternating(ratio * epsilon), away, turn), jnp.sqrt(4 / 3), 0.01, 1)


@claim(
    "cycles/optimism-is-trapped",
    "Extragradient ends on the spurious cycle of the almost bilinear game, whatever its constant step.",
    source=f"a reading of {HSIEH}, whose statements are for vanishing steps",
    kind="refuted",
    domain=dict(epsilon=numbers(0.1, 0.5), rate=numbers(0.1, 0.5)),
    because="With a step of at least about epsilon it converges to the origin, which repels the flow.",
)
def optimism_is_trapped(epsilon, rate):
    return cycle(epsilon, extragradient(rate), 1.0, 0.0) - 0.1


@claim(
    "cycles/extragradient-at-the-origin",
    r"The origin of the almost bilinear game attracts extragradient with rate h if and only if "
    r"$\epsilon(1 + h^2) + h\epsilon^2 + h^3 < h$, though it repels the flow: for small steps, iff $h > \epsilon$.",
    source="eigenvalues by hand",
    kind="closed form",
    domain=dict(epsilon=numbers(0.01, 1), rate=numbers(0.01, 1)),
    because="With the flow's eigenvalue l, of modulus 1 and real part epsilon / 2, it is |1 + h l + h^2 l^2| < 1.",
)
def extragradient_at_the_origin(epsilon, rate):
    game = AlmostBilinear(epsilon)
    predicted = rate - epsilon * (1 + rate**2) - rate * epsilon**2 - rate**3
    return every(
        same_sign(predicted, 1 - radius(game, extragradient(rate))),
        abscissa(game, Flow()),  # positive: repelled
    )


def forsaken_run(method, x, y, steps):
    """The distances from Forsaken's equilibrium along a run."""
    game = Forsaken()
    (x_rest, y_rest), (xs, ys) = game.equilibria()[0], path(game, method, (x, y), steps)
    return jnp.hypot(xs - x_rest, ys - y_rest)


def around(distance, turn):
    """A point at some distance from Forsaken's equilibrium."""
    x, y = Forsaken().equilibria()[0]
    return x + distance * jnp.cos(turn), y + distance * jnp.sin(turn)


@claim(
    "cycles/forsaken-point",
    r"Forsaken's equilibrium attracts the flow with rates $(1, \tau)$ if and only if "
    r"$\tau < f_{xx}/f_{yy} \approx 1.24$; there $f_{yy} > 0$, so that it is neither a local Nash nor a local "
    "minimax point.",
    source=f"{HSIEH}, section 5; eigenvalues by hand",
    kind="closed form",
    domain=dict(ratio=numbers(0.25, 4)),
    because=r"The trace of the flow's Jacobian is - f_xx + tau f_yy, and its determinant is positive.",
)
def forsaken_point(ratio):
    game = Forsaken()
    matrix = field_jacobian(game)
    own, other = -matrix[0, 0], matrix[1, 1]
    return every(other, same_sign(own / other - ratio, -abscissa(game, Flow(rates=(1.0, ratio)))))


@claim(
    "cycles/forsaken-inside",
    "Starts within 0.12 of Forsaken's equilibrium converge to it.",
    source=f"{HSIEH}, section 5; the distance was computed",
    kind="conjecture",
    domain=dict(distance=numbers(0, 0.12), turn=TURN),
    because="They start inside the unstable cycle, and the equilibrium attracts weakly, with real parts of -0.045.",
)
def forsaken_inside(distance, turn):
    distances = forsaken_run(RungeKutta(0.1), *around(distance, turn), 3000)
    return below(distances[-1], 0.01 * distance, 1e-9)


@claim(
    "cycles/forsaken-outside",
    "Starts between 0.5 and 1.5 away from Forsaken's equilibrium end on an attracting cycle without any equilibrium "
    "on it: between 0.92 and 1.92 away from the point, with the flow and with extragradient.",
    source=f"{HSIEH}, section 5; the numbers were computed",
    kind="conjecture",
    domain=dict(distance=numbers(0.5, 1.5), turn=TURN, look_ahead=st.booleans()),
    because="They start outside the unstable cycle; what repels there ends where the terms of degree six hold it.",
)
def forsaken_outside(distance, turn, look_ahead):
    method = extragradient(0.02) if look_ahead else RungeKutta(0.05)
    distances = forsaken_run(method, *around(distance, turn), 4000)[-1000:]
    return every(agree(jnp.max(distances), 1.916, 0.02, 1), agree(jnp.min(distances), 0.9226, 0.02, 1))


@claim(
    "cycles/attracting-point-attracts",
    "Where the only equilibrium attracts the flow, training converges to it.",
    source="folklore; refuted by Hsieh, Mertikopoulos, Cevher 2021",
    kind="refuted",
    domain=dict(x=numbers(-1.5, 1.5), y=numbers(-1.5, 1.5)),
    because="From the counterexample the flow of Forsaken ends on the cycle around the equilibrium instead.",
)
def attracting_point_attracts(x, y):
    return 0.5 - forsaken_run(RungeKutta(0.05), x, y, 4000)[-1]
