"""Likelihoods of a mixture of Gaussians on the discriminator's output, an embedding, in place of a classifier."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike

from dynamics._checks import Numbers, as_leaf, check_finite, check_number, check_whole
from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective, Properties, log_ratio
from dynamics.objectives.minimax import Minimax
from dynamics.objectives.non_saturating import NonSaturating
from dynamics.objectives.pointwise import FURTHEST, Pointwise

OFFSET = 1e-8
NEWTON_STEPS = 6


class MDGAN(Objective):
    r"""Mixture density GAN: real samples are sent to the corners of a simplex, where a mixture of Gaussians is high.

    Losses: $L_D = -E_{real} \log l(e) - E_{fake} \log(\lambda-l(e))$, $L_G = E_{fake} \log(\lambda-l(e))$, of
    embeddings e; non-saturating: $L_G = -E_{fake} \log l(e)$. Here l is the density of d + 1 Gaussians in equal parts,
    at the corners of a regular simplex at distance 1 from the origin, and $\lambda$ the largest value of l.
    With $D = l(e)/\lambda$ the discriminator's loss is that of `Minimax` less $2\log\lambda$: ideal discriminator loss
    $\log 4 - 2\log\lambda$, where l is half its largest value; best D: p/(p+q), at many embeddings, of which the best
    score given here lies on the ray through the first corner, outwards.
    A loss adds 1e-8 to what it takes the logarithm of, in units of $\lambda$, where the authors' code adds it to l.
    In that code's loop the root of the corners' length is taken in each round, so that its corners are not at distance
    1 in more than one dimension; here they are. In the nine dimensions of its demonstration the variance 0.25 is so
    large that the largest value is at the origin, not near the corners.
    Source: Eghbal-zadeh, Zellinger, Widmer, Mixture Density Generative Adversarial Networks, 2019, with the authors'
    code.

    Args:
        dimension: d, of the embeddings; 1: a plain score, with corners at 1 and -1.
        variance: of each Gaussian, in each direction, > 0.
        saturating: which of the two losses of the generator.

    Raises:
        ValueError: the dimension is no whole number >= 1, or the variance not positive.

    >>> round(float(MDGAN().discriminator(jnp.asarray([1.0]), jnp.asarray([3.0]))), 4)  # real at a corner, fake far out
    1.8375
    """

    dimension: int = eqx.field(static=True)
    variance: Array
    saturating: bool = eqx.field(static=True)
    peak: Array

    def __init__(self, dimension: int = 1, variance: Numbers = 0.25, saturating: bool = True):
        self.dimension, self.variance, self.saturating = dimension, as_leaf(variance), saturating
        self.__check_init__()
        self.peak = self._find_peak()

    def __check_init__(self):
        check_whole(self, "dimension")
        check_number(self, "variance", above=0)

    @property
    def corners(self) -> np.ndarray:
        """Shape (d + 1, d)."""
        size = self.dimension
        # The unit vectors and one more point at the same distances, around their mean.
        points = np.vstack([np.eye(size), np.full(size, (1 - np.sqrt(1 + size)) / size)])
        points = points - points.mean(0)
        return points / np.linalg.norm(points[0])

    def log_density(self, embedding: Array) -> Array:
        """Logarithm of l at one embedding, of shape (d,), or a number where d = 1."""
        squares = jnp.sum(jnp.square(jnp.reshape(embedding, -1) - self.corners), axis=-1)
        size = self.dimension
        normalised = size * jnp.log(2 * jnp.pi * self.variance) / 2 + np.log(size + 1)
        return logsumexp(-squares / (2 * self.variance)) - normalised

    @property
    def log_largest(self) -> Array:
        r"""Logarithm of $\lambda$."""
        # Its derivative with respect to the variance is the one at this place: there the density is level.
        return self._along(self.peak)

    def _find_peak(self) -> Array:
        """Where the density is largest: by symmetry on the ray through a corner, or at its origin."""
        grid = jnp.linspace(0, 1, 65)
        return _newton(jax.grad(self._along), grid[jnp.argmax(self._along(grid))])

    def _along(self, distance: Array) -> Array:
        """Logarithm of l on the ray through a corner; the d others have the cosine -1/d with it."""
        size, scale = self.dimension, 1 / self.variance
        peaks = jnp.logaddexp(distance * scale, np.log(size) - distance * scale / size)
        normalised = size * jnp.log(2 * jnp.pi * self.variance) / 2 + np.log(size + 1)
        return peaks - (jnp.square(distance) + 1) * scale / 2 - normalised

    def _relative(self, embedding: Array) -> Array:
        return self.log_density(embedding) - self.log_largest

    def real_loss(self, embedding: Array) -> Array:
        """What the discriminator pays for one embedding of a real sample."""
        return -jnp.logaddexp(self._relative(embedding), np.log(OFFSET)) - self.log_largest

    def fake_loss(self, embedding: Array) -> Array:
        """What it pays for one of a fake sample."""
        rest = jnp.maximum(-jnp.expm1(self._relative(embedding)), 0)
        return -jnp.log(rest + OFFSET) - self.log_largest

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(real).mean(self.real_loss) + as_sample(fake).mean(self.fake_loss)

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return -as_sample(fake).mean(self.fake_loss) if self.saturating else as_sample(fake).mean(self.real_loss)

    @property
    def ideal_discriminator_loss(self) -> Array:
        score = self.ideal_score
        return self.real_loss(score) + self.fake_loss(score)

    @property
    def ideal_score(self) -> Array:
        """An embedding, of shape (d,); a number where d = 1."""
        (distance,) = self._distances(jnp.log(jnp.asarray([0.5])))
        return distance * (self.corners[0, 0] if self.dimension == 1 else self.corners[0])

    def _distances(self, log_of_probability: Array) -> Array:
        """How far out on the ray through the first corner D has these values."""
        top = self.log_largest
        guess = self.peak + jnp.sqrt(-2 * self.variance * log_of_probability)  # for one Gaussian
        # Close to the top the density is level within rounding, and the guess as good as any other place.
        level_top = 100 * jnp.finfo(guess.dtype).eps

        def one(level: Array, start: Array) -> Array:
            root = _newton(lambda t: self._along(t) - top - jnp.minimum(level, -level_top), start + level_top)
            return jnp.where(level > -level_top, start, root)

        return jax.vmap(one)(log_of_probability, guess)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        """Embeddings at which D = p/(p+q), shape (n,) where d = 1, (n, d) otherwise.

        Where there are no data the best one is infinitely far out; the one given has D = exp(-80).
        """
        distances = self._distances(-jnp.logaddexp(0, -jnp.clip(log_ratio(p, q), -FURTHEST, FURTHEST)))
        return distances * self.corners[0, 0] if self.dimension == 1 else distances[:, None] * self.corners[0]

    def density_ratio(self, scores: ArrayLike) -> Array:
        """The ratio that embeddings tell, D/(1-D); the first axis is that of the points."""
        relative = jax.vmap(self._relative)(jnp.asarray(scores) * 1.0)
        return jnp.exp(relative) / -jnp.expm1(relative)

    def divergence_value(
        self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None, points: ArrayLike | None = None
    ) -> Array:
        scores = self.optimal_score(p, q)
        real, fake = (Sample(scores, jnp.asarray(mass) * (1.0 if weights is None else weights)) for mass in (p, q))
        return self.ideal_discriminator_loss - self.discriminator(real, fake)

    def generator_weight(self, ratio: ArrayLike) -> Array:
        """That of the first GAN, as the generator is paid the same but for constants, and the 1e-8."""
        return self._in_probabilities.generator_weight(ratio)

    def descended_divergence(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return self._in_probabilities.descended_divergence(p, q, weights)

    @property
    def _in_probabilities(self) -> Pointwise:
        return Minimax() if self.saturating else NonSaturating()

    @property
    def takes_vectors(self) -> bool:
        return True

    @property
    def divergence(self) -> str:
        return "2 JSD(data, model)" if self.saturating else "KL(model, data) - 2 JSD(data, model)"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)


class PGAN(Pointwise):
    r"""Probabilistic GAN, a reconstruction: likelihoods of embeddings under a Gaussian for either kind of sample.

    Losses: $L_D = -E_{real} \log N(e; m_r, v) - E_{fake} \log N(e; m_f, v)$, $L_G = -E_{fake} \log N(e; m_r, v)$, for
    embeddings e. Ideal discriminator loss: $\log(2\pi v) + |m_r-m_f|^2/(4v)$ in one dimension, half way between the
    means; best score: $(p\,m_r + q\,m_f)/(p+q)$. For numbers it is `LeastSquares` with the targets $m_f, m_r, m_r$,
    divided by v, and a constant.
    What the paper's objective is could not be confirmed: its abstract speaks of a Gaussian mixture within the GAN and
    of likelihoods in place of a classification loss, and no code was published. `MDGAN` is the same authors' later
    method, confirmed by their code.
    Source: Eghbal-zadeh and Widmer, Probabilistic Generative Adversarial Networks, 2017, from its abstract alone.

    Args:
        real, fake: means of the two Gaussians, numbers or vectors of the embedding's size.
        variance: v, > 0.

    Raises:
        ValueError: the means differ in shape, or are not finite, or the variance is not positive.

    >>> round(float(PGAN().ideal_discriminator_loss), 6)  # log(2 pi) + 1
    2.837877
    """

    real: Array
    fake: Array
    variance: Array

    def __init__(self, real: Numbers = 1.0, fake: Numbers = -1.0, variance: Numbers = 1.0):
        self.real, self.fake, self.variance = as_leaf(real), as_leaf(fake), as_leaf(variance)

    def __check_init__(self):
        shapes = jnp.shape(self.real), jnp.shape(self.fake)
        if shapes[0] != shapes[1] or len(shapes[0]) > 1:
            raise ValueError(
                f"PGAN.real and PGAN.fake have shapes {shapes[0]} and {shapes[1]}; expected two numbers, or two "
                "vectors of the embedding's size"
            )
        for name in ("real", "fake"):
            check_finite(getattr(self, name), f"PGAN.{name}")
        check_number(self, "variance", above=0)

    def _negative_log_likelihood(self, embedding: Array, mean: Array) -> Array:
        squares = jnp.square(embedding - mean) / self.variance + jnp.log(2 * jnp.pi * self.variance)
        return (squares if jnp.ndim(mean) == 0 else jnp.sum(squares, axis=-1)) / 2

    def real_loss(self, score: Array) -> Array:
        return self._negative_log_likelihood(score, self.real)

    def fake_loss(self, score: Array) -> Array:
        return self._negative_log_likelihood(score, self.fake)

    def generator_loss(self, score: Array) -> Array:
        return self._negative_log_likelihood(score, self.real)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        share = jax.nn.sigmoid(log_ratio(p, q))
        share = share if jnp.ndim(self.real) == 0 else share[..., None]
        return share * self.real + (1 - share) * self.fake

    @property
    def takes_vectors(self) -> bool:
        return jnp.ndim(self.real) == 1

    @property
    def divergence(self) -> str:
        return "the discriminator's: |m_r - m_f|^2 / (8 v) times the triangular discrimination"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=jnp.ndim(self.real) == 0, symmetric=True, bounded=True)


def _newton(function: Callable[[Array], Array], start: Array) -> Array:
    """A root near a start, by a few steps; with a derivative with respect to what the function depends on."""
    root = start
    for _ in range(NEWTON_STEPS):
        root = root - function(root) / jax.grad(function)(root)
    return root
