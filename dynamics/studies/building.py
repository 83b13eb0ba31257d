"""From a study's data to games, methods and starting points."""

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics import catalogue, optimisers
from dynamics._names import nearest
from dynamics.distributions import Sample
from dynamics.flows import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.objectives import Objective
from dynamics.penalties import Penalty, Sum
from dynamics.studies.schema import Recipe, StudyError, arguments_of
from dynamics.updates import Clip, Update

# Arguments that hold components, and the catalogue that they come from.
_ROOMS = {"objective": "objectives", "penalty": "penalties", "direction": "directions"}


def build(recipe: Recipe) -> tuple[Game, Update | AbstractFlow, Players]:
    """Game, method and starting point of one cell.

    Raises:
        StudyError: a name that is in no catalogue, an argument that does not exist, or a value that is refused.
    """
    # Text is what caches can compare; equal data makes one and the same object.
    precision = str(jnp.result_type(float))
    text = json.dumps(recipe.game_data, sort_keys=True)
    game, start, ideal_loss = _game(text, recipe.alternative, precision, recipe.where[0])
    arguments = json.dumps(_with_ideal_loss(ideal_loss, recipe.method_data), sort_keys=True)
    method = _method(arguments, recipe.kind, precision, recipe.where[1])
    return game, method, start


@functools.lru_cache(maxsize=4096)
def _game(
    text: str, alternative: tuple[int | None, int | None], precision: str, where: str
) -> tuple[Game, Players, float]:
    data = json.loads(text)
    cls = _find("games", data.pop("name"), f"{where}.name")
    start = data.pop("start")
    objective, penalty = alternative
    if objective is not None:
        data["objective"] = _one_objective(data["objective"], objective, where)
    if penalty is not None:
        data["penalty"] = _one_penalty(data["penalty"], penalty, where)
    elif data.get("penalty") in ("", "none"):
        data["penalty"] = None
    if "penalty" in data and "penalty" not in arguments_of(cls) and data["penalty"] is None:
        del data["penalty"]
    factory: Callable = cls
    if "constructor" in data:
        name = data.pop("constructor")
        factory = getattr(cls, str(name), None)
        if not (isinstance(name, str) and not name.startswith("_") and inspect.ismethod(factory)):
            raise StudyError(f"{where}.constructor: got {name!r}; {cls.__name__} has no such constructor")
    game = _call(factory, data, where)
    try:
        players = as_players(_numbers(start, f"{where}.start"))
    except (TypeError, ValueError) as error:
        raise StudyError(f"{where}.start: {error}") from error
    return game, players, _ideal_loss(game)


# Games that differ only in objective or penalty share one compiled program: each is the sum of all alternatives with
# weight 0 but for one. 0 times a finite number adds exactly nothing.


class _OneOf(Objective):
    """One of several objectives, chosen by weights."""

    objectives: tuple[Objective, ...]
    weights: Array

    def _chosen(self, values: Sequence[Array]) -> Array:
        return sum(weight * value for weight, value in zip(self.weights, values, strict=True))

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._chosen([objective.discriminator(real, fake) for objective in self.objectives])

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._chosen([objective.generator(real, fake) for objective in self.objectives])

    @property
    def ideal_discriminator_loss(self) -> Array:
        return self._chosen([objective.ideal_discriminator_loss for objective in self.objectives])

    @property
    def ideal_score(self) -> Array:
        return self._chosen([objective.ideal_score for objective in self.objectives])

    @property
    def divergence(self) -> str:
        return ""


def _one_objective(choices: list[Any], chosen: int, where: str) -> Objective:
    objectives = [_component("objectives", c, f"{where}.each.objective.{i}") for i, c in enumerate(choices)]
    if len(objectives) == 1:
        return objectives[0]
    return _OneOf(tuple(objectives), jnp.asarray(np.eye(len(objectives))[chosen]))


def _one_penalty(choices: list[Any], chosen: int, where: str) -> Penalty | None:
    terms: list[Penalty] = []
    for index, choice in enumerate(choices):
        if choice == "none" or (isinstance(choice, dict) and "name" not in choice):
            continue
        penalty = _component("penalties", choice, f"{where}.each.penalty.{index}")
        if not hasattr(penalty, "weight"):
            return _component("penalties", choices[chosen], f"{where}.each.penalty.{chosen}")
        if index != chosen:
            penalty = eqx.tree_at(lambda p: p.weight, penalty, 0 * penalty.weight)
        terms.append(penalty)
    return Sum(*terms) if terms else None


@functools.lru_cache(maxsize=4096)
def _method(text: str, kind: str, precision: str, where: str) -> Update | AbstractFlow:
    arguments = json.loads(text)
    cls = _find("updates" if kind == "map" else "flows", arguments.pop("name"), f"{where}.name")
    return _call(cls, arguments, where)


