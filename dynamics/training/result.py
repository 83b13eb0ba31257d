"""What a training returns."""

import enum
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from dynamics._plain import plain
from dynamics.game import Players
from dynamics.updates.base import State

if TYPE_CHECKING:
    import xarray as xr


class Ending(enum.Enum):
    """How a training ended; the value says what it means and what to do."""

    finished = "All steps were taken."
    not_finite = (
        "A step gave parameters that are not finite numbers; the state is that before the step. Smaller steps, a "
        "gradient penalty or clipped gradients may help."
    )


class Training(eqx.Module):
    """What a training returns.

    Attributes:
        state: the whole state at the end, memory included; pass it to `train` to go on from there.
        average: the exponential moving average of player 0, the generator; `None` if none was asked for.
        step: number of steps taken.
        ending: how it ended.
        steps: the steps at which losses and metrics were taken, shape (n,).
        losses: of every player there, shape (n, players).
        metrics: what the metrics returned there, by name, shape (n,) each; NaN where parameters were about to be no
            finite numbers.
    """

    state: State
    average: PyTree | None
    step: int = eqx.field(static=True)
    ending: Ending = eqx.field(static=True)
    steps: np.ndarray
    losses: np.ndarray
    metrics: dict[str, np.ndarray]

    @property
    def players(self) -> Players:
        """The players at the end, as the last step left them."""
        return self.state.players

    @property
    def averaged_players(self) -> Players:
        """The players that metrics are taken of: the average in place of player 0, if there is one."""
        return self.players if self.average is None else (self.average, *self.players[1:])

    def __repr__(self) -> str:
        return self.describe()

    def to_dict(self) -> dict[str, Any]:
        """Losses and metrics as plain Python data, ready for JSON, without the state; what is not finite is `None`."""
        ends = {"step": self.step, "ending": self.ending.name, "players": len(self.players)}
        return plain({**ends, "steps": self.steps, "losses": self.losses, "metrics": self.metrics})

    def describe(self) -> str:
        """How it ended, after how many steps, and the last losses and metrics, in a sentence or two."""
        values = [f"loss_{player} {loss:.4g}" for player, loss in enumerate(self.losses[-1])]
        values += [f"{name} {series[-1]:.4g}" for name, series in self.metrics.items()]
        return f"{self.ending.name} after step {self.step} ({', '.join(values)}). {self.ending.value}"

    def to_xarray(self) -> "xr.Dataset":
        """Losses and metrics along the axis `step`, as an `xarray.Dataset`."""
        import xarray as xr

        variables = {name: ("step", series) for name, series in self.metrics.items()}
        axes = {"step": self.steps, "player": np.arange(self.losses.shape[1])}
        attributes = {"ending": self.ending.name, "steps": self.step}
        return xr.Dataset({"loss": (("step", "player"), self.losses)} | variables, axes, attributes)
