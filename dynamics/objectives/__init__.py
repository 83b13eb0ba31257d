"""What each player is paid: one file per objective, one line in this catalogue."""

# ruff: noqa: I001 (the order of the imports is the order of the catalogue)
from dynamics.objectives.base import Objective as Objective
from dynamics.objectives.minimax import Minimax as Minimax
from dynamics.objectives.non_saturating import NonSaturating as NonSaturating
from dynamics.objectives.least_squares import LeastSquares as LeastSquares
from dynamics.objectives.wasserstein import Wasserstein as Wasserstein
from dynamics.objectives.hinge import Hinge as Hinge
