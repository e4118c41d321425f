"""A network or a construct that is tried, and the images that it is tried with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.strangers.constructs import SIDE
from benchmarks.strangers.networks import ARGUMENTS, NETWORKS
from pipeline.artifacts.onnx_file import contract_for
from pipeline.data.batches import to_unit
from pipeline.data.decoded import TEST, TRAIN, VALIDATION, Decoded, Facts
from pipeline.models.tapped_model import Model
from pipeline.recipe.schema import Network
from targets.image_folder import Decoding
from targets.spec.contract import Contract

CLASSES, IMAGES, STATISTICS = 10, 128, 4
# As many to compare an exported file on as export takes where it can (artifacts/comparison.py).
PARTS = [TRAIN] * 2 + [VALIDATION] * 4 + [TEST, VALIDATION]


@dataclass
class Subject:
    """One network and what the steps make of it, in the order of ``STEPS``."""

    name: str
    folder: Path
    made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def data(self) -> Decoded:
        return pictures(self.size)

    @property
    def size(self) -> int:
        return NETWORKS.get(self.name, SIDE)

    @property
    def contract(self) -> Contract:
        return contract_for("nchw-float32", self.data.facts)

    @property
    def section(self) -> Network:
        if self.name not in NETWORKS:
            return Network(network="benchmarks.strangers.constructs:make", arguments={"construct": self.name})
        return Network(network=self.name, arguments=ARGUMENTS.get(self.name, {}))

    @cached_property
    def test_images(self) -> NDArray[np.float32]:
        return self.contract.prepare(self.data.images[self.data.part(TEST)])


def pictures(size: int) -> Decoded:
    """Random colours on grids from coarse to fine, added: smooth in places, as photographs are."""
    generator, layers = torch.Generator().manual_seed(0), []
    for side in (2, 4, 8, 16, 32):
        noise = torch.rand(IMAGES, 3, side, side, generator=generator)
        layers.append(nn.functional.interpolate(noise, (size, size), mode="bilinear"))
    mixed = torch.stack(layers).sum(0)
    low, high = mixed.amin((1, 2, 3), True), mixed.amax((1, 2, 3), True)
    images = (255 * (mixed - low) / (high - low)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    split = np.array(PARTS * (IMAGES // len(PARTS)), np.int8)
    names = tuple(f"class {number}" for number in range(CLASSES))
    facts = Facts(names, Decoding((size, size)), False, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Decoded(np.ascontiguousarray(images), np.arange(IMAGES) % CLASSES, split, facts)


@torch.no_grad()
def settle_norms(model: Model, data: Decoded) -> None:
    """Give batch-norms the statistics of images, as training would; random weights stay."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    seen = to_unit(torch.from_numpy(data.images[data.part(TRAIN)])).contiguous()
    noise = torch.rand(seen.shape, generator=torch.Generator().manual_seed(1))  # which the door looks at
    images = torch.stack([seen, noise], 1).flatten(0, 1)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for chunk in images.chunk(STATISTICS):
        model(chunk)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    model.eval()
