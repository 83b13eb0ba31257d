"""What is gathered at every step of an ODE solver: turns about the orbit's centre, and steps that end in no number."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics import _trees
from dynamics.game import Players
from dynamics.outcomes import Crossings
from dynamics.recurrence import crossed, widened, widest_axis


class SolverWatch(eqx.Module):
    """Turns over the last quarter of the time, about the centre of the box over the third quarter.

    Samples at fixed times may be further apart than a turn takes; the solver's own steps are as short as its accuracy
    asks for.
    """

    low: Players  # box over the third quarter
    high: Players
    axis: Players  # one-hot: the widest coordinate
    centre: Array
    crossings: Array
    first: Array
    last: Array
    section: tuple[Players, Players]  # box of the points of crossing
    steps: Array  # in the last quarter
    failed_at: Array  # where the earliest step would have led that ended in no number; infinite if none has

    @staticmethod
    def start(players: Players, dtype: Any) -> "SolverWatch":
        zeros = jax.tree.map(jnp.zeros_like, players)
        zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        box, centre = (players, players), jnp.zeros((), _trees.float_dtype(players))
        failed_at = jnp.full((), jnp.inf, dtype)
        return SolverWatch(*box, zeros, centre, none, zero, zero, (zeros, zeros), none, failed_at)

    def step(self, t0: Array, t1: Array, before: Players, after: Players, until: Array) -> "SolverWatch":
        """After a step that was taken."""
        third, fourth = t1 > until / 2, t1 > 3 * until / 4
        begins = ~(t0 > 3 * until / 4) & fourth
        opening = third & ~(t0 > until / 2)

        def boxed(old: Array, new: Array, beyond: Callable) -> Array:
            return jnp.where(opening | (third & ~fourth & beyond(new, old)), new, old)

        low = jax.tree.map(lambda a, b: boxed(a, b, jnp.less), self.low, after)
        high = jax.tree.map(lambda a, b: boxed(a, b, jnp.greater), self.high, after)
        axis = jax.tree.map(lambda new, old: jnp.where(begins, new, old), widest_axis(low, high), self.axis)
        middle = _trees.dot(axis, jax.tree.map(lambda a, b: (a + b) / 2, low, high))
        centre = jnp.where(begins, middle, self.centre)
        then, now = (_trees.dot(axis, players) - centre for players in (before, after))
        upward, part, point = crossed(then, now, before, after)
        upward &= fourth
        when = t0 + part.astype(t0.dtype) * (t1 - t0)
        begun = self.crossings > 0
        return SolverWatch(
            low=low,
            high=high,
            axis=axis,
            centre=centre,
            crossings=self.crossings + upward,
            first=jnp.where(upward & ~begun, when, self.first),
            last=jnp.where(upward, when, self.last),
            section=widened(*self.section, point, upward, begun),
            steps=self.steps + fourth,
            failed_at=self.failed_at,
        )

    def crossings_until(self, until: Array) -> Crossings:
        """What was counted, until this time."""
        low, high = self.section
        width = _trees.norms(jax.tree.map(jnp.subtract, high, low))
        return Crossings(self.crossings, self.first, self.last, width, until / 4 / jnp.maximum(self.steps, 1))


def watched(
    controller: diffrax.AbstractStepSizeController,
    players_of: Callable[[Any], Players],
    until: Array,
    begin: SolverWatch | None = None,
) -> diffrax.AbstractStepSizeController:
    """The controller, which watches the steps as well; the watch is the second part of its state.

    Args:
        controller: any of diffrax.
        players_of: the players in a state of the solver.
        until: the final time.
        begin: the watch so far, of a solution that goes on; default a new one.
    """
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        accuracy = controller.rtol, controller.atol, controller.norm
        return _WatchedAdaptive(controller, players_of, until, begin, *accuracy)  # pyright: ignore
    return _Watched(controller, players_of, until, begin)


def _first_step(self: Any, terms, t0, t1, y0, dt0, args, func, error_order) -> tuple[Any, Any]:
    end, state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
    if self.begin is not None:
        return end, (state, self.begin)
    return end, (state, SolverWatch.start(self.players_of(y0), jnp.result_type(t0)))


def _next_step(self: Any, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state) -> tuple:
    state, watch = controller_state
    keep, *times, state, result = self.controller.adapt_step_size(
        t0, t1, y0, y1_candidate, args, y_error, error_order, state
    )
    before, after, until = jax.lax.stop_gradient((self.players_of(y0), self.players_of(y1_candidate), self.until))
    taken = watch.step(t0, t1, before, after, until)
    numbers = jnp.all(jnp.isfinite(_trees.norms(after)))
    failed_at = jnp.where(numbers, watch.failed_at, jnp.minimum(watch.failed_at, t1))
    left = eqx.tree_at(lambda w: w.failed_at, watch, failed_at)
    watch = jax.tree.map(lambda a, b: jnp.where(keep & numbers, a, b), taken, left)
    return keep, *times, (state, watch), result


class _Watched(diffrax.AbstractStepSizeController):
    controller: diffrax.AbstractStepSizeController
    players_of: Callable[[Any], Players] = eqx.field(static=True)
    until: Array
    begin: SolverWatch | None

    def wrap(self, direction: Any) -> "_Watched":
        return _Watched(self.controller.wrap(direction), self.players_of, self.until, self.begin)

    init = _first_step
    adapt_step_size = _next_step


class _WatchedAdaptive(diffrax.AbstractAdaptiveStepSizeController):
    controller: diffrax.AbstractAdaptiveStepSizeController
    players_of: Callable[[Any], Players] = eqx.field(static=True)
    until: Array
    begin: SolverWatch | None
    # Implicit solvers take the accuracy of their equations from here.
    rtol: Any
    atol: Any
    norm: Callable

    def wrap(self, direction: Any) -> "_WatchedAdaptive":
        inner = self.controller.wrap(direction)
        accuracy = self.rtol, self.atol, self.norm
        return _WatchedAdaptive(inner, self.players_of, self.until, self.begin, *accuracy)  # pyright: ignore

    init = _first_step
    adapt_step_size = _next_step
