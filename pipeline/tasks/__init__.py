"""The catalogue of tasks, as a training sees them; ``data.task`` of a recipe names one."""

from __future__ import annotations

from pipeline.tasks.classification import Classification
from pipeline.tasks.task import Task

TASKS: dict[str, Task] = {"classification": Classification()}
