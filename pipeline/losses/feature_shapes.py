"""How the features of two networks are brought to one shape.

Stages are paired from the last one backwards, so that networks with different numbers of stages meet where
they mean most.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.step import full


def pairs(student: int, teacher: int) -> list[tuple[int, int]]:
    """(student's stage, teacher's stage), from the last backwards, given in forward order.

    Raises ValueError where there are none: a loss that compares stages would silently be 0.
    """
    count = min(student, teacher)
    if not count:
        raise ValueError("it compares stages, but a network has none")
    return [(student - count + i, teacher - count + i) for i in range(count)]


def pick(wanted: int, available: int) -> int:
    """A stage by number; −1 is the last. Raises ValueError when there is none such."""
    if not -available <= wanted < available:
        raise ValueError(f"stage {wanted} is asked for, but there are {available} pairs of stages")
    return wanted % available


class Adapter(nn.Module):
    """A 1×1 convolution to the other network's width, after pooling to its size when that is smaller."""

    def __init__(self, source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = (target[1], target[2])
        self.project = nn.Conv2d(source[0], target[0], 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(resize(x, self.size))  # type: ignore[no-any-return]


def unit(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C·H·W) of length 1."""
    return F.normalize(full(x).flatten(1))


def side(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """To another side: average pooling downwards, nearest neighbours upwards.

    From n to m where m does not divide n: the cells ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ overlap; upwards index ⌊i·n/m⌋ is taken.
    """
    if tuple(x.shape[2:]) == size:
        return x
    if x.shape[2] >= size[0]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size)
