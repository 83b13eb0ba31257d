"""What the cells of a sweep have in common but for their numbers: looked at once for all sweeps of a kind."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._compiling import once_per_kind
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.notes import Note
from dynamics.ensembles import tables
from dynamics.ensembles.players import Variable, variables_of
from dynamics.flows.base import AbstractFlow
from dynamics.flows.noisy import NoisyFlow
from dynamics.game import Game, Players
from dynamics.simulation.simulate import check_players, check_shapes
from dynamics.updates.base import State, Update
from dynamics.updates.rounded import is_rounded


class Kind:
    """Of cells that differ in numbers alone.

    Attributes:
        boundary: "map" or "flow".
        is_noisy: whether it is a `NoisyFlow`.
        state: before the first step, types and shapes.
        sizes: numbers of the players, and of the whole state.
        dtype: of the players.
        players: their variables.
    """

    boundary: str
    is_noisy: bool
    state: State
    sizes: tuple[int, int]
    dtype: np.dtype
    players: tuple[Variable, ...]

    def __init__(self, game: Game, method: Update | AbstractFlow, start: Players, key: PRNGKeyArray | None):
        self._results: dict[Any, Any] = {}
        # A game without a known equilibrium may still come to one: that depends on its numbers.
        self._knows_shapes = check_players(game, start)
        self.boundary = boundary_of(method).kind
        self.is_noisy = isinstance(method, NoisyFlow)
        self.state = eqx.filter_eval_shape(type(method).init, method, game, start)
        self.sizes = _trees.size(start), sum(np.size(leaf) for leaf in jax.tree.leaves(self.state))
        self.dtype = _trees.float_dtype(start)
        self.players = variables_of(start)
        self._described = tables.described(self.boundary)
        self._described |= {variable.name: variable.attributes for variable in self.players}
        self._described |= tables.equilibria_described(self.players)
        if is_rounded(method):
            self._described["predicted_verdict"]["comment"] = Note.rounding.value

    @staticmethod
    def of(game: Game, method: Update | AbstractFlow, start: Players, key: PRNGKeyArray | None) -> "Kind":
        """Of a cell that has been built.

        Args:
            game, method, start: the cell.
            key: of minibatches, of which type and shape count.

        Raises:
            ValueError: game and players, or method and players, do not fit.
        """
        kind = once_per_kind(Kind, game, method, start, key)
        if not kind._knows_shapes:
            check_shapes(game, start)
        return kind

    def attributes(self, resolution: float) -> dict[str, dict[str, Any]]:
        """Attributes of the variables of a sweep, for the caller to change.

        Args:
            resolution: time between two samples.
        """
        copied = {
            name: {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in about.items()}
            for name, about in self._described.items()
        }
        copied["steps_to_tolerance"]["resolution"] = resolution
        return copied

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns that looks at types and shapes of the cell alone; called once."""
        if function not in self._results:
            self._results[function] = function(*arguments)
        return self._results[function]
