"""Rectangles in images, drawn by a seed as torchvision draws them: what is cut out, erased, or pasted from another.

A box is (top, left, height, width), int64; of height 0 it is none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRIES = 10  # as torchvision's
CROP_RATIO, ERASED_RATIO = (3 / 4, 4 / 3), (0.3, 3.3)  # width over height; height over width
ERASED = (0.02, 0.33)  # shares of the image's area


def random_crops(
    count: int, sides: tuple[int, int], scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Boxes (count, 4) of a share of the area between ``scale``, as torchvision's RandomResizedCrop draws them.

    Source: Szegedy et al. 2015, arXiv 1409.4842.
    """
    height, width = sides
    areas, ratios = drawn(count, height * width, scale, CROP_RATIO, generator)
    wide, high = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    found = placed(first_of(high, fits), first_of(wide, fits), sides, generator)
    return torch.where(fits.any(1)[:, None], found, torch.tensor(middle(height, width)))


def middle(height: int, width: int) -> tuple[int, int, int, int]:
    """The largest box in the middle whose ratio is allowed; taken where no try fits."""
    low, high = CROP_RATIO
    if width / height < low:
        tall, wide = round(width / low), width
    elif width / height > high:
        tall, wide = height, round(height * high)
    else:
        tall, wide = height, width
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def erased_boxes(count: int, sides: tuple[int, int], share: float, generator: torch.Generator) -> Tensor:
    """Boxes (count, 4) for a share of the images, none for the others, as torchvision's RandomErasing draws them.

    Source: Zhong et al. 2020, arXiv 1708.04896.
    """
    height, width = sides
    areas, ratios = drawn(count, height * width, ERASED, ERASED_RATIO, generator)
    high, wide = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (high < height) & (wide < width)
    found = placed(first_of(high, fits), first_of(wide, fits), sides, generator)
    chosen = torch.rand(count, generator=generator) < share
    return torch.where((fits.any(1) & chosen)[:, None], found, 0)


def pasted_boxes(shares: Tensor, sides: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) of about 1 − share of the area, cut at the edges, and the shares (N,) that then remain; CutMix's.

    Source: Yun et al. 2019, arXiv 1905.04899; as torchvision's CutMix makes them.
    """
    ends, share = [], (0.5 * (1.0 - shares.double()).sqrt())
    for side in sides:
        at, half = torch.randint(0, side, (len(shares),), generator=generator), (share * side).long()
        ends.append(((at - half).clamp(min=0), (at + half).clamp(max=side)))
    (top, bottom), (left, right) = ends
    boxes = torch.stack([top, left, bottom - top, right - left], 1)
    return boxes, (1 - boxes[:, 2] * boxes[:, 3] / (sides[0] * sides[1])).float()


def drawn(
    count: int,
    area: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Areas and ratios (count, TRIES): the first uniform, of the others the logarithm is."""
    unit = torch.rand(2, count, TRIES, generator=generator, dtype=torch.float64)
    low, high = (math.log(end) for end in ratio)
    return area * (scale[0] + (scale[1] - scale[0]) * unit[0]), (low + (high - low) * unit[1]).exp()


def first_of(values: Tensor, fits: Tensor) -> Tensor:
    """Of each row (N, TRIES) the first that fits; of one without any some value."""
    return values.gather(1, fits.long().argmax(1, keepdim=True))[:, 0]


def placed(high: Tensor, wide: Tensor, sides: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Boxes of these heights and widths, anywhere in the image with the same likelihood."""
    corners = []
    for side, length in zip(sides, (high, wide), strict=True):
        room = (side - length).clamp(min=0) + 1
        unit = torch.rand(len(length), generator=generator, dtype=torch.float64)
        corners.append((unit * room).long().clamp(max=side))
    return torch.stack([*corners, high, wide], 1)


def inside(boxes: Tensor, sides: tuple[int, int]) -> Tensor:
    """(N, H, W) bool: which pixels lie in the box of their image."""
    rows, columns = (
        (span >= boxes[:, at, None]) & (span < (boxes[:, at] + boxes[:, at + 2])[:, None])
        for at, span in ((at, torch.arange(sides[at], device=boxes.device)) for at in (0, 1))
    )
    return rows[:, :, None] & columns[:, None, :]


def resized_crops(images: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Each image's box, scaled to the whole image's size, some mirrored; (N, H, W, C) uint8.

    Bilinear and antialiased: each pixel is a sum of the box's rows and columns weighted by a triangle as wide as what
    a pixel covers there. That is torchvision's resized_crop, up to rounding.
    """
    _, height, width, _ = images.shape
    rows = triangles(boxes[:, 0], boxes[:, 2], height)
    columns = triangles(boxes[:, 1], boxes[:, 3], width)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    planes = images.permute(0, 3, 1, 2).float()
    scaled = rows[:, None] @ planes @ columns.transpose(1, 2)[:, None]
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def triangles(begin: Tensor, length: Tensor, side: int) -> Tensor:
    """Weights (N, side, side): of each pixel of a line (of ``side``) by the pixels of the image's line."""
    span = torch.arange(side, device=begin.device)
    step = (length.double() / side)[:, None, None]
    middles = (span[:, None] + 0.5) * step  # in the box
    at = (span - begin[:, None])[:, None, :]
    weights = (1 - ((at + 0.5 - middles) / step.clamp(min=1)).abs()).clamp(min=0)
    weights = torch.where((at >= 0) & (at < length[:, None, None]), weights, 0)
    return (weights / weights.sum(2, keepdim=True)).float()
