"""The only loop of the library: a scan for updates, a diffrax solve for flows."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import as_whole, check_arrays, is_concrete
from dynamics._compiling import cheap_jit, kind_of
from dynamics._memory import check_memory, counted
from dynamics.compiler.jaxprs import subjaxprs
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Losses, Players, as_losses, as_players
from dynamics.outcomes import (
    Doubt,
    Evidence,
    Outcome,
    Summary,
    evidence_of_samples,
    floor_of,
    marks,
    probe_sizes,
    quarters_of,
    rounding_floor,
    summarise,
)
from dynamics.recurrence import Open, decide, look_again, widened
from dynamics.solver_watch import watched
from dynamics.updates.base import State, Update

Measure = Callable[[Game, Players], PyTree]

SEGMENTS = 64  # stretches of a run whose amplitudes are compared
UNROLL = 8  # steps per turn of the loop where a step costs less than reading and writing the state
PADDED_BYTES = 2**24  # of saved players, beyond which no memory is spent to spare a compilation
ARITHMETIC = {"add", "sub", "mul", "neg", "add_any", "integer_pow", "square", "convert_element_type", "copy"}
STEPS_PER_TURN = 64  # of a second look at a flow
MOST_STEPS = 2**14
SAMPLES = 1024  # points along a flow from which its outcome is decided; a multiple of SEGMENTS


class Run(eqx.Module):
    """What a simulation returns. All fields are arrays, so that a batch of runs is a run with a leading axis.

    Attributes:
        players: the players at the saved steps, each leaf with a leading axis.
        losses: the loss of every player at the saved steps.
        steps: the saved steps (updates) or times (flows).
        measures: what the caller's measures returned at the saved steps.
        final: the players at the end.
        state: the whole state at the end, memory included; pass it as `players` to go on from there.
        outcome: an integer, see `dynamics.Outcome`.
        rate: slope of the log amplitude per step or unit of time; negative when contracting. NaN when there is nothing
            to measure.
        period: steps or time of one turn of a cycling game, else NaN; NaN as well where the motion never closes up.
        residual: norm of the field at the end.
        solver_steps: steps the ODE solver took; the number of steps for updates.
        reached: the last step or time at which the players were finite numbers, as far as it was looked for; otherwise
            the end of the run, or where the ODE solver gave up.
        failed: for every player, whether its gradient is not a number there.
        needed: steps or time that would decide an undecided game if it goes on as it does; NaN where nothing tells.
        gave_up: whether the ODE solver stopped before the end, with finite players.
    """

    players: Players
    losses: Losses
    steps: Array
    measures: dict[str, PyTree]
    final: Players
    state: State
    outcome: Array
    rate: Array
    period: Array
    residual: Array
    solver_steps: Array
    reached: Array
    failed: Array
    needed: Array
    gave_up: Array

    @property
    def times(self) -> Array:
        """Another name for `steps`, for flows."""
        return self.steps

    def describe(self) -> str:
        """Outcome, rate and advice of one run, in a sentence or two.

        Raises:
            ValueError: this is a batch of runs.
        """
        if jnp.ndim(self.outcome):
            raise ValueError("this is a batch of runs; look at run.outcome, an array, instead")
        outcome = Outcome(int(self.outcome))
        flow = jnp.issubdtype(jnp.result_type(self.reached), jnp.floating)
        reached = f"time {float(self.reached):.6g}" if flow else f"step {int(self.reached)}"
        parts = [f"rate {float(self.rate):.4g}"]
        if outcome is Outcome.cycling:
            period = float(self.period)
            parts.append("no period" if np.isnan(period) else f"period {period:.6g}")
        if outcome is Outcome.stalled:
            parts.append(f"residual {float(self.residual):.4g}")
        if outcome in (Outcome.not_a_number, Outcome.diverged) and self.failed.any():
            names = ", ".join(str(index) for index in np.flatnonzero(self.failed))
            players = "player" if self.failed.sum() == 1 else "players"
            parts.append(f"after {reached} the gradient of {players} {names} is not a number")
        text = f"{outcome.name} ({', '.join(parts)}). {outcome.advice}"
        if outcome is not Outcome.undecided:
            return text
        if self.gave_up:
            return (
                f"{outcome.name} ({', '.join(parts)}). The solver gave up at {reached} after {int(self.solver_steps)} "
                "steps. A stiff flow makes an explicit solver take tiny steps: pass solver=diffrax.Kvaerno5(), or a "
                "larger max_steps."
            )
        needed = float(self.needed)
        if np.isfinite(needed):
            text += f" About {needed:.2g} {'units of time' if flow else 'steps'} should decide."
        return text


def simulate(
    game: Game,
    method: Update | AbstractFlow,
    players: Any,
    *,
    steps: int | None = None,
    until: float | None = None,
    save_every: int | float | Literal["last"] | None = None,
    measures: Mapping[str, Measure] | None = None,
    key: PRNGKeyArray | None = None,
    classify: bool = True,
    tolerance: float = 1e-3,
    limit: float = 1e6,
    progress: bool = False,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    dt0: float | None = None,
    max_steps: int = 100_000,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Run:
    """Run a game under an update for so many steps, or along a flow until some time.

    Compiled; works under `jax.jit` and `jax.vmap`, and can be differentiated in forward mode. Numbers in the game and
    in the method follow the players' dtype. A game that blows up ends as `diverged` and disturbs nobody.

    Another call of the same kind compiles nothing: other numbers, other numbers of steps of an update, functions that
    are made anew with the same code and read the same values. (Where steps are saved, numbers of saves that differ by
    less than a fifth or so share a program while the saves take few megabytes. Under an outer `jax.jit` or `jax.vmap`
    the number of steps belongs to the outer program.) Functions that read what may change unseen, such as an object of
    a class of your own, are compiled each; the log of `dynamics._functions` warns of those, with the reason.

    Args:
        game: the game.
        method: an update (with `steps`) or a flow (with `until`).
        players: starting point, a tuple with a number, array or pytree per player; or `run.state` to go on.
        steps: number of steps of an update.
        until: final time of a flow.
        save_every: save each so many steps (updates, default 1) or each so much time (flows, default until/512), the
            start included; `"last"` keeps only the end, in memory that does not grow with the number of steps.
        measures: functions `(game, players) -> pytree of arrays` to be saved along with the losses, by name.
        key: for minibatches; step t uses `fold_in(key, t)`. `None`: exact expectations. Flows are
            exact but for `NoisyFlow`, whose Brownian path the key decides.
        classify: decide the outcome, rate and period along the way; without, only divergence is told.
        tolerance: how much the amplitude must have shrunk for an outcome `converged`.
        limit: distance from the start, relative to the larger of 1 and the start's norm, beyond which a game has
            diverged.
        progress: show a progress bar.
        solver, stepsize_controller, dt0, max_steps, adjoint: for flows, passed to diffrax; by default Tsit5 with
            adaptive steps and tolerances of 1e-9 (float64) or 1e-6, and forward-mode differentiation. A `NoisyFlow`
            needs `dt0`, the length of its steps, and is solved by ShARK; it should be saved at multiples of `dt0`, as
            values in between are interpolated.

    Returns:
        a `Run`; see `dynamics.outcomes.summarise` for how outcomes are decided.

    Raises:
        TypeError: the method is no update and no flow, or the players are no arrays of real numbers.
        ValueError: a number is out of bounds, the start has the wrong shape, NaN in the start, or what is to be saved
            has no room in memory.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Alternating
    >>> run = simulate(Bilinear(1.0), Alternating(optax.sgd(0.1), optax.sgd(0.1)), (1.0, 1.0), steps=1000)
    >>> Outcome(int(run.outcome)).name, round(float(run.period), 3)  # 2 pi / (2 arcsin(h/2))
    ('cycling', 62.806)
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    state = start_state(game, method, players)
    dtype = _trees.float_dtype(state.players)
    game, method = jax.tree.map(partial(_number_of_type, dtype=dtype), (game, method))
    measures = dict(measures or {})
    for name, value in (("tolerance", tolerance), ("limit", limit)):
        if not (isinstance(value, jax.core.Tracer) or value > 0):
            raise ValueError(f"{name} is {value}; expected a positive number")
    thresholds = _number(tolerance, dtype), _number(limit, dtype)
    meter = diffrax.NoProgressMeter()
    if progress:
        meter = diffrax.TqdmProgressMeter(refresh_steps=1 if isinstance(method, Update) else 20)
    if isinstance(method, Update):
        if until is not None or steps is None:
            raise ValueError(f"an update takes steps=..., not until=...; got steps={steps}, until={until}")
        steps = as_whole("steps", steps)
        every = steps if save_every == "last" else 1 if save_every is None else as_whole("save_every", save_every)
        if every > steps:
            raise ValueError(f"save_every is {every}, more than the {steps} steps; use save_every='last'")
        if steps >= 2**31:
            raise ValueError(f"steps is {counted(steps)}; expected fewer than 2^31. Go on from run.state with more")
        _check_saves(steps // every + 1, state.players)
        schedule = steps, every, save_every == "last"
        rest = thresholds, tuple(measures.items()), bool(classify), meter
        if is_concrete((game, method, state, key, thresholds)):
            ran = _run_with_any_steps(game, method, state, key, schedule, dtype, *rest)
        else:
            ran = _run_update(game, method, state, key, _Schedule(*schedule), *rest, False)
        return _decided(game, method, key, *ran)
    if steps is not None or until is None:
        raise ValueError(f"a flow takes until=..., not steps=...; got steps={steps}, until={until}")
    if not (isinstance(until, jax.core.Tracer) or 0 < float(until) < np.inf):
        raise ValueError(f"until is {until}; expected a positive time")
    _check_noise(method, key, dt0)
    if isinstance(save_every, (int, float)) and not isinstance(until, jax.core.Tracer) and save_every > 0:
        _check_saves(int(min(float(until) / save_every, 1e300)) + 1, state.players)
    saves = _save_times(until, save_every, dtype)
    if isinstance(method, NoisyFlow):
        solver = diffrax.ShARK() if solver is None else solver
        stepsize_controller = diffrax.ConstantStepSize() if stepsize_controller is None else stepsize_controller
        dt0 = jnp.asarray(dt0, dtype)
    if stepsize_controller is None:
        accuracy = 1e-9 if dtype == jnp.float64 else 1e-6
        stepsize_controller = diffrax.PIDController(rtol=accuracy, atol=accuracy)
    solver = diffrax.Tsit5() if solver is None else solver
    until = _number(until, dtype)
    options = (key, solver, stepsize_controller, dt0, max_steps, diffrax.ForwardMode() if adjoint is None else adjoint)
    rest = tuple(measures.items()), classify, meter, *options
    return _decided(game, method, key, *_run_flow(game, method, state, until, saves, thresholds, *rest))


def _check_saves(count: int, players: Players) -> None:
    """Raise `ValueError` where what is saved has no room in memory: the players, and a time and losses beside them."""
    each = (_trees.size(players) + len(players) + 2) * _trees.float_dtype(players).itemsize
    check_memory(f"{counted(count)} saves", count, each, "save less often with save_every=, or 'last'")


def simulate_lane(
    game: Game,
    update: Update,
    players: Any,
    *,
    steps: int,
    save_every: int,
    key: PRNGKeyArray | None,
    tolerance: Array,
    limit: Array,
) -> tuple[Run, Summary, Open]:
    """As `simulate`, for one of many games that run side by side: faster, but longer to compile.

    What is in doubt at the end is left so; `second_look` decides it.

    Turns are counted by a loop of the last quarter's own: counting them costs as much as a step of a small game, and
    nobody asks for those of the other quarters.
    """
    state = start_state(game, update, players)
    dtype = _trees.float_dtype(state.players)
    game, update = _trees.cast((game, update), dtype)
    thresholds = jnp.asarray(tolerance, dtype), jnp.asarray(limit, dtype)
    schedule = _Schedule(steps, save_every, False)
    return _run_update(game, update, state, key, schedule, thresholds, (), True, diffrax.NoProgressMeter(), True)


def _number_of_type(leaf: Any, dtype: Any) -> Any:
    """A leaf as `_trees.cast` makes it, or an array of NumPy: then it is the compiled program's call that places it."""
    if not eqx.is_inexact_array(leaf):
        return leaf
    if isinstance(leaf, jax.core.Tracer) or leaf.dtype != dtype:
        return jax.lax.convert_element_type(leaf, dtype)
    if not getattr(leaf, "weak_type", False):
        return leaf
    here = leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())
    return np.asarray(leaf) if here and not leaf.ndim else jax.lax.convert_element_type(leaf, dtype)


