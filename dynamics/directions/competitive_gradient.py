import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class CompetitiveGradient(Direction):
    r"""Competitive gradient descent: both players play the equilibrium of the local bilinear game; two players.

    With $g_i = \nabla_i L_i$ and steps $\eta_i$ the moves $m_i$ minimise $g_0^\top m_0 + m_0^\top D_{01}L_0\, m_1 +
    \|m_0\|^2/(2\eta_0)$ over $m_0$ and $g_1^\top m_1 + m_1^\top D_{10}L_1\, m_0 + \|m_1\|^2/(2\eta_1)$ over $m_1$ at
    once: $m_0 = -\eta_0(g_0 + D_{01}L_0\, m_1)$, $m_1 = -\eta_1(g_1 + D_{10}L_1\, m_0)$. The direction is $d_i =
    m_i/\eta_i$, hence $d_0 = -(I - \eta_0\eta_1 D_{01}L_0 D_{10}L_1)^{-1}(g_0 - \eta_1 D_{01}L_0\, g_1)$, likewise
    $d_1$, and simultaneous gradient steps of the same sizes, `Simultaneous(sgd(eta), sgd(eta),
    direction=CompetitiveGradient(eta))`, are the algorithm of the paper. For a bilinear zero-sum game it is the
    proximal point method, which contracts by $1/\sqrt{1+\eta^2\sigma^2}$ with any step.
    Source: Schaefer, Anandkumar, Competitive Gradient Descent, 2019, algorithm 1; with equal steps.

    The system is solved for both moves together, in $u_i = m_i/\sqrt{\eta_i}$: $(I + K)u = -(\sqrt{\eta_i}\, g_i)$, K
    with the blocks $\sqrt{\eta_0\eta_1}\, D_{ij}L_i$ off its diagonal. In a zero-sum game $K^\top = -K$, so that
    $(I + K)^\top(I + K)$ is block-diagonal with the paper's matrices $I + \eta_0\eta_1 D_{01}L_0 (D_{01}L_0)^\top$, and
    an iteration on the normal equations (LSMR) is one on those. In a general-sum game single steps may make the system
    singular: the iteration then gives moves of least norm, the dense solver numbers that are not finite.

    Args:
        step: eta, or one per player, >= 0; 0 for a player that the other believes to stand still.
        solver: "iterative", by products with second derivatives (LSMR), or "dense", by LU of the whole matrix.
        max_steps: bound on the iterations; `None`: ten per parameter.

    Raises:
        ValueError: a step is negative or not finite, an unknown solver; when called, not two players.

    >>> from dynamics.games import Bilinear
    >>> [round(float(d), 6) for d in CompetitiveGradient(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-4.0, -2.0]
    """

    step: tuple[Array, ...] = eqx.field(
        converter=lambda step: as_rates(step, 2, "CompetitiveGradient.step"), default=0.1
    )
    solver: str = eqx.field(static=True, default="iterative")
    max_steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _blocks.check_solver(self)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        _blocks.check_two_players(self, players)
        first, second = game.field(players, key)
        upper = _blocks.block(game, players, 0, 1, key)
        lower = _blocks.block(game, players, 1, 0, key)
        first_root, second_root = (jnp.sqrt(step) for step in self.step)

        def system(moves: Players) -> Players:
            return (
                _trees.add_scaled(moves[0], first_root * second_root, upper(moves[1])),
                _trees.add_scaled(moves[1], first_root * second_root, lower(moves[0])),
            )

        right_side = (_trees.scaled(first_root, first), _trees.scaled(second_root, second))
        moves = _blocks.solve(system, right_side, self.solver, self.max_steps, regular=True)
        first = _trees.add_scaled(first, -second_root, upper(moves[1]))
        return first, _trees.add_scaled(second, -first_root, lower(moves[0]))
