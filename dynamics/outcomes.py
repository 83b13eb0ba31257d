"""What became of a run: outcomes, rates and periods from a few numbers gathered along the way."""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Outcome(enum.IntEnum):
    """What became of a game. Arrays of outcomes hold these integers; `advice` says what to do about one.

    >>> print(Outcome.converged, int(Outcome.converged), Outcome(1) == 1)
    converged 0 True
    """

    converged = 0
    cycling = 1
    diverged = 2
    undecided = 3
    chaotic = 4
    stalled = 5
    not_a_number = 6
    power_law = 7

    def __str__(self) -> str:
        return self.name

    def __format__(self, specification: str) -> str:
        return format(int(self) if specification.endswith("d") else self.name, specification)

    @property
    def advice(self) -> str:
        """What the outcome means and what to change, in a sentence."""
        return _ADVICE[self]


_ADVICE = {
    Outcome.converged: "The players have come to rest; see run.residual for how well the field vanishes there.",
    Outcome.cycling: "The players go round at constant amplitude; run.period is the time of one turn, NaN where the "
    "motion never closes up (quasi-periodic). Smaller steps, consensus, extragradient or a gradient penalty turn a "
    "centre into a spiral.",
    Outcome.diverged: "The players left every reasonable bound or kept growing; smaller steps or a stabilised method "
    "may help, and dynamics.stability shows which eigenvalue is at fault.",
    Outcome.undecided: "Neither rest, nor a cycle, nor divergence within the steps given; look at run.rate and take "
    "more steps (or a larger max_steps for a flow).",
    Outcome.chaotic: "The players stay bounded and never repeat themselves, and starts close to each other part "
    "exponentially; see dynamics.lyapunov_exponents for how fast. Smaller steps often give a cycle or rest.",
    Outcome.stalled: "The players are at rest, not converged: the field does not vanish there, see run.residual. Steps "
    "too small to change the players (a rate of 0, or one that rounds to nothing in this precision), or a rate that "
    "has decayed too early; take larger steps, a slower decay or a higher precision.",
    Outcome.not_a_number: "A gradient is not a number (NaN or infinite) although the players are finite. The usual "
    "causes: a norm or square root at 0, a logarithm of 0 or of a negative number, 0 / 0; add a small constant under "
    "the root, or use jnp.where inside the function on both sides.",
    Outcome.power_law: "The amplitude shrinks by a power of time, see run.exponent: slower than any rate, and no "
    "cycle. So games come to rest whose linear part does not decide; dynamics.stability gives the law, report.decay. A "
    "longer run can end otherwise where a weak linear part takes over.",
}


class Evidence(NamedTuple):
    """The numbers from which an outcome is decided.

    Amplitude means the diagonal of the box that holds the players over a stretch of the run. What has an axis of
    players is measured for each of them.
    """

    times: Float[Array, " segments"]  # middle of each segment; zeros may follow those of the run
    amplitudes: Float[Array, " segments"]
    regular: np.ndarray  # segments of the common length
    quarters: Float[Array, "4 players"]  # amplitude over each quarter of the run
    crossings: Array  # of the orbit's centre, upwards, in the last quarter
    first: Array  # time of the first crossing
    last: Array  # time of the last one
    section: Float[Array, " players"]  # width of the box around the points of crossing
    step: Array  # time between two points that are looked at, in the last quarter
    plane: bool  # whether there is more than one number, so that points of crossing can differ
    start: Array  # norm of the players at the start
    travelled: Float[Array, " players"]  # distance from the start to the end
    moved: Float[Array, "2 players"]  # distance between the ends of the second, third and fourth quarters
    floor: Float[Array, " players"]  # amplitude at which only rounding, or the solver's error, is left at the end
    floors: tuple[Array, Array]  # likewise of all players together, at the start and at the end
    fields: Float[Array, "4 players"]  # norm of the field at the start, and at the ends of the last three quarters
    variation: Float[Array, " players"]  # by how much the field changes over `probe_sizes`
    count: int | Array  # segments of the run


