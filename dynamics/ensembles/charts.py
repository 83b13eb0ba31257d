"""Charts of stability: verdicts and rates over named axes from eigenvalues alone, nothing is simulated."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dynamics import _trees
from dynamics._keys import key_of
from dynamics._memory import check_memory, counted
from dynamics.analysis.equilibria.newton import EquilibriumError, Search
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.builds import Source, source_of
from dynamics.analysis.stability.linearisation import (
    noise_of_slopes,
    noise_of_values,
    on_vectors,
    probe_directions,
    probe_steps,
    settles,
)
from dynamics.analysis.stability.rest import FEW_COUNTS, rest_state
from dynamics.compiler.derivatives import coarsest_epsilon, released
from dynamics.compiler.switches import gaps
from dynamics.ensembles import tables
from dynamics.ensembles.cells import Built, Numbers, Recipe, check_arguments, linear_blocks
from dynamics.ensembles.designs import CELL_BYTES, FEWER, Cells, Design, resolve
from dynamics.ensembles.players import variables_of
from dynamics.ensembles.prediction import Predicted, Predictions, Smoothness, proved_planar
from dynamics.ensembles.running import LARGEST_STATE, predicted_at, recipe_of, why_no_prediction
from dynamics.ensembles.work import as_arguments, judge_cells
from dynamics.game import as_players
from dynamics.updates.base import State

if TYPE_CHECKING:
    import xarray as xr

OPEN = -2  # the verdict of a cell at which `judge` has to look
CHUNK = 2**20  # cells of which the program in closed form leaves results at a time
LANES = 1024  # cells that go through it together
LARGEST_ROW = 2**15
JUDGED, JUDGED_BYTES = 256, 2**22  # the same for other cells: at most so many, or so much


def stability_chart(
    build: Callable[..., Built],
    axes: Mapping[str, Any],
    *,
    order: Literal["auto", "linear"] = "linear",
    at: Any = None,
    design: Design = "grid",
    dtype: Any = None,
) -> xr.Dataset:
    """Predict what becomes of a method on a game for all values of named axes, without simulating.

    What `dynamics.sweep` predicts beside what it simulates, by the same rules and at the same equilibria. For states of
    two numbers (planar games, methods without memory) eigenvalues and the verdict's proof are in closed form, in one
    compiled program for all cells; cells at which that does not decide (a kink, a manifold of equilibria, an eigenvalue
    next to the boundary), larger states, and equilibria that have to be found are judged one by one.

    Args:
        build: as for `dynamics.sweep`; without a start, `(game, update or flow)`, the equilibrium is the game's first
            known one. If it takes `start_key`, it gets the key of the first start.
        axes: as for `dynamics.sweep`.
        order: with "auto" cells on the boundary are judged by terms of higher order and those at a jump by its sides,
            as by `dynamics.stability`; with "linear" both are marginal.
        at: the equilibrium, likewise.
        design: likewise.
        dtype: float32 or float64, of the axes, the game and the method; `None`: as `build` makes them.

    Returns:
        a dataset with the variables

        * `predicted_verdict`: stable, unstable or marginal, as `dynamics.stability` finds it, or `none`: at a kink,
          whose pieces are not judged, and where the point is no equilibrium; see `dynamics.ensembles.Predicted`;
        * `predicted_smoothness`: see `dynamics.ensembles.Smoothness`;
        * `predicted_radius` (updates) or `predicted_abscissa` (flows), `predicted_rate` and `predicted_rotation`, as
          `radius`, `abscissa`, `rate` and `rotation` of `dynamics.analysis.Stability`, NaN where the verdict is `none`;
        * where the game knows no equilibrium, `equilibrium_0`, ..., `equilibrium_residual` and so on, as in a sweep.

    Raises:
        TypeError: `build` is no function, or returns something else.
        ValueError: an axis is no list of finite numbers, names do not fit, or there is nothing to predict: no
            equilibrium is known and there is no start, the state is too large, or the game has no exact expectations.

    >>> import dynamics as dy
    >>> def build(rate, weight):
    ...     sgd = dy.optimisers.sgd(rate)
    ...     return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)
    >>> chart = stability_chart(build, {"rate": [0.1, 4.5], "weight": [0.3, 2.0]})
    >>> chart.predicted_verdict.values.tolist()  # 0 stable, 1 unstable
    [[0, 0], [1, 1]]
    """
    cells = resolve(axes, design, None)
    check_memory(f"a chart of {counted(cells.count)} cells", cells.count, CELL_BYTES, FEWER)
    for name in cells.axes:
        if name == "predicted_rotation":
            raise ValueError(f"{name!r} is the name of a variable of the result as well; call the axis another")
    takes_start = _takes_start(build)
    check_arguments(build, [*cells.axes, *["start_key"] * takes_start])
    recipe = recipe_of(build, cells, 1, None, None, None, True, (1e-3, 1e6), dtype, {}, at, order)
    if takes_start:
        recipe = eqx.tree_at(lambda r: r.starts, recipe, key_of(0), is_leaf=lambda leaf: leaf is None)
    chart = _Chart(recipe, cells, dtype)
    corners = [chart.arguments(values) for values in cells.extremes()]
    extremes = [recipe.built(values) for values in corners]
    game, method, start = extremes[0]
    try:
        source = source_of([(game, start) for game, _, start in extremes], recipe.at)
    except EquilibriumError as error:
        raise ValueError(f"there is nothing to predict: {error}") from None
    chart.recipe = recipe = recipe.changed(source=source)
    if source is Source.search:
        example = start
    else:
        example = recipe.named(corners[0]) if source is Source.named else as_players(game.equilibria()[0], "equilibria")
    state = eqx.filter_eval_shape(method.init, game, example)
    boundary = boundary_of(method)
    kind = boundary.kind
    try:
        predictions = chart.predictions(state, boundary)
    except Exception as error:
        if reason := why_no_prediction(game, method, state):
            raise ValueError(f"there is nothing to predict: {reason}") from error
        raise
    columns = dict(
        predicted_verdict=predictions.verdict,
        predicted_smoothness=predictions.smoothness,
        predicted_rate=predictions.rate,
    )
    columns |= {f"predicted_{boundary.bound_name}": predictions.reach, "predicted_rotation": predictions.rotation}
    described = tables.described(kind)
    if source is Source.search:
        variables = variables_of(example)
        columns |= tables.certificate(chart.searched(), variables)
        described |= tables.equilibria_described(variables)
    described["predicted_rotation"] = {
        "long_name": "angle by which the outermost eigenvalue turns",
        "units": f"rad/{boundary.symbol}",
    }
    attributes = tables.provenance({"design": cells.design}, _trees.float_dtype(example), None)
    attributes |= {"kind": kind, "prediction": predicted_at(recipe, extremes[0])}
    return tables.Table(cells, columns, described).dataset(attributes)


def _takes_start(build: Any) -> bool:
    try:
        return "start_key" in inspect.signature(build).parameters
    except (TypeError, ValueError):  # no function, or of none that is written in Python
        return False


class _Chart:
    """The cells of a chart and how one is built."""

    def __init__(self, recipe: Recipe, cells: Cells, dtype: Any):
        self.recipe, self.cells, self.dtype = recipe, cells, dtype
        self.equilibria: list[Search] = []

    def arguments(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Numbers of the axes as `build` gets them."""
        numbers = as_arguments(values, self.cells, self.dtype)
        if self.recipe.starts is not None:
            numbers["start_key"] = np.zeros(np.shape(next(iter(numbers.values()), 0)), np.uint32)
        return numbers

    def predictions(self, state: State, boundary: Boundary) -> Predictions:
        """All cells, of states like this one."""
        players, size = (
            sum(leaf.size for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating))
            for tree in (state.players, state)
        )
        if size > LARGEST_STATE:
            raise ValueError(f"{size} numbers in players and memory")
        if players != 2 or size != 2 or self.recipe.source is Source.search:
            return self.judged(np.arange(self.cells.count), size, boundary)
        predictions = self.planar(boundary)
        if len(left := np.flatnonzero(predictions.verdict == OPEN)):
            for whole, part in zip(predictions, self.judged(left, size, boundary), strict=True):
                whole[left] = part
        return predictions

    def planar(self, boundary: Boundary) -> Predictions:
        """All cells by the closed form; those at which it does not decide get the verdict `OPEN`."""
        count, shape = self.cells.count, self.cells.shape
        # Where axes are combined a block is one row: the innermost axes are the same for all blocks, the others are
        # one number per block, and nothing is as long as the chart.
        rows = [axis for axis in range(1, len(shape)) if LANES // 4 <= math.prod(shape[axis:]) <= LARGEST_ROW]
        if rows:
            lanes, inner = math.prod(shape[max(rows) :]), self.cells.dims[max(rows) :]
            fixed = self.arguments(self.cells.at(np.arange(lanes)))
            fixed = {name: fixed[name] for name in inner}
        else:
            lanes, fixed = min(LANES, max(1, -(-count // 2))), {}
        blocks = -(-count // lanes)
        size = min(blocks, max(1, CHUNK // lanes))
        predictions = Predictions(*(np.empty(count, dtype) for dtype in (np.int8, np.int8, float, float, float)))
        for begin in range(0, blocks, size):
            numbers = np.minimum(np.arange(begin, begin + size), blocks - 1)
            if rows:
                values = self.arguments(self.cells.at(numbers * lanes))
            else:
                places = np.minimum(numbers[:, None] * lanes + np.arange(lanes), count - 1)
                values = self.arguments(self.cells.at(places.ravel()))
                values = {name: value.reshape(size, lanes) for name, value in values.items()}
            varied = {name: value for name, value in values.items() if name not in fixed}
            verdict, *numbers = _planar_blocks(self.recipe, fixed, varied, boundary)
            places_of_blocks = slice(begin * lanes, min((begin + size) * lanes, count))
            for whole, part in zip((predictions.verdict, *predictions[2:]), (verdict, *numbers), strict=True):
                whole[places_of_blocks] = np.asarray(part).reshape(-1)[: places_of_blocks.stop - places_of_blocks.start]
        predictions.smoothness[:] = Smoothness.smooth  # of those that are decided
        return predictions

    def judged(self, places: np.ndarray, state: int, boundary: Boundary) -> Predictions:
        """The cells with these numbers, of a state of so many, by the rules of a sweep."""
        each = 8 * max(1, state) * (state + 40)
        # As many lanes whatever the number of cells, but for very few: two programs serve all charts.
        lanes = max(1, min(JUDGED, JUDGED_BYTES // each)) if len(places) > 8 else 8
        size = max(1, min(-(-len(places) // lanes), 8 * JUDGED_BYTES // (each * lanes))) * lanes
        parts = [
            self._judged(places[begin : begin + size], size, lanes, boundary) for begin in range(0, len(places), size)
        ]
        return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _judged(self, places: np.ndarray, size: int, lanes: int, boundary: Boundary) -> Predictions:
        filled = places[np.minimum(np.arange(size), len(places) - 1)]
        values = {name: column.reshape(-1, lanes) for name, column in self.arguments(self.cells.at(filled)).items()}
        blocks = jax.device_get(linear_blocks(self.recipe, values))
        cells = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: len(places)], blocks)
        self.equilibria.append(cells.equilibria)
        return judge_cells(self.recipe, cells, boundary, self.arguments(self.cells.at(places)), lanes)

    def searched(self) -> Search:
        """The equilibria of all cells, after `judged` has looked at all of them in their order."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self.equilibria)


@eqx.filter_jit
def _planar_blocks(
    recipe: Recipe, fixed: Mapping[str, Numbers], varied: Mapping[str, Numbers], boundary: Boundary
) -> tuple[Array, Array, Array, Array]:
    """`_planar` for blocks of cells: `fixed` of shape (lanes,), `varied` of shape (blocks,) or (blocks, lanes)."""

    def block(varied: Mapping[str, Numbers]) -> tuple[Array, ...]:
        values: Any = {**fixed, **varied}
        along = {name: 0 if value.ndim else None for name, value in values.items()}
        return jax.vmap(partial(_planar, recipe, boundary), in_axes=(along,))(values)

    return jax.lax.map(block, varied)


def _planar(recipe: Recipe, boundary: Boundary, values: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Verdict (or `OPEN`), radius or abscissa, rate and rotation of one cell; elementwise over cells.

    `linearise` and the rules of `prediction.judge` written for two numbers x and y, so that no array but those over
    cells is left in the program. What is not plainly smooth, isolated and at rest is left open.
    """
    game, method, equilibrium = recipe.resolved(values)
    players = equilibrium.players
    dtype = _trees.float_dtype(players)
    game, method = _trees.cast((game, method), dtype)
    rest = rest_state(game, method, players, counts=FEW_COUNTS)
    flat, moved = on_vectors(rest.of(method), rest.state, None)
    unravel = ravel_pytree(players)[1]

    def values(x: Array, y: Array) -> tuple[Array, Array]:
        return tuple(moved(game, jnp.stack([x, y])))

    def vector_field(x: Array, y: Array) -> tuple[Array, Array]:
        return tuple(ravel_pytree(game.field(unravel(jnp.stack([x, y])), None))[0])

    step, field = released(values), released(vector_field)
    point = tuple(flat)
    number, epsilon = jnp.result_type(float), float(jnp.finfo(dtype).eps)
    unity, zero = jnp.ones((), dtype), jnp.zeros((), dtype)
    value, (a, c) = jax.jvp(step, point, (unity, zero))
    _, (b, d) = jax.jvp(step, point, (zero, unity))
    at_players, (game_a, game_c) = jax.jvp(field, point, (unity, zero))
    _, (game_b, game_d) = jax.jvp(field, point, (zero, unity))

    def norm(*numbers: Array) -> Array:
        return jnp.sqrt(sum(number * number for number in numbers))

    # Whether the point is at rest, and alone: `equilibria.vanishes`, where nothing is nearly singular.
    size = 1 + jnp.abs(point[0]), 1 + jnp.abs(point[1])
    length = norm(game_a, game_b, game_c, game_d)

    def vanishes(vector: tuple[Array, Array], a: Array, b: Array, c: Array, d: Array) -> Array:
        rows = jnp.abs(a) * size[0] + jnp.abs(b) * size[1], jnp.abs(c) * size[0] + jnp.abs(d) * size[1]
        determinant = a * d - b * c
        steps = d * vector[0] - b * vector[1], a * vector[1] - c * vector[0]
        small = [jnp.abs(part) <= epsilon**0.5 * row for part, row in zip(vector, rows, strict=True)]
        near = [
            jnp.abs(part) <= 8 * epsilon**0.5 * unit * jnp.abs(determinant)
            for part, unit in zip(steps, size, strict=True)
        ]
        return jnp.all(jnp.stack(small + near))

    defect = boundary.defect(value[0], point[0]), boundary.defect(value[1], point[1])
    still = vanishes(defect, a - boundary.neutral, b, c, d - boundary.neutral)
    at_rest = vanishes(at_players, game_a, game_b, game_c, game_d) & still
    alone = jnp.abs(game_a * game_d - game_b * game_c) > 256 * epsilon * length * length
    # Whether the map is smooth: the probes of `linearise`.
    smooth = _is_smooth(step, point, value, ((a, b), (c, d))) & ~_may_switch(values, point)
    entries = tuple(entry.astype(number) for entry in (a, b, c, d))
    whole = norm(*entries)
    perturbation = 8 * math.sqrt(2) * epsilon * jnp.maximum(whole, jnp.finfo(number).tiny)
    proved, undecided, reach, rate, rotation = proved_planar(entries, perturbation, boundary, jnp)
    furthest = float(jnp.finfo(number).tiny) ** -0.25
    in_range = (whole * furthest > 1) & (whole < furthest) & jnp.isfinite(reach)
    decided = rest.rests & at_rest & alone & smooth & in_range & ~undecided
    side = jnp.where(reach < boundary.neutral, Predicted.stable, Predicted.unstable)
    on_boundary = OPEN if recipe.order == "auto" else Predicted.marginal
    verdict = jnp.where(decided, jnp.where(proved, side, on_boundary), OPEN)
    return verdict.astype(jnp.int8), reach, rate, rotation


def _may_switch(step: Callable, point: tuple) -> Array:
    """Whether a switch of the program may be at the point, or the program uses a coarser arithmetic than the point."""
    dtype = point[0].dtype
    if coarsest_epsilon(jax.make_jaxpr(step)(*point).jaxpr) > float(jnp.finfo(dtype).eps):
        return jnp.asarray(True)
    distances, length = gaps(step), probe_steps(float(jnp.finfo(dtype).eps))[1]
    here, reach = distances(*point), tuple(1 + jnp.sqrt(jnp.abs(number)) for number in point)
    if not here.size:
        return jnp.asarray(False)

    def change(direction: Array) -> Array:
        moved = distances(*(number + length * r * part for number, r, part in zip(point, reach, direction)))
        return jnp.abs(moved - here)

    directions = probe_directions(np.ones(2, bool))
    moved = jnp.max(jax.lax.map(change, jnp.asarray(np.concatenate([directions, -directions]), dtype)), axis=0)
    return jnp.any((jnp.abs(here) <= 2 * moved) & jnp.isfinite(here))


def _is_smooth(step: Callable, point: tuple, value: tuple, jacobian: tuple) -> Array:
    """Whether `dynamics.analysis.stability.linearisation.smoothness` calls a map of two numbers smooth."""
    dtype = value[0].dtype
    epsilon, lengths = float(jnp.finfo(dtype).eps), probe_steps(float(jnp.finfo(dtype).eps))
    reach = tuple(1 + jnp.sqrt(jnp.abs(number)) for number in point)

    def along(direction: Array) -> tuple[Array, ...]:
        """By coordinate: the kinks and the errors of both lengths, not yet in units of rounding, and that rounding."""
        toward = tuple(number * part for number, part in zip(reach, direction, strict=True))
        slopes = tuple(row[0] * toward[0] + row[1] * toward[1] for row in jacobian)

        def at(length: float) -> tuple:
            return step(*(number + length * part for number, part in zip(point, toward, strict=True)))

        tiny = at(64 * epsilon)
        errors = [[jnp.abs(new - old - 64 * epsilon * slope)] for new, old, slope in zip(tiny, value, slopes)]
        for length in lengths:
            for differences, ahead, back, old, slope in zip(
                errors, at(length), at(-length), value, slopes, strict=True
            ):
                right, left = (ahead - old) / length, (old - back) / length
                differences += [jnp.abs(right - left), jnp.abs((right + left) / 2 - slope)]
        return tuple(map(tuple, errors))

    directions = jnp.asarray(probe_directions(np.ones(2, bool)), dtype)
    smooth = True
    for differences, old, row in zip(jax.lax.map(along, directions), value, jacobian, strict=True):
        noise, coarse, wrong, fine, still_wrong = (jnp.max(column) for column in differences)
        noise = noise_of_values(noise, old, abs(row[0] * point[0]) + abs(row[1] * point[1]), epsilon)
        terms = abs(row[0]) * reach[0] + abs(row[1]) * reach[1]
        rounding = noise_of_slopes(noise, lengths[-1], terms, epsilon)
        # Every jump, kink and stiff scale shows as a disagreement that does not shrink with the step.
        smooth &= settles(coarse, fine, rounding) & settles(wrong, still_wrong, rounding)
    return smooth
