"""Writing a model as one LiteRT file: one image at a time, normalisation inside; the converter is litert-torch."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from targets.errors import Unmeasurable
from targets.spec.contract import Contract

if TYPE_CHECKING:
    from litert_torch.quantize.quant_config import QuantConfig


class Named(nn.Module):
    """The same answers under their name, which the file takes over."""

    def __init__(self, deployed: nn.Module) -> None:
        super().__init__()
        self.deployed = deployed

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.deployed(images)}


def write(deployed: nn.Module, contract: Contract, int8: bool, path: Path) -> None:
    """A graph in int8 still holds its weights' rounding: the converter folds it. Raises Unmeasurable without it."""
    try:
        with quietly():
            import litert_torch
    except ModuleNotFoundError as error:
        raise Unmeasurable(f"export: {error}; pip install 'retort[litert]'") from None
    images = torch.from_numpy(contract.prepare(contract.black(1)))
    with quietly():
        made = litert_torch.convert(
            Named(deployed),
            sample_kwargs={contract.input: images},
            quant_config=fused() if int8 else None,
        )
        made.export(str(path))


def fused() -> QuantConfig:
    """Says that int8 stands in the graph already, for the whole of a convolution; without it nothing is fused."""
    from litert_torch.quantize import pt2e_quantizer, quant_config

    static = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return quant_config.QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(static))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the converter's progress, part of which its C++ writes to the process's own stderr."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 2)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
