"""What is compiled again: nothing for other numbers, other numbers of steps, and functions that are made anew alike.

And never a wrong hit: functions that differ in anything that they read do not share a program.
"""

import contextlib
import functools
import operator
import pickle
import types

import asymmetric
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy
from dynamics import _functions, optimisers
from dynamics._functions import comparable
from dynamics.simulation import maps, start_state

EVENTS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda event, duration, **_: EVENTS.append(event))


@contextlib.contextmanager
def counted():
    """Numbers of traced and of compiled programs, once the block has ended."""
    before, found = len(EVENTS), {}
    yield found
    new = EVENTS[before:]
    found["traced"] = sum("jaxpr_trace" in event for event in new)
    found["compiled"] = sum("backend_compile" in event for event in new)


def sgd(one=0.07, two=0.11):
    return dy.updates.Alternating(optimisers.sgd(one), optimisers.sgd(two))


def numbers(run):
    return jax.tree.map(np.asarray, run)


# ---------------------------------------------------------------- numbers of steps


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.slow_cases("True")
def test_another_number_of_steps_compiles_nothing(classify):
    game, start = asymmetric.make(2), asymmetric.start(2)
    options = dict(save_every="last", classify=classify)
    dy.simulate(game, sgd(), start, steps=100, **options)
    runs = {}
    with counted() as count:
        for steps in (1, 3, 63, 64, 67, 500, 1021):
            runs[steps] = dy.simulate(game, sgd(0.06, 0.1), start, steps=steps, **options)
    assert count == {"traced": 0, "compiled": 0}
    for steps, run in runs.items():
        assert run.steps.tolist() == [steps] and int(run.solver_steps) == steps
    # One run goes through the points of another.
    way = numbers(dy.simulate(game, sgd(0.06, 0.1), start, steps=67, classify=classify))
    for steps in (1, 3, 63, 64, 67):
        ends = zip(jax.tree.leaves(way.players), jax.tree.leaves(runs[steps].final), strict=True)
        for along, end in ends:
            np.testing.assert_array_equal(along[steps], end)


def test_other_numbers_of_saves_share_programs():
    game, start, update = asymmetric.make(2), asymmetric.start(2), sgd()
    measures = {"sum": asymmetric_sum}
    dy.simulate(game, update, start, steps=100, measures=measures)
    with counted() as count:
        runs = {steps: dy.simulate(game, update, start, steps=steps, measures=measures) for steps in (97, 111, 112)}
    assert count == {"traced": 0, "compiled": 0}
    for steps, run in runs.items():
        assert run.steps.tolist() == list(range(steps + 1))
        lengths = {len(leaf) for leaf in jax.tree.leaves((run.players, run.losses, run.measures))}
        assert lengths == {steps + 1}
        np.testing.assert_array_equal(run.players[0]["a"][-1], run.final[0]["a"])
    for along, longer in zip(jax.tree.leaves(runs[97].losses), jax.tree.leaves(runs[112].losses), strict=True):
        np.testing.assert_array_equal(along, longer[:98])


def asymmetric_sum(game, players):
    return players[0]["a"] + players[0]["b"]


def test_saves_of_many_bytes_take_no_more_memory_than_they_need(monkeypatch):
    monkeypatch.setattr(maps, "PADDED_BYTES", 0)
    maps._padded.cache_clear()
    segments = maps._padded(97, 1, False, np.dtype(float), np.dtype(int), True, 8)
    assert segments.saves == 97
    monkeypatch.undo()
    maps._padded.cache_clear()
    assert maps._padded(97, 1, False, np.dtype(float), np.dtype(int), True, 8).saves == 112


def static(game, update, start, **options):
    """As an outer program makes it, to which the number of steps belongs."""
    return numbers(eqx.filter_jit(lambda point: dy.simulate(game, update, point, **options))(start))


