"""The loop over the steps of an update."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._compiling import cheap_jit
from dynamics.compiler.jaxprs import subjaxprs
from dynamics.game import Game, Players, variables_of
from dynamics.outcomes import Doubt, Evidence, Summary, probe_sizes, rounding_floor, summarise
from dynamics.recurrence import Open, widened, widest_axis
from dynamics.simulation.ending import distance_of, distances_of, fields_at, finished_run, only_divergence, residual_of
from dynamics.simulation.result import Measure, Run
from dynamics.updates.base import State, Update
from dynamics.updates.with_variables import game_at

SEGMENTS = 64  # stretches of a run whose amplitudes are compared

UNROLL = 8  # steps per iteration where a step costs less than reading and writing the state

PADDED_BYTES = 2**24  # of saved players, beyond which no memory is spent to spare a compilation

ARITHMETIC = {"add", "sub", "mul", "neg", "add_any", "integer_pow", "square", "convert_element_type", "copy"}


class Schedule(eqx.Module):
    """Which steps belong to which segment: rows of segments, a save after every row."""

    steps: int = eqx.field(static=True)
    every: int = eqx.field(static=True)
    only_last: bool = eqx.field(static=True)

    @property
    def rows(self) -> np.ndarray:
        """Segment lengths, shape (saves, segments per save); a last row holds the steps after the last save."""
        saves, rest = divmod(self.steps, self.every)
        wanted = min(self.every, -(-SEGMENTS // saves))
        divisors = [n for n in range(wanted, min(2 * wanted, self.every) + 1) if self.every % n == 0]
        parts = divisors[0] if divisors else wanted
        row = np.full(parts, self.every // parts)
        row[0] += self.every - row.sum()
        rows = [row] * saves
        if rest:
            ends = np.minimum(np.arange(1, parts + 1) * max(1, -(-rest // parts)), rest)
            rows.append(np.diff(ends, prepend=0))
        return np.array(rows, np.int32)

    def segments(self, dtype: Any, watched: bool) -> "_Segments":
        """The segments as arrays; one a row where nobody looks at them."""
        rows = self.rows
        if not watched:
            rows = rows.sum(axis=1, keepdims=True, dtype=np.int32)
        ends, order = np.cumsum(rows).reshape(rows.shape), np.arange(rows.size).reshape(rows.shape)
        used = int(np.count_nonzero(rows)) if watched else rows.size
        quarters = np.minimum(4 * order // used, 3)
        opens = (np.diff(quarters.ravel(), prepend=0) > 0).reshape(rows.shape)
        lengths, middles = rows.ravel()[:used], (ends - rows / 2).ravel()[:used]
        regular = lengths == np.bincount(lengths).argmax()
        saves = None if self.only_last else self.steps // self.every
        return _Segments(
            rows, ends, quarters, opens, middles.astype(dtype), regular, None, None, used, self.steps, self.every, saves
        )


class _Segments(eqx.Module):
    """The segments of a run as numbers; those of no steps may follow, for shapes that other runs have, too.

    Attributes:
        lengths, ends, quarters, opens: shape (rows, segments per row): steps, last step, the quarter of the run, and
            whether it begins there; a save after every row.
        middles, regular: shape (n,): where a segment is, and whether it is of the usual length.
        places: where in the rows the first n of those of some steps are, or `None`: at the beginning.
        rows: number of rows of some steps, or `None`: all.
        count: number of segments of some steps.
        steps: of the whole run.
        every: steps between saves.
        saves: rows after which players are saved; `None`: the end only.
        single: whether every segment of some steps is of one step, which spares a loop.
    """

    lengths: Any
    ends: Any
    quarters: Any
    opens: Any
    middles: Any
    regular: Any
    places: Any
    rows: Any
    count: Any
    steps: Any
    every: Any
    saves: int | None = eqx.field(static=True)
    single: bool = eqx.field(static=True, default=False)

    def gathered(self, numbers: Array) -> Array:
        """The numbers of the segments of some steps, then zeros, from those of all, shape (rows, per row)."""
        numbers = numbers.ravel()
        if self.places is None:
            return numbers[: self.count]
        return jnp.where(jnp.arange(self.places.size) < self.count, numbers[self.places], 0)


class _Packed(eqx.Module):
    """`_Segments` in few arrays, each of which costs something to hand to a compiled program."""

    rows: Any
    places: Any
    middles: Any
    numbers: Any
    saves: int | None = eqx.field(static=True)
    single: bool = eqx.field(static=True)

    def segments(self) -> _Segments:
        """The arrays one by one."""
        lengths, ends, quarters, opens = self.rows
        places, regular = self.places
        steps, every, rows, count = self.numbers
        return _Segments(
            lengths,
            ends,
            quarters,
            opens > 0,
            self.middles,
            regular > 0,
            places,
            rows,
            count,
            steps,
            every,
            self.saves,
            self.single,
        )


def _rounded_up(number: int) -> int:
    """The next power of two, or for more than 16 the next of four between two of these."""
    unit = 1 << max(0, (number - 1).bit_length() - (0 if number <= 16 else 3))
    return -(-number // unit) * unit


@lru_cache(maxsize=256)
def _padded(
    steps: int, every: int, only_last: bool, dtype: np.dtype, number: np.dtype, watched: bool, size: int
) -> "_Packed":
    """The segments for a program that serves other numbers of steps as well.

    Args:
        dtype, number: types of the players and of the steps.
        watched: whether anybody looks at the segments.
        size: bytes of the players.
    """
    whole = Schedule(steps, every, only_last).segments(dtype, watched)
    rows, parts = whole.lengths.shape
    tall, wide = _rounded_up(rows), 1 << (parts - 1).bit_length()
    if only_last:
        tall, wide = 1, 2 * SEGMENTS if watched else 1
    elif size * tall > PADDED_BYTES:
        tall = rows

    def spread(numbers: np.ndarray, value: Any) -> np.ndarray:
        return np.pad(numbers, ((0, tall - rows), (0, wide - parts)), constant_values=value).astype(numbers.dtype)

    def longer(numbers: np.ndarray) -> np.ndarray:
        return np.pad(numbers, (0, tall * wide - numbers.size))

    lengths = spread(whole.lengths, 0)
    ends = np.cumsum(lengths).reshape(lengths.shape).astype(whole.ends.dtype)
    return _Packed(
        np.stack([lengths, ends, spread(whole.quarters, 3), spread(whole.opens, 0)]).astype(np.int32),
        np.stack([longer(np.flatnonzero(lengths)), longer(whole.regular)]).astype(np.int32),
        longer(whole.middles),
        np.array([steps, every, rows, whole.count], number),
        None if only_last else tall,
        every == 1 and not only_last,
    )


class _Watch(eqx.Module):
    """What is gathered along a run of an update: boxes around the players, and turns about the box's centre."""

    low: Players  # box of the current quarter
    high: Players
    quarters: Array  # amplitudes of the finished quarters, for every player
    ends: tuple[Players, Players]  # the players at the ends of the second and third quarters
    centre: Players
    axis: Players  # one-hot: the widest coordinate
    signal: Array
    crossings: Array
    first: Array
    last: Array
    section: tuple[Players, Players]  # box of the points of crossing
    finite: State  # the last state seen whose numbers are finite, and its step
    finite_step: Array

    @staticmethod
    def start(state: State) -> "_Watch":
        players = state.players
        zeros = jax.tree.map(jnp.zeros_like, players)
        zero = jnp.zeros((), _trees.float_dtype(players))
        none = jnp.zeros((), jnp.int32)
        quarters = jnp.zeros((4, len(players)), zero.dtype)
        box = players, players
        return _Watch(*box, quarters, box, zeros, zeros, zero, none, zero, zero, (zeros, zeros), state, none)

    def open_quarter(self, players: Players, index: Array) -> "_Watch":
        """Close the box of the quarter before, and watch turns about its centre."""
        width = jax.tree.map(jnp.subtract, self.high, self.low)
        axis = widest_axis(self.low, self.high)
        centre = jax.tree.map(lambda a, b: (a + b) / 2, self.low, self.high)
        quarters = jnp.where(jnp.arange(4)[:, None] == index - 1, _trees.norms(width), self.quarters)
        ends = tuple(
            jax.tree.map(lambda a, b, n=number: jnp.where(index == n, a, b), players, old)
            for number, old in zip((2, 3), self.ends, strict=True)
        )
        signal = _trees.dot(axis, jax.tree.map(jnp.subtract, players, centre))
        zero, none = jnp.zeros_like(self.first), jnp.zeros_like(self.crossings)
        rest = self.section, self.finite, self.finite_step
        return _Watch(players, players, quarters, ends, centre, axis, signal, none, zero, zero, *rest)


