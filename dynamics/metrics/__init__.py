"""How good samples are: distances between sets of features, modes, precision and recall.

All of them take samples, compute in float64 on the host whatever JAX's precision is, and return numbers.
"""

from dynamics.metrics.classifier import Classifier as Classifier
from dynamics.metrics.classifier import train_classifier as train_classifier
from dynamics.metrics.frechet import frechet_distance as frechet_distance
from dynamics.metrics.frechet import frechet_distance_of_moments as frechet_distance_of_moments
from dynamics.metrics.kernel import KernelDistance as KernelDistance
from dynamics.metrics.kernel import kernel_distance as kernel_distance
from dynamics.metrics.modes import LabelCoverage as LabelCoverage
from dynamics.metrics.modes import ModeCoverage as ModeCoverage
from dynamics.metrics.modes import label_coverage as label_coverage
from dynamics.metrics.modes import mode_coverage as mode_coverage
from dynamics.metrics.neighbours import PrecisionRecall as PrecisionRecall
from dynamics.metrics.neighbours import precision_recall as precision_recall
