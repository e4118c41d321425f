"""The section of a recipe that says which images, and how they are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pipeline.data.catalogue import DATASETS
from targets.errors import check_integers, unknown


class Section(BaseModel):
    """A table of the recipe; a key it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _settings(cls, value: object) -> object:
        return check_integers(value)


class Data(Section):
    """Which images: a name of the catalogue, a folder of class folders, or ``module:factory``."""

    task: str = Field("classification", description="what is asked of the images")
    name: str | None = None
    folder: Path | None = None
    factory: str | None = None
    arguments: dict[str, Any] = {}
    files: tuple[str, ...] = Field((), description="what the factory reads, from the recipe's folder")
    size: tuple[int, int] | None = Field(None, description="pixels a side, or [height, width]")
    channels: Literal["rgb", "grey"] = "rgb"
    resize: int | tuple[int, int] | None = Field(
        None,
        description="what an image's shorter side is scaled to before its middle is cut, or [height, width]",
    )
    interpolation: Literal["bilinear", "bicubic"] | None = None
    test: float | None = Field(None, gt=0, lt=1, description="share of images, where no split is given")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training images")
    flip: bool | None = None
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("size", "resize", mode="before")
    @classmethod
    def _sides(cls, value: object, info: ValidationInfo) -> object:
        """One number is a square's ``size``."""
        pair = value if isinstance(value, (list, tuple)) else (value, value)
        if value is None:
            return None
        if len(pair) != 2 or any(type(side) is not int or not 8 <= side <= 1024 for side in pair):
            raise ValueError(
                "write pixels from 8 to 1024, such as 224, or [height, width], such as [48, 192]"
            )
        return value if info.field_name == "resize" else tuple(pair)

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if sum(x is not None for x in (self.name, self.folder, self.factory)) != 1:
            raise ValueError("give one of name, folder, factory")
        if self.name is not None and self.name not in DATASETS:
            raise ValueError(str(unknown("dataset", self.name, DATASETS, "name")))
        return self
