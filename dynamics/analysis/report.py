"""Local stability from the eigenvalues of the Jacobian of the exact map or flow."""

import dataclasses
import enum
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.linalg
from jaxtyping import PRNGKeyArray

from dynamics import _trees
from dynamics._checks import as_rates
from dynamics.analysis._plain import plain
from dynamics.analysis.certificates import keeps_its_side, rounding_bound, without_neutral
from dynamics.analysis.equilibria import EquilibriumError, _short, manifold_dimension
from dynamics.analysis.linearisation import (
    Linearisation,
    is_finite,
    is_smooth,
    linearise,
    moved_memory,
    one_sided_jacobians,
    player_coordinates,
    without_limit,
)
from dynamics.analysis.piecewise import (
    Pieces,
    distinct,
    expanding_directions,
    joint_bounds,
    sample_directions,
)
from dynamics.analysis.rest import COUNTER_LIMIT, rest_state
from dynamics.flows.base import AbstractFlow
from dynamics.game import Game, Players, as_players
from dynamics.updates.base import Update

FAINT = 1e3  # kinks below so many rounding errors may be rounding after all


class Verdict(enum.StrEnum):
    """Whether training stays near the point; `marginal`: the linear part does not decide."""

    stable = "stable"
    unstable = "unstable"
    marginal = "marginal"


@dataclasses.dataclass(frozen=True)
class Stability:
    """Local stability of a method at a point of a game.

    Attributes:
        kind: "map" or "flow".
        eigenvalues: of the Jacobian on the whole state, complex, the outermost first (largest modulus for a map,
            largest real part for a flow).
        radius: largest modulus; for a map, without the directions along a manifold of equilibria.
        abscissa: largest real part, likewise.
        margin: `1 - radius` for a map, `-abscissa` for a flow: positive when stable.
        error: bound on the rounding error of the margin.
        verdict: stable, unstable or marginal; the first two hold for every matrix within the rounding error of the
            Jacobian, see `dynamics.analysis.certificates.keeps_its_side` (a loss whose large terms cancel has larger
            errors than that). At a jump the verdict is marginal.
        rate: log contraction per step, `log(radius)`, or per unit of time, the abscissa.
        rotation: angle per step, or per unit of time, of the outermost eigenvalue, >= 0.
        manifold_dimension: dimension of the manifold of equilibria through the point, 0 for an isolated one. Its
            directions are left out of radius, abscissa, rate and verdict.
        largest_step: for a flow, the largest step for which its Euler discretisation is stable; 0 when there is none.
            Eigenvalues along a manifold do not count. NaN for a map, and at a kink.
        pieces: at a kink, the Jacobians of the pieces and what they do together; else `None`. Then the eigenvalues are
            those of the piece that contracts least; radius (maps), abscissa (flows), rate and margin are joint bounds.
        smoothness: "smooth"; or "kinked", "discontinuous", "stiff" (the Jacobian holds in a tiny neighbourhood only),
            "not differentiable": then the eigenvalues do not tell the truth about the map.
        jacobian: of the map or of the flow's field, on players and memory.
        blocks: `blocks[i][j]` is the derivative of player i's field with respect to player j.
        players: the point.
        residual: norm of the game's field there.
        notes: what a reader should know, one sentence each.
        neutral: number of eigenvalues that decide nothing and are left out: along a manifold of equilibria, and of
            memory that stays where it is put.
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

    def describe(self) -> str:
        """The report as text."""
        name, value = ("radius", self.radius) if self.kind == "map" else ("abscissa", self.abscissa)
        unit = "step" if self.kind == "map" else "unit of time"
        lines = [
            f"{self.verdict}: {name} {value:.10g}, margin {self.margin:.3g} (error below {self.error:.1g})",
            f"rate {self.rate:.6g} and rotation {self.rotation:.6g} per {unit}",
        ]
        if self.kind == "flow" and np.isfinite(self.largest_step):
            lines.append(f"largest stable Euler step {self.largest_step:.6g}")
        shown = ", ".join(_complex(value) for value in self.eigenvalues[:8])
        more = f", ... ({len(self.eigenvalues)} in all)" if len(self.eigenvalues) > 8 else ""
        return "\n".join([*lines, f"eigenvalues {shown}{more}", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON; complex numbers are pairs, what is not finite is `None`."""
        skip = {"players", "blocks", "jacobian", "eigenvalues", "notes", "verdict", "pieces"}
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skip}
        data = {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in data.items()}
        return {
            "verdict": str(self.verdict),
            **data,
            "eigenvalues": [_numbers(np.array([v.real, v.imag])) for v in self.eigenvalues],
            "jacobian": _numbers(self.jacobian),
            "blocks": [[_numbers(block) for block in row] for row in self.blocks],
            "players": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(self.players)],
            "notes": list(self.notes),
            "pieces": None if self.pieces is None else plain(dataclasses.asdict(self.pieces)),
        }