def _number(value: Any, dtype: Any) -> Any:
    """A number as an array; what is known is left to the compiled program to place."""
    return jnp.asarray(value, dtype) if isinstance(value, jax.Array) else np.asarray(value, dtype)


def _check_noise(flow: AbstractFlow, key: PRNGKeyArray | None, dt0: Any) -> None:
    if not isinstance(flow, NoisyFlow):
        if key is not None:
            raise ValueError(
                "a flow follows exact expectations; leave key=None, or simulate an update or a dynamics.flows.NoisyFlow"
            )
        return
    if key is None:
        raise ValueError("a NoisyFlow needs random numbers; pass key=jax.random.key(0)")
    if dt0 is None:
        raise ValueError(
            "a NoisyFlow takes steps of a fixed length; pass dt0=..., for instance a hundredth of the time in which "
            "the flow changes"
        )
    if not (isinstance(dt0, jax.core.Tracer) or 0 < float(dt0) < np.inf):
        raise ValueError(f"dt0 is {dt0}; expected a positive time")


def start_state(game: Game, method: Update | AbstractFlow, players: Any) -> State:
    """Check a starting point and make it the state before the first step.

    Raises:
        TypeError: a leaf is no array of real numbers.
        ValueError: a wrong number or shape of players, or a number that is not finite.
    """
    if isinstance(players, State):
        _once(_check_state, method, game, players)
        return players
    players = as_players(players)
    known = _once(_check_players, game, players)
    if not known:  # which may depend on the game's numbers
        _check_shapes(game, players)
    return method.init(game, players)


