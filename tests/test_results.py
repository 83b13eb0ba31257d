"""Everything that a public function finds out describes itself, and is plain data; tables and series are xarray's or
pandas' as well."""

import importlib
import inspect
import json
import pathlib
import sys
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import metrics
from dynamics._printing import Printed

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "docs"))

from _site import names  # noqa: E402

# What public functions return that is no result: a part of a question, not of an answer. Components (`Printed`) and
# games, networks and distributions among `equinox.Module` are none either.
QUESTIONS = {
    "Animation", "Claim", "Comparison", "Experiment", "Interval", "Ladder", "Linearisation", "Radius", "Reference",
    "Seeds", "Shares", "SpectralStudy", "Spread", "Study", "Survey", "TrainingLoop",
}  # fmt: skip
MODULES = {"Classifier", "Graph", "KernelFunction", "Operator", "Sample", "SplitModule", "WideNetwork"}
# Results along an axis, and results of several rows; all others are single answers.
SERIES = {
    "Basins", "Growth", "Landscape", "PathAngle", "Pseudospectrum", "Results", "Run", "SpectraOverBatches",
    "SpectrumPath", "Training", "WidthErrors",
}  # fmt: skip
TABLES = {"Checks", "MethodComparison"}
SINGLE = {
    "Alignment", "Best", "Classification", "ClassificationAccuracy", "Critical", "DensityCoverage",
    "DifferentBins", "Distance", "Equilibrium", "Examination", "HistogramDivergences", "InceptionScore", "Judged",
    "KernelDistance", "Kreiss", "LabelCoverage", "LeadingStability", "LyapunovExponents", "ModeCoverage",
    "NashEquilibria", "PotentialAndHamiltonian", "PrecisionRecall", "Result", "RoundingFloor", "Sensitivity", "Sliding",
    "Stability", "StationaryCovariance", "TimescaleThreshold",
}  # fmt: skip


