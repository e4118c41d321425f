"""Several processes that train one network, as torchrun starts them: each has its part of every batch.

The gradients are averaged, so a step is that of one process with the whole batch, but for what looks across a batch:
batch-norm's statistics and the losses over pairs of images see a rank's part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pipeline.compute.accelerator import accelerator
from targets.errors import Refusal


def join() -> None:
    """Meet the others that torchrun has started, if it has."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        return
    store, number, count = next(rendezvous("env://"))
    # In the store are still the addresses of those who met before a restart: they are found no more.
    own = PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    gpus, here = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if gpus and here > gpus:
        raise Refusal(
            f"--processes: {here} on a machine with {gpus} GPUs; one each, or CUDA_VISIBLE_DEVICES= for none"
        )
    if gpus:
        torch.cuda.set_device(accelerator())
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    distributed.init_process_group(backend, store=own, rank=number, world_size=count)


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def ranks() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


@torch.no_grad()
def all_reduce_mean(tensors: Iterable[Tensor | None]) -> None:
    """The mean of each tensor over all ranks, in place, by one all-reduce; every rank gives the same shapes."""
    there = [tensor for tensor in tensors if tensor is not None]
    if ranks() == 1 or not there:
        return
    flat = torch.cat([tensor.flatten() for tensor in there])
    distributed.all_reduce(flat)
    parts = torch.split(flat / ranks(), [tensor.numel() for tensor in there])
    for tensor, part in zip(there, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def broadcast_state(modules: Iterable[nn.Module]) -> None:
    """Rank 0's tensors on every rank: running statistics, ranges; and weights, as other processors may round them."""
    if ranks() > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)


def broadcast_number(value: float) -> float:
    """Rank 0's number, on every rank."""
    told = torch.tensor([value], dtype=torch.float64)
    if ranks() > 1:
        distributed.broadcast(told, 0)
    return float(told)


def broadcast_file(file: Path) -> bytes:
    """The content of rank 0's file, on every rank; nothing where it has none."""
    own = file.read_bytes() if rank() == 0 and file.exists() else b""
    size = int(broadcast_number(len(own)))
    if ranks() == 1 or not size:
        return own
    content = torch.frombuffer(bytearray(own or bytes(size)), dtype=torch.uint8)
    distributed.broadcast(content, 0)
    return content.numpy().tobytes()


def all_gather(own: Tensor) -> Tensor:
    """The rows of all ranks, (ranks · N, …) of (N, …) each, in the processor's memory."""
    together = own.new_empty(ranks() * len(own), *own.shape[1:])
    distributed.all_gather_into_tensor(together, own)
    return together
