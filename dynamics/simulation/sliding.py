"""Flows whose field jumps: smooth pieces between the surfaces of its switches, and sliding along them."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dynamics import _trees
from dynamics._compiling import cheap_jit
from dynamics.compiler.derivatives import released
from dynamics.compiler.switches import NoSide, gaps, on_sides
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players
from dynamics.outcomes import Outcome, Summary, marks
from dynamics.recurrence import Open
from dynamics.simulation.ending import distance_of, norms_and_change
from dynamics.simulation.flows import SAMPLES, Problem, Solved, SolverOptions, concluded, samples_of
from dynamics.simulation.result import Pieces, Run
from dynamics.solver_watch import SolverWatch, watched
from dynamics.surfaces import (
    JUMP,
    NoSurfaces,
    are_independent,
    flipped,
    gathered,
    is_sum,
    jump_across,
    row_of,
    sides_of,
    steps_down,
    tangent_mean,
    way_back,
)
from dynamics.updates.base import State

MOST_PIECES = 1000
MOST_NUMBERS = 2**22  # of the slopes of all switches
MOST_AT_ONCE = 20  # pieces that begin at what is one and the same time, up to rounding
LONGEST_STEP = 1 / 256  # of the whole time, so that few switches are passed there and back within a step
BACK = 64.0  # rate at which rounding is led back to the surface, over the whole time
AT_REST = 64  # roundings of the velocity beside a surface, up to which a sliding velocity vanishes
SAME_NORMAL = 1e-6


class NotFollowed(ValueError):
    """Why a flow cannot be followed through the jumps of its field."""


class Side(NamedTuple):
    """A smooth piece of the field, or the sliding along surfaces between several.

    Attributes:
        rows: the signs of all switches, shape (1 + m, K): on the upper sides of m surfaces, and below each in turn.
        numbers: a switch on each of the surfaces, shape (m,).
        used: whether it slides along each, shape (m,). There is one surface at least, used or not, so that one program
            serves both.
        watched: for every switch the side on which it ends the piece that it changes its sign, else 0; shape (K,).
        margins: how far a switch may be on its wrong side, as it may be at the start of a piece; shape (K,).
    """

    rows: np.ndarray
    numbers: np.ndarray
    used: np.ndarray
    watched: np.ndarray
    margins: np.ndarray

    @staticmethod
    def smooth(signs: np.ndarray, watched: np.ndarray, margins: np.ndarray) -> "Side":
        """The piece on one side of all switches."""
        return Side(np.stack([signs, signs]), np.zeros(1, int), np.zeros(1, bool), watched, margins)

    @property
    def surfaces(self) -> int:
        """On how many surfaces it slides."""
        return int(np.sum(self.used))


class Motion(NamedTuple):
    """Velocity of the state, gaps of all switches, and the shares of the lower sides in the velocity."""

    velocity: Any
    gaps: Any
    shares: Any
    back: Any  # towards the surfaces


def velocity_of(game: Game, flow: AbstractFlow, like: State) -> Callable[[Array], Array]:
    """The field of a flow as a function of time and state in one vector; the result is that of the state alone."""
    unravel = ravel_pytree(like)[1]

    def velocity(position: Array) -> Array:
        slope = flow.field(game, position[0], unravel(position[1:]))
        return ravel_pytree(slope)[0].astype(position.dtype)

    return released(velocity)


def motion_of(velocity: Callable[[Array], Array], rows: Array, numbers: Array, used: Array, position: Array) -> Motion:
    r"""The motion on one side of all switches, or along surfaces between several.

    With $f_0$ the velocity above all surfaces, $D_k$ its jump to below the k-th, and N the slopes of their gaps, the
    shares $\lambda$ solve $N(f_0-D\lambda)=0$: the velocity $f_0-D\lambda$ is a mean of those around, and tangent; see
    `surfaces.tangent_mean`.
    """

    def held(signs: Any, point: Array) -> tuple[Array, Array]:
        return on_sides(velocity, signs)(point)

    values, distances = jax.vmap(held, (0, None))(rows, position)
    slopes = jax.jacrev(lambda point: held(rows[0], point)[1][numbers])(position)
    slopes = jnp.where(used[:, None], slopes, 0)
    unused, gap = jnp.diag(jnp.where(used, 0, 1).astype(position.dtype)), jnp.where(used, distances[0][numbers], 0)
    ahead, normals, jumps = slopes[:, 0], slopes[:, 1:], values[0] - values[1:]

    def solve(matrix: Array, right: Array) -> Array:
        return jnp.linalg.solve(matrix + unused, right)

    mean, shares = tangent_mean(values[0], jumps, normals, ahead, solve)
    return Motion(mean, distances[0], jnp.where(used, shares, 0.5), way_back(normals, gap, solve))


@cheap_jit
def _motion_at(
    game: Game, flow: AbstractFlow, like: State, rows: Array, numbers: Array, used: Array, position: Array
) -> Motion:
    return motion_of(velocity_of(game, flow, like), rows, numbers, used, position)


@cheap_jit
def _gaps_at(game: Game, flow: AbstractFlow, like: State, position: Array) -> Array:
    return gaps(velocity_of(game, flow, like))(position)


@cheap_jit
def _held(game: Game, flow: AbstractFlow, like: State, signs: Any, position: Array) -> tuple[Array, Array, Array]:
    velocity = on_sides(velocity_of(game, flow, like), signs)
    value, distances = velocity(position)
    return value, distances, jax.jacrev(lambda point: velocity(point)[1])(position)


class Solution(NamedTuple):
    """A piece as diffrax has solved it; the times of what was not reached are infinite."""

    end: Array  # time and state
    grid: tuple[Array, Array]
    saved: tuple[Array, Array] | None
    switched: Array  # whether a switch, the end of a sliding motion, or the bound on the distance ended it
    ended: Array
    steps: Array
    watch: SolverWatch | None


@cheap_jit
def _solve_piece(
    game: Game,
    flow: AbstractFlow,
    start: State,
    position: Array,
    until: Array,
    last: Array,
    side: Side,
    armed: Array,
    watch: SolverWatch | None,
    saves: Array | None,
    options: SolverOptions,
    limit: Array,
) -> Solution:
    """From a position to a time, or to the first switch before it where switches are armed."""
    velocity, unravel = velocity_of(game, flow, start), ravel_pytree(start)[1]
    begin, bound = position[0], limit * jnp.maximum(1, _trees.norm(start.players))

    once = jax.jit(lambda *arguments: motion_of(velocity, *arguments))  # traced once

    def at(t: Array, y: Array) -> Motion:
        return once(side.rows, side.numbers, side.used, jnp.concatenate([t[None], y]))

    def field(t: Any, y: Any, args: Any) -> Any:
        motion = at(t, y)
        return motion.velocity - BACK / last * motion.back

    def players_of(y: Array) -> Players:
        return unravel(y).players

    def leads(t: Array, y: Array, args: Any, **_: Any) -> Array:
        """Positive as long as the piece goes on."""
        motion = at(t, y)
        ahead = jnp.where(side.watched != 0, side.watched * motion.gaps + side.margins, jnp.inf)
        inside = jnp.where(side.used, jnp.minimum(motion.shares, 1 - motion.shares), jnp.inf)
        distance = bound - distance_of(players_of(y), start.players)
        least = jnp.where(armed, jnp.min(jnp.concatenate([ahead, inside]), initial=jnp.inf), jnp.inf)
        least = jnp.minimum(least, distance)
        return jnp.where(jnp.isnan(least), -1, least).astype(y.dtype)

    controller = options.stepsize_controller
    keep = {"grid": diffrax.SubSaveAt(ts=jnp.clip(samples_of(last), begin, until), t1=True)}
    if saves is not None:
        keep["saved"] = diffrax.SubSaveAt(ts=jnp.clip(saves, begin, until))
    accuracy = 8 * float(jnp.finfo(position.dtype).eps) ** 0.6
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        options.solver,
        begin,
        until,
        options.dt0,
        position[1:],
        saveat=diffrax.SaveAt(subs=keep, controller_state=watch is not None),
        stepsize_controller=controller if watch is None else watched(controller, players_of, last, watch),
        max_steps=options.max_steps,
        event=diffrax.Event(leads, optx.Bisection(accuracy, accuracy, flip=True), direction=False),
        adjoint=options.adjoint,
        throw=False,
    )
    times: Any = solution.ts
    values: Any = solution.ys
    mask: Any = solution.event_mask
    controller_state: Any = solution.controller_state
    count = jnp.sum(jnp.isfinite(times["grid"])) - 1
    return Solution(
        end=jnp.concatenate([times["grid"][count][None], values["grid"][count]]),
        grid=(times["grid"][:-1], values["grid"][:-1]),
        saved=None if saves is None else (times["saved"], values["saved"]),
        switched=mask,
        ended=solution.result == diffrax.RESULTS.successful,
        steps=solution.stats["num_steps"],
        watch=None if watch is None else controller_state[1],
    )


class Crossing(NamedTuple):
    """The surfaces at a point.

    Attributes:
        rows: signs of all switches, on every combination of sides, shape (2^m, K).
        sides: these combinations, as the signs of the switches in `numbers`, shape (2^m, m).
        numbers: a switch on each surface, shape (m,).
        normals: slopes of their gaps over time and state, relative to those over the state, shape (m, 1 + n).
        members: of each surface, all its switches.
        unwatched: switches that are at the point, but on no surface, shape (K,).
        margins: see `Side`.
    """

    rows: np.ndarray
    sides: np.ndarray
    numbers: np.ndarray
    normals: np.ndarray
    members: list[list[int]]
    unwatched: np.ndarray
    margins: np.ndarray


class _Vectors:
    """A flow and its game as functions of time and state in one vector of NumPy."""

    def __init__(self, game: Game, flow: AbstractFlow, start: State):
        self.parts = game, flow, start
        flat, self.unravel = ravel_pytree(start)
        self.dtype, self.size = flat.dtype, flat.size
        self.eps = eps = float(jnp.finfo(flat.dtype).eps)
        self.near = eps**0.6  # distance up to which a point is on a surface, relative to 1 + |x|
        self.beside = eps**0.45  # at which the sides are looked at
        self.small = max(JUMP, 16 * eps)
        self.begin = np.concatenate([[0.0], np.asarray(flat, float)])
        self.count = _gaps_at(*self.parts, self.array(self.begin)).size
        if not self.count:
            raise NotFollowed("its program has no switches")
        if self.count * self.size > MOST_NUMBERS:
            raise NotFollowed(f"{self.count} switches and {self.size} numbers are too many")
        try:
            jax.eval_shape(_held, *self.parts, jnp.ones(self.count, jnp.int8), self.array(self.begin))
        except NoSide as reason:
            raise NotFollowed(str(reason)) from None

    def array(self, numbers: np.ndarray) -> Array:
        return jnp.asarray(numbers, self.dtype)

    def gaps(self, position: np.ndarray) -> np.ndarray:
        return np.asarray(_gaps_at(*self.parts, self.array(position)), float)

    def held(self, signs: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Velocity, gaps, and their slopes over time and state, on one side of the switches."""
        value, distances, slopes = _held(*self.parts, jnp.asarray(signs), self.array(position))
        return np.asarray(value, float), np.asarray(distances, float), np.asarray(slopes, float)

    def motion(self, side: Side, position: np.ndarray) -> Motion:
        motion = _motion_at(*self.parts, *map(jnp.asarray, side[:3]), self.array(position))
        return Motion(*(np.asarray(part, float) for part in motion))

    def crossing_at(self, position: np.ndarray, signs: np.ndarray) -> Crossing:
        """The surfaces at a point, which was come to on the sides with these signs.

        Raises:
            NotFollowed: there are too many, or they are not smooth and independent.
        """
        _, here, slopes = self.held(signs, position)
        free = self.gaps(position)
        size = 1 + float(np.linalg.norm(position[1:]))
        lengths = np.linalg.norm(slopes[:, 1:], axis=1)
        with np.errstate(all="ignore"):
            at = np.isfinite(here) & ((np.abs(here) <= self.near * size * lengths) | (free == 0))
            normals = slopes / lengths[:, None]
        numbers = np.flatnonzero(at & (lengths > 0) & np.isfinite(lengths))
        try:
            groups = gathered(numbers.tolist(), normals, SAME_NORMAL)
        except NoSurfaces as reason:
            raise NotFollowed(str(reason)) from None
        firsts = np.array([normals[group[0], 1:] for group in groups]).reshape(-1, self.size)
        if len(groups) > self.size or not are_independent(firsts):
            raise NotFollowed("surfaces of switches that are not independent meet")
        signs_of = sides_of(len(groups))
        shifts = self.beside * size * signs_of @ np.linalg.pinv(firsts).T
        probes = np.stack([self.gaps(position + np.concatenate([[0.0], shift])) for shift in shifts])
        rows = np.where(at, np.sign(probes), np.sign(np.where(np.isfinite(free), free, 0))).astype(np.int8)
        unwatched, kept, members = at.copy(), [], []
        for place, group in enumerate(groups):
            pattern = signs_of[:, place] * signs_of[0, place]
            true = [k for k in group if rows[0, k] and np.all(rows[:, k] == rows[0, k] * pattern)]
            if true:
                kept.append(place)
                members.append(true)
                unwatched[true] = False
            elif not np.all(rows[:, group] == rows[0, group]):
                raise NotFollowed("the switches are not on smooth surfaces")
        chosen = np.all(signs_of[:, [k for k in range(len(groups)) if k not in kept]] == 1, axis=1)
        numbers = np.array([group[0] for group in members], int)
        return Crossing(
            rows=rows[chosen],
            sides=rows[chosen][:, numbers],
            numbers=numbers,
            normals=normals[numbers],
            members=members,
            unwatched=unwatched,
            margins=np.where(at, 4 * self.near * size * lengths, 0.0),
        )

    def side_at(self, position: np.ndarray, signs: np.ndarray, exit_to: tuple[int, int] | None) -> Side:
        """Where the solution goes on from a point.

        Args:
            position: time and state.
            signs: of the sides on which it came.
            exit_to: a switch on a surface along which it slid, and the sign on the side that it leaves to.

        Raises:
            NotFollowed: it is not known, or not unique.
        """
        crossing = self.crossing_at(position, signs)
        values = np.stack([self.held(row, position)[0] for row in crossing.rows])
        if not np.all(np.isfinite(values)):
            raise NotFollowed("the field is not finite on a side of a surface")
        chosen = self._chosen(crossing, values, exit_to)
        upper = np.where(chosen == 0, 1, chosen)
        slides = np.flatnonzero(chosen == 0)
        around = [upper, *(flipped(upper, k) for k in slides.tolist())]
        rows = np.stack([crossing.rows[row_of(crossing.sides, side)] for side in around])
        watched_on = np.where(crossing.unwatched, 0, rows[0])
        for k in slides:
            watched_on[crossing.members[k]] = 0
        watched_on = watched_on.astype(np.int8)
        if not len(slides):
            return Side.smooth(rows[0], watched_on, crossing.margins)
        return Side(rows, crossing.numbers[slides], np.ones(len(slides), bool), watched_on, crossing.margins)

    def _chosen(self, crossing: Crossing, values: np.ndarray, exit_to: tuple[int, int] | None) -> np.ndarray:
        """For every surface the side to which it goes on, 0 where it slides along it."""
        sides, normals, numbers = crossing.sides, crossing.normals, crossing.numbers
        count = len(numbers)
        if not count:
            return np.zeros(0, int)
        largest = float(np.max(np.linalg.norm(values, axis=1)))
        jumps = [jump_across(values, sides, k) > self.small * largest for k in range(count)]
        # The gap's own rate of change without a motion of the state, and by it.
        ahead, across = normals[:, 0], normals[:, 1:]
        enough = self.small * max(largest, float(np.max(np.abs(ahead))))
        leaves = {}
        if exit_to is not None:
            leaves = {k: exit_to[1] for k in range(count) if exit_to[0] in crossing.members[k]}
            leaves = {
                k: sign * crossing.rows[0, numbers[k]] * crossing.rows[0, exit_to[0]] for k, sign in leaves.items()
            }
        options = [(leaves[k],) if k in leaves else (0, 1, -1) if jumps[k] else (1, -1) for k in range(count)]
        strict, loose, reasons = [], [], []
        for choice in map(np.array, itertools.product(*options)):
            slides = np.flatnonzero(choice == 0)
            upper = np.where(choice == 0, 1, choice)
            value = values[row_of(sides, upper)]
            least = math.inf
            if len(slides):
                steps = steps_down(values, sides, upper, slides)
                if not _leads_back(-across[slides] @ steps.T):
                    continue
                if len(slides) > 1 and not is_sum(values, sides, upper, slides, self.small * largest):
                    reasons.append("surfaces meet, and the velocities do not say which mean a solution takes")
                    continue
                value, shares = tangent_mean(value, steps, across[slides], ahead[slides], np.linalg.solve)
                least = float(np.min(np.minimum(shares, 1 - shares))) * largest
            speeds = choice * (ahead + across @ value)
            away = [speeds[k] for k in range(count) if choice[k] and k not in leaves]
            least = min([least, *away])
            if least > enough:
                strict.append(choice)
            elif least >= -enough:
                loose.append(choice)
        if len(strict) == 1:
            return strict[0]
        if strict:
            raise NotFollowed("the field leads away from a surface on both sides, and solutions are not unique")
        if loose:
            return loose[0]
        raise NotFollowed(reasons[0] if reasons else "on no side of the surfaces that meet a solution goes on")