def stability(
    game: Game,
    method: Update | AbstractFlow,
    at: Any = None,
    *,
    key: PRNGKeyArray | None = None,
    require_equilibrium: bool = True,
    gradient_noise: Any = None,
) -> Stability:
    """The spectrum of the Jacobian of the exact map that is iterated, or of the flow, and what follows from it.

    The Jacobian is taken by automatic differentiation through the whole state: alternation, inner steps, extrapolation
    and optimiser memory included. Step counters are held at their limit, the memory is at rest.

    Args:
        game: the game.
        method: an update or a flow.
        at: a tuple of players; default the game's first known equilibrium.
        key: for a game that can only be sampled: the batch is frozen.
        require_equilibrium: raise at a point that is no equilibrium of the game, or no fixed point of the method.
        gradient_noise: standard deviation s of the noise of every gradient's coordinates, one number or one per player:
            the memory rests where noise of +s and -s keeps it on average, and the map is its mean over the two. It
            matters for Adam and its relatives, whose step is about learning rate / (s + eps) then; without noise the
            memory of squared gradients vanishes at an equilibrium and the step is learning rate / eps.

    Raises:
        EquilibriumError: the point is no equilibrium (the message shows the residual), or none is known.
        TypeError: the method is no update and no flow.

    >>> import optax
    >>> from dynamics.games import Bilinear
    >>> from dynamics.updates import Simultaneous
    >>> report = stability(Bilinear(1.0), Simultaneous(optax.sgd(0.1), optax.sgd(0.1)))
    >>> str(report.verdict), round(report.radius, 8)  # sqrt(1 + h^2)
    ('unstable', 1.00498756)
    """
    if not isinstance(method, (Update, AbstractFlow)):
        raise TypeError(f"method is {method!r}; expected an update (dynamics.updates) or a flow (dynamics.flows)")
    players = equilibrium_of(game) if at is None else as_players(at, "at")
    _check_precision(players)
    noise = None if gradient_noise is None else as_rates(gradient_noise, len(players), "gradient_noise")
    if noise is not None and isinstance(method, AbstractFlow):
        raise ValueError("gradient_noise is for updates; a flow has no gradient noise in its memory")
    linear = jax.device_get(_linearise(game, method, players, key, gradient_noise=noise, limit=False))
    return stability_of(linear, game, method, players, key, noise, require_equilibrium)


