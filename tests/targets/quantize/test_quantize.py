"""retort quantize on small files: its verdict, the files that it writes, and its wrong inputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from targets.errors import PASSED, Refusal
from targets.limits import Budgets
from targets.onnx_file import load
from targets.quantize.images import spread
from targets.quantize.quantize import Order, quantize
from targets.spec.contract import read_contract
from targets.spec.profile import Profile

QUICK = Profile(name="quick", about="", backend="onnxruntime", seconds=1.0)
LOOSE = Budgets({"drop_vs_float": 60.0})


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Forty images in class folders, each class a colour, so that a network may tell them apart."""
    random = np.random.default_rng(1)
    for label in range(5):
        (tmp_path / "many" / f"kind{label}").mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 255, (10, 9, 3)) // 2 + 25 * label
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "many" / f"kind{label}" / f"{number}.png"
            )
    return tmp_path / "many"


@pytest.mark.parametrize("layout", ["nchw-float32", "nhwc-uint8"])
def test_a_file_is_quantized_measured_and_judged(
    layout: str, network: Callable[[str], Path], many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = quantize(Order(network(layout), many, [QUICK], calibration=12), LOOSE, out)
    (target,) = report["targets"]
    assert report["status"] == PASSED and set(target["candidates"]) == {"float", "int8"}
    assert report["test_images"] == 28
    int8 = target["candidates"]["int8"]["facts"]
    assert int8["operators"]["QLinearConv"] == 2 and int8["float_operators"] == [] == list(int8["left_float"])
    assert (out / "report.html").exists()
    shipped = load(out / "quick" / "int8.onnx")
    assert read_contract(shipped) == read_contract(load(network(layout)))


def test_images_without_classes_are_judged_by_the_float_file_s_answers(
    network: Callable[[str], Path], many: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, image in enumerate(sorted(many.rglob("*.png"))):
        shutil.copy(image, flat / f"{number:02}.png")
    report = quantize(Order(network("nchw-float32"), flat, [QUICK], calibration=12), LOOSE, tmp_path / "out")
    candidates = report["targets"][0]["candidates"]
    assert candidates["float"]["accuracy"]["value"] == 1.0 >= candidates["int8"]["accuracy"]["value"] > 0.5


def test_a_layer_that_is_kept_float_runs_so(
    network: Callable[[str], Path], many: Path, tmp_path: Path
) -> None:
    model = onnx.load(path := network("nchw-float32"))
    for number, node in enumerate(model.graph.node):
        node.name = f"layer{number}.{node.op_type}"
    onnx.save(model, path)
    order = Order(path, many, [QUICK], calibration=12, keep_float=["layer0.*"])
    report = quantize(order, LOOSE, tmp_path / "out")
    facts = report["targets"][0]["candidates"]["int8"]["facts"]
    assert facts["operators"]["QLinearConv"] == 1
    assert facts["left_float"] == {"layer0.Conv": "its weight is not on the grid"}


def test_no_image_is_asked_that_set_the_grid() -> None:
    for count, chosen in ((40, 12), (9, 4), (1000, 300), (16, 8)):
        found = spread(count, chosen)
        assert len(found) == chosen and found[0] == 0 and found[-1] == count - 1
        assert np.all(np.diff(found) >= count // chosen - 1) and len(set(found)) == chosen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda order, folder: Order(order.model, folder / "none", [QUICK]), "none is no folder"),
        (lambda order, folder: Order(order.model, few(order.images), [QUICK]), "10 images; at least 16"),
        (lambda order, folder: Order(order.model, order.images, [QUICK], keep_float=["*"]), "no convolution"),
        (
            lambda order, folder: Order(order.model, order.images, [QUICK], keep_float=["x"]),
            "no node has such",
        ),
    ],
    ids=["no folder", "too few", "all float", "no such node"],
)
def test_what_cannot_be_quantized_is_refused(
    change: Callable[[Order, Path], Order],
    said: str,
    network: Callable[[str], Path],
    many: Path,
    tmp_path: Path,
) -> None:
    order = change(Order(network("nchw-float32"), many, [QUICK]), tmp_path)
    with pytest.raises(Refusal, match=said):
        quantize(order, LOOSE, tmp_path / "out")


def few(images: Path) -> Path:
    for path in images.rglob("[2-7].png"):
        path.unlink()
    return images
