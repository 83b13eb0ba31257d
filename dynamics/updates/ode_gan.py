from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_leaf, as_rates, check_number
from dynamics._trees import replaced
from dynamics.directions import Gradient
from dynamics.game import Game, Players
from dynamics.updates.base import State, Update, rates_of
from dynamics.updates.runge_kutta import check_tableau, explicit_step


class ODEGAN(Update):
    r"""ODE-GAN: a Runge-Kutta step of all players together, and a penalty on the generator's gradient.

    $x^+ = x_{RK}$, but for the discriminator $\psi^+ = \psi_{RK} - h_\psi\,\lambda\,\nabla_\psi\|\nabla_\theta
    L_G\|^2$, with the gradient of the penalty at the old point and no factor 1/2. On the bilinear game xy the flow that
    is stepped has the eigenvalues $-\lambda \pm i\sqrt{1 - \lambda^2}$.

    The authors' published demonstration steps each player with the opponent frozen at its old value, which on a
    bilinear game is simultaneous Euler and nothing more; here the step is a joint one, as in the paper. With a key the
    stages and the penalty see the same minibatch.
    Source: Qin et al., Training Generative Adversarial Networks by Solving Ordinary Differential Equations, 2020,
    algorithm 1.

    Args:
        rates: h, one number for all players or one per player: the length of the step.
        weight: lambda, >= 0.
        method: name of the Runge-Kutta method, see `RungeKutta`.
        generator: number of the player whose gradient is penalised.
        discriminator: number of the player that pays the penalty.

    Raises:
        ValueError: a rate or the weight is negative or not finite, no such method, or no such players.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> update = ODEGAN(1.0, weight=0.25, method="heun")
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(1.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [-0.5, 1.0]
    """

    rates: tuple[Array, ...]
    weight: Array
    method: str = eqx.field(static=True)
    generator: int = eqx.field(static=True)
    discriminator: int = eqx.field(static=True)

    def __init__(
        self, rates: Any = 0.1, weight: Any = 0.07, method: str = "rk4", generator: int = 0, discriminator: int = 1
    ):
        self.rates = as_rates(rates, None, "rates")
        self.weight = as_leaf(weight)
        self.method = method
        self.generator, self.discriminator = generator, discriminator

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_tableau(self.method)
        roles = (self.generator, self.discriminator)
        if any(not isinstance(role, int) or role < 0 for role in roles) or roles[0] == roles[1]:
            raise ValueError(
                f"generator and discriminator are {roles}; expected the numbers of two players, e.g. (0, 1)"
            )

    def init(self, game: Game, players: Players) -> State:
        rates_of(self.rates, players)
        if max(self.generator, self.discriminator) >= len(players):
            raise ValueError(
                f"generator and discriminator are {(self.generator, self.discriminator)} in a game of {len(players)} "
                f"players; expected numbers from 0 to {len(players) - 1}"
            )
        return State(players, ())

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        old = state.players

        def penalty(parameters: PyTree) -> Array:
            gradient = game.field(replaced(old, self.discriminator, parameters), key)[self.generator]
            return _trees.dot(gradient, gradient)

        players = explicit_step(self.method, self.rates, Gradient(), game, old, key)
        length = rates_of(self.rates, old)[self.discriminator] * self.weight
        gradient = jax.grad(penalty)(old[self.discriminator])
        parameters = _trees.add_scaled(players[self.discriminator], -length, gradient)
        return State(replaced(players, self.discriminator, parameters), ())

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls([0.1 / (1 + player) for player in range(players)], weight=0.2)
