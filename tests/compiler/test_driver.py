"""The second way to launch kernels, with a stand-in for CUDA's driver: XLA's call is a real one, of a CPU."""

import ctypes
import logging
import pathlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest

from dynamics.compiler import _jax
from dynamics.compiler.errors import Unavailable
from dynamics.compiler.llvm import jit
from dynamics.compiler.nvptx import driver, first_use, kernel, launching
from tests.compiler.kernels_on_host import damped

GAMES = 300  # two blocks of threads and a part of a third
RNG = np.random.default_rng(3)
LOAD, GET, LAUNCH = range(3)


@pytest.fixture(scope="module")
def standing_in(tmp_path_factory):
    """The library, in place of the driver."""
    jax.devices()  # before XLA has begun nothing is registered
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("driver") / "driver.so"
    source = pathlib.Path(__file__).with_name("driver.c")
    include = f"-I{jax.ffi.include_dir()}"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", include, source, "-o", path, "-lm"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "LIBRARY", str(path))
        yield ctypes.CDLL(str(path))


def number(library, name, kind=ctypes.c_int):
    return kind.in_dll(library, name)


def address(library, name):
    return number(library, name, ctypes.c_void_p).value


@pytest.fixture
def launched(standing_in):
    """What launches a kernel, as XLA calls it: the kernel, and a function of arrays."""
    for name, value in dict(loads=0, launches=0, games=GAMES, refused=-1, status=218).items():
        number(standing_in, name).value = value
    number(standing_in, "current", ctypes.c_void_p).value = 0x100
    x = np.zeros(GAMES)
    made = kernel.compiled(jax.make_jaxpr(damped)(x, x), GAMES)
    made = made._replace(ptx=f"{made.ptx}// {RNG.integers(1 << 60)}\n")  # a function that knows no context yet
    name = driver.compiled(made, 2, 1, platform="cpu")
    inner = jit._engines[name].get_function_address("games")
    number(standing_in, "inner", ctypes.c_void_p).value = inner
    outer = f"{name}_with_stream"
    _jax.register_ffi_target(outer, jit._capsule(ctypes.cast(standing_in.with_stream, ctypes.c_void_p).value), "cpu")

    def call(name):
        one = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((GAMES,), np.float64))
        return jax.jit(lambda x, rate: one(x, rate))

    return made, call(outer), call(name)


def inputs():
    return RNG.normal(size=GAMES), RNG.uniform(0.1, 0.5, size=GAMES)


def by_numpy(x, rate):
    for _ in range(20):
        x = x - rate * np.tanh(x)
    return x


def test_a_kernel_is_launched_on_the_stream_of_xla_with_its_arrays(standing_in, launched):
    made, run, _ = launched
    for _ in range(3):
        x, rate = inputs()
        np.testing.assert_allclose(run(x, rate), by_numpy(x, rate), rtol=1e-14)
    image = (ctypes.c_char * 100_000).in_dll(standing_in, "image").value.decode()
    name = (ctypes.c_char * 200).in_dll(standing_in, "name").value.decode()
    assert (image, name) == (made.ptx, made.name)
    assert list((ctypes.c_uint * 7).in_dll(standing_in, "sizes")) == [3, 1, 1, 128, 1, 1, 0]
    assert address(standing_in, "stream_of_launch") == address(standing_in, "stream") == 0x57
    assert address(standing_in, "kernel") == 0x102 and address(standing_in, "extra_of_launch") is None
    standing_in.size_of_stream_get_args.restype = ctypes.c_size_t
    asked = number(standing_in, "size_of_question", ctypes.c_size_t).value
    assert asked == standing_in.size_of_stream_get_args() == 32
    # The driver gets the PTX once.
    assert (number(standing_in, "loads").value, number(standing_in, "launches").value) == (1, 3)


def test_every_context_gets_a_kernel_of_its_own(standing_in, launched):
    _, run, _ = launched
    x, rate = inputs()
    contexts = [0x1000 * (1 + n) for n in range(driver.CONTEXTS + 3)]
    for loads in (len(contexts), len(contexts) + 3):  # three find no row in the table any more
        for context in contexts:
            number(standing_in, "current", ctypes.c_void_p).value = context
            np.testing.assert_allclose(run(x, rate), by_numpy(x, rate), rtol=1e-14)
            assert address(standing_in, "kernel") == context + 2
        assert number(standing_in, "loads").value == loads


