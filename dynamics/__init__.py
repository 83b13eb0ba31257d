"""A training-dynamics simulator: GAN training as a differentiable game, as discrete maps and as ODEs.

>>> import optax, dynamics as dy
>>> game = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
>>> update = dy.updates.Alternating(optax.sgd(0.1), optax.sgd(0.2))
>>> str(dy.stability(game, update).verdict)
'stable'
"""

import importlib as _importlib
from typing import Any as _Any

from dynamics import _locks

__version__ = "0.1.0"

# Names are imported on first use, so that `dynamics --help` does not wait for JAX.
_MODULES = (
    "analysis",
    "catalogue",
    "checks",
    "claims",
    "data",
    "directions",
    "distributions",
    "ensembles",
    "experiments",
    "flows",
    "function_space",
    "games",
    "metrics",
    "micro_batches",
    "networks",
    "objectives",
    "optimisers",
    "penalties",
    "plots",
    "scalars",
    "schedules",
    "simulation",
    "strategies",
    "studies",
    "training",
    "updates",
)
# Modules that most need no name for: what they hold has one in `dynamics`, or comes back as a result.
_FURTHER = ("game", "gan", "outcomes", "reports", "training_step")
_NAMES = {
    "GAN": "dynamics.gan",
    "Game": "dynamics.game",
    "Optimiser": "dynamics.optimisers",
    "Outcome": "dynamics.simulation",
    "Run": "dynamics.simulation",
    "ZeroSum": "dynamics.game",
    "alignment": "dynamics.analysis",
    "basins": "dynamics.analysis",
    "best": "dynamics.analysis",
    "classify": "dynamics.analysis",
    "compare": "dynamics.analysis",
    "critical": "dynamics.analysis",
    "distance_to_instability": "dynamics.analysis",
    "examine": "dynamics.analysis",
    "find_equilibria": "dynamics.analysis",
    "find_equilibrium": "dynamics.analysis",
    "from_step": "dynamics.training_step",
    "kreiss_constant": "dynamics.analysis",
    "lyapunov_exponents": "dynamics.analysis",
    "numerical_abscissa": "dynamics.analysis",
    "numerical_radius": "dynamics.analysis",
    "path_angle": "dynamics.analysis",
    "potential_and_hamiltonian": "dynamics.analysis",
    "pseudospectrum": "dynamics.analysis",
    "rounding_floor": "dynamics.analysis",
    "sensitivity": "dynamics.analysis",
    "simulate": "dynamics.simulation",
    "spectra_over_batches": "dynamics.analysis",
    "spectrum_path": "dynamics.analysis",
    "split_module": "dynamics.networks.splitting",
    "stability": "dynamics.analysis",
    "stability_chart": "dynamics.ensembles",
    "stationary_covariance": "dynamics.analysis",
    "sweep": "dynamics.ensembles",
    "timescale_threshold": "dynamics.analysis",
    "train": "dynamics.training",
    "transient_growth": "dynamics.analysis",
}

__all__ = sorted([*_MODULES, *_NAMES])  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> _Any:
    if name not in __all__ and name not in _FURTHER:
        raise AttributeError(f"module 'dynamics' has no attribute {name!r}")
    with _locks.importing:
        module = _importlib.import_module(_NAMES.get(name, f"dynamics.{name}"))
        value = getattr(module, name) if name in _NAMES else module
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
