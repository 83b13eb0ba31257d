"""A program as one kernel of a GPU (`jax.experimental.pallas`, compiled by Triton), over blocks of games.

It reads every array once and writes every result once. Triton under Pallas is deprecated from JAX 0.11 on, and Mosaic,
its successor, knows no float64. Where it is gone, or fails, the same program is compiled as plain XLA, and a warning is
logged.
"""

import logging
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics.compiler._jax import ClosedJaxpr, jaxpr_as_fun, lower_function, new_primitive, register_lowering
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.gpu.arrays import Games, Memory, Value, objects
from dynamics.compiler.gpu.interpreter import LARGEST_STORE, Rewriter
from dynamics.compiler.gpu.scalars import FUSED, TRITON_NUMBERS, WIDENED, Numbers

logger = logging.getLogger(__name__)

LARGEST_ARRAY = 64  # entries of an array that are read into registers


class Plan(NamedTuple):
    """What the kernel of a program needs besides its inputs.

    Attributes:
        constants: arrays that are read along the way.
        stores: shapes and types of what is written along the way.
        outputs: for every result the known array, the number of its store, or `None`.
    """

    constants: list[np.ndarray]
    stores: list[tuple[tuple[int, ...], np.dtype]]
    outputs: list[np.ndarray | int | None]


def _rewritten(
    closed: ClosedJaxpr, games: int, lanes: int, load: Callable[[int, Any], Any], constant, store, fuse=None
) -> tuple[Rewriter, list[Value]]:
    """Evaluate a program on entries that are loaded by (input, place)."""
    rewriter = Rewriter(Games(games, Numbers(lanes, fuse)), constant, store)
    inputs = []
    for number, variable in enumerate(closed.jaxpr.invars):
        shape, kind = variable.aval.shape, np.dtype(variable.aval.dtype)
        if kind not in TRITON_NUMBERS | WIDENED:
            raise Unsupported(f"numbers of type {kind}")
        small, memory, data = rewriter.games.small(shape), None, None
        if small and rewriter.games.axis(shape) != 0:

            def row(at: Any, number=number, inner=small[1:]) -> np.ndarray:
                size = math.prod(inner)
                return _filled(inner, lambda place: load(number, at * size + place))

            memory = Memory(row, small[0])
        if math.prod(small) <= LARGEST_ARRAY:
            data = _filled(small, partial(load, number))
        inputs.append(Value(data, shape, memory))
    found = rewriter.closed(closed, inputs)
    for value in found:
        if value.data is None and value.stored is None:
            raise Unsupported("a result that stays in memory, or that depends on the block")
        if value.data is not None and value.data.size > LARGEST_STORE:
            raise Unsupported(f"a result of more than {LARGEST_STORE} numbers per game")
    return rewriter, found


def _filled(shape: tuple[int, ...], entry: Callable[[int], Any]) -> np.ndarray:
    data = np.empty(shape, object)
    for number, place in enumerate(np.ndindex(shape)):
        data[place] = entry(number)
    return data


def _stored_type(kind: Any) -> np.dtype:
    return np.dtype(np.int32) if np.dtype(kind) in WIDENED else np.dtype(kind)


def _narrowed(entry: Any, kind: Any) -> Any:
    if np.dtype(kind) == bool:
        return jax.lax.ne(entry, jnp.zeros_like(entry))
    return entry if np.dtype(kind) == entry.dtype else jax.lax.convert_element_type(entry, kind)


def _widened(entry: Any) -> Any:
    wanted = _stored_type(entry.dtype)
    return entry if wanted == entry.dtype else jax.lax.convert_element_type(entry, wanted)


