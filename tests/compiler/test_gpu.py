"""Whole runs in one kernel: the numbers, what the kernel consists of, and what cannot become one."""

import contextlib
import re
from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics import _trees, directions, objectives, optimisers, penalties, updates
from dynamics.compiler.errors import Unsupported
from dynamics.compiler.gpu import kernel as kernels
from dynamics.compiler.gpu.partition import can_run, choose, in_one_kernel, run_blocks, until_decided
from dynamics.games import Bilinear, DiracGAN, Torus
from tests import asymmetric

BLOCKS, LANES = 3, 50  # neither a multiple of the lanes of a kernel nor a divisor
MATRIX = jnp.asarray([[1.0, 0.3, -0.4], [-0.2, 0.7, 0.5]])


def gan(objective, penalty):
    return lambda weight: DiracGAN(objective=objective, penalty=penalty(weight))


def both(weight):
    return penalties.Sum(penalties.R1(weight), penalties.R2(weight / 3))


def pair(update, optimiser=optimisers.sgd, **options):
    return lambda rate: update(optimiser(rate), optimiser(2.5 * rate), **options)


SCALARS = (1.0, -0.6)
VECTORS = ([0.4, -0.9], [1.1, 0.2, -0.3])
ADAM = partial(optimisers.adam, b1=0.5)
SIX_STAGES = "tsit5" if "tsit5" in updates.runge_kutta.TABLEAUS else "three_eighths"
# game, update, players, dtypes
CASES = {
    "non-saturating, R1, alternating": (
        *(gan(objectives.NonSaturating(), penalties.R1), pair(updates.Alternating), SCALARS),
        (jnp.float32, jnp.float64),
    ),
    "minimax, R1 and R2, simultaneous": (
        *(gan(objectives.Minimax(), both), pair(updates.Simultaneous), SCALARS),
        (jnp.float64,),
    ),
    "least squares, WGAN-GP, extragradient": (
        *(gan(objectives.LeastSquares(), penalties.WGANGP), pair(updates.Extragradient, extrapolation=0.1), SCALARS),
        (jnp.float32,),
    ),
    "hinge, R1, consensus": (
        gan(objectives.Hinge(), penalties.R1),
        pair(updates.Simultaneous, direction=directions.Consensus(0.2)),
        SCALARS,
        (jnp.float32,),
    ),
    "Wasserstein, R2, optimistic": (
        *(gan(objectives.Wasserstein(), penalties.R2), pair(updates.Simultaneous, optimisers.optimistic), SCALARS),
        (jnp.float64,),
    ),
    "bilinear, rk4": (
        lambda weight: Bilinear(MATRIX * (1 + weight)),
        lambda rate: updates.RungeKutta((rate, 2.5 * rate), method="rk4"),
        *(VECTORS, (jnp.float64,)),
    ),
    "torus, a tableau of many stages": (
        *(Torus, lambda rate: updates.RungeKutta((rate, 2.5 * rate), method=SIX_STAGES), SCALARS),
        (jnp.float32,),
    ),
    "sines, alternating, Adam": (
        *(lambda weight: asymmetric.make(2), pair(updates.Alternating, ADAM), VECTORS),
        (jnp.float64,),
    ),
}


def block_of(game_of, update_of, players, dtype, steps):
    """Final players, boxes around them and counters, as `simulate` gathers them along a run."""

    def one(values):
        rate, weight = values
        update = update_of(rate)
        game = game_of(weight)
        state = update.init(game, tuple(jnp.asarray(own, dtype) for own in players))
        game, update = _trees.cast((game, update), dtype)

        def turn(_, carry):
            state, low, high, crossings, signal = carry
            state = update.step(game, state)
            low = jax.tree.map(jnp.minimum, low, state.players)
            high = jax.tree.map(jnp.maximum, high, state.players)
            now = jnp.ravel(state.players[0])[0]
            crossings = crossings + ((signal < 0) & (now >= 0))
            return state, low, high, crossings, now

        begin = state, state.players, state.players, jnp.int32(0), jnp.asarray(1, dtype)
        state, low, high, crossings, _ = jax.lax.fori_loop(0, steps, turn, begin)
        norms = _trees.norm(jax.tree.map(jnp.subtract, high, low)), _trees.norm(state.players)
        return state, low, high, crossings, crossings > 2, norms

    return jax.vmap(one)