def _widen(low: Players, high: Players, players: Players) -> tuple[Players, Players]:
    # Selected, not `jnp.minimum`: what is no number leaves the box as it is, and it is one instruction.
    low = jax.tree.map(lambda old, new: jnp.where(new < old, new, old), low, players)
    return low, jax.tree.map(lambda old, new: jnp.where(new > old, new, old), high, players)


def _repeat(advance: Callable, begin: Array, count: Array | int, state: State, unroll: int) -> State:
    """Advance the state by so many steps, `unroll` of them per iteration."""

    def body(start: Array, steps: int, i: Array, state: State) -> State:
        for step in range(steps):
            state = advance(state, start + steps * i + step)
        return state

    if unroll > 1:
        whole = count // unroll
        state = jax.lax.fori_loop(0, whole, partial(body, begin, unroll), state)
        begin, count = begin + whole * unroll, count - whole * unroll
    return jax.lax.fori_loop(0, count, partial(body, begin, 1), state)


def _along(body: Callable, carry: Any, xs: Any, count: Array | None) -> tuple[Any, Any]:
    """`jax.lax.scan` over the first `count` entries; what would follow is left at zero."""
    if count is None:
        return jax.lax.scan(body, carry, xs)
    entry = partial(jax.tree.map, lambda x: x[0])
    ys = jax.eval_shape(lambda: body(carry, entry(xs))[1])
    length = len(jax.tree.leaves(xs)[0])
    ys = jax.tree.map(lambda y: jnp.zeros((length, *y.shape), y.dtype), ys)

    def iteration(i: Array, both: Any) -> Any:
        carry, ys = both
        carry, y = body(carry, jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), xs))
        return carry, jax.tree.map(lambda all, row: jax.lax.dynamic_update_index_in_dim(all, row, i, 0), ys, y)

    return jax.lax.fori_loop(0, count, iteration, (carry, ys))