class Doubt(enum.IntEnum):
    """What the numbers along a run leave open; `dynamics.recurrence` looks again."""

    none = 0
    motion = 1  # bounded, but the orbit was not seen to close up: a cycle of few steps, several frequencies, or chaos
    failure = 2  # some number is not finite, though the players were not seen to leave


class Summary(NamedTuple):
    """Outcome, rate and period of a run, what is in doubt about them, and what would decide."""

    outcome: Array
    rate: Array
    period: Array
    doubt: Array
    steady: Array  # whether the amplitude is constant
    needed: Array  # steps, or time, that would decide; NaN where nothing tells, or nothing is to be decided
    exponent: Array  # p where the amplitude shrinks like a power t^-p, else NaN


CLOSED = 0.02  # of the amplitude, within which an orbit comes back
ALIKE = 0.05  # of the amplitude, within which that of two stretches of a run is constant
WIDE = 0.1  # of the amplitude: more than the turns of a slow spiral differ by
TREND = 0.002  # of the amplitude, from quarter to quarter: less is no trend
FAR = 0.25  # of the amplitude, from where it would go
SHRINKING = 0.97  # of the amplitude a quarter before: three times in a row no attractor shows by chance
FEWEST_CROSSINGS = 3  # in the last quarter, to count turns
STEPS_IN_TURN = 10  # below which a point of crossing, between two steps, is not known as well as that
LEAST_OF_CREEPING = 0.3  # of what was covered in the quarter before
WINDOWS = (8, 12, 16, 24, 32, 48, 64)  # sixty-fourths of a run: three octaves in which a power law has to hold
ORIGINS = (-0.5, 0.0, 1.0, 2.0, 4.0)  # sixty-fourths of a run: how long before the run the law may have begun
STRAIGHT = 0.02  # of the fall of the logarithm: its distance from a line, root mean square
EXPONENTS = (1.0, 0.5, 0.25)  # of the distance to a point where the lowest term is of second, third and fifth order
NEAR_EXPONENT = 0.06  # relative distance from one of these; of finite runs


def probe_sizes(
    quarters: Float[Array, "4 players"],
    travelled: Float[Array, " players"],
    sizes: Float[Array, " players"],
    floor: Float[Array, " players"],
    tolerance: Array,
    resolution: Array | None = None,
) -> Float[Array, " players"]:
    """How far from the end of a run the field has to vanish, for every player, for rest to be convergence.

    A share of what the player has covered: the tolerance while it still shrinks, less once only rounding is left, where
    it is as near as it will ever come. And what the numbers resolve, for a run that starts where it ends.

    Args:
        quarters: amplitude over each quarter of the run.
        travelled: distance from the start to the end.
        sizes: norm of the player at the end.
        floor: amplitude at which only rounding, or a solver's error, is left.
        tolerance: that of `summarise`.
        resolution: accuracy of the player; default that of rounding.
    """
    eps = float(jnp.finfo(sizes.dtype).eps)
    fine = eps**0.5 / 4
    reach = jnp.maximum(jnp.max(quarters, axis=0), travelled)
    share = jnp.where(quarters[3] <= floor, jnp.minimum(tolerance, fine), tolerance)
    if resolution is None:
        resolution = min(64 * eps, fine) * sizes + eps
    return jnp.maximum(share * reach, resolution)


