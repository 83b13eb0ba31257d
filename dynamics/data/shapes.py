"""Shapes of the plane as data: points spread evenly along their outlines."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import Numbers, as_whole
from dynamics._memory import check_memory, counted
from dynamics._names import nearest
from dynamics.data.dataset import DataSet
from dynamics.data.synthetic import positive

_CORNERS = 400  # of a curve


def _square() -> list[np.ndarray]:
    return [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) / math.sqrt(2)]


def _cross() -> list[np.ndarray]:
    return [np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, -1.0], [0.0, 1.0]])]


def _star() -> list[np.ndarray]:
    angles = np.pi / 2 + np.arange(11) * np.pi / 5
    radii = np.where(np.arange(11) % 2, 0.4, 1.0)
    return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)]


def _circle() -> list[np.ndarray]:
    angles = np.linspace(0, 2 * np.pi, _CORNERS)
    return [np.stack([np.cos(angles), np.sin(angles)], axis=1)]


def _spiral() -> list[np.ndarray]:
    angles = np.linspace(0.5, 2, _CORNERS) * 2 * np.pi
    return [(angles / angles[-1] * np.stack([np.cos(angles), np.sin(angles)])).T]


def _heart() -> list[np.ndarray]:
    t = np.linspace(0, 2 * np.pi, _CORNERS)
    x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([x, y + 2.5], axis=1) / 17]


def _moons() -> list[np.ndarray]:
    t = np.linspace(0, np.pi, _CORNERS)
    return [
        np.stack([np.cos(t) - 0.5, np.sin(t) - 0.25], axis=1) / 1.5,
        np.stack([0.5 - np.cos(t), 0.25 - np.sin(t)], axis=1) / 1.5,
    ]


OUTLINES = {
    "circle": _circle,
    "cross": _cross,
    "heart": _heart,
    "moons": _moons,
    "spiral": _spiral,
    "square": _square,
    "star": _star,
}


def shape(
    key: PRNGKeyArray, size: int = 10_000, *, name: str = "spiral", scale: Numbers = 1.0, std: Numbers = 0.0
) -> DataSet:
    """Points along a shape of the plane, evenly by length, with Gaussian noise around.

    Args:
        key: random key of the draws.
        size: number of points.
        name: "circle", "cross", "heart", "moons", "spiral", "square" or "star"; all fit into the unit circle, roughly.
        scale: by which it is enlarged, > 0.
        std: of the noise, >= 0.

    Returns:
        values of shape (size, 2).

    Raises:
        ValueError: there is no such shape, or a number is out of bounds.

    >>> shape(jax.random.key(0), 100, name="heart").values.shape
    (100, 2)
    """
    if name not in OUTLINES:
        raise ValueError(f"there is no shape {name!r}{nearest(name, OUTLINES)}")
    size = as_whole("size", size)
    check_memory(f"{counted(size)} points", size, 16, "expected fewer")
    starts, steps = [], []
    for outline in OUTLINES[name]():
        starts.append(outline[:-1])
        steps.append(np.diff(outline, axis=0))
    begin, along = (jnp.asarray(np.concatenate(parts), float) for parts in (starts, steps))
    lengths = np.cumsum(np.linalg.norm(np.concatenate(steps), axis=1))
    where, noise = jax.random.split(key)
    places = jax.random.uniform(where, (size,), begin.dtype, maxval=float(lengths[-1]))
    pieces = jnp.minimum(jnp.searchsorted(jnp.asarray(lengths, begin.dtype), places, side="right"), len(lengths) - 1)
    before = jnp.asarray(np.concatenate([[0], lengths]), begin.dtype)
    shares = (places - before[pieces]) / (before[pieces + 1] - before[pieces])
    points: Array = positive("scale", scale) * (begin[pieces] + shares[:, None] * along[pieces])
    points = points + jnp.asarray(std, points.dtype) * jax.random.normal(noise, points.shape, points.dtype)
    return DataSet(points, name=name)
