"""The tensors that are rounded in an ONNX graph are those that are rounded in torch's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="one of the two policies is torch's")

from torch import nn

from pipeline.artifacts.onnx_file import Deployed, write
from pipeline.models.catalogue import build
from pipeline.models.tapped_model import Model
from pipeline.quantization.grid import convert
from pipeline.quantization.ptq import calibrate, prepare
from support import tiny
from targets.convert.grid import lift
from targets.quantize.policy import rounded
from targets.spec.contract import Contract

SIDE = 32


def rectified(name: str) -> nn.Module:
    """A convolution whose ReLU is read by what is not rounded for its own sake."""
    between = {"pad": nn.ReflectionPad2d(1), "slices": nn.PixelUnshuffle(2)}[name]
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), between, nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize("name", ["pad", "slices"])
def test_both_policies_round_what_a_rectified_convolution_gives(name: str, tmp_path: Path) -> None:
    network = rectified(name)
    network(torch.zeros(1, 3, SIDE, SIDE))
    check_same(tiny.wrap(network, side=SIDE), tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_both_policies_round_the_same_tensors(name: str, tmp_path: Path) -> None:
    """Seen by what makes each rounded tensor and by what reads it, in the float file and in torch's int8 one."""
    torch.manual_seed(0)
    check_same(tiny.wrap(build(name, None, 3, {}, "here").network, side=SIDE), tmp_path)


def check_same(model: Model, tmp_path: Path) -> None:
    grid = prepare(model, tiny.square(SIDE))
    calibrate(grid, [torch.rand(2, 3, SIDE, SIDE)])
    ours = ir.from_proto(exported(model, tmp_path / "float.onnx")).graph
    theirs = ir.from_proto(exported(convert(grid).eval(), tmp_path / "int8.onnx")).graph
    assert kinds(rounded(ours)) == kinds(list(lift(theirs)))


def kinds(values: list[ir.Value]) -> Counter[tuple[str, ...]]:
    """What makes each tensor, and what reads it."""
    makers = [value.producer() for value in values]
    return Counter(
        (maker.op_type if maker else "", *sorted(one.op_type for one in value.consumers()))
        for value, maker in zip(values, makers, strict=True)
    )


def exported(model: nn.Module, path: Path) -> onnx.ModelProto:
    contract = Contract("nchw-float32", (SIDE, SIDE), ("a", "b", "c"))
    write(Deployed(model, contract.layout), contract, 20, path)
    return onnx.load(path)
