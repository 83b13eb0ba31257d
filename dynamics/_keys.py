"""Random keys for batches of runs: a run's numbers may not depend on how many others run beside it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PRNGKeyArray, UInt32

Keys = Key[Array, " count"] | UInt32[Array, "count 2"]  # several, as jax.random.split makes them

# Under `jax.vmap` the generators "rbg" and "unsafe_rbg" draw one stream for the whole batch, from its first key.
DRAWN_TOGETHER = ("rbg", "unsafe_rbg")
DRAWN_ALONE = "threefry2x32"


def key_of(seed: Any) -> PRNGKeyArray:
    """The key of a seed, whose numbers are the same in every batch, whatever JAX's default generator is."""
    return jax.random.key(seed, impl=DRAWN_ALONE)


def for_batches(key: PRNGKeyArray) -> PRNGKeyArray:
    """The key itself, or where its numbers would depend on the batch, a threefry key made of it."""
    if str(jax.random.key_impl(key)) not in DRAWN_TOGETHER:
        return key
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(key) if typed else key
    first, second = jax.random.wrap_key_data(data.reshape(2, 2), impl=DRAWN_ALONE)
    return jax.random.fold_in(first, jax.random.bits(second))
