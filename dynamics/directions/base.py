"""Where each player wants to go from here."""

from abc import abstractmethod

from jaxtyping import PRNGKeyArray

from dynamics._printing import Printed
from dynamics.game import Game, Players


class Direction(Printed):
    """A vector field made from a game; `Gradient()` returns the game's own field v.

    The same object serves the discrete updates, which take steps along it, and the flows, which integrate it.
    """

    @abstractmethod
    def __call__(self, game: Game, players: Players, key: PRNGKeyArray | None = None) -> Players:
        """The direction at the players, a tuple of the shape of `players`."""