_accepted: dict[Any, Any] = {}  # what a check returned for arguments of a kind


def _once(check: Callable, *arguments: Any) -> Any:
    """What a check returns that looks at shapes and types only; made once for all arguments of a kind."""
    kind = kind_of(arguments)
    if kind is None:
        return check(*arguments)
    if (check, kind) not in _accepted:
        result = check(*arguments)
        if len(_accepted) >= 4096:
            _accepted.clear()
        _accepted[check, kind] = result
    return _accepted[check, kind]


def _check_state(method: Update | AbstractFlow, game: Game, state: State) -> None:
    expected = eqx.filter_eval_shape(method.init, game, state.players)
    if jax.tree.structure(state) != jax.tree.structure(expected):
        raise ValueError(
            f"the state has the memory {jax.tree.structure(state.memory)}, which {type(method).__name__} does "
            "not know; go on with the method that made the state, or pass run.final to begin anew"
        )


def _check_shapes(game: Game, players: Players) -> bool:
    """Compare with an equilibrium, and tell whether there is one."""
    for known in game.equilibria()[:1]:
        expected, got = (jax.tree.map(jnp.shape, tree) for tree in (tuple(known), players))
        if expected != got:
            raise ValueError(f"the players have shapes {got}; {type(game).__name__} expects {expected}")
        return True
    return False


