"""From a study's data to games, methods and starting points."""

import contextlib
import dataclasses
import functools
import inspect
import json
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import dynamics.catalogue as catalogue
import dynamics.optimisers as optimisers
from dynamics._checks import is_concrete
from dynamics._names import nearest
from dynamics._text import reason, shown
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.directions import Direction
from dynamics.distributions import Sample, as_sample
from dynamics.flows import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.objectives import Objective
from dynamics.penalties import Penalty, Sum
from dynamics.schedules import Every
from dynamics.studies.schema import CellSpecification, StudyError, arguments_of
from dynamics.updates import Clip, Scheduled, Update
from dynamics.updates.with_variables import for_game

# The catalogue that a component comes from, by what its argument is annotated as.
_ROOMS = {
    Objective: "objectives",
    Penalty: "penalties",
    Direction: "directions",
    Update: "updates",
    AbstractFlow: "flows",
}
# Likewise by its name, where the annotation tells nothing.
_NAMED = {"objective": "objectives", "penalty": "penalties", "direction": "directions"}


@contextlib.contextmanager
def blamed(where: str) -> Iterator[None]:
    """Whatever a game or a method raises, or a plugin's code, becomes a `StudyError` that begins with a place."""
    try:
        yield
    except StudyError:
        raise
    except (Exception, SystemExit) as error:
        plugin = catalogue.plugin_of(error)
        if isinstance(error, NameError) and plugin is None:
            raise  # no value makes a name missing: this is a mistake in the code here
        raise StudyError(f"{where}: {f'--plugin {plugin}: ' if plugin else ''}{reason(error)}") from error


def build(recipe: CellSpecification) -> tuple[Game, Update | AbstractFlow, Players]:
    """Game, method and starting point of one cell.

    Raises:
        StudyError: a name that is in no catalogue, an argument that does not exist, or a value that is refused.
    """
    # Text is what caches can compare; equal data makes one and the same object, as long as names mean the same.
    precision = str(jnp.result_type(float))
    text = json.dumps(recipe.game_data, sort_keys=True)
    with blamed(recipe.where[0]):
        game, start, ideal_loss = _game(text, recipe.alternative, precision, recipe.where[0], catalogue.added())
    arguments = json.dumps(_with_ideal_loss(ideal_loss, recipe.method_data), sort_keys=True)
    with blamed(recipe.where[1]):
        method = _method(arguments, recipe.kind, precision, recipe.where[1], catalogue.added())
    return game, for_game(game, method), start


