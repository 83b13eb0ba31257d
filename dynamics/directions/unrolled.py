import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import as_leaf, check_number, check_whole
from dynamics._trees import replaced
from dynamics.directions.base import Direction
from dynamics.game import Game, Players


class Unrolled(Direction):
    r"""Unrolled training: the others meet one player as it will be after some gradient steps.

    The unrolled player w looks ahead, $w^{(k+1)} = w^{(k)} + \eta\,v_w(x, w^{(k)})$ from $w^{(0)} = w$; every other
    player j goes downhill on its own loss there, $d_j = -\frac{d}{dx_j} L_j(x, w^{(K)}(x, w))$, through the steps, and
    the unrolled player itself takes its ordinary gradient $v_w$. In a bilinear game with step h for both the map is
    $[[1 - 2Kh\eta\sigma^2, -h\sigma], [h\sigma, 1]]$, stable for $\eta = h$ as long as $h\sigma < 2/\sqrt{4K-1}$.
    Source: Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2017; with two players. With
    more, each of the others counts with its own influence on the unrolled player.

    Args:
        steps: K, number of inner steps.
        step: eta, size of an inner step, > 0. All see the same minibatch.
        player: who is unrolled; default 1, the discriminator.
        higher_order: differentiate through the inner steps; without, the unrolled player is held fixed at
            $w^{(K)}$.

    Raises:
        ValueError: `steps` is no whole number >= 1, the step is not positive or not finite, there is no such player.

    >>> import jax.numpy as jnp
    >>> from dynamics.games import Bilinear
    >>> d = Unrolled(steps=2, step=0.25)(Bilinear(2.0), (jnp.asarray(1.0), jnp.asarray(3.0)))
    >>> [float(x) for x in d]  # -2 * 3 - 2 * 2 * 0.25 * 2**2
    [-10.0, 2.0]
    """

    steps: int = eqx.field(static=True, default=5)
    step: Array = eqx.field(converter=as_leaf, default=0.1)
    player: int = eqx.field(static=True, default=1)
    higher_order: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_whole(self, "steps")
        check_number(self, "step", above=0)
        check_whole(self, "player", minimum=0)

    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        if self.player >= len(players):
            raise ValueError(f"Unrolled.player is {self.player}; expected one of 0 to {len(players) - 1}")

        def unrolled(point: Players) -> Players:
            def ahead(parameters: PyTree, _: None) -> tuple[PyTree, None]:
                velocity = game.field(replaced(point, self.player, parameters), key)[self.player]
                return jax.tree.map(lambda w, v: w + (self.step * v).astype(w.dtype), parameters, velocity), None

            parameters, _ = jax.lax.scan(ahead, point[self.player], length=self.steps)
            return replaced(point, self.player, parameters)

        ordinary = game.field(players, key)[self.player]
        if not self.higher_order:
            return replaced(game.field(unrolled(players), key), self.player, ordinary)

        def downhill(player: int) -> PyTree:
            def loss(parameters: PyTree) -> Array:
                return game.losses(unrolled(replaced(players, player, parameters)), key)[player]

            return jax.tree.map(lambda leaf: -leaf, jax.grad(loss)(players[player]))

        return tuple(ordinary if player == self.player else downhill(player) for player in range(len(players)))