def _check_players(game: Game, players: Players) -> bool:
    """Compare with an equilibrium and with the losses, and tell whether there is an equilibrium."""
    known = _check_shapes(game, players)
    try:
        losses = jax.eval_shape(partial(_losses_of, game), players)
    except (TypeError, ValueError, IndexError) as error:
        shapes = jax.tree.map(jnp.shape, players)
        raise ValueError(f"{type(game).__name__} cannot take players of shapes {shapes}: {error}") from error
    if len(losses) != len(players):
        raise ValueError(f"{len(players)} players for a game of {len(losses)} losses; expected one entry per player")
    return known


def _losses_of(game: Game, players: Players) -> tuple:
    """The losses as they come, each of them checked, for a random batch."""
    returned = game.losses(players, jax.random.key(0))
    count = len(returned) if isinstance(returned, (tuple, list)) else len(players)
    return as_losses(returned, count, f"{type(game).__name__}.losses")


class _Schedule(eqx.Module):
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
    whole = _Schedule(steps, every, only_last).segments(dtype, watched)
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
        nought = jnp.zeros((), _trees.float_dtype(players))
        none = jnp.zeros((), jnp.int32)
        quarters = jnp.zeros((4, len(players)), nought.dtype)
        box = players, players
        return _Watch(*box, quarters, box, zeros, zeros, nought, none, nought, nought, (zeros, zeros), state, none)

    def open_quarter(self, players: Players, index: Array) -> "_Watch":
        """Close the box of the quarter before, and watch turns about its centre."""
        width = jax.tree.map(jnp.subtract, self.high, self.low)
        flat, unravel = ravel_pytree(width)
        axis = unravel(jax.nn.one_hot(jnp.argmax(flat), flat.size, dtype=flat.dtype))
        centre = jax.tree.map(lambda a, b: (a + b) / 2, self.low, self.high)
        quarters = jnp.where(jnp.arange(4)[:, None] == index - 1, _trees.norms(width), self.quarters)
        ends = tuple(
            jax.tree.map(lambda a, b, n=number: jnp.where(index == n, a, b), players, old)
            for number, old in zip((2, 3), self.ends, strict=True)
        )
        signal = _trees.dot(axis, jax.tree.map(jnp.subtract, players, centre))
        nought, none = jnp.zeros_like(self.first), jnp.zeros_like(self.crossings)
        rest = self.section, self.finite, self.finite_step
        return _Watch(players, players, quarters, ends, centre, axis, signal, none, nought, nought, *rest)


def _widen(low: Players, high: Players, players: Players) -> tuple[Players, Players]:
    # Selected, not `jnp.minimum`: what is no number leaves the box as it is, and it is one instruction.
    low = jax.tree.map(lambda old, new: jnp.where(new < old, new, old), low, players)
    return low, jax.tree.map(lambda old, new: jnp.where(new > old, new, old), high, players)


def _repeat(advance: Callable, begin: Array, count: Array, state: State, unroll: int) -> State:
    """Advance the state by so many steps, `unroll` of them per turn of the loop."""

    def turn(start: Array, steps: int, i: Array, state: State) -> State:
        for step in range(steps):
            state = advance(state, start + steps * i + step)
        return state

    if unroll > 1:
        turns = count // unroll
        state = jax.lax.fori_loop(0, turns, partial(turn, begin, unroll), state)
        begin, count = begin + turns * unroll, count - turns * unroll
    return jax.lax.fori_loop(0, count, partial(turn, begin, 1), state)


def _along(body: Callable, carry: Any, xs: Any, count: Array | None) -> tuple[Any, Any]:
    """`jax.lax.scan` over the first `count` entries; what would follow is left at zero."""
    if count is None:
        return jax.lax.scan(body, carry, xs)
    entry = partial(jax.tree.map, lambda x: x[0])
    ys = jax.eval_shape(lambda: body(carry, entry(xs))[1])
    length = len(jax.tree.leaves(xs)[0])
    ys = jax.tree.map(lambda y: jnp.zeros((length, *y.shape), y.dtype), ys)

    def one(i: Array, both: Any) -> Any:
        carry, ys = both
        carry, y = body(carry, jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), xs))
        return carry, jax.tree.map(lambda all, own: jax.lax.dynamic_update_index_in_dim(all, own, i, 0), ys, y)

    return jax.lax.fori_loop(0, count, one, (carry, ys))


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


def _run_with_any_steps(
    game, update, state, key, schedule, dtype, thresholds, measures, classify, meter
) -> tuple[Run, Summary, Open | None]:
    """As `_run_update`, by a program that does not depend on the number of steps."""
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
        known = not isinstance(array, jax.core.Tracer) and not array.weak_type and len(array.devices()) == 1
        return known and not jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)

    if all(len(array) == count for array in arrays):
        return arrays
    if not all(map(is_simple, arrays)):
        return [array[:count] for array in arrays]
    (device,) = arrays[0].devices()
    usual = jax.config.jax_default_device or jax.local_devices()[0]
    return jax.device_put([np.asarray(array)[:count] for array in arrays], None if device == usual else device)


