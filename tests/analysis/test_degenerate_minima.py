"""Nash points whose own Hessians are singular: what `classify` says of games whose answer is known by construction."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dynamics as dy
from dynamics.game import as_players

ORDERS = np.arange(2, 9)  # powers of a coordinate that a loss is made of


class Bent(dy.Game):
    r"""$L_0=\sum_{ik}a_{ik}w_i^k+x\cdot By$ with bent coordinates $w=Mx+s\,(Mx)_{i+1}^2$, $L_1=y^2/2-c\,x\cdot By$."""

    coefficients: jax.Array  # (size, powers)
    mixing: jax.Array  # (size, size)
    bend: jax.Array  # (size,)
    coupling: jax.Array  # (size,)
    factor: jax.Array

    def losses(self, players, key=None):
        x, y = players
        z = self.mixing @ x
        w = z + self.bend * jnp.concatenate([z[1:], jnp.zeros_like(z[:1])]) ** 2
        powers = jnp.stack([w**k for k in ORDERS.tolist()], axis=-1)
        coupled = (x @ self.coupling) * y
        return jnp.sum(self.coefficients * powers) + coupled, y**2 / 2 - self.factor * coupled

    def equilibria(self):
        return (as_players((np.zeros(len(self.bend)), 0.0)),)

    @classmethod
    def example(cls):
        return bent([[4], [2]], [[1.0], [1.0]]), (jnp.ones(2), jnp.ones(()))


def bent(powers, factors, seed=0, shear=1.0, coupling=True):
    """Every coordinate with its powers and their factors; random mixing, bends and coupling."""
    rng = np.random.default_rng(seed)
    size = len(powers)
    coefficients = np.zeros((size, len(ORDERS)))
    for row, (orders, values) in enumerate(zip(powers, factors, strict=True)):
        for order, value in zip(orders, values, strict=True):
            coefficients[row, order - 2] += value
    turn = np.linalg.qr(rng.normal(size=(size, size)))[0] * rng.uniform(0.5, 2, size)
    linear = coupling * rng.normal(size=size)
    return Bent(*map(jnp.asarray, (coefficients, turn, shear * rng.normal(size=size), linear, rng.uniform(0.5, 2))))


def random_loss(rng, size, most=8):
    """Powers and factors of one loss, and whether 0 is a strict minimum of it, a flat one or none."""
    kind = rng.choice(["strict", "none", "flat"])
    powers, factors = [], []
    for _ in range(size):
        order = int(rng.choice([k for k in (2, 2, 4, 6) if k <= most]))
        powers.append([order, min(order + 1, 8)])  # higher terms do not matter
        factors.append([rng.uniform(0.5, 2), 0.5 * rng.normal() if order < 8 else 0.0])
    bad = rng.integers(size)
    if kind == "none":
        order = int(rng.choice([k for k in (3, 4, 5, 6) if k <= most]))
        powers[bad], factors[bad] = [order], [rng.uniform(0.5, 2) * (-1 if order % 2 == 0 else rng.choice([-1, 1]))]
    if kind == "flat":
        powers[bad], factors[bad] = [2], [0.0]
    return powers, factors, str(kind)


NASH = {"strict": "yes", "none": "no", "flat": "undecided"}


def assert_known(found, kind):
    """The verdict by construction, and a title that does not contradict it."""
    assert found.minima[0].kind == kind, found.describe()
    assert found.nash == NASH[kind]
    title = found.kind
    assert ("not Nash" in title or "neither Nash" in title) == (kind == "none")
    assert title.startswith("strict local Nash") == (kind == "strict")
    assert ("local Nash but flat" in title) == (kind == "flat")
    assert found.minima[0].kind in ("strict", "none") or found.degenerate


@pytest.mark.slow_cases("2", "1")
@pytest.mark.parametrize("size", [1, 2])
def test_random_bent_losses(size):
    rng = np.random.default_rng(size)
    for seed in range(12):
        powers, factors, kind = random_loss(rng, size)
        found = dy.classify(bent(powers, factors, seed, shear=0.5))
        if found.minima[0].flat_directions > 1 and found.minima[0].kind == "undecided":
            assert kind == "flat"  # a search that does not quite reach the bottom of a bent valley says so
        else:
            assert_known(found, kind)


@pytest.mark.slow
def test_many_random_bent_losses():
    counts = {}
    for size in (1, 2, 3):
        rng = np.random.default_rng(size)
        for seed in range(150):
            powers, factors, kind = random_loss(rng, size)
            found = dy.classify(bent(powers, factors, seed, shear=0.5)).minima[0]
            wrong = found.kind not in (kind, "undecided")
            assert not wrong, (size, seed, powers, factors, kind, found)
            counts[found.kind == "undecided"] = counts.get(found.kind == "undecided", 0) + 1
    assert counts.get(True, 0) <= 0.05 * sum(counts.values()), counts


def zero_sum(value, x=0.0, y=0.0):
    return dy.classify(dy.ZeroSum(value), at=(x, y))


def test_a_fourth_power_is_a_strict_nash_point():
    found = zero_sum(lambda x, y: x**4 + x * y - y**2 / 2)
    assert found.kind == "strict local Nash" and found.nash == "yes" and found.minimax == "yes"
    assert found.minima[0].flat_directions == 1 and "fourth derivative" in found.minima[0].reason
    assert found.minima[1].reason == "second derivatives"
    assert "fourth derivative along the one flat direction, computed: 24" in found.describe()
    examined = dy.examine(dy.ZeroSum(lambda x, y: x**4 + x * y - y**2 / 2), dy.flows.Flow(), at=(0.0, 0.0)).describe()
    assert "strict local Nash" in examined and "fourth derivative" in examined
    assert zero_sum(lambda x, y: -(x**4) + x * y - y**2 / 2).kind == "strict local minimax, not Nash"


@pytest.mark.slow
def test_the_dirac_gan_is_at_a_flat_nash_point():
    """The generator's loss does not depend on it when the discriminator is 0."""
    game = dy.games.DiracGAN(objective=dy.objectives.NonSaturating(), penalty=dy.penalties.R1(0.3))
    found = dy.classify(game)
    assert found.kind == "strict local Stackelberg, local Nash but flat" and found.nash == "undecided"
    assert [one.kind for one in found.minima] == ["flat", "strict"]
    data = found.to_dict()["minima"]
    assert data[0]["kind"] == "flat" and data[0]["margin"] == 0 and "no change beyond rounding" in data[0]["reason"]