@pytest.mark.slow_cases("97-10", "40-last", "97-None", "150-last", "130-130")
@pytest.mark.parametrize(
    "steps, save_every", [(2, None), (40, "last"), (150, "last"), (300, "last"), (97, 10), (130, 130), (97, None)]
)
def test_the_same_numbers_as_with_steps_that_belong_to_the_program(steps, save_every):
    """All of them, to the bit; sums of differently many terms in the rate, to rounding."""
    game, start = dy.games.Bilinear(1.0), (jnp.asarray(1.0), jnp.asarray(0.3))
    update = dy.updates.Simultaneous(optimisers.sgd(0.3), optimisers.sgd(0.2))
    own = numbers(dy.simulate(game, update, start, steps=steps, save_every=save_every))
    wanted = static(game, update, start, steps=steps, save_every=save_every)
    np.testing.assert_allclose(own.rate, wanted.rate, rtol=1e-12)
    own, wanted = (eqx.tree_at(lambda run: run.rate, run, np.zeros(())) for run in (own, wanted))
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@given(st.integers(1, 3000), st.data())
def test_segments_that_were_added_are_of_no_steps(steps, data):
    every = data.draw(st.integers(1, steps))
    last = data.draw(st.booleans())
    every = steps if last else every
    whole = maps.Schedule(steps, every, last).segments(np.float64, True)
    padded = maps._padded(steps, every, last, np.dtype(float), np.dtype(np.int32), True, 8)
    padded = padded.segments()
    count = int(padded.count)
    assert count == whole.count and int(padded.steps) == steps == padded.lengths.sum()
    for name in ("lengths", "ends", "quarters", "opens"):
        own, wanted = getattr(padded, name), getattr(whole, name)
        rows, parts = wanted.shape
        assert rows == padded.rows <= len(own) and parts <= own.shape[1]
        np.testing.assert_array_equal(own[:rows, :parts][wanted > -1], wanted[wanted > -1])
        np.testing.assert_array_equal(own.ravel()[padded.places[:count]], wanted.ravel()[: whole.count])
    np.testing.assert_array_equal(padded.middles[:count], whole.middles)
    np.testing.assert_array_equal(padded.regular[:count], whole.regular)
    assert not padded.regular[count:].any() and (np.diff(padded.ends.ravel()) == padded.lengths.ravel()[1:]).all()
    if not padded.single:
        assert not padded.lengths[rows:].any() and not padded.lengths[:, parts:].any()


# ---------------------------------------------------------------- what is refused is refused every time


def test_a_start_is_refused_after_others_were_accepted():
    game, update = dy.games.Bilinear(1.0), sgd()
    free = dy.Game.from_losses(lambda p, key=None: (p[0] @ p[1], -p[0] @ p[1]))
    for _ in range(2):
        dy.simulate(game, update, (1.0, 1.0), steps=5, save_every="last")
        dy.simulate(free, update, (np.ones(2), np.ones(2)), steps=5, save_every="last")
        with pytest.raises(ValueError, match=r"players\[1\] is nan; expected finite numbers"):
            dy.simulate(game, update, (1.0, np.nan), steps=5, save_every="last")
        with pytest.raises(ValueError, match="Bilinear expects"):
            dy.simulate(game, update, (np.ones(3), 1.0), steps=5, save_every="last")
        with pytest.raises(ValueError, match="FunctionGame cannot take players of shapes"):
            dy.simulate(free, update, (np.ones(2), np.ones(3)), steps=5, save_every="last")
        with pytest.raises(ValueError, match="losses returned 2 losses for 3 players"):
            dy.simulate(free, update, (np.ones(2), np.ones(2), 1.0), steps=5, save_every="last")
        with pytest.raises(ValueError, match="the state has the memory"):
            adam = dy.updates.Simultaneous(optimisers.adam(0.1), optimisers.adam(0.1))
            dy.simulate(game, update, adam.init(game, (jnp.ones(()), jnp.ones(()))), steps=5, save_every="last")
        with pytest.raises(TypeError, match=r"players\[0\] is 'a'"):
            dy.simulate(game, update, ("a", 1.0), steps=5, save_every="last")
        with pytest.raises(ValueError, match="2 optimisers for 3 players"):
            three = dy.Game.from_losses(lambda p, key=None: (p[0], p[1], p[2]))
            dy.simulate(three, update, (1.0, 1.0, 1.0), steps=5, save_every="last")


