"""Where networks are trained: on the GPU that torch finds, else on the processor."""

from __future__ import annotations

import os

import torch

PROCESSOR = torch.device("cpu")


def accelerator() -> torch.device:
    """This rank's GPU, if there is any; ``CUDA_VISIBLE_DEVICES=`` hides them all.

    On it float32 is float32: torch's own default would round a convolution's factors to TF32's 10 bits.
    """
    if not torch.cuda.is_available():
        return PROCESSOR
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def precision_of(device: torch.device) -> str:
    """bfloat16 where it is multiplied natively; by what the device can, so the same on every run there."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def spare(device: torch.device) -> int:
    """Bytes of a GPU's memory that a set of images may take: a quarter of what is free. Of the processor's none."""
    return int(torch.cuda.mem_get_info(device)[0]) // 4 if device.type == "cuda" else 0
