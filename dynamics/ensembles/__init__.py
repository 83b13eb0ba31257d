"""Many games at once: sweeps over named axes."""

from dynamics.compiler.fallback import CompilerWarning as CompilerWarning
from dynamics.ensembles.charts import stability_chart as stability_chart
from dynamics.ensembles.designs import log_uniform as log_uniform
from dynamics.ensembles.designs import seeds as seeds
from dynamics.ensembles.designs import uniform as uniform
from dynamics.ensembles.players import players_of as players_of
from dynamics.ensembles.prediction import Predicted as Predicted
from dynamics.ensembles.prediction import Smoothness as Smoothness
from dynamics.ensembles.running import SweepInterrupted as SweepInterrupted
from dynamics.ensembles.running import sweep as sweep
from dynamics.ensembles.store import StoreError as StoreError
from dynamics.ensembles.store import can_store as can_store
from dynamics.ensembles.workers import WorkerError as WorkerError
from dynamics.ensembles.workers import local_workers as local_workers
