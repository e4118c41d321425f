from collections.abc import Mapping

from litert_torch.quantize.quant_config import QuantConfig
from torch import Tensor, nn

class Model:
    def export(self, path: str) -> None: ...

def convert(
    module: nn.Module, *, sample_kwargs: Mapping[str, Tensor], quant_config: QuantConfig | None = None
) -> Model: ...
