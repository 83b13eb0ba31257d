import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class FollowTheRidge(Direction):
    r"""Follow the ridge: the follower also makes up for the leader's move, to stay on its ridge; two players.

    With l the leader and k the follower: $d_l = -\nabla_l L_l$, $d_k = -\nabla_k L_k -
    \rho\,(D_{kk}L_k)^{-1}D_{kl}L_k\, d_l$. The ratio $\rho = \eta_l/\eta_k$ of the steps makes the second term worth
    exactly the leader's move, $-(D_{kk}L_k)^{-1}D_{kl}L_k\,(\eta_l d_l)$; for $L_0 = f = -L_1$ this is $y^+ = y +
    \eta_y\nabla_y f + \eta_x(D_{yy}f)^{-1}D_{yx}f\,\nabla_x f$. The points of rest are the equilibria of the game. In
    coordinates along the ridge the Jacobian of simultaneous steps is block-triangular, with the spectra of
    $I - \eta_l S$, $S = D_{ll}L_l - D_{lk}L_l(D_{kk}L_k)^{-1}D_{kl}L_k$, and of $I - \eta_k D_{kk}L_k$: in a zero-sum
    game they are real, and for small steps stable iff the point is a strict local minimax point.
    Source: Wang, Zhang, Ba, On Solving Minimax Optimization Locally: A Follow-the-Ridge Approach, 2020, algorithm 1;
    general-sum form by the follower's best response.

    All this holds for plain gradient steps: an optimiser with memory moves the leader by something else than
    $\eta_l d_l$. Where $D_{kk}L_k$ has no inverse, its pseudo-inverse takes its place: no correction along directions
    in which the follower's loss is not curved, and in a bilinear game the direction is the plain gradient. Near points
    where an eigenvalue of $D_{kk}L_k$ passes through zero the direction is unbounded.

    Args:
        ratio: rho, the leader's step over the follower's, >= 0.
        leader: 0 or 1, the number of the player that leads.
        regularisation: added to the diagonal of $D_{kk}L_k$, >= 0; bounds the correction where the follower's loss is
            convex, at the price of the statement on the spectrum.
        solver: "iterative", by products with second derivatives (LSMR), or "dense", by singular values of $D_{kk}L_k$.
        max_steps: bound on the iterations; `None`: ten per parameter of the follower.

    Raises:
        ValueError: a number is out of its bounds, an unknown leader or solver; when called, not two players.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import PlanarQuadratic
    >>> game = PlanarQuadratic(0.5, 2.0, 0.4)  # f = x^2/4 + 2xy - y^2/5, with the ridge y = 5x
    >>> [round(float(d), 6) for d in FollowTheRidge()(game, (jnp.asarray(1.0), jnp.asarray(5.0)))]
    [-10.5, -52.5]
    """

    ratio: Array = eqx.field(converter=as_leaf, default=1.0)
    leader: int = eqx.field(static=True, default=0)
    regularisation: Array = eqx.field(converter=as_leaf, default=0.0)
    solver: str = eqx.field(static=True, default="iterative")
    max_steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_number(self, "ratio", minimum=0)
        _blocks.check_leader(self)
        check_number(self, "regularisation", minimum=0)
        _blocks.check_solver(self)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        _blocks.check_two_players(self, players)
        leader, follower = self.leader, 1 - self.leader
        field = game.field(players, key)
        curvature = _blocks.block(game, players, follower, follower, key)
        mixed = _blocks.block(game, players, follower, leader, key)

        def system(tangent: PyTree) -> PyTree:
            return _trees.add_scaled(curvature(tangent), self.regularisation, tangent)

        correction = _blocks.solve(system, mixed(field[leader]), self.solver, self.max_steps, symmetric=True)
        directions = field[leader], _trees.add_scaled(field[follower], -self.ratio, correction)
        return directions if leader == 0 else directions[::-1]
