"""The recipe at the door: what reads, and what is refused in one line that names the mend."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.recipe.presets import PRESETS
from pipeline.recipe.read import BUILT_IN, read_recipe
from pipeline.recipe.recipe import Recipe, teacher_names
from pipeline.recipe.schema import Distill
from targets.errors import WRONG_INPUT, Refusal
from targets.limits import BUDGETS

RIGHT = 'version = 1\ndata = "digits"\nteacher = "resnet20"\nstudent = "resnet8"\n'
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A recipe file of the text; its path as a user would type it."""

    def make(text: str) -> str:
        (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "recipe.toml")

    return make


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.toml")), ids=lambda path: path.stem)
def test_a_built_in_recipe_reads_by_its_name(path: Path) -> None:
    recipe, folder = read_recipe(path.stem)
    assert recipe.version == 1
    assert folder == BUILT_IN.resolve()
    assert recipe.budgets.model_dump(exclude_none=True), "a built-in recipe judges by something"


def test_the_short_forms_say_the_same_as_the_long_ones(write: Write) -> None:
    short, _ = read_recipe(write(RIGHT))
    text = 'version = 1\n[data]\nname = "digits"\n[teacher]\nnetwork = "resnet20"\n[student]\nnetwork = "resnet8"\n'
    assert short == read_recipe(write(text))[0]


def test_a_given_teacher_is_taken_as_it_is_unless_epochs_are_asked_for(write: Write, tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").touch()
    given = 'teacher = {{ network = "resnet20", weights = "t.safetensors"{more} }}\n'
    right = RIGHT.replace('teacher = "resnet20"\n', "")

    def epochs(more: str) -> int:
        recipe = read_recipe(write(right + given.format(more=more)))[0]
        again = Recipe.model_validate_json(recipe.model_dump_json())
        assert again.teacher.training == recipe.teacher.training, "it is settled at the door, once"
        return recipe.teacher.training.epochs

    assert epochs("") == 0
    assert epochs(", epochs = 5") == 5
    assert read_recipe(write(RIGHT))[0].teacher.training.epochs > 0


def test_loss_lines_keep_what_a_method_takes(write: Write) -> None:
    text = RIGHT + '[[distill.loss]]\nname = "kd"\nweight = 0.5\nT = 4\n[[distill.loss]]\nname = "srkd"\n'
    kd, srkd = read_recipe(write(text))[0].distill.loss
    assert (kd.name, kd.weight, kd.arguments) == ("kd", 0.5, {"T": 4})
    assert (srkd.name, srkd.weight, srkd.arguments) == ("srkd", None, {})


def test_paths_start_at_the_recipes_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "weights").mkdir()
    for name in ("t.pth", "s.pth"):
        (tmp_path / "weights" / name).touch()
    write(
        'version = 1\ndata.folder = "photos"\n'
        'teacher = { network = "resnet20", weights = "weights/t.pth" }\n'
        f'student = {{ network = "resnet8", weights = "{tmp_path / "weights" / "s.pth"}" }}\n'
    )
    for stands_in, name in ((tmp_path, "recipe.toml"), (tmp_path / "photos", "../recipe.toml")):
        monkeypatch.chdir(stands_in)
        recipe, folder = read_recipe(name)
        assert folder == tmp_path.resolve()
        assert recipe.data.folder is not None and recipe.data.folder.samefile(tmp_path / "photos")
        found = [recipe.teacher.weights, recipe.student.weights]
        assert found == [tmp_path / "weights" / "t.pth", tmp_path / "weights" / "s.pth"]


