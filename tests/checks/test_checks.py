"""`check_update` and `check_game`: right answers on known methods and games, and each planted error is found."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import Game, checks
from dynamics.checks.of_games import GAME_CHECKS
from dynamics.checks.of_updates import UPDATE_CHECKS
from dynamics.directions import Consensus
from dynamics.games import Bilinear, DiracGAN, SpuriousAttractor
from dynamics.optimisers import adam, momentum, optimistic, sgd
from dynamics.updates import Alternating, Extragradient, Lookahead, RungeKutta, Simultaneous, State, Update


def extragradient(rate):
    return Extragradient(sgd(rate), sgd(rate), extrapolation=rate)


# The one line of a user's test file.
test_my_method = checks.test_of_update(extragradient)
test_my_game = checks.test_of_game(SpuriousAttractor())


@pytest.fixture(scope="module")
def of_extragradient():
    return checks.check_update(
        extragradient, only=["bilinear games", "gradient flow", "rotations", "other stable points"]
    )


def test_extragradient_gets_the_right_information(of_extragradient):
    assert not of_extragradient.failed
    [(low, high)] = of_extragradient["bilinear games"].value["stable"]
    assert low == 0 and abs(high - 1) < 1e-6
    flow = of_extragradient["gradient flow"].value
    assert flow["equivalent"] and flow["order"] == 1.0 and flow["time"] == (1.0, 1.0)
    assert of_extragradient["rotations"].value is True
    assert of_extragradient["other stable points"].value["unstable for the flow"] == []


def test_what_is_found_is_shown_and_is_data(of_extragradient):
    text = of_extragradient.describe()
    assert text.startswith("Extragradient: 4 checks, none failed") and "converges for h sigma in (0, 1)" in text
    assert json.loads(json.dumps(of_extragradient.to_dict()))["subject"] == "Extragradient"
    assert len(of_extragradient) == 4 and [check.name for check in of_extragradient][0] == "bilinear games"
    with pytest.raises(KeyError, match="did you mean 'rotations'"):
        of_extragradient["rotation"]


@pytest.mark.parametrize(
    "make, stable, marginal",
    [
        (lambda rate: Simultaneous(sgd(rate), sgd(rate)), [], []),
        (lambda rate: Alternating(sgd(rate), sgd(rate)), [], [(0, 2)]),
        (lambda rate: Simultaneous(optimistic(rate), optimistic(rate)), [(0, 1 / 3**0.5)], []),
        (Extragradient(sgd(0.5), sgd(0.5), extrapolation=0.5), [(0, 2)], []),  # an update: scaled losses
    ],
)
def test_steps_that_converge_on_bilinear_games(make, stable, marginal):
    value = checks.check_update(make, only=["bilinear games"])["bilinear games"].value
    assert np.allclose(value["stable"], stable, atol=1e-6)
    assert np.allclose(value["marginal"], marginal, atol=0.03)


def test_gaps_between_steps_that_converge_are_found():
    def cycle(rate):  # a step and its opposite in turn: unstable in the middle
        return Lookahead(Alternating(sgd(rate), sgd(rate)), steps=5, weight=0.5)

    intervals = checks.check_update(cycle, only="bilinear games")["bilinear games"].value["stable"]
    for low, high in intervals:
        for s in (low, high):
            if 0 < s < 4:
                turn = np.linalg.eigvals(np.array([[1, -s], [s, 1 - s**2]])).astype(complex)
                assert abs(np.max(np.abs(0.5 + 0.5 * turn**5)) - 1) < 1e-5


@pytest.mark.parametrize(
    "make, fields, products",
    [
        (lambda rate: Simultaneous(sgd(rate), sgd(rate)), 1, 0),
        (lambda rate: Alternating(sgd(rate), sgd(rate)), 1, 0),
        (lambda rate: Alternating(sgd(rate), sgd(rate), repeats=(1, 3)), 2, 0),
        (extragradient, 2, 0),
        (lambda rate: RungeKutta(rate), 4, 0),
        (lambda rate: Lookahead(Simultaneous(sgd(rate), sgd(rate)), steps=3), 3, 0),
        (lambda rate: Simultaneous(sgd(rate), sgd(rate), direction=Consensus(0.5)), None, 1),
    ],
)
def test_cost_in_gradients(make, fields, products):
    value = checks.check_update(make, only=["cost"])["cost"].value
    assert value["products"] == products
    assert fields is None or value["fields"] == fields


def test_adam_gets_the_right_information():
    names = ["gradient flow", "gradient descent", "rotations", "exchange of players", "recompiles", "dtype"]
    found = checks.check_update(lambda rate: Simultaneous(adam(rate), adam(rate)), only=names)
    assert not found.failed
    assert [found[name].value for name in names[1:4]] == [False, False, True]
    assert not found["gradient flow"].value["equivalent"]


def test_momentum_follows_the_flow_in_another_time_and_turns_have_roles():
    flow = checks.check_update(lambda rate: Simultaneous(momentum(rate, 0.5), momentum(rate, 0.5)), "gradient flow")
    assert flow["gradient flow"].value["time"] == (2.0, 2.0) and flow["gradient flow"].value["order"] == 1.0
    turns = checks.check_update(
        lambda rate: Alternating(sgd(rate), sgd(rate)), ["exchange of players", "gradient descent"]
    )
    assert [check.value for check in turns] == [False, True]


class Wrong(Update):
    """Simultaneous gradient descent with one planted error."""

    rate: jax.Array
    error: str = eqx.field(static=True)

    def init(self, game, players):
        return State(players, ())

    def step(self, game, state, key=None):
        field, rate = game.field(state.players), self.rate
        if self.error == "decay":  # moves every equilibrium but 0
            field = jax.tree.map(lambda v, x: v - 0.1 * x, field, state.players)
        if self.error == "normalised":  # 0 / 0 at an equilibrium
            field = jax.tree.map(lambda v: v / jnp.linalg.norm(v), field)
        if self.error == "random":
            rate = rate * np.random.default_rng().random()
        if self.error == "wide":
            rate = rate * np.ones(())
        if self.error == "batch":  # under vmap the mean is still over a player's own numbers; here it is not traced
            rate = rate * (1.0 if float(jax.tree.leaves(state.players)[0][0]) > 0 else 2.0)
        players = jax.tree.map(lambda x, v: x + rate * v, state.players, field)
        return State(players, (jnp.zeros(1),) if self.error == "grows" else ())

    @classmethod
    def example(cls, players=2):
        return cls(jnp.asarray(0.1), "")


@pytest.mark.parametrize(
    "error, check",
    [
        ("decay", "keeps equilibria"),
        ("normalised", "finite"),
        ("random", "deterministic"),
        ("wide", "dtype"),
        ("batch", "traceable"),
        ("grows", "traceable"),
    ],
)
def test_a_planted_error_fails_the_right_check(error, check):
    def make(rate):
        return Wrong(jnp.asarray(rate), error)

    found = checks.check_update(make, only=[check])
    assert [one.name for one in found.failed] == [check], found.describe()


class Static(Update):
    """Gradient descent whose rate is a part of the program."""

    rate: float = eqx.field(static=True)

    def init(self, game, players):
        return State(players, ())

    def step(self, game, state, key=None):
        return State(jax.tree.map(lambda x, v: x + self.rate * v, state.players, game.field(state.players)), ())

    @classmethod
    def example(cls, players=2):
        return cls(0.1)


def test_numbers_that_are_constants_of_the_program():
    found = checks.check_update(lambda rate: Simultaneous(optax.sgd(rate), sgd(rate)), only=["recompiles"])
    assert found["recompiles"].outcome == "info" and not found.failed  # the style of optax
    assert found["recompiles"].value == ["method.steppers.optimisers[0]"]
    assert "Optimiser(optax.sgd, rate)" in found["recompiles"].text
    bare = checks.check_update(Simultaneous(optax.sgd(0.1), optax.adam(0.1)), only=["recompiles"])["recompiles"]
    assert bare.outcome == "info" and len(bare.value) == 2
    assert checks.check_update(Alternating.example(), only=["recompiles"])["recompiles"].outcome == "pass"
    fails = checks.check_update(lambda rate: Static(float(rate)), only=["recompiles"])["recompiles"]
    assert fails.outcome == "fail" and "Keep them as array leaves" in fails.text


def test_a_test_has_one_item_per_check_and_fails_with_the_check():
    [mark] = test_my_method.pytestmark
    assert mark.args == ("check", list(UPDATE_CHECKS))
    assert test_my_game.pytestmark[0].args == ("check", list(GAME_CHECKS))
    failing = checks.test_of_update(lambda rate: Wrong(jnp.asarray(rate), "wide"), only=["dtype"])
    with pytest.raises(pytest.fail.Exception, match=r"Wrong: dtype \(fail\): with players in float32 .* is float64"):
        failing("dtype")
    assert not checks.test_of_update.__test__ and not checks.test_of_game.__test__


def test_bad_arguments_are_told_apart():
    with pytest.raises(TypeError, match="expected a function of the rate that returns an update"):
        checks.check_update(0.1)
    with pytest.raises(TypeError, match="returned 0.1 for the rate 0.1; expected an update"):
        checks.check_update(lambda rate: rate)
    with pytest.raises(ValueError, match="did you mean 'rotations'"):
        checks.check_update(extragradient, only=["rotation"])
    with pytest.raises(TypeError, match="expected a game"):
        checks.check_game(extragradient)
    with pytest.raises(ValueError, match="pass check_game"):
        checks.check_game(Game.from_losses(lambda players, key=None: (players[0] @ players[1],) * 2))
    with pytest.raises(ValueError, match="the outcome is 'passed'"):
        checks.Check("dtype", "passed", None, "")


def test_what_kind_a_game_is():
    names = ["zero-sum", "potential", "monotone", "players"]
    value = {check.name: check.value for check in checks.check_game(Bilinear([[1.0, 2.0]]), only=names)}
    assert value["zero-sum"] is True and value["players"] == (1, 2) and value["monotone"] == 0
    assert value["potential"] == {"potential": False, "hamiltonian": True, "rotation": 1.0}
    assert checks.check_game(DiracGAN(), only=["zero-sum"])["zero-sum"].value is False
    kinds = checks.check_game(SpuriousAttractor(), only=["kinds of equilibria"])["kinds of equilibria"].value
    assert [one["flow"] for one in kinds] == ["stable", "stable", "unstable"]
    assert kinds[0]["kind"] == "strict local Nash" and "spurious" in kinds[1]["kind"]


@pytest.mark.parametrize(
    "losses, check",
    [
        (lambda xy: (xy[0] * xy[1] + xy[0], -xy[0] * xy[1]), "equilibria"),
        (lambda xy: (xy[0] * jax.lax.stop_gradient(xy[0]) + xy[0] * xy[1], xy[1] ** 2), "field"),
        (lambda xy: (jnp.sqrt(xy[0] - 1) * 0, xy[1] ** 2), "finite"),
        (lambda xy: (xy[0] * xy[1] * np.ones(()), xy[1] ** 2 * np.float64(1)), "dtype"),
        (lambda xy: (xy[0] ** 2 * np.random.default_rng().random(), xy[1] ** 2), "deterministic"),
        (lambda xy: (xy[0] ** 2,), "losses"),
        (lambda xy: (xy[0] ** 2, jnp.stack([xy[1]] * 2)), "losses"),
    ],
)
def test_a_planted_error_in_a_game_fails_the_right_check(losses, check):
    game = Game.from_losses(lambda players, key=None: losses(players), [(0.0, 0.0)])
    found = checks.check_game(game, only=[check])
    assert [one.name for one in found.failed] == [check], found.describe()
    assert found[check].value is not None
