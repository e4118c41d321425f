"""The trained grid: symmetric int8, per tensor for what flows, per output channel for weights.

One quantizer serves calibration and quantization-aware training through torchao's PT2E. Its grid is the one
that every target can take (TensorRT wants zero points of 0); files for other targets are derived from it.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import (
    FakeQuantize,
    FakeQuantizeBase,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    ObserverBase,
    PerChannelMinMaxObserver,
    disable_observer,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from pipeline.batches import plain_batches
from pipeline.images import TRAIN, Decoded

CALIBRATION_BATCH = 32
aten = torch.ops.aten
WEIGHTED = {aten.conv2d.default, aten.conv1d.default, aten.linear.default}
# They only combine or move what flows, and take a quantized input wherever a runtime has them in int8.
FLOWING = {
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.mul.Tensor,
    aten.mul_.Tensor,
    aten.cat.default,
    aten.adaptive_avg_pool2d.default,
    aten.avg_pool2d.default,
    aten.mean.dim,
}
# Their output is one of their inputs: the same scale before and after.
CHOOSING = {aten.max_pool2d.default}
Purpose = Literal["train", "calibrate", "grid"]
DROPPING = {aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default}
BATCH_NORM_TRAINS = 5  # which argument of batch_norm says so
STEPS = 127  # -127 … 127: symmetric to the last step


def spec(histograms: bool, per_channel: bool) -> QuantizationSpec:
    observer: Any
    if not histograms:
        kind = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
        # Weights are seen whole in each step: their range is the present one, not an average.
        constant = 1.0 if per_channel else 0.01
        # Not the fused kind: its kernel takes an asymmetric range for what is never negative.
        observer = FakeQuantize.with_args(observer=kind, averaging_constant=constant)
    else:
        observer = PerChannelMinMaxObserver if per_channel else HistogramObserver
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-STEPS,
        quant_max=STEPS,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=0 if per_channel else None,
        observer_or_fake_quant_ctr=observer,
    )


class SymmetricQuantizer(Quantizer):  # type: ignore[misc]
    """Quantizes the inputs of convolutions, linear layers, sums, products and pools; biases stay float."""

    def __init__(self, histograms: bool) -> None:
        super().__init__()
        self.activation, self.weight = spec(histograms, False), spec(histograms, True)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            if node.op != "call_function":
                continue
            if node.target in WEIGHTED:
                inputs = {node.args[0]: self.activation, node.args[1]: self.weight}
                mark(node, inputs)
            elif node.target in FLOWING:
                mark(node, dict.fromkeys(flows(node), self.activation))
            elif node.target in CHOOSING:
                mark(node, {node.args[0]: self.activation}, SharedQuantizationSpec((node.args[0], node)))
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to refuse: what has no annotation stays float and is listed by ``left_float``."""


def mark(node: fx.Node, inputs: dict[fx.Node, Any], output: Any = None) -> None:
    if inputs:
        node.meta["quantization_annotation"] = QuantizationAnnotation(
            input_qspec_map=inputs, output_qspec=output, _annotated=True
        )


def flows(node: fx.Node) -> list[fx.Node]:
    """The inputs that are feature maps: batched float tensors, not scalars and not constants."""
    first = node.args[0]
    arguments = list(first) if isinstance(first, (list, tuple)) else list(node.args[:2])
    nodes = [arg for arg in arguments if isinstance(arg, fx.Node)]
    if any(arg.op == "get_attr" or not is_map(arg) for arg in nodes) or len(nodes) < len(arguments[:1]):
        return []
    whole = node.target in (aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor)
    return [] if whole and len(nodes) < 2 else nodes


