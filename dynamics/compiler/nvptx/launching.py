"""Kernels in the programs of XLA: which programs become one, and how it is launched."""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from dynamics.compiler._jax import ClosedJaxpr, lower_ptx_call, new_primitive, register_lowering
from dynamics.compiler.errors import Unavailable, Unsupported
from dynamics.compiler.jaxprs import has_loops
from dynamics.compiler.nvptx import first_use
from dynamics.compiler.nvptx.kernel import ARCHITECTURE, compiled
from dynamics.compiler.nvptx.size import check_size


def lower(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int) -> tuple[str, Any]:
    """Within a rule for CUDA: the name of a program's kernel, and what it is to XLA.

    Args:
        context, arrays: those of the rule.
        program: the program.
        batch_size: the last axis of every array whose last axis is as long is that of the games.

    Raises:
        Unsupported: the program is better left to XLA, or has an operation without a rule.
        Unavailable: at the first use of a kernel in this process something was wrong.
    """
    if not has_loops(program.jaxpr):  # XLA makes as good kernels of it, and cuts it where registers are few
        raise Unsupported("a program without a loop")
    check_size(program.jaxpr, batch_size)
    wrong = _problem()
    if wrong is not None:
        raise Unavailable(wrong)
    return _launched(context, arrays, program, batch_size)


def _launched(context: Any, arrays: Sequence[Any], program: ClosedJaxpr, batch_size: int) -> tuple[str, Any]:
    kernel = compiled(program, batch_size, _architecture())
    return kernel.name, lower_ptx_call(context, *kernel, arrays)


def _lower_always(context, *arrays, program, batch_size):
    return _launched(context, arrays, program, batch_size)[1]


# For the look at the first use, which is no matter of falling back.
_in_kernel = new_primitive("games_in_a_kernel", lambda *avals, program, batch_size: list(program.out_avals))
register_lowering(_in_kernel, _lower_always, platform="cuda")


def in_kernel(program: ClosedJaxpr, batch_size: int, *arrays: Any) -> list[Any]:
    """The results of a program in a kernel; nothing else is tried."""
    return _in_kernel.bind(*arrays, program=program, batch_size=batch_size)


def _devices() -> list[Any]:
    """The GPUs of this process, one of each kind; none where a program is only lowered for others."""
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:
        return []
    return list({device.device_kind: device for device in devices}.values())


@functools.cache
def _problem() -> str | None:
    """What is wrong with kernels in this process, by a look at the first use."""
    problems = (first_use.problem(in_kernel, device) for device in _devices())
    return next((one for one in problems if one is not None), None)


@functools.cache
def _architecture() -> str:
    """For which GPUs kernels are compiled: those of this process may be older than most."""
    known = [getattr(device, "compute_capability", None) for device in _devices()]
    numbers = [int(str(one).replace(".", "")) for one in known if one is not None]
    return min([ARCHITECTURE, *(f"sm_{number}" for number in numbers)], key=lambda name: int(name[3:]))
