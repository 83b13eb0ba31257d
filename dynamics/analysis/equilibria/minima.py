"""Whether a player's own loss has a local minimum at a point, where the second derivatives alone do not tell."""

import dataclasses
import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from dynamics.game import Game, Players

MOST_FLAT = 8  # flat directions up to which the lowest loss around the point is searched for
MOST_SEARCHED = 64  # numbers of a player up to which it is
MOST_THIRD = 64  # eigenvectors along which third derivatives are taken, those of the smallest eigenvalues
MOST_SLOPE = 1e4  # third derivatives that are reckoned with, in units of the second ones
CHORD_STEPS = 16  # of the chord method that follows a bent valley
SPHERE_STEPS = 80  # of the search for the lowest point of a sphere
RADIUS = 0.5  # the largest distance that is looked at, for coordinates up to 1
WINDOW = 4  # distances in a row that have to agree


class MinimumKind(enum.StrEnum):
    """`flat`: as far as it can be told from rounding the loss is constant along some curve, and nowhere lower."""

    strict = "strict"
    flat = "flat"
    none = "none"
    undecided = "undecided"


@dataclasses.dataclass(frozen=True)
class Minimum:
    """Whether a player's own loss has a local minimum at a point, the other players held.

    Attributes:
        kind: "strict", "flat", "none", "undecided".
        margin: smallest eigenvalue of the own Hessian.
        flat_directions: number of eigenvalues that cannot be told from 0 and so do not decide.
        reason: what decided, in words: what was computed, and what is missing.
    """

    kind: MinimumKind
    margin: float
    flat_directions: int
    reason: str


def own_minimum(
    game: Game,
    players: Players,
    player: int,
    hessian: np.ndarray,
    error: float,
    residual: float,
    key: PRNGKeyArray | None,
) -> Minimum:
    r"""Whether $x_i\mapsto L_i(x)$ has a local minimum at a point where its gradient vanishes.

    Eigenvalues of $H=D_{ii}L_i$ beyond the rounding error decide, as long as $\lambda^2>4|D^3L[v,v,v]|\,|v\cdot g|$:
    otherwise the gradient g that is left there hides how far the critical point is, and with it the sign. Where one is
    negative there is no minimum. Where the others do not decide, let n be the coordinates in their eigenvectors, c the
    rest, and $h(n)=\min_cL_i(n,c)$ along the bent valley $\partial_cL_i=0$; the point is a minimum of $L_i$ just if it
    is one of h (the splitting lemma). For one n, the first of
    $h'''=L_{nnn}$ and $h''''=L_{nnnn}-3L_{nnc}L_{cc}^{-1}L_{cnn}$ beyond the rounding error decides, where the gradient
    vanishes to rounding. Otherwise the lowest value of h on spheres is computed, for radii that go down
    by $\sqrt2$: the smallest radii that stand out of the rounding in a row decide, when they agree
    on the sign and on a power of the radius.

    Args:
        game, players, player: whose loss, where.
        hessian: $D_{ii}L_i$ at the point.
        error: bound on the error of its eigenvalues.
        residual: norm of the field at the point.
        key: freezes the batch.

    Source: for the reduced function: Gromoll and Meyer, On Differentiable Functions with Isolated Critical Points,
    1969, lemma 1; for the test of the eigenvalues: Kantorovich's theorem, in one dimension.
    """
    size = len(hessian)
    if not size:
        return Minimum(MinimumKind.strict, float("inf"), 0, "second derivatives, of which there are none")
    if not np.all(np.isfinite(hessian)):
        return Minimum(MinimumKind.undecided, float("nan"), 0, "own Hessian, which is not finite")
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    margin = float(values[0])
    flat = ravel_pytree(players[player])[0]
    decided = np.abs(values) > error
    rounding = float(np.finfo(flat.dtype).eps)
    spread = error * max(1.0, float(np.max(np.abs(flat))))  # of the gradient, by the rounding of the point
    # Third derivatives need a program of their own: only where not even large ones are known to change nothing.
    scale = error / (8 * rounding)
    gradient = np.zeros(size)
    if np.any(values**2 <= MOST_SLOPE * scale * (residual + spread)):
        smallest = np.argsort(np.abs(values))[:MOST_THIRD]
        rows = vectors.T[smallest]
        gradient, third = (
            np.asarray(x, float) for x in _along(game, players, player, key, jnp.asarray(rows, flat.dtype))
        )
        left = np.abs(rows @ gradient) + spread
        decided[smallest] &= values[smallest] ** 2 > 4 * np.abs(np.einsum("ij,ij->i", third, rows)) * left
    if np.any(decided & (values < 0)):
        return Minimum(MinimumKind.none, margin, int(np.sum(~decided)), "second derivatives: a negative curvature")
    if np.all(decided):
        return Minimum(MinimumKind.strict, margin, 0, "second derivatives")
    # What is not larger than an undecided eigenvalue says no more than that one.
    decided &= np.abs(values) > 4 * np.max(np.abs(values[~decided]))
    null, rest = vectors[:, ~decided], vectors[:, decided]
    count = null.shape[1]

    def answer(kind: MinimumKind, reason: str) -> Minimum:
        return Minimum(kind, margin, count, reason)

    curvatures = values[decided]
    inverse = (rest / curvatures) @ rest.T
    condition = float(np.max(curvatures, initial=1.0) / np.min(curvatures, initial=1.0))
    arrays = [jnp.asarray(part, flat.dtype) for part in (null, inverse)]
    if count == 1 and np.linalg.norm(gradient) <= spread and abs(values[~decided][0]) <= error:
        cubic, quartic, size_of_terms = (float(x) for x in _reduced(game, players, player, key, *arrays))
        bound = 8 * error * max(1.0, size_of_terms) * condition
        if abs(cubic) > bound:
            return answer(
                MinimumKind.none,
                f"third derivative along the one flat direction, computed: {cubic:.6g} (error {bound:.1g})",
            )
        if abs(quartic) > bound:
            text = f"fourth derivative along the one flat direction, computed: {quartic:.6g} (error {bound:.1g})"
            return answer(MinimumKind.strict if quartic > 0 else MinimumKind.none, text)
    return _by_values(game, players, player, key, arrays, error, answer)