def summarise(evidence: Evidence, tolerance: Array, limit: Array) -> Summary:
    """Decide what became of a run.

    * not a number: not finite at the end, and never seen further from the start than `limit` times `max(1, start)`;
    * diverged: not finite otherwise, or beyond that limit, or still growing (by a fifth over the last quarter) and
      twice as wide as in the first quarter;
    * converged: every player has settled, and its field vanishes within `probe_sizes`: it is at most four times as
      large as its change over that distance. A player has settled if its last quarter is at the floor (rounding, or
      the solver's tolerance), or narrower than `tolerance` times all it has covered and still shrinking. One that moves
      one way and whose field falls no faster than its curvature creeps towards infinity, as log t does, and does not
      converge;
    * stalled: every player rests at the floor, without a slow drift, or slows down while its field does not fall, and
      the field does not vanish;
    * cycling: the amplitude of the last two quarters agrees within 5 %, player by player, and the orbit's centre was
      crossed at least three times in the same direction, always at the same point, within 2 % of the amplitude, on
      turns of ten steps or more; and it is on no way to another amplitude, as that of a slow spiral is;
    * power law: over the last seven eighths of the run the amplitude shrinks like t^-p; see `_power_law`;
    * undecided: anything else. A bounded motion that has crossed its centre, at other points every time, is in doubt:
      see `dynamics.recurrence`.

    The rate is the slope of the log of the amplitude over the second half of the segments before the amplitude first
    leaves the range between the floor and `limit`.
    """
    amplitudes, quarters, floor = evidence.amplitudes, evidence.quarters, evidence.floor
    first, second, third, fourth = (_norm(quarter) for quarter in quarters)
    bound = limit * jnp.maximum(1, evidence.start)
    covered = _norm(evidence.travelled)
    widest = jnp.max(jnp.where(amplitudes == amplitudes, amplitudes, 0))

    finite = jnp.isfinite(covered) & jnp.isfinite(fourth)
    outside = ~(finite & (covered <= bound))
    failed = ~jnp.isfinite(covered) & (widest <= bound)
    growing = (fourth > 1.2 * third) & (fourth > 2 * first)

    # A drift adds up from segment to segment; what rounding keeps up does not.
    late = np.arange(amplitudes.size) >= 3 * evidence.count // 4
    drifting = fourth > 1.5 * jnp.max(jnp.where(late, amplitudes, 0))
    reach = jnp.maximum(jnp.max(quarters, axis=0), evidence.travelled)
    at_floor = quarters[3] <= floor
    shrunk = (quarters[3] <= tolerance * reach) & (quarters[3] < 0.9 * quarters[2])
    settled = at_floor | shrunk
    creeping = ~at_floor & _creeping(evidence)
    vanishes = evidence.fields[3] <= 4 * evidence.variation
    converged = jnp.all(settled & vanishes & ~creeping)
    numbers = jnp.all(jnp.isfinite(evidence.fields[3]))  # the field at the end
    # Steps that shrink while the field does not are stopped by the rate.
    stopping = shrunk & (evidence.fields[3] >= 0.95 * evidence.fields[2])
    stalled = jnp.all((at_floor & ~drifting) | stopping) & numbers

    alike = jnp.abs(quarters[3] - quarters[2]) <= ALIKE * quarters[2]
    turn = (evidence.last - evidence.first) / jnp.maximum(evidence.crossings - 1, 1)
    steady = jnp.all(alike | settled) & (evidence.crossings >= FEWEST_CROSSINGS) & ~jnp.all(settled)
    steady &= ~_trending(evidence, turn)
    # On a line every crossing is at the same point.
    closed = evidence.plane & (turn >= STEPS_IN_TURN * evidence.step)
    closed &= jnp.all(evidence.section <= CLOSED * quarters[3] + floor)
    cycling = steady & closed
    exponent = _power_law(evidence)
    outcome = jnp.select(
        [failed, outside, converged, stalled, growing, cycling, jnp.isfinite(exponent)],
        [
            Outcome.not_a_number,
            Outcome.diverged,
            Outcome.converged,
            Outcome.stalled,
            Outcome.diverged,
            Outcome.cycling,
            Outcome.power_law,
        ],
        Outcome.undecided,
    ).astype(jnp.int8)
    exponent = jnp.where(outcome == Outcome.power_law, exponent, jnp.nan)
    open_ = outcome == Outcome.undecided
    # What neither shrinks nor grows from quarter to quarter, or crosses its centre further apart than a spiral does,
    # may be an attractor that was not seen whole; what shrinks from each quarter to the next one is on its way to rest.
    shrinking = (second < SHRINKING * first) & (third < SHRINKING * second) & (fourth < SHRINKING * third)
    apart = jnp.any(evidence.section > WIDE * quarters[3] + floor) & ~shrinking
    wandering = (jnp.abs(fourth - third) <= 0.25 * third) & (apart | ((fourth - third) * (third - second) <= 0))
    moving = open_ & (steady | wandering) & (evidence.crossings >= FEWEST_CROSSINGS)
    infinite = ~jnp.isfinite(covered) & ~jnp.isfinite(widest)
    doubt = jnp.where(moving, Doubt.motion, jnp.where(failed | infinite, Doubt.failure, Doubt.none)).astype(jnp.int8)
    period = jnp.where(outcome == Outcome.cycling, turn, jnp.nan)
    # A run that grows is limited by the rounding at its start; at its end it may have overflowed.
    lowest = jnp.where(fourth <= first, evidence.floors[1], evidence.floors[0])
    rate = _slope(evidence, lowest, bound)
    # Beats may hide a slow growth from two quarters; the slope over half of the run and a third quarter see more of it.
    constant = steady & ~(jnp.abs(rate) * _length(evidence) / 4 > ALIKE)
    constant &= jnp.all((jnp.abs(quarters[2] - quarters[1]) <= 2 * ALIKE * quarters[1]) | settled)
    return Summary(outcome, rate, period, doubt, constant, _needed(evidence, tolerance, open_, turn, rate), exponent)