@functools.lru_cache(maxsize=4096)
def _game(
    text: str, alternative: tuple[int | None, int | None], precision: str, where: str, added: tuple
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
    if not isinstance(game, Game):
        raise StudyError(f"{where}.constructor: got {name!r}, which makes no game; leave it out, or give another")
    point = _point(start, f"{where}.start")
    with blamed(f"{where}.start"):
        players = as_players(point)
    return game, players, _ideal_loss(game)


# Games that differ only in objective or penalty share one compiled program: each is the sum of all alternatives with
# weight 0 but for one. 0 times a finite number adds exactly nothing; objectives whose losses do not stay finite when a
# run goes far out (exponentials) see a constant score where they are not chosen.


class _OneObjectiveOf(Objective):
    """One of several objectives, chosen by weights."""

    objectives: tuple[Objective, ...]
    weights: Array
    overflowing: tuple[bool, ...] = eqx.field(static=True)

    def _chosen(self, values: Sequence[Array]) -> Array:
        return sum(weight * value for weight, value in zip(self.weights, values, strict=True))

    def _seen(self, real: Sample | Array, fake: Sample | Array) -> list[tuple[Objective, Sample, Sample]]:
        """Each objective with the scores that it sees."""

        def scores(objective: Objective, weight: Array, overflows: bool, given: Sample | Array) -> Sample:
            sample = as_sample(given)
            if not overflows:
                return sample
            return Sample(jnp.where(weight == 0, objective.ideal_score, sample.values), sample.weights)

        parts = zip(self.objectives, self.weights, self.overflowing, strict=True)
        return [(part[0], scores(*part, real), scores(*part, fake)) for part in parts]

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._chosen([objective.discriminator(*scores) for objective, *scores in self._seen(real, fake)])

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return self._chosen([objective.generator(*scores) for objective, *scores in self._seen(real, fake)])

    @property
    def takes_vectors(self) -> bool:
        return any(objective.takes_vectors for objective in self.objectives)

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
    return _OneObjectiveOf(
        tuple(objectives), jnp.asarray(np.eye(len(objectives))[chosen]), tuple(map(_overflows, objectives))
    )


def _overflows(objective: Objective) -> bool:
    """Whether a loss is not finite where scores are far out, though their squares would be."""
    far = jnp.asarray([-1e15, 1e15])
    losses = objective.discriminator(far, far), objective.generator(far, far)
    return not (is_concrete(losses) and bool(jnp.all(jnp.isfinite(jnp.stack(losses)))))


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
def _method(text: str, kind: str, precision: str, where: str, added: tuple) -> Update | AbstractFlow:
    arguments = json.loads(text)
    cls = _find("updates" if boundary_of(kind).discrete else "flows", arguments.pop("name"), f"{where}.name")
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
    if not isinstance(name, str):
        raise StudyError(f"{where}: got {shown(name)}; expected the name of one of the {room}")
    if (new := catalogue.RENAMED.get((room, name))) and name not in known:
        text = f"{where}: {name!r} is now {new!r}; the old name goes with the next release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        name = new
    if name not in known:
        if lacking := catalogue.lacking(room, name):
            raise StudyError(f"{where}: {name!r} is abstract: it does not define {', '.join(lacking)}")
        raise StudyError(f"{where}: {name!r} is not one of the {room}{nearest(name, known)}")
    return known[name]


def _component(room: str, spec: Any, where: str) -> Any:
    if spec == "none":
        return None
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise StudyError(f"{where}: got {shown(spec)}; expected a name, or a table with a name")
    arguments = {key: value for key, value in spec.items() if key not in ("name", "label")}
    if room != "optimisers":
        return _call(_find(room, spec["name"], f"{where}.name"), arguments, where)
    known: dict[str, Any] = optimisers.CATALOGUE
    if spec["name"] not in known:
        raise StudyError(f"{where}.name: {spec['name']!r} is not one of the optimisers{nearest(spec['name'], known)}")
    factory = known[spec["name"]]
    for key, value in arguments.items():
        if key == "learning_rate" and isinstance(value, dict):
            arguments[key] = _schedule(value, f"{where}.{key}")
        else:
            _check_scalar(value, arguments_of(factory).get(key), f"{where}.{key}", strict=True)
    return _call(factory, arguments, where)


def _call(factory: Callable, data: dict[str, Any], where: str) -> Any:
    """Call a constructor with data, components built and names checked."""
    parameters = arguments_of(factory)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(factory).parameters.values())
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        function = _is_function(parameter) and not (factory is Scheduled and key in _FUNCTIONS)
        if function and (needed or key in data):
            raise StudyError(f"{where}: {factory.__qualname__} takes a function, {key!r}; use it from Python")
    positional, keywords = [], {}
    for key, value in data.items():
        here = f"{where}.{key}"
        parameter = parameters.get(key)
        if parameter is None and not open_ended:
            raise StudyError(f"{here}: {factory.__qualname__} takes no such argument{nearest(key, parameters)}")
        value = _argument(key, value, parameter, here)
        if parameter is not None and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        else:
            keywords[key] = value
    if positional:  # what comes before them in the signature has no name in the call
        ahead = [key for key, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD and key in keywords]
        positional = [*(keywords.pop(key) for key in ahead), *positional]
    with blamed(where):
        return factory(*positional, **keywords)


def _argument(key: str, value: Any, parameter: inspect.Parameter | None, where: str) -> Any:
    """One argument of a constructor, from data."""
    if callable(value):
        return value
    if parameter is not None and key in _FUNCTIONS and _is_function(parameter):
        return _FUNCTIONS[key](value, where)
    if key in ("optimisers", "penalties"):
        return [_component(key, v, f"{where}.{i}") for i, v in enumerate(_list(value, where))]
    if key == "formats":
        return [_format(v, f"{where}.{i}") for i, v in enumerate(_list(value, where))]
    if key == "projections":
        return [_projection(v, f"{where}.{i}") for i, v in enumerate(_list(value, where))]
    if key == "key":
        if isinstance(value, bool) or not isinstance(value, int):
            raise StudyError(f"{where}: got {shown(value)}; expected a whole number, the seed of a random key")
        return jax.random.key(value)
    if key == "eigenvalues":
        return [complex(*v) if isinstance(v, list) else v for v in _list(value, where)]
    if key == "equilibria":
        return [_point(v, f"{where}.{i}") for i, v in enumerate(_list(value, where))]
    if isinstance(value, (eqx.Module, type(None))):
        return value
    room = _room_of(key, parameter)
    if room is not None:
        return _component(room, value, where)
    if isinstance(value, list):
        return _list_of_numbers(key, value, where)
    _check_scalar(value, parameter, where)
    return value


