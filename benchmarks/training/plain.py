"""The public protocol, restated: a PIL image at a time, loader workers, float32, the teacher in full in each step.

As RepDistiller's and mdistiller's loops have it (read): ToPILImage, RandomCrop(32, padding=4), RandomHorizontalFlip,
ToTensor; SGD with momentum; a meter of the loss in each step. The losses are Retort's own, so that the loops differ
and nothing else; the normalisation is inside the networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.data.batches import Batch
from pipeline.data.decoded import TRAIN, Decoded
from pipeline.schemes.offline import Offline

WORKERS = 2


class Photos(Dataset[tuple[Tensor, int]]):
    """What torchvision's CIFAR100 does with an image."""

    def __init__(self, data: Decoded) -> None:
        which = data.part(TRAIN)
        self.images, self.labels = data.images[which], data.labels[which]
        crop, flip = transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()
        self.transform = transforms.Compose([transforms.ToPILImage(), crop, flip, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def steps(data: Decoded, scheme: Offline, batch: int) -> Iterator[int]:
    """Train on and on; after each step, its number of images."""
    player = scheme.players["student"]
    player.network.train()
    learns = [*player.network.parameters(), *player.adapters.parameters()]
    optimiser = torch.optim.SGD(learns, lr=0.05, momentum=0.9, weight_decay=5e-4)
    images: DataLoader[Any] = DataLoader(
        Photos(data), batch, shuffle=True, num_workers=WORKERS, drop_last=True
    )
    while True:
        for x, y in images:
            (phase,) = scheme.phases(0.5)
            loss = phase.losses(Batch(x, y, y), torch.Generator())["student"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
            yield len(x)
