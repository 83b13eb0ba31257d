"""Many cells in one compiled program, and how many at a time."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import is_concrete
from dynamics._compiling import cheap_jit
from dynamics._keys import key_of
from dynamics._names import nearest
from dynamics.analysis.equilibria.newton import Search, ends_along
from dynamics.analysis.stability.builds import Source, check_parts, equilibrium_for, parts_of
from dynamics.analysis.stability.linearisation import Closely, Linearisation, linearise, probe_closely
from dynamics.analysis.stability.rest import FEW_COUNTS, Repeated
from dynamics.ensembles.fixed_step import FixedStep, tableau_of
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.outcomes import Outcome, Summary, rounding_floor
from dynamics.recurrence import Open
from dynamics.simulation import Run, simulate
from dynamics.simulation.ending import measured
from dynamics.simulation.maps import SEGMENTS
from dynamics.simulation.second_look import second_look
from dynamics.simulation.simulate import simulate_lane
from dynamics.updates.base import COUNTER_LIMIT, Update

logger = logging.getLogger(__name__)

# A block of lanes goes through the whole run before the next one begins: its state stays in the cache, and a game's
# numbers do not depend on how many blocks a chunk has. On a GPU a block is a kernel, with a thread per game: 46 warps
# for each of the 132 multiprocessors of an H200, of which 32 have room at a time where a game has 64 registers.
LANES = {"cpu": 384, "gpu": 196_608}
LANES_ELSEWHERE = 12_288
FEWEST_LANES = 8  # thirds of a block
BLOCK_BYTES = {"gpu": 2**28}
BLOCK_BYTES_ELSEWHERE = 2**22
COMPILED = ("cpu", "gpu")  # where loops over games may become machine code
CHUNK_BYTES = 2**25
LARGEST_CHUNK = 65_536
FLOW_SAMPLES = 513  # times that `simulate` saves of a flow

Numbers: TypeAlias = Array | np.ndarray

Built = tuple[Game, Update | AbstractFlow, Players | None]


class Recipe(eqx.Module):
    """What all cells have in common: how one is built and run. Numbers are leaves, the rest belongs to the program.

    Attributes:
        build: the caller's function.
        seeds: names of the arguments that are random keys.
        dtype: of the numbers, or `None`: as they are.
        steps: of an update.
        until: of a flow.
        key: of minibatches.
        thresholds: tolerance and limit.
        measures: pairs of a name and a function.
        options: of `dynamics.simulate`, for flows.
        predict: whether to linearise at an equilibrium.
        starts: the key from which those of the starts are made, or `None`.
        fixed_steps: how many steps of one length a flow makes, if it is solved with such.
        at: the players, or the function of the same numbers as `build`, that name the equilibrium; or `None`.
        source: where the equilibrium comes from.
        trial: all cells make the first of so many parts of the run; those that are settled then are not run on. `None`:
            all are run to the end at once.
        compiled: whether the compiler of sweeps makes the program, or `jax.vmap`.
        period: steps of an update that are linearised as one: those after which it repeats.
        period_start: the number of a step from which on they are.
        order: as in `dynamics.stability`, of predictions.
    """

    build: Callable[..., Built]
    seeds: tuple[str, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    steps: int | None = eqx.field(static=True)
    until: Array | None
    key: PRNGKeyArray | None
    thresholds: tuple[Array, Array]
    measures: tuple[tuple[str, Callable], ...]
    options: dict[str, Any]
    predict: bool = eqx.field(static=True)
    starts: PRNGKeyArray | None
    fixed_steps: int | None = eqx.field(static=True, default=None)
    trial: int | None = eqx.field(static=True, default=None)
    compiled: bool = eqx.field(static=True, default=True)
    at: Any = None
    source: Source = eqx.field(static=True, default=Source.known)
    period: int = eqx.field(static=True, default=1)
    period_start: int = eqx.field(static=True, default=COUNTER_LIMIT)
    order: str = eqx.field(static=True, default="linear")

    @property
    def duration(self) -> int | float:
        """Steps of an update, time of a flow."""
        return self.steps if self.until is None else float(self.until)

    def shortened(self) -> "Recipe":
        """The first part of the run."""
        if self.steps is not None:
            return self.changed(steps=_part(self.steps, self.trial), trial=None)
        fixed = None if self.fixed_steps is None else _part(self.fixed_steps, self.trial)
        part = 1 / self.trial if fixed is None else fixed / self.fixed_steps
        return self.changed(until=np.asarray(self.until * part, self.until.dtype), fixed_steps=fixed, trial=None)

    def continued(self) -> "Recipe":
        """The whole run of what is not settled: what is predicted has been predicted."""
        return self.changed(predict=False, trial=None)

    def changed(self, **changes: Any) -> "Recipe":
        """The recipe with some attributes replaced."""
        return dataclasses.replace(self, **changes)

    def built(self, values: Mapping[str, Any]) -> Built:
        """Game, method and start of one cell; the start is `None` where `build` returns none."""
        parts = self._read(parts_of, values)
        return parts if self.dtype is None else _trees.cast(parts, self.dtype)

    def check_built(self, values: Mapping[str, Any]) -> None:
        """Raise what `built` raises."""
        self._read(check_parts, values)

    def _read(self, read: Callable[[Any], Any], values: Mapping[str, Any]) -> Any:
        """What a function makes of what `build` returns."""
        given = self._given(values)
        try:
            return read(self.build(**given))
        except Exception as error:
            raise _failed(error, given) from error

    def resolved(self, values: Mapping[str, Any]) -> tuple[Game, Update | AbstractFlow, Search]:
        """Game, method (a whole period as one step) and equilibrium of one cell; traceable."""
        game, method, start = self.built(values)
        return game, self.over_period(method), equilibrium_for(game, start, self.named(values), self.source)

    def named(self, values: Mapping[str, Any]) -> Players | None:
        """The players that `at` names in one cell, or `None`."""
        at = self.at
        if callable(at):
            given = self._given(values)
            try:
                at = as_players(at(**given), "at")
            except Exception as error:
                raise _failed(error, given, "at") from error
        return at if self.dtype is None else _trees.cast(at, self.dtype)

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `build`."""
        given = dict(values) | {name: key_of(values[name]) for name in self.seeds}
        if self.starts is not None:
            given["start_key"] = jax.random.fold_in(self.starts, values["start_key"])
        return given

    def over_period(self, method: Update | AbstractFlow) -> Update | AbstractFlow:
        """The method as it is linearised."""
        return Repeated(method, self.period, self.period_start) if self.period > 1 else method

    def run(self, parts: Built, index: Array) -> tuple[Run, tuple[Summary, Open] | None]:
        """Simulate one cell; what is in doubt about its outcome, and is not decided yet."""
        game, method, players = parts
        common = dict(key=self._key(index), tolerance=self.thresholds[0], limit=self.thresholds[1])
        steps = self.steps if self.fixed_steps is None else self.fixed_steps
        if steps is None:
            return simulate(game, method, players, until=self.until, **common, **self.options), None
        update, every = self._update(method), steps // samples_of(steps)
        run, *doubt = simulate_lane(game, update, players, steps=steps, save_every=every, apart=self.compiled, **common)
        if self.fixed_steps is not None:
            length = update.length.astype(run.rate.dtype)
            times = run.steps.astype(length.dtype) * length
            run = dataclasses.replace(run, steps=times, rate=run.rate / length, period=run.period * length)
        return run, tuple(doubt)

    def decided(self, parts: Built, index: Array, summary: Summary, open_: Open) -> tuple[Array, Array]:
        """Outcome and period after a second look at a cell whose outcome is in doubt."""
        game, method, players = parts
        game, update = _trees.cast((game, self._update(method)), _trees.float_dtype(players))
        summary, *_ = second_look(game, update, self._key(index), summary, open_)
        if self.fixed_steps is None:
            return summary.outcome, summary.period
        return summary.outcome, summary.period * update.length.astype(summary.period.dtype)

    def _key(self, index: Array) -> PRNGKeyArray | None:
        return None if self.key is None else jax.random.fold_in(self.key, index)

    def _update(self, method: Update | AbstractFlow) -> Update:
        if isinstance(method, Update):
            return method
        length = jnp.asarray(self.options["dt0"], self.until.dtype)
        return FixedStep(method, tableau_of(self.options.get("solver", diffrax.Tsit5())), length)


