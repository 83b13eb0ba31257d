"""Competitive gradient descent, and directions made of the game's Jacobian alone: what they are and where they lead."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dynamics.checks.measures import abscissa, agree, end, every, jacobian, norm, radius, when
from dynamics.claims.base import claim
from dynamics.claims.library.adjustment import FORMS, POINT, cubic_game, cubic_loss, flat, players_of
from dynamics.claims.library.concepts import saddle_matrix
from dynamics.directions import CompetitiveGradient, CrossingTheCurl, HamiltonianDescent, JacobianRegularisation
from dynamics.flows import Flow
from dynamics.games import Bilinear, Quadratic
from dynamics.optimisers import sgd
from dynamics.strategies import (
    arrays,
    definite_matrices,
    matrices_with_singular_values,
    numbers,
    several,
    signed,
)
from dynamics.updates import Simultaneous

SCHAEFER = "Schaefer and Anandkumar, Competitive Gradient Descent, 2019"


def competitive(first, second):
    """Competitive gradient descent with these steps."""
    return Simultaneous(sgd(first), sgd(second), direction=CompetitiveGradient((first, second), solver="dense"))


@claim(
    "competitive/proximal-point",
    r"On a bilinear game competitive gradient descent is the proximal point method $z^+ = (I + hM)^{-1}z$, M minus the "
    "Jacobian of the field, also with unequal steps.",
    source=f"{SCHAEFER}, section 2; with unequal steps by hand",
    kind="theorem",
    hypotheses="the game is bilinear",
    domain=dict(
        matrix=arrays((2, 1)),
        first=numbers(0.0625, 4),
        second=numbers(0.0625, 4),
        start=arrays((3,)),
        curvature=st.just(0.0),
    ),
    because="Both solve z+ = z + h v(z+): the local bilinear game is the game.",
)
def proximal_point(matrix, first, second, start, curvature):
    own, other = curvature * jnp.eye(2), curvature * jnp.eye(1)
    game = Quadratic.zero_sum(own, matrix, other)
    computed = flat(end(game, competitive(first, second), players_of(start), 1))
    rates = jnp.stack([first, first, second])[:, None]
    proximal = jnp.linalg.solve(jnp.eye(3) + rates * saddle_matrix(own, matrix, other), start)
    return agree(computed, proximal, scale=1 + jnp.max(jnp.abs(start)))


proximal_point.without(
    "curvature",
    "the game is bilinear",
    because="The proximal point sees the curvature where it arrives, competitive gradient descent does not see it.",
    curvature=st.just(1.0),
)


@claim(
    "competitive/local-game",
    r"The moves of competitive gradient descent are the equilibrium of the local game, $m_i = -\eta_i(\nabla_iL_i + "
    r"D_{ij}L_i\,m_j)$, at every point of a general-sum game.",
    source=f"{SCHAEFER}, algorithm 1, here with steps per player",
    kind="closed form",
    domain=dict(forms=FORMS, point=POINT, first=numbers(0.0625, 1), second=numbers(0.0625, 1)),
    because="The definition, with a dense solution of the system and derivatives of every loss on its own.",
)
def local_game(forms, point, first, second):
    gradients = [jax.grad(lambda z, form=form: cubic_loss(form, z))(point) for form in forms]
    hessians = [jax.hessian(lambda z, form=form: cubic_loss(form, z))(point) for form in forms]
    upper, lower = first * hessians[0][:2, 2:], second * hessians[1][2:, :2]
    system = jnp.block([[jnp.eye(2), upper], [lower, jnp.eye(1)]])
    moves = -jnp.linalg.solve(system, jnp.concatenate([first * gradients[0][:2], second * gradients[1][2:]]))
    game, players = cubic_game(forms), players_of(point)
    computed = flat(end(game, competitive(first, second), players, 1)) - point
    regular = jnp.abs(jnp.linalg.det(system)) > 1e-3
    size = jnp.linalg.norm(system) / jnp.where(regular, jnp.abs(jnp.linalg.det(system)), 1)
    scale = (1 + jnp.max(jnp.abs(moves)) + jnp.max(jnp.abs(point))) * (1 + size) ** 2
    return when(regular, agree(computed, moves, scale=scale))


@claim(
    "competitive/printed",
    r"In a zero-sum game competitive gradient descent is $x^+ = x - \eta(I + \eta^2 D_{xy}D_{yx})^{-1}(\nabla_xf + "
    r"\eta D_{xy}\nabla_yf)$, $y^+ = y + \eta(I + \eta^2 D_{yx}D_{xy})^{-1}(\nabla_yf - \eta D_{yx}\nabla_xf)$.",
    source=f"{SCHAEFER}, algorithm 1",
    kind="closed form",
    domain=dict(
        own=definite_matrices(-2, 2, 2),
        coupling=arrays((2, 1)),
        other=definite_matrices(-2, 2, 1),
        step=numbers(0.0625, 2),
        start=arrays((3,)),
    ),
    because="The two equations of the local game, with one move put into the other.",
)
def printed(own, coupling, other, step, start):
    x, y = players_of(start)
    along_x, along_y = own @ x + coupling @ y, coupling.T @ x - other @ y
    left = jnp.linalg.solve(jnp.eye(2) + step**2 * coupling @ coupling.T, along_x + step * coupling @ along_y)
    right = jnp.linalg.solve(jnp.eye(1) + step**2 * coupling.T @ coupling, along_y - step * coupling.T @ along_x)
    computed = flat(end(Quadratic.zero_sum(own, coupling, other), competitive(step, step), (x, y), 1))
    expected = jnp.concatenate([x - step * left, y + step * right])
    return agree(computed, expected, scale=1 + jnp.max(jnp.abs(start)) * 100)


@claim(
    "competitive/local-convergence",
    r"At a critical point with $D_{xx}f\succeq0$, $D_{yy}f\preceq0$ and invertible Hessian, competitive gradient "
    r"descent converges locally for any coupling, if $\eta\max(\|D_{xx}f\|, \|D_{yy}f\|) < 2$.",
    source=f"{SCHAEFER}, on local convergence; in this form by hand",
    kind="theorem",
    hypotheses="the step is below 2 / max(|D_xx f|, |D_yy f|); the point is convex-concave; the Hessian is invertible",
    domain=dict(
        own=definite_matrices(0, 4, 2),
        coupling=arrays((2, 1), size=16),
        other=definite_matrices(0.25, 4, 1),
        share=numbers(0.0625, 0.96875),
    ),
    because="A step is (I + hK)^-1 (I - hP) with K antisymmetric and P >= 0 the curvatures: neither factor expands, "
    "and what keeps its length in both is in the kernel of P and K.",
)
def local_convergence(own, coupling, other, share):
    matrix = saddle_matrix(own, coupling, other)
    singular = jnp.min(jnp.linalg.svd(matrix, compute_uv=False)) < 0.125
    own = own + jnp.where(singular, 0.25, 0) * jnp.eye(2)
    size = jnp.maximum(jnp.linalg.norm(own, 2), jnp.linalg.norm(other, 2))
    return _convergence(own, coupling, other, 2 * share / size)


def _convergence(own, coupling, other, step):
    computed = radius(Quadratic.zero_sum(own, coupling, other), competitive(step, step))
    return 1 - computed - 0.0001  # convergence may be slow, but not that slow


local_convergence.without(
    "larger-step",
    "the step is below 2 / max(|D_xx f|, |D_yy f|)",
    because="Without coupling it is gradient descent, whose bound this is.",
    share=numbers(1.03125, 4),
)
local_convergence.without(
    "not-convex",
    "the point is convex-concave",
    because="A player at a maximum of its own loss, whom the other one does not hold, leaves.",
    own=definite_matrices(-4, -0.25, 2),
)
local_convergence.without(
    "singular",
    "the Hessian is invertible",
    because="Along a direction that matters to nobody nothing moves.",
    check=lambda own, coupling, other, share: _convergence(own, coupling, other, share / 4),
    own=st.just(np.zeros((2, 2))),
)


def slope_bound(own, coupling, other, step, start, factor, tilt=1.0):
    """The claimed change of |grad f|^2 minus the one found, over |grad f|^2, the coupling terms times `factor`."""
    game = Quadratic.zero_sum(own, coupling, other)
    players = players_of(start, (len(own), len(other)))
    before = game.field(players)
    after = game.field(end(game, competitive(step, step), players, 1))

    def curved(matrix):
        values, vectors = jnp.linalg.eigh(matrix)
        return (vectors * (tilt * jnp.minimum(values, 3 * values))) @ vectors.T

    def coupled(block):
        square = step**2 * block @ block.T
        return factor * jnp.linalg.solve(jnp.eye(len(square)) + square, square)

    forms = (step * curved(own) + coupled(coupling), step * curved(other) + coupled(coupling.T))
    promised = sum(slope @ form @ slope for slope, form in zip(before, forms, strict=True))
    size = norm(before) ** 2
    return (size - norm(after) ** 2 - promised) / jnp.where(size > 0, size, 1) + 1e-10


RULE = (
    r"on a quadratic, with $\eta\|D_{xx}f\|, \eta\|D_{yy}f\| \le 1/18$, a step lowers $\|\nabla f\|^2$ by at least "
    r"$g_x^\top(\eta h(D_{xx}f) + \theta\bar D_x)g_x + g_y^\top(\eta h(-D_{yy}f) + \theta\bar D_y)g_y$, $h(\lambda) = "
    r"\min(\lambda, 3\lambda)$, $\bar D_x = \eta^2D_{xy}D_{yx}(I + \eta^2D_{xy}D_{yx})^{-1}$"
)
PLANE = dict(
    own=st.just(np.array([[-1.0]])),
    coupling=numbers(0.25, 2).map(lambda size: np.array([[size]])),
    other=st.just(np.array([[0.0]])),
    step=st.just(1 / 18),
    start=numbers(0.75, 1.25).map(lambda y: np.array([1.0, y])),
)


@claim(
    "competitive/decrease",
    rf"Competitive gradient descent is robust to strong coupling: {RULE}, with $\theta = 5/8$.",
    source=f"after {SCHAEFER}, section 3; the factor by numerical search",
    kind="conjecture",
    hypotheses="the curvatures are at most 1/18 over the step",
    domain=dict(
        own=definite_matrices(-1, 1, 2),
        coupling=st.one_of(arrays((2, 1), size=2), arrays((2, 1), size=64)),
        other=definite_matrices(-1, 1, 1),
        step=numbers(1 / 72, 1 / 18),
        start=arrays((3,)),
    ),
    because="Not proved. For small couplings the least factor is 0.637, reached at a curvature of -1/18 over the step.",
)
def decrease(own, coupling, other, step, start):
    return slope_bound(own, coupling, other, step, start, 5 / 8)


@claim(
    "competitive/decrease-two-thirds",
    rf"Competitive gradient descent is robust to strong coupling: {RULE}, with $\theta = 2/3$.",
    source="a bound suggested by random quadratics",
    kind="refuted",
    domain=PLANE,
    because="Where player 0 sits at a maximum and the coupling is small the factor falls to 0.637, which is rare.",
)
def decrease_two_thirds(own, coupling, other, step, start):
    return slope_bound(own, coupling, other, step, start, 2 / 3)


@claim(
    "competitive/decrease-remembered",
    rf"Competitive gradient descent is robust to strong coupling: {RULE} but for $h(\lambda) = \min(\lambda, "
    r"3\lambda)/2$, and with $\theta = 1$.",
    source=f"a form of the theorem of {SCHAEFER} (not read), without its terms for the change of the mixed "
    "derivatives, 0 on a quadratic",
    kind="refuted",
    domain=dict(
        own=definite_matrices(-1, 1, 1),
        coupling=numbers(0.25, 64).map(lambda size: np.array([[size]])),
        other=definite_matrices(-1, 1, 1),
        step=st.just(1 / 18),
        start=arrays((2,)),
    ),
    because="For a strong coupling the coupling terms alone promise nearly all of |grad f|^2, to which the curvature "
    "adds; and where a player sits at a maximum the curvature costs more than promised.",
)
def decrease_remembered(own, coupling, other, step, start):
    return slope_bound(own, coupling, other, step, start, 1.0, 0.5)


HESSIAN = several(numbers(-2, 2), 8).map(
    lambda v: np.array([[v[0], v[1], v[2]], [v[1], v[3], v[4]], [v[5], v[6], v[7]]])
)


def quadratic(matrix):
    """The general-sum game with this Hessian; player 0 has two numbers and player 1 has one."""
    parts = (slice(0, 2), slice(2, 3))
    return Quadratic([[matrix[rows, columns] for columns in parts] for rows in parts])


@claim(
    "competitive/linearisations",
    r"At an equilibrium of a game of two players with the Jacobian A of the field, and O its blocks off the diagonal: "
    r"Jacobian regularisation has $A - \gamma O^\top A$, crossing the curl $\frac12(A - A^\top)A$, Hamiltonian "
    r"gradient descent $-A^\top A$.",
    source="Nie and Patel 2019; Gemp and Mahadevan 2018; Abernethy, Lai, Wibisono 2019; derivatives by hand",
    kind="closed form",
    domain=dict(matrix=HESSIAN, weight=numbers(0, 2)),
    because="Terms with the derivative of A are multiplied by v, which is 0 there.",
)
def linearisations(matrix, weight):
    slope = -matrix
    off = slope * np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    expected = (
        (JacobianRegularisation(weight), slope - weight * off.T @ slope),
        (CrossingTheCurl(), (slope - slope.T) @ slope / 2),
        (HamiltonianDescent(), -slope.T @ slope),
    )
    game, players = quadratic(matrix), (jnp.zeros(2), jnp.zeros(1))
    return every(*(agree(jacobian(game, Flow(direction), players), value) for direction, value in expected))


@claim(
    "competitive/hamiltonian-descent",
    r"Hamiltonian gradient descent is attracted by every equilibrium with an invertible Jacobian, whatever its kind, "
    r"at the rate $\sigma_{min}^2$.",
    source="Abernethy, Lai, Wibisono, Last-Iterate Convergence Rates for Min-Max Optimization, 2019",
    kind="theorem",
    hypotheses="the Jacobian is invertible",
    domain=dict(a=signed(0.25, 2), b=numbers(-2, 2), c=numbers(-2, 2), determinant=signed(0.25, 4)),
    because="It descends on |v|^2, which has a strict minimum 0 there.",
)
def hamiltonian_descent(a, b, c, determinant):
    last = (determinant + b * c) / a
    game, matrix = Quadratic([[a, b], [c, last]]), jnp.stack([jnp.stack([a, b]), jnp.stack([c, last])])
    computed = -abscissa(game, Flow(HamiltonianDescent()), (0.0, 0.0))
    smallest = jnp.min(jnp.linalg.svd(matrix, compute_uv=False))
    return every(computed - 1e-5, agree(computed, smallest**2, scale=1 + jnp.sum(matrix**2)))


hamiltonian_descent.without(
    "singular",
    "the Jacobian is invertible",
    because="Along a line of equilibria, or where gradients cancel, nothing moves.",
    determinant=st.just(0.0),
)


@claim(
    "competitive/hamiltonian-descent-tells",
    "An equilibrium that attracts Hamiltonian gradient descent attracts the gradient flow of the game.",
    source="folklore; refuted by every unstable equilibrium",
    kind="folklore",
    holds=False,
    domain=dict(a=signed(0.25, 2), b=numbers(-2, 2), c=numbers(-2, 2), d=signed(0.25, 2)),
    because="The squared field does not know its sign: maxima, minima and saddles look the same.",
)
def hamiltonian_descent_tells(a, b, c, d):
    game = Quadratic([[a, b], [c, d]])
    attracts = abscissa(game, Flow(HamiltonianDescent()), (0.0, 0.0)) < -1e-6
    return when(attracts, -abscissa(game, Flow(), (0.0, 0.0)))


@claim(
    "competitive/crossing-the-curl",
    r"On a bilinear game steps h along crossing the curl have the real eigenvalues $1 - h\sigma^2$ and converge for "
    r"$h < 2/\sigma_{max}^2$, unlike the gradient.",
    source="Gemp and Mahadevan, Global Convergence to the Equilibrium of GANs using Variational Inequalities, 2018",
    kind="closed form",
    domain=dict(matrix=matrices_with_singular_values(0.25, 2, ((1, 1), (2, 2))), rate=numbers(0.0625, 2)),
    because="There (J' - J)F/2 = J'F is the gradient of half the squared field.",
)
def crossing_the_curl(matrix, rate):
    computed = radius(Bilinear(matrix), Simultaneous(sgd(rate), sgd(rate), direction=CrossingTheCurl()))
    return agree(computed, jnp.max(jnp.abs(1 - rate * jnp.linalg.svd(matrix, compute_uv=False) ** 2)))
