"""What is measured: every function here yields the rows of one section of the table."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import problems
from measuring import _clocked, differences, error, measure
from native import METHODS, Native
from rivals import (
    C_END,
    C_OUTCOME,
    DIFFRAX,
    DIFFRAX_ADAPTIVE,
    DIFFRAX_EULER,
    NUMBA,
    NUMPY,
    OPTAX,
    STEP,
    SWEEP,
    TORCH,
    VMAP,
    VMAP_OUTCOME,
    Rival,
    diffrax_euler,
    diffrax_flow,
    in_c,
    jitted_step,
    numba_loop,
    numpy_loop,
    optax_loop,
    sweep,
    torch_loop,
    vmapped,
)

import dynamics as dy

TOO_LONG = 20.0  # seconds that a single run may be expected to take
KINDS = (np.float32, np.float64)
# Evaluations of the field that a step needs; consensus: the field, and a product with its transposed Jacobian, which
# costs two more.
EVALUATIONS = {"simultaneous": 1, "alternating": 2, "extragradient": 2, "consensus": 3, "optimistic": 1}
Rows = Iterator[list[dict[str, Any]]]


class Bench:
    """The C program, the cores, and how much is measured."""

    def __init__(self, library: str, cores: int, quick: bool, repeats: int):
        self.library, self.cores, self.quick, self.repeats = library, cores, quick, repeats

    def code(self, kind: type) -> Native:
        return Native(self.library, kind)

    def some(self, whole: tuple, few: tuple) -> tuple:
        """All of them, or few in a quick run."""
        return few if self.quick else whole

    def pair(self, problem: problems.Problem) -> dict[str, Rival]:
        """C with and without outcomes, and the sweep."""
        code = self.code(problem.precise)
        return {
            C_END: in_c(problem, code, False, self.cores),
            C_OUTCOME: in_c(problem, code, True, self.cores),
            SWEEP: sweep(problem),
        }

    def rows(self, section: str, problem: problems.Problem, rivals: dict[str, Rival]) -> list[dict[str, Any]]:
        return measure(section, problem, rivals, self.code(problem.precise), self.cores, self.repeats)


def planar(bench: Bench) -> Rows:
    """Planar games, simultaneous descent; so many that what every call costs does not count."""
    games, steps = (256, 128) if bench.quick else (30_000, 32_000)
    for kind in bench.some(KINDS, (np.float64,)):
        for game in bench.some(problems.PLANAR, ("non_saturating",)):
            problem = problems.planar(game, "simultaneous", kind, games, steps)
            rivals, short = bench.pair(problem), problem.shortened(max(64, steps // 10))
            if kind is np.float32 or game in ("non_saturating", "bilinear"):
                rivals[VMAP] = vmapped(short, False)
                if game in ("non_saturating", "bilinear") and not bench.quick:
                    rivals[VMAP_OUTCOME] = vmapped(short, True)
            yield bench.rows("planar", problem, rivals)


def methods(bench: Bench) -> Rows:
    """Other methods on two of them: C, and what the number of evaluations of the field implies."""
    games, steps = (256, 128) if bench.quick else (30_000, 32_000)
    for kind, game in ((np.float32, "non_saturating"), (np.float64, "non_saturating"), (np.float32, "bilinear")):
        if bench.quick and (kind, game) != (np.float32, "bilinear"):
            continue
        unit = {}
        for method in bench.some(METHODS[:5], METHODS[:2]):
            problem = problems.planar(game, method, kind, games, steps)
            rows = bench.rows("methods", problem, bench.pair(problem))
            for row in rows:
                unit.setdefault(row["rival"], row["ns"])
                row["evaluations"] = EVALUATIONS[method]
                row["ratio_to_implied"] = row["ns"] / (EVALUATIONS[method] * unit[row["rival"]])
            yield rows


def matrix(bench: Bench) -> Rows:
    """Games of 10 + 10 numbers with matrices of their own."""
    for kind in bench.some(KINDS, (np.float32,)):
        games, steps = (64, 128) if bench.quick else (2_048, 12_800)
        problem = problems.matrices("quadratic", kind, games, steps)
        rivals = bench.pair(problem)
        if bench.cores == 1:
            rivals[VMAP] = vmapped(problem.shortened(steps // 10), False)
        yield bench.rows("matrix", problem, rivals)
        if bench.cores > 1:
            continue
        problem = problems.matrices("coupled", kind, games, steps)
        rivals = {SWEEP: sweep(problem), VMAP: vmapped(problem, False)}
        if not bench.quick:
            rivals[VMAP_OUTCOME] = vmapped(problem.shortened(steps // 10), True)
        yield bench.rows("matrix", problem, rivals)


def flows(bench: Bench) -> Rows:
    """Steps of a fixed length: C, diffrax with the same steps, and diffrax with steps of its choice at equal error."""
    games, few, steps = (64, 64, 1_024) if bench.quick else (32_768, 512, 8_192)
    for kind in bench.some(KINDS, (np.float64,)):
        for game, step in bench.some((("non_saturating", 0.05), ("lorenz", 1 / 1024)), (("lorenz", 1 / 1024),)):
            for method in bench.some(("rk4", "tsit5"), ("tsit5",)):
                problem = problems.flow(game, method, kind, games, steps, step)
                rivals = bench.pair(problem)
                if method == "tsit5":
                    rivals[DIFFRAX] = diffrax_flow(problem, False, few)(0.0)
                    rivals[DIFFRAX_ADAPTIVE] = at_equal_error(bench, problem, few)
                rows = bench.rows("flows", problem, rivals)
                for row in rows[3:]:
                    rows[2][f"faster_than_{row['rival'].replace(' ', '_')}"] = row["ns"] / rows[2]["ns"]
                yield rows


def at_equal_error(bench: Bench, problem: problems.Problem, games: int) -> Rival:
    """diffrax with the loosest of the tolerances 10^-2, 10^-3, ... that is as accurate as the steps of fixed length."""
    code = bench.code(problem.precise)
    wanted = problem.reference(code, problem.steps)
    allowed = error(problem.native(code, False, 1).final, wanted)
    make, small = diffrax_flow(problem, True, games), diffrax_flow(problem, True, problems.CHECKED)
    best = (np.inf, 0.0)
    for power in range(2, 8 if problem.precise is np.float32 else 14):
        found = error(small(10.0**-power).run()[0], wanted)
        best = min(best, (found, 10.0**-power))
        if found <= allowed:
            return make(10.0**-power)
    return make(best[1])


def lorenz(bench: Bench) -> Rows:
    """The published ensemble: rho = linspace(0, 21, N), 1000 steps of 1e-3, f32, final states."""
    expected = 0.0
    for games in bench.some((8, 512, 2**15, 2**18), (8,)):
        problem = problems.flow("lorenz", "tsit5", np.float32, games, 1_000, 1e-3)
        code = bench.code(np.float32)
        rivals = {C_END: in_c(problem, code, False, bench.cores)}
        if expected * games < TOO_LONG:
            rivals[SWEEP] = sweep(problem)
        if games <= 32_768 and bench.cores == 1:
            rivals[DIFFRAX] = diffrax_flow(problem, False)(0.0)
        rows = bench.rows("lorenz", problem, rivals)
        for row in rows:
            row["milliseconds"] = row["ns"] * games * 1_000 / 1e6
            if row["rival"] == SWEEP:
                expected = row["wall_seconds"] / games
        yield rows


def scaling(bench: Bench) -> Rows:
    """From 1 to 10^6 games, and from 10^3 to 10^6 steps."""
    sizes = ((1, 64_000), (10, 64_000), (100, 64_000), (1_000, 64_000), (10_000, 6_400), (100_000, 6_400))
    sizes += ((1_000_000, 640), (1_000, 1_000), (1_000, 10_000), (1_000, 100_000), (1_000, 1_000_000))
    if bench.cores > 1:
        sizes = ((10_000, 6_400), (100_000, 6_400), (1_000_000, 640))
    for games, steps in bench.some(sizes, ((1, 640), (100, 640))):
        problem = problems.planar("non_saturating", "simultaneous", np.float32, games, steps)
        yield bench.rows("scaling", problem, bench.pair(problem))


def cores(bench: Bench) -> Rows:
    """Large ensembles, for the comparison of one core with all."""
    for kind in bench.some(KINDS, (np.float32,)):
        for game in bench.some(("non_saturating", "bilinear"), ("bilinear",)):
            # Long enough for what every call costs, and every game, not to count.
            games, steps = (512, 64) if bench.quick else (50_000, 51_200)
            problem = problems.planar(game, "simultaneous", kind, games, steps)
            yield bench.rows("cores", problem, bench.pair(problem))
        games, steps = (64, 128) if bench.quick else (4_096, 25_600)
        problem = problems.matrices("quadratic", kind, games, steps)
        yield bench.rows("cores", problem, bench.pair(problem))


def early(bench: Bench) -> Rows:
    """Games that are decided stop: 95 % of the cells converge within 5 % of the steps."""
    # So many that those that go on fill blocks: 1,024 of them.
    games, steps = (256, 1_280) if bench.quick else (20_480, 204_800)
    draw = np.random.default_rng(0)
    # In both sets the rate is below the bound of stability; the slow ones turn for the whole of the run.
    slow = draw.permutation(games) < games // 20
    rate = np.where(slow, 1e-4, 0.2).astype(np.float32)
    weight = np.where(slow, 0.0, draw.uniform(0.9, 1.1, games)).astype(np.float32)
    if bench.quick:
        rate[slow] = 1e-3
    start = draw.normal(size=(2, games)).astype(np.float32)

    def build(x, y, rate, weight):
        return problems.planar_game("non_saturating", weight), problems.update("alternating", rate), (x, y)

    axes = dict(x=start[0], y=start[1], rate=rate, weight=weight)
    settings = dict(steps=steps, design="zip", predict=False)
    rows, found = [], {}
    for name, options in (("sweep", {}), ("sweep, early", dict(stop_early=True))):
        try:
            first, found[name] = _clocked(lambda options=options: dy.sweep(build, axes, **settings, **options))
            times = [
                _clocked(lambda options=options: dy.sweep(build, axes, **settings, **options))[0] for _ in range(3)
            ]
        except (TypeError, ValueError) as failure:  # a version without early exit
            rows.append(dict(section="early", rival=name, failure=str(failure)))
            continue
        wall, cpu = np.median(np.array(times), axis=0)
        row = dict(section="early", game="non_saturating", method="alternating", precision="f32", cores=bench.cores)
        row |= dict(rival=name, games=games, steps=steps, wall_seconds=wall, cpu_seconds=cpu)
        row |= dict(
            compile_seconds=max(0.0, first[0] - wall), ns=(cpu if bench.cores == 1 else wall) / games / steps * 1e9
        )
        settled = found[name].steps_to_tolerance.values
        row |= dict(settled_within_5_percent=float(np.mean(settled <= 0.05 * steps)))
        row |= dict(converged=float(np.mean(found[name].outcome.values == dy.Outcome.converged)))
        rows.append(row)
    if len(found) == 2:
        rows[1]["of_full_run"] = rows[1]["ns"] / rows[0]["ns"]
        one, other = (dataset.outcome.values for dataset in found.values())
        rows[1]["outcomes_differ"] = int(np.sum(one != other))
    yield rows


def others(bench: Bench) -> Rows:
    """Rivals that are not compiled as a whole, or are diffrax."""
    for kind in bench.some(KINDS, (np.float64,)):
        short = bench.quick or kind is np.float64
        for game in ("non_saturating",) if short else ("non_saturating", "bilinear", "quadratic"):
            for games in bench.some((100, 10_000), (100,)):
                if game == "quadratic":
                    games = min(games, 2_048)
                    problem = problems.matrices(game, kind, games, 128)
                else:
                    problem = problems.planar(game, "simultaneous", kind, games, 128)
                code = bench.code(kind)
                few = 128 if games > 1_000 else 1_024
                rivals = {C_END: in_c(problem, code, False, bench.cores), NUMPY: numpy_loop(problem, few)}
                with contextlib.suppress(ImportError):  # the table says that it was not there
                    rivals[TORCH] = torch_loop(problem, few, bench.cores)
                with contextlib.suppress(ImportError):
                    rivals[NUMBA] = numba_loop(problem, few)
                rivals[OPTAX] = optax_loop(problem, few)
                rivals[STEP] = jitted_step(problem, few)
                rivals[DIFFRAX_EULER] = diffrax_euler(problem, few)
                yield bench.rows("others", problem, rivals)


def outcomes(bench: Bench) -> Rows:
    """Random games in which all outcomes occur: the C program must see what the library sees."""
    games, steps = (256, 128) if bench.quick else (2_048, 640)
    pairs = [(game, "simultaneous") for game in problems.PLANAR]
    pairs += [(game, method) for game in ("non_saturating", "bilinear") for method in METHODS[1:5]]
    for number, (game, method) in enumerate(bench.some(tuple(pairs), tuple(pairs[:1]))):
        kind = KINDS[number % 2]
        problem = problems.planar(game, method, kind, games, steps, wide=True)
        native, swept = problem.native(bench.code(kind), True, 1), sweep(problem).run()[1]
        row = dict(section="outcomes", game=game, method=method, precision=np.dtype(kind).name, games=games)
        row |= dict(steps=steps, differ=differences(native, swept))
        seen = native.outcome[native.outcome >= 0]  # all but those in doubt, at which the library looks again
        row |= dict(counts=np.bincount(seen, minlength=4).tolist(), in_doubt=len(native.outcome) - len(seen))
        yield [row]


def eigenvalues(bench: Bench) -> Rows:
    """A chart of verdicts and rates of a planar game in closed form, 1024 x 1024."""
    side = 64 if bench.quick else 1_024
    axes = dict(rate=np.linspace(0.01, 4, side), weight=np.linspace(0, 2, side))

    def build(rate, weight):
        return problems.planar_game("non_saturating", weight), problems.update("simultaneous", rate), (1.0, 1.0)

    def run():
        return dy.ensembles.stability_chart(build, axes)

    first, _ = _clocked(run)
    wall, cpu = np.median(np.array([_clocked(run)[0] for _ in range(3)]), axis=0)
    plain = jnp.asarray(np.random.default_rng(0).normal(size=(side, 2, 2)))
    _clocked(lambda: np.asarray(jnp.linalg.eigvals(plain)))
    batched = np.median([_clocked(lambda: np.asarray(jnp.linalg.eigvals(plain)))[0][1] for _ in range(3)])
    row = dict(section="eigenvalues", rival="stability_chart", cores=bench.cores, cells=side * side)
    row |= dict(wall_seconds=wall, cpu_seconds=cpu, compile_seconds=first[0] - wall)
    yield [row | dict(us_per_cell=cpu / side**2 * 1e6, us_per_eigvals=batched / side * 1e6)]
