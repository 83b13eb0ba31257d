"""Symplectic adjustment and consensus: what they add to the gradient, and which points they attract."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from dynamics.checks.measures import abscissa, agree, below, end, every, norm, radius, same_sign, when
from dynamics.claims.base import claim
from dynamics.directions import Consensus, Gradient, SymplecticAdjustment
from dynamics.flows import Flow
from dynamics.game import Game
from dynamics.games import Quadratic
from dynamics.optimisers import sgd
from dynamics.strategies import arrays, definite_matrices, numbers, several, signed
from dynamics.updates import Simultaneous

SGA = "Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018"
MECHANICS = "Letcher et al., Differentiable Game Mechanics, 2019"

# Losses u + u^2/2 + t^3/6, u = p . z and t = w . z, of all players' numbers z: general-sum, and not quadratic. One row
# p and one row w per player.
FORMS = arrays((2, 2, 3), size=2)
POINT = arrays((3,), size=2)
SIZES = (2, 1)


def cubic_loss(form, z):
    """One player's loss."""
    u, t = form @ z
    return u + u**2 / 2 + t**3 / 6


def _cubic_losses(forms, players, key=None):
    z = jnp.concatenate([jnp.ravel(player) for player in players])
    return tuple(cubic_loss(form, z) for form in forms)


def cubic_game(forms) -> Game:
    """The game of these losses; its players share out the numbers in their order."""
    return Game.from_losses(jax.tree_util.Partial(_cubic_losses, forms))


def players_of(z, sizes: Sequence[int] = SIZES):
    """A point as a tuple of players of these sizes."""
    return tuple(jnp.split(z, np.cumsum(sizes)[:-1]))


def gradients_by_player(losses, sizes: Sequence[int] = SIZES):
    """The function z -> all players' gradients of their own losses, from functions of z."""
    owner = np.repeat(np.arange(len(sizes)), sizes)

    def gradients(z):
        return jnp.stack([jax.grad(loss)(z) for loss in losses])[owner, np.arange(len(owner))]

    return gradients


def cubic_gradients(forms, sizes: Sequence[int] = SIZES):
    """`gradients_by_player` of a cubic game."""
    return gradients_by_player([lambda z, form=form: cubic_loss(form, z) for form in forms], sizes)


def flat(players):
    """All numbers of a tuple of players."""
    return ravel_pytree(players)[0]


def general_sum(symmetric, twist):
    """The quadratic game with Hessian S + A, A with the blocks B and -B'; B has a row per number of player 0."""
    rows, columns = jnp.shape(twist)
    matrix = symmetric + jnp.block([[jnp.zeros((rows, rows)), twist], [-twist.T, jnp.zeros((columns, columns))]])
    parts = (slice(0, rows), slice(rows, None))
    return Quadratic([[matrix[part, other] for other in parts] for part in parts]), matrix


@claim(
    "adjustment/formula",
    r"With $\xi$ the players' gradients and $H = D\xi = S + A$ its symmetric and antisymmetric part, "
    r"symplectic gradient adjustment moves along $-(\xi + \lambda A^\top\xi)$ with "
    r"$A^\top\xi = \frac12(H^\top\xi - H\xi)$.",
    source=f"{SGA}, algorithm 1",
    kind="closed form",
    domain=dict(forms=FORMS, point=POINT, weight=numbers(0, 4)),
    because="The definition, with H from derivatives of every loss on its own.",
)
def formula(forms, point, weight):
    gradients = cubic_gradients(forms)
    xi, hessian = gradients(point), jax.jacfwd(gradients)(point)
    symmetric, antisymmetric = (hessian + hessian.T) / 2, (hessian - hessian.T) / 2
    game, players = cubic_game(forms), players_of(point)
    computed = flat(SymplecticAdjustment(weight, align=False)(game, players))
    scale = 1 + jnp.max(jnp.abs(hessian)) * jnp.max(jnp.abs(xi)) * (1 + weight)
    return every(
        agree(computed, -(xi + weight * antisymmetric.T @ xi), scale=scale),
        agree(computed - flat(Gradient()(game, players)), -weight / 2 * (hessian.T @ xi - hessian @ xi), scale=scale),
        agree(symmetric + antisymmetric, hessian, scale=scale),
    )


