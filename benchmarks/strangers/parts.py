"""Modules of the constructs: those that torch does not have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 16


class Through(nn.Module):
    """A function of a map, with the modules that it uses registered beside it by name."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleDict(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.parts.items()))


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FrozenNorm(nn.Module):
    """A batch-norm whose four tensors are buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.rand(width) + 0.5)
        self.register_buffer("bias", torch.randn(width) * 0.1)
        self.register_buffer("mean", torch.randn(width) * 0.1)
        self.register_buffer("variance", torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.variance + 1e-5).rsqrt()
        return x * scale.reshape(1, -1, 1, 1) + (self.bias - self.mean * scale).reshape(1, -1, 1, 1)


class SqueezeExcite(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.reduce, self.expand, self.gate = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(4, WIDTH, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Attention(nn.Module):
    """torch's own attention over the positions of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Positions(nn.Module):
    """A table that is read by a buffer of indices and added, as relative position biases are."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(64, WIDTH) * 0.2)
        self.register_buffer("index", torch.arange(side * side) % 64)

    def forward(self, x: Tensor) -> Tensor:
        added = self.table[self.index].t().reshape(1, WIDTH, *x.shape[2:])
        return x + added


class Blur(nn.Module):
    """A fixed smoothing kernel, reflected at the edges, with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (line[:, None] * line).expand(WIDTH, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=WIDTH)


class Pyramid(nn.Module):
    """A feature pyramid: two levels joined by a map that is made larger."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.lateral, self.top = (
            block(stride=2),
            nn.Conv2d(WIDTH, WIDTH, 1),
            nn.Conv2d(WIDTH, WIDTH, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        up = F.interpolate(self.top(self.down(x)), scale_factor=2.0, mode="nearest")
        return self.lateral(x) + up


class Answering(nn.Module):
    """A trunk with one or more heads, whose answers a function puts together."""

    def __init__(self, trunk: nn.Module, join: Callable[..., object], *heads: nn.Module) -> None:
        super().__init__()
        self.trunk, self.join, self.heads = trunk, join, nn.ModuleList(heads)

    def forward(self, x: Tensor) -> object:
        features = self.trunk(x).mean((2, 3))
        return self.join(features, *(head(features) for head in self.heads))


class Counting(nn.Module):
    """Python side effects: it counts its calls and keeps its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls, self.kept = block(), 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.kept = self.layer(x)
        return self.kept


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    n, channels, height, width = x.shape
    pairs = x.view(n, groups, channels // groups, height, width)
    return pairs.transpose(1, 2).reshape(n, channels, height, width)


def conv(kernel: int = 3, width: int = WIDTH, **more: object) -> nn.Conv2d:
    return nn.Conv2d(WIDTH, width, kernel, padding=more.pop("padding", kernel // 2), **more)  # type: ignore[arg-type]


def block(activation: nn.Module | None = None, **more: object) -> nn.Sequential:
    """Convolution, batch-norm and an activation: ReLU unless another is given."""
    return nn.Sequential(conv(bias=False, **more), nn.BatchNorm2d(WIDTH), activation or nn.ReLU())
