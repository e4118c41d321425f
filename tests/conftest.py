"""What several tests share: how hypothesis runs here, and a small network with images to ask it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from targets.spec.contract import Contract, Layout, write_contract

# As in the stages' processes, and before torch is there: beside other work libgomp's own waiting costs ten times.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# As there too: what torch compiles must not lie in the folder of one command's run, which goes with the command.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "torchinductor"))
# Several processes of tests share the cores: more threads than cores wait for each other.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
# A shared machine is slow at times: how long an example takes says nothing about the code.
settings.register_profile("retort", deadline=None)
settings.load_profile("retort")

SIDE, CLASSES = 8, 5
# They take minutes: among several processes they come first, so that none is left with one of them at the end.
LONGEST = ("test_line.py", "test_digits.py", "test_distributed.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def small_images() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def small_network(tmp_path: Path) -> Callable[[str], Path]:
    """A random network as an ONNX file (``images`` in, features and ``logits`` out) that takes a layout."""

    def make(layout: str) -> Path:
        path = tmp_path / f"{layout}.onnx"
        onnx.save(convolutions(layout), path)
        return path

    return make


@pytest.fixture
def photos(tmp_path: Path, small_images: NDArray[np.uint8]) -> Path:
    for label in range(5):
        (tmp_path / "photos" / f"kind{label}").mkdir(parents=True)
        for number in range(2):
            image = Image.fromarray(small_images[(label + number) % len(small_images)])
            image.save(tmp_path / "photos" / f"kind{label}" / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def network(small_network: Callable[[str], Path]) -> Callable[[str], Path]:
    """A small network that says what it takes."""

    def make(layout: Layout) -> Path:
        proto = onnx.load(path := small_network(layout))
        write_contract(proto, Contract(layout, (8, 8), tuple(f"kind{label}" for label in range(5))))
        onnx.save(proto, path)
        return path

    return make  # type: ignore[return-value]


def convolutions(layout: str) -> onnx.ModelProto:
    generator = np.random.default_rng(11)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.4, shape).astype(np.float32), name)

    weights = [tensor("w1", 6, 3, 3, 3), tensor("b1", 6), tensor("w2", 8, 6, 3, 3), tensor("b2", 8)]
    weights += [tensor("w3", CLASSES, 8), tensor("b3", CLASSES)]
    shape: list[Any] = ["batch", 3, SIDE, SIDE]
    kind, entry, nodes = TensorProto.FLOAT, "images", []
    if layout == "nhwc-uint8":
        shape, kind, entry = ["batch", SIDE, SIDE, 3], TensorProto.UINT8, "unit"
        weights.append(numpy_helper.from_array(np.array(255, np.float32), "full"))
        nodes = [
            helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "full"], ["unit"]),
        ]
    nodes += [
        helper.make_node("Conv", [entry, "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", kind, shape)],
        [
            helper.make_tensor_value_info("f", TensorProto.FLOAT, ["batch", 8]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
