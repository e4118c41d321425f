from collections.abc import Mapping
from enum import Enum
from types import ModuleType

from torch import Tensor, nn

class InterpolationMode(Enum):
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"

class ImageClassification:
    """The transforms of most weights."""

    crop_size: list[int]
    resize_size: list[int]
    mean: list[float]
    std: list[float]
    interpolation: InterpolationMode

class WeightsEnum(Enum):
    DEFAULT = ...
    def get_state_dict(self, *, progress: bool = True, check_hash: bool = False) -> Mapping[str, Tensor]: ...
    def transforms(self) -> ImageClassification: ...

def list_models(module: ModuleType | None = None) -> list[str]: ...
def get_model(name: str, **config: object) -> nn.Module: ...
def get_model_weights(name: str) -> type[WeightsEnum]: ...
