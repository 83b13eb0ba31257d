"""A game on which a swapped player, a lost transpose or a wrong sign shows, with everything by hand in NumPy.

Players of unequal sizes and odd structures, general-sum, nonlinear, with a non-normal Jacobian:
L_i = z' M_i z / 2 + b_i' z + c_i' sin(W z), z the concatenation of all players.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dynamics import _trees
from dynamics.game import Game

SIZES = {2: (2, 3), 3: (2, 3, 1)}
RATES = (0.07, 0.11, 0.04)


class Asymmetric(Game):
    """Losses of all players from arrays that are leaves of the game."""

    matrices: Array
    offsets: Array
    bends: Array
    inner: Array

    def losses(self, players, key=None):
        z = ravel_pytree(players)[0]
        bent = jnp.sin(self.inner.astype(z.dtype) @ z)
        losses = self.matrices @ z @ z / 2 + self.offsets @ z + self.bends @ bent
        if key is not None:
            losses = losses + 0.1 * jax.random.normal(key, (len(self.offsets), z.size), z.dtype) @ z
        return tuple(losses.astype(z.dtype))

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return make(2), start(2)


def numbers(players: int) -> dict[str, np.ndarray]:
    """The arrays of the game, always the same."""
    rng = np.random.default_rng(players)
    size = sum(SIZES[players])
    matrices = rng.normal(size=(players, size, size))
    return dict(
        matrices=(matrices + matrices.transpose(0, 2, 1)) / 2,
        offsets=rng.normal(size=(players, size)),
        bends=rng.normal(size=(players, 4)),
        inner=rng.normal(size=(4, size)) / 2,
    )


def make(players: int) -> Asymmetric:
    return Asymmetric(**{name: jnp.asarray(value) for name, value in numbers(players).items()})


def pack(z, dtype=np.float64):
    """A vector as players: a dictionary, a nested tuple, an array."""
    z = jnp.asarray(z, dtype)
    first, second = {"b": z[1], "a": z[0]}, (z[2:4], (z[4:5],))
    return (first, second) if z.size == 5 else (first, second, z[5:])


def flat(players) -> np.ndarray:
    return np.asarray(ravel_pytree(players)[0])


def start(players: int, dtype=np.float64):
    return pack(np.linspace(-0.6, 0.8, sum(SIZES[players])), dtype)


def parts(players: int) -> list[slice]:
    edges = np.cumsum([0, *SIZES[players]])
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


class ByHand:
    """Field and Jacobian of the game in NumPy."""

    def __init__(self, players: int):
        self.__dict__.update(numbers(players))
        self.players, self.parts = players, parts(players)

    def losses(self, z):
        return np.array(
            [
                z @ m @ z / 2 + b @ z + c @ np.sin(self.inner @ z)
                for m, b, c in zip(self.matrices, self.offsets, self.bends)
            ]
        )

    def field(self, z):
        v = np.zeros_like(z)
        for m, b, c, part in zip(self.matrices, self.offsets, self.bends, self.parts):
            v[part] = -(m @ z + b + self.inner.T @ (c * np.cos(self.inner @ z)))[part]
        return v

    def jacobian(self, z):
        jacobian = np.zeros((z.size, z.size))
        for m, c, part in zip(self.matrices, self.bends, self.parts):
            jacobian[part] = -(m - self.inner.T @ np.diag(c * np.sin(self.inner @ z)) @ self.inner)[part]
        return jacobian

    def loss_gradient(self, z, loss):
        """The gradient of one player's loss with respect to everything."""
        m, b, c = self.matrices[loss], self.offsets[loss], self.bends[loss]
        return m @ z + b + self.inner.T @ (c * np.cos(self.inner @ z))

    def loss_hessian(self, z, loss):
        """All second derivatives of one player's loss."""
        bent = self.bends[loss] * np.sin(self.inner @ z)
        return self.matrices[loss] - self.inner.T @ np.diag(bent) @ self.inner

    def consensus(self, z, weight):
        return self.field(z) - weight * self.jacobian(z).T @ self.field(z)

    def symplectic(self, z, weight, align, epsilon=0.1):
        xi, hessian = -self.field(z), -self.jacobian(z)
        antisymmetric = (hessian - hessian.T) / 2
        adjustment = antisymmetric.T @ xi
        if align:
            gradient = hessian.T @ xi
            weight = weight * np.sign(xi @ gradient * (adjustment @ gradient) / z.size + epsilon)
        return -(xi + weight * adjustment)


def tolerance(dtype) -> float:
    """Relative tolerance for a short run in this precision."""
    return 1e-11 if dtype == np.float64 else 2e-4


def same(found, expected, dtype=np.float64, scale=1.0):
    """Equal within the rounding of a short run, and of the right precision."""
    leaves = jax.tree.leaves(found)
    assert all(leaf.dtype == dtype for leaf in leaves)
    bound = scale * tolerance(dtype) * (1 + np.max(np.abs(expected)))
    np.testing.assert_allclose(flat(found), expected, rtol=0, atol=bound)


def ends(updates, steps, dtype):
    """The players after so many steps of each of these updates, by name, in one program; of two players."""

    @eqx.filter_jit
    def run(updates, game, players):
        def body(i, states):
            return {name: updates[name].step(game, state) for name, state in states.items()}

        states = {name: update.init(game, players) for name, update in updates.items()}
        return jax.lax.fori_loop(0, steps, body, states)

    states = run(*_trees.cast((updates, make(2)), dtype), start(2, dtype))
    return {name: state.players for name, state in states.items()}
