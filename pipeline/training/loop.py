"""The one training loop: teacher, student, fine-tuning and quantization-aware training all go through it.

It can be killed at any moment and goes on at the last epoch that it kept, with the same tensors as if it had
not been: each epoch's randomness comes from the seed and the epoch's number alone.
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.compute import distributed
from pipeline.compute.accelerator import PROCESSOR, accelerator, layout_of, name_of, precision_of
from pipeline.data.batches import Batch, Epoch, Pixels, plain_batches, training_batches, whole
from pipeline.data.decoded import TRAIN, VALIDATION, Decoded
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Scheme
from pipeline.training.compiled_teacher import hasten, pays
from pipeline.training.optimisers import clip, group_rates, optimiser_of, settle
from pipeline.training.tensorboard import curves
from targets.errors import Refusal
from targets.progress import Bar
from targets.runner.files import atomic_write

LOOK_BATCH = 256


@dataclass
class History:
    """What the training saw: a row an epoch, and the epoch whose tensors were kept (chosen on validation).

    ``start`` is the validation accuracy of the network that was given to the training, which is kept (epoch -1) where
    no epoch does as well.
    """

    precision: str
    compiled: bool  # the teachers' passes
    ranks: int  # processes that have trained together
    device: str
    start: float = 0.0
    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1


def fit(
    scheme: Scheme, data: Decoded, settings: Training, scratch: Path, title: str, tensorboard: str = ""
) -> History:
    """Train the players on the accelerator; the student's best state on validation is left in it, on the processor.

    Raises Refusal when the loss is no longer a number.
    """
    distributed.join()
    torch.manual_seed(settings.seed)
    settings = settle(settings, len(data.part(TRAIN)), distributed.ranks(), title)
    run = Run(scheme, data, settings, scratch / f"{title}.pt")
    run.resume()
    if not run.history.loss:
        run.begin()
    run.hasten()
    with Bar(title, settings.epochs, done=len(run.history.loss)) as bar, curves(title, tensorboard) as draw:
        for epoch in range(len(run.history.loss), settings.epochs):
            started = time.perf_counter()
            run.epoch(epoch, title)
            rate = len(run.indices) / (time.perf_counter() - started)
            run.keep()
            loss, validation = run.history.loss[-1], run.history.validation[-1]
            draw(epoch, {"loss": loss, "validation": validation, "images per second": rate})
            bar.step(f"loss {loss:.3f}  validation {validation:.1%}  {rate:,.0f} images/s")
    run.student.load_state_dict(run.best)
    for module in run.modules():
        module.to(PROCESSOR)
    run.student.eval()
    return run.history


class Run:
    """The state of a training: all that ``keep`` must write for ``resume`` to go on."""

    def __init__(self, scheme: Scheme, data: Decoded, settings: Training, file: Path) -> None:
        self.scheme, self.data, self.settings, self.file = scheme, data, settings, file
        self.indices = data.part(TRAIN)
        self.device = accelerator()
        self.pixels = Pixels(data, self.device)
        precision = precision_of(self.device) if settings.precision == "auto" else settings.precision
        rest = len(self.indices) * (min(settings.epochs, settings.replay or settings.epochs))
        # Chosen once: a resumed run does as its history says.
        compiled = (
            self.device == PROCESSOR
            and precision == "bfloat16"
            and pays(scheme.teachers, data.facts.size, rest)
        )
        self.history = History(precision, compiled, distributed.ranks(), name_of(self.device))
        networks = [player.network for player in scheme.players.values()]
        networks += [teacher.network for teacher in scheme.teachers]
        for module in (*networks, *(player.adapters for player in scheme.players.values())):
            module.to(self.device)
        self.layout = layout_of(self.device, networks, data.facts.size)
        for player in scheme.players.values():
            player.network.to(memory_format=self.layout)
        self.student = scheme.players["student"].network
        self.average = copy.deepcopy(self.student) if settings.ema else None
        self.best: dict[str, Tensor] = {}
        self.optimisers = {
            name: optimiser_of(player, settings, data.facts.size) for name, player in scheme.players.items()
        }

    def hasten(self) -> None:
        if self.history.compiled:
            for teacher in self.scheme.teachers:
                hasten(teacher)

    def epoch(self, epoch: int, title: str) -> None:
        seed = self.settings.seed * 100_003 + epoch
        # Apart from the views, so that all methods see the same views of the same images.
        draws = torch.Generator().manual_seed(seed + 1)
        torch.manual_seed(seed + 7_919 * distributed.rank())
        shown = Epoch(self.settings.seed, epoch, epoch % (self.settings.replay or self.settings.epochs))
        size = whole(self.settings.batch, len(self.indices), distributed.ranks())
        steps = len(self.indices) // size
        for player in self.scheme.players.values():
            player.network.train()
            player.adapters.train()
        batches = training_batches(
            self.pixels,
            self.indices,
            self.settings.batch,
            self.settings,
            shown,
            distributed.rank(),
            distributed.ranks(),
        )
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            total += self.step(batch, (epoch + number / steps) / self.settings.epochs, draws)
        distributed.average([total])
        distributed.level(self.modules())
        mean = float(total) / steps
        if not math.isfinite(mean):
            raise Refusal(
                f"{title}: the loss is {mean} in epoch {epoch + 1}; lower lr (now {self.settings.lr:g}),"
                " lengthen warmup, or look at the weights of the losses"
            )
        self.history.loss.append(mean)
        self.choose(epoch)

    def step(self, batch: Batch, progress: float, draws: torch.Generator) -> Tensor:
        """One step of every player; the sum of their losses, which nobody waits for."""
        half = self.history.precision == "bfloat16"
        batch = replace(batch, images=batch.images.contiguous(memory_format=self.layout))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            losses = self.scheme.step(batch, progress, draws)
        for name, loss in losses.items():
            self.update(name, loss, progress)
        return torch.stack([loss.detach() for loss in losses.values()]).sum()

    def modules(self) -> list[nn.Module]:
        """All whose tensors are kept."""
        players = [m for player in self.scheme.players.values() for m in (player.network, player.adapters)]
        return [*players, *([self.average] if self.average is not None else [])]

    def update(self, name: str, loss: Tensor, progress: float) -> None:
        optimiser = self.optimisers[name]
        group_rates(optimiser, self.settings.lr * rate(self.settings, progress))
        optimiser.zero_grad(set_to_none=True)
        if loss.requires_grad:  # at times no term acts
            loss.backward()  # type: ignore[no-untyped-call]
        distributed.average(p.grad for group in optimiser.param_groups for p in group["params"])
        clip(optimiser, self.settings.clip)
        optimiser.step()
        if self.average is not None and name == "student":
            blend(self.average, self.student, self.settings.ema)

    def begin(self) -> None:
        """The network as it was given is the first candidate: a trained one never ends below it on validation."""
        self.history.start = distributed.first(look(self.student, self.data))
        self.best = copied(self.student)

    def choose(self, epoch: int) -> None:
        """Keep the state that does best on validation; of equals the later, which has trained longer."""
        candidate = self.average if self.average is not None else self.student
        accuracy = distributed.first(look(candidate, self.data))
        if accuracy >= max(self.history.start, *self.history.validation, 0.0):
            self.history.best_epoch = epoch
            self.best = copied(candidate)
        self.history.validation.append(accuracy)

    def keep(self) -> None:
        """The first rank's is everybody's."""
        if distributed.rank() != 0:
            return
        state = {
            "players": {
                name: [player.network.state_dict(), player.adapters.state_dict()]
                for name, player in self.scheme.players.items()
            },
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "average": self.average.state_dict() if self.average is not None else {},
            "best": self.best,
            "history": vars(self.history),
        }
        # Through memory: on a full disk torch's own writer would not say so.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_write(self.file) as file:
            file.write(buffer.getbuffer())

    def resume(self) -> None:
        kept = distributed.shared(self.file)
        if not kept:
            return
        state: dict[str, Any] = torch.load(io.BytesIO(kept), PROCESSOR, weights_only=True)
        for name, player in self.scheme.players.items():
            for module, tensors in zip(
                (player.network, player.adapters), state["players"][name], strict=True
            ):
                module.load_state_dict(tensors)
            self.optimisers[name].load_state_dict(state["optimisers"][name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best, self.history = state["best"], History(**state["history"])


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def rate(settings: Training, progress: float) -> float:
    """The learning rate's factor after a share of the training."""
    if progress < settings.warmup:
        return max(progress / settings.warmup, 0.01)
    if settings.schedule == "step":
        return float(0.1 ** sum(progress >= milestone for milestone in settings.milestones))
    done = (progress - settings.warmup) / (1 - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def blend(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 − decay) · network; counters are copied."""
    for mine, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def look(network: nn.Module, data: Decoded) -> float:
    """Accuracy (0..1) on the validation split, in float32."""
    logits = answers(network, data, VALIDATION)
    return float((logits.argmax(1) == torch.from_numpy(data.labels[data.part(VALIDATION)])).float().mean())


@torch.no_grad()
def answers(network: nn.Module, data: Decoded, which: int, tick: Callable[[], None] = lambda: None) -> Tensor:
    """Logits (N, C) of every image of a split, in order, computed where the network is; its mode is as before."""
    was_training = network.training
    network.eval()
    device, logits = next(network.parameters()).device, []
    for batch in plain_batches(data, data.part(which), LOOK_BATCH, device):
        logits.append(network(batch.images)[0].float())
        tick()
    network.train(was_training)
    return torch.cat(logits).cpu()
