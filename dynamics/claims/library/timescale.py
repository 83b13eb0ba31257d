"""Two time scales: for which ratios of the players' rates an equilibrium attracts."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import (
    abscissa,
    below,
    eigenvalues,
    epsilon,
    every,
    radius,
    same_sign,
    same_spectrum,
    when,
)
from dynamics.claims.base import claim
from dynamics.claims.library.concepts import schur_complement, smallest_eigenvalue
from dynamics.flows import Flow
from dynamics.games import PlanarQuadratic, PolynomialGame, Quadratic, TimescaleQuadratic, Torus, TTURToy
from dynamics.optimisers import sgd
from dynamics.strategies import (
    arrays,
    definite_matrices,
    matrices_with_singular_values,
    numbers,
    rotations,
    several,
    signed,
)
from dynamics.updates import Alternating, Simultaneous

FIEZ = "Fiez and Ratliff, Local Convergence Analysis of Gradient Descent Ascent with Finite Timescale Separation, 2021"
HEUSEL = "Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017"

RATIOS = numbers(0.0625, 16)

COUPLING = arrays((2, 1), size=2)
NONSINGULAR = st.builds(lambda values, turn: turn @ np.diag(values) @ turn.T, several(signed(0.25, 2), 2), rotations(2))


def fast_player(ratio):
    """The gradient flow with player 1 faster by the ratio."""
    return Flow(rates=(jnp.ones_like(ratio), ratio))


@claim(
    "timescale/scalar-threshold",
    r"At a strict local minimax point of a zero-sum game of two scalars the flow with player 1 faster by $\tau$ is "
    r"stable if and only if $\tau > \tau^* = \max(0, D_{xx}f / D_{yy}f)$.",
    source=f"{FIEZ}, with one number per player",
    kind="theorem",
    hypotheses="player 1 is at a strict maximum; the Schur complement is positive",
    domain=dict(schur=numbers(0.25, 2), b=numbers(-2, 2), c=numbers(0.5, 2), ratio=RATIOS),
    because="The trace -(a + tau c) changes its sign at -a/c; the determinant tau (ac + b^2) is positive.",
)
def scalar_threshold(schur, b, c, ratio):
    a = schur - b**2 / c
    computed = -abscissa(PlanarQuadratic(a, b, c), fast_player(ratio))
    return same_sign(ratio - jnp.maximum(0, -a / c), computed)


scalar_threshold.without(
    "minimum",
    "player 1 is at a strict maximum",
    because="At a minimum of f along y the trace has the wrong sign for large ratios: a fast player 1 is worse.",
    c=numbers(-2, -0.5),
)
scalar_threshold.without(
    "negative-schur-complement",
    "the Schur complement is positive",
    because="With a negative determinant the point is a saddle of the flow for every ratio.",
    schur=numbers(-2, -0.25),
)


@claim(
    "timescale/minimax",
    r"For all large $\tau$ the flow is stable if and only if the point is a strict local minimax point, "
    r"$D_{yy}f\prec0$ and Schur complement $S\succ0$: its eigenvalues tend to those of $-S$ and $\tau D_{yy}f$.",
    source=f"{FIEZ}; Jin, Netrapalli, Jordan 2020, on the limit points of gradient descent-ascent",
    kind="theorem",
    hypotheses="S and the follower's own Hessian are invertible",
    domain=dict(schur=NONSINGULAR, coupling=COUPLING, c=signed(0.25, 2), ratio=numbers(1e6, 1e7)),
    because="Player 1 follows at once with its best answer, along which f has the curvature S.",
)
def minimax(schur, coupling, c, ratio):
    other = jnp.reshape(c, (1, 1))
    game = Quadratic.zero_sum(schur - coupling @ coupling.T / c, coupling, other)
    computed = eigenvalues(game, fast_player(ratio))
    order = jnp.argsort(jnp.abs(computed))
    slow, fast = computed[order[:2]], computed[order[2:]] / ratio
    return every(
        same_spectrum(slow, -jnp.linalg.eigvalsh(schur), 1e-2),
        same_spectrum(fast, -jnp.linalg.eigvalsh(other), 1e-2),
        same_sign(jnp.minimum(smallest_eigenvalue(schur), c), -jnp.max(computed.real)),
    )


def _stable_is_minimax(schur, coupling, c, ratio):
    a, b = schur[0, 0], coupling[0, 0]
    computed = abscissa(PlanarQuadratic(a, b, c), fast_player(ratio))
    return when(computed < -0.001, c - 0.001)


minimax.without(
    "flat-follower",
    "S and the follower's own Hessian are invertible",
    because="f = x^2/2 + xy is stable for every ratio, and y is at no strict maximum.",
    check=_stable_is_minimax,
    c=st.just(0.0),
    ratio=RATIOS,
)


def _duplication(size):
    """From the entries on and below the diagonal of a symmetric matrix to all entries."""
    rows, columns = np.tril_indices(size)
    matrix = np.zeros((size * size, len(rows)))
    matrix[rows + size * columns, np.arange(len(rows))] = 1
    matrix[columns + size * rows, np.arange(len(rows))] = 1
    return matrix


def threshold(own, coupling, other):
    """The closed form of tau*, from Kronecker products."""
    m, n = coupling.shape
    inverse = jnp.linalg.inv(other)
    schur = own + coupling @ inverse @ coupling.T
    first, second = _duplication(m), _duplication(n)
    first_back, second_back = np.linalg.pinv(first), np.linalg.pinv(second)

    def lyapunov(matrix, back, there):
        size = len(matrix)
        return back @ (jnp.kron(matrix, jnp.eye(size)) + jnp.kron(jnp.eye(size), matrix)) @ there

    left = jnp.concatenate(
        [jnp.kron(coupling, inverse) @ second, jnp.kron(jnp.eye(m), -inverse @ coupling.T) @ first], axis=1
    )
    middle = jax.scipy.linalg.block_diag(
        jnp.linalg.inv(lyapunov(other, second_back, second)), -jnp.linalg.inv(lyapunov(schur, first_back, first))
    )
    right = jnp.concatenate(
        [second_back @ jnp.kron(-coupling.T, jnp.eye(n)), first_back @ jnp.kron(schur, coupling @ inverse)]
    )
    values = jnp.linalg.eigvals(-jnp.kron(own, inverse) + 2 * left @ middle @ right)
    real = jnp.abs(values.imag) <= 10 * epsilon() ** 0.5 * (1 + jnp.abs(values))
    return jnp.max(jnp.where(real, values.real, 0), initial=0)


@claim(
    "timescale/threshold",
    r"At a strict local minimax point the flow is stable for every $\tau > \tau^*$, with an eigenvalue on the "
    r"imaginary axis at $\tau^*$, the largest positive eigenvalue of $-(A\otimes C^{-1}) + 2[(B\otimes C^{-1})D_n, "
    r"(I\otimes C^{-1}A_{21})D_m]\,\mathrm{diag}(\bar C^{-1}, -\bar S^{-1})\,[D_n^+(A_{21}\otimes I); "
    r"D_m^+(S\otimes BC^{-1})]$, $A_{21} = -B^\top$; 0 where there is none.",
    source=f"{FIEZ}, and the authors' code",
    kind="closed form",
    domain=dict(
        schur=definite_matrices(0.25, 2, 2),
        coupling=arrays((2, 2), size=2),
        other=definite_matrices(0.5, 2, 2),
        farther=numbers(0.0625, 4),
    ),
    because="Two eigenvalues add up to 0 exactly where the Lyapunov operator of the Jacobian is singular.",
)
def threshold_formula(schur, coupling, other, farther):
    own = schur - coupling @ jnp.linalg.solve(other, coupling.T)
    limit = threshold(own, coupling, other)
    game = Quadratic.zero_sum(own, coupling, other)
    above = -abscissa(game, fast_player(limit + farther))
    at = abscissa(game, fast_player(jnp.maximum(limit, 0.125)))
    return every(above, jnp.where(limit > 0.125, 1 - jnp.abs(at) / 1e-5, 1))


@claim(
    "timescale/quadratic-example",
    r"The quadratic example of size v has the eigenvalues $-\frac v4(\tau-2\pm\sqrt{\tau^2-12\tau+4})$ and "
    r"$-\frac v4(2\tau+1\pm\sqrt{4\tau^2-8\tau+1})$, and is stable if and only if $\tau > 2$.",
    source=f"{FIEZ}, example with the authors' code",
    kind="closed form",
    domain=dict(scale=numbers(0.25, 8), ratio=RATIOS),
    because="The Jacobian falls apart into two planar games.",
)
def quadratic_example(scale, ratio):
    computed = eigenvalues(TimescaleQuadratic(scale), fast_player(ratio))
    roots = jnp.sqrt(jnp.stack([ratio**2 - 12 * ratio + 4, 4 * ratio**2 - 8 * ratio + 1]) + 0j)
    middles = jnp.stack([ratio - 2, 2 * ratio + 1])
    expected = -scale / 4 * jnp.concatenate([middles + roots, middles - roots])
    return every(same_spectrum(computed, expected), same_sign(ratio - 2, -jnp.max(computed.real)))


@claim(
    "timescale/torus",
    r"On the torus $f = -w\cos x+\cos(x-y)+w\cos y$ the point (0, 0) is stable if and only if $\tau > (1-w)/(1+w)$, "
    r"and $(\pi,\pi)$ if and only if $\tau > (1+w)/(1-w)$: 0.739130 and 1.352941 for w = 0.15.",
    source=f"{FIEZ}, torus example with the authors' code",
    kind="closed form",
    domain=dict(weight=numbers(0.125, 0.75), ratio=RATIOS),
    because="There the curvatures along x and y are w - 1 and -1 - w, -1 - w and w - 1; both points are minimax.",
)
def torus(weight, ratio):
    game = Torus(weight, weight)
    small, large = (-abscissa(game, fast_player(ratio), point) for point in ((0.0, 0.0), (jnp.pi, jnp.pi)))
    limit = (1 - weight) / (1 + weight)
    return every(same_sign(ratio - limit, small), same_sign(ratio - 1 / limit, large))


@claim(
    "timescale/polynomial-game",
    r"In the polynomial game the local Nash point is stable for every ratio, and the two minimax points that are not "
    r"Nash are stable if and only if $\tau > 1$.",
    source=f"{FIEZ}, polynomial example with the authors' code",
    kind="closed form",
    domain=dict(ratio=numbers(0.03125, 32)),
    because="The diagonal is a line of symmetry of f: on it the curvatures along x and y are equal.",
)
def polynomial_game(ratio):
    game = PolynomialGame()
    nash, first, second = (-abscissa(game, fast_player(ratio), point) for point in game.equilibria()[:3])
    return every(nash, same_sign(ratio - 1, first, 1e-6), same_sign(ratio - 1, second, 1e-6))


@claim(
    "timescale/nash",
    r"A strict local Nash point is stable for every ratio of the rates: the scaled Jacobian has no real part above "
    r"$-\min(\lambda_{min}(D_{xx}f), \tau\lambda_{min}(-D_{yy}f))$.",
    source=f"{FIEZ}, on the stability of Nash points",
    kind="theorem",
    hypotheses="the point is a strict local Nash point",
    domain=dict(
        own=definite_matrices(0.25, 4, 2), coupling=COUPLING, other=definite_matrices(0.25, 4, 1), ratio=RATIOS
    ),
    because="Scaled by the roots of the rates the coupling is antisymmetric, so that curvatures bound the real parts.",
)
def nash(own, coupling, other, ratio):
    computed = -abscissa(Quadratic.zero_sum(own, coupling, other), fast_player(ratio))
    bound = jnp.minimum(smallest_eigenvalue(own), ratio * smallest_eigenvalue(other))
    return every(computed, below(bound, computed, 10 * epsilon() ** 0.5))


def _stable(own, coupling, other, ratio):
    schur = schur_complement(own, coupling, other)
    computed = -abscissa(Quadratic.zero_sum(own, coupling, other), fast_player(ratio))
    return when(smallest_eigenvalue(schur) > 0, computed)


nash.without(
    "minimax",
    "the point is a strict local Nash point",
    because="It is not enough to be a strict local minimax point: f = -x^2/2 + 2xy - y^2/2 needs tau > 1.",
    check=_stable,
    own=definite_matrices(-2, -0.25, 2).map(lambda matrix: matrix[:1, :1]),
    coupling=numbers(1, 4).map(lambda number: np.full((1, 1), number)),
)


@claim(
    "timescale/penalised-discriminator",
    r"An equilibrium with the structure $[[0, -B], [\tau B^\top, -\tau Q]]$, as a realistic GAN with a penalty on the "
    r"discriminator's gradient has, is stable for every ratio $\tau$.",
    source="Fiez and Ratliff 2021, on GANs with R1; lemma A.7 of Mescheder, Geiger, Nowozin, Which Training Methods "
    "for GANs do actually Converge?, 2018",
    kind="theorem",
    hypotheses="Q is positive definite; the rows of B are independent",
    domain=dict(
        coupling=matrices_with_singular_values(0.25, 2, ((1, 2),)),
        penalty=definite_matrices(0.25, 2, 2),
        ratio=RATIOS,
    ),
    because="The point is a strict local minimax point with D_xx f = 0: S = B Q^-1 B' is positive, and tau* = 0.",
)
def penalised_discriminator(coupling, penalty, ratio):
    rows = len(coupling)
    game = Quadratic.zero_sum(jnp.zeros((rows, rows)), coupling, penalty)
    return -abscissa(game, fast_player(ratio)) - 0.001  # the slowest of these games contracts by 0.0078


penalised_discriminator.without(
    "singular-penalty",
    "Q is positive definite",
    because="What the penalty does not see keeps on turning.",
    penalty=numbers(0.25, 2).map(lambda number: np.diag([0.0, number])),
    coupling=numbers(0.25, 2).map(lambda number: np.asarray([[number, 0.0]])),
)
penalised_discriminator.without(
    "too-many-generators",
    "the rows of B are independent",
    because="A generator with more directions than the discriminator sees stays where it is along some of them.",
    coupling=arrays((2, 1), size=2),
    penalty=definite_matrices(0.25, 2, 1),
)


@claim(
    "timescale/faster-is-better",
    "A discriminator that trains faster is always better: what is stable at equal rates stays stable when player 1 "
    "gets faster.",
    source="often said of two time scales",
    kind="folklore",
    holds=False,
    domain=dict(a=numbers(0.5, 4), b=signed(0.5, 4), c=signed(0.5, 4), ratio=numbers(1, 16)),
    because="A stable point at which player 1 sits at a minimum of f is held by player 0, which must not be too slow.",
)
def faster_is_better(a, b, c, ratio):
    game = PlanarQuadratic(a, b, c)
    return when(abscissa(game, Flow()) < -1e-6, -abscissa(game, fast_player(ratio)))


@claim(
    "timescale/faster-steps",
    "At a strict local Nash point gradient descent-ascent that is stable stays stable when the rate of player 1 alone "
    "is raised.",
    source="often said of two time scales",
    kind="folklore",
    holds=False,
    domain=dict(
        a=numbers(0.25, 2), b=numbers(-2, 2), c=numbers(0.25, 2), rate=numbers(0.0625, 0.5), ratio=numbers(1, 16)
    ),
    because="That holds for the flow; a step leaves the unit circle once the rate of player 1 is too large for its own "
    "curvature or for the coupling.",
)
def faster_steps(a, b, c, rate, ratio):
    game = PlanarQuadratic(a, b, c)
    equal = radius(game, Simultaneous(sgd(rate), sgd(rate)))
    return when(equal < 1 - 1e-6, 1 - radius(game, Simultaneous(sgd(rate), sgd(ratio * rate))))


TOY = dict(first=numbers(0.0001, 0.02), second=numbers(0.0001, 1.5))


@claim(
    "timescale/toy",
    r"On the toy $f = (1+x^2)(100-y^2)$ gradient descent with the rates $h_x, h_y$, in turns or at once, multiplies x "
    r"by $1 - 200h_x$ and y by $1 - 2h_y$ near the equilibrium.",
    source=f"{HEUSEL}, figure 2 with the authors' code; multipliers by hand",
    kind="closed form",
    domain=TOY,
    because="The mixed derivative vanishes at 0; at the paper's rate of 0.01 the multiplier of x is -1.",
)
def toy(first, second):
    expected = jnp.stack([1 - 200 * first, 1 - 2 * second])
    updates = [kind(sgd(first), sgd(second)) for kind in (Alternating, Simultaneous)]
    return every(*(same_spectrum(eigenvalues(TTURToy(), update), expected, 1e4 * epsilon()) for update in updates))


@claim(
    "timescale/toy-one-rate",
    r"On the toy no common rate contracts by more than 99/101 per step.",
    source=f"{HEUSEL}, figure 2; the bound by hand",
    kind="closed form",
    hypotheses="one rate for both",
    domain=TOY | dict(second=st.just(0.0)),
    because="max(|1 - 200 h|, |1 - 2 h|) is smallest at h = 1/101.",
)
def toy_one_rate(first, second):
    rate = jnp.where(second > 0, second, first)
    return below(99 / 101, radius(TTURToy(), Simultaneous(sgd(first), sgd(rate))), 1e4 * epsilon())


toy_one_rate.without(
    "two-rates",
    "one rate for both",
    because="The rates 1/200 and 1/2 reach the equilibrium in one step: this is what two time scales are for.",
    second=numbers(0.25, 0.75),
)
