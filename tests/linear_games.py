"""Games of any Jacobian."""

import jax
import jax.numpy as jnp

import dynamics as dy


class Linear(dy.Game):
    """n players of one number each and the field A z: any matrix whatever is the Jacobian of such a game."""

    matrix: jax.Array

    def losses(self, players, key=None):
        z = jnp.stack(players)
        rows = self.matrix.astype(z.dtype)
        diagonal = jnp.diag(jnp.diag(rows))
        return tuple(-z * ((rows - diagonal) @ z) - jnp.diag(rows) * z**2 / 2)

    def equilibria(self):
        return (dy.game.as_players((0.0,) * len(self.matrix)),)

    @classmethod
    def example(cls):
        return cls(-jnp.eye(2)), (1.0, 1.0)