WRONG = [
    # the text that is added to or put in place of a right recipe, and what the line must say
    ('studnet = "resnet8"', ["studnet", "did you mean 'student'?"]),
    ('[teacher]\nnetwork = "resnet20"\nepoch = 3', ["teacher.epoch", "did you mean 'epochs'?"]),
    ("[distill]\nepohcs = 3", ["distill.epohcs", "did you mean 'epochs'?"]),
    ("[quantize]\nxyz = 3", ["quantize.xyz", "known:", "calibration"]),
    ("[budgets]\np99 = 3", ["budgets.p99", "did you mean 'p99_ms'?"]),
    ('[distill]\nepochs = "many"', ["distill.epochs", "integer", "'many'"]),
    ("[distill]\nepochs = 1.5", ["distill.epochs", "integer", "1.5"]),
    ("[distill]\nepochs = -1", ["distill.epochs", "greater than or equal to 0", "-1"]),
    ("[distill]\nlr = 0", ["distill.lr", "greater than 0"]),
    ('[distill]\nfit = "cifra"', ["distill", "no preset named 'cifra'; did you mean 'cifar'?"]),
    ("[distill]\nfit = 3", ["distill", "no preset named '3'"]),
    ('[quantize]\nfit = "finetune"', ["quantize", "layer_decay is for networks in float"]),
    ("[distill]\nlayer_decay = 1.5", ["distill.layer_decay", "less than or equal to 1"]),
    ('student = { network = "resnet8", std = [-1, 1, 1] }', ["student.std", "greater than 0"]),
    ('student = { network = "resnet8", output = true }', ["student.output", "True"]),
    ("[distill]\nlr = nan", ["distill.lr"]),
    (f"[distill]\nepochs = {10**400}", ["distill", "2^31"]),
    ('[distill]\nschedule = "step"\nmilestones = [0.5, 1.5]', ["distill.milestones", "less than 1"]),
    ("[distill]\nlabel_weight = inf", ["distill.label_weight"]),
    ("[distill]\nhard = 0.1", ["distill", "the key hard is now called label_weight"]),
    ("[quantize]\nhard = 0.1", ["quantize", "the key hard is now called label_weight"]),
    ("[distill]\nbatch = 1", ["distill.batch"]),
    ('[distill]\nschedule = "cosin"', ["distill.schedule", "cosine", "step"]),
    ('[quantize]\nmethod = "qta"', ["quantize.method", "qat", "ptq"]),
    ("[[distill.loss]]\nweight = 1", ["distill.loss.0.name", "missing"]),
    ("[budgets]\naccuracy = 101", ["budgets.accuracy", "101"]),
    ("[budgets]\np99_ms = -1", ["budgets.p99_ms"]),
    ("[budgets]\np99_ms = inf", ["budgets.p99_ms", "finite"]),
    ("budgets = 3", ["budgets", "dictionary"]),
    ("teacher = 3", ["teacher"]),
    ("distill = 3", ["distill"]),
    ('data = "digit"', ["data", "digit", "did you mean 'digits'?"]),
    ('data = "zzzzzz"', ["data", "zzzzzz", "known:", "cifar10"]),
    ('data = { name = "digits", folder = "." }', ["data", "one of name, folder, factory"]),
    ('data = { name = "digits", factory = "a:b" }', ["data", "one of name, folder, factory"]),
    ("data = { size = 32 }", ["data", "one of name, folder, factory"]),
    ('data = { name = "digits", test = 1.5 }', ["data.test", "less than 1"]),
    ('data = { folder = "no/such/folder" }', ["data.folder", "no/such/folder", "does not exist"]),
    ('data = { folder = "recipe.toml" }', ["data.folder", "recipe.toml", "folder"]),
    ('teacher = { network = "resnet20", weights = "no.pth" }', ["teacher.weights", "no.pth", "not exist"]),
    ('student = { network = "resnet8", weights = "no.pth" }', ["student.weights", "no.pth", "not exist"]),
    ('teacher = { network = "resnet20", weights = "." }', ["teacher.weights", "file"]),
    ('teacher = { network = "resnet20", weights = "~nobody-at-all/t.pth" }', ["teacher.weights", "~nobody"]),
    (f'teacher = {{ network = "resnet20", weights = "{"x" * 300}.pth" }}', ["teacher.weights"]),
    ("version = 2", ["version = 2", "reads version = 1"]),
    ('version = "1"', ["version = '1'", "reads version = 1"]),
    ("version = ", ["not valid TOML", "line"]),
    *((text, ["not valid TOML"]) for text in ("a = 1\na = 2", "a = " + "[" * 5000)),
]


def with_line(text: str) -> str:
    """A right recipe in which what the text begins with is said by the text."""
    key = re.split(r"[^a-z]+", text.lstrip("["))[0]
    return "\n".join([line for line in RIGHT.splitlines() if not line.startswith(f"{key} ")] + [text, ""])


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text[:40] for text, _ in WRONG])
def test_a_wrong_recipe_is_refused_in_one_line(write: Write, text: str, words: list[str]) -> None:
    path = write(with_line(text))
    with pytest.raises(Refusal) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert caught.value.status == WRONG_INPUT
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("key", ["version", "data", "student"])
def test_what_is_needed_and_missing_is_named(write: Write, key: str) -> None:
    with pytest.raises(Refusal, match=key):
        read_recipe(write("".join(line for line in RIGHT.splitlines(True) if not line.startswith(key))))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", 'data = "ä"'.encode("latin-1"), bytes(range(256))])
