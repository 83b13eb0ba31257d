"""Kernels for a GPU, without one: their numbers on this machine, how they are launched, and what becomes none."""

import contextlib
import logging
import re
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import dynamics as dy
import dynamics.catalogue as catalogue
from dynamics import _trees, directions, objectives, optimisers, penalties, updates
from dynamics.compiler.batch.interpreter import batch_last_axis
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.jaxprs import has_loops
from dynamics.compiler.llvm import lowering
from dynamics.compiler.llvm.lowering import compile_program, in_machine_code
from dynamics.compiler.nvptx import first_use, kernel, large_angles, launching, library, size
from dynamics.ensembles import CompilerWarning
from dynamics.games import Bilinear, DiracGAN, Torus
from tests import asymmetric
from tests.compiler import kernels_on_host
from tests.compiler.kernels_on_host import damped

GAMES = 192  # one and a half blocks of threads, and whole vector tiles
MATRIX = jnp.asarray([[1.0, 0.3, -0.4], [-0.2, 0.7, 0.5]])
RNG = np.random.default_rng(0)


def gan(objective, penalty):
    return lambda weight: DiracGAN(objective=objective, penalty=penalty(weight))


def pair(update, optimiser=optimisers.sgd, **options):
    return lambda rate: update(optimiser(rate), optimiser(2.5 * rate), **options)


SCALARS = (1.0, -0.6)
VECTORS = ([0.4, -0.9], [1.1, 0.2, -0.3])
SINGLE, DOUBLE = jnp.float32, jnp.float64
# game, update, players, dtype, whether the numbers are those of the CPU to the bit
CASES = {
    "non-saturating, R1, alternating": (
        *(gan(objectives.NonSaturating(), penalties.R1), pair(updates.Alternating), SCALARS, SINGLE, True),
    ),
    "minimax, R1, simultaneous": (
        *(gan(objectives.Minimax(), penalties.R1), pair(updates.Simultaneous), SCALARS, DOUBLE, True),
    ),
    "least squares, WGAN-GP, extragradient": (
        *(gan(objectives.LeastSquares(), penalties.WGANGP), pair(updates.Extragradient, extrapolation=0.1)),
        *(SCALARS, SINGLE, True),
    ),
    "hinge, R1, consensus": (
        gan(objectives.Hinge(), penalties.R1),
        pair(updates.Simultaneous, direction=directions.Consensus(0.2)),
        *(SCALARS, DOUBLE, True),
    ),
    "Wasserstein, R2, optimistic": (
        gan(objectives.Wasserstein(), penalties.R2),
        pair(updates.Simultaneous, optimisers.optimistic),
        *(SCALARS, DOUBLE, True),
    ),
    "bilinear, rk4": (
        lambda weight: Bilinear(MATRIX * (1 + weight)),
        lambda rate: updates.RungeKutta((rate, 2.5 * rate), method="rk4"),
        *(VECTORS, DOUBLE, True),
    ),
    "torus, three eighths": (
        Torus,
        lambda rate: updates.RungeKutta((rate, 2.5 * rate), method="three_eighths"),
        *(SCALARS, SINGLE, True),
    ),
    # Powers are those of the library on the CPU, and ours on a GPU.
    "sines, alternating, Adam": (
        *(lambda weight: asymmetric.make(2), pair(updates.Alternating, partial(optimisers.adam, b1=0.5))),
        *(VECTORS, DOUBLE, False),
    ),
}
QUICK = ["non-saturating, R1, alternating", "bilinear, rk4"]


