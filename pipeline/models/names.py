"""What the name of a network says without torch: whose catalogue it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIMM = "timm/"


def catalogue_entries(network: str) -> frozenset[str]:
    """The catalogues that a name may be of: a user's factory is of none, a plain name ours or torchvision's."""
    if ":" in network:
        return frozenset()
    return frozenset({"timm"} if network.startswith(TIMM) else {network, "torchvision"})


def brought(network: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which weights of torchvision's or timm's a recipe's arguments ask for, if they do."""
    if ":" in network or not (arguments.get("weights") or arguments.get("pretrained")):
        return None
    return {"network": network, "weights": arguments.get("weights")}
