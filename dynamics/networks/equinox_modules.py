"""Equinox modules with a `State`."""

import inspect
from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray, PyTree

from dynamics.networks.network import Network
from dynamics.networks.splitting import SplitModule


def from_equinox(
    module: Any, state: eqx.nn.State | None = None, axis_name: Hashable = None
) -> tuple["EquinoxNetwork", PyTree]:
    """A network and its parameters from an equinox module with `BatchNorm`, `SpectralNorm`, `Dropout` and the like.

    The module is called as `module(point, state, key=key)`, under `jax.vmap` over the batch with a key of
    `jax.random.split(key, n)` for each point; without `state` where it keeps nothing, without `key` where it takes
    none. Inference mode is that of `equinox.nn.inference_mode`.

    Args:
        module: the module, its parameters all its floating arrays.
        state: what `equinox.nn.make_with_state` returned with it; `None`: the module's first state, if it holds one.
        axis_name: that of the batch, for layers that take means over it; `None`: what its `BatchNorm` layers say.

    Returns:
        `(network, parameters)`. The variables are an `equinox.nn.State`.

    Raises:
        TypeError: the module is no function, or the state is no `equinox.nn.State`.
        ValueError: the module needs a state and has none, or its `BatchNorm` layers name different axes.

    >>> import jax.numpy as jnp
    >>> make = eqx.nn.make_with_state(eqx.nn.BatchNorm)
    >>> network, parameters = from_equinox(*make(2, axis_name="batch", mode="batch"))
    >>> outputs, variables = network.apply(parameters, network.variables, jnp.eye(2), None)
    >>> outputs.shape, len(jax.tree.leaves(parameters)), len(jax.tree.leaves(variables))
    ((2, 2), 2, 3)
    """
    if not callable(module):
        raise TypeError(f"module is {module!r}; expected an equinox module that can be called")
    if state is not None and not isinstance(state, eqx.nn.State):
        raise TypeError(f"state is {state!r}; expected what equinox.nn.make_with_state returned, an equinox.nn.State")
    indices = [node for node in jax.tree.leaves(module, is_leaf=_is_index) if _is_index(node)]
    if indices and state is None:
        if not all(jax.tree.leaves(index.init) for index in indices):
            raise ValueError(
                f"the module, a {type(module).__name__}, keeps values between calls and its state is not here; pass "
                "both: from_equinox(*equinox.nn.make_with_state(Module)(...))"
            )
        module, state = eqx.nn.make_with_state(lambda: module)()
    elif indices:
        module = eqx.nn.delete_init_state(module)
    if axis_name is None:
        axis_name = _axis_of(module)
    parameters, rest = eqx.partition(module, eqx.is_inexact_array)
    variables = () if state is None else state
    takes_key = _takes_key(module)
    split = SplitModule(*eqx.partition(rest, eqx.is_array))
    return EquinoxNetwork(variables, split, axis_name, takes_key), parameters


class EquinoxNetwork(Network):
    """An equinox module without its parameters; made by `from_equinox`.

    Attributes:
        variables: its state, or `()`.
        module: the module without its parameters.
        axis_name: of the batch.
        takes_key: whether its call takes a key.
    """

    variables: PyTree
    module: SplitModule
    axis_name: Hashable = eqx.field(static=True)
    takes_key: bool = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        module, count = self.module.whole(parameters), len(jax.tree.leaves(batch)[0])
        keys = None if key is None or not self.takes_key else jax.random.split(key, count)

        def one(point: PyTree, own_key: PRNGKeyArray | None) -> tuple[PyTree, PyTree]:
            return self._called(module, variables, point, own_key)

        axes = 0, None if keys is None else 0
        return jax.vmap(one, in_axes=axes, out_axes=(0, None), axis_name=self.axis_name)(batch, keys)

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        return self._called(eqx.nn.inference_mode(self.module.whole(parameters)), variables, point, None)[0]

    def _called(self, module: Any, variables: PyTree, point: PyTree, key: PRNGKeyArray | None) -> tuple[PyTree, PyTree]:
        keywords = {"key": key} if self.takes_key else {}
        if not isinstance(variables, eqx.nn.State):
            return module(point, **keywords), variables
        # A copy: equinox makes a state unusable once a layer has updated it.
        return module(point, jax.tree.map(lambda leaf: leaf, variables), **keywords)


def _is_index(node: Any) -> bool:
    return isinstance(node, eqx.nn.StateIndex)


def _axis_of(module: Any) -> Hashable:
    """The name of the batch's axis that the module's `BatchNorm` layers give."""

    def is_norm(node: Any) -> bool:
        return isinstance(node, eqx.nn.BatchNorm)

    names = {node.axis_name for node in jax.tree.leaves(module, is_leaf=is_norm) if is_norm(node)}
    if len(names) > 1:
        raise ValueError(
            f"the module's BatchNorm layers take means over axes of the names {sorted(map(str, names))}; expected one "
            'name, e.g. axis_name="batch" in all of them'
        )
    return names.pop() if names else "batch"


def _takes_key(module: Any) -> bool:
    try:
        parameters = inspect.signature(module).parameters
    except (TypeError, ValueError):  # it has none
        return False
    return "key" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
