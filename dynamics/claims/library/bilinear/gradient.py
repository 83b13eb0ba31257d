"""Bilinear games: gradient descent, simultaneous and alternating, and the flow."""

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from dynamics.checks.measures import agree, below, eigenvalues, epsilon, every, path, radius, same_spectrum, when
from dynamics.claims.base import claim
from dynamics.claims.library.bilinear.common import (
    GIDEL,
    MATRICES,
    PAIR,
    RATES,
    WIDE,
    both,
    couplings,
    decides,
    largest,
    rates_of,
    root,
    smallest,
)
from dynamics.flows import Flow
from dynamics.games import Bilinear, LinearWasserstein, Quadratic
from dynamics.optimisers import sgd
from dynamics.strategies import arrays, numbers
from dynamics.updates import Alternating, Averaged, Scheduled, Simultaneous
from dynamics.updates.base import State


@claim(
    "bilinear/flow",
    r"The flow with rates $r_1, r_2$ keeps $\|x\|^2/r_1 + \|y\|^2/r_2$ on every bilinear game: eigenvalues "
    r"$\pm i\sqrt{r_1 r_2}\,\sigma$.",
    source="by hand",
    kind="closed form",
    domain=dict(matrix=WIDE, **RATES, x=arrays((2,)), y=arrays((3,))),
    because="The Jacobian is skew after scaling the players by the square roots of their rates.",
)
def flow(matrix, first, second, x, y):
    game, flow = Bilinear(matrix), Flow(rates=(first, second))
    turning = jnp.sqrt(first * second) * couplings(matrix) * 1j
    (dx, dy), scale = flow.field(game, 0.0, State((x, y), ())).players, 1 + (x @ x + y @ y) * largest(matrix)
    change = x @ dx / first + y @ dy / second
    return every(same_spectrum(eigenvalues(game, flow), both(0, turning)), agree(change, 0, scale=scale))


@claim(
    "bilinear/simultaneous",
    r"Simultaneous gradient descent diverges on every bilinear game, whatever the rates: its radius is "
    r"$\sqrt{1 + h_1 h_2 \sigma_{max}^2} > 1$.",
    source=f"{GIDEL}, on bilinear games; eigenvalues by hand",
    kind="theorem",
    domain=dict(matrix=MATRICES, **RATES),
    because="The step matrix is I plus a skew one (after scaling the players), whose eigenvalues are 1 +- i s.",
)
def simultaneous(matrix, first, second):
    computed = radius(Bilinear(matrix), Simultaneous(sgd(first), sgd(second)))
    return agree(computed, jnp.sqrt(1 + first * second * largest(matrix) ** 2))


@claim(
    "bilinear/alternating-eigenvalues",
    r"Alternating gradient descent has the eigenvalues $1 - s^2/2 \pm i s\sqrt{1 - s^2/4}$ with "
    r"$s = \sqrt{h_1 h_2}\,\sigma$.",
    source=f"{GIDEL}; eigenvalues by hand",
    kind="closed form",
    domain=dict(matrix=MATRICES, **RATES),
    because="The step matrix has the determinant 1 and the trace 2 - s^2, whatever the ratio of the rates.",
)
def alternating_eigenvalues(matrix, first, second):
    s = jnp.sqrt(first * second) * couplings(matrix)
    computed = eigenvalues(Bilinear(matrix), Alternating(sgd(first), sgd(second)))
    return same_spectrum(computed, both(1 - s**2 / 2, s * root(s**2 / 4 - 1)))


@claim(
    "bilinear/alternating",
    r"Alternating gradient descent neither converges nor diverges on a bilinear game: all its eigenvalues lie on the "
    r"unit circle if $h_1 h_2\sigma_{max}^2 < 4$.",
    source=f"{GIDEL}; eigenvalues by hand",
    kind="theorem",
    hypotheses="h1 h2 sigma_max^2 < 4",
    domain=dict(matrix=MATRICES, product=numbers(0.01, 3.96), ratio=numbers(0.25, 4)),
    because="The determinant is 1 and the trace 2 - h1 h2 sigma^2 between -2 and 2: conjugate pairs of modulus 1.",
)
def alternating(matrix, product, ratio):
    first, second = rates_of(matrix, product, ratio)
    computed = eigenvalues(Bilinear(matrix), Alternating(sgd(first), sgd(second)))
    return agree(jnp.abs(computed), jnp.ones(computed.shape), 10 * epsilon() ** 0.5)


alternating.without(
    "larger-steps",
    "h1 h2 sigma_max^2 < 4",
    because="Beyond 4 the trace is below -2: two real eigenvalues of product 1, one of them below -1.",
    product=numbers(4.25, 8),
)


