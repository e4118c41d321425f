"""A network as it was: the teacher of schemes in which players learn from what one of them knew before."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from pipeline.compute import distributed
from pipeline.losses.step import constant_logits


class PastState:
    """A copy of a player's network that does not learn, in evaluation mode; the same on all ranks."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.copy = copy.deepcopy(network).eval().requires_grad_(False)

    def take(self) -> None:
        """From now on it is the network as it is now."""
        self.copy.to(next(self.network.parameters()).device)
        self.copy.load_state_dict(self.network.state_dict())
        distributed.broadcast_state([self.copy])

    def logits(self, images: Tensor) -> Tensor:
        """What it answers to images (N, 3, H, W) in 0..1: (N, C), without gradient."""
        self.copy.to(images.device)  # after a resumed training it lies on the processor
        return constant_logits(self.copy, images)

    def state_dict(self) -> dict[str, Any]:
        return self.copy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.copy.load_state_dict(state)
