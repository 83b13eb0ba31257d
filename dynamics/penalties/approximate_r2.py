from dynamics.distributions import Sample
from dynamics.penalties.approximate_r1 import FiniteDifferences


class ApproximateR2(FiniteDifferences):
    r"""R2 by finite differences, $\frac{\gamma}{2} E_{fake,\epsilon}\,(C(x+\sigma\epsilon)-C(x))^2/\sigma^2$.

    As `ApproximateR1`, whose estimator and expectation it has, on fake samples. Added to the discriminator's loss only,
    although the fake samples depend on the generator.
    Source: Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025 (on real
    samples); Mescheder, Geiger, Nowozin, 2018, equation 10 (on fake ones).

    Args:
        weight: gamma, >= 0; that of `R2`.
        std: standard deviation sigma of the perturbation, > 0.
        nodes: quadrature nodes per dimension.

    Raises:
        ValueError: a number is out of bounds.
    """

    def penalised(self, real: Sample, fake: Sample) -> Sample:
        return fake