def _run_of_update(
    game, update, state, key, schedule, thresholds, measures, classify, meter, apart
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

    def advance(state: State, step: Array) -> State:
        if key is None:
            return one_step(update, game, state)
        return update.step(game, state, jax.random.fold_in(key, step))

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

            def turned(before, after, crossings, first, last, section):
                part = now / jnp.where(upward, now - signal, 1)
                when = (step + 1).astype(dtype) - part
                point = jax.tree.map(lambda a, b: b - part.astype(b.dtype) * (b - a), before, after)
                section = widened(*section, point, upward, crossings > 0)
                first = jnp.where(upward & (crossings == 0), when, first)
                return crossings + upward, first, jnp.where(upward, when, last), section

            given = before, state.players, crossings, first, last, section
            if apart:  # among many games most steps turn none of those that are computed together
                turns = jax.lax.cond(upward, turned, lambda before, after, *turns: turns, *given)
            else:
                turns = turned(*given)
            return (state, low, high), now, *turns

        middle = _trees.dot(watch.axis, watch.centre)  # the axis is one coordinate, so that no rounding differs
        finite = jnp.isfinite(_trees.norm(state.players))
        kept, kept_step = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (state, jnp.asarray(end - length, jnp.int32)),
            (watch.finite, watch.finite_step),
        )
        boxed = state, state.players, state.players
        turns = watch.signal, watch.crossings, watch.first, watch.last, watch.section
        unwatched = jnp.where(index == 3, 0, length) if apart else 0
        if apart:
            boxed = jax.lax.fori_loop(0, unwatched, plainly, boxed)
        (state, low, high), *turns = jax.lax.fori_loop(unwatched, length, closely, (boxed, *turns))
        amplitude = _trees.norm(jax.tree.map(jnp.subtract, high, low))
        low, high = jax.tree.map(jnp.minimum, watch.low, low), jax.tree.map(jnp.maximum, watch.high, high)
        watch = _Watch(low, high, watch.quarters, watch.ends, watch.centre, watch.axis, *turns, kept, kept_step)
        return (state, watch, meter.step(meter_state, end / segments.steps)), amplitude

    def row(carry, numbers):
        carry, amplitudes = jax.lax.scan(watched_segment if classify else plain_segment, carry, numbers)
        saved = None if segments.saves is None else carry[0].players
        return carry, (amplitudes, saved)

    watch = _Watch.start(state) if classify else None
    xs = tuple(jnp.asarray(x) for x in (segments.lengths, segments.ends, segments.quarters, segments.opens))
    (state, watch, meter_state), (amplitudes, saved) = _along(row, (state, watch, meter.init()), xs, segments.rows)
    meter.close(meter_state)

    taken = jnp.asarray(segments.steps)
    if segments.saves is None:
        saved, saved_steps = jax.tree.map(lambda leaf: leaf[None], state.players), taken[None]
    else:
        count = segments.saves
        if segments.rows is not None:  # what is left at zero may be no place for a game
            done = jnp.arange(count) < segments.steps // segments.every
            saved = jax.tree.map(
                lambda old, end: jax.vmap(lambda one, row: jnp.where(one, row, end))(done, old), saved, state.players
            )
        saved = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:count]]), begin.players, saved)
        saved_steps = jnp.arange(count + 1) * segments.every
    start = _trees.norm(begin.players)
    bound = thresholds[1] * jnp.maximum(1, start)
    if classify:
        turns, axis = (watch.crossings, watch.first, watch.last, watch.section), watch.axis
        centre = _trees.dot(axis, watch.centre)
        watch = watch.open_quarter(state.players, 4)
        sizes, quarters = _trees.norms(state.players), watch.quarters
        travelled = _distances(state.players, begin.players)
        floor, (half, late) = rounding_floor(sizes), watch.ends
        probes = probe_sizes(quarters, travelled, sizes, floor, thresholds[0])
        fields, variation = _fields(game, (begin.players, half, late, state.players), probes, key)
        evidence = Evidence(
            times=jnp.asarray(segments.middles, dtype),
            amplitudes=segments.gathered(amplitudes),
            regular=segments.regular,
            count=segments.count,
            quarters=quarters,
            crossings=turns[0],
            first=turns[1],
            last=turns[2],
            section=_distances(*turns[3]),
            step=jnp.ones((), dtype),
            plane=_trees.size(state.players) > 1,
            start=start,
            travelled=travelled,
            moved=jnp.stack([_distances(late, half), _distances(state.players, late)]),
            floor=floor,
            floors=(rounding_floor(start), rounding_floor(_trees.norm(state.players))),
            fields=fields,
            variation=variation,
        )
        summary = summarise(evidence, *thresholds)
        if segments.places is not None:
            few = _only_divergence(jnp.linalg.norm(travelled), start, thresholds[1])
            summary = jax.tree.map(lambda a, b: jnp.where(segments.count < 4, a, b), few, summary)
        failing = summary.doubt == Doubt.failure
        turn = (turns[2] - turns[1]) / jnp.maximum(turns[0] - 1, 1)
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
        travelled = _distance(state.players, begin.players)
        summary, open_ = _only_divergence(travelled, start, thresholds[1]), None
        residual = _residual(game, state.players, key)
    no = jnp.zeros(len(state.players), bool)
    rest = residual, taken, taken, no, jnp.zeros((), bool)
    return _finish(game, state, saved, saved_steps, measures, key, summary, *rest), summary, open_


