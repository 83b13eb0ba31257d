"""What each player is paid: one file per family of objectives, one line per objective in this catalogue."""

# ruff: noqa: I001 (the order of the imports is the order of the catalogue)
from dynamics.objectives.base import Objective as Objective
from dynamics.objectives.base import Properties as Properties
from dynamics.objectives.pointwise import Pointwise as Pointwise
from dynamics.objectives.pointwise import TwoSided as TwoSided
from dynamics.objectives.minimax import Minimax as Minimax
from dynamics.objectives.non_saturating import NonSaturating as NonSaturating
from dynamics.objectives.least_squares import LeastSquares as LeastSquares
from dynamics.objectives.wasserstein import Wasserstein as Wasserstein
from dynamics.objectives.hinge import Hinge as Hinge
from dynamics.objectives.scoring_rules import Brier as Brier
from dynamics.objectives.scoring_rules import Exponential as Exponential
from dynamics.objectives.scoring_rules import Misclassification as Misclassification
from dynamics.objectives.scoring_rules import Spherical as Spherical
from dynamics.objectives.alpha_loss import AlphaLoss as AlphaLoss
from dynamics.objectives.f_divergences import KL as KL
from dynamics.objectives.f_divergences import ReverseKL as ReverseKL
from dynamics.objectives.f_divergences import Pearson as Pearson
from dynamics.objectives.f_divergences import Neyman as Neyman
from dynamics.objectives.f_divergences import SquaredHellinger as SquaredHellinger
from dynamics.objectives.f_divergences import JensenShannon as JensenShannon
from dynamics.objectives.f_divergences import TotalVariation as TotalVariation
from dynamics.objectives.f_divergences import FGAN as FGAN
from dynamics.objectives.relativistic import RelativisticPaired as RelativisticPaired
from dynamics.objectives.relativistic import RelativisticAverage as RelativisticAverage
from dynamics.objectives.relativistic import RelativisticCentred as RelativisticCentred
from dynamics.objectives.mmd import GaussianMMD as GaussianMMD
from dynamics.objectives.mmd import RationalQuadraticMMD as RationalQuadraticMMD
from dynamics.objectives.mmd import EnergyDistance as EnergyDistance
from dynamics.objectives.mixture_density import MDGAN as MDGAN
from dynamics.objectives.mixture_density import PGAN as PGAN
