from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch_pruning.importance import Importance

class BasePruner:
    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        importance: Importance,
        *,
        global_pruning: bool = False,
        pruning_ratio: float = 0.5,
        iterative_steps: int = 1,
        round_to: int | None = None,
        ignored_layers: Sequence[nn.Module] | None = None,
        in_channel_groups: Mapping[nn.Module, int] = ...,
        out_channel_groups: Mapping[nn.Module, int] = ...,
    ) -> None: ...
    def step(self) -> None: ...
