"""Everything the library knows about one method at one equilibrium, in one call."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics._printing import Described
from dynamics.analysis.bifurcation.timescale import TimescaleThreshold, timescale_threshold
from dynamics.analysis.concepts import Classification, classify
from dynamics.analysis.equilibria.newton import EquilibriumError
from dynamics.analysis.nonnormal.decomposition import PotentialAndHamiltonian, potential_and_hamiltonian
from dynamics.analysis.nonnormal.distance import Distance, distance_to_instability
from dynamics.analysis.nonnormal.eigenvectors import Alignment, alignment
from dynamics.analysis.nonnormal.growth import Growth, transient_growth
from dynamics.analysis.nonnormal.kreiss import Kreiss, kreiss_constant
from dynamics.analysis.stability.notes import Verdict
from dynamics.analysis.stability.report import Stability
from dynamics.analysis.stability.verdict import stability
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game
from dynamics.updates.base import Update

SHOWN = 6  # eigenvalues in a text


@dataclasses.dataclass(frozen=True)
class Examination(Described):
    """One method at one equilibrium of a game: what `examine` returns.

    Attributes:
        stability: the spectrum and the verdict.
        classification: what kind of equilibrium it is.
        timescale: the ratios of the players' rates at which the gradient flow is stable; `None` for a single player, or
            where no ratio can be told from the boundary.
        field: potential and Hamiltonian parts of the Jacobian of the game's field.
        alignment: which player, or the memory, every eigenvector belongs to.
        growth: transient growth; `None` where the point is not stable, is not isolated or keeps some of its memory,
            and where the Jacobian is not finite or that of one piece of the map only.
        kreiss: Kreiss constant, likewise.
        distance: smallest change of the Jacobian that makes it unstable, likewise.
    """

    stability: Stability
    classification: Classification
    timescale: TimescaleThreshold | None
    field: PotentialAndHamiltonian
    alignment: Alignment | None
    growth: Growth | None
    kreiss: Kreiss | None
    distance: Distance | None

    def describe(self) -> str:
        """The examination as text: one line per finding, what it is about on the left."""
        report = self.stability
        boundary = report.boundary
        name, value = boundary.bound_name, boundary.bound_of(report)
        lines = [
            (str(report.verdict), f"{name} {value:.10g}, margin {report.margin:.3g} (error below {report.error:.1g})"),
            ("in the long run", f"rate {report.rate:.6g} and rotation {report.rotation:.6g} per {boundary.unit}"),
        ]
        if not boundary.discrete and np.isfinite(report.largest_step):
            lines.append(("Euler steps", f"stable below {report.largest_step:.6g}"))
        lines += [("eigenvalues", text) for text in self._eigenvalues()]
        if self.growth is not None:
            start = "" if self.growth.growth > 1 else " (none)"
            lines.append(("before that", f"growth up to {self.growth.growth:.6g}{start}, {self._when()}"))
        if self.kreiss is not None and self.distance is not None:
            lines.append(
                (
                    "robustness",
                    f"Kreiss constant {self.kreiss.constant:.6g}; a change of the Jacobian by "
                    f"{self.distance.distance:.3g} can destabilise it",
                )
            )
        lines.append(("equilibrium", self.classification.kind))
        margins = ", ".join(f"{margin:.6g}" for margin in self.classification.own_margins)
        lines.append(("own Hessians", f"smallest eigenvalues {margins}"))
        lines += [("", line) for line in self.classification.degenerate]
        for leadership in self.classification.leaderships:
            if np.isfinite(leadership.margin):
                margin = f"total curvature at least {leadership.margin:.6g}"
                lines.append((f"player {leadership.leader} leading", margin))
        if self.timescale is not None:
            texts = self.timescale.describe().splitlines()
            lines += [("two time scales" if i == 0 else "", text) for i, text in enumerate(texts)]
        lines.append(("field", f"{100 * self.field.rotation:.3g} % rotation, the rest potential"))
        width = max(len(left) for left, _ in lines)
        body = [f"{left:{width}}  {right}".rstrip() for left, right in lines]
        return "\n".join([*body, *(f"- {note}" for note in report.notes)])

    def _eigenvalues(self) -> list[str]:
        values = self.stability.eigenvalues
        lines, index = [], 0
        while index < len(values) and len(lines) < SHOWN:
            value = values[index]
            pair = index + 1 < len(values) and value.imag and np.isclose(values[index + 1], value.conj(), rtol=1e-12)
            text = f"{value.real:.8g}" + (f" +- {abs(value.imag):.8g}i" if value.imag else "")
            outward = f"modulus {abs(value):.8g}" if self.stability.boundary.discrete and value.imag else ""
            owners = ""
            if self.alignment is not None:
                shares = self.alignment.fractions[index]
                named = [f"{share:.0%} {name}" for share, name in zip(shares, self.alignment.names, strict=True)]
                owners = ", ".join(text for text, share in zip(named, shares, strict=True) if share >= 0.005)
            lines.append("; ".join(part for part in (text, outward, owners) if part))
            index += 2 if pair else 1
        if index < len(values):
            lines.append(f"... ({len(values)} in all)")
        return [*lines]

    def _when(self) -> str:
        if not np.isfinite(self.growth.time):
            return "without end"
        return self.stability.boundary.when(self.growth.time, 4)

    def to_dict(self) -> dict[str, Any]:
        """The examination as plain Python data, ready for JSON; the entries of `Stability.to_dict` at the top."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "stability"}
        return self.stability.to_dict() | {name: part and part.to_dict() for name, part in parts.items()}


def examine(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    key: PRNGKeyArray | None = None,
    gradient_noise: Any = None,
) -> Examination:
    """Spectrum and verdict of a method at an equilibrium, what kind of equilibrium it is, and what the spectrum hides.

    Args:
        game, method, at, key, gradient_noise: as for `dynamics.stability`.

    Raises:
        EquilibriumError: the point is no equilibrium, or none is known.

    >>> import dynamics as dy
    >>> game, sgd = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.optimisers.sgd(0.2)
    >>> findings = examine(game, dy.updates.Simultaneous(sgd, sgd))
    >>> print("\\n".join(findings.describe().splitlines()[:2]))
    stable            radius 0.97467943..., margin 0.0253 (error below ...)
    in the long run   rate -0.0256466 and rotation 0.09802... per step
    """
    report = stability(game, method, at, key=key, gradient_noise=gradient_noise)
    return examine_report(game, report, key=key)


def examine_report(game: Game, report: Stability, *, key: PRNGKeyArray | None = None) -> Examination:
    """The examination that belongs to a stability report."""
    at = report.players
    finite = report.smoothness != "not differentiable" and report.period == 1
    decided = report.smoothness in ("smooth", "stiff") and not report.neutral and report.period == 1
    stable = decided and report.verdict is Verdict.stable and report.order == 1 and report.margin > 0
    threshold = None
    if len(at) > 1:
        try:
            threshold = timescale_threshold(game, at=at, key=key)
        except EquilibriumError:
            threshold = None
    return Examination(
        stability=report,
        classification=classify(game, at=at, key=key),
        timescale=threshold,
        field=potential_and_hamiltonian(report),
        alignment=alignment(report) if finite else None,
        growth=transient_growth(report) if stable else None,
        kreiss=kreiss_constant(report) if stable else None,
        distance=distance_to_instability(report) if stable else None,
    )