@claim(
    "adjustment/other-norm",
    r"In a two-player zero-sum game the adjustment is the gradient of the squared norm of the other's gradient, "
    r"$A^\top\xi = (\nabla_x\frac12\|\nabla_y f\|^2, \nabla_y\frac12\|\nabla_x f\|^2)$.",
    source=f"{SGA}; as a penalty: Rosca et al., Discretization Drift in Two-Player Games, 2021",
    kind="theorem",
    hypotheses="the game is zero-sum",
    domain=dict(forms=FORMS, point=POINT, weight=numbers(0, 4), departure=st.just(0.0)),
    because="Then the mixed blocks of H are transposes of each other with opposite signs, and A holds nothing else.",
)
def other_norm(forms, point, weight, departure):
    def losses(players, key=None):
        z = jnp.concatenate(players)
        value = cubic_loss(forms[0], z)
        return value, -value + departure * cubic_loss(forms[1], z)

    def half_square(x, y, player):
        own_loss = (lambda own: losses((own, y))[0]) if player == 0 else (lambda own: losses((x, own))[1])
        return jnp.sum(jax.grad(own_loss)((x, y)[player]) ** 2) / 2

    game, (x, y) = Game.from_losses(losses), players_of(point)
    expected = jnp.concatenate([jax.grad(half_square, 0)(x, y, 1), jax.grad(half_square, 1)(x, y, 0)])
    computed = flat(SymplecticAdjustment(weight, align=False)(game, (x, y))) - flat(Gradient()(game, (x, y)))
    return agree(computed, -weight * expected, scale=(1 + weight) * (1 + jnp.max(jnp.abs(expected))))


other_norm.without(
    "general-sum",
    "the game is zero-sum",
    because="With losses of their own the players' mixed derivatives have a symmetric part, which the penalty counts.",
    departure=st.just(1.0),
)


@claim(
    "adjustment/one-step",
    r"For $L_0 = \frac a2x^2 + bxy$, $L_1 = \frac a2y^2 - bxy$ gradient descent is stable if and only if "
    r"$h < 2a/(a^2+b^2)$; adjusted by $\lambda = 1/a$ with $h = a/(a^2+b^2)$ it is at the equilibrium after one step.",
    source=f"{MECHANICS}, section 4.1: a = 1, b = 10, hence 2/101 and 1/101",
    kind="closed form",
    domain=dict(a=numbers(0.25, 4), b=numbers(-16, 16), rate=numbers(0.0078125, 1), start=arrays((2,))),
    because="H has the eigenvalues a +- ib, and (I + A'/a)H = (a + b^2/a) I.",
)
def one_step(a, b, rate, start):
    game = Quadratic([[a, b], [-b, a]])
    plain = radius(game, Simultaneous(sgd(rate), sgd(rate)))
    step = a / (a**2 + b**2)
    update = Simultaneous(sgd(step), sgd(step), direction=SymplecticAdjustment(1 / a, align=False))
    arrived = end(game, update, (start[0], start[1]), 1)
    return every(
        agree(plain**2, (1 - a * rate) ** 2 + (b * rate) ** 2),
        same_sign(2 * step - rate, 1 - plain),
        agree(jnp.stack(arrived), jnp.zeros(2), scale=1 + jnp.max(jnp.abs(start))),
    )


FIGURE = st.sampled_from([0.01, 0.032, 0.1])


@claim(
    "adjustment/figure-rates",
    "On the same game with a = 1, b = 10, at the rates 0.01, 0.032 and 0.1 of the paper's figure, adjustment by "
    "lambda = 1 is stable at each where gradient descent is, and faster than it.",
    source=f"{MECHANICS}, figure 4, which does not state lambda",
    kind="refuted",
    domain=dict(rate=FIGURE, weight=st.just(1.0)),
    because="With lambda = 1 a step multiplies by |1 - 101 h|: 0.01, 2.23 and 9.1, gradient descent by 0.995, 1.020 "
    "and 1.345. The figure fits lambda = 0.1.",
)
def figure_rates(rate, weight):
    game = Quadratic([[1.0, 10.0], [-10.0, 1.0]])
    update = Simultaneous(sgd(rate), sgd(rate), direction=SymplecticAdjustment(weight, align=False))
    return radius(game, Simultaneous(sgd(rate), sgd(rate))) - radius(game, update)


