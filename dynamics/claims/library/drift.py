"""Discretisation drift: the flow that an update really follows, and what it says of the update's stability."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from dynamics.checks.measures import agree, eigenvalues, every, radius, same_sign, same_spectrum, when
from dynamics.claims.base import claim
from dynamics.flows import AlternatingFlow, Flow, ModifiedFlow
from dynamics.game import Game, ZeroSum, as_players
from dynamics.games import Bilinear, Quadratic
from dynamics.optimisers import momentum, optimistic, sgd
from dynamics.strategies import arrays, matrices_with_singular_values, numbers, several
from dynamics.updates import ODEGAN, Alternating, Extragradient, RungeKutta, Simultaneous
from dynamics.updates.base import State

ROSCA = "Rosca, Wu, Dherin, Barrett, Discretization Drift in Two-Player Games, 2021"
QIN = "Qin et al., Training Generative Adversarial Networks by Solving Ordinary Differential Equations, 2020"
SQUARE = matrices_with_singular_values(0.25, 4.0, ((1, 1), (2, 2)))
RATES = several(numbers(0.25, 4), 2).map(np.asarray)
EQUAL = numbers(0.25, 4).map(lambda rate: np.asarray([rate, rate]))
# Two losses of three numbers, sin(a . z) + (b . z)^2 / 2 each: player 0 holds two of the numbers, player 1 one.
LOSSES = arrays((2, 2, 3), size=2)
POINT = arrays((3,), size=2)
VALUE = arrays((2, 3), size=2)
FIRST, SECOND = slice(0, 2), slice(2, 3)


def ridges(coefficients, z):
    """sin(a . z) + (b . z)^2 / 2."""
    return jnp.sin(coefficients[0] @ z) + (coefficients[1] @ z) ** 2 / 2


def two_losses(coefficients, players, key=None):
    """One such loss per player."""
    z = ravel_pytree(players)[0]
    return ridges(coefficients[0], z), ridges(coefficients[1], z)


def one_value(coefficients, x, y):
    """The same as a value of two players."""
    return ridges(coefficients, jnp.concatenate([x, y]))


def general_sum(coefficients):
    """The game of two unrelated losses."""
    return Game.from_losses(Partial(two_losses, coefficients))


def split(z):
    """Three numbers as the two players."""
    return z[FIRST], z[SECOND]


def flat_field(game):
    """The game's field as a function of three numbers."""
    return lambda z: ravel_pytree(game.field(split(z)))[0]


def along(function, z, direction):
    """The derivative of a function of z along a direction."""
    return jax.jvp(function, (z,), (direction,))[1]


def taylor(function, order):
    """The coefficients of h^0, ..., h^order of a function of the step h at 0, by automatic differentiation."""

    def derivatives(function, order):
        if not order:
            return lambda h: (function(h),)
        lower = derivatives(function, order - 1)

        def all_of(h):
            values, slopes = jax.jvp(lower, (h,), (jnp.ones_like(h),))
            return (*values, slopes[-1])

        return all_of

    computed, factorial = [], 1.0
    for k, value in enumerate(derivatives(function, order)(jnp.zeros(()))):
        factorial *= max(k, 1)
        computed.append(value / factorial)
    return jnp.stack(computed)


def of_flow(fields, z):
    """The coefficients of h^0, h^1, h^2 of time h along the field c_0 + h c_1."""
    drift = fields[1](z) + along(fields[0], z, fields[0](z)) / 2
    return jnp.stack([z, fields[0](z), drift])


def of_update(game, build, z, order=2):
    """The coefficients of one step of an update without memory, as a function of the step."""

    def one_step(h):
        update = build(h)
        return ravel_pytree(update.step(game, update.init(game, split(z))).players)[0]

    return taylor(one_step, order)


def modified(game, build, z, order=1):
    """The coefficients of the library's modified flow."""
    return jnp.stack([ravel_pytree(term)[0] for term in ModifiedFlow(build, 1.0, order).terms(game, split(z))])


