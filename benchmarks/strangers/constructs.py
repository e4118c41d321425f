"""Sixty hand-written constructs, each a few layers between a stem and a head: what users' own networks hold.

``make(construct=NAME)`` builds one; a name that is not here has no network. ``MIDDLES`` stand between a stem and the
usual head; ``WHOLES`` are whole networks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm
from torchvision.ops import StochasticDepth

from benchmarks.strangers import parts
from benchmarks.strangers.parts import WIDTH, Answering, Residual, Through, block, conv, shuffle

SIDE = 32
Make = Callable[[], nn.Module]


def twice() -> nn.Module:
    """One convolution and its batch-norm, called twice."""
    return Through(lambda x, layer: layer(layer(x)), layer=block())


def two_norms() -> nn.Module:
    """One convolution behind which two batch-norms stand in turn."""
    return Through(
        lambda x, layer, first, second: second(layer(first(layer(x)).relu())).relu(),
        layer=conv(bias=False),
        first=nn.BatchNorm2d(WIDTH),
        second=nn.BatchNorm2d(WIDTH),
    )


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(conv(bias=False), norm, nn.ReLU(), conv(), nn.ReLU())


def after(activation: nn.Module) -> nn.Module:
    """An activation between two convolutions, in a residual block."""
    return Residual(conv(bias=False), nn.BatchNorm2d(WIDTH), activation, conv())


def between(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """A function of a map between two blocks."""
    return nn.Sequential(block(), Through(function), block())


def dead() -> nn.Module:
    """A convolution with outputs whose weights are zero and whose biases are not."""
    layer = conv()
    with torch.no_grad():
        layer.weight[::2] = 0
        layer.bias[::2] = torch.linspace(-3, 3, WIDTH // 2)
    return nn.Sequential(layer, nn.ReLU(), conv())


def scaled(factor: float) -> nn.Module:
    """Maps far larger, or smaller, than 1 between two convolutions."""
    first, second = conv(bias=False), conv(bias=False)
    with torch.no_grad():
        first.weight *= factor
        second.weight /= factor
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def bottleneck() -> nn.Module:
    """One channel, and five: no multiple of any kernel's width."""
    return nn.Sequential(
        conv(1, 1), nn.ReLU(), nn.Conv2d(1, 5, 3, padding=1), nn.SiLU(), nn.Conv2d(5, WIDTH, 1)
    )


def split_csp(x: Tensor, first: nn.Module, last: nn.Module) -> Tensor:
    """Halves, one of which goes through a block; all three joined, as YOLO's C2f does."""
    left, right = x.chunk(2, 1)
    return last(torch.cat([left, right, first(right)], 1))  # type: ignore[no-any-return]