def run_of(game_of, update_of, players, dtype, steps):
    """Final players, boxes around them and counters of one game, as `simulate` gathers them along a run."""

    def run(rate, weight):
        game, update = game_of(weight), update_of(rate)
        state = update.init(game, tuple(jnp.asarray(one, dtype) for one in players))
        game, update = _trees.cast((game, update), dtype)

        def step(_, carry):
            state, low, high, crossings, signal = carry
            state = update.step(game, state)
            low = jax.tree.map(jnp.minimum, low, state.players)
            high = jax.tree.map(jnp.maximum, high, state.players)
            now = jnp.ravel(state.players[0])[0]
            return state, low, high, crossings + ((signal < 0) & (now >= 0)), now

        begin = state, state.players, state.players, jnp.int32(0), jnp.asarray(1, dtype)
        return jax.lax.fori_loop(0, steps, step, begin)

    return run


def inputs_of(dtype, games=GAMES):
    rates = jnp.linspace(0.02, 0.2, games, dtype=dtype)
    return rates, jnp.cos(7 * rates) ** 2


@contextlib.contextmanager
def compared_with_kernels():
    """Every loop that becomes machine code also runs as a kernel; what both compute, as pairs of lists of arrays."""
    pairs = []

    def as_both(context, arrays, program, batch_size):
        name = compile_program(program, batch_size)
        if not has_loops(program.jaxpr):
            return name, lowering.lower_ffi_call(context, name, arrays)

        def run(*arrays):
            usual = usual_code.bind(*arrays, program=program, batch_size=batch_size)
            jax.debug.callback(
                lambda *both: pairs.append(both), usual, kernels_on_host.run(program, batch_size, *arrays)
            )
            return usual

        return name, lowering.lower_function(context, run, arrays)

    def register(as_code):
        rule = partial(lowering._lower_by, as_code)
        lowering.register_lowering(lowering._in_machine_code, rule, platform="cpu")

    register(as_both)
    try:
        yield pairs
    finally:
        jax.effects_barrier()
        register(lowering._as_function)


def _usual(context, *arrays, program, batch_size):
    return lowering.lower_ffi_call(context, compile_program(program, batch_size), arrays)


usual_code = lowering.new_primitive("usual_machine_code", lambda *avals, program, batch_size: list(program.out_avals))
lowering.register_lowering(usual_code, _usual, platform="cpu")


def agree(pairs, exactly, units=2_000, games=slice(None)):
    """The same bits, or numbers that are the same to rounding; of some games."""
    assert pairs
    for usual, ours in pairs:
        for one, other in zip(ours, usual, strict=True):
            one, other = np.asarray(one), np.asarray(other)
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            if one.shape:
                one, other = one[..., games], other[..., games]
            if exactly or not np.issubdtype(one.dtype, np.floating):
                np.testing.assert_array_equal(one, other)
            else:
                bound = units * np.finfo(one.dtype).eps
                np.testing.assert_allclose(one, other, rtol=bound, atol=bound)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_thread_computes_the_numbers_of_the_cpu(name):
    game_of, update_of, players, dtype, exactly = CASES[name]
    run = batch_last_axis(run_of(game_of, update_of, players, dtype, 60), machine_code=True)
    with compared_with_kernels() as pairs:
        jax.block_until_ready(jax.jit(run)(*inputs_of(dtype)))
    agree(pairs, exactly)


SWEPT = {
    "Dirac-GAN": (gan(objectives.NonSaturating(), penalties.R1), pair(updates.Alternating), SCALARS),
    "Dirac-GAN, momentum": (
        gan(objectives.NonSaturating(), penalties.R1),
        lambda rate: updates.Alternating(optimisers.momentum(rate, -0.2), optimisers.optimistic(3 * rate)),
        SCALARS,
    ),
    "torus": (Torus, pair(updates.Simultaneous), SCALARS),
    "bilinear": (
        lambda weight: Bilinear(MATRIX * (1 + weight)),
        pair(updates.Extragradient, extrapolation=0.1),
        VECTORS,
    ),
    "bilinear, alternating": (lambda weight: Bilinear(1.0 + weight), pair(updates.Alternating), SCALARS),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SWEPT)
