"""Strategies for games, updates and starts: what they draw has the property, and shrinks to what can be read."""

import random

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from dynamics import catalogue, objectives, penalties, strategies
from dynamics.game import FunctionGame, Game
from dynamics.games import Bilinear, DiracGAN, Quadratic

FEW = settings(max_examples=10)
SIZES = ((1, 1), (2, 1))


@eqx.filter_jit
def facts(game, first, second):
    """Losses, field and its Jacobian at one point, and how the field differs from that at another."""
    flat, unravel = ravel_pytree(first)
    other = ravel_pytree(second)[0]

    def field(vector):
        return ravel_pytree(game.field(unravel(vector)))[0]

    return dict(
        losses=jnp.stack(game.losses(first)),
        jacobian=jax.jacfwd(field)(flat),
        change=field(flat) - field(other),
        move=flat - other,
        rest=jnp.stack([jnp.linalg.norm(field(ravel_pytree(point)[0])) for point in game.equilibria()])
        if game.equilibria()
        else jnp.zeros(1),
    )


def drawn_facts(data, game):
    points = [data.draw(strategies.starts(game)) for _ in range(2)]
    found = {name: np.asarray(value) for name, value in facts(game, *points).items()}
    assert np.max(found["rest"]) < 1e-8 * (1 + np.max(np.abs(found["jacobian"])))  # known equilibria are some
    return found


@pytest.mark.parametrize("smooth", [False, True])
@FEW
@given(data=st.data())
def test_monotone_games_are(smooth, data):
    modulus = data.draw(st.sampled_from([0.0, 0.5]))
    make = {0.0: strategies.monotone_games(SIZES, smooth), 0.5: strategies.strongly_monotone_games(0.5, SIZES, smooth)}
    found = drawn_facts(data, data.draw(make[modulus]))
    slope, scale = found["jacobian"], 1 + np.max(np.abs(found["jacobian"]))
    assert np.linalg.eigvalsh(-(slope + slope.T) / 2).min() >= modulus - 1e-10 * scale
    inner, square = found["change"] @ found["move"], found["move"] @ found["move"]
    assert inner <= -modulus * square + 1e-8 * scale * (1 + square)


@pytest.mark.parametrize("smooth", [False, True])
@FEW
@given(data=st.data())
def test_cocoercive_games_have_their_constant(smooth, data):
    constant = data.draw(st.sampled_from([0.5, 2.0]))
    found = drawn_facts(data, data.draw(strategies.cocoercive_games(constant, SIZES, smooth)))
    inner, square = found["change"] @ found["move"], found["change"] @ found["change"]
    assert -inner >= constant * square - 1e-9 * (1 + square + abs(inner))


def test_the_constant_of_a_cocoercive_game_is_nearly_reached():
    def tight(game):
        matrix = np.asarray(game.matrices)[[0, 1], [0, 1]]
        excess = np.linalg.eigvalsh((matrix + matrix.T) / 2 - matrix.T @ matrix)
        assert excess[0] > -1e-9
        return abs(matrix[0, 1]) >= 0.4 and excess[0] < 0.02

    generated = settings(max_examples=3000, phases=[hypothesis.Phase.generate])
    games = strategies.cocoercive_games(1.0, ((1, 1),))
    assert tight(hypothesis.find(games, tight, settings=generated, random=random.Random(0)))


@pytest.mark.parametrize("smooth", [False, True])
@FEW
@given(data=st.data())
def test_zero_sum_potential_and_hamiltonian_games_are(smooth, data):
    found = drawn_facts(data, data.draw(strategies.zero_sum_games(SIZES, smooth)))
    assert np.sum(found["losses"]) == 0
    slope = drawn_facts(data, data.draw(strategies.potential_games(SIZES, smooth)))["jacobian"]
    assert np.allclose(slope, slope.T, atol=1e-12)
    if not smooth:
        slope = drawn_facts(data, data.draw(strategies.hamiltonian_games(SIZES)))["jacobian"]
        assert np.allclose(slope, -slope.T, atol=1e-12)


