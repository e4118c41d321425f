from typing import Literal, TypedDict

from torch import nn

class Normalisation(TypedDict, total=False):
    """Of the keys of a pretrained_cfg."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

class Network(nn.Module):
    pretrained_cfg: Normalisation

class PretrainedCfg:
    input_size: tuple[int, int, int]
    crop_pct: float
    crop_mode: str
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest", "random"]

def list_models() -> list[str]: ...
def create_model(model_name: str, *, num_classes: int, **kwargs: object) -> Network: ...
def get_pretrained_cfg(model_name: str, allow_unregistered: bool = True) -> PretrainedCfg | None: ...