@claim(
    "bilinear/alternating-invariant",
    r"Alternating gradient descent with x first keeps $\|x\|^2/h_1 + \|y\|^2/h_2 - x^\top A y$ on every bilinear game "
    r"$x^\top A y$; for scalars and equal rates $x^2 + y^2 - s\,xy$.",
    source="by hand; for scalars e.g. Bailey, Gidel, Piliouras, Finite Regret and Cycles with Fixed Step-Size, 2020",
    kind="closed form",
    hypotheses="x moves first",
    domain=dict(matrix=arrays((2, 3), size=2.0), **RATES, x=arrays((2,)), y=arrays((3,)), order=st.just((0, 1))),
    because="The move of x takes |x|^2/h1 - (x, Ay) to |x+|^2/h1 + (x+, Ay); the move of y takes |y|^2/h2 + (x+, Ay) "
    "to |y+|^2/h2 - (x+, Ay+).",
)
def alternating_invariant(matrix, first, second, x, y, order):
    xs, ys = path(Bilinear(matrix), Alternating(sgd(first), sgd(second), order=order), (x, y), 8)
    squares = jnp.sum(xs**2, axis=1) / first + jnp.sum(ys**2, axis=1) / second
    kept = squares - jnp.einsum("ti,ij,tj->t", xs, matrix, ys)
    return agree(kept, jnp.full(9, kept[0]), scale=1 + jnp.max(squares))


alternating_invariant.without(
    "other-order",
    "x moves first",
    because="With y first the sign of the last term is the other one.",
    order=st.just((1, 0)),
)


@claim(
    "bilinear/alternating-angle",
    r"Alternating gradient descent goes round by $\omega = 2\arcsin(s/2)$ a step, $s = \sqrt{h_1 h_2}\,\sigma < 2$: "
    r"$x_t\sin\omega = x_1\sin t\omega - x_0\sin(t-1)\omega$, likewise y.",
    source="by hand",
    kind="closed form",
    domain=dict(
        coupling=numbers(0.25, 4), product=numbers(0.01, 3.9), ratio=numbers(0.25, 4), start=arrays((2,), size=2.0)
    ),
    because="The eigenvalues are exp(+- i omega), as 1 - s^2/2 = cos(omega).",
)
def alternating_angle(coupling, product, ratio, start):
    first, second = rates_of(coupling[None, None], product, ratio)
    run = jnp.stack(path(Bilinear(coupling), Alternating(sgd(first), sgd(second)), (start[0], start[1]), 40))
    angle, time = 2 * jnp.arcsin(jnp.sqrt(product) / 2), jnp.arange(41)
    expected = run[:, 1:2] * jnp.sin(time * angle) - run[:, :1] * jnp.sin((time - 1) * angle)
    return agree(run * jnp.sin(angle), expected)


@claim(
    "bilinear/alternating-average",
    r"The uniform average of alternating gradient descent approaches the equilibrium like 1/t if "
    r"$h_1 h_2\sigma_{max}^2 < 4$ and A is invertible: with the invariant Q, "
    r"$Q(\bar z_t) \le 4\,Q(z_0)/(h_1 h_2\sigma_{min}^2 (t+1)^2)$.",
    source=f"{GIDEL}; the constant by hand",
    kind="theorem",
    hypotheses="the uniform average is looked at",
    domain=dict(
        matrix=PAIR,
        product=numbers(0.25, 3.9),
        ratio=numbers(0.25, 4),
        x=arrays((2,)),
        y=arrays((2,)),
        averaged=st.just(True),
    ),
    because="The sum of t + 1 iterates is (I - M)^-1 (z_0 - M^(t+1) z_0): M keeps Q, and |1 - exp(i omega)| = s.",
)
def alternating_average(matrix, product, ratio, x, y, averaged):
    first, second = rates_of(matrix, product, ratio)
    update = Alternating(sgd(first), sgd(second))
    xs, ys = path(Bilinear(matrix), Averaged(update) if averaged else update, (x, y), 100)
    squares = jnp.sum(xs**2, axis=1) / first + jnp.sum(ys**2, axis=1) / second
    energy = squares - jnp.einsum("ti,ij,tj->t", xs, matrix, ys)
    bound = 4 * energy[0] / (first * second * smallest(matrix) ** 2 * (1 + jnp.arange(101)) ** 2)
    return below(energy, bound, 1e4 * epsilon() * (1 + squares[0]))


alternating_average.without(
    "last-iterate",
    "the uniform average is looked at",
    because="The iterates themselves stay on their ellipse.",
    averaged=st.just(False),
)


# Signs of the rates of x and of y, at two steps that repeat.
SIGNS = {
    "slingshot": ((1, -1), (-1, 1)),
    "of one sign": ((1, -1), (1, -1)),
    "constant": ((1, 1), (-1, -1)),
    "positive": ((1, 1), (1, 1)),
}


def two_steps(matrix, rate, signs, x, y):
    """The players after one and after two simultaneous steps, in one vector each."""

    def sign_of(player):
        return lambda step: jnp.asarray(SIGNS[signs][player], float)[step % 2]

    def rate_of_x(game, update):
        return update.steppers.optimisers[0].positional[0]

    def rate_of_y(game, update):
        return update.inner_update.steppers.optimisers[1].positional[0]

    update = Scheduled(Simultaneous(sgd(rate), sgd(rate)), sign_of(0), rate_of_x)
    update = Scheduled(update, sign_of(1), rate_of_y)
    xs, ys = path(Bilinear(matrix), update, (x, y), 2)
    return jnp.concatenate([xs[1], ys[1]]), jnp.concatenate([xs[2], ys[2]])


