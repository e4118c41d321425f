"""Writing a model as one ONNX file: batch dynamic, normalisation inside, contract on it, no traces of where."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from pipeline.data.decoded import Facts
from targets.errors import Refusal
from targets.spec.contract import Contract, Layout, write_contract


def contract_for(layout: Layout, facts: Facts) -> Contract:
    """Of a file of ours that takes images as a set was decoded."""
    one = facts.decoding
    contract = Contract(layout, one.size, facts.classes, channels=one.channels, task=facts.task)
    return replace(contract, resize=one.resize, interpolation=one.interpolation)


class Deployed(nn.Module):
    """What leaves the workshop: images by the contract in, logits out; the taps are gone."""

    def __init__(self, model: nn.Module, layout: str) -> None:
        super().__init__()
        self.model, self.layout = model, layout

    def planes(self, images: Tensor) -> Tensor:
        """Images by the contract as (N, C, H, W) in 0..1."""
        if self.layout == "nhwc-uint8":
            # Contiguous, or the exporter spells the pools out for the strides.
            return images.permute(0, 3, 1, 2).contiguous().float() / 255
        return images

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.planes(images))[0]  # type: ignore[no-any-return]


def write(deployed: nn.Module, contract: Contract, opset: int, path: Path) -> None:
    """Raises Refusal where the exporter does not keep to the opset."""
    import onnxscript  # noqa: F401  (torch's exporter writes with it, so its version counts)

    example = torch.from_numpy(contract.prepare(contract.black(2)))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployed,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            dynamic_shapes=({0: "batch"},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    proto = program.model_proto
    strip(proto)
    write_contract(proto, contract)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    if proto.opset_import[0].version != opset:
        raise Refusal(
            f"export: opset {opset} became {proto.opset_import[0].version} in the exporter; use 18 to 23"
        )


def strip(proto: onnx.ModelProto) -> None:
    """Take out stack traces and other notes of the machine that exported: paths of it, mostly."""
    graph = proto.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    things: list[onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto]
    things = [*graph.node, *values, *graph.initializer]
    for thing in things:
        thing.ClearField("metadata_props")
        thing.doc_string = ""
    graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    graph.doc_string = proto.doc_string = ""
