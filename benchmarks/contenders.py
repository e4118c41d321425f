"""The files that a ladder compares: ours, and what others' tools make of the same network and images.

Weights are random, because a kernel's time does not depend on what it learnt; batch-norms have seen the images,
so that what flows neither dies out (denormal numbers are slow) nor overflows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import elsewhere
from pipeline.artifacts.onnx_file import Deployed, contract_for, write
from pipeline.data.batches import plain_batches
from pipeline.data.catalogue import OTHER
from pipeline.data.decoded import TRAIN, Decoded, Facts
from pipeline.models.catalogue import build, macs
from pipeline.models.cifar import NETWORKS
from pipeline.models.tapped_model import Model
from pipeline.pruning.channels import cuts
from pipeline.quantization.grid import convert
from pipeline.quantization.ptq import calibrated
from targets.errors import first_line
from targets.image_folder import Decoding
from targets.measuring.candidate import Candidate
from targets.runner.backends import Precision, backend
from targets.spec.contract import Contract
from targets.spec.profile import Profile

SHARE, IMAGES, SEED = 0.5, 64, 0
Feeds = list[dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """A network with random weights, and the seeded random images that all tools calibrate on."""

    name: str
    model: Model
    data: Decoded
    contract: Contract

    def feeds(self) -> Feeds:
        """The images as an ONNX file of ours takes them, one by one."""
        images = np.asarray(self.data.images)
        return [{self.contract.input: self.contract.prepare(images[i : i + 1])} for i in range(len(images))]


@dataclass(frozen=True)
class Made:
    """The contenders of one network for one profile, and what could not be made, with the reason."""

    candidates: list[Candidate]
    missing: dict[str, str]
    macs: float  # share of the multiply-adds that the pruned ones have left


def subject(name: str) -> Subject:
    """A network of the catalogue: ours at 32 px and 10 classes, others at 224 px and 1000."""
    size, classes = (32, 10) if name in NETWORKS else (224, 1000)
    torch.manual_seed(SEED)
    network = build(name, None, classes, {}, "--network").network
    generator = np.random.default_rng(SEED)
    # Noise over a shade of its own, so that images differ as wholes too.
    shades = generator.integers(40, 216, (IMAGES, 1, 1, 3))
    noisy = shades + generator.normal(0, 40, (IMAGES, size, size, 3))
    facts = Facts(tuple(map(str, range(classes))), Decoding((size, size)), False, OTHER.mean, OTHER.std)
    images = noisy.clip(0, 255).astype(np.uint8)
    data = Decoded(images, np.zeros(IMAGES, np.int64), np.full(IMAGES, TRAIN, np.int8), facts)
    model = Model(network, facts.mean, facts.std, ())
    settle_norms(model, data)
    return Subject(name, model.eval(), data, contract_for("nchw-float32", facts))


@torch.no_grad()
def settle_norms(model: nn.Module, data: Decoded) -> None:
    """Give the batch-norms the images' own statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None  # the plain mean over all batches
    for batch in plain_batches(data, data.part(TRAIN), 16):
        model(batch.images)


def make(one: Subject, profile: Profile, folder: Path) -> Made:
    """All files of one network for one profile."""
    folder.mkdir(parents=True, exist_ok=True)
    pruned, left = halved(one, profile.channel_multiple)
    native = "native" in backend(profile.backend).precisions
    candidates = []
    for prefix, model in (("", one.model), ("pruned-", pruned)):
        plain, int8 = (folder / f"{prefix}{kind}.onnx" for kind in ("float", "int8"))
        write(Deployed(model, one.contract.layout), one.contract, profile.opset, plain)
        write(Deployed(on_grid(one, model), one.contract.layout), one.contract, profile.opset, int8)
        kinds: list[tuple[str, Path, Precision]] = [("float", plain, "float32"), ("int8", int8, "int8")]
        if native:
            kinds.insert(1, ("native", plain, "native"))
        candidates += [Candidate(f"{prefix}{kind}", path, form) for kind, path, form in kinds]
    missing = {}
    for name, tool in OTHERS.items():
        path = folder / f"{name}.onnx"
        try:
            tool(folder / "float.onnx", one.feeds(), path)
        except Exception as error:  # whatever another's tool raises is its result here
            missing[name] = f"{type(error).__name__}: {first_line(error)}"
            continue
        # As the runtime takes a user's file: nothing rewritten, no float precision asked for.
        candidates.append(Candidate(name, path, "native"))
    return Made(candidates, missing, left)


def halved(one: Subject, multiple: int) -> tuple[Model, float]:
    """A copy with half of the multiply-adds, as near as the channels' multiple lets it; the share reached."""
    model = copy.deepcopy(one.model)
    left = 1.0
    for left in cuts(model, one.data.facts.shape, "magnitude", multiple, None):
        if left <= SHARE:
            break
    grey = torch.full((1, *one.data.facts.shape), 0.5)
    settle_norms(model, one.data)
    return model.eval(), macs(model, grey) / macs(one.model, grey)


def on_grid(one: Subject, model: Model) -> nn.Module:
    """The line's int8 by calibration."""
    return convert(calibrated(model, one.data, IMAGES))


def reader(feeds: Feeds) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[dict[str, Any]] = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    return Reader()


def static_defaults(plain: Path, feeds: Feeds, out: Path) -> None:
    """``quantize_static(model, out, reader)`` and not a word more."""
    from onnxruntime.quantization import quantize_static

    quantize_static(plain, out, reader(feeds))


def static_tuned(plain: Path, feeds: Feeds, out: Path) -> None:
    """The best we know of it on x86: unsigned activations, signed weights by channel."""
    from onnxruntime.quantization import QuantType, quantize_static

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(plain, out, reader(feeds), per_channel=True, **kinds)


NNCF = {"nncf": "3.4.0", "onnx": "1.23.2", "onnxruntime": "1.31.1"}
NNCF_SCRIPT = """
import sys, numpy, onnx, nncf
plain, feeds, name, out = sys.argv[1:]
images = [{name: image[None]} for image in numpy.load(feeds)]
onnx.save(nncf.quantize(onnx.load(plain), nncf.Dataset(images)), out)
"""


def nncf_defaults(plain: Path, feeds: Feeds, out: Path) -> None:
    """``nncf.quantize(model, Dataset(feeds))`` and not a word more."""
    (name,) = feeds[0]
    images = out.with_suffix(".npy")
    np.save(images, np.concatenate([feed[name] for feed in feeds]))
    elsewhere.run(NNCF, NNCF_SCRIPT, plain, images, name, out)


OTHERS: Mapping[str, Callable[[Path, Feeds, Path], None]] = {
    "ort-static": static_defaults,
    "ort-static-u8": static_tuned,
    "nncf": nncf_defaults,
}


def static_settings() -> str:
    """What quantize_static takes when it is told nothing, read from its signature."""
    from inspect import signature

    from onnxruntime.quantization import quantize_static

    found = signature(quantize_static).parameters
    names = ("quant_format", "per_channel", "reduce_range", "activation_type", "weight_type")
    return ", ".join(f"{name}={found[name].default}" for name in (*names, "calibrate_method"))
