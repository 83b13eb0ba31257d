"""The compiler of sweeps is there for speed alone: what it cannot do is left to `jax.vmap`, and one warning says so.

The environment variable `DYNAMICS_COMPILER=off` turns it off; at the level INFO the loggers below `dynamics.compiler`
say what became machine code and what did not.
"""

import contextlib
import contextvars
import os
import warnings
from collections.abc import Iterator

from dynamics.compiler import disk_cache, errors

VARIABLE = "DYNAMICS_COMPILER"

_collected: contextvars.ContextVar[list[BaseException] | None] = contextvars.ContextVar("collected", default=None)


class CompilerWarning(UserWarning):
    """Said when a sweep runs without its compiler, or a part of it: the numbers are right, and it takes longer."""


def is_wanted() -> bool:
    """Whether sweeps use their compiler: not with the environment variable `DYNAMICS_COMPILER=off`.

    Raises:
        ValueError: the variable is neither "on" nor "off", or `DYNAMICS_CACHE` is wrong (`disk_cache`).
    """
    disk_cache.wanted()
    value = os.environ.get(VARIABLE, "on")
    if value not in ("on", "off"):
        raise ValueError(f'the environment variable {VARIABLE} is {value!r}; expected "on" or "off", or none of it')
    return value == "on"


def report(error: BaseException) -> None:
    """Say that something is not compiled: at the end of a `reported_once`, or at once where there is none."""
    collected = _collected.get()
    if collected is None:
        _warn([error])
    else:
        collected.append(error)


@contextlib.contextmanager
def reported_once(warned: set) -> Iterator[None]:
    """Gather what is reported into one warning, and none if there was one before.

    Args:
        told: by whom it is remembered that there was one.
    """
    token = _collected.set([])
    try:
        yield
        collected = _collected.get()
    finally:
        _collected.reset(token)
    if collected and CompilerWarning not in warned:
        warned.add(CompilerWarning)
        _warn(collected)


def _warn(collected: list[BaseException]) -> None:
    first = collected[0]
    text = " ".join(errors.text(first).split())
    text = text if len(text) <= 300 else f"{text[:297]}..."
    more = f" (and {len(collected) - 1} more)" if len(collected) > 1 else ""
    warnings.warn(
        f"a sweep is not compiled, or only in part, which makes it slower and does not change what is computed: "
        f"{type(first).__name__}: {text}{more}; {VARIABLE}=off turns the compiler off, and this warning with it",
        CompilerWarning,
        stacklevel=2,
    )
