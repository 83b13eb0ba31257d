"""Batches: each point once in an epoch, and the same ones from wherever a loop resumes."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dynamics as dy

KEY = jax.random.key(5)


@given(st.sampled_from([(7, 1), (7, 3), (12, 4), (5, 5)]), st.integers(0, 3))
def test_every_point_comes_at_most_once_in_an_epoch(sizes, epoch):
    count, size = sizes
    batches = dy.data.Batches(jnp.arange(count), size, KEY)
    first = epoch * batches.per_epoch
    seen = np.concatenate(list(batches.iterate(first, first + batches.per_epoch)))
    assert len(seen) == len(set(seen.tolist())) == count // size * size


def test_epochs_have_orders_of_their_own():
    batches = dy.data.Batches(jnp.arange(50), 50, KEY)
    one, two = itertools.islice(iter(batches), 2)
    assert sorted(one.tolist()) == sorted(two.tolist()) == list(range(50))
    assert one.tolist() != two.tolist()
    np.testing.assert_array_equal(two, jax.random.permutation(jax.random.fold_in(KEY, 1), 50))


@pytest.mark.parametrize("array", [jnp.asarray, np.asarray], ids=["device", "host"])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_loop_resumes_where_it_stopped(array, prefetch):
    values = {"x": array(np.arange(22.0).reshape(11, 2)), "n": array(np.arange(11))}
    batches = dy.data.Batches(values, 4, KEY)
    all_of_them = list(batches.iterate(0, 9))
    assert len(all_of_them) == 9
    at = eqx.filter_jit(lambda batches, step: batches.at(step))
    for step, batch in enumerate(batches.iterate(5, 9, prefetch=prefetch), start=5):
        for other in (all_of_them[step], at(batches, jnp.asarray(step)), batches.at(step)):
            jax.tree.map(np.testing.assert_array_equal, batch, other)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
        np.testing.assert_array_equal(batch["x"][:, 0], 2 * batch["n"])  # leaves keep together


def test_the_values_of_a_data_set_are_taken():
    data = dy.data.ring(KEY, 20)
    assert dy.data.Batches(data, 5, KEY).at(0).shape == (5, 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dy.data.Batches(jnp.arange(3), 4, KEY), "size is 4, and there are 3 points"),
        (lambda: dy.data.Batches(jnp.arange(3), 0, KEY), "size is 0; expected a whole number >= 1"),
        (lambda: dy.data.Batches((jnp.arange(3), jnp.arange(4)), 2, KEY), "leading axes"),
        (lambda: dy.data.Batches(jnp.arange(3), 2, KEY).at(-1), "step is -1; expected a whole number >= 0"),
        (lambda: dy.data.Batches(jnp.arange(3), 2, KEY).iterate(-1), "start is -1"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
