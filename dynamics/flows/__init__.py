"""Training as an ordinary differential equation: one file per flow, one line in this catalogue."""

from dynamics.flows.base import AbstractFlow as AbstractFlow
from dynamics.flows.flow import Flow as Flow

from dynamics.flows.alternating import AlternatingFlow as AlternatingFlow  # isort: skip
from dynamics.flows.gap_aware import GapAwareFlow as GapAwareFlow
from dynamics.flows.modified import ModifiedFlow as ModifiedFlow
from dynamics.flows.noisy import NoisyFlow as NoisyFlow
