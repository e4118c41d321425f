"""Where a network's features are, read from what it computes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="the networks are torch's")

from torch import Tensor, nn

from pipeline.models.catalogue import build
from pipeline.models.execution import execute
from pipeline.models.feature_levels import find_levels, heads_of
from pipeline.models.split_model import Parts
from pipeline.models.tapped_model import Levels, Model, as_map, outputs
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

BLOCKS = tuple(f"blocks.{number}" for number in range(12))
STAGES = ("stages.0", "stages.1", "stages.2", "stages")
# Network, image side: the taps, the shapes of the levels, and the heads.
TIMM: dict[str, tuple[int, tuple[str, ...], list[tuple[int, int]], set[str]]] = {
    "swin_tiny_patch4_window7_224": (
        224,
        ("layers.0", "layers.1", "layers.2", "layers"),
        [(96, 56), (192, 28), (384, 14), (768, 7)],
        {"head.fc"},
    ),
    "mobilevit_xxs": (
        64,
        ("stages.0", "stages.1", "stages.2", "stages.3", "final_conv"),
        [(16, 32), (24, 16), (48, 8), (64, 4), (320, 2)],
        {"head.fc"},
    ),
    "vit_tiny_patch16_224": (224, BLOCKS, [(192, 14)] * 12, {"head"}),
    "deit_tiny_distilled_patch16_224": (224, BLOCKS, [(192, 14)] * 12, {"head", "head_dist"}),
    "convnext_atto": (64, STAGES, [(40, 16), (80, 8), (160, 4), (320, 2)], {"head.fc"}),
    "efficientvit_b0": (
        64,
        ("stem", "stages.0", "stages.1", "stages.2", "head.in_conv"),
        [(8, 32), (16, 16), (32, 8), (64, 4), (1024, 2)],
        {"head.classifier.4"},
    ),
    "ghostnetv2_100": (
        64,
        ("blocks.0", "blocks.2", "blocks.4", "blocks.6", "blocks"),
        [(16, 32), (24, 16), (40, 8), (112, 4), (960, 2)],
        {"classifier"},
    ),
    "edgenext_xx_small": (64, STAGES, [(24, 16), (48, 8), (88, 4), (168, 2)], {"head.fc"}),
    "tiny_vit_5m_224": (
        64,
        ("patch_embed.act", *STAGES),
        [(32, 32), (64, 16), (128, 8), (160, 4), (320, 2)],
        {"head.fc"},
    ),
}
TORCHVISION: dict[str, tuple[int, tuple[str, ...], list[tuple[int, int]], set[str]]] = {
    "resnet18": (
        64,
        ("relu", "layer1", "layer2", "layer3", "layer4"),
        [(64, 32), (64, 16), (128, 8), (256, 4), (512, 2)],
        {"fc"},
    ),
    "mnasnet0_5": (
        64,
        ("layers.7", "layers.8", "layers.9", "layers.11", "layers"),
        [(8, 32), (16, 16), (24, 8), (48, 4), (1280, 2)],
        {"classifier.1"},
    ),
    "shufflenet_v2_x0_5": (
        64,
        ("conv1", "stage2", "stage3", "conv5"),
        [(24, 32), (48, 8), (96, 4), (1024, 2)],
        {"fc"},
    ),
    "squeezenet1_1": (
        64,
        ("features.1", "features.4", "features.7", "classifier.2"),
        [(64, 31), (128, 15), (256, 7), (7, 3)],
        {"classifier.1"},
    ),
    "inception_v3": (
        75,
        ("Conv2d_1a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e"),
        [(32, 37), (64, 35), (80, 17), (192, 15), (288, 7), (768, 3)],
        {"fc"},
    ),
    "swin_t": (
        64,
        ("features.1", "features.3", "features.5", "permute"),
        [(96, 16), (192, 8), (384, 4), (768, 2)],
        {"head"},
    ),
}
TWO_HEADS_OR_A_RELU = {"deit_tiny_distilled_patch16_224", "squeezenet1_1"}


@pytest.mark.parametrize("name", [*TIMM, *TORCHVISION])
def test_the_levels_are_the_outputs_of_block_groups(name: str) -> None:
    prefix = ""
    if name in TIMM:
        pytest.importorskip("timm", reason="an optional catalogue")
        prefix = "timm/"
    side, taps, shapes, heads = {**TIMM, **TORCHVISION}[name]
    arguments = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    torch.manual_seed(0)
    network = build(f"{prefix}{name}", None, 7, arguments, "here").network
    before = tiny.state(network)
    levels = find_levels(network, tiny.square(side))
    assert levels.taps == taps
    assert heads_of(network, tiny.square(side), 7) == heads
    assert tiny.same(before, tiny.state(network)) == [], "a pass in training learns"
    model = Model(network, tiny.MEAN, tiny.STD, *levels).eval()
    with torch.no_grad():
        found = outputs(model(tiny.pictures(2, side)))
    assert [(x.shape[1], x.shape[2]) for x in found.stages] == shapes
    assert all(x.ndim == 4 and x.shape[2] == x.shape[3] for x in found.stages)
    assert levels.exact == (name not in TWO_HEADS_OR_A_RELU)
    if levels.exact:
        assert {levels.head} == heads
        answer = Parts(model, model, "teacher").head(found.pooled)
        assert torch.allclose(answer, found.logits, atol=1e-4)


def test_a_transformer_that_takes_images_of_any_size_needs_no_img_size() -> None:
    pytest.importorskip("timm", reason="an optional catalogue")
    built = build("timm/tiny_vit_5m_224", None, 7, {"img_size": 64}, "here")
    assert built.notes == ("it takes images of any size: img_size is left out",)
    assert build("timm/vit_tiny_patch16_224", None, 7, {"img_size": 64}, "here").notes == ()
    with pytest.raises(Refusal, match=r"does not take these arguments: .*depht"):
        build("timm/tiny_vit_5m_224", None, 7, {"img_size": 64, "depht": 3}, "here")


class PostNorm(nn.Module):
    """A transformer of torch's own layers, whose classifier is made before its trunk."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)
        self.patches = nn.Conv2d(3, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("norm_first", [True, False])
def test_torch_s_own_encoder_has_a_level_a_block(norm_first: bool) -> None:
    torch.manual_seed(0)
    taps = tuple(f"encoder.layers.{number}" for number in range(3))
    assert find_levels(PostNorm(norm_first), (3, 16, 16)) == Levels(taps, "fc", True)


class Late(nn.Module):
    """Its head is the first layer that it makes; ``end`` is what it does with the head's answer."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.gate, self.end = nn.Linear(6, 4), nn.Linear(6, 6), end
        self.conv = nn.Conv2d(3, 6, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv(x).relu_().mean((2, 3))
        return self.end(self.head(pooled * self.gate(pooled).sigmoid()))


@pytest.mark.parametrize(
    ("end", "exact"),
    [
        (lambda y: y, True),
        (lambda y: y.unsqueeze(1).squeeze(1), True),
        (lambda y: y[:, None].flatten(1).contiguous(), True),
        (lambda y: y.log_softmax(1), False),
        (lambda y: 3 * y, False),
    ],
)
def test_the_classifier_is_what_makes_the_logits(end: Callable[[Tensor], Tensor], exact: bool) -> None:
    torch.manual_seed(0)
    network = Late(end)
    assert find_levels(network, (3, 16, 16)) == Levels(("conv",), "head", exact)
    assert heads_of(network, (3, 16, 16), 4) == {"head"}
    model = Model(network, tiny.MEAN, tiny.STD, ("conv",), "head", exact)
    if not exact:
        with pytest.raises(Refusal, match=r"teacher: .*the answer of one linear layer"):
            Parts(model, model, "teacher").head(torch.rand(2, 6))


class Written(nn.Module):
    """What is computed is written into a tensor that was made empty, and a path goes around it."""

    def __init__(self, around: bool) -> None:
        super().__init__()
        self.conv, self.inner, self.fc, self.around = (
            nn.Conv2d(3, 4, 3, 2),
            nn.Conv2d(4, 4, 1),
            nn.Linear(4, 4),
            around,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out = torch.zeros_like(x)
        out[:, :4] = self.inner(x)
        return self.fc((out + x if self.around else out).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("around", "taps"), [(True, ("conv",)), (False, ("inner",))])
def test_what_is_written_in_place_is_followed(around: bool, taps: tuple[str, ...]) -> None:
    assert find_levels(Written(around), (3, 16, 16)).taps == taps


def test_a_record_leaves_a_network_as_it_was() -> None:
    network = tiny.network().train()
    before = copy.deepcopy(tiny.state(network))
    for training in (False, True):
        record = execute(network, (3, 16, 16), training)
        assert record.answer.shape == (2, tiny.CLASSES)
    assert network.training and tiny.same(before, tiny.state(network)) == []
    assert not [m for m in network.modules() if m._forward_hooks or m._forward_pre_hooks]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 8, 4, 4), (2, 8, 4, 4)),
        ((2, 4, 4, 8), (2, 8, 4, 4)),
        ((2, 4, 4, 4), (2, 4, 4, 4)),
        ((2, 16, 8), (2, 8, 4, 4)),
        ((2, 17, 8), (2, 8, 4, 4)),
        ((2, 23, 8), (2, 8, 23, 1)),
    ],
)
def test_levels_are_maps(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    found = as_map(x)
    assert found.shape == expected
    if len(shape) == 3 and expected[3] > 1:
        assert torch.equal(found[:, :, 1, 2], x[:, shape[1] - 16 + 6])


def test_taps_of_a_network_without_any_are_found() -> None:
    stages = [
        nn.Sequential(nn.Conv2d(a, b, 3, s, 1), nn.ReLU()) for a, b, s in ((3, 4, 1), (4, 6, 2), (6, 8, 2))
    ]
    plain = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    assert find_levels(plain, (3, 16, 16)) == Levels(("1", "2"), "5", True)
    assert find_levels(nn.Sequential(stages[0], nn.AdaptiveAvgPool2d(1)), (3, 16, 16)).taps == ("0",)
    assert find_levels(tiny.network(), (3, 16, 16)).taps == ("layer1", "layer2", "layer3")
