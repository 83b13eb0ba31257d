"""The results of a sweep as arrays on the host, and as an `xarray.Dataset`."""

import dataclasses
import functools
import importlib.metadata
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import dynamics
from dynamics.analysis.equilibria.newton import Search
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.ensembles.designs import Cells
from dynamics.ensembles.players import Variable, columns_of, dimensions
from dynamics.ensembles.prediction import Predicted, Smoothness
from dynamics.outcomes import Outcome

if TYPE_CHECKING:
    import xarray as xr

NOT_DONE = -1
PREDICTED = ("predicted_verdict", "predicted_smoothness", "predicted_rate", "predicted_radius", "predicted_abscissa")
PLAYER = re.compile("player_|equilibrium_[0-9]")  # how names of variables of the players begin
CERTIFICATE = ("equilibrium_residual", "equilibrium_distance", "equilibrium_condition", "equilibrium_steps")
RESERVED = (
    *("outcome", "simulated_rate", "period", "exponent", "residual", "steps_to_tolerance", "duration"),
    *PREDICTED,
    *CERTIFICATE,
)


@dataclasses.dataclass
class Table:
    """One array per variable, with a leading axis of cells; cells that are not done hold NaN, or -1."""

    cells: Cells
    columns: dict[str, np.ndarray]
    attributes: dict[str, dict[str, Any]]
    done: int = 0
    outcomes: Any = 0

    def add(self, begin: int, rows: dict[str, np.ndarray]) -> None:
        """The results of some cells from this one on."""
        for name, values in rows.items():
            if name not in self.columns:
                self.columns[name] = np.full((self.cells.count, *values.shape[1:]), _blank(values.dtype), values.dtype)
        # The outcome last: an interruption leaves no cell that looks done and is not.
        for name in sorted(rows, key=lambda name: name == "outcome"):
            self.columns[name][begin : begin + len(rows[name])] = rows[name]
        self.done += len(next(iter(rows.values())))
        self.outcomes = self.outcomes + np.bincount(rows["outcome"], minlength=len(Outcome))

    def counts(self) -> str:
        """How many of the cells that are done have which outcome."""
        counts = self.outcomes
        return ", ".join(f"{count} {outcome.name}" for outcome, count in zip(Outcome, counts, strict=True) if count)

    def dataset(self, attributes: dict[str, Any]) -> "xr.Dataset":
        """All of it, named."""
        import xarray as xr

        columns = self.columns or {"outcome": np.full(self.cells.count, NOT_DONE, np.int8)}
        variables = {}
        for name, values in columns.items():
            about = self.attributes.get(name, {})
            extra_dims = dimensions(name, values.ndim - 1, about)
            shaped = values.reshape((*self.cells.shape, *values.shape[1:]))
            variables[name] = ((*self.cells.dims, *extra_dims), shaped, about)
        along = self.cells.dims[0] if "cell" in self.cells.dims else None
        coordinates: dict[str, Any] = {
            name: ((along or name,) if axis.values.ndim else (), axis.values, axis.attributes)
            for name, axis in self.cells.axes.items()
        }
        if self.cells.starts is not None:
            coordinates["start"] = ("start", np.arange(self.cells.starts), {"long_name": "number of the start"})
        return xr.Dataset(variables, coordinates, attributes)


def _blank(dtype: np.dtype) -> Any:
    if dtype.kind in "fc":
        return np.nan
    return -1 if dtype.kind == "i" else 0


def flags(members: Iterable[Any]) -> dict[str, Any]:
    """Attributes that say which number means what, as the conventions for climate and forecast data have it."""
    pairs = [(int(member), member.name) for member in members]
    return {
        "flag_values": np.array([value for value, _ in pairs], np.int8),
        "flag_meanings": " ".join(name for _, name in pairs),
    }


