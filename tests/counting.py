"""A game with a variable that tells how often it was played."""

import equinox as eqx
import jax
import jax.numpy as jnp

from dynamics.game import StatefulGame


class Counting(StatefulGame):
    """f = xy, and a count of the passes."""

    passes: jax.Array = eqx.field(default=0, converter=jnp.asarray)

    @property
    def variables(self):
        return (self.passes,)

    def with_variables(self, variables):
        return Counting(*variables)

    def advanced(self, players, key=None):
        return Counting(self.passes + 1)

    def losses(self, players, key=None):
        x, y = players
        return x * y, -x * y

    def equilibria(self):
        return ((jnp.asarray(0.0), jnp.asarray(0.0)),)

    @classmethod
    def example(cls):
        return cls(), (jnp.asarray(1.0), jnp.asarray(2.0))