def close(computed, expected):
    """Equal, but for rounding that grows with the largest coefficient."""
    return agree(computed, expected, 1e-10)


def simultaneous_steps(rates, h):
    """Simultaneous descent with rates in proportion to the step."""
    return Simultaneous(sgd(h * rates[0]), sgd(h * rates[1]))


def drift_of(game, rates, counts=(1, 1), cross=(-1, -1)):
    """The flow of each player and its drift: own terms -n_i r_i^2 D_i v_i v_i / 2, cross terms +- D_j v_i v_j / 2."""
    field = flat_field(game)
    scale = jnp.asarray([rates[0] * counts[0]] * 2 + [rates[1] * counts[1]])

    def flow(z):
        return scale * field(z)

    def drift(z):
        own = jnp.concatenate([flow(z)[FIRST], jnp.zeros(1)])
        other = flow(z) - own
        by_first, by_second = along(flow, z, own), along(flow, z, other)
        first = -by_first[FIRST] / counts[0] + cross[0] * by_second[FIRST]
        second = -by_second[SECOND] / counts[1] + cross[1] * by_first[SECOND]
        return jnp.concatenate([first, second]) / 2

    return flow, drift


@claim(
    "drift/simultaneous",
    r"One step of simultaneous descent with rates $h r_i$ is time h of the flow "
    r"$\dot x_i = r_i v_i - \frac h2\sum_j r_i r_j\,(D_j v_i) v_j$, up to $O(h^3)$.",
    source=f"{ROSCA}, theorem 3.1; here in common time, for unequal rates",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES),
    because="The flow of v is x + h v + h^2 Dv v / 2 + ..., of which Euler's step has the first two terms only.",
)
def simultaneous(losses, point, rates):
    game = general_sum(losses)
    fields = drift_of(game, rates)
    build = Partial(simultaneous_steps, rates)
    expected = jnp.stack([fields[0](point), fields[1](point)])
    return every(
        close(of_update(game, build, point), of_flow(fields, point)),
        close(modified(game, build, point), expected),
    )


@claim(
    "drift/plain-flow",
    "One step of simultaneous descent with rate h is time h of the flow of the field, up to $O(h^3)$.",
    source="refuted by the analysis of Euler's method; the claim is made wherever updates are called flows",
    kind="refuted",
    domain=dict(losses=LOSSES, point=POINT),
    because="They part at second order, by half of h^2 Dv v, in a direction that makes rotations grow.",
)
def plain_flow(losses, point):
    game = general_sum(losses)
    nothing = flat_field(game), jnp.zeros_like
    return close(of_update(game, Partial(simultaneous_steps, jnp.ones(2)), point), of_flow(nothing, point))


def alternating_steps(repeats, rates, h):
    """Alternating descent with rates in proportion to the step."""
    return Alternating(sgd(h * rates[0]), sgd(h * rates[1]), repeats=repeats)


@claim(
    "drift/alternating",
    r"One round of alternating descent, with $n_i$ inner steps of rate $h r_i$ each, is time h of the flow with "
    r"$V_i = n_i r_i v_i$ and the drift $-\frac h2\left(\frac1{n_i}(D_iV_i)V_i \pm (D_jV_i)V_j\right)$, + for the "
    "player who moves first and - for the one who sees it, up to $O(h^3)$.",
    source=f"{ROSCA}, theorem 3.2 with inner steps; here in common time, for unequal rates",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES, repeats=st.sampled_from([(1, 1), (2, 3)])),
    because="Composing two flows adds half their commutator, which changes the sign of one cross term.",
)
def alternating(losses, point, rates, repeats):
    game = general_sum(losses)
    fields = drift_of(game, rates, repeats, (-1, 1))
    build = Partial(alternating_steps, repeats, rates)
    flow = AlternatingFlow(0.5, rates=tuple(rates), repeats=repeats)
    followed = ravel_pytree(flow.field(game, jnp.zeros(()), State(split(point), ())).players)[0]
    return every(
        close(of_update(game, build, point), of_flow(fields, point)),
        close(followed, fields[0](point) + fields[1](point) / 2),
    )


