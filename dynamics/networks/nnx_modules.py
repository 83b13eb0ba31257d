"""Modules of Flax NNX."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._extras import optional
from dynamics.networks.network import Keywords, Network, as_keywords


def from_nnx(
    module: Any, *, training: Mapping[str, Any] | None = None, inference: Mapping[str, Any] | None = None
) -> tuple["NNXNetwork", PyTree]:
    """A network and its parameters from a module of Flax NNX.

    The module is called on a whole batch, in training mode as it is (a new module is in training mode), in inference
    mode after its `eval()`, on a batch of one point. The key of stream i, in the order in which `flax.nnx.state` lists
    them, is `jax.random.fold_in(key, i)`, its counter 0 at every call.

    Args:
        module: the module, which stays as it is. Parameters are its `nnx.Param`, variables all else but random streams.
        training, inference: keyword arguments of its call for either mode.

    Returns:
        `(network, parameters)`; the parameters and the network's variables are an `nnx.State` each, fit for
        `nnx.update(module, ...)`.

    Raises:
        ImportError: Flax is not installed.
        TypeError: the module is no NNX module.
    """
    optional("flax", "flax", "from_nnx")
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise TypeError(f"module is a {type(module).__name__}; expected a flax.nnx.Module")
    graph, parameters, streams, variables = nnx.split(module, nnx.Param, nnx.RngState, ...)
    evaluated = nnx.merge(graph, parameters, streams, variables, copy=True)
    evaluated.eval()
    inference_graph = nnx.split(evaluated, nnx.Param, nnx.RngState, ...)[0]
    leaves, structure = jax.tree.flatten(streams)
    kinds = tuple(_Stream.of(leaf) for leaf in leaves)
    # Copies: what a module holds may be given away by its owner.
    parameters, variables = (jax.tree.map(lambda leaf: jnp.array(leaf), tree) for tree in (parameters, variables))
    graphs = graph, inference_graph
    return NNXNetwork(variables, graphs, structure, kinds, as_keywords(training), as_keywords(inference)), parameters


class _Stream(eqx.Module):
    """A leaf of a module's random streams: keys or counters."""

    shape: tuple[int, ...] = eqx.field(static=True)
    is_key: bool = eqx.field(static=True)

    @classmethod
    def of(cls, leaf: Any) -> "_Stream":
        return cls(tuple(leaf.shape), bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)))

    def filled(self, key: PRNGKeyArray) -> Any:
        if not self.is_key:
            return jnp.zeros(self.shape, jnp.uint32)
        return jax.random.split(key, self.shape) if self.shape else key


class NNXNetwork(Network):
    """A module of Flax NNX; made by `from_nnx`."""

    variables: PyTree
    graphs: Any = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    streams: tuple[_Stream, ...] = eqx.field(static=True)
    training: Keywords = eqx.field(static=True)
    inference: Keywords = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        from flax import nnx

        streams = self._streams(key)
        module: Any = nnx.merge(self.graphs[0], parameters, streams, variables, copy=True)
        outputs = module(batch, **dict(self.training))
        _, _, after, new = nnx.split(module, nnx.Param, nnx.RngState, ...)
        pairs = zip(jax.tree.leaves(streams), jax.tree.leaves(after), strict=True)
        if key is None and any(old is not used for old, used in pairs):  # a counter has counted
            raise ValueError("a layer draws random numbers, and there is no key")
        return outputs, new

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        from flax import nnx

        module: Any = nnx.merge(self.graphs[1], parameters, self._streams(None), variables, copy=True)
        outputs = module(jax.tree.map(lambda leaf: leaf[None], point), **dict(self.inference))
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    def _streams(self, key: PRNGKeyArray | None) -> PyTree:
        """The random streams, made from a key; from any where none is drawn from."""
        key = jax.random.key(0) if key is None else key
        key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
        leaves, count = [], 0
        for stream in self.streams:
            leaves.append(stream.filled(jax.random.fold_in(key, count)))
            count += stream.is_key
        return jax.tree.unflatten(self.structure, leaves)
