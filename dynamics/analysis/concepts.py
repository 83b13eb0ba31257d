"""What kind of equilibrium a point is: Nash, minimax (Stackelberg), stable, or stable but none of these."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics._plain import plain
from dynamics._printing import Described
from dynamics.analysis.equilibria.minima import Minimum, MinimumKind, own_minimum
from dynamics.analysis.equilibria.precision import as_point
from dynamics.analysis.stability.certificates import rounding_bound
from dynamics.analysis.stability.fixed_point import equilibrium_of
from dynamics.analysis.stability.notes import Verdict
from dynamics.analysis.stability.verdict import stability
from dynamics.directions import Stackelberg
from dynamics.flows import Flow
from dynamics.game import Game, Players


class Answer(enum.StrEnum):
    """Whether a strict condition holds; `undecided` is not `no`: it cannot be told from what was computed."""

    yes = "yes"
    no = "no"
    undecided = "undecided"


@dataclasses.dataclass(frozen=True)
class Leadership:
    """Second-order conditions of a two-player game with one player as the leader.

    Attributes:
        leader: number of the player that leads.
        margin: smallest eigenvalue of the symmetric part of the Jacobian of the leader's total gradient; for a zero-sum
            game of the Schur complement $D_{11}f - D_{12}f(D_{22}f)^{-1}D_{21}f$. NaN when the follower's own Hessian
            is singular.
        total_gradient: norm of the leader's total gradient; 0 at every equilibrium of a zero-sum game, and the point is
            no Stackelberg point otherwise.
        answer: whether the point is a strict local Stackelberg point; in a zero-sum game led by player 0 that is a
            strict local minimax point, led by player 1 a strict local maximin point.
    """

    leader: int
    margin: float
    total_gradient: float
    answer: Answer


@dataclasses.dataclass(frozen=True)
class Classification(Described):
    """What kind of equilibrium a point of a game is.

    Attributes:
        nash: strict local Nash: every player is at a strict local minimum of its own loss.
        own_margins: smallest eigenvalue of every player's own Hessian $D_{ii}L_i$: positive, it is at a minimum.
        minima: for every player whether it is at a local minimum of its own loss, and what decided that: the second
            derivatives, or, where they cannot be told from 0, higher ones or the loss itself; empty at a kink.
        leaderships: for two players, the conditions with each of them as the leader; empty for other numbers.
        zero_sum: the two losses add up to a constant, to second order at the point.
        flow: verdict of the gradient flow with the given rates, and its margin (minus the abscissa).
        flow_margin: see flow.
        error: bound on the rounding error of the margins of the Hessians.
        kind: the verdict in words.
        players: the point.
    """

    nash: Answer
    own_margins: tuple[float, ...]
    minima: tuple[Minimum, ...]
    leaderships: tuple[Leadership, ...]
    zero_sum: bool
    flow: Verdict
    flow_margin: float
    error: float
    kind: str
    players: Players

    @property
    def minimax(self) -> Answer:
        """Whether player 0 leads a strict local Stackelberg point; `undecided` for other than two players."""
        return self.leaderships[0].answer if self.leaderships else Answer.undecided

    @property
    def degenerate(self) -> tuple[str, ...]:
        """One line for every player whose second derivatives do not decide: what did, or what is missing."""
        said = {MinimumKind.none: "no minimum", MinimumKind.undecided: "undecided"}
        return tuple(
            f"player {player}: {said.get(minimum.kind, f'{minimum.kind} minimum')}, by the {minimum.reason}"
            for player, minimum in enumerate(self.minima)
            if not minimum.reason.startswith("second derivatives")
        )

    def describe(self) -> str:
        """The result as text."""
        margins = ", ".join(f"{margin:.6g}" for margin in self.own_margins)
        lines = [self.kind, f"strict local Nash: {self.nash} (smallest eigenvalues of the own Hessians {margins})"]
        lines += [f"  {line}" for line in self.degenerate]
        for leadership in self.leaderships:
            name = "Stackelberg" if not self.zero_sum else "minimax" if leadership.leader == 0 else "maximin"
            answer = f"{leadership.answer} (margin {leadership.margin:.6g})"
            lines.append(f"strict local {name}, player {leadership.leader} leading: {answer}")
        lines.append(f"gradient flow: {self.flow} (margin {self.flow_margin:.6g})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data, ready for JSON; what is not finite is `None`."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "players"}
        for name in ("leaderships", "minima"):
            data[name] = [dataclasses.asdict(part) for part in getattr(self, name)]
        return plain(data) | {"players": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(self.players)]}


def classify(game: Game, at: Any = None, *, rates: Any = 1.0, key: PRNGKeyArray | None = None) -> Classification:
    r"""Tell apart strict local Nash, strict local minimax (Stackelberg), and stable points that are neither.

    Nash: every player is at a strict minimum of its own loss, which $D_{ii}L_i\succ0$ shows; where a Hessian is
    singular, third and fourth derivatives decide or the losses themselves along its flat directions, and `minima` says
    which. Stackelberg with leader l and follower k: $D_{kk}L_k\succ0$, the leader's total
    gradient $D_lL_l-(D_{kl}L_k)^\top(D_{kk}L_k)^{-1}D_kL_k$ vanishes and its total derivative is positive definite; for
    a zero-sum game the Schur complement. Every Nash point of a zero-sum game is a minimax point; stable points of the
    flow may be neither, and strict ones may be unstable at some ratio of the rates: see `timescale_threshold`.

    Args:
        game: the game, any number of players.
        at: a tuple of players, an equilibrium; default the game's first known one.
        rates: of the gradient flow whose stability is told, one number or one per player.
        key: for a game that can only be sampled: the batch is frozen.

    Raises:
        EquilibriumError: the point is no equilibrium.

    Source: Jin, Netrapalli, Jordan, What is Local Optimality in Nonconvex-Nonconcave Minimax Optimization?, 2020,
    propositions 18 to 20; Fiez, Chasnov, Ratliff, Implicit Learning Dynamics in Stackelberg Games, 2020.

    >>> from dynamics.games import SpuriousAttractor
    >>> game = SpuriousAttractor()
    >>> [classify(game, at=point).kind for point in game.equilibria()[:2]]
    ['strict local Nash', 'stable for the gradient flow, but neither Nash nor minimax (spurious)']
    """
    players = equilibrium_of(game) if at is None else as_point(at, "at")
    report = stability(game, Flow(rates=as_rates(rates, len(players), "rates")), at=players, key=key)
    hessians = [-report.blocks[player][player].astype(float) for player in range(len(players))]
    dtype = report.jacobian.dtype
    whole = np.block([list(row) for row in report.blocks])
    error = float(rounding_bound(whole.astype(dtype))) if whole.size else 0.0
    margins = tuple(float(np.min(np.linalg.eigvalsh((h + h.T) / 2), initial=np.inf)) for h in hessians)
    if report.smoothness in ("kinked", "discontinuous"):  # one-sided second derivatives do not decide
        return Classification(
            nash=Answer.undecided,
            own_margins=margins,
            minima=(),
            leaderships=(),
            zero_sum=False,
            flow=report.verdict,
            flow_margin=report.margin,
            error=error,
            kind=f"undecided: the field is {report.smoothness} at the point",
            players=players,
        )
    game = _trees.cast(game, _trees.float_dtype(players))
    minima = tuple(
        own_minimum(game, players, player, hessian, error, report.residual, key)
        for player, hessian in enumerate(hessians)
    )
    nash = _all([_STRICT[minimum.kind] for minimum in minima])
    leaderships, zero_sum = (), False
    if len(players) == 2 and all(hessian.size for hessian in hessians):
        zero_sum = _is_zero_sum(game, players, key, whole, error)
        leaderships = tuple(
            _with_minima(
                _leadership(game, players, leader, margins[1 - leader], whole, error, zero_sum, key, dtype),
                nash,
                minima,
                zero_sum,
            )
            for leader in (0, 1)
        )
    return Classification(
        nash=nash,
        own_margins=margins,
        minima=minima,
        leaderships=leaderships,
        zero_sum=zero_sum,
        flow=report.verdict,
        flow_margin=report.margin,
        error=error,
        kind=_kind(nash, minima, leaderships, zero_sum, report.verdict),
        players=players,
    )


# A loss that is flat as far as rounding tells has a minimum, which may or may not be strict.
_STRICT = {
    MinimumKind.strict: Answer.yes,
    MinimumKind.flat: Answer.undecided,
    MinimumKind.none: Answer.no,
    MinimumKind.undecided: Answer.undecided,
}


def _with_minima(leadership: Leadership, nash: Answer, minima: tuple[Minimum, ...], zero_sum: bool) -> Leadership:
    """Where the second derivatives leave a leadership undecided: what the players' own minima say about it."""
    if minima[1 - leadership.leader].kind is MinimumKind.none:  # the follower does not answer so
        return dataclasses.replace(leadership, answer=Answer.no)
    if leadership.answer is Answer.undecided and zero_sum and nash is Answer.yes:
        # The follower can only add to the loss.
        return dataclasses.replace(leadership, answer=Answer.yes)
    return leadership