@claim(
    "drift/alternating-as-simultaneous",
    "Alternating descent drifts from the flow as simultaneous descent does.",
    source=f"refuted by {ROSCA}, theorem 3.2",
    kind="refuted",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES),
    because="The player who moves second has the cross term with the other sign.",
)
def alternating_as_simultaneous(losses, point, rates):
    game = general_sum(losses)
    build = Partial(alternating_steps, (1, 1), rates)
    return close(of_update(game, build, point), of_flow(drift_of(game, rates), point))


def own_time_margin(losses, point, rates):
    """The step against the flow in which each player's drift has the square of its own rate."""
    game = general_sum(losses)
    field, scale = flat_field(game), jnp.asarray([rates[0], rates[0], rates[1]])

    def drift(z):
        return -(scale**2) * along(field, z, field(z)) / 2

    build = Partial(simultaneous_steps, rates)
    return close(of_update(game, build, point), of_flow((lambda z: scale * field(z), drift), point))


@claim(
    "drift/equal-rates",
    r"With one rate h r for both players simultaneous descent follows $\dot z = rv - \frac h2r^2(Dv)v$, up to $O(h^3)$ "
    "a step: the coefficients as printed.",
    source=f"{ROSCA}, theorem 3.1",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=EQUAL),
    because="With equal rates the players' own times are the same.",
)
def equal_rates(losses, point, rates):
    return own_time_margin(losses, point, rates)


@claim(
    "drift/own-time",
    "With unequal rates and the coefficients as printed, each player's drift in its own time, simultaneous descent "
    r"with rates $h r_i$ follows $\dot x_i = r_i v_i - \frac h2 r_i^2\sum_j (D_j v_i) v_j$, up to $O(h^3)$ a step.",
    source=f"a reading of {ROSCA}, theorem 3.1 for unequal rates",
    kind="refuted",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES),
    because="A trajectory has one time: the cross terms carry the product of both rates, see drift/simultaneous.",
)
def own_time(losses, point, rates):
    return own_time_margin(losses, point, rates)


@claim(
    "drift/modified-losses",
    r"In a zero-sum game with value E simultaneous descent with rate h descends, up to $O(h^3)$ a step, on the losses "
    r"$E + \frac h4\|E_x\|^2 - \frac h4\|E_y\|^2$ and minus that; alternating descent on the same first loss and "
    r"$-E + \frac h4\|E_x\|^2 + \frac h4\|E_y\|^2$.",
    source=f"{ROSCA}, corollaries 5.1 and 5.2",
    kind="theorem",
    hypotheses="equal rates",
    domain=dict(value=VALUE, point=POINT, rates=EQUAL, turns=st.booleans()),
    because="In zero-sum games the cross terms of the drift are gradients of squared norms.",
)
def modified_losses(value, point, rates, turns):
    game, scale = ZeroSum(Partial(one_value, value)), jnp.asarray([rates[0], rates[0], rates[1]])
    slope = jax.grad(lambda z: one_value(value, z[FIRST], z[SECOND]))

    def drift(z):
        def quarter(part):
            return jax.grad(lambda w: jnp.sum(slope(w)[part] ** 2) / 4)(z)

        own, other = quarter(FIRST), quarter(SECOND)
        first = -own + other
        second = -own - other if turns else own - other
        return jnp.concatenate([first[FIRST], second[SECOND]])

    build = Partial(alternating_steps, (1, 1), rates) if turns else Partial(simultaneous_steps, rates)
    return close(modified(game, build, point), jnp.stack([scale * flat_field(game)(point), scale**2 * drift(point)]))


modified_losses.without(
    "unequal-rates",
    "equal rates",
    because="Each player's own rate in place of h is not enough: the cross terms carry the product of both rates.",
    rates=RATES,
)