def stability_of(
    linear: Linearisation,
    game: Game,
    method: Update | AbstractFlow,
    players: Players,
    key: PRNGKeyArray | None = None,
    noise: tuple[jax.Array, ...] | None = None,
    require_equilibrium: bool = False,
) -> Stability:
    """The report of a linearisation that was made with `limit=False`; arguments as in `stability`."""
    vanishing = not is_finite(linear.jacobian)
    if vanishing:
        linear = jax.device_get(_linearise(game, method, players, key, gradient_noise=noise))
        if without_limit(linear.jacobian):
            linear = linear._replace(jacobian=np.full_like(linear.jacobian, np.nan))
    if require_equilibrium:
        # Under noise the mean map rests only up to terms of second order in the rates.
        _check_equilibrium(linear, players, isinstance(method, Update), still=noise is None)
    dimension = 0
    at_rest = linear.residual <= _tolerance(linear.game_jacobian, players)
    if at_rest:  # through any other point there is no manifold of equilibria
        game = _trees.cast(game, _trees.float_dtype(players))
        dimension = manifold_dimension(game, players, linear.game_jacobian, key)
    sizes = [_trees.size(player) for player in players]
    kept = _kept_memory(game, method, players, key, noise, linear) if isinstance(method, Update) else 0
    report = assess(linear, "map" if isinstance(method, Update) else "flow", dimension, sizes, players, kept)
    if report.smoothness == "kinked" and not report.neutral and not vanishing:
        judged = _judge_pieces(game, method, players, key, report)
        if judged.pieces is not None and len(judged.pieces.jacobians) == 1 and np.max(linear.kinks) < FAINT:
            # One Jacobian in all directions: the probes saw the rounding of what the map solves inside.
            linear = linear._replace(kinks=0 * linear.kinks, errors=0 * linear.errors)
            report = assess(linear, report.kind, dimension, sizes, players, kept)
        else:
            report = judged
    if _fades(method, game, players, report):
        report = dataclasses.replace(report, notes=(*report.notes, _NOTES["fading"]))
    if not at_rest:
        moving = _NOTES["no equilibrium"].format(residual=report.residual)
        report = dataclasses.replace(report, notes=(*report.notes, moving))
    if vanishing and report.smoothness != "not differentiable":
        # Beyond gradients as small as eps the map is nearly a sign: not a kink or a jump at the point itself.
        rough = report.smoothness in ("kinked", "discontinuous")
        notes = [_NOTES["stiff"] if rough and note == _NOTES[report.smoothness] else note for note in report.notes]
        smoothness = "stiff" if rough else report.smoothness
        return dataclasses.replace(report, smoothness=smoothness, notes=(*notes, _NOTES["vanishing memory"]))
    return report


_linearise = eqx.filter_jit(linearise)


def equilibrium_of(game: Game) -> Players:
    """The game's first known equilibrium, as players.

    Raises:
        EquilibriumError: none is known.
    """
    known = game.equilibria()
    if not known:
        raise EquilibriumError(
            f"{type(game).__name__} knows none of its equilibria; pass at=players, for example "
            "at=find_equilibrium(game, start).players"
        )
    return as_players(known[0], "equilibria")


def _tolerance(jacobian: np.ndarray, players: Players) -> float:
    """The largest norm of a field with this Jacobian that passes for 0: a small move of the players makes up for it."""
    size = 1 + max((float(np.max(np.abs(leaf), initial=0)) for leaf in jax.tree.leaves(players)), default=0.0)
    scale = float(np.linalg.norm(jacobian.astype(float))) if np.all(np.isfinite(jacobian)) else 1.0
    return float(np.finfo(jacobian.dtype).eps) ** 0.5 * size * scale


def _check_equilibrium(linear: Linearisation, players: Players, is_map: bool, still: bool) -> None:
    tolerance = _tolerance(linear.game_jacobian, players)
    if not linear.residual <= tolerance:
        raise EquilibriumError(
            f"{_short(players)} is no equilibrium: the field has norm {float(linear.residual):.3g} there, more than "
            f"{tolerance:.1g}. Use find_equilibrium(game, start).players, or require_equilibrium=False to linearise "
            "anyway."
        )
    change = linear.jacobian - np.eye(len(linear.jacobian), dtype=linear.jacobian.dtype) if is_map else linear.jacobian
    if still and not linear.defect <= max(_tolerance(change, players), tolerance):
        raise EquilibriumError(
            f"{_short(players)} is an equilibrium of the game but no fixed point of the method: one step moves the "
            f"state by {float(linear.defect):.3g}. Use require_equilibrium=False to linearise anyway."
        )


def _kept_memory(game, update, players, key, noise, linear: Linearisation) -> int:
    """Number of directions in which the memory stays where it is put, without an effect on the players' rest."""
    jacobian, count = np.asarray(linear.jacobian), len(linear.game_jacobian)
    if len(jacobian) == count or not is_finite(jacobian):
        return 0
    _, singular, rows = np.linalg.svd((jacobian - np.eye(len(jacobian)))[:, count:])
    null = rows[singular <= rounding_bound(jacobian)]
    if not len(null):
        return 0
    null = null * np.where(null.sum(axis=1) < 0, -1, 1)[:, None]  # upwards: squares and maxima are not negative
    directions = np.pad(null, ((0, 0), (count, 0))).astype(jacobian.dtype)
    defects = np.asarray(moved_memory(game, update, players, key, noise, directions))
    return int(np.sum(defects <= np.finfo(jacobian.dtype).eps ** 0.5))


