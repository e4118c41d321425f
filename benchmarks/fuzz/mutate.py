"""Seeded changes of what Retort reads: of a tree (JSON, TOML), of bytes, of a folder, of a graph.

Each takes a ``random.Random`` and is a function of it alone, so that a case can be made again from its number.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (0, -1, 1, 2, 3, 0.5, -0.0, 1e-300, 1e308, -1e308, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400)
ODD_NUMBERS = (math.nan, math.inf, -math.inf)
TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../sentinel/kept.txt",
    "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "~root/x",
    "a" * 5000,
    "9" * 5000,
    "\x00",
    "\x1b[2J\x07",
    "line\nbreak\r",
    "::stop-commands::x",
    "\u202e\ufeff",
    "é" * 300,
    "$(touch ../sentinel/x)",
    "--help",
    "-",
    "nan",
    "1e999",
    "local",
    "module:factory",
    "os:system",
    "*",
    "[]",
    "{{ 7 * 7 }}",
    "<script>",
    "kind0",
    "float",
    "int8",
    "model.onnx",
)


def odd_value(random: Random) -> Any:
    """Something that may stand anywhere in a tree."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: random.choice(NUMBERS),
        lambda: random.choice(NUMBERS),
        lambda: random.choice(ODD_NUMBERS),
        lambda: random.choice(TEXTS),
        lambda: random.choice(TEXTS),
        lambda: random.choice((True, False)),
        list,
        dict,
        lambda: [random.choice(NUMBERS[:6])] * random.choice((1, 2, 3, 100)),
        lambda: {random.choice(TEXTS): random.choice(NUMBERS)},
        lambda: nested(random.choice((5, 50, 120)), random.choice((True, False))),
    )
    return random.choice(makers)()


def nested(depth: int, lists: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value below the top of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed_tree(tree: Any, random: Random) -> Any:
    """A copy with one to three changes: a value replaced, moved, doubled, dropped or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        found = list(places(tree))
        if not found or random.random() < 0.01:
            return odd_value(random)
        *way, key = random.choice(found)
        parent = tree
        for step in way:
            parent = parent[step]
        change(parent, key, random)
    return tree


def change(parent: Any, key: Any, random: Random) -> None:
    what = random.choice(("value", "value", "value", "type", "drop", "double", "rename", "swap", "scale"))
    value = parent[key]
    if what == "drop":
        del parent[key]
    elif what == "double" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(value))
    elif what == "rename" and isinstance(parent, dict):
        parent[random.choice((*TEXTS, f"{key}x", str(key)[:-1], str(key).upper()))] = parent.pop(key)
    elif what == "swap":
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        other = random.choice(list(keys))
        parent[key], parent[other] = parent[other], parent[key]
    elif what == "scale" and isinstance(value, (int, float)):
        parent[key] = value * random.choice((-1, 2, 1000, 0.001))
    elif what == "type":
        parent[key] = random.choice((str(value), [value], {"value": value}, len(str(value)), bool(value)))
    else:
        parent[key] = odd_value(random)


def changed_bytes(data: bytes, random: Random) -> bytes:
    """Some bits flipped, a part cut out, put in, doubled or overwritten; or nothing left."""
    at = random.randrange(len(data) + 1)
    length = random.choice((1, 2, 8, 64, 1000))
    what = random.randrange(8)
    if what <= 1:
        made = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 8))):
            if made:
                made[random.randrange(len(made))] ^= 1 << random.randrange(8)
        return bytes(made)
    if what == 2:
        return data[:at]
    if what == 3:
        return data[:at] + random.randbytes(length) + data[at:]
    if what == 4:
        return data[:at] + data[at + length :]
    if what == 5:
        return data[:at] + data[at : at + length] * 2 + data[at + length :]
    if what == 6:
        return (
            data[:at] + random.choice((b"\xff", b"\x00", b"9", b"[", b"\x80")) * length + data[at + length :]
        )
    return random.choice((b"", b"\x00" * 100, b"null", b"[]", b"{}", b"\xef\xbb\xbf" + data, data * 2))


def changed_json(data: bytes, random: Random) -> bytes:
    """The text of a changed tree, or changed bytes of the text."""
    if random.random() < 0.2:
        return changed_bytes(data, random)
    return json_text(changed_tree(json.loads(data), random)).encode("utf-8", "surrogatepass")


def json_text(tree: Any) -> str:
    try:
        return json.dumps(tree, indent=1)
    except ValueError:  # more digits than Python writes
        return '{"huge": ' + "9" * 5000 + "}"


def changed_toml(data: bytes, tree: dict[str, Any], random: Random) -> bytes:
    if random.random() < 0.2:
        return changed_bytes(data, random)
    made = changed_tree(tree, random)
    lines = made.items() if isinstance(made, dict) else {"value": made}.items()
    return "".join(f"{quoted(key)} = {toml_text(value)}\n" for key, value in lines).encode("utf-8", "replace")


def toml_text(value: Any) -> str:
    """A value as TOML writes it, tables in their line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"1{'0' * 400}" if value == 10**400 else repr(value)


def quoted(text: Any) -> str:
    return json.dumps(str(text)).replace("\x7f", "\\u007f")


def changed_folder(folder: Path, random: Random) -> None:
    """One thing of a folder gone, renamed, added, exchanged with another, or made a link, a folder, a pipe."""
    paths = sorted(path for path in folder.rglob("*"))
    path = random.choice(paths) if paths else folder / "none"
    what = random.randrange(7)
    if what == 0:
        remove(path)
    elif what == 1:
        path.rename(path.with_name(random.choice(("x", "float.onnx", "..x", "a\nb", "\x1b[2J", "é"))))
    elif what == 2:
        (path.parent / random.choice(("added.txt", "reference.x.npy", ".hidden", "a\nb.png"))).write_bytes(
            b"x"
        )
    elif what == 3:
        other = random.choice(paths)
        if path.is_file() and other.is_file():
            path.write_bytes(other.read_bytes())
    elif what == 4:
        remove(path)
        path.symlink_to(random.choice(("../sentinel/kept.txt", "/dev/zero", path.name, "/etc/passwd", "..")))
    elif what == 5:
        remove(path)
        path.mkdir()
    elif path.is_file():
        path.write_bytes(changed_bytes(path.read_bytes(), random))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
