"""The known faults of runtimes and exporters, by name: ``retort doctor`` asks a machine which of them it has."""

from targets.diagnose.corpus.fault import Fault
from targets.diagnose.corpus.kernels import KERNELS
from targets.diagnose.corpus.operators import OPERATORS
from targets.diagnose.corpus.optimiser import OPTIMISER
from targets.diagnose.corpus.saturation import SATURATION
from targets.diagnose.corpus.tensorrt import TENSORRT

CORPUS: dict[str, Fault] = {**SATURATION, **OPTIMISER, **OPERATORS, **KERNELS, **TENSORRT}
