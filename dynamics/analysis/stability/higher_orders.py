"""What becomes of a point on whose stability the linear part does not decide."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array

from dynamics.analysis.normal_forms.amplitudes import attracts
from dynamics.analysis.normal_forms.coefficients import Coefficients, coefficients_of
from dynamics.analysis.normal_forms.expansion import Expansion, NotDecided, Task, expanded
from dynamics.analysis.normal_forms.higher import Term, terms_of
from dynamics.analysis.normal_forms.invariants import Invariant, area_preserved, invariant_of
from dynamics.analysis.normal_forms.spectrum import Spectrum, spectrum_of
from dynamics.analysis.stability.boundary import Boundary
from dynamics.analysis.stability.kinked_orders import averaged_over_kinks
from dynamics.analysis.stability.notes import Note, Remark, Verdict
from dynamics.compiler.many_digits import DIGITS, exact

UNSEEN = 1e-8  # a coefficient is 0 if it is below this share of what rounding in double precision leaves of it


@dataclasses.dataclass(frozen=True)
class NormalForm:
    r"""The motion on the centre manifold, to third order: $\dot r_k=r_k\sum_ja_{kj}r_j^2$, or per step for a map.

    $r_k$ is the distance of the players from the point that belongs to the k-th critical eigenvalue (of each pair one):
    its root mean square over a turn, where that is complex.

    Attributes:
        eigenvalues: on the boundary, one of each pair, shape (m,).
        cubic: $a_{kj}$, shape (m, m).
        rotations: third-order terms of the angle, $\dot\varphi_k=\omega_k+\sum_jb_{kj}r_j^2$, shape (m, m).
        errors: bounds on the errors of `cubic`.
        quadratic: a of $\dot x=ax^2$ at a single real eigenvalue (0 or 1), else 0.
        quadratic_error: bound on its error.
        within: distance from the point within which the linear part, known to some error only, could outweigh the
            terms that decide; NaN where none do.
        higher: where the third order of a single pair vanishes, the terms of orders 3, 5, ... up to the first that does
            not; else empty.
    """

    eigenvalues: np.ndarray
    cubic: np.ndarray
    rotations: np.ndarray
    errors: np.ndarray
    quadratic: float
    quadratic_error: float
    within: float
    higher: tuple[Term, ...] = ()


@dataclasses.dataclass(frozen=True)
class Decay:
    r"""An algebraic law: the distance of the players goes to 0 like $ct^{-p}$, with t in steps or units of time.

    Attributes:
        exponent: p.
        constant: c, for the root mean square over a turn; NaN where several pairs share the decay.

    >>> Decay(0.5, 8**0.5).at(200.0)  # the non-saturating Dirac-GAN
    0.2
    """

    exponent: float
    constant: float

    def at(self, time: float) -> float:
        """The distance after a long time."""
        return self.constant * time**-self.exponent

    def describe(self, unit: str) -> str:
        """The law in words."""
        constant = "" if math.isnan(self.constant) else f"{self.constant:.6g} "
        units = "units of time" if unit == "unit of time" else f"{unit}s"
        return f"algebraic decay: the distance goes to 0 like {constant}t^-{self.exponent:.6g}, t in {units}"


class Decision(NamedTuple):
    """What higher orders say; the names are those of `Stability`."""

    verdict: Verdict
    order: int
    notes: tuple[Remark, ...]
    normal_form: NormalForm | None = None
    decay: Decay | None = None
    invariant: Invariant | None = None
    manifold: int = 0  # dimension of a manifold of equilibria that rounding has hidden


def beyond_linear(
    function: Callable[[Array], Array],
    position: Array,
    is_player: np.ndarray,
    boundary: Boundary,
    neutral: int = 0,
    steps: int = 1,
    sides: Sequence[np.ndarray] = (),
) -> Task[Decision]:
    """The verdict on a smooth map or field at a point where double precision sees eigenvalues on the boundary.

    In this order: eigenvalues in many digits, a conserved quantity, the normal form. What decides nothing gives
    `marginal` and a reason.

    Args:
        function: the map or field on vectors, smooth at the point.
        position: the point.
        is_player: which of its coordinates are players.
        boundary: the unit circle for a map, the imaginary axis for a field.
        neutral: number of directions along a manifold of equilibria, or of memory that stays where it is put.
        steps: of the method in one of the map: decays are per step.
        sides: directions that lead to the sides of switches between smooth pieces of the program, where some are at the
            point: what decides is held against values along these as well.
    """
    try:
        expansion = yield from expanded(function, position, boundary.discrete)
    except NotDecided as reason:
        return _undecided(str(reason))
    invariant = yield from _conserved(expansion, boundary, neutral)
    if invariant is not None:
        change = dict(what=invariant.describe(), change=invariant.change)
        if _is_curve(expansion, boundary, neutral):
            return Decision(Verdict.stable, 1, (Note.hidden_manifold.filled(digits=DIGITS, **change),), manifold=1)
        return Decision(Verdict.neutral, 0, (Note.conserved.filled(**change),), invariant=invariant)
    if neutral:
        return _undecided("there are directions along which nothing moves, and no conserved quantity was found")
    try:
        spectrum = spectrum_of(expansion, is_player)
    except NotDecided as reason:
        return _undecided(str(reason))
    try:
        yield from expansion.confirm([*_directions(expansion, spectrum), *map(exact, sides)])
    except NotDecided as reason:
        if not sides or boundary.discrete:
            return _undecided(str(reason))
        return (yield from _at_kink(function, position, is_player, boundary, steps))
    if spectrum.inside > 0 or not spectrum.critical:
        verdict = Verdict.unstable if spectrum.inside > 0 else Verdict.stable
        note = Note.many_digits.filled(digits=DIGITS, distance=abs(spectrum.inside), verdict=verdict)
        return Decision(verdict, 1, (note,))
    try:
        coefficients = yield from coefficients_of(expansion, spectrum.critical)
    except NotDecided as reason:
        return _undecided(str(reason), spectrum=spectrum)
    decision = _by_coefficients(coefficients, spectrum, boundary, steps)
    if decision.verdict is Verdict.marginal and not spectrum.beyond and len(spectrum.critical) == 2:
        decision = yield from _by_higher_terms(decision, expansion, coefficients, spectrum, boundary, steps)
    if not spectrum.beyond:
        return decision
    if decision.verdict is Verdict.marginal:
        return decision._replace(notes=(*decision.notes, _rounded(spectrum)))
    linear = Verdict.unstable if spectrum.beyond > 0 else Verdict.stable
    if decision.verdict is linear:
        return decision
    opposed = Note.opposed.filled(distance=abs(spectrum.beyond), linear=linear, nonlinear=decision.verdict)
    return Decision(Verdict.marginal, 1, (opposed,), decision.normal_form)


def _at_kink(
    function: Callable[[Array], Array], position: Array, is_player: np.ndarray, boundary: Boundary, steps: int
) -> Task[Decision]:
    """The verdict where pieces meet that differ in terms of third order alone."""
    try:
        averaged = yield from averaged_over_kinks(function, position, is_player)
    except NotDecided as reason:
        return _undecided(str(reason))
    spectrum = averaged.spectrum
    decision = _by_coefficients(averaged.coefficients, spectrum, boundary, steps)
    if decision.verdict is Verdict.marginal or not spectrum.beyond:
        return decision
    if decision.verdict is (Verdict.unstable if spectrum.beyond > 0 else Verdict.stable):
        return decision
    return _undecided(_rounded(spectrum), decision.normal_form)


def _undecided(reason: str, normal_form: NormalForm | None = None, spectrum: Spectrum | None = None) -> Decision:
    notes = [Note.not_decided.filled(reason=reason)]
    if spectrum is not None and spectrum.beyond:
        notes.append(_rounded(spectrum))
    return Decision(Verdict.marginal, 1, tuple(notes), normal_form)


def _rounded(spectrum: Spectrum) -> Remark:
    side = "outside" if spectrum.beyond > 0 else "inside"
    return Note.rounded.filled(digits=DIGITS, distance=abs(spectrum.beyond), side=side)


def _directions(expansion: Expansion, spectrum: Spectrum) -> list[np.ndarray]:
    """Real and imaginary parts of the critical vectors, and of their sums."""
    parts = []
    for mode in spectrum.critical:
        parts.append(np.array([expansion.context.re(number) for number in mode.right], object))
        if isinstance(mode.value, expansion.context.mpc):
            parts.append(np.array([expansion.context.im(number) for number in mode.right], object))
    return parts


def _near_boundary(expansion: Expansion, boundary: Boundary) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Eigenvalues, their vectors, which of them are next to the boundary, and within what distance."""
    jacobian = np.array(expansion.jacobian, float)
    values, vectors = np.linalg.eig(jacobian)
    within = 1e-6 * max(1.0, float(np.linalg.norm(jacobian)))
    return values, vectors, np.abs(boundary.distance(values)) <= within, within


