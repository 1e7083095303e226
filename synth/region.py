"""Regions: connected, convex pieces of a graph that can be cut out and replaced as a whole."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from synth.graph import Graph, GraphError, Input, Node, retied
from synth.reach import Reach, union


@dataclass(frozen=True)
class Region:
    """Some nodes of a graph, by name. Raises GraphError for unknown nodes or a region that is not convex.

    Convex: no path leaves the region and comes back, so one replacement can compute everything that comes out from
    everything that goes in.
    """

    graph: Graph
    names: frozenset[str]

    def __post_init__(self) -> None:
        unknown = self.names - set(self.graph.by_name)
        if unknown or not self.names:
            raise GraphError(f"a region wants nodes of its graph; {', '.join(sorted(unknown)) or 'it is empty'}")
        reach = self.graph.reach
        between = union(reach.before[name] for name in self.names) & union(reach.after[name] for name in self.names)
        if between != reach.bits(self.names):
            way = self._detour()
            middle = ", ".join(way[1:-1])
            raise GraphError(
                f"the region is not convex: the path {' → '.join(way)} leaves it and comes back; "
                f"take in {middle}, or leave out {way[0]} or {way[-1]}"
            )

    def _detour(self) -> tuple[str, ...]:
        """A shortest path that leaves the region and comes back to it."""
        shortest: dict[str, tuple[str, ...]] = {}
        found: list[tuple[str, ...]] = []
        for node in self.graph.nodes:
            outside = [shortest[name] for name in node.inputs if name in shortest]
            if node.name in self.names:
                found += [(*path, node.name) for path in outside]
                continue
            ways = [*outside, *((name,) for name in node.inputs if name in self.names)]
            if ways:
                shortest[node.name] = (*min(ways, key=len), node.name)
        return min(found, key=len)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The region's nodes, in the graph's order."""
        return tuple(node for node in self.graph.nodes if node.name in self.names)

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """The values that the region reads from outside."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.inputs if name not in self.names))

    @functools.cached_property
    def outputs(self) -> tuple[str, ...]:
        """The values that the rest of the graph, or its caller, reads from the region."""
        return tuple(
            node.name
            for node in self.nodes
            if node.name in self.graph.outputs or not self.names.issuperset(self.graph.consumers[node.name])
        )

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """For every output of the region who reads it: nodes outside by name, and the graph's caller."""
        found = {}
        for name in self.outputs:
            outside = [reader for reader in self.graph.consumers[name] if reader not in self.names]
            found[name] = (*outside, *(("the caller",) if name in self.graph.outputs else ()))
        return found

    def ends(self) -> str:
        """The region's inputs and outputs in words, each output with its readers."""
        outputs = ", ".join(f"{name} (read by {', '.join(readers)})" for name, readers in self.readers.items())
        return (
            f"{_counted(self.inputs, 'input')}: {', '.join(self.inputs)}; {_counted(self.outputs, 'output')}: {outputs or 'none'}"
        )

    def subgraph(self) -> Graph:
        """The region as a graph of its own; its inputs keep the names of the values they stand for."""
        values = self.graph.values
        inputs = tuple(Input(name, values[name].shape, values[name].dtype) for name in self.inputs)
        return Graph(inputs, retied(self.nodes), self.outputs)

    @functools.cached_property
    def cut_ties(self) -> tuple[str, ...]:
        """The nodes outside of it that share arrays with nodes inside: such a region cannot be replaced."""
        if not self.graph.has_ties:
            return ()
        inside = {tie.owner for node in self.nodes for tie in node.ties} - self.names
        outside = {node.name for node in self.graph.nodes if not self.names.isdisjoint(tie.owner for tie in node.ties)} - self.names
        return tuple(name for name in self.graph.by_name if name in inside | outside)

    def __str__(self) -> str:
        nodes = self.nodes
        return nodes[0].name if len(nodes) == 1 else f"{nodes[0].name}..{nodes[-1].name}"


def span(graph: Graph, first: str, last: str) -> Region:
    """The region of all nodes on paths from node `first` to node `last`, both included; GraphError if there is none."""
    missing = [name for name in (first, last) if name not in graph.by_name]
    if missing:
        raise GraphError(f"no node is called {', '.join(missing)}; the nodes are {', '.join(graph.by_name)}")
    after = {first}
    for node in graph.nodes:
        if not after.isdisjoint(node.inputs):
            after.add(node.name)
    before = {last}
    for node in reversed(graph.nodes):
        if node.name in before:
            before.update(node.inputs)
    names = (after & before & set(graph.by_name)) if last in after else set()
    if not names:
        raise GraphError(f"no path leads from {first!r} to {last!r}")
    return Region(graph, frozenset(names))


