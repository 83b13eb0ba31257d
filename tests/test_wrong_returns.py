"""What the caller's functions return wrongly gets a message with shapes, never one about tracers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy

UPDATE = dy.updates.Simultaneous(optax.sgd(0.1), optax.sgd(0.1))
START = (1.0, 1.0)

# Made from a number, so that they are traced where the number is: what is returned, and what the message shows of it.
WRONG = {
    "nothing": (lambda v: None, "None"),
    "text": (lambda v: "loss", "'loss'"),
    "one entry": (lambda v: v * jnp.ones(1), "array of shape (1,), float64"),
    "a matrix": (lambda v: v * jnp.ones((3, 3)), "array of shape (3"),
    "an integer": (lambda v: 3, "3"),
    "an array of integers": (lambda v: jnp.asarray(3), "array of shape (), int64"),
    "a truth value": (lambda v: v > 0, "array of shape (), bool"),
    "complex": (lambda v: 1j * v, "array of shape (), complex128"),
    "with aux": (lambda v: (v, {"accuracy": v}), "(array of shape (), float64; a dict with the entries 'accuracy')"),
    "a list": (lambda v: [v], "[array of shape (), float64]"),
    "a dict": (lambda v: {"loss": v}, "a dict with the entries 'loss'"),
    "a function": (lambda v: jnp.sin, "sin"),
    "objects": (lambda v: np.array([None]), "array of shape (1,), object"),
}
RAW = ("Tracer", "traced for", "grad requires", "while_loop", "NoneType", "unsupported operand", "bad operand",
       "batched function", "not a valid JAX", "has no attribute", "tuple index")  # fmt: skip


def message_of(function):
    with pytest.raises((TypeError, ValueError)) as caught:
        function()
    text = str(caught.value)
    assert not any(raw in text for raw in RAW), text
    return text


@pytest.mark.parametrize("name", WRONG)
def test_losses_and_values(name):
    wrong, shown = WRONG[name]
    game = dy.Game.from_losses(lambda p, key=None: (wrong(p[0] * p[1]), -p[0] * p[1]))
    zero_sum = dy.ZeroSum(lambda x, y: wrong(x * y))
    for text in (
        message_of(lambda: game.field((jnp.asarray(1.0), jnp.asarray(1.0)))),
        message_of(lambda: dy.simulate(game, UPDATE, START, steps=2)),
        message_of(lambda: dy.stability(game, UPDATE, at=(0.0, 0.0))),
        message_of(lambda: dy.simulate(zero_sum, UPDATE, START, steps=2)),
        message_of(lambda: dy.find_equilibrium(zero_sum, START)),
        message_of(lambda: dy.simulate(dy.Game.from_losses(lambda p, key=None: wrong(p[0])), UPDATE, START, steps=2)),
    ):
        assert shown in text or "a dict with the entries" in text, text
        assert "expected" in text


@pytest.mark.slow_cases("nothing", "text", "complex", "a function", "objects")
@pytest.mark.parametrize("name", WRONG)
def test_measures_projections_and_networks(name):
    wrong, shown = WRONG[name]
    dirac = dy.games.DiracGAN()
    if name in ("nothing", "text", "complex", "a function", "objects"):  # anything else can be recorded
        measures = {"mine": lambda game, players: wrong(players[0])}
        for method, length in ((UPDATE, {"steps": 2}), (dy.flows.Flow(), {"until": 0.5})):
            text = message_of(lambda: dy.simulate(dirac, method, START, measures=measures, **length))  # noqa: B023
            assert "the measure 'mine' returned" in text and shown in text
    sgd = optax.sgd(0.1)
    update = dy.updates.Simultaneous(sgd, sgd, projections=(None, wrong))
    text = message_of(lambda: dy.simulate(dirac, update, START, steps=2))
    assert "the projection of player 1 returned" in text and shown in text
    ahead = dy.updates.Extragradient(sgd, sgd, extrapolation=0.1, projections=(wrong, None))
    assert shown in message_of(lambda: jax.eval_shape(ahead.step, dirac, ahead.init(dirac, (jnp.ones(()),) * 2)))

    points = np.ones((3, 2))

    def gan(generator=lambda t, z: t + z, discriminator=lambda w, x: w @ x, data=points):
        return dy.GAN(generator, discriminator, data, points)

    start = (np.ones(2), np.ones(2))
    score = gan(discriminator=lambda w, x: wrong(w @ x))
    text = message_of(lambda: dy.simulate(score, UPDATE, start, steps=2))
    assert "the discriminator returned" in text and shown in text
    point = gan(generator=lambda t, z: wrong((t + z)[0]))
    text = message_of(lambda: dy.simulate(point, UPDATE, start, steps=2))
    assert "the generator returned" in text
    drawn = gan(data=lambda key: wrong(jax.random.normal(key)))
    text = message_of(lambda: dy.simulate(drawn, UPDATE, start, steps=2))
    assert "samples returned" in text or "the data have points of shapes" in text
    message_of(lambda: gan(data=wrong(1.0)).field(start))


def test_networks_on_points_of_a_wrong_shape():
    gan = dy.GAN(lambda t, z: t + z, lambda w, x: w @ x, np.ones((3, 2)), np.ones((4, 2)))
    text = message_of(lambda: dy.simulate(gan, UPDATE, (np.ones(2), np.ones(3)), steps=2))
    assert "the discriminator fails for parameters and one point of shapes (3,), (2,)" in text


def test_penalties_and_objectives_of_ones_own():
    class Half(dy.penalties.Penalty):
        def __call__(self, score, objective, players, real, fake, key):
            return jnp.zeros(())

    gan = dy.GAN(lambda t, z: t + z, lambda w, x: w * x, [1.0], [0.0], penalty=Half())
    assert "Half returned array of shape (), float64; expected a tuple of 2" in message_of(
        lambda: gan.field((1.0, 1.0))
    )


def test_auxiliary_outputs():
    def losses(players, key=None):
        x, y = players
        return (x**2 / 2 + x * y, y**2 / 2 - x * y), {"score": x, "name": "anything"}

    text = message_of(lambda: dy.simulate(dy.Game.from_losses(losses), UPDATE, START, steps=2))
    assert "If it returns (losses, aux), say so: Game.from_losses(losses, has_aux=True)" in text
    game = dy.Game.from_losses(losses, has_aux=True)
    plain = dy.Game.from_losses(lambda players, key=None: losses(players)[0])
    run, other = (dy.simulate(one, UPDATE, START, steps=5, save_every="last") for one in (game, plain))
    np.testing.assert_array_equal(run.final, other.final)
    value = dy.ZeroSum(lambda x, y: (x**2 / 2 + 2 * x * y - y**2, None), [(0.0, 0.0)], has_aux=True)
    assert dy.classify(value).kind == "strict local Nash"
    for wrong in (lambda p, key=None: (p[0], p[1], p[0]), lambda p, key=None: None):
        text = message_of(lambda: dy.simulate(dy.Game.from_losses(wrong, has_aux=True), UPDATE, START, steps=2))  # noqa: B023
        assert "with has_aux=True expected a pair, ((loss_0, loss_1), aux)" in text
    assert "has_aux=True expected a pair, (value, aux)" in message_of(
        lambda: dy.find_equilibrium(dy.ZeroSum(lambda x, y: x * y, has_aux=True), START)
    )


def test_functions_that_take_something_else():
    assert "called with 2 arguments, as losses(players, key=None)" in message_of(
        lambda: dy.Game.from_losses(lambda players: players)
    )
    assert "called with 2 arguments, as value(x, y)" in message_of(lambda: dy.ZeroSum(lambda x: x))
    assert "a game of two players; got 3" in message_of(
        lambda: dy.simulate(dy.ZeroSum(lambda x, y: x * y), UPDATE, (1.0, 1.0, 1.0), steps=2)
    )
    text = message_of(lambda: dy.Game.from_losses(lambda p, key=None: (p[0], p[1], p[0])).field((1.0, 1.0)))
    assert text.startswith("losses returned 3 losses for 2 players")


def test_constants_and_arrays_of_losses_are_fine():
    for losses in (lambda p, key=None: (0.5, p[1] ** 2), lambda p, key=None: jnp.stack([p[0] * p[1], p[1] ** 2])):
        field = dy.Game.from_losses(losses).field((jnp.asarray(1.0), jnp.asarray(3.0)))
        assert float(field[1]) == -6.0
