"""How a direction becomes a step: optax transformations, with their numbers as array leaves.

A bare optax object such as `optax.sgd(0.1)` works wherever an optimiser is expected; its numbers are constants of the
compiled program. `Optimiser(optax.sgd, 0.1)` builds the same object inside the program from array leaves, so that
changing a number compiles nothing and numbers can be swept with `jax.vmap`.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from dynamics._checks import as_leaf, is_concrete


class Optimiser(eqx.Module):
    """An optax transformation with its real-valued arguments as array leaves.

    Args:
        factory: a function that returns an optax transformation, e.g. `optax.adam`; `optax.chain` takes optimisers.
        arguments: its positional and keyword arguments. Real numbers become leaves; booleans, integers, strings and
            functions (schedules) stay constants.

    Raises:
        ValueError: a learning rate is negative or not finite.
        TypeError: the arguments do not fit the factory.

    >>> Optimiser(optax.adam, learning_rate=1e-3, b1=0.5).keywords["b1"].shape
    ()
    """

    factory: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    def __init__(self, factory: Callable[..., optax.GradientTransformation], *positional: Any, **keywords: Any):
        self.factory = factory
        self.positional = tuple(_argument(value) for value in positional)
        self.keywords = {name: _argument(value) for name, value in keywords.items()}

    def __check_init__(self):
        rate = self.keywords.get("learning_rate", self.positional[0] if self.positional else None)
        known = (eqx.is_inexact_array(rate) and is_concrete(rate)) or isinstance(rate, int)
        if known and not (jnp.all(rate >= 0) and jnp.all(rate < jnp.inf)):
            raise ValueError(f"{self._label}: the learning rate is {rate}; expected a finite number >= 0")
        transformation = self.build()
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                f"{self._label} returned {transformation!r}; expected an optax transformation, e.g. from optax.sgd"
            )

    @property
    def _label(self) -> str:
        return f"Optimiser({getattr(self.factory, '__name__', self.factory)!s})"

    def build(self) -> optax.GradientTransformation:
        """The optax transformation, made from the leaves where it is used."""
        positional = [as_transformation(value) for value in self.positional]
        return self.factory(*positional, **{name: as_transformation(value) for name, value in self.keywords.items()})


AnyOptimiser = Optimiser | optax.GradientTransformation


def as_transformation(optimiser: Any) -> Any:
    """Build an `Optimiser`; everything else stays as it is."""
    return optimiser.build() if isinstance(optimiser, Optimiser) else optimiser


def check_optimiser(optimiser: Any) -> None:
    """Raise `TypeError` unless this is an `Optimiser` or an optax transformation."""
    if not isinstance(optimiser, (Optimiser, optax.GradientTransformation)):
        raise TypeError(
            f"got {optimiser!r} as an optimiser; expected an optax transformation such as optax.sgd(0.1), "
            "or dynamics.Optimiser(optax.sgd, 0.1)"
        )


def sgd(learning_rate: Any) -> Optimiser:
    r"""Gradient descent, $x \leftarrow x + h d$ along the direction d with rate h."""
    return Optimiser(optax.sgd, learning_rate)


def momentum(learning_rate: Any, momentum: Any) -> Optimiser:
    r"""Heavy ball, $x_{t+1} = x_t + h d_t + \beta(x_t - x_{t-1})$; the coefficient may be negative.

    The first step has no momentum. Source: Polyak 1964; negative momentum: Gidel et al. 2019.
    """
    return Optimiser(optax.sgd, learning_rate, momentum=momentum)


def optimistic(learning_rate: Any, first: Literal["current", "zero"] = "current") -> Optimiser:
    r"""Optimistic gradient descent, $x_{t+1} = x_t + 2h d_t - h d_{t-1}$.

    Published versions differ in the first step: with `first="current"` the missing previous direction is the current
    one (a plain first step; two equal starting rows), with `first="zero"` it is 0 (a first step of twice the length).
    Source: Daskalakis et al., Training GANs with Optimism, 2018, equation 2.

    Raises:
        ValueError: `first` is neither.
    """
    if first == "current":
        return Optimiser(optax.optimistic_gradient_descent, learning_rate)
    if first == "zero":
        return Optimiser(_optimistic_from_zero, learning_rate)
    raise ValueError(f"optimistic: first is {first!r}; expected 'current' or 'zero'")


def adam(learning_rate: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8, eps_root: Any = 0.0) -> Optimiser:
    r"""Adam with bias correction, $x \leftarrow x - h\,\hat m/(\sqrt{\hat v + \epsilon_{root}} + \epsilon)$.

    Source: Kingma and Ba, Adam, 2015, algorithm 1.
    """
    return Optimiser(optax.adam, learning_rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


def rmsprop(learning_rate: Any, decay: Any = 0.9, eps: Any = 1e-8) -> Optimiser:
    r"""RMSProp, $v \leftarrow \rho v + (1-\rho) g^2$, $x \leftarrow x - h\,g/\sqrt{v + \epsilon}$; v starts at 0.

    Source: Tieleman and Hinton, lecture 6.5, 2012.
    """
    return Optimiser(optax.rmsprop, learning_rate, decay=decay, eps=eps)


def gap_aware_sgd(learning_rate: Any, ideal_loss: Any, **keywords: Any) -> Optimiser:
    """Gradient descent with the rate of `dynamics.schedules.gap_aware`; keywords are passed to it."""
    from dynamics.schedules import gap_aware

    return Optimiser(optax.chain, sgd(learning_rate), Optimiser(gap_aware, ideal_loss=ideal_loss, **keywords))


# What the command line and the conformance tests know by name.
CATALOGUE: dict[str, Callable[..., Optimiser]] = {
    function.__name__: function for function in (sgd, momentum, optimistic, adam, rmsprop, gap_aware_sgd)
}


def _argument(value: Any) -> Any:
    if isinstance(value, (float, np.floating)) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return as_leaf(value)
    return value


def _optimistic_from_zero(learning_rate: Any) -> optax.GradientTransformation:
    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, params)

    def update(updates: PyTree, state: PyTree, params: PyTree = None):
        del params
        return jax.tree.map(lambda new, old: 2 * new - old, updates, state), updates

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))
