"""Where training goes and whether it stays: equilibria, Jacobians, spectra, verdicts, critical parameters."""

from dynamics.analysis.all_equilibria import find_equilibria as find_equilibria
from dynamics.analysis.basin_map import Basins as Basins
from dynamics.analysis.basin_map import basins as basins
from dynamics.analysis.best import Best as Best
from dynamics.analysis.best import best as best
from dynamics.analysis.concepts import Classification as Classification
from dynamics.analysis.concepts import classify as classify
from dynamics.analysis.covariance import Covariance as Covariance
from dynamics.analysis.covariance import stationary_covariance as stationary_covariance
from dynamics.analysis.critical import Bifurcation as Bifurcation
from dynamics.analysis.critical import Critical as Critical
from dynamics.analysis.critical import critical as critical
from dynamics.analysis.equilibria import (
    Equilibrium as Equilibrium,
)
from dynamics.analysis.equilibria import (
    EquilibriumError as EquilibriumError,
)
from dynamics.analysis.equilibria import (
    find_equilibrium as find_equilibrium,
)
from dynamics.analysis.examination import Examination as Examination
from dynamics.analysis.examination import examine as examine
from dynamics.analysis.linearisation import Linearisation as Linearisation
from dynamics.analysis.linearisation import linearise as linearise
from dynamics.analysis.lyapunov import LyapunovExponents as LyapunovExponents
from dynamics.analysis.lyapunov import lyapunov_exponents as lyapunov_exponents
from dynamics.analysis.nonnormal import Alignment as Alignment
from dynamics.analysis.nonnormal import Distance as Distance
from dynamics.analysis.nonnormal import Growth as Growth
from dynamics.analysis.nonnormal import Kreiss as Kreiss
from dynamics.analysis.nonnormal import PotentialAndHamiltonian as PotentialAndHamiltonian
from dynamics.analysis.nonnormal import Pseudospectrum as Pseudospectrum
from dynamics.analysis.nonnormal import alignment as alignment
from dynamics.analysis.nonnormal import distance_to_instability as distance_to_instability
from dynamics.analysis.nonnormal import kreiss_constant as kreiss_constant
from dynamics.analysis.nonnormal import numerical_abscissa as numerical_abscissa
from dynamics.analysis.nonnormal import numerical_radius as numerical_radius
from dynamics.analysis.nonnormal import potential_and_hamiltonian as potential_and_hamiltonian
from dynamics.analysis.nonnormal import pseudospectrum as pseudospectrum
from dynamics.analysis.nonnormal import transient_growth as transient_growth
from dynamics.analysis.path import SpectrumPath as SpectrumPath
from dynamics.analysis.path import spectrum_path as spectrum_path
from dynamics.analysis.report import Stability as Stability
from dynamics.analysis.report import Verdict as Verdict
from dynamics.analysis.report import stability as stability
from dynamics.analysis.sensitivity import Sensitivity as Sensitivity
from dynamics.analysis.sensitivity import sensitivity as sensitivity
from dynamics.analysis.timescale import TimescaleThreshold as TimescaleThreshold
from dynamics.analysis.timescale import timescale_threshold as timescale_threshold
