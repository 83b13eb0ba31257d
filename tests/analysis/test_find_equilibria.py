"""The search for all equilibria in a box, against lists that interval arithmetic proves to be complete."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import dynamics as dy
from dynamics.analysis import find_equilibria
from dynamics.games import Forsaken, Market, PlanarQuadratic, PolynomialGame, SpuriousAttractor, Torus

# ---------------------------------------------------------------- proofs by interval arithmetic


class Interval:
    """Many intervals at once; every result is rounded outwards."""

    def __init__(self, low, high=None):
        self.low = np.asarray(low, float)
        self.high = self.low if high is None else np.asarray(high, float)

    @staticmethod
    def around(low, high):
        return Interval(np.nextafter(low, -np.inf), np.nextafter(high, np.inf))

    @staticmethod
    def of(value):
        return value if isinstance(value, Interval) else Interval(value)

    def __add__(self, other):
        other = Interval.of(other)
        return Interval.around(self.low + other.low, self.high + other.high)

    def __neg__(self):
        return Interval(-self.high, -self.low)

    def __sub__(self, other):
        return self + -Interval.of(other)

    def __mul__(self, other):
        other = Interval.of(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval.around(np.minimum.reduce(ends), np.maximum.reduce(ends))

    def inverse(self):
        assert np.all(self.low * self.high > 0), "division by an interval that contains 0"
        return Interval.around(1 / self.high, 1 / self.low)

    def cos(self):
        low, high = np.minimum(np.cos(self.low), np.cos(self.high)), np.maximum(np.cos(self.low), np.cos(self.high))
        first, last = np.ceil(self.low / np.pi - 1e-12), np.floor(self.high / np.pi + 1e-12)
        even = 2 * np.ceil(first / 2) <= last
        odd = 2 * np.ceil((first - 1) / 2) + 1 <= last
        return Interval(np.where(odd, -1, low - 1e-15), np.where(even, 1, high + 1e-15))

    def sin(self):
        return (self - Interval.around(np.pi / 2, np.pi / 2)).cos()

    def contains_zero(self):
        return (self.low <= 0) & (self.high >= 0)


class Jet:
    """An interval with the intervals of its two partial derivatives."""

    def __init__(self, value, slopes=(0.0, 0.0)):
        self.value, self.slopes = Interval.of(value), [Interval.of(slope) for slope in slopes]

    @staticmethod
    def of(value):
        return value if isinstance(value, Jet) else Jet(value)

    def __add__(self, other):
        other = Jet.of(other)
        return Jet(self.value + other.value, [a + b for a, b in zip(self.slopes, other.slopes)])

    def __neg__(self):
        return Jet(-self.value, [-slope for slope in self.slopes])

    def __sub__(self, other):
        return self + -Jet.of(other)

    def __rsub__(self, other):
        return Jet.of(other) - self

    def __mul__(self, other):
        other = Jet.of(other)
        return Jet(
            self.value * other.value, [a * other.value + self.value * b for a, b in zip(self.slopes, other.slopes)]
        )

    def __truediv__(self, other):
        inverse = Jet.of(other).value.inverse()
        return self * Jet(inverse, [-(slope * inverse * inverse) for slope in Jet.of(other).slopes])

    def __pow__(self, power):
        def raised(n):
            ends = self.value.low**n, self.value.high**n
            low = np.where(self.value.contains_zero() & (n % 2 == 0), 0, np.minimum(*ends))
            scale = 8 * np.finfo(float).eps  # of a power by NumPy
            return Interval(low - scale * abs(low), np.maximum(*ends) + scale * abs(np.maximum(*ends)))

        slope = raised(power - 1) * power if power > 1 else Interval(1.0)
        return Jet(raised(power), [slope * own for own in self.slopes])

    def sin(self):
        slope = self.value.cos()
        return Jet(self.value.sin(), [slope * own for own in self.slopes])

    __radd__, __rmul__ = __add__, __mul__


def evaluate(field, low, high):
    """Values and Jacobians of a planar field over many boxes."""
    x = Jet(Interval(low[:, 0], high[:, 0]), (1.0, 0.0))
    y = Jet(Interval(low[:, 1], high[:, 1]), (0.0, 1.0))
    both = field(x, y)
    return [one.value for one in both], [[one.slopes[0], one.slopes[1]] for one in both]


def krawczyk(field, low, high):
    """Krawczyk's operator: zeros of a box lie in its image, and there is exactly one if the image lies inside."""
    centre, radius = (low + high) / 2, (high - low) / 2 * (1 + 1e-15) + 1e-300
    values, _ = evaluate(field, centre, centre)
    _, slopes = evaluate(field, low, high)
    middle = np.array([[np.broadcast_to((s.low + s.high) / 2, len(low)) for s in row] for row in slopes])
    a, b, c, d = middle[0, 0], middle[0, 1], middle[1, 0], middle[1, 1]
    determinant = np.where(a * d - b * c == 0, 1.0, a * d - b * c)  # any matrix will do
    inverse = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]]
    image = []
    for i in (0, 1):
        total = Interval(centre[:, i])
        for j in (0, 1):
            total = total - values[j] * inverse[i][j]
            rest = Interval(float(i == j)) - slopes[0][j] * inverse[i][0] - slopes[1][j] * inverse[i][1]
            total = total + rest * Interval(-radius[:, j], radius[:, j])
        image.append(total)
    return np.stack([part.low for part in image], 1), np.stack([part.high for part in image], 1)


