"""Training on data: batches in, averages, metrics and checkpoints along the way."""

from dynamics.training.callbacks import Callback as Callback
from dynamics.training.callbacks import CSVLog as CSVLog
from dynamics.training.callbacks import TensorBoardLog as TensorBoardLog
from dynamics.training.checkpoints import forget as forget
from dynamics.training.generating import generate as generate
from dynamics.training.loop import train as train
from dynamics.training.monitor import Monitor as Monitor
from dynamics.training.monitor import Reading as Reading
from dynamics.training.result import Ending as Ending
from dynamics.training.result import Training as Training
