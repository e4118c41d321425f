"""The runner alone in a folder, as on a device: its jobs, its answers, and what it may lean on."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from targets.devices.base import RUNNER
from targets.runner.backends import BACKENDS, backend
from targets.runner.images import Images

FILES = sorted(RUNNER.rglob("*.py"))
RUNTIMES = {"onnxruntime", "openvino", "tensorrt", "cuda", "ai_edge_litert"}
OURS = {"channels": "rgb", "range": "0..1"}
LAYOUTS = ("nchw-float32", "nhwc-uint8")
Network = Callable[[str], Path]


def feed(layout: str, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> dict[str, Any]:
    return {"layout": layout, "input": "images", "output": "logits", "mean": mean, "std": std, **OURS}


def options(batch: int) -> dict[str, Any]:
    return {"threads": 1, "batch": batch, "precision": "float32"}


def direct(model: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    """ONNX Runtime without any of its rewrites, on the whole set at once."""
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), plain, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": images})[0])


def prepared(images: NDArray[np.uint8], layout: str) -> NDArray[Any]:
    if layout == "nhwc-uint8":
        return images
    return np.stack([image.transpose(2, 0, 1) / np.float32(255) for image in images]).astype(np.float32)


class Board:
    """A folder with the runner, images and models in it, and nothing else of Retort within reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(RUNNER, folder / "runner", ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True, timeout=60)

    def do(self, what: str, environment: dict[str, str] | None = None, /, **more: Any) -> dict[str, Any]:
        job = {"do": what, "backend": "onnxruntime", "options": options(1), **more}
        (self.folder / "job.json").write_text(json.dumps({**job, "result": "result.json"}))
        done = self.start(["-m", "runner", "job.json"], **(environment or {}))
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return result


@pytest.fixture
def board(tmp_path: Path, small_images: NDArray[np.uint8]) -> Board:
    folder = tmp_path / "board"
    folder.mkdir()
    np.save(folder / "images.npy", small_images)
    return Board(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_built_engine_answers_as_onnx_runtime_does(
    board: Board, layout: str, small_network: Network, small_images: NDArray[np.uint8]
) -> None:
    """Seven images: no batch of 3 divides them, and one of 16 is never full."""
    model = small_network(layout)
    shutil.copy(model, board.folder / "model.onnx")
    facts = board.do("build", model="model.onnx", engine="model.engine")["facts"]
    assert facts["int8_operators"] == 0 and len(facts["float_operators"]) == 3
    expected = direct(model, prepared(small_images, layout))
    for batch in (1, 3, 16):
        asked = {"engine": "model.engine", "images": "images.npy", "answers": "answers.npy"}
        result = board.do("answer", options=options(batch), feed=feed(layout), **asked)
        found = np.load(board.folder / "answers.npy")
        assert result["images"] == 7 and (result["memory_bytes"] or 1) > 0
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)
        (board.folder / "answers.npy").unlink()


def test_time_gives_equal_blocks_of_each_engine(board: Board, small_network: Network) -> None:
    for name in ("one", "two"):
        shutil.copy(small_network(LAYOUTS[0]), board.folder / f"{name}.engine")
    engines = {name: {"engine": f"{name}.engine", "options": options(2)} for name in ("one", "two")}
    more = {"images": "images.npy", "feed": feed(LAYOUTS[0]), "seconds": 0.0, "seed": 4}
    result = board.do("time", engines=engines, **more)
    assert {name: len(blocks) for name, blocks in result["blocks"].items()} == {"one": 3, "two": 3}
    for blocks in result["blocks"].values():
        assert len({len(block) for block in blocks}) == 1
        assert all(second > 0 for block in blocks for second in block)