@claim(
    "drift/bilinear-simultaneous",
    r"On bilinear games the modified flow of simultaneous descent has the eigenvalues "
    r"$\frac h2 r_0r_1\sigma^2 \pm i\sqrt{r_0r_1}\,\sigma$: it spirals outwards.",
    source=f"{ROSCA}, section 5; unequal rates by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, rates=RATES, step=numbers(0.01, 1)),
    because="The drift is -h A^2 / 2 for the Jacobian A of the field, whose eigenvalues are imaginary.",
)
def bilinear_simultaneous(matrix, rates, step):
    flow = ModifiedFlow(Partial(simultaneous_steps, rates), step)
    turn = jnp.sqrt(rates[0] * rates[1]) * jnp.linalg.svd(matrix, compute_uv=False)
    expected = step * turn**2 / 2 + 1j * turn
    return same_spectrum(eigenvalues(Bilinear(matrix), flow), jnp.concatenate([expected, expected.conj()]))


@claim(
    "drift/bilinear-alternating",
    r"On bilinear games the modified flow of alternating descent has per singular value the trace 0 and the "
    r"determinant $s^2(1 - h^2s^2/4)$ with $s^2 = r_0r_1\sigma^2$: a centre as long as $hs < 2$, which is where "
    "alternating descent itself stays bounded.",
    source=f"{ROSCA}, section 5; unequal rates by hand",
    kind="closed form",
    domain=dict(matrix=SQUARE, rates=RATES, step=numbers(0.01, 2)),
    because="The drift is h s^2 / 2 for the first player and its opposite for the second one, and nothing else.",
)
def bilinear_alternating(matrix, rates, step):
    game, turn = Bilinear(matrix), jnp.sqrt(rates[0] * rates[1]) * jnp.linalg.svd(matrix, compute_uv=False)
    expected = 1j * turn * jnp.sqrt(1 - (step * turn) ** 2 / 4 + 0j)
    computed = eigenvalues(game, AlternatingFlow(step, rates=tuple(rates)))
    # On the boundary there is a double eigenvalue -1, which moves by the root of a rounding error.
    length, grown = step * jnp.max(turn), radius(game, alternating_steps((1, 1), rates, step)) - 1
    return every(
        same_spectrum(computed, jnp.concatenate([expected, -expected])),
        when(length < 2 - 1e-6, 1 - grown / 1e-6),
        when(length > 2 + 1e-6, grown / 1e-6 - 1),
    )


def damped(damping, coupling):
    """The linear game x' = -a x + b y, y' = -b x - a y."""
    return Quadratic([[damping, -coupling], [coupling, damping]])


@claim(
    "drift/damped-rotation",
    r"On the game $\dot x = -\epsilon x + by,\ \dot y = -bx - \epsilon y$ simultaneous descent with rate h converges "
    r"if and only if $h(b^2 + \epsilon^2) < 2\epsilon$.",
    source=f"{ROSCA}, section 6, there with b = 1",
    kind="closed form",
    domain=dict(damping=numbers(0.05, 2), coupling=numbers(0.25, 4), rate=numbers(0.01, 2)),
    because=r"The squared modulus of 1 + h(-epsilon +- i b) is 1 - 2 h epsilon + h^2 (b^2 + epsilon^2).",
)
def damped_rotation(damping, coupling, rate):
    computed = radius(damped(damping, coupling), Simultaneous(sgd(rate), sgd(rate)))
    return same_sign(2 * damping - rate * (coupling**2 + damping**2), 1 - computed)


@claim(
    "drift/modified-flow-decides",
    "Simultaneous descent converges locally if and only if its modified flow of first order does.",
    source=f"a reading of {ROSCA}, where the modified flow explains (in)stability",
    kind="refuted",
    domain=dict(damping=numbers(0.05, 2), coupling=numbers(0.25, 4), rate=numbers(0.25, 2)),
    because="On the damped rotation the modified flow says h (b^2 - a^2) < 2 a, the update h (b^2 + a^2) < 2 a.",
)
def modified_flow_decides(damping, coupling, rate):
    game, rates = damped(damping, coupling), jnp.ones(2)
    flow = ModifiedFlow(Partial(simultaneous_steps, rates), rate)
    slowest = jnp.max(eigenvalues(game, flow).real)
    return same_sign(-slowest, 1 - radius(game, simultaneous_steps(rates, rate)))


