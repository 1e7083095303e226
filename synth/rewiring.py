"""Other wires between the same ops: an operand of a merge attached to another value, or a new merge of two values.

Values are of the same type or broadcast to it: what fits is asked of the merge, and the result keeps its type, so that all that
follows fits as before. What nothing reads any more is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.graph import Graph, Node
from synth.op import Op, ShapeMismatch, output_value
from synth.ops import OPS, Vocabulary


@dataclass(frozen=True)
class Rewiring:
    """A graph with one wire changed: at which node, what it read there before (nothing if the node is new), and what it reads."""

    graph: Graph
    node: str
    before: str
    after: str


def reattached(graph: Graph, node: Node) -> Iterator[Rewiring]:
    """Every way to attach one operand of a node of several inputs to another value made before it."""
    earlier = _before(graph, node.name)
    for place, old in enumerate(node.inputs):
        for new in earlier:
            inputs = (*node.inputs[:place], new, *node.inputs[place + 1 :])
            if new == old or len(set(inputs)) == 1 or not _keeps(graph, node.op, inputs, node.name):
                continue
            nodes = tuple(replace(each, inputs=inputs) if each is node else each for each in graph.nodes)
            yield Rewiring(replace(graph, nodes=nodes).pruned(), node.name, old, new)


def joined(graph: Graph, node: Node, vocabulary: Vocabulary = OPS) -> Iterator[Rewiring]:
    """Every way to merge a node's result with a value made before it, so that all readers see the merged one."""
    merges = [kind() for kind in vocabulary.values() if kind.arity is None and kind.taste > 0]
    number = next(index for index in range(len(graph.values) + 1) if f"join{index}" not in graph.values)
    for new in _before(graph, node.name):
        for merge in merges:
            made = Node(f"join{number}", merge, (node.name, new))
            if _keeps(graph, merge, made.inputs, node.name):
                yield Rewiring(_inserted(graph, node, made), made.name, "", new)


def rewired(graph: Graph, rng: np.random.Generator, vocabulary: Vocabulary = OPS) -> Rewiring | None:
    """A random one: of a merge that the graph has, or of a new one; None if there is none of either."""
    merges = [node for node in graph.nodes if len(node.inputs) > 1]
    kinds: Sequence[tuple[bool, Sequence[Node]]] = ((False, merges), (True, graph.nodes))
    for new, nodes in kinds if rng.random() < 0.5 else kinds[::-1]:
        for index in rng.permutation(len(nodes)):
            node = nodes[int(index)]
            found = list(joined(graph, node, vocabulary) if new else reattached(graph, node))
            if found:
                return found[int(rng.integers(len(found)))]
    return None


def _before(graph: Graph, name: str) -> list[str]:
    names = list(graph.values)
    return names[: names.index(name)]


def _keeps(graph: Graph, op: Op, inputs: tuple[str, ...], name: str) -> bool:
    try:
        return output_value(op, tuple(graph.values[each] for each in inputs)) == graph.values[name]
    except ShapeMismatch:
        return False


def _inserted(graph: Graph, node: Node, made: Node) -> Graph:
    """The graph with a node right after another one, read by all that read that one."""
    place = graph.nodes.index(node) + 1

    def moved(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(made.name if name == node.name else name for name in names)

    after = tuple(replace(each, inputs=moved(each.inputs)) for each in graph.nodes[place:])
    return replace(graph, nodes=(*graph.nodes[:place], made, *after), outputs=moved(graph.outputs))
