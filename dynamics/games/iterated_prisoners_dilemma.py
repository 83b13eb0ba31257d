import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_finite, check_number, is_concrete
from dynamics.game import Game, Losses, Players


class IteratedPrisonersDilemma(Game):
    r"""The prisoner's dilemma played for ever by two policies that remember the last round, with exact values.

    A player is five logits: of cooperating at the start, and after the rounds CC, CD, DC, DD, where its own action
    comes first. The four outcomes of a round are a Markov chain with start $p_0$ and transitions P, and
    $L_i = -p_0^\top (I - \gamma P)^{-1} r_i$, times $1-\gamma$ when normalised. Pure policies lie at infinity.
    `equilibria()` gives one inner point, where there is one: each policy fixes the other's value half-way between
    mutual cooperation and mutual defection, whatever the other does (Press and Dyson, 2012).
    Source: Foerster, Chen, Al-Shedivat, Whiteson, Abbeel, Mordatch, Learning with Opponent-Learning Awareness, 2018.
    Their code differentiates the plain sum and reports it normalised. That of Letcher et al. (2019) has the plain sum,
    and indexes both policies by the outcomes as player 0 sees them: exchange player 1's entries for CD and DC.

    Args:
        discount: gamma, >= 0 and < 1.
        payoffs: a player's payoffs, maximised: rows are its own action (C, D), columns the other's.
        normalised: multiply values by 1 - gamma, which makes them averages over rounds.

    Raises:
        ValueError: the discount is not in [0, 1), or the payoffs are not 2 x 2 finite numbers.
        TypeError: `normalised` is no truth value.

    >>> game = IteratedPrisonersDilemma(normalised=True)
    >>> defect, tit_for_tat = jnp.full(5, -40.0), jnp.asarray([40.0, 40.0, -40.0, 40.0, -40.0])
    >>> [round(float(value), 4) for value in game.values((defect, tit_for_tat))]
    [-1.92, -2.04]
    """

    discount: Array = eqx.field(converter=as_leaf, default=0.96)
    payoffs: Array = eqx.field(converter=as_leaf, default=((-1.0, -3.0), (0.0, -2.0)))
    normalised: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_number(self, "discount", minimum=0, below=1)
        if jnp.shape(self.payoffs) != (2, 2):
            raise ValueError(
                f"IteratedPrisonersDilemma.payoffs has shape {jnp.shape(self.payoffs)}; expected (2, 2), e.g. "
                "[[-1, -3], [0, -2]] for CC, CD and DC, DD"
            )
        check_finite(self.payoffs, "IteratedPrisonersDilemma.payoffs")
        if not isinstance(self.normalised, bool):
            raise TypeError(f"IteratedPrisonersDilemma.normalised is {self.normalised!r}; expected True or False")

    def values(self, players: Players) -> tuple[Array, Array]:
        """The players' discounted values, which they maximise.

        Raises:
            ValueError: a player is not five logits.
        """
        given = tuple(jnp.shape(player) for player in players)
        if given != ((5,), (5,)):
            raise ValueError(f"the players have shapes {given}; this game has two players of 5 logits each")
        first = jax.nn.sigmoid(players[0])
        second = jax.nn.sigmoid(players[1])[np.array([0, 1, 3, 2, 4])]  # what is CD to one is DC to the other
        rounds = jnp.stack(
            [first * second, first * (1 - second), (1 - first) * second, (1 - first) * (1 - second)], axis=1
        )
        dtype = rounds.dtype
        discount = self.discount.astype(dtype)
        visits = jnp.linalg.solve(jnp.eye(4, dtype=dtype) - discount * rounds[1:].T, rounds[0])
        if self.normalised:
            visits = (1 - discount) * visits
        payoffs = self.payoffs.astype(dtype)
        return visits @ payoffs.ravel(), visits @ payoffs.T.ravel()

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        first, second = self.values(players)
        return -first, -second

    def equilibria(self) -> tuple[Players, ...]:
        if not is_concrete((self.discount, self.payoffs)):
            return ()
        discount, payoffs = float(self.discount), np.asarray(self.payoffs, float)
        (both, sucker), (tempted, neither) = payoffs
        if not tempted > both > neither > sucker:
            return ()
        # For any policy p, `discount * p + (1 - discount) * p_start - own` averages to 0 over the rounds, where own is
        # 1 after the player's own C. As a multiple of the other's payoff less `value`, it makes that average 0 too.
        value = (both + neither) / 2
        low = (1 - discount) / (both - neither)
        high = (1 + discount) / 2 / max(tempted - value, value - sucker)
        if low >= high:
            return ()
        cooperating = np.array([1.0, 1.0, 0.0, 0.0])
        after = (cooperating - (1 - discount) / 2 - (low + high) / 2 * (payoffs.T.ravel() - value)) / discount
        policy = np.concatenate([[0.5], after])
        logits = jnp.asarray(np.log(policy / (1 - policy)), jnp.result_type(float))
        return ((logits, logits),)

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        return cls(), (jnp.asarray([0.5, 1.0, -1.0, 0.25, -0.5]), jnp.asarray([-0.25, 0.75, 0.0, -1.0, 0.5]))