def arrays_of(dtype, blocks=BLOCKS, lanes=LANES):
    rates = jnp.linspace(0.02, 0.2, blocks * lanes, dtype=dtype).reshape(blocks, lanes)
    return rates, jnp.cos(7 * rates) ** 2


# The rest of them takes long to compile.
QUICK = ["non-saturating, R1, alternating", "hinge, R1, consensus", "bilinear, rk4", "sines, alternating, Adam"]


@pytest.mark.slow_cases("non-saturating, R1, alternating")
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_the_kernel_computes_what_the_plain_program_does(name):
    *parts, dtypes = CASES[name]
    given = [(block_of(*parts, dtype, 40), arrays_of(dtype)) for dtype in dtypes]
    assert [choose(*one, platform="gpu", tier="B") for one in given] == [("B", "")] * len(given)
    kernel = jax.jit(lambda: [run_blocks(*one, platform="gpu", tier="B", interpret=True) for one in given])()
    plain = jax.jit(lambda: [jax.lax.map(*one) for one in given])()
    assert jax.tree.structure(kernel) == jax.tree.structure(plain)
    for dtype, ours, theirs in zip(dtypes, kernel, plain, strict=True):
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            if jnp.issubdtype(one.dtype, jnp.floating):
                np.testing.assert_allclose(one, other, rtol=2e3 * jnp.finfo(dtype).eps, atol=200 * jnp.finfo(dtype).eps)
            else:
                np.testing.assert_array_equal(one, other)


def test_sums_with_products_keep_their_signs(monkeypatch):
    """On a GPU they are one instruction, which no other platform has: here the same in two."""
    fused, rewritten = [], kernels._rewritten

    def multiply_add(one, another, other, minus, minus_other):
        fused.append((minus, minus_other))
        return (-1 if minus else 1) * one * another + (-1 if minus_other else 1) * other

    monkeypatch.setattr(kernels, "_rewritten", lambda *parts: rewritten(*parts[:6], multiply_add))
    blocks = [block_of(*CASES["least squares, WGAN-GP, extragradient"][:3], jnp.float64, 10)]
    blocks.append(lambda values: jax.lax.fori_loop(0, 3, lambda _, x: signs(x, *values), values[0]))

    def signs(x, y, z):
        product, minus = x * y, -x
        return -(product - z) + (z - minus * y) - (minus * -z - y) + (-(x * z) - x) + (-z + -y * x) + (x * y - x * z)

    arrays = arrays_of(jnp.float64)
    kernel = jax.jit(lambda: [run_blocks(b, arrays, platform="gpu", tier="B", interpret=True) for b in blocks])()
    plain = jax.jit(lambda: [jax.lax.map(block, arrays) for block in blocks])()
    assert set(fused) == {(a, b) for a in (False, True) for b in (False, True)}
    for one, other in zip(jax.tree.leaves(kernel), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@contextlib.contextmanager
def aimed_at_a_gpu():
    """From JAX 0.11 on Triton wants to know for which GPU it compiles."""
    if not hasattr(jax.sharding, "AbstractDevice") or jax.__version_info__ < (0, 11):
        yield
        return
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=None, platform="gpu")
    automatic = jax.sharding.AxisType.Auto
    with jax.sharding.use_abstract_mesh(
        jax.sharding.AbstractMesh((1,), ("cells",), axis_types=automatic, abstract_device=device)
    ):
        yield


def lowered(block, arrays):
    run = jax.jit(lambda arrays: run_blocks(block, arrays, platform="gpu", tier="B"))
    with aimed_at_a_gpu():
        return run.trace(arrays).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("name", CASES)
