"""Eigenvalues over a parameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array

from dynamics._checks import as_whole
from dynamics._plain import PlainFields
from dynamics._printing import Described
from dynamics.analysis.stability.boundary import boundary_of
from dynamics.analysis.stability.builds import Analysed, linearised_at, row_of
from dynamics.analysis.stability.report import Stability

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class SpectrumPath(Described, PlainFields):
    """How the eigenvalues move with a parameter.

    Attributes:
        kind: "map" or "flow".
        parameters: the samples, in increasing order.
        eigenvalues: one row per sample; a column follows one eigenvalue. Where eigenvalues meet, which column goes on
            as which is a choice.
        reach: spectral radius (maps) or abscissa (flows) at every sample, of all eigenvalues.
        equilibria: the coordinates of the equilibrium at every sample, one row each.
    """

    kind: str
    parameters: np.ndarray
    eigenvalues: np.ndarray
    reach: np.ndarray
    equilibria: np.ndarray

    def to_xarray(self) -> xr.Dataset:
        """Eigenvalues, reach and equilibria along the axis `parameter`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {
            "eigenvalue": (("parameter", "index"), self.eigenvalues),
            "reach": ("parameter", self.reach),
            "equilibrium": (("parameter", "coordinate"), self.equilibria),
        }
        return xr.Dataset(variables, {"parameter": self.parameters}, {"kind": self.kind})

    def describe(self) -> str:
        """The result as text."""
        name = boundary_of(self.kind).bound_name
        least = int(np.argmin(self.reach))
        return (
            f"{self.eigenvalues.shape[1]} eigenvalues at {len(self.parameters)} values from {self.parameters[0]:.6g} "
            f"to {self.parameters[-1]:.6g}: {name} {self.reach[0]:.6g} at the start, {self.reach[-1]:.6g} at the end, "
            f"least {self.reach[least]:.6g} at {self.parameters[least]:.6g}"
        )


def spectrum_path(
    build: Callable[[Array], tuple], low: float, high: float, samples: int = 201, *, at: Any = None
) -> SpectrumPath:
    """The eigenvalues over an interval of a parameter, every one followed from sample to sample.

    Eigenvalues at neighbouring samples are matched so that the sum of squared distances to where they were heading is
    least; one compiled program takes the Jacobians of all samples.

    Args:
        build: function of one number, as for `critical`.
        low, high: the interval.
        samples: number of values, evenly spaced.
        at: the equilibrium, as for `critical`.

    Raises:
        EquilibriumError: at some sample there is no equilibrium, or none is found from the start.
        ValueError: an empty interval, fewer than two samples, or a Jacobian that is not finite.

    >>> import dynamics as dy
    >>> path = spectrum_path(lambda w: (dy.games.DiracGAN(penalty=dy.penalties.R1(w)), dy.flows.Flow()), 0.5, 2.0, 4)
    >>> [round(float(value), 4) for value in path.reach]  # slowest decay -1/2, at the weight 1
    [-0.25, -0.5, -0.191, -0.134]
    """
    low, high = float(low), float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"the interval is [{low:g}, {high:g}]; expected finite low < high")
    samples = as_whole("samples", samples, 2)
    parameters = np.linspace(low, high, samples)
    analysed = Analysed.of(build, at, [[low], [(low + high) / 2], [high]])
    method = analysed.parts(jnp.asarray(low, jnp.result_type(float)))[1]
    boundary = boundary_of(method)
    rows = jax.device_get(linearised_at(analysed, jnp.asarray(parameters[:, None], jnp.result_type(float))))
    for index, parameter in enumerate(parameters):
        analysed.check(row_of(rows, index), [parameter], method)
    matrices = np.asarray(rows.linear.jacobian, float)
    finite = np.all(np.isfinite(matrices), axis=(1, 2))
    if not np.all(finite):
        raise ValueError(f"the Jacobian is not finite at {parameters[~finite][0]:g}; look at dynamics.stability there")
    values = matched(np.linalg.eigvals(matrices).astype(complex))
    reach = boundary.bound(values)
    points = [np.reshape(leaf, (samples, -1)) for leaf in jax.tree.leaves(rows.equilibrium.players)]
    return SpectrumPath(boundary.kind, parameters, values, reach, np.concatenate(points, axis=1))


def check_one_piece(report: Stability, where: str) -> None:
    """Raise `ValueError` where the Jacobian is that of one piece of the map or flow, or of one of its steps, only."""
    if report.period != 1:
        raise ValueError(
            f"at {where} the steps of the method depend on their number for ever (a schedule that goes round, say), so "
            "that no single Jacobian describes them; dynamics.stability judges a whole period. Use a schedule that "
            "comes to rest."
        )
    if report.smoothness in ("kinked", "discontinuous"):
        raise ValueError(
            f"the method is {report.smoothness} at {where}, where its Jacobian is that of one piece only; "
            "dynamics.stability judges all pieces together, for a grid of parameters if need be. To look at one piece, "
            "pass a smooth game that agrees with it."
        )


def counted(report: Stability, values: np.ndarray) -> np.ndarray:
    """Indices of the eigenvalues without the neutral ones."""
    return report.boundary.from_neutral(values)[report.neutral :]


def matched(values: np.ndarray) -> np.ndarray:
    """Reorder every row so that columns are continuous."""
    values = values.copy()
    values[0] = np.sort_complex(values[0])
    for i in range(1, len(values)):
        # Straight on from the last two rows: eigenvalues that cross keep their direction.
        heading = values[i - 1] if i == 1 else 2 * values[i - 1] - values[i - 2]
        costs = np.abs(heading[:, None] - values[i]) ** 2
        values[i] = values[i][scipy.optimize.linear_sum_assignment(costs)[1]]
    return values