def _leads_back(matrix: np.ndarray) -> bool:
    """Whether all principal minors are positive, so that the motion to the surfaces and along them is unique."""
    places = range(len(matrix))
    chosen = (list(part) for size in range(1, len(matrix) + 1) for part in itertools.combinations(places, size))
    return all(np.linalg.det(matrix[np.ix_(part, part)]) > 0 for part in chosen)


class _Followed(NamedTuple):
    """A solution in pieces, in NumPy; what was not reached is infinite."""

    position: np.ndarray  # at the end
    times: np.ndarray  # of samples
    states: np.ndarray
    saved: np.ndarray | None
    starts: list[float]
    sides: list[Side]
    note: str
    left: bool
    ended: bool
    steps: int
    watch: SolverWatch | None


def _follow(
    vectors: _Vectors, until: float, saves: Array | None, options: SolverOptions, limit: Array, classify: bool
) -> _Followed:
    """From piece to piece until the end."""
    dtype, last = vectors.dtype, vectors.array(np.asarray(until))
    game, flow, start = vectors.parts
    samples = np.asarray(samples_of(last), float)
    times, states = np.full(SAMPLES + 1, np.inf), np.full((SAMPLES + 1, vectors.size), np.inf)
    saved = None if saves is None else np.full((saves.size, vectors.size), np.inf)
    watch = SolverWatch.start(start.players, dtype) if classify else None
    position, signs, exit_to = vectors.begin, np.zeros(vectors.count, np.int8), None
    starts: list[float] = []
    sides: list[Side] = []
    note, left, ended, steps = "", False, False, 0
    part = slice(1, 1 + _trees.size(start.players))  # of a position: the players
    bound = float(limit) * max(1, float(np.linalg.norm(vectors.begin[part])))

    def solve(side: Side, end: Any, armed: bool) -> Solution:
        rows, numbers, used, watched_on = map(jnp.asarray, side[:4])
        held: Any = Side(rows, numbers, used, watched_on, vectors.array(side.margins))  # pyright: ignore
        ends = vectors.array(position), vectors.array(end), last
        return _solve_piece(game, flow, start, *ends, held, jnp.asarray(armed), watch, saves, options, limit)

    while not (ended or left):
        at_once = [begin for begin in starts if begin >= position[0] - vectors.near * until]
        try:
            if len(starts) >= MOST_PIECES or len(at_once) >= MOST_AT_ONCE:
                raise NotFollowed(f"it switches ever faster, and {len(starts)} pieces end there")
            side = vectors.side_at(position, signs, exit_to)
        except NotFollowed as reason:
            note = f"From time {position[0]:.6g} on an ordinary solver goes through jumps of the field: {reason}."
            nothing = np.zeros(vectors.count, np.int8)
            side = Side.smooth(nothing, nothing, np.zeros(vectors.count))
        for _ in range(3 if side.surfaces else 0):
            position = np.concatenate([position[:1], position[1:] - vectors.motion(side, position).back])
        starts.append(float(position[0]))
        sides.append(side)
        solution = solve(side, until, not note)
        switched, arrived, which, shares = bool(solution.switched), True, -1, np.zeros(0)
        if switched:
            located = np.asarray(solution.end, float)
            motion = vectors.motion(side, located)
            ahead = np.where(side.watched != 0, side.watched * motion.gaps + side.margins, np.inf)
            shares = np.asarray(motion.shares)
            inside = np.where(side.used, np.minimum(shares, 1 - shares), np.inf)
            distance = bound - float(np.linalg.norm(located[part] - vectors.begin[part]))
            leads = np.concatenate([ahead, inside, [distance]])
            which = int(np.argmin(np.where(np.isnan(leads), -np.inf, leads)))
            left = which == len(leads) - 1
            if located[0] > position[0]:  # to the switch, so that nothing is interpolated
                steps += int(solution.steps)
                solution = solve(side, located[0], False)
                arrived = bool(solution.ended)
        steps += int(solution.steps)
        ended, watch = bool(solution.ended) and not switched, solution.watch
        end = np.asarray(solution.end, float)
        here = _keep(samples, solution.grid, position[0], end[0], states)
        times[here] = samples[here]
        if saves is not None and solution.saved is not None and saved is not None:
            _keep(np.asarray(saves, float), solution.saved, position[0], end[0], saved)
        signs, exit_to = side.rows[0], None
        position = end
        if switched and not left and arrived:
            if which < vectors.count:
                position = _on_switch(vectors, side, which, position, end[0] - starts[-1], until)
            else:
                place = which - vectors.count
                exit_to = int(side.numbers[place]), 1 if shares[place] < 0.5 else -1
        elif not ended and not left:
            break
        if not (ended or left) and position[0] >= until:
            ended = True
    return _Followed(position, times, states, saved, starts, sides, note, left, ended, steps, watch)


