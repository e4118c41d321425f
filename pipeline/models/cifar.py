"""CIFAR's classics: residual, wide residual and VGG networks for images of 32 pixels, as in the papers' tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, by 1×1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def block_group(
    block: Callable[..., nn.Module], inputs: int, outputs: int, blocks: int, stride: int
) -> nn.Sequential:
    rest = [block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(inputs, outputs, stride), *rest)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: depth = 6n + 2, three groups of blocks; widths of the stem and the groups."""

    taps = ("layer1", "layer2", "layer3")

    def __init__(
        self, depth: int, widths: tuple[int, int, int, int], classes: int, channels: int = 3
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = conv3x3(channels, widths[0]), nn.BatchNorm2d(widths[0])
        self.layer1 = block_group(BasicBlock, widths[0], widths[1], blocks, 1)
        self.layer2 = block_group(BasicBlock, widths[1], widths[2], blocks, 2)
        self.layer3 = block_group(BasicBlock, widths[2], widths[3], blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


class WideBlock(nn.Module):
    """Pre-activation block of a wide residual network."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3x3(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """Zagoruyko & Komodakis 2016: depth = 6n + 4, widths 16k, 32k, 64k."""

    taps = ("layer1", "layer2", "layer3")

    def __init__(self, depth: int, widen: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, (16 * widen, 32 * widen, 64 * widen)
        self.conv1 = conv3x3(channels, 16)
        self.layer1 = block_group(WideBlock, 16, widths[0], blocks, 1)
        self.layer2 = block_group(WideBlock, widths[0], widths[1], blocks, 2)
        self.layer3 = block_group(WideBlock, widths[1], widths[2], blocks, 2)
        self.bn = nn.BatchNorm2d(widths[2])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.pool(F.relu(self.bn(x))).flatten(1))  # type: ignore[no-any-return]


class CifarVgg(nn.Module):
    """VGG with batch-norm for small images: a pool after each of five stages but the last (global)."""

    taps = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, convolutions: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        inputs = channels
        for index, width in enumerate((64, 128, 256, 512, 512), start=1):
            layers: list[nn.Module] = [] if index == 1 else [nn.MaxPool2d(2)]
            for _ in range(convolutions):
                conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            self.add_module(f"stage{index}", nn.Sequential(*layers))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.taps:
            x = getattr(self, name)(x)
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


def kaiming(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet(
    depth: int, classes: int, channels: int = 3, widths: tuple[int, int, int, int] = (16, 16, 32, 64)
) -> nn.Module:
    return CifarResNet(depth, widths, classes, channels)


def wide(depth: int, widen: int, classes: int, channels: int = 3) -> nn.Module:
    return WideResNet(depth, widen, classes, channels)


def vgg(convolutions: int, classes: int, channels: int = 3) -> nn.Module:
    return CifarVgg(convolutions, classes, channels)


X4 = (32, 64, 128, 256)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(resnet, 8),
    "resnet14": partial(resnet, 14),
    "resnet20": partial(resnet, 20),
    "resnet32": partial(resnet, 32),
    "resnet44": partial(resnet, 44),
    "resnet56": partial(resnet, 56),
    "resnet110": partial(resnet, 110),
    "resnet8x4": partial(resnet, 8, widths=X4),
    "resnet32x4": partial(resnet, 32, widths=X4),
    "wrn_16_1": partial(wide, 16, 1),
    "wrn_16_2": partial(wide, 16, 2),
    "wrn_40_1": partial(wide, 40, 1),
    "wrn_40_2": partial(wide, 40, 2),
    "vgg8": partial(vgg, 1),
    "vgg13": partial(vgg, 2),
}
