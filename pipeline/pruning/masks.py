"""Masks that hold single weights at zero while a loop of your own trains: unstructured, or two of four.

    masks = unstructured(network, 0.8)          # or two_of_four(network)
    masks.follow(optimiser)                     # after each of its steps the masked weights are zero again
    ... your training ...
    masks.apply()                               # and at the end, if something else has written the weights

Zeros make a file compress better; they make nothing faster on a processor. Two of four is for NVIDIA's sparse
tensor cores, through TensorRT's ``--sparsity=enable``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Masks:
    """Which weights stay: booleans of the weights' shapes, by the weights' names."""

    network: nn.Module
    keep: dict[str, Tensor]

    @torch.no_grad()
    def apply(self) -> None:
        """Set every masked weight to zero."""
        weights = dict(self.network.named_parameters())
        for name, keep in self.keep.items():
            weights[name].mul_(keep)

    def follow(self, optimiser: torch.optim.Optimizer) -> None:
        """Apply after each step of the optimiser."""
        optimiser.register_step_post_hook(lambda *_: self.apply())

    def sparsity(self) -> float:
        """The share of the maskable weights that is zero."""
        kept = sum(int(keep.sum()) for keep in self.keep.values())
        return 1 - kept / sum(keep.numel() for keep in self.keep.values())


def maskable(network: nn.Module) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers; biases and normalisations are too few to matter."""
    return {
        f"{name}.weight" if name else "weight": module.weight.detach()
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))
    }


def unstructured(network: nn.Module, share: float) -> Masks:
    """Mask the smallest ``share`` of all weights by magnitude, ranked over the whole network, and apply it.

    Source: Han et al. 2015, arXiv 1506.02626. Raises ValueError unless 0 ≤ share < 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}; give the part to mask, from 0 to below 1")
    weights = maskable(network)
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    order = sizes.argsort(stable=True)
    keep = torch.ones_like(sizes, dtype=torch.bool)
    keep[order[: round(share * len(order))]] = False
    parts = torch.split(keep, [weight.numel() for weight in weights.values()])
    masks = Masks(network, {n: part.view_as(w) for (n, w), part in zip(weights.items(), parts, strict=True)})
    masks.apply()
    return masks


def two_of_four(network: nn.Module) -> Masks:
    """Of each four neighbouring input channels keep the two weights of largest magnitude, and apply it.

    A layer whose number of input channels is not a multiple of four stays whole (an image's three channels,
    depthwise convolutions). Source: Mishra et al. 2021, arXiv 2104.08378.
    """
    keep = {}
    for name, weight in maskable(network).items():
        if weight.shape[1] % 4 == 0:
            last = weight.abs().movedim(1, -1)
            groups = last.reshape(*last.shape[:-1], -1, 4)
            rank = groups.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
            keep[name] = (rank < 2).flatten(-2).movedim(-1, 1)
    masks = Masks(network, keep)
    masks.apply()
    return masks