@claim(
    "drift/linear-games",
    r"On a linear game with the Jacobian A the modified flow of simultaneous descent is the logarithm of the step: its "
    r"coefficients are $A$, $-\frac12A^2$ and $\frac13A^3$.",
    source="Hairer, Lubich, Wanner, Geometric Numerical Integration, 2006, chapter IX",
    kind="closed form",
    domain=dict(matrix=arrays((2, 2), size=2), rates=RATES, point=arrays((2,), size=2)),
    because="exp(h B) = I + h A has the solution h B = log(I + h A).",
)
def linear_games(matrix, rates, point):
    game = Quadratic(matrix)
    terms = ModifiedFlow(Partial(simultaneous_steps, rates), 1.0, 2).terms(game, as_players((point[0], point[1])))
    one = -rates[:, None] * matrix
    expected = jnp.stack([one @ point, -one @ one @ point / 2, one @ one @ one @ point / 3])
    return close(jnp.stack([ravel_pytree(term)[0] for term in terms]), expected)


def heavy_balls(coefficient, h):
    """Heavy ball with one rate and one coefficient."""
    return Simultaneous(momentum(h, coefficient), momentum(h, coefficient))


@claim(
    "drift/heavy-ball",
    r"Heavy ball with the coefficient $\beta$ follows the flow "
    r"$\dot z = \frac1{1-\beta}v - \frac h2\frac{1+\beta}{(1-\beta)^3}(Dv)v$: beyond the faster time, positive "
    r"momentum has the drift of a step larger by $(1+\beta)/(1-\beta)$, and negative momentum of a smaller one.",
    source="Kovachki and Stuart, Continuous Time Analysis of Momentum Methods, 2021; by hand",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, coefficient=numbers(-0.75, 0.75)),
    because="exp(h r) solves the characteristic equation of heavy ball term by term in h.",
)
def heavy_ball(losses, point, coefficient):
    game = general_sum(losses)
    field, left = flat_field(game), 1 - coefficient
    expected = [field(point) / left, -(1 + coefficient) / (2 * left**3) * along(field, point, field(point))]
    return close(modified(game, Partial(heavy_balls, coefficient), point), jnp.stack(expected))


def extrapolated(h):
    """Extragradient with one rate, the look-ahead as long as the step."""
    return Extragradient(sgd(h), sgd(h), extrapolation=h)


def optimistic_steps(h):
    """Optimistic gradient descent with one rate."""
    return Simultaneous(optimistic(h), optimistic(h))


@claim(
    "drift/extragradient-and-optimism",
    r"Extragradient and the optimistic method follow, up to second order, one and the same flow "
    r"$\dot z = v + \frac h2(Dv)v$, with the drift of simultaneous descent reversed.",
    source="by hand; compare Chavdarova, Jordan, Zampetakis, Last-Iterate Convergence of Saddle-Point Optimizers via "
    "High-Resolution Differential Equations, 2021",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, optimism=st.booleans()),
    because="Their step is h v + h^2 Dv v, twice the second-order term of the flow, where descent has none of it.",
)
def extragradient_and_optimism(losses, point, optimism):
    game = general_sum(losses)
    field = flat_field(game)
    expected = jnp.stack([field(point), along(field, point, field(point)) / 2])
    return close(modified(game, optimistic_steps if optimism else extrapolated, point), expected)


ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "ralston": 2, "kutta3": 3, "rk4": 4, "three_eighths": 4}


def runge_kutta_margin(losses, point, rates, method, order):
    """The step and the flow agree up to a power of h; the flow's terms are repeated derivatives along the field."""
    game = general_sum(losses)
    field, scale = flat_field(game), jnp.asarray([rates[0], rates[0], rates[1]])

    def flow(z):
        return scale * field(z)

    def next_term(function):
        return lambda z: along(function, z, flow(z))

    expected, factorial, term = [point], 1.0, flow
    for k in range(1, order + 1):
        factorial *= k
        expected.append(term(point) / factorial)
        term = next_term(term)

    def build(h):
        return RungeKutta(tuple(h * rates), method=method)

    return close(of_update(game, build, point, order), jnp.stack(expected))


