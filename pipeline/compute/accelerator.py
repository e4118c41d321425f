"""Where networks are trained: on the GPU that torch finds, else on the processor."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import nn

from targets.errors import first_line
from targets.progress import say

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


def layout_of(
    device: torch.device, networks: Iterable[nn.Module], shape: tuple[int, int, int]
) -> torch.memory_format:
    """How images and weights lie in memory: channels last where bfloat16 is native, if all networks take that.

    ``shape``: (C, H, W) of an image.

    Elsewhere contiguous: float32 gains little from channels last, and without AVX-512 oneDNN (3.12) writes beyond its
    memory in the backward pass of a strided 1×1 convolution whose channels are no multiple of 8.
    """
    if precision_of(device) != "bfloat16":
        return torch.contiguous_format
    image = torch.zeros(2, *shape, device=device).contiguous(memory_format=torch.channels_last)
    for network in networks:
        was_training = network.training
        try:
            with torch.no_grad():
                network.eval()(image)
        except RuntimeError as error:
            say(f"images are fed contiguous, as a network wants them so: {first_line(error)}")
            return torch.contiguous_format
        finally:
            network.train(was_training)
    return torch.channels_last


def spare(device: torch.device) -> int:
    """Bytes of a GPU's memory that a set of images may take: a quarter of what is free. Of the processor's none."""
    return int(torch.cuda.mem_get_info(device)[0]) // 4 if device.type == "cuda" else 0
