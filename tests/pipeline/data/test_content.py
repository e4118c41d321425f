"""What is told of a folder of images before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.data.catalogue import folder
from pipeline.data.content import KNOWN, digests, findings
from pipeline.engine.store import Store, digest_file
from pipeline.line import Workshop, tell_images
from pipeline.recipe.read import read_recipe

RECIPE = 'version = 1\ndata = { folder = "photos" }\nteacher = "resnet14"\nstudent = "resnet8"\n'
SPLIT = {"train/a/1": "p", "train/b/1": "q", "train/b/2": "r", "test/a/1": "s", "test/b/1": "t"}
WHOLE = {"a/1": "p", "a/2": "q", "b/1": "r", "b/2": "s"}


def written(root: Path, contents: Mapping[str, str]) -> Path:
    for name, content in contents.items():
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (SPLIT, []),
        ({**SPLIT, "train/b/3": "q"}, []),
        (
            {**SPLIT, "test/b/2": "p", "test/b/3": "r"},
            ["test images that lie in train too: 2 of 4, such as test/b/2.png: what they prove is that they"],
        ),
        (WHOLE, []),
        (
            {**WHOLE, "b/3": "q"},
            ["images that are copies of others: 1, such as b/3.png of a/2.png: a test image"],
        ),
    ],
)
def test_images_that_prove_less_than_they_seem_to_are_told(
    contents: Mapping[str, str], told: list[str], tmp_path: Path
) -> None:
    root = written(tmp_path, contents)
    found = list(findings(folder(root), root, tmp_path / KNOWN))
    assert [line.startswith(words) for line, words in zip(found, told, strict=True)] == [True] * len(told)


def test_a_file_that_changed_has_another_digest_and_others_keep_theirs(tmp_path: Path) -> None:
    paths, known = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "known.json"
    for path in paths:
        path.write_bytes(path.name.encode())
    before = digests(paths, known)
    paths[0].write_bytes(b"other")
    after = digests(paths, known)
    assert after == [digest_file(paths[0]), before[1]] and before[0] != after[0]


def test_the_line_tells_it_at_the_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = written(tmp_path / "photos", {**SPLIT, "test/b/2": "p", "val/a/1": "u"})
    (root / "train" / "a" / "2.gif").touch()
    (tmp_path / "recipe.toml").write_text(RECIPE)
    said: list[str] = []
    recipe, _ = read_recipe(str(tmp_path / "recipe.toml"))
    tell_images(recipe, Workshop(Store(tmp_path / "store"), said.append))
    assert len(said) == 1 and "test images that lie in train too: 1 of 3, such as test/b/2.png" in said[0]
    assert "files and folders that are not read: 2, such as train/a/2.gif" in capsys.readouterr().err
