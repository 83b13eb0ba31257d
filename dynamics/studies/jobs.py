"""The cells of a study, ready to run: what the engine and the pictures compute from."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import _locks
from dynamics._compiling import compile_quickly
from dynamics.analysis import EquilibriumError, find_equilibrium
from dynamics.flows import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players, as_players
from dynamics.studies.building import blamed, build, nearby
from dynamics.studies.schema import CellSpecification, StudyError
from dynamics.updates import Update
from dynamics.updates.rounded import is_drawn

NEARBY = 1e-3  # distance from the equilibrium of the second, local run of every cell


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell ready to run."""

    recipe: CellSpecification
    game: Game
    method: Update | AbstractFlow
    start: Players
    equilibrium: Players
    near: Players


def jobs_of(recipes: Iterable[CellSpecification]) -> list[Job]:
    """Build cells; all bad input shows here, before anything runs.

    Raises:
        StudyError: a cell cannot be built, or its start does not fit its game.
    """
    jobs = []
    points: dict[int, tuple[Players, Players]] = {}
    fitting: set[tuple[int, int]] = set()
    for recipe in recipes:
        game, method, start = build(recipe)  # equal data gives one and the same object
        if id(start) not in points:
            with blamed(recipe.where[0]):
                equilibrium = _equilibrium(game, start, recipe)
            expected, got = (jax.tree.map(jnp.shape, players) for players in (equilibrium, start))
            if expected != got:
                raise StudyError(f"{recipe.where[0]}.start: has shapes {got}; {recipe.game} expects {expected}")
            with blamed(f"{recipe.where[0]}.start"):
                points[id(start)] = equilibrium, nearby(start, equilibrium, NEARBY)
        if (id(method), len(start)) not in fitting:
            with blamed(recipe.where[1]):
                method.init(game, start)
            fitting.add((id(method), len(start)))
        jobs.append(Job(recipe, game, method, start, *points[id(start)]))
    return jobs


def _equilibrium(game: Game, start: Players, recipe: CellSpecification) -> Players:
    if game.equilibria():
        return as_players(game.equilibria()[0])
    try:
        return find_equilibrium(game, start).players
    except EquilibriumError as error:
        raise StudyError(f"{recipe.where[0]}: {error}") from error


def length_of(method: Update | AbstractFlow, settings: dict[str, Any]) -> dict[str, Any]:
    """How long a study's runs are, as arguments of `simulate`."""
    if isinstance(method, Update):
        key = jax.random.key(settings["seed"]) if is_drawn(method) else None
        return {"steps": settings["steps"], "key": key}
    until = settings["until"]
    if isinstance(method, NoisyFlow):
        return {"until": until, "dt0": until / 4000, "key": jax.random.key(settings["seed"])}
    return {"until": until}


def structure_of(tree: Any) -> Any:
    """What two trees share that one program computes: all but the values of their arrays."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    leaves, treedef = jax.tree.flatten(rest)
    return treedef, tuple(leaves), tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays))


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, whose arrays have a leading axis."""

    def join(*leaves):
        return jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves])) if eqx.is_array(leaves[0]) else leaves[0]

    return jax.tree.map(join, *trees)


def computed(function: Callable, *arguments: Any) -> Any:
    """Trace, compile and call a function; the caller holds the lock, which is free while this compiles and computes."""
    lowered = jax.jit(function).lower(*arguments)
    _locks.tracing.release()
    try:
        return jax.device_get(compile_quickly(lowered)(*arguments))
    finally:
        _locks.tracing.acquire()
