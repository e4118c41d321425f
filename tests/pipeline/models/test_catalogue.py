"""The catalogue of networks, what a model makes of them, and a teacher cut into stages."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import nn
from torch.nn import functional as F
from torchvision import models

from pipeline.artifacts.weights import fit
from pipeline.models.answers import check_answers
from pipeline.models.catalogue import build, macs
from pipeline.models.cifar import NETWORKS
from pipeline.models.feature_levels import heads_of
from pipeline.models.tapped_model import Model, outputs
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

# For 100 classes and 32 pixels: parameters, millions of multiply-adds, to the digits that people quote.
COUNTED = {
    "resnet8": (83_892, 12.5),
    "resnet14": (181_108, 26.7),
    "resnet20": (278_324, 40.8),
    "resnet32": (472_756, 69.1),
    "resnet44": (667_188, 97.4),
    "resnet56": (861_620, 125.8),
    "resnet110": (1_736_564, 253.2),
    "resnet8x4": (1_233_540, 177.1),
    "resnet32x4": (7_433_860, 1083.0),
}
TORCHVISION = ("resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "efficientnet_b0")


def promised(name: str) -> list[tuple[int, int, int]]:
    """The stages at 32 pixels by the papers: widths, and where the image is halved."""
    widths = [64, 128, 256, 512, 512]
    if name.startswith("resnet"):
        widths = [64, 128, 256] if name.endswith("x4") else [16, 32, 64]
    elif name.startswith("wrn"):
        widths = [width * int(name.split("_")[2]) for width in (16, 32, 64)]
    return [(width, 32 // 2**stage, 32 // 2**stage) for stage, width in enumerate(widths)]


def parameters(name: str) -> int:
    """Counted by hand, from the papers' tables, for 100 classes."""
    if name in COUNTED:
        return COUNTED[name][0]
    if name.startswith("vgg"):
        each, inputs, total = {"vgg8": 1, "vgg13": 2}[name], 3, 512 * 100 + 100
        for width in (64, 128, 256, 512, 512):
            for _ in range(each):
                total, inputs = total + 9 * inputs * width + 2 * width, width
        return total
    depth, widen = map(int, name.split("_")[1:])
    inputs, total = 16, 9 * 3 * 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        for _ in range((depth - 4) // 6):
            shortcut = inputs * width if inputs != width else 0
            total += 9 * inputs * width + 9 * width * width + 2 * inputs + 2 * width + shortcut
            inputs = width
    return total + 2 * inputs + inputs * 100 + 100


@pytest.mark.parametrize("name", NETWORKS)
def test_network_has_the_paper_s_shapes_and_size(name: str) -> None:
    with torch.device("meta"):  # shapes alone: no arithmetic, and no memory
        network = NETWORKS[name](classes=100)
        model = Model(network, tiny.MEAN, tiny.STD, network.taps, "fc").eval()
        answer = outputs(model(torch.empty(2, 3, 32, 32)))
    assert answer.logits.shape == (2, 100)
    assert [tuple(stage.shape[1:]) for stage in answer.stages] == promised(name)
    assert answer.pooled.shape == (2, promised(name)[-1][0])
    assert sum(p.numel() for p in network.parameters()) == parameters(name)
    if name in COUNTED:
        counted = macs(network, torch.empty(3, 3, 32, 32, device="meta")) / 1e6
        assert counted == pytest.approx(COUNTED[name][1], abs=0.06 if counted < 1000 else 0.6)


def test_macs_are_counted_by_hand_and_leave_the_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, groups=1), nn.Flatten(), nn.Linear(8 * 7 * 7, 5)).train()
    assert macs(network, torch.zeros(4, 3, 16, 16)) == 8 * 3 * 9 * 49 + 8 * 49 * 5
    assert network.training


def test_model_normalises_taps_and_pools() -> None:
    model = tiny.model()
    images = tiny.pictures(5)
    with torch.no_grad():
        flat = model(images)
        found = outputs(flat)
        normal = (images - torch.tensor(tiny.MEAN)[:, None, None]) / torch.tensor(tiny.STD)[:, None, None]
        net = model.network
        first = net.layer1(F.relu(net.bn1(net.conv1(normal))))
        second = net.layer2(first)
        third = net.layer3(second)
        assert torch.allclose(found.logits, net(normal), atol=1e-5)
        assert torch.allclose(net.fc(found.pooled), found.logits, atol=1e-6)
        for mine, tap in zip((first, second, third), found.stages, strict=True):
            assert torch.allclose(mine, tap, atol=1e-5)
    assert [id(x) for x in flat] == [id(x) for x in (found.logits, found.pooled, *found.stages)]
    assert torch.allclose(found.pooled, third.mean((2, 3)), atol=1e-6)
    assert "mean" not in model.state_dict()


def test_model_leaves_no_hooks_even_when_the_network_fails() -> None:
    model = tiny.model()
    model(tiny.pictures(1))
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 5, 16, 16))
    assert not [name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]


def test_names_resolve_to_factories() -> None:
    made = build("squeezenet1_1", None, 7, {"dropout": 0.1}, "here").network
    assert made.classifier[0].p == 0.1
    assert made.classifier[1].out_channels == 7
    with pytest.raises(Refusal, match=r"here: no network named 'resnet_20'; did you mean 'resnet20'\?"):
        build("resnet_20", None, 7, {}, "here")
    with pytest.raises(Refusal, match=r"here: resnet8 does not take these arguments: .*deep"):
        build("resnet8", None, 7, {"deep": 1}, "here")


