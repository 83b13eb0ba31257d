"""Holding a prediction against a simulation, and saying why they differ where they do."""

import dataclasses
import math

from dynamics.analysis import Stability, Verdict

AXES = 10  # how far the distance may vary along a closed orbit: the ratio of its axes
CLOSE = 1.5  # a distance that a power law predicts is met within this factor: the distance varies over a turn
CLOSE_AT_EXPONENT = 3.0  # likewise where the run shows the exponent by itself, and turns may be long ellipses
SAME_EXPONENT = 0.1  # relative
INVISIBLE = 0.01  # relative change over a whole run below which a prediction cannot be held against it


@dataclasses.dataclass(frozen=True)
class CellEvidence:
    """What is known of one cell.

    Attributes:
        stability: the prediction at the equilibrium.
        defect: how far one step moves the equilibrium; not 0 where it is no fixed point of the method.
        outcome, rate, exponent, distance, start: of the run from the study's start: outcome, rate, exponent of a power
            law, and the distances from the equilibrium of its end and its start.
        near_outcome, near_rate, near_distance, near_start: of the run that starts close to the equilibrium.
        length: steps or time of both runs.
        noisy: noise moves the players, which the prediction leaves out.
    """

    stability: Stability
    defect: float
    outcome: str
    rate: float
    exponent: float
    distance: float
    start: float
    near_outcome: str
    near_rate: float
    near_distance: float
    near_start: float
    length: float
    noisy: bool = False


def judge(evidence: CellEvidence) -> tuple[str, str]:
    """Whether prediction and simulation agree, and a sentence.

    "agrees": the run does what the verdict says, as far as it goes. "untested": nothing is predicted (the verdict is
    marginal, the method is not smooth there, noise moves the players), or the run is too short to show it.
    "explained", "unexplained": the run does something else, and there is a reason, or none is known.

    First the run from close by is held against the verdict, where the linear part must rule; then the run from the
    study's start. A difference of the second kind is explained by the first: the start is far from linear.
    """
    stability = evidence.stability
    if not evidence.defect <= 1e-6 * (1 + evidence.start):
        return (
            "untested",
            "The known equilibrium is no fixed point of this combination, so nothing is predicted there.",
        )
    if evidence.noisy:
        return _noisy(evidence)
    if stability.smoothness == "not differentiable":
        return "untested", "Not differentiable at the equilibrium: there are no eigenvalues to predict from."
    if stability.sliding is not None and stability.verdict is not Verdict.marginal:
        return _jumping(evidence)
    judged_by_pieces = stability.pieces is not None and stability.verdict is not Verdict.marginal
    if stability.smoothness != "smooth" and not judged_by_pieces:
        return _rough(evidence)
    if stability.verdict is Verdict.marginal:
        return _marginal(evidence)
    if stability.verdict is Verdict.neutral:
        return _neutral(evidence)
    if stability.order > 1:
        return _algebraic(evidence)
    if abs(stability.rate) * evidence.length < INVISIBLE:
        return "untested", (
            f"Too slow to be seen: at the predicted rate of {stability.rate:.2g} the distance changes by less than "
            f"{INVISIBLE:.0%} over the whole run."
        )
    if not _local(evidence):
        return "unexplained", (
            f"Predicted {stability.verdict} at rate {stability.rate:.4g}, but close to the equilibrium the measured "
            f"rate is {evidence.near_rate:.4g} and the run ends {evidence.near_outcome}."
        )
    along = (
        f" (to a point of the {stability.manifold_dimension}-dimensional manifold of equilibria)"
        if stability.manifold_dimension
        else ""
    )
    if stability.verdict is Verdict.stable:
        return _stable(evidence, along)
    return _unstable(evidence)


OPEN = ("undecided", "power_law")  # on its way

STOPPED = {
    "stalled": "The steps have become too small to move the players before they arrived; eigenvalues speak of steps "
    "that go on.",
    "not_a_number": "The gradient is not a number somewhere on the way, of which the eigenvalues cannot know.",
}


def _slack(evidence: CellEvidence) -> float:
    """What a measured rate can be off by: a phase of the rotation over the stretch it is measured on."""
    return 0.1 * abs(evidence.stability.rate) + 6 / evidence.length