def radius_of_two_steps(matrix, rate, signs):
    derivative = jax.jacfwd(lambda point: two_steps(matrix, rate, signs, point[:2], point[2:])[1])(jnp.zeros(4))
    return jnp.max(jnp.abs(jnp.linalg.eigvals(derivative)))


@claim(
    "bilinear/slingshot",
    r"Simultaneous gradient descent with the rates (h, -h) and (-h, h), one after the other, takes two steps to "
    r"$(I - h^2 A A^\top) x$ and $(I - h^2 A^\top A) y$: it converges if and only if $h\sigma_{max} < \sqrt2$, for a "
    "square A of full rank.",
    source="Shugart and Altschuler, Negative Stepsizes Make Gradient-Descent-Ascent Converge, 2025; the bound by hand",
    kind="theorem",
    hypotheses="the two rates of a step differ; rates change from step to step; some are negative",
    domain=dict(matrix=PAIR, rate=numbers(0.05, 3), x=arrays((2,)), y=arrays((2,)), signs=st.just("slingshot")),
    because="The two matrices are I + hK and I - hK with K = [[0, -A], [-A^T, 0]], symmetric where that of descent "
    "turns: their product is I - h^2 K^2.",
)
def slingshot(matrix, rate, x, y, signs):
    start = jnp.concatenate([x, y])
    expected = start - rate**2 * jnp.concatenate([matrix @ matrix.T @ x, matrix.T @ matrix @ y])
    after_one, after_two = two_steps(matrix, rate, signs, x, y)
    return every(
        agree(after_one, start - rate * jnp.concatenate([matrix @ y, matrix.T @ x])),
        agree(after_two, expected),
        decides(2 - (rate * largest(matrix)) ** 2, radius_of_two_steps(matrix, rate, signs)),
    )


def converges_if_short(matrix, rate, x, y, signs):
    return when(rate * largest(matrix) < 1, 1 - radius_of_two_steps(matrix, rate, signs))


slingshot.without(
    "equal-rates",
    "the two rates of a step differ",
    check=converges_if_short,
    because="A step back by equal rates undoes a step ahead, but for the second order, which points outwards.",
    signs=st.just("of one sign"),
)
slingshot.without(
    "constant-rates",
    "rates change from step to step",
    check=converges_if_short,
    because="With one negative rate the game is one that both minimise along their saddle: it grows by 1 + h sigma.",
    signs=st.just("constant"),
)
slingshot.without(
    "positive-rates",
    "some are negative",
    check=converges_if_short,
    because="Simultaneous descent turns outwards on every bilinear game.",
    signs=st.just("positive"),
)


@claim(
    "bilinear/mean-gan",
    r"The Wasserstein GAN that learns a mean, $G(z) = z + \theta$, $D(x) = \langle w, x\rangle$, is the bilinear game "
    r"$-\langle \theta - \mu, w\rangle$: every run is one of that game, shifted by $\mu$, and the flow has the "
    r"eigenvalues $\pm i$.",
    source="Daskalakis et al., Training GANs with Optimism, 2018, section 2",
    kind="closed form",
    domain=dict(mean=arrays((2,)), x=arrays((2,)), y=arrays((2,)), **RATES),
    because="The value is the mean of the critic on the data minus its mean on the samples, (w, mu) - (w, theta).",
)
def mean_gan(mean, x, y, first, second):
    game, update = LinearWasserstein(mean), Alternating(sgd(first), sgd(second))
    thetas, ws = path(game, update, (x, y), 8)
    others, same = path(Bilinear(-jnp.eye(2)), update, (x - mean, y), 8)
    turning = same_spectrum(eigenvalues(game, Flow()), jnp.array([1j, -1j]))
    return every(turning, agree(thetas - mean, others), agree(ws, same))


@claim(
    "bilinear/two-by-two",
    r"A linear map of the plane converges if and only if $|\det| < 1$ and $|\mathrm{tr}| < 1 + \det$.",
    source="Jury's criterion for degree 2",
    kind="theorem",
    domain=dict(matrix=arrays((2, 2)), **RATES),
    because="The three inequalities say that the characteristic polynomial has no root on or beyond the unit circle.",
)
def two_by_two(matrix, first, second):
    ((a, b), (c, d)) = matrix
    computed = radius(Quadratic([[a, b], [c, d]]), Simultaneous(sgd(first), sgd(second)), (0.0, 0.0))
    trace, det = 2 - first * a - second * d, (1 - first * a) * (1 - second * d) - first * second * b * c
    return decides(jnp.minimum(1 - jnp.abs(det), 1 + det - jnp.abs(trace)), computed)
