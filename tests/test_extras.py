"""What works without the packages that only some users need, and what is said where one of them is missing."""

import re
import subprocess
import sys
import tomllib

import pytest
from test_types import PROJECT

EXTRAS = {
    "data": ("scikit_learn",),
    "flax": ("flax",),
    "haiku": ("dm_haiku",),
    "signals": ("mnist1d",),
    "stores": ("google_crc32c", "zarr"),
    "tensorboard": ("tensorboardX",),
    "workers": ("cloudpickle",),
    "notebooks": ("ipykernel", "ipywidgets"),
}
IMPORTED = {"dm_haiku": "haiku", "scikit_learn": "sklearn"}  # packages whose module has another name
MODULES = [IMPORTED.get(module, module) for modules in EXTRAS.values() for module in modules]

BUILD = """
import sys, numpy as np
for module in MISSING:
    sys.modules[module] = None
import dynamics as dy

def build(rate):
    return dy.games.Quadratic([[1.0]]), dy.updates.Simultaneous(dy.optimisers.sgd(rate)), (1.0,)

axes = {"rate": np.linspace(0.1, 0.9, 5)}
"""


def run_without(modules, code):
    code = f"MISSING = {list(modules)}\n{BUILD}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_most_users_need_works_without_extras():
    code = """
from dynamics import cli, claims, plots, reports, strategies, studies
from concurrent.futures import ThreadPoolExecutor
chart = dy.sweep(build, axes, steps=500)
with ThreadPoolExecutor(2) as executor:
    assert chart.identical(dy.sweep(build, axes, steps=500, executor=executor))
print(chart.outcome.values.tolist(), cli.main(["list", "games"]))
"""
    printed = run_without([*MODULES, "dask", "distributed"], code)
    assert "[0, 0, 0, 0, 0]" in printed and "DiracGAN" in printed


@pytest.mark.slow_cases("google_crc32c", "cloudpickle")
@pytest.mark.parametrize("module", ["google_crc32c", "cloudpickle"])
def test_a_missing_package_is_named_with_its_extra(module):
    code = """
import tempfile
def tried(**options):
    try:
        dy.sweep(lambda rate: print("built"), axes, steps=50, **options)
    except ImportError as error:
        print(error)
from dynamics.ensembles import local_workers
with tempfile.TemporaryDirectory() as folder, local_workers(1) as executor:
    tried(**({"executor": executor} if MISSING == ["cloudpickle"] else {"store": folder + "/run.zarr"}))
"""
    use, extra = ("executor=", "workers") if module == "cloudpickle" else ("store=", "stores")
    expected = f'{use} needs {module}, which is not installed; pip install "dynamics[{extra}]"'
    assert run_without([module], code).strip() == expected  # before anything is built


@pytest.mark.slow_cases("haiku-from_haiku")
@pytest.mark.parametrize("module, use", [("flax", "from_nnx"), ("flax", "from_linen"), ("haiku", "from_haiku")])
def test_a_missing_library_of_networks_is_named_with_its_extra(module, use):
    code = f"""
try:
    dy.networks.{use}(*[None] * {1 if use == "from_nnx" else 2})
except ImportError as error:
    print(error)
"""
    expected = f'{use} needs {module}, which is not installed; pip install "dynamics[{module}]"'
    assert run_without([module], code).strip() == expected


def test_the_digits_need_their_extra():
    code = """
try:
    dy.data.digits()
except ImportError as error:
    print(error, dy.data.ring.__name__)
"""
    expected = 'dynamics.data.digits needs sklearn, which is not installed; pip install "dynamics[data]" ring'
    assert run_without(["sklearn"], code).strip() == expected


def test_an_error_within_a_package_is_not_hidden(tmp_path, monkeypatch):
    from dynamics._extras import optional

    (tmp_path / "half_installed.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        optional("half_installed", "stores", "store=")


def test_extras_are_installed_for_the_tests():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        names = [re.split("[>=!~;]", requirement)[0].replace("-", "_") for requirement in extras[extra]]
        assert tuple(sorted(names)) == modules
        assert not set(names) & {re.split("[>=!~;]", each)[0].replace("-", "_") for each in project["dependencies"]}
    (own,) = [requirement for requirement in extras["test"] if requirement.startswith("dynamics[")]
    assert set(own.removeprefix("dynamics[").removesuffix("]").split(",")) == set(EXTRAS)