class KnownWhenPositive(dy.Game):
    """Knows its equilibrium for positive numbers only, which are no part of its structure."""

    number: jax.Array

    def losses(self, players, key=None):
        return jnp.sum(players[0] ** 2), jnp.sum(players[1] ** 2)

    def equilibria(self):
        return ((jnp.zeros(()), jnp.zeros(())),) if float(self.number) > 0 else ()

    @classmethod
    def example(cls):
        return cls(jnp.ones(())), (jnp.ones(()), jnp.ones(()))


def test_equilibria_that_depend_on_the_numbers_are_compared_when_there_are_some():
    start = jnp.ones(2), jnp.ones(2)
    start_state(KnownWhenPositive(jnp.asarray(-1.0)), sgd(), start)
    with pytest.raises(ValueError, match="KnownWhenPositive expects"):
        start_state(KnownWhenPositive(jnp.asarray(1.0)), sgd(), start)


# ---------------------------------------------------------------- functions made anew


def quadratic(scale, matrix):
    def coupling(x, y):
        return scale * (x @ matrix @ y)

    return dy.Game.from_losses(
        lambda p, key=None: (coupling(*p) + p[0] @ p[0] / 2, -coupling(*p)), [(np.zeros(2), np.zeros(2))]
    )


@pytest.mark.slow
def test_losses_made_anew_compile_nothing():
    matrix, start = np.array([[1.0, 0.5], [0.0, 2.0]]), (np.ones(2), np.ones(2))
    runs, reports = [], []
    for again in range(2):
        with counted() as count:
            runs.append(dy.simulate(quadratic(2.0, matrix.copy()), sgd(), start, steps=50, save_every="last"))
            reports.append(dy.stability(quadratic(2.0, matrix.copy()), sgd()))
        if again:
            assert count["compiled"] == 0
    np.testing.assert_array_equal(runs[0].final[0], runs[1].final[0])
    assert reports[0].radius == reports[1].radius
    # Other numbers are another program, in both.
    other = dy.simulate(quadratic(1.0, matrix), sgd(), start, steps=50, save_every="last")
    assert not np.array_equal(other.final[0], runs[0].final[0])
    assert dy.stability(quadratic(1.0, matrix), sgd()).radius != reports[0].radius


def test_optimisers_made_anew_compile_nothing():
    game = dy.games.Bilinear(1.0)

    def run(rate):
        update = dy.updates.Simultaneous(optax.adam(rate), optax.sgd(0.1))
        return dy.simulate(game, update, (1.0, 1.0), steps=50, save_every="last")

    first = run(0.1)
    with counted() as count:
        again = run(0.1)
    assert count["compiled"] == 0 and first.final == again.final
    assert run(0.2).final != first.final


@pytest.mark.slow
def test_builds_made_anew_compile_nothing():
    def built(penalty):
        def build(rate):
            game = dy.games.DiracGAN(penalty=dy.penalties.R1(penalty))
            return game, dy.updates.Simultaneous(optimisers.sgd(rate), optimisers.sgd(rate)), (1.0, 0.5)

        return build

    def both(penalty):
        swept = dy.sweep(built(penalty), {"rate": np.linspace(0.1, 0.4, 3)}, steps=64, predict=False)
        return swept.simulated_rate.values, dy.critical(lambda rate: built(penalty)(rate)[:2], 0.5, 2.0).value

    rates, value = both(0.3)
    with counted() as count:
        same = both(0.3)
    assert count["compiled"] == 0
    np.testing.assert_array_equal(same[0], rates)
    assert same[1] == value
    other = both(0.25)
    np.testing.assert_allclose(other[1], 1.0)
    assert not np.array_equal(other[0], rates)


# ---------------------------------------------------------------- when functions are the same

GLOBAL = 1.0
TABLE = {"a": 1.0}


def reading_a_global():
    return lambda x: x * GLOBAL


def reading_through_another():
    return lambda x: reading_helper(x) + 1


