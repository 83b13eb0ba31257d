"""The library used from several threads at once: first uses in a fresh process, and studies beside sweeps."""

import ast
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from study_samples import small_toml

import dynamics as dy
from dynamics import optimisers, studies

ROOT = pathlib.Path(dy.__file__).parent
FIRST_USE = """
import functools, json, sys, threading
import dynamics as dy
names = sys.argv[1:]
barrier, found = threading.Barrier(len(names)), {}

def use(number, name):
    barrier.wait()
    try:
        if name.startswith("import "):
            __import__(name.split()[1])
        else:
            functools.reduce(getattr, name.split("."), dy)
        found[number] = "used"
    except BaseException as error:
        found[number] = f"{name}: {type(error).__name__}: {error}"

threads = [threading.Thread(target=use, args=one, daemon=True) for one in enumerate(names)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(300)
print(json.dumps([found.get(number, f"{name}: never done") for number, name in enumerate(names)]), flush=True)
"""


@pytest.mark.slow_cases("strategies.updates sweep simulate plots games studies stability sweep")
@pytest.mark.parametrize(
    "names",
    [
        ["sweep", "stability"],
        ["strategies.updates", "sweep", "simulate", "plots", "games", "studies", "stability", "sweep"],
        pytest.param(["stability", "sweep", "games"], marks=pytest.mark.slow),
        pytest.param(["studies", "claims", "ensembles", "Game"], marks=pytest.mark.slow),
        pytest.param(["claims", "import dynamics.claims", "import dynamics.claims.session"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_first_uses_at_once(names):
    ended = subprocess.run([sys.executable, "-c", FIRST_USE, *names], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == ["used"] * len(names)


def test_no_module_uses_at_import_what_is_imported_on_first_use():
    """A thread that imports a module would wait for one that imports for a first use, and that one for the module."""
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module == "dynamics":
                names = {alias.name for alias in node.names} & set(dy.__all__)
                assert not names, f"{path}: from dynamics import {names}; write import dynamics.name as name"


@pytest.mark.slow
def test_a_study_beside_a_sweep(tmp_path):
    """At once in two threads, and the same numbers as one after the other."""
    (tmp_path / "small.toml").write_text(small_toml(portrait=False))
    study = studies.load(str(tmp_path / "small.toml"))

    def swept():
        def build(rate):
            sgd = optimisers.sgd(rate)
            return dy.games.DiracGAN(penalty=dy.penalties.R1(0.3)), dy.updates.Alternating(sgd, sgd), (1.0, 1.0)

        return dy.sweep(build, {"rate": [0.1, 0.5, 4.5]}, steps=20)

    def studied():
        return [vars(cell) for cell in studies.execute(study).cells]

    found, barrier = {}, threading.Barrier(2)

    def one(name, function):
        barrier.wait()
        found[name] = function()

    threads = [threading.Thread(target=one, args=pair) for pair in (("sweep", swept), ("study", studied))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, values in swept().data_vars.items():
        np.testing.assert_array_equal(found["sweep"][name].values, values.values, err_msg=str(name))
    for together, alone in zip(found["study"], studied(), strict=True):
        for name in alone:
            np.testing.assert_array_equal(together[name], alone[name], name)