def _is_cheap(step: Callable, state: State) -> bool:
    """Whether a step is a little arithmetic on a few numbers.

    In a batch of such games reading and writing the state costs more than the arithmetic, and several steps per turn
    of the loop save most of that. Any other step gains little and takes longer to compile.
    """
    leaves = jax.tree.leaves(state)
    if len(leaves) > 8 or any(jnp.ndim(leaf) or not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        return False
    pending, count = [jax.make_jaxpr(step)(state).jaxpr], 0
    while pending:
        for equation in pending.pop().eqns:
            inner = subjaxprs(equation)
            pending += inner
            count += not inner
            if count > 64 or not (inner or equation.primitive.name in ARITHMETIC):
                return False
    return True


@eqx.filter_jit
def one_step(update: Update, game: Game, state: State) -> State:
    """A step with exact expectations; under a name, by which ensembles find it in a program."""
    return update.step(game, state, None)


def run_with_any_steps(
    game: Game,
    update: Update,
    state: State,
    key: PRNGKeyArray | None,
    schedule: tuple[int, int, bool],
    dtype: Any,
    thresholds: tuple[Array, Array],
    measures: tuple[tuple[str, Measure], ...],
    classify: bool,
    meter: diffrax.AbstractProgressMeter,
) -> tuple[Run, Summary, Open | None]:
    """As `run_update`, by a program that does not depend on the number of steps."""
    watched = classify or not isinstance(meter, diffrax.NoProgressMeter)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.players))
    segments = _padded(*schedule, np.dtype(dtype), jax.dtypes.canonicalize_dtype(int), watched, size)
    run, *doubt = _run_jit(game, update, state, key, segments, thresholds, measures, classify, meter, False)
    if segments.saves is None:
        return run, *doubt
    steps, every, _ = schedule
    leaves, structure = jax.tree.flatten(run)
    count = len(jax.tree.leaves((run.players, run.losses, run.steps, run.measures)))  # its first fields
    leaves[:count] = _beginnings(leaves[:count], steps // every + 1)
    return jax.tree.unflatten(structure, leaves), *doubt


def _beginnings(arrays: list[Array], count: int) -> list[Array]:
    """The first entries of arrays, without compiling anything where that is possible."""

    def is_simple(array: Array) -> bool:
        known = not isinstance(array, Tracer) and not array.weak_type and len(array.devices()) == 1
        return known and not jnp.issubdtype(array.dtype, jax.dtypes.extended)

    if all(len(array) == count for array in arrays):
        return arrays
    if not all(map(is_simple, arrays)):
        return [array[:count] for array in arrays]
    (device,) = arrays[0].devices()
    usual: Any = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]  not in the types of JAX
    usual = usual or jax.local_devices()[0]
    return jax.device_put([np.asarray(array)[:count] for array in arrays], None if device == usual else device)


