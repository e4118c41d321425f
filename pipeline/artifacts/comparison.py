"""An exported file against torch, on the same images, before it leaves.

Rounding to a grid may fall the other way where float sums come in another order, and a network can make much of that.
So a file may be as far from torch as torch is from itself when its images change by what float32 hardly tells apart.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from pipeline.artifacts.onnx_file import Deployed
from pipeline.data.batches import plain_batches
from pipeline.data.decoded import VALIDATION, Decoded
from pipeline.tasks import TASKS
from targets.convert.graph import with_outputs
from targets.errors import Refusal
from targets.runner.backends import REFERENCE, backend
from targets.spec.contract import Contract

COMPARED = 64
# A step or two of the logits on a grid of 127 steps.
TOLERANCE = {"float": 1e-4, "int8": 0.1}  # of the logits' reach
SHAKEN = 1e-6  # of a pixel: about ten times float32's resolution
TIMES = 4  # as far as shaking takes torch from itself
FEWER = 0.1  # equal answers: so many fewer than shaking leaves
READERS = {"onnx": REFERENCE, "tflite": "litert"}
aten = torch.ops.aten
Answers = NDArray[np.float32]


class Asked(NamedTuple):
    """What torch, torch with shaken images, and the file answer, (N, ...)."""

    torch: Answers
    shaken: Answers
    file: Answers


def compare(deployed: Deployed, path: Path, contract: Contract, data: Decoded, kind: str) -> dict[str, Any]:
    """How far a file's answers are from torch's; ``kind``: "float" or "int8". Raises Refusal when they part.

    The file is computed operator by operator; int8 kernels that saturate are the targets' to judge.
    """
    asked = ask(deployed, path, contract, data)
    reach = float(np.abs(asked.torch).max())
    largest, own = (float(np.abs(one - asked.torch).max()) for one in (asked.file, asked.shaken))
    task = TASKS[contract.task]
    same, own_same = (task.same(one, asked.torch) for one in (asked.file, asked.shaken))
    if largest > max(TOLERANCE[kind] * max(reach, 1e-6), TIMES * own) or same < own_same - FEWER:
        told = f"by {largest:.3g} (logits reach {reach:.3g}), with {100 * same:.0f} % equal answers"
        where = first_parting(deployed, path, contract, data, kind) if path.suffix == ".onnx" else ""
        raise Refusal(
            f"export: {path.name} differs from torch {told}{where}; please report it with the network"
        )
    return {"images": len(asked.torch), "largest": largest, "logits_reach": reach, "same_answer": same}


def ask(deployed: Deployed, path: Path, contract: Contract, data: Decoded) -> Asked:
    session = backend(READERS[path.suffix[1:]]).load(str(path), {"threads": 1, "exact": True})
    noise, found = torch.Generator().manual_seed(0), list[Asked]()
    for batch in plain_batches(data, data.part(VALIDATION)[:COMPARED], 1 if path.suffix == ".tflite" else 32):
        raw = contract.prepare(data.images[batch.indices.numpy()])
        with torch.no_grad():
            planes = deployed.planes(torch.from_numpy(raw))
            shaken = planes * (1 + SHAKEN * torch.randn(planes.shape, generator=noise))
            ours, other = (deployed.model(images)[0].numpy() for images in (planes, shaken))
        found.append(Asked(ours, other, session({contract.input: raw})[contract.output]))
    return Asked(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


class Convolutions(fx.Interpreter):
    """Runs a graph and keeps what each convolution gives, behind its batch-norm, which the exporter folds into it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[fx.Node, Answers] = {}

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        norm = n.target is aten.batch_norm.default and n.args[0] in self.seen
        if n.target is aten.conv2d.default or norm:
            assert isinstance(out, Tensor), "a convolution and a batch-norm give a tensor"
            kept = n.args[0] if norm else n
            assert isinstance(kept, fx.Node), "they read tensors of the graph"
            self.seen[kept] = out.numpy().copy()
        return out


@torch.no_grad()
def first_parting(deployed: Deployed, path: Path, contract: Contract, data: Decoded, kind: str) -> str:
    """Which convolution of the file is the first to differ from torch's, in words; both have them in one order."""
    raw = contract.prepare(data.images[data.part(VALIDATION)[:1]])
    program = torch.export.export(deployed.eval(), (torch.from_numpy(raw),)).module(check_guards=False)
    assert isinstance(program, fx.GraphModule), "torch.export returns a graph"
    ours = Convolutions(program)
    ours.run(torch.from_numpy(raw))
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        opened = Path(folder) / "opened.onnx"
        onnx.save(with_outputs(model, [node.output[0] for node in nodes]), opened)
        found = backend(REFERENCE).load(str(opened), {"threads": 1, "exact": True})({contract.input: raw})
    for node, mine in zip(nodes, ours.seen.values(), strict=False):
        apart = float(np.abs(found[node.output[0]] - mine).max())
        if apart > TOLERANCE[kind] * float(np.abs(mine).max()):
            return f"; they part first at {node.name} ({node.output[0]}), by {apart:.3g}"
    return "; no convolution differs, so they part behind the last"
