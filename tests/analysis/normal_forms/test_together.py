"""Many expansions side by side: their numbers are those of each alone, and programs are read once for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics import optimisers
from dynamics.analysis.normal_forms import expansion as expansions
from dynamics.analysis.normal_forms.coefficients import coefficients_of
from dynamics.analysis.normal_forms.expansion import NotDecided, alone, expanded, together
from dynamics.analysis.normal_forms.invariants import invariant_of
from dynamics.analysis.normal_forms.spectrum import spectrum_of
from dynamics.games import DiracGAN


@jax.jit
def spiral(numbers, x):
    """x' = -y + a r^2 x + b x^3 + c x y, y' = x + a r^2 y: a centre to first order."""
    a, b, c = numbers
    square = x @ x
    return jnp.stack([-x[1] + a * square * x[0] + b * x[0] ** 3 + c * x[0] * x[1], x[0] + a * square * x[1]])


@jax.jit
def kept(number, x):
    """A rotation about a point, faster with the distance: the distance is conserved."""
    centre = jnp.stack([number, -number])
    u = x - centre
    return (1 + number * u @ u) * jnp.stack([-u[1], u[0]])


@jax.jit
def branching(number, x):
    """One branch or the other, by the first coordinate: of the same values."""
    value = jax.lax.cond(x[0] > 0, lambda y: y**3, lambda y: y * y * y, x[0])
    return jnp.stack([-x[1] - number * value, x[0]])


def judged(function, point):
    """Point, Jacobian, invariant and coefficients of a field, as a task."""
    expansion = yield from expanded(function, jnp.asarray(point, float), False)
    invariant = yield from invariant_of(expansion, np.eye(2))
    if invariant is not None:
        return expansion.point, expansion.jacobian, invariant.matrix, None
    spectrum = spectrum_of(expansion, np.ones(2, bool))
    yield from expansion.confirm([])
    coefficients = yield from coefficients_of(expansion, spectrum.critical)
    return expansion.point, expansion.jacobian, None, coefficients


def tasks(seed, count):
    """Tasks of several structures, in a random order, some of which fail."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        match rng.integers(6):
            case 0 | 1 | 2:
                numbers = jnp.asarray(np.round(rng.standard_normal(3), rng.integers(0, 3)))
                made.append((lambda x, numbers=numbers: spiral(numbers, x), (0.0, 0.0)))
            case 3:
                number = jnp.asarray(rng.uniform(0.5, 2))
                made.append((lambda x, number=number: kept(number, x), (float(number), -float(number))))
            case 4:
                number = jnp.asarray(rng.uniform(0.5, 2))
                made.append((lambda x, number=number: branching(number, x), (0.0, 0.0)))
            case 5:  # no fixed point there
                made.append((lambda x: spiral(jnp.ones(3), x), (0.5, 0.0)))
    return made


def same(one, other):
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.all(one == other)) if one is not None else other is None


@pytest.mark.slow_cases("0")
@pytest.mark.parametrize("seed", range(2))
def test_the_numbers_are_those_of_each_alone(seed):
    given = tasks(seed, 30)
    results = together([judged(*arguments) for arguments in given])
    failed = 0
    for arguments, result in zip(given, results, strict=True):
        try:
            expected = alone(judged(*arguments))
        except NotDecided as error:
            failed += 1
            assert str(result) == str(error)
            continue
        *exact, coefficients = result
        assert same(tuple(exact), expected[:3])
        if coefficients is not None:
            assert same(coefficients.cubic, expected[3].cubic) and same(coefficients.rotations, expected[3].rotations)
    assert 0 < failed < len(given)


def test_errors_are_those_of_a_task_alone():
    def broken():
        raise ZeroDivisionError("of a task")
        yield

    first, second = together([broken(), judged(lambda x: spiral(jnp.ones(3), x), (0.0, 0.0))])
    assert isinstance(first, ZeroDivisionError) and second[3] is not None
    with pytest.raises(ZeroDivisionError, match="of a task"):
        alone(broken())


@pytest.mark.slow
def test_programs_are_read_once_for_many_points(monkeypatch):
    read = []

    class Counted(expansions.Specialised):
        def __init__(self, *arguments, **options):
            read.append(arguments[0])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(expansions, "Specialised", Counted)
    counts = []
    for count in (8, 64):
        read.clear()
        numbers = np.random.default_rng(3).uniform(0.5, 1.5, (count, 3))
        results = together([judged(lambda x, row=row: spiral(jnp.asarray(row), x), (0.0, 0.0)) for row in numbers])
        assert all(result[3].cubic[0, 0] > 0 for result in results)
        counts.append(len(read))
    assert counts[0] == counts[1] < 12


@pytest.mark.slow
def test_cells_of_a_chart_are_reports():
    """Least squares with targets 0 and 1, and R1, which damps the discriminator alone: an eigenvalue is 1."""

    def build(rate, weight):
        update = dy.updates.Alternating(optimisers.sgd(rate), optimisers.sgd(rate))
        return DiracGAN(objective=dy.objectives.LeastSquares(), penalty=dy.penalties.R1(weight)), update

    axes = {"rate": np.linspace(0.1, 1.5, 6), "weight": np.linspace(0, 2, 5)}
    verdicts = dy.stability_chart(build, axes, order="auto").predicted_verdict
    names = set()
    for rate, weight in np.random.default_rng(4).choice(np.stack(np.meshgrid(*axes.values()), -1).reshape(-1, 2), 8):
        report = dy.stability(*build(rate, weight))
        cell = int(verdicts.sel(rate=rate, weight=weight))
        assert dy.ensembles.Predicted(cell).name == report.verdict
        names.add(str(report.verdict))
    assert "stable" in names and len(names) > 1


def test_what_cannot_be_evaluated_is_a_reason_beside_others():
    def coarse(x):
        return spiral(jnp.ones(3), x) + (x.astype(jnp.float32) ** 2).astype(x.dtype)

    for beside in ((), (spiral_of_ones, spiral_of_ones)):
        first, *others = together([judged(function, (0.0, 0.0)) for function in (coarse, *beside)])
        assert isinstance(first, NotDecided) and "float32" in str(first)
        assert all(other[3] is not None for other in others)


def spiral_of_ones(x):
    return spiral(jnp.ones(3), x)
