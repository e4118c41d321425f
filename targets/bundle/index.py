"""What ``bundle.json`` must hold, and what the arrays beside it must be: a bundle may come from anybody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from targets.arrays import open_array, read_answers, read_array
from targets.budgets.evidence import Method, TestSet
from targets.errors import explain
from targets.limits import Budgets
from targets.runner.backends import Precision
from targets.spec.contract import Contract
from targets.spec.profile import Profile
from targets.tasks import task_of

INDEX = "bundle.json"
PLAIN = re.compile(r"\w[\w.+-]*")  # no separator, nor a dot first
BESIDE = ("baseline", "reference")  # what is timed beside the candidates is called so


def plain(name: object) -> object:
    """A name that leads out of no folder, here or on the device."""
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        raise ValueError("this is no plain name of a file")
    return name


Name = Annotated[str, BeforeValidator(plain)]


class Row(BaseModel):
    """Numbers are finite; what else stands there is passed on as it is."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Interval(Row):
    model_config = ConfigDict(strict=True)  # as they stand there they are drawn

    value: float
    low: float
    high: float


class Network(Row):
    """Of the report's networks; it has its score, an interval, by the name of the task's metric."""

    name: str
    network: str = ""
    macs: int
    parameters: int
    recall: list[Interval] = []  # of classes


class Stage(Row):
    """Of the lineage."""

    key: str
    stage: str
    seconds: float
    settings: dict[str, Any]
    parents: dict[str, str]
    inputs: dict[str, str] = {}
    versions: dict[str, str] = {}


class Training(Row):
    loss: list[float]
    validation: list[float]
    start: float
    best_epoch: int = Field(ge=-1)
    precision: str

    @model_validator(mode="after")
    def _kept_an_epoch(self) -> Training:
        if self.best_epoch >= len(self.validation):
            raise ValueError("best_epoch is none of its epochs")
        return self


class Cut(Row):
    goal: Literal["macs", "latency"]
    share: float
    reached: float
    met: bool


class Difference(Row):
    images: int
    largest: float
    logits_reach: float
    same_answer: float


class Given(Row):
    taken: int
    of: int
    new: dict[str, str]


class Made(Row):
    """How a network was made: trained, cut, exported."""

    name: str
    stage: str
    training: Training | None = None
    given: Given | None = None
    cut: Cut | None = None
    difference: Difference | None = None
    format: str = ""


class Notes(Row):
    recipe_sha256: str = ""
    lineage: list[Stage] = []
    made_by: list[Made] = []


class File(Row):
    """A candidate by the names that its files have in a bundle."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    model: Name
    precision: Precision
    network: str = ""
    lite: Name | None = None
    method: Method = ""


class Index(Row):
    """The whole file."""

    recipe: str
    profile: Profile
    budgets: Budgets
    contract: Annotated[Contract, BeforeValidator(Contract.of)]
    candidates: Annotated[list[File], Field(min_length=1)]
    references: list[Name]
    networks: list[Network]
    notes: Notes

    @model_validator(mode="after")
    def _scores(self) -> Index:
        metric = task_of(self.contract.task, INDEX).metric
        for one in self.networks:
            try:
                Interval.model_validate((one.model_extra or {}).get(metric))
            except ValidationError as error:
                raise ValueError(f"networks: {one.name}: {metric}: {explain(error, Interval)}") from None
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Index:
        names = [*BESIDE, *(one.name for one in self.candidates)]
        if len(set(names)) < len(names):
            raise ValueError(f"candidates: two have one name, or one of {' and '.join(BESIDE)}")
        return self


def read_test_set(folder: Path, index: Index) -> TestSet:
    """The labels and references of the bundle's images. Raises ValueError where they do not fit each other."""
    shape = open_array(folder / "images.npy").shape
    wanted = index.contract.decoding.shape
    if len(shape) != 4 or tuple(shape[1:]) != wanted or not shape[0]:
        raise ValueError(f"images.npy is of shape {shape}, not of images of {wanted}")
    contract = index.contract
    task = task_of(contract.task, INDEX)
    labels = read_array(folder / "labels.npy", "iuf")
    if len(labels) != shape[0]:
        raise ValueError(f"labels.npy is of {len(labels)} images, images.npy of {shape[0]}")
    labels = task.checked_truth(labels, contract.classes)
    present = np.count_nonzero(task.facts(labels, contract.classes).get("class_images", []))
    for one in index.networks:
        Interval.model_validate((one.model_extra or {}).get(task.metric))
        if len(one.recall) != present:
            raise ValueError("networks: a recall for each class that has images is wanted")
    answers = {name: read_answers(folder / f"reference.{name}.npy", len(labels)) for name in index.references}
    for found in answers.values():
        task.check_answers(found, contract.classes)
    return TestSet(labels, contract.classes, answers, contract.task)