VALLEYS = {  # losses of two numbers, and their minimum at 0
    "bent valley that goes down": (lambda x: (x[0] - x[1] ** 2) ** 2 - x[1] ** 6, "none"),
    "bent valley that goes up": (lambda x: (x[0] - x[1] ** 2) ** 2 + x[1] ** 6, "strict"),
    "bent valley that is flat": (lambda x: (x[0] - x[1] ** 2) ** 2, "flat"),
    "Peano: a minimum along every line": (lambda x: (x[0] - x[1] ** 2) * (x[0] - 2 * x[1] ** 2), "none"),
    "cusps": (lambda x: (x[0] ** 2 - x[1] ** 3) ** 2 - x[1] ** 8, "none"),
    "mixed quartic": (lambda x: x[0] ** 4 + x[1] ** 4 - 3 * x[0] ** 2 * x[1] ** 2, "none"),
    "positive quartic": (lambda x: x[0] ** 4 + x[1] ** 4 - 1.9 * x[0] ** 2 * x[1] ** 2, "strict"),
    "monkey saddle": (lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, "none"),
    "a tiny fourth power before a sixth": (lambda x: x[0] ** 2 - 1e-9 * x[1] ** 4 + x[1] ** 6, "none"),
    "a third power beside a tiny fourth": (lambda x: x[0] ** 2 + 1e-9 * x[1] ** 3 + x[1] ** 4, "none"),
}


@pytest.mark.slow_cases(
    "positive quartic",
    "bent valley that goes down",
    "mixed quartic",
    "bent valley that is flat",
    "Peano: a minimum along every line",
    "monkey saddle",
    "a tiny fourth power before a sixth",
    "a third power beside a tiny fourth",
)
@pytest.mark.slow_cases("cusps", "bent valley that goes up")
@pytest.mark.parametrize("name", VALLEYS)
def test_valleys(name):
    value, kind = VALLEYS[name]
    game = dy.Game.from_losses(lambda p, key=None: (value(p[0]) + p[0][0] * p[1], p[1] ** 2 / 2 - 2 * p[0][0] * p[1]))
    assert_known(dy.classify(game, at=(np.zeros(2), 0.0)), kind)


@pytest.mark.slow
def test_points_that_are_known_up_to_rounding():
    """A degenerate point is found to a root of the rounding only: the sign of the Hessian there means nothing."""
    for power, kind in ((4, "strict"), (3, "none")):
        game = dy.ZeroSum(lambda x, y, n=power: x**n + x * y**2 - y**2 / 2)
        for start in (0.2, -0.2):
            point = dy.find_equilibrium(game, (start, 0.0)).players
            assert abs(float(point[0])) > 0  # as found, not as it is
            assert dy.classify(game, at=point).minima[0].kind == kind, (power, start)


@pytest.mark.slow
def test_flat_to_all_orders_stays_undecided():
    def value(x, y):
        safe = jnp.where(x == 0, 1.0, x)
        return jnp.where(x == 0, 0.0, jnp.exp(-1 / safe**2)) + x * y - y**2 / 2

    found = zero_sum(value)
    assert found.nash == "undecided" and found.kind == "strict local minimax, Nash undecided"


def test_a_singular_follower_that_has_no_maximum_is_no_minimax_point():
    found = zero_sum(lambda x, y: x**2 + x * y + y**3)
    assert found.minimax == "no" and found.nash == "no"
    assert [one.kind for one in found.minima] == ["strict", "none"]


@pytest.mark.slow
def test_more_flat_directions_than_are_searched():
    game = dy.ZeroSum(lambda x, y: jnp.sum(x**4) + x[0] * y - y**2 / 2)
    found = dy.classify(game, at=(np.zeros(9), 0.0))
    assert found.minima[0].kind == "undecided" and found.nash == "undecided" and found.minima[0].flat_directions == 9
    assert found.kind == "strict local minimax, Nash undecided" or found.kind.startswith("undecided")


@pytest.mark.slow
def test_three_players_and_trees_in_single_precision():
    def losses(players, key=None):
        x, y, z = players
        return x["a"] ** 4 + x["a"] * y, y**2 - y * z[0], jnp.sum(z**2) - z[1] * x["a"]

    game = dy.Game.from_losses(losses)
    for dtype in (np.float32, np.float64):
        at = ({"a": jnp.asarray(0.0, dtype)}, jnp.asarray(0.0, dtype), jnp.zeros(2, dtype))
        found = dy.classify(game, at=at)
        assert found.kind.startswith("strict local Nash") and found.minima[0].flat_directions == 1


def test_ordinary_points_need_no_further_program(monkeypatch):
    from dynamics.analysis.equilibria import minima

    def refuse(*arguments):
        raise AssertionError("compiled a program that is not needed")

    monkeypatch.setattr(minima, "_along", eqx.filter_jit(refuse))
    assert dy.classify(dy.games.PlanarQuadratic(0.5, 1.0, 0.25)).minima[0].reason == "second derivatives"
