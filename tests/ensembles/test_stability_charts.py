"""Charts of stability against `dynamics.stability` cell by cell, and the closed form against exact arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis import EquilibriumError
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE
from dynamics.ensembles import Predicted, Smoothness, charts, prediction, seeds

# The closed form


def asymmetric_matrices(is_map, count):
    """Ordinary, non-normal, defective, nearly defective and double ones, many of them next to the boundary."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        near = float(is_map) + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-17, 0)
        near = -near if is_map and rng.random() < 0.3 else near
        other, scale = rng.normal(), 10.0 ** rng.uniform(-8, 8)
        turn, small = rng.uniform(0, 3), 10.0 ** rng.uniform(-16, -2)
        vectors = rng.normal(size=(2, 2)) if index % 7 == 4 else np.array([[1, 1], [0, small]])
        values = np.diag([near, other if index % 7 == 4 else near + small * other])
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * near
        rotation = rotation if is_map else np.array([[near, -turn], [turn, near]])
        found.append(
            [
                rng.normal(size=(2, 2)) * 10.0 ** rng.uniform(-3, 3),
                np.array([[near, scale], [0, near]]),
                np.array([[near, 0], [scale, other]]),
                near * np.eye(2),
                vectors @ values @ np.linalg.inv(vectors),
                rotation * np.array([[1, 10 * small], [0.1 / small, 1]]) if small > 1e-9 else rotation,
                vectors @ values @ np.linalg.inv(vectors),
            ][index % 7]
        )
    return np.array(found)


def exact_side(matrix, is_map):
    """-1, 0 or 1: inside, on or outside the boundary, by the criteria of Jury or of Routh and Hurwitz in fractions."""
    a, b, c, d = (Fraction(float(entry)) for entry in matrix.ravel())
    trace, determinant = a + d, a * d - b * c
    tests = (1 - determinant, 1 + determinant + trace, 1 + determinant - trace) if is_map else (-trace, determinant)
    return -1 if min(tests) > 0 else 1 if min(tests) < 0 else 0


def test_verdicts_in_arrays_have_the_names_of_verdicts():
    assert {verdict.name for verdict in Predicted} == {verdict.name for verdict in dy.analysis.Verdict} | {"none"}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("is_map", [True, False], ids=["map", "flow"])
def test_no_proof_in_closed_form_is_wrong(is_map, dtype):
    matrices, boundary = asymmetric_matrices(is_map, 4000).astype(dtype), UNIT_CIRCLE if is_map else IMAGINARY_AXIS
    with np.errstate(all="ignore"):
        proved, left, reach, rate, rotation = prediction._proved(matrices, boundary)
        other = prediction._proved_by_eigenvectors(matrices, boundary)
    sides = np.where(reach < float(is_map), -1, 1)
    assert [exact_side(matrix, is_map) for matrix in matrices[proved]] == sides[proved].tolist()
    # What is decided either way agrees, and the closed form leaves less open.
    both = ~left & ~other[1]
    assert np.mean(proved[both] == other[0][both]) > 0.999 and left.sum() < other[1].sum()
    norms = np.linalg.norm(matrices.astype(float), axis=(1, 2))
    assert np.max(np.abs(reach - other[2]) / norms, where=both, initial=0) < 1e-12
    assert np.max(np.abs(rotation - other[4]) / (1 + norms), where=both & proved, initial=0) < 1e-9


def test_entries_whose_squares_leave_the_range():
    matrices = np.array([[[1e-200, 3e-200], [-1e-200, 2e-200]], [[1e180, 1.0], [2e180, -1e180]], np.zeros((2, 2))])
    with np.errstate(all="ignore"):
        proved, left, reach, rate, _ = prediction._proved(matrices, UNIT_CIRCLE)
    np.testing.assert_allclose(reach, [np.sqrt(5) * 1e-200, 1e180, 0], rtol=1e-12)
    assert proved[[0, 2]].all() and rate[2] == -np.inf


def test_small_eigenvalues_of_flows_keep_their_digits():
    found = prediction._proved(np.array([[[-1.0, 1e-3], [1e-9, -1e-12 - 1e-12]]]), IMAGINARY_AXIS)
    exact = -np.sqrt((0.5 - 1e-12) ** 2 + 1e-12) - 0.5 - 1e-12
    np.testing.assert_allclose(found[2], (2e-12 - 1e-12) / exact, rtol=1e-12)


# Charts


