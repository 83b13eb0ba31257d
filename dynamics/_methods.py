"""Methods that can be handed to `jax.jit`, although their component holds arrays."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from dynamics._printing import Printed

METHODS = ("init", "step", "field", "losses")


class BoundMethod(eqx.Module):
    """A method together with its component: a pytree that is hashable.

    `jax.jit` finds compiled programs by the function that it is given, with `hash` and `==`. A method of an equinox
    module hashes the arrays of the module, which raises; and compares them by value, where 0.1 and 0.1 of another
    precision are equal. Here two methods are equal when they are the same function of the very same arrays.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    component: eqx.Module

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(self.component, *arguments, **keywords)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return functools.partial(self.function, self.component)

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __hash__(self) -> int:
        return hash((self.function, *map(id, jax.tree.leaves(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundMethod):
            return False
        (leaves, structure), (others, another) = jax.tree.flatten(self), jax.tree.flatten(other)
        return structure == another and all(a is b for a, b in zip(leaves, others, strict=True))


class _Method:
    """The descriptor of such a method in its class."""

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.function if instance is None else BoundMethod(self.function, instance)


class WithMethods(Printed):
    """A component whose methods can be handed to `jax.jit`: the numbers it holds are constants of the program."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        for name in METHODS:
            method = vars(cls).get(name)
            if inspect.isfunction(method):
                setattr(cls, name, _Method(method))
