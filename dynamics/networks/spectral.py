"""Spectral normalisation of plain functions of parameters and a point."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics.game import as_callable, check_takes
from dynamics.networks.network import Network

EPSILON = 1e-12  # added to norms, as in the authors' code


def spectrally_normalised(
    function: Callable[[PyTree, PyTree], PyTree],
    parameters: PyTree,
    key: PRNGKeyArray,
    where: Callable[[PyTree], PyTree] | None = None,
) -> "SpectralNetwork":
    r"""A network that divides matrices among its parameters by their largest singular value: $W/\hat\sigma(W)$.

    $\hat\sigma = u^\top W v$ by one power iteration at each computation of the losses and for each batch,
    $v = W^\top u/|W^\top u|$, $u^+ = Wv/|Wv|$; u is kept from step to step, memory of the update; u and v are held
    fixed in the gradient. A tensor counts as the matrix of its first axis and all others. At rest $\hat\sigma$ is
    exact; along a run it lags. Inference takes u as it is.
    Source: Miyato, Kataoka, Koyama, Yoshida, Spectral Normalization for Generative Adversarial Networks, 2018,
    algorithm 1.

    Args:
        function: `(parameters, point) -> output`, of one point.
        parameters: an example of them, for the shapes.
        key: random key of the first vectors u.
        where: picks the leaves of the parameters that are normalised, one or a tuple of them; default all with two or
            more axes.

    Returns:
        a `Network`, for a `GAN`; players start at parameters of this shape.

    Raises:
        TypeError: no function of parameters and a point.
        ValueError: there is no matrix among the parameters, or what is picked is none.

    >>> critic = spectrally_normalised(lambda w, x: (w @ x)[0], jnp.eye(1, 2), jax.random.key(0))
    >>> scores, variables = critic.apply(jnp.asarray([[3.0, 4.0]]), critic.variables, jnp.asarray([[1.0, 0.5]]), None)
    >>> round(float(scores[0]), 6)  # 5 / 5
    1.0
    """
    check_takes(function, "function", "(parameters, point)", 2)
    leaves = jax.tree.leaves(parameters)
    if where is None:
        chosen = tuple(jnp.ndim(leaf) >= 2 for leaf in leaves)
    else:
        marked = eqx.tree_at(where, jax.tree.map(lambda _: False, parameters), replace_fn=lambda _: True)
        chosen = tuple(jax.tree.leaves(marked))
    if not any(chosen) or any(picked and jnp.ndim(leaf) < 2 for picked, leaf in zip(chosen, leaves, strict=True)):
        raise ValueError(
            f"the parameters have leaves of shapes {[jnp.shape(leaf) for leaf in leaves]}; expected one or more "
            "matrices, arrays with two or more axes, to normalise"
        )
    rows = [jnp.shape(leaf)[0] for picked, leaf in zip(chosen, leaves, strict=True) if picked]
    keys = jax.random.split(key, len(rows))
    dtype = _trees.float_dtype(parameters)
    vectors = tuple(_unit(jax.random.normal(key, (count,), dtype)) for key, count in zip(keys, rows, strict=True))
    return SpectralNetwork(vectors, as_callable(function, "function"), chosen)


class SpectralNetwork(Network):
    """A plain function with normalised matrices; made by `spectrally_normalised`.

    Attributes:
        variables: the vector u of every matrix.
        function: of parameters and one point.
        chosen: which leaves of the parameters are normalised.
    """

    variables: tuple[Array, ...]
    function: Callable[[PyTree, PyTree], PyTree]
    chosen: tuple[bool, ...] = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        del key
        normalised, variables = self._normalised(parameters, variables, iterate=True)
        return jax.vmap(lambda point: self.function(normalised, point))(batch), variables

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        return self.function(self._normalised(parameters, variables, iterate=False)[0], point)

    def _normalised(self, parameters: PyTree, variables: PyTree, iterate: bool) -> tuple[PyTree, tuple[Array, ...]]:
        leaves, structure = jax.tree.flatten(parameters)
        old, new = iter(variables), []
        for place, picked in enumerate(self.chosen):
            if not picked:
                continue
            matrix = leaves[place].reshape(leaves[place].shape[0], -1)
            u = next(old)
            held = jax.lax.stop_gradient(matrix)
            v = _unit(held.T @ u)
            if iterate:
                u = _unit(held @ v)
            new.append(u)
            u, v = jax.lax.stop_gradient((u, v))
            leaves[place] = leaves[place] / (u @ matrix @ v)
        return structure.unflatten(leaves), tuple(new)


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    return vector / (jnp.linalg.norm(vector) + EPSILON)
