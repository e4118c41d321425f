"""What a scheme is: named players that learn, and a loss for each of them from a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.data.batches import Batch
from pipeline.models.split_model import Parts


@dataclass
class Player:
    """A network that learns, and the adapters of its losses, which learn with it and never ship."""

    network: nn.Module
    adapters: nn.ModuleList = field(default_factory=nn.ModuleList)


class Scheme(Protocol):
    """What the loop asks of a scheme: its players by name, and a loss for each of them from a batch."""

    players: dict[str, Player]

    @property
    def teachers(self) -> list[Parts]:
        """The networks that are evaluated and do not learn."""
        ...

    def step(self, batch: Batch, progress: float, generator: torch.Generator) -> dict[str, Tensor]: ...
