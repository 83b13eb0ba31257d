"""Where each player wants to go: one file per direction, one line in this catalogue."""

from dynamics._deprecations import moved
from dynamics.directions.base import Direction as Direction
from dynamics.directions.gradient import Gradient as Gradient

from dynamics.directions.consensus import Consensus as Consensus  # isort: skip
from dynamics.directions.competitive_gradient import CompetitiveGradient as CompetitiveGradient
from dynamics.directions.crossing_the_curl import CrossingTheCurl as CrossingTheCurl
from dynamics.directions.curvature_exploitation import CurvatureExploitation as CurvatureExploitation
from dynamics.directions.drift_regularisation import DriftRegularisation as DriftRegularisation
from dynamics.directions.follow_the_ridge import FollowTheRidge as FollowTheRidge
from dynamics.directions.hamiltonian_descent import HamiltonianDescent as HamiltonianDescent
from dynamics.directions.jacobian_regularisation import JacobianRegularisation as JacobianRegularisation
from dynamics.directions.local_symplectic_surgery import LocalSymplecticSurgery as LocalSymplecticSurgery
from dynamics.directions.natural import Natural as Natural
from dynamics.directions.noisy import Noisy as Noisy
from dynamics.directions.opponent_shaping import LOLA as LOLA
from dynamics.directions.opponent_shaping import SOS as SOS
from dynamics.directions.opponent_shaping import PolicyPrediction as PolicyPrediction
from dynamics.directions.stackelberg import Stackelberg as Stackelberg
from dynamics.directions.symplectic_adjustment import SymplecticAdjustment as SymplecticAdjustment
from dynamics.directions.unrolled import Unrolled as Unrolled

__getattr__ = moved(__name__, {"LookAhead": "dynamics.directions.PolicyPrediction"})
