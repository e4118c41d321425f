"""The grid: symmetric to the bit, one rounding a tensor, the same when it is trained on and when it is converted."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the grid is torch's")

from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pipeline.models.tapped_model import outputs
from pipeline.quantization.grid import (
    Rounding,
    WeightRounding,
    convert,
    is_rounding,
    roundings,
    scales,
    switch,
)
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)

Floats = NDArray[np.float32]


def traffic(graph: nn.Module, images: Tensor) -> dict[str, tuple[Any, Floats, Floats]]:
    """Each rounding, what goes into it and what comes out."""
    seen: dict[str, tuple[Any, Floats, Floats]] = {}
    for name, module in graph.named_modules():
        if isinstance(module, (Rounding, WeightRounding)):
            keep = lambda m, args, out, name=name: seen.update({name: (m, numbers(args[0]), numbers(out))})
            module.register_forward_hook(keep)
    with torch.no_grad():
        graph(images)
    return seen


def numbers(tensor: Tensor) -> Floats:
    return tensor.detach().numpy().astype(np.float32)


def by_hand(x: Floats, scale: Floats) -> Floats:
    """Quantize and dequantize: halves to even, 127 steps either side, one scale or one a first axis."""
    step = scale.reshape(-1, *[1] * (x.ndim - 1)).astype(np.float32)
    # A product with the reciprocal, as torch's kernels compute the quotient.
    return (np.clip(np.rint(x * (np.float32(1) / step)), -127, 127) * step).astype(np.float32)


def test_rounding_is_quantize_then_dequantize_to_the_bit() -> None:
    seen = traffic(tiny.graph(), tiny.pictures(8, seed=3))
    assert len(seen) == 24, "14 tensors that flow and 10 weights"
    for name, (module, x, y) in seen.items():
        scale = numbers(module.scale if isinstance(module, Rounding) else scales(torch.from_numpy(x)))
        assert np.array_equal(y, by_hand(x, scale)), name
        assert len(np.unique(np.rint(y / scale.max()))) > 3, f"{name} rounds to almost nothing"


def test_weights_are_folded_and_scaled_a_channel_to_their_largest_value() -> None:
    model, grid = tiny.model(seed=1), tiny.graph()
    conv, norm = model.network.conv1, model.network.bn1
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = numbers(conv.weight * gain[:, None, None, None])
    weight = grid.get_parameter("network.conv1.weight")
    assert numbers(weight) == pytest.approx(folded, rel=1e-5)
    assert numbers(scales(weight)) == pytest.approx(np.abs(folded).reshape(8, -1).max(1) / 127, rel=1e-5)


def test_zero_points_are_zero_and_the_lowest_step_is_minus_127() -> None:
    done = convert(tiny.graph())
    quantizers = [n for n in done.graph.nodes if "quantize_per" in str(n.target)]
    assert len(quantizers) > 20
    for node in quantizers:
        # (input, scale, zero point, [axis], lowest, highest, type); per channel the two first are tensors.
        zero = node.args[2]
        value = getattr(done, zero.target) if isinstance(zero, fx.Node) else zero
        assert not np.any(np.asarray(value)), str(node)
        assert [a for a in node.args[3:] if isinstance(a, int)][-2:] == [-127, 127]
        assert node.args[-1] == torch.int8


def test_with_rounding_off_a_grid_answers_as_its_model_taps_too() -> None:
    model, grid = tiny.model(seed=1), tiny.graph()
    switch(grid, False)
    for count in (1, 5):
        images = tiny.pictures(count, seed=4)
        with torch.no_grad():
            expected, found = model(images), grid(images)
        assert len(found) == len(expected) == 5
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.shape == theirs.shape
            assert torch.allclose(mine, theirs, atol=1e-4)
        assert [s.shape[1] for s in outputs(found).stages] == [8, 12, 20]


def test_a_tensor_has_one_rounding_however_many_read_it() -> None:
    graph, shared = tiny.graph(), 0
    for node in graph.graph.nodes:
        behind = [user for user in node.users if is_rounding(graph, user)]
        assert len(behind) <= 1, f"{node.name} is rounded by {[user.target for user in behind]}"
        shared += any(len(user.users) > 1 for user in behind)
        if behind and node.op == "call_function":  # only what hands a tap out reads the float beside it
            rest = {str(user.target) for user in node.users} - {str(w.target) for w in behind}
            assert rest <= {"aten.clone.default", "output"}, node.name
    assert shared >= 3, "the residual inputs: read by a convolution and by the sum or the shortcut"


def test_convert_leaves_the_grid_as_it_was_and_answers_the_same() -> None:
    grid = tiny.graph()
    before, code, images = tiny.state(grid), grid.code, tiny.pictures(300, seed=6)
    kept = copy.deepcopy(before)
    with torch.no_grad():
        answer = grid(images)[0]
        for fold in (True, False):
            assert torch.allclose(convert(grid, fold)(images)[0], answer, atol=1e-5)
        assert tiny.same(kept, tiny.state(grid)) == []
        assert grid.code == code
        assert torch.equal(grid(images)[0], answer)
    assert len(answer.argmax(1).unique()) > 1, "a network that gives all images one class proves nothing"


def test_gradients_pass_within_the_grid_and_stop_outside() -> None:
    module = Rounding()
    x = torch.tensor([0.2, 126.7, 127.6, -300.0], requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_grid_s_mode_and_copies_change_no_answer() -> None:
    grid, images = tiny.graph(), tiny.pictures(6)
    with torch.no_grad():
        answer = grid.eval()(images)[0]
        assert torch.equal(grid.train()(images)[0], answer)
        twin = copy.deepcopy(grid)
        roundings(twin)[0].scale.mul_(3)
        assert not torch.equal(twin(images)[0], answer)
        assert torch.equal(grid(images)[0], answer), "a copy shares its scales"
