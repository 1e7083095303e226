"""Activation memory of a graph: the largest set of values that is alive at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from synth.graph import Graph
from synth.op import Value


def peak_bytes(graph: Graph) -> int:
    """The largest sum of bytes of the values that are alive at one node, one example, nodes run in the graph's order.

    A value lives from the node that makes it to the last node that reads it; outputs live to the end, and inputs from the start.
    What an op holds inside itself is not counted.
    """
    sizes = {name: bytes_of(value) for name, value in graph.values.items()}
    return max(sum(sizes[name] for name in names) for names in alive(graph))


def alive(graph: Graph) -> Iterator[tuple[str, ...]]:
    """The names of the values that are alive before the first node, and then at each node."""
    last = {item.name: -1 for item in graph.inputs}
    for index, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*node.inputs, node.name), index)
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    now = dict.fromkeys(item.name for item in graph.inputs)
    yield tuple(now)
    for index, node in enumerate(graph.nodes):
        now[node.name] = None
        yield tuple(now)
        for name in {*node.inputs, node.name}:
            if last[name] == index:
                del now[name]


def bytes_of(value: Value) -> int:
    """Bytes of one example of a value."""
    return math.prod(size or 1 for size in value.shape) * np.dtype(value.dtype).itemsize
