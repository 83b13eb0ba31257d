"""Attack the verdicts of dynamics.stability with programs: held, kinked, scheduled, mixed and wrapped parts.

    python benchmarks/verdicts_of_programs.py --out benchmarks/results/verdicts_of_programs.json   # --quick: few games

A verdict may be marginal; it may never be wrong. Truth never comes from the library's Jacobians. Families:

* held: losses with `stop_gradient` in the open, in a scan, in a branch, and with a straight-through rule or a reversed
  gradient. Truth: eigenvalues of central difference quotients of the real step.
* kinked: quadratic potentials with other curvatures inside random cones, some of them thin, on either side of 0. The
  map is homogeneous: truth is the growth of long runs from many directions, those of the cones' axes among them.
* jumping: linear fields of two to four numbers with another matrix inside a cone that acts alike along the cone's very
  axis, and has an eigenvector beside it, within the cone. Truth: its eigenvalue, where a run along it leaves.
* points: coordinates of scales from 1e-8 to 1e8, some of which are no equilibrium. Truth: the exact equilibrium.
* mixed: players, or arithmetic on the way, in float32 beside float64, with margins of 1e-2 to 1e-12. Truth: the map in
  rational numbers.
* scheduled: rates that repeat after 1 to 6 steps. Truth: the product of the steps.
* wrapped: optimisers with injected hyper-parameters, in chains, masks and partitions, with clipping, weight decay and
  averages. Truth: the growth of a small perturbation under the real steps.
"""

import argparse
import collections
import datetime
import json
import platform
from fractions import Fraction
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import stop_gradient

import dynamics as dy
from dynamics.analysis import EquilibriumError
from dynamics.updates import Alternating, Simultaneous

