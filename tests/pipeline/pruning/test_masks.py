"""Masks: what they zero, and that it stays zero through somebody's own training loop."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the workshop needs torch: pip install 'retort[train]'")

from torch import nn

from pipeline.models.catalogue import build
from pipeline.pruning.masks import Masks, two_of_four, unstructured


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet8", None, 10, {}, "test").network


def train_a_little(net: nn.Module, masks: Masks) -> None:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    masks.follow(optimiser)
    for _ in range(3):
        optimiser.zero_grad()
        net(torch.rand(4, 3, 16, 16)).logsumexp(1).mean().backward()
        optimiser.step()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_unstructured_masks_the_smallest(share: float) -> None:
    net = network()
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    masks = unstructured(net, share)
    assert masks.sparsity() == pytest.approx(share, abs=1e-4)
    kept = torch.cat([before[name][keep].abs() for name, keep in masks.keep.items()])
    gone = torch.cat([before[name][~keep].abs() for name, keep in masks.keep.items()])
    assert len(gone) == 0 or gone.max() <= kept.min()
    for name, weight in net.named_parameters():
        expected = before[name] * masks.keep[name] if name in masks.keep else before[name]
        assert torch.equal(weight, expected), name


def test_two_of_four_keeps_the_two_largest_of_each_four_input_channels() -> None:
    net = network()
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    masks = two_of_four(net)
    assert "conv1.weight" not in masks.keep, "three input channels are no fours"
    assert masks.sparsity() == 0.5
    weights = dict(net.named_parameters())
    for name in masks.keep:
        old, new = before[name], weights[name]
        for output in range(0, old.shape[0], 5):
            for start in range(0, old.shape[1], 4):
                one, other = (w[output, start : start + 4].reshape(4, -1) for w in (old, new))
                for place in range(one.shape[1]):
                    column = one[:, place].abs().tolist()
                    largest = sorted(range(4), key=lambda i, column=column: -column[i])[:2]
                    assert set(other[:, place].nonzero().flatten().tolist()) == set(largest)


@pytest.mark.parametrize("make", [lambda net: unstructured(net, 0.5), two_of_four])
def test_masked_weights_stay_zero_and_the_others_learn(make: object) -> None:
    net = network()
    masks = make(net)  # type: ignore[operator]
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    train_a_little(net, masks)
    for name, weight in net.named_parameters():
        if name in masks.keep:
            assert not weight[~masks.keep[name]].any()
            assert not torch.equal(weight[masks.keep[name]], before[name][masks.keep[name]])


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        unstructured(network(), 1.5)
