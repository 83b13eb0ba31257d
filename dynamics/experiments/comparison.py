"""What a comparison is: many trainings as one batched program, and their means with error bars."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import scipy.special
from jaxtyping import PRNGKeyArray

import dynamics.ensembles as ensembles
from dynamics._printing import Titled
from dynamics.ensembles.cells import Built
from dynamics.ensembles.players import players_of
from dynamics.game import Game, Players
from dynamics.simulation import Run, simulate

if TYPE_CHECKING:
    import xarray as xr

CONFIDENCE = 0.95
VARIANT, SEED = "variant", "seed"  # dimensions of the dataset; means are taken over seeds
ENDS = ("", "_low", "_high")  # after the name of a measure: its mean, and the interval's ends
Measure = Callable[[Game, Players, Players], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Comparison(Titled):
    """Variants of a training compared over the values of a setting, each with several seeds.

    Attributes:
        name, title: what to call it, short and as a sentence.
        variants: by name, functions of the settings and a key called `seed` that return `(game, update, players)`, as
            for `dynamics.sweep`; each is one batched program.
        axes: values of the settings by name; the first one is drawn to the right.
        seeds: number of seeds.
        steps: of every training.
        key: random key of the batches; `None`: exact expectations.
        measures: a function `(game, start, players) -> {name: number}`, of every trained GAN.
        shares: those of the measures that are yes or no (1 or 0): their error bars are those of a share.
        findings: from the dataset, what the numbers say, as sentences.
        settings: the arguments that made it, by name.
        illustrated: a variant, of particles in the plane, whose way with the first seed the report shows; or `None`.
        published: values from the literature, by measure and variant, which the picture shows beside the means.
        numbers: by variant, what its function gets besides the settings and the seed. Variants that differ by nothing
            else have one function, and one compiled program serves them.
    """

    name: str
    title: str
    variants: Mapping[str, Callable[..., Built]]
    axes: Mapping[str, np.ndarray]
    seeds: int
    steps: int
    key: PRNGKeyArray | None
    measures: Measure
    shares: tuple[str, ...]
    findings: Callable[["xr.Dataset"], list[str]]
    settings: Mapping[str, Any]
    illustrated: str | None = None
    published: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    numbers: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def run(self, store: str | os.PathLike | None = None, progress: Any = False) -> "xr.Dataset":
        """Train all of them, and measure each.

        Args:
            store: folder that keeps what is done, and from which an interrupted run goes on; `None`: nothing is kept.
            progress: as for `dynamics.sweep`.

        Returns:
            a dataset with the measures, the outcome and the residual of every training, over `variant`, the axes and
            `seed`.

        Raises:
            As `dynamics.sweep`.
        """
        import xarray as xr

        axes: dict[str, Any] = dict(self.axes) | {SEED: ensembles.seeds(self.seeds)}
        options: dict[str, Any] = {"steps": self.steps, "key": self.key, "predict": False, "progress": progress}
        parts: list[xr.Dataset] = []
        for place, (name, build) in enumerate(self.variants.items()):
            kept = None if store is None else Path(store) / f"variant-{place}"
            numbers = dict(self.numbers.get(name, {}))
            dataset = ensembles.sweep(build, axes | numbers, store=kept, **options)
            measured = self._measured(build, dataset, numbers)
            parts.append(dataset[["outcome", "residual"]].drop_vars(numbers, errors="ignore").assign(measured))
        names = xr.Variable(VARIANT, list(self.variants))
        return xr.concat(parts, names, combine_attrs="override")

    def illustration(self, saves: int = 60) -> tuple[Game, Run]:
        """The game of the variant that is illustrated, with the first seed, and a run of it saved on the way.

        Raises:
            ValueError: none is.
        """
        if self.illustrated is None:
            raise ValueError(f"the comparison {self.name!r} illustrates no variant; expected one that does")
        settings: dict[str, Any] = {name: values[0] for name, values in self.axes.items()}
        settings |= self.numbers.get(self.illustrated, {})
        game, update, start = self.variants[self.illustrated](**settings, seed=jax.random.key(0))
        assert start is not None
        every = max(1, self.steps // saves)
        return game, simulate(game, update, start, steps=self.steps, save_every=every, key=self.key, classify=False)

    def means(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Means over the seeds, and ends of their intervals, of every measure.

        Returns:
            variables `name`, `name_low` and `name_high` over `variant` and the axes.
        """
        columns: dict[str, Any] = {}
        names = [VARIANT, *self.axes]
        for name in dataset.data_vars:
            if name not in ("outcome", "residual"):
                values = dataset[name].transpose(*names, SEED).values
                ends = mean_and_error(values, name in self.shares)
                columns |= {str(name) + end: (names, column) for end, column in zip(ENDS, ends, strict=True)}
        return dataset.drop_vars(list(dataset.data_vars)).drop_dims(SEED).assign(columns)

    def _measured(
        self, build: Callable[..., Built], dataset: "xr.Dataset", numbers: Mapping[str, float]
    ) -> dict[str, Any]:
        names, shape = [str(name) for name in dataset["outcome"].dims], dataset["outcome"].shape
        columns: dict[str, np.ndarray] = {}
        for place in np.ndindex(shape):
            cell = dict(zip(names, place, strict=True))
            values = {name: dataset[name].values[number] for name, number in cell.items()}
            game, _, start = build(**{**numbers, **values, SEED: jax.random.key(int(values[SEED]))})
            assert start is not None  # `dynamics.sweep` has refused it
            for name, number in self.measures(game, start, players_of(dataset, start, **cell)).items():
                columns.setdefault(name, np.full(shape, np.nan))[place] = number
        return {name: (names, column) for name, column in columns.items()}


def mean_and_error(
    values: np.ndarray, share: bool = False, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the last axis, and the ends of its interval, of 95 % by default.

    Of a number: mean and Student's t times the standard error. Of a share (values 0 and 1): Wilson's score interval,
    which is right for shares near 0 and 1 as well.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.

    Args:
        values: shape (..., seeds); NaN counts as not there.
        share: whether they are yes or no.
        confidence: of the interval, between 0 and 1; of n intervals that are to hold together, 1 - (1 - 0.95) / n.

    >>> mean, low, high = mean_and_error(np.array([1.0, 1.0, 0.0, 1.0]), share=True)
    >>> round(float(mean), 2), round(float(low), 3), round(float(high), 3)
    (0.75, 0.301, 0.954)
    """
    there = np.isfinite(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        if share:
            z = scipy.special.ndtri((1 + confidence) / 2)
            middle = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
            half = z / (1 + z**2 / count) * np.sqrt(mean * (1 - mean) / count + z**2 / (4 * count**2))
            return mean, middle - half, middle + half
        spread = np.where(there, (values - mean[..., None]) ** 2, 0).sum(axis=-1) / (count - 1)
        half = scipy.special.stdtrit(np.maximum(count - 1, 1), (1 + confidence) / 2) * np.sqrt(spread / count)
        return mean, mean - half, mean + half