def proved_zeros(field, low, high):
    """Enclosures of all zeros of a planar field in a box: each holds exactly one, and there are no others."""
    low, high = np.array([low], float), np.array([high], float)
    corner, opposite = low[0], high[0]
    proved = []
    while len(low):
        assert np.max(high - low) > 1e-6 and len(low) < 100_000, "a degenerate zero: nothing can be proved"
        values, _ = evaluate(field, low, high)
        possible = values[0].contains_zero() & values[1].contains_zero()
        low, high = low[possible], high[possible]
        margin = 0.1 * (high - low)  # so that a zero on an edge is inside a box
        wide = low - margin, high + margin
        image = krawczyk(field, *wide)
        inside = np.all((image[0] > wide[0]) & (image[1] < wide[1]), axis=1)
        empty = np.any((image[0] > wide[1]) | (image[1] < wide[0]), axis=1)
        proved += [(wide[0][i], wide[1][i], image[0][i], image[1][i]) for i in np.flatnonzero(inside)]
        low, high = low[~inside & ~empty], high[~inside & ~empty]
        axis = np.argmax(high - low, axis=1)
        rows, middle = np.arange(len(low)), (low + high) / 2
        first, second = high.copy(), low.copy()
        first[rows, axis] = second[rows, axis] = middle[rows, axis]
        low, high = np.concatenate([low, second]), np.concatenate([first, high])
    distinct = []
    for wide_low, wide_high, low, high in proved:
        for _ in range(60):
            image = krawczyk(field, low[None], high[None])
            low, high = np.maximum(low, image[0][0]), np.minimum(high, image[1][0])
            if np.max(high - low) < 1e-13:
                break
        assert np.max(high - low) < 1e-11
        # The only zero of this box is the only zero of another where it lies in that box.
        same = [np.all((other[2] >= wide_low) & (other[3] <= wide_high)) for other in distinct]
        apart = [np.any((other[2] > high) | (other[3] < low)) for other in distinct]
        assert np.all(np.logical_xor(same, apart)), "two enclosures that cannot be told apart"
        if not any(same):
            distinct.append((wide_low, wide_high, low, high))
    enclosures = [(low, high) for _, _, low, high in distinct if not np.any((high < corner) | (low > opposite))]
    assert all(np.all((low >= corner) & (high <= opposite)) for low, high in enclosures), "a zero on the box's edge"
    return enclosures


def positions(found):
    return np.array([np.asarray(ravel_pytree(point.players)[0]) for point in found])


def assert_complete(found, enclosures):
    points = positions(found)
    assert len(points) == len(enclosures)
    for low, high in enclosures:
        gaps = np.max(np.abs(points - (low + high) / 2), axis=1)
        assert np.sum(gaps < 1e-9) == 1


