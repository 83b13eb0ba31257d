"""Plant known errors in the methods, and count which of them the claims catch.

    python benchmarks/mutations.py --out benchmarks/results/mutations.json   # some minutes

An error replaces a piece of a function's source: a wrong sign, a swapped player, a missing transpose, a stale gradient,
a factor of one half. It is caught when a claim that runs through the function no longer gets the verdict it announces.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib
import inspect
import json
import platform
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

import dynamics as dy
from dynamics import claims
from dynamics.claims.base import Claim

SIGN, PLAYER, TRANSPOSE, STALE, HALF = (
    "wrong sign",
    "swapped player",
    "missing transpose",
    "stale gradient",
    "factor one half",
)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """An error to plant.

    Attributes:
        where: the function, as "module:name" or "module:Class.name", within the package.
        kind: of error.
        old: a piece of the function's source, which occurs once.
        new: what takes its place.
    """

    where: str
    kind: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.where.removeprefix('dynamics.')} ({self.kind}: {self.old.strip()} -> {self.new.strip()})"

    def owner(self) -> tuple[Any, str]:
        """The module or class that holds the function, and its name."""
        module, _, path = self.where.partition(":")
        holder: Any = importlib.import_module(f"dynamics.{module}")
        *classes, name = path.split(".")
        for cls in classes:
            holder = getattr(holder, cls)
        return holder, name

    def changed(self) -> Any:
        """The function with the error."""
        holder, name = self.owner()
        function = inspect.unwrap(vars(holder)[name])
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.where} holds {self.old!r} {source.count(self.old)} times; expected once")
        namespace = sys.modules[function.__module__].__dict__
        local: dict[str, Any] = {}
        exec(compile(source.replace(self.old, self.new), f"<mutant of {self.where}>", "exec"), namespace, local)
        return local[name]


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The library with the error, wherever the function has been imported to."""
    holder, name = mutant.owner()
    good, bad = vars(holder)[name], mutant.changed()
    if isinstance(holder, type):
        places = [holder]
    else:
        places = [m for n, m in list(sys.modules.items()) if n.startswith("dynamics") and vars(m).get(name) is good]
    try:
        for place in places:
            setattr(place, name, bad)
        _forget()
        yield
    finally:
        for place in places:
            setattr(place, name, good)
        _forget()


def _forget() -> None:
    """Drop what was compiled from other functions."""
    eqx.clear_caches()
    jax.clear_caches()


