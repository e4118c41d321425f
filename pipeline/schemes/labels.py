"""The loss of the labels, a term of most schemes: what the task says that an answer costs beside the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.batches import Batch
from pipeline.models.tapped_model import Outputs
from pipeline.tasks.task import Task

# Weights of the losses of auxiliary heads: of GoogLeNet's two (Szegedy et al. 2015), and of Inception v3's one.
EACH_AUXILIARY, ONE_AUXILIARY = 0.3, 0.4


@dataclass(frozen=True)
class Labels:
    """weight · the task's loss, a mean over the batch; auxiliary heads add theirs with their own weights."""

    task: Task
    smoothing: float
    weight: float = 1.0

    def __call__(self, answers: Outputs, batch: Batch) -> Tensor:
        """At weight 0 the term has no gradient, where one of zeros would let weight decay act."""
        if not self.weight:
            return torch.zeros((), device=answers.logits.device)
        total = self.of(answers.logits.float(), batch)
        auxiliary = ONE_AUXILIARY if len(answers.auxiliary) == 1 else EACH_AUXILIARY
        for logits in answers.auxiliary:
            total = total + auxiliary * self.of(logits.float(), batch)
        return self.weight * total

    def of(self, answers: Tensor, batch: Batch) -> Tensor:
        """Of one head; of mixed images by the shares of both labels."""
        own = self.task.loss(answers, batch.labels, self.smoothing)
        if batch.mixed is None:
            return own.mean()
        other = self.task.loss(answers, batch.mixed.labels, self.smoothing)
        return torch.lerp(other, own, batch.mixed.shares).mean()