def _is_curve(expansion: Expansion, boundary: Boundary, neutral: int) -> bool:
    """Whether a conserved quantity leaves a curve of equilibria.

    It does where one direction is on the boundary, and players along it do not change sides from step to step: the
    centre manifold is a curve, along which the quantity grows on both sides, and nothing can move.
    """
    values, _, near, within = _near_boundary(expansion, boundary)
    return int(np.sum(near)) == neutral + 1 and bool(np.all(np.abs(values[near] - boundary.neutral) <= within))


def _conserved(expansion: Expansion, boundary: Boundary, neutral: int) -> Task[Invariant | None]:
    values, vectors, near, _ = _near_boundary(expansion, boundary)
    if np.any(boundary.distance(values)[~near] > 0) or np.sum(near) <= neutral:
        return None
    both = np.concatenate([np.real(vectors[:, near]), np.imag(vectors[:, near])], axis=1)
    left, singular, _ = np.linalg.svd(both)
    if len(singular) < np.sum(near) or singular[np.sum(near) - 1] < 1e-6 * singular[0]:
        return None  # a Jordan block
    return (yield from invariant_of(expansion, left[:, : np.sum(near)]))


def _by_higher_terms(
    decision: Decision,
    expansion: Expansion,
    coefficients: Coefficients,
    spectrum: Spectrum,
    boundary: Boundary,
    steps: int,
) -> Task[Decision]:
    """Of a single pair whose third order vanishes: an area that is kept, or the first order that does not."""
    form = decision.normal_form
    assert form is not None
    pair = spectrum.critical[0]
    if coefficients.coupling or not isinstance(pair.value, expansion.context.mpc):
        return decision
    area = (yield from area_preserved(expansion)) if expansion.size == 2 else None
    twists = abs(form.rotations[0, 0]) > max(1e-9, float(form.errors[0, 0]))
    if area is not None and (twists or not boundary.discrete):
        note = Note.conserved.filled(what=area.describe(), change=area.change)
        return Decision(Verdict.neutral, 0, (note,), form, invariant=area)
    try:
        terms = yield from terms_of(expansion, pair)
    except NotDecided as reason:
        return _undecided(f"the third-order coefficient vanishes, and beyond it there is a {reason}", form)
    opposed = _opposed_term(terms)
    terms = [Term(term.order, term.coefficient / steps, term.error / steps) for term in terms]
    last, form = terms[-1], dataclasses.replace(form, higher=tuple(terms))
    if abs(last.coefficient) <= last.error:
        return _undecided(f"the coefficients of all orders up to {last.order} are within their bounds of 0", form)
    if opposed is not None:
        return _undecided(
            f"the coefficient {last.coefficient:.3g} of order {last.order} and what rounding of the game's numbers "
            f"leaves of that of order {opposed.order}, {opposed.coefficient:.1g}, have opposite signs",
            form,
        )
    form = dataclasses.replace(form, within=(spectrum.error / abs(last.coefficient)) ** (1 / (last.order - 1)))
    equation = f"r' = {last.coefficient:.6g} r^{last.order}"
    note = Note.higher_order.filled(
        order=last.order, equation=equation, unit=boundary.unit, within=form.within, digits=DIGITS
    )
    if last.coefficient > 0:
        return Decision(Verdict.unstable, last.order, (note,), form)
    power = 1 / (last.order - 1)
    return Decision(
        Verdict.stable, last.order, (note,), form, Decay(power, (-(last.order - 1) * last.coefficient) ** -power)
    )


