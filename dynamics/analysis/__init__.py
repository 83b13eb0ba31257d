"""Where training goes and whether it stays: equilibria, Jacobians, spectra, verdicts, critical parameters."""

from dynamics.analysis.critical import Bifurcation as Bifurcation, Critical as Critical, critical as critical
from dynamics.analysis.equilibria import (
    Equilibrium as Equilibrium,
    EquilibriumError as EquilibriumError,
    find_equilibrium as find_equilibrium,
)
from dynamics.analysis.linearisation import Linearisation as Linearisation, linearise as linearise
from dynamics.analysis.report import Stability as Stability, Verdict as Verdict, stability as stability