# ---------------------------------------------------------------- planar games


def well(z):
    """Slope of z^2/4 - z^4/2 + z^6/6."""
    return 0.5 * z - 2 * z**3 + z**5


def polynomial(x, y):
    """The slopes of exp(-(x^2+y^2)/100) q, without the exponential."""
    one, two = 0.3 * x**2 + y, 0.3 * y**2 + x
    q = one**2 + two**2
    return 1.2 * x * one + 2 * two - 0.02 * x * q, 2 * one + 1.2 * y * two - 0.02 * y * q


def market(x, y):
    shared_x = -0.5 * x * y**4 / (1 + x**2) ** 2 - x**3 / (1 + y**2)
    shared_y = y**3 / (1 + x**2) + 0.5 * y * x**4 / (1 + y**2) ** 2
    return x**5 - x + y + shared_x, y**5 - y - x - shared_y


PLANAR = {
    "polynomial": (PolynomialGame(), polynomial, ((-16, -16), (15, 15)), 11),
    "spurious": (
        SpuriousAttractor(),
        lambda x, y: (4 * x + 4 * y, 2 * y + 4 * x + 4 * y**2 - y**3),
        ((-5, -6), (6, 5)),
        3,
    ),
    "Forsaken": (Forsaken(), lambda x, y: (y - 0.45 + well(x), x - well(y)), ((-2, -2), (2, 2)), 1),
    "market": (Market(), market, ((-2, -2), (2, 2)), 1),
    "torus": (
        Torus(),
        lambda x, y: (0.15 * x.sin() - (x - y).sin(), (x - y).sin() - 0.15 * y.sin()),
        ((-3.5, -3.5), (3.5, 3.5)),
        11,
    ),
}


LONG = ("polynomial", "market")


@pytest.mark.slow_cases("Forsaken", "spurious")
@pytest.mark.slow_cases("torus")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in PLANAR])
def test_all_equilibria_of_a_planar_game_are_found(name):
    game, field, box, count = PLANAR[name]
    enclosures = proved_zeros(field, *box)
    assert len(enclosures) == count
    found = find_equilibria(game, box)
    assert_complete(found, enclosures)
    points = positions(found)
    assert all(tuple(a) < tuple(b) for a, b in zip(np.round(points, 4), np.round(points[1:], 4)))
    for point in found:
        assert point.residual < 1e-12 and np.isfinite(point.condition) and 0 < point.steps < 200


class Cubic(dy.Game):
    """Two general-sum losses, polynomials in x and y; coefficients[i, a, b] belongs to x^a y^b."""

    coefficients: Array

    def losses(self, players, key=None):
        x, y = players
        powers = jnp.stack([x**0, x, x**2, x**3, x**4]), jnp.stack([y**0, y, y**2, y**3, y**4])
        return tuple(powers[0] @ one @ powers[1] for one in self.coefficients)

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(jnp.zeros((2, 5, 5))), (jnp.asarray(0.0), jnp.asarray(0.0))


def random_cubic(seed):
    """Losses of degree 4 with two wells in the player's own variable, up to nine zeros; the field by intervals."""
    rng = np.random.default_rng(seed)
    degree = np.add.outer(np.arange(5), np.arange(5))
    coefficients = np.round(rng.normal(size=(2, 5, 5)), 3) * (degree <= 4)
    coefficients[0, 4, 0] = coefficients[1, 0, 4] = 0.75
    coefficients[0, 2, 0] = coefficients[1, 0, 2] = -4.0

    def field(x, y):
        total = [Jet(0.0), Jet(0.0)]
        for a in range(5):
            for b in range(5 - a):
                if a:
                    inner = x ** (a - 1) if a > 1 else Jet(1.0)
                    total[0] = total[0] + a * coefficients[0, a, b] * inner * (y**b if b else 1.0)
                if b:
                    inner = y ** (b - 1) if b > 1 else Jet(1.0)
                    total[1] = total[1] + b * coefficients[1, a, b] * inner * (x**a if a else 1.0)
        return total

    return Cubic(jnp.asarray(coefficients)), field


