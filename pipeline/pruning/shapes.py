"""Networks whose layers have other sizes: what a cut has changed, and a network built anew from its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn, zeros

Shapes = dict[str, list[int]]


def shapes_of(network: nn.Module) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def changed(network: nn.Module, original: Mapping[str, Sequence[int]]) -> Shapes:
    """The shapes that a cut has changed."""
    return {name: shape for name, shape in shapes_of(network).items() if shape != list(original[name])}


def resize(network: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Give the network's layers the sizes of ``shapes`` (those that differ from its own), with fresh tensors."""
    for name, module in network.named_modules():
        tensors = {
            key: shapes[full]
            for key, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if (full := f"{name}.{key}" if name else key) in shapes
        }
        for key, shape in tensors.items():
            fresh = zeros(*shape)
            setattr(module, key, nn.Parameter(fresh) if key in module._parameters else fresh)
        if tensors:
            resized = next((one for kind, one in KINDS.items() if isinstance(module, kind)), None)
            if resized is not None:
                resized(module)
    return network


def convolution(module: Any) -> None:
    if module.groups == module.in_channels == module.out_channels:  # depthwise
        module.groups = module.weight.shape[0]
    outputs, inputs = module.weight.shape[:2]
    module.out_channels, module.in_channels = outputs, inputs * module.groups


def transposed(module: Any) -> None:
    inputs, outputs = module.weight.shape[:2]
    module.in_channels, module.out_channels = inputs, outputs * module.groups


def linear(module: Any) -> None:
    module.out_features, module.in_features = module.weight.shape


def norm(module: Any) -> None:
    """Of a batch, or of each image: without weight and bias it may have statistics alone."""
    tensor = module.weight if module.weight is not None else module.running_mean
    module.num_features = tensor.shape[0]


def layer_norm(module: Any) -> None:
    module.normalized_shape = tuple(module.weight.shape)


def group_norm(module: Any) -> None:
    module.num_channels = module.weight.shape[0]


def slopes(module: Any) -> None:
    module.num_parameters = module.weight.shape[0]


# What torch's layers keep of their sizes beside their tensors. Others keep nothing that a cut could change.
KINDS: dict[type[nn.Module], Callable[[Any], None]] = {
    nn.modules.conv._ConvTransposeNd: transposed,
    nn.modules.conv._ConvNd: convolution,
    nn.Linear: linear,
    nn.modules.batchnorm._NormBase: norm,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.PReLU: slopes,
}
