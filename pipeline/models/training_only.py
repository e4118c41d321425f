"""What a network has for its training alone: auxiliary heads, and branches that compute together what one layer can.

Both go when the student leaves distillation, before it is cut, calibrated or exported. RepVGG, MobileOne and FastViT
have such branches; a module says how they are folded by a method ``fuse``, ``reparameterize`` or
``switch_to_deploy``, as timm's do and a user's may.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data.decoded import ImageShape
from pipeline.models.answers import Choice, part
from pipeline.models.execution import execute
from pipeline.models.tapped_model import Model
from targets.errors import first_line

METHODS = ("fuse", "reparameterize", "switch_to_deploy")
EQUAL = 1e-6  # of the largest value, in double precision


class Dropped(nn.Module):
    """Stands where an auxiliary head stood."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x.new_zeros(())


def auxiliary_modules(network: nn.Module, choice: Choice, shape: ImageShape) -> list[str]:
    """The outermost modules that only auxiliary logits are made by."""
    if not choice.auxiliary:
        return []
    record = execute(bare(network), shape, training=True)
    answers = [record.number(part(record.answer, key)) for key in (choice.training, *choice.auxiliary)]
    main, *further = [record.behind(number) for number in answers if number is not None]
    alone = set().union(*further) - main
    names: list[str] = []
    for name, call in reversed(record.calls.items()):  # they end from the inside out
        if call.made and call.gave in alone and not name.startswith(tuple(f"{one}." for one in names)):
            names.append(name)
    return sorted(names)


def bare(network: nn.Module) -> nn.Module:
    """A copy that answers with all its parts."""
    made = copy.deepcopy(network)
    for key, hook in list(made._forward_hooks.items()):
        if isinstance(hook, Choice):
            del made._forward_hooks[key]
    return made


def drop(network: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        network.set_submodule(name, Dropped())


def fold(network: nn.Module) -> None:
    """Fold the branches of all modules in place; the network is at rest, for its batch-norms' statistics."""
    run_method(network)  # in place, because the network is known by what it is
    fold_children(network)


def fold_children(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        made = run_method(child)
        setattr(module, name, made)
        fold_children(made)


def run_method(module: nn.Module) -> nn.Module:
    """What a module's own method makes of it: another module, or itself in another form."""
    method = next(methods_of(module), None)
    made = method() if method is not None else None
    return made if isinstance(made, nn.Module) else module


def methods_of(module: nn.Module) -> Iterator[Any]:
    for name in METHODS:
        method = getattr(module, name, None)
        if callable(method) and not isinstance(method, nn.Module):
            required = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
            if not any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in required):
                yield method


def layers(network: nn.Module) -> int:
    """The convolutions and linear layers."""
    return sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules())


def folded(model: Model, shape: ImageShape) -> tuple[Model | None, str]:
    """A copy of a model with its branches folded, and what is to be said of it; None where there is nothing to fold.

    It is folded and compared in double precision: where the two part, or folding fails, nothing is folded.
    """
    if not any(any(methods_of(module)) for module in model.network.modules()):
        return None, ""
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = copy.deepcopy(model).eval().double()
    made, before = copy.deepcopy(whole), torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)  # of the layers that are made while folding
        with torch.no_grad():
            fold(made.network)
            apart = furthest(whole(images), made.double().eval()(images))
    except Exception as error:  # a user's code may raise anything
        return None, f"its training branches are not folded: {type(error).__name__}: {first_line(error)}"
    finally:
        torch.set_default_dtype(before)
    if not apart <= EQUAL:
        return None, f"its training branches are not folded: the answers would be {apart:.2g} apart"
    had, has = layers(whole), layers(made)
    if has >= had:
        return None, ""
    said = f"{had - has} training branches folded: {had} convolutions and linear layers are {has}"
    return made.float(), said


def furthest(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference of two models' outputs, as a share of the largest value of each."""
    pairs = zip(expected, found, strict=True)
    return max(float((one - other).abs().max() / one.abs().max().clamp_min(1e-30)) for one, other in pairs)