def _norm(numbers: Float[Array, " players"]) -> Array:
    return jnp.sqrt(jnp.sum(numbers**2))


def _trending(evidence: Evidence, turn: Array) -> Array:
    """Whether the amplitude is on its way to one that is further off than a quarter of what it is.

    Two differences in the same direction, each larger than what points between the widest ones of a turn leave open,
    and no smaller the second time than a cycle that attracts within the run lets it be.
    """
    _, second, third, fourth = (_norm(quarter) for quarter in evidence.quarters)
    before, after = third - second, fourth - third
    missed = 0.5 * (np.pi * evidence.step / jnp.where(turn > 0, turn, jnp.inf)) ** 2
    least = (TREND + missed) * fourth + _norm(evidence.floor)
    same_way = (before * after > 0) & (jnp.minimum(jnp.abs(before), jnp.abs(after)) > least)
    return same_way & (after**2 > FAR * fourth * (jnp.abs(before) - jnp.abs(after)))


def _creeping(evidence: Evidence) -> Array:
    """Players that move one way while the distance to rest, as field and curvature have it, does not get shorter.

    With fields F and distances d between the ends of the last three quarters, the secant puts rest at
    F d / (F_before - F) from the end of a quarter. What covers much less in the last quarter than in the one before, a
    spiral whose field happens to be small at the end of one, does not go far: log t covers 0.7 times as much.
    """
    (_, before, middle, end), (early, late) = evidence.fields, evidence.moved
    third, fourth = evidence.quarters[2:]
    one_way = (late >= 0.9 * fourth) & (fourth >= LEAST_OF_CREEPING * third) & (end <= 0.95 * middle)
    return one_way & ((end * late) * (before - middle) >= 0.98 * (middle * early) * (middle - end))


