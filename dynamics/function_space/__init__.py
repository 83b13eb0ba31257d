"""GANs in function space: densities, particles, kernels and finite precision; what is left without networks."""

from dynamics.function_space import kernels as kernels
from dynamics.function_space.densities import DensityGAN as DensityGAN
from dynamics.function_space.densities import NestedDensityGAN as NestedDensityGAN
from dynamics.function_space.finite_width import WidthErrors as WidthErrors
from dynamics.function_space.finite_width import discriminator_width_errors as discriminator_width_errors
from dynamics.function_space.finite_width import kernel_width_errors as kernel_width_errors
from dynamics.function_space.geometry import FisherRao as FisherRao
from dynamics.function_space.geometry import Graph as Graph
from dynamics.function_space.geometry import Transport as Transport
from dynamics.function_space.geometry import Weighted as Weighted
from dynamics.function_space.kernel_flows import FunctionTraining as FunctionTraining
from dynamics.function_space.kernel_flows import trained_discriminator as trained_discriminator
from dynamics.function_space.kernel_functions import KernelFunction as KernelFunction
from dynamics.function_space.kernel_functions import squared_discrepancy as squared_discrepancy
from dynamics.function_space.kernel_gan import KernelGAN as KernelGAN
from dynamics.function_space.kernel_gan import RetrainedKernelGAN as RetrainedKernelGAN
from dynamics.function_space.landscapes import Landscape as Landscape
from dynamics.function_space.landscapes import landscape as landscape
from dynamics.function_space.particles import ParticleGAN as ParticleGAN
from dynamics.function_space.particles import sampled_game as sampled_game
