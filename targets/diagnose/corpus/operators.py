"""Float operators that a runtime computes otherwise than ONNX defines them, or than the framework they came from."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx

from targets.diagnose.corpus.fault import Fault, attribute, f32, graph

JUDGED = (
    "retort gate and quantize judge by the answers of the runtime itself; retort explain marks such nodes"
)
TIE = "Resize with nearest, half_pixel and round_prefer_ceil takes the lower pixel at a tie"
ROW = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 1, 1, 20)
SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
NAN = float("nan")


def ceil_pool(node: onnx.NodeProto, opset: int) -> bool:
    counted = attribute(node, "count_include_pad", 0) and node.op_type == "AveragePool"
    return bool(counted and attribute(node, "ceil_mode", 0))


def nearest_tie(node: onnx.NodeProto, opset: int) -> bool:
    wanted = {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    half = attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
    said = all(attribute(node, name, "") == value for name, value in wanted.items())
    return node.op_type == "Resize" and half and said


def transposed_same(node: onnx.NodeProto, opset: int) -> bool:
    return node.op_type == "ConvTranspose" and str(attribute(node, "auto_pad", "NOTSET")).startswith("SAME")


def antialiased(node: onnx.NodeProto, opset: int) -> bool:
    return node.op_type == "Resize" and bool(attribute(node, "antialias", 0))


def average(window: slice, row: np.ndarray, pad: int) -> float:
    """Of a window of a padded row, without the cells behind its end."""
    padded = np.pad(row, pad)
    return float(padded[window].mean())


def pooled_row(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Windows of 7 every 3 over 9 numbers between 3 zeros; the last one has 6 cells."""
    row = arrays["x"].reshape(-1)
    return np.array([average(slice(3 * i, 3 * i + 7), row, 3) for i in range(4)]).reshape(1, 1, 4)