@claim(
    "adjustment/figure-weight",
    "On the same game adjustment by lambda = 0.1 converges at all three rates, faster than gradient descent, with the "
    "factors 0.895, 0.709 and 0.906 per step.",
    source=f"a weight that fits {MECHANICS}, figure 4",
    kind="closed form",
    domain=dict(rate=FIGURE, weight=st.just(0.1)),
    because="The eigenvalues are 1 - h (a + lambda b^2 +- i b (1 - lambda a)) = 1 - h (11 +- 9i).",
)
def figure_weight(rate, weight):
    game = Quadratic([[1.0, 10.0], [-10.0, 1.0]])
    update = Simultaneous(sgd(rate), sgd(rate), direction=SymplecticAdjustment(weight, align=False))
    printed = jnp.where(rate < 0.02, 0.895, jnp.where(rate < 0.05, 0.709, 0.906))
    return every(agree(radius(game, update), printed, 0.0005, 1), figure_rates.check(rate, weight))


@claim(
    "adjustment/stable-points-attract",
    r"A stable fixed point ($S\succeq0$, H invertible) attracts adjusted gradients with any $\lambda\in(0, 4/\kappa)$, "
    r"$\kappa = \lambda_{max}(S) - \lambda_{min}(S)$.",
    source=f"{MECHANICS}, theorem 10",
    kind="theorem",
    hypotheses="S is positive semidefinite; H is invertible; the weight is below 4 / kappa",
    domain=dict(
        symmetric=definite_matrices(0, 4, 3),
        twist=arrays((2, 1)),
        share=numbers(0.0625, 0.96875),
    ),
    because="Half the squared gradient decreases, along the flow by x'Sx + lambda (|Ax|^2 - (Ax)'Sx) > 0.",
)
def stable_points_attract(symmetric, twist, share):
    _, matrix = general_sum(symmetric, twist)
    singular = jnp.min(jnp.linalg.svd(matrix, compute_uv=False)) < 0.125
    symmetric = symmetric + jnp.where(singular, 0.25, 0) * jnp.eye(len(symmetric))
    values = jnp.linalg.eigvalsh(symmetric)
    weight = share * 4 / jnp.maximum(values[-1] - values[0], 0.5)
    return _decay(general_sum(symmetric, twist)[0], weight)


def _decay(game, weight):
    # The slowest of these games contracts by some hundredths.
    return -abscissa(game, Flow(SymplecticAdjustment(weight, align=False))) - 0.001


UNEQUAL = np.diag([1.0, 1, 0, 1]) + np.eye(4)[[0, 3, 2, 1]] * np.array([0, 1, 0, 1])


def _singular_decay(symmetric, twist, share):
    return _decay(general_sum(symmetric, twist)[0], share)


stable_points_attract.without(
    "large-weight",
    "the weight is below 4 / kappa",
    because="The adjustment by unequal curvatures, lambda A'S, may outweigh the rest. With three numbers no example is "
    "known; here players have two each and S = k x_1^2 + k (x_2 + y_2)^2, as a matrix.",
    symmetric=numbers(4, 32).map(lambda size: size * UNEQUAL),
    twist=several(numbers(0.5, 1.5), 3).map(lambda sizes: np.asarray([[sizes[0], 0.0], sizes[1:]])),
    share=numbers(16, 64),
)
stable_points_attract.without(
    "unstable",
    "S is positive semidefinite",
    because="A maximum of a potential (A = 0) is not adjusted at all.",
    symmetric=definite_matrices(-4, -0.25, 3),
)
stable_points_attract.without(
    "singular",
    "H is invertible",
    because="Where nobody's gradient changes nothing is adjusted either.",
    check=_singular_decay,
    symmetric=definite_matrices(0, 4, 2).map(lambda matrix: np.pad(matrix, (0, 1))),
    twist=st.just(np.zeros((2, 1))),
)


