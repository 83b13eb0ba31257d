"""The report on a point: what it holds, how it prints, and how it is made of what was judged."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dynamics._plain import plain
from dynamics._printing import Described
from dynamics._text import complex_text
from dynamics.analysis.normal_forms.invariants import Invariant
from dynamics.analysis.stability.boundary import Boundary, boundary_of
from dynamics.analysis.stability.fixed_point import norm
from dynamics.analysis.stability.higher_orders import Decay, Decision, NormalForm
from dynamics.analysis.stability.linearisation import Linearisation
from dynamics.analysis.stability.notes import Note, Remark, Verdict, has
from dynamics.analysis.stability.piecewise import Pieces
from dynamics.analysis.stability.sliding import Sliding
from dynamics.game import Players


@dataclasses.dataclass(frozen=True)
class Stability(Described):
    """Local stability of a method at a point of a game.

    Attributes:
        kind: "map" or "flow".
        eigenvalues: of the Jacobian on the whole state, complex, the outermost first (largest modulus for a map,
            largest real part for a flow).
        radius: largest modulus; for a map, without the directions along a manifold of equilibria.
        abscissa: largest real part, likewise.
        margin: `1 - radius` for a map, `-abscissa` for a flow: positive when stable.
        error: bound on the rounding error of the margin: proved where the verdict is, else of first order in the
            eigenvalues' condition numbers; infinite where the eigenvalues do not decide (at a kink, say).
        verdict: stable, unstable, neutral or marginal, see `Verdict`. The first two are given only where nothing that
            was seen contradicts them: the outermost eigenvalue is off the boundary by more than its error, and
            difference quotients of the map agree with the Jacobian; or, with an `order` other than 1, eigenvalues are
            on the boundary and what the terms of higher order do was computed. At a jump of a field the verdict is that
            of Filippov's solutions; a map that jumps at the point is unstable, see `sliding`.
        proved: whether the verdict holds for every matrix within the rounding error of the Jacobian, see
            `certificates.keeps_its_side` (a loss whose large terms cancel has larger errors than
            that), or, at a kink, for every order of the pieces. Else it rests on computed eigenvalues and their
            condition, as a note says.
        rate: log contraction per step, `log(radius)`, or per unit of time, the abscissa.
        rotation: angle per step, or per unit of time, of the outermost eigenvalue, >= 0.
        manifold_dimension: dimension of the manifold of equilibria through the point, 0 for an isolated one. Its
            directions are left out of radius, abscissa, rate and verdict.
        largest_step: for a flow, the largest step for which its Euler discretisation is stable; 0 when there is none.
            Eigenvalues along a manifold do not count. NaN for a map, and at a kink.
        pieces: at a kink, the Jacobians of the pieces and what they do together; else `None`. Then the eigenvalues are
            those of the piece that contracts least; radius (maps), abscissa (flows), rate and margin are joint bounds.
        smoothness: "smooth"; "stiff" (the Jacobian holds in a tiny neighbourhood only); or "kinked", "discontinuous",
            "inconsistent" (difference quotients disagree with the Jacobian at all distances), "not differentiable":
            then the eigenvalues do not tell the truth about the map.
        jacobian: of the map or of the flow's field, on players and memory.
        blocks: `blocks[i][j]` is the derivative of player i's field with respect to player j.
        players: the point.
        residual: norm of the game's field there.
        notes: what a reader should know, one sentence each.
        neutral: number of eigenvalues that decide nothing and are left out: along a manifold of equilibria, and of
            memory that stays where it is put.
        period: number of steps after which the method repeats: 1 for one that comes to rest, 0 for one that does
            neither, where the verdict is marginal and all numbers but eigenvalues are NaN (the eigenvalues are those at
            one of its states and decide nothing). Above 1 (a schedule that goes round, one step with every k-th
            gradient) eigenvalues, abscissa and Jacobian are those of a whole period; radius, margin, rate and rotation
            are per step: the radius is that of the period's Jacobian to the power of 1/period. Memory that moves by
            itself (counters, hyper-parameters kept in the state) has no place in the Jacobian: nothing acts on it.
        order: of the terms that decide: 1 where eigenvalues do (or nothing does), 2 or 3 where terms of that order do,
            0 where a conserved quantity does. With an order other than 1 margin, error and rate are those of the linear
            part, which do not decide.
        normal_form: the motion on the centre manifold, where eigenvalues are on the boundary and it was computed.
        decay: the algebraic law by which the distance goes to 0, where terms of third order make the point attract.
        invariant: what is conserved, where the verdict is neutral.
        sliding: what the field or map does next to a point at which it jumps. Where it slides, eigenvalues, abscissa
            and rate are those of the sliding field along the surfaces of the switches; else they decide nothing.
    """

    kind: str
    eigenvalues: np.ndarray
    radius: float
    abscissa: float
    margin: float
    error: float
    verdict: Verdict
    rate: float
    rotation: float
    manifold_dimension: int
    largest_step: float
    smoothness: str
    jacobian: np.ndarray
    blocks: tuple[tuple[np.ndarray, ...], ...]
    players: Players
    residual: float
    notes: tuple[str, ...]
    pieces: Pieces | None = None
    neutral: int = 0
    proved: bool = False
    period: int = 1
    order: int = 1
    normal_form: NormalForm | None = None
    decay: Decay | None = None
    invariant: Invariant | None = None
    sliding: Sliding | None = None

    @property
    def boundary(self) -> Boundary:
        """The curve that decides: the unit circle for a map, the imaginary axis for a flow."""
        return boundary_of(self.kind)

    def describe(self) -> str:
        """The report as text."""
        boundary = self.boundary
        bound = "below" if self.proved else "about"
        error = f"error {bound} {self.error:.1g}" if np.isfinite(self.error) else "which does not decide"
        extent = f"{boundary.bound_name} {boundary.bound_of(self):.10g}"
        lines = [
            f"{self.verdict}: {extent}, margin {self.margin:.3g} ({error})",
            f"rate {self.rate:.6g} and rotation {self.rotation:.6g} per {boundary.unit}",
        ]
        if self.sliding is not None:
            lines = [f"{self.verdict}: the {self.kind} jumps at the point", *self.sliding.describe().splitlines()]
        if not boundary.discrete and np.isfinite(self.largest_step):
            lines.append(f"largest stable Euler step {self.largest_step:.6g}")
        if self.period > 1:
            lines.append(f"repeats after {self.period} steps, of which the eigenvalues are together:")
        if self.decay is not None:
            lines.append(self.decay.describe(boundary.unit))
        shown = ", ".join(complex_text(value) for value in self.eigenvalues[:8])
        more = f", ... ({len(self.eigenvalues)} in all)" if len(self.eigenvalues) > 8 else ""
        return "\n".join([*lines, f"eigenvalues {shown}{more}", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        beyond = ("normal_form", "decay", "invariant")
        skip = {"players", "blocks", "jacobian", "eigenvalues", "notes", "verdict", "pieces", "sliding", *beyond}
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skip}
        data = {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in data.items()}
        return {
            "verdict": str(self.verdict),
            **data,
            "eigenvalues": [_numbers(np.array([v.real, v.imag])) for v in self.eigenvalues],
            "jacobian": _numbers(self.jacobian),
            "blocks": [[_numbers(block) for block in row] for row in self.blocks],
            "players": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(self.players)],
            "notes": [str(note) for note in self.notes],
            "pieces": None if self.pieces is None else plain(dataclasses.asdict(self.pieces)),
            "sliding": None if self.sliding is None else self.sliding.to_dict(),
            **{name: _parts(getattr(self, name)) for name in beyond},
        }


def fades(report: Stability) -> bool:
    """Whether weights in the memory of the method fade like one over the number of steps."""
    return has(report.notes, Note.fading)


class Judgement(NamedTuple):
    """What eigenvalues or pieces say of a map or flow; the names are those of `Stability`."""

    eigenvalues: np.ndarray
    radius: float = float("nan")
    abscissa: float = float("nan")
    margin: float = float("nan")
    error: float = float("inf")
    verdict: Verdict = Verdict.marginal
    rate: float = float("nan")
    rotation: float = float("nan")
    largest_step: float = float("nan")
    smoothness: str = "smooth"
    neutral: int = 0
    proved: bool = False
    pieces: Pieces | None = None
    notes: tuple[Remark, ...] = ()

    def per_step(self, steps: int) -> dict[str, float]:
        """The numbers of one step, where the map is so many."""
        radius, whole = self.radius ** (1 / steps), max(self.radius, self.error)
        error = whole ** (1 / steps) / whole * self.error / steps if 0 < whole < np.inf else self.error
        rates = dict(rate=self.rate / steps, rotation=self.rotation / steps)
        return dict(radius=radius, margin=1 - radius, error=float(error), **rates)


def report_of(
    linear: Linearisation,
    boundary: Boundary,
    dimension: int,
    sizes: list[int],
    players: Players,
    judged: Judgement,
    notes: Sequence[str],
    period: int = 1,
) -> Stability:
    game_jacobian, edges = np.asarray(linear.game_jacobian), np.cumsum([0, *sizes])
    parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    numbers: dict[str, Any] = (
        judged._asdict() | (judged.per_step(period) if period > 1 else {}) | dict(notes=tuple(notes))
    )
    return Stability(
        kind=boundary.kind,
        jacobian=np.asarray(linear.jacobian),
        blocks=tuple(tuple(game_jacobian[row, column] for column in parts) for row in parts),
        players=players,
        residual=norm(linear.residual),
        manifold_dimension=dimension,
        period=period,
        **numbers,
    )


def with_higher_orders(report: Stability, decision: Decision | None) -> Stability:
    """The report with what higher orders say."""
    if decision is None:
        return report
    notes = [
        note
        for note in report.notes
        if decision.verdict is Verdict.marginal or getattr(note, "note", None) is not Note.marginal
    ]
    return dataclasses.replace(
        report,
        verdict=decision.verdict,
        order=decision.order,
        manifold_dimension=report.manifold_dimension + decision.manifold,
        notes=(*notes, *decision.notes),
        normal_form=decision.normal_form,
        decay=decision.decay,
        invariant=decision.invariant,
    )


def _parts(result: Any) -> Any:
    return None if result is None else plain(dataclasses.asdict(result))


def _numbers(array: np.ndarray) -> list:
    return plain(np.asarray(array))
