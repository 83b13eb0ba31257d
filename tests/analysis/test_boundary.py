"""Maps and flows differ in the boundary of stability alone, and one point is judged as many are."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import dynamics as dy
from dynamics.analysis.equilibria.newton import manifold_dimension, manifold_dimensions
from dynamics.analysis.stability import linearisation, periods, problem, verdict
from dynamics.analysis.stability.boundary import IMAGINARY_AXIS, UNIT_CIRCLE, UnitCircle, boundary_of
from dynamics.analysis.stability.certificates import bauer_fike, keeps_its_side, widest_gap
from dynamics.analysis.stability.notes import Note, Remark, has
from dynamics.ensembles.prediction import proved_planar

VALUES = np.array([0.5 + 0.5j, -2.0, 0.9j, 0.0])


def test_names_and_methods_have_their_boundary():
    sgd = dy.optimisers.sgd(0.1)
    assert boundary_of("map") is boundary_of(dy.updates.Simultaneous(sgd, sgd)) is UNIT_CIRCLE
    assert boundary_of("flow") is boundary_of(dy.flows.Flow()) is IMAGINARY_AXIS
    assert UNIT_CIRCLE == pickle.loads(pickle.dumps(UNIT_CIRCLE)) == UnitCircle() != IMAGINARY_AXIS
    report = dy.stability(dy.games.Bilinear(1.0), dy.flows.Flow())
    assert report.kind == "flow" and report.boundary is IMAGINARY_AXIS
    assert IMAGINARY_AXIS.bound_of(report) == report.abscissa and UNIT_CIRCLE.bound_of(report) == report.radius


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_distances_positions_and_rates(boundary):
    outward = np.abs(VALUES) if boundary is UNIT_CIRCLE else VALUES.real
    np.testing.assert_array_equal(boundary.distance(VALUES), outward - boundary.neutral)
    assert boundary.bound(VALUES) == outward.max() and boundary.order(VALUES)[0] == np.argmax(outward)
    on_it = boundary.points(boundary.position(VALUES))
    np.testing.assert_allclose(boundary.distance(on_it), 0, atol=1e-15)
    np.testing.assert_allclose(boundary.position(on_it), boundary.position(VALUES), atol=1e-15)
    assert boundary.margin(boundary.neutral) == 0 and boundary.rate(boundary.neutral) == 0
    assert np.exp(boundary.rate(0.7)) == pytest.approx(boundary.factor(0.7))


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_outlines_for_pictures(boundary):
    np.testing.assert_allclose(boundary.distance(boundary.outline(3.0)), 0, atol=1e-15)
    corners = boundary.stable_side(3.0)
    assert boundary.distance(np.mean(corners[:-1])) < 0 and np.all(boundary.distance(corners) <= 1e-15)


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_another_curve_is_moved_to_the_boundary(boundary):
    matrix = np.random.default_rng(0).normal(size=(4, 3, 3))
    curves = np.array([0.5, 1.5, 2.0, 3.0])
    moved = boundary.relative(curves, matrix)
    values = np.sort_complex(np.linalg.eigvals(matrix))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(moved)), boundary.value_relative(curves, values))
    inside = boundary.outward(values) < curves[:, None]
    np.testing.assert_array_equal(boundary.distance(boundary.value_relative(curves, values)) < 0, inside)
    length, point = boundary.from_relative(1.5, boundary.length_relative(1.5, 0.25), boundary.points(0.3))
    assert length == pytest.approx(0.25) and boundary.outward(point) == pytest.approx(1.5)


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_propagators_grow_at_their_rate(boundary):
    matrix = np.array([[0.2, 0.6], [-0.4, 0.3]])
    whole = boundary.propagator(matrix, 3)
    power = matrix @ matrix @ matrix if boundary.discrete else scipy.linalg.expm(3 * matrix)
    np.testing.assert_allclose(whole, power, rtol=1e-13)
    radius = np.abs(np.linalg.eigvals(whole)).max()
    assert np.log(radius) / 3 == pytest.approx(boundary.rate(boundary.bound(np.linalg.eigvals(matrix))))


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_the_closed_form_can_be_traced_and_mapped(boundary):
    matrices = np.random.default_rng(1).normal(size=(50, 2, 2))

    def one(matrix):
        return proved_planar(tuple(matrix.ravel()), 1e-12, boundary, jnp)

    traced = jax.jit(jax.vmap(one))(jnp.asarray(matrices))
    plain = proved_planar(matrices.reshape(-1, 4).T, 1e-12, boundary, np)
    values = np.linalg.eigvals(matrices)
    for own, other in zip(traced, plain, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)
    np.testing.assert_allclose(plain[2], boundary.bound(values), rtol=1e-12)
    leading = np.take_along_axis(values, boundary.order(values)[:, :1], axis=1)[:, 0]
    np.testing.assert_allclose(plain[4], boundary.rotation(leading), atol=1e-12)


@pytest.mark.parametrize("boundary", [UNIT_CIRCLE, IMAGINARY_AXIS], ids=lambda one: one.kind)
def test_a_batch_of_matrices_is_proved_as_each_is(boundary):
    matrices = np.random.default_rng(2).normal(size=(20, 3, 3)) + np.eye(3) * boundary.neutral
    values, vectors = np.linalg.eig(matrices)
    condition, size = np.linalg.cond(vectors), np.full(20, 1e-3)
    proved, refused, needed = bauer_fike(values, condition, matrices, size, boundary)
    for row, matrix in enumerate(matrices):
        own = bauer_fike(values[row], condition[row], matrix, 1e-3, boundary)
        assert own[:2] == (proved[row], refused[row]) and own[2] == pytest.approx(needed[row])
        assert keeps_its_side(matrix, 1e-3, boundary) >= proved[row] and not (proved[row] and refused[row])
    curves = widest_gap(boundary.outward(values), boundary.neutral)
    assert [widest_gap(boundary.outward(own), boundary.neutral) for own in values] == curves.tolist()


def test_dimensions_of_manifolds_are_the_same_one_by_one_and_together():
    together = np.array([[[-2.0, 2.0], [1.0, -1.0]], [[-1.0, 0.0], [0.0, -1.0]], [[0.0, 0.0], [0.0, np.nan]]])
    game = dy.Game.from_losses(lambda p, key=None: ((p[0] - p[1]) ** 2, (p[1] - p[0]) ** 2 / 2))
    point = (jnp.asarray(0.3), jnp.asarray(0.3))
    assert manifold_dimension(game, point, together[0]) == 1
    asked = []

    def reach(rows, directions):
        asked.append(rows.tolist())
        return directions, np.zeros((*directions.shape[:2], 4))

    assert manifold_dimensions(together, reach).tolist() == [1, 0, 0] and asked == [[0]]


KINKED = dy.Game.from_losses(
    lambda p, key=None: (p[0] * p[1] + 0.3 * p[0] ** 2 * jnp.where(p[0] > 0, 1.0, 2.0), -p[0] * p[1] + 0.2 * p[1] ** 2)
)


@pytest.mark.slow_cases("momentum at a kink", "Adam")
@pytest.mark.parametrize(
    ("game", "optimiser", "smoothness"),
    [(KINKED, optax.sgd(0.1, momentum=0.5), "kinked"), (dy.games.DiracGAN(), optax.adam(1e-3), "stiff")],
    ids=["momentum at a kink", "Adam"],
)
def test_the_memory_is_put_to_rest_once(monkeypatch, game, optimiser, smoothness):
    """It takes a loop of up to 20,000 steps; the linearisation, closer looks and pieces get what it has found."""
    calls = []
    for module in (problem, linearisation, periods):
        own = module.rest_state

        def counted(*arguments, own=own, **options):
            calls.append(own)
            return own(*arguments, **options)

        monkeypatch.setattr(module, "rest_state", counted)
    found = problem.compiled_rest_state
    for module in (problem, verdict):
        monkeypatch.setattr(module, "compiled_rest_state", lambda *arguments: calls.append(found) or found(*arguments))
    report = dy.stability(game, dy.updates.Alternating(optimiser, optax.sgd(0.1)), at=(0.0, 0.0))
    assert report.smoothness == smoothness
    assert calls.count(found) == 1 and len(calls) <= 2  # the call, and the trace of its program if there was none


def test_notes_are_known_by_what_they_are():
    notes = (Note.manifold.filled(dimension=2), Remark("something else"), "a text")
    assert has(notes, Note.manifold) and not has(notes, Note.fading)
    assert "dimension 2" in notes[0] and notes[0] == str(notes[0]) and type(str(notes[0])) is str
    again = pickle.loads(pickle.dumps(notes[0]))
    assert again == notes[0] and again.note is Note.manifold
    plain = dy.games.Quadratic([[1.0, 2.0], [-2.0, 0.5]])
    report = dy.stability(plain, dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1)), at=(1.0, 0.0),
                          require_equilibrium=False)  # fmt: skip
    assert [note.note for note in report.notes] == [Note.no_equilibrium]
    assert [type(note) for note in report.to_dict()["notes"]] == [str]
