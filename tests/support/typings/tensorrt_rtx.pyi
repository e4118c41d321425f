import enum

import tensorrt
from tensorrt import ILogger as ILogger
from tensorrt import INetworkDefinition, IOptimizationProfile
from tensorrt import OnnxParser as OnnxParser
from tensorrt import ParserError as ParserError

class ComputeCapability(enum.Enum):
    SM86 = 86

class IBuilderConfig(tensorrt.IBuilderConfig):
    num_compute_capabilities: int
    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool: ...

class Builder:
    def __init__(self, logger: ILogger) -> None: ...
    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None: ...