def reading_helper(x):
    return x * GLOBAL


def reading_a_table():
    return lambda x: x * TABLE["a"]


def captures(value):
    return lambda x: x * value


def with_default(value):
    def function(x, scale=value, *, shift=value):
        return x * scale + shift

    return function


@pytest.mark.parametrize(
    "value",
    [1.5, 2, True, "name", None, (1.0, (2,)), 1j, np.float32(2), np.arange(3.0), jnp.arange(3.0), np.dtype(float)],
    ids=repr,
)
def test_equal_captures_are_the_same(value):
    for make in (captures, with_default, lambda value: captures(captures(value))):
        one, two = comparable(make(value)), comparable(make(value))
        assert one == two and hash(one) == hash(two) and one is not two


DIFFERENT = [
    (0.0, -0.0),
    (1, 1.0),
    (1, True),
    (1.0, np.float64(1.0)),
    (np.float32(1.0), np.float64(1.0)),
    (np.zeros(2), np.zeros((1, 2))),
    (np.zeros(2), -np.zeros(2)),
    (np.zeros(2), jnp.zeros(2)),
    (jnp.asarray(1.0), jnp.asarray(1.0, float)),  # weakly typed, and not
    ((1, 2), (2, 1)),
    ((1,), (1.0,)),
    ("1", b"1"),
    (lambda x: x, lambda x: -x),
    (dy.games.Bilinear(1.0), dy.games.Bilinear(2.0)),
    (dy.games.DiracGAN(), dy.games.Bilinear(1.0)),
    (jnp.sin, jnp.cos),
    (np.sin, jnp.sin),
]


@pytest.mark.parametrize("one, two", DIFFERENT, ids=range(len(DIFFERENT)))
def test_different_captures_are_not_the_same(one, two):
    for make in (captures, with_default, lambda value: captures((1, value)), lambda value: captures(captures(value))):
        first, second = comparable(make(one)), comparable(make(two))
        assert type(first) is type(second) is _functions.Comparable
        assert first != second


def test_different_code_of_one_name_is_not_the_same():
    def function(x):
        return x

    first = function

    def function(x):
        return -x

    assert comparable(first) != comparable(function)


def test_a_global_that_has_changed_is_not_the_same(monkeypatch):
    for make in (reading_a_global, reading_through_another):
        monkeypatch.setitem(globals(), "GLOBAL", 1.0)
        function = make()
        first = comparable(function)
        assert comparable(make()) == first
        monkeypatch.setitem(globals(), "GLOBAL", 2.0)
        assert comparable(make()) != first and comparable(function) != first
    first = comparable(reading_through_another())
    monkeypatch.setitem(globals(), "reading_helper", lambda x: x * GLOBAL)
    assert comparable(reading_through_another()) != first


def test_a_run_sees_what_a_changed_global_makes_of_it(monkeypatch):
    game = dy.Game.from_losses(lambda p, key=None: (GLOBAL * p[0] * p[1], -GLOBAL * p[0] * p[1]))
    finals = []
    for value in (1.0, 2.0, 1.0):
        monkeypatch.setitem(globals(), "GLOBAL", value)
        finals.append(dy.simulate(game, sgd(), (1.0, 1.0), steps=9, save_every="last").final)
    assert finals[0] == finals[2] != finals[1]


def test_an_attribute_of_a_module_that_has_changed_is_not_the_same():
    module = types.ModuleType("somebodys")
    module.scale, module.inner = 1.0, types.ModuleType("somebodys.inner")
    module.inner.shift = 1.0
    space = {"somebodys": module, "number_of": lambda m: m.scale}
    for text in ("somebodys.scale * x", "number_of(somebodys) * x", "x + somebodys.inner.shift"):
        module.scale = module.inner.shift = 1.0
        function = eval(f"lambda x: {text}", space)
        first = comparable(function)
        assert first == comparable(function) and type(first) is _functions.Comparable
        module.scale = module.inner.shift = 2.0
        assert comparable(function) != first


