"""Regularisers of the players' losses: one file per penalty, one line in this catalogue.

Elsewhere: weights that depend on the step, such as lazy penalties (`dynamics.updates.Scheduled`); norms and products of
all players' gradients (`dynamics.directions.DriftRegularisation`, `Consensus`); weight clipping
(`dynamics.updates.Clip`); instance noise (`dynamics.GAN(noise=...)`); spectral normalisation
(`dynamics.networks.spectrally_normalised`, or layers of other libraries).
"""

# ruff: noqa: I001 (the order of the imports is the order of the catalogue)
from dynamics.penalties.base import Penalty as Penalty
from dynamics.penalties.r1 import R1 as R1
from dynamics.penalties.r2 import R2 as R2
from dynamics.penalties.approximate_r1 import ApproximateR1 as ApproximateR1
from dynamics.penalties.approximate_r2 import ApproximateR2 as ApproximateR2
from dynamics.penalties.wgan_gp import WGANGP as WGANGP
from dynamics.penalties.dragan import DRAGAN as DRAGAN
from dynamics.penalties.on_witness import OnWitness as OnWitness
from dynamics.penalties.discriminator_gradient_norm import (
    DiscriminatorGradientNorm as DiscriminatorGradientNorm,
)
from dynamics.penalties.le_cam import LeCam as LeCam
from dynamics.penalties.score_drift import ScoreDrift as ScoreDrift
from dynamics.penalties.consistency import Consistency as Consistency
from dynamics.penalties.entropy import Entropy as Entropy
from dynamics.penalties.prescribed_entropy import PrescribedEntropy as PrescribedEntropy
from dynamics.penalties.weight_decay import WeightDecay as WeightDecay
from dynamics.penalties.scaled import Scaled as Scaled
from dynamics.penalties.sum import Sum as Sum
