"""Consensus optimisation, the field less the gradient of half its square: where it converges, and should not."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import (
    agree,
    below,
    eigenvalues,
    every,
    field_jacobian,
    jacobian,
    norm,
    radius,
    same_sign,
    same_spectrum,
    when,
)
from dynamics.claims.base import claim
from dynamics.directions import Consensus
from dynamics.flows import Flow
from dynamics.game import Game
from dynamics.games import Bilinear, Quadratic
from dynamics.optimisers import momentum, sgd
from dynamics.strategies import arrays, definite_matrices, matrices_with_singular_values, numbers
from dynamics.updates import Alternating, Simultaneous

MESCHEDER = "Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017"
BALDUZZI = "Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018"
WEIGHT = numbers(0.05, 4)
# Games of two players of 2 and 1 parameters (or of one each), whose field has the Jacobian [[0, -B], [B^T, 0]] - S.
# A coupling B that does not vanish and a damping S of the first player make it invertible.
COUPLING = st.builds(lambda one, two: np.asarray([[one], [two]]), numbers(0.25, 2), numbers(-2, 2))
DAMPING = definite_matrices(0, 2, 3)
DAMPED = DAMPING.map(lambda damping: damping + np.diag([0.25, 0.25, 0.0]))
EXPANDING = definite_matrices(-2, 2, 3)
PLANAR = dict(coupling=numbers(0.25, 2).map(lambda one: np.asarray([[one]])), damping=definite_matrices(0, 2, 2))


def quadratic(coupling, damping):
    """The game of this coupling and damping, and the Jacobian of its field."""
    m, n = coupling.shape
    h = damping + jnp.block([[jnp.zeros((m, m)), coupling], [-coupling.T, jnp.zeros((n, n))]])
    return Quadratic([[h[:m, :m], h[:m, m:]], [h[m:, :m], h[m:, m:]]]), -h


def by_hand(matrix, weight):
    """The Jacobian of consensus at an equilibrium."""
    return matrix - weight * matrix.T @ matrix


def sigma(matrix):
    """Smallest and largest singular value."""
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return values[-1], values[0]


# The Jacobian


@claim(
    "consensus/jacobian",
    r"At an equilibrium of a game whose field has the Jacobian A the direction of consensus optimisation has the"
    r" Jacobian $A - \gamma A^\top A$.",
    source=f"{MESCHEDER}, equation 11",
    kind="closed form",
    hypotheses="the point is an equilibrium",
    domain=dict(
        first=arrays((2,), size=2),
        cross=arrays((2, 1), size=2),
        back=arrays((2, 1), size=2),
        cubic=numbers(-2, 2),
        point=st.just(np.zeros(3)),
        weight=WEIGHT,
    ),
    because="Second derivatives of the field are multiplied by the field, which vanishes there.",
)
def consensus_jacobian(first, cross, back, cubic, point, weight):
    def losses(players, key=None):
        x, y = players
        bent = cubic * jnp.sum(x) ** 2 * y[0]
        return (x @ first) ** 2 + x @ cross @ y + bent, y[0] ** 2 + x @ back @ y - 2 * bent

    game, players = Game.from_losses(losses), (point[:2], point[2:])
    expected = by_hand(field_jacobian(game, players), weight)
    return agree(jacobian(game, Flow(Consensus(weight)), players), expected)


consensus_jacobian.without(
    "elsewhere",
    "the point is an equilibrium",
    because="Where the field does not vanish, the curvature of the losses' gradients counts as well.",
    point=arrays((3,), size=2),
)


# Convergence


@claim(
    "consensus/stable",
    r"With A invertible and $A + A^\top \preceq 0$ consensus optimisation is stable for every $\gamma > 0$: all"
    r" eigenvalues have real parts below 0, by $\gamma\sigma_{min}(A)^2$ at least.",
    source=f"{MESCHEDER}, lemma 7 and corollary 8",
    kind="theorem",
    hypotheses="A is invertible; the symmetric part of A is at most 0",
    domain=dict(coupling=COUPLING, damping=DAMPED, weight=WEIGHT),
    because="Re v*(A - gamma A^T A)v = Re v*Av - gamma |Av|^2.",
)
def stable(coupling, damping, weight):
    game, matrix = quadratic(coupling, damping)
    computed = jnp.max(eigenvalues(game, Flow(Consensus(weight))).real)
    return every(-1e-9 - computed, below(computed, -weight * sigma(matrix)[0] ** 2))


stable.without(
    "singular",
    "A is invertible",
    because="Along the kernel of A nothing moves: there are more parameters of one player than of the other.",
    damping=DAMPING,
)
stable.without(
    "not-dissipative",
    "the symmetric part of A is at most 0",
    because="A field that points outwards stays so unless gamma is large: the eigenvalue a becomes a - gamma a^2.",
    coupling=PLANAR["coupling"],
    damping=definite_matrices(-2, 2, 2),
)


@claim(
    "consensus/turning",
    r"With A invertible and $A + A^\top \preceq 0$ every eigenvalue of consensus optimisation fulfils"
    r" $|\mathrm{Im}|/|\mathrm{Re}| \le 1/(\gamma\sigma_{min}(A))$.",
    source=f"{MESCHEDER}, lemma 9, corrected, with c = 0",
    kind="theorem",
    hypotheses="the symmetric part of A is at most 0",
    domain=dict(coupling=COUPLING, damping=DAMPED, weight=WEIGHT),
    because="|Im v*Av| <= |Av| for a unit vector v, and |Re| >= gamma |Av|^2.",
)
def turning(coupling, damping, weight):
    game, matrix = quadratic(coupling, damping)
    computed = eigenvalues(game, Flow(Consensus(weight)))
    # The eigenvalues of a matrix far from normal are known to the root of a rounding error only.
    return below(jnp.abs(computed.imag) * weight * sigma(matrix)[0], jnp.abs(computed.real), 1e-6)


turning.without(
    "not-dissipative",
    "the symmetric part of A is at most 0",
    because="The field's own expansion takes away from what consensus contracts: Re may vanish, not Im.",
    coupling=PLANAR["coupling"],
    damping=numbers(-2, 2).map(lambda damping: damping * np.eye(2)),
)


def least_ratio(matrix):
    """The smallest |v*(A + A^T)v| / |v*(A - A^T)v| over complex vectors v, for A + A^T <= 0."""
    symmetric, skew = -(matrix + matrix.T) / 2, (matrix - matrix.T) / 2
    within = jnp.linalg.solve(symmetric + 1e-12 * jnp.eye(len(matrix)), skew)
    return 1 / jnp.maximum(jnp.max(jnp.abs(jnp.linalg.eigvals(within))), 1e-6)


@claim(
    "consensus/turning-bound",
    r"With $A + A^\top \preceq 0$, $c = \min_v |v^*(A + A^\top)v|/|v^*(A - A^\top)v|$ and $\|Av\| \ge \rho\|v\|$ every"
    r" eigenvalue of consensus optimisation fulfils $|\mathrm{Im}|/|\mathrm{Re}| \le 1/(c + \rho\gamma)$.",
    source=f"{MESCHEDER}, lemma 9, corrected",
    kind="theorem",
    domain=dict(coupling=COUPLING, damping=DAMPED, weight=WEIGHT),
    because="|Re| >= c |Im| + gamma |Av|^2 and |Av| >= |Im| for the unit eigenvector v.",
)
def turning_bound(coupling, damping, weight):
    game, matrix = quadratic(coupling, damping)
    computed = eigenvalues(game, Flow(Consensus(weight)))
    bound = least_ratio(matrix) + sigma(matrix)[0] * weight
    return below(jnp.abs(computed.imag) * bound, jnp.abs(computed.real), 1e-6)


@claim(
    "consensus/turning-bound-as-printed",
    r"With c and $\rho$ as in `consensus/turning-bound` every eigenvalue of consensus optimisation fulfils"
    r" $|\mathrm{Im}|/|\mathrm{Re}| \le 1/(c + 2\rho^2\gamma)$.",
    source=f"{MESCHEDER}, lemma 9, as printed in the first version",
    kind="refuted",
    domain=dict(weight=WEIGHT, **PLANAR),
    because="For A = [[0, 1], [-1, 0]] and gamma = 1 the ratio is 1, the printed bound 1/2.",
)
def turning_bound_as_printed(coupling, damping, weight):
    game, matrix = quadratic(coupling, damping)
    computed = eigenvalues(game, Flow(Consensus(weight)))
    bound = least_ratio(matrix) + 2 * sigma(matrix)[0] ** 2 * weight
    return below(jnp.abs(computed.imag) * bound, jnp.abs(computed.real), 1e-6)


@claim(
    "consensus/step",
    r"Simultaneous steps of length h along the direction of consensus optimisation are stable if and only if"
    r" $h < \frac{1}{|\mathrm{Re}\lambda|}\,\frac{2}{1 + (\mathrm{Im}\lambda/\mathrm{Re}\lambda)^2}$ for every"
    r" eigenvalue $\lambda$ of $A - \gamma A^\top A$, all of which lie to the left.",
    source=f"{MESCHEDER}, lemma 4 and corollary 5",
    kind="theorem",
    hypotheses="all eigenvalues have real parts below 0",
    domain=dict(coupling=COUPLING, damping=DAMPED, weight=WEIGHT, rate=numbers(0.01, 2)),
    because="|1 + h z| < 1 is h |z|^2 < -2 Re z.",
)
def step(coupling, damping, weight, rate):
    margin, left = step_margin(coupling, damping, weight, rate)
    return when(left, margin)


def step_margin(coupling, damping, weight, rate):
    game, matrix = quadratic(coupling, damping)
    expected = jnp.linalg.eigvals(by_hand(matrix, weight))
    bound = jnp.min(2 / jnp.abs(expected.real) / (1 + (expected.imag / expected.real) ** 2))
    computed = radius(game, Simultaneous(sgd(rate), sgd(rate), direction=Consensus(weight)))
    return same_sign(bound - rate, 1 - computed), jnp.max(expected.real) < -1e-6


step.without(
    "to-the-right",
    "all eigenvalues have real parts below 0",
    because="The formula has the modulus of Re: an eigenvalue to the right is unstable for every step.",
    check=lambda **example: step_margin(**example)[0],
    coupling=PLANAR["coupling"],
    damping=numbers(-2, -0.25).map(lambda damping: damping * np.eye(2)),
    weight=numbers(0.05, 0.5),
    rate=numbers(0.01, 0.5),
)


@claim(
    "consensus/step-on-bilinear-games",
    r"On a bilinear game steps of length h along the direction of consensus optimisation have the radius"
    r" $\max_\sigma\sqrt{(1 - h\gamma\sigma^2)^2 + h^2\sigma^2}$: stable if and only if $h < 2\gamma/(1 +"
    r" \gamma^2\sigma_{max}^2)$.",
    source=f"{MESCHEDER}, corollary 5; by hand",
    kind="closed form",
    domain=dict(matrix=matrices_with_singular_values(0.25, 4, ((2, 2),)), weight=WEIGHT, rate=numbers(0.01, 2)),
    because="The eigenvalues are -gamma sigma^2 +- i sigma.",
)
def step_on_bilinear_games(matrix, weight, rate):
    singular = jnp.linalg.svd(matrix, compute_uv=False)
    expected = jnp.hypot(1 - rate * weight * singular**2, rate * singular)
    computed = radius(Bilinear(matrix), Simultaneous(sgd(rate), sgd(rate), direction=Consensus(weight)))
    return agree(computed, jnp.max(expected))


@claim(
    "consensus/alternating",
    r"With A invertible and $A + A^\top \preceq 0$ alternating consensus optimisation converges for short steps, with"
    r" $M = A - \gamma A^\top A$ for $h < \frac23\gamma\sigma_{min}(A)^2/\|M\|^2$.",
    source=f"{MESCHEDER}, proposition 14; the bound by hand",
    kind="theorem",
    hypotheses="short steps; the symmetric part of A is at most 0",
    domain=dict(coupling=COUPLING, damping=DAMPED, weight=WEIGHT, part=numbers(0.25, 0.9)),
    because="A simultaneous step contracts by h gamma sigma^2 - h^2 M^2/2, the turn adds less than h^2 M^2.",
)
def alternating(coupling, damping, weight, part):
    game, matrix = quadratic(coupling, damping)
    rate = part * 2 / 3 * weight * sigma(matrix)[0] ** 2 / sigma(by_hand(matrix, weight))[1] ** 2
    return 1 - radius(game, Alternating(sgd(rate), sgd(rate), direction=Consensus(weight)))


alternating.without(
    "long-steps",
    "short steps",
    because="Beyond some length every explicit step diverges.",
    part=numbers(1, 40),
    **PLANAR,
)
alternating.without(
    "not-dissipative",
    "the symmetric part of A is at most 0",
    because="A field that points outwards by more than gamma a^2 is followed outwards.",
    coupling=PLANAR["coupling"],
    damping=numbers(-2, -0.25).map(lambda damping: damping * np.eye(2)),
    weight=numbers(0.05, 0.5),
)


# Momentum


@claim(
    "consensus/momentum-steps",
    r"Simultaneous gradient descent with momentum $\beta$ and rate h has the eigenvalues z with $(z - 1)(z - \beta) ="
    r" h\mu z$, two for each eigenvalue $\mu$ of A.",
    source=f"{MESCHEDER}, lemma 11 in steps, by hand",
    kind="closed form",
    domain=dict(coupling=COUPLING, damping=EXPANDING, rate=numbers(0.05, 1), beta=numbers(-0.9, 0.9)),
    because="x+ - x = h v(x) + beta (x - x-), solved by z^t times an eigenvector of A.",
)
def momentum_steps(coupling, damping, rate, beta):
    game, matrix = quadratic(coupling, damping)
    middle = (1 + beta + rate * jnp.linalg.eigvals(matrix)) / 2
    root = jnp.sqrt(middle**2 - beta + 0j)
    computed = eigenvalues(game, Simultaneous(momentum(rate, beta), momentum(rate, beta)))
    return same_spectrum(computed, jnp.concatenate([middle + root, middle - root]), tolerance=1e-4)


@claim(
    "consensus/momentum-flow",
    r"In the limit of short steps (rate $h^2$, momentum $1 - \gamma h$, time h a step) the eigenvalues $\lambda$ of"
    r" momentum fulfil $\lambda(\lambda + \gamma) \in \mathrm{spec}(A)$.",
    source=f"{MESCHEDER}, lemma 11",
    kind="theorem",
    domain=dict(coupling=COUPLING, damping=EXPANDING, friction=numbers(0.5, 4)),
    because="The limit is x'' + gamma x' = v(x).",
)
def momentum_flow(coupling, damping, friction):
    game, matrix = quadratic(coupling, damping)
    h = 1e-5
    computed = (eigenvalues(game, Simultaneous(*[momentum(h**2, 1 - friction * h)] * 2)) - 1) / h
    return same_spectrum(computed * (computed + friction), jnp.linalg.eigvals(matrix), tolerance=1e-2)


@claim(
    "consensus/momentum-stabilises",
    r"In the limit of short steps enough friction $\gamma$ of momentum makes a bilinear game stable.",
    source=f"Folklore; {MESCHEDER} find that momentum does not help",
    kind="refuted",
    domain=dict(singular=numbers(0.25, 4), friction=numbers(0.5, 8)),
    because="Of the two roots of z (z + gamma) = i sigma one has a positive real part, whatever gamma is.",
)
def momentum_stabilises(singular, friction):
    h = 1e-3
    update = Simultaneous(*[momentum(h**2, 1 - friction * h)] * 2)
    return (1 - radius(Bilinear(singular), update)) / h


# Where it should not converge


@claim(
    "consensus/rest-points",
    r"Where $1/\gamma$ is no eigenvalue of A, consensus optimisation rests only where the game rests: its direction is"
    r" at least $\sigma_{min}(I - \gamma A^\top)$ times as long as the field.",
    source=f"{MESCHEDER}: the assumption on 1/gamma",
    kind="theorem",
    hypotheses="1/gamma is no eigenvalue of A",
    domain=dict(weight=WEIGHT, curvature=numbers(-4, 0.75), cross=numbers(-1, 1), point=arrays((2,))),
    because="The direction is (I - gamma A^T) v.",
)
def rest_points(weight, curvature, cross, point):
    # The curvature is in units of 1/gamma: where it is positive, the first player is at a maximum.
    game = Quadratic([[-curvature / weight, cross], [0.0, 1.0]])
    field = game.field(tuple(point))
    direction = Consensus(weight)(game, tuple(point))
    least = sigma(jnp.eye(2) - weight * field_jacobian(game).T)[0]
    at_rest = norm(direction) <= 1e-9 * (1 + norm(point))
    return every(below(least * norm(field), norm(direction)), jnp.where(at_rest, 1e-6 - norm(field), 1.0))


rest_points.without(
    "eigenvalue",
    "1/gamma is no eigenvalue of A",
    because="At a maximum of curvature 1/gamma the gradient and the pull of consensus cancel everywhere.",
    curvature=st.sampled_from([1.0, 0.5, -1.0]),
    cross=st.just(0.0),
    point=numbers(0.5, 4).map(lambda x: np.asarray([x, 0.0])),
)


@claim(
    "consensus/attracting-maxima",
    r"At the maximum of a potential, of curvatures $\kappa$ (all players descend one function), consensus optimisation"
    r" is attracted if and only if $\gamma > 1/\kappa_{min}$.",
    source=f"{BALDUZZI}, example 8 (JMLR 2019)",
    kind="theorem",
    domain=dict(curvatures=definite_matrices(0.25, 2, 3), weight=numbers(0.05, 8)),
    because="The eigenvalues are kappa - gamma kappa^2.",
)
def attracting_maxima(curvatures, weight):
    game, _ = quadratic(jnp.zeros((2, 1)), -curvatures)
    computed = jnp.max(eigenvalues(game, Flow(Consensus(weight))).real)
    return same_sign(weight * jnp.linalg.eigvalsh(curvatures)[0] - 1, -computed)


@claim(
    "consensus/leaves-maxima",
    "Consensus optimisation leaves the maximum of a potential that all players descend, as gradient descent does.",
    source=f"{BALDUZZI}, example 8 (JMLR 2019): refuted there",
    kind="refuted",
    domain=dict(curvature=numbers(0.25, 4), weight=WEIGHT),
    because="Half the squared gradient has its minimum there too; it wins for gamma above 1/curvature.",
)
def leaves_maxima(curvature, weight):
    game = Quadratic([[-curvature, 0.0], [0.0, -curvature]])
    computed = eigenvalues(game, Flow(Consensus(weight))).real
    return jnp.max(computed)


@claim(
    "consensus/unstable-point",
    r"With $L_1 = -\frac\epsilon2 x^2 - xy$, $L_2 = -\frac\epsilon2 y^2 + xy$, whose only equilibrium is unstable,"
    r" consensus optimisation is attracted by it if and only if $\gamma > \epsilon/(1 + \epsilon^2)$.",
    source=f"{BALDUZZI}, example 9 (JMLR 2019), where $\\gamma > \\epsilon$ is said to be enough",
    kind="theorem",
    domain=dict(bend=numbers(0.05, 2), weight=numbers(0.01, 2)),
    because="A^T A = (1 + epsilon^2) I, the eigenvalues are epsilon - gamma (1 + epsilon^2) +- i.",
)
def unstable_point(bend, weight):
    game = Quadratic([[-bend, -1.0], [1.0, -bend]])
    computed = eigenvalues(game, Flow(Consensus(weight)))
    middle = bend - weight * (1 + bend**2)
    expected = jnp.stack([middle + 1j, middle - 1j])
    alone = jnp.min(eigenvalues(game, Flow()).real)
    return every(same_spectrum(computed, expected), same_sign(-middle, -jnp.max(computed.real)), alone)
