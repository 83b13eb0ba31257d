"""The memory of a method at rest, while the players stay where they are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics.compiler.data_flow import Kind, autonomous_inputs, kinds
from dynamics.compiler.derivatives import released
from dynamics.compiler.jaxprs import jaxpr_as_fun
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, ShiftedGradients
from dynamics.updates.base import COUNTER_LIMIT, State, Update
from dynamics.updates.rounded import unrounded
from dynamics.updates.simultaneous import Simultaneous
from dynamics.updates.with_variables import game_at

SETTLING_STEPS = 20_000
COUNTS = 4096  # counters at which it is looked at whether a step still depends on its number
FEW_COUNTS = 64  # the same for every game of a batch
_STRETCH = 256  # steps between the members of a geometric sequence that is summed up, where it is slow
_HANDING_ON = {
    "add", "add_any", "broadcast_in_dim", "convert_element_type", "copy", "copy_p", "max", "min", "neg", "reshape",
    "select_n", "squeeze", "sub",
}  # fmt: skip
_ABOVE = 2.0**-10  # how far above a tie a running maximum is held, relative to it


class Rest(NamedTuple):
    """A method at rest.

    Attributes:
        state: players and memory, without the floating numbers of the memory that move by themselves.
        autonomous: those: numbers that neither players nor other memory have an influence on, such as hyper-parameters
            and sums of weights; `None` for all other memory.
        rests: whether the memory is at rest and the next step does not depend on its number any more (what still
            depends on it slowly, and settles, counts as settled).
        fading: whether the memory counts steps or sums up weights, and is held at the limit of that.
    """

    state: State
    autonomous: PyTree
    rests: Array
    fading: Array

    def of(self, method: Update | AbstractFlow) -> Update | AbstractFlow:
        """The method with its autonomous memory held: a map of `state`, or a flow."""
        return Held(method, self.autonomous) if jax.tree.leaves(self.autonomous) else method

    def at(self, game: Game) -> Game:
        """The game with its variables at rest, where it has some."""
        return game_at(game, State(self.state.players, eqx.combine(self.state.memory, self.autonomous)))


class Held(Update):
    """An update whose autonomous memory is held: every step begins with the same."""

    inner_update: Update
    autonomous: PyTree

    def init(self, game: Game, players: Players) -> State:
        state = self.inner_update.init(game, players)
        return State(state.players, self._coupled(state.memory))

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        whole = State(state.players, eqx.combine(state.memory, self.autonomous))
        new = self.inner_update.step(game, whole, key)
        return State(new.players, self._coupled(new.memory))

    def _coupled(self, memory: PyTree) -> PyTree:
        mask = jax.tree.map(lambda leaf: leaf is None, self.autonomous, is_leaf=lambda leaf: leaf is None)
        return eqx.filter(memory, mask)

    @classmethod
    def example(cls, players: int = 2) -> Update:
        inner = Simultaneous.example(players)
        return cls(inner, jax.tree.map(lambda _: None, inner.steppers.init((jnp.zeros(()),) * players)))


class Repeated(Update):
    """So many steps of another update as one: an update whose steps repeat with this period rests as such.

    Args:
        inner_update: the update.
        period: number of steps.
        start: where counters of steps are held, about.
    """

    inner_update: Update
    period: int = eqx.field(static=True)
    start: int = eqx.field(static=True, default=COUNTER_LIMIT)

    def init(self, game: Game, players: Players) -> State:
        return self.inner_update.init(game, players)

    def step(self, game: Game, state: State, key: PRNGKeyArray | None = None) -> State:
        def body(state: State, index: Array) -> tuple[State, None]:
            own_key = None if key is None else jax.random.fold_in(key, index)
            return self.inner_update.step(game, state, own_key), None

        structure = jax.eval_shape(lambda: self.inner_update.step(game, state, key))
        state = jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), state, structure)
        return jax.lax.scan(body, state, jnp.arange(self.period))[0]

    @classmethod
    def example(cls, players: int = 2) -> Update:
        return cls(Simultaneous.example(players), 2)


def rest_state(
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    gradient_noise: tuple[Array, ...] | None = None,
    counts: int = COUNTS,
) -> Rest:
    """The state whose memory is at rest while the players stay where they are, and whether there is one; traceable.

    The memory of an update is run until it no longer changes, geometric sequences summed up by Aitken's formula; that
    of a flow is solved for by Newton's method. Counters are held at their limit. With gradient noise of standard
    deviation s the gradients alternate between +s and -s around their value, which leaves averages of gradients where
    they are and adds s^2 to averages of their squares: the mean of a memory under noise. A running maximum is held
    slightly above what it is the maximum of, as noise of any other kind does.

    Args:
        game, method, players, key: as in `dynamics.stability`.
        gradient_noise: standard deviation, one per player.
        counts: at how many numbers of a step it is looked whether the step depends on it.
    """
    method = unrounded(method)
    state = method.init(game, players)
    floating, _ = eqx.partition(state.memory, eqx.is_inexact_array)
    nothing, yes = jax.tree.map(lambda _: None, state.memory), jnp.asarray(True)
    if not jax.tree.leaves(state.memory):
        return Rest(state, nothing, yes, ~yes)
    if isinstance(method, AbstractFlow):
        return Rest(State(players, _rest_of_flow(game, method, players, floating, state.memory)), nothing, yes, ~yes)
    parts = MemoryParts(game, method, players, key, state.memory)
    period, limit = (method.period, method.start) if isinstance(method, Repeated) else (1, COUNTER_LIMIT)
    signs = (0,) if gradient_noise is None else (1, -1)
    stride = len(signs)

    def step(leaves: list[Array], sign: int) -> list[Array]:
        shaken = ShiftedGradients(game, players, gradient_noise, sign) if sign else game
        new = method.step(shaken, State(players, parts.tree.unflatten(leaves)), key).memory
        return [jnp.asarray(leaf, old.dtype) for leaf, old in zip(jax.tree.leaves(new), leaves, strict=True)]

    def advance(leaves: list[Array]) -> list[Array]:
        for sign in signs:
            leaves = step(leaves, sign)
        return leaves

    def settle(carry):
        # One copy of the step serves all phases: three real steps settle flags such as "is this the first step" and
        # show which integers count steps; these are then held at their limit. Moving averages approach their rest
        # geometrically: Aitken's formula on the next three finds it at once, and the rest of the loop refines it, where
        # that takes long by the same formula on members far apart.
        index, _, leaves, before, growing, marks = carry
        columns = zip(advance(leaves), leaves, before, growing, strict=True)
        new, growing = map(list, zip(*(next_leaf(i, *arrays, index) for i, arrays in enumerate(columns)), strict=True))
        moves = [
            jnp.max(jnp.where(grows, 0, _relative_change(a, b)), initial=0)
            for a, b, grows in zip(new, leaves, growing, strict=True)
            if jnp.issubdtype(a.dtype, jnp.floating)
        ]
        moved = jnp.max(jnp.stack(moves)).astype(jnp.float32) if moves else jnp.float32(0)
        phase = index % (3 * _STRETCH)
        marks = [
            [jnp.where(phase == place * _STRETCH, a, b) for a, b in zip(new, mark, strict=True)]
            for place, mark in enumerate(marks)
        ]
        new = [
            a if place in parts.whole else jnp.where(phase == 2 * _STRETCH, _limit(a, b, c, 64), a)
            for place, (a, b, c) in enumerate(zip(new, marks[1], marks[0], strict=True))
        ]
        return index + 1, moved, new, leaves, growing, marks

    def next_leaf(place: int, new: Array, now: Array, before: Array, grows: Array, index: Array) -> tuple[Array, Array]:
        if not jnp.issubdtype(new.dtype, jnp.number):
            return new, grows
        change, bend = new - now, (new - now) - (now - before)
        if jnp.issubdtype(new.dtype, jnp.integer):
            # An integer that goes up or down by the same number at every step, at most by one.
            counts = (bend == 0) & ((change == stride * period) | (jnp.abs(_signed(change)) <= stride * period))
            counts &= jnp.asarray(new.dtype.itemsize >= 4)
            held = new + change * jnp.asarray(limit // (stride * period) - 3, new.dtype)
            held = jnp.where(counts, held, new)
            return jnp.where(index < 2, new, jnp.where(index == 2, held, now)), grows
        epsilon = jnp.finfo(new.dtype).eps
        if place in parts.autonomous:
            # What neither slows down nor is at rest grows for ever.
            steady = (jnp.abs(bend) <= 8 * epsilon * jnp.abs(new)) & (jnp.abs(change) > 64 * epsilon * jnp.abs(new))
            most = _growing_steps(new.dtype, limit)
            starts = (index == 4) & steady
            new = jnp.where(grows, now, jnp.where(starts, change * (most // (stride * period)), new))
            grows = grows | starts
        return jnp.where(grows | (index != 5), new, _limit(new, now, before, 1e3)), grows

    def moving(carry):
        index, moved, *_ = carry
        at_rest = (moved <= 2 * stride**2) & (index >= 6)  # not where a number is none
        return ~at_rest & (index < SETTLING_STEPS)

    first = parts.leaves
    growing = [jnp.zeros(jnp.shape(leaf), bool) for leaf in first]
    start = jnp.asarray(0), jnp.float32(0), first, first, growing, [first, first]
    _, moved, leaves, _, growing, _ = jax.lax.while_loop(moving, settle, start)
    rests = moved <= 64  # what is left of a sequence that approaches its rest very slowly
    rests &= parts.rests(leaves, growing, limit // period, counts, period)
    if gradient_noise is not None:
        between = step(leaves, 1)
        leaves = [
            (a + b) / 2 if jnp.issubdtype(a.dtype, jnp.floating) and place not in parts.autonomous else a
            for place, (a, b) in enumerate(zip(leaves, between, strict=True))
        ]
        leaves = _off_ties(advance, leaves)
    memory = parts.tree.unflatten(leaves)
    mask = parts.tree.unflatten([place in parts.autonomous for place in range(len(leaves))])
    held, coupled = eqx.partition(memory, mask)
    fading = [jnp.any(leaf) for leaf in growing]
    fading += [jnp.any(jnp.abs(leaves[place]) > COUNTS) for place in parts.whole if parts.counts(place)]
    return Rest(State(players, coupled), held, rests, jnp.any(jnp.stack(fading)))


def held_state(game: Game, method: Update | AbstractFlow, state: State, key: PRNGKeyArray | None = None) -> Rest:
    """A state as it is, as a `Rest`: its memory stays, what moves by itself is held where it is; traceable.

    `rests` is true: only the step from this state is asked for.
    """
    nothing, yes = jax.tree.map(lambda _: None, state.memory), jnp.asarray(True)
    if isinstance(method, AbstractFlow) or not jax.tree.leaves(state.memory):
        return Rest(state, nothing, yes, ~yes)
    parts = MemoryParts(game, method, state.players, key, state.memory)
    memory = parts.tree.unflatten(parts.leaves)
    mask = parts.tree.unflatten([place in parts.autonomous for place in range(len(parts.leaves))])
    held, coupled = eqx.partition(memory, mask)
    return Rest(State(state.players, coupled), held, yes, ~yes)


def _growing_steps(dtype: Any, limit: int) -> int:
    """After how many steps a number that grows for ever is held: as late as its growth is still exact."""
    return min(limit, 2 ** (int(jnp.finfo(dtype).nmant) - 3))


def _limit(new: Array, middle: Array, old: Array, clear: float) -> Array:
    """The limit of a geometric sequence by Aitken's formula, where it bends by so many rounding errors."""
    change, bend = new - middle, (new - middle) - (middle - old)
    usable = jnp.abs(bend) > clear * float(jnp.finfo(new.dtype).eps) * jnp.abs(new)
    usable &= jnp.abs(change) < jnp.abs(middle - old)
    return new - jnp.where(usable, change**2 / jnp.where(usable, bend, 1), 0)


