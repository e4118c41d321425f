"""The catalogue of networks: CIFAR's classics here, torchvision's and timm's classifiers by their names.

A factory takes ``classes`` and keyword arguments and returns a module from (N, 3, H, W) to (N, classes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.user_code import is_factory, load_factory
from targets.errors import Refusal, unknown

Factory = Callable[..., nn.Module]


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


def stage(
    block: Callable[..., nn.Module], inputs: int, outputs: int, blocks: int, stride: int
) -> nn.Sequential:
    rest = [block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(inputs, outputs, stride), *rest)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: depth = 6n + 2, three stages; widths of the stem and the stages."""

    taps = ("layer1", "layer2", "layer3")

    def __init__(self, depth: int, widths: tuple[int, int, int, int], classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = conv3x3(3, widths[0]), nn.BatchNorm2d(widths[0])
        self.layer1 = stage(BasicBlock, widths[0], widths[1], blocks, 1)
        self.layer2 = stage(BasicBlock, widths[1], widths[2], blocks, 2)
        self.layer3 = stage(BasicBlock, widths[2], widths[3], blocks, 2)
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

    def __init__(self, depth: int, widen: int, classes: int) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, (16 * widen, 32 * widen, 64 * widen)
        self.conv1 = conv3x3(3, 16)
        self.layer1 = stage(WideBlock, 16, widths[0], blocks, 1)
        self.layer2 = stage(WideBlock, widths[0], widths[1], blocks, 2)
        self.layer3 = stage(WideBlock, widths[1], widths[2], blocks, 2)
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

    def __init__(self, convolutions: int, classes: int) -> None:
        super().__init__()
        inputs = 3
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


def resnet(depth: int, classes: int, widths: tuple[int, int, int, int] = (16, 16, 32, 64)) -> nn.Module:
    return CifarResNet(depth, widths, classes)


def wide(depth: int, widen: int, classes: int) -> nn.Module:
    return WideResNet(depth, widen, classes)


def vgg(convolutions: int, classes: int) -> nn.Module:
    return CifarVgg(convolutions, classes)


NETWORKS: dict[str, Factory] = {
    **{f"resnet{depth}": partial(resnet, depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(resnet, depth, widths=(32, 64, 128, 256)) for depth in (8, 32)},
    **{f"wrn_{d}_{k}": partial(wide, d, k) for d, k in ((16, 1), (16, 2), (40, 1), (40, 2))},
    "vgg8": partial(vgg, 1),
    "vgg13": partial(vgg, 2),
}


def torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def timm_names() -> list[str]:
    try:
        import timm
    except ImportError:
        return []
    return list(timm.list_models())


def resolve(name: str, source: Path | None, where: str) -> Factory:
    """The factory a recipe's ``network`` names: ours, torchvision's, ``timm/NAME`` or ``module:factory``."""
    if is_factory(name):
        return load_factory(name, source, where)
    if name in NETWORKS:
        return NETWORKS[name]
    if name in torchvision_names():
        from torchvision import models

        return lambda classes, **arguments: models.get_model(name, num_classes=classes, **arguments)
    plain = name.removeprefix("timm/")
    if plain in timm_names():
        import timm

        return lambda classes, **arguments: timm.create_model(plain, num_classes=classes, **arguments)
    raise unknown("network", name, [*NETWORKS, *torchvision_names(), *timm_names()], where)


def build(name: str, source: Path | None, classes: int, arguments: dict[str, Any], where: str) -> nn.Module:
    """Make the network and try it on nothing: it must take ``classes`` and the recipe's arguments."""
    factory = resolve(name, source, where)
    try:
        made = factory(classes=classes, **arguments)
    except TypeError as error:
        raise Refusal(f"{where}: {name} does not take these arguments: {error}") from None
    except (ValueError, RuntimeError) as error:
        raise Refusal(f"{where}: {name} cannot be made: {error}") from None
    if not isinstance(made, nn.Module):
        raise Refusal(f"{where}: {name} gave {type(made).__name__}; return a torch.nn.Module")
    return made


def macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was_training)
    return int(counter.get_total_flops()) // 2 // len(image)
