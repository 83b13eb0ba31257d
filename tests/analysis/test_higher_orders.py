"""`dynamics.stability` where eigenvalues are on the boundary: closed forms, simulations, reasons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from linear_games import Linear

import dynamics as dy
from dynamics.analysis.normal_forms.amplitudes import attracts, is_strictly_copositive
from dynamics.analysis.stability.notes import Note, has
from dynamics.flows import Flow
from dynamics.objectives import Minimax, NonSaturating, Wasserstein
from dynamics.optimisers import sgd
from dynamics.updates import Alternating, Simultaneous

DIRAC = dy.games.DiracGAN(NonSaturating())


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def alternated(first, second, steps, start=(1.0, 1.0), minimax=False):
    """Non-saturating (or minimax) Dirac-GAN, one player after the other, in plain Python."""
    x, y = start
    path = np.empty((steps, 2))
    for step in range(steps):
        x -= first * sigmoid(-x * y if minimax else x * y) * y
        y += second * sigmoid(-x * y) * x
        path[step] = x, y
    return path


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.0), (0.5, 2.0)])
def test_the_flow_of_the_non_saturating_dirac_gan(first, second):
    """E = x^2/a + y^2/b has the mean slope -ab E^2/8 over a turn, so that r' = -ab/(8(a+b)) r^3."""
    report = dy.stability(DIRAC, Flow(rates=[first, second]))
    assert (report.verdict, report.order, report.proved) == ("stable", 3, False)
    coefficient = first * second / (8 * (first + second))
    assert report.normal_form.cubic[0, 0] == pytest.approx(-coefficient, rel=1e-12)
    assert report.normal_form.within < 1e-20
    assert report.decay.exponent == 0.5
    assert report.decay.constant == pytest.approx((2 * coefficient) ** -0.5, rel=1e-12)
    assert not has(report.notes, Note.marginal)
    assert has(report.notes, Note.higher_order)


def test_the_power_law_of_the_flow_is_that_of_a_solver():
    def field(_, z):
        return [-sigmoid(z[0] * z[1]) * z[1], sigmoid(-z[0] * z[1]) * z[0]]

    decay = dy.stability(DIRAC, Flow()).decay
    times = [200.0, 2000.0]
    path = scipy.integrate.solve_ivp(field, (0, 2000), [1.0, 1.0], "DOP853", times, rtol=1e-10, atol=1e-12).y
    shares = np.linalg.norm(path, axis=0) / [decay.at(time) for time in times]
    np.testing.assert_allclose(shares, [0.99177, 0.99914], atol=2e-5)


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.1), (0.5, 0.3)])
def test_the_power_law_of_alternating_descent(first, second):
    """Exactly -h1 h2/(8(h1+h2)) r^3 per step, as the flow; the run's root mean square distance follows it."""
    report = dy.stability(DIRAC, Alternating(sgd(first), sgd(second)))
    coefficient = first * second / (8 * (first + second))
    assert (report.verdict, report.order) == ("stable", 3)
    assert report.normal_form.cubic[0, 0] == pytest.approx(-coefficient, rel=1e-12)
    path = alternated(first, second, 60_000)[-6_000:]
    assert np.mean(path**2 @ [1, 1]) ** 0.5 == pytest.approx(report.decay.at(57_000), rel=2e-3)


def test_simultaneous_descent_is_unstable_by_its_linear_part():
    report = dy.stability(DIRAC, Simultaneous(sgd(0.1), sgd(0.1)))
    assert (report.verdict, report.order, report.normal_form) == ("unstable", 1, None)


def test_conserved_quantities():
    """The radius, in units of the rates; the modified energy x^2/h1 - xy + y^2/h2 of alternating steps."""
    report = dy.stability(dy.games.DiracGAN(Minimax()), Flow(rates=[0.5, 2.0]))
    assert (report.verdict, report.order, report.invariant.kind) == ("neutral", 0, "quadratic form")
    np.testing.assert_allclose(report.invariant.matrix / report.invariant.matrix[1, 1], [[4, 0], [0, 1]], atol=1e-13)
    report = dy.stability(dy.games.DiracGAN(Wasserstein()), Alternating(sgd(0.2), sgd(0.5)))
    assert report.verdict == "neutral"
    np.testing.assert_allclose(report.invariant.matrix / report.invariant.matrix[0, 0], [[1, -0.1], [-0.1, 0.4]])
    assert report.invariant.change < 1e-50
    assert "stays the same along every orbit" in report.describe()