def test_a_thread_computes_the_numbers_of_the_cpu_in_sweeps(name, dtype):
    """The run of a sweep: stretches, boxes, crossings, and branches that only some games take."""
    game_of, update_of, players = SWEPT[name]

    def build(rate, weight):
        return game_of(weight), update_of(rate), tuple(map(jnp.asarray, players))

    axes = {"rate": np.linspace(0.02, 0.6, 12), "weight": np.linspace(0.1, 1.5, 11)}
    with compared_with_kernels() as pairs:
        dy.sweep(build, axes, steps=640, predict=False, dtype=dtype)
    agree(pairs, exactly=True)


@pytest.mark.slow
def test_a_thread_computes_the_numbers_of_the_cpu_in_sweeps_of_flows():
    def build(scale):
        return Torus(scale, scale), dy.flows.Flow(), (1.0, 0.5)

    steps = dict(dt0=0.01, stepsize_controller=diffrax.ConstantStepSize(), max_steps=1_000)
    with compared_with_kernels() as pairs:
        dy.sweep(build, {"scale": np.linspace(0.5, 2, 100)}, until=6.4, predict=False, **steps)
    agree(pairs, exactly=True)


def run_example(game, update, players, dtype, scales):
    """Some steps of an example with numbers and starts scaled, of which the largest make it blow up."""

    def run(scale):
        def scaled(leaf):
            return leaf * scale if eqx.is_inexact_array(leaf) else leaf

        start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) * scale, players)
        instance, method = (_trees.cast(jax.tree.map(scaled, one), dtype) for one in (game, update))
        state = method.init(instance, start)
        return jax.lax.fori_loop(0, 40, lambda _, state: method.step(instance, state), state).players

    with compared_with_kernels() as pairs:
        jax.block_until_ready(jax.jit(batch_last_axis(run, machine_code=True))(jnp.asarray(scales, dtype)))
    return pairs


CALM = 144
SCALES = np.concatenate([np.linspace(0.5, 1.5, CALM), np.geomspace(1.5, 300, 48)])
# What no vector tile has either: linear algebra, and equations solved in a step. `RingGAN` has too many operations.
LEFT = {"HermiteGAN", "IteratedPrisonersDilemma", "AdaptiveCompetitive", "ProximalPoint"}
# Of a sum of two products LLVM may put one into an instruction with the sum, and in a vector tile the other one; and if
# the angle of one game of a tile is large, the sines of all are those of the library. Games that blow up magnify both.
ROUNDED = {"Bilinear", "PolynomialGame", "SineMinimax", "Torus", "VEEGAN"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted({*catalogue.members("games")} - {"RingGAN"}))
def test_every_game_of_the_catalogue(name, dtype):
    game, players = catalogue.find("games", name).example()
    players = dy.game.as_players(players)
    pairs = run_example(game, updates.Simultaneous.example(len(players)), players, dtype, SCALES)
    if name not in LEFT:
        rounded = name in ROUNDED
        agree(pairs, exactly=not rounded, units=2e4, games=slice(CALM if rounded else None))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(catalogue.members("updates")))
def test_every_update_of_the_catalogue(name, dtype):
    game, players = DiracGAN(penalty=penalties.R1(0.3)), dy.game.as_players(SCALARS)
    pairs = run_example(game, catalogue.find("updates", name).example(), players, dtype, SCALES)
    if name not in LEFT:
        agree(pairs, exactly=True)


# Functions of the library of C


def in_a_thread(name, *given):
    return np.asarray(
        kernels_on_host.results(getattr(jax.lax, name), *map(jnp.asarray, given), batch_size=len(given[0]))
    )