@claim(
    "drift/runge-kutta-orders",
    r"One joint Runge-Kutta step of order p is time h of the flow up to $O(h^{p+1})$: Heun's method has order 2, "
    "Kutta's 3.",
    source=f"Butcher, Numerical Methods for Ordinary Differential Equations, 2016; used by {QIN}",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES, method=st.sampled_from(["heun", "kutta3"])),
    because="The tableau fulfils the order conditions, also for fields that are not linear.",
)
def runge_kutta_orders(losses, point, rates, method):
    return runge_kutta_margin(losses, point, rates, method, ORDERS[method])


@claim(
    "drift/rk4",
    r"One joint step of the classical Runge-Kutta method is time h of the flow up to $O(h^5)$.",
    source=f"Kutta 1901; used by {QIN}",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES, method=st.just("rk4")),
    because="Its tableau fulfils the eight conditions of order 4.",
)
def rk4(losses, point, rates, method):
    return runge_kutta_margin(losses, point, rates, method, ORDERS[method])


@claim(
    "drift/limit-flow",
    "Simultaneous and alternating descent, extragradient and the optimistic method have one limit for small steps, "
    r"the flow $\dot x_i = r_iv_i$.",
    source="Euler; for games Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, section 2",
    kind="theorem",
    domain=dict(losses=LOSSES, point=POINT, rates=RATES),
    because="They differ from each other by terms of second order in the step.",
)
def limit_flow(losses, point, rates):
    game, scale = general_sum(losses), jnp.asarray([rates[0], rates[0], rates[1]])

    def ahead(rates, h):
        return Extragradient(sgd(h * rates[0]), sgd(h * rates[1]), extrapolation=tuple(h * rates))

    def hopeful(rates, h):
        return Simultaneous(optimistic(h * rates[0]), optimistic(h * rates[1]))

    builds = [simultaneous_steps, Partial(alternating_steps, (1, 1)), ahead, hopeful]
    expected = scale * flat_field(game)(point)
    flow = Flow(rates=tuple(rates)).field(game, jnp.zeros(()), State(split(point), ())).players
    computed = [modified(game, Partial(build, rates), point, 0)[0] for build in builds]
    return every(close(ravel_pytree(flow)[0], expected), *(close(term, expected) for term in computed))


def penalised_steps(weight, h):
    """ODE-GAN with the classical Runge-Kutta method and rates in proportion to the step."""
    return ODEGAN((h, 2 * h), weight=weight)


@claim(
    "drift/ode-gan",
    r"The limit of ODE-GAN for small steps is the flow of v with $-\lambda\nabla_y\|\nabla_x L_0\|^2$ added for the "
    r"discriminator; on $f = xy$ with equal rates its eigenvalues are $-\lambda \pm i\sqrt{1 - \lambda^2}$.",
    source=f"{QIN}, algorithm 1 with the authors' code, which has no factor of one half",
    kind="closed form",
    domain=dict(losses=LOSSES, point=POINT, weight=numbers(0, 2)),
    because="The Runge-Kutta step follows the flow of v to fourth order, and the penalty is one more Euler step.",
)
def ode_gan(losses, point, weight):
    game = general_sum(losses)
    field, scale = flat_field(game), jnp.asarray([1.0, 1.0, 2.0])
    penalty = jax.grad(lambda z: jnp.sum(field(z)[FIRST] ** 2))(point).at[FIRST].set(0)
    expected = scale * (field(point) - weight * penalty)
    limit = ModifiedFlow(Partial(lambda weight, h: ODEGAN(h, weight=weight), weight), 1.0, 0)
    turn = jnp.sqrt(1 - weight**2 + 0j) * jnp.asarray([1j, -1j])
    return every(
        close(modified(game, Partial(penalised_steps, weight), point, 0)[0], expected),
        same_spectrum(eigenvalues(Bilinear(1.0), limit), turn - weight),
    )
