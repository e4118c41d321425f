"""What is changed: the smallest recipe, its store, files, bundle, lock and device results that are all right.

Made once a run by the commands themselves, the stages and the runner in this process: one import of torch.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.fuzz.replay import Recording, device, stages_by
from pipeline.cli import main as cli
from pipeline.engine.job import Job, Resources
from pipeline.engine.process import Work
from targets.spec.contract import Contract, write_contract

SIDE, IMAGES, CLASSES = 8, 6, ("kind0", "kind1", "kind2")
NETWORK = """\
from torch import nn


def build(classes, width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
"""
RECIPE = """\
version = 1
data = { folder = "photos", size = 8, test = 0.4 }
student = { network = "net:build", arguments = { width = 8 } }
distill = { epochs = 1, batch = 4, lr = 0.01 }
quantize = { method = "ptq", calibration = 8 }
budgets = { drop_vs_float = 100 }
"""
RICH = """\
version = 1
data = { folder = "photos", size = [8, 8], test = 0.4, resize = 9, channels = "rgb" }
teacher = { network = "net:build", arguments = { width = 24 }, epochs = 2, lr = 0.02, mixup = 0.2 }
teachers = [{ network = "resnet18", epochs = 2, optimizer = "adamw", crop_scale = [0.5, 1.0] }]
student = { network = "net:build", arguments = { width = 8 } }
distill = { epochs = 2, scheme = "offline", loss = [{ name = "kd", weight = 0.5 }, { name = "srkd" }] }
prune = { macs = 0.5, epochs = 1 }
quantize = { epochs = 1, method = "qat", loss = [{ name = "dkd" }] }
budgets = { drop_vs_teacher = 5, p99_ms = 8, size_mb = 1 }
"""
PROFILE = """\
about = "quick"
backend = "onnxruntime"
seconds = 0.05
threads = 1
batch = 1
patience = 30
budgets = { size_mb = 10 }
"""
GATE = ("gate", "model.onnx", "--images", "photos", "--target", "quick.toml", "--baseline", "old.onnx")


def make(folder: Path) -> None:
    """All of it, in a new folder."""
    folder.mkdir(parents=True)
    for name, text in {
        "net.py": NETWORK,
        "recipe.toml": RECIPE,
        "rich.toml": RICH,
        "quick.toml": PROFILE,
    }.items():
        (folder / name).write_text(text)
    photos(folder / "photos")
    for name, seed in (("model.onnx", 1), ("old.onnx", 2)):
        onnx.save(network(seed), folder / name)
    bare = network(1)
    del bare.metadata_props[:]
    onnx.save(bare, folder / "bare.onnx")
    for name in ("given", "shipped", "accepted"):
        (folder / "results" / name).mkdir(parents=True)
    with at(folder):
        with device(Recording, folder / "results" / "given"):
            done(*GATE, "--budget", "p50_vs_reference=1000")
        with stages_by(here), device(Recording, folder / "results" / "shipped"):
            done("deploy", "recipe.toml", "--target", "quick.toml", "--store", "store")
            done("bundle", "recipe.toml", "bundle", "--target", "quick.toml", "--store", "store")
        with device(Recording, folder / "results" / "accepted"):
            done("lock", "model.onnx", "--images", "photos", "--target", "quick.toml")


def photos(folder: Path) -> None:
    """Some images a class: a bright square on noise."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(IMAGES):
            image = random.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
            image[2 * label : 2 * label + 4, 2:6, label] = 250
            Image.fromarray(image).save(folder / name / f"{number}.png")


def network(seed: int) -> onnx.ModelProto:
    """A convolution and a product, with its contract."""
    random = np.random.default_rng(seed)
    tensor = lambda name, *shape: numpy_helper.from_array(
        random.normal(0, 0.4, shape).astype(np.float32), name
    )
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [
            tensor("w1", 8, 3, 3, 3),
            tensor("b1", 8),
            tensor("w2", len(CLASSES), 8),
            tensor("b2", len(CLASSES)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    write_contract(model, Contract("nchw-float32", (SIDE, SIDE), CLASSES))
    return model


def here(job: Work, resources: Resources) -> None:
    """A stage in this process."""
    given = Job(dict(job.settings), dict(job.parents), dict(job.inputs), job.out, job.scratch, resources)
    importlib.import_module(f"pipeline.stages.{job.stage}").run(given)


@contextmanager
def at(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def done(*words: str) -> None:
    """A command that must succeed, or the corpus is none."""
    said = StringIO()
    with redirect_stdout(said):
        status: Any = cli_status(*words)
    if status != 0:
        raise RuntimeError(f"retort {' '.join(words)}: status {status}\n{said.getvalue()}")


def cli_status(*words: str) -> Any:
    before, sys.argv = sys.argv, ["retort", *words]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code or 0
    finally:
        sys.argv = before
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a command's end ignores them
            signal.signal(number, signal.SIG_DFL)
    return 0
