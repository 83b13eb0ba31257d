"""The only file of the library that touches what JAX may change without notice.

That is `jax.extend`, `jax.interpreters`, `jax.ffi`, the parameters of primitives that hold other programs, and what is
recorded of where an equation comes from. Everything else in the library reads a jaxpr through `jaxpr.eqns`,
`eqn.primitive.name`, `eqn.params`, `eqn.invars`, `eqn.outvars` and `variable.aval` alone.

Each name says in which versions of JAX it is there: 0.10.2 and 0.12.0.1 are tested, 0.11.2 in part; the rest is read
from its source. What is missing is missing when it is used, not when this file is imported: a sweep then runs without
its compiler (`fallback`).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.extend
import jaxlib

try:
    from jax.interpreters import mlir
except ImportError:  # then nothing is compiled: no lowering can be registered
    mlir: Any = None
try:
    from jax.interpreters import ad, batching
except ImportError:
    ad: Any = None
    batching: Any = None

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Primitive, Var
else:  # for annotations only
    ClosedJaxpr = Jaxpr = JaxprEqn = Primitive = Var = Any

# The first and the last jaxlib with which machine code has been run: by the suite with 0.10.2 and 0.12.0.1, by the
# tests of every operation with 0.11.2.
TESTED = (0, 10), (0, 12)

# Primitives that call a program, and the parameter that holds it. In 0.10.2, 0.11.2 and 0.12.0.1 there are `jit`,
# `remat2`, `custom_jvp_call` and `custom_vjp_call`; in 0.10.2 also `closed_call`. The others are older names.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "call_with_faster_twin": "plain",  # ours: `twins.py`
}
# Primitives whose outputs are their inputs. In all three versions, but for `copy_p`, an older name of `copy`.
SAME = {"copy", "copy_p", "device_put", "optimization_barrier", "reshard", "sharding_constraint", "stop_gradient"}


# Jaxprs: in 0.10.2 `ClosedJaxpr` is a pair of a `Jaxpr` and constants; from 0.11 on there is one class, which is always
# closed, with `jaxpr` being itself.


def is_literal(atom: Any) -> bool:
    """Whether an input of an equation is a number written there (`jax.extend.core.Literal`); else it is a variable."""
    return hasattr(atom, "val")


def is_closed(program: Any) -> bool:
    """Whether something is a `ClosedJaxpr`: a jaxpr with the values of its constants."""
    return hasattr(program, "jaxpr") and hasattr(program, "consts")


def opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr, and the values of its constants; of an open one these are inputs, and there are no values."""
    return (program.jaxpr, program.consts) if is_closed(program) else (program, ())


def closed_jaxpr(jaxpr: Any, constants: Sequence[Any]) -> Any:
    """A jaxpr with the values of its constants (0.10.2, 0.11.2, 0.12.0.1)."""
    return jax.extend.core.ClosedJaxpr(jaxpr, constants)


def with_outputs(closed: Any, outputs: Sequence[Any]) -> Any:
    """A closed jaxpr with other variables of it as its outputs.

    Without `debug_info`, `replace` forgets the names of arguments and results (0.10.2, 0.11.2, 0.12.0.1).
    """
    jaxpr = closed.jaxpr
    return closed_jaxpr(jaxpr.replace(outvars=list(outputs), debug_info=jaxpr.debug_info), closed.consts)


def jaxpr_as_fun(closed: Any) -> Callable[..., list[Any]]:
    """A closed jaxpr as a function of arrays (0.10.2, 0.11.2, 0.12.0.1)."""
    return jax.extend.core.jaxpr_as_fun(closed)


def subjaxprs(eqn: Any) -> list[Any]:
    """The (open) jaxprs that an equation holds, of whatever primitive: any parameter that is one, or a tuple of them.

    As `jax.extend.core.jaxprs_in_params` (0.10.2, 0.11.2, 0.12.0.1), which is not needed for it.
    """
    parts = [part for value in eqn.params.values() for part in (value if isinstance(value, tuple) else (value,))]
    return [opened(part)[0] for part in parts if hasattr(part, "eqns")]