CASES = {
    "ordinary": ([[0.3, 1.1], [-0.8, 0.5]], {}),
    "outside": ([[-0.3, 1.1], [-0.8, 0.5]], {}),
    "beyond -1": ([[2.5, 0.2], [0.1, 0.5]], {}),
    "non-normal": ([[0.1, 1e4], [0, 0.3]], {}),
    "more so": ([[0.1, 1e9], [0, 0.1 + 1e-9]], {}),
    "double": ([[0.4, 0], [0, 0.4]], {}),
    "double, defective": ([[0.4, 2.0], [0, 0.4]], {}),
    "nearly defective": ([[0.4, 2.0], [1e-15, 0.4]], {}),
    "defective at the boundary": ([[2e-8, 1.0], [0, 2e-8]], {}),
    "next to the boundary": ([[1e-9, 0.2], [0, 0.3]], {}),
    "next to it, outside": ([[-1e-9, 0.2], [0, 0.3]], {}),
    "closer than rounding": ([[1e-15, 0.2], [0, 0.3]], {}),
    "on it": ([[0, 1.0], [-2.0, 0]], {}),
    "a manifold": ([[0, 0], [0.3, 0.7]], {}),
    "all of it": ([[0, 0], [0, 0]], {}),
    "a kink": ([[0.3, 0.2], [0.1, 0.5]], {"kink": 0.3}),
    "a faint kink": ([[0.3, 0.2], [0.1, 0.5]], {"kink": 1e-13}),
    "a jump": ([[0.3, 0.2], [0.1, 0.5]], {"jump": 0.1}),
    "bent": ([[0.3, 0.2], [0.1, 0.5]], {"bend": 2.0}),
    "stiff": ([[0.3, 0.2], [0.1, 0.5]], {"bend": 1e8}),
    "no equilibrium": ([[0.3, 0.2], [0.1, 0.5]], {"tilt": 0.1}),
    "almost none": ([[0.3, 0.2], [0.1, 0.5]], {"tilt": 1e-12}),
}


class Doubtful(dy.Game):
    """A game with a given matrix and with what makes a linearisation doubtful, at (0, 0)."""

    matrix: jax.Array
    kink: jax.Array
    jump: jax.Array
    bend: jax.Array
    tilt: jax.Array

    def losses(self, players, key=None):
        x, y = players
        (a, b), (c, d) = self.matrix
        first = a * x**2 / 2 + b * x * y + self.kink * jnp.where(x > 0, x**2, 0) + self.jump * jnp.where(x > 0, x, 0)
        return first + self.tilt * x, c * x * y + d * y**2 / 2 + jnp.cos(self.bend * y) / (1 + self.bend**2)

    def equilibria(self):
        return ((jnp.zeros((), self.matrix.dtype),) * 2,)

    @classmethod
    def example(cls):
        return cls(jnp.eye(2), *jnp.zeros((4,))), (1.0, 1.0)


def planar(a, b, c, d, **more):
    game = Doubtful(jnp.array([[a, b], [c, d]]), **more)
    return game, dy.updates.Simultaneous(optimisers.sgd(1.0), optimisers.sgd(1.0)), (1.0, 1.0)


def flow(**numbers):
    return planar(**numbers)[0], dy.flows.Flow(), (1.0, 1.0)


def axes_of(cases):
    names = ("kink", "jump", "bend", "tilt")
    rows = [[*np.ravel(matrix), *(more.get(name, 0.0) for name in names)] for matrix, more in cases.values()]
    return dict(zip(("a", "b", "c", "d", *names), np.array(rows).T, strict=True))


def check_cell(cell, game, method, at=None):
    """As `dynamics.stability` has it, but that pieces at a kink and sides of a jump are not judged."""
    verdict, smoothness = Predicted(int(cell.predicted_verdict)).name, Smoothness(int(cell.predicted_smoothness)).name
    try:
        report = dy.stability(game, method, at=at, order="linear")
    except EquilibriumError:
        assert (verdict, smoothness) == ("none", "none") and np.isnan(cell.predicted_rate)
        return
    assert smoothness == report.smoothness.replace(" ", "_")
    if report.pieces is not None:
        assert verdict == "none"
        return
    if report.sliding is not None:
        assert verdict == "marginal"
        return
    assert verdict == report.verdict
    reach, expected = ("radius", report.radius) if report.kind == "map" else ("abscissa", report.abscissa)
    scale = 1e-12 * (1 + np.linalg.norm(report.jacobian))
    # An eigenvalue that is nearly double is known to half the digits, whoever computes it.
    scale = max(scale, 1e-6 if np.ptp(np.abs(report.eigenvalues)) < 1e-4 else 0)
    np.testing.assert_allclose(cell[f"predicted_{reach}"], expected, rtol=0, atol=scale)
    np.testing.assert_allclose(cell.predicted_rate, report.rate, rtol=0, atol=10 * scale)
    np.testing.assert_allclose(cell.predicted_rotation, report.rotation, rtol=0, atol=10 * scale)


