"""What the name of a network says without torch: whose catalogue it is of."""

from __future__ import annotations

TIMM = "timm/"


def catalogue_entries(network: str) -> frozenset[str]:
    """The catalogues that a name may be of: a user's factory is of none, a plain name ours or torchvision's."""
    if ":" in network:
        return frozenset()
    return frozenset({"timm"} if network.startswith(TIMM) else {network, "torchvision"})
