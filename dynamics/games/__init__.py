"""Ready games with their known equilibria: one file per family, one line in this catalogue."""

from dynamics.games.bilinear import Bilinear as Bilinear
from dynamics.games.dirac_gan import DiracGAN as DiracGAN