@pytest.mark.slow_cases("planar")
@pytest.mark.slow_cases("flow")
@pytest.mark.parametrize("build", [planar, flow])
def test_cells_are_those_of_stability(build):
    axes = axes_of(CASES)
    found = dy.stability_chart(build, axes, design="zip")
    assert set(found) == {
        *("predicted_verdict", "predicted_smoothness", "predicted_rate", "predicted_rotation"),
        "predicted_radius" if build is planar else "predicted_abscissa",
    }
    for index, name in enumerate(CASES):
        arguments = {axis: jnp.asarray(values[index]) for axis, values in axes.items()}
        try:
            check_cell(found.isel(cell=index), *build(**arguments)[:2])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert set(found.predicted_verdict.values) == {-1, 0, 1, 2}
    assert set(found.predicted_smoothness.values) >= {-1, 0, 2, 3}


@pytest.mark.slow
def test_single_precision_only_makes_verdicts_more_cautious():
    rng = np.random.default_rng(1)
    cases = {index: (rng.normal(size=(2, 2)) + 0.6 * np.eye(2), {}) for index in range(24)}
    axes = axes_of(cases)
    single = dy.stability_chart(planar, axes, design="zip", dtype=np.float32)
    assert single.attrs["dtype"] == "float32"
    for index in range(24):
        arguments = {axis: np.float32(values[index]) for axis, values in axes.items()}
        report = dy.stability(*planar(**arguments)[:2], order="linear")
        assert Predicted(int(single.predicted_verdict[index])).name == report.verdict
        np.testing.assert_allclose(single.predicted_radius[index], report.radius, rtol=1e-6)
    assert {0, 1} <= set(single.predicted_verdict.values)


def dirac(rate, weight, turn):
    update = dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(2 * rate))
    return dy.games.DiracGAN(penalty=dy.penalties.R1(weight + 0 * turn)), update, (1.0, 1.0)


@pytest.mark.slow
def test_rows_of_a_grid_are_the_cells_side_by_side():
    rates, weights = np.linspace(0.05, 3, 3), np.linspace(0, 2, 400)
    grid = dy.stability_chart(dirac, {"turn": [0.0, 1.0], "rate": rates, "weight": weights})
    assert grid.predicted_verdict.dims == ("turn", "rate", "weight") and grid.attrs["kind"] == "map"
    assert grid.predicted_radius.attrs["units"] == "1" and grid.predicted_rotation.attrs["units"] == "rad/step"
    flat = {"rate": np.repeat(rates, 400), "weight": np.tile(weights, 3), "turn": 0.0}
    aside = dy.stability_chart(dirac, flat, design="zip")
    for turn in range(2):
        np.testing.assert_array_equal(grid.predicted_verdict[turn].values.ravel(), aside.predicted_verdict)
        np.testing.assert_allclose(grid.predicted_radius[turn].values.ravel(), aside.predicted_radius, rtol=1e-12)
    for place in ((0, 0), (1, 17), (2, 399), (2, 3)):
        check_cell(grid.isel(turn=1, rate=place[0], weight=place[1]), *dirac(rates[place[0]], weights[place[1]], 0)[:2])
    # The same chart with other numbers compiles nothing.
    programs = []

    def listen(event, duration, **_):
        programs.append(event) if event == "/jax/core/compile/backend_compile_duration" else None

    jax.monitoring.register_event_duration_secs_listener(listen)
    dy.stability_chart(dirac, {"turn": [0.0, 1.0], "rate": 2 * rates, "weight": weights})
    assert not programs


@pytest.mark.slow_cases("jax.nn.softplus")
@pytest.mark.parametrize("own_losses", [False, True], ids=["objective", "jax.nn.softplus"])
def test_comparisons_inside_smooth_functions_leave_the_closed_form_to_decide(own_losses, monkeypatch):
    """softplus and sigmoid compare their argument with 0, which it is at the equilibrium of most GANs."""

    def judged(chart, places, *_):
        raise AssertionError(f"{len(places)} cells are left open")

    def build(rate, weight):
        game = dy.games.DiracGAN(penalty=dy.penalties.R1(weight))
        if own_losses:

            def losses(players, key=None):
                x, y = players
                return -jax.nn.softplus(x * y), jax.nn.softplus(x * y) + weight * y**2 / 2

            game = dy.Game.from_losses(losses, [(0.0, 0.0)])
        return game, dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(rate / 2)), (1.0, 1.0)

    monkeypatch.setattr(charts._Chart, "judged", judged)
    dy.stability_chart(build, {"rate": np.linspace(0.07, 3, 20), "weight": np.linspace(0.01, 2, 20)})