def test_for_cuda_all_is_one_kernel_without_a_loop_around_it(name):
    *parts, dtypes = CASES[name]
    for dtype in dtypes:
        text = lowered(block_of(*parts, dtype, 1000), arrays_of(dtype))
        assert re.findall(r"stablehlo.custom_call @(\S+?)\(", text) == ["__gpu$xla.gpu.triton"]
        assert "stablehlo.while" not in text


UNARY = "neg abs sign square sqrt rsqrt cbrt exp exp2 expm1 log log1p logistic sin cos tan asin acos atan"
UNARY += " sinh cosh tanh asinh acosh atanh floor ceil is_finite"
BINARY = "add sub mul div pow atan2 nextafter max min eq ne lt le gt ge"


def whole_numbers(x):
    n = x.astype(jnp.int32)
    n = ((n << 2) ^ (n >> 1)) + n % 3 + abs(n) + jnp.sign(n) + jnp.maximum(n, 3) - n // 2 - ~n
    return n + jax.lax.shift_right_logical(n.astype(jnp.uint32), jnp.uint32(3)).astype(jnp.int64)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("shared", [False, True])
def test_all_that_is_said_to_be_known_to_triton_is(dtype, shared):
    """Of numbers of a game, and of those that all games share."""

    def everything(x):
        found = [getattr(jax.lax, name)(x) for name in UNARY.split()]
        found += [getattr(jax.lax, name)(x, x * x) for name in BINARY.split()]
        found += [jax.lax.integer_pow(x, -3), jnp.clip(x, -1, 1), whole_numbers(x)]
        found += [jnp.where(((x > 0) & ~(x > 1)) | ((x < -1) ^ (x < -2)), x, 2)]
        found += [jax.lax.select_n(jnp.clip(x.astype(jnp.int32), 0, 2), x, 2 * x, 3 * x)]
        return sum(one.astype(dtype) for one in found)

    def run(number, rates):
        def block(rates):
            def turn(_, carry):
                x, y = carry
                return (x + y, everything(y)) if shared else (everything(x), y)

            return jax.lax.fori_loop(0, 9, turn, (rates, number))

        return run_blocks(block, rates, platform="gpu", tier="B")

    with aimed_at_a_gpu():
        traced = jax.jit(run).trace(jnp.asarray(0.3, dtype), jnp.ones((2, 64), dtype))
        assert traced.lower(lowering_platforms=("cuda",)).as_text().count("gpu.triton") == 1


def test_every_array_is_read_and_written_once_and_no_exponential_is_wasted(monkeypatch):
    from jax._src.pallas.triton import lowering  # there is no other way to see what Triton gets

    seen, lower = [], lowering.lower_jaxpr_to_triton_module

    def watched(*arguments, **keywords):
        result = lower(*arguments, **keywords)
        seen.append(result.module.operation.get_asm())
        return result

    monkeypatch.setattr(lowering, "lower_jaxpr_to_triton_module", watched)
    *parts, _ = CASES["non-saturating, R1, alternating"]
    block = block_of(*parts, jnp.float32, 1000)
    lowered(block, arrays_of(jnp.float32))
    (text,) = seen
    results = len(jax.tree.leaves(jax.eval_shape(block, tuple(array[0] for array in arrays_of(jnp.float32)))))
    values = re.findall(r"%(\w+) = tt.load", text)
    # Triton leaves out what is loaded where a store follows: nobody uses it.
    used = [value for value in values if len(re.findall(rf"%{value}\b", text)) > 1]
    assert len(used) == 2
    assert len(re.findall(r"tt.store", text)) == results
    assert text.count("scf.for") == 1 and "scf.while" not in text
    assert text.count("__nv_expf") == 2  # one for each player's turn
    (loop,) = re.findall(r"scf\.for(.*)scf\.yield", text, re.DOTALL)
    assert "tt.load" not in loop and "tt.store" not in loop


