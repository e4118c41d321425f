"""Answers that a runtime's own fusions change, and files that they make unusable."""

from __future__ import annotations

import numpy as np

from targets.diagnose.corpus.fault import Fault, f32, graph

AS_PLACED = (
    "what Retort writes has no such pattern, and the file is judged by the answers that the runtime gives"
)
S, N, Z = f32(0.1)[0], np.int8(0), np.uint8(0)
generator = np.random.default_rng(0)
PAIR = "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z)"
BACK = "p = QuantizeLinear(r, t, o) y = DequantizeLinear(p, t, o)"


def before_one(step: str, wrong: str, source: str, remedy: str) -> Fault:
    """A step that changes nothing, then a product with a 1 that is folded and a sum with 0."""
    text = f"(float[4] x) => (float[4] y) {{ m = {step} o = Div(one, one) w = Mul(m, o) y = Add(w, zero) }}"
    model, inputs = graph(text, one=f32(1), zero=f32(0)), {"x": f32(1, 2, 3, 4)}
    return Fault(wrong, source, remedy, model, inputs, lambda arrays: arrays["x"], refuses=True)


OPTIMISER = {
    "gemm-alpha": Fault(
        "a Gemm between pairs multiplies its bias by alpha too",
        "microsoft/onnxruntime#28130",
        "a linear layer is written with alpha 1",
        graph(
            f"""(float[1,4] x) => (float[1,2] y) {{ {PAIR}
            v = DequantizeLinear(w, s, n) c = DequantizeLinear(b, u, i)
            r = Gemm <alpha = 2.0> (f, v, c) {BACK} }}""",
            w=np.array([[3, -4], [1, 2], [-5, 6], [7, 1]], np.int8),
            s=S,
            z=Z,
            n=N,
            b=np.array([500, -300], np.int32),
            u=f32(0.01)[0],
            i=np.int32(0),
            t=f32(0.1)[0],
            o=np.uint8(128),
        ),
        {"x": f32([1, 2, 3, 4])},
        tolerance=0.11,
        found=lambda node, opset: (
            node.op_type == "Gemm" and any(one.name == "alpha" and one.f != 1 for one in node.attribute)
        ),
    ),
    "softmax-wraps": Fault(
        "the int8 kernel of Softmax wraps from 127 to -128",
        "microsoft/onnxruntime#29727",
        "no pair stands behind a Softmax: it stays float",
        graph(
            """(int8[1,4] x) => (int8[1,4] y) {
            f = DequantizeLinear(x, s, n) r = Softmax(f) y = QuantizeLinear(r, t, o) }""",
            s=f32(1)[0],
            n=N,
            t=f32(1 / 256)[0],
            o=np.int8(-128),
        ),
        {"x": np.array([[100, -100, -100, -100]], np.int8)},
        lambda arrays: np.array([[127, -128, -128, -128]]),
        1,
    ),
    "resize-drops-pairs": Fault(
        "a linear Resize between pairs interpolates bytes and cuts where it must round",
        "microsoft/onnxruntime#28448",
        "no pair stands around a Resize on ONNX Runtime",
        graph(
            """(float[1,1,1,3] x) => (float[1,1,1,6] y) {
            q = QuantizeLinear(x, s, n) f = DequantizeLinear(q, s, n)
            r = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (f, , , sizes)
            p = QuantizeLinear(r, s, n) y = DequantizeLinear(p, s, n) }""",
            s=f32(1)[0],
            n=N,
            sizes=np.array([1, 1, 1, 6]),
        ),
        {"x": f32(2, 7, 4).reshape(1, 1, 1, 3)},
        lambda arrays: f32(2, 3, 6, 6, 5, 4).reshape(1, 1, 1, 6),
    ),
    "bias-on-another-scale": Fault(
        "an int32 bias on another scale than that of the products is added as if it were on it",
        "microsoft/onnxruntime#24711",
        "a bias is written on the scale of the products",
        graph(
            f"""(float[1,2,3,3] x) => (float[1,2,3,3] y) {{ {PAIR}
            v = DequantizeLinear(w, s, n) c = DequantizeLinear(b, u, i)
            r = Conv(f, v, c) {BACK} }}""",
            w=np.array([[10, -20], [30, 5]], np.int8).reshape(2, 2, 1, 1),
            s=S,
            z=Z,
            n=N,
            b=np.array([40, -30], np.int32),
            u=f32(0.1)[0],
            i=np.int32(0),
            t=S,
            o=np.uint8(128),
        ),
        {"x": generator.uniform(0, 2, (1, 2, 3, 3)).astype(np.float32)},
        tolerance=0.11,
    ),
    "rounding-of-ties": Fault(
        "a fused sum is a step off where the exact value lies between two steps",
        "microsoft/onnxruntime#32132",
        "answers are compared with float's, not bit by bit; the grid is judged as it runs",
        graph(
            f"""(float[1,16] x) => (float[1,16] y) {{ {PAIR}
            r = Add(f, f) {BACK} }}""",
            s=f32(0.1)[0],
            z=np.uint8(128),
            t=f32(0.4)[0],
            o=np.uint8(128),
        ),
        {"x": (np.arange(16, dtype=np.float32) * 0.1).reshape(1, 16)},
        tolerance=0.01,
    ),
    "sum-rounds-down": Fault(
        "QLinearAdd gives -112 where its definition gives -112.50001, rounded to -113",
        "microsoft/onnxruntime#25512",
        "as rounding-of-ties",
        graph(
            "(int8[1] x) => (int8[1] y) { y = com.microsoft.QLinearAdd(x, a, p, k, b, q, c, r) }",
            a=f32(0.02534690499305725)[0],
            p=np.int8(-106),
            k=np.array([-122], np.int8),
            b=f32(0.035809919238090515)[0],
            q=np.int8(-120),
            c=f32(0.0365859717130661)[0],
            r=np.int8(-105),
        ),
        {"x": np.array([-114], np.int8)},
        lambda arrays: np.array([-113]),
        0,
        runtimes=("onnxruntime",),
        apart="it has no operators of com.microsoft",
    ),
    "identity-before-one": before_one(
        "Identity(x)",
        "a file with Identity, then a product with a folded 1, is refused once it is optimised",
        "microsoft/onnxruntime#32413",
        "the file is built for each target before it is judged; what a runtime refuses is said",
    ),
    "cast-before-one": before_one(
        "Cast <to = 1> (x)",
        "the same with a Cast to the type that the tensor has",
        "microsoft/onnxruntime#32416",
        "as identity-before-one",
    ),
    "dropout-before-one": before_one(
        "Dropout(x)",
        "the same with a Dropout, which exporters leave in",
        "microsoft/onnxruntime#32414",
        "as identity-before-one",
    ),
    "negative-scale-pool": Fault(
        "a MaxPool between pairs of a negative scale becomes a minimum",
        "microsoft/onnxruntime#21176",
        "scales are above zero",
        graph(
            """(float[1,1,1,4] x) => (float[1,1,1,3] y) {
            q = QuantizeLinear(x, s, n) f = DequantizeLinear(q, s, n)
            r = MaxPool <kernel_shape = [1, 2]> (f)
            p = QuantizeLinear(r, s, n) y = DequantizeLinear(p, s, n) }""",
            s=f32(-0.1)[0],
            n=N,
        ),
        {"x": f32(1, 2, -3, 4).reshape(1, 1, 1, 4)},
        lambda arrays: f32(2, 2, 4).reshape(1, 1, 1, 3),
    ),
    "folded-view-of-a-constant": Fault(
        "a constant that is folded through Reshape and Squeeze points to memory that is freed",
        "microsoft/onnxruntime#29788",
        "constants are folded before the file is written",
        graph(
            """(float[2,3] x) => (float[2,3] y) {
            a = Reshape(k, shape) b = Squeeze(a, axes) y = Add(x, b) }""",
            k=np.arange(6, dtype=np.float32),
            shape=np.array([1, 2, 3]),
            axes=np.array([0]),
        ),
        {"x": np.ones((2, 3), np.float32)},
        lambda arrays: arrays["x"] + np.arange(6).reshape(2, 3),
    ),
    "scale-as-output": Fault(
        "a Q whose scale is also an answer gives none",
        "microsoft/onnxruntime#14488",
        "scales are constants that nothing else reads",
        graph(
            "(float[2] x) => (uint8[2] y) { s = Constant <value = float {1.0}> () y = QuantizeLinear(x, s, z) }",
            z=np.uint8(1),
        ),
        {"x": f32(1, 2)},
        lambda arrays: np.array([2, 3]),
        0,
    ),
    "half-is-cut": Fault(
        "QuantizeLinear of float16 cuts instead of rounding",
        "microsoft/onnxruntime#32452",
        "pairs stand on float32 alone",
        graph(
            "(float16[2] x) => (int8[2] y) { y = QuantizeLinear(x, s, n) }",
            s=np.float16(0.0999755859375),
            n=N,
        ),
        {"x": np.array([0.050018310546875, -0.050018310546875], np.float16)},
        lambda arrays: np.array([1, -1]),
        0,
    ),
    "ties-away-from-zero": Fault(
        "QuantizeLinear rounds a tie away from zero instead of to the even number",
        "microsoft/onnxruntime#25045",
        "as rounding-of-ties",
        graph(
            "(float[6] x) => (float[6] y) { q = QuantizeLinear(x, s, n) y = DequantizeLinear(q, s, n) }",
            s=f32(2)[0],
            n=np.int8(10),
        ),
        {"x": f32(1, 3, 5, -1, -3, -5)},
        lambda arrays: f32(0, 4, 4, 0, -4, -4),
    ),
    "relu-before-symmetric-pair": Fault(
        "a quantizer drops a ReLU before a symmetric grid, which does not cut at zero",
        "microsoft/onnxruntime#11660",
        "a ReLU is left out only where the lowest byte is zero",
        graph(
            """(float[4] x) => (float[4] y) {
            r = Relu(x) q = QuantizeLinear(r, s, n) y = DequantizeLinear(q, s, n) }""",
            s=S,
            n=N,
        ),
        {"x": f32(-5, -0.1, 0.5, 3)},
        lambda arrays: f32(0, 0, 0.5, 3),
    ),
}
