"""The catalogue of networks: CIFAR's classics, torchvision's, timm's, and a user's own factories.

A recipe names ``resnet20`` (ours), ``resnet50`` (torchvision's), ``timm/NAME`` or ``module:factory``. What a network
brings with it besides its layers, trained tensors and the normalisation that these were trained with, comes in
``Built``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.cifar import NETWORKS
from pipeline.models.names import TIMM
from pipeline.user_code import call_factory, is_factory, load_factory
from targets.errors import Refusal, first_line, unknown

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Built:
    """A network, and what came with it: tensors that are still to be fitted to it, and their normalisation."""

    network: nn.Module
    tensors: Mapping[str, Tensor] | None = None
    mean: Triple | None = None
    std: Triple | None = None


def torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def timm_names() -> list[str]:
    try:
        import timm
    except ImportError:
        return []
    return [f"{TIMM}{name}" for name in timm.list_models()]


def of_torchvision(name: str, classes: int, arguments: Mapping[str, Any]) -> Built:
    """``weights = "IMAGENET1K_V1"`` among the arguments is downloaded by torchvision, with its checksum."""
    from torchvision import models

    rest = {key: value for key, value in arguments.items() if key != "weights"}
    network = models.get_model(name, num_classes=classes, **rest)
    if arguments.get("weights") is None:
        return Built(network)
    weights = models.get_model_weights(name)[arguments["weights"]]
    tensors = weights.get_state_dict(progress=False, check_hash=True)
    normalise = weights.transforms()
    return Built(network, tensors, triple(normalise.mean), triple(normalise.std))


def of_timm(name: str, classes: int, arguments: Mapping[str, Any]) -> Built:
    """``pretrained = true`` among the arguments is downloaded by timm, which makes the head anew."""
    import timm

    network = timm.create_model(name.removeprefix(TIMM), num_classes=classes, **arguments)
    known = network.pretrained_cfg if arguments.get("pretrained") else {}
    return Built(network, None, triple(known.get("mean")), triple(known.get("std")))


def triple(values: Any) -> Triple | None:
    return (float(values[0]), float(values[1]), float(values[2])) if values is not None else None


Source = Callable[[str, int, Mapping[str, Any]], Built]
SOURCES: dict[str, Source] = {"torchvision": of_torchvision, "timm": of_timm}
NAMES: dict[str, Callable[[], list[str]]] = {"torchvision": torchvision_names, "timm": timm_names}


def source_of(name: str, where: str) -> Source:
    """Whose catalogue a name is of. Raises Refusal with the nearest name that there is."""
    owner = "timm" if name.startswith(TIMM) else "torchvision"
    if name not in NAMES[owner]():
        raise unknown("network", name, [*NETWORKS, *torchvision_names(), *timm_names()], where)
    return SOURCES[owner]


def build(name: str, code: Path | None, classes: int, arguments: Mapping[str, Any], where: str) -> Built:
    """The network of a name, made with the recipe's arguments; ``code`` is the folder of a user's files.

    Raises Refusal.
    """
    try:
        if is_factory(name):
            made = call_factory(load_factory(name, code, where), classes, arguments)
            if not isinstance(made, nn.Module):
                raise Refusal(f"{where}: {name} gave {type(made).__name__}; return a torch.nn.Module")
            return Built(made)
        if name in NETWORKS:
            return Built(NETWORKS[name](classes=classes, **arguments))
        return source_of(name, where)(name, classes, arguments)
    except TypeError as error:
        raise Refusal(f"{where}: {name} does not take these arguments: {first_line(error)}") from None
    except (ValueError, RuntimeError, KeyError) as error:
        raise Refusal(f"{where}: {name} cannot be made: {first_line(error)}") from None
    except OSError as error:  # urllib's too
        raise Refusal(f"{where}: {name}: its weights could not be downloaded: {first_line(error)}") from None


def macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was_training)
    return int(counter.get_total_flops()) // 2 // len(image)