def _by_values(game, players, player, key, arrays, error, answer) -> Minimum:
    """What the lowest values of the loss at a ladder of distances say."""
    null = arrays[0]
    size, count = null.shape
    searched = count > 1
    if searched and (count > MOST_FLAT or size > MOST_SEARCHED):
        return answer(
            MinimumKind.undecided,
            f"number of flat directions, {count} of {size}: the loss along them was not searched (that is done up to "
            f"{MOST_FLAT} of {MOST_SEARCHED})",
        )
    single = null.dtype != jnp.float64
    number = (16 if single else 40) if not searched else (10 if single else 20)
    flat = ravel_pytree(players[player])[0]
    radii = RADIUS * max(1.0, float(np.max(np.abs(flat), initial=0.0))) * 2.0 ** (-np.arange(number) / 2)
    starts = _directions(count)
    steps = SPHERE_STEPS if searched else 0
    values = _ladder(game, players, player, key, *arrays, starts, jnp.asarray(radii, null.dtype), steps)
    lowest, noise = (np.asarray(part, float) for part in values)
    noise = noise + error * radii**2
    usable = np.isfinite(lowest) & np.isfinite(noise)
    clear = usable & (np.abs(lowest) > noise)
    where = (
        "loss along the flat direction, both ways"
        if count == 1
        else f"lowest loss on spheres in the {count} flat directions"
    )
    means = "computed by automatic differentiation and evaluation, not proved"
    if np.sum(usable) >= WINDOW and not np.any(clear):
        return answer(
            MinimumKind.flat,
            f"{where}: no change beyond rounding up to the distance {radii[usable][0]:.2g}; {means}",
        )
    with np.errstate(all="ignore"):
        powers = 2 * np.log2(lowest[:-1] / lowest[1:])
    for last in range(number - 1, WINDOW - 2, -1):
        window = slice(last - WINDOW + 1, last + 1)
        signs = np.sign(lowest[window])
        if not (np.all(clear[window]) and np.all(signs == signs[0])):
            continue
        within = powers[last - WINDOW + 1 : last]
        below = clear[last + 1 :] & (np.sign(lowest[last + 1 :]) != signs[0])
        if np.ptp(within) > 0.5 or np.any(below):
            continue
        text = (
            f"{where}: {'higher' if signs[0] > 0 else 'lower'} at all distances from {radii[last]:.2g} to "
            f"{radii[last - WINDOW + 1]:.2g}, like the power {np.mean(within):.3g}; {means}"
        )
        return answer(MinimumKind.strict if signs[0] > 0 else MinimumKind.none, text)
    return answer(MinimumKind.undecided, f"{where}: no power of the distance stands out of the rounding; not decided")


def _directions(count: int) -> np.ndarray:
    """Unit vectors: both ways, evenly around a circle, or both ways along the axes and at random."""
    if count == 1:
        return np.array([[1.0], [-1.0]])
    if count == 2:
        angles = 2 * np.pi * (np.arange(48) + 0.25) / 48
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = np.random.default_rng(0).normal(size=(32 + 4 * count, count))
    return np.concatenate([np.eye(count), -np.eye(count), drawn / np.linalg.norm(drawn, axis=1, keepdims=True)])


