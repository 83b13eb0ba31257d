"""What the landscape around the end of a run shows: path angles, symmetry of the Jacobian, conserved quantities."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from dynamics.checks.measures import (
    abscissa,
    agree,
    below,
    eigenvalues,
    every,
    field_jacobian,
    when,
)
from dynamics.claims.base import claim
from dynamics.claims.library.drift import ridges, split
from dynamics.flows import Flow
from dynamics.game import Game, as_players
from dynamics.games import Bilinear, Quadratic
from dynamics.strategies import arrays, definite_matrices, numbers, several
from dynamics.updates.base import State

BERARD = "Berard, Gidel, Almahairi, Vincent, Lacoste-Julien, A Closer Look at the Optimization Landscapes of GANs, 2020"
BALDUZZI = "Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018"
POINT = arrays((3,))
RATES = several(numbers(0.25, 4), 2).map(np.asarray)
COUPLING = arrays((2, 1), (2, 2))  # the second player has one number, or two
SAME = arrays((2, 3), size=2).map(lambda loss: np.stack([loss, loss]))
UNRELATED = arrays((2, 2, 3), size=2)


def with_symmetric_blocks(matrix):
    """A matrix of three rows with the blocks of two players, of two numbers and one, made symmetric."""
    return matrix.at[:2, :2].set((matrix[:2, :2] + matrix[:2, :2].T) / 2)


def linear_game(matrix, rest):
    """The quadratic game whose field is -H (z - rest), for players of two numbers and one."""
    blocks = [[matrix[:2, :2], matrix[:2, 2:]], [matrix[2:, :2], matrix[2:, 2:]]]
    offset = -matrix @ rest
    return Quadratic(blocks, [offset[:2], offset[2:]])


def field_along(game, start, end, share):
    """The game's field at (1 - share) start + share end, as three numbers."""
    z = (1 - share) * start + share * end
    return ravel_pytree(game.field((z[:2], z[2:])))[0]


@claim(
    "landscape/path-angle",
    r"On the way d from a start to the equilibrium of a linear field $-H(z - z^*)$ the path angle is constant but for "
    r"its sign, $c(\alpha) = \mathrm{sign}(1 - \alpha)\, d^\top H d/(\|d\|\|Hd\|)$.",
    source=f"{BERARD}, section 4; by hand",
    kind="closed form",
    hypotheses="the way ends at the equilibrium",
    domain=dict(matrix=arrays((3, 3)), start=POINT, off=numbers(0, 0), share=numbers(-0.125, 1.125)),
    because=r"There v = (1 - alpha) H d.",
)
def path_angle_of_linear_field(matrix, start, off, share):
    end = jnp.asarray([1.0, -1.0, 0.5])
    matrix, way = with_symmetric_blocks(matrix), end - start
    game = linear_game(matrix, end + off)
    field = field_along(game, start, end, share)
    # Both sides of the formula times the norms, which may vanish.
    scale = 1 + jnp.sum(jnp.abs(matrix)) * (1 + way @ way)
    return every(
        agree(way @ field, (1 - share) * way @ matrix @ way, 1e-10, scale),
        agree(jnp.linalg.norm(field), jnp.abs(1 - share) * jnp.linalg.norm(matrix @ way), 1e-10, scale),
    )


path_angle_of_linear_field.without(
    "other-end",
    "the way ends at the equilibrium",
    because="Beside the equilibrium the angle turns along the way, which is the bump that is read as rotation.",
    off=numbers(0.5, 1),
)


@claim(
    "landscape/no-sign-change",
    "In a bilinear game the path angle has one sign all the way, whatever start and end: it cannot show an attracting "
    "end.",
    source=f"{BERARD}, section 4; by hand",
    kind="theorem",
    hypotheses="no player has a term of its own",
    domain=dict(coupling=arrays((2, 1)), own=numbers(0, 0), start=POINT, end=POINT, share=numbers(-2, 2)),
    because="The projection of the field on the way changes by minus the way times S times the way, where S = 0.",
)
def no_sign_change(coupling, own, start, end, share):
    matrix = jnp.block([[own * jnp.eye(2), coupling], [-coupling.T, own * jnp.eye(1)]])
    game, way = linear_game(matrix, jnp.zeros(3)), end - start
    here, there = (way @ field_along(game, start, end, at) for at in (0.0, share))
    return agree(there, here, 1e-10, 1 + jnp.sum(jnp.abs(matrix)) * (1 + way @ way + start @ start))


