"""Trainings that are ready to run: data, networks, update, metrics and pictures belong together.

`dynamics run ring` runs one at the command line; `RUNNABLE` has all of them by name.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dynamics._names import nearest
from dynamics._settings import value_of
from dynamics._text import shown
from dynamics.experiments.comparison import Comparison as Comparison
from dynamics.experiments.comparison import mean_and_error as mean_and_error
from dynamics.experiments.digits import digits as digits
from dynamics.experiments.experiment import Experiment as Experiment
from dynamics.experiments.gap_aware import gap_aware as gap_aware
from dynamics.experiments.kernels import kernels as kernels
from dynamics.experiments.ladder import Ladder as Ladder
from dynamics.experiments.ladder import ladder as ladder
from dynamics.experiments.numerics import numerics as numerics
from dynamics.experiments.objectives import objectives_survey as objectives_survey
from dynamics.experiments.r1_boundary import r1_boundary as r1_boundary
from dynamics.experiments.r3gan import r3gan as r3gan
from dynamics.experiments.ring import ring as ring
from dynamics.experiments.rings import rings as rings
from dynamics.experiments.rotation import rotation as rotation
from dynamics.experiments.spectral_study import SpectralStudy as SpectralStudy
from dynamics.experiments.survey import Survey as Survey

CATALOGUE: Mapping[str, Callable[..., Experiment]] = MappingProxyType({"ring": ring, "digits": digits})
COMPARISONS: Mapping[str, Callable[..., Comparison]] = MappingProxyType(
    {"gap-aware": gap_aware, "rotation": rotation, "rings": rings, "r3gan": r3gan, "kernels": kernels}
)
SURVEYS: Mapping[str, Callable[..., Survey]] = MappingProxyType({"objectives": objectives_survey})
LADDERS: Mapping[str, Callable[..., Ladder]] = MappingProxyType({"ladder": ladder})
SPECTRAL_STUDIES: Mapping[str, Callable[..., SpectralStudy]] = MappingProxyType(
    {"numerics": numerics, "r1-boundary": r1_boundary}
)
# All of them: what the command line runs by name.
RUNNABLE: Mapping[str, Callable[..., Experiment | Comparison | Survey | Ladder | SpectralStudy]] = MappingProxyType(
    {**CATALOGUE, **COMPARISONS, **SURVEYS, **LADDERS, **SPECTRAL_STUDIES}
)


def settings(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of an experiment, a survey and the like from texts such as `steps=100`, as the command line has them.

    Args:
        name: of the experiment, one of `RUNNABLE`.
        texts: `KEY=VALUE`, each.

    Returns:
        values by key, for `RUNNABLE[name]`.

    Raises:
        ValueError: no argument of this experiment, or a value of another kind.

    >>> settings("ring", ["steps=100", "rate=1e-2"])
    {'steps': 100, 'rate': 0.01}
    """
    parameters = inspect.signature(RUNNABLE[name]).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    chosen: dict[str, Any] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if key not in defaults:
            known = ", ".join(defaults)
            raise ValueError(f"--set {shown(key)}: {name} has {known}{nearest(key, list(defaults))}")
        try:
            chosen[key] = value_of(value)
        except ValueError as error:
            raise ValueError(f"--set {key} is {shown(value)}; expected {_kind(defaults[key])}") from error
        if isinstance(defaults[key], float) and type(chosen[key]) is int:
            chosen[key] = float(chosen[key])
        if type(chosen[key]) is not type(defaults[key]):
            raise ValueError(f"--set {key} is {shown(value)}; expected {_kind(defaults[key])}")
    return chosen


def _kind(default: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    return f"{kinds[type(default)]}, e.g. {str(default).lower()}"
