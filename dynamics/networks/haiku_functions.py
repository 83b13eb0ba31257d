"""Functions transformed by Haiku."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._extras import optional
from dynamics.networks.network import Keywords, Network, as_keywords


def from_haiku(
    transformed: Any,
    params: PyTree,
    state: PyTree = None,
    *,
    training: Mapping[str, Any] | None = None,
    inference: Mapping[str, Any] | None = None,
) -> tuple["HaikuNetwork", PyTree]:
    """A network and its parameters from a function that Haiku has transformed.

    It is called on a whole batch, `transformed.apply(params, state, key, batch, **training)`; in inference mode on a
    batch of one point, with `**inference`. What `hk.transform` returned, without state, is fine too.

    Args:
        transformed: what `haiku.transform_with_state` returned.
        params, state: what its `init` returned.
        training, inference: keyword arguments of the function for either mode, e.g. `{"is_training": True}` and
            `{"is_training": False}`; Haiku's layers learn the mode from nowhere else.

    Returns:
        `(network, parameters)`.

    Raises:
        ImportError: Haiku is not installed.
        TypeError: the function is not transformed.
        ValueError: it keeps values between calls, and `state` is missing.
    """
    haiku = optional("haiku", "haiku", "from_haiku")
    if isinstance(transformed, haiku.Transformed):
        transformed, state = haiku.with_empty_state(transformed), {}
    if not isinstance(transformed, haiku.TransformedWithState):
        raise TypeError(f"transformed is {transformed!r}; expected what haiku.transform_with_state(function) returned")
    if state is None:
        raise ValueError(
            "state is missing; pass both that init returned: params, state = transformed.init(key, batch), then "
            "from_haiku(transformed, params, state)"
        )
    state = jax.tree.map(jnp.asarray, state)
    return HaikuNetwork(state, transformed.apply, as_keywords(training), as_keywords(inference)), params


class HaikuNetwork(Network):
    """A function that Haiku has transformed; made by `from_haiku`."""

    variables: PyTree
    function: Any = eqx.field(static=True)
    training: Keywords = eqx.field(static=True)
    inference: Keywords = eqx.field(static=True)

    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        return self.function(parameters, variables, key, batch, **dict(self.training))

    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        batch = jax.tree.map(lambda leaf: leaf[None], point)
        outputs, _ = self.function(parameters, variables, None, batch, **dict(self.inference))
        return jax.tree.map(lambda leaf: leaf[0], outputs)