no_sign_change.without(
    "own-terms",
    "no player has a term of its own",
    because="With convex terms of its own for each player the projection falls along the way and changes sign.",
    own=numbers(0.5, 1),
)


@claim(
    "landscape/bump-means-rotation",
    "A bump in the path angle shows rotation: in a potential game, at a minimum of the potential, the angle falls all "
    "the way to an end nearby.",
    source=f"a reading of {BERARD}, section 4",
    kind="refuted",
    domain=dict(values=several(numbers(1, 4), 2).map(np.asarray), end=arrays((2,), size=1)),
    because="With unequal curvatures the field of a potential turns along the way as well, if the run stops early.",
)
def bump_means_rotation(values, end):
    game, start = Quadratic(jnp.diag(values)), jnp.asarray([4.0, 4.0])
    shares, way = jnp.linspace(0, 1, 21), end - start

    def angle(share):
        z = start + share * way
        field = ravel_pytree(game.field((z[0], z[1])))[0]
        return way @ field / (jnp.linalg.norm(way) * jnp.linalg.norm(field))

    angles = jax.vmap(angle)(shares)
    return when(jnp.linalg.norm(end) > 0.1, jnp.min(angles[:-1] - angles[1:]) + 1e-3)


@claim(
    "landscape/sign-change-means-attraction",
    "A path angle that changes from + to - at the end of the way shows that the end attracts.",
    source=f"a reading of {BERARD}, section 4",
    kind="refuted",
    domain=dict(matrix=arrays((2, 2), size=2), start=arrays((2,), size=2)),
    because="It shows one direction only: that field draws along the way and repels across it.",
)
def sign_change_means_attraction(matrix, start):
    game = Quadratic(matrix)

    def angle(share):
        z = (1 - share) * start
        return -start @ ravel_pytree(game.field((z[0], z[1])))[0]

    return when((angle(0.5) > 0.1) & (angle(1.5) < -0.1), -abscissa(game, Flow()) + 1e-6)


def weighted(losses, signs, players, key=None):
    """One ridge loss per player, times its sign."""
    z = ravel_pytree(players)[0]
    return signs[0] * ridges(losses[0], z), signs[1] * ridges(losses[1], z)


def ridge_game(losses, *signs):
    """The game of these losses."""
    return Game.from_losses(Partial(weighted, losses, jnp.asarray(signs)))


@claim(
    "landscape/potential-games",
    "In a potential game, where all players have one loss, the flow has real eigenvalues at every point, also with a "
    "rate for each player.",
    source=f"{BALDUZZI}, section 2; with rates by hand",
    kind="theorem",
    hypotheses="all players have the same loss",
    domain=dict(losses=SAME, point=POINT, rates=RATES),
    because="The Jacobian is a symmetric matrix times the positive diagonal matrix of the rates.",
)
def potential_games(losses, point, rates):
    computed = eigenvalues(ridge_game(losses, 1.0, 1.0), Flow(rates=tuple(rates)), split(point))
    return 1 - jnp.max(jnp.abs(computed.imag)) / (1e-6 * (1 + jnp.max(jnp.abs(computed))))


potential_games.without(
    "other-losses",
    "all players have the same loss",
    because="With opposite interests the players turn around each other.",
    losses=UNRELATED,
)


@claim(
    "landscape/zero-sum-games",
    "In a zero-sum game the coupling blocks of the field's Jacobian are, at every point, minus the transposes of each "
    "other.",
    source=f"{BALDUZZI}, section 2",
    kind="theorem",
    hypotheses="the losses add up to zero",
    domain=dict(losses=SAME, point=POINT),
    because="They are - D_12 L and D_21 L for one loss L, and mixed derivatives do not depend on the order.",
)
def zero_sum_games(losses, point):
    matrix = field_jacobian(ridge_game(losses, 1.0, -1.0), split(point))
    return agree(matrix[2:, :2], -matrix[:2, 2:].T, 1e-10)


