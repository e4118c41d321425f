"""``retort verify | sign``: whether a folder is what was made, and who says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    path: Annotated[Path, typer.Argument(help="A bundle, a target's folder of a report, or a file of one.")],
    allowed_signers: Annotated[
        Path | None, typer.Option(help="Who may have signed it: NAME KEY-TYPE KEY a line, as git's.")
    ] = None,
) -> None:
    """Compare each file of a folder with its manifest.json; with --allowed-signers also its signature.

    Example: retort verify report/cpu

    Example: retort verify bundle --allowed-signers allowed_signers
    """
    from targets.provenance.manifest import SIGNATURE
    from targets.provenance.manifest import verify as check
    from targets.provenance.signature import signer

    folder = path.parent if path.is_file() else path
    files = check(folder).files
    print(f"{folder}: {len(files)} files, as manifest.json has them")
    if allowed_signers is not None:
        print(f"signed by {signer(folder, allowed_signers)}")
    elif (folder / SIGNATURE).exists():
        print("its signature was not looked at: give --allowed-signers FILE")


def sign(
    path: Annotated[Path, typer.Argument(help="A bundle, or a target's folder of a report.")],
    key: Annotated[Path, typer.Option(help="An SSH key; its .pub where an agent has it.")],
) -> None:
    """Sign a folder's manifest.json, and so all of its files, with an SSH key.

    Example: retort sign report/cpu --key ~/.ssh/id_ed25519
    """
    from targets.provenance.manifest import SIGNATURE
    from targets.provenance.signature import sign as run

    run(path, key)
    print(f"{path / SIGNATURE}: next: retort verify {path} --allowed-signers FILE")
