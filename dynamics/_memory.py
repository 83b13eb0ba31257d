"""Whether there is memory for a result, before any of it is taken; imports nothing heavy."""

import contextlib
import functools
import math
import os
import pathlib

UNKNOWN = 2.0**36  # bytes of a machine that does not tell how many it has


@functools.cache
def memory() -> float:
    """Bytes of memory that this process may have at most: the machine's, or those of its control group."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no `sysconf`
        limits.append(float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(float(pathlib.Path("/sys/fs/cgroup", name).read_text()))
    return min((size for size in limits if size > 0), default=UNKNOWN)


def check_memory(what: str, count: int, each: float, fix: str) -> None:
    """Raise `ValueError` where so many things of so many bytes each need more memory than there is.

    Args:
        what: is asked for, e.g. `"a sweep of 1,000 cells"`; the beginning of the message.
        count: number of things; a Python integer, which does not overflow.
        each: bytes of one of them, at least.
        fix: what to do instead; the end of the message.
    """
    # In logarithms: a count may be larger than any floating-point number.
    needed = math.log2(max(count, 1)) + math.log2(each)
    if needed > math.log2(memory()):
        there = _bytes(math.log2(memory()))
        raise ValueError(f"{what} would take {_bytes(needed)} of memory or more, of which there are {there}; {fix}")


def counted(count: int) -> str:
    """A number of things for a message.

    >>> counted(20_000), counted(10**12)
    ('20,000', '1e+12')
    """
    if count < 10**9:
        return f"{count:,}"
    return f"{float(count):.3g}" if count < 10**300 else "more than 1e+300"


def _bytes(logarithm: float) -> str:
    """Two digits with a unit, from the logarithm to the base 2.

    >>> _bytes(43.3)
    '9.8 TiB'
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    place = min(int(max(logarithm, 0) // 10), len(units) - 1)
    size = 2.0 ** min(logarithm - 10 * place, 1000)
    return f"{size:.2g} {units[place]}" if size < 100 else f"{size:.3g} {units[place]}"
