"""The rules of surfaces at which a field jumps, on arrays."""

import numpy as np
import pytest

from dynamics import surfaces


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sums_of_a_term_per_surface_are_told_from_others(count):
    random, sides = np.random.default_rng(count), surfaces.sides_of(count)
    constant, terms = random.normal(size=3), random.normal(size=(count, 3))
    values, upper = constant + sides @ terms, sides[random.integers(len(sides))]
    every = np.arange(count)
    assert surfaces.is_sum(values, sides, upper, every, 1e-12)
    steps = surfaces.steps_down(values, sides, upper, every)
    np.testing.assert_allclose(steps, 2 * upper[:, None] * terms, atol=1e-14)
    assert surfaces.jump_across(values, sides, 0) == pytest.approx(2 * np.linalg.norm(terms[0]))
    if count > 1:
        product = sides[:, 0] * sides[:, 1]
        mixed = values + 1e-6 * product[:, None]
        assert not surfaces.is_sum(mixed, sides, upper, every, 1e-7)
        # Of one surface alone it is a sum, whatever the others do.
        assert surfaces.is_sum(mixed, sides, upper, np.array([1]), 1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_is_tangent_from_whichever_side_it_is_written(count):
    random, sides = np.random.default_rng(10 + count), surfaces.sides_of(count)
    slopes, ahead = random.normal(size=(count, 4)), random.normal(size=count)
    values = random.normal(size=4) + sides @ random.normal(size=(count, 4))
    means = []
    for upper in sides:
        steps = surfaces.steps_down(values, sides, upper, np.arange(count))
        mean, _ = surfaces.tangent_mean(values[surfaces.row_of(sides, upper)], steps, slopes, ahead, np.linalg.solve)
        means.append(mean)
        np.testing.assert_allclose(slopes @ mean + ahead, 0, atol=1e-12)
    np.testing.assert_allclose(means, np.broadcast_to(means[0], np.shape(means)), atol=1e-10)
    gaps = random.normal(size=count)
    np.testing.assert_allclose(slopes @ surfaces.way_back(slopes, gaps, np.linalg.solve), gaps, atol=1e-12)


def test_switches_with_one_normal_are_gathered():
    units = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    normals = np.concatenate([units, -units[:2]])
    assert surfaces.gathered([0, 1, 5, 6, 3], normals, 1e-9) == [[0, 5], [1, 6], [3]]
    assert surfaces.are_independent(units[:3]) and surfaces.are_independent(np.zeros((0, 5)))
    assert not surfaces.are_independent(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]]))
    with pytest.raises(surfaces.NoSurfaces, match="5 surfaces of switches meet, and up to 4 are looked at"):
        surfaces.gathered(range(5), normals, 1e-9)
