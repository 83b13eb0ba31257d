"""Small images of handwritten digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dynamics._checks import as_whole
from dynamics._extras import optional
from dynamics._memory import check_memory, counted
from dynamics.data.dataset import DataSet


def digits() -> DataSet:
    """The 1,797 handwritten digits of scikit-learn, images of 8 x 8 pixels in 16 shades.

    Nothing is downloaded: they come with the package. Needs the extra `data`.
    Source: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (the
    test set).

    Returns:
        values of shape (1797, 1, 8, 8), a channel first, from -1 (background) to 1 (ink); the digit of each image.

    Raises:
        ImportError: scikit-learn is not installed.

    >>> digits().values.shape
    (1797, 1, 8, 8)
    """
    images, labels = _loaded()
    values = jnp.asarray(images / 8 - 1, float)[:, None]
    return DataSet(values, jnp.asarray(labels), name="digits", modes=10)


def stacked_digits(key: PRNGKeyArray, size: int = 25_600) -> DataSet:
    """Three digits drawn independently, as the channels of one image: a data set of 1,000 modes.

    Needs the extra `data`. Source: as Stacked MNIST in Metz, Poole, Pfau, Sohl-Dickstein, Unrolled Generative
    Adversarial Networks, 2017, section 3.3.1, with the 8 x 8 digits of `digits`.

    Args:
        key: random key of the draws.
        size: number of images.

    Returns:
        values of shape (size, 3, 8, 8) from -1 to 1; labels 100 a + 10 b + c for the digits a, b, c of the channels.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: the size is no positive whole number, or there is no memory for so many.

    >>> stacked_digits(jax.random.key(0), 10).values.shape
    (10, 3, 8, 8)
    """
    size = as_whole("size", size)
    check_memory(f"{counted(size)} images", size, 8 * 3 * 64, "expected fewer")
    single = digits()
    assert single.labels is not None
    rows = jax.random.randint(key, (size, 3), 0, single.count)
    labels = single.labels[rows] @ jnp.asarray([100, 10, 1])
    return DataSet(single.values[rows, 0], labels, name="stacked digits", modes=1000)


@functools.cache
def _loaded() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as scikit-learn has them."""
    optional("sklearn", "data", "dynamics.data.digits")
    loaded = optional("sklearn.datasets", "data", "dynamics.data.digits").load_digits()
    return loaded["images"], loaded["target"]
