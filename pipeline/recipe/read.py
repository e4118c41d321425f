"""A recipe's file read, its paths found, and what is wrong with it said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipeline.recipe.data import Section
from pipeline.recipe.recipe import Recipe
from targets.errors import Refusal, explain, unknown
from targets.regular_file import read_toml

VERSION = 1
BUILT_IN = Path(__file__).with_name("builtin")
AnySection = TypeVar("AnySection", bound=Section)


def built_in() -> list[str]:
    return sorted(path.stem for path in BUILT_IN.glob("*.toml"))


def recipe_file(name: str) -> Path:
    """The file of a path, or of a built-in name."""
    path = Path(name)
    if path.suffix or path.is_file() or path.name != name:
        return path
    if name not in built_in():
        raise unknown("recipe", name, built_in(), "RECIPE")
    return BUILT_IN / f"{name}.toml"


def read_recipe(name: str) -> tuple[Recipe, Path]:
    """The recipe of a file, or of a built-in name, and the folder its paths start from."""
    path = recipe_file(name)
    try:
        raw = read_toml(path)
    except FileNotFoundError:
        known = ", ".join(built_in())
        raise Refusal(f"{path}: no such recipe; give a .toml file or a built-in name ({known})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise Refusal(f"{path}: not valid TOML: {error}") from None
    if raw.get("version") != VERSION:
        raise Refusal(f"{path}: version = {raw.get('version')!r}; this Retort reads version = {VERSION}")
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise Refusal(f"{path}: {explain(error, Recipe)}") from None
    return resolve_paths(recipe, path.resolve().parent, path), path.resolve().parent


def resolve_paths(recipe: Recipe, folder: Path, source: Path) -> Recipe:
    """Paths start from the recipe's folder, and must be there."""

    def real(section: AnySection, key: str, where: str) -> AnySection:
        path: Path | None = getattr(section, key)
        if path is None:
            return section
        try:
            path = folder / path.expanduser()
            if not path.exists():
                raise Refusal(f"{source}: {where}.{key}: {path} does not exist")
            if not (path.is_dir() if key == "folder" else path.is_file()):
                raise Refusal(
                    f"{source}: {where}.{key}: {path} is not a {'folder' if key == 'folder' else 'file'}"
                )
        except (RuntimeError, OSError) as error:
            raise Refusal(f"{source}: {where}.{key}: {path}: {error}") from None
        return section.model_copy(update={key: path})

    return recipe.model_copy(
        update={
            "data": real(recipe.data, "folder", "data"),
            "teacher": recipe.teacher and real(recipe.teacher, "weights", "teacher"),
            "teachers": tuple(
                real(one, "weights", f"teachers.{number}") for number, one in enumerate(recipe.teachers, 2)
            ),
            "student": real(recipe.student, "weights", "student"),
        }
    )
