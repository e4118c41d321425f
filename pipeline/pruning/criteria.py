"""The catalogue of pruning criteria: which channels matter least."""

from __future__ import annotations

from collections.abc import Callable

import torch_pruning as tp

Criterion = tp.importance.Importance


def magnitude() -> Criterion:
    """L2 norm of all the weights that a channel takes part in. Source: Fang et al. 2023, arXiv 2301.12900."""
    return tp.importance.GroupMagnitudeImportance(p=2)


def bn_scale() -> Criterion:
    """Size of the batch-norm's scale of a channel. Source: Liu et al. 2017, arXiv 1708.06519."""
    return tp.importance.BNScaleImportance()


def taylor() -> Criterion:
    """|weight · gradient| on training images: the loss that a channel's removal would cost, to first order.

    Source: Molchanov et al. 2019, arXiv 1906.10771.
    """
    return tp.importance.GroupTaylorImportance()


CRITERIA: dict[str, Callable[[], Criterion]] = {
    "magnitude": magnitude,
    "bn_scale": bn_scale,
    "taylor": taylor,
}
NEED_GRADIENTS = {"taylor"}
