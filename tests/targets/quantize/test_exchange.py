"""A weight in bytes: a scale of its own for each output, zero for an output of zeros."""

from __future__ import annotations

import numpy as np

from targets.convert.grid import SMALLEST
from targets.quantize.exchange import in_bytes


def test_each_output_s_largest_weight_is_127_steps_of_its_own_scale() -> None:
    weight = np.array([[[0.5, -1.0]], [[0.02, 0.005]], [[0.0, 0.0]]], np.float32)
    held, scales = in_bytes(weight)
    np.testing.assert_allclose(scales, [1.0 / 127, 0.02 / 127, SMALLEST], rtol=1e-6)
    assert held.dtype == np.int8 and held.tolist() == [[[64, -127]], [[127, 32]], [[0, 0]]]
