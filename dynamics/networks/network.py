"""What a network is to a game, whichever library it was written with."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray, PyTree

from dynamics._printing import Printed


class Network(Printed):
    r"""A network on whole batches, that may keep values between calls and draw random numbers.

    Training mode: $((y_1, \dots, y_n), v^+) = $ `apply`$(p, v, (x_1, \dots, x_n), k)$ for parameters p, which an
    optimiser moves, variables v, which the network itself updates (running means, the vectors of a power iteration),
    and a random key k. For networks of any other library: a subclass of this.

    Attributes:
        variables: v at the start, a pytree of arrays; `()` for a network that keeps nothing.
    """

    variables: eqx.AbstractVar[PyTree]

    @abstractmethod
    def apply(
        self, parameters: PyTree, variables: PyTree, batch: PyTree, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        """Outputs for a whole batch in training mode, and the new variables.

        Args:
            parameters: what an optimiser moves.
            variables: of the structure, shapes and dtypes of `self.variables`.
            batch: arrays with a leading axis of n points.
            key: for Dropout and the like; `None`: raise if one is needed.
        """

    @abstractmethod
    def evaluate(self, parameters: PyTree, variables: PyTree, point: PyTree) -> PyTree:
        """The output for one point, without a leading axis, in inference mode: variables are used and stay."""


Keywords = tuple[tuple[str, Any], ...]


def as_keywords(given: Mapping[str, Any] | None) -> Keywords:
    """Keyword arguments of a module's call, fit to be a static field."""
    return tuple(sorted((given or {}).items()))
