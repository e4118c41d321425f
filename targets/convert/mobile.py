"""The file that a phone's runtime takes: .ort, packed from what the target derived, or the .tflite as it was made."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import onnx

from targets.errors import Unmeasurable
from targets.runner.backends.ort import SILENT, counted

OPERATORS = "required_operators"


def packed(name: str, lite: Path | None, model: Path, artifact: Path) -> dict[str, Any]:
    """Write the artifact; what is known of it before it runs. Raises Unmeasurable where a .tflite was not made."""
    if artifact.suffix == ".ort":
        return to_ort(model, artifact)
    if artifact.suffix == ".tflite":
        if lite is None:
            raise Unmeasurable(
                f"{name}: no .tflite was made of it: a recipe's networks get one where litert-torch is"
                " (pip install 'retort[litert]'), and a given ONNX file gets none"
            )
        shutil.copyfile(lite, artifact)
    return {}


def to_ort(model: Path, artifact: Path) -> dict[str, Any]:
    """ONNX Runtime's own format, with its fusions done, for Arm; and the operators that a reduced build needs."""
    fuse_for_arm(model, artifact, save_model_format="ORT")
    return {OPERATORS: operators(artifact)}


def on_arm(model: Path) -> dict[str, Any]:
    """The operators that run on Arm, which a device cannot tell: the fusions are done here as they are there."""
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        fuse_for_arm(model, Path(folder) / "fused.onnx")
        return counted(onnx.load(Path(folder) / "fused.onnx").graph.node)


def fuse_for_arm(model: Path, to: Path, **more: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(to)
    options.log_severity_level = SILENT
    # As on Arm: convolutions of s8 are fused, and no layout of x86's is taken.
    for key, value in {"qdqisint8allowed": "1", **more}.items():
        options.add_session_config_entry(f"session.{key}", value)
    onnxruntime.InferenceSession(
        str(model), options, ["CPUExecutionProvider"], disabled_optimizers=["NchwcTransformer"]
    )


def operators(artifact: Path) -> str:
    """The configuration that builds an ONNX Runtime with these operators alone; without where it was made."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        listed = Path(folder) / "operators.config"
        create_config_from_models([artifact], listed, enable_type_reduction=False)
        lines = [line for line in listed.read_text().splitlines() if line and not line.startswith("#")]
    return "\n".join([f"# {artifact.name}", *lines, ""])