def test_a_file_that_is_no_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(Refusal, match=r"recipe\.toml: cannot be read"):
        read_recipe(str(tmp_path / "recipe.toml"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no regular file but a folder, a pipe or a device; give a file"):
        read_recipe(str(tmp_path))


def test_a_file_that_is_not_there_is_refused_with_what_could_be_given(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no\.toml: no such recipe.*digits"):
        read_recipe(str(tmp_path / "no.toml"))


def test_an_unknown_name_offers_the_nearest_built_in_one() -> None:
    with pytest.raises(Refusal, match="no recipe named 'digit'; did you mean 'digits'"):
        read_recipe("digit")


def test_a_folder_of_the_users_does_not_hide_a_built_in_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of images called digits is a likely thing to have where one stands."""
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_recipe("digits")[1] == BUILT_IN.resolve()


def to_toml(value: Any) -> str:
    """A value as inline TOML; strings and keys by their code points, so that any character passes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(str(key))} = {to_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value)


def keys_of(model: Any) -> list[str]:
    inner = [field.annotation for field in model.model_fields.values()]
    return [*model.model_fields, *(k for one in inner if hasattr(one, "model_fields") for k in keys_of(one))]


KEYS = sorted({*keys_of(Recipe), *BUDGETS, "name", "weight"})
WORDS = ["digits", "resnet8", "kd", "qat", "cosine", "auto", ".", "recipe.toml", "~", "~x", "\0", "a:b", "\n"]
words = st.sampled_from(WORDS) | st.text(max_size=8)


def test_teachers_keep_the_recipe_s_order() -> None:
    teachers = {"teacher": 0, **{f"teacher {number}": number for number in range(2, 12)}}
    assert teacher_names(["student", *sorted(teachers, reverse=True), "pruned"]) == list(teachers)


scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | words | st.integers(-1, 2)
keys = st.sampled_from(KEYS) | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
sections = st.fixed_dictionaries({}, optional=dict.fromkeys(Recipe.model_fields, values))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sections | st.dictionaries(keys, values, max_size=4))
@example({"distill": {"loss": [{"name": "kd", "arguments": {"arguments": 1}, "model_extra": []}]}})
@example({"data": {"folder": "~nobody-at-all"}})
@example({"teacher": {"network": "resnet20", "weights": "\0"}})
def test_any_table_reads_or_is_refused(write: Write, table: dict[str, Any]) -> None:
    right = {"version": 1, "data": "digits", "teacher": "resnet20", "student": "resnet8"}
    text = "".join(f"{to_toml(key)} = {to_toml(value)}\n" for key, value in {**right, **table}.items())
    try:
        recipe, _ = read_recipe(write(text))
    except Refusal as refusal:
        assert str(refusal).strip()
    else:
        assert recipe.teacher.training.epochs >= 0
        assert recipe.model_dump(mode="json")["version"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'teacher = { network = "resnet20", epochs = 0 }',
            "teacher.*random weights; give weights, or epochs",
        ),
        ("distill = { epochs = 0 }", "distill.epochs = 0 leaves a student with random weights"),
    ],
)
def test_a_network_that_nobody_has_trained_is_refused(line: str, said: str, write: Write) -> None:
    right = RIGHT.replace('teacher = "resnet20"\n', "") if line.startswith("teacher") else RIGHT
    with pytest.raises(Refusal, match=said):
        read_recipe(write(right + line + "\n"))
    mine = line.replace('"resnet20"', '"mine:build"')  # a factory may load its own
    assert mine == line or read_recipe(write(right + mine + "\n"))[0].teacher.epochs == 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_filled_in_and_a_given_key_wins(name: str) -> None:
    plain, settings = Distill(), Distill.model_validate({"fit": name})
    changed = {key for key in Distill.model_fields if getattr(settings, key) != getattr(plain, key)}
    assert changed == {key for key, value in PRESETS[name].items() if value != getattr(plain, key)} != set()
    assert {key: getattr(settings, key) for key in PRESETS[name]} == PRESETS[name]
    for key, value in {"lr": 0.3, "warmup": 0.2, "epochs": 5}.items():
        mine = Distill.model_validate({"fit": name, key: value})
        assert mine == settings.model_copy(update={key: value})
    assert Distill.model_validate(settings.model_dump(mode="json")) == settings


def test_the_plan_shows_how_each_training_goes(write: Write, tmp_path: Path) -> None:
    lines = 'distill = { fit = "vit", lr = 0.25 }\nprune = { macs = 0.5 }\nquantize = { method = "ptq" }\n'
    path = write(RIGHT.replace('"resnet20"', '{ network = "resnet20", fit = "cifar" }') + lines)
    shown = CliRunner().invoke(app, ["show", str(path), "--store", str(tmp_path / "store")])
    assert shown.exit_code == 0, shown.output
    said = dict(line.split(": ", 1) for line in shown.output.splitlines() if ": " in line)
    assert list(said) == ["teacher", "distill", "prune"]
    assert "optimizer = sgd, lr = 0.05," in said["teacher"] and "schedule = step" in said["teacher"]
    assert "optimizer = adamw, lr = 0.25," in said["distill"] and "mixup = 0.8" in said["distill"]
