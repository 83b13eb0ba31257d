"""How good samples are: distances between sets of features, modes, precision and recall, transport.

All of them take samples, compute in float64 on the host whatever JAX's precision is, and return numbers. `Reference`
holds real samples that many sets are compared with. `dynamics.metrics.batched` has some of them in JAX, for many sets
at once and as measures of a simulation.
"""

from dynamics.metrics import batched as batched
from dynamics.metrics.classifier import ClassificationAccuracy as ClassificationAccuracy
from dynamics.metrics.classifier import Classifier as Classifier
from dynamics.metrics.classifier import classification_accuracy as classification_accuracy
from dynamics.metrics.classifier import train_classifier as train_classifier
from dynamics.metrics.frechet import frechet_distance as frechet_distance
from dynamics.metrics.frechet import frechet_distance_of_moments as frechet_distance_of_moments
from dynamics.metrics.histograms import DifferentBins as DifferentBins
from dynamics.metrics.histograms import HistogramDivergences as HistogramDivergences
from dynamics.metrics.histograms import different_bins as different_bins
from dynamics.metrics.histograms import histogram_divergences as histogram_divergences
from dynamics.metrics.inception import InceptionScore as InceptionScore
from dynamics.metrics.inception import inception_score as inception_score
from dynamics.metrics.kernel import KernelDistance as KernelDistance
from dynamics.metrics.kernel import kernel_distance as kernel_distance
from dynamics.metrics.modes import LabelCoverage as LabelCoverage
from dynamics.metrics.modes import ModeCoverage as ModeCoverage
from dynamics.metrics.modes import label_coverage as label_coverage
from dynamics.metrics.modes import mode_coverage as mode_coverage
from dynamics.metrics.neighbours import DensityCoverage as DensityCoverage
from dynamics.metrics.neighbours import PrecisionRecall as PrecisionRecall
from dynamics.metrics.neighbours import density_coverage as density_coverage
from dynamics.metrics.neighbours import neighbour_divergence as neighbour_divergence
from dynamics.metrics.neighbours import precision_recall as precision_recall
from dynamics.metrics.reference import Reference as Reference
from dynamics.metrics.transport import energy_distance as energy_distance
from dynamics.metrics.transport import sinkhorn_divergence as sinkhorn_divergence
from dynamics.metrics.transport import wasserstein_distance as wasserstein_distance
