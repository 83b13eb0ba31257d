"""What checks are made of: spectra of the exact map, runs, and margins that know about rounding."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from dynamics.analysis.stability.linearisation import jacobian_of
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.simulation import simulate
from dynamics.updates.base import Update


def jacobian(game: Game, method: Update | AbstractFlow, players: Any = None) -> Float[Array, "n n"]:
    """The Jacobian of the exact map (or of the flow) on players and memory, at rest at the players; traceable.

    Args:
        players: where; by default the game's first known equilibrium.
    """
    return jacobian_of(game, method, as_players(game.equilibria()[0] if players is None else players))


def eigenvalues(game: Game, method: Update | AbstractFlow, players: Any = None) -> Complex[Array, " n"]:
    """The eigenvalues of `jacobian`, in no particular order."""
    return jnp.linalg.eigvals(jacobian(game, method, players))


def radius(game: Game, method: Update | AbstractFlow, players: Any = None) -> Array:
    """The largest modulus of an eigenvalue: the map is locally stable where it is below 1."""
    return jnp.max(jnp.abs(eigenvalues(game, method, players)))


def abscissa(game: Game, method: Update | AbstractFlow, players: Any = None) -> Array:
    """The largest real part of an eigenvalue: the flow is locally stable where it is below 0."""
    return jnp.max(eigenvalues(game, method, players).real)


def field_jacobian(game: Game, players: Any = None, key: PRNGKeyArray | None = None) -> Float[Array, "n n"]:
    """The Jacobian of the game's field v at the players, by default at the first known equilibrium."""
    players = as_players(game.equilibria()[0] if players is None else players)
    flat, unravel = ravel_pytree(players)
    return jax.jacfwd(lambda vector: ravel_pytree(game.field(unravel(vector), key))[0])(flat)


def path(game: Game, method: Update | AbstractFlow, start: Any, steps: int | None = None, **options: Any) -> Players:
    """The players along a run, each leaf with a leading axis; options as in `dynamics.simulate`."""
    return simulate(game, method, start, steps=steps, classify=False, **options).players


def end(game: Game, method: Update | AbstractFlow, start: Any, steps: int | None = None, **options: Any) -> Players:
    """The players at the end of a run; options as in `dynamics.simulate`."""
    return simulate(game, method, start, steps=steps, classify=False, save_every="last", **options).final


def norm(players: Any) -> Array:
    """The Euclidean norm of all players."""
    return jnp.linalg.norm(ravel_pytree(players)[0])


def difference(first: Any, second: Any) -> Array:
    """The Euclidean distance of two points of one game."""
    return jnp.linalg.norm(ravel_pytree(first)[0] - ravel_pytree(second)[0])


# Margins


def epsilon() -> float:
    """The distance from 1 to the next number, in the precision of the numbers."""
    return float(jnp.finfo(jnp.result_type(float)).eps)


def agree(value: Any, expected: Any, tolerance: float | None = None, scale: Any = None) -> Array:
    """How much of the tolerance is left: 1 for equal numbers, negative where they differ by more.

    Args:
        value, expected: numbers or arrays of one shape; the worst entry counts.
        tolerance: relative to `scale`; by default 1e4 rounding errors.
        scale: by default 1 plus the largest modulus expected.
    """
    value, expected = jnp.asarray(value), jnp.asarray(expected)
    tolerance = 1e4 * epsilon() if tolerance is None else tolerance
    scale = 1 + jnp.max(jnp.abs(expected)) if scale is None else scale
    return jnp.min(1 - jnp.abs(value - expected) / (tolerance * scale))


def same_spectrum(values: Any, expected: Any, tolerance: float | None = None) -> Array:
    """`agree` for two sets of complex numbers in any order; by default to the square root of a rounding error.

    Compares both distances, from each value to the nearest one expected and the other way round.
    """
    values, expected = jnp.ravel(jnp.asarray(values)), jnp.ravel(jnp.asarray(expected))
    tolerance = 10 * epsilon() ** 0.5 if tolerance is None else tolerance  # a double eigenvalue moves by that much
    distances = jnp.abs(values[:, None] - expected[None, :])
    error = jnp.maximum(jnp.max(jnp.min(distances, axis=0)), jnp.max(jnp.min(distances, axis=1)))
    return 1 - error / (tolerance * (1 + jnp.max(jnp.abs(expected))))


def below(value: Any, bound: Any, rounding: Any = None) -> Array:
    """Margin of `value <= bound`: the difference, and what rounding may explain on top.

    Args:
        rounding: by default 1e4 rounding errors of `1 + |bound|`.
    """
    value, bound = jnp.asarray(value), jnp.asarray(bound)
    rounding = 1e4 * epsilon() * (1 + jnp.abs(bound)) if rounding is None else rounding
    return jnp.min(bound - value + rounding)


def same_sign(predicted: Any, observed: Any, tolerance: float | None = None) -> Array:
    """Margin of "one is positive exactly when the other is": the modulus observed, negative where the signs differ.

    Infinity, that is nothing to be decided, where either is closer to 0 than the tolerance.

    Args:
        tolerance: by default ten times the square root of a rounding error, as eigenvalues may meet at the boundary.
    """
    predicted, observed = jnp.asarray(predicted), jnp.asarray(observed)
    tolerance = 10 * epsilon() ** 0.5 if tolerance is None else tolerance
    clear = (jnp.abs(predicted) > tolerance) & (jnp.abs(observed) > tolerance)
    return jnp.min(jnp.where(clear, observed * jnp.sign(predicted), jnp.inf))


def when(hypothesis: Any, margin: Any) -> Array:
    """The margin where the hypothesis holds; infinity, that is nothing to be decided, elsewhere."""
    return jnp.where(hypothesis, margin, jnp.inf)


def every(*margins: Any) -> Array:
    """The margin of all of these together: the smallest."""
    return jnp.min(jnp.stack([jnp.min(jnp.asarray(margin)) for margin in margins]))
