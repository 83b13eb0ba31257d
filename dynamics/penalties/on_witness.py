import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

from dynamics._checks import check_kind
from dynamics.distributions import Sample
from dynamics.game import Players
from dynamics.objectives.base import Objective
from dynamics.objectives.mmd import RadialMMD
from dynamics.penalties.base import Penalty, Score
from dynamics.penalties.wgan_gp import WGANGP


class OnWitness(Penalty):
    r"""Another penalty, on the witness function of a kernel objective in place of the discriminator's features.

    The features are no critic: what tells real from fake is $f(x) = E\,k(h(x), h(X)) - E\,k(h(x), h(Y))$, with real X
    and fake Y, a number also where the features h are vectors. With `WGANGP` and rational quadratic kernels it is the
    MMD GAN of 2018, with `EnergyDistance` the penalty of the Cramer GAN.
    Source: Binkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, 2018; Bellemare et al., The Cramer Distance as
    a Solution to Biased Wasserstein Gradients, 2017.

    Args:
        penalty: one that looks at the score's gradient; default `WGANGP` with its default weight.

    Raises:
        TypeError: no penalty; or, when it is computed, an objective without a witness function.
    """

    penalty: Penalty = eqx.field(default_factory=WGANGP)

    def __check_init__(self):
        if self.penalty is None:
            raise TypeError("OnWitness.penalty is None; expected a Penalty, e.g. dynamics.penalties.R1(0.3)")
        check_kind(self, "penalty", Penalty, "dynamics.penalties.R1(0.3)")

    def __call__(
        self, score: Score, objective: Objective, players: Players, real: Sample, fake: Sample, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        if not isinstance(objective, RadialMMD):
            raise TypeError(
                f"OnWitness needs a kernel objective, which has a witness function; got {type(objective).__name__}; "
                "expected e.g. dynamics.objectives.GaussianMMD()"
            )

        def witness(parameters: PyTree, point: PyTree) -> Array:
            of_real, of_fake = (sample.each(lambda x: score(parameters, x)) for sample in (real, fake))
            return objective.witness(score(parameters, point), of_real, of_fake)

        return self.penalty(witness, objective, players, real, fake, key)
