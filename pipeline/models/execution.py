"""One pass of a network, recorded: which value was made from which, and which module gave it.

A value is a tensor at a moment: an operator that writes in place makes a new value. What can be told from names or
from the order in which modules were made would be a guess; the record says what the network computes.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.data.decoded import ImageShape

LAYERS = (nn.Conv2d, nn.Linear)
IMAGES = 2  # in the batch of a recorded pass


@dataclass(frozen=True)
class Call:
    """The last call of a module: how many values there were before it, which one it took and which it gave.

    None stands for what is no tensor.
    """

    name: str
    module: nn.Module
    begin: int
    took: int | None
    gave: int | None

    @property
    def made(self) -> bool:
        """Whether it made what it gave; an identity hands on what was there."""
        return self.gave is not None and self.gave >= self.begin


class Execution(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The values of a pass in the order in which they were made; value 0 is the image."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: list[Tensor] = []  # kept, so that no id and no memory is given twice
        self.sources: list[set[int]] = []
        self.calls: dict[str, Call] = {}  # in the order in which they ended
        self.numbers: dict[int, int] = {}  # of a tensor's present value, by its id
        self.views: dict[int, set[int]] = defaultdict(set)  # the numbers that lie in one memory
        self.add(images, set())
        hooks = [
            hook for name, module in network.named_modules() if name for hook in self.watch(name, module)
        ]
        try:
            with torch.no_grad(), self:
                self.answer = network(images)
        finally:
            for hook in hooks:
                hook.remove()

    def watch(self, name: str, module: nn.Module) -> Iterator[Any]:
        begun: list[tuple[int, int | None]] = []

        def before(module: nn.Module, args: Any) -> None:
            begun.append((len(self.values), self.number(args[0] if args else None)))

        def after(module: nn.Module, args: Any, out: Any) -> None:
            self.calls.pop(name, None)
            self.calls[name] = Call(name, module, *begun.pop(), self.number(out))

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
        read = {self.numbers[id(tensor)] for tensor in given if id(tensor) in self.numbers}
        name = func.overloadpacket.__name__
        if name.startswith("new_") or name.endswith("_like"):  # they read a shape, and no number
            read = set()
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                written = any(tensor is one for one in given)
                self.add(tensor, read)
                if written:
                    self.spread(tensor)
        return out

    def add(self, tensor: Tensor, sources: set[int]) -> None:
        self.numbers[id(tensor)] = len(self.values)
        self.views[tensor.untyped_storage()._cdata].add(len(self.values))
        self.values.append(tensor)
        self.sources.append(set(sources))

    def spread(self, written: Tensor) -> None:
        """What shares its memory with a tensor that was written to has changed with it."""
        for number in sorted(self.views[written.untyped_storage()._cdata]):
            other = self.values[number]
            if other is not written and self.numbers[id(other)] == number:
                self.add(other, {number, self.numbers[id(written)]})

    def number(self, tensor: Any) -> int | None:
        return self.numbers.get(id(tensor))

    def behind(self, value: int, stop: Mapping[int, Any] | None = None) -> set[int]:
        """The values that a value was made from, itself included; not what lies behind those of ``stop``."""
        found, todo = {value}, [value]
        while todo:
            number = todo.pop()
            if stop is None or number not in stop:
                new = self.sources[number] - found
                found |= new
                todo += new
        return found

    def on_the_way(self, end: int) -> list[int]:
        """The values that depend on the image and that a value depends on, in order."""
        ahead = {0}
        for number, sources in enumerate(self.sources):
            if sources & ahead:
                ahead.add(number)
        return sorted(self.behind(end) & ahead)

    def trunk(self, end: int) -> list[int]:
        """The values that every path from the image to a value passes: only there a network can be cut in two."""
        way = self.on_the_way(end)
        last_reader: dict[int, int] = {}
        for number in way:
            for source in self.sources[number]:
                last_reader[source] = number
        found, furthest = [], 0
        for number in way:
            if furthest <= number:
                found.append(number)
            furthest = max(furthest, last_reader.get(number, 0))
        return found

    def heads(self, value: int) -> list[Call]:
        """The layers nearest to a value on all paths back from it, in the order in which they ran."""
        layers = {
            call.gave: call
            for call in self.calls.values()
            if isinstance(call.module, LAYERS) and call.gave is not None
        }
        return [layers[number] for number in sorted(self.behind(value, layers)) if number in layers]

    def head_names(self, answer: Tensor) -> set[str]:
        """The names of the heads of an answer of the network."""
        number = self.number(answer)
        return {head.name for head in self.heads(number)} if number is not None else set()


def execute(network: nn.Module, shape: ImageShape, training: bool = False) -> Execution:
    """The record of two images of noise; of a training pass on a copy, because its batch-norms learn."""
    was_training = network.training
    subject = copy.deepcopy(network) if training else network
    images = torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    try:
        return Execution(subject.train(training), images.to(next(network.parameters()).device))
    finally:
        network.train(was_training)
