"""Replay: a teacher's outputs for each view of each image, kept on disk, instead of another pass.

The views are drawn by seed, so their parameters need not be stored (after FKD, Shen & Xing 2021, arXiv 2112.01528,
which stores them and the k best logits). All logits and the pooled features are kept, in float16: 328 bytes an image
and view for 100 classes and 64 features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from pipeline.compute import distributed
from pipeline.data.batches import Batch
from pipeline.models.tapped_model import Outputs
from targets.errors import Refusal
from targets.image_folder import begin_array
from targets.runner.files import atomic_write


class Untold(tuple[Tensor, ...]):
    """The stages, which are too many numbers to keep."""

    def refuse(self, *_: Any) -> NoReturn:
        raise Refusal(
            "distill.replay: what is kept of the teacher are its answers and pooled features, and a loss of the"
            " recipe looks at its stages; drop replay, or that loss"
        )

    def __iter__(self) -> Iterator[Tensor]:
        self.refuse()

    __getitem__ = __len__ = refuse


class Replayed:
    """The answers of one teacher, by view and image."""

    def __init__(self, folder: Path, images: int, classes: int, pooled: int) -> None:
        self.folder, self.images, self.classes, self.width = folder, images, classes, classes + pooled
        self.files: dict[int, np.memmap[Any, Any]] = {}

    def answers(self, batch: Batch, teacher: Callable[[Tensor], Outputs]) -> Outputs:
        """As kept, or computed now and kept; without stages. The same to the bit either way.

        In the first epoch of a view each rank runs the teacher on its share and all-gathers the result, as other
        ranks see these images in later epochs. On what that epoch left over it runs when that comes in a batch.
        """
        indices, kept = batch.indices.numpy(), self.file(batch.view)
        if np.isnan(kept[indices, 0]).any():
            with torch.no_grad():
                found = teacher(batch.images)
            kept[indices] = torch.cat([found.logits, found.pooled], 1).half().cpu().numpy()
        own = torch.from_numpy(np.asarray(kept[indices]))
        if batch.unseen and distributed.ranks() > 1:
            kept[distributed.all_gather(batch.indices).numpy()] = distributed.all_gather(own).numpy()
        rows = own.to(batch.images.device, non_blocking=True).float()
        return Outputs(rows[:, : self.classes], rows[:, self.classes :], Untold())

    def file(self, view: int) -> np.memmap[Any, Any]:
        """A row an image, not a number where it was not asked yet; of an earlier, killed run too."""
        if view not in self.files:
            path = self.folder / f"view {view} rank {distributed.rank()} of {distributed.ranks()}.npy"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                row = np.full(self.width, np.nan, np.float16)
                with atomic_write(path) as file:  # written, not mapped: a full disk would end the process
                    begin_array(file, (self.images, self.width), row.dtype.str)
                    file.writelines(row.tobytes() for _ in range(self.images))
            try:
                open_memmap(path, "r")  # refuses a file that is too short, which "r+" would fill with zeros
                self.files[view] = open_memmap(path, "r+")
            except ValueError as error:
                raise Refusal(f"{path}: broken ({error}); remove it and run again") from None
        return self.files[view]
