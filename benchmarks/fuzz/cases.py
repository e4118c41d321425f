"""The kinds of cases: what is put into a box, what of it is changed, and which command is given it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import onnx
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from benchmarks.fuzz.box import Box, Case
from benchmarks.fuzz.mutate import (
    TEXTS,
    changed_bytes,
    changed_folder,
    changed_json,
    changed_toml,
    changed_tree,
    odd_value,
    remove,
)
from targets.limits import BUDGETS
from targets.provenance.manifest import write_manifest
from targets.spec.contract import KEY

ASKED = frozenset({0, 2})  # exit statuses of what judges nothing
GATE = ("--images", "photos", "--target", "quick.toml")
BUDGET_LINES = ("size_mb=1", "accuracy=1", "p99_ms=800", "p50_vs_reference=100", "agreement=90")


def recipe(box: Box) -> Case:
    name = box.one_of("recipe.toml", "rich.toml")
    box.take(name, "net.py", "photos", "quick.toml")
    box.rewrite(name, lambda data, random: changed_toml(data, tomllib.loads(data.decode()), random))
    if box.chance(0.2):
        return Case(("deploy", name, "--target", "quick.toml"))
    return Case(
        ("show", name, "--target", box.one_of("cpu", "quick.toml", "jetson", "android")), "", False, ASKED
    )


def code(box: Box) -> Case:
    """A recipe's own network, changed; it is read and not run."""
    box.take("recipe.toml", "net.py", "photos")
    box.rewrite("net.py", changed_bytes)
    return Case(("show", "recipe.toml"), "", False, ASKED)


def profile(box: Box) -> Case:
    box.take("model.onnx", "photos", "quick.toml")
    if box.chance(0.3):
        (box.folder / "quick.toml").write_text(
            'extends = "rpi5"\nstand_in = true\nbudgets = { size_mb = 5 }\n'
        )
    box.rewrite("quick.toml", lambda data, random: changed_toml(data, tomllib.loads(data.decode()), random))
    if box.chance(0.5):
        return Case(("explain", "model.onnx", "--target", "quick.toml"), "", False, ASKED)
    return Case(("gate", "model.onnx", *GATE, "--budget", box.one_of(*BUDGET_LINES)), "given")


def budget(box: Box) -> Case:
    box.take("model.onnx", "old.onnx", "photos", "quick.toml")
    lines = []
    for _ in range(box.random.choice((1, 1, 2, 3))):
        name = box.one_of(*BUDGETS) if box.chance(0.8) else box.one_of(*TEXTS)
        value = str(box.random.choice((5, 0.5, "5%", "7", odd_value(box.random)))).replace("\0", "")
        lines.append(f"--budget={name}={value}".replace("\0", ""))
    words = ("gate", "model.onnx", *GATE, *lines, "--baseline", "old.onnx")
    return Case(words + (("--accept", "not-measured") if box.chance(0.3) else ()), "given")


def graph(box: Box) -> Case:
    """An ONNX file that is broken, or that says something else."""
    name = box.one_of("model.onnx", "bare.onnx")
    box.take(name, "old.onnx", "photos", "quick.toml")
    box.rewrite(name, changed_graph)
    if box.chance(0.4):
        return Case(("explain", name, "--target", box.one_of("cpu", "jetson", "rpi5")), "", False, ASKED)
    if box.chance(0.2):
        return Case(("compare", "old.onnx", name, *GATE), "given")
    if box.chance(0.2):
        return Case(("gate", "old.onnx", *GATE, "--baseline", name, "--budget", "size_mb=1"), "given")
    return Case(("gate", name, *GATE, "--budget", box.one_of(*BUDGET_LINES)), "given")