def _keep(times: np.ndarray, solved: tuple[Array, Array], begin: float, end: float, into: np.ndarray) -> np.ndarray:
    """Keep the states at those times that a piece has reached, and tell which these are."""
    reached, states = (np.asarray(part, float) for part in solved)
    here = np.isfinite(reached) & (times >= begin) & (times <= end)
    into[here] = states[here]
    return here


def _on_switch(
    vectors: _Vectors, side: Side, number: int, position: np.ndarray, length: float, until: float
) -> np.ndarray:
    """The position moved along the motion to where a switch is exactly on its surface."""
    for _ in range(3):
        velocity = np.concatenate([[1.0], vectors.motion(side, position).velocity])
        _, distances, slopes = vectors.held(side.rows[0], position)
        rate = float(slopes[number] @ velocity)
        time = -float(distances[number]) / rate if rate else math.inf
        if not abs(time) <= 1e-3 * length:
            break
        position = position + time * velocity
    return np.concatenate([np.minimum(position[:1], until), position[1:]])


def run_through_jumps(problem: Problem) -> tuple[Run, Summary, Open | None]:
    """A flow in the sense of Filippov, from one switch of its field to the next one.

    On a surface at which the field jumps the solution goes on to the side that leads away from it, or slides along it
    where both sides lead to it. The end of a piece is an event of diffrax.

    Raises:
        NotFollowed: the flow has noise, no switches, or too many; its program rounds or sorts.
    """
    game, flow, state, until, saves, options, (_, limit), _, classify = problem
    if isinstance(flow, NoisyFlow):
        raise NotFollowed("it has noise")
    # In double precision where there is one, with the numbers that the game has: events need it.
    dtype, wide = until.dtype, jnp.result_type(float)
    vectors = _Vectors(*_trees.cast((game, flow, state), wide))
    given, settings, limit = _trees.cast((saves, options, jnp.asarray(limit)), wide)
    followed = _follow(vectors, float(until), given, settings, limit, classify)
    count = int(np.sum(np.isfinite(followed.times)))
    times = np.concatenate([followed.times, [np.inf]])
    states = np.concatenate([followed.states, np.full((1, vectors.size), np.inf)])
    times[count], states[count] = followed.position[0], followed.position[1:]
    unravel = jax.vmap(vectors.unravel)
    solved = Solved(
        times=vectors.array(times),
        sampled=unravel(vectors.array(states)),
        saved=None if followed.saved is None else unravel(vectors.array(followed.saved)).players,
        left=jnp.asarray(followed.left),
        ended=jnp.asarray(followed.ended),
        steps=jnp.asarray(followed.steps),
        watch=followed.watch,
    )
    solved = _trees.cast(solved, dtype)
    side, before = followed.sides[-1], None
    if side.surfaces:
        before = jnp.stack(
            [_speeds_at(vectors, followed, times[place], states[place]) for place in marks(SAMPLES + 1)[:-1]]
        ).astype(dtype)
    mode = tuple(map(jnp.asarray, side[:3]))
    run, summary, open_ = _concluded(problem, solved, before, mode)
    surfaces = jnp.asarray([each.surfaces for each in followed.sides])
    pieces = Pieces(jnp.asarray(np.array(followed.starts), dtype), surfaces, followed.note)
    speed, outcome, needed = run.residual, run.outcome_number, run.needed
    if side.surfaces:
        speed = jnp.linalg.norm(_speeds_at(vectors, followed, *np.split(followed.position, [1]))).astype(dtype)
        beside = vectors.held(side.rows[0], followed.position)[0]
        sliding = vectors.motion(side, followed.position).velocity
        if followed.ended and np.linalg.norm(sliding) <= AT_REST * vectors.eps * np.linalg.norm(beside):
            # It came to a pseudo-equilibrium in finite time, and stays, whatever the last quarter looks like.
            outcome, needed = jnp.full_like(outcome, Outcome.converged), jnp.full_like(needed, jnp.nan)
    run = eqx.tree_at(
        lambda r: (r.residual, r.outcome_number, r.needed, r.pieces),
        run,
        (speed, outcome, needed, pieces),
        is_leaf=lambda leaf: leaf is None,
    )
    # A second look takes ordinary steps.
    return run, summary, None if followed.note or surfaces.any() else open_