@claim(
    "adjustment/negative-determinant",
    r"A fixed point with $\det H < 0$, a saddle of the flow, repels adjusted gradients of every weight $\lambda\ge0$.",
    source=f"by hand; for small weights {MECHANICS}, theorem 17 (strict saddles are avoided)",
    kind="theorem",
    hypotheses="the determinant of H is negative",
    domain=dict(
        a=signed(0.25, 2), b=numbers(-2, 2), c=numbers(-2, 2), determinant=numbers(-4, -0.25), weight=numbers(0, 8)
    ),
    because="det(I + lambda A') >= 1 for antisymmetric A: the adjusted matrix has a negative determinant as well, "
    "hence an eigenvalue of the wrong sign.",
)
def negative_determinant(a, b, c, determinant, weight):
    game = Quadratic([[a, b], [c, (determinant + b * c) / a]])
    left = abscissa(game, Flow()) > 1e-6
    return when(left, abscissa(game, Flow(SymplecticAdjustment(weight, align=False))))


negative_determinant.without(
    "positive-determinant",
    "the determinant of H is negative",
    because="An unstable spiral becomes stable: where S is negative but A is large, the adjustment overrules S.",
    determinant=numbers(0.25, 4),
)


@claim(
    "adjustment/alignment",
    r"With the sign chosen by alignment the adjusted direction changes $\frac12\|\xi\|^2$ in the same sense as the "
    r"gradient does, and at least as much: downhill towards stable, uphill away from unstable points.",
    source=f"{SGA}, lemma on the sign of lambda; {MECHANICS}, section 3.5",
    kind="theorem",
    hypotheses="the sign is chosen by alignment; nothing is added in the sign",
    domain=dict(forms=FORMS, point=POINT, weight=numbers(0, 4), align=st.just(True), offset=st.just(0.0)),
    because="lambda is given the sign that makes its contribution agree with that of the gradient.",
)
def alignment(forms, point, weight, align, offset):
    gradients = cubic_gradients(forms)
    xi = gradients(point)
    uphill = jax.jacfwd(gradients)(point).T @ xi
    adjusted = SymplecticAdjustment(weight, align=align, epsilon=offset)(cubic_game(forms), players_of(point))
    plain = xi @ uphill
    scale = 1 + jnp.linalg.norm(xi) * jnp.linalg.norm(uphill) + jnp.linalg.norm(uphill) ** 2 * (1 + weight)
    return below(jnp.abs(plain) / scale, -jnp.sign(plain) * (flat(adjusted) @ uphill) / scale)


alignment.without(
    "no-alignment",
    "the sign is chosen by alignment",
    because="With a positive weight the adjustment pulls downhill also near unstable points.",
    align=st.just(False),
)
alignment.without(
    "offset",
    "nothing is added in the sign",
    because="The paper's 1/10 in the sign makes it positive wherever the gradients are small, whatever the point.",
    forms=arrays((2, 2, 3), size=1),
    point=arrays((3,), size=1),
    offset=st.just(0.1),
)


@claim(
    "adjustment/maxima-repel",
    r"Where S is negative definite, a step of the aligned adjustment, of whatever size and weight, makes the gradients "
    r"larger: the point repels.",
    source=f"{MECHANICS}, section 3.5; the bound by hand",
    kind="theorem",
    hypotheses="nothing is added in the sign",
    domain=dict(
        symmetric=definite_matrices(-4, -0.25, 3),
        twist=arrays((2, 1)),
        weight=numbers(0, 4),
        rate=numbers(0.0625, 1),
        start=arrays((3,), size=2).filter(lambda start: np.abs(start).max() > 0.125),
        offset=st.just(0.0),
    ),
    because="The gradients are linear there, and both the gradient and the adjustment point uphill on their norm.",
)
def maxima_repel(symmetric, twist, weight, rate, start, offset):
    game, _ = general_sum(symmetric, twist)
    direction = SymplecticAdjustment(weight, epsilon=offset)
    players = players_of(start)
    after = end(game, Simultaneous(sgd(rate), sgd(rate), direction=direction), players, 1)
    before = norm(game.field(players))
    return norm(game.field(after)) / before - 1