@pytest.mark.parametrize(
    "refused, status, words",
    [
        (LOAD, 218, r"cuModuleLoadData: CUDA_ERROR_INVALID_PTX \(218\)"),
        (GET, 218, r"cuModuleGetFunction: CUDA_ERROR_INVALID_PTX \(218\)"),
        (LAUNCH, 700, r"cuLaunchKernel: an unknown error \(700\)"),
    ],
)
def test_what_the_driver_refuses_is_an_error_of_xla(standing_in, launched, refused, status, words):
    _, run, _ = launched
    number(standing_in, "refused").value, number(standing_in, "status").value = refused, status
    with pytest.raises(jax.errors.JaxRuntimeError, match=words):
        jax.block_until_ready(run(*inputs()))
    number(standing_in, "refused").value = -1
    x, rate = inputs()
    np.testing.assert_allclose(run(x, rate), by_numpy(x, rate), rtol=1e-14)


def test_where_xla_has_no_stream_nothing_is_launched(standing_in, launched):
    """As on a CPU: XLA's answer is handed on."""
    _, _, without_stream = launched
    with pytest.raises(jax.errors.JaxRuntimeError, match="(?i)stream|gpu|context"):
        jax.block_until_ready(without_stream(*inputs()))
    assert number(standing_in, "loads").value == number(standing_in, "launches").value == 0


def test_without_a_driver_it_is_said(monkeypatch):
    monkeypatch.setattr(driver, "LIBRARY", "libnowhere.so.1")
    x = np.zeros(GAMES)
    made = kernel.compiled(jax.make_jaxpr(damped)(x, x), GAMES)
    with pytest.raises(Unavailable, match="there is no driver of CUDA: libnowhere.so.1"):
        driver.compiled(made, 2, 1)


def test_where_xla_does_not_know_cuda_it_is_said(standing_in):
    """XLA asks for the version of a function when it is registered; here there is nobody to register it for CUDA."""
    x = np.zeros(GAMES)
    made = kernel.compiled(jax.make_jaxpr(damped)(x, x), GAMES)
    with pytest.raises(Unavailable, match="XLA calls with a frame of 0 bytes"):
        driver.compiled(made._replace(ptx="// nothing"), 2, 1)


# Which way is taken


@pytest.fixture
def looked(monkeypatch):
    """Which ways were looked at, with those that fail, as in a fresh process with a GPU."""
    looks, failing = [], set()

    def problem(run, device):
        (way,) = run.args
        looks.append(way.name)
        return "nothing is launched" if way.name in failing else None

    launching._chosen.cache_clear()
    monkeypatch.setattr(first_use, "problem", problem)
    monkeypatch.setattr(launching, "_devices", jax.devices)
    yield looks, failing
    launching._chosen.cache_clear()


def test_the_driver_is_asked_where_the_call_of_xla_does_not_work(looked, caplog):
    looks, failing = looked
    caplog.set_level(logging.WARNING, logger="dynamics.compiler")
    assert launching._chosen() == (launching.WAYS[0], "") and looks == ["XLA's call for PTX"] and not caplog.records
    launching._chosen.cache_clear()
    failing.add("XLA's call for PTX")
    for _ in range(2):
        assert launching._chosen() == (launching.WAYS[1], "")
    assert looks[1:] == ["XLA's call for PTX", "CUDA's driver"]
    (said,) = caplog.records
    assert said.message == (
        "kernels are launched by CUDA's driver, as nothing is launched (launched by XLA's call for PTX)"
    )


def test_where_neither_works_all_is_left_to_xla(looked):
    looks, failing = looked
    failing.update(way.name for way in launching.WAYS)
    x = jnp.ones(192)
    closed = jax.make_jaxpr(damped)(x, x)
    for _ in range(2):
        with pytest.raises(Unavailable, match="by XLA's call for PTX.*; .*by CUDA's driver"):
            launching.lower(None, [], closed, 192)
    assert looks == ["XLA's call for PTX", "CUDA's driver"]


def test_the_function_for_a_kernel_is_well_formed(standing_in, launched):
    """As LLVM sees it."""
    made, _, _ = launched
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "_registered", lambda text, *_: texts.append(text) or "name")
        driver.compiled(made, 2, 1)
    llvm.parse_assembly(texts[0]).verify()
    assert texts[0].count('call i32 @"cuLaunchKernel"') == 1
