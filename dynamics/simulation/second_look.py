"""A second look at runs whose outcome is in doubt; see `dynamics.recurrence`."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics import _trees
from dynamics._checks import is_concrete
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game
from dynamics.outcomes import Doubt, Outcome, Summary
from dynamics.recurrence import Open, decide, look_again
from dynamics.simulation.ending import distance_of
from dynamics.simulation.maps import one_step
from dynamics.simulation.result import Run
from dynamics.updates.base import State, Update


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
    decided = decide(summary, look, noisy)
    period = jnp.where(summary.doubt == Doubt.motion, decided.period * open_.length, decided.period)
    failing = (summary.doubt == Doubt.failure) & ~look.finite
    inside = distance_of(look.players, open_.start) <= open_.bound
    gradients = ~jnp.isfinite(_trees.norms(game.field(look.players, key)))
    wrong = failing & inside & (gradients.any() | (summary.outcome == Outcome.not_a_number))
    outcome = jnp.where(failing, jnp.int8(Outcome.diverged), decided.outcome)
    outcome = jnp.where(wrong, jnp.int8(Outcome.not_a_number), outcome)
    reached = jnp.where(failing, open_.step + look.steps, -1)
    failed = wrong & jnp.where(gradients.any(), gradients, look.failed)
    return decided._replace(outcome=outcome, period=period), reached, failed


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


def failures(flow: AbstractFlow, game: Game, final: State, time: Array, failed_at: Array) -> Array:
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


def decided_by_a_second_look(
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
        lambda r: (r.outcome_number, r.period, r.needed, r.reached, r.failed),
        run,
        (summary.outcome, summary.period, summary.needed, reached, run.failed | failed),
    )
