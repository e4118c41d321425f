"""The sections of a recipe, each checked at the door.

What can be told without torch is told here (keys, types, ranges, files); names of networks and losses are
resolved by the ``check`` stage, still before the first batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from pipeline.recipe.data import Section
from pipeline.recipe.presets import filled


class Optimiser(Section):
    """How the parameters of a player are stepped: by which optimiser, at which rates, and how they are averaged."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: float = Field(0.9, ge=0, lt=1, description="of adamw: the decay of the gradients' average")
    weight_decay: NonNegativeFloat = 5e-4
    decay_norms: bool = Field(True, description="whether norms and biases decay too")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="of the learning rate from a feature level to that before"
    )
    clip: NonNegativeFloat = Field(0.0, description="the most that the gradients' length may be; 0 is off")
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.625, 0.75, 0.875), description="shares of the run (step)"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the run with a rising learning rate")
    warmup_steps: int = Field(0, ge=0, description="the same in steps; 0 is by the share")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weights' running average; 0 is off")


class Training(Optimiser):
    """How a network is trained; the same for teacher, student and quantization-aware training."""

    epochs: int = Field(30, ge=0)
    batch: int = Field(64, ge=2)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    cutout: int = Field(0, ge=0, description="pixels a side of the square that is covered in each image")
    mixup: NonNegativeFloat = Field(
        0.0, description="α of the beta distribution of shares that two images are mixed by; 0 is off"
    )
    cutmix: NonNegativeFloat = Field(
        0.0, description="the same of the shares of the area that another image is pasted into; 0 is off"
    )
    crop_scale: tuple[float, float] | None = Field(
        None, description="shares of the area, of a random crop that is scaled to the whole image"
    )
    jitter: float = Field(0.0, ge=0, le=1, description="of brightness, contrast and saturation: 1 ± this")
    trivialaugment: bool = Field(False, description="one of 14 operations an image, at any strength")
    erasing: float = Field(0.0, ge=0, le=1, description="share of the images of which a box is covered")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    replay: int = Field(
        0,
        ge=0,
        description="sets of views that are shown in turn, a teacher asked once about each; 0: ever new",
    )
    seed: int = 0

    @field_validator("crop_scale")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("write two shares of the area, the smaller first, such as [0.08, 1.0]")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, value: object) -> object:
        """``fit`` names settings that go together; they are settled here, once."""
        return filled(value) if isinstance(value, dict) else value


class Network(Section):
    """Which network: a name of the catalogue or ``module:factory`` found beside the recipe."""

    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = Field((), description="what the factory reads, from the recipe's folder")
    weights: Path | None = Field(None, description=".safetensors, or .pth / .th read without pickle")
    mean: tuple[float, ...] | None = Field(None, description="a number a channel, in 0..1")
    std: tuple[PositiveFloat, ...] | None = Field(None, description="a number a channel, in 0..1")
    taps: tuple[str, ...] | None = Field(None, description="modules whose outputs are the stages")
    output: StrictStr | StrictInt | None = Field(
        None, description="of several answers the logits: a field, a key or a position"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"network": value} if isinstance(value, str) else value

    @property
    def random(self) -> bool:
        """Whether its weights surely are: a factory of the user's, or arguments, may bring their own."""
        own = ":" in self.network or any(name in self.arguments for name in ("pretrained", "weights"))
        return self.weights is None and not own


class Teacher(Network, Training):
    """A given teacher is taken as it is unless the recipe asks for epochs. That is settled here, once."""

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("weights") is not None:
            return {"epochs": 0, **value}
        return value

    @model_validator(mode="after")
    def _taught(self) -> Teacher:
        if self.epochs == 0 and self.random:
            raise ValueError("epochs = 0 leaves a teacher with random weights; give weights, or epochs")
        return self

    @property
    def training(self) -> Training:
        return Training(**{name: getattr(self, name) for name in Training.model_fields})


class Open(Section):
    """A table whose further keys are hyper-parameters, which are checked against a signature."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Loss(Open):
    """A line of the objective; what a method takes beyond the weight is checked against its signature."""

    name: str
    weight: float | None = None
    ramp: float | None = Field(None, ge=0, le=1, description="share of the run in which the weight rises")
    stop: float | None = Field(None, gt=0, le=1, description="share of the run after which the weight is 0")


class SchemeLine(Open):
    """Who learns from whom; what a scheme takes is checked against its signature."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Distill(Training):
    epochs: int = Field(40, ge=0)
    scheme: SchemeLine = Field(SchemeLine(name="offline"), description="who learns from whom: retort schemes")
    label_weight: NonNegativeFloat = Field(1.0, description="weight of the cross-entropy with the labels")
    loss: tuple[Loss, ...] | None = Field(
        None, description="what is learnt from each teacher; kd if not given"
    )
    teachers: Literal["mean", "random"] = Field("mean", description="of several: all, or one drawn a batch")
    shares: tuple[PositiveFloat, ...] | None = Field(
        None, description="of several teachers; equal if not given"
    )

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, value: object) -> object:
        if isinstance(value, dict) and "hard" in value:
            raise ValueError("the key hard is now called label_weight")
        return value

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (Loss(name="kd"),) if self.loss is None else self.loss

    @property
    def training(self) -> Training:
        return Training(**{name: getattr(self, name) for name in Training.model_fields})


class Quantize(Distill):
    """Quantization-aware training with the teacher, or calibration alone.

    The network is trained already: ten times the learning rate undid more than its training gained (CIFAR-100's
    ResNet20), and what is worse on validation than calibration is never kept.
    """

    method: Literal["qat", "ptq"] = "qat"
    epochs: int = Field(6, ge=0)
    lr: PositiveFloat = 1e-4
    warmup: float = Field(0.1, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    calibration: int = Field(256, ge=1, description="images that set the first ranges")

    @model_validator(mode="after")
    def _one_rate(self) -> Quantize:
        if self.layer_decay < 1:
            raise ValueError("layer_decay is for networks in float; on the grid all layers learn at one rate")
        return self


class Prune(Distill):
    """Channels cut out towards one goal, then trained again with the teacher."""

    criterion: str = "magnitude"
    macs: float | None = Field(None, gt=0, lt=1, description="share of the multiply-adds to keep")
    latency: float | None = Field(
        None, gt=0, lt=1, description="share of the int8 latency on the target to keep"
    )
    epochs: int = Field(20, ge=0)
    lr: PositiveFloat = 0.02

    @model_validator(mode="after")
    def _one_goal(self) -> Prune:
        if (self.macs is None) == (self.latency is None):
            raise ValueError("give one goal: macs or latency, a share of what it was")
        return self