def is_map(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def capture(model: nn.Module, size: int) -> fx.GraphModule:
    """The graph of a model, for any batch; taps included, because they are outputs."""
    example = torch.rand(2, 3, size, size)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captured = torch.export.export(model, (example,), dynamic_shapes=({0: batch},)).module()
    # What drops values at random would widen the ranges that are learnt behind it.
    for node in list(captured.graph.nodes):
        if node.op == "call_function" and node.target in DROPPING:
            node.replace_all_uses_with(node.args[0])
            captured.graph.erase_node(node)
    captured.recompile()
    return captured


def prepare(model: nn.Module, size: int, purpose: Purpose) -> fx.GraphModule:
    """A copy of the model as a graph with its grid in it.

    ``train``: fake-quantizers around convolutions whose batch-norm still learns. ``calibrate``: batch-norm
    folded, histograms instead. ``grid``: batch-norm folded, fake-quantizers; what a checkpoint holds.
    """
    learns = purpose == "train"
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if learns and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        insert = prepare_qat_pt2e if learns else prepare_pt2e
        prepared = insert(capture(model, size), SymmetricQuantizer(histograms=purpose == "calibrate"))
    return with_modes(prepared).train(learns)


def twin(network: nn.Module) -> nn.Module:
    """A copy that knows its own mode too; a copied graph would forget it."""
    copied = copy.deepcopy(network)
    return with_modes(copied).train(network.training) if isinstance(copied, fx.GraphModule) else copied


def with_modes(graph: fx.GraphModule) -> fx.GraphModule:
    """A captured graph whose ``train`` and ``eval`` reach its batch-norms, where the mode is an argument."""

    def train(mode: bool = True) -> fx.GraphModule:
        for node in graph.graph.nodes:
            if node.target is aten.batch_norm.default:
                node.update_arg(BATCH_NORM_TRAINS, mode)
        graph.recompile()
        return nn.Module.train(graph, mode)

    graph.train, graph.eval = train, lambda: train(False)  # type: ignore[method-assign]
    return graph


@torch.no_grad()
def calibrate(prepared: nn.Module, data: Decoded, count: int) -> None:
    """Show the observers some training images, spread over the set, in bounded memory."""
    indices = data.part(TRAIN)
    chosen = indices[:: max(1, len(indices) // count)][:count]
    for batch in plain_batches(data, chosen, CALIBRATION_BATCH):
        prepared(batch.images)


@torch.no_grad()
def settle(model: nn.Module, size: int, prepared: fx.GraphModule) -> fx.GraphModule:
    """The grid of a model: its folded weights, and the ranges that ``prepared``, made of it, has come to.

    The weights that training rounded are these, folded; so a checkpoint and its export are one grid, and no
    batch-norm has to be folded behind a fake-quantizer later.
    """
    grid = prepare(model, size, "grid")
    # By place in the graph, not by name: folding a batch-norm can renumber what is left.
    for theirs, module in zip(ranges(prepared), ranges(grid), strict=True):
        scale, _ = theirs.calculate_qparams()
        observer = module.activation_post_process
        observer.min_val, observer.max_val = -STEPS * scale.squeeze(), STEPS * scale.squeeze()
        module.scale.copy_(module.calculate_qparams()[0])
        module.disable_observer()
    grid(torch.zeros(1, 3, size, size))  # the weights' observers look at the folded weights
    freeze(grid)
    return grid


def ranges(graph: fx.GraphModule) -> list[Any]:
    """The observers of what flows, from the answers backwards, each once; the same for graphs of one model."""
    modules, found = dict(graph.named_modules(remove_duplicate=False)), []
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    todo, seen = [end], set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        module = modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, (FakeQuantizeBase, ObserverBase)) and not is_weight(module):
            found.append(module)
        todo += reversed(node.all_input_nodes)
    return list(dict.fromkeys(found))


def is_weight(module: Any) -> bool:
    """Whether an observer, or the one in a fake-quantizer, has a range for each channel."""
    return bool(getattr(module, "activation_post_process", module).qscheme == torch.per_channel_symmetric)


def left_float(prepared: fx.GraphModule) -> dict[str, str]:
    """The arithmetic that has no int8 form in this grid, with the reason."""
    kinds = {
        "conv",
        "linear",
        "matmul",
        "bmm",
        "layer_norm",
        "attention",
        "hardswish",
        "sigmoid",
        "silu",
        "gelu",
    }
    floats = {}
    for node in prepared.graph.nodes:
        if node.op != "call_function" or "quantization_annotation" in node.meta:
            continue
        name = str(node.target).removeprefix("aten.").split(".")[0]
        if any(kind in name for kind in kinds):
            floats[node.name] = f"{name}: no int8 form in the trained grid"
    return floats


def freeze(prepared: nn.Module) -> nn.Module:
    """Stop the ranges: observers would go on moving them in evaluation mode too."""
    return prepared.apply(disable_observer)


def convert(prepared: fx.GraphModule, fold: bool = True) -> fx.GraphModule:
    """The quantized graph, its weights in int8 or (not folded) still being rounded; the prepared one stays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = convert_pt2e(copy.deepcopy(prepared).eval(), fold_quantize=fold)
    return with_modes(done)
