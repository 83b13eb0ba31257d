"""What every member of every catalogue keeps to."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import equinox as eqx
import jax
import pytest

import dynamics
from dynamics import catalogue

MEMBERS = [(room, name) for room in catalogue.ROOMS for name in catalogue.members(room)]


def base_of(room):
    _, module, name = catalogue.ROOMS[room]
    return getattr(importlib.import_module(module), name)


def modules():
    """The names of all modules of the package but the command line's entry point."""
    found = pkgutil.walk_packages(dynamics.__path__, "dynamics.")
    return [info.name for info in found if not info.name.endswith("__main__")]


def concrete_classes(room):
    """The concrete classes that the files of a room define."""
    package, base = catalogue.ROOMS[room][0], base_of(room)
    for name in modules():
        if name.startswith(f"{package}."):
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and value.__module__ == name and issubclass(value, base):
                    if not catalogue.is_abstract(value):
                        yield value


@pytest.mark.parametrize("room", catalogue.ROOMS)
def test_the_catalogue_is_complete(room):
    members = catalogue.members(room)
    assert members
    missing = {cls.__name__ for cls in concrete_classes(room) if members.get(cls.__name__) is not cls}
    assert not missing, f"import {', '.join(sorted(missing))} in {catalogue.ROOMS[room][0]}"


@pytest.mark.parametrize("room, name", MEMBERS)
def test_members_are_final(room, name):
    member = catalogue.find(room, name)
    assert member.__name__ == name
    assert issubclass(member, eqx.Module) and not inspect.isabstract(member)
    assert not [cls for cls in concrete_classes(room) if issubclass(cls, member) and cls is not member]
    ancestors = [cls for cls in member.__mro__[1:] if issubclass(cls, base_of(room))]
    assert all(catalogue.is_abstract(cls) for cls in ancestors)


@pytest.mark.parametrize("room, name", MEMBERS)
def test_members_say_in_one_sentence_what_they_are(room, name):
    member = catalogue.find(room, name)
    assert member.__doc__ and "__doc__" in vars(member), "the docstring is inherited"
    line = catalogue.summary(member)
    assert line[0].isupper() and line.endswith(".") and len(line) <= 120, line


def example(room, name):
    """An instance with the default numbers, or nothing when some have no default."""
    member = catalogue.find(room, name)
    if room == "games":
        return member.example()[0]
    needed = [
        parameter
        for parameter in inspect.signature(member).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return None if needed else member()


@pytest.mark.parametrize("room, name", [pair for pair in MEMBERS if pair[0] in ("games", "objectives", "penalties")])
def test_numbers_are_array_leaves(room, name):
    instance = example(room, name)
    assert instance is not None, "every hyper-parameter has a default"
    for path, leaf in jax.tree_util.tree_leaves_with_path(instance):
        assert isinstance(leaf, jax.Array), jax.tree_util.keystr(path)
    for field in type(instance).__dataclass_fields__.values():
        if field.metadata.get("static"):
            value = getattr(instance, field.name)
            assert not isinstance(value, (float, complex, jax.Array)), f"{field.name} would recompile when it changes"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="no catalogue is called 'penalty'; did you mean 'penalties'"):
        catalogue.members("penalty")
    with pytest.raises(ValueError, match="'wgan_gp' is not one of the penalties; did you mean 'WGANGP'"):
        catalogue.find("penalties", "wgan_gp")
    with pytest.raises(ValueError, match="expected one of .*Hinge"):
        catalogue.find("objectives", "zzzzzzzz")


IMPORT = """
import importlib, sys
import jax

before = dict(jax.config.values)
for name in sys.argv[1:]:
    importlib.import_module(name)
changed = {key for key, value in jax.config.values.items() if before.get(key) != value}
assert not changed, changed
jax.config.update("jax_num_cpu_devices", 2)  # an error once a backend is running
jax.config.update("jax_platforms", "cpu")
assert len(jax.devices()) == 2
"""


def test_importing_changes_nothing_and_starts_no_backend():
    environment = {"PATH": "/usr/bin:/bin", "MPLBACKEND": "agg", "HOME": "/tmp"}
    command = [sys.executable, "-c", IMPORT, *modules()]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_package_itself_does_not_import_jax():
    script = "import sys, dynamics; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize(
    "old, new",
    [
        ("dynamics.claims.check_update", dynamics.checks.check_update),
        ("dynamics.claims.strategies.numbers", dynamics.strategies.numbers),
        ("dynamics.claims.measures.agree", dynamics.checks.measures.agree),
        ("dynamics.directions.LookAhead", dynamics.directions.PolicyPrediction),
    ],
)
def test_old_names_work_for_one_release_and_say_so(old, new):
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is now dynamics"):
        assert getattr(importlib.import_module(module), name) is new
    with pytest.raises(AttributeError, match="no attribute 'check_updat'"):
        dynamics.claims.check_updat  # noqa: B018
