"""Which nodes of a graph run channels first, so that as few values as possible are transposed.

ONNX's convolutions and pools want the features behind the batch, its products and our inputs and outputs want them last, most ops
take either. A value is transposed once if its producer and any of its readers differ; the fewest such values are a minimum cut
between the nodes that are bound to one layout and those that are bound to the other.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import numpy as np

from synth.graph import Graph, Node

_BOUND = 1 << 20
"""More than any cut costs."""


class Demand(enum.Enum):
    """The layout that a node wants of its inputs and gives to its output."""

    FIRST = "features after the batch"
    LAST = "features last"
    EITHER = "either"


def has_layout(rank: int) -> bool:
    """Whether a value of this rank looks different in the two layouts."""
    return rank > 2


def channels_first(graph: Graph, demand: Callable[[Node], Demand]) -> frozenset[str]:
    """The names of the nodes that run channels first; the fewest values cross between these and the others."""
    if all(demand(node) is not Demand.FIRST for node in graph.nodes):
        return frozenset()
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    vertices = {node.name: index for index, node in enumerate(graph.nodes, start=2)}
    source, sink = 0, 1
    edges: dict[tuple[int, int], int] = {}
    for node in graph.nodes:
        wanted = demand(node)
        if wanted is Demand.LAST:
            edges[source, vertices[node.name]] = _BOUND
        if wanted is Demand.FIRST:
            edges[vertices[node.name], sink] = _BOUND
    following = len(vertices) + 2
    for name, ends in _touching(graph, vertices, source).items():
        if not has_layout(len(graph.values[name].shape)) or len(ends) < 2:
            continue
        # An edge of capacity one between two vertices that every end of the value is tied to: cut once however many ends differ.
        enter, leave = following, following + 1
        following += 2
        edges[enter, leave] = 1
        for end in ends:
            edges[end, enter] = edges[leave, end] = _BOUND
    rows, columns = np.array(list(edges), np.int32).T
    capacities = coo_array((np.array(list(edges.values()), np.int32), (rows, columns)), shape=(following, following)).tocsr()
    residual = capacities - maximum_flow(capacities, source, sink).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    # What can still reach the sink must lie on its side; all else stays as our graphs have it.
    near_sink = set(breadth_first_order(residual.T.tocsr(), sink, return_predecessors=False).tolist())
    return frozenset(name for name, vertex in vertices.items() if vertex in near_sink)


def _touching(graph: Graph, vertices: Mapping[str, int], source: int) -> dict[str, list[int]]:
    """For every value the vertices of its producer and readers; inputs and outputs of the graph are the source's."""
    ends: dict[str, list[int]] = {}
    for name in graph.values:
        found = [vertices.get(name, source), *(vertices[reader] for reader in graph.consumers[name])]
        ends[name] = list(dict.fromkeys([*found, source] if name in graph.outputs else found))
    return ends