QUOTIENT = 1e-5
DECIDED = 1e-6  # a truth this close to the boundary decides nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few games")
    parser.add_argument("--games", type=int, default=400, help="games per family and variant")
    parser.add_argument("--families", default=",".join(FAMILIES), help="comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = attack(options.families.split(","), 6 if options.quick else options.games, options.seed)
    print(table(rows))
    wrong = sum(row["wrong"] for row in rows)
    print(f"{sum(row['games'] for row in rows)} games, {wrong} wrong verdicts")
    if options.out:
        content = {
            "date": datetime.date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "versions": {"dynamics": dy.__version__, "jax": jax.__version__, "numpy": np.__version__},
            "seed": options.seed,
            "wrong": wrong,
            "rows": rows,
        }
        options.out.write_text(json.dumps(content, indent=1))
    raise SystemExit(bool(wrong))


def attack(families, games: int, seed: int = 0) -> list[dict]:
    """One row per family and variant: games, wrong verdicts, marginal ones, and those that nothing decides."""
    counts = collections.defaultdict(collections.Counter)
    for family in families:
        for variant, verdict, truth, what in FAMILIES[family](np.random.default_rng(seed), games):
            wrong = truth is not None and verdict in ("stable", "unstable") and verdict != truth
            row = counts[family, variant]
            row["games"] += 1
            row["wrong"] += wrong
            row["marginal"] += verdict == "marginal"
            row["refused"] += verdict == "refused"
            row["undecidable"] += truth is None
            if wrong:
                print(f"WRONG: {family}, {variant}: {verdict}, in truth {truth}: {what}")
    names = ("games", "wrong", "marginal", "refused", "undecidable")
    return [
        dict(zip(("family", "variant"), key)) | {name: row[name] for name in names}
        for key, row in sorted(counts.items())
    ]


def verdict_on(radius: float) -> str | None:
    """Stable or unstable by a radius, or nothing next to the boundary."""
    return None if not abs(radius - 1) > DECIDED else "unstable" if radius > 1 else "stable"


def ask(game, method, at=None, **options) -> str:
    try:
        return str(dy.stability(game, method, at, **options).verdict)
    except EquilibriumError:
        return "refused"


# Held -----------------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def rounded(x):
    return jnp.round(x)


rounded.defjvp(lambda primals, tangents: (rounded(*primals), tangents[0]))


@jax.custom_vjp
def turned(x):
    return x


turned.defvjp(lambda x: (x, None), lambda _, gradient: (-gradient,))


def scanned(x):
    return jax.lax.scan(lambda carry, weight: (carry + weight * stop_gradient(x), 0.0), 0 * x, jnp.array([0.3, 0.7]))[0]


def branched(x):
    return jax.lax.cond(jnp.sum(x) < 5, stop_gradient, lambda x: 2 * x, x)


HOLDING = {
    "in the open": stop_gradient,
    "in a scan": scanned,
    "in a branch": branched,
    "straight-through": lambda x: stop_gradient(x) + 0.5 * rounded(0.3 * x),
    "reversed gradient": lambda x: stop_gradient(0.5 * x) + 0.5 * turned(x),
}


class Held(dy.Game):
    """Targets, couplings and weights of which a part is held fixed; the equilibrium is 0."""

    numbers: jax.Array  # (5, 3, 3)
    holding: str = eqx.field(static=True)

    def losses(self, players, key=None):
        x, hold = jnp.concatenate([jnp.ravel(player) for player in players]), HOLDING[self.holding]
        targets, couplings, curvatures, mixed, weights = self.numbers
        own = (x - targets @ hold(x)) ** 2 / 2 + x * (couplings @ jnp.tanh(hold(x))) + x * (mixed @ x)
        own = own + jnp.diagonal(curvatures) * x**2 / 2 + x**2 * (weights @ hold(x))
        return own[0] + own[1] * 0.5, own[1] + own[2]

    def equilibria(self):
        return ((jnp.zeros(()), jnp.zeros(2)),)

    @classmethod
    def example(cls):
        return cls(jnp.ones((5, 3, 3)), "in the open"), (jnp.zeros(()), jnp.zeros(2))


@eqx.filter_jit
def quotients(game, update):
    """Central difference quotients of the real step, memory included, at the game's equilibrium."""
    state = update.init(game, game.equilibria()[0])
    floating, rest = eqx.partition(state, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(floating)

    def step(vector):
        after = update.step(game, eqx.combine(unravel(vector), rest))
        return jax.flatten_util.ravel_pytree(eqx.filter(after, eqx.is_inexact_array))[0]

    shifts = QUOTIENT * jnp.eye(flat.size)
    return (jax.vmap(step)(flat + shifts) - jax.vmap(step)(flat - shifts)).T / (2 * QUOTIENT)


def held(rng, games):
    for holding in HOLDING:
        for number in range(games):
            numbers = rng.normal(size=(5, 3, 3)) * rng.choice([0.3, 1.0])
            numbers[2] += np.eye(3) * rng.uniform(0, 2)
            game, (first, second) = Held(jnp.asarray(numbers), holding), rng.uniform(0.05, 0.5, 2)
            if number % 3 == 2:
                update = Simultaneous(dy.optimisers.momentum(first, 0.5), dy.optimisers.momentum(second, -0.3))
            else:
                kind = (Simultaneous, Alternating)[number % 3]
                update = kind(dy.optimisers.sgd(first), dy.optimisers.sgd(second))
            truth = np.abs(np.linalg.eigvals(np.asarray(quotients(game, update)))).max()
            yield holding, ask(game, update), verdict_on(truth), f"radius {truth}"


# Kinked ---------------------------------------------------------------------------------------------------------------


class Cones(dy.Game):
    """Quadratic losses, with other curvatures inside cones."""

    base: jax.Array  # (2, 2)
    forms: jax.Array  # (cones, 2, 2), symmetric
    forces: jax.Array  # (cones, 2)
    side: jax.Array  # (cones, 2): sheets of the cones, where not 0

    def losses(self, players, key=None):
        z = jnp.stack(players)
        inside = jnp.einsum("i,kij,j->k", z, self.forms, z)
        inside = jax.nn.relu(inside) * jnp.where(jnp.any(self.side != 0, axis=1), self.side @ z > 0, True)
        pulled = self.base @ z
        whole = tuple(z[i] * pulled[i] - self.base[i, i] * z[i] ** 2 / 2 for i in range(2))
        return tuple(whole[i] + self.forces[:, i] @ inside for i in range(2))

    def equilibria(self):
        return ((jnp.zeros(()), jnp.zeros(())),)

    @classmethod
    def example(cls):
        return cls(jnp.eye(2), jnp.eye(2)[None], jnp.ones((1, 2)), jnp.zeros((1, 2))), (jnp.ones(()), jnp.ones(()))


@eqx.filter_jit
def growth(game, update, starts):
    """The largest mean growth per step over the second half of long runs of a homogeneous map."""

    def run(start):
        def step(vector, _):
            after = jnp.stack(update.step(game, update.init(game, tuple(vector))).players)
            size = jnp.linalg.norm(after)
            return after / jnp.where(size > 0, size, 1), jnp.log(jnp.maximum(size, 1e-300))

        logs = jax.lax.scan(step, start / jnp.linalg.norm(start), length=1200)[1]
        return jnp.mean(logs[600:])

    return jnp.exp(jnp.max(jax.vmap(run)(starts)))


@eqx.filter_jit
def images(game, update, points):
    """Where a step takes points, shape (points, 2)."""
    return jax.vmap(lambda point: jnp.stack(update.step(game, update.init(game, tuple(point))).players))(points)


def ray_growth(game, update) -> float:
    """The largest factor per step along a ray that one or two steps take to itself: a run on it leaves.

    Runs next to it need not. Between a direction that turns left and one that turns right there is such a ray, but
    where the steps jump, at the boundary of a cone.
    """
    largest = 0.0
    for steps in (1, 2):

        def compared(angles):
            """How far a direction turns, and how much of it is left ahead."""
            directions = after = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            for _ in range(steps):  # noqa: B023
                after = np.asarray(images(game, update, jnp.asarray(after)))
            turn = directions[:, 0] * after[:, 1] - directions[:, 1] * after[:, 0]
            return turn, np.sum(directions * after, axis=1)

        angles = np.linspace(0, 2 * np.pi, 40_001)
        turn, ahead = compared(angles)
        crossings = np.flatnonzero((turn[:-1] * turn[1:] <= 0) & (ahead[:-1] > 0))
        # Next to a thin cone a factor changes quickly with the angle: the rays themselves, by bisection.
        low, high, sign = angles[crossings], angles[crossings + 1], np.sign(turn[crossings])
        for _ in range(50):
            middle = (low + high) / 2
            before = np.sign(compared(middle)[0]) == sign
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        rays = np.abs(compared(low)[0]) + np.abs(compared(high)[0]) < 1e-9
        factor = float(np.max(compared(low)[1], where=rays, initial=0))
        largest = max(largest, factor ** (1 / steps))
    return largest


def kinked(rng, games):
    for sheets in ("double cones", "single cones"):
        for _ in range(games):
            slopes = 10 ** rng.uniform(0, 2.5, 2)
            angles = rng.uniform(0, np.pi, 2)
            axes = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            across = np.stack([-axes[:, 1], axes[:, 0]], axis=1)
            forms = np.einsum("ki,kj->kij", axes, axes) - np.einsum("k,ki,kj->kij", slopes**2, across, across)
            # The curvature across a thin cone is stiff: forces that keep the step there small leave some effect along.
            forces = rng.normal(size=(2, 2)) * np.minimum(1, 8 / slopes**2)[:, None] * rng.choice([0.3, 2.0])
            side = axes if sheets == "single cones" else 0 * axes
            base = np.diag(rng.uniform(-0.1, 1.5, 2)) + rng.normal(size=(2, 2)) * 0.3
            game = Cones(*map(jnp.asarray, (base, forms, forces, side)))
            update = Simultaneous(dy.optimisers.sgd(rng.uniform(0.1, 0.4)), dy.optimisers.sgd(rng.uniform(0.1, 0.4)))
            around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            starts = np.concatenate([np.stack([np.cos(around), np.sin(around)], axis=1), axes, -axes, across, -across])
            truth = max(float(growth(game, update, jnp.asarray(starts))), ray_growth(game, update))
            yield (
                sheets,
                ask(game, update),
                verdict_on(truth),
                f"growth {truth}, slopes {slopes}, {forces.tolist()}",
            )


# Jumping --------------------------------------------------------------------------------------------------------------


class Jumping(dy.Game):
    """A linear field, with another matrix inside a cone; players are numbers."""

    form: jax.Array  # (n, n), symmetric: the cone is where it is positive
    inside: jax.Array  # (n, n)
    outside: jax.Array  # (n, n)

    def losses(self, players, key=None):
        z = jnp.stack(players)
        field = stop_gradient(jnp.where(z @ self.form @ z > 0, self.inside @ z, self.outside @ z))
        return tuple(-player * entry for player, entry in zip(players, field, strict=True))

    def equilibria(self):
        return ((jnp.zeros(()),) * len(self.form),)

    @classmethod
    def example(cls):
        return cls(jnp.diag(jnp.array([1.0, -9.0])), -jnp.eye(2), -jnp.eye(2)), (jnp.ones(()), jnp.ones(()))


def jumping_game(rng, size, growth):
    """A game whose matrix in a cone has the eigenvalue `growth` within it, and acts on the axis as outside."""
    slope = 10 ** rng.uniform(0.3, 2.5)
    turned = (
        np.linalg.qr(rng.normal(size=(size, size)))[0] if rng.random() < 0.5 else np.eye(size)[rng.permutation(size)]
    )
    form = turned @ np.diag([1.0, *(-(slope**2) * rng.uniform(0.5, 1, size - 1))]) @ turned.T
    outside = -np.diag(rng.uniform(0.5, 1.5, size)) + rng.normal(size=(size, size)) * 0.1
    across = turned[:, 1:] @ rng.normal(size=size - 1)
    across *= rng.uniform(0.1, 0.7) / slope / np.linalg.norm(across)
    vector = turned[:, 0] + across
    inside = outside + np.outer(growth * vector - outside @ vector, across) / (across @ across)
    return Jumping(*map(jnp.asarray, (form, inside, outside)))


def jumping(rng, games):
    for number in range(games):
        size, growth = 2 + number % 3, rng.uniform(-2, 3)
        game = jumping_game(rng, size, growth)
        update = Simultaneous(*[dy.optimisers.sgd(0.1)] * size)
        yield f"{size} numbers", ask(game, update), "unstable" if growth > 0 else None, f"growth {growth}"


# Points ---------------------------------------------------------------------------------------------------------------


class Scales(dy.Game):
    """A quadratic bowl in one player and a cosine in the other, coupled, each of a scale of its own."""

    scales: jax.Array
    offset: jax.Array
    coupling: jax.Array

    def losses(self, players, key=None):
        x, y = players
        first = self.scales[0] * (x - self.offset) ** 2 / 2
        second = -self.scales[1] * jnp.cos(y) + self.coupling * y * (x - self.offset)
        return first, second

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(jnp.ones(2), jnp.zeros(()), jnp.zeros(())), (jnp.ones(()), jnp.ones(()))


def points(rng, games):
    for number in range(games):
        scales, offset = 10 ** rng.uniform(-8, 8, 2), rng.choice([0.0, 1.0, 1e5])
        coupling = rng.choice([0.0, 1.0, 1e8])
        game = Scales(jnp.asarray(scales), jnp.asarray(offset), jnp.asarray(coupling))
        away = 0.0 if number % 2 else rng.choice([1e-3, 0.3, 1.5])
        verdict = ask(game, dy.flows.Flow(), (offset, away))
        # Away from the equilibrium no verdict is right, unless the field there is the rounding of its terms; at it,
        # only stable is.
        seen = scales[1] * np.sin(away) > 16 * np.finfo(float).eps * coupling * (1 + offset)
        truth = "stable" if away == 0 else "refused" if seen else None
        yield (
            ("away" if away else "at the equilibrium"),
            verdict,
            truth,
            f"{scales}, {coupling}, {away}",
        )


# Mixed precision ------------------------------------------------------------------------------------------------------


class Mixed(dy.Game):
    """Two bowls of which one is computed in float32."""

    curvatures: jax.Array
    casts: bool = eqx.field(static=True)

    def losses(self, players, key=None):
        x, y = players
        if self.casts:
            return (self.curvatures[0].astype(np.float32) * x.astype(np.float32) ** 2 / 2).astype(y.dtype), y**2 / 2
        return self.curvatures[0] * x**2 / 2, self.curvatures[1] * y**2 / 2

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(jnp.ones(2), False), (jnp.ones(()), jnp.ones(()))


def mixed(rng, games):
    rate = 0.125
    for variant, types, casts in (
        ("players", (np.float32, np.float64), False),
        ("on the way", (np.float64, np.float64), True),
        ("all", (np.float32, np.float32), False),
    ):
        for _ in range(games):
            margin = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-12, -2))
            kind = np.float64 if variant == "players" else np.float32
            curvatures = np.array([(2 - margin) / rate, 1.0]).astype(kind)
            game = Mixed(jnp.asarray(curvatures), casts)
            at = tuple(np.zeros((), one) for one in types)
            multiplier = abs(1 - Fraction(rate) * Fraction(float(curvatures[0])))
            truth = "unstable" if multiplier > 1 else "stable" if multiplier < 1 else None
            verdict = ask(game, Simultaneous(*[dy.optimisers.sgd(rate)] * 2), at)
            yield variant, verdict, truth, f"margin {float(multiplier - 1)}"


