"""The recipe: one TOML file, checked whole at the door, with what its sections must be to each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from pipeline.recipe.data import Data, Section
from pipeline.recipe.schema import Distill, Network, Prune, Quantize, Teacher, Training
from targets.errors import Refusal
from targets.limits import Budgets, check_task


class Recipe(Section):
    version: Literal[1]
    data: Data
    teacher: Teacher | None = Field(
        None,
        description="the budgets' reference; without one the student in float teaches its cut and its int8",
    )
    teachers: tuple[Teacher, ...] = Field((), description="more teachers")
    student: Network
    distill: Distill = Distill()
    prune: Prune | None = None
    quantize: Quantize = Quantize()
    budgets: Budgets = Budgets({"drop_vs_float": 1.0})

    @model_validator(mode="after")
    def _student_taught(self) -> Recipe:
        if self.distill.epochs == 0 and self.student.random:
            raise ValueError(
                "distill.epochs = 0 leaves a student with random weights; give student.weights, or epochs"
            )
        return self

    @model_validator(mode="after")
    def _first_teacher(self) -> Recipe:
        if self.teacher is None and self.teachers:
            raise ValueError("teachers: they are further ones; give the first as [teacher]")
        if self.teacher is None and "drop_vs_teacher" in self.budgets.root:
            raise ValueError("budgets.drop_vs_teacher: there is no teacher; give [teacher], or drop it")
        return self

    @model_validator(mode="after")
    def _of_task(self) -> Recipe:
        try:
            check_task(self.data.task, self.budgets)
        except Refusal as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def all_teachers(self) -> dict[str, Teacher]:
        """By the names of their stages: teacher, teacher 2, …"""
        if self.teacher is None:
            return {}
        more = {f"teacher {number}": one for number, one in enumerate(self.teachers, 2)}
        return {"teacher": self.teacher, **more}

    @property
    def trainings(self) -> dict[str, Training]:
        """All that is trained, by the names of their sections or stages."""
        quantize = {"quantize": self.quantize} if self.quantize.method == "qat" else {}
        prune = {"prune": self.prune} if self.prune is not None else {}
        sections = {**self.all_teachers, "distill": self.distill, **prune, **quantize}
        return {name: section for name, section in sections.items() if section.epochs}


def teacher_names(names: Iterable[str]) -> list[str]:
    """The teachers among some names, in the recipe's order: "teacher 2" before "teacher 10"."""
    return sorted((name for name in names if name.startswith("teacher")), key=lambda name: (len(name), name))
