"""Modules without memory as functions of their parameters."""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from dynamics._checks import check_no_memory
from dynamics._printing import Printed

# By the module and the name of a class among a module's: what such a module is, and who takes it.
_ADAPTERS = {
    ("flax.nnx", "Module"): ("a Flax NNX module", "dynamics.networks.from_nnx(module)"),
    ("flax.linen", "Module"): ("a Flax Linen module", "dynamics.networks.from_linen(module, variables)"),
    ("haiku", "TransformedWithState"): (
        "a function that Haiku has transformed",
        "dynamics.networks.from_haiku(transformed, params, state)",
    ),
    ("haiku", "Transformed"): (
        "a function that Haiku has transformed",
        "dynamics.networks.from_haiku(transformed, params)",
    ),
}


class SplitModule(Printed):
    """A module without its parameters, as a function `(parameters, *arguments, **keywords)`; made by `split_module`."""

    fixed: PyTree
    static: PyTree = eqx.field(static=True)

    def printed_arguments(self) -> list[tuple[str | None, Any]]:
        """The class of the module, and its sizes."""
        fields = dataclasses.fields(self.static) if dataclasses.is_dataclass(self.static) else ()
        held = [(field.name, getattr(self.static, field.name, None)) for field in fields]
        sizes = [(name, value) for name, value in held if type(value) in (int, str)]
        return [(None, type(self.static)), *sizes]

    def __call__(self, parameters: PyTree, *arguments: Any, **keywords: Any) -> PyTree:
        return self.whole(parameters)(*arguments, **keywords)

    def whole(self, parameters: PyTree) -> Any:
        """The module with these parameters."""
        return eqx.combine(parameters, self.fixed, self.static)


def split_module(module: PyTree) -> tuple[SplitModule, PyTree]:
    """Split a callable module into a function of its parameters and the parameters, fit to be a player.

    Args:
        module: an equinox module, or any callable pytree.

    Returns:
        `(function, parameters)` with `function(parameters, *arguments) == module(*arguments)`, keywords such as
        `key` likewise; the parameters are the module's floating arrays, everything else is part of the function.

    Raises:
        TypeError: it is no function, or a module of Flax or Haiku, or a layer keeps values from call to call
            (`BatchNorm`, `SpectralNorm`, whatever holds an `equinox.nn.StateIndex`): these are for the functions of
            `dynamics.networks`. Layers that ask for a key are fine.

    >>> import jax, jax.numpy as jnp
    >>> function, parameters = split_module(eqx.nn.Linear(2, 1, key=jax.random.key(0)))
    >>> function(parameters, jnp.ones(2)).shape
    (1,)
    """
    _check_not_flax_or_haiku(module)
    if not callable(module):
        raise TypeError(f"module is {module!r}; expected a function that is a pytree, such as equinox.nn.MLP(...)")
    check_no_memory(module, "module")
    parameters, rest = eqx.partition(module, eqx.is_inexact_array)
    fixed, static = eqx.partition(rest, eqx.is_array)
    return SplitModule(fixed, static), parameters


def _check_not_flax_or_haiku(module: Any) -> None:
    """Raise `TypeError`, with the name of the right function, for what is no equinox module."""
    for kind in type(module).__mro__:
        for (package, name), (what, adapter) in _ADAPTERS.items():
            if kind.__name__ == name and f"{kind.__module__}.".startswith(f"{package}."):
                raise TypeError(
                    f"module is a {type(module).__name__}, {what}; split_module takes modules of equinox. Use "
                    f"{adapter}, which returns a network for dynamics.GAN and its parameters"
                )
