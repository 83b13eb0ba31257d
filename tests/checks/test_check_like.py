"""`check_update(..., like=...)` tells a method from the one that it claims to be."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

from dynamics import checks, claims
from dynamics.optimisers import momentum, optimistic, sgd
from dynamics.updates import Alternating, Extragradient, Lookahead, RungeKutta, Simultaneous, State, Update


class Ahead(Update):
    """Extragradient written anew, right or with one planted error."""

    rate: jax.Array
    look: jax.Array
    error: str = eqx.field(static=True, default="")

    def init(self, game, players):
        return State(players, ())

    def step(self, game, state, key=None):
        here = game.field(state.players)
        ahead = jax.tree.map(lambda x, v: x + self.look * v, state.players, here)
        there = game.field(ahead)
        if self.error == "one player":
            there = (there[0], here[1])
        begin = ahead if self.error == "from the point ahead" else state.players
        return State(jax.tree.map(lambda x, v: x + self.rate * v, begin, there), ())

    @classmethod
    def example(cls, players=2):
        return cls(jnp.asarray(0.1), jnp.asarray(0.1))


def check(method, like):
    return checks.check_update(method, only=["like"], like=like)["like"]


@pytest.mark.slow
def test_the_right_method_passes():
    found = check(lambda rate: Ahead(rate, rate), Extragradient)
    assert found.outcome == "pass" and found.value["equal"] and found.value["largest"] < 1e-12
    assert "the same as Extragradient for 12 steps of 24 random games (bilinear, quadratic, smooth)" in found.text
    bare = check(lambda rate: Simultaneous(optax.sgd(rate), optax.sgd(rate)), Simultaneous)
    assert bare.outcome == "pass"
    assert check(Ahead(jnp.asarray(0.2), jnp.asarray(0.3)), Extragradient(sgd(0.2), sgd(0.2), extrapolation=0.3)).value[
        "equal"
    ]


@pytest.mark.slow_cases("<lambda>-Extragradient-1_0")
@pytest.mark.parametrize(
    "make, like, step",
    [
        (lambda rate: Ahead(rate, 0.99 * rate), Extragradient, 1),
        (lambda rate: Ahead(rate, rate, "one player"), Extragradient, 1),
        (lambda rate: Ahead(rate, rate, "from the point ahead"), Extragradient, 1),
        (lambda rate: Simultaneous(sgd(rate), sgd(rate)), Alternating, 1),
        (lambda rate: RungeKutta(rate, "rk4"), lambda rate: RungeKutta(rate, "midpoint"), 1),
        # A first step alike: only later ones differ.
        (lambda rate: Simultaneous(momentum(rate, 0.1), momentum(rate, 0.1)), Simultaneous, 2),
        (lambda rate: Simultaneous(optimistic(rate), optimistic(rate)), Simultaneous, 2),
    ],
)
def test_a_wrong_method_fails_and_says_where(make, like, step):
    found = check(make, like)
    assert found.outcome == "fail" and not found.value["equal"], found.text
    assert found.value["first step"] == step and f"first after step {step}" in found.text
    assert "a step of length" in found.text and "rate 0.25" in found.text


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(TypeError, match="Lookahead, which needs more than a rate"):
        check(lambda rate: Ahead(rate, rate), Lookahead)
    with pytest.raises(TypeError, match="the method is an update, with its rates inside, and like is made from a rate"):
        check(Ahead.example(), Extragradient)
    with pytest.raises(TypeError, match="like is 3; expected a class of dynamics.updates"):
        check(lambda rate: Ahead(rate, rate), 3)
    with pytest.raises(TypeError, match="returned 0.1 for the rate 0.1; expected an update"):
        check(lambda rate: Ahead(rate, rate), lambda rate: rate)


def test_the_comparison_is_one_of_the_items_of_a_test():
    test = checks.test_of_update(lambda rate: Ahead(rate, 0.5 * rate), like=Extragradient)
    assert test.pytestmark[0].args[1][0] == "like"
    with pytest.raises(pytest.fail.Exception, match=r"Ahead: like \(fail\): not Extragradient"):
        test("like")


@pytest.mark.slow
def test_counterexamples_are_shown_at_the_terminal(tmp_path, monkeypatch, capsys):
    from dynamics import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["claims", "concepts/minimax-is-nash", "--examples", "20", "--workers", "1", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "concepts/minimax-is-nash: Counterexample: a = " in text and "; margin -" in text


@pytest.mark.slow
def test_counterexamples_of_many_claims():
    from dynamics.reports import claims as report

    found = [claims.search(claims.find("concepts/minimax-is-nash"), examples=20)] * (report.SHOWN + 1)
    assert report.counterexamples(found[:2]).count("Counterexample: ") == 2
    assert report.counterexamples(found) == f"{report.SHOWN + 1} expected counterexamples are in the report."
