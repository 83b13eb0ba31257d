"""The shape of the library: who imports whom, who loops, what is configured, and what is compiled again."""

import ast
import functools
import graphlib
import pathlib
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiled

import dynamics as dy
from dynamics import optimisers

ROOT = pathlib.Path(dy.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))


def table(heading: str) -> list[str]:
    """Rooms and modules in the first column of a table of the README, from the top down."""
    text = (ROOT / "README.md").read_text()
    rows = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [name.strip("/").removesuffix(".py") for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


# A room may import from those above it in the table, in no matter which way, and from none that stands below.
RANK = {room: rank for rank, room in enumerate(table("| room | holds |"))}
ANALYSIS = {room: rank for rank, room in enumerate(table("| room of `analysis/` |"))}


def room_of(path: pathlib.Path) -> str:
    """The room of a file; a program that shows what a room does is an application, wherever it lies."""
    if path.name == "__main__.py":
        return "__main__"
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def nodes_of(path: pathlib.Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: pathlib.Path) -> list[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def calls(path: pathlib.Path) -> list[str]:
    """Dotted names of everything that a file calls."""
    return [ast.unparse(node.func) for node in nodes_of(path) if isinstance(node, ast.Call)]


def test_every_room_has_its_row():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(RANK)
    inside = {path.relative_to(ROOT / "analysis").parts[0] for path in FILES if room_of(path) == "analysis"}
    assert {name.removesuffix(".py") for name in inside} - {"__init__"} == set(ANALYSIS)


def order(path: pathlib.Path) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    """The tables that say what a file may import: names of a package, and the ranks of what is in it."""
    return [(("dynamics",), RANK), *[(("dynamics", "analysis"), ANALYSIS)] * (room_of(path) == "analysis")]


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "__init__"], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards(path):
    for package, ranks in order(path):
        inside = path.relative_to(ROOT.parent).parts[len(package)].removesuffix(".py")
        own = room_of(path) if package == ("dynamics",) else inside
        for name in imported(path):
            parts = tuple(name.split("."))
            if own in ranks and parts[: len(package)] == package and parts[len(package) :][:1]:
                other = parts[len(package)]
                assert ranks.get(other, 0) <= ranks[own], f"{path.name} imports {name}"


def module_of(path: pathlib.Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def test_files_import_each_other_in_no_circle():
    """Nowhere in them, inside of functions neither."""
    names = {module_of(path) for path in FILES}
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        arrows[module_of(path)] = set()
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                arrows[module_of(path)] |= {name if name in names else node.module for name in whole}
    graphlib.TopologicalSorter(arrows).prepare()  # CycleError


def test_private_names_stay_in_their_file():
    """A module may be private to the library (`_trees`); a function or class with an underscore is to its file."""
    for path in FILES:
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dynamics":
                folder = ROOT.parent.joinpath(*node.module.split("."))
                names = [alias.name for alias in node.names if re.match("_(?!_)", alias.name)]
                private = [name for name in names if not ((folder / name).is_dir() or (folder / f"{name}.py").exists())]
                assert not private, f"{path.name} imports {private} of {node.module}"


def test_only_plots_imports_matplotlib():
    users = {room_of(path) for path in FILES if any(name.split(".")[0] == "matplotlib" for name in imported(path))}
    assert users <= {"plots"}


# What JAX may change without notice, and where alone it is used. Names of parameters of its primitives among it.
UNSTABLE_MODULES = {"extend", "interpreters", "ffi", "_src"}
UNSTABLE_ATTRIBUTES = {"get_bind_params", "source_info", "debug_info"}
UNSTABLE_PARAMETERS = {
    *("jaxpr", "call_jaxpr", "fun_jaxpr", "cond_jaxpr", "body_jaxpr", "branches"),
    *("cond_nconsts", "body_nconsts", "num_consts", "num_carry", "ft_in", "ft_out"),
}


def unstable_names(path: pathlib.Path) -> set[str]:
    """What a file uses of the above: modules it imports or reaches by attributes, and strings."""
    found = {name for name in imported(path) if name.split(".")[0] == "jax" and UNSTABLE_MODULES & {*name.split(".")}}
    for node in nodes_of(path):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "jax" and node.attr in UNSTABLE_MODULES:
                found.add(f"jax.{node.attr}")
            elif node.attr in UNSTABLE_ATTRIBUTES:
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in UNSTABLE_PARAMETERS:
            found |= {node.value} - {"jaxpr"}  # a word like any other, but as a key
        elif isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "'jaxpr'":
            found.add("jaxpr")
        elif isinstance(node, ast.arg) and node.arg in UNSTABLE_PARAMETERS - {"jaxpr", "branches"}:
            found.add(node.arg)
    return found


def test_one_file_touches_what_jax_may_change():
    users = {str(path.relative_to(ROOT)): names for path in FILES if (names := unstable_names(path))}
    assert users.pop("compiler/_jax.py") >= {"jax.extend", "jax.ffi", "jax.interpreters.mlir", "cond_nconsts"}
    assert not users


# Loops outside the simulation: settling of memory and Newton's method for the rest of a flow's memory. The inner steps
# of an unrolled direction are one evaluation of it, no simulation.
# So are those of a method: lookahead's cycle, and the solution of an implicit step.
ALLOWED_LOOPS = {
    "updates/lookahead.py": {"jax.lax.scan"},
    "updates/proximal_point.py": {"optx.root_find"},
    "analysis/stability/rest.py": {"jax.lax.while_loop", "jax.lax.fori_loop", "jax.lax.scan"},
    "analysis/stability/periods.py": {"jax.lax.scan"},  # of counters
    "analysis/stability/linearisation.py": {"jax.lax.fori_loop"},  # the power method for the curvature of a switch
    "compiler/derivatives.py": {"jax.lax.while_loop", "jax.lax.scan"},  # those of a program that it evaluates
    "compiler/data_flow.py": {"jax.lax.scan"},  # those of a program
    "ensembles/cells.py": {"jax.lax.fori_loop"},  # over blocks
    # those of a program that they rewrite:
    "compiler/batch/interpreter.py": {"jax.lax.while_loop", "jax.lax.scan"},
    "compiler/__main__.py": {"jax.lax.fori_loop"},  # a run that is shown
    "compiler/llvm/trial_program.py": {"jax.lax.fori_loop"},  # a program that is tried
    "compiler/nvptx/first_use.py": {"jax.lax.fori_loop", "jax.lax.scan"},  # a program that is tried
    "analysis/equilibria/minima.py": {"jax.lax.fori_loop"},  # along a valley, and to the lowest point of a sphere
    "analysis/equilibria/newton.py": {"optx.root_find"},
    "analysis/equilibria/search.py": {"optx.root_find"},
    "analysis/spectra/krylov.py": {"jax.lax.fori_loop"},  # over the rows of a basis
    "analysis/spectra/bounds.py": {"jax.lax.fori_loop"},  # over the powers of a matrix
    "analysis/spectra/inverses.py": {"jax.lax.fori_loop"},  # over the rows of a basis
    "analysis/stability/leading.py": {"jax.lax.scan"},  # over difference quotients
    "analysis/spectra/exponential.py": {"jax.lax.fori_loop"},  # over the terms of a series
    "directions/unrolled.py": {"jax.lax.scan"},
    "function_space/kernel_flows.py": {"jax.lax.scan"},  # over the vectors of a basis
    "function_space/kernels/pairs.py": {"jax.lax.scan"},  # over the points of a set
    "games/hermite_gan.py": {"jax.lax.scan"},  # the recurrence of polynomials
    "micro_batches.py": {"jax.lax.scan"},  # over the pieces of a batch
    "objectives/f_divergences.py": {"jax.lax.fori_loop"},  # bisection for the conjugate of anybody's f
    "objectives/_comparisons.py": {"jax.lax.fori_loop"},  # for the best scores
    "training/loop.py": {"jax.lax.while_loop"},
    "recurrence.py": {"jax.lax.while_loop"},  # a run that goes on for a while
}


def test_only_the_simulation_loops():
    loops = {"scan", "while_loop", "fori_loop", "diffeqsolve", "root_find", "associative_scan"}
    for path in FILES:
        name = str(path.relative_to(ROOT))
        found = {call for call in calls(path) if call.split(".")[-1] in loops}
        if not name.startswith("simulation/"):
            assert found <= ALLOWED_LOOPS.get(name, set()), name


def test_the_library_leaves_global_settings_alone():
    for path in FILES:
        if room_of(path) in {"cli", "__main__"}:  # an application, not the library
            continue
        for call in calls(path):
            assert not call.endswith("config.update"), path
            assert call not in {"np.seterr", "numpy.seterr", "warnings.simplefilter", "warnings.filterwarnings"}, path


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    assert run_python("import sys, dynamics; print('jax' in sys.modules, 'matplotlib' in sys.modules)") == "False False"


def test_functions_stay_functions():
    code = """
import dynamics.analysis.bifurcation.critical, dynamics.simulation, dynamics.analysis, dynamics.outcomes
import dynamics as dy
print(*(callable(x) for x in (dy.simulate, dy.stability, dy.critical, dy.find_equilibrium)))
"""
    assert run_python(code) == "True True True True"


def test_every_public_room_is_an_attribute():
    """Of the package alone, before anything else has imported it."""
    code = """
import pathlib, dynamics as dy
here = pathlib.Path(dy.__file__).parent
rooms = {p.stem for p in here.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
internal = {"cli", "compiler", "recurrence", "solver_watch", "surfaces"}
rooms = {room for room in rooms if not room.startswith("_")} - internal
print({room for room in rooms if room not in vars(dy) and room not in (*dy._MODULES, *dy._FURTHER)})
print(dy.analysis.__name__, dy.game.__name__, dy.reports.__name__)
"""
    assert run_python(code) == "set()\ndynamics.analysis dynamics.game dynamics.reports"


def test_public_names():
    assert set(dy.__all__) <= set(dir(dy))
    for name in dy.__all__:
        if name not in {"plots", "studies"}:
            assert getattr(dy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        dy.simulat  # noqa: B018


class Counting(dy.Game):
    """f = a x y + b (x^2 - y^2)/2 with a count of how often Python has looked at the losses."""

    a: jax.Array = eqx.field(converter=lambda x: jnp.asarray(x, float))
    b: jax.Array = eqx.field(converter=lambda x: jnp.asarray(x, float))

    def losses(self, players, key=None):
        COUNT.append(1)
        x, y = players
        value = self.a * x * y + self.b * (x**2 - y**2) / 2
        return value, -value

    def equilibria(self):
        return (dy.game.as_players((0.0, 0.0)),)

    @classmethod
    def example(cls):
        return cls(1.0, 0.1), (1.0, 1.0)


COUNT: list[int] = []


def updates(scale):
    one, two = optimisers.momentum(0.1 * scale, -0.3 * scale), optimisers.adam(0.2 * scale, 0.5, eps_root=1e-3 * scale)
    return dy.updates.Alternating(one, two, direction=dy.directions.Consensus(0.1 * scale))


METHODS = {
    "update": lambda scale: updates(scale),
    "extragradient": lambda scale: dy.updates.Extragradient(
        optimisers.sgd(0.1 * scale),
        optimisers.gap_aware_sgd(0.1 * scale, 1.3 * scale),
        extrapolation=(0.1 * scale, 0.2 * scale),
        projections=(None, dy.updates.Clip(3.0 * scale)),
    ),
    "flow": lambda scale: dy.flows.AlternatingFlow(0.1 * scale, rates=(1.0, 2.0 * scale)),
    "gap-aware flow": lambda scale: dy.flows.GapAwareFlow(1.2 * scale, 2.0 * scale, rates=(1.0, scale)),
}


@pytest.mark.slow_cases("flow", "gap-aware flow")
@pytest.mark.parametrize("name", METHODS)
def test_changed_numbers_compile_nothing(name):
    def once(scale):
        game, method = Counting(1.0 * scale, 0.1 * scale), METHODS[name](scale)
        duration = dict(until=3.0 * scale) if "flow" in name else dict(steps=20)
        run = dy.simulate(game, method, (1.0 * scale, 0.5), **duration)
        report = dy.stability(game, method, require_equilibrium=False)
        return np.asarray(run.final), report.eigenvalues

    first, spectrum = once(1.0)
    once(1.05)
    before = len(COUNT)
    with compiled() as programs:
        other, other_spectrum = once(1.1)
    assert programs.count == 0
    assert len(COUNT) - before <= 2  # the check of the players, and nothing else
    assert not np.allclose(first, other) and not np.allclose(spectrum, other_spectrum)


def test_a_new_shape_does_compile():
    """Otherwise the counter above would count nothing."""
    with compiled() as programs:
        jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.zeros(17))
    assert programs.count > 0


def test_a_matrix_is_a_number_too():
    update = dy.updates.Simultaneous(optimisers.sgd(0.1), optimisers.sgd(0.2))

    def once(seed):
        game = dy.games.Bilinear(np.random.default_rng(seed).normal(size=(2, 3)))
        return dy.simulate(game, update, (np.ones(2), np.ones(3)), steps=20).final

    once(0), once(1)
    with compiled() as programs:
        once(2)
    assert programs.count == 0
