"""Checks at the door: every message shows the value, what was expected and the fix."""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_leaf(value: Any) -> Any:
    """Turn a number into an array leaf; Python numbers stay weakly typed, so that they follow the players' dtype."""
    if isinstance(value, bool):
        raise TypeError(f"expected a number, got the boolean {value!r}")
    if isinstance(value, int):
        value = float(value)
    if isinstance(value, np.generic):
        value = value.item()
    return jnp.asarray(value)


def is_concrete(value: Any) -> bool:
    """True when the numbers can be looked at, i.e. outside `jit`, `vmap` and the like."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


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
    if jnp.shape(value) != ():
        raise ValueError(
            f"{label} has shape {jnp.shape(value)}; expected one number. "
            "For many values at once use jax.vmap over the constructor."
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(f"{label} has dtype {jnp.result_type(value)}; expected a real number.")
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


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause `; did you mean 'X'?` with the closest valid name, or the list of names when none is close."""
    names = sorted(names)
    lowered = {valid.lower(): valid for valid in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lowered[close[0]]!r}?"
    return f"; expected one of {', '.join(names)}"
