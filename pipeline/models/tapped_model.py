"""A network with its normalisation inside and its features tapped: what every torch room handles.

``Model`` takes images in 0..1 and returns a flat tuple ``(logits, pooled, *stages)``. The taps are outputs,
not hooks that a user of the model must set: so they are still there when the graph has been captured for
quantization, and an export that asks for the logits alone drops them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.data.decoded import ImageShape

MOST_IN_FRONT = 5  # a class token and four registers (DINOv2)


class Outputs(NamedTuple):
    """logits (N, C); pooled (N, D), what the classifier sees; stages, each (N, C_i, H_i, W_i).

    ``auxiliary``: the logits of further heads, which a network may have while it is in training.
    """

    logits: Tensor
    pooled: Tensor
    stages: tuple[Tensor, ...]
    auxiliary: tuple[Tensor, ...] = ()


def outputs(flat: Sequence[Any]) -> Outputs:
    """The outputs of a ``Model``; auxiliary logits are a tuple of their own at the end."""
    *stages, last = flat[2:] or [None]
    if isinstance(last, tuple):
        return Outputs(flat[0], flat[1], tuple(stages), last)
    return Outputs(flat[0], flat[1], tuple(flat[2:]))


class Levels(NamedTuple):
    """Where a network's features are: modules whose outputs are the stages, and the layer that makes the logits.

    ``head`` is empty where no single layer does. ``exact``: its answer to the pooled features is the logits.
    """

    taps: tuple[str, ...] = ()
    head: str = ""
    exact: bool = False


class Model(nn.Module):
    """images (N, 3, H, W) in 0..1 → (logits, pooled, *stages), behind them a tuple of auxiliary logits if any."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        taps: Sequence[str],
        head: str = "",
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.taps, self.head, self.exact = tuple(taps), head, exact
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        seen: dict[str, Tensor] = {}
        sides = sides_of(images)
        # A copy, because what follows may overwrite its input in place (torchvision's DenseNet does).
        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda module, args, out, name=name: seen.__setitem__(name, as_map(out, sides).clone())
            )
            for name in self.taps
        ]
        if self.head:
            hooks.append(
                self.network.get_submodule(self.head).register_forward_pre_hook(
                    lambda module, args: seen.__setitem__("", pool(args[0], module))
                )
            )
        try:
            answer = self.network((images - self.mean) / self.std)
        finally:
            for hook in hooks:
                hook.remove()
        logits, *auxiliary = answer if isinstance(answer, tuple) else (answer,)
        stages = [seen[name] for name in self.taps]
        pooled = seen.get("")
        if pooled is None:
            pooled = stages[-1].flatten(2).mean(-1) if stages else logits
        return (logits, pooled, *stages, *([tuple(auxiliary)] if auxiliary else []))


def pool(features: Tensor, head: nn.Module) -> Tensor:
    """What a classifier is given as (N, D): the mean over positions, which a linear layer has in front of D."""
    if isinstance(head, nn.Linear):
        return features if features.ndim == 2 else features.flatten(1, -2).mean(1)
    return features.flatten(2).mean(-1)


def sides_of(images: Tensor) -> tuple[int, int]:
    """Height and width of images (N, C, H, W)."""
    return images.shape[2], images.shape[3]


def in_proportion(sides: Sequence[int], image: Sequence[int]) -> bool:
    """Whether height and width are the image's, divided by one number; of other than square images each by ± 1."""
    (high, wide), (image_high, image_wide) = sides, image
    if image_high == image_wide:
        return high == wide
    return image_high * (wide - 1) < image_wide * (high + 1) and image_wide * (high - 1) < image_high * (
        wide + 1
    )


def channels_last(features: Tensor, image: Sequence[int]) -> bool:
    """Whether a feature level is (N, H, W, C): maps have the proportions of the image."""
    if features.ndim != 4:
        return False
    return in_proportion(features.shape[1:3], image) and not in_proportion(features.shape[2:], image)


def as_map(features: Tensor, image: Sequence[int] = (1, 1)) -> Tensor:
    """A feature level as (N, C, H, W): a map as it is; tokens (N, T, C) on their grid, without those in front of it.

    ``image``: the image's sides, of which the grid has the proportions. Where no few tokens lie in front of such a
    grid, the tokens are one column.
    """
    if channels_last(features, image):
        return features.permute(0, 3, 1, 2)
    if features.ndim != 3:
        return features
    count = features.shape[1]
    for front in range(min(MOST_IN_FRONT, count - 1) + 1):
        high = math.isqrt((count - front) * image[0] // image[1])
        wide = (count - front) // high if high else 0
        if wide and high * wide == count - front and high * image[1] == wide * image[0]:
            return features[:, front:].transpose(1, 2).reshape(*features.shape[::2], high, wide)
    return features.transpose(1, 2).unsqueeze(-1)


def probe(network: nn.Module, shape: ImageShape) -> Any:
    """The network's answer to two grey images, in evaluation mode."""
    was_training = network.training
    device = next(network.parameters()).device
    with torch.no_grad():
        answer = network.eval()(torch.full((2, *shape), 0.5, device=device))
    network.train(was_training)
    return answer