def _local(evidence: CellEvidence) -> bool:
    """Does the run from close by do what the eigenvalues say?"""
    rate = evidence.stability.rate
    if evidence.stability.verdict is Verdict.stable:
        shrunk = evidence.near_outcome == "converged"
        # A rate of -inf (all eigenvalues 0) is over before it can be measured.
        measured = math.isfinite(evidence.near_rate) and evidence.near_rate <= rate + _slack(evidence)
        return shrunk or (measured and (evidence.near_rate < 0 or abs(rate) < 6 / evidence.length))
    grown = evidence.near_distance > 3 * evidence.near_start or evidence.near_outcome == "diverged"
    return grown or (math.isfinite(evidence.near_rate) and abs(evidence.near_rate - rate) <= _slack(evidence))


def _stable(evidence: CellEvidence, along: str) -> tuple[str, str]:
    if evidence.near_rate < evidence.stability.rate - _slack(evidence):
        along += "; the players contract faster than the whole state, whose slowest part is the memory or not excited"
    if evidence.outcome == "converged":
        if evidence.stability.manifold_dimension or evidence.distance <= 0.1 * max(evidence.start, 1e-12):
            return "agrees", f"Stable, and converges{along}."
        return "explained", "Far from linear: from this start training comes to rest at another point."
    if evidence.outcome in OPEN and evidence.rate < 0:
        return "agrees", "Stable, and contracting; it has not arrived within the steps given."
    if evidence.outcome in OPEN and evidence.distance < 0.5 * evidence.start:
        return "agrees", "Stable, and has come closer; it has not arrived within the steps given."
    if evidence.outcome in STOPPED:
        return "explained", STOPPED[evidence.outcome]
    return "explained", (
        "Far from linear: it converges from close by, but this start lies outside the basin of attraction or is still "
        "on its way."
    )


def _unstable(evidence: CellEvidence) -> tuple[str, str]:
    if evidence.outcome == "diverged":
        return "agrees", "Unstable, and diverges."
    if evidence.outcome == "cycling":
        return "agrees", "Unstable: training leaves the equilibrium and ends on a cycle around it."
    if evidence.outcome == "chaotic":
        return "agrees", "Unstable: training leaves the equilibrium for a chaotic motion."
    if evidence.outcome in STOPPED:
        return "explained", STOPPED[evidence.outcome]
    if evidence.outcome in OPEN and (evidence.rate > 0 or evidence.distance > evidence.start):
        return "agrees", "Unstable, and moving away."
    if evidence.outcome in OPEN:
        return "explained", (
            "Far from linear: close by training moves away as predicted; from this start it comes closer, to a cycle "
            "or another set that attracts from outside."
        )
    return "explained", "Far from linear: it leaves this equilibrium as predicted and comes to rest at another point."


def _marginal(evidence: CellEvidence) -> tuple[str, str]:
    what = {
        "cycling": "it cycles, as around a centre",
        "stalled": "the steps have become too small to move the players",
        "not_a_number": "the gradient is not a number somewhere on the way",
        "chaotic": "they make it chaotic",
        "converged": "they make it converge",
        "diverged": "they make it diverge",
        "power_law": "they make it shrink by a power of time",
        "undecided": "within these steps they have not decided either",
    }[evidence.outcome]
    return "untested", f"Marginal: eigenvalues on the boundary leave the decision to nonlinear terms; {what}."


def _neutral(evidence: CellEvidence) -> tuple[str, str]:
    invariant = evidence.stability.invariant
    assert invariant is not None
    what = f"Neutral ({invariant.kind})"
    near = evidence.near_distance / evidence.near_start
    if not 1 / AXES <= near <= AXES or evidence.near_outcome in ("converged", "diverged"):
        return "unexplained", (
            f"{what}, but close to the equilibrium the run ends {evidence.near_outcome}, at {near:.3g} times the "
            "distance of its start."
        )
    if evidence.outcome == "cycling":
        return "agrees", f"{what}, and cycles."
    if evidence.outcome in STOPPED:
        return "explained", STOPPED[evidence.outcome]
    if 1 / AXES <= evidence.distance / evidence.start <= AXES and evidence.outcome != "converged":
        return "agrees", f"{what}: it neither comes nor goes."
    return (
        "explained",
        f"{what} next to the equilibrium; this start is far from it, the run ends {evidence.outcome}.",
    )


