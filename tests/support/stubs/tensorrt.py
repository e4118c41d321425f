"""A stand-in for TensorRT's Python package, for tests: ONNX Runtime answers, over memory of ``cudart.c``.

It is marked SIMULATED, and nothing that it says can pass a gate. It takes the calls that the runner makes, in the
order that TensorRT wants them, and refuses those that 10.3 refuses, or 11 where STUB_TENSORRT says so.
"""

from __future__ import annotations

import ctypes
import os
from enum import Enum

import numpy as np
import onnx
import onnxruntime

SIMULATED = True
OLD = os.environ.get("STUB_TENSORRT", "10.3.0").startswith("10.")
__version__ = "10.3.0" if OLD else "11.0.0"
# 11 builds what the graph's own types say: there is no flag for a precision any more.
BuilderFlag = Enum("BuilderFlag", ["FP16", "INT8", "TF32"] if OLD else ["TF32"])


class MemoryPoolType(Enum):
    WORKSPACE = 0


class TensorIOMode(Enum):
    INPUT, OUTPUT = range(2)


class Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        self.severity = severity


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


class Network:
    data = b""

    def get_input(self, index: int) -> Tensor:
        return Tensor(onnx.load_from_string(self.data).graph.input[index])


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[Profile] = []

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE and size > 0

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return 0


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_shape(
        self, name: str, low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]
    ) -> None:
        assert low == best == high and min(low) > 0
        self.shapes[name] = best


class Builder:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        quantized = any(n.op_type == "QuantizeLinear" for n in onnx.load_from_string(network.data).graph.node)
        if not config.profiles or (OLD and quantized and BuilderFlag.INT8 not in config.flags):
            return None  # as 10.3: no profile for an open batch, or Q/DQ without the flag
        with open(os.path.join(os.environ["HOME"], "built"), "a") as log:  # tests count the builds
            log.write("engine\n")
        return network.data


class OnnxParser:
    def __init__(self, network: Network, logger: Logger) -> None:
        self.network, self.error = network, ""

    def parse(self, data: bytes) -> bool:
        kinds = {tensor.data_type for tensor in onnx.load_from_string(data).graph.initializer}
        if onnx.TensorProto.UINT8 in kinds:
            self.error = "UINT8 is not supported"
            return False
        self.network.data = data
        return True

    def get_error(self, index: int) -> str:
        return self.error


class Runtime:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(plan)


class Engine:
    def __init__(self, plan: bytes) -> None:
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.num_io_tensors = len(self.inputs + self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return (self.inputs + self.outputs)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> type[np.float32]:
        return np.float32

    def create_execution_context(self) -> Context:
        return Context(self)


def nptype(kind: type[np.float32]) -> type[np.float32]:
    return kind


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        (value,) = (output for output in self.engine.session.get_outputs() if output.name == name)
        batch = next(iter(self.shapes.values()))[0]
        return (batch, *value.shape[1:])

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        floats = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(floats, shape)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream, "a stream is given"
        inputs = {name: self.array(name, shape).copy() for name, shape in self.shapes.items()}
        names = self.engine.outputs
        for name, answer in zip(names, self.engine.session.run(names, inputs), strict=True):
            self.array(name, answer.shape)[...] = answer
        return True
