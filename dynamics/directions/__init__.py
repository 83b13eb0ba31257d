"""Where each player wants to go: one file per direction, one line in this catalogue."""

from dynamics.directions.base import Direction as Direction
from dynamics.directions.gradient import Gradient as Gradient

from dynamics.directions.consensus import Consensus as Consensus  # isort: skip
from dynamics.directions.competitive_gradient import CompetitiveGradient as CompetitiveGradient
from dynamics.directions.follow_the_ridge import FollowTheRidge as FollowTheRidge
from dynamics.directions.opponent_shaping import LOLA as LOLA
from dynamics.directions.opponent_shaping import SOS as SOS
from dynamics.directions.opponent_shaping import LookAhead as LookAhead
from dynamics.directions.stackelberg import Stackelberg as Stackelberg
from dynamics.directions.symplectic_adjustment import SymplecticAdjustment as SymplecticAdjustment
