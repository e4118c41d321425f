"""TensorRT, as JetPack brings it (10.x), or 11: the engine is built on the device itself and runs nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

import numpy as np

from ..environment import environment
from ..files import atomic_write, cache_folder
from . import Arrays, Runtime, Session
from .cuda import Buffer, Cuda
from .trtexec import figures

WORKSPACE_BYTES = 1 << 30


def missing() -> str | None:
    try:
        import tensorrt  # noqa: F401

        Cuda()
    except (ImportError, OSError, AttributeError) as error:
        return f"TensorRT cannot be used ({error}); run on a Jetson with JetPack 6.1 or newer"
    return None


def simulated() -> bool:
    """Whether this is a stand-in for TensorRT, as tests use; nothing that it says is a measurement."""
    import tensorrt

    return bool(getattr(tensorrt, "SIMULATED", False))


def build(model: str, options: dict[str, Any], engine: str) -> dict[str, Any]:
    """Let TensorRT choose kernels by timing them here; minutes, on a small board, or a copy where that is kept."""
    import tensorrt as trt

    check_version(str(trt.__version__), options["tensorrt"])
    kept = cached(model, options, str(trt.__version__)) if options["engine_cache"] else None
    if kept is not None and os.path.exists(kept):
        shutil.copyfile(kept, engine)
    else:
        compile_engine(model, options, engine)
    if kept is not None and not os.path.exists(kept):
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        with open(engine, "rb") as made, atomic_write(kept) as file:
            shutil.copyfileobj(made, file)
    return {
        "engine_bytes": os.path.getsize(engine),
        "tensorrt": str(trt.__version__),
        "simulated": simulated(),
    }


def check_version(found: str, wanted: str) -> None:
    """Raises ValueError where the file was made for another major version: their rules and flags differ."""
    if found.split(".")[0] != wanted.split(".")[0]:
        raise ValueError(
            'this device has TensorRT %s, the profile is for %s; set tensorrt = "..." in it' % (found, wanted)
        )


def cached(model: str, options: dict[str, Any], version: str) -> str:
    """Where the engine is kept: by the file, how it is built, TensorRT, the board and its power mode."""
    with open(model, "rb") as file:
        digest = hashlib.sha256(file.read())
    board = {
        key: value for key, value in environment().items() if key in ("machine", "board", "power_mode", "cpu")
    }
    digest.update(json.dumps([options, version, board], sort_keys=True).encode())
    return os.path.join(cache_folder(), "engines", digest.hexdigest() + ".engine")


def compile_engine(model: str, options: dict[str, Any], engine: str) -> None:
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    with open(model, "rb") as file:
        if not parser.parse(file.read()):
            raise ValueError(f"TensorRT cannot parse {model}: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for flag in flags(options["precision"]):
        if hasattr(trt.BuilderFlag, flag):  # 11 has none: it builds what the graph's own types say
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if options["precision"] == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)
    images = network.get_input(0)
    shape = (options["batch"],) + tuple(images.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(f"TensorRT built no engine from {model}; its log, above, says why")
    with open(engine, "wb") as file:
        file.write(plan)


def flags(precision: str) -> list[str]:
    """fp16 beside int8: what is not quantized runs in what the GPU is good at."""
    return {"float32": [], "native": ["FP16"], "int8": ["INT8", "FP16"]}[precision]


def load(engine: str, options: dict[str, Any]) -> Session:
    import tensorrt as trt

    cuda = Cuda()
    with open(engine, "rb") as file:
        plan = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(file.read())
    context, stream = plan.create_execution_context(), cuda.stream()
    names = [plan.get_tensor_name(index) for index in range(plan.num_io_tensors)]
    inputs = [name for name in names if plan.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    buffers: dict[str, Buffer] = {}

    def bind(name: str, bytes_needed: int) -> Buffer:
        if name not in buffers or buffers[name].size < bytes_needed:
            buffers[name] = cuda.buffer(bytes_needed)
            context.set_tensor_address(name, buffers[name].address)
        return buffers[name]

    def run(arrays: Arrays) -> Arrays:
        count = len(next(iter(arrays.values())))
        for name in inputs:
            padded = fill(arrays[name], options["batch"])
            context.set_input_shape(name, padded.shape)
            bind(name, padded.nbytes).upload(padded, stream)
        outputs = {}
        for name in names:
            if name not in inputs:
                kind = trt.nptype(plan.get_tensor_dtype(name))
                outputs[name] = np.empty(tuple(context.get_tensor_shape(name)), kind)
                bind(name, outputs[name].nbytes)
        if not context.execute_async_v3(stream.handle):
            raise RuntimeError("TensorRT could not run the engine; its log says why")
        for name, array in outputs.items():
            buffers[name].download(array, stream)
        stream.wait()
        return {name: array[:count] for name, array in outputs.items()}

    return run


def fill(batch: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The engine takes full batches: the last one is filled up with copies of its last image."""
    lacking = size - len(batch)
    return np.ascontiguousarray(
        np.concatenate([batch, np.repeat(batch[-1:], lacking, 0)]) if lacking else batch
    )


BACKEND = Runtime(
    name="tensorrt",
    files=("onnx",),
    precisions=("float32", "native", "int8"),
    missing=missing,
    build=build,
    load=load,
    vendor=figures,
    lowering="tensorrt",
    options=("tensorrt", "engine_cache"),
    builds_there=True,
)