@pytest.mark.slow
def test_larger_states_are_judged_as_sweeps_do():
    def build(rate, memory, key):
        matrix = jnp.array([[1.0, 2.0], [-1.0, 0.5]]) + 0.1 * jax.random.normal(key, (2, 2))
        game = dy.games.Quadratic([[matrix[i, j] for j in range(2)] for i in range(2)])
        return game, dy.updates.Simultaneous(optimisers.momentum(rate, memory), optimisers.sgd(rate)), (1.0, 1.0)

    axes = {"rate": [0.05, 0.3, 2.0], "memory": [-0.2, 0.5], "key": seeds(2)}
    found = dy.stability_chart(build, axes)
    for i, rate in enumerate(axes["rate"]):
        for j, memory in enumerate(axes["memory"]):
            check_cell(found.isel(rate=i, memory=j, key=1), *build(rate, memory, jax.random.key(1))[:2])
    assert set(found.predicted_verdict.values.ravel()) == {0, 1}


def test_what_is_refused():
    with pytest.raises(ValueError, match="did you mean 'rate'"):
        dy.stability_chart(dirac, {"rat": [0.1], "weight": 0.1, "turn": 0})
    with pytest.raises(ValueError, match="nothing to predict: .*knows none of its equilibria"):
        unknown = dy.Game.from_losses(lambda players, key=None: (players[0] ** 2,))
        dy.stability_chart(lambda rate: (unknown, dy.updates.Simultaneous(optimisers.sgd(rate))), {"rate": 0.1})
    with pytest.raises(ValueError, match="nothing to predict: 300 numbers"):
        zero = jnp.zeros(300)
        wide = dy.Game.from_losses(lambda players, key=None: (jnp.sum(players[0] ** 2),), [(zero,)])
        dy.stability_chart(lambda rate: (wide, dy.updates.Simultaneous(optimisers.sgd(rate)), (zero,)), {"rate": 0.1})
    with pytest.raises(ValueError, match="'predicted_rotation' is the name of a variable"):
        dy.stability_chart(lambda predicted_rotation: None, {"predicted_rotation": 0.1})
    with pytest.raises(TypeError, match="build is 3"):
        dy.stability_chart(3, {"rate": 0.1})


def test_a_build_that_draws_its_players_is_taken_as_it_is():
    def build(rate, start_key):
        game = dy.games.Quadratic([[1.0]])
        return game, dy.updates.Simultaneous(optimisers.sgd(rate)), (jax.random.normal(start_key),)

    found = dy.stability_chart(build, {"rate": [0.5, 3.0]})
    np.testing.assert_allclose(found.predicted_radius, [0.5, 2.0], rtol=1e-12)
    assert found.predicted_verdict.values.tolist() == [0, 1] and found.predicted_rotation[1] == pytest.approx(np.pi)


PLANAR = ("DiracGAN", "Forsaken", "Market", "PlanarQuadratic", "PolynomialGame", "SpuriousAttractor", "Tandem", "Torus")
METHODS = {
    "simultaneous": lambda rate: dy.updates.Simultaneous(optimisers.sgd(rate), optimisers.sgd(2 * rate)),
    "alternating": lambda rate: dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(0.5 * rate)),
    "extragradient": lambda rate: dy.updates.Extragradient(
        optimisers.sgd(rate), optimisers.sgd(2 * rate), extrapolation=(rate, 0.7 * rate)
    ),
    "consensus": lambda rate: dy.updates.Alternating(
        optimisers.sgd(rate), optimisers.sgd(rate), direction=dy.directions.Consensus(0.3)
    ),
    "flow": lambda rate: dy.flows.Flow(rates=(1.0, rate)),
    "alternating flow": lambda rate: dy.flows.AlternatingFlow(rate),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PLANAR)
def test_catalogued_games(name, method):
    game, players = getattr(dy.games, name).example()
    rates = np.array([1e-3, 0.05, 0.3, 0.7, 1.0, 1.5, 2.0, 4.0])
    found = dy.stability_chart(lambda rate: (game, METHODS[method](rate), players), {"rate": rates})
    nearest = min(game.equilibria(), key=lambda point: np.linalg.norm(np.subtract(point, players)))
    for index, rate in enumerate(rates):
        check_cell(found.isel(rate=index), game, METHODS[method](rate), nearest)
