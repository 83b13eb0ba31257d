"""Short one-dimensional signals of ten kinds."""

import random

import jax.numpy as jnp
import numpy as np

from dynamics._checks import as_whole
from dynamics._extras import optional
from dynamics._memory import check_memory, counted
from dynamics.data.dataset import DataSet

CLASSES = 10
LENGTH = 40  # of a signal
EXTENDED = 12 + 60  # numbers of a signal before it is shortened


def signals(size: int = 5_000, *, seed: int = 42) -> DataSet:
    """MNIST-1D: ten templates of twelve numbers, padded, stretched, scaled, shifted, sheared, with noise.

    Made by the authors' package `mnist1d`, and nothing is downloaded; the defaults give the published 5,000 signals,
    those for training first. Needs the extra `signals`.
    Source: Greydanus, Kobak, Scaling Down Deep Learning with MNIST-1D, ICML 2024.

    Args:
        size: number of signals, as many of each digit: a multiple of ten.
        seed: of the generator, from 0 to 2^32 - 1.

    Returns:
        values of shape (size, 40) with mean 0 and standard deviation 1 over all; the digit of each signal.

    Raises:
        ImportError: mnist1d is not installed.
        ValueError: the size is no positive multiple of ten, there is no memory for so many, or the seed is out of
            bounds.
    """
    size, seed = as_whole("size", size), as_whole("seed", seed, 0)
    if size % CLASSES:
        raise ValueError(f"size is {size}; expected a multiple of {CLASSES}, as many signals of each digit")
    if seed >= 2**32:
        raise ValueError(f"seed is {seed}; expected a whole number below 2^32")
    check_memory(f"{counted(size)} signals", size, 8 * EXTENDED, "expected fewer")
    optional("mnist1d", "signals", "dynamics.data.signals")
    package = optional("mnist1d.data", "signals", "dynamics.data.signals")
    arguments = package.get_dataset_args()
    arguments.num_samples, arguments.train_split, arguments.seed = size, 1.0, seed
    # The package seeds the generators of all Python: the caller goes on with what the caller had.
    states = random.getstate(), np.random.get_state()
    try:
        made = package.make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return DataSet(jnp.asarray(made["x"], float), jnp.asarray(made["y"]), name="signals", modes=CLASSES)
