from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics.directions.noisy import Scale, as_scale, scales
from dynamics.flows.base import AbstractFlow
from dynamics.flows.flow import Flow
from dynamics.game import Game, Players
from dynamics.updates.base import State


class NoisyFlow(AbstractFlow):
    r"""Any flow with white noise on the players: a stochastic differential equation with additive noise.

    $dx_i = f_i\,dt + \sigma_i\,dW_i$ with independent Brownian motions for all coordinates; memory has no noise.
    `dynamics.simulate` needs a `key` and a step `dt0`, and by default uses the solver ShARK (strong order 3/2);
    `dynamics.stability` analyses the flow without noise, `dynamics.stationary_covariance` how far the noise spreads.

    It is the limit of updates whose steps are small and noisy: gradient noise of standard deviation s in a step of
    $h_i = h r_i$ adds variance $h_i^2 s^2$ per step, that is per time h, and so corresponds to
    $\sigma_i = r_i\,s\sqrt h$. Source: Li, Tai, E, Stochastic Modified Equations and Adaptive Stochastic Gradient
    Algorithms, 2017, equation 8.

    Args:
        flow: the flow without noise.
        scale: sigma, >= 0: one number, or one per player.

    Raises:
        TypeError: `flow` is no flow.
        ValueError: a scale is negative or not finite, there is not one per player, or the flow has noise already.

    >>> import dynamics as dy
    >>> flow = NoisyFlow(Flow(), 0.1)
    >>> game = dy.games.Quadratic([[1.0, 2.0], [-2.0, 1.0]])
    >>> run = dy.simulate(game, flow, (1.0, 1.0), until=1.0, dt0=1 / 64, save_every=0.25, key=jax.random.key(0))
    >>> run.players[0].shape
    (5,)
    """

    flow: AbstractFlow
    scale: Scale

    def __init__(self, flow: AbstractFlow, scale: Any):
        self.flow = flow
        self.scale = as_scale(scale, "NoisyFlow.scale")

    def __check_init__(self):
        if isinstance(self.flow, NoisyFlow):
            raise ValueError("the flow of a NoisyFlow is noisy already; add the two variances and use one NoisyFlow")
        if not isinstance(self.flow, AbstractFlow):
            raise TypeError(f"NoisyFlow.flow is {self.flow!r}; expected a flow, e.g. dynamics.flows.Flow()")

    def init(self, game: Game, players: Players) -> State:
        scales(self.scale, players)
        return self.flow.init(game, players)

    def field(self, game: Game, time: Array, state: State) -> State:
        return self.flow.field(game, time, state)

    def noise(self, state: State) -> State:
        """The standard deviation of the noise of every number of the state, per square root of time."""
        players = tuple(
            jax.tree.map(lambda leaf, scale=scale: jnp.full_like(leaf, scale), parameters)
            for parameters, scale in zip(state.players, scales(self.scale, state.players), strict=True)
        )
        return State(players, jax.tree.map(jnp.zeros_like, state.memory))

    @classmethod
    def example(cls, players: int = 2) -> AbstractFlow:
        return cls(Flow.example(players), [0.1 * (1 + player) for player in range(players)])