maxima_repel.without(
    "offset",
    "nothing is added in the sign",
    because="Close to the point, where the alignment is less than the paper's 1/10, the weight stays positive, and "
    "with lambda |A|^2 > |S| the point attracts.",
    symmetric=definite_matrices(-1, -0.25, 3),
    twist=signed(1, 3).map(lambda size: np.asarray([[0.0], [size]])),
    weight=numbers(2, 4),
    rate=numbers(0.015625, 0.03125),
    start=numbers(0.015625, 0.03125).map(lambda size: np.asarray([0.0, 0.0, size])),
    offset=st.just(0.1),
)


@claim(
    "adjustment/consensus-example",
    r"For $L_0 = -\frac\epsilon2x^2 - bxy$, $L_1 = -\frac\epsilon2y^2 + bxy$ with $\epsilon > 0$ consensus "
    r"optimisation is attracted by the unstable point 0 if and only if $\gamma(\epsilon^2 + b^2) > \epsilon$.",
    source=f"{MECHANICS}, example 9 (b = 1, where $\\gamma > \\epsilon$ is sufficient); the bound by hand",
    kind="closed form",
    domain=dict(curvature=numbers(0.0625, 2), b=signed(0.25, 2), weight=numbers(0, 2)),
    because="The eigenvalues are epsilon - gamma (epsilon^2 + b^2) +- ib.",
)
def consensus_example(curvature, b, weight):
    game = Quadratic([[-curvature, -b], [b, -curvature]])
    computed = abscissa(game, Flow(Consensus(weight)))
    expected = curvature - weight * (curvature**2 + b**2)
    return every(agree(computed, expected), same_sign(expected, computed))


@claim(
    "adjustment/consensus-keeps-away",
    "Consensus optimisation converges to stable equilibria of the game only.",
    source=f"refuted in {MECHANICS}, examples 8 and 9",
    kind="refuted",
    domain=dict(curvature=numbers(0.125, 2), b=numbers(-2, 2), weight=numbers(0, 2)),
    because="It descends on |v|^2, for which every zero of v is a minimum; with a large weight nothing else counts.",
)
def consensus_keeps_away(curvature, b, weight):
    return abscissa(Quadratic([[-curvature, -b], [b, -curvature]]), Flow(Consensus(weight)))


@claim(
    "adjustment/potential-games",
    r"At a maximum of a potential game with curvatures at most $-\kappa$ the adjustment is 0, so that the point "
    r"repels, whereas consensus optimisation is attracted by it if $\gamma > 1/\kappa$.",
    source=f"{MECHANICS}, example 8 with kappa the smallest curvature",
    kind="theorem",
    hypotheses="the weight of consensus is above 1 / kappa",
    domain=dict(symmetric=definite_matrices(-4, -0.25, 3), share=numbers(1.03125, 4), start=POINT),
    because="The potential has a symmetric Hessian, A = 0; consensus has the eigenvalues k - gamma k^2, k >= kappa.",
)
def potential_games(symmetric, share, start):
    game, _ = general_sum(symmetric, jnp.zeros((2, 1)))
    smallest = -jnp.max(jnp.linalg.eigvalsh(symmetric))
    players = players_of(start)
    adjusted, plain = (flat(one(game, players)) for one in (SymplecticAdjustment(share), Gradient()))
    left = abscissa(game, Flow(SymplecticAdjustment(share)))
    return every(agree(adjusted, plain), left, -abscissa(game, Flow(Consensus(share / smallest))))


potential_games.without(
    "small-weight",
    "the weight of consensus is above 1 / kappa",
    because="Below 1/kappa consensus leaves the maximum as well.",
    share=numbers(0.0625, 0.96875),
)
