import enum

import tensorrt
from tensorrt import ILogger as ILogger
from tensorrt import OnnxParser as OnnxParser
from tensorrt import ParserError as ParserError

class ComputeCapability(enum.Enum):
    SM86 = 86

class IBuilderConfig(tensorrt.IBuilderConfig):
    num_compute_capabilities: int
    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool: ...

class Builder(tensorrt.Builder):
    def create_builder_config(self) -> IBuilderConfig: ...
