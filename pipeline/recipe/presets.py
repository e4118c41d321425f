"""Settings of a training that go together, by the name that a recipe gives as ``fit``.

They are filled in when the recipe is read; a key that the recipe gives wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from targets.errors import unknown

ADAMW = {"optimizer": "adamw", "weight_decay": 0.05, "decay_norms": False, "clip": 1.0, "warmup": 0.1}
PRESETS: dict[str, dict[str, Any]] = {
    # Small images from scratch: Tian et al. 2020 (CRD), whose tables most of the literature continues.
    "cifar": {"lr": 0.05, "weight_decay": 5e-4, "schedule": "step", "warmup": 0.0},
    # Photographs from scratch, for convolutional networks: He et al. 2019 (bag of tricks).
    "photos": {
        "lr": 0.1,
        "weight_decay": 1e-4,
        "decay_norms": False,
        "label_smoothing": 0.1,
        "crop_scale": (0.08, 1.0),
        "jitter": 0.4,
    },
    # Given weights: small steps, smaller the nearer to the image (Bao et al. 2022, BEiT).
    "finetune": {**ADAMW, "lr": 2e-4, "layer_decay": 0.75},
    # Transformers from scratch: Touvron et al. 2021 (DeiT), whose rate is 5e-4 for 512 images a batch; they have
    # RandAugment where TrivialAugment stands here.
    "vit": {
        **ADAMW,
        "lr": 5e-4,
        "label_smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "crop_scale": (0.08, 1.0),
        "trivialaugment": True,
        "erasing": 0.25,
    },
}


def filled(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with the settings of its ``fit``, which is gone. Raises ValueError for one that there is not."""
    given = dict(section)
    name = given.pop("fit", None)
    if name is None:
        return given
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(str(unknown("preset", str(name), PRESETS, "fit")))
    return {**PRESETS[name], **given}