zero_sum_games.without(
    "general-sum",
    "the losses add up to zero",
    because="Each player's interest in the other is a loss of its own.",
    losses=UNRELATED,
)


@claim(
    "landscape/rotations",
    "In a zero-sum game without terms of one player alone all eigenvalues of the flow are imaginary, whatever the "
    "players' rates: it turns for ever.",
    source=f"{BALDUZZI}, section 2 on Hamiltonian games; with rates by hand",
    kind="theorem",
    hypotheses="no player has a term of its own",
    domain=dict(coupling=COUPLING, own=numbers(0, 0), rates=RATES),
    because="Scaled by the roots of the rates the Jacobian is antisymmetric.",
)
def rotations(coupling, own, rates):
    rows, columns = coupling.shape
    game = Quadratic.zero_sum(own * jnp.eye(rows), coupling, own * jnp.eye(columns))
    computed = eigenvalues(game, Flow(rates=tuple(rates)))
    return 1 - jnp.max(jnp.abs(computed.real)) / (1e-6 * (1 + jnp.max(jnp.abs(computed))))


rotations.without(
    "own-terms",
    "no player has a term of its own",
    because="Convex terms of its own for each player damp the rotation.",
    own=numbers(0.5, 1),
)


def change_along(game, flow, point, function):
    """The derivative of a function of the players along a flow."""
    tangent = flow.field(game, jnp.zeros(()), State(point, ())).players
    return jax.jvp(function, (point,), (tangent,))[1]


def half_square(game):
    """Half the squared norm of the field, as a function of the players."""
    return lambda players: sum(jnp.sum(leaf**2) for leaf in game.field(players)) / 2


@claim(
    "landscape/conserved",
    r"In a bilinear game the flow conserves $\frac12\|v\|^2$, and with the rates $r_i$ it conserves "
    r"$\frac12\sum_i r_i\|v_i\|^2$.",
    source=f"{BALDUZZI}, on Hamiltonian games; with rates by hand",
    kind="theorem",
    hypotheses="the norm has the weights of the rates",
    domain=dict(coupling=COUPLING, rates=RATES, point=arrays((2,)), power=numbers(1, 1)),
    because="Its derivative is v R S R v for the matrix R of the rates, and the symmetric part S vanishes.",
)
def conserved(coupling, rates, point, power):
    game, (_, columns) = Bilinear(coupling), coupling.shape
    players = as_players((point, 2 * point[:columns] + 1))

    def energy(players):
        return sum(rate**power * jnp.sum(leaf**2) for rate, leaf in zip(rates, game.field(players), strict=True)) / 2

    change = change_along(game, Flow(rates=tuple(rates)), players, energy)
    return agree(change, 0, 1e-10, 1 + energy(players) * (1 + jnp.sum(jnp.abs(coupling))))


conserved.without(
    "plain-norm",
    "the norm has the weights of the rates",
    because="With unequal rates the flow turns on ellipses on which the plain norm rises and falls.",
    power=numbers(0, 0),
)


@claim(
    "landscape/norm-of-the-field",
    "In a zero-sum game that is convex for player 0 and concave for player 1 the norm of the field never rises along "
    "the flow.",
    source="by hand; the condition is that the field is monotone",
    kind="theorem",
    hypotheses="one rate for both players",
    domain=dict(
        own=definite_matrices(0, 4, 2),
        other=numbers(0, 4),
        coupling=arrays((2,)),
        point=POINT,
        rate=numbers(1, 1),
    ),
    because="Its square changes at twice the symmetric part of the Jacobian between v and v, which is not positive.",
)
def norm_of_the_field(own, other, coupling, point, rate):
    game = Quadratic.zero_sum(own, coupling[:, None], other[None, None])
    change = change_along(game, Flow(rates=(1.0, rate)), split(point), half_square(game))
    return below(change, 0, 1e-8)


norm_of_the_field.without(
    "other-rates",
    "one rate for both players",
    because="The Jacobian of the flow is no longer monotone in the plain norm, though the point stays stable.",
    rate=numbers(2, 4),
)
