"""Where each player wants to go: one file per direction, one line in this catalogue."""

from dynamics.directions.base import Direction as Direction
from dynamics.directions.gradient import Gradient as Gradient

from dynamics.directions.consensus import Consensus as Consensus  # isort: skip
from dynamics.directions.symplectic_adjustment import SymplecticAdjustment as SymplecticAdjustment