def _power_law(evidence: Evidence) -> Array:
    """The exponent p of a distance that shrinks like t^-p over the last seven eighths of the run, else NaN.

    The mean logarithm of the amplitude in six windows, three octaves together, has to lie on a line over that of the
    time; the law may have begun a little before the run. What moves one way covers in each segment what its distance
    loses there: one power more. Sums of exponentials come close to many powers, but powers are of few kinds: p = 1, 1/2
    and 1/4, where a term of second, third or fifth order stops a field.
    """
    amplitudes, count = evidence.amplitudes, evidence.count
    xp = jnp if isinstance(count, Array) else np  # what no number of the run decides is no work for its program
    middles = xp.maximum((xp.arange(amplitudes.size) + 0.5) * 64 / count, 0.5)
    edges = np.asarray(WINDOWS)
    inside = (middles >= edges[:-1, None]) & (middles < edges[1:, None])
    ends = (middles < edges[:, None]).sum(axis=1)
    sizes = ends[1:] - ends[:-1]
    weights = inside / xp.maximum(sizes[:, None], 1)
    ahead = xp.log(xp.maximum(middles, edges[0]) + np.asarray(ORIGINS)[:, None]) @ weights.T
    ahead = ahead - ahead.mean(axis=1, keepdims=True)
    slopes = ahead / xp.maximum((ahead**2).sum(axis=1, keepdims=True), 1e-12)

    # Above the floor to the end, which is decided there: then it was so before.
    logs = jnp.log(jnp.clip(amplitudes, jnp.finfo(amplitudes.dtype).tiny, jnp.finfo(amplitudes.dtype).max))
    seen = (sizes > 0).all() & (_norm(evidence.quarters[3]) > 4 * _norm(evidence.floor))
    totals = jnp.cumsum(logs)  # no slices: their lengths may be that of a sweep's axis
    totals = jnp.stack([totals[end - 1] for end in ends])
    means = (totals[1:] - totals[:-1]) / xp.maximum(sizes, 1)
    below = means - jnp.mean(means)
    power = -jnp.sum(slopes * below, axis=1)
    off = jnp.sum((below + power[:, None] * ahead) ** 2, axis=1)
    bent = off / jnp.maximum(power * (ahead[:, -1] - ahead[:, 0]), 1e-12) ** 2
    straightest = jnp.min(bent)
    exponent = jnp.max(jnp.where(bent == straightest, power, 0)) - jnp.where(evidence.crossings > 0, 0, 1)
    of_a_kind = jnp.zeros((), bool)
    for power_of_order in EXPONENTS:
        of_a_kind |= jnp.abs(exponent / power_of_order - 1) <= NEAR_EXPONENT
    return jnp.where(seen & (straightest <= off.size * STRAIGHT**2) & of_a_kind, exponent, jnp.nan)


def _length(evidence: Evidence) -> Array:
    """Steps, or time, of the whole run, more or less."""
    return jnp.max(evidence.times) + evidence.times[0]


def _needed(evidence: Evidence, tolerance: Array, open_: Array, turn: Array, rate: Array) -> Array:
    """Steps, or time, after which an undecided run should be decided if it goes on as it does."""
    _, _, third, fourth = (_norm(quarter) for quarter in evidence.quarters)
    length = _length(evidence)
    widest = jnp.maximum(jnp.max(evidence.amplitudes), _norm(evidence.travelled))
    shrinking = (rate < 0) & (fourth < 0.95 * third)
    # The last quarter is as wide as its beginning, at three quarters of the run.
    rest = length - jnp.log(jnp.maximum(fourth / (tolerance * widest), 1)) / (0.75 * jnp.where(rate < 0, rate, -1))
    rest = 1.1 * rest
    turns = jnp.where(evidence.crossings > 1, 16 * turn, 4 * length)
    needed = jnp.where(shrinking, rest, turns)
    return jnp.where(open_ & (needed > length), needed, jnp.nan)


