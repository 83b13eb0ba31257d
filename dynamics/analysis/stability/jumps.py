"""The verdict where a field or map jumps at the point."""

import numpy as np

from dynamics._text import complex_text
from dynamics.analysis.stability.boundary import Boundary
from dynamics.analysis.stability.eigenvalues import judge_eigenvalues
from dynamics.analysis.stability.linearisation import Linearisation, function_at_rest
from dynamics.analysis.stability.notes import Note, Remark, Verdict
from dynamics.analysis.stability.problem import JudgedPoint
from dynamics.analysis.stability.report import Judgement
from dynamics.analysis.stability.sliding import Jump, NotSliding, jump_at
from dynamics.flows.base import AbstractFlow

JUMPING = 1e-6  # part of the largest velocity that moves players


def slides_at(problem: JudgedPoint, linear: Linearisation) -> bool:
    """Whether a point at which the field of a flow does not vanish is an equilibrium in Filippov's sense."""
    if not isinstance(problem.method, AbstractFlow) or not linear.switching > 0:
        return False
    where = problem.game, problem.method, problem.players, problem.key
    function, position, _ = function_at_rest(*where, rest=problem.at_rest_state())
    try:
        return jump_at(function, position, False).report.pseudo_equilibrium
    except NotSliding:
        return False


def judge_jump(
    problem: JudgedPoint, linear: Linearisation, judged: Judgement, boundary: Boundary
) -> tuple[Judgement, Jump | None]:
    """The verdict on a field or map that jumps at the point; `judged` is what the eigenvalues of one side say."""
    where = problem.game, problem.method, problem.players, problem.key
    function, position, is_player = function_at_rest(*where, gradient_noise=problem.noise, rest=problem.at_rest_state())
    try:
        jump = jump_at(function, position, boundary.discrete)
    except NotSliding as reason:
        return judged._replace(notes=(*judged.notes, Note.jump_undecided.filled(reason=reason))), None
    slid = jump.report

    def decided(verdict: Verdict, note: Remark) -> tuple[Judgement, Jump]:
        nothing = dict.fromkeys(("radius", "abscissa", "margin", "rate", "rotation", "largest_step"), float("nan"))
        return judged._replace(**nothing, verdict=verdict, proved=True, notes=(note,)), jump

    def undecided(reason: str) -> tuple[Judgement, Jump]:
        return judged._replace(notes=(*judged.notes, Note.jump_undecided.filled(reason=reason))), jump

    moved = float(np.max(np.linalg.norm(jump.velocities[:, is_player], axis=1), initial=0))
    if not moved > JUMPING * jump.largest:
        return undecided("the jump is one of the memory alone")
    if boundary.discrete:
        if slid.motion != "sliding":
            more = ", and it leads away" if slid.motion == "escaping" else ""
            return decided(Verdict.unstable, Note.jumping_map.filled(distance=moved, more=more))
        band = ", ".join(f"{width:.6g}" for width in slid.band)
        along = "by a mean of the steps on their sides"
        if slid.pseudo_equilibrium:
            values = ", ".join(complex_text(1 + value) for value in np.linalg.eigvals(slid.jacobian))
            along = f"with the multipliers {values}" if len(slid.jacobian) else "nowhere, as they meet in the point"
        return decided(Verdict.unstable, Note.chattering.filled(distance=moved, band=band, along=along))
    if slid.motion in ("escaping", "crossing"):
        speed = float(np.max(slid.normal_speeds)) if len(slid.normals) else jump.largest
        note = Note.escaping if len(slid.normals) else Note.leaving_ray
        return decided(Verdict.unstable, note.filled(speed=speed))
    if slid.motion == "jump" or slid.reason:
        return undecided(slid.reason)
    slowest = float(np.min(np.max(np.abs(slid.normal_speeds), axis=1)))
    if not len(slid.tangents):
        values = dict(eigenvalues=np.zeros(0, complex), abscissa=-np.inf, rate=-np.inf)
        result = decided(Verdict.stable, Note.reached.filled(speed=slowest))
        return result[0]._replace(**values), jump
    if not slid.pseudo_equilibrium:
        speed = float(np.linalg.norm(slid.velocity))
        if speed <= 1e-6 * jump.largest:
            return undecided(f"the velocity of the sliding motion at the point, {speed:.1g}, may be rounding")
        return decided(Verdict.unstable, Note.slides_away.filled(speed=speed))
    along = linear._replace(jacobian=slid.jacobian)
    result = judge_eigenvalues(along, boundary, slid.manifold_dimension, 0, "smooth")
    note = Note.sliding.filled(speed=slowest)
    return result._replace(smoothness=judged.smoothness, notes=(*result.notes, note), largest_step=0.0), jump