def test_a_block_ends_when_its_games_are_decided_and_nobody_waits():
    def block(rates):
        def step(number, state):
            x, turns = state
            return x - rates * x, turns + 1

        return until_decided(step, lambda state: jnp.abs(state[0]) < 1e-3, (jnp.ones_like(rates), rates * 0), 5000)

    rates = jnp.linspace(0.01, 0.9, 300).reshape(2, 150)
    kernel = jax.jit(lambda rates: run_blocks(block, rates, platform="gpu", tier="B", interpret=True))(rates)
    expected = np.ceil(np.log(1e-3) / np.log1p(-np.asarray(rates)))
    np.testing.assert_array_equal(kernel[1], expected)
    np.testing.assert_allclose(kernel[0], (1 - rates) ** expected, rtol=1e-11)
    text = lowered(block, rates)
    assert "stablehlo.while" not in text and text.count("gpu.triton") == 1


def test_a_game_that_blows_up_shows_in_the_boxes_and_disturbs_nobody():
    def block(rates):
        def turn(_, carry):
            x, low, high = carry
            x = (x - rates * x**3) * jnp.where(x > 1e300, jnp.nan, 1)
            return x, jnp.minimum(low, x), jnp.maximum(x, high)

        return jax.lax.fori_loop(0, 60, turn, (jnp.full_like(rates, 2.0),) * 3)

    rates = jnp.linspace(-1, 0.2, 130)[None]
    kernel = jax.jit(lambda rates: run_blocks(block, rates, platform="gpu", tier="B", interpret=True))(rates)
    plain = jax.lax.map(block, rates)
    for one, other in zip(kernel, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert np.isnan(kernel[1]).any() and np.isfinite(kernel[1]).any()


def test_a_program_with_more_than_a_kernel_can_do_gets_its_loops_into_one():
    matrices = jnp.asarray(np.random.default_rng(3).normal(size=(2, 2)))

    def block(values):
        rates, starts = values
        starts = jnp.sort(starts, axis=-1)  # no operation of kernels

        def turn(x, pace):
            x = x - rates[:, None] * pace * (x @ matrices)
            return x, x

        end, along = jax.lax.scan(turn, starts, jnp.linspace(0.5, 1, 64))
        return end, jnp.linalg.norm(along, axis=-1).max(axis=0), jnp.linalg.eigvalsh(end[:, :, None] * end[:, None, :])

    arrays = jnp.linspace(0.01, 0.2, 200).reshape(2, 100), jnp.cos(jnp.arange(400.0)).reshape(2, 2, 100)

    def turned(values):
        return block((values[0], values[1].T))

    choice = choose(turned, arrays, platform="gpu", tier="B")
    assert choice.tier == "B" and "sort" in choice.reason
    kernel = jax.jit(lambda arrays: run_blocks(turned, arrays, platform="gpu", tier="B", interpret=True))(arrays)
    plain = jax.jit(lambda arrays: jax.lax.map(turned, arrays))(arrays)
    for one, other in zip(kernel, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_whole_simulations_with_their_outcomes(dtype):
    def one(values):
        rate, weight = values
        update = updates.Alternating(optimisers.momentum(rate, -0.2), optimisers.optimistic(3 * rate))
        game = DiracGAN(objective=objectives.NonSaturating(), penalty=penalties.R1(weight))
        players = jnp.asarray(1, dtype), jnp.asarray(0.3, dtype)
        run = dy.simulate(game, update, players, steps=300, save_every=3)
        return run.outcome, run.period, run.rate, run.residual, run.players, run.final

    block, arrays = jax.vmap(one), arrays_of(dtype)
    assert choose(block, arrays, platform="gpu", tier="B").tier == "B"
    kernel = jax.jit(lambda arrays: run_blocks(block, arrays, platform="gpu", tier="B", interpret=True))(arrays)
    plain = jax.jit(lambda arrays: jax.lax.map(block, arrays))(arrays)
    np.testing.assert_array_equal(kernel[0], plain[0])
    for ours, theirs in zip(jax.tree.leaves(kernel[1:]), jax.tree.leaves(plain[1:]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e5 * jnp.finfo(dtype).eps, atol=1e4 * jnp.finfo(dtype).eps)
    assert lowered(block, arrays).count("gpu.triton") == 1


def test_lorenz_along_tsit5_keeps_its_state_in_one_kernel():
    tableau = diffrax.Tsit5().tableau
    rows, weights = [[], *(list(map(float, row)) for row in tableau.a_lower)], list(map(float, tableau.b_sol))

    def block(rho):
        def field(z):
            x, y, w = z
            return jnp.stack([10 * (y - x), x * (rho - w) - y, x * y - 8 / 3 * w])

        def turn(_, z):
            slopes = []
            for row in rows:
                slopes.append(field(z + sum(0.01 * a * k for a, k in zip(row, slopes, strict=True) if a)))
            return z + sum(0.01 * b * k for b, k in zip(weights, slopes, strict=True) if b)

        start = jnp.stack([jnp.ones_like(rho), 0 * rho, 0 * rho])
        return jax.lax.fori_loop(0, 100, turn, start)

    rho = jnp.linspace(0, 21, 150).reshape(1, 150)
    kernel = jax.jit(lambda rho: run_blocks(block, rho, platform="gpu", tier="B", interpret=True))(rho)
    np.testing.assert_allclose(kernel, jax.jit(lambda rho: jax.lax.map(block, rho))(rho), rtol=1e-10)

    def field(t, z, rho):
        return jnp.stack([10 * (z[1] - z[0]), z[0] * (rho - z[2]) - z[1], z[0] * z[1] - 8 / 3 * z[2]])

    term, solver = diffrax.ODETerm(field), diffrax.Tsit5()
    exact = diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.01, jnp.asarray([1.0, 0, 0]), args=rho[0, 140])
    np.testing.assert_allclose(kernel[0, :, 140], exact.ys[0], rtol=1e-10)


def test_hyper_parameters_of_the_caller_become_inputs():
    @jax.jit
    def run(strength, paces, rates):
        def block(rates):
            return jax.lax.scan(lambda x, pace: (x - rates * strength * pace * x, None), jnp.ones_like(rates), paces)[0]

        return run_blocks(block, rates, platform="gpu", tier="B", interpret=True)

    rates, paces = jnp.linspace(0.1, 0.3, 12).reshape(2, 6), jnp.linspace(0, 1, 7)
    for strength in (0.5, 2.0):
        expected = np.prod(1 - np.asarray(rates)[..., None] * strength * np.asarray(paces), axis=-1)
        np.testing.assert_allclose(run(strength, paces, rates), expected, rtol=1e-13)
    assert run._cache_size() == 1


def test_one_kernel_of_a_function_of_all_games():
    def function(x, matrix):
        return jax.lax.fori_loop(0, 30, lambda _, x: 0.1 * x + jnp.einsum("ijn,jn->in", matrix, jnp.sin(x)), x)

    x, matrix = jnp.cos(jnp.arange(2.0 * 200)).reshape(2, 200), jnp.sin(jnp.arange(800.0)).reshape(2, 2, 200)
    found = in_one_kernel(function, lanes=64, interpret=True)(x, matrix)
    np.testing.assert_allclose(found, function(x, matrix), rtol=1e-11, atol=1e-12)


def loop(body, start=jnp.ones_like):
    return lambda rates: jax.lax.fori_loop(0, 9, lambda _, x: body(x, rates), start(rates))


@pytest.mark.parametrize(
    "block, reason",
    [
        (lambda rates: rates * 2, "there is no loop"),
        (loop(lambda x, rates: jnp.sort(x)), "sort"),
        (loop(lambda x, rates: x - rates * jnp.sum(x)), "combined with one another"),
        (loop(lambda x, rates: x.at[3].set(1.0)), "scatter|dynamic_update_slice"),
        (loop(lambda x, rates: jnp.flip(x)), "combined with one another"),
        (loop(lambda x, rates: x + jnp.arange(len(x))), "counted"),
        (loop(lambda x, rates: jnp.remainder(x, rates)), "remainder"),
        (loop(lambda x, rates: x * rates, lambda rates: jnp.ones((60, *rates.shape))), "registers"),
        (loop(lambda x, rates: x * 2, lambda rates: rates.astype(jnp.bfloat16)), "bfloat16"),
        (loop(lambda x, rates: x * rates + np.ones(LANES)), "does not take 256 lanes"),
    ],
)
def test_what_cannot_become_a_kernel_is_plain_xla_and_says_why(block, reason):
    rates = arrays_of(jnp.float64)[0]
    choice = choose(block, rates, platform="gpu", tier="B")
    assert choice.tier == "A"
    assert re.search(reason, choice.reason), choice.reason
    run = partial(run_blocks, block, platform="gpu", tier="B", interpret=True)
    np.testing.assert_array_equal(jax.eval_shape(run, rates), jax.eval_shape(partial(jax.lax.map, block), rates))


def test_the_tier_follows_platform_and_size():
    block, rates = loop(lambda x, rates: x * rates), arrays_of(jnp.float64)[0]
    assert choose(block, rates, platform="cpu") == ("A", "the platform is cpu")
    assert choose(block, rates, platform="gpu") == ("A", "150 games, fewer than 1000")
    assert choose(block, jnp.ones((10, 100)), platform="gpu") == ("B", "")
    assert choose(block, jnp.ones((10, 100)), platform="gpu", tier="A").tier == "A"
    jaxpr = jax.make_jaxpr(block)(jnp.ones(256))
    assert can_run(jaxpr, games=256) is None
    assert can_run(jaxpr, games=256, platform="cpu") == "the platform is cpu"
    with pytest.raises(Unsupported, match="combined with one another"):
        in_one_kernel(loop(lambda x, rates: x * jnp.max(rates)), interpret=True)(jnp.ones(10))


def test_where_triton_fails_the_same_program_is_plain_xla(monkeypatch, caplog):
    def gone():
        raise ImportError("no Triton in this version")

    block, rates = loop(lambda x, rates: x * rates), arrays_of(jnp.float64)[0]
    monkeypatch.setattr(kernels, "_triton", gone)
    text = lowered(block, rates)
    assert "gpu.triton" not in text and "stablehlo.while" in text
    assert "no Triton in this version" in caplog.text


def a_gpu():
    with contextlib.suppress(RuntimeError):
        return jax.devices("gpu")[0]


on_a_gpu = pytest.mark.skipif(a_gpu() is None, reason="needs a GPU that JAX can use; there is none")


@on_a_gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_the_kernel_agrees_with_the_cpu(name):
    *parts, dtypes = CASES[name]
    for dtype in dtypes:
        block, arrays = block_of(*parts, dtype, 500), arrays_of(dtype, blocks=8, lanes=1000)
        run = jax.jit(partial(run_blocks, block, platform="gpu"))
        with jax.default_device(a_gpu()):
            found = run(jax.device_put(arrays, a_gpu()))
        cpu = jax.devices("cpu")[0]
        with jax.default_device(cpu):
            expected = jax.jit(partial(jax.lax.map, block))(jax.device_put(arrays, cpu))
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            if jnp.issubdtype(one.dtype, jnp.floating):
                # Games that are repelled magnify rounding.
                fair = np.isclose(one, other, rtol=1e5 * jnp.finfo(dtype).eps, atol=1e4 * jnp.finfo(dtype).eps)
                assert fair.mean() > 0.98
            else:
                assert (np.asarray(one) == np.asarray(other)).mean() > 0.98


@on_a_gpu
def test_on_a_gpu_a_sweep_has_the_outcomes_of_the_cpu():
    def build(rate, weight):
        method = updates.Alternating(optimisers.sgd(rate), optimisers.sgd(2 * rate))
        return DiracGAN(penalty=penalties.R1(weight)), method, (1.0, 0.5)

    axes = {"rate": np.linspace(0.05, 0.4, 40), "weight": np.linspace(0.1, 1.5, 40)}
    here, there = (dy.sweep(build, axes, steps=1_000, devices=[d]) for d in (a_gpu(), jax.devices("cpu")[0]))
    assert (here.outcome == there.outcome).mean() > 0.99
    np.testing.assert_allclose(here.player_0, there.player_0, rtol=1e-6, atol=1e-9)