MUTANTS = (
    # Game and updates
    Mutant("game:_field", SIGN, "jax.tree.map(jnp.negative, gradient(player))", "gradient(player)"),
    Mutant(
        "game:_field",
        HALF,
        "jax.tree.map(jnp.negative, gradient(player))",
        "jax.tree.map(lambda g: -g / 2, gradient(player))",
    ),
    Mutant("game:ZeroSum.losses", SIGN, "value, -value", "value, value"),
    Mutant(
        "game:_field",
        PLAYER,
        '.losses")[player]',
        '.losses")[len(players) - 1 - player]',
    ),
    Mutant(
        "updates.base:alternating_step",
        STALE,
        "aim = direction(game, players, own_key)[player]",
        "aim = direction(game, state.players, own_key)[player]",
    ),
    Mutant(
        "updates.base:alternating_step",
        PLAYER,
        "enumerate(sub_steps(order, repeats))",
        "enumerate(sub_steps(order[::-1], repeats))",
    ),
    Mutant("updates.base:sub_steps", PLAYER, "range(repeats[player])", "range(repeats[-1 - player])"),
    Mutant("updates.base:Steppers.advance", SIGN, "jax.tree.map(jnp.negative, direction)", "direction"),
    Mutant(
        "updates.base:Steppers.advance",
        HALF,
        "jax.tree.map(jnp.negative, direction)",
        "jax.tree.map(lambda leaf: -leaf / 2, direction)",
    ),
    Mutant(
        "updates.base:Steppers.advance", PLAYER, "game.losses(players, key)[player]", "game.losses(players, key)[0]"
    ),
    Mutant(
        "updates.base:moved",
        HALF,
        "_trees.add_scaled(parameters, rate, direction)",
        "_trees.add_scaled(parameters, rate / 2, direction)",
    ),
    Mutant(
        "updates.extragradient:_AtExtrapolatedPoint.__call__",
        STALE,
        "self.direction(game, ahead, move)",
        "self.direction(game, players, move)",
    ),
    Mutant(
        "updates.extragradient:_AtExtrapolatedPoint.__call__",
        SIGN,
        "moved(players, self.rates, directions)",
        "moved(players, tuple(-r for r in self.rates), directions)",
    ),
    Mutant(
        "updates.past_extrapolation:PastExtrapolation.step",
        STALE,
        "_Memory(after.memory, directions, started)",
        "_Memory(after.memory, last, started)",
    ),
    Mutant(
        "updates.past_extrapolation:PastExtrapolation.step",
        HALF,
        "moved(players, self.extrapolation, last)",
        "moved(players, tuple(e / 2 for e in self.extrapolation), last)",
    ),
    Mutant(
        "updates.proximal_point:ProximalPoint.step",
        SIGN,
        "end - shift(end, given) - flat",
        "end + shift(end, given) - flat",
    ),
    Mutant(
        "updates.lookahead:Lookahead.threaded_step",
        HALF,
        "slow + self.weight * (new - slow)",
        "slow + self.weight / 2 * (new - slow)",
    ),
    Mutant("updates.lookahead:Lookahead.threaded_step", STALE, "jnp.arange(self.steps)", "jnp.arange(self.steps - 1)"),
    Mutant(
        "updates.averaged:Averaged.threaded_step",
        HALF,
        "mean + weight * (new - mean)",
        "mean + weight / 2 * (new - mean)",
    ),
    Mutant(
        "updates.runge_kutta:explicit_step",
        STALE,
        "direction(game, after(row, slopes), key)",
        "direction(game, players, key)",
    ),
    Mutant(
        "updates.ode_gan:ODEGAN.step",
        PLAYER,
        "game.field(replaced(old, self.discriminator, parameters), key)[self.generator]",
        "game.field(replaced(old, self.discriminator, parameters), key)[self.discriminator]",
    ),
    Mutant("updates.ode_gan:ODEGAN.step", HALF, "_trees.dot(gradient, gradient)", "_trees.dot(gradient, gradient) / 2"),
    Mutant(
        "updates.scheduled:Scheduled.threaded_step",
        STALE,
        "_Memory(new.memory, memory.count + 1)",
        "_Memory(new.memory, memory.count)",
    ),
    Mutant("updates.scheduled:Scheduled._times", HALF, "product = node * factor", "product = node * factor / 2"),
    Mutant("updates.scheduled:Scheduled._times", SIGN, "product = node * factor", "product = -node * factor"),
    Mutant("updates.fictitious_play:_best", SIGN, "jnp.argmax(values)", "jnp.argmin(values)"),
    # Optimisers and schedules
    Mutant("optimisers:_optimistic", HALF, "beta=strength", "beta=strength / 2"),
    Mutant("optimisers:momentum", SIGN, "momentum=momentum", "momentum=-momentum"),
    Mutant(
        "schedules:gap_multiplier",
        PLAYER,
        "jnp.log(maximum) * excess + jnp.log(minimum) * deficit",
        "jnp.log(minimum) * excess + jnp.log(maximum) * deficit",
    ),
    Mutant(
        "schedules:gap_multiplier",
        HALF,
        "0.1 * jnp.abs(ideal_loss) if width_above",
        "0.05 * jnp.abs(ideal_loss) if width_above",
    ),
    Mutant("schedules:gap_aware", STALE, "gap_multiplier(average,", "gap_multiplier(state.average_loss,"),
    # Directions
    Mutant("directions.consensus:Consensus.__call__", SIGN, "-self.weight", "self.weight"),
    Mutant("directions.consensus:Consensus.__call__", HALF, "-self.weight", "-self.weight / 2"),
    Mutant(
        "directions.consensus:Consensus.__call__",
        TRANSPOSE,
        "(gradient,) = pullback(field)",
        "gradient = jax.jvp(lambda point: game.field(point, key), (players,), (field,))[1]",
    ),
    Mutant("directions.symplectic_adjustment:SymplecticAdjustment.__call__", TRANSPOSE, "(a - b) / 2", "(b - a) / 2"),
    Mutant("directions.symplectic_adjustment:SymplecticAdjustment.__call__", HALF, "(a - b) / 2", "(a - b)"),
    Mutant(
        "directions.symplectic_adjustment:SymplecticAdjustment.__call__",
        SIGN,
        "jnp.sign(alignment + self.epsilon)",
        "-jnp.sign(alignment + self.epsilon)",
    ),
    Mutant(
        "directions.competitive_gradient:CompetitiveGradient.__call__",
        SIGN,
        "_trees.add_scaled(first, -second_root, upper(moves[1]))",
        "_trees.add_scaled(first, second_root, upper(moves[1]))",
    ),
    Mutant(
        "directions.competitive_gradient:CompetitiveGradient.__call__",
        PLAYER,
        "_trees.scaled(first_root, first), _trees.scaled(second_root, second)",
        "_trees.scaled(second_root, first), _trees.scaled(first_root, second)",
    ),
    Mutant(
        "directions.opponent_shaping:_shaping",
        SIGN,
        "_trees.add_scaled(xi, -weight, ahead)",
        "_trees.add_scaled(xi, weight, ahead)",
    ),
    Mutant(
        "directions.opponent_shaping:_shaping",
        TRANSPOSE,
        "transposed(_blocks.without(gradients[player], player))",
        "hessian(_blocks.without(gradients[player], player))",
    ),
    Mutant(
        "directions.opponent_shaping:_shaping", HALF, "_trees.scaled(-weight, chi)", "_trees.scaled(-weight / 2, chi)"
    ),
    Mutant("directions.opponent_shaping:SOS.__call__", SIGN, "against = alignment < 0", "against = alignment > 0"),
    Mutant(
        "directions.stackelberg:Stackelberg.__call__",
        SIGN,
        "_trees.add_scaled(field[leader], 1, mixed(response))",
        "_trees.add_scaled(field[leader], -1, mixed(response))",
    ),
    Mutant(
        "directions.stackelberg:Stackelberg.__call__",
        PLAYER,
        "_blocks.loss_gradient(game, players, leader, key)[follower]",
        "_blocks.loss_gradient(game, players, follower, key)[follower]",
    ),
    Mutant("directions.follow_the_ridge:FollowTheRidge.__call__", SIGN, "-self.ratio", "self.ratio"),
    Mutant(
        "directions.local_symplectic_surgery:LocalSymplecticSurgery.__call__",
        SIGN,
        "(value + adjustment) / 2",
        "(value - adjustment) / 2",
    ),
    Mutant(
        "directions.local_symplectic_surgery:LocalSymplecticSurgery.__call__",
        HALF,
        "(value + adjustment) / 2",
        "value + adjustment",
    ),
    Mutant("directions.crossing_the_curl:CrossingTheCurl.__call__", TRANSPOSE, "(b - a) / 2", "(a - b) / 2"),
    Mutant("directions.crossing_the_curl:CrossingTheCurl.__call__", HALF, "(b - a) / 2", "(b - a)"),
    Mutant(
        "directions.jacobian_regularisation:JacobianRegularisation.__call__",
        PLAYER,
        "pullback(_blocks.without(field, player))",
        "pullback(field)",
    ),
    Mutant(
        "directions.hamiltonian_descent:HamiltonianDescent.__call__",
        TRANSPOSE,
        "(gradient,) = pullback(field)",
        "gradient = jax.jvp(lambda point: game.field(point, key), (players,), (field,))[1]",
    ),
    Mutant(
        "directions.curvature_exploitation:CurvatureExploitation.__call__",
        SIGN,
        "jnp.where(vector @ value > 0, 1, -1)",
        "jnp.where(vector @ value > 0, -1, 1)",
    ),
    Mutant(
        "directions.unrolled:Unrolled.__call__",
        STALE,
        "replaced(point, self.player, parameters), key)[self.player]",
        "replaced(players, self.player, players[self.player]), key)[self.player]",
    ),
    Mutant(
        "directions.stackelberg:Stackelberg.__call__",
        TRANSPOSE,
        "_blocks.transpose(_blocks.block(game, players, follower, leader, key), players[leader])",
        "_blocks.block(game, players, leader, follower, key)",
    ),
    # Flows
    Mutant("flows.alternating:AlternatingFlow.field", SIGN, "v + d - self.step / 2 * s", "v + d + self.step / 2 * s"),
    Mutant("flows.flow:scale_by_rates", PLAYER, "zip(rates, directions", "zip(rates[::-1], directions"),
    # Objectives and penalties
    Mutant("objectives.non_saturating:NonSaturating.generator_loss", SIGN, "softplus(-score)", "softplus(score)"),
    Mutant("objectives.minimax:Minimax.generator_loss", SIGN, "-softplus(score)", "softplus(score)"),
    Mutant(
        "objectives.logistic:Logistic.fake_loss",
        HALF,
        "softplus(score)",
        "softplus(score) / 2",
    ),
    Mutant(
        "objectives.wasserstein:Wasserstein.discriminator",
        SIGN,
        "as_sample(fake).mean() - as_sample(real).mean()",
        "as_sample(real).mean() - as_sample(fake).mean()",
    ),
    Mutant("objectives.hinge:Hinge.fake_loss", SIGN, "relu(1 + score)", "relu(1 - score)"),
    Mutant(
        "objectives.least_squares:LeastSquares.fake_loss",
        PLAYER,
        "half_square(score - self.a)",
        "half_square(score - self.b)",
    ),
    Mutant(
        "objectives.relativistic:RelativisticPaired.compared",
        PLAYER,
        "real.values - fake.values",
        "fake.values - real.values",
    ),
    Mutant("objectives._comparisons:paired_softplus", PLAYER, "fake_first / known", "known / (fake_first + 1e-9)"),
    Mutant(
        "objectives.pointwise:Pointwise.divergence_value",
        PLAYER,
        "fake * self.fake_loss(scores)",
        "fake * self.real_loss(scores)",
    ),
    Mutant("objectives.pointwise:Pointwise.divergence_value", HALF, "- jnp.sum(on_real", "- jnp.sum(on_real / 2"),
    Mutant("penalties.r1:R1.__call__", HALF, "self.weight", "2 * self.weight"),
    Mutant(
        "penalties.r1:R1.__call__",
        PLAYER,
        "jnp.asarray(0.0), self.weight * half_squared_gradient(score, players[1], real)",
        "self.weight * half_squared_gradient(score, players[1], real), jnp.asarray(0.0)",
    ),
    Mutant("penalties.r2:R2.__call__", HALF, "self.weight", "2 * self.weight"),
    Mutant(
        "penalties.discriminator_gradient_norm:DiscriminatorGradientNorm.__call__",
        PLAYER,
        "self.weight * _trees.dot(gradient, gradient), jnp.asarray(0.0)",
        "jnp.asarray(0.0), self.weight * _trees.dot(gradient, gradient)",
    ),
)


