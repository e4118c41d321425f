"""A user's own function: found beside the recipe, counted with its neighbours, and shadowing nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.decoded import read
from pipeline.engine.stage import ensure
from pipeline.engine.store import Store
from pipeline.plan import plan
from pipeline.recipe.read import read_recipe
from pipeline.user_code import find_factory, sources
from targets.errors import Refusal
from targets.spec.profile import read_profile

FACTORY = """
import numpy as np
from pipeline.data.catalogue import Images
from colors import shade

def shades(count):
    import pipeline.recipe.schema  # Retort's, not this file
    pixels = np.concatenate([np.full((count, 8, 8, 3), shade(label), np.uint8) for label in range(2)])
    return Images(pixels, np.repeat([0, 1], count), ("dark", "light"))

def nothing():
    return [1, 2, 3]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """The data of a recipe with a factory of its own, made as the line makes it: in a process of its own."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "pipeline.py").write_text(FACTORY)
    colors = "from tones import LEAST\n\ndef shade(label):\n    return LEAST + 100 * label\n"
    (tmp_path / "user" / "colors.py").write_text(colors)
    (tmp_path / "user" / "tones.py").write_text("LEAST = 40\n")

    def made(data: str) -> Path:
        path = tmp_path / "user" / "recipe.toml"
        path.write_text(f'version = 1\nteacher = "resnet20"\nstudent = "resnet8"\n[data]\n{data}\n')
        stages = plan(*read_recipe(str(path)), read_profile("cpu"))
        return ensure(stages["data"], Store(tmp_path / "store"), lambda line: None)

    return made


def test_a_factory_beside_the_recipe_may_be_called_pipeline(
    recipe: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "user")
    data = 'factory = "pipeline:shades"\narguments = { count = 5 }\nsize = 8'
    first = recipe(data)
    found = read(first)
    assert found.facts.classes == ("dark", "light")
    assert [int(image.mean()) for image in found.images] == [40] * 5 + [140] * 5
    (tmp_path / "user" / "tones.py").write_text("LEAST = 50\n")
    second = recipe(data)
    assert second != first, "what a neighbour imports counts"
    assert read(second).images[0].mean() == 50


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("pipeline:nothing", "gave list; return pipeline.datasets.Images"),
        ("pipeline:absent", "no function 'absent'"),
        ("no_such_module_anywhere:images", "cannot be imported"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused(
    recipe: Callable[[str], Path], factory: str, words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        recipe(f'factory = "{factory}"')


SOURCES = {
    "mine.py": "import near, numpy\nfrom own.inner import cut\nimport own.deep.most\ndef late():\n    import later\n",
    "near.py": "import mine\nimport second\n",
    "second.py": "",
    "later.py": "",
    "aside.py": "",
    "own/__init__.py": "",
    "own/inner.py": "from own import shared\n",
    "own/shared.py": "",
    "own/deep/__init__.py": "",
    "own/deep/most.py": "",
}


def test_all_files_that_a_factory_reaches_are_its_sources(tmp_path: Path) -> None:
    """What is missing here could change and leave the old tensors in the cache."""
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = sources("mine:images", tmp_path)
    assert found["source"] == tmp_path / "mine.py"
    reached = {str(path.relative_to(tmp_path)) for path in found.values()}
    assert reached == set(SOURCES) - {"aside.py"}


def test_a_packages_factory_has_no_sources_here(tmp_path: Path) -> None:
    assert find_factory("torchvision.models:resnet18", tmp_path) is None
    assert sources("torchvision.models:resnet18", tmp_path) == {}


def test_a_factory_may_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.py").touch()
    assert find_factory("models.small:net", tmp_path) == tmp_path / "models" / "small.py"


def test_a_source_that_does_not_parse_is_told_by_who_loads_it(
    recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "user" / "broken.py").write_text("def images(:\n")
    with pytest.raises(Refusal, match=r"broken\.py cannot be imported"):
        recipe('factory = "broken:images"')
