"""A teacher's pass made cheap: batch-norms folded, weights in bfloat16, compiled with them as constants."""

from __future__ import annotations

import copy
import shutil

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.data.decoded import ImageShape
from pipeline.models.catalogue import macs
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Model

# Multiply-adds of all its passes from which compiling pays: it takes some 10 s, and spares a quarter of a pass of
# ResNet56 at 100 G a second on two cores (benchmarks/LOG.md). Twice that, because other machines differ.
PAYS = 1e13
COMPILERS = ("g++", "c++", "clang++")


def pays(teachers: list[Parts], shape: ImageShape, images: int) -> bool:
    """Whether so many images are worth compiling the teachers for the processor; and whether there is a compiler."""
    grey = torch.full((1, *shape), 0.5)
    work = images * sum(macs(teacher.like, grey) for teacher in teachers)
    return work >= PAYS and any(map(shutil.which, COMPILERS))


def compile_teacher(teacher: Parts) -> None:
    """Exchange a teacher's network for the compiled one; it is called within autocast, which casts its images."""
    assert teacher.plain, "a teacher is a model as it was trained"
    model = copy.deepcopy(teacher.like).eval().requires_grad_(False)
    fold(model)
    for module in model.network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):  # what normalises stays in float32
            module.to(torch.bfloat16)
    model.to(memory_format=torch.channels_last)
    teacher.network = teacher.like = model
    teacher.compile()


def fold(model: Model) -> None:
    """Each batch-norm that alone follows a convolution becomes part of it; where a network cannot be traced, none.

    In place, so that a tap at either is still there.
    """
    try:
        graph = fx.symbolic_trace(model.network).graph
    except Exception:  # whatever somebody's own code does to a tracer
        return
    modules = dict(model.network.named_modules())
    for node in graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if isinstance(norm, nn.BatchNorm2d) else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution = modules[str(before.target)]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            put(model.network, str(before.target), fuse_conv_bn_eval(convolution, norm))
            put(model.network, str(node.target), nn.Identity())


def put(network: nn.Module, name: str, module: nn.Module) -> None:
    place, _, last = name.rpartition(".")
    setattr(network.get_submodule(place), last, module)
