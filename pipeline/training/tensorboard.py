"""The curves of a training for TensorBoard, where the user has named a folder for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.compute import distributed
from targets.errors import Unmeasurable


@contextmanager
def curves(title: str, folder: str) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """``draw(epoch, {name: value})``; nothing is drawn where there is no folder. Raises Unmeasurable."""
    if not folder or distributed.rank():
        yield lambda epoch, values: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise Unmeasurable(f"{title}: {error}; pip install 'retort[tensorboard]'") from None
    with SummaryWriter(str(Path(folder) / title)) as writer:

        def draw(epoch: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

        yield draw
