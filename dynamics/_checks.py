"""Input validation: every message shows the value, what was expected and the fix."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike

Numbers = ArrayLike | Sequence[Any]  # what makes an array: a number, an array, or lists of these


def as_leaf(value: Any) -> Any:
    """Turn a number into an array leaf; Python numbers follow the players' dtype (weakly typed)."""
    known = (int, float, complex, list, tuple, np.generic, np.ndarray, jax.Array)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, known):
        kind = type(value).__name__
        raise TypeError(f"got {value!r}, of type {kind}; expected a number. Pass a number or an array.")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        value = float(value)
    array = jnp.asarray(value)
    return array * 1.0 if jnp.issubdtype(array.dtype, jnp.integer) else array


def is_concrete(value: Any) -> bool:
    """True when the numbers can be looked at, i.e. outside `jit`, `vmap` and the like."""
    if isinstance(value, jax.Array):
        return not isinstance(value, Tracer)
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def check_number(
    owner: Any,
    name: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> None:
    """Raise `ValueError` unless the field `name` of `owner` is one finite number within the bounds.

    Bounds are checked only where the number is known, that is, not while tracing.
    """
    value = getattr(owner, name)
    label = f"{type(owner).__name__}.{name}"
    dtype = value.dtype if isinstance(value, jax.Array) else jnp.result_type(value)
    if jnp.shape(value) != ():
        raise ValueError(
            f"{label} has shape {jnp.shape(value)}; expected one number. "
            "For many values at once use jax.vmap over the constructor."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{label} has dtype {dtype}; expected a real number.")
    if not is_concrete(value):
        return
    number = float(value)
    expected = []
    wrong = not np.isfinite(number)
    for bound, text, fails in (
        (minimum, ">=", lambda b: number < b),
        (above, ">", lambda b: number <= b),
        (maximum, "<=", lambda b: number > b),
        (below, "<", lambda b: number >= b),
    ):
        if bound is not None:
            expected.append(f"{text} {bound:g}")
            wrong = wrong or fails(bound)
    if wrong:
        requirement = "a finite number" + (" " + " and ".join(expected) if expected else "")
        raise ValueError(f"{label} is {number:g}; expected {requirement}." + (f" {hint}" if hint else ""))


def as_rates(rates: Any, players: int | None, name: str) -> tuple[jax.Array, ...]:
    """One rate per player as array leaves, from one number for all or one per player.

    Raises:
        ValueError: a wrong number of rates, or a rate that is negative or not finite.

    >>> len(as_rates(0.1, 3, "rates"))
    3
    """
    several = isinstance(rates, (tuple, list)) or jnp.ndim(rates) > 0
    leaves = tuple(as_leaf(rate) for rate in rates) if several else (as_leaf(rates),) * (players or 1)
    if players is not None and len(leaves) != players:
        raise ValueError(f"{name} has {len(leaves)} rates for {players} players; expected one number or one per player")
    for rate in leaves:
        if jnp.shape(rate) != ():
            raise ValueError(f"{name} has a rate of shape {jnp.shape(rate)}; expected numbers")
        if is_concrete(rate) and not 0 <= float(rate) < np.inf:
            raise ValueError(f"{name} has the rate {float(rate):g}; expected finite numbers >= 0")
    return leaves


def check_whole(owner: Any, name: str, minimum: int = 1) -> None:
    """Raise `ValueError` unless the field `name` of `owner` is a Python whole number, at least `minimum`."""
    value = getattr(owner, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(
            f"{type(owner).__name__}.{name} is {value!r}; expected a whole number >= {minimum}, e.g. {minimum + 4}"
        )


def as_whole(name: str, value: Any, minimum: int = 1) -> int:
    """A whole number, Python's or NumPy's, as a Python one, on which a compiled program may depend.

    Raises:
        ValueError: it is none, or less than `minimum`.

    >>> as_whole("steps", np.int64(5))
    5
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name} is {value!r}; expected a whole number >= {minimum}")
    return int(value)


def check_kind(owner: Any, name: str, kind: type, example: str) -> None:
    """Raise `TypeError` unless the field `name` of `owner` is `None` or an instance of `kind`."""
    value = getattr(owner, name)
    if value is not None and not isinstance(value, kind):
        label = f"{type(owner).__name__}.{name}"
        raise TypeError(f"{label} is {value!r}; expected a {kind.__name__}, e.g. {example}")


def check_finite(tree: Any, label: str) -> None:
    """Raise `ValueError` when a leaf that can be looked at holds NaN or an infinity."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and is_concrete(leaf):
            values = np.asarray(leaf)
            wrong = ~np.isfinite(values)
            if wrong.any():
                raise ValueError(
                    f"{label}{jax.tree_util.keystr(path)} holds {values[wrong].ravel()[0]} ({wrong.sum()} of "
                    f"{wrong.size} entries are not finite); expected finite numbers. Drop or repair them."
                )


_COLLECTIONS = ("batch_stats", "BatchStat", "spectral_norm")  # where other libraries of networks keep such memory


def check_no_memory(tree: Any, label: str) -> None:
    """Raise `TypeError` when a layer of the tree keeps values from call to call: as parameters they would be trained.

    That is every `equinox.nn.StateIndex` that holds its first value (running means of `BatchNorm`, vectors of
    `SpectralNorm`), an `equinox.nn.State`, and Flax's collections of batch statistics.
    """

    numbers = (int, float, np.generic, np.ndarray, jax.Array)
    if isinstance(tree, tuple) and all(isinstance(one, numbers) for one in tree):
        return  # no layers, and looking for them takes a while

    def holds_memory(node: Any) -> bool:
        kinds = {base.__name__ for base in type(node).__mro__}
        return isinstance(node, (eqx.nn.StateIndex, eqx.nn.State)) or bool(kinds.intersection(_COLLECTIONS))

    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=holds_memory):
        known = [i for i, key in enumerate(path) if getattr(key, "key", getattr(key, "name", None)) in _COLLECTIONS]
        if not known and not (holds_memory(node) and jax.tree.leaves(node)):
            continue
        layer = path[: known[0] + 1] if known else path[:-1] if isinstance(node, eqx.nn.StateIndex) else path
        owner = type(_at(tree, layer)).__name__
        raise TypeError(
            f"{label}{jax.tree_util.keystr(layer)}, a {owner}, keeps values from one call to the next (at "
            f"{label}{jax.tree_util.keystr(path)}): running means, or the vectors of a power iteration. They are no "
            "parameters: as part of a player they would be trained. Make the network and its parameters with "
            "dynamics.networks.from_equinox (from_nnx, from_linen, from_haiku), and a dynamics.GAN keeps the values; "
            "in a game of your own use a layer without such memory (LayerNorm, GroupNorm, WeightNorm), or hold the "
            "values fixed inside the loss function."
        )


def _at(tree: Any, path: Any) -> Any:
    """The node of a tree at a path."""
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        elif isinstance(key, (jax.tree_util.DictKey, jax.tree_util.SequenceKey)):
            tree = tree[key.key if isinstance(key, jax.tree_util.DictKey) else key.idx]
        else:  # a node of somebody's own kind
            return tree
    return tree


def check_arrays(tree: Any, label: str, expected: str) -> None:
    """Raise `TypeError` unless this is a pytree of real numbers or arrays of them, one or more; traced ones too."""
    leaves = jax.tree.leaves(tree)
    kinds = (int, float, np.generic, np.ndarray, jax.Array)
    wanted = (jnp.bool_, jnp.integer, jnp.floating)

    def is_real(leaf: Any) -> bool:
        dtype = getattr(leaf, "dtype", np.dtype(type(leaf)) if isinstance(leaf, kinds) else np.dtype(object))
        return isinstance(leaf, kinds) and any(jnp.issubdtype(dtype, kind) for kind in wanted)

    if not leaves or not all(map(is_real, leaves)):
        hint = " Is a `return` missing?" if tree is None else ""
        raise TypeError(f"{label} {described(tree)}; expected {expected}.{hint}")


def described(value: Any) -> str:
    """A value in a message: arrays, traced ones too, by shape and dtype, trees by their entries, the rest as it prints.

    >>> described((jnp.ones(2), None, "text", {"a": 1}))
    "(array of shape (2,), float64; None; 'text'; a dict with the entries 'a')"
    """
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return f"array of shape {value.shape}, {value.dtype}"
    if isinstance(value, dict):
        names = ", ".join(repr(name) for name in list(value)[:4])
        return f"a {type(value).__name__} with the entries {names}{', ...' if len(value) > 4 else ''}"
    if isinstance(value, (tuple, list)):
        inner = "; ".join(described(entry) for entry in value[:4]) + ("; ..." if len(value) > 4 else "")
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (a {type(value).__name__})"