def _check_precision(players: Players) -> None:
    dtype = np.dtype(_trees.float_dtype(players))
    if dtype not in (np.float32, np.float64):
        raise TypeError(
            f"the players have dtype {dtype}; eigenvalues need float32 or float64. Convert them, for example with "
            "jax.tree.map(lambda leaf: leaf.astype(float), players)."
        )


def _fades(method: Update | AbstractFlow, game: Game, players: Players, report: Stability) -> bool:
    """Whether an eigenvalue is that of a weight one over the number of steps, held at its limit."""
    memory = eqx.filter_eval_shape(method.init, game, players).memory
    counts = any(np.issubdtype(leaf.dtype, np.integer) for leaf in jax.tree.leaves(memory))
    return counts and bool(np.any(np.abs(report.eigenvalues - (1 - 1 / COUNTER_LIMIT)) < 1e-3 / COUNTER_LIMIT))


def _judge_pieces(game, method, players, key, report: Stability) -> Stability:
    """The verdict of a piecewise smooth map or flow, from the Jacobians of all its pieces."""
    state = jax.device_get(_rest_state(game, method, players, key))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))])
    still = ~player_coordinates(state) & (flat == 0)
    nearby = sample_directions(len(flat), still, report.jacobian.dtype)
    jacobians = distinct(np.asarray(one_sided_jacobians(game, method, players, key, nearby)), report.kind)
    if len(jacobians) == 0:
        return report
    expanding = expanding_directions(jacobians, report.kind)[: len(nearby)]
    invariant = False
    if expanding:
        rays = np.resize([ray for _, ray in expanding], nearby.shape).astype(nearby.dtype)  # the shape compiled before
        along = np.asarray(one_sided_jacobians(game, method, players, key, rays))[: len(expanding)]
        invariant = any(
            len(distinct(np.stack([jacobians[number], found]), report.kind)) == 1
            for (number, _), found in zip(expanding, along, strict=True)
        )
    lower, upper = joint_bounds(jacobians, report.kind)
    pieces = Pieces(jacobians, lower, upper, invariant)
    neutral = 1.0 if report.kind == "map" else 0.0
    error = float(max(rounding_bound(jacobian) for jacobian in jacobians))
    if invariant:
        verdict, worst = Verdict.unstable, lower
    else:
        verdict, worst = (Verdict.stable if upper + error < neutral else Verdict.marginal), upper
    notes = [note for note in report.notes if note not in (_NOTES["marginal"], _NOTES["kinked"])]
    notes.append(_NOTES["pieces"].format(count=len(jacobians), lower=lower, upper=upper) + _NOTES[f"pieces {verdict}"])
    # The eigenvalues shown are those of the piece that contracts least.
    spectra = [np.linalg.eigvals(jacobian.astype(float)).astype(complex) for jacobian in jacobians]
    outward = [np.abs(values) if report.kind == "map" else values.real for values in spectra]
    slowest = int(np.argmax([values.max() for values in outward]))
    values = spectra[slowest][np.argsort(-outward[slowest], kind="stable")]
    is_map = report.kind == "map"
    return dataclasses.replace(
        report,
        eigenvalues=values,
        radius=worst if is_map else float(np.abs(values).max()),
        abscissa=float(values.real.max()) if is_map else worst,
        rate=float(np.log(max(worst, 1e-300))) if is_map else worst,
        rotation=float(abs(np.angle(values[0])) if is_map else abs(values[0].imag)),
        largest_step=float("nan"),
        verdict=verdict,
        margin=neutral - worst,
        error=error,
        pieces=pieces,
        notes=tuple(notes),
    )


_rest_state = eqx.filter_jit(rest_state)


