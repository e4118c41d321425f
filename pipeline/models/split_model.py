"""A network that can be asked in parts, so that a method can feed it another network's features."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from pipeline.models.feature_levels import answer_of
from pipeline.models.tapped_model import Model, Outputs, as_map, outputs
from targets.errors import Refusal, first_line

# Precompiled headers lie among the temporary files, which go with a run: the next one would compile all again.
CONSTANT: dict[str, Any] = {
    "dynamic": False,
    "options": {"freezing": True, "cpp_cache_precompile_headers": False},
}


class Parts:
    """A ``Model``, or the graph that was captured of one (``like``), whole or from cut to cut.

    A cut is made when it is first asked for; it shares the network's parameters and buffers. Raises Refusal
    where a path runs beside it.
    """

    def __init__(self, network: nn.Module, like: Model, who: str) -> None:
        self.network, self.like, self.who = network, like, who
        self.cuts: dict[int, fx.GraphModule] = {}
        self.compiled = False

    def __call__(self, images: Tensor) -> Outputs:
        """What it says of images (N, 3, H, W) in 0..1."""
        return outputs(self.network(images))

    def compile(self) -> None:
        """Whole and in stages, with the parameters as constants."""
        self.compiled, self.cuts = True, {}
        self.network.compile(**CONSTANT)

    def stage(self, index: int, x: Tensor) -> Tensor:
        """What lies between tap index − 1 and tap index, fed with x; the image in 0..1 lies before tap 0."""
        if index not in self.cuts:
            taps = self.like.taps[max(0, index - 1) : index + 1]
            where = f"{self.who}: cannot be cut into stages at {', '.join(taps)}"
            self.cuts[index] = self.traced(taps, where) if self.plain else self.captured(index, where)
            if self.compiled:
                self.cuts[index].compile(**CONSTANT)
        if index == 0 and self.plain:
            x = (x - self.like.mean) / self.like.std
        # A copy, because what comes first in a stage may overwrite its input in place.
        found: Tensor = self.cuts[index](x.clone())
        if as_map(found) is not found:
            raise Refusal(
                f"{self.who}: this method feeds features to stages, which works with maps, not with tokens"
            )
        return found

    def head(self, pooled: Tensor) -> Tensor:
        """The answer (N, C) of its classifier to pooled features (N, D)."""
        if not self.like.exact:
            raise Refusal(
                f"{self.who}: this method needs logits that are the answer of one linear layer to pooled features"
            )
        if self.plain:
            return answer_of(self.like.network.get_submodule(self.like.head), pooled)
        if -1 not in self.cuts:
            logits, entry = ends(self.graph)[:2]
            self.cuts[-1] = between(
                self.graph, entry, logits, f"{self.who}: its classifier cannot be cut out"
            )
        return self.cuts[-1](pooled)  # type: ignore[no-any-return]

    @property
    def plain(self) -> bool:
        return self.network is self.like

    @property
    def graph(self) -> fx.GraphModule:
        assert isinstance(self.network, fx.GraphModule), "a network is a Model, or captured of one"
        return self.network

    def traced(self, taps: tuple[str, ...], where: str) -> fx.GraphModule:
        was_training = self.network.training
        try:
            part = create_feature_extractor(self.like.network.eval(), list(taps))
        except (ValueError, RuntimeError, TypeError) as error:
            raise Refusal(f"{where}: {first_line(error)}") from None
        finally:
            self.network.train(was_training)
        (end,) = (node for node in part.graph.nodes if node.op == "output")
        named = dict(end.args[0])
        return between(part, named[taps[0]] if len(taps) > 1 else None, named[taps[-1]], where)

    def captured(self, index: int, where: str) -> fx.GraphModule:
        stages = ends(self.graph)[2:]
        return between(self.graph, stages[index - 1] if index else None, stages[index], where)


def ends(network: fx.GraphModule) -> list[fx.Node]:
    """The outputs of a captured graph; of a tap what the next layer reads, and not its copy."""
    (end,) = (node for node in network.graph.nodes if node.op == "output")
    return [node.args[0] if "clone" in str(node.target) else node for node in end.args[0]]


def between(network: fx.GraphModule, entry: fx.Node | None, exit_: fx.Node, where: str) -> fx.GraphModule:
    """The part of a graph from one node (None: from its input) to another, as a graph of one input."""
    places: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    graph.graph_copy(network.graph, places)
    image = next(node for node in graph.nodes if node.op == "placeholder")
    graph.output(places[exit_])
    if entry is not None:
        with graph.inserting_after(image):
            fed = graph.placeholder("entry")
        places[entry].replace_all_uses_with(fed)
    # The batch-norms before the cut count as impure, but nothing reads them any more.
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    if entry is not None:
        if image.users:
            raise Refusal(
                f"{where}: the part after the cut also reads what lies before it; choose other taps"
            )
        graph.erase_node(image)
    return fx.GraphModule(network, graph)