def plan_of(closed: ClosedJaxpr, games: int, lanes: int) -> Plan:
    """Try to rewrite a program.

    Raises:
        Unsupported: it cannot become a kernel.
    """
    constants: dict[Any, np.ndarray] = {}
    avals = [variable.aval for variable in closed.jaxpr.invars]
    found: list[Any] = []

    def traced(*arrays: Array) -> list[Any]:
        def constant(array: np.ndarray) -> Memory:
            constants.setdefault((array.dtype, array.shape, array.tobytes()), array)
            flat = jnp.asarray(array).ravel()
            size = math.prod(array.shape[1:])
            return Memory(lambda at: _filled(array.shape[1:], lambda place: flat[at * size + place]), len(array))

        def load(number: int, place: Any) -> Any:
            return _narrowed(arrays[number][place], avals[number].dtype)

        rewriter, values = _rewritten(closed, games, lanes, load, constant, lambda *_: None)
        found[:] = rewriter.stores, values
        return [entry for value in values if value.data is not None and not value.known for entry in value.data.ravel()]

    shapes = [
        jax.ShapeDtypeStruct(
            (_entries(aval, games), *((lanes,) if games in aval.shape else ())), _stored_type(aval.dtype)
        )
        for aval in avals
    ]
    jax.eval_shape(traced, *shapes)
    sizes = [_entries(variable.aval, games) for variable in (*closed.jaxpr.invars, *closed.jaxpr.outvars)]
    if max(sizes, default=1) * games >= 2**31:
        raise Unsupported("an array of more than 2^31 numbers")
    stores, values = found
    outputs = [value.data if value.known else value.stored for value in values]
    return Plan(list(constants.values()), stores, outputs)


def _entries(aval: Any, games: int) -> int:
    return math.prod(size for size in aval.shape if size != games)