_run_update = eqx.filter_jit(_run_of_update)
_run_jit = cheap_jit(_run_of_update)


def _save_times(until: Any, save_every: Any, dtype: Any) -> Array | None:
    if save_every == "last":
        return None
    if save_every is None:
        return until * jnp.linspace(0, 1, 513, dtype=dtype)
    if isinstance(save_every, str) or not 0 < save_every <= until:
        raise ValueError(f"save_every is {save_every}; expected a time between 0 and until={until}, or 'last'")
    return jnp.asarray(save_every * np.arange(int(until / save_every * (1 + 1e-12)) + 1), dtype)


@cheap_jit
def _run_flow(
    game,
    flow,
    state,
    until,
    saves,
    thresholds,
    measures,
    classify,
    meter,
    key,
    solver,
    controller,
    dt0,
    max_steps,
    adjoint,
) -> tuple[Run, Summary, Open | None]:
    tolerance, limit = thresholds
    dtype = until.dtype
    start = _trees.norm(state.players)
    # diffrax stumbles over empty containers in a state (an empty memory, say), so it gets the bare leaves.
    leaves, structure = jax.tree.flatten(state)

    def field(t, y, args):
        return jax.tree.leaves(flow.field(game, t, jax.tree.unflatten(structure, y)))

    def diffusion(t, y, args):
        return lx.DiagonalLinearOperator(jax.tree.leaves(flow.noise(jax.tree.unflatten(structure, y))))

    def players_at(t, y, args):
        return jax.tree.unflatten(structure, y).players

    def too_large(t, y, args, **kwargs):
        return ~(_distance(players_at(t, y, args), state.players) <= limit * jnp.maximum(1, start))

    def players_of(y):
        return jax.tree.unflatten(structure, y).players

    def flat_players(*leaves):
        return tuple(ravel_pytree(player)[0] for player in players_of(leaves))

    # Whatever is saved costs time to compile: the end comes last in the samples from which the outcome is decided.
    grid = until * jnp.linspace(0, 1, SAMPLES + 1, dtype=dtype)
    keep = {"grid": diffrax.SubSaveAt(ts=grid if classify else None, t1=True)}
    if saves is not None:
        keep["saved"] = diffrax.SubSaveAt(ts=saves, fn=lambda *at: jax.tree.leaves(players_at(*at)))
    terms = diffrax.ODETerm(field)
    if isinstance(flow, NoisyFlow):
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        area = diffrax.SpaceTimeLevyArea  # serves the solvers that need it, and those that need less
        path = diffrax.VirtualBrownianTree(jnp.zeros((), dtype), until, dt0 / 2, shapes, key, area)
        terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(diffusion, path))
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        jnp.zeros((), dtype),
        until,
        dt0,
        leaves,
        saveat=diffrax.SaveAt(subs=keep, controller_state=classify),
        stepsize_controller=watched(controller, players_of, until) if classify else controller,
        max_steps=max_steps,
        event=diffrax.Event(too_large),
        progress_meter=meter,
        adjoint=adjoint,
        throw=False,
    )
    # The end is stored after the last sample that was reached; what was not reached is infinite.
    sampled = solution.ys["grid"]
    last = jnp.sum(jnp.isfinite(solution.ts["grid"])) - 1
    final = jax.tree.unflatten(structure, [leaf[last] for leaf in sampled])
    travelled = _distance(final.players, state.players)
    occurred = solution.result == diffrax.RESULTS.event_occurred
    blown = occurred | ~jnp.isfinite(travelled)
    ended = solution.result == diffrax.RESULTS.successful
    reached = solution.ts["grid"][last]
    if classify:
        tolerances = [getattr(controller, name, None) for name in ("rtol", "atol")]
        accuracy = max([float(jnp.finfo(dtype).eps), *(value for value in tolerances if value is not None)])
        points = jax.vmap(flat_players)(*[leaf[:-1] for leaf in sampled])
        covered, sizes = _distances(final.players, state.players), _trees.norms(final.players)
        quarters, floor = quarters_of(points, SEGMENTS), floor_of(sizes, accuracy)
        probes = probe_sizes(quarters, covered, sizes, floor, tolerance, floor)
        places = jnp.asarray(marks(SAMPLES + 1)[:-1])
        begin, half, late = (players_of([leaf[place] for leaf in sampled]) for place in places)
        watch = solution.controller_state[1]
        fields, variation = _fields(game, (begin, half, late, final.players), probes, None)
        evidence = evidence_of_samples(grid, points, watch.found(until), fields, variation, accuracy, SEGMENTS)
        summary = summarise(evidence._replace(travelled=covered, start=start), tolerance, limit)
        failed = _failures(flow, game, final, reached, watch.failed_at)
        wrong = ~ended & ~occurred & failed.any()
        outcome = jnp.where(ended, summary.outcome, jnp.int8(Outcome.undecided))
        outcome = jnp.where(blown, jnp.int8(Outcome.diverged), outcome)
        outcome = jnp.where(wrong, jnp.int8(Outcome.not_a_number), outcome)
        failed = failed & (outcome == Outcome.not_a_number)
        gave_up = ~ended & ~blown & ~wrong
        turn = (watch.last - watch.first) / jnp.maximum(watch.crossings - 1, 1)
        doubt = jnp.where(ended & (outcome == Outcome.undecided), summary.doubt, 0)
        summary = summary._replace(
            outcome=outcome,
            period=jnp.where(ended, summary.period, jnp.nan),
            doubt=doubt.astype(jnp.int8),
            needed=jnp.where(ended, summary.needed, jnp.nan),
        )
        length = jnp.minimum(turn / STEPS_PER_TURN, until / 8 / jnp.maximum(watch.steps, 1))
        length = jnp.where(jnp.isfinite(length) & (length > 0), length, until / SAMPLES)
        open_ = Open(
            doubt=summary.doubt,
            state=final,
            step=until,
            start=state.players,
            bound=limit * jnp.maximum(1, start),
            amplitude=quarters[3],
            axis=watch.axis,
            centre=watch.centre,
            turn=turn / length,
            most=jnp.minimum(until / 4 / length, MOST_STEPS),
            length=length,
        )
        residual = jnp.sqrt(jnp.sum(fields[3] ** 2))
    else:
        summary, open_ = _only_divergence(jnp.where(blown, jnp.inf, travelled), start, limit), None
        failed, gave_up = jnp.zeros(len(final.players), bool), ~ended & ~blown
        residual = _residual(game, final.players, None)
    if saves is None:
        saved, saved_times = jax.tree.map(lambda leaf: leaf[None], final.players), solution.ts["grid"][last][None]
    else:
        saved, saved_times = jax.tree.unflatten(jax.tree.structure(state.players), solution.ys["saved"]), saves
    rest = residual, solution.stats["num_steps"], reached, failed, gave_up
    return _finish(game, final, saved, saved_times, measures, None, summary, *rest), summary, open_


