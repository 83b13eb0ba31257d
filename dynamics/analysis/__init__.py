"""Where training goes and whether it stays: equilibria, Jacobians, spectra, verdicts, critical parameters."""

from dynamics._deprecations import moved
from dynamics.analysis.asymptotics.basins import Basins as Basins
from dynamics.analysis.asymptotics.basins import basins as basins
from dynamics.analysis.asymptotics.covariance import StationaryCovariance as StationaryCovariance
from dynamics.analysis.asymptotics.covariance import stationary_covariance as stationary_covariance
from dynamics.analysis.asymptotics.lyapunov import LyapunovExponents as LyapunovExponents
from dynamics.analysis.asymptotics.lyapunov import lyapunov_exponents as lyapunov_exponents
from dynamics.analysis.asymptotics.path_angle import PathAngle as PathAngle
from dynamics.analysis.asymptotics.path_angle import path_angle as path_angle
from dynamics.analysis.asymptotics.rounding import RoundingFloor as RoundingFloor
from dynamics.analysis.asymptotics.rounding import rounding_floor as rounding_floor
from dynamics.analysis.asymptotics.rounding import stall_factor as stall_factor
from dynamics.analysis.bifurcation.best import Best as Best
from dynamics.analysis.bifurcation.best import best as best
from dynamics.analysis.bifurcation.critical import Bifurcation as Bifurcation
from dynamics.analysis.bifurcation.critical import Critical as Critical
from dynamics.analysis.bifurcation.critical import critical as critical
from dynamics.analysis.bifurcation.path import SpectrumPath as SpectrumPath
from dynamics.analysis.bifurcation.path import spectrum_path as spectrum_path
from dynamics.analysis.bifurcation.sensitivity import Sensitivity as Sensitivity
from dynamics.analysis.bifurcation.sensitivity import sensitivity as sensitivity
from dynamics.analysis.bifurcation.timescale import TimescaleThreshold as TimescaleThreshold
from dynamics.analysis.bifurcation.timescale import timescale_threshold as timescale_threshold
from dynamics.analysis.comparing import MethodComparison as MethodComparison
from dynamics.analysis.comparing import compare as compare
from dynamics.analysis.concepts import Classification as Classification
from dynamics.analysis.concepts import classify as classify
from dynamics.analysis.equilibria.newton import (
    Equilibrium as Equilibrium,
)
from dynamics.analysis.equilibria.newton import (
    EquilibriumError as EquilibriumError,
)
from dynamics.analysis.equilibria.newton import (
    find_equilibrium as find_equilibrium,
)
from dynamics.analysis.equilibria.search import find_equilibria as find_equilibria
from dynamics.analysis.examination import Examination as Examination
from dynamics.analysis.examination import examine as examine
from dynamics.analysis.minibatches import SpectraOverBatches as SpectraOverBatches
from dynamics.analysis.minibatches import spectra_over_batches as spectra_over_batches
from dynamics.analysis.nonnormal.decomposition import PotentialAndHamiltonian as PotentialAndHamiltonian
from dynamics.analysis.nonnormal.decomposition import potential_and_hamiltonian as potential_and_hamiltonian
from dynamics.analysis.nonnormal.distance import Distance as Distance
from dynamics.analysis.nonnormal.distance import distance_to_instability as distance_to_instability
from dynamics.analysis.nonnormal.eigenvectors import Alignment as Alignment
from dynamics.analysis.nonnormal.eigenvectors import alignment as alignment
from dynamics.analysis.nonnormal.growth import Growth as Growth
from dynamics.analysis.nonnormal.growth import transient_growth as transient_growth
from dynamics.analysis.nonnormal.kreiss import Kreiss as Kreiss
from dynamics.analysis.nonnormal.kreiss import kreiss_constant as kreiss_constant
from dynamics.analysis.nonnormal.numerical_range import numerical_abscissa as numerical_abscissa
from dynamics.analysis.nonnormal.numerical_range import numerical_radius as numerical_radius
from dynamics.analysis.nonnormal.pseudospectra import Pseudospectrum as Pseudospectrum
from dynamics.analysis.nonnormal.pseudospectra import pseudospectrum as pseudospectrum
from dynamics.analysis.normal_forms.invariants import Invariant as Invariant
from dynamics.analysis.stability.filippov import find_pseudo_equilibrium as find_pseudo_equilibrium
from dynamics.analysis.stability.filippov import sliding as sliding
from dynamics.analysis.stability.higher_orders import Decay as Decay
from dynamics.analysis.stability.higher_orders import NormalForm as NormalForm
from dynamics.analysis.stability.leading import FieldOperator as FieldOperator
from dynamics.analysis.stability.leading import Leading as Leading
from dynamics.analysis.stability.leading import LeadingStability as LeadingStability
from dynamics.analysis.stability.leading import StateOperator as StateOperator
from dynamics.analysis.stability.leading import SymmetricPart as SymmetricPart
from dynamics.analysis.stability.linearisation import Linearisation as Linearisation
from dynamics.analysis.stability.linearisation import linearise as linearise
from dynamics.analysis.stability.notes import Verdict as Verdict
from dynamics.analysis.stability.report import Stability as Stability
from dynamics.analysis.stability.sliding import Sliding as Sliding
from dynamics.analysis.stability.verdict import stability as stability

__getattr__ = moved(__name__, {"Covariance": "dynamics.analysis.StationaryCovariance"})