@pytest.mark.slow
def test_all_equilibria_of_random_polynomial_games_are_found():
    counts = []
    for seed in (1, 2, 5, 6):
        game, field = random_cubic(seed)
        enclosures = proved_zeros(field, (-3, -3), (3, 3))
        assert_complete(find_equilibria(game, ((-3, -3), (3, 3))), enclosures)
        counts.append(len(enclosures))
    assert counts == [7, 4, 6, 5]


@pytest.mark.slow
def test_the_zero_sum_quartic_has_the_origin_alone():
    value = np.zeros((5, 5))
    value[1, 1], value[2, 0], value[0, 2], value[4, 0], value[0, 4] = 1, -0.5, 0.5, 0.25, -0.25
    game = Cubic(jnp.asarray(np.stack([value, -value])))
    point = (jnp.asarray(0.7), jnp.asarray(-0.4))
    np.testing.assert_allclose(game.losses(point), dy.games.ZeroSumQuartic().losses(point), rtol=1e-14)
    enclosures = proved_zeros(lambda x, y: (y - x + x**3, x + y - y**3), (-3, -3), (4, 4))
    assert len(enclosures) == 1
    assert_complete(find_equilibria(game, ((-3, -3), (4, 4))), enclosures)


@pytest.mark.slow
def test_few_starts_find_the_same_with_the_help_of_deflation():
    game, field = random_cubic(0)
    many = positions(find_equilibria(game, ((-3, -3), (3, 3))))
    few = positions(find_equilibria(game, ((-3, -3), (3, 3)), starts=6))
    np.testing.assert_allclose(few, many, atol=1e-9)


@pytest.mark.slow
def test_the_search_is_deterministic_and_other_starts_find_the_same():
    game, _ = random_cubic(1)
    box = ((-3, -3), (3, 3))
    one, two, other = (
        find_equilibria(game, box),
        find_equilibria(game, box),
        find_equilibria(game, box, key=jax.random.key(7)),
    )
    np.testing.assert_array_equal(positions(one), positions(two))
    assert [point.steps for point in one] == [point.steps for point in two]
    np.testing.assert_allclose(positions(one), positions(other), atol=1e-12)


def test_only_equilibria_inside_the_box_are_returned_its_edge_included():
    found = find_equilibria(SpuriousAttractor(), ((-1, -1), (0, 1)))
    root = 2 - 2**0.5
    np.testing.assert_allclose(positions(found), [[-root, root], [0, 0]], atol=1e-12)
    assert find_equilibria(SpuriousAttractor(), ((1, 1), (2, 2))) == ()


# ---------------------------------------------------------------- more players, pytrees, precision


class Wells(dy.Game):
    """Three players with double wells and a little coupling: 27 equilibria, as many as without the coupling."""

    def losses(self, players, key=None):
        x, y, z = (players[0]["a"], players[1][0], players[2])
        return tuple((own**4 / 4 - own**2 / 2) + 0.05 * own * other for own, other in ((x, y), (y, z), (z, x)))

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(), ({"a": jnp.asarray(0.1)}, (jnp.asarray(0.2),), jnp.asarray(0.3))


@pytest.mark.slow_cases("float64", "float32")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_three_players_of_any_structure_and_precision(dtype):
    high = ({"a": jnp.asarray(2.0, dtype)}, (jnp.asarray(2.0, dtype),), jnp.asarray(2.0, dtype))
    low = jax.tree.map(jnp.negative, high)
    found = find_equilibria(Wells(), (low, high))
    assert len(found) == 27
    for point in found:
        assert jax.tree.structure(point.players) == jax.tree.structure(high)
        assert {leaf.dtype for leaf in jax.tree.leaves(point.players)} == {jnp.dtype(dtype)}
    points = positions(found)
    slopes = points**3 - points + 0.05 * np.roll(points, -1, axis=1)
    np.testing.assert_allclose(slopes, 0, atol=1e-13 if dtype == np.float64 else 1e-5)
    assert len({tuple(row) for row in np.round(points).astype(int)}) == 27