# What protobuf raises for a value where it does not fit.
MISFITS = (
    json_format.Error,
    DecodeError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def changed_graph(data: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return changed_bytes(data, random)
    model = onnx.load_from_string(data)
    if random.random() < 0.1:
        tensor = random.choice(model.graph.initializer)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=random.choice(TEXTS[:12]))
        return bytes(model.SerializeToString())
    for _ in range(20):  # most values do not fit where they are put
        try:
            tree = changed_tree(json_format.MessageToDict(model), random)
            return bytes(json_format.ParseDict(tree, onnx.ModelProto()).SerializeToString())
        except MISFITS:
            continue
    return changed_bytes(data, random)


def contract(box: Box) -> Case:
    """What a file says of its own input."""
    box.take("model.onnx", "old.onnx", "photos", "quick.toml")
    model = onnx.load(box.folder / "model.onnx")
    (prop,) = (one for one in model.metadata_props if one.key == KEY)
    said = changed_json(prop.value.encode(), box.random)
    prop.value = said.decode("utf-8", "replace")
    onnx.save(model, box.folder / "model.onnx")
    if box.chance(0.2):
        return Case(("gate", "old.onnx", *GATE, "--baseline", "model.onnx", "--budget", "size_mb=1"), "given")
    return (
        Case((box.one_of("gate", "gate", "lock"), "model.onnx", *GATE), "given")
        if box.chance(0.3)
        else Case(("gate", "model.onnx", *GATE, "--budget", box.one_of(*BUDGET_LINES)), "given")
    )


def option(box: Box) -> Case:
    """What is said of a foreign file's input, and by which name a device is called."""
    box.take("bare.onnx", "photos", "quick.toml")
    texts = ("8", "8x8", "0", "1e9", "8x", "0.5,0.5,0.5", "1,2", "nan,nan,nan", "9" * 30, *TEXTS)
    said = [
        f"--{name}={box.one_of(*texts)}".replace("\0", "")
        for name in box.random.sample(("size", "mean", "std", "resize"), box.random.choice((1, 1, 2, 3)))
    ]
    if box.chance(0.2):
        kind = box.one_of("ssh://", "ssh://-x", "adb://", "emulator:", "usb://")
        said.append(f"--device={kind}{box.one_of(*TEXTS)}".replace("\0", ""))
    return Case(("gate", "bare.onnx", *GATE, "--budget", "size_mb=1", *said), "given")


def images(box: Box) -> Case:
    box.take("model.onnx", "photos", "quick.toml")
    changed_folder(box.folder / "photos", box.random)
    return Case(("gate", "model.onnx", *GATE, "--budget", box.one_of(*BUDGET_LINES)), "given")


def bundle(box: Box) -> Case:
    """A bundle changed under its manifest, under a new one, or without one."""
    box.take("bundle")
    folder = box.folder / "bundle"
    if box.chance(0.4):
        changed_folder(folder, box.random)
    else:
        name = box.one_of("bundle.json", "bundle.json", *(path.name for path in sorted(folder.iterdir())))
        box.rewrite(f"bundle/{name}", changed_json if name.endswith(".json") else changed_bytes)
    words: tuple[str, ...] = ("measure", "bundle")
    how = box.one_of("as it is", "as it is", "sealed again", "without")
    if how == "without":
        remove(folder / "manifest.json")
        return Case((*words, "--unverified"), "shipped")
    if how == "sealed again" and not any(path.is_symlink() for path in folder.rglob("*")):
        write_manifest(folder)
        return Case(words, "shipped")
    if box.chance(0.2):
        return Case(("verify", "bundle"), "", box.differs("bundle", "manifest.json"), ASKED)
    return Case(words, "shipped", box.differs("bundle", "manifest.json"))


def papers(box: Box) -> Case:
    box.take("report/quick")
    folder = box.folder / "report/quick"
    if box.chance(0.5):
        changed_folder(folder, box.random)
    else:
        box.rewrite("report/quick/manifest.json", changed_json)
    what = box.one_of(
        "report/quick", "report/quick", *(f"report/quick/{path.name}" for path in folder.iterdir())
    )
    return Case(("verify", what), "", box.differs("report/quick", "manifest.json"), ASKED)


def locked(box: Box) -> Case:
    """A lock changed, or the file that it accepted."""
    box.take("model.onnx", "old.onnx", "photos", "quick.toml", "retort.lock")
    if box.chance(0.7):
        box.rewrite("retort.lock", changed_json)
    else:
        box.rewrite("model.onnx", changed_bytes)
    sealed = box.differs("model.onnx") or digest_in(box.folder) != digest_in(box.corpus)
    if box.chance(0.2):
        return Case(("compare", "retort.lock", "old.onnx", *GATE), "given", sealed)
    budget = box.one_of("slower_than_baseline=900%", "drop_vs_baseline=100", "size_mb=1")
    return Case(("gate", "old.onnx", *GATE, "--baseline", "retort.lock", "--budget", budget), "given", sealed)


def digest_in(folder: Path) -> object:
    try:
        return json.loads((folder / "retort.lock").read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def store(box: Box) -> Case:
    """What stages made, changed behind their keys."""
    box.take("store", "recipe.toml", "net.py", "photos", "quick.toml")
    objects = box.folder / "store/objects"
    if box.chance(0.4):
        changed_folder(
            box.random.choice((box.folder / "store", objects, *sorted(objects.iterdir()))), box.random
        )
    else:
        files = sorted(path for path in (box.folder / "store").rglob("*") if path.is_file())
        path = box.random.choice(files)
        box.rewrite(
            str(path.relative_to(box.folder)), changed_json if path.suffix == ".json" else changed_bytes
        )
    trusted = ("--target", "quick.toml", "--store", "store", "--trust-store")
    if box.chance(0.8):
        return Case(
            ("deploy", "recipe.toml", *trusted), "shipped", any(map(box.differs, judged_files(box.corpus)))
        )
    if box.chance(0.5):
        return Case(("show", "recipe.toml", "--store", "store"), "", False, ASKED)
    return Case(("gc", "recipe.toml", "--store", "store"), "", False, ASKED)


def judged_files(corpus: Path) -> list[str]:
    """What of the store a verdict is about: the files that ship, the questions and the answers to them."""
    found = [
        *corpus.glob("store/objects/export-*/model.onnx"),
        *corpus.glob("store/objects/evaluate-*/*.npy"),
    ]
    return [str(path.relative_to(corpus)) for path in found]


def device(box: Box) -> Case:
    """What a device answers."""
    kind = box.one_of("given", "shipped")
    box.take(f"results/{kind}")
    folder = box.folder / "results" / kind
    if box.chance(0.15):
        changed_folder(folder, box.random)
    else:
        for path in box.random.sample(sorted(folder.iterdir()), box.random.choice((1, 1, 2))):
            how = changed_json if path.suffix == ".json" else changed_bytes
            box.rewrite(str(path.relative_to(box.folder)), how)
    if kind == "shipped":
        box.take("bundle")
        return Case(("measure", "bundle"), f"results/{kind}")
    box.take("model.onnx", "old.onnx", "photos", "quick.toml")
    lines = [f"--budget={line}" for line in box.random.sample(BUDGET_LINES, 2)]
    return Case(("gate", "model.onnx", *GATE, "--baseline", "old.onnx", *lines), f"results/{kind}")


# How often each kind is drawn.
KINDS: Mapping[Callable[[Box], Case], int] = {
    recipe: 22,
    code: 2,
    profile: 12,
    budget: 8,
    graph: 14,
    contract: 7,
    option: 3,
    images: 3,
    bundle: 10,
    papers: 4,
    locked: 4,
    store: 5,
    device: 6,
}


def drawn(seed: int, number: int, corpus: Path, folder: Path) -> tuple[str, Case]:
    """A case by its number: its kind and its command, in a new folder."""
    random = Random(int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()))
    (kind,) = random.choices(list(KINDS), list(KINDS.values()))
    folder.mkdir(parents=True)
    return kind.__name__, kind(Box(corpus, folder, random))
