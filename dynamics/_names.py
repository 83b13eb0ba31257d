"""The nearest valid name, for messages; imports nothing heavy, so that bad input is refused without waiting for JAX."""

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 100  # letters of a name that are compared: the time goes with the square of the length


def nearest(name: str, names: Iterable[Any]) -> str:
    """A clause `; did you mean 'X'?` with the closest valid name, or the list of names when none is close.

    >>> nearest("dirac_gan", ["Bilinear", "DiracGAN"])
    "; did you mean 'DiracGAN'?"
    """
    name = name[:LONGEST]
    names = sorted(str(valid) for valid in names)
    lowered = {valid.lower(): valid for valid in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lowered[close[0]]!r}?"
    return f"; expected one of {', '.join(names)}" if names else ""
