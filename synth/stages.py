"""The coarse structure of a graph: where all of it passes through one value, its stages, and the blocks that could be left out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from synth.analysis import infer
from synth.graph import Graph, Node, retied
from synth.memory import alive
from synth.op import PROBE_BATCH
from synth.region import Region
from synth.tables import RANK
from synth.ties import Ties


def cuts(graph: Graph) -> tuple[str, ...]:
    """The values that everything passes through, from the input to the output; none for several inputs or outputs."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return ()
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    found = [graph.inputs[0].name]
    for index, (node, names) in enumerate(zip(graph.nodes, list(alive(graph))[1:], strict=True)):
        if all(name == node.name or last.get(name, -1) <= index for name in names):
            found.append(node.name)
    return tuple(found)


@dataclass(frozen=True)
class Stage:
    """What lies between two values, and the rank bound from the one to the other (for one example)."""

    source: str
    target: str
    nodes: tuple[Node, ...]
    rank: int

    def __str__(self) -> str:
        return f"{self.nodes[0].name}..{self.nodes[-1].name}"


def stages(graph: Graph) -> tuple[Stage, ...]:
    """The runs of a graph at one spatial shape, each from where the run before it ends; all of it where there are no such runs."""
    points = cuts(graph)
    if not points:
        return tuple(Stage(item.name, name, graph.nodes, rank(graph, i, o)) for i, item in enumerate(graph.inputs)
                     for o, name in enumerate(graph.outputs))  # fmt: skip
    ends = [
        here
        for here, after in zip(points[1:], (*points[2:], None), strict=True)
        if after is None or graph.values[here].shape[1:-1] != graph.values[after].shape[1:-1]
    ]
    return tuple(_stage(graph, source, target) for source, target in zip((points[0], *ends), ends, strict=False))


def _stage(graph: Graph, source: str, target: str) -> Stage:
    return Stage(source, target, between(graph, source, target), rank_between(graph, source, target))


def rank_between(graph: Graph, source: str, target: str) -> int:
    """The rank bound from one cut to another, or from an input to an output, for one example."""
    inputs = [item.name for item in graph.inputs]
    if source in inputs and target in graph.outputs:
        return rank(graph, inputs.index(source), graph.outputs.index(target))
    nodes = between(graph, source, target)
    if not nodes:
        return positions(graph.values[source].shape) * graph.values[source].channels
    return rank(Region(graph, frozenset(node.name for node in nodes)).subgraph(), 0, 0)


def rank(graph: Graph, input: int, output: int) -> int:
    """The rank bound from an input to an output, for one example."""
    relation = infer(graph, RANK).relation("rank", input, output)
    return 0 if relation is None else relation.bound // PROBE_BATCH


def between(graph: Graph, source: str, target: str) -> tuple[Node, ...]:
    """The nodes after one cut up to another."""
    place = {node.name: index for index, node in enumerate(graph.nodes)}
    return graph.nodes[place.get(source, -1) + 1 : place.get(target, -1) + 1]


def narrowest(stage: Stage, elements: Callable[[str], float]) -> float:
    """The rank bound of a stage from the numbers of elements of its values alone: paths have minima, joins have sums."""
    reach = {stage.source: elements(stage.source)}
    for node in stage.nodes:
        arriving = [reach[name] for name in dict.fromkeys(node.inputs) if name in reach]
        if arriving:
            reach[node.name] = min(sum(arriving), elements(node.name), reach[stage.source])
    return reach.get(stage.target, 0.0)


@dataclass(frozen=True)
class Block:
    """A residual block that could be left out: its nodes, the value that it reads, and the one of the same type that it makes."""

    source: str
    target: str
    names: frozenset[str]


def residual_blocks(graph: Graph, tied: Ties) -> tuple[Block, ...]:
    """The pieces that add something to a value, or scale it, and are followed by what that value came from (an activation).

    None that shares weights with another node.
    """
    points = cuts(graph)
    sharing = {name for node in graph.nodes for tie in node.ties for name in (node.name, tie.owner)}
    found: list[Block] = []
    for index, (source, merged) in enumerate(itertools.pairwise(points)):
        node = graph.by_name[merged]
        same = tied.channels[source] == tied.channels[merged] and graph.values[source] == graph.values[merged]
        if node.op.arity is not None or source not in node.inputs or not same:
            continue
        target = merged
        after = graph.by_name.get(points[index + 2]) if index + 2 < len(points) else None
        before = graph.by_name.get(source)
        if after is not None and before is not None and after.op == before.op and after.inputs == (merged,):
            plain = graph.values[after.name] == graph.values[source] and not after.op.weights(*graph.input_values(after))
            target = after.name if plain else target
        names = frozenset(node.name for node in between(graph, source, target))
        if names.isdisjoint(sharing) and (not found or found[-1].names.isdisjoint(names)):
            found.append(Block(source, target, names))
    return tuple(found)


def without(graph: Graph, blocks: Sequence[Block]) -> Graph:
    """The graph with blocks left out."""
    instead = stand_ins(blocks)
    gone = frozenset().union(*(block.names for block in blocks))
    kept = [node for node in graph.nodes if node.name not in gone]
    nodes = retied([replace(node, inputs=tuple(_last(instead, name) for name in node.inputs)) for node in kept])
    return Graph(graph.inputs, nodes, tuple(_last(instead, name) for name in graph.outputs)).pruned()


def stand_ins(blocks: Sequence[Block]) -> dict[str, str]:
    """What takes the place of each value that is no more once blocks are left out."""
    instead: dict[str, str] = {}
    for block in blocks:
        instead[block.target] = instead.get(block.source, block.source)
    return instead


def _last(instead: Mapping[str, str], name: str) -> str:
    while name in instead:
        name = instead[name]
    return name


def memory_steps(graph: Graph) -> Iterator[tuple[str, ...]]:
    """The sets of values that are alive at once, without those that lie within another."""
    steps = sorted({frozenset(names) for names in alive(graph)}, key=len, reverse=True)
    kept: list[frozenset[str]] = []
    for step in steps:
        if not any(step < other for other in kept):
            kept.append(step)
            yield tuple(sorted(step))


def positions(shape: Sequence[int | None]) -> int:
    """Elements of one example for each channel."""
    return math.prod(size for size in shape[1:-1] if size is not None)