@pytest.mark.parametrize("smooth", [False, True])
@FEW
@given(data=st.data())
def test_general_sum_games_know_their_equilibrium(smooth, data):
    game = data.draw(strategies.general_sum_games(SIZES, smooth))
    assert len(game.equilibria()) == 1
    drawn_facts(data, game)


@FEW
@given(data=st.data())
def test_quadratic_games_have_their_spectrum(data):
    game = data.draw(strategies.quadratic_games((-2.0, -0.25), (1.0, 3.0), ((2, 1), (1, 2))))
    values = np.linalg.eigvals(drawn_facts(data, game)["jacobian"])
    assert np.all((values.real >= -2 - 1e-9) & (values.real <= -0.25 + 1e-9))
    assert np.sum(np.abs(values.imag) > 1 - 1e-9) == 2 and np.max(np.abs(values.imag)) <= 3 + 1e-9


@FEW
@given(data=st.data())
def test_bilinear_games_have_their_singular_values(data):
    game = data.draw(strategies.bilinear_games(0.5, 2.0, ((2, 3), (1, 1))))
    values = np.linalg.svd(np.asarray(game.matrix), compute_uv=False)
    assert np.all((values >= 0.5 - 1e-9) & (values <= 2 + 1e-9))


@FEW
@given(data=st.data())
def test_gans_are_realisable_and_rest_at_their_equilibrium(data):
    game = data.draw(strategies.realisable_gans(objectives.NonSaturating(), [None], dimensions=(2,)))
    [point] = game.equilibria()
    real, fake = game.samples(point)
    assert np.allclose(real.values, fake.values)
    assert np.linalg.matrix_rank(np.asarray(real.values)) == 2
    found = facts(game, point, point)
    assert np.linalg.eigvals(np.asarray(found["jacobian"])).real.max() < 0  # full rank: stable without a penalty


@FEW
@given(game=strategies.dirac_gans())
def test_dirac_gans_rest_at_the_origin(game):
    assert isinstance(game, DiracGAN) and [float(player) for player in game.equilibria()[0]] == [0, 0]


def test_dirac_gans_of_ones_own_choice():
    drawn = strategies.dirac_gans([objectives.Hinge()], penalties=st.builds(penalties.R1, st.just(0.5)))
    shown = strategies.shown(hypothesis.find(drawn, lambda game: True))
    assert shown.startswith("DiracGAN(objective=Hinge(), penalty=R1(weight=0.5)")


@pytest.mark.parametrize("players", [1, 2, 3])
def test_updates_of_every_kind_are_drawn_and_start(players):
    game = Quadratic([[np.eye(2) * (i == j) for j in range(players)] for i in range(players)])
    names = set(catalogue.members("updates")) - {"FictitiousPlay"} - ({"ODEGAN"} if players != 2 else set())

    def drawn(name):
        kinds = set()

        @settings(max_examples=4, phases=[hypothesis.Phase.generate])
        @given(strategies.updates([name], players=players))
        def starts(update):
            kinds.add(type(update).__name__)
            eqx.filter_eval_shape(update.init, game, game.equilibria()[0])

        starts()
        return kinds

    assert all(drawn(name) == {name} for name in names)
    seen = set()

    @settings(max_examples=30, phases=[hypothesis.Phase.generate])
    @given(strategies.updates(players=players))
    def look(update):
        seen.add(type(update).__name__)

    look()
    assert len(seen) > 4 and seen <= names


def whole(array, unit=1.0):
    return np.all(np.asarray(array) / unit == np.round(np.asarray(array) / unit))


