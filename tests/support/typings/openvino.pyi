from collections.abc import Mapping

from numpy import generic
from numpy.typing import NDArray

class OVAny:
    def astype(self, kind: type[str]) -> str: ...

class Node:
    def get_rt_info(self) -> Mapping[str, OVAny]: ...
    def get_friendly_name(self) -> str: ...

class Model:
    def get_ordered_ops(self) -> list[Node]: ...

class Output:
    def get_any_name(self) -> str: ...

class InferRequest:
    def infer(self, inputs: Mapping[str, NDArray[generic]]) -> Mapping[int, NDArray[generic]]: ...

class CompiledModel:
    outputs: list[Output]
    def get_runtime_model(self) -> Model: ...
    def create_infer_request(self) -> InferRequest: ...

class Core:
    def compile_model(
        self, model: str, device_name: str, config: Mapping[str, str | int]
    ) -> CompiledModel: ...