def bind(eqn: Any, arrays: Any) -> list[Any]:
    """The outputs of an equation for these inputs.

    `ctx.manager` sets what was configured when the equation was traced (compute types, the mesh); `get_bind_params`
    turns programs in the parameters back into functions, where a primitive wants such. So does JAX's own `eval_jaxpr`
    (0.10.2, 0.11.2, 0.12.0.1).
    """
    with eqn.ctx.manager:
        outputs = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


# Equations that hold programs: the names of their parameters


def called(eqn: Any) -> Any:
    """The program, open or closed, that an equation calls, or `None` if it calls none."""
    parameter = CALLS.get(eqn.primitive.name)
    return None if parameter is None else eqn.params.get(parameter)


def checkpoint_options(eqn: Any) -> dict[str, Any] | None:
    """The options of an equation that is a `jax.checkpoint`, `None` of any other (0.10.2)."""
    if eqn.primitive.name not in ("remat2", "checkpoint"):
        return None
    return {name: eqn.params[name] for name in ("policy", "prevent_cse") if name in eqn.params}


def called_name(eqn: Any) -> str | None:
    """The name of the function that an equation of `jax.jit` calls (0.10.2, 0.11.2, 0.12.0.1)."""
    return eqn.params.get("name")


class While(NamedTuple):
    """A `while` equation; in its inputs come the constants of the condition, those of the body, and what is carried."""

    condition: Any
    body: Any
    condition_constants: int
    body_constants: int

    @staticmethod
    def of(eqn: Any) -> "While":
        """From an equation (0.10.2, 0.11.2, 0.12.0.1)."""
        params = eqn.params
        return While(params["cond_jaxpr"], params["body_jaxpr"], params["cond_nconsts"], params["body_nconsts"])

    def split(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants of the condition, constants of the body, and what is carried."""
        first, second = self.condition_constants, self.condition_constants + self.body_constants
        return list(inputs[:first]), list(inputs[first:second]), list(inputs[second:])


class Scan(NamedTuple):
    """A `scan` equation; in its inputs come constants, what is carried, and arrays of which each iteration gets a row.

    Attributes:
        body: the program, closed.
        constants, carries: how many inputs are such.
        length, reverse, unroll: as of `jax.lax.scan`.
    """

    body: Any
    constants: int
    carries: int
    length: int
    reverse: bool
    unroll: int

    @staticmethod
    def of(eqn: Any) -> "Scan":
        """From an equation. The counts by the shapes: a row has an axis less in the body.

        In 0.10.2 they are `num_consts` and `num_carry`; in 0.11.2 and 0.12.0.1 they are in trees, `ft_in` and `ft_out`.
        """
        params = eqn.params
        jaxpr = params["jaxpr"].jaxpr
        rows = [a.aval.ndim > b.aval.ndim for a, b in zip(eqn.invars, jaxpr.invars, strict=True)]
        stacked = [a.aval.ndim > b.aval.ndim for a, b in zip(eqn.outvars, jaxpr.outvars, strict=True)]
        carries = len(stacked) - sum(stacked)
        constants = len(rows) - sum(rows) - carries
        return Scan(params["jaxpr"], constants, carries, params["length"], params["reverse"], params["unroll"])

    def split(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, what is carried, and arrays of rows."""
        first, second = self.constants, self.constants + self.carries
        return list(inputs[:first]), list(inputs[first:second]), list(inputs[second:])


def branches(eqn: Any) -> Sequence[Any]:
    """The closed jaxprs of a `cond` equation, whose first input is the number of the one taken (all three versions)."""
    return eqn.params["branches"]


# Where an equation comes from


def function_source(eqn: Any) -> str | None:
    """Name and place of the function that an equation calls, as "name at file:line", where it is recorded.

    `debug_info.func_src_info` in 0.10.2, 0.11.2 and 0.12.0.1; without it nothing is known.
    """
    information = getattr(next(iter(subjaxprs(eqn)), None), "debug_info", None)
    return getattr(information, "func_src_info", None)


def frames(eqn: Any) -> Iterator[str]:
    """Names of the files in which an equation was made, the innermost first, where they are recorded.

    `source_info.traceback.frames` in 0.10.2; without it nothing is known.
    """
    traceback = getattr(eqn.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", ()):
        yield frame.file_name


# Primitives of our own, and how they are lowered


def new_primitive(name: str, shapes: Callable[..., list[Any]]) -> Any:
    """A primitive with several results (all three versions). Called outside of `jax.jit` it is compiled by itself.

    Args:
        name: under which it is printed.
        shapes: from avals and parameters to the avals of the results.
    """
    primitive = jax.extend.core.Primitive(name)
    primitive.multiple_results = True
    primitive.def_abstract_eval(shapes)
    primitive.def_impl(lambda *arrays, **params: jax.jit(lambda *arrays: primitive.bind(*arrays, **params))(*arrays))
    return primitive


def register_lowering(primitive: Any, rule: Callable[..., Any], platform: str | None = None) -> None:
    """Say how XLA gets a primitive, by a rule of the context, the operands and the parameters (all three versions)."""
    mlir.register_lowering(primitive, rule, platform=platform)


def register_derivative(primitive: Any, rule: Callable[..., Any]) -> None:
    """Say what the results and their tangents are, by a rule of inputs, tangents (arrays) and the parameters.

    `jax.interpreters.ad` (0.10.2, 0.11.2, 0.12.0.1).
    """

    def with_arrays(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        return rule(primals, tuple(map(ad.instantiate_zeros, tangents)), **params)

    ad.primitive_jvps[primitive] = with_arrays


def register_batching(primitive: Any, rule: Callable[..., Any]) -> None:
    """Say what `jax.vmap` makes of it, by a rule of arrays, their axes (or `None`) and the parameters.

    `jax.interpreters.batching` (0.10.2, 0.11.2, 0.12.0.1).
    """
    batching.primitive_batchers[primitive] = rule


def lower_function(context: Any, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    """Within a rule: what a traceable function with several results is (all three versions)."""
    return mlir.lower_fun(function, multiple_results=True)(context, *arrays)


# XLA's interface of foreign functions: `jax.ffi` is public (0.10.2, 0.11.2, 0.12.0.1)


def ffi_include_directory() -> str:
    """Where the C headers of the interface lie; not every way to install JAX brings them."""
    return jax.ffi.include_dir()


def jaxlib_version() -> str:
    """Of the installed jaxlib, which holds XLA."""
    return jaxlib.__version__


def is_tested_jaxlib() -> bool:
    """Whether the machine code of sweeps has been run with this jaxlib, by its first two numbers."""
    numbers = re.match(r"(\d+)\.(\d+)", jaxlib_version())
    return numbers is not None and TESTED[0] <= (int(numbers[1]), int(numbers[2])) <= TESTED[1]


def ffi_extension_names() -> tuple[str, ...]:
    """What the structure of extensions is called in that header: the first from 0.11 on, the second in 0.10.2."""
    return "XLA_FFI_InternalExtension", "XLA_FFI_Extension_Base"


def register_ffi_target(name: str, capsule: Any, platform: str) -> None:
    """Give a function a name for XLA."""
    jax.ffi.register_ffi_target(name, capsule, platform=platform)


def lower_ffi_call(context: Any, name: str, arrays: Sequence[Any]) -> Any:
    """Within a rule: a call of a function that has been registered."""
    return jax.ffi.ffi_lowering(name)(context, *arrays)


def lower_ptx_call(context: Any, name: str, ptx: str, blocks: int, threads: int, arrays: Sequence[Any]) -> Any:
    """Within a rule for CUDA: a launch of a kernel, whose parameters are pointers to the inputs, then to the outputs.

    It is XLA's own custom call: XLA hands PTX to the driver, and launches the kernel on its stream. Nothing promises
    it; `dynamics.compiler.nvptx.first_use` looks whether it works. In the CUDA plugins of 0.10.2, 0.11.2 and 0.12.0.1;
    read in XLA's source, where `xla/service/gpu/kernel_call.cc` has the attributes.
    """
    attributes = dict(name=name, kernel_type="ptx", kernel_data=ptx, shared_mem_bytes=0)
    attributes |= dict(grid_x=blocks, grid_y=1, grid_z=1, block_x=threads, block_y=1, block_z=1)
    return jax.ffi.ffi_lowering("__gpu$xla.gpu.ptx")(context, *arrays, **attributes)
