"""Networks of other libraries as players: their parameters, what they keep from step to step, their random numbers."""

from dynamics.networks.architectures import fully_connected as fully_connected
from dynamics.networks.architectures import image_discriminator as image_discriminator
from dynamics.networks.architectures import image_generator as image_generator
from dynamics.networks.equinox_modules import from_equinox as from_equinox
from dynamics.networks.haiku_functions import from_haiku as from_haiku
from dynamics.networks.linen_modules import from_linen as from_linen
from dynamics.networks.network import Network as Network
from dynamics.networks.nnx_modules import from_nnx as from_nnx
from dynamics.networks.spectral import spectrally_normalised as spectrally_normalised
