"""Products of bytes that overflow: on x86 without VNNI in 16 bits, on older Arm cores where both are -128."""

from __future__ import annotations

import numpy as np

from targets.diagnose.corpus.fault import Arrays, Fault, f32, graph

NARROW = (
    "on such a processor what weights multiply keeps to 128 steps (form u8-narrow), so that no pair overflows"
)
SYMMETRIC = "weights and symmetric activations keep to -127 … 127; -128 is never written"
ROW = np.array([[255, 255, 255, 255, 200, 210, 220, 230]], np.uint8)
COLUMNS = np.array([[127, -127, 64]] * 8, np.int8)
MIDDLE = np.uint8(0)
ONE = f32(1)[0]


def products(arrays: Arrays) -> np.ndarray:
    """Whole numbers, in 64 bits."""
    return ROW.astype(np.int64) @ COLUMNS.astype(np.int64)


def dequantized(arrays: Arrays) -> np.ndarray:
    return products(arrays) * 1e-3


def thread_16105(arrays: Arrays) -> np.ndarray:
    """(210·-81 + 198·-80 + 234·127) · 0.01 · 0.01, as the thread's numbers are."""
    return f32([(210 * -81 + 198 * -80 + 234 * 127) * 1e-4])


def signed_worst(arrays: Arrays) -> np.ndarray:
    """32 products of -128 and -128, on scales of 0.01, out of 4 outputs."""
    return np.full((1, 4), 32 * 128 * 128 * 1e-4)


def one_step_conv(arrays: Arrays) -> np.ndarray:
    """27 products of 250 and 100, of 250 and -100."""
    return np.array([27 * 250 * 100, -27 * 250 * 100]).reshape(1, 2, 1, 1) * 1e-4


