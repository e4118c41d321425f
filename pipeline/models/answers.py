"""What a network answers: which part of it is the logits, and what in training are the logits of auxiliary heads.

A network of a user may answer with a tuple, a dict or a dataclass. The part that is chosen at the door is all that
the rest sees: it is taken by a hook on the network itself, so that its modules and tensors keep their names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data.decoded import ImageShape
from pipeline.models.execution import execute
from targets.errors import Refusal, first_line

Key = str | int
Shape = tuple[int, ...]  # of the answer to one image


@dataclass(frozen=True)
class Choice:
    """The parts of a network's answers by key (None: the answer itself), as a forward hook."""

    evaluation: Key | None = None
    training: Key | None = None
    auxiliary: Sequence[Key] = ()  # only in training

    def __call__(self, network: nn.Module, images: object, answer: object) -> Any:
        """The logits (N, C); where auxiliary heads answer, a tuple of the logits and theirs."""
        logits = part(answer, self.training if network.training else self.evaluation)
        if not network.training:
            return logits
        further = [part(answer, key) for key in self.auxiliary]
        further = [
            one for one in further if one.ndim == logits.ndim
        ]  # a head that was dropped gives a number
        return (logits, *further) if further else logits


def choose(network: nn.Module, choice: Choice) -> None:
    """From now on the network answers with the parts that were chosen."""
    if choice != Choice():
        network.register_forward_hook(choice)


def parts_of(answer: object) -> dict[Key, object]:
    """The parts of an answer by the names of fields or keys, or by position."""
    if isinstance(answer, Mapping):
        return dict(answer)
    if is_dataclass(answer) and not isinstance(answer, type):
        return {field.name: getattr(answer, field.name) for field in fields(answer)}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return dict(zip(answer._fields, answer, strict=True))
    return dict(enumerate(answer)) if isinstance(answer, (tuple, list)) else {}


def part(answer: object, key: Key | None) -> Any:
    """A part by its name, or by its position among the parts."""
    if key is None:
        return answer
    parts = parts_of(answer)
    return parts[key] if key in parts else list(parts.values())[int(key)]


def check_answers(
    network: nn.Module, shape: ImageShape, wanted: Shape, where: str, output: Key | None = None
) -> Choice:
    """What of the answers to images (N, C, H, W) are the logits (N, *wanted); ``wanted`` is (classes,), of classes.

    ``output`` is the recipe's key. Raises Refusal where there are none, or several in evaluation.
    """
    answers = {mode: answer_in(mode, network, shape, where) for mode in ("training", "evaluation")}
    fitting = {mode: logits_in(answer, wanted) for mode, answer in answers.items()}
    for mode, answer in answers.items():
        refuse_unfit(answer, fitting[mode], output, f"{where}: for 2 images the network in {mode}", wanted)
    evaluation = key_of(answers["evaluation"], fitting["evaluation"], output)
    # By convention of torchvision and timm a network with this attribute has its main head first.
    auxiliary_too = bool(getattr(network, "aux_logits", False))
    if output is None and len(fitting["evaluation"]) > 1 and not auxiliary_too:
        raise Refusal(
            f"{where}: the network has several answers of {wanted[0]} columns: {told(answers['evaluation'])};"
            f" say which are the logits: output = {shown(fitting['evaluation'][0])}, say"
        )
    known = () if auxiliary_too else fitting["evaluation"]
    training = evaluation if evaluation in fitting["training"] else None
    if training is None and fitting["training"]:
        training = output if output is not None else main_head(network, shape, fitting["training"])
    further = [key for key in fitting["training"] if key not in (training, *known)]
    return Choice(evaluation, training, tuple(further))


def answer_in(mode: str, network: nn.Module, shape: ImageShape, where: str) -> object:
    trial = copy.deepcopy(network).train(mode == "training")
    before = set(trial.state_dict())
    try:
        with torch.no_grad():
            answer = trial(torch.full((2, *shape), 0.5))
    except Exception as error:  # a user's code may raise anything
        images = f"images of {'x'.join(map(str, shape))}"
        raise Refusal(f"{where}: in {mode} the network fails on {images}: {first_line(error)}") from None
    new = sorted(set(trial.state_dict()) - before)
    if new:
        raise Refusal(
            f"{where}: the network's forward makes the tensor '{new[0]}', which could not be loaded again;"
            " register it in __init__"
        )
    return answer


def logits_in(answer: object, wanted: Shape) -> list[Key]:
    """The keys of the parts that can be logits."""
    return [key for key, value in parts_of(answer).items() if is_logits(value, wanted)]


def is_logits(value: object, wanted: Shape) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == (2, *wanted)


def main_head(network: nn.Module, shape: ImageShape, keys: Sequence[Key]) -> Key:
    """Which of several answers in training comes from the layers that answer in evaluation; else the first."""
    if len(keys) > 1:
        alone, training = execute(network, shape), execute(network, shape, training=True)
        wanted = alone.head_names(alone.answer)
        for key in keys:
            if training.head_names(part(training.answer, key)) == wanted:
                return key
    return keys[0]


def key_of(answer: object, fitting: Sequence[Key], output: Key | None) -> Key | None:
    if isinstance(answer, Tensor):
        return None
    return output if output is not None else fitting[0]


def refuse_unfit(answer: object, fitting: Sequence[Key], output: Key | None, who: str, shape: Shape) -> None:
    """Raises Refusal where an answer has no logits, or none by the key that the recipe gives."""
    wanted = f"{shape[0]} classes want {(2, *shape)}"
    if isinstance(answer, Tensor):
        if not is_logits(answer, shape):
            raise Refusal(f"{who} answers {tuple(answer.shape)}; {wanted}")
        return
    parts = parts_of(answer)
    if not fitting:
        raise Refusal(f"{who} answers {told(answer) or type(answer).__name__}; {wanted}")
    if output is None:
        return
    try:
        found = part(answer, output)
    except (LookupError, ValueError):
        raise Refusal(f"{who} answers {told(answer)}: none is {shown(output)}; give one as output") from None
    if not is_logits(found, shape):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        fit = ", ".join(f"output = {shown(key)}" for key in parts if key in fitting)
        raise Refusal(f"{who} answers {given} as {shown(output)}; {wanted}: {fit}")


def told(answer: object) -> str:
    """The parts that are tensors, with their shapes."""
    return ", ".join(
        f"{key} {tuple(value.shape)}" for key, value in parts_of(answer).items() if isinstance(value, Tensor)
    )


def shown(key: Key) -> str:
    return f'"{key}"' if isinstance(key, str) else str(key)