def regions(graph: Graph, *, largest: int, inputs: int = 1, outputs: int = 1) -> Iterator[Region]:
    """Every region of up to `largest` nodes on the paths between two nodes that cuts no tie.

    It has at least one and at most so many inputs and outputs; the last node is among the outputs.
    """
    reach, nodes = graph.reach, graph.nodes
    kept = reach.bits(graph.outputs)
    for first, node in enumerate(nodes):
        for last in range(first, len(nodes)):
            between = reach.before[nodes[last].name] & reach.after[node.name]
            if not 0 < between.bit_count() <= largest:
                continue
            inside = [each for each in nodes[first : last + 1] if between >> reach.place[each.name] & 1]
            if _has_ends(reach, inside, between, kept, inputs, outputs):
                region = Region(graph, frozenset(each.name for each in inside))
                if not region.cut_ties:
                    yield region


def _has_ends(reach: Reach, nodes: Sequence[Node], bits: int, kept: int, inputs: int, outputs: int) -> bool:
    """Whether nodes read at least one and at most so many values from outside, and at most so many of them are read there.

    The last one must be. `bits` are theirs, `kept` those of what the graph gives out.
    """
    read, made = 0, 0
    for node in nodes:
        own = 1 << reach.place[node.name]
        read |= reach.reads[node.name]
        made |= own if own & kept or reach.readers[node.name] & ~bits else 0
    return (
        0 < (read & ~bits).bit_count() <= inputs and made.bit_count() <= outputs and bool(made >> reach.place[nodes[-1].name] & 1)
    )


def _counted(names: Sequence[object], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) != 1)}"


def splice(graph: Graph, region: Region, replacement: Graph) -> Graph:
    """The graph with a region replaced: the replacement's inputs and outputs stand for the region's, in order.

    New nodes get names that are free in the graph; kept nodes keep theirs, and the shapes after the region follow from the
    replacement. Raises GraphError if the numbers of inputs or outputs differ or the region shares arrays with nodes outside of it,
    ShapeMismatch if what comes after does not fit.
    """
    if region.cut_ties:
        raise GraphError(f"the region shares weights with {', '.join(region.cut_ties)}; take all of them or none")
    if len(replacement.inputs) != len(region.inputs) or len(replacement.outputs) != len(region.outputs):
        raise GraphError(
            f"the region has {region.ends()}; its replacement has {_counted(replacement.inputs, 'input')} and "
            f"{_counted(replacement.outputs, 'output')}"
        )
    taken = set(graph.values) - region.names
    names = {item.name: outer for item, outer in zip(replacement.inputs, region.inputs, strict=True)}
    for node in replacement.nodes:
        names[node.name] = _free(node.name, taken)
        taken.add(names[node.name])
    fresh = [node.renamed(names) for node in replacement.nodes]
    moved = {old: names[new] for old, new in zip(region.outputs, replacement.outputs, strict=True)}
    kept = [node for node in graph.nodes if node.name not in region.names]
    rewired = [replace(node, inputs=tuple(moved.get(name, name) for name in node.inputs)) for node in kept]
    nodes = _sorted([*rewired, *fresh], {item.name for item in graph.inputs})
    return Graph(graph.inputs, nodes, tuple(moved.get(name, name) for name in graph.outputs)).pruned()


def _free(name: str, taken: set[str]) -> str:
    stem = name.rstrip("0123456789") or name
    candidates = (name, *(f"{stem}{index}" for index in range(len(taken) + 1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _sorted(nodes: list[Node], known: set[str]) -> tuple[Node, ...]:
    done, ordered, waiting = set(known), [], nodes
    while waiting:
        ready = [node for node in waiting if done.issuperset(node.inputs)]
        if not ready:
            raise GraphError(f"the nodes {', '.join(node.name for node in waiting)} read each other in a circle")
        node = ready[0]
        ordered.append(node)
        done.add(node.name)
        waiting = [other for other in waiting if other is not node]
    return tuple(ordered)