def described(kind: str) -> dict[str, dict[str, Any]]:
    """Long names, units and meanings of the variables that every sweep has."""
    boundary = boundary_of(kind)
    time, per = "steps" if boundary.discrete else "time", f"1/{boundary.symbol}"
    outcome = flags(Outcome)
    values, meanings = np.append(outcome["flag_values"], np.int8(NOT_DONE)), outcome["flag_meanings"] + " not_done"
    return {
        "outcome": {"long_name": "what became of the run", "flag_values": values, "flag_meanings": meanings},
        "simulated_rate": {"long_name": "slope of the logarithm of the amplitude along the run", "units": per},
        "period": {"long_name": "length of one turn of a cycle", "units": time},
        "exponent": {"long_name": "p where the distance to rest shrinks like t^-p", "units": "1"},
        "residual": {"long_name": "norm of the field at the end", "units": "1"},
        "steps_to_tolerance": {
            "long_name": "when the distance to the end has fallen for good below the tolerance times its largest value",
            "units": time,
        },
        "duration": {"long_name": "how long the cell was run", "units": time},
        "predicted_verdict": {"long_name": "whether training stays near the equilibrium", **flags(Predicted)},
        "predicted_smoothness": {"long_name": "how smooth the method is at the equilibrium", **flags(Smoothness)},
        "predicted_radius": {"long_name": "largest modulus of an eigenvalue of the map's Jacobian", "units": "1"},
        "predicted_abscissa": {"long_name": "largest real part of an eigenvalue of the flow's Jacobian", "units": per},
        "predicted_rate": {"long_name": "logarithm of the contraction at the equilibrium", "units": per},
        "equilibrium_residual": {"long_name": "norm of the field where Newton's method ended", "units": "1"},
        "equilibrium_distance": {"long_name": "distance from the start to where Newton's method ended", "units": "1"},
        "equilibrium_condition": {"long_name": "condition number of the Jacobian of the field there", "units": "1"},
        "equilibrium_steps": {"long_name": "number of steps of Newton's method", "units": "steps"},
    }


def certificate(equilibria: Search, variables: tuple[Variable, ...]) -> dict[str, Any]:
    """The variables of the equilibria that Newton's method has reached.

    Args:
        equilibria: arrays with a leading axis of cells.
        variables: those of the players.
    """
    values = columns_of(variables, equilibria.players, np.ndim(equilibria[-1]))
    rows = {variable.of_equilibrium: value for variable, value in zip(variables, values, strict=True)}
    return rows | dict(zip(CERTIFICATE, equilibria[3:], strict=True))


def equilibria_described(variables: tuple[Variable, ...]) -> dict[str, dict[str, Any]]:
    """Long names of the variables of the equilibrium, from those of the players at the end."""
    return {
        variable.of_equilibrium: variable.attributes
        | {"long_name": variable.label.replace("at the end", "at the equilibrium")}
        for variable in variables
    }


def measured(name: str, value: Any) -> list[str]:
    """Names of the variables of a measure, one per leaf."""
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in jax.tree_util.tree_leaves_with_path(value)
    ]
    return [name + f"_{path}" * bool(path) for path in paths]


def package_versions() -> dict[str, str]:
    """Of the packages on which the bits depend."""
    return {package.__name__: package.__version__ for package in (dynamics, jax, np)} | {"llvmlite": _llvmlite()}


@functools.cache
def _llvmlite() -> str:
    """The installed version; to look for it takes most of a millisecond."""
    try:
        return importlib.metadata.version("llvmlite")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def provenance(settings: dict[str, Any], dtype: Any, key: Any) -> dict[str, Any]:
    """Attributes of the dataset: versions, precision, random key and settings, all plain text."""
    key = None if key is None else (jax.random.key_data(key) if _is_typed(key) else key)
    return {
        **package_versions(),
        "platform": jax.default_backend(),
        "dtype": str(np.dtype(dtype)),
        "key": "none" if key is None else " ".join(str(word) for word in np.asarray(key).tolist()),
        "settings": json.dumps(settings),
    }


def _is_typed(key: Any) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
