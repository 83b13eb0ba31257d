import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from dynamics._checks import as_leaf, check_number
from dynamics.distributions import Sample, as_sample
from dynamics.objectives.base import Objective
from dynamics.scalars import half_square


class LeastSquares(Objective):
    r"""Least squares GAN with targets a (fake), b (real) and c (what the generator wants fakes to score).

    Losses: $L_D = \tfrac12 E_{real}(C-b)^2 + \tfrac12 E_{fake}(C-a)^2$, $L_G = \tfrac12 E_{fake}(C-c)^2$.
    Ideal discriminator loss: $(b-a)^2/4$, at the score $(a+b)/2$.
    With $b-c=1$ and $b-a=2$, as by default, the generator minimises a Pearson chi-squared divergence.
    Source: Mao et al., Least Squares Generative Adversarial Networks, 2017, equations 2 and 9.

    Raises:
        ValueError: a target is no finite number.

    >>> float(LeastSquares(0.0, 1.0, 1.0).ideal_discriminator_loss)
    0.25
    """

    a: Array = eqx.field(converter=as_leaf, default=-1.0)
    b: Array = eqx.field(converter=as_leaf, default=1.0)
    c: Array = eqx.field(converter=as_leaf, default=0.0)

    def __check_init__(self):
        for name in ("a", "b", "c"):
            check_number(self, name)

    def discriminator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        on_real = as_sample(real).mean(lambda score: half_square(score - self.b))
        return on_real + as_sample(fake).mean(lambda score: half_square(score - self.a))

    def generator(self, real: Sample | Array, fake: Sample | Array) -> Array:
        return as_sample(fake).mean(lambda score: half_square(score - self.c))

    @property
    def ideal_discriminator_loss(self) -> Array:
        return jnp.square(self.b - self.a) / 4

    @property
    def ideal_score(self) -> Array:
        return (self.a + self.b) / 2

    @property
    def divergence(self) -> str:
        return "Pearson chi-squared of (data + model) against 2 model, when b - c = 1 and b - a = 2"