@pytest.mark.slow
def test_what_is_found_can_be_read():
    planar = ((1, 1),)

    def found(strategy, condition=lambda drawn: True):
        return hypothesis.find(strategy, condition, settings=settings(max_examples=150))

    game = found(strategies.zero_sum_games(planar, smooth=True))
    assert not np.any(game.quartic) and not np.any(game.quadratic.matrices) and not np.any(game.centre)
    game = found(
        strategies.strongly_monotone_games(0.5, planar), lambda game: abs(np.asarray(game.matrices)[0, 0, 1]) > 1
    )
    assert whole(game.matrices, 0.5)
    assert np.asarray(found(strategies.bilinear_games(0.3, 4.0, ((2, 3),))).matrix).tolist() == [[1, 0, 0], [0, 1, 0]]
    update = found(
        strategies.updates(["Simultaneous", "Extragradient"]), lambda update: hasattr(update, "extrapolation")
    )
    assert strategies.shown(update).startswith(
        "Extragradient(sgd(0.5), sgd(0.5), direction=Gradient(), extrapolation=(0.5"
    )
    assert strategies.shown(found(strategies.updates())) == "Simultaneous(sgd(0.5), sgd(0.5), direction=Gradient())"
    start = found(strategies.starts(Bilinear([[1.0, 2.0]])), lambda start: float(start[1][1]) > 1.2)
    assert [player.tolist() for player in start] == [[0], [0, 2]]


def test_rotated_entries_have_few_digits():
    @settings(max_examples=10)
    @given(strategies.quadratic_games(sizes=((2, 1),)))
    def look(game):
        for entry in np.ravel(game.matrices).tolist():
            assert entry == round(entry, 12)

    look()


def test_hypothesis_prints_the_object_with_its_numbers():
    @settings(max_examples=20, phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])
    @given(strategies.bilinear_games(), strategies.updates(["Extragradient"]))
    def fails(game, update):
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        fails()
    text = "\n".join(caught.value.__notes__)
    assert "Bilinear(matrix=[[1]])" in text and "Extragradient(sgd(0.5), sgd(0.5)" in text


def test_starts_fit_any_game():
    for game, example in (FunctionGame.example(), Quadratic.example()):
        start = hypothesis.find(strategies.starts(game), lambda start: True)
        assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, example)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: strategies.bilinear_games(-1, 2), "low is -1"),
        (lambda: strategies.bilinear_games(shapes=((2,),)), "shapes is"),
        (lambda: strategies.quadratic_games(real=(1, -1)), "the smaller one first"),
        (lambda: strategies.quadratic_games(sizes=((1, 1, 1),)), "2 players"),
        (lambda: strategies.strongly_monotone_games(-1.0), "modulus is -1"),
        (lambda: strategies.cocoercive_games(0.0), "constant is 0"),
        (lambda: strategies.general_sum_games(sizes=((0, 1),)), "whole number of parameters"),
        (lambda: strategies.dirac_gans(objectives=[]), "objectives is"),
        (lambda: strategies.dirac_gans(penalties=["R1"]), "penalties is"),
        (lambda: strategies.realisable_gans(dimensions=(0,)), "dimensions is"),
        (lambda: strategies.updates(["Extragradent"]), "did you mean 'Extragradient'"),
        (lambda: strategies.updates([]), "names is empty"),
        (lambda: strategies.updates(["ODEGAN"], players=3), "two players"),
        (lambda: strategies.updates(players=0), "players is 0"),
        (lambda: strategies.updates(low=2, high=1), "low is 2"),
        (lambda: strategies.starts(Bilinear(1.0), size=0), "size is 0"),
    ],
)
def test_bad_arguments_get_a_helpful_message(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_names_that_do_not_exist_are_told():
    with pytest.raises(AttributeError, match="did you mean 'bilinear_games'"):
        strategies.bilinear_game  # noqa: B018
    with pytest.raises(TypeError, match="expected a game"):
        strategies.starts(1.0)
    assert issubclass(strategies.PerturbedQuadratic, Game) and "zero_sum_games" in dir(strategies)
    game, start = strategies.PerturbedQuadratic.example()
    assert float(game.field(start)[0]) != float(game.quadratic.field(start)[0])
    with pytest.raises(ValueError, match="quartic has shape"):
        strategies.PerturbedQuadratic(game.quadratic, [1.0], game.softplus, game.centre)
