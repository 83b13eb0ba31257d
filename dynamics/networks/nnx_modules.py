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
    mode after its `eval()`, on a batch of one point. Before each call `nnx.reseed` gives its random streams the key;
    where they have several tags, each tag, in the order of their names, a part of `jax.random.split`.

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
    tags = sorted({node.tag for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngKey)})
    # Copies: what a module holds may be given away by its owner.
    parameters, variables = (jax.tree.map(lambda leaf: jnp.array(leaf), tree) for tree in (parameters, variables))
    graphs = graph, inference_graph
    keywords = as_keywords(training), as_keywords(inference)
    return NNXNetwork(variables, graphs, structure, kinds, tuple(tags), *keywords), parameters


class _Stream(eqx.Module):
    """A leaf of a module's random streams: keys or counters."""

    shape: tuple[int, ...] = eqx.field(static=True)
    is_key: bool = eqx.field(static=True)

    @classmethod
    def of(cls, leaf: Any) -> "_Stream":
        return cls(tuple(leaf.shape), bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)))

    def filled(self) -> Any:
        """Any key, or a counter at its start."""
        if not self.is_key:
            return jnp.zeros(self.shape, jnp.uint32)
        return jnp.broadcast_to(jax.random.key(0), self.shape)


class NNXNetwork(Network):
    """A module of Flax NNX; made by `from_nnx`."""

    variables: PyTree
    graphs: Any = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    streams: tuple[_Stream, ...] = eqx.field(static=True)
    tags: tuple[str, ...] = eqx.field(static=True)
    training: Keywords = eqx.field(static=True)
    inference: Keywords = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        from flax import nnx

        streams = self._streams()
        module: Any = nnx.merge(self.graphs[0], parameters, streams, variables, copy=True)
        if key is not None and self.tags:
            keys = [key] if len(self.tags) == 1 else jax.random.split(key, len(self.tags))
            nnx.reseed(module, **dict(zip(self.tags, keys, strict=True)))
        outputs = module(batch, **dict(self.training))
        _, _, after, new = nnx.split(module, nnx.Param, nnx.RngState, ...)
        pairs = zip(jax.tree.leaves(streams), jax.tree.leaves(after), strict=True)
        if key is None and any(old is not used for old, used in pairs):  # a counter has counted
            raise ValueError("a layer draws random numbers, and there is no key")
        return outputs, new

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        from flax import nnx

        module: Any = nnx.merge(self.graphs[1], parameters, self._streams(), variables, copy=True)
        outputs = module(jax.tree.map(lambda leaf: leaf[None], point), **dict(self.inference))
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    def _streams(self) -> PyTree:
        """Random streams of the right shapes, from which nobody has drawn."""
        return jax.tree.unflatten(self.structure, [stream.filled() for stream in self.streams])
