"""Ready games with their known equilibria: one file per family, one line in this catalogue."""

from dynamics.games.bilinear import Bilinear as Bilinear
from dynamics.games.covariance import Covariance as Covariance
from dynamics.games.dirac_gan import DiracGAN as DiracGAN
from dynamics.games.impossibility import Market as Market
from dynamics.games.impossibility import ZeroSumQuartic as ZeroSumQuartic
from dynamics.games.iterated_prisoners_dilemma import IteratedPrisonersDilemma as IteratedPrisonersDilemma
from dynamics.games.limit_cycles import AlmostBilinear as AlmostBilinear
from dynamics.games.limit_cycles import Forsaken as Forsaken
from dynamics.games.linear_wasserstein import LinearWasserstein as LinearWasserstein
from dynamics.games.matrix_game import MatchingPennies as MatchingPennies
from dynamics.games.matrix_game import MatrixGame as MatrixGame
from dynamics.games.matrix_game import RockPaperScissors as RockPaperScissors
from dynamics.games.matrix_game import Shapley as Shapley
from dynamics.games.mixture_game import MixtureGame as MixtureGame
from dynamics.games.polynomial_game import PolynomialGame as PolynomialGame
from dynamics.games.quadratic import Quadratic as Quadratic
from dynamics.games.ring_gan import RingGAN as RingGAN
from dynamics.games.solution_concepts import PlanarQuadratic as PlanarQuadratic
from dynamics.games.solution_concepts import SineMinimax as SineMinimax
from dynamics.games.solution_concepts import SpuriousAttractor as SpuriousAttractor
from dynamics.games.tandem import Tandem as Tandem
from dynamics.games.timescale_quadratic import TimescaleQuadratic as TimescaleQuadratic
from dynamics.games.torus import Torus as Torus
from dynamics.games.ttur_toy import TTURToy as TTURToy
from dynamics.games.veegan import VEEGAN as VEEGAN
from dynamics.games.vral import VRAL as VRAL