PAIR = "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z)"
SATURATION = {
    "u8s8-matmulinteger": Fault(
        "products of uint8 and int8 are added in pairs in 16 bits and saturate",
        "microsoft/onnxruntime#14642",
        NARROW,
        graph("(uint8[1,8] x) => (int32[1,3] y) { y = MatMulInteger(x, w, z) }", w=COLUMNS, z=MIDDLE),
        {"x": ROW},
        products,
        0,
    ),
    "u8s8-dynamic": Fault(
        "a dynamically quantized product answers otherwise on a processor without VNNI",
        "microsoft/onnxruntime#5849",
        NARROW,
        graph(
            """(float[1,8] x) => (float[1,3] y) {
            q, s, z = DynamicQuantizeLinear(x)
            i = MatMulInteger(q, w, z)
            f = Cast <to = 1> (i)
            y = Mul(f, s) }""",
            w=COLUMNS,
        ),
        {"x": f32(range(248, 256)).reshape(1, 8)},
        tolerance=0.5,
    ),
    "u8s8-qgemm": Fault(
        "a quantized linear layer whose weights are -127 … -81 beside 127 answers wrongly",
        "microsoft/onnxruntime#16105",
        NARROW,
        graph(
            "(uint8[1,3] x) => (float[1,1] y) { y = com.microsoft.QGemm <transB = 1> (x, s, z, w, s, n, b) }",
            w=np.array([[-81, -80, 127]], np.int8),
            s=f32(0.01)[0],
            z=MIDDLE,
            n=np.int8(0),
            b=np.zeros(1, np.int32),
        ),
        {"x": np.array([[210, 198, 234]], np.uint8)},
        thread_16105,
        runtimes=("onnxruntime",),
        apart="it has no operators of com.microsoft",
    ),
    "u8s8-qdq-matmul": Fault(
        "a linear layer between pairs, in uint8 and int8, saturates in its kernel and not in the reference",
        "microsoft/onnxruntime#6004",
        NARROW,
        graph(
            f"""(float[1,8] x) => (float[1,3] y) {{ {PAIR}
            v = DequantizeLinear(w, s, n)
            m = MatMul(f, v)
            p = QuantizeLinear(m, t, o)
            y = DequantizeLinear(p, t, o) }}""",
            w=COLUMNS,
            s=f32(1)[0],
            z=MIDDLE,
            n=np.int8(0),
            t=f32(2000)[0],
            o=np.uint8(128),
        ),
        {"x": ROW.astype(np.float32)},
        tolerance=0.5,
    ),
    "u8s8-conv": Fault(
        "a convolution in int8 overflows where its input is large",
        "microsoft/onnxruntime#9365",
        NARROW,
        graph(
            """(uint8[1,3,3,3] x) => (float[1,2,1,1] y) {
            f = DequantizeLinear(x, s, z)
            v = DequantizeLinear <axis = 0> (w, r, n)
            c = Conv(f, v)
            p = QuantizeLinear(c, t, o)
            y = DequantizeLinear(p, t, o) }""",
            w=np.stack([np.full((3, 3, 3), 100, np.int8), np.full((3, 3, 3), -100, np.int8)]),
            s=f32(0.01)[0],
            z=MIDDLE,
            r=f32(0.01, 0.01),
            n=np.zeros(2, np.int8),
            t=f32(0.54)[0],
            o=np.uint8(128),
        ),
        {"x": np.full((1, 3, 3, 3), 250, np.uint8)},
        one_step_conv,
        0.6,
    ),
    "u8s8-openvino": Fault(
        "oneDNN's kernels multiply 7 by 8 bits without VNNI: what is quantized in 8 bits saturates",
        "pytorch/pytorch#103646",
        NARROW,
        graph(
            f"""(float[1,8,2,2] x) => (float[1,3,2,2] y) {{ {PAIR}
            v = DequantizeLinear(w, s, n)
            y = Conv(f, v) }}""",
            w=COLUMNS.T.reshape(3, 8, 1, 1),
            s=f32(1)[0],
            z=MIDDLE,
            n=np.int8(0),
        ),
        {"x": np.broadcast_to(ROW.astype(np.float32).reshape(1, 8, 1, 1), (1, 8, 2, 2)).copy()},
        tolerance=0.5,
        runtimes=("openvino",),
    ),
    "u8u8-matmul": Fault(
        "a product of two uint8 tensors answers otherwise on one processor than on another",
        "microsoft/onnxruntime#19109",
        "weights are int8, never uint8",
        graph(
            "(uint8[1,8] x) => (int32[1,3] y) { y = MatMulInteger(x, w, z, m) }",
            w=(COLUMNS.astype(np.int16) + 128).astype(np.uint8),
            z=MIDDLE,
            m=np.uint8(128),
        ),
        {"x": ROW},
        products,
        0,
    ),
    "weights-below-zero-point": Fault(
        "a weight less its zero point needs more than 8 bits",
        "microsoft/onnxruntime#7524",
        "weights have zero point 0",
        graph(
            "(uint8[3,3] x) => (int32[3,3] y) { y = MatMulInteger(x, w, z, m) }",
            w=np.array([[25, 36, 125], [42, -123, 76], [-81, -86, 35]], np.int8),
            z=np.uint8(42),
            m=np.int8(-26),
        ),
        {"x": np.array([[238, 115, 94], [245, 111, 102], [158, 225, 48]], np.uint8)},
        lambda arrays: (
            (arrays["x"].astype(int) - 42) @ (np.array([[25, 36, 125], [42, -123, 76], [-81, -86, 35]]) + 26)
        ),
        0,
    ),
    "s8s8-least-numbers": Fault(
        "on Arm without dot product two products of -128 and -128 overflow 16 bits",
        "microsoft/onnxruntime#31573",
        SYMMETRIC,
        graph(
            """(float[1,32] x) => (float[1,4] y) {
            q = QuantizeLinear(x, s, n)
            f = DequantizeLinear(q, s, n)
            v = DequantizeLinear(w, s, n)
            m = MatMul(f, v)
            p = QuantizeLinear(m, t, n)
            y = DequantizeLinear(p, t, n) }""",
            w=np.full((32, 4), -128, np.int8),
            s=f32(0.01)[0],
            n=np.int8(0),
            t=f32(0.5)[0],
        ),
        {"x": np.full((1, 32), -1.28, np.float32)},
        signed_worst,
        0.6,
    ),
}