def _run_of_update(
    game: Game,
    update: Update,
    state: State,
    key: PRNGKeyArray | None,
    schedule: "Schedule | _Packed",
    thresholds: tuple[Array, Array],
    measures: tuple[tuple[str, Measure], ...],
    classify: bool,
    meter: diffrax.AbstractProgressMeter,
    apart: bool,
) -> tuple[Run, Summary, Open | None]:
    dtype = _trees.float_dtype(state.players)
    begin = state
    if isinstance(schedule, _Packed):
        segments = schedule.segments()
    else:
        watched = classify or not isinstance(meter, diffrax.NoProgressMeter)
        segments = schedule.segments(dtype, watched)
        if classify and segments.count < 4:
            classify = False
            segments = schedule.segments(dtype, not isinstance(meter, diffrax.NoProgressMeter))

    def advance(state: State, step: Array | int) -> State:
        if key is None:
            return one_step(update, game, state)
        return update.step(game, state, jax.random.fold_in(key, step))

    def seen(state: State) -> tuple[Players, PyTree]:
        return state.players, variables_of(game_at(game, state))

    unroll = UNROLL if key is None and not classify and _is_cheap(partial(advance, step=0), state) else 1

    def plain_segment(carry, segment):
        state, watch, meter_state = carry
        length, end, _, _ = segment
        length = 1 if segments.single else length
        state = _repeat(advance, end - length, length, state, unroll)
        return (state, watch, meter.step(meter_state, end / segments.steps)), jnp.zeros((), dtype)

    def watched_segment(carry, segment):
        state, watch, meter_state = carry
        length, end, index, opening = segment
        length = 1 if segments.single else length
        if apart:  # three times in a run, and all games agree about it
            watch = jax.lax.cond(opening, lambda old: old.open_quarter(state.players, index), lambda old: old, watch)
        else:
            opened = watch.open_quarter(state.players, index)
            watch = jax.tree.map(lambda a, b: jnp.where(opening, a, b), opened, watch)

        def plainly(i, carry):
            state, low, high = carry
            state = advance(state, end - length + i)
            return state, *_widen(low, high, state.players)

        def closely(i, carry):
            (state, low, high), signal, crossings, first, last, section = carry
            step, before = end - length + i, state.players
            state, low, high = plainly(i, (state, low, high))
            now = _trees.dot(watch.axis, state.players) - middle
            upward = (signal < 0) & (now >= 0)

            def crossed(before, after, crossings, first, last, section):
                part = now / jnp.where(upward, now - signal, 1)
                when = (step + 1).astype(dtype) - part
                point = jax.tree.map(lambda a, b: b - part.astype(b.dtype) * (b - a), before, after)
                section = widened(section[0], section[1], point, upward, crossings > 0)
                first = jnp.where(upward & (crossings == 0), when, first)
                return crossings + upward, first, jnp.where(upward, when, last), section

            given = before, state.players, crossings, first, last, section
            if apart:  # among many games most steps turn none of those that are computed together
                record = jax.lax.cond(upward, crossed, lambda before, after, *record: record, *given)
            else:
                record = crossed(*given)
            return (state, low, high), now, *record

        middle = _trees.dot(watch.axis, watch.centre)  # the axis is one coordinate, so that no rounding differs
        finite = jnp.isfinite(_trees.norm(state.players))
        kept, kept_step = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (state, jnp.asarray(end - length, jnp.int32)),
            (watch.finite, watch.finite_step),
        )
        boxed = state, state.players, state.players
        record = watch.signal, watch.crossings, watch.first, watch.last, watch.section
        unwatched = jnp.where(index == 3, 0, length) if apart else 0
        if apart:
            boxed = jax.lax.fori_loop(0, unwatched, plainly, boxed)
        carry = jax.lax.fori_loop(unwatched, length, closely, (boxed, *record))
        (state, low, high), signal, crossings, first, last, section = carry
        amplitude = _trees.norm(jax.tree.map(jnp.subtract, high, low))
        low, high = jax.tree.map(jnp.minimum, watch.low, low), jax.tree.map(jnp.maximum, watch.high, high)
        record = signal, crossings, first, last, section
        watch = _Watch(low, high, watch.quarters, watch.ends, watch.centre, watch.axis, *record, kept, kept_step)
        return (state, watch, meter.step(meter_state, end / segments.steps)), amplitude

    def row(carry, numbers):
        carry, amplitudes = jax.lax.scan(watched_segment if classify else plain_segment, carry, numbers)
        saved = None if segments.saves is None else seen(carry[0])
        return carry, (amplitudes, saved)

    watch = _Watch.start(state) if classify else None
    xs = tuple(jnp.asarray(x) for x in (segments.lengths, segments.ends, segments.quarters, segments.opens))
    (state, watch, meter_state), (amplitudes, saved) = _along(row, (state, watch, meter.init()), xs, segments.rows)
    meter.close(meter_state)

    taken = jnp.asarray(segments.steps)
    if segments.saves is None:
        saved, saved_steps = jax.tree.map(lambda leaf: leaf[None], seen(state)), taken[None]
    else:
        count = segments.saves
        if segments.rows is not None:  # what is left at zero may be no place for a game
            done = jnp.arange(count) < segments.steps // segments.every
            saved = jax.tree.map(
                lambda old, end: jax.vmap(lambda one, row: jnp.where(one, row, end))(done, old), saved, seen(state)
            )
        saved = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:count]]), seen(begin), saved)
        saved_steps = jnp.arange(count + 1) * segments.every
    at_end = game_at(game, state)
    start = _trees.norm(begin.players)
    bound = thresholds[1] * jnp.maximum(1, start)
    if classify:
        record, axis = (watch.crossings, watch.first, watch.last, watch.section), watch.axis
        centre = _trees.dot(axis, watch.centre)
        watch = watch.open_quarter(state.players, 4)
        sizes, quarters = _trees.norms(state.players), watch.quarters
        travelled = distances_of(state.players, begin.players)
        floor, (half, late) = rounding_floor(sizes), watch.ends
        probes = probe_sizes(quarters, travelled, sizes, floor, thresholds[0])
        fields, variation = fields_at(at_end, (begin.players, half, late, state.players), probes, key)
        evidence = Evidence(
            times=jnp.asarray(segments.middles, dtype),
            amplitudes=segments.gathered(amplitudes),
            regular=segments.regular,
            count=segments.count,
            quarters=quarters,
            crossings=record[0],
            first=record[1],
            last=record[2],
            section=distances_of(*record[3]),
            step=jnp.ones((), dtype),
            plane=_trees.size(state.players) > 1,
            start=start,
            travelled=travelled,
            moved=jnp.stack([distances_of(late, half), distances_of(state.players, late)]),
            floor=floor,
            floors=(rounding_floor(start), rounding_floor(_trees.norm(state.players))),
            fields=fields,
            variation=variation,
        )
        summary = summarise(evidence, *thresholds)
        if segments.places is not None:
            few = only_divergence(jnp.linalg.norm(travelled), start, thresholds[1])
            summary = jax.tree.map(lambda a, b: jnp.where(segments.count < 4, a, b), few, summary)
        failing = summary.doubt == Doubt.failure
        turn = (record[2] - record[1]) / jnp.maximum(record[0] - 1, 1)
        open_ = Open(
            doubt=summary.doubt,
            state=jax.tree.map(lambda a, b: jnp.where(failing, a, b), watch.finite, state),
            step=jnp.where(failing, watch.finite_step, segments.steps),
            start=begin.players,
            bound=bound,
            amplitude=quarters[3],
            axis=axis,
            centre=centre,
            turn=turn,
            most=jnp.where(failing, jnp.max(jnp.asarray(segments.lengths)), segments.steps // 4),
            length=jnp.ones((), dtype),
        )
        residual = jnp.sqrt(jnp.sum(fields[3] ** 2))
    else:
        travelled = distance_of(state.players, begin.players)
        summary, open_ = only_divergence(travelled, start, thresholds[1]), None
        residual = residual_of(at_end, state.players, key)
    no = jnp.zeros(len(state.players), bool)
    rest = residual, taken, taken, no, jnp.zeros((), bool)
    return finished_run(game, state, saved, saved_steps, measures, key, summary, *rest), summary, open_


run_update = eqx.filter_jit(_run_of_update)

_run_jit = cheap_jit(_run_of_update)
