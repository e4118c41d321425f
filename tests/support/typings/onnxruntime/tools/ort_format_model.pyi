from collections.abc import Sequence
from pathlib import Path

def create_config_from_models(
    model_files: Sequence[Path], output_file: Path, enable_type_reduction: bool
) -> None: ...
