"""Several methods on one game, side by side: where each run ends, what the eigenvalues say, and what a step costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics._plain import plain
from dynamics._printing import Described
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.stability.leading import LeadingStability
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.verdict import stability
from dynamics.compiler.jaxprs import calls
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, as_players
from dynamics.outcomes import Outcome
from dynamics.simulation import Run, simulate
from dynamics.updates.base import Update

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class MethodComparison(Described):
    """What `compare` returns; `dynamics.plots.portrait(comparison.game, comparison.runs)` draws it.

    Attributes:
        game: the game.
        runs: for every method its run, every step saved (of a flow, 512 times).
        reports: for every method the report at the equilibrium; a text that says why there is none.
        evaluations: for every method how often a step evaluates the field; of a flow, the derivative of the state.
            Loops whose length depends on numbers count once.
    """

    game: Game
    runs: dict[str, Run]
    reports: dict[str, Stability | LeadingStability | str]
    evaluations: dict[str, int]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method: outcome, measured and predicted rate, verdict, evaluations of the field."""
        rows = []
        for name, run in self.runs.items():
            report = self.reports[name]
            known = not isinstance(report, str)
            rows.append(
                {
                    "method": name,
                    "outcome": Outcome(int(run.outcome)).name,
                    "rate": float(run.rate),
                    "verdict": str(report.verdict) if known else "-",
                    "predicted_rate": float(report.rate) if known else np.nan,
                    "evaluations": self.evaluations[name],
                }
            )
        return rows

    def describe(self) -> str:
        """A table; rates are those of the logarithm of the distance, per step or unit of time."""
        heads = ("method", "outcome", "rate", "verdict", "predicted rate", "evaluations")
        table: list[tuple[str, ...]] = [heads]
        for row in self.rows():
            numbers = ("" if np.isnan(row[name]) else f"{row[name]:.4g}" for name in ("rate", "predicted_rate"))
            rate, predicted = numbers
            table.append((row["method"], row["outcome"], rate, row["verdict"], predicted, str(row["evaluations"])))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)) for line in table]
        notes = [f"{name}: {report}" for name, report in self.reports.items() if isinstance(report, str)]
        return "\n".join(line.rstrip() for line in [*lines, *notes])

    def to_dataframe(self) -> pd.DataFrame:
        """The rows as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        return self.to_dataframe().to_html(index=False, na_rep="", float_format="{:.4g}".format)

    def to_dict(self) -> dict[str, Any]:
        """The rows as plain Python data, ready for JSON; what is not finite is `None`."""
        return plain({"methods": self.rows()})


def compare(
    game: Game,
    methods: Mapping[str, Update | AbstractFlow],
    players: Any,
    *,
    steps: int = 1000,
    until: float = 100.0,
    at: Any = None,
    key: PRNGKeyArray | None = None,
) -> MethodComparison:
    """Simulate several methods on a game from one start, and judge each at an equilibrium.

    Args:
        game: the game.
        methods: updates and flows by name.
        players: where all of them start.
        steps: of every update.
        until: the time of every flow.
        at: the equilibrium; default that of `dynamics.stability`, the game's first known one.
        key: for games and methods that draw random numbers.

    Raises:
        ValueError: there is no method.

    >>> import optax
    >>> from dynamics.games import DiracGAN
    >>> from dynamics.penalties import R1
    >>> from dynamics.updates import Alternating, Simultaneous
    >>> rates = optax.sgd(0.5), optax.sgd(0.5)
    >>> methods = {"simultaneous": Simultaneous(*rates), "alternating": Alternating(*rates)}
    >>> comparison = compare(DiracGAN(penalty=R1(0.3)), methods, (1.0, 1.0))
    >>> [(row["method"], row["outcome"], row["verdict"], row["evaluations"]) for row in comparison.rows()]
    [('simultaneous', 'converged', 'stable', 1), ('alternating', 'converged', 'stable', 2)]
    """
    if not methods:
        raise ValueError("methods is empty; expected updates or flows by name, e.g. {'simultaneous': update}")
    runs, reports, evaluations = {}, {}, {}
    for name, method in methods.items():
        duration: dict[str, Any] = (
            {"until": until} if isinstance(method, AbstractFlow) else {"steps": steps, "save_every": 1}
        )
        runs[name] = simulate(game, method, players, key=key, **duration)
        evaluations[name] = _evaluations(game, method, players, key)
        try:
            reports[name] = stability(game, method, at, key=key)
        except EquilibriumError as error:
            reports[name] = str(error)
    return MethodComparison(game, runs, reports, evaluations)


def _evaluations(game: Game, method: Update | AbstractFlow, players: Any, key: PRNGKeyArray | None) -> int:
    """How often the field is evaluated in a step, or in a derivative of a flow's state."""
    players = as_players(players)

    def move(players: Any) -> Any:
        state = method.init(game, players)
        if isinstance(method, Update):
            return method.step(game, state, key).players
        return method.field(game, jnp.zeros(()), state).players

    return calls(jax.make_jaxpr(move)(players).jaxpr, "_field")
