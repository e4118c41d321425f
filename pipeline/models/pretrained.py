"""How the weights of a catalogue were tested, by their own metadata: how images were scaled, and what was cut out.

Nothing is downloaded for it. torchvision has it in the transforms of its weights, timm in the configuration of its
networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.models.names import TIMM
from targets.errors import Refusal
from targets.image_folder import Decoding


def of_torchvision(name: str, weights: str | None) -> Decoding | None:
    from torchvision import models

    how = models.get_model_weights(name)[str(weights)].transforms()
    (side,), resize = how.crop_size, how.resize_size[0]
    return Decoding((side, side), resize=resize, interpolation=how.interpolation.value)


def of_timm(name: str, weights: str | None) -> Decoding | None:
    """None where images are padded (the crop mode "border"), which no decoding here does."""
    import timm

    how = timm.get_pretrained_cfg(name.removeprefix(TIMM), allow_unregistered=False)
    if how is None or how.crop_mode == "border" or how.interpolation not in ("bilinear", "bicubic"):
        return None
    _, high, wide = how.input_size
    scaled = math.floor(high / how.crop_pct), math.floor(wide / how.crop_pct)
    resize = scaled[0] if how.crop_mode == "center" and high == wide else scaled
    return Decoding((high, wide), resize=resize, interpolation=how.interpolation)


TESTED: dict[str, Callable[[str, str | None], Decoding | None]] = {
    "torchvision": of_torchvision,
    "timm": of_timm,
}


def how_tested(network: str, weights: str | None) -> Decoding | None:
    """How images were decoded when these weights were tested, where that is known. Raises Refusal."""
    try:
        return TESTED["timm" if network.startswith(TIMM) else "torchvision"](network, weights)
    except (KeyError, ValueError, RuntimeError):
        raise Refusal(f"teacher: {network} has no weights {weights}; see retort networks") from None
    except ModuleNotFoundError as error:
        raise Refusal(f"teacher: {network}: {error}; pip install it") from None
