"""A network in evaluation mode as one graph of torch's operators, its constants and batch-norms folded.

Training on the grid starts from this graph too. Its batch-norms keep their running statistics, so the trained
weights are the weights that ship, and no statistic has to be simulated behind a rounded weight.
"""

from __future__ import annotations

import operator
import warnings

import torch
from torch import Tensor, fx, nn

from pipeline.data.decoded import ImageShape

aten = torch.ops.aten
CONVOLUTIONS = {
    getattr(getattr(aten, name), padding)
    for name in ("conv1d", "conv2d", "conv3d")
    for padding in ("default", "padding")  # in numbers, or a word: "same"
}
DROPOUTS = {aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default}
REGIONS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
BATCH = 4096  # the most images that a captured graph takes at once


def capture(model: nn.Module, shape: ImageShape) -> fx.GraphModule:
    """The graph of a model for images (N, C, H, W); ``model`` is left as it is.

    Raises whatever torch.export raises where Python code depends on the values of a tensor.
    """
    was_training = model.training
    example, batch = torch.rand(2, *shape), torch.export.Dim("batch", min=1, max=BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
        module = exported.module(check_guards=False)
    model.train(was_training)
    assert isinstance(module, fx.GraphModule), "torch.export returns a graph"
    inline_regions(module)
    for node in nodes_of(module):
        if node.target in DROPOUTS:
            node.replace_all_uses_with(read(node, 0))
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    fold_constants(module)
    fold_batch_norms(module)
    module.graph.eliminate_dead_code()
    # A new module holds only what the graph reads, and its train() and eval() are torch's own.
    return fx.GraphModule(module, module.graph)


def nodes_of(module: fx.GraphModule) -> list[fx.Node]:
    """Those of its graph as it is now, in the order in which they run."""
    return list(module.graph.nodes)


def read(node: fx.Node, position: int) -> fx.Node:
    """The node whose tensor an operator reads at a position."""
    found = node.args[position]
    assert isinstance(found, fx.Node), "a tensor is read there"
    return found


def inline_regions(module: fx.GraphModule) -> None:
    """Put what runs under ``torch.no_grad`` or ``torch.autocast`` among the other nodes.

    Without the context: where autocast would change the answers, the graph is not equal to its network.
    """
    for node in list(module.graph.nodes):
        if not str(node.target).startswith(REGIONS):
            continue
        (at,) = (number for number, arg in enumerate(node.args) if is_region(module, arg))
        region = module.get_submodule(node.args[at].target)
        assert isinstance(region, fx.GraphModule), "a region is a graph"
        inline_regions(region)
        inner = [one for one in nodes_of(region) if one.op == "placeholder"]
        with module.graph.inserting_before(node):
            gave = module.graph.graph_copy(region.graph, dict(zip(inner, node.args[at + 1 :], strict=True)))
        for user in list(node.users):
            user.replace_all_uses_with(gave[user.args[1]])  # type: ignore[index]
            module.graph.erase_node(user)
        module.graph.erase_node(node)


def is_region(module: fx.GraphModule, arg: object) -> bool:
    if not isinstance(arg, fx.Node) or arg.op != "get_attr":
        return False
    return isinstance(operator.attrgetter(str(arg.target))(module), fx.GraphModule)


def fold_constants(module: fx.GraphModule) -> None:
    """Compute once what is computed from parameters alone, such as a weight under weight_norm."""
    known: dict[fx.Node, Tensor] = {}
    for node in nodes_of(module):
        if node.op == "get_attr":
            known[node] = tensor_at(module, str(node.target))
        elif callable(node.target) and node.all_input_nodes and known.keys() >= set(node.all_input_nodes):
            with torch.no_grad():
                found = node.target(*fx.map_arg(node.args, known.get), **fx.map_arg(node.kwargs, known.get))
            if isinstance(found, Tensor):
                known[node] = found
    for node in [node for node in known if node.op != "get_attr"]:
        readers = [user for user in node.users if user not in known]
        if readers:
            constant = new_parameter(module, node, node.name, known[node])
            for user in readers:
                user.replace_input_with(node, constant)


def fold_batch_norms(module: fx.GraphModule) -> None:
    """Each batch-norm that alone reads a convolution or a linear layer becomes part of its weight and bias.

    A layer that shares its weight with another (a module called twice) gets a weight of its own.
    """
    for norm in nodes_of(module):
        layer = folds_into(norm)
        if layer is None:
            continue
        (weight, tensor), (_, bias) = constant_at(module, layer, 1), constant_at(module, layer, 2)
        assert weight is not None and tensor is not None, "a layer has a weight"
        gain, shift = affine(module, norm)
        folded = tensor * gain.reshape(-1, *[1] * (tensor.ndim - 1))
        moved = shift if bias is None else shift + bias * gain
        # Under its old name, so that a layer is found by its name; a shared weight stays for its other readers.
        own = f"_{layer.name}" if len(weight.users) > 1 else ""
        own_weight = new_parameter(module, layer, f"{weight.target}{own}", folded, weight)
        bias_name = f"{beside(str(weight.target), 'bias')}{own}"
        own_bias = new_parameter(module, layer, bias_name, moved, constant_at(module, norm, 3)[0])
        layer.args = (layer.args[0], own_weight, own_bias, *layer.args[3:])
        norm.replace_all_uses_with(layer)
        module.graph.erase_node(norm)


def folds_into(norm: fx.Node) -> fx.Node | None:
    """The layer that a batch-norm at rest can be folded into: no other node reads the layer's output."""
    if norm.target is not aten.batch_norm.default or norm.args[5] or not isinstance(norm.args[3], fx.Node):
        return None
    layer = read(norm, 0)
    flat = layer.target is aten.linear.default and layer.meta["val"].ndim == 2
    constant = all(not isinstance(arg, fx.Node) or arg.op == "get_attr" for arg in layer.args[1:3])
    return layer if (flat or layer.target in CONVOLUTIONS) and constant and len(layer.users) == 1 else None


def constant_at(module: fx.GraphModule, node: fx.Node, position: int) -> tuple[fx.Node | None, Tensor | None]:
    """The parameter or buffer that a node reads at a position, and its value; nothing where it reads none."""
    found = node.args[position] if position < len(node.args) else None
    return (found, tensor_at(module, str(found.target))) if isinstance(found, fx.Node) else (None, None)


@torch.no_grad()
def affine(module: fx.GraphModule, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """A batch-norm at rest as factor and summand a channel; without ``affine`` weight 1 and bias 0."""
    weight, bias, mean, variance = (constant_at(module, norm, position)[1] for position in range(1, 5))
    epsilon = norm.args[7]
    assert mean is not None and variance is not None, "it keeps running statistics"
    assert isinstance(epsilon, float), "it is a number of the graph"
    gain = torch.rsqrt(variance + epsilon)
    gain = gain if weight is None else gain * weight
    return gain, (-mean * gain if bias is None else bias - mean * gain)


def new_parameter(
    module: fx.GraphModule, before: fx.Node, name: str, value: Tensor, like: fx.Node | None = None
) -> fx.Node:
    """A parameter of a dotted name, new or in place of the old one, read just before a node.

    ``like`` is a node whose tensor has its shape and type.
    """
    place, last = module.get_submodule(beside(name, "")), name.rpartition(".")[2]
    if hasattr(place, last):
        delattr(place, last)
    place.register_parameter(last, nn.Parameter(value.detach().clone(), value.is_floating_point()))
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = (like or before).meta["val"]
    return node


def beside(name: str, other: str) -> str:
    """Another name in the same submodule; the submodule itself for none."""
    return ".".join(filter(None, (name.rpartition(".")[0], other)))


def tensor_at(module: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of a dotted name."""
    folder, _, last = name.rpartition(".")
    tensor = getattr(module.get_submodule(folder), last)
    assert isinstance(tensor, Tensor), f"{name} is a tensor of the graph"
    return tensor
