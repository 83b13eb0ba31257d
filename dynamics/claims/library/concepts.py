"""Solution concepts: which points attract which method, and which of them are Nash or minimax."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import (
    abscissa,
    agree,
    below,
    difference,
    eigenvalues,
    end,
    epsilon,
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
from dynamics.directions import CurvatureExploitation, FollowTheRidge, LocalSymplecticSurgery, Stackelberg
from dynamics.flows import Flow
from dynamics.games import PlanarQuadratic, Quadratic, SineMinimax, SpuriousAttractor
from dynamics.optimisers import optimistic, sgd
from dynamics.strategies import arrays, definite_matrices, numbers, rotations, several, signed
from dynamics.updates import Simultaneous

DASKALAKIS = "Daskalakis and Panageas, The Limit Points of (Optimistic) Gradient Descent in Min-Max Optimization, 2018"
JIN = "Jin, Netrapalli, Jordan, What is Local Optimality in Nonconvex-Nonconcave Minimax Optimization?, 2020"
CESP = "Adolphs et al., Local Saddle Point Optimization: A Curvature Exploitation Approach, 2019"

# f = x'Ax/2 + x'By - y'Cy/2 with x of two numbers and y of one.
COUPLING = arrays((2, 1), size=2)
SYMMETRIC = definite_matrices(-2, 2, 2)
POSITIVE = definite_matrices(0.25, 4, 2)
SYMMETRIC_ONE = definite_matrices(-2, 2, 1)
NONSINGULAR = st.builds(lambda values, turn: turn @ np.diag(values) @ turn.T, several(signed(0.25, 2), 2), rotations(2))
POSITIVE_ONE = definite_matrices(0.25, 4, 1)


def smallest_eigenvalue(matrix):
    """Of a symmetric matrix."""
    return jnp.min(jnp.linalg.eigvalsh(matrix))


def saddle_matrix(own, coupling, other, ratio=1.0):
    """Minus the Jacobian of the field of `Quadratic.zero_sum`, with player 1 faster by the ratio."""
    return jnp.block([[own, coupling], [-ratio * coupling.T, ratio * other]])


def schur_complement(own, coupling, other):
    """The curvature of max over y of f, along x."""
    return own + coupling @ jnp.linalg.solve(other, coupling.T)


def lipschitz(own, coupling, other):
    """The Lipschitz constant of the gradient of a quadratic."""
    return jnp.linalg.norm(saddle_matrix(own, coupling, other), 2)


@claim(
    "concepts/nash-attracts",
    r"A strict local Nash point of a zero-sum game attracts gradient descent-ascent for all small steps: with rates "
    r"$h\,r_i$ whenever $h < 2\mu/L^2$, $\mu = \min(r_0\lambda_{min}(D_{xx}f), r_1\lambda_{min}(-D_{yy}f))$, L the "
    r"norm of $R^{1/2}Dv\,R^{1/2}$, $R = diag(r)$.",
    source=f"{DASKALAKIS}, section 2; the bound on the step by hand",
    kind="theorem",
    hypotheses="the point is a strict local Nash point",
    domain=dict(
        own=POSITIVE,
        coupling=COUPLING,
        other=POSITIVE_ONE,
        first=numbers(0.25, 2),
        second=numbers(0.25, 2),
        share=numbers(0.125, 0.96875),
    ),
    because="The symmetric part of the scaled matrix M is at least mu, so that |I - hM|^2 <= 1 - 2 h mu + h^2 L^2 < 1.",
)
def nash_attracts(own, coupling, other, first, second, share):
    roots = jnp.sqrt(jnp.stack([first, first, second]))
    scaled = roots[:, None] * saddle_matrix(own, coupling, other) * roots
    size = jnp.linalg.norm(scaled, 2)
    slope = jnp.minimum(first * smallest_eigenvalue(own), second * smallest_eigenvalue(other))
    step = share * 2 * jnp.abs(slope) / size**2
    update = Simultaneous(sgd(step * first), sgd(step * second))
    return 1 - radius(Quadratic.zero_sum(own, coupling, other), update)


nash_attracts.without(
    "no-minimum",
    "the point is a strict local Nash point",
    because="Where f is concave along x, a direction that player 1 cannot influence grows, whatever the step.",
    own=definite_matrices(-4, -0.25, 2),
)


@claim(
    "concepts/optimistic",
    r"What attracts gradient descent-ascent attracts the optimistic method as well: a point stable under a rate "
    r"$0 < h < 1/(2L)$, L the norm of the Hessian of f, is stable under optimistic steps of the same rate.",
    source=f"{DASKALAKIS}, theorem on the inclusion of stable points",
    kind="theorem",
    hypotheses="the step is below 1/(2L)",
    domain=dict(a=numbers(-1, 4), b=signed(0.25, 4), c=numbers(0, 4), share=numbers(0.0625, 0.96875)),
    because="An eigenvalue 1 + m of descent-ascent becomes the roots of z^2 - (1 + 2m) z + m, which stay within the "
    "unit circle for |1 + m| < 1 and |m| < 1/2.",
)
def optimistic_inclusion(a, b, c, share):
    size = lipschitz(*(jnp.reshape(value, (1, 1)) for value in (a, b, c)))
    game, rate = PlanarQuadratic(a, b, c), share / (2 * size)
    plain = radius(game, Simultaneous(sgd(rate), sgd(rate)))
    computed = radius(game, Simultaneous(optimistic(rate), optimistic(rate)))
    return when(plain < 1 - 1e-6, 1 - computed)


optimistic_inclusion.without(
    "larger-step",
    "the step is below 1/(2L)",
    because="Next to no coupling a curvature a allows steps up to 2/a to descent, but only up to 2/(3a) to the "
    "optimistic method.",
    share=numbers(1, 4),
)


@claim(
    "concepts/optimistic-sharp",
    r"A point of any smooth game that attracts simultaneous descent with rate $h < \sqrt{2/5}/L$, L the norm of the "
    r"Jacobian, attracts the optimistic method with the same rate; the constant cannot be improved.",
    source="by hand, see the notebook on this conjecture; 1/2 in the theorem of Daskalakis and Panageas, 2018",
    kind="theorem",
    hypotheses="h L is below sqrt(2/5)",
    domain=dict(decay=numbers(0, 1), turn=numbers(0, 4), shear=numbers(-1, 1), share=numbers(0.5, 0.998)),
    because="For an eigenvalue -m/h both regions of stability end at m = (1 +- 3i)/5, which is sqrt(2/5) away from 0; "
    "what is nearer lies in both, or outside the one of descent.",
)
def optimistic_sharp(decay, turn, shear, share):
    game = Quadratic([[decay, turn + shear], [-turn, decay]])
    rate = share * np.sqrt(0.4) / jnp.maximum(jnp.linalg.norm(field_jacobian(game), 2), 1e-3)
    plain = radius(game, Simultaneous(sgd(rate), sgd(rate)))
    computed = radius(game, Simultaneous(optimistic(rate), optimistic(rate)))
    return when(plain < 1 - 1e-6, 1 - computed)


optimistic_sharp.without(
    "two-per-cent-longer",
    "h L is below sqrt(2/5)",
    because="Just beyond m = (1 +- 3i)/5 descent is stable and the optimistic method is not.",
    decay=numbers(0.9375, 1.0625),
    turn=numbers(3, 3),
    shear=numbers(0, 0),
    share=numbers(1.005, 1.02),
)


@claim(
    "concepts/optimistic-attracts-no-more",
    "What attracts the optimistic method attracts gradient descent-ascent of the same rate.",
    source=f"the converse of the inclusion in {DASKALAKIS}",
    kind="refuted",
    domain=dict(a=numbers(-2, 2), b=signed(0.25, 2), c=numbers(-2, 2), rate=numbers(0.0625, 0.25)),
    because="f = xy: the optimistic method converges for h < 1/sqrt(3), descent-ascent spirals outwards.",
)
def optimistic_attracts_no_more(a, b, c, rate):
    game = PlanarQuadratic(a, b, c)
    computed = radius(game, Simultaneous(optimistic(rate), optimistic(rate)))
    return when(computed < 1 - 1e-6, 1 - radius(game, Simultaneous(sgd(rate), sgd(rate))))


@claim(
    "concepts/stable-is-nash",
    "A point that attracts gradient descent-ascent with arbitrarily small steps is a local Nash point of the game.",
    source=f"often taken for granted; refuted in {DASKALAKIS} by f = -x^2/8 - y^2/2 + 0.6 xy",
    kind="folklore",
    holds=False,
    domain=dict(a=numbers(-2, 2), b=numbers(-2, 2), c=numbers(-2, 2)),
    because="A player that sits at a maximum of its own loss is held there by the other one: it is enough that "
    "a + c > 0 and ac + b^2 > 0.",
)
def stable_is_nash(a, b, c):
    game = PlanarQuadratic(a, b, c)
    size = jnp.maximum(lipschitz(*(jnp.reshape(value, (1, 1)) for value in (a, b, c))), 1)
    stable = abscissa(game, Flow()) < -0.01
    for step in (0.001, 0.0001):  # in units of 1/L, so that the real parts, above 0.01, count more than squares
        rate = step / size**2
        stable &= radius(game, Simultaneous(sgd(rate), sgd(rate))) < 1
    return when(stable, jnp.minimum(a, c))


@claim(
    "concepts/local-diffeomorphism",
    r"With $h < 1/L$ a step of gradient descent-ascent is a local diffeomorphism that keeps the orientation: its "
    r"Jacobian has a positive determinant, and no singular value below $1 - hL$.",
    source=f"{DASKALAKIS}, on the measure of the starts that lead to unstable points",
    kind="theorem",
    hypotheses="the step is below 1/L",
    domain=dict(own=SYMMETRIC, coupling=COUPLING, other=SYMMETRIC_ONE, share=numbers(0.0625, 0.96875)),
    because="The step is I minus h times a matrix of norm at most L.",
)
def local_diffeomorphism(own, coupling, other, share):
    size = jnp.maximum(lipschitz(own, coupling, other), 0.25)
    computed = jacobian(Quadratic.zero_sum(own, coupling, other), Simultaneous(sgd(share / size), sgd(share / size)))
    smallest = jnp.min(jnp.linalg.svd(computed, compute_uv=False))
    return every(jnp.linalg.det(computed), below(1 - share, smallest))


def _determinant(own, coupling, other, share):
    size = jnp.maximum(lipschitz(own, coupling, other), 0.25)
    return jnp.linalg.det(
        jacobian(Quadratic.zero_sum(own, coupling, other), Simultaneous(sgd(share / size), sgd(share / size)))
    )


local_diffeomorphism.without(
    "larger-step",
    "the step is below 1/L",
    because="A step longer than 1/a turns the direction of curvature a around: it folds the plane over.",
    check=_determinant,
    share=numbers(1.25, 4),
)


@claim(
    "concepts/local-symplectic-surgery",
    r"At an equilibrium of a zero-sum game with invertible Jacobian, local symplectic surgery has the real spectrum of "
    r"$-D_{xx}f$ and $D_{yy}f$: the point attracts if and only if it is a strict local Nash point.",
    source="Mazumdar, Jordan, Sastry, On Finding Local Nash Equilibria (and Only Local Nash Equilibria) in Zero-Sum "
    "Games, 2019",
    kind="theorem",
    hypotheses="the Jacobian is invertible",
    domain=dict(schur=NONSINGULAR, coupling=COUPLING, c=signed(0.25, 2)),
    because="There the method is -(J + J')/2, and the coupling is the antisymmetric part.",
)
def local_symplectic_surgery(schur, coupling, c):
    # The Jacobian is invertible if and only if c and the Schur complement are.
    own, other = schur - coupling @ coupling.T / c, jnp.reshape(c, (1, 1))
    computed = eigenvalues(Quadratic.zero_sum(own, coupling, other), Flow(LocalSymplecticSurgery()))
    return same_spectrum(computed, -jnp.concatenate([jnp.linalg.eigvalsh(own), jnp.linalg.eigvalsh(other)]))


local_symplectic_surgery.without(
    "singular",
    "the Jacobian is invertible",
    because="f = (x + y)^2/2 has the Jacobian [[1, 1], [-1, -1]], whose rotation cannot be told from its curvature: "
    "the spectrum is 0, 0 instead of 1, -1.",
    schur=st.just(np.zeros((1, 1))),
    coupling=signed(0.5, 2).map(lambda number: np.full((1, 1), number)),
    c=numbers(-2, -0.25),
)


@claim(
    "concepts/stackelberg",
    r"At an equilibrium of a zero-sum game with invertible $D_{yy}f$ the Stackelberg gradient, whatever the rates, has "
    r"a real spectrum, that of $-r_0 S$ and $r_1 D_{yy}f$, $S = D_{xx}f - D_{xy}f(D_{yy}f)^{-1}D_{yx}f$: it attracts "
    r"if and only if the point is a differential Stackelberg equilibrium, $S\succ0$ and $D_{yy}f\prec0$.",
    source="Fiez, Chasnov, Ratliff, Implicit Learning Dynamics in Stackelberg Games, 2020, proposition 1",
    kind="theorem",
    hypotheses="the follower's own Hessian is invertible",
    domain=dict(own=SYMMETRIC, coupling=COUPLING, c=signed(0.25, 2), first=numbers(0.25, 2), second=numbers(0.25, 2)),
    because="The leader's gradient along the best response does not depend on y: the Jacobian is block-triangular.",
)
def stackelberg(own, coupling, c, first, second):
    other = jnp.reshape(c, (1, 1))
    curvature = coupling @ jnp.where(other == 0, 0, 1 / jnp.where(other == 0, 1, other)) @ coupling.T
    slow, fast = jnp.linalg.eigvalsh(own + curvature), jnp.linalg.eigvalsh(other)
    flow = Flow(Stackelberg(solver="dense"), rates=(first, second))
    computed = eigenvalues(Quadratic.zero_sum(own, coupling, other), flow)
    return same_spectrum(computed, -jnp.concatenate([first * slow, second * fast]))


stackelberg.without(
    "flat-follower",
    "the follower's own Hessian is invertible",
    because="With f linear in y there is no best response; the pseudo-inverse leaves the plain gradient, which turns.",
    c=st.just(0.0),
)


@claim(
    "concepts/stable-is-stackelberg",
    "The points that attract the gradient flow of a zero-sum game are its differential Stackelberg equilibria.",
    source="of Stackelberg's gradient: Fiez, Chasnov, Ratliff 2020; of the plain gradient it is folklore",
    kind="folklore",
    holds=False,
    domain=dict(a=numbers(-2, 2), b=numbers(-2, 2), c=signed(0.25, 2)),
    because="Wrong both ways. With c < 0 player 1 is at a minimum of f, and yet attracted where a + c > 0 and "
    "ac + b^2 > 0; and a minimax point with a + c < 0 repels. It takes another ratio of the rates.",
)
def stable_is_stackelberg(a, b, c):
    return same_sign(jnp.minimum(c, a + b**2 / c), -abscissa(PlanarQuadratic(a, b, c), Flow()))


@claim(
    "concepts/follow-the-ridge",
    r"With steps $h_0, h_1$ and the ratio $\rho = h_0/h_1$, follow-the-ridge has at an equilibrium of a zero-sum game "
    r"with invertible $D_{yy}f$ the real eigenvalues of $I - h_0 S$ and of $I + h_1 D_{yy}f$, S the Schur complement: "
    r"for small steps it attracts if and only if the point is a strict local minimax point.",
    source="Wang, Zhang, Ba, On Solving Minimax Optimization Locally: A Follow-the-Ridge Approach, 2020",
    kind="theorem",
    hypotheses="the ratio is that of the steps",
    domain=dict(
        own=SYMMETRIC,
        coupling=COUPLING,
        c=signed(0.25, 2),
        first=numbers(0.0625, 1),
        second=numbers(0.0625, 1),
        factor=st.just(1.0),
    ),
    because="In coordinates along the ridge, y minus the best response to x, the step is block-triangular.",
)
def follow_the_ridge(own, coupling, c, first, second, factor):
    other = jnp.reshape(c, (1, 1))
    slow, fast = jnp.linalg.eigvalsh(schur_complement(own, coupling, other)), jnp.linalg.eigvalsh(other)
    direction = FollowTheRidge(factor * first / second, solver="dense")
    computed = eigenvalues(
        Quadratic.zero_sum(own, coupling, other), Simultaneous(sgd(first), sgd(second), direction=direction)
    )
    return same_spectrum(computed, jnp.concatenate([1 - first * slow, 1 - second * fast]))


follow_the_ridge.without(
    "other-ratio",
    "the ratio is that of the steps",
    because="With another ratio the follower makes up for a move that the leader does not make.",
    factor=numbers(0, 4).filter(lambda factor: abs(factor - 1) > 0.125),
)


@claim(
    "concepts/nash-is-minimax",
    "Every strict local Nash point of a zero-sum game is a strict local minimax point: it attracts Stackelberg's "
    r"gradient and follow-the-ridge, at the rate of the least eigenvalue of the Schur complement and of $-D_{yy}f$.",
    source=f"{JIN}, proposition on the relation of the concepts",
    kind="theorem",
    hypotheses="the point is a strict local Nash point",
    domain=dict(own=POSITIVE, coupling=COUPLING, c=numbers(0.25, 4)),
    because="The Schur complement adds something positive to the minimiser's own curvature.",
)
def nash_is_minimax(own, coupling, c):
    other = jnp.reshape(c, (1, 1))
    game = Quadratic.zero_sum(own, coupling, other)
    curvature = smallest_eigenvalue(schur_complement(own, coupling, other))
    flows = [Flow(direction) for direction in (Stackelberg(solver="dense"), FollowTheRidge(solver="dense"))]
    rates = [-abscissa(game, flow) for flow in flows]
    expected = jnp.minimum(curvature, c)
    agreeing = [agree(rate, expected, 10 * epsilon() ** 0.5) for rate in rates]
    return every(*rates, *agreeing, below(smallest_eigenvalue(own), curvature))


nash_is_minimax.without(
    "no-maximum",
    "the point is a strict local Nash point",
    because="Where the maximiser sits at a minimum both methods leave.",
    c=numbers(-4, -0.25),
)


@claim(
    "concepts/minimax-is-nash",
    "A strict local minimax point of a zero-sum game is a local Nash point.",
    source=f"the converse of a proposition in {JIN}, refuted there by f = -x^2 + 5xy - y^2",
    kind="refuted",
    domain=dict(a=numbers(-2, 2), b=numbers(-4, 4), c=numbers(0.25, 4)),
    because="Player 1 answers every move of player 0: it is enough that a + b^2/c > 0, where a may be negative.",
)
def minimax_is_nash(a, b, c):
    attracts = abscissa(PlanarQuadratic(a, b, c), Flow(Stackelberg(solver="dense"))) < -1e-6
    return when(attracts, jnp.minimum(a, c))


@claim(
    "concepts/minimax-conditions",
    r"Where $D_{yy}f\prec0$ and the Schur complement $D_{xx}f - D_{xy}f(D_{yy}f)^{-1}D_{yx}f\succ0$, the point is a "
    r"local minimax point: $f(x^*,y)\le f(x^*,y^*)\le f(x,r(x))$ for all x and y, with the answer "
    r"$r(x) = -(D_{yy}f)^{-1}D_{yx}f\,x$ of player 1, as long as x.",
    source=f"{JIN}, second-order sufficient condition",
    kind="theorem",
    hypotheses="the Schur complement is positive definite",
    domain=dict(schur=POSITIVE, coupling=COUPLING, c=numbers(0.25, 4), x=arrays((2,)), y=arrays((1,))),
    because="Along the best answer f is half the quadratic form of the Schur complement.",
)
def minimax_conditions(schur, coupling, c, x, y):
    game = Quadratic.zero_sum(schur - coupling @ coupling.T / c, coupling, jnp.reshape(c, (1, 1)))
    answer = coupling.T @ x / c
    held, still, met = (game.losses(point)[0] for point in ((0 * x, y), (0 * x, 0 * y), (x, answer)))
    follower = game.field((x, answer))[1]  # player 1 has nothing to gain there
    return every(below(held, still), below(still, met), agree(follower, jnp.zeros(1)))


minimax_conditions.without(
    "negative-schur-complement",
    "the Schur complement is positive definite",
    because="Where it has a negative eigenvalue player 0 moves along it: whatever player 1 answers, f gets smaller.",
    schur=SYMMETRIC,
)


@claim(
    "concepts/largest-step",
    r"At an equilibrium with eigenvalues $-\lambda$ of the field, gradient descent with one rate h has the squared "
    r"radius $1 - h\min|\lambda|^2(2\,\mathrm{Re}\lambda/|\lambda|^2 - h)$: it is stable if and only if "
    r"$h < \min 2\,\mathrm{Re}\lambda/|\lambda|^2$.",
    source="Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, lemma 4",
    kind="theorem",
    domain=dict(own=SYMMETRIC, coupling=COUPLING, other=definite_matrices(-1, 4, 1), rate=numbers(0.0625, 2)),
    because="|1 - h lambda|^2 = 1 - 2 h Re lambda + h^2 |lambda|^2.",
)
def largest_step(own, coupling, other, rate):
    rotation = jnp.linalg.eigvals(saddle_matrix(own, coupling, other))
    square = jnp.maximum(jnp.abs(rotation) ** 2, epsilon())
    computed = radius(Quadratic.zero_sum(own, coupling, other), Simultaneous(sgd(rate), sgd(rate)))
    limits = 2 * rotation.real / square
    return agree(computed**2, 1 - rate * jnp.min(square * (limits - rate)), 10 * epsilon() ** 0.5)


@claim(
    "concepts/largest-step-by-curvature",
    "Gradient descent-ascent is stable at a strict local Nash point for rates below 2 over the largest curvature, as "
    "in minimisation.",
    source="a rule for minimisation, often carried over to games",
    kind="folklore",
    holds=False,
    domain=dict(a=numbers(0.25, 2), b=numbers(0, 4), c=numbers(0.25, 2), share=numbers(0.0625, 0.96875)),
    because="Rotation counts as well: |lambda|^2 grows with the square of the coupling, Re lambda does not.",
)
def largest_step_by_curvature(a, b, c, share):
    rate = share * 2 / jnp.maximum(a, c)
    return 1 - radius(PlanarQuadratic(a, b, c), Simultaneous(sgd(rate), sgd(rate)))


@claim(
    "concepts/global-minimax-is-stationary",
    r"A point $(x^*, y^*)$ with $x^*$ a minimiser of $\max_y f(x, y)$ and $y^*$ a maximiser of $f(x^*, y)$ is "
    r"stationary.",
    source=f"true of minimisation; refuted in {JIN} by f = 0.2 xy - cos y on [-1, 1] x [-2 pi, 2 pi]",
    kind="refuted",
    domain=dict(coupling=numbers(0.125, 1), x=numbers(-1, 1)),
    because="At (0, pi), of value 1, the slope along x is pi k: player 0 cannot use it, as player 1 would jump to -pi.",
)
def global_minimax_is_stationary(coupling, x):
    game = SineMinimax(coupling)
    value = game.losses((jnp.zeros_like(x), jnp.full_like(x, jnp.pi)))[0]
    heights = jnp.linspace(-2 * jnp.pi, 2 * jnp.pi, 33)
    tops = [jnp.max(jnp.stack([game.losses((at, y))[0] for y in heights])) for at in (x, jnp.zeros_like(x))]
    global_minimax = (tops[0] >= value - 1e-12) & (tops[1] <= value + 1e-12)
    slope = norm(game.field((jnp.zeros_like(x), jnp.full_like(x, jnp.pi))))
    return when(global_minimax, agree(slope, 0, 1e-6))


STARTS = dict(x=numbers(-5, 1.5), y=numbers(-2, 4.5))


@claim(
    "concepts/curvature-exploitation",
    r"On $f = 2x^2+y^2+4xy+\frac43y^3-\frac14y^4$ curvature exploitation ends at the local Nash point "
    r"$y = -x = 2+\sqrt2$ from everywhere in $[-5, 1.5]\times[-2, 4.5]$.",
    source=f"{CESP}, figure 1; the authors' code has this grid of starts",
    kind="conjecture",
    domain=STARTS,
    because="The jump along negative curvature of the own loss leaves the spurious attractor (0, 0).",
)
def curvature_exploitation(x, y):
    game = SpuriousAttractor()
    direction = CurvatureExploitation(smoothness=0.5, step=0.01)
    final = end(game, Simultaneous(sgd(0.01), sgd(0.01), direction=direction), (x, y), 800)
    return 0.01 - difference(final, game.equilibria()[0])


@claim(
    "concepts/gradient-finds-nash",
    r"On the same game gradient descent-ascent ends at the only local Nash point, $y = -x = 2+\sqrt2$.",
    source=f"the counterpart in {CESP}, figure 1",
    kind="refuted",
    domain=dict(x=numbers(-5, -0.5), y=numbers(-2, 4.5)),
    because="(0, 0), where player 1 sits at a minimum of f, attracts with the eigenvalues -1 +- i sqrt 7.",
)
def gradient_finds_nash(x, y):
    game = SpuriousAttractor()
    final = end(game, Simultaneous(sgd(0.05), sgd(0.05)), (x, y), 400)
    return 0.01 - difference(final, game.equilibria()[0])


@claim(
    "concepts/curvature-exploitation-rest",
    r"An equilibrium is a point of rest of curvature exploitation if and only if no player's own loss has negative "
    r"curvature; elsewhere the jump has the length $|\lambda_i|/(2\rho_i)$, divided by the rate in the direction.",
    source=f"{CESP}, lemma on the fixed points",
    kind="theorem",
    domain=dict(
        own=definite_matrices(-2, 2, 2),
        coupling=COUPLING,
        other=SYMMETRIC_ONE,
        first=numbers(0.25, 2),
        second=numbers(0.25, 2),
        rate=numbers(0.0625, 1),
    ),
    because="The sign of the jump is never 0, so that the jump itself does not vanish where the gradient does.",
)
def curvature_exploitation_rest(own, coupling, other, first, second, rate):
    game = Quadratic.zero_sum(own, coupling, other)
    computed = CurvatureExploitation(smoothness=(first, second), step=rate)(game, game.equilibria()[0])
    lengths = [
        jnp.maximum(-smallest_eigenvalue(matrix), 0) / (2 * smoothness * rate)
        for matrix, smoothness in ((own, first), (other, second))
    ]
    return agree(jnp.stack([norm(player) for player in computed]), jnp.stack(lengths), 1e4 * epsilon())