def into_slice(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
    y = one(x)
    y[:, :8] += x[:, 8:]
    return two(y)  # type: ignore[no-any-return]


def into_view(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
    y = one(x)
    y.view(x.shape[0], 2, 8, *x.shape[2:])[:, 1].add_(x[:, :8])
    return two(y)  # type: ignore[no-any-return]


MIDDLES: dict[str, Make] = {
    "shared block": twice,
    "shared convolution, two norms": two_norms,
    "channel shuffle": lambda: between(shuffle),
    "split and swap": lambda: between(lambda x: torch.cat(x.split([4, WIDTH - 4], 1)[::-1], 1)),
    "slices of channels": lambda: between(lambda x: torch.cat([x[:, 8:], x[:, :8] * 2], 1)),
    "focus slices": lambda: nn.Sequential(
        Through(lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2]], 1)),
        nn.Conv2d(3 * WIDTH, WIDTH, 1),
        nn.ReLU(),
    ),
    "chunk and concatenate": lambda: Through(
        split_csp, first=nn.Conv2d(8, 8, 3, padding=1), last=nn.Conv2d(24, WIDTH, 1)
    ),
    "frozen norm": lambda: normed(parts.FrozenNorm(WIDTH)),
    "norm without momentum": lambda: normed(nn.BatchNorm2d(WIDTH, momentum=None)),
    "norm without affine": lambda: normed(nn.BatchNorm2d(WIDTH, affine=False)),
    "norm of the batch": lambda: normed(nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "synchronised norm": lambda: normed(nn.SyncBatchNorm(WIDTH)),
    "group norm": lambda: normed(nn.GroupNorm(4, WIDTH)),
    "instance norm": lambda: normed(nn.InstanceNorm2d(WIDTH, affine=True)),
    "layer norm of channels": lambda: normed(parts.LayerNorm2d(WIDTH)),
    "norm before convolution": lambda: nn.Sequential(nn.BatchNorm2d(WIDTH), nn.ReLU(), conv()),
    "PReLU": lambda: after(nn.PReLU(WIDTH)),
    "Mish": lambda: after(nn.Mish()),
    "SiLU": lambda: after(nn.SiLU(inplace=True)),
    "HardSwish": lambda: after(nn.Hardswish(inplace=True)),
    "Hardtanh to one": lambda: after(nn.Hardtanh(-1, 1)),
    "ELU": lambda: after(nn.ELU()),
    "LeakyReLU": lambda: after(nn.LeakyReLU(0.1)),
    "Tanh": lambda: after(nn.Tanh()),
    "GELU by tanh": lambda: after(nn.GELU(approximate="tanh")),
    "GELU": lambda: after(nn.GELU()),
    "Softplus": lambda: after(nn.Softplus()),
    "dilated and grouped": lambda: nn.Sequential(
        conv(dilation=2, padding=2), nn.ReLU(), conv(groups=4), nn.ReLU()
    ),
    "transposed convolution": lambda: nn.Sequential(
        nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(), conv()
    ),
    "depthwise separable": lambda: nn.Sequential(
        block(nn.ReLU6(), groups=WIDTH), block(nn.ReLU6(), kernel=1)
    ),
    "bias-free": lambda: nn.Sequential(conv(bias=False), nn.ReLU(), conv(bias=False)),
    "one-channel bottleneck": bottleneck,
    "dead channels": dead,
    "huge scales": lambda: scaled(1e4),
    "tiny scales": lambda: scaled(1e-4),
    "reflected pad": lambda: nn.Sequential(nn.ReflectionPad2d(1), conv(padding=0), nn.ReLU()),
    "zero pad": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(stride=2, padding=0), nn.ReLU()),
    "pad of zeros read twice": lambda: nn.Sequential(
        block(),
        Through(
            lambda x, one: (y := F.pad(x, (1, 1, 1, 1)), one(y) + y[..., 1:-1, 1:-1])[1], one=conv(padding=0)
        ),
    ),
    "asymmetric padding": lambda: nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, (1, 3), padding=(0, 1)), nn.ReLU(), conv(kernel=4, padding="same")
    ),
    "average pool with padding": lambda: nn.Sequential(block(), nn.AvgPool2d(3, 2, 1), block()),
    "average pool of ceilings": lambda: nn.Sequential(
        block(), nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), block()
    ),
    "largest pool of ceilings": lambda: nn.Sequential(
        block(nn.SiLU()), nn.MaxPool2d(3, 2, ceil_mode=True), block()
    ),
    "pixel shuffle": lambda: nn.Sequential(conv(width=4 * WIDTH), nn.PixelShuffle(2), nn.ReLU(), conv()),
    "pixel unshuffle": lambda: nn.Sequential(block(), nn.PixelUnshuffle(2), nn.Conv2d(4 * WIDTH, WIDTH, 1)),
    "einsum": lambda: between(
        lambda x: (
            torch.einsum("nchw,ndhw->ncd", x, x).softmax(-1).unsqueeze(1).mean(2).reshape(-1, WIDTH, 1, 1) * x
        )
    ),
    "attention": parts.Attention,
    "table of positions": lambda: nn.Sequential(block(), parts.Positions(SIDE // 2), block()),
    "squeeze and excite": lambda: nn.Sequential(block(nn.SiLU()), parts.SqueezeExcite(nn.Sigmoid()), block()),
    "squeeze and excite, hard": lambda: nn.Sequential(
        block(nn.Hardswish()), parts.SqueezeExcite(nn.Hardsigmoid()), block()
    ),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(conv()), nn.ReLU()),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(conv()), nn.ReLU()),
    "old weight norm": lambda: nn.Sequential(weight_norm(conv()), nn.ReLU()),
    "blurred pool": lambda: nn.Sequential(block(), parts.Blur(), block()),
    "stochastic depth": lambda: Residual(conv(), nn.ReLU(), conv(), StochasticDepth(0.2, "row")),
    "feature pyramid": parts.Pyramid,
    "residual with a constant": lambda: between(lambda x: x * 0.5 + 0.25),
    "difference and quotient": lambda: between(lambda x: (x - x.mean(1, keepdim=True)) / (1 + x.abs())),
    "in-place sums": lambda: Through(
        lambda x, one, two: (y := one(x), y.add_(x), two(y.relu_()).mul_(0.5))[2], one=conv(), two=conv()
    ),
    "sum into a slice": lambda: Through(into_slice, one=conv(), two=conv()),
    "sum into a view": lambda: Through(into_view, one=conv(), two=conv()),
    "side effects": parts.Counting,
    "branches of unlike scales": lambda: Through(
        lambda x, one, two: torch.cat([one(x)[:, :8], 40 * two(x)[:, :8]], 1), one=block(), two=block()
    ),
}


def trunk() -> nn.Module:
    return nn.Sequential(stem(), block())


def stem() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())


def head(classes: int) -> nn.Module:
    return nn.Linear(WIDTH, classes)


WHOLES: dict[str, Callable[[int], nn.Module]] = {
    "answers as a tuple": lambda n: Answering(trunk(), lambda features, logits: (logits, features), head(n)),
    "answers as a dict": lambda n: Answering(
        trunk(), lambda features, logits: OrderedDict(features=features, logits=logits), head(n)
    ),
    "two heads averaged": lambda n: Answering(trunk(), lambda _, a, b: (a + b) / 2, head(n), head(n)),
    "cosine head": lambda n: Answering(
        trunk(), lambda _, out: 16 * F.normalize(out, dim=1), nn.Linear(WIDTH, n, bias=False)
    ),
    "logarithms of shares": lambda n: Answering(trunk(), lambda _, out: F.log_softmax(out, 1), head(n)),
    "convolution as a head": lambda n: nn.Sequential(
        trunk(), nn.Dropout(0.2), nn.Conv2d(WIDTH, n, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "pool to 2x2, hidden layer": lambda n: nn.Sequential(
        trunk(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTH, 20), nn.ReLU(), nn.Linear(20, n)
    ),
    "view of a larger map": lambda n: nn.Sequential(
        trunk(), nn.MaxPool2d(4), Through(lambda x: x.view(x.size(0), -1)), nn.Linear(WIDTH * 16, n)
    ),
    "norm behind a linear layer": lambda n: nn.Sequential(
        trunk(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, 24),
        nn.BatchNorm1d(24),
        nn.Hardswish(),
        nn.Linear(24, n),
    ),
    "no convolution": lambda n: nn.Sequential(
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 32), nn.GELU(), nn.Linear(32, n)
    ),
}
NAMES = (*MIDDLES, *WHOLES)


def make(classes: int, construct: str) -> nn.Module:
    if construct in WHOLES:
        return WHOLES[construct](classes)
    end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head(classes))
    return nn.Sequential(stem(), MIDDLES[construct](), end)