def _speeds_at(vectors: _Vectors, followed: _Followed, time: Any, state: np.ndarray) -> Array:
    """Norm of every player's velocity at a time."""
    if not np.all(np.isfinite(state)):
        return jnp.full(len(vectors.parts[2].players), jnp.inf)
    place = max(int(np.searchsorted(followed.starts, float(np.squeeze(time)), side="right")) - 1, 0)
    velocity = vectors.motion(followed.sides[place], np.append(time, state)).velocity
    return _trees.norms(vectors.unravel(vectors.array(velocity)).players)


@cheap_jit
def _concluded(
    problem: Problem, solved: Solved, before: Array | None, mode: tuple[Array, Array, Array]
) -> tuple[Run, Summary, Open | None]:
    """The run; where it slides at the end the sliding velocity takes the place of the game's field."""
    velocity = velocity_of(problem.game, problem.flow, problem.state)
    unravel = ravel_pytree(problem.state)[1]
    last = jnp.sum(jnp.isfinite(solved.times)) - 1
    end = ravel_pytree(jax.tree.map(lambda leaf: leaf[last], solved.sampled))[0]

    def at(players: Players) -> Array:
        return jnp.concatenate([solved.times[last][None], ravel_pytree(State(players, unravel(end).memory))[0]])

    def speeds(players: Players) -> Players:
        return unravel(motion_of(velocity, *mode, at(players)).velocity).players

    def fields_of(points: tuple[Players, ...], probes: Array) -> tuple[Array, Array]:
        assert before is not None
        norms, variation = norms_and_change(speeds, points[-1:], probes)
        # The sliding velocity is a mean of others, and vanishes up to their rounding.
        rounding = (
            AT_REST * jnp.finfo(end.dtype).eps * jnp.linalg.norm(on_sides(velocity, mode[0][0])(at(points[-1]))[0])
        )
        return jnp.concatenate([before, norms]), variation + rounding

    return concluded(problem, solved, None if before is None else fields_of)
