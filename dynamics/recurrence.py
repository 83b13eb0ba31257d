"""A second look at runs whose end leaves a doubt: cycles, several frequencies and chaos told apart; where numbers end.

The run goes on for a while from its last state, with a second one that starts close by. A cycle of few steps comes back
to the same point; one of many steps crosses a section at the same point; a motion of several frequencies does neither,
but neighbours stay neighbours; in chaos they part exponentially.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from dynamics import _trees
from dynamics.game import Players
from dynamics.outcomes import ALIKE, CLOSED, FEWEST_CROSSINGS, STEPS_IN_TURN, Doubt, Outcome, Summary
from dynamics.updates.base import State

FEWEST_STEPS = 512  # of a second look
TURNS = 48  # that it takes in, where they are longer
WINDOWS = 4  # over which the distance of the neighbours is averaged
EXPONENTIAL = 1.5  # growth of its logarithm from window to window; of a power of time it is less, and becomes less
NEUTRAL = 0.75
SAME = 1e-4  # of the amplitude, within which a cycle of few steps closes
AWAY = 0.05  # of the amplitude, beyond which the players have left the point to which they are to come back


class Open(eqx.Module):
    """From where to look again, and for what.

    Attributes:
        doubt: see `dynamics.outcomes.Doubt`.
        state: the last one; where numbers are not finite, one from which some steps on they are not.
        step: how many steps, or how much time, there were before it.
        start: the players at the start of the run.
        bound: distance from there beyond which the players have left.
        amplitude: of every player over the last quarter.
        axis: one-hot: the widest coordinate.
        centre: the centre of the orbit in this coordinate.
        turn: steps between two crossings of the centre.
        most: the most steps to be taken.
        length: time that a step takes.
    """

    doubt: Array
    state: State
    step: Array
    start: Players
    bound: Array
    amplitude: Float[Array, " players"]
    axis: Players
    centre: Array
    turn: Array
    most: Array
    length: Array


class Look(NamedTuple):
    """What a second look has found."""

    closes: Array  # number of steps after which the players are back where they were; 0: they are not
    growth: Float[Array, " windows"]  # mean log of the neighbours' distance, in units of the first one
    home: Array  # number of steps, with a part of one, from passing the first point closely to the next time; 0: uneven
    section_closed: Array  # whether all crossings of the centre are at one point
    section_round: Array  # whether they are where the chords of a circle, or an ellipse, cross a line
    constant: Array  # whether the amplitude is that of the run's last quarter, as far as that can be seen
    crossings: Array
    first: Array
    last: Array
    shortest: Array  # steps between two crossings
    longest: Array
    finite: Array  # whether all steps made finite numbers
    steps: Array  # taken, with finite players
    players: Players  # there
    failed: Bool[Array, " players"]  # which players the step after that made not finite


def most_steps(open_: Open) -> Array:
    """How many steps a second look takes at most; for one run or for many."""
    turn = jnp.where(jnp.isfinite(open_.turn), open_.turn, 0)
    wanted = jnp.clip(TURNS * turn, FEWEST_STEPS, jnp.maximum(FEWEST_STEPS, open_.most)).astype(jnp.int32)
    most = jnp.where(open_.doubt == Doubt.failure, open_.most.astype(jnp.int32), 0)
    return jnp.where(open_.doubt == Doubt.motion, wanted, most)


def look_again(advance: Callable[[State, Array], State], open_: Open) -> Look:
    """Go on with a run that is in doubt; does nothing with one that is not.

    Args:
        advance: from a state and the number of steps since `open_` to the next state.
        open_: from where.
    """
    open_ = jax.lax.stop_gradient(open_)
    amplitude, dtype = open_.amplitude, open_.amplitude.dtype
    eps = float(jnp.finfo(dtype).eps)
    count = most_steps(open_)
    scale = jnp.where(amplitude > 0, amplitude, 1)
    relative = jnp.max(_trees.norms(open_.state.players) / scale)  # what rounding leaves of a small amplitude
    near = jnp.clip(jnp.maximum(eps**0.5, 1e3 * eps * relative), 0, 1e-2)
    same = jnp.clip(jnp.maximum(SAME, 50 * eps * relative), 0, AWAY / 5)
    ahead = _signs(open_.state.players)
    ahead = tuple(
        jax.tree.map(lambda leaf, a=a, n=n: leaf * (a / n), player)
        for player, a, n in zip(ahead, amplitude, _trees.norms(ahead), strict=True)
    )

    def beside(state: State, other: State, factor: Array) -> State:
        """The neighbour, drawn nearer; made anew where it has become the same point."""

        def drawn(here: Array, there: Array) -> Array:
            if not jnp.issubdtype(here.dtype, jnp.inexact):
                return here
            return jnp.where(factor > 0, here + factor.astype(here.dtype) * (there - here), here)

        other = jax.tree.map(drawn, state, other)
        anew = tuple(
            jax.tree.map(lambda x, y, z: jnp.where(factor > 0, x, y + near.astype(y.dtype) * z), *trees)
            for trees in zip(other.players, state.players, ahead, strict=True)
        )
        return eqx.tree_at(lambda state: state.players, other, anew)

    def goes_on(carry):
        return (carry["i"] < count) & carry["finite"]

    def body(carry):
        i, old = carry["i"], carry["pair"]
        new = jax.vmap(lambda state: advance(state, i))(old)
        before, after = _first(old), _first(new)
        finite_players = jnp.isfinite(_trees.norms(after.players))
        finite = jnp.all(finite_players)
        # The neighbours.
        other = jax.tree.map(lambda leaf: leaf[1], new)
        apart = _trees.norms(jax.tree.map(jnp.subtract, other.players, after.players)) / scale
        distance = jnp.sqrt(jnp.sum(jnp.where(amplitude > 0, apart, 0) ** 2))
        usable = (distance > 1e-6 * near) & jnp.isfinite(distance)
        factor = jnp.where(usable, near / jnp.where(usable, distance, 1), 0)
        change = jnp.where(usable, jnp.log(jnp.where(usable, distance, near) / near), jnp.log(1e-6).astype(dtype))
        log = carry["log"] + change
        window = jnp.minimum(i * WINDOWS // jnp.maximum(count, 1), WINDOWS - 1)
        growth = carry["growth"] + jnp.where(jnp.arange(WINDOWS) == window, log, 0)
        pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), after, beside(after, other, factor))
        # Back at the same point?
        back = jnp.max(
            jnp.where(
                amplitude > 0, _trees.norms(jax.tree.map(jnp.subtract, after.players, open_.state.players)) / scale, 0
            )
        )
        away = carry["away"] | (back > AWAY)
        hit = back <= same
        closes = jnp.where((carry["closes"] == 0) & away & hit, i + 1, carry["closes"])
        due = (closes > 0) & ((i + 1) % jnp.maximum(closes, 1) == 0)
        missed = carry["missed"] | (due & (back > 3 * same))
        # Past the same point, in the same direction, between two steps?
        ahead_of, level = (
            _trees.dot(along, jax.tree.map(jnp.subtract, state.players, origin)) for state in (after, before)
        )
        passing = (level < 0) & (ahead_of >= 0)
        share = -level / jnp.where(passing, ahead_of - level, 1)
        passed = jax.tree.map(lambda a, b: a + share.astype(a.dtype) * (b - a), before.players, after.players)
        nearby = jnp.where(amplitude > 0, _trees.norms(jax.tree.map(jnp.subtract, passed, origin)) / scale, 0)
        home = passing & carry["away"] & jnp.all(nearby <= CLOSED)
        lap = i.astype(dtype) + share - carry["home_at"]
        # Through the centre?
        signal, now = (_trees.dot(open_.axis, state.players) - open_.centre for state in (before, after))
        upward, part, point = crossed(signal, now, before.players, after.players)
        when = i.astype(dtype) + part
        begun = carry["crossings"] > 0
        low, high = widened(carry["low"], carry["high"], point, upward, begun)
        interval = jnp.where(upward & begun, i - carry["at"], -1)
        updated = dict(
            homes=carry["homes"] + home,
            home_at=jnp.where(home, i.astype(dtype) + share, carry["home_at"]),
            lap_least=jnp.where(home, jnp.minimum(lap, carry["lap_least"]), carry["lap_least"]),
            lap_most=jnp.where(home, jnp.maximum(lap, carry["lap_most"]), carry["lap_most"]),
            i=i + 1,
            pair=pair,
            finite=finite,
            failed=~finite_players,
            log=log,
            growth=growth,
            away=away,
            closes=closes,
            missed=missed,
            low=low,
            high=high,
            lowest=jax.tree.map(jnp.minimum, carry["lowest"], after.players),
            highest=jax.tree.map(jnp.maximum, carry["highest"], after.players),
            crossings=carry["crossings"] + upward,
            first=jnp.where(upward & ~begun, when, carry["first"]),
            last=jnp.where(upward, when, carry["last"]),
            at=jnp.where(upward, i, carry["at"]),
            shortest=jnp.where(interval > 0, jnp.minimum(interval, carry["shortest"]), carry["shortest"]),
            longest=jnp.maximum(interval, carry["longest"]),
        )
        kept = carry | dict(finite=finite, failed=~finite_players)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), updated, kept)

    origin = open_.state.players
    along = jax.tree.map(jnp.subtract, advance(open_.state, jnp.zeros((), jnp.int32)).players, origin)
    shadow = beside(open_.state, open_.state, jnp.zeros((), dtype))
    zero, none, no = jnp.zeros((), dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    end = jax.lax.while_loop(
        goes_on,
        body,
        dict(
            homes=none,
            home_at=zero,
            lap_least=jnp.full((), jnp.inf, dtype),
            lap_most=zero,
            i=none,
            pair=jax.tree.map(lambda a, b: jnp.stack([a, b]), open_.state, shadow),
            finite=~no,
            failed=jnp.zeros(amplitude.shape, bool),
            log=zero,
            growth=jnp.zeros(WINDOWS, dtype),
            away=no,
            closes=none,
            missed=no,
            low=open_.state.players,
            high=open_.state.players,
            lowest=open_.state.players,
            highest=open_.state.players,
            crossings=none,
            first=zero,
            last=zero,
            at=none,
            shortest=jnp.full((), jnp.iinfo(jnp.int32).max, jnp.int32),
            longest=none,
        ),
    )
    width = _trees.norms(jax.tree.map(jnp.subtract, end["high"], end["low"]))
    resolution = 64 * eps * _trees.norms(open_.state.players)
    box = _trees.norms(jax.tree.map(jnp.subtract, end["highest"], end["lowest"]))
    wider = box > (1 + ALIKE) * amplitude + resolution
    narrower = (box < (1 - ALIKE) * amplitude - resolution) & (count >= open_.most)  # else it was not seen as long
    several = end["crossings"] >= FEWEST_CROSSINGS
    often = (end["closes"] > 0) & (3 * end["closes"] <= end["i"])
    turn = (end["last"] - end["first"]) / jnp.maximum(end["crossings"] - 1, 1)
    chord = (1 - jnp.cos(jnp.pi / jnp.maximum(turn, 2))) / 2  # how far inside of the curve it is
    even = (end["homes"] >= FEWEST_CROSSINGS) & (end["lap_most"] <= (1 + CLOSED) * end["lap_least"] + 1)
    # To the end: a slow spiral passes closely for some turns, and then no more.
    even &= end["i"] - end["home_at"] <= 1.5 * end["lap_most"] + 1
    return Look(
        home=jnp.where(even, end["home_at"] / jnp.maximum(end["homes"], 1), 0),
        section_round=several & jnp.all(width <= (chord + 0.1) * amplitude + resolution),
        closes=jnp.where(often & ~end["missed"], end["closes"], 0),
        constant=~jnp.any(wider | narrower),
        growth=end["growth"] / jnp.maximum(count / WINDOWS, 1),
        section_closed=several
        & (turn >= STEPS_IN_TURN)
        & (_trees.size(origin) > 1)
        & jnp.all(width <= CLOSED * amplitude + resolution),
        crossings=end["crossings"],
        first=end["first"],
        last=end["last"],
        shortest=end["shortest"],
        longest=end["longest"],
        finite=end["finite"],
        steps=end["i"],
        players=_first(end["pair"]).players,
        failed=end["failed"],
    )


def widest_axis(low: Players, high: Players) -> Players:
    """The coordinate along which a box is widest, as a unit vector."""
    flat, unravel = ravel_pytree(jax.tree.map(jnp.subtract, high, low))
    return unravel(jax.nn.one_hot(jnp.argmax(flat), flat.size, dtype=flat.dtype))


def crossed(then: Array, now: Array, before: Players, after: Players) -> tuple[Bool[Array, ""], Array, Players]:
    """Whether a signal rises through 0 on the way from one point to another, after which part of it, and where."""
    upward = (then < 0) & (now >= 0)
    part = -then / jnp.where(upward, now - then, 1)
    return upward, part, jax.tree.map(lambda a, b: a + part.astype(a.dtype) * (b - a), before, after)


def widened(low: Players, high: Players, point: Players, wanted: Array, begun: Array) -> tuple[Players, Players]:
    """The box with another point, where wanted; the first one makes the box."""
    low = jax.tree.map(lambda a, b: jnp.where(wanted & ~(begun & (a < b)), b, a), low, point)
    return low, jax.tree.map(lambda a, b: jnp.where(wanted & ~(begun & (a > b)), b, a), high, point)


def decide(summary: Summary, look: Look, noisy: bool) -> Summary:
    """The outcome after a second look.

    * cycling: the players come back to the same point after the same number of steps, time and again, which is the
      period then; or they cross the centre at one point, or pass the first point closely at even intervals; or
      neighbours stay neighbours, and the amplitude is and stays constant (an invariant circle, several frequencies).
      Then the period is the mean time of a turn if every turn takes as many steps up to one and the points of crossing
      are where they are on a circle, and else NaN;
    * chaotic: neighbours part exponentially, in all of the windows but the first;
    * undecided: anything else. With noise, a motion without period is undecided as well.

    Args:
        summary: of the run.
        look: the second look.
        noisy: whether the steps draw random numbers.
    """
    change = jnp.diff(look.growth)[1:]
    parting, staying = jnp.all(change >= EXPONENTIAL), jnp.any(change < NEUTRAL)
    closes = look.closes > 0
    turn = (look.last - look.first) / jnp.maximum(look.crossings - 1, 1)
    even = (look.crossings >= FEWEST_CROSSINGS) & (look.longest - look.shortest <= 1) & look.section_round
    home = look.home > 0
    steady = summary.steady & look.constant
    round_ = look.section_closed | home | (steady & staying & (even if noisy else True))
    outcome = jnp.select(
        [closes, parting, round_],
        [Outcome.cycling, Outcome.chaotic, Outcome.cycling],
        Outcome.undecided,
    ).astype(jnp.int8)
    outcome = jnp.where(look.finite, outcome, jnp.int8(Outcome.undecided))
    period = jnp.where(look.section_closed | even, turn, jnp.where(home, look.home, jnp.nan))
    period = jnp.where(closes, look.closes.astype(period.dtype), period)
    period = jnp.where(outcome == Outcome.cycling, period, jnp.nan)
    again = summary.doubt == Doubt.motion
    decided = outcome != Outcome.undecided
    return summary._replace(
        outcome=jnp.where(again, outcome, summary.outcome),
        period=jnp.where(again, period, summary.period),
        needed=jnp.where(again & decided, jnp.nan, summary.needed),
    )


def _first(pair: State) -> State:
    return jax.tree.map(lambda leaf: leaf[0], pair)


def _signs(players: Players) -> Players:
    """A direction in general position: numbers of size 1, of which no two in a row are the same."""
    leaves, structure = jax.tree.flatten(players)

    def wave(leaf: Array, number: int) -> Array:
        place = jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape) + number
        return (1 + 0.5 * jnp.sin(2.4 * place + 0.7)) * jnp.where(place % 2 == 0, 1, -1).astype(leaf.dtype)

    return jax.tree.unflatten(structure, [wave(leaf, number) for number, leaf in enumerate(leaves)])