def _sign(margin: float, error: float) -> Answer:
    if not np.isfinite(margin) or abs(margin) <= error:
        return Answer.undecided
    return Answer.yes if margin > 0 else Answer.no


def _all(answers: list[Answer]) -> Answer:
    if Answer.no in answers:
        return Answer.no
    return Answer.undecided if Answer.undecided in answers else Answer.yes


@eqx.filter_jit
def _sum_of_losses(game: Game, players: Players, key: PRNGKeyArray | None):
    flat, unravel = ravel_pytree(players)

    def total(vector):
        return sum(game.losses(unravel(vector), key))

    return jax.grad(total)(flat), jax.hessian(total)(flat)


def _is_zero_sum(game, players, key, whole: np.ndarray, error: float) -> bool:
    gradient, hessian = _sum_of_losses(game, players, key)
    rest = max(float(np.max(np.abs(gradient), initial=0)), float(np.max(np.abs(hessian), initial=0)))
    return rest <= 8 * error


@eqx.filter_jit
def _total_gradient(game: Game, players: Players, leader: int, key: PRNGKeyArray | None):
    """The direction of Stackelberg play, and its Jacobian."""
    flat, unravel = ravel_pytree(players)
    direction = Stackelberg(leader=leader, solver="dense")

    def directions(vector):
        return ravel_pytree(direction(game, unravel(vector), key))[0]

    return directions(flat), jax.jacfwd(directions)(flat)


