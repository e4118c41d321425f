"""The catalogue of tasks: what is asked of a network, and how its answers are judged."""

from __future__ import annotations

from targets.errors import unknown
from targets.tasks.classification import Classification
from targets.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Classification(),)}


def task_of(name: str, where: str) -> Task:
    """A task by its name. Raises Refusal for one that there is not."""
    if name not in TASKS:
        raise unknown("task", name, TASKS, where)
    return TASKS[name]