def _slope(evidence: Evidence, floor: Array, ceiling: Array) -> Array:
    """Slope of log amplitude over the second half of the leading segments between floor and ceiling."""
    amplitudes = evidence.amplitudes
    valid = jnp.isfinite(amplitudes) & (amplitudes > floor) & (amplitudes < ceiling)
    place = jnp.arange(amplitudes.size)
    count = jnp.min(jnp.where(valid, amplitudes.size, place))  # of those before the first that is not valid
    chosen = (place < count) & (place >= count // 2) & evidence.regular
    weights = chosen.astype(amplitudes.dtype)
    total = jnp.maximum(jnp.sum(weights), 1)
    logs = jnp.log(jnp.where(chosen, amplitudes, 1))
    time = evidence.times - jnp.sum(weights * evidence.times) / total
    spread = jnp.sum(weights * time**2)
    enough = (jnp.sum(weights) >= 3) & (spread > 0)
    return jnp.where(enough, jnp.sum(weights * time * logs) / jnp.where(spread > 0, spread, 1), jnp.nan)


def rounding_floor(size: Array) -> Array:
    """The amplitude that rounding alone keeps up around a point of this norm.

    Around 0 as well: a field that is a sum of terms of size 1 vanishes there up to their rounding only.
    """
    return jnp.finfo(size.dtype).eps * (64 * size + 4)


class Crossings(NamedTuple):
    """How often the orbit has crossed its centre upwards, when first and last, in what box of points, by what steps."""

    count: Array
    first: Array
    last: Array
    section: Float[Array, " players"]
    step: Array


def evidence_of_samples(
    times: Array,
    points: tuple[Float[Array, "samples n"], ...],
    crossings: Crossings,
    fields: Float[Array, "4 players"],
    variation: Float[Array, " players"],
    accuracy: float | Array,
    segments: int = 64,
) -> Evidence:
    """Evidence from points sampled at equally spaced times.

    Args:
        times: shape (m + 1,) with m a multiple of `segments`, itself a multiple of 4.
        points: for every player, its flattened parameters, shape (m + 1, n).
        crossings: counted at every step of the solver, as samples may be too far apart.
        fields, variation: see `Evidence`.
        accuracy: relative and absolute error of the points.
    """
    boxes = [_boxes(samples, segments) for samples in points]
    amplitudes = jnp.sqrt(sum(jnp.sum((high - low) ** 2, axis=-1) for low, high in boxes))
    start, end = (jnp.stack([jnp.linalg.norm(samples[place]) for samples in points]) for place in (0, -1))
    floors = floor_of(_norm(start), accuracy), floor_of(_norm(end), accuracy)
    _, half, late, last = marks(times.size)
    between = [
        [samples[late] - samples[half] for samples in points],
        [samples[last] - samples[late] for samples in points],
    ]
    return Evidence(
        times=(times[1:].reshape(segments, -1)[:, -1] + times[:-1].reshape(segments, -1)[:, 0]) / 2,
        amplitudes=amplitudes,
        regular=np.ones(segments, bool),
        quarters=quarters_of(points, segments),
        crossings=crossings.count,
        first=crossings.first,
        last=crossings.last,
        section=crossings.section,
        step=crossings.step,
        plane=sum(samples.shape[1] for samples in points) > 1,
        start=_norm(start),
        travelled=jnp.stack([jnp.linalg.norm(samples[-1] - samples[0]) for samples in points]),
        moved=jnp.stack([jnp.stack([jnp.linalg.norm(samples) for samples in row]) for row in between]),
        floor=floor_of(end, accuracy),
        floors=floors,
        fields=fields,
        variation=variation,
        count=segments,
    )


def marks(count: int) -> tuple[int, int, int, int]:
    """The first sample, and those at the ends of the last three quarters."""
    return 0, (count - 1) // 2, 3 * (count - 1) // 4, count - 1


def _boxes(points: Float[Array, "samples n"], segments: int) -> tuple[Array, Array]:
    """Corners of the box over every segment."""
    blocks = points[1:].reshape(segments, -1, points.shape[-1])
    # Every segment holds its starting point as well.
    blocks = jnp.concatenate([points[:-1].reshape(blocks.shape)[:, :1], blocks], axis=1)
    return blocks.min(axis=1), blocks.max(axis=1)


def quarters_of(points: tuple[Float[Array, "samples n"], ...], segments: int = 64) -> Float[Array, "4 players"]:
    """Amplitude of every player over each quarter of its samples."""
    amplitudes = []
    for low, high in (_boxes(samples, segments) for samples in points):
        low, high = (x.reshape(4, segments // 4, -1) for x in (low, high))
        amplitudes.append(jnp.linalg.norm(high.max(axis=1) - low.min(axis=1), axis=-1))
    return jnp.stack(amplitudes, axis=1)


def floor_of(size: Array, accuracy: float | Array) -> Array:
    """The amplitude at which only rounding or the solver's error is left around a point of this norm."""
    return jnp.maximum(30 * accuracy * (1 + size), rounding_floor(size))


def names(outcomes: Array) -> np.ndarray:
    """The outcomes' names, an array of strings of the same shape.

    >>> names(jnp.asarray([0, 2])).tolist()
    ['converged', 'diverged']
    """
    labels = np.array([outcome.name for outcome in Outcome])
    return labels[np.asarray(jax.device_get(outcomes), int)]
