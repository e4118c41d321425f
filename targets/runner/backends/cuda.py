"""As much of CUDA's runtime as one session needs: memory, copies and a stream, through ctypes.

JetPack has the library and TensorRT's Python package, but no Python package for CUDA: nothing to install.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

LIBRARIES = ("libcudart.so", "libcudart.so.12", "libcudart.so.13", "/usr/local/cuda/lib64/libcudart.so")
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2


class Cuda:
    """The loaded library. Raises OSError when there is none."""

    def __init__(self) -> None:
        failures = []
        for name in LIBRARIES:
            try:
                self.library = ctypes.CDLL(name)
                return
            except OSError as error:
                failures.append(str(error))
        raise OSError(f"no CUDA runtime: {failures[0]}")

    def call(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        if status != 0:
            raise RuntimeError(f"{function} failed with CUDA error {status}")

    def stream(self) -> Stream:
        handle = ctypes.c_void_p()
        self.call("cudaStreamCreate", ctypes.byref(handle))
        return Stream(self, handle.value or 0)

    def buffer(self, size: int) -> Buffer:
        address = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return Buffer(self, address.value or 0, size)


class Stream:
    def __init__(self, cuda: Cuda, handle: int) -> None:
        self.cuda, self.handle = cuda, handle

    def wait(self) -> None:
        self.cuda.call("cudaStreamSynchronize", ctypes.c_void_p(self.handle))


class Buffer:
    """Memory on the device, for as long as this process lives."""

    def __init__(self, cuda: Cuda, address: int, size: int) -> None:
        self.cuda, self.address, self.size = cuda, address, size

    def copy(self, to: int, source: int, array: np.ndarray[Any, Any], way: int, stream: Stream) -> None:
        self.cuda.call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_int(way),
            ctypes.c_void_p(stream.handle),
        )

    def upload(self, array: np.ndarray[Any, Any], stream: Stream) -> None:
        self.copy(self.address, array.ctypes.data, array, HOST_TO_DEVICE, stream)

    def download(self, array: np.ndarray[Any, Any], stream: Stream) -> None:
        self.copy(array.ctypes.data, self.address, array, DEVICE_TO_HOST, stream)