def _algebraic(evidence: CellEvidence) -> tuple[str, str]:
    """A verdict by terms of higher order: from close by nothing moves, from the start a power law can be seen."""
    stability, form = evidence.stability, evidence.stability.normal_form
    assert form is not None
    what = f"{stability.verdict.capitalize()} by the terms of order {stability.order}"
    near = evidence.near_distance / evidence.near_start
    if not near <= AXES or (stability.verdict is Verdict.unstable and evidence.near_outcome == "converged"):
        return "unexplained", (
            f"{what}, but close to the equilibrium the run ends {evidence.near_outcome}, at {near:.3g} times the "
            "distance of its start."
        )
    if evidence.outcome in STOPPED:
        return "explained", STOPPED[evidence.outcome]
    coefficient = form.higher[-1].coefficient if form.higher else form.cubic[0, 0] if len(form.cubic) == 1 else math.nan
    power = max(stability.order - 1, 1)
    left = evidence.start**-power - power * coefficient * evidence.length
    expected = left ** (-1 / power) if left > 0 else math.inf
    if abs(expected / evidence.start - 1) < INVISIBLE:
        return "untested", (
            f"Too slow to be seen: {what.lower()} the distance changes by less than {INVISIBLE:.0%} over the whole run."
        )
    if stability.verdict is Verdict.unstable:
        if evidence.outcome in ("diverged", "cycling", "chaotic") or evidence.distance > evidence.start:
            return "agrees", f"{what}, and moves away."
        return "explained", f"Far from the equilibrium: {what.lower()}, but from this start it ends {evidence.outcome}."
    if evidence.outcome == "converged" and evidence.distance <= 0.1 * evidence.start:
        return "agrees", f"{what}, and converges."
    if evidence.distance < evidence.start and not math.isfinite(expected):
        return "agrees", f"{what}, and has come closer."
    law, close = "", CLOSE
    if evidence.outcome == "power_law" and stability.decay is not None:
        law = f"; its exponent should be {stability.decay.exponent:.3g}, and is {evidence.exponent:.3g}"
        if abs(evidence.exponent / stability.decay.exponent - 1) < SAME_EXPONENT:
            close = CLOSE_AT_EXPONENT
    if evidence.distance < evidence.start and abs(math.log(evidence.distance / expected)) < math.log(close):
        return "agrees", (
            f"{what}: a power law, by which the distance should be {expected:.3g} at the end, and is "
            f"{evidence.distance:.3g}{law}."
        )
    return "explained", (
        f"Far from the equilibrium: {what.lower()}, by which the distance should be {expected:.3g} at the end; it is "
        f"{evidence.distance:.3g}, and the run ends {evidence.outcome}."
    )


def _jumping(evidence: CellEvidence) -> tuple[str, str]:
    """A verdict at a jump: next to it the players move at a finite speed, whatever the distance."""
    stability = evidence.stability
    assert stability.sliding is not None
    motion = stability.sliding.motion
    what = f"{stability.verdict.capitalize()} ({'at a jump' if motion == 'jump' else f'{motion} at a jump'})"
    near = evidence.near_distance / evidence.near_start
    if stability.verdict is Verdict.unstable:
        # A map may come back into a band about the point; a run from nearby is not to end in the point itself.
        left = near > 3 or evidence.near_outcome in ("diverged", "cycling", "chaotic")
        if not left or evidence.near_outcome == "converged":
            return "unexplained", (
                f"{what}, but close to the equilibrium the run ends {evidence.near_outcome}, at {near:.3g} times the "
                "distance of its start."
            )
        if evidence.outcome == "converged":
            return "explained", f"{what}: it leaves this point as predicted and comes to rest at another one."
        return (
            "agrees",
            f"{what}: from close by it leaves to {evidence.near_distance:.3g}, and ends {evidence.outcome}.",
        )
    if not near <= AXES:
        return "unexplained", (
            f"{what}, but close to the equilibrium the run ends {evidence.near_outcome}, at {near:.3g} times the "
            "distance of its start."
        )
    if evidence.outcome == "converged" or evidence.distance < evidence.start:
        return "agrees", f"{what}: it comes closer, and ends {evidence.outcome}."
    return "explained", f"Far from the equilibrium: {what.lower()}, but from this start it ends {evidence.outcome}."


def _noisy(evidence: CellEvidence) -> tuple[str, str]:
    if evidence.stability.verdict is Verdict.stable and evidence.outcome != "diverged":
        return "agrees", "Stable without the noise, and with it the players stay near, in motion."
    if evidence.stability.verdict is Verdict.unstable and evidence.outcome == "diverged":
        return "agrees", "Unstable, and diverges."
    return "untested", f"The prediction is without the noise that moves the players; the run ends {evidence.outcome}."


def _rough(evidence: CellEvidence) -> tuple[str, str]:
    kind = {
        "discontinuous": "The field jumps at the equilibrium (discontinuous field)",
        "kinked": "There is a kink at the equilibrium",
        "stiff": "The linearisation holds in a tiny neighbourhood only",
    }[evidence.stability.smoothness]
    return "untested", f"{kind}: eigenvalues do not decide; the simulation ends {evidence.outcome}."
