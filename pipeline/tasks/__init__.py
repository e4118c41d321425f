"""The catalogue of tasks, as a training sees them; ``data.task`` of a recipe names one."""

from __future__ import annotations

from pipeline.tasks.classification import Classification, ClassLabels
from pipeline.tasks.label_set import LabelSet
from pipeline.tasks.task import Task

LABEL_SETS: dict[str, LabelSet] = {"classification": ClassLabels()}
TASKS: dict[str, Task] = {"classification": Classification()}
