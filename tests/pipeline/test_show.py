"""``retort show``: whose code a recipe would run is named, and none of it runs."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli.main import app

RECIPE = """
version = 1
data = { factory = "mine.data:load", files = ["*.yaml"] }
teacher = "resnet56"
student = "net:build"
"""
CODE = {
    "net.py": "import layers\nraise SystemExit('it ran')\n",
    "layers.py": "raise SystemExit('it ran')\n",
    "unused.py": "",
    "mine/__init__.py": "",
    "mine/data.py": "import net\n",
    "set.yaml": "a: 1\n",
}


def test_the_code_of_a_recipe_is_named_and_does_not_run(tmp_path: Path) -> None:
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = CliRunner().invoke(
        app, ["show", str(tmp_path / "recipe.toml"), "--store", str(tmp_path / "store")]
    )
    assert done.exit_code == 0, done.output
    assert "\ndistill: scheme = offline, loss = kd, optimizer = sgd" in done.output
    said = [line for line in done.output.splitlines() if "would run " in line and ": " in line]
    assert said == [
        "student: would run net:build: layers.py, net.py",
        "data: would run mine.data:load: layers.py, mine/data.py, net.py, set.yaml",
    ]


def test_how_each_training_is_taught_is_told(tmp_path: Path) -> None:
    recipe = """version = 1
data = "digits"
student = "resnet8"
distill = { scheme = "mutual" }
quantize = { loss = [{ name = "at" }, { name = "kd" }] }
"""
    (tmp_path / "recipe.toml").write_text(recipe)
    done = CliRunner().invoke(
        app, ["show", str(tmp_path / "recipe.toml"), "--store", str(tmp_path / "store")]
    )
    assert "\ndistill: scheme = mutual, loss = as the scheme says" in done.output
    assert "\nquantize: scheme = offline, loss = at + kd" in done.output
