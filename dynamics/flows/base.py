"""Training as an ordinary differential equation."""

from abc import abstractmethod

from jaxtyping import Array

from dynamics._methods import WithMethods
from dynamics.game import Game, Players
from dynamics.updates.base import State


class AbstractFlow(WithMethods):
    """A training rule as an ODE of the whole state, integrated by diffrax."""

    @abstractmethod
    def init(self, game: Game, players: Players) -> State:
        """The state at time 0."""

    @abstractmethod
    def field(self, game: Game, time: Array, state: State) -> State:
        """The time derivative of the state."""

    @classmethod
    @abstractmethod
    def example(cls, players: int = 2) -> "AbstractFlow":
        """An instance with unequal rates for so many players, for the catalogue and the conformance tests."""


def check_players(rates: tuple[Array, ...] | None, players: Players) -> None:
    """Raise `ValueError` unless there is one rate per player."""
    if rates is not None and len(rates) != len(players):
        raise ValueError(f"{len(rates)} rates for {len(players)} players; expected one per player")
