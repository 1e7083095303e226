"""What a graph costs, without running it: parameters, multiply-adds, and the memory that its activations need."""

from __future__ import annotations

from dataclasses import dataclass

from synth import Graph, effect
from synth.memory import peak_bytes


@dataclass(frozen=True)
class Cost:
    """Trained parameters; and, for one example, multiply-adds (MACs) and bytes of the largest set of activations alive at once."""

    params: int
    macs: int
    peak_bytes: int


def cost(graph: Graph) -> Cost:
    """The cost of a graph, in its own order of execution; node costs are remembered by op and input types."""
    macs = sum(effect.macs(node.op, graph.input_values(node)) for node in graph.nodes)
    return Cost(graph.params, macs, peak_bytes(graph))