SMALL = RNG.normal(size=60) * np.exp(RNG.uniform(-12, 1, 60))
WIDE = np.concatenate([RNG.uniform(-80, 80, 60), SMALL])
FAR = np.concatenate([WIDE, np.exp(RNG.uniform(-60, 60, 30))])
ANGLES = np.concatenate([RNG.uniform(-1, 1, 60) * 10.0 ** RNG.integers(3, 38, 60), 355 * 10.0 ** np.arange(1, 20)])
PLACES = {
    "exp2": (lambda x: mpmath.mpf(2) ** x, WIDE),
    "sinh": (mpmath.sinh, WIDE),
    "cosh": (mpmath.cosh, WIDE),
    "asinh": (mpmath.asinh, FAR),
    "acosh": (mpmath.acosh, 1 + np.exp(RNG.uniform(-14, 50, 90))),
    "atanh": (mpmath.atanh, np.tanh(WIDE / 10)),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), FAR),
    "tan": (mpmath.tan, np.concatenate([WIDE, ANGLES])),
    "atan": (mpmath.atan, FAR),
    "asin": (mpmath.asin, RNG.uniform(-1, 1, 90)),
    "acos": (mpmath.acos, RNG.uniform(-1, 1, 90)),
    "atan2": (mpmath.atan2, FAR, RNG.permutation(FAR)),
    "pow": (lambda x, y: x**y, np.exp(RNG.normal(size=300) * 15), RNG.normal(size=300) * 8),
    "sin": (mpmath.sin, ANGLES),
    "cos": (mpmath.cos, ANGLES),
}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", [n if n in ("pow", "sin") else pytest.param(n, marks=pytest.mark.slow) for n in PLACES]
)
def test_functions_of_the_library_are_right_to_the_last_digits(name, kind):
    exact, *places = PLACES[name]
    given = [place.astype(kind) for place in places]
    with mpmath.workdps(400 if name in ("sin", "cos", "tan") else 40):
        wanted = [exact(*(mpmath.mpf(float(number)) for number in row)) for row in zip(*given, strict=True)]
        nearest = np.array([float(one) for one in wanted])
        wrong = [
            abs(mpmath.mpf(float(one)) - other) for one, other in zip(in_a_thread(name, *given), wanted, strict=True)
        ]
        limits = np.finfo(kind)
        normal = (np.abs(nearest) < limits.max) & (np.abs(nearest) > limits.tiny)
        unit = np.spacing(np.abs(nearest[normal]).astype(kind)).astype(float)
        assert np.sum(normal) > 50
        assert np.max(np.array([float(one) for one in wrong])[normal] / unit) < 4


ENDS = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e30, -1e30, 1e17, 7.0, 710.0]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_functions_of_the_library_at_the_ends(kind):
    """All at once; NumPy's are those of the library of C."""
    names = {name: name for name in ("exp2", "sinh", "cosh", "cbrt", "tan", "sin", "cos")}
    names |= {f"a{name}": f"arc{name}" for name in ("sinh", "cosh", "tanh", "sin", "cos", "tan")}
    ends = np.array(ENDS, kind)
    y, x = (grid.ravel() for grid in np.meshgrid(ends, ends))

    def everything(y, x):
        return {"pow": jax.lax.pow(y, x), "atan2": jax.lax.atan2(y, x)} | {n: getattr(jax.lax, n)(x) for n in names}

    ours = kernels_on_host.results(everything, jnp.asarray(y), jnp.asarray(x), batch_size=len(x))
    with np.errstate(all="ignore"):
        wanted = {"pow": np.power(y, x), "atan2": np.arctan2(y, x)}
        wanted |= {name: getattr(np, theirs)(x) for name, theirs in names.items()}
        tiny = np.finfo(kind).tiny
        wanted = {name: np.where(np.abs(one) < tiny, 0 * one, one) for name, one in wanted.items()}
    for name, one in wanted.items():
        np.testing.assert_allclose(ours[name], one, rtol=4 * np.finfo(kind).eps, err_msg=name)