def _with_ideal_loss(ideal_loss: float, data: Any) -> Any:
    """Replace `ideal_loss = "game"` by the game's number; `absolute_width` is used where that number is 0."""
    if isinstance(data, list):
        return [_with_ideal_loss(ideal_loss, entry) for entry in data]
    if not isinstance(data, dict):
        return data
    data = {key: _with_ideal_loss(ideal_loss, value) for key, value in data.items()}
    width = data.pop("absolute_width", None)
    if data.get("ideal_loss") == "game":
        data["ideal_loss"] = ideal_loss
        if width is not None:
            data["width_below"] = data["width_above"] = width if ideal_loss == 0 else 0.1 * abs(ideal_loss)
    return data


def _ideal_loss(game: Game) -> float:
    """The objective's ideal loss; without an objective, the second player's loss at the equilibrium."""
    objective = getattr(game, "objective", None)
    if objective is not None:
        return float(objective.ideal_discriminator_loss)
    losses = game.losses(as_players(game.equilibria()[0])) if game.equilibria() else ()
    return float(losses[1]) if len(losses) > 1 else 0.0


def _find(room: str, name: Any, where: str) -> type:
    known = catalogue.members(room)
    if name not in known:
        raise StudyError(f"{where}: {name!r} is not one of the {room}{nearest(str(name), known)}")
    return known[name]


def _component(room: str, spec: Any, where: str) -> Any:
    if spec == "none":
        return None
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise StudyError(f"{where}: got {spec!r}; expected a name, or a table with a name")
    arguments = {key: value for key, value in spec.items() if key not in ("name", "label")}
    if room == "optimisers":
        known: dict[str, Any] = optimisers.CATALOGUE
        if spec["name"] not in known:
            raise StudyError(
                f"{where}.name: {spec['name']!r} is not one of the optimisers{nearest(spec['name'], known)}"
            )
        for key, value in arguments.items():
            if key != "first" and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise StudyError(f"{where}.{key}: got {value!r}; expected a number")
        return _call(known[spec["name"]], arguments, where)
    return _call(_find(room, spec["name"], f"{where}.name"), arguments, where)


def _call(factory: Callable, data: dict[str, Any], where: str) -> Any:
    """Call a constructor with data, components built and names checked."""
    parameters = arguments_of(factory)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())
    positional, keywords = [], {}
    for key, value in data.items():
        here = f"{where}.{key}"
        parameter = parameters.get(key)
        if parameter is None and not open_ended:
            raise StudyError(f"{here}: {factory.__qualname__} takes no such argument{nearest(key, parameters)}")
        if key == "optimisers":
            value = [_component("optimisers", v, f"{here}.{i}") for i, v in enumerate(_list(value, here))]
        elif key == "penalties":
            value = [_component("penalties", v, f"{here}.{i}") for i, v in enumerate(_list(value, here))]
        elif key == "projections":
            value = [_projection(v, f"{here}.{i}") for i, v in enumerate(_list(value, here))]
        elif key == "key":
            value = jax.random.key(value)
        elif key == "eigenvalues":
            value = [complex(*v) if isinstance(v, list) else v for v in _list(value, here)]
        elif key in _ROOMS and not isinstance(value, (eqx.Module, type(None))):
            value = _component(_ROOMS[key], value, here)
        elif isinstance(value, list) and not all(isinstance(v, int) for v in value):
            value = _numbers(value, here) if key == "blocks" else np.asarray(_numbers(value, here))
        elif isinstance(value, dict):
            raise StudyError(f"{here}: got a table; expected a number, a list or a text")
        if parameter is not None and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        else:
            keywords[key] = value
    try:
        return factory(*positional, **keywords)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{where}: {error}") from error


def _projection(spec: Any, where: str) -> Any:
    if spec == "none":
        return None
    if not isinstance(spec, dict) or spec.get("name") != "Clip":
        raise StudyError(f"{where}: got {spec!r}; expected 'none' or {{name = 'Clip', bound = ...}}")
    return _call(Clip, {key: value for key, value in spec.items() if key != "name"}, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise StudyError(f"{where}: got {value!r}; expected a list")
    return value


def _numbers(value: Any, where: str) -> Any:
    """Nested lists of numbers; a list of numbers becomes an array, a list of lists of unequal shape stays a list."""
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise StudyError(f"{where}: got {value!r}; expected numbers")
    if not isinstance(value, list):
        return float(value)
    entries = [_numbers(entry, f"{where}.{index}") for index, entry in enumerate(value)]
    if where.endswith(".start"):
        return tuple(np.asarray(entry) if isinstance(entry, list) else entry for entry in entries)
    return entries


def nearby(players: Players, equilibrium: Players, distance: float) -> Players:
    """The point at a small distance from an equilibrium, towards the players."""
    gap = jax.tree.map(jnp.subtract, players, equilibrium)
    size = float(np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gap))))
    return jax.tree.map(lambda point, way: point + distance / max(size, 1e-300) * way, equilibrium, gap)