def test_a_manifold_of_equilibria_beside_a_conserved_quantity():
    matrix = [[1.0, 0.0], [0.3, 0.8], [0.0, 0.5]]
    report = dy.stability(dy.games.Bilinear(matrix), Alternating(sgd(0.2), sgd(0.3)))
    assert (report.verdict, report.manifold_dimension) == ("neutral", 1)
    # Conserved along a run of the game itself, in NumPy.
    form, rng = report.invariant.matrix, np.random.default_rng(0)
    x, y, a = rng.normal(size=3), rng.normal(size=2), np.array(matrix)
    values = []
    for _ in range(50):
        values.append(np.concatenate([x, y]) @ form @ np.concatenate([x, y]))
        x = x - 0.2 * a @ y
        y = y + 0.3 * a.T @ x
    np.testing.assert_allclose(values, values[0], rtol=1e-12)


def test_reversibility_and_area():
    covariance = dy.games.Covariance(1.5)
    assert dy.stability(covariance, Flow()).invariant.kind == "reversibility"
    report = dy.stability(covariance, Alternating(sgd(0.2), sgd(0.3)))
    assert (report.verdict, report.invariant.kind) == ("neutral", "area")
    np.testing.assert_allclose(report.invariant.matrix, [[-1, 0], [0, 0]], atol=1e-12)  # da dw / a


@pytest.mark.slow
def test_the_ninth_order_of_alternating_minimax():
    """All orders up to 7 vanish; what is left is seen in a run of 400,000 steps."""
    report = dy.stability(dy.games.DiracGAN(Minimax()), Alternating(sgd(0.5), sgd(0.5)))
    assert (report.verdict, report.order) == ("unstable", 9)
    c = report.normal_form.higher[-1].coefficient
    path = alternated(0.5, 0.5, 60_000, (0.6, 0.6), minimax=True)
    squares = np.sum(path**2, axis=1).reshape(6, -1).mean(axis=1)
    assert squares[-1] == pytest.approx((squares[0] ** -4 - 8 * c * 50_000) ** -0.25, rel=2e-2)
    assert squares[-1] > 1.02 * squares[0]


