"""Pictures of results. Nothing is computed here: what is drawn was found out elsewhere.

Every function returns a `matplotlib.figure.Figure`, built without pyplot; a notebook shows it, `save` writes it.
"""

from dynamics.plots._animation import Animation, animate
from dynamics.plots._basins import basins
from dynamics.plots._charts import chart
from dynamics.plots._claims import counterexample
from dynamics.plots._comparison import comparison
from dynamics.plots._ladder import ladder_densities, ladder_divergences, ladder_spectra
from dynamics.plots._nonnormal import eigenvalue_path, pseudospectra, transient
from dynamics.plots._outcomes import outcome_chart
from dynamics.plots._particles import particles
from dynamics.plots._portrait import portrait
from dynamics.plots._portraits import phase_portrait, phase_portraits
from dynamics.plots._rates import rates
from dynamics.plots._series import series
from dynamics.plots._spectra import spectra, spectrum
from dynamics.plots._spectral_study import eigenvalue_clouds, failures
from dynamics.plots._style import save
from dynamics.plots._survey import survey_divergences, survey_rates, survey_weights
from dynamics.plots._training import samples, training
from dynamics.plots._trajectory import trajectory

__all__ = [
    "Animation",
    "animate",
    "basins",
    "chart",
    "comparison",
    "counterexample",
    "eigenvalue_clouds",
    "eigenvalue_path",
    "failures",
    "ladder_densities",
    "ladder_divergences",
    "ladder_spectra",
    "outcome_chart",
    "particles",
    "phase_portrait",
    "phase_portraits",
    "portrait",
    "pseudospectra",
    "rates",
    "samples",
    "save",
    "series",
    "spectra",
    "spectrum",
    "survey_divergences",
    "survey_rates",
    "survey_weights",
    "training",
    "trajectory",
    "transient",
]
