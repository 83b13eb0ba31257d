"""Modules of Flax Linen."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._extras import optional
from dynamics.networks.network import Keywords, Network, as_keywords

# Keyword arguments of modules that choose between training and inference, by their usual names, with their values.
MODES = {
    "train": (True, False),
    "training": (True, False),
    "is_training": (True, False),
    "deterministic": (False, True),
    "use_running_average": (False, True),
}


def from_linen(
    module: Any,
    variables: Mapping[str, Any],
    *,
    training: Mapping[str, Any] | None = None,
    inference: Mapping[str, Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
) -> tuple["LinenNetwork", PyTree]:
    """A network and its parameters from a module of Flax Linen.

    The module is called on a whole batch, `module.apply({"params": ..., **collections}, batch, mutable=[...],
    rngs={"dropout": key}, **training)`; in inference mode on a batch of one point.

    Args:
        module: the module.
        variables: what its `init` returned: parameters are the collection `params`; all other collections are updated.
        training, inference: keyword arguments of its call for either mode; default: the right values of those of
            `train`, `training`, `is_training`, `deterministic` and `use_running_average` that it takes.
        rngs: names of its streams of random numbers. One gets the key itself, several a part of `jax.random.split`.

    Returns:
        `(network, parameters)`. The network's variables are a dictionary of collections.

    Raises:
        ImportError: Flax is not installed.
        TypeError: the module is no Linen module.
        ValueError: there is no collection `params`.
    """
    optional("flax", "flax", "from_linen")
    from flax import linen
    from flax.core import unfreeze

    if not isinstance(module, linen.Module):
        raise TypeError(f"module is a {type(module).__name__}; expected a flax.linen.Module")
    collections = dict(unfreeze(dict(variables))) if isinstance(variables, Mapping) else {}
    if "params" not in collections:
        raise ValueError(
            f"variables has the collections {sorted(collections)}; expected what module.init(key, batch) returned, "
            "with a collection 'params'"
        )
    parameters = collections.pop("params")
    taken = inspect.signature(type(module).__call__).parameters
    known = {name: values for name, values in MODES.items() if name in taken}
    training = {name: values[0] for name, values in known.items()} if training is None else training
    inference = {name: values[1] for name, values in known.items()} if inference is None else inference
    held = jax.tree.map(jnp.asarray, collections)
    return LinenNetwork(held, module, as_keywords(training), as_keywords(inference), tuple(rngs)), parameters


class LinenNetwork(Network):
    """A module of Flax Linen; made by `from_linen`."""

    variables: PyTree
    module: Any = eqx.field(static=True)
    training: Keywords = eqx.field(static=True)
    inference: Keywords = eqx.field(static=True)
    rngs: tuple[str, ...] = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        if key is None:
            rngs = None
        else:
            keys = [key] if len(self.rngs) == 1 else jax.random.split(key, len(self.rngs))
            rngs = dict(zip(self.rngs, keys, strict=True))
        whole = {"params": parameters, **variables}
        return self.module.apply(whole, batch, mutable=list(variables), rngs=rngs, **dict(self.training))

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        batch = jax.tree.map(lambda leaf: leaf[None], point)
        outputs = self.module.apply({"params": parameters, **variables}, batch, **dict(self.inference))
        return jax.tree.map(lambda leaf: leaf[0], outputs)
