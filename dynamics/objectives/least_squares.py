import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dynamics._checks import as_leaf, check_number
from dynamics.objectives.base import Properties
from dynamics.objectives.pointwise import Pointwise
from dynamics.scalars import half_square


class LeastSquares(Pointwise):
    r"""Least squares GAN with targets a (fake), b (real) and c (what the generator wants fakes to score).

    Losses: $L_D = \tfrac12 E_{real}(C-b)^2 + \tfrac12 E_{fake}(C-a)^2$, $L_G = \tfrac12 E_{fake}(C-c)^2$.
    Ideal discriminator loss: $(b-a)^2/4$, at the score $(a+b)/2$; best score: $(bp+aq)/(p+q)$, with which the
    discriminator gains $(b-a)^2\Delta/8$, $\Delta = \int (p-q)^2/(p+q)$.
    With $b-c=1$ and $b-a=2$, as by default, the generator minimises a Pearson chi-squared divergence: twice its loss,
    with the same term of the real samples added, is $\int (2q-(p+q))^2/(p+q) = \Delta$. That is a statement about
    values. Against a discriminator that is held fixed its gradient has the weight $(c-C)(b-a)\,pq/(p+q)^2$, negative
    where C > c: with these targets (c between a and b) fakes are sent to the score c, from both sides, while with the
    0-1 coding a = 0, b = c = 1 the weight is never negative, and what is descended on is
    KL(data, mixture) - Δ/8 (mixture: of data and model, in equal parts).
    Zero-sum: $L_G = -\tfrac12 E_{fake}(C-a)^2$ without c, and the generator minimises $(b-a)^2\Delta/8$.
    On sigmoid outputs the square loss is `Brier`.
    Source: Mao et al., Least Squares Generative Adversarial Networks, 2017, equations 2 and 9.

    Args:
        a, b, c: the targets.
        zero_sum: the generator is paid the opposite of what the discriminator pays for fakes.

    Raises:
        ValueError: a target is no finite number.

    >>> float(LeastSquares(0.0, 1.0, 1.0).ideal_discriminator_loss)
    0.25
    """

    a: Array = eqx.field(converter=as_leaf, default=-1.0)
    b: Array = eqx.field(converter=as_leaf, default=1.0)
    c: Array = eqx.field(converter=as_leaf, default=0.0)
    zero_sum: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        for name in ("a", "b", "c"):
            check_number(self, name)
        if not isinstance(self.zero_sum, bool):
            raise TypeError(f"LeastSquares.zero_sum is {self.zero_sum!r}; expected True or False")

    def real_loss(self, score: Array) -> Array:
        return half_square(score - self.b)

    def fake_loss(self, score: Array) -> Array:
        return half_square(score - self.a)

    def generator_loss(self, score: Array) -> Array:
        return -half_square(score - self.a) if self.zero_sum else half_square(score - self.c)

    def optimal_score(self, p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> Array:
        p, q = jnp.asarray(p) * 1.0, jnp.asarray(q) * 1.0
        nowhere = (p == 0) & (q == 0)
        p, q = jnp.where(nowhere, 1, p), jnp.where(nowhere, 1, q)
        return (self.b * p + self.a * q) / (p + q)

    @property
    def divergence(self) -> str:
        if self.zero_sum:
            return "(b - a)^2 / 8 times the triangular discrimination"
        return "Pearson chi-squared of (data + model) against 2 model, when b - c = 1 and b - a = 2"

    @property
    def properties(self) -> Properties:
        return Properties(proper=True, strictly_proper=True, symmetric=True, bounded=True)
