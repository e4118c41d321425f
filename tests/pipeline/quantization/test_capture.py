"""Networks of strangers as graphs: with nothing rounded the grid answers as the network, whatever its layers are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="the graph is torch's")

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torchvision.ops import StochasticDepth

from pipeline.models.tapped_model import Model
from pipeline.quantization.grid import WeightRounding, convert
from pipeline.quantization.ptq import calibrate, prepare, prove_equal
from support import tiny
from support.tiny import one_thread  # noqa: F401  (for every test here)
from targets.errors import Refusal

Forward = Callable[[nn.Module, Tensor], Tensor]


class Network(nn.Module):
    """Two layers of a form of their own, then a classifier of four classes."""

    def __init__(self, forward: Forward, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.fc, self.body = nn.Linear(6, 4), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self, x).mean((2, 3)))  # type: ignore[no-any-return]


def conv(inputs: int = 3, outputs: int = 6, **more: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, **{"padding": 1, **more})  # type: ignore[arg-type]


def norm(**more: object) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(6, **more)  # type: ignore[arg-type]


def plain(self: nn.Module, x: Tensor) -> Tensor:
    return self.n(self.c(x)).relu()  # type: ignore[operator,no-any-return]


def twice(self: nn.Module, x: Tensor) -> Tensor:
    """Convolution and batch-norm called two times over: one weight, folded once for each call."""
    x = self.n(self.c(x)).relu()  # type: ignore[operator]
    return self.n(self.c(x)).relu()  # type: ignore[operator,no-any-return]


def two_norms(self: nn.Module, x: Tensor) -> Tensor:
    x = self.c(x)  # type: ignore[operator]
    return self.n(x).relu() + self.m(x)  # type: ignore[operator,no-any-return]


def each_its_norm(self: nn.Module, x: Tensor) -> Tensor:
    """One convolution called two times, each time behind it a batch-norm of its own."""
    x = self.n(self.c(x)).relu()  # type: ignore[operator]
    return self.m(self.c(x)).relu()  # type: ignore[operator,no-any-return]


def tied(self: nn.Module, x: Tensor) -> Tensor:
    x = F.conv2d(x, self.c.weight[:, :3], padding=1)  # type: ignore[index,union-attr]
    return self.c(x).relu()  # type: ignore[operator,no-any-return]


def at_random(self: nn.Module, x: Tensor) -> Tensor:
    return self.d(self.s(self.n(self.c(x))))  # type: ignore[operator,no-any-return]


def before(self: nn.Module, x: Tensor) -> Tensor:
    """Pre-activation: the batch-norm follows a sum and folds into nothing."""
    x = self.c(x)  # type: ignore[operator]
    return x + self.b(self.n(x).relu())  # type: ignore[operator,no-any-return]


def in_regions(self: nn.Module, x: Tensor) -> Tensor:
    """As attention that is kept in float32 and gates without gradients are written."""
    with torch.autocast("cpu", enabled=False):
        x = self.n(self.c(x))  # type: ignore[operator]
        with torch.no_grad():
            gate = x.mean((2, 3), keepdim=True)
            more = gate + 1
    return self.b(x * gate + more).relu()  # type: ignore[operator,no-any-return]


FORMS: dict[str, Callable[[], Network]] = {
    "plain": lambda: Network(plain, c=conv(), n=norm()),
    "eps and momentum of its own": lambda: Network(plain, c=conv(), n=norm(eps=1e-2, momentum=0.01)),
    "momentum = None": lambda: Network(plain, c=conv(), n=norm(momentum=None)),
    "affine = False": lambda: Network(plain, c=conv(), n=norm(affine=False)),
    "track_running_stats = False": lambda: Network(plain, c=conv(), n=norm(track_running_stats=False)),
    "called twice": lambda: Network(twice, c=conv(6), n=norm(), stem=conv()),
    "two batch-norms read one convolution": lambda: Network(two_norms, c=conv(), n=norm(), m=norm()),
    "one convolution, two batch-norms": lambda: Network(
        each_its_norm, c=conv(6), n=norm(), m=norm(), stem=conv()
    ),
    "a tied weight": lambda: Network(tied, c=conv(6)),
    "an unused parameter": lambda: Network(plain, c=conv(), n=norm(), unused=conv()),
    "old weight_norm": lambda: Network(plain, c=weight_norm(conv()), n=norm()),
    "weight_norm": lambda: Network(plain, c=parametrizations.weight_norm(conv()), n=norm()),
    "spectral_norm": lambda: Network(plain, c=spectral_norm(conv()), n=norm()),
    "grouped and without bias": lambda: Network(plain, c=conv(groups=3, bias=False), n=norm()),
    "a large epsilon": lambda: Network(plain, c=conv(), n=nn.BatchNorm2d(6, eps=0.5)),
    "padding by a word": lambda: Network(plain, c=conv(padding="same"), n=norm()),
    "transposed": lambda: Network(plain, c=nn.ConvTranspose2d(3, 6, 3, padding=1), n=norm()),
    "dropout": lambda: Network(
        at_random, c=conv(), n=norm(), d=nn.Dropout(0.5), s=StochasticDepth(0.5, "row")
    ),
    "autocast and no_grad": lambda: Network(in_regions, c=conv(), n=norm(), b=conv(6)),
    "pre-activation": lambda: Network(before, c=conv(), n=norm(), b=conv(6)),
}


def model_of(network: nn.Module) -> Model:
    if hasattr(network, "stem"):
        body, stem = network.body, network.stem
        network.body = lambda self, x: body(self, stem(x))  # type: ignore[operator]
    return Model(tiny.lively(network), tiny.MEAN, tiny.STD, ()).eval()


@pytest.mark.parametrize("form", FORMS)
def test_with_nothing_rounded_a_grid_answers_as_its_network(form: str) -> None:
    torch.manual_seed(0)
    model = model_of(FORMS[form]())
    before = tiny.state(model)
    grid = prepare(model, tiny.SHAPE)
    prove_equal(model, grid, tiny.SHAPE)
    assert tiny.same(before, tiny.state(model)) == [] and not model.training
    calibrate(grid, [tiny.pictures(16)])
    images = tiny.pictures(16, seed=1)
    with torch.no_grad():
        exact, rounded = model(images)[0], grid(images)[0]
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).abs().max()) < 0.05 * float(exact.abs().max())


def test_every_folded_batch_norm_is_gone_and_others_stay_at_rest() -> None:
    for form, left in (
        ("plain", 0),
        ("padding by a word", 0),
        ("autocast and no_grad", 0),
        ("called twice", 0),
        ("two batch-norms read one convolution", 2),
        ("pre-activation", 1),
    ):
        grid = prepare(model_of(FORMS[form]()), tiny.SHAPE)
        norms = [node for node in grid.graph.nodes if str(node.target).startswith("aten.batch_norm")]
        assert len(norms) == left, form
        assert not any(node.args[5] for node in norms), "it would go on with the statistics of a batch"


def test_a_weight_computed_from_others_is_a_constant_that_is_rounded() -> None:
    grid = prepare(model_of(FORMS["old weight_norm"]()), tiny.SHAPE)
    assert len([m for m in grid.modules() if isinstance(m, WeightRounding)]) == 2
    assert not [name for name, _ in grid.named_parameters() if name.endswith(("_g", "_v"))]


def test_a_graph_that_answers_otherwise_is_refused() -> None:
    """Python that runs once while it is captured, and again in each call of the network."""

    def counting(self: nn.Module, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1  # type: ignore[assignment]
        return self.c(x) * self.calls  # type: ignore[operator,no-any-return]

    model = model_of(Network(counting, c=conv()))
    grid = prepare(model, tiny.SHAPE)
    for _ in range(3):
        model(tiny.pictures(2))
    with pytest.raises(Refusal, match=r"the captured graph answers .* apart from the network"):
        prove_equal(model, grid, tiny.SHAPE)


def into_a_slice(self: nn.Module, x: Tensor) -> Tensor:
    y = self.c(x)  # type: ignore[operator]
    y[:, :3] += x
    return self.d(y)  # type: ignore[operator,no-any-return]


def into_a_view(self: nn.Module, x: Tensor) -> Tensor:
    y = self.c(x)  # type: ignore[operator]
    y.flatten(2)[:, 3:].mul_(2)
    return self.d(y)  # type: ignore[operator,no-any-return]


def into_itself(self: nn.Module, x: Tensor) -> Tensor:
    x = F.dropout(x, 0.2, self.training, inplace=True)
    y = self.c(x).relu_()  # type: ignore[operator]
    left, right = y[:, :3], y[:, 3:]
    return self.d(torch.cat([left.add_(x), right.mul_(2)], 1))  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize("body", [into_a_slice, into_a_view])
def test_a_write_into_a_part_of_a_rounded_tensor_that_is_read_again_is_refused(body: Forward) -> None:
    """Each reader has a rounded copy of its own, so the exported file would answer otherwise than the grid."""
    model = model_of(Network(body, c=conv(), d=conv(6)))
    grid = prepare(model, tiny.SHAPE)
    with pytest.raises(Refusal, match="writes in place into a part of a tensor"):
        prove_equal(model, grid, tiny.SHAPE)


def test_a_write_that_only_its_result_s_readers_see_is_kept_by_the_exported_graph() -> None:
    torch.manual_seed(0)
    model = model_of(Network(into_itself, c=conv(), d=conv(6)))
    grid = prepare(model, tiny.SHAPE)
    prove_equal(model, grid, tiny.SHAPE)
    calibrate(grid, [tiny.pictures(16)])
    with torch.no_grad():
        expected, found = grid(tiny.pictures(8))[0], convert(grid)(tiny.pictures(8))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_convolution_with_a_fixed_kernel_is_converted() -> None:
    """A blur: its weight is a buffer."""

    def blurred(self: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(self.c(x).relu(), self.kernel, groups=6)  # type: ignore[operator,arg-type]

    network = Network(blurred, c=conv())
    network.register_buffer("kernel", torch.full((6, 1, 3, 3), 1 / 9))
    grid = prepare(model_of(network), tiny.SHAPE)
    calibrate(grid, [tiny.pictures(16)])
    with torch.no_grad():
        expected, found = grid(tiny.pictures(8))[0], convert(grid)(tiny.pictures(8))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
