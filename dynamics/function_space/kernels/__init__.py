"""Kernels of discriminators: those of infinitely wide networks in closed form, of any network, and of radius."""

from dynamics.function_space.kernels.activations import Activation as Activation
from dynamics.function_space.kernels.activations import Erf as Erf
from dynamics.function_space.kernels.activations import ReLU as ReLU
from dynamics.function_space.kernels.activations import Sine as Sine
from dynamics.function_space.kernels.base import Kernel as Kernel
from dynamics.function_space.kernels.base import Sum as Sum
from dynamics.function_space.kernels.empirical import EmpiricalTangent as EmpiricalTangent
from dynamics.function_space.kernels.fully_connected import NetworkGaussianProcess as NetworkGaussianProcess
from dynamics.function_space.kernels.fully_connected import NeuralTangent as NeuralTangent
from dynamics.function_space.kernels.gaussian import Gaussian as Gaussian
from dynamics.function_space.kernels.wide_networks import WideNetwork as WideNetwork
from dynamics.function_space.kernels.wide_networks import wide_network as wide_network
