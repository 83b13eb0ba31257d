"""Small arrays of a kernel, taken apart: their shapes, and sums and products over them.

An axis of the program is that of the games when it is as long as there are games. An axis of this length that does not
come from the inputs is refused, and so is an array with two of them: nothing is mistaken for the games.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.compiler.errors import Unsupported
from dynamics.compiler.gpu.scalars import Numbers, dtype_of


@dataclasses.dataclass(frozen=True)
class Memory:
    """An array that stays in memory and of which a loop reads a row per iteration."""

    row: Callable[[Any], np.ndarray]  # from an index to the entries of a row
    length: int


@dataclasses.dataclass(frozen=True)
class Value:
    """A variable of the program inside a kernel.

    Attributes:
        data: its entries without the axis of the games: numbers that are known, an array of them, or an array of
            objects: scalars, the same for all games, and arrays of one number per game.
        shape: with the axis of the games.
        memory: where a loop finds its rows.
        stored: number of the store to which a loop has written it, when there is no data.
    """

    data: np.ndarray | None
    shape: tuple[int, ...]
    memory: Memory | None = None
    stored: int | None = None

    @property
    def known(self) -> bool:
        return self.data is not None and self.data.dtype != object


class Games:
    """The games of a kernel: their axis, and what is computed of their numbers.

    Attributes:
        count: how many there are.
        numbers: what has been computed.
        in_condition: whether all games of a block may be looked at: in the condition of a loop.
        reduced: whether somebody did so.
    """

    def __init__(self, count: int, numbers: Numbers):
        self.count, self.numbers, self.apply = count, numbers, numbers.apply
        self.in_condition = self.reduced = False

    def axis(self, shape: Sequence[int]) -> int | None:
        found = [axis for axis, size in enumerate(shape) if size == self.count]
        if len(found) > 1:
            raise Unsupported(f"an array of shape {tuple(shape)} has two axes as long as there are games")
        return found[0] if found else None

    def small(self, shape: Sequence[int]) -> tuple[int, ...]:
        axis = self.axis(shape)
        return tuple(size for place, size in enumerate(shape) if place != axis)

    def axes(self, wanted: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
        """Axes of a shape as axes of the entries."""
        own = self.axis(shape)
        if own in wanted:
            raise Unsupported("games are combined with one another")
        return tuple(axis - (own is not None and axis > own) for axis in wanted)


def rows_of(data: np.ndarray) -> list[np.ndarray]:
    """Those of a vector are arrays, too."""
    return [data[place, ...] for place in range(len(data))]


def objects(data: np.ndarray) -> np.ndarray:
    """The entries one by one, as numbers that keep their type."""
    if data.dtype == object:
        return data
    made = np.empty(data.shape, object)
    for place in np.ndindex(data.shape):
        made[place] = data[place]
    return made


def joined(parts: list[np.ndarray], join: Callable) -> np.ndarray:
    return join(parts if all(part.dtype != object for part in parts) else [objects(part) for part in parts])


def each(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    made = np.empty(arrays[0].shape, object)
    for place in np.ndindex(made.shape):
        made[place] = function(*(array[place] for array in arrays))
    return made


# Shapes of arrays: of what an equation says, its arguments, and the shape of its result


def _broadcast_in_dim(games, params, inputs, shape):
    value, target, own = inputs[0], games.axis(shape), games.axis(inputs[0].shape)
    kept, sizes = [], []
    for axis, place in enumerate(params["broadcast_dimensions"]):
        if axis == own and place != target:
            raise Unsupported("games are moved along another axis")
        if place != target:
            kept.append(place - (target is not None and place > target))
            sizes.append(value.shape[axis])
    small = games.small(shape)
    full = [1] * len(small)
    for place, size in zip(kept, sizes, strict=True):
        full[place] = size
    return np.broadcast_to(value.data.reshape(full), small)


def _reshape(games, params, inputs, shape):
    old = inputs[0].shape
    before, after = games.axis(old), games.axis(shape)
    if (before is None) != (after is None) or params.get("dimensions") is not None:
        raise Unsupported("the axis of the games is reshaped")
    if before is not None and math.prod(old[:before]) != math.prod(shape[:after]):
        raise Unsupported("the axis of the games is reshaped")
    return inputs[0].data.reshape(games.small(shape))


def _squeeze(games, params, inputs, shape):
    return inputs[0].data.reshape(games.small(shape))


def _transpose(games, params, inputs, shape):
    order = [axis for axis in params["permutation"] if axis != games.axis(inputs[0].shape)]
    return inputs[0].data.transpose(games.axes(order, inputs[0].shape))


def _rev(games, params, inputs, shape):
    return np.flip(inputs[0].data, games.axes(params["dimensions"], inputs[0].shape))


def _slice(games, params, inputs, shape):
    own = games.axis(inputs[0].shape)
    if own is not None and shape[own] != games.count:
        raise Unsupported("some of the games are taken out")
    strides = params["strides"] or [1] * len(shape)
    cut = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return inputs[0].data[tuple(slice(*one) for axis, one in enumerate(cut) if axis != own)]


def _concatenate(games, params, inputs, shape):
    if games.axis(shape) is not None and any(games.axis(value.shape) is None for value in inputs):
        raise Unsupported("an axis as long as there are games is put together")
    (axis,) = games.axes([params["dimension"]], shape)
    return joined([value.data for value in inputs], partial(np.concatenate, axis=axis))


def _stack(games, params, inputs, shape):
    (axis,) = games.axes([params["axis"]], shape)
    return joined([value.data for value in inputs], partial(np.stack, axis=axis))


def _unstack(games, params, inputs, shape):
    (axis,) = games.axes([params["axis"]], inputs[0].shape)
    return rows_of(np.moveaxis(inputs[0].data, axis, 0))


def _split(games, params, inputs, shape):
    (axis,) = games.axes([params["axis"]], inputs[0].shape)
    return np.split(inputs[0].data, np.cumsum(params["sizes"])[:-1], axis)


def _pad(games, params, inputs, shape):
    value, filling = inputs
    own = games.axis(shape)
    if own != games.axis(value.shape):
        raise Unsupported("games are padded")
    made = np.empty(games.small(shape), object)
    made[...] = filling.data[()]
    target, source = [], []
    for axis, (low, high, between) in enumerate(params["padding_config"]):
        if axis == own:
            if low or high or between:
                raise Unsupported("games are padded")
            continue
        if low < 0 or high < 0:
            raise Unsupported("an array is cut by padding")
        size = value.shape[axis]
        target.append(slice(low, low + max(0, (size - 1) * (between + 1) + 1), between + 1))
        source.append(slice(None))
    made[tuple(target)] = objects(value.data)[tuple(source)]
    return made


def _iota(games, params, inputs, shape):
    if params["dimension"] == games.axis(shape):
        raise Unsupported("the games are counted")
    (axis,) = games.axes([params["dimension"]], shape)
    small = games.small(shape)
    counted = np.arange(small[axis], dtype=params["dtype"]).reshape([-1 if a == axis else 1 for a in range(len(small))])
    return np.broadcast_to(counted, small)


def _dynamic_slice(games, params, inputs, shape):
    value, *starts = inputs
    sizes = [size for axis, size in enumerate(params["slice_sizes"]) if axis != games.axis(value.shape)]
    starts = [start for axis, start in enumerate(starts) if axis != games.axis(value.shape)]
    made = value.data
    for axis, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        most = made.shape[axis] - size
        if most == 0:
            continue
        if start.known:
            at = min(max(int(start.data), 0), most)
            made = made[(slice(None),) * axis + (slice(at, at + size),)]
            continue
        if most > 16:
            raise Unsupported("an entry of a large array is looked up")
        rows = [objects(made[(slice(None),) * axis + (slice(at, at + size),)]) for at in range(most + 1)]
        made = rows[-1]
        for at in range(most - 1, -1, -1):
            here = games.apply(jax.lax.le_p, {}, start.data[()], np.asarray(at, dtype_of(start.data[()]))[()])
            made = each(lambda a, b, here=here: games.apply(jax.lax.select_n_p, {}, here, b, a), rows[at], made)
    return made


# Sums and products over small arrays


def _reduce(games, params, inputs, shape, *, primitive):
    value = inputs[0]
    axes = games.axes(params["axes"], value.shape)
    rest = [axis for axis in range(value.data.ndim) if axis not in axes]
    rows = objects(value.data).transpose([*axes, *rest])
    rows = rows.reshape(-1, *rows.shape[len(axes) :])
    if not len(rows):
        raise Unsupported("a sum over nothing")
    return each(lambda *entries: reduce(partial(games.apply, primitive, {}), entries), *rows_of(rows))


def _over_games(games, params, inputs, shape, *, primitive, over):
    value = inputs[0]
    own = games.axis(value.shape)
    if own not in params["axes"] or not games.in_condition:
        return _reduce(games, params, inputs, shape, primitive=primitive)
    games.reduced = True
    if value.data.ndim:
        raise Unsupported("games are combined with one another")
    entry = jax.lax.convert_element_type(games.numbers.lane(value.data[()]), jnp.int32)
    made = np.empty((), object)
    made[()] = jax.lax.ne(over(entry), np.int32(0))
    return made


def _argument(games, params, inputs, shape, *, ahead):
    value = inputs[0]
    (axis,) = games.axes(params["axes"], value.shape)
    rows = rows_of(np.moveaxis(objects(value.data), axis, 0))
    kind = np.dtype(params["index_dtype"])

    def one(*entries: Any) -> Any:
        best, found = entries[0], np.zeros((), kind)[()]
        for place, entry in enumerate(entries[1:], 1):
            better = games.apply(ahead, {}, entry, best)
            if jnp.issubdtype(dtype_of(entry), jnp.floating):  # not-a-number comes before all
                nan, fine = games.apply(jax.lax.ne_p, {}, entry, entry), games.apply(jax.lax.eq_p, {}, best, best)
                better = games.apply(jax.lax.and_p, {}, games.apply(jax.lax.or_p, {}, better, nan), fine)
            best = games.apply(jax.lax.select_n_p, {}, better, best, entry)
            found = games.apply(jax.lax.select_n_p, {}, better, found, np.asarray(place, kind)[()])
        return found

    return each(one, *rows)


def _cumsum(games, params, inputs, shape):
    (axis,) = games.axes([params["axis"]], shape)
    rows = rows_of(np.moveaxis(objects(inputs[0].data), axis, 0))
    rows = rows[::-1] if params["reverse"] else rows
    sums = list(itertools.accumulate(rows, partial(each, partial(games.apply, jax.lax.add_p, {}))))
    return np.stack(sums[::-1] if params["reverse"] else sums, axis)


def _dot_general(games, params, inputs, shape):
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    kinds = {dtype_of(value.data.ravel()[0]) if value.data.size else None for value in inputs}
    wanted = params.get("preferred_element_type")
    if len(kinds) > 1 or (wanted is not None and np.dtype(wanted) not in kinds):
        raise Unsupported("a product of different types")
    arranged, free = [], []
    for value, summed, batch in zip(inputs, (left_sum, right_sum), (left_batch, right_batch), strict=True):
        own = games.axis(value.shape)
        summed = games.axes(summed, value.shape)
        batch = games.axes([axis for axis in batch if axis != own], value.shape)
        rest = [axis for axis in range(value.data.ndim) if axis not in (*summed, *batch)]
        data = objects(value.data).transpose([*batch, *rest, *summed])
        sizes = data.shape[: len(batch)], data.shape[len(batch) : len(batch) + len(rest)]
        arranged.append(data.reshape(math.prod(sizes[0]), math.prod(sizes[1]), -1))
        free.append(sizes)
    # In the result the axes are those of the batch, of the left and of the right one.
    made = np.empty((arranged[0].shape[0], arranged[0].shape[1], arranged[1].shape[1]), object)
    for b, i, j in np.ndindex(made.shape):
        pairs = zip(arranged[0][b, i], arranged[1][b, j], strict=True)
        made[b, i, j] = reduce(
            partial(games.apply, jax.lax.add_p, {}), (games.apply(jax.lax.mul_p, {}, *pair) for pair in pairs)
        )
    return made.reshape(games.small(shape))


# What is done to arrays, by the names of JAX.
ARRAYS: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _squeeze,
    "transpose": _transpose,
    "rev": _rev,
    "slice": _slice,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "split": _split,
    "pad": _pad,
    "iota": _iota,
    "dynamic_slice": _dynamic_slice,
    "reduce_sum": partial(_reduce, primitive=jax.lax.add_p),
    "reduce_prod": partial(_reduce, primitive=jax.lax.mul_p),
    "reduce_max": partial(_reduce, primitive=jax.lax.max_p),
    "reduce_min": partial(_reduce, primitive=jax.lax.min_p),
    "reduce_or": partial(_over_games, primitive=jax.lax.or_p, over=jnp.max),
    "reduce_and": partial(_over_games, primitive=jax.lax.and_p, over=jnp.min),
    "argmax": partial(_argument, ahead=jax.lax.gt_p),
    "argmin": partial(_argument, ahead=jax.lax.lt_p),
    "cumsum": _cumsum,
    "dot_general": _dot_general,
}
