import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class Stackelberg(Direction):
    r"""Stackelberg gradient: the leader descends its loss along the follower's best response; two players.

    With l the leader and k the follower, whose best response $r$ has the slope $Dr = -(D_{kk}L_k)^{-1}D_{kl}L_k$:
    $d_l = -\big(\nabla_l L_l - (D_{kl}L_k)^\top(D_{kk}L_k)^{-1}\nabla_k L_l\big)$, $d_k = -\nabla_k L_k$. In a zero-sum
    game the Jacobian at an equilibrium is block-triangular with the blocks $-S$,
    $S = D_{ll}L_l - D_{lk}L_l(D_{kk}L_k)^{-1}D_{kl}L_k$, and $-D_{kk}L_k$: a real spectrum, stable iff the point is a
    strict local minimax point (a differential Stackelberg equilibrium). In a general-sum game the points of rest are
    Stackelberg points, not equilibria of the game.
    Source: Fiez, Chasnov, Ratliff, Implicit Learning Dynamics in Stackelberg Games, 2020, proposition 1.

    The theory wants $D_{kk}L_k$ to have an inverse. Where it has none, its pseudo-inverse takes its place: the follower
    is taken to stand still along directions in which its loss is not curved, and in a bilinear game the direction is
    the plain gradient. Near points where an eigenvalue of $D_{kk}L_k$ passes through zero the direction is unbounded.

    Args:
        leader: 0 or 1, the number of the player that leads.
        regularisation: added to the diagonal of $D_{kk}L_k$, >= 0; bounds the slope where that is positive definite.
        solver: "iterative", by products with second derivatives (LSMR), or "dense", by singular values of $D_{kk}L_k$.
        max_steps: bound on the iterations; `None`: ten per parameter of the follower.

    Raises:
        ValueError: an unknown leader or solver, a negative regularisation; when called, not two players.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import PlanarQuadratic
    >>> game = PlanarQuadratic(0.5, 2.0, 0.4)  # f = x^2/4 + 2xy - y^2/5, whose maximum over y is 21/4 x^2
    >>> [round(float(d), 6) for d in Stackelberg()(game, (jnp.asarray(1.0), jnp.asarray(4.0)))]
    [-10.5, 0.4]
    """

    leader: int = eqx.field(static=True, default=0)
    regularisation: Array = eqx.field(converter=as_leaf, default=0.0)
    solver: str = eqx.field(static=True, default="iterative")
    max_steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _blocks.check_leader(self)
        check_number(self, "regularisation", minimum=0)
        _blocks.check_solver(self)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        _blocks.check_two_players(self, players)
        leader, follower = self.leader, 1 - self.leader
        field = game.field(players, key)
        curvature = _blocks.block(game, players, follower, follower, key)
        mixed = _blocks.transpose(_blocks.block(game, players, follower, leader, key), players[leader])

        def system(tangent: PyTree) -> PyTree:
            return _trees.add_scaled(curvature(tangent), self.regularisation, tangent)

        right_side = _blocks.loss_gradient(game, players, leader, key)[follower]
        response = _blocks.solve(system, right_side, self.solver, self.max_steps, symmetric=True)
        directions = _trees.add_scaled(field[leader], 1, mixed(response)), field[follower]
        return directions if leader == 0 else directions[::-1]
