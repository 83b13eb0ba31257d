from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dynamics._checks import as_leaf, check_number, check_whole
from dynamics._memory import check_memory, counted
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.penalties.base import Penalty, gradient_norm
from dynamics.scalars import relu

if TYPE_CHECKING:
    from dynamics.gan import GAN


class WGANGP(Penalty):
    r"""Gradient penalty on lines between real and fake samples, $\lambda E(\|\nabla_x C(\hat x)\| - g_0)^2$.

    $\hat x = \epsilon x + (1-\epsilon)\tilde x$ with $\epsilon$ uniform on [0, 1]; one-sided: only norms
    above $g_0$ are penalised. Added to the discriminator's loss only. For a key, the i-th real is joined with
    the i-th fake sample and $\epsilon$ is drawn; for `key=None` all pairs count and $\epsilon$ runs over
    `nodes` Gauss-Legendre nodes. The field is discontinuous where the gradient of the discriminator vanishes
    (two-sided): there is no linearisation.
    Source: Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3; without a factor 1/2.

    Args:
        weight: lambda, >= 0.
        target: g_0, the wanted gradient norm, >= 0.
        one_sided: penalise only norms above the target.
        nodes: quadrature nodes for epsilon.

    Raises:
        ValueError: a number is out of bounds, or a batch has different numbers of real and fake samples.
    """

    weight: Array = eqx.field(converter=as_leaf, default=10.0)
    target: Array = eqx.field(converter=as_leaf, default=1.0)
    one_sided: bool = eqx.field(static=True, default=False)
    nodes: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        check_number(self, "weight", minimum=0)
        check_number(self, "target", minimum=0)
        check_whole(self, "nodes")
        check_memory(f"a quadrature rule of {counted(self.nodes)} nodes", self.nodes**2, 8, "expected fewer nodes")

    def __call__(
        self, gan: "GAN", players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        def excess(point):
            distance = gradient_norm(gan, players, point) - self.target
            return jnp.square(relu(distance) if self.one_sided else distance)

        between = _interpolates(real, fake, key, self.nodes)
        return jnp.asarray(0.0), self.weight * between.each(excess).mean()


def _interpolates(real: Sample, fake: Sample, key: PRNGKeyArray | None, nodes: int) -> Sample:
    if key is None:
        points, weights = np.polynomial.legendre.leggauss(nodes)
        dtype = jnp.result_type(*jax.tree.leaves(fake.values))
        mixing = Sample(jnp.asarray((points + 1) / 2, dtype), jnp.asarray(weights / 2, dtype))
        pairs = real.product(fake, lambda x, y: (x, y))
        return pairs.product(mixing, lambda pair, e: jax.tree.map(lambda x, y: e * x + (1 - e) * y, *pair))
    if real.count != fake.count:
        raise ValueError(
            f"a batch has {real.count} real and {fake.count} fake samples; expected equal numbers, as the "
            "penalty on interpolates pairs them. Give data and latent the same batch_size."
        )
    mixing = jax.random.uniform(key, (real.count,), jnp.result_type(*jax.tree.leaves(fake.values)))

    def mix(x, y):
        e = mixing.reshape((-1,) + (1,) * (x.ndim - 1))
        return e * x + (1 - e) * y

    return Sample(jax.tree.map(mix, real.values, fake.values))
