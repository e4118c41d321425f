"""Networks whose layers have other sizes: what a cut has changed, and a network built anew from its shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn, zeros

Shapes = dict[str, list[int]]


def shapes_of(network: nn.Module) -> Shapes:
    tensors: Mapping[str, Tensor] = network.state_dict()
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


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
            follow(module)
    return network


def follow(module: nn.Module) -> None:
    """What torch's layers keep of their sizes beside their tensors. Others keep nothing that a cut could change."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        inputs, outputs = module.weight.shape[:2]
        module.in_channels, module.out_channels = inputs, outputs * module.groups
    elif isinstance(module, nn.modules.conv._ConvNd):
        outputs, inputs = module.weight.shape[:2]
        if module.groups == module.in_channels == module.out_channels:  # depthwise
            module.groups = outputs
        module.out_channels, module.in_channels = outputs, inputs * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        # Of a batch, or of each image: without weight and bias it may have statistics alone.
        tensor = module.weight if module.weight is not None else module.running_mean
        assert tensor is not None, "a cut changed a tensor of it"
        module.num_features = len(tensor)
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