def test_an_array_that_has_changed_is_not_the_same():
    array = np.ones(3)
    function = captures(array)
    first = comparable(function)
    array[1] = 2
    assert comparable(function) != first and comparable(captures(np.ones(3))) == first
    assert first != comparable(captures(np.ones(3, np.float32)))


def test_a_list_or_a_dict_that_has_changed_is_not_the_same(monkeypatch):
    values = [1.0, {"a": 2.0}]
    function = captures(values)
    first = comparable(function)
    assert first == comparable(captures([1.0, {"a": 2.0}])) != comparable(captures([1.0, {"a": 2}]))
    values[1]["a"] = 3.0
    assert comparable(function) != first
    first = comparable(reading_a_table())
    monkeypatch.setitem(TABLE, "a", 2.0)
    assert comparable(reading_a_table()) != first


def test_a_variable_that_has_changed_is_not_the_same():
    def made():
        scale = 1.0
        function = lambda x: x * scale  # noqa: E731
        first = comparable(function)
        scale = 2.0
        return first, comparable(function)

    first, second = made()
    assert first != second


def captures_and_changes(value):
    def function(x):
        value[0] = x
        return x

    return function


class Own:
    number = 1.0


def counting():
    calls = 0

    def function(x):
        nonlocal calls
        calls += 1
        return x

    return function


def using(name):
    return eval(
        f"lambda x: {name}", {"np": np, "jax": jax, "TABLE": TABLE, "Own": Own, "using": using, "operator": operator}
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: captures_and_changes([1.0]),
        lambda: captures_and_changes({"a": 1.0}),
        lambda: captures(Own()),
        lambda: captures(np.random.default_rng(0)),
        lambda: captures(iter((1, 2))),
        lambda: captures(np.zeros(2**16)),
        lambda: captures({1.0, 2.0}),
        counting,
        lambda: using("np.random.normal()"),
        lambda: using("(lambda m: m.random.normal())(np)"),
        lambda: using("np.load('numbers.npy')"),
        lambda: using("getattr(TABLE, 'get')('a')"),
        lambda: using("TABLE.setdefault('b', x)"),
        lambda: using("Own.number * x"),
        lambda: using("using.__globals__['TABLE']"),
        lambda: using("operator.attrgetter('number')(Own)"),
        lambda: using("__import__('random').random()"),
    ],
)
def test_what_may_change_unseen_is_the_same_as_itself_only(make):
    function = make()
    assert comparable(function) is function


def test_namespaces_of_equal_code_are_not_the_same():
    code = compile("lambda x: x * scale", "somewhere", "eval")
    one, two = ({"scale": 2.0} for _ in range(2))
    assert comparable(eval(code, one)) != comparable(eval(code, two))


def test_methods_and_partials():
    def scaled(scale, x, shift=0.0):
        return scale * x + shift

    def partial(scale):
        return functools.partial(scaled, scale, shift=1.0)

    assert comparable(partial(2.0)) == comparable(partial(2.0)) != comparable(partial(3.0))
    one, two = dy.games.Bilinear(1.0).field, dy.games.Bilinear(1.0).field
    other = dy.games.Bilinear(2.0).field
    assert comparable(captures(one)) == comparable(captures(two)) != comparable(captures(other))


def test_functions_that_call_themselves_and_each_other():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert comparable(even) == comparable(even) != comparable(odd)


def test_a_comparable_function_stands_for_the_function():
    function = with_default(2.0)
    one = comparable(function)
    assert one(3.0) == function(3.0) and one.__name__ == "function" and repr(one) == repr(function)
    assert pickle.loads(pickle.dumps(comparable(reading_helper))) is reading_helper


def test_one_is_told_why_functions_made_anew_are_compiled(caplog):
    def made(value):
        return lambda x: x * value.number

    once = made(Own())
    for _ in range(9):
        comparable(once)
    assert not caplog.records
    kept = [made(Own()) for _ in range(9)]
    for function in kept:
        comparable(function)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "made 5 times" in record.getMessage()
    assert "each is compiled anew: it reads an object of type Own" in record.getMessage()