def assess(
    linear: Linearisation, kind: str, dimension: int, sizes: list[int], players: Players, kept: int = 0
) -> Stability:
    """Eigenvalues, verdict and notes of a linearisation; on the host, in NumPy.

    `dimension` and `kept` count the neutral directions that decide nothing: along a manifold of equilibria, and of
    memory that stays where it is put.
    """
    jacobian = np.asarray(linear.jacobian)
    smoothness = is_smooth(linear)
    edges = np.cumsum([0, *sizes])
    blocks = tuple(
        tuple(np.asarray(linear.game_jacobian)[a:b, c:d] for c, d in zip(edges, edges[1:], strict=False))
        for a, b in zip(edges, edges[1:], strict=False)
    )
    common = dict(
        kind=kind,
        jacobian=jacobian,
        blocks=blocks,
        players=players,
        residual=float(linear.residual),
        smoothness=smoothness,
        manifold_dimension=dimension,
        neutral=0,
    )
    if smoothness == "not differentiable":
        nan = float("nan")
        return Stability(
            eigenvalues=np.full(len(jacobian), complex(nan, nan)),
            **dict.fromkeys(("radius", "abscissa", "margin", "rate", "rotation", "largest_step"), nan),
            error=float("inf"),
            verdict=Verdict.marginal,
            notes=(_NOTES["not differentiable"],),
            **common,
        )
    values, errors = eigenvalues_with_errors(jacobian)
    neutral = 1.0 if kind == "map" else 0.0
    outward = np.abs(values) if kind == "map" else values.real
    order = np.argsort(-outward, kind="stable")
    values, errors, outward = values[order], errors[order], outward[order]
    # The neutral directions: the eigenvalues nearest to 1 (maps) or 0 (flows), as far as rounding explains the rest: a
    # method need not rest wherever the game's field vanishes.
    nearest = np.argsort(np.abs(values - neutral), kind="stable")
    free = int(np.sum(np.abs(values - neutral)[nearest[: dimension + kept]] <= errors[nearest[: dimension + kept]]))
    rest = np.sort(nearest[free:])
    radius = float(np.max(np.abs(values[rest]), initial=0.0))
    abscissa = float(np.max(values[rest].real, initial=-np.inf))
    margin = 1 - radius if kind == "map" else -abscissa
    # A verdict is a proof: no matrix within the rounding error has an eigenvalue on the boundary, or, when unstable, on
    # a curve outside it that leaves eigenvalues beyond.
    remaining, amplification = without_neutral(jacobian.astype(float), neutral, free)
    perturbation = amplification * rounding_bound(jacobian)
    proved = keeps_its_side(remaining, perturbation, kind)
    if not proved and margin < 0:
        beyond = np.sort(outward[rest][outward[rest] > neutral])
        curves = (beyond + np.concatenate([[neutral], beyond[:-1]])) / 2
        curve = float(curves[np.argmax(np.diff(beyond, prepend=neutral))])
        proved = (
            keeps_its_side(remaining / curve, perturbation / curve, kind)
            if kind == "map"
            else keeps_its_side(remaining - curve * np.eye(len(remaining)), perturbation, kind)
        )
    # At a kink or a jump the eigenvalues are those of one side.
    proved = proved and smoothness not in ("kinked", "discontinuous")
    verdict = Verdict.marginal if not proved else Verdict.stable if margin > 0 else Verdict.unstable
    # Every eigenvalue is moved by its own error; the margin by the largest of those that can become outermost.
    upper = np.max(outward[rest] + errors[rest], initial=-np.inf)
    lower = np.max(outward[rest] - errors[rest], initial=-np.inf)
    error = float(max(upper - (neutral - margin), (neutral - margin) - lower)) if len(rest) else 0.0
    if proved:
        error = min(error, abs(margin))
    notes = []
    common["neutral"] = free
    if dimension:
        notes.append(_NOTES["manifold"].format(dimension=dimension))
    if kept:
        notes.append(_NOTES["kept memory"].format(kept=kept))
    if free < dimension + kept:
        notes.append(_NOTES["not at rest"])
    if verdict is Verdict.marginal and smoothness in ("smooth", "stiff"):
        notes.append(_NOTES["marginal"])
    if smoothness != "smooth":
        notes.append(_NOTES[smoothness])
    with np.errstate(divide="ignore"):
        rate = float(np.log(radius)) if kind == "map" else abscissa
    leading = values[rest[0]] if len(rest) else neutral
    rotation = abs(np.angle(leading)) if kind == "map" else abs(leading.imag)
    return Stability(
        eigenvalues=values,
        radius=radius,
        abscissa=abscissa,
        margin=float(margin),
        error=error,
        verdict=verdict,
        rate=rate,
        rotation=float(rotation),
        largest_step=largest_euler_step(values[rest]) if kind == "flow" else float("nan"),
        notes=tuple(notes),
        **common,
    )


