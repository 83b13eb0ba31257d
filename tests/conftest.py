"""Settings of the whole test suite: double precision and reproducible property tests."""

import gc
import importlib.metadata
import os
import pathlib

import hypothesis

# Most of the time goes into compiling programs that run for milliseconds. Set before JAX reads it, and only where the
# user has not chosen; a test of what the optimising compiler makes of a program runs in a process of its own.
FLAGS = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know it, and would stop
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
os.environ.setdefault("DYNAMICS_CACHE", "off")  # tests write into folders of their own
# To trace a program makes many small objects that stay; looking through them for garbage took a fifth of the time.
gc.set_threshold(200_000, 50, 100)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)

hypothesis.settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    print_blob=True,
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],  # `find` in examples does it
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "deterministic"))

# Every compiled program keeps some memory mappings, of which Linux grants a process 65,530; beyond that the compiler
# crashes, and memory: dropping all programs where a quarter of them is used keeps each process far below.
MOST_MAPPINGS = 16_000
TESTS_BETWEEN_LOOKS = 25
MAPPINGS = pathlib.Path("/proc/self/maps")
finished = 0


def pytest_runtest_teardown(item):
    global finished
    finished += 1
    if finished % TESTS_BETWEEN_LOOKS:
        return
    crowded = MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS if MAPPINGS.exists() else finished % 150 == 0
    if crowded:
        eqx.clear_caches()
        jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """`slow_cases("float32")` marks some cases of a parametrised test as slow, by their identifiers."""
    for item in items:
        cases = {case for marker in item.iter_markers("slow_cases") for case in marker.args}
        if cases and item.callspec.id in cases:
            item.add_marker(pytest.mark.slow)
