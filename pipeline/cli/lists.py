"""``retort targets | methods | schemes | networks | datasets | budgets``: what there is to name in a recipe."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def targets() -> None:
    """The targets that ship with Retort, a line each.

    Example: retort targets
    """
    from targets.spec.profile import GROUPS, profiles, read_profile

    width = max(map(len, profiles())) + 2
    for name in profiles():
        print(f"{name:<{width}}{read_profile(name).about}")
    for name, group in {**GROUPS, "all": ("all of them",)}.items():
        print(f"{name:<{width}}{' and '.join(group)}")


def methods(name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None) -> None:
    """The distillation losses; with a name, its equation, shapes and source.

    Example: retort methods srkd
    """
    import inspect

    from pipeline.losses import LOSSES
    from targets.errors import unknown

    if name is not None:
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES, "methods")
        entry = LOSSES[name]
        print(f"{name}{inspect.signature(entry.loss)}  weight {entry.weight:g}\n")
        print(inspect.getdoc(entry.loss))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("method", "kind", "weight", "what", "paper", "cost", box=None, pad_edge=False)
    for name, entry in LOSSES.items():
        line = " ".join((inspect.getdoc(entry.loss) or "").partition(":")[0].split())
        table.add_row(name, entry.kind, f"{entry.weight:.3g}", line, entry.paper, entry.cost)
    # Into a file or a pipe, each method stays on its line.
    Console(width=None if sys.stdout.isatty() else 300).print(table)


def schemes(name: Annotated[str | None, typer.Argument(help="One scheme, in full.")] = None) -> None:
    """Who learns from whom: the schemes that a section's ``scheme`` can name; with a name, all about it.

    Example: retort schemes mutual
    """
    import inspect

    from pipeline.schemes import SCHEMES
    from targets.errors import unknown

    if name is None:
        for name, entry in SCHEMES.items():
            print(f"{name:<14} {(inspect.getdoc(entry.make) or '').splitlines()[0]}")
        return
    if name not in SCHEMES:
        raise unknown("scheme", name, SCHEMES, "schemes")
    entry = SCHEMES[name]
    known = [p for p in inspect.signature(entry.make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    line = "".join(f", {p.name} = {p.default!r}" for p in known)
    print(f'scheme = {{ name = "{name}"{line} }}\n\n{inspect.getdoc(entry.make)}\n')
    for what, said in (
        ("source", entry.paper),
        ("when", entry.when),
        ("cost", entry.cost),
        ("teacher", entry.teachers),
        ("reads", ", ".join(sorted(entry.keys)) or "no key beyond how a network is trained"),
    ):
        print(f"{what:<9}{said}")


def networks() -> None:
    """The networks a recipe can name.

    Example: retort networks
    """
    from pipeline.models.catalogue import timm_names, torchvision_names
    from pipeline.models.cifar import NETWORKS

    print("for small images  ", " ".join(NETWORKS))
    print("torchvision       ", " ".join(torchvision_names()))
    timm = timm_names()
    print(
        "timm              ",
        f"{len(timm)} as timm/NAME" if timm else "not installed: pip install 'retort[timm]'",
    )
    print("your own          ", "module:factory, found beside the recipe")


def datasets() -> None:
    """The image sets a recipe can name.

    Example: retort datasets
    """
    import inspect

    from pipeline.data.catalogue import DATASETS

    for name, entry in DATASETS.items():
        line = (inspect.getdoc(entry.load) or "from torchvision").splitlines()[0]
        print(f"{name:<14} {entry.defaults.size} px  {line}")
    print("your own       folder = 'photos' (a folder a class), or factory = 'module:function'")


def budgets() -> None:
    """The budgets a recipe, a profile or --budget can set, each with its unit and meaning.

    Example: retort budgets
    """
    from targets.limits import BUDGETS

    for name, row in BUDGETS.items():
        print(f"{name:<22} {row.direction.replace('_', ' '):<9} {row.unit:<7} {row.meaning}")
