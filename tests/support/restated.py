"""What the restatements of schemes share, written from the equations: softmax, cross-entropy, KL, rates."""

from __future__ import annotations

from torch import Tensor, nn, optim


def furthest(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def log_shares(logits: Tensor) -> Tensor:
    """ln of each row's e^z / Σ e^z."""
    return logits - logits.exp().sum(1, keepdim=True).log()


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -log_shares(logits)[range(len(labels)), labels].mean()


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL of the target's shares from the logits'."""
    return (log_shares(target).exp() * (log_shares(target) - log_shares(logits))).sum(1).mean()


def set_rate(optimiser: optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
