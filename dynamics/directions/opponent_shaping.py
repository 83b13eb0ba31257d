import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_leaf, check_number
from dynamics.directions import _blocks
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class PolicyPrediction(Direction):
    r"""Look ahead: the own gradient as it will be once all the others have taken a gradient step.

    $d = -(I - \alpha H_o)\,\xi$ with $\xi = -v$ and $H_o$ the game's Hessian $D\xi$ without its diagonal blocks, i.e.
    $d_i = -\nabla_i\big(L_i - \alpha\sum_{j\ne i}\langle\nabla_j L_i,\, \mathrm{stop}(\nabla_j L_j)\rangle\big)$. For
    $f = \sigma x y$ with simultaneous steps h the eigenvalues are $1 - h\alpha\sigma^2 \pm ih\sigma$.
    Source: Zhang, Lesser, Multi-Agent Learning with Policy Prediction, 2010; for n players Letcher et al., Stable
    Opponent Shaping in Differentiable Games, 2019.

    Args:
        weight: alpha, the step of the others that is looked ahead to, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.

    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in PolicyPrediction(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-8.0, -4.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        _, looking, _ = _shaping(game, players, key, self.weight)
        return _trees.scaled(-1, looking)


class LOLA(Direction):
    r"""Learning with opponent-learning awareness: looks ahead and shapes the step that the others will take.

    $d = -\big((I - \alpha H_o)\,\xi - \alpha\chi\big)$ with $H_o$ the game's Hessian $D\xi$, $\xi = -v$, without its
    diagonal blocks, and $\chi_i = \sum_{j\ne i}(D_{ji}L_j)^\top\nabla_j L_i$, i.e. $d_i = -\nabla_i\big(L_i -
    \alpha\sum_{j\ne i}\langle\nabla_j L_i, \nabla_j L_j\rangle\big)$. Its points of rest need not be equilibria of the
    game. For $f = \sigma x y$ with simultaneous steps h the eigenvalues are
    $1 - 2h\alpha\sigma^2 \pm ih\sigma$.
    Source: Foerster et al., Learning with Opponent-Learning Awareness, 2018; in this form Letcher et al., Stable
    Opponent Shaping in Differentiable Games, 2019.

    Args:
        weight: alpha, the step of the others that is shaped, >= 0.

    Raises:
        ValueError: the weight is negative or not finite.

    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in LOLA(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-10.0, -10.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        _, looking, shaping = _shaping(game, players, key, self.weight)
        return _trees.scaled(-1, _trees.add_scaled(looking, 1, shaping))


class SOS(Direction):
    r"""Stable opponent shaping: between LookAhead and LOLA, as near to LOLA as does no harm.

    $d = -(\xi_0 - p\,\alpha\chi)$ with $\xi_0 = (I - \alpha H_o)\,\xi$, minus the direction of
    `PolicyPrediction`, and $\chi$ the shaping term of `LOLA`. $p = \min(p_1, p_2)$: $p_1 = 1$ when
    $\langle-\alpha\chi, \xi_0\rangle \ge 0$, else $\min(1, -a\|\xi_0\|^2/\langle-\alpha\chi, \xi_0\rangle)$, keeps the
    two from cancelling; $p_2 = \|\xi\|^2$ when $\|\xi\| < b$, else 1, keeps the equilibria of the game at rest. The
    direction jumps where $\|\xi\| = b$; at an equilibrium its Jacobian is that of `PolicyPrediction`.
    Source: Letcher et al., Stable Opponent Shaping in Differentiable Games, 2019, algorithm 1.

    Args:
        weight: alpha, >= 0.
        a: how much of $\|\xi_0\|^2$ shaping may take away, in (0, 1).
        b: norm of the simultaneous gradient below which shaping fades out, in (0, 1).

    Raises:
        ValueError: a number is out of its bounds.

    >>> from dynamics.games import Bilinear
    >>> [float(d) for d in SOS(0.5)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))]
    [-10.0, -10.0]
    """

    weight: Array = eqx.field(converter=as_leaf, default=0.1)
    a: Array = eqx.field(converter=as_leaf, default=0.5)
    b: Array = eqx.field(converter=as_leaf, default=0.1)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "a", above=0, below=1)
        check_number(self, "b", above=0, below=1)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        xi, looking, shaping = _shaping(game, players, key, self.weight)
        alignment = _trees.dot(shaping, looking)
        against = alignment < 0
        kept = -self.a * _trees.dot(looking, looking) / jnp.where(against, alignment, -1)
        first = jnp.where(against, jnp.minimum(1, kept), 1)
        square = _trees.dot(xi, xi)
        second = jnp.where(square < self.b**2, square, 1)
        return _trees.scaled(-1, _trees.add_scaled(looking, jnp.minimum(first, second), shaping))


def _shaping(game: Game, players: Players, key: PRNGKeyArray | None, weight: Array) -> tuple[Players, Players, Players]:
    r"""$\xi$, $(I - \alpha H_o)\,\xi$ and $-\alpha\chi$; what is not used is not computed under `jit`."""
    xi, hessian = _blocks.hessian(game, players, key)
    transposed = _blocks.transpose(hessian, players)
    count = range(len(players))
    ahead = tuple(hessian(_blocks.without(xi, player))[player] for player in count)
    gradients = [_blocks.loss_gradient(game, players, player, key) for player in count]
    chi = tuple(transposed(_blocks.without(gradients[player], player))[player] for player in count)
    return xi, _trees.add_scaled(xi, -weight, ahead), _trees.scaled(-weight, chi)