def _part(steps: int, parts: int) -> int:
    """One of so many parts of the steps, in stretches of equal length."""
    return min(steps, -(-steps // (parts * SEGMENTS)) * SEGMENTS)


def check_arguments(build: Any, names: list[str]) -> None:
    """Compare the arguments that `build` takes with the names of the axes.

    Raises:
        TypeError: `build` is no function.
        ValueError: an argument is missing or unknown.
    """
    if not callable(build):
        raise TypeError(f"build is {build!r}; expected a function that returns (game, update or flow, start)")
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # of no function that is written in Python
        return
    named = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    needed = [
        parameter.name for parameter in parameters if parameter.default is parameter.empty and parameter.name in named
    ]
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name in names:
        if name not in named and not takes_all:
            if name == "start_key":
                raise ValueError(
                    f"with several starts build gets a random key, start_key, from which to draw the players, but it "
                    f"takes ({', '.join(named)}); add the argument start_key"
                )
            raise ValueError(f"build takes ({', '.join(named)}), and there is an axis {name!r}{nearest(name, named)}")
    for name in needed:
        if name not in names:
            hint = "pass starts=n" if name == "start_key" else "add it to axes, as a number if it is constant"
            raise ValueError(f"build needs {name!r}, and the axes are {', '.join(names) or 'none'}; {hint}")


def _failed(error: Exception, given: dict[str, Any], function: str = "build") -> Exception:
    """What to tell about an error of `build`, or of `at`."""
    call = ", ".join(f"{name}={_shown(value)}" for name, value in given.items())
    text = f"{function}({call}) failed: {type(error).__name__}: {error}"
    if not is_concrete(given):
        text += (
            "\nIt is traced once for all cells: use jax.numpy instead of numpy, jnp.where(condition, a, b) instead of "
            "if, and dynamics.ensembles.seeds for random keys. What decides about shapes or types can be no axis."
        )
    return (TypeError if isinstance(error, TypeError) else ValueError)(text)


def _shown(value: Any) -> str:
    if isinstance(value, Tracer) or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"{value.dtype}{list(value.shape)}"
    return f"{float(value):.6g}"


def samples_of(steps: int) -> int:
    """Number of samples along the run of an update: that of the stretches that `simulate` looks at."""
    if steps <= SEGMENTS:
        return steps
    return next((n for n in range(SEGMENTS, min(2 * SEGMENTS, steps) + 1) if steps % n == 0), SEGMENTS)


def lanes_of(recipe: Recipe, size: int, state: int, cells: int, platform: str) -> int:
    """Number of cells in a block: depends on the sweep, but not on its chunks. Even small sweeps have two blocks.

    Three times a power of two: few arrays of a game are as long, and the axis of the games is known by its length.

    Args:
        recipe: what the cells have in common.
        size: numbers of the players.
        state: numbers of the whole state.
        cells: how many there are.
        platform: of the devices.
    """
    steps = recipe.steps if recipe.steps is not None else recipe.fixed_steps
    samples = 3 * FLOW_SAMPLES if steps is None else samples_of(steps)
    each = 8 * (size * samples + 4 * state + recipe.predict * state * (state + 40))
    room = BLOCK_BYTES.get(platform, BLOCK_BYTES_ELSEWHERE)
    most = min(LANES.get(platform, LANES_ELSEWHERE), room // each, -(-cells // 2))
    return 3 * max(FEWEST_LANES, 1 << max(0, -(-most // 3) - 1).bit_length())


def chunk_of(
    recipe: Recipe, size: int, state: int, cells: int, lanes: int, wanted: int | None, devices: int = 1
) -> int:
    """Number of cells in a chunk, a multiple of the lanes: what the caller wants, or what memory allows.

    Every device gets the same number of blocks, and at least two: the compiler takes the body out of a loop that runs
    once, and rounds otherwise then.
    """
    if wanted is None:
        each = 8 * (size + 8 + recipe.predict * (state**2 + size**2 + 4 * state + 8))
        most = devices * max(2 * lanes, min(LARGEST_CHUNK, _power_below(CHUNK_BYTES // each)))
        wanted = -(-cells // -(-cells // most))  # chunks of equal size
    return max(2, -(-min(wanted, cells) // (lanes * devices))) * lanes * devices


def _power_below(number: int) -> int:
    return 1 << max(0, int(number).bit_length() - 1)


def run_chunk(
    recipe: Recipe,
    values: Mapping[str, Numbers],
    indices: Numbers,
    devices: tuple[jax.Device, ...],
    count: int | None = None,
) -> dict[str, Any]:
    """Simulate and linearise the cells of a chunk.

    Args:
        recipe: what they have in common.
        values: of the axes, each of shape (blocks, lanes).
        indices: the cells' numbers, likewise.
        devices: each gets an equal share of the blocks, two or more, so that all compile the same loop.
        count: of the blocks of every share, how many are computed; the rest stays 0. `None`: all.
    """
    computed = None if count is None else jnp.asarray(count, jnp.int32)
    if not is_concrete((values, indices)):
        return _run_blocks(recipe, values, indices, devices, computed)
    if len(devices) > 1:
        shares = jax.sharding.NamedSharding(_mesh(devices), jax.sharding.PartitionSpec("cells"))
        values, indices = jax.device_put((values, indices), shares)
    chunk = _chunk_on_processors if devices[0].platform == "cpu" else _chunk
    return chunk(recipe, values, indices, devices, computed)


def _mesh(devices: tuple[jax.Device, ...]) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices), "cells")


def _run_blocks(
    recipe: Recipe,
    values: Mapping[str, Numbers],
    indices: Numbers,
    devices: tuple[jax.Device, ...],
    count: Array | None,
) -> dict[str, Any]:
    numbers, rest = eqx.partition((recipe, count), eqx.is_array)
    platform = devices[0].platform

    def blocks(numbers: Any, values: Mapping[str, Numbers], indices: Numbers) -> dict[str, Any]:
        recipe, count = eqx.combine(numbers, rest)
        block = partial(_block, recipe, platform in COMPILED)
        if count is None:
            return jax.lax.map(block, (values, indices))
        shapes = jax.eval_shape(block, jax.tree.map(lambda leaf: leaf[0], (values, indices)))
        results = jax.tree.map(lambda leaf: jnp.zeros((len(indices), *leaf.shape), leaf.dtype), shapes)

        def body(number: Array, results: dict[str, Any]) -> dict[str, Any]:
            of_block = block(jax.tree.map(lambda leaf: leaf[number], (values, indices)))
            return jax.tree.map(lambda leaf, part: leaf.at[number].set(part), results, of_block)

        return jax.lax.fori_loop(0, count, body, results)

    if len(devices) == 1:
        return blocks(numbers, values, indices)
    # No device needs anything of another one, so that nothing is exchanged.
    shares = jax.sharding.PartitionSpec("cells")
    specs = jax.sharding.PartitionSpec(), shares, shares
    shared = jax.shard_map(blocks, mesh=_mesh(devices), in_specs=specs, out_specs=shares, check_vma=False)
    return shared(numbers, values, indices)


_chunk = cheap_jit(_run_blocks)
# Full registers, where there are long ones: left to itself the compiler takes half of them.
_chunk_on_processors = cheap_jit(_run_blocks, compiler_options={"xla_cpu_prefer_vector_width": 512})


def _block(recipe: Recipe, machine_code: bool, cells: tuple[Mapping[str, Numbers], Numbers]) -> dict[str, Any]:
    if recipe.compiled:
        from dynamics.compiler.batch.interpreter import batch_last_axis  # an error there is one of the compiler

        results = batch_last_axis(partial(_simulated, recipe), machine_code=machine_code)(*cells)
        results = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), results)
    else:
        logger.info("jax.vmap for blocks of %d games", len(cells[1]))
        results = jax.vmap(partial(_simulated, recipe))(*cells)
    if recipe.predict:
        results["predicted"] = linearise_block(recipe, cells[0])._asdict()
    return results


class LinearisedCells(NamedTuple):
    """Linearisations of cells at their equilibria; arrays with a leading axis of cells.

    Attributes:
        linear: where no equilibrium was found its residual is infinite.
        vanishing: whether the Jacobian was taken in the limit of vanishing memory.
        found: the equilibria; NaN where none was found.
    """

    linear: Linearisation
    vanishing: Array
    equilibria: Search

    @property
    def points(self) -> np.ndarray:
        """The equilibria flattened, shape (cells, n); on the host."""
        leaves = [np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(self.equilibria.players)]
        return np.concatenate(leaves, axis=1)


def linearise_block(recipe: Recipe, values: Mapping[str, Numbers]) -> LinearisedCells:
    """The methods of some cells linearised; values of the axes have the shape (lanes,)."""
    equilibria = jax.vmap(lambda values: recipe.resolved(values)[2])(values) if recipe.source is Source.search else None
    first, points = jax.vmap(partial(_linearised, recipe, False))(values, equilibria)
    finite = jnp.isfinite(first.jacobian).all(axis=(1, 2))

    def in_the_limit():
        limit, _ = jax.vmap(partial(_linearised, recipe, True))(values, equilibria)
        return jax.vmap(partial(jax.tree.map, jnp.where))(jax.tree.map(lambda _: finite, first), first, limit)

    # Memory that vanishes at the equilibrium is rare, and without memory there is none.
    linear = first
    if linear.jacobian.shape[-1] > linear.game_jacobian.shape[-1]:
        linear = jax.lax.cond(jnp.all(finite), lambda: first, in_the_limit)
    return LinearisedCells(linear, ~finite, points)


@eqx.filter_jit
def linear_blocks(recipe: Recipe, values: Mapping[str, Numbers]) -> LinearisedCells:
    """`linearise_block` for values of shape (blocks, lanes)."""
    return jax.lax.map(partial(linearise_block, recipe), values)


def _simulated(recipe: Recipe, values: Mapping[str, Numbers], index: Array) -> dict[str, Any]:
    parts = recipe.built(values)
    run, doubt = recipe.run(parts, index)
    game = _trees.cast(parts[0], _trees.float_dtype(run.final))
    return dict(
        doubt=doubt,
        outcome=run.outcome,
        rate=run.rate,
        period=run.period,
        exponent=run.exponent,
        residual=run.residual,
        steps_to_tolerance=_steps_to_tolerance(run, recipe),
        final=run.final,
        settled=(run.outcome == Outcome.converged) | _is_far(run, parts, recipe.thresholds[1]),
        measures={name: measured(name, function, game, run.final) for name, function in recipe.measures},
    )


@eqx.filter_jit
def decide_cells(
    recipe: Recipe, values: Mapping[str, Numbers], indices: Array, summary: Summary, open_: Open
) -> tuple[Array, Array]:
    """Outcomes and periods of cells in doubt; all arguments but the recipe have a leading axis of cells."""

    def decide_cell(values: Mapping[str, Numbers], index: Array, summary: Summary, open_: Open) -> tuple[Array, Array]:
        return recipe.decided(recipe.built(values), index, summary, open_)

    return jax.vmap(decide_cell)(values, indices, summary, open_)


def _is_far(run: Run, parts: Built, limit: Array) -> Array:
    """Whether a game has left for good, so that running on would tell nothing."""
    start, end = (ravel_pytree(tree)[0] for tree in (_trees.cast(parts[2], _trees.float_dtype(run.final)), run.final))
    return ~(jnp.linalg.norm(end - start) <= limit.astype(end.dtype) * jnp.maximum(1, jnp.linalg.norm(start)))


def _steps_to_tolerance(run: Run, recipe: Recipe) -> Array:
    """When the distance to the end has fallen for good below the tolerance times its largest value."""
    end = ravel_pytree(run.final)[0]
    tolerance, duration = recipe.thresholds[0], recipe.until if recipe.steps is None else recipe.steps
    points = jax.vmap(lambda point: ravel_pytree(point)[0])(run.players)
    distances = jnp.append(jnp.linalg.norm(points - end, axis=1), 0)
    times = jnp.append(run.steps.astype(end.dtype), jnp.asarray(duration, end.dtype))
    level = tolerance.astype(end.dtype) * jnp.max(distances)
    count = jnp.arange(len(distances))
    last = jnp.max(jnp.where(distances > level, count, -1))
    floor = rounding_floor(jnp.linalg.norm(end))

    def at(place: Array, numbers: Array) -> Array:
        return jnp.sum(jnp.where(count == place, numbers, 0))  # the place differs from cell to cell

    before, after = at(last, distances), jnp.maximum(at(last + 1, distances), floor)
    # The distance falls geometrically between two samples, more or less.
    part = jnp.log(before / level) / jnp.log(before / after)
    part = jnp.where((before > after) & (level > after), part, 1)
    steps = at(last, times) + (at(last + 1, times) - at(last, times)) * part
    steps = jnp.where(last < 0, 0, steps)
    return jnp.where(run.outcome == Outcome.converged, steps, jnp.nan)


def _linearised(
    recipe: Recipe, limit: bool, values: Mapping[str, Numbers], equilibrium: Search | None
) -> tuple[Linearisation, Search]:
    """A cell linearised, and its equilibrium: what a search has found, or what is known."""
    if equilibrium is None:
        game, method, equilibrium = recipe.resolved(values)
        return linearise(game, method, equilibrium.players, limit=limit, directed=True, counts=FEW_COUNTS), equilibrium
    game, method, start = recipe.built(values)
    method = recipe.over_period(method)
    # Where nothing was found the numbers may be large without bound.
    players = jax.tree.map(partial(jnp.where, equilibrium.accepted), equilibrium.players, start)
    linear = linearise(game, method, players, limit=limit, directed=True, counts=FEW_COUNTS)
    shown = jax.tree.map(lambda leaf: jnp.where(equilibrium.accepted, leaf, jnp.nan), equilibrium.players)
    residual = jnp.where(equilibrium.accepted, linear.residual, jnp.inf)
    return linear._replace(residual=residual), equilibrium._replace(players=shown)


@eqx.filter_jit
def probe_cells(
    recipe: Recipe, values: Mapping[str, Numbers], points: Players, jacobians: Numbers, limit: bool
) -> Closely:
    """`dynamics.analysis.stability.linearisation.probe_closely` at the equilibria of some cells.

    Args:
        recipe, values: as for `run_chunk`, the values of shape (cells,).
        points, jacobians: equilibria and Jacobians, with a leading axis of cells.
        limit: as for `probe_closely`.
    """

    def probe_cell(values: Mapping[str, Numbers], point: Players, jacobian: Numbers) -> Closely:
        game, method, _ = recipe.built(values)
        method = recipe.over_period(method)
        return probe_closely(game, method, point, jacobian, jacobian[:0], limit=limit, directed=True)

    return jax.vmap(probe_cell)(values, points, jacobians)


@eqx.filter_jit
def reach_along(
    recipe: Recipe, values: Mapping[str, Numbers], points: Players, directions: Numbers
) -> tuple[Array, Array]:
    """Where Newton's method ends from points along directions from the equilibria of some cells.

    Args:
        recipe, values: as for `run_chunk`, the values of shape (cells,).
        points: the equilibria, with a leading axis of cells.
        directions: shape (cells, directions, n).

    Returns:
        those of `equilibria.newton.ends_along`, with a leading axis of cells.
    """

    def ends_of_cell(values: Mapping[str, Numbers], point: Players, directions: Numbers) -> tuple[Array, Array]:
        game, _, _ = recipe.built(values)
        return ends_along(_trees.cast(game, _trees.float_dtype(point)), point, directions)

    return jax.vmap(ends_of_cell)(values, points, directions)
