"""The step of every rounded tensor, from what it holds on calibration images: no training, no labels, no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.convert.graph import with_outputs
from targets.convert.grid import STEPS
from targets.errors import Refusal, Unmeasurable
from targets.quantize.exchange import exchange
from targets.quantize.histogram import LIMITS, Histogram
from targets.runner.backends.ort import session_options
from targets.spec.contract import Contract
from targets.tasks import TASKS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PATIENCE_S = 900  # as a profile's, whose default it is
ALL_CORES = 0  # as ONNX Runtime counts threads


def histograms(
    model: onnx.ModelProto, names: Sequence[str], fed: Iterable[NDArray[Any]], contract: Contract
) -> dict[str, Histogram]:
    """What each named tensor holds, an image at a time. Raises Refusal for what is not a number."""
    run, found = session(with_outputs(model, names)), {name: Histogram() for name in names}
    asked = [name for name in names if name != contract.input]
    for image in fed:
        try:
            for name, values in zip(asked, patiently(run, asked, {contract.input: image}), strict=True):
                found[name].add(values)
            if contract.input in found:
                found[contract.input].add(image.astype(np.float32))
        except ValueError as error:
            raise Refusal(
                f"calibration: {error}; look at the images and at the float file's answers"
            ) from None
    return found


def patiently(
    run: InferenceSession, names: Sequence[str], fed: Mapping[str, NDArray[Any]]
) -> list[NDArray[np.float32]]:
    """A session's answers. Raises Unmeasurable where none comes; a signal ends the wait and the session's work."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    with ThreadPoolExecutor(1) as thread:  # while the main one runs ONNX Runtime, it hears no signal
        answer = thread.submit(run.run, names, fed, options)
        try:
            return answer.result(PATIENCE_S)
        except TimeoutError:
            raise Unmeasurable(f"onnxruntime: no answer within {PATIENCE_S} s, so it was ended") from None
        finally:
            options.terminate = True


def session(model: onnx.ModelProto, exact: bool = False) -> InferenceSession:
    """On all cores; ``exact``: operator by operator."""
    import onnxruntime

    options = session_options({"threads": ALL_CORES, "exact": exact})
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def answers(
    model: onnx.ModelProto, fed: Iterable[NDArray[Any]], contract: Contract, exact: bool = False
) -> NDArray[np.float32]:
    """What a file answers to batches of images, (N, ...). Raises Refusal for answers that the task does not judge."""
    run = session(model, exact)
    found = np.concatenate([patiently(run, [contract.output], {contract.input: batch})[0] for batch in fed])
    try:
        TASKS[contract.task].check_answers(found, contract.classes)
    except ValueError as error:
        raise Refusal(f"{contract.output}: {error}") from None
    return found.astype(np.float32)


def choose_steps(
    model: onnx.ModelProto,
    found: Mapping[str, Histogram],
    few: Callable[[onnx.ModelProto], NDArray[np.float32]],
) -> tuple[str, dict[str, float]]:
    """Of the ways to cut off, the one whose answers to a few held-back images are closest to float's; its steps."""
    expected, ways = few(model), {}
    for way, limit in LIMITS.items():
        steps = {name: one.scale(STEPS, limit) for name, one in found.items()}
        ways[way] = float(np.square(few(exchange(model, steps)) - expected).mean()), steps
    best = min(ways, key=lambda way: ways[way][0])
    return best, ways[best][1]
