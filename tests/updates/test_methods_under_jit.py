"""`jax.jit`, `jax.vmap` and `equinox.filter_jit` take the methods of every game, update and flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dynamics as dy
from dynamics import catalogue

GAME = dy.games.PlanarQuadratic(0.5, 1.0, 0.25)
PLAYERS = (jnp.asarray(1.0), jnp.asarray(-0.5))
UPDATES = {name: cls for name, cls in catalogue.members("updates").items() if name != "FictitiousPlay"}
FLOWS = catalogue.members("flows")


def same(found, expected):
    """Equal structures, and numbers equal to rounding: a compiled program may order its sums in another way."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def cases():
    for name, cls in UPDATES.items():
        yield name, cls.example()
    bare = optax.sgd(0.1), optax.adam(0.1)
    yield "bare optax", dy.updates.Alternating(*bare)
    yield "bare optax and a projection", dy.updates.Simultaneous(*bare, projections=(dy.updates.Clip(1.0), None))
    yield "own optimisers", dy.updates.Simultaneous(dy.optimisers.adam(0.1), dy.optimisers.momentum(0.1, 0.5))


@pytest.mark.slow_cases("AdaptiveCompetitive-", "ProximalPoint-", "bare optax-")
@pytest.mark.parametrize("name, update", list(cases()), ids=lambda value: value if isinstance(value, str) else "")
def test_updates(name, update):
    state = jax.jit(update.init)(GAME, PLAYERS)
    same(state, update.init(GAME, PLAYERS))
    expected = update.step(GAME, state)
    same(jax.jit(update.step)(GAME, state), expected)
    if name in ("Simultaneous", "bare optax"):
        same(eqx.filter_jit(update.step)(GAME, state), expected)
        several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
        same(jax.tree.map(lambda leaf: leaf[1], jax.vmap(update.step, (None, 0))(GAME, several)), expected)
        same(jax.tree.map(lambda leaf: leaf[0], jax.jit(jax.vmap(update.step, (None, 0)))(GAME, several)), expected)


@pytest.mark.parametrize("name", FLOWS)
def test_flows(name):
    flow = FLOWS[name].example()
    state = jax.jit(flow.init)(GAME, PLAYERS)
    same(jax.jit(flow.field)(GAME, jnp.asarray(0.5), state), flow.field(GAME, jnp.asarray(0.5), state))


@pytest.mark.slow_cases(
    "RingGAN", "MixtureGame", "VEEGAN", "VRAL", "Covariance", "HermiteGAN", "IteratedPrisonersDilemma"
)
@pytest.mark.parametrize("name", catalogue.members("games"))
def test_games(name):
    game, players = catalogue.members("games")[name].example()
    same(jax.jit(game.losses)(players), tuple(map(jnp.asarray, game.losses(players))))
    same(jax.eval_shape(game.field, players) and jax.jit(game.field)(players), game.field(players))


def test_equal_numbers_of_another_precision_are_another_program():
    """JAX finds programs by equality of functions: 0.5, weakly typed, and 0.5 in float64 make different ones."""
    single = tuple(jnp.asarray(1.0, jnp.float32) for _ in range(2))
    weak, strong = (dy.updates.RungeKutta(rate, "euler") for rate in (0.5, jnp.asarray(0.5, jnp.float64)))
    for _ in range(3):
        for update, dtype in ((weak, "float32"), (strong, "float64")):
            state = dy.updates.State(single, ())
            assert {p.dtype.name for p in jax.jit(update.step)(dy.games.Bilinear(1.0), state).players} == {dtype}
    assert weak.step == weak.step and hash(weak.step) == hash(weak.step)
    assert weak.step != strong.step and weak.step != weak.init


def test_the_same_method_compiles_once_and_traced_numbers_are_fine():
    traces = []

    class Counted(dy.Game):
        scale: jax.Array

        def losses(self, players, key=None):
            traces.append(1)
            return self.scale * players[0] ** 2, players[1] ** 2

        def equilibria(self):
            return ()

        @classmethod
        def example(cls):
            return cls(jnp.ones(())), PLAYERS

    game = Counted(jnp.asarray(2.0))
    kept = game.losses  # JAX forgets the program of a function that is gone
    first = jax.jit(kept)(PLAYERS)
    second = jax.jit(game.losses)(PLAYERS)
    assert len(traces) == 1 and first == second

    @jax.jit
    def scaled(scale):
        made = [Counted(scale), Counted(scale * 2), Counted(scale)]
        return [jax.jit(one.losses)(PLAYERS)[0] for one in made]

    np.testing.assert_allclose(scaled(3.0), [3.0, 6.0, 3.0])
    np.testing.assert_allclose(jax.vmap(lambda s: jax.jit(Counted(s).field)(PLAYERS)[0])(jnp.arange(3.0)), [0, -2, -4])


def test_methods_keep_their_names_and_documentation():
    assert GAME.field.__name__ == "field" and dy.Game.field.__doc__.startswith("The field")
    assert dy.updates.Simultaneous.example().step.__name__ == "step"
    assert eqx.filter(GAME.field, eqx.is_array) is not None  # still a pytree