def _leadership(game, players, leader, follower_margin, whole, error, zero_sum, key, dtype) -> Leadership:
    sizes = [_trees.size(player) for player in players]
    of_leader = slice(0, sizes[0]) if leader == 0 else slice(sizes[0], None)
    of_follower = slice(sizes[0], None) if leader == 0 else slice(0, sizes[0])
    curvatures = np.abs(np.linalg.eigvalsh((whole[of_follower, of_follower] + whole[of_follower, of_follower].T) / 2))
    if np.min(curvatures, initial=np.inf) <= error:
        answer = Answer.no if follower_margin < -error else Answer.undecided
        return Leadership(leader, float("nan"), float("nan"), answer)
    response = -np.linalg.solve(whole[of_follower, of_follower], whole[of_follower, of_leader])
    amplified = error * (1 + np.linalg.norm(response, 2)) ** 2
    if zero_sum:
        total, gradient = -(whole[of_leader, of_leader] + whole[of_leader, of_follower] @ response), 0.0
    else:
        gradients, jacobian = map(np.asarray, _total_gradient(game, players, leader, key))
        total = -(jacobian[of_leader, of_leader] + jacobian[of_leader, of_follower] @ response)
        gradient = float(np.linalg.norm(gradients[of_leader]))
    margin = float(np.min(np.linalg.eigvalsh((total + total.T) / 2), initial=np.inf))
    answers = [_sign(follower_margin, error), _sign(margin, amplified)]
    if gradient > np.sqrt(np.finfo(dtype).eps) * np.linalg.norm(whole):
        answers.append(Answer.no)
    return Leadership(leader, margin, gradient, _all(answers))


def _kind(
    nash: Answer, minima: tuple[Minimum, ...], leaderships: tuple[Leadership, ...], zero_sum: bool, flow: Verdict
) -> str:
    minimax = leaderships[0].answer if leaderships else Answer.no
    name = "minimax" if zero_sum else "Stackelberg"
    kinds = {minimum.kind for minimum in minima}
    stable = {
        Verdict.stable: "",
        Verdict.unstable: ", unstable for the gradient flow",
        Verdict.marginal: ", marginal for the gradient flow",
        Verdict.neutral: ", neutral for the gradient flow",
    }[flow]
    if nash is Answer.yes:
        return "strict local Nash" + stable
    if nash is Answer.undecided:
        is_flat = MinimumKind.undecided not in kinds
        if minimax is Answer.yes:
            return f"strict local {name}, {'local Nash but flat' if is_flat else 'Nash undecided'}{stable}"
        if is_flat:
            return f"local Nash but flat{stable}"
        return "undecided: a Hessian is singular" + (stable or ", stable for the gradient flow")
    if minimax is Answer.yes:
        return f"strict local {name}, not Nash" + stable
    if minimax is Answer.undecided:
        return f"not Nash, {name} undecided" + (stable or ", stable for the gradient flow")
    if flow is Verdict.stable:
        return "stable for the gradient flow, but " + (
            f"neither Nash nor {name} (spurious)" if leaderships else "not Nash (spurious)"
        )
    return f"neither Nash nor {name}{stable}" if leaderships else f"not Nash{stable}"