def touched(claim: Claim) -> frozenset[tuple[str, str]]:
    """The functions of the package that a claim runs through, as (file, name)."""
    root = str(Path(dy.__file__).parent)
    seen = set()

    def watch(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(root):
            seen.add((code.co_filename, code.co_qualname))

    _forget()
    sys.setprofile(watch)
    try:
        claims.search(claim, 40, shrink=False)
    finally:
        sys.setprofile(None)
    return frozenset(seen)


def attack(mutants: Sequence[Mutant], examples: int, progress: bool = True) -> list[dict[str, Any]]:
    """For every mutant: how many claims run through it, and the first that catches it."""
    catalogue = [claim for claim in claims.catalogue().values() if claim.parent is None]
    ways = {claim.identifier: touched(claim) for claim in catalogue}
    rows = []
    for mutant in mutants:
        holder, name = mutant.owner()
        code = inspect.unwrap(vars(holder)[name]).__code__
        way = code.co_filename, code.co_qualname
        candidates = sorted(
            (claim for claim in catalogue if way in ways[claim.identifier]),
            key=lambda c: (not c.holds, len(ways[c.identifier])),
        )
        caught, tried = "", 0
        with planted(mutant):
            for claim in candidates:
                tried += 1
                try:
                    found = claims.search(claim, examples, shrink=False).as_expected
                except Exception:
                    found = False
                if not found:
                    caught = claim.identifier
                    break
        rows.append(
            {"mutant": mutant.name, "kind": mutant.kind, "claims": len(candidates), "tried": tried, "caught_by": caught}
        )
        if progress:
            print(
                f"{'caught ' if caught else 'MISSED '} {mutant.name}: {caught or f'none of {len(candidates)} claims'}",
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=60, help="examples of each claim")
    parser.add_argument("--only", default="", help="mutants whose name contains this text")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    rows = attack([mutant for mutant in MUTANTS if options.only in mutant.name], options.examples)
    caught = sum(bool(row["caught_by"]) for row in rows)
    print(f"{caught} of {len(rows)} errors caught, {time.perf_counter() - start:.0f} s")
    if options.out:
        options.out.write_text(
            json.dumps(
                {
                    "date": datetime.date.today().isoformat(),
                    "machine": platform.processor() or platform.machine(),
                    "versions": {"dynamics": dy.__version__, "jax": jax.__version__},
                    "examples": options.examples,
                    "caught": caught,
                    "mutants": len(rows),
                    "rows": rows,
                },
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
