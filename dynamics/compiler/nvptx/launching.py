"""Kernels in the programs of XLA: which programs become one, and how it is launched.

There are two ways to launch one: XLA's own custom call for PTX, and a foreign function that asks CUDA's driver
(`driver`). At the first use in a process they are looked at in this order (`first_use`), and the first one that works
is used for all; if neither does, all is left to plain XLA.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from dynamics.compiler._jax import ClosedJaxpr, lower_ptx_call, new_primitive, register_lowering
from dynamics.compiler.errors import Unavailable, Unsupported
from dynamics.compiler.jaxprs import has_loops
from dynamics.compiler.nvptx import driver, first_use
from dynamics.compiler.nvptx.kernel import ARCHITECTURE, Kernel, compiled
from dynamics.compiler.nvptx.size import check_size

logger = logging.getLogger(__name__)


class Way(NamedTuple):
    """How a kernel is launched.

    Attributes:
        name: for messages.
        lower: within a rule for CUDA: what a kernel is to XLA.
    """

    name: str
    lower: Callable[[Any, Kernel, Sequence[Any]], Any]


def _by_xla(context: Any, kernel: Kernel, arrays: Sequence[Any]) -> Any:
    return lower_ptx_call(context, *kernel, arrays)


WAYS = Way("XLA's call for PTX", _by_xla), Way("CUDA's driver", driver.lower)


def lower(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int) -> tuple[str, Any]:
    """Within a rule for CUDA: the name of a program's kernel, and what it is to XLA.

    Args:
        context, arrays: those of the rule.
        program: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.

    Raises:
        Unsupported: the program is better left to XLA, or has an operation without a rule.
        Unavailable: at the first use of a kernel in this process something was wrong with every way to launch one.
    """
    if not has_loops(program.jaxpr):  # XLA makes as good kernels of it, and cuts it where registers are few
        raise Unsupported("a program without a loop")
    check_size(program.jaxpr, batch_size)
    way, wrong = _chosen()
    if way is None:
        raise Unavailable(wrong)
    return _launched(context, arrays, program, batch_size, way)


def _launched(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int, way: Way) -> tuple[str, Any]:
    kernel = compiled(program, batch_size, _architecture())
    return kernel.name, way.lower(context, kernel, arrays)


def _lower_always(context, *arrays, program, batch_size, way):
    return _launched(context, arrays, program, batch_size, way)[1]


# For the look at the first use, which is no matter of falling back.
_in_kernel = new_primitive("games_in_a_kernel", lambda *avals, program, batch_size, way: list(program.out_avals))
register_lowering(_in_kernel, _lower_always, platform="cuda")


def in_kernel(way: Way, program: ClosedJaxpr, batch_size: int, *arrays: Any) -> list[Any]:
    """The results of a program in a kernel that is launched in this way; nothing else is tried."""
    return _in_kernel.bind(*arrays, program=program, batch_size=batch_size, way=way)


def _devices() -> list[Any]:
    """The GPUs of this process, one of each kind; none where a program is only lowered for others."""
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:
        return []
    return list({device.device_kind: device for device in devices}.values())


@functools.cache
def _chosen() -> tuple[Way | None, str]:
    """The first way that works in this process, by a look at the first use; else `None`, and what is wrong with all."""
    wrong = []
    for way in WAYS:
        looks = (first_use.problem(functools.partial(in_kernel, way), device) for device in _devices())
        problem = next((one for one in looks if one is not None), None)
        if problem is None:
            if wrong:
                logger.warning("kernels are launched by %s, as %s", way.name, "; ".join(wrong))
            return way, ""
        wrong.append(f"{problem} (launched by {way.name})")
    return None, "; ".join(wrong)


@functools.cache
def _architecture() -> str:
    """For which GPUs kernels are compiled: those of this process may be older than most."""
    known = [getattr(device, "compute_capability", None) for device in _devices()]
    numbers = [int(str(one).replace(".", "")) for one in known if one is not None]
    return min([ARCHITECTURE, *(f"sm_{number}" for number in numbers)], key=lambda name: int(name[3:]))
