"""Where a network's features are: the outputs of its block groups, and the layer that makes the logits.

Both are read from one recorded pass. A feature level is a value that every path from the image to the logits passes:
so it is never one inside a block that has a shortcut, such as a head of its attention. Of maps each side's last is
taken; of tokens the output of each residual block, or each count's last where the tokens grow fewer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.data.decoded import ImageShape
from pipeline.models.execution import IMAGES, Call, Execution, execute
from pipeline.models.tapped_model import Levels, channels_last, in_proportion, pool, sides_of

POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


def find_levels(network: nn.Module, shape: ImageShape) -> Levels:
    """The levels of a network for images of a shape: its own ``taps``, or those found."""
    record = execute(network, shape)
    end = record.number(record.answer)
    declared = getattr(network, "taps", None)
    if end is None:  # the logits are computed out of torch's sight
        return Levels(tuple(declared or ()))
    found = tuple(declared) if declared is not None else taps(record, end)
    heads = record.heads(end)
    if len(heads) != 1:
        return Levels(found)
    return Levels(found, heads[0].name, is_exact(record, heads[0], end))


def is_exact(record: Execution, head: Call, end: int) -> bool:
    """Whether the answer of a layer to its pooled input is the logits."""
    if head.took is None:
        return False
    pooled, logits = pool(record.values[head.took], head.module), record.values[end]
    with torch.no_grad():
        found = answer_of(head.module, pooled)
    return found.shape == logits.shape and torch.allclose(found, logits, rtol=1e-4, atol=1e-5)


def answer_of(head: nn.Module, pooled: Tensor) -> Tensor:
    """The answer (N, C) of a linear layer or a 1×1 convolution to pooled features (N, D)."""
    answer: Tensor = (
        head(pooled) if isinstance(head, nn.Linear) else head(pooled[:, :, None, None]).flatten(1)
    )
    return answer


def heads_of(network: nn.Module, shape: ImageShape, classes: int) -> set[str]:
    """The layers that give the answers, those of auxiliary heads too: one for each class."""
    found: set[str] = set()
    for training in (False, True):
        record = execute(network, shape, training)
        answers = record.answer if isinstance(record.answer, tuple) else (record.answer,)
        for answer in answers:
            names = record.head_names(answer)
            found |= {name for name in names if network.get_parameter(f"{name}.weight").shape[0] == classes}
    return found


def taps(record: Execution, end: int) -> tuple[str, ...]:
    """The modules that give the feature levels, in order."""
    trunk, image = set(record.trunk(end)), record.values[0]
    givers = givers_of(record, trunk)
    maps: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    blocks: list[Call] = []
    for number in sorted(givers):
        value, outermost = record.values[number], givers[number][-1]
        block = next((call for call in givers[number] if is_block(record, call, trunk, blocks)), None)
        blocks += [block] if block is not None else []
        if value.ndim == 3 and block is not None:
            tokens.setdefault(value.shape[1], []).append(block.name)
        side = side_of(value, image) if block is not None or not channels_last(value, sides_of(image)) else 0
        # Sides only shrink: a map that is larger than the one before it is no map, but parted into windows.
        if 1 < side <= min(maps, default=side):
            maps[side] = outermost.name
    if blocks and blocks[-1].gave is not None and record.values[blocks[-1].gave].ndim == 3:
        groups = list(tokens.values())
        return tuple(groups[0]) if len(groups) == 1 else tuple(names[-1] for names in groups)
    # A level is at least halved from the image: the stem at full size is none, unless nothing else is.
    return tuple(name for side, name in maps.items() if side < image.shape[2]) or tuple(maps.values())


def givers_of(record: Execution, trunk: set[int]) -> dict[int, list[Call]]:
    """The values of the trunk that modules made, each with these modules from the inside out.

    Left out are pools, and what lies inside a block that halves the image: the block's own output is the level.
    """
    calls = [call for call in record.calls.values() if call.made and call.gave in trunk]
    halving = [call for call in calls if halves(record, call) and not isinstance(call.module, nn.Sequential)]
    inside = tuple(f"{call.name}." for call in halving)
    found: dict[int, list[Call]] = {}
    for call in calls:  # they end from the inside out
        left_out = isinstance(call.module, POOLS) or call.name.startswith(inside)
        if call.gave is not None and record.values[call.gave].shape[0] == IMAGES and not left_out:
            found.setdefault(call.gave, []).append(call)
    return found


def halves(record: Execution, call: Call) -> bool:
    if call.took is None or call.gave is None:
        return False
    before, after = (side_of(record.values[number], record.values[0]) for number in (call.took, call.gave))
    return 0 < after < before <= 2 * after + 1


def side_of(value: Tensor, image: Tensor) -> int:
    """The height of a map, in either layout; 0 for what is none."""
    if value.ndim != 4:
        return 0
    if channels_last(value, sides_of(image)):
        return value.shape[1]
    return value.shape[2] if in_proportion(value.shape[2:], sides_of(image)) else 0


def is_block(record: Execution, call: Call, trunk: set[int], blocks: list[Call]) -> bool:
    """Whether inside a module a path runs beside another, and no block lies in it: a residual block."""
    assert call.gave is not None, "it gave a value of the trunk"
    within = range(call.begin, call.gave)
    way = set(record.on_the_way(call.gave))
    return any(number in way and number not in trunk for number in within) and not any(
        block.gave in within for block in blocks
    )
