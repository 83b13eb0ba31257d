"""What the package holds, for type checkers and editors: `__init__.py` imports each of these on first use."""

from dynamics import analysis as analysis
from dynamics import catalogue as catalogue
from dynamics import checks as checks
from dynamics import claims as claims
from dynamics import data as data
from dynamics import directions as directions
from dynamics import distributions as distributions
from dynamics import ensembles as ensembles
from dynamics import experiments as experiments
from dynamics import flows as flows
from dynamics import function_space as function_space
from dynamics import game as game
from dynamics import games as games
from dynamics import gan as gan
from dynamics import metrics as metrics
from dynamics import micro_batches as micro_batches
from dynamics import networks as networks
from dynamics import objectives as objectives
from dynamics import optimisers as optimisers
from dynamics import outcomes as outcomes
from dynamics import penalties as penalties
from dynamics import plots as plots
from dynamics import reports as reports
from dynamics import scalars as scalars
from dynamics import schedules as schedules
from dynamics import simulation as simulation
from dynamics import strategies as strategies
from dynamics import studies as studies
from dynamics import training as training
from dynamics import training_step as training_step
from dynamics import updates as updates
from dynamics.analysis import alignment as alignment
from dynamics.analysis import basins as basins
from dynamics.analysis import best as best
from dynamics.analysis import classify as classify
from dynamics.analysis import compare as compare
from dynamics.analysis import critical as critical
from dynamics.analysis import distance_to_instability as distance_to_instability
from dynamics.analysis import examine as examine
from dynamics.analysis import find_equilibria as find_equilibria
from dynamics.analysis import find_equilibrium as find_equilibrium
from dynamics.analysis import kreiss_constant as kreiss_constant
from dynamics.analysis import lyapunov_exponents as lyapunov_exponents
from dynamics.analysis import numerical_abscissa as numerical_abscissa
from dynamics.analysis import numerical_radius as numerical_radius
from dynamics.analysis import path_angle as path_angle
from dynamics.analysis import potential_and_hamiltonian as potential_and_hamiltonian
from dynamics.analysis import pseudospectrum as pseudospectrum
from dynamics.analysis import rounding_floor as rounding_floor
from dynamics.analysis import sensitivity as sensitivity
from dynamics.analysis import spectra_over_batches as spectra_over_batches
from dynamics.analysis import spectrum_path as spectrum_path
from dynamics.analysis import stability as stability
from dynamics.analysis import stationary_covariance as stationary_covariance
from dynamics.analysis import timescale_threshold as timescale_threshold
from dynamics.analysis import transient_growth as transient_growth
from dynamics.ensembles import stability_chart as stability_chart
from dynamics.ensembles import sweep as sweep
from dynamics.game import Game as Game
from dynamics.game import ZeroSum as ZeroSum
from dynamics.gan import GAN as GAN
from dynamics.networks.splitting import split_module as split_module
from dynamics.optimisers import Optimiser as Optimiser
from dynamics.simulation import Outcome as Outcome
from dynamics.simulation import Run as Run
from dynamics.simulation import simulate as simulate
from dynamics.training import train as train
from dynamics.training_step import from_step as from_step

__version__: str
__all__: list[str]

def __dir__() -> list[str]: ...
