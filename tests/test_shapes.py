"""Dtypes and shapes that annotations speak of are those at run time, in the tests of all rooms that compute."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
ROOMS = [
    "analysis",
    "data",
    "directions",
    "ensembles",
    "experiments",
    "flows",
    "function_space",
    "games",
    "gan",
    "metrics",
    "networks",
    "objectives",
    "simulation",
    "training",
    "updates",
]
# What these test is what functions look like, or a message that comes after the check.
ABOUT_FUNCTIONS = [
    "ensembles/test_sweep.py::test_bad_input_is_refused_at_the_door[key]",
    "simulation/test_repeated_calls.py::test_methods_and_partials",
]

WRONG = """
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

from dynamics import outcomes


def test_a_wrong_shape():
    with pytest.raises(Exception, match="Type-check error whilst checking the parameters of dynamics.outcomes"):
        outcomes.quarters_of((jnp.zeros(64),))
"""


def run_with_shapes(*arguments):
    if importlib.util.find_spec("beartype") is None:
        pytest.skip('beartype is not installed; pip install -e ".[test]"')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"]
    command += ["--jaxtyping-packages=dynamics,shapes.checked", "--rootdir", TESTS.parent, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_shapes_are_those_of_the_annotations(room):
    skipped = [f"--deselect=tests/{name}" for name in ABOUT_FUNCTIONS]
    run_with_shapes(TESTS / room, *skipped)


@pytest.mark.slow
def test_a_wrong_shape_is_noticed(tmp_path):
    (tmp_path / "test_wrong.py").write_text(WRONG)
    run_with_shapes(tmp_path / "test_wrong.py")
