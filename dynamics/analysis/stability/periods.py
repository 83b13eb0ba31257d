"""Methods whose steps depend on their number for ever: the period after which they repeat."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics.analysis.stability.rest import COUNTS, MemoryParts, Repeated, coarse, rest_state
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players
from dynamics.updates.base import Update

LONGEST = COUNTS // 2  # the longest period that is looked for
_ORBIT = 4 * COUNTS  # steps of what moves by itself
_ORBIT_OF_COUPLED = 512  # the same where whole numbers of the memory depend on the players
_STARTS = (2**23, 2**20, 2**15)  # counters at which it is looked: the last where schedules are coarse in float32


class Period(NamedTuple):
    """After how many steps a method repeats.

    Attributes:
        steps: 1 where it comes to rest; 0 where it neither rests nor repeats.
        start: the number of a step from which on the period is looked at.
        reason: for 0, why.
    """

    steps: int
    start: int
    reason: str

    def of(self, method: Update) -> Update:
        """The method, a whole period as one step."""
        return Repeated(method, self.steps, self.start) if self.steps > 1 else method


def find_period(game: Game, method: Update | AbstractFlow, players: Players, key: PRNGKeyArray | None = None) -> Period:
    """The number of steps after which the steps of a method repeat, on the host.

    All that its steps do differently depends on memory that moves by itself: counters, flags, hyper-parameters. Along
    two stretches of 4,096 steps, one after some millions and one twice as late, the numbers that go from there into
    computations with players and other memory are compared with themselves so many steps later.

    Args:
        game, method, players, key: as in `dynamics.stability`.
    """
    nothing = Period(1, 0, "")
    if isinstance(method, AbstractFlow) or bool(_rests(game, method, players, key)):
        return nothing
    orbit = jax.device_get(_orbit(game, method, players, key))
    if not orbit:
        return Period(0, 0, REASONS["memory"])
    courses = [_Course(leaf) for leaf in orbit]
    if any(course.period == 0 and course.whole for course in courses):
        return Period(0, 0, REASONS["numbers"])
    rounds = math.lcm(*(course.period or 1 for course in courses))
    if rounds > LONGEST:
        return Period(0, 0, REASONS["numbers"])
    for start in _STARTS:
        places = np.array([start, 2 * start + 1009])
        windows = [place + np.arange(COUNTS) for place in places]
        scattered = np.sort(np.random.default_rng(0).integers(start, 4 * start, 64))
        times = np.concatenate([*windows, scattered])
        first, epsilons = _frontier(game, method, players, key, [course.at(times) for course in courses])
        other, _ = _frontier(game, method, players, key, [course.at(times, early=True) for course in courses])
        numbers = np.asarray(first, float)
        if not np.array_equal(numbers, np.asarray(other, float)):
            return Period(0, 0, REASONS["memory"])
        epsilons = np.asarray(epsilons, float)
        allowed = coarse(epsilons) * np.ptp(numbers, axis=0) + 64 * epsilons * np.max(np.abs(numbers), axis=0)
        parts = numbers[:COUNTS], numbers[COUNTS : 2 * COUNTS]
        for period in range(1, LONGEST + 1):
            if not all(np.all(np.abs(part[period] - part[0]) <= allowed) for part in parts):
                continue
            if not all(np.all(np.abs(part[period:] - part[:-period]) <= allowed) for part in parts):
                continue
            expected = parts[0][(scattered - start) % period]
            between = parts[0][(places[1] - start + np.arange(COUNTS)) % period]
            whole = math.lcm(period, rounds)
            same = np.all(np.abs(numbers[2 * COUNTS :] - expected) <= allowed)
            same &= np.all(np.abs(parts[1] - between) <= allowed)
            if same and 1 < whole <= LONGEST:
                candidate = Period(whole, start, "")
                rests = bool(_rests(game, candidate.of(method), players, key))
                return candidate if rests else Period(0, 0, REASONS["memory"])
            break
    constant = np.all(np.ptp(numbers, axis=0) <= allowed)
    return Period(0, 0, REASONS["memory" if constant else "schedule"])


class _Course:
    """How one leaf of what moves by itself goes on: after so many steps it has changed by the same again.

    Attributes:
        period: 0 where that is not so.
        whole: whether its numbers are whole numbers, or flags.
    """

    def __init__(self, values: np.ndarray):
        self.values = values
        self.whole = not np.issubdtype(values.dtype, np.floating)
        numbers = values.astype(np.int64 if self.whole else float)
        half = len(numbers) // 2
        late = numbers[half:]
        allowed = 0 if self.whole else 16 * float(np.finfo(values.dtype).eps) * np.max(np.abs(late), initial=0)
        self.period, self.change = 0, 0
        for period in range(1, half // 2 + 1):
            change = late[period:] - late[:-period]
            if np.all(np.abs(change - change[:1]) <= allowed):
                self.period, self.change = period, change[0]
                break

    def at(self, times: np.ndarray, early: bool = False) -> np.ndarray:
        """The values after so many steps; without a period the last one seen, or with `early` one seen before."""
        last = len(self.values) - 1
        if not self.period:
            return np.broadcast_to(self.values[last // 2 if early else last], (len(times), *self.values.shape[1:]))
        rounds = -(-(times - last) // self.period)
        places = times - rounds * self.period
        shape = (-1,) + (1,) * (self.values.ndim - 1)
        if self.whole and self.values.dtype != bool:
            extended = self.values[places].astype(np.int64) + rounds.reshape(shape) * self.change
            return extended.astype(self.values.dtype)
        if not self.whole:
            extended = self.values[places].astype(float) + rounds.reshape(shape) * self.change
            return extended.astype(self.values.dtype)
        return self.values[places]


@eqx.filter_jit
def _rests(game: Game, method: Update, players: Players, key: PRNGKeyArray | None) -> Array:
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    return rest_state(game, method, players, key).rests


@eqx.filter_jit
def _orbit(game: Game, method: Update, players: Players, key: PRNGKeyArray | None) -> list[Array]:
    """What moves by itself, over its first steps."""
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    parts = MemoryParts(game, method, players, key, method.init(game, players).memory)
    length = _ORBIT_OF_COUPLED if parts.coupled_counts else _ORBIT
    first = [parts.leaves[place] for place in parts.driving()]
    if not first:
        return []

    def step(values: list[Array], _: Array) -> tuple[list[Array], list[Array]]:
        return parts.advanced(values), [_raw(value) for value in values]

    return jax.lax.scan(step, first, jnp.arange(length))[1]


@eqx.filter_jit
def _frontier(
    game: Game, method: Update, players: Players, key: PRNGKeyArray | None, values: Sequence[Any]
) -> tuple[Array, Array]:
    """What goes from there into the next step, at values with a leading axis of times."""
    game, method = _trees.cast((game, method), _trees.float_dtype(players))
    parts = MemoryParts(game, method, players, key, method.init(game, players).memory)
    driving = [
        jax.random.wrap_key_data(value) if jnp.issubdtype(parts.leaves[place].dtype, jax.dtypes.prng_key) else value
        for place, value in zip(parts.driving(), values, strict=True)
    ]
    return jax.vmap(parts.frontier)(driving), jnp.asarray(parts.rounding)


def _raw(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


REASONS = {
    "memory": "The method's memory does not come to rest while the players stay where they are, nor does it repeat: "
    "eigenvalues at any state of it decide nothing.",
    "numbers": f"The memory holds whole numbers, flags or random keys that do not repeat within {_ORBIT // 4:,} steps: "
    "eigenvalues at any state of it decide nothing.",
    "schedule": f"What a step does depends on its number (a schedule), and neither settles nor repeats within "
    f"{LONGEST:,} steps: eigenvalues at any one step decide nothing.",
}