def expected_data(factory: Callable) -> dict[str, tuple[str, Any]]:
    """What each argument of a constructor is in a study, in words, and its default; `...` where it is required.

    An argument that can be given from Python only, such as a function, has the words of none.
    """
    parameters = arguments_of(factory)
    return {
        key: (_expected(key, parameter, factory), ... if parameter.default is parameter.empty else parameter.default)
        for key, parameter in parameters.items()
    }


def _expected(key: str, parameter: inspect.Parameter, factory: Callable) -> str:
    """In words what `_argument` makes an argument of."""
    if _is_function(parameter):
        known = {"schedule": "a table: one of the schedules", "where": "a path such as `game.noise`, or several"}
        return known[key] if factory is Scheduled and key in _FUNCTIONS else ""
    if key in _WORDS:
        return _WORDS[key]
    room = _room_of(key, parameter)
    if room is not None:
        return f"a name or a table: one of the {room}"
    default, annotations = parameter.default, _annotations(parameter)
    if isinstance(default, bool) or annotations == (bool,):
        return "true or false"
    choices = [choice for kind in annotations if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    if choices:
        return " or ".join(f"`{choice}`" for choice in choices)
    if isinstance(default, str) or str in annotations:
        return "a text"
    if isinstance(default, int) or annotations[:1] == (int,):
        return "a whole number"
    if any(isinstance(kind, type) and issubclass(kind, Game) for kind in annotations):
        return ""
    return "a number" if isinstance(default, float) else "a number or a list of numbers"


_WORDS = {
    "optimisers": "a list of tables, one for each player: one of the optimisers",
    "penalties": "a list of tables: penalties",
    "projections": "a list, one for each player: `none` or a table with the name `Clip` and a `bound`",
    "key": "a whole number, the seed of a random key",
    "eigenvalues": "a list of numbers, or of pairs: real and imaginary part",
    "equilibria": "a list of points, each as `start` is",
    "shapes": "a list of lists of whole numbers",
}


def _schedule(value: Any, where: str) -> Callable[[Any], Any]:
    """A function of the number of steps done before, from its name and numbers."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise StudyError(f"{where}: got {shown(value)}; expected a table with the name of a schedule")
    name = value["name"]
    if name not in SCHEDULES:
        raise StudyError(f"{where}.name: {name!r} is not one of the schedules{nearest(name, SCHEDULES)}")
    factory = SCHEDULES[name]
    arguments = {key: entry for key, entry in value.items() if key != "name"}
    parameters = arguments_of(factory)
    for key, entry in arguments.items():
        if key in parameters:
            _check_scalar(entry, parameters[key], f"{where}.{key}", strict=True)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise StudyError(f"{where}: {name} needs {key!r}")
    return _call(factory, arguments, where)


def _place(value: Any, where: str) -> Callable[[Game, Update], Any]:
    """What a schedule multiplies: a path of names through game or update, or several."""
    paths = value if isinstance(value, list) else [value]
    for path in paths:
        if not isinstance(path, str) or path.split(".")[0] not in ("game", "update") or "." not in path:
            raise StudyError(f"{where}: got {shown(path)}; expected a path such as 'game.noise' or 'update.decay'")
    return functools.partial(_picked, tuple(paths))


def _picked(paths: tuple[str, ...], game: Game, update: Update) -> tuple[Any, ...]:
    return tuple(_followed({"game": game, "update": update}, path) for path in paths)


def _followed(root: dict[str, Any], path: str) -> Any:
    """What is at the end of a path: fields by their names, entries of lists by their numbers."""
    place: Any = root
    for part in path.split("."):
        if isinstance(place, eqx.Module):
            known = {field.name: getattr(place, field.name) for field in dataclasses.fields(place)}
        elif isinstance(place, dict):
            known = place
        else:
            known = {str(index): entry for index, entry in enumerate(place)} if isinstance(place, (list, tuple)) else {}
        if part not in known:
            what = "the study" if place is root else type(place).__name__
            raise ValueError(f"where: {path!r}: {what} has no {part!r}{nearest(part, known) if known else ''}")
        place = known[part]
    return place


# Functions that data can name, in the arguments of `Scheduled`.
_FUNCTIONS: dict[str, Callable[[Any, str], Any]] = {"schedule": _schedule, "where": _place}
# Schedules by name: ours, and those of optax that are made of numbers.
SCHEDULES: dict[str, Callable[..., Any]] = {
    "Every": Every,
    **{
        name: getattr(optax, name)
        for name in (
            "constant_schedule",
            "cosine_decay_schedule",
            "cosine_onecycle_schedule",
            "exponential_decay",
            "linear_onecycle_schedule",
            "linear_schedule",
            "polynomial_schedule",
            "warmup_constant_schedule",
            "warmup_cosine_decay_schedule",
            "warmup_exponential_decay_schedule",
        )
    },
}


def _list_of_numbers(key: str, value: list[Any], where: str) -> Any:
    if all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        return value  # players, sizes: whole numbers stay what they are
    if key == "shapes":
        return [tuple(_list(v, f"{where}.{i}")) for i, v in enumerate(value)]
    numbers = _numbers(value, where)
    if key in ("blocks", "offsets"):  # rows of unequal length, by players
        return numbers
    try:
        return np.asarray(numbers)
    except ValueError as error:
        raise StudyError(f"{where}: got {shown(value)}; expected rows of equal length") from error


def _annotations(parameter: inspect.Parameter | None) -> tuple[Any, ...]:
    """What an argument is annotated as, and the alternatives where that is a union."""
    if parameter is None:
        return ()
    is_union = typing.get_origin(parameter.annotation) in (typing.Union, types.UnionType)
    return (parameter.annotation, *(typing.get_args(parameter.annotation) if is_union else ()))


def _room_of(key: str, parameter: inspect.Parameter | None) -> str | None:
    """The catalogue that an argument's component comes from; `None` where it is no component."""
    for annotation in _annotations(parameter):
        for base, room in _ROOMS.items():
            if isinstance(annotation, type) and issubclass(annotation, base):
                return room
    untold = (
        parameter is None or parameter.annotation in (Any, parameter.empty) or isinstance(parameter.annotation, str)
    )
    return _NAMED.get(key) if untold else None


def _is_function(parameter: inspect.Parameter) -> bool:
    return any(Callable in (annotation, typing.get_origin(annotation)) for annotation in _annotations(parameter))


def _check_scalar(value: Any, parameter: inspect.Parameter | None, where: str, strict: bool = False) -> None:
    """Hold a value against the argument's default and annotation.

    With `strict` an argument of which neither tells anything is a number; without, its constructor decides.
    """
    default = inspect.Parameter.empty if parameter is None else parameter.default
    annotations = _annotations(parameter)
    flag = isinstance(default, bool) or annotations == (bool,)
    text = isinstance(default, str) or str in annotations or any(typing.get_origin(a) is Literal for a in annotations)
    if flag:
        expected, fits = "true or false", isinstance(value, bool)
    elif text:
        expected, fits = "a text", isinstance(value, str)
    else:
        expected, fits = "a number", isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits or (isinstance(value, str) and not strict and not isinstance(default, (int, float)))
    if not fits:
        got = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)
        raise StudyError(f"{where}: got {got}; expected {expected}")
    if isinstance(value, (int, float)):
        _check_size(value, where)