def measured(name: str, function: Measure, game: Game, players: Players) -> PyTree:
    """What a caller's measure returns at the players.

    Raises:
        TypeError: no pytree of arrays of real numbers.
    """
    value = function(game, players)
    check_arrays(value, f"the measure {name!r} returned", "a pytree of arrays of real numbers")
    return value


def _finish(game, state, saved, steps, measures, key, summary, residual, solver_steps, reached, failed, gave_up) -> Run:
    losses = jax.vmap(lambda players: tuple(game.losses(players, key)))(saved)
    taken = {name: jax.vmap(partial(measured, name, function, game))(saved) for name, function in measures}
    return Run(
        players=saved,
        losses=losses,
        steps=steps,
        measures=taken,
        final=state.players,
        state=state,
        outcome=summary.outcome,
        rate=summary.rate,
        period=summary.period,
        residual=residual,
        solver_steps=solver_steps,
        reached=reached,
        failed=failed,
        needed=summary.needed,
        gave_up=gave_up,
    )


def _residual(game: Game, players: Players, key: PRNGKeyArray | None) -> Array:
    """Norm of the field."""
    return _trees.norm(game.field(players, key))


def _fields(game: Game, points: tuple[Players, ...], probes: Array, key: PRNGKeyArray | None) -> tuple[Array, Array]:
    """Norms of the field at some points of a run, shape (points, players), and how much it changes around the last one.

    All in one batch: one copy of the field to compile. The change is the larger one of those over two steps of the
    probes' lengths, in directions with all numbers of a player alike in size.
    """
    end = points[-1]
    flat, unravel = ravel_pytree(end)
    sizes = [probe / np.sqrt(max(1, _trees.size(player))) for probe, player in zip(probes, end, strict=True)]
    steps, _ = ravel_pytree(
        tuple(jax.tree.map(lambda leaf, s=s: jnp.full_like(leaf, s), p) for p, s in zip(end, sizes, strict=True))
    )
    signs = jnp.where(jnp.arange(flat.size) % 2 == 0, 1, -1).astype(flat.dtype)
    beside = [unravel((flat + steps).astype(flat.dtype)), unravel((flat + signs * steps).astype(flat.dtype))]
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *points, *beside)
    fields = jax.vmap(lambda players: tuple(game.field(players, key)))(many)
    count = len(points)
    norms = jax.vmap(_trees.norms)(jax.tree.map(lambda leaf: leaf[:count], fields))
    change = jax.vmap(_trees.norms)(jax.tree.map(lambda leaf: leaf[count:] - leaf[count - 1], fields))
    return norms, jnp.max(jnp.where(jnp.isfinite(change), change, 0), axis=0)