class Cubic(dy.Game):
    """Scalar players with the field J z + (a x |z|^2, b y |z|^2), plus a switch that is far away or at the point."""

    matrix: jax.Array
    weights: jax.Array

    def losses(self, players, key=None):
        x, y = players
        z, (a, b) = jnp.stack(players), self.weights
        pulled = self.matrix @ z
        first = -x * (pulled[0] - self.matrix[0, 0] * x) - self.matrix[0, 0] * x**2 / 2
        second = -y * (pulled[1] - self.matrix[1, 1] * y) - self.matrix[1, 1] * y**2 / 2
        return first - a * (x**4 / 4 + x**2 * y**2 / 2), second - b * (y**4 / 4 + x**2 * y**2 / 2)

    def equilibria(self):
        return ((jnp.zeros(()), jnp.zeros(())),)

    @classmethod
    def example(cls):
        return cls(jnp.eye(2), jnp.ones(2)), (jnp.ones(()), jnp.ones(()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    ("matrix", "weights", "verdict", "order"),
    [
        ([[0, -2], [0.5, 0]], [-1, -1], "stable", 3),
        ([[0, -2], [0.5, 0]], [1, 1], "unstable", 3),
        ([[0, -2], [0.5, 0]], [1, -8], "stable", 3),
        ([[0, 1], [0, -1]], [-1, 3], "stable", 3),  # a real eigenvalue, along x alone
        ([[0, 1], [0, -1]], [1, -3], "unstable", 3),
        ([[0, 1], [-1, 0]], [0, 0], "neutral", 0),
        ([[0, 1], [0, 0]], [-1, -1], "marginal", 1),  # a Jordan block
    ],
)
def test_verdicts_of_cubic_fields(matrix, weights, verdict, order, dtype):
    game = Cubic(jnp.asarray(matrix, dtype), jnp.asarray(weights, dtype))
    report = dy.stability(game, Flow(), at=(jnp.zeros((), dtype), jnp.zeros((), dtype)))
    assert (str(report.verdict), report.order) == (verdict, order)
    assert (verdict == "marginal") == has(report.notes, Note.not_decided)


def test_what_double_precision_cannot_tell_from_the_boundary():
    """An eigenvalue 2^-70 off the imaginary axis: by itself, with and against the terms of third order."""

    def report(shift, weight):
        matrix = jnp.asarray([[shift, -2.0], [0.5, shift]])
        return dy.stability(Cubic(matrix, jnp.asarray([weight, weight])), Flow())

    tiny = 2.0**-70
    assert [str(report(shift, 0.0).verdict) for shift in (-tiny, tiny)] == ["marginal", "marginal"]
    assert has(report(tiny, 0.0).notes, Note.rounded)
    assert [str(report(shift, -1.0).verdict) for shift in (-tiny, tiny)] == ["stable", "marginal"]
    assert [str(report(shift, 1.0).verdict) for shift in (-tiny, tiny)] == ["marginal", "unstable"]
    assert has(report(tiny, -1.0).notes, Note.opposed)
    assert report(tiny, -1.0).normal_form.cubic[0, 0] < 0


def test_the_linear_part_alone_on_request():
    report = dy.stability(DIRAC, Flow(), order="linear")
    assert (report.verdict, report.order, report.decay, report.notes[-1].note) == ("marginal", 1, None, Note.marginal)
    with pytest.raises(ValueError, match="order is 'cubic'"):
        dy.stability(DIRAC, Flow(), order="cubic")


def test_reports_as_text_and_data():
    report = dy.stability(DIRAC, Flow())
    assert "algebraic decay: the distance goes to 0 like 2.82843 t^-0.5" in report.describe()
    data = report.to_dict()
    assert data["order"] == 3
    assert data["decay"] == {"exponent": 0.5, "constant": pytest.approx(8**0.5)}
    assert data["normal_form"]["cubic"] == [[pytest.approx(-1 / 16)]]
    with pytest.raises(ValueError, match="the linear part at the point is marginal .*of higher order"):
        dy.analysis.stationary_covariance(DIRAC, Alternating(sgd(0.1), sgd(0.1)), noise=0.1 * np.eye(2))


@pytest.mark.slow
def test_amplitude_equations_against_their_solutions():
    """Random matrices of up to three amplitudes: no answer is contradicted by solutions."""
    rng = np.random.default_rng(0)
    answers = []
    for number in range(60):
        size = 2 + number % 2
        cubic = rng.normal(size=(size, size)) - 1.2 * np.eye(size)
        answer = attracts(cubic, np.zeros_like(cubic))
        answers.append(answer)
        # In logarithmic time the direction moves by itself: what grows is seen in the sum.
        s, ends = rng.dirichlet(np.full(size, 0.5), 12), np.zeros(12)
        for _ in range(2000):
            slope = s @ cubic.T
            growth = np.sum(s * slope, axis=1, keepdims=True)
            s = s * np.exp(0.04 * (slope - growth))
            s, ends = s / s.sum(axis=1, keepdims=True), ends + 0.04 * growth[:, 0]
        if answer is True:
            assert ends.max() < 0, cubic
        if answer is False:
            # Some solution leaves: along an axis, or along the ray.
            grown = max(np.diag(cubic).max(), ends.max())
            rays = [np.linalg.solve(cubic[np.ix_(r, r)], np.ones(len(r))) for r in ([0, 1], [-1, 0], range(size))]
            assert grown > 0 or any(np.all(ray > 0) for ray in rays), cubic
    assert answers.count(True) > 5
    assert answers.count(False) > 5


def test_copositive_matrices():
    horn = np.array([[1, -1, 1, 1, -1], [-1, 1, -1, 1, 1], [1, -1, 1, -1, 1], [1, 1, -1, 1, -1], [-1, 1, 1, -1, 1.0]])
    assert not is_strictly_copositive(horn)  # copositive, not strictly
    assert is_strictly_copositive(horn + 0.01 * np.eye(5))
    assert not is_strictly_copositive(horn - 0.01 * np.eye(5))


# The matrix of a flow times 2^18: rank 4 in exact arithmetic, and the other eigenvalues are negative. In floating point
# the one at 0 is 1e-12, more than rounding of the numbers themselves explains.
LINE_AT_REST = np.array(
    [
        [0, 342528, -580973, 262144, 0],
        [0, -80384, 56685, 0, 0],
        [0, 262144, -285843, 262144, 0],
        [524288, 318829, -580973, 238445, 262144],
        [-47398, -422912, 899802, -262144, -23699],
    ]
)


@pytest.mark.slow_cases("True-float64", "False-float64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("discrete", [False, True])
def test_a_line_of_equilibria_that_rounding_hides(dtype, discrete):
    game = Linear(jnp.asarray(LINE_AT_REST / 2**18, dtype))
    at = (jnp.zeros((), dtype),) * 5
    method = Simultaneous(*[sgd(0.125)] * 5) if discrete else Flow()
    report = dy.stability(game, method, at=at)
    assert (report.verdict, report.manifold_dimension, report.invariant) == ("stable", 1, None)
    slowest = np.sort(np.linalg.eigvals(LINE_AT_REST / 2**18).real)[-2]
    expected = np.log1p(0.125 * slowest) if discrete else slowest
    assert report.rate == pytest.approx(expected, rel=0.02)
    assert has(report.notes, Note.manifold) and not has(report.notes, Note.marginal)
