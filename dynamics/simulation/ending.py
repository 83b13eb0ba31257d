"""What is taken at the end of a run: outcome, measures, residual."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics import _trees
from dynamics._checks import check_arrays
from dynamics.game import Game, Players, with_variables
from dynamics.outcomes import Outcome, Summary
from dynamics.simulation.result import Measure, Run
from dynamics.updates.base import State


def measured(name: str, function: Measure, game: Game, players: Players) -> PyTree:
    """What a caller's measure returns at the players.

    Raises:
        TypeError: no pytree of arrays of real numbers.
    """
    value = function(game, players)
    check_arrays(value, f"the measure {name!r} returned", "a pytree of arrays of real numbers")
    return value


def finished_run(
    game: Game,
    state: State,
    saved: tuple[Players, PyTree],
    steps: Array,
    measures: tuple[tuple[str, Measure], ...],
    key: PRNGKeyArray | None,
    summary: Summary,
    residual: Array,
    solver_steps: Array,
    reached: Array,
    failed: Array,
    gave_up: Array,
) -> Run:
    """The run; `saved` are players and the game's variables, each save with its own."""
    losses = jax.vmap(lambda players, variables: tuple(with_variables(game, variables).losses(players, key)))(*saved)

    def measure(name: str, function: Measure) -> PyTree:
        return jax.vmap(lambda players, variables: measured(name, function, with_variables(game, variables), players))(
            *saved
        )

    taken = {name: measure(name, function) for name, function in measures}
    return Run(
        players=saved[0],
        losses=losses,
        steps=steps,
        measures=taken,
        final=state.players,
        state=state,
        outcome_number=summary.outcome,
        rate=summary.rate,
        period=summary.period,
        residual=residual,
        solver_steps=solver_steps,
        reached=reached,
        failed=failed,
        needed=summary.needed,
        exponent=summary.exponent,
        gave_up=gave_up,
    )


def residual_of(game: Game, players: Players, key: PRNGKeyArray | None) -> Array:
    """Norm of the field."""
    return _trees.norm(game.field(players, key))


def fields_at(game: Game, points: tuple[Players, ...], probes: Array, key: PRNGKeyArray | None) -> tuple[Array, Array]:
    """`norms_and_change` of the game's field."""
    return norms_and_change(lambda players: tuple(game.field(players, key)), points, probes)


def norms_and_change(
    field: Callable[[Players], Players], points: tuple[Players, ...], probes: Array
) -> tuple[Array, Array]:
    """Norms of a field at some points of a run, shape (points, players), and how much it changes around the last one.

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
    fields = jax.vmap(field)(many)
    count = len(points)
    norms = jax.vmap(_trees.norms)(jax.tree.map(lambda leaf: leaf[:count], fields))
    change = jax.vmap(_trees.norms)(jax.tree.map(lambda leaf: leaf[count:] - leaf[count - 1], fields))
    return norms, jnp.max(jnp.where(jnp.isfinite(change), change, 0), axis=0)


def distances_of(players: Players, other: Players) -> Array:
    """For every player, the Euclidean distance."""
    return _trees.norms(jax.tree.map(jnp.subtract, players, other))


def distance_of(players: Players, other: Players) -> Array:
    """The Euclidean distance of all players together."""
    return _trees.norm(jax.tree.map(jnp.subtract, players, other))


def only_divergence(travelled: Array, start: Array, limit: Array) -> Summary:
    """What is known of a run that nobody classifies: whether it is further away than the limit."""
    inside = travelled <= limit * jnp.maximum(1, start)
    outcome = jnp.where(inside, jnp.int8(Outcome.undecided), jnp.int8(Outcome.diverged))
    unknown = jnp.full_like(travelled, jnp.nan)
    no = jnp.zeros((), bool)
    return Summary(outcome, unknown, unknown, jnp.zeros((), jnp.int8), no, unknown, unknown)
