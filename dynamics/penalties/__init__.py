"""Regularisers of the players' losses: one file per penalty, one line in this catalogue."""

# ruff: noqa: I001 (the order of the imports is the order of the catalogue)
from dynamics.penalties.base import Penalty as Penalty
from dynamics.penalties.r1 import R1 as R1
from dynamics.penalties.r2 import R2 as R2
from dynamics.penalties.wgan_gp import WGANGP as WGANGP
from dynamics.penalties.dragan import DRAGAN as DRAGAN
from dynamics.penalties.on_witness import OnWitness as OnWitness
from dynamics.penalties.discriminator_gradient_norm import (
    DiscriminatorGradientNorm as DiscriminatorGradientNorm,
)
from dynamics.penalties.sum import Sum as Sum