def _kernel(closed: ClosedJaxpr, games: int, lanes: int, interpret: bool, *arrays: Array) -> list[Array]:
    """Run a program in one kernel over blocks of `lanes` games each."""
    from jax.experimental import pallas as pl

    plan = plan_of(closed, games, lanes)
    operands, inputs = [], []
    for array, variable in zip(arrays, closed.jaxpr.invars, strict=True):
        operands.append(_flat(_widened(array), games))
        inputs.append(variable.aval)
    for array in plan.constants:
        operands.append(jnp.asarray(array.astype(_stored_type(array.dtype)).ravel()))
    keys = [(array.dtype, array.shape, array.tobytes()) for array in plan.constants]

    def spec(shape: tuple[int, ...]) -> Any:
        if len(shape) == 2:
            return pl.BlockSpec((shape[0], lanes), lambda block: (0, block))
        return pl.BlockSpec(shape, lambda block: (0,))

    avals = [variable.aval for variable in closed.jaxpr.outvars]
    written = [n for n, output in enumerate(plan.outputs) if output is None]
    shapes = [(_entries(avals[n], games), avals[n].dtype) for n in written]
    shapes += [(math.prod(size for size in shape if size != games), kind) for shape, kind in plan.stores]
    results = [jax.ShapeDtypeStruct((size, games), _stored_type(kind)) for size, kind in shapes]

    def run(*references: Any) -> None:
        sources, targets = references[: len(operands)], references[len(operands) :]

        def load(number: int, place: Any) -> Any:
            return _narrowed(sources[number][place], inputs[number].dtype)

        def constant(array: np.ndarray) -> Memory:
            source = sources[len(inputs) + keys.index((array.dtype, array.shape, array.tobytes()))]
            size = math.prod(array.shape[1:])

            def row(at: Any) -> np.ndarray:
                return _filled(array.shape[1:], lambda place: _narrowed(source[at * size + place], array.dtype))

            return Memory(row, len(array))

        def store(number: int, row: Any, entries: np.ndarray, aval: Any) -> None:
            for place, entry in enumerate(entries):
                targets[len(written) + number][row * len(entries) + place] = _widened(rewriter_lane(entry, aval.dtype))

        def rewriter_lane(entry: Any, kind: Any) -> Any:
            return entry if np.ndim(entry) else jax.lax.broadcast(_widened(jnp.asarray(entry, kind)), (lanes,))

        _, values = _rewritten(closed, games, lanes, load, constant, store, None if interpret else _multiply_add)
        for target, number in zip(targets, written, strict=False):
            for place, entry in enumerate(objects(values[number].data).ravel()):
                target[place] = _widened(rewriter_lane(entry, avals[number].dtype))

    options = (
        {} if interpret else {"compiler_params": _triton().CompilerParams(num_warps=max(1, lanes // 32), num_stages=1)}
    )
    run.__name__ = run.__qualname__ = "games_in_one_kernel"
    found = pl.pallas_call(
        run,
        grid=(games // lanes,),
        in_specs=[spec(operand.shape) for operand in operands],
        out_specs=[spec(result.shape) for result in results],
        out_shape=results,
        interpret=interpret,
        name="games_in_one_kernel",
        **options,
    )(*operands)
    made = []
    for number, (aval, output) in enumerate(zip(avals, plan.outputs, strict=True)):
        if isinstance(output, np.ndarray):
            made.append(jnp.broadcast_to(jnp.asarray(_with_games(output, aval.shape, games)), aval.shape))
        else:
            place = written.index(number) if output is None else len(written) + output
            made.append(_narrowed(_shaped(found[place], aval.shape, games), aval.dtype))
    return made


def _flat(array: Array, games: int) -> Array:
    """Entries first, games last; what is the same for all games as a vector."""
    if games not in array.shape:
        size = 1 << max(0, (array.size - 1).bit_length())
        return jnp.pad(array.ravel(), (0, size - array.size))
    return jnp.moveaxis(array, array.shape.index(games), -1).reshape(-1, games)


def _shaped(rows: Array, shape: tuple[int, ...], games: int) -> Array:
    if games not in shape:
        return rows[:, 0].reshape(shape)
    small = tuple(size for size in shape if size != games)
    return jnp.moveaxis(rows.reshape(*small, games), -1, shape.index(games))


def _with_games(data: np.ndarray, shape: tuple[int, ...], games: int) -> np.ndarray:
    return np.expand_dims(data, shape.index(games)) if games in shape else data


def _triton() -> Any:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        from jax.experimental.pallas import triton
    return triton


def _multiply_add(one: Array, another: Array, other: Array, minus: bool, minus_other: bool) -> Array:
    """`one * another + other`, or with the signs of the product or of what is added reversed."""
    kind, register = FUSED[np.dtype(other.dtype)]
    signs = f"neg.{kind} p, $1; " if minus else f"mov.{kind} p, $1; "
    signs += f"neg.{kind} s, $3; " if minus_other else f"mov.{kind} s, $3; "
    (made,) = _triton().elementwise_inline_asm(
        f"{{ .reg .{kind} p, s; {signs}fma.rn.{kind} $0, p, $2, s; }}",
        args=[one, another, other],
        constraints=",".join([f"={register}", *[register] * 3]),
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(other.shape, other.dtype)],
    )
    return made


# The program, once for all platforms: a kernel where there is Triton, plain XLA elsewhere.
in_kernel = new_primitive("games_in_one_kernel", lambda *avals, jaxpr, games, lanes, interpret: list(jaxpr.out_avals))


def _lower_by_xla(context, *arrays, jaxpr, games, lanes, interpret):
    run = partial(_kernel, jaxpr, games, lanes, True) if interpret else jaxpr_as_fun(jaxpr)
    return lower_function(context, run, arrays)


def _lower_by_triton(context, *arrays, jaxpr, games, lanes, interpret):
    if interpret:
        return _lower_by_xla(context, *arrays, jaxpr=jaxpr, games=games, lanes=lanes, interpret=interpret)
    try:
        # Triton announces its end at every use, which is no concern of those who run a sweep.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            run = partial(_kernel, jaxpr, games, lanes, False)
            return lower_function(context, run, arrays)
    except Exception as error:  # whatever a version of Triton does not know
        logger.warning("plain XLA instead of one kernel: %s: %s", type(error).__name__, error)
        return _lower_by_xla(context, *arrays, jaxpr=jaxpr, games=games, lanes=lanes, interpret=interpret)


register_lowering(in_kernel, _lower_by_xla)
register_lowering(in_kernel, _lower_by_triton, platform="cuda")
