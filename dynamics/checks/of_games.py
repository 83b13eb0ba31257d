"""The checks of games, and what several of them need, computed once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from dynamics import _trees
from dynamics._compiling import quick_jit
from dynamics.analysis import classify
from dynamics.checks.results import Answer, Subject, in_double_precision, question
from dynamics.game import Game, Players, as_players
from dynamics.gan import GAN

GAME_CHECKS: dict[str, Callable[["OfGame"], Answer]] = {}


class OfGame(Subject):
    @in_double_precision
    def __init__(self, game: Any, players: Any):
        if not isinstance(game, Game):
            raise TypeError(f"game is {game!r}; expected a game, e.g. dynamics.Game.from_losses(...)")
        self.game, self.name = game, type(game).__name__
        known = [as_players(point, "equilibria") for point in game.equilibria()][:12]
        if players is not None:
            start = as_players(players)
        elif known:
            flat, unravel = ravel_pytree(known[0])
            start = unravel(flat + jnp.asarray(0.25 * (-0.75) ** np.arange(flat.size), flat.dtype))
        else:
            start = as_players(type(game).example()[1])
            try:
                jax.eval_shape(game.losses, start)
            except Exception as error:
                raise ValueError(
                    f"{self.name} knows no equilibrium, and the players of its class' example do not fit; "
                    "pass check_game(game, players=...)"
                ) from error
        self.players, self.known = start, known

    @functools.cached_property
    def wide(self) -> tuple[Game, Players, list[Players]]:
        return _trees.cast((self.game, self.players, self.known), jnp.float64)

    @functools.cached_property
    def looked_at(self) -> dict[str, np.ndarray]:
        """Losses, field and Jacobian at the start and the known equilibria, and along shifts from them."""
        game, start, known = self.wide
        unravel = ravel_pytree(start)[1]
        points = np.stack([np.asarray(ravel_pytree(point)[0]) for point in (start, *known)])
        directions = np.random.default_rng(0).standard_normal((2, points.shape[1]))
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
        length = float(np.finfo(float).eps ** (1 / 3)) * (1 + np.max(np.abs(points)))
        owner = np.concatenate([np.full(_trees.size(player), i) for i, player in enumerate(start)])
        moves = [directions[0] * (owner == player) for player in range(len(start))] + [directions[1]]
        shifts = np.array([sign * length * move for move in moves for sign in (1, -1)])
        shifted = points[:, None] + shifts

        def at(vector):
            players = unravel(vector)
            return jnp.stack(game.losses(players)), ravel_pytree(game.field(players))[0]

        def program(points, shifted):
            every = jnp.concatenate([points[:, None], shifted], axis=1)
            values = jax.vmap(jax.vmap(at))(every)
            slopes = jax.vmap(lambda vector: jax.jacfwd(lambda x: at(x)[1])(vector))(points)
            return *values, slopes

        losses, field, jacobian = map(np.asarray, quick_jit(program)(points, shifted))
        return dict(
            points=points,
            losses=losses,
            field=field,
            jacobian=jacobian,
            moves=np.array(moves),
            length=length,
            owner=owner,
        )


_of_game = functools.partial(question, GAME_CHECKS)


@_of_game("players")
def _players(subject: OfGame) -> Answer:
    sizes = tuple(_trees.size(player) for player in subject.players)
    shapes = [", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(player)) for player in subject.players]
    return "info", sizes, f"players of {', '.join(map(str, sizes))} numbers, in arrays of shapes {'; '.join(shapes)}"


@_of_game("losses")
def _losses(subject: OfGame) -> Answer:
    losses = jax.eval_shape(subject.game.losses, subject.players)
    shapes = tuple(tuple(loss.shape) for loss in losses)
    if len(shapes) != len(subject.players):
        return "fail", shapes, f"{len(shapes)} losses for {len(subject.players)} players; expected one per player"
    if any(shape != () for shape in shapes):
        return "fail", shapes, f"losses of shapes {shapes}; expected scalars, e.g. by a mean"
    return "pass", shapes, "one scalar loss per player"


@_of_game("finite")
def _finite_game(subject: OfGame) -> Answer:
    for name in ("losses", "field", "jacobian"):
        if not np.all(np.isfinite(subject.looked_at[name])):
            return "fail", False, f"{name}: not finite at the players looked at"
    return "pass", True, "losses, field and Jacobian are finite at the start and at the known equilibria"


@_of_game("field")
def _field_game(subject: OfGame) -> Answer:
    seen = subject.looked_at
    error, scale = 0.0, 1 + np.max(np.abs(seen["field"]))
    for player in range(len(subject.players)):
        ahead, back = (seen["losses"][:, 1 + 2 * player + side, player] for side in (0, 1))
        slope = (ahead - back) / (2 * seen["length"])
        error = max(error, float(np.max(np.abs(slope + seen["field"][:, 0] @ seen["moves"][player]))))
    return _close(error / scale, "field is minus the gradient of every player's own loss", "losses have a kink, or a")


@_of_game("Jacobian")
def _jacobian_game(subject: OfGame) -> Answer:
    seen = subject.looked_at
    ahead, back = seen["field"][:, -2], seen["field"][:, -1]
    slope = (ahead - back) / (2 * seen["length"])
    error = np.max(np.abs(slope - seen["jacobian"] @ seen["moves"][-1])) / (1 + np.max(np.abs(seen["jacobian"])))
    return _close(float(error), "Jacobian of the field has the right blocks", "field has a kink, or a")


def _close(error: float, promise: str, reason: str) -> Answer:
    if error <= 1e-5:
        return "pass", error, f"the {promise}: finite differences agree to {error:.1g}"
    return "fail", error, f"finite differences are {error:.2g} off: the {reason} derivative is wrong (stop_gradient?)"


@_of_game("equilibria")
def _equilibria_game(subject: OfGame) -> Answer:
    if not subject.known:
        return "skipped", None, "none is known"
    seen = subject.looked_at
    norms = np.linalg.norm(seen["field"][1:, 0], axis=1)
    scale = (1 + np.max(np.abs(seen["points"]))) * (1 + np.max(np.abs(seen["jacobian"])))
    worst = float(np.max(norms))
    if worst <= 1e-7 * scale:
        return "pass", worst, f"the field vanishes at all {len(norms)} known equilibria (norm at most {worst:.1g})"
    return "fail", worst, f"known equilibrium {int(np.argmax(norms))} is none: the field has norm {worst:.3g} there"


@_of_game("dtype")
def _dtype_game(subject: OfGame) -> Answer:
    for dtype in (jnp.float32, jnp.float64):
        game, players = _trees.cast((subject.game, subject.players), dtype)
        values = jax.eval_shape(lambda point, game=game: (game.losses(point), game.field(point)), players)
        wrong = {str(leaf.dtype) for leaf in jax.tree.leaves(values) if leaf.dtype != dtype}
        if wrong:
            return "fail", sorted(wrong), f"players in {jnp.dtype(dtype)} give {', '.join(sorted(wrong))}"
    return "pass", ["float32", "float64"], "losses and field follow the players' dtype"


@_of_game("float32")
def _single_game(subject: OfGame) -> Answer:
    game, players = _trees.cast((subject.game, subject.players), jnp.float32)
    field = np.asarray(ravel_pytree(game.field(players))[0], float)
    expected = subject.looked_at["field"][0, 0]
    error = float(np.max(np.abs(field - expected), initial=0) / (1 + np.max(np.abs(expected), initial=0)))
    if error <= 1e-3:
        return "pass", error, f"the field in float32 is that in float64 to {error:.1g}"
    return "fail", error, f"the field in float32 differs from that in float64 by {error:.3g} (relative)"


@_of_game("vmap")
def _vmap_game(subject: OfGame) -> Answer:
    game, players, _ = subject.wide
    gap = float(np.max(np.abs(np.asarray(ravel_pytree(game.field(players))[0]) - subject.looked_at["field"][0, 0])))
    if gap <= 1e-9 * (1 + np.max(np.abs(subject.looked_at["field"]))):
        return "pass", gap, "works compiled and vmapped, with the same field"
    return "fail", gap, f"the field under vmap differs from a single one by {gap:.3g}"


@_of_game("deterministic")
def _deterministic_game(subject: OfGame) -> Answer:
    game, players, _ = subject.wide
    two = [np.asarray(jnp.stack(jax.jit(lambda point: game.losses(point))(players))) for _ in range(2)]
    gap = float(np.max(np.abs(two[0] - two[1])))
    if gap == 0:
        return "pass", gap, "without a key two traces give the same losses"
    return "fail", gap, f"without a key the losses change by {gap:.3g} from trace to trace; draw from the key"


@_of_game("zero-sum")
def _zero_sum_game(subject: OfGame) -> Answer:
    losses = subject.looked_at["losses"]
    gap = float(np.max(np.abs(np.sum(losses, axis=-1))) / (1 + np.max(np.abs(losses))))
    is_zero_sum = gap <= 1e-12
    return (
        "info",
        is_zero_sum,
        "the losses add up to 0" if is_zero_sum else f"the losses add up to something else ({gap:.2g})",
    )


@_of_game("potential")
def _potential_game(subject: OfGame) -> Answer:
    slopes = subject.looked_at["jacobian"]
    scale = 1 + np.max(np.abs(slopes))
    transposed = np.swapaxes(slopes, 1, 2)
    symmetric = bool(np.max(np.abs(slopes - transposed)) <= 1e-9 * scale)
    skew = bool(np.max(np.abs(slopes + transposed)) <= 1e-9 * scale)
    total = np.sum(slopes**2)
    rotation = float(np.sum(((slopes - transposed) / 2) ** 2) / total) if total else 0.0
    text = "potential: the Jacobian is symmetric" if symmetric else "Hamiltonian: the Jacobian is skew" if skew else (
        f"neither potential nor Hamiltonian, {rotation:.0%} rotation"
    )  # fmt: skip
    value = {"potential": symmetric, "hamiltonian": skew, "rotation": rotation}
    return "info", value, f"{text} where it was looked at"


@_of_game("monotone")
def _monotone_game(subject: OfGame) -> Answer:
    slopes = subject.looked_at["jacobian"]
    values = [float(np.min(np.linalg.eigvalsh(-(slope + slope.T) / 2), initial=np.inf)) for slope in slopes]
    modulus = min(values) if abs(min(values)) > 1e-9 else 0.0
    words = "monotone" if modulus == 0 else "strongly monotone" if modulus > 0 else "not monotone"
    return "info", modulus, f"{words} where it was looked at (smallest modulus {modulus:.4g})"


@_of_game("realisable")
def _realisable_game(subject: OfGame) -> Answer:
    game, _, known = subject.wide
    if not isinstance(game, GAN) or not known:
        return "skipped", None, "no `GAN` with a known equilibrium"
    real, fake = game.samples(known[0])
    values, weights = [], []
    for sample in (real, fake):
        points = np.asarray(jax.vmap(lambda point: ravel_pytree(point)[0])(sample.values))
        values.append(points)
        weights.append(np.full(len(points), 1 / len(points)) if sample.weights is None else np.asarray(sample.weights))
    moments = [
        np.concatenate([[w @ f(x @ d) for d in np.eye(x.shape[1]) for f in (np.sin, np.cos, np.square)]])
        for x, w in zip(values, weights)
    ]
    gap = float(np.max(np.abs(moments[0] - moments[1])))
    agree = gap <= 1e-9
    return (
        "info",
        agree,
        "fake and real points agree there" if agree else f"moments of fake and real differ by {gap:.2g}",
    )


@_of_game("kinds of equilibria")
def _kinds_game(subject: OfGame) -> Answer:
    game, _, known = subject.wide
    if not known:
        return "skipped", None, "none is known"
    classifications = [classify(game, at=point) for point in known]
    value = [{"kind": c.kind, "flow": str(c.flow), "margin": c.flow_margin} for c in classifications]
    return "info", value, "; ".join(f"{c.kind} (flow: {c.flow})" for c in classifications)
