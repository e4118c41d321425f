"""The GPU's side of training, as far as a machine without one can tell: tensors that have a device and no memory.

torch's fake tensors refuse two devices in one operation, and to tell a value that only a GPU would know; tensors on
``meta`` carry a whole step, with its backward pass and its optimiser, the same way.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training is torch's")

from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from pipeline.compute import accelerator
from pipeline.data import batches
from pipeline.data.batches import Epoch, training_batches
from pipeline.data.decoded import Decoded
from pipeline.losses import LOSSES, bind_losses
from pipeline.losses.step import Step
from pipeline.models.tapped_model import outputs
from pipeline.recipe.schema import Loss
from pipeline.schemes.base import Scheme
from pipeline.schemes.offline import Guide, Offline
from pipeline.schemes.supervised import Supervised
from pipeline.training import loop
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)

GPU, META = torch.device("cuda"), torch.device("meta")
# A number that decides how the step goes on: how many classes there are in it, which routes live, whether an
# assignment is due. For these the processor waits for the GPU.
WAITS = {"category", "crd", "mgd", "projection", "unix"}
TELLS = DataDependentOutputException, DynamicOutputShapeException


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"))


def faked(module: nn.Module) -> None:
    """Its tensors as fake ones on the GPU."""
    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)
                part._parameters[name] = nn.Parameter(fake, tensor.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU)


def on_the_gpu(name: str) -> Tensor:
    """A loss of the catalogue for a step whose tensors are all there."""
    student, teacher = tiny.model(seed=1), tiny.teacher_for(name)
    loss = tiny.bound(name, student, teacher)
    with FakeTensorMode():
        for module in (student.train(), teacher, loss):
            if isinstance(module, nn.Module):
                faked(module)
        images = torch.rand(6, 3, tiny.SIDE, tiny.SIDE, device=GPU)
        labels = torch.zeros(6, dtype=torch.int64, device=GPU)
        networks = tiny.parts(student), tiny.parts(teacher)
        says = outputs(student(images))
        return loss(Step(images, labels, labels, says, *networks, 0.5, torch.Generator()))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - WAITS))
def test_a_loss_is_computed_where_the_step_is_and_nobody_waits_for_it(name: str) -> None:
    assert on_the_gpu(name).device.type == "cuda"


@pytest.mark.parametrize("name", sorted(WAITS))
def test_the_losses_that_wait_are_known(name: str) -> None:
    with pytest.raises(TELLS):
        on_the_gpu(name)


def distilled() -> Scheme:
    student, teacher = tiny.model(tiny.NARROW, seed=1), tiny.model(tiny.WIDE, seed=2)
    lines = [Loss(name=name) for name in ("fitnet", "kd", "srkd", "reviewkd")]
    terms = bind_losses(lines, tiny.shapes_of(student, teacher), "here")
    return Offline(tiny.parts(student), [Guide(tiny.parts(teacher), terms, 1.0)], tiny.labels(0.0, 0.5))


SCHEMES: dict[str, Any] = {
    "supervised": lambda: Supervised(tiny.model(seed=1), tiny.labels(0.1)),
    "distilled": distilled,
}


def stepped(
    scheme: Scheme, data: Decoded, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[loop.Run, list[Tensor]]:
    """An epoch's steps on tensors without memory, and their losses."""
    monkeypatch.setattr(loop, "accelerator", lambda: META)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    run = loop.Run(scheme, data, tiny.training(batch=8, **settings), folder / "run.pt")
    shown = training_batches(run.pixels, run.indices, run.settings.batch, run.settings, Epoch(0, 0, 0))
    return run, [run.step(batch, 0.5, torch.Generator()) for batch in shown]


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_a_step_is_taken_on_the_device_and_nobody_waits_for_it(
    data: Decoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, near: bool
) -> None:
    monkeypatch.setattr(batches, "spare", lambda device: (1 << 40) * near)
    more = {"cutout": 3, "mixup": 0.5, "ema": 0.9}
    run, losses = stepped(SCHEMES[name](), data, tmp_path, monkeypatch, **more)
    assert len(losses) == 3 and all(loss.device == META for loss in losses)
    for module in run.modules():
        assert all(tensor.device == META for tensor in module.state_dict().values())


def test_without_a_gpu_it_is_the_processor() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert accelerator.accelerator() == accelerator.PROCESSOR
    assert accelerator.spare(accelerator.PROCESSOR) == 0
    assert accelerator.precision_of(accelerator.PROCESSOR) in ("bfloat16", "float32")
