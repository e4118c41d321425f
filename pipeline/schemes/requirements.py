"""What several schemes ask of a section; it is checked before the first batch."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.data.augmentation import KEYS
from pipeline.models.split_model import Parts
from pipeline.schemes.base import Player, Setup
from targets.errors import Refusal

# The keys that say how sure a label is, and how an image of the set is shown.
SHOWING = ("label_smoothing", *KEYS)


def above_zero(setup: Setup, scheme: str, **numbers: float) -> None:
    """Raises Refusal for a hyper-parameter that is 0, below, or no number."""
    for key, value in numbers.items():
        if not value > 0:
            raise Refusal(f"{setup.where}.scheme: {scheme}.{key} must be above 0, not {value:g}")


def shares(setup: Setup, scheme: str, **numbers: float) -> None:
    """Raises Refusal for a hyper-parameter that is not in 0..1, or is 1."""
    for key, value in numbers.items():
        if not 0 <= value < 1:
            raise Refusal(
                f"{setup.where}.scheme: {scheme}.{key} must be at least 0 and below 1, not {value:g}"
            )


def one_label(setup: Setup, scheme: str) -> None:
    """Raises Refusal where images are mixed, for a scheme that looks at the label of each."""
    if setup.recipe.mixup or setup.recipe.cutmix:
        raise Refusal(
            f"{setup.where}.mixup, cutmix: a mixed image has two labels, and {scheme} looks at one; drop them"
        )


def no_views(setup: Setup, scheme: str) -> None:
    """Raises Refusal where the section says how images are shown or labelled, for a scheme that draws none."""
    fields = type(setup.recipe).model_fields
    for key in SHOWING:
        if getattr(setup.recipe, key) != fields[key].default:
            raise Refusal(f"{setup.where}.{key}: {scheme} makes its images itself; drop it")


def one_teacher(setup: Setup, scheme: str) -> Parts:
    """The only teacher, in evaluation mode, without gradients. Raises Refusal where there are several."""
    if len(setup.teachers) != 1:
        raise Refusal(f"{setup.where}.scheme: {scheme} has one teacher, not {len(setup.teachers)}; keep one")
    (teacher,) = setup.teachers
    teacher.eval().requires_grad_(False)
    return Parts(teacher, teacher, "teacher")


def with_peers(setup: Setup, scheme: str, peers: Sequence[str]) -> dict[str, Player]:
    """The student and the networks that learn beside it. Raises Refusal where none does."""
    if not peers:
        raise Refusal(f'{setup.where}.scheme: {scheme}.peers is empty; name a network: ["student"]')
    players = {"student": Player(setup.student)}
    return players | {f"peer {number}": Player(setup.peer(name)) for number, name in enumerate(peers, 1)}