# Schedules ------------------------------------------------------------------------------------------------------------


def repeating(rates):
    return optax.sgd(lambda count: rates[count % len(rates)])


class Linear(dy.Game):
    """The field J z for a matrix J, two scalar players."""

    matrix: jax.Array

    def losses(self, players, key=None):
        pulled = self.matrix @ jnp.stack(players)
        return tuple(-z * pulled[i] + self.matrix[i, i] * z**2 / 2 for i, z in enumerate(players))

    def equilibria(self):
        return ((jnp.zeros(()), jnp.zeros(())),)

    @classmethod
    def example(cls):
        return cls(jnp.eye(2)), (jnp.ones(()), jnp.ones(()))


def field_matrix(rng):
    matrix = rng.normal(size=(2, 2)) * rng.choice([0.5, 1.5])
    return matrix - np.eye(2) * rng.uniform(0, 2)


def scheduled(rng, games):
    for period in (1, 2, 3, 6):
        for _ in range(max(1, games // 4)):
            rates, matrix = rng.uniform(0.0, 1.2, (2, period)), field_matrix(rng)
            update = Simultaneous(*(dy.Optimiser(repeating, jnp.asarray(one)) for one in rates))
            whole = np.eye(2)
            for step in range(period):
                whole = (np.eye(2) + np.diag(rates[:, step]) @ matrix) @ whole
            truth = np.abs(np.linalg.eigvals(whole)).max() ** (1 / period)
            verdict = ask(Linear(jnp.asarray(matrix)), update)
            yield f"period {period}", verdict, verdict_on(truth), f"radius {truth}, rates {rates.tolist()}"


# Wrapped optimisers ---------------------------------------------------------------------------------------------------

WRAPPED = {
    "adam injected": lambda rate: optax.inject_hyperparams(optax.adam)(rate, eps=0.3),
    "sgd injected": lambda rate: optax.inject_hyperparams(optax.sgd)(rate, momentum=0.5),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate)),
    "decayed": lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate, 0.3)),
    "averaged gradients": lambda rate: optax.chain(optax.ema(0.6, debias=False), optax.sgd(rate)),
    "partitioned": lambda rate: optax.multi_transform({"a": optax.sgd(rate, 0.4), "b": optax.sgd(rate)}, "a"),
    "masked": lambda rate: optax.chain(optax.masked(optax.trace(0.5), True), optax.scale(-rate)),
    "every second step": lambda rate: optax.MultiSteps(optax.sgd(rate), 2).gradient_transformation(),
    "adamw": lambda rate: optax.adamw(rate, eps=0.5, weight_decay=0.05),
}