def test_angles_next_to_multiples_of_pi():
    """The number of 53 bits that is nearest to one, and one whose tangent is the largest known."""
    worst = np.array([6381956970095103 * 2.0**797, 5.319372648326541e255])
    with mpmath.workdps(400):
        for name, exact in (("sin", mpmath.sin), ("cos", mpmath.cos)):
            wanted = [float(exact(mpmath.mpf(float(one)))) for one in worst]
            np.testing.assert_allclose(in_a_thread(name, worst), wanted, rtol=1e-15)
    assert large_angles.table()[:2] == (0, 0x517CC1B727220A94)


def test_what_a_gpu_has_no_function_for_is_refused():
    for function in (jax.lax.erf, lambda x: jax.lax.rem(x, 2 * x)):
        closed = jax.make_jaxpr(function)(jnp.ones(GAMES))
        with pytest.raises(Unsupported, match="a GPU has no function (erf|fmod)"):
            kernel.compiled(closed, GAMES)
    assert library.LIBRARY_FUNCTIONS.keys() < set(lowering.RULES) | {"exp2"}


# Kernels


def test_a_thread_beyond_the_last_game_does_nothing():
    for games in (1, 127, 128, 129, 300):
        x, rate = jnp.asarray(RNG.uniform(0.1, 0.5, size=(2, games)))
        ours = kernels_on_host.results(damped, x, rate, batch_size=games)
        np.testing.assert_allclose(ours, damped(x, rate), rtol=1e-13)
        made = kernel.compiled(jax.make_jaxpr(damped)(x, rate), games)
        assert (made.blocks, made.threads) == (-(-games // 128), 128)


def test_the_state_of_a_game_stays_in_registers():
    """What a loop reads and writes in memory is in front of it or behind it; products and sums are one instruction."""
    x = jnp.ones(GAMES, jnp.float32)
    made = kernel.compiled(jax.make_jaxpr(damped)(x, x), GAMES)
    assert f".visible .entry {made.name}(" in made.ptx and ".target sm_80" in made.ptx
    assert ".ftz" in made.ptx and ".local" not in made.ptx and "call" not in made.ptx
    label, _, body = re.search(r"(\$L__BB\d+_\d+):.*?(\n.*?)+?@%p\d+ bra\s+\1", made.ptx).group(0).partition(":")
    assert label and "fma.rn.ftz.f32" in body and "ld." not in body and "st." not in body


def lowered(function, *given):
    """For CUDA, on a machine that may have none."""
    return jax.jit(function).trace(*given).lower(lowering_platforms=("cuda",)).as_text()


def test_for_cuda_a_loop_is_a_kernel(caplog):
    caplog.set_level(logging.INFO, logger="dynamics.compiler")
    game_of, update_of, players, dtype, _ = CASES["non-saturating, R1, alternating"]
    run = batch_last_axis(run_of(game_of, update_of, players, dtype, 60), machine_code=True)
    text = lowered(run, *inputs_of(dtype))
    assert text.count("stablehlo.custom_call") == text.count("@__gpu$xla.gpu.ptx") == 1
    assert "stablehlo.while" not in text
    (name,) = re.findall(r'name = "(games_[0-9a-f]{32})"', text)
    assert f".visible .entry {name}(" in text.replace("\\0A", "\n") and 'kernel_type = "ptx"' in text
    for attribute in ("grid_x = 2", "grid_y = 1", "block_x = 128", "shared_mem_bytes = 0"):
        assert f"{attribute} : i64" in text
    assert f"machine code: {name}" in caplog.text and "left to XLA: a program without a loop" in caplog.text


@pytest.mark.slow
def test_for_cuda_a_sweep_has_one_kernel_for_a_block():
    from dynamics.ensembles import running

    def build(rate, weight):
        return DiracGAN(penalty=penalties.R1(weight)), pair(updates.Alternating)(rate), SCALARS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "carry_out", lambda plan, *_: plan)
        plan = dy.sweep(build, {"rate": np.linspace(0.1, 1, 60), "weight": 0.3}, steps=640, predict=False)
    values = {name: np.zeros((2, plan.lanes)) for name in ("rate", "weight")}
    indices = np.zeros((2, plan.lanes), np.uint32)

    def chunk(values, indices):
        return running.run_chunk(plan.recipe, values, indices, plan.devices)

    assert lowered(chunk, values, indices).count("@__gpu$xla.gpu.ptx") == 1


def test_blocks_fill_a_gpu():
    """Its kernels have a thread per game of a block."""
    from dynamics.ensembles import cells

    recipe = cells.Recipe(None, (), None, 640, None, None, (None, None), (), {}, False, None)
    lanes = {n: cells.lanes_of(recipe, 2, 4, n, "gpu") for n in (10, 1_000, 10**6, 10**8)}
    assert lanes == {10: 24, 1_000: 768, 10**6: 196_608, 10**8: 196_608}
    assert cells.lanes_of(recipe, 200, 400, 10**6, "gpu") < 10_000
    assert cells.lanes_of(recipe, 2, 4, 10**6, "cpu") == 384


# What becomes no kernel


def left_to_xla(function, *given):
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(lowering.logger, "info", lambda text, *rest: said.append(text % rest))
        text = lowered(in_machine_code(jax.make_jaxpr(function)(*given), GAMES), *given)
    assert "@__gpu" not in text
    return said


def test_what_is_too_large_or_has_no_rule_is_left_to_xla():
    x = jnp.ones(GAMES, jnp.float32)

    def looped(body, *start):
        return lambda *arrays: jax.lax.fori_loop(0, 9, lambda _, carry: body(*carry), arrays)

    (said,) = left_to_xla(lambda x: x * 2, x)
    assert said == "left to XLA: a program without a loop"
    (said,) = left_to_xla(looped(lambda x: (jnp.sort(x),)), x)
    assert said.startswith("left to XLA: sort is not known here")
    rows = jnp.ones((130, GAMES))
    (said,) = left_to_xla(looped(lambda rows: (rows * 0.5,)), rows)
    assert said == "left to XLA: a loop that keeps 260 registers of a game, more than 255"
    (said,) = left_to_xla(looped(lambda *arrays: arrays), *[x] * 251)
    assert said.startswith("left to XLA: 502 arrays, more than 500")
    (said,) = left_to_xla(looped(lambda x, none: (x * 2, none)), x, jnp.ones((0, GAMES)))
    assert said == "left to XLA: an array without entries"


def test_the_switch_of_the_benchmark_leaves_every_loop_to_xla(monkeypatch):
    """`benchmarks/gpu.py` times sweeps with kernels and without."""
    monkeypatch.setattr(size, "MOST_REGISTERS", -1)
    x = jnp.ones(GAMES)
    assert left_to_xla(damped, x, x) == ["left to XLA: a loop that keeps 4 registers of a game, more than -1"]


def test_whatever_fails_on_the_way_is_left_to_xla_with_a_warning(monkeypatch):
    def failing(*_):
        raise RuntimeError("No available targets are compatible with triple")

    x = jnp.ones(GAMES)
    for module, name in ((launching, "compiled"), (kernel.llvm, "parse_assembly"), (launching, "lower_ptx_call")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing)
            with pytest.warns(CompilerWarning, match="RuntimeError: No available targets"):
                text = lowered(in_machine_code(jax.make_jaxpr(damped)(x, x), GAMES), x, x)
        assert "@__gpu" not in text and "stablehlo.while" in text


def test_what_a_loop_keeps_of_a_game():
    x, matrix = jnp.ones((3, GAMES)), jnp.ones((3, 3, GAMES), jnp.float32)

    def run(x, matrix):
        return jax.lax.fori_loop(0, 9, lambda _, x: (matrix * x[None]).sum(1) * 0.1, x)

    closed = jax.make_jaxpr(run)(x, matrix)
    assert size.registers(closed.jaxpr, GAMES) == 2 * 3 + 9
    size.check_size(closed.jaxpr, GAMES)


# The look at the first use


@pytest.fixture
def nothing_known():
    """As in a fresh process."""
    for function in (launching._chosen, launching._architecture):
        function.cache_clear()
    yield
    for function in (launching._chosen, launching._architecture):
        function.cache_clear()


def wrong_by(change):
    def run(program, batch_size, *arrays):
        return change(kernels_on_host.run(program, batch_size, *arrays))

    return run


def nudged(place, scale):
    return lambda results: [r * scale if n == place else r for n, r in enumerate(results)]


def failing(program, batch_size, *arrays):
    raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_INVALID_PTX")


def test_the_first_use_finds_nothing_wrong_with_the_kernel():
    assert first_use.problem(kernels_on_host.run, jax.devices()[0]) is None


@pytest.mark.parametrize(
    "run, words",
    [
        (failing, "do not run on cpu: JaxRuntimeError: INTERNAL: CUDA_ERROR_INVALID_PTX"),
        (wrong_by(nudged(0, 1.01)), r"other numbers than XLA: \d+ of 300 in result 0"),
        (wrong_by(nudged(3, jnp.nan)), "other numbers than XLA: 3000 of 3000 in result 3, nan for"),
        (wrong_by(lambda results: [*results[:4], ~results[4]]), "1500 of 1500 in result 4"),
        (wrong_by(lambda results: results[:4]), "4 results instead of 5"),
        (wrong_by(lambda results: results[::-1]), r"result 0 is bool\[5, 300\], not float32\[300\]"),
    ],
)
def test_the_first_use_finds_what_is_wrong(run, words):
    assert re.search(words, first_use.problem(run, jax.devices()[0]))


def test_where_kernels_do_not_work_a_sweep_goes_on_without_them(nothing_known, monkeypatch):
    """Once is looked, while a program is lowered, and every program of the process is left to XLA then."""
    looks = []

    def run(way, program, batch_size, *arrays):
        looks.append(way.name)
        return wrong_by(nudged(1, 2.0))(program, batch_size, *arrays)

    monkeypatch.setattr(launching, "_devices", jax.devices)
    monkeypatch.setattr(launching, "in_kernel", run)
    x = jnp.ones(GAMES)
    for steps in (3, 4):
        closed = jax.make_jaxpr(lambda x, steps=steps: jax.lax.fori_loop(0, steps, lambda _, x: x * 0.5, x))(x)
        with pytest.warns(CompilerWarning, match="Unavailable: a kernel on cpu computes other numbers than XLA"):
            text = lowered(in_machine_code(closed, GAMES), x)
        assert "@__gpu" not in text and "stablehlo.while" in text
    assert looks == ["XLA's call for PTX", "CUDA's driver"]


def test_where_kernels_work_they_are_used(nothing_known, monkeypatch):
    monkeypatch.setattr(launching, "_devices", jax.devices)
    monkeypatch.setattr(launching, "in_kernel", lambda way, *given: kernels_on_host.run(*given))
    x = jnp.ones(GAMES)
    assert "@__gpu$xla.gpu.ptx" in lowered(in_machine_code(jax.make_jaxpr(damped)(x, x), GAMES), x, x)


def test_older_gpus_get_kernels_of_their_own(nothing_known, monkeypatch):
    class Device:
        device_kind = "Tesla T4"
        compute_capability = "7.5"

    monkeypatch.setattr(launching, "_devices", lambda: [Device()])
    assert launching._architecture() == "sm_75"
    launching._architecture.cache_clear()
    monkeypatch.setattr(Device, "compute_capability", "10.0")
    assert launching._architecture() == "sm_80"
    x = jnp.ones(GAMES)
    assert ".target sm_75" in kernel.compiled(jax.make_jaxpr(damped)(x, x), GAMES, "sm_75").ptx