def classes_in(annotation) -> set[type]:
    """The classes that an annotation names, in unions and collections as well."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return {annotation}
    return set().union(*map(classes_in, typing.get_args(annotation)), set())


def returned() -> set[type]:
    """The classes of this package that public functions, and methods of public classes, are annotated to return."""
    known = {"xr": None, "pd": None} | {
        name: getattr(importlib.import_module(module), name)
        for module, name in [
            ("dynamics.claims.search", "Result"),
            ("dynamics.studies.results", "Results"),
            ("dynamics.studies.results", "Judged"),
        ]
    }
    classes: set[type] = set()
    for module in names.modules():
        holder = importlib.import_module(module)
        for name in names.public(module):
            value = getattr(holder, name)
            functions = [value] if inspect.isfunction(value) else []
            if isinstance(value, type):
                functions = [f for key, f in vars(value).items() if inspect.isfunction(f) and not key.startswith("_")]
            for function in [signature for f in functions for signature in (f, *typing.get_overloads(f))]:
                annotation = inspect.get_annotations(function).get("return")
                if isinstance(annotation, str):
                    try:
                        annotation = eval(annotation, vars(sys.modules[function.__module__]) | known)
                    except (NameError, AttributeError):  # of another package, imported for type checkers alone
                        annotation = None
                classes |= classes_in(annotation)
    return {cls for cls in classes if cls.__module__.startswith("dynamics") and not inspect.isabstract(cls)}


def is_component(cls: type) -> bool:
    return issubclass(cls, Printed) or issubclass(cls, eqx.Module) and cls.__name__ in MODULES


RESULTS = sorted(
    (cls for cls in returned() if not is_component(cls) and cls.__name__ not in QUESTIONS),
    key=lambda cls: (cls.__name__, cls.__module__),
)


def test_every_result_has_its_kind():
    """A new class is listed: among the series, the tables, or the single answers."""
    assert {cls.__name__ for cls in RESULTS} == SERIES | TABLES | SINGLE


@pytest.mark.parametrize("cls", RESULTS, ids=lambda cls: cls.__name__)
def test_every_result_describes_itself_and_is_plain_data(cls):
    assert callable(getattr(cls, "describe", None)), f"{cls.__name__} has no describe()"
    assert callable(getattr(cls, "to_dict", None)), f"{cls.__name__} has no to_dict()"
    if cls.__name__ in SERIES:
        assert callable(getattr(cls, "to_xarray", None)), f"{cls.__name__} has no to_xarray()"
    if cls.__name__ in TABLES:
        assert callable(getattr(cls, "to_dataframe", None)), f"{cls.__name__} has no to_dataframe()"


GAME = dy.games.DiracGAN(penalty=dy.penalties.R1(0.3))
UPDATE = dy.updates.Alternating(dy.optimisers.sgd(0.1), dy.optimisers.sgd(0.2))


def weighted(weight):
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight)), dy.flows.Flow()


def stepping(step):
    return GAME, dy.updates.Simultaneous(dy.optimisers.sgd(step), dy.optimisers.sgd(step))


EXAMPLES = {
    "stability": lambda: dy.stability(GAME, UPDATE),
    "critical": lambda: dy.critical(stepping, 0.5, 2.0, samples=5),
    "find_equilibrium": lambda: dy.find_equilibrium(GAME, (0.5, 0.25)),
    "spectrum_path": lambda: dy.spectrum_path(weighted, 0.5, 2.0, 4),
    "transient_growth": lambda: dy.transient_growth(np.array([[0.5, 3.0], [0.0, 0.4]]), kind="map"),
    "pseudospectrum": lambda: dy.pseudospectrum(np.array([[0.5, 3.0], [0.0, 0.4]]), points=5, kind="map"),
    "path_angle": lambda: dy.path_angle(GAME, (1.0, 1.0), (0.0, 0.0)),
    "compare": lambda: dy.compare(GAME, {"alternating": UPDATE}, (1.0, 1.0), steps=50),
    "nash": lambda: dy.games.MatchingPennies().nash_equilibria(),
    "precision_recall": lambda: metrics.precision_recall([0.0, 1.0, 2.0, 10.0], [0.5, 1.5], neighbours=1),
    "mode_coverage": lambda: metrics.mode_coverage([0.0, 5.0], centres=[0.0, 5.0], spread=0.1),
    "claim": lambda: dy.claims.search(dy.claims.find("folklore/averaging-helps"), examples=5),
}  # fmt: skip


QUICK = {"stability", "find_equilibrium", "transient_growth", "pseudospectrum", "nash", "precision_recall"}


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in EXAMPLES])
def test_results_are_readable_and_data(name):
    result = EXAMPLES[name]()
    assert 0 < len(result.describe().splitlines()) <= 40
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_run_as_data():
    """The numbers of `to_xarray` and `to_dict` are those of the run."""
    game = dy.Game.from_losses(lambda players, key=None: (players[0]["a"] @ players[1], -jnp.sum(players[1] ** 2)))
    start = ({"a": jnp.array([1.0, 2.0])}, jnp.array([0.5, -0.5]))
    measures = {"norm": lambda game, players: jnp.linalg.norm(players[1])}
    update = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.2))
    run = dy.simulate(game, update, start, steps=6, save_every=2, measures=measures)
    data = run.to_xarray()
    assert data["step"].values.tolist() == [0, 2, 4, 6]
    assert data["player_0.a"].shape == (4, 2) and data["loss"].dims == ("step", "player")
    np.testing.assert_array_equal(data["player_1"].values, run.players[1])
    np.testing.assert_array_equal(data["loss"].values[:, 1], run.losses[1])
    np.testing.assert_array_equal(data["norm"].values, run.measures["norm"])
    plain = run.to_dict()
    json.dumps(plain, allow_nan=False)
    assert plain["outcome"] == dy.Outcome(int(run.outcome)).name
    assert plain["saved"]["player_0.a"] == np.asarray(run.players[0]["a"]).tolist()


@pytest.mark.slow
def test_a_batch_of_runs_as_data():
    runs = jax.vmap(lambda x: dy.simulate(GAME, UPDATE, (x, x), steps=4, save_every=2))(jnp.array([0.1, 0.2, 0.3]))
    data = runs.to_xarray()
    assert dict(data.sizes) == {"run": 3, "step": 3, "player": 2}
    assert data["outcome"].dims == ("run",) and data["step"].values.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(data["player_0"].values, runs.players[0])
    json.dumps(runs.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_series_and_tables_have_the_numbers():
    path = dy.spectrum_path(weighted, 0.5, 2.0, 4)
    np.testing.assert_array_equal(path.to_xarray()["eigenvalue"].sel(parameter=0.5).values, path.eigenvalues[0])
    window = dy.pseudospectrum(np.array([[0.5, 3.0], [0.0, 0.4]]), points=5, kind="map")
    picked = window.to_xarray()["smallest"].isel(imaginary=1, real=3)
    shifted = complex(picked["real"], picked["imaginary"]) * np.eye(2) - [[0.5, 3.0], [0.0, 0.4]]
    assert float(picked) == pytest.approx(np.linalg.svd(shifted, compute_uv=False)[-1])
    comparison = dy.compare(GAME, {"alternating": UPDATE, "flow": dy.flows.Flow()}, (1.0, 1.0), steps=50)
    assert comparison.runs["flow"].to_xarray()["player_1"].dims == ("time",)
    assert comparison.to_dataframe().set_index("method").loc["flow", "verdict"] == "stable"
    assert "<table" in comparison._repr_html_() and "alternating" in comparison._repr_html_()


@pytest.mark.slow
def test_basins_as_data():
    grid = dy.basins(
        dy.games.DiracGAN(penalty=dy.penalties.R1(1.0)), UPDATE, (-1.0, -1.0), (1.0, 1.0), points=(3, 4), steps=200
    )
    data = grid.to_xarray()
    assert data["destination"].shape == (3, 4) and data["end"].shape == (3, 4, 2)
    np.testing.assert_array_equal(data["destination"].values, grid.labels)
    assert set(data.coords) == set(grid.axis_names)