def eigenvalues_with_errors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Eigenvalues with first-order bounds on their rounding errors, $\kappa_i\,\|\Delta\|$.

    $\kappa_i = 1/|y_i^* x_i|$ is the eigenvalue's condition number and $\|\Delta\|$ a bound on the error of a matrix
    that was computed in its dtype; an eigenvalue of an exact Jordan block of size m gets $\|\Delta\|^{1/m}$, with m at
    most n. Source: Golub and Van Loan, Matrix Computations, section 7.2.2.
    """
    size = len(matrix)
    if size == 0:
        return np.zeros(0, complex), np.zeros(0)
    values, left, right = scipy.linalg.eig(matrix.astype(float), left=True, right=True)
    perturbation = rounding_bound(matrix)
    overlap = np.abs(np.sum(left.conj() * right, axis=0))
    with np.errstate(divide="ignore"):
        errors = perturbation / overlap
    norm = np.linalg.norm(matrix)
    defective = norm * (perturbation / max(norm, 1e-300)) ** (1 / size)
    return values, np.minimum(errors, max(defective, perturbation))


def largest_euler_step(values: np.ndarray) -> float:
    r"""The largest h with $1 + h\lambda$ in the unit disk for all eigenvalues: $\min 2|Re\lambda|/|\lambda|^2$.

    0 when an eigenvalue has a real part >= 0. Source: Mescheder, Nowozin, Geiger, The Numerics of GANs, 2017, lemma 4.

    >>> round(float(largest_euler_step(np.array([-0.5 + 1j, -0.5 - 1j]))), 12)
    0.8
    """
    if not len(values):
        return float("inf")
    if np.any(values.real >= 0):
        return 0.0
    return float(np.min(-2 * values.real / np.abs(values) ** 2))


def _numbers(array: np.ndarray) -> list:
    return np.where(np.isfinite(array), array, None).tolist()


def _complex(value: complex) -> str:
    if abs(value.imag) < 1e-14 * (1 + abs(value)):
        return f"{value.real:.6g}"
    return f"{value.real:.6g}{value.imag:+.6g}i"


_NOTES = {
    "manifold": "The point lies on a manifold of equilibria of dimension {dimension}: the neutral directions along it "
    "do not count, and stable means that training ends somewhere on it.",
    "kept memory": "The memory stays where it is put in {kept} directions (a running maximum does); they do not count.",
    "not at rest": "The method does not rest along the whole manifold of the game's equilibria: the directions count.",
    "no equilibrium": "The point is no equilibrium of the game: its field has norm {residual:.3g} there.",
    "fading": "Eigenvalues next to 1 belong to weights that fade like one over the number of steps: what they average "
    "settles as slowly, at no geometric rate.",
    "marginal": "The outermost eigenvalue cannot be told from the stability boundary: the linear part does not decide, "
    "nonlinear terms do.",
    "kinked": "One-sided derivatives differ at the point (a kink): the eigenvalues hold on one side only and do not "
    "decide.",
    "pieces": "The map has a kink at the point: {count} pieces with Jacobians of their own were found. Whatever their "
    "order, the joint rate lies between {lower:.6g} and {upper:.6g}",
    "pieces stable": "; all of them contract in one common norm, and the point is stable.",
    "pieces unstable": "; one of them expands along a direction within itself, and the point is unstable.",
    "pieces marginal": "; they do not all contract in one norm that was found, and none expands along a direction of "
    "its own: the pieces do not decide.",
    "discontinuous": "The field jumps at the point: there is no linearisation, the eigenvalues describe a neighbour of "
    "the map only and do not decide; a cycle around the point is to be expected.",
    "stiff": "Difference quotients disagree with the Jacobian: it holds in a tiny neighbourhood only. Losses that bend "
    "on a tiny scale do this, and Adam or RMSProp with a small eps at a zero gradient.",
    "vanishing memory": "At the equilibrium the optimiser's memory of squared gradients vanishes, and the Jacobian is "
    "taken in that limit: there the step is learning rate / eps. Where that makes the point unstable, a larger eps "
    "or a smaller rate makes it stable; gradient_noise=... shows the spectrum that minibatch noise leads to.",
    "not differentiable": "The Jacobian is not finite: the map is not differentiable at the point. Adam with eps=0 and "
    "eps_root=0 does this where the gradient vanishes; pass a positive eps.",
}
