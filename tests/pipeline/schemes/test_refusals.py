"""What a scheme would pass over, or cannot take, is refused before the first batch: a table of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the schemes are torch's")

from pipeline.data.decoded import Decoded
from pipeline.recipe.schema import Distill
from pipeline.schemes import build
from pipeline.schemes.base import Setup
from support import tiny
from targets.errors import Refusal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return tiny.write_set(tmp_path_factory.mktemp("set"), classes=tiny.CLASSES)


# A scheme, what else the section says, how many teachers there are, and what the refusal says.
WRONG: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
    ({"name": "ofline"}, {}, 1, "did you mean 'offline'"),
    ({"name": "mutual", "peer": 2}, {}, 1, "did you mean 'peers'"),
    ({"name": "mutual", "peers": "resnet8"}, {}, 1, "must be Sequence"),
    ({"name": "mutual", "weight": True}, {}, 1, "must be float"),
    ({"name": "mutual", "peers": []}, {}, 1, "name a network"),
    ({"name": "mutual"}, {"loss": [{"name": "kd"}]}, 1, "mutual does not read distill.loss; drop it"),
    ({"name": "mutual"}, {"replay": 2}, 1, "mutual does not read distill.replay; drop it"),
    ({"name": "offline"}, {"loss": [{"name": "kd"}]}, 0, "kd learns from a teacher; give"),
    ({"name": "kdcl", "target": "nave"}, {}, 1, "did you mean 'naive'"),
    ({"name": "kdcl", "temperature": 0}, {}, 1, "kdcl.temperature must be above 0, not 0"),
    ({"name": "kdcl", "peers": []}, {}, 1, "kdcl.peers is empty"),
    ({"name": "kdcl"}, {"mixup": 0.2}, 1, "distill.mixup, cutmix: a mixed image has two labels"),
    ({"name": "codistillation", "every": 0}, {}, 1, "codistillation.every must be above 0, not 0"),
    ({"name": "codistillation", "burn_in": 1}, {}, 1, "burn_in must be at least 0 and below 1, not 1"),
    ({"name": "cs-kd"}, {"cutmix": 1.0}, 1, "cs-kd looks at one; drop them"),
    ({"name": "ddgsd"}, {"mixup": 1.0}, 1, "ddgsd looks at one; drop them"),
    ({"name": "bake", "omega": 1.0}, {}, 1, "bake.omega must be at least 0 and below 1, not 1"),
    ({"name": "bake", "temperature": -1}, {}, 1, "bake.temperature must be above 0, not -1"),
    ({"name": "snapshot", "cycles": 1}, {}, 1, "snapshot.cycles must be at least 2, not 1"),
    ({"name": "snapshot"}, {"replay": 3}, 1, "snapshot does not read distill.replay"),
    ({"name": "ard"}, {}, 0, "ard learns from a teacher; give [teacher]"),
    ({"name": "rslad"}, {}, 2, "rslad has one teacher, not 2"),
    ({"name": "ard", "steps": 0}, {}, 1, "ard.steps must be above 0, not 0"),
    ({"name": "ard"}, {"mixup": 0.2}, 1, "ard looks at one; drop them"),
    ({"name": "rslad", "share": 1.5}, {}, 1, "rslad.share must be in 0..1, not 1.5"),
    ({"name": "rslad"}, {"label_weight": 0.5}, 1, "rslad does not read distill.label_weight"),
    ({"name": "adversarial"}, {}, 0, "adversarial learns from a teacher; give [teacher]"),
    ({"name": "adversarial", "weight": 0}, {}, 1, "adversarial.weight must be above 0, not 0"),
    ({"name": "zskt", "every": 0}, {}, 1, "zskt.every must be above 0, not 0"),
    ({"name": "zskt"}, {}, 2, "zskt has one teacher, not 2"),
    ({"name": "dafl", "noise": 0}, {}, 1, "dafl.noise must be above 0, not 0"),
    ({"name": "zskt"}, {"cutout": 4}, 1, "distill.cutout: zskt makes its images itself; drop it"),
    ({"name": "dafl"}, {"label_smoothing": 0.1}, 1, "label_smoothing: dafl makes its images itself"),
    ({"name": "dafl"}, {"label_weight": 0.5}, 1, "dafl does not read distill.label_weight"),
]


@pytest.mark.parametrize(("line", "section", "teachers", "said"), WRONG)
def test_what_cannot_be_taught_is_refused(
    line: dict[str, Any], section: dict[str, Any], teachers: int, said: str, data: Decoded, tmp_path: Path
) -> None:
    student, recipe = tiny.model(seed=1), Distill.model_validate({"scheme": line, **section})
    given = [tiny.model(seed=2 + number) for number in range(teachers)]
    fresh = lambda name: tiny.model(seed=9)
    with pytest.raises(Refusal, match="distill") as caught:
        build(Setup(student, student, given, data, recipe, "distill", tmp_path, fresh))
    assert said in str(caught.value)
