"""A graph analysed so that an edit of it can be analysed at the cost of the edit.

Relations are known forwards, from the inputs to every value, and backwards, from every value to the outputs. When a region is
replaced only the new piece is carried through; what follows is composed as a whole, by the few values that are needed after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import add
from typing import Any

from properties import PROPERTIES, Capacity, Inference, RelationalProperty
from synth.composition import (
    Relations,
    Step,
    alive,
    follow,
    forwards,
    identities,
    joined,
    steps_of,
    summaries_of,
    then,
    type_of,
)
from synth.graph import Graph, GraphError
from synth.op import PROBE_BATCH
from synth.region import Region

_NEW = object()
"""Sets the names of a piece's nodes apart from those of the graph."""


@dataclass(frozen=True, eq=False)
class Edits:
    """The properties of a graph, ready for edits: `Edits.of(graph).after(region, piece)`.

    For every node, and for the end: `needed` are the values that are needed from there on, with their relations to the outputs;
    `before` and `following` the capacity of the nodes before it, and from it on; `alive` the bytes that are alive before it.
    `places` numbers the nodes, and `unknown` lists those in which something is not understood.
    """

    graph: Graph
    asked: tuple[RelationalProperty, ...]
    summaries: Sequence[Inference]
    reached: Mapping[str, Relations]
    needed: Sequence[Mapping[str, Relations]]
    before: Sequence[Capacity]
    following: Sequence[Capacity]
    alive: Sequence[int]
    places: Mapping[str, int]
    unknown: Sequence[tuple[int, tuple[str, ...]]]

    @staticmethod
    def of(graph: Graph, asked: Sequence[RelationalProperty] = PROPERTIES) -> Edits:
        """Analyses a graph; this takes a few times as long as `infer`."""
        asked = tuple(asked)
        summaries = summaries_of(graph, asked)
        start = {item.name: identities(asked, item.value, k, len(graph.inputs)) for k, item in enumerate(graph.inputs)}
        held: dict[Any, int] = {item.name: type_of(item.value).bytes for item in graph.inputs}
        memory = alive(steps_of(graph, summaries), held, graph.outputs)
        costs = [replace(own.capacity, peak_bytes=peak) for own, (_, peak) in zip(summaries, memory, strict=True)]
        before = [Capacity(), *accumulate(costs, add)]
        following = [Capacity(), *accumulate(reversed(costs), add)][::-1]
        return Edits(
            graph, asked, summaries, forwards(graph, summaries, start), _needed(graph, asked, summaries), before, following,
            [now for now, _ in memory], {node.name: place for place, node in enumerate(graph.nodes)},
            [(place, own.unknown) for place, own in enumerate(summaries) if own.unknown],
        )  # fmt: skip

    def after(self, region: Region, piece: Graph) -> Inference:
        """The properties of the graph with a region replaced by a piece, which runs where the last of the region's nodes did.

        As `infer(splice(graph, region, piece))`; what follows is composed as a whole, which may bound the rank in another way.
        Raises GraphError unless the piece's ends have the types of the region's: else what follows changes too.
        """
        _check(region, piece)
        places = sorted(self.places[name] for name in region.names)
        first, end = places[0], places[-1] + 1
        beside = [place for place in range(first, end) if self.graph.nodes[place].name not in region.names]
        own = summaries_of(piece, self.asked)
        inside = forwards(
            piece, own, {item.name: self.reached[name] for item, name in zip(piece.inputs, region.inputs, strict=True)}
        )
        changed = {old: inside[name] for old, name in zip(region.outputs, piece.outputs, strict=True)}
        late = []
        for place in beside:
            node = self.graph.nodes[place]
            if not changed.keys().isdisjoint(node.inputs):
                late.append(place)
                changed[node.name] = follow(self.summaries[place], [changed.get(name, self.reached[name]) for name in node.inputs])
        span = [*own, *(self.summaries[place] for place in beside)]
        peak = self._peak(region, piece, steps_of(piece, own), (first, end), [place for place in beside if place not in late], late)
        middle = replace(Capacity.total([one.capacity for one in span]), peak_bytes=peak)
        return self._inference(end, changed, Capacity.total([self.before[first], middle, self.following[end]]), span, (first, end))

    def _inference(
        self, end: int, changed: Mapping[str, Relations], capacity: Capacity, span: Sequence[Inference], ends: tuple[int, int]
    ) -> Inference:
        inputs = [type_of(item.value) for item in self.graph.inputs]
        outputs = [type_of(self.graph.values[name]) for name in self.graph.outputs]
        crossing = [(changed.get(name, self.reached[name]), onward) for name, onward in self.needed[end].items()]
        tables = {
            each.name: {
                (i, o): joined([then(before[each.name][i], onward[each.name][o]) for before, onward in crossing])
                for i in range(len(inputs))
                for o in range(len(outputs))
            }
            for each in self.asked
        }
        unknown = {name for one in span for name in one.unknown}
        unknown.update(name for place, names in self.unknown if not ends[0] <= place < ends[1] for name in names)
        return Inference.of(inputs, outputs, tables, capacity.per_example(PROBE_BATCH), sorted(unknown))

    def _peak(
        self, region: Region, piece: Graph, steps: Sequence[Step], ends: tuple[int, int], early: list[int], late: list[int]
    ) -> int:
        """The most bytes alive from a region's first node to its last, with the piece in its place."""
        outer: dict[str, Any] = {item.name: name for item, name in zip(piece.inputs, region.inputs, strict=True)}
        names: dict[Any, Any] = {node.name: (_NEW, node.name) for node in piece.nodes} | outer
        made = {old: names[name] for old, name in zip(region.outputs, piece.outputs, strict=True)}

        def beside(place: int) -> Step:
            node = self.graph.nodes[place]
            reads = frozenset(made.get(name, name) for name in node.inputs)
            return Step(node.name, reads, self._bytes(node.name), self.summaries[place].capacity.peak_bytes)

        moved = [step._replace(makes=names[step.makes], reads=frozenset(names[name] for name in step.reads)) for step in steps]
        held: dict[Any, int] = {name: self._bytes(name) for name in self.needed[ends[0]]}
        kept = [made.get(name, name) for name in self.needed[ends[1]]]
        memory = alive([*map(beside, early), *moved, *map(beside, late)], held, kept)
        others = self.alive[ends[0]] - sum(held.values())  # inputs that nothing reads
        return others + max((peak for _, peak in memory), default=0)

    def _bytes(self, name: str) -> int:
        return type_of(self.graph.values[name]).bytes


