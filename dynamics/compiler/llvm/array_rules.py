"""Rules for arrays: those that move entries, which costs nothing, and arithmetic on entries.

The batch axis is the last one of every batched array, and stays it: what would move, cut or combine it is left to XLA.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from dynamics.compiler._jax import SAME
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.llvm.context import LoweredArray
from dynamics.compiler.llvm.operations import BOOL, ELEMENTWISE, is_vector
from dynamics.compiler.llvm.rules import RuleContext, array_lowering, lowering


@lowering(*SAME)
def lower_identity(ctx: RuleContext, *inputs: LoweredArray, **_: Any) -> list[LoweredArray]:
    return list(inputs)


@array_lowering(*ELEMENTWISE)
def lower_elementwise(ctx: RuleContext, *inputs: LoweredArray, **params: Any) -> np.ndarray:
    function, name, shape, batched = ctx.function, ctx.name, ctx.shape, ctx.batched
    operands = []
    for array in inputs:
        entries = function.entries(array)
        if batched and not array.batched and entries.ndim == len(shape) + 1 and entries.shape[-1] == 1:
            entries = entries[..., 0]  # an axis of length 1 stands beside that of the batch
        if array.batched and not batched or entries.ndim not in (len(shape), 0):
            raise Unsupported(f"{name} of {array.shape} for {shape}")
        operands.append(np.broadcast_to(entries, shape))
    dtypes = [array.dtype for array in inputs]
    operation = ELEMENTWISE[name]
    made = np.empty(shape, object)
    for index in np.ndindex(shape):
        function.count_operation()
        numbers = [entries[index] for entries in operands]
        if any(map(is_vector, numbers)):  # LLVM has no operation of a vector and a scalar
            numbers = [function.splat(number) for number in numbers]
        made[index] = operation(function, name, params, dtypes, *numbers)
    return made


@array_lowering("broadcast_in_dim")
def lower_broadcast_in_dim(
    ctx: RuleContext, array: LoweredArray, *, broadcast_dimensions: Sequence[int], **_: Any
) -> np.ndarray:
    shape, axes = ctx.shape, list(broadcast_dimensions)
    if array.batched and (not ctx.batched or axes.pop() != len(shape)):
        raise Unsupported("the axis of the games is moved")
    full = [1] * len(shape)
    for axis, size in zip(axes, array.shape, strict=True):
        if axis >= len(shape):  # an axis of length 1 becomes that of the batch
            if size != 1:
                raise Unsupported("an axis becomes that of the games")
            continue
        full[axis] = size
    return np.broadcast_to(ctx.function.entries(array).reshape(full), shape)


@array_lowering("reshape")
def lower_reshape(ctx: RuleContext, array: LoweredArray, *, dimensions: Any = None, **_: Any) -> np.ndarray:
    if dimensions is not None:
        raise Unsupported("the axis of the games is reshaped")
    return lower_squeeze(ctx, array)


@array_lowering("squeeze", "expand_dims")
def lower_squeeze(ctx: RuleContext, array: LoweredArray, **_: Any) -> np.ndarray:
    if array.batched != ctx.batched:
        raise Unsupported("the axis of the games is reshaped")
    return ctx.function.entries(array).reshape(ctx.shape)


@array_lowering("transpose")
def lower_transpose(ctx: RuleContext, array: LoweredArray, *, permutation: Sequence[int], **_: Any) -> np.ndarray:
    order = list(permutation)
    if array.batched and order.pop() != len(ctx.shape):
        raise Unsupported("the axis of the games is moved")
    return ctx.function.entries(array).transpose(order)


@array_lowering("rev")
def lower_rev(ctx: RuleContext, array: LoweredArray, *, dimensions: Sequence[int], **_: Any) -> np.ndarray:
    if ctx.batched and len(ctx.shape) in dimensions:
        raise Unsupported("the games are turned round")
    return np.flip(ctx.function.entries(array), dimensions)


@array_lowering("slice")
def lower_slice(
    ctx: RuleContext,
    array: LoweredArray,
    *,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None,
    **_: Any,
) -> np.ndarray:
    if array.batched != ctx.batched:
        raise Unsupported("some of the games are taken out")
    rank = len(ctx.shape)
    slices = zip(start_indices, limit_indices, strides or [1] * (rank + ctx.batched), strict=True)
    return ctx.function.entries(array)[tuple(slice(*one) for one in itertools.islice(slices, rank))]


@array_lowering("concatenate")
def lower_concatenate(ctx: RuleContext, *arrays: LoweredArray, dimension: int, **_: Any) -> np.ndarray:
    if ctx.batched and dimension == len(ctx.shape):
        raise Unsupported("games are put together")
    return np.concatenate([ctx.function.entries(array) for array in arrays], dimension)


@array_lowering("stack")  # of newer versions of JAX
def lower_stack(ctx: RuleContext, *arrays: LoweredArray, axis: int, **_: Any) -> np.ndarray:
    if axis >= len(ctx.shape):
        raise Unsupported("games are put together")
    return np.stack([ctx.function.entries(array) for array in arrays], axis)


@array_lowering("pad")
def lower_pad(
    ctx: RuleContext,
    array: LoweredArray,
    filling: LoweredArray,
    *,
    padding_config: Sequence[tuple[int, int, int]],
    **_: Any,
) -> np.ndarray:
    if any(low < 0 or high < 0 for low, high, _ in padding_config) or (ctx.batched and any(padding_config[-1])):
        raise Unsupported("an array is cut by padding")
    made = np.empty(ctx.shape, object)
    made[...] = ctx.function.entries(filling)[()]
    inner = tuple(
        slice(low, low + size + max(0, size - 1) * between, between + 1)
        for size, (low, _, between) in zip(array.shape, padding_config, strict=False)  # the batch axis has no size here
    )
    made[inner] = ctx.function.entries(array)
    return made


@array_lowering("iota")
def lower_iota(ctx: RuleContext, *, dimension: int, dtype: Any, **_: Any) -> np.ndarray:
    if ctx.batched:
        raise Unsupported("the games are counted")
    made = np.empty(ctx.shape, object)
    for index in np.ndindex(ctx.shape):
        made[index] = ctx.function.constant(index[dimension], dtype)
    return made


@array_lowering("reduce_or", across_batch=True)
def lower_reduce_or(ctx: RuleContext, array: LoweredArray, **_: Any) -> np.ndarray:
    """Whether a flag is set for any game: of the vector tile, which is all that `batch/` asks."""
    if ctx.batched or not array.batched or array.shape or array.dtype != BOOL:
        raise Unsupported("games are combined")
    made = np.empty((), object)
    made[()] = ctx.function.any_lane(ctx.function.entries(array)[()])
    return made