def _gradient_of(game: Game, players: Players, player: int, key: PRNGKeyArray | None):
    """The gradient of the player's own loss, as a function of the displacement of its numbers."""
    flat, unravel = ravel_pytree(players[player])

    def gradient(shift: Array) -> Array:
        moved = players[:player] + (unravel(flat + shift),) + players[player + 1 :]
        return -ravel_pytree(game.field(moved, key)[player])[0]

    return gradient, jnp.zeros_like(flat)


def _derivative(function, direction):
    """The derivative along one direction, as a function of the point."""
    return lambda point: jax.jvp(function, (point,), (direction,))[1]


@eqx.filter_jit
def _along(game, players, player: int, key, rows):
    """The gradient, and $D^3L[v,v,\\cdot]$ for every row v."""
    gradient, origin = _gradient_of(game, players, player, key)
    third = jax.vmap(lambda row: _derivative(_derivative(gradient, row), row)(origin))(rows)
    return gradient(origin), third


@eqx.filter_jit
def _reduced(game, players, player: int, key, null, inverse):
    """Third and fourth derivative of the loss along the valley, and the size of the terms they were made of."""
    gradient, origin = _gradient_of(game, players, player, key)
    direction = null[:, 0]
    second = _derivative(_derivative(gradient, direction), direction)
    third, fourth = second(origin), _derivative(second, direction)(origin) @ direction
    bend = 3 * third @ (inverse @ third)
    return third @ direction, fourth - bend, jnp.linalg.norm(third) + jnp.abs(fourth) + jnp.abs(bend)


@eqx.filter_jit
def _ladder(game, players, player: int, key, null, inverse, starts, radii, steps: int):
    """The lowest loss on every sphere in the flat directions, along the valley, and the rounding of it."""
    gradient, origin = _gradient_of(game, players, player, key)
    flat, unravel = ravel_pytree(players[player])
    epsilon, tiny = (getattr(jnp.finfo(radii.dtype), name) for name in ("eps", "tiny"))

    def loss(shift):
        return game.losses(players[:player] + (unravel(flat + shift),) + players[player + 1 :], key)[player]

    base = loss(origin)

    def valley(point):
        """The nearest point at the bottom of the valley."""
        straight = null @ point

        def closer(_, bend):
            return bend - inverse @ gradient(straight + bend)

        return straight + jax.lax.fori_loop(0, CHORD_STEPS, closer, jnp.zeros_like(straight))

    def height(point):
        return loss(valley(point)) - base

    def lowest(radius, start):
        def step(_, carry):
            direction, low, angle = carry
            down = -null.T @ gradient(valley(radius * direction))
            down = down - (down @ direction) * direction
            down = down / jnp.maximum(jnp.linalg.norm(down), tiny)
            trial = direction + angle * down
            trial = trial / jnp.linalg.norm(trial)
            reached = height(radius * trial)
            better = reached < low
            return (
                jnp.where(better, trial, direction),
                jnp.where(better, reached, low),
                jnp.where(better, 1.3, 0.5) * angle,
            )

        first = (start, height(radius * start), jnp.asarray(0.2, radius.dtype))
        direction = jax.lax.fori_loop(0, steps, step, first)[0] if steps else start
        end = valley(radius * direction)
        left = inverse @ gradient(end)
        return loss(end) - base, left @ gradient(end) + 64 * epsilon * (jnp.abs(loss(end)) + jnp.abs(base))

    heights, noises = jax.vmap(lambda r: jax.vmap(lambda start: lowest(r, start))(starts.astype(r.dtype)))(radii)
    at = jnp.argmin(heights, axis=1)  # NaN counts as lowest: such a distance is not used
    lowest_ones, noise = (jnp.take_along_axis(part, at[:, None], 1)[:, 0] for part in (heights, noises))
    # So near to the point that a flat loss does not change: what changes there is rounding within the loss.
    near = jax.vmap(lambda r: jax.vmap(lambda start: loss(null @ (r * start)) - base)(starts.astype(r.dtype)))
    jitter = jnp.max(jnp.abs(near(radii[0] * epsilon**0.4 * jnp.linspace(0.1, 1.0, 8, dtype=radii.dtype))))
    rest = jnp.linalg.norm(null.T @ gradient(origin))  # the point is no better known
    return lowest_ones, noise + 4 * jitter + 4 * rest * radii