def _distances(players: Players, other: Players) -> Array:
    """For every player."""
    return _trees.norms(jax.tree.map(jnp.subtract, players, other))


def _distance(players: Players, other: Players) -> Array:
    return _trees.norm(jax.tree.map(jnp.subtract, players, other))


def _only_divergence(travelled: Array, start: Array, limit: Array) -> Summary:
    inside = travelled <= limit * jnp.maximum(1, start)
    outcome = jnp.where(inside, jnp.int8(Outcome.undecided), jnp.int8(Outcome.diverged))
    unknown = jnp.full_like(travelled, jnp.nan)
    no = jnp.zeros((), bool)
    return Summary(outcome, unknown, unknown, jnp.zeros((), jnp.int8), no, unknown)


# What is in doubt


def second_look(
    game: Game, method: Update | AbstractFlow, key: PRNGKeyArray | None, summary: Summary, open_: Open
) -> tuple[Summary, Array, Array]:
    """Decide what is in doubt about the outcome of a run; see `dynamics.recurrence`.

    Returns:
        the summary; where the doubt is about a failure, the last step at which the players were finite, else -1; and
        for every player, whether its gradient is not a number there.
    """
    if isinstance(method, Update):

        def advance(state: State, step: Array) -> State:
            if key is None:
                return one_step(method, game, state)
            return method.step(game, state, jax.random.fold_in(key, open_.step + step))

        noisy = key is not None
    else:

        def advance(state: State, step: Array) -> State:
            return _classical_step(method, game, state, open_.step + step * open_.length, open_.length)

        noisy = isinstance(method, NoisyFlow)

    look = jax.lax.stop_gradient(look_again(advance, open_))
    found = decide(summary, look, noisy)
    period = jnp.where(summary.doubt == Doubt.motion, found.period * open_.length, found.period)
    failing = (summary.doubt == Doubt.failure) & ~look.finite
    inside = _distance(look.players, open_.start) <= open_.bound
    gradients = ~jnp.isfinite(_trees.norms(game.field(look.players, key)))
    wrong = failing & inside & (gradients.any() | (summary.outcome == Outcome.not_a_number))
    outcome = jnp.where(failing, jnp.int8(Outcome.diverged), found.outcome)
    outcome = jnp.where(wrong, jnp.int8(Outcome.not_a_number), outcome)
    reached = jnp.where(failing, open_.step + look.steps, -1)
    failed = wrong & jnp.where(gradients.any(), gradients, look.failed)
    return found._replace(outcome=outcome, period=period), reached, failed


_second_look = eqx.filter_jit(second_look)


def _classical_step(flow: AbstractFlow, game: Game, state: State, time: Array, length: Array) -> State:
    """A step of the classical Runge-Kutta method; a loop over its stages, so that the field is compiled once."""
    zeros = jax.tree.map(jnp.zeros_like, state)

    def stage(carry, numbers):
        total, slope = carry
        part, weight = numbers
        ahead = part * length
        slope = flow.field(game, time + ahead, _trees.add_scaled(state, ahead, slope))
        slope = jax.tree.map(lambda a, b: a.astype(b.dtype), slope, state)
        return (_trees.add_scaled(total, weight, slope), slope), None

    parts = jnp.asarray([0, 0.5, 0.5, 1], length.dtype), jnp.asarray([1, 2, 2, 1], length.dtype) / 6
    (total, _), _ = jax.lax.scan(stage, (zeros, zeros), parts)
    return _trees.add_scaled(state, length, total)


def _failures(flow: AbstractFlow, game: Game, final: State, time: Array, failed_at: Array) -> Array:
    """For every player, whether its gradient is not a number at the end of a flow, or where a step from there fails."""
    slope = flow.field(game, time, final)
    attempt = jnp.where(jnp.isfinite(failed_at), jnp.maximum(failed_at - time, 0), 0)
    shares = jnp.asarray([0, 0.25, 1, 4], attempt.dtype)

    def numbers(share: Array) -> Array:
        ahead = jax.tree.map(
            lambda a, b: a + (share * attempt).astype(a.dtype) * jnp.where(jnp.isfinite(b), b, 0), final, slope
        )
        return jnp.isfinite(_trees.norms(game.field(ahead.players, None)))

    wrong = ~jax.vmap(numbers)(shares)
    return wrong[jnp.argmax(wrong.any(axis=1))]


def _decided(
    game: Game,
    method: Update | AbstractFlow,
    key: PRNGKeyArray | None,
    run: Run,
    summary: Summary,
    open_: Open | None,
) -> Run:
    """The run after a second look, where there is a doubt."""
    if open_ is None or is_concrete(summary.doubt) and not int(summary.doubt):
        return run
    summary, reached, failed = _second_look(game, method, key, summary, open_)
    reached = jnp.where(reached >= 0, reached.astype(run.reached.dtype), run.reached)
    return eqx.tree_at(
        lambda one: (one.outcome, one.period, one.needed, one.reached, one.failed),
        run,
        (summary.outcome, summary.period, summary.needed, reached, run.failed | failed),
    )
