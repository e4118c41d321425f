"""The catalogue of networks: CIFAR's classics, torchvision's, timm's, and a user's own factories.

A recipe names ``resnet20`` (ours), ``resnet50`` (torchvision's), ``timm/NAME`` or ``module:factory``. What a network
brings with it besides its layers, trained tensors and the normalisation that these were trained with, comes in
``Built``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
# Torchvision's tensors of these come from TensorFlow, with images in -1..1: their forward would convert them.
TO_MINUS_ONE = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Built:
    """A network, and what came with it: tensors that are still to be fitted to it, and their normalisation."""

    network: nn.Module
    tensors: Mapping[str, Tensor] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    notes: tuple[str, ...] = ()  # what was changed of it, for the terminal


def torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def timm_names() -> list[str]:
    try:
        import timm
    except ImportError:
        return []
    return [f"{TIMM}{name}" for name in timm.list_models()]


def of_torchvision(name: str, classes: int, arguments: Mapping[str, Any], channels: int) -> Built:
    """``weights = "IMAGENET1K_V1"`` among the arguments is downloaded by torchvision, with its checksum."""
    from torchvision import models

    if channels != 3:
        raise ValueError(
            f"torchvision's networks take 3 channels, not {channels}; give timm/NAME or a factory"
        )
    rest = {key: value for key, value in arguments.items() if key != "weights"}
    network = models.get_model(name, num_classes=classes, **rest)
    if arguments.get("weights") is None:
        return Built(network)
    weights = models.get_model_weights(name)[arguments["weights"]]
    tensors = weights.get_state_dict(progress=False, check_hash=True)
    if name in TO_MINUS_ONE and not arguments.get("transform_input"):
        return Built(network, tensors, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    normalise = weights.transforms()
    return Built(network, tensors, triple(normalise.mean), triple(normalise.std))


def of_timm(name: str, classes: int, arguments: Mapping[str, Any], channels: int) -> Built:
    """``pretrained = true`` among the arguments is downloaded by timm, which makes the head anew."""
    import timm

    plain = name.removeprefix(TIMM)
    if channels != 3:
        arguments = {"in_chans": channels, **arguments}
    notes: tuple[str, ...] = ()
    try:
        network = timm.create_model(plain, num_classes=classes, **arguments)
    except TypeError as error:
        if "img_size" not in arguments or "img_size" not in str(error):
            raise
        rest = {key: value for key, value in arguments.items() if key != "img_size"}
        network = timm.create_model(plain, num_classes=classes, **rest)
        notes = ("it takes images of any size: img_size is left out",)
    known = network.pretrained_cfg if arguments.get("pretrained") else {}
    return Built(network, None, triple(known.get("mean")), triple(known.get("std")), notes)


def triple(values: Sequence[float] | None) -> Triple | None:
    return (float(values[0]), float(values[1]), float(values[2])) if values is not None else None


Source = Callable[[str, int, Mapping[str, Any], int], Built]
SOURCES: dict[str, Source] = {"torchvision": of_torchvision, "timm": of_timm}
NAMES: dict[str, Callable[[], list[str]]] = {"torchvision": torchvision_names, "timm": timm_names}


def source_of(name: str, where: str) -> Source:
    """Whose catalogue a name is of. Raises Refusal with the nearest name that there is."""
    owner = "timm" if name.startswith(TIMM) else "torchvision"
    if name not in NAMES[owner]():
        raise unknown("network", name, [*NETWORKS, *torchvision_names(), *timm_names()], where)
    return SOURCES[owner]


def build(
    name: str, code: Path | None, classes: int, arguments: Mapping[str, Any], where: str, channels: int = 3
) -> Built:
    """The network of a name, made with the recipe's arguments; ``code`` is the folder of a user's files.

    ``channels`` of the images: a factory of a user's gets them where they are not three and it has a name for them.

    Raises Refusal.
    """
    try:
        if is_factory(name):
            factory = load_factory(name, code, where)
            with (
                torch.no_grad()
            ):  # a weight that is computed (old weight_norm) could not be copied with its gradient
                return given(call_factory(factory, classes, arguments, channels), name, where)
        if name in NETWORKS:
            return Built(NETWORKS[name](classes=classes, channels=channels, **arguments))
        return source_of(name, where)(name, classes, arguments, channels)
    except TypeError as error:
        raise Refusal(f"{where}: {name} does not take these arguments: {first_line(error)}") from None
    except (ValueError, RuntimeError, KeyError) as error:
        raise Refusal(f"{where}: {name} cannot be made: {first_line(error)}") from None
    except OSError as error:  # urllib's too
        raise Refusal(f"{where}: {name}: its weights could not be downloaded: {first_line(error)}") from None


def given(made: object, name: str, where: str) -> Built:
    """What a user's factory made, as a network that can be trained. Raises Refusal."""
    if isinstance(made, nn.DataParallel):
        made = made.module
    if not isinstance(made, nn.Module):
        raise Refusal(f"{where}: {name} gave {type(made).__name__}; return a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in made.modules()):
        raise Refusal(
            f"{where}: {name} gave a network in TorchScript, which cannot be captured; return the torch.nn.Module"
            " itself: no torch.jit.script, trace or load"
        )
    kinds = {tensor.dtype for tensor in made.state_dict().values() if tensor.is_floating_point()}
    if kinds <= {torch.float32}:
        return Built(made)
    other = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}))
    return Built(made.float(), notes=(f"its {other} tensors are converted to float32",))


def macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was_training)
    return int(counter.get_total_flops()) // 2 // len(image)
