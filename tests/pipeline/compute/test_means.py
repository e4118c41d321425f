"""The mean over processes by one all-reduce: of several tensors at once, each with its own shape."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the processes are torch's")

from torch import Tensor

from pipeline.compute import distributed


def test_each_tensor_becomes_the_mean_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three ranks, whose other two hold twice and three times as much as this one."""

    def all_reduce(flat: Tensor) -> None:
        flat.mul_(1 + 2 + 3)

    monkeypatch.setattr(distributed, "ranks", lambda: 3)
    monkeypatch.setattr(distributed.distributed, "all_reduce", all_reduce)
    one, two = torch.tensor([[1.0, -2.0]]), torch.tensor(5.0)
    distributed.all_reduce_mean([one, None, two])
    assert one.tolist() == [[2.0, -4.0]] and float(two) == 10.0
