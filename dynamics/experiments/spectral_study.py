"""What a study of spectra is: trainings, eigenvalues of their steps on the way, means over seeds with error bars."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from dynamics._printing import Titled
from dynamics.experiments.comparison import ENDS, SEED, mean_and_error
from dynamics.game import Players

if TYPE_CHECKING:
    import xarray as xr


def players_at(states: Players, place: tuple[int, int]) -> Players:
    """The players of one of many trainings, at one of many times."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[place]), states)


@dataclasses.dataclass(frozen=True)
class SpectralStudy(Titled):
    """Trainings of a GAN, and what the eigenvalues of their steps say of them.

    Attributes:
        name, title: what to call it, short and as a sentence.
        compute: trains and measures; a function of `progress`, as for `dynamics.sweep`, that returns a dataset over
            `axes`, `seed`, and dimensions of its own.
        axes: dimensions over which the means are listed, the first one slowest.
        measures: variables of the dataset over `axes` and `seed` of which means are taken.
        shares: those that are yes or no (1 or 0): their error bars are those of a share.
        findings: from the dataset, what the numbers say, as sentences.
        about: what was trained, and what the columns mean.
        settings: the arguments that made it, by name.
    """

    name: str
    title: str
    compute: Callable[[Any], "xr.Dataset"]
    axes: tuple[str, ...]
    measures: tuple[str, ...]
    shares: tuple[str, ...]
    findings: Callable[["xr.Dataset"], list[str]]
    about: str
    settings: Mapping[str, Any]

    def run(self, store: str | os.PathLike | None = None, progress: Any = False) -> "xr.Dataset":
        """Train and measure, in minutes, so that nothing is kept in a store.

        Args:
            store: nothing is kept there.
            progress: as for `dynamics.sweep`.
        """
        del store
        return self.compute(progress)

    def means(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Means over the seeds, and ends of their intervals, of every measure.

        Returns:
            variables `name`, `name_low` and `name_high` over the axes.
        """
        import xarray as xr

        columns: dict[str, Any] = {}
        for name in self.measures:
            ends = mean_and_error(dataset[name].transpose(*self.axes, SEED).values, name in self.shares)
            columns |= {name + end: (self.axes, column) for end, column in zip(ENDS, ends, strict=True)}
        return xr.Dataset(columns, {name: dataset[name] for name in self.axes})
