"""A manifest signed with an SSH key, and such a signature checked: by OpenSSH, which needs no network and no service.

``ssh-keygen -Y sign`` and ``-Y verify`` (OpenSSH 8.0 and newer) with the namespace ``retort``: a signature made for
git, or for a login, is none here. Whom to trust is a file of allowed signers, as git's: ``NAME KEY`` a line.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from targets.errors import Refusal
from targets.provenance.manifest import MANIFEST, SIGNATURE, verify
from targets.regular_file import regular_file

NAMESPACE = "retort"


def sign(folder: Path, key: Path) -> None:
    """Sign the manifest of a folder that it fits; the signature lies beside it. Raises Refusal."""
    verify(folder)
    sign_file(folder / MANIFEST, key)


def sign_file(path: Path, key: Path) -> None:
    path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
    keygen("sign", "-f", key, "-n", NAMESPACE, path, where=f"--key {key}")


def check_key(key: Path) -> None:
    """Raises Refusal for a key that cannot sign: asked before anything is made that is to be signed."""
    if not regular_file(key).exists():
        raise Refusal(f"{key}: no such key; make one: ssh-keygen -t ed25519 -f {key}")
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        (Path(folder) / "trial").write_bytes(b"")
        sign_file(Path(folder) / "trial", key)


def signer(folder: Path, allowed: Path) -> str:
    """Who signed a folder's manifest, of those allowed. Raises Refusal where none of them did."""
    signature, manifest = folder / SIGNATURE, folder / MANIFEST
    if not signature.is_file():
        raise Refusal(f"{folder}: not signed: it has no {SIGNATURE}; retort sign {folder} --key KEY")
    if not regular_file(allowed).exists():
        raise Refusal(
            f"{allowed}: no such file; write NAME KEY-TYPE KEY a line, as ssh-keygen's ALLOWED SIGNERS"
        )
    given = "-s", signature, "-f", allowed
    names = keygen("find-principals", *given, where=f"{signature}: by no key of {allowed}").splitlines()
    for name in names[:1]:
        said = f"{signature}: no signature of {manifest} by {name}"
        keygen("verify", *given, "-I", name, "-n", NAMESPACE, where=said, read=manifest)
        return name
    raise Refusal(f"{signature}: by no key of {allowed}")


def keygen(do: str, *words: str | Path, where: str, read: Path | None = None) -> str:
    """What ``ssh-keygen -Y DO`` prints. Raises Refusal with its last line where it says no."""
    command = ["ssh-keygen", "-Y", do, *map(str, words)]
    content = read.read_bytes() if read is not None else b""
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=False)
    except FileNotFoundError:
        raise Refusal(f"{where}: no ssh-keygen on this machine; install OpenSSH's client") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"status {done.returncode}")
        raise Refusal(f"{where}: {''.join(filter(str.isprintable, last))}")
    return done.stdout.decode(errors="replace")