@pytest.mark.slow
def test_a_number_in_the_box_stands_for_all_numbers_of_a_player():
    game = dy.games.Quadratic.zero_sum(np.eye(2), np.array([[1.0], [2.0]]), np.eye(1))
    for box in (((-1, -1), (1, 1)), ((np.array([-1.0, -2.0]), -1), (1, np.array([3.0])))):
        (point,) = find_equilibria(game, box, starts=4)
        assert [player.shape for player in point.players] == [(2,), (1,)]
        np.testing.assert_allclose(positions([point]), 0, atol=1e-14)


# ---------------------------------------------------------------- manifolds and degenerate points


class Plane(dy.Game):
    """Two players with one loss: a circle of equilibria and its centre, a line of them, or a degenerate point."""

    circle: Array
    line: Array
    point: Array

    def losses(self, players, key=None):
        x, y = players
        circle, line = self.circle * (x**2 + y**2 - 1) ** 2, self.line * (x + y - 1) ** 2
        loss = circle + line + self.point * (x**4 + y**2)
        return loss, loss

    def equilibria(self):
        return ()

    @classmethod
    def example(cls):
        return cls(*jnp.eye(3)[0]), (jnp.asarray(0.1), jnp.asarray(0.2))


@pytest.mark.slow
def test_a_line_of_equilibria_is_returned_as_one_point():
    (point,) = find_equilibria(Plane(*jnp.eye(3)[1]), ((-2, -2), (2, 3)))
    assert point.condition == float("inf")
    assert sum(map(float, point.players)) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_a_circle_of_equilibria_is_one_point_beside_its_centre():
    found = find_equilibria(Plane(*jnp.eye(3)[0]), ((-2, -2), (2, 2)))
    radii = np.linalg.norm(positions(found), axis=1)
    np.testing.assert_allclose(sorted(radii), [0, 1], atol=1e-9)
    conditions = [point.condition for point in found]
    assert conditions[int(np.argmin(radii))] == pytest.approx(1) and max(conditions) == float("inf")


@pytest.mark.slow
def test_a_degenerate_point_is_returned_once():
    (point,) = find_equilibria(Plane(*jnp.eye(3)[2]), ((-2, -1), (1, 2)))
    np.testing.assert_allclose(positions([point]), 0, atol=1e-4)


# ---------------------------------------------------------------- programs and bad input


@pytest.mark.slow
def test_other_numbers_and_more_equilibria_compile_nothing():
    box = ((-3, -3), (3, 3))
    find_equilibria(random_cubic(0)[0], box)
    count = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            count.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    find_equilibria(random_cubic(7)[0], ((-2, -3), (3, 2.5)))
    here = len(count)
    eqx.filter_jit(lambda x: x * 3.125 + 1)(jnp.zeros(13))
    assert here == 0 and len(count) > 0


@pytest.mark.parametrize(
    ("box", "options", "error", "message"),
    [
        ((0, 1, 2), {}, ValueError, r"box is \(0, 1, 2\); expected a pair \(low, high\)"),
        (((0, 0), (1,)), {}, ValueError, "box has 2 players below and 1 above"),
        (((0, 0), (1, 0)), {}, ValueError, "box goes from 0 to 0 in coordinate 1; expected low < high"),
        (((0, 0), (1, np.inf)), {}, ValueError, r"box\[1\]\[1\] is inf; expected finite"),
        (
            ((0, np.zeros(2)), (1, np.ones(3))),
            {},
            ValueError,
            r"player 1 of the box has shapes \(2,\) below and \(3,\)",
        ),
        ((("a", 0), (1, 1)), {}, TypeError, r"box\[0\]\[0\] is 'a'"),
        (((0, 0), (1, 1)), {"starts": 0}, ValueError, "starts is 0; expected a whole number >= 1"),
        (((0, 0), (1, 1)), {"tolerance": -1.0}, ValueError, "tolerance is -1.0; expected a number > 0 and < 1"),
        (((0, 0), (1, 1)), {"separation": 2.0}, ValueError, "separation is 2.0; expected a number > 0 and < 1"),
    ],
)
def test_bad_boxes_are_refused(box, options, error, message):
    with pytest.raises(error, match=message):
        find_equilibria(PlanarQuadratic(), box, **options)
