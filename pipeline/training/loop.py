"""The one training loop: every scheme goes through it, of one player or several, in float or on the int8 grid.

It can be killed at any moment and goes on at the last epoch that it kept, with the same tensors as if it had
not been: each epoch's randomness comes from the seed and the epoch's number alone.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.compute import distributed
from pipeline.compute.accelerator import PROCESSOR, accelerator, layout_of, name_of, precision_of
from pipeline.data.batches import Batch, Epoch, Pixels, plain_batches, training_batches, whole
from pipeline.data.decoded import TRAIN, VALIDATION, Decoded
from pipeline.recipe.schema import Training
from pipeline.schemes.base import Phase, Scheme, held
from pipeline.tasks import TASKS
from pipeline.training.compiled_teacher import compile_teacher, pays
from pipeline.training.learner import Learner
from pipeline.training.optimisers import settle
from pipeline.training.tensorboard import curves
from targets.errors import Refusal, first_line
from targets.progress import Bar
from targets.runner.files import atomic_write

PREDICT_BATCH = 256


@dataclass(kw_only=True)
class Course:
    """How a player did on validation (its score, 0..1) after each epoch, and the epoch whose tensors were kept.

    ``start`` is the score of the network that was given to the training, which is kept (epoch -1) where no epoch
    does as well.
    """

    start: float = 0.0
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1


@dataclass(kw_only=True)
class History(Course):
    """What the training saw: the course of the first player, which ships, and those of the others by name."""

    precision: str
    compiled: bool  # the teachers' passes
    ranks: int  # processes that have trained together
    device: str
    loss: list[float] = field(default_factory=list)  # a mean an epoch of all players' losses together
    others: dict[str, Course] = field(default_factory=dict)


def fit(
    scheme: Scheme, data: Decoded, settings: Training, scratch: Path, title: str, tensorboard: str = ""
) -> History:
    """Train the players on the accelerator; each one's best state on validation is left in it, on the processor.

    Raises Refusal when the loss is no longer a number.
    """
    distributed.join()
    torch.manual_seed(settings.seed)
    run = Run(scheme, data, settings, scratch / f"{title}.pt")
    run.resume()
    if not run.history.loss:
        run.begin()
    run.compile_teachers()
    with Bar(title, settings.epochs, done=len(run.history.loss)) as bar, curves(title, tensorboard) as draw:
        for epoch in range(len(run.history.loss), settings.epochs):
            started = time.perf_counter()
            run.epoch(epoch, title)
            rate = len(run.indices) / (time.perf_counter() - started)
            run.keep()
            loss, validation = run.history.loss[-1], run.history.validation[-1]
            draw(epoch, {"loss": loss, "validation": validation, "images per second": rate})
            bar.step(f"loss {loss:.3f}  validation {validation:.1%}  {rate:,.0f} images/s")
    for learner in run.learners.values():
        learner.finish()
    return run.history


class Run:
    """The state of a training: all that ``keep`` must write for ``resume`` to go on."""

    def __init__(self, scheme: Scheme, data: Decoded, settings: Training, file: Path) -> None:
        self.scheme, self.data, self.settings, self.file = scheme, data, settings, file
        self.indices = data.part(TRAIN)
        self.steps = len(self.indices) // whole(settings.batch, len(self.indices), distributed.ranks())
        self.number = 0  # of the step that comes next, in the whole training
        self.device = accelerator()
        self.pixels = Pixels(data, self.device, TASKS[data.facts.task].moved)
        precision = precision_of(self.device) if settings.precision == "auto" else settings.precision
        rest = len(self.indices) * (min(settings.epochs, settings.replay or settings.epochs))
        # Chosen once: a resumed run does as its history says.
        compiled = (
            self.device == PROCESSOR
            and precision == "bfloat16"
            and pays(scheme.teachers, data.facts.shape, rest)
        )
        others = list(scheme.players)[1:]
        self.history = History(
            precision=precision,
            compiled=compiled,
            ranks=distributed.ranks(),
            device=name_of(self.device),
            others={name: Course() for name in others if scheme.players[name].validated},
        )
        self.layout = self.place()
        self.learners = {name: self.learner(name) for name in scheme.players}

    @property
    def courses(self) -> dict[str, Course]:
        """Of the players that are validated, by name."""
        first = next(iter(self.scheme.players))
        return {first: self.history, **self.history.others}

    def place(self) -> torch.memory_format:
        """Move all networks to the device; how the images of those that see images lie in its memory."""
        players, teachers = self.scheme.players.values(), [one.network for one in self.scheme.teachers]
        own = [module for player in players for module in player.modules]
        parameters = [id(parameter) for module in own for parameter in module.parameters()]
        assert len(parameters) == len(set(parameters)), "a parameter belongs to two players"
        for module in (*own, *teachers):
            module.to(self.device)
        seeing = [player.network for player in players if player.validated]
        layout = layout_of(self.device, [*seeing, *teachers], self.data.facts.shape)
        for network in seeing:
            network.to(memory_format=layout)
        return layout

    def learner(self, name: str) -> Learner:
        """A player with the training's settings, or its own optimiser's in their place."""
        player, where, settings = self.scheme.players[name], self.file.stem, self.settings
        if player.optimiser is not None:
            where, settings = f"{where}: {name}", settings.model_copy(update=dict(player.optimiser))
        settings = settle(settings, len(self.indices), distributed.ranks(), where)
        return Learner(player, settings, self.data.facts.shape)

    def compile_teachers(self) -> None:
        if self.history.compiled:
            for teacher in self.scheme.teachers:
                compile_teacher(teacher)

    def epoch(self, epoch: int, title: str) -> None:
        seed = self.settings.seed * 100_003 + epoch
        # Apart from the views, so that all methods see the same views of the same images.
        draws = torch.Generator().manual_seed(seed + 1)
        torch.manual_seed(seed + 7_919 * distributed.rank())
        for learner in self.learners.values():
            learner.train()
        self.number = epoch * self.steps
        batches, total = self.scheme.source(self.images(epoch)), torch.zeros((), device=self.device)
        for number in range(self.steps):
            total += self.step(next(batches), (epoch + number / self.steps) / self.settings.epochs, draws)
        distributed.all_reduce_mean([total])
        distributed.broadcast_state(self.modules())
        mean = float(total) / self.steps
        if not math.isfinite(mean):
            raise Refusal(
                f"{title}: the loss is {mean} in epoch {epoch + 1}; lower lr (now {self.settings.lr:g}),"
                " lengthen warmup, or look at the weights of the losses"
            )
        self.history.loss.append(mean)
        self.choose(epoch)

    def images(self, epoch: int) -> Iterator[Batch]:
        """The training images in this epoch's order and views, this rank's share of each batch."""
        shown = Epoch(self.settings.seed, epoch, epoch % (self.settings.replay or self.settings.epochs))
        ranks = distributed.rank(), distributed.ranks()
        return training_batches(self.pixels, self.indices, self.settings.batch, self.settings, shown, *ranks)

    def step(self, batch: Batch, progress: float, draws: torch.Generator) -> Tensor:
        """The phases of one step, in order; the sum of their losses, on the device: to read it would wait for it."""
        batch = replace(batch, images=batch.images.contiguous(memory_format=self.layout))
        total = torch.zeros((), device=self.device)
        for phase in self.scheme.phases(progress):
            due = [name for name in phase.players if self.number % self.scheme.players[name].every == 0]
            if due:
                total += self.take(phase, due, batch, progress, draws)
        self.number += 1
        return total

    def take(
        self, phase: Phase, due: list[str], batch: Batch, progress: float, draws: torch.Generator
    ) -> Tensor:
        """One backward pass of the phase's losses together, and a step of who is due; no other player changes."""
        stepped = [self.learners[name] for name in due]
        others = [player for name, player in self.scheme.players.items() if name not in due]
        half = self.history.precision == "bfloat16"
        with held(module for player in others for module in player.modules):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                losses = phase.losses(batch, draws)
            total = sum(losses.values(), torch.zeros((), device=self.device))
            for learner in stepped:
                learner.forget()
            if total.requires_grad:  # at times no term acts
                total.backward()  # type: ignore[no-untyped-call]
        for learner in stepped:
            learner.step(progress)
        return total.detach()

    def modules(self) -> list[nn.Module]:
        """All whose tensors are kept."""
        return [module for learner in self.learners.values() for module in learner.modules]

    def begin(self) -> None:
        """The networks as they were given are the first candidates: none ends below that on validation."""
        for name, learner in self.learners.items():
            if name in self.courses:
                self.courses[name].start = distributed.broadcast_number(
                    validation_score(learner.candidate, self.data)
                )
            learner.remember()

    def choose(self, epoch: int) -> None:
        """Keep each player's state that does best on validation; of equals the later, which has trained longer."""
        for name, learner in self.learners.items():
            course = self.courses.get(name)
            if course is None:  # its last state is left
                learner.remember()
                continue
            score = distributed.broadcast_number(validation_score(learner.candidate, self.data))
            if score >= max(course.start, *course.validation, 0.0):
                course.best_epoch = epoch
                learner.remember()
            course.validation.append(score)

    def keep(self) -> None:
        """Only rank 0 saves; the others load its file."""
        if distributed.rank() != 0:
            return
        state = {
            "players": {name: learner.state_dict() for name, learner in self.learners.items()},
            "scheme": self.scheme.state_dict(),
            "history": asdict(self.history),
        }
        # Through memory: on a full disk torch's own writer would not say so.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_write(self.file) as file:
            file.write(buffer.getbuffer())

    def resume(self) -> None:
        kept = distributed.broadcast_file(self.file)
        if not kept:
            return
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(kept), PROCESSOR, weights_only=True)
        except Exception as error:  # whatever zip and torch meet in a torn file
            told = f"{self.file}: what was kept of the training cannot be read ({first_line(error)})"
            raise Refusal(f"{told}; remove it, and it is trained from its beginning") from None
        for name, learner in self.learners.items():
            learner.load_state_dict(state["players"][name])
        self.scheme.load_state_dict(state["scheme"])
        seen = state["history"]
        others = {name: Course(**course) for name, course in seen.pop("others").items()}
        self.history = History(**seen, others=others)


def validation_score(network: nn.Module, data: Decoded) -> float:
    """The task's score (accuracy, of classes; 0..1) on the validation split, in float32."""
    answers = predict(network, data, VALIDATION).numpy()
    return TASKS[data.facts.task].score(answers, data.labels[data.part(VALIDATION)])


@torch.no_grad()
def predict(network: nn.Module, data: Decoded, which: int, tick: Callable[[], None] = lambda: None) -> Tensor:
    """Answers (N, ...) to every image of a split, in order, computed where the network is; its mode is as before."""
    was_training = network.training
    network.eval()
    device, logits = next(network.parameters()).device, []
    for batch in plain_batches(data, data.part(which), PREDICT_BATCH, device):
        logits.append(network(batch.images)[0].float())
        tick()
    network.train(was_training)
    return torch.cat(logits).cpu()
