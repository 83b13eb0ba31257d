"""Dtypes and shapes that annotations speak of are those at run time, in the tests of where most of them are."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
FILES = [
    "analysis/test_basins.py",
    "analysis/test_kinks.py",
    "analysis/test_lyapunov.py",
    "analysis/test_sensitivity_and_best.py",
    "flows/test_noise.py",
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
@pytest.mark.parametrize("name", FILES)
def test_shapes_are_those_of_the_annotations(name):
    run_with_shapes(TESTS / name)


@pytest.mark.slow
def test_a_wrong_shape_is_noticed(tmp_path):
    (tmp_path / "test_wrong.py").write_text(WRONG)
    run_with_shapes(tmp_path / "test_wrong.py")