def _check_size(value: float, where: str) -> None:
    largest = float(jnp.finfo(jnp.result_type(float)).max)
    if abs(value) > largest:
        raise StudyError(f"{where}: got {value}; expected at most {largest:.3g}, the largest number in this precision")


def _format(value: Any, where: str) -> Any:
    """A format of numbers: its name, or how many significand bits it has, which may be an axis."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise StudyError(f'{where}: got {shown(value)}; expected a name such as "bfloat16", or a number of bits')
    return value


def _projection(spec: Any, where: str) -> Any:
    if spec == "none":
        return None
    if not isinstance(spec, dict) or spec.get("name") != "Clip":
        raise StudyError(f"{where}: got {shown(spec)}; expected 'none' or {{name = 'Clip', bound = ...}}")
    return _call(Clip, {key: value for key, value in spec.items() if key != "name"}, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise StudyError(f"{where}: got {shown(value)}; expected a list")
    return value


def _numbers(value: Any, where: str) -> Any:
    """A number, or nested lists of numbers, as floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise StudyError(f"{where}: got {shown(value)}; expected numbers")
    if not isinstance(value, list):
        _check_size(value, where)
        return float(value)
    return [_numbers(entry, f"{where}.{index}") for index, entry in enumerate(value)]


def _point(value: Any, where: str) -> Any:
    """Players, from a list with a number or a list per player."""
    numbers = _numbers(value, where)
    if not isinstance(numbers, list):
        raise StudyError(f"{where}: got {shown(value)}; expected a list with one entry per player")
    try:
        return tuple(np.asarray(entry) if isinstance(entry, list) else entry for entry in numbers)
    except ValueError as error:
        raise StudyError(f"{where}: got {shown(value)}; expected rows of equal length") from error


def nearby(players: Players, equilibrium: Players, distance: float) -> Players:
    """The point at a small distance from an equilibrium, towards the players."""
    gap = jax.tree.map(jnp.subtract, players, equilibrium)
    with np.errstate(over="ignore"):
        size = float(np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gap))))
    return jax.tree.map(lambda point, way: point + distance / max(size, 1e-300) * way, equilibrium, gap)
