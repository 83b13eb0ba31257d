"""What became of a run: outcomes, rates and periods from a few numbers gathered along the way."""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Outcome(enum.IntEnum):
    """What became of a game. Arrays of outcomes hold these integers; `advice` says what to do about one."""

    converged = 0
    cycling = 1
    diverged = 2
    undecided = 3

    @property
    def advice(self) -> str:
        """What the outcome means and what to change, in a sentence."""
        return _ADVICE[self]


_ADVICE = {
    Outcome.converged: "The players have come to rest; see run.residual for how well the field vanishes there.",
    Outcome.cycling: "The players go round at constant amplitude; run.period is the time of one turn. "
    "Smaller steps, consensus, extragradient or a gradient penalty turn a centre into a spiral.",
    Outcome.diverged: "The players left every reasonable bound or kept growing; smaller steps or a stabilised method "
    "may help, and dynamics.stability shows which eigenvalue is at fault.",
    Outcome.undecided: "Neither rest, nor a cycle, nor divergence within the steps given; look at run.rate and take "
    "more steps (or a larger max_steps for a flow).",
}


class Evidence(NamedTuple):
    """The numbers from which an outcome is decided.

    Amplitude means the diagonal of the box that holds the players over a stretch of the run.
    """

    times: Float[Array, " segments"]  # middle of each segment; zeros may follow those of the run
    amplitudes: Float[Array, " segments"]
    regular: np.ndarray  # segments of the common length
    quarters: Float[Array, "4"]  # amplitude over each quarter of the run
    crossings: Array  # of the orbit's centre, upwards, in the last quarter
    first: Array  # time of the first crossing
    last: Array  # time of the last one
    start: Array  # norm of the players at the start
    travelled: Array  # distance from the start to the end
    floor: Array  # amplitude at which only rounding, or the solver's error, is left at the end
    early_floor: Array  # likewise at the start
    residuals: tuple[Array, Array]  # norm of the field at the start and at the end
    count: int | Array  # segments of the run


class Summary(NamedTuple):
    """Outcome, rate and period of a run."""

    outcome: Array
    rate: Array
    period: Array


def summarise(evidence: Evidence, tolerance: Array, limit: Array) -> Summary:
    """Decide what became of a run.

    * diverged: not finite, or further from the start than `limit` times `max(1, start)`, or still growing (by a fifth
      over the last quarter) and twice as wide as in the first quarter;
    * converged: the last quarter is at the floor (rounding, or the solver's tolerance) and no slow drift below it, or
      narrower than `tolerance` times the widest stretch, still shrinking, and the field has lost nine tenths of its
      norm;
    * cycling: the amplitude of the last two quarters agrees within 5 % and the orbit's centre was crossed at least
      three times in the same direction;
    * undecided: anything else.

    The rate is the slope of the log of the amplitude over the second half of the segments before the amplitude first
    leaves the range between the floor and `limit`.
    """
    first, _, third, fourth = evidence.quarters
    floor = evidence.floor
    finite = jnp.isfinite(evidence.travelled) & jnp.isfinite(fourth)
    reach = jnp.maximum(jnp.max(evidence.amplitudes), jnp.max(evidence.quarters))

    blown_up = ~(finite & (evidence.travelled <= limit * jnp.maximum(1, evidence.start)))
    growing = (fourth > 1.2 * third) & (fourth > 2 * first)
    before, after = evidence.residuals
    calmed = after <= 0.1 * before
    # A drift adds up from segment to segment; what rounding keeps up does not.
    late = np.arange(evidence.amplitudes.size) >= 3 * evidence.count // 4
    drifting = fourth > 1.5 * jnp.max(jnp.where(late, evidence.amplitudes, 0))
    at_rest = (fourth <= floor) & (calmed | ~drifting)
    shrunk = (fourth <= tolerance * reach) & (fourth < 0.9 * third) & calmed
    steady = (jnp.abs(fourth - third) <= 0.05 * third) & (evidence.crossings >= 3)
    outcome = jnp.select(
        [blown_up, at_rest | shrunk, growing, steady],
        [Outcome.diverged, Outcome.converged, Outcome.diverged, Outcome.cycling],
        Outcome.undecided,
    ).astype(jnp.int8)
    period = (evidence.last - evidence.first) / jnp.maximum(evidence.crossings - 1, 1)
    period = jnp.where(outcome == Outcome.cycling, period, jnp.nan)
    # A run that grows is limited by the rounding at its start; at its end it may have overflowed.
    lowest = jnp.where(fourth <= first, floor, evidence.early_floor)
    return Summary(outcome, _slope(evidence, lowest, limit * jnp.maximum(1, evidence.start)), period)


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


def evidence_of_samples(
    times: Array, points: Array, residuals: tuple[Array, Array], accuracy: Array, segments: int = 64
) -> Evidence:
    """Evidence from points sampled at equally spaced times.

    Args:
        times: shape (m + 1,) with m a multiple of `segments`, itself a multiple of 4.
        points: shape (m + 1, n), the flattened players.
        residuals: norm of the field at the start and at the end.
        accuracy: relative and absolute error of the points.
    """
    blocks = points[1:].reshape(segments, -1, points.shape[-1])
    # Every segment holds its starting point as well.
    blocks = jnp.concatenate([points[:-1].reshape(blocks.shape)[:, :1], blocks], axis=1)
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    amplitudes = jnp.linalg.norm(high - low, axis=-1)
    low, high = (x.reshape(4, segments // 4, -1) for x in (low, high))
    low, high = low.min(axis=1), high.max(axis=1)
    centre, width = (low[2] + high[2]) / 2, high[2] - low[2]
    begin = 3 * (times.size - 1) // 4
    sizes = jnp.linalg.norm(points[jnp.asarray([0, -1])], axis=-1)
    early_floor, floor = jnp.maximum(30 * accuracy * (1 + sizes), rounding_floor(sizes))
    signal = points[begin:, jnp.argmax(width)] - centre[jnp.argmax(width)]
    before, after = signal[:-1], signal[1:]
    upward = (before < 0) & (after >= 0)
    gap = jnp.where(upward, after - before, 1)
    when = times[begin + 1 :] - after / gap * (times[1] - times[0])
    return Evidence(
        times=(times[1:].reshape(segments, -1)[:, -1] + times[:-1].reshape(segments, -1)[:, 0]) / 2,
        amplitudes=amplitudes,
        regular=np.ones(segments, bool),
        quarters=jnp.linalg.norm(high - low, axis=-1),
        crossings=jnp.sum(upward),
        first=jnp.min(jnp.where(upward, when, jnp.inf)),
        last=jnp.max(jnp.where(upward, when, -jnp.inf)),
        start=jnp.linalg.norm(points[0]),
        travelled=jnp.linalg.norm(points[-1] - points[0]),
        floor=floor,
        early_floor=early_floor,
        residuals=residuals,
        count=segments,
    )


def names(outcomes: Array) -> np.ndarray:
    """The outcomes' names, an array of strings of the same shape.

    >>> names(jnp.asarray([0, 2])).tolist()
    ['converged', 'diverged']
    """
    labels = np.array([outcome.name for outcome in Outcome])
    return labels[np.asarray(jax.device_get(outcomes), int)]
