"""An update with other rates, whatever its optimisers are: what they return is multiplied."""

from collections.abc import Sequence
from typing import Any

import jax

from dynamics._checks import as_leaf
from dynamics.updates.base import Steppers, Update


def rescaled(update: Update, factors: Sequence[Any]) -> Update:
    """The same update with the step of every player's optimiser multiplied by a factor; a state serves both.

    For optimisers that multiply by their rate last (SGD, momentum, Adam, ...) this is another learning rate. It is the
    same with the wrapped parts of an update; extrapolation with rates of its own keeps these. Factors are array leaves:
    another one compiles nothing.

    Args:
        update: with an optimiser per player somewhere in it.
        factors: one per player.

    Raises:
        TypeError: there is no optimiser in the update.
        ValueError: not one factor per player.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> update = rescaled(Simultaneous(optax.sgd(0.5), optax.sgd(0.25)), (0.5, 2.0))
    >>> state = update.init(Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(2.0)))
    >>> [float(x) for x in update.step(Bilinear(1.0), state).players]
    [0.5, 2.5]
    """
    count = 0

    def with_factors(node: Any) -> Any:
        nonlocal count
        if not isinstance(node, Steppers):
            return node
        count += 1
        if len(factors) != len(node.optimisers):
            raise ValueError(f"{len(factors)} factors for {len(node.optimisers)} players; expected one per player")
        before = (1.0,) * len(factors) if node.factors is None else node.factors
        products = tuple(old * as_leaf(new) for old, new in zip(before, factors, strict=True))
        return Steppers(node.optimisers, node.projections, products)

    changed = jax.tree.map(with_factors, update, is_leaf=lambda node: isinstance(node, Steppers))
    if not count:
        raise TypeError(f"{type(update).__name__} has no optimiser of each player; expected e.g. Simultaneous")
    return changed