def _opposed_term(terms: list[Term]) -> Term | None:
    """A term below the last one that is not 0, however small, and has another sign."""
    last = terms[-1].coefficient
    return next(
        (term for term in terms[:-1] if abs(term.coefficient) > UNSEEN * term.error and term.coefficient * last < 0),
        None,
    )


def _by_coefficients(coefficients: Coefficients, spectrum: Spectrum, boundary: Boundary, steps: int) -> Decision:
    cubic, errors = coefficients.cubic / steps, coefficients.errors / steps
    form = NormalForm(
        eigenvalues=coefficients.values,
        cubic=cubic,
        rotations=coefficients.rotations / steps,
        errors=errors,
        quadratic=coefficients.quadratic / steps,
        quadratic_error=coefficients.quadratic_error,
        within=math.nan,
    )
    if abs(coefficients.quadratic) > coefficients.quadratic_error > 0:
        within = spectrum.error / abs(coefficients.quadratic)
        form = dataclasses.replace(form, within=within)
        note = Note.second_order.filled(coefficient=form.quadratic, within=within, unit=boundary.unit, digits=DIGITS)
        return Decision(Verdict.unstable, 2, (note,), form)
    single = len(cubic) == 1
    if coefficients.quadratic and not cubic[0, 0] > errors[0, 0]:
        return _undecided(
            f"the coefficient of second order, {coefficients.quadratic:.1g}, is what rounding of the game's numbers "
            f"leaves of it, and opposes that of third order, {cubic[0, 0]:.3g}",
            form,
        )
    if single:
        a, error = float(cubic[0, 0]), float(errors[0, 0]) + coefficients.coupling / steps
        answer = None if abs(a) <= error else a < 0
        if answer is None:
            reason = f"the third-order coefficient {a:.3g} is within its bound of {error:.1g}, and higher orders decide"
            if coefficients.coupling:
                added = coefficients.coupling / steps
                reason = f"a resonance 1:4 adds a term of {added:.3g} to the third-order coefficient {a:.3g}"
            return _undecided(reason, form)
    else:
        answer = attracts(cubic, errors)
        if answer is None:
            reason = f"the third-order coefficients of {len(cubic)} amplitudes show neither that all fall nor a way out"
            return _undecided(reason, form)
    smallest = float(np.min(np.abs(np.diag(cubic))[np.abs(np.diag(cubic)) > 0], initial=math.inf))
    form = dataclasses.replace(form, within=math.sqrt(spectrum.error / smallest) if smallest < math.inf else math.nan)
    equation = (
        f"r' = {cubic[0, 0]:.6g} r^3"
        if single
        else f"r_k' = r_k sum_j a_kj r_j^2 with a = {np.array2string(cubic, precision=4, separator=', ')}".replace(
            "\n", ""
        )
    )
    note = Note.higher_order.filled(order=3, equation=equation, unit=boundary.unit, within=form.within, digits=DIGITS)
    decay = None
    if answer:
        constant = 1 / math.sqrt(-2 * float(cubic[0, 0])) if single and not coefficients.coupling else math.nan
        decay = Decay(0.5, constant)
    return Decision(Verdict.stable if answer else Verdict.unstable, 3, (note,), form, decay)
