"""The walls of the house, read from the source: who imports whom, what is never called, how long it gets."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.house import ROOMS, ROOT, arrows, drawn, imported, module_of, room_of, sources

LIGHT = (
    "pipeline.cli.main",
    "pipeline.line",
    "pipeline.recipe.read",
    "pipeline.engine.store",
    "pipeline.engine.stage",
    "pipeline.data.catalogue",
    "pipeline.user_code",
    "pipeline.data.decoded",
)
HEAVY = {"torch", "torchvision", "timm", "torch_pruning", "safetensors", "sklearn"}
FILES = sorted(path for name in ("pipeline", "targets", "benchmarks") for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
STAGES = sorted(path.stem for path in (ROOT / "pipeline" / "stages").glob("*.py") if path.stem != "__init__")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def top(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


@pytest.mark.parametrize("path", sorted((ROOT / "targets").rglob("*.py")), ids=named)
def test_targets_know_neither_the_workshop_nor_torch(path: Path) -> None:
    assert top(imported(path)) & {"pipeline", *HEAVY} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "targets" / "runner").rglob("*.py")), ids=named)
def test_the_runner_knows_nothing_of_targets(path: Path) -> None:
    ours = {module for module in imported(path) if module.split(".")[0] in ("targets", "pipeline")}
    assert {module for module in ours if not module.startswith("targets.runner")} == set()
    absolute = {
        node.module for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert "targets.runner" not in absolute, "on a device its package is called runner"


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_know_each_other(stage: str) -> None:
    others = {f"pipeline.stages.{other}" for other in STAGES if other != stage}
    path = ROOT / "pipeline" / "stages" / f"{stage}.py"
    assert imported(path) & others == set()
    heads = [ast.unparse(node.args) for node in tree_of(path).body if getattr(node, "name", "") == "run"]
    assert heads == ["job: Job"]


def test_no_import_runs_upward_and_every_room_is_listed() -> None:
    assert {room_of(module_of(path)) for path in sources()} - {"pipeline", "targets"} == set(ROOMS)
    upward = [f"{one} imports {other}" for one, other in arrows() if ROOMS.index(other) > ROOMS.index(one)]
    assert upward == []


def test_no_folder_holds_more_modules_than_one_finds_one_s_way_in() -> None:
    crowd = Counter(path.parent for path in sources() if path.name != "__init__.py")
    assert {named(folder): count for folder, count in crowd.items() if count > 16} == {}


def test_the_drawing_in_the_docs_is_today_s() -> None:
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    assert drawn(page) == page, "make house"


@pytest.mark.parametrize("name", LIGHT)
def test_what_orders_the_work_imports_no_torch_on_top(name: str) -> None:
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    on_top = ast.Module([node for node in tree_of(path).body if not isinstance(node, ast.FunctionDef)], [])
    assert top(imported(path, on_top)) & HEAVY == set()


def test_what_orders_the_work_loads_no_torch() -> None:
    """Also through what it imports: --help answers at once, and a target is measured without torch."""
    modules = ", ".join([*LIGHT, "targets.gate.gate", "targets.report.table"])
    code = f"import {modules}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def dangers(tree: ast.AST) -> Iterator[str]:
    """Calls that would run what a file or a name says."""
    never = {("shell", True), ("weights_only", False), ("allow_pickle", True)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (
                f"imports {name}" for name in names if name in ("pickle", "dill", "cloudpickle", "joblib")
            )
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: getattr(word.value, "value", "computed") for word in node.keywords}
        yield from (f"{called}({key}={value})" for key, value in given.items() if (key, value) in never)
        if called in ("eval", "exec", "os.system", "os.popen", "yaml.load"):
            yield called
        if called == "torch.load" and given.get("weights_only") is not True:
            yield "torch.load without weights_only=True"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_is_trusted_to_run_code(path: Path) -> None:
    assert list(dangers(tree_of(path))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "run(x, shell=True)",
        "np.load(p, allow_pickle=True)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=flag)",
        "eval(x)",
    ],
)
def test_the_search_for_dangers_finds_them(code: str) -> None:
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=named)
def test_files_and_functions_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < 300
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    }
    assert {name: lines for name, lines in long.items() if lines >= 50} == {}


def test_the_rules_look_at_the_whole_house() -> None:
    names = {named(path) for path in FILES}
    assert {f"{name.replace('.', '/')}.py" for name in LIGHT} <= names
    assert {"teach", "distill", "calibrate", "quantize", "export", "evaluate", "decode", "check"} <= set(
        STAGES
    )
    assert "targets/runner/__main__.py" in names and "pipeline/losses/__init__.py" in names
    assert "targets.runner.backends" in imported(ROOT / "targets" / "runner" / "__main__.py")
    assert ("pipeline.stages", "pipeline.training") in arrows()


def test_lines_of_code_are_those_that_hold_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    counted = runpy.run_path(str(ROOT / "tests" / "support" / "count.py"))["code_lines"]
    assert (
        counted(
            '"""A\ndocstring."""\n\n# why\ndef f(x):\n    """One."""\n    return (\n        x  # y\n    )\n'
        )
        == 4
    )