NEIGHBOUR = "from torch import nn\ndef body(): return nn.Conv2d(3, 6, 1)\n"
SOURCE = """
from torch import nn
from blocks_beside import body
def make(classes, bias=True):
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes, bias))
def number(classes): return classes
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe's folder with a factory in a file called pipeline.py."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "blocks_beside.py").write_text(NEIGHBOUR)
    (tmp_path / "pipeline.py").write_text(SOURCE)
    return tmp_path


def test_a_factory_beside_the_recipe_may_be_called_pipeline(beside: Path) -> None:
    made = build("pipeline:make", beside, 5, {"bias": False}, "here").network
    assert made[3].weight.shape == (5, 6) and made[3].bias is None  # type: ignore[index]
    check_answers(made, (3, 16, 16), (5,), "here")
    ours = importlib.import_module("pipeline")
    assert Path(ours.__path__[0]).name == "pipeline" and not hasattr(ours, "make")


def test_factories_that_give_nothing_useful_are_refused(beside: Path) -> None:
    with pytest.raises(Refusal, match=r"pipeline\.py has no function 'mak'"):
        build("pipeline:mak", beside, 5, {}, "here")
    with pytest.raises(Refusal, match=r"pipeline:number gave int; return a torch\.nn\.Module"):
        build("pipeline:number", beside, 5, {}, "here")
    (beside / "broken.py").write_text("def make(classes:\n")
    with pytest.raises(Refusal, match=r"here: .*broken\.py cannot be imported"):
        build("broken:make", beside, 5, {}, "here")
    with pytest.raises(Refusal, match="here: no_such_package cannot be imported"):
        build("no_such_package:make", None, 5, {}, "here")


def test_torchvision_s_own_weights_come_by_its_own_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real download code, with its checksum, from a hub that is a folder here."""
    torch.manual_seed(0)
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    given = models.squeezenet1_1()
    name = weights.url.rpartition("/")[2]
    torch.save(given.state_dict(), tmp_path / "made.pth")
    told = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    served = tmp_path / f"{name.split('-')[0]}-{told}.pth"
    (tmp_path / "made.pth").rename(served)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(type(weights), "url", property(lambda self: served.as_uri()))
    built = build("squeezenet1_1", None, 6, {"weights": "IMAGENET1K_V1"}, "here")
    assert built.mean == (0.485, 0.456, 0.406) and built.tensors is not None
    fitted = fit(built.network, built.tensors, heads_of(built.network, (3, 64, 64), 6), "here")
    assert fitted.new == {"classifier.1": "1000 classes, here 6"}
    assert torch.equal(built.network.features[0].weight, given.features[0].weight)  # type: ignore[index, union-attr]
    served.write_bytes(served.read_bytes() + b"x")
    shutil.rmtree(tmp_path / "home")
    with pytest.raises(Refusal, match="here: squeezenet1_1 cannot be made: invalid hash value"):
        build("squeezenet1_1", None, 6, {"weights": "IMAGENET1K_V1"}, "here")
    with pytest.raises(Refusal, match="here: squeezenet1_1 cannot be made: 'IMAGENET9K'"):
        build("squeezenet1_1", None, 6, {"weights": "IMAGENET9K"}, "here")


MADE = """
import torch
from torch import nn
def net():
    body = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(6, 4))
def plain(classes): return net()
def half(classes): return net().half()
def mixed(classes):
    made = net()
    made[0].to(torch.bfloat16)
    return made
def parallel(classes): return nn.DataParallel(net())
def normed(classes):
    made = net()
    nn.utils.weight_norm(made[0])
    return made
def scripted(classes): return torch.jit.script(net())
def inside(classes): return nn.Sequential(net()[0], torch.jit.script(net()[1:]))
"""


def test_what_a_factory_makes_is_brought_to_a_plain_network_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "made.py").write_text(MADE)
    plain = build("made:plain", tmp_path, 4, {}, "here")
    assert plain.notes == ()
    notes = {"half": ("its float16 tensors are converted to float32",), "parallel": ()}
    notes["mixed"] = ("its bfloat16 tensors are converted to float32",)
    for name, said in notes.items():
        built = build(f"made:{name}", tmp_path, 4, {}, "here")
        assert built.notes == said
        found, wanted = built.network.state_dict(), plain.network.state_dict()
        assert {key: tensor.dtype for key, tensor in found.items()} == {
            key: tensor.dtype for key, tensor in wanted.items()
        }
        check_answers(built.network, (3, 16, 16), (4,), "here")
    # Its weight is computed: with a gradient it could not be copied.
    check_answers(build("made:normed", tmp_path, 4, {}, "here").network, (3, 16, 16), (4,), "here")
    for name in ("scripted", "inside"):
        with pytest.raises(Refusal, match=f"here: made:{name} gave a network in TorchScript, .* return the"):
            build(f"made:{name}", tmp_path, 4, {}, "here")


def test_torchvision_s_tensors_from_tensorflow_come_with_their_own_normalisation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network with images in -1..1 answers as torchvision's does with its own conversion."""
    torch.manual_seed(0)
    given = models.googlenet(init_weights=False, transform_input=True).eval()
    weights = models.GoogLeNet_Weights.IMAGENET1K_V1
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: given.state_dict())
    built = build("googlenet", None, 1000, {"weights": "IMAGENET1K_V1", "init_weights": False}, "here")
    assert built.tensors is not None and built.mean is not None and built.std is not None
    fit(built.network, built.tensors, set(), "here")
    images, theirs = tiny.pictures(2, 32), weights.transforms()
    normal = lambda mean, std: (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = given(normal(theirs.mean, theirs.std))
        found = built.network.eval()(normal(built.mean, built.std))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
