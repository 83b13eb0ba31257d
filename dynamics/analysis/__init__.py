"""Where training goes and whether it stays: equilibria, Jacobians, spectra, verdicts, critical parameters."""

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
from dynamics.analysis.linearisation import Linearisation as Linearisation
from dynamics.analysis.linearisation import linearise as linearise
from dynamics.analysis.report import Stability as Stability
from dynamics.analysis.report import Verdict as Verdict
from dynamics.analysis.report import stability as stability
