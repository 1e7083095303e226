"""What a graph costs, without running it: parameters, multiply-adds, and the memory that its activations need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from synth import Graph, effect
from synth.op import Value


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


def peak_bytes(graph: Graph) -> int:
    """The largest sum of bytes of the values that are alive at one node, one example, nodes run in the graph's order.

    A value lives from the node that makes it to the last node that reads it; outputs live to the end, and inputs from the start.
    """
    last = {item.name: -1 for item in graph.inputs}
    for index, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*node.inputs, node.name), index)
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    alive = sum(_bytes(graph.values[item.name]) for item in graph.inputs)
    largest = alive
    for index, node in enumerate(graph.nodes):
        alive += _bytes(graph.values[node.name])
        largest = max(largest, alive)
        alive -= sum(_bytes(graph.values[name]) for name in {*node.inputs, node.name} if last[name] == index)
    return largest


def _bytes(value: Value) -> int:
    return math.prod(size or 1 for size in value.shape) * np.dtype(value.dtype).itemsize
