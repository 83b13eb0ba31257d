from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_kind, check_number
from dynamics.game import Game, Losses, Players, as_players, has_variables
from dynamics.games.dirac_gan import DiracGAN
from dynamics.penalties import R1


class MixtureGame(Game):
    r"""Two players of a game as mixtures of several copies with learned weights, as in MIX+GAN.

    A player is the pair (logits of the weights, copies stacked along a leading axis). With weights $\alpha, \beta$,
    softmax of the logits, $L_k = \sum_{ij}\alpha_i\beta_j\,\ell_k(u_i, v_j) - \frac{c}{T_k}\sum_i\log w_i$, where w are
    the player's own weights and $T_k$ is their number: the second term keeps all copies in use, and is least for equal
    weights. A constant added to a player's logits changes nothing.
    Equilibria: those of the game in every copy, with equal weights.
    Source: Arora, Ge, Liang, Ma, Zhang, Generalization and Equilibrium in Generative Adversarial Nets, 2017, with the
    authors' code, which has 5 copies and c = 0.1 and takes the gradient with respect to the logits.

    Args:
        game: of two players, which keeps nothing from step to step.
        counts: how many copies of each.
        regulariser: c, >= 0; that of the authors' code by default.

    Raises:
        ValueError: a number of copies is no whole number >= 1, the regulariser is negative, or the game keeps values.

    >>> from dynamics.games.bilinear import Bilinear
    >>> game = MixtureGame(Bilinear(1.0), (2, 1), regulariser=0.0)
    >>> float(game.losses(game.mixed([1.0, 3.0], [0.5]))[0])  # the mean of 1 and 3, times a half
    1.0
    """

    game: Game
    counts: tuple[int, int] = eqx.field(static=True, default=(5, 5))
    regulariser: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_kind(self, "game", Game, "dynamics.games.DiracGAN()")
        wrong = [n for n in self.counts if isinstance(n, bool) or not isinstance(n, int) or n < 1]
        if wrong or len(self.counts) != 2:
            raise ValueError(f"MixtureGame.counts is {self.counts!r}; expected two whole numbers >= 1, e.g. (5, 5)")
        check_number(self, "regulariser", minimum=0)
        if has_variables(self.game):
            raise ValueError(
                "MixtureGame.game keeps values from step to step (running means), and every pair of copies would have "
                "its own; expected a game without, e.g. of networks with LayerNorm"
            )

    def mixed(self, *copies: Sequence[PyTree]) -> Players:
        """Players with equal weights, from the copies of each.

        Raises:
            ValueError: there are not as many copies as the game has.
        """
        given = tuple(len(several) for several in copies)
        if given != tuple(self.counts):
            raise ValueError(f"mixed got {given} copies of the players; expected {tuple(self.counts)}")
        return tuple(
            (jnp.zeros(len(several)), jax.tree.map(lambda *leaves: jnp.stack(leaves), *as_players(tuple(several))))
            for several in copies
        )

    def losses(self, players: Players, key: PRNGKeyArray | None = None) -> Losses:
        (first, rows), (second, columns) = players

        def against_all(one: PyTree) -> tuple[Array, Array]:
            def pair(other: PyTree) -> tuple[Array, Array]:
                on_first, on_second = self.game.losses((one, other), key)
                return on_first, on_second

            return jax.vmap(pair)(columns)

        pairs = jax.vmap(against_all)(rows)
        weights = jax.nn.softmax(first)[:, None] * jax.nn.softmax(second)
        terms = (self.regulariser * jnp.mean(jax.nn.log_softmax(logits)) for logits in (first, second))
        return tuple(jnp.sum(weights * values) - term for values, term in zip(pairs, terms, strict=True))

    def equilibria(self) -> tuple[Players, ...]:
        return tuple(
            self.mixed(*([player] * count for player, count in zip(point, self.counts, strict=True)))
            for point in self.game.equilibria()
        )

    @classmethod
    def example(cls) -> tuple[Game, Players]:
        game = cls(DiracGAN(penalty=R1(0.3)), (2, 3))
        return game, game.mixed([1.0, -0.3], [0.5, 0.2, -0.4])