def test_look_says_where_it_ran(board: Board) -> None:
    result = board.do("look")
    assert result["before"].keys() == result["after"].keys()
    assert result["after"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result["after"]["cores"] >= 1
    assert isinstance(result["after"]["cpu"]["features"], list)
    assert "missing" not in result
    assert list(board.folder.glob("*.part")) == []


def absent(folder: Path, module: str) -> dict[str, str]:
    """An environment in which a module cannot be imported."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(f'raise ImportError("no {module} for this board")\n')
    return {"PYTHONPATH": str(folder)}


def test_a_missing_runtime_is_reported_and_nothing_is_done(board: Board, tmp_path: Path) -> None:
    environment = absent(tmp_path / "absent", "onnxruntime")
    result = board.do("answer", environment, engine="none", images="none", answers="answers.npy")
    assert "no onnxruntime for this board" in result["missing"]
    assert "pip install onnxruntime" in result["missing"]
    assert not (board.folder / "answers.npy").exists()


def test_onnx_runtime_is_all_that_a_build_needs(board: Board, tmp_path: Path, small_network: Network) -> None:
    """The runner promises to run with numpy and one runtime: a board has no onnx package."""
    shutil.copy(small_network(LAYOUTS[0]), board.folder / "model.onnx")
    board.do("build", absent(tmp_path / "absent", "onnx"), model="model.onnx", engine="model.engine")
    assert (board.folder / "model.engine").exists()


def test_the_runner_reaches_nothing_else_of_retort(board: Board) -> None:
    code = "import runner.__main__, runner.backends.ort, sys; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = board.start(["-c", code])
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"runner", "numpy"} <= loaded
    assert loaded & {"targets", "pipeline", "torch", "onnx", *RUNTIMES} == set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_read_in_batches_as_the_contract_wants_them(
    layout: str, tmp_path: Path, small_images: NDArray[np.uint8]
) -> None:
    np.save(tmp_path / "images.npy", small_images)
    images, expected = Images(str(tmp_path / "images.npy"), feed(layout)), prepared(small_images, layout)
    batches = list(images.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 3], "a file may take full batches alone"
    np.testing.assert_array_equal(np.concatenate(batches), expected[[*range(7), 0, 1]])
    np.testing.assert_array_equal(images.batch(0, 16), expected[[*range(7), *range(7), 0, 1]])


def test_images_are_normalised_for_files_that_do_not_do_it(
    tmp_path: Path, small_images: NDArray[np.uint8]
) -> None:
    np.save(tmp_path / "images.npy", small_images)
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    (found,) = Images(str(tmp_path / "images.npy"), feed(LAYOUTS[0], mean, std)).batches(7)
    for plane in range(3):
        expected = (small_images[..., plane] / 255 - mean[plane]) / std[plane]
        np.testing.assert_allclose(found[:, plane], expected, atol=1e-5)


def test_no_images_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"images\.npy: no images"):
        Images(str(tmp_path / "images.npy"), feed(LAYOUTS[0]))


def test_images_that_are_not_bytes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="float32, not uint8"):
        Images(str(tmp_path / "images.npy"), feed(LAYOUTS[0]))


@pytest.mark.parametrize("name", [name for name in BACKENDS if "onnx" in backend(name).files])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_backend_conforms(
    name: str, layout: str, tmp_path: Path, small_network: Network, small_images: NDArray[np.uint8]
) -> None:
    """What each runtime's functions must do, wherever it is installed."""
    runtime = backend(name)
    assert runtime.name == name
    why = runtime.missing()
    if why is not None:
        pytest.skip(why)
    model, engine = small_network(layout), str(tmp_path / "engine")
    json.dumps(runtime.build(str(model), options(4), engine))
    session = runtime.load(engine, options(4))
    inputs = prepared(small_images, layout)
    first = session({"images": inputs[:4]})["logits"]
    kept = first.copy()
    second = session({"images": inputs[3:]})["logits"]
    np.testing.assert_array_equal(first, kept)  # fresh arrays each time
    np.testing.assert_allclose(first, direct(model, inputs)[:4], atol=1e-4)
    np.testing.assert_allclose(second, direct(model, inputs)[3:], atol=1e-4)


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Each module that is leaned on from outside the package, and whether inside a function.

    What is imported under ``except ImportError`` may be absent, and under ``TYPE_CHECKING`` is never imported:
    nothing leans on it.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Try) and any("ImportError" in ast.unparse(one) for one in node.handlers):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], inside
        yield from imports(node, inside or isinstance(node, (ast.FunctionDef, ast.Lambda)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_the_runner_leans_on_the_standard_library_numpy_and_late_runtimes(path: Path) -> None:
    allowed = {"numpy", *sys.stdlib_module_names}
    for module, inside in imports(ast.parse(path.read_text())):
        assert module in (allowed | RUNTIMES if inside else allowed), f"{path.name} imports {module}"


# What came after Python 3.8 and needs no new grammar.
NEWER = {
    "removeprefix",
    "removesuffix",
    "cache",
    "file_digest",
    "is_relative_to",
    "pairwise",
    "batched",
    "lcm",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_the_runner_runs_on_python_3_8(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    hints = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    written = {id(part) for hint in hints if hint is not None for part in ast.walk(hint)}
    assert not written or "from __future__ import annotations" in source, "hints of today would be evaluated"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEWER
        if isinstance(node, ast.Call):
            assert "strict" not in {keyword.arg for keyword in node.keywords}
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and id(node) not in written:
            assert node.value.id not in {"dict", "list", "tuple", "set", "type"}