@eqx.filter_jit
def perturbed(game, update, starts):
    """Growth per step of small perturbations over the last two thirds of many real steps."""

    def run(start):
        state = update.init(game, tuple(start))

        def step(state, _):
            return update.step(game, state), jnp.linalg.norm(jnp.stack(state.players))

        sizes = jax.lax.scan(step, state, length=240)[1]
        return jnp.log(jnp.max(sizes[200:]) / jnp.max(sizes[60:100])) / 140

    return jnp.exp(jnp.max(jax.vmap(run)(starts)))


def wrapped(rng, games):
    for name, factory in WRAPPED.items():
        for _ in range(max(1, games // 8)):
            game = Linear(jnp.asarray(field_matrix(rng)))
            update = Simultaneous(*(dy.Optimiser(factory, rng.uniform(0.05, 0.6)) for _ in range(2)))
            # So near that an unstable run is near at the end too; MultiSteps adds gradients up in float32.
            near = 1e-6 if name == "every second step" else 1e-100
            starts = jnp.asarray(near * np.array([[1.0, 0.3], [-0.4, 1.0]]))
            measured = float(perturbed(game, update, starts))
            # Bias corrections and beats leave their mark on a measured growth.
            truth = None if not np.isfinite(measured) or abs(measured - 1) < 3e-3 else verdict_on(measured)
            yield name, ask(game, update), truth, f"growth {measured}, {game.matrix.tolist()}"


FAMILIES = {
    "held": held,
    "kinked": kinked,
    "jumping": jumping,
    "points": points,
    "mixed": mixed,
    "scheduled": scheduled,
    "wrapped": wrapped,
}


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = ["| family | variant | games | wrong | marginal | refused | undecidable |", "|" + " --- |" * 7]
    for row in rows:
        lines.append("| " + " | ".join(str(value) for value in row.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