def same_lower(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Windows of 5 rows over 6 between 2 rows of zeros."""
    return np.stack([np.pad(arrays["x"][0, 0], ((2, 2), (0, 0)))[i : i + 5].mean(0) for i in range(6)])[
        None, None
    ]


def transposed(arrays: dict[str, np.ndarray], crop: slice) -> np.ndarray:
    """A transposed convolution of ones in 3 x 3 with stride 2, cut to twice the input."""
    x = arrays["x"][0, 0]
    out = np.zeros((2 * len(x) + 1, 2 * len(x) + 1))
    for i in range(len(x)):
        for j in range(len(x)):
            out[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += x[i, j] * np.arange(1, 10).reshape(3, 3)
    return out[crop, crop][None, None]


def nearest_ceil(given: int, wanted: int) -> list[int]:
    """The pixels that half_pixel and round_prefer_ceil take, in whole fractions."""
    places = [Fraction(2 * i + 1, 2) * Fraction(given, wanted) - Fraction(1, 2) for i in range(wanted)]
    return [math.floor(place + Fraction(1, 2)) for place in places]


KERNEL = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
SMALL = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
POOL = """AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1,
    count_include_pad = 1>"""


def doubled(pad: str, wrong: str, source: str, crop: slice) -> Fault:
    """A transposed convolution to twice the size; what is beyond it is cut off on one side."""
    model = graph(
        "(float[1,1,3,3] x) => (float[1,1,6,6] y) { "
        f'y = ConvTranspose <auto_pad = "SAME_{pad}", strides = [2, 2]> (x, w) }}',
        w=KERNEL,
    )
    expected = lambda arrays: transposed(arrays, crop)
    return Fault(wrong, source, JUDGED, model, {"x": SMALL}, expected, found=transposed_same)


OPERATORS = {
    "average-pool-behind-the-end": Fault(
        "AveragePool with ceil_mode divides by cells that are behind the end",
        "microsoft/onnxruntime#16203",
        JUDGED,
        graph(
            """(float[1,1,9] x) => (float[1,1,4] y) {
            y = AveragePool <kernel_shape = [7], strides = [3], pads = [3, 3], ceil_mode = 1,
                             count_include_pad = 1> (x) }""",
            18,
        ),
        {
            "x": f32(2.0903, 4.6493, 1.6320, -3.2051, 4.6975, 4.7296, 3.3653, -1.5815, -2.3832).reshape(
                1, 1, 9
            )
        },
        pooled_row,
        found=ceil_pool,
    ),
    "average-pool-of-torch": Fault(
        "avg_pool2d(ceil_mode, count_include_pad), exported, answers less at the right and lower edge",
        "pytorch/pytorch#183528",
        JUDGED,
        graph(f"(float[1,1,4,4] x) => (float[1,1,3,3] y) {{ y = {POOL} (x) }}", 18),
        {"x": SQUARE},
        lambda arrays: f32(14 / 9, 10 / 3, 2, 19 / 3, 11, 6, 4.5, 7.5, 4).reshape(1, 1, 3, 3),
        found=ceil_pool,
    ),
    "average-pool-without-end": Fault(
        "AveragePool of opset 19 leaves out the zeros behind the end",
        "microsoft/onnxruntime#24681",
        JUDGED,
        graph(
            """(float[1,1,6,2] x) => (float[1,1,6,2] y) {
            y = AveragePool <kernel_shape = [5, 1], auto_pad = "SAME_LOWER", count_include_pad = 1> (x) }""",
            19,
        ),
        {"x": np.arange(12, dtype=np.float32).reshape(1, 1, 6, 2)},
        same_lower,
        found=lambda node, opset: (
            opset >= 19
            and node.op_type == "AveragePool"
            and bool(attribute(node, "count_include_pad", 0))
            and str(attribute(node, "auto_pad", "NOTSET")).startswith("SAME")
        ),
    ),
    "average-pool-of-nothing": Fault(
        "AveragePool with ceil_mode gives no number where a window holds no value",
        "microsoft/onnxruntime#16351",
        JUDGED,
        graph(
            """(float[1,1,4] x) => (float[1,1,n] y) {
            y = AveragePool <kernel_shape = [1], strides = [2], ceil_mode = 1> (x) }"""
        ),
        {"x": f32(1, 2, 3, 4).reshape(1, 1, 4)},
        lambda arrays: f32(1, 3).reshape(1, 1, 2),
    ),
    "max-pool-of-nothing": Fault(
        "MaxPool with ceil_mode has a row more than the framework, of the least number",
        "onnx/onnx#4958",
        JUDGED,
        graph(
            """(float[1,1,4] x) => (float[1,1,n] y) {
            y = MaxPool <kernel_shape = [1], strides = [2], ceil_mode = 1> (x) }"""
        ),
        {"x": f32(1, 2, 3, 4).reshape(1, 1, 4)},
        lambda arrays: f32(1, 3).reshape(1, 1, 2),
    ),
    "resize-tie": Fault(
        TIE,
        "microsoft/onnxruntime#28291",
        JUDGED,
        graph(
            """(float[1,1,1,20] x) => (float[1,1,1,6] y) {
            y = Resize <mode = "nearest", coordinate_transformation_mode = "half_pixel",
                        nearest_mode = "round_prefer_ceil"> (x, , , sizes) }""",
            13,
            sizes=np.array([1, 1, 1, 6]),
        ),
        {"x": ROW},
        lambda arrays: ROW[..., nearest_ceil(20, 6)],
        found=nearest_tie,
    ),
    "resize-tie-openvino": Fault(
        TIE,
        "openvinotoolkit/openvino#36023",
        JUDGED,
        graph(
            """(float[1,1,20,1] x) => (float[1,1,6,1] y) {
            y = Resize <mode = "nearest", coordinate_transformation_mode = "half_pixel",
                        nearest_mode = "round_prefer_ceil"> (x, , , sizes) }""",
            13,
            sizes=np.array([1, 1, 6, 1]),
        ),
        {"x": ROW.reshape(1, 1, 20, 1)},
        lambda arrays: arrays["x"][:, :, nearest_ceil(20, 6)],
        runtimes=("openvino",),
    ),
    "resize-antialias-of-torch": Fault(
        "interpolate(antialias) is exported without exclude_outside, its edges differ; OpenVINO ignores it",
        "pytorch/pytorch#183546",
        JUDGED,
        graph(
            """(float[1,1,1,4] x) => (float[1,1,1,2] y) {
            y = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel",
                        antialias = 1> (x, , , sizes) }""",
            18,
            sizes=np.array([1, 1, 1, 2]),
        ),
        {"x": f32(0, 10, 20, 100).reshape(1, 1, 1, 4)},
        lambda arrays: f32((0 * 3 + 10 * 3 + 20) / 7, (10 + 20 * 3 + 100 * 3) / 7).reshape(1, 1, 1, 2),
        apart="it takes the pixels outside as the edge's; torch leaves them out",
        found=antialiased,
    ),
    "transposed-same-shape": Fault(
        "ConvTranspose with auto_pad gives a larger map than ONNX says",
        "microsoft/onnxruntime#4086",
        JUDGED,
        graph(
            "(float[1,1,2,2] x) => (float[1,1,2,2] y) { "
            'y = ConvTranspose <auto_pad = "SAME_UPPER", strides = [1, 1]> (x, w) }',
            w=np.arange(2, 11, dtype=np.float32).reshape(1, 1, 3, 3),
        ),
        {"x": np.arange(2, 6, dtype=np.float32).reshape(1, 1, 2, 2)},
        found=transposed_same,
    ),
    "transposed-same-upper": doubled(
        "UPPER",
        "ConvTranspose cuts an odd border at the wrong side for SAME_UPPER",
        "microsoft/onnxruntime#9370",
        slice(0, 6),
    ),
    "transposed-same-lower": doubled(
        "LOWER",
        "ConvTranspose with auto_pad: OpenVINO's map had another shape",
        "openvinotoolkit/openvino#32608",
        slice(1, 7),
    ),
    "transposed-dilated": Fault(
        "ConvTranspose with strides and dilations gives a smaller map than the formula",
        "microsoft/onnxruntime#2518",
        JUDGED,
        graph(
            "(float[1,1,4,4] x) => (float[1,1,n,m] y) { "
            "y = ConvTranspose <strides = [2, 1], dilations = [3, 1], pads = [1, 0, 1, 0]> (x, w) }",
            w=KERNEL,
        ),
        {"x": SQUARE},
    ),
    "arg-min": Fault(
        "ArgMin of whole numbers answers another place in larger inputs",
        "openvinotoolkit/openvino#13491",
        JUDGED,
        graph("(int32[16] x) => (int64[1] y) { y = ArgMin <axis = 0> (x) }", 13),
        {"x": np.array([0] * 4 + [-1] * 12, np.int32)},
        lambda arrays: np.array([4]),
        0,
    ),
    "loss-with-weights": Fault(
        "SoftmaxCrossEntropyLoss with weights answers otherwise in OpenVINO",
        "openvinotoolkit/openvino#20977",
        "it is no operator of a network that ships",
        graph(
            "(float[3,5] x) => (float y) { y = SoftmaxCrossEntropyLoss(x, t, w) }",
            13,
            t=np.array([0, 1, 1]),
            w=f32(0.1, 0.9, 0.5, 0.3, 0.7),
        ),
        {"x": np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5) ** 2},
    ),
    "min-of-nan": Fault(
        "Min drops a NaN where the other input is one number",
        "microsoft/onnxruntime#21455",
        "answers that are no numbers are never accepted",
        graph("(float[3,1] x) => (float[3,1] y) { y = Min(x, b) }", b=f32(10)),
        {"x": f32(1, NAN, 20).reshape(3, 1)},
        lambda arrays: f32(1, NAN, 10).reshape(3, 1),
    ),
    "reduce-max-of-nan": Fault(
        "ReduceMax forgets a NaN, by how many there are",
        "microsoft/onnxruntime#10514",
        "answers that are no numbers are never accepted",
        graph("(float[4] x) => (float[1] y) { y = ReduceMax(x) }"),
        {"x": f32(NAN, NAN, NAN, 42)},
        lambda arrays: f32(NAN),
    ),
    "clip-of-nan": Fault(
        "Clip replaces a NaN by its lower bound",
        "NVIDIA/TensorRT#4773",
        "answers that are no numbers are never accepted",
        graph("(float[5] x) => (float[5] y) { y = Clip(x, low, high) }", low=f32(-10)[0], high=f32(10)[0]),
        {"x": f32(0.5, -30, 4.5, 11, NAN)},
        lambda arrays: f32(0.5, -10, 4.5, 10, NAN),
    ),
    "relu-of-nan": Fault(
        "Relu makes 0 of a NaN",
        "microsoft/onnxruntime#11010",
        "answers that are no numbers are never accepted",
        graph("(float[4] x) => (float[4] y) { y = Relu(x) }"),
        {"x": f32(NAN, 1, -2, 0)},
        lambda arrays: f32(NAN, 1, 0, 0),
    ),
}
