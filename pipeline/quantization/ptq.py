"""Post-training quantization: the graph of a network with a calibrated grid, proved equal to it but for rounding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn

from pipeline.data.batches import plain_batches
from pipeline.data.decoded import TRAIN, Decoded, ImageShape
from pipeline.models.tapped_model import Model
from pipeline.quantization.capture import capture
from pipeline.quantization.grid import insert_grid, roundings, switch
from pipeline.quantization.writes import check_writes
from targets.convert.grid import STEPS
from targets.errors import Refusal
from targets.quantize.histogram import Histogram

CALIBRATION_BATCH = 32
EQUAL = 1e-3  # of the largest answer: float32 in another order of operations, through many layers


def prepare(model: nn.Module, shape: ImageShape) -> fx.GraphModule:
    """The graph of a model with its grid in it; every scale is 1 until it is calibrated or loaded."""
    return insert_grid(capture(model, shape))


def prove_equal(model: nn.Module, grid: fx.GraphModule, shape: ImageShape) -> None:
    """Raises Refusal unless the graph answers as its model does where nothing is rounded, and rounded the same."""
    check_writes(grid)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    switch(grid, False)
    with torch.no_grad():
        expected, found = model.eval()(images)[0], grid(images)[0]
    switch(grid, True)
    apart, reach = float((expected - found).abs().max()), float(expected.abs().max())
    if not apart <= EQUAL * max(reach, 1.0):
        raise Refusal(
            f"quantize: the captured graph answers {apart:.3g} apart from the network (answers reach {reach:.3g});"
            " forward must be a function of the images alone"
        )


@torch.no_grad()
def calibrate(grid: fx.GraphModule, batches: Iterable[Tensor]) -> None:
    """Set every scale from batches of images (N, 3, H, W) in 0..1, in bounded memory."""
    modules = roundings(grid)
    for module in modules:
        module.seen = Histogram()
    for images in batches:
        grid(images)
    for module in modules:
        assert module.seen is not None, "just given"
        module.scale.fill_(module.seen.scale(STEPS))
        module.seen = None


def calibrated(model: Model, data: Decoded, count: int) -> fx.GraphModule:
    """The grid of a trained model from ``count`` training images, spread over the set. Raises Refusal."""
    indices = data.part(TRAIN)
    chosen = indices[:: max(1, len(indices) // count)][:count]
    grid = prepare(model, data.facts.shape)
    prove_equal(model, grid, data.facts.shape)
    calibrate(grid, (batch.images for batch in plain_batches(data, chosen, CALIBRATION_BATCH)))
    return grid
