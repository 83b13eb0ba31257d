"""Data sets to train on, and batches of them that resume at the same place."""

from dynamics.data.batches import Batches as Batches
from dynamics.data.dataset import DataSet as DataSet
from dynamics.data.images import digits as digits
from dynamics.data.images import stacked_digits as stacked_digits
from dynamics.data.shapes import shape as shape
from dynamics.data.signals import signals as signals
from dynamics.data.synthetic import grid as grid
from dynamics.data.synthetic import mixture as mixture
from dynamics.data.synthetic import ring as ring