def _relative_change(new: Array, old: Array) -> Array:
    """In units of rounding; 0 next to the smallest numbers."""
    change = jnp.abs(new - old)
    relative = change / (float(jnp.finfo(new.dtype).eps) * jnp.abs(new))
    return jnp.where(change <= float(jnp.finfo(jnp.float32).tiny), 0, relative)


def _signed(number: Array) -> Array:
    return jax.lax.bitcast_convert_type(number, f"int{8 * number.dtype.itemsize}")


def _off_ties(advance: Callable[[list[Array]], list[Array]], leaves: list[Array]) -> list[Array]:
    """Memory that stays where it is when raised and returns when lowered, raised slightly.

    A running maximum does: at rest it equals what it is the maximum of, and has no derivative there.
    """

    def scaled(factor: float) -> tuple[list[Array], list[Array]]:
        start = [leaf * factor if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf for leaf in leaves]
        return start, advance(start)

    (above, kept), (below, back) = scaled(1 + _ABOVE), scaled(1 - _ABOVE)
    return [
        jnp.where((a == b) & (c != d), a, leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        for leaf, a, b, c, d in zip(leaves, above, kept, below, back, strict=True)
    ]


class MemoryParts:
    """The memory of a method, leaf by leaf, and which of it moves by itself.

    Attributes:
        leaves, tree: of the memory at the start.
        autonomous: places of the floating leaves on which neither players nor coupled memory have an influence. Whole
            numbers and flags count as autonomous: a small change of the players does not change them.
        closed: the traced step, on the leaves of players and memory.
        rounding: relative, of every number of `frontier`, once it has been called.
    """

    def __init__(self, game: Game, method: Update, players: Players, key: PRNGKeyArray | None, memory: PyTree):
        leaves, self.tree = jax.tree.flatten(memory)
        self.players = jax.tree.leaves(players)

        def step(players: Players, memory: PyTree) -> list[Array]:
            new = method.step(game, State(players, memory), key)
            return [*jax.tree.leaves(new.players), *jax.tree.leaves(new.memory)]

        # A memory may start in another type than it keeps.
        types = jax.eval_shape(step, players, memory)[len(self.players) :]
        self.leaves = [jnp.asarray(leaf, like.dtype) for leaf, like in zip(leaves, types, strict=True)]
        self.closed = jax.make_jaxpr(step)(players, self.tree.unflatten(self.leaves))
        self.is_floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self.leaves]
        started = jax.make_jaxpr(lambda players: jax.tree.leaves(method.init(game, players).memory))(players)
        copies = kinds(started.jaxpr, [Kind.coupled] * len(self.players))
        self.autonomous = self._autonomous(
            {i for i, floats in enumerate(self.is_floating) if floats and copies[i] is not Kind.coupled}
        )
        self.whole = {place for place, floats in enumerate(self.is_floating) if not floats}
        results = self._kinds(self.autonomous)
        self.coupled_counts = any(results[place] is Kind.coupled for place in self.whole)

    def _kinds(self, autonomous: set[int]) -> list[Kind]:
        free = [Kind.autonomous if i in autonomous or not f else Kind.coupled for i, f in enumerate(self.is_floating)]
        return kinds(self.closed.jaxpr, [Kind.coupled] * len(self.players) + free)[len(self.players) :]

    def _autonomous(self, places: set[int]) -> set[int]:
        """Those of these places that neither players nor other floating memory have an influence on.

        They also do not act on themselves but by what they are (handed on, added to, or kept as a maximum), so that
        no eigenvalue is lost: a second copy of the players, say, may move by itself, and must stay near the point.
        """
        while True:
            results = self._kinds(places)
            left = {place for place in places if results[place] is not Kind.coupled}
            reached = {place: self._reached(place, left) for place in left}
            left = {
                place
                for place in left
                if reached[place].get(place) is not Kind.coupled
                and not any(place in reached[other] for other in reached[place] if other != place)
            }
            if left == places:
                return places
            places = left

    def _reached(self, place: int, places: set[int]) -> dict[int, Kind]:
        """On which of the places one acts in a step, and whether by what it is."""
        given = [Kind.constant] * (len(self.players) + len(self.leaves))
        given[len(self.players) + place] = Kind.autonomous
        results = kinds(self.closed.jaxpr, given, _HANDING_ON)[len(self.players) :]
        return {other: results[other] for other in places if results[other] is not Kind.constant}

    def counts(self, place: int) -> bool:
        """Whether the memory has a whole number there."""
        return bool(jnp.issubdtype(self.leaves[place].dtype, jnp.integer))

    def driving(self) -> list[int]:
        """Places of all that moves by itself."""
        return sorted(self.autonomous | self.whole)

    def advanced(self, values: list[Array]) -> list[Array]:
        """What moves by itself after a step; the rest of the memory as at the start."""
        places = self.driving()
        leaves = list(self.leaves)
        for place, value in zip(places, values, strict=True):
            leaves[place] = value
        new = jaxpr_as_fun(self.closed)(*self.players, *leaves)[len(self.players) :]
        return [jnp.asarray(new[place], self.leaves[place].dtype) for place in places]

    def frontier(self, values: list[Array]) -> Float[Array, " k"]:
        """Numbers on which all depends that what moves by itself does to players and coupled memory in the next step.

        Arrays of more than four numbers are represented by two sums.
        """
        given: list[Any] = [None] * (len(self.players) + len(self.leaves))
        for place, value in zip(self.driving(), values, strict=True):
            given[len(self.players) + place] = (value, True)
        arrays: list[Array] = []
        autonomous_inputs(self.closed, given, arrays)
        parts = [_numbers(array) for array in arrays]
        self.rounding = np.concatenate(
            [np.zeros(0), *(np.full(part.size, _epsilon(a)) for part, a in zip(parts, arrays))]
        )
        return jnp.concatenate(parts) if parts else jnp.zeros(0)

    def rests(self, leaves: list[Array], growing: list[Array], limit: int, counts: int, period: int) -> Array:
        """Whether the next step does not depend on its number, at this memory and wherever else it is looked at.

        Args:
            leaves: of the memory, its counters at the limit.
            growing: which numbers grow for ever.
            limit: number of steps until there.
            counts: at how many numbers of a step it is looked.
            period: of the step, in steps of the method.
        """
        if not self.whole and not self.autonomous:
            return jnp.asarray(True)
        length = max(8, counts // 64 if self.coupled_counts else counts // 2)
        steady, change = self._orbit(length)
        places = self.driving()
        offsets = _offsets(limit, counts)

        def at(offset: Array) -> Float[Array, " k"]:
            values = []
            for place, step in zip(places, change, strict=True):
                leaf = leaves[place]
                if place in self.autonomous:
                    held = _growing_steps(leaf.dtype, limit * period) // period
                    number = offset.astype(leaf.dtype)
                    earlier = jnp.where(offset <= counts, number, jnp.maximum(counts, number * (held / limit) // 1))
                    leaf = jnp.where(growing[place], leaf - earlier * (leaf / held), leaf)
                elif step is not None:
                    leaf = leaf - step * offset.astype(leaf.dtype)
                values.append(leaf)
            return self.frontier(values)

        numbers = jax.vmap(at)(jnp.asarray(offsets))
        return steady & _settled(numbers, self.rounding, loose=period > 1)

    def _orbit(self, length: int) -> tuple[Array, list[Array | None]]:
        """Whether all whole numbers and flags change by the same at every step, and by how much."""
        places = self.driving()

        def raw(leaf: Array) -> Array:
            return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

        def difference(new: Array, old: Array) -> Array:
            new, old = raw(new), raw(old)
            return new ^ old if new.dtype == bool else new - old

        def step(carry, index):
            values, before, steady = carry
            new = self.advanced(values)
            change = [difference(a, b) for a, b in zip(new, values, strict=True)]
            for place, new_change, old_change in zip(places, change, before, strict=True):
                if place in self.whole:
                    same = jnp.all(new_change == old_change)
                    if not self.counts(place):
                        same &= ~jnp.any(new_change)
                    steady &= same | (index < 3)
            return (new, change, steady), None

        first = [self.leaves[place] for place in places]
        nothing = [jnp.zeros_like(difference(leaf, leaf)) for leaf in first]
        (_, change, steady), _ = jax.lax.scan(step, (first, nothing, jnp.asarray(True)), jnp.arange(length))
        counted = [self.counts(place) for place in places]
        return steady, [new_change if counts else None for new_change, counts in zip(change, counted, strict=True)]


def _numbers(array: Array) -> Float[Array, " k"]:
    """An array as a few floating numbers: two arrays are the same where these are."""
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    usual = jnp.result_type(float)
    if jnp.issubdtype(array.dtype, jnp.integer):  # no whole number is rounded
        array = jnp.stack([array // 4096, array % 4096])
    parts = [array.real, array.imag] if jnp.issubdtype(array.dtype, jnp.complexfloating) else [array]
    flat = jnp.concatenate([jnp.ravel(part).astype(usual) for part in parts])
    flat = jnp.nan_to_num(flat, nan=0.7071e30)
    if flat.size <= 4:
        return flat
    places = jnp.arange(flat.size)
    return jnp.stack([jnp.mean(flat), jnp.mean(flat * jnp.cos(1.7 * places + 0.3))])


def _epsilon(array: Array) -> float:
    usual = jnp.result_type(float)
    dtypes = [array.dtype, usual] if jnp.issubdtype(array.dtype, jnp.inexact) else [usual]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


def _offsets(limit: int, counts: int) -> np.ndarray:
    """How long before the limit it is looked: all steps next to it, and some at all distances, the last first."""
    window = np.arange(min(counts, limit // 2))
    random = np.random.default_rng(0)
    far = limit - np.unique((limit * 2.0 ** -random.uniform(0, 6, max(16, counts // 32))).astype(np.int64))[::-1]
    octaves = limit - np.array([limit // 2, limit // 4])
    return np.concatenate([octaves, window, far[far >= len(window)]]).astype(np.int32)


def _settled(numbers: Float[Array, "times k"], epsilons: np.ndarray, loose: bool) -> Array:
    """Whether numbers do not depend on the time, or slowly and less and less so: the last octave changes them least."""
    if not numbers.size:
        return jnp.asarray(True)
    most = jnp.max(jnp.abs(numbers), axis=0)
    slack = jnp.asarray(64 * epsilons, numbers.dtype) * most
    allowed = jnp.asarray(coarse(epsilons), numbers.dtype) * most if loose else slack
    half, quarter, last = numbers[0], numbers[1], numbers[2]
    steps = jnp.diff(numbers[2:], axis=0)
    constant = jnp.max(numbers, axis=0) - jnp.min(numbers, axis=0) <= allowed
    # Differences of neighbours may be rounding, of a number that moves slowly.
    monotone = jnp.all(steps <= slack, axis=0) | jnp.all(steps >= -slack, axis=0)
    single = 4 * float(jnp.finfo(jnp.float32).eps) * most  # the last of a number that is computed in single precision
    slower = jnp.abs(last - half) <= 0.99 * jnp.abs(half - quarter) + single
    return jnp.all(constant | (monotone & slower))


def coarse(epsilons: np.ndarray) -> np.ndarray:
    """How far a periodic schedule may be from repeating: it may be computed from counters of some millions."""
    return np.where(epsilons < 1e-10, 1e-6, 2e-3)


def above_zero(leaf: Array) -> Array:
    if not eqx.is_inexact_array(leaf):
        return leaf
    smallest = 2.0**20 * float(jnp.finfo(leaf.dtype).tiny)  # its square root vanishes beside any eps in use
    return jnp.where(leaf == 0, jnp.asarray(smallest, leaf.dtype), leaf)


def _rest_of_flow(game, flow, players, floating, memory) -> PyTree:
    flat, unravel = ravel_pytree(floating)
    _, other = eqx.partition(memory, eqx.is_inexact_array)

    def rate(vector: Array) -> Array:
        state = State(players, eqx.combine(unravel(vector), other))
        change = flow.field(game, jnp.zeros(()), state).memory
        return ravel_pytree(eqx.filter(change, eqx.is_inexact_array))[0]

    def newton(_, vector):
        return vector - jnp.linalg.lstsq(jax.jacfwd(released(rate))(vector), rate(vector))[0]

    return eqx.combine(unravel(jax.lax.fori_loop(0, 10, newton, flat)), other)