def _needed(graph: Graph, asked: tuple[RelationalProperty, ...], summaries: Sequence[Inference]) -> list[dict[str, Relations]]:
    count = len(graph.outputs)
    now: dict[str, Relations] = {}
    for o, name in enumerate(graph.outputs):
        _join(now, name, identities(asked, graph.values[name], o, count))
    found = [now]
    for node, own in zip(reversed(graph.nodes), reversed(summaries), strict=True):
        now = dict(now)
        onward = now.pop(node.name, None)
        for position, name in enumerate(node.inputs):
            if onward is not None:
                steps = {each: rows[position][0] for each, rows in own.relations}
                _join(now, name, {each: tuple([then(steps[each], goal) for goal in goals]) for each, goals in onward.items()})
        found.append(now)
    return found[::-1]


def _join(table: dict[str, Relations], name: str, relations: Relations) -> None:
    there = table.get(name)
    table[name] = relations if there is None else {
        each: tuple([joined(pair) for pair in zip(there[each], row, strict=True)]) for each, row in relations.items()
    }  # fmt: skip


def _check(region: Region, piece: Graph) -> None:
    types = [[region.graph.values[name] for name in names] for names in (region.inputs, region.outputs)]
    own = [[piece.values[name] for name in names] for names in ([item.name for item in piece.inputs], piece.outputs)]
    for end, wanted, seen in zip(("inputs", "outputs"), types, own, strict=True):
        if wanted != seen:
            raise GraphError(
                f"the piece's {end} are {', '.join(map(str, seen))}; the region's are {', '.join(map(str, wanted))}: infer the "
                "properties of the spliced graph instead"
            )
